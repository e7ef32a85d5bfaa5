//! Tries every way out of its directories (`support/escape`) by `wasi:filesystem@0.3`. Proves that none leads out.

use escape::Answer;
use wasip3::cli::{environment, stdout};
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags};
use wasip3::{wit_bindgen::StreamReader, wit_stream};

/// A descriptor.
struct Directory(Descriptor);

fn named<T>(answer: Result<T, ErrorCode>) -> Answer<T> {
    answer.map_err(|code| format!("{code:?}").trim_start_matches("ErrorCode::").into())
}

impl Directory {
    async fn open_at(&self, path: &str, how: OpenFlags, flags: DescriptorFlags) -> Answer<Descriptor> {
        named(self.0.open_at(PathFlags::SYMLINK_FOLLOW, path.into(), how, flags).await)
    }
}

/// All of a stream, whose end says whether it was whole.
async fn whole<T: 'static>(stream: (StreamReader<T>, impl IntoFuture<Output = Result<(), ErrorCode>>)) -> Answer<Vec<T>> {
    let (reader, ended) = stream;
    let all = reader.collect().await;
    named(ended.await).map(|()| all)
}

impl escape::Directory for Directory {
    async fn open(&self, path: &str) -> Answer<Self> {
        // Without the right to change it, nothing below could be changed.
        let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
        match self.open_at(path, OpenFlags::DIRECTORY, flags).await {
            Ok(opened) => Ok(Self(opened)),
            Err(_) => self.open_at(path, OpenFlags::DIRECTORY, DescriptorFlags::READ).await.map(Self),
        }
    }

    async fn read(&self, path: &str) -> Answer<String> {
        let file = self.open_at(path, OpenFlags::empty(), DescriptorFlags::READ).await?;
        whole(file.read_via_stream(0)).await.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn list(&self, path: &str) -> Answer<Vec<String>> {
        let dir = self.open_at(path, OpenFlags::DIRECTORY, DescriptorFlags::READ).await?;
        Ok(whole(dir.read_directory()).await?.into_iter().map(|entry| entry.name).collect())
    }

    async fn stat(&self, path: &str) -> Answer {
        named(self.0.stat_at(PathFlags::SYMLINK_FOLLOW, path.into()).await).map(drop)
    }

    async fn touch(&self, path: &str) -> Answer {
        let now = NewTimestamp::Now;
        named(self.0.set_times_at(PathFlags::SYMLINK_FOLLOW, path.into(), now, now).await)
    }

    async fn put(&self, path: &str, text: &str) -> Answer {
        let file = self.open_at(path, OpenFlags::CREATE | OpenFlags::TRUNCATE, DescriptorFlags::WRITE).await?;
        let (mut bytes, reader) = wit_stream::new();
        let written = file.write_via_stream(reader, 0);
        bytes.write_all(text.as_bytes().to_vec()).await;
        drop(bytes);
        named(written.await)
    }

    async fn mkdir(&self, path: &str) -> Answer {
        named(self.0.create_directory_at(path.into()).await)
    }

    async fn rmdir(&self, path: &str) -> Answer {
        named(self.0.remove_directory_at(path.into()).await)
    }

    async fn unlink(&self, path: &str) -> Answer {
        named(self.0.unlink_file_at(path.into()).await)
    }

    async fn rename(&self, old: &str, to: &Self, new: &str) -> Answer {
        named(self.0.rename_at(old.into(), &to.0, new.into()).await)
    }

    async fn link(&self, old: &str, to: &Self, new: &str) -> Answer {
        named(self.0.link_at(PathFlags::empty(), old.into(), &to.0, new.into()).await)
    }

    async fn symlink(&self, target: &str, path: &str) -> Answer {
        named(self.0.symlink_at(target.into(), path.into()).await)
    }

    async fn readlink(&self, path: &str) -> Answer<String> {
        named(self.0.readlink_at(path.into()).await)
    }
}

struct Command;

wasip3::cli::command::export!(Command);

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let args: Vec<String> = environment::get_arguments().into_iter().skip(1).collect();
        let mut granted = get_directories().into_iter().map(|(descriptor, _)| Directory(descriptor));
        let (rw, ro) = (granted.next().expect("/rw"), granted.next().expect("/ro"));
        let text = escape::run(&rw, &ro, &args, &environment::get_environment()).await;
        let (mut out, reader) = wit_stream::new();
        let written = stdout::write_via_stream(reader);
        let all = out.write_all(text.into_bytes()).await.is_empty();
        drop(out);
        if written.await.is_ok() && all { Ok(()) } else { Err(()) }
    }
}
