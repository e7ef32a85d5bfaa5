//! The backends: a folder entry, a feature and a row of [`BACKENDS`] each.

#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "redb")]
pub mod redb;

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::{Checked, Error, Store};

/// The names a binding may use without any `[backend.NAME]` table, and the backend behind each.
pub const BUILT_IN: &[(&str, &str)] = &[("memory", "memory"), ("embedded", "redb")];

/// One kind of backend: what `type` may say.
pub struct Backend {
    /// The value of `type`, and the feature of this crate that compiles it in.
    pub name: &'static str,
    connect: Option<Connect>,
}

type Connect = for<'a> fn(toml::Table, &'a Path) -> Connecting<'a>;
type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Arc<dyn Store>, Error>> + Send + 'a>>;

macro_rules! backends {
    ($($module:ident = $name:literal;)*) => {
        /// Every backend, compiled in or not.
        pub const BACKENDS: &[Backend] = &[$(
            #[cfg(feature = $name)]
            Backend { name: $module::NAME, connect: Some(|options, data| Box::pin($module::connect(options, data))) },
            #[cfg(not(feature = $name))]
            Backend { name: $name, connect: None },
        )*];
    };
}

backends! {
    memory = "memory";
    redb = "redb";
}

/// Connects the backend `kind` (the value of `type`) with the rest of its table; `data` is the data directory. The store
/// checks the limits of this crate.
///
/// # Errors
///
/// [`Error::UnknownBackend`], [`Error::NotCompiledIn`], [`Error::Options`], or [`Error::Backend`] if it does not answer.
pub async fn connect(kind: &str, options: toml::Table, data: &Path) -> Result<Arc<dyn Store>, Error> {
    let Some(backend) = BACKENDS.iter().find(|backend| backend.name == kind) else {
        return Err(Error::UnknownBackend { name: kind.to_owned(), nearest: nearest(kind) });
    };
    let Some(connect) = backend.connect else {
        return Err(Error::NotCompiledIn { name: backend.name });
    };
    Ok(Arc::new(Checked::new(connect(options, data).await?)))
}

fn nearest(kind: &str) -> &'static str {
    let names = BACKENDS.iter().map(|backend| backend.name);
    names.min_by_key(|name| strsim::damerau_levenshtein(name, kind)).unwrap_or_default()
}

/// Reads the options of the backend `name`; unknown keys are errors that name the key.
#[cfg_attr(not(any(feature = "memory", feature = "redb")), expect(dead_code, reason = "only backends have options"))]
fn options<T: DeserializeOwned>(name: &str, options: toml::Table) -> Result<T, Error> {
    options.try_into().map_err(|error| Error::Options(format!("the key-value backend `{name}`: {}", error.message())))
}

/// A cursor that says after which key a listing goes on. Not a number of keys: that would skip or repeat keys when others are
/// set or deleted in between.
#[cfg_attr(not(any(feature = "memory", feature = "redb")), expect(dead_code, reason = "only backends have cursors"))]
mod after {
    use crate::Error;

    /// Tells our cursors from anything else a guest may send, and one day from those of another format.
    const MARK: &str = "after:";

    pub(super) fn write(key: &str) -> String {
        format!("{MARK}{key}")
    }

    pub(super) fn read(cursor: &str) -> Result<&str, Error> {
        cursor.strip_prefix(MARK).ok_or(Error::InvalidCursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_need_no_table_are_of_known_backends() {
        for (_, kind) in BUILT_IN {
            assert!(BACKENDS.iter().any(|backend| backend.name == *kind), "{kind}");
        }
    }

    #[test]
    fn the_nearest_name_is_offered() {
        assert_eq!((nearest("redbb"), nearest("mem")), ("redb", "memory"));
    }

    /// Says something only where some are left out: `cargo test -p keyvalue --no-default-features`.
    #[tokio::test]
    async fn a_backend_that_is_left_out_names_its_feature() {
        for backend in BACKENDS.iter().filter(|backend| backend.connect.is_none()) {
            let Err(error) = connect(backend.name, toml::Table::new(), Path::new("")).await else { panic!("it is left out") };
            assert!(error.to_string().contains(&format!("with the feature `{}`", backend.name)), "{error}");
        }
    }
}
