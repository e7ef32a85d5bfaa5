//! The `T` of every `Store<T>`.
//!
//! One concrete type, no generics and no `cfg` fields: wasmtime's bindings find their context by a plain function from
//! `&mut State`, and interfaces keep what they need in a session behind their slot.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use base::{Call, Input, ModuleVersion, RequestId, Slot as TenantSlot, Taken};
use http::HeaderValue;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

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
    root: Arc<TenantSlot>,
    settled: AtomicBool,
    _places: Taken,
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
            root: call.root,
            settled: AtomicBool::new(false),
            _places: call.places,
        };
        (Arc::new(active), call.input)
    }

    /// The guest has ended: what it computed counts for the request. Later steps of a chain have what is left.
    pub(crate) fn settle(&self) {
        if !self.settled.swap(true, Relaxed) {
            self.root.add_computed(self.meter.cpu_used());
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.module.metrics.computed(self.meter.cpu_used());
    }
}

/// What the host keeps for one instance.
pub struct State {
    pub(crate) active: Arc<Active>,
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
    pub(crate) wasi: WasiCtx,
    pub(crate) http: WasiHttpCtx,
    pub(crate) outbound: Outbound,
    pub(crate) sessions: Vec<(Slot, Session)>,
}

/// The world of a core module.
pub(crate) struct CoreWorld {
    pub(crate) preview1: Preview1,
    pub(crate) log: HostLog,
    pub(crate) outside: Outside,
}

impl State {
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
        let world = self.component();
        WasiCtxView { ctx: &mut world.wasi, table: &mut world.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let world = self.component();
        WasiHttpCtxView { hooks: &mut world.outbound, table: &mut world.table, ctx: &mut world.http }
    }
}
