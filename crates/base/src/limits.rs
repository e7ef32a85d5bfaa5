//! What one call, one tenant, one client and one compilation may use. The tables of `docs/limits.md` are made from here; a test says so where they are not.

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
    /// Calls that a call from outside may cause, itself and the steps of a chain included.
    pub calls: u32,
    /// Files and directories that one instance may have open.
    pub descriptors: u32,
    /// Handles of one component.
    pub handles: u32,
    /// Resources that the host keeps for one component.
    pub resources: u32,
    /// What one call of a component into the host may copy.
    pub host_call_bytes: u32,
    /// One set of HTTP fields, as it sits in memory.
    pub fields_bytes: u32,
    /// Random bytes that a component gets at once.
    pub random_bytes: u32,
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
        calls: 1000,
        descriptors: 1024,
        handles: 65_536,
        resources: 16_384,
        host_call_bytes: 64 << 20,
        fields_bytes: 1 << 20,
        random_bytes: 64 << 20,
    };

    /// Each of them; the same keys in the same order for every value.
    pub fn rows(&self) -> impl Iterator<Item = LimitRow> + use<> {
        self.of_a_call().into_iter().chain(self.of_an_instance())
    }

    fn of_a_call(&self) -> [LimitRow; 9] {
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
            ..
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

    fn of_an_instance(&self) -> [LimitRow; 7] {
        let Self { calls, descriptors, handles, resources, host_call_bytes, fields_bytes, random_bytes, .. } = *self;
        let bytes = |bytes: u32| Quantity::Bytes(Some(bytes.into()));
        [
            row(
                "calls",
                "calls that a call from outside causes, itself and the steps of a chain included",
                Quantity::Number(calls),
                "508 `depth`",
            ),
            row(
                "descriptors",
                "open descriptors of a program; files and directories that a component has opened",
                Quantity::Number(descriptors),
                "`EMFILE`; `quota`",
            ),
            row("handles", "handles of one component", Quantity::Number(handles), "trap: 502 `trap`"),
            row(
                "resources",
                "resources that the host keeps for one component",
                Quantity::Number(resources),
                "trap, or the function's own error",
            ),
            row("host_call", "what one call of a component into the host copies", bytes(host_call_bytes), "trap"),
            row(
                "fields",
                "one set of HTTP fields, as it sits in memory",
                bytes(fields_bytes),
                "a component's error, or trap; of a codec's answer 502 `bad-response`; of a core module's request no answer",
            ),
            row("random", "random bytes that a component gets at once", bytes(random_bytes), "trap"),
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
            calls: 100,
            descriptors: 64,
            handles: 4096,
            resources: 1024,
            host_call_bytes: 8 << 20,
            fields_bytes: 128 << 10,
            random_bytes: 1 << 20,
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

/// Limits of what is published and compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Size of an artifact.
    pub upload_bytes: u64,
    /// Memory of a compilation, as address space.
    pub memory_bytes: u64,
    /// Processor time of a compilation, beside what the artifact's size adds.
    pub cpu: Duration,
    /// Time of a compilation, beside what the artifact's size adds.
    pub wall: Duration,
    /// Calls that wait for a module to be compiled.
    pub queue: u32,
}

impl CompileLimits {
    /// The hard caps: a configuration above one of them is refused.
    pub const CAPS: Self = Self {
        upload_bytes: 256 * MIB,
        memory_bytes: 8 * 1024 * MIB,
        cpu: Duration::from_secs(10 * 60),
        wall: Duration::from_secs(60 * 60),
        queue: 1000,
    };

    /// Each of them.
    pub fn rows(&self) -> [LimitRow; 5] {
        let Self { upload_bytes, memory_bytes, cpu, wall, queue } = *self;
        let (bytes, time) = (|bytes| Quantity::Bytes(Some(bytes)), |time| Quantity::Time(Some(time)));
        [
            row("upload", "size of an artifact", bytes(upload_bytes), "refused: 422 `unprocessable`"),
            row("memory", "memory, as address space", bytes(memory_bytes), "the same"),
            row("cpu", "processor time, and 2 s more for each MiB of the artifact", time(cpu), "the same"),
            row("wall", "time, and 6 s more for each MiB of the artifact", time(wall), "the same"),
            row(
                "queue",
                "calls that wait for a module to be compiled, since its code is gone",
                Quantity::Number(queue),
                "503 `overloaded` with `retry-after`",
            ),
        ]
    }
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            upload_bytes: 64 * MIB,
            // Twice what JavaScript's interpreter takes, with its 10 MiB one of the largest modules in use.
            memory_bytes: 1024 * MIB,
            cpu: Duration::from_secs(20),
            wall: Duration::from_secs(60),
            queue: 16,
        }
    }
}

/// Limits of whoever sends requests, who is not known to be anybody's client yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Time from accept to the first byte; for TLS to be agreed on, and then the same again.
    pub first_byte: Duration,
    /// Time from the first byte of a request's head to its end.
    pub head: Duration,
    /// How long a request body may be silent.
    pub body_idle: Duration,
    /// How long the response may not be taken.
    pub write_stall: Duration,
    /// Time between two requests.
    pub keep_alive: Duration,
    /// Size of a request's target.
    pub target_bytes: u32,
    /// Size of a request's fields: names, values, and the four bytes around them.
    pub fields_bytes: u32,
    /// Number of a request's fields.
    pub fields: u32,
}

impl ClientLimits {
    /// The hard caps: a configuration above one of them is refused.
    pub const CAPS: Self = Self {
        first_byte: Duration::from_secs(5 * 60),
        head: Duration::from_secs(5 * 60),
        body_idle: Duration::from_secs(60 * 60),
        write_stall: Duration::from_secs(60 * 60),
        keep_alive: Duration::from_secs(60 * 60),
        target_bytes: 64 << 10,
        fields_bytes: 256 << 10,
        fields: 1000,
    };

    /// What no configuration goes below: less would refuse what browsers send.
    pub const LEAST: Self = Self {
        first_byte: Duration::from_nanos(1),
        head: Duration::from_nanos(1),
        body_idle: Duration::from_nanos(1),
        write_stall: Duration::from_nanos(1),
        keep_alive: Duration::from_nanos(1),
        target_bytes: 1 << 10,
        fields_bytes: 8 << 10,
        fields: 16,
    };

    /// Each of them.
    pub fn rows(&self) -> [LimitRow; 8] {
        let Self { first_byte, head, body_idle, write_stall, keep_alive, target_bytes, fields_bytes, fields } = *self;
        let (bytes, time) = (|bytes| Quantity::Bytes(Some(u64::from(bytes))), |time| Quantity::Time(Some(time)));
        [
            row(
                "first_byte",
                "first byte after the connection was accepted; with TLS, until that is agreed on, and then the same again",
                time(first_byte),
                "closed",
            ),
            row("head", "request head, from its first byte", time(head), "408, closed"),
            row(
                "body_idle",
                "silence within a request body, while the guest waits for it",
                time(body_idle),
                "the guest's read fails with `connection-read-timeout`; 408 `request-timeout` if no answer is out",
            ),
            row("write_stall", "not taking the response", time(write_stall), "closed; of HTTP/2, its stream is reset"),
            row("keep_alive", "idle between two requests", time(keep_alive), "closed"),
            row("target", "request target", bytes(target_bytes), "414 `uri-too-long`"),
            row("fields", "fields of a request head, names and values", bytes(fields_bytes), "431 `headers-too-large`"),
            row("field_count", "fields of a request head", Quantity::Number(fields), "431, closed"),
        ]
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            head: Duration::from_secs(5),
            body_idle: Duration::from_secs(10),
            write_stall: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            // What browsers and proxies agree to carry.
            target_bytes: 8 << 10,
            fields_bytes: 64 << 10,
            fields: 100,
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
        let (defaults, caps): (Vec<_>, Vec<_>) = (Limits::default().rows().collect(), Limits::CAPS.rows().collect());
        let with_cap = |(default, cap): (&LimitRow, &LimitRow)| {
            let LimitRow { key, what, value, over } = default;
            format!("| `{key}` | {what} | {value} | {} | {over} |\n", cap.value)
        };
        let of_calls = defaults.iter().zip(&caps).map(with_cap);
        let defaults = TenantLimits::default().rows();
        let of_tenants =
            defaults.iter().map(|LimitRow { key, what, value, over }| format!("| `{key}` | {what} | {value} | {over} |\n"));
        let (clients, caps) = (ClientLimits::default().rows(), ClientLimits::CAPS.rows());
        let of_clients = clients.iter().zip(&caps).map(with_cap);
        let (compiling, caps) = (CompileLimits::default().rows(), CompileLimits::CAPS.rows());
        let of_compiling = compiling.iter().zip(&caps).map(with_cap);
        let head = "| key | what | default | cap | over it |\n| --- | --- | --- | --- | --- |";
        let tables = [
            table("limits of a call", head, of_calls),
            table("limits of a client", head, of_clients),
            table("limits of compiling", head, of_compiling),
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
