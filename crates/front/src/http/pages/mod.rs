//! Pages of the server's own, for people: what there is, and how it is doing.
//!
//! A page is a route like any other, so it has a host, a path and a tenant, and shows that tenant's routes alone. The HTML
//! is small, written by hand, needs no script, and lets none run: what is in it was written by operators and module authors,
//! and is escaped.

mod index;
mod monitoring;

use base::{Body, Page, PageKind, Snapshot};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};

/// No script, nothing from elsewhere, and in nobody's frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// Answers a request for `page`.
pub(crate) fn answer<B>(page: &Page, snapshot: &Snapshot, request: &Request<B>) -> Response<Body> {
    let wants_json = || request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "format=json"));
    let (kind, text) = match page.kind {
        PageKind::Health => ("text/plain; charset=utf-8", "OK".to_owned()),
        PageKind::Index => ("text/html; charset=utf-8", index::render(&page.tenant, snapshot)),
        PageKind::Monitoring if wants_json() => ("application/json", monitoring::json(&page.tenant, snapshot)),
        PageKind::Monitoring => ("text/html; charset=utf-8", monitoring::render(&page.tenant, snapshot)),
    };
    let mut response = Response::new(Body::Full(Bytes::from(text)));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A whole document around `body`.
fn document(title: &str, body: &str) -> String {
    const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}\
        h1{font-size:1.5rem}h2{font-size:1.1rem;margin:0}nav a{margin-right:1rem}a{color:#0a58ca}\
        .cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(18rem,1fr));gap:1rem}\
        .card{border:1px solid #ccc;border-radius:.5rem;padding:1rem}.card p{margin:.3rem 0}\
        .tag{font-size:.8rem;background:#eee;border-radius:.5rem;padding:.1rem .5rem}\
        table{border-collapse:collapse}th,td{text-align:left;padding:.2rem 1rem .2rem 0;border-bottom:1px solid #ddd}";
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n{body}</body></html>\n"
    )
}

/// Text that means nothing to HTML, in an element as in a quoted attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_escaped_is_markup() {
        assert_eq!(escape("<a href=\"x\" y='z'>&amp;ü"), "&lt;a href=&quot;x&quot; y=&#39;z&#39;&gt;&amp;amp;ü");
        assert!(document("<x>", "<p>").contains("<title>&lt;x&gt;</title>"));
    }
}
