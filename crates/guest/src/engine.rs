//! The two engines.
//!
//! Support for concurrent guests costs every host call of every guest, and only WASI 0.3 needs it; so there are two
//! engines, alike but for that, and the choice is made from the artifact before compiling (compiled code fits only one).
//! Both take instances from a pool: making a sandbox is then taking a slot, and dropping it is resetting the pages the
//! guest touched.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::LazyLock;

use base::{Digest, Error, Kind};
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
const SPARE_MAX: u32 = 64;

/// How many guests can live at once in each engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize {
    /// Instances at once. Each reserves 4 GiB of address space, of which x86-64 has 128 TiB.
    pub guests: u32,
    /// Sandboxes nobody uses that keep their memory, so that the next call finds it there: at most a few MiB each.
    pub warm: u32,
}

impl PoolSize {
    /// Places the gate may give away. The rest is for calls of calls, which do not wait for a place.
    pub fn places(self) -> u32 {
        self.guests.saturating_sub(SPARE_MAX.min(self.guests / 4)).max(1)
    }
}

impl Default for PoolSize {
    /// What this machine carries.
    fn default() -> Self {
        Machine::read().pool()
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
    /// The word in file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Concurrent => "concurrent",
        }
    }
}

/// Both engines.
pub(crate) struct Engines {
    plain: Made,
    concurrent: Made,
}

struct Made {
    engine: Engine,
    /// What code of it is for, beside the artifact: this engine of this wasmtime on this processor.
    suffix: String,
}

impl Engines {
    pub(crate) fn new(size: PoolSize) -> Result<Self, Error> {
        let scan = Machine::read().scans_pages();
        Ok(Self { plain: made(size, EngineKind::Plain, scan)?, concurrent: made(size, EngineKind::Concurrent, scan)? })
    }

    pub(crate) fn get(&self, kind: EngineKind) -> &Engine {
        &self.made(kind).engine
    }

    pub(crate) fn all(&self) -> Vec<Engine> {
        vec![self.plain.engine.clone(), self.concurrent.engine.clone()]
    }

    /// What compiled code of an artifact is called: what it is for.
    pub(crate) fn name_of_code(&self, kind: EngineKind, artifact: &Digest) -> String {
        format!("{artifact}-{}", self.made(kind).suffix)
    }

    fn made(&self, kind: EngineKind) -> &Made {
        match kind {
            EngineKind::Plain => &self.plain,
            EngineKind::Concurrent => &self.concurrent,
        }
    }
}

fn made(size: PoolSize, kind: EngineKind, scan: bool) -> Result<Made, Error> {
    let engine = engine(size, kind, scan)?;
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    Ok(Made { suffix: format!("{}-{:016x}", kind.name(), hasher.finish()), engine })
}

fn engine(size: PoolSize, kind: EngineKind, scan: bool) -> Result<Engine, Error> {
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
        .cranelift_opt_level(OptLevel::Speed)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(size, scan)));
    Engine::new(&config)
        .map_err(|error| Error::new(Kind::Internal, "the WebAssembly engine cannot start").caused_by(error.to_string()))
}

fn pool(size: PoolSize, scan: bool) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(size.guests)
        // A mere count: it reserves nothing, and so need never be the scarcest.
        .total_core_instances(size.guests * CORE_INSTANCES_MAX)
        .total_memories(size.guests * MEMORIES_PER_GUEST)
        .total_tables(size.guests * TABLES_PER_GUEST)
        .total_stacks(size.guests)
        .max_memory_size(MEMORY_BYTES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_unused_warm_slots(size.warm)
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
