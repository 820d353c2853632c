// SPDX-License-Identifier: Apache-2.0
//! Overwrite only (MCUboot `loader.c`, the fast variant that Zephyr uses): the secondary is copied over the primary.
//!
//! # What happens
//! | Step | Primary | Secondary |
//! |---|---|---|
//! | a request was made | `A1 A2 A3 F` | `B1 B2 - F(magic)` |
//! | 1. erase what the image needs, lowest sector first | `- - A3 F` | `B1 B2 - F(magic)` |
//! | 2. erase the trailer | `- - A3 -` | `B1 B2 - F(magic)` |
//! | 3. copy the image | `B1 B2 A3 -` | `B1 B2 - F(magic)` |
//! | 4. write the magic | `B1 B2 A3 F` | `B1 B2 - F(magic)` |
//! | 5. erase the first sector: **the image is gone** | `B1 B2 A3 F` | `- B2 - F(magic)` |
//! | 6. erase the last sector: the request is gone | `B1 B2 A3 F` | `- B2 - -` |
//!
//! # Why a power cut cannot hurt
//! * **Beside cells that read differently each time**, neither the magic nor an image that verifies tells that step 4 was reached,
//!   if an earlier boot was cut there or behind: the erase of step 1 may be torn as well, and read as if it had not begun. So the
//!   boot that starts over notes that in the [evidence](bledfu_slot::evidence), and once more when the image is compared, before step 4.
//! * **Before step 5 begins** nothing in the secondary has changed: image and request are complete, so the next boot
//!   verifies the image and starts over at step 1. The contents of the primary do not matter until then.
//! * **Inside step 5** the request is still there. Its image is damaged, or intact if the erase did not get far. An
//!   intact image is installed again; a damaged one is refused and erased like any invalid image. Either way the
//!   primary is complete.
//! * **Between steps 5 and 6** there is a request but no header. MCUboot leaves that for ever in this mode; here the
//!   next boot erases a request without an image.
//! * **Inside step 6** the torn trailer asks for an image that is not there, or has a damaged magic that would block
//!   the next upload. The next boot erases a trailer without an image as well.
//!
//! One more difference: MCUboot copies at least one byte past the image. If the image ends at the end of a sector, that
//! byte is in a sector that was not erased. Here the copy ends with the sector.
//!
//! There is no record to resume from and no way back: during steps 1 to 3 the secondary holds the only image. A revert
//! that another boot stage left due is not carried out, since its only trace is in the trailer that step 2 erases.

use bledfu_slot::trailer::write_magic;
use bledfu_slot::{Algorithm, Direction, Trailer, Transform};
use embedded_storage::nor_flash::NorFlashErrorKind;

use crate::algorithm::{
    is_equal, rewrite, At, Flash, Installer, Job, Progress, Slots, Status, SwapError, Through,
};
use crate::trust;

/// Overwrite only.
pub struct Overwrite;

impl Installer for Overwrite {
    const NAME: Algorithm = Algorithm::Overwrite;
    const REVERTS: bool = false;
    const BOOTSTRAPS: bool = true;

    fn find<P: Flash, S: Flash, X: Flash, T: Transform>(
        _: &mut Slots<'_, P, S, X, T>,
        _: &Trailer,
        _: &Trailer,
    ) -> Result<Status, SwapError> {
        Ok(Status::Idle)
    }

    fn install_size(_: u32, secondary: u32) -> u32 {
        secondary
    }

    fn install<P: Flash, S: Flash, X: Flash, T: Transform>(
        slots: &mut Slots<'_, P, S, X, T>,
        job: &Job,
    ) -> Result<(), SwapError> {
        let layout = slots.layout;
        let trailer = layout.primary_trailer();
        let sector = layout.primary().sector_size;
        let image_sectors = job.size.div_ceil(sector);
        let steps = 2 * image_sectors + 1;
        let Slots {
            primary,
            secondary,
            transform,
            watch,
            ..
        } = slots;

        for step in 0..image_sectors {
            watch(Progress::Install { step, steps });
            primary
                .erase(step * sector, (step + 1) * sector)
                .map_err(SwapError::Primary)?;
        }
        // The sectors of the trailer that hold no part of the image.
        let mut at = trailer.first_sector().max(image_sectors * sector);
        while at < trailer.slot_size() {
            watch(Progress::Install {
                step: image_sectors,
                steps,
            });
            primary.erase(at, at + sector).map_err(SwapError::Primary)?;
            at += sector;
        }

        // Up to one write unit beyond the image, as MCUboot does, but never into the fields of the trailer or into a
        // sector that was not erased. MCUboot does write there if the image ends at the end of a sector.
        let unit = trailer.write_size();
        let length = ((job.size / unit + 1) * unit)
            .min(image_sectors * sector)
            .min(trailer.swap_info());
        let mut done = 0;
        while done < length {
            let step = image_sectors + 1 + done / sector;
            let part = sector.min(length - done);
            let mut tick = || watch(Progress::Install { step, steps });
            let mut erased = true;
            rewrite(
                At(*secondary, done, SwapError::Secondary),
                At(*primary, done, SwapError::Primary),
                part,
                Through(*transform, Direction::Inward, done),
                &mut |primary: &mut P, _: &mut dyn FnMut()| {
                    if core::mem::take(&mut erased) {
                        return Ok(());
                    }
                    primary.erase(done, done + sector)
                },
                &mut tick,
            )?;
            done += part;
        }
        // The secondary slot holds the only other copy, and it is erased next.
        let (from, to) = (
            At(*secondary, 0, SwapError::Secondary),
            At(*primary, 0, SwapError::Primary),
        );
        if !is_equal(from, to, length, Through(*transform, Direction::Inward, 0))? {
            return Err(SwapError::Primary(NorFlashErrorKind::Other));
        }
        trust::unit_done(slots, 0)?;
        let Slots {
            primary,
            secondary,
            watch,
            ..
        } = slots;
        write_magic(*primary, &trailer).map_err(SwapError::Primary)?;

        let Some(last) = layout
            .secondary()
            .slot_size
            .checked_sub(layout.secondary().sector_size)
        else {
            return Ok(());
        };
        watch(Progress::Erase);
        secondary
            .erase(0, layout.secondary().sector_size)
            .map_err(SwapError::Secondary)?;
        watch(Progress::Erase);
        secondary
            .erase(last, layout.secondary().slot_size)
            .map_err(SwapError::Secondary)
    }
}
