//! The contract as a test: every backend passes [`run`].
//!
//! Each rule works in buckets of tenants of its own, so that it can run against a server that is used for other things; what
//! a rule stores it leaves behind.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{BATCH_KEYS_MAX, Bucket, Checked, Error, KEY_BYTES_MAX, PAGE_KEYS_MAX, Page, Store, VALUE_BYTES_MAX};

/// Tasks that meet at one key.
const TASKS: usize = 16;

/// What each of them does there.
const ROUNDS: usize = 20;

/// Names that break stores which paste names together.
const NASTY: [&str; 16] =
    ["", "a", "b", "a/b", "/", ":", "1:a", "1:a/1:b/", "a\0b", "*", "a*", "..", "ä", "\u{1F980}", "{a}", "a b\n"];

/// Checks every rule of [`Store`] on the store that `make` gives.
///
/// # Panics
///
/// If the store breaks a rule.
pub async fn run(make: impl AsyncFn() -> Arc<dyn Store>) {
    let store: Arc<dyn Store> = Arc::new(Checked::new(make().await));
    pairs(&store).await;
    awkward_keys_and_values(&store).await;
    buckets_are_apart(&store).await;
    limits(&store).await;
    pages(&store).await;
    pages_under_writes(&store).await;
    increments(&store).await;
    increments_under_contention(&store).await;
    swaps(&store).await;
    swaps_under_contention(&store).await;
    batches(&store).await;
    large_batches(&store).await;
}

/// A bucket nobody used before.
fn bucket(rule: &str) -> Bucket {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    Bucket::new(format!("conformance-{rule}-{now}"), "default")
}

async fn get(store: &Arc<dyn Store>, bucket: &Bucket, key: &str) -> Option<Bytes> {
    store.get(bucket, key).await.expect("get works")
}

async fn set(store: &Arc<dyn Store>, bucket: &Bucket, key: &str, value: impl Into<Bytes>) {
    store.set(bucket, key, value.into()).await.expect("set works");
}

async fn delete(store: &Arc<dyn Store>, bucket: &Bucket, key: &str) {
    store.delete(bucket, key).await.expect("delete works");
}

async fn page(store: &Arc<dyn Store>, bucket: &Bucket, cursor: Option<&str>, limit: usize) -> Page {
    store.list_keys(bucket, cursor, limit).await.expect("list_keys works")
}

/// Every key, by pages of at most `limit`.
async fn keys(store: &Arc<dyn Store>, bucket: &Bucket, limit: usize) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut cursor = None;
    loop {
        let page = page(store, bucket, cursor.as_deref(), limit).await;
        assert!(page.keys.len() <= limit, "a page has at most {limit} keys, not {}", page.keys.len());
        let count = page.keys.len();
        assert_eq!(page.keys.iter().collect::<BTreeSet<_>>().len(), count, "a page has no key twice");
        keys.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            return keys;
        }
    }
}

async fn pairs(store: &Arc<dyn Store>) {
    let bucket = bucket("pairs");
    assert_eq!(get(store, &bucket, "k").await, None);
    assert!(!store.exists(&bucket, "k").await.expect("exists works"));
    delete(store, &bucket, "k").await;
    set(store, &bucket, "k", "one").await;
    assert_eq!(get(store, &bucket, "k").await.as_deref(), Some(b"one".as_slice()));
    set(store, &bucket, "k", "two").await;
    assert_eq!(get(store, &bucket, "k").await.as_deref(), Some(b"two".as_slice()));
    assert!(store.exists(&bucket, "k").await.expect("exists works"));
    delete(store, &bucket, "k").await;
    assert_eq!(get(store, &bucket, "k").await, None);
    assert!(!store.exists(&bucket, "k").await.expect("exists works"));
    assert_eq!(keys(store, &bucket, 10).await, BTreeSet::new());
}

async fn awkward_keys_and_values(store: &Arc<dyn Store>) {
    let bucket = bucket("awkward");
    let longest = "ä".repeat(KEY_BYTES_MAX / 2);
    let all: Vec<&str> = NASTY.into_iter().chain([longest.as_str()]).collect();
    for key in &all {
        assert_eq!(get(store, &bucket, key).await, None, "{key:?}");
        set(store, &bucket, key, format!("value of {key}")).await;
    }
    for key in &all {
        assert_eq!(get(store, &bucket, key).await, Some(format!("value of {key}").into()), "{key:?}");
    }
    assert_eq!(keys(store, &bucket, 5).await, all.iter().map(|key| (*key).to_owned()).collect());

    set(store, &bucket, "empty", Bytes::new()).await;
    assert_eq!(get(store, &bucket, "empty").await, Some(Bytes::new()), "an empty value is a value");
    assert!(store.exists(&bucket, "empty").await.expect("exists works"));
    let every_byte: Bytes = (0..=u8::MAX).collect();
    set(store, &bucket, "bytes", every_byte.clone()).await;
    assert_eq!(get(store, &bucket, "bytes").await, Some(every_byte), "values are bytes, not text");
    let largest: Bytes = (0..VALUE_BYTES_MAX).map(|i| u8::try_from(i % 251).expect("below 251")).collect();
    set(store, &bucket, "large", largest.clone()).await;
    assert!(get(store, &bucket, "large").await == Some(largest), "a value of full size comes back as it was");
    set(store, &bucket, "large", "small").await;
    assert_eq!(get(store, &bucket, "large").await.as_deref(), Some(b"small".as_slice()));
}

async fn buckets_are_apart(store: &Arc<dyn Store>) {
    // One nonce for all, at the end of the names: their beginnings are what is nasty.
    let nonce = bucket("").tenant().to_owned();
    let names = || NASTY.into_iter().take(8);
    let all: Vec<Bucket> = names()
        .flat_map(|tenant| names().map(move |name| (tenant, name)))
        .map(|(tenant, name)| Bucket::new(format!("{tenant}{nonce}"), name))
        .collect();
    for (i, bucket) in all.iter().enumerate() {
        set(store, bucket, "k", i.to_string()).await;
        set(store, bucket, &format!("only in {i}"), "1").await;
    }
    for (i, bucket) in all.iter().enumerate() {
        assert_eq!(get(store, bucket, "k").await, Some(i.to_string().into()), "{bucket:?}");
        let expected = BTreeSet::from(["k".to_owned(), format!("only in {i}")]);
        assert_eq!(keys(store, bucket, 10).await, expected, "{bucket:?}");
    }
    let (emptied, rest) = all.split_first().expect("there are some");
    delete(store, emptied, "k").await;
    for bucket in rest {
        assert!(store.exists(bucket, "k").await.expect("exists works"), "{bucket:?}");
    }
}

async fn limits(store: &Arc<dyn Store>) {
    let bucket = bucket("limits");
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let large = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
    assert!(matches!(store.get(&bucket, &long).await, Err(Error::KeyTooLong)));
    assert!(matches!(store.set(&bucket, &long, Bytes::new()).await, Err(Error::KeyTooLong)));
    assert!(matches!(store.delete(&bucket, &long).await, Err(Error::KeyTooLong)));
    assert!(matches!(store.exists(&bucket, &long).await, Err(Error::KeyTooLong)));
    assert!(matches!(store.increment(&bucket, &long, 1).await, Err(Error::KeyTooLong)));
    assert!(matches!(store.compare_and_swap(&bucket, &long, None, Bytes::new()).await, Err(Error::KeyTooLong)));
    assert!(matches!(store.get_many(&bucket, std::slice::from_ref(&long)).await, Err(Error::KeyTooLong)));
    assert!(matches!(store.delete_many(&bucket, std::slice::from_ref(&long)).await, Err(Error::KeyTooLong)));
    let batch = vec![("fine".to_owned(), Bytes::new()), (long, Bytes::new())];
    assert!(matches!(store.set_many(&bucket, batch).await, Err(Error::KeyTooLong)));
    assert!(matches!(store.set(&bucket, "k", large.clone()).await, Err(Error::ValueTooLarge)));
    assert!(matches!(store.compare_and_swap(&bucket, "k", None, large.clone()).await, Err(Error::ValueTooLarge)));
    let batch = vec![("fine".to_owned(), Bytes::new()), ("k".to_owned(), large)];
    assert!(matches!(store.set_many(&bucket, batch).await, Err(Error::ValueTooLarge)));
    assert_eq!(keys(store, &bucket, 10).await, BTreeSet::new(), "what was refused left nothing behind");
}

async fn pages(store: &Arc<dyn Store>) {
    let bucket = bucket("pages");
    let all: BTreeSet<String> = (0..=PAGE_KEYS_MAX).map(|i| format!("key {i}")).collect();
    let pairs = all.iter().map(|key| (key.clone(), Bytes::from_static(b"1"))).collect();
    store.set_many(&bucket, pairs).await.expect("set_many works");
    for limit in [1, 7, PAGE_KEYS_MAX] {
        assert!(keys(store, &bucket, limit).await == all, "pages of {limit} name every key");
    }
    let first = page(store, &bucket, None, usize::MAX).await;
    assert!(first.keys.len() <= PAGE_KEYS_MAX, "no page is longer, whatever was asked for");
    assert!(first.cursor.is_some(), "there is one key more than a page holds");
    for cursor in ["", "nonsense", "-1", "\0"] {
        let listed = store.list_keys(&bucket, Some(cursor), 10).await;
        assert!(matches!(listed, Err(Error::InvalidCursor)), "{cursor:?}: {listed:?}");
    }
}

async fn pages_under_writes(store: &Arc<dyn Store>) {
    let bucket = bucket("pages-under-writes");
    let stay: BTreeSet<String> = (0..60).map(|i| format!("{i:02} stays")).collect();
    for i in 0..60 {
        set(store, &bucket, &format!("{i:02} stays"), "1").await;
        set(store, &bucket, &format!("{i:02} goes"), "1").await;
    }
    let mut seen = BTreeSet::new();
    let mut cursor = None;
    let mut round = 0;
    loop {
        let page = page(store, &bucket, cursor.as_deref(), 8).await;
        // Also the key the cursor may stand on goes away, and keys come before and behind it.
        for key in page.keys.iter().filter(|key| key.ends_with("goes")) {
            delete(store, &bucket, key).await;
        }
        delete(store, &bucket, &format!("{:02} goes", (round * 7) % 60)).await;
        set(store, &bucket, &format!("{:02} comes", (round * 13) % 60), "1").await;
        seen.extend(page.keys.into_iter().filter(|key| key.ends_with("stays")));
        cursor = page.cursor;
        round += 1;
        assert!(round < 1000, "the listing ends");
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, stay, "a key that is there all the time is in the listing");
}

async fn increments(store: &Arc<dyn Store>) {
    let bucket = bucket("increments");
    let increment = async |key: &str, delta| store.increment(&bucket, key, delta).await;
    assert_eq!(increment("k", 0).await.expect("a missing key is 0"), 0);
    assert_eq!(increment("k", 5).await.expect("works"), 5);
    assert_eq!(increment("k", -7).await.expect("works"), -2);
    assert_eq!(get(store, &bucket, "k").await.as_deref(), Some(b"-2".as_slice()), "the value is decimal text");
    set(store, &bucket, "k", "40").await;
    assert_eq!(increment("k", 2).await.expect("works"), 42);

    set(store, &bucket, "max", i64::MAX.to_string()).await;
    assert_eq!(increment("max", 0).await.expect("works"), i64::MAX);
    assert!(matches!(increment("max", 1).await, Err(Error::Overflow)));
    assert_eq!(get(store, &bucket, "max").await, Some(i64::MAX.to_string().into()), "an overflow changes nothing");
    set(store, &bucket, "min", i64::MIN.to_string()).await;
    assert!(matches!(increment("min", -1).await, Err(Error::Overflow)));
    assert_eq!(increment("min", i64::MAX).await.expect("works"), -1);
    assert_eq!(increment("deep", i64::MIN).await.expect("works"), i64::MIN);

    for text in ["", "one", "1.5", " 1", "+1", "007", "9223372036854775808"] {
        set(store, &bucket, "text", text).await;
        let result = increment("text", 1).await;
        assert!(matches!(result, Err(Error::NotANumber)), "{text:?}: {result:?}");
        assert_eq!(get(store, &bucket, "text").await.as_deref(), Some(text.as_bytes()), "an error changes nothing");
    }
}

async fn increments_under_contention(store: &Arc<dyn Store>) {
    let bucket = bucket("increments-under-contention");
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (store, bucket) = (Arc::clone(store), bucket.clone());
        tasks.spawn(async move {
            let mut sums = Vec::new();
            for _ in 0..ROUNDS {
                sums.push(store.increment(&bucket, "k", 1).await.expect("increment works"));
            }
            assert!(sums.is_sorted(), "one caller's sums grow");
            sums
        });
    }
    let sums: BTreeSet<i64> = tasks.join_all().await.into_iter().flatten().collect();
    let count = i64::try_from(TASKS * ROUNDS).expect("small");
    assert_eq!(sums, (1..=count).collect(), "each sum was given once");
    assert_eq!(get(store, &bucket, "k").await, Some(count.to_string().into()));
}

async fn swaps(store: &Arc<dyn Store>) {
    let bucket = bucket("swaps");
    let swap = async |expected: Option<&[u8]>, new: &'static str| {
        store.compare_and_swap(&bucket, "k", expected, Bytes::from_static(new.as_bytes())).await.expect("works")
    };
    assert!(!swap(Some(b"one"), "two").await, "a missing key has no value");
    assert!(!swap(Some(b""), "two").await, "a missing key is not an empty value");
    assert_eq!(get(store, &bucket, "k").await, None);
    assert!(swap(None, "").await);
    assert!(!swap(None, "two").await, "an empty value is not a missing key");
    assert!(swap(Some(b""), "one").await);
    assert!(!swap(Some(b"two"), "three").await);
    assert_eq!(get(store, &bucket, "k").await.as_deref(), Some(b"one".as_slice()));
    assert!(swap(Some(b"one"), "two").await);
    assert!(!swap(Some(b"one"), "three").await, "only once");
    assert!(swap(Some(b"two"), "two").await, "a value may be swapped for itself");
    delete(store, &bucket, "k").await;
    assert!(!swap(Some(b"two"), "three").await);
    assert!(swap(None, "again").await);
}

async fn swaps_under_contention(store: &Arc<dyn Store>) {
    let bucket = bucket("swaps-under-contention");
    let mut tasks = JoinSet::new();
    // Each adds 1 by reading and swapping; a lost update would be missing in the end.
    for _ in 0..TASKS / 2 {
        let (store, bucket) = (Arc::clone(store), bucket.clone());
        tasks.spawn(async move {
            let mut done = 0;
            while done < ROUNDS / 2 {
                let seen = get(&store, &bucket, "k").await;
                let next = seen.as_deref().map_or(0, |value| crate::parse_number(value).expect("a number")) + 1;
                let swapped = store.compare_and_swap(&bucket, "k", seen.as_deref(), next.to_string().into()).await;
                done += usize::from(swapped.expect("compare_and_swap works"));
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(get(store, &bucket, "k").await, Some(((TASKS / 2) * (ROUNDS / 2)).to_string().into()));
}

async fn batches(store: &Arc<dyn Store>) {
    let bucket = bucket("batches");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    store.set_many(&bucket, Vec::new()).await.expect("an empty batch works");
    store.delete_many(&bucket, &[]).await.expect("an empty batch works");
    assert_eq!(store.get_many(&bucket, &[]).await.expect("an empty batch works"), []);

    set(store, &bucket, "a", "old").await;
    let pairs = [("b", "2"), ("a", "1"), ("c", ""), ("d", "first"), ("d", "last")];
    let pairs = pairs.map(|(key, value)| (key.to_owned(), Bytes::from_static(value.as_bytes()))).into();
    store.set_many(&bucket, pairs).await.expect("set_many works");
    let asked = names(&["c", "missing", "a", "b", "a", "d"]);
    let found = store.get_many(&bucket, &asked).await.expect("get_many works");
    let expected = [Some(""), None, Some("1"), Some("2"), Some("1"), Some("last")];
    assert_eq!(found, expected.map(|value| value.map(|value| Bytes::from_static(value.as_bytes()))), "in the order of the keys");

    store.delete_many(&bucket, &names(&["a", "missing", "c", "a"])).await.expect("missing keys are skipped");
    assert_eq!(keys(store, &bucket, 10).await, BTreeSet::from(["b".to_owned(), "d".to_owned()]));
}

async fn large_batches(store: &Arc<dyn Store>) {
    let bucket = bucket("large-batches");
    let quarter = Bytes::from(vec![7; VALUE_BYTES_MAX]);
    let pairs = |count| (0..count).map(|i| (format!("k{i}"), quarter.clone())).collect::<Vec<_>>();
    assert!(matches!(store.set_many(&bucket, pairs(5)).await, Err(Error::BatchTooLarge)));
    assert_eq!(keys(store, &bucket, 10).await, BTreeSet::new(), "what was refused left nothing behind");
    store.set_many(&bucket, pairs(4)).await.expect("four of the largest values fit");
    let asked = |count| (0..count).map(|i| format!("k{}", i % 4)).collect::<Vec<_>>();
    let found = store.get_many(&bucket, &asked(4)).await.expect("four of the largest values fit");
    assert!(found.iter().all(|value| value.as_ref() == Some(&quarter)));
    let found = store.get_many(&bucket, &asked(5)).await;
    assert!(matches!(found, Err(Error::BatchTooLarge)), "a key asked for twice counts twice");

    let many: Vec<String> = (0..BATCH_KEYS_MAX).map(|i| format!("many {i}")).collect();
    let pairs = many.iter().map(|key| (key.clone(), Bytes::from_static(b"1"))).collect();
    store.set_many(&bucket, pairs).await.expect("a full batch works");
    let found = store.get_many(&bucket, &many).await.expect("a full batch works");
    assert!(found.len() == many.len() && found.iter().all(Option::is_some));
    store.delete_many(&bucket, &many).await.expect("a full batch works");
    assert_eq!(keys(store, &bucket, PAGE_KEYS_MAX).await.len(), 4);
    let over: Vec<String> = (0..=BATCH_KEYS_MAX).map(|i| i.to_string()).collect();
    assert!(matches!(store.get_many(&bucket, &over).await, Err(Error::BatchTooLarge)));
    assert!(matches!(store.delete_many(&bucket, &over).await, Err(Error::BatchTooLarge)));
}
