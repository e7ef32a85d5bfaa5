//! Nobody reads or changes what was not granted: not by `..`, absolute paths, links made before or during the call, renaming, hard links,
//! `/proc`, or what is swapped while the guest runs. The same attack in every generation of WASI.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::SystemTime;

use testkit::{App, Fornax, note};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

/// Of preview 1, 0.2 and 0.3.
const GUESTS: [&str; 3] = ["hostile-escape1", "hostile-escape2", "hostile-escape3"];

/// What is tried, at least.
const WAYS_MIN: usize = 400;

/// `rw` and `ro`, which are granted, `secret` of another tenant and `neighbour` of another route, and links from the first to all that
/// is not. It goes with the app.
struct Ground {
    app: App,
}

impl Ground {
    fn new() -> Self {
        let ground = Self { app: App::new() };
        for dir in ["rw/dir", "rw/swap", "ro/dir", "secret/empty", "neighbour/empty"] {
            fs::create_dir_all(ground.path(dir)).expect("a directory");
        }
        for (file, text) in [
            ("rw/file", "content\n"),
            ("rw/file2", "content\n"),
            ("rw/swap/key", "mine\n"),
            ("ro/file", "read me\n"),
            ("secret/key", "SECRET\n"),
            ("secret/secret-name", "SECRET\n"),
            ("neighbour/key", "SECRET\n"),
        ] {
            fs::write(ground.path(file), text).expect("a file");
        }
        let absolute = ground.path("secret").display().to_string();
        for (target, link) in [
            ("..", "rw/up"),
            ("../..", "rw/dir/up"),
            (&absolute, "rw/out-secret"),
            ("../neighbour", "rw/out-neighbour"),
            ("/", "rw/root"),
            ("/proc/self", "rw/proc"),
            ("/etc/passwd", "rw/passwd"),
            ("target-of-SECRET", "secret/link"),
            ("target-of-SECRET", "neighbour/link"),
        ] {
            symlink(target, ground.path(link)).expect("a link");
        }
        ground
    }

    fn path(&self, of: &str) -> PathBuf {
        // Without links of the system on the way, which the guest would have to know.
        self.app.folder().canonicalize().expect("the app's folder").join("ground").join(of)
    }

    /// All that no guest of it may change.
    fn kept(&self) -> BTreeSet<Kept> {
        ["", "secret", "neighbour", "ro", "ro/dir"].iter().flat_map(|dir| kept(&self.path(dir))).collect()
    }

    /// What the guest reports.
    fn attack(self, guest: &str, arg: &str, meanwhile: impl FnOnce(&Self, &AtomicBool) + Send) -> (Self, String) {
        let dir = |name: &str, guest: &str, mode: &str| {
            format!("{{ host = {:?}, guest = {guest:?}, mode = {mode:?} }}", self.path(name).display().to_string())
        };
        let (rw, ro) = (dir("rw", "/rw", "rw"), dir("ro", "/ro", "ro"));
        let limits = r#"limits = { cpu = "20s", wall = "60s" }"#;
        let app = App::new()
            .module("attack", guest, &format!("codec = \"wasio\"\nargs = [{arg:?}]\ndirs = [{rw}, {ro}]\n{limits}"))
            .route("/attack", "attack", "")
            .module(
                "neighbour",
                "inspect",
                &format!("dirs = [{}]\nenv = {{ OTHER = \"SECRET\" }}", dir("neighbour", "/data", "rw")),
            )
            .route("/neighbour", "neighbour", "")
            .module("other", "inspect", &format!("tenant = \"other\"\ndirs = [{}]", dir("secret", "/data", "rw")))
            .route("/other", "other", "tenant = \"other\"");
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--listen", "127.0.0.1:0"]).arg(app.write()).env("HOST_CANARY", "SECRET");
        let server = Fornax::spawn(&mut command);
        let before = self.kept();
        let stop = AtomicBool::new(false);
        let answer = thread::scope(|scope| {
            scope.spawn(|| meanwhile(&self, &stop));
            let answer = server.client().get("/attack");
            stop.store(true, Relaxed);
            answer
        });
        let text = answer.text();
        assert_eq!(answer.status, 200, "{guest}: {text}");
        assert!(!text.contains("SECRET"), "{guest} saw what is not its own:\n{text}");
        assert_eq!(self.kept(), before, "{guest} changed what is not its own:\n{text}");
        (self, text)
    }
}

/// Path, content, and what else would show that it was touched.
type Kept = (PathBuf, Vec<u8>, Option<(SystemTime, u64)>);

fn kept(dir: &Path) -> Vec<Kept> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| {
            let metadata = path.symlink_metadata().expect("it is there");
            let unchanged = metadata.modified().expect("a time");
            // What is granted to be written changes; that it is there does not.
            let unchanged = (!path.ends_with("rw")).then(|| (unchanged, metadata.nlink()));
            (path.clone(), fs::read(&path).unwrap_or_default(), unchanged)
        })
        .collect()
}

#[test]
fn no_way_leads_out_of_what_was_granted() {
    for guest in GUESTS {
        let ground = Ground::new();
        let root = ground.path("").display().to_string();
        let (_ground, text) = ground.attack(guest, root.trim_end_matches('/'), |_, _| {});
        let done: Vec<&str> = text.lines().filter(|line| line.starts_with("DONE ")).collect();
        assert!(done.is_empty(), "{guest}: {done:#?}");
        assert!(!text.contains("root:x:0"), "{guest} read the system's files:\n{text}");
        let refused = text.lines().filter(|line| line.starts_with("refused ")).count();
        note(&format!("{guest}: {refused} ways were refused"));
        assert!(refused >= WAYS_MIN, "{guest} tried only {refused}:\n{text}");
        // What is its own can be done: nothing was refused for another reason.
        for granted in [
            "environment: [] 1",
            "ro read: \"read me\\n\" 1",
            "symlink ../secret made-out-secret: () 1",
            "link passwd: () 1",
            "rename deep/er/made-secret: () 1",
            "rename deep/er: () 1",
        ] {
            assert!(text.lines().any(|line| line == granted), "{guest}: {granted} is missing in\n{text}");
        }
    }
}

/// Keeps changing `rw/swap` between a directory of the guest's and a link to one that is not.
fn keep_swapping(ground: &Ground, stop: &AtomicBool) {
    let (swap, aside, link) = (ground.path("rw/swap"), ground.path("rw/aside"), ground.path("rw/link-aside"));
    while !stop.load(Relaxed) {
        // Each step is atomic: `swap` is there as one or the other, or for a moment not at all. What fails has lost a race with the guest.
        let _ = fs::rename(&swap, &aside);
        let _ = symlink("../secret", &link);
        let _ = fs::rename(&link, &swap);
        thread::yield_now();
        let _ = fs::remove_file(&swap);
        let _ = fs::rename(&aside, &swap);
        let _ = fs::write(swap.join("key"), "mine\n");
    }
}

#[test]
fn what_is_swapped_while_a_guest_runs_leads_nowhere() {
    for guest in GUESTS {
        let (_ground, text) = Ground::new().attack(guest, "swap", keep_swapping);
        assert!(text.contains("both sides were seen: (true, true)"), "{guest}:\n{text}");
        assert!(text.contains("read: \"mine\\n\""), "{guest} never saw its own:\n{text}");
        // Of the other directory: neither that it is listed nor that a name is in it.
        let listed = text.lines().filter(|line| line.starts_with("list: ") || line.starts_with("stat: ()"));
        for line in listed {
            let names = line.strip_prefix("list: ").and_then(|rest| rest.split(' ').next());
            assert!(names.is_some_and(|names| names.parse::<u64>().unwrap_or(0) == 0), "{guest}: {line}");
        }
    }
}
