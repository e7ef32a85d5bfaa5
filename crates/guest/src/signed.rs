//! Compiled code that somebody vouches for: what `fornax compile --key` writes and `fornax run --trust` takes.
//!
//! Compiled code is native code, so it is taken from nobody but who holds a key that the operator names. The one who
//! runs it need not be able to sign, which is why this is a pair of keys and not a secret that both have
//! (`docs/decisions/0023-signed-code-carries-its-artifact.md`).
//!
//! The file carries the artifact beside its code, so a module that comes this way is what it would be if it was published: the same
//! digest, entries and imports, and it can be compiled anew. Its code is copied into the directory of compiled code while it is
//! checked, and gets a name there, and its own authentication code, only if the signature holds for every byte that was
//! copied. From there it is loaded as any other.

use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base::{Error, Kind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::{Context, SHA512};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

/// How a file begins. One that is laid out in another way needs another number.
const MAGIC: [u8; 16] = *b"fornax signed 1\0";

const KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;

/// The longest artifact, and the most code, of what `fornax compile` compiles.
const ARTIFACT_BYTES_MAX: u64 = 64 << 20;
const CODE_BYTES_MAX: u64 = 1 << 30;

/// A word for the engine and a number in hexadecimal digits.
const PURPOSE_BYTES_MAX: u64 = 64;

/// How much of the code is copied in one step.
const COPY_BYTES: usize = 64 << 10;

/// A public Ed25519 key in DER, up to the key itself (RFC 8410).
const PUBLIC_KEY_DER: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

const PRIVATE: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";

/// What signs code.
#[derive(Debug)]
pub struct SigningKey(Ed25519KeyPair);

/// Whose code is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedKey([u8; KEY_BYTES]);

impl SigningKey {
    /// Reads an Ed25519 key in PEM, as [`SigningKey::create`] or `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    ///
    /// [`Kind::Unprocessable`], a sentence with the path and what to do: also where others can read it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let Pem { label, der, mode } = read_pem(path)?;
        let key = Some(der).filter(|_| label == PRIVATE);
        let key = key.and_then(|der| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok()).ok_or_else(|| no_key(path))?;
        if mode & 0o077 != 0 {
            let path = path.display();
            let text =
                format!("the private key {path} can be read by others: make a new one, or `chmod 600 {path}` if nobody has");
            return Err(unprocessable(text));
        }
        Ok(Self(key))
    }

    /// Makes a key, in a file that only this user can read, and beside it the public one, which ends in `.pub`.
    ///
    /// # Errors
    ///
    /// [`Kind::Unprocessable`] if either file is there already, or cannot be written.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let write = |path: &Path, mode: u32, label: &str, der: &[u8]| {
            let body = Zeroizing::new(BASE64.encode(der));
            let text = Zeroizing::new(format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", *body));
            write_new(path, mode, text.as_bytes())
                .map_err(|error| unprocessable(format!("cannot make the key {}: {error}", path.display())))
        };
        let failed = |_| Error::new(Kind::Internal, "cannot make a key");
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(failed)?;
        let key = Self(Ed25519KeyPair::from_pkcs8(der.as_ref()).map_err(|_| Error::new(Kind::Internal, "cannot make a key"))?);
        write(path, 0o600, PRIVATE, der.as_ref())?;
        let public = [&PUBLIC_KEY_DER, key.public().0.as_slice()].concat();
        write(&public_path(path), 0o644, PUBLIC, &public).inspect_err(|_| {
            // Both or none; what went wrong is the first error.
            let _ = fs::remove_file(path);
        })?;
        Ok(key)
    }

    /// The key by which others know what this one signed.
    pub fn public(&self) -> TrustedKey {
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(self.0.public_key().as_ref());
        TrustedKey(key)
    }

    /// A file of an artifact and its code.
    pub(crate) fn seal(&self, purpose: &str, artifact: &[u8], code: &[u8]) -> Vec<u8> {
        let head = head(purpose, artifact.len() as u64, code.len() as u64);
        let public = self.public();
        let mut context = context(&public);
        [&head, artifact, code].into_iter().for_each(|part| context.update(part));
        let signature = self.0.sign(context.finish().as_ref());
        [&MAGIC, public.0.as_slice(), signature.as_ref(), &head, artifact, code].concat()
    }
}

impl TrustedKey {
    /// Reads a public key in PEM, or the public half of a private one.
    ///
    /// # Errors
    ///
    /// [`Kind::Unprocessable`], a sentence with the path and what to do.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let Pem { label, der, .. } = read_pem(path)?;
        if label == PRIVATE {
            return SigningKey::read(path).map(|key| key.public());
        }
        let key = der.strip_prefix(&PUBLIC_KEY_DER).and_then(|key| <[u8; KEY_BYTES]>::try_from(key).ok());
        key.filter(|_| label == PUBLIC).map(Self).ok_or_else(|| no_key(path))
    }
}

/// Where the public half of a key is.
pub fn public_path(key: &Path) -> PathBuf {
    let mut path = key.as_os_str().to_owned();
    path.push(".pub");
    path.into()
}

/// A file that says it is signed. What it says holds only when [`Signed::verified`] has gone through all of it.
#[derive(Debug)]
pub struct Signed {
    file: BufReader<File>,
    signer: TrustedKey,
    signature: [u8; SIGNATURE_BYTES],
    context: SignedContext,
    purpose: String,
    artifact: Vec<u8>,
    code_bytes: u64,
}

/// Hides what is in it from `Debug`.
struct SignedContext(Context);

impl std::fmt::Debug for SignedContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignedContext")
    }
}

impl Signed {
    /// Opens a file and reads its artifact; none if it does not say that it is signed, or is no file.
    ///
    /// # Errors
    ///
    /// [`Kind::Unprocessable`] if it is cut off, or says what cannot be.
    pub fn open(path: &Path) -> Result<Option<Self>, Error> {
        // Before it is opened: opening a pipe would wait for its writer. What is no file is explained by who reads it next.
        let size = fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len());
        let Some(size) = size else { return Ok(None) };
        let Ok(file) = File::open(path) else { return Ok(None) };
        let mut file = BufReader::with_capacity(COPY_BYTES, file);
        let mut magic = [0; MAGIC.len()];
        if file.read_exact(&mut magic).is_err() || magic != MAGIC {
            return Ok(None);
        }
        Self::read(file, size).map(Some).map_err(|error| error.within(&path.display().to_string()))
    }

    fn read(mut file: BufReader<File>, size: u64) -> Result<Self, Error> {
        let (mut signer, mut signature) = ([0; KEY_BYTES], [0; SIGNATURE_BYTES]);
        exactly(&mut file, &mut signer)?;
        exactly(&mut file, &mut signature)?;
        let mut number = || {
            let mut bytes = [0; 8];
            exactly(&mut file, &mut bytes).map(|()| u64::from_le_bytes(bytes))
        };
        let (purpose_bytes, artifact_bytes, code_bytes) = (number()?, number()?, number()?);
        if purpose_bytes > PURPOSE_BYTES_MAX || artifact_bytes > ARTIFACT_BYTES_MAX || code_bytes > CODE_BYTES_MAX {
            return Err(unprocessable("what it says of its size cannot be: it was changed".to_owned()));
        }
        let before = (MAGIC.len() + KEY_BYTES + SIGNATURE_BYTES + 3 * size_of::<u64>()) as u64;
        match size.cmp(&(before + purpose_bytes + artifact_bytes + code_bytes)) {
            std::cmp::Ordering::Less => return Err(cut_off()),
            std::cmp::Ordering::Greater => return Err(unprocessable("it has bytes behind its end: it was changed".to_owned())),
            std::cmp::Ordering::Equal => {}
        }
        let mut take = |count: u64| {
            let mut bytes = vec![0; usize::try_from(count).unwrap_or_default()];
            exactly(&mut file, &mut bytes).map(|()| bytes)
        };
        let (purpose, artifact) = (take(purpose_bytes)?, take(artifact_bytes)?);
        let purpose = String::from_utf8_lossy(&purpose).into_owned();
        let signer = TrustedKey(signer);
        let mut context = context(&signer);
        context.update(&head(&purpose, artifact_bytes, code_bytes));
        context.update(&artifact);
        Ok(Self { file, signer, signature, context: SignedContext(context), purpose, artifact, code_bytes })
    }

    /// The artifact, as far as it can be believed so far.
    pub fn artifact(&self) -> &[u8] {
        &self.artifact
    }

    /// Which engine the code is for, as far as it can be believed so far.
    pub(crate) fn purpose(&self) -> &str {
        &self.purpose
    }

    /// Copies the code, and returns the artifact, if `key` signed both. On an error nothing of what was copied may be used.
    pub(crate) fn verified(mut self, key: TrustedKey, into: &mut dyn Write) -> Result<Vec<u8>, Error> {
        if self.signer != key {
            return Err(unprocessable("it is signed with another key than the one that is trusted".to_owned()));
        }
        let mut bytes = vec![0; COPY_BYTES];
        let mut left = self.code_bytes;
        while left > 0 {
            let step = usize::try_from(left).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
            exactly(&mut self.file, &mut bytes[..step])?;
            self.context.0.update(&bytes[..step]);
            into.write_all(&bytes[..step])
                .map_err(|error| Error::new(Kind::Internal, "cannot write compiled code").caused_by(error))?;
            left -= step as u64;
        }
        let signed = self.context.0.finish();
        UnparsedPublicKey::new(&ED25519, key.0)
            .verify(signed.as_ref(), &self.signature)
            .map_err(|_| unprocessable("it is not as it was signed: somebody changed it".to_owned()))?;
        Ok(self.artifact)
    }
}

/// What stands in front of an artifact and its code.
fn head(purpose: &str, artifact_bytes: u64, code_bytes: u64) -> Vec<u8> {
    let numbers = [purpose.len() as u64, artifact_bytes, code_bytes];
    [numbers.map(u64::to_le_bytes).concat(), purpose.as_bytes().to_vec()].concat()
}

/// Of all that is signed, which is hashed since it need not be in memory at once.
fn context(signer: &TrustedKey) -> Context {
    let mut context = Context::new(&SHA512);
    context.update(&MAGIC);
    context.update(&signer.0);
    context
}

fn exactly(file: &mut impl Read, bytes: &mut [u8]) -> Result<(), Error> {
    file.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => cut_off(),
        _ => unprocessable("it cannot be read".to_owned()).caused_by(error),
    })
}

fn cut_off() -> Error {
    unprocessable("it is cut off".to_owned())
}

/// Writes a file that is not there yet, whole or not at all.
fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".new-").permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
    file.write_all(bytes)?;
    // What was signed with a key that a power cut took is signed with none.
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map(drop).map_err(|error| error.error)
}

/// The first block of a PEM file.
struct Pem {
    label: String,
    der: Zeroizing<Vec<u8>>,
    /// Of the file.
    mode: u32,
}

fn read_pem(path: &Path) -> Result<Pem, Error> {
    /// A key has some hundred.
    const BYTES_MAX: u64 = 16 << 10;
    // With room from the start: what grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(BYTES_MAX as usize));
    // Before it is opened: opening a pipe would wait for its writer.
    let is_file = |metadata: fs::Metadata| metadata.is_file().then_some(()).ok_or_else(|| io::Error::other("it is no file"));
    let read = fs::metadata(path).and_then(is_file).and_then(|()| File::open(path)).and_then(|file| {
        let mode = file.metadata()?.permissions().mode();
        file.take(BYTES_MAX).read_to_string(&mut text).map(|_| mode)
    });
    let mode = read.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => unprocessable(format!("there is no key {}. {HOW}", path.display())),
        io::ErrorKind::InvalidData => no_key(path),
        _ => unprocessable(format!("the key {} cannot be read: {error}", path.display())),
    })?;
    let block = || {
        let (_, rest) = text.split_once("-----BEGIN ")?;
        let (label, rest) = rest.split_once("-----")?;
        let (body, _) = rest.split_once("-----END ")?;
        let mut joined = Zeroizing::new(String::with_capacity(body.len()));
        joined.extend(body.split_whitespace());
        Some(Pem { label: label.to_owned(), der: Zeroizing::new(BASE64.decode(joined.as_bytes()).ok()?), mode })
    };
    block().ok_or_else(|| no_key(path))
}

const HOW: &str = "`fornax compile FILE --key KEY --new-key` makes one, as `openssl genpkey -algorithm ed25519` does";

fn no_key(path: &Path) -> Error {
    unprocessable(format!("{} is no Ed25519 key in PEM. {HOW}", path.display()))
}

fn unprocessable(text: String) -> Error {
    Error::new(Kind::Unprocessable, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARTIFACT: &[u8] = b"\0asm\x01\0\0\0 not all of it";
    const CODE: &[u8] = b"native code, as it were";

    fn key(folder: &Path, name: &str) -> SigningKey {
        SigningKey::create(&folder.join(name)).expect("made")
    }

    /// What comes of a file with these bytes: the artifact and the code.
    fn opened(folder: &Path, bytes: &[u8], trusted: TrustedKey) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let path = folder.join("code");
        fs::write(&path, bytes).expect("written");
        let signed = Signed::open(&path)?.ok_or_else(|| unprocessable("it does not say that it is signed".to_owned()))?;
        let mut code = Vec::new();
        let artifact = signed.verified(trusted, &mut code)?;
        Ok((artifact, code))
    }

    #[test]
    fn what_is_signed_is_taken_from_who_is_trusted_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (key(folder.path(), "one"), key(folder.path(), "other"));
        let good = one.seal("plain-1", ARTIFACT, CODE);
        assert_eq!(opened(folder.path(), &good, one.public()).expect("taken"), (ARTIFACT.to_vec(), CODE.to_vec()));
        let error = opened(folder.path(), &good, other.public()).expect_err("of another").to_string();
        assert_eq!(error, "it is signed with another key than the one that is trusted");
        // As somebody who says it is of whom one trusts, and cannot sign.
        let mut forged = other.seal("plain-1", ARTIFACT, CODE);
        forged[MAGIC.len()..MAGIC.len() + KEY_BYTES].copy_from_slice(&one.public().0);
        let error = opened(folder.path(), &forged, one.public()).expect_err("forged").to_string();
        assert_eq!(error, "it is not as it was signed: somebody changed it");
    }

    #[test]
    fn no_byte_can_be_changed_nor_any_be_missing_or_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = key(folder.path(), "key");
        let good = key.seal("plain-1", ARTIFACT, CODE);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(opened(folder.path(), &bad, key.public()).is_err(), "bit {bit} of byte {at}");
            }
            assert!(opened(folder.path(), &good[..at], key.public()).is_err(), "{at} bytes");
            let more = [&good[..at], &[0], &good[at..]].concat();
            assert!(opened(folder.path(), &more, key.public()).is_err(), "one more at {at}");
        }
        // What is moved from the artifact to the code is signed otherwise.
        let moved = key.seal("plain-1", &ARTIFACT[..8], &[&ARTIFACT[8..], CODE].concat());
        assert_ne!(moved[MAGIC.len() + KEY_BYTES..][..SIGNATURE_BYTES], good[MAGIC.len() + KEY_BYTES..][..SIGNATURE_BYTES]);
    }

    #[test]
    fn keys_are_pem_files_of_either_half() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let key = SigningKey::create(&path).expect("made");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(SigningKey::read(&path).expect("read").public(), key.public());
        assert_eq!(TrustedKey::read(&path).expect("read"), key.public());
        assert_eq!(TrustedKey::read(&public_path(&path)).expect("read"), key.public());
        let text = |result: Result<SigningKey, Error>| result.expect_err("no key").to_string();
        assert!(text(SigningKey::create(&path)).contains("cannot make the key"), "it is not replaced");
        let (half, taken) = (folder.path().join("half"), folder.path().join("half.pub"));
        fs::write(&taken, "").expect("written");
        assert!(text(SigningKey::create(&half)).contains("half.pub: File exists"));
        assert!(!half.exists(), "both or none");
        let files = || fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(files(), 3, "nothing half-way is left");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("changed");
        assert!(text(SigningKey::read(&path)).contains("can be read by others: make a new one"));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("changed");
        assert!(text(SigningKey::read(&public_path(&path))).contains("is no Ed25519 key in PEM"), "the wrong half");
        assert!(text(SigningKey::read(&folder.path().join("none"))).contains("there is no key"));
        fs::write(&path, b"\xff\xfe").expect("written");
        assert!(text(SigningKey::read(&path)).contains("is no Ed25519 key in PEM"));
        // The two halves as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them (RFC 8410, section 10).
        let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        fs::write(&path, private).and_then(|()| fs::write(folder.path().join("public"), public)).expect("written");
        assert_eq!(
            TrustedKey::read(&folder.path().join("public")).expect("read"),
            SigningKey::read(&path).expect("read").public()
        );
    }
}
