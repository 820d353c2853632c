// SPDX-License-Identifier: Apache-2.0
//! MCUboot images: well-formed ones as imgtool writes them, with every part replaceable.

use p256::ecdsa::signature::hazmat::PrehashSigner;
use sha2::{Digest, Sha256};

use crate::random::Random;

/// SHA-256 of these bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A P-256 signing key, chosen by a number from 1 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub u8);

impl Key {
    fn secret(self) -> p256::ecdsa::SigningKey {
        p256::ecdsa::SigningKey::from_slice(&[self.0; 32]).expect("a number below the group order")
    }

    /// X, then Y.
    #[must_use]
    pub fn public(self) -> [u8; 64] {
        let point = self.secret().verifying_key().to_encoded_point(false);
        point.as_bytes()[1..].try_into().expect("an uncompressed point")
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn hash(self) -> [u8; 32] {
        let mut spki = vec![
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
            0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
        ];
        spki.extend(self.public());
        assert_eq!(spki.len(), 91);
        sha256(&spki)
    }

    /// r, then s, of a signature over a digest.
    #[must_use]
    pub fn sign(self, digest: &[u8; 32]) -> [u8; 64] {
        let signature: p256::ecdsa::Signature = self.secret().sign_prehash(digest).expect("signing");
        signature.to_bytes().into()
    }

    /// The DER form of a signature over a digest.
    #[must_use]
    pub fn sign_der(self, digest: &[u8; 32]) -> Vec<u8> {
        let rs = self.sign(digest);
        der_signature(&der_integer(&rs[..32]), &der_integer(&rs[32..]))
    }
}

/// Minimal DER integer of a big-endian number of at least one byte.
#[must_use]
pub fn der_integer(number: &[u8]) -> Vec<u8> {
    let start = number.iter().position(|b| *b != 0).unwrap_or(number.len() - 1);
    let mut digits = number[start..].to_vec();
    if digits[0] >= 0x80 {
        digits.insert(0, 0);
    }
    let mut out = vec![2, digits.len() as u8];
    out.extend(digits);
    out
}

/// The DER sequence of two integers that are already in DER.
#[must_use]
pub fn der_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    let mut out = vec![0x30, (r.len() + s.len()) as u8];
    out.extend(r);
    out.extend(s);
    out
}

/// An image under construction: the hashed part, and the unprotected TLVs after it.
#[derive(Clone, Debug)]
pub struct Image {
    /// Header, payload, protected area.
    pub body: Vec<u8>,
    /// Unprotected entries: type and value.
    pub entries: Vec<(u16, Vec<u8>)>,
}

impl Image {
    /// A header of `header_size` bytes, `payload_size` seeded bytes, no protected area, no entries.
    #[must_use]
    pub fn bare(header_size: u16, payload_size: u32, seed: u64) -> Self {
        let mut body = vec![0xFF; header_size as usize];
        body[0..4].copy_from_slice(&0x96F3_B83Du32.to_le_bytes());
        body[4..8].fill(0);
        body[8..10].copy_from_slice(&header_size.to_le_bytes());
        body[10..12].fill(0);
        body[12..16].copy_from_slice(&payload_size.to_le_bytes());
        body[16..20].fill(0);
        body[20..28].copy_from_slice(&[1, 2, 3, 0, 4, 0, 0, 0]);
        body[28..32].fill(0);
        let mut random = Random::new(seed);
        body.extend((0..payload_size).map(|_| random.byte()));
        Self {
            body,
            entries: Vec::new(),
        }
    }

    /// A well-formed image of exactly `total` bytes, signed with `key`.
    #[must_use]
    pub fn of_total(total: u32, seed: u64, key: Key) -> Self {
        // DER lengths vary by a byte or two: try payload sizes until the total is right.
        (0..200u64)
            .find_map(|attempt| {
                (100..=110).find_map(|overhead| {
                    let payload = total - 0x200 - overhead - 44;
                    let image = Self::bare(0x200, payload, seed + 1000 * attempt).sign(key);
                    (image.bytes().len() as u32 == total).then_some(image)
                })
            })
            .expect("some payload size fits")
    }

    /// Appends a protected area with these entries.
    #[must_use]
    pub fn protect(mut self, entries: &[(u16, &[u8])]) -> Self {
        let total: usize = 4 + entries.iter().map(|(_, value)| 4 + value.len()).sum::<usize>();
        self.body[10..12].copy_from_slice(&(total as u16).to_le_bytes());
        self.body.extend(0x6908u16.to_le_bytes());
        self.body.extend((total as u16).to_le_bytes());
        for (kind, value) in entries {
            self.body.extend(kind.to_le_bytes());
            self.body.extend((value.len() as u16).to_le_bytes());
            self.body.extend(*value);
        }
        self
    }

    /// Sets the version: major, minor, revision, build.
    #[must_use]
    pub fn version(mut self, major: u8, minor: u8, revision: u16, build: u32) -> Self {
        self.body[20] = major;
        self.body[21] = minor;
        self.body[22..24].copy_from_slice(&revision.to_le_bytes());
        self.body[24..28].copy_from_slice(&build.to_le_bytes());
        self
    }

    /// Sets the flags of the header.
    #[must_use]
    pub fn flags(mut self, flags: u32) -> Self {
        self.body[16..20].copy_from_slice(&flags.to_le_bytes());
        self
    }

    /// SHA-256 of the hashed part.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.body)
    }

    /// The correct SHA-256 TLV.
    #[must_use]
    pub fn hash_entry(&self) -> (u16, Vec<u8>) {
        (0x10, self.digest().to_vec())
    }

    /// The correct TLVs of key hash and signature.
    #[must_use]
    pub fn signature_entries(&self, key: Key) -> [(u16, Vec<u8>); 2] {
        [(0x01, key.hash().to_vec()), (0x22, key.sign_der(&self.digest()))]
    }

    /// Replaces the unprotected entries with those that imgtool writes: hash, key hash, signature.
    #[must_use]
    pub fn sign(mut self, key: Key) -> Self {
        self.entries = vec![self.hash_entry()];
        let pair = self.signature_entries(key);
        self.entries.extend(pair);
        self
    }

    /// The whole image.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let total: usize = 4 + self
            .entries
            .iter()
            .map(|(_, value)| 4 + value.len())
            .sum::<usize>();
        let mut out = self.body.clone();
        out.extend(0x6907u16.to_le_bytes());
        out.extend((total as u16).to_le_bytes());
        for (kind, value) in &self.entries {
            out.extend(kind.to_le_bytes());
            out.extend((value.len() as u16).to_le_bytes());
            out.extend(value);
        }
        out
    }
}
