//! `fornax doctor`: what the machine carries, in words and for programs, in small machines too.

use std::process::Command;

use serde_json::Value;
use testkit::run_to_end;

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

/// What it says of a process with these limits, in the words of the shell's `ulimit`.
fn examined(limits: &str) -> Value {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{limits}; exec {FORNAX} doctor --json"));
    let finished = run_to_end(&mut shell);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&finished.stdout).expect("JSON")
}

#[test]
fn the_machine_and_the_pool_are_said() {
    let report = examined(":");
    let number =
        |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} in {report:#}"));
    for pointer in [
        "/machine/processors",
        "/machine/memory_bytes",
        "/machine/mappings",
        "/pool/calls",
        "/pool/calls_each",
        "/pool/modules_loaded",
        "/pool/guests",
        "/pool/warm",
        "/call_ns",
    ] {
        assert!(number(pointer) > 0, "{pointer} in {report:#}");
    }
    assert_eq!(report["error"], Value::Null);

    let finished = run_to_end(Command::new(FORNAX).arg("doctor"));
    assert_eq!(finished.code, Some(0));
    let calls = format!("{} (bounded by ", number("/pool/calls"));
    assert!(finished.stdout.contains(&calls), "{}", finished.stdout);
}

#[test]
fn what_is_limited_makes_a_smaller_pool_that_starts_all_the_same() {
    let report = examined("ulimit -n 256; ulimit -v 1073741824");
    assert_eq!(report["machine"]["open_files"], 256);
    assert_eq!(report["machine"]["address_space_bytes"], 1_u64 << 40);
    assert_eq!(report["pool"]["bound_by"], "address space");
    assert!(report["pool"]["guests"].as_u64().is_some_and(|guests| (16..256).contains(&guests)), "{report:#}");
    let advice = report["advice"].to_string();
    assert!(advice.contains("ulimit -v") && advice.contains("ulimit -n 65536"), "{advice}");
}
