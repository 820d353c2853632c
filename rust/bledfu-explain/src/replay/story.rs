// SPDX-License-Identifier: Apache-2.0
//! Rebuilds the exchange of one log: requests with their answers, packets and receipts, and what else was said, in order.

use super::fact::{Fact, Format, Place};
use super::formats;
use super::text::Line;

/// A wanted answer of a device begins with this.
const ANSWER: u8 = 0x60;
/// Opcodes of Secure DFU.
pub mod op {
    pub const CREATE: u8 = 1;
    pub const RECEIPTS: u8 = 2;
    pub const CHECKSUM: u8 = 3;
    pub const EXECUTE: u8 = 4;
    pub const SELECT: u8 = 6;
    /// Never answered.
    pub const ABORT: u8 = 12;
}
/// Lines between a write and its repetition by the layer below.
const REPETITION: usize = 3;
/// Most requests, marks and line numbers that are kept; a log of any size needs bounded memory.
const MOST: usize = 200_000;
/// Longest init packet: the command object of the SDK.
const LONGEST_INIT: usize = 512;
/// Most lines that are listed as not understood.
const MOST_UNKNOWN: usize = 20;

/// Where something is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    /// Order in the log.
    pub pos: usize,
    /// Line number in the file.
    pub line: usize,
    /// Time in ms.
    pub at_ms: Option<i64>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub spot: Spot,
    /// As on the wire; rebuilt from its meaning where the log has no bytes.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The result code.
    pub fn code(&self) -> u8 {
        self.bytes.get(2).copied().unwrap_or_default()
    }

    /// The extended code of result 0B.
    pub fn extended(&self) -> Option<u8> {
        self.bytes.get(3).copied().filter(|_| self.code() == 0x0B)
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?))
    }

    /// Offset and CRC of a good answer to Checksum.
    pub fn checksum(&self) -> Option<(u32, u32)> {
        (self.code() == 1).then_some(())?;
        Some((self.word(3)?, self.word(7)?))
    }

    /// Largest object, offset and CRC of a good answer to Select.
    pub fn info(&self) -> Option<(u32, u32, u32)> {
        (self.code() == 1).then_some(())?;
        Some((self.word(3)?, self.word(7)?, self.word(11)?))
    }
}

/// A request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub spot: Spot,
    pub op: u8,
    /// Whether it is about the init packet; for Create, Select, Checksum and Execute.
    pub command: bool,
    /// Size of the object, for Create.
    pub size: Option<u32>,
    /// Number of the data object and of all, for Create.
    pub object: Option<(u32, u32)>,
    /// Packets after this many receipts, for op 2.
    pub receipts: Option<u32>,
    /// Whether the request itself is in the log.
    pub logged: bool,
    pub answer: Option<Answer>,
    /// The answer was told twice, as bytes and in words.
    claimed: bool,
}

/// What happens beside requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub spot: Spot,
    pub fact: Fact,
}

/// One step of the rebuilt exchange, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An exchange, by its index.
    Exchange(usize),
    /// Packets of the open object are sent.
    Packets(Spot),
    /// A receipt.
    Receipt { spot: Spot, offset: u32, crc: u32 },
    /// A mark, by its index.
    Mark(usize),
}

/// One log.
#[derive(Clone, Debug, Default)]
pub struct Story {
    pub first_line: usize,
    pub last_line: usize,
    pub first_ms: Option<i64>,
    pub last_ms: Option<i64>,
    /// Lines that say something, by format.
    pub formats: [usize; Format::ALL.len()],
    pub lines: usize,
    pub understood: usize,
    /// Numbers of the first lines that no reader knows.
    pub unknown: Vec<usize>,
    pub exchanges: Vec<Exchange>,
    pub marks: Vec<Mark>,
    pub steps: Vec<Step>,
    /// Bytes of the init packet, as far as they are logged.
    pub init: Vec<u8>,
    /// Whether a write to the control point is logged.
    pub has_writes: bool,
    /// More happens in the log than is kept.
    pub cut_short: bool,
    command: bool,
    receipts: u32,
    last_packet: Option<(usize, usize)>,
}

impl Story {
    /// Reads a log.
    pub fn of(log: &[Line<'_>]) -> Self {
        let mut story = Self {
            first_line: log.iter().map(|line| line.number).min().unwrap_or_default(),
            last_line: log.iter().map(|line| line.number).max().unwrap_or_default(),
            ..Self::default()
        };
        let mut at_ms = None;
        for (pos, line) in log.iter().enumerate() {
            at_ms = line.at_ms.or(at_ms);
            if line.body.is_empty() {
                continue;
            }
            story.lines += 1;
            let spot = Spot {
                pos,
                line: line.number,
                at_ms,
            };
            match formats::read(&line.body) {
                Some((format, fact)) => {
                    story.understood += 1;
                    story.first_ms = story.first_ms.or(line.at_ms);
                    story.last_ms = line.at_ms.or(story.last_ms);
                    let weight = if fact == Fact::Known { 1 } else { 16 };
                    if let Some(count) = story.formats.get_mut(format as usize) {
                        *count += weight;
                    }
                    if story.steps.len() < MOST {
                        story.take(spot, fact);
                    } else {
                        story.cut_short = true;
                    }
                }
                None if story.unknown.len() < MOST_UNKNOWN => story.unknown.push(line.number),
                None => {}
            }
        }
        story
    }

    /// Who wrote it: the format with the most lines.
    pub fn format(&self) -> Option<Format> {
        let best = Format::ALL
            .into_iter()
            .max_by_key(|format| self.formats.get(*format as usize).copied())?;
        self.formats.get(best as usize).filter(|count| **count > 0)?;
        Some(best)
    }

    /// The number of data objects, if it is said.
    pub fn objects(&self) -> Option<u32> {
        self.exchanges
            .iter()
            .find_map(|exchange| Some(exchange.object?.1))
    }

    /// ATT MTU of the update.
    pub fn mtu(&self) -> Option<u32> {
        self.marks.iter().rev().find_map(|mark| match mark.fact {
            Fact::Mtu(mtu) => Some(mtu),
            _ => None,
        })
    }

    fn take(&mut self, spot: Spot, fact: Fact) {
        match fact {
            Fact::Known => {}
            Fact::Write {
                to: Place::Control,
                bytes,
            } => self.request(spot, &bytes),
            Fact::Write {
                to: Place::Packet,
                bytes,
            } => self.packet(spot, &bytes),
            Fact::Notify {
                from: Place::Control,
                bytes,
            } => self.notified(spot, bytes),
            Fact::Notify {
                from: Place::Buttonless,
                bytes,
            } => {
                let fact = match bytes[..] {
                    [0x20, 1, 1, ..] => Fact::JumpAccepted,
                    [0x20, _, 1, ..] => return,
                    [0x20, _, code, ..] => Fact::Buttonless(code),
                    _ => return,
                };
                self.mark(spot, fact);
            }
            Fact::Info {
                command,
                max,
                offset,
                crc,
            } => {
                self.command = command;
                let mut bytes = vec![ANSWER, op::SELECT, 1];
                for word in [max, offset, crc] {
                    bytes.extend(word.to_le_bytes());
                }
                self.told(spot, op::SELECT, bytes);
            }
            Fact::Created { object } => {
                self.command = object.is_none();
                let index = self.told(spot, op::CREATE, vec![ANSWER, op::CREATE, 1]);
                if let Some(exchange) = index.and_then(|index| self.exchanges.get_mut(index)) {
                    exchange.object = object;
                    exchange.command = object.is_none();
                }
            }
            Fact::Checksum { offset, crc } => self.checksum(spot, offset, crc),
            Fact::Executed { command } => {
                self.command = command;
                self.told(spot, op::EXECUTE, vec![ANSWER, op::EXECUTE, 1]);
                // Data follow the init packet.
                self.command = false;
            }
            Fact::Receipts(count) => {
                let index = self.told(spot, op::RECEIPTS, vec![ANSWER, op::RECEIPTS, 1]);
                if let Some(exchange) = index.and_then(|index| self.exchanges.get_mut(index)) {
                    exchange.receipts = Some(count);
                }
                self.receipts = count;
            }
            Fact::Uploading => self.steps.push(Step::Packets(spot)),
            Fact::SdkHandle { op: code, command } => {
                if matches!(code, op::CREATE | op::EXECUTE | op::SELECT) {
                    self.command = command;
                }
                self.push(spot, code, true);
            }
            Fact::SdkCreating { size, .. } => {
                let index = self.told(spot, op::CREATE, vec![ANSWER, op::CREATE, 1]);
                if let Some(exchange) = index.and_then(|index| self.exchanges.get_mut(index)) {
                    exchange.size = Some(size);
                }
                self.steps.push(Step::Packets(spot));
            }
            Fact::SdkOffset { offset, crc } => self.checksum(spot, offset, crc),
            Fact::SdkResult { op, code } => {
                let of_request = |exchange: &&mut Exchange| op.is_none_or(|op| op == exchange.op);
                if let Some(exchange) = self.exchanges.last_mut().filter(of_request) {
                    let bytes = vec![ANSWER, exchange.op, code];
                    match &mut exchange.answer {
                        // The result of a request that was answered in words already.
                        Some(_) if code == 1 => {}
                        answer => *answer = Some(Answer { spot, bytes }),
                    }
                }
            }
            other => self.mark(spot, other),
        }
    }

    fn mark(&mut self, spot: Spot, fact: Fact) {
        self.steps.push(Step::Mark(self.marks.len()));
        self.marks.push(Mark { spot, fact });
    }

    fn push(&mut self, spot: Spot, op: u8, logged: bool) -> usize {
        let index = self.exchanges.len();
        self.steps.push(Step::Exchange(index));
        self.exchanges.push(Exchange {
            spot,
            op,
            command: self.command,
            size: None,
            object: None,
            receipts: None,
            logged,
            answer: None,
            claimed: false,
        });
        index
    }

    fn request(&mut self, spot: Spot, bytes: &[u8]) {
        let Some((&code, rest)) = bytes.split_first() else {
            return;
        };
        self.has_writes = true;
        if code == op::ABORT {
            return self.mark(spot, Fact::Closing);
        }
        let receipts = match (code, rest) {
            (op::RECEIPTS, [low, high, ..]) => Some(u32::from(u16::from_le_bytes([*low, *high]))),
            _ => None,
        };
        let size = match (code, rest) {
            (op::CREATE, [_, size @ ..]) => size.first_chunk().map(|size| u32::from_le_bytes(*size)),
            _ => None,
        };
        if let (op::CREATE | op::SELECT, Some(kind)) = (code, rest.first()) {
            self.command = *kind == 1;
        }
        // The layer below tells the same write again.
        let is_again = self.exchanges.last().is_some_and(|last| {
            last.op == code
                && last.answer.is_none()
                && last.logged
                && spot.pos - last.spot.pos <= REPETITION
                && (last.size, last.receipts) == (size, receipts)
        });
        if is_again {
            return;
        }
        if let Some(count) = receipts {
            self.receipts = count;
        }
        let index = self.push(spot, code, true);
        if let Some(exchange) = self.exchanges.get_mut(index) {
            exchange.size = size;
            exchange.receipts = receipts;
        }
    }

    fn packet(&mut self, spot: Spot, bytes: &[u8]) {
        if !self.command {
            return;
        }
        let is_again = self.last_packet.is_some_and(|(pos, length)| {
            spot.pos - pos <= REPETITION && length == bytes.len() && self.init.ends_with(bytes)
        });
        if !is_again && self.init.len() + bytes.len() <= LONGEST_INIT {
            self.init.extend_from_slice(bytes);
            self.last_packet = Some((spot.pos, bytes.len()));
        }
    }

    fn notified(&mut self, spot: Spot, bytes: Vec<u8>) {
        let [ANSWER, code, ..] = bytes[..] else {
            return;
        };
        if code == op::CHECKSUM {
            let answer = Answer { spot, bytes };
            match (self.open(code), answer.checksum()) {
                (Some(index), _) => self.answer(index, answer),
                (None, Some((offset, crc))) if self.receipts > 0 => {
                    self.steps.push(Step::Receipt { spot, offset, crc });
                }
                (None, _) => {
                    let index = self.push(spot, code, false);
                    self.answer(index, answer);
                }
            }
            return;
        }
        let index = match self.open(code) {
            Some(index) => index,
            None => self.push(spot, code, false),
        };
        self.answer(index, Answer { spot, bytes });
    }

    /// The exchange that waits for an answer to `code`.
    fn open(&self, code: u8) -> Option<usize> {
        let index = self.exchanges.len().checked_sub(1)?;
        let last = self.exchanges.get(index)?;
        (last.op == code && last.answer.is_none()).then_some(index)
    }

    fn answer(&mut self, index: usize, answer: Answer) {
        if let Some(exchange) = self.exchanges.get_mut(index) {
            if exchange.op == op::EXECUTE && exchange.command && answer.code() == 1 {
                self.command = false;
            }
            exchange.answer = Some(answer);
        }
    }

    /// An answer in words: the one that was logged as bytes just before, or one on its own.
    fn told(&mut self, spot: Spot, code: u8, bytes: Vec<u8>) -> Option<usize> {
        let last = self.exchanges.len().checked_sub(1);
        if let Some((index, exchange)) = last.and_then(|index| Some((index, self.exchanges.get_mut(index)?)))
        {
            if exchange.op == code && !exchange.claimed {
                match &exchange.answer {
                    Some(answer) if answer.bytes == bytes => {
                        exchange.claimed = true;
                        return Some(index);
                    }
                    None => {
                        exchange.claimed = true;
                        self.answer(index, Answer { spot, bytes });
                        return Some(index);
                    }
                    Some(_) => {}
                }
            }
        }
        let index = self.push(spot, code, false);
        self.answer(index, Answer { spot, bytes });
        if let Some(exchange) = self.exchanges.get_mut(index) {
            exchange.claimed = true;
        }
        Some(index)
    }

    fn checksum(&mut self, spot: Spot, offset: u32, crc: u32) {
        // The words after a receipt.
        if let Some(Step::Receipt {
            offset: o, crc: c, ..
        }) = self.steps.last()
        {
            if (*o, *c) == (offset, crc) {
                return;
            }
        }
        if self.receipts > 0 && self.has_writes && self.open(op::CHECKSUM).is_none() {
            let is_told = self.exchanges.last().is_some_and(|last| {
                last.op == op::CHECKSUM
                    && !last.claimed
                    && last.answer.as_ref().and_then(Answer::checksum) == Some((offset, crc))
            });
            if !is_told {
                self.steps.push(Step::Receipt { spot, offset, crc });
                return;
            }
        }
        let mut bytes = vec![ANSWER, op::CHECKSUM, 1];
        bytes.extend(offset.to_le_bytes());
        bytes.extend(crc.to_le_bytes());
        self.told(spot, op::CHECKSUM, bytes);
    }
}
