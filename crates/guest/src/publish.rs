//! Compiled code on disk, and the one place that loads it.
//!
//! Compiling and loading are two steps with a file between them, so that compiling can happen elsewhere, a later process need
//! not compile again, and loading is a mapping: pages of code nobody runs cost nothing.
//!
//! Compiled code is native code: whoever can have a file of their own loaded runs in this process. So each file carries an
//! HMAC-SHA256 over what it is for and every byte of it, under a key that lies outside of the directory, and a file is loaded
//! through the very descriptor by which it was read and found right. The code is in the file's name behind what it is for,
//! so that a file and its code come to be in one step.
//!
//! Beside a file of code lie empty ones that say in their names, under the same key, in which ways it was once linked by this
//! program: then a start need not load it to know that it can be called.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base::{Error, Kind, Metrics};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use rustix::fs::OFlags;
use rustix::io::Errno;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

/// How files of compiled code end.
const CODE: &str = "cwasm";

/// How files end that say what was found out about code.
const FIT: &str = "fit";

/// How the names of files begin that are being written, as everywhere in the data directory.
const UNFINISHED: &str = ".new-";

/// The key, beside the directory. Without it nothing in there is worth anything.
const KEY_FILE: &str = "compiled-code.key";
const KEY_BYTES: usize = 32;

/// In front of what is authenticated. What is authenticated in another way needs another number.
const PURPOSE: &[u8] = b"fornax compiled code 1\0";
const PURPOSE_FIT: &[u8] = b"fornax compiled code fits 1\0";

/// Code that was not loaded for so long is removed: its module is gone, or its engine is another by now.
const UNUSED_MAX: Duration = Duration::from_hours(30 * 24);

/// What a call is told when the system has no descriptor or memory left: calls end all the time.
const RETRY_AFTER_S: u32 = 1;

/// How much of a file is looked at in one step.
const READ_BYTES: usize = 64 << 10;

/// A directory of compiled artifacts that this process alone writes, and earlier ones wrote.
pub(crate) struct CodeDir {
    dir: PathBuf,
    key: hmac::Key,
    /// This program: another one may link in another way.
    program: Option<u64>,
    metrics: Arc<Metrics>,
    /// What is there, by what it is for.
    files: Mutex<BTreeMap<String, Stored>>,
}

#[derive(Debug)]
struct Stored {
    path: PathBuf,
    /// Whether this process wrote it, loaded it, or counts on it.
    is_used: bool,
    /// In which ways it was linked, and how many places an instance took then.
    fits: BTreeMap<Fit, u32>,
}

/// All that decides, beside the code and this program, whether a module can be called; two of them have the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fit(pub(crate) u64);

impl CodeDir {
    /// Opens the directory inside `data`, which this process must own by now, and makes both it and the key if need be. Only
    /// this user can enter it.
    pub(crate) fn open(data: &Path, metrics: Arc<Metrics>) -> Result<Self, Error> {
        let dir = data.join("compiled-code");
        let opened = DirBuilder::new().recursive(true).mode(0o700).create(&dir).and_then(|()| {
            fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
            let key = hmac::Key::new(hmac::HMAC_SHA256, &key(data)?);
            let program = program();
            let files = files(&dir, &key, program)?;
            Ok((key, program, files))
        });
        let (key, program, files) = opened.map_err(|error| {
            failed("cannot make a directory for compiled code").internal(dir.display().to_string()).caused_by(error)
        })?;
        Ok(Self { dir, key, program, metrics, files: Mutex::new(files) })
    }

    /// What was compiled before for `name`, if it is there and as it was written. Anything else under that name is removed.
    ///
    /// # Errors
    ///
    /// If it cannot be told what is there, which then stays: [`Kind::Overloaded`] where that may pass.
    pub(crate) fn find(&self, name: &str, is_core: bool) -> Result<Option<Compiled>, Error> {
        let Some(path) = self.files().get(name).map(|stored| stored.path.clone()) else { return Ok(None) };
        match self.verified(name, &path) {
            Ok(file) => {
                if let Some(stored) = self.files().get_mut(name) {
                    stored.is_used = true;
                }
                return Ok(Some(Compiled { file, is_core }));
            }
            // Whoever removed it has not harmed anybody.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if is_wrong(&error) => {
                tracing::warn!(file = %path.display(), %error, "compiled code is not as it was written: it is removed");
                self.metrics.code_rejected.inc();
            }
            Err(error) => return Err(refused("compiled code cannot be read", error)),
        }
        self.remove(name);
        Ok(None)
    }

    /// Makes the file of `name` of what `compile` writes, which is a core module's code or a component's, as wasmtime makes it. Whoever
    /// calls this vouches for that: nothing else in here is native code.
    pub(crate) fn put(
        &self,
        name: &str,
        is_core: bool,
        compile: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<Compiled, Error> {
        let unwritten = |error| refused("cannot write compiled code", error);
        let unfinished = Unfinished::new(&self.dir).map_err(unwritten)?;
        let mut code = Authenticated { file: &unfinished.file, context: self.context(name) };
        compile(&mut code)?;
        let path = self.dir.join(format!("{name}.{}.{CODE}", BASE64.encode(code.context.sign())));
        let file = unfinished.finish(&path).map_err(unwritten)?;
        let stored = Stored { path: path.clone(), is_used: true, fits: BTreeMap::new() };
        let old = self.files().insert(name.to_owned(), stored);
        if let Some(old) = old.filter(|old| old.path != path) {
            // Under another key.
            let _ = fs::remove_file(old.path);
        }
        Ok(Compiled { file, is_core })
    }

    /// How many places an instance takes, if there is code of `name` and this program linked it in this way before. The code is
    /// counted on from now on; whether it is as it was written is found out when it is loaded.
    pub(crate) fn places(&self, name: &str, fit: Fit) -> Option<u32> {
        let mut files = self.files();
        let stored = files.get_mut(name)?;
        let places = *stored.fits.get(&fit)?;
        stored.is_used = true;
        Some(places)
    }

    /// Remembers for the next process that code of `name` was linked in this way.
    pub(crate) fn note(&self, name: &str, fit: Fit, places: u32) {
        let Some(program) = self.program else { return };
        let Some(stored) = self.files().get_mut(name).map(|stored| stored.fits.insert(fit, places)) else { return };
        if stored != Some(places) {
            let path = self.dir.join(fit_file(&self.key, name, program, fit, places));
            // If this fails, the next start finds it out again.
            let _ = OpenOptions::new().write(true).create(true).truncate(false).mode(0o400).open(path);
        }
    }

    /// Removes the files of `name`. What is mapped of them stays.
    fn remove(&self, name: &str) {
        if let Some(stored) = self.files().remove(name) {
            self.remove_files(name, &stored);
        }
    }

    fn remove_files(&self, name: &str, stored: &Stored) {
        // At worst a file lies there until nobody has used it for long.
        let _ = fs::remove_file(&stored.path);
        for (fit, places) in &stored.fits {
            if let Some(program) = self.program {
                let _ = fs::remove_file(self.dir.join(fit_file(&self.key, name, program, *fit, *places)));
            }
        }
    }

    /// Removes what this process used and does not need any more, and what neither it nor, for long, an earlier one has used.
    pub(crate) fn sweep(&self, is_needed: impl Fn(&str) -> bool) {
        self.files().retain(|name, stored| {
            let modified = || fs::metadata(&stored.path).and_then(|file| file.modified());
            let is_old = || modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > UNUSED_MAX));
            let is_kept = is_needed(name) || !stored.is_used && !is_old();
            if !is_kept {
                self.remove_files(name, stored);
            }
            is_kept
        });
    }

    /// Opens a file and reads it whole; an error unless its name says that it was made for `name` under this key.
    fn verified(&self, name: &str, path: &Path) -> io::Result<File> {
        let mut file = open(path)?;
        let said = path.file_stem().and_then(|stem| BASE64.decode(stem.to_str()?.rsplit('.').next()?).ok()).unwrap_or_default();
        let mut context = self.context(name);
        let mut bytes = vec![0; READ_BYTES];
        loop {
            match file.read(&mut bytes)? {
                0 => break,
                read => context.update(&bytes[..read]),
            }
        }
        // Both under the key once more: how far two of them agree is told to nobody by the time it takes.
        let right = hmac::sign(&self.key, context.sign().as_ref());
        hmac::verify(&self.key, &said, right.as_ref()).map_err(|_| wrong("its authentication code is wrong"))?;
        // So that it is not taken for one that nobody uses; if this fails, it is compiled again one day.
        let _ = file.set_modified(SystemTime::now());
        Ok(file)
    }

    /// For code of `name`: none for one artifact or engine passes for another's.
    fn context(&self, name: &str) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(PURPOSE);
        context.update(name.as_bytes());
        context.update(b"\0");
        context
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Stored>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that [`CodeDir`] wrote: just now, or it was found to be as it was written.
#[derive(Debug)]
pub(crate) struct Compiled {
    file: File,
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
    pub(crate) fn load(self, engine: &Engine) -> Result<Code, Error> {
        // A path that names this very descriptor: components can be loaded from paths only.
        let folder = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
        let path = format!("{folder}/{}", self.file.as_raw_fd());
        // SAFETY: `deserialize_file` demands bytes that `Engine::precompile_module` or `precompile_component` made and nobody
        // changed. A `Compiled` is made only by `CodeDir::put`, which wrote exactly those bytes by this very descriptor, as the compiler
        // gave them to it or as somebody signed them who is trusted with that, and by `CodeDir::find`, which read them through this very descriptor and found them authenticated for this artifact and engine under a key that only
        // this user can read. The file has mode 0400 and lies in a directory of mode 0700 that this process owns; another process
        // of the same user could change it, but could as well change this process. The engine rejects code made by another
        // version or configuration, and a module where a component is expected.
        #[expect(unsafe_code, reason = "loading compiled code is inherently a promise about where it comes from")]
        let code = unsafe {
            match self.is_core {
                true => Module::deserialize_file(engine, &path).map(Code::Core),
                false => Component::deserialize_file(engine, &path).map(Code::Component),
            }
        };
        code.map_err(|error| {
            let error = match error.downcast::<io::Error>() {
                Ok(error) => return refused("cannot map compiled code", error),
                Err(error) => error,
            };
            Error::new(Kind::Unprocessable, format!("the artifact needs more than an instance may have: {}", error.root_cause()))
                .internal(format!("{error:#}"))
        })
    }
}

/// Reads the key, or makes one: then nothing that is there is authentic, and all of it is compiled again. One that others may
/// read is none.
fn key(data: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let path = data.join(KEY_FILE);
    let read = open(&path).and_then(|mut file| {
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok((bytes, file.metadata()?.permissions().mode()))
    });
    match read {
        Ok((bytes, mode)) if mode & 0o077 == 0 => {
            if let Ok(key) = bytes.try_into() {
                return Ok(key);
            }
        }
        Ok(_) => tracing::warn!(file = %path.display(), "the key of compiled code can be read by others: it is made anew"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if is_wrong(&error) => {
            tracing::warn!(file = %path.display(), %error, "the key of compiled code is none: it is made anew");
        }
        // It may be there, and all that is there is worth something with it.
        Err(error) => return Err(error),
    }
    let key: [u8; KEY_BYTES] = rand::random();
    let mut unfinished = Unfinished::new(data)?;
    unfinished.file.write_all(&key)?;
    // The only file that a power cut shall not lose: without it all others are lost.
    unfinished.file.sync_all()?;
    unfinished.finish(&path)?;
    Ok(key)
}

/// What is in the directory, by what it is for. What was being written is removed, and what another program found out.
fn files(dir: &Path, key: &hmac::Key, program: Option<u64>) -> io::Result<BTreeMap<String, Stored>> {
    let (mut files, mut fits) = (BTreeMap::new(), Vec::new());
    for entry in fs::read_dir(dir)? {
        let entry = entry?.file_name();
        let Some(file_name) = entry.to_str() else { continue };
        let path = || dir.join(file_name);
        if file_name.starts_with(UNFINISHED) {
            // Nobody will take it for anything else.
            let _ = fs::remove_file(path());
        } else if let Some((name, _)) = file_name.strip_suffix(CODE).and_then(|name| name.split_once('.')) {
            files.insert(name.to_owned(), Stored { path: path(), is_used: false, fits: BTreeMap::new() });
        } else if file_name.ends_with(FIT) {
            match parse_fit(file_name, key, program) {
                Some(found) => fits.push(found),
                // At worst it is looked at again by the next start.
                None => drop(fs::remove_file(path())),
            }
        }
    }
    for (name, fit, places) in fits {
        if let Some(stored) = files.get_mut(&name) {
            stored.fits.insert(fit, places);
        }
    }
    Ok(files)
}

/// `NAME.PROGRAM-FIT-PLACES.CODE.fit`
fn fit_file(key: &hmac::Key, name: &str, program: u64, fit: Fit, places: u32) -> String {
    let said = format!("{name}.{program:016x}-{:016x}-{places}", fit.0);
    let code = BASE64.encode(sign_fit(key, &said));
    format!("{said}.{code}.{FIT}")
}

fn sign_fit(key: &hmac::Key, said: &str) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(PURPOSE_FIT);
    context.update(said.as_bytes());
    context.sign()
}

/// What the name of such a file says, if this program said it.
fn parse_fit(file_name: &str, key: &hmac::Key, program: Option<u64>) -> Option<(String, Fit, u32)> {
    let mut parts = file_name.split('.');
    let (name, numbers) = (parts.next()?, parts.next()?);
    let mut numbers = numbers.split('-');
    let mut hex = || u64::from_str_radix(numbers.next()?, 16).ok();
    let (of, fit) = (hex()?, Fit(hex()?));
    let places = numbers.next()?.parse().ok()?;
    // Whoever can make such a file only keeps a module from being looked at when it is published: no need to hide how far two agree.
    let is_ours = Some(of) == program && fit_file(key, name, of, fit, places) == file_name;
    is_ours.then(|| (name.to_owned(), fit, places))
}

/// The file that this process runs, as far as it tells one build from another; none where the system does not say.
fn program() -> Option<u64> {
    let file = fs::metadata("/proc/self/exe").ok()?;
    let mut hasher = DefaultHasher::new();
    (file.len(), file.modified().ok()?).hash(&mut hasher);
    Some(hasher.finish())
}

/// Opens a file for reading, and nothing else: no link, no pipe to wait for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(wrong("not a file")) }
}

/// What is there is not what was written.
fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Whether that is so, and not that it cannot be looked at now.
fn is_wrong(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// A file that is being written under a name of its own and then renamed, so that a reader never sees half, two writers do not
/// meet, and a failure leaves nothing behind; what a crash leaves is removed at the next start.
struct Unfinished {
    file: File,
    path: PathBuf,
}

impl Unfinished {
    fn new(dir: &Path) -> io::Result<Self> {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{UNFINISHED}{}-code-{number}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o400).open(&path)?;
        Ok(Self { file, path })
    }

    /// Gives it its name, and returns the descriptor by which it was written.
    fn finish(self, path: &Path) -> io::Result<File> {
        fs::rename(&self.path, path)?;
        self.file.try_clone()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Where it has its name by now, there is nothing to remove.
        let _ = fs::remove_file(&self.path);
    }
}

/// Code on its way into a file, and its authentication code.
struct Authenticated<'a> {
    file: &'a File,
    context: hmac::Context,
}

impl Write for Authenticated<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.context.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What the system refuses: some of it for a while only.
fn refused(text: &'static str, error: io::Error) -> Error {
    let passes = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(|errno| Some(errno.raw_os_error()));
    if passes.contains(&error.raw_os_error()) {
        return Error::new(Kind::Overloaded, text).retry_after(RETRY_AFTER_S).caused_by(error);
    }
    failed(text).caused_by(error)
}

fn failed(text: &'static str) -> Error {
    Error::new(Kind::Internal, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "artifact-plain-0";

    fn open_dir(data: &Path) -> CodeDir {
        CodeDir::open(data, Metrics::new()).expect("opened")
    }

    fn engine() -> Engine {
        Engine::default()
    }

    /// Compiles a module and returns its file.
    fn compiled(data: &Path) -> PathBuf {
        let dir = open_dir(data);
        let code = engine().precompile_module(b"\0asm\x01\0\0\0").expect("it compiles");
        dir.put(NAME, true, |file| {
            file.write_all(&code).expect("written");
            Ok(())
        })
        .expect("a file");
        let path = dir.files()[NAME].path.clone();
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o400);
        path
    }

    /// Whether a new process would load what is there.
    fn is_loaded(data: &Path, name: &str) -> bool {
        open_dir(data).find(name, true).expect("looked at").is_some_and(|compiled| compiled.load(&engine()).is_ok())
    }

    #[test]
    fn what_was_compiled_is_loaded_by_the_next_process() {
        let data = tempfile::tempdir().expect("a folder");
        compiled(data.path());
        assert!(is_loaded(data.path(), NAME));
        assert!(!is_loaded(data.path(), "artifact-plain-1"), "of another engine");
        open_dir(data.path()).remove(NAME);
        assert!(!is_loaded(data.path(), NAME));
    }

    /// Numbers that are the same in each run.
    struct Seeded(u64);

    impl Seeded {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((mixed ^ (mixed >> 27)) % end as u64) as usize
        }
    }

    /// Another file than `good`, which is one of `name`, and of its bytes or its own name: what somebody may put there.
    fn tampered(
        random: &mut Seeded,
        name: &str,
        good: &[u8],
        other: &[u8],
        codes: &[String; 2],
    ) -> (&'static str, Vec<u8>, String) {
        let file_name = |code: &str| format!("{name}.{code}.{CODE}");
        let mut bytes = good.to_vec();
        let at = random.below(good.len());
        let (what, code) = match random.below(8) {
            0 => {
                bytes[at] ^= 1 << random.below(8);
                ("a bit", codes[0].clone())
            }
            1 => {
                let end = (at + 1 + random.below(64)).min(bytes.len());
                bytes[at..end].iter_mut().for_each(|byte| *byte = byte.wrapping_add(1 + random.below(255) as u8));
                ("some bytes", codes[0].clone())
            }
            2 => {
                bytes.truncate(at);
                ("the end", codes[0].clone())
            }
            3 => {
                bytes.extend((0..=random.below(64)).map(|_| random.below(256) as u8));
                ("more bytes", codes[0].clone())
            }
            4 => ("another file's bytes", {
                bytes = other.to_vec();
                codes[0].clone()
            }),
            5 => ("another file's bytes and code", {
                bytes = other.to_vec();
                codes[1].clone()
            }),
            6 => {
                let mut code = BASE64.decode(&codes[0]).expect("a code");
                let at = random.below(code.len());
                code[at] ^= 1 << random.below(8);
                ("the code", BASE64.encode(code))
            }
            _ => {
                let code: Vec<u8> = (0..random.below(64)).map(|_| random.below(256) as u8).collect();
                ("no code", BASE64.encode(code))
            }
        };
        (what, bytes, file_name(&code))
    }

    #[test]
    fn none_of_ten_thousand_changed_files_is_loaded() {
        const SEED: u64 = 0x1dea_0001;
        let (data, elsewhere) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let path = compiled(data.path());
        let dir = open_dir(data.path());
        let other_code = engine()
            .precompile_module(b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x04\x01\x02\0\x0b")
            .expect("it compiles");
        let other_name = "artifact-plain-1";
        dir.put(other_name, true, |file| {
            file.write_all(&other_code).expect("written");
            Ok(())
        })
        .expect("a file");
        let other = dir.files()[other_name].path.clone();
        let code_of = |path: &Path| {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("text");
            stem.rsplit('.').next().expect("a code").to_owned()
        };
        let codes = [code_of(&path), code_of(&other)];
        let (good, other) = (fs::read(&path).expect("a file"), fs::read(&other).expect("a file"));
        let other_key = open_dir(elsewhere.path());
        let mut random = Seeded(SEED);
        for round in 0..10_000 {
            let (what, bytes, file_name) = tampered(&mut random, NAME, &good, &other, &codes);
            let put = dir.dir.join(file_name);
            let _ = fs::remove_file(&put);
            fs::write(&put, &bytes).expect("written");
            // Twice the code in a file of the same bytes would be no change.
            assert!(dir.verified(NAME, &put).is_err(), "seed {SEED:#x}, round {round}: {what}");
            assert!(other_key.verified(NAME, &put).is_err(), "seed {SEED:#x}, round {round}: {what}, another key");
            fs::remove_file(&put).expect("removed");
        }
        fs::write(&path, &good).expect("written");
        assert!(dir.verified(NAME, &path).is_ok());
        assert!(dir.verified(other_name, &path).is_err(), "another's");
        assert!(other_key.verified(NAME, &path).is_err(), "another key");
    }

    #[test]
    fn what_is_mapped_is_what_was_read_whatever_lies_there_by_then() {
        let data = tempfile::tempdir().expect("a folder");
        let path = compiled(data.path());
        let good = fs::read(&path).expect("a file");
        let dir = open_dir(data.path());
        let mut found = dir.find(NAME, true).expect("looked at").expect("it is there");
        // As somebody who waits for the moment between both.
        let bad = path.with_file_name("bad");
        fs::write(&bad, b"bad").and_then(|()| fs::rename(&bad, &path)).expect("replaced");
        let mut read = Vec::new();
        io::Seek::rewind(&mut found.file).and_then(|()| found.file.read_to_end(&mut read)).expect("read");
        assert_eq!(read, good);
        assert!(found.load(&engine()).is_ok());
        assert!(dir.find(NAME, true).expect("looked at").is_none(), "what lies there now is found to be wrong");
    }

    #[test]
    fn what_is_not_authentic_is_removed() {
        let data = tempfile::tempdir().expect("a folder");
        let path = compiled(data.path());
        fs::remove_file(data.path().join(KEY_FILE)).expect("removed");
        assert!(!is_loaded(data.path(), NAME), "under another key");
        assert!(!path.exists());

        let path = compiled(data.path());
        let elsewhere = data.path().join("elsewhere");
        fs::rename(&path, &elsewhere).expect("renamed");
        std::os::unix::fs::symlink(&elsewhere, &path).expect("a link");
        assert!(!is_loaded(data.path(), NAME), "through a link");
        assert!(elsewhere.exists() && !path.exists());

        compiled(data.path());
        fs::remove_file(data.path().join(KEY_FILE))
            .and_then(|()| fs::write(data.path().join(KEY_FILE), b"short"))
            .expect("written");
        assert!(!is_loaded(data.path(), NAME), "under no key");
    }

    #[test]
    fn what_cannot_be_looked_at_now_stays() {
        let data = tempfile::tempdir().expect("a folder");
        let path = compiled(data.path());
        let dir = open_dir(data.path());
        // A name that no system opens: to whom it is refused for any other reason, it is refused in the same way.
        let long = path.with_file_name("x".repeat(300));
        dir.files().get_mut(NAME).expect("it is there").path = long;
        let error = dir.find(NAME, true).expect_err("it cannot be looked at");
        assert_eq!((error.kind, dir.metrics.code_rejected.get()), (Kind::Internal, 0));
        dir.files().get_mut(NAME).expect("it is still there").path = path;
        assert!(dir.find(NAME, true).expect("looked at").is_some());
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            let error = refused("no", errno.into());
            assert_eq!((error.kind, error.retry_after_s), (Kind::Overloaded, Some(RETRY_AFTER_S)));
        }
        assert_eq!([Errno::MFILE, Errno::IO, Errno::LOOP].map(|errno| is_wrong(&errno.into())), [false, false, true]);
    }

    #[test]
    fn a_key_that_cannot_be_read_is_not_made_anew() {
        let data = tempfile::tempdir().expect("a folder");
        assert!(key(&data.path().join("x".repeat(300))).is_err());
        // Not there is another thing.
        let first = key(data.path()).expect("made");
        assert_eq!(key(data.path()).expect("read"), first);
    }

    #[test]
    fn a_key_that_others_may_read_is_none() {
        let data = tempfile::tempdir().expect("a folder");
        compiled(data.path());
        fs::set_permissions(data.path().join(KEY_FILE), Permissions::from_mode(0o444)).expect("opened");
        assert!(!is_loaded(data.path(), NAME));
        compiled(data.path());
        assert!(is_loaded(data.path(), NAME), "under the new one");
    }

    #[test]
    fn what_was_not_finished_is_no_hindrance() {
        let data = tempfile::tempdir().expect("a folder");
        let path = compiled(data.path());
        let unfinished = |folder: &Path, number: u32| folder.join(format!("{UNFINISHED}{}-code-{number}", std::process::id()));
        // As a process that had the same number left them when it was killed.
        fs::remove_file(data.path().join(KEY_FILE)).expect("removed");
        let of_the_key = unfinished(data.path(), 0);
        fs::write(&of_the_key, b"half").expect("written");
        let of_code = unfinished(path.parent().expect("a folder"), 0);
        fs::write(&of_code, b"half").expect("written");
        let other = path.with_file_name("README");
        fs::write(&other, b"somebody else's").expect("written");
        compiled(data.path());
        assert!(is_loaded(data.path(), NAME) && !of_code.exists() && other.exists());
    }

    #[test]
    fn what_nobody_used_for_long_is_removed() {
        let data = tempfile::tempdir().expect("a folder");
        let path = compiled(data.path());
        let age = || {
            let long_ago = SystemTime::now() - UNUSED_MAX - Duration::from_secs(60);
            File::open(&path).and_then(|file| file.set_modified(long_ago)).expect("set");
        };
        age();
        let dir = open_dir(data.path());
        assert!(dir.find(NAME, true).expect("looked at").is_some(), "a server that ran for long finds its code again");
        age();
        dir.sweep(|name| name == NAME);
        assert!(path.exists(), "it is needed");
        dir.sweep(|_| false);
        assert!(!path.exists(), "it was used, and nobody needs it now");

        let path = compiled(data.path());
        open_dir(data.path()).sweep(|_| false);
        assert!(path.exists(), "an earlier process used it, lately");
        File::open(&path).and_then(|file| file.set_modified(SystemTime::now() - UNUSED_MAX * 2)).expect("set");
        open_dir(data.path()).sweep(|_| false);
        assert!(!path.exists());
    }

    #[test]
    fn what_was_linked_is_known_to_the_next_process_of_the_same_program() {
        let data = tempfile::tempdir().expect("a folder");
        let path = compiled(data.path());
        let places = |fit| open_dir(data.path()).places(NAME, Fit(fit));
        assert_eq!(places(7), None);
        open_dir(data.path()).note(NAME, Fit(7), 2);
        assert_eq!((places(7), places(8)), (Some(2), None));
        let file = || {
            let files = fs::read_dir(data.path().join("compiled-code")).expect("a folder");
            files.map(|file| file.expect("a file").path()).find(|path| path.extension().is_some_and(|end| end == FIT))
        };
        let good = file().expect("a file");
        assert_eq!(fs::metadata(&good).expect("a file").len(), 0);

        let said = good.file_name().and_then(|name| name.to_str()).expect("text");
        let dir = open_dir(data.path());
        assert_eq!(parse_fit(said, &dir.key, dir.program), Some((NAME.to_owned(), Fit(7), 2)));
        assert_eq!(parse_fit(said, &dir.key, Some(1)), None, "of another program");
        assert_eq!(parse_fit(&said.replace("-2.", "-1."), &dir.key, dir.program), None, "changed");
        fs::rename(&good, good.with_file_name(said.replace("-2.", "-1."))).expect("renamed");
        assert_eq!((places(7), file()), (None, None), "it is removed");

        open_dir(data.path()).note(NAME, Fit(7), 2);
        fs::remove_file(data.path().join(KEY_FILE)).expect("removed");
        assert_eq!(places(7), None, "under another key");

        open_dir(data.path()).note(NAME, Fit(7), 2);
        open_dir(data.path()).remove(NAME);
        assert_eq!((path.exists(), file()), (false, None), "both go");
    }
}
