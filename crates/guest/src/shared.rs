//! Instances that serve several calls at the same time: guests of WASI 0.3, where a module asks for it.
//!
//! One store serves many connections, so none of them can own it: a task of the instance's own, on the thread where it was made,
//! drives it, and the calls of that thread are handed to it. What wasmtime offers decides the rest. Nothing in an instance can be ended
//! alone, so a deadline, a trap or too long a computation of one call ends the instance: the call at fault gets its error, the others
//! that it carried [`Kind::InstanceLost`]. A guest that computes, or that waits in a host function that is not concurrent, holds the
//! store: so an instance that was moved to a runner takes no more calls, and those it could not begin go to another.
//!
//! There is no telling which of its calls an instance computes for. It may compute for one call's limit between two events: a call
//! begins with nobody there, answers, or is over.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Instant;

use base::{Body, Error, Kind};
use futures_util::stream::{FuturesUnordered, Stream};
use http::Request;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Sleep;
use wasmtime::Store;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};

use crate::entry::http::{Answer, request_03};
use crate::execution::{Guest, Kept};
use crate::failure;
use crate::reuse::{Lent, Lifetime};
use crate::state::{Active, State};

/// The instances of one module version that serve several calls at once.
pub(crate) struct Instances {
    pre: ServicePre<State>,
    lifetime: Lifetime,
    at_once_max: usize,
    threads: Mutex<Vec<(ThreadId, Vec<Arc<Instance>>)>>,
}

/// One instance as its calls see it.
pub(crate) struct Instance {
    /// Its own account: it is nobody's call.
    active: Arc<Active>,
    born: Instant,
    home: Weak<Instances>,
    inner: Mutex<Inner>,
    /// Its task has been woken and has not run since.
    is_awake: AtomicBool,
    _rest: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Inner {
    /// Calls that have not begun.
    queue: VecDeque<Job>,
    /// Calls that are not over, those in the queue among them.
    seats: Vec<Arc<Taken>>,
    served: u32,
    /// It takes no more calls, and ends when the last is over.
    closed: bool,
    /// Nobody drives it any more.
    has_ended: bool,
    /// Its store, from when it has started to when it serves: what takes long to start ends that on a runner.
    started: Option<(Store<State>, Service)>,
    /// It has begun a call and not come to rest since: should that one compute for ever, it takes no other with it that has not begun.
    is_beginning: bool,
    /// It could not begin the last call it was given.
    stuck: bool,
    /// The guest works on for nobody.
    works_on: bool,
    rests_since: Option<Instant>,
    /// What waits for calls inside the instance.
    waiting: Option<Waker>,
}

/// A call on its way into an instance.
struct Job {
    seat: Arc<Taken>,
    request: Request<Lent>,
    answer: oneshot::Sender<Answer>,
    /// From another instance, which could not begin it.
    was_moved: bool,
}

/// A call in an instance, shared by the instance and whoever waits for the answer.
struct Taken {
    active: Arc<Active>,
    body: Lent,
    progress: Mutex<Progress>,
}

struct Progress {
    instance: Arc<Instance>,
    /// The guest is done with it.
    returned: bool,
    /// Nobody waits for it or takes its body any more.
    left: bool,
    /// Why the instance ended before the call was over.
    failure: Option<Error>,
    waiting: Option<Waker>,
}

/// The place of a call in an instance. Dropping it leaves the call to the instance.
pub(crate) struct Seat(Arc<Taken>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is done under the locks of this file does not panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Instances {
    pub(crate) fn new(pre: ServicePre<State>, lifetime: Lifetime, at_once_max: u32) -> Arc<Self> {
        Arc::new(Self { pre, lifetime, at_once_max: at_once_max as usize, threads: Mutex::default() })
    }

    /// An instance of this thread that has room, a new one if none has. None where none may be added.
    pub(crate) fn find(self: &Arc<Self>, active: &Arc<Active>) -> Option<Arc<Instance>> {
        let this = thread::current().id();
        let mut threads = lock(&self.threads);
        let at = threads.iter().position(|(thread, _)| *thread == this).unwrap_or_else(|| {
            threads.push((this, Vec::new()));
            threads.len() - 1
        });
        let instances = &mut threads[at].1;
        if let Some(instance) = instances.iter().find(|instance| instance.has_room(active, self)) {
            return Some(Arc::clone(instance));
        }
        let instance = Arc::new(Instance {
            active: Active::of_instance(active),
            born: Instant::now(),
            home: Arc::downgrade(self),
            inner: Mutex::default(),
            is_awake: AtomicBool::new(true),
            _rest: active.rest()?,
        });
        instances.push(Arc::clone(&instance));
        drop(threads);
        let guest = Guest::new(Box::pin(start(self.pre.clone(), Arc::clone(&instance))), Arc::clone(&instance.active));
        tokio::spawn(Driven {
            instance: Arc::clone(&instance),
            guest: Some(guest),
            is_starting: true,
            timer: None,
            wakers: None,
            lifetime: self.lifetime,
        });
        Some(instance)
    }

    /// Hands a call to an instance that was just found.
    pub(crate) fn call(
        instance: &Arc<Instance>,
        active: &Arc<Active>,
        request: Request<Body>,
    ) -> (Seat, oneshot::Receiver<Answer>) {
        let (parts, body) = request.into_parts();
        let body = Lent::new(body);
        let progress = Progress { instance: Arc::clone(instance), returned: false, left: false, failure: None, waiting: None };
        let seat = Arc::new(Taken { active: Arc::clone(active), body: body.clone(), progress: Mutex::new(progress) });
        let (answer, answered) = oneshot::channel();
        instance.give(Job { seat: Arc::clone(&seat), request: Request::from_parts(parts, body), answer, was_moved: false });
        (Seat(seat), answered)
    }

    fn remove(&self, instance: &Arc<Instance>) {
        lock(&self.threads).retain_mut(|(_, instances)| {
            instances.retain(|other| !Arc::ptr_eq(other, instance));
            !instances.is_empty()
        });
    }
}

impl Instance {
    fn has_room(&self, active: &Active, home: &Instances) -> bool {
        let mut inner = lock(&self.inner);
        inner.forget_those_over();
        !inner.closed && !inner.stuck && inner.seats.len() < home.at_once_max && self.active.memory_bytes == active.memory_bytes
    }

    fn give(&self, job: Job) {
        job.seat.active.note_instance(self.born.elapsed());
        // Before the lock: letting go of the last one takes it.
        let calls_max = self.home.upgrade().map_or(0, |home| home.lifetime.calls_max);
        let mut inner = lock(&self.inner);
        if inner.has_ended {
            drop(inner);
            return job.seat.fail(lost());
        }
        if inner.seats.is_empty() {
            self.allow_cpu();
        }
        inner.served += 1;
        inner.closed |= inner.served >= calls_max;
        inner.rests_since = None;
        inner.seats.push(Arc::clone(&job.seat));
        inner.queue.push_back(job);
        inner.wake();
    }

    fn allow_cpu(&self) {
        self.active.meter.allow_cpu(self.active.module.limits.cpu);
    }

    /// The next call, for a guest that can begin one.
    fn next(&self, is_ready: bool, cx: &Context<'_>) -> Option<Job> {
        let mut inner = lock(&self.inner);
        inner.waiting = Some(cx.waker().clone());
        if !is_ready || inner.is_beginning {
            return None;
        }
        inner.stuck = false;
        let job = inner.queue.pop_front();
        inner.is_beginning = job.is_some();
        job
    }

    /// The guest has come to rest. Returns whether it may begin another call.
    fn begins_another(&self) -> bool {
        let mut inner = lock(&self.inner);
        std::mem::replace(&mut inner.is_beginning, false) && !inner.queue.is_empty()
    }

    /// The guest has nothing to do for any call. Returns whether it may end.
    fn rest(&self, works_on: bool) -> bool {
        let mut inner = lock(&self.inner);
        inner.forget_those_over();
        inner.works_on = works_on;
        if inner.seats.is_empty() && inner.rests_since.is_none() {
            inner.rests_since = Some(Instant::now());
        }
        inner.closed && inner.seats.is_empty() && !works_on
    }

    /// When the instance or one of its calls has to be looked at again.
    fn look_at(&self, lifetime: Lifetime) -> Option<Instant> {
        let inner = lock(&self.inner);
        if self.home.strong_count() == 0 && inner.seats.is_empty() {
            return Some(Instant::now());
        }
        let wall = self.active.module.limits.wall;
        let calls = inner.seats.iter().filter_map(|seat| seat.active.meter.wall_at()).min();
        let patience = if inner.works_on { wall.max(lifetime.idle) } else { lifetime.idle };
        let rest = inner.rests_since.map(|since| since + patience);
        calls.into_iter().chain(rest).min()
    }

    /// Takes out calls that cannot begin beside those that are under way, for another instance; this one gets none until it can begin
    /// one.
    fn take_unbegun(&self, is_moved: bool) -> Vec<Job> {
        let mut inner = lock(&self.inner);
        inner.closed |= is_moved;
        inner.stuck |= !inner.queue.is_empty();
        inner.forget_those_over();
        inner.take_movable()
    }

    /// It is over, whether or not its calls are. Those that have not begun go to another, unless what it died of would meet them there.
    fn end(self: &Arc<Self>, mut error: Option<Error>, is_starting: bool) {
        if let Some(home) = self.home.upgrade() {
            home.remove(self);
        }
        let (seats, unbegun) = {
            let mut inner = lock(&self.inner);
            inner.closed = true;
            inner.has_ended = true;
            inner.forget_those_over();
            // It holds the instance in turn.
            inner.waiting = None;
            inner.started = None;
            let unbegun = if is_starting { Vec::new() } else { inner.take_movable() };
            inner.queue.clear();
            (std::mem::take(&mut inner.seats), unbegun)
        };
        // If the guest was at only one of them, it is the one at fault.
        let open = seats.iter().filter(|seat| !seat.has_returned()).count();
        for seat in &seats {
            let is_at_fault = seats.len() == 1 || (open == 1 && !seat.has_returned());
            let failure = seat.overdue().or_else(|| match &error {
                // Each would have died of it alone.
                Some(error) if is_starting => {
                    let mut same = Error::new(error.kind, error.to_string());
                    same.retry_after_s = error.retry_after_s;
                    Some(same)
                }
                _ => error.take_if(|_| is_at_fault),
            });
            seat.fail(failure.unwrap_or_else(lost));
        }
        // Where nobody is told, it is known once.
        if let Some(error) = error {
            failure::report_late(&self.active, &error);
        }
        for job in unbegun {
            if let Some(job) = elsewhere(self, job) {
                job.seat.fail(lost());
            }
        }
    }
}

impl Inner {
    /// Calls that have not begun and have not been moved before: none is handed on for ever.
    fn take_movable(&mut self) -> Vec<Job> {
        let (keep, jobs) = std::mem::take(&mut self.queue).into_iter().partition::<Vec<_>, _>(|job| job.was_moved);
        self.queue = keep.into();
        self.seats.retain(|seat| !jobs.iter().any(|job| Arc::ptr_eq(&job.seat, seat)));
        jobs
    }

    fn forget_those_over(&mut self) {
        self.seats.retain(|seat| !seat.is_over());
    }

    fn wake(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

fn lost() -> Error {
    Error::new(Kind::InstanceLost, "the instance that served this call ended because of another call, try again").retry_after(1)
}

impl Taken {
    fn is_over(&self) -> bool {
        let progress = lock(&self.progress);
        progress.returned && progress.left
    }

    fn has_returned(&self) -> bool {
        lock(&self.progress).returned
    }

    /// The error of a call whose own deadline has passed.
    fn overdue(&self) -> Option<Error> {
        let meter = &self.active.meter;
        meter.must_stop().then(|| meter.stopped()).flatten()
    }

    fn note(&self, change: impl FnOnce(&mut Progress)) {
        let (instance, is_over) = {
            let mut progress = lock(&self.progress);
            change(&mut progress);
            (Arc::clone(&progress.instance), progress.returned && progress.left)
        };
        if is_over {
            // What it holds of the connection must not outlive it.
            self.body.take_back();
            instance.allow_cpu();
            let mut inner = lock(&instance.inner);
            inner.forget_those_over();
            if inner.seats.is_empty() {
                inner.rests_since = Some(Instant::now());
                // One that takes no more calls has waited for this.
                if inner.closed {
                    inner.wake();
                }
            }
        }
    }

    fn fail(&self, error: Error) {
        let waiting = {
            let mut progress = lock(&self.progress);
            progress.failure = Some(error);
            progress.returned = true;
            progress.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

impl Seat {
    pub(crate) fn has_failed(&self) -> bool {
        let progress = lock(&self.0.progress);
        progress.failure.is_some() || progress.instance.active.meter.has_failed()
    }

    /// Whether the instance is about to go on, so that something may come of it without waiting.
    pub(crate) fn has_work(&self) -> bool {
        lock(&self.0.progress).instance.is_awake.load(Relaxed)
    }

    /// Ready when the instance ended before the call was over; until then it is driven elsewhere.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        let mut progress = lock(&self.0.progress);
        match progress.failure.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => {
                progress.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.note(|progress| progress.left = true);
    }
}

/// An instance's task.
struct Driven {
    instance: Arc<Instance>,
    /// None once it has ended.
    guest: Option<Guest>,
    is_starting: bool,
    timer: Option<Pin<Box<Sleep>>>,
    /// The task's waker, and the one that goes by way of the instance.
    wakers: Option<(Waker, Waker)>,
    lifetime: Lifetime,
}

/// Wakes an instance's task, and says so.
struct Waking {
    instance: Arc<Instance>,
    task: Waker,
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.instance.is_awake.store(true, Relaxed);
        self.task.wake_by_ref();
    }
}

impl Future for Driven {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(guest) = &mut this.guest else { return Poll::Ready(()) };
        if this.wakers.as_ref().is_none_or(|(task, _)| !task.will_wake(cx.waker())) {
            let task = cx.waker().clone();
            let waking = Waker::from(Arc::new(Waking { instance: Arc::clone(&this.instance), task: task.clone() }));
            this.wakers = Some((task, waking));
        }
        let Some((_, waking)) = &this.wakers else { unreachable!("it was just made") };
        let waking = waking.clone();
        let cx = &mut Context::from_waker(&waking);
        this.instance.is_awake.store(false, Relaxed);
        let mut ended = guest.poll(cx);
        let started = ended.is_ready().then(|| lock(&this.instance.inner).started.take()).flatten();
        if let Some((store, service)) = started {
            let active = &this.instance.active;
            active.meter.return_from_runner();
            this.instance.allow_cpu();
            *guest = Guest::here(Box::pin(serve(store, service, Arc::clone(&this.instance))), Arc::clone(active));
            this.is_starting = false;
            ended = guest.poll(cx);
        }
        while ended.is_pending() && !guest.is_moved() && this.instance.begins_another() {
            ended = guest.poll(cx);
        }
        if let Poll::Ready(result) = ended {
            this.end(result.err());
            return Poll::Ready(());
        }
        if !this.is_starting {
            for job in this.instance.take_unbegun(guest.is_moved()) {
                if let Some(job) = elsewhere(&this.instance, job) {
                    this.instance.give(job);
                }
            }
        }
        if this.is_late(cx) {
            this.end(None);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Driven {
    /// Whether a call is late, or the instance has waited long enough. The timer is not moved as calls come and go, only when it is
    /// due, or late for what is to be looked at; and nobody says when the last call is over, so it is due again and again.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let now = Instant::now();
            let at = self.instance.look_at(self.lifetime);
            if at.is_some_and(|at| at <= now) {
                return true;
            }
            let again = now + self.lifetime.idle;
            let at = at.map_or(again, |at| at.min(again)).into();
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if timer.deadline() > at || timer.is_elapsed() {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
        }
    }

    fn end(&mut self, error: Option<Error>) {
        // The calls know why before their bodies end with the store.
        self.instance.end(error, self.is_starting);
        self.guest = None;
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        // With the thread's runtime, when the server ends.
        if self.guest.is_some() {
            self.end(None);
        }
    }
}

/// Hands a call that could not begin to another instance; it comes back where there can be none.
fn elsewhere(from: &Instance, mut job: Job) -> Option<Job> {
    job.was_moved = true;
    if let Some(overdue) = job.seat.overdue() {
        job.seat.fail(overdue);
        return None;
    }
    let Some(instance) = from.home.upgrade().and_then(|home| home.find(&job.seat.active)) else { return Some(job) };
    lock(&job.seat.progress).instance = Arc::clone(&instance);
    instance.give(job);
    None
}

impl Drop for Instances {
    fn drop(&mut self) {
        // Their module has gone, and nobody calls them any more.
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for instance in threads.drain(..).flat_map(|(_, instances)| instances) {
            let mut inner = lock(&instance.inner);
            inner.closed = true;
            inner.wake();
        }
    }
}

/// The beginning of an instance.
async fn start(pre: ServicePre<State>, instance: Arc<Instance>) -> wasmtime::Result<Kept> {
    let active = &instance.active;
    let mut store = active.equipment.component_store(active, None)?;
    let service = pre.instantiate_async(&mut store).await.inspect_err(|_| active.meter.note_failed())?;
    lock(&instance.inner).started = Some((store, service));
    Ok(None)
}

/// The rest of its life.
async fn serve(mut store: Store<State>, service: Service, instance: Arc<Instance>) -> wasmtime::Result<Kept> {
    let serving = store.run_concurrent(async |accessor| serve_calls(accessor, &service, &instance).await).await;
    serving.flatten().inspect_err(|_| instance.active.meter.note_failed())?;
    Ok(None)
}

async fn serve_calls(accessor: &Accessor<State>, service: &Service, instance: &Arc<Instance>) -> wasmtime::Result<()> {
    let function = *service.wasi_http_handler().func_handle().func();
    let mut calls = pin!(FuturesUnordered::new());
    poll_fn(|cx| {
        loop {
            while let Poll::Ready(Some(ended)) = calls.as_mut().poll_next(cx) {
                if let Err(error) = ended {
                    return Poll::Ready(Err(error));
                }
            }
            let is_ready = accessor.poll_ready_for_concurrent_call(function, cx).is_ready();
            if let Some(job) = instance.next(is_ready, cx) {
                calls.push(call(accessor, service, instance, job));
                continue;
            }
            if !calls.is_empty() {
                return Poll::Pending;
            }
            let works_on = accessor.poll_no_interesting_tasks(cx).is_pending();
            return if instance.rest(works_on) { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
    })
    .await
}

async fn call(accessor: &Accessor<State>, service: &Service, instance: &Instance, job: Job) -> wasmtime::Result<()> {
    let Job { seat, request, answer, .. } = job;
    let (request, processed) = accessor.with(|mut access| {
        let state = access.get();
        state.component().outbound.add(&seat.active);
        request_03(state, request)
    });
    let result = match service.handle(accessor, request).await? {
        Ok(response) => Ok(accessor.with(|access| response.into_http(access, processed))?),
        Err(code) => Err(format!("{code:?}")),
    };
    instance.allow_cpu();
    // Nobody waits any more where the client has left.
    let _ = answer.send(result);
    seat.note(|progress| progress.returned = true);
    Ok(())
}
