//! HTTP/2 against HTTP/1.

use super::FAST;
use crate::bench::measure::{Field, Load};
use crate::bench::outcome::{Bar, Outcome};
use crate::bench::peers::{self, FRESH};
use crate::bench::{Context, Scenario};

const HTTP1: &str = "fornax, HTTP/1, 32 connections";
const ONE_STREAM: &str = "fornax, HTTP/2, 32 × 1";
const SOME: &str = "fornax, HTTP/2, 4 × 8";
const ONE_CONNECTION: &str = "fornax, HTTP/2, 1 × 32";

pub(super) const SCENARIO: Scenario = Scenario {
    name: "http2",
    what: "the lean hello over HTTP/2, as many connections × streams, beside HTTP/1 on the same server",
    figures: FAST,
    bars: &[
        Bar::ratio("HTTP/2, 32 connections of one stream: CPU of HTTP/1", "cpu_us", ONE_STREAM, 1.3, HTTP1),
        Bar::ratio("HTTP/2, 4 connections of 8 streams: CPU of HTTP/1", "cpu_us", SOME, 1.3, HTTP1),
        Bar::ratio("HTTP/2, 1 connection of 32 streams: CPU of HTTP/1", "cpu_us", ONE_CONNECTION, 1.3, HTTP1),
    ],
    loads: 4.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let mut field = Field::default();
    let server = peers::fornax(context, &peers::guest("hello-wasip2"), &[]);
    field.add(HTTP1, FRESH, server, Load::of(&["--connections", "32"]));
    for (name, connections, streams) in [(ONE_STREAM, "32", "1"), (SOME, "4", "8"), (ONE_CONNECTION, "1", "32")] {
        field.again(name, FRESH, Load::of(&["--connections", connections, "--streams", streams]));
    }
    field.measure(context)
}
