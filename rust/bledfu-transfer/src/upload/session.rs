// SPDX-License-Identifier: Apache-2.0
//! The session that the journal kept over a reset.

use super::{Protocol, State, Transfer, Upload};
use crate::note;
use bledfu_slot::areas::Areas;
use bledfu_slot::crc32::{crc32, Crc32};
use bledfu_slot::journal::{Progress, MAX_SESSION};
use bledfu_slot::retry::Retry;
use bledfu_slot::verify::Crypto;
use bledfu_slot::writer::PAGE;
use bledfu_text::text;

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
            note::warn(&obstacle);
            self.abandon_session();
            return None;
        }
        match self.journal().session(init) {
            Ok(session) => session,
            Err(error) => {
                note::warn(&text!("no resume: {}; the journal starts anew", error));
                if let Err(error) = self.journal().reset() {
                    note::error(&text!("the journal cannot be erased: {}", error));
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

    /// Continues the journal's session where the journal says. What is in the slot is hashed later, and compared with the
    /// journal's record, unless nothing is missing any more. Returns the progress of the session; 0 when it is clear already
    /// that the slot does not hold what was recorded. The open object began at `start`.
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
        self.find_place(size, stored);
        let read = self.payload.writer().resume(
            &mut Retry(self.areas.all().secondary),
            size,
            stored.offset,
            start,
            self.crypto.sha256(),
        );
        self.expect_recorded(stored);
        (self.crc, self.marked_crc) = match owner {
            // Of no bytes there is one CRC, whatever a journal says.
            Protocol::SecureDfu if read.is_ok() && stored.offset > 0 => {
                (Crc32::of(stored.check), self.crc_at(start, stored))
            }
            _ => (crc32(), crc32()),
        };
        self.committed_crc = self.crc.clone();
        if read.is_err() {
            self.begin_anew();
        } else {
            // The header is needed at once, and the digest of a whole file as well.
            let now = if stored.offset == size {
                u32::MAX
            } else {
                PAGE as u32
            };
            let _ = self.catch_up(now);
        }
        // It was not under way yet.
        let _ = self.take_begun_anew();
        self.note_file();
        self.progress()
    }
}
