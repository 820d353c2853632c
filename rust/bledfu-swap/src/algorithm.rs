// SPDX-License-Identifier: Apache-2.0
//! What all install algorithms have in common: the slots, copying, progress, and the trait that each of them
//! implements.

use bledfu_slot::decide::Rules;
use bledfu_slot::evidence::Store;
use bledfu_slot::flash::{is_erased, read_bytes, Aligned, MAX_WRITE_SIZE};
use bledfu_slot::{Algorithm, Direction, Geometry, ImageInfo, Layout, Plain, SwapType, Trailer, Transform};
use embedded_storage::nor_flash::{NorFlash, NorFlashErrorKind};

use crate::decide::decide;

/// Number of bytes copied at once, as in MCUboot: four pages of an external flash.
const COPY_SIZE: u32 = 1024;

/// Number of bytes compared at once.
const COMPARE_SIZE: u32 = 256;

/// Number of bytes per erase call when a whole slot is erased: the largest erase command of common external flashes.
const BULK_ERASE: u32 = 65536;

/// How often a sector is tried before this boot gives up on its flash.
const TRIES: u32 = 3;

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
        /// Total number of steps.
        steps: u32,
    },
    /// An image in external flash was refused and will be checked again, in case it was read wrongly. Wait about 10 ms,
    /// and reset the external flash if possible.
    Again,
}

/// A flash as the algorithms see it. Its errors are always error kinds, so that reports can outlive the driver.
pub trait Flash: NorFlash<Error = NorFlashErrorKind> {}

impl<F: NorFlash<Error = NorFlashErrorKind>> Flash for F {}

pub use bledfu_slot::areas::NoFlash;

/// Which flash failed and how, or that the cryptography failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapError {
    /// The primary slot's flash failed.
    Primary(NorFlashErrorKind),
    /// The secondary slot's flash failed.
    Secondary(NorFlashErrorKind),
    /// The flash of the spare area failed.
    Spare(NorFlashErrorKind),
    /// A signature could not be checked: the cryptography was not available.
    Crypto,
}

impl core::fmt::Display for SwapError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (which, kind) = match self {
            Self::Primary(kind) => ("primary slot", kind),
            Self::Secondary(kind) => ("secondary slot", kind),
            Self::Spare(kind) => ("spare area", kind),
            Self::Crypto => return f.write_str("the cryptography was not available"),
        };
        write!(f, "the flash of the {which} failed: {kind:?}")
    }
}

impl core::error::Error for SwapError {}

/// The slots during one boot.
pub struct Slots<'a, P, S, X, T> {
    /// The slot that images run from.
    pub primary: &'a mut P,
    /// The slot in which updates arrive.
    pub secondary: &'a mut S,
    /// The spare area, or [`NoFlash`].
    pub spare: &'a mut X,
    /// Where things are in the areas.
    pub layout: Layout,
    /// How bytes change between the primary slot and the other areas.
    pub transform: &'a T,
    /// Called to tell that work goes on; see [`Progress`].
    pub watch: &'a mut dyn FnMut(Progress),
    /// Number of status records, and of sectors of the image that is replaced, that could not be written. Work goes on
    /// without them; the result is verified in any case.
    pub failed_records: u32,
    /// The trust area, where the boot stage keeps its evidence.
    pub evidence: &'a mut dyn Store,
    /// The evidence and the policy.
    pub rules: Rules,
    /// The unit at which this boot resumed an interrupted job; `None` once that unit is done and noted.
    pub in_doubt: Option<u32>,
    /// All of the primary slot was written or compared in this boot, with an algorithm that keeps a copy.
    pub is_whole: bool,
    /// The image in the primary slot, if it was verified in this boot and nothing has been installed since.
    pub verified: Option<ImageInfo>,
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
    /// Number of units of work already recorded; 0 if not `committed`.
    pub done: u32,
}

/// What an earlier boot left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing: the trailers decide.
    Idle,
    /// A job is written down, but no byte of an image has been changed.
    Committed(Job),
    /// Images are in pieces, or only the final flags are missing: the job must be finished before anything else.
    Underway(Job),
    /// As [`Underway`](Self::Underway), but only the spare area says so, and that may be in external flash. It is
    /// believed if the job is the one in the evidence, or if the new image is valid when put together from [its
    /// parts](Installer::spare_part).
    Claimed(Job),
    /// As [`Claimed`](Self::Claimed) if the secondary slot holds no valid image. If it holds one, nothing has been
    /// changed yet: the records are remains of a torn erase, and the trailers decide.
    Doubtful(Job),
}

/// What an install algorithm must provide (MCUboot `swap_priv.h`).
pub trait Installer {
    /// Its name in layouts.
    const NAME: Algorithm;

    /// Whether it keeps a copy of the running image in the spare area.
    const KEEPS_COPY: bool = false;

    /// Whether it can go back to the image before.
    const REVERTS: bool;

    /// Whether it can install over a primary slot without an image header.
    const BOOTSTRAPS: bool;

    /// What the trailers ask for, if no earlier boot left anything behind.
    fn decide(primary: &Trailer, secondary: &Trailer) -> SwapType {
        decide(primary, secondary)
    }

    /// Where in the secondary slot the image for this kind of install starts, in bytes from the start of the slot.
    fn source(layout: &Layout, _: SwapType) -> u32 {
        layout.upload_offset()
    }

    /// What an earlier boot left behind.
    ///
    /// # Errors
    /// The flash that could not be read.
    fn find<P: Flash, S: Flash, X: Flash, T: Transform>(
        slots: &mut Slots<'_, P, S, X, T>,
        primary: &Trailer,
        secondary: &Trailer,
    ) -> Result<Status, SwapError>;

    /// Number of bytes to install for images of these total sizes (0 = no image).
    fn install_size(primary: u32, secondary: u32) -> u32;

    /// Number of units that a job of this size has; 0 for algorithms without records.
    fn units(_: &Layout, _: u32) -> u32 {
        0
    }

    /// Does the job, or the rest of it.
    ///
    /// # Errors
    /// The flash that failed; the job can be resumed.
    fn install<P: Flash, S: Flash, X: Flash, T: Transform>(
        slots: &mut Slots<'_, P, S, X, T>,
        job: &Job,
    ) -> Result<(), SwapError>;

    /// For a job that [only the spare area claims](Status::Claimed): the bytes of the new image from this offset on are
    /// in the spare area, those below it in the secondary slot. `None` for algorithms that have no such jobs.
    fn spare_part(_: &Layout, _: &Job) -> Option<u32> {
        None
    }

    /// Erases what this algorithm keeps about a job outside of the primary slot. It is called when none of that is
    /// needed any more.
    ///
    /// # Errors
    /// The flash that failed.
    fn forget<P: Flash, S: Flash, X: Flash, T: Transform>(
        _: &mut Slots<'_, P, S, X, T>,
    ) -> Result<(), SwapError> {
        Ok(())
    }

    /// To be called after an invalid primary image was replaced: with the image in the spare area if the argument is
    /// true, else with the one in the secondary slot.
    ///
    /// # Errors
    /// The flash that failed.
    fn repaired<P: Flash, S: Flash, X: Flash, T: Transform>(
        _: &mut Slots<'_, P, S, X, T>,
        _: bool,
    ) -> Result<(), SwapError> {
        Ok(())
    }
}

/// A place in a flash: the flash, an offset, and the [`SwapError`] that an error there becomes.
pub struct At<'a, F>(pub &'a mut F, pub u32, pub fn(NorFlashErrorKind) -> SwapError);

/// What bytes pass through on their way: the transform, the direction, and the offset in the image at which the bytes
/// begin.
pub struct Through<'a, T>(pub &'a T, pub Direction, pub u32);

// Derived, they would require the same of `T`.
impl<T> Clone for Through<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Through<'_, T> {}

/// For bytes that stay unchanged: between two external areas.
pub const AS_THEY_ARE: Through<'static, Plain> = Through(&Plain, Direction::Inward, 0);

impl<T: Transform> Through<'_, T> {
    /// Changes `bytes`, which are at offset `done` in the moved range.
    pub(crate) fn apply(&self, done: u32, bytes: &mut [u8]) {
        self.0.apply(self.1, self.2 + done, bytes);
    }
}

/// Erases the part of a flash that is about to be written; the second argument is the watch.
pub type Erase<'e, F> = &'e mut dyn FnMut(&mut F, &mut dyn FnMut()) -> Result<(), NorFlashErrorKind>;

/// Erases with `erase` and copies `length` bytes into the target. Kibibytes that are all 0xFF are not programmed, as
/// the target holds the same already. Then source and target are read again and compared, because the source may be
/// erased next: a byte that was read or written wrongly must be noticed now. All this is done up to three times.
/// Returns false if the target still differs.
///
/// # Errors
/// The flash that failed.
pub fn try_rewrite<A: Flash, B: Flash, T: Transform>(
    At(source, from, source_error): At<'_, A>,
    At(target, to, target_error): At<'_, B>,
    length: u32,
    through: Through<'_, T>,
    erase: Erase<'_, B>,
    watch: &mut dyn FnMut(),
) -> Result<bool, SwapError> {
    for _ in 0..TRIES {
        erase(target, watch).map_err(target_error)?;
        let mut buffer = Aligned([0; COPY_SIZE as usize]);
        let mut done = 0;
        while done < length {
            watch();
            let bytes = chunk(&mut buffer, length - done);
            read_bytes(source, from + done, bytes).map_err(source_error)?;
            through.apply(done, bytes);
            program(target, to + done, bytes).map_err(target_error)?;
            done += COPY_SIZE;
        }
        let (a, b) = (At(source, from, source_error), At(target, to, target_error));
        if is_equal(a, b, length, through)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// [`try_rewrite`], but it is an error if the target does not take the bytes.
///
/// # Errors
/// The flash that failed.
pub fn rewrite<A: Flash, B: Flash, T: Transform>(
    source: At<'_, A>,
    target: At<'_, B>,
    length: u32,
    through: Through<'_, T>,
    erase: Erase<'_, B>,
    watch: &mut dyn FnMut(),
) -> Result<(), SwapError> {
    let target_error = target.2;
    match try_rewrite(source, target, length, through, erase, watch)? {
        true => Ok(()),
        false => Err(target_error(NorFlashErrorKind::Other)),
    }
}

/// Counts a sector of external flash that does not take its part of the image that is replaced. The install goes on:
/// the new image is complete and is verified in the end, while an install that stops here would stop at every boot,
/// with nothing to start.
pub fn not_kept(failed_records: &mut u32, kept: bool) {
    *failed_records = failed_records.saturating_add(u32::from(!kept));
}

/// [`rewrite`] of `length` bytes within one flash, where nothing is transformed. The same number of bytes is erased.
///
/// # Errors
/// As [`rewrite`].
pub fn rewrite_within<F: Flash>(
    flash: &mut F,
    from: u32,
    to: u32,
    length: u32,
    watch: &mut dyn FnMut(),
) -> Result<(), NorFlashErrorKind> {
    for _ in 0..TRIES {
        flash.erase(to, to + length)?;
        let mut buffer = Aligned([0; COPY_SIZE as usize]);
        let mut done = 0;
        while done < length {
            watch();
            let bytes = chunk(&mut buffer, length - done);
            read_bytes(flash, from + done, bytes)?;
            program(flash, to + done, bytes)?;
            done += COPY_SIZE;
        }
        let mut same = true;
        done = 0;
        while same && done < length {
            let size = (length - done).min(COMPARE_SIZE) as usize;
            let (mut one, mut two) = (
                Aligned([0; COMPARE_SIZE as usize]),
                Aligned([0; COMPARE_SIZE as usize]),
            );
            let (x, y) = (
                one.0.get_mut(..size).unwrap_or_default(),
                two.0.get_mut(..size).unwrap_or_default(),
            );
            read_bytes(flash, from + done, x)?;
            read_bytes(flash, to + done, y)?;
            same = x == y;
            done += COMPARE_SIZE;
        }
        if same {
            return Ok(());
        }
    }
    Err(NorFlashErrorKind::Other)
}

fn chunk(buffer: &mut Aligned<{ COPY_SIZE as usize }>, left: u32) -> &mut [u8] {
    buffer
        .0
        .get_mut(..left.min(COPY_SIZE) as usize)
        .unwrap_or_default()
}

fn program<F: Flash>(flash: &mut F, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
    if is_erased(bytes) {
        return Ok(());
    }
    flash.write(offset, bytes)
}

/// Makes `length` bytes of the target equal to those of the source, one target sector after the other, lowest first.
/// Sectors that are equal already are left alone, so a cut copy can be begun again.
///
/// The sector that a cut boot wrote last may read as equal by chance, and differently at the next boot. So the last
/// equal sector before the first one that differs is written again; if all are equal, the last one is. `before` is a
/// copy of what the target held at the beginning; no boot has written a sector that is the same in `before` and in the
/// source. Returns false if a sector does not take its bytes.
///
/// `resumed`, from the evidence, says more than such guesses: sectors below it are as they were written by boots that
/// were not cut there, and only these may be left alone. `u32::MAX` = nothing of this copy was written before.
/// `done` is called behind each sector.
///
/// # Errors
/// The flash that failed.
pub fn replace<A: Flash, B: Flash, C: Flash, T: Transform>(
    At(source, from, source_error): At<'_, A>,
    At(target, to, target_error): At<'_, B>,
    (length, sector): (u32, u32),
    Through(transform, direction, offset): Through<'_, T>,
    mut before: Option<At<'_, C>>,
    (resumed, done): (Option<u32>, &mut dyn FnMut(u32)),
    watch: &mut dyn FnMut(Progress),
) -> Result<bool, SwapError> {
    let steps = length.div_ceil(sector);
    let bounds = |step: u32| (step * sector, sector.min(length - step * sector));
    let mut doubt = resumed.is_none();
    for step in 0..=steps {
        if step > 0 {
            done(step);
        }
        if step < steps && resumed.is_none_or(|resumed| step < resumed) {
            watch(Progress::Install { step, steps });
            let (at, part) = bounds(step);
            let through = Through(transform, direction, offset + at);
            let (a, b) = (
                At(source, from + at, source_error),
                At(target, to + at, target_error),
            );
            if is_equal(a, b, part, through)? {
                continue;
            }
        }
        let mut doubtful = None;
        if doubt {
            doubt = false;
            for step in (0..step).rev() {
                let (at, part) = bounds(step);
                let untouched = match &mut before {
                    Some(At(before, start, error)) => is_equal(
                        At(source, from + at, source_error),
                        At(*before, *start + at, *error),
                        part,
                        AS_THEY_ARE,
                    )?,
                    None => false,
                };
                if !untouched {
                    doubtful = Some(step);
                    break;
                }
            }
        }
        for step in doubtful.into_iter().chain((step < steps).then_some(step)) {
            let (at, part) = bounds(step);
            let taken = try_rewrite(
                At(source, from + at, source_error),
                At(target, to + at, target_error),
                // Whole write units. The bytes exist: every image is followed by its slot's trailer.
                part.next_multiple_of(MAX_WRITE_SIZE as u32),
                Through(transform, direction, offset + at),
                &mut |target: &mut B, _: &mut dyn FnMut()| target.erase(to + at, to + at + sector),
                &mut || watch(Progress::Install { step, steps }),
            )?;
            if !taken {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Turns the result of a copy into the primary slot into an error if the slot did not take the bytes.
pub fn taken(primary: bool) -> Result<(), SwapError> {
    match primary {
        true => Ok(()),
        false => Err(SwapError::Primary(NorFlashErrorKind::Other)),
    }
}

/// Whether the second place holds the same bytes as a copy of the first one would.
pub(crate) fn is_equal<A: Flash, B: Flash, T: Transform>(
    At(a, from, a_error): At<'_, A>,
    At(b, to, b_error): At<'_, B>,
    length: u32,
    through: Through<'_, T>,
) -> Result<bool, SwapError> {
    let mut one = Aligned([0; COMPARE_SIZE as usize]);
    let mut two = Aligned([0; COMPARE_SIZE as usize]);
    let mut done = 0;
    while done < length {
        let size = (length - done).min(COMPARE_SIZE) as usize;
        let (x, y) = (
            one.0.get_mut(..size).unwrap_or_default(),
            two.0.get_mut(..size).unwrap_or_default(),
        );
        read_bytes(a, from + done, x).map_err(a_error)?;
        through.apply(done, x);
        read_bytes(b, to + done, y).map_err(b_error)?;
        if x != y {
            return Ok(false);
        }
        done += COMPARE_SIZE;
    }
    Ok(true)
}

/// Erases a whole slot from its start: if this is cut, the header is gone before the trailer is.
pub fn erase_slot<F: Flash>(
    flash: &mut F,
    slot: Geometry,
    watch: &mut dyn FnMut(Progress),
) -> Result<(), NorFlashErrorKind> {
    // Both sizes are powers of two.
    let block = BULK_ERASE.max(slot.sector_size);
    let mut at = 0;
    while at < slot.slot_size {
        watch(Progress::Erase);
        let end = at.saturating_add(block).min(slot.slot_size);
        flash.erase(at, end)?;
        at = end;
    }
    Ok(())
}
