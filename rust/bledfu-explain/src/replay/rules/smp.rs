// SPDX-License-Identifier: Apache-2.0
//! Signatures M1 to M16: uploads over SMP.

use super::super::fact::{Fact, SmpGot, SmpSent};
use super::super::story::{Mark, Spot, Story};
use super::{between, seconds, Findings, Rank, Sure};

const IMAGE: u16 = 1;
const STATE: (u16, u8) = (IMAGE, 0);
const UPLOAD: (u16, u8) = (IMAGE, 1);
const RESET: (u16, u8) = (0, 5);
const PARAMETERS: (u16, u8) = (0, 6);

/// Longest time for a first piece that no client gives up on, in ms.
const SLOW_MS: i64 = 2000;

/// A request that was sent.
struct Sent {
    spot: Spot,
    fields: SmpSent,
    answered: bool,
    failed: bool,
}

impl Sent {
    fn of(&self) -> (u16, u8) {
        (self.fields.group, self.fields.command)
    }
}

#[derive(Default)]
struct Walk {
    sent: Vec<Sent>,
    /// Farthest offset that the server has told.
    farthest: u32,
    last_off: Option<u32>,
    repeated: u32,
    /// Offset of the last upload request of a tool that logs no frames.
    offset: Option<(Spot, u32)>,
}

/// Most requests that may wait for an answer; older ones are forgotten.
const MOST_OPEN: usize = 256;

pub(super) fn judge(story: &Story, findings: &mut Findings) {
    let mut walk = Walk::default();
    for mark in &story.marks {
        walk.take(mark, findings);
    }
    let unanswered = walk
        .sent
        .iter()
        .rev()
        .find(|sent| sent.of() == RESET && !sent.answered);
    if let Some(reset) = unanswered {
        findings.fault(
            "M16",
            reset.spot,
            Sure::Medium,
            "the request to reset was never answered",
        );
    }
}

impl Walk {
    fn take(&mut self, mark: &Mark, findings: &mut Findings) {
        let spot = mark.spot;
        match &mark.fact {
            Fact::SmpSent(fields) => self.send(spot, *fields, findings),
            Fact::SmpGot(got) => self.got(spot, *got, findings),
            Fact::SmpOffset(offset) => {
                if *offset == 0 && self.farthest > 0 {
                    restarted(spot, self.farthest, findings);
                }
                self.farthest = self.farthest.max(*offset);
                self.offset = Some((spot, *offset));
            }
            Fact::SmpTimeout { seq, off } => self.timed_out(spot, *seq, *off, findings),
            Fact::SmpLost { off } => {
                let request = self
                    .sent
                    .iter()
                    .rev()
                    .find(|sent| off.is_some() && sent.fields.off == *off);
                let at = request.map_or(spot, |sent| sent.spot);
                findings.fault(
                    "M3",
                    at,
                    Sure::Medium,
                    "a piece of the upload, or its answer, was lost on the way",
                );
            }
            Fact::NoTxBuffer => findings.fault(
                "M3",
                spot,
                Sure::Medium,
                "the device has no buffer left to send an answer in",
            ),
            Fact::NotPending => findings.fault(
                "M14",
                spot,
                Sure::High,
                "the image was sent, and the device did not mark it for the next boot",
            ),
            Fact::ServerMark => findings.fault(
                "M14",
                spot,
                Sure::Medium,
                "the device could not mark the image for the next boot",
            ),
            Fact::NoMtu => findings.fault(
                "M15",
                spot,
                Sure::High,
                "phone and device did not agree on an MTU, or the link needs pairing first",
            ),
            Fact::BadMagic => findings.fault(
                "M10",
                spot,
                Sure::High,
                "the file does not begin with the header of an MCUboot image",
            ),
            Fact::WrongSha => findings.fault(
                "M13",
                spot,
                Sure::High,
                "everything was sent, and what is stored has another SHA-256 than announced",
            ),
            Fact::ServerFlash => {
                findings.fault("M11", spot, Sure::High, "the device could not write its flash")
            }
            Fact::ServerInspect(code) => {
                if let Some((id, sure, why)) = image_error(*code) {
                    findings.fault(id, spot, sure, why);
                }
            }
            _ => {}
        }
    }

    fn send(&mut self, spot: Spot, fields: SmpSent, findings: &mut Findings) {
        let is_upload = (fields.group, fields.command) == UPLOAD;
        if is_upload && fields.off == Some(0) && self.farthest > 0 {
            restarted(spot, self.farthest, findings);
        }
        if self.sent.len() >= MOST_OPEN {
            self.sent.drain(..MOST_OPEN / 2);
        }
        self.sent.push(Sent {
            spot,
            fields,
            answered: false,
            failed: false,
        });
    }

    /// The request that an answer belongs to: by its number, else the oldest that waits.
    fn request(&mut self, got: &SmpGot) -> Option<usize> {
        match got.seq {
            Some(_) => self.sent.iter().rposition(|sent| sent.fields.seq == got.seq),
            // Without a number it is the last request again, in words, or the oldest that waits.
            None => self
                .sent
                .iter()
                .position(|sent| !sent.answered)
                .or_else(|| self.sent.len().checked_sub(1)),
        }
    }

    fn got(&mut self, spot: Spot, got: SmpGot, findings: &mut Findings) {
        let index = self.request(&got);
        let request = index.and_then(|index| self.sent.get_mut(index));
        let mut of = got.of;
        let mut first = self.farthest == 0;
        if let Some(sent) = request {
            of = of.or(Some(sent.of()));
            first = sent.fields.off.map_or(first, |off| off == 0);
            if !sent.answered && sent.of() == UPLOAD && sent.fields.off == Some(0) {
                if let Some(took) = between(sent.spot, spot).filter(|took| *took >= SLOW_MS) {
                    findings.fault(
                        "M2",
                        sent.spot,
                        Sure::High,
                        format!("the first piece was answered after {}", seconds(took)),
                    );
                }
            }
            // The same error in other words.
            if sent.failed && got.off.is_none() {
                return;
            }
            sent.answered = true;
            sent.failed = got.err.is_some() || got.rc.is_some_and(|code| code != 0);
        }
        let found = match (got.err, got.rc) {
            (Some((IMAGE, code)), _) => image_error(code),
            (_, Some(code)) if code != 0 => plain_error(code, of, first),
            _ => None,
        };
        if let Some((id, sure, why)) = found {
            let rank = if id == "M1" { Rank::Harmless } else { Rank::Fault };
            findings.add(rank, id, spot, sure, why);
        }
        if got.matches == Some(false) {
            findings.fault(
                "M13",
                spot,
                Sure::High,
                "everything was sent, and what is stored has another SHA-256 than announced",
            );
        }
        if let Some(off) = got.off.filter(|_| of == Some(UPLOAD) || of.is_none()) {
            self.told(spot, off, findings);
        }
    }

    fn told(&mut self, spot: Spot, off: u32, findings: &mut Findings) {
        if self.last_off == Some(off) {
            self.repeated += 1;
            if self.repeated == 2 {
                findings.fault(
                    "M11",
                    spot,
                    Sure::High,
                    format!("the device answers every piece with offset {off}: it stores nothing"),
                );
            }
        } else {
            self.repeated = 0;
        }
        if off < self.farthest && off > 0 {
            findings.fault(
                "M11",
                spot,
                Sure::High,
                format!("the device goes back from offset {} to {off}", self.farthest),
            );
        }
        self.last_off = Some(off);
        self.farthest = self.farthest.max(off);
    }

    fn timed_out(&mut self, spot: Spot, seq: Option<u8>, off: Option<u32>, findings: &mut Findings) {
        let by = |sent: &&Sent| match (seq, off) {
            (Some(seq), _) => sent.fields.seq == Some(seq),
            (_, Some(off)) => sent.fields.off == Some(off),
            _ => !sent.answered,
        };
        let request = self.sent.iter().rev().find(by);
        let (at, of, offset) = match (request, self.offset) {
            (Some(sent), _) => (sent.spot, sent.of(), sent.fields.off.or(off)),
            (None, Some((at, offset))) => (at, UPLOAD, Some(offset)),
            (None, None) => (spot, UPLOAD, off),
        };
        let waited = between(at, spot).filter(|ms| *ms > 0).map(seconds);
        let waited = waited.map_or(String::new(), |waited| format!(" in {waited}"));
        match (of, offset) {
            (RESET, _) => findings.fault("M16", at, Sure::Medium, "the request to reset got no answer"),
            (UPLOAD, Some(0)) => findings.fault(
                "M2",
                at,
                Sure::High,
                format!("the first piece of the upload got no answer{waited}"),
            ),
            (UPLOAD, None) if self.farthest == 0 => findings.fault(
                "M2",
                at,
                Sure::Medium,
                format!("a request got no answer{waited}, before any piece was acknowledged"),
            ),
            (_, Some(offset)) => findings.fault(
                "M3",
                at,
                Sure::Medium,
                format!("the piece at offset {offset} got no answer{waited}"),
            ),
            (_, None) => findings.fault("M3", at, Sure::Low, format!("a request got no answer{waited}")),
        }
    }
}

fn restarted(spot: Spot, farthest: u32, findings: &mut Findings) {
    findings.fault(
        "M12",
        spot,
        Sure::Medium,
        format!("the upload begins at 0 again, after {farthest} bytes had been acknowledged"),
    );
}

/// Errors of the image group (SMP version 2, and the log of a server).
fn image_error(code: u32) -> Option<(&'static str, Sure, String)> {
    let (id, sure, why) = match code {
        8 => ("M6", Sure::High, "the device has no image with this hash"),
        9 | 28 => (
            "M5",
            Sure::High,
            "the slot is not free: an update waits in it, or the image that runs is not confirmed",
        ),
        10..=13 => (
            "M11",
            Sure::High,
            "the device could not open, read, write or erase its flash",
        ),
        22 | 23 | 29 => (
            "M10",
            Sure::High,
            "the device does not take the file for an MCUboot image",
        ),
        27 => ("M10", Sure::High, "the image is older than the one that runs"),
        30 | 31 => (
            "M10",
            Sure::High,
            "the image is too large for the slot with its trailer",
        ),
        24 | 33 => (
            "M7",
            Sure::Medium,
            "the image cannot be marked: wrong length of the hash, or it runs already",
        ),
        32 => ("M9", Sure::Medium, "the application denied it"),
        _ => return None,
    };
    Some((id, sure, format!("error {code} of the image group: {why}")))
}

/// Errors of SMP version 1.
fn plain_error(code: u32, of: Option<(u16, u8)>, first: bool) -> Option<(&'static str, Sure, String)> {
    let (id, sure, why) = match (code, of) {
        (8, Some(PARAMETERS)) => (
            "M1",
            Sure::High,
            "the device does not tell its buffers, so frames stay small; that is harmless",
        ),
        (6, _) => (
            "M5",
            Sure::High,
            "the slot is not free: an update waits in it, or the image that runs is not confirmed",
        ),
        (5, Some(STATE) | None) => ("M6", Sure::High, "the device has no image with this hash"),
        (1 | 3, Some(STATE) | None) => ("M7", Sure::Low, "the image cannot be marked"),
        (2, Some(UPLOAD) | None) if first => (
            "M4",
            Sure::Medium,
            "the first piece is refused for want of memory or of a free slot",
        ),
        (9, _) => ("M8", Sure::High, "the frame is not one that the transport takes"),
        (10 | 11, _) => (
            "M9",
            Sure::Medium,
            "the device is busy, or its application denied the request",
        ),
        (3, Some(UPLOAD)) => (
            "M10",
            Sure::Medium,
            "the device does not take the file for an image that fits",
        ),
        (1, Some(UPLOAD)) => ("M11", Sure::Low, "the device could not store a piece"),
        _ => return None,
    };
    Some((id, sure, format!("rc {code}: {why}")))
}
