// SPDX-License-Identifier: Apache-2.0
//! What stands in the way of a transfer or a reset: the next boot, the other protocol, strangers, the product.

use super::{Obstacle, Protocol, State, Upload, TAKEOVER_MS};
use crate::doors::{Beginning, Doors};
use crate::event::{Admission, Incoming};
use crate::note;
use bledfu_slot::areas::Areas;
use bledfu_slot::decide::{self, Outlook};
use bledfu_slot::verify::Crypto;
use bledfu_text::words;

impl<A: Areas, C: Crypto> Upload<'_, A, C> {
    /// Why `protocol` may not touch the secondary slot now, if there is a reason. A request that the boot stage can
    /// never carry out is not a reason: it is worthless.
    #[inline(never)]
    pub fn slot_obstacle(&mut self, what: Beginning, protocol: Protocol, now_ms: u64) -> Option<Obstacle> {
        if self.is_staged() {
            return Some(Obstacle::Staged);
        }
        if self.is_promised() {
            return Some(Obstacle::Expanding);
        }
        match self.outlook() {
            Outlook::Revert => Some(Obstacle::OnTrial),
            Outlook::Install(_) => Some(Obstacle::Staged),
            _ if !self.is_free_for(protocol, now_ms) => Some(Obstacle::OtherTransfer),
            Outlook::Nothing | Outlook::Impossible(_) | Outlook::Unknown(_) => {
                too_soon(self.guard.wait_to_begin(what, &self.setup.doors, now_ms))
            }
        }
    }

    /// Why `protocol` can receive no new image now, if there is a reason.
    #[inline(never)]
    pub fn obstacle(&mut self, protocol: Protocol, now_ms: u64) -> Option<Obstacle> {
        let obstacle = self.slot_obstacle(Beginning::Upload, protocol, now_ms);
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
    pub fn admits(&self, incoming: Incoming) -> Admission {
        let admission = (self.setup.admit)(incoming);
        match admission {
            Admission::Accept => {}
            Admission::Later => note::warn(&words!(
                "refused: the product takes no update now; try again later"
            )),
            Admission::Refuse => note::warn(&words!("refused: the product takes no update now")),
        }
        admission
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

    /// The link is gone: the next peer may begin, over either protocol.
    pub fn release(&mut self) {
        self.fed_ms = None;
    }

    /// The protocol of the current transfer.
    pub fn owner(&self) -> Option<Protocol> {
        match self.state {
            State::Receiving(transfer) => Some(transfer.owner),
            State::Idle | State::Staged => None,
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
        if !self.guard.is_stranger()
            || self.is_staged()
            || self.is_promised()
            || matches!(self.outlook(), Outlook::Install(_))
        {
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
}

/// The peer has to wait, unless the time is over.
fn too_soon(wait_ms: u64) -> Option<Obstacle> {
    (wait_ms > 0).then_some(Obstacle::TooSoon { wait_ms })
}
