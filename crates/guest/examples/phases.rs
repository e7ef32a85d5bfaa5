//! Takes the call of a WASI 0.2 hello apart, without sockets and without Fornax: how long making the store, instantiating, calling and
//! dropping take. `phases FILE pool|default|reuse|core SECONDS` prints one line of JSON, times in microseconds.
//!
//! `pool` is an engine with the settings of `crates/guest/src/engine.rs`, whose numbers stand here again, since the library does not
//! show its engines; host functions are wasmtime's own. `default` is wasmtime's pool as it is. `reuse` calls one instance again and again. `core`
//! makes and drops the component's largest core module alone, with the settings of `pool`, and does not call it: what the instance
//! itself takes, without those that tools put around it.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use serde_json::json;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use wasmparser::{Parser, Payload};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::error::Context;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, InstancePre, Module, PoolingAllocationConfig, Result, Store, bail,
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

/// What the guest answers.
const HELLO: &str = "Hello from Fornax!\n";

struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    table: ResourceTable,
}

/// Which fields a guest may set, as Fornax asks it: without an allocation for each field.
struct Hooks;

/// Of a request that was sent, its transmission.
type Transmission = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        static FILTER: LazyLock<ForbiddenHeaderFilter> =
            LazyLock::new(|| Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name)));
        Arc::clone(&FILTER)
    }

    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Transmission,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Transmission), Error>> + Send> {
        // The hello asks for nothing.
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Time of each phase, over all calls.
#[derive(Default)]
struct Phases {
    calls: u32,
    store: Duration,
    instantiate: Duration,
    call: Duration,
    drop: Duration,
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the figures are this program's data")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, mode, seconds] = args.as_slice() else { bail!("phases FILE pool|default|reuse|core SECONDS") };
    let seconds: f64 = seconds.parse()?;
    let engine = engine(mode)?;
    // What is slow only once, such as the first fault of a page, is not what is asked.
    let phases = if mode == "core" {
        let pre = core_module(&engine, &std::fs::read(file)?)?;
        measure_core(&pre, seconds.min(0.2)).await?;
        measure_core(&pre, seconds).await?
    } else {
        let component = Component::from_file(&engine, file)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        let pre = ProxyPre::new(linker.instantiate_pre(&component)?)?;
        measure(&pre, mode, seconds.min(0.2)).await?;
        measure(&pre, mode, seconds).await?
    };
    let us = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(phases.calls);
    let Phases { store, instantiate, call, drop, .. } = phases;
    let total = store + instantiate + call + drop;
    println!(
        "{}",
        json!({ "store_us": us(store), "instantiate_us": us(instantiate), "call_us": us(call), "drop_us": us(drop), "total_us": us(total) })
    );
    Ok(())
}

/// A ticker is not needed: nothing here runs longer than a tick.
fn engine(mode: &str) -> Result<Engine> {
    let mut config = Config::new();
    let mut pool = PoolingAllocationConfig::new();
    if mode != "default" {
        config.wasm_component_model_async(false).concurrency_support(false).epoch_interruption(true);
        config.max_wasm_stack(512 << 10).async_stack_size(2 << 20).memory_may_move(false).native_unwind_info(false);
        // Fewer places than the server's: one is used at a time.
        pool.total_component_instances(64).total_core_instances(1280).total_memories(64).total_tables(192).total_stacks(64);
        pool.max_memory_size(1 << 30).table_elements(100_000).max_unused_warm_slots(64).decommit_batch_size(1);
        pool.table_keep_resident(64 << 10).linear_memory_keep_resident(4 << 20).pagemap_scan(Enabled::Auto);
    }
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

async fn measure(pre: &ProxyPre<State>, mode: &str, seconds: f64) -> Result<Phases> {
    let (began, mut phases) = (Instant::now(), Phases::default());
    let mut kept = None;
    while began.elapsed().as_secs_f64() < seconds {
        let t0 = Instant::now();
        let (mut store, proxy, t1, t2) = match kept.take() {
            Some((store, proxy)) => (store, proxy, t0, t0),
            None => {
                let mut store = store(pre.engine());
                let t1 = Instant::now();
                let proxy = pre.instantiate_async(&mut store).await?;
                (store, proxy, t1, Instant::now())
            }
        };
        call(&mut store, &proxy).await?;
        let t3 = Instant::now();
        match mode {
            "reuse" => kept = Some((store, proxy)),
            _ => drop((store, proxy)),
        }
        phases.calls += 1;
        phases.store += t1 - t0;
        phases.instantiate += t2 - t1;
        phases.call += t3 - t2;
        phases.drop += t3.elapsed();
    }
    Ok(phases)
}

/// The largest core module of a component, with imports that trap.
fn core_module(engine: &Engine, component: &[u8]) -> Result<InstancePre<State>> {
    let mut largest = 0..0;
    for payload in Parser::new(0).parse_all(component) {
        if let Payload::ModuleSection { unchecked_range, .. } = payload?
            && unchecked_range.len() > largest.len()
        {
            largest = unchecked_range;
        }
    }
    let module = Module::new(engine, &component[largest])?;
    let mut linker = wasmtime::Linker::new(engine);
    linker.define_unknown_imports_as_traps(&module)?;
    linker.instantiate_pre(&module)
}

async fn measure_core(pre: &InstancePre<State>, seconds: f64) -> Result<Phases> {
    let (began, mut phases) = (Instant::now(), Phases::default());
    while began.elapsed().as_secs_f64() < seconds {
        let t0 = Instant::now();
        let mut store = store(pre.module().engine());
        let t1 = Instant::now();
        pre.instantiate_async(&mut store).await?;
        let t2 = Instant::now();
        drop(store);
        phases.calls += 1;
        phases.store += t1 - t0;
        phases.instantiate += t2 - t1;
        phases.drop += t2.elapsed();
    }
    Ok(phases)
}

fn store(engine: &Engine) -> Store<State> {
    let state = State { wasi: WasiCtx::builder().build(), http: WasiHttpCtx::new(), hooks: Hooks, table: ResourceTable::new() };
    let mut store = Store::new(engine, state);
    store.set_epoch_deadline(1);
    store
}

/// One request; its answer is read and compared.
async fn call(store: &mut Store<State>, proxy: &Proxy) -> Result<()> {
    let request = Request::get("http://localhost/").body(Empty::<Bytes>::new())?;
    let (sender, answered) = oneshot::channel::<Result<_, ErrorCode>>();
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
    let out = store.data_mut().http().new_response_outparam(sender)?;
    let read = async {
        let response = answered.await.context("the guest did not answer")??;
        Ok::<_, wasmtime::Error>(response.into_body().collect().await?.to_bytes())
    };
    let handler = proxy.wasi_http_incoming_handler();
    let (called, body) = tokio::join!(handler.call_handle(store, request, out), read);
    called?;
    match body? == HELLO {
        true => Ok(()),
        false => bail!("the answer is not the hello"),
    }
}
