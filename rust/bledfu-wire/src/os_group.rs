// SPDX-License-Identifier: Apache-2.0
//! Group 0 of SMP: the operating system.
//!
//! ```text
//! command  op           parameters                             answer
//! 0        read, write  d: text                                r: text                        echo
//! 5        write        force: bool or int, boot_mode: uint    nothing                        reset
//! 6        read         none                                   buf_size: uint, buf_count: uint  parameters
//! 7        read         format: text                           output: text                   information
//! 8        read         query: text                            bootloader: text               boot loader
//!                       query: "mode"                          mode: int, no-downgrade: true
//! ```
//! Every parameter is optional. The clock (command 4) is refused as not supported. Source: Zephyr `os_mgmt.c`,
//! `smp_group_0.rst`.

use crate::cbor::{Fields, Writer};
use crate::smp::{op, Code};
use bledfu_text::{words, Line, Text};
use minicbor::Decoder;

/// Command numbers.
#[allow(missing_docs)]
pub mod command {
    pub const ECHO: u8 = 0;
    pub const RESET: u8 = 5;
    pub const PARAMETERS: u8 = 6;
    pub const INFO: u8 = 7;
    pub const BOOTLOADER_INFO: u8 = 8;
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Return the text; empty if none was sent.
    Echo(&'a str),
    /// Reset after the answer. Unreadable parameters count as absent, as in Zephyr.
    Reset {
        /// Even if the application objects.
        force: bool,
        /// What to start: 0 the application, 1 the boot loader; `None`: not given.
        boot_mode: Option<u32>,
    },
    /// Report the longest frame, and how many frames the device buffers.
    Parameters,
    /// Describe the system.
    Info {
        /// One letter for each part; empty if none was sent.
        format: &'a str,
    },
    /// Describe the boot loader.
    BootloaderInfo {
        /// What to describe; `None`: its name.
        query: Option<&'a str>,
    },
}

impl Request<'_> {
    /// Operation and command of a frame with this request. An echo is a write, as all clients send it.
    pub(crate) const fn operation(&self) -> (u8, u8) {
        match self {
            Self::Echo(_) => (op::WRITE, command::ECHO),
            Self::Reset { .. } => (op::WRITE, command::RESET),
            Self::Parameters => (op::READ, command::PARAMETERS),
            Self::Info { .. } => (op::READ, command::INFO),
            Self::BootloaderInfo { .. } => (op::READ, command::BOOTLOADER_INFO),
        }
    }

    /// Writes the parameters and omits default values.
    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        match *self {
            Self::Echo(text) => {
                to.map(1).text("d").text(text);
            }
            Self::Reset { force, boot_mode } => {
                to.map(usize::from(force) + usize::from(boot_mode.is_some()));
                if force {
                    to.text("force").flag(true);
                }
                if let Some(mode) = boot_mode {
                    to.text("boot_mode").number(mode);
                }
            }
            Self::Parameters => {
                to.map(0);
            }
            Self::Info { format: "" } | Self::BootloaderInfo { query: None } => {
                to.map(0);
            }
            Self::Info { format } => {
                to.map(1).text("format").text(format);
            }
            Self::BootloaderInfo { query: Some(query) } => {
                to.map(1).text("query").text(query);
            }
        }
    }
}

/// Decodes the payload of a request; `op` is the operation in its header.
pub(crate) fn decode(operation: u8, command: u8, payload: &[u8]) -> Result<Request<'_>, Code> {
    match (operation, command) {
        (op::READ | op::WRITE, command::ECHO) => {
            let text = only_text(payload, "d")?;
            Ok(Request::Echo(text.unwrap_or_default()))
        }
        (op::WRITE, command::RESET) => {
            let (force, boot_mode) = decode_reset(payload).unwrap_or_default();
            Ok(Request::Reset { force, boot_mode })
        }
        (op::READ, command::PARAMETERS) => Ok(Request::Parameters),
        (op::READ, command::INFO) => {
            let format = only_text(payload, "format")?.unwrap_or_default();
            Ok(Request::Info { format })
        }
        (op::READ, command::BOOTLOADER_INFO) => {
            let query = only_text(payload, "query")?;
            Ok(Request::BootloaderInfo { query })
        }
        _ => Err(Code::NotSupported),
    }
}

/// The text value of `name`, the only known key.
fn only_text<'a>(payload: &'a [u8], name: &str) -> Result<Option<&'a str>, Code> {
    let mut text = None;
    let mut fields = Fields::of(payload)?;
    while let Some(key) = fields.next_key()? {
        if key == name {
            fields.once(&mut text, Decoder::str)?;
        } else {
            fields.skip()?;
        }
    }
    Ok(text)
}

fn decode_reset(payload: &[u8]) -> Result<(bool, Option<u32>), Code> {
    let (mut force, mut boot_mode) = (None, None);
    let mut fields = Fields::of(payload)?;
    while let Some(key) = fields.next_key()? {
        match key {
            "force" => fields.once(&mut force, |value| {
                let start = value.position();
                value.bool().or_else(|_| {
                    value.set_position(start);
                    value.u64().map(|number| number != 0)
                })
            })?,
            "boot_mode" => fields.once_u32(&mut boot_mode)?,
            _ => fields.skip()?,
        }
    }
    Ok((force.unwrap_or_default(), boot_mode))
}

/// Errors of the group (Zephyr `os_mgmt.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Error {
    /// 1: unspecified failure.
    Unknown = 1,
    /// 2: the format contains an unknown letter.
    InvalidFormat = 2,
    /// 3: this query about the boot loader has no answer.
    QueryYieldsNoAnswer = 3,
    /// 4: the clock is not set.
    ClockNotSet = 4,
    /// 5: the clock failed.
    ClockFailed = 5,
}

impl Error {
    const ALL: [Self; 5] = [
        Self::Unknown,
        Self::InvalidFormat,
        Self::QueryYieldsNoAnswer,
        Self::ClockNotSet,
        Self::ClockFailed,
    ];

    /// The error with this number, for clients.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL
            .get(usize::try_from(number.checked_sub(1)?).ok()?)
            .copied()
    }

    /// The code for version 1 of the protocol.
    pub const fn code(self) -> Code {
        match self {
            Self::Unknown | Self::ClockFailed => Code::Unknown,
            Self::InvalidFormat => Code::Invalid,
            Self::QueryYieldsNoAnswer | Self::ClockNotSet => Code::NoEntry,
        }
    }
}

impl Text for Error {
    fn put(&self, line: &mut dyn Line) {
        let words = match self {
            Self::Unknown => words!("unknown error (os 1)"),
            Self::InvalidFormat => words!("the format contains an unknown letter (os 2)"),
            Self::QueryYieldsNoAnswer => words!("the device has no answer to this query (os 3)"),
            Self::ClockNotSet => words!("the clock is not set (os 4)"),
            Self::ClockFailed => words!("the clock failed (os 5)"),
        };
        words.put(line);
    }
}

bledfu_text::display!(Error);

impl core::error::Error for Error {}

/// An answer; a reset is answered with [`crate::smp::Response::Empty`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// The text of the request.
    Echo(&'a str),
    /// Limits of the transport.
    Parameters {
        /// Longest frame in bytes, with its header.
        buf_size: u32,
        /// Number of such frames that the device buffers.
        buf_count: u32,
    },
    /// The requested parts.
    Info(&'a str),
    /// The name of the boot loader.
    Bootloader {
        /// "MCUboot", for everything that swaps like MCUboot.
        name: &'a str,
    },
    /// How the boot loader installs (MCUboot `boot_status.h`).
    Mode {
        /// -1 unknown, 1 swap using scratch, 2 overwrite, 3 swap using move, 9 swap using offset.
        mode: i8,
        /// Older versions are refused.
        no_downgrade: bool,
    },
}

impl Response<'_> {
    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        match *self {
            Self::Echo(text) => {
                to.map(1).text("r").text(text);
            }
            Self::Parameters { buf_size, buf_count } => {
                to.map(2).text("buf_size").number(buf_size);
                to.text("buf_count").number(buf_count);
            }
            Self::Info(text) => {
                to.map(1).text("output").text(text);
            }
            Self::Bootloader { name } => {
                to.map(1).text("bootloader").text(name);
            }
            Self::Mode { mode, no_downgrade } => {
                to.map(1 + usize::from(no_downgrade)).text("mode").signed(mode);
                if no_downgrade {
                    to.text("no-downgrade").flag(true);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::smp::{self, encode, Context, Failure, Header, OS_GROUP};
    use crate::testing::{frame, hex};
    use std::vec;
    use std::vec::Vec;

    fn asked(operation: u8, command: u8, payload: &[u8], expected: Result<Request<'_>, Code>) {
        let frame = frame(operation, OS_GROUP, command, payload);
        let got = smp::decode(&frame).unwrap().request;
        assert_eq!(got, expected.map(smp::Request::Os), "{payload:02x?}");
    }

    fn answered(response: Response<'_>) -> Vec<u8> {
        let request = Header::decode(&frame(op::READ, OS_GROUP, 7, &[])).unwrap();
        let mut out = vec![0; 3000];
        let length = encode(&Context::of(&request), &smp::Response::Os(response), &mut out);
        out[smp::HEADER_SIZE..length].to_vec()
    }

    // smp case 20
    #[test]
    fn a_missing_payload_is_accepted_where_no_parameter_is_needed() {
        asked(op::READ, command::PARAMETERS, &[], Ok(Request::Parameters));
        let plain = Request::Reset {
            force: false,
            boot_mode: None,
        };
        asked(op::WRITE, command::RESET, &[], Ok(plain));
        for command in [command::ECHO, command::INFO, command::BOOTLOADER_INFO] {
            asked(op::READ, command, &[], Err(Code::Invalid));
        }
    }

    #[test]
    fn a_request_for_parameters_accepts_any_payload() {
        for payload in ["a0", "bf ff", "a1 61", "05", "ff"] {
            asked(
                op::READ,
                command::PARAMETERS,
                &hex(payload),
                Ok(Request::Parameters),
            );
        }
    }

    // smp case 31
    #[test]
    fn echoes_of_any_length_come_back_unchanged() {
        let long = "é".repeat(1200);
        for text in ["", "x", "\0", "grüße 🦀", &long] {
            let mut payload = vec![0; 3000];
            let mut writer = Writer::new(&mut payload);
            writer.map(1).text("d").text(text);
            let length = writer.finish().unwrap();
            payload.truncate(length);
            for operation in [op::READ, op::WRITE] {
                asked(operation, command::ECHO, &payload, Ok(Request::Echo(text)));
            }
            // The answer equals the request, except for the key.
            payload[2] = b'r';
            assert_eq!(answered(Response::Echo(text)), payload);
        }
    }

    // smp case 32
    #[test]
    fn an_echo_of_nothing_is_an_echo_of_an_empty_text() {
        asked(op::WRITE, command::ECHO, &hex("a0"), Ok(Request::Echo("")));
        asked(
            op::WRITE,
            command::ECHO,
            &hex("a1 61 72 62 6869"),
            Ok(Request::Echo("")),
        );
        assert_eq!(answered(Response::Echo("")), hex("a1 61 72 60"));
    }

    // smp case 33
    #[test]
    fn parameters_report_both_numbers() {
        let parameters = Response::Parameters {
            buf_size: 70_000,
            buf_count: 300,
        };
        assert_eq!(
            answered(parameters),
            hex("a2 68 6275665f73697a65 1a 00011170 69 6275665f636f756e74 19 012c")
        );
    }

    // smp case 34
    #[test]
    fn info_decodes_the_requested_letters() {
        for (payload, format) in [
            ("a0", ""),
            ("a1 66 666f726d6174 60", ""),
            ("bf 66 666f726d6174 62 7376 ff", "sv"),
            ("a1 66 666f726d6174 62 7378", "sx"),
        ] {
            asked(
                op::READ,
                command::INFO,
                &hex(payload),
                Ok(Request::Info { format }),
            );
        }
        asked(
            op::READ,
            command::INFO,
            &hex("a1 66 666f726d6174 05"),
            Err(Code::Invalid),
        );
        assert_eq!(
            answered(Response::Info("Zephyr")),
            hex("a1 66 6f7574707574 66 5a6570687972")
        );
        assert_eq!(Error::InvalidFormat.code(), Code::Invalid);
    }

    // smp case 35
    #[test]
    fn a_boot_loader_query_differs_from_no_query() {
        for (payload, query) in [
            ("a0", None),
            ("a1 65 7175657279 60", Some("")),
            ("a1 65 7175657279 64 6d6f6465", Some("mode")),
            (
                "a1 65 7175657279 6e 6163746976655f62305f736c6f74",
                Some("active_b0_slot"),
            ),
        ] {
            asked(
                op::READ,
                command::BOOTLOADER_INFO,
                &hex(payload),
                Ok(Request::BootloaderInfo { query }),
            );
        }
        assert_eq!(
            answered(Response::Bootloader { name: "MCUboot" }),
            hex("a1 6a 626f6f746c6f61646572 67 4d4355626f6f74")
        );
        for (mode, bytes) in [(-1, "20"), (0, "00"), (9, "09"), (-128, "38 7f"), (127, "18 7f")] {
            let free = Response::Mode {
                mode,
                no_downgrade: false,
            };
            assert_eq!(
                answered(free),
                [hex("a1 64 6d6f6465"), hex(bytes)].concat(),
                "{mode}"
            );
            let strict = Response::Mode {
                mode,
                no_downgrade: true,
            };
            let key = hex("6c 6e6f2d646f776e6772616465 f5");
            assert_eq!(
                answered(strict),
                [hex("a2 64 6d6f6465"), hex(bytes), key].concat()
            );
        }
        assert_eq!(Error::QueryYieldsNoAnswer.code(), Code::NoEntry);
    }

    // smp case 36
    #[test]
    fn a_reset_is_understood_with_any_payload() {
        let force = "65 666f726365";
        let mode = "69 626f6f745f6d6f6465";
        for (payload, forced, boot_mode) in [
            ("a0".into(), false, None),
            ("bf ff".into(), false, None),
            (std::format!("a1 {force} 01"), true, None),
            (std::format!("a1 {force} 00"), false, None),
            (std::format!("a1 {force} 19 0100"), true, None),
            (std::format!("a1 {force} f5"), true, None),
            (std::format!("a1 {force} f4"), false, None),
            (std::format!("a1 {mode} 01"), false, Some(1)),
            (
                std::format!("bf {mode} 18 01 61 78 9f ff {force} f5 ff"),
                true,
                Some(1),
            ),
            // Garbage: none of it is used.
            (std::format!("a2 {force} f5 {force} f5"), false, None),
            (std::format!("a2 {mode} 01 {force} 61 31"), false, None),
            (std::format!("a1 {mode} 1b 0000000100000000"), false, None),
            (std::format!("a2 {force} f5"), false, None),
            ("ff ff ff".into(), false, None),
            ("05".into(), false, None),
        ] {
            let expected = Request::Reset {
                force: forced,
                boot_mode,
            };
            asked(op::WRITE, command::RESET, &hex(&payload), Ok(expected));
        }
    }

    // smp case 37
    #[test]
    fn the_clock_is_not_supported() {
        for operation in [op::READ, op::WRITE] {
            asked(operation, 4, &hex("a0"), Err(Code::NotSupported));
        }
    }

    #[test]
    fn every_error_has_a_number_and_a_version_1_code() {
        let codes = [
            Code::Unknown,
            Code::Invalid,
            Code::NoEntry,
            Code::NoEntry,
            Code::Unknown,
        ];
        for (number, code) in (1..).zip(codes) {
            let error = Error::from_number(number).unwrap();
            assert_eq!((error as u64, error.code()), (number, code));
            assert!(std::format!("{}", Failure::Os(error)).ends_with(&std::format!("(os {number})")));
        }
        for number in [0, 6, u64::MAX] {
            assert_eq!(Error::from_number(number), None);
        }
    }
}
