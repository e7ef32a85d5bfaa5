//! The `process` entry: plugins. A core module that takes bytes in its own memory, logs lines, and returns a number.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base::{BoxFuture, Call, Entry, Error, Handler, Input, Kind, Output, Reply};
use bytes::Bytes;
use tokio::sync::oneshot;
use wasmtime::{Instance, ModuleExport, Store, TypedFunc, Val, ValType};

use crate::entry::{EntryType, Linked, wrong_input};
use crate::execution::Guest;
use crate::instance::Equipment;
use crate::memory::Memory;
use crate::preview1;
use crate::program::Program;
use crate::runtime::Core;
use crate::state::{Active, State};

/// The function that is called, and the memory it reads.
const PROCESS: &str = "process";
const MEMORY: &str = "memory";

/// Exported functions that hand out memory, in the order they are looked for; the last has the form of the component model.
const ALLOCATORS: [&str; 2] = ["alloc", "malloc"];
const REALLOC: &str = "cabi_realloc";

/// Where a module's own data ends, if its linker says so.
const HEAP_BASE: &str = "__heap_base";

/// What prepares a module that expects it, such as the constructors of its language.
const INITIALIZE: &str = "_initialize";

/// Addresses the host chooses are aligned for any type.
const ALIGN: u32 = 16;

const PAGE_BYTES: u64 = 64 << 10;

pub(crate) const TYPE: EntryType =
    EntryType { entry: Entry::Process, exports: &[], core_exports: &[PROCESS], prepare: Some(prepare) };

type Process = TypedFunc<(u32, u32, u32, u32), i32>;

/// Where the host writes what it hands over.
#[derive(Clone, Copy)]
enum Placement {
    Alloc(ModuleExport),
    Realloc(ModuleExport),
    /// Above the module's own data where it fits, else into pages that are added.
    Free {
        heap_base: Option<ModuleExport>,
    },
    /// At address 0, over whatever is there: what some old plugins read.
    Zero,
}

struct Plugin {
    pre: wasmtime::InstancePre<State>,
    exports: Exports,
    equipment: Arc<Equipment>,
    core: Arc<Core>,
}

#[derive(Clone, Copy)]
struct Exports {
    process: ModuleExport,
    memory: ModuleExport,
    initialize: Option<ModuleExport>,
    placement: Placement,
    /// Whether it imports WASI, as plugins of some languages do.
    wasi: bool,
}

fn prepare(linked: &Linked, equipment: &Arc<Equipment>, core: &Arc<Core>) -> Result<Arc<dyn Handler>, Error> {
    let Linked::Core(pre) = linked else {
        return Err(Error::new(Kind::Internal, "a component has no `process` entry"));
    };
    let module = pre.module();
    let refuse = |text: &'static str| Error::new(Kind::Unprocessable, text);
    let Some(memory) =
        module.get_export_index(MEMORY).filter(|_| module.get_export(MEMORY).is_some_and(|ty| ty.memory().is_some()))
    else {
        return Err(refuse("the module exports `process` and no memory called `memory`, which its input would be written to"));
    };
    let function = |name: &str, params: usize, results: usize| {
        let ty = module.get_export(name)?.func().cloned()?;
        let is_i32 = |ty: ValType| matches!(ty, ValType::I32);
        let fits = ty.params().len() == params && ty.results().len() == results;
        (fits && ty.params().all(is_i32) && ty.results().all(is_i32)).then(|| module.get_export_index(name)).flatten()
    };
    let Some(process) = function(PROCESS, 4, 1) else {
        return Err(refuse(
            "the exported function `process` must be (input_ptr: i32, input_len: i32, env_ptr: i32, env_len: i32) -> i32",
        ));
    };
    let placement = if equipment.input_at_zero {
        Placement::Zero
    } else if let Some(alloc) = ALLOCATORS.iter().find_map(|name| function(name, 1, 1)) {
        Placement::Alloc(alloc)
    } else if let Some(realloc) = function(REALLOC, 4, 1) {
        Placement::Realloc(realloc)
    } else {
        let is_number = |ty: &wasmtime::ExternType| ty.global().is_some_and(|ty| matches!(ty.content(), ValType::I32));
        let heap_base =
            module.get_export_index(HEAP_BASE).filter(|_| module.get_export(HEAP_BASE).as_ref().is_some_and(is_number));
        Placement::Free { heap_base }
    };
    let wasi = module.imports().any(|import| import.module() == preview1::MODULE);
    let exports = Exports { process, memory, initialize: function(INITIALIZE, 0, 0), placement, wasi };
    Ok(Arc::new(Plugin { pre: pre.clone(), exports, equipment: Arc::clone(equipment), core: Arc::clone(core) }))
}

impl Handler for Plugin {
    fn handle(&self, call: Call) -> BoxFuture<Result<Reply, Error>> {
        let (active, input) = Active::of(call, &self.core, &self.equipment);
        let Input::Bytes(input) = input else { return wrong_input(Entry::Process) };
        let (ended, output) = oneshot::channel();
        let (pre, exports, running) = (self.pre.clone(), self.exports, Arc::clone(&active));
        let future = Box::pin(async move {
            let output = run(&pre, exports, &running, &input).await.inspect_err(|_| running.meter.note_failed())?;
            // Nobody waits any more where the caller has left.
            let _ = ended.send(output);
            Ok(None)
        });
        let mut guest = Guest::new(future, active);
        Box::pin(async move {
            poll_fn(|cx| guest.poll(cx)).await?;
            output.await.map(Reply::Bytes).map_err(|_| Error::new(Kind::Internal, "the plugin was lost"))
        })
    }
}

async fn run(
    pre: &wasmtime::InstancePre<State>,
    exports: Exports,
    active: &Arc<Active>,
    input: &Bytes,
) -> wasmtime::Result<Output> {
    let mut store = active.equipment.core_store(active, exports.wasi.then(|| Program::of_plugin(active)))?;
    let instance = pre.instantiate_async(&mut store).await?;
    if let Some(initialize) = exports.initialize {
        function::<(), ()>(&mut store, &instance, initialize)?.call_async(&mut store, ()).await?;
    }
    let memory = memory(&mut store, &instance, exports)?;
    let env = environment();
    let (input_at, env_at) = place(&mut store, &instance, exports.placement, memory, [input, env.as_bytes()]).await?;
    let process: Process = function(&mut store, &instance, exports.process)?;
    let (input_len, env_len) = (u32::try_from(input.len())?, u32::try_from(env.len())?);
    let code = process.call_async(&mut store, (input_at, input_len, env_at, env_len)).await?;
    Ok(Output { text: store.data_mut().core().log.take(), code })
}

/// Writes input and environment where the module says, or where nothing of it is, and returns the addresses.
async fn place(
    store: &mut Store<State>,
    instance: &Instance,
    placement: Placement,
    memory: wasmtime::Memory,
    [input, env]: [&[u8]; 2],
) -> wasmtime::Result<(u32, u32)> {
    let (input_len, env_len) = (u32::try_from(input.len())?, u32::try_from(env.len())?);
    // Each is written before the module runs again: what its allocator gave is checked as the memory is by then.
    match placement {
        Placement::Zero => {
            write(store, memory, 0, input)?;
            write(store, memory, input_len, env)?;
            Ok((0, input_len))
        }
        Placement::Free { heap_base } => {
            let at = free(store, instance, memory, heap_base, input.len() + env.len())?;
            write(store, memory, at, input)?;
            write(store, memory, at + input_len, env)?;
            Ok((at, at + input_len))
        }
        Placement::Alloc(alloc) => {
            let alloc = function::<u32, u32>(store, instance, alloc)?;
            let input_at = alloc.call_async(&mut *store, input_len).await?;
            write_allocated(store, memory, input_at, input)?;
            let env_at = alloc.call_async(&mut *store, env_len).await?;
            write_allocated(store, memory, env_at, env)?;
            Ok((input_at, env_at))
        }
        Placement::Realloc(realloc) => {
            let realloc = function::<(u32, u32, u32, u32), u32>(store, instance, realloc)?;
            let input_at = realloc.call_async(&mut *store, (0, 0, 1, input_len)).await?;
            write_allocated(store, memory, input_at, input)?;
            let env_at = realloc.call_async(&mut *store, (0, 0, 1, env_len)).await?;
            write_allocated(store, memory, env_at, env)?;
            Ok((input_at, env_at))
        }
    }
}

/// Writes to what an allocator gave. 0 is what allocators say when they have nothing.
fn write_allocated(store: &mut Store<State>, memory: wasmtime::Memory, at: u32, bytes: &[u8]) -> wasmtime::Result<()> {
    wasmtime::ensure!(at != 0 || bytes.is_empty(), "the plugin's allocator has no memory for its input");
    write(store, memory, at, bytes)
}

fn write(store: &mut Store<State>, memory: wasmtime::Memory, at: u32, bytes: &[u8]) -> wasmtime::Result<()> {
    Ok(Memory::new(memory.data_mut(store)).write(at, bytes)?)
}

fn function<P: wasmtime::WasmParams, R: wasmtime::WasmResults>(
    store: &mut Store<State>,
    instance: &Instance,
    export: ModuleExport,
) -> wasmtime::Result<TypedFunc<P, R>> {
    let function = instance.get_module_export(&mut *store, &export).and_then(wasmtime::Extern::into_func);
    function.ok_or_else(|| wasmtime::format_err!("an export is gone"))?.typed(store)
}

fn memory(store: &mut Store<State>, instance: &Instance, exports: Exports) -> wasmtime::Result<wasmtime::Memory> {
    let memory = instance.get_module_export(store, &exports.memory).and_then(wasmtime::Extern::into_memory);
    memory.ok_or_else(|| wasmtime::format_err!("an export is gone"))
}

/// An address with `len` bytes behind it that are nobody's.
fn free(
    store: &mut Store<State>,
    instance: &Instance,
    memory: wasmtime::Memory,
    heap_base: Option<ModuleExport>,
    len: usize,
) -> wasmtime::Result<u32> {
    let end = memory.data_size(&*store) as u64;
    let global = heap_base.and_then(|export| instance.get_module_export(&mut *store, &export)?.into_global());
    if let Some(Val::I32(base)) = global.map(|global| global.get(&mut *store)) {
        let base = u64::from(base.cast_unsigned()).next_multiple_of(u64::from(ALIGN));
        if base + len as u64 <= end {
            return Ok(u32::try_from(base)?);
        }
    }
    let pages = (len as u64).div_ceil(PAGE_BYTES);
    let grown = memory.grow(store, pages);
    wasmtime::ensure!(grown.is_ok(), "the plugin's memory has no room for its input");
    Ok(u32::try_from(end)?)
}

/// What a plugin is told of the world: a number that differs from call to call, and the time.
fn environment() -> String {
    let seed = rand::random::<u64>() >> 1;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!(r#"{{"random_seed":{seed},"timestamp":{}}}"#, now.as_nanos())
}
