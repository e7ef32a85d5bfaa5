//! Connections between two requests.
//!
//! A connection never changes its tenant, and was made under an allow-list that may since have changed; so each tenant has
//! a shelf of its own, and whoever takes a connection says whether its address may still be reached.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::Body;
use hyper::client::conn::http1::SendRequest;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::Origin;
use crate::body::Progress;

/// Lookups of one tenant at once. The system's resolver holds a thread for each, and all tenants share tokio's 512: a
/// tenant whose names are never answered must leave the others theirs.
const LOOKUPS_MAX: usize = 16;

/// How long a connection just given back may take to be ready. Its task needs one turn; if it needs more, the server has
/// not read all of the last request, and a new connection is quicker.
const READY_GRACE: Duration = Duration::from_millis(10);

/// How many connections are kept, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) idle_per_host_max: usize,
    pub(crate) idle_per_tenant_max: usize,
    pub(crate) idle_timeout: Duration,
}

/// Everything kept, by tenant.
#[derive(Debug)]
pub(crate) struct Pool {
    bounds: Bounds,
    tenants: Mutex<HashMap<Arc<str>, Arc<Shelf>>>,
    sweeping: AtomicBool,
}

/// What one tenant keeps.
#[derive(Debug)]
pub(crate) struct Shelf {
    bounds: Bounds,
    /// Oldest first.
    idle: Mutex<VecDeque<Idle>>,
    pub(crate) lookups: Arc<Semaphore>,
}

#[derive(Debug)]
struct Idle {
    origin: Arc<Origin>,
    since: Instant,
    connection: Connection,
}

/// A connection that serves one request at a time. Dropped, it closes at once, whatever its task was waiting for.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Body>,
    /// Where it really leads.
    pub(crate) address: SocketAddr,
    pub(crate) task: AbortHandle,
}

/// A connection in use, and the way back to its shelf.
pub(crate) struct Lease {
    pub(crate) pool: Arc<Pool>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) origin: Arc<Origin>,
    pub(crate) connection: Connection,
    /// None if the request had no stream to watch.
    pub(crate) progress: Option<Arc<Progress>>,
}

impl Pool {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, tenants: Mutex::default(), sweeping: AtomicBool::new(false) }
    }

    /// The shelf of a tenant.
    pub(crate) fn shelf(&self, tenant: &Arc<str>) -> Arc<Shelf> {
        let mut tenants = locked(&self.tenants);
        if let Some(shelf) = tenants.get(tenant) {
            return Arc::clone(shelf);
        }
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        let shelf = Arc::new(Shelf { bounds: self.bounds, idle: Mutex::default(), lookups });
        tenants.insert(Arc::clone(tenant), Arc::clone(&shelf));
        shelf
    }

    /// Closes what was idle for too long and forgets tenants without anything.
    fn sweep(&self) {
        locked(&self.tenants).retain(|_, shelf| {
            // Only this map hands out shelves, so one that nobody else holds stays that way under the lock.
            shelf.drop_expired() > 0 || Arc::strong_count(shelf) > 1
        });
    }

    /// Starts the task that sweeps, if none runs. It ends with the pool, or with the runtime it is on; then the next
    /// connection given back starts another.
    fn keep_swept(self: &Arc<Self>) {
        struct Sweeping(std::sync::Weak<Pool>);
        impl Drop for Sweeping {
            fn drop(&mut self) {
                if let Some(pool) = self.0.upgrade() {
                    pool.sweeping.store(false, Ordering::Release);
                }
            }
        }
        let Ok(runtime) = Handle::try_current() else { return };
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let guard = Sweeping(Arc::downgrade(self));
        let period = self.bounds.idle_timeout.max(Duration::from_millis(10)) / 2;
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(period).await;
                let Some(pool) = guard.0.upgrade() else { return };
                pool.sweep();
            }
        });
    }
}

impl Shelf {
    /// The connection for this origin that was used last, if its address is `allowed`.
    pub(crate) fn take(&self, origin: &Origin, allowed: impl Fn(SocketAddr) -> bool) -> Option<Connection> {
        let mut idle = locked(&self.idle);
        let fits = |kept: &Idle| {
            *kept.origin == *origin && kept.since.elapsed() < self.bounds.idle_timeout && allowed(kept.connection.address)
        };
        let at = idle.iter().rposition(fits)?;
        idle.remove(at).map(|kept| kept.connection)
    }

    fn put(&self, origin: Arc<Origin>, connection: Connection) {
        if connection.sender.is_closed() || self.bounds.idle_per_host_max == 0 || self.bounds.idle_per_tenant_max == 0 {
            return;
        }
        let mut idle = locked(&self.idle);
        idle.retain(|kept| !kept.connection.sender.is_closed());
        let same = || idle.iter().filter(|kept| kept.origin == origin);
        if same().count() >= self.bounds.idle_per_host_max {
            let oldest = idle.iter().position(|kept| kept.origin == origin);
            oldest.and_then(|at| idle.remove(at));
        }
        if idle.len() >= self.bounds.idle_per_tenant_max {
            idle.pop_front();
        }
        idle.push_back(Idle { origin, since: Instant::now(), connection });
    }

    /// Returns how many are left.
    fn drop_expired(&self) -> usize {
        let mut idle = locked(&self.idle);
        idle.retain(|kept| kept.since.elapsed() < self.bounds.idle_timeout && !kept.connection.sender.is_closed());
        idle.len()
    }
}

impl Connection {
    /// The connection, once it can take a request; none if it never will.
    pub(crate) async fn ready(mut self) -> Option<Self> {
        if self.sender.is_ready() {
            return Some(self);
        }
        let ready = tokio::time::timeout(READY_GRACE, self.sender.ready()).await;
        matches!(ready, Ok(Ok(()))).then_some(self)
    }
}

impl Drop for Connection {
    /// Without this the task of a connection to a server that does not read would outlive its request: it wants to say
    /// goodbye first.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lease {
    /// The response has ended. The connection is kept if the request has ended too.
    pub(crate) fn give_back(self) {
        if self.progress.is_none_or(|progress| progress.is_done()) {
            self.shelf.put(self.origin, self.connection);
            self.pool.keep_swept();
        }
    }
}

/// What is behind these locks is whole between any two statements, so a panic elsewhere does not spoil it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use base::tests_support::assert_documented;

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("lookups of one tenant at once", LOOKUPS_MAX);
    }
}
