// SPDX-License-Identifier: Apache-2.0
//! Apps with IOS-DFU-Library. The library gives a level and a text; the app puts in front what it likes.

use super::super::fact::Fact;
use super::{bytes, code, dec, hex, place, Pattern};

/// Result codes and extended codes share their numbers; the text tells them apart.
fn is_extended(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["version", "signature", "hash", "verification", "init command"]
        .iter()
        .any(|word| text.contains(word))
}

pub const PATTERNS: &[Pattern] = &[
    Pattern(
        r"(?i)peripheral\.writeValue\(0x([0-9a-f]+), for: ([0-9a-f-]{36})",
        |c| {
            Some(Fact::Write {
                to: place(c, 2)?,
                bytes: bytes(c, 1)?,
            })
        },
    ),
    Pattern(
        r"Notification received from ([0-9A-F]{8}-[0-9A-F-]{27}), value ?\(0x\): ?([0-9a-fA-F]+)(?:\W|$)",
        |c| {
            Some(Fact::Notify {
                from: place(c, 1)?,
                bytes: bytes(c, 2)?,
            })
        },
    ),
    Pattern(
        r"(Command|Data) object (?:info|selected) \(Max size = (\d+), Offset = (\d+), CRC = ([0-9A-Fa-f]+)\) received",
        |c| {
            Some(Fact::Info {
                command: &c[1] == "Command",
                max: dec(c, 2)?,
                offset: dec(c, 3)?,
                crc: hex(c, 4)?,
            })
        },
    ),
    Pattern(
        r"Checksum \(Offset = (\d+), CRC = ([0-9A-Fa-f]+)\) received",
        |c| {
            Some(Fact::Checksum {
                offset: dec(c, 1)?,
                crc: hex(c, 2)?,
            })
        },
    ),
    Pattern(r"Data object (\d+)/(\d+) created", |c| {
        Some(Fact::Created {
            object: Some((dec(c, 1)?, dec(c, 2)?)),
        })
    }),
    Pattern(
        r"Packet Receipt Notif (?:enabled|disabled) \(Value = (\d+)\)",
        |c| Some(Fact::Receipts(dec(c, 1)?)),
    ),
    Pattern(r"Packet Receipt Notif disabled", |_| Some(Fact::Receipts(0))),
    Pattern(r"(\d+) bytes were sent while (\d+) bytes were reported", |c| {
        Some(Fact::SentTold {
            sent: dec(c, 1)?,
            told: dec(c, 2)?,
        })
    }),
    Pattern(
        r"did disconnect peripheral with error: (?:The connection has timed out|.*timed out)",
        |_| {
            Some(Fact::LinkState {
                dfu: true,
                status: 8,
                up: false,
            })
        },
    ),
    Pattern(
        r"did disconnect peripheral with error: The specified device has disconnected",
        |_| {
            Some(Fact::LinkState {
                dfu: true,
                status: 19,
                up: false,
            })
        },
    ),
    Pattern(r"\[Callback\] Central Manager did disconnect peripheral", |_| {
        Some(Fact::Ended)
    }),
    Pattern(r"DFU Bootloader found with name", |_| Some(Fact::Found)),
    Pattern(r"Upload completed|Firmware uploaded", |_| Some(Fact::Completed)),
    Pattern(r"MTU set to (\d+)", |c| Some(Fact::Mtu(dec(c, 1)?))),
    Pattern(r"(?:^|[^\w])Error (\d+): (.*)", |c| {
        let number = dec(c, 1)?;
        // The log has the raw code. Extended codes and result codes share their numbers; what was answered before decides.
        Some(match number {
            201..=203 => Fact::Library(4096),
            302 => Fact::NoService,
            305 | 306 => Fact::Library(4096),
            308 => Fact::SentTold { sent: 0, told: 0 },
            309 => Fact::CrcWrong,
            11..=13 => Fact::Extended(code(number)?),
            14..=20 => Fact::Remote(code(number - 10)?),
            21..=89 => Fact::Extended(code(number - 20)?),
            90..=99 => Fact::Buttonless(code(number - 90)?),
            9001..=9099 => Fact::Buttonless(code(number - 9000)?),
            1..=10 if is_extended(c.get(2)?.as_str()) => Fact::Extended(code(number)?),
            1..=10 => Fact::Remote(code(number)?),
            _ => return None,
        })
    }),
];

/// Lines that say nothing about the update.
pub const KNOWN: &str = r"Starting Secure DFU|peripheral\.|centralManager\.|\[Callback\] |Object (?:info|executed)|^[VDIAWE]: |logWith: \d";
