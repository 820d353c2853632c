// SPDX-License-Identifier: Apache-2.0
//! Any bytes as a request of Secure DFU, and as an init packet.
#![no_main]

use bledfu_wire::init_packet::InitPacket;
use bledfu_wire::secure_dfu::{Reply, Request, MAX_REPLY};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Request::decode(bytes) {
        // A write is the one request whose bytes do not fit into what encodes requests.
        Ok(Request::Write(data)) => assert_eq!(data.len() + 1, bytes.len()),
        Ok(request) => assert_eq!(request.encode().as_bytes(), bytes),
        Err(error) => {
            if let Some(refusal) = error.refusal() {
                let encoded = refusal.encode();
                let encoded = encoded.as_bytes();
                assert!(encoded.len() <= MAX_REPLY);
                assert_eq!(Reply::decode(encoded), Ok(refusal));
            } else {
                assert!(bytes.is_empty());
            }
        }
    }
    if let Ok(packet) = InitPacket::decode(bytes) {
        assert!(packet.init.signed_bytes().len() <= bytes.len());
        assert!(packet
            .init
            .boot_validations()
            .all(|validation| validation.bytes.len() <= 64));
    }
});
