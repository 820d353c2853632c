// SPDX-License-Identifier: Apache-2.0
//! Trailer contents to swap type, on a fresh boot (MCUboot `bootutil_public.c`, `boot_swap_tables`). The boot stage acts on it;
//! the application tells it to who asks for the state of the images.
//!
//! The order matters: a request in the secondary slot is looked at before a revert that is due in the primary, so an
//! update received by a test image replaces it. The stored swap type plays no part, and a flag that is neither set nor
//! erased matches no row that asks for either.

use embedded_storage::nor_flash::{NorFlashError, NorFlashErrorKind, ReadNorFlash};

use crate::copy_roles::{is_reverted, Record};
use crate::evidence::{Evidence, Floor};
use crate::flash::read_bytes;
use crate::layout::{round_up, Algorithm, Layout};
use crate::trailer::{stored_job, Flag, Magic, SwapType, Trailer};
use crate::verify::{image_size, read_info, Digest, ImageInfo, VerifyError};

/// One row: what the fields must be (`None` = anything), and what follows.
struct Row {
    primary_magic: Option<Magic>,
    secondary_magic: Option<Magic>,
    primary_image_ok: Option<Flag>,
    secondary_image_ok: Option<Flag>,
    primary_copy_done: Option<Flag>,
    result: SwapType,
}

/// The first matching row wins; none matching means nothing to do.
const TABLE: [Row; 3] = [
    // A new image that has not been asked to stay.
    Row {
        primary_magic: None,
        secondary_magic: Some(Magic::Good),
        primary_image_ok: None,
        secondary_image_ok: Some(Flag::Unset),
        primary_copy_done: None,
        result: SwapType::Test,
    },
    // A new image that is to stay.
    Row {
        primary_magic: None,
        secondary_magic: Some(Magic::Good),
        primary_image_ok: None,
        secondary_image_ok: Some(Flag::Set),
        primary_copy_done: None,
        result: SwapType::Permanent,
    },
    // A swapped-in image that has not confirmed itself. The secondary magic does not matter (MCUboot since v2.2): a
    // magic torn while the revert was prepared must not keep the revert from happening.
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

/// What the two trailers ask for; an unreadable secondary is passed as [`Trailer::ERASED`].
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

/// [`decide`] for swap using offset, whose table has one row more, the first.
pub fn decide_by_offset(primary: &Trailer, secondary: &Trailer) -> SwapType {
    if asks_for_revert(secondary) {
        return SwapType::Revert;
    }
    decide(primary, secondary)
}

/// What the next boot makes of the two trailers, with the table of `algorithm`.
pub fn next_boot(algorithm: Algorithm, primary: &Trailer, secondary: &Trailer) -> SwapType {
    match (algorithm, decide(primary, secondary)) {
        (Algorithm::SwapOffset, _) => decide_by_offset(primary, secondary),
        // There is nothing to go back to.
        (Algorithm::Overwrite, SwapType::Revert) => SwapType::None,
        (_, decided) => decided,
    }
}

/// What may replace a running image (MCUboot `MCUBOOT_DOWNGRADE_PREVENTION`). The image that ran before always may, by a revert;
/// with a trust area that one only, and nothing below the floor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Downgrade {
    /// Anything.
    #[default]
    Allowed,
    /// The same version or a later one; build numbers do not count.
    ByVersion,
    /// The same security counter or a higher one; anything if the running image has none.
    BySecurityCounter,
}

impl Downgrade {
    /// Whether an image is older than it must at least be.
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

/// What the boot stage goes by beside the trailers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What may replace the running image.
    pub downgrade: Downgrade,
    /// There is a trust area.
    pub is_kept: bool,
    /// The last record in it.
    pub evidence: Option<Evidence>,
}

impl Rules {
    /// Whether the boot stage distrusts the trailers outside: there is a trust area, and not every image may come.
    pub fn are_strict(&self) -> bool {
        self.is_kept && self.downgrade != Downgrade::Allowed
    }

    /// The revert that was begun, if one was.
    fn begun_revert(&self) -> Option<&Evidence> {
        self.evidence
            .as_ref()
            .filter(|evidence| evidence.begun == Some(SwapType::Revert))
    }

    /// Whether the image with this digest in the primary slot runs for good, whatever its trailer says.
    pub fn is_settled(&self, running: Option<&Digest>) -> bool {
        self.evidence
            .as_ref()
            .is_some_and(|evidence| evidence.begun.is_none() && running == Some(&evidence.to))
    }

    /// The digest of the only image that a revert may bring back; `None` = any may, or there is no record to say.
    pub fn image_before(&self) -> Option<&Digest> {
        let evidence = self.evidence.as_ref().filter(|_| self.are_strict())?;
        Some(match evidence.begun {
            Some(SwapType::Revert) => &evidence.to,
            Some(_) => &evidence.from,
            // On trial is an image of which nobody told: MCUboot installed it.
            None => &evidence.to,
        })
    }

    /// Whether a revert may bring this image back; `running` is what is in the primary slot, if that is valid.
    pub fn may_come_back(&self, running: Option<&ImageInfo>, image: &ImageInfo) -> bool {
        match (self.image_before(), &self.evidence, running) {
            (Some(before), Some(evidence), _) => {
                *before == image.digest && !self.downgrade.refuses(image, &evidence.floor)
            }
            // The trial began before there was a trust area.
            (_, _, Some(running)) if self.are_strict() => !self.downgrade.refuses(image, &Floor::of(running)),
            _ => true,
        }
    }

    /// Whether a request is for the image that runs, so that there is nothing to install. Not if an install of it was begun: the
    /// marks that end it may be missing. With [`Algorithm::Copy`] they are there as soon as `copy_done` is, and one more install
    /// would overwrite the image before.
    pub fn already_runs(
        &self,
        algorithm: Algorithm,
        primary: &Trailer,
        running: Option<&Digest>,
        update: Option<&Digest>,
    ) -> bool {
        let is_done =
            algorithm == Algorithm::Copy && primary.magic == Magic::Good && primary.copy_done == Flag::Set;
        let begun = self
            .evidence
            .as_ref()
            .is_some_and(|evidence| evidence.begun.is_some() && update == Some(&evidence.to));
        self.is_kept && update.is_some() && running == update && (!begun || is_done)
    }

    /// Whether what was begun last is to bring this image.
    pub fn is_for(&self, image: &Digest) -> bool {
        self.evidence
            .as_ref()
            .is_some_and(|evidence| evidence.to == *image)
    }

    /// The primary trailer with what the evidence knows better: an `image_ok` that was once read as set does not come off.
    pub fn primary(&self, mut primary: Trailer, running: Option<&Digest>) -> Trailer {
        if primary.image_ok != Flag::Set && self.is_settled(running) {
            primary.image_ok = Flag::Set;
        }
        primary
    }

    /// What the two trailers ask for, `running` being the digest of what is in the primary slot. `None`: the trailer outside asks
    /// for a revert, and nothing inside does.
    pub fn decide(
        &self,
        algorithm: Algorithm,
        primary: &Trailer,
        secondary: &Trailer,
        running: Option<&Digest>,
    ) -> Option<SwapType> {
        let primary = self.primary(*primary, running);
        let begun = self.evidence.as_ref().and_then(|evidence| {
            let begun = evidence.begun?;
            // Only a swap takes its request down before the end.
            let goes_on = match algorithm {
                Algorithm::Overwrite => false,
                Algorithm::Copy => begun == SwapType::Revert,
                _ => true,
            };
            // It goes on while the image it is to replace still runs.
            (goes_on && running == Some(&evidence.from)).then_some(begun)
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

/// Why the boot stage will take a request down instead of installing something.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The image in the primary slot is larger than the install algorithm can keep.
    PrimaryTooLarge,
    /// There is no image under the request, or one whose header or sizes are wrong.
    NoImage,
    /// The image under the request is larger than can be installed.
    TooLarge,
    /// The request has its magic, but a flag that is neither set nor erased.
    DamagedRequest,
    /// The image under the request is the one that runs.
    AlreadyRuns,
    /// The image to go back to is not the one that ran before, or nothing inside the processor asks to go back.
    NotTheImageBefore,
}

impl core::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::PrimaryTooLarge => "the image in the primary slot is too large to be kept",
            Self::NoImage => "there is no image under the request",
            Self::TooLarge => "the image under the request is too large to be installed",
            Self::DamagedRequest => "the request is damaged",
            Self::AlreadyRuns => "the image under the request is the one that runs",
            Self::NotTheImageBefore => "the image to go back to is not the one that ran before",
        })
    }
}

impl core::error::Error for Obstacle {}

/// What the next boot will do, from [`outlook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Nothing: the running image stays, and the secondary slot is free for an update.
    Nothing,
    /// It installs the image in the secondary slot, or finishes doing so: [`SwapType::Test`] or [`SwapType::Permanent`].
    /// An image that turns out not to be valid is erased instead.
    Install(SwapType),
    /// It takes the running image back.
    Revert,
    /// It takes down a request that it cannot carry out. The running image stays, and the secondary slot is free.
    Impossible(Obstacle),
    /// The flash of a slot could not be read, so nothing is known. The boot stage leaves everything as it is then.
    Unknown(NorFlashErrorKind),
}

impl Outlook {
    /// Whether the secondary slot has something that the next boot needs. Only then may an erase or an upload be refused.
    pub const fn needs_secondary(self) -> bool {
        matches!(self, Self::Install(_) | Self::Revert)
    }

    /// What is asked for and can be carried out, in the words of a trailer.
    pub const fn swap_type(self) -> SwapType {
        match self {
            Self::Install(swap_type) => swap_type,
            Self::Revert => SwapType::Revert,
            _ => SwapType::None,
        }
    }
}

/// [`outlook_by`] for a boot stage that has only the trailers to go by.
pub fn outlook<P: ReadNorFlash, S: ReadNorFlash, X: ReadNorFlash>(
    layout: &Layout,
    primary: &mut P,
    secondary: &mut S,
    spare: &mut X,
) -> Outlook {
    outlook_by(&Rules::default(), layout, primary, secondary, spare)
}

/// What the next boot will do with the slots as they are. Reads both trailers and the headers and TLV sizes of both images;
/// hashes nothing.
///
/// `layout` is that of the slots as they are used: for [`Algorithm::Copy`] the one [with roles](Layout::with_incoming).
/// `spare` is looked at for [`Algorithm::SwapScratch`] only, whose scratch area may hold an interrupted job; pass
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
    // A job that an earlier boot began, and could not finish because a flash failed.
    match interrupted(layout, primary, spare)? {
        SwapType::None => {}
        SwapType::Revert => return Ok(Outlook::Revert),
        swap_type => return Ok(Outlook::Install(swap_type)),
    }
    let image = info_of(primary, 0, layout.primary().slot_size)?;
    let digest = image.map(|image| image.digest);
    let settled = running.settled(&of_primary);
    let Some(swap_type) = rules.decide(layout.algorithm(), &settled, &request, digest.as_ref()) else {
        return Ok(Outlook::Impossible(Obstacle::NotTheImageBefore));
    };
    let start = match swap_type {
        SwapType::Revert if layout.algorithm() == Algorithm::Copy => {
            // The image before is back already, as the mark beside the record says; only a flag is missing.
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
            SwapType::Revert
                if !update.is_some_and(|update| rules.may_come_back(image.as_ref(), &update)) =>
            {
                return Ok(Outlook::Impossible(Obstacle::NotTheImageBefore));
            }
            // Nothing but the evidence asks, and that for another image.
            SwapType::Test | SwapType::Permanent
                if next_boot(layout.algorithm(), &settled, &request) != swap_type
                    && !update.is_some_and(|update| rules.is_for(&update.digest)) =>
            {
                return Ok(Outlook::Nothing);
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
    // Going back with copy keeps nothing of the primary.
    let keeps = swap_type != SwapType::Revert || layout.algorithm() != Algorithm::Copy;
    if let (true, Some(obstacle)) = (keeps, obstacle(layout, primary).map_err(kind)?) {
        return Ok(Outlook::Impossible(obstacle));
    }
    Ok(match swap_type {
        SwapType::Revert => Outlook::Revert,
        _ => Outlook::Install(swap_type),
    })
}

/// Why no update at all can be installed over what is in the primary slot; `None` if there is no such reason. To be asked
/// before a transfer begins.
///
/// # Errors
/// The flash's error.
pub fn obstacle<P: ReadNorFlash>(layout: &Layout, primary: &mut P) -> Result<Option<Obstacle>, P::Error> {
    // It is not kept.
    if layout.algorithm() == Algorithm::Overwrite {
        return Ok(None);
    }
    let size = match image_size(primary, 0, layout.primary().slot_size) {
        Ok(size) => size,
        Err(VerifyError::Flash(error)) => return Err(error),
        // What is no image need not be kept.
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

/// Whether the flags of a trailer are as they were written or erased: beside others an image cannot confirm itself, and only an
/// install makes them anew.
pub fn is_sound(primary: &Trailer) -> bool {
    primary.image_ok != Flag::Bad && primary.copy_done != Flag::Bad
}

/// What the image at `start` says of itself; `None` if there is none. Nothing is hashed.
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

/// What the job is for that an earlier boot has written down, in the primary trailer or in the scratch area;
/// [`SwapType::None`] if there is none. It is not said that the boot stage will take it up.
///
/// # Errors
/// Of the flash.
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
    // Only where images reach into the first trailer sector is a job kept in scratch.
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

/// Swap using offset: a request in the secondary that is marked with `copy_done` is one to go back.
pub fn asks_for_revert(secondary: &Trailer) -> bool {
    (secondary.magic, secondary.image_ok, secondary.copy_done) == (Magic::Good, Flag::Unset, Flag::Set)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERASED: Trailer = Trailer::ERASED;
    const PENDING: Trailer = Trailer {
        magic: Magic::Good,
        ..ERASED
    };
    const REVERT_DUE: Trailer = Trailer {
        magic: Magic::Good,
        copy_done: Flag::Set,
        ..ERASED
    };

    #[test]
    fn only_swap_using_offset_takes_copy_done_in_the_secondary_for_a_revert() {
        let marked = Trailer {
            copy_done: Flag::Set,
            ..PENDING
        };
        assert_eq!(decide(&ERASED, &marked), SwapType::Test); // mcuboot case 55
        assert_eq!(decide_by_offset(&ERASED, &marked), SwapType::Revert);
        let confirmed = Trailer {
            image_ok: Flag::Set,
            ..marked
        };
        assert_eq!(decide_by_offset(&ERASED, &confirmed), SwapType::Permanent);
        assert_eq!(decide_by_offset(&REVERT_DUE, &PENDING), SwapType::Test);
        assert_eq!(decide_by_offset(&REVERT_DUE, &ERASED), SwapType::Revert);
    }

    #[test]
    fn erased_trailers_ask_for_nothing() {
        assert_eq!(decide(&ERASED, &ERASED), SwapType::None); // mcuboot case 51
    }

    #[test]
    fn a_damaged_secondary_magic_asks_for_nothing() {
        assert_eq!(
            decide(
                &ERASED,
                &Trailer {
                    magic: Magic::Bad,
                    ..PENDING
                }
            ),
            SwapType::None
        ); // mcuboot case 52, 66
    }

    #[test]
    fn a_pending_secondary_is_a_test() {
        assert_eq!(decide(&ERASED, &PENDING), SwapType::Test);
    }

    #[test]
    fn a_pending_secondary_with_image_ok_is_permanent() {
        assert_eq!(
            decide(
                &ERASED,
                &Trailer {
                    image_ok: Flag::Set,
                    ..PENDING
                }
            ),
            SwapType::Permanent
        ); // mcuboot case 53
    }

    #[test]
    fn a_pending_secondary_with_a_torn_image_ok_asks_for_nothing() {
        assert_eq!(
            decide(
                &ERASED,
                &Trailer {
                    image_ok: Flag::Bad,
                    ..PENDING
                }
            ),
            SwapType::None
        ); // mcuboot case 54
    }

    #[test]
    fn copy_done_of_the_secondary_does_not_matter() {
        for copy_done in [Flag::Set, Flag::Bad, Flag::Unset] {
            assert_eq!(decide(&ERASED, &Trailer { copy_done, ..PENDING }), SwapType::Test);
            // mcuboot case 55
        }
    }

    #[test]
    fn swap_info_does_not_matter() {
        for swap_info in [0xFF, 0x02, 0x03, 0x04, 0x00] {
            assert_eq!(decide(&ERASED, &Trailer { swap_info, ..PENDING }), SwapType::Test);
            // mcuboot cases 56, 57
        }
    }

    #[test]
    fn a_factory_image_with_a_magic_asks_for_nothing() {
        assert_eq!(decide(&PENDING, &ERASED), SwapType::None); // mcuboot case 58
    }

    #[test]
    fn an_unconfirmed_swapped_image_is_reverted() {
        assert_eq!(decide(&REVERT_DUE, &ERASED), SwapType::Revert); // mcuboot case 59
    }

    #[test]
    fn a_confirmed_image_stays() {
        assert_eq!(
            decide(
                &Trailer {
                    image_ok: Flag::Set,
                    ..REVERT_DUE
                },
                &ERASED
            ),
            SwapType::None
        ); // mcuboot case 60
    }

    #[test]
    fn torn_primary_flags_ask_for_nothing() {
        assert_eq!(
            decide(
                &Trailer {
                    copy_done: Flag::Bad,
                    ..REVERT_DUE
                },
                &ERASED
            ),
            SwapType::None
        ); // mcuboot case 61
        assert_eq!(
            decide(
                &Trailer {
                    image_ok: Flag::Bad,
                    ..REVERT_DUE
                },
                &ERASED
            ),
            SwapType::None
        );
    }

    #[test]
    fn a_pending_secondary_goes_before_a_due_revert() {
        assert_eq!(decide(&REVERT_DUE, &PENDING), SwapType::Test); // mcuboot case 62
    }

    #[test]
    fn a_damaged_primary_magic_does_not_keep_an_update_out() {
        assert_eq!(
            decide(
                &Trailer {
                    magic: Magic::Bad,
                    ..ERASED
                },
                &PENDING
            ),
            SwapType::Test
        ); // mcuboot case 63
    }

    #[test]
    fn a_damaged_secondary_magic_does_not_keep_a_revert_from_happening() {
        assert_eq!(
            decide(
                &REVERT_DUE,
                &Trailer {
                    magic: Magic::Bad,
                    ..ERASED
                }
            ),
            SwapType::Revert
        ); // mcuboot case 64
        assert_eq!(
            decide(
                &REVERT_DUE,
                &Trailer {
                    image_ok: Flag::Bad,
                    ..PENDING
                }
            ),
            SwapType::Revert
        );
    }

    #[test]
    fn a_primary_without_magic_is_never_reverted() {
        assert_eq!(
            decide(
                &Trailer {
                    magic: Magic::Unset,
                    ..REVERT_DUE
                },
                &ERASED
            ),
            SwapType::None
        );
    }

    use crate::areas::NoFlash;
    use crate::trailer::{
        self, write_copy_done, write_image_ok, write_magic, write_swap_info, write_swap_size,
    };
    use crate::Geometry;
    use bledfu_testkit::{Image, Key, Nor, Power, SECTOR};

    /// The slots of a device that runs an image of 5000 bytes and holds an update of 9000.
    struct Slots {
        layout: Layout,
        primary: Nor<4>,
        secondary: Nor<4>,
    }

    impl Slots {
        fn new(algorithm: Algorithm) -> Self {
            let power = Power::new();
            let slot = Geometry::of::<Nor<4>>(16 * SECTOR as u32);
            let spare = match algorithm {
                Algorithm::SwapScratch => Some(Geometry::of::<Nor<4>>(SECTOR as u32)),
                Algorithm::Copy => Some(slot),
                _ => None,
            };
            let layout = Layout::with_spare(algorithm, slot, slot, spare, 8, 32).unwrap();
            let mut primary = Nor::new('p', 16, &power);
            primary.load(0, &Image::bare(0x200, 5000, 1).sign(Key(1)).bytes());
            let mut secondary = Nor::new('s', 16, &power);
            let update = Image::bare(0x200, 9000, 2).sign(Key(1)).bytes();
            secondary.load(layout.upload_offset() as usize, &update);
            Self {
                layout,
                primary,
                secondary,
            }
        }

        fn request(mut self) -> Self {
            write_magic(&mut self.secondary, &self.layout.secondary_trailer()).unwrap();
            self
        }

        fn outlook(&mut self) -> Outlook {
            outlook(&self.layout, &mut self.primary, &mut self.secondary, &mut NoFlash)
        }

        fn of_primary(&self) -> crate::TrailerLayout {
            self.layout.primary_trailer()
        }
    }

    #[test]
    fn a_fresh_device_and_a_factory_image_with_a_magic_have_nothing_to_do() {
        for algorithm in Algorithm::ALL {
            let mut slots = Slots::new(algorithm);
            assert_eq!(slots.outlook(), Outlook::Nothing, "{algorithm:?}");
            write_magic(&mut slots.primary, &slots.layout.primary_trailer()).unwrap();
            assert_eq!(slots.outlook(), Outlook::Nothing, "{algorithm:?}");
            trailer::confirm(&mut slots.primary, &slots.layout).unwrap();
            assert_eq!(slots.outlook(), Outlook::Nothing, "{algorithm:?}");
        }
    }

    #[test]
    fn a_request_is_carried_out() {
        for algorithm in Algorithm::ALL {
            let mut slots = Slots::new(algorithm).request();
            assert_eq!(slots.outlook(), Outlook::Install(SwapType::Test), "{algorithm:?}");
            write_image_ok(&mut slots.secondary, &slots.layout.secondary_trailer()).unwrap();
            let expected = Outlook::Install(SwapType::Permanent);
            assert_eq!(slots.outlook(), expected, "{algorithm:?}");
            assert!(expected.needs_secondary());
        }
    }

    #[test]
    fn an_image_on_trial_is_taken_back_unless_there_is_no_way_back() {
        for algorithm in Algorithm::ALL {
            let mut slots = Slots::new(algorithm);
            let of_primary = slots.of_primary();
            write_magic(&mut slots.primary, &of_primary).unwrap();
            write_copy_done(&mut slots.primary, &of_primary).unwrap();
            // The image before is at the start of the slot.
            let before = Image::bare(0x200, 3000, 3).sign(Key(1)).bytes();
            slots.secondary.load(0, &before);
            let expected = match algorithm {
                Algorithm::Overwrite => Outlook::Nothing,
                _ => Outlook::Revert,
            };
            assert_eq!(slots.outlook(), expected, "{algorithm:?}");
            if matches!(
                algorithm,
                Algorithm::SwapMove | Algorithm::SwapOffset | Algorithm::SwapScratch
            ) {
                slots.secondary.bytes[..32].fill(0xFF);
                let expected = Outlook::Impossible(Obstacle::NoImage);
                assert_eq!(slots.outlook(), expected, "{algorithm:?}");
                assert!(!expected.needs_secondary());
            }
            trailer::confirm(&mut slots.primary, &slots.layout).unwrap();
            assert_eq!(slots.outlook(), Outlook::Nothing, "{algorithm:?}");
        }
    }

    #[test]
    fn a_primary_too_large_to_be_kept_is_known_before_a_transfer() {
        for algorithm in Algorithm::ALL {
            let mut slots = Slots::new(algorithm).request();
            assert_eq!(obstacle(&slots.layout, &mut slots.primary), Ok(None));
            // As large as the header check allows, and its TLV area; the largest of them is too large for any.
            let room = slots.of_primary().swap_info();
            let large = Image::of_total(room, 9, Key(1)).bytes();
            slots.primary.load(0, &large);
            let too_large = (algorithm != Algorithm::Overwrite).then_some(Obstacle::PrimaryTooLarge);
            assert_eq!(
                obstacle(&slots.layout, &mut slots.primary),
                Ok(too_large),
                "{algorithm:?}"
            );
            let expected = too_large.map_or(Outlook::Install(SwapType::Test), Outlook::Impossible);
            assert_eq!(slots.outlook(), expected, "{algorithm:?}");
            // To the byte.
            let limit = slots.layout.max_image_size();
            for (size, found) in [(limit, None), (limit + 1, too_large)] {
                slots.primary.bytes.fill(0xFF);
                let image = Image::of_total(size.min(room), 9, Key(1)).bytes();
                slots.primary.load(0, &image);
                let found = found.filter(|_| image.len() as u32 > limit);
                assert_eq!(
                    obstacle(&slots.layout, &mut slots.primary),
                    Ok(found),
                    "{algorithm:?}"
                );
            }
        }
    }

    #[test]
    fn a_request_over_no_image_or_over_too_large_a_one_is_impossible() {
        for algorithm in Algorithm::ALL {
            let mut slots = Slots::new(algorithm).request();
            let start = slots.layout.upload_offset() as usize;
            for (at, byte) in [(0, 0), (16, 0x04), (16, 0x10), (15, 0xFF), (0x200 + 9000, 0)] {
                let good = slots.secondary.bytes[start + at];
                slots.secondary.bytes[start + at] = byte;
                let expected = Outlook::Impossible(Obstacle::NoImage);
                assert_eq!(slots.outlook(), expected, "{algorithm:?} {at}");
                slots.secondary.bytes[start + at] = good;
            }
            assert_eq!(slots.outlook(), Outlook::Install(SwapType::Test));
            let limit = slots.layout.max_image_size();
            let room = slots.of_primary().swap_info() - start as u32;
            if limit < room {
                let large = Image::of_total(limit + 1, 9, Key(1)).bytes();
                slots.secondary.load(start, &large);
                assert_eq!(
                    slots.outlook(),
                    Outlook::Impossible(Obstacle::TooLarge),
                    "{algorithm:?}"
                );
            }
        }
    }

    #[test]
    fn damaged_flags_and_magics_of_the_secondary_block_nothing() {
        for algorithm in Algorithm::ALL {
            let mut slots = Slots::new(algorithm).request();
            let of_secondary = slots.layout.secondary_trailer();
            slots.secondary.load(of_secondary.image_ok() as usize, &[0x5B]);
            let expected = Outlook::Impossible(Obstacle::DamagedRequest);
            assert_eq!(slots.outlook(), expected, "{algorithm:?}");
            slots.secondary.load(of_secondary.magic() as usize, &[0x70]);
            assert_eq!(slots.outlook(), Outlook::Nothing, "{algorithm:?}");
        }
    }

    #[test]
    fn a_job_that_an_earlier_boot_could_not_finish_is_waited_for() {
        for algorithm in Algorithm::ALL {
            for (swap_type, expected) in [
                (SwapType::Test, Outlook::Install(SwapType::Test)),
                (SwapType::Permanent, Outlook::Install(SwapType::Permanent)),
                (SwapType::Revert, Outlook::Revert),
            ] {
                let mut slots = Slots::new(algorithm);
                let of_primary = slots.of_primary();
                write_swap_info(&mut slots.primary, &of_primary, swap_type).unwrap();
                write_swap_size(&mut slots.primary, &of_primary, 9644).unwrap();
                write_magic(&mut slots.primary, &of_primary).unwrap();
                let expected = match algorithm {
                    Algorithm::Overwrite => Outlook::Nothing,
                    _ => expected,
                };
                assert_eq!(slots.outlook(), expected, "{algorithm:?}");
                write_copy_done(&mut slots.primary, &of_primary).unwrap();
                write_image_ok(&mut slots.primary, &of_primary).unwrap();
                assert_eq!(slots.outlook(), Outlook::Nothing, "{algorithm:?}");
            }
        }
    }

    #[test]
    fn a_job_that_only_scratch_knows_is_waited_for() {
        let mut slots = Slots::new(Algorithm::SwapScratch);
        let layout = slots.layout;
        let of_scratch = layout.spare_trailer().unwrap();
        let mut scratch = Nor::<4>::new('x', 1, &Power::new());
        write_swap_info(&mut scratch, &of_scratch, SwapType::Test).unwrap();
        write_swap_size(&mut scratch, &of_scratch, layout.max_image_size()).unwrap();
        write_magic(&mut scratch, &of_scratch).unwrap();
        let mut outlook =
            |scratch: &mut Nor<4>| outlook(&layout, &mut slots.primary, &mut slots.secondary, scratch);
        assert_eq!(outlook(&mut scratch), Outlook::Nothing, "nothing has been moved");
        scratch.load(of_scratch.status_start() as usize, &[1]);
        assert_eq!(outlook(&mut scratch), Outlook::Install(SwapType::Test));
    }

    #[test]
    fn a_slot_that_cannot_be_read_leaves_the_outlook_unknown() {
        let mut slots = Slots::new(Algorithm::SwapOffset).request();
        slots.secondary.broken = true;
        assert_eq!(slots.outlook(), Outlook::Unknown(NorFlashErrorKind::Other));
        slots.secondary.broken = false;
        slots.primary.broken = true;
        assert_eq!(slots.outlook(), Outlook::Unknown(NorFlashErrorKind::Other));
    }
}
