//! Which modules have calls in flight, kept where it outlives this process: whoever starts the next one reads it.
//!
//! Goals in tension: when a process dies nobody is left to ask, so it must be known before a guest runs for the first time who is
//! about to; and a call that costs microseconds must not pay a system call for that. So a module is written down when it gets its
//! first call, and crossed out by a look every [`SWEEP_EVERY`] at those without one: a busy module stays written, and its calls pay
//! a few atomics. After a death that is not exact enough. Of modules that were in flight at one, the suspects, beginnings and ends are
//! written as they happen; and those that were in flight at two run one at a time, so that the next
//! death has one name: calls of the one whose turn it is run beside each other. Who becomes what is decided by who reads ([`Past`]), not here.
//!
//! The two sides of a race: a call counts itself and then looks whether its module is written; the sweep takes the mark away and
//! then looks whether a call has counted itself. One of them sees the other.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::{Error, Kind};

/// Between two looks for modules without a call: 40 writes a second for a module that comes and goes, half a microsecond each.
const SWEEP_EVERY: Duration = Duration::from_millis(50);

/// Of each module: a mark, two lengths, and its names, which are 64 letters or those of a file.
const ENTRY_BYTES: usize = 512;

/// Names that are kept whoever uses them: 32 KiB.
const NAMES_MIN: usize = 64;

/// The mark and the lengths.
const HEAD_BYTES: usize = 5;

/// The file says that it has calls in flight.
const WRITTEN: u8 = 1;
/// It is among those the sweep looks at.
const LISTED: u8 = 2;
/// Beginnings and ends are written as they happen.
const EXACT: u8 = 4;
/// Its calls run beside none of another such module.
const ALONE: u8 = 8;
/// It is not called.
const QUARANTINED: u8 = 16;

/// How long calls of a module that runs alone may begin while another one waits for its turn: many calls fit, and ten modules are all
/// served within the second for which calls wait, where nothing else is said.
const TURN: Duration = Duration::from_millis(100);

/// Calls of one module that wait for its turn.
const WAITING_MAX: usize = 16;

/// A module by tenant and name.
pub type ModuleName = (Arc<str>, Arc<str>);

/// What is to be known of the processes before this one.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// How often this one was replaced.
    pub restarts: u64,
    /// Modules that are not as the others.
    pub modules: BTreeMap<ModuleName, Suspicion>,
}

/// How a module is treated after what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// It was in flight when a process died.
    Suspect {
        /// At several deaths.
        alone: bool,
        /// How long it stays one.
        left: Duration,
    },
    /// It is not called until a reload.
    Quarantined,
}

/// The journal of a process.
pub struct Journal {
    shared: Arc<Shared>,
    restarts: u64,
    known: Mutex<Known>,
}

/// Names come from the configuration, and with each reload there may be others.
struct Known {
    modules: BTreeMap<ModuleName, Arc<Watched>>,
    /// Where entries were of names that nobody uses any more, and where there are none yet.
    free: Vec<u64>,
    end: u64,
    /// With so many names it is looked for such.
    look_at: usize,
    past: BTreeMap<ModuleName, (Suspicion, Instant)>,
}

struct Shared {
    file: File,
    /// The modules that are written as in flight; held by whoever writes.
    listed: Mutex<Vec<Arc<Watched>>>,
    /// There is something to sweep.
    woken: Notify,
    /// Of those that run alone.
    place: Place,
}

/// What one module has at a time, for any number of its calls.
#[derive(Default)]
struct Place {
    turns: Mutex<Turns>,
    /// Nobody has it.
    freed: Notify,
}

/// Modules by where they are in the file.
#[derive(Default)]
struct Turns {
    /// Who has the place, since when, and for how many calls.
    taken: Option<(u64, Instant, usize)>,
    /// Who waits, in order, and how many calls of each.
    waiting: VecDeque<(u64, usize)>,
}

/// A call that has the place.
struct Held {
    shared: Arc<Shared>,
}

/// A call that waits for it.
struct Waiting<'a> {
    place: &'a Place,
    module: u64,
}

/// A module in the journal, the same for all of its versions.
pub struct Watched {
    shared: Arc<Shared>,
    at: u64,
    in_flight: AtomicU32,
    marks: AtomicU8,
    suspect_until: Instant,
}

/// A call that the journal knows of, until it is dropped, which is when its guest has ended.
#[derive(Debug)]
pub struct InFlight {
    watched: Arc<Watched>,
    /// Given back after the journal says that the call is over.
    _place: Option<Held>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is done under the locks of this file does not panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The modules that have calls in flight by the journal in `file`.
///
/// # Errors
///
/// If it cannot be read.
pub fn in_flight(file: &File) -> io::Result<Vec<ModuleName>> {
    let mut modules = Vec::new();
    let mut entry = [0; ENTRY_BYTES];
    for at in 0.. {
        match file.read_exact_at(&mut entry, at * ENTRY_BYTES as u64) {
            Ok(()) => modules.extend(decode(&entry).filter(|_| entry[0] != 0)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(modules)
}

fn encode(tenant: &str, module: &str) -> Option<[u8; ENTRY_BYTES]> {
    let mut entry = [0; ENTRY_BYTES];
    entry[1..3].copy_from_slice(&u16::try_from(tenant.len()).ok()?.to_le_bytes());
    entry[3..HEAD_BYTES].copy_from_slice(&u16::try_from(module.len()).ok()?.to_le_bytes());
    let names = entry.get_mut(HEAD_BYTES..HEAD_BYTES + tenant.len() + module.len())?;
    let (of_tenant, of_module) = names.split_at_mut(tenant.len());
    of_tenant.copy_from_slice(tenant.as_bytes());
    of_module.copy_from_slice(module.as_bytes());
    Some(entry)
}

fn decode(entry: &[u8; ENTRY_BYTES]) -> Option<ModuleName> {
    let length = |at: usize| usize::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
    let (tenant, module) = entry.get(HEAD_BYTES..HEAD_BYTES + length(1) + length(3))?.split_at(length(1));
    Some((str::from_utf8(tenant).ok()?.into(), str::from_utf8(module).ok()?.into()))
}

impl Journal {
    /// A journal in `file`, which is empty.
    pub fn new(file: File, past: &Past) -> Arc<Self> {
        let now = Instant::now();
        let until = |suspicion: &Suspicion| match suspicion {
            Suspicion::Suspect { left, .. } => now + *left,
            Suspicion::Quarantined => now,
        };
        let past_modules = past.modules.iter().map(|(name, suspicion)| (name.clone(), (*suspicion, until(suspicion)))).collect();
        let shared = Shared { file, listed: Mutex::default(), woken: Notify::new(), place: Place::default() };
        Arc::new(Self {
            shared: Arc::new(shared),
            restarts: past.restarts,
            known: Mutex::new(Known {
                modules: BTreeMap::new(),
                free: Vec::new(),
                end: 0,
                look_at: NAMES_MIN,
                past: past_modules,
            }),
        })
    }

    /// How often this process was replaced.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Modules that are not called.
    pub fn quarantined(&self) -> usize {
        let known = lock(&self.known);
        known.past.values().filter(|(suspicion, _)| *suspicion == Suspicion::Quarantined).count()
    }

    /// Nobody is suspected any more, and everybody is called again.
    pub fn forgive(&self) {
        let mut known = lock(&self.known);
        known.past.clear();
        for watched in known.modules.values() {
            watched.marks.fetch_and(!(EXACT | ALONE | QUARANTINED), SeqCst);
        }
    }

    /// The entry of a module.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn module(&self, tenant: &str, module: &str) -> Result<Arc<Watched>, Error> {
        let mut known = lock(&self.known);
        let name: ModuleName = (tenant.into(), module.into());
        if let Some(watched) = known.modules.get(&name) {
            return Ok(Arc::clone(watched));
        }
        let failed = || Error::new(Kind::Internal, format!("the module `{module}` cannot be watched"));
        let entry = encode(tenant, module).ok_or_else(|| failed().internal("its name is too long"))?;
        let at = known.place();
        self.shared.file.write_all_at(&entry, at).map_err(|error| failed().caused_by(error))?;
        let past = known.past.get(&name).copied();
        let marks = match past {
            None => 0,
            Some((Suspicion::Suspect { alone: false, .. }, _)) => EXACT,
            Some((Suspicion::Suspect { alone: true, .. }, _)) => EXACT | ALONE,
            Some((Suspicion::Quarantined, _)) => QUARANTINED,
        };
        let watched = Arc::new(Watched {
            shared: Arc::clone(&self.shared),
            at,
            in_flight: AtomicU32::new(0),
            marks: AtomicU8::new(marks),
            suspect_until: past.map_or_else(Instant::now, |(_, until)| until),
        });
        known.modules.insert(name, Arc::clone(&watched));
        Ok(watched)
    }

    /// Crosses out modules without a call, as long as it is polled.
    pub async fn sweep(&self) {
        loop {
            self.shared.woken.notified().await;
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                if !self.shared.sweep() {
                    break;
                }
            }
        }
    }
}

impl Known {
    /// Where there is room for an entry.
    fn place(&mut self) -> u64 {
        if self.modules.len() >= self.look_at {
            let Self { modules, free, .. } = self;
            modules.retain(|_, watched| {
                // Who serves it, and who has a call of it or looks whether it has one, has it too.
                let is_used = Arc::strong_count(watched) > 1;
                if !is_used {
                    free.push(watched.at);
                }
                is_used
            });
            self.look_at = NAMES_MIN.max(2 * self.modules.len());
        }
        self.free.pop().unwrap_or_else(|| {
            self.end += ENTRY_BYTES as u64;
            self.end - ENTRY_BYTES as u64
        })
    }
}

impl Shared {
    /// Returns whether there is more to look at.
    fn sweep(&self) -> bool {
        let mut listed = lock(&self.listed);
        listed.retain(|watched| {
            watched.settle();
            let stays = watched.has(WRITTEN);
            if !stays {
                watched.marks.fetch_and(!LISTED, SeqCst);
            }
            stays
        });
        !listed.is_empty()
    }
}

impl Watched {
    fn has(&self, marks: u8) -> bool {
        self.marks.load(SeqCst) & marks != 0
    }

    /// The module's guest runs for no call. Of that nobody can be asked first.
    pub fn run(self: &Arc<Self>) -> InFlight {
        self.begin(None)
    }

    /// A call of the module, if there is nothing to be asked first.
    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<InFlight> {
        (!self.has(EXACT | ALONE | QUARANTINED)).then(|| self.begin(None))
    }

    /// A call of a module that is not as the others.
    ///
    /// # Errors
    ///
    /// [`Kind::Quarantined`]; [`Kind::Overloaded`] where it runs alone, and its turn takes longer than `patience`, or too many wait for it.
    pub(crate) async fn enter(self: &Arc<Self>, patience: Duration) -> Result<InFlight, Error> {
        if self.has(QUARANTINED) {
            let text = "the module is out of service: several times the server did not survive its calls";
            return Err(Error::new(Kind::Quarantined, text));
        }
        if self.has(EXACT) && Instant::now() >= self.suspect_until {
            self.marks.fetch_and(!(EXACT | ALONE), SeqCst);
        }
        if !self.has(ALONE) {
            return Ok(self.begin(None));
        }
        let turn = tokio::time::timeout(patience, self.shared.place.take(self.at));
        if turn.await.unwrap_or(false) {
            return Ok(self.begin(Some(Held { shared: Arc::clone(&self.shared) })));
        }
        let text = "this module takes turns with others for a minute, since the server did not survive one of them: try again";
        Err(Error::new(Kind::Overloaded, text).retry_after(1))
    }

    fn begin(self: &Arc<Self>, place: Option<Held>) -> InFlight {
        self.in_flight.fetch_add(1, SeqCst);
        let call = InFlight { watched: Arc::clone(self), _place: place };
        if !self.has(WRITTEN) {
            self.write();
        }
        call
    }

    /// Makes the file say what is so.
    fn write(self: &Arc<Self>) {
        let mut listed = lock(&self.shared.listed);
        self.settle();
        if self.has(WRITTEN) && !self.has(LISTED) {
            self.marks.fetch_or(LISTED, SeqCst);
            if listed.is_empty() {
                self.shared.woken.notify_one();
            }
            listed.push(Arc::clone(self));
        }
    }

    /// The same for who holds the lock.
    fn settle(&self) {
        if self.in_flight.load(SeqCst) > 0 {
            if !self.has(WRITTEN) {
                self.mark(1);
                self.marks.fetch_or(WRITTEN, SeqCst);
            }
        } else if self.has(WRITTEN) {
            self.marks.fetch_and(!WRITTEN, SeqCst);
            // Who counted itself before that may have seen the mark.
            if self.in_flight.load(SeqCst) > 0 {
                self.marks.fetch_or(WRITTEN, SeqCst);
            } else {
                self.mark(0);
            }
        }
    }

    fn mark(&self, mark: u8) {
        if let Err(error) = self.shared.file.write_all_at(&[mark], self.at) {
            // The byte is there and in memory. Whatever this is, a call shall not fail of it.
            tracing::error!(%error, "the journal of calls cannot be written");
        }
    }
}

impl Place {
    /// Returns when the place is a module's for one more call; or that too many wait for that.
    async fn take(&self, module: u64) -> bool {
        if lock(&self.turns).take(module, false) {
            return true;
        }
        if !lock(&self.turns).wait(module) {
            return false;
        }
        let waiting = Waiting { place: self, module };
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From before the look on, or what happens behind it would be missed.
            freed.as_mut().enable();
            if lock(&self.turns).take(module, true) {
                // It has left by itself.
                std::mem::forget(waiting);
                return true;
            }
            freed.await;
        }
    }
}

impl Turns {
    fn take(&mut self, module: u64, has_waited: bool) -> bool {
        let is_first = self.waiting.front().is_none_or(|(first, _)| *first == module);
        let others_wait = self.waiting.iter().any(|(other, _)| *other != module);
        let calls = match self.taken {
            None if is_first => 0,
            Some((holder, since, calls)) if holder == module && (!others_wait || since.elapsed() < TURN) => calls,
            _ => return false,
        };
        let since = self.taken.map_or_else(Instant::now, |(_, since, _)| since);
        if has_waited {
            self.leave(module);
        }
        if self.taken.is_none() && is_first && others_wait {
            // Those of its calls that come too late for this turn are behind the others.
            if let Some(rest) = self.waiting.pop_front_if(|(first, _)| *first == module) {
                self.waiting.push_back(rest);
            }
        }
        self.taken = Some((module, since, calls + 1));
        true
    }

    /// Returns whether there is room.
    fn wait(&mut self, module: u64) -> bool {
        match self.waiting.iter_mut().find(|(other, _)| *other == module) {
            Some((_, count)) if *count >= WAITING_MAX => return false,
            Some((_, count)) => *count += 1,
            None => self.waiting.push_back((module, 1)),
        }
        true
    }

    fn leave(&mut self, module: u64) {
        if let Some((_, count)) = self.waiting.iter_mut().find(|(other, _)| *other == module) {
            *count -= 1;
        }
        self.waiting.retain(|(_, count)| *count > 0);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut turns = lock(&self.place.turns);
        turns.leave(self.module);
        if turns.taken.is_none() {
            // It may have been this one that others waited behind.
            self.place.freed.notify_waiters();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut turns = lock(&self.shared.place.turns);
        turns.taken = turns.taken.and_then(|(module, since, calls)| (calls > 1).then(|| (module, since, calls - 1)));
        if turns.taken.is_none() {
            self.shared.place.freed.notify_waiters();
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let before = self.watched.in_flight.fetch_sub(1, SeqCst);
        if before == 1 && self.watched.has(EXACT) {
            self.watched.write();
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    fn journal(modules: &[(&str, Suspicion)]) -> (File, Arc<Journal>) {
        let file = tempfile::tempfile().expect("a file");
        let name = |name: &str| ("acme".into(), name.into());
        let modules = modules.iter().map(|(module, suspicion)| (name(module), *suspicion)).collect();
        let journal = Journal::new(file.try_clone().expect("a descriptor"), &Past { restarts: 3, modules });
        (file, journal)
    }

    fn read(file: &File) -> Vec<String> {
        in_flight(file).expect("it can be read").into_iter().map(|(tenant, module)| format!("{tenant}/{module}")).collect()
    }

    fn suspect(alone: bool, left_s: u64) -> Suspicion {
        Suspicion::Suspect { alone, left: Duration::from_secs(left_s) }
    }

    const PATIENCE: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_call_is_written_before_it_runs_and_crossed_out_later() {
        let (file, journal) = journal(&[]);
        let (a, b) = (journal.module("acme", "a").expect("an entry"), journal.module("acme", "b").expect("an entry"));
        assert!(Arc::ptr_eq(&a, &journal.module("acme", "a").expect("the same")));
        assert_eq!(read(&file), Vec::<String>::new());
        let calls = [a.try_enter().expect("nobody is suspected"), b.try_enter().expect("nobody is suspected")];
        assert_eq!(read(&file), ["acme/a", "acme/b"]);
        let [first, second] = calls;
        drop(first);
        assert_eq!(read(&file), ["acme/a", "acme/b"], "not at once");
        let swept = Arc::clone(&journal);
        let sweep = tokio::spawn(async move { swept.sweep().await });
        while read(&file) != ["acme/b"] {
            tokio::task::yield_now().await;
        }
        drop(second);
        while !read(&file).is_empty() {
            tokio::task::yield_now().await;
        }
        let _again = a.try_enter();
        assert_eq!(read(&file), ["acme/a"]);
        sweep.abort();
    }

    #[tokio::test]
    async fn of_a_suspect_the_end_is_written_too() {
        let (file, journal) = journal(&[("a", suspect(false, 60)), ("b", suspect(false, 0))]);
        let (a, b) = (journal.module("acme", "a").expect("an entry"), journal.module("acme", "b").expect("an entry"));
        assert!(a.try_enter().is_none());
        let calls = [a.enter(PATIENCE).await.expect("a call"), a.enter(PATIENCE).await.expect("another beside it")];
        assert_eq!(read(&file), ["acme/a"]);
        let [first, second] = calls;
        drop(first);
        assert_eq!(read(&file), ["acme/a"]);
        drop(second);
        assert_eq!(read(&file), Vec::<String>::new());
        // It is none any more.
        drop(b.enter(PATIENCE).await.expect("a call"));
        assert_eq!(read(&file), ["acme/b"]);
        assert!(b.try_enter().is_some());
    }

    #[tokio::test]
    async fn those_that_run_alone_have_one_place_together() {
        let (file, journal) = journal(&[("a", suspect(true, 60)), ("b", suspect(true, 60)), ("c", suspect(false, 60))]);
        let [a, b, c] = ["a", "b", "c"].map(|name| journal.module("acme", name).expect("an entry"));
        let first = a.enter(PATIENCE).await.expect("the place is free");
        let refused = b.enter(PATIENCE).await.expect_err("it is taken");
        assert_eq!((refused.kind, refused.retry_after_s), (Kind::Overloaded, Some(1)));
        let beside = a.enter(PATIENCE).await.expect("it is its own");
        let _other = c.enter(PATIENCE).await.expect("another sort");
        assert_eq!(read(&file), ["acme/a", "acme/c"], "who waits is not in flight");
        drop(first);
        assert_eq!(b.enter(PATIENCE).await.expect_err("it is still taken").kind, Kind::Overloaded);
        drop(beside);
        let _second = b.enter(PATIENCE).await.expect("the place is free again");
        assert_eq!(read(&file), ["acme/b", "acme/c"]);
    }

    #[tokio::test]
    async fn those_that_run_alone_take_turns() {
        const LONG: Duration = Duration::from_secs(60);
        let (_, journal) = journal(&[("a", suspect(true, 60)), ("b", suspect(true, 60))]);
        let [a, b] = ["a", "b"].map(|name| journal.module("acme", name).expect("an entry"));
        let turns = || lock(&journal.shared.place.turns);
        let waiting = |at: u64| turns().waiting.iter().find(|(module, _)| *module == at).map_or(0, |(_, count)| *count);
        let first = a.enter(PATIENCE).await.expect("the place is free");
        let enter = |module: &Arc<Watched>| {
            let module = Arc::clone(module);
            tokio::spawn(async move { module.enter(LONG).await })
        };
        let of_b: Vec<_> = (0..WAITING_MAX).map(|_| enter(&b)).collect();
        while waiting(b.at) < WAITING_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(b.enter(LONG).await.expect_err("too many").kind, Kind::Overloaded);
        let beside = a.enter(PATIENCE).await.expect("its turn is not over");
        if let Some((_, since, _)) = &mut turns().taken {
            *since -= TURN;
        }
        // Now it waits as the others do, and behind them.
        let late = enter(&a);
        while waiting(a.at) == 0 {
            tokio::task::yield_now().await;
        }
        drop((first, beside));
        let mut calls = Vec::new();
        for call in of_b {
            calls.push(call.await.expect("no panic").expect("all of them have their turn"));
        }
        assert_eq!((waiting(a.at), waiting(b.at)), (1, 0));
        drop(calls);
        let _late = late.await.expect("no panic").expect("and then this one");
        // Who goes while it waits holds up nobody.
        let gone = enter(&b);
        while waiting(b.at) == 0 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        assert!(gone.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(turns().waiting.len(), 0);
    }

    #[tokio::test]
    async fn who_is_quarantined_is_called_again_when_forgiven() {
        let (file, journal) = journal(&[("a", Suspicion::Quarantined)]);
        let a = journal.module("acme", "a").expect("an entry");
        assert_eq!((journal.restarts(), journal.quarantined()), (3, 1));
        assert_eq!(a.enter(PATIENCE).await.expect_err("not called").kind, Kind::Quarantined);
        assert_eq!(read(&file), Vec::<String>::new());
        journal.forgive();
        assert_eq!(journal.quarantined(), 0);
        let _call = a.try_enter().expect("as any other");
        assert_eq!(read(&file), ["acme/a"]);
    }

    #[test]
    fn no_call_runs_unwritten_while_others_end_and_are_swept() {
        for past in [&[][..], &[("a", suspect(false, 60))]] {
            let (file, journal) = journal(past);
            let a = journal.module("acme", "a").expect("an entry");
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                let calls = || {
                    for round in 0..10_000 {
                        let _call = a.run();
                        assert_eq!(read(&file), ["acme/a"], "{round}");
                    }
                };
                let callers = [scope.spawn(calls), scope.spawn(calls)];
                scope.spawn(|| {
                    while !over.load(SeqCst) {
                        journal.shared.sweep();
                    }
                });
                let ended = callers.map(thread::ScopedJoinHandle::join);
                over.store(true, SeqCst);
                ended.into_iter().for_each(|ended| ended.expect("it was written"));
            });
            journal.shared.sweep();
            assert_eq!(read(&file), Vec::<String>::new());
        }
    }

    #[test]
    fn names_that_nobody_uses_make_room() {
        let (file, journal) = journal(&[("bad", Suspicion::Quarantined)]);
        let module = |name: &str| journal.module("acme", name).expect("an entry");
        let (used, called) = (module("used"), module("called").run());
        drop(module("bad"));
        (0..10 * NAMES_MIN).for_each(|number| drop(module(&number.to_string())));
        let entries = file.metadata().expect("a file").len() / ENTRY_BYTES as u64;
        assert!(entries <= NAMES_MIN as u64 + 1, "{entries}");
        assert!(Arc::ptr_eq(&used, &module("used")));
        assert_eq!(read(&file), ["acme/called"]);
        let _calls = (used.run(), module("new").run());
        let found: std::collections::BTreeSet<_> = read(&file).into_iter().collect();
        assert_eq!(found, ["acme/called", "acme/new", "acme/used"].map(str::to_owned).into());
        assert!(module("bad").try_enter().is_none(), "it is still known");
        drop(called);
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        let (_, journal) = journal(&[]);
        journal.module(&"t".repeat(64), &"m".repeat(255)).expect("as long as names are");
        assert_eq!(journal.module("t", &"m".repeat(ENTRY_BYTES)).expect_err("too long").kind, Kind::Internal);
    }
}
