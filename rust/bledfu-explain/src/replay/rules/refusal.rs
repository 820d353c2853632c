// SPDX-License-Identifier: Apache-2.0
//! What a refusal of a device means, and an error number of a library.

use super::super::story::{op, Spot};
use super::{Findings, Sure};

/// Where a refusal comes.
pub(super) struct Context {
    pub op: u8,
    /// It is about the image, not the init packet.
    pub is_data: bool,
    /// The answer itself is logged.
    pub logged: bool,
}

/// The signature of a refusal: result code, and extended code of 0B.
pub(super) fn refusal(
    context: &Context,
    code: u8,
    extended: Option<u8>,
) -> Option<(&'static str, Sure, String)> {
    let request = match (context.op, context.is_data) {
        _ if !context.logged => "a request",
        (op::CREATE, true) => "Create of an object",
        (op::CREATE, false) => "Create of the init packet",
        (op::EXECUTE, true) => "Execute of an object",
        (op::EXECUTE, false) => "Execute of the init packet",
        _ => "a request",
    };
    let (id, sure, why) = match (code, extended) {
        (0x0B, Some(5)) => (
            "S19",
            Sure::High,
            "its firmware version is lower than the installed one",
        ),
        (0x0B, Some(6)) => ("S20", Sure::High, "it is for another hardware version"),
        (0x0B, Some(7)) => ("S20", Sure::High, "it needs a SoftDevice that does not run here"),
        (0x0B, Some(2 | 3 | 4 | 9)) => (
            "S21",
            Sure::High,
            "its init packet lacks something or says it in an unknown way",
        ),
        (0x0B, Some(8)) => ("S21", Sure::High, "it is not signed"),
        (0x0B, Some(11)) => ("S21", Sure::High, "its signature is of an unknown type"),
        (0x0B, Some(10 | 12)) => (
            "S22",
            Sure::High,
            "what is stored does not have the hash of the init packet",
        ),
        (0x0B, Some(13)) => ("S18", Sure::High, "it does not fit"),
        (3, _) if context.op == op::CREATE && context.is_data => {
            ("S23", Sure::High, "the size of the object is not one it takes")
        }
        (3, _) => ("S23", Sure::Low, "a value in the request is not one it takes"),
        (4, _) => (
            "S18",
            Sure::High,
            "the image or the object is too large for the device",
        ),
        (5, _) if context.op == op::EXECUTE && !context.is_data => (
            "S14",
            Sure::High,
            "the signature does not fit the key of the device",
        ),
        (5, _) if context.is_data => ("S15", Sure::Medium, "the device calls the object invalid"),
        (5, _) => ("S14", Sure::Medium, "the device calls the init packet invalid"),
        (8, _) => (
            "S17",
            Sure::High,
            "it comes at the wrong time, such as Execute of an object that is not complete",
        ),
        (10, _) => ("S16", Sure::Medium, "the operation failed"),
        (2 | 7, _) => (
            "S13",
            Sure::Medium,
            "the device does not know this kind of request or object",
        ),
        _ => return None,
    };
    let code = match extended {
        Some(extended) => format!("0B {extended:02X}"),
        None => format!("{code:02X}"),
    };
    Some((id, sure, format!("{request} was refused with {code}: {why}")))
}

/// The signature of an error number of Android's library.
pub(super) fn library(code: u32, spot: Spot, findings: &mut Findings) {
    match code {
        4096 => findings.follows(
            "S9",
            spot,
            Sure::Low,
            "the client says only that the link was lost",
        ),
        4097 | 4098 | 4107 | 4108 => {
            findings.fault("S13", spot, Sure::High, "the client cannot use the file")
        }
        4102 => findings.fault(
            "S12",
            spot,
            Sure::Medium,
            "the client does not find the update service",
        ),
        4104 => findings.fault(
            "S13",
            spot,
            Sure::High,
            "the client does not understand the answer of the device",
        ),
        4109 | 4111 => findings.follows("S3", spot, Sure::Medium, "the CRC was wrong in every attempt"),
        4110 => findings.fault(
            "S12",
            spot,
            Sure::Low,
            "the client wants a bond, and there is none",
        ),
        _ => {}
    }
}
