//! Answers that are given again, between the gate's `check` and its `admit`: a hit runs no guest and takes no place.
//!
//! Goals in tension: a crowd that asks for one thing shall cause one call, and nobody shall wait for what will not come. So
//! who asks first fills and the others wait, each for its own time; and when it turns out that the answer cannot be stored,
//! all of them are let go at once, and for a moment nobody waits at that address. What may be stored there is stored all the
//! same: who gets an answer of his own must not cost the others theirs. A body is taken whole before any of it is sent,
//! since a slow client must not keep the others waiting; one that takes too long, or is too large, is passed on as it comes.
//!
//! A request that may change something removes what is stored of its address, and what is on its way there is not stored.
//!
//! | task | file |
//! | --- | --- |
//! | what HTTP allows | `rules.rs` |
//! | what is kept, and what goes first | `store.rs` |
//! | a body as a whole, or as it comes | `collect.rs` |

mod collect;
mod rules;
mod store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base::{Body, BodyError, EVIDENCE, ModuleVersion, Route, Target, strip_hop_by_hop};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tokio::sync::watch;

use crate::http::cache::collect::{Collected, collect};
use crate::http::cache::rules::Wish;
use crate::http::cache::store::{Known, Store, Stored, Varies};
use crate::http::conditions::{self, Validators, Verdict};

pub use crate::http::cache::store::CacheOptions;

/// How long after an answer that could not be stored nobody waits for the next: short against what a changed module may want
/// stored, long against a crowd.
const PASS: Duration = Duration::from_secs(10);

/// What a 304 has of the fields it stands for (RFC 9110, 15.4.5).
const NOT_MODIFIED_FIELDS: [HeaderName; 7] = [
    header::CACHE_CONTROL,
    header::CONTENT_LOCATION,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::VARY,
];

/// Stored answers, and those on their way.
#[derive(Debug)]
pub(crate) struct Cache {
    store: Store,
    fills: Mutex<Fills>,
}

/// Who is about to bring an answer.
#[derive(Debug, Default)]
struct Fills {
    /// Counts fills.
    last: u64,
    /// Those whose answer may be stored, each with its address.
    open: HashMap<u64, Arc<[u8]>>,
    /// Keys at which others wait, and for whom. The value turns true when who waits shall ask for itself; it closes when who
    /// waits shall look again.
    awaited: HashMap<Arc<[u8]>, (u64, watch::Receiver<bool>)>,
}

/// Tenant, module, version, scheme, authority, path and query, as one key.
pub(crate) type Address = Arc<[u8]>;

/// A request that a stored answer may do for. Borrowed: a hit keeps nothing of it.
pub(crate) struct Ask<'r> {
    wish: Wish,
    method: &'r Method,
    headers: &'r HeaderMap,
    key: Vec<u8>,
    module: &'r Arc<ModuleVersion>,
}

/// What the cache makes of a request.
pub(crate) enum Found {
    /// The answer.
    Answer(Response<Body>),
    /// Ask the module, and give what it says to this.
    Fill(Fill),
    /// Somebody asks already: wait, then look again, or ask the module where the value is true.
    Wait(watch::Receiver<bool>),
    /// Ask the module.
    Pass,
}

impl<'r> Ask<'r> {
    /// None for a request that must reach its module. `scheme` is the one it came by.
    pub(crate) fn of<B: HttpBody>(request: &'r Request<B>, scheme: &Scheme, module: &'r Arc<ModuleVersion>) -> Option<Self> {
        let wish = Wish::of(request)?;
        if !request.body().is_end_stream() {
            return None;
        }
        Some(Self { wish, method: request.method(), headers: request.headers(), key: key(request, scheme, module)?, module })
    }
}

/// Every part with its length in front: no two addresses have one key.
fn key<B>(request: &Request<B>, scheme: &Scheme, module: &ModuleVersion) -> Option<Vec<u8>> {
    let authority = request.headers().get(header::HOST)?.as_bytes();
    let mut key = Vec::with_capacity(256);
    for part in [
        module.tenant.name.as_bytes(),
        module.id.as_bytes(),
        &module.version.to_be_bytes(),
        // Answers to HEAD are made of those to GET.
        Method::GET.as_str().as_bytes(),
        scheme.as_str().as_bytes(),
        authority,
    ] {
        push(&mut key, part);
    }
    let end = key.len();
    key[end - authority.len()..].make_ascii_lowercase();
    push(&mut key, request.uri().path_and_query()?.as_str().as_bytes());
    Some(key)
}

/// Where answers to a GET of what this request is about would be stored, of every module that `route` leads to.
pub(crate) fn addresses<B>(request: &Request<B>, scheme: &Scheme, route: &Route) -> Vec<Vec<u8>> {
    match &route.target {
        Target::Modules(choices) => choices.iter().filter_map(|choice| key(request, scheme, &choice.module)).collect(),
        Target::Files(_) | Target::Page(_) => Vec::new(),
    }
}

fn push(key: &mut Vec<u8>, part: &[u8]) {
    key.extend_from_slice(&(part.len() as u64).to_be_bytes());
    key.extend_from_slice(part);
}

/// The key of the answer for these values of the fields that it depends on.
fn key_of_variant(key: &[u8], varies: &Varies, headers: &HeaderMap) -> Vec<u8> {
    let mut key = key.to_vec();
    push(&mut key, &varies.number.to_be_bytes());
    for name in varies.names.iter() {
        push(&mut key, name.as_str().as_bytes());
        let values = headers.get_all(name);
        key.extend_from_slice(&(values.iter().count() as u64).to_be_bytes());
        for value in values {
            push(&mut key, value.as_bytes());
        }
    }
    key
}

impl Cache {
    pub(crate) fn new(options: CacheOptions) -> Arc<Self> {
        Arc::new(Self { store: Store::new(options), fills: Mutex::default() })
    }

    /// The answer, if it is there.
    pub(crate) fn stored(&self, ask: &Ask<'_>) -> Option<Response<Body>> {
        match self.look(ask) {
            Ok(Found::Answer(response)) => Some(response),
            _ => None,
        }
    }

    /// Looks for an answer. One look: who waited looks again.
    pub(crate) fn find(self: &Arc<Self>, ask: &Ask<'_>) -> Found {
        self.look(ask).unwrap_or_else(|_| self.fill_or_wait(ask))
    }

    /// What is known; or where nothing is, which is at the request's own key unless there is another, and whether others shall wait for
    /// what will be.
    fn look(&self, ask: &Ask<'_>) -> Result<Found, (Option<Vec<u8>>, bool)> {
        let now = Instant::now();
        let mut variant = None;
        let mut known = self.store.get(&ask.key, ask.module, now);
        if let Some(Known::Varies(varies)) = &known {
            let key = variant.insert(key_of_variant(&ask.key, varies, ask.headers));
            known = self.store.get(key, ask.module, now);
        }
        match known {
            Some(Known::Answer(stored)) if stored.will_do(ask.wish, now) => Ok(Found::Answer(stored.response(ask, now))),
            Some(Known::Stream) => Ok(Found::Pass),
            _ if ask.method == Method::HEAD => Ok(Found::Pass),
            known => Err((variant, !matches!(known, Some(Known::Pass)))),
        }
    }

    fn fill_or_wait(self: &Arc<Self>, ask: &Ask<'_>) -> Found {
        let mut fills = self.fills();
        // Once more, since the answer may have come in between; no fill ends while the lock is held.
        let (variant, awaited) = match self.look(ask) {
            Ok(found) => return found,
            Err(nothing) => nothing,
        };
        let address = Address::from(ask.key.as_slice());
        let key = variant.map_or_else(|| Arc::clone(&address), Address::from);
        // One that is not open any more brings an answer from before a change.
        if let Some((_, fill)) = fills.awaited.get(&key).filter(|(number, _)| awaited && fills.open.contains_key(number)) {
            return Found::Wait(fill.clone());
        }
        fills.last += 1;
        let number = fills.last;
        let (go, waiting) = watch::channel(false);
        if awaited {
            fills.awaited.insert(Arc::clone(&key), (number, waiting));
        }
        fills.open.insert(number, Arc::clone(&address));
        Found::Fill(Fill {
            number,
            filled: key,
            key: address,
            headers: ask.headers.clone(),
            module: Arc::clone(ask.module),
            cache: Arc::clone(self),
            go,
        })
    }

    /// Forgets what is known of an address, and what will be known of it by answers that are on their way: whatever they say
    /// may be from before the change.
    pub(crate) fn remove(&self, address: &[u8]) {
        let mut fills = self.fills();
        // As many as calls are in flight at most, and few as a rule: those that found nothing.
        fills.open.retain(|_, other| **other != *address);
        self.store.remove(address);
    }

    fn fills(&self) -> MutexGuard<'_, Fills> {
        self.fills.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stored {
    fn age(&self, now: Instant) -> Duration {
        self.age.saturating_add(now.saturating_duration_since(self.stored_at))
    }

    fn will_do(&self, wish: Wish, now: Instant) -> bool {
        wish.allows(self.age(now), self.good_until.saturating_duration_since(now))
    }

    fn response(&self, ask: &Ask<'_>, now: Instant) -> Response<Body> {
        let is_head = ask.method == Method::HEAD;
        let mut response = Response::new(if is_head { Body::Empty } else { Body::from(self.body.clone()) });
        let age = HeaderValue::from(self.age(now).as_secs());
        if self.status == StatusCode::OK && self.is_known_to(ask.headers) {
            *response.body_mut() = Body::Empty;
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            let kept = NOT_MODIFIED_FIELDS.iter().filter_map(|name| Some((name.clone(), self.headers.get(name)?.clone())));
            response.headers_mut().extend(kept);
        } else {
            *response.status_mut() = self.status;
            *response.headers_mut() = self.headers.clone();
            if is_head && self.status != StatusCode::NO_CONTENT {
                response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
            }
        }
        response.headers_mut().insert(header::AGE, age);
        response
    }

    /// Whether the client has this very answer.
    fn is_known_to(&self, request: &HeaderMap) -> bool {
        let text = |name| self.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let modified = text(header::LAST_MODIFIED).and_then(|text| httpdate::parse_http_date(text).ok());
        if modified.is_none() && !request.contains_key(header::IF_NONE_MATCH) {
            return false;
        }
        conditions::evaluate(request, Validators { etag: text(header::ETAG), modified }) == Verdict::NotModified
    }
}

/// The right, and the duty, to bring the answer. Dropped, whoever waits looks again.
pub(crate) struct Fill {
    number: u64,
    /// Where nothing was.
    filled: Arc<[u8]>,
    key: Address,
    headers: HeaderMap,
    module: Arc<ModuleVersion>,
    cache: Arc<Cache>,
    go: watch::Sender<bool>,
}

impl Fill {
    /// The module gave no answer: everybody may try for themselves.
    pub(crate) fn give_up(self) {
        let _ = self.go.send(true);
    }

    /// Takes the module's answer, stores it where that is allowed, and returns it for the client.
    ///
    /// # Errors
    ///
    /// If the body broke off before any of it was on its way.
    pub(crate) async fn answer(self, response: Response<Body>, ttl: Duration) -> Result<Response<Body>, BodyError> {
        let (mut head, body) = response.into_parts();
        let came_at = Instant::now();
        let freshness = rules::freshness(&head, ttl, SystemTime::now());
        let names = rules::vary(&head.headers);
        let (Some(freshness), Some(names)) = (freshness, names) else {
            self.pass(rules::is_cacheable(head.status).then_some(Known::Pass));
            return Ok(Response::from_parts(head, body));
        };
        let bytes_max = self.cache.store.entry_bytes_max();
        if body.size_hint().lower() > bytes_max {
            self.pass(Some(Known::Stream));
            return Ok(Response::from_parts(head, body));
        }
        match collect(body, bytes_max).await {
            Err(error) => {
                self.give_up();
                Err(error)
            }
            Ok(Collected::Part(body)) => {
                self.pass(Some(Known::Stream));
                Ok(Response::from_parts(head, body))
            }
            Ok(Collected::Whole(bytes)) => {
                strip_hop_by_hop(&mut head.headers);
                // What it cost this call: others are answered from here for nothing.
                head.headers.remove(EVIDENCE);
                // The length is known better now, and the date is that of this answer whenever it is given.
                head.headers.remove(header::CONTENT_LENGTH);
                if !head.headers.contains_key(header::DATE) {
                    let now = httpdate::fmt_http_date(SystemTime::now());
                    head.headers.extend(HeaderValue::try_from(now).ok().map(|now| (header::DATE, now)));
                }
                let mut headers = head.headers.clone();
                // Each time the answer is given its age takes this place, for which no room need be made then.
                headers.insert(header::AGE, HeaderValue::from_static("0"));
                let stored = Stored {
                    status: head.status,
                    headers,
                    // Its own memory: what came may be a small part of a large buffer.
                    body: Bytes::copy_from_slice(&bytes),
                    age: freshness.age,
                    stored_at: came_at,
                    good_until: came_at + freshness.left,
                };
                self.store(stored, names);
                Ok(Response::from_parts(head, Body::from(bytes)))
            }
        }
    }

    /// Stores the answer, unless a change came in between. A change that comes now waits for the lock.
    fn store(self, stored: Stored, names: Vec<HeaderName>) {
        let fills = self.cache.fills();
        if fills.open.contains_key(&self.number) {
            let good_until = stored.good_until;
            let answer = Known::Answer(Arc::new(stored));
            let store = &self.cache.store;
            if names.is_empty() {
                store.put(Arc::clone(&self.key), answer, &self.module, good_until);
            } else {
                let varies = store.varies(&self.key, names, &self.module);
                let key = key_of_variant(&self.key, &varies, &self.headers);
                store.put(Arc::clone(&self.key), Known::Varies(varies), &self.module, good_until);
                store.put(key.into(), answer, &self.module, good_until);
            }
        }
        // Who goes takes the lock, too.
        drop(fills);
    }

    /// Lets everybody go who waits, and remembers why for a while. An answer that was stored meanwhile is known better.
    fn pass(self, known: Option<Known>) {
        let now = Instant::now();
        if let Some(known) = known
            && !matches!(self.cache.store.get(&self.filled, &self.module, now), Some(Known::Answer(_) | Known::Varies(_)))
        {
            self.cache.store.put(Arc::clone(&self.filled), known, &self.module, now + PASS);
        }
        let _ = self.go.send(true);
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        // Before the channel closes: who looks again finds the place free.
        let mut fills = self.cache.fills();
        fills.open.remove(&self.number);
        if fills.awaited.get(&self.filled).is_some_and(|(number, _)| *number == self.number) {
            fills.awaited.remove(&self.filled);
        }
    }
}
