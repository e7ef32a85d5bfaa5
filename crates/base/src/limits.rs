//! What one call, and one tenant, may use. Defaults and caps are those of `docs/limits.md`.

use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Limits of the calls of one module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time the guest may compute.
    pub cpu: Duration,
    /// Time until the response head, host calls included.
    pub wall: Duration,
    /// How long a response body may be silent.
    pub stream_idle: Duration,
    /// How long a response body may take in all; none where nothing is said.
    pub stream_total: Option<Duration>,
    /// Linear memory and tables of one instance.
    pub memory_bytes: u64,
    /// Size of a request body.
    pub body_bytes: u64,
    /// A request body, and an answer, that is held in memory because the entry is not HTTP.
    pub buffer_bytes: u64,
    /// Outgoing requests of one call, in all.
    pub outbound_requests: u32,
    /// Outgoing requests of one call, at once.
    pub outbound_concurrent: u32,
}

impl Limits {
    /// The hard caps: a configuration above one of them is refused.
    pub const CAPS: Self = Self {
        cpu: Duration::from_secs(30),
        wall: Duration::from_secs(15 * 60),
        stream_idle: Duration::from_secs(60 * 60),
        stream_total: Some(Duration::from_secs(24 * 60 * 60)),
        memory_bytes: 1024 * MIB,
        body_bytes: 1024 * MIB,
        buffer_bytes: 64 * MIB,
        outbound_requests: 1000,
        outbound_concurrent: 256,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu: Duration::from_secs(1),
            wall: Duration::from_secs(30),
            stream_idle: Duration::from_secs(60),
            stream_total: None,
            memory_bytes: 128 * MIB,
            body_bytes: 10 * MIB,
            buffer_bytes: 6 * MIB,
            outbound_requests: 32,
            outbound_concurrent: 16,
        }
    }
}

/// Limits of all calls of one tenant together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// Calls at once.
    pub in_flight: u32,
    /// Calls that may wait for a place.
    pub queue: u32,
    /// How long a call may wait for a place.
    pub queue_wait: Duration,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self { in_flight: 1000, queue: 1000, queue_wait: Duration::from_secs(1) }
    }
}
