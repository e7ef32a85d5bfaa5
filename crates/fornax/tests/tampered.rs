//! Whoever can write into the directory of compiled code, and does not know the key beside it, has nothing of theirs loaded: what they
//! put there is found out, counted, said once, and compiled again.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::{App, Client, Fornax};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");
const SOON: Duration = Duration::from_secs(60);

const GUESTS: [&str; 6] = ["hello-wasip2", "hello-wstd", "hello-wasip3", "echo", "inspect", "multi"];

fn app() -> App {
    GUESTS.iter().fold(App::new().server("metrics = \"/metrics\""), |app, name| {
        app.module(name, name, "entry = \"http\"").route(&format!("/{name}"), name, "")
    })
}

fn metric(client: &mut Client, name: &str) -> u64 {
    let metrics = client.get("/metrics").text();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().expect("a number"))
}

/// The files of compiled code.
fn code(data: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join("compiled-code")).expect("a folder").map(|file| file.expect("a file").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "cwasm")).collect();
    files.sort();
    files
}

fn put(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).and_then(|()| fs::write(path, bytes)).expect("written");
}

#[test]
fn what_somebody_put_there_is_not_loaded() {
    let app = app();
    let data = app.folder().join("data");
    let serve = || {
        let fornax = Fornax::run(FORNAX, app.write(), &["--data", data.to_str().expect("UTF-8")]);
        let mut client = fornax.client();
        let statuses: Vec<_> = GUESTS.iter().map(|name| client.get(&format!("/{name}")).status).collect();
        (fornax, client, statuses)
    };
    let (fornax, mut client, good) = serve();
    assert!(good.iter().all(|status| *status < 500), "{good:?}");
    assert_eq!(metric(&mut client, "fornax_compilations_total{outcome=\"compiled\"}"), GUESTS.len() as u64);
    drop(fornax);
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let files = code(&data);
    assert_eq!(files.len(), GUESTS.len());
    assert_eq!((mode(&data.join("compiled-code")), mode(&data.join("compiled-code.key"))), (0o700, 0o400));
    assert!(files.iter().all(|file| mode(file) == 0o400));

    let (fornax, mut client, again) = serve();
    assert_eq!(
        (again, metric(&mut client, "fornax_compilations_total{outcome=\"compiled\"}")),
        (good.clone(), 0),
        "all of it is kept"
    );
    drop(fornax);

    let contents: Vec<_> = files.iter().map(|file| fs::read(file).expect("a file")).collect();
    let mut bit = contents[0].clone();
    let middle = bit.len() / 2;
    bit[middle] ^= 1;
    put(&files[0], &bit);
    put(&files[1], &contents[1][..contents[1].len() - 1]);
    put(&files[2], &[contents[2].as_slice(), b"more"].concat());
    // The right code of another module, with its authentication code.
    put(&files[3], &contents[4]);
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
    let (for_what, _) = name(&files[4]).split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("two parts");
    let (_, of_other) = name(&files[5]).split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("two parts");
    let swapped = files[4].with_file_name(format!("{for_what}.{of_other}"));
    fs::remove_file(&files[4]).and_then(|()| fs::write(&swapped, &contents[5])).expect("written");
    // Elsewhere, where somebody else could change it.
    let elsewhere = app.file("elsewhere", &contents[5]);
    fs::remove_file(&files[5]).and_then(|()| symlink(&elsewhere, &files[5])).expect("a link");

    let (fornax, mut client, again) = serve();
    assert_eq!(again, good, "each is served");
    assert_eq!(metric(&mut client, "fornax_code_rejected_total"), GUESTS.len() as u64);
    assert_eq!(metric(&mut client, "fornax_compilations_total{outcome=\"compiled\"}"), GUESTS.len() as u64);
    fornax.wait_for_log(|line| line.contains("compiled code is not as it was written"), SOON);
    for file in files.iter().take(4).chain([&swapped, &files[5]]) {
        let said = fornax.log().iter().filter(|line| line.contains(&name(file))).count();
        assert_eq!(said, 1, "{} is said once:\n{}", file.display(), fornax.log().join("\n"));
    }
    assert_eq!(fs::read(elsewhere).expect("a file"), contents[5], "what a link led to is left alone");
    drop(fornax);
    assert_eq!(code(&data), files, "the right code is there again");
    let now: Vec<_> = files.iter().map(|file| fs::read(file).expect("a file")).collect();
    assert!(now == contents);
}
