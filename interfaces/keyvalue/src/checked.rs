//! The limits every backend can rely on.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{BATCH_BYTES_MAX, BATCH_KEYS_MAX, Bucket, Error, KEY_BYTES_MAX, PAGE_KEYS_MAX, Page, Store, VALUE_BYTES_MAX};

/// A store that refuses what is too large before the backend sees it.
pub struct Checked(Arc<dyn Store>);

impl Checked {
    /// Puts the limits of this crate before `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    if key.len() > KEY_BYTES_MAX { Err(Error::KeyTooLong) } else { Ok(()) }
}

fn check_value(value: &Bytes) -> Result<(), Error> {
    if value.len() > VALUE_BYTES_MAX { Err(Error::ValueTooLarge) } else { Ok(()) }
}

fn check_keys<'a>(mut keys: impl ExactSizeIterator<Item = &'a String>) -> Result<(), Error> {
    if keys.len() > BATCH_KEYS_MAX {
        return Err(Error::BatchTooLarge);
    }
    keys.try_for_each(|key| check_key(key))
}

#[async_trait]
impl Store for Checked {
    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Bytes>, Error> {
        check_key(key)?;
        self.0.get(bucket, key).await
    }

    async fn set(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<(), Error> {
        check_key(key)?;
        check_value(&value)?;
        self.0.set(bucket, key, value).await
    }

    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), Error> {
        check_key(key)?;
        self.0.delete(bucket, key).await
    }

    async fn exists(&self, bucket: &Bucket, key: &str) -> Result<bool, Error> {
        check_key(key)?;
        self.0.exists(bucket, key).await
    }

    async fn list_keys(&self, bucket: &Bucket, cursor: Option<&str>, limit: usize) -> Result<Page, Error> {
        self.0.list_keys(bucket, cursor, limit.clamp(1, PAGE_KEYS_MAX)).await
    }

    async fn increment(&self, bucket: &Bucket, key: &str, delta: i64) -> Result<i64, Error> {
        check_key(key)?;
        self.0.increment(bucket, key, delta).await
    }

    async fn compare_and_swap(&self, bucket: &Bucket, key: &str, expected: Option<&[u8]>, new: Bytes) -> Result<bool, Error> {
        check_key(key)?;
        check_value(&new)?;
        self.0.compare_and_swap(bucket, key, expected, new).await
    }

    async fn get_many(&self, bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Bytes>>, Error> {
        check_keys(keys.iter())?;
        let values = self.0.get_many(bucket, keys).await?;
        debug_assert_eq!(values.len(), keys.len(), "one answer for each key");
        Ok(values)
    }

    async fn set_many(&self, bucket: &Bucket, pairs: Vec<(String, Bytes)>) -> Result<(), Error> {
        check_keys(pairs.iter().map(|(key, _)| key))?;
        pairs.iter().try_for_each(|(_, value)| check_value(value))?;
        if pairs.iter().map(|(_, value)| value.len()).sum::<usize>() > BATCH_BYTES_MAX {
            return Err(Error::BatchTooLarge);
        }
        self.0.set_many(bucket, pairs).await
    }

    async fn delete_many(&self, bucket: &Bucket, keys: &[String]) -> Result<(), Error> {
        check_keys(keys.iter())?;
        self.0.delete_many(bucket, keys).await
    }
}
