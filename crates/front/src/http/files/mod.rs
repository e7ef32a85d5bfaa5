//! Files that are served as they are.
//!
//! No guest and no place: a file is a name, a look at the disk and bytes. Goals in tension: a disk may be slow, and the
//! connection's thread carries guests; a thread per reader would be as many threads as there are clients. So all that may
//! block is a job of a bounded number at once, of each tenant, since a disk that is stuck shall be its owner's trouble; and a
//! small file costs one: opened, judged and read in a single step. Larger ones are read chunk by chunk as the client takes
//! them.
//!
//! Several ranges in one request are answered in full, which HTTP allows: clients that ask for them are rare, and a list of
//! ranges is a way to make a server send much for little.

mod body;
mod name;

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base::{Body, Error, FileRoot, Kind};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Method, Response, StatusCode, request};
use tokio::sync::Semaphore;

use crate::http::conditions::{self, Part, Validators, Verdict};
use crate::http::files::body::{CHUNK_BYTES, FileBody};
use crate::http::files::name::{Name, Opened};

/// Blocking steps of a tenant at once: keeps a fast disk busy, and is few threads for a slow one.
const JOBS_OF_TENANT: usize = 32;

/// Of all tenants: half of the threads that tokio lets block for one of ours, so that what programs do with files goes on. It
/// takes eight tenants whose disks are stuck at once to get there.
const JOBS_AT_ONCE: usize = 8 * JOBS_OF_TENANT;

/// How long a request waits for its turn. A disk that has been stuck this long answers nobody.
const JOB_WAIT: Duration = Duration::from_secs(5);

/// Kernels stamp changes with a clock that ticks every few milliseconds: two changes of one tick look like one. A file that has
/// been left alone for this long was not changed again within its stamp.
const STAMP_SETTLED: Duration = Duration::from_secs(1);

/// Why there is no file in the answer, and the field that goes with it.
pub(crate) struct Refusal {
    pub(crate) error: Error,
    pub(crate) field: Option<(HeaderName, HeaderValue)>,
}

impl From<Error> for Box<Refusal> {
    fn from(error: Error) -> Self {
        Self::new(Refusal { error, field: None })
    }
}

/// Answers with files.
#[derive(Debug)]
pub(crate) struct Files {
    all: Arc<Semaphore>,
    /// By tenant: as many as are configured.
    jobs: Mutex<HashMap<Arc<str>, Jobs>>,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(JOBS_AT_ONCE)), jobs: Mutex::default() }
    }

    fn jobs_of(&self, tenant: &Arc<str>) -> Jobs {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = || Jobs { own: Arc::new(Semaphore::new(JOBS_OF_TENANT)), all: Arc::clone(&self.all) };
        jobs.entry(Arc::clone(tenant)).or_insert_with(of_tenant).clone()
    }

    /// Answers a request for a file of `root`.
    pub(crate) async fn answer(&self, root: Arc<FileRoot>, request: request::Parts) -> Result<Response<Body>, Box<Refusal>> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Err(Box::new(Refusal {
                error: Error::new(Kind::MethodNotAllowed, "a file can be read only"),
                field: Some((header::ALLOW, HeaderValue::from_static("GET, HEAD"))),
            }));
        }
        let name = match root.depth {
            // The route of one file is its name.
            None => Name::default(),
            Some(depth) => Name::parse(request.uri.path(), depth).ok_or_else(|| Error::new(Kind::NotFound, NOT_FOUND))?,
        };
        let uri = request.uri.clone();
        let jobs = self.jobs_of(&root.tenant);
        let found = jobs.run_soon(move || find(&root, &name, &request)).await?.map_err(error_of)?;
        match found {
            Found::Folder => redirect(&uri).map_err(Into::into),
            Found::Unsatisfiable(size) => Err(Box::new(Refusal {
                error: Error::new(Kind::RangeNotSatisfiable, "the file has none of these bytes"),
                field: HeaderValue::try_from(format!("bytes */{size}")).ok().map(|value| (header::CONTENT_RANGE, value)),
            })),
            Found::Failed => Err(Error::new(Kind::PreconditionFailed, "the file is another one by now").into()),
            Found::Answer(status, fields, content) => {
                let body = match content {
                    Content::None => Body::Empty,
                    Content::Bytes(bytes) => Body::from(bytes),
                    Content::File(file, part) => Body::stream(FileBody::new(file, part, jobs)),
                };
                let mut response = Response::new(body);
                *response.status_mut() = status;
                *response.headers_mut() = fields;
                Ok(response)
            }
        }
    }
}

const NOT_FOUND: &str = "no such file";

/// What the disk and the request's conditions come to.
enum Found {
    Folder,
    Failed,
    /// The size of the file that has no such range.
    Unsatisfiable(u64),
    Answer(StatusCode, HeaderMap, Content),
}

enum Content {
    None,
    Bytes(Bytes),
    File(std::fs::File, Range<u64>),
}

/// Opens, judges, and reads what is small. Blocks.
fn find(root: &FileRoot, name: &Name, request: &request::Parts) -> io::Result<Found> {
    let Some(Opened { file, metadata, path }) = name::open(root, name)? else { return Ok(Found::Folder) };
    let size = metadata.len();
    let now = SystemTime::now();
    let etag = etag(&metadata, now);
    // A date that is still to come would hide every change until then.
    let modified = metadata.modified().ok().map(|modified| modified.min(now));
    let validators = Validators { etag: Some(&etag), modified };
    let mut fields = validator_fields(validators);
    match conditions::evaluate(&request.headers, validators) {
        Verdict::Failed => return Ok(Found::Failed),
        Verdict::NotModified => return Ok(Found::Answer(StatusCode::NOT_MODIFIED, fields, Content::None)),
        Verdict::Send => {}
    }
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    fields.insert(header::CONTENT_TYPE, content_type(&path));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if request.method == Method::HEAD {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        return Ok(Found::Answer(StatusCode::OK, fields, Content::None));
    }
    let (status, part) = match conditions::part(&request.headers, size, validators) {
        Part::Unsatisfiable => return Ok(Found::Unsatisfiable(size)),
        Part::Whole => (StatusCode::OK, 0..size),
        Part::Bytes(part) => {
            let text = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            fields.insert(header::CONTENT_RANGE, HeaderValue::try_from(text).map_err(io::Error::other)?);
            (StatusCode::PARTIAL_CONTENT, part)
        }
    };
    let content = match part.end - part.start {
        0 => Content::None,
        length if length <= CHUNK_BYTES => Content::Bytes(body::read(&file, part)?),
        _ => Content::File(file, part),
    };
    Ok(Found::Answer(status, fields, content))
}

/// Size, time of the last change and inode; weak while another change could hide behind the same stamp.
fn etag(metadata: &Metadata, now: SystemTime) -> String {
    let settled = metadata.modified().is_ok_and(|at| now.duration_since(at).is_ok_and(|since| since >= STAMP_SETTLED));
    let stamp_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    let weak = if settled { "" } else { "W/" };
    format!("{weak}\"{:x}-{stamp_ns:x}-{:x}\"", metadata.len(), metadata.ino())
}

fn validator_fields(validators: Validators<'_>) -> HeaderMap {
    /// 10000-01-01: later dates have no form in HTTP.
    const END: Duration = Duration::from_secs(253_402_300_800);
    let mut fields = HeaderMap::new();
    if let Some(value) = validators.etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
        fields.insert(header::ETAG, value);
    }
    let since = validators.modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).filter(|since| *since < END);
    if let Some(since) = since {
        let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
        fields.extend(HeaderValue::try_from(text).ok().map(|value| (header::LAST_MODIFIED, value)));
    }
    fields
}

fn content_type(path: &Path) -> HeaderValue {
    match mime_guess::from_path(path).first_raw() {
        None => HeaderValue::from_static("application/octet-stream"),
        // The older name of the same (RFC 9239).
        Some("application/javascript") => HeaderValue::from_static("text/javascript; charset=utf-8"),
        Some(text) if text.starts_with("text/") => {
            HeaderValue::try_from(format!("{text}; charset=utf-8")).unwrap_or(HeaderValue::from_static(text))
        }
        Some(other) => HeaderValue::from_static(other),
    }
}

/// To the same path with a slash: links in the folder's index begin there.
fn redirect(uri: &http::Uri) -> Result<Response<Body>, Error> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let to = HeaderValue::try_from(format!("{}/{query}", uri.path()))
        .map_err(|error| Error::new(Kind::NotFound, NOT_FOUND).caused_by(error))?;
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(header::LOCATION, to);
    Ok(response)
}

fn error_of(error: io::Error) -> Error {
    let is_full = error.raw_os_error().is_some_and(|code| name::FULL.contains(&rustix::io::Errno::from_raw_os_error(code)));
    if is_full {
        Error::new(Kind::Overloaded, "too many files are open, try again").retry_after(1).caused_by(error)
    } else if error.kind() == io::ErrorKind::NotFound {
        Error::new(Kind::NotFound, NOT_FOUND).caused_by(error)
    } else {
        Error::new(Kind::Internal, "the file cannot be read").caused_by(error)
    }
}

/// Blocking steps of a tenant, a bounded number at once.
#[derive(Clone, Debug)]
struct Jobs {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Jobs {
    /// Runs `work` when its turn comes, on a thread that may block. One that has begun keeps its place to its end, also when
    /// nobody waits for it any more.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        // The own one first: who waits for it keeps none from others.
        let own = Arc::clone(&self.own).acquire_owned().await.map_err(io::Error::other)?;
        let places = (own, Arc::clone(&self.all).acquire_owned().await.map_err(io::Error::other)?);
        let work = move || {
            let _places = places;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
    }

    /// The same, or an error after a while: an answer that has no head yet can still be another one.
    async fn run_soon<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let run = tokio::time::timeout(JOB_WAIT, self.run(work));
        run.await
            .map_err(|_| Error::new(Kind::Overloaded, "files are read too slowly, try again").retry_after(1))?
            .map_err(|error| Error::new(Kind::Internal, "the file cannot be read").caused_by(error))
    }
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, time};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        let steps = "blocking steps at once, an open or a read of 64 KiB: of a tenant; of all";
        assert_eq!(CHUNK_BYTES, 64 << 10);
        assert_documented(steps, format!("{JOBS_OF_TENANT}; {JOBS_AT_ONCE}"));
        assert_documented("waiting for the first of them", time(JOB_WAIT));
    }

    #[test]
    fn types_are_named_by_the_extension() {
        for (path, expected) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.CSS", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.md", "text/markdown; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.wasm", "application/wasm"),
            ("a.svg", "image/svg+xml"),
            ("a.png", "image/png"),
            ("a.woff2", "font/woff2"),
            ("a.tar.gz", "application/gzip"),
            ("a", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
        ] {
            assert_eq!(content_type(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_tag_is_strong_when_its_stamp_has_settled() {
        let file = tempfile::tempfile().expect("a file");
        let tag = |later: Duration| {
            let metadata = file.metadata().expect("metadata");
            etag(&metadata, metadata.modified().expect("a time") + later)
        };
        assert!(tag(Duration::ZERO).starts_with("W/\""));
        assert_eq!(tag(STAMP_SETTLED), tag(Duration::ZERO).trim_start_matches("W/"));
        let before = tag(STAMP_SETTLED);
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(1, 1)).expect("a time");
        assert_ne!(tag(STAMP_SETTLED), before);
    }

    #[test]
    fn a_shortage_is_not_the_files_fault() {
        for (code, kind) in [
            (rustix::io::Errno::MFILE, Kind::Overloaded),
            (rustix::io::Errno::NFILE, Kind::Overloaded),
            (rustix::io::Errno::NOENT, Kind::NotFound),
            (rustix::io::Errno::IO, Kind::Internal),
        ] {
            assert_eq!(error_of(code.into()).kind, kind, "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_wait_for_their_tenants_turn_and_not_forever() {
        let files = Files::new();
        let (stuck, other) = (files.jobs_of(&"stuck".into()), files.jobs_of(&"other".into()));
        let take = |jobs: &Jobs| Arc::clone(&jobs.own).try_acquire_owned().expect("a place");
        let places: Vec<_> = (0..JOBS_OF_TENANT).map(|_| take(&stuck)).collect();
        let jobs = files.jobs_of(&"stuck".into());
        let refused = jobs.run_soon(|| ()).await.expect_err("all places are taken");
        assert_eq!((refused.kind, refused.retry_after_s), (Kind::Overloaded, Some(1)));
        other.run_soon(|| ()).await.expect("another tenant's places");
        drop(places);
        jobs.run_soon(|| ()).await.expect("there are places again");
    }
}
