//! A `fornax.toml` in a temporary directory of its own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::guest;

/// Writes an app down, table by table. The directory goes with it.
#[derive(Debug)]
pub struct App {
    folder: TempDir,
    top: String,
    server: String,
    tables: String,
}

impl Default for App {
    fn default() -> Self {
        Self::new()
    }
}

impl App {
    /// An app of nothing.
    ///
    /// # Panics
    ///
    /// If there is no place for temporary files.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("fornax-test-").tempdir().expect("a temporary directory");
        Self { folder, top: String::new(), server: String::new(), tables: String::new() }
    }

    /// The directory the app is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Lines in front of every table, such as `tenant = "acme"`.
    #[must_use]
    pub fn top(mut self, lines: &str) -> Self {
        self.top.push_str(lines);
        self.top.push('\n');
        self
    }

    /// Lines of `[server]`.
    #[must_use]
    pub fn server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// A module of a guest, with more lines of its table, such as `limits = { wall = "1s" }`.
    ///
    /// # Panics
    ///
    /// If the guest has not been built.
    #[must_use]
    pub fn module(self, name: &str, guest_name: &str, lines: &str) -> Self {
        let source = guest(guest_name);
        self.tables(&format!("[[module]]\nname = {name:?}\nsource = {source:?}\n{lines}"))
    }

    /// A route to a module, with more lines of its table, such as `methods = ["GET"]`.
    #[must_use]
    pub fn route(self, path: &str, module: &str, lines: &str) -> Self {
        self.tables(&format!("[[route]]\npath = {path:?}\nmodule = {module:?}\n{lines}"))
    }

    /// Any tables.
    #[must_use]
    pub fn tables(mut self, text: &str) -> Self {
        // Writing to a String does not fail.
        let _ = writeln!(self.tables, "\n{text}");
        self
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        format!("{}\n[server]\n{}{}", self.top, self.server, self.tables)
    }

    /// Writes `fornax.toml`, whole or not at all, and says where.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self) -> PathBuf {
        self.file("fornax.toml", self.text().as_bytes())
    }

    /// Puts a file beside `fornax.toml`, in one step, as editors and builds do.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        let new = self.folder.path().join(format!("{name}.new"));
        std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &path)).expect("a file is written");
        path
    }
}
