//! A published module as the road sees it.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use crate::evidence::Shown;
use crate::journal::Watched;
use crate::{Call, Digest, Error, Kind, Limits, ModuleId, ModuleMetrics, Places, Reply, RequestId, Tenant};

/// A future that can be polled in a connection's task and moved to another thread.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// What takes a call. `guest` implements it; triggers know nothing else of guests.
pub trait Handler: Send + Sync + 'static {
    /// Handles one call. Runs on the thread that polls the future: it must not block, and it is polled from inside the
    /// connection's task, so it costs no spawn. Dropping the future before it is ready kills the guest.
    fn handle(&self, call: Call) -> BoxFuture<Result<Reply, Error>>;
}

/// A way an artifact can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// `wasi:http/incoming-handler` 0.2 or `wasi:http/handler` 0.3.
    Http,
    /// `wasi:messaging/incoming-handler`.
    Message,
    /// The websocket `handler`.
    Websocket,
    /// `wasi:keyvalue/watcher`.
    Watch,
    /// A program: `_start` of a WASI preview 1 module, or `wasi:cli/run`.
    Run,
    /// A plugin: a core module's `process`.
    Process,
    /// Modules in sequence; made by the configuration, not by an artifact.
    Chain,
}

impl Entry {
    /// The word in configuration, logs and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Message => "message",
            Self::Websocket => "websocket",
            Self::Watch => "watch",
            Self::Run => "run",
            Self::Process => "process",
            Self::Chain => "chain",
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One version of a registered module, ready to be called. It lives exactly as long as a snapshot or a call holds it.
pub struct ModuleVersion {
    /// The id, the same for every version.
    pub id: ModuleId,
    /// The name in configuration, logs and metrics.
    pub name: Arc<str>,
    /// Counts from 1 for each module.
    pub version: u32,
    /// The artifact.
    pub digest: Digest,
    /// The owner.
    pub tenant: Arc<Tenant>,
    /// The app it belongs to.
    pub app: Arc<str>,
    /// What each call may use.
    pub limits: Limits,
    /// The ways it can be called.
    pub entries: Vec<Entry>,
    /// Places one call takes; at least 1, and in one pool, but for a chain.
    pub places: Places,
    /// What takes its calls.
    pub handler: Arc<dyn Handler>,
    /// Where its calls are counted.
    pub metrics: Arc<ModuleMetrics>,
    /// Whether its answers say what they cost.
    pub evidence: bool,
    /// Where its calls are written down, for whoever replaces this process.
    pub watched: Option<Arc<Watched>>,
}

/// Of a version that is not called.
struct NoHandler;

impl Handler for NoHandler {
    fn handle(&self, _: Call) -> BoxFuture<Result<Reply, Error>> {
        Box::pin(std::future::ready(Err(Error::new(Kind::Internal, "the module cannot be called"))))
    }
}

impl ModuleVersion {
    /// All that is known of it, for what its own handler holds: so that neither holds the other for ever.
    #[must_use]
    pub fn without_handler(&self) -> Self {
        Self {
            id: self.id,
            name: Arc::clone(&self.name),
            version: self.version,
            digest: self.digest,
            tenant: Arc::clone(&self.tenant),
            app: Arc::clone(&self.app),
            limits: self.limits.clone(),
            entries: self.entries.clone(),
            places: self.places,
            handler: Arc::new(NoHandler),
            metrics: Arc::clone(&self.metrics),
            evidence: self.evidence,
            watched: self.watched.clone(),
        }
    }

    /// Writes into the log that a call has failed. A tenant has so many lines of it a second; what is beyond that is counted, as each
    /// failure is in any case. What the server itself did wrong is always said.
    pub fn log_failure(&self, request: RequestId, error: &Error) {
        if error.kind == Kind::Internal || self.tenant.may_log(&self.tenant.failures, error.line_bytes(), &self.metrics) {
            error.log(request, &self.tenant.name, &self.name);
        }
    }

    /// Has the module answer a call of it. What panics meanwhile, in any part of the road between here and the guest, fails this
    /// call only: whoever called, such as a connection, goes on.
    ///
    /// # Errors
    ///
    /// As the [`Handler`] says; [`Kind::Internal`] where it panicked; [`Kind::Quarantined`].
    pub async fn answer(&self, mut call: Call) -> Result<Reply, Error> {
        if let Some(watched) = &self.watched {
            // Before anything of the guest's runs, its code not even loaded.
            call.in_flight = Some(match watched.try_enter() {
                Some(in_flight) => in_flight,
                None => Box::pin(watched.enter(self.tenant.limits.queue_wait.min(self.limits.wall))).await?,
            });
        }
        if !self.evidence {
            return self.answer_unshown(call).await;
        }
        let shown = Shown::new(self, &mut call);
        match self.answer_unshown(call).await {
            Ok(Reply::Http(response)) => Ok(Reply::Http(shown.attach(response))),
            result => result,
        }
    }

    async fn answer_unshown(&self, call: Call) -> Result<Reply, Error> {
        let panicked = |_: Box<dyn Any + Send>| {
            Error::new(Kind::Internal, "the server failed in this call").internal("what handles the module's calls panicked")
        };
        let mut answer = catch_unwind(AssertUnwindSafe(|| self.handler.handle(call))).map_err(panicked)?;
        // One that panicked is not polled again, only dropped.
        poll_fn(|cx| {
            catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))).unwrap_or_else(|panic| Poll::Ready(Err(panicked(panic))))
        })
        .await
    }
}

impl fmt::Debug for ModuleVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.tenant.name, self.name, self.version)
    }
}
