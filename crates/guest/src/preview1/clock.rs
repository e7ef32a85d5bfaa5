//! Clocks. The one that only goes forward begins when the call was admitted: what the host's says is nobody's business, and
//! none may begin at zero, which some languages take for a failure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wasmtime::Caller;

use crate::preview1::errno::{Errno, Failure};
use crate::preview1::reach;
use crate::state::{Active, State};

/// A clock programs may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// Since 1970.
    Realtime,
    /// Since the call was admitted.
    Monotonic,
    /// What the program has computed.
    Cpu,
}

impl Clock {
    pub(super) fn of(number: u32) -> Result<Self, Failure> {
        match number {
            0 => Ok(Self::Realtime),
            1 => Ok(Self::Monotonic),
            // One program is one thread.
            2 | 3 => Ok(Self::Cpu),
            _ => Err(Errno::Inval.into()),
        }
    }

    pub(super) fn now(self, active: &Active) -> Duration {
        match self {
            // A host that is set to before 1970 has none to offer.
            Self::Realtime => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            Self::Monotonic => active.meter.since_admission(),
            Self::Cpu => active.meter.cpu_used() + Duration::from_nanos(active.meter.poll_ns()),
        }
    }
}

pub(super) fn resolution(caller: &mut Caller<'_, State>, clock: u32, to: u32) -> Result<(), Failure> {
    Clock::of(clock)?;
    let (mut memory, _) = reach(caller)?;
    // All of them count nanoseconds.
    Ok(memory.write_u64(to, 1)?)
}

pub(super) fn time(caller: &mut Caller<'_, State>, clock: u32, _precision: u64, to: u32) -> Result<(), Failure> {
    let clock = Clock::of(clock)?;
    let (mut memory, state) = reach(caller)?;
    let now = u64::try_from(clock.now(&state.active()).as_nanos()).map_err(|_| Errno::Overflow)?;
    Ok(memory.write_u64(to, now)?)
}
