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
//! 3. journal: progress, after a sector's pages were read back;
//! 4. journal: the version that is about to be staged;
//! 5. slot: the request, which is the magic; only with a [`Slot<Verified>`](bledfu_slot::Slot);
//! 6. journal: session closed.
//!
//! A transfer belongs to the [`Protocol`] that began it. The other protocol may begin its own, which drops this one,
//! after [`TAKEOVER_MS`] without data for it or after its link is gone; until then it is refused. Within one protocol
//! the newest transfer wins.

mod catch_up;
mod error;
mod images;
mod kept_copy;
mod obstacles;
mod oldest;
mod pace;
#[cfg(not(feature = "packed"))]
#[path = "upload/no_packing.rs"]
mod packing;
#[cfg(feature = "packed")]
mod packing;
mod running;
mod session;
mod staging;

use bledfu_text::{text, words, Words};
use catch_up::Recorded;
pub use error::{Obstacle, TransferError};
pub use images::Present;
use kept_copy::KeptCopy;
pub use oldest::{OldestAccepted, Unfit};
use pace::Pace;
use packing::Packing;
pub(crate) use packing::IS_ON as EXPANDS;
pub use packing::{UpdateMemory, Workspace};
pub use running::{digest_prefix, Running};

use crate::doors::{Beginning, Doors, Guard};
use crate::event::{Admission, Event, Events, Incoming};
use crate::note;
use crate::payload::Image;
use bledfu_slot::areas::Areas;
use bledfu_slot::crc32::{crc32, Crc32};
use bledfu_slot::decide::{outlook_by, Outlook, Rules};
use bledfu_slot::journal::{Journal, JournalError, Memory, Progress, Versions};
use bledfu_slot::layout::Layout;
use bledfu_slot::retry::Retry;
use bledfu_slot::trailer;
use bledfu_slot::verify::{Crypto, ImagePolicy, Key, Signature};
use bledfu_slot::writer::{Erase, SlotWriter, WriteError};
use core::fmt;
use embedded_storage::nor_flash::ErrorType;

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
    /// Asked before an image is received, and before the first byte of flash is touched.
    pub admit: fn(Incoming) -> Admission,
    /// What strangers may do.
    pub doors: Doors,
    /// The oldest image that may be installed, where the product is stricter than the boot stage.
    pub floor: OldestAccepted,
    /// Nothing is staged if its firmware version cannot be recorded in the journal. For products that build the same
    /// [`Running::fw_version`] into every image: there the journal alone tells which packages are older.
    pub must_keep_version: bool,
}

/// What became of a packed update that a peer asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its image is being made. With true the peer may be told that it will be staged: nothing but broken flash can stop it
    /// any more, and no power cut.
    Pending(bool),
    /// Its image is staged.
    Staged,
    /// Its image cannot be made.
    Failed(TransferError),
}

/// The error of the secondary slot's flash.
type SecondaryError<A> = <<A as Areas>::Secondary as ErrorType>::Error;

/// The flash types of a device that the upload uses.
type Flash<'a, F> = Retry<&'a mut F>;

/// The upload state machine. It owns the partitions, and the service owns it.
///
/// In this order, which is the smallest code: what is small and often used comes first.
#[repr(C)]
pub struct Upload<'k, A: Areas, C: Crypto> {
    /// When data for the transfer last arrived on the current link.
    fed_ms: Option<u64>,
    state: State,
    crc: Crc32,
    committed_crc: Crc32,
    /// At the start of the open object.
    marked_crc: Crc32,
    /// The slot must not be cleared: the journal has a session whose bytes are in it, even if RAM has forgotten it, or
    /// an update waits for the boot stage.
    slot_kept: bool,
    /// The journal failed to store a record: nothing more is written to it.
    is_journal_off: bool,
    /// An erase of the journal in idle time failed.
    is_unprepared: bool,
    /// Bytes of the slot that are hashed before the next frame is handled.
    owed: u32,
    /// What the journal recorded is not what the slot held.
    has_begun_anew: bool,
    /// The sectors rolled back, which will be erased once more, are not counted yet.
    is_rewound: bool,
    kept_copy: KeptCopy,
    /// What the journal recorded, until the slot is read as far as that.
    recorded: Option<Recorded>,
    /// How quickly the slot's flash erases.
    pub(crate) pace: Pace,
    journal_memory: Memory,
    /// What strangers did, and whether the peer is one.
    pub(crate) guard: Guard,
    /// Events for the product.
    pub(crate) events: Events,
    areas: A,
    crypto: C,
    setup: Setup<'k>,
    payload: Image<C::Sha256>,
    packing: Packing<'k>,
}

impl<'k, A: Areas, C: Crypto> Upload<'k, A, C> {
    /// An upload that has not read any flash yet; [`Upload::open`] follows. `workspace` is a `&mut` [`UpdateMemory`].
    pub fn new(areas: A, crypto: C, mut setup: Setup<'k>, workspace: Workspace<'k>) -> Self {
        setup.floor = setup.floor.raised(&setup.rules);
        if let Some(evidence) = setup.rules.evidence {
            setup.doors.take_backs = setup.doors.take_backs.max(evidence.taken_back);
        }
        let payload = Image::new(setup.layout, crypto.sha256());
        // Reads no flash: a device has its state on the stack twice while it is built, and nothing may go deep below that.
        Self {
            areas,
            crypto,
            setup,
            payload,
            packing: Packing::new(workspace),
            crc: crc32(),
            committed_crc: crc32(),
            marked_crc: crc32(),
            state: State::Idle,
            fed_ms: None,
            // Until it is known.
            slot_kept: true,
            is_journal_off: false,
            is_unprepared: false,
            journal_memory: Memory::default(),
            is_rewound: false,
            owed: 0,
            has_begun_anew: false,
            recorded: None,
            kept_copy: KeptCopy::Unknown,
            pace: Pace::default(),
            guard: Guard::default(),
            events: Events::default(),
        }
    }

    fn primary(&mut self) -> Flash<'_, A::Primary> {
        Retry(self.areas.all().primary)
    }

    fn secondary(&mut self) -> Flash<'_, A::Secondary> {
        Retry(self.areas.all().secondary)
    }

    fn journal(&mut self) -> Journal<Flash<'_, A::Journal>, &mut Memory> {
        let flash = Retry(self.areas.all().journal);
        Journal::with(flash, &mut self.journal_memory).off_if(self.is_journal_off)
    }

    /// Looks whether the next boot needs the slot, and reads the journal once, so that a journal that cannot be used is known at
    /// the start.
    #[inline(never)]
    pub fn open(&mut self) {
        self.slot_kept = self.outlook().needs_secondary();
        if let Err(error) = self.journal().open() {
            self.journal_failed(error, words!("the journal cannot be read"));
        }
    }

    /// Handles a missing record. A failure to write is logged once: from then on the journal is off. A flash that does
    /// not respond may do so again later.
    fn journal_failed(&mut self, error: JournalError, consequence: Words) {
        if error != JournalError::Off {
            note::warn(&text!("{}: {}", consequence, error));
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
                note::warn(&text!("installed versions are not known: {}", error));
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
            Err(error) => note::error(&text!("the image could not be confirmed: {}", error)),
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

    /// An update is staged: only a reset can follow.
    pub fn is_staged(&self) -> bool {
        self.state == State::Staged
    }

    /// The layout of the slots.
    pub fn layout(&self) -> &Layout {
        &self.setup.layout
    }

    /// Bytes received, and their CRC-32, which is maintained for Secure DFU only.
    pub fn progress(&self) -> Progress {
        Progress {
            offset: self.packing.size_if_past().unwrap_or(self.payload.received()),
            check: self.crc.clone().finalize(),
        }
    }

    /// What the journal records about the committed bytes. Secure DFU needs their CRC-32 anyway. For SMP it is the first
    /// bytes of their SHA-256: a CRC over every byte would take more processor time than flash and a fast link leave. `None`
    /// while the hash has not come so far.
    fn record(&self) -> Option<Progress> {
        let progress = self.progress();
        if self.owner() != Some(Protocol::Smp) || progress.offset == 0 {
            return Some(progress);
        }
        (!self.is_behind()).then(|| Progress {
            check: digest_check(&self.file_digest()),
            ..progress
        })
    }

    fn keep_progress(&mut self, session: u32, consequence: Words) {
        // Until the hash has caught up the earlier record stays, which is true as well.
        let Some(record) = self.record() else {
            return;
        };
        if let Err(error) = self.journal().progress(session, record) {
            self.journal_failed(error, consequence);
        }
    }

    /// Received bytes that a lost link or a reset does not take back: whole sectors.
    pub fn committed(&self) -> u32 {
        self.packing.size_if_past().unwrap_or(self.payload.committed())
    }

    /// Received bytes of closed objects: where the open object, or the next one, begins.
    pub fn closed(&self) -> u32 {
        self.packing.size_if_past().unwrap_or(self.payload.marked())
    }

    /// Bytes of the image in the slot. If the payload is the image itself, this equals the bytes received.
    pub fn image_bytes(&self) -> u32 {
        self.payload.image_bytes()
    }

    /// Opens a session for a file of `size` bytes (at most [`Upload::limit`]); `init` is what the journal stores to
    /// continue it after a reset, 1 to [`MAX_SESSION`](bledfu_slot::journal::MAX_SESSION) bytes.
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
        self.guard.begin(Beginning::Upload, now_ms);
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
            self.journal_failed(error, words!("this transfer will not survive a reset"));
        }
        self.forget_intent();
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
        self.begin_packing(size);
        self.crc = crc32();
        self.committed_crc = crc32();
        self.marked_crc = crc32();
        self.recorded = None;
    }

    /// Forgets the image in RAM; the journal keeps its session until another one begins or this one is closed.
    pub fn drop_progress(&mut self) {
        if self.state != State::Staged && !self.is_promised() {
            self.state = State::Idle;
            self.restart(0);
        }
    }

    /// Makes room for the next `length` bytes: erases what is not erased yet.
    ///
    /// # Errors
    /// [`TransferError::NotReceiving`], or [`TransferError::Write`] when the flash fails.
    pub fn prepare(&mut self, length: u32) -> Result<(), TransferError> {
        self.prepare_by(length, Erase::Sectors)
    }

    /// The same for an object that begins now and waits for nothing but this: a flash that is quick enough erases whole
    /// blocks.
    ///
    /// # Errors
    /// As [`Upload::prepare`].
    pub fn prepare_object(&mut self, length: u32, now_ms: u64) -> Result<(), TransferError> {
        let _ = self.payload.writer().take_erased();
        let erase = self.pace.erase(length);
        let prepared = self.prepare_by(length, erase);
        self.pace.began(now_ms, self.payload.writer().take_erased());
        prepared
    }

    #[inline(never)]
    fn prepare_by(&mut self, length: u32, erase: Erase) -> Result<(), TransferError> {
        self.receiving()?;
        self.prepare_places(length, erase).map_err(|error| {
            note::error(&error);
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
        matches!(self.state, State::Receiving(transfer) if self.committed() == transfer.size)
    }

    /// Bytes after the last received one that are already erased, or need no erase.
    pub fn erased_ahead(&self) -> u32 {
        self.payload.erased_ahead()
    }

    /// SHA-256 of the whole file; `None` if its bytes cannot be read, or are not those that the journal recorded.
    pub fn whole_digest(&mut self) -> Option<[u8; 32]> {
        self.catch_up_all().ok()?;
        Some(self.file_digest())
    }

    /// SHA-256 of the file, as far as it was read back from the slot.
    fn file_digest(&self) -> [u8; 32] {
        let digest = self.packing.sha256_if_past();
        digest.unwrap_or_else(|| self.payload.digest().file_digest())
    }

    /// Takes the next bytes of the image, all of them or none.
    ///
    /// # Errors
    /// As for [`Upload::prepare`]; the object must then be sent again.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.receiving()?;
        let (head, rest) = self.split_head(bytes);
        if !head.is_empty() {
            self.write_part(head)?;
            self.choose_place();
        }
        self.write_part(rest)
    }

    fn write_part(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
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
        self.note_file();
        self.keep_progress(session, words!("a reset would lose this object"));
        if self.owner() == Some(Protocol::Smp) {
            self.catch_up_beside(self.sector_size());
        }
        let received = self.progress().offset;
        self.events.push(Event::Progress {
            image,
            received,
            size,
        });
        Ok(())
    }

    /// Takes the next bytes of an object that ends at image offset `end`, all of them or none, and commits at the end of
    /// every sector but the object's last one: a lost link must not leave an object that is complete and still open,
    /// which clients treat differently.
    ///
    /// # Errors
    /// As for [`Upload::prepare`]; the object must then be sent again.
    pub fn write_object(&mut self, bytes: &[u8], end: u32) -> Result<(), TransferError> {
        let sector = self.sector_size();
        let room = sector - self.payload.received() % sector;
        let Some((now, later)) = bytes.split_at_checked(room as usize) else {
            return self.write(bytes);
        };
        let mut done = self.write(now);
        if done.is_ok() && self.payload.received() < end {
            done = self.commit();
        }
        // Counted even if the object is lost: offsets stay equal to those of the peer.
        let behind = self.write(later);
        done.and(behind)
    }

    /// Makes room in the journal for the progress of the next `length` bytes, so that recording it needs no erase while
    /// they arrive. A failure shows when there is something to record.
    pub fn reserve_records(&mut self, length: u32) {
        let count = length.div_ceil(self.sector_size());
        let _ = self.journal().make_room(count);
    }

    /// Does one erase of the journal that a transfer would wait for; false if none is left, or if one has failed: then the
    /// next record tries again.
    pub fn prepare_records(&mut self) -> bool {
        if self.is_unprepared {
            return false;
        }
        let prepared = self.journal().prepare();
        self.is_unprepared = prepared.is_err();
        prepared.unwrap_or(false)
    }

    /// Closes the object: the next one begins behind the committed bytes.
    pub fn close_object(&mut self) {
        let length = self.payload.committed().saturating_sub(self.payload.marked());
        self.catch_up_beside(length);
        self.payload.writer().mark();
        self.marked_crc = self.committed_crc.clone();
    }

    /// Rolls back to the last [`Upload::commit`].
    pub fn rewind(&mut self) {
        self.is_rewound |= self.payload.received() != self.payload.committed();
        self.payload.writer().rewind();
        self.crc = self.committed_crc.clone();
        self.reconsider_place();
    }

    /// Rolls back to the end of the last closed object.
    pub fn rewind_object(&mut self) {
        if self.payload.committed() != self.payload.marked() {
            self.is_rewound = true;
            self.payload.writer().rewind_to_mark();
            self.committed_crc = self.marked_crc.clone();
            self.crc = self.committed_crc.clone();
            // The sectors of the object will be erased: what the journal recorded about them must not outlive them.
            if let Ok(Transfer { session, .. }) = self.receiving() {
                self.keep_progress(session, words!("a reset would lose this transfer"));
            }
        }
        self.rewind();
    }

    /// Does one erase in idle time; false when there is nothing to erase. During a transfer it erases the sectors of
    /// the next `ahead` bytes; without one the whole slot, if nobody needs its content: in blocks, or sector by sector
    /// while a peer is connected (`linked`) that may send a request at any moment. The page of the journal that a transfer
    /// will need comes first.
    pub fn idle(&mut self, ahead: u32, linked: bool) -> bool {
        if !linked {
            self.forget_seen();
        }
        if let Some(has_worked) = self.packing_step() {
            return has_worked;
        }
        let block = if linked { self.sector_size() } else { CLEAR_BLOCK };
        let state = self.state;
        let may_clear = self.setup.running.confirmed && !self.slot_kept;
        let begins = matches!(state, State::Receiving(_)) && self.payload.committed() == 0;
        if begins && ahead > 0 && self.prepare_records() {
            return true;
        }
        // Frames of SMP may come at any moment, and wait then.
        let erase = match self.owner() {
            Some(Protocol::SecureDfu) => self.pace.erase(ahead),
            _ => Erase::Sectors,
        };
        let (mut slot, writer) = self.slot_and_writer();
        let step = match state {
            State::Receiving(_) => writer.erase_ahead(&mut slot, ahead, erase),
            State::Idle if may_clear => writer.clear_step(&mut slot, block),
            State::Idle | State::Staged => Ok(false),
        };
        // A sector that cannot be erased now is tried again, and refused, when it is needed.
        let has_erased = step.unwrap_or_else(|error| {
            note::warn(&text!("erasing ahead: {}", error));
            false
        });
        has_erased || self.catch_up_in_idle() || self.keep_copy()
    }

    fn receiving(&self) -> Result<Transfer, TransferError> {
        match self.state {
            State::Receiving(transfer) => Ok(transfer),
            State::Idle | State::Staged => Err(TransferError::NotReceiving),
        }
    }
}

/// The first bytes of a digest, as the journal keeps them.
fn digest_check(digest: &[u8; 32]) -> u32 {
    let [a, b, c, d, ..] = *digest;
    u32::from_le_bytes([a, b, c, d])
}

fn write_failed<E: fmt::Debug>(error: WriteError<E>) -> TransferError {
    note::error(&error);
    TransferError::Write
}
