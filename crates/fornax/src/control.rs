//! The control plane: from a configuration to the snapshot in service.
//!
//! It never stands on the road. Everything that takes time or can fail is done before the pointer is swapped, so a reload
//! that fails changes nothing; what did not change is kept as it is, with its calls in flight and its warm instances.
//! Modules are read and prepared on every processor: a start with a thousand of them is held up by nothing else.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use base::journal::Journal;
use base::{
    Account, Counts, Digest, Entry, Error, FileRoot, Kind, Metrics, ModuleId, ModuleVersion, Page, PageKind, Route, RouteTable,
    Snapshot, Target, Tenant, TenantLimits, Weighted,
};
use front::Road;
use guest::{Artifact, BackendTable, Backends, Directory, Interface, Machine, Prepared, Runtime, Signed, TrustedKey};
use registry::{ArtifactStore, Modules, Registered, Registration};

use crate::config::{self, Config};

type Name = (Arc<str>, Arc<str>);

/// Which bytes modules are, as their digests are written.
pub(crate) type Digests = BTreeMap<Name, String>;

/// What was published, and from what: the same again is not published again.
#[derive(Clone)]
struct Published {
    from: config::Module,
    /// What its bindings lead to.
    backends: BTreeMap<String, Backends>,
    version: Arc<ModuleVersion>,
}

/// A module of a configuration on its way into service.
struct Next {
    module: config::Module,
    /// What is in service, where nothing but its file can have changed.
    known: Option<Published>,
    /// Whether the file is read again.
    anew: bool,
}

/// What the registry keeps in the data directory.
pub(crate) struct Stores {
    artifacts: Arc<ArtifactStore>,
    modules: Modules,
}

impl Stores {
    pub(crate) fn open(data: &Path) -> Result<Self, Error> {
        Ok(Self { artifacts: Arc::new(ArtifactStore::open(data)?), modules: Modules::open(data)? })
    }
}

pub(crate) struct Control {
    runtime: Arc<Runtime>,
    interfaces: Vec<Arc<dyn Interface>>,
    road: Road,
    data: PathBuf,
    artifacts: Arc<ArtifactStore>,
    modules: Modules,
    /// Whose compiled code is taken.
    trusted: Option<TrustedKey>,
    backends: BTreeMap<String, Backends>,
    published: BTreeMap<Name, Published>,
    tenants: BTreeMap<Arc<str>, Arc<Tenant>>,
    machine: Machine,
    /// Of all guests together.
    memory: Arc<Account>,
    /// The configuration in service, and modules that were loaded beside it.
    config: Option<Config>,
    loaded: Vec<config::Module>,
    /// Of tenants with a page that shows them.
    counts: BTreeMap<Arc<str>, Arc<Counts>>,
    generation: u64,
    /// Where a process that may be replaced says which modules have calls in flight.
    journal: Option<Arc<Journal>>,
    /// What the first configuration's modules are, whatever has become of their files since another process read them.
    kept: Arc<Digests>,
}

impl Control {
    /// `stores` are opened first of all: they see to it that no other process has the data directory.
    pub(crate) fn new(
        stores: Stores,
        runtime: Runtime,
        trusted: Option<TrustedKey>,
        interfaces: Vec<Arc<dyn Interface>>,
        road: Road,
        data: PathBuf,
        machine: Machine,
    ) -> Self {
        Self {
            trusted,
            runtime: Arc::new(runtime),
            interfaces,
            road,
            artifacts: stores.artifacts,
            modules: stores.modules,
            data,
            backends: BTreeMap::new(),
            published: BTreeMap::new(),
            tenants: BTreeMap::new(),
            memory: Arc::new(Account::new(machine.guest_memory_bytes(), None)),
            machine,
            config: None,
            loaded: Vec::new(),
            counts: BTreeMap::new(),
            generation: 0,
            journal: None,
            kept: Arc::default(),
        }
    }

    /// The calls of its modules are written down from now on.
    pub(crate) fn watch(&mut self, journal: Option<Arc<Journal>>) {
        self.journal = journal;
    }

    /// The first configuration is that of another process, whose modules had these digests.
    pub(crate) fn replace(&mut self, kept: Digests) {
        self.kept = Arc::new(kept);
    }

    /// What is in service, and which bytes it is.
    pub(crate) fn published(&self) -> Vec<(config::Module, Digest)> {
        self.published.values().map(|published| (published.from.clone(), published.version.digest)).collect()
    }

    /// Modules that were quarantined are called again.
    pub(crate) fn forgive(&self) {
        if let Some(journal) = &self.journal {
            journal.forgive();
            self.road.metrics.modules_quarantined.set(0);
        }
    }

    /// Puts `config` into service, whole or not at all. What was loaded stays beside it.
    pub(crate) async fn apply(&mut self, config: &Config) -> Result<(), Error> {
        let loaded = self.loaded.clone();
        self.put(config, &loaded, None).await?;
        // `[server]` stays what it was at the start.
        let server = self.config.take().map_or_else(|| config.server.clone(), |config| config.server);
        self.config = Some(Config { server, ..config.clone() });
        Ok(())
    }

    /// From now on there are calls.
    pub(crate) fn serve(&self) {
        self.runtime.serve();
    }

    /// `[server]` as it was at the start.
    pub(crate) fn server(&self) -> Option<&config::Server> {
        self.config.as_ref().map(|config| &config.server)
    }

    /// Puts one more module into service, or the new bytes of one that was loaded from the same path.
    pub(crate) async fn load(&mut self, module: config::Module) -> Result<Arc<ModuleVersion>, Error> {
        let Some(config) = self.config.clone() else { return Err(Error::new(Kind::Internal, "nothing is in service yet")) };
        let mut loaded = self.loaded.clone();
        let module = match loaded.iter().find(|known| known.source == module.source) {
            Some(known) => known.clone(),
            None => {
                let module = self.with_free_name(module);
                loaded.push(module.clone());
                module
            }
        };
        self.put(&config, &loaded, Some(&module)).await?;
        self.loaded = loaded;
        let name: Name = (module.tenant.as_str().into(), module.name.as_str().into());
        Ok(Arc::clone(&self.published[&name].version))
    }

    /// Files in different folders may have one name; modules may not. This one is for people: the id goes with the path.
    fn with_free_name(&self, mut module: config::Module) -> config::Module {
        let is_taken =
            |module: &config::Module| self.published.contains_key(&(module.tenant.as_str().into(), module.name.as_str().into()));
        if is_taken(&module) {
            let path = Digest::of(module.source.as_os_str().as_encoded_bytes()).to_string();
            module.name = format!("{}-{}", module.name, &path[..8]);
        }
        module
    }

    /// All of the configuration is read from its files again, or only the module `anew`; others stay as they are, whatever has
    /// become of their files meanwhile.
    async fn put(&mut self, config: &Config, loaded: &[config::Module], anew: Option<&config::Module>) -> Result<(), Error> {
        let same = |a: &config::Module, b: &config::Module| a.tenant == b.tenant && a.name == b.name;
        if let Some(other) = loaded.iter().find(|other| config.modules.iter().any(|module| same(module, other))) {
            let (name, path) = (&other.name, other.source.display());
            return Err(unprocessable(format!(
                "the module `{name}` has the name of the one that was loaded from {path}: give it another"
            )));
        }
        let backends = self.connect_backends(config).await?;
        let tenants = self.next_tenants(config, loaded);
        let modules = config.modules.iter().map(|module| (module, anew.is_none_or(|anew| anew == module)));
        let modules = modules.chain(loaded.iter().map(|module| (module, anew == Some(module))));
        let published = self.publish(modules, &tenants, &backends).await?;
        let counts = self.next_counts(config);
        let routes = config.routes.iter().map(|route| self::route(route, &published, &counts, &self.road.metrics));
        let routes = routes.collect::<Result<_, _>>()?;
        let routes = RouteTable::build(routes).map_err(|error| unprocessable(error.to_string()))?;
        self.generation += 1;
        let used: BTreeSet<Digest> = published.values().map(|p| p.version.digest).collect();
        self.road.snapshots.swap(Snapshot {
            generation: self.generation,
            routes,
            modules: published.iter().map(|(name, p)| (name.clone(), Arc::clone(&p.version))).collect(),
            by_id: published.values().map(|p| (p.version.id, Arc::clone(&p.version))).collect(),
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
        for (module, interface) in config.modules.iter().flat_map(|module| module.bindings.keys().map(move |name| (module, name)))
        {
            if !self.interfaces.iter().any(|known| known.name() == interface) {
                let names = self.interfaces.iter().map(|known| known.name());
                let nearest = names.min_by_key(|name| strsim::damerau_levenshtein(name, interface)).unwrap_or_default();
                return Err(unprocessable(format!(
                    "the module `{}` binds `{interface}`, which is no interface; did you mean `{nearest}`?",
                    module.name
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
    fn next_tenants(&self, config: &Config, loaded: &[config::Module]) -> BTreeMap<Arc<str>, Arc<Tenant>> {
        let named = config.tenants.iter().map(|(name, limits)| (name.as_str(), limits.clone()));
        let owners = config.modules.iter().chain(loaded).map(|module| (module.tenant.as_str(), TenantLimits::default()));
        let mut limits: BTreeMap<&str, TenantLimits> = owners.collect();
        limits.extend(named);
        let memory_bytes_max = self.machine.guest_memory_bytes();
        limits.values_mut().for_each(|limits| limits.memory_bytes = limits.memory_bytes.min(memory_bytes_max));
        let floor = self.machine.tenant_floor_bytes(limits.len());
        let keep_or_make = |(name, limits): (&str, TenantLimits)| {
            let kept = self.tenants.get(name).filter(|tenant| tenant.limits == limits).cloned();
            let tenant = kept.unwrap_or_else(|| Arc::new(Tenant::within(name, limits, Some(Arc::clone(&self.memory)))));
            tenant.memory.set_floor(floor);
            (Arc::from(name), tenant)
        };
        limits.into_iter().map(keep_or_make).collect()
    }

    /// Publishes modules, each with whether its file is read again.
    async fn publish<'a>(
        &mut self,
        modules: impl Iterator<Item = (&'a config::Module, bool)>,
        tenants: &BTreeMap<Arc<str>, Arc<Tenant>>,
        backends: &BTreeMap<String, Backends>,
    ) -> Result<BTreeMap<Name, Published>, Error> {
        let next: Vec<_> = modules.map(|(module, anew)| self.next(module, anew, tenants, backends)).collect();
        let registered: Vec<_> = next.iter().map(|next| (&next.module.tenant, registered_name(&next.module))).collect();
        self.modules.expect(registered.iter().map(|(tenant, name)| (tenant.as_str(), &**name)));
        let (artifacts, kept) = (Arc::clone(&self.artifacts), std::mem::take(&mut self.kept));
        let (adopting, trusted) = (Arc::clone(&self.runtime), self.trusted);
        let read = move |next: Next| {
            let Next { module, known, anew } = next;
            if let Some(known) = known.as_ref().filter(|_| !anew) {
                return Ok(Ok(known.clone()));
            }
            let kept = kept.get(&name_of(&module)).and_then(|digest| artifacts.find(digest));
            let bytes = kept.map_or_else(|| bytes_of(&module.source, &adopting, trusted), Ok);
            let artifact = bytes.and_then(|bytes| keep(&bytes, &artifacts)).map_err(|error| at_fault(&module, error))?;
            Ok(known.filter(|known| known.version.digest == artifact.digest).ok_or((module, artifact)))
        };
        let (kept, read): (Vec<_>, Vec<_>) = on_all_processors(next, read).await?.into_iter().partition(Result::is_ok);
        let mut published: BTreeMap<_, _> = kept.into_iter().flatten().map(|kept| (name_of(&kept.from), kept)).collect();
        let read: Vec<_> = read.into_iter().filter_map(Result::err).collect();

        self.road.gate.enlarge(self.runtime.expect(read.iter().map(|(_, artifact)| artifact))?);
        let (runtime, connected) = (Arc::clone(&self.runtime), backends.clone());
        let prepare = move |(module, artifact): (config::Module, Artifact)| {
            let spec = spec(&module, &connected);
            let prepared = spec.and_then(|spec| runtime.prepare(&artifact, spec)).map_err(|error| at_fault(&module, error))?;
            Ok((module, artifact.digest, prepared))
        };
        let prepared = on_all_processors(read, prepare).await?;
        let registered = self.register(&prepared)?;
        for ((module, digest, prepared), registered) in prepared.into_iter().zip(registered) {
            let watch = |journal: &Arc<Journal>| journal.module(&module.tenant, &module.name);
            let version = ModuleVersion {
                id: registered.id,
                name: module.name.as_str().into(),
                version: registered.version,
                digest,
                tenant: Arc::clone(&tenants[module.tenant.as_str()]),
                app: module.app.as_str().into(),
                limits: module.limits.clone(),
                entries: prepared.entries,
                places: prepared.places,
                handler: prepared.handler,
                metrics: self.road.metrics.module(&module.tenant, &module.name),
                evidence: module.evidence,
                watched: self.journal.as_ref().map(watch).transpose()?,
            };
            let next = Published { backends: bound(&module, backends), from: module, version: Arc::new(version) };
            published.insert(name_of(&next.from), next);
        }
        Ok(published)
    }

    fn next(
        &self,
        module: &config::Module,
        anew: bool,
        tenants: &BTreeMap<Arc<str>, Arc<Tenant>>,
        backends: &BTreeMap<String, Backends>,
    ) -> Next {
        let known = self.published.get(&name_of(module)).filter(|known| {
            known.from == *module
                && same_backends(&known.backends, &bound(module, backends))
                && Arc::ptr_eq(&known.version.tenant, &tenants[module.tenant.as_str()])
        });
        Next { module: module.clone(), known: known.cloned(), anew }
    }

    /// Gives what is prepared its ids and versions.
    fn register(&mut self, prepared: &[(config::Module, Digest, Prepared)]) -> Result<Vec<Registered>, Error> {
        let places_max = self.road.gate.places_max();
        for (module, _, Prepared { places, .. }) in prepared {
            if let Some((places, max)) = places.iter().zip(places_max).find(|(places, max)| *places > max) {
                let text = format!("an instance takes {places} places of the pool, which has {max}: it could never be called");
                return Err(at_fault(module, unprocessable(text)));
            }
        }
        let names: Vec<_> = prepared.iter().map(|(module, ..)| registered_name(module)).collect();
        self.modules.register(prepared.iter().zip(&names).map(|((module, digest, _), name)| Registration {
            tenant: &module.tenant,
            name,
            pinned: module.id,
            digest: *digest,
        }))
    }
}

fn name_of(module: &config::Module) -> Name {
    (module.tenant.as_str().into(), module.name.as_str().into())
}

fn at_fault(module: &config::Module, error: Error) -> Error {
    error.within(&format!("module `{}` ({})", module.name, module.source.display()))
}

/// What a module's bindings lead to.
fn bound(module: &config::Module, backends: &BTreeMap<String, Backends>) -> BTreeMap<String, Backends> {
    let of_module = |(interface, _): &(&String, &Backends)| module.bindings.contains_key(*interface);
    backends.iter().filter(of_module).map(|(name, set)| (name.clone(), Arc::clone(set))).collect()
}

/// What a module's id is kept under: its name, or the path it was loaded from, which is no name since it has slashes. Two paths
/// that are not text differ here, too.
fn registered_name(module: &config::Module) -> Cow<'_, str> {
    match module.loaded {
        false => Cow::Borrowed(&module.name),
        true => Cow::Owned(module.source.as_os_str().as_encoded_bytes().escape_ascii().to_string()),
    }
}

/// Does something with each of many, where it holds up nobody, on as many threads as there are processors. Answers are in order.
///
/// # Errors
///
/// The first in order; what comes behind it may not have been begun.
async fn on_all_processors<T: Send + 'static, R: Send + 'static>(
    all: Vec<T>,
    work: impl Fn(T) -> Result<R, Error> + Send + Sync + 'static,
) -> Result<Vec<R>, Error> {
    let threads = available_parallelism().map_or(1, usize::from).min(all.len());
    let left = Mutex::new(all.into_iter().enumerate());
    let shared = Arc::new((left, AtomicBool::new(false), work));
    let one_thread = || {
        let shared = Arc::clone(&shared);
        tokio::task::spawn_blocking(move || {
            let (left, has_failed, work) = &*shared;
            let mut done = Vec::new();
            while !has_failed.load(Relaxed) {
                let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((at, one)) = next else { break };
                let result = work(one);
                has_failed.fetch_or(result.is_err(), Relaxed);
                done.push((at, result));
            }
            done
        })
    };
    let threads: Vec<_> = (0..threads).map(|_| one_thread()).collect();
    let mut done = Vec::new();
    for thread in threads {
        let failed = |error| Error::new(Kind::Internal, "preparing a module failed").caused_by(error);
        done.extend(thread.await.map_err(failed)?);
    }
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Reads an artifact. Of one that comes with code that is signed by who is trusted, the code is kept.
fn bytes_of(source: &Path, runtime: &Runtime, trusted: Option<TrustedKey>) -> Result<Vec<u8>, Error> {
    if let Some(key) = trusted
        && let Some(signed) = Signed::open(source)?
    {
        let fits = signed.artifact().len() as u64 <= runtime.upload_bytes();
        return if fits { runtime.adopt(signed, key) } else { Err(registry::too_large(source, runtime.upload_bytes())) };
    }
    registry::read_artifact(source, runtime.upload_bytes())
}

/// Keeps the bytes of an artifact, so that they can be compiled at any time.
fn keep(bytes: &[u8], artifacts: &Arc<ArtifactStore>) -> Result<Artifact, Error> {
    registry::kind_of(bytes)?;
    let store = Arc::clone(artifacts);
    let artifact = Artifact::new(Digest::of(bytes), bytes, move |digest| store.read(digest))?;
    artifacts.put(&artifact.digest, bytes)?;
    Ok(artifact)
}

fn same_backends(a: &BTreeMap<String, Backends>, b: &BTreeMap<String, Backends>) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
}

fn spec(module: &config::Module, backends: &BTreeMap<String, Backends>) -> Result<guest::Module, Error> {
    let allow = egress::AllowList::parse(&module.outbound).map_err(|error| unprocessable(error.to_string()))?;
    let dirs =
        module.dirs.iter().map(|dir| Directory { host: dir.host.clone(), guest: dir.guest.clone(), writable: dir.writable });
    Ok(guest::Module {
        tenant: module.tenant.as_str().into(),
        app: module.app.as_str().into(),
        name: module.name.as_str().into(),
        entry: module.entry,
        codec: module.codec.clone(),
        input_at_zero: module.input_at_zero,
        reuse: module.reuse,
        terminal: module.terminal,
        env: module.env.clone(),
        args: module.args.clone(),
        dirs: dirs.collect(),
        allow: Arc::new(allow),
        bindings: module.bindings.clone(),
        backends: bound(module, backends),
    })
}

fn route(
    route: &config::Route,
    published: &BTreeMap<Name, Published>,
    counts: &BTreeMap<Arc<str>, Arc<Counts>>,
    metrics: &Arc<Metrics>,
) -> Result<Route, Error> {
    let target = match &route.target {
        config::Target::Modules(targets) => Target::Modules(weighted(route, targets, published)?),
        config::Target::Chain(chain) => {
            let module = chain_version(route, chain, published, metrics)?;
            Target::Modules(vec![Weighted { module, entry: Entry::Chain, weight: 1 }])
        }
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

/// A chain is called as a module of its own: it has limits, a place, and a line in the metrics.
fn chain_version(
    route: &config::Route,
    chain: &config::Chain,
    published: &BTreeMap<Name, Published>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<ModuleVersion>, Error> {
    let link = |link: &config::Link| {
        let module = Arc::clone(&find(&link.module, route, published)?.version);
        let entry = guest::entry_for_bytes(&module.entries).ok_or_else(|| {
            unprocessable(format!(
                "the route `{}`: the module `{}` has no entry that takes bytes",
                route.path.as_str(),
                link.module
            ))
        })?;
        Ok(guest::Link { module, entry, whole: link.whole })
    };
    let links = chain.links.iter().map(link).collect::<Result<Vec<_>, Error>>()?;
    let names: Vec<_> = chain.links.iter().map(|link| link.module.as_str()).collect();
    let name = names.join("+");
    let tenant = Arc::clone(&links[0].module.tenant);
    let text = format!("{}{links:?}", route.path.as_str());
    let metrics = metrics.module(&tenant.name, &name);
    let evidence = links.iter().any(|link| link.module.evidence);
    let handler = guest::Chain::new(links);
    Ok(Arc::new(ModuleVersion {
        id: ModuleId::random(),
        name: name.into(),
        version: 1,
        digest: Digest::of(text.as_bytes()),
        tenant,
        app: "chain".into(),
        limits: chain.limits.clone(),
        entries: vec![Entry::Chain],
        places: handler.places(),
        handler,
        metrics,
        evidence,
        // Its steps are.
        watched: None,
    }))
}

fn find<'a>(name: &str, route: &config::Route, published: &'a BTreeMap<Name, Published>) -> Result<&'a Published, Error> {
    let key: Name = (route.tenant.as_str().into(), name.into());
    published
        .get(&key)
        .ok_or_else(|| unprocessable(format!("the route `{}` names `{name}`, which is no module", route.path.as_str())))
}

/// The HTTP trigger picks the entry of each module of a route.
fn weighted(
    route: &config::Route,
    targets: &[(String, u32)],
    published: &BTreeMap<Name, Published>,
) -> Result<Vec<Weighted>, Error> {
    let choices = targets.iter().map(|(name, weight)| {
        let module = find(name, route, published)?;
        let entry = http_entry(module).map_err(|text| unprocessable(format!("the route `{}`: {text}", route.path.as_str())))?;
        Ok::<_, Error>(Weighted { module: Arc::clone(&module.version), entry, weight: *weight })
    });
    choices.collect()
}

/// The entry of a module that HTTP requests go to: its HTTP entry, or one they reach through a codec.
fn http_entry(module: &Published) -> Result<Entry, String> {
    let (name, entries) = (&module.from.name, &module.version.entries);
    let has = |entry| entries.contains(&entry);
    // A codec that is named is for the entry it is for, also of a component that has an HTTP entry beside it.
    match &module.from.codec {
        Some(_) if has(Entry::Run) => Ok(Entry::Run),
        _ if has(Entry::Http) => Ok(Entry::Http),
        _ if has(Entry::Process) => Ok(Entry::Process),
        None if has(Entry::Run) && module.from.may_lack_codec => {
            tracing::warn!(module = %name, "a program answers no requests without a codec: start with --codec wasio, cgi or ignis");
            Ok(Entry::Run)
        }
        None if has(Entry::Run) => Err(format!(
            "the module `{name}` is a program, and how a request gets into a program must be said: add `codec = \"wasio\"`, \
             `\"cgi\"` or `\"ignis\"` to it"
        )),
        _ => {
            let has: Vec<_> = entries.iter().map(|entry| entry.name()).collect();
            Err(format!("the module `{name}` has no entry for HTTP requests; it offers {}", has.join(", ")))
        }
    }
}

fn unprocessable(text: String) -> Error {
    Error::new(Kind::Unprocessable, text)
}
