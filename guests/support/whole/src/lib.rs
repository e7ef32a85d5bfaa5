//! Files that are always whole, whoever else writes the same ones at the same time and whenever a guest is ended.
//!
//! Every call is an instance of its own: nothing but the directory is shared, no lock of a process helps, and preview 1 has none for files.
//! A lock file would stay where its owner is ended, by its deadline or because its client left. So nothing is ever locked: a file is
//! written under a name nobody else has, and takes its place in one step, by `rename` over what was there, or by `link`, which fails where
//! something is there already. Both are atomic in the host's file system, and the descriptors of readers keep the file they opened.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What the names of drafts begin with; no name of a finished file may.
const DRAFT: &str = ".draft-";

/// No call lives this long. What is older than this was left by one that was ended, and nobody is about to use it.
const OLD: Duration = Duration::from_secs(3600);

/// A directory in which others create and remove files may have to be listed again this often; each time is over within milliseconds.
const LISTINGS_MAX: usize = 100;

/// Writes a file, in place of the one that has this name.
pub fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let draft = Draft::write(folder, bytes)?;
    fs::rename(&draft.0, folder.join(name))
}

/// Writes a file unless there is one with this name; of several at once, one is told that it was the one.
pub fn create(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<bool> {
    let draft = Draft::write(folder, bytes)?;
    link(&draft.0, &folder.join(name))
}

/// Gives a file a new name that nothing has yet; of several that want the same one, one is told that it was the one.
pub fn rename(folder: &Path, old: &str, new: &str) -> io::Result<bool> {
    let done = link(&folder.join(old), &folder.join(new))?;
    if done {
        fs::remove_file(folder.join(old))?;
    }
    Ok(done)
}

/// The names of the finished files. Removes the drafts of calls that were ended.
pub fn list(folder: &Path) -> io::Result<Vec<String>> {
    for _ in 0..LISTINGS_MAX {
        match list_once(folder) {
            // Some hosts say this where a file is removed while they list it.
            Err(error) if error.kind() == ErrorKind::NotFound && folder.is_dir() => {}
            names => return names,
        }
    }
    Err(ErrorKind::ResourceBusy.into())
}

fn list_once(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(DRAFT) {
            remove_old(folder, &name);
        } else {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a file if it is older than any call can be.
pub fn remove_old(folder: &Path, name: &str) {
    let path = folder.join(name);
    let modified = fs::metadata(&path).and_then(|data| data.modified()).unwrap_or_else(|_| SystemTime::now());
    if modified.elapsed().is_ok_and(|age| age > OLD) {
        // Somebody else may have been faster, or the directory be read-only.
        let _ = fs::remove_file(path);
    }
}

fn link(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        done => done.map(|()| true),
    }
}

/// A file that nobody else knows of. Removed in the end, unless it has got another name.
struct Draft(PathBuf);

impl Draft {
    fn write(folder: &Path, bytes: &[u8]) -> io::Result<Self> {
        loop {
            // The keys of a hasher are the host's random numbers.
            let path = folder.join(format!("{DRAFT}{:016x}", RandomState::new().build_hasher().finish()));
            match File::create_new(&path) {
                Ok(mut file) => {
                    let draft = Self(path);
                    file.write_all(bytes)?;
                    return Ok(draft);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a `rename` it is no more.
        let _ = fs::remove_file(&self.0);
    }
}
