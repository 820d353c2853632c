// SPDX-License-Identifier: Apache-2.0
//! nrfutil 6: its SLIP bytes in decimal, its messages, the last line of its traceback.

use regex_lite::Captures;

use super::super::fact::{Fact, Place};
use super::{code, dec, hex, result_name, Pattern};

/// Opcode of a packet's bytes, and of the answers.
const WRITE: u8 = 8;

fn numbers(found: &Captures<'_>) -> Option<Vec<u8>> {
    let text = found.get(1)?.as_str();
    text.split(',').map(|number| number.trim().parse().ok()).collect()
}

pub const PATTERNS: &[Pattern] = &[
    Pattern(r"SLIP: --> \[([0-9, ]+)\]", |c| {
        let mut bytes = numbers(c)?;
        Some(match bytes.first()? {
            &WRITE => Fact::Write {
                to: Place::Packet,
                bytes: bytes.split_off(1),
            },
            // Ping and MTU have no counterpart in the air.
            1..=6 | 12 => Fact::Write {
                to: Place::Control,
                bytes,
            },
            _ => Fact::Known,
        })
    }),
    Pattern(r"SLIP: <-- \[([0-9, ]+)\]", |c| {
        let bytes = numbers(c)?;
        Some(match bytes.get(1)? {
            1..=6 | 12 => Fact::Notify {
                from: Place::Control,
                bytes,
            },
            _ => Fact::Known,
        })
    }),
    Pattern(
        r"(?:Serial|BLE): Object selected: *max_size:(\d+) offset:(\d+) crc:(\d+)",
        |c| {
            let max = dec(c, 1)?;
            Some(Fact::Info {
                command: max < 4096,
                max,
                offset: dec(c, 2)?,
                crc: dec(c, 3)?,
            })
        },
    ),
    Pattern(r"Streaming Data: len:\d+ offset:\d+ crc:", |_| {
        Some(Fact::Uploading)
    }),
    Pattern(r"Extended Error 0x([0-9A-Fa-f]+)", |c| {
        Some(Fact::Extended(code(hex(c, 1)?)?))
    }),
    Pattern(r"Response Code ([A-Za-z_ ]+)", |c| {
        Some(Fact::Remote(result_name(&c[1])?))
    }),
    Pattern(
        r"No ping response after opening COM port|Unexpected Executed OP_CODE|Timeout: operation",
        |_| Some(Fact::NoPing),
    ),
    Pattern(r"Failed CRC validation", |_| Some(Fact::CrcWrong)),
    Pattern(r"Failed offset validation", |_| Some(Fact::Lost(0))),
    Pattern(r"Disconnected with reason: (\w+)", |c| {
        let status = match &c[1] {
            reason if reason.contains("CONNECTION_TIMEOUT") => 8,
            reason if reason.contains("REMOTE") => 19,
            reason if reason.contains("LOCAL") => 22,
            _ => return None,
        };
        Some(Fact::LinkState {
            dfu: true,
            status,
            up: false,
        })
    }),
    Pattern(r"code: Sdfu(\w+)", |c| {
        Some(match &c[1] {
            "ExtInitCommandInvalid" => Fact::Extended(4),
            "ExtFwVersionFailure" => Fact::Extended(5),
            "ExtHwVersionFailure" => Fact::Extended(6),
            "ExtSdVersionFailure" => Fact::Extended(7),
            "ExtSignatureMissing" => Fact::Extended(8),
            "ExtWrongHashType" => Fact::Extended(9),
            "ExtHashFailed" => Fact::Extended(10),
            "ExtWrongSignatureType" => Fact::Extended(11),
            "ExtVerificationFailed" => Fact::Extended(12),
            "ExtInsufficientSpace" => Fact::Extended(13),
            other => Fact::Remote(result_name(other)?),
        })
    }),
    Pattern(r"BLE: Disconnected with reason|Connection lost", |_| {
        Some(Fact::Ended)
    }),
    Pattern(r"Device programmed", |_| Some(Fact::Completed)),
];

/// Lines that say nothing about the update.
pub const KNOWN: &str = r"Sending init packet|Sending firmware|(?:Serial|BLE): |pc_ble_driver_py|Traceback \(most recent|nordicsemi";
