//! As much of protobuf's wire format as two messages need: varints, and bytes with a length
//! (<https://protobuf.dev/programming-guides/encoding/>).

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// A message being written.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// A number; nothing for 0, which is the default.
    pub(super) fn int(&mut self, field: u64, value: i64) {
        if value != 0 {
            self.varint(field << 3 | VARINT);
            self.varint(value.cast_unsigned());
        }
    }

    /// Text or bytes; nothing where there are none, which is the default.
    pub(super) fn bytes(&mut self, field: u64, value: &[u8]) {
        if !value.is_empty() {
            self.element(field, value);
        }
    }

    /// The same as part of a list or as a message, where what is empty counts.
    pub(super) fn element(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | LENGTH);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
    /// Of a type the messages do not have.
    Other,
}

/// A message being read.
pub(super) struct Reader<'a>(&'a [u8]);

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next field's number and value; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = tag >> 3;
        if field == 0 {
            return Err(Malformed);
        }
        let value = match tag & 7 {
            VARINT => Value::Int(self.varint()?),
            LENGTH => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            FIXED64 => self.take(8).map(|_| Value::Other)?,
            FIXED32 => self.take(4).map(|_| Value::Other)?,
            // Groups are gone since version 2.
            _ => return Err(Malformed),
        };
        Ok(Some((field, value)))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed)?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.int(1, 150);
        writer.int(2, 0);
        writer.int(3, -1);
        writer.bytes(4, b"testing");
        writer.bytes(5, b"");
        writer.element(16, b"");
        let bytes = writer.into_bytes();
        // The first and the fourth are the examples of the specification.
        assert!(bytes.starts_with(&[0x08, 0x96, 0x01]));
        let mut reader = Reader::new(&bytes);
        let mut fields = Vec::new();
        while let Some(field) = reader.next().expect("well-formed") {
            fields.push(field);
        }
        let expected = [(1, Value::Int(150)), (3, Value::Int(u64::MAX)), (4, Value::Bytes(b"testing")), (16, Value::Bytes(b""))];
        assert_eq!(fields, expected);
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        for bytes in
            [&b"\x08"[..], b"\x00\x00", b"\x0a\x05abc", b"\x0b", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x09abc"]
        {
            assert_eq!(Reader::new(bytes).next(), Err(Malformed), "{bytes:?}");
        }
        assert_eq!(Reader::new(b"\x0d1234").next(), Ok(Some((1, Value::Other))));
    }
}
