// SPDX-License-Identifier: Apache-2.0
//! The trailer at the end of a slot: what was requested, and how far it got (MCUboot `bootutil_misc.h`,
//! `bootutil_public.c`). Offsets are in [`TrailerLayout`]; a drawing is at the top of [`crate::layout`].
//!
//! ```text
//! swap_size  xx xx xx xx ff ..     bytes being swapped, u32 little-endian
//! TLV sizes  pp pp ss ss ff ..     u16 each, primary then secondary; only for swap using offset of MCUboot 2.3 and later
//! swap_info  nt ff ff ff ff ..     n = image number, t = swap type 2 test, 3 permanent, 4 revert; ff = none
//! copy_done  01 ff ff ff ff ..     the swap is complete; ff = it is not; anything else = torn
//! image_ok   01 ff ff ff ff ..     the image is confirmed; in a request: install it for good
//! magic      77 c2 95 f3 60 d2 ef 7f 35 52 50 0f 2c b6 79 80                      MA = 8
//!            MA 00 2d e1 5d 29 41 0b 8d 77 67 9c 11 0f 1f 8a                      MA = 16, 32
//! ```
//! The magic is written last. Without it, the other fields do not count.

use bledfu_text::{words, Line, Text};
use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};

use crate::decide::next_boot;
use crate::flash::{is_erased, program_padded, read_bytes};
use crate::layout::{Algorithm, Layout, TrailerLayout};
use crate::verify::{Slot, Verified};

const MAGIC_ALIGN_8: [u8; 16] = [
    0x77, 0xC2, 0x95, 0xF3, 0x60, 0xD2, 0xEF, 0x7F, 0x35, 0x52, 0x50, 0x0F, 0x2C, 0xB6, 0x79, 0x80,
];
const MAGIC_LARGER_TAIL: [u8; 14] = [
    0x2D, 0xE1, 0x5D, 0x29, 0x41, 0x0B, 0x8D, 0x77, 0x67, 0x9C, 0x11, 0x0F, 0x1F, 0x8A,
];
const FLAG_SET: u8 = 0x01;

/// The magic bytes that a build with this maximum alignment uses.
pub fn magic_bytes(max_align: u32) -> [u8; 16] {
    if max_align == 8 {
        return MAGIC_ALIGN_8;
    }
    let mut magic = [0; 16];
    let (align, tail) = magic.split_at_mut(2);
    align.copy_from_slice(&(max_align as u16).to_le_bytes());
    tail.copy_from_slice(&MAGIC_LARGER_TAIL);
    magic
}

/// State of a magic field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magic {
    /// This build's magic.
    Good,
    /// Neither this build's magic nor erased.
    Bad,
    /// Erased.
    Unset,
}

impl Magic {
    /// Interprets the last 16 bytes of a slot.
    pub fn parse(bytes: &[u8; 16], max_align: u32) -> Self {
        if *bytes == magic_bytes(max_align) {
            Self::Good
        } else if is_erased(bytes) {
            Self::Unset
        } else {
            Self::Bad
        }
    }
}

/// State of a flag field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// 0x01.
    Set,
    /// Neither 0x01 nor erased: a torn write.
    Bad,
    /// Erased.
    Unset,
}

impl Flag {
    /// Interprets the first byte of a flag field.
    pub fn parse(byte: u8) -> Self {
        match byte {
            FLAG_SET => Self::Set,
            0xFF => Self::Unset,
            _ => Self::Bad,
        }
    }
}

/// The purpose of a swap; the numbers are those in flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SwapType {
    /// Nothing to do.
    None = 1,
    /// Install, and go back unless the image confirms itself.
    Test = 2,
    /// Install for good.
    Permanent = 3,
    /// Go back to the image before.
    Revert = 4,
    /// The requested image turned out to be invalid.
    Fail = 5,
}

impl SwapType {
    /// A word for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Test => "test",
            Self::Permanent => "permanent",
            Self::Revert => "revert",
            Self::Fail => "fail",
        }
    }
}

impl Text for SwapType {
    fn put(&self, line: &mut dyn Line) {
        self.as_str().put(line);
    }
}

bledfu_text::display!(SwapType);

/// The contents of a trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// State of the magic.
    pub magic: Magic,
    /// State of `image_ok`.
    pub image_ok: Flag,
    /// State of `copy_done`.
    pub copy_done: Flag,
    /// The raw byte; see [`swap_type`](Self::swap_type) and [`image_number`](Self::image_number).
    pub swap_info: u8,
    /// The stored number of bytes being swapped; 0xFFFF_FFFF if erased. It is not checked yet.
    pub swap_size: u32,
}

impl Trailer {
    /// A trailer that reads as erased.
    pub const ERASED: Self = Self {
        magic: Magic::Unset,
        image_ok: Flag::Unset,
        copy_done: Flag::Unset,
        swap_info: 0xFF,
        swap_size: u32::MAX,
    };

    /// Reads the trailer of a slot; `flash` is that slot.
    ///
    /// # Errors
    /// The flash's error.
    pub fn read<F: ReadNorFlash>(flash: &mut F, layout: &TrailerLayout) -> Result<Self, F::Error> {
        let mut magic = [0; 16];
        read_bytes(flash, layout.magic(), &mut magic)?;
        let mut byte = |offset| {
            let mut value = [0];
            read_bytes(flash, offset, &mut value).map(|()| value[0])
        };
        let image_ok = Flag::parse(byte(layout.image_ok())?);
        let copy_done = Flag::parse(byte(layout.copy_done())?);
        let swap_info = byte(layout.swap_info())?;
        let mut swap_size = [0; 4];
        read_bytes(flash, layout.swap_size(), &mut swap_size)?;
        Ok(Self {
            magic: Magic::parse(&magic, layout.max_align()),
            image_ok,
            copy_done,
            swap_info,
            swap_size: u32::from_le_bytes(swap_size),
        })
    }

    /// [`read`](Self::read) for a trailer in external flash, where one read may be wrong and the next one right. Reads
    /// twice; if the results differ, a third read counts.
    ///
    /// # Errors
    /// The flash's error.
    pub fn read_twice<F: ReadNorFlash>(flash: &mut F, layout: &TrailerLayout) -> Result<Self, F::Error> {
        let first = Self::read(flash, layout)?;
        if Self::read(flash, layout)? == first {
            return Ok(first);
        }
        Self::read(flash, layout)
    }

    /// The stored swap type; [`SwapType::None`] if there is none, or if the number is one that is never stored.
    pub fn swap_type(&self) -> SwapType {
        match self.swap_info & 0x0F {
            2 => SwapType::Test,
            3 => SwapType::Permanent,
            4 => SwapType::Revert,
            _ => SwapType::None,
        }
    }

    /// The stored image number; 0 if no swap type is stored.
    pub fn image_number(&self) -> u8 {
        match self.swap_type() {
            SwapType::None => 0,
            _ => self.swap_info >> 4,
        }
    }

    /// The trailer with flags that stay torn counted as set.
    ///
    /// A torn flag is normally [written once more](repair_flag). If the write unit is too wide for that, it stays torn.
    /// It then counts as set, because its write began only after the install was complete or the image had confirmed
    /// itself.
    pub fn settled(mut self, layout: &TrailerLayout) -> Self {
        if !can_repair(layout) {
            for flag in [&mut self.copy_done, &mut self.image_ok] {
                if *flag == Flag::Bad {
                    *flag = Flag::Set;
                }
            }
        }
        self
    }

    /// For the primary trailer: whether the running image is confirmed, that is, the next boot will not revert it.
    /// `layout` is that of the slots.
    ///
    /// "Confirmed" means nothing else. So it is also true for a trailer with a magic and no flag (`imgtool --pad` and
    /// overwrite only leave such a trailer), for one without a magic, and for one with a flag that stays torn: no boot
    /// stage reverts the image in these cases.
    pub fn is_confirmed(&self, layout: &Layout) -> bool {
        let settled = self.settled(&layout.primary_trailer());
        next_boot(layout.algorithm(), &settled, &Self::ERASED) != SwapType::Revert
    }

    /// For the trailer of the primary slot or of a scratch area: whether an install for this image number is recorded
    /// here and not finished. This does not mean that the boot stage will resume it; that depends on the images.
    pub fn holds_job(&self, layout: &Layout) -> bool {
        // After a cut, overwrite only starts over from the request.
        layout.algorithm() != Algorithm::Overwrite
            && self.magic == Magic::Good
            && self.copy_done == Flag::Unset
            && self.swap_type() != SwapType::None
            && self.image_number() == layout.image_number()
            && (1..=layout.max_image_size()).contains(&self.swap_size)
    }
}

/// The swap type of the job that the primary trailer [holds](Trailer::holds_job); [`SwapType::None`] if there is none.
/// With swap using offset, the trailer may have either of the two layouts that MCUboot writes.
///
/// # Errors
/// The flash's error.
pub fn stored_job<F: ReadNorFlash>(flash: &mut F, layout: &Layout) -> Result<SwapType, F::Error> {
    let with = stored_job_in(flash, &layout.with_tlv_sizes())?;
    match with {
        SwapType::None if layout.algorithm() == Algorithm::SwapOffset => {
            stored_job_in(flash, &layout.without_tlv_sizes())
        }
        found => Ok(found),
    }
}

#[inline(never)]
fn stored_job_in<F: ReadNorFlash>(flash: &mut F, layout: &Layout) -> Result<SwapType, F::Error> {
    let trailer = Trailer::read(flash, &layout.primary_trailer())?;
    Ok(match trailer.holds_job(layout) {
        true => trailer.swap_type(),
        false => SwapType::None,
    })
}

/// Why a request or a confirmation was refused.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailerError<E> {
    /// The flash could not be read or written.
    Flash(E),
    /// The magic is neither this build's nor erased: the trailer must be erased before anything can be requested.
    BadMagic,
    /// The flag is damaged and can no longer be set.
    BadFlag,
}

/// Without the flash's own error, which only [`Display`](core::fmt::Display) shows.
impl<E> Text for TrailerError<E> {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::Flash(_) => words!("the flash failed").put(line),
            Self::BadMagic => words!("the trailer magic is damaged or of another alignment").put(line),
            Self::BadFlag => words!("a trailer flag is damaged").put(line),
        }
    }
}

impl<E: core::fmt::Debug> core::fmt::Display for TrailerError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        bledfu_text::format(self, f)?;
        match self {
            Self::Flash(error) => write!(f, ": {error:?}"),
            _ => Ok(()),
        }
    }
}

impl<E: core::fmt::Debug> core::error::Error for TrailerError<E> {}

impl<E> From<E> for TrailerError<E> {
    fn from(error: E) -> Self {
        Self::Flash(error)
    }
}

/// Erases every sector that holds a part of the trailer, the highest one first, which holds the magic.
///
/// # Errors
/// The flash's error.
pub fn erase_trailer<F: NorFlash>(flash: &mut F, layout: &TrailerLayout) -> Result<(), F::Error> {
    let mut end = layout.slot_size();
    while end > layout.first_sector() {
        let start = end.saturating_sub(layout.sector_size());
        flash.erase(start, end)?;
        end = start;
    }
    Ok(())
}

/// Writes the magic, with erased filler in front of it if the alignment unit is larger than the magic.
///
/// # Errors
/// The flash's error.
pub fn write_magic<F: NorFlash>(flash: &mut F, layout: &TrailerLayout) -> Result<(), F::Error> {
    let mut bytes = [0xFF; 32];
    let span = layout.slot_size() - layout.magic_write();
    let filler = (span as usize).saturating_sub(16);
    for (to, from) in bytes.iter_mut().skip(filler).zip(magic_bytes(layout.max_align())) {
        *to = from;
    }
    let bytes = bytes.get(..span as usize).unwrap_or_default();
    program_padded(flash, layout.magic_write(), bytes, layout.write_size())
}

/// Writes `image_ok`.
///
/// # Errors
/// The flash's error.
pub fn write_image_ok<F: NorFlash>(flash: &mut F, layout: &TrailerLayout) -> Result<(), F::Error> {
    program_padded(flash, layout.image_ok(), &[FLAG_SET], layout.write_size())
}

/// Writes `copy_done`.
///
/// # Errors
/// The flash's error.
pub fn write_copy_done<F: NorFlash>(flash: &mut F, layout: &TrailerLayout) -> Result<(), F::Error> {
    program_padded(flash, layout.copy_done(), &[FLAG_SET], layout.write_size())
}

/// Writes the swap type and the number of the image that the slot is for.
///
/// # Errors
/// The flash's error.
pub fn write_swap_info<F: NorFlash>(
    flash: &mut F,
    layout: &TrailerLayout,
    swap_type: SwapType,
) -> Result<(), F::Error> {
    let swap_info = swap_type as u8 | layout.image_number() << 4;
    program_padded(flash, layout.swap_info(), &[swap_info], layout.write_size())
}

/// Writes the number of bytes to be swapped.
///
/// # Errors
/// The flash's error.
pub fn write_swap_size<F: NorFlash>(
    flash: &mut F,
    layout: &TrailerLayout,
    swap_size: u32,
) -> Result<(), F::Error> {
    program_padded(
        flash,
        layout.swap_size(),
        &swap_size.to_le_bytes(),
        layout.write_size(),
    )
}

/// Writes the sizes of the unprotected TLV areas (swap using offset): of the image in the primary slot, then of the one
/// in the secondary. Does nothing if the trailer has no field for them.
///
/// # Errors
/// The flash's error.
pub fn write_tlv_sizes<F: NorFlash>(
    flash: &mut F,
    layout: &TrailerLayout,
    [primary, secondary]: [u16; 2],
) -> Result<(), F::Error> {
    let [a, b] = primary.to_le_bytes();
    let [c, d] = secondary.to_le_bytes();
    match layout.tlv_sizes() {
        Some(offset) => program_padded(flash, offset, &[a, b, c, d], layout.write_size()),
        None => Ok(()),
    }
}

/// Reads what [`write_tlv_sizes`] wrote: 0xFFFF each if erased; `None` if the trailer has no field for them.
///
/// # Errors
/// The flash's error.
pub fn read_tlv_sizes<F: ReadNorFlash>(
    flash: &mut F,
    layout: &TrailerLayout,
) -> Result<Option<[u16; 2]>, F::Error> {
    let Some(offset) = layout.tlv_sizes() else {
        return Ok(None);
    };
    let mut bytes = [0; 4];
    read_bytes(flash, offset, &mut bytes)?;
    let [a, b, c, d] = bytes;
    Ok(Some([u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]))
}

/// Whether a torn flag can be written once more. Flash with write units above four bytes usually keeps an
/// error-correction code per unit, which a second write would break.
pub const fn can_repair(layout: &TrailerLayout) -> bool {
    layout.write_size() <= 4
}

/// Whether a flag is torn and can be completed: a torn write has only left bits uncleared, so the same write clears
/// them. False for a value that a torn write cannot leave, and where [nothing can be written twice](can_repair).
///
/// # Errors
/// The flash's error.
pub fn is_mendable<F: ReadNorFlash>(
    flash: &mut F,
    layout: &TrailerLayout,
    offset: u32,
) -> Result<bool, F::Error> {
    let mut value = [0];
    read_bytes(flash, offset, &mut value)?;
    Ok(Flag::parse(value[0]) == Flag::Bad && value[0] & FLAG_SET == FLAG_SET && can_repair(layout))
}

/// Completes a flag whose write was torn by writing it once more, if that is [possible](is_mendable). Returns true if
/// the flag then reads as set.
///
/// # Errors
/// The flash's error.
pub fn repair_flag<F: NorFlash>(
    flash: &mut F,
    layout: &TrailerLayout,
    offset: u32,
) -> Result<bool, F::Error> {
    if is_mendable(flash, layout, offset)? {
        program_padded(flash, offset, &[FLAG_SET], layout.write_size())?;
    }
    let mut value = [0];
    read_bytes(flash, offset, &mut value)?;
    Ok(Flag::parse(value[0]) == Flag::Set)
}

/// [`request_test`] or [`request_permanent`], by `swap_type`.
///
/// # Errors
/// As [`request_test`].
pub fn request<F: NorFlash>(
    flash: &mut F,
    slot: &Slot<'_, Verified>,
    swap_type: SwapType,
) -> Result<(), TrailerError<F::Error>> {
    let layout = slot.layout().secondary_trailer();
    match Trailer::read(flash, &layout)?.magic {
        Magic::Good => Ok(()),
        Magic::Bad => Err(TrailerError::BadMagic),
        Magic::Unset => {
            write_magic(flash, &layout)?;
            if swap_type == SwapType::Permanent {
                write_image_ok(flash, &layout)?;
            }
            write_swap_info(flash, &layout, swap_type)?;
            Ok(())
        }
    }
}

/// Asks the boot stage to try the image in `slot`; `flash` is the secondary slot. Writes nothing if there is a request
/// already (MCUboot `boot_request_upgrade(0)`).
///
/// # Errors
/// [`TrailerError::BadMagic`] if the trailer was not erased before the upload, or the flash's error.
pub fn request_test<F: NorFlash>(
    flash: &mut F,
    slot: &Slot<'_, Verified>,
) -> Result<(), TrailerError<F::Error>> {
    request(flash, slot, SwapType::Test)
}

/// Asks the boot stage to install the image in `slot` for good; `flash` is the secondary slot. A pending test stays a
/// test (MCUboot `boot_request_upgrade(1)`). A power cut after the magic was written leaves a test.
///
/// # Errors
/// As [`request_test`].
pub fn request_permanent<F: NorFlash>(
    flash: &mut F,
    slot: &Slot<'_, Verified>,
) -> Result<(), TrailerError<F::Error>> {
    request(flash, slot, SwapType::Permanent)
}

/// Confirms the running image; `flash` is the primary slot.
///
/// Writes `image_ok` if there is a magic, even if the next boot would not revert the image anyway (a factory image made
/// with `imgtool --pad`, or after overwrite only): then other boot stages and Zephyr's `boot_is_img_confirmed` agree.
/// Nothing is written if there is no magic, if the flag is set already, or while the trailer holds [a
/// job](Trailer::holds_job): the flag would belong to the image that is being installed. A torn confirmation is
/// completed.
///
/// # Errors
/// [`TrailerError::BadMagic`], [`TrailerError::BadFlag`] or the flash's error.
pub fn confirm<F: NorFlash>(flash: &mut F, layout: &Layout) -> Result<(), TrailerError<F::Error>> {
    let slots = layout;
    let layout = layout.primary_trailer();
    let trailer = Trailer::read(flash, &layout)?;
    match (trailer.magic, trailer.image_ok) {
        (Magic::Bad, _) => Err(TrailerError::BadMagic),
        (Magic::Unset, _) | (Magic::Good, Flag::Set) => Ok(()),
        (Magic::Good, _) if stored_job(flash, slots)? != SwapType::None => Ok(()),
        (Magic::Good, Flag::Unset) => Ok(write_image_ok(flash, &layout)?),
        // It was torn before and stays torn. The image stays in any case, see `is_confirmed`.
        (Magic::Good, Flag::Bad) if !can_repair(&layout) => Ok(()),
        (Magic::Good, Flag::Bad) => {
            if repair_flag(flash, &layout, layout.image_ok())? {
                Ok(())
            } else {
                Err(TrailerError::BadFlag)
            }
        }
    }
}

#[cfg(test)]
mod tests;
