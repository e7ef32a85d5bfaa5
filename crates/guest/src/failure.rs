//! What a guest's end means, and who is to blame.

use std::io;

use base::{Error, Kind};
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::instance::HostFailure;
use crate::state::Active;
use crate::terminal::NotWritten;

/// Turns the error a guest ended with into ours. The stack, with the guest's function names, goes to the log only.
pub(crate) fn classify(active: &Active, error: &wasmtime::Error) -> Error {
    let stack = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
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
        _ if active.meter.memory_denied() => Kind::MemoryLimit,
        Some(_) => Kind::Trap,
        None if is_pool_exhausted(error) => Kind::Overloaded,
        None => Kind::Trap,
    };
    let external = match kind {
        Kind::Stack => "the guest used up its stack",
        Kind::MemoryLimit => "the guest wanted more memory than its limit",
        Kind::Overloaded => "too many calls at once, try again",
        _ => "the guest trapped",
    };
    let error = Error::new(kind, external).internal(internal);
    if kind == Kind::Overloaded { error.retry_after(1) } else { error }
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
    error.log(active.id, &active.module.tenant.name, &active.module.name);
}
