// SPDX-License-Identifier: Apache-2.0
//! One image on its way into the secondary slot, whatever protocol brings it.
//!
//! ```text
//!            begin                    commit …                      finish
//!   Idle ─────────────► Receiving ──────────────► Receiving ─────────────────► Staged ──► reset
//!    ▲                    │    ▲                                       │
//!    │                    └────┘ prepare, write, rewind                │ image refused
//!    └─────────────────────────────────────────────────────────────────┘
//! ```
//! Order of writes, which is what makes a cut at any moment harmless:
//! 1. journal: progress 0 of the new session, then the session itself (only after its init packet was accepted);
//! 2. slot: the old trailer is erased, then sectors, then pages;
//! 3. journal: progress, after the object's pages were read back;
//! 4. journal: which version is about to be staged;
//! 5. slot: the request, which is the magic; only with a [`Slot<Verified>`];
//! 6. journal: session closed.
//!
//! A transfer belongs to the [`Protocol`] that began it. The other one may begin its own, which drops this one, when nothing has
//! come for it in [`TAKEOVER_MS`], or when its link is gone; until then it is refused. In one protocol the newest wins.

use crate::note;
use bledfu_slot::crc32::{crc32, Crc32};
use bledfu_slot::journal::{Installed, Journal, Progress, Versions, MAX_SESSION};
use bledfu_slot::layout::Layout;
use bledfu_slot::persistent::Persistent;
use bledfu_slot::trailer::{self, Flag, Magic, SwapType, Trailer};
use bledfu_slot::verify::{
    read_info, Crypto, ImageInfo, ImagePolicy, PublicKey, Signature, SignatureCheck, Slot, Verified,
};
use bledfu_slot::writer::{SlotWriter, WriteError};
use core::fmt;
use embedded_storage::nor_flash::NorFlash;

/// A transfer for which nothing came for so long may be taken over by the other protocol.
pub const TAKEOVER_MS: u64 = 10_000;

/// Who brings an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Nordic's Secure DFU.
    SecureDfu,
    /// SMP (mcumgr).
    Smp,
}

/// Largest erase in bytes while nobody is connected.
const CLEAR_BLOCK: u32 = 64 * 1024;

/// The image that runs, as the application found it at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// First 8 bytes of its digest: by these the journal knows its version number.
    pub digest: [u8; 8],
    /// Its version number if the journal does not know it (programmed at the factory).
    pub fw_version: u32,
    /// It confirmed itself. While it has not, the secondary slot holds the image to go back to, and no update is
    /// taken.
    pub confirmed: bool,
}

/// Why an update could not be staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// Nothing is being received.
    NotReceiving,
    /// The bytes could not be written to the slot.
    Write,
    /// The slot could not be erased for them.
    Erase,
    /// What is in the slot has another SHA-256 than was announced.
    WrongHash,
    /// The signature over the file is of none of the package keys, or of a kind this device does not know.
    WrongFileSignature,
    /// It is no image this device may run: MCUboot header, TLVs, digest, or signature.
    NotAnImage,
    /// The trailer could not be written.
    NotMarked,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReceiving => "no transfer is open",
            Self::Write => "the object could not be written to the secondary slot; send it again",
            Self::Erase => "the secondary slot could not be erased for the next bytes; try again",
            Self::WrongHash => {
                "the received firmware is not the one the init packet announces (SHA-256 differs)"
            }
            Self::WrongFileSignature => "the firmware's boot validation signature is wrong",
            Self::NotAnImage => "the received firmware is not a signed image this device may run",
            Self::NotMarked => "the update could not be marked for installation",
        })
    }
}

impl core::error::Error for TransferError {}

/// What an announced image must turn out to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'e> {
    /// SHA-256 of the whole file; `None` when the protocol announces none.
    pub sha256: Option<[u8; 32]>,
    /// A signature over the whole file, and who may have made it.
    pub file_signature: Option<(Signature, &'e [PublicKey])>,
    /// The package asks for a check of the file that this device does not know.
    pub file_validation_unknown: bool,
    /// Its version number, for the journal.
    pub fw_version: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Receiving {
        owner: Protocol,
        session: u32,
        size: u32,
    },
    Staged,
}

/// The upload state machine. Owns the secondary slot and the journal; the worker owns it.
pub struct Upload<'k, S, J, C: Crypto> {
    secondary: Persistent<S>,
    journal: Journal<Persistent<J>>,
    crypto: C,
    layout: Layout,
    image_policy: ImagePolicy<'k>,
    running: Running,
    writer: SlotWriter<C::Sha256>,
    crc: Crc32,
    committed_crc: Crc32,
    state: State,
    /// When something came for the transfer, on the link that is up.
    fed_ms: Option<u64>,
    /// The slot is not to be cleared: the journal has a session whose bytes are in it, even if RAM has forgotten it, or
    /// an update waits for the boot stage.
    slot_kept: bool,
}

impl<'k, S: NorFlash, J: NorFlash, C: Crypto> Upload<'k, S, J, C> {
    /// An upload that has not looked at the journal yet.
    pub fn new(
        secondary: S,
        journal: J,
        crypto: C,
        layout: Layout,
        image_policy: ImagePolicy<'k>,
        running: Running,
    ) -> Self {
        let writer = SlotWriter::new(layout, crypto.sha256());
        let mut secondary = Persistent(secondary);
        // A boot stage that ran has taken every request down. One that is still there waits for it.
        let trailer = Trailer::read(&mut secondary, &layout.secondary_trailer());
        let waits = trailer.is_ok_and(|trailer| trailer.magic == Magic::Good);
        Self {
            secondary,
            journal: Journal::new(Persistent(journal)),
            crypto,
            layout,
            image_policy,
            running,
            writer,
            crc: crc32(),
            committed_crc: crc32(),
            state: State::Idle,
            fed_ms: None,
            slot_kept: waits,
        }
    }

    /// The largest image in bytes.
    pub fn limit(&self) -> u32 {
        self.layout.max_image_size()
    }

    /// The erase unit of the slot in bytes: objects begin at a multiple of it.
    pub fn sector_size(&self) -> u32 {
        self.layout.secondary().sector_size
    }

    /// What hashes and verifies.
    pub fn crypto(&self) -> &C {
        &self.crypto
    }

    /// The firmware version that runs: as the journal knows it, else as the application said.
    pub fn running_version(&mut self) -> u32 {
        let known = self
            .versions()
            .and_then(|versions| versions.of(&self.running.digest));
        known.unwrap_or(self.running.fw_version)
    }

    fn versions(&mut self) -> Option<Versions> {
        match self.journal.versions() {
            Ok(versions) => versions,
            Err(error) => {
                note::warn(format_args!("installed versions are not known: {error}"));
                None
            }
        }
    }

    /// The image that runs.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// The application confirmed its image: the secondary slot is free for the next update.
    pub fn confirmed(&mut self) {
        self.running.confirmed = true;
    }

    /// An update is staged: nothing but a reset is to come.
    pub fn is_staged(&self) -> bool {
        self.state == State::Staged
    }

    /// Whether `protocol` may begin a transfer at `now_ms`: there is none of the other one, or nobody feeds it any more.
    pub fn is_free_for(&self, protocol: Protocol, now_ms: u64) -> bool {
        let is_fed = self
            .fed_ms
            .is_some_and(|fed_ms| now_ms.saturating_sub(fed_ms) < TAKEOVER_MS);
        !is_fed || self.owner().is_none_or(|owner| owner == protocol) || self.is_complete()
    }

    /// Something came for the transfer of `protocol`.
    pub fn touch(&mut self, protocol: Protocol, now_ms: u64) {
        if self.owner() == Some(protocol) {
            self.fed_ms = Some(now_ms);
        }
    }

    /// Whose the transfer is that is being received.
    pub fn owner(&self) -> Option<Protocol> {
        match self.state {
            State::Receiving { owner, .. } => Some(owner),
            State::Idle | State::Staged => None,
        }
    }

    /// The link is gone: whoever comes next may begin.
    pub fn release(&mut self) {
        self.fed_ms = None;
    }

    /// The layout of the slots.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The trailer of the secondary slot.
    ///
    /// # Errors
    /// Of the flash.
    pub fn secondary_trailer(&mut self) -> Result<Trailer, S::Error> {
        Trailer::read(&mut self.secondary, &self.layout.secondary_trailer())
    }

    /// What the image in the secondary slot says of itself, wherever in it it starts; `None` when there is none. Nothing
    /// of it is checked.
    #[inline(never)]
    pub fn secondary_image(&mut self) -> Option<ImageInfo> {
        let size = self.layout.secondary().slot_size;
        let start = self.layout.upload_offset();
        // Swap using offset stores an update from the second sector on, and leaves the image before at the first.
        [start, 0]
            .iter()
            .find_map(|&start| read_info(&mut self.secondary, start, size).ok().flatten())
    }

    /// Bytes of the image that the device holds, and their CRC-32, which is kept for Secure DFU only.
    pub fn progress(&self) -> Progress {
        Progress {
            offset: self.writer.position(),
            crc: self.crc.clone().finalize(),
        }
    }

    /// What the journal keeps of the committed bytes. Secure DFU needs a CRC-32 of them anyway. For SMP it is the start of their
    /// SHA-256: a CRC of every byte would take the processor longer than the flash has time beside a fast link.
    fn record(&self) -> Progress {
        let progress = self.progress();
        if self.owner() != Some(Protocol::Smp) || progress.offset == 0 {
            return progress;
        }
        let [a, b, c, d, ..] = self.file_digest();
        Progress {
            crc: u32::from_le_bytes([a, b, c, d]),
            ..progress
        }
    }

    /// Bytes of the image in executed objects.
    pub fn committed(&self) -> u32 {
        self.writer.committed()
    }

    /// The session the journal has kept over the last reset; its init packet goes to `init`, its length is
    /// returned. The packet must be checked again before [`Upload::resume`]. None while the running image is on
    /// trial.
    #[inline(never)]
    pub fn stored_session(&mut self, init: &mut [u8; MAX_SESSION]) -> Option<(usize, Progress)> {
        // A cut between the mark and the end of the session leaves the session of the very image that runs now on
        // trial. Going on with it would erase the image to go back to.
        if !self.running.confirmed {
            return None;
        }
        match self.journal.session(init) {
            Ok(session) => session,
            Err(error) => {
                note::warn(format_args!("no resume: {error}; the journal starts anew"));
                if let Err(error) = self.journal.reset() {
                    note::error(format_args!("the journal cannot be erased: {error}"));
                }
                None
            }
        }
    }

    /// Goes on with the session of the journal: hashes what is in the slot and compares it with what the journal
    /// says. Returns how far the session is; 0 when the slot does not hold what was recorded.
    #[inline(never)]
    pub fn resume(&mut self, owner: Protocol, init: &[u8], size: u32, stored: Progress) -> Progress {
        let session = bledfu_slot::journal::session_id(init);
        self.state = State::Receiving { owner, session, size };
        self.slot_kept = true;
        self.crc = crc32();
        let crc = &mut self.crc;
        let has_crc = owner == Protocol::SecureDfu;
        let read = self.writer.resume(
            &mut self.secondary,
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
                "the slot does not hold the {} bytes the journal knows of: from the start",
                stored.offset
            ));
            // Somebody else was at the slot, so there may be a trailer as well.
            self.writer.forget_erased();
            self.restart(size);
        }
        self.committed_crc = self.crc.clone();
        self.progress()
    }

    /// Opens a session for an image of `size` bytes (at most [`Upload::limit`]); `init` is what the journal keeps of it to go on
    /// after a reset, 1 to [`MAX_SESSION`] bytes.
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
        let session = bledfu_slot::journal::session_id(init);
        // Progress first: with the session first, a cut in between would pair the new session with progress of
        // an older transfer of the very same packet.
        let none = Progress {
            offset: 0,
            crc: crc32().finalize(),
        };
        let journaled = self
            .journal
            .progress(session, none)
            .and_then(|()| self.journal.begin(init));
        if let Err(error) = journaled {
            note::warn(format_args!("this transfer will not survive a reset: {error}"));
        }
        if size > self.limit() {
            return Err(TransferError::Write);
        }
        self.state = State::Receiving { owner, session, size };
        self.slot_kept = true;
        self.restart(size);
        Ok(())
    }

    fn restart(&mut self, size: u32) {
        // The only error is an image that is too large, and both callers have checked that.
        let _ = self.writer.begin::<S::Error>(size, self.crypto.sha256());
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
        self.writer.prepare(&mut self.secondary, length).map_err(|error| {
            note::error(format_args!("{error}"));
            TransferError::Erase
        })
    }

    /// For a protocol without objects: takes the next bytes of the image as they come, erases what is not erased yet, and
    /// commits at every end of a sector and at the end of the image.
    ///
    /// # Errors
    /// [`TransferError::Erase`] and [`TransferError::Write`] of the flash, also when there are more bytes than the image has.
    /// The transfer is to be dropped then.
    #[inline(never)]
    pub fn stream(&mut self, mut bytes: &[u8]) -> Result<(), TransferError> {
        let (_, size) = self.receiving()?;
        while !bytes.is_empty() {
            let position = self.writer.position();
            let sector = self.sector_size();
            let room = (sector - position % sector).min(size.saturating_sub(position));
            let (now, later) = bytes.split_at(bytes.len().min(room as usize));
            if now.is_empty() {
                return Err(TransferError::Write);
            }
            self.prepare(now.len() as u32)?;
            self.write(now)?;
            let position = self.writer.position();
            if position == size || position.is_multiple_of(sector) {
                self.commit()?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// All bytes of the image are in the slot.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Receiving { size, .. } if self.writer.committed() == size)
    }

    /// Bytes behind the last one received that are erased already, or need no erase.
    pub fn erased_ahead(&self) -> u32 {
        self.writer.erased_ahead()
    }

    /// SHA-256 of the file, as far as it was read back from the slot.
    pub fn file_digest(&self) -> [u8; 32] {
        self.writer.digest().file_digest()
    }

    /// Takes the next bytes of the image, all of them or none.
    ///
    /// # Errors
    /// As [`Upload::prepare`]; the object must be sent again then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.receiving()?;
        let before = self.writer.position();
        let written = self
            .writer
            .accept(&mut self.secondary, bytes)
            .map_err(write_failed);
        if self.writer.position() != before && self.owner() == Some(Protocol::SecureDfu) {
            self.crc.update(bytes);
        }
        written
    }

    /// Makes everything received durable: programs the rest, reads it back, records it.
    ///
    /// # Errors
    /// As [`Upload::prepare`]; the object must be sent again then.
    #[inline(never)]
    pub fn commit(&mut self) -> Result<(), TransferError> {
        let (session, _) = self.receiving()?;
        self.writer.flush(&mut self.secondary).map_err(write_failed)?;
        self.writer.commit();
        self.committed_crc = self.crc.clone();
        if let Err(error) = self.journal.progress(session, self.record()) {
            note::warn(format_args!("a reset would lose this object: {error}"));
        }
        Ok(())
    }

    /// Drops what was received after the last [`Upload::commit`].
    pub fn rewind(&mut self) {
        self.writer.rewind();
        self.crc = self.committed_crc.clone();
    }

    /// The image is complete: checks it and marks it for the boot stage (test swap).
    ///
    /// # Errors
    /// Why it is refused. The session is over then, also in the journal, and the slot is not marked.
    pub fn finish(&mut self, expected: &Expected<'_>) -> Result<ImageInfo, TransferError> {
        let outcome = self.verify_and_mark(expected);
        match outcome {
            Ok(_) => self.state = State::Staged,
            Err(_) => self.drop_progress(),
        }
        self.close();
        outcome
    }

    /// Checks the image in the slot and marks it for the boot stage: `swap_type` is test or permanent. For an image that was
    /// received completely, now or before the last reset; the transfer is over then.
    ///
    /// # Errors
    /// Why it is refused. Nothing has changed then.
    #[inline(never)]
    pub fn request(&mut self, swap_type: SwapType) -> Result<ImageInfo, TransferError> {
        // Hashed while it arrived, or from flash now.
        let digest = self
            .is_complete()
            .then(|| self.writer.digest().image_digest())
            .flatten();
        let slot = Slot::new(self.layout);
        let (flash, policy, crypto) = (&mut self.secondary, &self.image_policy, &self.crypto);
        let slot = match digest {
            Some(digest) => slot.verify_with_digest(flash, policy, crypto, &digest),
            None => slot.verify(flash, policy, crypto),
        }
        .map_err(|error| {
            note::error(format_args!("the image is refused: {error}"));
            TransferError::NotAnImage
        })?;
        // Only an init packet has a firmware version: the count stays where it is.
        let fw_version = self.running_version();
        self.stage(&slot, fw_version, swap_type)?;
        self.state = State::Staged;
        self.close();
        Ok(*slot.info())
    }

    /// Drops the transfer and empties the slot, for the eye at once: trailer and head are erased, the rest follows while
    /// nothing else happens ([`Upload::idle`]). The caller has made sure that nobody needs what is in it.
    ///
    /// # Errors
    /// [`TransferError::Erase`]; the transfer is dropped all the same.
    #[inline(never)]
    pub fn erase(&mut self) -> Result<(), TransferError> {
        self.state = State::Idle;
        self.close();
        let sector = self.sector_size();
        let began = self.writer.begin::<S::Error>(sector, self.crypto.sha256());
        self.writer.forget_erased();
        let erased = began.and_then(|()| self.writer.prepare(&mut self.secondary, sector));
        self.restart(0);
        self.slot_kept = false;
        erased.map_err(|error| {
            note::error(format_args!("{error}"));
            TransferError::Erase
        })
    }

    fn close(&mut self) {
        match self.journal.close() {
            Ok(()) => self.slot_kept = false,
            Err(error) => note::warn(format_args!("the finished session stays in the journal: {error}")),
        }
    }

    #[inline(never)]
    fn verify_and_mark(&mut self, expected: &Expected<'_>) -> Result<ImageInfo, TransferError> {
        let (_, size) = self.receiving()?;
        if self.writer.committed() != size {
            return Err(TransferError::NotReceiving);
        }
        let digest = self.writer.digest();
        let file_digest = digest.file_digest();
        let image_digest = digest.image_digest().ok_or(TransferError::NotAnImage);
        if expected.sha256.is_some_and(|sha256| sha256 != file_digest) {
            return Err(TransferError::WrongHash);
        }
        if expected.file_validation_unknown {
            return Err(TransferError::WrongFileSignature);
        }
        if let Some((signature, keys)) = &expected.file_signature {
            if !keys
                .iter()
                .any(|key| self.crypto.verify(key, &file_digest, signature) == SignatureCheck::Good)
            {
                return Err(TransferError::WrongFileSignature);
            }
        }
        let slot = Slot::new(self.layout)
            .verify_with_digest(
                &mut self.secondary,
                &self.image_policy,
                &self.crypto,
                &image_digest?,
            )
            .map_err(|error| {
                note::error(format_args!("the image is refused: {error}"));
                TransferError::NotAnImage
            })?;

        self.stage(&slot, expected.fw_version, SwapType::Test)?;
        Ok(*slot.info())
    }

    /// The last two writes of an update: its version, then the request.
    fn stage(
        &mut self,
        slot: &Slot<Verified>,
        fw_version: u32,
        swap_type: SwapType,
    ) -> Result<(), TransferError> {
        self.record_versions(fw_version, slot.info());
        self.writer.forget_erased();
        self.mark(slot, swap_type).map_err(|error| {
            note::error(format_args!("{error}"));
            TransferError::NotMarked
        })
    }

    /// Requests the swap. A write whose completion was lost may have been done all the same, one that was cut
    /// leaves a magic that is neither there nor absent, and one that succeeded may have left a wrong bit: what
    /// counts is what reads back. If it is not the request, start over once on an erased trailer.
    #[inline(never)]
    fn mark(
        &mut self,
        slot: &Slot<Verified>,
        swap_type: SwapType,
    ) -> Result<(), trailer::TrailerError<S::Error>> {
        let flash = &mut self.secondary;
        let layout = self.layout.secondary_trailer();
        let asked = trailer::request(flash, slot, swap_type);
        if requests(&Trailer::read(flash, &layout)?, swap_type) {
            return Ok(());
        }
        if let Err(error) = asked {
            note::warn(format_args!("the request is written again: {error}"));
        }
        trailer::erase_trailer(flash, &layout)?;
        trailer::request(flash, slot, swap_type)?;
        if requests(&Trailer::read(flash, &layout)?, swap_type) {
            Ok(())
        } else {
            Err(trailer::TrailerError::BadMagic)
        }
    }

    #[inline(never)]
    fn record_versions(&mut self, fw_version: u32, info: &ImageInfo) {
        let base = Installed {
            fw_version: self.running_version(),
            digest: self.running.digest,
        };
        let staged = Installed {
            fw_version,
            digest: digest_prefix(&info.digest),
        };
        if let Err(error) = self.journal.set_versions(Versions { base, staged }) {
            note::warn(format_args!(
                "the new firmware's version will not be remembered: {error}"
            ));
        }
    }

    /// One erase while nothing else is to be done; false when there is nothing to erase. During a transfer the
    /// sectors of the next `ahead` bytes; without one the whole slot, if nobody needs what is in it: in blocks, or
    /// sector by sector when a peer is there that may ask for something any moment (`linked`).
    pub fn idle(&mut self, ahead: u32, linked: bool) -> bool {
        let block = if linked { self.sector_size() } else { CLEAR_BLOCK };
        let step = match self.state {
            State::Receiving { .. } => self.writer.erase_ahead(&mut self.secondary, ahead),
            State::Idle if self.running.confirmed && !self.slot_kept => {
                self.writer.clear_step(&mut self.secondary, block)
            }
            State::Idle | State::Staged => Ok(false),
        };
        // A sector that cannot be erased now is tried again when it is needed, and refused then.
        step.unwrap_or_else(|error| {
            note::warn(format_args!("erasing ahead: {error}"));
            false
        })
    }

    fn receiving(&self) -> Result<(u32, u32), TransferError> {
        match self.state {
            State::Receiving { session, size, .. } => Ok((session, size)),
            State::Idle | State::Staged => Err(TransferError::NotReceiving),
        }
    }
}

/// Whether the trailer asks for just this.
fn requests(trailer: &Trailer, swap_type: SwapType) -> bool {
    let image_ok = if swap_type == SwapType::Permanent {
        Flag::Set
    } else {
        Flag::Unset
    };
    trailer.magic == Magic::Good && trailer.swap_type() == swap_type && trailer.image_ok == image_ok
}

/// The first bytes of a digest, by which an image is recognised.
pub fn digest_prefix(digest: &[u8; 32]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *digest;
    [a, b, c, d, e, f, g, h]
}

fn write_failed<E: fmt::Debug>(error: WriteError<E>) -> TransferError {
    note::error(format_args!("{error}"));
    TransferError::Write
}
