//! Lists of buffers, as `fd_read` and its like are given.
//!
//! Both the list and what it says are the program's word: a list may be long, its buffers may overlap or lie outside, and their
//! sum may be more than there is memory. So the list is bounded, each buffer is checked, and the host holds a bounded number of
//! bytes at once. A read may be short, as programs expect; a write is done in pieces, since many do not.

use crate::memory::Memory;
use crate::preview1::errno::{Errno, Failure};

/// Buffers in one list, as in Linux.
const VECTORS_MAX: u32 = 1024;

/// Bytes the host holds for one call: what it reads, or a piece of what it writes.
pub(super) const MOVED_BYTES_MAX: usize = 1 << 20;

/// Bytes one call writes: as many as it can say it did.
pub(super) const WRITTEN_BYTES_MAX: usize = u32::MAX as usize;

/// A list of buffers in a program's memory.
#[derive(Clone, Copy)]
pub(super) struct Vectors {
    at: u32,
    count: u32,
    /// How many bytes may be moved: the buffers together, up to the limit.
    pub(super) len: usize,
}

impl Vectors {
    pub(super) fn new(memory: &Memory<'_>, at: u32, count: u32, bytes_max: usize) -> Result<Self, Failure> {
        if count > VECTORS_MAX {
            return Err(Errno::Inval.into());
        }
        let mut vectors = Self { at, count, len: 0 };
        for index in 0..count {
            let (at, len) = vectors.get(memory, index)?;
            memory.bytes(at, len)?;
            vectors.len = vectors.len.saturating_add(len as usize);
        }
        vectors.len = vectors.len.min(bytes_max);
        Ok(vectors)
    }

    /// Calls `with` for each buffer, in order, until `len` bytes are through or it moves less than the whole.
    pub(super) fn each_mut(
        self,
        memory: &mut Memory<'_>,
        mut with: impl FnMut(&mut [u8]) -> Result<usize, Failure>,
    ) -> Result<usize, Failure> {
        let mut moved = 0;
        for index in 0..self.count {
            let (at, len) = self.get(memory, index)?;
            let buffer = memory.bytes_mut(at, len)?;
            let room = buffer.len().min(self.len - moved);
            let done = with(&mut buffer[..room])?;
            moved += done;
            if done < len as usize {
                break;
            }
        }
        Ok(moved)
    }

    /// Copies what the buffers have from byte `from` on, up to `bytes_max`.
    pub(super) fn gather(self, memory: &Memory<'_>, from: usize, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let room = self.len.saturating_sub(from).min(bytes_max);
        let (mut bytes, mut skip) = (Vec::with_capacity(room), from);
        for index in 0..self.count {
            let (at, len) = self.get(memory, index)?;
            let buffer = memory.bytes(at, len)?;
            let rest = &buffer[skip.min(buffer.len())..];
            skip = skip.saturating_sub(buffer.len());
            bytes.extend_from_slice(&rest[..rest.len().min(room - bytes.len())]);
            if bytes.len() == room {
                break;
            }
        }
        Ok(bytes)
    }

    /// Fills the buffers.
    pub(super) fn scatter(self, memory: &mut Memory<'_>, mut bytes: &[u8]) -> Result<(), Failure> {
        self.each_mut(memory, |buffer| {
            let (now, later) = bytes.split_at(bytes.len().min(buffer.len()));
            buffer[..now.len()].copy_from_slice(now);
            bytes = later;
            Ok(now.len())
        })?;
        Ok(())
    }

    fn get(self, memory: &Memory<'_>, index: u32) -> Result<(u32, u32), Failure> {
        let at = self.at.checked_add(index * 8).ok_or(Errno::Fault)?;
        Ok((memory.read_u32(at)?, memory.read_u32(at.checked_add(4).ok_or(Errno::Fault)?)?))
    }
}

/// A number of bytes as a program gets it.
pub(super) fn size(len: usize) -> Result<u32, Failure> {
    u32::try_from(len).map_err(|_| Errno::Overflow.into())
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, number, size};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        let both = format!("{}; {}", number(VECTORS_MAX as usize), size(MOVED_BYTES_MAX));
        assert_documented("preview 1: buffers of one call; bytes that one call reads", both);
    }

    fn list(memory: &mut Memory<'_>, buffers: &[(u32, u32)]) {
        for (index, (at, len)) in (0_u32..).zip(buffers) {
            memory.write_u32(index * 8, *at).expect("room");
            memory.write_u32(index * 8 + 4, *len).expect("room");
        }
    }

    #[test]
    fn buffers_are_filled_in_order_and_no_further_than_allowed() {
        let mut bytes = [0_u8; 64];
        let mut memory = Memory::new(&mut bytes);
        list(&mut memory, &[(32, 3), (40, 0), (48, 4)]);
        let vectors = Vectors::new(&memory, 0, 3, 6).expect("good buffers");
        assert_eq!(vectors.len, 6);
        vectors.scatter(&mut memory, b"abcdefgh").expect("room");
        assert_eq!((memory.bytes(32, 4).expect("room"), memory.bytes(48, 4).expect("room")), (&b"abc\0"[..], &b"def\0"[..]));
        assert_eq!(vectors.gather(&memory, 0, 100).expect("room"), b"abcdef");
        for (from, bytes_max, expected) in [(0, 2, "ab"), (2, 2, "cd"), (3, 9, "def"), (5, 1, "f"), (6, 9, ""), (9, 9, "")] {
            assert_eq!(vectors.gather(&memory, from, bytes_max).expect("room"), expected.as_bytes(), "{bytes_max} from {from}");
        }
        vectors.scatter(&mut memory, b"x").expect("room");
        assert_eq!(vectors.gather(&memory, 0, 100).expect("room"), b"xbcdef", "a short read fills what it has");
    }

    #[test]
    fn what_lies_outside_is_refused_before_anything_is_moved() {
        let mut bytes = [0_u8; 64];
        let mut memory = Memory::new(&mut bytes);
        list(&mut memory, &[(32, 3), (60, 8)]);
        let error = |result: Result<Vectors, Failure>| match result {
            Err(Failure::Errno(errno)) => errno,
            _ => panic!("accepted"),
        };
        assert_eq!(error(Vectors::new(&memory, 0, 2, 100)), Errno::Fault);
        assert_eq!(error(Vectors::new(&memory, 60, 1, 100)), Errno::Fault);
        assert_eq!(error(Vectors::new(&memory, u32::MAX - 3, 1, 100)), Errno::Fault);
        assert_eq!(error(Vectors::new(&memory, 0, 1025, 100)), Errno::Inval);
        assert_eq!(error(Vectors::new(&memory, 0, 1 << 31, 100)), Errno::Inval);
    }

    #[test]
    fn overlapping_buffers_count_each_time_up_to_the_limit() {
        let mut bytes = [7_u8; 1 << 16];
        let mut memory = Memory::new(&mut bytes);
        list(&mut memory, &[(0, 1 << 16); 1024]);
        assert_eq!(Vectors::new(&memory, 0, 1024, MOVED_BYTES_MAX).err().map(|_| ()), None);
        let vectors = Vectors::new(&memory, 0, 1024, MOVED_BYTES_MAX).expect("good buffers");
        assert_eq!(vectors.gather(&memory, 0, usize::MAX).expect("bounded").len(), MOVED_BYTES_MAX);
    }
}
