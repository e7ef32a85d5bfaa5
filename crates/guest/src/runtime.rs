//! The runtime: made once, prepares modules, hands out handlers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::{CompileLimits, Digest, Entry, Error, Handler, Kind, Metrics, Places, Secret};

use crate::artifact::Artifact;
use crate::code::Codes;
use crate::codec;
use crate::compiler::Compiler;
use crate::engine::{Engines, PoolSize};
use crate::instance::{Equipment, Habit};
use crate::interface::{Backends, Interface};
use crate::link;
use crate::loading::{Loader, Recipe};
use crate::preview1::{self, Io, Tenants};
use crate::publish::CodeDir;
use crate::reuse::Reuse;
use crate::runner::Runners;
use crate::signed::{Signed, TrustedKey};
use crate::ticker::Ticker;

/// What a runtime is made of.
pub struct RuntimeOptions {
    /// What guests may ask for, configured.
    pub interfaces: Vec<Arc<dyn Interface>>,
    /// The one way out.
    pub egress: egress::Egress,
    /// How many guests at once.
    pub pool: PoolSize,
    /// Whether the kernel may be asked which pages of a sandbox are dirty. It is asked only where that finds all of them.
    pub page_scan: bool,
    /// How often guests that compute are looked at, to end or to move them: at [`TICK`](crate::TICK) where they are not trusted.
    pub tick: Duration,
    /// Runner threads.
    pub runners: usize,
    /// Memory that each guest may have without its being counted for its tenant, in bytes.
    pub free_memory_bytes: u64,
    /// How many modules may have their code in memory; of others it is loaded when they are called.
    pub loaded_max: u32,
    /// The program that compiles for this one: its command [`COMPILE_COMMAND`](crate::COMPILE_COMMAND) does, in a process for each
    /// module. Without one, this process compiles.
    pub compiler: Option<PathBuf>,
    /// What compiling may take there.
    pub compile: CompileLimits,
    /// Where compiled code is kept; only this process may write there.
    pub data: PathBuf,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What running guests need of the process.
pub(crate) struct Core {
    pub(crate) ticker: Ticker,
    pub(crate) runners: Runners,
    pub(crate) egress: egress::Egress,
    /// What an instance has before its memory is counted for its tenant.
    pub(crate) free_memory_bytes: u64,
    /// For files and directories that programs open.
    pub(crate) places: Arc<preview1::Places>,
    /// The same programs' turns to wait for a disk.
    pub(crate) tenants: Tenants,
}

/// Engines, pool, linkers and threads. One for the process; old modules keep what they need of it alive.
pub struct Runtime {
    interfaces: Vec<Arc<dyn Interface>>,
    loader: Arc<Loader>,
    upload_bytes: u64,
}

/// A module to prepare.
#[derive(Clone, Debug)]
pub struct Module {
    /// The owner.
    pub tenant: Arc<str>,
    /// The app it belongs to.
    pub app: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The one entry that is meant, where an artifact has several.
    pub entry: Option<Entry>,
    /// How an HTTP request gets to an entry that is not HTTP.
    pub codec: Option<String>,
    /// Whether a plugin's input is written at address 0, over whatever is there, as old plugins expect.
    pub input_at_zero: bool,
    /// How many calls an instance serves.
    pub reuse: Reuse,
    /// Whether it may be started on this process's own standard streams.
    pub terminal: bool,
    /// Its environment: all of it.
    pub env: Vec<(String, Secret)>,
    /// Its arguments, without the program's name.
    pub args: Vec<String>,
    /// The directories it sees.
    pub dirs: Vec<Directory>,
    /// Where it may connect to.
    pub allow: Arc<egress::AllowList>,
    /// Interface → name the guest opens → backend.
    pub bindings: BTreeMap<String, BTreeMap<String, String>>,
    /// Interface → what its [`configure`](Interface::configure) returned.
    pub backends: BTreeMap<String, Backends>,
}

/// A directory of the host that a guest sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where it is.
    pub host: PathBuf,
    /// What the guest calls it.
    pub guest: String,
    /// Whether the guest may change it.
    pub writable: bool,
}

/// A module that can be called.
#[derive(Clone)]
pub struct Prepared {
    /// What takes its calls.
    pub handler: Arc<dyn Handler>,
    /// The ways it can be called.
    pub entries: Vec<Entry>,
    /// Places one instance takes, in the pool of its engine: more than one for a component with several memories or many tables, and for
    /// a module whose allocator the host may run beside it.
    pub places: Places,
}

impl Runtime {
    /// Starts the threads. Engines are made when they are needed.
    ///
    /// # Errors
    ///
    /// [`Kind::Internal`] if a thread cannot start, or the directory of compiled code cannot be used.
    ///
    /// # Panics
    ///
    /// If two interfaces have one slot: a mistake in their crates.
    pub fn new(options: RuntimeOptions) -> Result<Self, Error> {
        for (at, interface) in options.interfaces.iter().enumerate() {
            let same = options.interfaces[..at].iter().find(|other| other.slot() == interface.slot());
            assert!(same.is_none(), "the interface {} has the slot of another", interface.name());
        }
        let engines = Arc::new(Engines::new(options.pool, options.page_scan));
        let ticker = Ticker::start(Arc::clone(&engines), options.tick)
            .map_err(|error| Error::new(Kind::Internal, "cannot start the ticker thread").caused_by(error))?;
        let core = Arc::new(Core {
            ticker,
            runners: Runners::start(options.runners)?,
            egress: options.egress,
            free_memory_bytes: options.free_memory_bytes,
            places: preview1::Places::new(),
            tenants: Tenants::default(),
        });
        let compiler = Compiler::new(options.compiler, options.compile, Arc::clone(&options.metrics));
        let codes = Codes::new(CodeDir::open(&options.data, Arc::clone(&options.metrics))?, compiler);
        let loader = Loader::new(engines, core, codes, options.loaded_max, options.metrics);
        let upload_bytes = options.compile.upload_bytes;
        Ok(Self { interfaces: options.interfaces, loader: Arc::new(loader), upload_bytes })
    }

    /// The longest artifact that is taken, in bytes.
    pub fn upload_bytes(&self) -> u64 {
        self.upload_bytes
    }

    /// Makes the engines that these artifacts need. Those that are made together share what the machine carries, so it is best to
    /// know all of them by now. Says how many places there are in each pool.
    ///
    /// # Errors
    ///
    /// [`Kind::Internal`] if the machine cannot give a pool its address space or its mappings.
    pub fn expect<'a>(&self, artifacts: impl IntoIterator<Item = &'a Artifact>) -> Result<Places, Error> {
        self.loader.engines.expect(&artifacts.into_iter().map(|artifact| artifact.scan.engine).collect())?;
        Ok(self.loader.engines.places())
    }

    /// Makes an artifact callable: finds who provides what it asks for, and makes sure that it can be called. That takes long the
    /// first time for an artifact, when it is compiled, loaded and linked: not for a thread that serves.
    ///
    /// # Errors
    ///
    /// [`Kind::Unprocessable`] with a sentence for whoever publishes.
    pub fn prepare(&self, artifact: &Artifact, module: Module) -> Result<Prepared, Error> {
        let scan = &artifact.scan;
        let entries = scan.choose(module.entry)?;
        let codec = codec::find(module.codec.as_deref(), &entries)?;
        if module.reuse != Reuse::Fresh && !entries.contains(&Entry::Http) {
            return Err(Error::new(
                Kind::Unprocessable,
                "`reuse` is for HTTP guests: a program ends with its call, and a plugin is not told to free what it was given",
            ));
        }
        let interfaces = link::grants(&scan.imports, &self.interfaces, &module)?;
        let io = if module.dirs.is_empty() && !module.terminal { Io::Memory } else { Io::Host };
        let core = &self.loader.core;
        // Components get theirs anew for each call; that they can be opened is found out now.
        let preopens = preview1::open_granted(&module.dirs, &core.tenants.steps(&module.tenant))?;
        let equipment = Arc::new(Equipment {
            name: Arc::clone(&module.name),
            engine: self.loader.engines.get(scan.engine)?.clone(),
            env: module.env,
            args: with_program_name(&module.name, module.args),
            input_at_zero: module.input_at_zero,
            preopens: if scan.is_core { preopens } else { Vec::new() },
            dirs: module.dirs,
            policy: egress::Policy { tenant: module.tenant, allow: module.allow },
            interfaces,
            reuse: module.reuse,
            resting: self.loader.engines.resting(scan.engine)?,
            habit: Habit::new(),
        });
        self.loader.prepare(Recipe { artifact: artifact.clone(), entries, io, equipment, codec })
    }

    /// Keeps code that is signed with `key`, so that it need not be compiled, and returns its artifact.
    ///
    /// # Errors
    ///
    /// [`Kind::Unprocessable`] with a sentence if it is signed with another key, was changed, or is for another build of Fornax. Nothing of it
    /// is kept then.
    pub fn adopt(&self, signed: Signed, key: TrustedKey) -> Result<Vec<u8>, Error> {
        self.loader.codes.adopt(signed, key)
    }

    /// From now on modules are compiled one at a time: calls need the processors, too.
    pub fn serve(&self) {
        self.loader.codes.serve();
    }

    /// Forgets the code of artifacts that are not in `used`; calls that still run it keep it. Removes what nobody has used for
    /// long.
    pub fn retain(&self, used: &BTreeSet<Digest>) {
        self.loader.codes.retain(used);
        self.loader.forget_gone();
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}

/// By convention the first argument is the program's name. A guest without arguments has none at all: most never look.
fn with_program_name(name: &str, args: Vec<String>) -> Vec<String> {
    if args.is_empty() { args } else { std::iter::once(name.to_owned()).chain(args).collect() }
}
