// SPDX-License-Identifier: Apache-2.0
//! nRF Connect Device Manager: Android with header and CBOR as JSON, iOS with the bytes or with a name for each request.

use std::sync::LazyLock;

use bledfu_wire::smp::Header;
use bledfu_wire::smp_answer::Answer;
use regex_lite::{Captures, Regex};

use super::super::fact::{Fact, SmpGot, SmpSent};
use super::{bytes, code, dec, Pattern};

struct Fields {
    off: Regex,
    len: Regex,
    rc: Regex,
    err: Regex,
    matches: Regex,
}

#[expect(clippy::unwrap_used, reason = "the patterns are constants")]
static FIELDS: LazyLock<Fields> = LazyLock::new(|| Fields {
    off: Regex::new(r#""off" ?: ?(\d+)"#).unwrap(),
    len: Regex::new(r#""len" ?: ?(\d+)"#).unwrap(),
    rc: Regex::new(r#""rc" ?: ?(\d+)"#).unwrap(),
    err: Regex::new(r#""err" ?: ?\{ ?"group" ?: ?(\d+), ?"rc" ?: ?(\d+)"#).unwrap(),
    matches: Regex::new(r#""match" ?: ?(true|false)"#).unwrap(),
});

fn field(pattern: &Regex, text: &str) -> Option<u32> {
    pattern.captures(text)?.get(1)?.as_str().parse().ok()
}

/// Fields of an answer in CBOR that is written as JSON.
fn got(text: &str) -> SmpGot {
    let fields = &*FIELDS;
    let err = fields.err.captures(text);
    let err = err.and_then(|c| Some((u16::try_from(dec(&c, 1)?).ok()?, dec(&c, 2)?)));
    SmpGot {
        // The code of `err` is not the `rc` of version 1.
        rc: if err.is_some() {
            None
        } else {
            field(&fields.rc, text)
        },
        err,
        off: field(&fields.off, text),
        matches: fields.matches.captures(text).map(|c| &c[1] == "true"),
        ..SmpGot::default()
    }
}

fn of(found: &Captures<'_>, group: usize, command: usize) -> Option<(u16, u8)> {
    Some((
        u16::try_from(dec(found, group)?).ok()?,
        code(dec(found, command)?)?,
    ))
}

/// A command by the names that the iOS library gives.
fn named(group: &str, command: &str) -> Option<(u16, u8)> {
    let command = command.to_ascii_lowercase();
    Some(match group.to_ascii_lowercase().as_str() {
        "image" => (
            1,
            match command.as_str() {
                "state" => 0,
                "upload" => 1,
                "erase" => 5,
                "slotinfo" | "slot info" => 6,
                _ => return None,
            },
        ),
        "os" | "default" => (
            0,
            match command.as_str() {
                "echo" => 0,
                "reset" => 5,
                "mcumgrparameters" | "parameters" | "mcumgr parameters" => 6,
                "bootloaderinformation" | "bootloaderinfo" | "bootloader information" => 8,
                _ => return None,
            },
        ),
        _ => return None,
    })
}

pub const PATTERNS: &[Pattern] = &[
    Pattern(
        r"Sending(?: \((\d+) bytes\))? Header \(Version: \d+, Op: (\d+), Flags: \d+, Len: \d+, Group: (\d+), Seq: (\d+), Command: (\d+)\)(?: CBOR (.*))?",
        |c| {
            let (group, command) = of(c, 3, 5)?;
            let cbor = c.get(6).map_or("", |text| text.as_str());
            Some(Fact::SmpSent(SmpSent {
                group,
                command,
                write: dec(c, 2)? == 2,
                seq: code(dec(c, 4)?),
                off: field(&FIELDS.off, cbor),
                len: field(&FIELDS.len, cbor),
                bytes: dec(c, 1),
            }))
        },
    ),
    Pattern(
        r"Received(?: \(\d+ bytes\))? Header \(Version: \d+, Op: \d+, Flags: \d+, Len: \d+, Group: (\d+), Seq: (\d+), Command: (\d+)\)(?: CBOR (.*))?",
        |c| {
            Some(Fact::SmpGot(SmpGot {
                of: of(c, 1, 3),
                seq: code(dec(c, 2)?),
                ..got(c.get(4).map_or("", |text| text.as_str()))
            }))
        },
    ),
    Pattern(
        r"-> \[Seq: (\d+)\] (?:0x)?([0-9a-fA-F]{16,}) \((\d+) bytes\)",
        |c| {
            let frame = bytes(c, 2)?;
            let header = Header::decode(&frame)?;
            Some(Fact::SmpSent(SmpSent {
                group: header.group,
                command: header.command,
                write: header.op == 2,
                seq: code(dec(c, 1)?),
                off: None,
                len: None,
                bytes: dec(c, 3),
            }))
        },
    ),
    Pattern(
        r"<- \[Seq: (\d+)\] (?:0x)?([0-9a-fA-F]{16,}) \(\d+ bytes\)",
        |c| {
            let frame = bytes(c, 2)?;
            let header = Header::decode(&frame)?;
            let mut fact = SmpGot {
                of: Some((header.group, header.command)),
                seq: code(dec(c, 1)?),
                ..SmpGot::default()
            };
            if let Ok(answer) = Answer::decode(&frame) {
                match answer.error {
                    Some(error) => match error.group {
                        Some(group) => fact.err = Some((group, u32::try_from(error.number).ok()?)),
                        None => fact.rc = u32::try_from(error.number).ok(),
                    },
                    None => {
                        if let Ok(upload) = answer.upload() {
                            fact.off = upload.offset.and_then(|off| u32::try_from(off).ok());
                            fact.matches = upload.matches;
                        }
                    }
                }
            }
            Some(Fact::SmpGot(fact))
        },
    ),
    Pattern(
        r"Sending (\w+) command \(Version: \w+, Group: ([\w ]+), seq: (\d+), ID: ([\w ]+)\): (.*)",
        |c| {
            let (group, command) = named(&c[2], &c[4])?;
            let cbor = c.get(5).map_or("", |text| text.as_str());
            Some(Fact::SmpSent(SmpSent {
                group,
                command,
                write: c[1].eq_ignore_ascii_case("write"),
                seq: code(dec(c, 3)?),
                off: field(&FIELDS.off, cbor),
                len: field(&FIELDS.len, cbor),
                bytes: None,
            }))
        },
    ),
    Pattern(
        r"Response \(\w+, group: ([\w ]+), seq: (\d+), command: ([\w ]+)\): (.*)",
        |c| {
            Some(Fact::SmpGot(SmpGot {
                of: named(&c[1], &c[3]),
                seq: code(dec(c, 2)?),
                ..got(c.get(4).map_or("", |text| text.as_str()))
            }))
        },
    ),
    Pattern(r"Uploader write failure for chunk with offset=(\d+)", |c| {
        Some(Fact::SmpTimeout {
            seq: None,
            off: dec(c, 1),
        })
    }),
    Pattern(
        r"Transaction (\d+) timed out|Request \(.*seq: (\d+).*\) failed: Sending the request timed out",
        |c| {
            Some(Fact::SmpTimeout {
                seq: dec(c, 1).or_else(|| dec(c, 2)).and_then(code),
                off: None,
            })
        },
    ),
    Pattern(r"failed: Sending the request timed out", |_| {
        Some(Fact::SmpTimeout { seq: None, off: None })
    }),
    Pattern(r"Chunk with offset (\d+) has been lost", |c| {
        Some(Fact::SmpLost { off: dec(c, 1) })
    }),
    Pattern(r"A notification for chunk with offset=(\d+) was lost", |c| {
        Some(Fact::SmpLost { off: dec(c, 1) })
    }),
    Pattern(
        r"Mcu ?Mgr Error: \w+ \((\d+)\)|Remote Error: .*\(RC: (\d+)\)",
        |c| {
            Some(Fact::SmpGot(SmpGot {
                rc: dec(c, 1).or_else(|| dec(c, 2)),
                ..SmpGot::default()
            }))
        },
    ),
    Pattern(r"Failed to negotiate MTU", |_| Some(Fact::NoMtu)),
    Pattern(r"Pending flag of slot \d+ of image \d+ not set", |_| {
        Some(Fact::NotPending)
    }),
    Pattern(
        r"(?i)invalidHeaderMagic|invalid (?:image )?(?:header )?magic",
        |_| Some(Fact::BadMagic),
    ),
];

/// Lines that say nothing about the update.
pub const KNOWN: &str = r"^Device Manager, \d{4}-|^nRF Connect Device Manager, |Starting DFU, mode|SMP reassembly supported|Mcu Manager parameters received|Moving from state|McuMgrBleTransport|Upload failed|Validation|\[(?:e|u|j|c|d)\] ";
