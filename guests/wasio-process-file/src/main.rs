//! The instrument /process_file: counts the lines of /data/input.txt and shows them. Proves that a mount is what the guest sees of files.

use std::io::ErrorKind;
use std::process::ExitCode;

const FILE: &str = "/data/input.txt";

fn main() -> ExitCode {
    wasio::text(|_| {
        let text = std::fs::read_to_string(FILE).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("there is no file {FILE}"),
            ErrorKind::InvalidData => format!("{FILE} is not UTF-8"),
            _ => format!("cannot read {FILE}"),
        })?;
        Ok(format!("Lines: {}\n{text}", text.lines().count()))
    })
}
