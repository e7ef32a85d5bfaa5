//! A component of `wasi:cli/run@0.2` that repeats its input and never flushes what it writes; with the argument `flood` it writes without
//! end. Proves that what was written counts, flushed or not.

use wasip2::cli::{environment, stdin, stdout};
use wasip2::io::streams::{OutputStream, StreamError};

/// Read at once.
const CHUNK_BYTES: u64 = 64 << 10;

struct Unflushed;

wasip2::cli::command::export!(Unflushed);

impl wasip2::exports::cli::run::Guest for Unflushed {
    fn run() -> Result<(), ()> {
        let (input, out) = (stdin::get_stdin(), stdout::get_stdout());
        while environment::get_arguments().iter().any(|arg| arg == "flood") {
            write(&out, &[b'.'; CHUNK_BYTES as usize]).map_err(|_| ())?;
        }
        loop {
            match input.blocking_read(CHUNK_BYTES) {
                Ok(bytes) => write(&out, &bytes).map_err(|_| ())?,
                Err(StreamError::Closed) => return Ok(()),
                Err(StreamError::LastOperationFailed(_)) => return Err(()),
            }
        }
    }
}

/// Writes as fast as the host takes it.
fn write(out: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let permitted = out.check_write()? as usize;
        if permitted == 0 {
            out.subscribe().block();
            continue;
        }
        let (now, later) = bytes.split_at(permitted.min(bytes.len()));
        out.write(now)?;
        bytes = later;
    }
    Ok(())
}
