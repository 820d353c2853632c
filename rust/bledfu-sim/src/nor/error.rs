// SPDX-License-Identifier: Apache-2.0
//! Why a flash call was refused or failed.

use std::io;

use embedded_storage::nor_flash::{NorFlashError, NorFlashErrorKind};

/// Why a flash call was refused or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NorError {
    /// The power was cut; every call fails until it is back.
    #[error("the power is off")]
    PowerOff,
    /// Address or length is not a multiple of the unit of reads, writes or erases.
    #[error("address {address:#x} or length {length} is not a multiple of {grain}")]
    NotAligned {
        /// Offset in the area.
        address: u32,
        /// Bytes asked for.
        length: usize,
        /// Required multiple.
        grain: usize,
    },
    /// Beyond the end of the area.
    #[error("{length} bytes at {address:#x} do not fit into an area of {capacity} bytes")]
    OutOfBounds {
        /// Offset in the area.
        address: u32,
        /// Bytes asked for.
        length: usize,
        /// Size of the area.
        capacity: usize,
    },
    /// The source in RAM does not start at a word, so DMA could not read it.
    #[error("the source buffer is not word-aligned in RAM")]
    BufferNotAligned,
    /// A bit would have to go from 0 to 1; the other bits were programmed.
    #[error("the byte at {address:#x} holds {held:#04x} and cannot become {wanted:#04x} without an erase")]
    NotErased {
        /// Address from the start of the chip.
        address: u32,
        /// The byte's content.
        held: u8,
        /// The byte to be programmed.
        wanted: u8,
    },
    /// A unit with error correction was to be written a second time; it was not.
    #[error("the unit of {unit} bytes at {address:#x} was written before and cannot be written again without an erase")]
    WrittenBefore {
        /// Address of the unit from the start of the chip.
        address: u32,
        /// Its size.
        unit: u32,
    },
    /// The area's units do not suit the part, or the code is built for others.
    #[error("the {part} cannot be used in write units of {write} and erase units of {erase} bytes here")]
    Units {
        /// Name of the part.
        part: &'static str,
        /// Write unit in bytes.
        write: u32,
        /// Erase unit in bytes.
        erase: u32,
    },
    /// An injected failure: the driver reported an error.
    #[error("the flash reported a failure of operation {operation}")]
    Failed {
        /// The chip's own operation number.
        operation: u64,
    },
    /// An injected missing completion: the driver stopped waiting.
    #[error("operation {operation} did not complete within {waited_ms} ms")]
    TimedOut {
        /// The chip's own operation number.
        operation: u64,
        /// How long the driver waited.
        waited_ms: u64,
    },
    /// The chip does not respond at all.
    #[error("the flash does not answer")]
    NoAnswer,
    /// The file behind the chip could not be written.
    #[error("the file behind the flash cannot be written: {0}")]
    File(io::ErrorKind),
}

impl NorFlashError for NorError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            NorError::NotAligned { .. } | NorError::BufferNotAligned => NorFlashErrorKind::NotAligned,
            NorError::OutOfBounds { .. } => NorFlashErrorKind::OutOfBounds,
            _ => NorFlashErrorKind::Other,
        }
    }
}

/// Why a flash file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused access.
    #[error("cannot open the flash file {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Its reason.
        source: io::Error,
    },
    /// The file belongs to a chip of another size.
    #[error("the flash file {path} holds {found} bytes, but the part {part} has {expected}")]
    WrongSize {
        /// The file.
        path: String,
        /// Its length in bytes.
        found: u64,
        /// Name of the part.
        part: &'static str,
        /// The expected length in bytes.
        expected: u64,
    },
    /// Another process uses the file.
    #[error("the flash file {path} is in use by another process")]
    InUse {
        /// The file.
        path: String,
    },
    /// The part is too small for the device's layout.
    #[error(transparent)]
    Flash(#[from] NorError),
}
