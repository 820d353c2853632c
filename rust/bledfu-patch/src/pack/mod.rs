// SPDX-License-Identifier: Apache-2.0
//! The packer: finds what an image has in common with its base, and writes the stream.
//!
//! | Module | What |
//! |---|---|
//! | `view` | both files without what moves when code moves, for comparing |
//! | `align` | the parts of the image that resemble a part of the base |
//! | `gaps` | what is left: literals, and copies from anywhere |
//! | `events` | the stream for the copies that were found |
//! | `range` | the encoding half of the range coder |
//!
//! Any list of copies makes a right stream, as the last step corrects every byte that differs; a better list makes a
//! shorter one. Same inputs, same stream: nothing depends on time, chance or floating point.
//!
//! ```
//! use bledfu_patch::pack::{expand, pack, Options};
//!
//! let base: Vec<u8> = (0..5_000_u32).flat_map(|word| (word * word).to_le_bytes()).collect();
//! let mut image = base.clone();
//! image.splice(1_000..1_000, *b"one more function");
//!
//! let packed = pack(&base, &image, &Options::default(), &mut |_| ())?;
//! assert!(packed.stream.len() < 60);
//! assert_eq!(expand(&base, &packed.stream, &packed.pack), Ok(image));
//! # Ok::<(), bledfu_patch::PackError>(())
//! ```

use std::vec;
use std::vec::Vec;

use crate::decode::{DecodeError, Decoder, Source};
use crate::record::{Method, Pack, PackError, RamRange};
use crate::TABLE;

mod align;
mod events;
mod gaps;
mod range;
#[cfg(test)]
mod tests;
mod view;

/// Room of the table of the packer: the most that [`Pack::table`] can ask for.
const LARGEST_TABLE: usize = 256;

/// The largest file that is packed: a number of the stream reaches this far.
pub const LARGEST: usize = crate::model::MOST as usize;

/// What the packer has to know beside the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Address from which both images run: that of the slot.
    pub base_addr: u32,
    /// RAM of the processor, if it is known: pointers into it are predicted too.
    pub ram: RamRange,
    /// Entries of the table of displacements, divided by 32: 1 to 8. A device with a smaller table refuses the file.
    pub table: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            base_addr: 0,
            ram: RamRange::default(),
            table: (TABLE / 32) as u8,
        }
    }
}

/// A stream, and what belongs into the entry `PACK` beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// How it is to be expanded.
    pub pack: Pack,
    /// The stream.
    pub stream: Vec<u8>,
    /// What it consists of.
    pub counts: Counts,
}

/// How many of what a stream has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs, and the units in them.
    pub runs: u64,
    /// Units in runs.
    pub units: u64,
    /// Bytes that were corrected.
    pub bytes: u64,
    /// Branches and pointers that were corrected.
    pub words: u64,
    /// Bytes without prediction.
    pub literals: u64,
    /// Jumps.
    pub jumps: u64,
    /// Coded bits.
    pub bits: u64,
}

/// How far the packer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Work that is done.
    pub done: u64,
    /// All of the work, in the same unit.
    pub total: u64,
}

/// One part of the image that is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Copy {
    /// Place in the image.
    at: usize,
    /// Place in the base, or in the image if not `in_base`.
    from: usize,
    /// Bytes.
    len: usize,
    /// Whether it is copied from the base.
    in_base: bool,
}

/// Packs `image` as a difference from `base`, or by itself if `base` is empty. `base` ends where its digest ends.
///
/// # Errors
/// [`PackError`] if one of the files has a size that cannot be packed (see [`LARGEST`]), or an option has no meaning.
pub fn pack(
    base: &[u8],
    image: &[u8],
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Packed, PackError> {
    let too_large = base.len().max(image.len()) > LARGEST;
    let pack = Pack {
        method: match base.is_empty() {
            true => Method::Full,
            false => Method::Delta,
        },
        table: options.table,
        out_size: u32::try_from(image.len()).unwrap_or(u32::MAX),
        base_len: u32::try_from(base.len()).unwrap_or(u32::MAX),
        base_addr: options.base_addr,
        ram: options.ram,
    };
    if too_large {
        return Err(PackError::Size(pack.out_size.max(pack.base_len)));
    }
    pack.check(u32::MAX, LARGEST_TABLE)?;
    // Three steps of about the same work.
    let len = image.len() as u64;
    let total = 3 * len;
    let mut step = |number: u64, at: usize| {
        progress(Progress {
            done: number * len + at as u64,
            total,
        });
    };
    let similar = align::align(base, image, &pack, &mut |at| step(0, at));
    let copies = gaps::fill(base, image, similar, &mut |at| step(1, at));
    let (stream, counts) = events::write(base, image, &pack, &copies, &mut |at| step(2, at));
    step(3, 0);
    Ok(Packed { pack, stream, counts })
}

/// Why [`expand`] gives no image.
pub type ExpandError = DecodeError<core::convert::Infallible>;

/// Expands a stream in memory, with the decoder of the device.
///
/// # Errors
/// Those of [`Decoder::fill`]; [`DecodeError::NotStarted`] if `pack` does not fit `base`, or has no meaning.
pub fn expand(base: &[u8], stream: &[u8], pack: &Pack) -> Result<Vec<u8>, ExpandError> {
    struct Memory<'f> {
        base: &'f [u8],
        stream: &'f [u8],
        image: Vec<u8>,
    }

    impl Source for Memory<'_> {
        type Error = core::convert::Infallible;

        fn base(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
            bytes.copy_from_slice(&self.base[offset as usize..][..bytes.len()]);
            Ok(())
        }

        fn output(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
            bytes.copy_from_slice(&self.image[offset as usize..][..bytes.len()]);
            Ok(())
        }

        fn stream(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
            bytes.copy_from_slice(&self.stream[offset as usize..][..bytes.len()]);
            Ok(())
        }
    }

    let fits = pack.base_len as usize <= base.len() && stream.len() <= LARGEST;
    let mut decoder = std::boxed::Box::new(Decoder::<LARGEST_TABLE>::new());
    if !fits || decoder.start(pack, stream.len() as u32).is_err() {
        return Err(DecodeError::NotStarted);
    }
    let mut source = Memory {
        base,
        stream,
        image: Vec::new(),
    };
    let mut page = vec![0; 4_096];
    loop {
        match decoder.fill(&mut source, &mut page)? {
            0 => return Ok(source.image),
            filled => source.image.extend_from_slice(&page[..filled]),
        }
    }
}
