//! What a connection is waiting for, and since when: set by the service and read by the socket below hyper, which is the
//! only one to see that no bytes come.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use base::ClientLimits;
use http::uri::Scheme;

use crate::http::request_body::Leftover;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The first byte after accept.
    FirstByte = 0,
    /// The rest of a request's head.
    Head = 1,
    /// An answer: the client owes nothing, or its body's own timer runs.
    Busy = 2,
    /// The next request.
    Idle = 3,
}

/// One per connection. A body may end elsewhere, on a runner; a late reading only costs patience, so relaxed atomics do.
#[derive(Debug)]
pub(crate) struct Clock {
    born: Instant,
    peer: SocketAddr,
    is_tls: bool,
    limits: ClientLimits,
    phase: AtomicU8,
    since_ns: AtomicU64,
    /// What of the request and its answer is not over; of HTTP/2, how many streams. More than are open at once may be on their
    /// way to their end.
    parts: AtomicU32,
    /// What readers left of bodies.
    pub(crate) leftover: Leftover,
    /// Requests handed to the service.
    requests: AtomicU64,
    /// The first request whose head is not clear.
    ambiguous_at: AtomicU64,
}

impl Clock {
    pub(crate) fn new(peer: SocketAddr, is_tls: bool, limits: ClientLimits) -> Self {
        Self {
            born: Instant::now(),
            peer,
            is_tls,
            limits,
            phase: AtomicU8::new(Phase::FirstByte as u8),
            since_ns: AtomicU64::new(0),
            parts: AtomicU32::new(0),
            leftover: Leftover::default(),
            requests: AtomicU64::new(0),
            ambiguous_at: AtomicU64::new(u64::MAX),
        }
    }

    /// The other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The scheme of what is asked for here.
    pub(crate) fn scheme(&self) -> Scheme {
        if self.is_tls { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// How long the client may take for what.
    pub(crate) fn limits(&self) -> &ClientLimits {
        &self.limits
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::FirstByte,
            1 => Phase::Head,
            2 => Phase::Busy,
            _ => Phase::Idle,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        if phase != Phase::Busy {
            self.since_ns.store(u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// Begins the next request of HTTP/1. Returns its answer, which is a part of it, and whether its head is not
    /// clear.
    pub(crate) fn begin_request(self: &Arc<Self>) -> (Part, bool) {
        self.enter(Phase::Busy);
        self.parts.store(1, Relaxed);
        let is_ambiguous = self.requests.fetch_add(1, Relaxed) == self.ambiguous_at.load(Relaxed);
        (Part(Arc::clone(self)), is_ambiguous)
    }

    /// Begins a stream of HTTP/2.
    pub(crate) fn begin_stream(self: &Arc<Self>) -> Part {
        if self.parts.fetch_add(1, Relaxed) == 0 {
            self.enter(Phase::Busy);
        }
        Part(Arc::clone(self))
    }

    /// Its body is another part.
    pub(crate) fn begin_body(self: &Arc<Self>) -> Part {
        self.parts.fetch_add(1, Relaxed);
        Part(Arc::clone(self))
    }

    /// A part is over. When all are, the connection waits for the next request.
    fn end_part(&self) {
        if self.parts.fetch_sub(1, Relaxed) == 1 {
            self.enter(Phase::Idle);
        }
    }

    /// The `index`th request, from 0, is not clear: see [`Framing`](crate::http::head::Framing).
    pub(crate) fn note_ambiguous(&self, index: u64) {
        self.ambiguous_at.store(index, Relaxed);
    }

    /// When patience ends in the present phase.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let patience = match self.phase() {
            Phase::FirstByte => self.limits.first_byte,
            Phase::Head => self.limits.head,
            Phase::Busy => return None,
            Phase::Idle => self.limits.keep_alive,
        };
        Some(self.since() + patience)
    }

    /// Returns when there has been nothing under way for so long, from now on.
    pub(crate) async fn idle_for(&self, patience: Duration) {
        let begin = Instant::now();
        loop {
            let since = if self.phase() == Phase::Idle { self.since().max(begin) } else { Instant::now() };
            let end = since + patience;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end.into()).await;
        }
    }

    fn since(&self) -> Instant {
        self.born + Duration::from_nanos(self.since_ns.load(Relaxed))
    }
}

/// A part of a request that is not over until this is dropped.
#[derive(Debug)]
pub(crate) struct Part(Arc<Clock>);

impl Part {
    /// The clock of its connection.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.end_part();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_idle_while_a_stream_is_open() {
        let clock = Arc::new(Clock::new(SocketAddr::from(([127, 0, 0, 1], 1)), false, ClientLimits::default()));
        let (first, second) = (clock.begin_stream(), clock.begin_stream());
        drop(first);
        assert_eq!(clock.phase(), Phase::Busy);
        drop(second);
        assert_eq!(clock.phase(), Phase::Idle);
        let _third = clock.begin_stream();
        assert_eq!(clock.phase(), Phase::Busy);
    }

    #[test]
    fn patience_is_that_of_what_a_client_owes() {
        let clock = Arc::new(Clock::new(SocketAddr::from(([127, 0, 0, 1], 1)), false, ClientLimits::default()));
        let left = || clock.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()).as_secs_f64().ceil());
        assert_eq!((clock.phase(), left()), (Phase::FirstByte, Some(10.0)));
        clock.enter(Phase::Head);
        assert_eq!(left(), Some(5.0));
        let (answer, _) = clock.begin_request();
        let body = clock.begin_body();
        assert_eq!((clock.phase(), left()), (Phase::Busy, None), "a body has a clock of its own");
        drop(body);
        assert_eq!(left(), None, "the other part is not over");
        drop(answer);
        assert_eq!((clock.phase(), left()), (Phase::Idle, Some(60.0)));
    }
}
