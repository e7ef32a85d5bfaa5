//! The seam interfaces plug into.
//!
//! An interface's crate brings a contract, its backends and, in `src/host.rs`, an implementation of [`Interface`]: linked
//! once per published module, opened once per instance. Which functions a module gets is decided by the module's own
//! imports, because packages exist in several shapes under one name and a guest links only if the shape matches.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use base::Error;
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

use crate::State;

/// What a guest may ask for, e.g. `keyvalue`.
pub trait Interface: Send + Sync + 'static {
    /// The word in configuration: `bindings = { <name> = … }`, `[backend.x] interface = "<name>"`.
    fn name(&self) -> &'static str;

    /// The WIT packages it provides, without version, e.g. `wasi:keyvalue`.
    fn packages(&self) -> &'static [&'static str];

    /// Where its session sits in a [`State`]; a constant of its crate.
    fn slot(&self) -> Slot;

    /// Connects the configured backends: once at start, and again at each reload, which may still be given up. So it
    /// changes nothing: what it returns is what grants made from then on hold, and `previous` is what it returned for the
    /// configuration in service. A backend whose table did not change must keep its connection, and where nothing changed
    /// `previous` itself is returned. This is the place for IO; later steps have none.
    fn configure<'a>(
        &'a self,
        previous: Option<Backends>,
        tables: &'a BTreeMap<String, BackendTable>,
        data: &'a Path,
    ) -> Pin<Box<dyn Future<Output = Result<Backends, Error>> + Send + 'a>>;

    /// Checks at publish that every binding of `grant` names a backend it has.
    fn check(&self, grant: &Grant) -> Result<(), Error>;

    /// Adds what the module imports to its linker; once per published module. Must not add what is not imported.
    fn link(&self, linker: &mut Linker<State>, shape: &Shape) -> Result<(), Error>;

    /// Makes the session of one instance, on the request path: cheap and without IO.
    fn open(&self, grant: &Arc<Grant>) -> Session;
}

/// The backends of one interface, connected; only the interface knows what is inside.
pub type Backends = Arc<dyn Any + Send + Sync>;

/// `[backend.NAME]` without its `interface` key.
#[derive(Clone, PartialEq)]
pub struct BackendTable {
    /// The value of `type`.
    pub kind: String,
    /// Everything else; the backend reads it and refuses unknown keys.
    pub options: toml::Table,
}

/// Options may be secrets.
impl fmt::Debug for BackendTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options: Vec<_> = self.options.keys().collect();
        f.debug_struct("BackendTable").field("kind", &self.kind).field("options", &options).finish()
    }
}

/// The permission of one module to use one interface.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Who owns the module, and the data.
    pub tenant: Arc<str>,
    /// The app the module belongs to.
    pub app: Arc<str>,
    /// The module.
    pub module: Arc<str>,
    /// The name the guest opens → the name of a backend.
    pub bindings: BTreeMap<String, String>,
    /// What the bindings lead to.
    pub backends: Backends,
}

/// The interfaces a module may use, each with its permission.
pub(crate) type Granted = Vec<(Arc<dyn Interface>, Arc<Grant>)>;

/// What an interface keeps for one instance.
pub type Session = Box<dyn Any + Send>;

/// The place of an interface's session in a [`State`]. Distinct for each interface; checked when a runtime is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(u8);

impl Slot {
    /// Slots are small numbers, so that a state can keep its sessions in a short list.
    pub const MAX: u8 = 32;

    /// The slot `index`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Slot::MAX`]; at compile time, since slots are constants.
    pub const fn new(index: u8) -> Self {
        assert!(index < Self::MAX, "slots are small numbers");
        Self(index)
    }

    /// The place as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The imports and exports of a component, to choose bindings by.
pub struct Shape<'a> {
    component: &'a Component,
    engine: &'a Engine,
}

impl<'a> Shape<'a> {
    pub(crate) fn new(component: &'a Component, engine: &'a Engine) -> Self {
        Self { component, engine }
    }

    /// Full names of imported interfaces that begin with `prefix`, e.g. `wasi:keyvalue/store@0.2.0-draft2`.
    pub fn imports(&self, prefix: &str) -> Vec<String> {
        self.component
            .component_type()
            .imports(self.engine)
            .map(|(name, _)| name.to_owned())
            .filter(|name| name.starts_with(prefix))
            .collect()
    }

    /// Whether `function` of the imported `interface` is `async` in the guest's WIT; none if it is not imported.
    pub fn is_async(&self, interface: &str, function: &str) -> Option<bool> {
        let ty = self.component.component_type();
        let (_, item) = ty.imports(self.engine).find(|(name, _)| *name == interface)?;
        let ComponentItem::ComponentInstance(instance) = item.ty else { return None };
        let (_, item) = instance.exports(self.engine).find(|(name, _)| *name == function)?;
        match item.ty {
            ComponentItem::ComponentFunc(function) => Some(function.async_()),
            _ => None,
        }
    }
}
