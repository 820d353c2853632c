// SPDX-License-Identifier: Apache-2.0
//! What the Bluetooth thread leaves for the worker: frames, and word of the link. Used behind the spin lock.

use crate::options;
use bledfu_transfer::ring::{ring_size, Frame, PushError, Ring, MAX_FRAME};

// All a peer with the usual MTU of phones may send before it must wait; smaller rings lose bytes to a slow erase.
const _: () = assert!(
    options::RING_SIZE >= ring_size(options::OBJECT_SIZE as usize, 244),
    "CONFIG_BLEDFU_RING_SIZE does not hold one object: raise it, or lower CONFIG_BLEDFU_OBJECT_SIZE"
);

/// Frames and link events, in the order the worker must see them.
pub struct Inbox {
    ring: Ring<{ options::RING_SIZE }>,
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
    /// Nothing waits.
    Nothing,
}

impl Inbox {
    pub const fn new() -> Self {
        Self {
            ring: Ring::new(),
            up: false,
            down: false,
            confirm: false,
        }
    }

    pub fn push(&mut self, frame: Frame<'_>) -> Result<(), PushError> {
        self.ring.push(frame)
    }

    /// A link that goes takes what it sent with it. The worker always sees it go before the next one comes.
    pub fn link(&mut self, up: bool) {
        self.up = up;
        if !up {
            self.down = true;
            self.ring.clear();
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
        !self.up && !self.down && !self.confirm && self.ring.is_empty()
    }

    pub fn next<'b>(&mut self, buffer: &'b mut [u8; MAX_FRAME]) -> Next<'b> {
        if core::mem::take(&mut self.down) {
            Next::Down
        } else if core::mem::take(&mut self.up) {
            Next::Up
        } else if core::mem::take(&mut self.confirm) {
            Next::Confirm
        } else {
            self.ring.pop(buffer).map_or(Next::Nothing, Next::Frame)
        }
    }
}
