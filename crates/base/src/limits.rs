//! What one call, and one tenant, may use. The tables of `docs/limits.md` are made from here; a test says so where they are not.

use std::fmt;
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

    /// Each of them; the same keys in the same order for every value.
    pub fn rows(&self) -> [LimitRow; 9] {
        let Self {
            cpu,
            wall,
            stream_idle,
            stream_total,
            memory_bytes,
            body_bytes,
            buffer_bytes,
            outbound_requests,
            outbound_concurrent,
        } = *self;
        let (bytes, time) = (|bytes| Quantity::Bytes(Some(bytes)), |time| Quantity::Time(Some(time)));
        [
            row("cpu", "time the guest computes", time(cpu), "504 `cpu-limit`"),
            row(
                "wall",
                "time from admission to the response head, waiting included, and to the end of an entry that is not HTTP, and of each \
                 step of a chain; once more for what a guest does after a complete response",
                time(wall),
                "504 `deadline`; afterwards the guest is ended and logged",
            ),
            row(
                "memory",
                "linear memory and tables of one instance",
                bytes(memory_bytes),
                "growing fails inside the guest; if it ends over that, 502 `memory-limit`",
            ),
            row(
                "body",
                "size of the request body",
                bytes(body_bytes),
                "413 `body-too-large`: at once where the length is declared, else when it is reached",
            ),
            row(
                "buffer",
                "the body of a request, and the answer, of an entry that is not HTTP, and what a step of a chain writes: they are held in \
                 memory",
                bytes(buffer_bytes),
                "413 `body-too-large`; 502 `output-limit`",
            ),
            row(
                "stream_idle",
                "silence within a response body that is streamed",
                time(stream_idle),
                "the body ends early, the connection closes, the guest is ended",
            ),
            row("stream_total", "the whole time of a response body that is streamed", Quantity::Time(stream_total), "the same"),
            row(
                "outbound_requests",
                "outgoing requests and sockets of one instance, in all",
                Quantity::Number(outbound_requests),
                "a component gets `connection-limit-reached`, a core module no answer, or `error` of a socket",
            ),
            row(
                "outbound_concurrent",
                "the same at once; a request counts until its response body is gone, a socket until it is closed",
                Quantity::Number(outbound_concurrent),
                "the same",
            ),
        ]
    }
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
    /// Memory of all its guests together, beyond what each has for nothing.
    pub memory_bytes: u64,
    /// What all its guests together write into the log.
    pub log_bytes_a_second: u64,
}

impl TenantLimits {
    /// Each of them.
    pub fn rows(&self) -> [LimitRow; 5] {
        let Self { in_flight, queue, queue_wait, memory_bytes, log_bytes_a_second } = *self;
        let memory_bytes = (memory_bytes < u64::MAX).then_some(memory_bytes);
        [
            row(
                "in_flight",
                "calls at once, streams and guests that work on included",
                Quantity::Number(in_flight),
                "the call waits",
            ),
            row("queue", "calls that wait for a place", Quantity::Number(queue), "503 `overloaded` with `retry-after`"),
            row("queue_wait", "how long one waits", Quantity::Time(Some(queue_wait)), "503 `overloaded` with `retry-after`"),
            row(
                "memory",
                "memory of all its guests together beyond what each has for nothing, and never more than half of the machine's",
                Quantity::Bytes(memory_bytes),
                "growing fails inside the guest; if it ends over that, 503 `overloaded` with `retry-after`",
            ),
            row(
                "log_rate",
                "what its guests write into the log in a second, with 128 bytes for each line; as much at once after a pause; the same again for how its calls fail",
                Quantity::Bytes(Some(log_bytes_a_second)),
                "lines are dropped and counted: `fornax_log_lines_dropped_total`",
            ),
        ]
    }
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            in_flight: 1000,
            queue: 1000,
            queue_wait: Duration::from_secs(1),
            memory_bytes: u64::MAX,
            log_bytes_a_second: 64 << 10,
        }
    }
}

/// A limit, as people read of it.
#[derive(Clone, Copy, Debug)]
pub struct LimitRow {
    /// The key in a configuration.
    pub key: &'static str,
    /// What it bounds.
    pub what: &'static str,
    /// How much.
    pub value: Quantity,
    /// What becomes of what is over it.
    pub over: &'static str,
}

/// So much of something; none where there is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Written in the largest unit that leaves no fraction.
    Bytes(Option<u64>),
    /// The same.
    Time(Option<Duration>),
    /// With a comma behind the thousands.
    Number(u32),
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_units = |f: &mut fmt::Formatter<'_>, number: u64, units: &[(u64, &str)]| {
            let fits = |(unit, _): &&(u64, &str)| number >= *unit && number.is_multiple_of(*unit);
            match units.iter().find(fits) {
                Some((unit, name)) => write!(f, "{} {name}", number / unit),
                None => write!(f, "{number}"),
            }
        };
        match *self {
            Self::Bytes(None) | Self::Time(None) => f.write_str("none"),
            Self::Bytes(Some(bytes)) => in_units(f, bytes, &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes")]),
            Self::Time(Some(time)) => {
                let units = [(3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")];
                in_units(f, u64::try_from(time.as_millis()).unwrap_or(u64::MAX), &units)
            }
            Self::Number(number) if number < 1000 => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{},{:03}", number / 1000, number % 1000),
        }
    }
}

const fn row(key: &'static str, what: &'static str, value: Quantity, over: &'static str) -> LimitRow {
    LimitRow { key, what, value, over }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Where tables stand in the documentation.
    fn table(name: &str, head: &str, rows: impl Iterator<Item = String>) -> (String, String, String) {
        let begin = format!("<!-- {name}: made from the types, see CONTRIBUTING.md -->\n");
        let end = format!("<!-- end of {name} -->\n");
        (begin, format!("{head}\n{}", rows.collect::<String>()), end)
    }

    #[test]
    fn the_documentation_has_these_limits() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/limits.md");
        let text = std::fs::read_to_string(&path).expect("the documentation of limits");
        let (defaults, caps) = (Limits::default().rows(), Limits::CAPS.rows());
        let of_calls = defaults.iter().zip(&caps).map(|(default, cap)| {
            let LimitRow { key, what, value, over } = default;
            format!("| `{key}` | {what} | {value} | {} | {over} |\n", cap.value)
        });
        let defaults = TenantLimits::default().rows();
        let of_tenants =
            defaults.iter().map(|LimitRow { key, what, value, over }| format!("| `{key}` | {what} | {value} | {over} |\n"));
        let tables = [
            table("limits of a call", "| key | what | default | cap | over it |\n| --- | --- | --- | --- | --- |", of_calls),
            table("limits of a tenant", "| key | what | default | over it |\n| --- | --- | --- | --- |", of_tenants),
        ];
        let mut wanted = text.clone();
        for (begin, table, end) in tables {
            let (before, rest) = wanted.split_once(&begin).expect("where the table begins");
            let (_, after) = rest.split_once(&end).expect("where it ends");
            wanted = format!("{before}{begin}\n{table}\n{end}{after}");
        }
        if std::env::var_os("FORNAX_WRITE_DOCS").is_some() {
            return std::fs::write(&path, &wanted).expect("the documentation can be written");
        }
        assert!(text == wanted, "docs/limits.md is not what the types say: `FORNAX_WRITE_DOCS=1 cargo test limits` writes it");
    }

    #[test]
    fn quantities_are_written_for_people() {
        for (quantity, text) in [
            (Quantity::Bytes(Some(10 << 20)), "10 MiB"),
            (Quantity::Bytes(Some(1025)), "1025 bytes"),
            (Quantity::Bytes(None), "none"),
            (Quantity::Time(Some(Duration::from_millis(1500))), "1500 ms"),
            (Quantity::Time(Some(Duration::from_secs(900))), "15 min"),
            (Quantity::Number(12_034), "12,034"),
            (Quantity::Number(999), "999"),
        ] {
            assert_eq!(quantity.to_string(), text);
        }
    }
}
