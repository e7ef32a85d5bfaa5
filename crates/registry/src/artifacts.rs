//! Artifacts on disk: bytes under the name of their digest.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use base::{Digest, Error, Kind};

use crate::files::{self, Step};

/// Artifacts in `<data>/artifacts/`, one file each, 0400 in a folder of 0700. Every call blocks on the disk.
#[derive(Debug)]
pub struct ArtifactStore {
    folder: PathBuf,
    /// A name may be there that is not durable.
    is_doubtful: AtomicBool,
    _owned: File,
}

impl ArtifactStore {
    /// Opens the store in a data directory, creating both.
    ///
    /// # Errors
    ///
    /// [`Kind::Internal`], with the path in the external text, if the directory cannot be used or another process uses it.
    pub fn open(data: &Path) -> Result<Self, Error> {
        let folder = data.join("artifacts");
        files::private_folder(&folder).map_err(|error| {
            Error::new(Kind::Internal, format!("the data directory {} cannot be used: {error}", folder.display()))
        })?;
        let owned = files::own_folder(&folder)?;
        // Whoever wrote what is there may have been killed before its name was durable.
        files::sync_folder(&folder).map_err(|error| {
            Error::new(Kind::Internal, format!("the data directory {} cannot be used: {error}", folder.display()))
        })?;
        Ok(Self { folder, is_doubtful: AtomicBool::new(false), _owned: owned })
    }

    /// Keeps `bytes`, whose digest this is. When this returns, a power cut does not lose them. Bytes that are there are not written again, unless
    /// the file was damaged.
    ///
    /// # Errors
    ///
    /// [`Kind::Internal`] if the disk refuses; nothing is left behind then.
    pub fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        self.put_with(digest, bytes, |_| Ok(()))
    }

    fn put_with(&self, digest: &Digest, bytes: &[u8], before: impl FnMut(Step) -> io::Result<()>) -> Result<(), Error> {
        let is_there = fs::read(self.path(digest)).is_ok_and(|there| there == bytes);
        if is_there && !self.is_doubtful.load(Relaxed) {
            return Ok(());
        }
        let stored = match is_there {
            true => files::sync_folder(&self.folder),
            false => files::replace(&self.folder, &digest.to_string(), 0o400, bytes, before),
        };
        if stored.is_err() {
            self.is_doubtful.store(true, Relaxed);
        }
        stored.map_err(|error| self.failed("the artifact cannot be stored", digest).caused_by(error))
    }

    /// The file of an artifact. Whether it is there is not asked.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    /// The bytes, checked against their digest.
    ///
    /// # Errors
    ///
    /// [`Kind::Internal`] if they are not there or damaged.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let bytes = fs::read(self.path(digest)).map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let what = if missing { "the artifact is not in the store" } else { "the artifact cannot be read" };
            self.failed(what, digest).caused_by(error)
        })?;
        if Digest::of(&bytes) == *digest { Ok(bytes) } else { Err(self.failed("the stored artifact is damaged", digest)) }
    }

    /// The bytes whose digest is written so, if they are there and whole.
    pub fn find(&self, digest: &str) -> Option<Vec<u8>> {
        // A name of ours leads nowhere else.
        let is_name = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bytes = is_name.then(|| fs::read(self.folder.join(digest)).ok())??;
        (Digest::of(&bytes).to_string() == digest).then_some(bytes)
    }

    fn failed(&self, what: &'static str, digest: &Digest) -> Error {
        Error::new(Kind::Internal, what).internal(self.path(digest).display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn put(store: &ArtifactStore, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        store.put(&digest, bytes).expect("stored");
        digest
    }

    #[test]
    fn bytes_are_found_by_their_written_digest_and_nothing_else_is() {
        let data = tempfile::tempdir().expect("a folder");
        let store = ArtifactStore::open(data.path()).expect("a store");
        let digest = Digest::of(b"bytes");
        assert_eq!(store.find(&digest.to_string()), None);
        store.put(&digest, b"bytes").expect("stored");
        assert_eq!(store.find(&digest.to_string()).as_deref(), Some(&b"bytes"[..]));
        assert_eq!(store.find(&format!("../artifacts/{digest}")), None);
        fs::remove_file(store.path(&digest)).and_then(|()| fs::write(store.path(&digest), b"bits")).expect("damaged");
        assert_eq!(store.find(&digest.to_string()), None);
    }

    #[test]
    fn bytes_come_back_also_after_a_restart() {
        let data = tempfile::tempdir().expect("a folder");
        let store = ArtifactStore::open(data.path()).expect("opened");
        let digest = put(&store, b"abc");
        assert_eq!(put(&store, b"abc"), digest);
        assert_eq!(store.path(&digest), data.path().join("artifacts").join(digest.to_string()));
        let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
        assert_eq!((mode(&store.path(&digest)), mode(&data.path().join("artifacts"))), (0o400, 0o700));
        drop(store);
        let store = ArtifactStore::open(data.path()).expect("opened again");
        assert_eq!(store.read(&digest).expect("kept"), b"abc");
    }

    #[test]
    fn damage_is_found_and_mended() {
        let data = tempfile::tempdir().expect("a folder");
        let store = ArtifactStore::open(data.path()).expect("opened");
        let digest = put(&store, b"abc");
        fs::remove_file(store.path(&digest)).expect("removed");
        assert_eq!(store.read(&digest).expect_err("gone").to_string(), "the artifact is not in the store");
        fs::write(store.path(&digest), b"abd").expect("damaged");
        let error = store.read(&digest).expect_err("damaged");
        assert_eq!((error.to_string().as_str(), error.kind), ("the stored artifact is damaged", Kind::Internal));
        put(&store, b"abc");
        assert_eq!(store.read(&digest).expect("mended"), b"abc");
    }

    #[test]
    fn a_failed_write_is_an_error_and_the_next_one_works() {
        let data = tempfile::tempdir().expect("a folder");
        let store = ArtifactStore::open(data.path()).expect("opened");
        for step in [Step::Create, Step::Write, Step::SyncFile, Step::Rename, Step::SyncFolder] {
            let bytes = format!("{step:?}").into_bytes();
            let digest = Digest::of(&bytes);
            let error = store.put_with(&digest, &bytes, files::fail_before(step)).expect_err("made to fail");
            assert_eq!(error.to_string(), "the artifact cannot be stored");
            assert!(error.detail().ends_with(": made to fail"), "{}", error.detail());
            assert_eq!(store.read(&put(&store, &bytes)).expect("kept"), bytes);
        }
    }

    #[test]
    fn a_data_directory_that_cannot_be_is_named() {
        let data = tempfile::tempdir().expect("a folder");
        let file = data.path().join("file");
        fs::write(&file, b"").expect("a file");
        let error = ArtifactStore::open(&file).expect_err("a file is in the way").to_string();
        assert!(error.starts_with(&format!("the data directory {}/artifacts cannot be used: ", file.display())), "{error}");
    }
}
