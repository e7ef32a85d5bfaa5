//! Requests over TLS, with an authority of our own.

use std::net::IpAddr;
use std::sync::Arc;

use base::{Body, BoxFuture};
use bytes::Bytes;
use egress::{AllowList, Egress, EgressOptions, Error, Options, Policy, Resolver};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Every name is on loopback.
struct Loopback;

impl Resolver for Loopback {
    fn resolve(&self, _: &str) -> BoxFuture<std::io::Result<Vec<IpAddr>>> {
        Box::pin(async { Ok(vec![IpAddr::from([127, 0, 0, 1])]) })
    }
}

/// Serves `hello` as `good.test` and 127.0.0.1; returns its port and its authority.
async fn serve() -> (u16, CertificateDer<'static>) {
    let mut authority = CertificateParams::new([]).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let names = ["good.test".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).expect("parameters").signed_by(&key, &authority).expect("a certificate");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|_| async { Ok::<_, std::io::Error>(Response::new(Full::new(Bytes::from("hello")))) });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (port, authority.der().clone())
}

async fn get(egress: &Egress, url: &str) -> Result<Response<Body>, Error> {
    let entries = ["https://*:*".to_owned(), "https://127.0.0.1:*".to_owned()];
    let policy = Policy { tenant: "t".into(), allow: Arc::new(AllowList::parse(&entries).expect("good entries")) };
    let request = Request::get(url).body(Empty::<Bytes>::new()).expect("a request");
    egress.send(&policy, request, Options::default()).await
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_name() {
    let (port, authority) = serve().await;
    let options = || EgressOptions { resolver: Arc::new(Loopback), ..EgressOptions::default() };
    let trusting = Egress::new(EgressOptions { roots: vec![authority], ..options() }).expect("good options");
    for host in ["good.test", "127.0.0.1"] {
        let answer = get(&trusting, &format!("https://{host}:{port}/")).await.expect("an answer");
        assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), "hello");
    }
    let error = get(&trusting, &format!("https://bad.test:{port}/")).await.expect_err("another name");
    assert!(matches!(error, Error::TlsCertificate(_)), "{error:?}");

    let plain = Egress::new(options()).expect("good options");
    let error = get(&plain, &format!("https://good.test:{port}/")).await.expect_err("an unknown authority");
    assert!(matches!(error, Error::TlsCertificate(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_without_tls_is_a_tls_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    });
    let egress = Egress::new(EgressOptions::default()).expect("good options");
    let error = get(&egress, &format!("https://127.0.0.1:{port}/")).await.expect_err("not TLS");
    assert!(matches!(error, Error::Tls(_)), "{error:?}");
}

#[test]
fn an_authority_that_is_none_is_refused() {
    let options = EgressOptions { roots: vec![CertificateDer::from(vec![1, 2, 3])], ..EgressOptions::default() };
    assert!(matches!(Egress::new(options), Err(Error::TlsCertificate(_))));
}
