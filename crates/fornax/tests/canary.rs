//! Two tenants take turns in the one sandbox there is, and neither finds anything of the other.
//!
//! Each call looks at all of its memory, its globals and its table slots for what is not as its module begins, then leaves the
//! canary of its tenant in all of them. By turns the tenants run the same bytes, whose sandbox the pool hands over as it is, and
//! their own, whose data lies elsewhere. How memory grows differs from call to call, so that each way of resetting is passed:
//! what is cleared in place, and what is given back to the kernel.
//!
//! `FORNAX_CANARY_ALTERNATIONS` says how many calls each test makes of each way of resetting; a million is the full form.

use fornax::{Builder, Config, ExecuteLimits, ModuleId, PoolSize, Server, Step};
use testkit::{App, note};

/// A few seconds, in an unoptimised build on two cores.
const ALTERNATIONS: u64 = 5_000;

/// The guest in text form, and what is made of it.
const FIELDS: &str = include_str!("../../../guests/wat/canary.wat");
const PLUGIN: &str = include_str!("../../../guests/wat/canary-plugin.wat");
const COMMAND: &str = include_str!("../../../guests/wat/canary-command.wat");

/// What a tenant leaves.
const CANARIES: [u8; 2] = [0xa1, 0xb2];

/// A module of a tenant.
#[derive(Clone, Copy)]
struct Own {
    /// Where its data lies: in the first page for one, in the second for the other.
    data: u32,
    /// Slots of its large table. One has as many as the other's only grows to, and sees what became of those.
    table: u32,
    canary: u8,
    /// What it does before it looks.
    before: &'static str,
}

const SHARED: Own = Own { data: 0x4000, table: 100, canary: 0xc3, before: "" };
const OWN: [Own; 2] = [
    Own { data: 0x8000, table: 100, canary: CANARIES[0], before: "" },
    Own { data: 0x1_8000, table: 8_500, canary: CANARIES[1], before: "" },
];

/// How it is called.
#[derive(Clone, Copy, Debug)]
enum Form {
    Plugin,
    /// A component, for the engine without support for concurrency.
    Command02,
    /// One for the engine with it.
    Command03,
}

impl Form {
    fn artifact(self, own: Own) -> Vec<u8> {
        let (text, version, r#async) = match self {
            Self::Plugin => (PLUGIN, "", ""),
            Self::Command02 => (COMMAND, "0.2.0", ""),
            Self::Command03 => (COMMAND, "0.3.0", "async"),
        };
        let text = [
            ("{{fields}}", FIELDS),
            ("{{version}}", version),
            ("{{async}}", r#async),
            ("{{before}}", own.before),
            ("{{data}}", &own.data.to_string()),
            ("{{table}}", &own.table.to_string()),
            ("{{canary}}", &own.canary.to_string()),
        ]
        .iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        wat::parse_str(text).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn alternations() -> u64 {
    let configured = std::env::var("FORNAX_CANARY_ALTERNATIONS").ok();
    configured.map_or(ALTERNATIONS, |text| text.parse().expect("FORNAX_CANARY_ALTERNATIONS is a number"))
}

/// Modules of two tenants by turns, with room for one of them at a time.
async fn server(modules: &[Vec<u8>], page_scan: bool) -> (Server, Vec<ModuleId>) {
    let mut app = App::new();
    let mut ids = Vec::new();
    for (at, artifact) in modules.iter().enumerate() {
        let source = app.file(&format!("m{at}.wasm"), artifact);
        let (tenant, id) = (["a", "b"][at % 2], format!("00000000-0000-4000-8000-{at:012x}"));
        app = app.tables(&format!("[[module]]\nname = \"m{at}\"\nsource = {source:?}\ntenant = {tenant:?}\nid = {id:?}\n"));
        ids.push(ModuleId::parse(&id).expect("an id"));
    }
    let config = Config::from_toml(&app.text(), &app.folder().join("fornax.toml"), &|_| None).expect("a good app");
    let builder = Builder::from_config(config).expect("a builder").threads(1).pool(PoolSize::of(1));
    let builder = if page_scan { builder } else { builder.without_page_scan() };
    (builder.without_http().build().await.unwrap_or_else(|error| panic!("{error}")), ids)
}

/// One call; `turn` says which canary a plugin leaves and how it grows.
async fn call(server: &Server, id: ModuleId, turn: u64) -> Step {
    let input = vec![CANARIES[(turn % 2) as usize], (turn / 4) as u8];
    server.execute(id, input, ExecuteLimits::default()).await.unwrap_or_else(|error| panic!("call {turn}: {error}"))
}

fn nothing_is_left(form: Form) {
    let artifacts = [SHARED, SHARED, OWN[0], OWN[1]].map(|own| form.artifact(own));
    for page_scan in [true, false] {
        block_on(async {
            let (server, ids) = server(&artifacts, page_scan).await;
            let began = std::time::Instant::now();
            for turn in 0..alternations() {
                // Each followed by the other tenant's: twice the same bytes, then each its own.
                let step = call(&server, ids[(turn % 4) as usize], turn).await;
                assert_eq!(step.code, 0, "{form:?}, page scan {page_scan}, call {turn}: {:#x} was there", step.code);
            }
            note(&format!("{form:?}, page scan {page_scan}: {} calls in {:?}, nothing left", alternations(), began.elapsed()));
        });
    }
}

#[test]
fn nothing_of_a_plugin_is_left_to_another_tenant() {
    nothing_is_left(Form::Plugin);
}

#[test]
fn nothing_of_a_component_is_left_to_another_tenant() {
    nothing_is_left(Form::Command02);
}

#[test]
fn nothing_of_a_concurrent_component_is_left_to_another_tenant() {
    nothing_is_left(Form::Command03);
}

/// The guest itself: something is there before it looks, by its own doing.
#[test]
fn what_is_left_is_found_wherever_it_is() {
    let found = [
        ("", 0),
        // The first byte, the last one, one of the data, and data that is gone.
        ("(i32.store8 (i32.const 0) (i32.const 9))", 0x901),
        ("(i32.store8 (i32.const 0x1ffff) (i32.const 9))", 0x1_0901),
        ("(i32.store8 (i32.const 0x4007) (i32.const 9))", 0x7002),
        ("(memory.fill (i32.const 0x4000) (i32.const 0) (i32.const 32))", 0x002),
        ("(global.set $i32 (i32.const 9))", 0x903),
        ("(global.set $i64 (i64.const 9))", 0x1_0903),
        ("(global.set $f32 (f32.const 9))", 0x2_0003),
        ("(global.set $f64 (f64.const 9))", 0x3_0003),
        ("(global.set $v128 (i8x16.splat (i32.const 9)))", 0x4_0903),
        ("(global.set $func (ref.func $canary))", 0x5_0003),
        ("(global.set $found (i32.const 9))", 9),
        ("(table.set $small (i32.const 3) (ref.func $own))", 0x3_0004),
        ("(table.set $small (i32.const 4) (ref.func $canary))", 0x4_0004),
        ("(table.set $small (i32.const 4) (ref.null func))", 0x4_0004),
        ("(table.set $large (i32.const 99) (ref.func $own))", 0x63_0104),
        ("(table.set $idle (i32.const 0) (ref.func $own))", 0x204),
        ("(drop (memory.grow (i32.const 1)))", 0x305),
        ("(drop (table.grow $large (ref.null func) (i32.const 1)))", 0x205),
    ];
    block_on(async {
        for (before, code) in found {
            let guest = Own { before, ..SHARED };
            let artifacts = [Form::Plugin, Form::Command02, Form::Command03].map(|form| form.artifact(guest));
            let (server, ids) = server(&artifacts, true).await;
            let mut codes = Vec::new();
            for id in ids {
                codes.push(call(&server, id, 0).await.code);
            }
            // A component only says that something was there.
            let any = i64::from(code != 0);
            assert_eq!(codes, [code, any, any], "{before}");
        }
    });
}
