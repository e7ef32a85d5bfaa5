//! `fornax run --chain A,B --input S`: one call through several modules, each step shown.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base::{Error, Kind, Step};
use serde_json::json;

use super::{Global, builder};
use crate::config::{Config, Server};
use crate::{ChainError, ExecuteLimits, Link, PoolSize};

/// Behind a file: all of what it writes goes on.
const WHOLE: &str = ":whole";

/// Runs the chain and prints its steps, those before one that fails as well.
pub(super) async fn run(
    files: &[PathBuf],
    input: Option<&str>,
    limits: ExecuteLimits,
    global: &Global,
) -> Result<ExitCode, Error> {
    let input = match input {
        Some(text) => text.as_bytes().to_vec(),
        None => stdin()?,
    };
    let config = Config { server: Server { data: global.data.clone(), ..Server::default() }, ..Config::empty() };
    let server = builder(config)?.threads(1).pool(PoolSize::of(16)).without_http().build().await?;
    let mut links = Vec::new();
    for file in files {
        let (file, whole) = parse_link(file);
        links.push(Link { module: server.registry().load(file).await?, whole });
    }
    let (steps, failed) = match server.chain(&links, input, limits).await {
        Ok(steps) => (steps, None),
        Err(ChainError { steps, error }) => (steps, Some(error)),
    };
    let printed = if global.json { print_json(&steps) } else { print_text(&steps) };
    printed.map_err(|error| Error::new(Kind::Internal, format!("cannot write to standard output: {error}")))?;
    if let Some(error) = failed {
        return Err(error);
    }
    Ok(if steps.iter().all(|step| step.code == 0) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parse_link(text: &Path) -> (&Path, bool) {
    let whole = text.to_str().and_then(|text| text.strip_suffix(WHOLE));
    whole.map_or((text, false), |file| (Path::new(file), true))
}

fn stdin() -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|error| Error::new(Kind::Unprocessable, format!("cannot read standard input: {error}; or give --input")))?;
    Ok(bytes)
}

fn print_text(steps: &[Step]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (index, step) in steps.iter().enumerate() {
        let result = guest::result_of(&step.output);
        write!(out, "Step {}: {} ({}", index + 1, String::from_utf8_lossy(&result), step.module)?;
        if step.code != 0 {
            write!(out, ", failed with code {}", step.code)?;
        }
        writeln!(out, ")")?;
    }
    out.flush()
}

fn print_json(steps: &[Step]) -> io::Result<()> {
    let of = |step: &Step| {
        json!({
            "module": &*step.module,
            "output": String::from_utf8_lossy(&step.output),
            "result": String::from_utf8_lossy(&guest::result_of(&step.output)),
            "code": step.code,
            "took_ms": step.took.as_secs_f64() * 1e3,
            "cpu_ns": u64::try_from(step.cpu.as_nanos()).unwrap_or(u64::MAX),
        })
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", json!(steps.iter().map(of).collect::<Vec<_>>()))?;
    out.flush()
}
