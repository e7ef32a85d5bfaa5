//! Modules in sequence: what one writes goes into the next. One slot, one deadline, one account of time to compute.
//!
//! A step may have any entry that takes bytes in some way: a plugin its input, a program its standard input, a service the body
//! of a POST. What goes on to the next step is picked from the output by a rule plugins are written for, unless the step says
//! that all of it does.

use std::sync::Arc;
use std::time::Instant;

use base::{
    Body, BoxFuture, Call, Command, Entry, Error, Exit, Handler, Input, Kind, Limits, ModuleVersion, Output, Places, Reply,
    Routed, Stdio, Step, Via,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};

use crate::codec::{self, End, collect, sniff, text};
use crate::failure;

/// Marks the part of an output that the next step gets.
const RESULT: &str = "Result = ";

/// One module of a chain.
#[derive(Clone, Debug)]
pub struct Link {
    /// The version that is called.
    pub module: Arc<ModuleVersion>,
    /// The way it is called.
    pub entry: Entry,
    /// Whether all of its output goes on, not only its result.
    pub whole: bool,
}

/// The handler of a chain. It takes an HTTP request, whose body or parameter `input` goes in and whose answer is what the last
/// step wrote; or bytes, and then the reply has every step.
#[derive(Debug)]
pub struct Chain {
    links: Vec<Link>,
}

impl Chain {
    /// A chain of these modules, in this order.
    pub fn new(links: Vec<Link>) -> Arc<Self> {
        Arc::new(Self { links })
    }

    /// Places one call takes: one step runs at a time, so in each pool as many as the largest.
    pub fn places(&self) -> Places {
        let most = |pool: usize| self.links.iter().map(|link| link.module.places[pool]).max().unwrap_or(0);
        std::array::from_fn(most)
    }
}

impl Handler for Chain {
    fn handle(&self, mut call: Call) -> BoxFuture<Result<Reply, Error>> {
        let links = self.links.clone();
        Box::pin(async move {
            match std::mem::replace(&mut call.input, Input::Bytes(Bytes::new())) {
                Input::Http(request) => {
                    let input = input_of(request, &mut call).await?;
                    let (steps, failed) = run(&links, &mut call, input).await;
                    failed.map_or_else(|| answer(steps).map(Reply::Http), Err)
                }
                Input::Bytes(input) => {
                    let (steps, failed) = run(&links, &mut call, input).await;
                    Ok(Reply::Steps(steps, failed))
                }
                Input::Command(_) => Err(Error::new(Kind::Internal, "a chain cannot be called in this way")),
            }
        })
    }
}

/// Calls are not shared between threads, so a future that waits holds one as its own.
async fn input_of(request: Request<Body>, call: &mut Call) -> Result<Bytes, Error> {
    let (head, body) = request.into_parts();
    let body = codec::body_in_time(body, &call.deadline, &call.module.limits).await?;
    Ok(text::input(&codec::Request { head: &head, via: &call.via }, body))
}

/// Runs the steps up to the first that fails; what the others came to is not lost with it.
async fn run(links: &[Link], call: &mut Call, mut input: Bytes) -> (Vec<Step>, Option<Error>) {
    let mut steps = Vec::with_capacity(links.len());
    for (index, link) in links.iter().enumerate() {
        let step = match step(link, call, input).await {
            Ok(step) => step,
            Err(error) => return (steps, Some(error.within(&place(index, link)))),
        };
        let is_last = step.code != 0 || index + 1 == links.len();
        input = match (is_last, link.whole) {
            (true, _) => Bytes::new(),
            (false, true) => step.output.clone(),
            (false, false) => result_of(&step.output),
        };
        steps.push(step);
        if is_last {
            break;
        }
    }
    (steps, None)
}

/// What errors call a step.
fn place(index: usize, link: &Link) -> String {
    format!("step {} (`{}`)", index + 1, link.module.name)
}

async fn step(link: &Link, call: &mut Call, input: Bytes) -> Result<Step, Error> {
    let target = Routed { module: Arc::clone(&link.module), entry: link.entry, via: Via::default() };
    let (began, computed) = (Instant::now(), call.root.computed());
    let step = call.step(target, input_for(link.entry, input)?)?;
    let (output, code) = output_of(link.module.answer(step).await?, &link.module.limits).await?;
    let cpu = call.root.computed().saturating_sub(computed);
    Ok(Step { module: Arc::clone(&link.module.name), output, code, took: began.elapsed(), cpu })
}

/// The entry that takes bytes most directly.
pub fn entry_for_bytes(entries: &[Entry]) -> Option<Entry> {
    [Entry::Process, Entry::Run, Entry::Http].into_iter().find(|entry| entries.contains(entry))
}

/// Bytes as an entry takes them: a plugin's input, a program's standard input, the body of a POST.
///
/// # Errors
///
/// [`Kind::Internal`] for an entry that takes none.
pub fn input_for(entry: Entry, input: Bytes) -> Result<Input, Error> {
    match entry {
        Entry::Process | Entry::Chain => Ok(Input::Bytes(input)),
        Entry::Run => Ok(Input::Command(Command { args: Vec::new(), env: Vec::new(), stdio: Stdio::Buffered(input) })),
        Entry::Http => {
            let request = Request::builder().method(Method::POST).uri("/").header(header::HOST, "localhost");
            request
                .body(Body::from(input))
                .map(Input::Http)
                .map_err(|error| Error::new(Kind::Internal, "a request cannot be made").caused_by(error))
        }
        other => Err(Error::new(Kind::Internal, format!("the entry `{other}` takes no bytes"))),
    }
}

/// What a reply to [`input_for`] comes to: all that was written, and a code that is 0 for success.
///
/// # Errors
///
/// [`Kind::OutputLimit`] and [`Kind::BadResponse`] for a body that is too large or broken off.
pub async fn output_of(reply: Reply, limits: &Limits) -> Result<(Bytes, i64), Error> {
    match reply {
        Reply::Bytes(Output { text, code }) => Ok((Bytes::from(text), i64::from(code))),
        Reply::Command(Exit { code, stdout }) => Ok((stdout, i64::from(code))),
        Reply::Http(response) => {
            let status = response.status();
            let body = collect(response.into_body(), limits.buffer_bytes).await.map_err(|end| match end {
                End::TooLarge => failure::output_limit(),
                End::Broken(error) => Error::new(Kind::BadResponse, "the answer broke off").caused_by(error),
            })?;
            let failed = status.is_client_error() || status.is_server_error();
            Ok((body, if failed { i64::from(status.as_u16()) } else { 0 }))
        }
        Reply::Steps(..) => Err(Error::new(Kind::Internal, "a chain within a chain")),
    }
}

/// What the next step gets: the text behind the first `Result = `, or the next line where nothing is behind it; else the last
/// line that is not empty.
///
/// An output may be nothing but line feeds: its lines are walked, never kept.
pub fn result_of(output: &Bytes) -> Bytes {
    let marked = (0..output.len()).find(|at| output[*at..].starts_with(RESULT.as_bytes()));
    let found = match marked {
        Some(at) => {
            let mut lines = lines(&output[at + RESULT.len()..]);
            let rest = lines.next().unwrap_or_default();
            if rest.trim_ascii().is_empty() { lines.next().unwrap_or_default() } else { rest }
        }
        None => lines(output).rfind(|line| !line.is_empty()).unwrap_or_default(),
    };
    output.slice_ref(found)
}

fn lines(text: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// The answer of a chain: what its last step wrote, or which step failed.
fn answer(mut steps: Vec<Step>) -> Result<Response<Body>, Error> {
    let number = steps.len();
    let Some(last) = steps.pop() else { return Err(Error::new(Kind::Internal, "a chain of nothing")) };
    if last.code != 0 {
        let text = format!("step {number} (`{}`) of the chain failed", last.module);
        return Err(Error::new(Kind::GuestExit, text).internal(format!("code {}", last.code)));
    }
    let content_type = HeaderValue::from_static(sniff::content_type(&last.output));
    let mut response = Response::new(Body::from(last.output));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_result_is_picked_from_the_output() {
        for (output, expected) in [
            ("Result = abc", "abc"),
            ("one\nThe Result = abc def\nResult = second", "abc def"),
            ("Result = \nnext line\nlast", "next line"),
            ("Result =   \r\nnext\r\nlast", "next"),
            ("Result = ", ""),
            ("first\nlast\n\n", "last"),
            ("first\r\nlast\r\n\r\n", "last"),
            ("ResultResult = abc\nResult", "abc"),
            ("Result =", "Result ="),
            ("only", "only"),
            ("\n\n\n", ""),
            ("", ""),
        ] {
            assert_eq!(result_of(&Bytes::copy_from_slice(output.as_bytes())), expected, "{output:?}");
        }
    }

    #[test]
    fn a_failed_step_is_named() {
        let step = |module: &str, code| Step {
            module: module.into(),
            output: Bytes::from_static(b"out"),
            code,
            took: Duration::ZERO,
            cpu: Duration::ZERO,
        };
        let error = answer(vec![step("a", 0), step("b", -2)]).expect_err("failed");
        assert_eq!((error.to_string().as_str(), error.kind), ("step 2 (`b`) of the chain failed", Kind::GuestExit));
        assert_eq!(answer(vec![step("a", 0)]).expect("an answer").status(), 200);
    }
}
