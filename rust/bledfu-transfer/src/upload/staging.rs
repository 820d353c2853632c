// SPDX-License-Identifier: Apache-2.0
//! The end of a transfer: the image is checked, then requested or dropped.

use super::{digest_prefix, Expected, SecondaryError, State, TransferError, Upload};
use crate::doors::Beginning;
use crate::event::Event;
use crate::note;
use bledfu_slot::areas::Areas;
use bledfu_slot::decide::Outlook;
use bledfu_slot::journal::{Installed, JournalError, Versions};
use bledfu_slot::retry::Retry;
use bledfu_slot::trailer::{self, Flag, Magic, SwapType, Trailer};
use bledfu_slot::verify::{Crypto, Digest, ImageInfo, SignatureCheck, Slot, Verified, VerifyError};
use bledfu_text::{text, words};

impl<A: Areas, C: Crypto> Upload<'_, A, C> {
    /// Checks the complete image and marks it for the boot stage (test swap).
    ///
    /// # Errors
    /// Why it is refused. The session is then over, also in the journal, and the slot is not marked.
    pub fn finish(&mut self, expected: &Expected<'_>) -> Result<ImageInfo, TransferError> {
        let size = self.receiving().map_or(0, |transfer| transfer.size);
        let outcome = self.verify_and_mark(expected);
        match outcome {
            Ok(_) => self.staged(size, expected.fw_version),
            Err(_) => self.drop_progress(),
        }
        self.close();
        outcome
    }

    /// Checks the image in the slot and marks it for the boot stage; `swap_type` is test or permanent. The image was
    /// received completely, now or before the last reset; the transfer is then over.
    ///
    /// # Errors
    /// Why it is refused. Nothing has changed then.
    #[inline(never)]
    pub fn request(&mut self, swap_type: SwapType) -> Result<ImageInfo, TransferError> {
        // Hashed while it arrived, or from flash now.
        let digest = match self.is_complete() {
            true => {
                self.catch_up_all()?;
                self.payload.digest().image_digest()
            }
            false => None,
        };
        let size = match self.state {
            State::Receiving(transfer) => transfer.size,
            State::Idle | State::Staged => 0,
        };
        // Only an init packet has a firmware version: without one, the recorded version stays.
        let fw_version = self.running_version();
        let info = self.verify_and_stage(digest.as_ref(), fw_version, swap_type)?;
        self.staged(size, 0);
        self.close();
        Ok(info)
    }

    /// Checks the image in the slot and requests it; `digest` is the one over it, if it is known.
    #[inline(never)]
    pub(super) fn verify_and_stage(
        &mut self,
        digest: Option<&Digest>,
        fw_version: u32,
        swap_type: SwapType,
    ) -> Result<ImageInfo, TransferError> {
        let layout = self.setup.layout;
        let slot = Slot::new(&layout);
        let flash = &mut Retry(self.areas.all().secondary);
        let (policy, crypto) = (&self.setup.image_policy, &self.crypto);
        let slot = match digest {
            Some(digest) => slot.verify_with_digest(flash, policy, crypto, digest),
            None => slot.verify(flash, policy, crypto),
        }
        .map_err(refused)?;
        self.stage(&slot, fw_version, swap_type)?;
        Ok(*slot.info())
    }

    /// Drops the transfer and empties the slot. Trailer and header are erased at once, the rest in idle time
    /// ([`Upload::idle`]). The caller has made sure that nobody needs the slot's content.
    ///
    /// # Errors
    /// [`TransferError::Erase`]; the transfer is dropped in any case.
    #[inline(never)]
    pub fn erase(&mut self, now_ms: u64) -> Result<(), TransferError> {
        self.guard.begin(Beginning::Erase, now_ms);
        self.end_trial();
        self.state = State::Idle;
        self.close();
        let sector = self.sector_size();
        let began = self.payload.begin(sector, self.crypto.sha256());
        let (mut slot, writer) = self.slot_and_writer();
        writer.forget_erased();
        let erased = began.and_then(|()| writer.prepare(&mut slot, sector));
        self.restart(0);
        self.slot_kept = false;
        erased.map_err(|error| {
            note::error(&error);
            TransferError::Erase
        })
    }

    /// A running image on trial without an image to go back to stays, as the next boot would decide. If the trial
    /// stayed open, that boot would take the next received image for the previous one.
    pub(super) fn end_trial(&mut self) {
        if !self.setup.running.confirmed && matches!(self.outlook(), Outlook::Impossible(_)) {
            note::warn(&words!(
                "there is no image to go back to: the running one is confirmed"
            ));
            drop(self.confirm());
        }
    }

    /// Forgets the transfer, also in the journal.
    pub fn close_session(&mut self) {
        self.drop_progress();
        self.close();
    }

    pub(super) fn staged(&mut self, size: u32, fw_version: u32) {
        self.state = State::Staged;
        self.events.push(Event::Staged {
            image: 0,
            size,
            fw_version,
        });
    }

    pub(super) fn close(&mut self) {
        match self.journal().close() {
            Ok(()) => self.slot_kept = false,
            Err(error) => self.journal_failed(error, words!("the finished session stays in the journal")),
        }
    }

    #[inline(never)]
    pub(super) fn verify_and_mark(&mut self, expected: &Expected<'_>) -> Result<ImageInfo, TransferError> {
        if !self.is_complete() {
            return Err(TransferError::NotReceiving);
        }
        self.catch_up_all()?;
        let digest = self.payload.digest();
        let file_digest = digest.file_digest();
        let image_digest = digest.image_digest().ok_or(TransferError::NotAnImage);
        self.check_file(expected, &file_digest)?;
        self.verify_and_stage(Some(&image_digest?), expected.fw_version, SwapType::Test)
    }

    /// Checks the received file against what was announced, by its digest.
    pub(super) fn check_file(
        &self,
        expected: &Expected<'_>,
        file_digest: &Digest,
    ) -> Result<(), TransferError> {
        if expected.sha256.is_some_and(|sha256| sha256 != *file_digest) {
            return Err(TransferError::WrongHash);
        }
        if expected.file_validation_unknown {
            return Err(TransferError::WrongFileSignature);
        }
        if let Some((signature, keys)) = &expected.file_signature {
            match self.crypto.verify_any(keys, file_digest, signature) {
                SignatureCheck::Good => {}
                SignatureCheck::Bad => return Err(TransferError::WrongFileSignature),
                SignatureCheck::Unavailable => return Err(TransferError::NotMarked),
            }
        }
        Ok(())
    }

    /// The last two writes of an update: its version, then the request. What they need is not on the stack while a signature is
    /// checked.
    #[inline(never)]
    fn stage(
        &mut self,
        slot: &Slot<'_, Verified>,
        fw_version: u32,
        swap_type: SwapType,
    ) -> Result<(), TransferError> {
        if self.setup.floor.refuses_image(slot.info()) {
            return Err(TransferError::Older);
        }
        if self.record_versions(fw_version, slot.info()).is_err() && self.setup.must_keep_version {
            note::error(&words!("the update is refused: its firmware version cannot be kept, and would count for an older one \
                 (CONFIG_BLEDFU_FW_VERSION_PER_RELEASE)"));
            return Err(TransferError::NotMarked);
        }
        // A slot with bytes of another session, or not received by this device, may have an older image in front of the
        // new one.
        let (mut flash, writer) = self.slot_and_writer();
        writer.clear_head(&mut flash).map_err(|error| {
            note::error(&error);
            TransferError::NotMarked
        })?;
        writer.forget_erased();
        self.mark(slot, swap_type).map_err(|error| {
            note::error(&error);
            TransferError::NotMarked
        })
    }

    /// Requests the swap. A write without a completion may have succeeded, one that was cut leaves an undefined magic,
    /// and a successful one may have left a wrong bit: only what reads back counts. If that is not the request, the
    /// trailer is erased and written once more.
    #[inline(never)]
    pub(super) fn mark(
        &mut self,
        slot: &Slot<'_, Verified>,
        swap_type: SwapType,
    ) -> Result<(), trailer::TrailerError<SecondaryError<A>>> {
        let layout = self.setup.layout.secondary_trailer();
        let flash = &mut self.secondary();
        let asked = trailer::request(flash, slot, swap_type);
        if requests(&Trailer::read(flash, &layout)?, swap_type) {
            return Ok(());
        }
        if let Err(error) = asked {
            note::warn(&text!("writing the swap request again: {}", error));
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
    pub(super) fn record_versions(&mut self, fw_version: u32, info: &ImageInfo) -> Result<(), JournalError> {
        let base = Installed {
            fw_version: self.running_version(),
            digest: self.setup.running.digest,
        };
        let staged = Installed {
            fw_version,
            digest: digest_prefix(&info.digest),
        };
        self.journal()
            .set_versions(Versions { base, staged })
            .inspect_err(|&error| {
                self.journal_failed(error, words!("the new firmware's version will not be remembered"))
            })
    }
}

/// Why an image is not requested. A flash or crypto failure says nothing about the image.
fn refused<E: core::fmt::Debug>(error: VerifyError<E>) -> TransferError {
    note::error(&text!("the image is refused: {}", error));
    if error.is_about_image() {
        TransferError::NotAnImage
    } else {
        TransferError::NotMarked
    }
}

/// Whether the trailer holds exactly this request.
fn requests(trailer: &Trailer, swap_type: SwapType) -> bool {
    let image_ok = if swap_type == SwapType::Permanent {
        Flag::Set
    } else {
        Flag::Unset
    };
    // Swap using offset uses the other flag for a request to go back.
    trailer.magic == Magic::Good
        && trailer.swap_type() == swap_type
        && trailer.image_ok == image_ok
        && trailer.copy_done == Flag::Unset
}
