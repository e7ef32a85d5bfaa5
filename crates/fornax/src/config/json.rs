//! JSON whose values know where they stand, so that what is wrong with one can be said with line and column.
//!
//! serde_json reads, but forgets places. It can hand out values as the text they were written in, though, which is a part of
//! the file's: its place is the difference of two addresses.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A value as written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'t> {
    text: &'t str,
    /// Where it begins in the file.
    at: usize,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Member<'t> {
    pub(super) key: String,
    /// The place of the key, with its quotes.
    pub(super) key_at: Range<usize>,
    pub(super) value: Value<'t>,
}

impl<'t> Value<'t> {
    /// Reads a whole file.
    pub(super) fn parse(text: &'t str) -> Result<Self, serde_json::Error> {
        let raw: &RawValue = serde_json::from_str(text)?;
        Ok(Self { text: raw.get(), at: raw.get().as_ptr().addr() - text.as_ptr().addr() })
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    pub(super) fn is_null(&self) -> bool {
        self.text == "null"
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.text.parse().ok()
    }

    pub(super) fn integer(&self) -> Option<i64> {
        self.text.parse().ok()
    }

    pub(super) fn string(&self) -> Option<String> {
        serde_json::from_str(self.text).ok()
    }

    /// The members of an object, in order, with those that are there twice.
    pub(super) fn members(&self) -> Option<Vec<Member<'t>>> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        let members = serde_json::Deserializer::from_str(self.text).deserialize_map(Members).ok()?;
        let mut before = 0;
        let members = members.into_iter().map(|(key, raw)| {
            let begin = raw.get().as_ptr().addr() - self.text.as_ptr().addr();
            // Between two values is one comma, one key and one colon.
            let gap = &self.text[before..begin];
            let first = gap.find('"').map_or(begin, |quote| before + quote);
            let last = gap.rfind('"').map_or(begin, |quote| before + quote + 1);
            before = begin + raw.get().len();
            let value = Self { text: raw.get(), at: self.at + begin };
            Member { key, key_at: self.at + first..self.at + last, value }
        });
        Some(members.collect())
    }

    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self.text.as_bytes() {
            [b'{', ..] => "an object",
            [b'[', ..] => "a list",
            [b'"', ..] => "a string",
            [b't' | b'f', ..] => "true or false",
            [b'n', ..] => "null",
            _ if self.integer().is_some() => "a whole number",
            _ => "a number with a fraction",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_keys_know_their_places() {
        let text = " { \"a\\\"b\" : 1 ,\n\"ü\":{\"x\":[\"{\"],\"y\":\"\\u00fc\"} , \"a\\\"b\": null}";
        let root = Value::parse(text).expect("JSON");
        let members = root.members().expect("an object");
        let shown: Vec<_> = members.iter().map(|m| (m.key.as_str(), &text[m.key_at.clone()], &text[m.value.span()])).collect();
        let nested = "{\"x\":[\"{\"],\"y\":\"\\u00fc\"}";
        assert_eq!(shown, [("a\"b", "\"a\\\"b\"", "1"), ("ü", "\"ü\"", nested), ("a\"b", "\"a\\\"b\"", "null")]);
        let inner = members[1].value.members().expect("an object");
        assert_eq!((&text[inner[1].key_at.clone()], inner[1].value.string().as_deref()), ("\"y\"", Some("ü")));
        assert_eq!((inner[0].value.kind(), inner[0].value.members().is_none()), ("a list", true));
        assert!(members[2].value.is_null());
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        for text in ["", "{", "{\"a\":1,}", "{} x", "{\"a\" 1}", "\u{feff}{}"] {
            Value::parse(text).expect_err(text);
        }
        assert!(Value::parse("[1]").expect("JSON").members().is_none());
    }
}
