// SPDX-License-Identifier: Apache-2.0
//! Any sequence of frames, disconnects and resets against the simulated device with its flashes. Each frame has at most one
//! answer, an echo works afterwards, and the device always starts an image that a key of its has signed.
#![no_main]

use bledfu_sim::device::{Board, Device, Setup};
use bledfu_sim::power::Power;
use bledfu_transfer::ring::{Channel, Frame};
use bledfu_transfer::secure_dfu::Transport;
use bledfu_transfer::service::Step;
use bledfu_wire::smp::Header;
use libfuzzer_sys::fuzz_target;
use minicbor::Encoder;

const OLD: &[u8] = include_bytes!("../../../tests/vectors/images/small-1.0.0.signed.bin");
const NEW: &[u8] = include_bytes!("../../../tests/vectors/images/small-2.0.0.signed.bin");
const SECTORS: u32 = 8;

/// The fuzzer's bytes, taken from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn up_to(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

fn frame(op: u8, group: u16, command: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        version: 1,
        op,
        length: payload.len() as u16,
        group,
        sequence: 0x42,
        command,
    };
    [&header.encode(), payload].concat()
}

/// A piece of the new image; with its length and a name at its beginning.
fn piece(offset: usize, length: usize, name: &[u8]) -> Vec<u8> {
    let data = &NEW[offset.min(NEW.len())..(offset + length).min(NEW.len())];
    let mut map = Encoder::new(Vec::new());
    map.map(if offset == 0 { 4 } else { 2 }).unwrap();
    map.str("off").unwrap().u32(offset as u32).unwrap();
    map.str("data").unwrap().bytes(data).unwrap();
    if offset == 0 {
        map.str("len").unwrap().u32(NEW.len() as u32).unwrap();
        map.str("sha").unwrap().bytes(name).unwrap();
    }
    frame(2, 1, 1, &map.into_writer())
}

fn choose(hash: &[u8], confirm: bool) -> Vec<u8> {
    let mut map = Encoder::new(Vec::new());
    map.map(2).unwrap();
    map.str("hash").unwrap().bytes(hash).unwrap();
    map.str("confirm").unwrap().bool(confirm).unwrap();
    frame(2, 1, 0, &map.into_writer())
}

struct Bench {
    board: Board,
    device: Device,
    resets: bool,
}

impl Bench {
    fn new() -> Self {
        let board = Board::new(Setup::small(SECTORS), &Power::new()).unwrap();
        board.program_factory(OLD).unwrap();
        let device = Self::start(&board);
        Self {
            board,
            device,
            resets: false,
        }
    }

    /// Fails when nothing starts: no sequence of frames may lead there.
    fn start(board: &Board) -> Device {
        let report = board.boot().expect("the device always boots");
        let mut device = board.start(&report.image).expect("and the application starts");
        device.link_up(Transport::Ble);
        device
    }

    fn reset(&mut self) {
        self.device = Self::start(&self.board);
        self.resets = false;
    }

    /// Steps until nothing is left of what was sent; the answers.
    fn work(&mut self) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        while !self.device.is_settled() || !self.device.is_inbox_empty() {
            match self.device.step() {
                Some(Step::Send { bytes, .. }) => answers.push(bytes.to_vec()),
                Some(Step::Wait { until_ms }) => {
                    self.board.power.set_now_ns(until_ms.saturating_mul(1_000_000));
                }
                Some(Step::Reset) => self.resets = true,
                _ => {}
            }
        }
        answers
    }

    /// Sends a frame in fragments of 244 bytes; the answer, if there is one.
    fn send(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let mut answers = Vec::new();
        for bytes in frame.chunks(244) {
            // A full ring drops frames whole, as on the air.
            let _ = self.device.receive(Frame {
                channel: Channel::Smp,
                bytes,
            });
            answers.extend(self.work());
        }
        assert!(answers.len() <= 1, "one answer to one frame");
        let answer = answers.pop()?;
        let header = Header::decode(&answer).expect("an answer has a header");
        assert_eq!(header.frame_length(), answer.len());
        Some(answer)
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(bytes);
    let mut bench = Bench::new();
    let mut sent = 0;
    while let Some(step) = bytes.byte() {
        match step % 12 {
            0 => {
                let length = usize::from(bytes.byte().unwrap_or_default());
                let _ = bench.send(bytes.up_to(length));
            }
            1 => {
                let (op, group, command) =
                    (step / 12 % 4, bytes.byte().unwrap_or_default() % 3, bytes.byte());
                let payload = bytes.up_to(usize::from(step));
                let _ = bench.send(&frame(
                    op,
                    group.into(),
                    command.unwrap_or_default() % 10,
                    payload,
                ));
            }
            // The next piece, one again, and one from anywhere.
            2..=5 => {
                let length = 32 + 37 * usize::from(bytes.byte().unwrap_or_default());
                let name = [step / 12 % 2; 32];
                if bench.send(&piece(sent, length, &name)).is_some() {
                    sent = (sent + length).min(NEW.len());
                }
            }
            6 => sent = usize::from(bytes.byte().unwrap_or_default()) * NEW.len() / 255,
            7 => {
                let info = [bench.board.primary_image(), bench.board.secondary_image()];
                if let Some(info) = info[usize::from(step / 12 % 2)] {
                    let _ = bench.send(&choose(&info.digest, step / 24 % 2 == 1));
                }
            }
            8 => {
                let _ = bench.send(&frame(2, 1, 5, &[0xA0]));
            }
            9 => {
                bench.device.link_down();
                bench.device.link_up(Transport::Ble);
            }
            10 => bench.reset(),
            // One erase in the background, if there is one to do.
            _ => {
                let _ = bench.device.step();
            }
        }
        if bench.resets {
            bench.reset();
        }
    }
    bench.device.link_down();
    bench.device.link_up(Transport::Ble);
    let echo = bench.send(&frame(2, 0, 0, &[0xA1, 0x61, b'd', 0x62, b'h', b'i']));
    let expected = frame(3, 0, 0, &[0xA1, 0x61, b'r', 0x62, b'h', b'i']);
    assert_eq!(echo.as_deref(), Some(expected.as_slice()), "it still answers");
    bench.reset();
});
