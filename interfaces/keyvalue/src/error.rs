//! What can go wrong with a store.

use std::error::Error as StdError;
use std::fmt;

/// The failure of a store. `Display` is what a guest is told: it never prints the source.
#[derive(Debug)]
pub enum Error {
    /// The store has no such bucket, or no backend stands behind the name.
    NoSuchStore,
    /// The backend refuses these credentials.
    AccessDenied,
    /// The key is longer than [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX).
    KeyTooLong,
    /// The value is larger than [`VALUE_BYTES_MAX`](crate::VALUE_BYTES_MAX).
    ValueTooLarge,
    /// The batch has more than [`BATCH_KEYS_MAX`](crate::BATCH_KEYS_MAX) keys or
    /// [`BATCH_BYTES_MAX`](crate::BATCH_BYTES_MAX) bytes.
    BatchTooLarge,
    /// The cursor is none this backend gave.
    InvalidCursor,
    /// The value to be incremented is not a number.
    NotANumber,
    /// The sum does not fit into an `i64`.
    Overflow,
    /// The tenant's part of the store is full.
    Full,
    /// The backend failed or does not answer.
    Backend(Box<dyn StdError + Send + Sync>),
    /// The options of a backend are wrong; the text says which and why.
    Options(String),
    /// No backend has this name.
    UnknownBackend {
        /// What the configuration asks for.
        name: String,
        /// The nearest backend there is.
        nearest: &'static str,
    },
    /// The backend exists, but this program was built without it.
    NotCompiledIn {
        /// The backend, and the feature of this crate it needs.
        name: &'static str,
    },
}

impl Error {
    /// The backend failed because of `source`.
    pub fn backend(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Backend(source.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchStore => f.write_str("there is no such store"),
            Self::AccessDenied => f.write_str("the store denies access"),
            Self::KeyTooLong => write!(f, "the key is longer than {} bytes", crate::KEY_BYTES_MAX),
            Self::ValueTooLarge => write!(f, "the value is larger than {} bytes", crate::VALUE_BYTES_MAX),
            Self::BatchTooLarge => {
                write!(f, "the batch has over {} keys or {} bytes", crate::BATCH_KEYS_MAX, crate::BATCH_BYTES_MAX)
            }
            Self::InvalidCursor => f.write_str("the cursor is not one of this store"),
            Self::NotANumber => f.write_str("the value is not a number"),
            Self::Overflow => f.write_str("the sum does not fit into 64 bits"),
            Self::Full => f.write_str("the store is full"),
            Self::Backend(_) => f.write_str("the store failed"),
            Self::Options(text) => f.write_str(text),
            Self::UnknownBackend { name, nearest } => {
                write!(f, "there is no key-value backend `{name}`; the nearest is `{nearest}`")
            }
            Self::NotCompiledIn { name } => {
                write!(f, "the key-value backend `{name}` is not compiled in: build with the feature `{name}` of `keyvalue`")
            }
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Backend(source) => Some(source.as_ref()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_hides_the_source() {
        let error = Error::backend("redis://user:password@host refused");
        assert_eq!(error.to_string(), "the store failed");
        assert!(error.source().is_some());
    }
}
