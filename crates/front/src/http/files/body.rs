//! A file on its way to a client: a chunk is read when the connection asks for one, so memory and reading follow the client,
//! and both end when it leaves.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base::BodyError;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Jobs;

/// Read at once: large against the cost of handing it to another thread, small against what many clients may hold.
pub(super) const CHUNK_BYTES: u64 = 64 << 10;

/// A part of a file that is being sent.
pub(super) struct FileBody {
    file: Arc<File>,
    left: Range<u64>,
    jobs: Jobs,
    reading: Option<Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>>,
}

impl FileBody {
    pub(super) fn new(file: File, part: Range<u64>, jobs: Jobs) -> Self {
        Self { file: Arc::new(file), left: part, jobs, reading: None }
    }
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.left.is_empty() {
            return Poll::Ready(None);
        }
        let reading = this.reading.get_or_insert_with(|| {
            let (file, jobs, part) = (Arc::clone(&this.file), this.jobs.clone(), this.left.start..this.left.end);
            Box::pin(async move { jobs.run(move || read(&file, part)).await? })
        });
        let read = ready!(reading.as_mut().poll(cx));
        this.reading = None;
        Poll::Ready(Some(match read {
            Ok(bytes) => {
                this.left.start += bytes.len() as u64;
                Ok(Frame::data(bytes))
            }
            Err(error) => {
                // The length is out already: only an end of the connection tells the client.
                this.left = 0..0;
                tracing::warn!(target: "fornax", %error, "a file could not be sent to its end");
                Err(BodyError::Broken(error.into()))
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.end - self.left.start)
    }
}

/// The first bytes of `part`, at most a chunk. Blocks.
///
/// # Errors
///
/// [`io::ErrorKind::UnexpectedEof`] if the file has become shorter.
pub(super) fn read(file: &File, part: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from((part.end - part.start).min(CHUNK_BYTES)).expect("a chunk fits into memory");
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], part.start + filled as u64) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter")),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn file(length: usize) -> (File, Vec<u8>) {
        let file = tempfile::tempfile().expect("a file");
        let bytes: Vec<u8> = (0..length).map(|index| u8::try_from(index % 251).expect("small")).collect();
        file.write_all_at(&bytes, 0).expect("written");
        (file, bytes)
    }

    fn jobs() -> Jobs {
        crate::http::files::Files::new().jobs_of(&"t".into())
    }

    #[tokio::test]
    async fn a_part_is_sent_in_chunks_of_known_length() {
        let (file, bytes) = file(200_000);
        let mut body = FileBody::new(file, 10..199_990, jobs());
        let mut sent = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = frame.expect("readable").into_data().expect("data");
            assert!(data.len() as u64 <= CHUNK_BYTES);
            sent.extend_from_slice(&data);
            assert_eq!(body.size_hint().exact(), Some(199_980 - sent.len() as u64));
        }
        assert!(sent == bytes[10..199_990] && body.is_end_stream());
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_ends_with_an_error() {
        let (file, _) = file(200_000);
        let shortened = file.try_clone().expect("a descriptor");
        let mut body = FileBody::new(file, 0..200_000, jobs());
        body.frame().await.expect("a frame").expect("readable");
        shortened.set_len(70_000).expect("shortened");
        assert!(matches!(body.frame().await, Some(Err(BodyError::Broken(_)))));
        assert!(body.frame().await.is_none(), "there is nothing behind an error");
    }
}
