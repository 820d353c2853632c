// SPDX-License-Identifier: Apache-2.0
//! The init packet: which firmware follows, for which hardware, and who signed it. Protobuf (proto2, package `dfu`).
//!
//! ```text
//! Packet          1 command: Command │ 2 signed_command: SignedCommand               exactly one of the two
//! SignedCommand   1 command: Command   2 signature_type: enum   3 signature: bytes ≤ 64        all required
//! Command         1 op_code: enum      2 init: InitCommand
//! InitCommand     1 fw_version   2 hw_version   3 sd_req: packed, ≤ 16   4 type: enum
//!                 5 sd_size   6 bl_size   7 app_size   8 hash: Hash   9 is_debug: bool
//!                10 boot_validation: BootValidation, ≤ 3
//! Hash            1 hash_type: enum    2 hash: bytes ≤ 32                                      both required
//! BootValidation  1 type: enum         2 bytes: ≤ 64                                           both required
//! ```
//! The signature covers the *content* of `InitCommand` as received ([`InitCommand::signed_bytes`]), without tag and
//! length; it is never encoded again. Byte orders are those of the packet: the hash is reversed as a whole, the
//! signature is r and s, each reversed. Source: nRF5 SDK `dfu-cc.proto`, `dfu-cc.options`, `nrf_dfu_validation.c`;
//! nrfutil `package.py`, `signing.py`.
//!
//! The decoder borrows from the received bytes and uses `micropb`'s pull decoder for tags, varints and skipping:
//! generated messages would copy every field and lose the signed bytes.

use bledfu_text::{text, words, Line, Text};
use core::convert::Infallible;
use micropb::{PbDecoder, Tag};

const VARINT: u8 = micropb::WIRE_TYPE_VARINT;
const LENGTH: u8 = micropb::WIRE_TYPE_LEN;

/// Length in bytes of the longest init packet that a target accepts (settings version 2 of the reference).
pub const MAX_INIT_PACKET: usize = 512;
/// Maximum number of SoftDevice requirements.
pub const MAX_SD_REQ: usize = 16;
/// Maximum number of boot validations: SoftDevice, application, bootloader.
pub const MAX_BOOT_VALIDATIONS: usize = 3;

/// `signature_type` of ECDSA over P-256 with SHA-256.
pub const SIGNATURE_ECDSA_P256_SHA256: u32 = 0;
/// `hash_type` of SHA-256.
pub const HASH_SHA256: u32 = 3;

/// Values of `InitCommand.type`.
#[allow(missing_docs)]
pub mod firmware_type {
    pub const APPLICATION: u32 = 0;
    pub const SOFTDEVICE: u32 = 1;
    pub const BOOTLOADER: u32 = 2;
    pub const SOFTDEVICE_BOOTLOADER: u32 = 3;
    pub const EXTERNAL_APPLICATION: u32 = 4;
}

/// Values of `BootValidation.type`.
#[allow(missing_docs)]
pub mod boot_validation_type {
    pub const NONE: u32 = 0;
    pub const GENERATED_CRC: u32 = 1;
    pub const SHA256: u32 = 2;
    pub const ECDSA_P256_SHA256: u32 = 3;
}

/// Why bytes are not an init packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitPacketError {
    /// The bytes are not protobuf: a cut varint, a length beyond the packet, or an invalid wire type.
    Malformed,
    /// A field's wire type differs from the schema.
    WrongWireType,
    /// The packet has both or neither of command and signed command.
    NotOneCommand,
    /// The packet has no init command, or two.
    NotOneInitCommand,
    /// A required field of this message is missing.
    MissingField(&'static str),
    /// This field is longer, or occurs more often, than the reference accepts.
    TooLong(&'static str),
}

impl Text for InitPacketError {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::Malformed => words!("the init packet is not valid protobuf").put(line),
            Self::WrongWireType => words!("a field of the init packet has the wrong wire type").put(line),
            Self::NotOneCommand => {
                words!("the init packet must hold either a command or a signed command").put(line)
            }
            Self::NotOneInitCommand => words!("the command must hold exactly one init command").put(line),
            Self::MissingField(name) => text!("the init packet lacks the field {}", *name).put(line),
            Self::TooLong(name) => text!("this field of the init packet is too long: {}", *name).put(line),
        }
    }
}

bledfu_text::display!(InitPacketError);

impl core::error::Error for InitPacketError {}

impl From<micropb::DecodeError<Infallible>> for InitPacketError {
    fn from(_: micropb::DecodeError<Infallible>) -> Self {
        Self::Malformed
    }
}

/// A decoded init packet; borrows from the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitPacket<'a> {
    /// The signature, if the packet is signed.
    pub signature: Option<PacketSignature<'a>>,
    /// `Command.op_code`, which the reference ignores.
    pub op_code: Option<u32>,
    /// The init command.
    pub init: InitCommand<'a>,
}

/// Signature of a signed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketSignature<'a> {
    /// `signature_type`; only [`SIGNATURE_ECDSA_P256_SHA256`] is supported.
    pub kind: u32,
    /// r and s, 32 bytes each, each little-endian; other lengths (≤ 64) decode but fail validation.
    pub bytes: &'a [u8],
}

/// What the firmware is and what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitCommand<'a> {
    raw: &'a [u8],
    /// Version of the firmware, compared with the running one.
    pub fw_version: Option<u32>,
    /// Version of the hardware it is for.
    pub hw_version: Option<u32>,
    sd_req: [u32; MAX_SD_REQ],
    sd_req_count: usize,
    /// One of [`firmware_type`]; other values decode but fail validation.
    pub kind: Option<u32>,
    /// Size of the SoftDevice in bytes.
    pub sd_size: Option<u32>,
    /// Size of the bootloader in bytes.
    pub bl_size: Option<u32>,
    /// Size of the application in bytes.
    pub app_size: Option<u32>,
    /// Hash of the firmware.
    pub hash: Option<FirmwareHash<'a>>,
    /// Debug packet: a debug build of the reference skips version checks for it.
    pub is_debug: bool,
    boot_validation: [Option<BootValidation<'a>>; MAX_BOOT_VALIDATIONS],
}

/// Hash of the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirmwareHash<'a> {
    /// `hash_type`; only [`HASH_SHA256`] is supported.
    pub kind: u32,
    /// The hash, reversed as a whole, ≤ 32 bytes.
    pub bytes: &'a [u8],
}

/// How the installed image is to be checked at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootValidation<'a> {
    /// One of [`boot_validation_type`].
    pub kind: u32,
    /// For ECDSA: the signature over the whole image, in the same form as the packet's; otherwise empty.
    pub bytes: &'a [u8],
}

impl<'a> InitCommand<'a> {
    /// The bytes the signature covers.
    pub const fn signed_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// The SoftDevices this firmware runs on; empty when it needs none.
    pub fn sd_req(&self) -> &[u32] {
        self.sd_req.get(..self.sd_req_count).unwrap_or_default()
    }

    /// The boot validations, in order.
    pub fn boot_validations(&self) -> impl Iterator<Item = BootValidation<'a>> + '_ {
        self.boot_validation.iter().flatten().copied()
    }

    /// SHA-256 of the firmware in the usual byte order; `None` when the packet has another hash or none.
    pub fn firmware_sha256(&self) -> Option<[u8; 32]> {
        let hash = self.hash.filter(|hash| hash.kind == HASH_SHA256)?;
        let mut bytes: [u8; 32] = hash.bytes.try_into().ok()?;
        bytes.reverse();
        Some(bytes)
    }
}

impl<'a> InitPacket<'a> {
    /// Decodes a whole init packet. Unknown fields are skipped and an unpacked `sd_req` is accepted. If a scalar occurs
    /// twice, the last value counts, as protobuf says.
    ///
    /// # Errors
    /// [`InitPacketError`]; the wire code for all variants is *invalid object*.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, InitPacketError> {
        let (mut plain, mut signed) = (None, None);
        let mut fields = Fields::new(bytes);
        while let Some(tag) = fields.next()? {
            match tag.field_num() {
                1 => once(&mut plain, fields.bytes(tag)?, InitPacketError::NotOneCommand)?,
                2 => once(&mut signed, fields.bytes(tag)?, InitPacketError::NotOneCommand)?,
                _ => fields.skip(tag)?,
            }
        }
        match (plain, signed) {
            (Some(command), None) => Self::from_command(command, None),
            (None, Some(signed)) => {
                let (command, signature) = decode_signed(signed)?;
                Self::from_command(command, Some(signature))
            }
            _ => Err(InitPacketError::NotOneCommand),
        }
    }

    fn from_command(
        command: &'a [u8],
        signature: Option<PacketSignature<'a>>,
    ) -> Result<Self, InitPacketError> {
        let (mut op_code, mut init) = (None, None);
        let mut fields = Fields::new(command);
        while let Some(tag) = fields.next()? {
            match tag.field_num() {
                1 => op_code = Some(fields.varint(tag)?),
                2 => once(&mut init, fields.bytes(tag)?, InitPacketError::NotOneInitCommand)?,
                _ => fields.skip(tag)?,
            }
        }
        let init = decode_init(init.ok_or(InitPacketError::NotOneInitCommand)?)?;
        Ok(Self {
            signature,
            op_code,
            init,
        })
    }
}

fn once<'a>(
    place: &mut Option<&'a [u8]>,
    bytes: &'a [u8],
    error: InitPacketError,
) -> Result<(), InitPacketError> {
    match place.replace(bytes) {
        None => Ok(()),
        Some(_) => Err(error),
    }
}

fn decode_signed(bytes: &[u8]) -> Result<(&[u8], PacketSignature<'_>), InitPacketError> {
    let (mut command, mut kind, mut signature) = (None, None, None);
    let mut fields = Fields::new(bytes);
    while let Some(tag) = fields.next()? {
        match tag.field_num() {
            1 => once(&mut command, fields.bytes(tag)?, InitPacketError::NotOneCommand)?,
            2 => kind = Some(fields.varint(tag)?),
            3 => signature = Some(fields.bytes_up_to(tag, 64, "signature")?),
            _ => fields.skip(tag)?,
        }
    }
    Ok((
        command.ok_or(InitPacketError::MissingField("command"))?,
        PacketSignature {
            kind: kind.ok_or(InitPacketError::MissingField("signature_type"))?,
            bytes: signature.ok_or(InitPacketError::MissingField("signature"))?,
        },
    ))
}

fn decode_init(raw: &[u8]) -> Result<InitCommand<'_>, InitPacketError> {
    let mut init = InitCommand {
        raw,
        fw_version: None,
        hw_version: None,
        sd_req: [0; MAX_SD_REQ],
        sd_req_count: 0,
        kind: None,
        sd_size: None,
        bl_size: None,
        app_size: None,
        hash: None,
        is_debug: false,
        boot_validation: [None; MAX_BOOT_VALIDATIONS],
    };
    let mut fields = Fields::new(raw);
    while let Some(tag) = fields.next()? {
        match tag.field_num() {
            1 => init.fw_version = Some(fields.varint(tag)?),
            2 => init.hw_version = Some(fields.varint(tag)?),
            3 if tag.wire_type() == LENGTH => {
                let mut packed = PbDecoder::new(fields.bytes(tag)?);
                while !packed.as_reader().is_empty() {
                    init.push_sd_req(packed.decode_varint32()?)?;
                }
            }
            3 => init.push_sd_req(fields.varint(tag)?)?,
            4 => init.kind = Some(fields.varint(tag)?),
            5 => init.sd_size = Some(fields.varint(tag)?),
            6 => init.bl_size = Some(fields.varint(tag)?),
            7 => init.app_size = Some(fields.varint(tag)?),
            8 => {
                let (kind, bytes) = decode_typed_bytes(fields.bytes(tag)?, 32, "hash")?;
                init.hash = Some(FirmwareHash { kind, bytes });
            }
            9 => init.is_debug = fields.varint(tag)? != 0,
            10 => {
                let (kind, bytes) = decode_typed_bytes(fields.bytes(tag)?, 64, "boot_validation")?;
                let free = init.boot_validation.iter_mut().find(|entry| entry.is_none());
                *free.ok_or(InitPacketError::TooLong("boot_validation"))? =
                    Some(BootValidation { kind, bytes });
            }
            _ => fields.skip(tag)?,
        }
    }
    Ok(init)
}

impl InitCommand<'_> {
    fn push_sd_req(&mut self, fwid: u32) -> Result<(), InitPacketError> {
        *self
            .sd_req
            .get_mut(self.sd_req_count)
            .ok_or(InitPacketError::TooLong("sd_req"))? = fwid;
        self.sd_req_count += 1;
        Ok(())
    }
}

/// `Hash` and `BootValidation` have the same form: a type and bytes, both required.
fn decode_typed_bytes<'a>(
    bytes: &'a [u8],
    limit: usize,
    name: &'static str,
) -> Result<(u32, &'a [u8]), InitPacketError> {
    let (mut kind, mut content) = (None, None);
    let mut fields = Fields::new(bytes);
    while let Some(tag) = fields.next()? {
        match tag.field_num() {
            1 => kind = Some(fields.varint(tag)?),
            2 => content = Some(fields.bytes_up_to(tag, limit, name)?),
            _ => fields.skip(tag)?,
        }
    }
    kind.zip(content).ok_or(InitPacketError::MissingField(name))
}

/// The fields of one message, in the order of the packet.
struct Fields<'a> {
    message: &'a [u8],
    decoder: PbDecoder<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn new(message: &'a [u8]) -> Self {
        Self {
            message,
            decoder: PbDecoder::new(message),
        }
    }

    /// The next field's tag; its value must be taken before the next call.
    fn next(&mut self) -> Result<Option<Tag>, InitPacketError> {
        if self.decoder.as_reader().is_empty() {
            return Ok(None);
        }
        let tag = self.decoder.decode_tag()?;
        match tag.field_num() {
            0 => Err(InitPacketError::Malformed),
            _ => Ok(Some(tag)),
        }
    }

    fn varint(&mut self, tag: Tag) -> Result<u32, InitPacketError> {
        match tag.wire_type() {
            VARINT => Ok(self.decoder.decode_varint32()?),
            _ => Err(InitPacketError::WrongWireType),
        }
    }

    fn bytes(&mut self, tag: Tag) -> Result<&'a [u8], InitPacketError> {
        if tag.wire_type() != LENGTH {
            return Err(InitPacketError::WrongWireType);
        }
        let length = self.decoder.decode_varint32()? as usize;
        let start = self.decoder.bytes_read();
        let end = start.checked_add(length).ok_or(InitPacketError::Malformed)?;
        let value = self.message.get(start..end).ok_or(InitPacketError::Malformed)?;
        self.decoder.skip_bytes(length)?;
        Ok(value)
    }

    fn bytes_up_to(
        &mut self,
        tag: Tag,
        limit: usize,
        name: &'static str,
    ) -> Result<&'a [u8], InitPacketError> {
        let value = self.bytes(tag)?;
        if value.len() > limit {
            return Err(InitPacketError::TooLong(name));
        }
        Ok(value)
    }

    fn skip(&mut self, tag: Tag) -> Result<(), InitPacketError> {
        Ok(self.decoder.skip_wire_value(tag.wire_type())?)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// The init packet in the field log of the case from which this project started.
    const CASE: &[u8] = include_bytes!("../tests/init-210.dat");

    fn field(number: u8, wire: u8, value: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | wire];
        if wire == LENGTH {
            assert!(value.len() < 128, "one length byte is enough for these tests");
            out.push(value.len() as u8);
        }
        out.extend_from_slice(value);
        out
    }

    fn unsigned(init: &[u8]) -> Vec<u8> {
        field(
            1,
            LENGTH,
            &[field(1, VARINT, &[1]), field(2, LENGTH, init)].concat(),
        )
    }

    #[test]
    fn the_init_packet_of_the_case_decodes_field_by_field() {
        assert_eq!(CASE.len(), 210);
        let packet = InitPacket::decode(CASE).unwrap();
        let init = packet.init;
        assert_eq!(packet.op_code, Some(1));
        assert_eq!(init.fw_version, Some(8714));
        assert_eq!(init.hw_version, Some(52));
        assert_eq!(init.sd_req(), [0x100, 0x123]);
        assert_eq!(init.kind, Some(firmware_type::APPLICATION));
        assert_eq!(
            (init.sd_size, init.bl_size, init.app_size),
            (Some(0), Some(0), Some(475_384))
        );
        assert_eq!(init.hash.unwrap().kind, HASH_SHA256);
        let hash = init.firmware_sha256().unwrap();
        assert_eq!(hash[..4], [0x2d, 0xa0, 0xcf, 0x74]);
        assert_eq!(hash[28..], [0xfb, 0x6a, 0x73, 0x08]);
        assert!(!init.is_debug);
        let validations: Vec<_> = init.boot_validations().collect();
        assert_eq!(validations.len(), 1);
        assert_eq!(validations[0].kind, boot_validation_type::ECDSA_P256_SHA256);
        assert_eq!(validations[0].bytes, &CASE[78..142]);
        let signature = packet.signature.unwrap();
        assert_eq!(signature.kind, SIGNATURE_ECDSA_P256_SHA256);
        assert_eq!(signature.bytes, &CASE[146..210]);
        assert_eq!(init.signed_bytes(), &CASE[11..142]);
    }

    #[test]
    fn every_truncated_packet_is_an_error() {
        for end in 0..CASE.len() {
            assert!(InitPacket::decode(&CASE[..end]).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn every_packet_with_a_flipped_bit_decodes_or_is_refused() {
        for bit in 0..CASE.len() * 8 {
            let mut bytes = CASE.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = InitPacket::decode(&bytes);
        }
    }

    // secure-dfu case 32
    #[test]
    fn garbage_is_malformed() {
        assert_eq!(InitPacket::decode(&[0xFF; 139]), Err(InitPacketError::Malformed));
    }

    // secure-dfu case 33
    #[test]
    fn command_and_signed_command_together_are_refused() {
        let both = [unsigned(&[]), CASE.to_vec()].concat();
        assert_eq!(InitPacket::decode(&both), Err(InitPacketError::NotOneCommand));
        assert_eq!(InitPacket::decode(&[]), Err(InitPacketError::NotOneCommand));
    }

    #[test]
    fn two_init_commands_are_refused() {
        let init = field(2, LENGTH, &[]);
        let packet = field(1, LENGTH, &[init.clone(), init].concat());
        assert_eq!(
            InitPacket::decode(&packet),
            Err(InitPacketError::NotOneInitCommand)
        );
    }

    #[test]
    fn unknown_fields_of_every_wire_type_are_skipped() {
        let mut init = vec![];
        init.extend(field(11, VARINT, &[0x80, 0x01]));
        init.extend(field(12, LENGTH, b"new"));
        init.extend(field(13, 1, &[0; 8]));
        init.extend(field(14, 5, &[0; 4]));
        init.extend(field(2, VARINT, &[52]));
        let packet = unsigned(&init);
        assert_eq!(InitPacket::decode(&packet).unwrap().init.hw_version, Some(52));
    }

    #[test]
    fn sd_req_may_be_packed_or_not() {
        let packed = unsigned(&field(3, LENGTH, &[0x80, 0x02, 0xA3, 0x02]));
        let single = unsigned(&[field(3, VARINT, &[0x80, 0x02]), field(3, VARINT, &[0xA3, 0x02])].concat());
        for packet in [packed, single] {
            assert_eq!(InitPacket::decode(&packet).unwrap().init.sd_req(), [0x100, 0x123]);
        }
    }

    #[test]
    fn too_many_sd_req_or_boot_validations_are_refused() {
        let packet = unsigned(&field(3, LENGTH, &[1; MAX_SD_REQ + 1]));
        assert_eq!(
            InitPacket::decode(&packet),
            Err(InitPacketError::TooLong("sd_req"))
        );
        let one = field(
            10,
            LENGTH,
            &[field(1, VARINT, &[1]), field(2, LENGTH, &[])].concat(),
        );
        let packet = unsigned(&[one.clone(), one.clone(), one.clone(), one].concat());
        assert_eq!(
            InitPacket::decode(&packet),
            Err(InitPacketError::TooLong("boot_validation"))
        );
    }

    #[test]
    fn a_hash_longer_than_32_bytes_or_without_type_is_refused() {
        let long = field(
            8,
            LENGTH,
            &[field(1, VARINT, &[3]), field(2, LENGTH, &[7; 33])].concat(),
        );
        assert_eq!(
            InitPacket::decode(&unsigned(&long)),
            Err(InitPacketError::TooLong("hash"))
        );
        let bare = field(8, LENGTH, &field(2, LENGTH, &[7; 32]));
        assert_eq!(
            InitPacket::decode(&unsigned(&bare)),
            Err(InitPacketError::MissingField("hash"))
        );
    }

    #[test]
    fn a_field_with_the_wrong_wire_type_is_refused() {
        let packet = unsigned(&field(7, LENGTH, &[1, 2]));
        assert_eq!(InitPacket::decode(&packet), Err(InitPacketError::WrongWireType));
    }
}
