//! Tables of what guests answer: `guests/golden/<guest>.toml`, and `<guest>.<variant>.toml` for a guest that is given something else.
//!
//! A table says what its module is given, and then case by case what is asked and what must come back, over HTTP or on the command line.
//! Answers are patterns ([`crate::pattern`]), so that what depends on the time or on chance has a place in them. Cases run in the order
//! of the file, over one directory: one may find what another has left. `<<upstream>>` stands for the address of an [`crate::Upstream`].
//!
//! `[at_once]` is a case for many clients at the same time, each of which must get the answer to its own request: `<<client>>` stands for the
//! client's number, in two digits, and `<<client-hex>>` for the same number as 32 bits in hexadecimal.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde::Deserialize;

use crate::{App, Body, Client, Finished, Response, built, each_at_once, pattern, run_to_end_with};

/// What one module is given and what it then answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The guest, and what is behind the first dot of the file's name.
    #[serde(skip)]
    name: (String, String),
    /// None for a module that only has a command line.
    codec: Option<String>,
    process_input: Option<String>,
    limits: Option<toml::Table>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    outbound: Vec<String>,
    #[serde(default)]
    dirs: Vec<Dir>,
    #[serde(rename = "case")]
    cases: Vec<Case>,
    /// For many clients.
    at_once: Option<Case>,
}

/// The number of the first of many clients: from here on they have two digits.
const FIRST_CLIENT: usize = 10;

/// A directory with files in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dir {
    guest: String,
    #[serde(default = "read_only")]
    mode: String,
    #[serde(default)]
    files: BTreeMap<String, String>,
}

fn read_only() -> String {
    "ro".into()
}

/// With `request` one over HTTP, with `args` one on the command line.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Case {
    /// `METHOD TARGET`, below the module's route.
    request: Option<String>,
    headers: BTreeMap<String, String>,
    body: Option<String>,
    /// 200 where nothing is said.
    status: Option<u16>,
    /// The host's own answer, of this `type`.
    error: Option<String>,
    /// The content type, up to its first semicolon.
    #[serde(rename = "type")]
    content_type: Option<String>,
    /// Patterns of fields.
    fields: BTreeMap<String, String>,
    /// The pattern of the whole body, as text.
    answer: Option<String>,
    /// The same of its bytes in hexadecimal.
    hex: Option<String>,
    contains: Vec<String>,
    lacks: Vec<String>,

    args: Option<Vec<String>>,
    stdin: String,
    code: i32,
    /// Patterns of what is printed.
    stdout: String,
    stderr: String,
}

/// The tables of all guests that could be built, sorted by name.
///
/// # Panics
///
/// If a table cannot be read, or its guest should have been built and was not.
pub fn tables(upstream: SocketAddr) -> Vec<Table> {
    let folder = guests().join("golden");
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).expect("guests/golden").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let tables: Vec<Table> = files.iter().map(|file| read(file, upstream)).filter(Table::can_run).collect();
    assert!(!tables.is_empty(), "no table in {}", folder.display());
    tables
}

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests")
}

fn read(file: &Path, upstream: SocketAddr) -> Table {
    let text = fs::read_to_string(file).expect("a table is text").replace("<<upstream>>", &upstream.to_string());
    let mut table: Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("a name");
    let (guest, variant) = stem.split_once('.').unwrap_or((stem, ""));
    table.name = (guest.into(), variant.into());
    table
}

impl Table {
    /// The guest it is about.
    pub fn guest(&self) -> &str {
        &self.name.0
    }

    /// The module's name, and that of its route, `/<module>/*`.
    pub fn module(&self) -> String {
        match self.name.1.as_str() {
            "" => self.name.0.clone(),
            variant => format!("{}-{variant}", self.name.0),
        }
    }

    /// Whether any case is over HTTP.
    pub fn is_served(&self) -> bool {
        self.cases.iter().any(|case| case.request.is_some())
    }

    /// Guests of a language that is not installed have not been built: a developer may lack it, CI may not.
    fn can_run(&self) -> bool {
        let name = self.guest();
        if built(name).is_some() {
            return true;
        }
        let optional = guests().join("go").join(name).is_dir() || guests().join("c").join(format!("{name}.c")).is_file();
        assert!(optional && env::var_os("CI").is_none(), "the guest {name} is not built: run `cargo xtask guests` first");
        crate::note(&format!("SKIPPED: the guest {name} is not built, its language is not installed"));
        false
    }

    /// Creates its directories and adds its module and route.
    #[must_use]
    pub fn serve(&self, app: App) -> App {
        let module = self.module();
        let mut lines = toml::Table::new();
        let dirs = self.dirs(&app.folder().join(&module)).into_iter().map(|(host, guest, mode)| {
            let host = host.display().to_string();
            toml::Value::from(BTreeMap::from([("host", host), ("guest", guest), ("mode", mode)]))
        });
        lines.insert("dirs".into(), toml::Value::Array(dirs.collect()));
        lines.insert("env".into(), self.env.clone().into());
        lines.insert("args".into(), self.args.clone().into());
        lines.insert("outbound".into(), self.outbound.clone().into());
        lines.extend(self.codec.clone().map(|codec| ("codec".into(), codec.into())));
        lines.extend(self.process_input.clone().map(|input| ("process_input".into(), input.into())));
        lines.extend(self.limits.clone().map(|limits| ("limits".into(), limits.into())));
        // What is not granted is not mentioned: not every entry knows these keys.
        lines.retain(|_, value| {
            !value.as_array().is_some_and(Vec::is_empty) && !value.as_table().is_some_and(toml::Table::is_empty)
        });
        // Inline: what follows a table in brackets would belong to it.
        let lines: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        app.module(&module, self.guest(), &lines).route(&format!("/{module}/*"), &module, "")
    }

    /// Writes its files and says what becomes of each directory: host, guest, mode.
    fn dirs(&self, below: &Path) -> Vec<(PathBuf, String, String)> {
        let dirs = self.dirs.iter().enumerate().map(|(index, dir)| {
            let host = below.join(index.to_string());
            fs::create_dir_all(&host).expect("a directory");
            for (name, text) in &dir.files {
                let file = host.join(name);
                fs::create_dir_all(file.parent().expect("below a directory")).expect("a directory");
                fs::write(file, text).expect("a file");
            }
            (host, dir.guest.clone(), dir.mode.clone())
        });
        dirs.collect()
    }

    /// Sends every request, in order, and returns what is wrong.
    pub fn over_http(&self, client: &mut Client) -> Vec<String> {
        let cases = self.cases.iter().filter(|case| case.request.is_some());
        cases.filter_map(|case| self.explain(case, &case.send(client, &self.module()))).collect()
    }

    /// Sends the request of `[at_once]` on `count` connections at the same time. Returns the answers, and what is wrong with them.
    ///
    /// # Panics
    ///
    /// If the table has none, or if it is no GET.
    pub fn at_once(&self, address: SocketAddr, count: usize) -> (Vec<Response>, Vec<String>) {
        let case = self.at_once.as_ref().unwrap_or_else(|| panic!("{} has no [at_once]", self.module()));
        let cases: Vec<Case> = (FIRST_CLIENT..).take(count).map(|client| case.of(client)).collect();
        let target = |case: &Case| {
            let (method, target) = case.request();
            assert_eq!(method, "GET", "[at_once] of {}", self.module());
            format!("/{}{target}", self.module())
        };
        let targets: Vec<String> = cases.iter().map(target).collect();
        let answers: Vec<Response> = each_at_once(address, &targets).into_iter().map(|timed| timed.response).collect();
        let wrong = cases.iter().zip(&answers).filter_map(|(case, answer)| self.explain(case, answer)).collect();
        (answers, wrong)
    }

    fn explain(&self, case: &Case, response: &Response) -> Option<String> {
        let wrong = case.wrong(response);
        let request = case.request.as_deref().unwrap_or_default();
        (!wrong.is_empty()).then(|| format!("{} {request}:\n    {}", self.module(), wrong.join("\n    ")))
    }

    /// Runs every case of the command line with `fornax run` and returns what is wrong.
    pub fn on_command_line(&self, program: &str) -> Vec<String> {
        let app = App::new();
        let dirs = self.dirs(app.folder());
        let mut wrong = Vec::new();
        for case in &self.cases {
            let Some(args) = &case.args else { continue };
            let mut command = Command::new(program);
            command.arg("run").arg(crate::guest(self.guest()));
            for (host, guest, mode) in &dirs {
                let access = if mode == "rw" { ":rw" } else { "" };
                command.arg("--dir").arg(format!("{}::{guest}{access}", host.display()));
            }
            for (name, value) in &self.env {
                command.arg("--env").arg(format!("{name}={value}"));
            }
            command.arg("--").args(args);
            let ended = run_to_end_with(&mut command, case.stdin.as_bytes());
            wrong.extend(case.differs(&ended).map(|what| format!("{} {args:?}:\n    {what}", self.module())));
        }
        wrong
    }
}

impl Case {
    /// The same for one of many clients.
    fn of(&self, client: usize) -> Self {
        let filled =
            |text: &String| text.replace("<<client>>", &client.to_string()).replace("<<client-hex>>", &format!("{client:08x}"));
        Self {
            request: self.request.as_ref().map(filled),
            answer: self.answer.as_ref().map(filled),
            hex: self.hex.as_ref().map(filled),
            contains: self.contains.iter().map(filled).collect(),
            ..self.clone()
        }
    }

    /// Method and target.
    fn request(&self) -> (&str, &str) {
        let request = self.request.as_deref().and_then(|request| request.split_once(' '));
        request.unwrap_or_else(|| panic!("no request `METHOD TARGET`: {self:?}"))
    }

    fn send(&self, client: &mut Client, module: &str) -> Response {
        let (method, target) = self.request();
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let body = self.body.clone().map_or(Body::None, |body| Body::Length(body.into_bytes()));
        client.request(method, &format!("/{module}{target}"), &headers, body)
    }

    fn wrong(&self, response: &Response) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        let text = response.text();
        let field = |name: &str| response.header(name).unwrap_or("(none)");
        let content_type = field("content-type").split(';').next().unwrap_or_default().trim();
        expect(response.status == self.status.unwrap_or(200), format!("status {}", response.status));
        expect(!response.truncated, "truncated".into());
        if let Some(kind) = &self.error {
            expect(text.contains(&format!(r#""type":"{kind}""#)) && content_type == "application/json", format!("error {text}"));
        }
        if let Some(wanted) = &self.content_type {
            expect(content_type == wanted, format!("type {content_type}"));
        }
        for (name, wanted) in &self.fields {
            expect(pattern::matches(wanted, field(name)), format!("{name}: {}", field(name)));
        }
        if let Some(wanted) = &self.answer {
            expect(pattern::matches(wanted, &text), format!("answer {text:?}\n      not {wanted:?}"));
        }
        if let Some(wanted) = &self.hex {
            let hex: String = response.body.iter().map(|byte| format!("{byte:02x}")).collect();
            expect(pattern::matches(wanted, &hex), format!("{} bytes, {}…", response.body.len(), hex.get(..200).unwrap_or(&hex)));
        }
        for part in &self.contains {
            expect(text.contains(part), format!("no {part:?} in {text:?}"));
        }
        for part in &self.lacks {
            expect(!text.contains(part), format!("{part:?} in {text:?}"));
        }
        wrong
    }

    fn differs(&self, ended: &Finished) -> Option<String> {
        let same = ended.code == Some(self.code)
            && pattern::matches(&self.stdout, &ended.stdout)
            && pattern::matches(&self.stderr, &ended.stderr);
        (!same).then(|| format!("{ended:?}\n    not {} {:?} {:?}", self.code, self.stdout, self.stderr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_can_be_read() {
        for entry in fs::read_dir(guests().join("golden")).expect("guests/golden") {
            let table = read(&entry.expect("an entry").path(), SocketAddr::from(([127, 0, 0, 1], 1)));
            assert!(table.codec.is_some() || !table.is_served(), "{} needs a codec to be served", table.module());
            for case in &table.cases {
                assert_ne!(case.request.is_some(), case.args.is_some(), "{}: `request` or `args`: {case:?}", table.module());
            }
        }
    }

    #[test]
    fn each_of_many_clients_has_a_case_of_its_own() {
        let request = Some("GET /?n=<<client>>".into());
        let case =
            Case { request, answer: Some("<<client>> <<int>>".into()), hex: Some("<<client-hex>>".into()), ..Case::default() };
        let of = case.of(42);
        assert_eq!((of.request.as_deref(), of.hex.as_deref()), (Some("GET /?n=42"), Some("0000002a")));
        assert_eq!(of.answer.as_deref(), Some("42 <<int>>"));
    }

    #[test]
    fn a_case_says_what_is_wrong() {
        let case = Case { answer: Some("a <<int>>".into()), fields: [("x-a".into(), "1".into())].into(), ..Case::default() };
        let response = |status, body: &str| Response {
            status,
            headers: vec![("x-a".into(), "1".into())],
            body: body.into(),
            trailers: Vec::new(),
            truncated: false,
        };
        assert_eq!(case.wrong(&response(200, "a 1")), [""; 0]);
        assert_eq!(case.wrong(&response(404, "a b")), ["status 404", "answer \"a b\"\n      not \"a <<int>>\""]);
    }
}
