// SPDX-License-Identifier: Apache-2.0
//! A device that follows the reference's rules and can be told to misbehave.

use bledfu_wire::secure_dfu::{ObjectType, Reply, Request, ResultCode};

pub const MAX: usize = 4096;

pub fn crc32(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes)
}

/// A device with the reference's rules: it executes what is complete, and closes the link after the last Execute.
#[derive(Default)]
pub struct Device {
    pub size: usize,
    pub commands: [Vec<u8>; 2],
    /// Sizes of the open objects.
    pub open: [usize; 2],
    pub executed: usize,
    pub is_valid: bool,
    pub current: usize,
    pub receipts: u16,
    pub since: u16,
    /// Received packets, counted from 1 over the whole test.
    pub packets: u32,
    /// Control point requests, as hexadecimal digits, and `-` for a new connection.
    pub log: Vec<String>,

    // Faults.
    pub lost: Vec<u32>,
    pub damaged: Vec<u32>,
    /// Refusals, by op code and number of the request, from 1.
    pub refused: Vec<(u8, u32, ResultCode)>,
    pub counts: [u32; 16],
    pub never_answers: Option<u8>,
    pub closes_at_last_execute: bool,
    pub stays_open: bool,
    pub breaks_at_packet: Option<u32>,
}

impl Device {
    pub fn new(size: usize) -> Self {
        Self {
            size,
            ..Self::default()
        }
    }

    pub fn connect(&mut self) {
        self.log.push("-".into());
        self.receipts = 0;
        self.since = 0;
        self.current = 0;
        // What was not executed is rolled back, as the reference page requires.
        self.commands[1].truncate(self.executed);
        self.open[1] = 0;
    }

    fn state(&self) -> Reply {
        let held = &self.commands[self.current];
        Reply::Checksum {
            offset: held.len() as u32,
            crc: crc32(held),
        }
    }

    /// The answer, and whether the device closes the link after it.
    pub fn control(&mut self, bytes: &[u8]) -> (Option<Reply>, bool) {
        self.log
            .push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        let request = Request::decode(bytes).expect("clients send whole requests");
        let opcode = request.opcode();
        self.counts[opcode as usize] += 1;
        let number = self.counts[opcode as usize];
        if self.never_answers == Some(opcode) {
            return (None, false);
        }
        if let Some((_, _, code)) = self
            .refused
            .iter()
            .find(|(op, nth, _)| (*op, *nth) == (opcode, number))
        {
            return (Some(Reply::Refused { opcode, code: *code }), false);
        }
        let refuse = |code| (Some(Reply::Refused { opcode, code }), false);
        match request {
            Request::Select { object } => {
                self.current = object as usize - 1;
                let held = &self.commands[self.current];
                let max_size = if self.current == 0 { 512 } else { MAX as u32 };
                let (offset, crc) = (held.len() as u32, crc32(held));
                (
                    Some(Reply::Selected {
                        max_size,
                        offset,
                        crc,
                    }),
                    false,
                )
            }
            Request::SetReceipts { every } => {
                (self.receipts, self.since) = (every, 0);
                (Some(Reply::ReceiptsSet), false)
            }
            Request::Create { object, size } => {
                self.current = object as usize - 1;
                self.since = 0;
                if object == ObjectType::Command {
                    self.commands = Default::default();
                    (self.executed, self.is_valid) = (0, false);
                } else if !self.is_valid || self.executed + size as usize > self.size {
                    return refuse(ResultCode::OperationNotPermitted);
                }
                let executed = self.executed;
                self.commands[self.current].truncate(if self.current == 0 { 0 } else { executed });
                self.open[self.current] = size as usize;
                (Some(Reply::Created), false)
            }
            Request::Checksum => (Some(self.state()), false),
            Request::Execute if self.current == 0 => {
                if self.commands[0].len() != self.open[0] && !self.is_valid {
                    return refuse(ResultCode::OperationNotPermitted);
                }
                self.is_valid = true;
                (Some(Reply::Executed), false)
            }
            Request::Execute => {
                if self.commands[1].len() - self.executed != self.open[1] {
                    return refuse(ResultCode::OperationNotPermitted);
                }
                self.executed = self.commands[1].len();
                self.open[1] = 0;
                let is_last = self.executed == self.size;
                if is_last && self.closes_at_last_execute {
                    return (None, true);
                }
                (Some(Reply::Executed), is_last && !self.stays_open)
            }
            Request::Abort => (None, true),
            other => panic!("no client sends {other:?}"),
        }
    }

    /// A receipt, and whether the link breaks.
    pub fn packet(&mut self, bytes: &[u8]) -> (Option<Reply>, bool) {
        self.packets += 1;
        if self.breaks_at_packet == Some(self.packets) {
            return (None, true);
        }
        // A packet dropped for lack of room is not counted, as in the reference.
        if self.lost.contains(&self.packets) {
            return (None, false);
        }
        let held = &mut self.commands[self.current];
        let begin = if self.current == 0 { 0 } else { self.executed };
        if held.len() - begin + bytes.len() <= self.open[self.current] {
            held.extend(bytes);
            if self.damaged.contains(&self.packets) {
                *held.last_mut().expect("not empty") ^= 0x10;
            }
        }
        if self.receipts == 0 {
            return (None, false);
        }
        self.since += 1;
        if self.since < self.receipts {
            return (None, false);
        }
        self.since = 0;
        (Some(self.state()), false)
    }
}
