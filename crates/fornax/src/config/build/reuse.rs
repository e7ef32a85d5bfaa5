//! `reuse`: how many calls an instance serves.

use std::time::Duration;

use guest::{Lifetime, Reuse};
use toml::Spanned;

use super::{Build, Checked, raw};
use crate::config::ConfigError;

/// What an instance serves where nothing else is said: enough for its start not to count, few enough that what a guest leaves behind
/// from call to call stays small.
const CALLS: u32 = 128;
const CALLS_MAX: u32 = 1_000_000;

/// Calls of one instance at once. Each may hold handles, of which an instance has some thousands.
const AT_ONCE: u32 = 16;
const AT_ONCE_MAX: u32 = 256;

/// Long enough for the next of a few calls a second, short enough that a module nobody asks for soon takes no memory.
const IDLE: Duration = Duration::from_secs(10);
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);

const MODE_HINT: &str = "write `fresh`, `serial` or `concurrent`";

impl Build<'_> {
    pub(super) fn reuse(&self, raw: Option<&Spanned<raw::Reuse>>) -> Checked<Reuse> {
        let Some(raw) = raw else { return Ok(Reuse::default()) };
        let table = match raw.get_ref() {
            raw::Reuse::Mode(mode) => return self.mode(mode, raw, CALLS, AT_ONCE, IDLE),
            raw::Reuse::Table(table) => table,
        };
        let calls = self.whole(table.calls.as_ref(), "calls", 1..=CALLS_MAX, CALLS)?;
        let at_once = self.whole(table.at_once.as_ref(), "at_once", 1..=AT_ONCE_MAX, AT_ONCE.min(calls))?;
        let idle = self.duration(table.idle.as_ref(), "idle", Duration::from_millis(1)..=IDLE_MAX)?.unwrap_or(IDLE);
        let reuse = self.mode(&self.text(&table.mode)?, &table.mode, calls, at_once, idle)?;
        let says_at_once = table.at_once.as_ref().filter(|_| !matches!(reuse, Reuse::Concurrent { .. }));
        match says_at_once {
            Some(at_once) => Err(self
                .origin
                .error(at_once.span(), "`at_once` is for `mode = \"concurrent\"`")
                .hint("a `serial` instance serves one call at a time")),
            None => Ok(reuse),
        }
    }

    fn mode<T>(&self, mode: &str, at: &Spanned<T>, calls_max: u32, at_once_max: u32, idle: Duration) -> Checked<Reuse> {
        let lifetime = Lifetime { calls_max, idle };
        of_mode(mode, lifetime, at_once_max)
            .ok_or_else(|| self.origin.error(at.span(), format!("unknown way of reuse `{mode}`")).hint(MODE_HINT))
    }
}

fn of_mode(mode: &str, lifetime: Lifetime, at_once_max: u32) -> Option<Reuse> {
    match mode {
        "fresh" => Some(Reuse::Fresh),
        "serial" => Some(Reuse::Serial(lifetime)),
        "concurrent" => Some(Reuse::Concurrent { lifetime, at_once_max }),
        _ => None,
    }
}

/// The value of `--reuse`.
pub(in crate::config) fn reuse_flag(text: &str) -> Checked<Reuse> {
    of_mode(text, Lifetime { calls_max: CALLS, idle: IDLE }, AT_ONCE)
        .ok_or_else(|| ConfigError::new(format!("unknown way of reuse `{text}`")).hint(MODE_HINT))
}
