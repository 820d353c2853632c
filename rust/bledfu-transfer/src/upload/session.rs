// SPDX-License-Identifier: Apache-2.0
//! The session that the journal kept over a reset.

use super::{Protocol, State, Transfer, Upload};
use crate::note;
use bledfu_slot::areas::Areas;
use bledfu_slot::crc32::crc32;
use bledfu_slot::journal::{Progress, MAX_SESSION};
use bledfu_slot::retry::Retry;
use bledfu_slot::verify::Crypto;

impl<A: Areas, C: Crypto> Upload<'_, A, C> {
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
    /// progress of the session; 0 when the slot does not hold what was recorded. The open object began at `start`.
    #[inline(never)]
    pub fn resume(
        &mut self,
        owner: Protocol,
        init: &[u8],
        size: u32,
        stored: Progress,
        start: u32,
    ) -> Progress {
        let session = bledfu_slot::journal::session_id(init);
        self.state = State::Receiving(Transfer {
            owner,
            image: 0,
            session,
            size,
        });
        self.slot_kept = true;
        self.crc = crc32();
        self.marked_crc = crc32();
        self.find_place(size, stored);
        let (crc, marked_crc) = (&mut self.crc, &mut self.marked_crc);
        let mut at = 0;
        let has_crc = owner == Protocol::SecureDfu;
        let read = self.payload.writer().resume(
            &mut Retry(self.areas.all().secondary),
            size,
            stored.offset,
            start,
            self.crypto.sha256(),
            |bytes| {
                if has_crc {
                    crc.update(bytes);
                }
                at += bytes.len() as u32;
                if at <= start {
                    *marked_crc = crc.clone();
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
        self.note_file();
        self.progress()
    }
}
