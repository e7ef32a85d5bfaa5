//! The servers of the comparison. A peer is one entry of [`all`].

use super::Guest;
use super::measure::Plan;
use crate::server::Server;
use crate::{Result, work};
use std::path::Path;
use std::process::Command;

/// A server that answers the hello.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// What keeps one call from the next; stated beside every number.
    pub(super) isolation: &'static str,
    program: Vec<String>,
    /// What is asked for, and how the right answer begins; the hello otherwise.
    pub(super) ask: Option<(&'static str, &'static str)>,
}

/// The name of the server we compare with.
pub(super) const WASMTIME: &str = "wasmtime serve";

/// The first is the floor, the last we are; whom we compare with is between them, where it serves such a guest.
pub(super) fn all(fornax: &Path, wasmtime: &Path, file: &Path, guest: &Guest) -> Vec<Peer> {
    let native = work::target().join("release/bench-native");
    let text = |path: &Path| path.display().to_string();
    let program = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut peers = vec![Peer { name: "native hyper", isolation: "none", program: program(&[&text(&native)]), ask: None }];
    if let Some(flags) = guest.wasmtime {
        let mut words = program(&[&text(wasmtime), "serve"]);
        words.extend(program(flags));
        words.extend(program(&["--addr=127.0.0.1:0", &text(file)]));
        peers.push(Peer { name: WASMTIME, isolation: "fresh instance", program: words, ask: guest.ask });
    }
    let mut words = program(&[&text(fornax), "run", &text(file), "--listen", "127.0.0.1:0"]);
    words.extend(program(guest.fornax));
    peers.push(Peer { name: "fornax", isolation: "fresh instance", program: words, ask: guest.ask });
    peers
}

impl Peer {
    pub(super) fn start(&self, plan: &Plan) -> Result<Server> {
        let mut command = plan.on_core(0, &self.program);
        without_backtraces(&mut command);
        Server::start(&mut command, "http://").map_err(|error| format!("{}: {error}", self.name))
    }
}

/// wasmtime pays for them at every error it makes, ours is built without: unset for everybody.
fn without_backtraces(command: &mut Command) {
    command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
}
