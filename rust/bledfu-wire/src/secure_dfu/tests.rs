// SPDX-License-Identifier: Apache-2.0

extern crate std;
use super::*;

fn refusal(bytes: &[u8]) -> Encoded {
    Request::decode(bytes).unwrap_err().refusal().unwrap().encode()
}

#[test]
fn create_carries_type_and_little_endian_size() {
    let request = Request::decode(&[0x01, 0x02, 0x00, 0x10, 0x00, 0x00]).unwrap();
    assert_eq!(
        request,
        Request::Create {
            object: ObjectType::Data,
            size: 4096
        }
    );
}

// secure-dfu cases 5, 6
#[test]
fn unknown_opcodes_are_answered_with_not_supported() {
    assert_eq!(refusal(&[0x05]).as_bytes(), [0x60, 0x05, 0x02]);
    assert_eq!(refusal(&[0xFF]).as_bytes(), [0x60, 0xFF, 0x02]);
}

// secure-dfu case 7
#[test]
fn the_response_opcode_is_not_a_request() {
    assert_eq!(refusal(&[0x60]).as_bytes(), [0x60, 0x60, 0x02]);
}

// secure-dfu cases 10, 12
#[test]
fn unknown_object_types_are_invalid_objects() {
    assert_eq!(refusal(&[0x06, 0x00]).as_bytes(), [0x60, 0x06, 0x05]);
    assert_eq!(
        refusal(&[0x01, 0x03, 0x10, 0, 0, 0]).as_bytes(),
        [0x60, 0x01, 0x05]
    );
}

// secure-dfu case 13
#[test]
fn a_short_create_is_an_invalid_parameter() {
    assert_eq!(refusal(&[0x01, 0x01]).as_bytes(), [0x60, 0x01, 0x03]);
}

// secure-dfu case 14
#[test]
fn an_empty_write_has_no_reply() {
    assert_eq!(Request::decode(&[]), Err(DecodeError::Empty));
    assert_eq!(DecodeError::Empty.refusal(), None);
}

#[test]
fn every_length_but_the_right_one_is_refused_for_every_opcode() {
    let lengths = [
        (0x00, 1),
        (0x01, 6),
        (0x02, 3),
        (0x03, 1),
        (0x04, 1),
        (0x06, 2),
        (0x07, 1),
        (0x09, 2),
        (0x0A, 1),
    ];
    for (opcode, right) in lengths.into_iter().chain([(0x0B, 2), (0x0C, 1)]) {
        for length in 1..16 {
            let mut bytes = [1u8; 16];
            bytes[0] = opcode;
            let decoded = Request::decode(&bytes[..length]);
            assert_eq!(
                decoded.is_ok(),
                length == right,
                "op {opcode:02X} with {length} bytes: {decoded:?}"
            );
            if length != right {
                assert_eq!(refusal(&bytes[..length]).as_bytes(), [0x60, opcode, 0x03]);
            }
        }
    }
}

#[test]
fn requests_survive_encoding_and_decoding() {
    let requests = [
        Request::ProtocolVersion,
        Request::Create {
            object: ObjectType::Command,
            size: 210,
        },
        Request::SetReceipts { every: 12 },
        Request::Checksum,
        Request::Execute,
        Request::Select {
            object: ObjectType::Data,
        },
        Request::Mtu,
        Request::Ping { id: 7 },
        Request::HardwareVersion,
        Request::FirmwareVersion { image: 1 },
        Request::Abort,
    ];
    for request in requests {
        assert_eq!(Request::decode(request.encode().as_bytes()), Ok(request));
    }
}

#[test]
fn replies_have_exactly_the_bytes_of_the_log_of_the_case() {
    let selected = Reply::Selected {
        max_size: 512,
        offset: 210,
        crc: 0xB473_C829,
    };
    assert_eq!(
        selected.encode().as_bytes(),
        [0x60, 0x06, 0x01, 0x00, 0x02, 0x00, 0x00, 0xD2, 0, 0, 0, 0x29, 0xC8, 0x73, 0xB4]
    );
    let checksum = Reply::Checksum {
        offset: 4096,
        crc: 0x0A92_E37C,
    };
    assert_eq!(
        checksum.encode().as_bytes(),
        [0x60, 3, 1, 0, 0x10, 0, 0, 0x7C, 0xE3, 0x92, 0x0A]
    );
    assert_eq!(Reply::Executed.encode().as_bytes(), [0x60, 0x04, 0x01]);
}

#[test]
fn an_extended_refusal_has_exactly_one_byte_more() {
    let code = ResultCode::Extended(ExtendedCode::HardwareVersion);
    let reply = Reply::Refused {
        opcode: op::EXECUTE,
        code,
    };
    assert_eq!(reply.encode().as_bytes(), [0x60, 0x04, 0x0B, 0x06]);
    assert_eq!(
        Reply::decode(&[0x60, 0x04, 0x0B]),
        Err(ReplyError::UnknownResult {
            opcode: op::EXECUTE,
            result: 0x0B,
            extended: None
        }),
        "the library would read past the end"
    );
}

#[test]
fn unknown_results_are_errors_that_name_the_byte() {
    for result in [0x00, 0x06, 0x09, 0x0C, 0xFF] {
        let error = ReplyError::UnknownResult {
            opcode: op::CREATE,
            result,
            extended: None,
        };
        assert_eq!(Reply::decode(&[0x60, 0x01, result]), Err(error));
    }
    for extended in [0x00, 0x01, 0x0E, 0xFF] {
        let error = ReplyError::UnknownResult {
            opcode: op::EXECUTE,
            result: 0x0B,
            extended: Some(extended),
        };
        assert_eq!(Reply::decode(&[0x60, 0x04, 0x0B, extended]), Err(error));
    }
    assert_eq!(Reply::decode(&[0x61, 0x01, 0x01]), Err(ReplyError::NotAReply));
    assert_eq!(Reply::decode(&[]), Err(ReplyError::NotAReply));
    assert_eq!(
        Reply::decode(&[0x60, 0x0C, 0x01]),
        Err(ReplyError::Malformed(op::ABORT))
    );
}

#[test]
fn every_result_survives_encoding_and_decoding() {
    for result in 0..=0xFF {
        for extended in [None, Some(0x02), Some(0x0A), Some(0x0D)] {
            if let Some(code) = ResultCode::from_bytes(result, extended) {
                let reply = Reply::Refused {
                    opcode: op::EXECUTE,
                    code,
                };
                assert_eq!(Reply::decode(reply.encode().as_bytes()), Ok(reply));
            }
        }
    }
}

#[test]
fn replies_survive_encoding_and_decoding_and_fit() {
    let replies = [
        Reply::ProtocolVersion(1),
        Reply::Created,
        Reply::ReceiptsSet,
        Reply::Checksum { offset: 1, crc: 2 },
        Reply::Executed,
        Reply::Selected {
            max_size: 1,
            offset: 2,
            crc: 3,
        },
        Reply::Mtu(131),
        Reply::Pong(9),
        Reply::HardwareVersion {
            part: 1,
            variant: 2,
            rom_size: 3,
            ram_size: 4,
            rom_page_size: 5,
        },
        Reply::FirmwareVersion {
            kind: FirmwareType::Application,
            version: 1,
            address: 2,
            length: 3,
        },
        Reply::Refused {
            opcode: 4,
            code: ResultCode::OperationFailed,
        },
        Reply::Refused {
            opcode: 4,
            code: ResultCode::Extended(ExtendedCode::VerificationFailed),
        },
    ];
    for reply in replies {
        let encoded = reply.encode();
        assert_eq!(Reply::decode(encoded.as_bytes()), Ok(reply));
        let longer = [encoded.as_bytes(), &[0xAA, 0xBB]].concat();
        assert_eq!(Reply::decode(&longer), Ok(reply), "clients read by place");
        for cut in 0..encoded.as_bytes().len() {
            let decoded = Reply::decode(&encoded.as_bytes()[..cut]);
            assert!(decoded.is_err(), "{reply:?} cut to {cut} bytes is {decoded:?}");
        }
    }
    let longest = replies.iter().map(|reply| reply.encode().as_bytes().len()).max();
    assert_eq!(longest, Some(MAX_REPLY));
}
