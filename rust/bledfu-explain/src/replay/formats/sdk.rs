// SPDX-License-Identifier: Apache-2.0
//! The bootloader of the nRF5 SDK, over RTT or a serial port.

use super::super::fact::Fact;
use super::{code, dec, hex, Pattern};

pub const PATTERNS: &[Pattern] = &[
    Pattern(
        r"Handle NRF_DFU_OP_(?:OBJECT_)?(\w+?)(?: \((command|data)\))?\s*$",
        |c| {
            let op = match &c[1] {
                "CREATE" => 1,
                "RECEIPT_NOTIF_SET" => 2,
                "CRC_GET" => 3,
                "EXECUTE" => 4,
                "SELECT" => 6,
                _ => return Some(Fact::Known),
            };
            Some(Fact::SdkHandle {
                op,
                command: c.get(2).is_some_and(|kind| kind.as_str() == "command"),
            })
        },
    ),
    Pattern(
        r"Creating object with size: (\d+)\. Offset: 0x([0-9A-Fa-f]+)",
        |c| {
            Some(Fact::SdkCreating {
                size: dec(c, 1)?,
                offset: hex(c, 2)?,
            })
        },
    ),
    Pattern(
        r"nrf_dfu_req_handler: Offset: ?(\d+), CRC: ?0x([0-9A-Fa-f]+)|DFU_REQ_HANDLING:\w+:Offset: ?(\d+), CRC: ?0x([0-9A-Fa-f]+)",
        |c| {
            Some(Fact::SdkOffset {
                offset: dec(c, 1).or_else(|| dec(c, 3))?,
                crc: hex(c, 2).or_else(|| hex(c, 4))?,
            })
        },
    ),
    Pattern(r"Invalid data\. expected: (\d+), got: (\d+)", |c| {
        Some(Fact::SdkInvalidData {
            expected: dec(c, 1)?,
            got: dec(c, 2)?,
        })
    }),
    Pattern(r"Request handling complete\. Result: 0x([0-9A-Fa-f]+)", |c| {
        Some(Fact::SdkResult {
            op: None,
            code: code(hex(c, 1)?)?,
        })
    }),
    Pattern(r"DFU request (\d+) failed with error: 0x([0-9A-Fa-f]+)", |c| {
        Some(Fact::SdkResult {
            op: Some(code(dec(c, 1)?)?),
            code: code(hex(c, 2)?)?,
        })
    }),
    Pattern(r"Buffer 0x[0-9A-Fa-f]+ acquired", |_| Some(Fact::SdkAcquired)),
    Pattern(r"Freeing buffer 0x", |_| Some(Fact::SdkFreed)),
    Pattern(r"cannot allocate memory buffer", |_| Some(Fact::SdkNoBuffer)),
    Pattern(
        r"Flash (?:write|erase) failed|nrf_fstorage_(?:write|erase)\(.*\) failed",
        |_| Some(Fact::SdkFlashFailed),
    ),
    Pattern(r"(?i)FW version too low|Firmware version too low", |_| {
        Some(Fact::SdkCheck(5))
    }),
    Pattern(
        r"(?i)(?:hw|hardware) version (?:mismatch|failure|not)|Faulty HW version",
        |_| Some(Fact::SdkCheck(6)),
    ),
    Pattern(r"(?i)SD req not met|no matching softdevice", |_| {
        Some(Fact::SdkCheck(7))
    }),
    Pattern(r"(?i)Hash verification failed|Invalid hash|Wrong hash", |_| {
        Some(Fact::SdkCheck(12))
    }),
    Pattern(
        r"(?i)Boot validation failed|(?:app|application) is not valid",
        |_| Some(Fact::SdkBootInvalid),
    ),
];

/// Lines that say nothing about the update.
pub const KNOWN: &str = r"nrf_dfu_\w+: |nrf_bootloader\w*: |DFU_REQ_HANDLING|^(?:\d+> ?)?<(?:debug|info|warning|error)> |^:(?:INFO|DEBUG|ERROR|WARNING):";
