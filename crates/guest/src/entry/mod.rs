//! The ways a component can be called, one file each.

mod http;

use std::sync::Arc;

use base::{Entry, Error, Handler};
use wasmtime::component::InstancePre;

use crate::instance::Equipment;
use crate::runtime::Core;
use crate::state::State;

type Prepare = fn(&InstancePre<State>, &Arc<Equipment>, &Arc<Core>) -> Result<Arc<dyn Handler>, Error>;

/// An entry as it is found and prepared.
pub(crate) struct EntryType {
    pub(crate) entry: Entry,
    /// Beginnings of the names of exports that mean this entry.
    pub(crate) exports: &'static [&'static str],
    /// Makes the handler; none for an entry that is recorded but that no trigger of this server calls.
    pub(crate) prepare: Option<Prepare>,
}

/// Every entry.
pub(crate) const ENTRIES: &[EntryType] = &[
    http::TYPE,
    EntryType { entry: Entry::Message, exports: &["wasi:messaging/incoming-handler@"], prepare: None },
    EntryType { entry: Entry::Websocket, exports: &["wasi:websocket/handler@", "omnia:websocket/handler@"], prepare: None },
    EntryType { entry: Entry::Watch, exports: &["wasi:keyvalue/watcher@"], prepare: None },
    EntryType { entry: Entry::Run, exports: &["wasi:cli/run@0.2.", "wasi:cli/run@0.3."], prepare: None },
];
