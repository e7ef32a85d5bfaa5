//! WASI preview 1: one implementation, one table of descriptors.
//!
//! Goals in tension: a program that only touches memory — arguments, environment, standard streams that are buffers, clock,
//! random numbers — must pay for nothing else, and one with directories must never block the thread it shares. So each function
//! a module imports is linked by itself, and a module whose descriptors are all in memory gets plain functions for files. What
//! touches files is one asynchronous function: it does the disk's part on another thread, with buffers of its own that are
//! bounded, since the program's word for a length is worth nothing.
//!
//! A few are asynchronous for every program: `poll_oneoff` and `sched_yield`, which wait, and `fd_write` and `random_get`, which
//! may be long work. A plain function would hold its thread for all of it, or take less than it was given, which many programs do
//! not notice. Where they need not wait they cost four nanoseconds more than plain ones: what is ready at once switches nothing.
//!
//! Paths are resolved by `cap-primitives`, beneath a directory and by the kernel where it can: what is swapped meanwhile leads
//! nowhere else. `docs/preview1.md` says what programs get, and where it differs from wasmtime's.

mod clock;
mod errno;
mod files;
mod functions;
mod paths;
mod poll;
mod random;
mod readdir;
mod rights;
mod sockets;
mod stat;
mod stdio;
mod strings;
mod table;
mod transfer;
mod vectors;
mod work;

use base::Secret;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use wasmtime::{Caller, Extern};

use crate::instance::Equipment;
use crate::memory::Memory;
use crate::preview1::errno::Failure;
use crate::preview1::table::Table;
use crate::program::Program;
use crate::state::{Active, Serving, State};

pub(crate) use crate::preview1::functions::define;
pub(crate) use crate::preview1::table::{Place, Places, Preopen, open_granted};
pub(crate) use crate::preview1::work::Tenants;

/// The module programs import.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// What the descriptors of a module's instances can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Io {
    /// Buffers and log lines: nothing waits.
    Memory,
    /// Files, or this process's own streams.
    Host,
}

/// What the host keeps for one program; by default for one that cannot ask for it.
#[derive(Default)]
pub(crate) struct Preview1 {
    args: Vec<String>,
    env: Vec<(String, Secret)>,
    table: Table,
    /// The program's memory, once it was asked for.
    memory: Option<wasmtime::Memory>,
}

impl Preview1 {
    pub(crate) fn new(program: Program, granted: &[Preopen], equipment: &Arc<Equipment>, serving: &Serving) -> Self {
        let streams = stdio::descriptors(program.stdin, program.stdout, equipment, serving);
        let table = Table::new(streams, granted, serving.active().module.limits.descriptors);
        Self { args: program.args, env: program.env, table, memory: None }
    }
}

/// The memory of the program that calls, and what is kept for it.
///
/// # Errors
///
/// If it exports no memory: it then has no address to give.
fn reach<'a>(caller: &'a mut Caller<'_, State>) -> wasmtime::Result<(Memory<'a>, &'a mut State)> {
    let known = caller.data_mut().core().preview1.memory;
    let memory = match known {
        Some(memory) => memory,
        None => {
            let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
                wasmtime::bail!("the program calls `{MODULE}` and exports no memory called `memory`");
            };
            caller.data_mut().core().preview1.memory = Some(memory);
            memory
        }
    };
    let (bytes, state) = memory.data_and_store_mut(caller);
    Ok((Memory::new(bytes), state))
}

/// The descriptors of the program that calls.
fn table<'a>(caller: &'a mut Caller<'_, State>) -> &'a mut Table {
    &mut caller.data_mut().core().preview1.table
}

/// The result of a function that may wait for files, where there are none.
fn at_once(function: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    match pin!(function).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Failure::Trap(wasmtime::format_err!("a program without files waits for one"))),
    }
}

/// Within long work of the host for a program: ends it at its deadline, and lets others go on as the program itself would.
async fn breathe(active: &Arc<Active>) -> Result<(), Failure> {
    if active.meter.must_stop_inside() {
        return Err(Failure::Trap(wasmtime::Trap::Interrupt.into()));
    }
    if active.meter.shall_yield() {
        tokio::task::yield_now().await;
    }
    Ok(())
}
