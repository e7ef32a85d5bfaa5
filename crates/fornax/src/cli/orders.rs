//! What a process that serves is told from outside: to stop, or to read its configuration again.
//!
//! `run` and the supervisor of `serve` are told by signals. A worker is told by its supervisor; signals that reach it as well, as
//! those of a terminal or of a service manager reach all processes of a group, are not taken twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use base::{Error, Kind};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, Semaphore};

/// What a shell reports for a program a signal ended: 128 and the signal's number.
pub(super) const ENDED_BY_SIGNAL: u8 = 128;

/// Orders as they come.
pub(super) struct Orders {
    given: Arc<Given>,
    /// Whether an order to stop ends a start.
    gives_up: bool,
}

/// Where orders come from.
#[derive(Clone)]
pub(super) struct Orderer(Arc<Given>);

struct Given {
    /// Orders to stop that have not been followed: the first is to do it in order, the second now.
    stops: Semaphore,
    /// What the last of them is worth as an exit code.
    code: AtomicU8,
    reload: Notify,
}

impl Orders {
    /// SIGINT and SIGTERM, which mean the same. SIGHUP does what it does to programs.
    pub(super) fn to_stop() -> Result<Self, Error> {
        let (orderer, orders) = Self::from_orderer(true);
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let code = ENDED_BY_SIGNAL + u8::try_from(kind.as_raw_value()).unwrap_or_default();
            let orderer = orderer.clone();
            on_signal(kind, move || orderer.stop(code))?;
        }
        Ok(orders)
    }

    /// And SIGHUP, which has the configuration read again.
    pub(super) fn and_to_reload(self) -> Result<Self, Error> {
        let orderer = Orderer(Arc::clone(&self.given));
        on_signal(SignalKind::hangup(), move || orderer.reload())?;
        Ok(self)
    }

    /// Orders that somebody else gives.
    pub(super) fn from_orderer(gives_up: bool) -> (Orderer, Self) {
        let given = Arc::new(Given { stops: Semaphore::new(0), code: AtomicU8::new(0), reload: Notify::new() });
        (Orderer(Arc::clone(&given)), Self { given, gives_up })
    }

    /// The exit code of a program that is told to stop now.
    pub(super) async fn stop(&self) -> u8 {
        match self.given.stops.acquire().await {
            Ok(order) => order.forget(),
            Err(_) => unreachable!("it is never closed"),
        }
        self.given.code.load(Relaxed)
    }

    /// The same, where there is nothing in service yet.
    pub(super) async fn give_up(&self) -> u8 {
        if self.gives_up { self.stop().await } else { std::future::pending().await }
    }

    /// Returns when the configuration is to be read again.
    pub(super) async fn reload(&self) {
        self.given.reload.notified().await;
    }
}

impl Orderer {
    pub(super) fn stop(&self, code: u8) {
        self.0.code.store(code, Relaxed);
        self.0.stops.add_permits(1);
    }

    pub(super) fn reload(&self) {
        self.0.reload.notify_one();
    }
}

/// Does something at each signal of a kind, instead of what the system does.
pub(super) fn on_signal(kind: SignalKind, act: impl Fn() + Send + 'static) -> Result<(), Error> {
    let mut signals: Signal =
        signal(kind).map_err(|error| Error::new(Kind::Internal, "cannot listen for signals").caused_by(error))?;
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            act();
        }
    });
    Ok(())
}
