//! What a process compiled, the next one loads; what somebody else put there, none does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use testkit::{App, Fornax, guest};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");
const SOON: Duration = Duration::from_secs(60);

/// The files of compiled code, and when they were written or last used.
fn code(data: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let entries = fs::read_dir(data.join("compiled-code")).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.map(|path| (path.clone(), fs::metadata(path).and_then(|at| at.modified()).expect("a time"))).collect()
}

/// Serves a guest of three megabytes, asks it once, and says how long the first answer took from the start.
fn serve(data: &Path) -> (Duration, Fornax) {
    let began = Instant::now();
    let data = data.to_str().expect("UTF-8");
    let fornax = Fornax::run(FORNAX, guest("ignis-json"), &["--codec", "ignis", "--data", data]);
    let answer = fornax.client().get("/");
    assert_eq!(answer.status, 200);
    (began.elapsed(), fornax)
}

#[test]
fn what_was_compiled_is_loaded_again() {
    let app = App::new();
    let data = app.folder().join("data");
    let (compiled_in, fornax) = serve(&data);
    drop(fornax);
    let before = code(&data);
    assert_eq!(before.len(), 1);
    let (loaded_in, fornax) = serve(&data);
    drop(fornax);
    let after = code(&data);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert!(before.values().lt(after.values()), "it was used");
    // A hundredth in a quiet machine.
    assert!(loaded_in < compiled_in / 2, "{loaded_in:?} and {compiled_in:?}");
}

#[test]
fn what_was_changed_is_compiled_again() {
    let app = App::new();
    let data = app.folder().join("data");
    drop(serve(&data));
    let (file, _) = code(&data).pop_first().expect("a file");
    let mut bytes = fs::read(&file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&file).and_then(|()| fs::write(&file, &bytes)).expect("written");
    let (_, fornax) = serve(&data);
    fornax.wait_for_log(|line| line.contains("compiled code is not as it was written"), SOON);
    assert_ne!(fs::read(&file).expect("a file"), bytes, "the right code is there again");
}
