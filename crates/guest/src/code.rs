//! Compiled code in this process: once for identical bytes, for as long as a module needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use base::{Digest, Error};

use tokio::sync::OwnedSemaphorePermit;

use crate::artifact::Artifact;
use crate::compiler::{Asker, Compiler, Job};
use crate::engine::{EngineKind, Engines};
use crate::publish::{Code, CodeDir, Fit};

type Key = (Digest, EngineKind);

/// Locked while it is loaded, so that of several who need it one loads or compiles.
type Entry = Arc<Mutex<Weak<Code>>>;

/// All compiled code that is loaded, and the directory it comes from.
pub(crate) struct Codes {
    dir: CodeDir,
    compiler: Compiler,
    entries: Mutex<BTreeMap<Key, Entry>>,
}

impl Codes {
    pub(crate) fn new(dir: CodeDir, compiler: Compiler) -> Self {
        Self { dir, compiler, entries: Mutex::default() }
    }

    /// Loads the code of an artifact, compiling it where need be. Clones share it. A call comes with its turn to load, which is
    /// given back before anything is compiled: others' code may be there.
    pub(crate) fn load(
        &self,
        engines: &Engines,
        artifact: &Artifact,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Arc<Code>, Error> {
        let (digest, scan) = (artifact.digest, &artifact.scan);
        let entry = Arc::clone(self.entries().entry((digest, scan.engine)).or_default());
        let mut shared = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = shared.upgrade() {
            return Ok(code);
        }
        let (engine, name) = (engines.get(scan.engine)?, engines.name_of_code(scan.engine, &digest)?);
        let compiled = match self.dir.find(&name, scan.is_core) {
            Some(compiled) => compiled,
            None => {
                let asker = if turn.is_some() { Asker::Call } else { Asker::Publisher };
                drop(turn);
                let (purpose, bytes) = (engines.purpose(scan.engine)?, artifact.bytes()?);
                let job = Job { engine, purpose, artifact: &bytes, is_core: scan.is_core };
                self.dir.put(&name, scan.is_core, |into| self.compiler.compile(&job, asker, into))?
            }
        };
        let code = Arc::new(compiled.load(engine)?);
        *shared = Arc::downgrade(&code);
        Ok(code)
    }

    /// From now on calls need the processors, too.
    pub(crate) fn serve(&self) {
        self.compiler.serve();
    }

    /// How many places an instance takes, if it is known that what fits in this way can be called.
    pub(crate) fn places(&self, engines: &Engines, artifact: &Artifact, fit: Fit) -> Result<Option<u32>, Error> {
        Ok(self.dir.places(&engines.name_of_code(artifact.scan.engine, &artifact.digest)?, fit))
    }

    /// Remembers that it is, and how many.
    pub(crate) fn note(&self, engines: &Engines, artifact: &Artifact, fit: Fit, places: u32) -> Result<(), Error> {
        self.dir.note(&engines.name_of_code(artifact.scan.engine, &artifact.digest)?, fit, places);
        Ok(())
    }

    /// Forgets and removes the code of artifacts that this process used and that are not in `used`. Removes what nobody has used for
    /// long.
    pub(crate) fn retain(&self, used: &BTreeSet<Digest>) {
        self.entries().retain(|(digest, _), _| used.contains(digest));
        let used: BTreeSet<String> = used.iter().map(Digest::to_string).collect();
        self.dir.sweep(|name| name.split('-').next().is_some_and(|digest| used.contains(digest)));
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
