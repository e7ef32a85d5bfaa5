//! A running server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base::Error;
use front::Road;
use front::http::{Http, Tls};
use tempfile::TempDir;

use crate::config::Config;
use crate::control::Control;
use crate::tls;

/// Between two looks whether guests that work on after their answer have ended.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// A server that serves until it is dropped; call [`Server::drain`] first for an orderly end.
pub struct Server {
    /// None for a server that only executes.
    http: Option<Http>,
    /// None for one that serves in the clear.
    tls: Option<Tls>,
    control: Control,
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
        Self { http, tls, control, road, grace, _temporary: temporary }
    }

    pub(crate) fn control(&mut self) -> &mut Control {
        &mut self.control
    }

    pub(crate) fn road(&self) -> &Road {
        &self.road
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.http.as_ref().map(Http::addresses).unwrap_or_default()
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
    pub async fn reload(&mut self, config: &Config) -> Result<(), Error> {
        let tls = match (&self.tls, &config.server.tls) {
            (Some(shown), Some(files)) => Some((shown, tls::read(files)?)),
            _ => None,
        };
        self.control.apply(config).await?;
        if let Some((shown, read)) = tls {
            shown.replace(&read);
        }
        if self.control.server() != Some(&config.server) {
            tracing::warn!("[server] has changed, which takes effect at the next start");
        }
        Ok(())
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> usize {
        self.road.gate.in_flight()
    }

    /// Ends in order: readiness says no, the listening sockets close, what is in flight is answered and ends, at most for
    /// the grace period. Returns whether everything did.
    pub async fn drain(&mut self) -> bool {
        let end = Instant::now() + self.grace;
        self.road.gate.close();
        let answered = match &mut self.http {
            Some(http) => http.drain(self.grace).await,
            None => true,
        };
        // Guests that work on after their answer.
        while self.road.gate.in_flight() > 0 && Instant::now() < end {
            tokio::time::sleep(DRAIN_POLL).await;
        }
        answered && self.road.gate.in_flight() == 0
    }
}
