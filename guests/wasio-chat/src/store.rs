//! The messages. `messages.json` has the last hundred; each message also has a file of its own, `message-<id>.json`, and what counts are all
//! of those: whoever reads begins with `messages.json` and goes on to the files of the ids behind it, one by one, until there is none.
//!
//! A message is sent when the file of its id exists. That file is created whole or not at all ([`whole::create`]), so of several writers
//! that want the same id one succeeds, and the others find its message and try the next id. Nobody waits for anybody, and a writer that is
//! ended in the middle leaves nothing others would have to wait for. `messages.json` only saves the walk: a slow writer may put an older one
//! in its place, and readers walk further. They can, since a message's file is kept until nobody runs any more who wrote before it.

use serde_json::{Value, json};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

const FOLDER: &str = "/chat";

/// Messages; the oldest give way.
pub(crate) const KEPT: usize = 100;

const ALL: &str = "messages.json";

/// How many messages are sent until old files are looked for.
const SWEEP_EVERY: u64 = 64;

#[derive(Clone)]
pub(crate) struct Message {
    /// Counts from 1.
    id: u64,
    time_s: u64,
    username: String,
    text: String,
}

impl Message {
    pub(crate) fn json(&self) -> Value {
        json!({ "id": self.id, "time": self.time_s, "username": self.username, "text": self.text })
    }

    fn parse(json: &Value) -> Option<Self> {
        let text = |key: &str| Some(json[key].as_str()?.to_string());
        Some(Self { id: json["id"].as_u64()?, time_s: json["time"].as_u64()?, username: text("username")?, text: text("text")? })
    }
}

/// The last hundred, the oldest first.
pub(crate) fn read() -> Result<Vec<Message>, String> {
    let mut messages = match read_file(ALL)? {
        Some(Value::Array(all)) => all.iter().map(Message::parse).collect::<Option<_>>().ok_or_else(|| damaged(ALL))?,
        Some(_) => return Err(damaged(ALL)),
        None => Vec::new(),
    };
    loop {
        let next = file(next_id(&messages));
        let Some(json) = read_file(&next)? else { break };
        messages.push(Message::parse(&json).ok_or_else(|| damaged(&next))?);
    }
    messages.drain(..messages.len().saturating_sub(KEPT));
    Ok(messages)
}

/// Sends a message and returns it with its place among the others.
pub(crate) fn append(username: &str, text: &str, time_s: u64) -> Result<Message, String> {
    let folder = Path::new(FOLDER);
    // Ends: each attempt that fails is one that somebody else has succeeded with.
    loop {
        let mut messages = read()?;
        let message = Message { id: next_id(&messages), time_s, username: username.into(), text: text.into() };
        if whole::create(folder, &file(message.id), message.json().to_string().as_bytes()).map_err(|error| failed(&error))? {
            messages.push(message.clone());
            let all = Value::from_iter(messages[messages.len().saturating_sub(KEPT)..].iter().map(Message::json));
            whole::replace(folder, ALL, all.to_string().as_bytes()).map_err(|error| failed(&error))?;
            if message.id.is_multiple_of(SWEEP_EVERY) {
                sweep(message.id);
            }
            return Ok(message);
        }
    }
}

fn next_id(messages: &[Message]) -> u64 {
    messages.last().map_or(1, |last| last.id + 1)
}

fn file(id: u64) -> String {
    format!("message-{id}.json")
}

/// Removes the files of old messages up to `id`, which are in `messages.json`.
fn sweep(id: u64) {
    let number = |name: &str| name.strip_prefix("message-")?.strip_suffix(".json")?.parse().ok();
    // The next one that sweeps will try again.
    for name in whole::list(Path::new(FOLDER)).unwrap_or_default() {
        if number(&name).is_some_and(|number: u64| number <= id) {
            whole::remove_old(Path::new(FOLDER), &name);
        }
    }
}

fn read_file(name: &str) -> Result<Option<Value>, String> {
    match fs::read(Path::new(FOLDER).join(name)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|_| damaged(name)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

fn damaged(name: &str) -> String {
    format!("{name} is damaged")
}

/// The reason goes to the log: it may tell of the host.
fn failed(error: &io::Error) -> String {
    eprintln!("chat: {error}");
    "cannot keep messages".into()
}
