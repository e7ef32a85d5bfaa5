//! What an artifact may have of anything, counted before it is compiled.
//!
//! The format itself allows a million of most things, and a compiler holds each of them in memory several times over. Here is
//! what real modules have, with room: no cap is under four times what the largest modules in use have, interpreters of
//! JavaScript and Python among them. What is over one is refused with its name; what is under all of them may still
//! be much work, which the limits of the process that compiles it bound.
//!
//! Counting costs what reading costs. What stands at the head of a section is counted whenever an artifact is looked at;
//! functions are gone through only when they are to be compiled.

use std::collections::BTreeMap;
use std::ops::Range;

use base::{Error, Kind};
use wasmparser::{
    BinaryReader, ComponentImport, ComponentType, CustomSectionReader, InstanceTypeDeclaration, KnownCustom,
    ModuleTypeDeclaration, Name, Operator, Parser, Payload, SubType, WasmFeatures,
};

use crate::scan::invalid;

/// Something that is counted, as it is called behind a number, and how many of it there may be.
#[derive(Debug)]
struct Cap {
    what: &'static str,
    max: u64,
}

impl Cap {
    fn check(&self, found: u64) -> Result<(), Error> {
        let Self { what, max } = self;
        if found <= *max {
            return Ok(());
        }
        Err(Error::new(Kind::Unprocessable, format!("the artifact has {found} {what}, and may have {max}")))
    }
}

const fn cap(what: &'static str, max: u64) -> Cap {
    Cap { what, max }
}

// Of all modules and components of an artifact together. In brackets is the most that was found in JavaScript's interpreter (10 MiB), a
// component of Python (20 MiB) and a program of Go (6 MiB).

/// A component is put together of modules, adapters among them [14].
const MODULES: Cap = cap("core modules", 200);
/// Composed of others, each of which brings some for what it imports and exports [1].
const COMPONENTS: Cap = cap("components", 200);
/// Each module has its own [1,100].
const TYPES: Cap = cap("types", 25_000);
/// Modules that are linked when they start import all they need of each other [2,293].
const IMPORTS: Cap = cap("imports", 25_000);
/// [19,845]
const FUNCTIONS: Cap = cap("functions", 250_000);
/// What such modules import, others export [4,206].
const EXPORTS: Cap = cap("exports", 50_000);
/// They have one for each address [874].
const GLOBALS: Cap = cap("globals", 25_000);
/// The format allows 100 in each module; an instance has 8 [2].
const TABLES: Cap = cap("tables", 200);
/// As tables; an instance has 4 [1].
const MEMORIES: Cap = cap("memories", 200);
/// Kinds of exceptions: a language has one or two [0].
const TAGS: Cap = cap("tags", 1_000);
/// Linkers write one for each table [7].
const ELEMENT_SEGMENTS: Cap = cap("element segments", 10_000);
/// Go writes one for each run of bytes that are not zero [76,754], so this is what the format allows in four modules.
const DATA_SEGMENTS: Cap = cap("data segments", 400_000);
/// Interfaces are types, and their functions declarations in them [537].
const COMPONENT_TYPES: Cap = cap("component types and declarations in them", 25_000);
/// About one for each import and export of a module [1,522].
const COMPONENT_ITEMS: Cap = cap("instances, aliases and functions of components", 25_000);

// Of a single one.

/// Compositions of compositions are made by hand, so far [2].
const NESTED_COMPONENTS: Cap = cap("components inside each other", 16);
/// An interface in a world [2].
const NESTED_TYPES: Cap = cap("component types inside each other", 16);
/// The longest are C++ symbols of modules that are linked when they start.
const NAME: Cap = cap("bytes in one name of an import or export", 8 << 10);
/// Symbols again, which the engine copies for each frame of a trap.
const DEBUG_NAME: Cap = cap("bytes in the name of a function", 64 << 10);
/// Loops of interpreters are the longest functions [426,843].
const FUNCTION_BYTES: Cap = cap("bytes in one function", 2 << 20);
/// Compilers that do not optimise make one for each value; those that do, few [271].
const LOCALS: Cap = cap("locals in one function", 20_000);
/// A `switch` of C is as many blocks as it has cases [781].
const NESTED_BLOCKS: Cap = cap("blocks inside each other in one function", 4_000);
/// The same `switch` [3,202].
const TARGETS: Cap = cap("targets in one `br_table`", 16_000);

/// What the engines take, as far as it decides how bytes are read: compact imports are not among it, a few bytes of which stand for
/// as many imports as one likes.
const FEATURES: WasmFeatures =
    WasmFeatures::WASM3.union(WasmFeatures::GC_TYPES).union(WasmFeatures::COMPONENT_MODEL).union(WasmFeatures::CM_ASYNC);

/// What goes through artifacts.
pub(crate) fn parser() -> Parser {
    let mut parser = Parser::new(0);
    parser.set_features(FEATURES);
    parser
}

/// Looks at a name of an import or export.
///
/// # Errors
///
/// [`Kind::Unprocessable`] if it is too long.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    NAME.check(name.len() as u64)
}

/// What was counted so far of an artifact.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counted: BTreeMap<&'static str, u64>,
    depth: u64,
}

impl Tally {
    /// Counts a part of `artifact`, except what is in functions.
    ///
    /// # Errors
    ///
    /// [`Kind::Unprocessable`] at what is one too many.
    pub(crate) fn count(&mut self, part: &Payload<'_>, artifact: &[u8]) -> Result<(), Error> {
        match part {
            Payload::Version { .. } => {
                self.depth += 1;
                self.largest(&NESTED_COMPONENTS, self.depth)
            }
            Payload::End(_) => {
                self.depth = self.depth.saturating_sub(1);
                Ok(())
            }
            Payload::ModuleSection { .. } => self.add(&MODULES, 1),
            Payload::ComponentSection { .. } => self.add(&COMPONENTS, 1),
            Payload::TypeSection(section) => {
                let (mut reader, count) = section_of(artifact, section.range())?;
                (0..count).try_for_each(|_| self.group(&mut reader))
            }
            Payload::CoreTypeSection(section) => {
                let (mut reader, count) = section_of(artifact, section.range())?;
                (0..count).try_for_each(|_| self.core_type(&mut reader))
            }
            Payload::ImportSection(section) => self.add(&IMPORTS, section.count()),
            Payload::FunctionSection(section) => self.add(&FUNCTIONS, section.count()),
            Payload::TableSection(section) => self.add(&TABLES, section.count()),
            Payload::MemorySection(section) => self.add(&MEMORIES, section.count()),
            Payload::TagSection(section) => self.add(&TAGS, section.count()),
            Payload::GlobalSection(section) => self.add(&GLOBALS, section.count()),
            Payload::ExportSection(section) => self.add(&EXPORTS, section.count()),
            Payload::ElementSection(section) => self.add(&ELEMENT_SEGMENTS, section.count()),
            Payload::DataSection(section) => self.add(&DATA_SEGMENTS, section.count()),
            Payload::CodeSectionEntry(body) => self.largest(&FUNCTION_BYTES, body.range().len() as u64),
            Payload::ComponentTypeSection(section) => self.types(artifact, section.range()),
            Payload::InstanceSection(section) => self.add(&COMPONENT_ITEMS, section.count()),
            Payload::ComponentInstanceSection(section) => self.add(&COMPONENT_ITEMS, section.count()),
            Payload::ComponentAliasSection(section) => self.add(&COMPONENT_ITEMS, section.count()),
            Payload::ComponentCanonicalSection(section) => self.add(&COMPONENT_ITEMS, section.count()),
            Payload::ComponentImportSection(section) => self.add(&IMPORTS, section.count()),
            Payload::ComponentExportSection(section) => self.add(&EXPORTS, section.count()),
            Payload::CustomSection(section) => self.custom(section),
            _ => Ok(()),
        }
    }

    /// Looks at the names for backtraces. One that cannot be read is none, to the engine as well.
    fn custom(&mut self, section: &CustomSectionReader<'_>) -> Result<(), Error> {
        let KnownCustom::Name(names) = section.as_known() else { return Ok(()) };
        for name in names.into_iter().map_while(Result::ok) {
            match name {
                Name::Module { name, .. } => self.largest(&DEBUG_NAME, name.len() as u64)?,
                Name::Function(functions) => {
                    for naming in functions.into_iter().map_while(Result::ok) {
                        self.largest(&DEBUG_NAME, naming.name.len() as u64)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Counts component types and what is in them, one after the other: they are inside each other, and wasmparser, which goes
    /// through them next, does so by recursion.
    fn types(&mut self, artifact: &[u8], section: Range<usize>) -> Result<(), Error> {
        let (mut reader, count) = section_of(artifact, section)?;
        // Of the section, and of each type that is open: what is left in it.
        let mut left = vec![count];
        self.add(&COMPONENT_TYPES, count)?;
        while let Some(last) = left.last_mut() {
            if *last == 0 {
                left.pop();
                continue;
            }
            *last -= 1;
            let is_declaration = left.len() > 1;
            if is_declaration && peek(&reader)? == CORE_TYPE {
                reader.read_u8().map_err(invalid)?;
                self.core_type(&mut reader)?;
                continue;
            }
            if let Some(count) = next_type(&mut reader, is_declaration).map_err(invalid)? {
                self.add(&COMPONENT_TYPES, count)?;
                left.push(count);
                self.largest(&NESTED_TYPES, left.len() as u64)?;
            }
        }
        Ok(())
    }

    /// Counts a core type, or what is in the type of a core module.
    fn core_type(&mut self, reader: &mut BinaryReader<'_>) -> Result<(), Error> {
        // In front of a type that would otherwise begin as that of a module does.
        const NOT_A_MODULE: u8 = 0;
        const MODULE: u8 = 0x50;
        const TYPE: u8 = 1;
        let first = peek(reader)?;
        if matches!(first, NOT_A_MODULE | MODULE) {
            reader.read_u8().map_err(invalid)?;
        }
        if first != MODULE {
            return self.group(reader);
        }
        let count = reader.read_var_u32().map_err(invalid)?;
        self.add(&COMPONENT_TYPES, count)?;
        for _ in 0..count {
            if peek(reader)? == TYPE {
                reader.read_u8().map_err(invalid)?;
                self.group(reader)?;
            } else {
                reader.read::<ModuleTypeDeclaration<'_>>().map_err(invalid)?;
            }
        }
        Ok(())
    }

    /// Counts a type, or the types of a group that refer to each other.
    fn group(&mut self, reader: &mut BinaryReader<'_>) -> Result<(), Error> {
        const GROUP: u8 = 0x4e;
        let mut count = 1;
        if peek(reader)? == GROUP {
            reader.read_u8().map_err(invalid)?;
            count = reader.read_var_u32().map_err(invalid)?;
        }
        self.add(&TYPES, count)?;
        (0..count).try_for_each(|_| reader.read::<SubType>().map(drop)).map_err(invalid)
    }

    fn add(&mut self, cap: &Cap, count: u32) -> Result<(), Error> {
        let all = self.counted.get(cap.what).copied().unwrap_or_default() + u64::from(count);
        self.largest(cap, all)
    }

    fn largest(&mut self, cap: &Cap, found: u64) -> Result<(), Error> {
        let largest = self.counted.entry(cap.what).or_default();
        *largest = found.max(*largest);
        cap.check(found)
    }

    /// Goes through every function.
    fn functions(&mut self, artifact: &[u8]) -> Result<(), Error> {
        for part in parser().parse_all(artifact) {
            let Payload::CodeSectionEntry(body) = part.map_err(invalid)? else { continue };
            let mut locals = 0;
            for local in body.get_locals_reader().map_err(invalid)? {
                locals += u64::from(local.map_err(invalid)?.0);
            }
            self.largest(&LOCALS, locals)?;
            let mut operators = body.get_operators_reader().map_err(invalid)?;
            let mut depth = 0;
            while !operators.eof() {
                match operators.read().map_err(invalid)? {
                    Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                        depth += 1;
                        self.largest(&NESTED_BLOCKS, depth)?;
                    }
                    Operator::End => depth = depth.saturating_sub(1),
                    Operator::BrTable { targets } => self.largest(&TARGETS, u64::from(targets.len()))?,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// What begins a core type among declarations.
const CORE_TYPE: u8 = 0;

fn peek(reader: &BinaryReader<'_>) -> Result<u8, Error> {
    reader.clone().read_u8().map_err(invalid)
}

/// What reads a section, behind the number of what is in it.
fn section_of(artifact: &[u8], section: Range<usize>) -> Result<(BinaryReader<'_>, u32), Error> {
    let start = section.start;
    let mut reader = BinaryReader::new_features(artifact.get(section).unwrap_or_default(), start, FEATURES);
    let count = reader.read_var_u32().map_err(invalid)?;
    Ok((reader, count))
}

/// Reads one type, or one declaration inside of a type, unless others are inside of it: then how many.
fn next_type(reader: &mut BinaryReader<'_>, is_declaration: bool) -> wasmparser::Result<Option<u32>> {
    const TYPE: u8 = 1;
    const IMPORT: u8 = 3;
    const COMPONENT: u8 = 0x41;
    const INSTANCE: u8 = 0x42;
    let peek = |reader: &BinaryReader<'_>| reader.clone().read_u8();
    if is_declaration {
        match peek(reader)? {
            TYPE => drop(reader.read_u8()?),
            IMPORT => {
                reader.read_u8()?;
                reader.read::<ComponentImport<'_>>()?;
                return Ok(None);
            }
            _ => {
                reader.read::<InstanceTypeDeclaration<'_>>()?;
                return Ok(None);
            }
        }
    }
    if matches!(peek(reader)?, COMPONENT | INSTANCE) {
        reader.read_u8()?;
        return reader.read_var_u32().map(Some);
    }
    reader.read::<ComponentType<'_>>()?;
    Ok(None)
}

/// Looks into every function of an artifact whose other parts were counted.
///
/// # Errors
///
/// [`Kind::Unprocessable`] at what is one too many.
pub(crate) fn check_functions(artifact: &[u8]) -> Result<(), Error> {
    Tally::default().functions(artifact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(artifact: &[u8]) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        for part in parser().parse_all(artifact) {
            tally.count(&part.map_err(invalid)?, artifact)?;
        }
        tally.functions(artifact)?;
        Ok(tally)
    }

    #[test]
    fn guests_are_far_from_every_cap() {
        let folder = testkit::guest("hello-wasip2");
        let all = std::fs::read_dir(folder.parent().expect("a folder")).expect("built guests");
        let mut looked_at = 0;
        for path in all.map(|file| file.expect("a file").path()).filter(|path| path.extension().is_some_and(|end| end == "wasm"))
        {
            let tally = tally(&std::fs::read(&path).expect("a guest"));
            let Ok(tally) = tally else { panic!("{}: {tally:?}", path.display()) };
            for cap in [&FUNCTIONS, &TYPES, &DATA_SEGMENTS, &EXPORTS, &FUNCTION_BYTES, &LOCALS, &NESTED_BLOCKS, &COMPONENT_TYPES]
            {
                let found = tally.counted.get(cap.what).copied().unwrap_or_default();
                assert!(found * 4 <= cap.max, "{}: {found} {}", path.display(), cap.what);
            }
            looked_at += 1;
        }
        assert!(looked_at > 50, "{looked_at} guests");
    }

    /// A core module of sections.
    fn module(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
        sections.iter().fold(b"\0asm\x01\0\0\0".to_vec(), |mut bytes, (id, section)| {
            bytes.push(*id);
            leb(&mut bytes, section.len());
            bytes.extend(section);
            bytes
        })
    }

    fn leb(bytes: &mut Vec<u8>, mut number: usize) {
        while number > 0x7f {
            bytes.push(0x80 | (number & 0x7f) as u8);
            number >>= 7;
        }
        bytes.push(number as u8);
    }

    /// So many of the same.
    fn many(count: usize, one: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        leb(&mut bytes, count);
        bytes.extend(one.repeat(count));
        bytes
    }

    /// A module of one function, with locals in front of its code.
    fn function(locals: &[u8], code: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        leb(&mut body, locals.len() + code.len() + 1);
        body.extend([locals, code, &[0x0b]].concat());
        module(&[(1, many(1, &[0x60, 0, 0])), (3, many(1, &[0])), (10, many(1, &body))])
    }

    fn component(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = module(sections);
        bytes[4..8].copy_from_slice(&[0x0d, 0, 1, 0]);
        bytes
    }

    #[test]
    fn what_is_one_too_many_is_named() {
        let blocks = |count: usize| [[0x02, 0x40].repeat(count), [0x0b].repeat(count)].concat();
        let targets = |count: usize| {
            let mut code = vec![0x41, 0, 0x0e];
            code.extend(many(count, &[0]));
            code.push(0);
            code
        };
        let locals = |count: usize| {
            let mut locals = vec![1];
            leb(&mut locals, count);
            locals.push(0x7f);
            locals
        };
        let nested = |depth: usize| (0..depth).fold(component(&[]), |inner, _| component(&[(4, inner)]));
        // A type of a component that has one type, which is a type of a component, …
        let types = |depth: usize| component(&[(7, [vec![1], [0x41, 1, 1].repeat(depth), vec![0x41, 0]].concat())]);
        for (make, cap) in [
            (&(|n| module(&[(1, many(n, &[0x60, 0, 0]))])) as &dyn Fn(usize) -> Vec<u8>, &TYPES),
            // A group that has them all.
            (&|n| module(&[(1, [vec![1, 0x4e], many(n, &[0x60, 0, 0])].concat())]), &TYPES),
            (&|n| component(&[(3, many(n, &[0x60, 0, 0]))]), &TYPES),
            // A type of a module in a type of an instance, and in a section of its own.
            (&|n| component(&[(7, [vec![1, 0x42, 1, 0, 0x50, 1, 1, 0x4e], many(n, &[0x60, 0, 0])].concat())]), &TYPES),
            (&|n| component(&[(3, [vec![1, 0x50], many(n, &[1, 0x60, 0, 0])].concat())]), &COMPONENT_TYPES),
            (&|n| module(&[(2, many(n, &[0, 0, 0, 0]))]), &IMPORTS),
            (&|n| module(&[(3, many(n, &[0])), (10, many(n, &[2, 0, 0x0b]))]), &FUNCTIONS),
            (&|n| module(&[(4, many(n, &[0x70, 0, 0]))]), &TABLES),
            (&|n| module(&[(5, many(n, &[0, 0]))]), &MEMORIES),
            (&|n| module(&[(6, many(n, &[0x7f, 0, 0x41, 0, 0x0b]))]), &GLOBALS),
            (&|n| module(&[(7, many(n, &[0, 0, 0]))]), &EXPORTS),
            (&|n| module(&[(9, many(n, &[0, 0x41, 0, 0x0b, 0]))]), &ELEMENT_SEGMENTS),
            (&|n| module(&[(11, many(n, &[1, 0]))]), &DATA_SEGMENTS),
            (&|n| module(&[(13, many(n, &[0, 0]))]), &TAGS),
            (&|n| function(&[0], &[1].repeat(n - 2)), &FUNCTION_BYTES),
            (&|n| function(&locals(n), &[]), &LOCALS),
            (&|n| function(&[0], &blocks(n)), &NESTED_BLOCKS),
            (&|n| function(&[0], &targets(n)), &TARGETS),
            (&|n| component(&vec![(1, module(&[])); n]), &MODULES),
            (&|n| component(&vec![(4, component(&[])); n]), &COMPONENTS),
            (&|n| component(&[(7, many(n, &[0x7f]))]), &COMPONENT_TYPES),
            (&|n| component(&[(7, [vec![1, 0x42], many(n - 1, &[1, 0x7f])].concat())]), &COMPONENT_TYPES),
            (&|n| component(&[(5, many(n, &[1, 0]))]), &COMPONENT_ITEMS),
            (&|n| nested(n - 1), &NESTED_COMPONENTS),
            (&|n| types(n - 2), &NESTED_TYPES),
        ] {
            let max = cap.max as usize;
            let most = tally(&make(max)).map(|tally| tally.counted.get(cap.what).copied());
            assert!(matches!(most, Ok(Some(found)) if found == cap.max), "{cap:?}: {most:?}");
            let error = tally(&make(max + 1)).expect_err(cap.what);
            let expected = format!("the artifact has {} {}, and may have {max}", max + 1, cap.what);
            assert_eq!((error.kind, error.to_string()), (Kind::Unprocessable, expected));
        }
    }

    #[test]
    fn imports_that_are_many_in_few_bytes_are_refused() {
        // One module's name and so many names in it, with a type each, or one for all.
        let name = [vec![0xa0, 0x8d, 0x06], vec![b'a'; 100_000]].concat();
        for (kind, items) in [(vec![0, 0x7f], many(30_000, &[0, 0, 0])), (vec![0, 0x7e, 0, 0], many(30_000, &[0]))] {
            let section = [vec![1], name.clone(), kind, items].concat();
            let error =
                crate::scan::entries(&module(&[(1, vec![1, 0x60, 0, 0]), (2, section)])).expect_err("refused").to_string();
            assert!(error.contains("not valid WebAssembly") && error.contains("compact imports"), "{error}");
        }
        // As one of many modules does, which would be copied.
        let section = [vec![1], name, vec![0, 0, 0]].concat();
        let error = crate::scan::entries(&module(&[(1, vec![1, 0x60, 0, 0]), (2, section)])).expect_err("refused").to_string();
        assert_eq!(error, "the artifact has 100000 bytes in one name of an import or export, and may have 8192");
    }

    #[test]
    fn changed_bytes_are_looked_at_without_a_panic() {
        const SEED: u64 = 0x1dea_0002;
        let mut state = SEED;
        let mut below = |end: usize| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((mixed ^ (mixed >> 27)) % end as u64) as usize
        };
        let mut refused = 0;
        for guest in ["hello-wasip2", "hello-wasip3", "plugin-rot13"] {
            let good = std::fs::read(testkit::guest(guest)).expect("a built guest");
            // Heads of sections are in front, and code is most of the rest.
            let front = good.len().min(4 << 10);
            for _ in 0..1_000 {
                let mut bytes = good.clone();
                for _ in 0..=below(4) {
                    let at = if below(2) == 0 { below(front) } else { below(good.len()) };
                    bytes[at] = [0, 0xff, 0x80, 0x7f, bytes[at].wrapping_add(1), below(256) as u8][below(6)];
                }
                bytes.truncate(if below(8) == 0 { below(good.len()) } else { good.len() });
                refused += usize::from(crate::scan::entries(&bytes).and(check_functions(&bytes)).is_err());
            }
        }
        assert!(refused > 1_000, "seed {SEED:#x}: {refused} of 3000");
    }

    #[test]
    fn types_that_would_take_any_stack_to_read_are_refused() {
        // Inside each other a million times, in one byte each of which the next begins.
        let bytes = component(&[(7, [vec![1], [0x42, 1, 1].repeat(1 << 20)].concat())]);
        let error = crate::scan::entries(&bytes).expect_err("too deep").to_string();
        assert_eq!(error, "the artifact has 17 component types inside each other, and may have 16");
    }
}
