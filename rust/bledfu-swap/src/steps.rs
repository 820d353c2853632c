// SPDX-License-Identifier: Apache-2.0
//! What every install algorithm has in common: the two slots, copying, progress, and the questions it must answer.

use bledfu_slot::flash::{is_erased, read_bytes, Aligned};
use bledfu_slot::{Layout, SwapType, Trailer};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

/// Bytes copied at once, as in MCUboot: four pages of an external flash.
const COPY_SIZE: u32 = 1024;

/// Bytes given to one erase call when a whole slot goes: the largest erase command of common external flashes.
const BULK_ERASE: u32 = 65536;

/// Called before every erase, every copied kibibyte and every chunk hashed: feed the watchdog, blink, print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// An image is being read and hashed.
    Verify,
    /// A refused image or a trailer is being erased.
    Erase,
    /// An install is at this step; a step is one sector erased and copied.
    Install {
        /// Steps done.
        step: u32,
        /// Steps in all.
        steps: u32,
    },
}

/// Which of the two flashes failed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapError<P, S> {
    /// The primary slot's flash failed.
    Primary(P),
    /// The secondary slot's flash failed.
    Secondary(S),
}

impl<P: core::fmt::Debug, S: core::fmt::Debug> core::fmt::Display for SwapError<P, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Primary(error) => write!(f, "the flash of the primary slot failed: {error:?}"),
            Self::Secondary(error) => write!(f, "the flash of the secondary slot failed: {error:?}"),
        }
    }
}

impl<P: core::fmt::Debug, S: core::fmt::Debug> core::error::Error for SwapError<P, S> {}

/// The error of a step on slots `P` and `S`.
pub type StepError<P, S> = SwapError<<P as ErrorType>::Error, <S as ErrorType>::Error>;

/// The two slots during one boot.
pub struct Slots<'a, P, S> {
    /// The slot images run from.
    pub primary: &'a mut P,
    /// The slot updates arrive in.
    pub secondary: &'a mut S,
    /// Where things are in them.
    pub layout: Layout,
    /// Who is told that work goes on.
    pub watch: &'a mut dyn FnMut(Progress),
    /// Status records that could not be written; work goes on without them, and the result is verified anyway.
    pub failed_records: u32,
}

/// What is to be installed, and how much of it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// [`SwapType::Test`], [`SwapType::Permanent`] or [`SwapType::Revert`].
    pub swap_type: SwapType,
    /// Bytes to install, checked against the layout: 1 to [`Layout::max_image_size`].
    pub size: u32,
    /// True if the trailer of the primary slot already holds this job.
    pub committed: bool,
    /// Units of work already recorded; 0 if not `committed`.
    pub done: u32,
}

/// What an earlier boot left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing: the trailers decide.
    Idle,
    /// A job is written down, and no byte of an image has been touched.
    Committed(Job),
    /// Images are in pieces, or only the final marks are missing: the job must be finished before anything else.
    Underway(Job),
}

/// The questions an install algorithm answers (MCUboot `swap_priv.h`).
pub trait Algorithm {
    /// Can go back to the image before.
    const REVERTS: bool;

    /// Can install over a primary slot without an image header.
    const BOOTSTRAPS: bool;

    /// What an earlier boot left behind.
    ///
    /// # Errors
    /// The flash that could not be read.
    fn find<P: NorFlash, S: NorFlash>(
        slots: &mut Slots<'_, P, S>,
        primary: &Trailer,
        secondary: &Trailer,
    ) -> Result<Status, StepError<P, S>>;

    /// Bytes to install for images of these total sizes (0 = no image).
    fn install_size(primary: u32, secondary: u32) -> u32;

    /// Does the job, or the rest of it.
    ///
    /// # Errors
    /// The flash that failed; the job can be taken up again.
    fn install<P: NorFlash, S: NorFlash>(
        slots: &mut Slots<'_, P, S>,
        job: &Job,
    ) -> Result<(), StepError<P, S>>;
}

/// Copies `length` bytes into erased flash; all-erased kibibytes are left as they are, which is the same contents.
pub fn copy<A: ReadNorFlash, B: NorFlash>(
    (source, from): (&mut A, u32),
    (target, to): (&mut B, u32),
    length: u32,
    watch: &mut dyn FnMut(),
) -> Result<(), SwapError<B::Error, A::Error>> {
    let mut buffer = Aligned([0; COPY_SIZE as usize]);
    let mut done = 0;
    while done < length {
        watch();
        let bytes = buffer
            .0
            .get_mut(..(length - done).min(COPY_SIZE) as usize)
            .unwrap_or_default();
        read_bytes(source, from + done, bytes).map_err(SwapError::Secondary)?;
        if !is_erased(bytes) {
            target.write(to + done, bytes).map_err(SwapError::Primary)?;
        }
        done += COPY_SIZE;
    }
    Ok(())
}

/// [`copy`] within one flash.
pub fn copy_within<F: NorFlash>(
    flash: &mut F,
    from: u32,
    to: u32,
    length: u32,
    watch: &mut dyn FnMut(),
) -> Result<(), F::Error> {
    let mut buffer = Aligned([0; COPY_SIZE as usize]);
    let mut done = 0;
    while done < length {
        watch();
        let bytes = buffer
            .0
            .get_mut(..(length - done).min(COPY_SIZE) as usize)
            .unwrap_or_default();
        read_bytes(flash, from + done, bytes)?;
        if !is_erased(bytes) {
            flash.write(to + done, bytes)?;
        }
        done += COPY_SIZE;
    }
    Ok(())
}

/// Erases a whole slot from its start, so that a cut leaves no header before it leaves no trailer.
pub fn erase_slot<F: NorFlash>(
    flash: &mut F,
    slot_size: u32,
    watch: &mut dyn FnMut(Progress),
) -> Result<(), F::Error> {
    let mut at = 0;
    while at < slot_size {
        watch(Progress::Erase);
        let end = at.saturating_add(BULK_ERASE).min(slot_size);
        flash.erase(at, end)?;
        at = end;
    }
    Ok(())
}
