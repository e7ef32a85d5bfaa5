//! The file as it is written: every key there is, nothing checked but its type.
//!
//! Texts still hold their `${NAME}`, and each value that can be wrong in more than its type keeps its place in the file.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use toml::{Spanned, Value};

/// A string as written, with its place.
pub(super) type Text = Spanned<String>;

/// The whole of `fornax.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) app: Option<Text>,
    pub(super) tenant: Option<Spanned<TenantKey>>,
    #[serde(default)]
    pub(super) server: Server,
    #[serde(default)]
    pub(super) module: Vec<Module>,
    #[serde(default)]
    pub(super) route: Vec<Spanned<Route>>,
    /// A backend's own keys are not ours to know.
    #[serde(default)]
    pub(super) backend: BTreeMap<Text, BTreeMap<Text, Spanned<Value>>>,
}

/// What the one word `tenant` begins: `tenant = "acme"` or `[tenant.acme]`. TOML allows a file only one of them.
pub(super) enum TenantKey {
    Name(String),
    Quotas(BTreeMap<Text, Tenant>),
}

impl<'de> Deserialize<'de> for TenantKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrQuotas;

        impl<'de> Visitor<'de> for NameOrQuotas {
            type Value = TenantKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a table `[tenant.NAME]`")
            }

            fn visit_str<E>(self, name: &str) -> Result<TenantKey, E> {
                Ok(TenantKey::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TenantKey, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(TenantKey::Quotas)
            }
        }

        deserializer.deserialize_any(NameOrQuotas)
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) listen: Option<Text>,
    pub(super) data: Option<Text>,
    pub(super) grace: Option<Spanned<Value>>,
    pub(super) health: Option<Text>,
    pub(super) metrics: Option<Text>,
    #[serde(default)]
    pub(super) cache: Cache,
    #[serde(default)]
    pub(super) clients: Clients,
    #[serde(default)]
    pub(super) compile: Compile,
    #[serde(default)]
    pub(super) access_log: bool,
    pub(super) modules_loaded: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) trusted_proxies: Vec<Text>,
    pub(super) tls: Option<Tls>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) cert: Text,
    pub(super) key: Text,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cache {
    pub(super) size: Option<Spanned<Value>>,
    pub(super) entries: Option<Spanned<i64>>,
    pub(super) entry: Option<Spanned<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Clients {
    pub(super) first_byte: Option<Spanned<Value>>,
    pub(super) head: Option<Spanned<Value>>,
    pub(super) body_idle: Option<Spanned<Value>>,
    pub(super) write_stall: Option<Spanned<Value>>,
    pub(super) keep_alive: Option<Spanned<Value>>,
    pub(super) target: Option<Spanned<Value>>,
    pub(super) fields: Option<Spanned<Value>>,
    pub(super) field_count: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compile {
    pub(super) upload: Option<Spanned<Value>>,
    pub(super) memory: Option<Spanned<Value>>,
    pub(super) cpu: Option<Spanned<Value>>,
    pub(super) wall: Option<Spanned<Value>>,
    pub(super) queue: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Module {
    pub(super) name: Text,
    pub(super) source: Text,
    pub(super) id: Option<Text>,
    pub(super) tenant: Option<Text>,
    pub(super) entry: Option<Text>,
    pub(super) codec: Option<Text>,
    pub(super) process_input: Option<Text>,
    pub(super) reuse: Option<Spanned<Reuse>>,
    #[serde(default)]
    pub(super) evidence: bool,
    #[serde(default)]
    pub(super) env: BTreeMap<Text, Text>,
    #[serde(default)]
    pub(super) args: Vec<Text>,
    #[serde(default)]
    pub(super) dirs: Vec<Dir>,
    #[serde(default)]
    pub(super) outbound: Vec<Text>,
    /// Interface → the name the guest opens → backend.
    #[serde(default)]
    pub(super) bindings: BTreeMap<Text, BTreeMap<Text, Text>>,
    #[serde(default)]
    pub(super) limits: Limits,
}

/// How many calls an instance serves: the mode alone, or with its bounds.
pub(super) enum Reuse {
    Mode(String),
    Table(ReuseTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReuseTable {
    pub(super) mode: Text,
    pub(super) calls: Option<Spanned<i64>>,
    pub(super) at_once: Option<Spanned<i64>>,
    pub(super) idle: Option<Spanned<Value>>,
}

impl<'de> Deserialize<'de> for Reuse {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ModeOrTable;

        impl<'de> Visitor<'de> for ModeOrTable {
            type Value = Reuse;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`fresh`, `serial`, `concurrent` or a table `{ mode = … }`")
            }

            fn visit_str<E>(self, mode: &str) -> Result<Reuse, E> {
                Ok(Reuse::Mode(mode.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Reuse, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(Reuse::Table)
            }
        }

        deserializer.deserialize_any(ModeOrTable)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dir {
    pub(super) host: Text,
    pub(super) guest: Text,
    pub(super) mode: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) memory: Option<Spanned<Value>>,
    pub(super) cpu: Option<Spanned<Value>>,
    pub(super) wall: Option<Spanned<Value>>,
    pub(super) body: Option<Spanned<Value>>,
    pub(super) buffer: Option<Spanned<Value>>,
    pub(super) stream_idle: Option<Spanned<Value>>,
    pub(super) stream_total: Option<Spanned<Value>>,
    pub(super) outbound_requests: Option<Spanned<i64>>,
    pub(super) outbound_concurrent: Option<Spanned<i64>>,
    pub(super) calls: Option<Spanned<i64>>,
    pub(super) descriptors: Option<Spanned<i64>>,
    pub(super) handles: Option<Spanned<i64>>,
    pub(super) resources: Option<Spanned<i64>>,
    pub(super) host_call: Option<Spanned<Value>>,
    pub(super) fields: Option<Spanned<Value>>,
    pub(super) random: Option<Spanned<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) path: Text,
    pub(super) host: Option<Text>,
    #[serde(default)]
    pub(super) methods: Vec<Text>,
    pub(super) tenant: Option<Text>,
    pub(super) module: Option<Text>,
    pub(super) modules: Option<Spanned<Vec<Target>>>,
    pub(super) chain: Option<Spanned<Vec<Spanned<Link>>>>,
    /// Of a chain: a module has its own.
    pub(super) limits: Option<Spanned<Limits>>,
    pub(super) files: Option<Text>,
    pub(super) page: Option<Text>,
    pub(super) cache: Option<Spanned<RouteCache>>,
    pub(super) description: Option<Text>,
    pub(super) category: Option<Text>,
    pub(super) example: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteCache {
    pub(super) ttl: Spanned<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub(super) name: Text,
    pub(super) weight: Option<Spanned<i64>>,
}

/// A step of a chain: the module's name alone, or with what goes on to the next step.
pub(super) enum Link {
    Name(String),
    Step(Step),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) module: Text,
    pub(super) output: Option<Text>,
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrStep;

        impl<'de> Visitor<'de> for NameOrStep {
            type Value = Link;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a module's name or a table `{ module = … }`")
            }

            fn visit_str<E>(self, name: &str) -> Result<Link, E> {
                Ok(Link::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Link, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(Link::Step)
            }
        }

        deserializer.deserialize_any(NameOrStep)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tenant {
    pub(super) in_flight: Option<Spanned<i64>>,
    pub(super) queue: Option<Spanned<i64>>,
    pub(super) queue_wait: Option<Spanned<Value>>,
    pub(super) memory: Option<Spanned<Value>>,
    pub(super) log_rate: Option<Spanned<Value>>,
}
