//! `fornax compile-for-server`: what a server starts to compile one module. Not for people.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use guest::CompileJob;

#[derive(Debug, Args)]
pub(super) struct Job {
    /// The engine the code is for
    purpose: String,
    /// What comes on standard input
    form: Form,
    /// Processor time it may take, in seconds
    cpu_s: u64,
    /// Memory it may take, in bytes
    memory_bytes: u64,
    /// Use every processor
    #[arg(long)]
    parallel: bool,
    /// Give way to guests
    #[arg(long)]
    beside_guests: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Core,
    Component,
}

pub(super) fn run(job: &Job) -> ExitCode {
    guest::compile_for_server(&CompileJob {
        purpose: job.purpose.clone(),
        is_core: job.form == Form::Core,
        cpu_s: job.cpu_s,
        memory_bytes: job.memory_bytes,
        is_parallel: job.parallel,
        is_beside_guests: job.beside_guests,
    })
}
