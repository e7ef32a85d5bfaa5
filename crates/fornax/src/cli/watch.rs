//! Noticing that files changed.
//!
//! Folders are watched, not files: editors and builds replace a file by renaming another over it, and a watch on the file
//! would stay with the old one. Builds also remove whole folders, and deployments switch symbolic links. Of a folder that is
//! served itself, every artifact counts, also one that is new.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Error, Kind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::config::ARTIFACT_EXTENSION;

/// A build writes a file in several steps; this long after the last one it is taken as done.
const SETTLED: Duration = Duration::from_millis(150);

pub(super) struct Watch {
    watcher: RecommendedWatcher,
    files: Vec<PathBuf>,
    folders: BTreeSet<PathBuf>,
    followed: Arc<Mutex<Followed>>,
    changed: Arc<Notify>,
}

/// What counts as a change.
#[derive(Debug, Default)]
struct Followed {
    /// Files, and whatever on the way to them may be replaced.
    paths: BTreeSet<PathBuf>,
    /// Folders of which every artifact counts.
    folders: BTreeSet<PathBuf>,
}

impl Followed {
    fn has(&self, path: &Path) -> bool {
        let is_artifact = path.extension().is_some_and(|extension| extension == ARTIFACT_EXTENSION);
        self.paths.contains(path) || (is_artifact && path.parent().is_some_and(|folder| self.folders.contains(folder)))
    }
}

impl Watch {
    pub(super) fn start(files: &[PathBuf]) -> Result<Self, Error> {
        let changed = Arc::new(Notify::new());
        let followed: Arc<Mutex<Followed>> = Arc::default();
        let watcher = notify::recommended_watcher({
            let (changed, followed) = (Arc::clone(&changed), Arc::clone(&followed));
            move |event: notify::Result<notify::Event>| {
                let followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
                if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(|path| followed.has(path))) {
                    changed.notify_one();
                }
            }
        });
        let watcher = watcher.map_err(failed)?;
        let mut watch = Self { watcher, files: Vec::new(), folders: BTreeSet::new(), followed, changed };
        watch.follow(files)?;
        Ok(watch)
    }

    /// Watches the same files anew. To be called before they are read: a folder that was removed and made anew is another one,
    /// and what changed in it until now was not seen.
    pub(super) fn refollow(&mut self) -> Result<(), Error> {
        let files = std::mem::take(&mut self.files);
        self.follow(&files)
    }

    /// Watches these files from now on, and no others; of a folder among them, its artifacts.
    pub(super) fn follow(&mut self, files: &[PathBuf]) -> Result<(), Error> {
        self.files = files.to_vec();
        for folder in std::mem::take(&mut self.folders) {
            // A folder that was removed cannot be unwatched, and need not be.
            let _ = self.watcher.unwatch(&folder);
        }
        let mut ways = Ways::default();
        files.iter().for_each(|file| ways.add(file));
        *self.followed.lock().unwrap_or_else(PoisonError::into_inner) = ways.followed;
        for folder in ways.folders {
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.folders.insert(folder)),
                // It has gone in this very moment, which is noticed where it was.
                Err(_) if !folder.exists() => self.changed.notify_one(),
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Returns when a file changed and has been left alone for a moment.
    pub(super) async fn changed(&mut self) {
        self.changed.notified().await;
        while tokio::time::timeout(SETTLED, self.changed.notified()).await.is_ok() {}
    }
}

/// What to watch to see whatever may put other bytes behind a path.
#[derive(Debug, Default)]
struct Ways {
    folders: BTreeSet<PathBuf>,
    followed: Followed,
}

impl Ways {
    fn add(&mut self, file: &Path) {
        let Ok(file) = std::path::absolute(file) else { return };
        if file.is_dir()
            && let Ok(folder) = file.canonicalize()
        {
            self.folders.insert(folder.clone());
            self.followed.folders.insert(folder);
        }
        for path in file.ancestors() {
            let Some(parent) = path.parent() else { break };
            // Changes are reported by the name of the watched folder, which is where it really is.
            let Ok(folder) = parent.canonicalize() else { continue };
            let name = path.file_name().unwrap_or_default();
            let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
            let is_missing = !path.exists();
            // The file itself; a link on the way, which may be switched; the first part that is missing, which may come.
            if path == file || is_link || is_missing {
                self.followed.paths.insert(folder.join(name));
                self.folders.insert(folder.clone());
            }
            if is_link && let Ok(target) = path.canonicalize() {
                self.folders.extend(target.parent().map(Path::to_owned));
                self.followed.paths.insert(target);
            }
            // The folder of the file may be removed, with it.
            if path == file
                && let (Some(above), Some(_)) = (folder.parent(), folder.file_name())
            {
                self.folders.insert(above.to_owned());
                self.followed.paths.insert(folder);
            }
        }
    }
}

fn failed(error: notify::Error) -> Error {
    Error::new(Kind::Internal, "cannot watch for changes").caused_by(error)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_way_to_a_file_is_watched() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path().canonicalize().expect("it exists");
        fs::create_dir_all(root.join("releases/1")).expect("a folder");
        fs::write(root.join("releases/1/app.wasm"), b"").expect("a file");
        symlink(root.join("releases/1"), root.join("current")).expect("a link");
        let ways = |file: &str| {
            let mut ways = Ways::default();
            ways.add(&root.join(file));
            let inside = |set: BTreeSet<PathBuf>| {
                let inside = set.iter().filter_map(|path| path.strip_prefix(&root).ok());
                inside.map(|path| path.display().to_string()).collect::<Vec<_>>()
            };
            (inside(ways.folders), inside(ways.followed.paths))
        };
        let of = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(ways("releases/1/app.wasm"), (of(&["releases", "releases/1"]), of(&["releases/1", "releases/1/app.wasm"])));
        let (folders, paths) = ways("current/app.wasm");
        assert_eq!(folders, of(&["", "releases", "releases/1"]));
        assert_eq!(paths, of(&["current", "releases/1", "releases/1/app.wasm"]));
        // What does not exist is seen to come where something does.
        assert_eq!(ways("build/out/app.wasm"), (of(&[""]), of(&["build"])));
    }
}
