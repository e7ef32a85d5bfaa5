//! Counts in a bucket of `wasi:keyvalue@0.2.0-draft2`, with asynchronous functions, from a WASI 0.3 handler; `common::keyvalue::Command`
//! lists the routes. Proves the third of the three shapes of that package: one name, other types.

use common::keyvalue::{self, Command};
use wasip3::http::types::{ErrorCode, Request, Response};

mod bindings {
    #![allow(missing_docs, reason = "generated")]
    wit_bindgen::generate!({
        path: "../../interfaces/keyvalue/wit/draft2-async",
        world: "imports",
        generate_all,
    });
}

use bindings::wasi::keyvalue::{atomics, batch, store};

struct Counter;

wasip3::http::service::export!(Counter);

impl wasip3::exports::http::handler::Guest for Counter {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let (status, body) = match keyvalue::parse(&http03::method(&request), &http03::target(&request)) {
            Ok((bucket, command)) => match run(&bucket, command, request).await {
                Ok(answer) => answer,
                Err(store::Error::NoSuchStore) => keyvalue::failure("no-such-store", ""),
                Err(store::Error::AccessDenied) => keyvalue::failure("access-denied", ""),
                Err(store::Error::Other(text)) => keyvalue::failure("other", &text),
            },
            Err(status) => (status, b"no such command\n".to_vec()),
        };
        Ok(http03::text(status, &body))
    }
}

async fn body(request: Request) -> Vec<u8> {
    http03::read_all(request).await.unwrap_or_default()
}

async fn run(bucket: &str, command: Command, request: Request) -> Result<(u16, Vec<u8>), store::Error> {
    let bucket = store::open(bucket.into()).await?;
    Ok(match command {
        Command::Get(key) => (200, keyvalue::line(bucket.get(key).await?)),
        Command::Raw(key) => bucket.get(key).await?.map_or((404, Vec::new()), |value| (200, value)),
        Command::Exists(key) => (200, format!("{}\n", bucket.exists(key).await?).into()),
        Command::Keys => (200, keyvalue::listing(keys(&bucket).await?)),
        Command::Increment(key, by) => (200, format!("{}\n", atomics::increment(&bucket, key, by).await?).into()),
        Command::Set(key) => (200, bucket.set(key, body(request).await).await.map(|()| b"ok\n".to_vec())?),
        Command::Delete(key) => (200, bucket.delete(key).await.map(|()| b"ok\n".to_vec())?),
        Command::Swap(key) => (200, format!("{}\n", swap(&bucket, key).await?).into()),
        Command::SetMany => (200, set_many(&bucket, keyvalue::batch(&body(request).await)).await?),
        Command::DeleteMany => {
            let keys: Vec<String> = keyvalue::batch(&body(request).await).into_iter().map(|(key, _)| key).collect();
            (200, batch::delete_many(&bucket, keys).await.map(|()| b"ok\n".to_vec())?)
        }
    })
}

/// Every key of the bucket, page by page.
async fn keys(bucket: &store::Bucket) -> Result<Vec<String>, store::Error> {
    let mut keys = Vec::new();
    let mut cursor = None;
    loop {
        let page = bucket.list_keys(cursor).await?;
        keys.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(keys);
        }
    }
}

/// Adds 1 to a number: whoever comes in between makes it try again with what is there now.
async fn swap(bucket: &store::Bucket, key: String) -> Result<i64, store::Error> {
    let mut seen = atomics::Cas::new(bucket, key).await?;
    loop {
        let next = keyvalue::number(seen.current().await?) + 1;
        match atomics::swap(seen, next.to_string().into_bytes()).await {
            Ok(()) => return Ok(next),
            Err(atomics::CasError::CasFailed(fresh)) => seen = fresh,
            Err(atomics::CasError::StoreError(error)) => return Err(error),
        }
    }
}

async fn set_many(bucket: &store::Bucket, lines: Vec<(String, Option<Vec<u8>>)>) -> Result<Vec<u8>, store::Error> {
    let keys: Vec<String> = lines.iter().map(|(key, _)| key.clone()).collect();
    let pairs: Vec<(String, Vec<u8>)> = lines.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    batch::set_many(bucket, pairs).await?;
    let found = batch::get_many(bucket, keys).await?;
    Ok(keyvalue::found(found))
}
