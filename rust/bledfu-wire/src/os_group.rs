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
//! Every parameter may be absent. The clock (command 4) is refused as not supported. Source: Zephyr `os_mgmt.c`,
//! `smp_group_0.rst`.

use crate::cbor::{Fields, Writer};
use crate::smp::{op, Code};
use core::fmt;
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
    /// Send the text back; empty if none came.
    Echo(&'a str),
    /// Restart, after the answer. What cannot be read of the parameters counts as absent, as in Zephyr.
    Reset {
        /// Even if the application objects.
        force: bool,
        /// Where to: 0 the application, 1 the boot loader; `None`: not said.
        boot_mode: Option<u32>,
    },
    /// How long may a frame be, and how many may be under way?
    Parameters,
    /// Describe the system.
    Info {
        /// One letter for each wanted part; empty if none came.
        format: &'a str,
    },
    /// Describe the boot loader.
    BootloaderInfo {
        /// What about it; `None`: its name.
        query: Option<&'a str>,
    },
}

/// Decodes the payload of a request; `op` is that of the header.
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

/// The text of `name`, the only key that has a meaning.
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
    /// 1: something failed.
    Unknown = 1,
    /// 2: the format holds a letter that means nothing.
    InvalidFormat = 2,
    /// 3: there is no answer to this query about the boot loader.
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

    /// The error of that number, for the client's side.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL
            .get(usize::try_from(number.checked_sub(1)?).ok()?)
            .copied()
    }

    /// What version 1 of the protocol says instead.
    pub const fn code(self) -> Code {
        match self {
            Self::Unknown | Self::ClockFailed => Code::Unknown,
            Self::InvalidFormat => Code::Invalid,
            Self::QueryYieldsNoAnswer | Self::ClockNotSet => Code::NoEntry,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown error (os 1)",
            Self::InvalidFormat => "the format holds a letter that means nothing (os 2)",
            Self::QueryYieldsNoAnswer => "the device has no answer to this query (os 3)",
            Self::ClockNotSet => "the clock is not set (os 4)",
            Self::ClockFailed => "the clock failed (os 5)",
        })
    }
}

impl core::error::Error for Error {}

/// An answer; a reset is answered with [`crate::smp::Response::Empty`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// The text that came.
    Echo(&'a str),
    /// What the transport can take.
    Parameters {
        /// Longest frame in bytes, with its header.
        buf_size: u32,
        /// Number of such frames that are held.
        buf_count: u32,
    },
    /// The parts that were asked for.
    Info(&'a str),
    /// The name of the boot loader.
    Bootloader {
        /// "MCUboot" for everything that swaps as MCUboot does.
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
