//! What is true of any bytes: for the targets of `fuzz/`, and for tests of a few seconds over inputs made of the same corpus.
//!
//! Each function takes what somebody else made of chance, and panics where something is not as it must be.

use base::{Blame, Digest, Error, Exit, Kind, Output, Reply};
use bytes::Bytes;
use http::{StatusCode, header};

use crate::codec::{CODECS, ignis};
use crate::{Artifact, entries};

/// As where nothing is said of it.
const FIELDS_BYTES_MAX: u32 = 128 << 10;

/// What a program wrote becomes an answer that can be sent, or an error that blames the program, in every form there is.
///
/// # Panics
///
/// If not.
pub fn codecs(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    for codec in CODECS {
        let reply = match codec.entry {
            base::Entry::Process => {
                let code = bytes.first_chunk().map_or(0, |code| i32::from_le_bytes(*code));
                Reply::Bytes(Output { text: String::from_utf8_lossy(&bytes).into_owned(), code })
            }
            _ => Reply::Command(Exit { code: 0, stdout: bytes.clone() }),
        };
        match (codec.response)(reply, FIELDS_BYTES_MAX) {
            Ok(response) => {
                let status = response.status().as_u16();
                assert!((200..600).contains(&status), "{}: {status}", codec.name);
                for framing in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
                    assert!(!response.headers().contains_key(&framing), "{}: {framing} is the server's", codec.name);
                }
                let has_body = !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
                assert!(has_body || http_body::Body::is_end_stream(response.body()), "{}: a body of {status}", codec.name);
            }
            Err(error) => blames_the_guest(&error, &[Kind::BadResponse, Kind::NoResponse]),
        }
    }
    if let Some(request) = ignis::decode_request(&bytes, FIELDS_BYTES_MAX) {
        // What such a request may say is what any may.
        assert!(request.body().len() <= bytes.len());
    }
}

/// An artifact is refused with a sentence, or can be called.
///
/// # Panics
///
/// If not.
pub fn scan(bytes: &[u8]) {
    let again = |_: &Digest| Err(Error::new(Kind::Internal, "nothing is compiled here"));
    match Artifact::new(Digest::of(bytes), bytes, again) {
        Ok(artifact) => {
            assert!(!artifact.entries().is_empty(), "it cannot be called");
            assert_eq!(entries(bytes).expect("the same bytes"), artifact.entries());
        }
        Err(error) => blames_the_guest(&error, &[Kind::Unprocessable]),
    }
}

fn blames_the_guest(error: &Error, kinds: &[Kind]) {
    assert!(kinds.contains(&error.kind) && error.blame == Blame::Guest, "{error:?}");
    let text = error.external.to_string();
    assert!(text.contains(' ') && !text.contains('\n'), "no sentence: {text:?}");
}

#[cfg(test)]
mod tests {
    use testkit::each_mutation;

    #[test]
    fn what_a_program_writes_is_an_answer_or_its_own_fault() {
        each_mutation("codecs", 20_000, super::codecs);
    }

    #[test]
    fn an_artifact_can_be_called_or_is_refused_with_a_sentence() {
        each_mutation("scan", 20_000, super::scan);
    }
}
