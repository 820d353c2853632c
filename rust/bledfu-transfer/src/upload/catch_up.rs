// SPDX-License-Identifier: Apache-2.0
//! Hashing what was in the slot before a reset, beside everything else.
//!
//! Position and check value come from the journal at once, so a device answers right after its start, however large the
//! image is. The journal is in hostile flash: the bytes it speaks of are read, compared with what it recorded, and hashed
//! like all others before anything is staged.

use super::{Protocol, SecondaryError, State, TransferError, Upload};
use crate::note;
use bledfu_slot::areas::Areas;
use bledfu_slot::crc32::{crc32, Crc32};
use bledfu_slot::flash::{read_bytes, Aligned};
use bledfu_slot::journal::Progress;
use bledfu_slot::retry::Retry;
use bledfu_slot::verify::Crypto;
use bledfu_slot::writer::{WriteError, PAGE};
use bledfu_text::text;

/// Bytes of one step in idle time: 8 ms in software on a Cortex-M4.
const STEP: u32 = 4096;
/// The most that somebody waits for, in bytes: a second. A phone then looks for services.
const AT_ONCE: u32 = 512 * 1024;

/// What the journal recorded of the slot, which is being compared with it.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    progress: Progress,
    /// Of the bytes read so far.
    crc: Crc32,
}

impl<A: Areas, C: Crypto> Upload<'_, A, C> {
    /// The slot is said to hold what `progress` says.
    pub(super) fn expect_recorded(&mut self, progress: Progress) {
        self.recorded = (progress.offset > 0).then(|| Recorded {
            progress,
            crc: crc32(),
        });
    }

    /// Bytes in the slot are not hashed yet.
    pub(super) fn is_behind(&self) -> bool {
        self.payload.is_behind()
    }

    /// A step in idle time; false when there is nothing to do.
    pub(super) fn catch_up_in_idle(&mut self) -> bool {
        self.is_behind() && self.catch_up(STEP).is_ok()
    }

    /// `part` bytes have come. For them as many bytes are to be hashed as it takes to be done with the last of them: a busy
    /// link leaves the processor little time, and the last answer would have to wait for all that is left.
    pub(super) fn catch_up_beside(&mut self, part: u32) {
        let missing = self.receiving().map_or(0, |transfer| {
            transfer.size.saturating_sub(self.payload.committed())
        });
        let behind = self
            .payload
            .committed()
            .saturating_sub(self.payload.digest().position());
        let share = behind / (missing / part.max(1) + 1);
        self.owed = share.min(AT_ONCE);
    }

    /// Hashes what is to be hashed before the next frame is handled; false if that is nothing.
    pub fn catch_up_owed(&mut self) -> bool {
        let owed = core::mem::take(&mut self.owed);
        if owed > 0 {
            let _ = self.catch_up(owed);
        }
        owed > 0
    }

    /// A link begins. Most devices have hashed everything by now, and know whether the journal is right.
    pub fn catch_up_for_link(&mut self) {
        let _ = self.catch_up(AT_ONCE);
    }

    /// Hashes all that is in the slot, for a verdict.
    ///
    /// # Errors
    /// [`TransferError::NotMarked`] if the flash fails, [`TransferError::WrongHash`] if the journal was wrong.
    pub(super) fn catch_up_all(&mut self) -> Result<(), TransferError> {
        self.catch_up(u32::MAX)
    }

    /// Hashes up to `bytes` bytes of those that are in the slot already. If these are not what the journal recorded, the
    /// upload begins anew. If the flash cannot be read now, nothing changes: it may be later.
    #[inline(never)]
    pub(super) fn catch_up(&mut self, bytes: u32) -> Result<(), TransferError> {
        let end = self.payload.digest().position().saturating_add(bytes);
        loop {
            match self.read_on(end) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    note::error(&error);
                    return Err(TransferError::NotMarked);
                }
            }
            if self.is_recorded_wrong() {
                self.begin_anew();
                return Err(TransferError::WrongHash);
            }
        }
    }

    /// Reads and hashes up to a page.
    fn read_on(&mut self, end: u32) -> Result<bool, WriteError<SecondaryError<A>>> {
        let position = self.payload.digest().position();
        let recorded = &mut self.recorded;
        // The check value is one at this very position.
        let end = match recorded {
            Some(recorded) if recorded.progress.offset > position => end.min(recorded.progress.offset),
            _ => end,
        };
        let slot = &mut Retry(self.areas.all().secondary);
        self.payload.writer().catch_up(slot, end, |bytes| {
            if let Some(recorded) = recorded {
                recorded.crc.update(bytes);
            }
        })
    }

    /// Whether all bytes of the journal's record are read, and are others.
    fn is_recorded_wrong(&mut self) -> bool {
        let position = self.payload.digest().position();
        let Some(recorded) = self
            .recorded
            .take_if(|recorded| recorded.progress.offset == position)
        else {
            return false;
        };
        let check = match self.owner() {
            Some(Protocol::Smp) => super::digest_check(&self.payload.digest().file_digest()),
            _ => recorded.crc.finalize(),
        };
        check != recorded.progress.check
    }

    /// The slot does not hold what the journal recorded: all of it is to be sent again.
    pub(super) fn begin_anew(&mut self) {
        note::warn(&text!(
            "the slot does not hold the {} bytes that the journal recorded: starting over",
            self.payload.committed()
        ));
        // Something else wrote to the slot, so there may be a trailer as well.
        self.payload.writer().forget_erased();
        if let State::Receiving(transfer) = self.state {
            self.restart(transfer.size);
        }
        self.has_begun_anew = true;
    }

    /// Whether the upload has begun anew since somebody asked.
    pub fn take_begun_anew(&mut self) -> bool {
        core::mem::take(&mut self.has_begun_anew)
    }

    /// The CRC-32 at `start`, of which the one at `progress` is known: what came between is in the slot. The last object
    /// may begin again, and its start is in no record.
    pub(super) fn crc_at(&mut self, start: u32, progress: Progress) -> Crc32 {
        let mut crc = Crc32::of(progress.check);
        let mut at = progress.offset;
        let mut page = Aligned([0; PAGE]);
        while at > start {
            let length = (at - start).min(PAGE as u32);
            at -= length;
            let bytes = page.0.get_mut(..length as usize).unwrap_or_default();
            let offset = self.payload.writer().slot_offset(at);
            // A wrong result means a refused object at most.
            if read_bytes(&mut Retry(self.areas.all().secondary), offset, bytes).is_err() {
                break;
            }
            crc.take_back(bytes);
        }
        crc
    }
}
