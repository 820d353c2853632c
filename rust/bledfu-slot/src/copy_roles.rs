// SPDX-License-Identifier: Apache-2.0
//! Copy with a kept revert image: which of the two external places takes the next update, and which one holds the copy
//! of the running image. The boot stage and the application call the same function, [`incoming`].
//!
//! ```text
//! role record, at status_start of the primary trailer          role region: 96 bytes below swap_size
//!  0  62 6c 66 72      "blfr"
//!  4  01               version of this format
//!  5  00 | 01          the place the image was taken from: 0 = secondary slot, 1 = revert copy, as the layout names them
//!  6  02 | 03          swap type: test, permanent
//!  7  ff
//!  8  nn nn nn nn      size of the image, u32 little-endian
//! 12  32 bytes         SHA-256 of the image, as in its TLV
//! 44  nn nn nn nn      CRC-32 of bytes 0 to 43
//! 48  ff ..            up to a whole number of write units
//! 64  01 | ff, ff ..   mark: the image before is back; anything but ff counts
//! ```
//! An install begins with the magic; the record is written before it and stays until the next install. The other fields
//! of the trailer have the meaning that MCUboot gives them, so MCUboot can start the image in the primary slot.
//!
//! | Request in | Record | `copy_done` | Mark | Next update goes to | Copy of the running image in |
//! |---|---|---|---|---|---|
//! | one place only | any | any | any | that place | the other place |
//! | both or none | none | any | any | place 0 | place 1, if there is one |
//! | both or none | place p | not set | any | p: the install is underway | the other place |
//! | both or none | place p | set | none | the other place | p |
//! | both or none | place p | set | written | p | the other place |
//!
//! A request takes precedence over the record: a torn erase of the primary trailer can leave any part of an old record,
//! while a request is written only after an image was verified and [removed](take_request_down) only after its install
//! is complete.

use embedded_storage::nor_flash::{NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

use crate::crc32::crc32;
use crate::flash::{program_padded, read_bytes, Aligned};
use crate::layout::{Algorithm, Layout, TrailerLayout, ROLE_REGION};
use crate::trailer::{can_repair, erase_trailer, Flag, Magic, SwapType, Trailer};
use crate::verify::Digest;

const RECORD_MAGIC: [u8; 4] = *b"blfr";
const RECORD_VERSION: u8 = 1;
/// Bytes before the CRC.
const CHECKED: usize = 44;
const RECORD_SIZE: usize = CHECKED + 4;
/// Offset of the mark in the region: the largest write unit before its end.
const MARK: u32 = 64;
/// How many reads must find no request before it counts as absent.
const LOOKS: u32 = 3;

const _: () = assert!(RECORD_SIZE.next_multiple_of(32) <= MARK as usize && MARK + 32 <= ROLE_REGION);

/// One of the two external places for images, as the layout of the device names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The secondary slot.
    First,
    /// The spare area.
    Second,
}

impl Place {
    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// 0 or 1, as in the record.
    pub const fn number(self) -> u8 {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }
}

/// Where the image in the primary slot was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The place.
    pub source: Place,
    /// [`SwapType::Test`] or [`SwapType::Permanent`].
    pub swap_type: SwapType,
    /// Size of the image in bytes.
    pub size: u32,
    /// Its digest.
    pub digest: [u8; 32],
}

impl Record {
    fn encode(&self) -> [u8; CHECKED] {
        let mut bytes = [0xFF; CHECKED];
        let fields = RECORD_MAGIC
            .into_iter()
            .chain([RECORD_VERSION, self.source.number(), self.swap_type as u8, 0xFF])
            .chain(self.size.to_le_bytes())
            .chain(self.digest);
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }

    fn decode(bytes: &[u8; RECORD_SIZE]) -> Option<Self> {
        let [m0, m1, m2, m3, version, source, kind, _, s0, s1, s2, s3, ..] = *bytes;
        let (checked, stored) = bytes.split_first_chunk::<CHECKED>()?;
        let mut crc = crc32();
        crc.update(checked);
        if [m0, m1, m2, m3] != RECORD_MAGIC
            || version != RECORD_VERSION
            || crc.finalize().to_le_bytes() != stored
        {
            return None;
        }
        let (_, digest) = checked.split_last_chunk::<32>()?;
        Some(Self {
            source: match source {
                0 => Place::First,
                1 => Place::Second,
                _ => return None,
            },
            swap_type: match kind {
                2 => SwapType::Test,
                3 => SwapType::Permanent,
                _ => return None,
            },
            size: u32::from_le_bytes([s0, s1, s2, s3]),
            digest: *digest,
        })
    }

    /// Reads the record in the trailer of the primary slot `flash`; `None` if there is none, or if it is damaged. The
    /// size in it is not checked yet.
    ///
    /// # Errors
    /// The flash's error.
    pub fn read<F: ReadNorFlash>(flash: &mut F, layout: &TrailerLayout) -> Result<Option<Self>, F::Error> {
        let mut bytes = Aligned([0; RECORD_SIZE]);
        read_bytes(flash, layout.status_start(), &mut bytes.0)?;
        Ok(Self::decode(&bytes.0))
    }

    /// Writes the record into an erased trailer, with one program operation.
    ///
    /// # Errors
    /// The flash's error.
    pub fn write<F: NorFlash>(&self, flash: &mut F, layout: &TrailerLayout) -> Result<(), F::Error> {
        let checked = self.encode();
        let mut crc = crc32();
        crc.update(&checked);
        let mut bytes = Aligned::<{ MARK as usize }>::erased();
        for (to, from) in bytes
            .0
            .iter_mut()
            .zip(checked.into_iter().chain(crc.finalize().to_le_bytes()))
        {
            *to = from;
        }
        let length = RECORD_SIZE.next_multiple_of(layout.status_unit() as usize);
        flash.write(layout.status_start(), bytes.0.get(..length).unwrap_or_default())
    }
}

/// True if the image before is back in the primary slot `flash`.
///
/// # Errors
/// The flash's error.
pub fn is_reverted<F: ReadNorFlash>(flash: &mut F, layout: &TrailerLayout) -> Result<bool, F::Error> {
    let mut byte = [0];
    read_bytes(flash, layout.status_start() + MARK, &mut byte)?;
    Ok(Flag::parse(byte[0]) != Flag::Unset)
}

/// Notes that the image before is back in the primary slot `flash`. The mark must still be erased.
///
/// # Errors
/// The flash's error.
pub fn write_reverted<F: NorFlash>(flash: &mut F, layout: &TrailerLayout) -> Result<(), F::Error> {
    program_padded(flash, layout.status_start() + MARK, &[1], layout.status_unit())
}

/// Removes the request, if there is one, from a place whose image was installed. The image stays: one operation
/// programs the magic to zeros.
///
/// A flag next to the magic would not do: the next upload erases the trailer, and if that erase is cut, the flag may be
/// erased before the magic. Zeros that are being erased never look like a magic. Flash with write units above four
/// bytes usually keeps an error-correction code per unit, which a second write would break: there the trailer is
/// erased. It is also erased if the driver refuses the second write.
///
/// `was_cut` = an earlier boot may have been cut here: what it left may read as a request again.
///
/// # Errors
/// The flash's error.
pub fn take_request_down<F: NorFlash>(
    flash: &mut F,
    layout: &TrailerLayout,
    was_cut: bool,
) -> Result<(), F::Error> {
    // Its image runs. If one wrong read let the request stay, it would cause the image before to be overwritten.
    let asks = |flash: &mut F| {
        for _ in 0..LOOKS {
            if Trailer::read(flash, layout)?.magic == Magic::Good {
                return Ok(true);
            }
        }
        Ok(false)
    };
    if !was_cut && !asks(flash)? {
        return Ok(());
    }
    let zeros = Aligned([0u8; 16]);
    if can_repair(layout) && flash.write(layout.magic(), &zeros.0).is_ok() && !asks(flash)? {
        return Ok(());
    }
    erase_trailer(flash, layout)
}

/// The place that takes the next update, or that holds one waiting to be installed; the other place is for the copy of
/// the running image. The table is at the top of this module. A place that cannot be read counts as one without a
/// request.
///
/// `layout` is the layout of the device, not one [with other roles](Layout::with_incoming). With any algorithm but
/// copy, the result is always the first place.
///
/// # Errors
/// The error of the primary slot's flash.
pub fn incoming<P: ReadNorFlash, S: ReadNorFlash, X: ReadNorFlash>(
    primary: &mut P,
    first: &mut S,
    second: &mut X,
    layout: &Layout,
) -> Result<Place, P::Error> {
    find_incoming(primary, first, second, layout, None).map(|(place, _)| place)
}

/// [`incoming`], together with the error of a place that could not be read: a request there might have changed the
/// result.
///
/// `reverting` is the digest of the image that a begun revert takes back, if the trust area says so. The install of this image
/// was complete then, whatever a torn `copy_done` reads as, and no request counts.
///
/// # Errors
/// The error of the primary slot's flash.
pub fn find_incoming<P: ReadNorFlash, S: ReadNorFlash, X: ReadNorFlash>(
    primary: &mut P,
    first: &mut S,
    second: &mut X,
    layout: &Layout,
    reverting: Option<&Digest>,
) -> Result<(Place, Option<NorFlashErrorKind>), P::Error> {
    let (Algorithm::Copy, Some(second_trailer)) = (layout.algorithm(), layout.spare_trailer()) else {
        return Ok((Place::First, None));
    };
    let asks = [
        asks(first, &layout.secondary_trailer()),
        asks(second, &second_trailer),
    ];
    let unreadable = asks.iter().find_map(|asks| asks.err());
    match asks.map(|asks| asks == Ok(true) && reverting.is_none()) {
        [true, false] => return Ok((Place::First, unreadable)),
        [false, true] => return Ok((Place::Second, unreadable)),
        _ => {}
    }
    let layout = layout.primary_trailer();
    let trailer = Trailer::read(primary, &layout)?.settled(&layout);
    let record = match trailer.magic {
        Magic::Good => Record::read(primary, &layout)?,
        _ => None,
    };
    let place = match record {
        None => Place::First,
        Some(Record { source, digest, .. })
            if (trailer.copy_done == Flag::Set || reverting == Some(&digest))
                && !is_reverted(primary, &layout)? =>
        {
            source.other()
        }
        Some(Record { source, .. }) => source,
    };
    Ok((place, unreadable))
}

fn asks<F: ReadNorFlash>(flash: &mut F, layout: &TrailerLayout) -> Result<bool, NorFlashErrorKind> {
    let trailer = Trailer::read(flash, layout).map_err(|error| error.kind())?;
    Ok(trailer.magic == Magic::Good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trailer::{write_copy_done, write_magic};
    use crate::Geometry;
    use bledfu_testkit::{Nor, Power, SECTOR};

    const RECORD: Record = Record {
        source: Place::Second,
        swap_type: SwapType::Permanent,
        size: 0x0102_0304,
        digest: [0xD1; 32],
    };

    fn layout<const W: usize>(max_align: u32) -> Layout {
        let geometry = Geometry {
            slot_size: 0x8000,
            sector_size: SECTOR as u32,
            write_size: W as u32,
        };
        Layout::with_spare(Algorithm::Copy, geometry, geometry, Some(geometry), max_align, 8).unwrap()
    }

    fn flash<const W: usize>() -> Nor<W> {
        Nor::new('p', 8, &Power::new())
    }

    fn record_and_mark_stay_apart<const W: usize>(max_align: u32) {
        let (mut flash, layout) = (flash::<W>(), layout::<W>(max_align).primary_trailer());
        assert_eq!(Record::read(&mut flash, &layout).unwrap(), None);
        RECORD.write(&mut flash, &layout).unwrap();
        assert_eq!(Record::read(&mut flash, &layout).unwrap(), Some(RECORD));
        assert!(!is_reverted(&mut flash, &layout).unwrap());
        write_reverted(&mut flash, &layout).unwrap();
        assert!(is_reverted(&mut flash, &layout).unwrap());
        assert_eq!(Record::read(&mut flash, &layout).unwrap(), Some(RECORD));
        let trailer = Trailer::read(&mut flash, &layout).unwrap();
        assert_eq!(trailer, Trailer::ERASED, "W={W} MA={max_align}");
    }

    #[test]
    fn record_and_mark_stay_apart_for_every_write_unit() {
        record_and_mark_stay_apart::<1>(8);
        record_and_mark_stay_apart::<2>(8);
        record_and_mark_stay_apart::<4>(8);
        record_and_mark_stay_apart::<8>(8);
        record_and_mark_stay_apart::<16>(16);
        record_and_mark_stay_apart::<32>(32);
    }

    #[test]
    fn the_record_has_the_bytes_that_are_drawn() {
        let (mut flash, layout) = (flash::<4>(), layout::<4>(8).primary_trailer());
        RECORD.write(&mut flash, &layout).unwrap();
        let at = layout.status_start() as usize;
        assert_eq!(at, 0x8000 - 16 - 4 * 8 - 96);
        assert_eq!(
            flash.bytes[at..at + 12],
            [b'b', b'l', b'f', b'r', 1, 1, 3, 0xFF, 4, 3, 2, 1]
        );
        assert_eq!(flash.bytes[at + 12..at + 44], [0xD1; 32]);
        assert_eq!(flash.bytes[at + 48..at + 96], [0xFF; 48]);
    }

    #[test]
    fn a_role_record_with_any_wrong_bit_is_ignored() {
        let (mut flash, layout) = (flash::<4>(), layout::<4>(8).primary_trailer());
        RECORD.write(&mut flash, &layout).unwrap();
        let at = layout.status_start() as usize;
        for bit in 0..RECORD_SIZE * 8 {
            flash.bytes[at + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::read(&mut flash, &layout).unwrap(), None, "bit {bit}");
            flash.bytes[at + bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_role_record_of_a_later_format_or_with_other_values_is_ignored() {
        for (at, value) in [(4, 2), (5, 2), (6, 4), (6, 0xFF)] {
            let mut checked = RECORD.encode();
            checked[at] = value;
            let mut crc = crc32();
            crc.update(&checked);
            let mut bytes = [0; RECORD_SIZE];
            bytes[..CHECKED].copy_from_slice(&checked);
            bytes[CHECKED..].copy_from_slice(&crc.finalize().to_le_bytes());
            assert_eq!(Record::decode(&bytes), None);
        }
    }

    #[test]
    fn a_removed_request_does_not_come_back_when_its_erase_is_torn() {
        let (mut flash, layout) = (flash::<4>(), layout::<4>(8).secondary_trailer());
        take_request_down(&mut flash, &layout, false).unwrap();
        assert_eq!(flash.power.ops(), 0);
        write_magic(&mut flash, &layout).unwrap();
        take_request_down(&mut flash, &layout, false).unwrap();
        assert_eq!(flash.power.ops(), 2);
        let zeros = flash.bytes.clone();
        for done in 0..=16 {
            for low_first in [true, false] {
                flash.bytes.copy_from_slice(&zeros);
                let start = if low_first { 0x7FF0 } else { 0x8000 - done };
                flash.bytes[start..start + done].fill(0xFF);
                let trailer = Trailer::read(&mut flash, &layout).unwrap();
                assert_ne!(trailer.magic, Magic::Good);
            }
        }
    }

    #[test]
    fn parts_that_cannot_be_written_twice_have_the_trailer_erased() {
        let (mut flash, layout) = (flash::<8>(), layout::<8>(8).secondary_trailer());
        write_magic(&mut flash, &layout).unwrap();
        take_request_down(&mut flash, &layout, false).unwrap();
        assert!(crate::is_erased(&flash.bytes));
    }

    #[test]
    fn a_driver_that_refuses_to_write_twice_has_the_trailer_erased() {
        let (mut flash, layout) = (flash::<4>(), layout::<4>(8).secondary_trailer());
        write_magic(&mut flash, &layout).unwrap();
        flash.refuse_writes = layout.magic()..layout.slot_size();
        take_request_down(&mut flash, &layout, false).unwrap();
        assert!(crate::is_erased(&flash.bytes));
        // A flash that fails completely is still an error.
        flash.refuse_writes = 0..0;
        write_magic(&mut flash, &layout).unwrap();
        flash.broken = true;
        assert!(take_request_down(&mut flash, &layout, false).is_err());
    }

    /// Every row of the table.
    #[test]
    fn the_places_have_the_roles_of_the_table() {
        let layout = layout::<4>(8);
        let trailer = layout.primary_trailer();
        for source in [Place::First, Place::Second] {
            for done in [false, true] {
                for reverted in [false, true] {
                    for asking in 0..4 {
                        let (mut primary, mut a, mut b) = (flash::<4>(), flash::<4>(), flash::<4>());
                        Record { source, ..RECORD }.write(&mut primary, &trailer).unwrap();
                        if done {
                            write_copy_done(&mut primary, &trailer).unwrap();
                        }
                        if reverted {
                            write_reverted(&mut primary, &trailer).unwrap();
                        }
                        if asking & 1 != 0 {
                            write_magic(&mut a, &layout.secondary_trailer()).unwrap();
                        }
                        if asking & 2 != 0 {
                            write_magic(&mut b, &layout.spare_trailer().unwrap()).unwrap();
                        }
                        let alone = [None, Some(Place::First), Some(Place::Second), None][asking];
                        // Without the magic the record does not count.
                        let found = incoming(&mut primary, &mut a, &mut b, &layout).unwrap();
                        assert_eq!(found, alone.unwrap_or(Place::First));
                        write_magic(&mut primary, &trailer).unwrap();
                        let by_record = if done && !reverted { source.other() } else { source };
                        let found = incoming(&mut primary, &mut a, &mut b, &layout).unwrap();
                        assert_eq!(found, alone.unwrap_or(by_record));
                        // A place that cannot be read counts as one without a request.
                        a.broken = true;
                        let alone = (asking & 2 != 0).then_some(Place::Second);
                        let found = incoming(&mut primary, &mut a, &mut b, &layout).unwrap();
                        assert_eq!(found, alone.unwrap_or(by_record));
                    }
                }
            }
        }
    }
}
