//! TLS: both protocols by ALPN, what guests see, files that are wrong, and a certificate that is replaced.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use testkit::{App, DEADLINE, Fornax, note, run_to_end};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::FORNAX;
use crate::client::{Client, in_time, wait_until};

const TLS: &str = "tls = { cert = \"cert.pem\", key = \"key.pem\" }";

/// Writes a new certificate and its key beside the app. Whoever trusts it is returned.
fn certify(app: &App, cert: &str, key: &str) -> CertificateDer<'static> {
    let CertifiedKey { cert: certificate, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    app.file(key, signing_key.serialize_pem().as_bytes());
    app.file(cert, certificate.pem().as_bytes());
    certificate.der().clone()
}

/// Connects, offers these protocols, and says which was chosen.
async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    offered: &[&str],
) -> std::io::Result<(TlsStream<TcpStream>, Option<String>)> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = in_time(TlsConnector::from(Arc::new(config)).connect(name, stream)).await?;
    let chosen = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    Ok((stream, chosen))
}

async fn http2(address: SocketAddr, trusted: &CertificateDer<'static>) -> Client {
    let (stream, chosen) = connect(address, trusted, &["h2", "http/1.1"]).await.expect("TLS");
    assert_eq!(chosen.as_deref(), Some("h2"));
    Client::over(stream, "https://localhost", &h2::client::Builder::new()).await
}

/// Sends a request of HTTP/1 and reads to the end of the connection.
async fn http1(mut stream: TlsStream<TcpStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("it is taken");
    let mut answer = Vec::new();
    in_time(stream.read_to_end(&mut answer)).await.expect("an orderly end");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_protocol_is_what_the_client_chooses() {
    let app = App::new().server(TLS).module("inspect", "inspect", "").route("/inspect", "inspect", "");
    let app = app.module("echo", "echo", "").route("/echo", "echo", "");
    let trusted = certify(&app, "cert.pem", "key.pem");
    let mut fornax = Fornax::run(FORNAX, app.write(), &[]);
    let first = format!("listening on https://{}", fornax.addr());
    assert_eq!(fornax.log()[0], first);

    let mut client = http2(fornax.addr(), &trusted).await;
    let seen = client.get("/inspect").await.text();
    assert!(seen.contains("\"scheme\": \"https\"") && seen.contains("\"authority\": \"localhost\""), "{seen}");
    let body = Bytes::from(vec![7; 2_000_000]);
    let answer = client.post("/echo", &body.chunks(60_000).map(Bytes::copy_from_slice).collect::<Vec<_>>(), None).await;
    assert!(answer.status == 200 && answer.body == body, "{} bytes", answer.body.len());
    assert_eq!(client.ask(http::Request::get("http://localhost/inspect")).await.status, 400, "another scheme");

    for offered in [&["http/1.1"][..], &[]] {
        let (stream, chosen) = connect(fornax.addr(), &trusted, offered).await.expect("TLS");
        assert_eq!(chosen.as_deref(), offered.first().copied());
        let request = "GET /inspect HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let answer = http1(stream, request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"scheme\": \"https\""), "{answer}");
        assert!(answer.contains("\"authority\": \"localhost\""), "{answer}");
    }
    let refused = connect(fornax.addr(), &trusted, &["spdy/3"]).await.expect_err("nothing in common");
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");

    // In the clear there is nothing here, and nobody is hurt by who tries.
    let mut plain = fornax.client();
    plain.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("it is taken");
    let answer = plain.read_to_end().expect("an end");
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(client.get("/inspect").await.status, 200);
    fornax.terminate();
    assert_eq!(client.ended().await, None);
    assert_eq!(fornax.wait().code(), Some(0));
}

#[tokio::test]
async fn a_program_behind_cgi_is_told() {
    let app = App::new().server(TLS).module("cgi", "cgi-echo", "codec = \"cgi\"");
    let trusted = certify(&app, "cert.pem", "key.pem");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let told = http2(fornax.addr(), &trusted).await.get("/").await.text();
    for line in ["SERVER_PORT=443", "SERVER_PROTOCOL=HTTP/2.0"] {
        assert!(told.contains(line), "{line} in {told}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_shown_to_who_comes_next() {
    let app = App::new().server(TLS).module("hello", "hello-wasip2", "");
    let old = certify(&app, "cert.pem", "key.pem");
    let fornax = Fornax::run(FORNAX, app.write(), &["--watch"]);
    let mut client = http2(fornax.addr(), &old).await;
    assert_eq!(client.get("/").await.status, 200);

    // For a moment the files do not fit, which changes nothing.
    let new = certify(&app, "cert.pem", "key.pem");
    wait_until("the new one is shown", async || connect(fornax.addr(), &new, &["h2"]).await.is_ok()).await;
    connect(fornax.addr(), &old, &["h2"]).await.expect_err("the old one is not");
    assert_eq!(client.get("/").await.status, 200, "who was there stays");
    app.file("cert.pem", b"nothing");
    fornax.wait_for_log(|line| line.starts_with("error: no certificate in `"), DEADLINE);
    assert_eq!(http2(fornax.addr(), &new).await.get("/").await.status, 200);
}

#[tokio::test]
async fn who_says_nothing_is_left_after_ten_seconds() {
    let app = App::new().server(TLS).module("hello", "hello-wasip2", "");
    let trusted = certify(&app, "cert.pem", "key.pem");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let began = Instant::now();
    let mut silent = TcpStream::connect(fornax.addr()).await.expect("somebody listens");
    assert_eq!(http2(fornax.addr(), &trusted).await.get("/").await.status, 200);
    assert_eq!(in_time(silent.read(&mut [0; 1])).await.expect("an end"), 0);
    note(&format!("left after {:?}", began.elapsed()));
    assert!((9..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

/// What `fornax run` says of these two files.
fn refusal(app: &App, cert: &Path, key: &Path) -> String {
    let mut command = Command::new(FORNAX);
    command.arg("run").arg(testkit::guest("hello-wasip2")).args(["--listen", "127.0.0.1:0", "--tls-cert"]).arg(cert);
    let finished = run_to_end(command.arg("--tls-key").arg(key));
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{}", finished.stderr);
    finished.stderr.replace(app.folder().to_str().expect("UTF-8"), "DIR")
}

#[test]
fn files_that_are_wrong_are_explained() {
    let app = App::new();
    certify(&app, "cert.pem", "key.pem");
    certify(&app, "other.pem", "other.key");
    app.file("broken.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (cert, key, sentence) in [
        ("none.pem", "key.pem", "no certificate at `DIR/none.pem`; `tls` names two files, `cert` and `key`"),
        ("cert.pem", "none.key", "no key at `DIR/none.key`; `tls` names two files, `cert` and `key`"),
        ("key.pem", "cert.pem", "no certificate in `DIR/key.pem`; it is PEM, which begins with `-----BEGIN CERTIFICATE-----`"),
        (
            "cert.pem",
            "other.pem",
            "no private key in `DIR/other.pem`; it is PEM, which begins with `-----BEGIN PRIVATE KEY-----`, and is not encrypted",
        ),
        (
            "cert.pem",
            "other.key",
            "the key in `DIR/other.key` does not belong to the certificate in `DIR/cert.pem`; name the one it was made with",
        ),
        ("broken.pem", "key.pem", "bad certificate in `DIR/broken.pem`: BadEncoding"),
        (".", "key.pem", "cannot read the certificate `DIR/.`: Is a directory (os error 21)"),
    ] {
        let said = refusal(&app, &app.folder().join(cert), &app.folder().join(key));
        assert_eq!(said.lines().next(), Some(format!("error: {sentence}").as_str()), "{said}");
    }
}
