//! A component of `wasi:cli/run@0.3` that misbehaves as its first argument says; everything else as in `hostile/cli`. Proves the same of
//! asynchronous commands and their streams.

use wasip3::cli::{environment, stderr, stdout};
use wasip3::clocks::monotonic_clock;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
use wasip3::wit_stream;

/// An hour, in nanoseconds.
const HOUR: u64 = 3_600_000_000_000;

struct Command;

wasip3::cli::command::export!(Command);

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        match environment::get_arguments().get(1).map(String::as_str) {
            Some("loop") => attack::spin(),
            Some("bulk") => attack::bulk(),
            Some("descriptors") => {
                let (directory, _) = get_directories().pop().ok_or(())?;
                let mut open = Vec::new();
                let read = DescriptorFlags::READ;
                while let Ok(file) = directory.open_at(PathFlags::empty(), ".".into(), OpenFlags::empty(), read).await {
                    open.push(file);
                }
                print(format!("{} open\n", open.len())).await;
            }
            Some("log") => {
                let (mut errors, reader) = wit_stream::new();
                let _told = stderr::write_via_stream(reader);
                while errors.write_all(b"one line of many\n".to_vec()).await.is_empty() {}
            }
            Some("memory-bomb") => attack::take_memory(),
            Some("trap") => attack::trap(),
            Some("recursion") => {
                print(attack::descend(1).to_string()).await;
            }
            Some("silent") => {}
            Some("flood") => while print("x".repeat(64 << 10)).await {},
            Some("sleeper") => monotonic_clock::wait_for(HOUR).await,
            Some("stderr") => {
                let (mut errors, reader) = wit_stream::new();
                let told = stderr::write_via_stream(reader);
                errors.write_all(b"plain words\n\x1b[31mred\x1b[0m\nno end".to_vec()).await;
                drop(errors);
                told.await.map_err(drop)?;
                print("ok\n".into()).await;
            }
            Some("exit") => {
                print("half an answer\n".into()).await;
                return Err(());
            }
            other => panic!("no way {other:?}"),
        }
        Ok(())
    }
}

/// Whether all of it was taken.
async fn print(text: String) -> bool {
    let (mut out, reader) = wit_stream::new();
    let written = stdout::write_via_stream(reader);
    let whole = out.write_all(text.into_bytes()).await.is_empty();
    drop(out);
    written.await.is_ok() && whole
}
