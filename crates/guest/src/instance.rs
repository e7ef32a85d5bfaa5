//! A sandbox for one call: store, limits, and what the guest is given.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use base::{Secret, Tenant};
use tokio::sync::Semaphore;
use wasmtime::{CallHook, Engine, ResourceLimiter, Store, StoreContextMut, UpdateDeadline};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};
use wasmtime_wasi_http::WasiHttpCtx;

use crate::descriptors::Open;
use crate::ignis::Outside;
use crate::interface::Granted;
use crate::logs::LogStream;
use crate::meter::Meter;
use crate::outbound::Outbound;
use crate::plugin::HostLog;
use crate::preview1::{Preopen, Preview1};
use crate::program::Program;
use crate::reuse::Reuse;
use crate::runtime::Directory;
use crate::state::{Active, ComponentWorld, CoreWorld, Serving, State, World};

/// What every instance of one prepared module is given.
pub(crate) struct Equipment {
    /// The module's, for its log lines.
    pub(crate) name: Arc<str>,
    pub(crate) engine: Engine,
    pub(crate) env: Vec<(String, Secret)>,
    pub(crate) args: Vec<String>,
    pub(crate) input_at_zero: bool,
    pub(crate) dirs: Vec<Directory>,
    /// The same, opened, where it is a core module.
    pub(crate) preopens: Vec<Preopen>,
    pub(crate) policy: egress::Policy,
    pub(crate) interfaces: Granted,
    pub(crate) reuse: Reuse,
    /// Room in the engine's pool for instances that wait for another call.
    pub(crate) resting: Arc<Semaphore>,
    pub(crate) habit: Habit,
}

/// How long calls of a module that kept computing make its next ones begin on a runner.
const HABIT_MS: u64 = 100;

/// Guests of a module that compute and wait for a turn of a core; the next call is refused. All calls of a tenant at once, each with a share of
/// the cores, would all be answered too late. With so many, one that computes for 50 ms is answered after some seconds on an
/// ordinary machine, and two hundred that never end are still let in, and ended in time.
const CROWD_MIN: usize = 256;

/// The same for each core of a machine with more than two.
const CROWD_PER_CORE: usize = 128;

/// What the calls of a module lately did. When one kept computing, the next are likely to, and a crowd of them would hold a
/// connection's thread for a tick or two each: they begin where such guests end up.
#[derive(Debug)]
pub(crate) struct Habit {
    born: Instant,
    /// When a call was last moved, in milliseconds since `born`; 0 for never.
    moved_at_ms: AtomicU64,
    /// Guests that compute and wait for their turn on a runner.
    waiting: AtomicU32,
}

impl Habit {
    pub(crate) fn new() -> Self {
        Self { born: Instant::now(), moved_at_ms: AtomicU64::new(0), waiting: AtomicU32::new(0) }
    }

    /// A call of the module was moved.
    pub(crate) fn note(&self) {
        self.moved_at_ms.store(self.now_ms().max(1), Relaxed);
    }

    /// Whether one was moved lately. Costs a load for a module none of whose calls ever was.
    pub(crate) fn is_computing(&self) -> bool {
        match self.moved_at_ms.load(Relaxed) {
            0 => false,
            at_ms => self.now_ms() < at_ms + HABIT_MS,
        }
    }

    /// A guest that computes waits for a turn.
    pub(crate) fn wait(&self) {
        self.waiting.fetch_add(1, Relaxed);
    }

    /// It does no longer.
    pub(crate) fn end_wait(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }

    /// Whether so many wait that one more would be answered too late.
    pub(crate) fn is_crowded(&self, cores: usize) -> bool {
        self.waiting.load(Relaxed) as usize >= CROWD_MIN.max(cores * CROWD_PER_CORE)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Marks an error of the host, not of the guest.
#[derive(Debug)]
pub(crate) struct HostFailure;

impl fmt::Display for HostFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sandbox cannot be made")
    }
}

impl Equipment {
    /// Makes the store for one call of a component; `program` where it is started as one. What goes wrong here is not the
    /// guest's fault, and its error says so.
    pub(crate) fn component_store(&self, active: &Arc<Active>, program: Option<&Program>) -> wasmtime::Result<Store<State>> {
        self.component_store_by_host(active, program).map_err(|error| error.context(HostFailure))
    }

    fn component_store_by_host(&self, active: &Arc<Active>, program: Option<&Program>) -> wasmtime::Result<Store<State>> {
        let mut table = wasmtime::component::ResourceTable::new();
        let limits = &active.module.limits;
        table.set_max_capacity(limits.resources as usize);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits.fields_bytes as usize);
        let serving = Serving::new(active);
        let world = ComponentWorld {
            table,
            wasi: self.eager_wasi(active, &serving, program)?,
            http,
            outbound: Outbound::new(active, &serving, self.policy.clone()),
            open: Open::default(),
            sessions: self.interfaces.iter().map(|(interface, grant)| (interface.slot(), interface.open(grant))).collect(),
        };
        let mut store = self.store(active, serving, World::Component(world))?;
        store.set_hostcall_fuel(limits.host_call_bytes as usize);
        store.set_max_component_handles(limits.handles as usize);
        Ok(store)
    }

    /// Makes the store for one call of a core module; without `program` for one that imports nothing of WASI.
    pub(crate) fn core_store(&self, active: &Arc<Active>, program: Option<Program>) -> wasmtime::Result<Store<State>> {
        let serving = Serving::new(active);
        let new = |program| Preview1::new(program, &self.preopens, &active.equipment, &serving);
        let preview1 = program.map_or_else(Preview1::default, new);
        let world = CoreWorld { preview1, log: HostLog::new(active), outside: Outside::new(active) };
        self.store(active, serving, World::Core(world))
    }

    fn store(&self, active: &Active, serving: Serving, world: World) -> wasmtime::Result<Store<State>> {
        let memory = MemoryLimit {
            serving: serving.clone(),
            left: active.memory_bytes,
            free: active.core.free_memory_bytes,
            charged: None,
        };
        let mut store = Store::try_new(&self.engine, State { serving, memory, world })?;
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(at_epoch);
        if active.module.evidence {
            store.call_hook(|context, hook| {
                if matches!(hook, CallHook::CallingHost) {
                    context.data().active().note_host_call();
                }
                Ok(())
            });
        }
        Ok(store)
    }

    /// What can fail, and what a program is started with.
    fn eager_wasi(&self, active: &Active, serving: &Serving, program: Option<&Program>) -> wasmtime::Result<Option<WasiCtx>> {
        if program.is_none() && self.dirs.is_empty() {
            return Ok(None);
        }
        let mut wasi = match program {
            Some(program) => {
                let mut wasi = wasi_builder(active);
                program.equip(&mut wasi, &active.equipment, serving);
                wasi
            }
            None => Self::wasi(active, serving),
        };
        for dir in &self.dirs {
            let perms = if dir.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            wasi.preopened_dir(&dir.host, &dir.guest, perms)?;
        }
        Ok(Some(wasi.build()))
    }

    /// What a guest gets of wasi:cli and the like that is no program.
    pub(crate) fn wasi(active: &Active, serving: &Serving) -> WasiCtxBuilder {
        let (mut wasi, equipment) = (wasi_builder(active), &active.equipment);
        let log = |stream| LogStream::new(equipment, serving, stream);
        wasi.stdout(log("stdout")).stderr(log("stderr"));
        if !equipment.env.is_empty() {
            wasi.envs(&equipment.env);
        }
        if !equipment.args.is_empty() {
            wasi.args(&equipment.args);
        }
        wasi
    }
}

fn wasi_builder(active: &Active) -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    // A socket that may go nowhere is a descriptor of the process all the same.
    wasi.max_random_size(active.module.limits.random_bytes.into()).allow_tcp(false).allow_udp(false);
    wasi
}

/// Called inside the guest when a tick has passed: stops it, or takes the core from it.
fn at_epoch(context: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    let active = context.data().active();
    let meter: &Meter = &active.meter;
    active.core.ticker.touch();
    Ok(if meter.must_stop_inside() {
        UpdateDeadline::Interrupt
    } else if meter.shall_yield() {
        UpdateDeadline::Yield(1)
    } else {
        UpdateDeadline::Continue(1)
    })
}

/// Bounds linear memory and tables of one instance together, and those of all instances of a tenant.
pub(crate) struct MemoryLimit {
    serving: Serving,
    left: u64,
    /// What of it is not counted for the tenant.
    free: u64,
    charged: Option<Charged>,
}

/// Memory of an instance that its tenant has the less of, until this is dropped.
struct Charged {
    tenant: Arc<Tenant>,
    bytes: u64,
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.tenant.memory.give(self.bytes);
    }
}

impl MemoryLimit {
    /// Tells a call what its instance has.
    pub(crate) fn note(&self, active: &Active) {
        active.note_memory(self.left);
    }

    fn take(&mut self, bytes: u64) -> bool {
        let active = self.serving.active();
        let own = self.left.checked_sub(bytes);
        let left = own.filter(|_| self.charge(bytes, &active.module.tenant));
        active.meter.note_memory_denied(left.is_none());
        active.meter.note_memory_short(left.is_none() && own.is_some());
        self.left = left.unwrap_or(self.left);
        self.note(&active);
        left.is_some()
    }

    fn charge(&mut self, bytes: u64, tenant: &Arc<Tenant>) -> bool {
        let counted = bytes.saturating_sub(self.free);
        if counted > 0 {
            if !tenant.memory.take(counted) {
                return false;
            }
            self.charged.get_or_insert_with(|| Charged { tenant: Arc::clone(tenant), bytes: 0 }).bytes += counted;
        }
        self.free = self.free.saturating_sub(bytes);
        true
    }
}

/// The module's own maximum is checked after the limit is asked; what it refuses shall not be charged.
fn fails_anyway(desired: usize, maximum: Option<usize>) -> bool {
    maximum.is_some_and(|maximum| desired > maximum)
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(fails_anyway(desired, maximum) || self.take((desired - current) as u64))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(fails_anyway(desired, maximum) || self.take(((desired - current) * size_of::<usize>()) as u64))
    }
}
