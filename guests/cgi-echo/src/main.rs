//! A CGI/1.1 script: shows its variables and its input. From the query come `status`, `type`, header fields `header=NAME:VALUE`, each as
//! often as it is there, and `location`. Proves the codec `cgi` in both directions.

use common::query::Query;
use std::io::{Read, Write, stdin, stdout};
use std::process::ExitCode;
use std::{env, io};

/// Those of RFC 3875 that are always there or belong to the body; those of header fields come after them.
const VARIABLES: &[&str] = &[
    "GATEWAY_INTERFACE",
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "SERVER_PROTOCOL",
    "SERVER_NAME",
    "SERVER_PORT",
    "REMOTE_ADDR",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
];

fn main() -> ExitCode {
    let mut input = Vec::new();
    let body = stdin().lock().read_to_end(&mut input).map(|_| input);
    match body.and_then(|body| respond(&Query::parse(&env::var("QUERY_STRING").unwrap_or_default()), &body)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn respond(query: &Query, body: &[u8]) -> io::Result<()> {
    let mut out = stdout().lock();
    if let Some(status) = query.get("status") {
        write!(out, "Status: {status}\r\n")?;
    }
    if let Some(location) = query.get("location") {
        write!(out, "Location: {location}\r\n")?;
    }
    for field in query.all("header") {
        write!(out, "{field}\r\n")?;
    }
    write!(out, "Content-Type: {}\r\n\r\n", query.get("type").unwrap_or("text/plain"))?;
    for name in VARIABLES {
        if let Ok(value) = env::var(name) {
            writeln!(out, "{name}={value}")?;
        }
    }
    let mut fields: Vec<(String, String)> = env::vars().filter(|(name, _)| name.starts_with("HTTP_X_")).collect();
    fields.sort();
    for (name, value) in fields {
        writeln!(out, "{name}={value}")?;
    }
    writeln!(out)?;
    out.write_all(body)?;
    out.flush()
}
