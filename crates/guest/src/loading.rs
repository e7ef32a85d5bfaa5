//! Modules whose code is loaded when it is called, and dropped when others need the room.
//!
//! Goals in tension: a thousand published modules shall cost next to nothing until they are called, a call shall find its
//! module ready, and what cannot be called shall be refused when it is published. So publishing makes sure, by loading
//! and linking once, that a module can be called, and remembers it beside the compiled code: a later start only looks it
//! up. The first call loads, on a blocking thread, while others go on; a call of a loaded module pays one wait-free load of a
//! pointer, and a store where another module was loaded since its last call.
//!
//! That store is all that is known about use. Rounds are counted by loads, so a module that was called since the last
//! load has the newest round, and the ones with the oldest were not called for longest. Where more are loaded than may be,
//! whoever loaded drops those, after its call has been let go on, and none that has a call in flight.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use base::{BoxFuture, Call, Entry, Error, Handler, Input, Kind, Metrics, POOLS, Reply};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use wasmtime::ResourcesRequired;

use crate::artifact::Artifact;
use crate::code::Codes;
use crate::codec::{self, Codec};
use crate::engine::{Engines, MEMORIES_PER_GUEST, PLACES_OF_UNKNOWN, TABLES_PER_GUEST};
use crate::entry::{ENTRIES, Linked};
use crate::ignis;
use crate::instance::Equipment;
use crate::link::Linkers;
use crate::preview1::Io;
use crate::publish::{Code, Fit};
use crate::runtime::{Core, Prepared};

/// Loads at once, where the machine has fewer processors: one that must compile again shall not keep all others waiting.
const LOADS_AT_ONCE_MIN: usize = 4;

/// How long a load that failed is not tried again: all who waited for it would do so one after the other, and each may take all the
/// time that compiling may.
const FAILED_FOR: Duration = Duration::from_secs(10);

/// Of the modules that may be loaded, as many parts of one are dropped at once, so that not every load has to look for one.
const DROPPED_PART: usize = 16;

/// What loading takes, for all modules of a runtime.
pub(crate) struct Loader {
    pub(crate) engines: Arc<Engines>,
    pub(crate) linkers: Linkers,
    pub(crate) core: Arc<Core>,
    pub(crate) codes: Codes,
    /// Loads at once.
    turns: Arc<Semaphore>,
    /// Modules that may be loaded at once.
    loaded_max: usize,
    /// Counts loads.
    round: AtomicU64,
    /// What is loaded. Some of it may be gone with its module.
    loaded: Mutex<Vec<Weak<Loadable>>>,
    metrics: Arc<Metrics>,
}

/// What a module is made from, each time it is loaded.
pub(crate) struct Recipe {
    pub(crate) artifact: Artifact,
    /// The chosen ones of the artifact's.
    pub(crate) entries: Vec<Entry>,
    pub(crate) io: Io,
    pub(crate) equipment: Arc<Equipment>,
    pub(crate) codec: Option<&'static Codec>,
}

impl Loader {
    pub(crate) fn new(engines: Arc<Engines>, core: Arc<Core>, codes: Codes, loaded_max: u32, metrics: Arc<Metrics>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            engines,
            linkers: Linkers::default(),
            core,
            codes,
            turns: Arc::new(Semaphore::new(processors.max(LOADS_AT_ONCE_MIN))),
            loaded_max: loaded_max.max(1) as usize,
            round: AtomicU64::new(0),
            loaded: Mutex::default(),
            metrics,
        }
    }

    /// Makes a handler that loads at its first call. Loads now where nobody has found out before that the module can be
    /// called: that takes long the first time for an artifact.
    pub(crate) fn prepare(self: &Arc<Self>, recipe: Recipe) -> Result<Prepared, Error> {
        let entries = recipe.entries.clone();
        let loadable = Arc::new(Loadable {
            loader: Arc::clone(self),
            loaded: ArcSwapOption::empty(),
            used_in: AtomicU64::new(0),
            loading: Arc::default(),
            recipe,
        });
        let (artifact, fit) = (&loadable.recipe.artifact, loadable.recipe.fit());
        let places = match self.codes.places(&self.engines, artifact, fit)? {
            Some(places) => places,
            None => {
                let (_, places) = loadable.load_now(None)?;
                self.codes.note(&self.engines, artifact, fit, places)?;
                self.shrink();
                places
            }
        };
        let mut by_pool = [0; POOLS];
        by_pool[artifact.scan.engine.pool()] = places;
        Ok(Prepared { handler: Arc::new(OnDemand(loadable)), entries, places: by_pool })
    }

    fn make(&self, recipe: &Recipe, turn: Option<OwnedSemaphorePermit>) -> Result<(Loaded, u32), Error> {
        let code = self.codes.load(&self.engines, &recipe.artifact, turn)?;
        let (linked, needs, stacks) = match &*code {
            Code::Component(component) => {
                let pre = self.linkers.link(component, &recipe.equipment.interfaces, recipe.artifact.scan.engine)?;
                (Linked::Component(pre), component.resources_required(), 1)
            }
            Code::Core(core) => {
                let pre = self.linkers.link_core(core, recipe.io)?;
                (Linked::Core(pre), Some(core.resources_required()), ignis::stacks(core))
            }
        };
        let mut handlers = Vec::new();
        for ty in ENTRIES.iter().filter(|ty| recipe.entries.contains(&ty.entry)) {
            if let Some(prepare) = ty.prepare {
                handlers.push((ty.entry, prepare(&linked, &recipe.equipment, &self.core)?));
            }
        }
        // The pool has a stack for each place.
        let places = places(needs.as_ref()).max(stacks);
        Ok((Loaded { handlers, _code: code }, places))
    }

    /// Drops what was not called for longest, if too much is loaded.
    fn shrink(&self) {
        let mut list = self.list();
        if list.len() <= self.loaded_max {
            return;
        }
        let mut modules: Vec<_> = list.iter().filter_map(Weak::upgrade).collect();
        let excess = modules.len().saturating_sub(self.loaded_max);
        let dropped = if excess == 0 { 0 } else { excess + self.loaded_max / DROPPED_PART };
        modules.sort_by_key(|module| module.used_in.load(Relaxed));
        let (oldest, newer): (Vec<_>, Vec<_>) = {
            let mut left = dropped;
            modules.into_iter().partition(|module| {
                let goes = left > 0 && !module.is_in_use();
                left -= usize::from(goes);
                goes
            })
        };
        *list = newer.iter().map(Arc::downgrade).collect();
        drop(list);
        for module in oldest {
            module.loaded.store(None);
            self.metrics.module_unloads.inc();
        }
        self.show(&self.list());
    }

    fn show(&self, list: &[Weak<Loadable>]) {
        self.metrics.modules_loaded.set(i64::try_from(list.len()).unwrap_or(i64::MAX));
    }

    /// Forgets what is gone with its module.
    pub(crate) fn forget_gone(&self) {
        let mut list = self.list();
        list.retain(|module| module.strong_count() > 0);
        self.show(&list);
    }

    fn list(&self) -> MutexGuard<'_, Vec<Weak<Loadable>>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recipe {
    /// All that decides, beside the code, whether a module can be called and how many places it takes.
    fn fit(&self) -> Fit {
        let mut hasher = DefaultHasher::new();
        self.entries.hash(&mut hasher);
        self.io.hash(&mut hasher);
        self.equipment.reuse.hash(&mut hasher);
        for (interface, _) in &self.equipment.interfaces {
            interface.name().hash(&mut hasher);
        }
        Fit(hasher.finish())
    }
}

/// A module in memory.
struct Loaded {
    handlers: Vec<(Entry, Arc<dyn Handler>)>,
    /// As long as one module has it, another of the same bytes need not load it.
    _code: Arc<Code>,
}

impl Loaded {
    /// The trigger picked the entry, the entry has its own handler, and a request for one that is not HTTP goes through the codec.
    fn handle(&self, codec: Option<&'static Codec>, call: Call) -> BoxFuture<Result<Reply, Error>> {
        let Some((_, handler)) = self.handlers.iter().find(|(entry, _)| *entry == call.entry) else {
            let error = Error::new(Kind::Internal, "the module cannot be called in this way");
            return Box::pin(std::future::ready(Err(error.internal(format!("no handler for the entry `{}`", call.entry)))));
        };
        match (&call.input, call.entry) {
            (Input::Http(_), Entry::Run | Entry::Process) => codec::handle(codec, Arc::clone(handler), call),
            _ => handler.handle(call),
        }
    }
}

/// A module that can be loaded.
struct Loadable {
    loader: Arc<Loader>,
    recipe: Recipe,
    loaded: ArcSwapOption<Loaded>,
    /// The round of its last call.
    used_in: AtomicU64,
    /// One load serves all calls that wait for it. In it is when the last one failed.
    loading: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

/// The handler of a module.
struct OnDemand(Arc<Loadable>);

impl Handler for OnDemand {
    fn handle(&self, call: Call) -> BoxFuture<Result<Reply, Error>> {
        let module = &self.0;
        module.touch();
        match &*module.loaded.load() {
            Some(loaded) => loaded.handle(module.recipe.codec, call),
            None => Box::pin(load_first(Arc::clone(module), call)),
        }
    }
}

async fn load_first(module: Arc<Loadable>, call: Call) -> Result<Reply, Error> {
    let loaded = tokio::time::timeout_at(call.deadline.wall_at.into(), module.load()).await;
    let late = |_| Error::new(Kind::Overloaded, "the module could not be loaded in time").retry_after(1);
    loaded.map_err(late)??.handle(module.recipe.codec, call).await
}

impl Loadable {
    fn touch(&self) {
        let round = self.loader.round.load(Relaxed);
        if self.used_in.load(Relaxed) != round {
            self.used_in.store(round, Relaxed);
        }
    }

    /// Whether a call of it is in flight: each holds the equipment, as its handlers do.
    fn is_in_use(&self) -> bool {
        let handlers = self.loaded.load().as_ref().map_or(0, |loaded| loaded.handlers.len());
        Arc::strong_count(&self.recipe.equipment) > 1 + handlers
    }

    /// Loads it, unless another call does.
    async fn load(self: &Arc<Self>) -> Result<Arc<Loaded>, Error> {
        let mut one = Arc::clone(&self.loading).lock_owned().await;
        if let Some(loaded) = self.loaded.load_full() {
            return Ok(loaded);
        }
        if one.is_some_and(|failed_at| failed_at.elapsed() < FAILED_FOR) {
            return Err(unloadable().internal("as was found out a moment ago"));
        }
        let turn = Arc::clone(&self.loader.turns).acquire_owned().await.map_err(|_| lost())?;
        let (sender, result) = oneshot::channel();
        let module = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let loaded = module.load_now(Some(turn)).map(|(loaded, _)| loaded);
            *one = loaded.as_ref().is_err_and(|error| error.kind != Kind::Overloaded).then(Instant::now);
            // Who waited may have gone.
            let _ = sender.send(loaded);
            module.loader.shrink();
            // Held by who loads, not by who asked: that one may leave.
            drop(one);
        });
        let loaded = result.await.map_err(|_| lost())?;
        loaded.map_err(|error| match error.kind {
            Kind::Overloaded => error,
            // It was publishable, so this is not for whoever calls.
            _ => unloadable().caused_by(error),
        })
    }

    /// Loads it on this thread, and says how many places an instance takes. A call's turn to load comes along.
    fn load_now(self: &Arc<Self>, turn: Option<OwnedSemaphorePermit>) -> Result<(Arc<Loaded>, u32), Error> {
        let loader = &self.loader;
        let (loaded, places) = loader.make(&self.recipe, turn)?;
        let loaded = Arc::new(loaded);
        loader.metrics.module_loads.inc();
        let round = loader.round.fetch_add(1, Relaxed) + 1;
        self.used_in.store(round, Relaxed);
        let mut list = loader.list();
        if self.loaded.swap(Some(Arc::clone(&loaded))).is_none() {
            list.push(Arc::downgrade(self));
            loader.show(&list);
        }
        Ok((loaded, places))
    }
}

fn lost() -> Error {
    unloadable().internal("what loads it panicked")
}

fn unloadable() -> Error {
    Error::new(Kind::Internal, "the module cannot be loaded")
}

/// An instance takes as many places as the scarcest thing it needs, measured in what the pool has for each place.
fn places(needs: Option<&ResourcesRequired>) -> u32 {
    let Some(needs) = needs else { return PLACES_OF_UNKNOWN };
    let of = |count: u32, per_guest: u32| count.div_ceil(per_guest);
    of(needs.num_memories, MEMORIES_PER_GUEST).max(of(needs.num_tables, TABLES_PER_GUEST)).max(1)
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, time};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("a module that cannot be loaded", format!("is not tried again for {}", time(FAILED_FOR)));
    }
}
