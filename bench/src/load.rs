//! Load of one server for some seconds: what is asked for, when, and what came of it.
//!
//! Two goals pull apart: as many requests as the server takes, and requests at times the server cannot choose. Without a rate each lane
//! (a connection of HTTP/1.1, a stream of HTTP/2) sends as soon as its last answer is in. With one, requests have appointed times, and
//! what a slow server delays counts from the appointed time, also what was never sent: it cannot hide its queue. Everything is
//! bounded, by a time and where it is said by a number of requests.

mod http1;
mod http2;
mod targets;

use crate::check::Expect;
use serde_json::{Value, json};
use std::io::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
pub use targets::{Spread, Targets};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// How long a last answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Before the next try where a connection broke: a server that is gone costs no busy loop.
const PAUSE: Duration = Duration::from_millis(10);

/// What is asked of which server.
#[derive(Clone, Debug)]
pub struct Options {
    /// `HOST:PORT`.
    pub address: String,
    /// All of them are there before the first request.
    pub connections: u32,
    /// Over HTTP/2, with so many streams at once on each connection.
    pub streams: Option<u32>,
    /// No request is sent later.
    pub duration: Duration,
    /// How many a lane sends at most.
    pub requests: Option<u64>,
    /// Requests a second over all lanes; none for as many as possible.
    pub rate: Option<f64>,
    /// What is asked for.
    pub path: String,
    /// Which number stands for `{}` in it.
    pub spread: Option<Spread>,
    /// Numbered fields sent along, which the answer must have as well.
    pub fields: usize,
    /// A field sent along, `name: value`.
    pub field: Option<String>,
    /// Bytes sent along in a POST, which must come back.
    pub body: Option<u64>,
    /// The status of a right answer.
    pub status: u16,
    /// Another status that is no mistake, such as 503 of a server that is full; counted by itself.
    pub refused: Option<u16>,
    /// The right body.
    pub expect: Expect,
    /// Leaves so long after sending, without an answer.
    pub leave: Option<Duration>,
}

impl Options {
    /// Of a command line: the address, then flags and their values.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self {
            address: args.next()?,
            connections: 32,
            streams: None,
            duration: Duration::from_secs(3),
            requests: None,
            rate: None,
            path: "/".to_owned(),
            spread: None,
            fields: 0,
            field: None,
            body: None,
            status: 200,
            refused: None,
            expect: Expect::Hello,
            leave: None,
        };
        while let Some(flag) = args.next() {
            let value = args.next()?;
            let number = || value.parse().ok();
            match flag.as_str() {
                "--connections" => options.connections = value.parse().ok()?,
                "--streams" => options.streams = Some(value.parse().ok()?),
                "--seconds" => options.duration = Duration::try_from_secs_f64(value.parse().ok()?).ok()?,
                "--requests" => options.requests = Some(number()?),
                "--rate" => options.rate = Some(value.parse().ok().filter(|&rate| rate > 0.0)?),
                "--path" => options.path = value,
                "--zipf" => options.spread = Some(Spread::Zipf(value.parse().ok().filter(|&count| count > 0)?)),
                "--each" => options.spread = Some(Spread::Each(number()?)),
                "--fields" => options.fields = value.parse().ok()?,
                "--field" => options.field = Some(value),
                "--body" => options.body = Some(number()?),
                "--status" => options.status = value.parse().ok()?,
                "--refused" => options.refused = Some(value.parse().ok()?),
                "--answer" => options.expect = Expect::Begin(value),
                "--leave-ms" => options.leave = Some(Duration::from_millis(number()?)),
                _ => return None,
            }
        }
        if let Some(length) = options.body {
            options.expect = Expect::Pattern(length);
        }
        Some(options)
    }

    fn lanes(&self) -> u32 {
        self.connections * self.streams.unwrap_or(1)
    }
}

/// What one request came to.
enum Verdict {
    Right,
    Refused,
    Left,
    Wrong(String),
}

/// What one lane, or all, saw.
#[derive(Debug, Default)]
pub struct Tally {
    /// Right answers.
    pub ok: u64,
    /// Answers of the other status that is no mistake.
    pub refused: u64,
    /// Requests left without an answer, on purpose.
    pub left: u64,
    /// Wrong answers and connections that broke.
    pub bad: u64,
    /// What the first of these was.
    pub first_bad: Option<String>,
    /// Of each request; one that was due and never sent counts to the end of the load.
    pub latencies_us: Vec<u32>,
}

impl Tally {
    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Right => self.ok += 1,
            Verdict::Refused => self.refused += 1,
            Verdict::Left => self.left += 1,
            Verdict::Wrong(what) => {
                self.bad += 1;
                self.first_bad.get_or_insert(what);
            }
        }
    }

    fn took(&mut self, time: Duration) {
        self.latencies_us.push(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
    }

    fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.refused += other.refused;
        self.left += other.left;
        self.bad += other.bad;
        self.first_bad = self.first_bad.take().or(other.first_bad);
        self.latencies_us.extend(other.latencies_us);
    }

    /// One line for whoever started the load; times in microseconds.
    pub fn json(mut self, elapsed: Duration) -> Value {
        self.latencies_us.sort_unstable();
        let times = &self.latencies_us;
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0);
        json!({
            "ok": self.ok, "refused": self.refused, "left": self.left, "bad": self.bad, "first_bad": self.first_bad,
            "seconds": elapsed.as_secs_f64(),
            "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "max_us": times.last().copied().unwrap_or(0),
        })
    }
}

/// One way of asking, one request after the other.
enum Lane {
    Http1(http1::Connection),
    Http2(http2::Stream),
}

impl Lane {
    async fn ask(&mut self, target: &str) -> Result<Verdict> {
        match self {
            Self::Http1(connection) => connection.ask(target).await,
            Self::Http2(stream) => stream.ask(target).await,
        }
    }
}

/// Connects, then loads the server; what came of it and how long it took.
pub async fn run(options: Options) -> Result<(Tally, Duration)> {
    let options = Arc::new(options);
    let mut lanes = Vec::new();
    for _ in 0..options.connections {
        match options.streams {
            None => lanes.push(Lane::Http1(http1::Connection::open(&options).await?)),
            Some(streams) => lanes.extend(http2::connect(&options, streams).await?.into_iter().map(Lane::Http2)),
        }
    }
    let targets = Arc::new(Targets::new(&options.path, options.spread));
    let start = Instant::now();
    let tasks: Vec<_> = (0..)
        .zip(lanes)
        .map(|(index, lane)| tokio::spawn(drive(lane, Arc::clone(&options), Arc::clone(&targets), index, start)))
        .collect();
    let mut all = Tally::default();
    for task in tasks {
        // A server that never answers is one bad answer, not a load that never ends.
        match timeout_at(start + options.duration + PATIENCE, task).await {
            Ok(tally) => all.add(tally.map_err(Error::other)?),
            Err(_) => all.count(Verdict::Wrong("no answer".to_owned())),
        }
    }
    Ok((all, start.elapsed()))
}

async fn drive(mut lane: Lane, options: Arc<Options>, targets: Arc<Targets>, index: u32, start: Instant) -> Tally {
    let mut schedule = Schedule::new(&options, index, start);
    let picks = targets.picks(index);
    let mut tally = Tally::default();
    for target in picks {
        let Some(began) = schedule.next().await else { break };
        match lane.ask(&target).await {
            Ok(verdict) => tally.count(verdict),
            Err(error) => {
                tally.count(Verdict::Wrong(error.to_string()));
                sleep(PAUSE).await;
            }
        }
        tally.took(began.elapsed());
    }
    schedule.unsent().for_each(|late| tally.took(late));
    tally
}

/// When a lane sends.
struct Schedule {
    end: Instant,
    left: Option<u64>,
    /// The next appointed time, and the time between two.
    due: Option<(Instant, Duration)>,
}

impl Schedule {
    fn new(options: &Options, index: u32, start: Instant) -> Self {
        let lanes = f64::from(options.lanes());
        let due = options.rate.map(|rate| {
            let interval = Duration::from_secs_f64(lanes / rate);
            // Lanes take turns instead of sending all at once.
            (start + interval.mul_f64(f64::from(index) / lanes), interval)
        });
        Self { end: start + options.duration, left: options.requests, due }
    }

    /// Waits until it is time, and returns from when on the answer's time counts; none when the load is over.
    async fn next(&mut self) -> Option<Instant> {
        if self.left == Some(0) {
            self.due = None;
            return None;
        }
        let free = Instant::now();
        let mut began = free;
        if let Some((due, interval)) = &mut self.due {
            let appointed = *due;
            if appointed >= self.end {
                return None;
            }
            sleep_until(appointed).await;
            // A lane that was free in time is late by this program's own timer, whose steps are a millisecond: not the server's fault.
            began = if free > appointed { appointed } else { Instant::now() };
            if Instant::now() < self.end {
                *due += *interval;
            }
        }
        if Instant::now() >= self.end {
            return None;
        }
        self.left = self.left.map(|left| left - 1);
        Some(began)
    }

    /// How long ago, at the end, those were due that were never sent.
    fn unsent(self) -> impl Iterator<Item = Duration> {
        let (mut next, end) = (self.due, self.end);
        std::iter::from_fn(move || {
            let (due, interval) = next.as_mut()?;
            let late = end.checked_duration_since(*due).filter(|late| !late.is_zero())?;
            *due += *interval;
            Some(late)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Option<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn command_lines() {
        let load = options("127.0.0.1:1 --rate 10 --body 5 --zipf 3 --leave-ms 2").unwrap();
        assert_eq!((load.rate, load.expect, load.spread), (Some(10.0), Expect::Pattern(5), Some(Spread::Zipf(3))));
        assert_eq!(load.leave, Some(Duration::from_millis(2)));
        for wrong in ["", "a --rate", "a --rate 0", "a --what 1", "a --seconds -1", "a --zipf 0"] {
            assert!(options(wrong).is_none(), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_slow_server_delays_counts_from_the_appointed_time() {
        let load = options("a --connections 1 --rate 10 --seconds 1").unwrap();
        let start = Instant::now();
        let mut schedule = Schedule::new(&load, 0, start);
        assert_eq!(schedule.next().await, Some(start));
        // The answer takes 350 ms: requests of 100, 200 and 300 ms are late.
        sleep(Duration::from_millis(350)).await;
        assert_eq!(schedule.next().await, Some(start + Duration::from_millis(100)));
        // The next answer takes longer than the load: what was due from 200 ms on was never sent.
        sleep(Duration::from_secs(2)).await;
        assert_eq!(schedule.next().await, None);
        let late: Vec<u128> = schedule.unsent().map(|late| late.as_millis()).collect();
        assert_eq!(late, [800, 700, 600, 500, 400, 300, 200, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_ends_after_its_requests() {
        let load = options("a --requests 2 --rate 100").unwrap();
        let mut schedule = Schedule::new(&load, 0, Instant::now());
        assert!(schedule.next().await.is_some() && schedule.next().await.is_some() && schedule.next().await.is_none());
        assert_eq!(schedule.unsent().count(), 0);
    }
}
