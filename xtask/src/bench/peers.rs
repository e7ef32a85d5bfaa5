//! The servers of the comparison. A peer is one entry of [`all`].

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
}

/// The first is the floor, the second whom we compare with, the last we are. `flags` are what `wasmtime serve` needs for this guest.
pub(super) fn all(fornax: &Path, wasmtime: &Path, guest: &Path, flags: &[&str]) -> Vec<Peer> {
    let native = work::target().join("release/bench-native");
    let text = |path: &Path| path.display().to_string();
    let program = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut wasmtime = program(&[&text(wasmtime), "serve"]);
    wasmtime.extend(program(flags));
    wasmtime.extend(program(&["--addr=127.0.0.1:0", &text(guest)]));
    vec![
        Peer { name: "native hyper", isolation: "none", program: program(&[&text(&native)]) },
        Peer { name: "wasmtime serve", isolation: "fresh instance", program: wasmtime },
        Peer {
            name: "fornax",
            isolation: "fresh instance",
            program: program(&[&text(fornax), "run", &text(guest), "--listen", "127.0.0.1:0"]),
        },
    ]
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
