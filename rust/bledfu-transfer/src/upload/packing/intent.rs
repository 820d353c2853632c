// SPDX-License-Identifier: Apache-2.0
//! What peers ask for, and by which digest they know an image that was made of a packed update.

use super::{Phase, Wish};
use crate::note;
use crate::upload::{digest_prefix, Expected, Fate, Present, Protocol, TransferError, Upload};
use bledfu_slot::areas::Areas;
use bledfu_slot::journal::{Intent, JournalError};
use bledfu_slot::trailer::SwapType;
use bledfu_slot::verify::{Crypto, Digest, ImageInfo};
use bledfu_text::words;

impl<A: Areas, C: Crypto> Upload<'_, A, C> {
    /// Secure DFU: checks the whole file as an image would be checked, and begins to expand it. When it is staged, the device
    /// resets.
    ///
    /// # Errors
    /// Why it is refused; [`TransferError::Runs`] if its image runs already. The session is then over.
    #[inline(never)]
    pub fn finish_packed(&mut self, expected: &Expected<'_>) -> Result<Fate, TransferError> {
        if self.is_promised() {
            return Ok(self.fate());
        }
        let file = self.packing.file().copied().ok_or(TransferError::NotReceiving)?;
        let wish = Wish {
            swap_type: SwapType::Test,
            fw_version: expected.fw_version,
            resets: true,
            by_smp: false,
            is_recorded: false,
        };
        let begun = self
            .check_file(expected, &file.sha256)
            .and_then(|()| self.wish_for(wish));
        if begun.is_err() {
            self.drop_packed();
        }
        begun.map(|()| self.fate())
    }

    /// SMP: the image of the file that is in the slot is wanted.
    ///
    /// # Errors
    /// Why it cannot be made; [`TransferError::Runs`] if it runs already. The packed update is then dropped.
    #[inline(never)]
    pub fn ask_packed(&mut self, swap_type: SwapType) -> Result<(), TransferError> {
        let wish = Wish {
            swap_type,
            fw_version: self.running_version(),
            resets: false,
            by_smp: true,
            is_recorded: false,
        };
        let runs = self.intent_for(self.setup.running.digest, &wish);
        let wished = self.wish_for(wish);
        if wished.is_err() {
            self.drop_packed();
        }
        if let Err(TransferError::Runs) = wished {
            // The peer has shown that it knows the running image by this file: it finds it so in the next list.
            self.set_intent(runs);
        }
        wished
    }

    /// Begins what is not begun yet, and records the wish.
    fn wish_for(&mut self, wish: Wish) -> Result<(), TransferError> {
        self.packing.failed = None;
        if self.packing.is_unchecked() {
            self.begin_expanding()?;
        }
        let image = match &self.packing.phase {
            Phase::Refused(error) => return Err(*error),
            Phase::Expanding(target) => target.digest,
            Phase::Made(digest) => *digest,
            _ => return Err(TransferError::NotReceiving),
        };
        let intent = self.intent_for(digest_prefix(&image), &wish);
        let is_recorded = self.set_intent(intent);
        self.packing.wish = Some(Wish { is_recorded, ..wish });
        Ok(())
    }

    /// That `image`, made of the file, is wished for; `None` without a file.
    #[inline(never)]
    fn intent_for(&self, image: [u8; 8], wish: &Wish) -> Option<Intent> {
        let file = self.packing.file()?;
        Some(Intent {
            file: *file.known_as(wish.by_smp),
            image,
            crc: file.crc,
            is_permanent: wish.swap_type == SwapType::Permanent,
            resets: wish.resets,
            by_smp: wish.by_smp,
        })
    }

    /// Records an intent, or that what the journal knows about an earlier packed update no longer holds. Whether the journal
    /// has it.
    #[inline(never)]
    fn set_intent(&mut self, intent: Option<Intent>) -> bool {
        let is_any = intent.is_some();
        let recorded = self.journal().set_intent(intent);
        match recorded {
            Err(JournalError::Off) if !is_any => {}
            Err(error) => self.journal_failed(
                error,
                match is_any {
                    true => words!("a reset would lose the request to install this update"),
                    false => words!("the last packed update may still be listed"),
                },
            ),
            Ok(()) => {}
        }
        recorded.is_ok()
    }

    /// What the journal knows about an earlier packed update no longer holds.
    pub(in crate::upload) fn forget_intent(&mut self) {
        self.set_intent(None);
    }

    #[inline(never)]
    fn intent(&mut self) -> Option<Intent> {
        self.journal().intent().ok().flatten()
    }

    /// After a reset: goes on with what a peer was promised about the file in the slot. False if that is done: the image runs,
    /// and the cut came before the session was closed, which happens now.
    pub fn recall(&mut self, expected: Option<&Expected<'_>>, fw_version: u32) -> bool {
        let Some(intent) = self.intent() else {
            return true;
        };
        let Some(file) = self.packing.file() else {
            return true;
        };
        if intent.file != *file.known_as(intent.by_smp) {
            return true;
        }
        if intent.makes(&self.setup.running.digest) {
            self.drop_file();
            return false;
        }
        if expected.is_some_and(|expected| self.check_file(expected, &file.sha256).is_err()) {
            return true;
        }
        note::info(&words!(
            "a packed update is expanded, as promised before the reset"
        ));
        self.packing.wish = Some(Wish {
            swap_type: match intent.is_permanent {
                true => SwapType::Permanent,
                false => SwapType::Test,
            },
            fw_version,
            resets: intent.resets,
            by_smp: intent.by_smp,
            is_recorded: true,
        });
        true
    }

    /// A peer asked for a reset: it follows when the promised image is staged.
    pub(crate) fn reset_when_staged(&mut self) {
        if !self.is_promised() {
            return;
        }
        if let Some(intent) = self.intent().filter(|intent| !intent.resets) {
            self.set_intent(Some(Intent {
                resets: true,
                ..intent
            }));
        }
    }

    /// The packed update as a list shows it, from the moment it is complete until the next boot.
    pub(crate) fn listed_file(&self) -> Option<ImageInfo> {
        let is_there = self.is_packed() || matches!(self.packing.phase, Phase::Staged);
        self.packing.file().filter(|_| is_there).map(|file| file.info)
    }

    /// What the next boot does as soon as the image is made.
    pub(crate) fn promised(&self) -> Option<SwapType> {
        self.packing
            .wish
            .filter(|_| self.is_packed())
            .map(|wish| wish.swap_type)
    }

    /// The digest of the packed update of which the running image was made: the peer that installed it knows no other one.
    /// It counts until a peer has seen it confirmed, see [`Upload::forget_seen`]; until then a cut may have taken the answer.
    pub(crate) fn file_of_running(&mut self) -> Option<Digest> {
        let running = self.setup.running.digest;
        let intent = self.intent()?;
        (intent.by_smp && intent.makes(&running)).then_some(intent.file)
    }

    /// A list is answered. What it calls by the digest of a packed update is confirmed, if `is_seen`.
    pub(crate) fn listed_running(&mut self, is_by_file: bool) {
        self.packing.is_seen |= is_by_file && self.setup.running.confirmed;
    }

    /// Nobody is connected: if a peer saw that its packed update runs for good, the image has its own digest from now on.
    pub(in crate::upload) fn forget_seen(&mut self) {
        if core::mem::take(&mut self.packing.is_seen) {
            self.forget_intent();
        }
    }

    /// A packed update that is being expanded, is staged, or of which the running image was made need not be sent again.
    #[inline(never)]
    pub(in crate::upload) fn find_packed(&mut self, size: u32, sha256: &Digest) -> Option<Present> {
        if let Some(file) = self.packing.file() {
            let is_it = file.size == size && file.sha256 == *sha256;
            let is_staged = self.is_promised() || matches!(self.packing.phase, Phase::Staged);
            if is_it && is_staged && self.owner() != Some(Protocol::Smp) {
                let crc = file.crc;
                return Some(Present { crc, is_staged });
            }
        }
        let running = self.setup.running.digest;
        let intent = self.intent()?;
        let is_running = !intent.by_smp && intent.file == *sha256 && intent.makes(&running);
        is_running.then_some(Present {
            crc: intent.crc,
            is_staged: false,
        })
    }
}
