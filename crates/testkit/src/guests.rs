//! Where the guests are that `cargo xtask guests` built.

use std::env;
use std::path::PathBuf;

/// The component of the guest called `name` in `guests/`.
///
/// # Panics
///
/// If it has not been built.
pub fn guest(name: &str) -> PathBuf {
    let file = target_dir().join("guests").join(name).with_extension("wasm");
    assert!(file.is_file(), "no guest at {}: run `cargo xtask guests` first", file.display());
    file
}

/// `CARGO_TARGET_DIR`, else the folder three above the test that runs: `<target>/<profile>/deps/<test>`.
fn target_dir() -> PathBuf {
    if let Some(folder) = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute()) {
        return folder;
    }
    let test = env::current_exe().expect("the path of the running test");
    test.ancestors().nth(3).expect("a test in <target>/<profile>/deps").to_owned()
}
