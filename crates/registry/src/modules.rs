//! Which module has which id, and at which version it is.
//!
//! The id is how the world knows a module, so it outlives bytes, versions and restarts. Versions count for each module, and
//! only bytes that differ from the last ones make a new version: registering again what is there changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use base::{Digest, Error, Kind, ModuleId};
use serde::{Deserialize, Serialize};

use crate::files::{self, Step};

/// By tenant and name.
type Index = BTreeMap<(String, String), Module>;

const FILE_NAME: &str = "modules.json";

/// Of the file. A change that an older Fornax would read wrongly needs the next number.
const FORMAT: u32 = 1;

/// The ids and versions of all modules, kept in `<data>/modules.json`. Every call blocks on the disk.
#[derive(Debug)]
pub struct Modules {
    folder: PathBuf,
    modules: Index,
    _owned: File,
}

#[derive(Clone, Debug)]
struct Module {
    id: ModuleId,
    version: u32,
    /// As text: it is only compared.
    digest: String,
    /// Whether it was registered since the start, not only found in the file.
    live: bool,
}

/// A module to register.
#[derive(Clone, Copy, Debug)]
pub struct Registration<'a> {
    /// The owner.
    pub tenant: &'a str,
    /// The name, unique within the tenant.
    pub name: &'a str,
    /// The id the configuration pins.
    pub pinned: Option<ModuleId>,
    /// The bytes.
    pub digest: Digest,
}

/// What [`Modules::register`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The module's id.
    pub id: ModuleId,
    /// The version the bytes are; counts from 1.
    pub version: u32,
    /// Whether the bytes are others than those of the last registration.
    pub is_new_version: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    modules: Vec<Row>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Row {
    tenant: String,
    name: String,
    id: String,
    version: u32,
    digest: String,
}

impl Modules {
    /// Opens the index in a data directory, creating both.
    ///
    /// # Errors
    ///
    /// [`Kind::Internal`], with the path in the external text, if the directory cannot be used or another process uses it,
    /// or if the file is damaged or newer than this program.
    pub fn open(data: &Path) -> Result<Self, Error> {
        files::private_folder(data).map_err(|error| {
            Error::new(Kind::Internal, format!("the data directory {} cannot be used: {error}", data.display()))
        })?;
        let owned = files::own_folder(data)?;
        let file = data.join(FILE_NAME);
        let modules = match fs::read(&file) {
            Ok(bytes) => parse(&bytes).map_err(|what| {
                let text = format!("the module index {} {what}", file.display());
                Error::new(Kind::Internal, text)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                let text = format!("the module index {} cannot be read: {error}", file.display());
                return Err(Error::new(Kind::Internal, text));
            }
        };
        Ok(Self { folder: data.to_owned(), modules, _owned: owned })
    }

    /// Says which modules there will be, by tenant and name. Others that were registered before may be renamed from now on.
    pub fn expect<'a>(&mut self, names: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let names: BTreeSet<_> = names.into_iter().map(|(tenant, name)| (tenant.to_owned(), name.to_owned())).collect();
        for (name, module) in &mut self.modules {
            module.live &= names.contains(name);
        }
    }

    /// Registers modules, all of them or none. When this returns, a power cut does not lose it. The answers are in the same order.
    ///
    /// A pinned id replaces the one the module had. A pinned id that another module of the tenant has in the file, but that
    /// was not registered since the start, means that the module was renamed: its id and version go on under the new name.
    ///
    /// # Errors
    ///
    /// [`Kind::Unprocessable`] if a pinned id belongs to another module; [`Kind::Internal`] if the disk refuses. Nothing
    /// changes then.
    pub fn register<'a>(&mut self, modules: impl IntoIterator<Item = Registration<'a>>) -> Result<Vec<Registered>, Error> {
        self.register_with(modules, |_| Ok(()))
    }

    fn register_with<'a>(
        &mut self,
        modules: impl IntoIterator<Item = Registration<'a>>,
        before: impl FnMut(Step) -> io::Result<()>,
    ) -> Result<Vec<Registered>, Error> {
        let mut next = self.modules.clone();
        let mut is_stored = true;
        let mut registered = Vec::new();
        for module in modules {
            let one = register_in(&mut next, module)?;
            let key = (module.tenant.to_owned(), module.name.to_owned());
            is_stored &= !one.is_new_version && self.modules.get(&key).is_some_and(|stored| stored.id == one.id);
            registered.push(one);
        }
        if !is_stored {
            files::replace(&self.folder, FILE_NAME, 0o600, &to_json(&next)?, before)
                .map_err(|error| Error::new(Kind::Internal, "the module index cannot be written").caused_by(error))?;
        }
        self.modules = next;
        Ok(registered)
    }
}

fn register_in(index: &mut Index, module: Registration<'_>) -> Result<Registered, Error> {
    let Registration { tenant, name, pinned, digest } = module;
    let key = (tenant.to_owned(), name.to_owned());
    if let Some(old) = owner_of(index, pinned, &key)?
        && let Some(renamed) = index.remove(&old)
    {
        index.entry(key.clone()).or_insert(renamed);
    }
    let digest = digest.to_string();
    let known = index.remove(&key);
    let is_new_version = known.as_ref().is_none_or(|known| known.digest != digest);
    let version = known.as_ref().map_or(0, |known| known.version);
    let version = version.checked_add(u32::from(is_new_version)).ok_or_else(|| {
        Error::new(Kind::Internal, "the module has no version numbers left").internal(format!("{tenant}/{name}"))
    })?;
    let id = pinned.or_else(|| known.as_ref().map(|known| known.id)).unwrap_or_else(ModuleId::random);
    index.insert(key, Module { id, version, digest, live: true });
    Ok(Registered { id, version, is_new_version })
}

/// The module that has the pinned id under another name, if it may be renamed.
fn owner_of(index: &Index, pinned: Option<ModuleId>, key: &(String, String)) -> Result<Option<(String, String)>, Error> {
    let Some(pinned) = pinned else { return Ok(None) };
    let owner = index.iter().find(|(other, module)| module.id == pinned && *other != key);
    match owner {
        None => Ok(None),
        Some((other, module)) if other.0 == key.0 && !module.live => Ok(Some(other.clone())),
        Some((other, module)) => {
            let text = format!("the id {} of the module `{}` belongs to another module", module.id, key.1);
            // Another tenant's names are for the log only.
            Err(Error::new(Kind::Unprocessable, text).internal(format!("{}/{}", other.0, other.1)))
        }
    }
}

fn to_json(modules: &Index) -> Result<Vec<u8>, Error> {
    let rows = modules.iter().map(|((tenant, name), module)| Row {
        tenant: tenant.clone(),
        name: name.clone(),
        id: module.id.to_string(),
        version: module.version,
        digest: module.digest.clone(),
    });
    serde_json::to_vec_pretty(&Stored { format: FORMAT, modules: rows.collect() })
        .map_err(|error| Error::new(Kind::Internal, "the module index cannot be written").caused_by(error))
}

/// Reads the file, or says what is wrong with it: new ids for known modules would be worse than not to start.
fn parse(bytes: &[u8]) -> Result<Index, String> {
    /// Only what every format has.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }

    let damaged =
        |what: &str| format!("is damaged ({what}); restore it from a backup, or move it away to begin with new module ids");
    let Format { format } = serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))?;
    if format != FORMAT {
        return Err(format!(
            "has format {format}, and this version of Fornax reads format {FORMAT}; use the version that wrote it"
        ));
    }
    let index: Stored = serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))?;
    let mut modules = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for row in index.modules {
        let name = format!("{}/{}", row.tenant, row.name);
        let id = ModuleId::parse(&row.id).filter(|id| ids.insert(*id));
        let id = id.ok_or_else(|| damaged(&format!("no id of its own for {name}")))?;
        if row.version == 0 || row.digest.len() != 64 || !row.digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(damaged(&format!("no version or digest for {name}")));
        }
        let module = Module { id, version: row.version, digest: row.digest, live: false };
        if modules.insert((row.tenant, row.name), module).is_some() {
            return Err(damaged(&format!("{name} is there twice")));
        }
    }
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(data: &Path) -> Modules {
        Modules::open(data).expect("opened")
    }

    fn register(modules: &mut Modules, tenant: &str, name: &str, pinned: Option<ModuleId>, bytes: &str) -> Registered {
        try_register(modules, tenant, name, pinned, bytes).expect("registered")
    }

    fn try_register(
        modules: &mut Modules,
        tenant: &str,
        name: &str,
        pinned: Option<ModuleId>,
        bytes: &str,
    ) -> Result<Registered, Error> {
        let digest = Digest::of(bytes.as_bytes());
        modules.register([Registration { tenant, name, pinned, digest }]).map(|registered| registered[0])
    }

    #[test]
    fn new_bytes_are_a_new_version_under_the_same_id() {
        let data = tempfile::tempdir().expect("a folder");
        let mut modules = open(data.path());
        let first = register(&mut modules, "t", "a", None, "1");
        assert_eq!((first.version, first.is_new_version), (1, true));
        assert_eq!(register(&mut modules, "t", "a", None, "1"), Registered { is_new_version: false, ..first });
        let second = Registered { version: 2, ..first };
        assert_eq!(register(&mut modules, "t", "a", None, "2"), second);
        // Going back is a version too: a rollback that reused a number could not be told from the first time.
        assert_eq!(register(&mut modules, "t", "a", None, "1"), Registered { version: 3, ..first });
        let others = [register(&mut modules, "u", "a", None, "1"), register(&mut modules, "t", "b", None, "1")];
        assert!(others.iter().all(|other| other.id != first.id && other.version == 1));
    }

    #[test]
    fn ids_and_versions_survive_a_restart() {
        let data = tempfile::tempdir().expect("a folder");
        let mut modules = open(data.path());
        register(&mut modules, "t", "a", None, "1");
        let last = register(&mut modules, "t", "a", None, "2");
        drop(modules);
        let mut modules = open(data.path());
        assert_eq!(register(&mut modules, "t", "a", None, "2"), Registered { is_new_version: false, ..last });
        assert_eq!(register(&mut modules, "t", "a", None, "3"), Registered { version: 3, ..last });
    }

    #[test]
    fn what_is_registered_is_on_disk() {
        let data = tempfile::tempdir().expect("a folder");
        let id = ModuleId::parse("6f1c1c3e-7d0a-4c5e-9a57-0d8e0a1b2c3d").expect("a UUID");
        let mut modules = open(data.path());
        register(&mut modules, "t", "a", Some(id), "abc");
        let expected = r#"{
  "format": 1,
  "modules": [
    {
      "tenant": "t",
      "name": "a",
      "id": "6f1c1c3e-7d0a-4c5e-9a57-0d8e0a1b2c3d",
      "version": 1,
      "digest": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    }
  ]
}"#;
        let file = data.path().join(FILE_NAME);
        assert_eq!(fs::read_to_string(&file).expect("a file"), expected);
        let written = fs::metadata(&file).expect("a file").modified().expect("a time");
        register(&mut modules, "t", "a", Some(id), "abc");
        assert_eq!(fs::metadata(&file).expect("a file").modified().expect("a time"), written, "nothing to write");
    }

    #[test]
    fn a_pinned_id_is_the_id() {
        let data = tempfile::tempdir().expect("a folder");
        let (one, two) = (ModuleId::random(), ModuleId::random());
        let mut modules = open(data.path());
        assert_eq!(register(&mut modules, "t", "a", Some(one), "1").id, one);
        assert_eq!(register(&mut modules, "t", "a", None, "1").id, one);
        let again = Registered { id: two, version: 1, is_new_version: false };
        assert_eq!(register(&mut modules, "t", "a", Some(two), "1"), again);
        drop(modules);
        let mut modules = open(data.path());
        assert_eq!(register(&mut modules, "t", "a", None, "1").id, two);
    }

    #[test]
    fn an_id_belongs_to_one_module() {
        let data = tempfile::tempdir().expect("a folder");
        let id = ModuleId::parse("6f1c1c3e-7d0a-4c5e-9a57-0d8e0a1b2c3d").expect("a UUID");
        let mut modules = open(data.path());
        register(&mut modules, "t", "a", Some(id), "1");
        let expected = "the id 6f1c1c3e-7d0a-4c5e-9a57-0d8e0a1b2c3d of the module `b` belongs to another module";
        for tenant in ["t", "u"] {
            let error = try_register(&mut modules, tenant, "b", Some(id), "1").expect_err("taken");
            assert_eq!((error.to_string().as_str(), error.kind, error.internal.as_str()), (expected, Kind::Unprocessable, "t/a"));
        }
        drop(modules);

        let mut modules = open(data.path());
        try_register(&mut modules, "u", "b", Some(id), "1").expect_err("of another tenant");
        let renamed = register(&mut modules, "t", "b", Some(id), "2");
        assert_eq!(renamed, Registered { id, version: 2, is_new_version: true });
        let fresh = register(&mut modules, "t", "a", None, "1");
        assert!(fresh.id != id && fresh.version == 1, "{fresh:?}");
    }

    #[test]
    fn modules_are_registered_together_or_not_at_all() {
        let data = tempfile::tempdir().expect("a folder");
        let mut modules = open(data.path());
        let taken = register(&mut modules, "u", "a", None, "1").id;
        let of = |name, pinned| Registration { tenant: "t", name, pinned, digest: Digest::of(b"1") };
        modules.register([of("a", None), of("b", Some(taken))]).expect_err("the second has the id of another's");
        assert!(!fs::read_to_string(data.path().join(FILE_NAME)).expect("a file").contains("\"t\""));
        let both = modules.register([of("a", None), of("b", None)]).expect("registered");
        assert!(both[0].id != both[1].id && both.iter().all(|one| one.version == 1 && one.is_new_version), "{both:?}");
        drop(modules);
        let again = open(data.path()).register([of("b", None), of("a", None)]).expect("registered");
        assert_eq!([again[1].id, again[0].id], [both[0].id, both[1].id]);
    }

    #[test]
    fn a_failed_write_changes_nothing() {
        for step in [Step::Create, Step::Write, Step::SyncFile, Step::Rename, Step::SyncFolder] {
            let data = tempfile::tempdir().expect("a folder");
            let mut modules = open(data.path());
            let first = register(&mut modules, "t", "a", None, "1");
            let two = Registration { tenant: "t", name: "a", pinned: None, digest: Digest::of(b"2") };
            let error = modules.register_with([two], files::fail_before(step)).expect_err("made to fail");
            assert_eq!(error.to_string(), "the module index cannot be written");
            assert_eq!(register(&mut modules, "t", "a", None, "1"), Registered { is_new_version: false, ..first });
            assert_eq!(register(&mut modules, "t", "a", None, "2"), Registered { version: 2, ..first });
        }
    }

    #[test]
    fn a_bad_file_is_explained() {
        let data = tempfile::tempdir().expect("a folder");
        let file = data.path().join(FILE_NAME);
        let id = ModuleId::random();
        let row = |name: &str, version: u32, digest: &str| {
            let digest = digest.repeat(64);
            format!(r#"{{"tenant":"t","name":"{name}","id":"{id}","version":{version},"digest":"{digest}"}}"#)
        };
        let index = |rows: &[String]| format!(r#"{{"format":1,"modules":[{}]}}"#, rows.join(","));
        let newer = "has format 2, and this version of Fornax reads format 1; use the version that wrote it";
        for (text, expected) in [
            (String::new(), "is damaged (EOF while parsing a value at line 1 column 0)"),
            (r#"{"format":1,"modules":["#.to_owned(), "is damaged (EOF while parsing a list at line 1 column 23)"),
            (r#"{"format":2,"shape":"new"}"#.to_owned(), newer),
            (r#"{"format":1,"modules":[],"x":1}"#.to_owned(), "is damaged (unknown field `x`"),
            (index(&[row("a", 0, "0")]), "is damaged (no version or digest for t/a)"),
            (index(&[row("a", 1, "x")]), "is damaged (no version or digest for t/a)"),
            (index(&[row("a", 1, "0"), row("b", 1, "0")]), "is damaged (no id of its own for t/b)"),
        ] {
            fs::write(&file, &text).expect("a file");
            let error = Modules::open(data.path()).expect_err(&text).to_string();
            assert!(error.starts_with(&format!("the module index {} {expected}", file.display())), "{error}");
            assert_eq!(fs::read_to_string(&file).expect("still there"), text);
        }
    }
}
