//! Ten times what a server can do, offered at times it cannot choose: it goes on doing what it can, says no to the rest at once or
//! after the time a call may wait, and is itself again when the rush is over.
//!
//! `FORNAX_OVERLOAD_SECONDS=10` offers it for so long and holds goodput to what docs/limits.md promises; where nothing is said it is
//! a few seconds, on a machine that may compile at the same time.

mod client;
mod saturation;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use testkit::{App, Fornax, alone, note};
use tokio::task::LocalSet;
use tokio::time::Instant;

use client::Client;

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

/// Where nothing is said.
const RUSH: Duration = Duration::from_secs(3);

/// For as long it is measured what the server can do.
const PEAK: Duration = Duration::from_millis(1500);

/// How much more is offered than can be done.
const TIMES: f64 = 10.0;

/// Of the peak, what is done under ten times as much; and what a machine that does other things must show.
const GOODPUT_MIN: f64 = 0.9;
const GOODPUT_BUSY_MIN: f64 = 0.5;

/// After the rush.
const RECOVERED: Duration = Duration::from_secs(5);

/// For how long, in the full form.
fn seconds() -> Option<Duration> {
    let told = std::env::var("FORNAX_OVERLOAD_SECONDS").ok()?;
    Some(Duration::from_secs(told.parse().expect("a number of seconds")))
}

/// Lets this process have as many sockets as it may.
fn may_open_all() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("up to the hard limit");
}

/// A server that has one processor, and whoever asks another, where there are two: what asking ten times as much costs is not the
/// server's.
fn apart(app: &App) -> Fornax {
    let all = sched_getaffinity(None).expect("which processors there are");
    let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu));
    let (Some(one), Some(other)) = (usable.next(), usable.next()) else { return Fornax::run(FORNAX, app.write(), &[]) };
    let on = |cpu| {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).expect("one of its processors");
    };
    // What it starts is where it is itself.
    on(one);
    let server = Fornax::run(FORNAX, app.write(), &[]);
    on(other);
    server
}

/// Offers ten times the peak to `path`, whose calls are `at_once` at most.
fn rush(what: &str, app: App, path: &str, at_once: usize) {
    let _alone = alone();
    may_open_all();
    let told = seconds();
    let duration = told.unwrap_or(RUSH);
    let goodput_min = if told.is_some() { GOODPUT_MIN } else { GOODPUT_BUSY_MIN };
    let server = apart(&app);
    let client = Client::new(server.addr(), path);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        assert_eq!(client.ask().await.status, 200, "it is loaded");
        let peak = client.peak(at_once, PEAK).await;
        let began = Instant::now();
        let answers = client.offer(TIMES * peak, duration).await;
        // Who is let in last is answered after the rush, and counts for it as whoever was let in first.
        let good: Vec<_> = answers.iter().filter(|answer| answer.status == 200).map(|answer| answer.at).collect();
        let end = good.iter().max().copied().unwrap_or_else(Instant::now).max(began + duration);
        let goodput = good.len() as f64 / (end - began).as_secs_f64();
        let refused = answers.iter().filter(|answer| answer.status == 503).count();
        let longest = answers.iter().map(|answer| answer.took).max().unwrap_or_default();
        for answer in &answers {
            assert!(matches!(answer.status, 200 | 503), "{what}: an answer of {}", answer.status);
            assert!(answer.status == 200 || answer.says_when, "{what}: a 503 that does not say when to come again");
        }
        // From here on as much as can be done well: half.
        let over = Instant::now();
        let again = loop {
            let answers = client.offer(peak / 2.0, Duration::from_millis(250)).await;
            if answers.iter().all(|answer| answer.status == 200) {
                break over.elapsed();
            }
            assert!(over.elapsed() < RECOVERED, "{what}: still refused {:?} after the rush", over.elapsed());
        };
        // On a machine that does other things, too, it is not always the same.
        let later = client.peak(at_once, PEAK).await;
        note(&format!(
            "{what}: peak {peak:.0}/s and {later:.0}/s, {} offered in {duration:?}, goodput {goodput:.0}/s, {refused} refused, the longest answer {longest:?}, \
             itself again after {again:?}",
            answers.len()
        ));
        assert!(goodput >= goodput_min * peak.min(later), "{what}: goodput {goodput:.0}/s of {peak:.0}/s");
        assert!(refused > 0, "{what}: nothing was refused, so it was no rush");
    });
}

#[test]
fn calls_that_wait_go_on_at_their_pace_under_ten_times_as_many() {
    let app = App::new().tables("[tenant.default]\nin_flight = 16").module("slow", "slow", "").route("/*", "slow", "");
    rush("calls that wait", app, "/?ms=80", 16);
}

#[test]
fn calls_that_compute_go_on_at_their_pace_under_ten_times_as_many() {
    let app = App::new().module("work", "work", "").route("/*", "work", "");
    rush("calls that compute", app, "/spin?rounds=4000000", 4);
}
