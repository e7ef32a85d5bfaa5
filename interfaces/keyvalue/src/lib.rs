//! Pairs of keys and values, in buckets.
//!
//! Goals in tension: every backend must behave the same, so that one line of configuration can change it, and each must use
//! what it is good at. The decision: [`Store`] is the whole contract, small enough that a backend implements every method
//! itself — an atomic increment cannot be built well on top of `get` and `set` — while everything that is the same for all
//! (sizes, page lengths) is checked once, by [`Checked`], and everything they promise is tested once, by [`conformance`].
//! This crate's contract and its backends know nothing of WebAssembly; [`host`] puts the guests' view on top.

pub mod backends;
mod bucket;
mod checked;
pub mod conformance;
mod error;
#[cfg(feature = "host")]
pub mod host;

use async_trait::async_trait;
use bytes::Bytes;

pub use bucket::Bucket;
pub use checked::Checked;
pub use error::Error;

/// Keys are short names, and every backend can hold this much: 1 KiB.
pub const KEY_BYTES_MAX: usize = 1024;

/// Values are documents, not files (those belong into a blob store): 4 MiB.
pub const VALUE_BYTES_MAX: usize = 4 << 20;

/// Keys in one page of a listing. With keys of full length a page is 1 MiB.
pub const PAGE_KEYS_MAX: usize = 1000;

/// Keys in one batch: ten full pages of a listing.
pub const BATCH_KEYS_MAX: usize = 10_000;

/// Bytes of values in one batch, in or out: four of the largest values. A guest that asks for one large value ten thousand
/// times must not take the host's memory.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// What every backend does. [`conformance::run`] is this contract as a test.
///
/// All methods may be called at once from many tasks; whoever called `set` and got an answer reads that value or a later one.
/// A method that was acknowledged is as durable as the backend promises; one whose future is dropped, or that ends with
/// [`Error::Backend`], may or may not have happened. Methods are called through [`Checked`]: lengths are within the limits of
/// this crate.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The value of `key`; none if there is none.
    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Bytes>, Error>;

    /// Sets `key`, whether it was there or not.
    async fn set(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<(), Error>;

    /// Removes `key`; a missing key is not an error.
    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), Error>;

    /// Whether `key` has a value, an empty one included.
    async fn exists(&self, bucket: &Bucket, key: &str) -> Result<bool, Error>;

    /// The page of at most `limit` keys that begins at `cursor`, or the first one.
    ///
    /// Following the cursors to the end names every key that is there all the time at least once, whatever is set and
    /// deleted meanwhile. A page may be short, even empty, and yet not be the last one: the last one has no cursor.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidCursor`] for a cursor this backend never gave.
    async fn list_keys(&self, bucket: &Bucket, cursor: Option<&str>, limit: usize) -> Result<Page, Error>;

    /// Adds `delta` in one atomic step and returns the sum; a missing key counts as 0. The value is decimal text, see
    /// [`parse_number`], so that `get` and `set` can read and write it.
    ///
    /// # Errors
    ///
    /// [`Error::NotANumber`] or [`Error::Overflow`]; the value is then what it was.
    async fn increment(&self, bucket: &Bucket, key: &str, delta: i64) -> Result<i64, Error>;

    /// Sets `key` to `new` in one atomic step if its value is `expected`, where none means that the key is missing. Returns
    /// whether it did.
    async fn compare_and_swap(&self, bucket: &Bucket, key: &str, expected: Option<&[u8]>, new: Bytes) -> Result<bool, Error>;

    /// One answer for each of `keys`, in their order.
    ///
    /// # Errors
    ///
    /// [`Error::BatchTooLarge`] as soon as the values together exceed [`BATCH_BYTES_MAX`].
    async fn get_many(&self, bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Bytes>>, Error>;

    /// Sets every pair; of two pairs with one key the later wins. In one atomic step where the backend can, else README.md
    /// says so.
    async fn set_many(&self, bucket: &Bucket, pairs: Vec<(String, Bytes)>) -> Result<(), Error>;

    /// Removes every key; missing keys are skipped. Atomic as [`Store::set_many`] is.
    async fn delete_many(&self, bucket: &Bucket, keys: &[String]) -> Result<(), Error>;
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys, without the prefix of their bucket, each at most once.
    pub keys: Vec<String>,
    /// Where the next page begins; none after the last one. Only the backend that gave it understands it.
    pub cursor: Option<String>,
}

/// Reads a number as [`Store::increment`] stores it: an `i64` in decimal, without plus sign, spaces or leading zeros. Redis
/// reads exactly these, so the others do too.
///
/// # Errors
///
/// [`Error::NotANumber`] for anything else, the empty value included.
pub fn parse_number(value: &[u8]) -> Result<i64, Error> {
    let text = std::str::from_utf8(value).map_err(|_| Error::NotANumber)?;
    let number: i64 = text.parse().map_err(|_| Error::NotANumber)?;
    let canonical = number.to_string() == text;
    if canonical { Ok(number) } else { Err(Error::NotANumber) }
}

/// The sum that [`Store::increment`] stores over `current`, for backends that compute it here.
///
/// # Errors
///
/// [`Error::NotANumber`] and [`Error::Overflow`].
pub fn add(current: Option<&[u8]>, delta: i64) -> Result<i64, Error> {
    let current = current.map_or(Ok(0), parse_number)?;
    current.checked_add(delta).ok_or(Error::Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_canonical_decimal_text() {
        for (text, number) in [("0", 0), ("-1", -1), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)] {
            assert_eq!(parse_number(text.as_bytes()).expect(text), number);
        }
        for text in ["", "-", "-0", "+1", "01", " 1", "1 ", "1.0", "0x1", "9223372036854775808", "٣", "one"] {
            assert!(matches!(parse_number(text.as_bytes()), Err(Error::NotANumber)), "{text:?}");
        }
        assert!(matches!(parse_number(b"\xff"), Err(Error::NotANumber)));
    }
}
