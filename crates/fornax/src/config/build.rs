//! From the raw file to the checked configuration.
//!
//! Each value is checked where its place is still known. A check that flags need too is a plain function that returns what
//! is wrong as the beginning of a sentence; the place is added by its caller.

mod reuse;
mod route;
mod single;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{About, ClientLimits, CompileLimits, Entry, Limits, ModuleId, PageKind, Pattern, Secret, TenantLimits};
use ipnet::IpNet;
use toml::{Spanned, Value};

pub(super) use self::reuse::reuse_flag;
pub(super) use self::route::CACHE_TTL_MAX;
pub(super) use self::single::{folder, single};

use super::error::Origin;
use super::raw::{self, Text};
use super::units::{self, ExpandError};
use super::{
    BUILT_IN_BACKENDS, Backend, Cache, Chain, Config, ConfigError, DEFAULT_TENANT, Dir, Link, Module, Route, Server, Target,
    TlsFiles,
};

/// Longer than any log column, metric label or key prefix likes, and no name a person types.
const NAME_CHARS_MAX: usize = 64;

/// What a process may get on Linux is far more; this is what fits every instance cheaply.
const ENV_ENTRIES_MAX: usize = 64;

/// Of one `NAME=VALUE`.
const ENV_ENTRY_BYTES_MAX: usize = 4 << 10;

/// Whatever stops us has lost its patience long before.
const GRACE_MAX: Duration = Duration::from_secs(60 * 60);

/// Two lines of the greatest length, so that any can pass.
const LOG_RATE_MIN: u64 = 16 << 10;
/// What a disk takes while it does other things, too.
const LOG_RATE_MAX: u64 = 64 << 20;

/// What one process may keep of answers: the size is memory, and a look at the oldest of a million takes no longer than of a
/// thousand.
const CACHE_BYTES_MAX: u64 = 16 << 30;
pub(super) const CACHE_ENTRIES_MAX: u32 = 1_000_000;

/// Each takes some mappings, of which no process has more.
const MODULES_LOADED_MAX: u32 = 1_000_000;

/// The kernel counts processor time in seconds.
const COMPILE_TIME_MIN: Duration = Duration::from_secs(1);

/// The program itself, and what its allocator begins with.
const COMPILE_MEMORY_MIN: u64 = 256 << 20;

const NAME_HINT: &str = "a name has 1 to 64 letters, digits, `-`, `_` and `.`, and begins with a letter or a digit";
pub(super) const LISTEN_HINT: &str = "write an address and a port, such as `127.0.0.1:8080`";
const DIR_HINT: &str = "write `HOST::GUEST`, `HOST::GUEST:ro` or `HOST::GUEST:rw`";
pub(super) const GUEST_PATH_HINT: &str = "write a path without `..`, such as `/data` or `.`";

pub(super) type Checked<T> = Result<T, ConfigError>;

pub(super) fn config(text: &str, file: &Path, env: &dyn Fn(&str) -> Option<String>) -> Checked<Config> {
    let origin = Origin { file, text };
    let raw: raw::File = toml::from_str(text).map_err(|error| origin.toml_error(&error))?;
    let absolute = absolute(file)?;
    let mut build = Build { origin, env, folder: absolute.parent().unwrap_or(Path::new("/")), tenant: DEFAULT_TENANT.to_owned() };

    let mut tenants = BTreeMap::new();
    match raw.tenant.map(|key| (key.span(), key.into_inner())) {
        None => {}
        Some((at, raw::TenantKey::Name(name))) => build.tenant = build.name(&Spanned::new(at, name))?,
        Some((_, raw::TenantKey::Quotas(quotas))) => tenants = build.tenants(&quotas)?,
    }
    let app = match &raw.app {
        Some(name) => build.name(name)?,
        None => default_app(&absolute),
    };
    let server = build.server(&raw.server)?;
    let backends = build.backends(raw.backend)?;
    if raw.module.is_empty() && raw.route.is_empty() {
        return Err(ConfigError::in_file("no module", file)
            .hint("add `[[module]]` with `name = \"hello\"` and `source = \"hello.wasm\"`"));
    }
    let (modules, known) = build.modules(&app, &raw.module, &backends)?;
    let mut routes = raw.route.iter().map(|route| build.route(route, &known)).collect::<Checked<Vec<_>>>()?;
    if let ([only], []) = (modules.as_slice(), routes.as_slice()) {
        routes.push(route_to_all(only));
    }
    for module in &modules {
        tenants.entry(module.tenant.clone()).or_default();
    }
    Ok(Config { app, server, tenants, modules, routes, backends })
}

pub(super) fn absolute(file: &Path) -> Checked<PathBuf> {
    std::path::absolute(file).map_err(|error| ConfigError::in_file(format!("cannot find the folder of the file ({error})"), file))
}

pub(super) fn dir_flag(text: &str) -> Checked<Dir> {
    let wrong = || ConfigError::new(format!("bad directory `{text}`")).hint(DIR_HINT);
    let (host, guest) = text.split_once("::").filter(|(host, _)| !host.is_empty()).ok_or_else(wrong)?;
    let (guest, writable) = match guest.rsplit_once(':') {
        None => (guest, false),
        Some((guest, "ro")) => (guest, false),
        Some((guest, "rw")) => (guest, true),
        Some(_) => return Err(wrong()),
    };
    Ok(Dir {
        host: host_dir(Path::new(host)).map_err(|what| ConfigError::new(format!("{what} `{host}`")))?,
        guest: guest_path(guest).ok_or_else(|| ConfigError::new(format!("bad guest path `{guest}`")).hint(GUEST_PATH_HINT))?,
        writable,
    })
}

pub(super) fn env_flag(text: &str) -> Checked<(String, String)> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(ConfigError::new("an environment variable without a value").hint("write `NAME=VALUE`"));
    };
    env_entry(name, value).map_err(ConfigError::new)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Resolves where it must; an IPv4 address is preferred, as it is what `127.0.0.1` in a browser or probe means.
pub(super) fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let has_host_and_port = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
    if !text.rsplit_once(':').is_some_and(has_host_and_port) {
        return Err("bad listen address");
    }
    let addresses: Vec<_> = text.to_socket_addrs().map_err(|_| "unknown host in listen address")?.collect();
    let address = addresses.iter().find(|a| a.is_ipv4()).or(addresses.first());
    address.copied().ok_or("unknown host in listen address")
}

/// Modules by tenant and name, with the name as written: what routes may point to, and what errors may show.
type Known<'a> = BTreeMap<(String, String), &'a Text>;

struct Build<'a> {
    origin: Origin<'a>,
    env: &'a dyn Fn(&str) -> Option<String>,
    folder: &'a Path,
    /// Of modules and routes that name none.
    tenant: String,
}

impl Build<'_> {
    /// An error about a text, which it shows as written.
    fn wrong(&self, text: &Text, what: &str) -> ConfigError {
        self.origin.error(text.span(), format!("{what} `{}`", text.get_ref()))
    }

    fn expand(&self, text: &str, at: std::ops::Range<usize>) -> Checked<String> {
        units::expand(text, self.env).map_err(|error| match error {
            ExpandError::Unset(name) => {
                self.origin.error(at, format!("unset variable `{name}`")).hint("set it in the environment")
            }
            ExpandError::NoName => self.origin.error(at, "`${` without a name and `}`").hint("write `$${` for the text `${`"),
        })
    }

    fn text(&self, text: &Text) -> Checked<String> {
        let expanded = self.expand(text.get_ref(), text.span())?;
        if expanded.contains('\0') { Err(self.origin.error(text.span(), "a zero byte in a text")) } else { Ok(expanded) }
    }

    fn name(&self, text: &Text) -> Checked<String> {
        let name = self.text(text)?;
        if is_name(&name) { Ok(name) } else { Err(self.wrong(text, "bad name").hint(NAME_HINT)) }
    }

    fn tenant_of(&self, text: Option<&Text>) -> Checked<String> {
        text.map_or_else(|| Ok(self.tenant.clone()), |text| self.name(text))
    }

    fn whole(&self, value: Option<&Spanned<i64>>, key: &str, range: RangeInclusive<u32>, default: u32) -> Checked<u32> {
        let Some(value) = value else { return Ok(default) };
        u32::try_from(*value.get_ref())
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.origin.error(value.span(), format!("`{key}` not between {} and {}", range.start(), range.end())))
    }

    fn duration(&self, value: Option<&Spanned<Value>>, key: &str, range: RangeInclusive<Duration>) -> Checked<Option<Duration>> {
        let Some(value) = value else { return Ok(None) };
        let read = match value.get_ref() {
            Value::String(text) => units::duration(&self.expand(text, value.span())?),
            _ => None,
        };
        let wrong = |what: String| self.origin.error(value.span(), format!("`{key}` {what}"));
        match read {
            None => Err(wrong("is no duration".to_owned()).hint("write a number and a unit, such as `200ms`, `5s` or `2m`")),
            Some(duration) if duration > *range.end() => {
                Err(wrong(format!("over its cap of {}", humantime::format_duration(*range.end()))))
            }
            Some(duration) if duration < *range.start() => {
                let least = *range.start();
                let is_any = least <= Duration::from_nanos(1);
                Err(wrong(if is_any {
                    "must be more than 0".to_owned()
                } else {
                    format!("must be at least {}", humantime::format_duration(least))
                }))
            }
            read => Ok(read),
        }
    }

    fn size(&self, value: Option<&Spanned<Value>>, key: &str, range: RangeInclusive<u64>, default: u64) -> Checked<u64> {
        let Some(value) = value else { return Ok(default) };
        let read = match value.get_ref() {
            Value::String(text) => units::size_bytes(&self.expand(text, value.span())?),
            Value::Integer(bytes) => u64::try_from(*bytes).ok(),
            _ => None,
        };
        let wrong = |what: String| self.origin.error(value.span(), format!("`{key}` {what}"));
        match read {
            None => Err(wrong("is no size".to_owned()).hint("write a number and a unit, such as `64MiB`")),
            Some(bytes) if bytes > *range.end() => Err(wrong(format!("over its cap of {}", units::size_text(*range.end())))),
            Some(bytes) if bytes < *range.start() && *range.start() > 1 => {
                Err(wrong(format!("must be at least {}", units::size_text(*range.start()))))
            }
            Some(bytes) if bytes < *range.start() => Err(wrong("must be more than 0".to_owned())),
            Some(bytes) => Ok(bytes),
        }
    }

    fn server(&self, raw: &raw::Server) -> Checked<Server> {
        let default = Server::default();
        let health = raw.health.as_ref().map(|path| self.probe_path(path)).transpose()?;
        let metrics = raw.metrics.as_ref().map(|path| self.probe_path(path)).transpose()?;
        if let (Some(health), Some(path), Some(text)) = (&health, &metrics, &raw.metrics)
            && (path == health || path.strip_prefix(health.as_str()) == Some("/ready"))
        {
            return Err(self.wrong(text, "`metrics` and `health` share the path"));
        }
        Ok(Server {
            listen: match &raw.listen {
                Some(text) => listen(&self.text(text)?).map_err(|what| self.wrong(text, what).hint(LISTEN_HINT))?,
                None => default.listen,
            },
            data: raw.data.as_ref().map(|text| self.path(text)).transpose()?,
            grace: self.duration(raw.grace.as_ref(), "grace", Duration::ZERO..=GRACE_MAX)?.unwrap_or(default.grace),
            health,
            metrics,
            cache: self.cache(&raw.cache)?,
            clients: self.clients(&raw.clients)?,
            compile: self.compile(&raw.compile)?,
            access_log: raw.access_log,
            modules_loaded: raw
                .modules_loaded
                .as_ref()
                .map(|number| self.whole(Some(number), "modules_loaded", 1..=MODULES_LOADED_MAX, 0))
                .transpose()?,
            trusted_proxies: raw.trusted_proxies.iter().map(|text| self.proxy(text)).collect::<Checked<_>>()?,
            tls: raw
                .tls
                .as_ref()
                .map(|tls| Ok(TlsFiles { cert: self.path(&tls.cert)?, key: self.path(&tls.key)? }))
                .transpose()?,
        })
    }

    /// An address, or a block of them.
    fn proxy(&self, text: &Text) -> Checked<IpNet> {
        let value = self.text(text)?;
        let block = value.parse::<IpNet>().or_else(|_| value.parse::<IpAddr>().map(|address| address.to_canonical().into()));
        let wrong = || self.wrong(text, "bad trusted proxy");
        match block {
            Ok(block) if block.trunc() != block => Err(wrong().hint(format!("did you mean `{}`?", block.trunc()))),
            Ok(block) => Ok(block),
            Err(_) => Err(wrong().hint("write an address or a block, such as `10.1.2.3`, `10.0.0.0/8` or `fd00::/8`")),
        }
    }

    fn cache(&self, raw: &raw::Cache) -> Checked<Cache> {
        let default = Cache::default();
        let size_bytes = self.size(raw.size.as_ref(), "size", 1..=CACHE_BYTES_MAX, default.size_bytes)?;
        Ok(Cache {
            size_bytes,
            entries: self.whole(raw.entries.as_ref(), "entries", 1..=CACHE_ENTRIES_MAX, default.entries)?,
            entry_bytes: self.size(raw.entry.as_ref(), "entry", 1..=size_bytes, default.entry_bytes.min(size_bytes))?,
        })
    }

    fn clients(&self, raw: &raw::Clients) -> Checked<ClientLimits> {
        let (least, cap, default) = (ClientLimits::LEAST, ClientLimits::CAPS, ClientLimits::default());
        let time = |value: &Option<_>, key, of: fn(&ClientLimits) -> Duration| -> Checked<Duration> {
            Ok(self.duration(value.as_ref(), key, of(&least)..=of(&cap))?.unwrap_or(of(&default)))
        };
        let size = |value: &Option<_>, key, of: fn(&ClientLimits) -> u32| -> Checked<u32> {
            let bytes = self.size(value.as_ref(), key, of(&least).into()..=of(&cap).into(), of(&default).into())?;
            // Under its cap, which is one.
            Ok(u32::try_from(bytes).unwrap_or(u32::MAX))
        };
        Ok(ClientLimits {
            first_byte: time(&raw.first_byte, "first_byte", |limits| limits.first_byte)?,
            head: time(&raw.head, "head", |limits| limits.head)?,
            body_idle: time(&raw.body_idle, "body_idle", |limits| limits.body_idle)?,
            write_stall: time(&raw.write_stall, "write_stall", |limits| limits.write_stall)?,
            keep_alive: time(&raw.keep_alive, "keep_alive", |limits| limits.keep_alive)?,
            target_bytes: size(&raw.target, "target", |limits| limits.target_bytes)?,
            fields_bytes: size(&raw.fields, "fields", |limits| limits.fields_bytes)?,
            fields: self.whole(raw.field_count.as_ref(), "field_count", least.fields..=cap.fields, default.fields)?,
        })
    }

    fn compile(&self, raw: &raw::Compile) -> Checked<CompileLimits> {
        let (cap, default) = (CompileLimits::CAPS, CompileLimits::default());
        let time = |value: &Option<_>, key, of: fn(&CompileLimits) -> Duration| -> Checked<Duration> {
            Ok(self.duration(value.as_ref(), key, COMPILE_TIME_MIN..=of(&cap))?.unwrap_or(of(&default)))
        };
        Ok(CompileLimits {
            upload_bytes: self.size(raw.upload.as_ref(), "upload", 1..=cap.upload_bytes, default.upload_bytes)?,
            memory_bytes: self.size(
                raw.memory.as_ref(),
                "memory",
                COMPILE_MEMORY_MIN..=cap.memory_bytes,
                default.memory_bytes,
            )?,
            cpu: time(&raw.cpu, "cpu", |limits| limits.cpu)?,
            wall: time(&raw.wall, "wall", |limits| limits.wall)?,
            queue: self.whole(raw.queue.as_ref(), "queue", 0..=cap.queue, default.queue)?,
        })
    }

    /// A path that only ever means itself, so it needs no place in the route table.
    fn probe_path(&self, text: &Text) -> Checked<String> {
        let path = self.text(text)?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
        if path.len() > 1 && path.starts_with('/') && !path.ends_with('/') && path.chars().all(is_plain) {
            Ok(path)
        } else {
            Err(self.wrong(text, "bad path").hint("write one such as `/healthz`"))
        }
    }

    /// Relative to the file; nothing of it need exist.
    fn path(&self, text: &Text) -> Checked<PathBuf> {
        let path = self.text(text)?;
        if path.is_empty() { Err(self.wrong(text, "empty path")) } else { Ok(self.folder.join(path)) }
    }

    fn tenants(&self, raw: &BTreeMap<Text, raw::Tenant>) -> Checked<BTreeMap<String, TenantLimits>> {
        let default = TenantLimits::default();
        let one = |(name, raw): (&Text, &raw::Tenant)| {
            let limits = TenantLimits {
                in_flight: self.whole(raw.in_flight.as_ref(), "in_flight", 1..=u32::MAX, default.in_flight)?,
                queue: self.whole(raw.queue.as_ref(), "queue", 0..=u32::MAX, default.queue)?,
                // No call waits longer than any may run.
                queue_wait: self
                    .duration(raw.queue_wait.as_ref(), "queue_wait", Duration::ZERO..=Limits::CAPS.wall)?
                    .unwrap_or(default.queue_wait),
                memory_bytes: self.size(raw.memory.as_ref(), "memory", 1..=u64::MAX, default.memory_bytes)?,
                log_bytes_a_second: self.size(
                    raw.log_rate.as_ref(),
                    "log_rate",
                    LOG_RATE_MIN..=LOG_RATE_MAX,
                    default.log_bytes_a_second,
                )?,
            };
            Ok((self.key(name)?, limits))
        };
        raw.iter().map(one).collect()
    }

    /// The NAME in `[tenant.NAME]` and `[backend.NAME]`, where variables are not replaced.
    fn key(&self, name: &Text) -> Checked<String> {
        if is_name(name.get_ref()) { Ok(name.get_ref().clone()) } else { Err(self.wrong(name, "bad name").hint(NAME_HINT)) }
    }

    fn backends(&self, raw: BTreeMap<Text, BTreeMap<Text, Spanned<Value>>>) -> Checked<BTreeMap<String, Backend>> {
        let mut backends = BTreeMap::new();
        for (name, mut options) in raw {
            let key = self.key(&name)?;
            if BUILT_IN_BACKENDS.contains(&key.as_str()) {
                return Err(self.wrong(&name, "reserved backend name").hint("that backend is always there; choose another name"));
            }
            let mut required = |key: &str| match options.remove(key).map(|value| (value.span(), value.into_inner())) {
                Some((at, Value::String(text))) => self.name(&Spanned::new(at, text)),
                Some((at, _)) => Err(self.origin.error(at, format!("`{key}` is no string"))),
                None => Err(self.origin.error(name.span(), format!("missing key `{key}` of backend `{}`", name.get_ref()))),
            };
            let (interface, kind) = (required("interface")?, required("type")?);
            let mut table = toml::Table::new();
            for (option, mut value) in options {
                let at = value.span();
                self.expand_all(value.get_mut(), &at)?;
                table.insert(option.into_inner(), value.into_inner());
            }
            backends.insert(key, Backend { interface, kind, options: table });
        }
        Ok(backends)
    }

    fn expand_all(&self, value: &mut Value, at: &std::ops::Range<usize>) -> Checked<()> {
        match value {
            Value::String(text) => *text = self.expand(text, at.clone())?,
            Value::Array(values) => values.iter_mut().try_for_each(|value| self.expand_all(value, at))?,
            Value::Table(table) => table.iter_mut().try_for_each(|(_, value)| self.expand_all(value, at))?,
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
        }
        Ok(())
    }

    fn modules<'r>(
        &self,
        app: &str,
        raw: &'r [raw::Module],
        backends: &BTreeMap<String, Backend>,
    ) -> Checked<(Vec<Module>, Known<'r>)> {
        let (mut modules, mut known, mut ids) = (Vec::new(), Known::new(), BTreeSet::new());
        for raw in raw {
            let module = self.module(app, raw, backends)?;
            if known.insert((module.tenant.clone(), module.name.clone()), &raw.name).is_some() {
                return Err(self.wrong(&raw.name, "duplicate module"));
            }
            if let (Some(id), Some(text)) = (module.id, &raw.id)
                && !ids.insert(id)
            {
                return Err(self.wrong(text, "duplicate module id"));
            }
            modules.push(module);
        }
        Ok((modules, known))
    }

    fn module(&self, app: &str, raw: &raw::Module, backends: &BTreeMap<String, Backend>) -> Checked<Module> {
        let id = raw.id.as_ref().map(|text| ModuleId::parse(&self.text(text)?).ok_or_else(|| self.wrong(text, "bad UUID")));
        let mut guests = BTreeSet::new();
        let dirs = raw.dirs.iter().map(|raw| {
            let dir = self.dir(raw)?;
            if guests.insert(dir.guest.clone()) { Ok(dir) } else { Err(self.wrong(&raw.guest, "duplicate guest path")) }
        });
        Ok(Module {
            tenant: self.tenant_of(raw.tenant.as_ref())?,
            app: app.to_owned(),
            name: self.name(&raw.name)?,
            source: self.source(&raw.source)?,
            id: id.transpose()?,
            entry: raw.entry.as_ref().map(|text| self.entry(text)).transpose()?,
            codec: raw.codec.as_ref().map(|text| self.text(text)).transpose()?,
            input_at_zero: self.input_at_zero(raw.process_input.as_ref())?,
            reuse: self.reuse(raw.reuse.as_ref())?,
            evidence: raw.evidence,
            terminal: false,
            may_lack_codec: false,
            loaded: false,
            limits: self.limits(&raw.limits)?,
            env: self.environment(raw)?,
            args: raw.args.iter().map(|text| self.text(text)).collect::<Checked<_>>()?,
            dirs: dirs.collect::<Checked<_>>()?,
            outbound: raw.outbound.iter().map(|text| self.text(text)).collect::<Checked<_>>()?,
            bindings: self.bindings(&raw.bindings, backends)?,
        })
    }

    fn entry(&self, text: &Text) -> Checked<Entry> {
        let name = self.text(text)?;
        entry(&name).ok_or_else(|| unknown_entry(self.wrong(text, "unknown entry"), text.get_ref()))
    }

    fn input_at_zero(&self, text: Option<&Text>) -> Checked<bool> {
        match text.map(|text| self.text(text)).transpose()?.as_deref() {
            None => Ok(false),
            Some(OFFSET_ZERO) => Ok(true),
            Some(_) => {
                let hint = format!("write `{OFFSET_ZERO}`, or leave the key out");
                Err(self.wrong(text.expect("there is one"), "unknown place").hint(hint))
            }
        }
    }

    fn source(&self, text: &Text) -> Checked<PathBuf> {
        let path = self.path(text)?;
        // An address may hold a password: only its scheme is shown.
        if let Some((scheme, _)) = text.get_ref().split_once("://") {
            return Err(self.origin.error(text.span(), format!("`source` must be a local file, not `{scheme}://`,")));
        }
        source(&path).map_err(|what| self.wrong(text, &what))?;
        Ok(path)
    }

    fn environment(&self, raw: &raw::Module) -> Checked<Vec<(String, Secret)>> {
        if raw.env.len() > ENV_ENTRIES_MAX {
            return Err(self.wrong(&raw.name, &format!("{} in module", too_many_entries())));
        }
        let one = |(name, value): (&Text, &Text)| {
            let expanded = self.text(value)?;
            env_entry(name.get_ref(), &expanded).map_err(|what| self.origin.error(name.span(), what))?;
            Ok((name.get_ref().clone(), expanded.into()))
        };
        raw.env.iter().map(one).collect()
    }

    fn dir(&self, raw: &raw::Dir) -> Checked<Dir> {
        Ok(Dir {
            host: host_dir(&self.path(&raw.host)?).map_err(|what| self.wrong(&raw.host, &what))?,
            guest: guest_path(&self.text(&raw.guest)?)
                .ok_or_else(|| self.wrong(&raw.guest, "bad guest path").hint(GUEST_PATH_HINT))?,
            writable: match &raw.mode {
                None => false,
                Some(mode) => match self.text(mode)?.as_str() {
                    "ro" => false,
                    "rw" => true,
                    _ => return Err(self.wrong(mode, "unknown mode").hint("write `ro` or `rw`")),
                },
            },
        })
    }

    fn limits(&self, raw: &raw::Limits) -> Checked<Limits> {
        let (cap, default) = (Limits::CAPS, Limits::default());
        let time = |value: &Option<_>, key, cap| self.duration(value.as_ref(), key, Duration::from_nanos(1)..=cap);
        let size = |value: &Option<_>, key, least, of: fn(&Limits) -> u64| {
            self.size(value.as_ref(), key, least..=of(&cap), of(&default))
        };
        // Under its cap, which is one.
        let few_bytes = |value: &Option<_>, key, of: fn(&Limits) -> u64| -> Checked<u32> {
            Ok(u32::try_from(size(value, key, 1, of)?).unwrap_or(u32::MAX))
        };
        let count = |value: &Option<Spanned<i64>>, key, least, of: fn(&Limits) -> u32| {
            self.whole(value.as_ref(), key, least..=of(&cap), of(&default))
        };
        Ok(Limits {
            cpu: time(&raw.cpu, "cpu", cap.cpu)?.unwrap_or(default.cpu),
            wall: time(&raw.wall, "wall", cap.wall)?.unwrap_or(default.wall),
            stream_idle: time(&raw.stream_idle, "stream_idle", cap.stream_idle)?.unwrap_or(default.stream_idle),
            stream_total: time(&raw.stream_total, "stream_total", cap.stream_total.unwrap_or(Duration::MAX))?
                .or(default.stream_total),
            memory_bytes: size(&raw.memory, "memory", 1, |limits| limits.memory_bytes)?,
            body_bytes: size(&raw.body, "body", 0, |limits| limits.body_bytes)?,
            buffer_bytes: size(&raw.buffer, "buffer", 1, |limits| limits.buffer_bytes)?,
            outbound_requests: count(&raw.outbound_requests, "outbound_requests", 0, |limits| limits.outbound_requests)?,
            outbound_concurrent: count(&raw.outbound_concurrent, "outbound_concurrent", 0, |limits| limits.outbound_concurrent)?,
            calls: count(&raw.calls, "calls", 1, |limits| limits.calls)?,
            descriptors: count(&raw.descriptors, "descriptors", 0, |limits| limits.descriptors)?,
            handles: count(&raw.handles, "handles", 1, |limits| limits.handles)?,
            resources: count(&raw.resources, "resources", 1, |limits| limits.resources)?,
            host_call_bytes: few_bytes(&raw.host_call, "host_call", |limits| limits.host_call_bytes.into())?,
            fields_bytes: few_bytes(&raw.fields, "fields", |limits| limits.fields_bytes.into())?,
            random_bytes: few_bytes(&raw.random, "random", |limits| limits.random_bytes.into())?,
        })
    }

    fn bindings(
        &self,
        raw: &BTreeMap<Text, BTreeMap<Text, Text>>,
        backends: &BTreeMap<String, Backend>,
    ) -> Checked<BTreeMap<String, BTreeMap<String, String>>> {
        let one = |interface: &str, (opened, backend): (&Text, &Text)| {
            let name = self.text(backend)?;
            match backends.get(&name) {
                _ if BUILT_IN_BACKENDS.contains(&name.as_str()) => {}
                Some(known) if known.interface == interface => {}
                Some(_) => return Err(self.wrong(backend, &format!("no {interface} backend:"))),
                None => {
                    let known = backends.keys().map(String::as_str).chain(BUILT_IN_BACKENDS);
                    let hint = "declare it as `[backend.NAME]`, or use `embedded` or `memory`";
                    return Err(self.wrong(backend, "unknown backend").nearest(backend.get_ref(), known, hint));
                }
            }
            Ok((opened.get_ref().clone(), name))
        };
        raw.iter()
            .map(|(interface, names)| {
                let interface = interface.get_ref();
                Ok((interface.clone(), names.iter().map(|pair| one(interface, pair)).collect::<Checked<_>>()?))
            })
            .collect()
    }
}

/// Entries a configuration may name: those a trigger of this server can call.
const ENTRIES: [Entry; 3] = [Entry::Http, Entry::Run, Entry::Process];

/// The value of `process_input` for plugins that read their input at address 0.
const OFFSET_ZERO: &str = "offset-zero";

pub(super) fn entry(name: &str) -> Option<Entry> {
    ENTRIES.into_iter().find(|entry| entry.name() == name)
}

pub(super) fn unknown_entry(error: ConfigError, word: &str) -> ConfigError {
    let names = ENTRIES.map(Entry::name);
    error.nearest(word, names, &format!("write one of `{}`", names.join("`, `")))
}

fn is_name(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= NAME_CHARS_MAX && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_inner)
}

/// Makes a name of any text.
pub(super) fn safe_name(text: &str, otherwise: &str) -> String {
    let safe = text.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' });
    let name: String = safe.skip_while(|c| !c.is_ascii_alphanumeric()).take(NAME_CHARS_MAX).collect();
    if name.is_empty() { otherwise.to_owned() } else { name }
}

/// Adds a number to a name that is taken.
pub(super) fn unique_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2..).map(|number| {
        let number = format!("-{number}");
        format!("{}{number}", &name[..name.len().min(NAME_CHARS_MAX - number.len())])
    });
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name));
    let free = free.expect("there are more numbers than names");
    taken.insert(free.clone());
    free
}

/// The folder's name for a file that is called like every other, else the file's own.
pub(super) fn default_app(file: &Path) -> String {
    let name = if file.file_name().is_some_and(|name| name == "fornax.toml" || name == "config.json") {
        file.parent().and_then(Path::file_name)
    } else {
        file.file_stem()
    };
    safe_name(name.unwrap_or_default().to_string_lossy().as_ref(), "app")
}

pub(super) fn route_to_all(module: &Module) -> Route {
    Route {
        tenant: module.tenant.clone(),
        host: None,
        path: Pattern::parse("/*").expect("a pattern"),
        methods: Vec::new(),
        target: Target::Modules(vec![(module.name.clone(), 1)]),
        cache_ttl: None,
        about: About::default(),
    }
}

pub(super) fn page_route(path: &str, page: PageKind) -> Route {
    Route {
        tenant: DEFAULT_TENANT.to_owned(),
        host: None,
        path: Pattern::parse(path).expect("a pattern"),
        methods: vec![http::Method::GET],
        target: Target::Page(page),
        cache_ttl: None,
        about: About::default(),
    }
}

fn too_many_entries() -> String {
    format!("more than {ENV_ENTRIES_MAX} environment variables")
}

/// What is wrong with one variable of a guest's environment; never its value.
fn env_entry(name: &str, value: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err("bad name of an environment variable".to_owned());
    }
    if value.contains('\0') {
        return Err(format!("a zero byte in the environment variable `{name}`"));
    }
    if name.len() + 1 + value.len() > ENV_ENTRY_BYTES_MAX {
        return Err(format!("environment variable over its cap of {}", units::size_text(ENV_ENTRY_BYTES_MAX as u64)));
    }
    Ok(())
}

/// Says what is wrong with an artifact's path, if anything.
pub(super) fn source(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err("not a file:".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("missing file".to_owned()),
        Err(error) => Err(format!("cannot read ({}) file", error.kind())),
    }
}

/// Follows symbolic links now, so that what the operator named is what the guest gets.
pub(super) fn host_dir(path: &Path) -> Result<PathBuf, String> {
    match path.canonicalize() {
        Ok(path) if path.is_dir() => Ok(path),
        Ok(_) => Err("not a directory:".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("missing directory".to_owned()),
        Err(error) => Err(format!("cannot open ({}) directory", error.kind())),
    }
}

/// Without a slash at the end, unless it is the root. A relative path is for programs that look for `.`, or for what they have open
/// by its very name.
pub(super) fn guest_path(text: &str) -> Option<String> {
    let path = text.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(text);
    let inner = path.strip_prefix('/').unwrap_or(path);
    let is_plain = matches!(path, "/" | ".") || inner.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (is_plain && !path.contains('\0')).then(|| path.to_owned())
}
