//! Compiled code on disk, and the one place that loads it.
//!
//! Compiling and loading are two steps with a file between them, so that compiling can happen elsewhere and loading is a
//! mapping: pages of code nobody runs cost nothing.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use base::{Error, Kind};
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

/// How files of compiled code end, and those that are being written.
const CODE: &str = "cwasm";
const UNFINISHED: &str = "unfinished";

/// A directory of compiled artifacts that this process alone writes.
#[derive(Debug)]
pub(crate) struct CodeDir {
    dir: PathBuf,
}

impl CodeDir {
    /// Makes the directory inside `data`, which this process must own by now. Only this user can enter it, and what an
    /// earlier process left in it is removed.
    pub(crate) fn create(data: &Path) -> Result<Self, Error> {
        let dir = data.join("compiled-code");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir).and_then(|()| {
            fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
            fs::read_dir(&dir)?.try_for_each(|entry| remove_code(&entry?.path()))
        });
        made.map_err(|error| {
            failed("cannot make a directory for compiled code").internal(dir.display().to_string()).caused_by(error)
        })?;
        Ok(Self { dir })
    }

    /// Compiles `artifact`, a core module or a component, for `engine` into a file named `key`. Takes long: not for a thread
    /// that serves.
    pub(crate) fn compile(&self, engine: &Engine, artifact: &[u8], is_core: bool, key: &str) -> Result<Compiled, Error> {
        let code = if is_core { engine.precompile_module(artifact) } else { engine.precompile_component(artifact) };
        let code = code.map_err(|error| {
            Error::new(Kind::Unprocessable, format!("the artifact does not compile: {}", error.root_cause()))
                .internal(format!("{error:#}"))
        })?;
        let path = self.dir.join(format!("{key}.{CODE}"));
        write_once(&path, &code).map_err(|error| failed("cannot write compiled code").caused_by(error))?;
        Ok(Compiled { path, is_core })
    }
}

impl CodeDir {
    /// Removes the file of `key`. What is mapped of it stays.
    pub(crate) fn remove(&self, key: &str) {
        // At worst a file lies there until the next start.
        let _ = fs::remove_file(self.dir.join(format!("{key}.{CODE}")));
    }
}

/// A file that [`CodeDir::compile`] of this process wrote.
#[derive(Debug)]
pub(crate) struct Compiled {
    path: PathBuf,
    is_core: bool,
}

/// Code that is mapped; clones share it.
#[derive(Clone)]
pub(crate) enum Code {
    Component(Component),
    Core(Module),
}

impl Compiled {
    /// Maps the code into the process.
    pub(crate) fn load(&self, engine: &Engine) -> Result<Code, Error> {
        // SAFETY: `deserialize_file` demands bytes that `Engine::precompile_module` or `precompile_component` made and nobody
        // changed. A `Compiled` is made only by `CodeDir::compile`, which wrote exactly those bytes to a new file of mode 0400 in
        // a directory of mode 0700 that this process emptied of code; another process of the same user could change it, but
        // could as well change this process. The engine rejects code made by another version or configuration, and a module
        // where a component is expected.
        #[expect(unsafe_code, reason = "loading compiled code is inherently a promise about where it comes from")]
        let code = unsafe {
            match self.is_core {
                true => Module::deserialize_file(engine, &self.path).map(Code::Core),
                false => Component::deserialize_file(engine, &self.path).map(Code::Component),
            }
        };
        code.map_err(|error| {
            Error::new(Kind::Unprocessable, format!("the artifact needs more than an instance may have: {}", error.root_cause()))
                .internal(format!("{error:#}"))
        })
    }
}

fn remove_code(path: &Path) -> std::io::Result<()> {
    match path.extension().is_some_and(|extension| extension == CODE || extension == UNFINISHED) {
        true => fs::remove_file(path),
        false => Ok(()),
    }
}

/// Writes a file of its own and renames it, so that a reader never sees half, two writers do not meet, and a failure leaves
/// nothing behind.
fn write_once(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let unfinished = path.with_extension(format!("{}.{UNFINISHED}", WRITES.fetch_add(1, Ordering::Relaxed)));
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&unfinished)?;
    let written = file.write_all(bytes).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // What went wrong is the first error.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn failed(text: &'static str) -> Error {
    Error::new(Kind::Internal, text)
}
