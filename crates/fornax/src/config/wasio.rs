//! A WASIO `config.json`, as it is, read into the same [`Config`] as a `fornax.toml`.
//!
//! Each route becomes a module with the codec `wasio`, with its own mount, which is read-write, and a route to it; the pages
//! that WASIO has are routes, too. What WASIO takes without a word and then does not do — a key it does not know, a path that
//! one of its pages hides, half a mount — is an error here that says where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{About, Limits, PageKind, Pattern, TenantLimits};
use guest::Reuse;

use super::build::{self, CACHE_ENTRIES_MAX, CACHE_TTL_MAX, Checked, GUEST_PATH_HINT};
use super::error::Origin;
use super::json::{Member, Value};
use super::{Cache, Config, ConfigError, DEFAULT_TENANT, Dir, Module, Route, Server};

/// How an HTTP request reaches such a module.
const CODEC: &str = "wasio";

const KEYS: [&str; 6] = ["port", "cache_ttl", "cache_size", "index_page", "monitoring", "routes"];
const ROUTE_KEYS: [&str; 7] = ["wasm_file", "cache", "ttl", "filesystem", "description", "category", "example"];
const MOUNT_KEYS: [&str; 2] = ["mount", "path"];

/// What holds where the file says nothing, or 0.
const PORT: u16 = 8080;
const CACHE_TTL: Duration = Duration::from_secs(300);
const CACHE_ENTRIES: u32 = 1024;

pub(super) fn config(text: &str, file: &Path) -> Checked<Config> {
    let origin = Origin { file, text };
    let absolute = build::absolute(file)?;
    let reader = Reader { origin, folder: absolute.parent().unwrap_or(Path::new("/")) };
    let root = Value::parse(text).map_err(|error| origin.json_error(&error))?;
    let keys = reader.object(root, &KEYS)?;
    let ttl = match keys.get("cache_ttl") {
        Some(value) => reader.seconds(*value, "cache_ttl")?.unwrap_or(CACHE_TTL),
        None => CACHE_TTL,
    };
    let flag = |key| keys.get(key).map_or(Ok(true), |value| reader.boolean(*value));
    let pages = Pages { index: flag("index_page")?, monitoring: flag("monitoring")? };
    let app = build::default_app(&absolute);
    let routes = keys.get("routes").ok_or_else(|| ConfigError::in_file("missing key `routes`", file))?;
    let (modules, mut routes) = reader.routes(*routes, &app, ttl, pages)?;
    routes.extend(pages.routes());
    let port = keys.get("port").map_or(Ok(PORT), |value| reader.port(*value))?;
    let entries = keys.get("cache_size").map_or(Ok(CACHE_ENTRIES), |value| reader.entries(*value))?;
    Ok(Config {
        app,
        server: Server {
            // WASIO serves every address of the machine.
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            cache: Cache { entries, ..Cache::default() },
            access_log: true,
            ..Server::default()
        },
        tenants: BTreeMap::from([(DEFAULT_TENANT.to_owned(), TenantLimits::default())]),
        modules,
        routes,
        backends: BTreeMap::new(),
    })
}

/// Which of the pages there are; `/health` always is.
#[derive(Clone, Copy)]
struct Pages {
    index: bool,
    monitoring: bool,
}

impl Pages {
    /// Path, page, and the key that turns it off.
    fn all(self) -> impl Iterator<Item = (&'static str, PageKind, Option<&'static str>)> {
        [
            (true, "/health", PageKind::Health, None),
            (self.index, "/", PageKind::Index, Some("index_page")),
            (self.monitoring, "/monitoring", PageKind::Monitoring, Some("monitoring")),
            (self.monitoring, "/stats", PageKind::Monitoring, Some("monitoring")),
        ]
        .into_iter()
        .filter(|(there, ..)| *there)
        .map(|(_, path, page, key)| (path, page, key))
    }

    fn routes(self) -> impl Iterator<Item = Route> {
        self.all().map(|(path, page, _)| build::page_route(path, page))
    }
}

struct Reader<'t> {
    origin: Origin<'t>,
    folder: &'t Path,
}

/// The values of an object by their keys, which are known and there once. `null` is as good as none.
type Keys<'t> = BTreeMap<&'static str, Value<'t>>;

impl<'t> Reader<'t> {
    fn wrong(&self, value: Value<'t>, expected: &str) -> ConfigError {
        self.origin.error(value.span(), format!("expected {expected} but found {}", value.kind()))
    }

    fn object(&self, value: Value<'t>, known: &'static [&'static str]) -> Checked<Keys<'t>> {
        let mut keys = Keys::new();
        for Member { key, key_at, value } in value.members().ok_or_else(|| self.wrong(value, "an object"))? {
            let Some(known) = known.iter().find(|known| **known == key) else {
                let all = format!("the keys here are `{}`", known.join("`, `"));
                return Err(self.origin.error(key_at, format!("unknown key `{key}`")).nearest(&key, known.iter().copied(), &all));
            };
            if keys.insert(known, value).is_some() {
                return Err(self.origin.error(key_at, format!("duplicate key `{key}`")));
            }
        }
        keys.retain(|_, value| !value.is_null());
        Ok(keys)
    }

    fn string(&self, value: Value<'t>) -> Checked<String> {
        let text = value.string().ok_or_else(|| self.wrong(value, "a string"))?;
        if text.contains('\0') { Err(self.origin.error(value.span(), "a zero byte in a text")) } else { Ok(text) }
    }

    fn boolean(&self, value: Value<'t>) -> Checked<bool> {
        value.boolean().ok_or_else(|| self.wrong(value, "true or false"))
    }

    fn integer(&self, value: Value<'t>) -> Checked<i64> {
        value.integer().ok_or_else(|| self.wrong(value, "a whole number"))
    }

    /// None where WASIO would take its default.
    fn seconds(&self, value: Value<'t>, key: &str) -> Checked<Option<Duration>> {
        let seconds = self.integer(value)?;
        let Some(ttl) = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs) else {
            return Ok(None);
        };
        if ttl > CACHE_TTL_MAX {
            let cap = humantime::format_duration(CACHE_TTL_MAX);
            return Err(self.origin.error(value.span(), format!("`{key}` over its cap of {cap}")));
        }
        Ok(Some(ttl))
    }

    fn entries(&self, value: Value<'t>) -> Checked<u32> {
        match self.integer(value)? {
            ..=0 => Ok(CACHE_ENTRIES),
            entries => u32::try_from(entries)
                .ok()
                .filter(|entries| *entries <= CACHE_ENTRIES_MAX)
                .ok_or_else(|| self.origin.error(value.span(), format!("`cache_size` over its cap of {CACHE_ENTRIES_MAX}"))),
        }
    }

    fn port(&self, value: Value<'t>) -> Checked<u16> {
        let port = match value.string() {
            Some(text) if text.is_empty() => Some(PORT),
            Some(text) => text.parse().ok(),
            None => u16::try_from(self.integer(value).map_err(|_| self.wrong(value, "a string or a whole number"))?).ok(),
        };
        port.ok_or_else(|| self.origin.error(value.span(), "bad `port`").hint("write a number up to 65535, such as `\"8080\"`"))
    }

    fn routes(&self, value: Value<'t>, app: &str, ttl: Duration, pages: Pages) -> Checked<(Vec<Module>, Vec<Route>)> {
        let members = value.members().ok_or_else(|| self.wrong(value, "an object"))?;
        if members.is_empty() {
            return Err(self
                .origin
                .error(value.span(), "no route")
                .hint("add one, such as `\"/hello\": { \"wasm_file\": \"hello.wasm\" }`"));
        }
        let (mut modules, mut routes) = (Vec::new(), Vec::new());
        let (mut paths, mut names) = (BTreeSet::new(), BTreeSet::new());
        for Member { key, key_at, value } in members {
            let path = Pattern::parse(&key).map_err(|error| self.origin.error(key_at.clone(), error.to_string()))?;
            if !paths.insert(key.clone()) {
                return Err(self.origin.error(key_at, format!("duplicate route `{key}`")));
            }
            self.not_a_page(&key, key_at, pages)?;
            let keys = self.object(value, &ROUTE_KEYS)?;
            let name = build::unique_name(&build::safe_name(key.trim_matches('/'), "root"), &mut names);
            let module = self.module(&keys, value, app, name)?;
            let text = |key| keys.get(key).map_or(Ok(String::new()), |value| self.string(*value));
            let about = About { description: text("description")?, category: text("category")?, example: text("example")? };
            let own = keys.get("ttl").map_or(Ok(None), |value| self.seconds(*value, "ttl"))?;
            let is_cached = keys.get("cache").map_or(Ok(false), |value| self.boolean(*value))?;
            let cache_ttl = is_cached.then_some(own.unwrap_or(ttl));
            routes.push(Route { path, cache_ttl, about, ..build::route_to_all(&module) });
            modules.push(module);
        }
        Ok((modules, routes))
    }

    /// WASIO would answer with its page, and never with the route.
    fn not_a_page(&self, path: &str, at: Range<usize>, pages: Pages) -> Checked<()> {
        let Some((_, _, key)) = pages.all().find(|(page, ..)| *page == path) else { return Ok(()) };
        let error = self.origin.error(at, format!("the route `{path}` is a page of the server's own"));
        Err(match key {
            Some(key) => error.hint(format!("choose another path, or set `{key}` to false")),
            None => error.hint("choose another path"),
        })
    }

    fn module(&self, keys: &Keys<'t>, route: Value<'t>, app: &str, name: String) -> Checked<Module> {
        let file = keys.get("wasm_file").ok_or_else(|| self.origin.error(route.span(), "missing key `wasm_file`"))?;
        let mount = keys.get("filesystem").map_or(Ok(None), |value| self.mount(*value))?;
        Ok(Module {
            tenant: DEFAULT_TENANT.to_owned(),
            app: app.to_owned(),
            name,
            source: self.source(*file)?,
            id: None,
            entry: None,
            input_at_zero: false,
            reuse: Reuse::Fresh,
            evidence: false,
            terminal: false,
            may_lack_codec: false,
            loaded: false,
            codec: Some(CODEC.to_owned()),
            limits: Limits::default(),
            env: Vec::new(),
            args: Vec::new(),
            dirs: mount.into_iter().collect(),
            outbound: Vec::new(),
            bindings: BTreeMap::new(),
        })
    }

    /// Relative to the file.
    fn path(&self, value: Value<'t>) -> Checked<(String, PathBuf)> {
        let text = self.string(value)?;
        if text.is_empty() {
            return Err(self.origin.error(value.span(), "empty path"));
        }
        let path = self.folder.join(&text);
        Ok((text, path))
    }

    fn source(&self, value: Value<'t>) -> Checked<PathBuf> {
        let (text, path) = self.path(value)?;
        build::source(&path).map_err(|what| self.origin.error(value.span(), format!("{what} `{text}`")))?;
        Ok(path)
    }

    /// None where both keys say nothing.
    fn mount(&self, value: Value<'t>) -> Checked<Option<Dir>> {
        let mut keys = self.object(value, &MOUNT_KEYS)?;
        keys.retain(|_, value| value.string().is_none_or(|text| !text.is_empty()));
        let (guest, host) = match (keys.get("mount"), keys.get("path")) {
            (None, None) => return Ok(None),
            (Some(guest), Some(host)) => (*guest, *host),
            (found, _) => {
                let missing = if found.is_none() { "mount" } else { "path" };
                return Err(self.origin.error(value.span(), format!("missing key `{missing}` of `filesystem`")));
            }
        };
        let (text, path) = self.path(host)?;
        let host = build::host_dir(&path).map_err(|what| self.origin.error(host.span(), format!("{what} `{text}`")))?;
        let text = self.string(guest)?;
        let guest = build::guest_path(&text)
            .ok_or_else(|| self.origin.error(guest.span(), format!("bad guest path `{text}`")).hint(GUEST_PATH_HINT))?;
        Ok(Some(Dir { host, guest, writable: true }))
    }
}
