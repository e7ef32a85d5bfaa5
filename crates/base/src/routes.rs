//! Which route a request belongs to.
//!
//! A path is literal (`/users`), has parameters (`/users/{id}`), or ends in `/*`, which matches the folder itself and all
//! below it. The most specific path wins, whatever the order in the file; a host that is named wins over `*.example.com`,
//! and that over no host. Two routes that could not be told apart are an error when the table is built.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::{Counts, Entry, ModuleVersion, Routed, Via};

/// A path pattern, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// Why a path or host is no pattern, or a route collides with another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError(String);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Reads a path such as `/`, `/users/{id}` or `/static/*`.
    ///
    /// # Errors
    ///
    /// Says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.starts_with('/') {
            return Err(PatternError(format!("the path `{text}` must begin with `/`")));
        }
        if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic() || "?#\"<>\\^`|".contains(*c)) {
            return Err(PatternError(format!(
                "the path `{text}` has the character `{}`, which no request's path has: write it percent-encoded",
                c.escape_debug()
            )));
        }
        let folder = text.strip_suffix("/*").unwrap_or(text);
        if folder.contains('*') {
            return Err(PatternError(format!("in the path `{text}`, `*` may only stand alone at the end, as in `/files/*`")));
        }
        let mut names = HashSet::new();
        for segment in folder.split('/').filter(|s| s.contains(['{', '}'])) {
            let name = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')).unwrap_or_default();
            if name.is_empty() || name.contains(['{', '}']) {
                return Err(PatternError(format!(
                    "in the path `{text}`, a parameter is a whole segment in braces, as in `/users/{{id}}`"
                )));
            }
            if !names.insert(name) {
                return Err(PatternError(format!("in the path `{text}`, two parameters are called `{name}`")));
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The text it was read from.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parameters of a path that matches, still percent-encoded: name and segment.
    pub fn parameters<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        segments(&self.0).zip(segments(path)).filter_map(|(pattern, segment)| {
            let name = pattern.strip_prefix('{')?.strip_suffix('}')?;
            Some((name, segment))
        })
    }

    /// A path that matches, split in two: what names the module, and the rest, which begins with `/` or is empty. `/*` is the
    /// rest; a pattern without it matches as a whole.
    pub fn split<'a>(&self, path: &'a str) -> (&'a str, &'a str) {
        let Some(depth) = self.folder_depth() else { return (path, "") };
        let slashes = path.match_indices('/').map(|(at, _)| at).nth(depth);
        path.split_at(slashes.unwrap_or(path.len()))
    }

    /// How many segments lead to the folder, for a pattern that ends in `/*`.
    pub fn folder_depth(&self) -> Option<usize> {
        self.0.strip_suffix("/*").map(|folder| segments(folder).count())
    }
}

/// One module that may answer a route, and how often.
#[derive(Clone, Debug)]
pub struct Weighted {
    /// The version.
    pub module: Arc<ModuleVersion>,
    /// The way it is called; the trigger picked it.
    pub entry: Entry,
    /// Its share: calls are spread in proportion to the weights.
    pub weight: u32,
}

/// Files that are served as they are. A name only: whoever serves them opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRoot {
    /// The folder, or the one file.
    pub path: PathBuf,
    /// For a folder, how many segments of a request's path lead to it; none for one file.
    pub depth: Option<usize>,
    /// Whose files they are.
    pub tenant: Arc<str>,
}

/// A page of the server's own, about one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Which one.
    pub kind: PageKind,
    /// Whose routes it shows, and no other's.
    pub tenant: Arc<str>,
}

/// Which page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// `OK`, as long as there is somebody to say so.
    Health,
    /// The routes, each with what it is for.
    Index,
    /// What was counted.
    Monitoring,
}

/// What people are told of a route. Empty where nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What it does.
    pub description: String,
    /// What it belongs to.
    pub category: String,
    /// A whole path, or what follows the route's, such as `?name=you`.
    pub example: String,
}

/// Who answers a route.
#[derive(Clone, Debug)]
pub enum Target {
    /// One of these module versions; never empty, and the weights sum to more than 0.
    Modules(Vec<Weighted>),
    /// Files, without a call.
    Files(Arc<FileRoot>),
    /// The server itself.
    Page(Arc<Page>),
}

impl Target {
    /// Whose it is.
    pub fn tenant(&self) -> &Arc<str> {
        match self {
            Self::Modules(choices) => &choices[0].module.tenant.name,
            Self::Files(root) => &root.tenant,
            Self::Page(page) => &page.tenant,
        }
    }
}

/// Who answers one request.
#[derive(Clone, Debug)]
pub enum Picked {
    /// A module.
    Module(Routed),
    /// Files.
    Files(Arc<FileRoot>),
    /// The server itself.
    Page(Arc<Page>),
}

/// Host, path and methods → target.
#[derive(Clone, Debug)]
pub struct Route {
    /// `example.com`, `*.example.com`, or none for every host.
    pub host: Option<String>,
    /// The path.
    pub path: Pattern,
    /// The methods; empty for all. `GET` includes `HEAD`.
    pub methods: Vec<Method>,
    /// Who answers.
    pub target: Target,
    /// How long a module's answer may be given again, where it may.
    pub cache_ttl: Option<Duration>,
    /// What people are told of it.
    pub about: About,
    /// Where its requests are counted, if anybody can look.
    pub counts: Option<Arc<Counts>>,
}

impl Route {
    fn allows(&self, method: &Method) -> bool {
        self.methods.is_empty()
            || self.methods.contains(method)
            || (*method == Method::HEAD && self.methods.contains(&Method::GET))
    }

    /// Picks who answers. `random` is any number; it is used only where there is a choice.
    pub fn pick(self: &Arc<Self>, peer: Option<SocketAddr>, random: impl FnOnce() -> u64) -> Picked {
        let choices = match &self.target {
            Target::Modules(choices) => choices,
            Target::Files(root) => return Picked::Files(Arc::clone(root)),
            Target::Page(page) => return Picked::Page(Arc::clone(page)),
        };
        let chosen = match choices.as_slice() {
            [only] => only,
            many => {
                let total: u64 = many.iter().map(|w| u64::from(w.weight)).sum();
                let mut point = random() % total.max(1);
                many.iter()
                    .find(|w| match point.checked_sub(u64::from(w.weight)) {
                        Some(rest) => {
                            point = rest;
                            false
                        }
                        None => true,
                    })
                    .unwrap_or(&many[0])
            }
        };
        let via = Via { route: Some(Arc::clone(self)), peer, ..Via::default() };
        Picked::Module(Routed { module: Arc::clone(&chosen.module), entry: chosen.entry, via })
    }
}

/// The answer of [`RouteTable::find`].
#[derive(Debug)]
pub enum Found<'a> {
    /// A route.
    Route(&'a Arc<Route>),
    /// Routes for the path, none for the method; these would do, each once.
    OtherMethods(Vec<Method>),
    /// Nothing.
    Nothing,
}

/// All routes of one snapshot, ready to be searched.
#[derive(Debug, Default)]
pub struct RouteTable {
    hosts: HashMap<String, Paths>,
    /// By suffix with its dot, longest first.
    suffixes: Vec<(String, Paths)>,
    any_host: Paths,
    routes: Vec<Arc<Route>>,
}

/// The paths of one host as a tree of segments.
#[derive(Debug, Default)]
struct Paths {
    literal: HashMap<Box<str>, Paths>,
    parameter: Option<Box<Paths>>,
    /// Routes that end here; they differ in their methods.
    here: Vec<Arc<Route>>,
    /// Routes that end in `/*` below here.
    below: Vec<Arc<Route>>,
}

impl RouteTable {
    /// Builds the table.
    ///
    /// # Errors
    ///
    /// Names the two routes if some request would fit both equally well.
    pub fn build(routes: Vec<Route>) -> Result<Self, PatternError> {
        let mut table = Self::default();
        let routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
        for route in &routes {
            table.paths_of(route.host.as_deref()).add(route)?;
        }
        table.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        table.routes = routes;
        Ok(table)
    }

    /// All routes, in the order of the configuration.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// Searches. `host` is without its port; `path` is still percent-encoded.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Found<'_> {
        let mut other: Vec<Method> = Vec::new();
        let exact = (!self.hosts.is_empty()).then(|| self.hosts.get(host.to_ascii_lowercase().as_str())).flatten();
        let suffixes = self.suffixes.iter().filter(|(suffix, _)| {
            host.len() > suffix.len() && host.as_bytes()[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
        });
        for paths in exact.into_iter().chain(suffixes.map(|(_, paths)| paths)).chain([&self.any_host]) {
            if let Some(route) = paths.find(path, method, &mut other) {
                return Found::Route(route);
            }
        }
        if other.contains(&Method::GET) {
            other.push(Method::HEAD);
        }
        let mut methods: Vec<Method> = Vec::new();
        for method in other {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        if methods.is_empty() { Found::Nothing } else { Found::OtherMethods(methods) }
    }

    fn paths_of(&mut self, host: Option<&str>) -> &mut Paths {
        let Some(host) = host else { return &mut self.any_host };
        let host = host.to_ascii_lowercase();
        match host.strip_prefix('*') {
            None => self.hosts.entry(host).or_default(),
            Some(suffix) => {
                let at = self.suffixes.iter().position(|(s, _)| s == suffix).unwrap_or_else(|| {
                    self.suffixes.push((suffix.to_owned(), Paths::default()));
                    self.suffixes.len() - 1
                });
                &mut self.suffixes[at].1
            }
        }
    }
}

impl Paths {
    fn add(&mut self, route: &Arc<Route>) -> Result<(), PatternError> {
        let text = route.path.as_str();
        let (folder, is_folder) = match text.strip_suffix("/*") {
            Some(folder) => (folder, true),
            None => (text, false),
        };
        let mut node = self;
        for segment in segments(folder) {
            node = match segment.starts_with('{') {
                true => &mut **node.parameter.get_or_insert_default(),
                false => node.literal.entry(segment.into()).or_default(),
            };
        }
        let leaf = if is_folder { &mut node.below } else { &mut node.here };
        let in_common = |other: &&Arc<Route>| {
            other.methods.is_empty() && route.methods.is_empty()
                || other.methods.iter().any(|method| route.methods.contains(method))
        };
        if let Some(other) = leaf.iter().find(in_common) {
            let other = other.path.as_str();
            return Err(PatternError(format!(
                "the routes `{other}` and `{text}` match the same paths and have a method in common"
            )));
        }
        // Routes with methods are asked before one without.
        let at = if route.methods.is_empty() { leaf.len() } else { 0 };
        leaf.insert(at, Arc::clone(route));
        Ok(())
    }

    /// The most specific route: literal segments before parameters before `/*`, the first segment deciding first. A route
    /// that has the path but not the method leaves its methods in `other`, and the search goes on.
    fn find(&self, path: &str, method: &Method, other: &mut Vec<Method>) -> Option<&Arc<Route>> {
        self.descend(segments(path), method, other)
    }

    fn descend<'p>(
        &self,
        mut rest: impl Iterator<Item = &'p str> + Clone,
        method: &Method,
        other: &mut Vec<Method>,
    ) -> Option<&Arc<Route>> {
        let found = match rest.next() {
            None => allowing(&self.here, method, other),
            Some(segment) => self.literal.get(segment).and_then(|node| node.descend(rest.clone(), method, other)).or_else(|| {
                let parameter = self.parameter.as_ref().filter(|_| !segment.is_empty())?;
                parameter.descend(rest, method, other)
            }),
        };
        found.or_else(|| allowing(&self.below, method, other))
    }
}

fn allowing<'a>(leaf: &'a [Arc<Route>], method: &Method, other: &mut Vec<Method>) -> Option<&'a Arc<Route>> {
    let found = leaf.iter().find(|route| route.allows(method));
    if found.is_none() {
        other.extend(leaf.iter().flat_map(|route| route.methods.iter().cloned()));
    }
    found
}

/// The parts between slashes; none for the root, and an empty last one for a path that ends in a slash.
fn segments(path: &str) -> impl Iterator<Item = &str> + Clone {
    path.split('/').skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests_support::module;

    fn route(host: Option<&str>, path: &str, methods: &[Method], name: &str) -> Route {
        Route {
            host: host.map(str::to_owned),
            path: Pattern::parse(path).expect("a good pattern"),
            methods: methods.to_vec(),
            target: Target::Modules(vec![Weighted { module: module("t", name), entry: Entry::Http, weight: 1 }]),
            cache_ttl: None,
            about: About::default(),
            counts: None,
        }
    }

    fn picked(route: &Arc<Route>, random: u64) -> String {
        match route.pick(None, || random) {
            Picked::Module(routed) => routed.module.name.to_string(),
            Picked::Files(root) => root.path.display().to_string(),
            Picked::Page(page) => format!("{:?}", page.kind),
        }
    }

    fn name_of(found: Found<'_>) -> String {
        match found {
            Found::Route(route) => picked(route, 0),
            Found::OtherMethods(methods) => format!("only {methods:?}"),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn the_most_specific_route_wins() {
        let table = RouteTable::build(vec![
            route(None, "/*", &[], "all"),
            route(None, "/users/{id}", &[Method::GET], "user"),
            route(None, "/users/me", &[], "me"),
            route(None, "/users/*", &[], "below"),
            route(None, "/users/{id}/posts/{post}", &[], "post"),
            route(None, "/static/*", &[], "static"),
            route(Some("example.com"), "/users/me", &[], "host"),
            route(Some("*.example.com"), "/*", &[], "wild"),
        ])
        .expect("no collisions");
        for (host, path, expected) in [
            ("localhost", "/", "all"),
            ("localhost", "/users/7", "user"),
            ("localhost", "/users/me", "me"),
            ("localhost", "/users", "below"),
            ("localhost", "/users/", "below"),
            ("localhost", "/users/7/posts", "below"),
            ("localhost", "/users/me/posts/1", "post"),
            ("localhost", "/users/7/posts/1", "post"),
            ("localhost", "/users/7/posts/1/x", "below"),
            ("localhost", "/static", "static"),
            ("localhost", "/static/", "static"),
            ("localhost", "/static/a/b", "static"),
            ("Example.COM", "/users/me", "host"),
            ("example.com", "/other", "all"),
            ("a.example.com", "/users/me", "wild"),
        ] {
            assert_eq!(name_of(table.find(host, path, &Method::GET)), expected, "{host}{path}");
        }
    }

    #[test]
    fn methods_choose_among_routes_of_one_path() {
        let table = RouteTable::build(vec![
            route(None, "/a", &[Method::POST], "post"),
            route(None, "/a", &[Method::GET], "get"),
            route(None, "/b", &[Method::PUT], "put"),
            route(Some("x.test"), "/*", &[Method::GET, Method::PATCH], "host"),
        ])
        .expect("no collisions");
        assert_eq!(name_of(table.find("", "/a", &Method::HEAD)), "get");
        assert_eq!(name_of(table.find("", "/a", &Method::POST)), "post");
        assert_eq!(name_of(table.find("", "/b", &Method::GET)), "only [PUT]");
        assert_eq!(name_of(table.find("", "/a", &Method::DELETE)), "only [GET, POST, HEAD]");
        assert_eq!(name_of(table.find("x.test", "/a", &Method::DELETE)), "only [GET, PATCH, POST, HEAD]");
        assert_eq!(name_of(table.find("", "/c", &Method::GET)), "nothing");
    }

    #[test]
    fn ambiguous_routes_are_refused() {
        for (a, b) in [("/a", "/a"), ("/{x}", "/{y}"), ("/a/*", "/a/*"), ("/{x}/a/*", "/{y}/a/*")] {
            RouteTable::build(vec![route(None, a, &[], "1"), route(None, b, &[], "2")]).expect_err("ambiguous");
        }
    }

    #[test]
    fn files_are_a_target_and_know_where_their_folder_begins() {
        let root = FileRoot { path: "/srv/public".into(), depth: Some(1), tenant: "t".into() };
        let files = Route { target: Target::Files(Arc::new(root)), ..route(None, "/static/*", &[], "unused") };
        let table = RouteTable::build(vec![files, route(None, "/static/app", &[], "app")]).expect("no collisions");
        assert_eq!(name_of(table.find("", "/static/a.css", &Method::GET)), "/srv/public");
        assert_eq!(name_of(table.find("", "/static/app", &Method::GET)), "app");
        for (pattern, depth) in [("/*", Some(0)), ("/static/*", Some(1)), ("/u/{id}/*", Some(2)), ("/a", None)] {
            assert_eq!(Pattern::parse(pattern).expect("a good pattern").folder_depth(), depth, "{pattern}");
        }
    }

    #[test]
    fn bad_patterns_are_explained() {
        for text in ["", "users", "/a*b", "/*/b", "/{", "/a{b}", "/{}", "/ü", "/a b", "/a?b", "/a#b", "/{a}/{a}"] {
            Pattern::parse(text).expect_err(text);
        }
    }

    #[test]
    fn a_path_is_taken_apart_by_its_pattern() {
        for (pattern, path, expected, parameters) in [
            ("/*", "/a/b", ("", "/a/b"), &[][..]),
            ("/*", "/", ("", "/"), &[]),
            ("/app/*", "/app/x/y", ("/app", "/x/y"), &[]),
            ("/app/*", "/app", ("/app", ""), &[]),
            ("/app/*", "/app/", ("/app", "/"), &[]),
            ("/app", "/app", ("/app", ""), &[]),
            ("/{a}/x/{b}", "/1/x/2%20", ("/1/x/2%20", ""), &[("a", "1"), ("b", "2%20")]),
            ("/{a}/*", "/1/x", ("/1", "/x"), &[("a", "1")]),
        ] {
            let pattern = Pattern::parse(pattern).expect("a good pattern");
            assert_eq!(pattern.split(path), expected, "{pattern:?} {path}");
            assert_eq!(pattern.parameters(path).collect::<Vec<_>>(), parameters, "{pattern:?} {path}");
        }
    }

    #[test]
    fn weights_spread_calls() {
        let choice = |name, weight| Weighted { module: module("t", name), entry: Entry::Http, weight };
        let route =
            Arc::new(Route { target: Target::Modules(vec![choice("a", 1), choice("b", 3)]), ..route(None, "/", &[], "unused") });
        let names: Vec<_> = (0..8).map(|n| picked(&route, n)).collect();
        assert_eq!(names, ["a", "b", "b", "b", "a", "b", "b", "b"]);
    }
}
