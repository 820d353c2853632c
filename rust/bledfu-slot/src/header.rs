// SPDX-License-Identifier: Apache-2.0
//! The 32-byte image header (MCUboot `image.h`).
//!
//! ```text
//!  0        4         8         10        12        16      20      21      22        24      28      32
//!  | magic  | load    | header  | protect | image   | flags | major | minor | revision| build | pad   |
//!  | u32    | addr u32| size u16| tlv u16 | size u32| u32   | u8    | u8    | u16     | u32   | u32   |
//! ```
//! All little-endian. `header size - 32` bytes of filler follow, then the payload, then the TLV areas.

use bledfu_text::{text, words, Hex, Joined, Line, Text};

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
    /// The image is copied to its load address in RAM before it is started.
    pub const RAM_LOAD: u32 = 0x020;
    /// Linked for a slot that begins at its load address.
    pub const ROM_FIXED: u32 = 0x100;
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

impl Text for Version {
    fn put(&self, line: &mut dyn Line) {
        Joined(&[&self.major, &".", &self.minor, &".", &self.revision]).put(line);
        if self.build != 0 {
            Joined(&[&"+", &self.build]).put(line);
        }
    }
}

bledfu_text::display!(Version);

/// Why a header is not that of an image this device can start.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Where the magic should be, the flash is erased: there is no image.
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
    /// The image is to be copied to RAM before it is started, which this build does not support.
    RamLoad,
    /// The image is linked for another slot, or for another processor.
    WrongAddress {
        /// Its reset vector.
        reset_vector: u32,
        /// The slot where it would run, as the processor sees it.
        slot: AddressRange,
    },
    /// The image names the slot it is linked for, and it is not this one.
    WrongSlot {
        /// The address it names.
        linked_for: u32,
        /// The slot where it would run, as the processor sees it.
        slot: AddressRange,
    },
}

/// Where the processor sees a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// The first address.
    pub start: u32,
    /// Size in bytes.
    pub size: u32,
}

impl AddressRange {
    /// Whether `address` lies in the range.
    pub const fn contains(self, address: u32) -> bool {
        address.wrapping_sub(self.start) < self.size
    }
}

impl Text for HeaderError {
    fn put(&self, line: &mut dyn Line) {
        let words = match self {
            Self::Erased => words!("there is no image"),
            Self::BadMagic => words!("the first word is not the image magic"),
            Self::Truncated => words!("the header is cut short"),
            Self::HeaderTooSmall => words!("the header size field is below 32"),
            Self::Encrypted => words!("encrypted images are not supported"),
            Self::Compressed => words!("compressed images are not supported"),
            Self::NotBootable => words!("the image is marked as not bootable"),
            Self::TooLarge => words!("the image does not fit the slot"),
            Self::Overflow => words!("the sizes in the header overflow"),
            Self::RamLoad => words!("images that are loaded into RAM are not supported"),
            Self::WrongAddress { reset_vector, slot } => {
                let (start, end) = (slot.start, slot.start.wrapping_add(slot.size));
                return text!(
                    "the image is linked for another slot: its reset vector {} lies outside \
                     {}-{}",
                    Hex(*reset_vector, 8),
                    Hex(start, 8),
                    Hex(end, 8)
                )
                .put(line);
            }
            Self::WrongSlot { linked_for, slot } => {
                return text!(
                    "the image is linked for the slot at {}, not for the one at {}",
                    Hex(*linked_for, 8),
                    Hex(slot.start, 8)
                )
                .put(line);
            }
        };
        words.put(line);
    }
}

bledfu_text::display!(HeaderError);

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
    /// Only the magic is checked here; see [`check`](Self::check) for the rest.
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

    /// Whether this device can start such an image from a slot of `slot_size` bytes.
    ///
    /// The sum of the sizes must be *less than* the slot (MCUboot `boot_check_header_valid`). Headers below 32 bytes
    /// are refused here; MCUboot leaves them to the hash.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, slot_size: u32) -> Result<(), HeaderError> {
        self.check_kind()?;
        if usize::from(self.header_size) < Self::SIZE {
            return Err(HeaderError::HeaderTooSmall);
        }
        if self.hashed_size()? >= slot_size {
            return Err(HeaderError::TooLarge);
        }
        Ok(())
    }

    /// Whether this device can start images of this kind at all: not encrypted, not compressed, and meant to be
    /// started. These are the flags for which an MCUboot built without support for them refuses an image; other flags
    /// do not matter.
    ///
    /// # Errors
    /// [`HeaderError::NotBootable`], [`Encrypted`](HeaderError::Encrypted) or [`Compressed`](HeaderError::Compressed).
    pub fn check_kind(&self) -> Result<(), HeaderError> {
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
        Ok(())
    }

    /// Whether an image with this reset vector (the second word of its payload) can run in `slot`.
    ///
    /// # Errors
    /// [`HeaderError::WrongAddress`], or [`RamLoad`](HeaderError::RamLoad) if that is the reason.
    pub fn check_address(&self, reset_vector: u32, slot: AddressRange) -> Result<(), HeaderError> {
        let names_its_slot = self.flags & flags::ROM_FIXED != 0;
        if names_its_slot && self.load_addr != slot.start {
            return Err(HeaderError::WrongSlot {
                linked_for: self.load_addr,
                slot,
            });
        }
        if slot.contains(reset_vector) && self.image_size >= 8 {
            return Ok(());
        }
        if self.flags & flags::RAM_LOAD != 0 {
            return Err(HeaderError::RamLoad);
        }
        Err(HeaderError::WrongAddress { reset_vector, slot })
    }
}

/// Collects the first bytes of an image as they arrive in order: its header, and the reset vector in its payload. With
/// it, an image that this device can never start is refused before the rest is sent.
#[derive(Clone, Copy, Debug)]
pub struct ImageStart {
    header: [u8; ImageHeader::SIZE],
    reset_vector: [u8; 4],
    position: u32,
}

impl ImageStart {
    /// Nothing has arrived yet.
    pub const fn new() -> Self {
        Self {
            header: [0; ImageHeader::SIZE],
            reset_vector: [0; 4],
            position: 0,
        }
    }

    /// Appends the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        keep(&mut self.header, 0, bytes, self.position);
        // By the time this matters, the header is complete.
        let vector = u32::from(u16_at(&self.header, 8)) + 4;
        keep(&mut self.reset_vector, vector, bytes, self.position);
        self.position = self.position.saturating_add(bytes.len() as u32);
    }

    /// The header.
    ///
    /// # Errors
    /// As [`ImageHeader::parse`]; [`HeaderError::Truncated`] while it is not complete.
    pub fn header(&self) -> Result<ImageHeader, HeaderError> {
        if (self.position as usize) < ImageHeader::SIZE {
            return Err(HeaderError::Truncated);
        }
        ImageHeader::parse(&self.header)
    }

    /// Whether the bytes so far can belong to an image for this device. After 32 bytes, a wrong header or an
    /// unsupported kind of image is refused; eight bytes into the payload, an image for another `slot`, if one is
    /// given.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, slot_size: u32, slot: Option<AddressRange>) -> Result<(), HeaderError> {
        let header = match self.header() {
            Ok(header) => header,
            Err(HeaderError::Truncated) => return Ok(()),
            Err(error) => return Err(error),
        };
        header.check(slot_size)?;
        match slot {
            Some(slot) if self.position >= u32::from(header.header_size) + 8 => {
                header.check_address(u32::from_le_bytes(self.reset_vector), slot)
            }
            _ => Ok(()),
        }
    }
}

impl Default for ImageStart {
    fn default() -> Self {
        Self::new()
    }
}

/// Copies the part of `bytes`, which begin at `at`, that belongs to `field`, which begins at `field_at`.
fn keep(field: &mut [u8], field_at: u32, bytes: &[u8], at: u32) {
    let skipped = at.saturating_sub(field_at) as usize;
    let ahead = field_at.saturating_sub(at) as usize;
    let places = field.iter_mut().skip(skipped);
    for (place, byte) in places.zip(bytes.iter().skip(ahead)) {
        *place = *byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    /// The header that `imgtool sign --version 1.2.3+4 --header-size 0x200` writes for a payload of 64 bytes.
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

    const SLOT: AddressRange = AddressRange {
        start: 0xC000,
        size: 0xE8000,
    };

    /// A header and a payload with a vector table, and nothing else.
    fn image(flags: u32, load_addr: u32, reset_vector: u32) -> std::vec::Vec<u8> {
        let mut bytes = EXAMPLE.to_vec();
        bytes[4..8].copy_from_slice(&load_addr.to_le_bytes());
        bytes[16..20].copy_from_slice(&flags.to_le_bytes());
        bytes.resize(0x200, 0xFF);
        bytes.extend(0x2004_0000u32.to_le_bytes());
        bytes.extend(reset_vector.to_le_bytes());
        bytes.resize(0x240, 0xAA);
        bytes
    }

    #[test]
    fn the_first_32_bytes_say_what_kind_of_image_it_is() {
        for (flags, error) in [
            (0x004, HeaderError::Encrypted),
            (0x008, HeaderError::Encrypted),
            (0x010, HeaderError::NotBootable),
            (0x200, HeaderError::Compressed),
            (0x400, HeaderError::Compressed),
            (0xC04, HeaderError::Encrypted),
            (0x800, HeaderError::Compressed),
        ] {
            let bytes = image(flags, 0, 0xC101);
            let mut start = ImageStart::new();
            start.update(&bytes[..31]);
            assert_eq!(start.check(0xE8000, None), Ok(()), "it is not known yet");
            start.update(&bytes[31..32]);
            assert_eq!(start.check(0xE8000, None), Err(error), "{flags:#x}");
        }
        let mut start = ImageStart::new();
        start.update(&[0xFF; 40]);
        assert_eq!(start.check(0xE8000, None), Err(HeaderError::Erased));
        let mut start = ImageStart::new();
        start.update(&[0x50, 0x4B].repeat(20)); // a package instead of the image in it
        assert_eq!(start.check(0xE8000, None), Err(HeaderError::BadMagic));
    }

    #[test]
    fn an_image_for_another_slot_is_known_by_its_reset_vector() {
        let network_core = 0x0100_0105;
        let wrong = |reset_vector| {
            Err(HeaderError::WrongAddress {
                reset_vector,
                slot: SLOT,
            })
        };
        for (reset_vector, expected) in [
            (0xC000, Ok(())),
            (0xC105, Ok(())),
            (0xF_3FFF, Ok(())),
            (0xF_4000, wrong(0xF_4000)),
            (0xBFFF, wrong(0xBFFF)),
            (network_core, wrong(network_core)),
            (0, wrong(0)),
            (u32::MAX, wrong(u32::MAX)),
        ] {
            let bytes = image(0, 0, reset_vector);
            for step in [1, 5, 32, 100, 256, 0x240] {
                let mut start = ImageStart::new();
                let mut known_at = None;
                for piece in bytes.chunks(step) {
                    start.update(piece);
                    if start.check(0xE8000, Some(SLOT)).is_err() {
                        known_at = known_at.or(Some(start.position as usize));
                    }
                }
                assert_eq!(
                    start.check(0xE8000, Some(SLOT)),
                    expected,
                    "{reset_vector:#x} by {step}"
                );
                let end = (0x208usize).next_multiple_of(step).min(0x240);
                assert_eq!(
                    known_at,
                    expected.is_err().then_some(end),
                    "as soon as it has arrived"
                );
                assert_eq!(start.check(0xE8000, None), Ok(()));
            }
        }
    }

    #[test]
    fn images_for_ram_and_for_a_named_slot_are_refused_by_name() {
        let check = |flags, load_addr, reset_vector| {
            let mut start = ImageStart::new();
            start.update(&image(flags, load_addr, reset_vector));
            start.check(0xE8000, Some(SLOT))
        };
        assert_eq!(
            check(flags::RAM_LOAD, 0x2000_0000, 0x2000_0101),
            Err(HeaderError::RamLoad)
        );
        // Like MCUboot's swap modes, which ignore the flag.
        assert_eq!(check(flags::RAM_LOAD, 0x2000_0000, 0xC101), Ok(()));
        assert_eq!(check(flags::ROM_FIXED, 0xC000, 0xC101), Ok(()));
        let linked_for = 0x10_0000;
        let expected = Err(HeaderError::WrongSlot {
            linked_for,
            slot: SLOT,
        });
        assert_eq!(check(flags::ROM_FIXED, linked_for, 0xC101), expected);
    }

    #[test]
    fn a_payload_without_room_for_a_vector_table_is_for_no_slot() {
        let header = ImageHeader {
            header_size: 32,
            image_size: 7,
            ..ImageHeader::default()
        };
        assert!(header.check_address(0xC101, SLOT).is_err());
    }

    #[test]
    fn the_sentence_names_vector_and_slot() {
        let error = HeaderError::WrongAddress {
            reset_vector: 0x0100_0105,
            slot: SLOT,
        };
        assert_eq!(
            error.to_string(),
            "the image is linked for another slot: its reset vector 0x01000105 lies outside 0x0000c000-0x000f4000"
        );
    }

    #[test]
    fn a_header_size_at_the_end_of_its_range_does_not_overflow() {
        let mut bytes = image(0, 0, 0xC101);
        bytes[8..10].copy_from_slice(&[0xFF; 2]);
        let mut start = ImageStart::new();
        start.update(&bytes);
        start.position = u32::MAX - 3;
        start.update(&bytes);
        let _ = start.check(u32::MAX, Some(SLOT));
        let all = AddressRange {
            start: 0xFFFF_F000,
            size: 0x1000,
        };
        assert!(all.contains(u32::MAX) && !all.contains(0));
    }
}
