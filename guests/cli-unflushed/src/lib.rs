//! A component of `wasi:cli/run@0.2` that repeats its input and never flushes what it writes; with the argument `flood` it writes without
//! end, and with `streams` as much as it is permitted by streams that it drops at once: it says how much on standard error. Proves that what was
//! written counts, flushed or not.

use http02::write_all;
use wasip2::cli::{environment, stderr, stdin, stdout};
use wasip2::io::streams::StreamError;

/// Read at once.
const CHUNK_BYTES: u64 = 64 << 10;

struct Unflushed;

wasip2::cli::command::export!(Unflushed);

impl wasip2::exports::cli::run::Guest for Unflushed {
    fn run() -> Result<(), ()> {
        let (input, out) = (stdin::get_stdin(), stdout::get_stdout());
        let has = |name: &str| environment::get_arguments().iter().any(|arg| arg == name);
        if has("streams") {
            let text = format!("{}\n", by_many_streams().map_err(|_| ())?);
            return write_all(&stderr::get_stderr(), text.as_bytes()).map_err(|_| ());
        }
        while has("flood") {
            write_all(&out, &[b'.'; CHUNK_BYTES as usize]).map_err(|_| ())?;
        }
        loop {
            match input.blocking_read(CHUNK_BYTES) {
                Ok(bytes) => write_all(&out, &bytes).map_err(|_| ())?,
                Err(StreamError::Closed) => return Ok(()),
                Err(StreamError::LastOperationFailed(_)) => return Err(()),
            }
        }
    }
}

/// Writes by a stream for each piece, until that is not permitted, or it is 256 MiB; returns how many bytes.
fn by_many_streams() -> Result<usize, StreamError> {
    let mut written = 0;
    while written < 256 << 20 {
        let out = stdout::get_stdout();
        let permitted = (out.check_write()? as usize).min(CHUNK_BYTES as usize);
        if permitted == 0 {
            break;
        }
        out.write(&[b'.'; CHUNK_BYTES as usize][..permitted])?;
        written += permitted;
    }
    Ok(written)
}
