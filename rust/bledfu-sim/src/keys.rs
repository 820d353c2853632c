// SPDX-License-Identifier: Apache-2.0
//! Keys in PEM files, as the tools write them, and signatures in the two common forms.
//!
//! `nrfutil keys generate` and `openssl ecparam` write SEC1 (`EC PRIVATE KEY`), `imgtool keygen` PKCS#8 (`PRIVATE KEY`),
//! and all of them public keys as SubjectPublicKeyInfo (`PUBLIC KEY`).

use std::path::Path;

use bledfu_slot::Key;
use ecdsa::RecoveryId;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::Signature;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::elliptic_curve::zeroize::Zeroizing;
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use p256::SecretKey;
use rand_core::OsRng;
use sha2::{Digest as _, Sha256};

use bledfu_slot::verify::{Crypto as _, SignatureCheck, SoftCrypto};

/// Why a key could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error("cannot read the key file {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not a PEM text with a key.
    #[error("{0} is not a PEM file with an EC key")]
    NotPem(String),
    /// The key is encrypted, and no password was given.
    #[error("the key in {0} is encrypted, and no password was given")]
    Encrypted(String),
    /// The key is encrypted in the form that OpenSSL wrote before PKCS#8.
    #[error("the key in {0} is encrypted in OpenSSL's old form; write it anew with: openssl pkcs8 -topk8")]
    OldEncryption(String),
    /// The password is wrong, or the encrypted key is damaged.
    #[error("the password does not open the key in {0}")]
    WrongPassword(String),
    /// An encrypted key was asked for in a form that has no encryption.
    #[error("only PKCS#8 keys can be encrypted, SEC1 keys cannot")]
    NoEncryption,
    /// The key is not a P-256 key, or is damaged.
    #[error("the key in {0} is not a valid P-256 key")]
    NotP256(String),
    /// A public key is enough.
    #[error("{0} holds a private key: only the public one is needed here, and the private one should stay where it is")]
    Private(String),
    /// A private key is needed to sign.
    #[error("{0} holds a public key, but signing needs the private one")]
    PublicOnly(String),
}

/// How a private key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PemForm {
    /// `PRIVATE KEY`, or `ENCRYPTED PRIVATE KEY`: what imgtool writes, and what most tools read.
    #[default]
    Pkcs8,
    /// `EC PRIVATE KEY`: what nrfutil writes. Never encrypted.
    Sec1,
}

impl PemForm {
    /// The form of the private key in a PEM text, and whether it is encrypted; `None` when there is no private key.
    pub fn of(text: &str) -> Option<(Self, bool)> {
        if let Some(pem) = block(text, "EC PRIVATE KEY") {
            Some((Self::Sec1, pem == OLD_ENCRYPTION))
        } else if block(text, "PRIVATE KEY").is_some() {
            Some((Self::Pkcs8, false))
        } else {
            block(text, "ENCRYPTED PRIVATE KEY").map(|_| (Self::Pkcs8, true))
        }
    }
}

/// A signature could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SignError(pub String);

/// Who signs: a key in memory, or a command in front of a key that stays where it is.
pub trait Sign {
    /// The signature of a SHA-256 digest: r and s, big-endian.
    ///
    /// # Errors
    /// [`SignError`], a sentence.
    fn sign_digest(&self, digest: &[u8; 32]) -> Result<[u8; 64], SignError>;
}

impl Sign for SigningKey {
    fn sign_digest(&self, digest: &[u8; 32]) -> Result<[u8; 64], SignError> {
        let signed: Result<Signature, _> = self.0.sign_prehash(digest);
        signed
            .map(|signature| signature.to_bytes().into())
            .map_err(|_| SignError("the key does not sign this digest".to_owned()))
    }
}

/// r and s, big-endian, of a signature in one of the two forms that signing tools write: DER, or r and s themselves.
/// `None` for anything else.
pub fn signature_from(bytes: &[u8]) -> Option<[u8; 64]> {
    let parsed = Signature::from_der(bytes).or_else(|_| Signature::from_slice(bytes));
    parsed.ok().map(|signature| signature.to_bytes().into())
}

/// Whether this is the key's signature (r and s, big-endian) of this digest.
pub fn is_signed(key: &Key, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    let signature = bledfu_slot::verify::Signature::from_le_halves(&swap_halves(signature));
    SoftCrypto.verify(key, digest, &signature) == SignatureCheck::Good
}

/// A public key under which this is a good signature (r and s, big-endian) of this digest. Every signature has such keys, so this
/// proves nothing; it makes a device for a packet whose key is not known.
pub fn key_that_signed(digest: &[u8; 32], signature: &[u8; 64]) -> Option<Key> {
    let parsed = Signature::from_slice(signature).ok()?;
    (0..=RecoveryId::MAX)
        .filter_map(RecoveryId::from_byte)
        .filter_map(|id| p256::ecdsa::VerifyingKey::recover_from_prehash(digest, &parsed, id).ok())
        .map(|key| public_of(&p256::PublicKey::from(key)))
        .find(|key| is_signed(key, digest, signature))
}

/// A public key as SubjectPublicKeyInfo (DER); `None` when the bytes are no point of the curve.
pub fn public_key_der(key: &Key) -> Option<Vec<u8>> {
    let der = point_of(key)?.to_public_key_der().ok()?;
    Some(der.as_bytes().to_vec())
}

/// The same as PEM.
pub fn public_key_pem(key: &Key) -> Option<String> {
    point_of(key)?.to_public_key_pem(LineEnding::LF).ok()
}

fn point_of(key: &Key) -> Option<p256::PublicKey> {
    let mut sec1 = vec![4];
    sec1.extend_from_slice(key.as_bytes());
    p256::PublicKey::from_sec1_bytes(&sec1).ok()
}

/// A private P-256 key. Signatures are deterministic (RFC 6979): same input, same bytes.
#[derive(Clone)]
pub struct SigningKey(p256::ecdsa::SigningKey);

impl SigningKey {
    /// Reads a SEC1 or PKCS#8 private key; `name` is the name of its source in errors.
    ///
    /// # Errors
    /// [`KeyError`], [`KeyError::PublicOnly`] for a public key.
    pub fn from_pem(name: &str, text: &str) -> Result<Self, KeyError> {
        Self::from_pem_with(name, text, None)
    }

    /// [`SigningKey::from_pem`] of a key that may be encrypted.
    ///
    /// # Errors
    /// Those of [`SigningKey::from_pem`], [`KeyError::Encrypted`] without a password.
    pub fn from_pem_with(name: &str, text: &str, password: Option<&str>) -> Result<Self, KeyError> {
        match Pem::parse(name, text, password)? {
            Pem::Private(key) => Ok(Self(key.into())),
            Pem::Public(_) => Err(KeyError::PublicOnly(name.to_owned())),
        }
    }

    /// [`SigningKey::from_pem`] of a file.
    ///
    /// # Errors
    /// Those of [`SigningKey::from_pem`], or [`KeyError::Io`].
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        Self::from_pem(&path.display().to_string(), &read(path)?)
    }

    /// A new key, from the system's random numbers.
    pub fn generate() -> Self {
        Self(p256::ecdsa::SigningKey::random(&mut OsRng))
    }

    /// The key as PEM. With a password it is encrypted (PBES2: scrypt and AES-256), which only PKCS#8 can be.
    ///
    /// # Errors
    /// [`KeyError::NoEncryption`].
    pub fn to_pem(&self, form: PemForm, password: Option<&str>) -> Result<Zeroizing<String>, KeyError> {
        let key = SecretKey::from(&self.0);
        // The key is valid, so it can be written.
        let failed = || KeyError::NotP256("memory".to_owned());
        match (form, password) {
            (PemForm::Pkcs8, None) => key.to_pkcs8_pem(LineEnding::LF).map_err(|_| failed()),
            (PemForm::Pkcs8, Some(password)) => key
                .to_pkcs8_encrypted_pem(OsRng, password, LineEnding::LF)
                .map_err(|_| failed()),
            (PemForm::Sec1, None) => key.to_sec1_pem(LineEnding::LF).map_err(|_| failed()),
            (PemForm::Sec1, Some(_)) => Err(KeyError::NoEncryption),
        }
    }

    /// The key with this private number (big-endian); `None` for zero and numbers that are not below the group order.
    pub fn from_scalar(scalar: &[u8; 32]) -> Option<Self> {
        p256::ecdsa::SigningKey::from_slice(scalar).ok().map(Self)
    }

    /// The public half.
    pub fn public(&self) -> Key {
        public_of(&p256::PublicKey::from(self.0.verifying_key()))
    }

    /// Signs the SHA-256 of `message`; returns r and s, big-endian.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature: Signature = self.0.sign(message);
        signature.to_bytes().into()
    }

    /// Signs a digest as DER, the form of an image's signature TLV.
    pub fn sign_digest_der(&self, digest: &[u8; 32]) -> Vec<u8> {
        let signature: Result<Signature, _> = self.0.sign_prehash(digest);
        // A 32-byte digest always suits the curve; the error exists for shorter ones.
        signature
            .map(|signature| signature.to_der().as_bytes().to_vec())
            .unwrap_or_default()
    }
}

/// Reads the public key of a public or private PEM key; `name` is the name of its source in errors.
///
/// # Errors
/// [`KeyError`].
pub fn public_key_from_pem(name: &str, text: &str) -> Result<Key, KeyError> {
    public_key_from_pem_with(name, text, None)
}

/// [`public_key_from_pem`] of a key that may be encrypted.
///
/// # Errors
/// [`KeyError`].
pub fn public_key_from_pem_with(name: &str, text: &str, password: Option<&str>) -> Result<Key, KeyError> {
    Ok(match Pem::parse(name, text, password)? {
        Pem::Private(key) => public_of(&key.public_key()),
        Pem::Public(key) => public_of(&key),
    })
}

/// Reads a public PEM key where a private one has no place, as in a browser.
///
/// # Errors
/// [`KeyError`], [`KeyError::Private`] for a private key.
pub fn public_key_only_from_pem(name: &str, text: &str) -> Result<Key, KeyError> {
    if let Some(pem) = block(text, "PUBLIC KEY") {
        return p256::PublicKey::from_public_key_pem(&pem)
            .map(|key| public_of(&key))
            .map_err(|_| KeyError::NotP256(name.to_owned()));
    }
    Err(match PemForm::of(text) {
        Some(_) => KeyError::Private(name.to_owned()),
        None => KeyError::NotPem(name.to_owned()),
    })
}

/// [`public_key_from_pem`] of a file.
///
/// # Errors
/// Those of [`public_key_from_pem`], or [`KeyError::Io`].
pub fn open_public_key(path: &Path) -> Result<Key, KeyError> {
    public_key_from_pem(&path.display().to_string(), &read(path)?)
}

/// Digests and names of keys whose private halves are public.
const KNOWN: &str = include_str!("../demo/known.txt");

/// The name of a key whose private half is public, such as the demo keys and MCUboot's sample key; `None` for all
/// others.
pub fn known_key(key: &Key) -> Option<&'static str> {
    let digest: String = Sha256::digest(key.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut lines = KNOWN.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(known, _)| *known == digest).map(|(_, name)| name)
}

/// Converts r‖s to Secure DFU's form, each half reversed, and back.
pub fn swap_halves(signature: &[u8; 64]) -> [u8; 64] {
    let mut swapped = *signature;
    swapped[..32].reverse();
    swapped[32..].reverse();
    swapped
}

/// The text of a PEM file. A public key in DER, as HSM tools write it, is turned into PEM.
///
/// # Errors
/// [`KeyError::Io`], or [`KeyError::NotPem`] for bytes that are neither.
pub fn read(path: &Path) -> Result<String, KeyError> {
    let shown = || path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| KeyError::Io {
        path: shown(),
        source,
    })?;
    if let Ok(pem) = p256::PublicKey::from_public_key_der(&bytes).map(|key| public_key_pem(&public_of(&key)))
    {
        return pem.ok_or_else(|| KeyError::NotP256(shown()));
    }
    String::from_utf8(bytes).map_err(|_| KeyError::NotPem(shown()))
}

fn public_of(key: &p256::PublicKey) -> Key {
    let point = key.to_encoded_point(false);
    let mut xy = [0; 64];
    // An uncompressed point is 04, X, Y.
    xy.copy_from_slice(&point.as_bytes()[1..]);
    Key::new(xy)
}

enum Pem {
    Private(SecretKey),
    Public(p256::PublicKey),
}

impl Pem {
    fn parse(name: &str, text: &str, password: Option<&str>) -> Result<Self, KeyError> {
        let not_p256 = || KeyError::NotP256(name.to_owned());
        // OpenSSL writes an EC PARAMETERS block in front of the key; the label selects the right block.
        if let Some(pem) = block(text, "EC PRIVATE KEY") {
            if pem == OLD_ENCRYPTION {
                return Err(KeyError::OldEncryption(name.to_owned()));
            }
            SecretKey::from_sec1_pem(&pem)
                .map(Pem::Private)
                .map_err(|_| not_p256())
        } else if let Some(pem) = block(text, "PRIVATE KEY") {
            SecretKey::from_pkcs8_pem(&pem)
                .map(Pem::Private)
                .map_err(|_| not_p256())
        } else if let Some(pem) = block(text, "PUBLIC KEY") {
            p256::PublicKey::from_public_key_pem(&pem)
                .map(Pem::Public)
                .map_err(|_| not_p256())
        } else if let Some(pem) = block(text, "ENCRYPTED PRIVATE KEY") {
            let password = password.ok_or_else(|| KeyError::Encrypted(name.to_owned()))?;
            SecretKey::from_pkcs8_encrypted_pem(&pem, password)
                .map(Pem::Private)
                .map_err(|_| KeyError::WrongPassword(name.to_owned()))
        } else {
            Err(KeyError::NotPem(name.to_owned()))
        }
    }
}

/// What stands for a block with the headers of OpenSSL's old encryption.
const OLD_ENCRYPTION: &str = "ENCRYPTED";

/// The block with this label, with lines as the strict reader expects them: 64 characters, no stray blanks.
fn block(text: &str, label: &str) -> Option<String> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let (_, rest) = text.split_once(&begin)?;
    let (body, _) = rest.split_once(&end)?;
    if body.contains("Proc-Type") {
        return Some(OLD_ENCRYPTION.to_owned());
    }
    let body: Vec<char> = body.chars().filter(|c| !c.is_whitespace()).collect();
    let lines: Vec<String> = body.chunks(64).map(|line| line.iter().collect()).collect();
    Some(format!("{begin}\n{}\n{end}\n", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The scalar 01 02 … 20 of the reference's test vectors, in the three forms.
    const SEC1: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8goAoGCCqGSM49AwEHoUQDQgAE
UVw9brnjlrkE0/7Kf1T9zQzB6Ze/N13KUVrQpsO0A19FNr46UPMY+/mlR1kCoiFQK+8NV+CMU7LM
ClbxfZ+TVA==
-----END EC PRIVATE KEY-----
";
    const X: &str = "515c3d6eb9e396b904d3feca7f54fdcd0cc1e997bf375dca515ad0a6c3b4035f";
    const Y: &str = "4536be3a50f318fbf9a5475902a221502bef0d57e08c53b2cc0a56f17d9f9354";

    fn scalar_key() -> SigningKey {
        let mut scalar = [0; 32];
        for (i, byte) in scalar.iter_mut().enumerate() {
            *byte = i as u8 + 1;
        }
        SigningKey::from_scalar(&scalar).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn reads_a_sec1_key_after_parameters_and_with_windows_line_ends() {
        let with_parameters =
            format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{SEC1}");
        for text in [SEC1.to_owned(), with_parameters, SEC1.replace('\n', "\r\n  ")] {
            let key = SigningKey::from_pem("key.pem", &text).unwrap();
            assert_eq!(hex(key.public().as_bytes()), format!("{X}{Y}"));
            assert_eq!(
                key.public().as_bytes(),
                public_key_from_pem("k", &text).unwrap().as_bytes()
            );
        }
    }

    #[test]
    fn reads_pkcs8_and_public_keys_as_the_tools_write_them() {
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/keys");
        assert_eq!(
            known_key(&SigningKey::from_scalar(&[3; 32]).unwrap().public()),
            None
        );
        for name in ["image", "package"] {
            let private = SigningKey::open(&keys.join(format!("{name}.pem"))).unwrap();
            let public = open_public_key(&keys.join(format!("{name}.pub.pem"))).unwrap();
            assert_eq!(private.public().as_bytes(), public.as_bytes());
        }
        let error = SigningKey::open(&keys.join("image.pub.pem")).err().unwrap();
        assert!(matches!(error, KeyError::PublicOnly(_)), "{error}");
    }

    #[test]
    fn where_only_public_keys_have_a_place_a_private_one_is_refused() {
        let public = public_key_pem(&scalar_key().public()).unwrap();
        let read = public_key_only_from_pem("k.pem", &public).unwrap();
        assert_eq!(hex(read.as_bytes()), format!("{X}{Y}"));
        let refusal = |text: &str| public_key_only_from_pem("k.pem", text).err().unwrap().to_string();
        assert!(refusal(SEC1).starts_with("k.pem holds a private key: only the public one is needed"));
        assert_eq!(refusal("hello"), "k.pem is not a PEM file with an EC key");
    }

    #[test]
    fn files_without_a_key_are_refused_with_a_sentence() {
        let sentence = |text: &str| SigningKey::from_pem("k.pem", text).err().unwrap().to_string();
        assert_eq!(sentence("hello"), "k.pem is not a PEM file with an EC key");
        assert_eq!(
            sentence(&SEC1.replace("MHcC", "MHcD")),
            "the key in k.pem is not a valid P-256 key"
        );
        assert!(
            sentence("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIH=\n-----END ENCRYPTED PRIVATE KEY-----")
                .contains("no password was given")
        );
        assert!(sentence(
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----"
        )
        .contains("openssl pkcs8 -topk8"));
        let missing = SigningKey::open(Path::new("no-such.pem")).err().unwrap();
        assert!(missing
            .to_string()
            .starts_with("cannot read the key file no-such.pem"));
    }

    #[test]
    fn a_new_key_is_read_back_from_each_form_and_with_the_right_password_only() {
        let key = SigningKey::generate();
        assert_ne!(
            key.public().as_bytes(),
            SigningKey::generate().public().as_bytes()
        );
        for form in [PemForm::Pkcs8, PemForm::Sec1] {
            let pem = key.to_pem(form, None).unwrap();
            assert_eq!(PemForm::of(&pem), Some((form, false)));
            let back = SigningKey::from_pem("k", &pem).unwrap();
            assert_eq!(back.public().as_bytes(), key.public().as_bytes());
        }
        let pem = key.to_pem(PemForm::Pkcs8, Some("open it")).unwrap();
        assert_eq!(PemForm::of(&pem), Some((PemForm::Pkcs8, true)));
        let back = SigningKey::from_pem_with("k", &pem, Some("open it")).unwrap();
        assert_eq!(back.public().as_bytes(), key.public().as_bytes());
        let wrong = SigningKey::from_pem_with("k", &pem, Some("open")).err().unwrap();
        assert!(matches!(wrong, KeyError::WrongPassword(_)), "{wrong}");
        let refused = key.to_pem(PemForm::Sec1, Some("open it")).err().unwrap();
        assert!(matches!(refused, KeyError::NoEncryption), "{refused}");

        let public = public_key_pem(&key.public()).unwrap();
        assert_eq!(PemForm::of(&public), None);
        assert_eq!(
            public_key_from_pem("k", &public).unwrap().as_bytes(),
            key.public().as_bytes()
        );
        assert_eq!(public_key_der(&key.public()).unwrap().len(), 91);
    }

    #[test]
    fn a_signature_made_elsewhere_is_read_in_both_forms_and_checked() {
        let key = scalar_key();
        let digest: [u8; 32] = Sha256::digest(b"sample").into();
        let signature = Sign::sign_digest(&key, &digest).unwrap();
        assert_eq!(signature, key.sign(b"sample"));
        assert_eq!(signature_from(&signature), Some(signature));
        assert_eq!(signature_from(&key.sign_digest_der(&digest)), Some(signature));
        assert_eq!(signature_from(&signature[..63]), None);
        assert_eq!(signature_from(&[0; 64]), None);
        assert!(is_signed(&key.public(), &digest, &signature));
        assert!(!is_signed(&key.public(), &[0; 32], &signature));
        assert!(!is_signed(&SigningKey::generate().public(), &digest, &signature));
        let some = key_that_signed(&digest, &signature).unwrap();
        assert!(is_signed(&some, &digest, &signature));
    }

    #[test]
    fn signatures_are_deterministic_and_reverse_by_halves() {
        let key = scalar_key();
        let signature = key.sign(b"sample");
        assert_eq!(signature, key.sign(b"sample"));
        let swapped = swap_halves(&signature);
        assert_eq!(
            (swapped[0], swapped[31], swapped[32]),
            (signature[31], signature[0], signature[63])
        );
        assert_eq!(swap_halves(&swapped), signature);
    }
}
