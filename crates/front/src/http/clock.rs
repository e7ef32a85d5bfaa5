//! What a connection is waiting for, and since when: set by the service and read by the socket below hyper, which is the
//! only one to see that no bytes come.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

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

impl Phase {
    /// How long a client may take.
    fn patience(self) -> Option<Duration> {
        match self {
            Self::FirstByte => Some(Duration::from_secs(10)),
            Self::Head => Some(Duration::from_secs(5)),
            Self::Busy => None,
            Self::Idle => Some(Duration::from_secs(60)),
        }
    }
}

/// One per connection. A body may end elsewhere, on a runner; a late reading only costs patience, so relaxed atomics do.
#[derive(Debug)]
pub(crate) struct Clock {
    born: Instant,
    peer: SocketAddr,
    phase: AtomicU8,
    since_ns: AtomicU64,
    /// What of the request and its answer is not over.
    parts: AtomicU8,
    /// What readers left of bodies.
    pub(crate) leftover: Leftover,
    /// Requests handed to the service.
    requests: AtomicU64,
    /// The first request whose head gives its body two lengths.
    ambiguous_at: AtomicU64,
}

impl Clock {
    pub(crate) fn new(peer: SocketAddr) -> Self {
        Self {
            born: Instant::now(),
            peer,
            phase: AtomicU8::new(Phase::FirstByte as u8),
            since_ns: AtomicU64::new(0),
            parts: AtomicU8::new(0),
            leftover: Leftover::default(),
            requests: AtomicU64::new(0),
            ambiguous_at: AtomicU64::new(u64::MAX),
        }
    }

    /// The other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
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

    /// Begins the next request. Returns whether its head gives its body two lengths. Its answer is a part that ends.
    pub(crate) fn begin_request(&self) -> bool {
        self.enter(Phase::Busy);
        self.parts.store(1, Relaxed);
        self.requests.fetch_add(1, Relaxed) == self.ambiguous_at.load(Relaxed)
    }

    /// Its body is another part.
    pub(crate) fn begin_body(&self) {
        self.parts.fetch_add(1, Relaxed);
    }

    /// A part is over. When all are, the connection waits for the next request.
    pub(crate) fn end_part(&self) {
        if self.parts.fetch_sub(1, Relaxed) == 1 {
            self.enter(Phase::Idle);
        }
    }

    /// The `index`th request, from 0, gives its body two lengths.
    pub(crate) fn note_ambiguous(&self, index: u64) {
        self.ambiguous_at.store(index, Relaxed);
    }

    /// When patience ends in the present phase.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let patience = self.phase().patience()?;
        Some(self.born + Duration::from_nanos(self.since_ns.load(Relaxed)) + patience)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn patience_is_that_of_what_a_client_owes() {
        let clock = Clock::new((Ipv4Addr::LOCALHOST, 1).into());
        let left = || clock.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()).as_secs_f64().ceil());
        assert_eq!((clock.phase(), left()), (Phase::FirstByte, Some(10.0)));
        clock.enter(Phase::Head);
        assert_eq!(left(), Some(5.0));
        clock.begin_request();
        clock.begin_body();
        assert_eq!((clock.phase(), left()), (Phase::Busy, None), "a body has a clock of its own");
        clock.end_part();
        assert_eq!(left(), None, "the other part is not over");
        clock.end_part();
        assert_eq!((clock.phase(), left()), (Phase::Idle, Some(60.0)));
    }
}
