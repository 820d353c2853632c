// SPDX-License-Identifier: Apache-2.0
//! Whether an image may be started: header, TLVs, SHA-256 and ECDSA-P256, as in MCUboot's `image_validate.c`.
//!
//! The digest covers the header with its filler, the payload and the protected TLV area. The signature is over that
//! digest. A signature entry is checked with the key that the key-hash entry before it selects; the *last signature
//! checked decides*, so an image may carry signatures of other keys as well. This module is stricter than MCUboot in
//! ways that all existing tools satisfy: a key hash must have its full length; DER must be minimal, with at most two
//! zero bytes after it; unknown unprotected TLVs are refused (the allow-list of MCUboot's Zephyr port); an image
//! without any signature passes only by a trusted digest; and at most [`MAX_SIGNATURES`] signatures are checked, as one
//! check takes a small processor 0.2 s.

mod error;
mod stream;

use core::hint::black_box;

use bledfu_text::{words, Line, Text};
use embedded_storage::nor_flash::ReadNorFlash;

use crate::flash::{read_bytes, Aligned};
use crate::header::{AddressRange, HeaderError, ImageHeader};
use crate::layout::Layout;
use crate::tlv::{types, Tlv, TlvWalker};
use crate::transform::{Direction, Plain, Transform};

pub use error::VerifyError;
pub use stream::StreamDigest;

/// Number of bytes hashed per read; a multiple of every `READ_SIZE`.
const HASH_CHUNK: usize = 512;

/// Longest ECDSA-P256 entry accepted: 72 bytes of DER and the two zero bytes that an old `imgtool --pad-sig` may
/// append.
const MAX_SIGNATURE_SIZE: usize = 74;

/// Highest number of signatures by known keys in an image. No tool writes more than one for each key.
pub const MAX_SIGNATURES: u8 = 4;

/// DER in front of a P-256 point in a SubjectPublicKeyInfo, up to and including the "uncompressed" marker.
const P256_SPKI_PREFIX: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x86,
    0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// How images are hashed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// SHA-256.
    Sha256,
}

impl HashAlgorithm {
    /// Size of a digest, in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
        }
    }

    /// The TLV that holds a digest of the image.
    pub const fn tlv(self) -> u16 {
        match self {
            Self::Sha256 => types::SHA256,
        }
    }
}

/// The hash algorithm of this build. MCUboot has one per build, too.
pub const HASH: HashAlgorithm = HashAlgorithm::Sha256;

/// A digest of an image, or of a key.
pub type Digest = [u8; HASH.size()];

/// A running SHA-256. Cloning it takes a snapshot.
pub trait Sha256: Clone {
    /// The hash of nothing.
    fn new() -> Self;
    /// Appends bytes.
    fn update(&mut self, bytes: &[u8]);
    /// The digest of all bytes so far.
    fn finish(self) -> Digest;
}

/// What a signature check found. The values differ in at least 16 bits, so a fault that flips some does not turn one into
/// another.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum SignatureCheck {
    /// The key's owner signed this digest.
    Good = GOOD,
    /// The key's owner did not. Also for a key that is not on the curve, and for numbers out of range.
    Bad = BAD,
    /// It could not be checked: a peripheral is busy or failed, or the platform lacks this kind of key. As with a flash
    /// that cannot be read, this says nothing about the image, which may be good.
    Unavailable = NEITHER,
}

const GOOD: u32 = 0x3C5A_A5C3;
const BAD: u32 = 0xC3A5_5A3C;
const NEITHER: u32 = 0x5A3C_C3A5;

/// The cryptography a product brings: [`SoftCrypto`], or its platform's (PSA, CryptoCell).
pub trait Crypto {
    /// Its SHA-256.
    type Sha256: Sha256;

    /// Checks a signature over a digest.
    fn verify(&self, key: &Key, digest: &Digest, signature: &Signature) -> SignatureCheck;

    /// Checks a signature whose key is not named. It is [`SignatureCheck::Good`] if one of the keys made it, and
    /// [`SignatureCheck::Unavailable`] if none of the keys that could be tried did, but some could not be tried.
    fn verify_any(&self, keys: &[Key], digest: &Digest, signature: &Signature) -> SignatureCheck {
        let mut outcome = SignatureCheck::Bad;
        for key in keys {
            match self.verify(key, digest, signature) {
                SignatureCheck::Good => return SignatureCheck::Good,
                SignatureCheck::Bad => {}
                SignatureCheck::Unavailable => outcome = SignatureCheck::Unavailable,
            }
        }
        outcome
    }

    /// Starts a hash.
    fn sha256(&self) -> Self::Sha256 {
        Self::Sha256::new()
    }
}

/// SHA-256 and P-256 in Rust (`sha2`, `p256`). With the feature `cortex-m-crypto`, P-256 on an Arm processor is in
/// assembly (`p256-cm4`).
#[cfg(feature = "soft-crypto")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SoftCrypto;

/// SHA-256 of the `sha2` crate.
#[cfg(feature = "soft-crypto")]
#[derive(Clone, Debug)]
pub struct SoftSha256(sha2::Sha256);

#[cfg(feature = "soft-crypto")]
impl Sha256 for SoftSha256 {
    fn new() -> Self {
        Self(sha2::Digest::new())
    }

    fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    fn finish(self) -> Digest {
        sha2::Digest::finalize(self.0).into()
    }
}

/// The words of a 32-byte big-endian number, the least significant word first.
#[cfg(all(feature = "cortex-m-crypto", target_arch = "arm"))]
fn words(bytes: &[u8]) -> [u32; 8] {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(bytes.rchunks_exact(4)) {
        *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    words
}

#[cfg(all(feature = "cortex-m-crypto", target_arch = "arm"))]
impl Crypto for SoftCrypto {
    type Sha256 = SoftSha256;

    fn verify(&self, key: &Key, digest: &Digest, signature: &Signature) -> SignatureCheck {
        let Key::P256(xy) = key;
        let ((x, y), (r, s)) = (xy.split_at(32), signature.0.split_at(32));
        match p256_cm4::verify(&words(x), &words(y), digest, &words(r), &words(s)) {
            true => SignatureCheck::Good,
            false => SignatureCheck::Bad,
        }
    }
}

#[cfg(all(
    feature = "soft-crypto",
    not(all(feature = "cortex-m-crypto", target_arch = "arm"))
))]
impl Crypto for SoftCrypto {
    type Sha256 = SoftSha256;

    fn verify(&self, key: &Key, digest: &Digest, signature: &Signature) -> SignatureCheck {
        use p256::ecdsa::signature::hazmat::PrehashVerifier;
        let Key::P256(xy) = key;
        let point = p256::EncodedPoint::from_untagged_bytes(xy.into());
        let Ok(key) = p256::ecdsa::VerifyingKey::from_encoded_point(&point) else {
            return SignatureCheck::Bad;
        };
        let Ok(signature) = p256::ecdsa::Signature::from_bytes(&signature.0.into()) else {
            return SignatureCheck::Bad;
        };
        match key.verify_prehash(digest, &signature) {
            Ok(()) => SignatureCheck::Good,
            Err(_) => SignatureCheck::Bad,
        }
    }
}

/// A public key.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// ECDSA on P-256: X then Y, 32 bytes each, big-endian. With a key that is not on the curve, no signature is good.
    P256([u8; 64]),
}

impl Key {
    /// A P-256 key from X and Y. Nothing is checked here; with a key that is not on the curve, no signature is good.
    pub const fn new(xy: [u8; 64]) -> Self {
        Self::P256(xy)
    }

    /// A P-256 key from 64 bytes; `None` if there are not exactly 64.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::P256)
    }

    /// The bytes of the key, in the form of its kind.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::P256(xy) => xy,
        }
    }

    /// The TLV that holds a signature of such a key.
    pub const fn signature_tlv(&self) -> u16 {
        match self {
            Self::P256(_) => types::ECDSA,
        }
    }

    /// Hash of the key's SubjectPublicKeyInfo (91 bytes for P-256). An image names the key it was signed with by this
    /// hash.
    #[inline(never)]
    pub fn key_hash<C: Crypto>(&self, crypto: &C) -> Digest {
        let mut hash = crypto.sha256();
        match self {
            Self::P256(xy) => {
                hash.update(&P256_SPKI_PREFIX);
                hash.update(xy);
            }
        }
        hash.finish()
    }
}

/// A signature of 64 bytes. For a P-256 key: r then s, 32 bytes each, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature([u8; 64]);

/// The bytes are not the DER form of an ECDSA-P256 signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureFormatError;

impl Text for SignatureFormatError {
    fn put(&self, line: &mut dyn Line) {
        words!("the bytes are not the DER form of an ECDSA-P256 signature").put(line)
    }
}

bledfu_text::display!(SignatureFormatError);

impl core::error::Error for SignatureFormatError {}

/// Takes a minimal, non-negative DER integer of at most 32 value bytes from the start of `bytes`.
fn der_integer(bytes: &[u8]) -> Option<([u8; 32], &[u8])> {
    let (head, rest) = bytes.split_at_checked(2)?;
    let [0x02, length] = *head else {
        return None;
    };
    let (digits, rest) = rest.split_at_checked(usize::from(length))?;
    let digits = match digits {
        // A leading zero is there only to keep the number non-negative.
        [0, next, ..] if *next < 0x80 => return None,
        [0, digits @ ..] if !digits.is_empty() => digits,
        [first, ..] if *first < 0x80 => digits,
        _ => return None,
    };
    let mut value = [0; 32];
    let at = value.len().checked_sub(digits.len())?;
    value.get_mut(at..)?.copy_from_slice(digits);
    Some((value, rest))
}

impl Signature {
    /// A signature from r and s, both big-endian.
    pub const fn from_be(rs: [u8; 64]) -> Self {
        Self(rs)
    }

    /// A signature from r and s, both little-endian: the form in the Nordic init packet.
    pub fn from_le_halves(rs: &[u8; 64]) -> Self {
        let mut value = *rs;
        let (r, s) = value.split_at_mut(32);
        r.reverse();
        s.reverse();
        Self(value)
    }

    /// A signature from `SEQUENCE { INTEGER r, INTEGER s }`.
    ///
    /// Strict: minimal lengths, no negative numbers, and nothing after it but at most two zero bytes.
    ///
    /// # Errors
    /// [`SignatureFormatError`].
    pub fn from_der(bytes: &[u8]) -> Result<Self, SignatureFormatError> {
        Self::parse_der(bytes).ok_or(SignatureFormatError)
    }

    fn parse_der(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(2)?;
        let [0x30, length] = *head else {
            return None;
        };
        let (body, padding) = rest.split_at_checked(usize::from(length))?;
        if padding.len() > 2 || padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        let (r, body) = der_integer(body)?;
        let (s, body) = der_integer(body)?;
        if !body.is_empty() {
            return None;
        }
        let mut value = [0; 64];
        let (first, second) = value.split_at_mut(32);
        first.copy_from_slice(&r);
        second.copy_from_slice(&s);
        Some(Self(value))
    }

    /// r and s.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

/// Which images a device starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImagePolicy<'k> {
    /// Keys whose signatures count.
    pub keys: &'k [Key],
    /// Images accepted by their digest alone, such as the one that the factory programmed.
    pub trusted_digests: &'k [Digest],
    /// Signatures are not needed: an image is accepted by its SHA-256.
    pub unsigned: bool,
    /// Where the processor sees the primary slot. An image whose reset vector lies elsewhere is for another slot or for
    /// another processor (MCUboot `MCUBOOT_VERIFY_IMG_ADDRESS`). For Cortex-M only; with `None` nothing is checked.
    pub address: Option<AddressRange>,
}

/// What is known about an image that was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Its header.
    pub header: ImageHeader,
    /// Header, payload and both TLV areas, in bytes.
    pub total_size: u32,
    /// SHA-256 of header, payload and protected TLV area.
    pub digest: Digest,
    /// Its security counter (protected TLV), if it has one.
    pub security_counter: Option<u32>,
}

/// Reads the header of the image at `start`, and nothing more; see [`ImageHeader::check`] for judging it.
///
/// # Errors
/// The flash's error, or what [`ImageHeader::parse`] says.
pub fn read_header<F: ReadNorFlash>(flash: &mut F, start: u32) -> Result<ImageHeader, VerifyError<F::Error>> {
    let mut bytes = Aligned([0; ImageHeader::SIZE]);
    read_bytes(flash, start, &mut bytes.0).map_err(VerifyError::Flash)?;
    Ok(ImageHeader::parse(&bytes.0)?)
}

/// Header and TLV areas of the image at `start`: everything that can be known without reading the payload.
#[inline(never)]
fn read_frame<F: ReadNorFlash>(
    flash: &mut F,
    start: u32,
    slot_size: u32,
    limit: u32,
) -> Result<(ImageHeader, TlvWalker), VerifyError<F::Error>> {
    let header = read_header(flash, start)?;
    header.check(slot_size)?;
    let room = slot_size.checked_sub(start).ok_or(HeaderError::TooLarge)?;
    let tlvs = TlvWalker::new(flash, start, &header, room)?;
    if tlvs.total_size() > limit {
        return Err(VerifyError::TooLarge);
    }
    Ok((header, tlvs))
}

/// Whether the image at `start` is linked for the primary slot, if the policy says where that is.
#[inline(never)]
fn check_address<F: ReadNorFlash, T: Transform>(
    flash: &mut F,
    start: u32,
    header: &ImageHeader,
    slot: AddressRange,
    transform: &T,
) -> Result<(), VerifyError<F::Error>> {
    let mut vector = [0; 4];
    // It follows the stack pointer. The sum cannot overflow: `read_frame` has checked it against the slot.
    let offset = u32::from(header.header_size) + 4;
    read_bytes(flash, start.saturating_add(offset), &mut vector).map_err(VerifyError::Flash)?;
    transform.apply(Direction::Inward, offset, &mut vector);
    Ok(header.check_address(u32::from_le_bytes(vector), slot)?)
}

/// Total size in bytes of the image at `start`, taken from its header and TLV areas; nothing is hashed.
///
/// # Errors
/// As [`verify_image`], as far as header and area sizes are concerned.
pub fn image_size<F: ReadNorFlash>(
    flash: &mut F,
    start: u32,
    slot_size: u32,
) -> Result<u32, VerifyError<F::Error>> {
    read_frame(flash, start, slot_size, u32::MAX).map(|(_, tlvs)| tlvs.total_size())
}

/// Checks the whole image at `start` in a slot of `slot_size` bytes; `limit` is [`Layout::max_image_size`].
///
/// # Errors
/// The first reason to refuse the image; [`VerifyError::Flash`] says nothing about the image.
pub fn verify_image<F: ReadNorFlash, C: Crypto>(
    flash: &mut F,
    start: u32,
    slot_size: u32,
    limit: u32,
    policy: &ImagePolicy<'_>,
    crypto: &C,
) -> Result<ImageInfo, VerifyError<F::Error>> {
    verify_image_through(
        flash,
        start,
        (slot_size, limit),
        policy,
        crypto,
        &Plain,
        &mut || (),
    )
}

/// [`verify_image`] for an image in an external area, which may be stored there in another form. `tick` is called
/// before everything that takes time: verifying a large image takes longer than a watchdog waits.
///
/// # Errors
/// As [`verify_image`].
pub fn verify_image_through<F: ReadNorFlash, C: Crypto, T: Transform>(
    flash: &mut F,
    start: u32,
    (slot_size, limit): (u32, u32),
    policy: &ImagePolicy<'_>,
    crypto: &C,
    transform: &T,
    tick: &mut dyn FnMut(),
) -> Result<ImageInfo, VerifyError<F::Error>> {
    tick();
    let (header, tlvs) = read_frame(flash, start, slot_size, limit)?;
    if let Some(slot) = policy.address {
        check_address(flash, start, &header, slot, transform)?;
    }
    let end = header.hashed_size()?;
    let digest = hashed(flash, (start, end), crypto.sha256(), transform, tick).map_err(VerifyError::Flash)?;
    tick();
    judge(flash, header, tlvs, policy, crypto, digest)
}

/// The digest of the first `end` bytes of the image at `start`. Its buffer is not on the stack while the signature is checked,
/// which takes more of it than anything else.
#[inline(never)]
fn hashed<F: ReadNorFlash, H: Sha256, T: Transform>(
    flash: &mut F,
    (start, end): (u32, u32),
    mut hash: H,
    transform: &T,
    tick: &mut dyn FnMut(),
) -> Result<Digest, F::Error> {
    let mut chunk = Aligned([0; HASH_CHUNK]);
    let mut done = 0;
    while done < end {
        tick();
        let length = (end - done).min(HASH_CHUNK as u32);
        if let Some(part) = chunk.0.get_mut(..length as usize) {
            // Cannot overflow: `read_frame` has checked the sum against the slot.
            read_bytes(flash, start.saturating_add(done), part)?;
            transform.apply(Direction::Inward, done, part);
            hash.update(part);
        }
        done += length;
    }
    Ok(hash.finish())
}

/// [`verify_image`] for an image whose digest was computed while its bytes arrived.
///
/// # Errors
/// As [`verify_image`].
pub fn verify_image_with_digest<F: ReadNorFlash, C: Crypto>(
    flash: &mut F,
    start: u32,
    slot_size: u32,
    limit: u32,
    policy: &ImagePolicy<'_>,
    crypto: &C,
    digest: &Digest,
) -> Result<ImageInfo, VerifyError<F::Error>> {
    let (header, tlvs) = read_frame(flash, start, slot_size, limit)?;
    if let Some(slot) = policy.address {
        check_address(flash, start, &header, slot, &Plain)?;
    }
    judge(flash, header, tlvs, policy, crypto, *digest)
}

/// Checks a file in the form of an image that no boot stage starts, such as a packed update: header, entries and signature.
/// `digest` is the one over its header, payload and protected entries; `room` the bytes that it may occupy. The flags of its
/// header are not judged: this is for the caller, who knows what the file is.
///
/// # Errors
/// As [`verify_image_with_digest`], but not for the kind of image.
pub fn verify_not_bootable<F: ReadNorFlash, C: Crypto>(
    flash: &mut F,
    start: u32,
    room: u32,
    policy: &ImagePolicy<'_>,
    crypto: &C,
    digest: &Digest,
) -> Result<ImageInfo, VerifyError<F::Error>> {
    let header = read_header(flash, start)?;
    let tlvs = TlvWalker::new(flash, start, &header, room)?;
    judge(flash, header, tlvs, policy, crypto, *digest)
}

/// What an image says about itself, read without hashing it; `None` for an image without a SHA-256, or with two. None
/// of it is checked.
///
/// # Errors
/// As [`verify_image`], as far as header and TLVs are concerned.
pub fn read_info<F: ReadNorFlash>(
    flash: &mut F,
    start: u32,
    slot_size: u32,
) -> Result<Option<ImageInfo>, VerifyError<F::Error>> {
    let (header, mut tlvs) = read_frame(flash, start, slot_size, u32::MAX)?;
    let (mut found, mut security_counter) = (None, None);
    while let Some(tlv) = tlvs.next(flash)? {
        match tlv.kind {
            // With two, it is not clear which one is meant.
            kind if kind == HASH.tlv() => match found {
                Some(_) => return Ok(None),
                None => found = read_digest(flash, &tlv)?,
            },
            types::SECURITY_COUNTER if tlv.protected => security_counter = read_counter(flash, &tlv)?,
            _ => {}
        }
    }
    Ok(found.map(|digest| ImageInfo {
        header,
        total_size: tlvs.total_size(),
        digest,
        security_counter,
    }))
}

/// The result of the signatures checked so far. There are three states, so that "nothing checked" is never taken for
/// "good". Values as for [`SignatureCheck`].
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Unsigned = NEITHER,
    Bad = BAD,
    Good = GOOD,
}

/// True if an entry of type `kind` may be in the unprotected area (MCUboot's allow-list).
fn allowed_unprotected(kind: u16) -> bool {
    matches!(kind, types::KEY_HASH | types::PUBLIC_KEY | 0x10..=0x12 | 0x20..=0x25 | 0x30..=0x34)
}

/// Reads a value of exactly the size of a digest; `None` if it has another length.
fn read_digest<F: ReadNorFlash>(flash: &mut F, tlv: &Tlv) -> Result<Option<Digest>, VerifyError<F::Error>> {
    let mut value = [0; HASH.size()];
    if usize::from(tlv.length) != value.len() {
        return Ok(None);
    }
    read_bytes(flash, tlv.offset, &mut value).map_err(VerifyError::Flash)?;
    Ok(Some(value))
}

/// Reads a security counter; `None` if it does not have the length of a u32.
fn read_counter<F: ReadNorFlash>(flash: &mut F, tlv: &Tlv) -> Result<Option<u32>, VerifyError<F::Error>> {
    if tlv.length != 4 {
        return Ok(None);
    }
    let mut value = [0; 4];
    read_bytes(flash, tlv.offset, &mut value).map_err(VerifyError::Flash)?;
    Ok(Some(u32::from_le_bytes(value)))
}

#[inline(never)]
fn read_signature<F: ReadNorFlash>(
    flash: &mut F,
    tlv: &Tlv,
) -> Result<Option<Signature>, VerifyError<F::Error>> {
    let mut value = [0; MAX_SIGNATURE_SIZE];
    let Some(bytes) = value.get_mut(..usize::from(tlv.length)) else {
        return Ok(None);
    };
    read_bytes(flash, tlv.offset, bytes).map_err(VerifyError::Flash)?;
    Ok(Signature::from_der(bytes).ok())
}

/// Walks over the TLVs: every hash must match, and the last signature by a known key decides.
fn judge<F: ReadNorFlash, C: Crypto>(
    flash: &mut F,
    header: ImageHeader,
    mut tlvs: TlvWalker,
    policy: &ImagePolicy<'_>,
    crypto: &C,
    digest: Digest,
) -> Result<ImageInfo, VerifyError<F::Error>> {
    let mut announced = None;
    let mut security_counter = None;
    let mut selected: Option<&Key> = None;
    let mut verdict = Verdict::Unsigned;
    let mut signatures_left = MAX_SIGNATURES;
    let trusted = policy.trusted_digests.contains(&digest);
    while let Some(tlv) = tlvs.next(flash)? {
        if !tlv.protected && !allowed_unprotected(tlv.kind) {
            return Err(VerifyError::UnexpectedTlv(tlv.kind));
        }
        match tlv.kind {
            kind if kind == HASH.tlv() => match read_digest(flash, &tlv)? {
                None => return Err(VerifyError::HashLength),
                Some(value) if value != digest => return Err(VerifyError::HashMismatch),
                value => announced = value,
            },
            types::SECURITY_COUNTER if tlv.protected => security_counter = read_counter(flash, &tlv)?,
            types::KEY_HASH => {
                let wanted = read_digest(flash, &tlv)?;
                selected = policy
                    .keys
                    .iter()
                    .find(|key| Some(key.key_hash(crypto)) == wanted);
            }
            kind => {
                if let Some(key) = selected.filter(|key| key.signature_tlv() == kind) {
                    selected = None;
                    signatures_left = signatures_left.checked_sub(1).ok_or(VerifyError::TooManyTlvs)?;
                    let checked = match read_signature(flash, &tlv)? {
                        // Whatever a signature says, the digest is trusted.
                        _ if trusted => continue,
                        Some(signature) => crypto.verify(key, &digest, &signature),
                        None => SignatureCheck::Bad,
                    };
                    verdict = match checked {
                        SignatureCheck::Good => Verdict::Good,
                        SignatureCheck::Bad => Verdict::Bad,
                        SignatureCheck::Unavailable => return Err(VerifyError::Unavailable),
                    };
                }
            }
        }
    }
    // Twice, of values that the compiler must not take for known: one branch that a fault skips approves no image.
    for _ in 0..2 {
        if *black_box(&announced).as_ref().ok_or(VerifyError::NoHash)? != digest {
            return Err(VerifyError::HashMismatch);
        }
        match *black_box(&verdict) {
            Verdict::Good => {}
            _ if black_box(trusted) || policy.unsigned => {}
            Verdict::Unsigned => return Err(VerifyError::NotSigned),
            Verdict::Bad => return Err(VerifyError::BadSignature),
        }
    }
    Ok(ImageInfo {
        header,
        total_size: tlvs.total_size(),
        digest,
        security_counter,
    })
}

/// State of a [`Slot`]: bytes were written but not checked.
#[derive(Clone, Copy, Debug)]
pub struct Written(());

/// State of a [`Slot`]: it holds an image that this device may start.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    info: ImageInfo,
}

/// The secondary slot as a token: a swap can only be requested with a `Slot<Verified>`, and only a check makes one.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'l, State> {
    layout: &'l Layout,
    state: State,
}

impl<'l, State> Slot<'l, State> {
    /// The layout the slot belongs to.
    pub fn layout(&self) -> &'l Layout {
        self.layout
    }
}

impl<'l> Slot<'l, Written> {
    /// The secondary slot of `layout`, unchecked.
    pub fn new(layout: &'l Layout) -> Self {
        Self {
            layout,
            state: Written(()),
        }
    }

    /// Reads and checks the whole image in the slot; `flash` is the secondary slot.
    ///
    /// # Errors
    /// As [`verify_image`].
    pub fn verify<F: ReadNorFlash, C: Crypto>(
        self,
        flash: &mut F,
        policy: &ImagePolicy<'_>,
        crypto: &C,
    ) -> Result<Slot<'l, Verified>, VerifyError<F::Error>> {
        let layout = self.layout;
        let (start, size, limit) = (
            layout.upload_offset(),
            layout.secondary().slot_size,
            layout.max_image_size(),
        );
        let info = verify_image(flash, start, size, limit, policy, crypto)?;
        Ok(Slot {
            layout,
            state: Verified { info },
        })
    }

    /// Checks the image in the slot with the digest that was computed while its bytes arrived.
    ///
    /// # Errors
    /// As [`verify_image`].
    pub fn verify_with_digest<F: ReadNorFlash, C: Crypto>(
        self,
        flash: &mut F,
        policy: &ImagePolicy<'_>,
        crypto: &C,
        digest: &Digest,
    ) -> Result<Slot<'l, Verified>, VerifyError<F::Error>> {
        let layout = self.layout;
        let (start, size, limit) = (
            layout.upload_offset(),
            layout.secondary().slot_size,
            layout.max_image_size(),
        );
        let info = verify_image_with_digest(flash, start, size, limit, policy, crypto, digest)?;
        Ok(Slot {
            layout,
            state: Verified { info },
        })
    }
}

impl Slot<'_, Verified> {
    /// The image in the slot.
    pub fn info(&self) -> &ImageInfo {
        &self.state.info
    }
}

#[cfg(test)]
mod tests;
