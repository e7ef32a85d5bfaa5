//! What hostile guests do, by the entry they do it in, and what must become of it.

use std::net::SocketAddr;

/// What becomes of an attack.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// A status and a `type`, which is the outcome in the metrics, too; the connection goes on.
    Refused(u16, &'static str),
    /// 200 with this body; the connection goes on.
    Answered(&'static str),
    /// 200 with the beginning of a body; the connection ends.
    CutOff(&'static str),
    /// The same, with more of it than anybody wants; so it begins.
    Flooded(&'static str),
}

pub(crate) struct Attack {
    /// Its place in the matrix: entry, and what it is called there.
    pub(crate) column: usize,
    pub(crate) row: &'static str,
    /// The package of a folder in `guests/hostile`, or one of [`TEXTS`].
    pub(crate) guest: String,
    /// Lines of its module, such as `codec = "cgi"`.
    pub(crate) given: String,
    /// Whether it is a step between two others of a chain.
    pub(crate) chained: bool,
    /// Of the request: what the guest is to do.
    pub(crate) query: String,
    /// Limits that are not as all others'.
    pub(crate) limits: Option<&'static str>,
    pub(crate) end: End,
    /// What the log says, besides what it says of any failure.
    pub(crate) log: &'static [&'static str],
    /// Whether the answer is nevertheless logged as a failure.
    pub(crate) fails_late: bool,
}

impl Attack {
    fn new(column: usize, row: &'static str, guest: &str, given: &str, end: End) -> Self {
        let (guest, given, query) = (guest.to_owned(), given.to_owned(), String::new());
        Self { column, row, guest, given, chained: false, query, limits: None, end, log: &[], fails_late: false }
    }

    /// The label in the metrics.
    pub(crate) fn outcome(&self) -> &'static str {
        match self.end {
            End::Refused(_, kind) => kind,
            End::Answered(_) | End::CutOff(_) | End::Flooded(_) => "2xx",
        }
    }

    pub(crate) fn is_logged(&self) -> bool {
        matches!(self.end, End::Refused(..)) || self.fails_late
    }
}

const WASIO: &str = r#"codec = "wasio""#;
const IGNIS: &str = r#"codec = "ignis""#;
const CGI: &str = r#"codec = "cgi""#;

/// The place of a guest in a row of [`MISBEHAVIOURS`], and what its module is given; `{}` is what it shall do.
type Way = (usize, &'static str);

const CLI_WASIO: &str = "codec = \"wasio\"\nargs = [\"{}\"]";
const CLI_IGNIS: &str = "codec = \"ignis\"\nargs = [\"{}\"]";
const CLI_CGI: &str = "codec = \"cgi\"\nargs = [\"{}\"]";

/// Instances that could have served another call.
const SERIAL: &str = "reuse = \"serial\"";
const CONCURRENT: &str = "reuse = \"concurrent\"";

/// Every entry, with every codec it takes, and with instances that are kept.
const ENTRIES: &[Way] = &[
    (0, ""),
    (0, SERIAL),
    (1, ""),
    (1, SERIAL),
    (1, CONCURRENT),
    (2, WASIO),
    (2, IGNIS),
    (2, CGI),
    (3, ""),
    (4, CLI_WASIO),
    (4, CLI_IGNIS),
    (4, CLI_CGI),
    (5, CLI_WASIO),
    (5, CLI_IGNIS),
    (5, CLI_CGI),
];

/// Steps of chains: one of each kind of entry.
const CHAINED: &[Way] = &[(0, ""), (2, ""), (3, ""), (5, "args = [\"{}\"]")];

/// Programs: modules of preview 1, one for each `{}`, and components of `wasi:cli` 0.2 and 0.3.
const PROGRAMS: &[(usize, &str)] = &[(2, "hostile-run-{}"), (4, "hostile-cli"), (5, "hostile-cli3")];

/// For what computes long before it ends, most of all in a debug build.
pub(crate) const PATIENT: &str = r#"limits = { cpu = "10s", wall = "30s", memory = "64MiB" }"#;

/// For what waits until it is ended.
const WAITS: &str = r#"limits = { wall = "200ms" }"#;

/// For what computes only while somebody reads.
const FLOODS: &str = r#"limits = { cpu = "100ms", wall = "10s" }"#;

const STACK: &[&str] = &["inner_trap", "middle_function", "outer_function"];

/// Modules in text, beside the packages of `guests/hostile`.
pub(crate) const TEXTS: &[(&str, &str)] = &[
    ("start-command", include_str!("../../../../guests/wat/hostile-start-command.wat")),
    ("start-plugin", include_str!("../../../../guests/wat/hostile-start-plugin.wat")),
    ("tables-command", include_str!("../../../../guests/wat/hostile-tables-command.wat")),
    ("tables-plugin", include_str!("../../../../guests/wat/hostile-tables-plugin.wat")),
];

/// What can be done in an entry: by which guest, or why not.
#[derive(Clone, Copy)]
enum Cell {
    Guest(&'static str),
    /// It is attacked in this way, but by other means: here.
    Else(&'static str),
    /// There is nothing to attack, for this reason.
    No(&'static str),
}
use Cell::{Else, Guest, No};

/// The same in every entry that knows it: of `wasi:http` 0.2 and 0.3, of a program of preview 1, of a plugin, of `wasi:cli` 0.2 and 0.3.
struct Misbehaviour {
    what: &'static str,
    cells: [Cell; 6],
    limits: Option<&'static str>,
    end: End,
    log: &'static [&'static str],
    fails_late: bool,
}

impl Misbehaviour {
    const fn refused(what: &'static str, status: u16, kind: &'static str, cells: [Cell; 6]) -> Self {
        Self { what, cells, limits: None, end: End::Refused(status, kind), log: &[], fails_late: false }
    }

    /// One that has been answered when it is found to compute too long.
    const fn late(what: &'static str, end: End, cells: [Cell; 6]) -> Self {
        Self { end, log: &[r#"kind="cpu-limit""#], fails_late: true, ..Self::refused(what, 504, "cpu-limit", cells) }
    }
}

const HTTP: Cell = Guest("hostile-http");
const HTTP3: Cell = Guest("hostile-http3");
const CLI: Cell = Guest("hostile-cli");
const CLI3: Cell = Guest("hostile-cli3");

const AS_HTTP: Cell = Else("a component of wasi:cli is made and called in the same way: see wasi:http");
const AS_PROGRAM: Cell = Else("attacked as a program, below");

const MISBEHAVIOURS: &[Misbehaviour] = &[
    Misbehaviour::refused(
        "loop",
        504,
        "cpu-limit",
        [Guest("hostile-loop"), Guest("hostile-loop3"), Guest("hostile-run-loop"), Guest("hostile-process-loop"), CLI, CLI3],
    ),
    Misbehaviour::refused(
        "start",
        504,
        "cpu-limit",
        [Guest("hostile-start"), Guest("hostile-start3"), Guest("start-command"), Guest("start-plugin"), AS_HTTP, AS_HTTP],
    ),
    Misbehaviour::refused(
        "realloc",
        504,
        "cpu-limit",
        [HTTP, HTTP3, Else("hungry allocator, below"), Else("allocator, below"), AS_HTTP, AS_HTTP],
    ),
    Misbehaviour::late(
        "post-return",
        End::Answered("complete\n"),
        [
            Guest("hostile-post-return"),
            No("WASI 0.3 has no such function"),
            No("core modules have no such function"),
            No("core modules have no such function"),
            No("`run` returns nothing that is cleaned up"),
            No("WASI 0.3 has no such function"),
        ],
    ),
    Misbehaviour::late(
        "task",
        End::Answered("complete\n"),
        [
            Else("loop-after-body, below"),
            HTTP3,
            No("ends with its call"),
            No("ends with its call"),
            No("ends with its call"),
            No("its answer is known when it has ended"),
        ],
    ),
    Misbehaviour::refused(
        "bulk",
        504,
        "cpu-limit",
        [HTTP, HTTP3, Guest("hostile-run-bulk"), Guest("hostile-process-bulk"), CLI, CLI3],
    ),
    Misbehaviour {
        limits: Some(PATIENT),
        ..Misbehaviour::refused(
            "memory-bomb",
            502,
            "memory-limit",
            [
                Guest("hostile-memory-bomb"),
                Guest("hostile-memory-bomb3"),
                Guest("hostile-run-memory-bomb"),
                Guest("hostile-process-memory-bomb"),
                CLI,
                CLI3,
            ],
        )
    },
    Misbehaviour::refused(
        "tables",
        502,
        "trap",
        [
            Else("its core modules are held to the same number as a program"),
            Else("its core modules are held to the same number as a program"),
            Guest("tables-command"),
            Guest("tables-plugin"),
            AS_HTTP,
            AS_HTTP,
        ],
    ),
    Misbehaviour::refused("handles", 502, "trap", [HTTP, HTTP3, Else("descriptors, below"), No("it has none"), AS_HTTP, AS_HTTP]),
    Misbehaviour {
        log: STACK,
        ..Misbehaviour::refused(
            "trap",
            502,
            "trap",
            [Guest("hostile-trap"), Guest("hostile-trap3"), Guest("hostile-run-trap"), Guest("hostile-process-trap"), CLI, CLI3],
        )
    },
    Misbehaviour {
        log: &["descend"],
        ..Misbehaviour::refused(
            "recursion",
            502,
            "stack",
            [
                Guest("hostile-recursion"),
                Guest("hostile-recursion3"),
                Guest("hostile-run-recursion"),
                Guest("hostile-process-recursion"),
                CLI,
                CLI3,
            ],
        )
    },
    Misbehaviour {
        limits: Some(WAITS),
        ..Misbehaviour::refused(
            "sleeper",
            504,
            "deadline",
            [HTTP, HTTP3, AS_PROGRAM, No("it has nothing to wait for"), AS_PROGRAM, AS_PROGRAM],
        )
    },
    Misbehaviour {
        limits: Some(WAITS),
        ..Misbehaviour::refused(
            "blackhole",
            504,
            "deadline",
            [
                HTTP,
                HTTP3,
                AS_PROGRAM,
                Else("a core module's functions are the same as a program's"),
                No("it has no requests"),
                No("it has no requests"),
            ],
        )
    },
    // The other lines are dropped and counted, which is no failure.
    Misbehaviour::refused(
        "log",
        504,
        "cpu-limit",
        [HTTP, HTTP3, Guest("hostile-run-log"), Else("log-flood, below: its lines are its answer"), CLI, CLI3],
    ),
    // How long it takes is up to who reads it.
    Misbehaviour {
        limits: Some(FLOODS),
        ..Misbehaviour::late(
            "output",
            End::Flooded("xxxxxxxx"),
            [HTTP, HTTP3, AS_PROGRAM, Else("log-flood, below"), AS_PROGRAM, AS_PROGRAM],
        )
    },
];

/// Every misbehaviour in every entry, and then what only some entries know. `silent` takes connections and says nothing.
pub(crate) fn all(silent: SocketAddr) -> Vec<Attack> {
    let in_every_entry = MISBEHAVIOURS.iter().flat_map(|misbehaviour| {
        let ways = ENTRIES.iter().map(|way| (way, false)).chain(CHAINED.iter().map(|way| (way, true)));
        ways.filter_map(move |(way, chained)| misbehaviour.attack(way, chained, silent))
    });
    in_every_entry.chain(of_http()).chain(of_programs(silent)).chain(of_answers()).chain(of_plugins()).collect()
}

/// Cells of the matrix without an attack of their own: row, column, reason.
pub(crate) fn without() -> impl Iterator<Item = (&'static str, usize, &'static str)> {
    MISBEHAVIOURS.iter().flat_map(|Misbehaviour { what, cells, .. }| {
        let reason = |(column, cell): (usize, &Cell)| match cell {
            Guest(_) => None,
            Else(reason) | No(reason) => Some((*what, column, *reason)),
        };
        cells.iter().enumerate().filter_map(reason)
    })
}

/// Whether an attack of this name has a cell for every entry.
pub(crate) fn is_everywhere(row: &str) -> bool {
    MISBEHAVIOURS.iter().any(|misbehaviour| misbehaviour.what == row)
}

impl Misbehaviour {
    fn attack(&self, (place, given): &Way, chained: bool, silent: SocketAddr) -> Option<Attack> {
        let Self { what, cells, limits, end, log, fails_late } = self;
        let Guest(guest) = cells[*place] else { return None };
        // Within a chain the next step never begins, and what is late is not there: it has failed.
        if chained && *fails_late {
            return None;
        }
        let mut given = given.replace("{}", what);
        let mut query = String::new();
        if [HTTP, HTTP3].iter().any(|cell| matches!(cell, Guest(of_http) if *of_http == guest)) {
            // A chain has its first step's input for a body and no query: such a guest does not know what to do.
            if chained {
                return None;
            }
            query = format!("what={what}&to={silent}");
            given = format!("{given}\noutbound = [\"http://{silent}\"]");
        }
        let attack = Attack::new(*place, what, guest, &given, *end);
        Some(Attack { limits: *limits, log, chained, query, fails_late: *fails_late, ..attack })
    }
}

fn of_http() -> Vec<Attack> {
    let with = |given| {
        let attack = |guest: &'static str, end| Attack::new(0, guest.trim_start_matches("hostile-"), guest, given, end);
        let late = |guest, end| Attack { fails_late: true, log: &[r#"kind="cpu-limit""#], ..attack(guest, end) };
        [
            attack("hostile-no-response", End::Refused(502, "no-response")),
            // The first answer has not left when the second traps.
            Attack { log: &["ResponseOutparam::set"], ..attack("hostile-second-response", End::Refused(502, "trap")) },
            // Behind the end of a body that may already have left.
            Attack {
                query: "what=trailers".to_owned(),
                log: &["trap"],
                row: "trailers after the end",
                ..attack("hostile-http", End::Refused(502, "trap"))
            },
            attack("hostile-bad-length", End::Refused(502, "bad-response")),
            attack("hostile-forbidden", End::Answered(FORBIDDEN)),
            late("hostile-loop-after-head", End::CutOff("partial\n")),
            late("hostile-loop-after-body", End::Answered("complete\n")),
        ]
    };
    ["", SERIAL].into_iter().flat_map(with).collect()
}

/// What GUESTS.md and `docs/codecs.md` say of each codec, the same for a module of preview 1 and for components.
fn of_programs(silent: SocketAddr) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (guest, scheme, key) in [("ignis-host-http", "http", "url=http://"), ("ignis-host-socket", "tcp", "address=")] {
        let given = format!("{IGNIS}\noutbound = [\"{scheme}://{silent}\"]");
        let attack = Attack::new(2, "blackhole", guest, &given, End::Refused(504, "deadline"));
        attacks.push(Attack { limits: Some(WAITS), query: format!("{key}{silent}"), ..attack });
    }
    let hungry = |query: &str, told| Attack {
        query: query.to_owned(),
        ..Attack::new(2, "hungry allocator", "hostile-run-hungry-allocator", WASIO, End::Answered(told))
    };
    attacks.push(hungry("again", "runs 1, told something, inside nothing\n"));
    attacks.push(hungry("nothing", "runs 1, told nothing, inside nothing\n"));
    let directory = format!("{WASIO}\ndirs = [{{ host = \".\", guest = \"/data\" }}]");
    // Standard input, output and error, and the directory itself; the number is `EMFILE` of preview 1.
    let opened = End::Answered("60 open, then 33\n");
    attacks.push(Attack::new(2, "descriptors", "hostile-run-descriptors", &directory, opened));
    for (column, guest) in [(4, "hostile-cli"), (5, "hostile-cli3")] {
        let given = format!("{directory}\nargs = [\"descriptors\"]");
        attacks.push(Attack::new(column, "descriptors", guest, &given, End::Answered("64 open\n")));
    }
    for (column, guest) in PROGRAMS {
        let attack = |what: &'static str, codec: &str, end| {
            let args = if guest.contains("{}") { String::new() } else { format!("args = [{what:?}]") };
            Attack::new(*column, what, &guest.replace("{}", what), &format!("{codec}\n{args}"), end)
        };
        // A component says only whether it went well.
        let code: &[&str] = if guest.contains("{}") { &["exit code 3"] } else { &["exit code 1"] };
        attacks.extend([
            attack("silent", WASIO, End::Answered("")),
            attack("silent", IGNIS, End::Answered("")),
            attack("silent", CGI, End::Refused(502, "no-response")),
            Attack { limits: Some(WAITS), ..attack("sleeper", WASIO, End::Refused(504, "deadline")) },
            // Control characters are shown, not sent to whoever reads the log.
            Attack {
                log: &["plain words", r"\u{1b}[31mred\u{1b}[0m", "no end"],
                ..attack("stderr", WASIO, End::Answered("ok\n"))
            },
        ]);
        for codec in [WASIO, IGNIS, CGI] {
            attacks.push(Attack { log: code, ..attack("exit", codec, End::Refused(502, "guest-exit")) });
            let flood = attack("flood", codec, End::Refused(502, "output-limit"));
            attacks.push(Attack { limits: Some(PATIENT), ..flood });
        }
    }
    attacks
}

/// Answers no codec may pass on.
fn of_answers() -> Vec<Attack> {
    let ignis = [
        "ignis-damaged",
        "ignis-cut",
        "ignis-status",
        "ignis-informational",
        "ignis-value",
        "ignis-name",
        "ignis-fields",
        "ignis-large",
    ];
    // That with nothing but framing lacks one of three fields that RFC 3875 wants.
    let cgi = [
        "cgi-status",
        "cgi-words",
        "cgi-value",
        "cgi-name",
        "cgi-colon",
        "cgi-endless",
        "cgi-framing",
        "cgi-fields",
        "cgi-large",
    ];
    let answer = |codec, query: &'static str, end| Attack {
        query: query.to_owned(),
        ..Attack::new(2, query, "hostile-run-bad-answer", codec, end)
    };
    let refused = |codec| move |query| answer(codec, query, End::Refused(502, "bad-response"));
    // The server frames an answer, whatever the guest says.
    let framed = answer(IGNIS, "ignis-framing", End::Answered("body"));
    ignis.into_iter().map(refused(IGNIS)).chain(cgi.into_iter().map(refused(CGI))).chain([framed]).collect()
}

fn of_plugins() -> Vec<Attack> {
    let pointer = |query: &str| Attack {
        query: query.to_owned(),
        ..Attack::new(3, "pointers", "hostile-process-bad-pointer", "", End::Refused(502, "trap"))
    };
    let allocator = |query: &str, status, kind| Attack {
        query: query.to_owned(),
        ..Attack::new(3, "allocator", "hostile-process-bad-allocator", "", End::Refused(status, kind))
    };
    let mut attacks: Vec<_> =
        ["input=end", "input=behind", "input=far", "input=wraps", "input=all"].into_iter().map(pointer).collect();
    attacks.extend([
        allocator("input=1", 502, "trap"),
        allocator("input=12", 502, "trap"),
        allocator("input=123", 502, "trap"),
        Attack { log: &["no memory for its input"], ..allocator("input=1234", 502, "trap") },
        allocator("input=12345", 504, "cpu-limit"),
        Attack { log: STACK, ..allocator("input=123456", 502, "trap") },
        Attack { limits: Some(PATIENT), ..allocator("input=1234567", 502, "memory-limit") },
        allocator("input=12345678", 502, "stack"),
        Attack {
            limits: Some(PATIENT),
            ..Attack::new(3, "log-flood", "hostile-process-log-flood", "", End::Refused(502, "output-limit"))
        },
    ]);
    attacks
}

const FORBIDDEN: &str = r#""connection" "close": forbidden
"Connection" "close": forbidden
"keep-alive" "timeout=5": forbidden
"proxy-connection" "close": forbidden
"transfer-encoding" "chunked": forbidden
"upgrade" "websocket": forbidden
"host" "example.com": forbidden
"http2-settings" "AAMAAABkAAQAAP__": forbidden
"x-split" "a\r\nset-cookie: evil=1": invalid-syntax
"x-line" "a\nb": invalid-syntax
"x-return" "a\rb": invalid-syntax
"x-nul" "a\0b": invalid-syntax
"x bad name" "a": invalid-syntax
"x-bad\r\nname" "a": invalid-syntax
"" "a": invalid-syntax
"x-fine" "a": ok
"#;
