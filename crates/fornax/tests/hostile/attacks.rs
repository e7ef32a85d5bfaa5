//! What hostile guests do, by the entry they do it in, and what must become of it.

/// What becomes of an attack.
pub(crate) enum End {
    /// A status and a `type`, which is the outcome in the metrics, too; the connection goes on.
    Refused(u16, &'static str),
    /// 200 with this body; the connection goes on.
    Answered(&'static str),
    /// 200 with the beginning of a body; the connection ends.
    CutOff(&'static str),
}

pub(crate) struct Attack {
    /// The package of a folder in `guests/hostile`.
    pub(crate) guest: String,
    /// Lines of its module, such as `codec = "cgi"`.
    pub(crate) given: String,
    /// Whether it is a step between two others of a chain.
    pub(crate) chained: bool,
    /// Of the request: what the guest is to do.
    pub(crate) query: &'static str,
    /// Limits that are not as all others'.
    pub(crate) limits: Option<&'static str>,
    pub(crate) end: End,
    /// What the log says, besides what it says of any failure.
    pub(crate) log: &'static [&'static str],
    /// Whether the answer is nevertheless logged as a failure.
    pub(crate) fails_late: bool,
}

impl Attack {
    fn new(guest: &str, given: &str, end: End) -> Self {
        let (guest, given) = (guest.to_owned(), given.to_owned());
        Self { guest, given, chained: false, query: "", limits: None, end, log: &[], fails_late: false }
    }

    /// The label in the metrics.
    pub(crate) fn outcome(&self) -> &'static str {
        match self.end {
            End::Refused(_, kind) => kind,
            End::Answered(_) | End::CutOff(_) => "2xx",
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
const PROGRAMS: &[&str] = &["hostile-run-{}", "hostile-cli", "hostile-cli3"];

/// For what computes long before it ends, most of all in a debug build.
pub(crate) const PATIENT: &str = r#"limits = { cpu = "10s", wall = "30s", memory = "64MiB" }"#;

const STACK: &[&str] = &["inner_trap", "middle_function", "outer_function"];

/// The same in every entry: of `wasi:http` 0.2 and 0.3, of a program of preview 1, of a plugin, of `wasi:cli` 0.2 and 0.3.
struct Misbehaviour {
    what: &'static str,
    guests: [&'static str; 6],
    limits: Option<&'static str>,
    status: u16,
    kind: &'static str,
    log: &'static [&'static str],
}

const MISBEHAVIOURS: &[Misbehaviour] = &[
    Misbehaviour {
        what: "loop",
        guests: ["hostile-loop", "hostile-loop3", "hostile-run-loop", "hostile-process-loop", "hostile-cli", "hostile-cli3"],
        limits: None,
        status: 504,
        kind: "cpu-limit",
        log: &[],
    },
    Misbehaviour {
        what: "memory-bomb",
        guests: [
            "hostile-memory-bomb",
            "hostile-memory-bomb3",
            "hostile-run-memory-bomb",
            "hostile-process-memory-bomb",
            "hostile-cli",
            "hostile-cli3",
        ],
        limits: Some(PATIENT),
        status: 502,
        kind: "memory-limit",
        log: &[],
    },
    Misbehaviour {
        what: "trap",
        guests: ["hostile-trap", "hostile-trap3", "hostile-run-trap", "hostile-process-trap", "hostile-cli", "hostile-cli3"],
        limits: None,
        status: 502,
        kind: "trap",
        log: STACK,
    },
    Misbehaviour {
        what: "recursion",
        guests: [
            "hostile-recursion",
            "hostile-recursion3",
            "hostile-run-recursion",
            "hostile-process-recursion",
            "hostile-cli",
            "hostile-cli3",
        ],
        limits: None,
        status: 502,
        kind: "stack",
        log: &["descend"],
    },
];

/// Every misbehaviour in every entry, and then what only some entries know.
pub(crate) fn all() -> Vec<Attack> {
    let in_every_entry = MISBEHAVIOURS.iter().flat_map(|misbehaviour| {
        let ways = ENTRIES.iter().map(|way| (way, false)).chain(CHAINED.iter().map(|way| (way, true)));
        ways.map(move |(way, chained)| misbehaviour.attack(way, chained))
    });
    in_every_entry.chain(of_http()).chain(of_programs()).chain(of_answers()).chain(of_plugins()).collect()
}

impl Misbehaviour {
    fn attack(&self, (place, given): &Way, chained: bool) -> Attack {
        let Self { what, guests, limits, status, kind, log } = self;
        let end = End::Refused(*status, kind);
        Attack { limits: *limits, log, chained, ..Attack::new(guests[*place], &given.replace("{}", what), end) }
    }
}

fn of_http() -> Vec<Attack> {
    let with = |given| {
        let late = |guest, end| Attack { fails_late: true, log: &[r#"kind="cpu-limit""#], ..Attack::new(guest, given, end) };
        [
            Attack::new("hostile-no-response", given, End::Refused(502, "no-response")),
            // The first answer has not left when the second traps.
            Attack {
                log: &["ResponseOutparam::set"],
                ..Attack::new("hostile-second-response", given, End::Refused(502, "trap"))
            },
            Attack::new("hostile-bad-length", given, End::Refused(502, "bad-response")),
            Attack::new("hostile-forbidden", given, End::Answered(FORBIDDEN)),
            late("hostile-loop-after-head", End::CutOff("partial\n")),
            late("hostile-loop-after-body", End::Answered("complete\n")),
        ]
    };
    ["", SERIAL].into_iter().flat_map(with).collect()
}

/// What GUESTS.md and `docs/codecs.md` say of each codec, the same for a module of preview 1 and for components.
fn of_programs() -> Vec<Attack> {
    let mut attacks = Vec::new();
    let hungry = |query, told| Attack { query, ..Attack::new("hostile-run-hungry-allocator", WASIO, End::Answered(told)) };
    attacks.push(hungry("again", "runs 1, told something, inside nothing\n"));
    attacks.push(hungry("nothing", "runs 1, told nothing, inside nothing\n"));
    for guest in PROGRAMS {
        let attack = |what, codec: &str, end| {
            let args = if guest.contains("{}") { String::new() } else { format!("args = [{what:?}]") };
            Attack::new(&guest.replace("{}", what), &format!("{codec}\n{args}"), end)
        };
        // A component says only whether it went well.
        let code: &[&str] = if guest.contains("{}") { &["exit code 3"] } else { &["exit code 1"] };
        attacks.extend([
            attack("silent", WASIO, End::Answered("")),
            attack("silent", IGNIS, End::Answered("")),
            attack("silent", CGI, End::Refused(502, "no-response")),
            Attack { limits: Some(r#"limits = { wall = "200ms" }"#), ..attack("sleeper", WASIO, End::Refused(504, "deadline")) },
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
    let answer = |codec, query, end| Attack { query, ..Attack::new("hostile-run-bad-answer", codec, end) };
    let refused = |codec| move |query| answer(codec, query, End::Refused(502, "bad-response"));
    // The server frames an answer, whatever the guest says.
    let framed = answer(IGNIS, "ignis-framing", End::Answered("body"));
    ignis.into_iter().map(refused(IGNIS)).chain(cgi.into_iter().map(refused(CGI))).chain([framed]).collect()
}

fn of_plugins() -> Vec<Attack> {
    let pointer = |query| Attack { query, ..Attack::new("hostile-process-bad-pointer", "", End::Refused(502, "trap")) };
    let allocator =
        |query, status, kind| Attack { query, ..Attack::new("hostile-process-bad-allocator", "", End::Refused(status, kind)) };
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
        Attack { limits: Some(PATIENT), ..Attack::new("hostile-process-log-flood", "", End::Refused(502, "output-limit")) },
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
