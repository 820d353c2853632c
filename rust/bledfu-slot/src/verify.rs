// SPDX-License-Identifier: Apache-2.0
//! Is this an image we may start? Header, TLVs, SHA-256 and ECDSA-P256, as MCUboot's `image_validate.c` asks.
//!
//! What is hashed: header with filler, payload and protected TLV area. What is signed: that digest. A signature entry is
//! checked with the key that the key-hash entry before it selects; the *last signature checked decides*, so an image may
//! carry signatures of other keys as well. Stricter than MCUboot, all allowed by tools that exist: a key hash must have
//! its full length, DER must be minimal with at most two zero bytes behind it, unknown unprotected TLVs are refused (the
//! allow-list of its Zephyr port), an image without any signature passes only by a trusted digest, and there are at most
//! [`MAX_SIGNATURES`] signatures to check, for one check takes a small processor 0.2 s.

use embedded_storage::nor_flash::{NorFlashError, NorFlashErrorKind, ReadNorFlash};

use crate::flash::{read_bytes, Aligned};
use crate::header::{AddressRange, HeaderError, ImageHeader, ImageStart};
use crate::layout::Layout;
use crate::tlv::{types, Tlv, TlvError, TlvReadError, TlvWalker};
use crate::transform::{Direction, Plain, Transform};

/// Bytes hashed per read; a multiple of every `READ_SIZE`.
const HASH_CHUNK: usize = 512;

/// Longest ECDSA-P256 entry accepted: 72 bytes of DER and the two zero bytes an old `imgtool --pad-sig` may append.
const MAX_SIGNATURE_SIZE: usize = 74;

/// Most signatures of known keys in an image. No tool writes more than one for each key.
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

/// The hash algorithm of this build: MCUboot, too, has one in a build.
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

/// What a signature check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum SignatureCheck {
    /// The key's owner signed this digest.
    Good,
    /// The key's owner did not; also for a key off the curve, and for numbers out of range.
    Bad,
    /// It could not be checked: a peripheral is busy or failed, or this key is of a kind that the platform lacks. As with a flash
    /// that cannot be read, this says nothing about the image: it may be good.
    Unavailable,
}

/// The cryptography a product brings: [`SoftCrypto`], or its platform's (PSA, CryptoCell).
pub trait Crypto {
    /// Its SHA-256.
    type Sha256: Sha256;

    /// Checks a signature over a digest.
    fn verify(&self, key: &Key, digest: &Digest, signature: &Signature) -> SignatureCheck;

    /// Checks a signature whose key is not named: [`SignatureCheck::Good`] if it is of one of the keys, and
    /// [`SignatureCheck::Unavailable`] if it is of none that could be tried, but not all could.
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

/// SHA-256 and P-256 in Rust (`sha2`, `p256`); with the feature `cortex-m-crypto` on an Arm processor, P-256 in its assembly
/// (`p256-cm4`).
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

/// The words of a number of 32 bytes, most significant byte first; the least significant word comes first.
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
    /// ECDSA on P-256: X then Y, 32 bytes each, big-endian. A key off the curve verifies nothing.
    P256([u8; 64]),
}

impl Key {
    /// A P-256 key out of X and Y; nothing is checked here, a key off the curve verifies nothing.
    pub const fn new(xy: [u8; 64]) -> Self {
        Self::P256(xy)
    }

    /// A P-256 key out of 64 bytes; `None` if there are not exactly 64.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::P256)
    }

    /// The bytes of the key, as its kind has them.
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

    /// Hash of the key's SubjectPublicKeyInfo (91 bytes for P-256): how an image names the key it was signed with.
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

/// A signature of 64 bytes. Of a P-256 key: r then s, 32 bytes each, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature([u8; 64]);

/// The bytes are not the DER form of an ECDSA-P256 signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureFormatError;

impl core::fmt::Display for SignatureFormatError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the bytes are not the DER form of an ECDSA-P256 signature")
    }
}

impl core::error::Error for SignatureFormatError {}

/// Splits one minimal, non-negative DER integer of at most 32 value bytes off `bytes`.
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
    /// A signature out of r and s, both big-endian.
    pub const fn from_be(rs: [u8; 64]) -> Self {
        Self(rs)
    }

    /// A signature out of r and s, each reversed (little-endian): the form of the Nordic init packet.
    pub fn from_le_halves(rs: &[u8; 64]) -> Self {
        let mut value = *rs;
        let (r, s) = value.split_at_mut(32);
        r.reverse();
        s.reverse();
        Self(value)
    }

    /// A signature out of `SEQUENCE { INTEGER r, INTEGER s }`.
    ///
    /// Strict: minimal lengths, no negative numbers, nothing behind it but at most two zero bytes.
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
    /// Images accepted by their digest alone: what the factory programmed.
    pub trusted_digests: &'k [Digest],
    /// Signatures do not count: an image is as good as its SHA-256.
    pub unsigned: bool,
    /// Where the processor sees the primary slot: an image whose reset vector lies elsewhere is one for another slot, or for
    /// another processor (MCUboot `MCUBOOT_VERIFY_IMG_ADDRESS`). For Cortex-M only; `None` checks nothing.
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

/// Why an image is refused.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError<E> {
    /// The flash could not be read; the image may be good.
    Flash(E),
    /// The signature could not be checked; the image may be good.
    Unavailable,
    /// The header is not that of an image this device can start.
    Header(HeaderError),
    /// The TLV areas are malformed.
    Tlv(TlvError),
    /// An unprotected TLV of a type that no tool puts there.
    UnexpectedTlv(u16),
    /// More than [`MAX_SIGNATURES`] signatures of known keys, more than [`crate::tlv::MAX_ENTRIES`] TLVs, or an unprotected area
    /// of more than [`crate::tlv::MAX_UNPROTECTED_SIZE`] bytes.
    TooManyTlvs,
    /// The whole image is larger than the install algorithm can handle.
    TooLarge,
    /// There is no SHA-256 in the image.
    NoHash,
    /// The SHA-256 in the image does not have 32 bytes.
    HashLength,
    /// The SHA-256 in the image is not that of its bytes.
    HashMismatch,
    /// The image is not signed with a key of this device.
    NotSigned,
    /// The deciding signature is malformed or wrong.
    BadSignature,
    /// The image is older than the running one.
    Older,
    /// The security counter is missing, or lower than that of the running image.
    SecurityCounter,
    /// There is an image where the install algorithm does not look for one: at the start of a slot that holds updates from
    /// its second sector on.
    Misplaced,
    /// The image was installed and taken back three times, and no other was confirmed since.
    TakenBack,
}

impl<E: core::fmt::Debug> core::fmt::Display for VerifyError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Flash(error) => write!(f, "the flash could not be read: {error:?}"),
            Self::Unavailable => f.write_str("the cryptography was not available"),
            Self::Header(error) => error.fmt(f),
            Self::Tlv(error) => error.fmt(f),
            Self::UnexpectedTlv(kind) => write!(f, "unexpected unprotected TLV {kind:#06x}"),
            Self::TooManyTlvs => {
                f.write_str("the image carries more TLVs or signatures than any signing tool writes")
            }
            Self::TooLarge => f.write_str("the image is larger than can be installed"),
            Self::NoHash => f.write_str("the image carries no SHA-256"),
            Self::HashLength => f.write_str("the SHA-256 entry has a wrong length"),
            Self::HashMismatch => f.write_str("the SHA-256 does not match the image"),
            Self::NotSigned => f.write_str("the image is not signed with a key of this device"),
            Self::BadSignature => f.write_str("the signature is wrong"),
            Self::Older => f.write_str("the image is older than the running one"),
            Self::SecurityCounter => {
                f.write_str("the security counter is missing, or lower than that of the running image")
            }
            Self::TakenBack => f.write_str("the image was taken back three times"),
            Self::Misplaced => f.write_str("the image must be stored from the second sector of the slot on"),
        }
    }
}

impl<E: core::fmt::Debug> core::error::Error for VerifyError<E> {}

impl<E> From<HeaderError> for VerifyError<E> {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}

impl<E> From<TlvReadError<E>> for VerifyError<E> {
    fn from(error: TlvReadError<E>) -> Self {
        match error {
            TlvReadError::Flash(error) => Self::Flash(error),
            TlvReadError::Header(error) => Self::Header(error),
            TlvReadError::Format(error) => Self::Tlv(error),
            TlvReadError::TooMany => Self::TooManyTlvs,
        }
    }
}

impl<E> VerifyError<E> {
    /// Whether this says something about the image. If not (a flash that could not be read, cryptography that was not available)
    /// nothing may be erased or refused for it: the next look may find a good image.
    pub const fn is_about_image(&self) -> bool {
        !matches!(self, Self::Flash(_) | Self::Unavailable)
    }
}

impl<E: NorFlashError> VerifyError<E> {
    /// The same reason without the driver's own error type: for reports that outlive the driver.
    pub fn kind(self) -> VerifyError<NorFlashErrorKind> {
        match self {
            Self::Flash(error) => VerifyError::Flash(error.kind()),
            Self::Unavailable => VerifyError::Unavailable,
            Self::Header(error) => VerifyError::Header(error),
            Self::Tlv(error) => VerifyError::Tlv(error),
            Self::UnexpectedTlv(kind) => VerifyError::UnexpectedTlv(kind),
            Self::TooManyTlvs => VerifyError::TooManyTlvs,
            Self::TooLarge => VerifyError::TooLarge,
            Self::NoHash => VerifyError::NoHash,
            Self::HashLength => VerifyError::HashLength,
            Self::HashMismatch => VerifyError::HashMismatch,
            Self::NotSigned => VerifyError::NotSigned,
            Self::BadSignature => VerifyError::BadSignature,
            Self::Older => VerifyError::Older,
            Self::SecurityCounter => VerifyError::SecurityCounter,
            Self::Misplaced => VerifyError::Misplaced,
            Self::TakenBack => VerifyError::TakenBack,
        }
    }
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

/// Header and TLV areas of the image at `start`: everything that can be said without reading the payload.
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
    // Behind the stack pointer. Cannot overflow: `read_frame` bounded the sum by the slot.
    let offset = u32::from(header.header_size) + 4;
    read_bytes(flash, start.saturating_add(offset), &mut vector).map_err(VerifyError::Flash)?;
    transform.apply(Direction::Inward, offset, &mut vector);
    Ok(header.check_address(u32::from_le_bytes(vector), slot)?)
}

/// Total size of the image at `start` by its header and TLV areas, in bytes; nothing is hashed.
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

/// [`verify_image`] for an image in an area outside, which has another form there. `tick` is called before everything that takes
/// time: verifying a large image takes longer than a watchdog waits.
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
    let mut hash = crypto.sha256();
    let mut chunk = Aligned([0; HASH_CHUNK]);
    let mut done = 0;
    let end = header.hashed_size()?;
    while done < end {
        tick();
        let length = (end - done).min(HASH_CHUNK as u32);
        if let Some(part) = chunk.0.get_mut(..length as usize) {
            // Cannot overflow: `read_frame` bounded the sum by the slot.
            read_bytes(flash, start.saturating_add(done), part).map_err(VerifyError::Flash)?;
            transform.apply(Direction::Inward, done, part);
            hash.update(part);
        }
        done += length;
    }
    tick();
    judge(flash, header, tlvs, policy, crypto, hash.finish())
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

/// What an image says of itself, read without hashing it; `None` for an image without a SHA-256, or
/// with two. Nothing of it is checked.
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
            // Which of two would be meant?
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

/// What the signatures met so far say. Three states, so that "nothing checked" can never pass for "good".
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Unsigned,
    Bad,
    Good,
}

/// True if type `kind` may stand in the unprotected area (MCUboot's allow-list).
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

/// Reads a security counter; `None` if it has another length than a u32.
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

/// The walk over the TLVs: every hash must match, the last signature with a known key decides.
fn judge<F: ReadNorFlash, C: Crypto>(
    flash: &mut F,
    header: ImageHeader,
    mut tlvs: TlvWalker,
    policy: &ImagePolicy<'_>,
    crypto: &C,
    digest: Digest,
) -> Result<ImageInfo, VerifyError<F::Error>> {
    let mut hash_seen = false;
    let mut security_counter = None;
    let mut selected: Option<&Key> = None;
    let mut verdict = Verdict::Unsigned;
    let mut signatures_left = MAX_SIGNATURES;
    while let Some(tlv) = tlvs.next(flash)? {
        if !tlv.protected && !allowed_unprotected(tlv.kind) {
            return Err(VerifyError::UnexpectedTlv(tlv.kind));
        }
        match tlv.kind {
            kind if kind == HASH.tlv() => match read_digest(flash, &tlv)? {
                None => return Err(VerifyError::HashLength),
                Some(value) if value != digest => return Err(VerifyError::HashMismatch),
                Some(_) => hash_seen = true,
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
    if !hash_seen {
        return Err(VerifyError::NoHash);
    }
    let trusted = policy.trusted_digests.contains(&digest);
    match verdict {
        Verdict::Good => {}
        _ if trusted || policy.unsigned => {}
        Verdict::Unsigned => return Err(VerifyError::NotSigned),
        Verdict::Bad => return Err(VerifyError::BadSignature),
    }
    Ok(ImageInfo {
        header,
        total_size: tlvs.total_size(),
        digest,
        security_counter,
    })
}

/// Digest of a file and of the image in it, in one pass while the bytes arrive in order.
///
/// The first 32 bytes say where the hashed part of the image ends; there the running hash is forked. A clone is a
/// snapshot to roll back to.
#[derive(Clone, Debug)]
pub struct StreamDigest<H: Sha256> {
    file: H,
    start: ImageStart,
    position: u32,
    /// Where the image digest is taken; `u32::MAX` (no file is that long) until the header says, or if it is none.
    fork_at: u32,
    image: Option<Digest>,
}

impl<H: Sha256> StreamDigest<H> {
    /// Starts at position 0 with a fresh hash.
    pub fn new(hash: H) -> Self {
        Self {
            file: hash,
            start: ImageStart::new(),
            position: 0,
            fork_at: u32::MAX,
            image: None,
        }
    }

    /// Appends the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = self.position as usize;
            // Stop where there is something to do: behind the header, and at the fork.
            let stop = if at < ImageHeader::SIZE {
                ImageHeader::SIZE
            } else {
                self.fork_at as usize
            };
            let length = match stop.checked_sub(at) {
                Some(room) if room > 0 => room.min(rest.len()),
                _ => rest.len(),
            };
            let (now, later) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            self.start.update(now);
            self.file.update(now);
            self.position = self.position.saturating_add(now.len() as u32);
            rest = later;
            if self.position as usize == ImageHeader::SIZE {
                self.fork_at = self
                    .start
                    .header()
                    .and_then(|header| header.hashed_size())
                    .unwrap_or(u32::MAX);
            }
            if self.position == self.fork_at && self.image.is_none() {
                self.image = Some(self.file.clone().finish());
            }
        }
    }

    /// Number of bytes so far.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// What the first bytes of the image say.
    pub fn start(&self) -> &ImageStart {
        &self.start
    }

    /// SHA-256 of all bytes so far.
    pub fn file_digest(&self) -> Digest {
        self.file.clone().finish()
    }

    /// SHA-256 of header, payload and protected TLVs, once all of them have passed.
    pub fn image_digest(&self) -> Option<Digest> {
        self.image
    }
}

/// State of a [`Slot`]: bytes were written, nobody has looked at them.
#[derive(Clone, Copy, Debug)]
pub struct Written(());

/// State of a [`Slot`]: it holds an image that this device may start.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    info: ImageInfo,
}

/// The secondary slot as a token: a swap can be requested with a `Slot<Verified>` only, and only a check makes one.
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

    /// Checks the image in the slot, reading it all; `flash` is the secondary slot.
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
mod tests {
    use super::*;
    use crate::tlv::SliceFlash;
    use bledfu_testkit::{der_integer as der, der_signature, sha256, Image, Key, Random};
    use std::vec::Vec;

    const KEY: Key = Key(1);
    const OTHER: Key = Key(2);
    const STRANGER: Key = Key(3);
    const SLOT: u32 = 0x10000;
    const LIMIT: u32 = 0xE000;

    fn check_within(bytes: &[u8], limit: u32) -> Result<ImageInfo, VerifyError<NorFlashErrorKind>> {
        let mut slot = std::vec![0xFF; SLOT as usize];
        slot[..bytes.len()].copy_from_slice(bytes);
        let keys = [super::Key::new(KEY.public()), super::Key::new(OTHER.public())];
        let policy = ImagePolicy {
            keys: &keys,
            trusted_digests: &[],
            unsigned: false,
            address: None,
        };
        verify_image(&mut SliceFlash(&slot), 0, SLOT, limit, &policy, &SoftCrypto)
    }

    fn check(bytes: &[u8]) -> Result<ImageInfo, VerifyError<NorFlashErrorKind>> {
        check_within(bytes, LIMIT)
    }

    fn refused(bytes: &[u8]) -> VerifyError<NorFlashErrorKind> {
        check(bytes).expect_err("must be refused")
    }

    fn image() -> Image {
        Image::bare(0x200, 3000, 1).protect(&[(0x50, &7u32.to_le_bytes())])
    }

    fn good() -> Vec<u8> {
        image().sign(KEY).bytes()
    }

    /// `good()` with one byte replaced.
    fn patched(at: usize, byte: u8) -> Vec<u8> {
        let mut bytes = good();
        assert_ne!(bytes[at], byte);
        bytes[at] = byte;
        bytes
    }

    fn with_entries(change: impl FnOnce(&mut Vec<(u16, Vec<u8>)>)) -> Vec<u8> {
        let mut image = image().sign(KEY);
        change(&mut image.entries);
        image.bytes()
    }

    /// Where the unprotected area of `good()` starts.
    const AREA: usize = 0x200 + 3000 + 12;

    #[test]
    fn accepts_what_imgtool_signs() {
        let bytes = good();
        let info = check(&bytes).unwrap();
        assert_eq!(info.total_size as usize, bytes.len());
        assert_eq!(info.digest, image().digest());
        assert!(check(&Image::bare(0x20, 1, 1).sign(OTHER).bytes()).is_ok());
    }

    #[test]
    fn the_worked_example_has_its_tlvs_where_mcuboot_says() {
        // imgtool sign --version 1.2.3+4 -s 7 --header-size 0x200, payload 00..3f; the signature has 71 bytes there.
        let image = (0..)
            .map(|n| {
                let mut image = Image::bare(0x200, 64, n);
                for (i, byte) in image.body[0x200..].iter_mut().enumerate() {
                    *byte = i as u8;
                }
                image.body[28] = 0;
                image
                    .protect(&[(0x50, &7u32.to_le_bytes())])
                    .sign(Key(n as u8 + 1))
            })
            .find(|image| image.entries[2].1.len() == 71)
            .unwrap();
        let bytes = image.bytes();
        assert_eq!(bytes.len(), 739);
        assert_eq!(
            bytes[0x240..0x250],
            [0x08, 0x69, 12, 0, 0x50, 0, 4, 0, 7, 0, 0, 0, 0x07, 0x69, 0x97, 0]
        );
        let mut flash = SliceFlash(&bytes);
        let header = read_header(&mut flash, 0).unwrap();
        let mut tlvs = TlvWalker::new(&mut flash, 0, &header, 0x10000).unwrap();
        assert_eq!(tlvs.total_size(), 739);
        let mut found = Vec::new();
        while let Some(tlv) = tlvs.next(&mut flash).unwrap() {
            found.push((tlv.kind, tlv.length, tlv.offset, tlv.protected));
        }
        assert_eq!(
            found,
            [
                (0x50, 4, 0x248, true),
                (0x10, 32, 0x254, false),
                (0x01, 32, 0x278, false),
                (0x22, 71, 0x29C, false)
            ]
        );
        assert_eq!(image_size(&mut flash, 0, 0x10000), Ok(739));
        assert_eq!(bytes[0x254..0x274], sha256(&bytes[..0x24C]));
    }

    #[test]
    fn key_hashes_are_of_the_whole_public_key_info() {
        assert_eq!(super::Key::new(KEY.public()).key_hash(&SoftCrypto), KEY.hash());
        assert_eq!(
            super::Key::from_bytes(&KEY.public()),
            Some(super::Key::new(KEY.public()))
        );
        assert_eq!(super::Key::from_bytes(&[0; 65]), None);
    }

    #[test]
    fn damaged_headers_are_refused() {
        assert_eq!(
            refused(&patched(0, 0x3C)),
            VerifyError::Header(HeaderError::BadMagic)
        ); // mcuboot case 3
        assert_eq!(refused(&[]), VerifyError::Header(HeaderError::Erased)); // mcuboot case 4
        assert_eq!(
            refused(&patched(3, 0x97)),
            VerifyError::Header(HeaderError::BadMagic)
        ); // mcuboot case 5
        let mut bytes = good();
        bytes[12..16].copy_from_slice(&0xFFFF_FFF0u32.to_le_bytes());
        assert_eq!(refused(&bytes), VerifyError::Header(HeaderError::Overflow)); // mcuboot case 6
        bytes[12..16].copy_from_slice(&0xFFFF_0000u32.to_le_bytes());
        bytes[8..10].copy_from_slice(&[0xFF; 2]);
        assert!(check(&bytes).is_err()); // mcuboot case 7
        for (sum, reason) in [
            (SLOT, VerifyError::Header(HeaderError::TooLarge)),
            (SLOT - 1, VerifyError::Tlv(TlvError::AreaTooLarge)),
        ] {
            let mut bytes = good();
            bytes[12..16].copy_from_slice(&(sum - 0x200 - 12).to_le_bytes());
            assert_eq!(refused(&bytes), reason); // mcuboot case 8
        }
        let mut bytes = good();
        bytes[12..16].fill(0);
        assert!(check(&bytes).is_err()); // mcuboot case 9
        assert!(check(&Image::bare(0x200, 0, 1).sign(KEY).bytes()).is_ok());
        for size in [0u16, 31] {
            let mut bytes = good();
            bytes[8..10].copy_from_slice(&size.to_le_bytes());
            assert_eq!(refused(&bytes), VerifyError::Header(HeaderError::HeaderTooSmall));
            // mcuboot case 10
        }
    }

    #[test]
    fn protected_areas_must_be_as_the_header_says() {
        let reason = VerifyError::Tlv(TlvError::ProtectedArea);
        let mut bytes = Image::bare(0x200, 3000, 1).sign(KEY).bytes();
        bytes[10] = 12;
        assert_eq!(refused(&bytes), reason); // mcuboot case 11
        assert_eq!(refused(&patched(10, 0)), VerifyError::Tlv(TlvError::InfoMagic)); // mcuboot case 12
        assert_eq!(refused(&patched(10, 13)), reason); // mcuboot case 13
        assert_eq!(refused(&patched(0x200 + 3000 + 2, 8)), reason);
        let mut bytes = good();
        bytes[10] = 3;
        bytes[0x200 + 3000 + 2] = 3;
        assert_eq!(refused(&bytes), reason);
    }

    #[test]
    fn flags_decide_as_in_mcuboot() {
        let of = |flags| check(&image().flags(flags).sign(KEY).bytes()).err();
        for flags in [0x04, 0x08, 0x0C] {
            assert_eq!(of(flags), Some(VerifyError::Header(HeaderError::Encrypted)));
            // mcuboot cases 14, 15
        }
        assert_eq!(of(0x200), Some(VerifyError::Header(HeaderError::Compressed))); // mcuboot case 16
        assert_eq!(of(0x10), Some(VerifyError::Header(HeaderError::NotBootable))); // mcuboot case 17
        assert_eq!(of(0x4000_0001), None); // mcuboot case 18
    }

    #[test]
    fn every_hashed_byte_counts() {
        // Payload, header filler, version, protected TLV: mcuboot cases 19-22.
        for at in [0x200, 0x200 + 2999, 0x20, 0x1FF, 20, 27, 28, 0x200 + 3000 + 8] {
            let flipped = good()[at] ^ 0x10;
            assert_eq!(
                refused(&patched(at, flipped)),
                VerifyError::HashMismatch,
                "byte {at:#x}"
            );
        }
    }

    #[test]
    fn unprotected_areas_must_be_well_formed() {
        let total = u16::from_le_bytes([good()[AREA + 2], good()[AREA + 3]]);
        let with_total = |total: u16| {
            let mut bytes = good();
            bytes[AREA + 2..AREA + 4].copy_from_slice(&total.to_le_bytes());
            refused(&bytes)
        };
        assert_eq!(
            refused(&patched(AREA, 0x08)),
            VerifyError::Tlv(TlvError::InfoMagic)
        ); // mcuboot case 23
        assert_eq!(with_total(0), VerifyError::Tlv(TlvError::AreaTooSmall)); // mcuboot case 24
        assert_eq!(with_total(4), VerifyError::NoHash); // mcuboot case 25
        assert_eq!(with_total(0xFFFF), VerifyError::Tlv(TlvError::AreaTooLarge)); // mcuboot case 26
        for wrong in [total - 1, total + 1, total + 4] {
            assert_eq!(with_total(wrong), VerifyError::Tlv(TlvError::EntryOverrun));
            // mcuboot cases 27, 47
        }
    }

    #[test]
    fn the_hash_must_be_there_whole_and_right() {
        let resized = |length| with_entries(|entries| entries[0].1.resize(length, 0));
        assert_eq!(refused(&resized(31)), VerifyError::HashLength); // mcuboot case 28
        assert_eq!(refused(&resized(33)), VerifyError::HashLength);
        assert_eq!(
            refused(&with_entries(|entries| drop(entries.remove(0)))),
            VerifyError::NoHash
        ); // mcuboot case 29
        assert_eq!(
            refused(&with_entries(|entries| entries[0].0 = 0x11)),
            VerifyError::NoHash
        ); // mcuboot case 30
        let two = with_entries(|entries| entries.push((0x10, std::vec![0; 32])));
        assert_eq!(refused(&two), VerifyError::HashMismatch); // mcuboot case 31
        assert!(check(&with_entries(|entries| entries.rotate_left(1))).is_ok());
        // mcuboot case 44
    }

    #[test]
    fn only_a_signature_behind_the_hash_of_a_known_key_counts() {
        assert_eq!(refused(&image().sign(STRANGER).bytes()), VerifyError::NotSigned); // mcuboot case 32
        let mut bytes = good();
        let key_hash = AREA + 4 + 36;
        bytes[key_hash + 2..key_hash + 4].fill(0xFF);
        assert_eq!(refused(&bytes), VerifyError::Tlv(TlvError::EntryOverrun)); // mcuboot case 33
        for length in [0, 31] {
            let short = with_entries(|entries| entries[1].1.truncate(length));
            assert_eq!(refused(&short), VerifyError::NotSigned); // mcuboot case 34, stricter than MCUboot
        }
        assert_eq!(
            refused(&with_entries(|entries| drop(entries.pop()))),
            VerifyError::NotSigned
        ); // mcuboot case 35
        assert_eq!(
            refused(&with_entries(|entries| drop(entries.remove(1)))),
            VerifyError::NotSigned
        ); // mcuboot case 36
        assert_eq!(
            refused(&with_entries(|entries| entries.swap(1, 2))),
            VerifyError::NotSigned
        ); // mcuboot case 37
        assert_eq!(
            refused(&with_entries(|entries| entries[2].0 = 0x24)),
            VerifyError::NotSigned
        ); // mcuboot case 46
    }

    #[test]
    fn damaged_signatures_are_refused() {
        let signature = |change: &dyn Fn(&mut Vec<u8>)| {
            check(&with_entries(|entries| change(&mut entries[2].1))).map(|_| ())
        };
        let bad = Err(VerifyError::BadSignature);
        assert_eq!(signature(&|s| s[20] ^= 1), bad); // mcuboot case 38
        assert_eq!(signature(&|s| s.truncate(s.len() - 1)), bad); // mcuboot case 39
        assert_eq!(signature(&|s| s.extend([0, 0])), Ok(())); // mcuboot case 40
        assert_eq!(signature(&|s| s.extend([0, 0, 0])), bad);
        assert_eq!(signature(&|s| s.extend([0, 1])), bad);
        assert_eq!(signature(&|s| s.extend([0; 60])), bad);
        assert_eq!(signature(&|s| s.clear()), bad);
    }

    #[test]
    fn the_last_signature_of_a_known_key_decides() {
        let pairs = |list: &[(Key, bool)]| {
            let mut image = image();
            image.entries.push(image.hash_entry());
            for (key, valid) in list {
                let [hash, mut signature] = image.signature_entries(*key);
                if !valid {
                    signature.1[12] ^= 4;
                }
                image.entries.extend([hash, signature]);
            }
            check(&image.bytes()).map(|_| ())
        };
        assert_eq!(pairs(&[(KEY, false), (KEY, true)]), Ok(())); // mcuboot case 41
        assert_eq!(
            pairs(&[(KEY, true), (OTHER, false)]),
            Err(VerifyError::BadSignature)
        ); // mcuboot case 42
        assert_eq!(pairs(&[(KEY, true), (STRANGER, true)]), Ok(())); // mcuboot case 43
        assert_eq!(pairs(&[(STRANGER, true), (OTHER, true)]), Ok(()));
    }

    #[test]
    fn unknown_unprotected_tlvs_are_refused_and_protected_ones_are_not() {
        let extra = with_entries(|entries| entries.push((0xA0, std::vec![1, 2])));
        assert_eq!(refused(&extra), VerifyError::UnexpectedTlv(0xA0)); // mcuboot case 45, with the allow-list
        assert!(check(
            &Image::bare(0x200, 10, 1)
                .protect(&[(0xA0, &[1, 2])])
                .sign(KEY)
                .bytes()
        )
        .is_ok());
    }

    #[test]
    fn a_protected_tlv_may_not_reach_into_the_unprotected_area() {
        let mut image = image();
        let at = image.body.len() - 8 + 2;
        image.body[at] = 8; // four bytes longer than the area
        assert_eq!(
            refused(&image.sign(KEY).bytes()),
            VerifyError::Tlv(TlvError::EntryOverrun)
        ); // mcuboot case 48
    }

    #[test]
    fn signature_numbers_must_be_minimal_positive_and_in_range() {
        const ORDER: Digest = [
            0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6,
            0xFA, 0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
        ];
        let rs = KEY.sign(&image().digest());
        let (r, s) = (der(&rs[..32]), der(&rs[32..]));
        let with = |signature: Vec<u8>| check(&with_entries(|entries| entries[2].1 = signature)).map(|_| ());
        assert_eq!(with(der_signature(&r, &s)), Ok(()));
        let bad = Err(VerifyError::BadSignature);
        for number in [std::vec![2, 1, 0], der(&ORDER), std::vec![2, 0]] {
            assert_eq!(with(der_signature(&number, &s)), bad); // mcuboot case 49
            assert_eq!(with(der_signature(&r, &number)), bad);
        }
        let wide = [&[2u8, 33, 0][..], &[0x12; 32]].concat(); // a zero too many
        let negative = [&[2u8, 32][..], &[0x92; 32]].concat();
        let long = [&[2u8, 34, 0, 0x80][..], &[1; 32]].concat(); // 33 value bytes
        for number in [wide, negative, long] {
            assert_eq!(
                Signature::from_der(&der_signature(&number, &s)),
                Err(SignatureFormatError)
            );
        }
        assert_eq!(Signature::from_der(&[0x30, 0x84]), Err(SignatureFormatError));
        assert_eq!(Signature::from_der(&[]), Err(SignatureFormatError));
    }

    #[test]
    fn parsing_a_signature_survives_any_bytes() {
        let mut random = Random::new(5);
        let good = KEY.sign_der(&[7; 32]);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..1 + random.next() % 3 {
                let at = random.next() as usize % bytes.len();
                bytes[at] = random.byte();
            }
            bytes.truncate(random.next() as usize % 80);
            let _ = Signature::from_der(&bytes);
        }
    }

    #[test]
    fn verification_survives_any_bytes() {
        let mut random = Random::new(6);
        let clean = good();
        let heads: Vec<usize> = (0..32).chain(0x200 + 3000..clean.len()).collect();
        for _ in 0..300 {
            let mut bytes = clean.clone();
            for _ in 0..1 + random.next() % 4 {
                let at = heads[random.next() as usize % heads.len()];
                bytes[at] = random.byte();
            }
            if bytes != clean {
                // Only what nobody looks at may differ.
                assert!(check(&bytes).is_err());
            }
        }
    }

    #[test]
    fn an_image_may_be_as_large_as_the_limit_and_no_larger() {
        let bytes = Image::of_total(LIMIT, 1, KEY).bytes();
        assert!(check_within(&bytes, LIMIT).is_ok()); // mcuboot case 50
        assert_eq!(check_within(&bytes, LIMIT - 1).err(), Some(VerifyError::TooLarge));
    }

    #[test]
    fn a_trusted_digest_needs_no_signature() {
        let mut image = image();
        image.entries.push(image.hash_entry());
        let bytes = image.bytes();
        let digest = [image.digest()];
        let verify = |trusted_digests: &[Digest]| {
            let policy = ImagePolicy {
                keys: &[],
                trusted_digests,
                unsigned: false,
                address: None,
            };
            verify_image(&mut SliceFlash(&bytes), 0, SLOT, LIMIT, &policy, &SoftCrypto).map(|_| ())
        };
        assert_eq!(verify(&digest), Ok(()));
        assert_eq!(verify(&[]), Err(VerifyError::NotSigned));
        assert_eq!(verify(&[[0; 32]]), Err(VerifyError::NotSigned));
    }

    #[test]
    fn a_digest_computed_on_the_way_is_as_good_as_one_read_back() {
        let bytes = good();
        let keys = [super::Key::new(KEY.public())];
        let policy = ImagePolicy {
            keys: &keys,
            trusted_digests: &[],
            unsigned: false,
            address: None,
        };
        for step in [1, 7, 32, 100, 4096] {
            let mut stream = StreamDigest::new(SoftCrypto.sha256());
            for chunk in bytes.chunks(step) {
                let snapshot = stream.clone();
                stream.update(chunk);
                stream = snapshot; // dropped and sent again
                stream.update(chunk);
            }
            assert_eq!(stream.position() as usize, bytes.len());
            assert_eq!(stream.file_digest(), sha256(&bytes));
            let digest = stream.image_digest().unwrap();
            assert_eq!(digest, image().digest());
            let flash = &mut SliceFlash(&bytes);
            assert!(verify_image_with_digest(flash, 0, SLOT, LIMIT, &policy, &SoftCrypto, &digest).is_ok());
            let wrong = verify_image_with_digest(flash, 0, SLOT, LIMIT, &policy, &SoftCrypto, &[0; 32]);
            assert_eq!(wrong.err(), Some(VerifyError::HashMismatch));
        }
    }

    #[test]
    fn a_stream_without_an_image_has_no_image_digest() {
        for bytes in [std::vec![0xFF; 100], std::vec![0; 31], good()[..600].to_vec()] {
            let mut stream = StreamDigest::new(SoftCrypto.sha256());
            stream.update(&bytes);
            assert_eq!(stream.image_digest(), None);
            assert_eq!(stream.file_digest(), sha256(&bytes));
        }
        // A header that claims to end before itself.
        let mut bytes = good();
        bytes[8..16].fill(0);
        let mut stream = StreamDigest::new(SoftCrypto.sha256());
        stream.update(&bytes);
        assert_eq!(stream.image_digest(), None);
    }

    #[test]
    fn init_packet_signatures_have_their_halves_reversed() {
        let mut halves = [0; 64];
        for (i, byte) in halves.iter_mut().enumerate() {
            *byte = i as u8;
        }
        let signature = Signature::from_le_halves(&halves);
        assert_eq!((signature.as_bytes()[0], signature.as_bytes()[31]), (31, 0));
        assert_eq!((signature.as_bytes()[32], signature.as_bytes()[63]), (63, 32));
    }

    #[test]
    fn an_unreadable_slot_says_nothing_about_the_image() {
        let bytes = good();
        let policy = ImagePolicy {
            keys: &[],
            trusted_digests: &[],
            unsigned: false,
            address: None,
        };
        let result = verify_image(
            &mut SliceFlash(&bytes[..2000]),
            0,
            SLOT,
            LIMIT,
            &policy,
            &SoftCrypto,
        );
        assert!(matches!(result, Err(VerifyError::Flash(_))));
    }

    #[test]
    fn an_image_for_another_slot_is_refused_wherever_it_is_stored() {
        let mut image = image();
        image.body[0x204..0x208].copy_from_slice(&0x0100_0105u32.to_le_bytes());
        let bytes = image.sign(KEY).bytes();
        let keys = [super::Key::new(KEY.public())];
        let check = |start: usize, range: Option<AddressRange>| {
            let mut slot = std::vec![0xFF; SLOT as usize];
            slot[start..start + bytes.len()].copy_from_slice(&bytes);
            let policy = ImagePolicy {
                keys: &keys,
                address: range,
                ..ImagePolicy::default()
            };
            let (flash, at) = (&mut SliceFlash(&slot), start as u32);
            verify_image(flash, at, SLOT, LIMIT, &policy, &SoftCrypto).map(|_| ())
        };
        let range = |start| Some(AddressRange { start, size: SLOT });
        for start in [0, 4096] {
            assert_eq!(check(start, None), Ok(()));
            assert_eq!(check(start, range(0x0100_0000)), Ok(()));
            assert!(matches!(
                check(start, range(0xC000)),
                Err(VerifyError::Header(HeaderError::WrongAddress {
                    reset_vector: 0x0100_0105,
                    ..
                }))
            ));
        }
    }

    /// Cannot check signatures, today.
    struct Busy;

    impl Crypto for Busy {
        type Sha256 = SoftSha256;

        fn verify(&self, _: &super::Key, _: &Digest, _: &Signature) -> SignatureCheck {
            SignatureCheck::Unavailable
        }
    }

    #[test]
    fn cryptography_that_is_not_available_says_nothing_about_the_image() {
        let bytes = good();
        let keys = [super::Key::new(KEY.public())];
        let policy = ImagePolicy {
            keys: &keys,
            ..ImagePolicy::default()
        };
        let flash = &mut SliceFlash(&bytes);
        let error = verify_image(flash, 0, SLOT, LIMIT, &policy, &Busy).unwrap_err();
        assert_eq!(error, VerifyError::Unavailable);
        assert!(!error.is_about_image());
        // What needs no signature check is known all the same.
        let mut damaged = good();
        damaged[0x300] ^= 1;
        let error = verify_image(&mut SliceFlash(&damaged), 0, SLOT, LIMIT, &policy, &Busy).unwrap_err();
        assert!(error == VerifyError::HashMismatch && error.is_about_image());
    }

    #[test]
    fn a_signature_of_one_key_of_several_counts_and_a_key_that_cannot_be_tried_is_no_refusal() {
        /// The first byte of a key's point is what its check finds.
        struct Listed;

        impl Crypto for Listed {
            type Sha256 = SoftSha256;

            fn verify(&self, key: &super::Key, _: &Digest, _: &Signature) -> SignatureCheck {
                let super::Key::P256(point) = key;
                match point[0] {
                    0 => SignatureCheck::Good,
                    1 => SignatureCheck::Bad,
                    _ => SignatureCheck::Unavailable,
                }
            }
        }

        let signature = Signature::from_le_halves(&[1; 64]);
        let any = |found: &[u8]| {
            let keys: std::vec::Vec<_> = found.iter().map(|first| super::Key::new([*first; 64])).collect();
            Listed.verify_any(&keys, &[0; 32], &signature)
        };
        assert_eq!(any(&[]), SignatureCheck::Bad);
        assert_eq!(any(&[1, 1]), SignatureCheck::Bad);
        assert_eq!(any(&[1, 2, 1]), SignatureCheck::Unavailable);
        assert_eq!(any(&[2, 1, 0]), SignatureCheck::Good);
    }

    /// Counts the signatures it checks.
    #[derive(Default)]
    struct Counting(core::cell::Cell<u32>);

    impl Crypto for Counting {
        type Sha256 = SoftSha256;

        fn verify(&self, key: &super::Key, digest: &Digest, signature: &Signature) -> SignatureCheck {
            self.0.set(self.0.get() + 1);
            SoftCrypto.verify(key, digest, signature)
        }
    }

    /// What an image with these unprotected entries costs, in signature checks, and what becomes of it.
    fn cost_of(image: &Image) -> (u32, Result<(), VerifyError<NorFlashErrorKind>>) {
        let bytes = image.bytes();
        let crypto = Counting::default();
        let keys = [super::Key::new(KEY.public()), super::Key::new(OTHER.public())];
        let policy = ImagePolicy {
            keys: &keys,
            ..ImagePolicy::default()
        };
        let size = 0x20000;
        let mut slot = std::vec![0xFF; size as usize];
        slot[..bytes.len()].copy_from_slice(&bytes);
        let result = verify_image(&mut SliceFlash(&slot), 0, size, size, &policy, &crypto).map(|_| ());
        (crypto.0.get(), result)
    }

    // mcuboot case 119, boot-trust case 56
    #[test]
    fn an_image_cannot_make_its_check_long() {
        let signed = |bad: usize| {
            let mut image = image();
            image.entries.push(image.hash_entry());
            let pair = image.signature_entries(KEY);
            let mut wrong = pair.clone();
            wrong[1].1[12] ^= 4;
            for _ in 0..bad {
                image.entries.extend(wrong.clone());
            }
            image.entries.extend(pair);
            image
        };
        // Each key may sign, and so may the last one after wrong ones, up to the limit.
        assert_eq!(cost_of(&signed(0)), (1, Ok(())));
        assert_eq!(cost_of(&signed(3)), (4, Ok(())));
        assert_eq!(cost_of(&signed(4)), (4, Err(VerifyError::TooManyTlvs)));
        // As many pairs as the size of the area can count: refused before the payload is read.
        assert_eq!(cost_of(&signed(580)), (0, Err(VerifyError::TooManyTlvs)));
        // Pairs of a short key hash and nothing are no signatures, but entries all the same.
        let padded = |count: usize, entry: (u16, Vec<u8>)| {
            let mut image = image().sign(KEY);
            let end = image.entries.split_off(0);
            image.entries.extend(core::iter::repeat_n(entry, count));
            image.entries.extend(end);
            image
        };
        let empty = (types::KEY_HASH, Vec::new());
        // Three signed entries, and the security counter in the protected area.
        assert_eq!(cost_of(&padded(60, empty.clone())), (1, Ok(())));
        assert_eq!(
            cost_of(&padded(61, empty.clone())),
            (0, Err(VerifyError::TooManyTlvs))
        );
        assert_eq!(
            cost_of(&padded(16_000, empty)),
            (0, Err(VerifyError::TooManyTlvs))
        );
        // One byte more than the area may have.
        let signed_size = image().sign(KEY).bytes().len() - AREA;
        let filler = |size: usize| (types::PUBLIC_KEY, std::vec![0; size - signed_size - 4]);
        assert_eq!(cost_of(&padded(1, filler(2048))), (1, Ok(())));
        assert_eq!(
            cost_of(&padded(1, filler(2049))),
            (0, Err(VerifyError::TooManyTlvs))
        );
    }

    // mcuboot case 119, boot-trust case 56: entries that the digest covers are counted as well.
    #[test]
    fn protected_entries_count_among_all() {
        let with = |count: usize| {
            let entries: Vec<(u16, &[u8])> = core::iter::repeat_n((0xA0, &[][..]), count).collect();
            cost_of(&Image::bare(0x200, 10, 1).protect(&entries).sign(KEY))
        };
        assert_eq!(with(61), (1, Ok(())));
        assert_eq!(with(62).1, Err(VerifyError::TooManyTlvs));
        assert_eq!(with(16_000), (0, Err(VerifyError::TooManyTlvs)));
    }
}
