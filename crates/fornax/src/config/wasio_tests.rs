//! WASIO's configuration in, values or sentences out.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use base::{About, PageKind};

use super::{Config, Target};

/// A folder with what the files below name.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        for dir in ["data", "instruments"] {
            fs::create_dir(folder.path().join(dir)).expect("a directory");
        }
        for file in ["hello_world", "wiki"] {
            fs::write(folder.path().join("instruments").join(file).with_extension("wasm"), b"\0asm").expect("a file");
        }
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().expect("it exists")
    }

    fn read(&self, text: &str) -> Result<Config, String> {
        let file = self.path().join("config.json");
        Config::from_wasio(text, &file).map_err(|error| error.to_string().replace(file.to_str().expect("UTF-8"), "config.json"))
    }
}

#[test]
fn every_key_is_read() {
    let folder = Folder::new();
    let text = r#"{
      "port": "9090", "cache_ttl": 60, "cache_size": 50, "index_page": true, "monitoring": true,
      "routes": {
        "/hello_world": { "wasm_file": "instruments/hello_world.wasm", "cache": true, "ttl": 600,
          "description": "Says \"hello\"", "category": "Basic", "example": "?name=Alice" },
        "/wiki": { "wasm_file": "./instruments/wiki.wasm", "filesystem": { "mount": "/wiki", "path": "./data" } },
        "/a/b": { "wasm_file": "instruments/wiki.wasm", "cache": true, "ttl": 0 },
        "/a-b": { "wasm_file": "instruments/wiki.wasm", "cache": false, "ttl": 120, "filesystem": null }
      }
    }"#;
    let config = folder.read(text).expect("a good file");
    let root = folder.path();
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:9090");
    assert_eq!((config.server.cache.entries, config.server.access_log, config.server.health.as_deref()), (50, true, None));
    assert_eq!(config.tenants.keys().collect::<Vec<_>>(), ["default"]);

    let names: Vec<_> = config.modules.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(names, ["hello_world", "wiki", "a-b", "a-b-2"]);
    assert!(config.modules.iter().all(|module| module.codec.as_deref() == Some("wasio")));
    assert_eq!(config.modules[0].source, root.join("instruments/hello_world.wasm"));
    assert!(config.modules[0].dirs.is_empty());
    let [dir] = config.modules[1].dirs.as_slice() else { panic!("one mount") };
    assert_eq!((dir.host.clone(), dir.guest.as_str(), dir.writable), (root.join("data"), "/wiki", true));

    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let routes: Vec<_> = config.routes.iter().map(|route| (route.path.as_str(), &route.target, route.cache_ttl)).collect();
    let to = |name: &str| Target::Modules(vec![(name.to_owned(), 1)]);
    let pages = [PageKind::Health, PageKind::Index, PageKind::Monitoring].map(Target::Page);
    assert_eq!(
        routes,
        [
            ("/hello_world", &to("hello_world"), seconds(600)),
            ("/wiki", &to("wiki"), None),
            ("/a/b", &to("a-b"), seconds(60)),
            ("/a-b", &to("a-b-2"), None),
            ("/health", &pages[0], None),
            ("/", &pages[1], None),
            ("/monitoring", &pages[2], None),
            ("/stats", &pages[2], None),
        ]
    );
    let about = |text: [&str; 3]| {
        let [description, category, example] = text.map(str::to_owned);
        About { description, category, example }
    };
    assert_eq!(config.routes[0].about, about(["Says \"hello\"", "Basic", "?name=Alice"]));
    assert_eq!(config.routes[1].about, About::default());
}

#[test]
fn what_is_not_said_is_what_wasio_does() {
    let folder = Folder::new();
    let text = r#"{ "routes": { "/": { "wasm_file": "instruments/wiki.wasm", "cache": true } }, "index_page": false, "port": 81,
        "cache_ttl": 0, "cache_size": -1, "monitoring": null }"#;
    let config = folder.read(text).expect("a good file");
    assert_eq!((config.server.listen.to_string(), config.server.cache.entries), ("0.0.0.0:81".to_owned(), 1024));
    assert_eq!((config.modules[0].name.as_str(), config.routes[0].cache_ttl), ("root", Some(Duration::from_secs(300))));
    let paths: Vec<_> = config.routes.iter().map(|route| route.path.as_str()).collect();
    assert_eq!(paths, ["/", "/health", "/monitoring", "/stats"]);
    let text = r#"{ "routes": { "/stats": { "wasm_file": "instruments/wiki.wasm" } }, "monitoring": false, "port": "" }"#;
    let config = folder.read(text).expect("a good file");
    assert_eq!(config.server.listen.port(), 8080);
    let paths: Vec<_> = config.routes.iter().map(|route| route.path.as_str()).collect();
    assert_eq!(paths, ["/stats", "/health", "/"]);
}

#[test]
fn bad_files_are_explained() {
    let folder = Folder::new();
    let mut wrong = Vec::new();
    for (file, expected) in BAD {
        let file = file.replace("WIKI", r#""wasm_file": "instruments/wiki.wasm""#);
        let found = folder.read(&file).err().unwrap_or_default();
        if found != *expected {
            wrong.push(format!("{file}\n  expected {expected}\n  found    {found}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const BAD: &[(&str, &str)] = &[
    ("", "no JSON: EOF while parsing a value in config.json at line 1, column 1"),
    ("{\n \"port\": 8080,\n}", "no JSON: key must be a string in config.json at line 3, column 1"),
    ("[]", "expected an object but found a list in config.json at line 1, column 1"),
    ("{}", "missing key `routes` in config.json"),
    (
        "{ \"routes\": {} }",
        "no route in config.json at line 1, column 13; add one, such as `\"/hello\": { \"wasm_file\": \"hello.wasm\" }`",
    ),
    ("{\n  \"prot\": \"8080\" }", "unknown key `prot` in config.json at line 2, column 3; did you mean `port`?"),
    (
        "{ \"zzz\": 1 }",
        "unknown key `zzz` in config.json at line 1, column 3; the keys here are `port`, `cache_ttl`, `cache_size`, \
         `index_page`, `monitoring`, `routes`",
    ),
    ("{ \"port\": 1, \"port\": 2 }", "duplicate key `port` in config.json at line 1, column 14"),
    (
        "{ \"routes\": { \"/a\": { WIKI } }, \"port\": \"http\" }",
        "bad `port` in config.json at line 1, column 73; write a number up to 65535, such as `\"8080\"`",
    ),
    (
        "{ \"routes\": { \"/a\": { WIKI } }, \"port\": 65536 }",
        "bad `port` in config.json at line 1, column 73; write a number up to 65535, such as `\"8080\"`",
    ),
    (
        "{ \"routes\": { \"/a\": { WIKI } }, \"port\": true }",
        "expected a string or a whole number but found true or false in config.json at line 1, column 73",
    ),
    ("{ \"cache_ttl\": \"5m\" }", "expected a whole number but found a string in config.json at line 1, column 16"),
    ("{ \"cache_ttl\": 1.5 }", "expected a whole number but found a number with a fraction in config.json at line 1, column 16"),
    ("{ \"cache_ttl\": 99999999 }", "`cache_ttl` over its cap of 30days in config.json at line 1, column 16"),
    ("{ \"index_page\": 1 }", "expected true or false but found a whole number in config.json at line 1, column 17"),
    ("{ \"routes\": [] }", "expected an object but found a list in config.json at line 1, column 13"),
    ("{ \"routes\": { \"/a\": {} } }", "missing key `wasm_file` in config.json at line 1, column 21"),
    ("{ \"routes\": { \"a\": { WIKI } } }", "the path `a` must begin with `/` in config.json at line 1, column 15"),
    ("{ \"routes\": {\n\"/a\": { WIKI },\n\"/a\": { WIKI } } }", "duplicate route `/a` in config.json at line 3, column 1"),
    (
        "{ \"routes\": { \"/\": { WIKI } } }",
        "the route `/` is a page of the server's own in config.json at line 1, column 15; choose another path, or set \
         `index_page` to false",
    ),
    (
        "{ \"routes\": { \"/health\": { WIKI } } }",
        "the route `/health` is a page of the server's own in config.json at line 1, column 15; choose another path",
    ),
    (
        "{ \"routes\": { \"/a\": {\n \"wasmfile\": \"x\" } } }",
        "unknown key `wasmfile` in config.json at line 2, column 2; did you mean `wasm_file`?",
    ),
    (
        "{ \"routes\": { \"/a\": { \"wasm_file\": \"none.wasm\" } } }",
        "missing file `none.wasm` in config.json at line 1, column 36",
    ),
    ("{ \"routes\": { \"/a\": { \"wasm_file\": \"data\" } } }", "not a file: `data` in config.json at line 1, column 36"),
    ("{ \"routes\": { \"/a\": { \"wasm_file\": \"\" } } }", "empty path in config.json at line 1, column 36"),
    (
        "{ \"routes\": { \"/a\": { WIKI,\n\"filesystem\": { \"mount\": \"/d\" } } } }",
        "missing key `path` of `filesystem` in config.json at line 2, column 15",
    ),
    (
        "{ \"routes\": { \"/a\": { WIKI,\n\"filesystem\": { \"mount\": \"/d\", \"path\": \"none\" } } } }",
        "missing directory `none` in config.json at line 2, column 40",
    ),
    (
        "{ \"routes\": { \"/a\": { WIKI,\n\"filesystem\": { \"mount\": \"../d\", \"path\": \"data\" } } } }",
        "bad guest path `../d` in config.json at line 2, column 26; write a path without `..`, such as `/data` or `.`",
    ),
    (
        "{ \"routes\": { \"/a\": { WIKI,\n\"filesystem\": { \"mont\": \"d\" } } } }",
        "unknown key `mont` in config.json at line 2, column 17; did you mean `mount`?",
    ),
    (
        "{ \"routes\": { \"/a\": { WIKI, \"description\": \"a\\u0000b\" } } }",
        "a zero byte in a text in config.json at line 1, column 76",
    ),
];
