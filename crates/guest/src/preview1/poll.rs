//! Waiting: for a time, or for a descriptor.
//!
//! Whoever waits here is a future like any other: the deadline ends it, and so does a client that leaves.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use wasmtime::Caller;

use crate::memory::Memory;
use crate::preview1::clock::Clock;
use crate::preview1::errno::{Errno, Failure};
use crate::preview1::rights::Rights;
use crate::preview1::stdio::Input;
use crate::preview1::table::{Descriptor, Handle, Kind, Table};
use crate::preview1::{breathe, files, reach};
use crate::state::{Active, State};

/// Subscriptions of one call; programs have a handful.
const SUBSCRIPTIONS_MAX: u32 = 4096;

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;

/// A time that never comes.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

/// What a program waits for.
struct Subscription {
    /// The program's own mark.
    userdata: u64,
    event: Event,
    /// The kind, as the event repeats it.
    ty: u8,
}

enum Event {
    At(Instant),
    /// It has come, or never will.
    Is(Outcome),
    /// It can be read when somebody has written.
    Reads {
        fd: u32,
    },
    /// How much can be read, the disk knows.
    Rest {
        handle: Arc<Handle>,
        position: u64,
    },
}

#[derive(Clone, Copy)]
struct Outcome {
    errno: u16,
    bytes: u64,
    hangup: bool,
}

impl Outcome {
    const DONE: Self = Self { errno: 0, bytes: 0, hangup: false };

    fn rest(bytes: u64) -> Self {
        Self { errno: 0, bytes, hangup: bytes == 0 }
    }

    fn failed(errno: Errno) -> Self {
        Self { errno: errno as u16, ..Self::DONE }
    }
}

pub(super) async fn sched_yield(_: &mut Caller<'_, State>) -> Result<(), Failure> {
    tokio::task::yield_now().await;
    Ok(())
}

pub(super) async fn oneoff(
    caller: &mut Caller<'_, State>,
    subscriptions: u32,
    events: u32,
    count: u32,
    to: u32,
) -> Result<(), Failure> {
    if count == 0 || count > SUBSCRIPTIONS_MAX {
        return Err(Errno::Inval.into());
    }
    let (mut memory, state) = reach(caller)?;
    memory.bytes(events, count * EVENT_BYTES)?;
    let active = state.active();
    let table = &mut state.core().preview1.table;
    memory.bytes(subscriptions, count * SUBSCRIPTION_BYTES)?;
    let now = Instant::now();
    let mut wanted = Vec::with_capacity(count as usize);
    for index in 0..count {
        wanted.push(subscription(&memory, subscriptions + index * SUBSCRIPTION_BYTES, table, &active, now)?);
    }
    wait(&wanted, table, now).await?;
    breathe(&active).await?;
    let written = report(&wanted, table, &mut memory, events).await?;
    Ok(memory.write_u32(to, written)?)
}

fn subscription(memory: &Memory<'_>, at: u32, table: &mut Table, active: &Active, now: Instant) -> Result<Subscription, Failure> {
    let userdata = memory.read_u64(at)?;
    let [ty, ..] = memory.read_u32(at + 8)?.to_le_bytes();
    let what = memory.read_u32(at + 16)?;
    let timeout = memory.read_u64(at + 24)?;
    let is_absolute = memory.read_u32(at + 40)? & 1 != 0;
    let event = match ty {
        0 => match Clock::of(what) {
            Ok(Clock::Cpu) | Err(_) => Event::Is(Outcome::failed(Errno::Inval)),
            Ok(clock) => {
                let timeout = Duration::from_nanos(timeout);
                let wait = if is_absolute { timeout.saturating_sub(clock.now(active)) } else { timeout };
                Event::At(now + wait.min(NEVER))
            }
        },
        1 => table.get(what).and_then(|descriptor| reads(what, descriptor)).unwrap_or_else(failed),
        2 => table.get(what).and_then(writes).unwrap_or_else(failed),
        _ => return Err(Errno::Inval.into()),
    };
    Ok(Subscription { userdata, event, ty })
}

fn failed(failure: Failure) -> Event {
    let errno = match failure {
        Failure::Errno(errno) => errno,
        Failure::Trap(_) => Errno::Io,
    };
    Event::Is(Outcome::failed(errno))
}

fn reads(fd: u32, descriptor: &mut Descriptor) -> Result<Event, Failure> {
    let event = match &descriptor.kind {
        Kind::Input(Input::Bytes(bytes)) => Event::Is(Outcome::rest(bytes.len() as u64)),
        Kind::Input(Input::Inherited(_)) => Event::Reads { fd },
        Kind::File(file) => Event::Rest { handle: Arc::clone(&file.handle), position: file.position },
        Kind::Output(_) | Kind::Directory(_) => return Err(Errno::Badf.into()),
    };
    descriptor.rights.demand(Rights::POLL_FD_READWRITE)?;
    Ok(event)
}

fn writes(descriptor: &mut Descriptor) -> Result<Event, Failure> {
    match &descriptor.kind {
        Kind::Output(_) | Kind::File(_) => descriptor.rights.demand(Rights::POLL_FD_READWRITE)?,
        Kind::Input(_) | Kind::Directory(_) => return Err(Errno::Badf.into()),
    }
    Ok(Event::Is(Outcome { bytes: 1, ..Outcome::DONE }))
}

/// Waits until at least one of them has come.
async fn wait(wanted: &[Subscription], table: &mut Table, now: Instant) -> Result<(), Failure> {
    let mut until = None;
    let mut read = None;
    for subscription in wanted {
        match &subscription.event {
            Event::At(at) if *at > now => until = Some(until.map_or(*at, |until| (*at).min(until))),
            Event::At(_) | Event::Is(_) | Event::Rest { .. } => return Ok(()),
            Event::Reads { fd } => read = Some(*fd),
        }
    }
    let until = until.map(sleep_until);
    match read {
        None => match until {
            Some(until) => until.await,
            None => return Ok(()),
        },
        Some(fd) => tokio::select! {
            () = readable(table, fd) => {}
            () = async { if let Some(until) = until { until.await } else { std::future::pending().await } } => {}
        },
    }
    Ok(())
}

/// Returns when a stream of this process has something, or has ended.
async fn readable(table: &mut Table, fd: u32) {
    if let Ok(Descriptor { kind: Kind::Input(Input::Inherited(reader)), .. }) = table.get(fd) {
        reader.ready().await;
    }
}

/// Writes an event for each that has come; returns how many.
async fn report(wanted: &[Subscription], table: &mut Table, memory: &mut Memory<'_>, events: u32) -> Result<u32, Failure> {
    let mut written = 0;
    let now = Instant::now();
    for subscription in wanted {
        let outcome = match &subscription.event {
            Event::At(at) if *at <= now => Outcome::DONE,
            Event::At(_) => continue,
            Event::Is(outcome) => *outcome,
            Event::Reads { fd } => match is_readable(table, *fd).await {
                true => Outcome { bytes: 1, ..Outcome::DONE },
                false => continue,
            },
            Event::Rest { handle, position } => match files::stat(handle).await {
                Ok(stat) => Outcome::rest(stat.size.saturating_sub(*position)),
                Err(Failure::Errno(errno)) => Outcome::failed(errno),
                Err(trap) => return Err(trap),
            },
        };
        let mut bytes = [0; EVENT_BYTES as usize];
        bytes[0..8].copy_from_slice(&subscription.userdata.to_le_bytes());
        bytes[8..10].copy_from_slice(&outcome.errno.to_le_bytes());
        bytes[10] = subscription.ty;
        bytes[16..24].copy_from_slice(&outcome.bytes.to_le_bytes());
        bytes[24] = u8::from(outcome.hangup);
        memory.write(events + written * EVENT_BYTES, &bytes)?;
        written += 1;
    }
    Ok(written)
}

/// Whether a stream of this process has something now.
async fn is_readable(table: &mut Table, fd: u32) -> bool {
    let readable: Pin<Box<dyn Future<Output = ()> + Send + '_>> = Box::pin(readable(table, fd));
    tokio::select! {
        biased;
        () = readable => true,
        () = ready(()) => false,
    }
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, number};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        let most = format!("{}, and at least one", number(SUBSCRIPTIONS_MAX as usize));
        assert_documented("preview 1: subscriptions of one `poll_oneoff`", most);
    }
}
