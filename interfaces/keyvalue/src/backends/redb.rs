//! Pairs in one file of this machine; the store that needs nothing installed.
//!
//! What was acknowledged must survive `kill -9`, which costs two `fsync`s per commit, and yet many guests write at once. So
//! writes go to one thread that commits together whatever has come in meanwhile ([`writer`]): every caller waits for a commit
//! that began after its call, and none for more than two. Everything is atomic. Reads see a snapshot, never wait for a
//! writer, and mostly find their page in memory; so a single read runs where it is called, and only scans and batches go to a
//! blocking thread.

mod file;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ::redb::Error as RedbError;
use async_trait::async_trait;
use bytes::Bytes;
use bytesize::ByteSize;
use serde::Deserialize;

use self::file::{File, Pairs};
use self::writer::{Write, Writer, Written};
use super::after;
use crate::{BATCH_BYTES_MAX, Bucket, Error, Page, Store};

/// The value of `type`.
pub const NAME: &str = "redb";

/// The file in the data directory where nothing is said.
const FILE: &str = "keyvalue.redb";

/// Pages kept in memory where nothing is said. redb's own default is 1 GiB, which is more than a small server has.
const CACHE: ByteSize = ByteSize::mib(64);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The file; a relative path begins in the data directory.
    path: Option<PathBuf>,
    /// Memory for pages, e.g. `64MiB`.
    cache: Option<String>,
}

/// Opens the file, or creates it.
///
/// # Errors
///
/// [`Error::Options`]; [`Error::Backend`] if the file cannot be opened, for example because another process has it.
pub async fn connect(options: toml::Table, data: &Path) -> Result<Arc<dyn Store>, Error> {
    let config: Config = super::options(NAME, options)?;
    let cache = match config.cache {
        None => CACHE,
        Some(text) => text
            .parse::<ByteSize>()
            .map_err(|_| Error::Options(format!("the key-value backend `{NAME}`: `cache = \"{text}\"` is not a size")))?,
    };
    let path = data.join(config.path.as_deref().unwrap_or(Path::new(FILE)));
    let cache_bytes = usize::try_from(cache.as_u64()).unwrap_or(usize::MAX);
    blocking(move || open(&path, cache_bytes)).await.map(|store| store as Arc<dyn Store>)
}

/// The files this process has open. Two backends with one path are one store: a second `open` would be refused, because redb
/// locks its file.
static OPEN: Mutex<BTreeMap<PathBuf, Weak<Redb>>> = Mutex::new(BTreeMap::new());

fn open(path: &Path, cache_bytes: usize) -> Result<Arc<Redb>, Error> {
    let path = file::absolute(path).map_err(Error::backend)?;
    // Held while opening: whoever wants the same file meanwhile gets this one.
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(store) = open.get(&path).and_then(Weak::upgrade) {
        return Ok(store);
    }
    let file = Arc::new(File::open(file::on_disk(path.clone(), cache_bytes)).map_err(Error::backend)?);
    let store = Arc::new(Redb { writer: Writer::start(Arc::clone(&file)).map_err(Error::backend)?, file });
    open.retain(|_, store| store.strong_count() > 0);
    open.insert(path, Arc::downgrade(&store));
    Ok(store)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::backend)?
}

struct Redb {
    // Before `file`: dropping it ends the thread, and with the last user of the file the lock on it is gone.
    writer: Writer,
    file: Arc<File>,
}

impl Redb {
    /// Reads where the caller stands.
    fn read<T>(&self, read: impl FnOnce(&Pairs) -> Result<T, RedbError>) -> Result<T, Error> {
        self.file.read(read).map_err(|error| self.failed(error))
    }

    /// Reads on a thread that may wait for the disk.
    async fn scan<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Pairs) -> Result<Result<T, Error>, RedbError> + Send + 'static,
    ) -> Result<T, Error> {
        let file = Arc::clone(&self.file);
        blocking(move || Ok(file.read(read))).await?.map_err(|error| self.failed(error))?
    }

    fn failed(&self, error: RedbError) -> Error {
        self.writer.heal();
        Error::backend(error)
    }
}

#[async_trait]
impl Store for Redb {
    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Bytes>, Error> {
        self.read(|pairs| Ok(pairs.get(bucket.key(key).as_str())?.map(|value| Bytes::copy_from_slice(value.value()))))
    }

    async fn set(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<(), Error> {
        self.writer.write(Write::Set(vec![(bucket.key(key), value)])).await.map(|_| ())
    }

    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), Error> {
        self.writer.write(Write::Delete(vec![bucket.key(key)])).await.map(|_| ())
    }

    async fn exists(&self, bucket: &Bucket, key: &str) -> Result<bool, Error> {
        self.read(|pairs| Ok(pairs.get(bucket.key(key).as_str())?.is_some()))
    }

    async fn list_keys(&self, bucket: &Bucket, cursor: Option<&str>, limit: usize) -> Result<Page, Error> {
        let from = match cursor {
            None => Bound::Included(bucket.prefix().to_owned()),
            Some(cursor) => Bound::Excluded(bucket.key(after::read(cursor)?)),
        };
        let prefix = bucket.prefix().to_owned();
        self.scan(move |pairs| {
            let mut page = Page::default();
            for pair in pairs.range::<&str>((from.as_ref().map(String::as_str), Bound::Unbounded))? {
                let (key, _) = pair?;
                let Some(key) = key.value().strip_prefix(&prefix) else { break };
                if page.keys.len() == limit {
                    page.cursor = page.keys.last().map(|last| after::write(last));
                    break;
                }
                page.keys.push(key.to_owned());
            }
            Ok(Ok(page))
        })
        .await
    }

    async fn increment(&self, bucket: &Bucket, key: &str, delta: i64) -> Result<i64, Error> {
        match self.writer.write(Write::Increment(bucket.key(key), delta)).await? {
            Written::Sum(sum) => Ok(sum),
            other => unreachable!("an increment is answered with a sum, not {other:?}"),
        }
    }

    async fn compare_and_swap(&self, bucket: &Bucket, key: &str, expected: Option<&[u8]>, new: Bytes) -> Result<bool, Error> {
        let swap = Write::Swap { key: bucket.key(key), expected: expected.map(Bytes::copy_from_slice), new };
        self.writer.write(swap).await.map(|written| written == Written::Done)
    }

    async fn get_many(&self, bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Bytes>>, Error> {
        let keys: Vec<String> = keys.iter().map(|key| bucket.key(key)).collect();
        self.scan(move |pairs| {
            let mut values = Vec::with_capacity(keys.len());
            let mut bytes = 0;
            for key in &keys {
                let value = pairs.get(key.as_str())?;
                bytes += value.as_ref().map_or(0, |value| value.value().len());
                if bytes > BATCH_BYTES_MAX {
                    return Ok(Err(Error::BatchTooLarge));
                }
                values.push(value.map(|value| Bytes::copy_from_slice(value.value())));
            }
            Ok(Ok(values))
        })
        .await
    }

    async fn set_many(&self, bucket: &Bucket, pairs: Vec<(String, Bytes)>) -> Result<(), Error> {
        let pairs = pairs.into_iter().map(|(key, value)| (bucket.key(&key), value)).collect();
        self.writer.write(Write::Set(pairs)).await.map(|_| ())
    }

    async fn delete_many(&self, bucket: &Bucket, keys: &[String]) -> Result<(), Error> {
        self.writer.write(Write::Delete(keys.iter().map(|key| bucket.key(key)).collect())).await.map(|_| ())
    }
}
