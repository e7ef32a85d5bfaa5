//! Noticing that files changed.
//!
//! Folders are watched, not files: editors and builds replace a file by renaming another over it, and a watch on the file
//! would stay with the old one. Of a folder that is served itself, every artifact counts, also one that is new.

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
    folders: BTreeSet<PathBuf>,
    followed: Arc<Mutex<Followed>>,
    changed: Arc<Notify>,
}

/// What counts as a change.
#[derive(Default)]
struct Followed {
    files: BTreeSet<PathBuf>,
    /// Folders of which every artifact counts.
    folders: BTreeSet<PathBuf>,
}

impl Followed {
    fn has(&self, path: &Path) -> bool {
        let is_artifact = path.extension().is_some_and(|extension| extension == ARTIFACT_EXTENSION);
        self.files.contains(path) || (is_artifact && path.parent().is_some_and(|folder| self.folders.contains(folder)))
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
        let mut watch = Self { watcher, folders: BTreeSet::new(), followed, changed };
        watch.follow(files)?;
        Ok(watch)
    }

    /// Watches these files from now on, and no others; of a folder among them, its artifacts.
    pub(super) fn follow(&mut self, files: &[PathBuf]) -> Result<(), Error> {
        let resolved = |file: &PathBuf| file.canonicalize().unwrap_or_else(|_| absolute(file));
        let (whole, files): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.is_dir());
        let followed = Followed {
            files: files.into_iter().map(|file| absolute(file)).collect(),
            folders: whole.into_iter().map(resolved).collect(),
        };
        let parents = followed.files.iter().filter_map(|file| file.parent().map(Path::to_owned));
        let folders: BTreeSet<PathBuf> = parents.chain(followed.folders.iter().cloned()).collect();
        for gone in self.folders.difference(&folders) {
            // A folder that was removed cannot be unwatched, and need not be.
            let _ = self.watcher.unwatch(gone);
        }
        for new in folders.difference(&self.folders) {
            self.watcher.watch(new, RecursiveMode::NonRecursive).map_err(failed)?;
        }
        self.folders = folders;
        *self.followed.lock().unwrap_or_else(PoisonError::into_inner) = followed;
        Ok(())
    }

    /// Returns when a file changed and has been left alone for a moment.
    pub(super) async fn changed(&mut self) {
        self.changed.notified().await;
        while tokio::time::timeout(SETTLED, self.changed.notified()).await.is_ok() {}
    }
}

/// The folder resolved, since that is how changes are reported; the file itself need not exist at the moment.
fn absolute(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default();
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).join(name)
}

fn failed(error: notify::Error) -> Error {
    Error::new(Kind::Internal, "cannot watch for changes").caused_by(error)
}
