// SPDX-License-Identifier: Apache-2.0
//! Keys in PEM files, as the tools write them, and signatures in the two common forms.
//!
//! `nrfutil keys generate` and `openssl ecparam` write SEC1 (`EC PRIVATE KEY`), `imgtool keygen` PKCS#8 (`PRIVATE KEY`),
//! and all of them public keys as SubjectPublicKeyInfo (`PUBLIC KEY`).

use std::path::Path;

use bledfu_slot::Key;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::Signature;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey};
use p256::SecretKey;
use sha2::{Digest as _, Sha256};

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
    /// The key is locked with a password.
    #[error("the key in {0} is encrypted; write it without a password first")]
    Encrypted(String),
    /// The key is not a P-256 key, or is damaged.
    #[error("the key in {0} is not a valid P-256 key")]
    NotP256(String),
    /// A private key is needed to sign.
    #[error("{0} holds a public key, but signing needs the private one")]
    PublicOnly(String),
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
        match Pem::parse(name, text)? {
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
    Ok(match Pem::parse(name, text)? {
        Pem::Private(key) => public_of(&key.public_key()),
        Pem::Public(key) => public_of(&key),
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

fn read(path: &Path) -> Result<String, KeyError> {
    let shown = || path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| KeyError::Io {
        path: shown(),
        source,
    })?;
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
    fn parse(name: &str, text: &str) -> Result<Self, KeyError> {
        let not_p256 = || KeyError::NotP256(name.to_owned());
        // OpenSSL writes an EC PARAMETERS block in front of the key; the label selects the right block.
        if let Some(pem) = block(text, "EC PRIVATE KEY") {
            if pem.contains("ENCRYPTED") {
                return Err(KeyError::Encrypted(name.to_owned()));
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
        } else if block(text, "ENCRYPTED PRIVATE KEY").is_some() {
            Err(KeyError::Encrypted(name.to_owned()))
        } else {
            Err(KeyError::NotPem(name.to_owned()))
        }
    }
}

/// The block with this label, with lines as the strict reader expects them: 64 characters, no stray blanks.
fn block(text: &str, label: &str) -> Option<String> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let (_, rest) = text.split_once(&begin)?;
    let (body, _) = rest.split_once(&end)?;
    if body.contains("Proc-Type") {
        return Some("ENCRYPTED".to_owned());
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
    fn files_without_a_key_are_refused_with_a_sentence() {
        let sentence = |text: &str| SigningKey::from_pem("k.pem", text).err().unwrap().to_string();
        assert_eq!(sentence("hello"), "k.pem is not a PEM file with an EC key");
        assert_eq!(
            sentence(&SEC1.replace("MHcC", "MHcD")),
            "the key in k.pem is not a valid P-256 key"
        );
        assert!(
            sentence("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIH=\n-----END ENCRYPTED PRIVATE KEY-----")
                .contains("without a password")
        );
        assert!(sentence(
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----"
        )
        .contains("encrypted"));
        let missing = SigningKey::open(Path::new("no-such.pem")).err().unwrap();
        assert!(missing
            .to_string()
            .starts_with("cannot read the key file no-such.pem"));
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
