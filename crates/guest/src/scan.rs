//! What an artifact is, read from its bytes before anything is compiled: which engine it needs, how it can be called, what
//! it asks for.

use base::{Entry, Error, Kind};
use wasmparser::{
    BinaryReaderError, CanonicalFunction, CanonicalOption, ComponentDefinedType, ComponentExternalKind, ComponentType, Encoding,
    ExternalKind, Payload,
};

use crate::caps::{self, Tally};
use crate::engine::EngineKind;
use crate::entry::{ENTRIES, EntryType};

/// Functions and modules by which core modules used interfaces before there were components.
const OF_2022: [&str; 4] = ["canonical_abi_realloc", "canonical_abi_free", "canonical_abi", "wasi_experimental_http"];

/// Names in one sentence: more than any artifact has that was meant to be called.
const LISTED_MAX: usize = 16;

/// Of one name: longer than those of interfaces with their versions.
const NAME_CHARS_MAX: usize = 100;

/// Of a sentence with names in it.
const SHOWN_BYTES: usize = 8 << 10;

/// What the bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) engine: EngineKind,
    /// Whether it is a core module, not a component.
    pub(crate) is_core: bool,
    pub(crate) entries: Vec<Entry>,
    /// Of a component; those of a core module are linked one by one.
    pub(crate) imports: Vec<String>,
}

impl Scan {
    /// The entry a configuration names, or all of them where it names none.
    ///
    /// # Errors
    ///
    /// [`Kind::Unprocessable`] if the artifact does not have it; or has several that only a name can tell apart.
    pub(crate) fn choose(&self, entry: Option<Entry>) -> Result<Vec<Entry>, Error> {
        let names = |entries: &[Entry]| list(&entries.iter().map(|entry| entry.name()).collect::<Vec<_>>());
        match entry {
            Some(entry) if !self.entries.contains(&entry) => {
                Err(refuse(format!("the artifact has no entry `{entry}`; it offers {}", names(&self.entries))))
            }
            Some(entry) => Ok(vec![entry]),
            None if self.is_core && self.entries.len() > 1 => {
                let first = self.entries[0].name();
                Err(refuse(format!(
                    "the module offers the entries {}; say which one is meant: `entry = \"{first}\"` in its \
                     [[module]], or `--entry {first}`",
                    names(&self.entries)
                )))
            }
            None => Ok(self.entries.clone()),
        }
    }
}

/// The ways an artifact can be called.
///
/// # Errors
///
/// [`Kind::Unprocessable`] if it is not valid WebAssembly, or cannot be called.
pub fn entries(artifact: &[u8]) -> Result<Vec<Entry>, Error> {
    scan(artifact).map(|scan| scan.entries)
}

/// Reads an artifact.
///
/// Errors are [`Kind::Unprocessable`] and written for whoever publishes: what is wrong, what was looked for, what to do.
pub(crate) fn scan(bytes: &[u8]) -> Result<Scan, Error> {
    let (mut reader, mut tally) = (Reader::default(), Tally::default());
    for payload in caps::parser().parse_all(bytes) {
        let payload = payload.map_err(invalid)?;
        // Before anything is read of what is too much.
        tally.count(&payload, bytes)?;
        reader.read(payload)?;
    }
    reader.finish()
}

/// What wasmparser finds. Some of it goes over several lines.
pub(crate) fn invalid(error: BinaryReaderError) -> Error {
    let what = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    refuse(format!("the file is not valid WebAssembly: {what} (at offset {:#x})", error.offset()))
}

/// A name that is no longer than names are.
fn owned(name: &str) -> Result<String, Error> {
    caps::check_name(name).map(|()| name.to_owned())
}

fn refuse(text: String) -> Error {
    Error::new(Kind::Unprocessable, text)
}

#[derive(Default)]
struct Reader {
    /// 1 inside the outermost component or module.
    depth: u32,
    is_core: bool,
    is_async: bool,
    imports: Vec<String>,
    exports: Vec<String>,
    /// What a core module imports that says how old it is.
    of_2022: Option<&'static str>,
    /// Of a core module's exports, the functions.
    functions: Vec<String>,
}

impl Reader {
    fn read(&mut self, payload: Payload<'_>) -> Result<(), Error> {
        match payload {
            Payload::Version { encoding, .. } => {
                self.depth += 1;
                self.is_core |= self.depth == 1 && encoding == Encoding::Module;
            }
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ComponentTypeSection(section) => {
                for ty in section {
                    self.is_async |= is_async_type(&ty.map_err(invalid)?);
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    self.is_async |= is_async_function(&function.map_err(invalid)?);
                }
            }
            Payload::ComponentImportSection(section) if self.depth == 1 => {
                for import in section {
                    self.imports.push(owned(import.map_err(invalid)?.name.name)?);
                }
            }
            Payload::ComponentExportSection(section) if self.depth == 1 => {
                for export in section {
                    let export = export.map_err(invalid)?;
                    if matches!(export.kind, ComponentExternalKind::Instance | ComponentExternalKind::Func) {
                        self.exports.push(owned(export.name.name)?);
                    }
                }
            }
            Payload::ImportSection(section) if self.depth == 1 && self.is_core => {
                for import in section.into_imports() {
                    let module = import.map_err(invalid)?.module;
                    caps::check_name(module)?;
                    self.of_2022 = self.of_2022.or(OF_2022.into_iter().find(|name| *name == module));
                }
            }
            Payload::ExportSection(section) if self.depth == 1 && self.is_core => {
                for export in section {
                    let export = export.map_err(invalid)?;
                    self.exports.push(owned(export.name)?);
                    if export.kind == ExternalKind::Func {
                        self.functions.push(owned(export.name)?);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Scan, Error> {
        if let Some(name) = self.imports.iter().chain(&self.exports).find(|name| name.contains("@0.3.0-rc")) {
            return Err(refuse(format!(
                "the component uses `{}`, a release candidate of WASI 0.3. Rebuild it for 0.3.0",
                shown(name)
            )));
        }
        let has_function = |name: &&str| self.functions.iter().any(|function| function == name);
        if let Some(name) = self.of_2022.or_else(|| OF_2022.into_iter().find(has_function)) {
            return Err(refuse(format!(
                "the module uses `{name}`, how interfaces were lowered in 2022. Rebuild it as a component, such as `--target \
                 wasm32-wasip2` makes"
            )));
        }
        let has = |prefix: &str| self.exports.iter().any(|name| name.starts_with(prefix));
        let means = |ty: &&EntryType| match self.is_core {
            true => ty.core_exports.iter().any(|name| self.functions.iter().any(|export| export == name)),
            false => ty.exports.iter().any(|prefix| has(prefix)),
        };
        let entries: Vec<_> = ENTRIES.iter().filter(means).map(|ty| ty.entry).collect();
        if entries.is_empty() {
            return Err(self.no_entry());
        }
        let engine = if self.is_async { EngineKind::Concurrent } else { EngineKind::Plain };
        Ok(Scan { engine, is_core: self.is_core, entries, imports: self.imports })
    }

    fn no_entry(&self) -> Error {
        let exports = list(&self.exports);
        if self.is_core {
            let looked_for: Vec<_> = ENTRIES.iter().flat_map(|ty| ty.core_exports).collect();
            return refuse(format!(
                "the module has no entry: it exports {exports}; looked for the functions {}. An HTTP service is a component, such as \
                 `--target wasm32-wasip2` makes",
                list(&looked_for),
            ));
        }
        let looked_for: Vec<_> = ENTRIES.iter().flat_map(|ty| ty.exports).map(|name| format!("{name}…")).collect();
        refuse(format!("the component has no entry: it exports {exports}; looked for {}", list(&looked_for)))
    }
}

/// Whether a type exists only in components for the concurrent engine.
fn is_async_type(ty: &ComponentType<'_>) -> bool {
    use wasmparser::{ComponentTypeDeclaration as Outer, InstanceTypeDeclaration as Inner};
    match ty {
        ComponentType::Func(function) => function.async_,
        ComponentType::Defined(ComponentDefinedType::Future(_) | ComponentDefinedType::Stream(_)) => true,
        ComponentType::Component(declarations) => declarations.iter().any(|d| matches!(d, Outer::Type(ty) if is_async_type(ty))),
        ComponentType::Instance(declarations) => declarations.iter().any(|d| matches!(d, Inner::Type(ty) if is_async_type(ty))),
        _ => false,
    }
}

/// Whether a canonical function exists only in components for the concurrent engine.
fn is_async_function(function: &CanonicalFunction) -> bool {
    let is_async =
        |options: &[CanonicalOption]| options.iter().any(|o| matches!(o, CanonicalOption::Async | CanonicalOption::Callback(_)));
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => is_async(options),
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. } => false,
        // Tasks, streams, futures, waitable sets, error contexts, threads.
        _ => true,
    }
}

/// The first of them: an artifact may have any number.
fn list<S: AsRef<str>>(names: &[S]) -> String {
    let listed: Vec<_> = names.iter().take(LISTED_MAX).map(|name| format!("`{}`", shown(name.as_ref()))).collect();
    match names.len().saturating_sub(LISTED_MAX) {
        _ if names.is_empty() => "nothing".to_owned(),
        0 => listed.join(", "),
        more => format!("{} and {more} more", listed.join(", ")),
    }
}

/// A line as people may be shown it that somebody else may have had a say in: not too long, and nothing that a terminal or a log would
/// take for anything but a letter.
pub(crate) fn line(text: &str) -> String {
    let mut shown = String::new();
    for letter in text[..text.floor_char_boundary(SHOWN_BYTES)].chars() {
        match letter {
            '"' | '\'' | '\\' => shown.push(letter),
            _ => shown.extend(letter.escape_debug()),
        }
    }
    shown
}

/// A name of an artifact within a sentence: it may be of any length, and have line ends or what moves a terminal's cursor.
pub(crate) fn shown(name: &str) -> String {
    let (first, is_cut) = name.char_indices().nth(NAME_CHARS_MAX).map_or((name, false), |(end, _)| (&name[..end], true));
    format!("{}{}", first.escape_debug(), if is_cut { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_make_a_sentence_anything_else() {
        assert_eq!(list(&["a", "b\n\u{1b}[2J"]), "`a`, `b\\n\\u{1b}[2J`");
        assert_eq!(list(&vec!["x".repeat(200); 18]).matches(&format!("`{}…`", "x".repeat(NAME_CHARS_MAX))).count(), LISTED_MAX);
        assert!(list(&["a"; 18]).ends_with("`a` and 2 more"));
        assert_eq!(list::<&str>(&[]), "nothing");
    }

    fn of(guest: &str) -> Scan {
        scan(&std::fs::read(testkit::guest(guest)).expect("a built guest")).expect("a good component")
    }

    #[test]
    fn the_engine_is_chosen_from_the_bytes() {
        for (guest, engine) in [
            ("hello-wasip2", EngineKind::Plain),
            ("hello-wstd", EngineKind::Plain),
            ("counter-draft2", EngineKind::Plain),
            ("hello-wasip3", EngineKind::Concurrent),
            ("hello-sync3", EngineKind::Concurrent),
            ("counter-draft2-async", EngineKind::Concurrent),
        ] {
            assert_eq!(of(guest).engine, engine, "{guest}");
        }
    }

    #[test]
    fn every_entry_of_a_component_is_recorded() {
        assert_eq!(of("multi").entries, [Entry::Http, Entry::Run]);
        assert_eq!(of("hello-wasip3").entries, [Entry::Http]);
    }

    #[test]
    fn bytes_that_are_no_component_are_refused_with_a_reason() {
        for (bytes, expected) in [
            (&b"\0asm\x01\0\0\0"[..], "looked for the functions `_start`, `process`"),
            (b"\0asm\x0d\0\x01\0", "no entry"),
            (b"\0asm\x0d\0\x01\0\xff", "not valid WebAssembly"),
            (b"", "not valid WebAssembly"),
            (b"\0asm\x01\0\0\0\x05\x03\x01\0\0\x07\x08\x01\x04\x1b[2J\x02\0", "it exports `\\u{1b}[2J`;"),
        ] {
            let error = scan(bytes).expect_err("not a component with an entry");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
