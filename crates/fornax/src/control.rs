//! The control plane: from a configuration to the snapshot in service.
//!
//! It never stands on the road. Everything that takes time or can fail is done before the pointer is swapped, so a reload
//! that fails changes nothing; what did not change is kept as it is, with its calls in flight and its warm instances.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{
    Counts, Digest, Entry, Error, FileRoot, Kind, ModuleVersion, Page, PageKind, Route, RouteTable, Snapshot, Target, Tenant,
    TenantLimits, Weighted,
};
use front::Road;
use guest::{BackendTable, Backends, Directory, Interface, Prepared, Runtime};
use registry::{ARTIFACT_BYTES_MAX, ArtifactStore, Modules};

use crate::config::{self, Config};

type Name = (Arc<str>, Arc<str>);

/// What was published, and from what: the same again is not published again.
#[derive(Clone)]
struct Published {
    from: config::Module,
    /// What its bindings lead to.
    backends: BTreeMap<String, Backends>,
    version: Arc<ModuleVersion>,
}

/// What the registry keeps in the data directory.
pub(crate) struct Stores {
    artifacts: ArtifactStore,
    modules: Modules,
}

impl Stores {
    pub(crate) fn open(data: &Path) -> Result<Self, Error> {
        Ok(Self { artifacts: ArtifactStore::open(data)?, modules: Modules::open(data)? })
    }
}

pub(crate) struct Control {
    runtime: Arc<Runtime>,
    interfaces: Vec<Arc<dyn Interface>>,
    road: Road,
    data: PathBuf,
    artifacts: Arc<ArtifactStore>,
    modules: Modules,
    backends: BTreeMap<String, Backends>,
    published: BTreeMap<Name, Published>,
    tenants: BTreeMap<Arc<str>, Arc<Tenant>>,
    /// Of tenants with a page that shows them.
    counts: BTreeMap<Arc<str>, Arc<Counts>>,
    generation: u64,
}

impl Control {
    /// `stores` are opened first of all: they see to it that no other process has the data directory.
    pub(crate) fn new(stores: Stores, runtime: Runtime, interfaces: Vec<Arc<dyn Interface>>, road: Road, data: PathBuf) -> Self {
        Self {
            runtime: Arc::new(runtime),
            interfaces,
            road,
            artifacts: Arc::new(stores.artifacts),
            modules: stores.modules,
            data,
            backends: BTreeMap::new(),
            published: BTreeMap::new(),
            tenants: BTreeMap::new(),
            counts: BTreeMap::new(),
            generation: 0,
        }
    }

    /// Puts `config` into service, whole or not at all.
    pub(crate) async fn apply(&mut self, config: &Config) -> Result<(), Error> {
        let backends = self.connect_backends(config).await?;
        let tenants = self.next_tenants(config);
        let mut published = BTreeMap::new();
        for module in &config.modules {
            let name: Name = (module.tenant.as_str().into(), module.name.as_str().into());
            let next = self.publish(&name, module, &tenants, &backends).await?;
            published.insert(name, next);
        }
        let counts = self.next_counts(config);
        let routes = config.routes.iter().map(|route| self::route(route, &published, &counts)).collect::<Result<_, _>>()?;
        let routes = RouteTable::build(routes).map_err(|error| unprocessable(error.to_string()))?;
        self.generation += 1;
        let used: Vec<Digest> = published.values().map(|p| p.version.digest).collect();
        self.road.snapshots.swap(Snapshot {
            generation: self.generation,
            routes,
            modules: published.iter().map(|(name, p)| (name.clone(), Arc::clone(&p.version))).collect(),
            tenants: tenants.clone(),
            // A request without a route is nobody's: it is counted where there is no doubt whose page shall show it.
            counts: counts.values().next().filter(|_| counts.len() == 1).cloned(),
        });
        self.road.metrics.reloads.inc();
        self.runtime.retain(&used);
        self.backends = backends;
        self.published = published;
        self.tenants = tenants;
        self.counts = counts;
        Ok(())
    }

    /// What was counted stays, as long as somebody can look.
    fn next_counts(&self, config: &Config) -> BTreeMap<Arc<str>, Arc<Counts>> {
        let shown = config.routes.iter().filter(|route| route.target == config::Target::Page(PageKind::Monitoring));
        let keep_or_make = |route: &config::Route| {
            let tenant: Arc<str> = route.tenant.as_str().into();
            let kept = self.counts.get(&tenant).cloned();
            (tenant, kept.unwrap_or_default())
        };
        shown.map(keep_or_make).collect()
    }

    async fn connect_backends(&self, config: &Config) -> Result<BTreeMap<String, Backends>, Error> {
        for backend in config.backends.values() {
            if !self.interfaces.iter().any(|interface| interface.name() == backend.interface) {
                let known: Vec<_> = self.interfaces.iter().map(|interface| interface.name()).collect();
                return Err(unprocessable(format!(
                    "no interface is called `{}`; this build has {}",
                    backend.interface,
                    known.join(", ")
                )));
            }
        }
        let mut connected = BTreeMap::new();
        for interface in &self.interfaces {
            let of_interface = config.backends.iter().filter(|(_, backend)| backend.interface == interface.name());
            let tables = of_interface
                .map(|(name, backend)| {
                    (name.clone(), BackendTable { kind: backend.kind.clone(), options: backend.options.clone() })
                })
                .collect();
            let previous = self.backends.get(interface.name()).cloned();
            let backends = interface.configure(previous, &tables, &self.data).await?;
            connected.insert(interface.name().to_owned(), backends);
        }
        Ok(connected)
    }

    /// A tenant whose quotas did not change keeps its calls in flight.
    fn next_tenants(&self, config: &Config) -> BTreeMap<Arc<str>, Arc<Tenant>> {
        let named = config.tenants.iter().map(|(name, limits)| (name.as_str(), limits.clone()));
        let owners = config.modules.iter().map(|module| (module.tenant.as_str(), TenantLimits::default()));
        let mut limits: BTreeMap<&str, TenantLimits> = owners.collect();
        limits.extend(named);
        let keep_or_make = |(name, limits): (&str, TenantLimits)| {
            let kept = self.tenants.get(name).filter(|tenant| tenant.limits == limits).cloned();
            (Arc::from(name), kept.unwrap_or_else(|| Arc::new(Tenant::new(name, limits))))
        };
        limits.into_iter().map(keep_or_make).collect()
    }

    async fn publish(
        &mut self,
        name: &Name,
        module: &config::Module,
        tenants: &BTreeMap<Arc<str>, Arc<Tenant>>,
        backends: &BTreeMap<String, Backends>,
    ) -> Result<Published, Error> {
        let at_fault = |error: Error| error.within(&format!("module `{}` ({})", module.name, module.source.display()));
        let source = module.source.clone();
        let (artifact, digest) = blocking(move || read(&source)).await?.map_err(at_fault)?;
        let tenant = &tenants[&name.0];
        let of_module = |(interface, _): &(&String, &Backends)| module.bindings.contains_key(*interface);
        let bound = backends.iter().filter(of_module).map(|(name, set)| (name.clone(), Arc::clone(set))).collect();
        if let Some(known) = self.published.get(name)
            && known.version.digest == digest
            && known.from == *module
            && same_backends(&known.backends, &bound)
            && Arc::ptr_eq(&known.version.tenant, tenant)
        {
            return Ok(known.clone());
        }
        let spec = guest::Module { backends: bound.clone(), ..spec(module).map_err(at_fault)? };
        let (runtime, artifacts) = (Arc::clone(&self.runtime), Arc::clone(&self.artifacts));
        let prepare = move || {
            let prepared = runtime.prepare(&artifact, digest, spec)?;
            artifacts.put(&artifact).map(|_| prepared)
        };
        let Prepared { handler, entries, places } = blocking(prepare).await?.map_err(at_fault)?;
        let registered = self.modules.register(&module.tenant, &module.name, module.id, digest)?;
        let version = ModuleVersion {
            id: registered.id,
            name: Arc::clone(&name.1),
            version: registered.version,
            digest,
            tenant: Arc::clone(tenant),
            app: module.app.as_str().into(),
            limits: module.limits.clone(),
            entries,
            places,
            handler,
            metrics: self.road.metrics.module(&module.tenant, &module.name),
        };
        Ok(Published { from: module.clone(), backends: bound, version: Arc::new(version) })
    }
}

/// Runs what takes long or waits for a disk where it holds up nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(Kind::Internal, "preparing a module failed").caused_by(error))
}

fn read(source: &Path) -> Result<(Vec<u8>, Digest), Error> {
    let artifact = registry::read_artifact(source, ARTIFACT_BYTES_MAX)?;
    registry::kind_of(&artifact)?;
    let digest = Digest::of(&artifact);
    Ok((artifact, digest))
}

fn same_backends(a: &BTreeMap<String, Backends>, b: &BTreeMap<String, Backends>) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
}

fn spec(module: &config::Module) -> Result<guest::Module, Error> {
    let allow = egress::AllowList::parse(&module.outbound).map_err(|error| unprocessable(error.to_string()))?;
    let dirs =
        module.dirs.iter().map(|dir| Directory { host: dir.host.clone(), guest: dir.guest.clone(), writable: dir.writable });
    Ok(guest::Module {
        tenant: module.tenant.as_str().into(),
        app: module.app.as_str().into(),
        name: module.name.as_str().into(),
        env: module.env.clone(),
        args: module.args.clone(),
        dirs: dirs.collect(),
        allow: Arc::new(allow),
        bindings: module.bindings.clone(),
        backends: BTreeMap::new(),
    })
}

fn route(
    route: &config::Route,
    published: &BTreeMap<Name, Published>,
    counts: &BTreeMap<Arc<str>, Arc<Counts>>,
) -> Result<Route, Error> {
    let target = match &route.target {
        config::Target::Modules(targets) => Target::Modules(weighted(route, targets, published)?),
        config::Target::Files(path) => Target::Files(Arc::new(FileRoot {
            path: path.clone(),
            depth: route.path.folder_depth(),
            tenant: route.tenant.as_str().into(),
        })),
        config::Target::Page(kind) => Target::Page(Arc::new(Page { kind: *kind, tenant: route.tenant.as_str().into() })),
    };
    Ok(Route {
        host: route.host.clone(),
        path: route.path.clone(),
        methods: route.methods.clone(),
        target,
        cache_ttl: route.cache_ttl,
        about: route.about.clone(),
        counts: counts.get(route.tenant.as_str()).cloned(),
    })
}

/// The HTTP trigger picks the `http` entry of each module of a route.
fn weighted(
    route: &config::Route,
    targets: &[(String, u32)],
    published: &BTreeMap<Name, Published>,
) -> Result<Vec<Weighted>, Error> {
    let choices = targets.iter().map(|(name, weight)| {
        let key: Name = (route.tenant.as_str().into(), name.as_str().into());
        let module = published
            .get(&key)
            .map(|p| Arc::clone(&p.version))
            .ok_or_else(|| unprocessable(format!("the route `{}` names `{name}`, which is no module", route.path.as_str())))?;
        if !module.entries.contains(&Entry::Http) {
            let has: Vec<_> = module.entries.iter().map(|entry| entry.name()).collect();
            return Err(unprocessable(format!(
                "the route `{}` needs the entry `http` of the module `{name}`, which offers {}",
                route.path.as_str(),
                has.join(", ")
            )));
        }
        Ok(Weighted { module, entry: Entry::Http, weight: *weight })
    });
    choices.collect()
}

fn unprocessable(text: String) -> Error {
    Error::new(Kind::Unprocessable, text)
}
