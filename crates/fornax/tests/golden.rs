//! Every table of `guests/golden` holds, from the real program, over TCP and where there are cases for it on the command line.

use std::collections::BTreeSet;
use std::thread;

use serde_json::Value;
use testkit::golden::{self, Table};
use testkit::{App, Body, Client, Fornax, Response, Upstream, alone};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

/// Requests at once to one instrument.
const PARALLEL: usize = 64;

/// Writers at once of one directory.
const WRITERS: usize = 32;

/// Messages or pages of each writer.
const WRITES: usize = 5;

/// The tables of all guests of which `wanted` holds.
fn tables(upstream: &Upstream, wanted: impl Fn(&str) -> bool) -> Vec<Table> {
    let mut tables = golden::tables(upstream.addr());
    tables.retain(|table| wanted(table.guest()));
    assert!(!tables.is_empty(), "no table");
    tables
}

/// One app of all these guests answers everything as their tables say.
#[track_caller]
fn assert_served(wanted: impl Fn(&str) -> bool) {
    // Compiling all of them takes the whole machine in a debug build, and several servers at once would be late.
    let _alone = alone();
    let upstream = Upstream::start();
    let mut tables = tables(&upstream, wanted);
    tables.retain(Table::is_served);
    let app = tables.iter().fold(App::new(), |app, table| table.serve(app));
    let fornax = Fornax::run(PROGRAM, app.write(), &[]);
    let mut client = fornax.client();
    let wrong: Vec<String> = tables.iter().flat_map(|table| table.over_http(&mut client)).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_instrument_answers_as_its_table_says() {
    assert_served(|guest| guest.starts_with("wasio-"));
}

#[test]
fn every_plugin_answers_as_its_table_says() {
    assert_served(|guest| guest.starts_with("plugin-"));
}

#[test]
fn every_attack_ends_as_its_table_says() {
    assert_served(|guest| guest.starts_with("hostile-"));
}

#[test]
fn every_other_guest_answers_as_its_table_says() {
    assert_served(|guest| !["wasio-", "plugin-", "hostile-"].iter().any(|prefix| guest.starts_with(prefix)));
}

#[test]
fn every_command_does_as_its_table_says() {
    let upstream = Upstream::start();
    let wrong: Vec<String> = tables(&upstream, |_| true).iter().flat_map(|table| table.on_command_line(PROGRAM)).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn each_of_sixty_four_clients_at_once_gets_its_own_answer() {
    let _alone = alone();
    let upstream = Upstream::start();
    // Of each instrument one, whatever else it can be given.
    let mut tables = tables(&upstream, |guest| guest.starts_with("wasio-"));
    tables.retain(|table| table.module() == table.guest());
    let app = tables.iter().fold(App::new().server("metrics = \"/metrics\""), |app, table| table.serve(app));
    let fornax = Fornax::run(PROGRAM, app.write(), &[]);
    for table in &tables {
        let (answers, wrong) = table.at_once(fornax.addr(), PARALLEL);
        assert!(wrong.is_empty(), "{} of {PARALLEL} wrong, the first {}", wrong.len(), wrong[0]);
        ran_once_each(table.guest(), &answers);
    }
    let metrics = fornax.client().get("/metrics").text();
    for table in &tables {
        let line = format!("fornax_calls_total{{tenant=\"default\",module=\"{}\",outcome=\"2xx\"}} {PARALLEL}", table.module());
        assert!(metrics.lines().any(|known| known == line), "{line} is missing in\n{metrics}");
    }
}

/// What shows that each call started its program once: every seed is another, and of what is written there is one for each.
fn ran_once_each(guest: &str, answers: &[Response]) {
    let number_behind = |mark: &str, text: &str| -> Option<i64> {
        let rest = text.split_once(mark)?.1;
        rest[..rest.find([')', ','])?].parse().ok()
    };
    let numbers = |mark: &str| answers.iter().filter_map(|answer| number_behind(mark, &answer.text())).collect::<BTreeSet<_>>();
    match guest {
        "wasio-hello-world" => assert_eq!(numbers("(seed: ").len(), PARALLEL, "two calls had the same seed"),
        "wasio-chat" => assert!(numbers("\"id\":").into_iter().eq(1..=PARALLEL as i64), "some message was sent more than once"),
        _ => {}
    }
}

/// A server with one instrument that keeps files, and what calls have written, in the order of `written`.
fn written_at_once(instrument: &str, write: impl Fn(&mut Client, usize) -> Response + Sync) -> (App, Fornax, Vec<Response>) {
    let upstream = Upstream::start();
    let mut tables = tables(&upstream, |guest| guest == instrument);
    tables.retain(|table| table.module() == instrument);
    let app = tables.iter().fold(App::new(), |app, table| table.serve(app));
    let fornax = Fornax::run(PROGRAM, app.write(), &[]);
    let written = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (write, mut client) = (&write, fornax.client());
                scope.spawn(move || (0..WRITES).map(|turn| write(&mut client, writer * WRITES + turn)).collect::<Vec<_>>())
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer ends")).collect()
    });
    (app, fornax, written)
}

#[test]
fn chat_loses_no_message_of_many_writers() {
    let (_app, fornax, sent) = written_at_once("wasio-chat", |client, number| {
        client.get(&format!("/wasio-chat/?action=send&username=writer&text=message+{number}"))
    });
    let json = |response: &Response| serde_json::from_slice::<Value>(&response.body).expect("JSON");
    let mut messages: Vec<Value> = sent.iter().map(json).collect();
    messages.sort_by_key(|message| message["id"].as_u64());
    let ids: Vec<u64> = messages.iter().filter_map(|message| message["id"].as_u64()).collect();
    assert_eq!(ids, (1..=(WRITERS * WRITES) as u64).collect::<Vec<_>>());
    let kept = json(&fornax.client().get("/wasio-chat/?action=get"));
    assert_eq!(kept, Value::Array(messages.split_off(WRITERS * WRITES - 100)));
}

#[test]
fn wiki_pages_stay_whole_under_many_writers() {
    // Each writer's page is of one word, so that a mixture shows.
    let text = |number: usize| format!("word{number} ").repeat(10_000);
    let form = &[("content-type", "application/x-www-form-urlencoded")];
    let (app, _fornax, saved) = written_at_once("wasio-wiki", |client, number| {
        let body = format!("content={}", text(number).replace(' ', "+"));
        client.request("POST", "/wasio-wiki/?edit=shared", form, Body::Length(body.into_bytes()))
    });
    for answer in &saved {
        assert!(answer.status == 200 && answer.text().contains("Saved."), "{answer:?}");
        let shown = answer.text();
        let words = shown.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.starts_with("word"));
        let words: BTreeSet<&str> = words.collect();
        assert!(words.len() <= 1, "a reader saw several writers: {words:?}");
    }
    let page = std::fs::read_to_string(app.folder().join("wasio-wiki/0/shared.txt")).expect("the page");
    assert!((0..WRITERS * WRITES).any(|number| page == text(number)), "{} bytes of nobody", page.len());
    let left: Vec<_> = std::fs::read_dir(app.folder().join("wasio-wiki/0")).expect("the directory").collect();
    assert_eq!(left.len(), 3, "{left:?}");
}
