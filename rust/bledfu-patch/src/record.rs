// SPDX-License-Identifier: Apache-2.0
//! What a packed file says about itself.
//!
//! A packed file is an image as `imgtool sign --non-bootable` makes it: a header of 32 bytes, the stream as its payload, and
//! protected entries (TLVs) that say what is made of it:
//!
//! ```text
//! BFA0  PACK      24 bytes   0 format = 1     1 method (1 delta, 2 full)     2 entries of the table / 32     3 zero
//!                            4 size of the file that is made                 8 bytes of the base that its digest covers
//!                           12 address of the slot      16 start of RAM     20 size of RAM
//! BFA1  OUT_SHA   32 bytes   SHA-256 of the whole file that is made
//! BFA2  BASE      32 bytes   digest of the base, as its own entry has it; only in a delta
//! BFA3  OUT_HASH  32 bytes   digest of the image that is made, as its own entry has it
//! ```
//! All little-endian. Unknown entries BFA4 to BFAF are refused: they are of a later format.

use bledfu_text::{text, words, Hex, Line, Text};

/// Type of the entry [`Pack`].
pub const PACK: u16 = 0xBFA0;
/// Type of the entry with the SHA-256 of the file that is made.
pub const OUT_SHA: u16 = 0xBFA1;
/// Type of the entry with the digest of the base.
pub const BASE: u16 = 0xBFA2;
/// Type of the entry with the digest of the image that is made.
pub const OUT_HASH: u16 = 0xBFA3;

/// Size of the header of a packed file in bytes.
pub const HEADER_SIZE: u32 = 32;
/// First word of an MCUboot image.
const MAGIC: u32 = 0x96F3_B83D;
/// The only flag of a packed file: no boot stage may start it.
const NON_BOOTABLE: u32 = 0x10;
/// Entries of the table for each unit of its field.
const ENTRIES: usize = 32;

/// What the stream needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The base must be there.
    Delta,
    /// Nothing: the image is only compressed.
    Full,
}

/// Addresses of RAM, to which the image has pointers that do not move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RamRange {
    /// The first address; 0 if nothing is known about RAM.
    pub start: u32,
    /// Its size in bytes.
    pub len: u32,
}

/// The entry `PACK`: how a stream is to be expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pack {
    /// What the stream needs.
    pub method: Method,
    /// Entries of the table of displacements, divided by 32: 1 to 8.
    pub table: u8,
    /// Size of the file that is made, in bytes.
    pub out_size: u32,
    /// Bytes of the base that its digest covers: header, payload and protected entries. 0 without base.
    pub base_len: u32,
    /// Address from which the base, and the image that is made, run: that of the slot.
    pub base_addr: u32,
    /// RAM of the processor.
    pub ram: RamRange,
}

/// Why an entry `PACK` cannot be used.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackError {
    /// The entry does not have 24 bytes.
    Length,
    /// The format is a later one.
    Format(u8),
    /// The method is a later one.
    Method(u8),
    /// The table is larger than the one of this device, or has no entries.
    Table(u8),
    /// A byte that is zero in this format is not.
    Reserved,
    /// The size of the image is not one that an image can have.
    Size(u32),
    /// A delta without base, or a full image with one.
    Base,
}

impl Text for PackError {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::Length => words!("the entry PACK does not have 24 bytes").put(line),
            Self::Format(format) => text!("the packed update has format {}, 1 is known", format).put(line),
            Self::Method(method) => {
                text!("the packed update has method {}, 1 and 2 are known", method).put(line)
            }
            Self::Table(table) => text!(
                "the packed update needs a table of {} entries",
                32 * u32::from(*table)
            )
            .put(line),
            Self::Reserved => words!("a byte of the entry PACK that must be zero is not").put(line),
            Self::Size(size) => text!(
                "the packed update makes {} bytes, which no image here can have",
                size
            )
            .put(line),
            Self::Base => {
                words!("the packed update has a base and needs none, or needs one and has none").put(line)
            }
        }
    }
}

bledfu_text::display!(PackError);

impl core::error::Error for PackError {}

impl Pack {
    /// Size of the entry in bytes.
    pub const SIZE: usize = 24;

    /// Makes nothing from nothing: zeros.
    pub(crate) const NOTHING: Self = Self {
        method: Method::Delta,
        table: 0,
        out_size: 0,
        base_len: 0,
        base_addr: 0,
        ram: RamRange { start: 0, len: 0 },
    };

    /// Entries of the table of displacements.
    pub const fn table_entries(&self) -> usize {
        self.table as usize * ENTRIES
    }

    /// Reads the value of the entry and checks all that can be checked without knowing more.
    ///
    /// # Errors
    /// [`PackError`]: the first of its fields that has no meaning here. `largest` is the largest file that the device has room
    /// for, `table_entries` the room of its table.
    pub fn decode(value: &[u8], largest: u32, table_entries: usize) -> Result<Self, PackError> {
        let value: &[u8; Self::SIZE] = value.try_into().map_err(|_| PackError::Length)?;
        let [format, method, table, reserved, words @ ..] = *value;
        let mut words = words
            .chunks_exact(4)
            .map(|word| word.try_into().map_or(0, u32::from_le_bytes));
        let mut word = || words.next().unwrap_or(0);
        let pack = Self {
            method: match method {
                1 => Method::Delta,
                2 => Method::Full,
                _ if format != 1 => return Err(PackError::Format(format)),
                _ => return Err(PackError::Method(method)),
            },
            table,
            out_size: word(),
            base_len: word(),
            base_addr: word(),
            ram: RamRange {
                start: word(),
                len: word(),
            },
        };
        if format != 1 {
            return Err(PackError::Format(format));
        }
        if reserved != 0 {
            return Err(PackError::Reserved);
        }
        pack.check(largest, table_entries)?;
        Ok(pack)
    }

    /// Checks the fields that have a bound.
    ///
    /// # Errors
    /// As for [`Pack::decode`].
    pub fn check(&self, largest: u32, table_entries: usize) -> Result<(), PackError> {
        self.check_table(table_entries)?;
        if self.out_size <= HEADER_SIZE || self.out_size > largest {
            return Err(PackError::Size(self.out_size));
        }
        match self.method {
            Method::Delta if self.base_len <= HEADER_SIZE => Err(PackError::Base),
            Method::Full if self.base_len != 0 => Err(PackError::Base),
            _ => Ok(()),
        }
    }

    /// Checks that a table has the room that this one needs.
    pub(crate) fn check_table(&self, table_entries: usize) -> Result<(), PackError> {
        match self.table != 0 && self.table_entries() <= table_entries {
            true => Ok(()),
            false => Err(PackError::Table(self.table)),
        }
    }

    /// The value of the entry.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let method = match self.method {
            Method::Delta => 1,
            Method::Full => 2,
        };
        let words = [
            u32::from_le_bytes([1, method, self.table, 0]),
            self.out_size,
            self.base_len,
            self.base_addr,
            self.ram.start,
            self.ram.len,
        ];
        let mut value = [0; Self::SIZE];
        for (bytes, word) in value.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        value
    }
}

/// Why the first 32 bytes of a file are not those of a packed update.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The file does not begin as an image.
    NotAnImage,
    /// An image that is to be started, or that has flags beside the one of a packed file.
    Flags(u32),
    /// The header has another size than 32 bytes.
    HeaderSize(u16),
    /// The sizes of header, stream and entries do not fit the size of the file.
    Sizes,
}

impl Text for HeaderError {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::NotAnImage => words!("the file does not begin with an image header").put(line),
            Self::Flags(flags) => text!(
                "the flags are {}; a packed update has 0x10 and no other",
                Hex(*flags, 1)
            )
            .put(line),
            Self::HeaderSize(size) => {
                text!("the header has {} bytes; that of a packed update has 32", size).put(line)
            }
            Self::Sizes => words!("the sizes in the header do not fit the size of the file").put(line),
        }
    }
}

bledfu_text::display!(HeaderError);

impl core::error::Error for HeaderError {}

/// What the first 32 bytes of a packed file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the stream, which begins behind the header.
    pub stream_len: u32,
    /// Bytes of the protected entries, which follow it.
    pub protected_len: u16,
}

impl Header {
    /// Whether an image header has the flag of a packed file: the first thing that a receiver asks.
    pub fn is_marked(first: &[u8; HEADER_SIZE as usize]) -> bool {
        let [_, _, _, _, flags, ..] = words(first);
        flags & NON_BOOTABLE != 0
    }

    /// Reads the first 32 bytes of a file of `file_len` bytes.
    ///
    /// # Errors
    /// [`HeaderError`]: what in it is not as in a packed file.
    pub fn decode(first: &[u8; HEADER_SIZE as usize], file_len: u32) -> Result<Self, HeaderError> {
        let [magic, _load_addr, sizes, stream_len, flags, ..] = words(first);
        let (header_size, protected_len) = (sizes as u16, (sizes >> 16) as u16);
        if magic != MAGIC {
            return Err(HeaderError::NotAnImage);
        }
        if flags != NON_BOOTABLE {
            return Err(HeaderError::Flags(flags));
        }
        if u32::from(header_size) != HEADER_SIZE {
            return Err(HeaderError::HeaderSize(header_size));
        }
        let known = HEADER_SIZE
            .checked_add(stream_len)
            .and_then(|sum| sum.checked_add(u32::from(protected_len)));
        let fits = known.is_some_and(|known| known < file_len);
        if !fits || stream_len == 0 {
            return Err(HeaderError::Sizes);
        }
        Ok(Self {
            stream_len,
            protected_len,
        })
    }
}

fn words(first: &[u8; HEADER_SIZE as usize]) -> [u32; 8] {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(first.chunks_exact(4)) {
        *word = bytes.try_into().map_or(0, u32::from_le_bytes);
    }
    words
}
