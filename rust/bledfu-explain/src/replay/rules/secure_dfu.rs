// SPDX-License-Identifier: Apache-2.0
//! Signatures S1 to S28: updates over Secure DFU.

use bledfu_wire::init_packet::InitPacket;
use crc::{Crc, CRC_32_ISO_HDLC};

use super::super::fact::{Fact, Place};
use super::super::story::{op, Answer, Exchange, Mark, Spot, Step, Story};
use super::refusal::{library, refusal, Context};
use super::{between, seconds, Findings, Sure};

/// Object size of every known target.
const OBJECT: u32 = 4096;
/// Buffers that no bootloader gives back, from which on a leak is certain.
const LEAK: u32 = 8;
/// The MTU up to which targets and controllers are known to work.
const USUAL_MTU: u32 = 247;
/// From an accepted jump to the end of the link: longer is a reset without closing it, in ms.
const SLOW_CLOSE_MS: i64 = 4500;
/// A device that keeps the link open this long after its last answer does not close it, in ms.
const PATIENCE_MS: i64 = 5000;
/// A log that goes on this long after its last request shows that the answer is missing, in ms.
const SILENCE_MS: i64 = 1000;

#[derive(Default)]
struct Walk {
    /// Bytes that are executed.
    base: u32,
    /// Where the packets since the last answer begin.
    start: u32,
    size: Option<u32>,
    open: bool,
    checked: bool,
    number: u32,
    total: Option<u32>,
    receipts: u32,
    receipts_seen: u32,
    /// Packets were sent, and nothing has been told about them.
    packets: Option<Spot>,
    last_told: Option<Spot>,
    jump: Option<Spot>,
    scanning: Option<Spot>,
    name: Option<Spot>,
    dfu_address: Option<u64>,
    app_address: Option<u64>,
    acquired: u32,
    freed: u32,
    last_acquired: Option<Spot>,
    /// The last Execute of the image, and whether it was answered.
    finished: Option<(Spot, bool)>,
    over: bool,
    completed: bool,
    link_lost: bool,
    last: Option<usize>,
}

/// The link is gone with this status of the phone's stack.
fn lost_to(status: u32) -> &'static str {
    match status {
        8 => "the link died of its supervision time-out",
        19 => "the device closed the link",
        22 => "the phone closed the link",
        34 => "the device did not answer the phone's controller",
        62 => "the connection was not established",
        _ => "the phone's stack gave up",
    }
}

pub(super) fn judge(story: &Story, findings: &mut Findings) {
    let mut walk = Walk {
        total: image_size(story),
        ..Walk::default()
    };
    for step in &story.steps {
        match step {
            Step::Exchange(index) => {
                walk.last = Some(*index);
                if let Some(exchange) = story.exchanges.get(*index) {
                    walk.exchange(story, exchange, findings);
                }
            }
            Step::Packets(spot) => {
                walk.packets = Some(*spot);
                walk.receipts_seen = 0;
            }
            Step::Receipt { spot, offset, .. } => walk.receipt(story, *spot, *offset, findings),
            Step::Mark(index) => {
                if let Some(mark) = story.marks.get(*index) {
                    walk.mark(story, mark, findings);
                }
            }
        }
    }
    walk.end(story, findings);
}

/// Size of the image in the init packet, if that is logged.
fn image_size(story: &Story) -> Option<u32> {
    InitPacket::decode(&story.init).ok()?.init.app_size
}

impl Walk {
    fn exchange(&mut self, story: &Story, exchange: &Exchange, findings: &mut Findings) {
        if let Some(answer) = exchange.answer.as_ref().filter(|answer| answer.code() != 1) {
            self.refused(exchange, answer, findings);
            self.packets = None;
            return;
        }
        let answer = exchange.answer.as_ref();
        match exchange.op {
            op::SELECT if !exchange.command => {
                if let Some((_, offset, _)) = answer.and_then(Answer::info) {
                    self.base = offset - offset % OBJECT;
                    self.start = offset;
                    // An object that is open goes on.
                    self.open = offset % OBJECT != 0;
                    self.size = self.open.then_some(OBJECT);
                }
            }
            op::CREATE if !exchange.command => {
                self.open = true;
                self.number = exchange
                    .object
                    .map_or(self.number.saturating_add(1), |(number, _)| number);
                self.size = exchange.size.or_else(|| {
                    let (number, all) = exchange.object?;
                    (number < all).then_some(OBJECT)
                });
                self.start = self.base;
                self.packets = None;
            }
            op::RECEIPTS => self.receipts = exchange.receipts.unwrap_or(self.receipts),
            op::CHECKSUM => {
                if let (Some(answer), Some((offset, crc))) = (answer, answer.and_then(Answer::checksum)) {
                    self.last_told = Some(answer.spot);
                    match exchange.command {
                        true => init_checksum(story, answer, offset, crc, findings),
                        false => self.checksum(answer.spot, offset, findings),
                    }
                    self.packets = None;
                }
            }
            op::EXECUTE if !exchange.command => self.execute(story, exchange),
            _ => {}
        }
    }

    fn execute(&mut self, story: &Story, exchange: &Exchange) {
        if exchange.answer.is_some() {
            if self.open {
                self.base = match self.size {
                    Some(size) => self.base.saturating_add(size),
                    None => self.start,
                };
            }
            self.open = false;
            self.packets = None;
        }
        let by_number = story.objects().is_some_and(|all| all == self.number);
        let end = self.total.map(|total| match exchange.answer {
            Some(_) => self.base >= total,
            None => self
                .size
                .is_some_and(|size| self.base.saturating_add(size) >= total),
        });
        if end.unwrap_or(by_number) {
            let at = exchange
                .answer
                .as_ref()
                .map_or(exchange.spot, |answer| answer.spot);
            self.finished = Some((at, exchange.answer.is_some()));
        }
    }

    fn checksum(&mut self, spot: Spot, offset: u32, findings: &mut Findings) {
        let number = self.number.max(1);
        if !self.open {
            return;
        }
        let wanted = self.size.map(|size| self.base.saturating_add(size));
        self.start = offset.max(self.base);
        if offset <= self.base && self.base > 0 {
            findings.fault(
                "S1",
                spot,
                Sure::High,
                format!(
                    "object {number}: none of its bytes was counted, the device still tells offset {offset}: no receive \
                     buffer has come back since"
                ),
            );
        } else if offset <= self.base {
            findings.fault(
                "S2",
                spot,
                Sure::Medium,
                format!("object {number}: none of its bytes was counted"),
            );
        } else if let Some(wanted) = wanted.filter(|wanted| offset < *wanted) {
            findings.fault(
                "S2",
                spot,
                Sure::High,
                format!(
                    "object {number}: {} of {} bytes were counted; the rest found no buffer",
                    offset - self.base,
                    wanted - self.base
                ),
            );
        }
        self.checked = true;
    }

    fn receipt(&mut self, story: &Story, spot: Spot, offset: u32, findings: &mut Findings) {
        self.receipts_seen += 1;
        self.last_told = Some(spot);
        self.packets = None;
        let packet = story.mtu().and_then(|mtu| mtu.checked_sub(3));
        let sent = packet.map(|packet| {
            let sent = packet
                .saturating_mul(self.receipts)
                .saturating_mul(self.receipts_seen);
            sent.min(
                self.size
                    .unwrap_or(OBJECT)
                    .saturating_sub(self.start - self.base.min(self.start)),
            )
        });
        let due = self.start.saturating_add(sent.unwrap_or(1));
        if offset < due {
            let sent = sent.map_or("bytes".to_owned(), |sent| format!("{sent} bytes"));
            findings.fault(
                "S5",
                spot,
                if offset <= self.start {
                    Sure::High
                } else {
                    Sure::Medium
                },
                format!(
                    "after {sent} of object {} the receipt tells offset {offset}",
                    self.number.max(1)
                ),
            );
        }
    }

    fn refused(&mut self, exchange: &Exchange, answer: &Answer, findings: &mut Findings) {
        let is_data = !exchange.command || self.number > 0 && exchange.op == op::EXECUTE;
        let context = Context {
            op: exchange.op,
            is_data,
            logged: true,
        };
        if let Some((id, sure, why)) = refusal(&context, answer.code(), answer.extended()) {
            findings.fault(id, answer.spot, sure, why);
        }
    }

    fn is_of_update(&self, dfu: bool) -> bool {
        dfu || self.dfu_address.is_none() || self.dfu_address == self.app_address
    }

    fn mark(&mut self, story: &Story, mark: &Mark, findings: &mut Findings) {
        let spot = mark.spot;
        match &mark.fact {
            Fact::ConnectedTo { dfu, address } => {
                let place = if *dfu {
                    &mut self.dfu_address
                } else {
                    &mut self.app_address
                };
                *place = Some(*address);
                if *dfu {
                    self.over = false;
                }
            }
            Fact::CrcWrong => findings.fault(
                "S3",
                self.last_told.unwrap_or(spot),
                Sure::Medium,
                "the device counted every byte, and its CRC is another one than the client's",
            ),
            Fact::Lost(count) => {
                let all = self.size.unwrap_or(OBJECT);
                let (id, what) = match *count >= all {
                    true => ("S1", "the whole object"),
                    false => ("S2", "a part of the object"),
                };
                findings.follows(id, spot, Sure::Medium, format!("{what} was not counted"));
            }
            Fact::SentTold { .. } => findings.fault(
                "S5",
                self.last_told.unwrap_or(spot),
                Sure::High,
                "the receipt tells less than was sent",
            ),
            Fact::JumpAccepted => self.jump = Some(spot),
            Fact::Scanning => self.scanning = Some(spot),
            Fact::Found => {
                self.scanning = None;
                self.jump = None;
            }
            Fact::NotFound => {
                self.scanning = None;
                findings.fault(
                    "S10",
                    spot,
                    Sure::High,
                    "the jump was accepted, and no bootloader was found afterwards",
                );
            }
            Fact::Write {
                to: Place::Buttonless,
                bytes,
            } => self.name = (bytes.first() == Some(&2)).then_some(spot),
            Fact::Notify { .. } => self.name = None,
            Fact::Buttonless(code) => {
                let is_name = self.name.take().is_some();
                match (code, is_name) {
                    (2 | 4, true) => findings.fault(
                        "S24",
                        spot,
                        Sure::High,
                        "the device refused the new name that the client wanted it to advertise with",
                    ),
                    (2, false) => findings.fault("S24", spot, Sure::Medium, "the buttonless service refused"),
                    (_, _) => findings.fault(
                        "S16",
                        spot,
                        Sure::Medium,
                        "the device refused to enter its bootloader",
                    ),
                }
            }
            Fact::LinkState {
                dfu,
                status,
                up: false,
            }
            | Fact::LinkError { dfu, code: status }
                if *status != 0 && self.is_of_update(*dfu) =>
            {
                self.link_lost(story, spot, *status, findings);
            }
            Fact::Ended => self.ended(spot, findings),
            Fact::Closing => {
                // The phone, or its user, gave up waiting for the device to close the link.
                if let Some((at, true)) = self
                    .finished
                    .filter(|_| !self.over && !self.link_lost && !self.completed)
                {
                    if between(at, spot).is_some_and(|ms| ms >= PATIENCE_MS) {
                        findings.fault(
                            "S26",
                            at,
                            Sure::High,
                            "the last Execute was answered, and the device keeps the link open",
                        );
                    }
                }
                self.over = true;
            }
            Fact::Completed => self.completed = true,
            Fact::Library(code) => library(*code, spot, findings),
            Fact::NoService => findings.fault(
                "S12",
                spot,
                Sure::Medium,
                "the client does not find the update service where it expects it",
            ),
            Fact::BadFile => findings.fault("S13", spot, Sure::High, "the client cannot use the file"),
            Fact::NoPing => {
                let at = self.waiting(story).map_or(spot, |request| request.spot);
                findings.fault(
                    "S28",
                    at,
                    Sure::Medium,
                    "nrfutil got no answer, or the answer to an earlier request",
                );
            }
            Fact::Remote(code) => self.error(story, spot, *code, None, findings),
            Fact::Extended(code) => self.error(story, spot, 0x0B, Some(*code), findings),
            _ => self.sdk_mark(mark, findings),
        }
    }

    /// What the bootloader of the SDK says beside requests.
    fn sdk_mark(&mut self, mark: &Mark, findings: &mut Findings) {
        let spot = mark.spot;
        match &mark.fact {
            Fact::SdkAcquired => {
                self.acquired += 1;
                self.last_acquired = Some(spot);
            }
            Fact::SdkFreed => self.freed += 1,
            Fact::SdkNoBuffer if self.freed == 0 && self.acquired >= LEAK => findings.fault(
                "S1",
                spot,
                Sure::High,
                format!(
                    "{} receive buffers were taken, and none was given back",
                    self.acquired
                ),
            ),
            Fact::SdkNoBuffer => findings.fault(
                "S2",
                spot,
                Sure::High,
                "a packet found no receive buffer while flash was busy, and was dropped",
            ),
            Fact::SdkInvalidData { expected, got } => findings.fault(
                "S17",
                spot,
                Sure::High,
                format!("Execute of an object with {got} of {expected} bytes"),
            ),
            Fact::SdkFlashFailed => findings.fault("S16", spot, Sure::High, "a flash operation failed"),
            Fact::SdkCheck(code) => {
                let context = Context {
                    op: op::EXECUTE,
                    is_data: *code == 12,
                    logged: true,
                };
                if let Some((id, sure, why)) = refusal(&context, 0x0B, Some(*code)) {
                    findings.fault(id, spot, sure, why);
                }
            }
            Fact::SdkBootInvalid => findings.fault(
                "S27",
                spot,
                Sure::High,
                "the image was received, and is not valid when the bootloader starts",
            ),
            _ => {}
        }
    }

    /// An error that the client reports; the answer behind it is a fault of its own where it is logged.
    fn error(&self, story: &Story, spot: Spot, code: u8, extended: Option<u8>, findings: &mut Findings) {
        let last = self.last.and_then(|index| story.exchanges.get(index));
        let context = Context {
            op: last.map_or(op::EXECUTE, |last| last.op),
            is_data: self.number > 0,
            logged: false,
        };
        if let Some((id, sure, why)) = refusal(&context, code, extended) {
            findings.follows(id, spot, sure, why);
        }
    }

    /// The request that waits for an answer.
    fn waiting<'a>(&self, story: &'a Story) -> Option<&'a Exchange> {
        let last = story.exchanges.get(self.last?)?;
        last.answer.is_none().then_some(last)
    }

    fn link_lost(&mut self, story: &Story, spot: Spot, status: u32, findings: &mut Findings) {
        let again = self.link_lost;
        self.link_lost = true;
        if self.completed || matches!(self.finished, Some((_, true))) {
            self.over = true;
            return;
        }
        if let Some(jump) = self.jump.filter(|_| self.number == 0) {
            match between(jump, spot) {
                Some(took) if took >= SLOW_CLOSE_MS && status == 8 => findings.fault(
                    "S11",
                    spot,
                    Sure::High,
                    format!(
                        "the link ended {} after the jump was accepted, by its supervision time-out",
                        seconds(took)
                    ),
                ),
                _ if status == 133 && self.scanning.is_some() => findings.fault(
                    "S10",
                    spot,
                    Sure::Medium,
                    "the jump was accepted, no bootloader was found, and the phone could not connect",
                ),
                _ if status == 133 => {
                    findings.fault(
                        "S8",
                        spot,
                        Sure::Medium,
                        "the phone could not connect to the bootloader",
                    );
                }
                // The reset that was asked for.
                _ => {}
            }
            return;
        }
        let what = lost_to(status);
        match status {
            8 => {
                let silent = silence(story, spot);
                if let Some(request) = self.waiting(story) {
                    let name = name_of(request);
                    findings.fault(
                        "S6",
                        request.spot,
                        Sure::High,
                        format!("{name} was sent and never answered, and {what}{silent}"),
                    );
                } else if let Some(packets) = self.packets.filter(|_| self.receipts == 0) {
                    let large = story.mtu().filter(|mtu| *mtu > USUAL_MTU);
                    match large.filter(|_| !self.checked) {
                        Some(mtu) => findings.fault(
                            "S25",
                            packets,
                            Sure::Medium,
                            format!(
                                "with an MTU of {mtu}, nothing was heard after the first packets; {what}"
                            ),
                        ),
                        None => findings.fault(
                            "S6",
                            packets,
                            Sure::Medium,
                            format!("packets were sent, and {what}{silent}"),
                        ),
                    }
                } else if self.packets.is_none() && !again {
                    findings.follows(
                        "S6",
                        spot,
                        Sure::Low,
                        format!("{what}{silent}, between two requests"),
                    );
                }
            }
            19 | 22 => findings.follows(
                "S7",
                spot,
                Sure::Medium,
                format!("{what} in the middle of the transfer"),
            ),
            133 => findings.follows("S8", spot, Sure::Medium, "error 133 of Android's stack"),
            34 | 62 => findings.follows("S9", spot, Sure::Low, what),
            _ => {}
        }
    }

    fn ended(&mut self, spot: Spot, findings: &mut Findings) {
        if let Some(name) = self.name.take() {
            findings.fault(
                "S24",
                name,
                Sure::High,
                "the link ended when the client asked for a new name to advertise with",
            );
        }
        let is_expected = self.completed || self.jump.is_some() || matches!(self.finished, Some((_, true)));
        self.over = true;
        if !is_expected {
            findings.follows(
                "S9",
                spot,
                Sure::Low,
                "the link was lost; the log does not say how",
            );
        }
    }

    fn end(&self, story: &Story, findings: &mut Findings) {
        let last = Spot {
            at_ms: story.last_ms,
            ..Spot::default()
        };
        let went_on = |spot: Spot| {
            self.over || self.link_lost || between(spot, last).is_some_and(|ms| ms >= SILENCE_MS)
        };
        if let Some(packets) = self
            .packets
            .filter(|_| self.receipts > 0 && self.receipts_seen == 0)
        {
            let n = self.receipts;
            if went_on(packets) || story.last_ms.is_none() {
                findings.fault(
                    "S4",
                    packets,
                    Sure::High,
                    format!("a receipt was due after every {n} packets, packets were sent, and none came"),
                );
            }
        } else if let Some(packets) = self
            .packets
            .filter(|_| !self.link_lost && !self.over && !self.checked)
        {
            if story.mtu().is_some_and(|mtu| mtu > USUAL_MTU) {
                findings.fault(
                    "S25",
                    packets,
                    Sure::Medium,
                    "nothing was heard after the first packets",
                );
            }
        }
        if let Some(scanning) = self.scanning.filter(|_| self.jump.is_some()) {
            findings.follows(
                "S10",
                scanning,
                Sure::Medium,
                "the jump was accepted, and the log ends while the client looks for the bootloader",
            );
        }
        if self.freed == 0 && self.acquired >= LEAK {
            if let Some(spot) = self.last_acquired {
                findings.fault(
                    "S1",
                    spot,
                    Sure::High,
                    format!(
                        "{} receive buffers were taken, and none was given back",
                        self.acquired
                    ),
                );
            }
        }
        match self.finished {
            Some((spot, true)) if !self.over && !self.completed && !self.link_lost && went_on(spot) => {
                findings.fault(
                    "S26",
                    spot,
                    Sure::High,
                    "the last Execute was answered, and the device keeps the link open",
                )
            }
            Some((_, true)) => findings.success = true,
            Some((spot, false)) if !self.link_lost => {
                findings.fault("S26", spot, Sure::High, "the last Execute was never answered");
            }
            _ => {
                if let Some(request) = self.waiting(story).filter(|_| !self.link_lost) {
                    findings.follows(
                        "S6",
                        request.spot,
                        Sure::Low,
                        format!("{} was never answered", name_of(request)),
                    );
                }
            }
        }
        findings.success |= self.completed;
    }
}

/// When the device must have fallen silent, if the log tells the supervision time-out.
fn silence(story: &Story, lost: Spot) -> String {
    let timeout = story
        .marks
        .iter()
        .rev()
        .filter(|mark| mark.spot.pos < lost.pos)
        .find_map(|mark| match mark.fact {
            Fact::Timeout(ms) => Some(ms),
            _ => None,
        });
    match (timeout, lost.at_ms) {
        (Some(timeout), Some(at)) => format!(
            "; the device has been silent since about {}",
            super::super::clock(at - i64::from(timeout))
        ),
        _ => String::new(),
    }
}

fn init_checksum(story: &Story, answer: &Answer, offset: u32, crc: u32, findings: &mut Findings) {
    let all = story.init.len();
    let own = Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(&story.init);
    if all > 0 && offset as usize == all && crc != own && InitPacket::decode(&story.init).is_ok() {
        findings.fault(
            "S3",
            answer.spot,
            Sure::Medium,
            "the device counted every byte of the init packet, and its CRC is wrong",
        );
    }
}

fn name_of(request: &Exchange) -> String {
    let object = if request.command {
        "of the init packet"
    } else {
        "of an object"
    };
    match request.op {
        op::CREATE => format!("Create {object}"),
        op::CHECKSUM => "Checksum".to_owned(),
        op::EXECUTE => format!("Execute {object}"),
        op::SELECT => "Select".to_owned(),
        op::RECEIPTS => "the request for receipts".to_owned(),
        other => format!("request {other:02X}"),
    }
}
