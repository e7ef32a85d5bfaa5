//! The `run` entry: programs. A WASI preview 1 module with `_start`, or a component that exports `wasi:cli/run`, 0.2 or 0.3.

use std::future::poll_fn;
use std::sync::Arc;

use base::{BoxFuture, Call, Entry, Error, Exit, Handler, Input, Kind, Reply};
use tokio::sync::oneshot;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre as Command02;
use wasmtime_wasi::p3::bindings::CommandPre as Command03;

use crate::entry::{EntryType, Linked, wrong_input};
use crate::execution::Guest;
use crate::failure;
use crate::instance::Equipment;
use crate::program::Program;
use crate::runtime::Core;
use crate::state::{Active, State};
use crate::terminal::NotWritten;

const EXPORT_02: &str = "wasi:cli/run@0.2.";
const EXPORT_03: &str = "wasi:cli/run@0.3.";

/// The function a preview 1 module begins with.
const START: &str = "_start";

pub(crate) const TYPE: EntryType =
    EntryType { entry: Entry::Run, exports: &[EXPORT_02, EXPORT_03], core_exports: &[START], prepare: Some(prepare) };

#[derive(Clone)]
enum Generation {
    Preview1(wasmtime::InstancePre<State>),
    V02(Command02<State>),
    V03(Command03<State>),
}

struct Run {
    generation: Generation,
    equipment: Arc<Equipment>,
    core: Arc<Core>,
}

fn prepare(linked: &Linked, equipment: &Arc<Equipment>, core: &Arc<Core>) -> Result<Arc<dyn Handler>, Error> {
    let misfit = |error: wasmtime::Error| {
        Error::new(Kind::Unprocessable, format!("the `run` entry does not fit: {}", error.root_cause()))
            .internal(format!("{error:#}"))
    };
    let generation = match linked {
        Linked::Core(pre) => {
            let ty = pre.module().get_export(START).and_then(|export| export.func().cloned());
            if ty.is_none_or(|ty| ty.params().len() + ty.results().len() != 0) {
                return Err(Error::new(Kind::Unprocessable, "the exported function `_start` must take and return nothing"));
            }
            Generation::Preview1(pre.clone())
        }
        Linked::Component(pre) => {
            let ty = pre.component().component_type();
            if ty.exports(pre.engine()).any(|(name, _)| name.starts_with(EXPORT_03)) {
                Generation::V03(Command03::new(pre.clone()).map_err(misfit)?)
            } else {
                Generation::V02(Command02::new(pre.clone()).map_err(misfit)?)
            }
        }
    };
    Ok(Arc::new(Run { generation, equipment: Arc::clone(equipment), core: Arc::clone(core) }))
}

impl Handler for Run {
    fn handle(&self, call: Call) -> BoxFuture<Result<Reply, Error>> {
        let (active, input) = Active::of(call, &self.core, &self.equipment);
        let Input::Command(command) = input else { return wrong_input(Entry::Run) };
        let program = Program::of_command(command, &active);
        let stdout = program.stdout.capture();
        let (ended, code) = oneshot::channel();
        let (generation, running, ended_of) = (self.generation.clone(), Arc::clone(&active), Arc::clone(&active));
        let future = Box::pin(async move {
            let code = run(&generation, &running, program).await?;
            // Nobody waits any more where the caller has left.
            let _ = ended.send(code);
            Ok(None)
        });
        let mut guest = Guest::new(future, active);
        Box::pin(async move {
            poll_fn(|cx| guest.poll(cx)).await?;
            let code = code.await.map_err(|_| Error::new(Kind::Internal, "the program was lost"))?;
            if ended_of.meter.output_over() {
                return Err(failure::output_limit());
            }
            Ok(Reply::Command(Exit { code, stdout: stdout.take() }))
        })
    }
}

/// Runs the program and returns its exit code.
async fn run(generation: &Generation, active: &Arc<Active>, program: Program) -> wasmtime::Result<u32> {
    let stdout = program.stdout.clone();
    let result = match generation {
        Generation::Preview1(pre) => run_preview1(pre, active, program).await,
        Generation::V02(pre) => run_02(pre, active, &program).await,
        Generation::V03(pre) => run_03(pre, active, &program).await,
    };
    // A component may end before what it wrote is out; its deadline holds until it is.
    let finished = stdout.finish().await;
    let code = match result {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(exit) => exit.0.cast_unsigned(),
            None => {
                active.meter.note_failed();
                return Err(error);
            }
        },
    };
    match finished {
        // It believes that all is well.
        Err(error) if code == 0 => Err(NotWritten(error).into()),
        _ => Ok(code),
    }
}

async fn run_preview1(pre: &wasmtime::InstancePre<State>, active: &Arc<Active>, program: Program) -> wasmtime::Result<u32> {
    let mut store = active.equipment.core_store(active, Some(program))?;
    let instance = pre.instantiate_async(&mut store).await?;
    instance.get_typed_func::<(), ()>(&mut store, START)?.call_async(&mut store, ()).await?;
    Ok(0)
}

async fn run_02(pre: &Command02<State>, active: &Arc<Active>, program: &Program) -> wasmtime::Result<u32> {
    let mut store = active.equipment.component_store(active, Some(program))?;
    let command = pre.instantiate_async(&mut store).await?;
    let result = command.wasi_cli_run().call_run(&mut store).await?;
    Ok(u32::from(result.is_err()))
}

async fn run_03(pre: &Command03<State>, active: &Arc<Active>, program: &Program) -> wasmtime::Result<u32> {
    let mut store = active.equipment.component_store(active, Some(program))?;
    let command = pre.instantiate_async(&mut store).await?;
    let result = store.run_concurrent(async move |accessor| command.wasi_cli_run().call_run(accessor).await).await??;
    Ok(u32::from(result.is_err()))
}
