//! Which file a path means, and opening nothing else.
//!
//! Two locks on one door. A path becomes a list of plain names before the disk is asked: whatever could mean a way up, another
//! folder or a hidden file is no name. And the file is opened beneath its folder by the kernel (`openat2` with
//! `RESOLVE_BENEATH`, by way of cap-std), so that a symbolic link that leads out, or a folder that becomes one between
//! two looks, leads nowhere.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use base::FileRoot;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use rustix::fs::OFlags;

/// What answers for a folder.
const INDEX: &str = "index.html";

/// The one hidden folder that is meant to be read by everybody (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

/// A file's place below its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Name {
    /// Without any part that is more than a name; empty for the root itself.
    path: PathBuf,
    /// It ends in a slash: only a folder will do.
    is_folder: bool,
}

/// A regular file.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) metadata: Metadata,
    /// The index's own where a folder was asked for.
    pub(super) path: PathBuf,
}

impl Name {
    /// Reads a request's path, still percent-encoded, of which `depth` segments lead to the root. None where it can be no
    /// file's name.
    pub(super) fn parse(path: &str, depth: usize) -> Option<Self> {
        let mut segments = path.split('/').skip(1 + depth).peekable();
        let mut name = Self::default();
        while let Some(segment) = segments.next() {
            if segment.is_empty() && segments.peek().is_none() {
                name.is_folder = true;
                break;
            }
            let decoded = decode(segment)?;
            let is_allowed = !decoded.starts_with('.') || (decoded == WELL_KNOWN && name.path.as_os_str().is_empty());
            if decoded.is_empty() || !is_allowed || decoded.contains(|c: char| c == '/' || c == '\\' || c.is_control()) {
                return None;
            }
            name.path.push(decoded);
        }
        Some(name)
    }
}

/// Replaces `%XX`; none where that is not possible or yields no UTF-8.
fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(digits[0])? << 4 | digit(digits[1])?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// Opens what `name` means below `root`, or the root itself where it is a file. None for a folder that was asked for without
/// its slash. Blocks.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] for all that is not there for a client, whatever the reason; anything else is a failure.
pub(super) fn open(root: &FileRoot, name: &Name) -> io::Result<Option<Opened>> {
    if root.depth.is_none() {
        let file = std::os::unix::fs::OpenOptionsExt::custom_flags(File::options().read(true), flags()).open(&root.path)?;
        return regular(file, root.path.clone()).map(Some);
    }
    // Opened for each request: a folder that was replaced by another is seen, and no descriptor is kept for who asks nothing.
    let folder = Dir::open_ambient_dir(&root.path, ambient_authority()).map_err(|error| match error.kind() {
        // The operator's folder is gone, which is not for the client to be told.
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => io::Error::other(error),
        _ => error,
    })?;
    let here = if name.path.as_os_str().is_empty() { Path::new(".") } else { &name.path };
    let file = open_beneath(&folder, here)?;
    match (file.metadata()?.is_dir(), name.is_folder) {
        (true, true) => {
            // From the root again: a link in the folder may lead anywhere below the root.
            let index = name.path.join(INDEX);
            regular(open_beneath(&folder, &index)?, index).map(Some)
        }
        (true, false) => Ok(None),
        (false, true) => Err(io::ErrorKind::NotFound.into()),
        (false, false) => regular(file, name.path.clone()).map(Some),
    }
}

fn open_beneath(folder: &Dir, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags());
    folder.open_with(path, &options).map(cap_std::fs::File::into_std).map_err(|error| {
        let is_full = error.raw_os_error().is_some_and(|code| FULL.contains(&rustix::io::Errno::from_raw_os_error(code)));
        let is_broken = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
        // Not there, no permission, a way out, too long, a socket: to a client all of it is not there.
        if is_full || is_broken { error } else { io::Error::new(io::ErrorKind::NotFound, error) }
    })
}

/// The process or the machine has no more of something.
pub(super) const FULL: [rustix::io::Errno; 3] = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOMEM];

/// A FIFO that nobody writes to must not hold the thread that opens it, nor a terminal become ours.
fn flags() -> i32 {
    i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).expect("two low bits")
}

fn regular(file: File, path: PathBuf) -> io::Result<Opened> {
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok(Opened { file, metadata, path }) } else { Err(io::ErrorKind::NotFound.into()) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn name(path: &str, depth: usize) -> Option<(String, bool)> {
        Name::parse(path, depth).map(|name| (name.path.to_str().expect("UTF-8").to_owned(), name.is_folder))
    }

    #[test]
    fn a_path_is_a_list_of_names() {
        for (path, depth, expected) in [
            ("/", 0, Some(("", true))),
            ("/static", 1, Some(("", false))),
            ("/static/", 1, Some(("", true))),
            ("/static/a.css", 1, Some(("a.css", false))),
            ("/static/a/b/", 1, Some(("a/b", true))),
            ("/u/7/x", 2, Some(("x", false))),
            ("/a%20b/%C3%BC", 0, Some(("a b/ü", false))),
            ("/%2561", 0, Some(("%61", false))),
            ("/a+b", 0, Some(("a+b", false))),
            ("/.well-known/x", 0, Some((".well-known/x", false))),
        ] {
            assert_eq!(name(path, depth), expected.map(|(path, is_folder)| (path.to_owned(), is_folder)), "{path}");
        }
    }

    #[test]
    fn what_is_more_than_a_name_is_none() {
        for path in [
            "/..",
            "/../x",
            "/a/../b",
            "/.",
            "/./a",
            "/%2e%2e/x",
            "/%2E.",
            "/a/%2e",
            "/..%2fx",
            "/a%2fb",
            "/a%2Fb",
            "/%2fetc/passwd",
            "//etc/passwd",
            "/a//b",
            "//",
            "/a\\b",
            "/a%5cb",
            "/..%5cx",
            "/a%00",
            "/%00",
            "/a%0a",
            "/a%7f",
            "/.git/config",
            "/.env",
            "/a/.htpasswd",
            "/a/.well-known/x",
            "/%2egit/config",
            "/%",
            "/%2",
            "/%zz",
            "/a%f",
            "/%ff",
            "/%c0%ae%c0%ae/x",
            "/%u002e",
        ] {
            assert_eq!(name(path, 0), None, "{path}");
        }
    }

    /// A folder with files, links and what is none, and a secret beside it.
    fn tree() -> tempfile::TempDir {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let at = |path: &str| temporary.path().join(path);
        fs::create_dir_all(at("root/sub/deep")).expect("folders");
        fs::create_dir(at("outside")).expect("a folder");
        for path in ["root/a.txt", "root/sub/index.html", "outside/secret", "secret", "root/.env"] {
            fs::write(at(path), path).expect("a file");
        }
        for (target, link) in [
            ("a.txt", "root/inside"),
            ("../a.txt", "root/sub/up"),
            ("sub", "root/folder"),
            ("../secret", "root/out"),
            ("../outside", "root/way"),
            ("../../outside/secret", "root/sub/way"),
            ("loop", "root/loop"),
            ("gone", "root/gone"),
        ] {
            symlink(target, at(link)).expect("a link");
        }
        symlink(at("secret"), at("root/absolute")).expect("a link");
        symlink("/proc/self/environ", at("root/environ")).expect("a link");
        rustix::fs::mkfifoat(rustix::fs::CWD, at("root/fifo"), rustix::fs::Mode::RUSR).expect("a FIFO");
        temporary
    }

    fn read(root: &FileRoot, path: &str) -> Result<String, io::ErrorKind> {
        let name = Name::parse(path, 0).expect("a name");
        match open(root, &name).map_err(|error| error.kind())? {
            Some(opened) => Ok(io::read_to_string(opened.file).expect("readable")),
            None => Ok("folder".to_owned()),
        }
    }

    #[test]
    fn only_regular_files_beneath_the_root_are_opened() {
        let temporary = tree();
        let root = FileRoot { path: temporary.path().join("root"), depth: Some(0), tenant: "t".into() };
        let _socket = UnixListener::bind(root.path.join("socket")).expect("a socket");
        for (path, expected) in [
            ("/a.txt", "root/a.txt"),
            ("/inside", "root/a.txt"),
            ("/sub/up", "root/a.txt"),
            ("/sub", "folder"),
            ("/folder", "folder"),
            ("/sub/", "root/sub/index.html"),
            ("/folder/", "root/sub/index.html"),
            ("/folder/index.html", "root/sub/index.html"),
        ] {
            assert_eq!(read(&root, path).as_deref(), Ok(expected), "{path}");
        }
        for path in [
            "/none",
            "/",
            "/a.txt/",
            "/a.txt/x",
            "/sub/deep/",
            "/out",
            "/way/secret",
            "/way/",
            "/sub/way",
            "/absolute",
            "/environ",
            "/loop",
            "/gone",
            "/fifo",
            "/socket",
            &format!("/{}", "x".repeat(300)),
        ] {
            assert_eq!(read(&root, path), Err(io::ErrorKind::NotFound), "{path}");
        }
        let gone = FileRoot { path: temporary.path().join("gone"), ..root };
        assert_eq!(read(&gone, "/a.txt"), Err(io::ErrorKind::Other), "that is no client's fault");
    }

    #[test]
    fn one_file_may_be_the_root() {
        let temporary = tree();
        let name = Name::parse("/favicon.ico", 1).expect("a name");
        let read = |path: &str| {
            let root = FileRoot { path: temporary.path().join(path), depth: None, tenant: "t".into() };
            match open(&root, &name).map_err(|error| error.kind())? {
                Some(opened) => Ok(io::read_to_string(opened.file).expect("readable")),
                None => Ok("folder".to_owned()),
            }
        };
        assert_eq!(read("root/out").as_deref(), Ok("secret"), "the operator named it");
        assert_eq!(read("root/fifo"), Err(io::ErrorKind::NotFound));
        assert_eq!(read("root/sub"), Err(io::ErrorKind::NotFound));
    }
}
