//! Calls a plugin over and over on one thread, and prints how many times a second: `execute FILE SECONDS`.

use std::time::{Duration, Instant};

use fornax::{Builder, Config, Error, ExecuteLimits};

/// What the program has, and what a program that embeds Fornax is well advised to have.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the figure is this program's data")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(seconds)) = (args.next(), args.next()) else { return Err("execute FILE SECONDS".into()) };
    println!("{:.0}", calls_per_second(&file, Duration::try_from_secs_f64(seconds.parse()?)?).await?);
    Ok(())
}

async fn calls_per_second(file: &str, duration: Duration) -> Result<f64, Error> {
    let server = Builder::from_config(Config::empty())?.threads(1).without_http().build().await?;
    let plugin = server.registry().load(file).await?;
    let (began, mut calls) = (Instant::now(), 0.0);
    while began.elapsed() < duration {
        for _ in 0..100 {
            let step = server.execute(plugin, "hello", ExecuteLimits::default()).await?;
            assert_eq!(step.output, "Result = HELLO");
        }
        calls += 100.0;
    }
    Ok(calls / began.elapsed().as_secs_f64())
}
