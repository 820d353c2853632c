// SPDX-License-Identifier: Apache-2.0
//! Both protocols, from paired peers and strangers, with faults of the flashes and cuts of the power. No frame has more than one
//! answer. When all is mended, the device starts an image that is signed, and answers.
#![no_main]

use bledfu_sim::device::{Board, Device, Setup};
use bledfu_sim::nor::Fault;
use bledfu_sim::package::Package;
use bledfu_sim::power::{Power, Tear};
use bledfu_slot::Algorithm;
use bledfu_transfer::doors::Peer;
use bledfu_transfer::ring::{Channel, Frame};
use bledfu_transfer::secure_dfu::Transport;
use bledfu_transfer::service::Step;
use bledfu_wire::smp::Header;
use libfuzzer_sys::fuzz_target;
use minicbor::Encoder;
use std::sync::OnceLock;

const OLD: &[u8] = include_bytes!("../../../tests/vectors/images/small-1.0.0.signed.bin");
const NEW: &[u8] = include_bytes!("../../../tests/vectors/images/small-2.0.0.signed.bin");
const PACKAGE: &[u8] = include_bytes!("../../../tests/vectors/packages/small-2.0.0.zip");
const OBJECT: usize = 4096;
const ECHO: &[u8] = &[0xA1, 0x61, b'd', 0x62, b'h', b'i'];

fn package() -> &'static Package {
    static READ: OnceLock<Package> = OnceLock::new();
    READ.get_or_init(|| Package::read(PACKAGE).expect("a package of the vectors"))
}

fn smp(op: u8, group: u16, command: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        version: 1,
        op,
        length: payload.len() as u16,
        group,
        sequence: 1,
        command,
    };
    [&header.encode(), payload].concat()
}

fn piece(offset: usize, length: usize) -> Vec<u8> {
    let end = (offset + length).min(NEW.len());
    let mut map = Encoder::new(Vec::new());
    map.map(if offset == 0 { 4 } else { 2 }).unwrap();
    map.str("off").unwrap().u32(offset as u32).unwrap();
    map.str("data")
        .unwrap()
        .bytes(&NEW[offset.min(end)..end])
        .unwrap();
    if offset == 0 {
        map.str("len").unwrap().u32(NEW.len() as u32).unwrap();
        map.str("sha").unwrap().bytes(&[1; 32]).unwrap();
    }
    smp(2, 1, 1, &map.into_writer())
}

struct Bench {
    board: Board,
    /// None while nothing starts: a flash fails.
    device: Option<Device>,
    resets: bool,
}

impl Bench {
    /// Boots, a few times if a fault or a cut is in the way.
    fn reset(&mut self) {
        self.resets = false;
        self.device = None;
        for _ in 0..6 {
            self.board.power.power_on();
            let started = self
                .board
                .boot()
                .and_then(|report| self.board.start(&report.image));
            if let Ok(mut device) = started {
                device.link_up(Transport::Ble);
                self.device = Some(device);
                return;
            }
        }
    }

    /// Steps until nothing is left to do; how many answers came.
    fn work(&mut self) -> usize {
        let mut answers = 0;
        let Some(device) = &mut self.device else {
            return 0;
        };
        while !(self.board.power.is_off() || device.is_settled() && device.is_inbox_empty()) {
            match device.step() {
                Some(Step::Send { .. }) => answers += 1,
                Some(Step::Wait { until_ms }) => {
                    self.board.power.set_now_ns(until_ms.saturating_mul(1_000_000))
                }
                Some(Step::Reset) => self.resets = true,
                _ => {}
            }
        }
        answers
    }

    /// One write, or one frame of SMP in fragments; the number of answers.
    fn send(&mut self, channel: Channel, bytes: &[u8]) -> usize {
        let mut answers = 0;
        for bytes in bytes.chunks(244) {
            if let Some(device) = &mut self.device {
                // What finds no room is lost, as on the air.
                let _ = device.receive(Frame { channel, bytes });
            }
            answers += self.work();
        }
        answers
    }

    /// An object of `size` bytes, of which `sent` come.
    fn object(&mut self, kind: u8, bytes: &[u8], sent: usize) {
        let [low, high] = (bytes.len() as u16).to_le_bytes();
        self.send(Channel::Control, &[1, kind, low, high, 0, 0]);
        self.send(Channel::Packet, &bytes[..sent.min(bytes.len())]);
        self.send(Channel::Control, &[3]);
        self.send(Channel::Control, &[4]);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(([algorithm, peer], mut steps)) = data.split_first_chunk() else {
        return;
    };
    let setup = Setup {
        algorithm: Algorithm::ALL[usize::from(*algorithm) % Algorithm::ALL.len()],
        peer: [Peer::Trusted, Peer::Stranger][usize::from(peer % 2)],
        ..Setup::small(8)
    };
    let board = Board::new(setup, &Power::new()).unwrap();
    board.program_factory(OLD).unwrap();
    let mut bench = Bench {
        board,
        device: None,
        resets: false,
    };
    bench.reset();
    let (mut sent, mut executed) = (0, 0);
    let application = &package().application;
    for _ in 0..60 {
        let Some(([step, x, y], rest)) = steps.split_first_chunk() else {
            break;
        };
        steps = rest;
        match step % 13 {
            0..=2 => {
                let length = 64 + 12 * usize::from(*x);
                if bench.send(Channel::Smp, &piece(sent, length)) > 0 {
                    sent = (sent + length).min(NEW.len());
                }
            }
            3 => sent = 0,
            4 => {
                bench.object(1, &application.init, usize::MAX);
                executed = 0;
            }
            5 | 6 => {
                let end = (executed + OBJECT).min(application.firmware.len());
                let whole = y % 4 != 0;
                let length = if whole { usize::MAX } else { 16 * usize::from(*x) };
                bench.object(2, &application.firmware[executed..end], length);
                if whole {
                    executed = end % application.firmware.len();
                }
            }
            7 => {
                let images = [bench.board.primary_image(), bench.board.secondary_image()];
                if let Some(info) = images[usize::from(x % 2)] {
                    let mut map = Encoder::new(Vec::new());
                    map.map(2).unwrap();
                    map.str("hash").unwrap().bytes(&info.digest).unwrap();
                    map.str("confirm").unwrap().bool(y % 2 == 1).unwrap();
                    let frame = smp(2, 1, 0, &map.into_writer());
                    assert!(bench.send(Channel::Smp, &frame) <= 1, "one answer to one frame");
                }
            }
            8 => {
                // Erase, or reset.
                let frame = if x % 2 == 0 {
                    smp(2, 1, 5, &[0xA0])
                } else {
                    smp(2, 0, 5, &[0xA0])
                };
                assert!(bench.send(Channel::Smp, &frame) <= 1, "one answer to one frame");
            }
            9 => {
                let fault = match x % 4 {
                    0 => Fault::Fail,
                    1 => Fault::NoCompletion { work_done: true },
                    2 => Fault::NoCompletion { work_done: false },
                    _ => Fault::WrongBit,
                };
                let chip = if x & 4 == 0 {
                    &bench.board.external
                } else {
                    &bench.board.internal
                };
                chip.fail_at(chip.ops() + u64::from(*y % 40), fault);
            }
            10 => {
                let tear = Tear::Inside {
                    fraction: f64::from(*x) / 255.0,
                    seed: u64::from(*step),
                };
                let power = &bench.board.power;
                power.cut_at(power.ops() + u64::from(*y), tear);
            }
            11 => match (&mut bench.device, x % 4) {
                (Some(device), 0) => {
                    device.link_down();
                    device.link_up(Transport::Ble);
                }
                (Some(device), 1) => {
                    let _ = device.confirm();
                }
                (Some(device), 2) => device.allow_updates(),
                _ => bench.resets = true,
            },
            _ => {
                // Background work, or bytes of any kind.
                for _ in 0..x % 16 {
                    if let Some(device) = &mut bench.device {
                        let _ = device.step();
                    }
                }
                let length = usize::from(*y % 24).min(steps.len());
                let (bytes, rest) = steps.split_at(length);
                steps = rest;
                let channel = [Channel::Control, Channel::Packet, Channel::Smp][usize::from(x % 3)];
                bench.send(channel, bytes);
            }
        }
        if bench.resets || bench.board.power.is_off() {
            bench.reset();
        }
    }
    bench.board.internal.clear_faults();
    bench.board.external.clear_faults();
    bench.board.power.cut_at_none();
    bench.reset();
    assert!(bench.device.is_some(), "a device whose flashes work starts");
    // A fragment of a frame before may still be waited for.
    bench.board.power.advance_ns(10_000_000_000);
    assert_eq!(
        bench.send(Channel::Smp, &smp(2, 0, 0, ECHO)),
        1,
        "it still answers"
    );
});
