//! Pairs in the memory of this process: gone when it ends, not shared between replicas.
//!
//! One sorted map for each tenant behind one lock: every operation is a lookup or a short scan and never awaits, so the lock
//! is held for microseconds, and everything — batches, too — is atomic. What a tenant stores is counted, because memory is
//! shared with everyone else.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use bytesize::ByteSize;
use serde::Deserialize;

use super::after;
use crate::{BATCH_BYTES_MAX, Bucket, Error, Page, Store};

/// The value of `type`.
pub const NAME: &str = "memory";

/// What one tenant may store where nothing is said: enough for sessions and counters, little enough for many tenants.
const TENANT_MAX: ByteSize = ByteSize::mib(64);

/// What a pair costs beside its key and value: two fat pointers, a reference count and its part of a tree node, rounded up.
const PAIR_BYTES: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What one tenant may store, e.g. `64MiB`.
    tenant_max: Option<String>,
}

/// Makes an empty store.
///
/// # Errors
///
/// [`Error::Options`].
pub async fn connect(options: toml::Table, _data: &Path) -> Result<Arc<dyn Store>, Error> {
    let config: Config = super::options(NAME, options)?;
    let tenant_max = match config.tenant_max {
        None => TENANT_MAX,
        Some(text) => text
            .parse::<ByteSize>()
            .map_err(|_| Error::Options(format!("the key-value backend `{NAME}`: `tenant_max = \"{text}\"` is not a size")))?,
    };
    let tenant_bytes_max = usize::try_from(tenant_max.as_u64()).unwrap_or(usize::MAX);
    Ok(Arc::new(Memory { tenants: Mutex::default(), tenant_bytes_max }))
}

struct Memory {
    tenants: Mutex<HashMap<Box<str>, Tenant>>,
    tenant_bytes_max: usize,
}

/// The pairs of one tenant, under the whole keys of [`Bucket::key`], and their size.
#[derive(Default)]
struct Tenant {
    pairs: BTreeMap<String, Bytes>,
    used_bytes: usize,
}

type Tenants<'a> = MutexGuard<'a, HashMap<Box<str>, Tenant>>;

impl Memory {
    fn lock(&self) -> Tenants<'_> {
        // No invariant is broken half way: a panic cannot come from between two changes that belong together.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find<'a>(tenants: &'a Tenants<'_>, bucket: &Bucket, key: &str) -> Option<&'a Bytes> {
    tenants.get(bucket.tenant())?.pairs.get(&bucket.key(key))
}

fn of<'a>(tenants: &'a mut Tenants<'_>, bucket: &Bucket) -> &'a mut Tenant {
    if !tenants.contains_key(bucket.tenant()) {
        tenants.insert(bucket.tenant().into(), Tenant::default());
    }
    tenants.get_mut(bucket.tenant()).expect("just inserted")
}

fn cost(key: &str, value: &Bytes) -> usize {
    key.len() + value.len() + PAIR_BYTES
}

impl Tenant {
    fn set(&mut self, key: String, value: Bytes, bytes_max: usize) -> Result<(), Error> {
        let old = self.pairs.get(&key).map_or(0, |value| cost(&key, value));
        let used_bytes = self.used_bytes - old + cost(&key, &value);
        // What makes the store smaller is always allowed, so that a full store can be emptied.
        if used_bytes > bytes_max && used_bytes > self.used_bytes {
            return Err(Error::Full);
        }
        self.used_bytes = used_bytes;
        self.pairs.insert(key, value);
        Ok(())
    }

    fn delete(&mut self, key: &str) -> Option<Bytes> {
        let value = self.pairs.remove(key)?;
        self.used_bytes -= cost(key, &value);
        Some(value)
    }

    /// All pairs or none.
    fn set_many(&mut self, pairs: Vec<(String, Bytes)>, bytes_max: usize) -> Result<(), Error> {
        let mut undo: Vec<(String, Option<Bytes>)> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let before = self.pairs.get(&key).cloned();
            if let Err(error) = self.set(key.clone(), value, bytes_max) {
                for (key, before) in undo.into_iter().rev() {
                    self.delete(&key);
                    if let Some(value) = before {
                        self.set(key, value, usize::MAX)?;
                    }
                }
                return Err(error);
            }
            undo.push((key, before));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Bytes>, Error> {
        Ok(find(&self.lock(), bucket, key).cloned())
    }

    async fn set(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<(), Error> {
        of(&mut self.lock(), bucket).set(bucket.key(key), value, self.tenant_bytes_max)
    }

    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), Error> {
        of(&mut self.lock(), bucket).delete(&bucket.key(key));
        Ok(())
    }

    async fn exists(&self, bucket: &Bucket, key: &str) -> Result<bool, Error> {
        Ok(find(&self.lock(), bucket, key).is_some())
    }

    async fn list_keys(&self, bucket: &Bucket, cursor: Option<&str>, limit: usize) -> Result<Page, Error> {
        let from = match cursor {
            None => Bound::Included(bucket.prefix().to_owned()),
            Some(cursor) => Bound::Excluded(bucket.key(after::read(cursor)?)),
        };
        let tenants = self.lock();
        let Some(tenant) = tenants.get(bucket.tenant()) else { return Ok(Page::default()) };
        let range = tenant.pairs.range::<String, _>((from, Bound::Unbounded));
        let mut rest = range.map_while(|(key, _)| key.strip_prefix(bucket.prefix()));
        let keys: Vec<String> = rest.by_ref().take(limit).map(str::to_owned).collect();
        let cursor = rest.next().and(keys.last()).map(|key| after::write(key));
        Ok(Page { keys, cursor })
    }

    async fn increment(&self, bucket: &Bucket, key: &str, delta: i64) -> Result<i64, Error> {
        let mut tenants = self.lock();
        let sum = crate::add(find(&tenants, bucket, key).map(Bytes::as_ref), delta)?;
        of(&mut tenants, bucket).set(bucket.key(key), sum.to_string().into(), self.tenant_bytes_max)?;
        Ok(sum)
    }

    async fn compare_and_swap(&self, bucket: &Bucket, key: &str, expected: Option<&[u8]>, new: Bytes) -> Result<bool, Error> {
        let mut tenants = self.lock();
        if find(&tenants, bucket, key).map(Bytes::as_ref) != expected {
            return Ok(false);
        }
        of(&mut tenants, bucket).set(bucket.key(key), new, self.tenant_bytes_max)?;
        Ok(true)
    }

    async fn get_many(&self, bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Bytes>>, Error> {
        let tenants = self.lock();
        let values: Vec<_> = keys.iter().map(|key| find(&tenants, bucket, key).cloned()).collect();
        let bytes = values.iter().flatten().map(Bytes::len).sum::<usize>();
        if bytes > BATCH_BYTES_MAX { Err(Error::BatchTooLarge) } else { Ok(values) }
    }

    async fn set_many(&self, bucket: &Bucket, pairs: Vec<(String, Bytes)>) -> Result<(), Error> {
        let pairs = pairs.into_iter().map(|(key, value)| (bucket.key(&key), value)).collect();
        of(&mut self.lock(), bucket).set_many(pairs, self.tenant_bytes_max)
    }

    async fn delete_many(&self, bucket: &Bucket, keys: &[String]) -> Result<(), Error> {
        let mut tenants = self.lock();
        let tenant = of(&mut tenants, bucket);
        for key in keys {
            tenant.delete(&bucket.key(key));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_store_refuses_whole_batches_and_can_be_emptied() {
        let options = "tenant_max = \"4KiB\"".parse().expect("a table");
        let store = connect(options, Path::new("")).await.expect("connects");
        let (bucket, other) = (Bucket::new("a", "b"), Bucket::new("c", "b"));
        let value = Bytes::from(vec![0; 2048]);
        store.set(&bucket, "1", value.clone()).await.expect("fits");
        let both = vec![("1".to_owned(), Bytes::new()), ("2".to_owned(), value.clone()), ("3".to_owned(), value.clone())];
        assert!(matches!(store.set_many(&bucket, both).await, Err(Error::Full)));
        assert_eq!(store.get(&bucket, "1").await.expect("works"), Some(value.clone()), "nothing of the batch is left");
        assert!(!store.exists(&bucket, "2").await.expect("works"));
        assert!(matches!(store.set(&bucket, "2", value.clone()).await, Err(Error::Full)));
        store.set(&other, "1", value.clone()).await.expect("another tenant has its own space");
        store.set(&bucket, "1", Bytes::new()).await.expect("smaller always fits");
        store.set(&bucket, "2", value.clone()).await.expect("there is room again");
        store.delete(&bucket, "2").await.expect("works");
        store.set(&bucket, "3", value).await.expect("there is room again");
    }
}
