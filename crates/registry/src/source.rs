//! Where artifacts come from, and what they are.
//!
//! What the operator names is often not what they meant: the text form, the folder, half a download. Each of these gets a
//! sentence of its own here, so that no decoder's words about "magic bytes" reach a terminal.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use base::{Error, Kind, Quantity};

const MAGIC: &[u8] = b"\0asm";

/// Version 1 of the core format.
const CORE: [u8; 4] = [1, 0, 0, 0];

/// Version 13 of the component layer, which is what component tools have written since 2023.
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];

/// What an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Artifact {
    /// A component.
    Component,
    /// A core module: WASI preview 1, or a plain plugin.
    CoreModule,
}

/// Reads a file the operator named. It blocks.
///
/// # Errors
///
/// [`Kind::Unprocessable`]; the external text names the path, as it goes to the terminal the path came from.
pub fn read_artifact(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let name = path.display();
    let wrong = |what: String| Error::new(Kind::Unprocessable, what);
    let bytes = read_file(path, bytes_max).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => wrong(format!("there is no file {name}")),
        io::ErrorKind::IsADirectory => wrong(format!("{name} is a directory, not a WebAssembly file")),
        io::ErrorKind::InvalidInput => wrong(format!("{name} is a pipe or a device, not a WebAssembly file")),
        io::ErrorKind::FileTooLarge => too_large(path, bytes_max),
        // Not its kind: that of too many open files, or of a disk that fails, has no name.
        _ => wrong(format!("{name} cannot be read: {error}")),
    })?;
    if bytes.is_empty() { Err(wrong(format!("{name} is empty"))) } else { Ok(bytes) }
}

/// The whole of a file that somebody names.
///
/// # Errors
///
/// If it cannot be read, is no file, or has more than `bytes_max` bytes.
pub fn read_file(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    // Before it is opened: opening a pipe would wait for its writer, and a device may have no end.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe or a device, not a file"));
    }
    let too_large = || {
        let text = format!("it is larger than {}", Quantity::Bytes(Some(bytes_max)));
        io::Error::new(io::ErrorKind::FileTooLarge, text)
    };
    if metadata.is_file() && metadata.len() > bytes_max {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    // It may grow while it is read.
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max { Err(too_large()) } else { Ok(bytes) }
}

/// Of an artifact that has more bytes than it may have.
pub fn too_large(path: &Path, bytes_max: u64) -> Error {
    let text = format!("{} is larger than the limit of {}", path.display(), Quantity::Bytes(Some(bytes_max)));
    Error::new(Kind::Unprocessable, text)
}

/// Tells by its first bytes what an artifact is. Whether the rest is valid is for the compiler to say.
///
/// # Errors
///
/// [`Kind::Unprocessable`] with a sentence about what it seems to be instead.
pub fn kind_of(bytes: &[u8]) -> Result<Artifact, Error> {
    let what = match bytes.strip_prefix(MAGIC).map(|rest| rest.first_chunk::<4>()) {
        Some(Some(&CORE)) => return Ok(Artifact::CoreModule),
        Some(Some(&COMPONENT)) => return Ok(Artifact::Component),
        // A component says so in its last two bytes, whatever its version.
        Some(Some([_, _, 1, 0])) => "is a component in a version of the format that is not supported; build it with newer tools",
        Some(Some(_)) => "is WebAssembly in a version of the format that is not supported",
        Some(None) => "ends within its first 8 bytes; it seems to be cut off",
        None => foreign(bytes),
    };
    Err(Error::new(Kind::Unprocessable, format!("the artifact {what}")))
}

/// What bytes without the magic number are.
fn foreign(bytes: &[u8]) -> &'static str {
    let starts = |with: &[u8]| bytes.starts_with(with);
    if bytes.is_empty() {
        "is empty"
    } else if MAGIC.starts_with(bytes) {
        "ends within its first 8 bytes; it seems to be cut off"
    } else if starts(b"\x7fELF") {
        "is compiled code, not WebAssembly; publish the `.wasm` file it was made of"
    } else if starts(b"fornax signed ") {
        "is signed compiled code: say whose is taken with `--trust KEY`, or publish the `.wasm` file it was made of"
    } else if starts(b"\x1f\x8b") || starts(b"PK\x03\x04") || starts(b"\x28\xb5\x2f\xfd") {
        "is compressed; unpack it first"
    } else {
        match text_of(bytes) {
            None => "is not WebAssembly",
            Some(text) if is_wat(text) => {
                "is WebAssembly in its text form; convert it with `wasm-tools parse FILE.wat -o FILE.wasm`"
            }
            Some(_) => "is a text file, not WebAssembly",
        }
    }
}

/// The beginning, if it is text.
fn text_of(bytes: &[u8]) -> Option<&str> {
    let start = &bytes[..bytes.len().min(4096)];
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // Cut within a character by us, not broken.
        Err(error) if error.error_len().is_none() && start.len() < bytes.len() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let is_control = |c: char| c.is_control() && !c.is_whitespace();
    (!text.contains(is_control)).then_some(text.trim_start_matches('\u{feff}'))
}

fn is_wat(text: &str) -> bool {
    let code = text.lines().map(str::trim_start).find(|line| !line.is_empty() && !line.starts_with(";;"));
    let inner = code.and_then(|line| line.strip_prefix('(')).map(str::trim_start);
    inner.is_some_and(|inner| inner.starts_with("module") || inner.starts_with("component") || inner.starts_with("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_told_by_their_first_bytes() {
        let compressed = "is compressed; unpack it first";
        let cut = "ends within its first 8 bytes; it seems to be cut off";
        let wat = "is WebAssembly in its text form; convert it with `wasm-tools parse FILE.wat -o FILE.wasm`";
        let text = "is a text file, not WebAssembly";
        let long = "ü".repeat(4096);
        let odd = format!("x{long}");
        for (bytes, expected) in [
            (&b"\0asm\x01\0\0\0"[..], Ok(Artifact::CoreModule)),
            (b"\0asm\x0d\0\x01\0rest", Ok(Artifact::Component)),
            (
                b"\0asm\x0a\0\x01\0",
                Err("is a component in a version of the format that is not supported; build it with newer tools"),
            ),
            (b"\0asm\x02\0\0\0", Err("is WebAssembly in a version of the format that is not supported")),
            (b"", Err("is empty")),
            (b"\0", Err(cut)),
            (b"\0asm\x01\0\0", Err(cut)),
            (b"(module)", Err(wat)),
            (b"\n ;; hello\n( component\n", Err(wat)),
            (b"\xef\xbb\xbf(module $a)", Err(wat)),
            (b"export default 1\n", Err(text)),
            (b"mod", Err(text)),
            (odd.as_bytes(), Err(text)),
            (b"\x7fELF\x02\x01", Err("is compiled code, not WebAssembly; publish the `.wasm` file it was made of")),
            (
                b"fornax signed 1\0",
                Err("is signed compiled code: say whose is taken with `--trust KEY`, or publish the `.wasm` file it was made of"),
            ),
            (b"\x1f\x8b\x08", Err(compressed)),
            (b"PK\x03\x04", Err(compressed)),
            (b"\x28\xb5\x2f\xfd", Err(compressed)),
            (b"\x00\x01\x02\x03", Err("is not WebAssembly")),
            (b"caf\xe9", Err("is not WebAssembly")),
        ] {
            let found = kind_of(bytes).map_err(|error| {
                assert_eq!(error.kind, Kind::Unprocessable);
                error.to_string()
            });
            assert_eq!(found, expected.map_err(|what| format!("the artifact {what}")), "{bytes:?}");
        }
    }

    #[test]
    fn files_are_read_or_explained() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir(root.join("folder")).expect("a folder");
        fs::write(root.join("empty"), b"").expect("a file");
        fs::write(root.join("fits"), vec![1; 1 << 20]).expect("a file");
        fs::write(root.join("large"), vec![1; (1 << 20) + 1]).expect("a file");
        for (name, expected) in [
            ("none", "there is no file ROOT/none"),
            ("folder", "ROOT/folder is a directory, not a WebAssembly file"),
            ("fits/x", "ROOT/fits/x cannot be read: Not a directory (os error 20)"),
            ("empty", "ROOT/empty is empty"),
            ("large", "ROOT/large is larger than the limit of 1 MiB"),
        ] {
            let error = read_artifact(&root.join(name), 1 << 20).expect_err(name);
            assert_eq!(error.to_string().replace(root.to_str().expect("UTF-8"), "ROOT"), expected);
            assert_eq!(error.kind, Kind::Unprocessable);
        }
        assert_eq!(read_artifact(&root.join("fits"), 1 << 20).expect("it fits").len(), 1 << 20);
        let error = read_artifact(Path::new("/dev/zero"), 1 << 20).expect_err("endless").to_string();
        assert_eq!(error, "/dev/zero is a pipe or a device, not a WebAssembly file");
    }
}
