//! What the process counts, in Prometheus' terms.
//!
//! A family looks its labels up under a lock; calls therefore count through [`ModuleMetrics`], whose handles were looked
//! up once when the module was published. Labels are tenants and modules that were configured, never what a client sent.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::{Evidence, Kind};

/// From a lean guest's answer to the default wall limit, in seconds.
const DURATION_BUCKETS_S: [f64; 12] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];

/// From a plugin's one page to the cap of the limit.
const MEMORY_BUCKETS_BYTES: [f64; 8] =
    [65_536.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0, 134_217_728.0, 536_870_912.0, 1_073_741_824.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModuleLabels {
    tenant: Arc<str>,
    module: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    tenant: Arc<str>,
    module: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    kind: &'static str,
    blame: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CompilationLabels {
    outcome: &'static str,
}

/// How a call ended, as a label: a status class of the guest's own answer, or the kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest answered with this status.
    Status(u16),
    /// Fornax answered for the guest.
    Failed(Kind),
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Status(100..=199) => "1xx",
            Self::Status(200..=299) => "2xx",
            Self::Status(300..=399) => "3xx",
            Self::Status(400..=499) => "4xx",
            Self::Status(_) => "5xx",
            Self::Failed(kind) => kind.name(),
        }
    }
}

/// Every metric of the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    calls: Family<CallLabels, Counter>,
    cpu_seconds: Family<ModuleLabels, Counter<f64, AtomicU64>>,
    duration_seconds: Family<ModuleLabels, Histogram>,
    errors: Family<ErrorLabels, Counter>,
    cache_hits: Family<ModuleLabels, Counter>,
    cache_misses: Family<ModuleLabels, Counter>,
    log_lines_dropped: Family<ModuleLabels, Counter>,
    host_calls: Family<ModuleLabels, Counter>,
    request_bytes: Family<ModuleLabels, Counter>,
    response_bytes: Family<ModuleLabels, Counter>,
    memory_bytes: Family<ModuleLabels, Histogram>,
    compilations: Family<CompilationLabels, Counter>,
    /// Calls in flight; set by who renders.
    pub in_flight: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// Guests moved off a connection's thread because they kept computing.
    pub guests_moved: Counter,
    /// Files of compiled code that were not as they were written.
    pub code_rejected: Counter,
    /// Modules whose code is in memory.
    pub modules_loaded: Gauge,
    /// Times that one was loaded.
    pub module_loads: Counter,
    /// Times that one was dropped for others.
    pub module_unloads: Counter,
    /// Configurations put into service.
    pub reloads: Counter,
    /// Times that this process was replaced.
    pub worker_restarts: Counter,
    /// Modules that are not called since workers did not survive their calls.
    pub modules_quarantined: Gauge,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Arc<Self> {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("fornax")),
            calls: Family::default(),
            cpu_seconds: Family::default(),
            duration_seconds: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS_S)),
            errors: Family::default(),
            cache_hits: Family::default(),
            cache_misses: Family::default(),
            log_lines_dropped: Family::default(),
            host_calls: Family::default(),
            request_bytes: Family::default(),
            response_bytes: Family::default(),
            memory_bytes: Family::new_with_constructor(|| Histogram::new(MEMORY_BUCKETS_BYTES)),
            compilations: Family::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            guests_moved: Counter::default(),
            code_rejected: Counter::default(),
            modules_loaded: Gauge::default(),
            module_loads: Counter::default(),
            module_unloads: Counter::default(),
            reloads: Counter::default(),
            worker_restarts: Counter::default(),
            modules_quarantined: Gauge::default(),
        };
        let mut registry = metrics.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register("calls", "Calls by tenant, module and outcome", metrics.calls.clone());
        registry.register("guest_cpu_seconds", "Time guests computed", metrics.cpu_seconds.clone());
        registry.register("call_duration_seconds", "Admission to response head", metrics.duration_seconds.clone());
        registry.register("errors", "Failures by kind and who must act", metrics.errors.clone());
        registry.register("cache_hits", "Requests answered from the cache", metrics.cache_hits.clone());
        registry.register("cache_misses", "Requests the cache had no answer for", metrics.cache_misses.clone());
        let dropped = "Lines of guests over their tenant's rate that did not get into the log";
        registry.register("log_lines_dropped", dropped, metrics.log_lines_dropped.clone());
        registry.register("host_calls", "Calls of guests to the host, of modules with evidence", metrics.host_calls.clone());
        registry.register("request_bytes", "Bytes of bodies read, of modules with evidence", metrics.request_bytes.clone());
        registry.register("response_bytes", "Bytes of answers' bodies, of modules with evidence", metrics.response_bytes.clone());
        registry.register(
            "guest_memory_bytes",
            "A call's largest instance, of modules with evidence",
            metrics.memory_bytes.clone(),
        );
        registry.register("compilations", "Modules compiled, and how that ended", metrics.compilations.clone());
        registry.register("in_flight", "Calls in flight", metrics.in_flight.clone());
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register("guests_moved", "Guests moved to a runner thread", metrics.guests_moved.clone());
        registry.register("code_rejected", "Files of compiled code not as they were written", metrics.code_rejected.clone());
        registry.register("modules_loaded", "Modules whose code is in memory", metrics.modules_loaded.clone());
        registry.register("module_loads", "Loads of a module's code", metrics.module_loads.clone());
        registry.register("module_unloads", "Modules whose code was dropped for others", metrics.module_unloads.clone());
        registry.register("reloads", "Configurations put into service", metrics.reloads.clone());
        registry.register("worker_restarts", "Workers that died and were replaced", metrics.worker_restarts.clone());
        registry.register("modules_quarantined", "Modules not called until a reload", metrics.modules_quarantined.clone());
        drop(registry);
        Arc::new(metrics)
    }

    /// The handles of one module; the same for every version of it.
    pub fn module(self: &Arc<Self>, tenant: &str, module: &str) -> Arc<ModuleMetrics> {
        let labels = ModuleLabels { tenant: tenant.into(), module: module.into() };
        let ok = CallLabels { tenant: tenant.into(), module: module.into(), outcome: Outcome::Status(200).name() };
        Arc::new(ModuleMetrics {
            ok: self.calls.get_or_create_owned(&ok),
            cpu_seconds: self.cpu_seconds.get_or_create_owned(&labels),
            duration_seconds: self.duration_seconds.get_or_create_owned(&labels),
            cache_hits: self.cache_hits.get_or_create_owned(&labels),
            cache_misses: self.cache_misses.get_or_create_owned(&labels),
            labels,
            all: Arc::clone(self),
        })
    }

    /// Counts a failure, whether or not it had reached a module.
    pub fn error(&self, error: &crate::Error) {
        let labels = ErrorLabels { kind: error.kind.name(), blame: error.blame.name() };
        self.errors.get_or_create(&labels).inc();
    }

    /// Counts a compilation: `compiled`, or why there is no code.
    pub fn compiled(&self, outcome: &'static str) {
        self.compilations.get_or_create(&CompilationLabels { outcome }).inc();
    }

    /// The Prometheus text form.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Where the calls of one module are counted.
#[derive(Debug)]
pub struct ModuleMetrics {
    all: Arc<Metrics>,
    labels: ModuleLabels,
    ok: Counter,
    cpu_seconds: Counter<f64, AtomicU64>,
    duration_seconds: Histogram,
    cache_hits: Counter,
    cache_misses: Counter,
}

impl ModuleMetrics {
    /// Counts an answer; `duration` is from admission to the response head.
    pub fn answered(&self, outcome: Outcome, duration: Duration) {
        match outcome {
            Outcome::Status(200..=299) => drop(self.ok.inc()),
            _ => {
                let ModuleLabels { tenant, module } = self.labels.clone();
                let labels = CallLabels { tenant, module, outcome: outcome.name() };
                self.all.calls.get_or_create(&labels).inc();
            }
        }
        self.duration_seconds.observe(duration.as_secs_f64());
    }

    /// Counts the time a guest computed, when it has ended.
    pub fn computed(&self, cpu: Duration) {
        self.cpu_seconds.inc_by(cpu.as_secs_f64());
    }

    /// Counts a request that was answered from the cache: no call.
    pub fn cache_hit(&self) {
        self.cache_hits.inc();
    }

    /// Counts a request of a route with a cache that the cache had no answer for.
    pub fn cache_miss(&self) {
        self.cache_misses.inc();
    }

    /// Counts a failure that no answer carries.
    pub fn error(&self, error: &crate::Error) {
        self.all.error(error);
    }

    /// Counts a line that did not get into the log.
    pub fn log_line_dropped(&self) {
        self.all.log_lines_dropped.get_or_create(&self.labels).inc();
    }

    /// Counts what a call is shown to have cost, beside what is counted of every call.
    pub(crate) fn shown(&self, evidence: &Evidence) {
        self.all.host_calls.get_or_create(&self.labels).inc_by(evidence.host_calls);
        self.all.request_bytes.get_or_create(&self.labels).inc_by(evidence.bytes_in);
        self.all.response_bytes.get_or_create(&self.labels).inc_by(evidence.bytes_out);
        // Numbers of bytes that a float has exactly.
        self.all.memory_bytes.get_or_create(&self.labels).observe(evidence.memory_bytes as f64);
    }

    /// Counts a guest that was moved to a runner thread.
    pub fn moved(&self) {
        self.all.guests_moved.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_outcome() {
        let metrics = Metrics::new();
        let module = metrics.module("acme", "hello");
        module.answered(Outcome::Status(204), Duration::from_millis(1));
        module.answered(Outcome::Failed(Kind::Trap), Duration::from_millis(1));
        module.cache_hit();
        module.cache_miss();
        module.cache_miss();
        let text = metrics.render();
        for line in [
            r#"fornax_cache_hits_total{tenant="acme",module="hello"} 1"#,
            r#"fornax_cache_misses_total{tenant="acme",module="hello"} 2"#,
            r#"fornax_calls_total{tenant="acme",module="hello",outcome="2xx"} 1"#,
            r#"fornax_calls_total{tenant="acme",module="hello",outcome="trap"} 1"#,
            r#"fornax_call_duration_seconds_count{tenant="acme",module="hello"} 2"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
