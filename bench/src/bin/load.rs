//! Loads a server over keep-alive connections for some seconds, checks every answer and prints one line of JSON.
//!
//! `bench-load ADDRESS --connections N --seconds S [--rate R] [--path PATH] [--answer TEXT]`. A right answer is 200 with the hello, or with a
//! body that begins with TEXT. Without a rate each connection sends as soon as its last answer is in. With
//! one, requests have appointed times, and a late answer counts from the appointed time, so that a slow server cannot hide its queue.

use bench::HELLO;
use bench::answer::{Answer, Parsed, parse};
use serde_json::json;
use std::io::{Error, Result};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How long a last answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was asked for on the command line.
#[derive(Clone)]
struct Load {
    address: String,
    connections: u32,
    duration: Duration,
    /// Requests a second over all connections; none for as many as possible.
    rate: Option<f64>,
    path: String,
    /// How the right body begins; none for the whole hello.
    answer: Option<String>,
}

impl Load {
    fn is_right(&self, answer: &Answer) -> bool {
        let is_right = match &self.answer {
            Some(begin) => answer.body.starts_with(begin.as_bytes()),
            None => answer.body == HELLO.as_bytes(),
        };
        answer.status == 200 && is_right
    }
}

/// What one connection, or all, saw.
#[derive(Default)]
struct Tally {
    ok: u64,
    /// Answers that were not 200 with the right body, and connections that broke.
    bad: u64,
    latencies_us: Vec<u32>,
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the result is this program's data")]
async fn main() -> Result<()> {
    let load = arguments(std::env::args().skip(1)).ok_or_else(|| Error::other("see the head of bench/src/bin/load.rs"))?;
    let start = Instant::now();
    let tasks: Vec<_> = (0..load.connections).map(|index| tokio::spawn(connection(load.clone(), index, start))).collect();
    let mut all = Tally::default();
    for task in tasks {
        // A server that never answers is one bad answer, not a load that never ends.
        let tally =
            timeout_at(start + load.duration + PATIENCE, task).await.unwrap_or(Ok(Tally { bad: 1, ..Tally::default() }))?;
        all.ok += tally.ok;
        all.bad += tally.bad;
        all.latencies_us.extend(tally.latencies_us);
    }
    let seconds = start.elapsed().as_secs_f64();
    all.latencies_us.sort_unstable();
    let at = |share: f64| all.latencies_us.get((all.latencies_us.len() as f64 * share) as usize).copied().unwrap_or(0);
    println!("{}", json!({ "ok": all.ok, "bad": all.bad, "seconds": seconds, "p50_us": at(0.5), "p99_us": at(0.99) }));
    Ok(())
}

fn arguments(mut args: impl Iterator<Item = String>) -> Option<Load> {
    let mut load = Load {
        address: args.next()?,
        connections: 32,
        duration: Duration::from_secs(3),
        rate: None,
        path: "/".to_owned(),
        answer: None,
    };
    while let Some(flag) = args.next() {
        let value = args.next()?;
        match flag.as_str() {
            "--connections" => load.connections = value.parse().ok()?,
            "--seconds" => load.duration = Duration::try_from_secs_f64(value.parse().ok()?).ok()?,
            "--rate" => load.rate = Some(value.parse().ok().filter(|&rate| rate > 0.0)?),
            "--path" => load.path = value,
            "--answer" => load.answer = Some(value),
            _ => return None,
        }
    }
    Some(load)
}

/// Sends one request after the other until time is up; connects again where the server closed.
async fn connection(load: Load, index: u32, start: Instant) -> Tally {
    let request = format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", load.path, load.address);
    let interval = load.rate.map(|rate| Duration::from_secs_f64(f64::from(load.connections) / rate));
    // Connections take turns instead of sending all at once.
    let mut due = interval.map(|interval| start + interval.mul_f64(f64::from(index) / f64::from(load.connections)));
    let mut tally = Tally::default();
    let mut client = None;
    loop {
        if let Some(due) = due {
            tokio::time::sleep_until(due).await;
        }
        let sent = Instant::now();
        if sent >= start + load.duration {
            return tally;
        }
        match exchange(&load, &mut client, request.as_bytes()).await {
            Ok(true) => tally.ok += 1,
            Ok(false) => tally.bad += 1,
            Err(_) => {
                client = None;
                tally.bad += 1;
            }
        }
        let latency = due.unwrap_or(sent).elapsed().as_micros();
        tally.latencies_us.push(u32::try_from(latency).unwrap_or(u32::MAX));
        due = due.zip(interval).map(|(due, interval)| due + interval);
    }
}

/// An open connection and the bytes that were read ahead.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Whether the answer was the right one.
async fn exchange(load: &Load, slot: &mut Option<Client>, request: &[u8]) -> Result<bool> {
    let client = match slot {
        Some(client) => client,
        None => {
            let stream = TcpStream::connect(&load.address).await?;
            stream.set_nodelay(true)?;
            slot.insert(Client { stream, buffer: Vec::with_capacity(4096) })
        }
    };
    client.stream.write_all(request).await?;
    loop {
        // What has arrived may be whole already; with nothing there it is partial.
        match parse(&client.buffer) {
            Parsed::Whole(answer, used) => {
                client.buffer.drain(..used);
                if answer.close {
                    *slot = None;
                }
                return Ok(load.is_right(&answer));
            }
            Parsed::Broken => return Err(Error::other("not HTTP")),
            Parsed::Partial => {}
        }
        if client.stream.read_buf(&mut client.buffer).await? == 0 {
            return Err(Error::other("closed in the middle"));
        }
    }
}
