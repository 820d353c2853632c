// SPDX-License-Identifier: Apache-2.0
//! Events for the product. They are created where they happen and wait here until the service hands them out.

use bledfu_wire::secure_dfu::ResultCode;
use bledfu_wire::smp::Failure;
use heapless::Deque;

/// Maximum number of events for one request: the last *Execute* creates two.
const MAX_EVENTS: usize = 4;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The service accepts requests.
    Ready {
        /// The running image is confirmed.
        confirmed: bool,
        /// Its firmware version, as in packages.
        fw_version: u32,
    },
    /// More of the image is in flash and was read back.
    Progress {
        /// Number of the image.
        image: u8,
        /// Bytes received.
        received: u32,
        /// Bytes to receive.
        size: u32,
    },
    /// The image is complete, verified and marked: the next reset installs it.
    Staged {
        /// Number of the image.
        image: u8,
        /// Bytes received; 0 when the image was in the slot before the device started.
        size: u32,
        /// Firmware version of the package; 0 over SMP, which has none.
        fw_version: u32,
    },
    /// A request was refused.
    Refused(Refusal),
    /// The running image was confirmed, or could not be.
    Confirmed {
        /// Whether it succeeded.
        done: bool,
    },
}

/// The error that the peer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Over Secure DFU.
    SecureDfu {
        /// The request.
        opcode: u8,
        /// The result code.
        code: ResultCode,
    },
    /// Over SMP.
    Smp(Failure),
}

/// An image that a peer wants to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Number of the image.
    pub image: u8,
    /// Bytes to receive.
    pub size: u32,
    /// Firmware version of the package; 0 over SMP, which has none.
    pub fw_version: u32,
}

/// Waiting events.
#[derive(Debug, Default)]
pub(crate) struct Events(Deque<Event, MAX_EVENTS>);

impl Events {
    pub(crate) fn push(&mut self, event: Event) {
        // An SMP frame may complete several sectors: the last progress includes the others. A product may confirm more often
        // than events are taken: only how the last attempt ended is still true.
        match (event, self.0.back_mut()) {
            (Event::Progress { .. }, Some(last @ Event::Progress { .. }))
            | (Event::Confirmed { .. }, Some(last @ Event::Confirmed { .. })) => {
                *last = event;
                return;
            }
            _ => {}
        }
        let pushed = self.0.push_back(event);
        debug_assert!(pushed.is_ok(), "events are taken after each request");
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.0.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirming_again_and_again_keeps_how_the_last_attempt_ended() {
        let mut events = Events::default();
        for attempt in 0..3 * MAX_EVENTS {
            events.push(Event::Confirmed { done: attempt % 2 == 0 });
        }
        assert_eq!(events.pop(), Some(Event::Confirmed { done: false }));
        assert!(events.is_empty());
    }
}
