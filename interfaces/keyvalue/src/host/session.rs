//! What one instance has open.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use guest::{Grant, State};
use wasmtime::component::{HasData, Resource, ResourceTable, ResourceTableError};

use super::{Backends, Configured, DEFAULT, SLOT};
use crate::{BATCH_BYTES_MAX, Bucket, Error, PAGE_KEYS_MAX, Page, Store};

/// Handles one instance may have open. Each is a few hundred bytes of the host's memory; nobody needs a hundred.
const HANDLES_MAX: usize = 1000;

/// Bytes that an instance's compare-and-swap handles may remember: as much as one batch.
const SEEN_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// Cursors kept for guests whose WIT has numbers for them: listings that run at the same time.
const CURSORS_MAX: usize = 64;

/// The session of one instance.
pub(super) struct KeyValueSession {
    backends: Arc<Backends>,
    grant: Arc<Grant>,
    handles: usize,
    seen_bytes: usize,
    cursors: VecDeque<String>,
    /// The number of the first of `cursors`.
    first_cursor: u64,
}

impl KeyValueSession {
    pub(super) fn new(backends: Arc<Backends>, grant: Arc<Grant>) -> Self {
        Self { backends, grant, handles: 0, seen_bytes: 0, cursors: VecDeque::new(), first_cursor: 0 }
    }
}

/// The session and the table its resources live in.
pub(super) struct View<'a> {
    session: &'a mut KeyValueSession,
    table: &'a mut ResourceTable,
}

/// [`View`] as wasmtime's bindings want it named.
pub(super) struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// Where wasmtime's bindings find their context.
pub(super) fn view(state: &mut State) -> View<'_> {
    let (session, table) = state.session(SLOT);
    View { session, table }
}

/// A failure on the way to a guest: something it is told, or the end of it.
#[expect(unreachable_pub, reason = "generated code names it")]
pub enum HostError {
    /// The store's answer.
    Store(Error),
    /// The guest wants more than an instance may have.
    Limit(&'static str),
    /// The guest used a handle it does not have.
    Trap(wasmtime::Error),
}

impl From<Error> for HostError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<ResourceTableError> for HostError {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

/// The `error` that all shapes have.
pub(super) enum Told {
    NoSuchStore,
    AccessDenied,
    Other(String),
}

/// What stands behind a bucket handle.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "generated code names it")]
pub struct Handle(Arc<Opened>);

struct Opened {
    store: Arc<dyn Store>,
    bucket: Bucket,
}

/// What stands behind a compare-and-swap handle.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "generated code names it")]
pub struct Cas {
    handle: Handle,
    key: String,
    seen: Option<Bytes>,
}

/// A binding on its way to become a handle.
pub(super) struct Opening {
    backend: Arc<Configured>,
    bucket: Bucket,
}

impl Opening {
    /// Connects the backend if nobody did.
    pub(super) async fn open(self) -> Result<Handle, HostError> {
        let store = Arc::clone(self.backend.store().await?);
        Ok(Handle(Arc::new(Opened { store, bucket: self.bucket })))
    }
}

impl View<'_> {
    /// The binding behind a name. A name that is not bound does not exist, whoever else may have it: that a backend is there
    /// for others is not the guest's business.
    pub(super) fn binding(&self, identifier: &str) -> Result<Opening, HostError> {
        let name = if identifier.is_empty() { DEFAULT } else { identifier };
        let grant = &self.session.grant;
        let backend = grant.bindings.get(name).and_then(|backend| self.session.backends.get(backend));
        let backend = Arc::clone(backend.ok_or(Error::NoSuchStore)?);
        Ok(Opening { backend, bucket: Bucket::new(Arc::clone(&grant.tenant), name) })
    }

    pub(super) fn push(&mut self, handle: Handle) -> Result<Resource<Handle>, HostError> {
        self.count()?;
        Ok(self.table.push(handle)?)
    }

    pub(super) fn handle(&self, handle: &Resource<Handle>) -> Result<Handle, HostError> {
        Ok(self.table.get(handle)?.clone())
    }

    pub(super) fn close(&mut self, handle: Resource<Handle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        self.session.handles -= 1;
        Ok(())
    }

    pub(super) fn push_cas(&mut self, cas: Cas) -> Result<Resource<Cas>, HostError> {
        let bytes = cas.bytes();
        if self.session.seen_bytes + bytes > SEEN_BYTES_MAX {
            return Err(HostError::Limit("too many values are held by cas handles"));
        }
        self.count()?;
        self.session.seen_bytes += bytes;
        Ok(self.table.push(cas)?)
    }

    pub(super) fn seen(&self, cas: &Resource<Cas>) -> Result<Option<Vec<u8>>, HostError> {
        Ok(self.table.get(cas)?.seen.clone().map(Vec::from))
    }

    pub(super) fn take_cas(&mut self, cas: Resource<Cas>) -> Result<Cas, HostError> {
        let cas = self.table.delete(cas)?;
        self.session.handles -= 1;
        self.session.seen_bytes -= cas.bytes();
        Ok(cas)
    }

    pub(super) fn close_cas(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        match self.take_cas(cas) {
            Err(HostError::Trap(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn count(&mut self) -> Result<(), HostError> {
        if self.session.handles >= HANDLES_MAX {
            return Err(HostError::Limit("too many buckets and cas handles are open"));
        }
        self.session.handles += 1;
        Ok(())
    }

    /// The number a guest gets for a cursor.
    pub(super) fn number_of(&mut self, cursor: String) -> u64 {
        let session = &mut *self.session;
        if session.cursors.len() == CURSORS_MAX {
            session.cursors.pop_front();
            session.first_cursor += 1;
        }
        session.cursors.push_back(cursor);
        session.first_cursor + session.cursors.len() as u64 - 1
    }

    /// The cursor behind a number.
    pub(super) fn cursor_of(&self, number: u64) -> Result<String, HostError> {
        let index = number.checked_sub(self.session.first_cursor).and_then(|index| usize::try_from(index).ok());
        let cursor = index.and_then(|index| self.session.cursors.get(index));
        Ok(cursor.cloned().ok_or(Error::InvalidCursor)?)
    }

    /// What the guest is told, and, if it is not its own fault, the log.
    pub(super) fn tell(&self, error: HostError) -> wasmtime::Result<Told> {
        match error {
            HostError::Trap(error) => Err(error),
            HostError::Limit(text) => Ok(Told::Other(text.to_owned())),
            HostError::Store(Error::NoSuchStore) => Ok(Told::NoSuchStore),
            HostError::Store(Error::AccessDenied) => Ok(Told::AccessDenied),
            HostError::Store(error) => {
                if let Error::Backend(source) = &error {
                    let Grant { tenant, app, module, .. } = &*self.session.grant;
                    tracing::warn!(%tenant, %app, %module, error = %chain(source.as_ref()), "a key-value store failed");
                }
                Ok(Told::Other(error.to_string()))
            }
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The contract with the types of the bindings.
impl Handle {
    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        Ok(self.0.store.get(&self.0.bucket, key).await?.map(Vec::from))
    }

    pub(super) async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), HostError> {
        Ok(self.0.store.set(&self.0.bucket, key, value.into()).await?)
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), HostError> {
        Ok(self.0.store.delete(&self.0.bucket, key).await?)
    }

    pub(super) async fn exists(&self, key: &str) -> Result<bool, HostError> {
        Ok(self.0.store.exists(&self.0.bucket, key).await?)
    }

    pub(super) async fn list_keys(&self, cursor: Option<&str>) -> Result<Page, HostError> {
        Ok(self.0.store.list_keys(&self.0.bucket, cursor, PAGE_KEYS_MAX).await?)
    }

    pub(super) async fn increment(&self, key: &str, delta: i64) -> Result<i64, HostError> {
        Ok(self.0.store.increment(&self.0.bucket, key, delta).await?)
    }

    pub(super) async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, HostError> {
        let values = self.0.store.get_many(&self.0.bucket, keys).await?;
        Ok(values.into_iter().map(|value| value.map(Vec::from)).collect())
    }

    pub(super) async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Result<(), HostError> {
        let pairs = pairs.into_iter().map(|(key, value)| (key, value.into())).collect();
        Ok(self.0.store.set_many(&self.0.bucket, pairs).await?)
    }

    pub(super) async fn delete_many(&self, keys: &[String]) -> Result<(), HostError> {
        Ok(self.0.store.delete_many(&self.0.bucket, keys).await?)
    }

    /// Remembers what is there now.
    pub(super) async fn look(self, key: String) -> Result<Cas, HostError> {
        let seen = self.0.store.get(&self.0.bucket, &key).await?;
        Ok(Cas { handle: self, key, seen })
    }
}

impl Cas {
    fn bytes(&self) -> usize {
        self.key.len() + self.seen.as_ref().map_or(0, Bytes::len)
    }

    /// Sets the value if it still is what was seen; otherwise returns what it is now.
    pub(super) async fn swap(self, value: Vec<u8>) -> Result<Option<Self>, HostError> {
        let Opened { store, bucket } = &*self.handle.0;
        if store.compare_and_swap(bucket, &self.key, self.seen.as_deref(), value.into()).await? {
            return Ok(None);
        }
        Ok(Some(self.handle.look(self.key).await?))
    }
}
