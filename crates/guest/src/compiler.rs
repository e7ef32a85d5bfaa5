//! Who compiles: a process of its own for each module, and how many wait for theirs.
//!
//! What is published is anybody's, and what compiling takes cannot be told from it. So it is done by a process that limits
//! itself ([`crate::compiling`]), one for each module: whatever a module does to its compiler, the next one's is new. That
//! costs some milliseconds a module, once. This process sends the artifact and takes the code a piece at a time, so its own memory does not
//! depend on what is published; it ends the process when its time is over.
//!
//! At the start as many are compiled at once as there are processors. A server that serves compiles one at a time, beside
//! its guests, and few calls wait for that: the others are told to come again.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use base::{CompileLimits, Entry, Error, Kind, Metrics, Quantity};
use rustix::process::{Pid, Signal, kill_process_group};
use wasmtime::Engine;

use crate::compiling::{self, FAILED, NO_MEMORY, OTHER_BUILD, REFUSED};
use crate::signed::SigningKey;
use crate::{engine, scan};

/// The hidden command of the `fornax` program that compiles for a server.
pub const COMMAND: &str = "compile-for-server";

/// What each MiB of an artifact adds, since what is good takes time by its size: an interpreter of 10 MiB 16 s of processor time on a slow
/// machine; and the same for machines that have little of that.
const CPU_PER_MIB: Duration = Duration::from_secs(2);
const WALL_PER_MIB: Duration = Duration::from_secs(6);

/// Of an artifact that is compiled by all processors at a start: less is done before they have begun.
const PARALLEL_BYTES_MIN: usize = 1 << 20;

/// Threads of one compilation: each takes up to 64 MiB of the same limit.
const THREADS_MAX: usize = 4;

/// All the environment of the process: its allocators shall not set aside address space, which is bounded; they begin with a GiB, and 64 MiB
/// for each thread.
const ENVIRONMENT: [(&str, &str); 2] = [("MIMALLOC_ARENA_RESERVE", "64MiB"), ("MALLOC_ARENA_MAX", "1")];

/// What a call is told that finds no room: by then the one that is compiled has ended, and often others.
const RETRY_AFTER_S: u32 = 20;

/// What a process may say about why it failed.
const WORDS_BYTES_MAX: u64 = 64 << 10;

/// How much of the code is taken in one step.
const READ_BYTES: usize = 64 << 10;

/// Compiles modules, each in a process of its own where it knows a program for that.
pub(crate) struct Compiler {
    program: Option<PathBuf>,
    limits: CompileLimits,
    queue: Queue,
    metrics: Arc<Metrics>,
}

/// A compiled artifact that no server has.
#[derive(Debug)]
pub struct Compilation {
    artifact: Vec<u8>,
    purpose: String,
    code: Vec<u8>,
    /// The ways it can be called.
    pub entries: Vec<Entry>,
}

impl Compilation {
    /// Compiles an artifact for servers of this build on such a processor, as a server does that has this program for it.
    ///
    /// # Errors
    ///
    /// [`Kind::Unprocessable`] with a sentence for whoever publishes.
    pub fn of(artifact: Vec<u8>, program: Option<PathBuf>) -> Result<Self, Error> {
        let scan = scan::scan(&artifact)?;
        let engine = engine::for_compiling(scan.engine, true)?;
        let purpose = engine::purpose(scan.engine, &engine);
        let job = Job { engine: &engine, purpose: &purpose, artifact: &artifact, is_core: scan.is_core };
        let mut code = Vec::new();
        Compiler::new(program, CompileLimits::default(), Metrics::new()).compile(&job, Asker::Publisher, &mut code)?;
        Ok(Self { artifact, purpose, code, entries: scan.entries })
    }

    /// The size of its code.
    pub fn code_bytes(&self) -> usize {
        self.code.len()
    }

    /// The file that [`Signed::open`](crate::Signed::open) opens.
    pub fn signed(&self, key: &SigningKey) -> Vec<u8> {
        key.seal(&self.purpose, &self.artifact, &self.code)
    }
}

/// What is to be compiled, and for which engine.
pub(crate) struct Job<'a> {
    pub(crate) engine: &'a Engine,
    /// As [`crate::engine::purpose`] says.
    pub(crate) purpose: &'a str,
    pub(crate) artifact: &'a [u8],
    pub(crate) is_core: bool,
}

/// Who waits for a compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Whoever publishes: a few threads, which wait for as long as it takes.
    Publisher,
    /// A call, of which there may be any number.
    Call,
}

impl Compiler {
    /// `program` has the command [`COMMAND`]. Without one, modules are compiled by this process.
    pub(crate) fn new(program: Option<PathBuf>, limits: CompileLimits, metrics: Arc<Metrics>) -> Self {
        Self { program, limits, queue: Queue::default(), metrics }
    }

    /// From now on this process serves.
    pub(crate) fn serve(&self) {
        self.queue.is_serving.store(true, Relaxed);
    }

    /// Compiles a module and gives its code to `into`, of which nothing may be used on an error. Takes long: not for a thread that
    /// serves.
    pub(crate) fn compile(&self, job: &Job<'_>, asker: Asker, into: &mut dyn Write) -> Result<(), Error> {
        let _turn = self.queue.turn(asker, self.limits.queue)?;
        let (outcome, result) = match &self.program {
            None => match compiling::compile(job.engine, job.artifact, job.is_core) {
                Ok(code) => ("compiled", into.write_all(&code).map_err(unwritten)),
                Err(error) => ("refused", Err(error)),
            },
            Some(program) => in_child(program, job, &self.limits, self.queue.is_serving.load(Relaxed), into),
        };
        self.metrics.compiled(outcome);
        result
    }
}

/// How the parts of a conversation with a process ended.
struct Heard {
    /// Sending the artifact.
    sent: io::Result<()>,
    /// Taking the code, and giving it on.
    taken: Result<(), Error>,
}

/// Compiles in a process of its own, and says how that went.
fn in_child(
    program: &Path,
    job: &Job<'_>,
    limits: &CompileLimits,
    is_beside_guests: bool,
    into: &mut dyn Write,
) -> (&'static str, Result<(), Error>) {
    let limits = for_size(limits, job.artifact.len());
    let cpu_s = limits.cpu.as_secs().to_string();
    let form = if job.is_core { "core" } else { "component" };
    let mut command = Command::new(program);
    command
        .args([COMMAND, job.purpose, form, &cpu_s, &limits.memory_bytes.to_string()])
        .args(is_beside_guests.then_some("--beside-guests"));
    command.args((!is_beside_guests && job.artifact.len() >= PARALLEL_BYTES_MIN).then_some("--parallel"));
    command.env_clear().envs(ENVIRONMENT).env("RAYON_NUM_THREADS", processors().min(THREADS_MAX).to_string());
    command.current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = command.spawn().map_err(|error| {
        Error::new(Kind::Internal, "the compiler cannot be started").internal(program.display().to_string()).caused_by(error)
    });
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return ("failed", Err(error)),
    };
    let conversed = attend(&mut child, &limits, job.artifact, into);
    // Whatever became of that, nothing is left that it could do.
    match (conversed, child.wait()) {
        (Ok((heard, is_late, words)), Ok(status)) => judge(status, is_late, &words, heard, &limits),
        (Err(error), _) => ("failed", Err(Error::new(Kind::Internal, "the compiler cannot be attended to").caused_by(error))),
        (_, Err(error)) => ("failed", Err(Error::new(Kind::Internal, "the compiler is lost").caused_by(error))),
    }
}

/// Stands by a process until it has given all there is or its time is over, and ends it. Returns whether that was late, and what it said.
fn attend(child: &mut Child, limits: &CompileLimits, artifact: &[u8], into: &mut dyn Write) -> io::Result<(Heard, bool, String)> {
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(input), Some(output), Some(errors)) = streams else {
        end(child);
        return Err(io::Error::other("it has no streams"));
    };
    let (done, is_done) = channel::<()>();
    let (child, wall) = (&*child, limits.wall);
    thread::scope(|scope| {
        let listen = move || words(errors);
        let watch = move || {
            let is_late = is_done.recv_timeout(wall) == Err(RecvTimeoutError::Timeout);
            // Also where it has given all there is: its exit code stays what it was.
            end(child);
            is_late
        };
        // Beside the rest: one that has much to say would wait for who listens, as that one does for its code.
        let listening = thread::Builder::new().spawn_scoped(scope, listen);
        let watching = listening.and_then(|listening| Ok((listening, thread::Builder::new().spawn_scoped(scope, watch)?)));
        let (listening, watching) = watching.inspect_err(|_| end(child))?;
        let heard = converse(input, output, artifact, limits.memory_bytes, into);
        drop(done);
        let is_late = watching.join().unwrap_or(true);
        Ok((heard, is_late, listening.join().unwrap_or_default()))
    })
}

/// What a process says about why it failed, to the end: it is for people, and half of it is better than nothing.
fn words(mut errors: ChildStderr) -> String {
    let mut words = Vec::new();
    let _ = errors.by_ref().take(WORDS_BYTES_MAX).read_to_end(&mut words);
    let _ = io::copy(&mut errors, &mut io::sink());
    String::from_utf8_lossy(&words).into_owned()
}

/// What compiling so many bytes may take.
fn for_size(limits: &CompileLimits, bytes: usize) -> CompileLimits {
    let mib = u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
    let (cpu, wall) = (CPU_PER_MIB.saturating_mul(mib), WALL_PER_MIB.saturating_mul(mib));
    // A whole number of seconds is what the kernel counts to.
    let whole = Duration::from_secs(limits.cpu.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX));
    CompileLimits { cpu: whole.saturating_add(cpu), wall: limits.wall.saturating_add(wall), ..*limits }
}

/// Sends the artifact, then takes the code, which is no more than the process can hold: it reads all of the one before it has any of the
/// other.
fn converse(mut input: ChildStdin, output: ChildStdout, artifact: &[u8], code_max: u64, into: &mut dyn Write) -> Heard {
    let sent = input.write_all(&(artifact.len() as u64).to_le_bytes()).and_then(|()| input.write_all(artifact));
    drop(input);
    // One byte more than there may be, to see that there is more.
    let mut output = output.take(code_max + 1);
    let mut bytes = vec![0; READ_BYTES];
    let mut take = || {
        loop {
            match output.read(&mut bytes) {
                Ok(0) if output.limit() == 0 => {
                    return Err(Error::new(Kind::Unprocessable, "the artifact compiles to too much code"));
                }
                Ok(0) => return Ok(()),
                Ok(read) => into.write_all(&bytes[..read]).map_err(unwritten)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::new(Kind::Internal, "the compiler cannot be heard").caused_by(error)),
            }
        }
    };
    Heard { taken: take(), sent }
}

/// Ends a process that was not waited for yet, and whatever it has started.
fn end(child: &Child) {
    // If it fails, it has ended by itself.
    let _ = i32::try_from(child.id()).ok().and_then(Pid::from_raw).map(|pid| kill_process_group(pid, Signal::KILL));
}

/// What became of a compilation, in a word for the metric.
fn judge(
    status: ExitStatus,
    is_late: bool,
    words: &str,
    heard: Heard,
    limits: &CompileLimits,
) -> (&'static str, Result<(), Error>) {
    let (first, rest) = words.split_once('\n').unwrap_or((words, ""));
    let (first, rest) = (&*scan::line(first), rest.trim());
    let rest = || rest.lines().map(scan::line).collect::<Vec<_>>().join("\n");
    let refuse = |text: String| Err(Error::new(Kind::Unprocessable, text).internal(rest()));
    let memory = || {
        let text = format!("compiling the artifact takes more than {} MiB of memory. {SMALLER}", limits.memory_bytes >> 20);
        ("memory", Err(Error::new(Kind::Unprocessable, text).internal(first.to_owned())))
    };
    if is_late {
        return (
            "wall",
            refuse(format!("compiling the artifact takes longer than {}. {SMALLER}", Quantity::Time(Some(limits.wall)))),
        );
    }
    if let Err(error) = heard.taken {
        return ("failed", Err(error));
    }
    let signal = status.signal().and_then(Signal::from_named_raw);
    match (status.code().and_then(|code| u8::try_from(code).ok()), signal) {
        (Some(0), _) => match heard.sent {
            Ok(()) => ("compiled", Ok(())),
            Err(error) => ("failed", Err(Error::new(Kind::Internal, "the compiler cannot be told").caused_by(error))),
        },
        (Some(REFUSED), _) => ("refused", refuse(first.to_owned())),
        (Some(NO_MEMORY), _) => memory(),
        (Some(OTHER_BUILD | FAILED), _) => ("failed", Err(Error::new(Kind::Internal, first.to_owned()).internal(rest()))),
        (_, Some(Signal::XCPU)) => (
            "cpu",
            refuse(format!(
                "compiling the artifact takes more than {} of processor time. {SMALLER}",
                Quantity::Time(Some(limits.cpu))
            )),
        ),
        // What Rust says before it aborts; and whom the kernel ends, which this process asked to be, where the machine has no more.
        (_, Some(Signal::ABORT)) if words.contains("memory allocation of") => memory(),
        (_, Some(Signal::KILL)) => memory(),
        _ => {
            let error = Error::new(Kind::Unprocessable, "the artifact cannot be compiled: the compiler broke down over it");
            ("crashed", Err(error.internal(format!("{status}: {first} {}", rest()))))
        }
    }
}

/// What whoever publishes can do.
const SMALLER: &str = "Build it optimised, or split it; a function of very many instructions takes most";

fn unwritten(error: io::Error) -> Error {
    Error::new(Kind::Internal, "cannot write compiled code").caused_by(error)
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Who compiles and who waits for that.
#[derive(Default)]
struct Queue {
    is_serving: AtomicBool,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    running: usize,
    /// Calls only.
    waiting: usize,
}

/// The right to compile one module.
struct Turn<'a>(&'a Queue);

impl Queue {
    fn turn(&self, asker: Asker, waiting_max: u32) -> Result<Turn<'_>, Error> {
        let mut state = self.state();
        if state.running >= self.at_once() && asker == Asker::Call {
            if state.waiting >= waiting_max as usize {
                return Err(Error::new(Kind::Overloaded, "too many modules wait to be compiled").retry_after(RETRY_AFTER_S));
            }
            state.waiting += 1;
            state = self.wait(state);
            state.waiting -= 1;
        } else {
            state = self.wait(state);
        }
        state.running += 1;
        Ok(Turn(self))
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.freed.wait_while(state, |state| state.running >= self.at_once()).unwrap_or_else(PoisonError::into_inner)
    }

    fn at_once(&self) -> usize {
        if self.is_serving.load(Relaxed) { 1 } else { processors() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().running -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITING_MAX: u32 = 16;

    #[test]
    fn a_server_that_serves_compiles_one_at_a_time_and_few_calls_wait() {
        let queue = Queue::default();
        queue.is_serving.store(true, Relaxed);
        let running = queue.turn(Asker::Publisher, WAITING_MAX).expect("nobody else compiles");
        thread::scope(|scope| {
            let waiters: Vec<_> =
                (0..WAITING_MAX).map(|_| scope.spawn(|| queue.turn(Asker::Call, WAITING_MAX).map(drop))).collect();
            let publisher = scope.spawn(|| queue.turn(Asker::Publisher, WAITING_MAX).map(drop));
            while queue.state().waiting < WAITING_MAX as usize {
                thread::yield_now();
            }
            let error = queue.turn(Asker::Call, WAITING_MAX).map(drop).expect_err("there is no room");
            assert_eq!((error.kind, error.retry_after_s), (Kind::Overloaded, Some(RETRY_AFTER_S)));
            assert_eq!(queue.state().running, 1);
            drop(running);
            assert!(waiters.into_iter().chain([publisher]).all(|waiter| waiter.join().is_ok_and(|turn| turn.is_ok())));
        });
        let state = queue.state();
        assert_eq!((state.running, state.waiting), (0, 0));
    }

    #[test]
    fn a_compiler_with_much_to_say_is_heard_to_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("compiler");
        let script = "#!/bin/sh\nprintf 'it is b\\377d\\033[2J\\n' >&2\nhead -c 1000000 /dev/zero >&2\ncat >/dev/null\nexit 3\n";
        std::fs::write(&program, script).expect("written");
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("changed");
        let engine = engine::for_compiling(engine::EngineKind::Plain, false).expect("an engine");
        let job = Job { engine: &engine, purpose: "plain-0", artifact: &[0; 1 << 20], is_core: true };
        let began = std::time::Instant::now();
        let (outcome, result) = in_child(&program, &job, &CompileLimits::default(), false, &mut io::sink());
        assert_eq!((outcome, result.expect_err("refused").to_string().as_str()), ("refused", "it is b\u{fffd}d\\u{1b}[2J"));
        assert!(began.elapsed() < CompileLimits::default().wall, "{:?}", began.elapsed());
    }

    #[test]
    fn who_ends_a_compilation_is_told_from_how_it_ended() {
        let heard = || Heard { sent: Ok(()), taken: Ok(()) };
        let ended = |raw: i32, is_late: bool, words: &str| {
            let (outcome, result) = judge(ExitStatus::from_raw(raw), is_late, words, heard(), &CompileLimits::default());
            (outcome, result.map_err(|error| (error.kind, error.to_string())))
        };
        let code = |code: u8| i32::from(code) << 8;
        assert_eq!(ended(code(0), false, ""), ("compiled", Ok(())));
        for (raw, is_late, words, outcome, kind, text) in [
            (code(REFUSED), false, "it is bad\nmore", "refused", Kind::Unprocessable, "it is bad"),
            (code(NO_MEMORY), false, "", "memory", Kind::Unprocessable, "more than 1024 MiB"),
            (Signal::ABORT.as_raw(), false, "memory allocation of 8 bytes failed", "memory", Kind::Unprocessable, "1024 MiB"),
            (Signal::KILL.as_raw(), false, "", "memory", Kind::Unprocessable, "1024 MiB"),
            (Signal::KILL.as_raw(), true, "", "wall", Kind::Unprocessable, "longer than 1 min"),
            (Signal::XCPU.as_raw(), false, "", "cpu", Kind::Unprocessable, "more than 20 s of processor time"),
            (Signal::SEGV.as_raw(), false, "", "crashed", Kind::Unprocessable, "broke down"),
            (Signal::ABORT.as_raw(), false, "stack overflow", "crashed", Kind::Unprocessable, "broke down"),
            (code(101), false, "panicked", "crashed", Kind::Unprocessable, "broke down"),
            (code(OTHER_BUILD), false, "another build", "failed", Kind::Internal, "another build"),
        ] {
            let (found, result) = ended(raw, is_late, words);
            let (found_kind, said) = result.expect_err(outcome);
            assert_eq!((found, found_kind), (outcome, kind), "{said}");
            assert!(said.contains(text), "{said}");
        }
    }
}
