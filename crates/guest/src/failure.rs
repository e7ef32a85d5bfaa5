//! What a guest's end means, and who is to blame.

use std::fmt::{self, Write as _};
use std::io;

use base::{Error, Kind};
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::instance::HostFailure;
use crate::state::Active;
use crate::terminal::NotWritten;

/// Turns the error a guest ended with into ours. The stack, with the guest's function names, goes to the log only.
pub(crate) fn classify(active: &Active, error: &wasmtime::Error) -> Error {
    let stack = error.downcast_ref::<WasmBacktrace>().map(stack);
    let internal = match stack {
        Some(stack) => format!("{}\n{stack}", error.root_cause()),
        None => format!("{error:#}"),
    };
    if let Some(stopped) = active.meter.stopped() {
        return stopped.internal(internal);
    }
    if error.downcast_ref::<HostFailure>().is_some() {
        return Error::new(Kind::Internal, "the server cannot give the guest what it was granted").internal(internal);
    }
    if let Some(lost) = error.downcast_ref::<NotWritten>() {
        return Error::new(Kind::Internal, lost.to_string());
    }
    if active.meter.output_over() {
        return output_limit().internal(internal);
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Error::new(Kind::GuestExit, "the guest ended its program instead of answering")
            .internal(format!("exit code {}", exit.0));
    }
    let kind = match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Kind::Stack,
        _ if active.meter.memory_is_short() => Kind::Overloaded,
        _ if active.meter.memory_denied() => Kind::MemoryLimit,
        Some(_) => Kind::Trap,
        None if is_pool_exhausted(error) => Kind::Overloaded,
        None => Kind::Trap,
    };
    let external = match kind {
        Kind::Stack => "the guest used up its stack",
        Kind::MemoryLimit => "the guest wanted more memory than its limit",
        Kind::Overloaded if active.meter.memory_is_short() => {
            "the tenant's calls have all the memory there is for them, try again"
        }
        Kind::Overloaded => "too many calls at once, try again",
        _ => "the guest trapped",
    };
    let error = Error::new(kind, external).internal(internal);
    if kind == Kind::Overloaded { error.retry_after(1) } else { error }
}

/// Of one name, and of all frames together: both are the guest's to choose, and are written into the log.
const NAME_BYTES_MAX: usize = 128;
const STACK_BYTES_MAX: usize = 6 << 10;

/// The functions a guest was in, innermost first.
fn stack(backtrace: &WasmBacktrace) -> String {
    let mut text = String::from("error while executing at wasm backtrace:");
    for (at, frame) in backtrace.frames().iter().enumerate() {
        let offset = frame.func_offset().unwrap_or_default();
        let name = frame.func_name().map_or_else(|| format!("<wasm function {}>", frame.func_index()), function_name);
        // Writing to a String does not fail.
        let _ = write!(text, "\n  {at:>3}: {name} + {offset:#x}");
        if text.len() > STACK_BYTES_MAX {
            text.push_str("\n  and more");
            break;
        }
    }
    text
}

/// A name as its author wrote it, where it is one of Rust. A short name can stand for a very long one: no more of it is made than is
/// kept. So C++ names stay as they are.
fn function_name(name: &str) -> String {
    struct Short(String);
    impl fmt::Write for Short {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = NAME_BYTES_MAX - self.0.len();
            self.0.push_str(&text[..text.floor_char_boundary(room)]);
            if text.len() > room { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut short = Short(String::new());
    let fits = match rustc_demangle::try_demangle(&name[..name.floor_char_boundary(2 * NAME_BYTES_MAX)]) {
        Ok(demangled) => write!(short, "{demangled:#}"),
        Err(_) => short.write_str(name),
    };
    if fits.is_err() {
        short.0.push('…');
    }
    short.0
}

/// The error of a guest that wrote more than is kept.
pub(crate) fn output_limit() -> Error {
    Error::new(Kind::OutputLimit, "the guest wrote more than its limit")
}

/// The pool has no more, which the gate keeps from happening, or the machine has no more memory or mappings for it.
fn is_pool_exhausted(error: &wasmtime::Error) -> bool {
    error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some()
        || error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::OutOfMemory)
}

/// Logs and counts a failure that comes after the head, where no response can carry it.
pub(crate) fn report_late(active: &Active, error: &Error) {
    active.module.metrics.error(error);
    active.module.log_failure(active.id, error);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_functions_are_short_whatever_they_are() {
        assert_eq!(function_name("_ZN6attack10inner_trap17h0123456789abcdefE"), "attack::inner_trap");
        assert_eq!(function_name("main"), "main");
        let long = function_name(&"ö".repeat(1 << 20));
        assert!(long.len() <= NAME_BYTES_MAX + '…'.len_utf8() && long.ends_with('…'), "{} bytes", long.len());
        // Each `S_` stands for all that was before.
        let twice = format!("_ZN{}E", "3abc".repeat(1000));
        assert!(function_name(&twice).len() <= NAME_BYTES_MAX + '…'.len_utf8());
    }
}
