//! An artifact as it is published: which bytes, and what they are.

use std::fmt;
use std::sync::Arc;

use base::{Digest, Entry, Error};

use crate::scan::{self, Scan};

/// Reads an artifact's bytes from where they are kept.
type Bytes = Arc<dyn Fn(&Digest) -> Result<Vec<u8>, Error> + Send + Sync>;

/// An artifact that was read once. Its bytes are not kept in memory: compiled code lives longer than they are needed.
#[derive(Clone)]
pub struct Artifact {
    /// Names the bytes.
    pub digest: Digest,
    pub(crate) scan: Scan,
    bytes: Bytes,
}

impl Artifact {
    /// Looks at the bytes that have this digest. `again` gets them whenever they have to be compiled, which may be while calls wait.
    ///
    /// # Errors
    ///
    /// [`Kind::Unprocessable`](base::Kind::Unprocessable) if it is not valid WebAssembly, or cannot be called.
    pub fn new(
        digest: Digest,
        bytes: &[u8],
        again: impl Fn(&Digest) -> Result<Vec<u8>, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Ok(Self { digest, scan: scan::scan(bytes)?, bytes: Arc::new(again) })
    }

    /// The ways it can be called.
    pub fn entries(&self) -> &[Entry] {
        &self.scan.entries
    }

    pub(crate) fn bytes(&self) -> Result<Vec<u8>, Error> {
        (self.bytes)(&self.digest)
    }
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact").field("digest", &self.digest).field("scan", &self.scan).finish_non_exhaustive()
    }
}
