// SPDX-License-Identifier: Apache-2.0
//! Writes init packets, byte for byte as nrfutil 6.1.7 does.
//!
//! [`bledfu_wire::init_packet`] reads init packets and shows the schema. Rules of the writer (nrfutil
//! `init_packet_pb.py`, `package.py`, `signing.py`): all fields in number order, zero values included; `sd_req` packed
//! and without duplicates, in the iteration order of a Python `set`; the hash reversed as a whole; the signature over
//! the content of `InitCommand`, r and s each reversed.

use std::str::FromStr;

use bledfu_wire::init_packet::{
    boot_validation_type, firmware_type, HASH_SHA256, SIGNATURE_ECDSA_P256_SHA256,
};

use sha2::{Digest as _, Sha256};

use crate::keys::{swap_halves, SigningKey};

/// How the device must check the installed image at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BootValidation {
    /// Not at all.
    None,
    /// By a CRC that it computes itself. nrfutil's default.
    #[default]
    GeneratedCrc,
    /// By a SHA-256 that it computes itself.
    GeneratedSha256,
    /// By a signature over the whole image, made with the package's key.
    Ecdsa,
}

impl BootValidation {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 4] = [Self::None, Self::GeneratedCrc, Self::GeneratedSha256, Self::Ecdsa];

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        match self {
            Self::None => boot_validation_type::NONE,
            Self::GeneratedCrc => boot_validation_type::GENERATED_CRC,
            Self::GeneratedSha256 => boot_validation_type::SHA256,
            Self::Ecdsa => boot_validation_type::ECDSA_P256_SHA256,
        }
    }

    /// nrfutil's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NO_VALIDATION",
            Self::GeneratedCrc => "VALIDATE_GENERATED_CRC",
            Self::GeneratedSha256 => "VALIDATE_GENERATED_SHA256",
            Self::Ecdsa => "VALIDATE_ECDSA_P256_SHA256",
        }
    }
}

impl FromStr for BootValidation {
    type Err = String;

    /// nrfutil's name, in any case; the error is a sentence that lists the names.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|method| method.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name);
                format!("unknown method; known are {}", names.join(", "))
            })
    }
}

/// Fields of an init command. Each may be omitted, to see how a target responds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InitFields {
    /// Firmware version.
    pub fw_version: Option<u32>,
    /// Hardware version.
    pub hw_version: Option<u32>,
    /// SoftDevice requirements, written as given; see [`python_set_order`].
    pub sd_req: Vec<u32>,
    /// Firmware type.
    pub kind: Option<u32>,
    /// Size of a SoftDevice.
    pub sd_size: Option<u32>,
    /// Size of a bootloader.
    pub bl_size: Option<u32>,
    /// Size of an application.
    pub app_size: Option<u32>,
    /// Hash type, and the hash as it goes on the wire (SHA-256 reversed).
    pub hash: Option<(u32, Vec<u8>)>,
    /// Debug packet.
    pub is_debug: Option<bool>,
    /// Types and bytes (signatures as r and s, each reversed).
    pub boot_validation: Vec<(u32, Vec<u8>)>,
    /// Appended unchanged: fields that are not defined yet.
    pub unknown: Vec<u8>,
}

impl InitFields {
    /// The packet that nrfutil writes for one application image; `sha256` in its usual order.
    pub fn application(
        fw_version: u32,
        hw_version: u32,
        sd_req: &[u32],
        size: u32,
        sha256: &[u8; 32],
    ) -> Self {
        let mut reversed = sha256.to_vec();
        reversed.reverse();
        Self {
            fw_version: Some(fw_version),
            hw_version: Some(hw_version),
            sd_req: python_set_order(sd_req),
            kind: Some(firmware_type::APPLICATION),
            sd_size: Some(0),
            bl_size: Some(0),
            app_size: Some(size),
            hash: Some((HASH_SHA256, reversed)),
            is_debug: Some(false),
            boot_validation: vec![(boot_validation_type::GENERATED_CRC, Vec::new())],
            unknown: Vec::new(),
        }
    }

    /// The content of `InitCommand`: what a signature covers.
    pub fn init_command(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_optional(&mut out, 1, self.fw_version);
        put_optional(&mut out, 2, self.hw_version);
        if !self.sd_req.is_empty() {
            let mut packed = Vec::new();
            for fwid in &self.sd_req {
                put_varint(&mut packed, *fwid);
            }
            put_bytes(&mut out, 3, &packed);
        }
        put_optional(&mut out, 4, self.kind);
        put_optional(&mut out, 5, self.sd_size);
        put_optional(&mut out, 6, self.bl_size);
        put_optional(&mut out, 7, self.app_size);
        if let Some((kind, bytes)) = &self.hash {
            put_bytes(&mut out, 8, &typed_bytes(*kind, bytes));
        }
        put_optional(&mut out, 9, self.is_debug.map(u32::from));
        for (kind, bytes) in &self.boot_validation {
            put_bytes(&mut out, 10, &typed_bytes(*kind, bytes));
        }
        out.extend_from_slice(&self.unknown);
        out
    }

    /// A signed packet.
    pub fn signed(&self, key: &SigningKey) -> Vec<u8> {
        self.signed_as(&key.sign(&self.init_command()))
    }

    /// The packet with this signature of [`InitFields::digest`]: r and s, big-endian.
    pub fn signed_as(&self, signature: &[u8; 64]) -> Vec<u8> {
        signed_packet(
            &self.init_command(),
            SIGNATURE_ECDSA_P256_SHA256,
            &swap_halves(signature),
        )
    }

    /// What a signature is made of: the SHA-256 of [`InitFields::init_command`].
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.init_command()).into()
    }

    /// An unsigned packet.
    pub fn unsigned(&self) -> Vec<u8> {
        let mut packet = Vec::new();
        put_bytes(&mut packet, 1, &command(&self.init_command()));
        packet
    }
}

/// A signed packet around any init command and any signature bytes, right or wrong.
pub fn signed_packet(init_command: &[u8], signature_type: u32, signature: &[u8]) -> Vec<u8> {
    let mut signed = Vec::new();
    put_bytes(&mut signed, 1, &command(init_command));
    put_field(&mut signed, 2, signature_type);
    put_bytes(&mut signed, 3, signature);
    let mut packet = Vec::new();
    put_bytes(&mut packet, 2, &signed);
    packet
}

/// `op_code` INIT.
const OP_INIT: u32 = 1;

fn command(init_command: &[u8]) -> Vec<u8> {
    let mut command = Vec::new();
    put_field(&mut command, 1, OP_INIT);
    put_bytes(&mut command, 2, init_command);
    command
}

fn typed_bytes(kind: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_field(&mut out, 1, kind);
    put_bytes(&mut out, 2, bytes);
    out
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_field(out: &mut Vec<u8>, number: u32, value: u32) {
    put_varint(out, number << 3);
    put_varint(out, value);
}

fn put_optional(out: &mut Vec<u8>, number: u32, value: Option<u32>) {
    if let Some(value) = value {
        put_field(out, number, value);
    }
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

/// The values without duplicates, in the order of `list(set(values))` in CPython 3.7 and later, in which nrfutil writes
/// `sd_req`.
///
/// A Python set is an open hash table, a number is its own hash, and iteration walks the table. The order depends only
/// on table size and collisions, so it can be computed.
pub fn python_set_order(values: &[u32]) -> Vec<u32> {
    /// Smallest table.
    const MIN_SIZE: usize = 8;
    let mut table = vec![None; MIN_SIZE];
    let mut used = 0;
    for value in values {
        let slot = set_slot(&table, *value);
        if table[slot].is_some() {
            continue;
        }
        table[slot] = Some(*value);
        used += 1;
        // At three fifths, the table grows to more than four times its entries.
        if used * 5 >= (table.len() - 1) * 3 {
            let mut size = MIN_SIZE;
            while size <= used * 4 {
                size *= 2;
            }
            let mut grown = vec![None; size];
            for value in table.into_iter().flatten() {
                let slot = set_slot(&grown, value);
                grown[slot] = Some(value);
            }
            table = grown;
        }
    }
    table.into_iter().flatten().collect()
}

/// The position of a value: its own slot, up to nine neighbours within the table, then a jump.
fn set_slot(table: &[Option<u32>], value: u32) -> usize {
    const NEIGHBOURS: usize = 9;
    let mask = table.len() - 1;
    let mut perturb = value as usize;
    let mut start = value as usize & mask;
    loop {
        let last = if start + NEIGHBOURS <= mask {
            start + NEIGHBOURS
        } else {
            start
        };
        if let Some(slot) = (start..=last).find(|slot| table[*slot].is_none_or(|held| held == value)) {
            return slot;
        }
        perturb >>= 5;
        start = (start * 5 + 1 + perturb) & mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bledfu_wire::init_packet::InitPacket;

    fn from_hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    /// The test key and packet I of the conformance list.
    fn reference_key() -> SigningKey {
        let mut scalar = [0; 32];
        for (i, byte) in scalar.iter_mut().enumerate() {
            *byte = i as u8 + 1;
        }
        SigningKey::from_scalar(&scalar).unwrap()
    }

    const PACKET_I: &str = "1288010A420801123E080210341A0100200028003000388827422408031220FB8AFC751487E795430E5791E823AB44BB8B1D518D9BB5DFD9F77B29858B3934480052040801120010001A402220E65C6CD48F7D339CEA0999A2253DC8D3126A65F9981FABF78617CD7EA4408CF21D78BB61D21D7EE018C724F0E067B1D5F1511AB9B22FE5E30FC123F2E395";

    fn fields_of_i() -> InitFields {
        let image: Vec<u8> = (0..5000_u32).map(|i| (7 * i + 3) as u8).collect();
        let sha: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&image).into();
        InitFields::application(2, 52, &[0], 5000, &sha)
    }

    #[test]
    fn encodes_packet_i_of_the_reference() {
        let packet = fields_of_i().signed(&reference_key());
        let expected = from_hex(PACKET_I);
        assert_eq!(packet[..75], expected[..75]);
        assert_eq!(packet.len(), expected.len());
        let decoded = InitPacket::decode(&packet).unwrap();
        assert_eq!(decoded.init.signed_bytes(), fields_of_i().init_command());
        assert_eq!(decoded.signature.unwrap().bytes.len(), 64);
        let mut unsigned = vec![0x0A, 0x42];
        unsigned.extend_from_slice(&expected[5..71]);
        assert_eq!(fields_of_i().unsigned(), unsigned);
    }

    #[test]
    fn signs_deterministically_like_packet_i() {
        let expected = from_hex(PACKET_I);
        assert_eq!(fields_of_i().signed(&reference_key()), expected);
    }

    #[test]
    fn omitted_fields_are_not_written() {
        assert!(InitFields::default().init_command().is_empty());
        let fields = InitFields {
            fw_version: Some(300),
            unknown: vec![0xF8, 0x01, 0x05],
            ..InitFields::default()
        };
        assert_eq!(fields.init_command(), [8, 0xAC, 0x02, 0xF8, 0x01, 0x05]);
    }

    #[test]
    fn sd_req_comes_in_the_order_of_a_python_set() {
        // Left the input, right the list that CPython 3.9 gives.
        let cases: &[(&[u32], &[u32])] = &[
            (&[0], &[0]),
            (&[256, 291], &[256, 291]),
            (&[291, 256], &[256, 291]),
            (&[291, 1070867289], &[1070867289, 291]),
            (&[256, 49933, 227], &[256, 227, 49933]),
            (
                &[1413, 65534, 300, 256, 2066817247],
                &[256, 1413, 300, 65534, 2066817247],
            ),
            (
                &[4033025023, 291, 256, 46383, 291],
                &[256, 291, 46383, 4033025023],
            ),
            (&[291, 256, 13663, 65534, 256, 291], &[256, 291, 65534, 13663]),
            (
                &[60529, 1074638861, 9543, 4079353790, 65534, 65534],
                &[9543, 1074638861, 60529, 4079353790, 65534],
            ),
            (
                &[256, 256, 256, 65534, 291, 280, 291, 2086002145, 4061095821],
                &[256, 2086002145, 291, 4061095821, 280, 65534],
            ),
            (
                &[256, 1076715195, 65534, 48354, 63971, 65534, 291, 291, 50771],
                &[256, 48354, 63971, 291, 50771, 1076715195, 65534],
            ),
            (
                &[
                    2550997970, 154, 256, 146, 16089, 865, 256, 65534, 291, 65534, 291, 256, 179, 3936652013,
                ],
                &[256, 865, 291, 3936652013, 2550997970, 146, 179, 16089, 154, 65534],
            ),
        ];
        for (given, listed) in cases {
            assert_eq!(python_set_order(given), *listed, "{given:?}");
        }
    }
}
