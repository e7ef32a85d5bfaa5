//! The scenarios. One is a file here, its `mod` line and its row in [`SCENARIOS`].

mod cache_hit;
mod chain;
mod cold;
mod command_go;
mod command_json;
mod cpu_1ms;
mod disconnects;
mod echo_100m;
mod echo_64k;
mod exhaustion;
mod headers;
mod hello_wasip2;
mod hello_wasip3;
mod hello_wstd;
mod http2;
mod library;
mod neighbour;
mod phases;
mod plugin;
mod restart;
mod reuse_wasip2;
mod reuse_wasip3;
mod sleepers;
mod traps;
mod zipf;

use super::Scenario;
use super::outcome::Figure;

/// In the order of the page.
pub(super) const SCENARIOS: &[Scenario] = &[
    phases::SCENARIO,
    hello_wasip2::SCENARIO,
    hello_wstd::SCENARIO,
    hello_wasip3::SCENARIO,
    reuse_wasip2::SCENARIO,
    reuse_wasip3::SCENARIO,
    command_json::SCENARIO,
    command_go::SCENARIO,
    plugin::SCENARIO,
    chain::SCENARIO,
    library::SCENARIO,
    cache_hit::SCENARIO,
    http2::SCENARIO,
    headers::SCENARIO,
    echo_64k::SCENARIO,
    echo_100m::SCENARIO,
    cpu_1ms::SCENARIO,
    sleepers::SCENARIO,
    exhaustion::SCENARIO,
    traps::SCENARIO,
    disconnects::SCENARIO,
    neighbour::SCENARIO,
    zipf::SCENARIO,
    cold::SCENARIO,
    restart::SCENARIO,
];

/// The figure to judge by.
const CPU: Figure = Figure::new("cpu_us", "CPU µs/request", 1);
const RPS: Figure = Figure::new("rps", "req/s", 0);
const P99: Figure = Figure::new("p99_ms", "p99 ms", 2);
const PEAK: Figure = Figure::new("peak_mb", "peak MB resident", 0);
/// How much of its core the load generator used: near 1, throughput is the generator's and only CPU time the server's.
const BUSY: Figure = Figure::new("busy", "load's core", 2);

/// The columns of what is asked as fast as it goes, and once more at one rate.
const WITH_RATE: &[Figure] = &[
    CPU,
    RPS,
    Figure::new("cpu_at_rate_us", "CPU µs at the rate", 1),
    Figure::new("p50_at_rate_ms", "p50 ms at the rate", 2),
    Figure::new("p99_at_rate_ms", "p99 ms at the rate", 2),
    BUSY,
];

/// The columns of what is only asked as fast as it goes.
const FAST: &[Figure] = &[CPU, RPS, P99, BUSY];
