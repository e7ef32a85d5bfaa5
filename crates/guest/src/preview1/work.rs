//! Work that waits for a disk, on threads for that.
//!
//! Those threads are shared by all tenants, and a disk may be slow for as long as it likes. So each tenant has a few steps at once and
//! its others wait, until their program's deadline at most: a tenant whose disk hangs, or whose programs do nothing but read, keeps
//! nobody else from theirs.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::preview1::errno::Failure;

/// Steps of one tenant at once: keeps a fast disk busy, and is few of tokio's 512 threads for a slow one.
const STEPS_AT_ONCE: usize = 16;

/// The tenants that have programs with files.
#[derive(Debug, Default)]
pub(crate) struct Tenants(Mutex<BTreeMap<Arc<str>, Weak<Semaphore>>>);

impl Tenants {
    /// The steps of a tenant; the same as long as one of its modules is there.
    pub(crate) fn steps(&self, tenant: &Arc<str>) -> Steps {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(steps) = known.get(tenant).and_then(Weak::upgrade) {
            return Steps(steps);
        }
        known.retain(|_, steps| steps.strong_count() > 0);
        let steps = Arc::new(Semaphore::new(STEPS_AT_ONCE));
        known.insert(Arc::clone(tenant), Arc::downgrade(&steps));
        Steps(steps)
    }
}

/// One tenant's share of the threads.
#[derive(Clone, Debug)]
pub(crate) struct Steps(Arc<Semaphore>);

impl Steps {
    /// Does a step of bounded size when its turn comes. When the program is ended meanwhile, one that has not begun never does, and one
    /// that has is finished by itself; it counts until then.
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let lost = |error: &dyn std::fmt::Display| Failure::Trap(wasmtime::format_err!("file work was lost: {error}"));
        let turn = self.0.acquire_owned().await.map_err(|error| lost(&error))?;
        let work = move || {
            let _turn = turn;
            work()
        };
        let mut job = Job(spawn_blocking(work));
        match Pin::new(&mut job.0).await {
            Ok(result) => Ok(result?),
            Err(error) => Err(lost(&error)),
        }
    }

    /// Drops what may wait for the disk when it is dropped, with nobody waiting for it.
    pub(super) fn drop_later(self, what: impl Send + 'static) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // It is dropped here where the process is about to end.
            let turn = self.0.acquire_owned().await;
            spawn_blocking(move || drop((what, turn)));
        });
    }
}

struct Job<T>(JoinHandle<T>);

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use base::tests_support::assert_documented;
    use std::future::{Future, poll_fn};
    use std::sync::mpsc;
    use std::task::Poll;

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("preview 1: steps of one tenant's programs that wait for a disk at once", STEPS_AT_ONCE);
    }

    async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
    }

    #[tokio::test]
    async fn a_tenant_has_its_steps_and_no_more() {
        let tenants = Tenants::default();
        let [busy, other] = ["busy", "other"].map(|name| tenants.steps(&Arc::from(name)));
        // The same tenant in another module.
        let again = tenants.steps(&Arc::from("busy"));
        let (begun, begins) = mpsc::channel();
        let (release, hold) = mpsc::sync_channel::<()>(0);
        let hold = Arc::new(Mutex::new(hold));
        let mut held: Vec<_> = (0..STEPS_AT_ONCE)
            .map(|_| {
                let (begun, hold) = (begun.clone(), Arc::clone(&hold));
                let work = move || {
                    begun.send(()).expect("the test waits");
                    let _ = hold.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    Ok(())
                };
                Box::pin(busy.clone().run(work))
            })
            .collect();
        for step in &mut held {
            assert!(poll_once(step.as_mut()).await.is_pending());
        }
        held.iter().for_each(|_| begins.recv().expect("each has begun"));

        let mut late = Box::pin(again.run(|| Ok(7)));
        assert!(poll_once(late.as_mut()).await.is_pending());
        assert_eq!(other.run(|| Ok(3)).await.ok(), Some(3), "a neighbour does not wait");
        // Those whose programs end go on, and count, until they are done.
        drop(held);
        assert!(poll_once(late.as_mut()).await.is_pending());
        drop(release);
        assert_eq!(late.await.ok(), Some(7));
    }
}
