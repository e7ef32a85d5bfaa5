//! The host of plugins: `host.log`, and what plugins logged.

use std::sync::Arc;

use wasmtime::{Caller, Linker};

use crate::memory::Memory;
use crate::state::{Active, State};

/// The module plugins import.
pub(crate) const MODULE: &str = "host";

/// The lines a plugin logged: its output.
pub(crate) struct HostLog {
    text: String,
    has_lines: bool,
    active: Arc<Active>,
}

impl HostLog {
    pub(crate) fn new(active: &Arc<Active>) -> Self {
        Self { text: String::new(), has_lines: false, active: Arc::clone(active) }
    }

    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// Looks at the length before the text is mended, which makes it up to three times as long and copies it.
    fn push(&mut self, line: &[u8]) -> wasmtime::Result<()> {
        self.check(line.len())?;
        let line = String::from_utf8_lossy(line);
        self.check(line.len())?;
        if std::mem::replace(&mut self.has_lines, true) {
            self.text.push('\n');
        }
        self.text.push_str(&line);
        Ok(())
    }

    /// Whether a line of `len` bytes fits.
    fn check(&self, len: usize) -> wasmtime::Result<()> {
        if (self.text.len() + 1 + len) as u64 > self.active.module.limits.buffer_bytes {
            self.active.meter.note_output_over();
            wasmtime::bail!("more output than the limit");
        }
        Ok(())
    }
}

/// Defines the function `name` of [`MODULE`], if there is one.
pub(crate) fn define(linker: &mut Linker<State>, name: &str) -> wasmtime::Result<bool> {
    match name {
        "log" => linker.func_wrap(MODULE, name, log)?,
        _ => return Ok(false),
    };
    Ok(true)
}

/// A line of output. Text that is not UTF-8 is mended; bytes outside of the guest's memory end it.
fn log(mut caller: Caller<'_, State>, at: u32, len: u32) -> wasmtime::Result<()> {
    let (memory, state) = Memory::of(&mut caller)?;
    state.core().log.push(memory.bytes(at, len)?)
}
