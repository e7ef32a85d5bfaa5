//! The ways an artifact can be called, one file each.

pub(crate) mod http;
mod process;
mod run;

use std::sync::Arc;

use base::{BoxFuture, Entry, Error, Handler, Kind, Reply};
use wasmtime::component;

use crate::instance::Equipment;
use crate::runtime::Core;
use crate::state::State;

/// What an entry is prepared from.
pub(crate) enum Linked {
    Component(component::InstancePre<State>),
    Core(wasmtime::InstancePre<State>),
}

type Prepare = fn(&Linked, &Arc<Equipment>, &Arc<Core>) -> Result<Arc<dyn Handler>, Error>;

/// An entry as it is found and prepared.
pub(crate) struct EntryType {
    pub(crate) entry: Entry,
    /// Beginnings of the names of a component's exports that mean this entry.
    pub(crate) exports: &'static [&'static str],
    /// Names of a core module's exported functions that do.
    pub(crate) core_exports: &'static [&'static str],
    /// Makes the handler; none for an entry that is recorded but that no trigger of this server calls.
    pub(crate) prepare: Option<Prepare>,
}

impl EntryType {
    const fn uncalled(entry: Entry, exports: &'static [&'static str]) -> Self {
        Self { entry, exports, core_exports: &[], prepare: None }
    }
}

/// Every entry.
pub(crate) const ENTRIES: &[EntryType] = &[
    http::TYPE,
    EntryType::uncalled(Entry::Message, &["wasi:messaging/incoming-handler@"]),
    EntryType::uncalled(Entry::Websocket, &["wasi:websocket/handler@", "omnia:websocket/handler@"]),
    EntryType::uncalled(Entry::Watch, &["wasi:keyvalue/watcher@"]),
    run::TYPE,
    process::TYPE,
];

/// A trigger gave an entry what it does not take.
fn wrong_input(entry: Entry) -> BoxFuture<Result<Reply, Error>> {
    let error = Error::new(Kind::Internal, "the module cannot be called in this way");
    Box::pin(std::future::ready(Err(error.internal(format!("the entry `{entry}` got another's input")))))
}
