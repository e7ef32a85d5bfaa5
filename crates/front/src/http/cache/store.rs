//! Stored answers, bounded in number and bytes.
//!
//! Of the tenant that has most, who came first goes first, unless it was asked for since: then it comes again as the last. That
//! keeps what is asked for, nearly as well as keeping order at each hit would, and a hit only leaves a mark. So a tenant that
//! asks for a million addresses pushes out its own answers, and a neighbour with a few keeps them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use base::ModuleVersion;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};

/// What an item costs beside its bytes: the two maps' shares, and the structs.
const ITEM_BYTES: u64 = 512;

/// How many come again in one search for who goes; after those the next goes, so that nobody waits for long.
const SECOND_CHANCES: usize = 16;

/// What one field costs beside its name and value.
const FIELD_BYTES: u64 = 64;

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheOptions {
    /// All answers together.
    pub size_bytes: u64,
    /// Answers, and notes about them.
    pub entries: u32,
    /// The largest body that is stored.
    pub entry_bytes: u64,
}

/// A complete answer.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Its age when it came.
    pub(super) age: Duration,
    pub(super) stored_at: Instant,
    pub(super) good_until: Instant,
}

/// What is known under a key.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// An answer.
    Answer(Arc<Stored>),
    /// Answers are under longer keys, which have the values of these fields.
    Varies(Varies),
    /// The last answer could not be stored: nobody shall wait for the next, which may be.
    Pass,
    /// The last answer was too large, or too slow, to be taken whole: the next one is passed on as it comes.
    Stream,
}

/// What the answers of an address depend on.
#[derive(Clone, Debug)]
pub(super) struct Varies {
    pub(super) names: Arc<[HeaderName]>,
    /// Part of the longer keys. Another one where the address was removed in between, so that its answers of before are not
    /// found again.
    pub(super) number: u64,
}

#[derive(Debug)]
struct Item {
    known: Known,
    /// The version that said so. A key names it by number; this is the one that was in service, with its configuration.
    of: Weak<ModuleVersion>,
    tenant: Arc<str>,
    bytes: u64,
    good_until: Instant,
    /// Its place in the queue.
    place: u64,
    /// Whether it was asked for since it took that.
    is_used: bool,
}

/// The items of a tenant.
#[derive(Debug, Default)]
struct Share {
    /// Who goes first, by place.
    queue: BTreeMap<u64, Arc<[u8]>>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Items {
    by_key: HashMap<Arc<[u8]>, Item>,
    shares: HashMap<Arc<str>, Share>,
    bytes: u64,
    /// Counts places, and whatever else must differ.
    clock: u64,
}

#[derive(Debug)]
pub(super) struct Store {
    options: CacheOptions,
    items: Mutex<Items>,
}

impl Store {
    pub(super) fn new(options: CacheOptions) -> Self {
        Self { options, items: Mutex::default() }
    }

    pub(super) fn entry_bytes_max(&self) -> u64 {
        self.options.entry_bytes.min(self.options.size_bytes)
    }

    /// What is known under `key` of this version, as it is in service now.
    pub(super) fn get(&self, key: &[u8], module: &Arc<ModuleVersion>, now: Instant) -> Option<Known> {
        let mut items = self.lock();
        let item = items.by_key.get_mut(key)?;
        if item.good_until <= now || !std::ptr::eq(item.of.as_ptr(), Arc::as_ptr(module)) {
            items.remove(key);
            return None;
        }
        item.is_used = true;
        Some(item.known.clone())
    }

    /// Puts what is known of an address in place of what was.
    pub(super) fn put(&self, key: Arc<[u8]>, known: Known, module: &Arc<ModuleVersion>, good_until: Instant) {
        let bytes = ITEM_BYTES + key.len() as u64 + size(&known);
        let tenant = Arc::clone(&module.tenant.name);
        let mut items = self.lock();
        items.remove(&key);
        items.insert(key, Item { known, of: Arc::downgrade(module), tenant, bytes, good_until, place: 0, is_used: false });
        while items.by_key.len() > self.options.entries as usize && items.evict(|share| share.queue.len() as u64) {}
        while items.bytes > self.options.size_bytes && items.evict(|share| share.bytes) {}
    }

    /// What the answers under `key` depend on, when they depend on these fields: as it is known, if it is.
    pub(super) fn varies(&self, key: &[u8], names: Vec<HeaderName>, module: &Arc<ModuleVersion>) -> Varies {
        match self.get(key, module, Instant::now()) {
            Some(Known::Varies(known)) if *known.names == *names => known,
            _ => {
                let mut items = self.lock();
                items.clock += 1;
                Varies { names: names.into(), number: items.clock }
            }
        }
    }

    /// Forgets what is known under `key`. What is under longer ones is not found any more, and goes as what nobody asks for.
    pub(super) fn remove(&self, key: &[u8]) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, Items> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Items {
    fn insert(&mut self, key: Arc<[u8]>, mut item: Item) {
        self.clock += 1;
        item.place = self.clock;
        self.bytes += item.bytes;
        let share = self.shares.entry(Arc::clone(&item.tenant)).or_default();
        share.bytes += item.bytes;
        share.queue.insert(item.place, Arc::clone(&key));
        self.by_key.insert(key, item);
    }

    fn remove(&mut self, key: &[u8]) {
        let Some(item) = self.by_key.remove(key) else { return };
        self.bytes -= item.bytes;
        if let Some(share) = self.shares.get_mut(&item.tenant) {
            share.bytes -= item.bytes;
            share.queue.remove(&item.place);
            if share.queue.is_empty() {
                self.shares.remove(&item.tenant);
            }
        }
    }

    /// Removes an item of the tenant that has most. Returns whether there was one.
    fn evict(&mut self, most: impl Fn(&Share) -> u64) -> bool {
        let Some(share) = self.shares.values_mut().max_by_key(|share| most(share)) else { return false };
        for _ in 0..SECOND_CHANCES {
            let Some(first) = share.queue.first_entry() else { return false };
            let Some(item) = self.by_key.get_mut(first.get()).filter(|item| item.is_used) else { break };
            self.clock += 1;
            (item.place, item.is_used) = (self.clock, false);
            let key = first.remove();
            share.queue.insert(item.place, key);
        }
        let Some((_, first)) = share.queue.first_key_value() else { return false };
        let first = Arc::clone(first);
        self.remove(&first);
        true
    }
}

fn size(known: &Known) -> u64 {
    match known {
        Known::Answer(stored) => {
            let fields = stored.headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64 + FIELD_BYTES);
            stored.body.len() as u64 + fields.sum::<u64>()
        }
        Known::Varies(varies) => varies.names.iter().map(|name| name.as_str().len() as u64 + FIELD_BYTES).sum(),
        Known::Pass | Known::Stream => 0,
    }
}

#[cfg(test)]
mod tests {
    use base::tests_support::module;

    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    fn answer(body_bytes: usize) -> Known {
        let now = Instant::now();
        Known::Answer(Arc::new(Stored {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from(vec![0; body_bytes]),
            age: Duration::ZERO,
            stored_at: now,
            good_until: now + SOON,
        }))
    }

    fn key(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    fn store(entries: u32, size_bytes: u64) -> Store {
        Store::new(CacheOptions { size_bytes, entries, entry_bytes: size_bytes })
    }

    #[test]
    fn who_was_not_asked_for_longest_goes_first() {
        let (store, module, now) = (store(3, 1 << 20), module("t", "m"), Instant::now());
        for text in ["a", "b", "c"] {
            store.put(key(text), answer(1), &module, now + SOON);
        }
        assert!(store.get(b"a", &module, now).is_some());
        store.put(key("d"), answer(1), &module, now + SOON);
        let there = |text: &str| store.get(text.as_bytes(), &module, now).is_some();
        assert_eq!([there("a"), there("b"), there("c"), there("d")], [true, false, true, true]);
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let (store, module, now) = (store(1000, 100_000), module("t", "m"), Instant::now());
        for n in 0..100 {
            store.put(key(&n.to_string()), answer(20_000), &module, now + SOON);
            assert!(store.lock().bytes <= 100_000);
        }
        assert_eq!(store.lock().by_key.len(), 4);
        store.put(key("99"), answer(1), &module, now + SOON);
        store.put(key("huge"), answer(200_000), &module, now + SOON);
        let items = store.lock();
        assert_eq!((items.bytes, items.by_key.len(), items.shares.len()), (0, 0, 0), "what fits nowhere stays nowhere");
    }

    #[test]
    fn a_tenant_pushes_out_its_own_answers() {
        let (store, now) = (store(100, 1 << 20), Instant::now());
        let (loud, quiet) = (module("loud", "m"), module("quiet", "m"));
        for n in 0..10 {
            store.put(key(&format!("quiet {n}")), answer(1), &quiet, now + SOON);
        }
        for n in 0..10_000 {
            store.put(key(&format!("loud {n}")), answer(1), &loud, now + SOON);
        }
        for n in 0..10 {
            assert!(store.get(format!("quiet {n}").as_bytes(), &quiet, now).is_some(), "{n}");
        }
        assert_eq!(store.lock().by_key.len(), 100);
        for n in 0..60 {
            store.put(key(&format!("large {n}")), answer(100_000), &loud, now + SOON);
        }
        assert!(store.get(b"quiet 0", &quiet, now).is_some());
    }

    #[test]
    fn answers_end_with_their_time_and_their_version() {
        let (store, now) = (store(10, 1 << 20), Instant::now());
        let (first, second) = (module("t", "m"), module("t", "m"));
        store.put(key("a"), answer(1), &first, now + SOON);
        assert!(store.get(b"a", &second, now).is_none(), "published again, it may answer otherwise");
        store.put(key("a"), answer(1), &first, now + SOON);
        assert!(store.get(b"a", &first, now + SOON).is_none());
        assert_eq!(store.lock().bytes, 0);
    }
}
