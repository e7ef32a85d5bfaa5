//! What a process compiled, the next one loads; what somebody else put there, none does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use testkit::{App, Fornax, guest};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");
const SOON: Duration = Duration::from_secs(60);

/// The files of compiled code by their number, which a file that is written anew has not, and when they were last used.
fn code(data: &Path) -> BTreeMap<(PathBuf, u64), SystemTime> {
    let entries = fs::read_dir(data.join("compiled-code")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let entries = entries.filter(|path| path.extension().is_some_and(|end| end == "cwasm"));
    entries
        .map(|path| {
            let metadata = fs::metadata(&path).expect("a file");
            ((path, metadata.ino()), metadata.modified().expect("a time"))
        })
        .collect()
}

/// Serves a guest and asks it once.
fn serve(data: &Path) -> Fornax {
    let data = data.to_str().expect("UTF-8");
    let fornax = Fornax::run(FORNAX, guest("hello-wasip2"), &["--data", data]);
    assert_eq!(fornax.client().get("/").status, 200);
    fornax
}

#[test]
fn what_was_compiled_is_loaded_again() {
    let app = App::new();
    let data = app.folder().join("data");
    drop(serve(&data));
    let before = code(&data);
    assert_eq!(before.len(), 1);
    drop(serve(&data));
    let after = code(&data);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "written once");
    assert!(before.values().lt(after.values()), "it was used");
}

#[test]
fn what_was_changed_is_compiled_again() {
    let app = App::new();
    let data = app.folder().join("data");
    drop(serve(&data));
    let ((file, _), _) = code(&data).pop_first().expect("a file");
    let mut bytes = fs::read(&file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&file).and_then(|()| fs::write(&file, &bytes)).expect("written");
    let fornax = serve(&data);
    fornax.wait_for_log(|line| line.contains("compiled code is not as it was written"), SOON);
    assert_ne!(fs::read(&file).expect("a file"), bytes, "the right code is there again");
}
