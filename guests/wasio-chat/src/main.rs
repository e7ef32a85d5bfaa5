//! The instrument /chat: the last hundred messages, kept in the directory `/chat`, and a page that polls. Proves that guests which share a
//! directory and nothing else lose no message.

mod store;

use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use store::{KEPT, Message};
use wasio::Request;

const ACTIONS: &str = "ui, send or get";
const USERNAME_LETTERS_MAX: usize = 40;
const TEXT_LETTERS_MAX: usize = 1000;

const PAGE: &str = include_str!("page.html");

fn main() -> ExitCode {
    wasio::text(|request| match request.param_or("action", "ui") {
        "ui" => Ok(PAGE.to_string()),
        "send" => Ok(shown(send(request).map(|message| message.json()))),
        "get" => Ok(shown(get(request))),
        action => Ok(shown(Err(format!("unknown action '{action}'; use {ACTIONS}")))),
    })
}

/// What the page understands, whatever happened.
fn shown(result: Result<Value, String>) -> String {
    format!("{}\n", result.unwrap_or_else(|error| json!({ "error": error })))
}

fn send(request: &Request) -> Result<Message, String> {
    let field = |key: &str, letters_max: usize| match request.need(key)?.trim() {
        "" => Err(format!("the parameter '{key}' is empty")),
        text if text.chars().count() > letters_max => Err(format!("'{key}' has more than {letters_max} letters")),
        text => Ok(text.to_string()),
    };
    let (username, text) = (field("username", USERNAME_LETTERS_MAX)?, field("text", TEXT_LETTERS_MAX)?);
    let time_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    store::append(&username, &text, time_s)
}

fn get(request: &Request) -> Result<Value, String> {
    let text = request.param_or("n", "");
    let n = if text.is_empty() { Some(KEPT) } else { text.parse().ok().filter(|n| (1..=KEPT).contains(n)) };
    let n = n.ok_or_else(|| format!("'{text}' is not a number from 1 to {KEPT}; 'n' has to be one"))?;
    let messages = store::read()?;
    let first = messages.len().saturating_sub(n);
    Ok(messages[first..].iter().map(Message::json).collect())
}
