//! Where the guests are that `cargo xtask guests` built.

use std::env;
use std::path::PathBuf;

/// The program of the guest called `name` in `guests/`.
///
/// # Panics
///
/// If it has not been built.
pub fn guest(name: &str) -> PathBuf {
    built(name).unwrap_or_else(|| panic!("no guest at {}: run `cargo xtask guests` first", file(name).display()))
}

/// The same, or none where it has not been built.
pub fn built(name: &str) -> Option<PathBuf> {
    Some(file(name)).filter(|file| file.is_file())
}

fn file(name: &str) -> PathBuf {
    target_dir().join("guests").join(format!("{name}.wasm"))
}

/// `CARGO_TARGET_DIR`, else the folder three above the test that runs: `<target>/<profile>/deps/<test>`.
fn target_dir() -> PathBuf {
    if let Some(folder) = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute()) {
        return folder;
    }
    let test = env::current_exe().expect("the path of the running test");
    test.ancestors().nth(3).expect("a test in <target>/<profile>/deps").to_owned()
}
