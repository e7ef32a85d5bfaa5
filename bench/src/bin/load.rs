//! Loads a server for some seconds, checks every answer and prints one line of JSON: `bench-load ADDRESS [--FLAG VALUE]…`.
//!
//! The flags are the fields of `bench::load::Options`. A right answer is 200 with the hello, or with what the flags say instead.

use bench::load::{self, Options};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::io::{Error, Result};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the result is this program's data")]
async fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1)).ok_or_else(|| Error::other("see `Options` in bench/src/load.rs"))?;
    // A connection is a descriptor.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum })?;
    let (tally, elapsed) = load::run(options).await?;
    let mut line = tally.json(elapsed);
    let used = clock_gettime(ClockId::ProcessCPUTime);
    // How busy this program was: near 1 it, and not the server, is what is measured.
    line["busy"] = ((used.tv_sec as f64 + used.tv_nsec as f64 / 1e9) / elapsed.as_secs_f64()).into();
    println!("{line}");
    Ok(())
}
