//! One thread that commits for all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use redb::{Error as RedbError, ReadableTable, StorageError, Table, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::file::{File, PAIRS};
use crate::Error;

/// Writes waiting for the next commit; who comes later waits to get in. Their number is bounded by the calls in flight anyway.
const WAITING_MAX: usize = 256;

/// Writes in one commit: all that wait.
const COMMIT_WRITES_MAX: usize = WAITING_MAX;

/// Bytes after which a commit takes no more writes: two full batches, so that small writes do not wait long for large ones.
const COMMIT_BYTES_MAX: usize = 2 * crate::BATCH_BYTES_MAX;

/// A change, atomic, with whole keys.
pub(super) enum Write {
    Set(Vec<(String, Bytes)>),
    Delete(Vec<String>),
    Increment(String, i64),
    Swap { key: String, expected: Option<Bytes>, new: Bytes },
}

/// What became of a [`Write`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    Done,
    Sum(i64),
    /// Of a [`Write::Swap`]: the value is another.
    Refused,
}

/// The way to the thread, which ends after its last commit. Nobody waits for that: whoever drops this may be serving, and
/// whoever opens the file again waits until it is closed.
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

enum Job {
    Write(Write, oneshot::Sender<Result<Written, Error>>),
    Heal,
}

impl Writer {
    pub(super) fn start(file: Arc<File>) -> std::io::Result<Self> {
        let (jobs, received) = mpsc::channel(WAITING_MAX);
        std::thread::Builder::new().name("keyvalue-redb".to_owned()).spawn(move || run(&file, received))?;
        Ok(Self { jobs })
    }

    /// Returns when `write` is on the disk.
    pub(super) async fn write(&self, write: Write) -> Result<Written, Error> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job::Write(write, answer)).await.map_err(|_| Error::backend("the writing thread has ended"))?;
        answered.await.map_err(Error::backend)?
    }

    /// Has the file looked after once the thread comes to it.
    pub(super) fn heal(&self) {
        // A full queue means writes, and a write that fails has the file reopened.
        let _ = self.jobs.try_send(Job::Heal);
    }
}

fn run(file: &File, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut writes = Vec::new();
        let mut heal = false;
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Heal => heal = true,
                // Nobody waits for it any more; not to do it is one of the two things that may happen.
                Job::Write(_, answer) if answer.is_closed() => {}
                Job::Write(write, answer) => {
                    bytes += write.bytes();
                    writes.push((write, answer));
                }
            }
            next = if writes.len() < COMMIT_WRITES_MAX && bytes < COMMIT_BYTES_MAX { jobs.try_recv().ok() } else { None };
        }
        if heal {
            file.heal();
        }
        if !writes.is_empty() {
            commit(file, writes);
        }
    }
}

/// Commits all of `writes` together and answers each.
fn commit(file: &File, writes: Vec<(Write, oneshot::Sender<Result<Written, Error>>)>) {
    // redb checks itself with assertions; a thread that ended would end every write to come.
    let results = catch_unwind(AssertUnwindSafe(|| file.write(|transaction| apply(transaction, &writes))))
        .unwrap_or_else(|_| Err(StorageError::Corrupted("panicked while writing".to_owned()).into()));
    match results {
        Ok(results) => {
            for ((_, answer), result) in writes.into_iter().zip(results) {
                let _ = answer.send(result);
            }
        }
        Err(error) => {
            tracing::error!(%error, writes = writes.len(), "a commit of the key-value file failed");
            let error = Arc::new(error);
            for (_, answer) in writes {
                let _ = answer.send(Err(Error::backend(Arc::clone(&error))));
            }
            file.reopen();
        }
    }
}

/// The results of writes in one transaction. The outer error is the disk's and undoes all; an inner one is a caller's, whose
/// write changed nothing.
fn apply<A>(transaction: &WriteTransaction, writes: &[(Write, A)]) -> Result<Vec<Result<Written, Error>>, RedbError> {
    let mut pairs = transaction.open_table(PAIRS)?;
    writes.iter().map(|(write, _)| write.apply(&mut pairs)).collect()
}

impl Write {
    fn bytes(&self) -> usize {
        match self {
            Self::Set(pairs) => pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Delete(keys) => keys.iter().map(String::len).sum(),
            Self::Increment(key, _) => key.len(),
            Self::Swap { key, new, .. } => key.len() + new.len(),
        }
    }

    fn apply(&self, pairs: &mut Table<'_, &'static str, &'static [u8]>) -> Result<Result<Written, Error>, RedbError> {
        match self {
            Self::Set(new) => {
                for (key, value) in new {
                    pairs.insert(key.as_str(), value.as_ref())?;
                }
            }
            Self::Delete(keys) => {
                for key in keys {
                    pairs.remove(key.as_str())?;
                }
            }
            Self::Increment(key, delta) => {
                let sum = crate::add(pairs.get(key.as_str())?.as_ref().map(|value| value.value()), *delta);
                if let Ok(sum) = sum {
                    pairs.insert(key.as_str(), sum.to_string().as_bytes())?;
                }
                return Ok(sum.map(Written::Sum));
            }
            Self::Swap { key, expected, new } => {
                if pairs.get(key.as_str())?.as_ref().map(|value| value.value()) != expected.as_deref() {
                    return Ok(Ok(Written::Refused));
                }
                pairs.insert(key.as_str(), new.as_ref())?;
            }
        }
        Ok(Ok(Written::Done))
    }
}
