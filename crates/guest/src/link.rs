//! Linkers: what wasmtime ships is linked once per engine; the rest by what a module imports.

use std::sync::{Arc, OnceLock};

use base::{Error, Kind, POOLS};
use wasmtime::Engine;
use wasmtime::component::{Component, HasData, InstancePre, Linker, ResourceTable};

use crate::engine::EngineKind;
use crate::interface::{Grant, Granted, Interface, Shape};
use crate::runtime::Module;
use crate::scan::shown;
use crate::state::State;
use crate::{descriptors, ignis, plugin, preview1};

/// Packages `guest` itself links.
const SHIPPED: [&str; 7] = ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:http", "wasi:io", "wasi:random", "wasi:sockets"];

/// What core modules may import.
const CORE_HOSTS: [&str; 6] = [
    "`wasi_snapshot_preview1`",
    "`host.log`",
    "`env.host_http_request`",
    "`env.host_socket_operation`",
    "`ignis_http.call_host`",
    "`ignis_socket.call_host`",
];

/// The linkers every component's own begins from, one for each engine, once it is needed.
#[derive(Default)]
pub(crate) struct Linkers([OnceLock<Linker<State>>; POOLS]);

impl Linkers {
    fn base(&self, engine: &Engine, kind: EngineKind) -> Result<&Linker<State>, Error> {
        let base = &self.0[kind.pool()];
        if base.get().is_none() {
            let made = linker(engine, kind == EngineKind::Concurrent).map_err(|error| {
                Error::new(Kind::Internal, "the standard interfaces cannot be linked").internal(format!("{error:#}"))
            })?;
            // Another thread may have been faster.
            let _ = base.set(made);
        }
        base.get().ok_or_else(|| Error::new(Kind::Internal, "the standard interfaces cannot be linked"))
    }

    /// Links a core module, function by function.
    pub(crate) fn link_core(&self, module: &wasmtime::Module, io: preview1::Io) -> Result<wasmtime::InstancePre<State>, Error> {
        // All of it: the function is named by one, the types by another.
        let failed = |error: &wasmtime::Error| {
            Error::new(Kind::Unprocessable, format!("the module does not fit what is offered: {error:#}"))
        };
        let mut linker = wasmtime::Linker::new(module.engine());
        // A module may import a function twice.
        linker.allow_shadowing(true);
        for import in module.imports() {
            let (from, name) = (import.module(), import.name());
            let defined = match (from, import.ty().func()) {
                (preview1::MODULE, Some(ty)) => preview1::define(&mut linker, name, ty, io),
                (plugin::MODULE, Some(_)) => plugin::define(&mut linker, name),
                (module, Some(_)) if ignis::MODULES.contains(&module) => ignis::define(&mut linker, module, name),
                _ => Ok(false),
            };
            if !defined.map_err(|error| failed(&error))? {
                return Err(Error::new(
                    Kind::Unprocessable,
                    format!(
                        "the module imports `{}.{}`, which nobody provides; provided are {}",
                        shown(from),
                        shown(name),
                        CORE_HOSTS.join(", ")
                    ),
                ));
            }
        }
        linker.instantiate_pre(module).map_err(|error| failed(&error))
    }

    /// Links `component`, giving it only what it imports and is granted.
    pub(crate) fn link(&self, component: &Component, granted: &Granted, kind: EngineKind) -> Result<InstancePre<State>, Error> {
        let base = self.base(component.engine(), kind)?;
        let shape = Shape::new(component, base.engine());
        let linked = if granted.is_empty() {
            base.instantiate_pre(component)
        } else {
            let mut linker = base.clone();
            for (interface, _) in granted {
                interface.link(&mut linker, &shape)?;
            }
            linker.instantiate_pre(component)
        };
        linked.map_err(|error| {
            Error::new(Kind::Unprocessable, format!("the component does not fit what is offered: {}", error.root_cause()))
                .internal(format!("{error:#}; imports {:?}", shape.imports("")))
        })
    }
}

fn linker(engine: &Engine, concurrent: bool) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    // Streams need the table alone: a guest that uses nothing else shall not have the rest made.
    linker.allow_shadowing(true);
    let table: fn(&mut State) -> &mut ResourceTable = |state| &mut state.component().table;
    wasmtime_wasi_io::bindings::wasi::io::error::add_to_linker::<State, Table>(&mut linker, table)?;
    wasmtime_wasi_io::bindings::wasi::io::poll::add_to_linker::<State, Table>(&mut linker, table)?;
    wasmtime_wasi_io::bindings::wasi::io::streams::add_to_linker::<State, Table>(&mut linker, table)?;
    if concurrent {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    descriptors::add_to_linker(&mut linker, concurrent)?;
    linker.allow_shadowing(false);
    Ok(linker)
}

/// What streams and pollables are kept in.
struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// Finds who provides each import, and whether the module may use it.
///
/// # Errors
///
/// [`Kind::Unprocessable`] for an import nobody provides, and for one that no binding grants; says which binding would.
pub(crate) fn grants(imports: &[String], interfaces: &[Arc<dyn Interface>], module: &Module) -> Result<Granted, Error> {
    let mut granted = Granted::new();
    for import in imports {
        let package = import.split('/').next().unwrap_or_default();
        if SHIPPED.contains(&package) {
            continue;
        }
        let Some(interface) = interfaces.iter().find(|i| i.packages().contains(&package)) else {
            return Err(nobody_provides(import, interfaces));
        };
        if granted.iter().any(|(known, _)| known.slot() == interface.slot()) {
            continue;
        }
        let name = interface.name();
        let Some(bound) = module.bindings.get(name).filter(|bound| !bound.is_empty()) else {
            return Err(Error::new(
                Kind::Unprocessable,
                format!(
                    "the component imports `{}`, and no binding grants it. Add \
                     `bindings = {{ {name} = {{ default = \"embedded\" }} }}` to the module, or name a backend of yours",
                    shown(import),
                ),
            ));
        };
        let Some(backends) = module.backends.get(name) else {
            return Err(Error::new(Kind::Internal, format!("the interface `{name}` was not configured")));
        };
        let grant = Arc::new(Grant {
            tenant: Arc::clone(&module.tenant),
            app: Arc::clone(&module.app),
            module: Arc::clone(&module.name),
            bindings: bound.clone(),
            backends: Arc::clone(backends),
        });
        interface.check(&grant)?;
        granted.push((Arc::clone(interface), grant));
    }
    Ok(granted)
}

fn nobody_provides(import: &str, interfaces: &[Arc<dyn Interface>]) -> Error {
    let mut known: Vec<&str> = SHIPPED.iter().copied().chain(interfaces.iter().flat_map(|i| i.packages()).copied()).collect();
    known.sort_unstable();
    Error::new(
        Kind::Unprocessable,
        format!(
            "the component imports `{}`, which no interface of this server provides. It provides {}",
            shown(import),
            known.join(", ")
        ),
    )
}
