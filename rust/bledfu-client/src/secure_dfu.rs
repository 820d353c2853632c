// SPDX-License-Identifier: Apache-2.0
//! The client of Nordic's Secure DFU.
//!
//! ```text
//!            Select command ─► [receipts off] Create ─► init packet ─► Checksum ─► Execute
//!  connected     │ known: Execute at once                                            │
//!                └───────────────────────────────────────────────────────────────────┤
//!            Select data ─► [Execute again] ◄────────────────────────────────────────┘
//!                 │
//!                 └► Create ─► packets, receipts ─► Checksum ─► Execute ─► next object … ─► the device closes the link
//! ```
//! Sources: Android-DFU-Library 2.11 (`SecureDfuImpl`), IOS-DFU-Library (`SecureDFUExecutor`), pc-nrfutil 6
//! (`dfu_transport_ble.py`); the Android library was also observed while running.

mod error;
mod settings;

pub use error::{request_name, Error};
pub use settings::{InitReceipts, LossPolicy, Package, Part, Settings};

use crate::{Action, Characteristic, Progress, Stage, UpdateClient};
use bledfu_wire::secure_dfu::{op, Encoded, ObjectType, Reply, Request, ResultCode};
use crc::{Crc, CRC_32_ISO_HDLC};

/// Number of times an object is sent before the client gives up.
const ATTEMPTS: u8 = 3;
/// Android and iOS wait forever; the device closes an idle link after 120 s. After this time nothing can arrive any
/// more.
const FOR_EVER_MS: u32 = 180_000;

static CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Receipts { every: u16, then: Then },
    SelectCommand,
    CreateCommand,
    ChecksumCommand,
    ExecuteCommand,
    SelectData,
    ResumeExecute,
    CreateData,
    ChecksumData,
    ExecuteData,
}

/// What follows after receipts are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Ask(Next),
    Send(ObjectType),
}

/// The requests that may follow after receipts are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    SelectCommand,
    CreateCommand,
    SelectData,
    CreateData,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no link.
    Down { connect_at_ms: u64 },
    /// This request is to be written next.
    Ask(Step),
    /// The request was written; its answer is pending.
    Await { step: Step, until_ms: u64 },
    /// The next packet is to be written.
    Send(ObjectType),
    /// A receipt is due before the next packet.
    Receipt { object: ObjectType, until_ms: u64 },
    /// The pause after Create of a data object.
    Pause { until_ms: u64 },
    /// Abort is to be written.
    Abort(Error),
    /// The device should close the link; then the update has this result.
    Close {
        result: Result<(), Error>,
        until_ms: u64,
    },
    /// The update failed, and the client is to close the link.
    Drop(Error),
    /// The update has ended.
    Over(Result<(), Error>),
}

/// The client of one update, which may take several connections.
#[derive(Clone, Debug)]
pub struct Client<'p> {
    package: Package<'p>,
    settings: Settings,
    phase: Phase,
    /// The part for SoftDevice or bootloader is being sent.
    is_system: bool,
    retries_left: u8,
    progress: Progress,
    /// The last request that `poll` returned.
    request: Encoded,

    // State of the current connection.
    packet_size: usize,
    /// The device refused the previous part: an init packet that it still holds is ignored.
    is_second_part: bool,
    receipts: u16,
    receipts_set: Option<u16>,
    since_receipt: u16,
    is_first_object: bool,
    max_size: u32,
    has_sent_last_execute: bool,
    /// The last Execute is repeated; after that only the end of the link counts.
    ignored: Option<Error>,

    // Position in the current object, in bytes from the start of the image or of the init packet.
    begin: u32,
    at: u32,
    end: u32,
    attempt: u8,
    /// Packets may continue the open object without Create.
    is_open: bool,
    /// Where the last tail began, and how many times in a row it began there.
    tail: (u32, u8),
    /// CRC-32 of the image up to the start of the current object, and up to a later byte.
    marks: [(u32, u32); 2],
}

impl<'p> Client<'p> {
    /// A client that has not connected yet.
    pub fn new(package: Package<'p>, settings: Settings) -> Self {
        Self {
            package,
            settings,
            phase: Phase::Down { connect_at_ms: 0 },
            is_system: package.system.is_some(),
            retries_left: settings.retries,
            progress: Progress::default(),
            request: Encoded::default(),
            packet_size: 1,
            is_second_part: false,
            receipts: settings.receipts,
            receipts_set: None,
            since_receipt: 0,
            is_first_object: true,
            max_size: 1,
            has_sent_last_execute: false,
            ignored: None,
            begin: 0,
            at: 0,
            end: 0,
            attempt: 1,
            is_open: false,
            tail: (0, 0),
            marks: [(0, 0); 2],
        }
    }

    /// The last Execute of the application was answered; only the end of the link is awaited.
    pub const fn is_executed(&self) -> bool {
        let is_good = matches!(
            self.phase,
            Phase::Close { result: Ok(()), .. } | Phase::Over(Ok(()))
        );
        is_good && !self.is_system
    }

    fn part(&self) -> Part<'p> {
        match self.package.system {
            Some(system) if self.is_system => system,
            _ => self.package.application,
        }
    }

    fn bytes(&self, object: ObjectType) -> &'p [u8] {
        match object {
            ObjectType::Command => self.part().init,
            ObjectType::Data => self.part().firmware,
        }
    }

    /// Length of the whole init packet or image in bytes.
    fn size(&self, object: ObjectType) -> u32 {
        u32::try_from(self.bytes(object).len()).unwrap_or(u32::MAX)
    }

    /// CRC-32 of the first `length` bytes; `None` if there are fewer.
    fn crc(&mut self, object: ObjectType, length: u32) -> Option<u32> {
        let bytes = self.bytes(object).get(..length as usize)?;
        if object == ObjectType::Command {
            return Some(CRC.checksum(bytes));
        }
        let known = self.marks.iter().filter(|(at, _)| *at <= length).max();
        let (from, crc) = known.copied().unwrap_or_default();
        // A digest starts from a bit-reversed remainder, and a CRC is the inverted remainder.
        let mut digest = CRC.digest_with_initial((!crc).reverse_bits());
        digest.update(bytes.get(from as usize..)?);
        let crc = digest.finalize();
        self.marks[1] = (length, crc);
        Some(crc)
    }

    fn begin_connection(&mut self) {
        self.is_second_part = false;
        self.receipts = self.settings.receipts;
        self.receipts_set = None;
        self.since_receipt = 0;
        self.is_first_object = true;
        self.has_sent_last_execute = false;
        self.tail = (0, 0);
        self.progress.stage = Stage::Preparing;
        if self.settings.sets_receipts_first {
            self.set_receipts(self.receipts, Then::Ask(Next::SelectCommand));
        } else {
            self.phase = Phase::Ask(Step::SelectCommand);
        }
    }

    fn set_receipts(&mut self, every: u16, then: Then) {
        if self.receipts_set == Some(every) {
            self.go_on(then);
        } else {
            self.phase = Phase::Ask(Step::Receipts { every, then });
        }
    }

    fn go_on(&mut self, then: Then) {
        self.phase = match then {
            Then::Send(object) => Phase::Send(object),
            Then::Ask(Next::SelectCommand) => Phase::Ask(Step::SelectCommand),
            Then::Ask(Next::CreateCommand) => Phase::Ask(Step::CreateCommand),
            Then::Ask(Next::SelectData) => Phase::Ask(Step::SelectData),
            Then::Ask(Next::CreateData) => Phase::Ask(Step::CreateData),
        };
    }

    fn fail(&mut self, error: Error) {
        self.phase = if self.settings.sends_abort {
            Phase::Abort(error)
        } else {
            Phase::Drop(error)
        };
    }

    /// Applies what an expired deadline changes.
    fn expire(&mut self, now_ms: u64) {
        match self.phase {
            Phase::Await { step, until_ms } if now_ms >= until_ms => {
                self.fail(Error::NoAnswer(self.request_for(step).opcode()));
            }
            Phase::Receipt { until_ms, .. } if now_ms >= until_ms => {
                self.fail(Error::NoReceipt { sent: self.at });
            }
            Phase::Pause { until_ms } if now_ms >= until_ms => self.phase = Phase::Send(ObjectType::Data),
            Phase::Close { result, until_ms } if now_ms >= until_ms => {
                self.phase = Phase::Drop(result.err().unwrap_or(Error::LinkStaysOpen));
            }
            _ => {}
        }
    }

    fn request_for(&self, step: Step) -> Request<'static> {
        let object = match step {
            Step::SelectCommand | Step::CreateCommand => ObjectType::Command,
            _ => ObjectType::Data,
        };
        match step {
            Step::Receipts { every, .. } => Request::SetReceipts { every },
            Step::SelectCommand | Step::SelectData => Request::Select { object },
            Step::CreateCommand | Step::CreateData => Request::Create {
                object,
                size: self.end.saturating_sub(self.begin),
            },
            Step::ChecksumCommand | Step::ChecksumData => Request::Checksum,
            Step::ExecuteCommand | Step::ResumeExecute | Step::ExecuteData => Request::Execute,
        }
    }

    fn write_request(&mut self, step: Step, now_ms: u64) -> Action<'_, Error> {
        self.request = self.request_for(step).encode();
        if step == Step::ExecuteData && self.end == self.size(ObjectType::Data) {
            self.has_sent_last_execute = true;
            self.progress.stage = Stage::Sent;
        }
        self.phase = match self.ignored {
            Some(error) => Phase::Close {
                result: Err(error),
                until_ms: now_ms + u64::from(FOR_EVER_MS),
            },
            None => Phase::Await {
                step,
                until_ms: now_ms + u64::from(self.settings.answer_timeout_ms),
            },
        };
        Action::Write {
            to: Characteristic::ControlPoint,
            bytes: self.request.as_bytes(),
        }
    }

    fn write_packet(&mut self, object: ObjectType, now_ms: u64) -> Action<'_, Error> {
        let rest = self.bytes(object).get(self.at as usize..self.end as usize);
        let rest = rest.unwrap_or_default();
        let packet = rest.get(..self.packet_size).unwrap_or(rest);
        // A packet lies inside an object, whose size has 32 bits.
        self.at += packet.len() as u32;
        self.phase = Phase::Send(object);
        if self.at >= self.end {
            self.phase = Phase::Ask(checksum_of(object));
        }
        if let Some(every @ 1..) = self.receipts_set {
            self.since_receipt += 1;
            if self.since_receipt >= every {
                let until_ms = now_ms + u64::from(self.settings.answer_timeout_ms);
                self.phase = Phase::Receipt { object, until_ms };
            }
        }
        Action::Write {
            to: Characteristic::Packet,
            bytes: packet,
        }
    }

    fn replied(&mut self, step: Step, reply: Reply, now_ms: u64) {
        match (step, reply) {
            (Step::Receipts { every, then }, Reply::ReceiptsSet) => {
                self.receipts_set = Some(every);
                self.since_receipt = 0;
                self.go_on(then);
            }
            (Step::SelectCommand, Reply::Selected { offset, crc, .. }) => self.begin_init(offset, crc),
            (Step::CreateCommand, Reply::Created) => {
                self.at = 0;
                self.since_receipt = 0;
                if self.settings.init_receipts == InitReceipts::OffAfterCreate {
                    self.set_receipts(0, Then::Send(ObjectType::Command));
                } else {
                    self.phase = Phase::Send(ObjectType::Command);
                }
            }
            (Step::ChecksumCommand, Reply::Checksum { offset, crc }) => self.check_init(offset, crc),
            (Step::ExecuteCommand, Reply::Executed) => {
                if self.settings.omits_receipts_off && self.receipts == 0 {
                    self.phase = Phase::Ask(Step::SelectData);
                } else {
                    self.set_receipts(self.receipts, Then::Ask(Next::SelectData));
                }
            }
            (Step::SelectData, Reply::Selected { max_size: 0, .. }) => {
                self.fail(Error::Unexpected(op::SELECT));
            }
            (
                Step::SelectData,
                Reply::Selected {
                    max_size,
                    offset,
                    crc,
                },
            ) => self.begin_firmware(max_size, offset, crc, now_ms),
            (Step::ResumeExecute, Reply::Executed) => self.next_object(now_ms),
            (Step::CreateData, Reply::Created) => {
                self.since_receipt = 0;
                let mut delay_ms = self.settings.object_delay_ms;
                if self.is_first_object {
                    delay_ms = delay_ms.max(self.settings.first_object_delay_ms);
                    self.is_first_object = false;
                }
                let until_ms = now_ms + u64::from(delay_ms);
                self.phase = Phase::Pause { until_ms };
            }
            (Step::ChecksumData, Reply::Checksum { offset, crc }) => self.check_object(offset, crc),
            (Step::ExecuteData, Reply::Executed) => self.executed(now_ms),
            (_, Reply::Refused { code, .. }) => self.refused(step, code, now_ms),
            _ => self.fail(Error::Unexpected(self.request_for(step).opcode())),
        }
    }

    fn refused(&mut self, step: Step, code: ResultCode, now_ms: u64) {
        let is_forgiven = code == ResultCode::OperationNotPermitted;
        let error = Error::Refused {
            opcode: self.request_for(step).opcode(),
            code,
        };
        match step {
            _ if self.is_system => {
                // After a refusal, the phones continue with the application on the same connection.
                self.is_system = false;
                self.is_second_part = true;
                self.phase = Phase::Ask(Step::SelectCommand);
            }
            Step::ResumeExecute if is_forgiven && self.settings.forgives_resume => self.next_object(now_ms),
            Step::ExecuteData if is_forgiven && self.settings.forgives_execute => self.executed(now_ms),
            Step::ExecuteData
                if self.has_sent_last_execute
                    && code == ResultCode::InvalidObject
                    && self.settings.repeats_last_execute =>
            {
                self.ignored = Some(error);
                self.phase = Phase::Ask(Step::ExecuteData);
            }
            _ => self.fail(error),
        }
    }

    /// Where to start with the init packet, of which the device holds `offset` bytes.
    fn begin_init(&mut self, offset: u32, crc: u32) {
        let size = self.size(ObjectType::Command);
        (self.begin, self.at, self.end, self.attempt) = (0, offset, size, 1);
        let is_known =
            offset > 0 && !self.is_second_part && self.crc(ObjectType::Command, offset) == Some(crc);
        let is_silent = self.settings.init_receipts == InitReceipts::AsSet;
        if is_known && offset == size {
            self.phase = Phase::Ask(Step::ExecuteCommand);
        } else if is_known && is_silent {
            self.phase = Phase::Send(ObjectType::Command);
        } else if is_known {
            self.set_receipts(0, Then::Send(ObjectType::Command));
        } else {
            self.create_init();
        }
    }

    fn create_init(&mut self) {
        if self.settings.init_receipts == InitReceipts::OffBeforeCreate {
            self.set_receipts(0, Then::Ask(Next::CreateCommand));
        } else {
            self.phase = Phase::Ask(Step::CreateCommand);
        }
    }

    fn check_init(&mut self, offset: u32, crc: u32) {
        let compared_at = match self.settings.on_loss {
            LossPolicy::SendTail => self.end,
            LossPolicy::FailOnReceipt => offset,
            LossPolicy::CreateAgain if offset != self.end => return self.init_again(offset),
            LossPolicy::CreateAgain => self.end,
        };
        if self.crc(ObjectType::Command, compared_at) == Some(crc) {
            self.phase = Phase::Ask(Step::ExecuteCommand);
        } else {
            self.init_again(offset);
        }
    }

    fn init_again(&mut self, offset: u32) {
        if self.attempt >= ATTEMPTS {
            return self.fail(Error::BytesLost { offset });
        }
        self.attempt += 1;
        self.create_init();
    }

    /// Where to start with the image, of which the device holds `offset` bytes.
    fn begin_firmware(&mut self, max_size: u32, offset: u32, crc: u32, now_ms: u64) {
        let size = self.size(ObjectType::Data);
        self.max_size = max_size;
        self.marks = [(0, 0); 2];
        let is_known = offset > 0 && self.crc(ObjectType::Data, offset) == Some(crc);
        self.at = if is_known {
            offset
        } else {
            // The device holds other bytes: back to the start of that object.
            let last = offset.min(size).saturating_sub(1);
            last - last % max_size
        };
        self.progress = Progress {
            stage: Stage::Sending,
            resumed_at: self.at,
            held: self.at,
        };
        let is_at_boundary = self.at.is_multiple_of(max_size);
        self.is_open = is_known && !is_at_boundary;
        self.end = self.at;
        if is_known && self.at == size {
            // The device holds everything, but may not have executed the last object.
            self.phase = Phase::Ask(Step::ExecuteData);
        } else if is_known && is_at_boundary {
            // It is unknown whether the last object was executed before the link broke, so it is executed again.
            self.phase = Phase::Ask(Step::ResumeExecute);
        } else {
            self.next_object(now_ms);
        }
    }

    /// The object that contains the next byte.
    fn next_object(&mut self, now_ms: u64) {
        let size = self.size(ObjectType::Data);
        if self.at >= size {
            return self.all_executed(now_ms);
        }
        self.begin = self.at - self.at % self.max_size;
        self.end = self.begin.saturating_add(self.max_size).min(size);
        self.attempt = 1;
        if let Some(crc) = self.crc(ObjectType::Data, self.begin) {
            self.marks[0] = (self.begin, crc);
        }
        if core::mem::take(&mut self.is_open) {
            self.phase = Phase::Send(ObjectType::Data);
        } else {
            self.create_object();
        }
    }

    fn create_object(&mut self) {
        self.at = self.begin;
        self.phase = Phase::Ask(Step::CreateData);
    }

    fn check_object(&mut self, offset: u32, crc: u32) {
        let is_whole = self.at == self.end;
        let compared_at = match self.settings.on_loss {
            LossPolicy::SendTail if offset < self.at => return self.send_tail(offset, crc, is_whole),
            LossPolicy::SendTail => is_whole.then_some(self.end),
            LossPolicy::FailOnReceipt => Some(offset),
            LossPolicy::CreateAgain => (offset == self.end).then_some(self.end),
        };
        if compared_at.and_then(|at| self.crc(ObjectType::Data, at)) == Some(crc) {
            self.phase = Phase::Ask(Step::ExecuteData);
        } else if self.attempt >= ATTEMPTS {
            self.fail(Error::BytesLost { offset });
        } else {
            self.attempt += 1;
            self.create_object();
        }
    }

    /// Bytes are missing: from now on the client asks for a receipt after every packet.
    fn send_tail(&mut self, offset: u32, crc: u32, is_whole: bool) {
        if self.end.saturating_sub(self.begin) < self.max_size || offset < self.begin {
            return self.fail(Error::ProgressLost { offset });
        }
        let is_right = is_whole && self.crc(ObjectType::Data, offset) == Some(crc);
        self.receipts = 1;
        let then = if is_right {
            let times = if self.tail.0 == offset { self.tail.1 + 1 } else { 1 };
            self.tail = (offset, times);
            // The library has no such limit, but nothing else would end the loop.
            if times > ATTEMPTS {
                return self.fail(Error::BytesLost { offset });
            }
            self.at = offset;
            Then::Send(ObjectType::Data)
        } else {
            if self.attempt >= ATTEMPTS {
                return self.fail(Error::BytesLost { offset });
            }
            self.attempt += 1;
            self.at = self.begin;
            Then::Ask(Next::CreateData)
        };
        self.phase = Phase::Ask(Step::Receipts { every: 1, then });
    }

    fn received_receipt(&mut self, object: ObjectType, reply: Reply) {
        self.since_receipt = 0;
        let (offset, crc) = match reply {
            Reply::Checksum { offset, crc } => (offset, crc),
            Reply::Refused { opcode, code } if opcode == op::CHECKSUM => {
                return self.fail(Error::Refused { opcode, code });
            }
            _ => return self.fail(Error::Unexpected(op::CHECKSUM)),
        };
        let is_right = match self.settings.on_loss {
            LossPolicy::FailOnReceipt if offset != self.at => {
                return self.fail(Error::BytesLost { offset });
            }
            LossPolicy::FailOnReceipt => true,
            LossPolicy::SendTail => self.crc(object, self.at) == Some(crc),
            LossPolicy::CreateAgain => offset == self.at && self.crc(object, self.at) == Some(crc),
        };
        self.phase = if is_right && self.at < self.end {
            Phase::Send(object)
        } else {
            // Everything is sent, or the checksum shall tell what is missing.
            Phase::Ask(checksum_of(object))
        };
    }

    fn executed(&mut self, now_ms: u64) {
        self.at = self.end;
        self.progress.held = self.at;
        self.next_object(now_ms);
    }

    fn all_executed(&mut self, now_ms: u64) {
        if !self.is_system {
            self.progress.stage = Stage::Verified;
        }
        self.phase = Phase::Close {
            result: Ok(()),
            until_ms: now_ms + u64::from(FOR_EVER_MS),
        };
    }

    /// The link is gone, and the part is complete.
    fn part_done(&mut self, now_ms: u64) {
        self.phase = if core::mem::take(&mut self.is_system) {
            Phase::Down {
                connect_at_ms: now_ms + u64::from(self.settings.reconnect_ms),
            }
        } else {
            Phase::Over(Ok(()))
        };
    }
}

const fn checksum_of(object: ObjectType) -> Step {
    match object {
        ObjectType::Command => Step::ChecksumCommand,
        ObjectType::Data => Step::ChecksumData,
    }
}

impl UpdateClient for Client<'_> {
    type Error = Error;

    fn poll(&mut self, now_ms: u64) -> Action<'_, Error> {
        self.expire(now_ms);
        match self.phase {
            Phase::Down { connect_at_ms } => Action::Connect { at_ms: connect_at_ms },
            Phase::Ask(step) => self.write_request(step, now_ms),
            Phase::Await { until_ms, .. }
            | Phase::Receipt { until_ms, .. }
            | Phase::Close { until_ms, .. } => Action::Wait { until_ms },
            Phase::Send(object) => self.write_packet(object, now_ms),
            Phase::Pause { until_ms } => Action::Pause { until_ms },
            Phase::Abort(error) => {
                self.request = Request::Abort.encode();
                self.phase = Phase::Close {
                    result: Err(error),
                    until_ms: now_ms + u64::from(FOR_EVER_MS),
                };
                Action::Write {
                    to: Characteristic::ControlPoint,
                    bytes: self.request.as_bytes(),
                }
            }
            Phase::Drop(_) => Action::Disconnect,
            Phase::Over(Ok(())) => Action::Done,
            Phase::Over(Err(error)) => Action::Failed(error),
        }
    }

    fn connected(&mut self, _now_ms: u64, payload: usize) {
        if let Phase::Down { .. } = self.phase {
            self.packet_size = self.settings.packet_size(payload);
            self.begin_connection();
        }
    }

    fn disconnected(&mut self, now_ms: u64) {
        match self.phase {
            Phase::Down { .. } | Phase::Over(_) => {}
            Phase::Close { result: Ok(()), .. } => self.part_done(now_ms),
            Phase::Close {
                result: Err(error), ..
            }
            | Phase::Abort(error)
            | Phase::Drop(error) => {
                self.phase = Phase::Over(Err(error));
            }
            _ if self.settings.close_is_success && self.has_sent_last_execute => self.part_done(now_ms),
            _ => match self.retries_left.checked_sub(1) {
                Some(left) => {
                    self.retries_left = left;
                    let connect_at_ms = now_ms + u64::from(self.settings.reconnect_ms);
                    self.phase = Phase::Down { connect_at_ms };
                }
                None => self.phase = Phase::Over(Err(Error::LinkLost)),
            },
        }
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn awaits_close(&self) -> bool {
        matches!(self.phase, Phase::Close { .. })
    }

    fn received(&mut self, now_ms: u64, bytes: &[u8]) {
        self.expire(now_ms);
        match self.phase {
            Phase::Await { step, .. } => match Reply::decode(bytes) {
                Ok(reply) if reply.opcode() == self.request_for(step).opcode() => {
                    self.replied(step, reply, now_ms);
                }
                _ => self.fail(Error::Unexpected(self.request_for(step).opcode())),
            },
            Phase::Receipt { object, .. } => match Reply::decode(bytes) {
                Ok(reply) => self.received_receipt(object, reply),
                Err(_) => self.fail(Error::Unexpected(op::CHECKSUM)),
            },
            // An unsolicited reply.
            Phase::Ask(_) | Phase::Send(_) | Phase::Pause { .. } => {
                self.fail(Error::Unexpected(bytes.get(1).copied().unwrap_or_default()));
            }
            Phase::Down { .. } | Phase::Abort(_) | Phase::Close { .. } | Phase::Drop(_) | Phase::Over(_) => {}
        }
    }
}
