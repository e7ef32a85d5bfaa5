//! `[[route]]`: which requests, and who answers them.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use base::{About, PageKind, Pattern};
use toml::Spanned;

use super::raw::{self, Text};
use super::{Build, Chain, Checked, Known, Link, Route, Target};

/// Answers are kept in memory: few processes live longer.
pub(in crate::config) const CACHE_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What `page` may be.
const PAGES: [(&str, PageKind); 3] =
    [("health", PageKind::Health), ("index", PageKind::Index), ("monitoring", PageKind::Monitoring)];

/// More than anybody reads; as many as calls may be nested.
const CHAIN_STEPS_MAX: usize = 8;

impl Build<'_> {
    pub(super) fn route(&self, raw: &Spanned<raw::Route>, known: &Known<'_>) -> Checked<Route> {
        let (at, raw) = (raw.span(), raw.get_ref());
        let tenant = self.tenant_of(raw.tenant.as_ref())?;
        let path = self.text(&raw.path)?;
        let path = Pattern::parse(&path).map_err(|error| {
            let is_as_written = path == *raw.path.get_ref();
            let what = if is_as_written { error.to_string() } else { format!("bad path `{}`", raw.path.get_ref()) };
            self.origin.error(raw.path.span(), what)
        })?;
        let target = self.target(at, raw, &path, &tenant, known)?;
        let cache_ttl = match (&raw.cache, &target) {
            (None, _) => None,
            (Some(cache), Target::Modules(_) | Target::Chain(_)) => {
                let ttl = Some(&cache.get_ref().ttl);
                self.duration(ttl, "ttl", Duration::from_nanos(1)..=CACHE_TTL_MAX)?
            }
            (Some(cache), Target::Files(_) | Target::Page(_)) => {
                let error = self.origin.error(cache.span(), "`cache` of a route without a module");
                return Err(error.hint("it keeps answers of guests; remove it"));
            }
        };
        let said = |text: &Option<Text>| text.as_ref().map(|text| self.text(text)).transpose().map(Option::unwrap_or_default);
        let about = About { description: said(&raw.description)?, category: said(&raw.category)?, example: said(&raw.example)? };
        let mut methods = raw.methods.iter().map(|text| self.method(text)).collect::<Checked<Vec<_>>>()?;
        if matches!(target, Target::Page(_)) && methods.is_empty() {
            methods.push(http::Method::GET);
        }
        Ok(Route {
            host: raw.host.as_ref().map(|text| self.host(text)).transpose()?,
            path,
            methods,
            target,
            cache_ttl,
            about,
            tenant,
        })
    }

    /// Exactly one of the keys that say who answers.
    fn target(&self, at: Range<usize>, raw: &raw::Route, path: &Pattern, tenant: &str, known: &Known<'_>) -> Checked<Target> {
        let keys = [
            raw.module.as_ref().map(|text| ("module", text.span())),
            raw.modules.as_ref().map(|list| ("modules", list.span())),
            raw.chain.as_ref().map(|list| ("chain", list.span())),
            raw.files.as_ref().map(|text| ("files", text.span())),
            raw.page.as_ref().map(|text| ("page", text.span())),
        ];
        let mut said = keys.into_iter().flatten();
        if let (Some((first, _)), Some((second, at))) = (said.next(), said.next()) {
            return Err(self.origin.error(at, format!("both `{first}` and `{second}`")).hint("keep one of them"));
        }
        if let (Some(limits), None) = (&raw.limits, &raw.chain) {
            return Err(self
                .origin
                .error(limits.span(), "`limits` of a route without a chain")
                .hint("a module has limits of its own"));
        }
        if let Some(name) = &raw.module {
            Ok(Target::Modules(vec![(self.known(name, tenant, known)?, 1)]))
        } else if let Some(targets) = &raw.modules {
            Ok(Target::Modules(self.weighted(targets, tenant, known)?))
        } else if let Some(links) = &raw.chain {
            let said = raw.limits.as_ref().map(Spanned::get_ref);
            let mut limits = said.map(|limits| self.limits(limits)).transpose()?.unwrap_or_default();
            if said.is_none_or(|limits| limits.memory.is_none()) {
                // Each step has what its module has.
                limits.memory_bytes = u64::MAX;
            }
            Ok(Target::Chain(Chain { links: self.links(links, tenant, known)?, limits }))
        } else if let Some(text) = &raw.files {
            Ok(Target::Files(self.files(text, path)?))
        } else if let Some(text) = &raw.page {
            let name = self.text(text)?;
            let page = PAGES.iter().find(|(known, _)| *known == name).map(|(_, page)| Target::Page(*page));
            page.ok_or_else(|| {
                let names = PAGES.iter().map(|(name, _)| *name);
                self.wrong(text, "unknown page").nearest(
                    text.get_ref(),
                    names,
                    "the pages are `health`, `index` and `monitoring`",
                )
            })
        } else {
            Err(self.origin.error(at, "missing key `module`").hint("or `files`, for a folder that is served as it is"))
        }
    }

    /// A folder for a path that ends in `/*`, else a file.
    fn files(&self, text: &Text, path: &Pattern) -> Checked<PathBuf> {
        let root = self.path(text)?;
        let wants_folder = path.folder_depth().is_some();
        match std::fs::metadata(&root) {
            Ok(metadata) if metadata.is_dir() == wants_folder && (metadata.is_dir() || metadata.is_file()) => Ok(root),
            Ok(metadata) if metadata.is_dir() => {
                let hint = format!("let the path end in `/*`, as in `{}/*`", path.as_str().trim_end_matches('/'));
                Err(self.wrong(text, "`files` is the folder").hint(hint))
            }
            Ok(_) if wants_folder => Err(self.wrong(text, "not a directory:").hint("a path that ends in `/*` serves a folder")),
            Ok(_) => Err(self.wrong(text, "not a file:")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && wants_folder => {
                Err(self.wrong(text, "missing directory"))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(self.wrong(text, "missing file")),
            Err(error) => Err(self.wrong(text, &format!("cannot read ({})", error.kind()))),
        }
    }

    fn weighted(&self, raw: &Spanned<Vec<raw::Target>>, tenant: &str, known: &Known<'_>) -> Checked<Vec<(String, u32)>> {
        if raw.get_ref().is_empty() {
            return Err(self.origin.error(raw.span(), "empty list `modules`"));
        }
        let mut targets: Vec<(String, u32)> = Vec::new();
        for raw in raw.get_ref() {
            let name = self.known(&raw.name, tenant, known)?;
            if targets.iter().any(|(other, _)| *other == name) {
                return Err(self.wrong(&raw.name, "duplicate target"));
            }
            targets.push((name, self.whole(raw.weight.as_ref(), "weight", 1..=u32::MAX, 1)?));
        }
        Ok(targets)
    }

    fn links(&self, raw: &Spanned<Vec<Spanned<raw::Link>>>, tenant: &str, known: &Known<'_>) -> Checked<Vec<Link>> {
        if raw.get_ref().is_empty() {
            return Err(self.origin.error(raw.span(), "empty list `chain`"));
        }
        if raw.get_ref().len() > CHAIN_STEPS_MAX {
            return Err(self.origin.error(raw.span(), format!("a chain of more than {CHAIN_STEPS_MAX} modules")));
        }
        let link = |raw: &Spanned<raw::Link>| match raw.get_ref() {
            raw::Link::Name(name) => {
                let module = self.known(&Spanned::new(raw.span(), name.clone()), tenant, known)?;
                Ok(Link { module, whole: false })
            }
            raw::Link::Step(step) => Ok(Link {
                module: self.known(&step.module, tenant, known)?,
                whole: match &step.output {
                    None => false,
                    Some(text) if self.text(text)? == "whole" => true,
                    Some(text) => {
                        return Err(self
                            .wrong(text, "unknown output")
                            .hint("write `whole`, or leave the key out for the result alone"));
                    }
                },
            }),
        };
        raw.get_ref().iter().map(link).collect()
    }

    /// The name of a module of the tenant.
    fn known(&self, text: &Text, tenant: &str, known: &Known<'_>) -> Checked<String> {
        let name = self.text(text)?;
        if known.contains_key(&(tenant.to_owned(), name.clone())) {
            return Ok(name);
        }
        let error = self.wrong(text, "unknown module");
        if known.keys().any(|(_, other)| *other == name) {
            return Err(error.hint("it has another tenant: name that as `tenant` of the route"));
        }
        let names = known.iter().filter(|((owner, _), _)| owner == tenant).map(|(_, text)| text.get_ref().as_str());
        Err(error.nearest(text.get_ref(), names, "declare it as `[[module]]`"))
    }

    fn host(&self, text: &Text) -> Checked<String> {
        let host = self.text(text)?.to_ascii_lowercase();
        let name = host.strip_prefix("*.").unwrap_or(&host);
        let is_label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        let is_v6 =
            host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).is_some_and(|h| h.parse::<std::net::Ipv6Addr>().is_ok());
        if is_v6 || name.split('.').all(is_label) {
            Ok(host)
        } else {
            let hint = "write it without scheme and port, such as `example.com` or `*.example.com`";
            Err(self.wrong(text, "bad host").hint(hint))
        }
    }

    fn method(&self, text: &Text) -> Checked<http::Method> {
        let method = self.text(text)?;
        let is_upper = !method.contains(|c: char| c.is_ascii_lowercase());
        http::Method::from_bytes(method.as_bytes()).ok().filter(|_| is_upper).ok_or_else(|| {
            let usual = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
            self.wrong(text, "bad method").nearest(text.get_ref(), usual, "write it in capital letters, such as `GET`")
        })
    }
}
