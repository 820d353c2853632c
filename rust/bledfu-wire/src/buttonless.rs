// SPDX-License-Identifier: Apache-2.0
//! Messages of Nordic's buttonless characteristics: a phone asks an application to start in its update mode.
//!
//! ```text
//! request   01               start the update mode      answer   20 │ op │ result     by indication
//!           02 length name   advertise by this name             (a name: 1 to 20 bytes)
//! ```
//! In update mode the service FE59 has the characteristics of [`crate::secure_dfu`] instead, never both at once.
//! Source: nRF5 SDK `ble_dfu.h`, `ble_dfu_unbonded.c`, `ble_dfu_bonded.c`.

use core::fmt;

/// First byte of every answer.
pub const RESPONSE: u8 = 0x20;
/// Length in bytes of every answer.
pub const ANSWER_LENGTH: usize = 3;
/// Longest name to advertise, in bytes.
pub const MAX_NAME: usize = 20;
/// Length in bytes of the longest request.
pub const MAX_REQUEST: usize = 2 + MAX_NAME;

/// Request op codes.
pub mod op {
    /// Start the update mode.
    pub const ENTER: u8 = 0x01;
    /// Advertise by a name there.
    pub const SET_NAME: u8 = 0x02;
}

/// A request from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Start the update mode.
    Enter,
    /// Advertise by this name there; 1 to [`MAX_NAME`] bytes.
    SetName(&'a [u8]),
}

/// Results in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ResultCode {
    /// It is done, or begins once the answer is confirmed.
    Success = 0x01,
    /// The request is unknown, or not part of this characteristic.
    OpCodeNotSupported = 0x02,
    /// The device cannot, or the product does not want to. Clients show it as a failure.
    OperationFailed = 0x04,
    /// The name is empty or too long.
    InvalidName = 0x05,
    /// An earlier request is still being handled.
    Busy = 0x06,
    /// The peer has no bond, and this characteristic is for those that have one.
    NotBonded = 0x07,
}

impl ResultCode {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0x01 => Some(Self::Success),
            0x02 => Some(Self::OpCodeNotSupported),
            0x04 => Some(Self::OperationFailed),
            0x05 => Some(Self::InvalidName),
            0x06 => Some(Self::Busy),
            0x07 => Some(Self::NotBonded),
            _ => None,
        }
    }
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Success => "success",
            Self::OpCodeNotSupported => "the request is not supported",
            Self::OperationFailed => "it cannot now",
            Self::InvalidName => "the name is empty or longer than 20 bytes",
            Self::Busy => "it still handles an earlier request",
            Self::NotBonded => "only a paired peer may ask for it",
        })
    }
}

/// Why bytes are not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// An empty write: there is no op code to answer.
    Empty,
    /// The op code is not part of the protocol.
    UnknownOpcode(u8),
    /// The name is missing, empty or too long, or its length byte is wrong.
    InvalidName,
}

impl DecodeError {
    /// The answer the peer expects; `None` for an empty write.
    pub const fn refusal(&self) -> Option<Answer> {
        let (opcode, code) = match *self {
            Self::Empty => return None,
            Self::UnknownOpcode(opcode) => (opcode, ResultCode::OpCodeNotSupported),
            Self::InvalidName => (op::SET_NAME, ResultCode::InvalidName),
        };
        Some(Answer { opcode, code })
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => write!(f, "the request is empty"),
            Self::UnknownOpcode(opcode) => write!(f, "op code {opcode:02X} is not one of buttonless entry"),
            Self::InvalidName => write!(f, "a name has 1 to {MAX_NAME} bytes and its length in front"),
        }
    }
}

impl core::error::Error for DecodeError {}

impl<'a> Request<'a> {
    /// Decodes one write. Bytes behind op code 01 are ignored, as the reference does.
    ///
    /// # Errors
    /// [`DecodeError`] gives the answer.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        match *bytes {
            [] => Err(DecodeError::Empty),
            [op::ENTER, ..] => Ok(Self::Enter),
            [op::SET_NAME, length, ref name @ ..]
                if usize::from(length) == name.len() && !name.is_empty() && name.len() <= MAX_NAME =>
            {
                Ok(Self::SetName(name))
            }
            [op::SET_NAME, ..] => Err(DecodeError::InvalidName),
            [opcode, ..] => Err(DecodeError::UnknownOpcode(opcode)),
        }
    }
}

/// An answer, which the device indicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request it answers.
    pub opcode: u8,
    /// The result.
    pub code: ResultCode,
}

impl Answer {
    /// As the device sends it.
    pub const fn encode(&self) -> [u8; ANSWER_LENGTH] {
        [RESPONSE, self.opcode, self.code as u8]
    }

    /// As a client reads it; `None` if the bytes are no answer.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match *bytes {
            [RESPONSE, opcode, code] => Some(Self {
                opcode,
                code: ResultCode::from_byte(code)?,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;
    use proptest::prelude::*;

    // secure-dfu case 86
    #[test]
    fn a_request_is_to_enter_or_a_name_of_1_to_20_bytes() {
        assert_eq!(Request::decode(&[1]), Ok(Request::Enter));
        assert_eq!(
            Request::decode(&hex("02 08 44 66 75 31 32 33 34 35")),
            Ok(Request::SetName(b"Dfu12345"))
        );
        let mut longest = [b'n'; MAX_REQUEST];
        longest[..2].copy_from_slice(&[2, 20]);
        assert_eq!(Request::decode(&longest), Ok(Request::SetName(&[b'n'; 20])));
    }

    // secure-dfu case 87
    #[test]
    fn a_name_of_no_or_of_21_bytes_is_invalid_and_so_is_one_of_another_length_than_it_says() {
        let mut too_long = [b'n'; MAX_REQUEST + 1];
        too_long[..2].copy_from_slice(&[2, 21]);
        for request in [
            &too_long[..],
            &[2],
            &[2, 0],
            &[2, 3, b'a', b'b'],
            &[2, 1, b'a', b'b'],
        ] {
            let error = Request::decode(request).unwrap_err();
            assert_eq!(error, DecodeError::InvalidName, "{request:x?}");
            assert_eq!(error.refusal().unwrap().encode(), [0x20, 2, 5]);
        }
    }

    // secure-dfu case 88
    #[test]
    fn an_unknown_op_code_is_answered_and_an_empty_write_is_not() {
        let error = Request::decode(&[7]).unwrap_err();
        assert_eq!(error.refusal().unwrap().encode(), [0x20, 7, 2]);
        assert_eq!(Request::decode(&[]).unwrap_err().refusal(), None);
    }

    #[test]
    fn a_client_reads_what_a_device_answers() {
        for code in [1, 2, 4, 5, 6, 7] {
            let bytes = [0x20, 1, code];
            assert_eq!(Answer::decode(&bytes).unwrap().encode(), bytes);
        }
        for bytes in [
            &[0x20, 1, 0][..],
            &[0x20, 1, 3],
            &[0x20, 1],
            &[0x60, 1, 1],
            &[0x20, 1, 1, 0],
            &[],
        ] {
            assert_eq!(Answer::decode(bytes), None, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_write_is_a_request_or_has_an_answer_unless_it_is_empty(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            match Request::decode(&bytes) {
                Ok(Request::Enter) => prop_assert_eq!(bytes[0], 1),
                Ok(Request::SetName(name)) => prop_assert_eq!(name, &bytes[2..]),
                Err(error) => prop_assert_eq!(error.refusal().is_none(), bytes.is_empty()),
            }
        }
    }
}
