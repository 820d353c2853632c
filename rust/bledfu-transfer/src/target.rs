// SPDX-License-Identifier: Apache-2.0
//! What receives updates on a device: one upload, and a front end for each protocol.
//!
//! ```text
//!   Channel::Control, Packet ──► SecureDfu ──┐
//!                                            ├──► Upload ──► secondary slot, journal
//!   Channel::Smp ──► Reassembly ──► Smp ─────┘
//!                                    └── confirm, state ──► primary slot
//! ```
//! Both protocols may talk at any time; the rules by which one takes the slot from the other are in [`crate::upload`]. The
//! front end that lost it forgets its transfer.
//!
//! `SMP` is the longest SMP frame in bytes; 0 is a target without SMP, of which no code remains.

use crate::note;
use crate::ring::{Channel, Frame};
use crate::secure_dfu::{self, SecureDfu, Then, Transport};
use crate::smp::{self, Reassembly, Smp, ERASE_AHEAD};
use crate::upload::{Protocol, Upload};
use bledfu_slot::journal::MAX_SESSION;
use bledfu_slot::trailer::{self, TrailerError};
use bledfu_slot::verify::Crypto;
use embedded_storage::nor_flash::NorFlash;

/// One update target with both protocols. The worker owns it.
pub struct Target<'k, P, S, J, C: Crypto, const SMP: usize> {
    secure_dfu: SecureDfu<'k, S, J, C>,
    reassembly: Reassembly<SMP>,
    smp: Smp<'k>,
    primary: P,
    /// The peer's last word was SMP.
    speaks_smp: bool,
}

impl<'k, P: NorFlash, S: NorFlash, J: NorFlash, C: Crypto, const SMP: usize> Target<'k, P, S, J, C, SMP> {
    /// A target on `upload`; `primary` is the primary slot. It does not know the journal's session yet: [`Target::restore`]
    /// comes next, when the target is where it will stay.
    pub fn new(
        upload: Upload<'k, S, J, C>,
        primary: P,
        secure_dfu: secure_dfu::Config<'k>,
        smp: smp::Config<'k>,
    ) -> Self {
        Self {
            secure_dfu: SecureDfu::new_forgetful(upload, secure_dfu),
            reassembly: Reassembly::new(),
            smp: Smp::new(smp, SMP),
            primary,
            speaks_smp: false,
        }
    }

    /// Goes on with the transfer of the journal, if there is one; before the first link.
    #[inline(never)]
    pub fn restore(&mut self) {
        let mut stored = [0; MAX_SESSION];
        let Some((length, progress)) = self.secure_dfu.upload_mut().stored_session(&mut stored) else {
            return;
        };
        let stored = stored.get(..length).unwrap_or_default();
        if !smp::is_session(stored) {
            self.secure_dfu.restore_from(stored, progress);
        } else if SMP > 0 {
            self.smp.restore(self.secure_dfu.upload_mut(), stored, progress);
        } else {
            note::warn(format_args!(
                "the interrupted upload is dropped: this firmware has no SMP"
            ));
        }
    }

    /// The Secure DFU front end.
    pub fn secure_dfu(&self) -> &SecureDfu<'k, S, J, C> {
        &self.secure_dfu
    }

    /// The Secure DFU front end, for its settings.
    pub fn secure_dfu_mut(&mut self) -> &mut SecureDfu<'k, S, J, C> {
        &mut self.secure_dfu
    }

    /// The SMP front end, for its settings.
    pub fn smp_mut(&mut self) -> &mut Smp<'k> {
        &mut self.smp
    }

    /// The upload, for its state.
    pub fn upload(&self) -> &Upload<'k, S, J, C> {
        self.secure_dfu.upload()
    }

    /// The firmware version that runs, as packages count.
    pub fn running_version(&mut self) -> u32 {
        self.secure_dfu.running_version()
    }

    /// Bytes of the image that is being received, or is staged.
    pub fn incoming(&self) -> Option<u32> {
        let secure_dfu = self.secure_dfu.incoming().map(|accepted| accepted.size);
        secure_dfu.or_else(|| self.smp.incoming().filter(|_| SMP > 0))
    }

    /// The application's self-test passed: confirms the running image.
    ///
    /// # Errors
    /// Of the primary slot's trailer and flash.
    pub fn confirm(&mut self) -> Result<(), TrailerError<P::Error>> {
        let layout = *self.upload().layout();
        trailer::confirm(&mut self.primary, &layout)?;
        self.secure_dfu.confirmed();
        Ok(())
    }

    /// A peer connected at `now_ms`, and its notifications are on.
    pub fn link_up(&mut self, transport: Transport, now_ms: u64) {
        self.reassembly.reset();
        self.speaks_smp = false;
        self.secure_dfu.link_up(transport, now_ms);
    }

    /// The peer is gone. Of a Secure DFU transfer the open object is forgotten; an SMP upload stays where it is.
    pub fn link_down(&mut self) {
        self.reassembly.reset();
        self.secure_dfu.link_down();
    }

    /// See [`SecureDfu::lost`].
    pub fn lost(&mut self, packets: u32) -> secure_dfu::Answer {
        self.secure_dfu.lost(packets)
    }

    /// See [`SecureDfu::tick`]. An SMP client may be an app whose user looks for a file: its link stays.
    pub fn tick(&self, now_ms: u64) -> Then {
        if self.speaks_smp {
            return Then::Continue;
        }
        self.secure_dfu.tick(now_ms)
    }

    /// One erase while no frame waits; false when there is nothing to do.
    pub fn idle(&mut self) -> bool {
        if self.upload().owner() == Some(Protocol::Smp) {
            return self.secure_dfu.upload_mut().idle(ERASE_AHEAD, true);
        }
        self.secure_dfu.idle()
    }

    /// Whether the next SMP frame would wait for an erase. Then [`Target::idle`] comes before it, for the peer has the answer
    /// to the last one already.
    pub fn is_behind(&self) -> bool {
        SMP > 0 && self.upload().owner() == Some(Protocol::Smp) && self.upload().erased_ahead() < SMP as u32
    }

    /// Handles one frame of the Secure DFU channels. `now_ms` is any monotonic time.
    pub fn handle(&mut self, frame: Frame<'_>, now_ms: u64) -> secure_dfu::Answer {
        debug_assert!(frame.channel != Channel::Smp, "SMP has a call of its own");
        self.speaks_smp = false;
        self.secure_dfu.handle(frame, now_ms)
    }

    /// Handles one fragment of an SMP frame. When it is the last one, the answer is in `out`: [`smp::ANSWER_SIZE`] bytes of it
    /// are enough.
    pub fn handle_smp(&mut self, fragment: &[u8], now_ms: u64, out: &mut [u8]) -> Option<smp::Answer> {
        if self.collect_smp(fragment, now_ms) {
            self.answer_smp(now_ms, out)
        } else {
            None
        }
    }

    /// The first half of [`Target::handle_smp`]: takes the fragment, and says whether the frame is whole. The fragment's place may
    /// be that of the answer.
    pub fn collect_smp(&mut self, fragment: &[u8], now_ms: u64) -> bool {
        if SMP == 0 {
            return false;
        }
        self.hear_smp(now_ms);
        self.reassembly.push(fragment, now_ms).is_some()
    }

    /// The second half: handles the frame that became whole.
    #[inline(never)]
    pub fn answer_smp(&mut self, now_ms: u64, out: &mut [u8]) -> Option<smp::Answer> {
        if SMP == 0 {
            return None;
        }
        let (upload, primary) = (self.secure_dfu.upload_mut(), &mut self.primary);
        let answer = self
            .smp
            .handle(upload, primary, self.reassembly.frame(), now_ms, out);
        self.smp_owns();
        answer
    }

    /// Handles one whole SMP frame, of a transport that has no fragments.
    pub fn handle_smp_frame(&mut self, frame: &[u8], now_ms: u64, out: &mut [u8]) -> Option<smp::Answer> {
        if SMP == 0 {
            return None;
        }
        self.hear_smp(now_ms);
        let (upload, primary) = (self.secure_dfu.upload_mut(), &mut self.primary);
        let answer = self.smp.handle(upload, primary, frame, now_ms, out);
        self.smp_owns();
        answer
    }

    fn hear_smp(&mut self, now_ms: u64) {
        self.speaks_smp = true;
        self.secure_dfu.is_alive(now_ms);
    }

    /// What was executed over Secure DFU counts no more when SMP has begun an upload or emptied the slot.
    fn smp_owns(&mut self) {
        let is_lost = match self.upload().owner() {
            Some(owner) => owner == Protocol::Smp,
            None => !self.upload().is_staged(),
        };
        if is_lost && self.secure_dfu.incoming().is_some() {
            self.secure_dfu.forget();
        }
    }
}
