//! Polling a guest.
//!
//! A guest is a future that owns its store. [`Execution`] polls it with everything a poll must have: the deadline before,
//! the meter and `catch_unwind` around, the timer after. [`Guest`] is an execution that can change place: it begins in the
//! connection's task, and one that keeps computing is moved to a runner.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::{Error, Kind};
use tokio::time::{Instant, Sleep};

use crate::failure;
use crate::reuse::Ended;
use crate::runner::Moved;
use crate::shared::Seat;
use crate::state::Active;

/// A guest with its store, from instantiation to its end; and the instance, if it may serve another call.
pub(crate) type GuestFuture = Pin<Box<dyn Future<Output = wasmtime::Result<Kept>> + Send>>;

/// What is left of a guest that has ended well.
pub(crate) type Kept = Option<Box<dyn Ended>>;

/// A guest being run on one thread.
pub(crate) struct Execution {
    /// None once it has ended.
    future: Option<GuestFuture>,
    active: Arc<Active>,
    deadline: DeadlineTimer,
}

impl Execution {
    pub(crate) fn active(&self) -> &Arc<Active> {
        &self.active
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Kept, Error>> {
        let Some(future) = &mut self.future else { return Poll::Ready(Ok(None)) };
        let meter = &self.active.meter;
        if meter.must_stop() {
            self.kill();
            let stopped = self.active.meter.stopped();
            return Poll::Ready(stopped.map_or(Ok(None), Err));
        }
        let _running = self.active.run();
        self.active.core.ticker.touch();
        meter.begin();
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        meter.end();
        match polled {
            Ok(Poll::Pending) => match self.deadline.poll(&self.active, cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(error) => {
                    self.kill();
                    Poll::Ready(Err(error))
                }
            },
            Ok(Poll::Ready(result)) => {
                self.drop_store();
                Poll::Ready(result.map_err(|error| failure::classify(&self.active, &error)))
            }
            Err(_) => {
                self.kill();
                Poll::Ready(
                    Err(Error::new(Kind::Internal, "the server failed in this call").internal("a host function panicked")),
                )
            }
        }
    }

    /// Drops the store, whatever it was doing.
    pub(crate) fn kill(&mut self) {
        self.active.meter.note_failed();
        self.drop_store();
    }

    /// What panicked once may panic again while it is dropped.
    fn drop_store(&mut self) {
        let future = self.future.take();
        if catch_unwind(AssertUnwindSafe(|| drop(future))).is_err() {
            tracing::error!(request = %self.active.id, "dropping a guest panicked");
        }
        self.active.settle();
    }
}

impl Future for Execution {
    type Output = Result<Kept, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Self::poll(&mut self, cx)
    }
}

/// The wall deadline of a guest that waits: armed only when it does, so that a guest that never waits costs no timer.
#[derive(Default)]
struct DeadlineTimer(Option<Pin<Box<Sleep>>>);

impl DeadlineTimer {
    /// Ready when the deadline has passed, as it is by then: the reply may have moved it meanwhile.
    fn poll(&mut self, active: &Active, cx: &mut Context<'_>) -> Poll<Error> {
        loop {
            let Some(at) = active.meter.wall_at().map(Instant::from_std) else {
                self.0 = None;
                return Poll::Pending;
            };
            let timer = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if timer.deadline() > at {
                timer.as_mut().reset(at);
            }
            std::task::ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= at {
                return Poll::Ready(active.meter.stop_for_deadline());
            }
            timer.as_mut().reset(at);
        }
    }
}

enum Place {
    Here(Execution),
    Moved(Moved),
    /// In an instance that serves others, too, and is driven elsewhere.
    Shared(Seat),
    /// Too many calls of its module wait for a core.
    Refused,
    Ended,
}

/// A guest, wherever it runs. Dropping it kills it.
pub(crate) struct Guest {
    place: Place,
    kept: Kept,
    pub(crate) active: Arc<Active>,
    /// For a moved guest: the runner may be too busy to be in time.
    deadline: DeadlineTimer,
}

impl Guest {
    pub(crate) fn new(future: GuestFuture, active: Arc<Active>) -> Self {
        if active.equipment.habit.is_crowded(active.core.runners.count()) {
            return Self { place: Place::Refused, kept: None, active, deadline: DeadlineTimer::default() };
        }
        let mut guest = Self::here(future, active);
        if guest.active.equipment.habit.is_computing() {
            guest.move_to_runner();
        }
        guest
    }

    /// One that begins here, even where calls of its module kept computing lately.
    pub(crate) fn here(future: GuestFuture, active: Arc<Active>) -> Self {
        let execution = Execution { future: Some(future), active: Arc::clone(&active), deadline: DeadlineTimer::default() };
        Self { place: Place::Here(execution), kept: None, active, deadline: DeadlineTimer::default() }
    }

    /// A call that an instance serves beside others.
    pub(crate) fn shared(seat: Seat, active: Arc<Active>) -> Self {
        Self { place: Place::Shared(seat), kept: None, active, deadline: DeadlineTimer::default() }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.place, Place::Ended)
    }

    /// Whether it keeps computing and is elsewhere for that.
    pub(crate) fn is_moved(&self) -> bool {
        matches!(self.place, Place::Moved(_))
    }

    /// Whether an instance that serves others has it and is about to go on, which this does not drive.
    pub(crate) fn has_work_elsewhere(&self) -> bool {
        matches!(&self.place, Place::Shared(seat) if seat.has_work())
    }

    /// Whether it ended, or is about to, otherwise than by returning: what its body looks like then does not count.
    pub(crate) fn has_failed(&self) -> bool {
        match &self.place {
            Place::Shared(seat) => seat.has_failed(),
            _ => self.active.meter.has_failed(),
        }
    }

    /// The call is over and its answer has been taken: if the instance may serve another, it waits for it.
    pub(crate) fn keep(&mut self) {
        if let Some(kept) = self.kept.take() {
            kept.keep();
        }
    }

    /// Ends the instance though it might have served another call. Returns whether there was one.
    pub(crate) fn discard(&mut self) -> bool {
        self.kept.take().is_some()
    }

    /// Lets the guest go on. Ready once it has ended, and forever after.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let result = match &mut self.place {
            Place::Ended => return Poll::Ready(Ok(())),
            Place::Refused => Err(Error::new(Kind::Overloaded, "too many calls compute at once, try again").retry_after(1)),
            Place::Here(execution) => match execution.poll(cx) {
                Poll::Ready(result) => result,
                Poll::Pending if self.active.meter.keeps_computing() => {
                    self.active.equipment.habit.note();
                    self.move_to_runner();
                    return self.poll(cx);
                }
                Poll::Pending => return Poll::Pending,
            },
            Place::Shared(seat) => std::task::ready!(seat.poll(cx)).map(|()| None),
            Place::Moved(moved) => match Pin::new(moved).poll(cx) {
                Poll::Ready(result) => result,
                Poll::Pending => {
                    let error = std::task::ready!(self.deadline.poll(&self.active, cx));
                    self.stop();
                    return Poll::Ready(Err(error));
                }
            },
        };
        self.place = Place::Ended;
        Poll::Ready(result.map(|kept| self.kept = kept))
    }

    fn move_to_runner(&mut self) {
        let Place::Here(mut execution) = std::mem::replace(&mut self.place, Place::Ended) else { return };
        // A timer belongs to the thread that made it.
        execution.deadline = DeadlineTimer::default();
        self.active.meter.move_to_runner();
        self.active.module.metrics.moved();
        self.place = Place::Moved(self.active.core.runners.run(execution));
    }

    fn stop(&mut self) {
        // One that was moved is ended by its runner.
        if let Place::Here(mut execution) = std::mem::replace(&mut self.place, Place::Ended) {
            execution.kill();
        }
    }

    /// Lets the guest end by itself, or by its deadline, with nobody waiting: its answer is complete. `meanwhile` is
    /// what must go on beside it, such as taking a body that nobody reads.
    pub(crate) fn finish_in_background(mut self, meanwhile: impl Future<Output = ()> + Send + 'static) {
        let active = Arc::clone(&self.active);
        let end = Instant::now() + active.module.limits.wall;
        active.meter.set_wall_at(Some(end.into_std()));
        if let Place::Here(_) = self.place {
            self.move_to_runner();
        }
        // An instance that serves others is driven on by itself.
        let Place::Moved(mut moved) = std::mem::replace(&mut self.place, Place::Ended) else { return };
        active.core.runners.spawn({
            let active = Arc::clone(&active);
            async move {
                // A guest that was moved before it answered sleeps without a timer by now, so this one ends it.
                let watch = async {
                    let ended = tokio::time::timeout_at(end, &mut moved).await;
                    match ended.unwrap_or_else(|_| Err(active.meter.stop_for_deadline())) {
                        Ok(Some(kept)) => kept.keep(),
                        Ok(None) => {}
                        Err(error) => failure::report_late(&active, &error),
                    }
                };
                tokio::pin!(watch);
                tokio::select! {
                    () = &mut watch => {}
                    () = meanwhile => watch.await,
                }
            }
        });
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop();
    }
}
