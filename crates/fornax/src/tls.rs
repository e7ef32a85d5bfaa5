//! The certificate and the key that `[server] tls` names, from disk.

use std::io::ErrorKind;
use std::path::Path;

use base::{Error, Kind};
use front::http::{Tls, TlsFault};

use crate::config::TlsFiles;

/// Bytes of each file: some hundred certificates.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads both files.
///
/// # Errors
///
/// [`Kind::Unprocessable`] with a sentence that says which file is wrong, and what to do.
pub(crate) fn read(files: &TlsFiles) -> Result<Tls, Error> {
    let (certificate, private_key) = (read_file("certificate", &files.cert)?, read_file("key", &files.key)?);
    let (cert, key) = (files.cert.display(), files.key.display());
    Tls::from_pem(&certificate, &private_key).map_err(|fault| {
        let text = match fault {
            TlsFault::NoCertificate => {
                format!("no certificate in `{cert}`; it is PEM, which begins with `-----BEGIN CERTIFICATE-----`")
            }
            TlsFault::BadCertificate(why) => format!("bad certificate in `{cert}`: {why}"),
            TlsFault::NoKey => format!(
                "no private key in `{key}`; it is PEM, which begins with `-----BEGIN PRIVATE KEY-----`, and is not encrypted"
            ),
            TlsFault::BadKey(why) => format!("bad private key in `{key}`: {why}"),
            TlsFault::OtherKey => {
                format!("the key in `{key}` does not belong to the certificate in `{cert}`; name the one it was made with")
            }
        };
        Error::new(Kind::Unprocessable, text)
    })
}

fn read_file(what: &str, file: &Path) -> Result<Vec<u8>, Error> {
    registry::read_file(file, FILE_BYTES_MAX).map_err(|error| {
        let name = file.display();
        let text = match error.kind() {
            ErrorKind::NotFound => format!("no {what} at `{name}`; `tls` names two files, `cert` and `key`"),
            _ => format!("cannot read the {what} `{name}`: {error}"),
        };
        Error::new(Kind::Unprocessable, text)
    })
}
