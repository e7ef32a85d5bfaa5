//! A guest's side of the codec `wasio`: one JSON object comes on standard input, what goes to standard output is the body of the answer,
//! and the host guesses its type. There is no status: what a caller did wrong is a sentence in the body.

use common::query::Query;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{Write, stdin, stdout};
use std::process::ExitCode;

/// What the host says of a request, as far as guests look at it.
pub struct Request {
    /// Fresh for every call.
    pub seed: i64,
    params: BTreeMap<String, String>,
}

impl Request {
    /// Of the query, and of the body where that is a form: pages of more than a few kilobytes do not fit into a URL.
    fn new(input: &Map<String, Value>) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_string();
        let mut params = BTreeMap::new();
        let form = input.get("headers").and_then(Value::as_object).is_some_and(|headers| {
            let value = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type")).map(|(_, value)| value);
            let value = value.and_then(|value| value.as_str().or_else(|| value.get(0)?.as_str()));
            value.is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"))
        });
        if form {
            params.extend(Query::parse(&text(input.get("body"))).into_pairs());
        }
        let query = input.get("params").and_then(Value::as_object).into_iter().flatten();
        params.extend(query.map(|(key, value)| (key.clone(), text(Some(value)))));
        Self { seed: input.get("seed").and_then(Value::as_i64).unwrap_or_default(), params }
    }

    /// A parameter, which may be empty; none where it is missing.
    pub fn param(&self, key: &str) -> Option<&str> {
        self.params.get(key).map(String::as_str)
    }

    /// A parameter, or `default` where it is missing or empty.
    pub fn param_or<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.param(key).filter(|value| !value.is_empty()).unwrap_or(default)
    }

    /// A parameter that has to be there, or the sentence that says so.
    pub fn need(&self, key: &str) -> Result<&str, String> {
        self.param(key).filter(|value| !value.is_empty()).ok_or_else(|| format!("the parameter '{key}' is missing"))
    }
}

/// Reads the request and writes what `answer` makes of it; an error becomes `Error: …`.
pub fn text<T: Display>(answer: impl FnOnce(&Request) -> Result<T, String>) -> ExitCode {
    bytes(|request| answer(request).map(|body| body.to_string().into_bytes()))
}

/// The same for what is no text.
pub fn bytes(answer: impl FnOnce(&Request) -> Result<Vec<u8>, String>) -> ExitCode {
    let input: Map<String, Value> = match serde_json::from_reader(stdin().lock()) {
        Ok(input) => input,
        Err(error) => {
            eprintln!("standard input is not the JSON of the codec wasio: {error}");
            return ExitCode::FAILURE;
        }
    };
    let body = answer(&Request::new(&input)).unwrap_or_else(|error| format!("Error: {error}\n").into_bytes());
    match stdout().write_all(&body).and_then(|()| stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
