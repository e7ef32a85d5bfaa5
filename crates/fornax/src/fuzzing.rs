//! What is true of any bytes: for the targets of `fuzz/`, and for tests of a few seconds over inputs made of the same corpus.
//!
//! Each function takes what somebody else made of chance, and panics where something is not as it must be.

use std::path::Path;

use base::{Blame, Error, Step};
use tokio::runtime::Runtime;

use crate::{Builder, Config, ExecuteLimits, ModuleId, PoolSize, Server};

/// What every `${NAME}` stands for.
const SECRET: &str = "canary-5e12c1";

/// A text that begins with it has a value that breaks every form, where `${…}` is written.
const BREAKS: &str = "B";

/// A configuration is one, or is refused with a sentence that holds no value of a variable.
///
/// # Panics
///
/// If not.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    // A name to listen at is looked up, and whoever looks it up is not what is tried here.
    if text.contains("listen") || text.contains(SECRET) {
        return;
    }
    let env = |name: &str| match name.strip_prefix(BREAKS) {
        None => Some(SECRET.to_owned()),
        Some("") => None,
        Some(_) => Some(format!("{SECRET}\0\n\"{{}}/../é")),
    };
    let said = match Config::from_toml(text, Path::new("fornax.toml"), &env) {
        Ok(config) => return assert!(!config.modules.is_empty() || !config.routes.is_empty(), "{config:?}"),
        Err(error) => error.to_string(),
    };
    assert!(said.contains(' ') && !said.contains('\n'), "no sentence: {said:?}");
    assert!(!said.contains(SECRET), "a value of a variable: {said}");
}

/// A plugin whose allocator and log give whatever addresses and lengths the input says.
const PLUGIN: &str = r#"(module
    (import "host" "log" (func $log (param i32 i32)))
    (memory (export "memory") 1 4)
    ;; Answers of the allocator, by the length it is asked for. The first of them is where they stand themselves: what is written there
    ;; gives the next answer. What is asked for beside the input has from 60 to 67 bytes, and a good answer.
    (data (i32.const 256)
        "\00\01\00\00" "\00\10\00\00" "\00\20\00\00" "\00\30\00\00" "\00\00\00\00" "\00\00\01\00" "\f8\ff\00\00" "\ff\ff\ff\ff"
        "\00\00\00\80" "\00\40\00\00" "\f0\ff\ff\ff" "\01\00\00\00" "\01\50\00\00" "\00\60\00\00" "\00\70\00\00" "\00\80\00\00")
    (data (i32.const 4) "fine")
    (func (export "alloc") (param $len i32) (result i32)
        (if (i32.and (local.get $len) (i32.const 16)) (then (drop (memory.grow (i32.const 1)))))
        (i32.load (i32.add (i32.const 256) (i32.shl (i32.and (local.get $len) (i32.const 15)) (i32.const 2)))))
    ;; Logs what each eight bytes of the input say, up to thirty-two times.
    (func (export "process") (param $at i32) (param $len i32) (param i32 i32) (result i32)
        (local $end i32)
        (local.set $end (i32.add (local.get $at) (i32.and (local.get $len) (i32.const 0xf8))))
        (block $ends (loop $next
            (br_if $ends (i32.ge_u (local.get $at) (local.get $end)))
            (call $log (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br $next)))
        (i32.load (local.get $at))))"#;

/// Makes it log `fine`.
const HARMLESS: &[u8; 9] = b"\x04\0\0\0\x04\0\0\0\0";

/// A server that has a plugin whose addresses and lengths are its input's.
pub struct Plugin {
    runtime: Runtime,
    server: Server,
    id: ModuleId,
}

impl Plugin {
    /// Compiles it; once is enough for all inputs.
    ///
    /// # Panics
    ///
    /// If it cannot be served.
    #[expect(clippy::new_without_default, reason = "it starts a server")]
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = folder.path().join("pointers.wasm");
        std::fs::write(&file, wat::parse_str(PLUGIN).expect("a module")).expect("a file is written");
        let (server, id) = runtime.block_on(async {
            let builder = Builder::from_config(Config::empty()).expect("a builder").threads(1).pool(PoolSize::of(8));
            let server = builder.without_http().build().await.unwrap_or_else(|error| panic!("{error}"));
            let id = server.registry().load(&file).await.unwrap_or_else(|error| panic!("{error}"));
            (server, id)
        });
        Self { runtime, server, id }
    }

    /// Its addresses and lengths are checked: it has a result, or an error that blames it, and the next call is as any.
    ///
    /// # Panics
    ///
    /// If not.
    pub fn pointers(&self, input: &[u8]) {
        if let Err(error) = self.execute(input) {
            assert_eq!(error.blame, Blame::Guest, "{error:?}");
            assert!(error.to_string().contains(' '), "no sentence: {error}");
        }
        let step = self.execute(HARMLESS).unwrap_or_else(|error| panic!("the next call: {error:?}"));
        assert_eq!(String::from_utf8_lossy(&step.output), "fine");
    }

    fn execute(&self, input: &[u8]) -> Result<Step, Error> {
        self.runtime.block_on(self.server.execute(self.id, input.to_vec(), ExecuteLimits::default()))
    }
}

#[cfg(test)]
mod tests {
    use testkit::each_mutation;

    #[test]
    fn a_configuration_is_one_or_refused_with_a_sentence_without_secrets() {
        each_mutation("configuration", 5_000, super::configuration);
    }

    #[test]
    fn addresses_and_lengths_of_a_plugin_are_checked() {
        let plugin = super::Plugin::new();
        each_mutation("pointers", 2_000, |input| plugin.pointers(input));
    }
}
