// SPDX-License-Identifier: Apache-2.0
//! What the Bluetooth thread leaves for the worker: frames, and word of the link. Used behind the spin lock.

use crate::options;
use bledfu_transfer::ring::{ring_size, smp_ring_size, Channel, Frame, PushError, Ring, MAX_FRAME};
use bledfu_transfer::smp::FRAGMENT_MS;

/// Longest packet at the smallest MTU, 23.
const SHORTEST_PACKET: usize = 20;

// The Bluetooth thread never waits for room, so there must be some for all a peer may send before it must wait.
const _: () = assert!(
    options::RING_SIZE >= ring_size(options::OBJECT_SIZE as usize, SHORTEST_PACKET),
    "CONFIG_BLEDFU_RING_SIZE does not hold one object in packets of 20 bytes and the request behind it: \
     raise it (or remove the line, its default follows), or lower CONFIG_BLEDFU_OBJECT_SIZE"
);

const _: () = assert!(
    options::RING_SIZE
        >= smp_ring_size(
            options::SMP_FRAME_SIZE,
            options::SMP_FRAME_COUNT as usize,
            SHORTEST_PACKET
        ),
    "CONFIG_BLEDFU_RING_SIZE does not hold CONFIG_BLEDFU_SMP_FRAME_COUNT frames in fragments of 20 bytes: raise it to the count \
     times 21/20 of CONFIG_BLEDFU_SMP_FRAME_SIZE, or lower one of the two"
);

/// Frames and link events, in the order the worker must see them.
pub struct Inbox {
    ring: Ring<{ options::RING_SIZE }>,
    /// Frames in the ring.
    waiting: u32,
    /// Packets that found no room, and how many frames the worker will see before them. None is taken until it has
    /// seen them, so that the place of the gap is exact.
    lost: u32,
    lost_behind: u32,
    /// When the last SMP fragment came, taken or not.
    smp_ms: u64,
    up: bool,
    down: bool,
    confirm: bool,
}

/// What the worker does next.
pub enum Next<'b> {
    /// A peer is there.
    Up,
    /// The peer has gone.
    Down,
    /// The application confirms its image.
    Confirm,
    /// The peer wrote this.
    Frame(Frame<'b>),
    /// So many packets were lost here: there was no room.
    Lost(u32),
    /// Nothing waits.
    Nothing,
}

impl Inbox {
    pub const fn new() -> Self {
        Self {
            ring: Ring::new(),
            waiting: 0,
            lost: 0,
            lost_behind: 0,
            smp_ms: 0,
            up: false,
            down: false,
            confirm: false,
        }
    }

    /// A request that finds no room is refused and that is all; of a packet nobody would know.
    pub fn push(&mut self, frame: Frame<'_>, now_ms: u64) -> Result<(), PushError> {
        if frame.channel == Channel::Smp {
            if now_ms.saturating_sub(self.smp_ms) > FRAGMENT_MS {
                self.ring.smp_paused();
            }
            self.smp_ms = now_ms;
        }
        let is_packet = frame.channel == Channel::Packet;
        let pushed = if is_packet && self.lost > 0 {
            Err(PushError::Full)
        } else {
            self.ring.push(frame)
        };
        if pushed.is_ok() {
            self.waiting += 1;
        } else if is_packet {
            if self.lost == 0 {
                self.lost_behind = self.waiting;
            }
            self.lost = self.lost.saturating_add(1);
        }
        pushed
    }

    /// A link that goes takes what it sent with it. The worker always sees it go before the next one comes.
    pub fn link(&mut self, up: bool) {
        self.up = up;
        if !up {
            self.down = true;
            self.ring.clear();
            (self.waiting, self.lost) = (0, 0);
        }
    }

    pub fn confirm(&mut self) {
        self.confirm = true;
    }

    /// The link the worker knows of has gone, and the worker has not seen it yet.
    pub const fn is_link_gone(&self) -> bool {
        self.down
    }

    pub const fn is_empty(&self) -> bool {
        !self.up && !self.down && !self.confirm && self.lost == 0 && self.ring.is_empty()
    }

    pub fn next<'b>(&mut self, buffer: &'b mut [u8; MAX_FRAME]) -> Next<'b> {
        if core::mem::take(&mut self.down) {
            Next::Down
        } else if core::mem::take(&mut self.up) {
            Next::Up
        } else if core::mem::take(&mut self.confirm) {
            Next::Confirm
        } else if self.lost > 0 && self.lost_behind == 0 {
            Next::Lost(core::mem::take(&mut self.lost))
        } else {
            self.waiting = self.waiting.saturating_sub(1);
            self.lost_behind = self.lost_behind.saturating_sub(1);
            self.ring.pop(buffer).map_or(Next::Nothing, Next::Frame)
        }
    }
}
