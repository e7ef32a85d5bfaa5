//! The runtime: made once, prepares modules, hands out handlers.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{BoxFuture, Call, Digest, Entry, Error, Handler, Input, Kind, Metrics, Reply};
use tokio::sync::Semaphore;
use wasmtime::ResourcesRequired;

use crate::codec::{self, Codec};
use crate::engine::{EngineKind, Engines, MEMORIES_PER_GUEST, PLACES_OF_UNKNOWN, PoolSize, TABLES_PER_GUEST};
use crate::entry::{ENTRIES, Linked};
use crate::ignis;
use crate::instance::{Equipment, Habit};
use crate::interface::{Backends, Interface};
use crate::link::{self, Linkers};
use crate::preview1::{self, Io, Places, Tenants};
use crate::publish::{self, Code, CodeDir};
use crate::reuse::Reuse;
use crate::runner::Runners;
use crate::scan::{self, Scan};
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
    /// For files and directories that programs open.
    pub(crate) places: Arc<Places>,
    /// Room in the pool for instances that wait for another call.
    pub(crate) resting: Arc<Semaphore>,
    /// The same programs' turns to wait for a disk.
    pub(crate) tenants: Tenants,
}

/// Engines, pool, linkers and threads. One for the process; old modules keep what they need of it alive.
pub struct Runtime {
    engines: Engines,
    linkers: Linkers,
    interfaces: Vec<Arc<dyn Interface>>,
    core: Arc<Core>,
    code: CodeDir,
    /// Loaded code by artifact, so that identical bytes share it and a reload compiles only what changed.
    loaded: Mutex<BTreeMap<(Digest, EngineKind), Code>>,
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
    pub env: Vec<(String, String)>,
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
    /// Places in the pool one instance takes: more than one for a component with several memories or many tables, and for a module
    /// whose allocator the host may run beside it.
    pub places: u32,
}

impl Runtime {
    /// Starts the engines and their threads.
    ///
    /// # Errors
    ///
    /// [`Kind::Internal`] if the machine cannot give the pool its address space, or a thread cannot start.
    ///
    /// # Panics
    ///
    /// If two interfaces have one slot: a mistake in their crates.
    pub fn new(options: RuntimeOptions) -> Result<Self, Error> {
        for (at, interface) in options.interfaces.iter().enumerate() {
            let same = options.interfaces[..at].iter().find(|other| other.slot() == interface.slot());
            assert!(same.is_none(), "the interface {} has the slot of another", interface.name());
        }
        let engines = Engines::new(options.pool, options.page_scan)?;
        let ticker = Ticker::start(engines.all(), options.tick)
            .map_err(|error| Error::new(Kind::Internal, "cannot start the ticker thread").caused_by(error))?;
        Ok(Self {
            linkers: Linkers::new(&engines)?,
            core: Arc::new(Core {
                ticker,
                runners: Runners::start(options.runners)?,
                egress: options.egress,
                places: Places::new(),
                resting: Arc::new(Semaphore::new(options.pool.resting() as usize)),
                tenants: Tenants::default(),
            }),
            code: CodeDir::open(&options.data, options.metrics)?,
            interfaces: options.interfaces,
            loaded: Mutex::default(),
            engines,
        })
    }

    /// Makes an artifact callable: scan, compile to a file unless it is there, load the file, link by what it imports. Takes
    /// long the first time for an artifact: not for a thread that serves.
    ///
    /// # Errors
    ///
    /// [`Kind::Unprocessable`] with a sentence for whoever publishes.
    pub fn prepare(&self, artifact: &[u8], digest: Digest, module: Module) -> Result<Prepared, Error> {
        let mut scan = scan::scan(artifact)?;
        scan.choose(module.entry)?;
        let codec = codec::find(module.codec.as_deref(), &scan.entries)?;
        if module.reuse != Reuse::Fresh && !scan.entries.contains(&Entry::Http) {
            return Err(Error::new(
                Kind::Unprocessable,
                "`reuse` is for HTTP guests: a program ends with its call, and a plugin is not told to free what it was given",
            ));
        }
        let granted = link::grants(&scan.imports, &self.interfaces, &module)?;
        let code = self.code(artifact, digest, &scan)?;
        let io = if module.dirs.is_empty() && !module.terminal { Io::Memory } else { Io::Host };
        let (linked, needs) = match &code {
            Code::Component(component) => {
                let pre = self.linkers.link(scan.engine, component, &scan.imports, &granted)?;
                (Linked::Component(pre), component.resources_required())
            }
            Code::Core(core) => (Linked::Core(self.linkers.link_core(core, io)?), Some(core.resources_required())),
        };
        let stacks = match &code {
            Code::Component(_) => 1,
            Code::Core(core) => ignis::stacks(core),
        };
        // Components get theirs anew for each call; that they can be opened is found out now.
        let preopens = preview1::open_granted(&module.dirs, &self.core.tenants.steps(&module.tenant))?;
        let equipment = Arc::new(Equipment {
            name: Arc::clone(&module.name),
            engine: self.engines.get(scan.engine).clone(),
            env: module.env,
            args: with_program_name(&module.name, module.args),
            input_at_zero: module.input_at_zero,
            preopens: if scan.is_core { preopens } else { Vec::new() },
            dirs: module.dirs,
            policy: egress::Policy { tenant: module.tenant, allow: module.allow },
            interfaces: granted,
            reuse: module.reuse,
            habit: Habit::new(),
        });
        let mut handlers = Vec::new();
        for ty in ENTRIES.iter().filter(|ty| scan.entries.contains(&ty.entry)) {
            if let Some(prepare) = ty.prepare {
                handlers.push((ty.entry, prepare(&linked, &equipment, &self.core)?));
            }
        }
        // The pool has a stack for each place.
        let places = places(needs.as_ref()).max(stacks);
        Ok(Prepared { handler: Arc::new(ByEntry { handlers, codec }), entries: scan.entries, places })
    }

    /// Forgets loaded code of artifacts that are not in `used`; calls that still run it keep it. Removes what nobody has used for
    /// long.
    pub fn retain(&self, used: &[Digest]) {
        self.code.sweep();
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).retain(|(digest, kind), _| {
            let is_used = used.contains(digest);
            if !is_used {
                self.code.remove(&publish::name_for(digest, self.engines.get(*kind), kind.name()));
            }
            is_used
        });
    }

    fn code(&self, artifact: &[u8], digest: Digest, scan: &Scan) -> Result<Code, Error> {
        let key = (digest, scan.engine);
        let loaded = || self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = loaded().get(&key) {
            return Ok(code.clone());
        }
        let engine = self.engines.get(scan.engine);
        let name = publish::name_for(&digest, engine, scan.engine.name());
        let compiled = match self.code.find(&name, scan.is_core) {
            Some(compiled) => compiled,
            None => self.code.compile(engine, artifact, scan.is_core, &name)?,
        };
        let code = compiled.load(engine)?;
        loaded().insert(key, code.clone());
        Ok(code)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}

/// An instance takes as many places as the scarcest thing it needs, measured in what the pool has for each place.
fn places(needs: Option<&ResourcesRequired>) -> u32 {
    let Some(needs) = needs else { return PLACES_OF_UNKNOWN };
    let of = |count: u32, per_guest: u32| count.div_ceil(per_guest);
    of(needs.num_memories, MEMORIES_PER_GUEST).max(of(needs.num_tables, TABLES_PER_GUEST)).max(1)
}

/// By convention the first argument is the program's name. A guest without arguments has none at all: most never look.
fn with_program_name(name: &str, args: Vec<String>) -> Vec<String> {
    if args.is_empty() { args } else { std::iter::once(name.to_owned()).chain(args).collect() }
}

/// The handler of a module: the trigger picked the entry, the entry has its own handler, and a request for one that is not
/// HTTP goes through the codec.
struct ByEntry {
    handlers: Vec<(Entry, Arc<dyn Handler>)>,
    codec: Option<&'static Codec>,
}

impl Handler for ByEntry {
    fn handle(&self, call: Call) -> BoxFuture<Result<Reply, Error>> {
        let Some((_, handler)) = self.handlers.iter().find(|(entry, _)| *entry == call.entry) else {
            let error = Error::new(Kind::Internal, "the module cannot be called in this way");
            return Box::pin(std::future::ready(Err(error.internal(format!("no handler for the entry `{}`", call.entry)))));
        };
        match (&call.input, call.entry) {
            (Input::Http(_), Entry::Run | Entry::Process) => codec::handle(self.codec, Arc::clone(handler), call),
            _ => handler.handle(call),
        }
    }
}
