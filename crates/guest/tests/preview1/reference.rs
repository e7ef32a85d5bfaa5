//! A small runner over wasmtime's own preview 1.

use std::path::Path;

use crate::support::{Start, name_of};
use wasmtime::{Engine, Linker, Module, Store};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

/// Bytes a program may print.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Runs a program; what it printed, and its exit code.
pub(crate) async fn output(file: &Path, start: &Start) -> (String, u32) {
    let engine = Engine::default();
    let module = Module::from_file(&engine, file).expect("a built guest");
    let mut linker: Linker<WasiP1Ctx> = Linker::new(&engine);
    p1::add_to_linker_async(&mut linker, |context| context).expect("functions to link");
    let stdout = MemoryOutputPipe::new(OUTPUT_BYTES_MAX);
    let mut wasi = WasiCtxBuilder::new();
    wasi.allow_blocking_current_thread(true);
    wasi.stdin(MemoryInputPipe::new(start.stdin.clone())).stdout(stdout.clone()).stderr(MemoryOutputPipe::new(OUTPUT_BYTES_MAX));
    wasi.arg(name_of(file)).args(&start.args).envs(&start.env);
    for dir in &start.dirs {
        let perms = if dir.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        wasi.preopened_dir(&dir.host, &dir.guest, perms).expect("a directory");
    }
    let mut store = Store::new(&engine, wasi.build_p1());
    let instance = linker.instantiate_async(&mut store, &module).await.expect("an instance");
    let function = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("a program");
    let code = match function.call_async(&mut store, ()).await {
        Ok(()) => 0,
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(exit) => exit.0.cast_unsigned(),
            None => panic!("{}: {error:?}\n{}", file.display(), String::from_utf8_lossy(&stdout.contents())),
        },
    };
    (String::from_utf8_lossy(&stdout.contents()).into_owned(), code)
}
