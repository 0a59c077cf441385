//! Signing secrets and settings at rest: XChaCha20-Poly1305 under keys from the configuration or a key file.
//!
//! Every ciphertext carries the id of its key. The first key encrypts, all of them decrypt, so that a key is rotated by putting a
//! new one in front; the others can go when everything is [encrypted anew](super::reseal). The subscription is authenticated along: a ciphertext moved to another row does not open.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Generate, Payload},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::{
    handshake::Challenge,
    id::SubscriptionUid,
    secret::{KeyPair, SecretKind, SigningSecret},
};

/// The nonce stands in front of the ciphertext: 192 random bits, which do not repeat.
const NONCE_LENGTH: usize = 24;

/// An encryption key: 32 bytes in base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EncryptionKey([u8; 32]);

impl EncryptionKey {
    /// Draws a key.
    #[must_use]
    pub fn generate() -> Self {
        Self(Key::generate().into())
    }

    /// Names the key without telling it.
    fn id(&self) -> String {
        Sha256::digest(self.0)[..8].iter().fold(String::new(), |id, byte| id + &format!("{byte:02x}"))
    }
}

impl FromStr for EncryptionKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| "is not base64")?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| "is not 32 bytes in base64; `openssl rand -base64 32` makes one")
    }
}

impl TryFrom<String> for EncryptionKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EncryptionKey> for String {
    fn from(_: EncryptionKey) -> Self {
        "[redacted]".to_owned()
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why a secret or a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ciphertext's key is not at hand.
    #[error("it is encrypted with the key {0}, which is not configured")]
    UnknownKey(String),
    /// The ciphertext was altered, moved or cut.
    #[error("its ciphertext does not open")]
    Sealed,
    /// The key file cannot be read or written.
    #[error("the key file {path} cannot be used")]
    File {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// The key file holds something else.
    #[error("the key file {path} {reason}")]
    NotAKey {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

/// A secret, encrypted.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    pub(super) key_id: String,
    pub(super) ciphertext: Vec<u8>,
}

/// The keys at hand, the one that encrypts first.
#[derive(Debug, Clone)]
pub struct Keyring {
    current: EncryptionKey,
    previous: Vec<EncryptionKey>,
}

impl Keyring {
    /// Encrypts with `current`; decrypts with the `previous` ones too.
    #[must_use]
    pub fn new(current: EncryptionKey, previous: Vec<EncryptionKey>) -> Self {
        Self { current, previous }
    }

    /// Reads the key from a file, which is made first if it does not exist, for its owner only.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => match create(path) {
                // Somebody else made it in the meantime.
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                    fs::read_to_string(path).map_err(failed)?
                }
                made => made.map_err(failed)?,
            },
            Err(cause) => return Err(failed(cause)),
        };
        let key = text.parse().map_err(|reason| Error::NotAKey { path: path.to_owned(), reason })?;
        Ok(Self::new(key, Vec::new()))
    }

    /// The id of the key that encrypts.
    pub(super) fn current_id(&self) -> String {
        self.current.id()
    }

    /// The ids of all keys, the encrypting one first.
    pub(super) fn ids(&self) -> Vec<String> {
        self.keys().map(EncryptionKey::id).collect()
    }

    pub(super) fn seal(&self, secret: &SigningSecret, owner: SubscriptionUid) -> Result<Sealed, Error> {
        self.seal_bytes(secret.expose(), &of_secret(secret.kind(), owner))
    }

    pub(super) fn open(
        &self,
        sealed: &Sealed,
        kind: SecretKind,
        owner: SubscriptionUid,
    ) -> Result<SigningSecret, Error> {
        let material = self.open_bytes(sealed, &of_secret(kind, owner))?;
        Ok(SigningSecret::from_stored(kind, material))
    }

    pub(super) fn seal_key_pair(&self, pair: &KeyPair, owner: SubscriptionUid) -> Result<Sealed, Error> {
        self.seal_bytes(pair.expose(), &place(owner, b"ed25519"))
    }

    pub(super) fn open_key_pair(&self, sealed: &Sealed, owner: SubscriptionUid) -> Result<KeyPair, Error> {
        let both = self.open_bytes(sealed, &place(owner, b"ed25519"))?;
        KeyPair::from_stored(&both).ok_or(Error::Sealed)
    }

    pub(super) fn seal_settings(&self, document: &[u8], owner: SubscriptionUid) -> Result<Sealed, Error> {
        self.seal_bytes(document, &place(owner, b"settings"))
    }

    pub(super) fn open_settings(&self, sealed: &Sealed, owner: SubscriptionUid) -> Result<Vec<u8>, Error> {
        self.open_bytes(sealed, &place(owner, b"settings"))
    }

    /// `place` is where the ciphertext belongs; it opens nowhere else.
    fn seal_bytes(&self, msg: &[u8], place: &[u8]) -> Result<Sealed, Error> {
        let nonce = XNonce::generate();
        let payload = Payload { msg, aad: place };
        let sealed = cipher(&self.current).encrypt(&nonce, payload).map_err(|_| Error::Sealed)?;
        Ok(Sealed { key_id: self.current.id(), ciphertext: [&nonce[..], &sealed].concat() })
    }

    fn open_bytes(&self, sealed: &Sealed, place: &[u8]) -> Result<Vec<u8>, Error> {
        let key = self
            .keys()
            .find(|key| key.id() == sealed.key_id)
            .ok_or_else(|| Error::UnknownKey(sealed.key_id.clone()))?;
        let (nonce, msg) = sealed.ciphertext.split_at_checked(NONCE_LENGTH).ok_or(Error::Sealed)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| Error::Sealed)?;
        cipher(key).decrypt(&nonce, Payload { msg, aad: place }).map_err(|_| Error::Sealed)
    }

    fn keys(&self) -> impl Iterator<Item = &EncryptionKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

/// The secrets of a subscription are one place, its settings another.
fn place(owner: SubscriptionUid, what: &[u8]) -> Vec<u8> {
    [owner.uuid().as_bytes(), what].concat()
}

/// Nobody can make bytes of a text by changing the row.
fn of_secret(kind: SecretKind, owner: SubscriptionUid) -> Vec<u8> {
    match kind {
        SecretKind::Bytes => place(owner, b""),
        SecretKind::Text => place(owner, b"text"),
    }
}

/// Draws a new signing secret.
#[must_use]
pub fn draw_signing_secret() -> SigningSecret {
    SigningSecret::from_bytes(<[u8; SigningSecret::LENGTH]>::generate().to_vec())
}

/// Draws what a receiver is asked to prove itself by.
#[must_use]
pub fn draw_challenge() -> Challenge {
    Challenge::new(<[u8; 16]>::generate())
}

/// Draws a new pair of keys.
pub fn draw_key_pair() -> Result<KeyPair, Error> {
    KeyPair::from_seed(&<[u8; 32]>::generate()).ok_or(Error::Sealed)
}

fn cipher(key: &EncryptionKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&key.0.into())
}

/// Writes a new key to a file that does not exist yet; whole, or not at all.
fn create(path: &Path) -> io::Result<String> {
    let text = STANDARD.encode(EncryptionKey::generate().0) + "\n";
    let folder = path.parent().unwrap_or(Path::new("."));
    // For its owner only: so are all temporary files of this crate.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::timestamp::Timestamp;

    fn uid() -> SubscriptionUid {
        SubscriptionUid::new(Timestamp::from_micros(0))
    }

    #[test]
    fn a_secret_opens_with_its_key_in_its_row_and_nowhere_else() {
        let (old, new) = (EncryptionKey::generate(), EncryptionKey::generate());
        let (secret, owner) = (draw_signing_secret(), uid());
        let sealed = Keyring::new(old.clone(), vec![]).seal(&secret, owner).unwrap();
        let bytes = SecretKind::Bytes;
        assert!(!sealed.ciphertext.windows(8).any(|part| part == &secret.expose()[..8]));

        let rotated = Keyring::new(new.clone(), vec![old]);
        assert_eq!(rotated.open(&sealed, bytes, owner).unwrap(), secret);
        assert_ne!(rotated.seal(&secret, owner).unwrap().key_id, sealed.key_id);
        assert!(matches!(rotated.open(&sealed, bytes, uid()), Err(Error::Sealed)));
        assert!(matches!(Keyring::new(new, vec![]).open(&sealed, bytes, owner), Err(Error::UnknownKey(_))));
        assert!(matches!(rotated.open(&sealed, SecretKind::Text, owner), Err(Error::Sealed)));
        assert!(matches!(rotated.open_key_pair(&sealed, owner), Err(Error::Sealed)));
        let cut = Sealed { ciphertext: sealed.ciphertext[..10].to_vec(), ..sealed };
        assert!(matches!(rotated.open(&cut, bytes, owner), Err(Error::Sealed)));
    }

    #[test]
    #[cfg(unix)]
    fn a_key_file_is_made_once_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let first = Keyring::from_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Keyring::from_file(&path).unwrap().ids(), first.ids());
        fs::write(&path, "not a key").unwrap();
        assert!(matches!(Keyring::from_file(&path), Err(Error::NotAKey { .. })));
    }

    #[test]
    fn a_key_is_not_shown() {
        let key = EncryptionKey::generate();
        assert_eq!(format!("{key:?}"), "[redacted]");
        assert_eq!(String::from(key), "[redacted]");
        assert!("c2hvcnQ=".parse::<EncryptionKey>().unwrap_err().contains("32 bytes"));
    }
}
