//! `fornax compile`: an artifact and its code, signed for those who trust the key; and what `fornax run --trust` does with it.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base::{CompileLimits, Error, Kind};
use clap::Args;
use guest::{Compilation, Signed, SigningKey, TrustedKey};
use serde_json::json;

use super::{say, this_program};
use crate::Builder;

/// How files of signed code end, unless something else is said.
const EXTENSION: &str = "cwasm";

#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// A component or module (.wasm)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the signed code goes [default: FILE with .cwasm for its extension]
    #[arg(short, long, value_name = "FILE", requires = "key")]
    out: Option<PathBuf>,
    /// The private key that signs, an Ed25519 key in PEM. Without one, it is only found out whether FILE compiles
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Make the key, and beside it KEY.pub for `fornax run --trust`
    #[arg(long, requires = "key")]
    new_key: bool,
}

pub(super) fn run(args: &CompileArgs, as_json: bool) -> Result<ExitCode, Error> {
    // Before what takes long.
    let artifact = registry::read_artifact(&args.file, CompileLimits::default().upload_bytes)?;
    let in_file = |error: Error| error.within(&args.file.display().to_string());
    registry::kind_of(&artifact).map_err(in_file)?;
    let key = match &args.key {
        Some(path) if args.new_key => {
            let key = SigningKey::create(path)?;
            say(&format!("made the key {}, and {} for `fornax run --trust`", path.display(), guest::public_path(path).display()));
            Some(key)
        }
        Some(path) => Some(SigningKey::read(path)?),
        None => None,
    };
    let compilation = Compilation::of(artifact, this_program()).map_err(in_file)?;
    let out = key.as_ref().map(|_| args.out.clone().unwrap_or_else(|| args.file.with_extension(EXTENSION)));
    if let (Some(key), Some(out)) = (&key, &out) {
        write(out, &compilation.signed(key))
            .map_err(|error| Error::new(Kind::Unprocessable, format!("cannot write {}: {error}", out.display())))?;
    }
    let entries: Vec<_> = compilation.entries.iter().map(|entry| entry.name()).collect();
    let code_bytes = compilation.code_bytes();
    let line = match (&out, as_json) {
        (_, true) => json!({ "entries": entries, "code_bytes": code_bytes, "out": out }).to_string(),
        (Some(out), false) => out.display().to_string(),
        (None, false) => {
            format!("{} compiles to {code_bytes} bytes of code; it offers {}", args.file.display(), entries.join(", "))
        }
    };
    let printed = writeln!(std::io::stdout(), "{line}");
    printed.map_err(|error| Error::new(Kind::Internal, "cannot write to standard output").caused_by(error))?;
    Ok(ExitCode::SUCCESS)
}

/// Whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // It is replaced, not written to: a device would be one no more.
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(std::io::Error::other("there is something that is no file"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As any file that is written: it is no secret.
    let mode = Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().prefix(".new-").permissions(mode).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// A server that takes what this key signed.
pub(super) fn trusting(builder: Builder, key: Option<&Path>) -> Result<Builder, Error> {
    Ok(match key {
        Some(key) => builder.trust(TrustedKey::read(key)?),
        None => builder,
    })
}

/// The artifact of a file, whether or not it is signed: to see what kind of a program it is. It is read again when it is published.
pub(super) fn artifact_in(file: &Path) -> Result<Vec<u8>, Error> {
    match Signed::open(file)? {
        Some(signed) => Ok(signed.artifact().to_vec()),
        None => registry::read_artifact(file, CompileLimits::default().upload_bytes),
    }
}
