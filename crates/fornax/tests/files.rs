//! Routes for files: what is beneath the folder is served as HTTP wants it, and nothing else is.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, SystemTime};

use testkit::{App, Body, Client, Fornax, Response, run_to_end, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");
const SOON: Duration = Duration::from_secs(30);

const SECRET: &str = "nobody may see this";

/// 2001-09-09 01:46:40.
const LONG_AGO: Duration = Duration::from_secs(1_000_000_000);
const LONG_AGO_TEXT: &str = "Sun, 09 Sep 2001 01:46:40 GMT";

/// A site in `public`, a secret beside it.
fn site() -> (App, PathBuf) {
    let app = App::new().tables("[[route]]\npath = \"/*\"\nfiles = \"public\"");
    let root = app.folder().join("public");
    for folder in ["sub/empty", ".git", ".well-known", "a b"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    for (path, text) in [
        ("public/index.html", "<h1>home</h1>"),
        ("public/digits.txt", "0123456789"),
        ("public/empty.txt", ""),
        ("public/sub/index.html", "<h1>sub</h1>"),
        ("public/a b/ü.css", "a {}"),
        ("public/.well-known/security.txt", "mail us"),
        ("public/.git/config", SECRET),
        ("public/.env", SECRET),
        ("secret.txt", SECRET),
    ] {
        let path = app.folder().join(path);
        fs::write(&path, text).expect("a file");
        set_modified(&path);
    }
    (app, root)
}

fn set_modified(path: &Path) {
    let file = File::options().write(true).open(path).expect("a file");
    file.set_modified(SystemTime::UNIX_EPOCH + LONG_AGO).expect("a time");
}

fn get(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> Response {
    client.request("GET", path, fields, Body::None)
}

#[test]
fn files_are_served_with_their_type_and_validators() {
    let (app, _) = site();
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    for (path, kind, body) in [
        ("/", "text/html; charset=utf-8", "<h1>home</h1>"),
        ("/index.html", "text/html; charset=utf-8", "<h1>home</h1>"),
        ("/?x=1", "text/html; charset=utf-8", "<h1>home</h1>"),
        ("/digits.txt", "text/plain; charset=utf-8", "0123456789"),
        ("/empty.txt", "text/plain; charset=utf-8", ""),
        ("/sub/", "text/html; charset=utf-8", "<h1>sub</h1>"),
        ("/a%20b/%C3%BC.css", "text/css; charset=utf-8", "a {}"),
        ("/.well-known/security.txt", "text/plain; charset=utf-8", "mail us"),
    ] {
        let response = client.get(path);
        assert_eq!((response.status, response.text().as_str(), response.truncated), (200, body, false), "{path}");
        let length = body.len().to_string();
        for (name, value) in [
            ("content-type", kind),
            ("content-length", length.as_str()),
            ("accept-ranges", "bytes"),
            ("last-modified", LONG_AGO_TEXT),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(response.header(name), Some(value), "{name} of {path}");
        }
        assert!(response.header("etag").is_some_and(|tag| tag.starts_with('"')), "a strong tag, since it is old");

        let head = client.request("HEAD", path, &[], Body::None);
        let without_date = |response: &Response| {
            let mut headers = response.headers.clone();
            headers.retain(|(name, _)| name != "date");
            headers.sort();
            headers
        };
        assert_eq!((head.status, without_date(&head)), (200, without_date(&response)), "HEAD {path}");
    }
    for (path, to) in [("/sub", "/sub/"), ("/sub?a=%2F", "/sub/?a=%2F"), ("/a%20b", "/a%20b/")] {
        let response = client.get(path);
        assert_eq!((response.status, response.header("location")), (301, Some(to)), "{path}");
    }
    for path in ["/none", "/sub/empty/", "/digits.txt/", "/digits.txt/x", "/.env", "/.git/config", "/.git/", "/%2egit/config"] {
        let response = client.get(path);
        assert_eq!((response.status, response.text().contains("\"not-found\"")), (404, true), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let response = client.request(method, "/digits.txt", &[], Body::None);
        assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
}

#[test]
fn conditions_spare_the_body_or_refuse() {
    let (app, root) = site();
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let etag = client.get("/digits.txt").header("etag").expect("a tag").to_owned();
    let earlier = "Sun, 09 Sep 2001 01:46:39 GMT";
    for (field, value, status) in [
        ("if-none-match", etag.as_str(), 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"other\"", 200),
        ("if-modified-since", LONG_AGO_TEXT, 304),
        ("if-modified-since", earlier, 200),
        ("if-match", etag.as_str(), 200),
        ("if-match", "\"other\"", 412),
        ("if-unmodified-since", LONG_AGO_TEXT, 200),
        ("if-unmodified-since", earlier, 412),
    ] {
        for method in ["GET", "HEAD"] {
            let response = client.request(method, "/digits.txt", &[(field, value)], Body::None);
            assert_eq!(response.status, status, "{method} {field}: {value}");
            if status == 304 {
                assert_eq!((response.header("etag"), response.header("content-type")), (Some(etag.as_str()), None));
            }
        }
    }
    // The same size at the same time, by another file: the tag knows.
    fs::write(root.join("new"), "9876543210").expect("a file");
    set_modified(&root.join("new"));
    fs::rename(root.join("new"), root.join("digits.txt")).expect("renamed");
    let response = get(&mut client, "/digits.txt", &[("if-none-match", &etag)]);
    assert_eq!((response.status, response.text().as_str()), (200, "9876543210"));
    // Written just now, it may be written again within the same stamp.
    fs::write(root.join("digits.txt"), "5555555555").expect("a file");
    let tag = client.get("/digits.txt").header("etag").expect("a tag").to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    assert_eq!(get(&mut client, "/digits.txt", &[("if-none-match", &tag)]).status, 304);
}

#[test]
fn ranges_are_parts_of_the_file() {
    let (app, root) = site();
    let large: Vec<u8> = (0..300_000_u32).map(|n| u8::try_from(n % 251).expect("small")).collect();
    fs::write(root.join("large.bin"), &large).expect("a file");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let etag = client.get("/digits.txt").header("etag").expect("a tag").to_owned();
    for (range, part, body) in [
        ("bytes=0-0", "bytes 0-0/10", "0"),
        ("bytes=2-5", "bytes 2-5/10", "2345"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=7-99", "bytes 7-9/10", "789"),
        ("bytes=-2", "bytes 8-9/10", "89"),
    ] {
        let response = get(&mut client, "/digits.txt", &[("range", range)]);
        assert_eq!((response.status, response.text().as_str()), (206, body), "{range}");
        assert_eq!((response.header("content-range"), response.header("etag")), (Some(part), Some(etag.as_str())), "{range}");
    }
    for (fields, status) in [
        (&[("range", "bytes=0-1, 4-5")][..], 200),
        (&[("range", "lines=1-2")], 200),
        (&[("range", "bytes=0-1"), ("if-range", "\"other\"")], 200),
        (&[("range", "bytes=0-1"), ("if-range", &etag)], 206),
        (&[("range", "bytes=0-1"), ("if-range", LONG_AGO_TEXT)], 206),
        (&[("range", "bytes=0-1"), ("if-none-match", &etag)], 304),
    ] {
        assert_eq!(get(&mut client, "/digits.txt", fields).status, status, "{fields:?}");
    }
    let response = get(&mut client, "/digits.txt", &[("range", "bytes=10-")]);
    assert_eq!((response.status, response.header("content-range")), (416, Some("bytes */10")));
    assert!(response.text().contains("\"range-not-satisfiable\""));

    let response = get(&mut client, "/large.bin", &[("range", "bytes=1000-250999")]);
    assert_eq!((response.status, response.header("content-length")), (206, Some("250000")));
    assert!(response.body == large[1000..251_000]);
    assert!(client.get("/large.bin").body == large);
    let head = client.request("HEAD", "/large.bin", &[("range", "bytes=0-1")], Body::None);
    assert_eq!((head.status, head.header("content-length")), (200, Some("300000")), "a range is a question of GET alone");
}

#[test]
fn nothing_outside_of_the_folder_is_served() {
    let (app, root) = site();
    let app = app.tables("[[route]]\npath = \"/deep/er/*\"\nfiles = \"public/sub\"");
    for (target, link) in
        [("../secret.txt", "out"), ("..", "way"), ("/", "slash"), ("/proc/self", "proc"), ("../public", "again")]
    {
        symlink(target, root.join(link)).expect("a link");
    }
    symlink(app.folder().join("secret.txt"), root.join("absolute")).expect("a link");
    symlink("digits.txt", root.join("alias")).expect("a link");
    let secret = app.folder().join("secret.txt");
    let secret = secret.to_str().expect("UTF-8");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let ways = [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2E%2E/secret.txt",
        "/.%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/%252e%252e/secret.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/..;/secret.txt",
        "/....//secret.txt",
        "/../secret.txt%00.html",
        "/digits.txt%00",
        "/out",
        "/way/secret.txt",
        "/slash/etc/passwd",
        "/proc/environ",
        "/proc/cwd/secret.txt",
        "/again/digits.txt",
        "/absolute",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/file:%2f%2f%2fetc/passwd",
        "/deep/er/../digits.txt",
        "/deep/er/..%2fdigits.txt",
        "/deep/er/%2e%2e/digits.txt",
        &format!("/{secret}"),
        &format!("/%2f{}", &secret[1..]),
        secret,
    ];
    for way in ways {
        let response = client.get(way);
        assert!(matches!(response.status, 404 | 400), "{way}: {}", response.status);
        assert!(!response.text().contains(SECRET) && !response.text().contains("root:"), "{way}");
    }
    assert_eq!(client.get("/alias").text(), "0123456789", "a link that stays inside is as good as a file");
    assert_eq!(client.get("/deep/er/").text(), "<h1>sub</h1>");
    assert_eq!(client.get("/deep/er").header("location"), Some("/deep/er/"));
}

#[test]
fn a_folder_that_becomes_a_link_leads_nowhere() {
    let (app, root) = site();
    let outside = app.folder().join("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("index.html"), SECRET).expect("a file");
    fs::create_dir(root.join("real")).expect("a folder");
    fs::write(root.join("real/index.html"), "fine").expect("a file");
    symlink("../outside", root.join("link")).expect("a link");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                for kind in ["real", "link"] {
                    fs::rename(root.join(kind), root.join("swap")).expect("renamed");
                    fs::rename(root.join("swap"), root.join(kind)).expect("renamed back");
                }
            }
        });
        let (mut seen, mut missed) = (0, 0);
        let mut client = fornax.client();
        wait_until("both kinds have been met", SOON, || {
            for _ in 0..50 {
                let response = client.get("/swap/");
                match response.status {
                    200 => assert_eq!(response.text(), "fine"),
                    404 => missed += 1,
                    other => panic!("status {other}"),
                }
                seen += i32::from(response.status == 200);
            }
            seen >= 20 && missed >= 200
        });
        done.store(true, Relaxed);
    });
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let (app, root) = site();
    assert_eq!(run_to_end(Command::new("mkfifo").arg(root.join("fifo"))).code, Some(0));
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("a socket");
    symlink("/dev/zero", root.join("zero")).expect("a link");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    for path in ["/fifo", "/socket", "/zero", "/fifo/"] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_large_file_takes_no_more_memory_than_a_small_one() {
    const LARGE: u64 = 256 << 20;
    let (app, root) = site();
    File::create(root.join("large.bin")).and_then(|file| file.set_len(LARGE)).expect("a sparse file");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    // Some take it whole, some take a little and stay.
    let mut slow: Vec<_> = (0..50)
        .map(|_| {
            let mut client = fornax.client();
            client.send(b"GET /large.bin HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
            assert_eq!(client.read_head().expect("a head").status, 200);
            client
        })
        .collect();
    let mut client = fornax.client();
    let response = client.get("/large.bin");
    assert_eq!((response.body.len() as u64, response.truncated), (LARGE, false));
    let peak_mib = fornax.rss_peak_bytes() >> 20;
    assert!(peak_mib < 128, "{peak_mib} MiB");
    slow.truncate(1);
    assert_eq!(client.get("/digits.txt").text(), "0123456789");
    // Those who left have let go of the file.
    let open = || {
        let entries = fs::read_dir(format!("/proc/{}/fd", fornax.pid())).expect("our own child");
        entries
            .filter(|entry| entry.as_ref().is_ok_and(|e| fs::read_link(e.path()).is_ok_and(|p| p.ends_with("large.bin"))))
            .count()
    };
    wait_until("one reader is left", SOON, || open() == 1);
}

#[test]
fn a_file_that_shrinks_ends_the_connection() {
    const LARGE: u64 = 64 << 20;
    let (app, root) = site();
    let file = File::create(root.join("large.bin")).expect("a file");
    file.set_len(LARGE).expect("a sparse file");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    client.send(b"GET /large.bin HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    let head = client.read_head().expect("a head");
    assert_eq!(head.header("content-length"), Some(LARGE.to_string().as_str()));
    file.set_len(1 << 20).expect("shortened");
    let rest = client.read_to_end().expect("the connection ends");
    assert!((rest.len() as u64) < LARGE, "{} bytes", rest.len());
    fornax.wait_for_log(|line| line.contains("could not be sent to its end"), SOON);
    assert_eq!(fornax.client().get("/large.bin").body.len(), 1 << 20);
}

#[test]
fn a_server_without_descriptors_says_so_and_recovers() {
    let (app, _) = site();
    let script = r#"ulimit -n 60; exec "$0" run "$1" --listen 127.0.0.1:0"#;
    let fornax = Fornax::spawn(Command::new("sh").args(["-c", script, FORNAX]).arg(app.write()));
    let mut first = fornax.client();
    assert_eq!(first.get("/digits.txt").status, 200);
    let mut others = Vec::new();
    wait_until("no descriptor is left", SOON, || {
        others.extend(Client::try_connect(fornax.addr()));
        first.get("/digits.txt").status == 503
    });
    let response = first.get("/digits.txt");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
    assert!(response.text().contains("\"overloaded\""), "{}", response.text());
    others.clear();
    wait_until("it serves again", SOON, || first.get("/digits.txt").status == 200);
}

#[test]
fn files_and_modules_share_a_table() {
    let (app, root) = site();
    fs::write(root.join("logo.svg"), "<svg/>").expect("a file");
    let app = app
        .module("hello", "hello-wasip2", "")
        .route("/api/*", "hello", "")
        .tables("[[route]]\npath = \"/favicon.ico\"\nfiles = \"public/logo.svg\"\nmethods = [\"GET\"]");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    assert_eq!(client.get("/api/x").text(), "Hello from Fornax!\n");
    assert_eq!(client.get("/digits.txt").text(), "0123456789");
    let icon = client.get("/favicon.ico");
    assert_eq!((icon.text().as_str(), icon.header("content-type")), ("<svg/>", Some("image/svg+xml")));
    assert_eq!(client.get("/favicon.ico/x").status, 404);
    // The folder's files are another route, which takes any method and answers for itself.
    assert_eq!(client.request("POST", "/favicon.ico", &[], Body::None).status, 405);
}
