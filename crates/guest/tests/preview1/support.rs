//! Programs under our preview 1 and under wasmtime's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{
    Command, Digest, Entry, Error, Exit, Gate, GateOptions, Input, Limits, Metrics, ModuleId, ModuleVersion, Reply, Routed,
    Stdio, Tenant, TenantLimits, Via,
};
use bytes::Bytes;
use guest::{Artifact, Directory, PoolSize, Runtime, RuntimeOptions};

/// What programs find: `rw` and `ro`, which they are granted, and `secret`, which they are not.
pub(crate) struct Ground {
    root: tempfile::TempDir,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let ground = Self { root: tempfile::tempdir().expect("a temporary directory") };
        for dir in ["rw/dir", "ro/dir", "secret"] {
            fs::create_dir_all(ground.path(dir)).expect("a directory");
        }
        for (file, text) in
            [("rw/file", "content\n"), ("rw/dir/inner", "inner\n"), ("ro/file", "read me\n"), ("secret/key", "SECRET\n")]
        {
            fs::write(ground.path(file), text).expect("a file");
        }
        for (link, target) in [
            ("rw/inside", "file"),
            ("rw/outside", "../secret/key"),
            ("rw/absolute", "/etc/passwd"),
            ("rw/loop", "loop"),
            ("rw/up", ".."),
            ("rw/dangling", "nowhere"),
            ("rw/dir/back", "../file"),
            ("rw/dir/up", "../.."),
            ("ro/link", "file"),
        ] {
            symlink(target, ground.path(link)).expect("a link");
        }
        ground
    }

    pub(crate) fn path(&self, of: &str) -> PathBuf {
        self.root.path().join(of)
    }

    pub(crate) fn directories(&self) -> Vec<Directory> {
        let directory = |name: &str, writable| Directory { host: self.path(name), guest: format!("/{name}"), writable };
        vec![directory("rw", true), directory("ro", false)]
    }
}

/// How a program is started.
#[derive(Clone, Default)]
pub(crate) struct Start {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) stdin: Bytes,
    pub(crate) dirs: Vec<Directory>,
    /// On this process's own streams.
    pub(crate) inherits: bool,
}

/// Our own.
pub(crate) struct Host {
    runtime: Runtime,
    gate: Gate,
    _data: tempfile::TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let runtime = Runtime::new(RuntimeOptions {
            interfaces: Vec::new(),
            egress: egress::Egress::new(egress::EgressOptions::default()).expect("an egress"),
            pool: PoolSize::of(64),
            page_scan: true,
            tick: guest::TICK,
            free_memory_bytes: 1 << 20,
            runners: 1,
            loaded_max: 64,
            compiler: None,
            compile: base::CompileLimits::default(),
            data: data.path().to_owned(),
            metrics: Metrics::new(),
        });
        Self { runtime: runtime.expect("a runtime"), gate: Gate::new(GateOptions { places: [64, 0] }), _data: data }
    }

    /// Prepares a program by its file.
    pub(crate) fn prepare(&self, file: &Path, start: &Start, limits: Limits) -> Result<Arc<ModuleVersion>, Error> {
        self.prepare_bytes(&fs::read(file).expect("a built guest"), &name_of(file), start, limits)
    }

    pub(crate) fn prepare_bytes(
        &self,
        artifact: &[u8],
        name: &str,
        start: &Start,
        limits: Limits,
    ) -> Result<Arc<ModuleVersion>, Error> {
        let module = guest::Module {
            tenant: "tenant".into(),
            app: "app".into(),
            name: name.into(),
            entry: None,
            codec: None,
            input_at_zero: false,
            reuse: guest::Reuse::Fresh,
            terminal: start.inherits,
            env: start.env.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect(),
            args: start.args.clone(),
            dirs: start.dirs.clone(),
            allow: Arc::default(),
            bindings: Default::default(),
            backends: Default::default(),
        };
        let bytes = artifact.to_vec();
        let artifact = Artifact::new(Digest::of(artifact), artifact, move |_| Ok(bytes.clone()))?;
        let prepared = self.runtime.prepare(&artifact, module)?;
        Ok(Arc::new(ModuleVersion {
            id: ModuleId::random(),
            name: name.into(),
            version: 1,
            digest: artifact.digest,
            tenant: Arc::new(Tenant::new("tenant", TenantLimits::default())),
            app: "app".into(),
            limits,
            entries: prepared.entries,
            places: prepared.places,
            handler: prepared.handler,
            metrics: Metrics::new().module("tenant", name),
            watched: None,
            evidence: false,
        }))
    }

    pub(crate) async fn run(&self, version: &Arc<ModuleVersion>, start: &Start) -> Result<Exit, Error> {
        let stdio = if start.inherits { Stdio::Inherited } else { Stdio::Buffered(start.stdin.clone()) };
        let command = Command { args: Vec::new(), env: Vec::new(), stdio };
        let routed = Routed { module: Arc::clone(version), entry: Entry::Run, via: Via::default() };
        let call = self.gate.admit(routed, Input::Command(command)).await.expect("a place");
        match version.answer(call).await? {
            Reply::Command(exit) => Ok(exit),
            other => panic!("not a command's reply: {other:?}"),
        }
    }

    /// Prepares and runs a program; what it printed, and its exit code.
    pub(crate) async fn output(&self, file: &Path, start: &Start) -> (String, u32) {
        let version = self.prepare(file, start, Limits::default()).unwrap_or_else(|error| panic!("{error}: {}", error.detail()));
        match self.run(&version, start).await {
            Ok(exit) => (String::from_utf8_lossy(&exit.stdout).into_owned(), exit.code),
            Err(error) => panic!("{}: {error}: {}", file.display(), error.detail()),
        }
    }
}

pub(crate) fn name_of(file: &Path) -> String {
    file.file_stem().expect("a file").to_string_lossy().into_owned()
}
