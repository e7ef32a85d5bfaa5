//! The `T` of every `Store<T>`.
//!
//! One concrete type, no generics and no `cfg` fields: wasmtime's bindings find their context by a plain function from
//! `&mut State`, and interfaces keep what they need in a session behind their slot.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::journal::{InFlight, Watched};
use base::{Call, Deadline, Input, ModuleVersion, RequestId, Slot as TenantSlot, Taken};
use http::HeaderValue;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::descriptors::Open;
use crate::ignis::Outside;
use crate::instance::{Equipment, MemoryLimit};
use crate::interface::{Session, Slot};
use crate::meter::Meter;
use crate::outbound::Outbound;
use crate::plugin::HostLog;
use crate::preview1::Preview1;
use crate::runtime::Core;

/// An admitted call without its input: shared by the guest, its reply and what runs it. The tenant's slot is free when the
/// last of them is gone.
pub(crate) struct Active {
    pub(crate) id: RequestId,
    pub(crate) module: Arc<ModuleVersion>,
    pub(crate) trace: Option<HeaderValue>,
    pub(crate) meter: Meter,
    pub(crate) memory_bytes: u64,
    pub(crate) core: Arc<Core>,
    pub(crate) equipment: Arc<Equipment>,
    /// None for an instance that serves several calls at once: they have theirs.
    root: Option<Arc<TenantSlot>>,
    settled: AtomicBool,
    _places: Taken,
    _in_flight: Option<InFlight>,
    /// Of an instance that serves several calls at once, which may run for none of them.
    watched: Option<Arc<Watched>>,
}

impl Active {
    /// What is left of a call when its input is taken out.
    pub(crate) fn of(call: Call, core: &Arc<Core>, equipment: &Arc<Equipment>) -> (Arc<Self>, Input) {
        let active = Self {
            meter: Meter::new(&call.deadline),
            id: call.id,
            module: call.module,
            trace: call.trace,
            memory_bytes: call.memory_bytes,
            core: Arc::clone(core),
            equipment: Arc::clone(equipment),
            root: Some(call.root),
            settled: AtomicBool::new(false),
            _places: call.places,
            _in_flight: call.in_flight,
            watched: None,
        };
        (Arc::new(active), call.input)
    }

    /// An instance's own account, where it serves several calls at once: like the call it is made for, but for what is that call's
    /// alone.
    pub(crate) fn of_instance(call: &Self) -> Arc<Self> {
        let now = Instant::now();
        let deadline = Deadline { admitted_at: now, wall_at: now, whole: false, cpu: call.module.limits.cpu };
        let meter = Meter::new(&deadline);
        // Its calls have deadlines.
        meter.set_wall_at(None);
        Arc::new(Self {
            meter,
            id: RequestId::next(),
            // Held by its version, it must not hold it.
            module: Arc::new(call.module.without_handler()),
            trace: None,
            memory_bytes: call.memory_bytes,
            core: Arc::clone(&call.core),
            equipment: Arc::clone(&call.equipment),
            root: None,
            settled: AtomicBool::new(false),
            _places: Taken::default(),
            _in_flight: None,
            watched: call.module.watched.clone(),
        })
    }

    /// Room in the pool for the call's instance beside its calls, if there is any.
    pub(crate) fn rest(&self) -> Option<OwnedSemaphorePermit> {
        let places = self.module.places.iter().sum();
        Arc::clone(&self.equipment.resting).try_acquire_many_owned(places).ok()
    }

    /// The guest is about to run: whoever watches the module knows, also where that is for no call.
    pub(crate) fn run(&self) -> Option<InFlight> {
        self.watched.as_ref().map(Watched::run)
    }

    /// The call is served by an instance that has lived so long.
    pub(crate) fn note_instance(&self, age: Duration) {
        if let Some(root) = &self.root {
            root.note_instance(age);
        }
    }

    /// The guest called the host.
    pub(crate) fn note_host_call(&self) {
        if let Some(root) = &self.root {
            root.note_host_call();
        }
    }

    /// So much of its memory limit is left to the call's instance.
    pub(crate) fn note_memory(&self, left: u64) {
        if let Some(root) = &self.root {
            root.note_memory(self.memory_bytes.saturating_sub(left));
        }
    }

    /// The guest has ended: what it computed counts for the request. Later steps of a chain have what is left.
    pub(crate) fn settle(&self) {
        if let Some(root) = self.root.as_ref().filter(|_| !self.settled.swap(true, Relaxed)) {
            root.add_computed(self.meter.cpu_used());
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.module.metrics.computed(self.meter.cpu_used());
    }
}

/// Whom an instance serves, for everything of it that must know: an instance may serve several calls, one after the other.
#[derive(Clone)]
pub(crate) struct Serving(Arc<Mutex<Option<Arc<Active>>>>);

impl Serving {
    pub(crate) fn new(active: &Arc<Active>) -> Self {
        Self(Arc::new(Mutex::new(Some(Arc::clone(active)))))
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Active>>> {
        // One assignment is all that happens under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call. Its instance must be running.
    ///
    /// # Panics
    ///
    /// Between two calls, when no guest runs.
    pub(crate) fn active(&self) -> Arc<Active> {
        self.current().clone().expect("a guest runs for a call")
    }

    /// The call's id; none between two calls, and where there may be several.
    pub(crate) fn id(&self) -> Option<RequestId> {
        self.current().as_ref().filter(|active| active.root.is_some()).map(|active| active.id)
    }

    /// The next call begins.
    fn begin(&self, active: &Arc<Active>) {
        *self.current() = Some(Arc::clone(active));
    }

    /// The call is over: what belongs to it, such as its tenant's place, is free, though the instance lives on.
    pub(crate) fn end(&self) -> Option<Arc<Active>> {
        self.current().take()
    }
}

/// What the host keeps for one instance.
pub struct State {
    pub(crate) serving: Serving,
    pub(crate) memory: MemoryLimit,
    pub(crate) world: World,
}

/// What the guest sees of the host, by what it is.
#[expect(clippy::large_enum_variant, reason = "it is moved once, into the store, and a box would be an allocation a call")]
pub(crate) enum World {
    Component(ComponentWorld),
    Core(CoreWorld),
}

/// The world of a component.
pub(crate) struct ComponentWorld {
    pub(crate) table: ResourceTable,
    /// Made when the guest first asks for something of it, unless that could fail: a lean one never does.
    pub(crate) wasi: Option<WasiCtx>,
    pub(crate) http: WasiHttpCtx,
    pub(crate) outbound: Outbound,
    pub(crate) open: Open,
    pub(crate) sessions: Vec<(Slot, Session)>,
}

/// The world of a core module.
pub(crate) struct CoreWorld {
    pub(crate) preview1: Preview1,
    pub(crate) log: HostLog,
    pub(crate) outside: Outside,
}

impl State {
    /// The call that is served.
    pub(crate) fn active(&self) -> Arc<Active> {
        self.serving.active()
    }

    /// Serves the next call: with a budget of its own, and what the instance has of memory and handles.
    pub(crate) fn serve(&mut self, active: &Arc<Active>) {
        self.serving.begin(active);
        self.component().outbound.renew(active);
    }

    /// The session of the interface with this slot, and the table its resources live in.
    ///
    /// # Panics
    ///
    /// If the interface was linked but not opened, or keeps another type: a mistake in the interface's crate.
    pub fn session<T: Any>(&mut self, slot: Slot) -> (&mut T, &mut ResourceTable) {
        let world = self.component();
        let session = world
            .sessions
            .iter_mut()
            .find(|(of, _)| *of == slot)
            .and_then(|(_, session)| session.downcast_mut())
            .expect("an interface that is linked is opened with its own session type");
        (session, &mut world.table)
    }

    pub(crate) fn component(&mut self) -> &mut ComponentWorld {
        match &mut self.world {
            World::Component(world) => world,
            World::Core(_) => unreachable!("what is linked to components is called by components"),
        }
    }

    pub(crate) fn core(&mut self) -> &mut CoreWorld {
        match &mut self.world {
            World::Core(world) => world,
            World::Component(_) => unreachable!("what is linked to core modules is called by core modules"),
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Self { serving, world: World::Component(world), .. } = self else { unreachable!("core modules have preview 1") };
        let ctx = world.wasi.get_or_insert_with(|| Equipment::wasi(&serving.active(), serving).build());
        WasiCtxView { ctx, table: &mut world.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let world = self.component();
        WasiHttpCtxView { hooks: &mut world.outbound, table: &mut world.table, ctx: &mut world.http }
    }
}
