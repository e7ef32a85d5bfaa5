//! What a command line says in place of a file: one artifact, or a folder of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base::{About, CompileLimits, Entry, PageKind, Pattern, TenantLimits};
use guest::Reuse;

use super::{Checked, ENV_ENTRIES_MAX, absolute, default_app, page_route, route_to_all, safe_name, too_many_entries};
use crate::config::{ARTIFACT_EXTENSION, Config, ConfigError, DEFAULT_TENANT, Module, Route, Server, SingleOptions};

pub(in crate::config) fn single(file: &Path, options: SingleOptions) -> Checked<Config> {
    check_options(&options)?;
    let name = safe_name(&stem(file), "module");
    let module = one_of(&name, file, &name, &options)?;
    let routes = if module.terminal { Vec::new() } else { vec![route_to_all(&module)] };
    Ok(of_options(name, options, vec![module], routes))
}

pub(in crate::config) fn folder(folder: &Path, options: SingleOptions) -> Checked<Config> {
    check_options(&options)?;
    let files = match &options.files {
        Some(files) => files.clone(),
        None => artifacts_in(folder)?,
    };
    if files.is_empty() {
        let error = ConfigError::new(format!("no artifact in the folder {}", folder.display()));
        return Err(match folder.join("fornax.toml").is_file() {
            true => error.hint("for the app in it, name its fornax.toml"),
            false => error.hint("put a .wasm file into it"),
        });
    }
    let app = default_app(&absolute(&folder.join("fornax.toml"))?);
    let offers: Vec<_> = files.iter().map(|file| offers(file)).collect();
    // What the flags say is for whom it fits; where it fits nobody, publishing says why.
    let entry_fits = |offer: &[Entry]| options.entry.is_some_and(|entry| offer.contains(&entry));
    let codec_fits = |offer: &[Entry]| {
        let entry = options.codec.as_deref().and_then(guest::entry_of_codec);
        entry.is_some_and(|entry| offer.contains(&entry) && (!offer.contains(&Entry::Http) || options.entry == Some(entry)))
    };
    let [entry_fits_one, codec_fits_one] = [offers.iter().any(|o| entry_fits(o)), offers.iter().any(|o| codec_fits(o))];
    let http_fits_one = offers.iter().any(|offer| offer.contains(&Entry::Http));
    let (mut modules, mut routes) = (Vec::<Module>::new(), Vec::new());
    for (file, offer) in files.iter().zip(&offers) {
        let name = safe_name(&stem(file), "module");
        let mut module = one_of(&app, file, &name, &options)?;
        module.entry = module.entry.filter(|_| entry_fits(offer) || !entry_fits_one);
        module.codec = module.codec.filter(|_| codec_fits(offer) || !codec_fits_one);
        module.reuse = if offer.contains(&Entry::Http) || !http_fits_one { module.reuse } else { Reuse::Fresh };
        module.may_lack_codec = true;
        if let Some(other) = modules.iter().find(|other| other.name == name) {
            let file_name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (other, this) = (file_name(&other.source), file_name(file));
            let error = ConfigError::new(format!("the files `{other}` and `{this}` would both be the module `{name}`"));
            return Err(error.hint("rename one of them"));
        }
        let path = Pattern::parse(&format!("/{name}/*")).expect("a name is a segment");
        let mut description = format!("{name}.wasm");
        if module.codec.is_none() && (offer == &[Entry::Run] || module.entry == Some(Entry::Run)) {
            description.push_str(", a program: it answers when the server is started with --codec wasio, cgi or ignis");
        }
        routes.push(Route { path, about: About { description, ..About::default() }, ..route_to_all(&module) });
        modules.push(module);
    }
    routes.push(page_route("/", PageKind::Index));
    Ok(of_options(app, options, modules, routes))
}

fn artifacts_in(folder: &Path) -> Checked<Vec<PathBuf>> {
    let cannot_read = |error| ConfigError::new(format!("cannot read the folder {}: {error}", folder.display()));
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(cannot_read)?;
    let mut files: Vec<_> = entries.iter().map(std::fs::DirEntry::path).filter(|path| is_artifact(path)).collect();
    files.sort();
    Ok(files)
}

/// What `fornax run DIR` serves. Editors and builds hide what is not ready.
fn is_artifact(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    !is_hidden && path.extension().is_some_and(|extension| extension == ARTIFACT_EXTENSION) && path.is_file()
}

/// The entries of an artifact; none of one that cannot be read, which is said when it is published.
fn offers(file: &Path) -> Vec<Entry> {
    let artifact = registry::read_artifact(file, CompileLimits::default().upload_bytes);
    artifact.and_then(|artifact| guest::entries(&artifact)).unwrap_or_default()
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn check_options(options: &SingleOptions) -> Checked<()> {
    let names: BTreeSet<_> = options.env.iter().map(|(name, _)| name).collect();
    if names.len() > ENV_ENTRIES_MAX {
        return Err(ConfigError::new(too_many_entries()));
    }
    let mut guests = BTreeSet::new();
    match options.dirs.iter().find(|dir| !guests.insert(&dir.guest)) {
        Some(twice) => Err(ConfigError::new(format!("two directories at `{}` of the guest", twice.guest))),
        None => Ok(()),
    }
}

/// A module of what the command line says.
fn one_of(app: &str, file: &Path, name: &str, options: &SingleOptions) -> Checked<Module> {
    let source = std::path::absolute(file)
        .map_err(|error| ConfigError::new(format!("cannot find the folder of {} ({error})", file.display())))?;
    let env: BTreeMap<_, _> = options.env.iter().cloned().collect();
    Ok(Module {
        tenant: DEFAULT_TENANT.to_owned(),
        app: app.to_owned(),
        name: name.to_owned(),
        source,
        id: None,
        entry: options.entry,
        codec: options.codec.clone(),
        input_at_zero: false,
        reuse: options.reuse,
        evidence: false,
        terminal: options.terminal,
        may_lack_codec: false,
        loaded: false,
        limits: options.limits.clone(),
        env: env.into_iter().collect(),
        args: options.args.clone(),
        dirs: options.dirs.clone(),
        outbound: options.outbound.clone(),
        bindings: BTreeMap::from([("keyvalue".to_owned(), BTreeMap::from([("default".to_owned(), "embedded".to_owned())]))]),
    })
}

fn of_options(app: String, options: SingleOptions, modules: Vec<Module>, routes: Vec<Route>) -> Config {
    let server = Server::default();
    Config {
        app,
        server: Server { listen: options.listen.unwrap_or(server.listen), data: options.data, ..server },
        tenants: BTreeMap::from([(DEFAULT_TENANT.to_owned(), TenantLimits::default())]),
        modules,
        routes,
        backends: BTreeMap::new(),
    }
}
