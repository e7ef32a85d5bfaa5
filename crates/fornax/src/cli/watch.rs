//! Noticing that files changed.
//!
//! Folders are watched, not files: editors and builds replace a file by renaming another over it, and a watch on the file
//! would stay with the old one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Error, Kind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// A build writes a file in several steps; this long after the last one it is taken as done.
const SETTLED: Duration = Duration::from_millis(150);

pub(super) struct Watch {
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    files: Arc<Mutex<BTreeSet<PathBuf>>>,
    changed: Arc<Notify>,
}

impl Watch {
    pub(super) fn start(files: &[PathBuf]) -> Result<Self, Error> {
        let changed = Arc::new(Notify::new());
        let watched: Arc<Mutex<BTreeSet<PathBuf>>> = Arc::default();
        let watcher = notify::recommended_watcher({
            let (changed, watched) = (Arc::clone(&changed), Arc::clone(&watched));
            move |event: notify::Result<notify::Event>| {
                let watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
                if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(|path| watched.contains(path))) {
                    changed.notify_one();
                }
            }
        });
        let watcher = watcher.map_err(failed)?;
        let mut watch = Self { watcher, folders: BTreeSet::new(), files: watched, changed };
        watch.follow(files)?;
        Ok(watch)
    }

    /// Watches these files from now on, and no others.
    pub(super) fn follow(&mut self, files: &[PathBuf]) -> Result<(), Error> {
        let files: BTreeSet<PathBuf> = files.iter().map(|file| absolute(file)).collect();
        let folders: BTreeSet<PathBuf> = files.iter().filter_map(|file| file.parent().map(Path::to_owned)).collect();
        for gone in self.folders.difference(&folders) {
            // A folder that was removed cannot be unwatched, and need not be.
            let _ = self.watcher.unwatch(gone);
        }
        for new in folders.difference(&self.folders) {
            self.watcher.watch(new, RecursiveMode::NonRecursive).map_err(failed)?;
        }
        self.folders = folders;
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
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
