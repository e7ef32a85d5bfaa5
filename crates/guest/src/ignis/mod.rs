//! How core modules reach outside: the host functions of Ignis, in both of its forms.
//!
//! | module | function | messages |
//! | --- | --- | --- |
//! | `env` | `host_http_request(request, len, answer, room) -> len` | JSON, the answer in a buffer of the guest |
//! | `env` | `host_socket_operation(request, len, answer, room) -> len` | the same |
//! | `ignis_http` | `call_host(request, len) -> address << 32 \| len` | protobuf, the answer where the guest's allocator says |
//! | `ignis_socket` | `call_host(request, len) -> address << 32 \| len` | JSON, likewise |
//!
//! 0 means that there is no answer: the request makes no sense, is denied or failed, or its answer does not fit. Everything goes through
//! egress, by the module's allow-list and budget. Sockets are the instance's and close with it.

mod http;
mod socket;

use wasmtime::{Caller, Extern, Linker, Module};

use crate::memory::Memory;
use crate::outbound::Budget;
use crate::state::{Active, State};

/// The modules guests import.
pub(crate) const MODULES: [&str; 3] = ["env", "ignis_http", "ignis_socket"];

/// Bytes of one message in either direction: as much as one call into the host may make it copy.
const MESSAGE_BYTES_MAX: u32 = 8 << 20;

/// What an instance has outside.
pub(crate) struct Outside {
    budget: Budget,
    sockets: socket::Sockets,
    /// The host waits for the guest's allocator.
    is_allocating: bool,
}

impl Outside {
    pub(crate) fn new(active: &Active) -> Self {
        Self { budget: Budget::new(active), sockets: socket::Sockets::default(), is_allocating: false }
    }
}

/// What a function does.
#[derive(Clone, Copy)]
enum Service {
    HttpJson,
    HttpProtobuf,
    Socket,
}

/// Where its answer goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// To a buffer that the guest names.
    Buffer,
    /// To where the guest's allocator says.
    Allocated,
}

fn find(module: &str, name: &str) -> Option<(Service, Form)> {
    match (module, name) {
        ("env", "host_http_request") => Some((Service::HttpJson, Form::Buffer)),
        ("env", "host_socket_operation") => Some((Service::Socket, Form::Buffer)),
        ("ignis_http", "call_host") => Some((Service::HttpProtobuf, Form::Allocated)),
        ("ignis_socket", "call_host") => Some((Service::Socket, Form::Allocated)),
        _ => None,
    }
}

/// Defines the function `name` of `module`, one of [`MODULES`], if there is one.
pub(crate) fn define(linker: &mut Linker<State>, module: &str, name: &str) -> wasmtime::Result<bool> {
    match find(module, name) {
        None => return Ok(false),
        Some((service, Form::Buffer)) => {
            linker.func_wrap_async(module, name, move |mut caller, (at, len, to, room): (u32, u32, u32, u32)| {
                Box::new(async move {
                    let answer = service.answer(&mut caller, at, len, room).await?;
                    into_buffer(&mut caller, answer, to, room)
                })
            })?
        }
        Some((service, Form::Allocated)) => linker.func_wrap_async(module, name, move |mut caller, (at, len): (u32, u32)| {
            Box::new(async move {
                if caller.data_mut().core().outside.is_allocating {
                    return Ok(0);
                }
                let answer = service.answer(&mut caller, at, len, MESSAGE_BYTES_MAX).await?;
                into_allocated(&mut caller, answer).await
            })
        })?,
    };
    Ok(true)
}

/// Stacks of the pool that one instance takes at most: its own, and the one that its allocator runs on while a function of the
/// host waits for it.
pub(crate) fn stacks(module: &Module) -> u32 {
    let asks = |import: wasmtime::ImportType<'_>| matches!(find(import.module(), import.name()), Some((_, Form::Allocated)));
    if module.imports().any(asks) { 2 } else { 1 }
}

impl Service {
    /// Its answer to the guest's message, of which the guest takes `room` bytes.
    async fn answer(self, caller: &mut Caller<'_, State>, at: u32, len: u32, room: u32) -> wasmtime::Result<Option<Vec<u8>>> {
        let Some(message) = message(caller, at, len)? else { return Ok(None) };
        let room = room.min(MESSAGE_BYTES_MAX);
        Ok(match self {
            Self::HttpJson => http::json(caller, &message, room).await,
            Self::HttpProtobuf => http::protobuf(caller, &message).await,
            Self::Socket => Some(socket::json(caller, &message, room).await),
        })
    }
}

/// The guest's message; none for one that is too large or not in its memory.
fn message(caller: &mut Caller<'_, State>, at: u32, len: u32) -> wasmtime::Result<Option<Vec<u8>>> {
    let (memory, _) = Memory::of(caller)?;
    Ok(memory.bytes(at, len).ok().filter(|_| len <= MESSAGE_BYTES_MAX).map(<[u8]>::to_vec))
}

/// Writes the answer to a buffer of the guest; returns its length, 0 where there is none or it does not fit.
fn into_buffer(caller: &mut Caller<'_, State>, answer: Option<Vec<u8>>, to: u32, room: u32) -> wasmtime::Result<u32> {
    let Some(answer) = answer.filter(|answer| answer.len() <= room as usize) else { return Ok(0) };
    let (mut memory, _) = Memory::of(caller)?;
    Ok(if memory.write(to, &answer).is_ok() { u32::try_from(answer.len())? } else { 0 })
}

/// Writes the answer to where the guest's allocator says; returns address and length, 0 where there is none, or no memory for it.
///
/// The allocator runs on a second stack of the pool. One that calls the host in turn gets nothing: it could otherwise take all stacks
/// there are, which are every tenant's.
async fn into_allocated(caller: &mut Caller<'_, State>, answer: Option<Vec<u8>>) -> wasmtime::Result<u64> {
    let Some(answer) = answer else { return Ok(0) };
    let len = u32::try_from(answer.len())?;
    caller.data_mut().core().outside.is_allocating = true;
    let at = allocate(caller, len).await?;
    caller.data_mut().core().outside.is_allocating = false;
    if at == 0 {
        return Ok(0);
    }
    let (mut memory, _) = Memory::of(caller)?;
    memory.write(at, &answer)?;
    Ok(u64::from(at) << 32 | u64::from(len))
}

async fn allocate(caller: &mut Caller<'_, State>, len: u32) -> wasmtime::Result<u32> {
    let function = |caller: &mut Caller<'_, State>, name| caller.get_export(name).and_then(Extern::into_func);
    if let Some(malloc) = function(caller, "malloc") {
        malloc.typed::<u32, u32>(&*caller)?.call_async(&mut *caller, len).await
    } else if let Some(realloc) = function(caller, "cabi_realloc") {
        realloc.typed::<(u32, u32, u32, u32), u32>(&*caller)?.call_async(&mut *caller, (0, 0, 1, len)).await
    } else {
        wasmtime::bail!("the guest calls the host and exports neither `malloc` nor `cabi_realloc` for its answer");
    }
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, size};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("a message to or from `host_http_request` and its like", size(MESSAGE_BYTES_MAX as usize));
    }

    #[test]
    fn a_module_whose_allocator_the_host_runs_takes_two_stacks() {
        for (guest, expected) in [("ignis-call-host", 2), ("ignis-host-http", 1), ("ignis-hello", 1)] {
            let artifact = std::fs::read(testkit::guest(guest)).expect("a built guest");
            let module = Module::new(&wasmtime::Engine::default(), artifact).expect("a module");
            assert_eq!(stacks(&module), expected, "{guest}");
        }
    }
}
