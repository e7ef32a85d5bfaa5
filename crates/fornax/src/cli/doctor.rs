//! `fornax doctor`: what this machine carries, and what stands in the way of more.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base::{Error, Kind};
use guest::{Bound, Machine, PoolSize};
use serde_json::{Value, json};

use super::builder;
use crate::ExecuteLimits;
use crate::config::Config;

/// `(module (memory (export "memory") 1) (func (export "_start")))`
const PROGRAM: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\
\x07\x13\x02\x06memory\x02\0\x06_start\0\0\x0a\x04\x01\x02\0\x0b";

/// How often it is run; the fastest counts.
const RUNS: u32 = 100;

/// Files and sockets a server should be able to have open.
const OPEN_FILES_WANTED: u64 = 65_536;

/// Looks at the machine, starts a server's engines as `run` would, and runs a program in them.
pub(super) fn run(as_json: bool) -> Result<ExitCode, Error> {
    super::run::set_limits();
    let machine = Machine::read();
    let pool = machine.pool();
    let ran = run_program(pool);
    let advice = advice(&machine);
    let report = if as_json { in_json(&machine, pool, &ran, &advice) } else { in_words(&machine, pool, &ran, &advice) };
    std::io::stdout()
        .write_all(report.as_bytes())
        .map_err(|error| Error::new(Kind::Internal, "cannot write to standard output").caused_by(error))?;
    ran.map(|_| ExitCode::SUCCESS)
}

/// How long the fastest call of a program that does nothing took, sandbox and all.
fn run_program(pool: PoolSize) -> Result<Duration, Error> {
    let failed = |error: std::io::Error| Error::new(Kind::Internal, "cannot make a temporary directory").caused_by(error);
    let folder = tempfile::tempdir().map_err(failed)?;
    let file = folder.path().join("doctor.wasm");
    std::fs::write(&file, PROGRAM).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        // With a data directory of its own: the one of a server is left alone.
        let server = builder(Config::empty())?.threads(1).pool(pool).without_http().build().await?;
        let program = server.registry().load(&file).await?;
        let mut fastest = Duration::MAX;
        for _ in 0..RUNS {
            let began = Instant::now();
            server.execute(program, "", ExecuteLimits::default()).await?;
            fastest = fastest.min(began.elapsed());
        }
        Ok(fastest)
    })
}

/// What keeps this machine from carrying more, each with what to do.
fn advice(machine: &Machine) -> Vec<String> {
    let mut advice = Vec::new();
    match machine.bound() {
        Bound::Enough => {}
        Bound::Memory => {
            advice.push("memory bounds how many guests run at once: give the machine or its control group more".to_owned());
        }
        Bound::Mappings => advice.push(format!(
            "vm.max_map_count is {}, which bounds how many guests run at once: sysctl -w vm.max_map_count=262144",
            machine.mappings
        )),
        Bound::AddressSpace => advice.push("address space bounds how many guests run at once: raise ulimit -v".to_owned()),
    }
    if machine.swap {
        advice.push(
            "there is swap, so sandboxes are cleared by hand, which is slower: swapoff -a, or memory.swap.max=0".to_owned(),
        );
    } else if !machine.page_scan {
        advice.push("the kernel cannot say which pages are dirty, so sandboxes are cleared by hand: Linux 6.7 can".to_owned());
    }
    if machine.open_files < OPEN_FILES_WANTED {
        advice.push(format!(
            "{} files and sockets may be open, which bounds how many clients are served at once: ulimit -n {OPEN_FILES_WANTED}",
            machine.open_files
        ));
    }
    advice
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

fn name_of(bound: Bound) -> &'static str {
    match bound {
        Bound::Enough => "nothing",
        Bound::Memory => "memory",
        Bound::Mappings => "mappings",
        Bound::AddressSpace => "address space",
    }
}

fn in_json(machine: &Machine, pool: PoolSize, ran: &Result<Duration, Error>, advice: &[String]) -> String {
    let (call_ns, failed) = match ran {
        Ok(took) => (json!(took.as_nanos()), Value::Null),
        Err(error) => (Value::Null, json!(error.to_string())),
    };
    let report = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "machine": {
            "processors": machine.processors,
            "memory_bytes": machine.memory_bytes,
            "swap": machine.swap,
            "page_scan": machine.page_scan,
            "mappings": machine.mappings,
            "address_space_bytes": machine.address_space_bytes,
            "open_files": machine.open_files,
        },
        "pool": { "calls": pool.places_alone(), "calls_each": pool.places_each(), "modules_loaded": machine.modules_loaded(), "guests": pool.guests, "warm": pool.warm, "bound_by": name_of(machine.bound()) },
        "call_ns": call_ns,
        "error": failed,
        "advice": advice,
    });
    format!("{report:#}\n")
}

fn in_words(machine: &Machine, pool: PoolSize, ran: &Result<Duration, Error>, advice: &[String]) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let rows = [
        ("processors", machine.processors.to_string()),
        ("memory", gib(machine.memory_bytes)),
        ("swap", yes(machine.swap)),
        ("kernel finds dirty pages", yes(machine.page_scan)),
        ("mappings", machine.mappings.to_string()),
        ("address space", gib(machine.address_space_bytes)),
        ("open files", machine.open_files.to_string()),
        ("calls at once", format!("{} (bounded by {})", pool.places_alone(), name_of(machine.bound()))),
        ("the same where WASI 0.3 is served beside 0.2", format!("{} of each", pool.places_each())),
        ("modules loaded at once", machine.modules_loaded().to_string()),
        ("sandboxes kept warm", pool.warm.to_string()),
        (
            "a call of a program that does nothing",
            match ran {
                Ok(took) => format!("{:.1} µs, in a fresh sandbox", took.as_secs_f64() * 1e6),
                Err(_) => "failed".to_owned(),
            },
        ),
    ];
    let width = rows.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    let mut text: String = rows.iter().map(|(what, value)| format!("{what:<width$}  {value}\n")).collect();
    for advice in advice {
        text.push_str(&format!("\nadvice: {advice}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scarce_is_said_with_a_remedy() {
        let small = Machine {
            processors: 1,
            memory_bytes: 128 << 20,
            swap: true,
            mappings: 65_530,
            address_space_bytes: 1 << 47,
            open_files: 1024,
            page_scan: true,
        };
        let said = advice(&small).join("\n");
        for part in ["memory bounds", "swapoff", "ulimit -n 65536"] {
            assert!(said.contains(part), "{said}");
        }
        let large = Machine { memory_bytes: 64 << 30, swap: false, open_files: 1 << 20, ..small };
        assert_eq!(advice(&large), Vec::<String>::new());
    }
}
