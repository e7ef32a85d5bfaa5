//! Counts in a bucket of `wasi:keyvalue@0.2.0-draft`; `common::keyvalue::Command` lists the routes. Proves the first of the three
//! shapes of that package: cursors are numbers, `increment` is unsigned, there is no compare-and-swap.

use common::keyvalue::{self, Command};
use http02::{method, read_all, target, text};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

mod bindings {
    #![allow(missing_docs, reason = "generated")]
    wit_bindgen::generate!({ path: "../../interfaces/keyvalue/wit/draft", world: "imports", generate_all });
}

use bindings::wasi::keyvalue::{atomics, store};

struct Counter;

wasip2::http::proxy::export!(Counter);

impl wasip2::exports::http::incoming_handler::Guest for Counter {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, body) = match keyvalue::parse(&method(&request), &target(&request)) {
            Ok((bucket, command)) => match run(&bucket, command, || read_all(&request).unwrap_or_default()) {
                Ok(answer) => answer,
                Err(store::Error::NoSuchStore) => keyvalue::failure("no-such-store", ""),
                Err(store::Error::AccessDenied) => keyvalue::failure("access-denied", ""),
                Err(store::Error::Other(text)) => keyvalue::failure("other", &text),
            },
            Err(status) => (status, b"no such command\n".to_vec()),
        };
        text(out, status, &body);
    }
}

fn run(bucket: &str, command: Command, body: impl Fn() -> Vec<u8>) -> Result<(u16, Vec<u8>), store::Error> {
    let bucket = store::open(bucket)?;
    Ok(match command {
        Command::Get(key) => (200, keyvalue::line(bucket.get(&key)?)),
        Command::Raw(key) => bucket.get(&key)?.map_or((404, Vec::new()), |value| (200, value)),
        Command::Exists(key) => (200, format!("{}\n", bucket.exists(&key)?).into()),
        Command::Keys => (200, keyvalue::listing(keys(&bucket)?)),
        Command::Increment(key, by) => (200, format!("{}\n", atomics::increment(&bucket, &key, by.unsigned_abs())?).into()),
        Command::Set(key) => (200, bucket.set(&key, &body()).map(|()| b"ok\n".to_vec())?),
        Command::Delete(key) => (200, bucket.delete(&key).map(|()| b"ok\n".to_vec())?),
        Command::Swap(_) | Command::SetMany | Command::DeleteMany => (404, b"no such command\n".to_vec()),
    })
}

/// Every key of the bucket, page by page.
fn keys(bucket: &store::Bucket) -> Result<Vec<String>, store::Error> {
    let mut keys = Vec::new();
    let mut cursor = None;
    loop {
        let page = bucket.list_keys(cursor)?;
        keys.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(keys);
        }
    }
}
