//! The guests' view of a store.
//!
//! One package name stands for three shapes, and guests link only with their own. So the core — sessions, handles, limits,
//! errors — is here, once, over the contract; [`draft`], [`draft2`] and [`draft2_async`] are bindings and conversions beside
//! it; and [`ADAPTERS`] says which of them a module's imports ask for.
//!
//! What a guest can make the host keep is bounded: handles, the values that compare-and-swap handles remember, and cursors.

mod draft;
mod draft2;
mod draft2_async;
mod session;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use base::Kind;
use guest::{BackendTable, Grant, Interface, Shape, State};
use tokio::sync::OnceCell;
use wasmtime::component::Linker;

use self::session::{KeyValueSession, view};
use crate::{Error, Store, backends};

/// Where this interface keeps its session in a [`guest::State`].
pub const SLOT: guest::Slot = guest::Slot::new(0);

/// The WIT package.
const PACKAGE: &str = "wasi:keyvalue";

/// The name of a bucket for guests that do not care.
const DEFAULT: &str = "default";

/// The interface `keyvalue`: give it to a runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyValue;

type Backends = BTreeMap<String, Arc<Configured>>;

/// A backend and its connection.
struct Configured {
    table: BackendTable,
    data: PathBuf,
    store: OnceCell<Arc<dyn Store>>,
}

impl Configured {
    fn new(table: BackendTable, data: &Path) -> Self {
        Self { table, data: data.to_owned(), store: OnceCell::new() }
    }

    /// The store; connects if nobody did.
    async fn store(&self) -> Result<&Arc<dyn Store>, Error> {
        self.store.get_or_try_init(|| backends::connect(&self.table.kind, self.table.options.clone(), &self.data)).await
    }
}

impl KeyValue {
    /// The interface; [`Interface::configure`] makes its backends.
    pub fn new() -> Self {
        Self
    }
}

/// The configured backends connect now, so that mistakes are found at the start. Those that need no table connect when a
/// guest first opens them: most programs use none or one of them, and a file nobody asked for would be a surprise.
async fn connect(
    previous: Option<Arc<Backends>>,
    tables: &BTreeMap<String, BackendTable>,
    data: &Path,
) -> Result<Arc<Backends>, base::Error> {
    let of = |name: &str, table: BackendTable| match previous.as_ref().and_then(|known| known.get(name)) {
        Some(same) if same.table == table && same.data == data => Arc::clone(same),
        _ => Arc::new(Configured::new(table, data)),
    };
    let mut next = Backends::new();
    for (name, kind) in backends::BUILT_IN {
        let table = BackendTable { kind: (*kind).to_owned(), options: toml::Table::new() };
        next.insert((*name).to_owned(), of(name, table));
    }
    for (name, table) in tables {
        let backend = of(name, table.clone());
        backend.store().await.map_err(|error| cannot_connect(name, error))?;
        next.insert(name.clone(), backend);
    }
    let same = |known: &Arc<Backends>| {
        known.len() == next.len()
            && next.iter().all(|(name, backend)| known.get(name).is_some_and(|other| Arc::ptr_eq(other, backend)))
    };
    Ok(previous.filter(same).unwrap_or_else(|| Arc::new(next)))
}

/// What [`Interface::configure`] returned.
fn of_grant(grant: &Grant) -> Arc<Backends> {
    Arc::clone(&grant.backends).downcast().expect("a grant holds what this interface configured")
}

fn cannot_connect(name: &str, error: Error) -> base::Error {
    let kind = match &error {
        Error::Options(_) | Error::UnknownBackend { .. } | Error::NotCompiledIn { .. } => Kind::Unprocessable,
        _ => Kind::BackendUnavailable,
    };
    base::Error::new(kind, format!("[backend.{name}]: {error}")).caused_by(error)
}

impl Interface for KeyValue {
    fn name(&self) -> &'static str {
        "keyvalue"
    }

    fn packages(&self) -> &'static [&'static str] {
        &[PACKAGE]
    }

    fn slot(&self) -> guest::Slot {
        SLOT
    }

    fn configure<'a>(
        &'a self,
        previous: Option<guest::Backends>,
        tables: &'a BTreeMap<String, BackendTable>,
        data: &'a Path,
    ) -> Pin<Box<dyn Future<Output = Result<guest::Backends, base::Error>> + Send + 'a>> {
        let previous = previous.and_then(|previous| previous.downcast().ok());
        Box::pin(async move { connect(previous, tables, data).await.map(|backends| backends as guest::Backends) })
    }

    fn check(&self, grant: &Grant) -> Result<(), base::Error> {
        let backends = of_grant(grant);
        for (bucket, backend) in &grant.bindings {
            if !backends.contains_key(backend) {
                let names = backends.keys().map(String::as_str);
                let nearest = names.min_by_key(|name| strsim::damerau_levenshtein(name, backend)).unwrap_or_default();
                return Err(base::Error::new(
                    Kind::Unprocessable,
                    format!(
                        "the module `{}` binds keyvalue `{bucket}` to the backend `{backend}`, which does not exist; the nearest \
                         is `{nearest}`",
                        grant.module
                    ),
                ));
            }
        }
        Ok(())
    }

    fn link(&self, linker: &mut Linker<State>, shape: &Shape<'_>) -> Result<(), base::Error> {
        let imports = shape.imports("wasi:keyvalue/");
        let probe = |import: &String| FUNCTIONS.iter().find_map(|function| shape.is_async(import, function));
        // An import of types alone says nothing of the shape; then its siblings do.
        let usual = imports.iter().find_map(probe).unwrap_or(false);
        for import in &imports {
            let adapter = Adapter::find(import, probe(import).unwrap_or(usual))?;
            (adapter.add)(linker).map_err(|error| {
                base::Error::new(Kind::Internal, format!("`{import}` cannot be linked")).internal(format!("{error:#}"))
            })?;
        }
        Ok(())
    }

    fn open(&self, grant: &Arc<Grant>) -> guest::Session {
        Box::new(KeyValueSession::new(of_grant(grant), Arc::clone(grant)))
    }
}

/// One interface in one of the shapes.
struct Adapter {
    interface: &'static str,
    version: &'static str,
    /// Whether its functions are `async` in WIT.
    is_async: bool,
    add: fn(&mut Linker<State>) -> wasmtime::Result<()>,
}

/// Every function a component may import from any of the interfaces: it imports only those it calls.
const FUNCTIONS: &[&str] = &[
    "open",
    "[method]bucket.get",
    "[method]bucket.set",
    "[method]bucket.delete",
    "[method]bucket.exists",
    "[method]bucket.list-keys",
    "increment",
    "[static]cas.new",
    "[method]cas.current",
    "swap",
    "get-many",
    "set-many",
    "delete-many",
];

macro_rules! adapters {
    ($($interface:ident @ $version:literal $async:literal $module:ident;)*) => {
        const ADAPTERS: &[Adapter] = &[$(Adapter {
            interface: stringify!($interface),
            version: $version,
            is_async: $async,
            add: |linker| $module::$interface::add_to_linker::<_, session::HasView>(linker, view),
        },)*];
    };
}

adapters! {
    store @ "0.2.0-draft" false draft;
    atomics @ "0.2.0-draft" false draft;
    batch @ "0.2.0-draft" false draft;
    store @ "0.2.0-draft2" false draft2;
    atomics @ "0.2.0-draft2" false draft2;
    batch @ "0.2.0-draft2" false draft2;
    store @ "0.2.0-draft2" true draft2_async;
    atomics @ "0.2.0-draft2" true draft2_async;
    batch @ "0.2.0-draft2" true draft2_async;
}

impl Adapter {
    /// The adapter for an import like `wasi:keyvalue/store@0.2.0-draft2`.
    fn find(import: &str, is_async: bool) -> Result<&'static Self, base::Error> {
        let (path, version) = import.split_once('@').unwrap_or((import, ""));
        let interface = path.rsplit_once('/').map_or(path, |(_, interface)| interface);
        let found = ADAPTERS.iter().find(|row| row.version == version && row.interface == interface && row.is_async == is_async);
        found.ok_or_else(|| {
            let words = |is_async: bool| if is_async { "asynchronous" } else { "synchronous" };
            let mut here: Vec<String> = ADAPTERS
                .iter()
                .filter(|row| row.interface == interface)
                .map(|row| format!("@{} ({})", row.version, words(row.is_async)))
                .collect();
            if here.is_empty() {
                here = ADAPTERS.iter().take(3).map(|row| format!("{PACKAGE}/{}", row.interface)).collect();
            }
            let text = format!("the import `{import}` ({}) is not here; there is {}", words(is_async), here.join(", "));
            base::Error::new(Kind::Unprocessable, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(import: &str, is_async: bool) -> String {
        Adapter::find(import, is_async).map(|row| row.version).expect_err(import).to_string()
    }

    #[test]
    fn a_version_that_is_not_here_is_told_those_that_are() {
        Adapter::find("wasi:keyvalue/store@0.2.0-draft2", true).expect("is here");
        assert_eq!(
            refusal("wasi:keyvalue/store@0.3.0", false),
            "the import `wasi:keyvalue/store@0.3.0` (synchronous) is not here; there is @0.2.0-draft (synchronous), \
             @0.2.0-draft2 (synchronous), @0.2.0-draft2 (asynchronous)"
        );
        assert!(refusal("wasi:keyvalue/store@0.2.0-draft", true).contains("(asynchronous) is not here"));
        assert!(
            refusal("wasi:keyvalue/readwrite", false)
                .ends_with("wasi:keyvalue/store, wasi:keyvalue/atomics, wasi:keyvalue/batch")
        );
    }

    fn grant(backends: &guest::Backends, bindings: &[(&str, &str)]) -> Arc<Grant> {
        let bindings = bindings.iter().map(|(bucket, backend)| ((*bucket).to_owned(), (*backend).to_owned())).collect();
        Arc::new(Grant {
            tenant: "acme".into(),
            app: "shop".into(),
            module: "cart".into(),
            bindings,
            backends: Arc::clone(backends),
        })
    }

    fn table(kind: &str, options: &str) -> BackendTable {
        BackendTable { kind: kind.to_owned(), options: options.parse().expect("a table") }
    }

    async fn configure(
        previous: Option<&guest::Backends>,
        tables: &[(&str, BackendTable)],
    ) -> Result<guest::Backends, base::Error> {
        let tables = tables.iter().map(|(name, table)| ((*name).to_owned(), table.clone())).collect();
        KeyValue::new().configure(previous.cloned(), &tables, Path::new("")).await
    }

    #[tokio::test]
    async fn bindings_must_name_a_backend() {
        let keyvalue = KeyValue::new();
        let backends = configure(None, &[("sessions", table("memory", ""))]).await.expect("configures");
        let good = [("default", "sessions"), ("own", "memory"), ("kept", "embedded")];
        keyvalue.check(&grant(&backends, &good)).expect("they exist");
        let error = keyvalue.check(&grant(&backends, &[("default", "session")])).expect_err("it does not exist");
        assert_eq!(error.kind, Kind::Unprocessable);
        assert_eq!(
            error.to_string(),
            "the module `cart` binds keyvalue `default` to the backend `session`, which does not exist; the nearest is `sessions`"
        );
    }

    #[tokio::test]
    async fn wrong_tables_are_named() {
        let error = configure(None, &[("carts", table("memory", "x = 1"))]).await.expect_err("an unknown key");
        assert_eq!(error.kind, Kind::Unprocessable);
        assert!(error.to_string().starts_with("[backend.carts]: ") && error.to_string().contains("`x`"), "{error}");
    }

    #[tokio::test]
    async fn a_reload_keeps_connections_whose_table_is_the_same() {
        let tables = [("a", table("memory", "")), ("b", table("memory", ""))];
        let first = configure(None, &tables).await.expect("configures");
        let again = configure(Some(&first), &tables).await.expect("configures");
        assert!(Arc::ptr_eq(&first, &again), "nothing changed");
        let tables = [("a", table("memory", "")), ("b", table("memory", "tenant_max = \"1MiB\""))];
        let after = configure(Some(&first), &tables).await.expect("configures");
        let (before, after) = (of_grant(&grant(&first, &[])), of_grant(&grant(&after, &[])));
        let same = |name: &str| Arc::ptr_eq(&before[name], &after[name]);
        assert!(same("a") && same("memory") && same("embedded") && !same("b"));
    }
}
