// SPDX-License-Identifier: Apache-2.0
//! The 32-byte image header (MCUboot `image.h`).
//!
//! ```text
//!  0        4         8         10        12        16      20      21      22        24      28      32
//!  | magic  | load    | header  | protect | image   | flags | major | minor | revision| build | pad   |
//!  | u32    | addr u32| size u16| tlv u16 | size u32| u32   | u8    | u8    | u16     | u32   | u32   |
//! ```
//! All little-endian. `header size - 32` bytes of filler follow, then the payload, then the TLV areas.

/// First word of an image.
pub const IMAGE_MAGIC: u32 = 0x96F3_B83D;

/// Header flags this crate knows.
pub mod flags {
    /// Payload encrypted with AES-128.
    pub const ENCRYPTED_AES128: u32 = 0x004;
    /// Payload encrypted with AES-256.
    pub const ENCRYPTED_AES256: u32 = 0x008;
    /// Not an image to start (a split image).
    pub const NON_BOOTABLE: u32 = 0x010;
    /// Payload compressed with LZMA1.
    pub const COMPRESSED_LZMA1: u32 = 0x200;
    /// Payload compressed with LZMA2.
    pub const COMPRESSED_LZMA2: u32 = 0x400;
    /// Payload passed through the ARM Thumb filter before compression.
    pub const COMPRESSED_ARM_THUMB: u32 = 0x800;
}

/// Version of an image; ordered by all four parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First part.
    pub major: u8,
    /// Second part.
    pub minor: u8,
    /// Third part.
    pub revision: u16,
    /// Build number, shown after a plus sign.
    pub build: u32,
}

impl core::fmt::Display for Version {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Every integer type that is formatted is code of its own.
        let [major, minor] = [self.major, self.minor].map(u32::from);
        write!(f, "{major}.{minor}.{}", u32::from(self.revision))?;
        if self.build != 0 {
            write!(f, "+{}", self.build)?;
        }
        Ok(())
    }
}

/// Why a header is not that of an image this device can start.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The place of the magic is erased: there is no image.
    Erased,
    /// The first word is not the image magic.
    BadMagic,
    /// Fewer than 32 bytes were given.
    Truncated,
    /// The header claims to be smaller than 32 bytes.
    HeaderTooSmall,
    /// The image is encrypted, which this build does not support.
    Encrypted,
    /// The image is compressed, which this build does not support.
    Compressed,
    /// The image is marked as not bootable.
    NotBootable,
    /// The sizes in the header do not fit the slot.
    TooLarge,
    /// The sum of the sizes in the header exceeds 32 bits.
    Overflow,
}

impl core::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Erased => "there is no image",
            Self::BadMagic => "the first word is not the image magic",
            Self::Truncated => "the header is cut short",
            Self::HeaderTooSmall => "the header size field is below 32",
            Self::Encrypted => "encrypted images are not supported",
            Self::Compressed => "compressed images are not supported",
            Self::NotBootable => "the image is marked as not bootable",
            Self::TooLarge => "the image does not fit the slot",
            Self::Overflow => "the sizes in the header overflow",
        })
    }
}

impl core::error::Error for HeaderError {}

/// Header of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageHeader {
    /// Address the image was linked for; 0 if it does not matter.
    pub load_addr: u32,
    /// Offset of the payload, in bytes.
    pub header_size: u16,
    /// Size of the protected TLV area with its info header, in bytes; 0 if there is none.
    pub protected_tlv_size: u16,
    /// Size of the payload, in bytes.
    pub image_size: u32,
    /// Bits of [`flags`].
    pub flags: u32,
    /// Version of the image.
    pub version: Version,
}

fn u16_at(bytes: &[u8; ImageHeader::SIZE], at: usize) -> u16 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8; ImageHeader::SIZE], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |b| u32::from_le_bytes(*b))
}

impl ImageHeader {
    /// Size of the fixed part, in bytes.
    pub const SIZE: usize = 32;

    /// Reads the fields out of the first 32 bytes of an image.
    ///
    /// Only the magic is judged here; see [`check`](Self::check) for the rest.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`], [`Erased`](HeaderError::Erased) or [`BadMagic`](HeaderError::BadMagic).
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; Self::SIZE] = bytes.first_chunk().ok_or(HeaderError::Truncated)?;
        match u32_at(bytes, 0) {
            IMAGE_MAGIC => {}
            u32::MAX => return Err(HeaderError::Erased),
            _ => return Err(HeaderError::BadMagic),
        }
        let [major, minor] = u16_at(bytes, 20).to_le_bytes();
        Ok(Self {
            load_addr: u32_at(bytes, 4),
            header_size: u16_at(bytes, 8),
            protected_tlv_size: u16_at(bytes, 10),
            image_size: u32_at(bytes, 12),
            flags: u32_at(bytes, 16),
            version: Version {
                major,
                minor,
                revision: u16_at(bytes, 22),
                build: u32_at(bytes, 24),
            },
        })
    }

    /// Offset of the first TLV info header: header and payload.
    ///
    /// # Errors
    /// [`HeaderError::Overflow`].
    pub fn tlv_offset(&self) -> Result<u32, HeaderError> {
        u32::from(self.header_size)
            .checked_add(self.image_size)
            .ok_or(HeaderError::Overflow)
    }

    /// Number of bytes the image digest covers: header, payload and protected TLV area.
    ///
    /// # Errors
    /// [`HeaderError::Overflow`].
    pub fn hashed_size(&self) -> Result<u32, HeaderError> {
        self.tlv_offset()?
            .checked_add(u32::from(self.protected_tlv_size))
            .ok_or(HeaderError::Overflow)
    }

    /// Whether this device can start such an image out of a slot of `slot_size` bytes.
    ///
    /// The sum of the sizes must be *less than* the slot (MCUboot `boot_check_header_valid`); headers below 32 bytes,
    /// which MCUboot leaves to the hash, are refused here.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, slot_size: u32) -> Result<(), HeaderError> {
        if self.flags & flags::NON_BOOTABLE != 0 {
            return Err(HeaderError::NotBootable);
        }
        if self.flags & (flags::ENCRYPTED_AES128 | flags::ENCRYPTED_AES256) != 0 {
            return Err(HeaderError::Encrypted);
        }
        let compressed = flags::COMPRESSED_LZMA1 | flags::COMPRESSED_LZMA2 | flags::COMPRESSED_ARM_THUMB;
        if self.flags & compressed != 0 {
            return Err(HeaderError::Compressed);
        }
        if usize::from(self.header_size) < Self::SIZE {
            return Err(HeaderError::HeaderTooSmall);
        }
        if self.hashed_size()? >= slot_size {
            return Err(HeaderError::TooLarge);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    /// The header of the worked example in MCUboot terms: `imgtool sign --version 1.2.3+4 --header-size 0x200`, 64 bytes.
    const EXAMPLE: [u8; 32] = [
        0x3D, 0xB8, 0xF3, 0x96, 0, 0, 0, 0, 0x00, 0x02, 0x0C, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 4,
        0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn reads_what_imgtool_writes() {
        let header = ImageHeader::parse(&EXAMPLE).unwrap();
        assert_eq!(
            (header.header_size, header.protected_tlv_size, header.image_size),
            (0x200, 12, 64)
        );
        assert_eq!(header.version.to_string(), "1.2.3+4");
        assert_eq!(
            (header.tlv_offset(), header.hashed_size()),
            (Ok(0x240), Ok(0x24C))
        );
        assert_eq!(header.check(0x10000), Ok(()));
    }

    #[test]
    fn versions_are_ordered_by_all_parts_and_shown_without_build_zero() {
        let v = |major, minor, revision, build| Version {
            major,
            minor,
            revision,
            build,
        };
        assert!(
            v(1, 2, 3, 4) < v(1, 2, 3, 5) && v(1, 2, 3, 5) < v(1, 2, 4, 0) && v(1, 255, 0, 0) < v(2, 0, 0, 0)
        );
        assert_eq!(v(1, 0, 7, 0).to_string(), "1.0.7");
    }

    #[test]
    fn tells_erased_old_and_cut_headers_apart() {
        assert_eq!(ImageHeader::parse(&[0xFF; 32]), Err(HeaderError::Erased));
        assert_eq!(ImageHeader::parse(&[0; 31]), Err(HeaderError::Truncated));
        let mut old = EXAMPLE;
        old[0] = 0x3C; // the obsolete first version
        assert_eq!(ImageHeader::parse(&old), Err(HeaderError::BadMagic));
    }

    #[test]
    fn sums_that_overflow_are_refused() {
        let header = ImageHeader {
            image_size: 0xFFFF_FFF0,
            header_size: 0x200,
            ..ImageHeader::default()
        };
        assert_eq!(header.check(0x10000), Err(HeaderError::Overflow));
        let header = ImageHeader {
            image_size: 0xFFFF_FFDF,
            header_size: 32,
            protected_tlv_size: 12,
            ..ImageHeader::default()
        };
        assert_eq!(header.check(0x10000), Err(HeaderError::Overflow));
    }

    #[test]
    fn the_sum_must_be_less_than_the_slot() {
        let of = |image_size| ImageHeader {
            header_size: 32,
            image_size,
            protected_tlv_size: 12,
            ..Default::default()
        };
        assert_eq!(of(0x1000 - 44).check(0x1000), Err(HeaderError::TooLarge));
        assert_eq!(of(0x1000 - 45).check(0x1000), Ok(()));
    }

    #[test]
    fn flags_that_need_support_are_refused_and_others_ignored() {
        let check = |flags| {
            ImageHeader {
                header_size: 32,
                flags,
                ..ImageHeader::default()
            }
            .check(0x1000)
        };
        for flag in [0x004, 0x008, 0x00C] {
            assert_eq!(check(flag), Err(HeaderError::Encrypted));
        }
        for flag in [0x200, 0x400, 0x800] {
            assert_eq!(check(flag), Err(HeaderError::Compressed));
        }
        assert_eq!(check(0x010), Err(HeaderError::NotBootable));
        assert_eq!(check(0xFFFF_0123), Ok(()));
    }

    #[test]
    fn headers_below_32_bytes_are_refused() {
        for header_size in [0, 31] {
            let header = ImageHeader {
                header_size,
                ..ImageHeader::default()
            };
            assert_eq!(header.check(0x1000), Err(HeaderError::HeaderTooSmall));
        }
    }
}
