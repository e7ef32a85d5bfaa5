//! A running server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base::{Digest, Error};
use front::Road;
use front::http::{Http, Tls};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::config::{self, Config};
use crate::control::Control;
use crate::tls;

/// Between two looks whether guests that work on after their answer have ended.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// A server that serves until it is dropped; call [`Server::drain`] first for an orderly end.
pub struct Server {
    /// None for a server that only executes.
    http: Option<Mutex<Http>>,
    addresses: Vec<SocketAddr>,
    /// None for one that serves in the clear.
    tls: Option<Tls>,
    /// Locked by who changes what is in service, one after the other; calls look at the snapshot and do not wait for it.
    control: Mutex<Control>,
    road: Road,
    grace: Duration,
    /// Removed with everything in it when the server is.
    _temporary: Option<TempDir>,
}

impl Server {
    pub(crate) fn new(
        http: Option<Http>,
        tls: Option<Tls>,
        control: Control,
        road: Road,
        grace: Duration,
        temporary: Option<TempDir>,
    ) -> Self {
        let addresses = http.as_ref().map(|http| http.addresses().to_vec()).unwrap_or_default();
        Self { http: http.map(Mutex::new), addresses, tls, control: Mutex::new(control), road, grace, _temporary: temporary }
    }

    pub(crate) fn control(&self) -> &Mutex<Control> {
        &self.control
    }

    pub(crate) fn road(&self) -> &Road {
        &self.road
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How it is asked: `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Puts another configuration into service: whole or, on an error, not at all. Calls in flight end on the version they
    /// began with. Of `[server]` the files of `tls` are read again, and shown from the next connection on; the rest takes effect
    /// at the next start, and the log says so where it changed.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`](crate::Builder::build).
    pub async fn reload(&self, config: &Config) -> Result<(), Error> {
        let mut control = self.control.lock().await;
        let tls = match (&self.tls, &config.server.tls) {
            (Some(shown), Some(files)) => Some((shown, tls::read(files)?)),
            _ => None,
        };
        control.apply(config).await?;
        control.forgive();
        if let Some((shown, read)) = tls {
            shown.replace(&read);
        }
        if control.server() != Some(&config.server) {
            tracing::warn!("[server] has changed, which takes effect at the next start");
        }
        Ok(())
    }

    /// The modules in service, and which bytes they are.
    pub(crate) async fn published(&self) -> Vec<(config::Module, Digest)> {
        self.control.lock().await.published()
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> usize {
        self.road.gate.in_flight()
    }

    /// Ends in order: readiness says no, the listening sockets close, what is in flight is answered and ends, at most for
    /// the grace period. Returns whether everything did.
    pub async fn drain(&self) -> bool {
        let end = Instant::now() + self.grace;
        self.road.gate.close();
        let answered = match &self.http {
            Some(http) => http.lock().await.drain(self.grace).await,
            None => true,
        };
        // Guests that work on after their answer.
        while self.road.gate.in_flight() > 0 && Instant::now() < end {
            tokio::time::sleep(DRAIN_POLL).await;
        }
        answered && self.road.gate.in_flight() == 0
    }
}
