// SPDX-License-Identifier: Apache-2.0
extern crate std;
use super::*;
use crate::event::Admission;
use crate::inbox::Inbox;
use crate::init_check::{InitPolicy, SoftDevicePolicy};
use crate::secure_dfu::Chip;
use crate::upload::{Running, Setup, UpdateMemory};
use bledfu_slot::areas::{NoFlash, Partitions};
use bledfu_slot::verify::{ImagePolicy, SoftCrypto};
use bledfu_slot::Algorithm;
use bledfu_testkit::{Nor, Power};
use bledfu_wire::smp::Code;
use std::boxed::Box;
use std::vec::Vec;

const SMP: usize = 600;
const DELAY_MS: u32 = 5_000;
/// Reset, with an empty map.
const RESET: &[u8] = &[0x0A, 0, 0, 1, 0, 0, 1, 5, 0xA0];
const SELECT_COMMAND: &[u8] = &[6, 1];

type Flash = Partitions<Nor<4>, Nor<4>, NoFlash, Nor<4>>;

struct Device {
    service: Service<'static, Flash, SoftCrypto, SMP>,
    inbox: Inbox<[u8; 1024]>,
    now_ms: u64,
}

/// A [`Step`] without what it borrows.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    Send(Channel),
    Deliver,
    Disconnect,
    Reset,
    Wait(u64),
}

impl Device {
    fn new() -> Self {
        Self::of_a_product(|| Admission::Accept)
    }

    fn of_a_product(admit_reset: fn() -> Admission) -> Self {
        Self::with(smp::Config {
            admit_reset: Some(admit_reset),
            ..smp::Config::default()
        })
    }

    fn with(smp: smp::Config<'static>) -> Self {
        let power = Power::new();
        let mut areas = Partitions {
            primary: Nor::new('p', 8, &power),
            secondary: Nor::new('s', 8, &power),
            spare: NoFlash,
            journal: Nor::new('j', 2, &power),
        };
        let setup = Setup {
            layout: areas.layout(Algorithm::SwapOffset, 8, 32).unwrap(),
            image_policy: ImagePolicy {
                keys: &[],
                trusted_digests: &[],
                unsigned: false,
                address: None,
            },
            rules: Default::default(),
            running: Running {
                digest: [0; 8],
                fw_version: 1,
                confirmed: true,
            },
            admit: |_| Admission::Accept,
            doors: Default::default(),
            floor: Default::default(),
            must_keep_version: true,
        };
        let init = InitPolicy {
            package_keys: &[],
            signature_required: true,
            hw_version: 52,
            soft_device: SoftDevicePolicy::Absent,
            downgrade_allowed: false,
            same_version_allowed: true,
            debug_build: false,
        };
        let config = Config {
            secure_dfu: secure_dfu::Config {
                init,
                object_size: 4096,
                is_object_buffered: true,
                chip: Chip::default(),
            },
            smp,
            reset_delay_ms: DELAY_MS,
        };
        let memory = Box::leak(Box::new(UpdateMemory::new()));
        Self {
            service: Service::new(
                Upload::new(areas, SoftCrypto, setup, memory.into()),
                config,
                Box::leak(Box::new(Reassembly::new())),
            ),
            inbox: Inbox::new(),
            now_ms: 0,
        }
    }

    fn write(&mut self, channel: Channel, bytes: &[u8]) {
        self.inbox.push(Frame { channel, bytes }, self.now_ms).unwrap();
    }

    /// All steps up to the next wait.
    fn run(&mut self) -> Vec<Did> {
        let mut done = Vec::new();
        loop {
            let did = match self.service.step(&mut self.inbox, self.now_ms) {
                None | Some(Step::Hurry | Step::Tell(_)) => continue,
                Some(Step::Send { channel, .. }) => Did::Send(channel),
                Some(Step::Answer { .. }) => panic!("nobody sends datagrams here"),
                Some(Step::Deliver { .. }) => Did::Deliver,
                Some(Step::Disconnect) => Did::Disconnect,
                Some(Step::Reset) => Did::Reset,
                Some(Step::Wait { until_ms }) => Did::Wait(until_ms),
            };
            let is_wait = matches!(did, Did::Wait(_));
            done.push(did);
            if is_wait {
                return done;
            }
        }
    }

    /// Runs up to the wait before the reset that a peer asked for. That peer has disconnected.
    fn awaits_its_reset() -> Self {
        let mut device = Self::new();
        device.inbox.link_up(Transport::Ble);
        device.inbox.peer(Peer::Trusted);
        device.write(Channel::Smp, RESET);
        let closes_ms = LAST_ANSWER_MS;
        let answered = [Did::Send(Channel::Smp), Did::Deliver, Did::Wait(closes_ms)];
        assert_eq!(device.run(), answered);
        device.now_ms = closes_ms;
        assert_eq!(device.run(), [Did::Disconnect, Did::Wait(Self::RESET_MS)]);
        device.inbox.link_down();
        assert_eq!(device.run(), [Did::Wait(Self::RESET_MS)]);
        device
    }

    const RESET_MS: u64 = 2 * LAST_ANSWER_MS + DELAY_MS as u64;
}

#[test]
fn a_reset_that_the_product_refuses_is_answered_with_a_code_and_does_not_come() {
    for (admit_reset, rc) in [
        ((|| Admission::Later) as fn() -> Admission, 10),
        (|| Admission::Refuse, 11),
    ] {
        let mut device = Device::of_a_product(admit_reset);
        device.inbox.link_up(Transport::Ble);
        device.inbox.peer(Peer::Trusted);
        device.write(Channel::Smp, RESET);
        let mut answer = Vec::new();
        while answer.is_empty() {
            if let Some(Step::Send { bytes, .. }) = device.service.step(&mut device.inbox, 0) {
                answer = bytes.to_vec();
            }
        }
        let told = [b'b', b'r', b'c', rc];
        assert!(answer.windows(4).any(|bytes| bytes == told), "{answer:x?}");
        assert_eq!(device.run(), [Did::Wait(FOREVER)], "it goes on");
    }
}

#[test]
fn a_request_that_another_server_cannot_take_is_answered_with_its_reason() {
    /// Reads a file, of which bledfu knows nothing.
    const FILE: &[u8] = &[8, 0, 0, 1, 0, 8, 7, 0, 0xA0];
    for (forward, rc) in [
        ((|_| Ok(())) as smp::Forward, None),
        (|_| Err(Code::MessageSize), Some(7)),
        (|_| Err(Code::NotSupported), Some(8)),
        (|_| Err(Code::Busy), Some(10)),
    ] {
        let mut device = Device::with(smp::Config {
            forward: Some(forward),
            ..smp::Config::default()
        });
        device.inbox.link_up(Transport::Ble);
        device.write(Channel::Smp, FILE);
        let mut answer = None;
        loop {
            match device.service.step(&mut device.inbox, 0) {
                Some(Step::Send { bytes, .. }) => answer = Some(bytes.to_vec()),
                Some(Step::Wait { .. }) => break,
                _ => {}
            }
        }
        let told = rc.map(|rc| [b'b', b'r', b'c', rc]);
        assert_eq!(answer.is_some(), told.is_some(), "{answer:x?}");
        if let (Some(answer), Some(told)) = (answer, told) {
            assert_eq!(answer[6], 7, "the sequence number of the request");
            assert!(answer.windows(4).any(|bytes| bytes == told), "{answer:x?}");
        }
    }
}

#[test]
fn a_request_during_the_reset_delay_closes_the_link_and_is_answered_if_the_reset_is_refused() {
    let mut device = Device::awaits_its_reset();
    device.now_ms += 1_000;
    device.inbox.link_up(Transport::Ble);
    device.write(Channel::Control, SELECT_COMMAND);
    device.write(Channel::Control, SELECT_COMMAND);
    assert_eq!(device.run(), [Did::Disconnect, Did::Wait(Device::RESET_MS)]);
    device.inbox.link_down();
    assert_eq!(device.run(), [Did::Wait(Device::RESET_MS)]);

    device.now_ms = Device::RESET_MS;
    // The product refuses the reset.
    assert_eq!(device.run(), [Did::Reset, Did::Wait(FOREVER)]);
    device.inbox.link_up(Transport::Ble);
    device.write(Channel::Control, SELECT_COMMAND);
    assert_eq!(device.run()[0], Did::Send(Channel::Control));
}

#[test]
fn lost_packets_during_the_reset_delay_close_the_link_too() {
    let mut device = Device::awaits_its_reset();
    device.inbox.link_up(Transport::Ble);
    let packet = Frame {
        channel: Channel::Packet,
        bytes: &[0; 500],
    };
    while device.inbox.push(packet, device.now_ms).is_ok() {}
    assert_eq!(device.run(), [Did::Disconnect, Did::Wait(Device::RESET_MS)]);
}

#[test]
fn a_silent_peer_keeps_its_link_during_the_reset_delay_and_is_answered_if_the_reset_is_refused() {
    let mut device = Device::awaits_its_reset();
    device.inbox.link_up(Transport::Ble);
    assert_eq!(device.run(), [Did::Wait(Device::RESET_MS)]);
    device.now_ms = Device::RESET_MS;
    assert_eq!(
        device.service.step(&mut device.inbox, device.now_ms),
        Some(Step::Reset)
    );
    // Between the question to the product and its answer.
    device.write(Channel::Control, SELECT_COMMAND);
    assert_eq!(device.run()[0], Did::Send(Channel::Control));
}
