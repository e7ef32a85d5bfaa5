//! Fornax inside another program, over `fornax::Builder`.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use fornax::{Builder, Config, Server};
use testkit::{App, Body, Client, guest};

#[expect(dead_code, reason = "its `main` waits for a signal; what it calls is tested")]
#[path = "../examples/embed.rs"]
mod example;

const HELLO: &str = "Hello from Fornax!\n";

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    (listener, address)
}

fn config(app: &App) -> Config {
    Config::from_toml(&app.text(), &app.folder().join("fornax.toml"), &|_| None).expect("a good app")
}

async fn serve(app: &App) -> (Server, SocketAddr) {
    let (listener, address) = listener();
    let builder = Builder::from_config(config(app)).expect("a builder").listeners([listener]).expect("a listener");
    let server = builder.threads(1).build().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(server.addresses(), [address]);
    (server, address)
}

/// What the client does blocks: the server's own threads answer it.
async fn meanwhile<T: Send + 'static>(client: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(client).await.expect("no panic")
}

#[test]
fn the_example_is_short_and_serves() {
    let text = include_str!("../examples/embed.rs");
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines < 20, "{lines} lines");

    let (listener, address) = listener();
    let client = meanwhile(move || {
        let mut client = Client::connect(address);
        [client.get("/").text(), client.get("/any/path").text()]
    });
    let (end, ended) = tokio::sync::oneshot::channel();
    let component = guest("hello-wasip2");
    let served = async {
        let (drained, answers) = tokio::join!(example::serve(&component, listener, ended), async {
            let answers = client.await;
            end.send(()).expect("the example waits");
            answers
        });
        assert!(drained.expect("it serves"));
        answers
    };
    assert_eq!(block_on(served), [HELLO, HELLO]);
}

#[test]
fn a_server_is_reloaded_whole_or_not_at_all() {
    block_on(async {
        let app = App::new().module("hello", "hello-wasip2", "").route("/a", "hello", "");
        let (server, address) = serve(&app).await;
        let mut client = Client::connect(address);
        assert_eq!((client.get("/a").status, client.get("/b").status), (200, 404));

        let broken = App::new().module("counter", "counter", "");
        let error = server.reload(&config(&broken)).await.expect_err("no binding");
        assert!(error.to_string().contains("no binding grants it"), "{error}");
        assert_eq!((client.get("/a").status, client.get("/b").status), (200, 404));

        let next = App::new().module("multi", "multi", "").route("/b", "multi", "");
        server.reload(&config(&next)).await.expect("a good app");
        assert_eq!((client.get("/a").status, client.get("/b").text().as_str()), (404, "http entry\n"));
        drop(client);
        assert!(server.drain().await);
    });
}

#[test]
fn a_reload_that_fails_leaves_the_data_of_what_is_in_service() {
    let counter = |backend: &str, guest: &str| {
        let binding = format!("bindings = {{ keyvalue = {{ default = \"{backend}\" }} }}");
        App::new()
            .tables(&format!("[backend.{backend}]\ninterface = \"keyvalue\"\ntype = \"memory\""))
            .module("counter", guest, &binding)
            .route("/*", "counter", "")
    };
    block_on(async {
        let (server, address) = serve(&counter("one", "counter")).await;
        let mut client = Client::connect(address);
        let mut count = |expected: &str| {
            let answer = client.request("POST", "/?key=k", &[], Body::None);
            assert_eq!((answer.status, answer.text().as_str()), (200, expected));
        };
        count("1\n");
        let other = counter("two", "counter").module("broken", "counter", "");
        server.reload(&config(&other)).await.expect_err("a module without a binding");
        count("2\n");
        server.reload(&config(&counter("one", "counter"))).await.expect("as it was");
        count("3\n");
        server.reload(&config(&counter("two", "counter"))).await.expect("another backend");
        count("1\n");
    });
}

#[test]
fn a_drain_ends_what_is_in_flight_and_takes_nothing_new() {
    block_on(async {
        let app = App::new().module("stream", "afterlife", "");
        let (server, address) = serve(&app).await;
        let mut client = Client::connect(address);
        client.send(client.head("GET", "/?mode=midbody&ms=1000", &[], &Body::None).as_bytes()).expect("sent");
        assert_eq!(client.read_head().expect("a head").status, 200);
        assert_eq!(client.read_chunk().expect("a chunk"), Some(b"first\n".to_vec()));
        assert_eq!(server.in_flight(), 1);
        let rest = thread::spawn(move || (client.read_chunk().expect("a chunk"), client.read_chunk().expect("the end")));
        assert!(server.drain().await);
        assert_eq!(server.in_flight(), 0);
        assert_eq!(rest.join().expect("no panic"), (Some(b"second\n".to_vec()), None));
        assert!(TcpStream::connect(address).is_err(), "nobody listens");
    });
}

#[test]
fn two_servers_share_a_process() {
    block_on(async {
        let (first, first_at) = serve(&App::new().module("hello", "hello-wasip3", "")).await;
        let (second, second_at) = serve(&App::new().module("multi", "multi", "")).await;
        assert_eq!(Client::connect(first_at).get("/").text(), HELLO);
        assert_eq!(Client::connect(second_at).get("/").text(), "http entry\n");
        assert!(first.drain().await);
        drop(first);
        assert_eq!(Client::connect(second_at).get("/").text(), "http entry\n");
        drop(second);
    });
}

#[test]
fn what_is_wrong_is_an_error_and_no_exit() {
    block_on(async {
        let config = Config::single(Path::new("none.wasm"), fornax::config::SingleOptions::default()).expect("not yet read");
        let (listener, _) = listener();
        let builder = Builder::from_config(config).and_then(|builder| builder.listeners([listener])).expect("a builder");
        let error = builder.build().await.err().expect("there is no such file");
        assert!(error.to_string().contains("there is no file"), "{error}");
        assert_eq!(error.kind, fornax::Kind::Unprocessable);
    });
}

#[test]
fn a_module_with_an_id_of_its_own_may_be_renamed_by_a_reload() {
    block_on(async {
        let app = |name: &str| {
            let id = "id = \"6f1c1c3e-7d0a-4c5e-9a57-0d8e0a1b2c3d\"";
            App::new().module(name, "hello-wasip2", id).route("/*", name, "")
        };
        let first = app("old");
        let (server, address) = serve(&first).await;
        for name in ["new", "old", "new"] {
            server.reload(&config(&app(name))).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(meanwhile(move || Client::connect(address).get("/").text()).await, HELLO);
        }
        // Two at once may not have it.
        let both = app("new").module("other", "multi", "id = \"6f1c1c3e-7d0a-4c5e-9a57-0d8e0a1b2c3d\"");
        assert!(Config::from_toml(&both.text(), &both.folder().join("fornax.toml"), &|_| None).is_err());
    });
}
