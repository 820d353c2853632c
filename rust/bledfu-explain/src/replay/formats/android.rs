// SPDX-License-Identifier: Apache-2.0
//! nRF Connect, nRF DFU and nRF Logger for Android (Android-DFU-Library), and Android's own log. Lines with `[DFU]` belong to the
//! update, lines without to the app's own connection, which may be to another device.

use regex_lite::Captures;

use super::super::fact::{Fact, Place};
use super::{address, bytes, code, dec, hex, library_error, place, Pattern};

fn dfu(found: &Captures<'_>, group: usize) -> bool {
    found.get(group).is_some()
}

/// A request that the log names without its bytes.
fn request(bytes: &[u8]) -> Option<Fact> {
    Some(Fact::Write {
        to: Place::Control,
        bytes: bytes.to_vec(),
    })
}

fn stack_error(found: &Captures<'_>, dfu: bool, number: u32) -> Option<Fact> {
    // Below 256 the number is the stack's, above the library's.
    match number {
        0..=255 => Some(Fact::LinkError { dfu, code: number }),
        _ => library_error(number).or_else(|| found.get(0).map(|_| Fact::Known)),
    }
}

pub const PATTERNS: &[Pattern] = &[
    Pattern(
        r"(?i)(?:Writing to characteristic|Writing value to) ([0-9a-f-]{36}),? value \(0x\): ([0-9A-F-]+)",
        |c| {
            Some(Fact::Write {
                to: place(c, 1)?,
                bytes: bytes(c, 2)?,
            })
        },
    ),
    Pattern(
        r"gatt\.writeCharacteristic\(([0-9a-f-]{36}), value=0x([0-9A-F-]+)",
        |c| {
            Some(Fact::Write {
                to: place(c, 1)?,
                bytes: bytes(c, 2)?,
            })
        },
    ),
    Pattern(
        r"(?:Notification|Indication) received from ([0-9a-fA-F-]{36}), value \(0x\): ?([0-9A-Fa-f-]+)",
        |c| {
            Some(Fact::Notify {
                from: place(c, 1)?,
                bytes: bytes(c, 2)?,
            })
        },
    ),
    Pattern(
        r"Data written to |gatt\.(?:writeCharacteristic|writeDescriptor|setCharacteristicNotification)",
        |_| Some(Fact::Known),
    ),
    Pattern(
        r"(Command|Data) object info received \(Max size = (\d+), Offset = (\d+), CRC = ([0-9A-F]+)\)",
        |c| {
            Some(Fact::Info {
                command: &c[1] == "Command",
                max: dec(c, 2)?,
                offset: dec(c, 3)?,
                crc: hex(c, 4)?,
            })
        },
    ),
    Pattern(r"Data object \((\d+)/(\d+)\) created", |c| {
        Some(Fact::Created {
            object: Some((dec(c, 1)?, dec(c, 2)?)),
        })
    }),
    Pattern(r"Command object created", |_| {
        Some(Fact::Created { object: None })
    }),
    Pattern(
        r"Creating Init packet object \(Op Code = 1, Type = 1, Size = (\d+)\)",
        |c| {
            let [a, b, d, e] = dec(c, 1)?.to_le_bytes();
            request(&[1, 1, a, b, d, e])
        },
    ),
    Pattern(
        r"Creating Data object \(Op Code = 1, Type = 2, Size = (\d+)\)",
        |c| {
            let [a, b, d, e] = dec(c, 1)?.to_le_bytes();
            request(&[1, 2, a, b, d, e])
        },
    ),
    Pattern(r"Sending Calculate Checksum command \(Op Code = 3\)", |_| {
        request(&[3])
    }),
    Pattern(
        r"(?:Sending Execute|Executing \w+ object).*\(Op Code = 4\)",
        |_| request(&[4]),
    ),
    Pattern(
        r"(?:Uploading firmware\.\.\.|Resuming uploading|Sending firmware to characteristic|Sending firmware\.\.\.)",
        |_| Some(Fact::Uploading),
    ),
    Pattern(r"Checksum received \(Offset = (\d+), CRC = ([0-9A-F]+)\)", |c| {
        Some(Fact::Checksum {
            offset: dec(c, 1)?,
            crc: hex(c, 2)?,
        })
    }),
    Pattern(
        r"CRC does not match|CRC32 does not match|Invalid CRC|CRC mismatch",
        |_| Some(Fact::CrcWrong),
    ),
    Pattern(r"(Command|Data) object executed", |c| {
        Some(Fact::Executed {
            command: &c[1] == "Command",
        })
    }),
    Pattern(r"(\d+) bytes were lost", |c| Some(Fact::Lost(dec(c, 1)?))),
    Pattern(
        r"Packet Receipt Notif Req \(Op Code = 2\) sent \(Value = (\d+)\)|Packet Receipt Notif (?:enabled|disabled) \(Op Code = 2, Value = (\d+)\)|Number of Packets Request set to (\d+)",
        |c| {
            Some(Fact::Receipts(
                dec(c, 1).or_else(|| dec(c, 2)).or_else(|| dec(c, 3))?,
            ))
        },
    ),
    Pattern(r"Response received \(Op Code = 1, Status = 1\)", |_| {
        Some(Fact::JumpAccepted)
    }),
    Pattern(r"DFU Bootloader not found", |_| Some(Fact::NotFound)),
    Pattern(r"DFU Bootloader found", |_| Some(Fact::Found)),
    Pattern(r"Scanning for the DFU Bootloader", |_| Some(Fact::Scanning)),
    Pattern(
        r"(\[DFU\] |DfuBaseService.*|DfuImpl.*)?Connected to ([0-9A-F]{2}(?::[0-9A-F]{2}){5})",
        |c| {
            Some(Fact::ConnectedTo {
                dfu: dfu(c, 1),
                address: address(c, 2)?,
            })
        },
    ),
    Pattern(
        r"(\[DFU\] )?\[Callback\] Connection state changed with status: (\d+) and new state: (\w+)",
        |c| {
            Some(Fact::LinkState {
                dfu: dfu(c, 1),
                status: dec(c, 2)?,
                up: &c[3] == "CONNECTED",
            })
        },
    ),
    Pattern(r"onClientConnectionState\(\) - status=(\d+)", |c| {
        Some(Fact::LinkState {
            dfu: true,
            status: dec(c, 1)?,
            up: false,
        })
    }),
    Pattern(
        r"Connection parameters updated \(interval: [0-9.]+ ?ms, latency: \d+, timeout: (\d+) ?ms\)",
        |c| Some(Fact::Timeout(dec(c, 1)?)),
    ),
    Pattern(r"onConnectionUpdated\(\).* timeout=(\d+)", |c| {
        Some(Fact::Timeout(dec(c, 1)?.checked_mul(10)?))
    }),
    Pattern(r"MTU changed to: (\d+)", |c| Some(Fact::Mtu(dec(c, 1)?))),
    Pattern(r"Extended Error|Details: .*\(Code = (\d+)\)", |c| {
        Some(dec(c, 1).and_then(code).map_or(Fact::Known, Fact::Extended))
    }),
    Pattern(r"Remote DFU error: (.+)", |c| {
        Some(super::result_name(&c[1]).map_or(Fact::Known, Fact::Remote))
    }),
    Pattern(
        r"(?i)DFU service not found|service not found|required characteristics? not found|does not have (?:the )?DFU",
        |_| Some(Fact::NoService),
    ),
    Pattern(
        r"onError error=(\d+)|(?:^|\W)DFU (?:error|failed)\D{0,12}(\d{3,5})",
        |c| {
            let number = dec(c, 1).or_else(|| dec(c, 2))?;
            stack_error(c, true, number)
        },
    ),
    Pattern(
        r"(\[DFU\] )?(?:Error|Connection failed) \(0x([0-9A-Fa-f]+)\)",
        |c| stack_error(c, dfu(c, 1), hex(c, 2)?),
    ),
    Pattern(r"(\[DFU\] )?Error (\d+)(?: \(0x[0-9A-Fa-f]+\))?: ", |c| {
        stack_error(c, dfu(c, 1), dec(c, 2)?)
    }),
    Pattern(
        r"(?i)(?:type|file) (?:is )?not supported|not a valid (?:zip|firmware)|INVALID FILE|FILE (?:TYPE|SIZE)",
        |_| Some(Fact::BadFile),
    ),
    Pattern(
        r"\[DFU\] Device has disconnected|Disconnected by the remote device|Device has disconnected",
        |_| Some(Fact::Ended),
    ),
    Pattern(
        r"\[DFU\] Disconnecting|\[DFU\] Disconnected|\[DFU\] gatt\.(?:disconnect|close)",
        |_| Some(Fact::Closing),
    ),
    Pattern(
        r"Upload completed in (\d+) ms|(?i)DFU completed|Firmware (?:update|upload) (?:completed|successful)",
        |_| Some(Fact::Completed),
    ),
];

/// Lines that say nothing about the update.
pub const KNOWN: &str = r"^(?:nRF Connect|nRF Toolbox|nRF Logger|DFU|nRF DFU), \d{4}-|\[DFU\] |\[Callback\] |\[Broadcast\] |gatt[. ]|Connecting to |Discovering services|Services discovered|PHY updated|wait\(\d+\)|^- .*\(0x|^- .*\([0-9a-f-]{36}\)|Service \(|Client Characteristic|^[VDIAWE]\s+[0-9:.]+\s+(?:Disconnected|Connected)";
