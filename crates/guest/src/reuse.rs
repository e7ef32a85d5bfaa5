//! Instances that serve one call after the other, where a module asks for it.
//!
//! Goals in tension: an instance that has started and grown its memory answers the next call for less, and a guest keeps from one
//! call to the next what the first client made it write. So a fresh instance is what a module has unless it says otherwise; what is
//! kept never serves another module, nor another version of it; only a call that ended well leaves its instance behind; and how many
//! calls it serves and how long it waits for the next are bounded.
//!
//! An instance that waits takes room in the pool that no call pays for. Each pool has some that the gate does not give away
//! ([`PoolSize`](crate::PoolSize)); where that is taken, an instance ends with its call.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use base::{Body, BodyError};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

use crate::runtime::Core;
use crate::state::{Active, State};

/// How many calls an instance serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reuse {
    /// One.
    #[default]
    Fresh,
    /// Several, one after the other.
    Serial(Lifetime),
    /// Several at the same time, as guests of WASI 0.3 can.
    Concurrent {
        /// Within these bounds.
        lifetime: Lifetime,
        /// Calls at once, at most.
        at_once_max: u32,
    },
}

/// How long an instance lives that serves several calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lifetime {
    /// Until it has served so many.
    pub calls_max: u32,
    /// Until it has waited so long for the next.
    pub idle: Duration,
}

/// The instances of one entry of one module version that wait for a call.
pub(crate) struct Idle<T> {
    lifetime: Lifetime,
    core: Arc<Core>,
    resting: Mutex<Resting<T>>,
}

struct Resting<T> {
    /// Who waits longest is first.
    instances: Vec<(Instant, Kept<T>, OwnedSemaphorePermit)>,
    /// Whether somebody comes to end those that have waited too long.
    watched: bool,
}

/// An instance between its calls, with what is called of it.
pub(crate) struct Kept<T> {
    pub(crate) store: Store<State>,
    pub(crate) callee: T,
    born: Instant,
    served: u32,
    memory_bytes: u64,
    home: Weak<Idle<T>>,
}

impl<T: Send + 'static> Idle<T> {
    pub(crate) fn new(lifetime: Lifetime, core: &Arc<Core>) -> Arc<Self> {
        let resting = Mutex::new(Resting { instances: Vec::new(), watched: false });
        Arc::new(Self { lifetime, core: Arc::clone(core), resting })
    }

    fn resting(&self) -> MutexGuard<'_, Resting<T>> {
        // What is done under the lock does not panic half-way.
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instance that was used last, if one has the limits of this call.
    pub(crate) fn take(&self, active: &Arc<Active>) -> Option<Kept<T>> {
        let (_, mut kept, _place) = {
            let mut resting = self.resting();
            let fits = |(_, kept, _): &(_, Kept<T>, _)| kept.memory_bytes == active.memory_bytes;
            let at = resting.instances.iter().rposition(fits)?;
            resting.instances.remove(at)
        };
        kept.store.data_mut().serve(active);
        kept.store.set_epoch_deadline(1);
        active.note_instance(kept.born.elapsed());
        kept.store.data().memory.note(active);
        Some(kept)
    }

    /// What a new instance is kept as when its call has ended.
    pub(crate) fn welcome(self: &Arc<Self>, store: Store<State>, callee: T, active: &Active) -> Kept<T> {
        let home = Arc::downgrade(self);
        Kept { store, callee, born: Instant::now(), served: 0, memory_bytes: active.memory_bytes, home }
    }

    fn put(self: &Arc<Self>, mut kept: Kept<T>) {
        kept.served += 1;
        let Some(active) = kept.store.data().serving.end() else { return };
        if kept.served >= self.lifetime.calls_max {
            return;
        }
        // Where too many wait already, this one does not.
        let Some(rest) = active.rest() else { return };
        let mut resting = self.resting();
        resting.instances.push((Instant::now(), kept, rest));
        if !std::mem::replace(&mut resting.watched, true) {
            drop(resting);
            self.core.runners.spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Takes out who has waited too long; and when to look again, if anyone is left.
    fn expired(&self) -> (Vec<impl Sized + use<T>>, Option<Instant>) {
        let mut resting = self.resting();
        let now = Instant::now();
        let over = resting.instances.partition_point(|(since, ..)| now.duration_since(*since) >= self.lifetime.idle);
        let expired: Vec<_> = resting.instances.drain(..over).collect();
        let next = resting.instances.first().map(|(since, ..)| *since + self.lifetime.idle);
        resting.watched = next.is_some();
        (expired, next)
    }
}

/// Ends instances that have waited too long, until none waits or their module has gone.
async fn watch<T: Send + 'static>(idle: Weak<Idle<T>>) {
    loop {
        let Some(next) = idle.upgrade().and_then(|idle| {
            let (expired, next) = idle.expired();
            // Outside of the lock: their memory is reset meanwhile.
            drop(expired);
            next
        }) else {
            return;
        };
        tokio::time::sleep_until(next.into()).await;
    }
}

/// An instance whose call has ended well, for whoever knows that its answer has, too.
pub(crate) trait Ended: Send {
    /// Lets it wait for the next call. Dropped instead, it ends.
    fn keep(self: Box<Self>);
}

impl<T: Send + 'static> Ended for Kept<T> {
    fn keep(self: Box<Self>) {
        if let Some(home) = self.home.upgrade() {
            home.put(*self);
        }
    }
}

/// A request's body that can be taken back: an instance that lives on must not hold what belongs to a connection.
#[derive(Clone)]
pub(crate) struct Lent(Arc<Mutex<Loan>>);

enum Loan {
    Out { body: Body, reader: Option<Waker> },
    TakenBack,
}

impl Lent {
    pub(crate) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Loan::Out { body, reader: None })))
    }

    fn loan(&self) -> MutexGuard<'_, Loan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it from the guest; whoever still reads sees it break off.
    pub(crate) fn take_back(&self) {
        let loan = std::mem::replace(&mut *self.loan(), Loan::TakenBack);
        if let Loan::Out { reader: Some(reader), .. } = loan {
            reader.wake();
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self.loan() {
            Loan::Out { body, reader } => {
                let polled = Pin::new(body).poll_frame(cx);
                *reader = polled.is_pending().then(|| cx.waker().clone());
                polled
            }
            Loan::TakenBack => Poll::Ready(Some(Err(BodyError::GuestEnded))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&*self.loan(), Loan::Out { body, .. } if body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &*self.loan() {
            Loan::Out { body, .. } => body.size_hint(),
            Loan::TakenBack => SizeHint::default(),
        }
    }
}
