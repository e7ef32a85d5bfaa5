//! Modules, versions and artifacts: what survives a restart.
//!
//! Goals in tension: what was acknowledged must survive `kill -9` and a power cut, and nothing here may slow a request. So
//! this crate stands beside the road: it is asked when something is published, it blocks, and it answers only when the
//! disk has it. An artifact is named by its digest and never changes; what changes — which module is at which version —
//! is one small file, replaced whole. Both are written by the one function in `files.rs`.
//!
//! One process owns a data directory: opening it a second time is an error, not a race.
//!
//! | task | file |
//! | --- | --- |
//! | keep bytes | `artifacts.rs` |
//! | keep ids and versions | `modules.rs` |
//! | read what the operator names, tell what it is | `source.rs` |
//! | write so that a crash leaves old or new | `files.rs` |

mod artifacts;
mod files;
mod modules;
mod source;

pub use artifacts::ArtifactStore;
pub use modules::{Modules, Registered, Registration};
pub use source::{Artifact, kind_of, read_artifact, read_file, too_large};
