// SPDX-License-Identifier: Apache-2.0
//! One image on its way into the secondary slot, independent of the protocol.
//!
//! ```text
//!            begin                    commit …                      finish
//!   Idle ─────────────► Receiving ──────────────► Receiving ─────────────────► Staged ──► reset
//!    ▲                    │    ▲                                       │
//!    │                    └────┘ prepare, write, rewind                │ image refused
//!    └─────────────────────────────────────────────────────────────────┘
//! ```
//! The order of writes makes a power cut harmless at any moment:
//! 1. journal: progress 0 of the new session, then the session itself (only after its init packet was accepted);
//! 2. slot: the old trailer is erased, then sectors, then pages;
//! 3. journal: progress, after the object's pages were read back;
//! 4. journal: the version that is about to be staged;
//! 5. slot: the request, which is the magic; only with a [`Slot<Verified>`](bledfu_slot::Slot);
//! 6. journal: session closed.
//!
//! A transfer belongs to the [`Protocol`] that began it. The other protocol may begin its own, which drops this one,
//! after [`TAKEOVER_MS`] without data for it or after its link is gone; until then it is refused. Within one protocol
//! the newest transfer wins.

mod error;
mod running;
mod staging;

pub use error::{Obstacle, TransferError};
pub use running::{digest_prefix, Running};

use crate::doors::{Doors, Guard};
use crate::event::{Event, Events, Incoming};
use crate::note;
use crate::payload::Image;
use bledfu_slot::areas::Areas;
use bledfu_slot::crc32::{crc32, Crc32};
use bledfu_slot::decide::{self, outlook_by, Downgrade, Outlook, Rules};
use bledfu_slot::flash::Aligned;
use bledfu_slot::header::{HeaderError, ImageStart};
use bledfu_slot::journal::{Journal, JournalError, Progress, Versions, MAX_SESSION};
use bledfu_slot::layout::Layout;
use bledfu_slot::read_bytes;
use bledfu_slot::retry::Retry;
use bledfu_slot::trailer;
use bledfu_slot::verify::{read_info, Crypto, ImageInfo, ImagePolicy, Key, Sha256, Signature};
use bledfu_slot::writer::{SlotWriter, WriteError};
use bledfu_slot::Version;
use core::fmt;
use embedded_storage::nor_flash::{ErrorType, ReadNorFlash};

/// A transfer without data for this long may be taken over by the other protocol.
pub const TAKEOVER_MS: u64 = 10_000;

/// The protocol that sends an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Nordic's Secure DFU.
    SecureDfu,
    /// SMP (mcumgr).
    Smp,
}

/// Largest erase in bytes while nobody is connected.
const CLEAR_BLOCK: u32 = 64 * 1024;

/// What the received file must match.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'e> {
    /// SHA-256 of the whole file; `None` when the protocol announces none.
    pub sha256: Option<[u8; 32]>,
    /// A signature over the whole file, and the keys that may have made it.
    pub file_signature: Option<(Signature, &'e [Key])>,
    /// The package asks for a check of the file that this device does not support.
    pub file_validation_unknown: bool,
    /// The version number, for the journal.
    pub fw_version: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Receiving(Transfer),
    Staged,
}

/// A transfer in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transfer {
    owner: Protocol,
    /// Number of the image.
    image: u8,
    /// How progress records in the journal refer to it.
    session: u32,
    /// Bytes to receive.
    size: u32,
}

/// The oldest image that is accepted; [`Upload::new`] raises it to the boot stage's minimum ([`Setup::rules`]). An
/// older image is refused here with a code that the peer understands, not only by the boot stage after a reset.
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
    fn raised(self, rules: &Rules) -> Self {
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
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(error) => error.fmt(f),
            Self::Older(version) => write!(f, "{version} is older than the oldest image this device accepts"),
        }
    }
}

/// What a product configures for an upload.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'k> {
    /// The layout of the slots.
    pub layout: Layout,
    /// Which images may run.
    pub image_policy: ImagePolicy<'k>,
    /// What the boot stage considers beside the trailers; [`Rules::default`] for one without a trust area.
    pub rules: Rules,
    /// The running image.
    pub running: Running,
    /// Asked before an image is received; false refuses it for now, before the first byte of flash is touched.
    pub admit: fn(Incoming) -> bool,
    /// What strangers may do.
    pub doors: Doors,
    /// The oldest image that may be installed, where the product is stricter than the boot stage.
    pub floor: OldestAccepted,
    /// Nothing is staged if its firmware version cannot be recorded in the journal. For products that build the same
    /// [`Running::fw_version`] into every image: there the journal alone tells which packages are older.
    pub must_keep_version: bool,
}

/// An image that a peer need not send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// CRC-32 of the file.
    pub crc: u32,
    /// It waits for the next boot; otherwise it is running.
    pub is_staged: bool,
}

/// SHA-256 and CRC-32 of `length` bytes from `start`; `None` if they cannot be read.
fn sum<F: ReadNorFlash, H: Sha256>(
    flash: &mut F,
    (start, length): (u32, u32),
    mut hash: H,
) -> Option<([u8; 32], u32)> {
    let mut crc = crc32();
    let mut chunk = Aligned([0; 256]);
    let mut at = 0;
    while at < length {
        let part = chunk.0.get_mut(..(length - at).min(256) as usize)?;
        read_bytes(flash, start.checked_add(at)?, part).ok()?;
        hash.update(part);
        crc.update(part);
        at += part.len() as u32;
    }
    Some((hash.finish(), crc.finalize()))
}

/// The error of the secondary slot's flash.
type SecondaryError<A> = <<A as Areas>::Secondary as ErrorType>::Error;

/// The flash types of a device that the upload uses.
type Flash<'a, F> = Retry<&'a mut F>;

/// The upload state machine. It owns the partitions, and the service owns it.
pub struct Upload<'k, A: Areas, C: Crypto> {
    areas: A,
    crypto: C,
    setup: Setup<'k>,
    payload: Image<C::Sha256>,
    crc: Crc32,
    committed_crc: Crc32,
    state: State,
    /// When data for the transfer last arrived on the current link.
    fed_ms: Option<u64>,
    /// The slot must not be cleared: the journal has a session whose bytes are in it, even if RAM has forgotten it, or
    /// an update waits for the boot stage.
    slot_kept: bool,
    /// The journal failed to store a record: nothing more is written to it.
    is_journal_off: bool,
    /// The sectors rolled back, which will be erased once more, are not counted yet.
    is_rewound: bool,
    /// What strangers did, and whether the peer is one.
    pub(crate) guard: Guard,
    /// Events for the product.
    pub(crate) events: Events,
}

impl<'k, A: Areas, C: Crypto> Upload<'k, A, C> {
    /// An upload that has not read the journal yet.
    pub fn new(areas: A, crypto: C, mut setup: Setup<'k>) -> Self {
        setup.floor = setup.floor.raised(&setup.rules);
        if let Some(evidence) = setup.rules.evidence {
            setup.doors.take_backs = setup.doors.take_backs.max(evidence.taken_back);
        }
        let payload = Image::new(setup.layout, crypto.sha256());
        let mut upload = Self {
            areas,
            crypto,
            setup,
            payload,
            crc: crc32(),
            committed_crc: crc32(),
            state: State::Idle,
            fed_ms: None,
            slot_kept: false,
            is_journal_off: false,
            is_rewound: false,
            guard: Guard::default(),
            events: Events::default(),
        };
        upload.slot_kept = upload.outlook().needs_secondary();
        upload
    }

    fn primary(&mut self) -> Flash<'_, A::Primary> {
        Retry(self.areas.all().primary)
    }

    fn secondary(&mut self) -> Flash<'_, A::Secondary> {
        Retry(self.areas.all().secondary)
    }

    fn journal(&mut self) -> Journal<Flash<'_, A::Journal>> {
        let is_off = self.is_journal_off;
        Journal::new(Retry(self.areas.all().journal)).off_if(is_off)
    }

    /// Repairs the journal; before the first access to it.
    #[inline(never)]
    pub fn open_journal(&mut self) {
        if let Err(error) = self.journal().open() {
            self.journal_failed(error, "the journal may be damaged");
        }
    }

    /// Handles a missing record. A failure to write is logged once: from then on the journal is off. A flash that does
    /// not respond may do so again later.
    fn journal_failed(&mut self, error: JournalError, consequence: &str) {
        if error != JournalError::Off {
            note::warn(format_args!("{consequence}: {error}"));
        }
        self.is_journal_off = !matches!(error, JournalError::Flash(_));
    }

    fn slot_and_writer(&mut self) -> (Flash<'_, A::Secondary>, &mut SlotWriter<C::Sha256>) {
        (Retry(self.areas.all().secondary), self.payload.writer())
    }

    /// The partitions, for a test or a tool that inspects them.
    pub fn areas(&mut self) -> &mut A {
        &mut self.areas
    }

    /// Length in bytes of the longest file that can be received.
    pub fn limit(&self) -> u32 {
        self.setup.layout.max_image_size()
    }

    /// The erase unit of the slot in bytes: objects begin at a multiple of it.
    pub fn sector_size(&self) -> u32 {
        self.setup.layout.secondary().sector_size
    }

    /// Hashes and verifies.
    pub fn crypto(&self) -> &C {
        &self.crypto
    }

    /// The running firmware's version: the one built in, or that of the package that brought it, if the journal knows a
    /// higher one.
    pub fn running_version(&mut self) -> u32 {
        let known = self
            .versions()
            .and_then(|versions| versions.of(&self.setup.running.digest));
        // An attacker can erase and rewrite an external journal, so the built-in version is the minimum.
        known.unwrap_or_default().max(self.setup.running.fw_version)
    }

    fn versions(&mut self) -> Option<Versions> {
        match self.journal().versions() {
            Ok(versions) => versions,
            Err(error) => {
                note::warn(format_args!("installed versions are not known: {error}"));
                None
            }
        }
    }

    /// The running image.
    pub fn running(&self) -> &Running {
        &self.setup.running
    }

    /// Confirms the running image and tells the product. After that the secondary slot is free for the next update.
    ///
    /// # Errors
    /// Errors of the primary slot's trailer and flash.
    #[inline(never)]
    pub fn confirm(&mut self) -> Result<(), trailer::TrailerError<<A::Primary as ErrorType>::Error>> {
        let layout = self.setup.layout;
        let confirmed = trailer::confirm(&mut self.primary(), &layout);
        match &confirmed {
            Ok(()) => {
                if !core::mem::replace(&mut self.setup.running.confirmed, true) {
                    self.guard.fill();
                }
            }
            Err(error) => note::error(format_args!("the image could not be confirmed: {error}")),
        }
        let done = confirmed.is_ok();
        self.events.push(Event::Confirmed { done });
        confirmed
    }

    /// What the next boot will do with the current slots.
    #[inline(never)]
    pub fn outlook(&mut self) -> Outlook {
        let areas = self.areas.all();
        outlook_by(
            &self.setup.rules,
            &self.setup.layout,
            &mut Retry(areas.primary),
            &mut Retry(areas.secondary),
            &mut Retry(areas.spare),
        )
    }

    /// Why `protocol` may not touch the secondary slot now, if there is a reason. A request that the boot stage can
    /// never carry out is not a reason: it is worthless.
    #[inline(never)]
    pub fn slot_obstacle(&mut self, protocol: Protocol, now_ms: u64) -> Option<Obstacle> {
        if self.is_staged() {
            return Some(Obstacle::Staged);
        }
        match self.outlook() {
            Outlook::Revert => Some(Obstacle::OnTrial),
            Outlook::Install(_) => Some(Obstacle::Staged),
            _ if !self.is_free_for(protocol, now_ms) => Some(Obstacle::OtherTransfer),
            Outlook::Nothing | Outlook::Impossible(_) | Outlook::Unknown(_) => {
                too_soon(self.guard.wait_to_begin(&self.setup.doors, now_ms))
            }
        }
    }

    /// What the product allows strangers.
    pub fn doors(&self) -> &Doors {
        &self.setup.doors
    }

    /// Whether the peer whose frame is being handled has not paired.
    pub fn is_for_stranger(&self) -> bool {
        self.guard.is_stranger()
    }

    /// A person at the device wants an update: strangers no longer have to wait.
    pub fn allow_updates(&mut self) {
        self.guard.allow();
    }

    /// Why the peer may not reset the device now, if there is a reason: a stranger's reset would take back an image on
    /// trial, or refill the buckets.
    ///
    /// # Errors
    /// A sentence for the log.
    #[inline(never)]
    pub fn may_reset(&mut self, now_ms: u64) -> Result<(), Obstacle> {
        if !self.guard.is_stranger() || self.is_staged() || matches!(self.outlook(), Outlook::Install(_)) {
            return Ok(());
        }
        if !self.setup.running.confirmed {
            return Err(Obstacle::OnTrial);
        }
        too_soon(self.guard.wait_to_reset(now_ms)).map_or(Ok(()), Err)
    }

    /// Counts an object that starts where another one was rolled back: its sectors are erased once more.
    ///
    /// # Errors
    /// [`Obstacle::TooSoon`]: a stranger did this too often.
    pub fn repeat(&mut self, now_ms: u64) -> Result<(), Obstacle> {
        if !self.is_rewound {
            return Ok(());
        }
        too_soon(self.guard.wait_to_repeat(now_ms)).map_or(Ok(()), Err)?;
        self.guard.repeat(now_ms);
        self.is_rewound = false;
        Ok(())
    }

    /// Why `protocol` can receive no new image now, if there is a reason.
    #[inline(never)]
    pub fn obstacle(&mut self, protocol: Protocol, now_ms: u64) -> Option<Obstacle> {
        let obstacle = self.slot_obstacle(protocol, now_ms);
        if obstacle.is_some() {
            return obstacle;
        }
        self.lasting_obstacle()
    }

    /// Why no image can ever be installed over the running one, if there is a reason.
    #[inline(never)]
    pub fn lasting_obstacle(&mut self) -> Option<Obstacle> {
        let layout = self.setup.layout;
        // An unreadable primary slot is for the boot stage to judge.
        let reason = decide::obstacle(&layout, &mut self.primary()).ok().flatten();
        reason.map(Obstacle::Never)
    }

    /// Whether the product accepts this image now.
    pub fn admits(&self, incoming: Incoming) -> bool {
        let admitted = (self.setup.admit)(incoming);
        if !admitted {
            note::warn(format_args!("refused: the product takes no update now"));
        }
        admitted
    }

    /// Whether a file of `size` bytes with this SHA-256 is running already, or waits for the next boot.
    #[inline(never)]
    pub fn find(&mut self, size: u32, sha256: &[u8; 32]) -> Option<Present> {
        let layout = self.setup.layout;
        let running = read_info(&mut self.primary(), 0, layout.primary().slot_size);
        if matches!(running, Ok(Some(info)) if info.total_size == size) {
            let hash = self.crypto.sha256();
            let (digest, crc) = sum(&mut self.primary(), (0, size), hash)?;
            if digest == *sha256 {
                let is_staged = false;
                return Some(Present { crc, is_staged });
            }
        }
        let waits = self.is_staged() || matches!(self.outlook(), Outlook::Install(_));
        if !waits || size > self.limit() {
            return None;
        }
        let hash = self.crypto.sha256();
        let (digest, crc) = sum(&mut self.secondary(), (layout.upload_offset(), size), hash)?;
        let is_staged = true;
        (digest == *sha256).then_some(Present { crc, is_staged })
    }

    /// An update is staged: only a reset can follow.
    pub fn is_staged(&self) -> bool {
        self.state == State::Staged
    }

    /// Whether `protocol` may begin a transfer at `now_ms`: the other one has none, or has received no data for it for
    /// too long.
    pub fn is_free_for(&self, protocol: Protocol, now_ms: u64) -> bool {
        let is_fed = self
            .fed_ms
            .is_some_and(|fed_ms| now_ms.saturating_sub(fed_ms) < TAKEOVER_MS);
        !is_fed || self.owner().is_none_or(|owner| owner == protocol) || self.is_complete()
    }

    /// Data for the transfer of `protocol` arrived.
    pub fn touch(&mut self, protocol: Protocol, now_ms: u64) {
        if self.owner() == Some(protocol) {
            self.fed_ms = Some(now_ms);
        }
    }

    /// The protocol of the current transfer.
    pub fn owner(&self) -> Option<Protocol> {
        match self.state {
            State::Receiving(transfer) => Some(transfer.owner),
            State::Idle | State::Staged => None,
        }
    }

    /// The link is gone: the next peer may begin, over either protocol.
    pub fn release(&mut self) {
        self.fed_ms = None;
    }

    /// The layout of the slots.
    pub fn layout(&self) -> &Layout {
        &self.setup.layout
    }

    /// What the image in the primary slot says about itself, unverified; `None` when there is none.
    #[inline(never)]
    pub fn primary_image(&mut self) -> Option<ImageInfo> {
        let size = self.setup.layout.primary().slot_size;
        read_info(&mut self.primary(), 0, size).ok().flatten()
    }

    /// What the image in the secondary slot says about itself, unverified; `None` when there is none. `outlook` is the
    /// result of [`Upload::outlook`].
    ///
    /// Swap using offset leaves the previous image at the start of the slot, and stores an update one sector after it.
    /// The previous image counts only while the device can still go back to it: later it cannot be requested, and a
    /// client that finds it in a list would not send it (Zephyr `boot_get_image_start_offset`).
    #[inline(never)]
    pub fn secondary_image(&mut self, outlook: Outlook) -> Option<ImageInfo> {
        let size = self.setup.layout.secondary().slot_size;
        let start = match outlook {
            Outlook::Revert => 0,
            _ => self.setup.layout.upload_offset(),
        };
        read_info(&mut self.secondary(), start, size).ok().flatten()
    }

    /// Bytes received, and their CRC-32, which is maintained for Secure DFU only.
    pub fn progress(&self) -> Progress {
        Progress {
            offset: self.payload.received(),
            check: self.crc.clone().finalize(),
        }
    }

    /// What the journal records about the committed bytes. Secure DFU needs their CRC-32 anyway. For SMP it is the first
    /// bytes of their SHA-256: a CRC over every byte would take more processor time than flash and a fast link leave.
    fn record(&self) -> Progress {
        let progress = self.progress();
        if self.owner() != Some(Protocol::Smp) || progress.offset == 0 {
            return progress;
        }
        let [a, b, c, d, ..] = self.file_digest();
        Progress {
            check: u32::from_le_bytes([a, b, c, d]),
            ..progress
        }
    }

    /// Received bytes that will not be rolled back: those of executed objects.
    pub fn committed(&self) -> u32 {
        self.payload.committed()
    }

    /// Bytes of the image in the slot. If the payload is the image itself, this equals the bytes received.
    pub fn image_bytes(&self) -> u32 {
        self.payload.image_bytes()
    }

    /// The session that the journal kept over the last reset; its init packet is copied to `init`, and its length is
    /// returned. The packet must be checked again before [`Upload::resume`]. `None` while the running image is on
    /// trial.
    #[inline(never)]
    pub fn stored_session(&mut self, init: &mut [u8; MAX_SESSION]) -> Option<(usize, Progress)> {
        // A cut between the request and the end of the session leaves the session of the very image that is now running
        // on trial. Continuing it would erase the image to go back to.
        if !self.setup.running.confirmed {
            return None;
        }
        // Nor may it touch what the next boot installs.
        if self.outlook().needs_secondary() {
            return None;
        }
        if let Some(obstacle) = self.lasting_obstacle() {
            note::warn(format_args!("{obstacle}"));
            self.abandon_session();
            return None;
        }
        match self.journal().session(init) {
            Ok(session) => session,
            Err(error) => {
                note::warn(format_args!("no resume: {error}; the journal starts anew"));
                if let Err(error) = self.journal().reset() {
                    note::error(format_args!("the journal cannot be erased: {error}"));
                }
                None
            }
        }
    }

    /// Closes the session of the journal, which cannot be continued. The slot's content stays until the slot is needed.
    pub fn abandon_session(&mut self) {
        self.close();
        self.slot_kept = true;
    }

    /// Continues the journal's session: hashes what is in the slot and compares it with the journal. Returns the
    /// progress of the session; 0 when the slot does not hold what was recorded.
    #[inline(never)]
    pub fn resume(&mut self, owner: Protocol, init: &[u8], size: u32, stored: Progress) -> Progress {
        let session = bledfu_slot::journal::session_id(init);
        self.state = State::Receiving(Transfer {
            owner,
            image: 0,
            session,
            size,
        });
        self.slot_kept = true;
        self.crc = crc32();
        let crc = &mut self.crc;
        let has_crc = owner == Protocol::SecureDfu;
        let read = self.payload.writer().resume(
            &mut Retry(self.areas.all().secondary),
            size,
            stored.offset,
            self.crypto.sha256(),
            |bytes| {
                if has_crc {
                    crc.update(bytes);
                }
            },
        );
        if read.is_err() || self.record() != stored {
            note::warn(format_args!(
                "the slot does not hold the {} bytes that the journal recorded: starting over",
                stored.offset
            ));
            // Something else wrote to the slot, so there may be a trailer as well.
            self.payload.writer().forget_erased();
            self.restart(size);
        }
        self.committed_crc = self.crc.clone();
        self.progress()
    }

    /// Opens a session for a file of `size` bytes (at most [`Upload::limit`]); `init` is what the journal stores to
    /// continue it after a reset, 1 to [`MAX_SESSION`] bytes.
    ///
    /// # Errors
    /// [`TransferError::Write`] when it does not fit.
    #[inline(never)]
    pub fn begin(
        &mut self,
        owner: Protocol,
        now_ms: u64,
        init: &[u8],
        size: u32,
    ) -> Result<(), TransferError> {
        self.fed_ms = Some(now_ms);
        self.guard.begin(now_ms);
        self.is_rewound = false;
        self.end_trial();
        let session = bledfu_slot::journal::session_id(init);
        // Progress first: with the session first, a cut in between would combine the new session with the progress of
        // an older transfer of the same packet.
        let none = Progress {
            offset: 0,
            check: crc32().finalize(),
        };
        let journaled = self
            .journal()
            .progress(session, none)
            .and_then(|()| self.journal().begin(init));
        if let Err(error) = journaled {
            self.journal_failed(error, "this transfer will not survive a reset");
        }
        if size > self.limit() {
            return Err(TransferError::Write);
        }
        self.state = State::Receiving(Transfer {
            owner,
            image: 0,
            session,
            size,
        });
        self.slot_kept = true;
        self.restart(size);
        Ok(())
    }

    fn restart(&mut self, size: u32) {
        // The only possible error is an image that is too large, and both callers have checked that.
        let _ = self
            .payload
            .begin::<SecondaryError<A>>(size, self.crypto.sha256());
        self.crc = crc32();
        self.committed_crc = crc32();
    }

    /// Forgets the image in RAM; the journal keeps its session until another one begins or this one is closed.
    pub fn drop_progress(&mut self) {
        if self.state != State::Staged {
            self.state = State::Idle;
            self.restart(0);
        }
    }

    /// Makes room for the next `length` bytes: erases what is not erased yet.
    ///
    /// # Errors
    /// [`TransferError::NotReceiving`], or [`TransferError::Write`] when the flash fails.
    pub fn prepare(&mut self, length: u32) -> Result<(), TransferError> {
        self.receiving()?;
        let (mut slot, writer) = self.slot_and_writer();
        writer.prepare(&mut slot, length).map_err(|error| {
            note::error(format_args!("{error}"));
            TransferError::Erase
        })
    }

    /// For a protocol without objects: takes the next bytes of the image, erases what is not erased yet, and commits at
    /// the end of every sector and of the image.
    ///
    /// # Errors
    /// [`TransferError::Erase`] and [`TransferError::Write`] of the flash, also if there are more bytes than the image
    /// has. The caller must then drop the transfer.
    #[inline(never)]
    pub fn stream(&mut self, mut bytes: &[u8]) -> Result<(), TransferError> {
        let size = self.receiving()?.size;
        while !bytes.is_empty() {
            let position = self.payload.received();
            let sector = self.sector_size();
            let room = (sector - position % sector).min(size.saturating_sub(position));
            let (now, later) = bytes.split_at(bytes.len().min(room as usize));
            if now.is_empty() {
                return Err(TransferError::Write);
            }
            self.prepare(now.len() as u32)?;
            self.write(now)?;
            let position = self.payload.received();
            if position == size || position.is_multiple_of(sector) {
                self.commit()?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Everything was received and is in flash.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Receiving(transfer) if self.payload.committed() == transfer.size)
    }

    /// Bytes after the last received one that are already erased, or need no erase.
    pub fn erased_ahead(&self) -> u32 {
        self.payload.erased_ahead()
    }

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
            ) => Err(Unfit::Header(reason)),
            _ => Ok(()),
        }
    }

    /// [`Upload::judge`] for the slot's current content.
    ///
    /// # Errors
    /// Those of [`Upload::judge`].
    pub fn judge_received(&self) -> Result<(), Unfit> {
        self.judge(self.payload.digest().start())
    }

    /// SHA-256 of the file, as far as it was read back from the slot.
    pub fn file_digest(&self) -> [u8; 32] {
        self.payload.digest().file_digest()
    }

    /// Takes the next bytes of the image, all of them or none.
    ///
    /// # Errors
    /// As for [`Upload::prepare`]; the object must then be sent again.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.receiving()?;
        let before = self.payload.received();
        let (mut slot, writer) = self.slot_and_writer();
        let written = writer.accept(&mut slot, bytes).map_err(write_failed);
        if self.payload.received() != before && self.owner() == Some(Protocol::SecureDfu) {
            self.crc.update(bytes);
        }
        written
    }

    /// Makes all received bytes durable: programs the rest, reads it back, records it, and tells the product.
    ///
    /// # Errors
    /// As for [`Upload::prepare`]; the object must then be sent again.
    #[inline(never)]
    pub fn commit(&mut self) -> Result<(), TransferError> {
        let Transfer {
            image, session, size, ..
        } = self.receiving()?;
        let (mut slot, writer) = self.slot_and_writer();
        writer.flush(&mut slot).map_err(write_failed)?;
        writer.commit();
        self.is_rewound = false;
        self.committed_crc = self.crc.clone();
        let record = self.record();
        if let Err(error) = self.journal().progress(session, record) {
            self.journal_failed(error, "a reset would lose this object");
        }
        let received = record.offset;
        self.events.push(Event::Progress {
            image,
            received,
            size,
        });
        Ok(())
    }

    /// Rolls back to the last [`Upload::commit`].
    pub fn rewind(&mut self) {
        self.is_rewound |= self.payload.received() != self.payload.committed();
        self.payload.writer().rewind();
        self.crc = self.committed_crc.clone();
    }

    /// Does one erase in idle time; false when there is nothing to erase. During a transfer it erases the sectors of
    /// the next `ahead` bytes; without one the whole slot, if nobody needs its content: in blocks, or sector by sector
    /// while a peer is connected (`linked`) that may send a request at any moment.
    pub fn idle(&mut self, ahead: u32, linked: bool) -> bool {
        let block = if linked { self.sector_size() } else { CLEAR_BLOCK };
        let state = self.state;
        let may_clear = self.setup.running.confirmed && !self.slot_kept;
        let (mut slot, writer) = self.slot_and_writer();
        let step = match state {
            State::Receiving(_) => writer.erase_ahead(&mut slot, ahead),
            State::Idle if may_clear => writer.clear_step(&mut slot, block),
            State::Idle | State::Staged => Ok(false),
        };
        // A sector that cannot be erased now is tried again, and refused, when it is needed.
        step.unwrap_or_else(|error| {
            note::warn(format_args!("erasing ahead: {error}"));
            false
        })
    }

    fn receiving(&self) -> Result<Transfer, TransferError> {
        match self.state {
            State::Receiving(transfer) => Ok(transfer),
            State::Idle | State::Staged => Err(TransferError::NotReceiving),
        }
    }
}

/// The peer has to wait, unless the time is over.
fn too_soon(wait_ms: u64) -> Option<Obstacle> {
    (wait_ms > 0).then_some(Obstacle::TooSoon { wait_ms })
}

fn write_failed<E: fmt::Debug>(error: WriteError<E>) -> TransferError {
    note::error(format_args!("{error}"));
    TransferError::Write
}
