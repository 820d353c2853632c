// SPDX-License-Identifier: Apache-2.0
//! The update service of a device. This crate is wiring only: it performs the steps of [`bledfu_transfer::service`],
//! and all decisions are made in the crates it combines.
//!
//! ```text
//!  Bluetooth thread ── push, link ──► inbox ──► worker: Service::step ──► Area (flash)
//!                   ◄───────────── notify ─────────────┘  Step: send, tell, hurry, wait, close the link, reset
//! ```
//! A C product links it as the library `rust/module`; a Rust product depends on this crate. In both cases C starts the
//! worker thread, which calls `bledfu_rs_run`.
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

mod buttonless;
// Of the build script, which cannot have tests.
#[cfg(test)]
#[path = "../features.rs"]
mod features;
mod options;
mod platform;
mod start;
#[cfg(test)]
mod tests;

use bledfu_slot::areas::Partitions;
use bledfu_text::{text, words};
use bledfu_transfer::doors::Peer;
use bledfu_transfer::event::{self, Refusal};
use bledfu_transfer::inbox::{Inbox, Inlet, Next};
use bledfu_transfer::note;
use bledfu_transfer::ring::{self, smp_ring_size, Channel, Frame, PushError, MAX_FRAME};
use bledfu_transfer::secure_dfu::Transport;
use bledfu_transfer::service::{Service, Step};
use bledfu_wire::secure_dfu::ResultCode;
use bledfu_wire::smp::Failure;
use bledfu_zephyr::flash::Area;
use bledfu_zephyr::worker::{self, Answer, Event, NotTaken, Service as EntryPoints};
use bledfu_zephyr::{ble, export_entry_points, log as zephyr_log, ZephyrError};

/// Longest packet in bytes at the smallest MTU, 23.
const SHORTEST_PACKET: usize = 20;

// A ring that holds all that a peer may send before it must wait never loses a packet; a larger object needs a ring that
// lasts for one erase.
const _: () = assert!(
    ring::suits(options::RING_SIZE, options::OBJECT_SIZE as usize, SHORTEST_PACKET),
    "CONFIG_BLEDFU_RING_SIZE holds neither one object in packets of 20 bytes and the request behind it, nor 8192 bytes: \
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

/// In the code of a refusal (`bledfu.h`): marks one over SMP; then the group, and the error.
const SMP_REFUSAL: u32 = 1 << 31;
/// The group of errors of SMP itself.
const SMP_LEVEL: u8 = 0xFF;

type RingBytes = ring::Bytes<{ options::RING_SIZE }, { options::SMP_FRAME_SIZE != 0 }>;

static INBOX: worker::Shared<Inbox<RingBytes>> = worker::Shared::new(Inbox::of_bytes());

/// The worker's side of the inbox, behind its spin lock.
struct SharedInbox;

impl Inlet for SharedInbox {
    fn next(&mut self, buffer: &mut [u8; MAX_FRAME]) -> Option<Next> {
        let next = INBOX.with(|inbox| inbox.next(buffer));
        if let Some(Next::Frame(..)) = next {
            worker::made_room();
        }
        next
    }

    fn is_link_gone(&self) -> bool {
        INBOX.with(|inbox| inbox.is_link_gone())
    }
}

/// The service as C sees it.
pub struct Firmware;

export_entry_points!(Firmware);

impl EntryPoints for Firmware {
    fn push(channel: u8, bytes: &[u8], may_wait: bool) -> Result<(), NotTaken> {
        let channel = match channel {
            0 => Channel::Control,
            1 => Channel::Packet,
            2 if options::SMP_FRAME_SIZE != 0 => Channel::Smp,
            _ => return Err(NotTaken::NoChannel),
        };
        let now_ms = worker::uptime_ms();
        if buttonless::VARIANT.is_some() {
            buttonless::heard(now_ms);
        }
        let frame = Frame { channel, bytes };
        let pushed = INBOX.with(|inbox| match may_wait {
            true => inbox.try_push(frame, now_ms),
            false => inbox.push(frame, now_ms),
        });
        match pushed {
            Ok(()) => {
                worker::wake();
                Ok(())
            }
            Err(PushError::Full) => Err(NotTaken::Full),
            Err(PushError::Lost) => Err(NotTaken::Lost),
            Err(PushError::TooLong) => Err(NotTaken::TooLong),
        }
    }

    fn link(up: bool) {
        if buttonless::VARIANT.is_some() {
            match up {
                true => buttonless::heard(worker::uptime_ms()),
                false => buttonless::gone(worker::uptime_ms()),
            }
        }
        INBOX.with(|inbox| match up {
            true => inbox.link_up(Transport::Ble),
            false => inbox.link_down(),
        });
        worker::wake();
    }

    fn peer(trusted: bool) {
        INBOX.with(|inbox| {
            inbox.peer(match trusted {
                true => Peer::Trusted,
                false => Peer::Stranger,
            });
        });
        worker::wake();
    }

    #[inline(never)]
    fn allow_updates() {
        INBOX.with(Inbox::allow_updates);
        worker::wake();
    }

    #[inline(never)]
    fn confirm() {
        INBOX.with(Inbox::confirm);
        worker::wake();
    }

    fn run() {
        zephyr_log::init(options::LOG_LEVEL);
        if buttonless::VARIANT.is_some() {
            buttonless::begin(worker::uptime_ms());
        }
        let (package, image) = (
            start::keys(worker::Keys::Package),
            start::keys(worker::Keys::Image),
        );
        let mut memory = start::Memory::new();
        // Created where it is used: a move would need the stack twice.
        match &mut Device::start(options::ALGORITHM, &package, &image, &mut memory) {
            Ok(device) => {
                device.service.start();
                loop {
                    device.turn();
                }
            }
            Err(error) => {
                note::error(&text!("no updates with this build: {}", *error));
                worker::tell(Event::Failed);
                // The application can at least do its work.
                if buttonless::VARIANT.is_some() && bledfu_zephyr::buttonless::is_update_mode() {
                    worker::reset();
                }
            }
        }
    }

    /// The running image is confirmed, which needs its own slot only. What peers sent is dropped.
    #[inline(never)]
    fn without_service() {
        let mut dropped = [0; MAX_FRAME];
        while let Some(next) = SharedInbox.next(&mut dropped) {
            if next == Next::Confirm {
                let done = match start::confirm_alone(options::ALGORITHM) {
                    Ok(()) => true,
                    Err(error) => {
                        note::error(&text!("the image could not be confirmed: {}", error));
                        false
                    }
                };
                worker::tell(Event::Confirmed { done });
            }
        }
    }

    // Without buttonless entry nothing calls these. What they call would still be compiled, and change how the rest is.
    fn buttonless(bytes: &[u8], is_bonded: bool, reached: [u8; 7]) -> bool {
        buttonless::VARIANT.is_some() && buttonless::take(bytes, is_bonded, reached)
    }

    fn buttonless_over(is_gone: bool) {
        if buttonless::VARIANT.is_some() {
            buttonless::over(is_gone);
        }
    }

    fn update_mode(retained: &[u8]) -> Option<worker::UpdateMode> {
        buttonless::VARIANT.and_then(|_| buttonless::retained(retained))
    }
}

/// The partitions, each with one owner.
type Areas = Partitions<Area, Area, Area, Area>;

/// The worker: owner of all partitions.
struct Device<'k> {
    service: Service<'k, Areas, platform::Platform, { options::SMP_FRAME_SIZE }>,
}

impl Device<'_> {
    /// Performs one step of the service.
    #[inline(never)]
    fn turn(&mut self) {
        let now_ms = worker::uptime_ms();
        if buttonless::VARIANT.is_some() {
            let upload = self.service.upload();
            if let Some(due) = buttonless::turn(upload.running().confirmed && !upload.is_staged(), now_ms) {
                due.reset();
            }
        }
        if options::SMP_FORWARD {
            self.pass_answers_on();
        }
        let sent = match self.service.step(&mut SharedInbox, now_ms) {
            None => Ok(()),
            Some(Step::Send { channel, bytes }) => match channel {
                Channel::Smp => ble::notify_smp(bytes),
                Channel::Control | Channel::Packet => ble::notify(bytes),
            },
            // The answer to a datagram; no transport here has them.
            Some(Step::Answer { .. }) => Ok(()),
            Some(Step::Tell(event)) => {
                tell(event);
                Ok(())
            }
            Some(Step::Hurry) => {
                ble::hurry();
                Ok(())
            }
            Some(Step::Deliver { until_ms }) => {
                if let Err(error) = ble::delivered(left(until_ms, now_ms)) {
                    note::warn(&text!("the last answer may not have arrived: {}", error));
                }
                Ok(())
            }
            Some(Step::Wait { until_ms }) => {
                let until_ms = match buttonless::VARIANT {
                    Some(_) => until_ms.min(buttonless::ends_ms()),
                    None => until_ms,
                };
                worker::wait(left(until_ms, now_ms));
                Ok(())
            }
            Some(Step::Disconnect) => {
                ble::disconnect();
                Ok(())
            }
            Some(Step::Reset) => {
                if worker::tell(Event::Resetting) == Answer::GoOn {
                    note::info(&words!("reset"));
                    worker::reset();
                }
                Ok(())
            }
        };
        if let Err(error) = sent {
            self.not_sent(&error);
        }
    }

    /// Answers of Zephyr's MCUmgr. Only this thread sends, so frames do not mix.
    #[inline(never)]
    fn pass_answers_on(&mut self) {
        while let Some(sent) = ble::notify_smp_forwarded() {
            if let Err(error) = sent {
                self.not_sent(&error);
            }
        }
    }

    #[inline(never)]
    fn not_sent(&mut self, error: &ZephyrError) {
        note::warn(&text!("an answer was not delivered: {}", error));
        self.service.not_sent();
    }
}

/// Milliseconds until then; the maximum for C if there is no deadline.
fn left(until_ms: u64, now_ms: u64) -> u32 {
    u32::try_from(until_ms.saturating_sub(now_ms)).unwrap_or(u32::MAX)
}

/// Passes an event to the product, in the terms of `bledfu.h`.
#[inline(never)]
fn tell(event: event::Event) {
    if buttonless::VARIANT.is_some() && matches!(event, event::Event::Staged { .. }) {
        buttonless::staged();
    }
    worker::tell(match event {
        event::Event::Ready {
            confirmed,
            fw_version,
        } => Event::Ready {
            confirmed,
            fw_version,
        },
        event::Event::Progress { received, size, .. } => Event::Progress { received, size },
        event::Event::Staged { size, fw_version, .. } => Event::Staged { size, fw_version },
        event::Event::Refused(refusal) => Event::Refused {
            code: refusal_code(refusal),
        },
        event::Event::Confirmed { done } => Event::Confirmed { done },
    });
}

/// A refusal as one number (`bledfu.h`).
fn refusal_code(refusal: Refusal) -> u32 {
    match refusal {
        Refusal::SecureDfu { opcode, code } => {
            let extended = match code {
                ResultCode::Extended(extended) => extended as u8,
                _ => 0,
            };
            u32::from(opcode) << 16 | u32::from(extended) << 8 | u32::from(code.byte())
        }
        Refusal::Smp(failure) => {
            let (group, number) = match failure {
                Failure::Smp(code) => (SMP_LEVEL, code as u8),
                Failure::Os(error) => (0, error as u8),
                Failure::Image(error) => (1, error as u8),
            };
            SMP_REFUSAL | u32::from(group) << 8 | u32::from(number)
        }
    }
}
