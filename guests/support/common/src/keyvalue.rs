//! The routes of the counters, which are the same over every shape of `wasi:keyvalue`.

use crate::query;

/// What a request asks of a bucket.
pub enum Command {
    /// `GET /?key=K`: the value as text, `0` where there is none.
    Get(String),
    /// `GET /raw?key=K`: the bytes, or 404.
    Raw(String),
    /// `GET /exists?key=K`: `true` or `false`.
    Exists(String),
    /// `GET /keys`: every key, sorted, one a line.
    Keys,
    /// `POST /?key=K&by=N`: adds N, or 1, and answers the sum.
    Increment(String, i64),
    /// `PUT /?key=K`: the request's body becomes the value.
    Set(String),
    /// `DELETE /?key=K`.
    Delete(String),
    /// `POST /cas?key=K`: adds 1 by reading and swapping until nobody came between.
    Swap(String),
    /// `POST /batch`: sets the lines `k=v`, then reads the keys of all lines, those without `=` too.
    SetMany,
    /// `DELETE /batch`: removes the keys, one a line.
    DeleteMany,
}

/// The bucket and the command of a request, or the status that refuses it.
pub fn parse(method: &str, target: &str) -> Result<(String, Command), u16> {
    let (path, query) = query::split(target);
    let key = || query.get("key").map(String::from).ok_or(400u16);
    let command = match (method, path) {
        ("GET", "/") => Command::Get(key()?),
        ("GET", "/raw") => Command::Raw(key()?),
        ("GET", "/exists") => Command::Exists(key()?),
        ("GET", "/keys") => Command::Keys,
        ("POST", "/") => Command::Increment(key()?, query.get("by").unwrap_or("1").parse().map_err(|_| 400u16)?),
        ("PUT", "/") => Command::Set(key()?),
        ("DELETE", "/") => Command::Delete(key()?),
        ("POST", "/cas") => Command::Swap(key()?),
        ("POST", "/batch") => Command::SetMany,
        ("DELETE", "/batch") => Command::DeleteMany,
        _ => return Err(404),
    };
    Ok((query.get("bucket").unwrap_or("default").to_string(), command))
}

/// The status and text a guest answers for a failure of the store.
pub fn failure(variant: &str, text: &str) -> (u16, Vec<u8>) {
    let status = match variant {
        "no-such-store" => 404,
        "access-denied" => 403,
        _ => 500,
    };
    let body = if text.is_empty() { format!("{variant}\n") } else { format!("{variant}: {text}\n") };
    (status, body.into_bytes())
}

/// A stored number; a missing value is 0, and so is one that is no number.
pub fn number(value: Option<Vec<u8>>) -> i64 {
    value.and_then(|bytes| String::from_utf8(bytes).ok()).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// A value as the line that shows it.
pub fn line(value: Option<Vec<u8>>) -> Vec<u8> {
    let mut text = value.unwrap_or_else(|| b"0".to_vec());
    text.push(b'\n');
    text
}

/// Keys, sorted, one a line.
pub fn listing(mut keys: Vec<String>) -> Vec<u8> {
    keys.sort();
    keys.iter().flat_map(|key| [key.as_bytes(), b"\n"].concat()).collect()
}

/// The lines of a batch: each a key, and the value to set if there is one.
pub fn batch(body: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let text = String::from_utf8_lossy(body);
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| match line.split_once('=') {
            Some((key, value)) => (key.to_string(), Some(value.as_bytes().to_vec())),
            None => (line.to_string(), None),
        })
        .collect()
}

/// What `get-many` found, in its order: `k=v`, or `none` for a key without a value.
pub fn found(pairs: Vec<Option<(String, Vec<u8>)>>) -> Vec<u8> {
    pairs
        .iter()
        .flat_map(|pair| match pair {
            Some((key, value)) => [key.as_bytes(), b"=", value, b"\n"].concat(),
            None => b"none\n".to_vec(),
        })
        .collect()
}
