//! What there is: a card for each route.

use base::{PageKind, Route, Snapshot, Target};

use super::{document, escape};

/// What is said where nothing is.
const CATEGORY: &str = "Custom";

pub(super) fn render(tenant: &str, snapshot: &Snapshot) -> String {
    let mut body = String::new();
    if let Some(monitoring) = monitoring(tenant, snapshot) {
        body.push_str(&format!("<nav><a href=\"{}\">Monitoring</a></nav>\n", escape(monitoring)));
    }
    body.push_str("<div class=\"cards\">\n");
    for route in snapshot.routes.routes().iter().filter(|route| **route.target.tenant() == *tenant) {
        if !matches!(route.target, Target::Page(_)) {
            body.push_str(&card(route));
        }
    }
    body.push_str("</div>\n");
    document("Fornax", &body)
}

/// Where the tenant's numbers are.
fn monitoring<'a>(tenant: &str, snapshot: &'a Snapshot) -> Option<&'a str> {
    let mut routes = snapshot.routes.routes().iter();
    let found = routes.find(|route| match &route.target {
        Target::Page(page) => page.kind == PageKind::Monitoring && *page.tenant == *tenant,
        _ => false,
    });
    found.map(|route| route.path.as_str())
}

fn card(route: &Route) -> String {
    let about = &route.about;
    let name = format!("{}{}", route.host.as_deref().unwrap_or_default(), route.path.as_str());
    let category = if about.category.is_empty() { CATEGORY } else { &about.category };
    let link = |to: String, text: &str| format!(" <a href=\"{}\">{text}</a>", escape(&to));
    let links = [address(route).map(|to| link(to, "Open")), example(route).map(|to| link(to, "Example"))];
    format!(
        "<div class=\"card\"><h2>{} <span class=\"tag\">{}</span></h2><p>{}</p><p>{}</p></div>\n",
        escape(&name),
        escape(category),
        escape(&about.description),
        links.into_iter().flatten().collect::<String>().trim_start(),
    )
}

/// A link to the route itself; none where it is not one address.
fn address(route: &Route) -> Option<String> {
    let path = route.path.as_str();
    let path = path.strip_suffix('*').unwrap_or(path);
    if path.contains('{') {
        return None;
    }
    Some(format!("{}{path}", origin(route)?))
}

/// A link to the example: a whole path, or what follows the route's own.
fn example(route: &Route) -> Option<String> {
    match route.about.example.as_str() {
        "" => None,
        whole if whole.starts_with('/') => Some(format!("{}{whole}", origin(route)?)),
        rest => address(route).map(|address| address + rest),
    }
}

/// What a link begins with: nothing for this host, `//host` for one that is named, none for one of many.
fn origin(route: &Route) -> Option<String> {
    match route.host.as_deref() {
        None => Some(String::new()),
        Some(host) if host.starts_with('*') => None,
        Some(host) => Some(format!("//{host}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::tests_support::module;
    use base::{About, Entry, FileRoot, Page, Pattern, RouteTable, Weighted};

    use super::*;

    fn route(host: Option<&str>, path: &str, target: Target, about: [&str; 3]) -> Route {
        let [description, category, example] = about.map(str::to_owned);
        Route {
            host: host.map(str::to_owned),
            path: Pattern::parse(path).expect("a pattern"),
            methods: Vec::new(),
            target,
            cache_ttl: None,
            about: About { description, category, example },
            counts: None,
        }
    }

    fn to_module(tenant: &str) -> Target {
        Target::Modules(vec![Weighted { module: module(tenant, "m"), entry: Entry::Http, weight: 1 }])
    }

    fn page(kind: PageKind) -> Target {
        Target::Page(Arc::new(Page { kind, tenant: "t".into() }))
    }

    #[test]
    fn each_route_of_the_tenant_has_a_card() {
        let files = FileRoot { path: "/srv/secret-place".into(), depth: Some(1), tenant: "t".into() };
        let routes = vec![
            route(None, "/hello", to_module("t"), ["Says <hello> & more", "Basic", "?name=\"you\""]),
            route(None, "/users/{id}", to_module("t"), ["", "", "/users/7"]),
            route(Some("a.test"), "/x/*", to_module("t"), ["", "", ""]),
            route(Some("*.test"), "/y", to_module("t"), ["", "", "?a"]),
            route(None, "/static/*", Target::Files(Arc::new(files)), ["", "", ""]),
            route(None, "/other", to_module("other"), ["", "", ""]),
            route(None, "/", page(PageKind::Index), ["", "", ""]),
            route(None, "/stats", page(PageKind::Monitoring), ["", "", ""]),
        ];
        let snapshot = Snapshot { routes: RouteTable::build(routes).expect("a table"), ..Snapshot::default() };
        let html = render("t", &snapshot);
        for part in [
            "<nav><a href=\"/stats\">Monitoring</a></nav>",
            "<h2>/hello <span class=\"tag\">Basic</span></h2><p>Says &lt;hello&gt; &amp; more</p>",
            "<p><a href=\"/hello\">Open</a> <a href=\"/hello?name=&quot;you&quot;\">Example</a></p>",
            "<h2>/users/{id} <span class=\"tag\">Custom</span></h2><p></p><p><a href=\"/users/7\">Example</a></p>",
            "<h2>a.test/x/* <span class=\"tag\">Custom</span></h2><p></p><p><a href=\"//a.test/x/\">Open</a></p>",
            "<h2>*.test/y <span class=\"tag\">Custom</span></h2><p></p><p></p>",
            "<p><a href=\"/static/\">Open</a></p>",
        ] {
            assert!(html.contains(part), "{part} is missing in\n{html}");
        }
        assert_eq!(html.matches("class=\"card\"").count(), 5);
        assert!(!html.contains("/other") && !html.contains("secret-place"), "{html}");
        assert_eq!(monitoring("other", &snapshot), None);
    }
}
