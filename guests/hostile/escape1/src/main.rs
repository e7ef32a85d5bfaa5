//! Tries every way out of its directories (`support/escape`) by WASI preview 1. Proves that none leads out.

use escape::Answer;
use preview1::{Errno, FOLLOW};

/// A descriptor.
struct Directory(u32);

fn named<T>(answer: preview1::Answer<T>) -> Answer<T> {
    answer.map_err(|errno: Errno| errno.name().into())
}

impl escape::Directory for Directory {
    async fn open(&self, path: &str) -> Answer<Self> {
        named(preview1::open_to_read(self.0, path)).map(Self)
    }

    async fn read(&self, path: &str) -> Answer<String> {
        named(preview1::text_of(self.0, path))
    }

    async fn list(&self, path: &str) -> Answer<Vec<String>> {
        let fd = named(preview1::open_to_read(self.0, path))?;
        let entries = named(preview1::list(fd, 4096, 0));
        named(preview1::close(fd))?;
        Ok(entries?.into_iter().map(|entry| entry.name).collect())
    }

    async fn stat(&self, path: &str) -> Answer {
        named(preview1::stat_at(self.0, FOLLOW, path)).map(drop)
    }

    async fn touch(&self, path: &str) -> Answer {
        named(preview1::set_times_at(self.0, FOLLOW, path, 0, 0, 1))
    }

    async fn put(&self, path: &str, text: &str) -> Answer {
        named(preview1::put(self.0, path, text))
    }

    async fn mkdir(&self, path: &str) -> Answer {
        named(preview1::mkdir(self.0, path))
    }

    async fn rmdir(&self, path: &str) -> Answer {
        named(preview1::rmdir(self.0, path))
    }

    async fn unlink(&self, path: &str) -> Answer {
        named(preview1::unlink(self.0, path))
    }

    async fn rename(&self, old: &str, to: &Self, new: &str) -> Answer {
        named(preview1::rename(self.0, old, to.0, new))
    }

    async fn link(&self, old: &str, to: &Self, new: &str) -> Answer {
        named(preview1::link(self.0, 0, old, to.0, new))
    }

    async fn symlink(&self, target: &str, path: &str) -> Answer {
        named(preview1::symlink(target, self.0, path))
    }

    async fn readlink(&self, path: &str) -> Answer<String> {
        named(preview1::readlink(self.0, path, 4096))
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let env: Vec<_> = std::env::vars().collect();
    print!("{}", escape::now(escape::run(&Directory(3), &Directory(4), &args, &env)));
}
