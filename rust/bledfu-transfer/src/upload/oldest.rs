// SPDX-License-Identifier: Apache-2.0
//! Images that are never accepted: the older ones, and those that can never run here.

use super::Upload;
use bledfu_slot::areas::Areas;
use bledfu_slot::decide::{Downgrade, Rules};
use bledfu_slot::header::{HeaderError, ImageStart};
use bledfu_slot::verify::{Crypto, ImageInfo};
use bledfu_slot::Version;
use bledfu_text::{text, Line, Text};
/// The oldest image that is accepted; [`Upload::new`] raises it to the boot stage's minimum
/// ([`Setup::rules`](super::Setup::rules)). An older image is refused here with a code that the peer understands,
/// not only by the boot stage after a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OldestAccepted {
    /// Minimum version; the build number does not count.
    pub version: Option<Version>,
    /// The minimum version itself is too old as well: the running image is not to be installed again.
    pub is_above_version: bool,
    /// Minimum security counter, which the image must then have.
    pub counter: Option<u32>,
}

impl OldestAccepted {
    /// The stricter of this and the boot stage's.
    pub(super) fn raised(self, rules: &Rules) -> Self {
        let Some(evidence) = rules.evidence else {
            return self;
        };
        let ((major, minor, revision), counter) = (evidence.floor.version, evidence.floor.security_counter);
        let noted = Version {
            major,
            minor,
            revision,
            build: 0,
        };
        match rules.downgrade {
            Downgrade::Allowed => self,
            Downgrade::ByVersion => Self {
                version: self.version.max(Some(noted)),
                ..self
            },
            Downgrade::BySecurityCounter => Self {
                counter: self.counter.max(counter),
                ..self
            },
        }
    }

    /// Whether an image of this version is too old. Its security counter is known only after the whole image was
    /// received.
    pub fn refuses(&self, version: &Version) -> bool {
        let release = |version: &Version| (version.major, version.minor, version.revision);
        self.version.is_some_and(|floor| {
            let (offered, floor) = (release(version), release(&floor));
            offered < floor || (self.is_above_version && offered == floor)
        })
    }

    /// Whether this image is too old.
    pub fn refuses_image(&self, info: &ImageInfo) -> bool {
        // No counter is lower than any counter.
        self.refuses(&info.header.version) || info.security_counter < self.counter
    }
}

/// Why an image that is being received can never run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Its header shows it.
    Header(HeaderError),
    /// Its version is below the [`OldestAccepted`].
    Older(Version),
    /// It is a packed update too large for the slot.
    NoRoom,
}

impl Text for Unfit {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::Header(error) => error.put(line),
            Self::Older(version) => {
                text!("{} is older than the oldest image this device accepts", version).put(line)
            }
            Self::NoRoom => super::TransferError::NoRoom.put(line),
        }
    }
}

bledfu_text::display!(Unfit);

impl<A: Areas, C: Crypto> Upload<'_, A, C> {
    /// Checks the first bytes of an image: whether it is for another slot, or of a kind that this device never runs.
    /// That is worth reporting before the rest is sent; whether it is an image at all is decided at its end.
    ///
    /// # Errors
    /// The first broken rule that these bytes show.
    pub fn judge(&self, start: &ImageStart) -> Result<(), Unfit> {
        if let Ok(header) = start.header() {
            if self.setup.floor.refuses(&header.version) {
                return Err(Unfit::Older(header.version));
            }
        }
        let slot_size = self.setup.layout.secondary().slot_size;
        match start.check(slot_size, self.setup.image_policy.address) {
            Err(
                reason @ (HeaderError::Encrypted
                | HeaderError::Compressed
                | HeaderError::NotBootable
                | HeaderError::RamLoad
                | HeaderError::WrongSlot { .. }
                | HeaderError::WrongAddress { .. }),
            ) => self.judge_packed(start, Unfit::Header(reason)),
            _ => Ok(()),
        }
    }

    /// [`Upload::judge`] for the slot's current content.
    ///
    /// # Errors
    /// Those of [`Upload::judge`].
    pub fn judge_received(&self) -> Result<(), Unfit> {
        self.judge(self.payload.digest().start())?;
        match self.is_misplaced() {
            true => Err(Unfit::NoRoom),
            false => Ok(()),
        }
    }
}
