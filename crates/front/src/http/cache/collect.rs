//! A body taken whole, as long as that takes neither long nor much room; else as it comes, with nothing lost.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base::{Body, BodyError};
use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};

/// How long a body may take to be complete. A client of a route with a cache sees no byte before.
const FILL: Duration = Duration::from_secs(2);

/// What came of a body.
pub(super) enum Collected {
    /// All of it.
    Whole(Bytes),
    /// Not all, or more than bytes: the body as if nothing had been taken.
    Part(Body),
}

pub(super) async fn collect(mut body: Body, bytes_max: u64) -> Result<Collected, BodyError> {
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

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, time};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("until a body is complete", time(FILL));
    }
}
