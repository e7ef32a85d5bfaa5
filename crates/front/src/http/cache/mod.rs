//! Answers that are given again, between the gate's `check` and its `admit`: a hit runs no guest and takes no place.
//!
//! Goals in tension: a crowd that asks for one thing shall cause one call, and nobody shall wait for what will not come. So
//! who asks first fills and the others wait, each for its own time; and when it turns out that the answer cannot be stored,
//! all of them are let go at once, and for a moment nobody waits at that address. A body is taken whole before any of it
//! is sent, since a slow client must not keep the others waiting; one that takes too long, or is too large, is passed on as
//! it comes.
//!
//! | task | file |
//! | --- | --- |
//! | what HTTP allows | `rules.rs` |
//! | what is kept, and what goes first | `store.rs` |

mod rules;
mod store;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use base::{Body, BodyError, ModuleVersion, strip_hop_by_hop};
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::watch;

use crate::http::cache::rules::{Freshness, Wish};
use crate::http::cache::store::{Known, Store, Stored};
use crate::http::conditions::{self, Validators, Verdict};

pub use crate::http::cache::store::CacheOptions;

/// How long after an answer that could not be stored nobody waits for the next: short against what a changed module may want
/// stored, long against a crowd.
const PASS: Duration = Duration::from_secs(10);

/// How long a body may take to be complete. A client of a route with a cache sees no byte before.
const FILL: Duration = Duration::from_secs(2);

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
    /// Keys that somebody fills. The value turns true when who waits shall ask for itself; it closes when who waits shall
    /// look again.
    fills: Mutex<HashMap<Arc<[u8]>, watch::Receiver<bool>>>,
}

/// A request that a stored answer may do for.
pub(crate) struct Ask {
    wish: Wish,
    method: Method,
    headers: HeaderMap,
    /// Tenant, module, version, scheme, authority, path and query.
    key: Vec<u8>,
    module: Arc<ModuleVersion>,
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

impl Ask {
    /// None for a request that must reach its module. `scheme` is the one it came by.
    pub(crate) fn of<B: HttpBody>(request: &Request<B>, scheme: &Scheme, module: &Arc<ModuleVersion>) -> Option<Self> {
        let wish = Wish::of(request)?;
        if !request.body().is_end_stream() {
            return None;
        }
        Some(Self {
            wish,
            method: request.method().clone(),
            headers: request.headers().clone(),
            key: key(request, scheme, module)?,
            module: Arc::clone(module),
        })
    }
}

/// Every part with its length in front: no two addresses have one key.
fn key<B>(request: &Request<B>, scheme: &Scheme, module: &ModuleVersion) -> Option<Vec<u8>> {
    let authority = request.headers().get(header::HOST)?.as_bytes().to_ascii_lowercase();
    let mut key = Vec::with_capacity(256);
    for part in [
        module.tenant.name.as_bytes(),
        module.id.to_string().as_bytes(),
        &module.version.to_be_bytes(),
        // Answers to HEAD are made of those to GET.
        Method::GET.as_str().as_bytes(),
        scheme.as_str().as_bytes(),
        &authority,
        request.uri().path_and_query()?.as_str().as_bytes(),
    ] {
        push(&mut key, part);
    }
    Some(key)
}

fn push(key: &mut Vec<u8>, part: &[u8]) {
    key.extend_from_slice(&(part.len() as u64).to_be_bytes());
    key.extend_from_slice(part);
}

/// The key of the answer for these values of the fields that it depends on.
fn key_of_variant(key: &[u8], names: &[HeaderName], headers: &HeaderMap) -> Vec<u8> {
    let mut key = key.to_vec();
    for name in names {
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

    /// Looks for an answer. One look: who waited looks again.
    pub(crate) fn find(self: &Arc<Self>, ask: &Ask) -> Found {
        self.look(ask).unwrap_or_else(|_| self.fill_or_wait(ask))
    }

    /// What is known, or the key under which nothing is.
    fn look(&self, ask: &Ask) -> Result<Found, Vec<u8>> {
        let now = Instant::now();
        let mut key = ask.key.clone();
        let mut known = self.store.get(&key, &ask.module, now);
        if let Some(Known::Varies(names)) = &known {
            key = key_of_variant(&key, names, &ask.headers);
            known = self.store.get(&key, &ask.module, now);
        }
        match known {
            Some(Known::Answer(stored)) if stored.will_do(ask.wish, now) => Ok(Found::Answer(stored.response(ask, now))),
            Some(Known::Pass) => Ok(Found::Pass),
            _ if ask.method == Method::HEAD => Ok(Found::Pass),
            _ => Err(key),
        }
    }

    fn fill_or_wait(self: &Arc<Self>, ask: &Ask) -> Found {
        let mut fills = self.fills.lock().unwrap_or_else(PoisonError::into_inner);
        // Once more, since the answer may have come in between; no fill ends while the lock is held.
        let key: Arc<[u8]> = match self.look(ask) {
            Ok(found) => return found,
            Err(key) => key.into(),
        };
        if let Some(fill) = fills.get(&key) {
            return Found::Wait(fill.clone());
        }
        let (go, waiting) = watch::channel(false);
        fills.insert(Arc::clone(&key), waiting);
        Found::Fill(Fill {
            filled: key,
            key: ask.key.clone(),
            headers: ask.headers.clone(),
            module: Arc::clone(&ask.module),
            cache: Arc::clone(self),
            go,
        })
    }
}

impl Stored {
    fn age(&self, now: Instant) -> Duration {
        self.age + now.saturating_duration_since(self.stored_at)
    }

    fn will_do(&self, wish: Wish, now: Instant) -> bool {
        wish.allows(self.age(now), self.good_until.saturating_duration_since(now))
    }

    fn response(&self, ask: &Ask, now: Instant) -> Response<Body> {
        let is_head = ask.method == Method::HEAD;
        let mut response = Response::new(if is_head { Body::Empty } else { Body::from(self.body.clone()) });
        let age = HeaderValue::from(self.age(now).as_secs());
        if self.status == StatusCode::OK && self.is_known_to(&ask.headers) {
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
    /// What others wait for.
    filled: Arc<[u8]>,
    /// The address's own.
    key: Vec<u8>,
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
        let freshness = rules::freshness(&head, ttl, SystemTime::now());
        let names = rules::vary(&head.headers);
        let bytes_max = self.cache.store.entry_bytes_max();
        let (Some(freshness), Some(names), true) = (freshness, names, body.size_hint().lower() <= bytes_max) else {
            self.pass(rules::is_cacheable(head.status));
            return Ok(Response::from_parts(head, body));
        };
        match collect(body, bytes_max).await {
            Err(error) => {
                self.give_up();
                Err(error)
            }
            Ok(Collected::Part(body)) => {
                self.pass(true);
                Ok(Response::from_parts(head, body))
            }
            Ok(Collected::Whole(bytes)) => {
                strip_hop_by_hop(&mut head.headers);
                // The length is known better now, and the date is that of this answer whenever it is given.
                head.headers.remove(header::CONTENT_LENGTH);
                if !head.headers.contains_key(header::DATE) {
                    let now = httpdate::fmt_http_date(SystemTime::now());
                    head.headers.extend(HeaderValue::try_from(now).ok().map(|now| (header::DATE, now)));
                }
                self.store(head.status, &head.headers, &bytes, freshness, names);
                Ok(Response::from_parts(head, Body::from(bytes)))
            }
        }
    }

    fn store(self, status: StatusCode, headers: &HeaderMap, body: &Bytes, fresh: Freshness, names: Vec<HeaderName>) {
        let stored_at = Instant::now();
        let good_until = stored_at + fresh.left;
        let stored = Stored {
            status,
            headers: headers.clone(),
            // Its own memory: what came may be a small part of a large buffer.
            body: Bytes::copy_from_slice(body),
            age: fresh.age,
            stored_at,
            good_until,
        };
        let answer = Known::Answer(Arc::new(stored));
        if names.is_empty() {
            self.cache.store.put(self.key.as_slice().into(), answer, &self.module, good_until);
        } else {
            let key = key_of_variant(&self.key, &names, &self.headers);
            self.cache.store.put(self.key.as_slice().into(), Known::Varies(names.into()), &self.module, good_until);
            self.cache.store.put(key.into(), answer, &self.module, good_until);
        }
    }

    /// Lets everybody go who waits; with `remember`, nobody waits for a while.
    fn pass(self, remember: bool) {
        if remember {
            self.cache.store.put(Arc::clone(&self.filled), Known::Pass, &self.module, Instant::now() + PASS);
        }
        let _ = self.go.send(true);
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        // Before the channel closes: who looks again finds the place free.
        self.cache.fills.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.filled);
    }
}

/// What came of a body.
enum Collected {
    /// All of it.
    Whole(Bytes),
    /// Not all, or more than bytes: the body as if nothing had been taken.
    Part(Body),
}

async fn collect(mut body: Body, bytes_max: u64) -> Result<Collected, BodyError> {
    let mut taken: VecDeque<Frame<Bytes>> = VecDeque::new();
    let mut bytes = 0;
    let end = tokio::time::Instant::now() + FILL;
    loop {
        let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let frame = match tokio::time::timeout_at(end, next).await {
            Ok(None) => break,
            Ok(Some(frame)) => frame?,
            Err(_) => return Ok(Collected::Part(Body::stream(Replay { taken, rest: body }))),
        };
        bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        // Trailers belong to the answer, and there is no place for them.
        let is_data = frame.is_data();
        taken.push_back(frame);
        if !is_data || bytes > bytes_max {
            return Ok(Collected::Part(Body::stream(Replay { taken, rest: body })));
        }
    }
    let mut parts = taken.into_iter().filter_map(|frame| frame.into_data().ok());
    let first = parts.next().unwrap_or_default();
    let Some(second) = parts.next() else { return Ok(Collected::Whole(first)) };
    let mut whole = BytesMut::with_capacity(usize::try_from(bytes).unwrap_or_default());
    whole.extend([first, second]);
    whole.extend(parts);
    Ok(Collected::Whole(whole.freeze()))
}

/// A body of which some was taken already.
struct Replay {
    taken: VecDeque<Frame<Bytes>>,
    rest: Body,
}

impl HttpBody for Replay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.taken.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.taken.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let taken = self.taken.iter().filter_map(Frame::data_ref).map(Bytes::len).sum::<usize>() as u64;
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + taken);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + taken);
        }
        hint
    }
}
