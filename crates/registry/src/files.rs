//! Files that are whole or not there.
//!
//! The order is the point: the bytes reach the disk before the name does, and the name reaches it before anyone is told. A
//! crash between two steps leaves the old file, and at most a temporary one that the next start removes.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use base::{Error, Kind};

/// No digest and no name of ours begins like this.
const TEMPORARY_PREFIX: &str = ".new-";

/// What [`replace`] does, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Write,
    SyncFile,
    Rename,
    SyncFolder,
}

/// Puts `bytes` at `folder/name` with permissions `mode`, durably. `before` is asked before each step and can make it fail:
/// a seam for tests.
pub(crate) fn replace(
    folder: &Path,
    name: &str,
    mode: u32,
    bytes: &[u8],
    mut before: impl FnMut(Step) -> io::Result<()>,
) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!("{TEMPORARY_PREFIX}{}-{count}", std::process::id()));
    let mut write = || {
        before(Step::Create)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        before(Step::Write)?;
        file.write_all(bytes)?;
        before(Step::SyncFile)?;
        file.sync_all()?;
        before(Step::Rename)?;
        fs::rename(&temporary, folder.join(name))
    };
    if let Err(error) = write() {
        // A full disk should not stay full because of us; if this fails too, the next start removes it.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    before(Step::SyncFolder)?;
    sync_folder(folder)
}

/// Makes names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Creates a folder that only we may enter, or takes that from everybody else.
pub(crate) fn private_folder(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
    }
    if fs::metadata(folder)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Takes a folder for this process until the value is dropped, and removes what a crash left there. The kernel gives the
/// folder back when the process ends, however it ends.
pub(crate) fn own_folder(folder: &Path) -> Result<File, Error> {
    let failed =
        |error: io::Error| Error::new(Kind::Internal, format!("the data directory {} cannot be used: {error}", folder.display()));
    let lock = File::open(folder).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let text = format!("the data directory {} is in use by another process", folder.display());
            return Err(Error::new(Kind::Internal, text));
        }
        Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            tracing::debug!(file = %entry.path().display(), "removing what an unfinished write left");
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(lock)
}

/// For tests: [`replace`] with a step that fails.
#[cfg(test)]
pub(crate) fn fail_before(step: Step) -> impl FnMut(Step) -> io::Result<()> {
    move |next| if next == step { Err(io::Error::other("made to fail")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 5] = [Step::Create, Step::Write, Step::SyncFile, Step::Rename, Step::SyncFolder];

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_steps_are_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut steps = Vec::new();
        let mut named = Vec::new();
        replace(folder.path(), "a", 0o400, b"x", |step| {
            steps.push(step);
            named.push(folder.path().join("a").exists());
            Ok(())
        })
        .expect("written");
        assert_eq!(steps, STEPS);
        assert_eq!(named, [false, false, false, false, true], "the name appears only after the bytes are on disk");
    }

    #[test]
    fn whatever_step_fails_the_file_is_old_or_new() {
        for step in STEPS {
            let folder = tempfile::tempdir().expect("a folder");
            replace(folder.path(), "a", 0o400, b"old", |_| Ok(())).expect("written");
            replace(folder.path(), "a", 0o400, b"new", fail_before(step)).expect_err("made to fail");
            let expected: &[u8] = if step == Step::SyncFolder { b"new" } else { b"old" };
            assert_eq!(fs::read(folder.path().join("a")).expect("a file"), expected, "{step:?}");
            assert_eq!(names(folder.path()), ["a"], "{step:?}");
        }
    }

    #[test]
    fn a_real_failure_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("a")).expect("a folder in the way");
        replace(folder.path(), "a", 0o400, b"x", |_| Ok(())).expect_err("a folder is in the way");
        assert_eq!(names(folder.path()), ["a"]);
        replace(&folder.path().join("none"), "a", 0o400, b"x", |_| Ok(())).expect_err("no folder");
    }

    #[test]
    fn a_folder_has_one_owner_and_is_swept() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(".new-1-0"), b"half").expect("a file");
        fs::write(folder.path().join("kept"), b"whole").expect("a file");
        let owner = own_folder(folder.path()).expect("free");
        assert_eq!(names(folder.path()), ["kept"]);
        let error = own_folder(folder.path()).expect_err("taken").to_string();
        assert_eq!(error, format!("the data directory {} is in use by another process", folder.path().display()));
        drop(owner);
        own_folder(folder.path()).expect("free again");
    }

    #[test]
    fn folders_are_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
        let (new, open) = (folder.path().join("a/b"), folder.path().join("open"));
        private_folder(&new).expect("created");
        fs::create_dir(&open).expect("created");
        fs::set_permissions(&open, Permissions::from_mode(0o755)).expect("opened");
        private_folder(&open).expect("closed");
        assert_eq!((mode(&new), mode(&folder.path().join("a")), mode(&open)), (0o700, 0o700, 0o700));
        fs::write(folder.path().join("file"), b"").expect("a file");
        private_folder(&folder.path().join("file")).expect_err("a file is in the way");
    }
}
