//! Compiled code in this process: once for identical bytes, for as long as a module needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use base::{Digest, Error, Kind};

use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use crate::artifact::Artifact;
use crate::compiler::{Asker, Compiler, Job};
use crate::engine::{self, EngineKind, Engines};
use crate::publish::{Code, CodeDir, Fit};
use crate::scan;
use crate::signed::{Signed, TrustedKey};

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
    /// given back before anything is compiled or waited for: others' code may be there.
    pub(crate) fn load(
        &self,
        engines: &Engines,
        artifact: &Artifact,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Arc<Code>, Error> {
        let (digest, scan) = (artifact.digest, &artifact.scan);
        let entry = Arc::clone(self.entries().entry((digest, scan.engine)).or_default());
        let is_call = turn.is_some();
        let (mut shared, turn) = locked(&entry, turn);
        if let Some(code) = shared.upgrade() {
            return Ok(code);
        }
        let (engine, name) = (engines.get(scan.engine)?, engines.name_of_code(scan.engine, &digest)?);
        let compiled = match self.dir.find(&name, scan.is_core)? {
            Some(compiled) => compiled,
            None => {
                let asker = if is_call { Asker::Call } else { Asker::Publisher };
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

    /// Puts signed code where compiled code is kept, and returns its artifact.
    pub(crate) fn adopt(&self, signed: Signed, key: TrustedKey) -> Result<Vec<u8>, Error> {
        let scan = match scan::scan(signed.artifact()) {
            Ok(scan) => scan,
            // If it was changed, that is what is wrong with it.
            Err(error) => return signed.verified(key, &mut io::sink()).and(Err(error)),
        };
        // Not that of the engine in use, which may not be made yet: pools are planned for all modules together.
        let purpose = engine::purpose(scan.engine, &engine::for_compiling(scan.engine, false)?);
        let name = format!("{}-{purpose}", Digest::of(signed.artifact()));
        let said = signed.purpose().to_owned();
        let mut artifact = Vec::new();
        let verify = |into: &mut dyn io::Write| {
            artifact = signed.verified(key, into)?;
            if said == purpose {
                return Ok(());
            }
            let text = "it was compiled by another version of Fornax, or for another processor: compile it again with this one";
            Err(Error::new(Kind::Unprocessable, text).internal(format!("{said} instead of {purpose}")))
        };
        // Each start comes here with the same.
        match self.dir.find(&name, scan.is_core)? {
            Some(_) => verify(&mut io::sink())?,
            None => drop(self.dir.put(&name, scan.is_core, verify)?),
        }
        Ok(artifact)
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

/// The entry of some code, whoever has it. Who must wait for it, for as long as it takes to compile, does so without a turn.
fn locked(
    entry: &Mutex<Weak<Code>>,
    turn: Option<OwnedSemaphorePermit>,
) -> (MutexGuard<'_, Weak<Code>>, Option<OwnedSemaphorePermit>) {
    let turns = match (entry.try_lock(), turn) {
        (Ok(shared), turn) => return (shared, turn),
        (Err(TryLockError::Poisoned(shared)), turn) => return (shared.into_inner(), turn),
        (Err(TryLockError::WouldBlock), turn) => turn.map(|turn| Arc::clone(turn.semaphore())),
    };
    let shared = entry.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.strong_count() > 0 {
        return (shared, None);
    }
    // It was refused, or is not needed any more: it is loaded here. Nobody who has a turn waits for this entry.
    let again = turns.zip(Handle::try_current().ok());
    let turn = again.and_then(|(turns, runtime)| runtime.block_on(turns.acquire_owned()).ok());
    (shared, turn)
}

#[cfg(test)]
mod tests {
    use base::Metrics;

    use super::*;
    use crate::engine::PoolSize;
    use crate::signed::SigningKey;

    #[test]
    fn who_waits_for_code_holds_no_turn() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let turns = Arc::new(tokio::sync::Semaphore::new(1));
        let turn = || Arc::clone(&turns).try_acquire_owned().ok();
        let entry = Arc::<Mutex<Weak<Code>>>::default();
        let (shared, _) = locked(&entry, None);
        let (ours, waiting) = (turn(), Arc::clone(&entry));
        assert!(ours.is_some());
        let waiting = runtime.spawn_blocking(move || locked(&waiting, ours).1.is_some());
        // Whoever comes next gets it, while that one waits.
        let next = runtime.block_on(Arc::clone(&turns).acquire_owned()).expect("never closed");
        drop(shared);
        drop(next);
        assert!(runtime.block_on(waiting).expect("no panic"), "and has it again to load");
        let (_shared, kept) = locked(&entry, turn());
        assert!(kept.is_some(), "nobody has to wait");
    }

    #[test]
    fn signed_code_is_kept_if_this_build_made_it() {
        let data = tempfile::tempdir().expect("a folder");
        let metrics = Metrics::new();
        let dir = CodeDir::open(data.path(), Arc::clone(&metrics)).expect("opened");
        let codes = Codes::new(dir, Compiler::new(None, base::CompileLimits::default(), metrics));
        let key = SigningKey::create(&data.path().join("key")).expect("made");
        let artifact = std::fs::read(testkit::guest("hello-wasip2")).expect("a built guest");
        let kind = scan::scan(&artifact).expect("a component").engine;
        let engine = engine::for_compiling(kind, false).expect("an engine");
        let purpose = engine::purpose(kind, &engine);
        let code = engine.precompile_component(&artifact).expect("it compiles");
        let adopt = |purpose: &str| {
            let path = data.path().join("signed");
            std::fs::write(&path, key.seal(purpose, &artifact, &code)).expect("written");
            codes.adopt(Signed::open(&path).expect("read").expect("signed"), key.public())
        };
        // A name that would lead elsewhere, if it were taken for one.
        for other in ["plain-0123456789abcdef", "concurrent-0", "../../escaped", ""] {
            let error = adopt(other).expect_err(other).to_string();
            assert!(error.starts_with("it was compiled by another version of Fornax"), "{error}");
        }
        let kept = || std::fs::read_dir(data.path().join("compiled-code")).expect("a folder").count();
        assert_eq!(kept(), 0);
        assert_eq!(adopt(&purpose).expect("kept"), artifact);
        assert_eq!((kept(), adopt(&purpose).expect("it is there"), kept()), (1, artifact.clone(), 1));
        // It is what a server with a pool loads.
        let engines = Engines::new(PoolSize::of(8), true);
        assert_eq!(engines.purpose(kind).expect("an engine"), purpose);
        let name = engines.name_of_code(kind, &Digest::of(&artifact)).expect("an engine");
        let found = codes.dir.find(&name, false).expect("looked at").expect("it is there");
        assert!(found.load(engines.get(kind).expect("an engine")).is_ok());
    }
}
