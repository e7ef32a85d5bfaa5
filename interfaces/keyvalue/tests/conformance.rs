//! Every backend keeps the contract, and says what is wrong with its configuration.

use std::path::Path;
use std::sync::Arc;

use keyvalue::{Bucket, Error, Store, backends, conformance};

async fn connect(kind: &str, options: &str, data: &Path) -> Result<Arc<dyn Store>, Error> {
    backends::connect(kind, options.parse().expect("a table"), data).await
}

async fn refused(kind: &str, options: &str) -> String {
    let data = tempfile::tempdir().expect("a folder");
    match connect(kind, options, data.path()).await {
        Ok(_) => panic!("`{kind}` with `{options}` must be refused"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    conformance::run(async || connect("memory", "", Path::new("")).await.expect("connects")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb() {
    let data = tempfile::tempdir().expect("a folder");
    conformance::run(async || connect("redb", "", data.path()).await.expect("connects")).await;
    assert!(data.path().join("keyvalue.redb").is_file());
}

/// Our own backends do more than the contract asks: a listing is in order and names each key once.
#[tokio::test]
async fn listings_are_sorted() {
    let data = tempfile::tempdir().expect("a folder");
    for kind in ["memory", "redb"] {
        let store = connect(kind, "", data.path()).await.expect("connects");
        let bucket = Bucket::new("t", "b");
        let pairs = (0..25).rev().map(|i| (format!("{i:02}"), "1".into())).collect();
        store.set_many(&bucket, pairs).await.expect("works");
        let mut pages = Vec::new();
        let mut cursor = None;
        loop {
            let page = store.list_keys(&bucket, cursor.as_deref(), 5).await.expect("works");
            pages.push(page.keys);
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(pages.len(), 5, "a full last page is known to be the last");
        assert_eq!(pages.concat(), (0..25).map(|i| format!("{i:02}")).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn redb_keeps_what_it_acknowledged() {
    let data = tempfile::tempdir().expect("a folder");
    let bucket = Bucket::new("acme", "default");
    for round in 1..=3 {
        let store = connect("redb", "path = \"sub/kv.redb\"\ncache = \"1MiB\"", data.path()).await.expect("connects");
        assert_eq!(store.increment(&bucket, "rounds", 1).await.expect("works"), round);
    }
    assert!(data.path().join("sub/kv.redb").is_file());
}

#[tokio::test]
async fn two_redb_backends_with_one_file_are_one_store() {
    let data = tempfile::tempdir().expect("a folder");
    let bucket = Bucket::new("acme", "default");
    let one = connect("redb", "", data.path()).await.expect("connects");
    let two = connect("redb", "path = \"./keyvalue.redb\"", data.path()).await.expect("connects");
    one.set(&bucket, "k", "v".into()).await.expect("works");
    assert_eq!(two.get(&bucket, "k").await.expect("works").as_deref(), Some(b"v".as_slice()));
}

#[tokio::test]
async fn a_creation_that_was_cut_short_is_begun_again() {
    let data = tempfile::tempdir().expect("a folder");
    std::fs::write(data.path().join("keyvalue.redb.new"), [0; 5000]).expect("writes");
    let store = connect("redb", "", data.path()).await.expect("connects");
    store.set(&Bucket::new("acme", "default"), "k", "v".into()).await.expect("works");
    assert!(!data.path().join("keyvalue.redb.new").exists());
}

#[tokio::test]
async fn wrong_options_are_named() {
    let text = refused("memory", "tenant_mx = \"1MiB\"").await;
    assert!(text.contains("`memory`") && text.contains("`tenant_mx`") && text.contains("`tenant_max`"), "{text}");
    let text = refused("redb", "file = \"x\"").await;
    assert!(text.contains("`redb`") && text.contains("`file`") && text.contains("`path`"), "{text}");
    assert!(refused("redb", "cache = \"lots\"").await.contains("lots"));
    assert!(refused("memory", "tenant_max = \"lots\"").await.contains("lots"));
}

#[tokio::test]
async fn an_unknown_backend_is_told_the_nearest() {
    assert_eq!(refused("rebd", "").await, "there is no key-value backend `rebd`; the nearest is `redb`");
}

#[tokio::test]
async fn a_file_that_is_none_of_ours_is_an_error() {
    let data = tempfile::tempdir().expect("a folder");
    std::fs::write(data.path().join("keyvalue.redb"), "not a database").expect("writes");
    match connect("redb", "", data.path()).await {
        Ok(_) => panic!("it must be refused"),
        Err(error) => assert_eq!(error.to_string(), "the store failed"),
    }
}
