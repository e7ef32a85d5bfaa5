//! The imports as they are.

/// A buffer to read into.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Iovec {
    /// Where it is.
    pub at: *mut u8,
    /// How long it is.
    pub len: usize,
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
#[expect(missing_docs, reason = "their names and parameters are preview 1's")]
unsafe extern "C" {
    pub fn args_get(at: *mut *mut u8, buffer: *mut u8) -> i32;
    pub fn args_sizes_get(count: *mut usize, len: *mut usize) -> i32;
    pub fn environ_get(at: *mut *mut u8, buffer: *mut u8) -> i32;
    pub fn environ_sizes_get(count: *mut usize, len: *mut usize) -> i32;
    pub fn clock_res_get(clock: i32, to: *mut u64) -> i32;
    pub fn clock_time_get(clock: i32, precision: u64, to: *mut u64) -> i32;
    pub fn fd_advise(fd: u32, offset: u64, len: u64, advice: i32) -> i32;
    pub fn fd_allocate(fd: u32, offset: u64, len: u64) -> i32;
    pub fn fd_close(fd: u32) -> i32;
    pub fn fd_datasync(fd: u32) -> i32;
    pub fn fd_fdstat_get(fd: u32, to: *mut u8) -> i32;
    pub fn fd_fdstat_set_flags(fd: u32, flags: i32) -> i32;
    pub fn fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64) -> i32;
    pub fn fd_filestat_get(fd: u32, to: *mut u8) -> i32;
    pub fn fd_filestat_set_size(fd: u32, size: u64) -> i32;
    pub fn fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: i32) -> i32;
    pub fn fd_pread(fd: u32, iovs: *const Iovec, count: usize, offset: u64, to: *mut usize) -> i32;
    pub fn fd_prestat_get(fd: u32, to: *mut u8) -> i32;
    pub fn fd_prestat_dir_name(fd: u32, to: *mut u8, len: usize) -> i32;
    pub fn fd_pwrite(fd: u32, iovs: *const Iovec, count: usize, offset: u64, to: *mut usize) -> i32;
    pub fn fd_read(fd: u32, iovs: *const Iovec, count: usize, to: *mut usize) -> i32;
    pub fn fd_readdir(fd: u32, buffer: *mut u8, len: usize, cookie: u64, to: *mut usize) -> i32;
    pub fn fd_renumber(from: u32, to: u32) -> i32;
    pub fn fd_seek(fd: u32, offset: i64, whence: i32, to: *mut u64) -> i32;
    pub fn fd_sync(fd: u32) -> i32;
    pub fn fd_tell(fd: u32, to: *mut u64) -> i32;
    pub fn fd_write(fd: u32, iovs: *const Iovec, count: usize, to: *mut usize) -> i32;
    pub fn path_create_directory(fd: u32, path: *const u8, len: usize) -> i32;
    pub fn path_filestat_get(fd: u32, flags: i32, path: *const u8, len: usize, to: *mut u8) -> i32;
    pub fn path_filestat_set_times(
        fd: u32,
        flags: i32,
        path: *const u8,
        len: usize,
        accessed: u64,
        modified: u64,
        times: i32,
    ) -> i32;
    pub fn path_link(from: u32, flags: i32, old: *const u8, old_len: usize, to: u32, new: *const u8, new_len: usize) -> i32;
    pub fn path_open(
        fd: u32,
        lookup: i32,
        path: *const u8,
        len: usize,
        flags: i32,
        base: u64,
        inheriting: u64,
        fdflags: i32,
        to: *mut u32,
    ) -> i32;
    pub fn path_readlink(fd: u32, path: *const u8, len: usize, buffer: *mut u8, room: usize, to: *mut usize) -> i32;
    pub fn path_remove_directory(fd: u32, path: *const u8, len: usize) -> i32;
    pub fn path_rename(from: u32, old: *const u8, old_len: usize, to: u32, new: *const u8, new_len: usize) -> i32;
    pub fn path_symlink(target: *const u8, target_len: usize, fd: u32, path: *const u8, len: usize) -> i32;
    pub fn path_unlink_file(fd: u32, path: *const u8, len: usize) -> i32;
    pub fn poll_oneoff(subscriptions: *const u8, events: *mut u8, count: usize, to: *mut usize) -> i32;
    pub fn proc_exit(code: i32) -> !;
    pub fn proc_raise(signal: i32) -> i32;
    pub fn sched_yield() -> i32;
    pub fn random_get(at: *mut u8, len: usize) -> i32;
    pub fn sock_accept(fd: u32, flags: i32, to: *mut u32) -> i32;
    pub fn sock_recv(fd: u32, iovs: *const Iovec, count: usize, flags: i32, to: *mut usize, flags_to: *mut u16) -> i32;
    pub fn sock_send(fd: u32, iovs: *const Iovec, count: usize, flags: i32, to: *mut usize) -> i32;
    pub fn sock_shutdown(fd: u32, how: i32) -> i32;
}
