//! What benchmarks ask for beside the hello: a benchmark of a wrong answer measures nothing.

use testkit::{App, Body, Fornax};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

#[test]
fn fields_come_back_and_turns_are_counted() {
    let app = App::new().module("work", "work", "").route("/*", "work", "");
    let fornax = Fornax::run(PROGRAM, app.write(), &[]);
    let mut client = fornax.client();
    let sent = [("x-bench-0", "a"), ("x-other", "b"), ("x-bench-1", "c")];
    let answer = client.request("GET", "/headers", &sent, Body::None);
    assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from Fornax!\n"));
    let fields = ["x-bench-0", "x-bench-1", "x-other"].map(|name| answer.header(name));
    assert_eq!(fields, [Some("a"), Some("c"), None]);
    // As `bench::spin` has it.
    assert_eq!(client.get("/spin?rounds=1").text(), "dc1b77ae0bf34dad\n");
    assert_eq!(client.get("/spin?rounds=1000").text(), "56b663219f6e38f5\n");
    assert_eq!(client.get("/").status, 404);
}
