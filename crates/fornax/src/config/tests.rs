//! Files in, values or sentences out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{About, ClientLimits, CompileLimits, Entry, Limits, ModuleId, PageKind, TenantLimits};

use super::{
    Cache, Chain, Config, Link, Module, Route, SingleOptions, Target, parse_dir_flag, parse_env_flag, parse_listen_flag,
};

const EXAMPLE: &str = include_str!("example.toml");

/// Must never be in an error or in `Debug`.
const SECRET: &str = "s3cr3t";

fn env(name: &str) -> Option<String> {
    match name {
        "CART_TOKEN" | "SECRET" => Some(SECRET.to_owned()),
        "REDIS_URL" => Some(format!("redis://:{SECRET}@localhost")),
        "A" => Some("a".to_owned()),
        _ => None,
    }
}

/// A folder with what the files below name.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        for dir in ["data", "public"] {
            fs::create_dir(folder.path().join(dir)).expect("a directory");
        }
        for file in ["cart.wasm", "a.wasm", "b.wasm", "public/logo.svg"] {
            fs::write(folder.path().join(file), b"\0asm").expect("a file");
        }
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().expect("it exists")
    }

    fn read(&self, text: &str) -> Result<Config, String> {
        let file = self.path().join("fornax.toml");
        Config::from_toml(text, &file, &env)
            .map_err(|error| error.to_string().replace(file.to_str().expect("UTF-8"), "fornax.toml"))
    }

    fn good(&self, text: &str) -> Config {
        self.read(text).expect("a good file")
    }
}

/// The modules of a route.
fn targets(route: &Route) -> &[(String, u32)] {
    match &route.target {
        Target::Modules(targets) => targets,
        other => panic!("no modules but {other:?}"),
    }
}

fn text(value: &str) -> String {
    value.to_owned()
}

/// What the example says of compiling.
const COMPILE: CompileLimits = CompileLimits {
    upload_bytes: 32 << 20,
    memory_bytes: 2 << 30,
    cpu: Duration::from_secs(10),
    wall: Duration::from_secs(40),
    queue: 8,
};

/// What the example says of clients.
const CLIENTS: ClientLimits = ClientLimits {
    first_byte: Duration::from_secs(5),
    head: Duration::from_secs(2),
    body_idle: Duration::from_secs(5),
    write_stall: Duration::from_secs(5),
    keep_alive: Duration::from_secs(30),
    target_bytes: 4 << 10,
    fields_bytes: 32 << 10,
    fields: 50,
};

#[test]
fn the_example_has_every_key() {
    let folder = Folder::new();
    let config = folder.good(EXAMPLE);
    let root = folder.path();

    assert_eq!(config.app, "shop");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.data, Some(root.join("fornax-data")));
    assert_eq!(config.server.grace, Duration::from_secs(30));
    assert_eq!(config.server.health.as_deref(), Some("/healthz"));
    assert_eq!(config.server.metrics.as_deref(), Some("/metrics"));
    assert!(config.server.access_log);
    assert_eq!(config.server.trusted_proxies, ["10.0.0.0/8", "::1/128"].map(|block| block.parse().expect("a block")));
    assert_eq!(config.server.modules_loaded, Some(500));
    let tls = config.server.tls.as_ref().expect("two files");
    assert_eq!((&tls.cert, &tls.key), (&root.join("cert.pem"), &root.join("key.pem")));
    assert_eq!(config.server.cache, Cache { size_bytes: 32 << 20, entries: 500, entry_bytes: 256 << 10 });
    assert_eq!((config.server.clients, config.server.compile), (CLIENTS, COMPILE));
    let quotas = TenantLimits {
        in_flight: 64,
        queue: 128,
        queue_wait: Duration::from_millis(500),
        memory_bytes: 4 << 30,
        log_bytes_a_second: 16 << 10,
    };
    assert_eq!(config.tenants, BTreeMap::from([(text("acme"), quotas)]));

    let [cart, next] = config.modules.as_slice() else { panic!("two modules") };
    assert_eq!((cart.tenant.as_str(), cart.app.as_str(), cart.name.as_str()), ("acme", "shop", "cart"));
    assert_eq!(cart.source, root.join("cart.wasm"));
    assert_eq!(cart.id, ModuleId::parse("6f1c1c3e-7d0a-4c5e-9a57-0d8e0a1b2c3d"));
    assert_eq!((cart.entry, cart.codec.as_deref(), cart.input_at_zero), (Some(Entry::Process), Some("text"), true));
    assert_eq!(cart.env, [(text("GREETING"), "hi".into()), (text("TOKEN"), SECRET.into())]);
    assert_eq!(cart.args, ["--currency", "EUR"]);
    assert_eq!(cart.outbound, ["https://api.example.com", "tcp://10.1.2.3:6379"]);
    let dirs: Vec<_> = cart.dirs.iter().map(|dir| (dir.host.clone(), dir.guest.as_str(), dir.writable)).collect();
    assert_eq!(dirs, [(root.join("data"), "/data", true), (root.join("public"), "/public", false)]);
    let bound = [("cache", "memory"), ("default", "sessions"), ("orders", "embedded")].map(|(a, b)| (text(a), text(b)));
    assert_eq!(cart.bindings, BTreeMap::from([(text("keyvalue"), BTreeMap::from(bound))]));
    let limits = Limits {
        cpu: Duration::from_millis(200),
        wall: Duration::from_secs(5),
        stream_idle: Duration::from_secs(10),
        stream_total: Some(Duration::from_secs(120)),
        memory_bytes: 64 << 20,
        body_bytes: 1 << 20,
        buffer_bytes: 2 << 20,
        outbound_requests: 8,
        outbound_concurrent: 4,
        calls: 50,
        descriptors: 32,
        handles: 1024,
        resources: 512,
        host_call_bytes: 4 << 20,
        fields_bytes: 64 << 10,
        random_bytes: 64 << 10,
    };
    assert_eq!(cart.limits, limits);
    assert_eq!((next.id, next.entry, &next.limits), (None, None, &Limits::default()));
    assert!(next.codec.is_none() && !next.input_at_zero);

    let [to_both, to_one, in_sequence, index, folder, file] = config.routes.as_slice() else { panic!("six routes") };
    let (both, one) = ([(text("cart"), 9), (text("cart-next"), 1)], [(text("cart-next"), 1)]);
    assert_eq!((to_both.path.as_str(), to_both.host.as_deref()), ("/cart/*", Some("shop.example.com")));
    assert_eq!((to_both.methods.as_slice(), targets(to_both)), ([http::Method::GET, http::Method::POST].as_slice(), &both[..]));
    assert_eq!((to_one.path.as_str(), to_one.host.as_deref(), targets(to_one)), ("/next/{id}", None, &one[..]));
    assert_eq!((to_both.cache_ttl, to_one.cache_ttl), (None, Some(Duration::from_secs(600))));
    let About { description, category, example } = &to_one.about;
    assert_eq!([description, category, example], ["The cart of tomorrow", "Preview", "/next/7"]);
    let links = [("cart", false), ("cart-next", true)].map(|(module, whole)| Link { module: text(module), whole });
    let limits =
        Limits { wall: Duration::from_secs(2), cpu: Duration::from_millis(300), memory_bytes: u64::MAX, ..Limits::default() };
    assert_eq!(in_sequence.target, Target::Chain(Chain { links: links.into(), limits }));
    assert_eq!((in_sequence.path.as_str(), in_sequence.tenant.as_str()), ("/checkout", "acme"));
    assert_eq!((&index.target, index.methods.as_slice()), (&Target::Page(PageKind::Index), &[http::Method::GET][..]));
    assert_eq!((index.path.as_str(), index.tenant.as_str(), &index.about), ("/", "acme", &About::default()));
    assert_eq!((folder.path.as_str(), &folder.target), ("/static/*", &Target::Files(root.join("public"))));
    assert_eq!((file.path.as_str(), &file.target), ("/logo.svg", &Target::Files(root.join("public/logo.svg"))));

    let sessions = &config.backends["sessions"];
    assert_eq!((sessions.interface.as_str(), sessions.kind.as_str()), ("keyvalue", "redis"));
    let options = format!("pool = {{ names = ['{SECRET}'], size = 4 }}\nurl = 'redis://:{SECRET}@localhost'");
    assert_eq!(sessions.options, toml::from_str(&options).expect("a table"));
    assert!(!format!("{config:?}").contains(SECRET), "{config:?}");
}

#[test]
fn what_is_not_said_has_a_default() {
    let folder = Folder::new();
    let config = folder.good("[[module]]\nname = 'a'\nsource = 'a.wasm'");
    let name = folder.path().file_name().expect("a name").to_string_lossy().trim_start_matches('.').to_owned();
    assert_eq!((config.app, config.server.listen.to_string()), (name, text("127.0.0.1:8080")));
    assert_eq!(config.modules[0].tenant, "default");
    assert_eq!(config.tenants, BTreeMap::from([(text("default"), TenantLimits::default())]));
    let [route] = config.routes.as_slice() else { panic!("one route") };
    assert_eq!((route.path.as_str(), route.tenant.as_str(), targets(route)), ("/*", "default", &[(text("a"), 1)][..]));

    let file = folder.path().join("my shop.toml");
    fs::write(&file, "tenant = '${A}'\n[[module]]\nname = 'a'\nsource = 'a.wasm'").expect("a file");
    let config = Config::from_file(&file, &env).expect("a good file");
    assert_eq!((config.app.as_str(), config.modules[0].tenant.as_str(), config.routes[0].tenant.as_str()), ("my-shop", "a", "a"));
}

#[test]
fn a_name_may_repeat_in_another_tenant() {
    let two = "[[module]]\nname = 'a'\nsource = 'a.wasm'\n[[module]]\nname = 'a'\nsource = 'b.wasm'\ntenant = 'x'\n";
    let config = Folder::new().good(&format!("{two}[[route]]\npath = '/'\nmodule = 'a'\ntenant = 'x'\nhost = '*.Example.COM'"));
    assert_eq!((config.routes[0].tenant.as_str(), config.routes[0].host.as_deref()), ("x", Some("*.example.com")));
    assert_eq!(config.tenants.keys().collect::<Vec<_>>(), ["default", "x"]);
}

#[test]
fn bad_files_are_explained() {
    let folder = Folder::new();
    let mut wrong = Vec::new();
    for (file, expected) in BAD_FILES.iter().chain(BAD_MODULES).chain(BAD_ROUTES).chain(BAD_BACKENDS) {
        let file = file.replace("A_MODULE", "[[module]]\nname = 'a'\nsource = 'a.wasm'");
        let found = folder.read(&file).err().unwrap_or_default();
        if found != *expected {
            wrong.push(format!("{file}\n  expected {expected}\n  found    {found}\n"));
        }
        assert!(!found.contains(SECRET) && !found.contains('\n'), "{found}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const BAD_FILES: &[(&str, &str)] = &[
    ("", "no module in fornax.toml; add `[[module]]` with `name = \"hello\"` and `source = \"hello.wasm\"`"),
    ("app = 'a'\n\nmodul = 1", "unknown key `modul` in fornax.toml at line 3, column 1; did you mean `module`?"),
    (
        "zzz = 1",
        "unknown key `zzz` in fornax.toml at line 1, column 1; the keys here are `app`, `tenant`, `server`, `module`, `route`, `backend`",
    ),
    ("[server]\nlistn = 'x'", "unknown key `listn` in fornax.toml at line 2, column 1; did you mean `listen`?"),
    ("app = ", "string values must be quoted in fornax.toml at line 1, column 7"),
    ("app = 'a'\napp = 'b'", "duplicate key `app` in fornax.toml at line 2, column 1"),
    (
        "tenant = 'a'\n[tenant.a]\nqueue = 1",
        "duplicate key `tenant` in fornax.toml at line 2, column 2; beside `[tenant.NAME]`, name the tenant in each `[[module]]` and `[[route]]`",
    ),
    ("app = 3", "expected a string but found a whole number in fornax.toml at line 1, column 7; put it in quotes"),
    ("app = ['a']", "expected a string but found a list in fornax.toml at line 1, column 7"),
    ("[module]\nname = 'a'", "expected a list but found a table in fornax.toml at line 1, column 1; write `[[module]]`"),
    ("tenant = 3", "expected a string or a table `[tenant.NAME]` but found a whole number in fornax.toml at line 1, column 10"),
    ("app = 'ü' x", "unexpected key or value, expected newline, `#` in fornax.toml at line 1, column 11"),
    (
        "app = '-a'\nA_MODULE",
        "bad name `-a` in fornax.toml at line 1, column 7; a name has 1 to 64 letters, digits, `-`, `_` and `.`, and begins with a letter or a digit",
    ),
    ("app = '${NONE}'\nA_MODULE", "unset variable `NONE` in fornax.toml at line 1, column 7; set it in the environment"),
    ("app = '${A'\nA_MODULE", "`${` without a name and `}` in fornax.toml at line 1, column 7; write `$${` for the text `${`"),
    (
        "[server]\nlisten = '8080'\nA_MODULE",
        "bad listen address `8080` in fornax.toml at line 2, column 10; write an address and a port, such as `127.0.0.1:8080`",
    ),
    (
        "[server]\nlisten = '${SECRET}'\nA_MODULE",
        "bad listen address `${SECRET}` in fornax.toml at line 2, column 10; write an address and a port, such as `127.0.0.1:8080`",
    ),
    (
        "[server]\ngrace = 30\nA_MODULE",
        "`grace` is no duration in fornax.toml at line 2, column 9; write a number and a unit, such as `200ms`, `5s` or `2m`",
    ),
    ("[server]\ncompile = { queue = 1001 }\nA_MODULE", "`queue` not between 0 and 1000 in fornax.toml at line 2, column 21"),
    ("[server]\ncompile = { upload = '1GiB' }\nA_MODULE", "`upload` over its cap of 256 MiB in fornax.toml at line 2, column 22"),
    (
        "[server]\nclients = { idle = '1s' }\nA_MODULE",
        "unknown key `idle` in fornax.toml at line 2, column 13; the keys here are `first_byte`, `head`, `body_idle`, `write_stall`, `keep_alive`, `target`, `fields`, `field_count`",
    ),
    ("[server]\ncompile = { cpu = '10ms' }\nA_MODULE", "`cpu` must be at least 1s in fornax.toml at line 2, column 19"),
    (
        "[server]\ncompile = { memory = '1MiB' }\nA_MODULE",
        "`memory` must be at least 256 MiB in fornax.toml at line 2, column 22",
    ),
    ("[server]\nclients = { head = '10m' }\nA_MODULE", "`head` over its cap of 5m in fornax.toml at line 2, column 20"),
    (
        "[server]\nclients = { keep_alive = '0s' }\nA_MODULE",
        "`keep_alive` must be more than 0 in fornax.toml at line 2, column 26",
    ),
    ("[server]\nclients = { target = '1MiB' }\nA_MODULE", "`target` over its cap of 64 KiB in fornax.toml at line 2, column 22"),
    ("[server]\nclients = { fields = 1 }\nA_MODULE", "`fields` must be at least 8 KiB in fornax.toml at line 2, column 22"),
    (
        "[server]\nclients = { field_count = 1001 }\nA_MODULE",
        "`field_count` not between 16 and 1000 in fornax.toml at line 2, column 27",
    ),
    ("[server]\ngrace = '2h'\nA_MODULE", "`grace` over its cap of 1h in fornax.toml at line 2, column 9"),
    ("[server]\nhealth = 'up'\nA_MODULE", "bad path `up` in fornax.toml at line 2, column 10; write one such as `/healthz`"),
    (
        "[server]\nhealth = '/h'\nmetrics = '/h/ready'\nA_MODULE",
        "`metrics` and `health` share the path `/h/ready` in fornax.toml at line 3, column 11",
    ),
    ("[server]\ndata = ''\nA_MODULE", "empty path `` in fornax.toml at line 2, column 8"),
    (
        "[server]\ntrusted_proxies = [\"10.0.0.1/8\"]\n",
        "bad trusted proxy `10.0.0.1/8` in fornax.toml at line 2, column 20; did you mean `10.0.0.0/8`?",
    ),
    (
        "[server]\ntrusted_proxies = [\"10.0.0.1\", \"proxy.example\"]\n",
        "bad trusted proxy `proxy.example` in fornax.toml at line 2, column 32; write an address or a block, such as `10.1.2.3`, `10.0.0.0/8` or `fd00::/8`",
    ),
    ("[server]\nmodules_loaded = 0\n", "`modules_loaded` not between 1 and 1000000 in fornax.toml at line 2, column 18"),
    ("[tenant.a]\nin_flight = 0\n", "`in_flight` not between 1 and 4294967295 in fornax.toml at line 2, column 13"),
    ("[tenant.a]\nin_flight = 's3cr3t'\n", "expected a whole number but found a string in fornax.toml at line 2, column 13"),
    ("[tenant.a]\nqueue_wait = '1h'\n", "`queue_wait` over its cap of 15m in fornax.toml at line 2, column 14"),
    ("[tenant.a]\nqeue = 1\n", "unknown key `qeue` in fornax.toml at line 2, column 1; did you mean `queue`?"),
];

const BAD_MODULES: &[(&str, &str)] = &[
    ("[[module]]\nsource = 'a.wasm'", "missing key `name` in fornax.toml at line 1, column 1"),
    ("[[module]]\nname = 'a'", "missing key `source` in fornax.toml at line 1, column 1"),
    ("A_MODULE\nsorce = 1", "unknown key `sorce` in fornax.toml at line 4, column 1; did you mean `source`?"),
    ("A_MODULE\nA_MODULE", "duplicate module `a` in fornax.toml at line 5, column 8"),
    ("[[module]]\nname = 'a'\nsource = 'c.wasm'", "missing file `c.wasm` in fornax.toml at line 3, column 10"),
    ("[[module]]\nname = 'a'\nsource = 'data'", "not a file: `data` in fornax.toml at line 3, column 10"),
    (
        "[[module]]\nname = 'a'\nsource = 'https://u:s3cr3t@h/a.wasm'",
        "`source` must be a local file, not `https://`, in fornax.toml at line 3, column 10",
    ),
    (
        "[[module]]\nname = 'a'\nsource = 'oci://ghcr.io/a'",
        "`source` must be a local file, not `oci://`, in fornax.toml at line 3, column 10",
    ),
    ("A_MODULE\nid = 'x'", "bad UUID `x` in fornax.toml at line 4, column 6"),
    (
        "A_MODULE\nid = '6f1c1c3e-7d0a-4c5e-9a57-0d8e0a1b2c3d'\n[[module]]\nname = 'b'\nsource = 'b.wasm'\nid = '6F1C1C3E-7d0a-4c5e-9a57-0d8e0a1b2c3d'",
        "duplicate module id `6F1C1C3E-7d0a-4c5e-9a57-0d8e0a1b2c3d` in fornax.toml at line 8, column 6",
    ),
    ("A_MODULE\nenv = 'TOKEN=s3cr3t'", "expected a table but found a string in fornax.toml at line 4, column 7"),
    (
        "A_MODULE\nenv = { PORT = 80 }",
        "expected a string but found a whole number in fornax.toml at line 4, column 16; put it in quotes",
    ),
    ("A_MODULE\nenv = { 'A=' = '' }", "bad name of an environment variable in fornax.toml at line 4, column 9"),
    ("A_MODULE\nenv = { A = \"${SECRET}\\u0000\" }", "a zero byte in a text in fornax.toml at line 4, column 13"),
    ("A_MODULE\ndirs = [{ host = 'nil', guest = '/d' }]", "missing directory `nil` in fornax.toml at line 4, column 18"),
    ("A_MODULE\ndirs = [{ host = 'a.wasm', guest = '/d' }]", "not a directory: `a.wasm` in fornax.toml at line 4, column 18"),
    (
        "A_MODULE\ndirs = [{ host = 'data', guest = './d' }]",
        "bad guest path `./d` in fornax.toml at line 4, column 34; write a path without `..`, such as `/data` or `.`",
    ),
    (
        "A_MODULE\ndirs = [{ host = 'data', guest = '/d', mode = 'wr' }]",
        "unknown mode `wr` in fornax.toml at line 4, column 47; write `ro` or `rw`",
    ),
    (
        "A_MODULE\ndirs = [{ host = 'data', guest = '/d' }, { host = 'public', guest = '/d/' }]",
        "duplicate guest path `/d/` in fornax.toml at line 4, column 69",
    ),
    ("A_MODULE\nlimits = { memory = '2GiB' }", "`memory` over its cap of 1 GiB in fornax.toml at line 4, column 21"),
    ("A_MODULE\nlimits = { memory = 0 }", "`memory` must be more than 0 in fornax.toml at line 4, column 21"),
    (
        "A_MODULE\nlimits = { memory = 'lots' }",
        "`memory` is no size in fornax.toml at line 4, column 21; write a number and a unit, such as `64MiB`",
    ),
    ("A_MODULE\nlimits = { cpu = '31s' }", "`cpu` over its cap of 30s in fornax.toml at line 4, column 18"),
    ("A_MODULE\nlimits = { cpu = '0s' }", "`cpu` must be more than 0 in fornax.toml at line 4, column 18"),
    ("A_MODULE\nlimits = { wall = '16m' }", "`wall` over its cap of 15m in fornax.toml at line 4, column 19"),
    ("A_MODULE\nlimits = { stream_idle = '2h' }", "`stream_idle` over its cap of 1h in fornax.toml at line 4, column 26"),
    ("A_MODULE\nlimits = { stream_total = '2d' }", "`stream_total` over its cap of 1day in fornax.toml at line 4, column 27"),
    ("A_MODULE\nlimits = { body = '2GiB' }", "`body` over its cap of 1 GiB in fornax.toml at line 4, column 19"),
    (
        "A_MODULE\nlimits = { outbound_requests = 1001 }",
        "`outbound_requests` not between 0 and 1000 in fornax.toml at line 4, column 32",
    ),
    (
        "A_MODULE\nlimits = { outbound_concurrent = -1 }",
        "`outbound_concurrent` not between 0 and 256 in fornax.toml at line 4, column 34",
    ),
];

const BAD_ROUTES: &[(&str, &str)] = &[
    ("A_MODULE\n[[route]]\nmodule = 'a'", "missing key `path` in fornax.toml at line 4, column 1"),
    (
        "A_MODULE\n[[route]]\npath = '/'",
        "missing key `module` in fornax.toml at line 4, column 1; or `files`, for a folder that is served as it is",
    ),
    (
        "A_MODULE\n[[route]]\npath = '/*'\nmodule = 'a'\nfiles = 'public'",
        "both `module` and `files` in fornax.toml at line 7, column 9; keep one of them",
    ),
    ("[[route]]\npath = '/'\npage = 'indx'", "unknown page `indx` in fornax.toml at line 3, column 8; did you mean `index`?"),
    (
        "[[route]]\npath = '/'\npage = 'home'",
        "unknown page `home` in fornax.toml at line 3, column 8; the pages are `health`, `index` and `monitoring`",
    ),
    ("[[route]]\npath = '/*'\nfiles = 'nil'", "missing directory `nil` in fornax.toml at line 3, column 9"),
    ("[[route]]\npath = '/a'\nfiles = 'nil'", "missing file `nil` in fornax.toml at line 3, column 9"),
    (
        "[[route]]\npath = '/a/*'\nfiles = 'a.wasm'",
        "not a directory: `a.wasm` in fornax.toml at line 3, column 9; a path that ends in `/*` serves a folder",
    ),
    (
        "[[route]]\npath = '/*'\nfiles = 'public'\ncache = { ttl = '1s' }",
        "`cache` of a route without a module in fornax.toml at line 4, column 9; it keeps answers of guests; remove it",
    ),
    (
        "A_MODULE\n[[route]]\npath = '/'\nmodule = 'a'\ncache = { ttl = '0s' }",
        "`ttl` must be more than 0 in fornax.toml at line 7, column 17",
    ),
    ("A_MODULE\n[[route]]\npath = '/'\nmodule = 'a'\ncache = {}", "missing key `ttl` in fornax.toml at line 7, column 9"),
    (
        "A_MODULE\n[[route]]\npath = '/'\nmodule = 'a'\ncache = { ttl = '2years' }",
        "`ttl` over its cap of 30days in fornax.toml at line 7, column 17",
    ),
    ("[server]\ncache = { entries = 0 }\nA_MODULE", "`entries` not between 1 and 1000000 in fornax.toml at line 2, column 21"),
    (
        "[server]\ncache = { size = '1KiB', entry = '2KiB' }\nA_MODULE",
        "`entry` over its cap of 1 KiB in fornax.toml at line 2, column 34",
    ),
    (
        "[[route]]\npath = '/a'\nfiles = 'public'",
        "`files` is the folder `public` in fornax.toml at line 3, column 9; let the path end in `/*`, as in `/a/*`",
    ),
    (
        "A_MODULE\n[[route]]\npath = '/'\nmodule = 'a'\nmodules = [{ name = 'a' }]",
        "both `module` and `modules` in fornax.toml at line 7, column 11; keep one of them",
    ),
    ("A_MODULE\n[[route]]\npath = '/'\nmodules = []", "empty list `modules` in fornax.toml at line 6, column 11"),
    (
        "[[module]]\nname = 'hello'\nsource = 'a.wasm'\n[[route]]\npath = '/'\nmodule = 'helo'",
        "unknown module `helo` in fornax.toml at line 6, column 10; did you mean `hello`?",
    ),
    (
        "A_MODULE\n[[route]]\npath = '/'\nmodule = 'xyz'",
        "unknown module `xyz` in fornax.toml at line 6, column 10; declare it as `[[module]]`",
    ),
    (
        "A_MODULE\ntenant = 'x'\n[[route]]\npath = '/'\nmodule = 'a'",
        "unknown module `a` in fornax.toml at line 7, column 10; it has another tenant: name that as `tenant` of the route",
    ),
    (
        "A_MODULE\n[[route]]\npath = '/'\nmodules = [{ name = 'a', weight = 0 }]",
        "`weight` not between 1 and 4294967295 in fornax.toml at line 6, column 35",
    ),
    (
        "A_MODULE\n[[route]]\npath = '/'\nmodules = [{ name = 'a' }, { name = '${A}' }]",
        "duplicate target `${A}` in fornax.toml at line 6, column 37",
    ),
    ("A_MODULE\n[[route]]\npath = 'x'\nmodule = 'a'", "the path `x` must begin with `/` in fornax.toml at line 5, column 8"),
    ("A_MODULE\n[[route]]\npath = '${SECRET}'\nmodule = 'a'", "bad path `${SECRET}` in fornax.toml at line 5, column 8"),
    (
        "A_MODULE\n[[route]]\npath = '/'\nmodule = 'a'\nhost = 'http://x'",
        "bad host `http://x` in fornax.toml at line 7, column 8; write it without scheme and port, such as `example.com` or `*.example.com`",
    ),
    (
        "A_MODULE\n[[route]]\npath = '/'\nmodule = 'a'\nmethods = ['get']",
        "bad method `get` in fornax.toml at line 7, column 12; did you mean `GET`?",
    ),
    (
        "A_MODULE\n[[route]]\npath = '/'\nmodule = 'a'\nmetods = []",
        "unknown key `metods` in fornax.toml at line 7, column 1; did you mean `methods`?",
    ),
];

const BAD_BACKENDS: &[(&str, &str)] = &[
    (
        "A_MODULE\nbindings = { keyvalue = { default = 'sesions' } }\n[backend.sessions]\ninterface = 'keyvalue'\ntype = 'redis'",
        "unknown backend `sesions` in fornax.toml at line 4, column 37; did you mean `sessions`?",
    ),
    (
        "A_MODULE\nbindings = { keyvalue = { default = 'x' } }",
        "unknown backend `x` in fornax.toml at line 4, column 37; declare it as `[backend.NAME]`, or use `embedded` or `memory`",
    ),
    (
        "A_MODULE\nbindings = { keyvalue = { default = 'db' } }\n[backend.db]\ninterface = 'sql'\ntype = 'postgres'",
        "no keyvalue backend: `db` in fornax.toml at line 4, column 37",
    ),
    ("[backend.a]\ntype = 'redis'", "missing key `interface` of backend `a` in fornax.toml at line 1, column 10"),
    ("[backend.a]\ninterface = 'keyvalue'", "missing key `type` of backend `a` in fornax.toml at line 1, column 10"),
    ("[backend.a]\ninterface = 1", "`interface` is no string in fornax.toml at line 2, column 13"),
    (
        "[backend.memory]\ntype = 'redis'",
        "reserved backend name `memory` in fornax.toml at line 1, column 10; that backend is always there; choose another name",
    ),
    (
        "[backend.a]\ninterface = 'keyvalue'\ntype = 'redis'\nurls = ['${SECRET}', '${NONE}']",
        "unset variable `NONE` in fornax.toml at line 4, column 8; set it in the environment",
    ),
];

#[test]
fn too_much_environment_is_refused() {
    let folder = Folder::new();
    let read = |count: usize, bytes: usize| {
        let entries: Vec<_> = (0..count).map(|n| format!("A{n:02} = '{}'", "x".repeat(bytes))).collect();
        folder.read(&format!("[[module]]\nname = 'a'\nsource = 'a.wasm'\n[module.env]\n{}", entries.join("\n")))
    };
    assert_eq!(read(64, 4092).map(|config| config.modules[0].env.len()), Ok(64));
    let too_many = "more than 64 environment variables in module `a` in fornax.toml at line 2, column 8";
    assert_eq!(read(65, 1).map(|_| ()), Err(text(too_many)));
    let too_long = "environment variable over its cap of 4 KiB in fornax.toml at line 5, column 1";
    assert_eq!(read(1, 4093).map(|_| ()), Err(text(too_long)));
}

#[test]
fn files_that_cannot_be_read_are_explained() {
    let folder = Folder::new();
    let root = folder.path();
    fs::write(root.join("binary.toml"), b"\xff\xfe").expect("a file");
    for (file, expected) in [
        ("none.toml", "no configuration file at ROOT/none.toml"),
        ("data", "the configuration file ROOT/data is a directory"),
        ("binary.toml", "the configuration file ROOT/binary.toml is not UTF-8 text"),
    ] {
        let error = Config::from_file(&root.join(file), &env).expect_err(file).to_string();
        assert_eq!(error.replace(root.to_str().expect("UTF-8"), "ROOT"), expected);
    }
}

#[test]
fn one_file_is_a_configuration_too() {
    let options = SingleOptions {
        env: vec![(text("B"), "1".into()), (text("A"), "2".into()), (text("B"), "3".into())],
        args: vec![text("x")],
        outbound: vec![text("https://example.com")],
        ..SingleOptions::default()
    };
    let config = Config::single(Path::new("out/My Module.wasm"), options).expect("good options");
    let [module] = config.modules.as_slice() else { panic!("one module") };
    let Module { tenant, app, name, source, env, bindings, .. } = module;
    assert_eq!((tenant.as_str(), app.as_str(), name.as_str()), ("default", "My-Module", "My-Module"));
    assert!(source.is_absolute() && source.ends_with("out/My Module.wasm"), "{source:?}");
    assert_eq!(*env, [(text("A"), "2".into()), (text("B"), "3".into())]);
    assert_eq!(bindings["keyvalue"]["default"], "embedded");
    let [route] = config.routes.as_slice() else { panic!("one route") };
    assert_eq!((route.path.as_str(), targets(route)[0].0.as_str()), ("/*", "My-Module"));
    assert_eq!(config.tenants.keys().collect::<Vec<_>>(), ["default"]);

    let dir = |guest: &str| parse_dir_flag(&format!("/::{guest}")).expect("a good flag");
    let options = SingleOptions { dirs: vec![dir("/a"), dir("/a/")], ..SingleOptions::default() };
    let error = Config::single(Path::new("a.wasm"), options).expect_err("twice").to_string();
    assert_eq!(error, "two directories at `/a` of the guest");
}

#[test]
fn directory_flags() {
    let folder = Folder::new();
    let root = folder.path();
    let root = root.to_str().expect("UTF-8");
    for (flag, expected) in [
        ("ROOT/data::/d", Ok(("/d", false))),
        ("ROOT/data::/d:ro", Ok(("/d", false))),
        ("ROOT/data/../data/::/d/e/:rw", Ok(("/d/e", true))),
        ("ROOT/data::/", Ok(("/", false))),
        ("ROOT/data", Err("bad directory `ROOT/data`; write `HOST::GUEST`, `HOST::GUEST:ro` or `HOST::GUEST:rw`")),
        ("::/d", Err("bad directory `::/d`; write `HOST::GUEST`, `HOST::GUEST:ro` or `HOST::GUEST:rw`")),
        ("ROOT/data::/d:wr", Err("bad directory `ROOT/data::/d:wr`; write `HOST::GUEST`, `HOST::GUEST:ro` or `HOST::GUEST:rw`")),
        ("ROOT/nil::/d", Err("missing directory `ROOT/nil`")),
        ("ROOT/a.wasm::/d", Err("not a directory: `ROOT/a.wasm`")),
        ("ROOT/data::.", Ok((".", false))),
        ("ROOT/data::fs-tests.dir/:rw", Ok(("fs-tests.dir", true))),
        ("ROOT/data::../d", Err("bad guest path `../d`; write a path without `..`, such as `/data` or `.`")),
        ("ROOT/data::/d/../e", Err("bad guest path `/d/../e`; write a path without `..`, such as `/data` or `.`")),
    ] {
        let found = parse_dir_flag(&flag.replace("ROOT", root)).map_err(|error| error.to_string().replace(root, "ROOT"));
        let found = found.map(|dir| {
            assert_eq!(dir.host, Path::new(root).join("data"));
            (dir.guest, dir.writable)
        });
        assert_eq!(found, expected.map(|(guest, writable)| (text(guest), writable)).map_err(text), "{flag}");
    }
}

#[test]
fn environment_and_listen_flags() {
    assert_eq!(parse_env_flag("A=b=c"), Ok((text("A"), "b=c".into())));
    assert_eq!(parse_env_flag("A="), Ok((text("A"), "".into())));
    let error = parse_env_flag(SECRET).expect_err("no value").to_string();
    assert_eq!(error, "an environment variable without a value; write `NAME=VALUE`");
    assert_eq!(parse_env_flag("=x").expect_err("no name").to_string(), "bad name of an environment variable");

    let listen = |text: &str| parse_listen_flag(text).map(|address| address.to_string()).map_err(|error| error.to_string());
    assert_eq!(listen("localhost:0"), Ok(text("127.0.0.1:0")));
    assert_eq!(listen("[::1]:80"), Ok(text("[::1]:80")));
    for bad in ["", ":80", "localhost", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:65536"] {
        let hint = "write an address and a port, such as `127.0.0.1:8080`";
        assert_eq!(listen(bad), Err(format!("bad listen address `{bad}`; {hint}")));
    }
}
