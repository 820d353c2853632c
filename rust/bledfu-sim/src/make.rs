// SPDX-License-Identifier: Apache-2.0
//! Makes MCUboot images on the host: the demo firmware, and every kind of broken image that a test may need.
//!
//! ```text
//! header 32 | filler up to header size | payload | [protected TLVs] | SHA-256, KEYHASH, ECDSA (order and content adjustable)
//! ```
//! The bytes are those of `imgtool sign` with an EC P-256 key, except that signatures are deterministic.

use bledfu_slot::header::{flags, IMAGE_MAGIC};
use bledfu_slot::tlv::types;
use bledfu_slot::{Key, SoftCrypto, Version};
use sha2::{Digest, Sha256};

use crate::keys::SigningKey;

/// Payload offset Zephyr uses on ARM.
pub const DEFAULT_HEADER_SIZE: u16 = 0x200;

const INFO_UNPROTECTED: u16 = 0x6907;
const INFO_PROTECTED: u16 = 0x6908;

/// One entry of the unprotected TLV area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The right SHA-256.
    Hash,
    /// SHA-256 of the signing key.
    KeyHash,
    /// DER signature of the digest.
    Signature,
    /// Any type and value.
    Raw(u16, Vec<u8>),
    /// Any type and value with a wrong length.
    Lying {
        /// Type.
        kind: u16,
        /// Length field.
        length: u16,
        /// The value that really follows.
        value: Vec<u8>,
    },
}

/// What is wrong with an image; a correct boot stage and uploader refuse each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// First word is the old magic.
    OldMagic,
    /// A bit of the magic.
    MagicBit,
    /// Nothing but erased bytes in the header.
    ErasedHeader,
    /// `img_size` near 2³².
    ImageSizeOverflow,
    /// `img_size` 0.
    ImageSizeZero,
    /// `hdr_size` 0.
    HeaderSizeZero,
    /// `hdr_size` 0xFFFF.
    HeaderSizeHuge,
    /// The header announces a protected area that is missing.
    ProtectedSizeWithoutArea,
    /// Marked as encrypted, with a valid signature.
    Encrypted,
    /// Marked as compressed, with a valid signature.
    Compressed,
    /// Marked as not bootable, with a valid signature.
    NotBootable,
    /// A bit in the middle of the payload.
    PayloadBit,
    /// A bit of the padding after the header.
    FillerBit,
    /// The version, changed after signing.
    VersionByte,
    /// Magic of the unprotected area.
    TlvMagic,
    /// Total of the unprotected area 0.
    TlvTotalZero,
    /// Total of the unprotected area covers its header only.
    TlvTotalEmpty,
    /// Total of the unprotected area 0xFFFF.
    TlvTotalHuge,
    /// Total of the unprotected area too small by one.
    TlvTotalShort,
    /// No hash.
    NoHash,
    /// The hash of something else, with a valid signature.
    WrongHash,
    /// Hash with 31 bytes.
    ShortHash,
    /// Only a SHA-512.
    OtherHash,
    /// A second hash, wrong.
    SecondHashWrong,
    /// KEYHASH of an unknown key.
    UnknownKey,
    /// KEYHASH length 0xFFFF.
    KeyHashLengthHuge,
    /// No KEYHASH.
    NoKeyHash,
    /// No signature.
    NoSignature,
    /// Signature in front of its KEYHASH.
    SignatureBeforeKeyHash,
    /// A bit of the signature.
    SignatureBit,
    /// Signature without its last byte.
    SignatureShort,
    /// Signature followed by 60 zero bytes.
    SignaturePadded,
    /// r is zero.
    SignatureZero,
    /// A good pair, then a bad one: the last one counts.
    GoodThenBadSignature,
    /// Half of the file.
    Truncated,
}

impl Damage {
    /// Every kind.
    pub const ALL: &'static [Damage] = &[
        Damage::OldMagic,
        Damage::MagicBit,
        Damage::ErasedHeader,
        Damage::ImageSizeOverflow,
        Damage::ImageSizeZero,
        Damage::HeaderSizeZero,
        Damage::HeaderSizeHuge,
        Damage::ProtectedSizeWithoutArea,
        Damage::Encrypted,
        Damage::Compressed,
        Damage::NotBootable,
        Damage::PayloadBit,
        Damage::FillerBit,
        Damage::VersionByte,
        Damage::TlvMagic,
        Damage::TlvTotalZero,
        Damage::TlvTotalEmpty,
        Damage::TlvTotalHuge,
        Damage::TlvTotalShort,
        Damage::NoHash,
        Damage::WrongHash,
        Damage::ShortHash,
        Damage::OtherHash,
        Damage::SecondHashWrong,
        Damage::UnknownKey,
        Damage::KeyHashLengthHuge,
        Damage::NoKeyHash,
        Damage::NoSignature,
        Damage::SignatureBeforeKeyHash,
        Damage::SignatureBit,
        Damage::SignatureShort,
        Damage::SignaturePadded,
        Damage::SignatureZero,
        Damage::GoodThenBadSignature,
        Damage::Truncated,
    ];
}

/// Recipe of an image. [`ImageSpec::new`] makes a good one; a test changes what it is about.
#[derive(Clone)]
pub struct ImageSpec {
    /// Version in the header.
    pub version: Version,
    /// Payload offset; at least 32.
    pub header_size: u16,
    /// Link address.
    pub load_addr: u32,
    /// Header flags.
    pub flags: u32,
    /// Content between header and TLVs.
    pub payload: Vec<u8>,
    /// Protected entries: type and value.
    pub protected: Vec<(u16, Vec<u8>)>,
    /// Unprotected entries in order.
    pub unprotected: Vec<Entry>,
    /// Key that signs.
    pub key: SigningKey,
    /// Bytes written over the image before it is hashed and signed: offset and bytes.
    pub patch_before_signing: Vec<(usize, Vec<u8>)>,
    /// Bytes written over the finished image: offset and bytes.
    pub patch: Vec<(usize, Vec<u8>)>,
}

impl ImageSpec {
    /// A good image: header of 0x200 bytes, no protected area, SHA-256, KEYHASH, signature.
    pub fn new(version: Version, payload: Vec<u8>, key: &SigningKey) -> Self {
        Self {
            version,
            header_size: DEFAULT_HEADER_SIZE,
            load_addr: 0,
            flags: 0,
            payload,
            protected: Vec::new(),
            unprotected: vec![Entry::Hash, Entry::KeyHash, Entry::Signature],
            key: key.clone(),
            patch_before_signing: Vec::new(),
            patch: Vec::new(),
        }
    }

    /// A good image with the demo payload and a total size of exactly `total` bytes.
    ///
    /// A DER signature usually has 70 to 72 bytes, depending on the payload, so the payload contains a number that is
    /// counted up until size and signature fit. `None` if `total` is too small for header and TLVs.
    pub fn demo(version: Version, total: usize, key: &SigningKey) -> Option<Self> {
        for salt in 0..1000 {
            for signature in [71, 70, 72, 69] {
                let mut spec = Self::new(version, Vec::new(), key);
                let around = usize::from(spec.header_size) + 4 + (4 + 32) + (4 + 32) + (4 + signature);
                spec.payload = demo_payload(version, total.checked_sub(around)?, salt);
                if spec.build().len() == total {
                    return Some(spec);
                }
            }
        }
        None
    }

    /// Adds a security counter to the protected area.
    pub fn with_security_counter(mut self, counter: u32) -> Self {
        self.protected
            .push((types::SECURITY_COUNTER, counter.to_le_bytes().to_vec()));
        self
    }

    /// Header, padding, payload and protected area: what the digest covers.
    pub fn hashed_bytes(&self) -> Vec<u8> {
        let protected = self.protected_area();
        let mut image = Vec::new();
        image.extend_from_slice(&IMAGE_MAGIC.to_le_bytes());
        image.extend_from_slice(&self.load_addr.to_le_bytes());
        image.extend_from_slice(&self.header_size.to_le_bytes());
        image.extend_from_slice(&(protected.len() as u16).to_le_bytes());
        image.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        image.extend_from_slice(&self.flags.to_le_bytes());
        image.extend_from_slice(&[self.version.major, self.version.minor]);
        image.extend_from_slice(&self.version.revision.to_le_bytes());
        image.extend_from_slice(&self.version.build.to_le_bytes());
        image.extend_from_slice(&[0; 4]);
        image.resize(usize::from(self.header_size).max(image.len()), 0);
        image.extend_from_slice(&self.payload);
        image.extend_from_slice(&protected);
        put_over(&mut image, &self.patch_before_signing);
        image
    }

    /// The finished image.
    pub fn build(&self) -> Vec<u8> {
        let mut image = self.hashed_bytes();
        let digest: [u8; 32] = Sha256::digest(&image).into();
        let mut area = Vec::new();
        for entry in &self.unprotected {
            match entry {
                Entry::Hash => put_entry(&mut area, types::SHA256, &digest),
                Entry::KeyHash => put_entry(&mut area, types::KEY_HASH, &key_hash(&self.key.public())),
                Entry::Signature => {
                    put_entry(&mut area, types::ECDSA, &self.key.sign_digest_der(&digest));
                }
                Entry::Raw(kind, value) => put_entry(&mut area, *kind, value),
                Entry::Lying { kind, length, value } => {
                    area.extend_from_slice(&kind.to_le_bytes());
                    area.extend_from_slice(&length.to_le_bytes());
                    area.extend_from_slice(value);
                }
            }
        }
        put_info(&mut image, INFO_UNPROTECTED, area.len());
        image.extend_from_slice(&area);
        put_over(&mut image, &self.patch);
        image
    }

    /// The image with one thing wrong.
    pub fn damaged(&self, damage: Damage) -> Vec<u8> {
        let mut spec = self.clone();
        let hashed = spec.hashed_bytes();
        let digest: [u8; 32] = Sha256::digest(&hashed).into();
        let good = self.build();
        let tlv = hashed.len();
        let flip = |at: usize| vec![(at, vec![good[at] ^ 0x01])];
        let replace = |wanted: Entry, by: Vec<Entry>| -> Vec<Entry> {
            let swap = |entry: &Entry| {
                if *entry == wanted {
                    by.clone()
                } else {
                    vec![entry.clone()]
                }
            };
            self.unprotected.iter().flat_map(swap).collect()
        };
        let raw_signature = |digest: &[u8; 32]| self.key.sign_digest_der(digest);
        let with_signature =
            |value: Vec<u8>| replace(Entry::Signature, vec![Entry::Raw(types::ECDSA, value)]);
        match damage {
            Damage::OldMagic => spec.patch = vec![(0, vec![0x3C])],
            Damage::MagicBit => spec.patch = flip(3),
            Damage::ErasedHeader => spec.patch = vec![(0, vec![0xFF; 32])],
            Damage::ImageSizeOverflow => spec.patch = vec![(12, 0xFFFF_FFF0_u32.to_le_bytes().to_vec())],
            Damage::ImageSizeZero => spec.patch = vec![(12, vec![0; 4])],
            Damage::HeaderSizeZero => spec.patch = vec![(8, vec![0; 2])],
            Damage::HeaderSizeHuge => spec.patch = vec![(8, vec![0xFF; 2])],
            Damage::ProtectedSizeWithoutArea => {
                spec.protected.clear();
                spec.patch_before_signing = vec![(10, vec![16, 0])];
            }
            Damage::Encrypted => spec.flags |= flags::ENCRYPTED_AES128,
            Damage::Compressed => spec.flags |= flags::COMPRESSED_LZMA2,
            Damage::NotBootable => spec.flags |= flags::NON_BOOTABLE,
            Damage::PayloadBit => {
                spec.patch = flip(usize::from(self.header_size) + self.payload.len() / 2);
            }
            Damage::FillerBit => spec.patch = flip(usize::from(self.header_size) - 1),
            Damage::VersionByte => spec.patch = flip(20),
            Damage::TlvMagic => spec.patch = flip(tlv),
            Damage::TlvTotalZero => spec.patch = vec![(tlv + 2, vec![0, 0])],
            Damage::TlvTotalEmpty => spec.patch = vec![(tlv + 2, vec![4, 0])],
            Damage::TlvTotalHuge => spec.patch = vec![(tlv + 2, vec![0xFF, 0xFF])],
            Damage::TlvTotalShort => {
                let total = (good.len() - tlv - 1) as u16;
                spec.patch = vec![(tlv + 2, total.to_le_bytes().to_vec())];
            }
            Damage::NoHash => spec.unprotected = replace(Entry::Hash, vec![]),
            Damage::WrongHash => {
                spec.unprotected = replace(Entry::Hash, vec![Entry::Raw(types::SHA256, vec![0x5A; 32])]);
            }
            Damage::ShortHash => {
                let short = digest[..31].to_vec();
                spec.unprotected = replace(Entry::Hash, vec![Entry::Raw(types::SHA256, short)]);
            }
            Damage::OtherHash => {
                spec.unprotected = replace(Entry::Hash, vec![Entry::Raw(types::SHA512, vec![0; 64])]);
            }
            Damage::SecondHashWrong => {
                spec.unprotected.push(Entry::Raw(types::SHA256, vec![0x5A; 32]));
            }
            Damage::UnknownKey => {
                spec.unprotected = replace(Entry::KeyHash, vec![Entry::Raw(types::KEY_HASH, vec![7; 32])]);
            }
            Damage::KeyHashLengthHuge => {
                let lying = Entry::Lying {
                    kind: types::KEY_HASH,
                    length: 0xFFFF,
                    value: key_hash(&self.key.public()).to_vec(),
                };
                spec.unprotected = replace(Entry::KeyHash, vec![lying]);
            }
            Damage::NoKeyHash => spec.unprotected = replace(Entry::KeyHash, vec![]),
            Damage::NoSignature => spec.unprotected = replace(Entry::Signature, vec![]),
            Damage::SignatureBeforeKeyHash => {
                spec.unprotected = vec![Entry::Hash, Entry::Signature, Entry::KeyHash];
            }
            Damage::SignatureBit => {
                let mut value = raw_signature(&digest);
                let middle = value.len() / 2;
                value[middle] ^= 0x10;
                spec.unprotected = with_signature(value);
            }
            Damage::SignatureShort => {
                let mut value = raw_signature(&digest);
                value.pop();
                spec.unprotected = with_signature(value);
            }
            Damage::SignaturePadded => {
                let mut value = raw_signature(&digest);
                value.extend_from_slice(&[0; 60]);
                spec.unprotected = with_signature(value);
            }
            Damage::SignatureZero => {
                spec.unprotected = with_signature(vec![0x30, 6, 2, 1, 0, 2, 1, 1]);
            }
            Damage::GoodThenBadSignature => {
                let bad = raw_signature(&[0x11; 32]);
                spec.unprotected.push(Entry::KeyHash);
                spec.unprotected.push(Entry::Raw(types::ECDSA, bad));
            }
            Damage::Truncated => return good[..good.len() / 2].to_vec(),
        }
        spec.build()
    }

    fn protected_area(&self) -> Vec<u8> {
        if self.protected.is_empty() {
            return Vec::new();
        }
        let mut entries = Vec::new();
        for (kind, value) in &self.protected {
            put_entry(&mut entries, *kind, value);
        }
        let mut area = Vec::new();
        put_info(&mut area, INFO_PROTECTED, entries.len());
        area.extend_from_slice(&entries);
        area
    }
}

/// SHA-256 of a key's SubjectPublicKeyInfo: the content of KEYHASH.
pub fn key_hash(key: &Key) -> [u8; 32] {
    key.key_hash(&SoftCrypto)
}

fn put_info(out: &mut Vec<u8>, magic: u16, entries: usize) {
    out.extend_from_slice(&magic.to_le_bytes());
    out.extend_from_slice(&(entries as u16 + 4).to_le_bytes());
}

fn put_entry(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
}

fn put_over(image: &mut [u8], patches: &[(usize, Vec<u8>)]) {
    for (offset, bytes) in patches {
        for (target, byte) in image.iter_mut().skip(*offset).zip(bytes) {
            *target = *byte;
        }
    }
}

/// Bytes per line of the demo payload; four lines are one flash page.
const LINE: usize = 64;

/// Payload of the demo firmware: lines of text with version, page and line number.
///
/// It is deterministic, no two 256-byte pages are equal (so a page in the wrong place is noticed), and it is
/// compressible, so that an embedded package stays small.
pub fn demo_payload(version: Version, length: usize, salt: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + LINE);
    let mut line = 0;
    while out.len() < length {
        let text = format!(
            "bledfu demo {version} salt {salt} page {:05} line {}",
            line / 4,
            line % 4
        );
        out.extend_from_slice(format!("{text:.<width$.width$}\n", width = LINE - 1).as_bytes());
        line += 1;
    }
    out.truncate(length);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bledfu_slot::tlv::SliceFlash;
    use bledfu_slot::{verify_image, ImagePolicy};
    use std::collections::HashSet;

    const SLOT: u32 = 0x2_0000;

    fn key() -> SigningKey {
        SigningKey::from_scalar(&[3; 32]).unwrap()
    }

    fn version() -> Version {
        Version {
            major: 2,
            minor: 1,
            revision: 0,
            build: 0,
        }
    }

    fn accepts(image: &[u8]) -> Result<(), String> {
        let mut slot = vec![0xFF; SLOT as usize];
        slot[..image.len()].copy_from_slice(image);
        let keys = [key().public()];
        let policy = ImagePolicy {
            keys: &keys,
            trusted_digests: &[],
            unsigned: false,
            address: None,
        };
        verify_image(&mut SliceFlash(&slot), 0, SLOT, SLOT - 8192, &policy, &SoftCrypto)
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_good_image_passes_the_boot_stage() {
        let spec = ImageSpec::new(version(), demo_payload(version(), 5000, 0), &key());
        assert_eq!(accepts(&spec.build()), Ok(()));
        let counted = spec.with_security_counter(7);
        assert_eq!(accepts(&counted.build()), Ok(()));
    }

    #[test]
    fn every_damage_is_refused() {
        let spec = ImageSpec::new(version(), demo_payload(version(), 5000, 0), &key());
        for damage in Damage::ALL {
            assert!(accepts(&spec.damaged(*damage)).is_err(), "{damage:?}");
        }
    }

    #[test]
    fn the_demo_image_has_exactly_the_requested_size() {
        for total in [1000, 20_001, 475_384] {
            let spec = ImageSpec::demo(version(), total, &key()).unwrap();
            assert_eq!(spec.build().len(), total);
        }
        assert!(ImageSpec::demo(version(), 600, &key()).is_none());
    }

    #[test]
    fn the_demo_image_passes_the_boot_stage_and_is_always_the_same() {
        let build = || ImageSpec::demo(version(), 40_000, &key()).unwrap().build();
        assert_eq!(accepts(&build()), Ok(()));
        assert_eq!(build(), build());
    }

    #[test]
    fn no_two_pages_of_the_payload_are_equal() {
        let payload = demo_payload(version(), 475_000, 12);
        let pages: HashSet<&[u8]> = payload.chunks(256).collect();
        assert_eq!(pages.len(), payload.len().div_ceil(256));
        assert!(payload.starts_with(b"bledfu demo 2.1.0 salt 12 page 00000 line 0."));
        assert!(payload[..LINE].ends_with(b".\n"));
    }
}
