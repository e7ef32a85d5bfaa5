//! The two engines.
//!
//! Support for concurrent guests costs every host call of every guest, and only WASI 0.3 needs it; so there are two
//! engines, alike but for that, and the choice is made from the artifact before compiling (compiled code fits only one).
//! Both take instances from a pool: making a sandbox is then taking a slot, and dropping it is resetting the pages the
//! guest touched.
//!
//! A pool takes mappings when it is made, a process has only so many, and most servers have guests of one generation. So an
//! engine is made when its first module is published: alone it has nearly all there is, two that are made together share it, and
//! one that comes later has what was left aside for it.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use base::{Digest, Error, Kind, POOLS, Places};
use tokio::sync::Semaphore;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::machine::Machine;

/// Wasm stack of a guest: deep recursion of ordinary programs fits, and the rest of the fibre is left to the host.
const WASM_STACK_BYTES: usize = 512 << 10;

/// A fibre's whole stack: the guest's part plus what host functions need.
const FIBER_STACK_BYTES: usize = 2 << 20;

/// The largest linear memory any module may be given; the cap of the memory limit.
const MEMORY_BYTES_MAX: usize = 1 << 30;

/// Reset in place instead of given back to the kernel, where the kernel can say which pages are dirty.
pub(crate) const KEEP_RESIDENT_SCANNED_BYTES: usize = 4 << 20;

/// The same where every byte must be cleared by hand: little, since clearing costs more than a fault at some point.
pub(crate) const KEEP_RESIDENT_CLEARED_BYTES: usize = 256 << 10;

/// Elements of one table: the largest programs of today have some tens of thousands of function pointers.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// What the pool has for each place of the gate. A component made by usual tools has one memory and two tables; one that
/// needs more takes more places.
pub(crate) const TABLES_PER_GUEST: u32 = 3;
pub(crate) const MEMORIES_PER_GUEST: u32 = 1;

/// What one component may have at most.
const CORE_INSTANCES_MAX: u32 = 20;
const MEMORIES_MAX: u32 = 4;
const TABLES_MAX: u32 = 8;

/// For a component that does not say what it needs: as much as any may have.
pub(crate) const PLACES_OF_UNKNOWN: u32 = MEMORIES_MAX;

/// Instances kept for calls of calls: a quarter of a small pool.
pub(crate) const SPARE_MAX: u32 = 64;

/// Instances left aside for an engine that is made later: a quarter of a small pool.
pub(crate) const LATE_MAX: u32 = 64;

/// Instances that wait for another call: an eighth of a small pool.
pub(crate) const RESTING_MAX: u32 = 96;

/// How many guests can live at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize {
    /// Instances at once, in both engines together. Each reserves 4 GiB of address space, of which x86-64 has 128 TiB.
    pub guests: u32,
    /// Instances at once in one engine, at most.
    pub each: u32,
    /// Sandboxes nobody uses that keep their memory, so that the next call finds it there: at most a few MiB each, and so many in
    /// each engine.
    pub warm: u32,
}

impl PoolSize {
    /// As many in each engine, whatever the machine carries; all of them may be kept warm.
    pub fn of(each: u32) -> Self {
        Self { guests: each.saturating_mul(2), each, warm: each }
    }

    /// Calls at once of a server all of whose guests are of one generation.
    pub fn places_alone(self) -> u32 {
        places_of(self.alone())
    }

    /// Calls at once of each generation, where a server starts with guests of both.
    pub fn places_each(self) -> u32 {
        places_of(self.half())
    }

    fn alone(self) -> u32 {
        self.each.min(self.guests.saturating_sub(LATE_MAX.min(self.guests / 4))).max(1)
    }

    fn half(self) -> u32 {
        self.each.min(self.guests / 2).max(1)
    }

    /// Beside an engine of so many.
    fn late(self, other: u32) -> u32 {
        self.each.min(self.guests.saturating_sub(other)).max(PLACES_OF_UNKNOWN)
    }
}

/// Places the gate may give away. The rest is for calls of calls, which do not wait for a place, and for instances that wait for
/// another call.
fn places_of(guests: u32) -> u32 {
    guests.saturating_sub(SPARE_MAX.min(guests / 4) + resting_of(guests)).max(1)
}

/// Instances that may wait for another call.
fn resting_of(guests: u32) -> u32 {
    RESTING_MAX.min(guests / 8)
}

impl Default for PoolSize {
    /// What this machine carries, for one of several servers in a process.
    fn default() -> Self {
        Machine::read().pool_of_several()
    }
}

/// Which engine an artifact needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum EngineKind {
    /// Everything without component-model async.
    Plain,
    /// WASI 0.3 and other async types.
    Concurrent,
}

impl EngineKind {
    /// The pool its guests come from.
    pub(crate) fn pool(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Concurrent => 1,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Plain => Self::Concurrent,
            Self::Concurrent => Self::Plain,
        }
    }

    /// The one that has this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::Concurrent].into_iter().find(|kind| kind.name() == name)
    }

    /// The word in file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Concurrent => "concurrent",
        }
    }
}

/// Both engines, once they are needed.
pub(crate) struct Engines {
    size: PoolSize,
    scan: bool,
    made: [OnceLock<Made>; POOLS],
    /// Held by who makes one.
    making: Mutex<()>,
}

struct Made {
    engine: Engine,
    guests: u32,
    resting: Arc<Semaphore>,
    /// As [`purpose`] says.
    purpose: String,
}

impl Engines {
    pub(crate) fn new(size: PoolSize, page_scan: bool) -> Self {
        let scan = page_scan && Machine::read().scans_pages();
        Self { size, scan, made: Default::default(), making: Mutex::default() }
    }

    /// Makes the engines for guests of these kinds, unless they are there.
    pub(crate) fn expect(&self, kinds: &BTreeSet<EngineKind>) -> Result<(), Error> {
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let guests = |kind: EngineKind| self.made[kind.pool()].get().map(|made| made.guests);
        let plan = |kind: EngineKind| match guests(kind.other()) {
            Some(other) => self.size.late(other),
            None if kinds.contains(&kind.other()) => self.size.half(),
            None => self.size.alone(),
        };
        let missing = kinds.iter().filter(|kind| guests(**kind).is_none());
        // All of them before one is made.
        let missing: Vec<_> = missing.map(|kind| (*kind, plan(*kind))).collect();
        for (kind, guests) in missing {
            if self.made[kind.other().pool()].get().is_some_and(|other| guests < other.guests) {
                let places = places_of(guests);
                tracing::warn!(
                    places,
                    "guests of another generation than those at the start have few places until the next start"
                );
            }
            let made = made(kind, guests, self.size.warm.min(guests), self.scan)?;
            let _ = self.made[kind.pool()].set(made);
        }
        Ok(())
    }

    /// Places of the engines that are there.
    pub(crate) fn places(&self) -> Places {
        std::array::from_fn(|pool| self.made[pool].get().map_or(0, |made| places_of(made.guests)))
    }

    pub(crate) fn get(&self, kind: EngineKind) -> Result<&Engine, Error> {
        self.made(kind).map(|made| &made.engine)
    }

    /// Room for instances that wait for another call, by pool.
    pub(crate) fn resting(&self, kind: EngineKind) -> Result<Arc<Semaphore>, Error> {
        self.made(kind).map(|made| Arc::clone(&made.resting))
    }

    /// What code of an engine is for, beside the artifact.
    pub(crate) fn purpose(&self, kind: EngineKind) -> Result<&str, Error> {
        self.made(kind).map(|made| made.purpose.as_str())
    }

    /// What compiled code of an artifact is called: what it is for.
    pub(crate) fn name_of_code(&self, kind: EngineKind, artifact: &Digest) -> Result<String, Error> {
        self.made(kind).map(|made| format!("{artifact}-{}", made.purpose))
    }

    pub(crate) fn increment_epoch(&self) {
        self.made.iter().filter_map(OnceLock::get).for_each(|made| made.engine.increment_epoch());
    }

    fn made(&self, kind: EngineKind) -> Result<&Made, Error> {
        if let Some(made) = self.made[kind.pool()].get() {
            return Ok(made);
        }
        self.expect(&BTreeSet::from([kind]))?;
        self.made[kind.pool()].get().ok_or_else(|| Error::new(Kind::Internal, "the WebAssembly engine is not there"))
    }
}

fn made(kind: EngineKind, guests: u32, warm: u32, scan: bool) -> Result<Made, Error> {
    let mut config = config(kind);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(guests, warm, scan)));
    let engine = started(&config)?;
    let resting = Arc::new(Semaphore::new(resting_of(guests) as usize));
    Ok(Made { purpose: purpose(kind, &engine), engine, guests, resting })
}

/// An engine for compiling alone: without a pool, which takes more address space than a process that compiles may have.
pub(crate) fn for_compiling(kind: EngineKind, is_parallel: bool) -> Result<Engine, Error> {
    started(config(kind).parallel_compilation(is_parallel))
}

/// What code of an engine is for, beside the artifact: guests of this kind, in this wasmtime, on this processor.
pub(crate) fn purpose(kind: EngineKind, engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{}-{:016x}", kind.name(), hasher.finish())
}

fn started(config: &Config) -> Result<Engine, Error> {
    Engine::new(config)
        .map_err(|error| Error::new(Kind::Internal, "the WebAssembly engine cannot start").caused_by(error.to_string()))
}

/// All of it decides what compiled code is like, or whether it can be loaded.
fn config(kind: EngineKind) -> Config {
    let concurrent = kind == EngineKind::Concurrent;
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_component_model_async(concurrent)
        .concurrency_support(concurrent)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .memory_may_move(false)
        .native_unwind_info(false)
        .cranelift_opt_level(OptLevel::Speed);
    config
}

fn pool(guests: u32, warm: u32, scan: bool) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        // A mere count: it reserves nothing, and so need never be the scarcest.
        .total_core_instances(guests * CORE_INSTANCES_MAX)
        .total_memories(guests * MEMORIES_PER_GUEST)
        .total_tables(guests * TABLES_PER_GUEST)
        .total_stacks(guests)
        .max_memory_size(MEMORY_BYTES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_unused_warm_slots(warm)
        .decommit_batch_size(1)
        .table_keep_resident(64 << 10);
    pool.pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
    pool.linear_memory_keep_resident(if scan { KEEP_RESIDENT_SCANNED_BYTES } else { KEEP_RESIDENT_CLEARED_BYTES });
    pool
}

/// Whether the kernel has what wasmtime asks of it, which does not change.
pub(crate) fn pagemap_scan_is_available() -> bool {
    static IS_AVAILABLE: LazyLock<bool> = LazyLock::new(|| {
        let mut probe = PoolingAllocationConfig::new();
        probe.pagemap_scan(Enabled::Yes).total_memories(1).total_tables(1).total_stacks(1).total_core_instances(1);
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(probe));
        Engine::new(&config).is_ok()
    });
    *IS_AVAILABLE
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, number, size};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("wasm stack", format!("{}, within a stack of {}", size(WASM_STACK_BYTES), size(FIBER_STACK_BYTES)));
        assert_documented("elements of one table", number(TABLE_ELEMENTS_MAX));
        let parts = format!("{CORE_INSTANCES_MAX}; {MEMORIES_MAX} and {TABLES_MAX}");
        assert_documented("core instances of one component; memories and tables of an artifact", parts);
    }
}
