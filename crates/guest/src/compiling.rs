//! Compiling, where it is done: mostly in a process of its own, which this is the whole of.
//!
//! Compiling is linear in nothing a module's size tells: 120 KB can take gigabytes, and a compiler's own mistakes may end its
//! process. So the server starts a process for each module ([`crate::compiler`]), which first of all takes from itself what
//! it will not need, and only then reads what somebody published. It gets the artifact on its standard input, gives the code on
//! standard output, and is never told the key under which code is kept: what may be mapped is for the server to say.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use base::{Error, Kind};
use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use wasmtime::Engine;

use crate::engine::{self, EngineKind};
use crate::{caps, scan};

/// Standard streams, and a few files by which libraries look at the machine.
const FILES_MAX: u64 = 32;

/// Guests come first where there are fewer processors than work; as runners, which compute for guests that do so for long.
const NICE: i32 = 5;

/// How the process ends where no signal ends it.
pub(crate) const REFUSED: u8 = 3;
pub(crate) const OTHER_BUILD: u8 = 4;
pub(crate) const NO_MEMORY: u8 = 5;
pub(crate) const FAILED: u8 = 6;

/// Compiles a core module or a component whose bytes are within our own bounds.
pub(crate) fn compile(engine: &Engine, artifact: &[u8], is_core: bool) -> Result<Vec<u8>, Error> {
    caps::check_functions(artifact)?;
    let code = if is_core { engine.precompile_module(artifact) } else { engine.precompile_component(artifact) };
    code.map_err(|error| {
        Error::new(Kind::Unprocessable, format!("the artifact does not compile: {}", scan::line(&error.root_cause().to_string())))
            .internal(scan::line(&format!("{error:#}")))
    })
}

/// What a process is told that compiles one module for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileJob {
    /// Which engine of which build the server means, so that another one than its own says so.
    pub purpose: String,
    /// Whether it is a core module, not a component.
    pub is_core: bool,
    /// Processor time it may take, in seconds.
    pub cpu_s: u64,
    /// Memory it may take, in bytes: address space, as the kernel cannot bound what of it is in memory. The program itself and what its
    /// allocator sets aside count.
    pub memory_bytes: u64,
    /// Whether it may use every processor.
    pub is_parallel: bool,
    /// Whether guests are served beside it, which come first.
    pub is_beside_guests: bool,
}

/// The whole of a process that a server started to compile one module: limits itself, reads it from standard input behind its
/// size in eight bytes, and writes its code to standard output. A sentence goes to standard error, more for the log in lines behind it.
pub fn compile_for_server(job: &CompileJob) -> ExitCode {
    match limit(job).and_then(|()| compile_input(job)) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, text)) => {
            // Who would read it may be gone.
            let _ = io::stderr().write_all(text.as_bytes());
            ExitCode::from(code)
        }
    }
}

type Failure = (u8, String);

fn failed(what: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| (FAILED, format!("{what}\n{error}"))
}

/// Takes from this process what it does not need.
fn limit(job: &CompileJob) -> Result<(), Failure> {
    let failed = failed("the compiler cannot limit itself");
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        use rustix::thread::set_no_new_privs;
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed(error.into()))?;
        set_no_new_privs(true).map_err(|error| failed(error.into()))?;
        // If the machine has no memory left, this process goes and not the server. Where it cannot be said, the other limits hold.
        let _ = fs::write("/proc/self/oom_score_adj", "1000");
    }
    if job.is_beside_guests {
        // Never refused: it only gives way.
        let _ = nice(NICE);
    }
    let limits = [
        (Resource::As, job.memory_bytes),
        (Resource::Cpu, job.cpu_s),
        (Resource::Core, 0),
        (Resource::Nofile, FILES_MAX),
        // What a file could hold is what the disk could lose.
        (Resource::Fsize, 0),
    ];
    for (resource, limit) in limits {
        // What was lower already stays.
        let allowed = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        // The signal of the soft limit says which one it was, that of the hard one does not.
        let hard = if resource == Resource::Cpu { limit.saturating_add(1) } else { limit };
        let limit = Rlimit { current: Some(limit.min(allowed)), maximum: Some(hard.min(allowed)) };
        setrlimit(resource, limit).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

fn compile_input(job: &CompileJob) -> Result<(), Failure> {
    let (mut input, mut size) = (io::stdin().lock(), [0; 8]);
    input.read_exact(&mut size).map_err(failed("the compiler was not told what to compile"))?;
    let size = usize::try_from(u64::from_le_bytes(size)).unwrap_or(usize::MAX);
    let mut artifact = Vec::new();
    artifact.try_reserve_exact(size).map_err(|error| (NO_MEMORY, error.to_string()))?;
    artifact.resize(size, 0);
    input.read_exact(&mut artifact).map_err(failed("the compiler was told half of what to compile"))?;
    let purpose = job.purpose.as_str();
    let kind = purpose.split('-').next().and_then(EngineKind::named);
    let refused = |error: Error| {
        let is_memory = error.detail().contains("Cannot allocate memory");
        (if is_memory { NO_MEMORY } else { REFUSED }, format!("{error}\n{}", error.detail()))
    };
    let engine = kind.map(|kind| engine::for_compiling(kind, job.is_parallel)).transpose().map_err(refused)?;
    let engine = engine.filter(|engine| kind.is_some_and(|kind| engine::purpose(kind, engine) == purpose));
    let Some(engine) = engine else {
        return Err((OTHER_BUILD, format!("the compiler is another build of Fornax than the server\n{purpose}")));
    };
    let code = compile(&engine, &artifact, job.is_core).map_err(refused)?;
    io::stdout().lock().write_all(&code).map_err(failed("the compiler cannot give its code"))
}
