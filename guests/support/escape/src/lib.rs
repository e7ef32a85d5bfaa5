//! Every way out of a directory, tried by the same code whatever generation of WASI the directory comes from.
//!
//! The host lays the ground: beside what is granted lie `secret`, which belongs to another tenant, and `neighbour`, which belongs to
//! another route; within it are links that lead there. What must never be done is reported as `DONE` where it is done.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display, Write};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// What came of it, or the name of the error.
pub type Answer<T = ()> = Result<T, String>;

/// Rounds of [`swapped`] at least, and at most where it has not seen both sides of what is swapped.
const ROUNDS: std::ops::Range<u32> = 300..50_000;

/// A directory as a guest has it. Paths are below it, and links at their end are followed where there is a choice, but not by
/// [`Directory::link`].
#[expect(async_fn_in_trait, reason = "each guest has one, and runs it on its only thread")]
#[expect(missing_docs, reason = "their names are those of POSIX")]
pub trait Directory: Sized {
    async fn open(&self, path: &str) -> Answer<Self>;
    async fn read(&self, path: &str) -> Answer<String>;
    async fn list(&self, path: &str) -> Answer<Vec<String>>;
    async fn stat(&self, path: &str) -> Answer;
    async fn touch(&self, path: &str) -> Answer;
    /// Makes a file or empties it, and writes a text.
    async fn put(&self, path: &str, text: &str) -> Answer;
    async fn mkdir(&self, path: &str) -> Answer;
    async fn rmdir(&self, path: &str) -> Answer;
    async fn unlink(&self, path: &str) -> Answer;
    async fn rename(&self, old: &str, to: &Self, new: &str) -> Answer;
    async fn link(&self, old: &str, to: &Self, new: &str) -> Answer;
    async fn symlink(&self, target: &str, path: &str) -> Answer;
    async fn readlink(&self, path: &str) -> Answer<String>;
}

/// Finishes what never waits.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

/// What was tried and what came of it, with how often.
#[derive(Default)]
struct Report(BTreeMap<String, u64>);

impl Report {
    fn note(&mut self, what: impl Display, answer: &Answer<impl Debug>) {
        let line = match answer {
            Ok(value) => format!("{what}: {value:?}"),
            Err(name) => format!("{what}: {name}"),
        };
        *self.0.entry(line).or_default() += 1;
    }

    /// Of what must never be done.
    fn never(&mut self, what: impl Display, answer: Answer<impl Debug>) {
        let verdict = if answer.is_ok() { "DONE" } else { "refused" };
        self.note(format_args!("{verdict} {what}"), &answer);
    }

    fn text(self) -> String {
        self.0.into_iter().fold(String::new(), |mut text, (line, count)| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{line} {count}");
            text
        })
    }
}

/// Does as the first of `args` says and returns the report: `swap` for [`swapped`], else a path of the host, below which all lies that
/// is granted and all that is not. `rw` may be written and `ro` may not.
pub async fn run<D: Directory>(rw: &D, ro: &D, args: &[String], env: &[(String, String)]) -> String {
    let mut report = Report::default();
    report.note("environment", &Ok(env));
    match args.first().map(String::as_str) {
        Some("swap") => swapped(&mut report, rw).await,
        Some(ground) => {
            ways(&mut report, rw, ground).await;
            read_only(&mut report, rw, ro).await;
        }
        None => panic!("no ground"),
    }
    report.text()
}

async fn ways<D: Directory>(report: &mut Report, rw: &D, ground: &str) {
    let below = rw.open("dir").await.expect("a directory");
    let moved = prepare(report, rw).await;
    for file in ["/etc/passwd", "//etc/passwd", "/proc/self/environ", "/dev/zero"] {
        let path = file.trim_start_matches('/');
        for way in ["/", "", "../../../../../../../../../../", "root/", "proc/root/", "/proc/self/root/", "proc/cwd/"] {
            let path = format!("{way}{path}");
            report.never(format_args!("read {path}"), rw.read(&path).await);
            report.never(format_args!("stat {path}"), rw.stat(&path).await);
        }
    }
    for path in
        ["..", "/", "up", "root", "proc", "/proc/self", "/proc/self/fd", "proc/fd", "/proc/self/cwd", "dir/up", "dir/../.."]
    {
        report.never(format_args!("open {path}"), rw.open(path).await.map(drop));
        report.never(format_args!("list {path}"), rw.list(path).await);
    }
    report.never("read passwd", rw.read("passwd").await);
    report.never("read environ", rw.read("proc/environ").await);
    for of in ["secret", "neighbour"] {
        let by_links = ["", "up/", "dir/up/", "made-up/", "made-upper/"].map(|link| format!("{link}{of}"));
        let upwards = ["../", "./../", "dir/../../", "dir/./..//../"].map(|up| format!("{up}{of}"));
        let absolute = ["", "/proc/self/root", "proc/root", "root"].map(|root| format!("{root}{ground}/{of}"));
        let made = ["out", "made-out", "made-chain", "deep/made"].map(|link| format!("{link}-{of}"));
        for way in by_links[1..].iter().chain(&upwards).chain(&absolute).chain(&made) {
            everything(report, rw, rw, way).await;
        }
        everything(report, &below, rw, &format!("../../{of}")).await;
        // From where it was, this led to what is granted.
        everything(report, &moved, rw, &format!("../../{of}")).await;
    }
}

/// Makes links that lead out; moves one to where it leads out, and a directory to where `..` does. Returns that directory, which was
/// opened before.
async fn prepare<D: Directory>(report: &mut Report, rw: &D) -> D {
    for dir in ["deep", "deep/er", "deep/secret", "deep/neighbour"] {
        rw.mkdir(dir).await.expect("a new directory");
    }
    for of in ["secret", "neighbour"] {
        for (target, link) in [
            (format!("../{of}"), format!("made-out-{of}")),
            (format!("made-out-{of}"), format!("made-chain-{of}")),
            (format!("../../{of}"), format!("deep/er/made-{of}")),
        ] {
            report.note(format_args!("symlink {target} {link}"), &rw.symlink(&target, &link).await);
        }
        let (old, new) = (format!("deep/er/made-{of}"), format!("deep/made-{of}"));
        report.note(format_args!("rename {old}"), &rw.rename(&old, rw, &new).await);
    }
    for (target, link) in [("..", "made-up"), ("dir/../made-up", "made-upper"), ("/", "made-root"), ("/proc/self", "made-proc")] {
        report.note(format_args!("symlink {target} {link}"), &rw.symlink(target, link).await);
    }
    // Another name of a link leads no further than the link.
    report.note("link passwd", &rw.link("passwd", rw, "made-passwd").await);
    report.note("rename passwd", &rw.rename("made-passwd", rw, "dir/made-passwd").await);
    for path in ["dir/made-passwd", "made-root/etc/passwd", "made-proc/environ", "made-proc/root/etc/passwd"] {
        report.never(format_args!("read {path}"), rw.read(path).await);
    }
    let moved = rw.open("deep/er").await.expect("a directory");
    report.note("rename deep/er", &rw.rename("deep/er", rw, "er").await);
    moved
}

/// Whatever can be done with a directory that is not granted, found as `way` from `base`.
async fn everything<D: Directory>(report: &mut Report, base: &D, rw: &D, way: &str) {
    let key = format!("{way}/key");
    let made = format!("{way}/made");
    report.never(format_args!("open {way}"), base.open(way).await.map(drop));
    report.never(format_args!("list {way}"), base.list(way).await);
    report.never(format_args!("read {key}"), base.read(&key).await);
    report.never(format_args!("stat {key}"), base.stat(&key).await);
    report.never(format_args!("touch {key}"), base.touch(&key).await);
    report.never(format_args!("put {key}"), base.put(&key, "x").await);
    report.never(format_args!("put {made}"), base.put(&made, "x").await);
    report.never(format_args!("mkdir {made}"), base.mkdir(&made).await);
    report.never(format_args!("rmdir {way}/empty"), base.rmdir(&format!("{way}/empty")).await);
    report.never(format_args!("rename {key} in"), base.rename(&key, rw, "stolen").await);
    report.never(format_args!("link {key} in"), base.link(&key, rw, "stolen").await);
    report.never("read what was stolen", rw.read("stolen").await);
    report.never(format_args!("rename out {made}"), rw.rename("file", base, &made).await);
    report.never(format_args!("link out {made}"), rw.link("file", base, &made).await);
    report.never(format_args!("symlink {made}"), base.symlink("x", &made).await);
    report.never(format_args!("readlink {way}/link"), base.readlink(&format!("{way}/link")).await);
    report.never(format_args!("unlink {key}"), base.unlink(&key).await);
}

/// Nothing is written where only reading was granted, be it by way of what may be written.
async fn read_only<D: Directory>(report: &mut Report, rw: &D, ro: &D) {
    report.note("ro read", &ro.read("file").await);
    report.never("ro put", ro.put("file", "x").await);
    report.never("ro put made", ro.put("made", "x").await);
    report.never("ro touch", ro.touch("file").await);
    report.never("ro mkdir", ro.mkdir("made").await);
    report.never("ro rmdir", ro.rmdir("dir").await);
    report.never("ro unlink", ro.unlink("file").await);
    report.never("ro symlink", ro.symlink("file", "made").await);
    report.never("ro rename", ro.rename("file", ro, "made").await);
    report.never("ro rename out", ro.rename("file", rw, "stolen").await);
    report.never("ro rename in", rw.rename("file", ro, "made").await);
    report.never("ro link", ro.link("file", ro, "made").await);
    report.never("ro link out", ro.link("file", rw, "stolen").await);
    report.never("ro link in", rw.link("file", ro, "made").await);
    match ro.open("dir").await {
        Ok(dir) => {
            report.never("ro put below", dir.put("made", "x").await);
            report.never("ro mkdir below", dir.mkdir("made").await);
        }
        Err(name) => report.note("ro open", &Err::<(), _>(name)),
    }
}

/// Uses paths through `swap`, which somebody else keeps changing from a directory to a link that leads out.
async fn swapped<D: Directory>(report: &mut Report, rw: &D) {
    let (mut mine, mut met) = (false, false);
    for round in 0..ROUNDS.end {
        let read = rw.read("swap/key").await;
        mine |= read.is_ok();
        // By whatever name: it is neither there nor missing.
        met |= read.as_ref().is_err_and(|name| !name.to_ascii_lowercase().replace('-', "").starts_with("noent"));
        report.note("read", &read);
        report.note("read deeper", &rw.read("swap/../swap/key").await);
        let names = rw.list("swap").await;
        report.note("list", &names.map(|names| names.iter().filter(|name| *name == "secret-name").count()));
        report.note("stat", &rw.stat("swap/secret-name").await);
        report.note("readlink", &rw.readlink("swap/link").await);
        report.note("put", &rw.put("swap/put", "x").await);
        report.note("mkdir", &rw.mkdir("swap/dir").await);
        report.note("rmdir", &rw.rmdir("swap/dir").await);
        report.note("symlink", &rw.symlink("x", "swap/symlink").await);
        report.note("link out", &rw.link("file", rw, "swap/linked").await);
        let stolen = format!("stolen-{}", round % 100);
        report.note("link in", &rw.link("swap/key", rw, &stolen).await);
        report.note("stolen", &rw.read(&stolen).await);
        report.note("rename in", &rw.rename("swap/secret-name", rw, "moved").await);
        report.note("rename out", &rw.rename("file2", rw, "swap/renamed").await);
        report.note("touch", &rw.touch("swap/key").await);
        report.note("unlink", &rw.unlink("swap/secret-name").await);
        if round >= ROUNDS.start && mine && met {
            break;
        }
    }
    report.note("both sides were seen", &Ok((mine, met)));
}
