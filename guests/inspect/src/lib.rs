//! Answers, as JSON, everything a guest can see of its request and of the world: environment, arguments, the directory `/data`.
//! `POST /write?name=N` writes the body into `/data/N` and answers how that went. Proves grants: what was not given is not there.
//! Prints one line on stdout and one on stderr, so that logs can be tested too.

use http02::{method, read_all, target, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::{env, fs};
use wasip2::http::types::{IncomingRequest, ResponseOutparam, Scheme};

struct Inspect;

wasip2::http::proxy::export!(Inspect);

impl wasip2::exports::http::incoming_handler::Guest for Inspect {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (method, target) = (method(&request), target(&request));
        let (path, query) = common::query::split(&target);
        println!("inspect: {method} {path}");
        eprintln!("inspect: {method} {path}");
        match (method.as_str(), path) {
            ("POST", "/write") => text(out, 200, write(&request, query.get("name").unwrap_or("unnamed")).as_bytes()),
            _ => http02::bytes(out, 200, "application/json", format!("{:#}\n", describe(&request)).as_bytes()),
        }
    }
}

fn describe(request: &IncomingRequest) -> Value {
    let mut headers: Vec<(String, String)> = request
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
        .collect();
    headers.sort();
    json!({
        "method": method(request),
        "path_with_query": request.path_with_query(),
        "authority": request.authority(),
        "scheme": request.scheme().map(|scheme| match scheme {
            Scheme::Http => "http".to_string(),
            Scheme::Https => "https".to_string(),
            Scheme::Other(name) => name,
        }),
        "headers": headers,
        "env": env::vars().collect::<BTreeMap<_, _>>(),
        "args": env::args().collect::<Vec<_>>(),
        "data": entries(),
        "hello": fs::read_to_string("/data/hello.txt").ok(),
    })
}

/// The names in `/data`, sorted; none where there is no such directory.
fn entries() -> Option<Vec<String>> {
    let mut names: Vec<String> =
        fs::read_dir("/data").ok()?.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    Some(names)
}

fn write(request: &IncomingRequest, name: &str) -> String {
    let body = match read_all(request) {
        Ok(body) => body,
        Err(error) => return format!("body: {error}\n"),
    };
    match fs::write(format!("/data/{name}"), &body) {
        Ok(()) => format!("ok: {} bytes\n", body.len()),
        Err(error) => format!("error: {:?}: {error}\n", error.kind()),
    }
}
