//! One error for the whole road.
//!
//! Two questions decide what happens to a failure: *who must act* and *what may the client know*. [`Blame`] answers the
//! first and decides the log level and the metric; [`Kind`] decides the status and is the stable word a client sees.
//! The external message goes into the response, the internal one only into the log: it may hold paths and addresses.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use crate::RequestId;

/// Who must act for the failure not to happen again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// Whoever sent the request.
    Client,
    /// Whoever wrote or configured the guest.
    Guest,
    /// A service behind an interface.
    Backend,
    /// Fornax or the machine it runs on.
    Platform,
}

impl Blame {
    /// The word in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Guest => "guest",
            Self::Backend => "backend",
            Self::Platform => "platform",
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal, $blame:ident;)*) => {
        /// What went wrong, as a closed list: the word a client sees in `type`, and its HTTP status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            /// Every kind, for the generated table in `docs/errors.md`.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable word in error bodies, logs and metrics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The HTTP status this kind becomes.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Who is to blame unless the error says otherwise.
            pub fn blame(self) -> Blame {
                match self { $(Self::$variant => Blame::$blame,)* }
            }
        }
    };
}

kinds! {
    /// The request is not one this server can read.
    BadRequest = "bad-request", 400, Client;
    /// No route for this host and path, or no such file.
    NotFound = "not-found", 404, Client;
    /// A route for the path, but not for this method.
    MethodNotAllowed = "method-not-allowed", 405, Client;
    /// The client was too slow to send its request.
    RequestTimeout = "request-timeout", 408, Client;
    /// The file is not the one the request insists on.
    PreconditionFailed = "precondition-failed", 412, Client;
    /// The request body is over its limit.
    BodyTooLarge = "body-too-large", 413, Client;
    /// The request target is over its limit.
    UriTooLong = "uri-too-long", 414, Client;
    /// The file has none of the bytes the request asks for.
    RangeNotSatisfiable = "range-not-satisfiable", 416, Client;
    /// The request expects what this server does not know how to do.
    ExpectationFailed = "expectation-failed", 417, Client;
    /// The artifact cannot be published.
    Unprocessable = "unprocessable", 422, Guest;
    /// The request head is over its limits.
    HeadersTooLarge = "headers-too-large", 431, Client;
    /// Fornax failed.
    Internal = "internal", 500, Platform;
    /// The module is a program, and nobody said by which codec requests get into it.
    NoCodec = "no-codec", 501, Guest;
    /// The guest trapped.
    Trap = "trap", 502, Guest;
    /// The guest wanted more memory than its limit.
    MemoryLimit = "memory-limit", 502, Guest;
    /// The guest used up its stack.
    Stack = "stack", 502, Guest;
    /// The guest ended without an answer.
    NoResponse = "no-response", 502, Guest;
    /// The guest answered with an error or something that is not HTTP.
    BadResponse = "bad-response", 502, Guest;
    /// The guest ended its program instead of answering.
    GuestExit = "guest-exit", 502, Guest;
    /// The guest wrote more than its limit.
    OutputLimit = "output-limit", 502, Guest;
    /// No place for the call in time.
    Overloaded = "overloaded", 503, Platform;
    /// The instance that served the call beside others ended because of one of those.
    InstanceLost = "instance-lost", 503, Guest;
    /// The module is not called since workers did not survive its calls.
    Quarantined = "quarantined", 503, Guest;
    /// A service the call needs does not answer.
    BackendUnavailable = "backend-unavailable", 503, Backend;
    /// No answer within the wall clock limit.
    Deadline = "deadline", 504, Guest;
    /// No answer within the CPU limit.
    CpuLimit = "cpu-limit", 504, Guest;
    /// Too many calls inside calls.
    Depth = "depth", 508, Guest;
}

/// A failure with someone to blame, two messages and a cause.
#[derive(Debug)]
pub struct Error {
    /// Who must act.
    pub blame: Blame,
    /// What went wrong.
    pub kind: Kind,
    /// What the client is told: no path, no address, no backtrace.
    pub external: Cow<'static, str>,
    /// What the log is told in addition; empty where `external` says it all.
    pub internal: String,
    /// After how many seconds trying again makes sense, for 503.
    pub retry_after_s: Option<u32>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error blamed on whom its kind blames.
    pub fn new(kind: Kind, external: impl Into<Cow<'static, str>>) -> Self {
        Self { blame: kind.blame(), kind, external: external.into(), internal: String::new(), retry_after_s: None, source: None }
    }

    /// Adds what only the log may say.
    #[must_use]
    pub fn internal(mut self, internal: impl Into<String>) -> Self {
        self.internal = internal.into();
        self
    }

    /// Says in front of the external message where it happened.
    #[must_use]
    pub fn within(mut self, place: &str) -> Self {
        self.external = format!("{place}: {}", self.external).into();
        self
    }

    /// Adds the cause; logs print the chain, `Display` does not.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds when to try again, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Writes the failure to the log: the level by who must act, everything that is known in the text.
    pub fn log(&self, request: RequestId, tenant: &str, module: &str) {
        let (kind, blame) = (self.kind.name(), self.blame.name());
        let detail = match self.detail() {
            detail if detail.is_empty() => detail,
            detail => format!(": {}", one_entry(&detail)),
        };
        match self.blame {
            Blame::Client => tracing::info!(target: "fornax::client", %request, tenant, module, kind, blame, "{self}{detail}"),
            Blame::Guest => tracing::warn!(target: "fornax", %request, tenant, module, kind, blame, "{self}{detail}"),
            Blame::Backend | Blame::Platform => {
                tracing::error!(target: "fornax", %request, tenant, module, kind, blame, "{self}{detail}");
            }
        }
    }

    /// Bytes of the line of the log, about.
    pub(crate) fn line_bytes(&self) -> usize {
        self.external.len() + self.detail().len().min(DETAIL_BYTES_MAX)
    }

    /// The internal message and the chain of causes, for logs.
    pub fn detail(&self) -> String {
        let mut text = self.internal.clone();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// What a line of the log has of a failure: some of it may be the guest's to choose.
const DETAIL_BYTES_MAX: usize = 8 << 10;

/// A text of several lines as one entry of the log: names in it may be a guest's, so no line of it looks like an entry of its own,
/// nothing drives a terminal, and it is not longer than entries are.
pub(crate) fn one_entry(text: &str) -> String {
    let mut entry = String::with_capacity(text.len().min(DETAIL_BYTES_MAX));
    for c in text.chars() {
        if entry.len() >= DETAIL_BYTES_MAX {
            entry.push_str(" [cut]");
            break;
        }
        match c {
            '\n' => entry.push_str("\n    "),
            c if c.is_control() && c != '\t' => entry.extend(c.escape_default()),
            c => entry.push(c),
        }
    }
    entry
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.external)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_hides_the_source_and_detail_shows_the_chain() {
        let error =
            Error::new(Kind::Trap, "the guest trapped").internal("in handle").caused_by(std::io::Error::other("/secret/path"));
        assert_eq!(error.to_string(), "the guest trapped");
        assert_eq!(error.detail(), "in handle: /secret/path");
        assert_eq!((error.blame, error.kind.status()), (Blame::Guest, 502));
    }

    #[test]
    fn a_guests_names_cannot_look_like_entries() {
        assert_eq!(one_entry("trap\n0: a\n2027 WARN\x1b[31m\r"), "trap\n    0: a\n    2027 WARN\\u{1b}[31m\\r");
        let long = one_entry(&"\x1b".repeat(1 << 20));
        assert!(long.len() < DETAIL_BYTES_MAX + 16 && long.ends_with(" [cut]"), "{} bytes", long.len());
    }

    #[test]
    fn the_table_for_people_has_every_kind() {
        let table = include_str!("../../../docs/errors.md");
        for kind in Kind::ALL {
            let row = format!("| `{}` | {} | {} |", kind.name(), kind.status(), kind.blame().name());
            assert!(table.contains(&row), "docs/errors.md lacks the row `{row}`");
        }
    }

    #[test]
    fn names_of_kinds_are_distinct() {
        let names: std::collections::HashSet<_> = Kind::ALL.iter().map(|k| k.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
