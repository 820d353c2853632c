// SPDX-License-Identifier: Apache-2.0
//! A peer that sends anything in any order, to a device with random power cuts, link drops and flash failures. There is
//! never a panic, every request has one well-formed answer, nothing unverified is staged, and the device boots.

mod harness;

use bledfu_sim::device::Setup;
use bledfu_sim::nor::Fault;
use bledfu_transfer::secure_dfu::{Then, Transport};
use bledfu_wire::secure_dfu::{op, Reply};
use harness::*;
use proptest::prelude::*;

/// One event.
#[derive(Clone, Debug)]
enum Step {
    /// Any bytes on the control point.
    Control(Vec<u8>),
    /// Any bytes on the packet characteristic.
    Packet(Vec<u8>),
    /// A valid request with any parameters.
    Create {
        kind: u8,
        size: u32,
    },
    Receipts(u16),
    Checksum,
    Execute,
    Select(u8),
    Abort,
    /// A whole init packet: which one, in which packets; executed or not.
    Init {
        which: usize,
        size: usize,
        execute: bool,
    },
    /// Create of the next object.
    CreateDue,
    /// This many bytes of the image, from the device's position.
    Data {
        length: usize,
        size: usize,
    },
    /// The next object, whole, and Execute.
    Object {
        size: usize,
    },
    DropLink,
    Reset,
    Idle,
    /// The application confirms the running image.
    Confirm,
    /// The flash operation after this many others fails.
    Fault {
        after: u64,
        fault: Fault,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sizes = prop_oneof![
        Just(0),
        Just(139),
        Just(512),
        Just(513),
        Just(904),
        Just(4096),
        Just(8192),
        any::<u32>(),
    ];
    let packet = prop_oneof![Just(20_usize), Just(244), Just(495), 1..512_usize];
    let faults = prop_oneof![
        Just(Fault::Fail),
        Just(Fault::WrongBit),
        any::<bool>().prop_map(|work_done| Fault::NoCompletion { work_done }),
    ];
    let step = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..32).prop_map(Step::Control),
        1 => (0..=0x10_u8, prop::collection::vec(any::<u8>(), 0..8)).prop_map(|(op, mut rest)| {
            rest.insert(0, op);
            Step::Control(rest)
        }),
        2 => prop::collection::vec(any::<u8>(), 0..512).prop_map(Step::Packet),
        3 => (0..4_u8, sizes).prop_map(|(kind, size)| Step::Create { kind, size }),
        2 => prop_oneof![0..20_u16, any::<u16>()].prop_map(Step::Receipts),
        2 => Just(Step::Checksum),
        4 => Just(Step::Execute),
        2 => (0..4_u8).prop_map(Step::Select),
        1 => Just(Step::Abort),
        6 => (0..INITS, packet.clone(), prop::bool::weighted(0.9))
            .prop_map(|(which, size, execute)| Step::Init { which, size, execute }),
        4 => Just(Step::CreateDue),
        6 => (0..5000_usize, packet.clone()).prop_map(|(length, size)| Step::Data { length, size }),
        10 => packet.prop_map(|size| Step::Object { size }),
        2 => Just(Step::DropLink),
        2 => Just(Step::Reset),
        2 => Just(Step::Idle),
        1 => Just(Step::Confirm),
        1 => (0..30_u64, faults).prop_map(|(after, fault)| Step::Fault { after, fault }),
    ];
    prop::collection::vec(step, 1..40)
}

/// Kinds of init packets in [`init`].
const INITS: usize = 6;

/// Mostly correct ones: the image, then P (not an image), an older version, a wrong signature, garbage.
fn init(which: usize) -> Vec<u8> {
    match which {
        0 | 1 => init_for(update_image()),
        2 => packet_i(),
        3 => {
            let mut fields = fields_for(update_image());
            fields.fw_version = Some(0);
            fields.signed(&package_key())
        }
        4 => {
            let mut packet = packet_i();
            packet[100] ^= 4;
            packet
        }
        _ => vec![0x5A; 77],
    }
}

/// The reply, if these bytes are exactly one: some clients reject any other length.
fn exact(bytes: &[u8]) -> Option<Reply> {
    let reply = Reply::decode(bytes).ok()?;
    (reply.encode().as_bytes() == bytes).then_some(reply)
}

/// The peer, and what it may expect.
struct Random {
    peer: Peer,
    serial: bool,
}

impl Random {
    fn new(serial: bool, object_size: u32) -> Self {
        let peer = match serial {
            true => Peer::serial(131),
            false => Peer::with(Setup {
                object_size,
                ..setup()
            }),
        };
        Self { peer, serial }
    }

    /// Sends a request; it has exactly one answer, to this request, unless it is of a kind without one.
    fn request(&mut self, bytes: &[u8]) -> Option<Reply> {
        let mut answers = self.peer.control(bytes);
        let opcode = bytes.first().copied();
        let write = self.serial && opcode == Some(op::WRITE);
        if opcode.is_none() || bytes == [op::ABORT] {
            assert!(answers.is_empty(), "{}: {answers:?}", show(bytes));
            if opcode.is_some() {
                assert_eq!(self.peer.then, Then::Disconnect);
                self.peer.reconnect();
            }
            return None;
        }
        if write && answers.is_empty() {
            return None;
        }
        assert_eq!(answers.len(), 1, "answers to {}: {answers:?}", show(bytes));
        let answer = hex(&answers.remove(0));
        let reply = exact(&answer);
        assert!(
            reply.is_some(),
            "{} is answered with {}",
            show(bytes),
            show(&answer)
        );
        let about = if write { Some(op::CHECKSUM) } else { opcode };
        assert_eq!(
            reply.map(|reply| reply.opcode()),
            about,
            "{}: {}",
            show(bytes),
            show(&answer)
        );
        reply
    }

    /// Packets cause nothing but receipts.
    fn packets(&mut self, bytes: &[u8], size: usize) {
        // A serial request is one byte longer than its data.
        let size = if self.serial { size.min(511) } else { size };
        for receipt in self.peer.packets(bytes, size) {
            let reply = exact(&hex(&receipt));
            assert!(matches!(reply, Some(Reply::Checksum { .. })), "{receipt}");
        }
    }

    /// The position in the image that the device reports.
    fn offset(&mut self) -> usize {
        match self.request(&[op::SELECT, 2]) {
            Some(Reply::Selected { offset, .. }) => offset as usize,
            other => panic!("Select: {other:?}"),
        }
    }

    fn create_due(&mut self) -> usize {
        let at = self.offset() / OBJECT * OBJECT;
        let length = OBJECT.min(P_SIZE.saturating_sub(at));
        self.request(&hex(&create_data(length)));
        length
    }

    fn data(&mut self, length: usize, size: usize) {
        let at = self.offset().min(P_SIZE);
        let end = (at + length).min(P_SIZE);
        self.packets(&update_image()[at..end], size);
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Control(bytes) => {
                self.request(bytes);
            }
            Step::Packet(bytes) => self.packets(bytes, 512),
            Step::Create { kind, size } => {
                let mut request = vec![op::CREATE, *kind];
                request.extend_from_slice(&size.to_le_bytes());
                self.request(&request);
            }
            Step::Receipts(every) => {
                let [low, high] = every.to_le_bytes();
                self.request(&[op::SET_RECEIPTS, low, high]);
            }
            Step::Checksum => {
                self.request(&[op::CHECKSUM]);
            }
            Step::Execute => {
                self.request(&[op::EXECUTE]);
            }
            Step::Select(kind) => {
                self.request(&[op::SELECT, *kind]);
            }
            Step::Abort => {
                self.request(&[op::ABORT]);
            }
            Step::Init { which, size, execute } => {
                let init = init(*which);
                self.request(&hex(&create_command(init.len())));
                self.packets(&init, *size);
                if *execute {
                    self.request(&[op::EXECUTE]);
                }
            }
            Step::CreateDue => {
                self.create_due();
            }
            Step::Data { length, size } => self.data(*length, *size),
            Step::Object { size } => {
                let length = self.create_due();
                self.data(length, *size);
                self.request(&[op::EXECUTE]);
            }
            Step::DropLink => self.peer.reconnect(),
            Step::Reset => {
                self.peer.board.external.clear_faults();
                self.peer.reboot();
            }
            Step::Idle => self.peer.idle(),
            Step::Confirm => {
                self.peer.board.external.clear_faults();
                self.peer.device().confirm().expect("a flash that works");
            }
            Step::Fault { after, fault } => {
                let external = &self.peer.board.external;
                external.fail_at(external.ops() + after, *fault);
            }
        }
    }

    /// What must hold after every event.
    fn check(&mut self) {
        let board = &self.peer.board;
        assert!(board.primary_image().is_some(), "the device boots");
        if board.is_pending().expect("a trailer") {
            let image = board
                .secondary_image()
                .expect("what is staged is an image this device may run");
            assert_eq!(image.header.version, version(2), "and the one that was sent");
        }
        if self.peer.then == Then::Reset {
            assert!(board.is_pending().expect("a trailer"), "a reset is for an update");
            self.peer.board.external.clear_faults();
            self.peer.reboot();
        }
        if !self.peer.device().is_confirmed() {
            let kept = self.peer.board.secondary_image();
            assert!(kept.is_some(), "an image on trial has one to go back to");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_peer_can_do_harm(
        steps in steps(),
        serial in any::<bool>(),
        object_size in prop_oneof![Just(4096u32), Just(16384)],
    ) {
        let mut random = Random::new(serial, object_size);
        for step in &steps {
            random.take(step);
            random.check();
        }
        // Whatever happened: the next update succeeds.
        let mut peer = random.peer;
        peer.board.external.clear_faults();
        if serial {
            peer.set_transport(Transport::Ble);
        }
        if !peer.device().is_confirmed() {
            peer.device().confirm().expect("a flash that works");
        }
        peer.update_and_confirm();
    }
}
