//! What is in service, for the worker that comes next.
//!
//! A worker that dies is replaced by one that serves the same: not what the files say by then, which nobody has asked to be read and
//! which may be half written. So a worker leaves in its data directory the text of the configuration, and which bytes each module is;
//! the bytes are in the artifact store. It is for this supervisor's workers alone: a new `serve` begins with the files.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base::Digest;
use serde::{Deserialize, Serialize};

use crate::control::Digests;
use crate::{Server, config};

/// In the data directory, which is private; the text may hold secrets.
const FILE_NAME: &str = "in-service.json";

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
    pub(super) fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(data.join(FILE_NAME)).ok()?).ok()
    }

    /// Leaves it for the next worker, whole or not at all: then that one reads the files.
    pub(super) fn write(&self, data: &Path) {
        let file = data.join(FILE_NAME);
        let new = data.join(format!("{FILE_NAME}.new"));
        let write = || {
            let bytes = serde_json::to_vec(self)?;
            let _ = fs::remove_file(&new);
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?.write_all(&bytes)?;
            fs::rename(&new, &file)
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "what is in service cannot be kept for a worker that replaces this one");
            // What was in service before is not what is in service.
            let _ = fs::remove_file(&file);
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
