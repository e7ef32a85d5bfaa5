//! Tries every way out of its directories (`support/escape`) by `wasi:filesystem@0.2`. Proves that none leads out.

use escape::Answer;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags};

/// A descriptor.
struct Directory(Descriptor);

/// More than any file here.
const BYTES: u64 = 4096;

fn named<T>(answer: Result<T, ErrorCode>) -> Answer<T> {
    answer.map_err(|code| code.name().into())
}

impl Directory {
    fn open_at(&self, path: &str, how: OpenFlags, flags: DescriptorFlags) -> Answer<Descriptor> {
        named(self.0.open_at(PathFlags::SYMLINK_FOLLOW, path, how, flags))
    }
}

impl escape::Directory for Directory {
    async fn open(&self, path: &str) -> Answer<Self> {
        // Without the right to change it, nothing below could be changed.
        let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
        let opened = self.open_at(path, OpenFlags::DIRECTORY, flags);
        opened.or_else(|_| self.open_at(path, OpenFlags::DIRECTORY, DescriptorFlags::READ)).map(Self)
    }

    async fn read(&self, path: &str) -> Answer<String> {
        let file = self.open_at(path, OpenFlags::empty(), DescriptorFlags::READ)?;
        named(file.read(BYTES, 0)).map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn list(&self, path: &str) -> Answer<Vec<String>> {
        let dir = self.open_at(path, OpenFlags::DIRECTORY, DescriptorFlags::READ)?;
        let entries = named(dir.read_directory())?;
        let mut names = Vec::new();
        while let Some(entry) = named(entries.read_directory_entry())? {
            names.push(entry.name);
        }
        Ok(names)
    }

    async fn stat(&self, path: &str) -> Answer {
        named(self.0.stat_at(PathFlags::SYMLINK_FOLLOW, path)).map(drop)
    }

    async fn touch(&self, path: &str) -> Answer {
        named(self.0.set_times_at(PathFlags::SYMLINK_FOLLOW, path, NewTimestamp::Now, NewTimestamp::Now))
    }

    async fn put(&self, path: &str, text: &str) -> Answer {
        let file = self.open_at(path, OpenFlags::CREATE | OpenFlags::TRUNCATE, DescriptorFlags::WRITE)?;
        named(file.write(text.as_bytes(), 0)).map(drop)
    }

    async fn mkdir(&self, path: &str) -> Answer {
        named(self.0.create_directory_at(path))
    }

    async fn rmdir(&self, path: &str) -> Answer {
        named(self.0.remove_directory_at(path))
    }

    async fn unlink(&self, path: &str) -> Answer {
        named(self.0.unlink_file_at(path))
    }

    async fn rename(&self, old: &str, to: &Self, new: &str) -> Answer {
        named(self.0.rename_at(old, &to.0, new))
    }

    async fn link(&self, old: &str, to: &Self, new: &str) -> Answer {
        named(self.0.link_at(PathFlags::empty(), old, &to.0, new))
    }

    async fn symlink(&self, target: &str, path: &str) -> Answer {
        named(self.0.symlink_at(target, path))
    }

    async fn readlink(&self, path: &str) -> Answer<String> {
        named(self.0.readlink_at(path))
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let env: Vec<_> = std::env::vars().collect();
    let mut granted = get_directories().into_iter().map(|(descriptor, _)| Directory(descriptor));
    let (rw, ro) = (granted.next().expect("/rw"), granted.next().expect("/ro"));
    print!("{}", escape::now(escape::run(&rw, &ro, &args, &env)));
}
