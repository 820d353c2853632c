// SPDX-License-Identifier: Apache-2.0
//! Makes packed updates on the host: the stream of [`bledfu_patch`] in a signed file that no boot stage starts.

use bledfu_patch::pack::{pack, Options, Packed as Stream};
use bledfu_patch::record::{BASE, HEADER_SIZE, OUT_HASH, OUT_SHA, PACK};
use bledfu_patch::PackError;
use bledfu_slot::header::{flags, ImageHeader};
use bledfu_slot::tlv::{SliceFlash, TlvWalker};
use bledfu_slot::verify::read_info;
use bledfu_transfer::payload::packed::{Limits, Packed};
use sha2::{Digest, Sha256};

use crate::device::image_digest;
use crate::keys::SigningKey;
use crate::make::ImageSpec;

/// Sizes of the largest images and tables that there are; a device says what it has room for.
pub const LIMITS: Limits = Limits {
    largest: u32::MAX,
    table: 256,
};

/// Why there is no packed update between two files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackedError {
    /// One of the files is no image.
    #[error("{0} is not a signed image")]
    NotAnImage(&'static str),
    /// The packer refuses.
    #[error(transparent)]
    Pack(#[from] PackError),
}

/// The bytes of an image that its digest covers.
pub fn covered(image: &[u8]) -> Option<&[u8]> {
    let header = ImageHeader::parse(image).ok()?;
    image.get(..header.hashed_size().ok()? as usize)
}

/// The digest of the image that a file makes: its own, or the one that a packed update announces.
pub fn makes(file: &[u8]) -> Option<[u8; 32]> {
    let len = u32::try_from(file.len()).ok()?;
    let header = ImageHeader::parse(file).ok()?;
    let total = TlvWalker::new(&mut SliceFlash(file), 0, &header, len)
        .ok()?
        .total_size();
    match Packed::read(&mut SliceFlash(file), 0, total, LIMITS) {
        Ok(packed) => Some(packed.out_hash),
        Err(_) => image_digest(file),
    }
}

/// The recipe of the file around a stream: from the image with digest `base` to the signed file `image`.
///
/// # Errors
/// [`PackedError::NotAnImage`].
pub fn wrap(
    stream: &Stream,
    base: Option<[u8; 32]>,
    image: &[u8],
    key: &SigningKey,
) -> Result<ImageSpec, PackedError> {
    let size = image.len() as u32;
    let info = read_info(&mut SliceFlash(image), 0, size).ok().flatten();
    let info = info.ok_or(PackedError::NotAnImage("the new file"))?;
    let mut spec = ImageSpec::new(info.header.version, stream.stream.clone(), key);
    spec.header_size = HEADER_SIZE as u16;
    spec.flags = flags::NON_BOOTABLE;
    spec.protected = vec![
        (PACK, stream.pack.encode().to_vec()),
        (OUT_SHA, Sha256::digest(image).to_vec()),
    ];
    if let Some(base) = base {
        spec.protected.push((BASE, base.to_vec()));
    }
    spec.protected.push((OUT_HASH, info.digest.to_vec()));
    Ok(match info.security_counter {
        Some(counter) => spec.with_security_counter(counter),
        None => spec,
    })
}

/// The recipe of a packed update from one signed file to another; without the first it is only compressed.
///
/// # Errors
/// [`PackedError`].
pub fn spec(
    from: Option<&[u8]>,
    to: &[u8],
    options: &Options,
    key: &SigningKey,
) -> Result<ImageSpec, PackedError> {
    let base = match from {
        Some(from) => covered(from).ok_or(PackedError::NotAnImage("the old file"))?,
        None => &[],
    };
    let stream = pack(base, to, options, &mut |_| ())?;
    wrap(&stream, from.and_then(image_digest), to, key)
}
