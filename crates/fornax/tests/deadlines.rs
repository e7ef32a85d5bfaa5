//! Deadlines with a crowd: two hundred guests that never end are each answered in time, and a neighbour does not notice. And
//! what happens when there is no place.

use std::time::{Duration, Instant};

use testkit::{App, Fornax, Neighbour, Timed, alone, at_once, note, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

const CROWD: usize = 200;

const WALL: Duration = Duration::from_millis(500);

/// A deadline is kept when the answer comes within this time of it.
const LATE_MAX: Duration = Duration::from_millis(250);

const NEIGHBOUR_WITHIN: Duration = Duration::from_millis(250);

const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// `count` calls of `guest` at once, none of which ends by itself, for a tenant with exactly as many places. Afterwards all
/// places are free.
fn crowd(guest: &str, query: &str, count: usize) {
    let _alone = alone();
    let app = App::new()
        .server("metrics = \"/metrics\"")
        .tables(&format!("[tenant.busy]\nin_flight = {count}\nqueue = 0"))
        .module("endless", guest, "tenant = \"busy\"\nlimits = { wall = \"500ms\", cpu = \"30s\" }")
        .route("/endless", "endless", "tenant = \"busy\"")
        .module("short", "slow", "tenant = \"busy\"\nlimits = { wall = \"30s\" }")
        .route("/short", "short", "tenant = \"busy\"")
        .module("hello", "hello-wasip2", "")
        .route("/hello", "hello", "");
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let neighbour = Neighbour::start(server.addr(), "/hello");
    let answers = at_once(server.addr(), count, &format!("/endless{query}"));
    let slowest = answers.iter().map(|answer| answer.took).max().unwrap_or_default();
    let metrics = server.client().get("/metrics").text();
    // One more than the crowd is a neighbour that was taken for one of them.
    let moved = metrics.lines().find(|line| line.starts_with("fornax_guests_moved_total")).unwrap_or_default();
    note(&format!("{guest} × {count}: the slowest answer after {slowest:?}; {moved}"));
    neighbour.was_answered_within(NEIGHBOUR_WITHIN);
    for Timed { response, took } in answers {
        assert_eq!(response.status, 504, "{}", response.text());
        assert!(response.text().contains(r#""type":"deadline""#), "{}", response.text());
        assert!((WALL..=WALL + LATE_MAX).contains(&took), "an answer after {took:?}, the slowest after {slowest:?}");
    }
    let counted = format!("fornax_calls_total{{tenant=\"busy\",module=\"endless\",outcome=\"deadline\"}} {count}");
    assert!(metrics.lines().any(|line| line == counted), "{counted} is missing in\n{metrics}");
    wait_until("every place is free again", SETTLED_WITHIN, || {
        at_once(server.addr(), count, "/short?ms=300").iter().all(|answer| answer.response.status == 200)
    });
}

#[test]
fn two_hundred_loops_are_answered_in_time() {
    crowd("hostile-loop", "", CROWD);
}

#[test]
fn two_hundred_loops_of_the_newer_generation_are_answered_in_time() {
    crowd("hostile-loop3", "", CROWD);
}

#[test]
fn two_hundred_sleepers_are_answered_in_time() {
    crowd("slow", "?ms=60000", CROWD);
}

#[test]
fn one_sleeper_is_answered_in_time() {
    crowd("slow", "?ms=60000", 1);
}

/// A tenant with two places and a queue of two.
fn small(limits: &str) -> (App, Fornax) {
    let app = App::new()
        .tables(&format!("[tenant.small]\nin_flight = 2\nqueue = 2\n{limits}"))
        .module("slow", "slow", "tenant = \"small\"")
        .route("/slow", "slow", "tenant = \"small\"")
        .module("warm", "slow", "")
        .route("/warm", "warm", "");
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    // The first call of a process is slower than others. Another tenant's: a place is free only a moment after its answer.
    assert_eq!(server.client().get("/warm?ms=0").status, 200);
    (app, server)
}

/// Apart: those that were served, and the times of those that were refused as overload demands.
fn served(answers: Vec<Timed>) -> (usize, Vec<Duration>) {
    let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.response.status == 200);
    assert!(served.iter().all(|answer| answer.response.text() == "slept\n"));
    let mut times = Vec::new();
    for Timed { response, took } in refused {
        assert_eq!(response.status, 503, "{}", response.text());
        assert!(response.text().contains(r#""type":"overloaded""#), "{}", response.text());
        let seconds = response.header("retry-after").and_then(|seconds| seconds.parse::<u32>().ok());
        assert!(seconds.is_some_and(|seconds| seconds >= 1), "retry-after: {seconds:?}");
        times.push(took);
    }
    times.sort_unstable();
    (served.len(), times)
}

#[test]
fn a_queue_serves_whom_it_holds_and_refuses_the_others_at_once() {
    let _alone = alone();
    let (_app, server) = small("queue_wait = \"20s\"");
    let began = Instant::now();
    let (served, refused) = served(at_once(server.addr(), 10, "/slow?ms=500"));
    let took = began.elapsed();
    note(&format!("{served} served in {took:?}, refused after {refused:?}"));
    assert_eq!((served, refused.len()), (4, 6));
    assert!(refused.iter().all(|took| *took < LATE_MAX), "refused after {refused:?}");
    assert!(took >= Duration::from_secs(1), "four calls of half a second in two places took {took:?}");
}

#[test]
fn who_waits_too_long_is_refused() {
    let _alone = alone();
    let (_app, server) = small("queue_wait = \"300ms\"");
    let (served, refused) = served(at_once(server.addr(), 10, "/slow?ms=2000"));
    note(&format!("{served} served, refused after {refused:?}"));
    assert_eq!((served, refused.len()), (2, 8));
    let (at_once_refused, waited) = refused.split_at(6);
    assert!(at_once_refused.iter().all(|took| *took < LATE_MAX), "refused after {refused:?}");
    let patience = Duration::from_millis(300)..Duration::from_millis(300) + LATE_MAX;
    assert!(waited.iter().all(|took| patience.contains(took)), "refused after {refused:?}");
}
