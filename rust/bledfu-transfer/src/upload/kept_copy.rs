// SPDX-License-Identifier: Apache-2.0
//! The copy of the very first image, made while nothing else happens.
//!
//! Copy with a kept revert image needs no backup: the place that an image was received in keeps it. Only an image that was
//! programmed at the factory has no copy yet. The boot stage would make it before the first install, and the device would
//! be away for that time. What the application has copied, the boot stage finds equal; whatever else is there, it copies
//! anew. So nothing here needs to be safe against power cuts, and nothing here is believed.

use super::{State, Upload};
use crate::note;
use bledfu_slot::areas::Areas;
use bledfu_slot::copy_roles::Place;
use bledfu_slot::flash::{read_bytes, Aligned};
use bledfu_slot::layout::Algorithm;
use bledfu_slot::retry::Retry;
use bledfu_slot::trailer::{Magic, Trailer};
use bledfu_slot::verify::{read_info, Crypto};
use bledfu_slot::writer::PAGE;
use bledfu_text::words;
use embedded_storage::nor_flash::NorFlash;

/// How far the copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptCopy {
    /// It was not looked at since the start.
    Unknown,
    /// The first `at` of `size` bytes are equal.
    Equal { at: u32, size: u32 },
    /// It is complete, not needed, or cannot be made.
    Over,
}

impl<A: Areas, C: Crypto> Upload<'_, A, C> {
    /// Does one step of copying the running image: compares one sector, and writes it if it differs. False when there is
    /// nothing to do. Not during a transfer: its bytes come first.
    #[inline(never)]
    pub fn keep_copy(&mut self) -> bool {
        if matches!(self.state, State::Receiving(_)) || !self.setup.running.confirmed {
            return false;
        }
        self.kept_copy = match self.kept_copy {
            KeptCopy::Over => return false,
            KeptCopy::Unknown => match self.size_to_keep() {
                Some(size) => KeptCopy::Equal { at: 0, size },
                None => KeptCopy::Over,
            },
            KeptCopy::Equal { at, size } if at >= size => KeptCopy::Over,
            KeptCopy::Equal { at, size } => match self.copy_sector(at, size) {
                Some(at) => KeptCopy::Equal { at, size },
                None => {
                    note::warn(&words!("the running image cannot be copied ahead; the boot stage copies it before the install"));
                    KeptCopy::Over
                }
            },
        };
        true
    }

    /// Size in bytes of the running image, if it is the boot stage's turn to copy it.
    fn size_to_keep(&mut self) -> Option<u32> {
        let layout = self.setup.layout;
        if layout.algorithm() != Algorithm::Copy || layout.incoming() != Place::First {
            return None;
        }
        let trailer = layout.spare_trailer()?;
        let areas = self.areas.all();
        let primary = &mut Retry(areas.primary);
        // With the magic, it was installed, and its copy is where it came from.
        let installed = Trailer::read(primary, &layout.primary_trailer()).ok()?.magic == Magic::Good;
        let asks = Trailer::read(&mut Retry(areas.spare), &trailer).ok()?.magic == Magic::Good;
        let info = read_info(primary, 0, layout.primary().slot_size).ok()??;
        (!installed && !asks && info.total_size <= layout.max_image_size()).then_some(info.total_size)
    }

    /// Makes the sector at `at` equal. The offset behind it; `None` if that failed.
    fn copy_sector(&mut self, at: u32, size: u32) -> Option<u32> {
        let area = self.setup.layout.spare()?;
        let (sector, unit) = (area.sector_size, area.write_size as usize);
        let areas = self.areas.all();
        let (primary, spare) = (&mut Retry(areas.primary), &mut Retry(areas.spare));
        let end = at.checked_add(sector)?.min(size);
        if !is_equal(primary, spare, at, end)? {
            spare.erase(at, at.checked_add(sector)?).ok()?;
            copy(primary, spare, (at, end), unit)?;
            is_equal(primary, spare, at, end)?.then_some(())?;
        }
        Some(end)
    }
}

fn is_equal<P: NorFlash, X: NorFlash>(primary: &mut P, spare: &mut X, mut at: u32, end: u32) -> Option<bool> {
    let (mut one, mut other) = (Aligned([0; PAGE]), Aligned([0; PAGE]));
    while at < end {
        let length = (end - at).min(PAGE as u32);
        let (one, other) = (
            one.0.get_mut(..length as usize)?,
            other.0.get_mut(..length as usize)?,
        );
        read_bytes(primary, at, one).ok()?;
        read_bytes(spare, at, other).ok()?;
        if one != other {
            return Some(false);
        }
        at += length;
    }
    Some(true)
}

/// `unit` is the write unit of the spare area.
fn copy<P: NorFlash, X: NorFlash>(
    primary: &mut P,
    spare: &mut X,
    (mut at, end): (u32, u32),
    unit: usize,
) -> Option<()> {
    while at < end {
        let length = (end - at).min(PAGE as u32);
        let mut page = Aligned::<PAGE>::erased();
        read_bytes(primary, at, page.0.get_mut(..length as usize)?).ok()?;
        let padded = (length as usize).next_multiple_of(unit);
        spare.write(at, page.0.get(..padded)?).ok()?;
        at += length;
    }
    Some(())
}
