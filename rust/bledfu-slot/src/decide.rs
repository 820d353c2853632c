// SPDX-License-Identifier: Apache-2.0
//! From the contents of the trailers to the swap type, when no install is under way (MCUboot `bootutil_public.c`,
//! `boot_swap_tables`). The boot stage acts on it; the application reports it to a client that asks for the state of
//! the images.
//!
//! The order matters: a request in the secondary slot takes precedence over a revert that is due in the primary slot,
//! so an update received by a test image replaces that image. The stored swap type plays no part. A flag that is
//! neither set nor erased matches no row that requires one of the two.

use bledfu_text::{words, Line, Text};
use embedded_storage::nor_flash::{NorFlashError, NorFlashErrorKind, ReadNorFlash};

use crate::copy_roles::{is_reverted, Record};
use crate::evidence::{Done, Evidence, Floor, NO_DIGEST};
use crate::flash::read_bytes;
use crate::layout::{round_up, Algorithm, Layout};
use crate::trailer::{stored_job, Flag, Magic, SwapType, Trailer};
use crate::verify::{image_size, read_info, Digest, ImageInfo, VerifyError};

/// One row: what the fields must be (`None` = anything), and the swap type that results.
struct Row {
    primary_magic: Option<Magic>,
    secondary_magic: Option<Magic>,
    primary_image_ok: Option<Flag>,
    secondary_image_ok: Option<Flag>,
    primary_copy_done: Option<Flag>,
    result: SwapType,
}

/// The first matching row wins; if none matches, there is nothing to do.
const TABLE: [Row; 3] = [
    // A new image, to be tried.
    Row {
        primary_magic: None,
        secondary_magic: Some(Magic::Good),
        primary_image_ok: None,
        secondary_image_ok: Some(Flag::Unset),
        primary_copy_done: None,
        result: SwapType::Test,
    },
    // A new image, to be installed for good.
    Row {
        primary_magic: None,
        secondary_magic: Some(Magic::Good),
        primary_image_ok: None,
        secondary_image_ok: Some(Flag::Set),
        primary_copy_done: None,
        result: SwapType::Permanent,
    },
    // A swapped-in image that has not confirmed itself. The secondary magic does not matter (MCUboot since v2.2): a
    // magic torn while the revert was prepared must not prevent the revert.
    Row {
        primary_magic: Some(Magic::Good),
        secondary_magic: None,
        primary_image_ok: Some(Flag::Unset),
        secondary_image_ok: None,
        primary_copy_done: Some(Flag::Set),
        result: SwapType::Revert,
    },
];

fn fits<T: PartialEq>(wanted: &Option<T>, found: &T) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted == found)
}

/// What the two trailers ask for. For a secondary trailer that cannot be read, pass [`Trailer::ERASED`].
pub fn decide(primary: &Trailer, secondary: &Trailer) -> SwapType {
    TABLE
        .iter()
        .find(|row| {
            fits(&row.primary_magic, &primary.magic)
                && fits(&row.secondary_magic, &secondary.magic)
                && fits(&row.primary_image_ok, &primary.image_ok)
                && fits(&row.secondary_image_ok, &secondary.image_ok)
                && fits(&row.primary_copy_done, &primary.copy_done)
        })
        .map_or(SwapType::None, |row| row.result)
}

/// [`decide`] for swap using offset, whose table has one more row at the top: [`asks_for_revert`].
pub fn decide_by_offset(primary: &Trailer, secondary: &Trailer) -> SwapType {
    if asks_for_revert(secondary) {
        return SwapType::Revert;
    }
    decide(primary, secondary)
}

/// What the next boot will do by the two trailers, with the table of `algorithm`.
pub fn next_boot(algorithm: Algorithm, primary: &Trailer, secondary: &Trailer) -> SwapType {
    match (algorithm, decide(primary, secondary)) {
        (Algorithm::SwapOffset, _) => decide_by_offset(primary, secondary),
        // There is nothing to go back to.
        (Algorithm::Overwrite, SwapType::Revert) => SwapType::None,
        (_, decided) => decided,
    }
}

/// Which images may replace the running one (MCUboot `MCUBOOT_DOWNGRADE_PREVENTION`). A revert may always bring back
/// the image that ran before. With a trust area, a revert may bring back only that image, and no image below the floor
/// is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Downgrade {
    /// Anything.
    #[default]
    Allowed,
    /// The same version or a higher one; build numbers do not count.
    ByVersion,
    /// The same security counter or a higher one; anything if the running image has none.
    BySecurityCounter,
}

impl Downgrade {
    /// Whether an image is below `least`.
    pub fn refuses(self, image: &ImageInfo, least: &Floor) -> bool {
        let image = Floor::of(image);
        match self {
            Self::Allowed => false,
            Self::ByVersion => image.version < least.version,
            // None is less than any counter.
            Self::BySecurityCounter => image.security_counter < least.security_counter,
        }
    }
}

/// What the boot stage considers besides the trailers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What may replace the running image.
    pub downgrade: Downgrade,
    /// Whether there is a trust area.
    pub is_kept: bool,
    /// The last record in the trust area.
    pub evidence: Option<Evidence>,
}

impl Rules {
    /// Whether the boot stage distrusts the trailers in external flash: there is a trust area, and not every image is
    /// allowed.
    pub fn are_strict(&self) -> bool {
        self.is_kept && self.downgrade != Downgrade::Allowed
    }

    /// The revert that was begun, if one was.
    fn begun_revert(&self) -> Option<&Evidence> {
        self.evidence
            .as_ref()
            .filter(|evidence| evidence.begun == Some(SwapType::Revert))
    }

    /// Whether the image in the primary slot, which has this digest, runs for good, whatever its trailer says.
    pub fn is_settled(&self, running: Option<&Digest>) -> bool {
        self.evidence
            .as_ref()
            .is_some_and(|evidence| evidence.begun.is_none() && running == Some(&evidence.to))
    }

    /// The digest of the only image that a revert may bring back; `None` if any image may, or if there is no record.
    pub fn image_before(&self) -> Option<&Digest> {
        let evidence = self.evidence.as_ref().filter(|_| self.are_strict())?;
        Some(match evidence.begun {
            Some(SwapType::Revert) => &evidence.to,
            Some(_) => &evidence.from,
            // The image on trial is not in the record: MCUboot installed it.
            None => &evidence.to,
        })
    }

    /// Whether a revert may bring this image back; `running` is the image in the primary slot, if it is valid.
    pub fn may_come_back(&self, running: Option<&ImageInfo>, image: &ImageInfo) -> bool {
        match (self.image_before(), &self.evidence, running) {
            (Some(before), Some(evidence), _) => {
                *before == image.digest && !self.downgrade.refuses(image, &evidence.floor)
            }
            // The trial began when there was no trust area yet.
            (_, _, Some(running)) if self.are_strict() => !self.downgrade.refuses(image, &Floor::of(running)),
            _ => true,
        }
    }

    /// Whether a request is for the image that already runs, so that there is nothing to install. False if an install
    /// of this image was begun: the flags that complete it may be missing. With [`Algorithm::Copy`] `copy_done` is the
    /// last of them, and a second install would overwrite the image before.
    pub fn already_runs(
        &self,
        algorithm: Algorithm,
        primary: &Trailer,
        running: Option<&Digest>,
        update: Option<&Digest>,
    ) -> bool {
        let is_done =
            algorithm == Algorithm::Copy && primary.magic == Magic::Good && primary.copy_done == Flag::Set;
        let begun = update.is_some_and(|update| self.is_bringing(update));
        self.is_kept && update.is_some() && running == update && (!begun || is_done)
    }

    /// Whether the last install that was begun is one of this image.
    pub fn is_for(&self, image: &Digest) -> bool {
        self.evidence
            .as_ref()
            .is_some_and(|evidence| evidence.to == *image)
    }

    /// Whether an install or a revert was begun, and is not over.
    pub fn is_underway(&self) -> bool {
        self.evidence
            .as_ref()
            .is_some_and(|evidence| evidence.begun.is_some())
    }

    /// Whether what is under way is to bring this image.
    pub fn is_bringing(&self, image: &Digest) -> bool {
        self.is_for(image) && self.is_underway()
    }

    /// Whether what is under way is about other images than the one in the primary slot, which has this digest: that one was
    /// put there by a programmer or by another boot stage. If it is not known what was to be replaced, that needs an image
    /// which `is_whole`: cells that were torn may read as an image that is going by chance.
    pub fn is_stale(&self, running: &Digest, is_whole: bool) -> bool {
        self.evidence.as_ref().is_some_and(|evidence| {
            evidence.begun.is_some()
                && evidence.to != *running
                && evidence.from != *running
                && (is_whole || evidence.from != NO_DIGEST)
        })
    }

    /// Whether a swap was begun again, and its first unit is not known to be done: trailers are about to be erased then,
    /// and what a torn erase leaves of them says nothing. Both images are whole.
    pub fn is_begun_again(&self, algorithm: Algorithm, running: Option<&Digest>) -> bool {
        !matches!(algorithm, Algorithm::Overwrite | Algorithm::Copy)
            && self.evidence.as_ref().is_some_and(|evidence| {
                evidence.begun.is_some() && evidence.done == Done::InDoubt(0) && evidence.replaces(running)
            })
    }

    /// The primary trailer, corrected by the evidence: an `image_ok` that was once noted as set stays set, even if it
    /// now reads as something else.
    pub fn primary(&self, mut primary: Trailer, running: Option<&Digest>) -> Trailer {
        if primary.image_ok != Flag::Set && self.is_settled(running) {
            primary.image_ok = Flag::Set;
        }
        primary
    }

    /// What the two trailers ask for; `running` is the digest of the image in the primary slot. `None` if the trailer
    /// in external flash asks for a revert and nothing in internal flash does.
    pub fn decide(
        &self,
        algorithm: Algorithm,
        primary: &Trailer,
        secondary: &Trailer,
        running: Option<&Digest>,
    ) -> Option<SwapType> {
        // What the trailers say then may be left of a torn erase, on either side.
        if self.is_begun_again(algorithm, running) {
            return self.evidence.as_ref()?.begun;
        }
        let primary = self.primary(*primary, running);
        let begun = self.evidence.as_ref().and_then(|evidence| {
            let begun = evidence.begun?;
            // Only a swap removes its request before the end.
            let goes_on = match algorithm {
                Algorithm::Overwrite => false,
                Algorithm::Copy => begun == SwapType::Revert,
                _ => true,
            };
            // It continues as long as the image that it replaces still runs.
            (goes_on && evidence.replaces(running)).then_some(begun)
        });
        match (next_boot(algorithm, &primary, secondary), begun) {
            (SwapType::None, Some(begun)) => Some(begun),
            (SwapType::Revert, _)
                if self.are_strict()
                    && self.begun_revert().is_none()
                    && next_boot(algorithm, &primary, &Trailer::ERASED) != SwapType::Revert =>
            {
                None
            }
            (decided, _) => Some(decided),
        }
    }
}

/// Why the boot stage will remove a request instead of installing something.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The image in the primary slot is larger than the install algorithm can keep.
    PrimaryTooLarge,
    /// There is no image with the request, or its header or sizes are wrong.
    NoImage,
    /// The requested image is larger than can be installed.
    TooLarge,
    /// The request has its magic, but a flag that is neither set nor erased.
    DamagedRequest,
    /// The requested image is the one that already runs.
    AlreadyRuns,
    /// The image to go back to is not the one that ran before, or nothing in internal flash asks for a revert.
    NotTheImageBefore,
}

impl Text for Obstacle {
    fn put(&self, line: &mut dyn Line) {
        let words = match self {
            Self::PrimaryTooLarge => words!("the image in the primary slot is too large to be kept"),
            Self::NoImage => words!("the request has no image"),
            Self::TooLarge => words!("the requested image is too large to be installed"),
            Self::DamagedRequest => words!("the request is damaged"),
            Self::AlreadyRuns => words!("the requested image is the one that already runs"),
            Self::NotTheImageBefore => words!("the image to go back to is not the one that ran before"),
        };
        words.put(line);
    }
}

bledfu_text::display!(Obstacle);

impl core::error::Error for Obstacle {}

/// What the next boot will do, from [`outlook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Nothing: the running image stays, and the secondary slot is free for an update.
    Nothing,
    /// It installs the image in the secondary slot, or finishes an install of it: [`SwapType::Test`] or
    /// [`SwapType::Permanent`]. An image that turns out to be invalid is erased instead.
    Install(SwapType),
    /// It reverts to the image before.
    Revert,
    /// It removes a request that it cannot carry out. The running image stays, and the secondary slot is free.
    Impossible(Obstacle),
    /// The flash of a slot could not be read, so nothing is known. In this case the boot stage changes nothing.
    Unknown(NorFlashErrorKind),
}

impl Outlook {
    /// Whether the next boot needs the contents of the secondary slot. Only then may an erase or an upload be refused.
    pub const fn needs_secondary(self) -> bool {
        matches!(self, Self::Install(_) | Self::Revert)
    }

    /// What is asked for and can be carried out, as a swap type.
    pub const fn swap_type(self) -> SwapType {
        match self {
            Self::Install(swap_type) => swap_type,
            Self::Revert => SwapType::Revert,
            _ => SwapType::None,
        }
    }
}

/// [`outlook_by`] for a boot stage that has only the trailers to decide from.
pub fn outlook<P: ReadNorFlash, S: ReadNorFlash, X: ReadNorFlash>(
    layout: &Layout,
    primary: &mut P,
    secondary: &mut S,
    spare: &mut X,
) -> Outlook {
    outlook_by(&Rules::default(), layout, primary, secondary, spare)
}

/// What the next boot will do with the slots as they are now. Reads both trailers, and the headers and TLV sizes of
/// both images; hashes nothing.
///
/// `layout` is the layout in use; for [`Algorithm::Copy`] that is the one [with roles](Layout::with_incoming). `spare`
/// is read only for [`Algorithm::SwapScratch`], whose scratch area may hold an interrupted job; pass
/// [`NoFlash`](crate::areas::NoFlash) if there is none.
#[inline(never)]
pub fn outlook_by<P: ReadNorFlash, S: ReadNorFlash, X: ReadNorFlash>(
    rules: &Rules,
    layout: &Layout,
    primary: &mut P,
    secondary: &mut S,
    spare: &mut X,
) -> Outlook {
    look(rules, layout, primary, secondary, spare).unwrap_or_else(Outlook::Unknown)
}

fn look<P: ReadNorFlash, S: ReadNorFlash, X: ReadNorFlash>(
    rules: &Rules,
    layout: &Layout,
    primary: &mut P,
    secondary: &mut S,
    spare: &mut X,
) -> Result<Outlook, NorFlashErrorKind> {
    let of_primary = layout.primary_trailer();
    let running = Trailer::read(primary, &of_primary).map_err(kind)?;
    let request = Trailer::read(secondary, &layout.secondary_trailer()).map_err(kind)?;
    let image = info_of(primary, 0, layout.primary().slot_size)?;
    let digest = image.map(|image| image.digest);
    // A job that an earlier boot began, and could not finish because a flash failed.
    let is_begun_again = rules.is_begun_again(layout.algorithm(), digest.as_ref());
    let job = match is_begun_again {
        true => SwapType::None,
        false => interrupted(layout, primary, spare)?,
    };
    match job {
        SwapType::None => {}
        SwapType::Revert => return Ok(Outlook::Revert),
        swap_type => return Ok(Outlook::Install(swap_type)),
    }
    let settled = running.settled(&of_primary);
    let Some(swap_type) = rules.decide(layout.algorithm(), &settled, &request, digest.as_ref()) else {
        return Ok(Outlook::Impossible(Obstacle::NotTheImageBefore));
    };
    let start = match swap_type {
        SwapType::Revert if layout.algorithm() == Algorithm::Copy => {
            // The mark next to the record says that the image before is back already; only a flag is missing.
            let limit = layout.max_image_size();
            let record = Record::read(primary, &of_primary).map_err(kind)?;
            let is_back = record.is_some_and(|record| (1..=limit).contains(&record.size))
                && request.magic != Magic::Good
                && is_reverted(primary, &of_primary).map_err(kind)?;
            if is_back {
                return Ok(Outlook::Nothing);
            }
            0
        }
        SwapType::Revert => 0,
        SwapType::Test | SwapType::Permanent => layout.upload_offset(),
        _ if request.magic == Magic::Good => return Ok(Outlook::Impossible(Obstacle::DamagedRequest)),
        _ => return Ok(Outlook::Nothing),
    };
    let Some(size) = size_of(secondary, start, layout.secondary().slot_size)? else {
        return Ok(Outlook::Impossible(Obstacle::NoImage));
    };
    if size > layout.max_image_size() {
        return Ok(Outlook::Impossible(Obstacle::TooLarge));
    }
    if rules.is_kept {
        let update = info_of(secondary, start, layout.secondary().slot_size)?;
        match swap_type {
            // Nothing but the evidence asks, and that for another image.
            _ if (is_begun_again || next_boot(layout.algorithm(), &settled, &request) != swap_type)
                && !update.is_some_and(|update| rules.is_for(&update.digest)) =>
            {
                return Ok(Outlook::Nothing);
            }
            SwapType::Revert
                if !update.is_some_and(|update| rules.may_come_back(image.as_ref(), &update)) =>
            {
                return Ok(Outlook::Impossible(Obstacle::NotTheImageBefore));
            }
            SwapType::Test | SwapType::Permanent
                if is_sound(&settled)
                    && rules.already_runs(
                        layout.algorithm(),
                        &settled,
                        digest.as_ref(),
                        update.as_ref().map(|update| &update.digest),
                    ) =>
            {
                return Ok(Outlook::Impossible(Obstacle::AlreadyRuns));
            }
            _ => {}
        }
    }
    // With copy, a revert keeps nothing of the primary slot.
    let keeps = swap_type != SwapType::Revert || layout.algorithm() != Algorithm::Copy;
    if let (true, Some(obstacle)) = (keeps, obstacle(layout, primary).map_err(kind)?) {
        return Ok(Outlook::Impossible(obstacle));
    }
    Ok(match swap_type {
        SwapType::Revert => Outlook::Revert,
        _ => Outlook::Install(swap_type),
    })
}

/// Why no update at all can be installed over the contents of the primary slot; `None` if there is no such reason. To
/// be checked before a transfer begins.
///
/// # Errors
/// The flash's error.
pub fn obstacle<P: ReadNorFlash>(layout: &Layout, primary: &mut P) -> Result<Option<Obstacle>, P::Error> {
    // The image in the primary slot is not kept.
    if layout.algorithm() == Algorithm::Overwrite {
        return Ok(None);
    }
    let size = match image_size(primary, 0, layout.primary().slot_size) {
        Ok(size) => size,
        Err(VerifyError::Flash(error)) => return Err(error),
        // If it is not an image, it need not be kept.
        Err(_) => 0,
    };
    Ok((size > layout.max_image_size()).then_some(Obstacle::PrimaryTooLarge))
}

/// The size of the image at `start`; `None` if there is none.
fn size_of<F: ReadNorFlash>(
    flash: &mut F,
    start: u32,
    slot_size: u32,
) -> Result<Option<u32>, NorFlashErrorKind> {
    match image_size(flash, start, slot_size) {
        Ok(size) => Ok(Some(size)),
        Err(VerifyError::Flash(error)) => Err(error.kind()),
        Err(_) => Ok(None),
    }
}

/// Whether both flags of a trailer are either set or erased. With a damaged flag an image cannot confirm itself, and
/// only an install writes the flags anew.
pub fn is_sound(primary: &Trailer) -> bool {
    primary.image_ok != Flag::Bad && primary.copy_done != Flag::Bad
}

/// What the image at `start` says about itself; `None` if there is none. Nothing is hashed.
fn info_of<F: ReadNorFlash>(
    flash: &mut F,
    start: u32,
    slot_size: u32,
) -> Result<Option<ImageInfo>, NorFlashErrorKind> {
    match read_info(flash, start, slot_size) {
        Ok(info) => Ok(info),
        Err(VerifyError::Flash(error)) => Err(error.kind()),
        Err(_) => Ok(None),
    }
}

fn kind<E: NorFlashError>(error: E) -> NorFlashErrorKind {
    error.kind()
}

/// The swap type of a job that an earlier boot wrote down in the primary trailer or in the scratch area;
/// [`SwapType::None`] if there is none. This does not mean that the boot stage will resume it.
///
/// # Errors
/// The flash's error.
pub fn interrupted<P: ReadNorFlash, X: ReadNorFlash>(
    layout: &Layout,
    primary: &mut P,
    spare: &mut X,
) -> Result<SwapType, NorFlashErrorKind> {
    let stored = stored_job(primary, layout).map_err(kind)?;
    let (SwapType::None, Algorithm::SwapScratch, Some(area)) =
        (stored, layout.algorithm(), layout.spare_trailer())
    else {
        return Ok(stored);
    };
    if spare.capacity() == 0 {
        return Ok(SwapType::None);
    }
    let scratch = Trailer::read(spare, &area).map_err(kind)?;
    let mut record = [0xFF];
    read_bytes(spare, area.status_start(), &mut record).map_err(kind)?;
    // A job is kept in scratch only if the images reach into the first trailer sector.
    let sector = layout.primary().sector_size.max(layout.secondary().sector_size);
    let begun = scratch.holds_job(layout)
        && record != [0xFF]
        && round_up(scratch.swap_size, sector) > layout.primary_trailer().first_sector();
    Ok(if begun {
        scratch.swap_type()
    } else {
        SwapType::None
    })
}

/// For swap using offset: whether the request in the secondary slot asks for a revert, which `copy_done` marks.
pub fn asks_for_revert(secondary: &Trailer) -> bool {
    (secondary.magic, secondary.image_ok, secondary.copy_done) == (Magic::Good, Flag::Unset, Flag::Set)
}

#[cfg(test)]
mod tests;
