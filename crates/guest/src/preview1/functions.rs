//! The functions, one row each.
//!
//! A row says how the function is linked: `now` cannot wait; `files` waits only where there are files or streams of this
//! process, and is a plain function elsewhere; `waits` may always, as one does that writes much into the log.

use wasmtime::{Caller, FuncType, Linker, Val, ValType};

use crate::preview1::errno::{Errno, Failure, answer};
use crate::preview1::{Io, MODULE, at_once, clock, files, paths, poll, random, readdir, sockets, strings, transfer};
use crate::state::State;

/// Defines the function `name` of [`MODULE`], as a module imports it, if there is one. A wrong type is found when the module is
/// linked.
pub(crate) fn define(linker: &mut Linker<State>, name: &str, ty: &FuncType, io: Io) -> wasmtime::Result<bool> {
    if let Some(of_wasmedge) = sockets::of_wasmedge(name, ty.params().len()) {
        return define_of_wasmedge(linker, name, of_wasmedge);
    }
    if name == "proc_exit" {
        linker.func_wrap(MODULE, name, |_: Caller<'_, State>, code: u32| exit(code))?;
        return Ok(true);
    }
    define_standard(linker, name, io)
}

/// Functions that only WasmEdge has: everything is an `i32`, and nothing is supported yet.
fn define_of_wasmedge(linker: &mut Linker<State>, name: &str, params: usize) -> wasmtime::Result<bool> {
    let ty = FuncType::new(linker.engine(), std::iter::repeat_n(ValType::I32, params), [ValType::I32]);
    linker.func_new(MODULE, name, ty, |_, _, results| {
        results.fill(Val::I32(i32::from(Errno::Notsup as u16)));
        Ok(())
    })?;
    Ok(true)
}

/// Ends the program.
fn exit(code: u32) -> wasmtime::Result<()> {
    Err(wasmtime_wasi::I32Exit(code.cast_signed()).into())
}

/// There are no signals: a program that gives up ends otherwise.
fn raise(_: &mut Caller<'_, State>, _signal: u32) -> Result<(), Failure> {
    Err(Errno::Notsup.into())
}

macro_rules! now {
    ($linker:ident $io:ident $name:ident $function:path, $($arg:ident: $ty:ty),*) => {
        $linker.func_wrap(MODULE, $name, |mut caller: Caller<'_, State>, $($arg: $ty),*| answer($function(&mut caller, $($arg),*)))?
    };
}

macro_rules! waits {
    ($linker:ident $io:ident $name:ident $function:path, $($arg:ident: $ty:ty),*) => {
        $linker.func_wrap_async(MODULE, $name, |mut caller: Caller<'_, State>, ($($arg,)*): ($($ty,)*)| {
            Box::new(async move { answer($function(&mut caller, $($arg),*).await) })
        })?
    };
}

macro_rules! files {
    ($linker:ident $io:ident $name:ident $function:path, $($arg:ident: $ty:ty),*) => {
        match $io {
            Io::Memory => $linker.func_wrap(MODULE, $name, |mut caller: Caller<'_, State>, $($arg: $ty),*| {
                answer(at_once($function(&mut caller, $($arg),*)))
            })?,
            Io::Host => waits!($linker $io $name $function, $($arg: $ty),*),
        }
    };
}

macro_rules! functions {
    ($($kind:ident $name:ident($($arg:ident: $ty:ty),*) = $function:path;)*) => {
        fn define_standard(linker: &mut Linker<State>, name: &str, io: Io) -> wasmtime::Result<bool> {
            match name {
                $(stringify!($name) => $kind!(linker io name $function, $($arg: $ty),*),)*
                _ => return Ok(false),
            };
            Ok(true)
        }

        /// Their names, as they are linked by row.
        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

functions! {
    now args_get(at: u32, buffer: u32) = strings::args;
    now args_sizes_get(count_to: u32, len_to: u32) = strings::args_sizes;
    now environ_get(at: u32, buffer: u32) = strings::env;
    now environ_sizes_get(count_to: u32, len_to: u32) = strings::env_sizes;
    now clock_res_get(clock: u32, to: u32) = clock::resolution;
    now clock_time_get(clock: u32, precision: u64, to: u32) = clock::time;
    files fd_advise(fd: u32, offset: u64, len: u64, advice: u32) = files::advise;
    files fd_allocate(fd: u32, offset: u64, len: u64) = files::allocate;
    now fd_close(fd: u32) = files::close;
    files fd_datasync(fd: u32) = files::datasync;
    now fd_fdstat_get(fd: u32, to: u32) = files::fdstat;
    now fd_fdstat_set_flags(fd: u32, flags: u32) = files::set_flags;
    now fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64) = files::set_rights;
    files fd_filestat_get(fd: u32, to: u32) = files::filestat;
    files fd_filestat_set_size(fd: u32, size: u64) = files::set_size;
    files fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: u32) = files::set_times;
    files fd_pread(fd: u32, iovs: u32, count: u32, offset: u64, to: u32) = transfer::pread;
    now fd_prestat_get(fd: u32, to: u32) = files::prestat;
    now fd_prestat_dir_name(fd: u32, to: u32, len: u32) = files::prestat_name;
    files fd_pwrite(fd: u32, iovs: u32, count: u32, offset: u64, to: u32) = transfer::pwrite;
    files fd_read(fd: u32, iovs: u32, count: u32, to: u32) = transfer::read;
    files fd_readdir(fd: u32, buffer: u32, len: u32, cookie: u64, to: u32) = readdir::readdir;
    now fd_renumber(from: u32, to: u32) = files::renumber;
    files fd_seek(fd: u32, offset: i64, whence: u32, to: u32) = files::seek;
    files fd_sync(fd: u32) = files::sync;
    now fd_tell(fd: u32, to: u32) = files::tell;
    waits fd_write(fd: u32, iovs: u32, count: u32, to: u32) = transfer::write;
    files path_create_directory(fd: u32, path: u32, len: u32) = paths::create_directory;
    files path_filestat_get(fd: u32, flags: u32, path: u32, len: u32, to: u32) = paths::filestat;
    files path_filestat_set_times(fd: u32, flags: u32, path: u32, len: u32, accessed: u64, modified: u64, times: u32)
        = paths::set_times;
    files path_link(from: u32, flags: u32, old: u32, old_len: u32, to: u32, new: u32, new_len: u32) = paths::link;
    files path_open(
        fd: u32, lookup: u32, path: u32, len: u32, flags: u32, rights: u64, inheriting: u64, fdflags: u32, to: u32
    ) = paths::open;
    files path_readlink(fd: u32, path: u32, len: u32, buffer: u32, room: u32, to: u32) = paths::readlink;
    files path_remove_directory(fd: u32, path: u32, len: u32) = paths::remove_directory;
    files path_rename(from: u32, old: u32, old_len: u32, to: u32, new: u32, new_len: u32) = paths::rename;
    files path_symlink(target: u32, target_len: u32, fd: u32, path: u32, len: u32) = paths::symlink;
    files path_unlink_file(fd: u32, path: u32, len: u32) = paths::unlink_file;
    waits poll_oneoff(subscriptions: u32, events: u32, count: u32, to: u32) = poll::oneoff;
    now proc_raise(signal: u32) = raise;
    waits sched_yield() = poll::sched_yield;
    waits random_get(at: u32, len: u32) = random::get;
    now sock_accept(fd: u32, flags: u32, to: u32) = sockets::accept;
    now sock_recv(fd: u32, iovs: u32, count: u32, flags: u32, to: u32, flags_to: u32) = sockets::recv;
    now sock_send(fd: u32, iovs: u32, count: u32, flags: u32, to: u32) = sockets::send;
    now sock_shutdown(fd: u32, how: u32) = sockets::shutdown;
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;

    #[test]
    fn every_function_is_there_once_and_links_either_way() {
        let mut names: Vec<_> = NAMES.iter().copied().chain(["proc_exit"]).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 46, "as many as preview 1 has: {names:?}");
        let engine = Engine::default();
        for io in [Io::Memory, Io::Host] {
            let mut linker = Linker::new(&engine);
            for name in &names {
                // Only `sock_accept` looks at the type it is asked for.
                let ty = FuncType::new(&engine, [ValType::I32, ValType::I32, ValType::I32], [ValType::I32]);
                assert!(define(&mut linker, name, &ty, io).expect("it can be defined"), "{name}");
            }
            let ty = FuncType::new(&engine, [ValType::I32, ValType::I32], [ValType::I32]);
            for name in ["sock_open", "sock_getaddrinfo"] {
                assert!(define(&mut linker, name, &ty, io).expect("it can be defined"), "{name}");
            }
            assert!(!define(&mut linker, "fd_fork", &ty, io).expect("nothing to define"));
            linker.allow_shadowing(true);
            assert!(define(&mut linker, "sock_accept", &ty, io).expect("it can be defined"), "as WasmEdge has it");
        }
    }
}
