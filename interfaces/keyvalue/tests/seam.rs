//! Real guests, in each of the three shapes of the package, through the runtime, over each embedded backend.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use base::{
    Body, Digest, Entry, Error, Gate, GateOptions, Input, Kind, Limits, Metrics, ModuleId, ModuleVersion, Reply, Routed, Tenant,
    TenantLimits, Via,
};
use bytes::Bytes;
use guest::{Artifact, BackendTable, Backends, Grant, Interface, PoolSize, Runtime, RuntimeOptions, Session, Shape, Slot, State};
use http::Request;
use http_body_util::BodyExt;
use keyvalue::host::KeyValue;
use wasmtime::component::Linker;

/// A counter guest, prepared and ready to be called.
struct Counter {
    gate: Gate,
    version: Arc<ModuleVersion>,
}

impl Counter {
    /// Calls the guest; its status and body as text.
    async fn call(&self, method: &str, target: &str, body: &str) -> (u16, String) {
        self.try_call(method, target, body).await.unwrap_or_else(|error| panic!("{method} {target}: {error}: {}", error.detail()))
    }

    async fn try_call(&self, method: &str, target: &str, body: &str) -> Result<(u16, String), Error> {
        let body = Body::from(Bytes::from(body.to_owned()));
        let request = Request::builder().method(method).uri(format!("http://guest{target}")).body(body);
        let input = Input::Http(request.expect("a request"));
        let routed = Routed { module: Arc::clone(&self.version), entry: Entry::Http, via: Via::default() };
        let call = self.gate.admit(routed, input).await.expect("a place");
        let response = match self.version.handler.handle(call).await? {
            Reply::Http(response) => response,
            other => panic!("{method} {target}: {other:?}"),
        };
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a whole body").to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

async fn runtime(data: &Path) -> (Runtime, BTreeMap<String, Backends>) {
    runtime_of(Arc::new(KeyValue::new()), data).await
}

async fn runtime_of(interface: Arc<dyn Interface>, data: &Path) -> (Runtime, BTreeMap<String, Backends>) {
    let backends = interface.configure(None, &BTreeMap::new(), data).await.expect("nothing to connect to");
    let runtime = Runtime::new(RuntimeOptions {
        interfaces: vec![interface],
        egress: egress::Egress::new(egress::EgressOptions::default()).expect("an egress"),
        pool: PoolSize::of(128),
        page_scan: true,
        tick: guest::TICK,
        free_memory_bytes: 1 << 20,
        runners: 1,
        loaded_max: 64,
        compiler: None,
        compile: base::CompileLimits::default(),
        data: data.to_owned(),
        metrics: Metrics::new(),
    });
    (runtime.expect("a runtime"), BTreeMap::from([("keyvalue".to_owned(), backends)]))
}

fn artifact(guest: &str) -> Artifact {
    let bytes = std::fs::read(testkit::guest(guest)).expect("a built guest");
    Artifact::new(Digest::of(&bytes), &bytes.clone(), move |_| Ok(bytes.clone())).expect("a good component")
}

fn prepare((runtime, backends): &(Runtime, BTreeMap<String, Backends>), guest: &str, tenant: &str, backend: &str) -> Counter {
    let artifact = artifact(guest);
    let bindings = BTreeMap::from([("default".to_owned(), backend.to_owned())]);
    let module = guest::Module {
        tenant: tenant.into(),
        app: "app".into(),
        name: guest.into(),
        entry: None,
        codec: None,
        input_at_zero: false,
        reuse: guest::Reuse::Fresh,
        terminal: false,
        env: Vec::new(),
        args: Vec::new(),
        dirs: Vec::new(),
        allow: Arc::default(),
        bindings: BTreeMap::from([("keyvalue".to_owned(), bindings)]),
        backends: backends.clone(),
    };
    let prepared = runtime.prepare(&artifact, module).expect("a counter is a good component");
    let version = ModuleVersion {
        id: ModuleId::random(),
        name: guest.into(),
        version: 1,
        digest: artifact.digest,
        tenant: Arc::new(Tenant::new(tenant, TenantLimits::default())),
        app: "app".into(),
        limits: Limits::default(),
        entries: prepared.entries,
        places: prepared.places,
        handler: prepared.handler,
        metrics: Metrics::new().module(tenant, guest),
        watched: None,
        evidence: false,
    };
    Counter { gate: Gate::new(GateOptions { places: [128, 128] }), version: Arc::new(version) }
}

/// What every shape can do.
async fn counts(counter: &Counter) {
    for (method, target, body, expected) in [
        ("GET", "/?key=a", "", (200, "0\n")),
        ("POST", "/?key=a&by=5", "", (200, "5\n")),
        ("POST", "/?key=a", "", (200, "6\n")),
        ("PUT", "/?key=b", "text", (200, "ok\n")),
        ("GET", "/raw?key=b", "", (200, "text")),
        ("GET", "/exists?key=b", "", (200, "true\n")),
        ("GET", "/exists?key=missing", "", (200, "false\n")),
        ("GET", "/keys", "", (200, "a\nb\n")),
        ("DELETE", "/?key=b", "", (200, "ok\n")),
        ("GET", "/raw?key=b", "", (404, "")),
    ] {
        let answer = counter.call(method, target, body).await;
        assert_eq!((answer.0, answer.1.as_str()), expected, "{method} {target}");
    }
    let (status, text) = counter.call("GET", "/keys?bucket=nobody-granted-it", "").await;
    assert_eq!((status, text.contains("no-such-store")), (404, true), "{text}");
}

/// What the second draft adds.
async fn swaps_and_batches(counter: &Counter) {
    let swaps = (0..20).map(|_| counter.call("POST", "/cas?key=hot", ""));
    for (status, text) in futures_util::future::join_all(swaps).await {
        assert_eq!(status, 200, "{text}");
    }
    let (_, total) = counter.call("GET", "/?key=hot", "").await;
    assert_eq!(total, "20\n", "every swap counted once");
    let batch = counter.call("POST", "/batch", "x=1\ny=2\nmissing").await;
    assert_eq!((batch.0, batch.1.lines().take(2).collect::<Vec<_>>()), (200, vec!["x=1", "y=2"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_shape_of_guest_over_every_embedded_backend() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let runtime = runtime(data.path()).await;
    for guest in ["counter", "counter-draft2", "counter-draft2-async"] {
        for backend in ["memory", "embedded"] {
            let counter = prepare(&runtime, guest, &format!("of {guest}"), backend);
            counts(&counter).await;
            if guest != "counter" {
                swaps_and_batches(&counter).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_without_a_binding_is_refused_with_the_key_that_grants_it() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let (runtime, backends) = runtime(data.path()).await;
    let artifact = artifact("counter");
    let module = guest::Module {
        tenant: "t".into(),
        app: "app".into(),
        name: "counter".into(),
        entry: None,
        codec: None,
        input_at_zero: false,
        reuse: guest::Reuse::Fresh,
        terminal: false,
        env: Vec::new(),
        args: Vec::new(),
        dirs: Vec::new(),
        allow: Arc::default(),
        bindings: BTreeMap::new(),
        backends,
    };
    let Err(error) = runtime.prepare(&artifact, module) else { panic!("prepared without a binding") };
    let text = error.to_string();
    assert!(text.contains("wasi:keyvalue/"), "{text}");
    assert!(text.contains("bindings = { keyvalue = { default = \"embedded\" } }"), "{text}");
}

/// The interface with a bug, while it `fails`.
struct Faulty {
    inner: KeyValue,
    fails: Arc<AtomicBool>,
}

impl Interface for Faulty {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn packages(&self) -> &'static [&'static str] {
        self.inner.packages()
    }

    fn slot(&self) -> Slot {
        self.inner.slot()
    }

    fn configure<'a>(
        &'a self,
        previous: Option<Backends>,
        tables: &'a BTreeMap<String, BackendTable>,
        data: &'a Path,
    ) -> Pin<Box<dyn Future<Output = Result<Backends, Error>> + Send + 'a>> {
        self.inner.configure(previous, tables, data)
    }

    fn check(&self, grant: &Grant) -> Result<(), Error> {
        self.inner.check(grant)
    }

    fn link(&self, linker: &mut Linker<State>, shape: &Shape) -> Result<(), Error> {
        self.inner.link(linker, shape)
    }

    fn open(&self, grant: &Arc<Grant>) -> Session {
        assert!(!self.fails.load(Relaxed), "as a bug of the host would");
        self.inner.open(grant)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_panics_while_a_guest_is_polled_fails_that_call_only() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let fails = Arc::new(AtomicBool::new(false));
    let interface = Faulty { inner: KeyValue::new(), fails: Arc::clone(&fails) };
    let runtime = runtime_of(Arc::new(interface), data.path()).await;
    let counter = prepare(&runtime, "counter", "t", "memory");
    for round in 1..=3 {
        fails.store(true, Relaxed);
        let error = counter.try_call("POST", "/?key=a", "").await.expect_err("it panicked");
        assert_eq!((error.kind, error.detail().as_str()), (Kind::Internal, "a host function panicked"));
        assert_eq!((counter.gate.in_flight(), counter.version.tenant.in_flight()), (0, 0), "its place is free");
        fails.store(false, Relaxed);
        assert_eq!(counter.call("POST", "/?key=a", "").await, (200, format!("{round}\n")));
    }
}
