//! Artifacts that are small and take a compiler any amount of memory or time: whoever publishes one is told so, and nobody else
//! notices. And a crowd that asks for what has to be compiled waits for one compilation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fornax::{Builder, Config, PoolSize};
use testkit::{App, Client, Fornax, at_once, guest, note, run_to_end, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

/// For what takes the compiler all of its time, where others have the processors.
const LATE: Duration = Duration::from_secs(150);
const SOON: Duration = Duration::from_secs(60);

/// What reading and scanning artifacts of a few MiB may leave in an allocator; a compilation has up to a GiB.
const OWN_BYTES_MORE_MAX: u64 = 24 << 20;

/// Of what it had at most, where the whole artifact is in memory once, beside some that was freed.
const PEAK_BYTES_MORE_MAX: u64 = 96 << 20;

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], leb(content.len()), content.to_vec()].concat()
}

/// A program of so many functions, all of them the same.
fn program(count: usize, function: &[u8]) -> Vec<u8> {
    let function = [leb(function.len()), function.to_vec()].concat();
    let sections = [
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[leb(count), vec![0; count]].concat()),
        section(7, b"\x01\x06_start\0\0"),
        section(10, &[leb(count), function.repeat(count)].concat()),
    ];
    [b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat()
}

/// A function of so many variables that all change in the innermost of so many loops: each loop has each of them anew.
fn variables_in_loops(variables: usize, loops: usize) -> Vec<u8> {
    let mut code = [vec![1], leb(variables), vec![0x7f]].concat();
    code.extend([0x03, 0x40].repeat(loops));
    for at in 0..variables {
        let at = leb(at);
        code.extend([&[0x20], at.as_slice(), &[0x41, 1, 0x6a, 0x21], at.as_slice()].concat());
    }
    code.extend([0x20, 0, 0x0d, 0, 0x0b].repeat(loops));
    code.push(0x0b);
    code
}

/// A component that says it is a program, and whose types are twice as large from one to the next.
fn doubling_types() -> Vec<u8> {
    let mut types = vec![leb(40), vec![0x6f, 2, 0x7d, 0x7d]];
    (0..39).for_each(|at| types.push(vec![0x6f, 2, at, at]));
    let name = b"wasi:cli/run@0.2.0";
    let exported = [vec![1, 1], leb(name.len()), name.to_vec(), vec![5, 0, 0]].concat();
    let instance = [1, 1, 0];
    [b"\0asm\x0d\0\x01\0".to_vec(), section(7, &types.concat()), section(5, &instance), section(11, &exported)].concat()
}

/// What is published, and what whoever does so is told.
fn bombs() -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    const MEMORY: &[&str] = &["compiling the artifact takes more than 1024 MiB of memory"];
    let calls = [vec![0], [0x10, 0].repeat(1_000_000), vec![0x0b]].concat();
    vec![
        ("117 KB of variables in loops", program(1, &variables_in_loops(10_000, 3_900)), MEMORY),
        ("50 KB of variables in loops", program(1, &variables_in_loops(4_000, 2_000)), MEMORY),
        ("a million calls in each of three functions", program(3, &calls), MEMORY),
        ("blocks", program(1, &[vec![0], [0x02, 0x40].repeat(100_000), [0x0b].repeat(100_001)].concat()), &["and may have 4000"]),
        ("locals", program(1, &[vec![1], leb(4_000_000_000), vec![0x7f, 0x0b]].concat()), &["and may have 20000"]),
        ("functions", program(2_000_000, &[0, 0x0b]), &["2000000 functions, and may have 250000"]),
        ("types inside each other", doubling_types(), &["the artifact does not compile: "]),
        // Each function is compiled in a moment, and there are many.
        (
            "variables in loops in three hundred functions",
            program(300, &variables_in_loops(300, 300)),
            &["compiling the artifact takes more than 22 s of processor time", "compiling the artifact takes longer than 66 s"],
        ),
    ]
}

fn metric(client: &mut Client, name: &str) -> u64 {
    let metrics = client.get("/metrics").text();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().expect("a number"))
}

#[test]
fn bombs_are_refused_and_the_server_does_not_notice() {
    let app = App::new().server("metrics = \"/metrics\"").module("hello", "hello-wasip2", "").route("/hello", "hello", "");
    let source = app.file("bomb.wasm", &fs::read(guest("wasio-hello-world")).expect("a guest"));
    let app =
        app.tables(&format!("[[module]]\nname = \"bomb\"\nsource = {source:?}\ncodec = \"wasio\"")).route("/bomb", "bomb", "");
    let fornax = Fornax::run(FORNAX, app.write(), &["--watch"]);
    let mut client = fornax.client();
    let answers = |client: &mut Client| {
        assert_eq!(client.get("/hello").text(), "Hello from Fornax!\n");
        assert_eq!(client.get("/bomb").status, 200, "the version before it");
    };
    answers(&mut client);
    let own = || fornax.status_number("RssAnon") << 10;
    let (before, peak_before) = (own(), fornax.rss_peak_bytes());
    let (mut refused, all) = (0, bombs());
    for (name, bomb, expected) in &all {
        let seen = fornax.log().len();
        app.file("bomb.wasm", bomb);
        let line = || {
            let lines = fornax.log();
            lines[seen..].iter().find(|line| line.contains("module `bomb`")).cloned()
        };
        wait_until(name, LATE, || {
            answers(&mut client);
            line().is_some()
        });
        let line = line().expect("just seen");
        assert!(line.starts_with("error: ") && expected.iter().any(|text| line.contains(text)), "{name}: {line}");
        wait_until("it is over", SOON, || fornax.log()[seen..].iter().any(|line| line.contains("not reloaded")));
        assert_eq!(fornax.log()[seen..].iter().filter(|line| line.contains("module `bomb`")).count(), 1, "{name} is said once");
        refused += 1;
        // The artifact itself was in memory, and its pages go back a moment later.
        wait_until(&format!("{name}: memory is as before"), SOON, || own().saturating_sub(before) < OWN_BYTES_MORE_MAX);
    }
    assert_eq!(refused, all.len());
    answers(&mut client);
    let peak = fornax.rss_peak_bytes().saturating_sub(peak_before);
    assert!(peak < PEAK_BYTES_MORE_MAX, "{peak} bytes more at some time");
    note(&format!("after {refused} bombs {} B more than before, {peak} B more at most", own().saturating_sub(before)));
    let counted =
        |client: &mut Client, outcome: &str| metric(client, &format!("fornax_compilations_total{{outcome=\"{outcome}\"}}"));
    assert_eq!(counted(&mut client, "compiled"), 2);
    assert_eq!(counted(&mut client, "memory"), 3);
    assert_eq!(counted(&mut client, "cpu") + counted(&mut client, "wall"), 1);
    assert_eq!(children(fornax.pid()), "", "no compiler is left");
}

/// The processes that a server has started and not waited for.
fn children(process: u32) -> String {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("the process is there");
    let of = |thread: std::io::Result<fs::DirEntry>| fs::read_to_string(thread.ok()?.path().join("children")).ok();
    threads.filter_map(of).collect()
}

#[test]
fn a_start_with_a_bomb_says_why_it_fails() {
    let app = App::new();
    let bomb = app.file("bomb.wasm", &program(1, &variables_in_loops(10_000, 3_900)));
    let ended = run_to_end(Command::new(FORNAX).arg("run").arg(bomb));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("compiling the artifact takes more than 1024 MiB of memory"), "{}", ended.stderr);
}

#[test]
fn compiling_has_the_limits_it_was_given() {
    let bomb = program(1, &variables_in_loops(10_000, 3_900));
    for (limit, said) in [
        ("memory = \"512MiB\"", "compiling the artifact takes more than 512 MiB of memory"),
        ("cpu = \"1s\", memory = \"8GiB\"", "compiling the artifact takes more than 1 s of processor time"),
        ("wall = \"1s\", memory = \"8GiB\"", "compiling the artifact takes longer than 1 s"),
        ("upload = \"1KiB\"", "bomb.wasm is larger than the limit of 1 KiB"),
    ] {
        let app = App::new().server(&format!("compile = {{ {limit} }}"));
        app.file("bomb.wasm", &bomb);
        let app = app.tables("[[module]]\nname = \"bomb\"\nsource = \"bomb.wasm\"");
        let ended = run_to_end(Command::new(FORNAX).arg("run").arg(app.write()));
        assert_eq!(ended.code, Some(1), "{limit}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{limit}: {}", ended.stderr);
    }
}

#[test]
fn names_are_neither_copied_as_often_as_they_count_nor_shown_as_they_are() {
    let app = App::new();
    let name = |letters: &[u8]| [leb(letters.len()), letters.to_vec()].concat();
    // Many imports of one long name, which is there once.
    let imports = [vec![1], name(&[b'a'; 100_000]), vec![0, 0x7e, 0, 0], leb(30_000), vec![0; 30_000]].concat();
    let sections = [section(1, &[1, 0x60, 0, 0]), section(2, &imports)].concat();
    let many = app.file("many.wasm", &[b"\0asm\x01\0\0\0".to_vec(), sections].concat());
    // A component of a module that exports the same twice, which a compiler says by its name.
    let export = [name(&[b"\x1b[2J", [b'x'; 90_000].as_slice()].concat()), vec![0, 0]].concat();
    let sections = [
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[1, 0]),
        section(7, &[vec![2], export.repeat(2)].concat()),
        section(10, &[1, 2, 0, 0x0b]),
    ];
    let module = [b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat();
    let exported = [vec![1, 1], name(b"wasi:cli/run@0.2.0"), vec![5, 0, 0]].concat();
    let sections = [section(1, &module), section(5, &[1, 1, 0]), section(11, &exported)].concat();
    let twice = app.file("twice.wasm", &[b"\0asm\x0d\0\x01\0".to_vec(), sections].concat());
    for (file, expected) in [(many, "not valid WebAssembly"), (twice, "duplicate export name `\\u{1b}[2Jxxx")] {
        let began = Instant::now();
        let ended = run_to_end(Command::new(FORNAX).arg("run").arg(file).arg("-v"));
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.starts_with("error: ") && ended.stderr.contains(expected), "{}", ended.stderr);
        assert!(ended.stderr.len() < 20 << 10, "{} bytes", ended.stderr.len());
        assert!(began.elapsed() < SOON / 2, "{:?}", began.elapsed());
    }
}

#[test]
fn a_compiler_has_only_what_it_needs_and_goes_with_who_started_it() {
    let app = App::new();
    let bomb = app.file("bomb.wasm", &program(300, &variables_in_loops(300, 300)));
    let temporary = app.folder().join("temporary");
    fs::create_dir(&temporary).expect("a folder");
    let mut command = Command::new(FORNAX);
    command.arg("run").arg(bomb).env("TMPDIR", temporary).env("SECRET", "hunter2").stderr(Stdio::null());
    let mut server = command.spawn().expect("it starts");
    let mut compiler = String::new();
    wait_until("it compiles", SOON, || {
        compiler = children(server.id()).trim().to_owned();
        // From its last limit on.
        !compiler.is_empty() && proc(&compiler, "limits").lines().any(|line| line.starts_with("Max file size             0 "))
    });
    let line = |file: &str, start: &str| {
        let text = proc(&compiler, file);
        text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {text}")).to_owned()
    };
    let limits = |name: &str| line("limits", name).split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u64>>();
    assert_eq!(limits("Max cpu time"), [22, 23]);
    assert_eq!(limits("Max address space"), [1 << 30, 1 << 30]);
    assert_eq!(limits("Max core file size"), [0, 0]);
    assert_eq!(limits("Max open files"), [32, 32]);
    assert!(line("status", "NoNewPrivs:").ends_with('1'));
    assert_eq!(proc(&compiler, "oom_score_adj").trim(), "1000");
    assert!(!proc(&compiler, "environ").contains("SECRET"), "{}", proc(&compiler, "environ"));
    let open = |process: &str| {
        let links = fs::read_dir(format!("/proc/{process}/fd")).expect("it is there").map(|link| link.expect("a link").path());
        // One that is gone is the one by which they are listed.
        links.filter_map(|link| Some((link.file_name()?.to_owned(), fs::read_link(&link).ok()?))).collect::<BTreeMap<_, _>>()
    };
    // What the test itself was started with goes through all of them.
    let ours: BTreeSet<_> = open("self").into_values().collect();
    let theirs: Vec<_> = open(&compiler).into_iter().filter(|(_, to)| !ours.contains(to)).collect();
    let names: Vec<_> = theirs.iter().filter_map(|(name, _)| name.to_str()).collect();
    assert_eq!(names, ["0", "1", "2"], "{theirs:?}");
    // Without a chance to clean up.
    server.kill().and_then(|()| server.wait()).expect("it was there");
    wait_until("the compiler is gone", SOON, || {
        let stat = fs::read_to_string(format!("/proc/{compiler}/stat"));
        // Whoever adopts it may take its time to see that.
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
}

/// What the kernel says of a process.
fn proc(id: &str, file: &str) -> String {
    fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default()
}

#[test]
fn a_program_that_embeds_us_bounds_what_is_in_a_module_and_compiles_elsewhere_if_it_says_so() {
    let app = App::new();
    let blocks = app.file("blocks.wasm", &program(1, &[vec![0], [0x02, 0x40].repeat(5_000), [0x0b].repeat(5_001)].concat()));
    let memory = app.file("memory.wasm", &program(1, &variables_in_loops(10_000, 3_900)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let builder =
            || Builder::from_config(Config::empty()).expect("a builder").threads(1).pool(PoolSize::of(16)).without_http();
        let server = builder().build().await.expect("a server");
        let error = server.registry().load(&blocks).await.expect_err("too many").to_string();
        assert!(error.ends_with("the artifact has 4001 blocks inside each other in one function, and may have 4000"), "{error}");
        server.registry().load(guest("p1-command")).await.expect("it compiles here");

        let server = builder().compiler(FORNAX).build().await.expect("a server");
        let error = server.registry().load(&memory).await.expect_err("too much").to_string();
        assert!(error.contains("compiling the artifact takes more than 1024 MiB of memory"), "{error}");
        server.registry().load(guest("p1-command")).await.expect("it compiles there");

        // Something else than what is meant, and nothing at all.
        for (program, expected) in
            [("/bin/false", "the compiler broke down over it"), ("/nowhere", "the compiler cannot be started")]
        {
            let server = builder().compiler(program).build().await.expect("a server");
            let error = server.registry().load(guest("p1-command")).await.expect_err(program).to_string();
            assert!(error.contains(expected), "{error}");
        }
    });
}

#[test]
fn five_hundred_first_requests_cause_one_compilation() {
    let app = App::new()
        .server("metrics = \"/metrics\"\nmodules_loaded = 1")
        .module("popular", "hello-wstd", "")
        .route("/popular", "popular", "")
        .module("other", "hello-wasip2", "")
        .route("/other", "other", "");
    let data = app.folder().join("data");
    let fornax = Fornax::run(FORNAX, app.write(), &["--data", data.to_str().expect("UTF-8")]);
    let mut client = fornax.client();
    assert_eq!(client.get("/popular").status, 200);
    assert_eq!(client.get("/other").status, 200);
    wait_until("only the other one is loaded", SOON, || metric(&mut client, "fornax_modules_loaded") == 1);
    let compiled = "fornax_compilations_total{outcome=\"compiled\"}";
    assert_eq!(metric(&mut client, compiled), 2);
    remove_code(&data);
    let answers = at_once(fornax.addr(), 500, "/popular");
    let failed: Vec<_> = answers.iter().filter(|answer| answer.response.status != 200).collect();
    assert!(failed.is_empty(), "{} of 500, such as {:?}", failed.len(), failed[0]);
    assert_eq!(metric(&mut client, compiled), 3, "one for all of them");
    assert_eq!(metric(&mut client, "fornax_code_rejected_total"), 0, "what is not there is not wrong");
}

fn remove_code(data: &Path) {
    let files = fs::read_dir(data.join("compiled-code")).expect("a folder").map(|file| file.expect("a file").path());
    let code: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "cwasm")).collect();
    assert_eq!(code.len(), 2);
    code.iter().for_each(|path| fs::remove_file(path).expect("removed"));
}
