//! Sockets: the names link, and there are none yet. The table of descriptors is where they will be.

use wasmtime::Caller;

use crate::preview1::errno::{Errno, Failure};
use crate::preview1::table;
use crate::state::State;

/// The functions only WasmEdge has, with their numbers of parameters; `sock_accept` is also preview 1's own, with one more.
const OF_WASMEDGE: [(&str, usize); 12] = [
    ("sock_accept", 2),
    ("sock_bind", 3),
    ("sock_connect", 3),
    ("sock_getaddrinfo", 8),
    ("sock_getlocaladdr", 4),
    ("sock_getpeeraddr", 4),
    ("sock_getsockopt", 5),
    ("sock_listen", 2),
    ("sock_open", 3),
    ("sock_recv_from", 8),
    ("sock_send_to", 7),
    ("sock_setsockopt", 5),
];

/// How many parameters the function has, if it is WasmEdge's and not preview 1's.
pub(super) fn of_wasmedge(name: &str, params: usize) -> Option<usize> {
    let (name, own) = OF_WASMEDGE.iter().find(|(of, _)| *of == name)?;
    (*name != "sock_accept" || params == *own).then_some(*own)
}

/// What is open is no socket.
fn no_socket(caller: &mut Caller<'_, State>, fd: u32) -> Result<(), Failure> {
    table(caller).get(fd)?;
    Err(Errno::Notsock.into())
}

pub(super) fn accept(caller: &mut Caller<'_, State>, fd: u32, _flags: u32, _to: u32) -> Result<(), Failure> {
    no_socket(caller, fd)
}

pub(super) fn recv(
    caller: &mut Caller<'_, State>,
    fd: u32,
    _iovs: u32,
    _count: u32,
    _flags: u32,
    _to: u32,
    _flags_to: u32,
) -> Result<(), Failure> {
    no_socket(caller, fd)
}

pub(super) fn send(
    caller: &mut Caller<'_, State>,
    fd: u32,
    _iovs: u32,
    _count: u32,
    _flags: u32,
    _to: u32,
) -> Result<(), Failure> {
    no_socket(caller, fd)
}

pub(super) fn shutdown(caller: &mut Caller<'_, State>, fd: u32, _how: u32) -> Result<(), Failure> {
    no_socket(caller, fd)
}
