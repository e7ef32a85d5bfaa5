//! The `T` of every `Store<T>`.
//!
//! One concrete type, no generics and no `cfg` fields: wasmtime's bindings find their context by a plain function from
//! `&mut State`, and interfaces keep what they need in a session behind their slot.

use std::any::Any;
use std::sync::Arc;

use base::{ModuleVersion, RequestId, Slot as TenantSlot};
use http::HeaderValue;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::instance::{Equipment, MemoryLimit};
use crate::interface::{Session, Slot};
use crate::meter::Meter;
use crate::outbound::Outbound;
use crate::runtime::Core;

/// An admitted call without its input: shared by the guest, its reply and what runs it. The tenant's slot is free when the
/// last of them is gone.
pub(crate) struct Active {
    pub(crate) id: RequestId,
    pub(crate) module: Arc<ModuleVersion>,
    pub(crate) trace: Option<HeaderValue>,
    pub(crate) meter: Meter,
    pub(crate) core: Arc<Core>,
    pub(crate) equipment: Arc<Equipment>,
    pub(crate) _root: Arc<TenantSlot>,
    pub(crate) _place: Option<OwnedSemaphorePermit>,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.module.metrics.computed(self.meter.cpu_used());
    }
}

/// What the host keeps for one instance.
pub struct State {
    pub(crate) active: Arc<Active>,
    pub(crate) table: ResourceTable,
    pub(crate) wasi: WasiCtx,
    pub(crate) http: WasiHttpCtx,
    pub(crate) outbound: Outbound,
    pub(crate) memory: MemoryLimit,
    pub(crate) sessions: Vec<(Slot, Session)>,
}

impl State {
    /// The session of the interface with this slot, and the table its resources live in.
    ///
    /// # Panics
    ///
    /// If the interface was linked but not opened, or keeps another type: a mistake in the interface's crate.
    pub fn session<T: Any>(&mut self, slot: Slot) -> (&mut T, &mut ResourceTable) {
        let session = self
            .sessions
            .iter_mut()
            .find(|(of, _)| *of == slot)
            .and_then(|(_, session)| session.downcast_mut())
            .expect("an interface that is linked is opened with its own session type");
        (session, &mut self.table)
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outbound, table: &mut self.table, ctx: &mut self.http }
    }
}
