// SPDX-License-Identifier: Apache-2.0
//! Who may do what, and how often: unauthorised peers could wear out the flash, and take back or keep an image.
//!
//! ```text
//!                        stranger                                        trusted peer
//!   begin, erase         12 at once, then 2 an hour                      yes
//!   repeat an object     24 at once, then 2 an hour                      yes
//!   reset                with an image staged; else never on trial,      yes
//!                        once a minute, and with full buckets
//!   confirm, permanent   as the product says ([`Doors`])                 yes
//! ```
//! Buckets are in RAM and full after a start. A stranger that reset the device again and again would find them full
//! each time, so a stranger's reset without an image to install waits until they are full. A confirmed update, a
//! trusted peer and [`Inbox::allow_updates`](crate::inbox::Inbox::allow_updates) fill them.
//!
//! Each install costs one erase of each page of the internal flash. Each time an image fails to confirm itself, the
//! wait of the next stranger after the device's start doubles: [`Doors::take_backs`].

/// Refill of both buckets: one token per this many ms, two an hour.
pub const REFILL_MS: u64 = 30 * 60 * 1000;
/// Beginnings without waiting: a new upload, a new init packet, an erase.
pub const BEGINNINGS: u8 = 12;
/// Objects that may be repeated without waiting; each erases sectors again that were already erased for it.
pub const REPEATS: u8 = 24;
/// Earliest reset by a stranger after the start of the device, in ms.
pub const RESET_MS: u64 = 60_000;
/// Maximum wait of a stranger after the start of the device, in ms, however often images were taken back.
pub const LONGEST_DELAY_MS: u64 = 12 * 60 * MINUTE_MS;

const MINUTE_MS: u64 = 60_000;

/// The trust of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peer {
    /// Anyone in radio range.
    #[default]
    Stranger,
    /// Paired as the product requires, or connected by wire.
    Trusted,
}

/// Who may confirm the running image over SMP. Confirming a confirmed image changes nothing, and succeeds for
/// everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfirmBy {
    /// Trusted peers.
    #[default]
    Trusted,
    /// Everybody in radio range.
    Anybody,
    /// Only the product, by its own self-test.
    Nobody,
}

/// What a product allows strangers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    /// Strangers may have an image installed permanently, without a trial.
    pub permanent_by_strangers: bool,
    /// Who may confirm the running image.
    pub confirm: ConfirmBy,
    /// How often an image was taken back since the last confirmation. With 0 nobody waits; with n a stranger's upload
    /// waits 2ⁿ minutes from the start of the device, at most [`LONGEST_DELAY_MS`].
    pub take_backs: u8,
}

/// Tokens that refill with time. Stored as the time at which the bucket will be full.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_ms: u64,
}

impl Bucket {
    /// Time until there is a token, in ms; 0: there is one.
    fn wait_ms(self, room: u8, now_ms: u64) -> u64 {
        let most = u64::from(room).saturating_sub(1).saturating_mul(REFILL_MS);
        self.full_ms.saturating_sub(now_ms).saturating_sub(most)
    }

    fn take(&mut self, now_ms: u64) {
        self.full_ms = self.full_ms.max(now_ms).saturating_add(REFILL_MS);
    }
}

/// What a peer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It has the slot erased: usually an upload follows.
    Erase,
    /// An upload.
    Upload,
}

/// What strangers did since the start, and the trust of the current peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Guard {
    peer: Peer,
    started_ms: Option<u64>,
    beginnings: Bucket,
    repeats: Bucket,
    /// The slot was erased for an upload that has not begun yet: both are one beginning.
    is_erased: bool,
    /// A person at the device asked for an update: nobody waits because of images that were taken back.
    is_allowed: bool,
}

impl Guard {
    /// The device has just started, or started earlier.
    pub fn start(&mut self, now_ms: u64) -> u64 {
        *self.started_ms.get_or_insert(now_ms)
    }

    pub fn meet(&mut self, peer: Peer) {
        self.peer = peer;
        if peer == Peer::Trusted {
            self.fill();
        }
    }

    /// Fills both buckets.
    pub fn fill(&mut self) {
        (self.beginnings, self.repeats) = Default::default();
    }

    pub fn allow(&mut self) {
        self.is_allowed = true;
        self.fill();
    }

    pub fn is_stranger(&self) -> bool {
        self.peer == Peer::Stranger
    }

    /// How long the peer must wait until it may begin, in ms.
    pub fn wait_to_begin(&mut self, what: Beginning, doors: &Doors, now_ms: u64) -> u64 {
        if !self.is_stranger() {
            return 0;
        }
        let delay = match doors.take_backs {
            0 => 0,
            _ if self.is_allowed => 0,
            count => MINUTE_MS.saturating_mul(1 << count.min(10)).min(LONGEST_DELAY_MS),
        };
        let opens_ms = self.start(now_ms).saturating_add(delay);
        let bucket = match (what, self.is_erased) {
            (Beginning::Upload, true) => 0,
            _ => self.beginnings.wait_ms(BEGINNINGS, now_ms),
        };
        opens_ms.saturating_sub(now_ms).max(bucket)
    }

    /// Counts a beginning.
    pub fn begin(&mut self, what: Beginning, now_ms: u64) {
        if !self.is_stranger() {
            return;
        }
        let was_erased = core::mem::replace(&mut self.is_erased, what == Beginning::Erase);
        if !(was_erased && what == Beginning::Upload) {
            self.beginnings.take(now_ms);
        }
    }

    /// How long the peer must wait until it may repeat an object, in ms.
    pub fn wait_to_repeat(&self, now_ms: u64) -> u64 {
        match self.peer {
            Peer::Trusted => 0,
            Peer::Stranger => self.repeats.wait_ms(REPEATS, now_ms),
        }
    }

    /// Counts a repeated object.
    pub fn repeat(&mut self, now_ms: u64) {
        if self.is_stranger() {
            self.repeats.take(now_ms);
        }
    }

    /// How long the peer must wait until it may reset a device with nothing staged and nothing on trial, in ms.
    pub fn wait_to_reset(&mut self, now_ms: u64) -> u64 {
        if !self.is_stranger() {
            return 0;
        }
        let opens_ms = self.start(now_ms).saturating_add(RESET_MS);
        let full_ms = self.beginnings.full_ms.max(self.repeats.full_ms);
        opens_ms.max(full_ms).saturating_sub(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 60 * MINUTE_MS;

    #[test]
    fn a_stranger_begins_twelve_times_and_then_twice_an_hour() {
        let (mut guard, doors) = (Guard::default(), Doors::default());
        for _ in 0..BEGINNINGS {
            assert_eq!(guard.wait_to_begin(Beginning::Upload, &doors, 5), 0);
            guard.begin(Beginning::Upload, 5);
        }
        assert_eq!(guard.wait_to_begin(Beginning::Upload, &doors, 5), REFILL_MS);
        assert_eq!(
            guard.wait_to_begin(Beginning::Upload, &doors, 5 + REFILL_MS - 1),
            1
        );
        assert_eq!(guard.wait_to_begin(Beginning::Upload, &doors, 5 + REFILL_MS), 0);
        guard.begin(Beginning::Upload, 5 + REFILL_MS);
        assert_eq!(
            guard.wait_to_begin(Beginning::Upload, &doors, 5 + REFILL_MS),
            REFILL_MS
        );
        // After six hours without activity, twelve again, and no more.
        let rested = 5 + REFILL_MS + 6 * HOUR_MS;
        for _ in 0..BEGINNINGS {
            assert_eq!(guard.wait_to_begin(Beginning::Upload, &doors, rested), 0);
            guard.begin(Beginning::Upload, rested);
        }
        assert_ne!(guard.wait_to_begin(Beginning::Upload, &doors, rested), 0);
    }

    #[test]
    fn an_erase_and_the_upload_behind_it_are_one_beginning() {
        let (mut guard, doors) = (Guard::default(), Doors::default());
        for _ in 0..BEGINNINGS {
            assert_eq!(guard.wait_to_begin(Beginning::Erase, &doors, 5), 0);
            guard.begin(Beginning::Erase, 5);
        }
        // The last erase has paid for one upload, and not for another erase.
        assert_eq!(guard.wait_to_begin(Beginning::Erase, &doors, 5), REFILL_MS);
        assert_eq!(guard.wait_to_begin(Beginning::Upload, &doors, 5), 0);
        guard.begin(Beginning::Upload, 5);
        assert_eq!(guard.wait_to_begin(Beginning::Upload, &doors, 5), REFILL_MS);
        assert_eq!(guard.wait_to_begin(Beginning::Upload, &doors, 5 + REFILL_MS), 0);
    }

    #[test]
    fn a_trusted_peer_never_waits_and_fills_the_buckets() {
        let doors = Doors {
            take_backs: 5,
            ..Doors::default()
        };
        let mut guard = Guard::default();
        guard.start(0);
        for _ in 0..100 {
            guard.begin(Beginning::Upload, 0);
            guard.repeat(0);
        }
        assert!(guard.wait_to_repeat(0) > 0 && guard.wait_to_reset(HOUR_MS) > 0);
        guard.meet(Peer::Trusted);
        assert_eq!(guard.wait_to_begin(Beginning::Upload, &doors, 0), 0);
        assert_eq!((guard.wait_to_repeat(0), guard.wait_to_reset(0)), (0, 0));
        guard.meet(Peer::Stranger);
        assert_eq!(guard.wait_to_repeat(0), 0);
        assert_eq!(guard.wait_to_begin(Beginning::Upload, &doors, 0), 32 * MINUTE_MS);
        assert_eq!(guard.wait_to_reset(0), RESET_MS);
    }

    #[test]
    fn the_wait_doubles_with_each_image_taken_back_up_to_twelve_hours() {
        let wait = |take_backs| {
            let doors = Doors {
                take_backs,
                ..Doors::default()
            };
            Guard::default().wait_to_begin(Beginning::Upload, &doors, 77)
        };
        assert_eq!(wait(0), 0);
        assert_eq!(
            [1, 2, 9].map(wait),
            [2, 4, 512].map(|minutes| minutes * MINUTE_MS)
        );
        assert_eq!([10, 11, 64, 255].map(wait), [LONGEST_DELAY_MS; 4]);
        // A button ends it.
        let doors = Doors {
            take_backs: 255,
            ..Doors::default()
        };
        let mut guard = Guard::default();
        guard.allow();
        assert_eq!(guard.wait_to_begin(Beginning::Upload, &doors, 0), 0);
    }

    #[test]
    fn a_stranger_who_began_something_cannot_reset_to_find_full_buckets() {
        let mut guard = Guard::default();
        guard.start(0);
        assert_eq!(guard.wait_to_reset(0), RESET_MS);
        assert_eq!(guard.wait_to_reset(RESET_MS), 0);
        guard.begin(Beginning::Upload, RESET_MS);
        assert_eq!(guard.wait_to_reset(RESET_MS), REFILL_MS);
        guard.repeat(2 * RESET_MS);
        assert_eq!(guard.wait_to_reset(2 * RESET_MS), REFILL_MS);
    }
}
