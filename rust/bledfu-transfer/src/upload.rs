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

use crate::note;
use bledfu_slot::crc32::{crc32, Crc32};
use bledfu_slot::journal::{Installed, Journal, Progress, Versions, MAX_SESSION};
use bledfu_slot::layout::Layout;
use bledfu_slot::persistent::Persistent;
use bledfu_slot::trailer::{self, Magic, SwapType, Trailer};
use bledfu_slot::verify::{Crypto, ImageInfo, ImagePolicy, PublicKey, Signature, Slot, Verified};
use bledfu_slot::writer::{SlotWriter, WriteError};
use core::fmt;
use embedded_storage::nor_flash::NorFlash;

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
    Receiving { session: u32, size: u32 },
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

    /// Bytes of the image that the device holds, and their CRC-32.
    pub fn progress(&self) -> Progress {
        Progress {
            offset: self.writer.position(),
            crc: self.crc.clone().finalize(),
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
    pub fn resume(&mut self, init: &[u8], size: u32, stored: Progress) -> Progress {
        let session = bledfu_slot::journal::session_id(init);
        self.state = State::Receiving { session, size };
        self.slot_kept = true;
        self.crc = crc32();
        let crc = &mut self.crc;
        let read = self.writer.resume(
            &mut self.secondary,
            size,
            stored.offset,
            self.crypto.sha256(),
            |bytes| crc.update(bytes),
        );
        if read.is_err() || self.progress() != stored {
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

    /// Opens a session for an image of `size` bytes (at most [`Upload::limit`]).
    ///
    /// # Errors
    /// [`TransferError::Write`] when it does not fit.
    #[inline(never)]
    pub fn begin(&mut self, init: &[u8], size: u32) -> Result<(), TransferError> {
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
        self.state = State::Receiving { session, size };
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
        self.writer
            .prepare(&mut self.secondary, length)
            .map_err(write_failed)
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
        if self.writer.position() != before {
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
        if let Err(error) = self.journal.progress(session, self.progress()) {
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
        match self.journal.close() {
            Ok(()) => self.slot_kept = false,
            Err(error) => note::warn(format_args!("the finished session stays in the journal: {error}")),
        }
        outcome
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
                .any(|key| self.crypto.verify_p256(key, &file_digest, signature))
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

        let info = *slot.info();
        self.record_versions(expected.fw_version, &info);
        self.writer.forget_erased();
        self.mark(&slot).map_err(|error| {
            note::error(format_args!("{error}"));
            TransferError::NotMarked
        })?;
        Ok(info)
    }

    /// Requests the swap. A write whose completion was lost may have been done all the same, one that was cut
    /// leaves a magic that is neither there nor absent, and one that succeeded may have left a wrong bit: what
    /// counts is what reads back. If it is not the request, start over once on an erased trailer.
    #[inline(never)]
    fn mark(&mut self, slot: &Slot<Verified>) -> Result<(), trailer::TrailerError<S::Error>> {
        let flash = &mut self.secondary;
        let layout = self.layout.secondary_trailer();
        let asked = trailer::request_test(flash, slot);
        if requests_test(&Trailer::read(flash, &layout)?) {
            return Ok(());
        }
        if let Err(error) = asked {
            note::warn(format_args!("the request is written again: {error}"));
        }
        trailer::erase_trailer(flash, &layout)?;
        trailer::request_test(flash, slot)?;
        if requests_test(&Trailer::read(flash, &layout)?) {
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
            State::Receiving { session, size } => Ok((session, size)),
            State::Idle | State::Staged => Err(TransferError::NotReceiving),
        }
    }
}

fn requests_test(trailer: &Trailer) -> bool {
    trailer.magic == Magic::Good && trailer.swap_type() == SwapType::Test
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
