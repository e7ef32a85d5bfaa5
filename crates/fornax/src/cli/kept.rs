//! What is in service, for the worker that comes next.
//!
//! A worker that dies is replaced by one that serves the same: not what the files say by then, which nobody has asked to be read and
//! which may be half written. So a worker leaves to its supervisor the text of the configuration, and which bytes each module is;
//! the bytes are in the artifact store. The text may hold secrets, so it is left in a file in memory, which the supervisor hands to each
//! worker and which goes with them: no disk has it, and a new `serve` begins with the files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use base::Digest;
use serde::{Deserialize, Serialize};

use crate::control::Digests;
use crate::{Server, config};

/// Where what is kept begins and how long it is, in eight bytes each, in front of all that was kept.
const HEAD_BYTES: usize = 16;

/// What was in service.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Of the file that describes an app.
    pub(super) text: Option<String>,
    modules: Vec<Module>,
}

#[derive(Serialize, Deserialize)]
struct Module {
    tenant: String,
    name: String,
    source: PathBuf,
    digest: String,
}

impl Kept {
    pub(super) async fn of(server: &Server, text: Option<String>) -> Self {
        let module = |(module, digest): (config::Module, Digest)| Module {
            tenant: module.tenant,
            name: module.name,
            source: module.source,
            digest: digest.to_string(),
        };
        Self { text, modules: server.published().await.into_iter().map(module).collect() }
    }

    /// What the last worker left; None where it left nothing that can be read.
    pub(super) fn read(file: &File) -> Option<Self> {
        let (at, length) = head(file)?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        file.read_exact_at(&mut bytes, at).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Leaves it for the next worker, whole or not at all: then that one finds what was left before.
    pub(super) fn write(&self, file: &File) {
        let write = || {
            let bytes = serde_json::to_vec(self)?;
            let length = bytes.len() as u64;
            let first = HEAD_BYTES as u64;
            let at = match head(file) {
                // Beside what counts until the head says otherwise.
                Some((old, old_length)) if old < first + length => old + old_length,
                _ => first,
            };
            file.write_all_at(&bytes, at)?;
            let head = [at.to_le_bytes(), length.to_le_bytes()].concat();
            file.write_all_at(&head, 0)
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "what is in service cannot be kept for a worker that replaces this one");
            // What was in service before is not what is in service.
            let _: io::Result<()> = file.set_len(0);
        }
    }

    /// The artifacts of a folder.
    pub(super) fn sources(&self) -> Vec<PathBuf> {
        self.modules.iter().map(|module| module.source.clone()).collect()
    }

    pub(super) fn digests(&self) -> Digests {
        let digest = |module: &Module| ((module.tenant.as_str().into(), module.name.as_str().into()), module.digest.clone());
        self.modules.iter().map(digest).collect::<BTreeMap<_, _>>()
    }
}

fn head(file: &File) -> Option<(u64, u64)> {
    let mut head = [0; HEAD_BYTES];
    file.read_exact_at(&mut head, 0).ok()?;
    let number = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    Some((number(0)?, number(8)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_last_is_found_whatever_its_size() {
        let file = tempfile::tempfile().expect("a file");
        assert!(Kept::read(&file).is_none());
        for size in [10, 5_000, 20, 20, 4_000, 0, 100_000, 1] {
            let text = "x".repeat(size);
            Kept { text: Some(text.clone()), modules: Vec::new() }.write(&file);
            assert_eq!(Kept::read(&file).expect("just left").text, Some(text));
        }
        assert!(file.metadata().expect("a file").len() < 300_000, "it does not grow for ever");
    }
}
