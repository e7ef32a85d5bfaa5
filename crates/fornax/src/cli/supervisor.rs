//! The process that keeps the sockets open while another one serves, and replaces that one when it dies.
//!
//! It does as little as can be: it runs no guest, opens no data and answers nobody, so nothing that ends a worker is likely to end it.
//! While there is no worker, connections wait in the backlog of the socket, which never closes before the end.
//!
//! Every end of a worker that was not asked for is a death, whatever its exit code. One that had served is replaced at once; one that
//! dies as it starts, again and again, is given more and more time, up to a bound, so that the machine has some left. A first worker
//! that cannot start for what it was given has said why, and that is the end.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use base::journal::{self, ModuleName};
use base::{Error, Kind};
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::link::{Said, Worker, file_in_memory};
use super::logging::Logging;
use super::orders::{ENDED_BY_SIGNAL, Orders};
use super::run::{Given, announce};
use super::suspects::Suspects;
use crate::builder::{bind, temporary_data};

/// After the second death in a row of workers that did not live for [`SETTLED`]; doubled with each one more.
const PAUSE_FIRST: Duration = Duration::from_millis(50);

/// The longest pause after a worker that died: with the time to start, its successor is there within a second.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// The longest pause after one that could not start and has said why. What it lacks, such as a file, may come back at any time, and
/// each attempt says the same again.
const PAUSE_REFUSED_MAX: Duration = Duration::from_secs(5);

/// A worker that has served for so long does not die of its start.
const SETTLED: Duration = Duration::from_secs(1);

/// Deaths of workers before the first one serves: whoever started this shall know that it does not.
const FIRST_DEATHS_MAX: u32 = 5;

/// Workers that die while they read the files, until the next one is not told to: what they say may be what kills them.
const LOST_RELOADS_MAX: u32 = 2;

/// After the grace, a worker that drains has ended, or it cannot.
const LATE: Duration = Duration::from_secs(2);

/// Modules that are named in one line of the log.
const NAMED_MAX: usize = 16;

/// How soon a successor is started.
#[derive(Debug, Default)]
struct Pace {
    short_lives: u32,
}

impl Pace {
    /// How long to wait after a death; `served` is for how long the worker did. One that did not may have `refused` to.
    fn pause(&mut self, served: Option<Duration>, refused: bool) -> Duration {
        if served.is_some_and(|served| served >= SETTLED) {
            self.short_lives = 0;
            return Duration::ZERO;
        }
        self.short_lives += 1;
        // One death may have any cause.
        let doublings = match self.short_lives {
            1 => return Duration::ZERO,
            more => (more - 2).min(16),
        };
        let max = if refused { PAUSE_REFUSED_MAX } else { PAUSE_MAX };
        (PAUSE_FIRST * (1 << doublings)).min(max)
    }
}

/// All that outlives workers.
pub(super) struct Supervision {
    /// None once nobody new is let in.
    listener: Option<TcpListener>,
    address: SocketAddr,
    scheme: &'static str,
    args: Vec<OsString>,
    data: PathBuf,
    /// What is published and compiled is to outlive a worker, also where no directory is named for it.
    _temporary: Option<TempDir>,
    orders: Orders,
    /// Something happened to a child.
    children: Signal,
    suspects: Suspects,
    pace: Pace,
    restarts: u64,
    first_deaths: u32,
    has_served: bool,
    /// What is in service, as workers leave it to each other.
    kept: File,
    /// How long calls may go on when it ends.
    grace: Duration,
    /// Asked for, and no worker was told.
    owes_reload: bool,
    /// Workers in a row that died while they read the files.
    lost_reloads: u32,
}

/// What is known of a worker.
#[derive(Default)]
struct Attended {
    served_since: Option<Instant>,
    /// It was told to read the files, and has not said what came of it.
    is_reloading: bool,
}

/// How it ended for a worker.
enum End {
    /// As was asked, or in a way that no successor would mend.
    Verdict(ExitCode),
    Died(Death),
}

struct Death {
    pid: u32,
    how: String,
    in_flight: Vec<ModuleName>,
    quarantined: Vec<ModuleName>,
    pause: Duration,
}

impl Supervision {
    /// Binds what workers serve on.
    pub(super) fn begin(given: Given<'_>) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::new(Kind::Internal, "cannot supervise").caused_by(error);
        let orders = Orders::to_stop()?.and_to_reload()?;
        let children = signal(SignalKind::child()).map_err(failed)?;
        let (config, _) = given.config()?;
        let listener = bind(&config)?;
        let address = listener.local_addr().map_err(failed)?;
        // In front of the command, where neither a name of a file nor an argument of a guest can be meant.
        let mut args = vec![OsString::from("--worker")];
        args.extend(std::env::args_os().skip(1));
        let temporary = config.server.data.is_none().then(temporary_data).transpose()?;
        let data = temporary.as_ref().map(|temporary| temporary.path().to_owned()).or(config.server.data);
        Ok(Self {
            listener: Some(listener),
            address,
            scheme: if config.server.tls.is_some() { "https" } else { "http" },
            args,
            data: data.unwrap_or_default(),
            _temporary: temporary,
            orders,
            children,
            suspects: Suspects::default(),
            pace: Pace::default(),
            restarts: 0,
            first_deaths: 0,
            has_served: false,
            kept: file_in_memory("fornax-in-service").map_err(failed)?,
            grace: config.server.grace,
            owes_reload: false,
            lost_reloads: 0,
        })
    }

    /// Has workers serve until one ended as it was asked to.
    pub(super) async fn run(mut self, logging: &Logging) -> Result<ExitCode, Error> {
        let mut death = None;
        loop {
            let reads_files = std::mem::take(&mut self.owes_reload);
            let worker = match self.start(reads_files) {
                Ok(worker) => worker,
                Err(error) if self.has_served => {
                    self.owes_reload |= reads_files;
                    tracing::error!("{error}: {}", error.detail());
                    let pause = self.pace.pause(None, true).max(PAUSE_FIRST);
                    match self.wait(pause).await {
                        Some(code) => return Ok(code),
                        None => continue,
                    }
                }
                Err(error) => return Err(error),
            };
            if let Some(death) = death.take() {
                log(&death, &worker);
            }
            match self.attend(worker, reads_files, logging).await? {
                End::Verdict(code) => return Ok(code),
                End::Died(died) => {
                    if let Some(code) = self.wait(died.pause).await {
                        return Ok(code);
                    }
                    death = Some(died);
                }
            }
        }
    }

    fn start(&mut self, reads_files: bool) -> Result<Worker, Error> {
        let failed = || Error::new(Kind::Internal, "the worker cannot be started");
        let listener = self.listener.as_ref().ok_or_else(failed)?;
        let past = self.suspects.past(self.restarts, Instant::now());
        Worker::start(&self.args, listener, (&self.data, &self.kept, self.grace), reads_files, &past)
            .map_err(|error| failed().caused_by(error))
    }

    /// Stands by a worker until it has ended.
    async fn attend(&mut self, mut worker: Worker, reads_files: bool, logging: &Logging) -> Result<End, Error> {
        let failed = |error: std::io::Error| Error::new(Kind::Internal, "cannot wait for the worker").caused_by(error);
        let mut attended = Attended { served_since: None, is_reloading: reads_files };
        let mut is_listening_to_it = true;
        let mut over_at = None;
        loop {
            if let Some(status) = worker.ended().map_err(failed)? {
                // What it said before that still counts.
                for said in worker.has_said() {
                    self.heard(said, &worker, &mut attended, logging);
                }
                return self.ended(&worker, status, &attended);
            }
            if self.owes_reload && attended.served_since.is_some() && !attended.is_reloading {
                (self.owes_reload, attended.is_reloading) = (false, true);
                worker.reload();
            }
            tokio::select! {
                _ = self.children.recv() => {}
                said = worker.says(), if is_listening_to_it => match said {
                    Said::Nothing => is_listening_to_it = false,
                    said => self.heard(said, &worker, &mut attended, logging),
                },
                () = self.orders.reload() => self.reload(),
                code = self.orders.stop() => {
                    if !self.has_served || self.listener.take().is_none() {
                        return Ok(End::Verdict(ExitCode::from(code)));
                    }
                    worker.drain();
                    over_at = Some(tokio::time::Instant::now() + self.grace + LATE);
                }
                () = until(over_at) => {
                    tracing::error!("the worker {} does not end by itself: it is killed", worker.pid());
                    worker.kill();
                    over_at = None;
                }
            }
        }
    }

    fn reload(&mut self) {
        (self.owes_reload, self.lost_reloads) = (true, 0);
    }

    fn heard(&mut self, said: Said, worker: &Worker, attended: &mut Attended, logging: &Logging) {
        match said {
            Said::Started => {
                attended.served_since = Some(Instant::now());
                if !std::mem::replace(&mut self.has_served, true) {
                    announce(self.scheme, self.address);
                    logging.release();
                }
                worker.go();
            }
            Said::Reloaded | Said::Refused => {
                (attended.is_reloading, self.lost_reloads) = (false, 0);
                if said == Said::Reloaded {
                    self.suspects.forgive();
                }
            }
            Said::Nothing => {}
        }
    }

    fn ended(&mut self, worker: &Worker, status: ExitStatus, attended: &Attended) -> Result<End, Error> {
        let how = words(status);
        let served = attended.served_since.map(|since| since.elapsed());
        if self.listener.is_none() {
            if !status.success() {
                tracing::error!("the worker {} {how} before it had ended in order", worker.pid());
            }
            return Ok(End::Verdict(exit_code(status)));
        }
        if !self.has_served {
            if status.code().is_some() {
                return Ok(End::Verdict(exit_code(status)));
            }
            self.first_deaths += 1;
            if self.first_deaths >= FIRST_DEATHS_MAX {
                let text = format!("{FIRST_DEATHS_MAX} workers ended before they could serve; the last one {how}");
                return Err(Error::new(Kind::Internal, text));
            }
        }
        self.restarts += 1;
        if attended.is_reloading {
            self.lost_reloads += 1;
            if self.lost_reloads < LOST_RELOADS_MAX {
                self.owes_reload = true;
            } else {
                tracing::error!("not reloaded: {LOST_RELOADS_MAX} workers did not survive it; what was in service stays");
            }
        }
        let in_flight = journal::in_flight(&worker.journal).unwrap_or_else(|error| {
            tracing::error!(%error, "which modules had calls in flight cannot be read");
            Vec::new()
        });
        let quarantined = self.suspects.died(&in_flight, Instant::now());
        let pause = self.pace.pause(served, served.is_none() && status.code().is_some());
        Ok(End::Died(Death { pid: worker.pid(), how, in_flight, quarantined, pause }))
    }

    /// Waits before the next worker is started. Returns an exit code where there shall be none.
    async fn wait(&mut self, pause: Duration) -> Option<ExitCode> {
        tokio::select! {
            biased;
            code = self.orders.stop() => Some(if self.has_served { ExitCode::SUCCESS } else { ExitCode::from(code) }),
            // What was wrong may be right now.
            () = self.orders.reload() => {
                self.reload();
                None
            }
            () = tokio::time::sleep(pause) => None,
        }
    }
}

/// Returns then; never where nothing is said.
async fn until(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// The one line about a worker that was replaced, and one about each module that is not called any more.
fn log(death: &Death, successor: &Worker) {
    let Death { pid, how, in_flight, quarantined, .. } = death;
    let in_flight = named(in_flight);
    tracing::error!("the worker {pid} {how}, with {in_flight} in flight; {} takes its place", successor.pid());
    for module in quarantined {
        let module = named(std::slice::from_ref(module));
        tracing::error!(
            "{module} is quarantined: three workers or more did not survive its calls within a minute. A reload has it called again"
        );
    }
}

/// Names of modules, each with its tenant.
fn named(modules: &[ModuleName]) -> String {
    let mut text = String::new();
    for (at, (tenant, module)) in modules.iter().take(NAMED_MAX).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        // Writing to a String does not fail.
        let _ = write!(text, "{comma}{tenant}/{module}");
    }
    match modules.len() {
        0 => "no module".to_owned(),
        many if many > NAMED_MAX => format!("{text} and {} more", many - NAMED_MAX),
        _ => text,
    }
}

/// How a process ended.
fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(signal_name)) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The usual name of a signal that ends processes, or its number.
fn signal_name(number: i32) -> String {
    use rustix::process::Signal;
    let known = [
        (Signal::ABORT, "SIGABRT"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::BUS, "SIGBUS"),
        (Signal::ILL, "SIGILL"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::SYS, "SIGSYS"),
        (Signal::XCPU, "SIGXCPU"),
    ];
    let name = known.iter().find(|(signal, _)| signal.as_raw() == number).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| format!("signal {number}"))
}

/// What a shell would report.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    let signal = status.signal().and_then(|signal| u8::try_from(signal).ok());
    ExitCode::from(code.or_else(|| Some(ENDED_BY_SIGNAL + signal?)).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, time};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        let doubled = |most| format!("{}, doubled up to {}", time(PAUSE_FIRST), time(most));
        let pause = "pause after a worker that served for less or died as it started, from the second in a row on";
        assert_documented(pause, doubled(PAUSE_MAX));
        assert_documented("the same where it said why it cannot start", doubled(PAUSE_REFUSED_MAX));
        assert_documented("until a worker that was told to end has ended", format!("`grace`, and {}", time(LATE)));
        assert_documented("workers that die before the first one serves", FIRST_DEATHS_MAX);
        assert_documented("workers that die in a row while they read the files for a reload", LOST_RELOADS_MAX);
    }

    #[test]
    fn a_first_death_is_mended_at_once_and_many_in_a_row_slowly() {
        let mut pace = Pace::default();
        let long = Some(Duration::from_secs(60));
        let short = Some(Duration::from_millis(10));
        assert_eq!([long, long, short].map(|served| pace.pause(served, false)), [Duration::ZERO; 3]);
        let pauses: Vec<_> = [short, None, short, None, None].map(|served| pace.pause(served, false).as_millis()).into();
        assert_eq!(pauses, [50, 100, 200, 400, 400]);
        assert_eq!([pace.pause(None, true), pace.pause(None, true)].map(|pause| pause.as_millis()), [1600, 3200]);
        assert_eq!((0..100).map(|_| pace.pause(None, true)).max(), Some(PAUSE_REFUSED_MAX));
        assert_eq!((pace.pause(long, false), pace.pause(None, true)), (Duration::ZERO, Duration::ZERO), "what lived begins anew");
    }

    #[test]
    fn ends_have_words() {
        for (raw, expected) in [
            (0, "ended with exit code 0"),
            (101 << 8, "ended with exit code 101"),
            (9, "was ended by SIGKILL"),
            (134 & 0x7f, "was ended by SIGABRT"),
            (40, "was ended by signal 40"),
        ] {
            assert_eq!(words(ExitStatus::from_raw(raw)), expected);
        }
    }
}
