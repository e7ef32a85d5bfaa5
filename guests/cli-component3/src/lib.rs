//! A component of `wasi:cli/run@0.3` that shows its arguments, environment and input; the argument `fail` makes it fail. Proves the
//! asynchronous entry `run` and its streams.

use wasip3::cli::{environment, stderr, stdin, stdout};
use wasip3::wit_bindgen::StreamResult;
use wasip3::wit_stream;

/// Read at once.
const CHUNK_BYTES: usize = 64 << 10;

struct Command;

wasip3::cli::command::export!(Command);

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let args: Vec<String> = environment::get_arguments().into_iter().skip(1).collect();
        let mut variables = environment::get_environment();
        variables.sort();
        let mut text: String = args.iter().map(|arg| format!("argument: {arg}\n")).collect();
        text.extend(variables.iter().map(|(name, value)| format!("variable: {name}={value}\n")));

        let (mut out, reader) = wit_stream::new();
        let written = stdout::write_via_stream(reader);
        let mut whole = out.write_all(text.into_bytes()).await.is_empty();
        let (mut input, read) = stdin::read_via_stream();
        loop {
            let (result, chunk) = input.read(Vec::with_capacity(CHUNK_BYTES)).await;
            whole &= out.write_all(chunk).await.is_empty();
            if result == StreamResult::Dropped {
                break;
            }
        }
        drop(out);
        let (mut errors, reader) = wit_stream::new();
        let told = stderr::write_via_stream(reader);
        whole &= errors.write_all(b"command: done\n".to_vec()).await.is_empty();
        drop(errors);
        let ended = [written.await, read.await, told.await].iter().all(Result::is_ok);
        if whole && ended && !args.iter().any(|arg| arg == "fail") { Ok(()) } else { Err(()) }
    }
}
