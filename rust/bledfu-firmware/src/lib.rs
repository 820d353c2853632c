// SPDX-License-Identifier: Apache-2.0
//! The update service of a device. Only wiring: everything that decides is in the crates it puts together.
//!
//! ```text
//!  Bluetooth thread ── push, link ──► inbox ──► worker: Target ──► Area (flash)
//!                   ◄───────────── notify ─────────┘      then: go on, close the link, or reset
//! ```
//! A C product links it as the library `rust/module`; a Rust product depends on this crate. In both, C starts the worker
//! thread, which calls `bledfu_rs_run`.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

mod inbox;
mod options;
mod start;
#[cfg(test)]
mod tests;

use bledfu_slot::persistent::Persistent;
use bledfu_slot::verify::SoftCrypto;
use bledfu_slot::Layout;
use bledfu_transfer::note;
use bledfu_transfer::ring::{Channel, Frame, PushError, MAX_FRAME};
use bledfu_transfer::secure_dfu::{Answer, Then, Transport, LAST_ANSWER_MS};
use bledfu_transfer::smp::ANSWER_SIZE;
use bledfu_transfer::target::Target;
use bledfu_wire::secure_dfu::{Reply, ResultCode};
use bledfu_wire::smp::Failure;
use bledfu_zephyr::flash::Area;
use bledfu_zephyr::worker::{self, Event, NotTaken, Service};
use bledfu_zephyr::{ble, export_entry_points, log as zephyr_log, ZephyrError};
use inbox::{Inbox, Next};

/// How long the worker sleeps when there is nothing to do, before it looks at the clock.
const TICK_MS: u32 = 1000;
/// How long the last answer may take to leave; the update is staged, so it is installed all the same.
const DELIVERY_MS: u32 = 2000;

/// In the code of a refusal (`bledfu.h`): it was over SMP; then the group, and the error.
const SMP_REFUSAL: u32 = 1 << 31;
/// The group of errors of SMP itself.
const SMP_LEVEL: u8 = 0xFF;

static INBOX: worker::Shared<Inbox> = worker::Shared::new(Inbox::new());

/// The service, as C sees it.
pub struct Firmware;

export_entry_points!(Firmware);

impl Service for Firmware {
    fn push(channel: u8, bytes: &[u8]) -> Result<(), NotTaken> {
        let channel = match channel {
            0 => Channel::Control,
            1 => Channel::Packet,
            _ => Channel::Smp,
        };
        match INBOX.with(|inbox| inbox.push(Frame { channel, bytes })) {
            Ok(()) => {
                worker::wake();
                Ok(())
            }
            Err(PushError::Full) => Err(NotTaken::Full),
            Err(PushError::TooLong) => Err(NotTaken::TooLong),
        }
    }

    fn link(up: bool) {
        INBOX.with(|inbox| inbox.link(up));
        worker::wake();
    }

    #[inline(never)]
    fn confirm() {
        INBOX.with(Inbox::confirm);
        worker::wake();
    }

    fn run() {
        zephyr_log::init(options::LOG_LEVEL);
        let (package, image) = (
            start::keys(worker::Keys::Package),
            start::keys(worker::Keys::Image),
        );
        // Used where it is: a move would need the stack twice.
        match &mut Device::start(options::ALGORITHM, &package, &image) {
            Ok(device) => {
                device.ready();
                loop {
                    device.turn();
                }
            }
            Err(error) => {
                note::error(format_args!("no updates with this build: {error}"));
                worker::tell(Event::Failed);
            }
        }
    }
}

/// As the transfer wraps its own areas: one copy of the code for all three.
type Primary = Persistent<Area>;

/// The worker: owner of all three partitions.
struct Device<'k> {
    target: Target<'k, Primary, Area, Area, SoftCrypto, { options::SMP_FRAME_SIZE }>,
    layout: Layout,
    patience_ms: u32,
}

impl Device<'_> {
    /// One thing: what the other thread left in the inbox, else one erase, else sleep.
    #[inline(never)]
    fn turn(&mut self) {
        let mut buffer = [0; MAX_FRAME];
        let then = match INBOX.with(|inbox| inbox.next(&mut buffer)) {
            Next::Up => {
                self.target.link_up(Transport::Ble, worker::uptime_ms());
                Then::Continue
            }
            Next::Down => {
                self.target.link_down();
                Then::Continue
            }
            Next::Confirm => {
                self.confirm();
                Then::Continue
            }
            Next::Frame(frame) if frame.channel == Channel::Smp => self.handle_smp(frame.bytes),
            Next::Frame(frame) => self.handle(frame),
            Next::Lost(packets) => {
                note::warn(format_args!(
                    "{packets} packets are lost: the peer sent more than it may before it waits"
                ));
                deliver(&self.target.lost(packets))
            }
            Next::Nothing => {
                worker::wait(self.patience_ms);
                self.patience_ms = if INBOX.with(|inbox| inbox.is_empty()) && !self.target.idle() {
                    TICK_MS
                } else {
                    0
                };
                self.target.tick(worker::uptime_ms())
            }
        };
        match then {
            Then::Continue => {}
            Then::Disconnect => ble::disconnect(),
            Then::Reset => self.end(),
        }
    }

    #[inline(never)]
    fn handle(&mut self, frame: Frame<'_>) -> Then {
        let before = self.target.secure_dfu().incoming().copied();
        let held = self.target.upload().committed();
        let answer = self.target.handle(frame, worker::uptime_ms());
        let then = deliver(&answer);
        if let Some(Reply::Refused { opcode, code }) = answer.reply {
            let extended = match code {
                ResultCode::Extended(extended) => extended as u8,
                _ => 0,
            };
            let code = u32::from(opcode) << 16 | u32::from(extended) << 8 | u32::from(code.byte());
            worker::tell(Event::Refused { code });
        }
        let Some(incoming) = self.target.secure_dfu().incoming().copied() else {
            return then;
        };
        let committed = self.target.upload().committed();
        if before.is_none() {
            ble::hurry();
        } else if committed != held {
            worker::tell(Event::Progress {
                received: committed,
                size: incoming.size,
            });
        }
        if then == Then::Reset {
            worker::tell(Event::Staged {
                size: incoming.size,
                fw_version: incoming.fw_version,
            });
        }
        then
    }

    /// As [`Device::handle`], for a fragment of an SMP frame.
    #[inline(never)]
    fn handle_smp(&mut self, fragment: &[u8]) -> Then {
        let (before, held) = (self.target.incoming(), self.target.upload().committed());
        let was_staged = self.target.upload().is_staged();
        let was_confirmed = self.target.upload().running().confirmed;
        let mut out = [0; ANSWER_SIZE];
        let Some(answer) = self.target.handle_smp(fragment, worker::uptime_ms(), &mut out) else {
            return Then::Continue;
        };
        let sent = out.get(..answer.length).map(|bytes| send(bytes, ble::notify_smp));
        if let Some(failure) = answer.failure {
            let (group, number) = match failure {
                Failure::Smp(code) => (SMP_LEVEL, code as u8),
                Failure::Os(error) => (0, error as u8),
                Failure::Image(error) => (1, error as u8),
            };
            let code = SMP_REFUSAL | u32::from(group) << 8 | u32::from(number);
            worker::tell(Event::Refused { code });
        }
        let (now, upload) = (self.target.incoming(), self.target.upload());
        if let Some(size) = now {
            if before != now {
                ble::hurry();
            }
            if upload.committed() != held {
                let received = upload.committed();
                worker::tell(Event::Progress { received, size });
            }
            if upload.is_staged() && !was_staged {
                // SMP does not count firmware versions.
                worker::tell(Event::Staged { size, fw_version: 0 });
            }
        }
        if upload.running().confirmed && !was_confirmed {
            worker::tell(Event::Confirmed { done: true });
        }
        // The next frame must not wait for an erase in its own time.
        if self.target.is_behind() {
            self.target.idle();
        }
        match (answer.then, sent) {
            (Then::Continue, Some(Err(()))) => Then::Disconnect,
            (then, _) => then,
        }
    }

    /// The self-test passed.
    fn confirm(&mut self) {
        let done = match self.target.confirm() {
            Ok(()) => true,
            Err(error) => {
                note::error(format_args!("the image could not be confirmed: {error}"));
                false
            }
        };
        worker::tell(Event::Confirmed { done });
    }

    /// The last answer is delivered, then the link is closed, then the device resets, if the product agrees.
    #[inline(never)]
    fn end(&mut self) {
        if let Err(error) = ble::delivered(DELIVERY_MS) {
            note::warn(format_args!("the last answer may not have arrived: {error}"));
        }
        worker::sleep_ms(LAST_ANSWER_MS as u32);
        ble::disconnect();
        worker::sleep_ms(LAST_ANSWER_MS as u32 + options::RESET_DELAY_MS);
        if worker::tell(Event::Resetting) {
            note::info(format_args!("reset"));
            worker::reset();
        }
        note::info(format_args!(
            "the product resets when it likes; then the update is installed"
        ));
    }
}

/// Sends the answer; a peer that does not take it is disconnected, unless all is done anyhow.
fn deliver(answer: &Answer) -> Then {
    match answer
        .reply
        .map(|reply| send(reply.encode().as_bytes(), ble::notify))
    {
        Some(Err(())) if answer.then == Then::Continue => Then::Disconnect,
        _ => answer.then,
    }
}

/// Notifies the peer. One that has gone while its request was handled must not leave its answer to the next one.
#[inline(never)]
fn send(bytes: &[u8], notify: fn(&[u8]) -> Result<(), ZephyrError>) -> Result<(), ()> {
    if INBOX.with(|inbox| inbox.is_link_gone()) {
        return Ok(());
    }
    notify(bytes).map_err(|error| note::warn(format_args!("an answer was not delivered: {error}")))
}
