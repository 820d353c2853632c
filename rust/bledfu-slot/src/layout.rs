// SPDX-License-Identifier: Apache-2.0
//! Where things are in the slots, for each install algorithm.
//!
//! Source of every rule: MCUboot `bootutil_misc.h` (trailer), `swap_move.c`, `swap_offset.c`, `swap_scratch.c` and
//! `loader.c` (usable size). The numbers `max_sectors` (M) and `max_align` (MA) are not stored in flash: every program
//! that uses the same slots must be built with the same two numbers.
//!
//! ```text
//! primary / secondary slot                        trailer (lowest field first; every field is MA bytes wide)
//! +--------------------------+ 0                  +-----------------------------+ status_start = size - T
//! | image: header, payload,  |                    | status records              | M * K * W bytes
//! | TLVs                     |                    +-----------------------------+
//! |                          |                    | swap_size  u32              |
//! +--------------------------+ max_image_size     | (offset: TLV sizes 2 x u16) |
//! | free                     |                    | swap_info  u8               |
//! +--------------------------+ first_sector       | copy_done  u8               |
//! | trailer sectors          |                    | image_ok   u8               |
//! +--------------------------+ slot_size          | (filler)  magic  16 bytes   | last 16 bytes of the slot
//!                                                 +-----------------------------+
//! ```
//! K is the number of status records per sector, W the size of one: K is 3 for swap using move and swap using scratch,
//! and 2 for swap using offset, where an update starts at the second sector of the secondary slot. A scratch area ends
//! with a trailer that has the three records of one sector. Copy has one [role record](crate::copy_roles) instead of
//! status records.

use crate::copy_roles::Place;
use crate::flash::MAX_WRITE_SIZE;
use crate::writer::PAGE;
use bledfu_text::{words, Line, Text};

/// Size of the magic at the very end of a slot, in bytes.
pub const MAGIC_SIZE: u32 = 16;

/// The largest image number: it is stored in four bits.
pub const MAX_IMAGE_NUMBER: u8 = 15;

/// Number of info fields that every trailer has.
const LEAST_INFO_FIELDS: u32 = 4;

/// What copy has in place of status records, in bytes: a role record and a mark, each a whole number of write units.
pub(crate) const ROLE_REGION: u32 = 96;

/// How an update gets from the secondary into the primary slot.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// MCUboot's "swap using offset": an update is stored one sector up in the secondary slot, so there is always a
    /// free sector for the sector of the primary slot that is moved out.
    SwapOffset,
    /// MCUboot's "swap using move": the primary image moves up one sector, then sectors are exchanged one by one.
    SwapMove,
    /// MCUboot's "swap using scratch": sectors are exchanged through a spare area.
    SwapScratch,
    /// MCUboot's "overwrite only": the secondary slot is copied over the primary; there is no way back.
    Overwrite,
    /// Our own: the update is copied over the primary slot. The way back is the copy of the running image that is still
    /// where it was received, in a third area.
    Copy,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] = [
        Self::SwapOffset,
        Self::SwapMove,
        Self::SwapScratch,
        Self::Overwrite,
        Self::Copy,
    ];

    /// The name in command lines and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SwapOffset => "swap-offset",
            Self::SwapMove => "swap-move",
            Self::SwapScratch => "swap-scratch",
            Self::Overwrite => "overwrite",
            Self::Copy => "copy",
        }
    }

    /// Whether it needs a spare area: [`SwapScratch`](Self::SwapScratch) as scratch, [`Copy`](Self::Copy) as a second
    /// place for images.
    pub const fn has_spare(self) -> bool {
        matches!(self, Self::SwapScratch | Self::Copy)
    }

    /// Status records per sector (K).
    const fn records_per_sector(self) -> u32 {
        match self {
            Self::SwapOffset => 2,
            _ => 3,
        }
    }

    /// Number of info fields below the magic: swap_size, swap_info, copy_done, image_ok, and one more for swap using
    /// offset.
    const fn info_fields(self) -> u32 {
        match self {
            Self::SwapOffset => LEAST_INFO_FIELDS + 1,
            _ => LEAST_INFO_FIELDS,
        }
    }
}

/// Size and units of one slot, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size of the slot; a whole number of sectors.
    pub slot_size: u32,
    /// Erase unit in which the slot is managed; a power of two.
    pub sector_size: u32,
    /// Write unit of the device; 1, 2, 4, 8, 16 or 32.
    pub write_size: u32,
}

impl Geometry {
    /// Number of sectors of the slot.
    pub const fn sectors(&self) -> u32 {
        match self.slot_size.checked_div(self.sector_size) {
            Some(count) => count,
            None => 0,
        }
    }
}

/// Why a pair of slots cannot be used with an algorithm.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// The maximum alignment is not 8, 16 or 32.
    MaxAlign,
    /// A write unit is not a power of two from 1 to 32, or is larger than the maximum alignment.
    WriteSize,
    /// A sector size is not a power of two, or is too small for the info fields and the magic.
    SectorSize,
    /// A slot is not a whole number of sectors.
    SlotSize,
    /// A slot has more sectors than the trailer has status records for.
    TooManySectors,
    /// A slot has no room for an image next to its trailer.
    TooSmall,
    /// Swap using move or offset needs the same sector size in both slots; with scratch one must be a multiple of the
    /// other.
    SectorSizesDiffer,
    /// The sector counts of the slots must be equal; swap using move allows one more in the primary slot, swap using offset
    /// one more in the secondary.
    SectorCountsDiffer,
    /// The algorithm needs a spare area, and none was given; or one was given that it does not need.
    Spare,
    /// The scratch area is not a whole number of the larger sectors, or its write unit differs from that of the primary
    /// slot.
    ScratchUnits,
}

impl Text for LayoutError {
    fn put(&self, line: &mut dyn Line) {
        let words = match self {
            Self::MaxAlign => words!("the maximum alignment is not 8, 16 or 32"),
            Self::WriteSize => words!("a write unit is not 1, 2, 4, 8, 16 or 32, or exceeds the maximum alignment"),
            Self::SectorSize => words!("a sector size is not a power of two, or is too small"),
            Self::SlotSize => words!("a slot is not a whole number of sectors"),
            Self::TooManySectors => words!("a slot has more sectors than the trailer has records for"),
            Self::TooSmall => words!("a slot has no room for an image beside its trailer"),
            Self::SectorSizesDiffer => words!("the slots have different sector sizes"),
            Self::SectorCountsDiffer => words!("the sector counts of the slots do not fit together"),
            Self::Spare => words!("this algorithm needs a spare area and has none, or has one that it does not need"),
            Self::ScratchUnits => words!("the scratch area is not a whole number of the larger sectors, or its write unit is not that of the primary slot"),
        };
        words.put(line);
    }
}

bledfu_text::display!(LayoutError);

impl core::error::Error for LayoutError {}

/// `value`, rounded up to a multiple of `unit`.
pub(crate) const fn round_up(value: u32, unit: u32) -> u32 {
    // Units are powers of two (checked), values far below u32::MAX (slot sizes).
    value.wrapping_add(unit - 1) & !(unit - 1)
}

const fn smaller(a: u32, b: u32) -> u32 {
    if a < b {
        a
    } else {
        b
    }
}

const fn larger(a: u32, b: u32) -> u32 {
    if a > b {
        a
    } else {
        b
    }
}

/// Offsets of the trailer fields of one slot, in bytes from the start of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrailerLayout {
    algorithm: Algorithm,
    slot_size: u32,
    sector_size: u32,
    write_size: u32,
    status_unit: u32,
    max_align: u32,
    max_sectors: u32,
    info_fields: u32,
    image_number: u8,
}

impl TrailerLayout {
    /// The trailer of a slot whose status records are `status_unit` bytes (W) each.
    ///
    /// # Errors
    /// A [`LayoutError`] naming the number that does not fit.
    pub const fn new(
        algorithm: Algorithm,
        geometry: Geometry,
        status_unit: u32,
        max_align: u32,
        max_sectors: u32,
    ) -> Result<Self, LayoutError> {
        if !matches!(max_align, 8 | 16 | 32) {
            return Err(LayoutError::MaxAlign);
        }
        let units = [geometry.write_size, status_unit];
        let mut i = 0;
        while i < units.len() {
            #[allow(clippy::indexing_slicing)] // a constant array, and iterators are not const
            let unit = units[i];
            if !unit.is_power_of_two() || unit as usize > MAX_WRITE_SIZE || unit > max_align {
                return Err(LayoutError::WriteSize);
            }
            i += 1;
        }
        // All info fields and the magic must share the last sector: one erase makes or unmakes a trailer.
        let info_size = algorithm.info_fields() * max_align + round_up(MAGIC_SIZE, max_align);
        if !geometry.sector_size.is_power_of_two() || geometry.sector_size < info_size {
            return Err(LayoutError::SectorSize);
        }
        if geometry.slot_size == 0
            || !geometry.slot_size.is_multiple_of(geometry.sector_size)
            || geometry.slot_size > 1 << 30
        {
            return Err(LayoutError::SlotSize);
        }
        let mut records = max_sectors as u64 * algorithm.records_per_sector() as u64;
        if matches!(algorithm, Algorithm::Copy) {
            records = (ROLE_REGION / status_unit) as u64;
        }
        // The u64 sum cannot overflow, and any size below the slot size fits into a u32 again.
        let trailer_size = records * status_unit as u64 + info_size as u64;
        if trailer_size + geometry.sector_size as u64 > geometry.slot_size as u64 {
            return Err(LayoutError::TooSmall);
        }
        if geometry.sectors() > max_sectors && !matches!(algorithm, Algorithm::Copy) {
            return Err(LayoutError::TooManySectors);
        }
        Ok(Self {
            algorithm,
            slot_size: geometry.slot_size,
            sector_size: geometry.sector_size,
            write_size: geometry.write_size,
            status_unit,
            max_align,
            max_sectors,
            info_fields: algorithm.info_fields(),
            image_number: 0,
        })
    }

    /// The trailer of a scratch area; it has room for the records of one sector.
    const fn scratch(area: Geometry, status_unit: u32, max_align: u32) -> Self {
        Self {
            algorithm: Algorithm::SwapScratch,
            slot_size: area.slot_size,
            sector_size: area.sector_size,
            write_size: area.write_size,
            status_unit,
            max_align,
            max_sectors: 1,
            info_fields: LEAST_INFO_FIELDS,
            image_number: 0,
        }
    }

    const fn with_info_fields(self, info_fields: u32) -> Self {
        Self { info_fields, ..self }
    }

    const fn with_image_number(self, image_number: u8) -> Self {
        Self { image_number, ..self }
    }

    /// Number of the image that the slot is for, 0 to 15; it is written together with each swap type.
    pub const fn image_number(&self) -> u8 {
        self.image_number
    }

    /// Size of the slot.
    pub const fn slot_size(&self) -> u32 {
        self.slot_size
    }

    /// Erase unit of the slot.
    pub const fn sector_size(&self) -> u32 {
        self.sector_size
    }

    /// Write unit of the slot's device.
    pub const fn write_size(&self) -> u32 {
        self.write_size
    }

    /// Size of one status record (W): the write unit of the device that holds the records.
    pub const fn status_unit(&self) -> u32 {
        self.status_unit
    }

    /// Spacing of the info fields (MA), 8, 16 or 32.
    pub const fn max_align(&self) -> u32 {
        self.max_align
    }

    /// Number of sectors the status region has room for (M).
    pub const fn max_sectors(&self) -> u32 {
        self.max_sectors
    }

    /// Number of status records the region holds.
    pub const fn record_count(&self) -> u32 {
        match self.algorithm {
            Algorithm::Copy => ROLE_REGION / self.status_unit,
            _ => self.max_sectors * self.algorithm.records_per_sector(),
        }
    }

    /// The 16 magic bytes, the last of the slot.
    pub const fn magic(&self) -> u32 {
        self.slot_size - MAGIC_SIZE
    }

    /// Where the write of the magic starts: the magic shares its `max_align` unit with erased filler in front.
    pub const fn magic_write(&self) -> u32 {
        self.slot_size - round_up(MAGIC_SIZE, self.max_align)
    }

    /// The `image_ok` flag.
    pub const fn image_ok(&self) -> u32 {
        self.magic_write() - self.max_align
    }

    /// The `copy_done` flag.
    pub const fn copy_done(&self) -> u32 {
        self.magic_write() - 2 * self.max_align
    }

    /// The swap type and image number.
    pub const fn swap_info(&self) -> u32 {
        self.magic_write() - 3 * self.max_align
    }

    /// For swap using offset, the sizes of the unprotected TLV areas: of the image in the primary slot, then of the one
    /// in the secondary. `None` if this trailer has [no such field](Layout::without_tlv_sizes).
    pub const fn tlv_sizes(&self) -> Option<u32> {
        if self.info_fields == LEAST_INFO_FIELDS {
            return None;
        }
        Some(self.magic_write() - 4 * self.max_align)
    }

    /// The number of bytes being swapped: the lowest of the info fields.
    pub const fn swap_size(&self) -> u32 {
        self.magic_write() - self.info_fields * self.max_align
    }

    /// The first status record.
    pub const fn status_start(&self) -> u32 {
        self.swap_size() - self.record_count() * self.status_unit
    }

    /// Size of the info fields and the magic.
    const fn info_size(&self) -> u32 {
        self.slot_size - self.swap_size()
    }

    /// Size of the whole trailer (T).
    pub const fn trailer_size(&self) -> u32 {
        self.slot_size - self.status_start()
    }

    /// Lowest sector that holds a part of the trailer.
    pub const fn first_sector(&self) -> u32 {
        self.slot_size - round_up(self.trailer_size(), self.sector_size)
    }
}

/// The slots and the algorithm that connects them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    algorithm: Algorithm,
    primary: Geometry,
    secondary: Geometry,
    spare: Option<Geometry>,
    primary_trailer: TrailerLayout,
    secondary_trailer: TrailerLayout,
    spare_trailer: Option<TrailerLayout>,
    /// Secondary slot and spare area have changed places.
    is_exchanged: bool,
}

impl Layout {
    /// A layout of two slots. `max_align` is 8, 16 or 32; `max_sectors` is at least the sector count of either slot.
    ///
    /// Meant for a `const`, so that a pair of slots that cannot work fails the build.
    ///
    /// # Errors
    /// A [`LayoutError`] naming the rule that is broken.
    pub const fn new(
        algorithm: Algorithm,
        primary: Geometry,
        secondary: Geometry,
        max_align: u32,
        max_sectors: u32,
    ) -> Result<Self, LayoutError> {
        Self::with_spare(algorithm, primary, secondary, None, max_align, max_sectors)
    }

    /// As [`new`](Self::new), with the spare area of an [algorithm that has one](Algorithm::has_spare).
    ///
    /// All trailers are sized with the same write unit, that of the areas that hold status records (MCUboot
    /// `BOOT_WRITE_SZ`).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub const fn with_spare(
        algorithm: Algorithm,
        primary: Geometry,
        secondary: Geometry,
        spare: Option<Geometry>,
        max_align: u32,
        max_sectors: u32,
    ) -> Result<Self, LayoutError> {
        let unit = primary.write_size;
        let primary_trailer = match TrailerLayout::new(algorithm, primary, unit, max_align, max_sectors) {
            Ok(trailer) => trailer,
            Err(error) => return Err(error),
        };
        let secondary_trailer = match TrailerLayout::new(algorithm, secondary, unit, max_align, max_sectors) {
            Ok(trailer) => trailer,
            Err(error) => return Err(error),
        };
        let spare_trailer = match (algorithm, spare) {
            (Algorithm::SwapScratch, Some(area)) => {
                match scratch_trailer(primary, secondary, area, max_align) {
                    Ok(trailer) => Some(trailer),
                    Err(error) => return Err(error),
                }
            }
            (Algorithm::Copy, Some(area)) => {
                match TrailerLayout::new(algorithm, area, unit, max_align, max_sectors) {
                    Ok(trailer) => Some(trailer),
                    Err(error) => return Err(error),
                }
            }
            (_, None) if !algorithm.has_spare() => None,
            _ => return Err(LayoutError::Spare),
        };
        // Received bytes are written in whole pages, and an object may end at any sector boundary.
        let received_in = match (algorithm, spare) {
            (Algorithm::Copy, Some(area)) => smaller(secondary.sector_size, area.sector_size),
            _ => secondary.sector_size,
        };
        if (received_in as usize) < PAGE {
            return Err(LayoutError::SectorSize);
        }
        let (n, m) = (primary.sectors(), secondary.sectors());
        match algorithm {
            Algorithm::SwapOffset | Algorithm::SwapMove => {
                if primary.sector_size != secondary.sector_size {
                    return Err(LayoutError::SectorSizesDiffer);
                }
                let offset = matches!(algorithm, Algorithm::SwapOffset);
                if n != m && (offset && n + 1 != m || !offset && n != m + 1) {
                    return Err(LayoutError::SectorCountsDiffer);
                }
                // One sector for the image, and one by which it is moved.
                let moving = if offset {
                    secondary_trailer
                } else {
                    primary_trailer
                };
                if moving.first_sector() < 2 * primary.sector_size {
                    return Err(LayoutError::TooSmall);
                }
            }
            Algorithm::SwapScratch => {
                if primary.slot_size != secondary.slot_size {
                    return Err(LayoutError::SectorCountsDiffer);
                }
            }
            Algorithm::Overwrite | Algorithm::Copy => {}
        }
        Ok(Self {
            algorithm,
            primary,
            secondary,
            spare,
            primary_trailer,
            secondary_trailer,
            spare_trailer,
            is_exchanged: false,
        })
    }

    /// For [`Algorithm::Copy`], the layout in which `incoming` is the secondary slot and the other place the spare area;
    /// for any other algorithm, the same layout.
    #[must_use]
    pub const fn with_incoming(self, incoming: Place) -> Self {
        let (Some(spare), Some(spare_trailer)) = (self.spare, self.spare_trailer) else {
            return self;
        };
        if !matches!(self.algorithm, Algorithm::Copy) || incoming.number() == self.incoming().number() {
            return self;
        }
        Self {
            secondary: spare,
            spare: Some(self.secondary),
            secondary_trailer: spare_trailer,
            spare_trailer: Some(self.secondary_trailer),
            is_exchanged: !self.is_exchanged,
            ..self
        }
    }

    /// For [`Algorithm::SwapOffset`], the layout whose trailers have no field for the sizes of the unprotected TLV
    /// areas, as MCUboot 2.2 writes them (Zephyr 4.1 and 4.2). MCUboot 2.3 added that field, which moves everything
    /// below it down by `max_align` bytes. For any other algorithm, the same layout.
    #[must_use]
    pub const fn without_tlv_sizes(self) -> Self {
        self.with_info_fields(LEAST_INFO_FIELDS)
    }

    /// The opposite of [`without_tlv_sizes`](Self::without_tlv_sizes): the layout as [`new`](Self::new) made it.
    #[must_use]
    pub const fn with_tlv_sizes(self) -> Self {
        self.with_info_fields(self.algorithm.info_fields())
    }

    const fn with_info_fields(self, count: u32) -> Self {
        Self {
            primary_trailer: self.primary_trailer.with_info_fields(count),
            secondary_trailer: self.secondary_trailer.with_info_fields(count),
            ..self
        }
    }

    /// The layout for the image with this number, 1 to [`MAX_IMAGE_NUMBER`]; [`new`](Self::new) makes the layout of
    /// number 0, the application. Each image has slots of its own. Only a scratch area may be shared; a job in it
    /// belongs to the image whose number it names. A number that is too large is replaced with the largest.
    #[must_use]
    pub const fn with_image_number(self, number: u8) -> Self {
        let number = if number > MAX_IMAGE_NUMBER {
            MAX_IMAGE_NUMBER
        } else {
            number
        };
        Self {
            primary_trailer: self.primary_trailer.with_image_number(number),
            secondary_trailer: self.secondary_trailer.with_image_number(number),
            spare_trailer: match self.spare_trailer {
                Some(trailer) => Some(trailer.with_image_number(number)),
                None => None,
            },
            ..self
        }
    }

    /// Number of the image that the slots are for.
    pub const fn image_number(&self) -> u8 {
        self.primary_trailer.image_number
    }

    /// The place that is the secondary slot in this layout.
    pub const fn incoming(&self) -> Place {
        if self.is_exchanged {
            Place::Second
        } else {
            Place::First
        }
    }

    /// The install algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The slot the image runs from.
    pub const fn primary(&self) -> Geometry {
        self.primary
    }

    /// The slot updates are stored in.
    pub const fn secondary(&self) -> Geometry {
        self.secondary
    }

    /// The spare area: scratch, or the second place for images of [`Algorithm::Copy`].
    pub const fn spare(&self) -> Option<Geometry> {
        self.spare
    }

    /// Trailer of the primary slot.
    pub const fn primary_trailer(&self) -> TrailerLayout {
        self.primary_trailer
    }

    /// Trailer of the secondary slot.
    pub const fn secondary_trailer(&self) -> TrailerLayout {
        self.secondary_trailer
    }

    /// Trailer of the spare area.
    pub const fn spare_trailer(&self) -> Option<TrailerLayout> {
        self.spare_trailer
    }

    /// Largest image that can be installed, in bytes: header, payload and both TLV areas together.
    ///
    /// These are the exact limits of MCUboot since v2.2; earlier releases allowed larger images and could damage them.
    pub const fn max_image_size(&self) -> u32 {
        let (primary, secondary) = (self.primary_trailer, self.secondary_trailer);
        match self.algorithm {
            Algorithm::SwapOffset => smaller(
                primary.first_sector(),
                secondary.first_sector() - secondary.sector_size,
            ),
            Algorithm::SwapMove => smaller(
                primary.first_sector() - primary.sector_size,
                secondary.first_sector(),
            ),
            Algorithm::SwapScratch => scratch_limit(primary, secondary, self.spare_trailer),
            Algorithm::Overwrite => smaller(primary.swap_info(), secondary.swap_info()),
            Algorithm::Copy => {
                let limit = smaller(primary.first_sector(), secondary.first_sector());
                match self.spare_trailer {
                    Some(spare) => smaller(limit, spare.first_sector()),
                    None => limit,
                }
            }
        }
    }

    /// Where in the secondary slot an update starts, in bytes.
    pub const fn upload_offset(&self) -> u32 {
        match self.algorithm {
            Algorithm::SwapOffset => self.secondary.sector_size,
            _ => 0,
        }
    }
}

/// The trailer of a scratch area that fits both slots.
const fn scratch_trailer(
    primary: Geometry,
    secondary: Geometry,
    area: Geometry,
    max_align: u32,
) -> Result<TrailerLayout, LayoutError> {
    let unit = larger(primary.sector_size, secondary.sector_size);
    // Sector sizes are powers of two, so one is always a multiple of the other. An area that is not a whole number of
    // the larger sectors would end inside a sector (MCUboot issue 2524).
    if area.slot_size == 0
        || !area.sector_size.is_power_of_two()
        || !area.slot_size.is_multiple_of(unit)
        || !area.slot_size.is_multiple_of(area.sector_size)
        || area.write_size != primary.write_size
    {
        return Err(LayoutError::ScratchUnits);
    }
    let trailer = TrailerLayout::scratch(area, primary.write_size, max_align);
    // The trailer must leave room for data, and must fit into one sector.
    let size = trailer.info_size() + 3 * trailer.status_unit;
    if size >= area.sector_size {
        return Err(LayoutError::TooSmall);
    }
    Ok(trailer)
}

/// MCUboot's `app_max_size` for swap using scratch: the slot without the trailer and without some padding. With the
/// padding, the data in the first trailer sector and the scratch area's own trailer fit into the scratch area together.
const fn scratch_limit(
    primary: TrailerLayout,
    secondary: TrailerLayout,
    spare: Option<TrailerLayout>,
) -> u32 {
    let status = smaller(primary.status_start(), secondary.status_start());
    // Both are ends of a sector; the larger of the two is a sector boundary in both slots.
    let first_end = larger(
        primary.first_sector() + primary.sector_size,
        secondary.first_sector() + secondary.sector_size,
    );
    let own = match spare {
        Some(scratch) => scratch.trailer_size(),
        None => 0,
    };
    let there = first_end - status;
    if own > there {
        status - (own - there)
    } else {
        status
    }
}

#[cfg(test)]
mod tests;
