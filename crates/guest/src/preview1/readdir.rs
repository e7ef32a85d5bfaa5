//! Reading directories.
//!
//! The system's stream stays open between calls: what it promises, programs get, and each entry that is there all the time
//! comes exactly once, whatever is added and removed meanwhile. A cookie is the number of an entry in that stream, since
//! programs keep cookies in 32 bits and the system's own need 64. One that is not where the stream stands is found by counting
//! from the start, a step at a time.

use std::fs::File as HostFile;
use std::io;
use std::sync::Arc;

use rustix::fs::Dir;
use wasmtime::Caller;

use crate::preview1::errno::{Errno, Failure};
use crate::preview1::reach;
use crate::preview1::rights::Rights;
use crate::preview1::stat::{FileStat, FileType};
use crate::preview1::table::{Place, Places};
use crate::state::State;

/// Bytes of entries that are made at once, off the program's thread; its buffer may be larger.
const CHUNK_BYTES: usize = 64 << 10;

/// Entries that are passed at once on the way to a cookie, which is the program's word: a millisecond or so.
const PASSED_MAX: usize = 4096;

/// Bytes of an entry before its name.
const HEAD_BYTES: usize = 24;

/// Where reading a directory has come to.
pub(super) struct Listing {
    stream: Dir,
    _place: Place,
    /// The directory's own.
    inode: u64,
    /// The number of the entry that comes next.
    next: u64,
    /// An entry that was taken from the stream and not given out, since it did not fit.
    ahead: Option<Entry>,
}

/// Where a cookie is.
enum Way {
    There,
    /// Further on.
    Long,
    /// Behind the directory's end.
    Beyond,
}

struct Entry {
    inode: u64,
    ty: FileType,
    name: Vec<u8>,
}

pub(super) async fn readdir(
    caller: &mut Caller<'_, State>,
    fd: u32,
    buffer: u32,
    len: u32,
    cookie: u64,
    to: u32,
) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    memory.bytes(buffer, len)?;
    let places = Arc::clone(&state.active().core.places);
    let directory = state.core().preview1.table.directory(fd, Rights::FD_READDIR)?;
    let (mut at, mut room, mut cookie) = (buffer, len, cookie);
    while room > 0 {
        let (handle, places) = (Arc::clone(&directory.handle), Arc::clone(&places));
        let steps = handle.steps();
        let listing = directory.listing.take();
        let work = move || {
            let mut listing = match listing {
                Some(listing) => listing,
                None => match Listing::open(handle.file(), &places)? {
                    Ok(listing) => Box::new(listing),
                    Err(full) => return Ok(Err(full)),
                },
            };
            let chunk = listing.chunk(cookie, room as usize)?;
            Ok(Ok((listing, chunk)))
        };
        let (listing, chunk) = steps.run(work).await??;
        let next = listing.next;
        directory.listing = Some(listing);
        let Some(chunk) = chunk else { continue };
        cookie = next;
        memory.write(at, &chunk)?;
        let written = u32::try_from(chunk.len()).map_err(|_| Errno::Overflow)?;
        at += written;
        room -= written;
        if chunk.len() < CHUNK_BYTES {
            break;
        }
    }
    Ok(memory.write_u32(to, len - room)?)
}

impl Listing {
    fn open(directory: &HostFile, places: &Arc<Places>) -> io::Result<Result<Self, Failure>> {
        let place = match places.take() {
            Some(place) => place,
            None => return Ok(Err(Errno::Nfile.into())),
        };
        let inode = FileStat::of_file(directory)?.inode();
        Ok(Ok(Self { stream: Dir::read_from(directory)?, _place: place, inode, next: 0, ahead: None }))
    }

    /// Entries from `cookie` on, as programs get them: up to [`CHUNK_BYTES`] or a little more, the last one cut off where `room`
    /// ends. Fewer than both only at the directory's end. None if the way to `cookie` is longer than a step.
    fn chunk(&mut self, cookie: u64, room: usize) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        match self.go_to(cookie)? {
            Way::There => {}
            Way::Long => return Ok(None),
            Way::Beyond => return Ok(Some(bytes)),
        }
        while bytes.len() < room.min(CHUNK_BYTES) {
            let Some(entry) = self.take()? else { break };
            entry.put(self.next, &mut bytes);
            if bytes.len() > room {
                bytes.truncate(room);
                self.next -= 1;
                self.ahead = Some(entry);
            }
        }
        Ok(Some(bytes))
    }

    fn go_to(&mut self, cookie: u64) -> io::Result<Way> {
        if cookie < self.next {
            self.stream.rewind();
            self.ahead = None;
            self.next = 0;
        }
        for _ in 0..PASSED_MAX {
            if self.next == cookie {
                return Ok(Way::There);
            }
            if self.take()?.is_none() {
                return Ok(Way::Beyond);
            }
        }
        Ok(Way::Long)
    }

    /// The next entry. The one for the directory above says what it says for the directory itself: what is above is not the
    /// program's.
    fn take(&mut self) -> io::Result<Option<Entry>> {
        let entry = match (self.ahead.take(), self.next) {
            (Some(entry), _) => Some(entry),
            (None, 0) => Some(Entry { inode: self.inode, ty: FileType::Directory, name: b".".to_vec() }),
            (None, 1) => Some(Entry { inode: self.inode, ty: FileType::Directory, name: b"..".to_vec() }),
            (None, _) => self.read()?,
        };
        self.next += u64::from(entry.is_some());
        Ok(entry)
    }

    fn read(&mut self) -> io::Result<Option<Entry>> {
        while let Some(entry) = self.stream.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let ty = FileType::of_entry(entry.file_type());
                return Ok(Some(Entry { inode: entry.ino(), ty, name: name.to_vec() }));
            }
        }
        Ok(None)
    }
}

impl Entry {
    fn put(&self, next: u64, to: &mut Vec<u8>) {
        let mut head = [0; HEAD_BYTES];
        head[0..8].copy_from_slice(&next.to_le_bytes());
        head[8..16].copy_from_slice(&self.inode.to_le_bytes());
        // Names are at most a few hundred bytes.
        head[16..20].copy_from_slice(&u32::try_from(self.name.len()).unwrap_or(u32::MAX).to_le_bytes());
        head[20] = self.ty as u8;
        to.extend_from_slice(&head);
        to.extend_from_slice(&self.name);
    }
}
