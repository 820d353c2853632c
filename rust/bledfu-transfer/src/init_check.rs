// SPDX-License-Identifier: Apache-2.0
//! The checks of an init packet before the first byte of flash is touched.
//!
//! The checks and their order are those of the reference (nRF5 SDK `nrf_dfu_validation.c`, `nrf_dfu_ver_validation.c`):
//! a packet that is wrong in two ways must be refused for the first of them, and a wrong signature hides every later
//! reason.

use bledfu_slot::verify::{Crypto, Digest, Key, Sha256, Signature, SignatureCheck};
use bledfu_text::{text, words, Hex, Line, Text};
use bledfu_wire::init_packet::{
    boot_validation_type, firmware_type, InitPacket, InitPacketError, HASH_SHA256,
    SIGNATURE_ECDSA_P256_SHA256,
};
use bledfu_wire::secure_dfu::{ExtendedCode, ResultCode};
/// What to do with a packet's SoftDevice requirement (`sd_req`) on a device that has no SoftDevice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoftDevicePolicy<'k> {
    /// As in the reference without SoftDevice: only an empty list, or one that begins with 0, passes.
    Absent,
    /// The list is ignored: a product that moves to Zephyr can still accept its released packages.
    Ignore,
    /// Passes when the list contains one of these firmware ids, or as with [`SoftDevicePolicy::Absent`].
    ActAs(&'k [u32]),
}

/// What this device accepts.
#[derive(Clone, Copy, Debug)]
pub struct InitPolicy<'k> {
    /// The keys that may sign init packets; one match is enough.
    pub package_keys: &'k [Key],
    /// An unsigned packet is refused.
    pub signature_required: bool,
    /// The hardware version of this device.
    pub hw_version: u32,
    /// The SoftDevice rule.
    pub soft_device: SoftDevicePolicy<'k>,
    /// A lower firmware version is accepted, and a missing one too.
    pub downgrade_allowed: bool,
    /// The same firmware version is accepted again. Users re-flash the same build, and the reference allows it.
    pub same_version_allowed: bool,
    /// This is a debug build: packets with `is_debug` skip the checks of hardware, SoftDevice and firmware version.
    pub debug_build: bool,
}

/// A firmware that may now be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Size of the firmware file in bytes, > 0.
    pub size: u32,
    /// SHA-256 of the firmware file, in the usual order.
    pub sha256: [u8; 32],
    /// Its version; 0 when downgrades are allowed and the packet has none.
    pub fw_version: u32,
    /// A second signature, over the firmware file.
    pub file_signature: Option<Signature>,
    /// The packet asks for a boot validation that this device does not support; refused after the transfer, as in the
    /// reference.
    pub unknown_boot_validation: bool,
}

/// Why an init packet was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitRefusal {
    /// It cannot be decoded.
    Malformed(InitPacketError),
    /// A signature is required and missing.
    SignatureMissing,
    /// The signature type is not ECDSA P-256 with SHA-256.
    SignatureType(u32),
    /// The signature is not 64 bytes long.
    SignatureLength(usize),
    /// The signature matches none of this device's keys.
    SignatureWrong,
    /// The signature could not be checked now; the packet may be good.
    CryptoUnavailable,
    /// The packet does not give a firmware type.
    KindMissing,
    /// Not an application: this device does not replace its SoftDevice and bootloader.
    KindUnsupported(u32),
    /// The hash is missing or not SHA-256.
    HashType,
    /// The packet names no hardware version.
    HardwareVersionMissing,
    /// The packet is for other hardware.
    HardwareVersion {
        /// The packet's.
        packet: u32,
        /// This device's.
        device: u32,
    },
    /// The packet needs a SoftDevice.
    SoftDevice(u32),
    /// The packet names no firmware version.
    FirmwareVersionMissing,
    /// The version is lower than the running one, or equal where that is not allowed.
    FirmwareVersion {
        /// The packet's.
        packet: u32,
        /// The running firmware's.
        running: u32,
    },
    /// The packet names no firmware size, or 0.
    SizeMissing,
    /// The firmware does not fit the slot.
    TooLarge {
        /// The packet's, in bytes.
        size: u32,
        /// The slot's limit in bytes.
        limit: u32,
    },
}

impl InitRefusal {
    /// The code for the peer.
    pub const fn code(&self) -> ResultCode {
        use ExtendedCode as X;
        use ResultCode::Extended;
        match self {
            Self::Malformed(_) => ResultCode::InvalidObject,
            Self::SignatureMissing => Extended(X::SignatureMissing),
            Self::SignatureType(_) => Extended(X::WrongSignatureType),
            Self::SignatureLength(_) | Self::CryptoUnavailable => ResultCode::OperationFailed,
            Self::SignatureWrong => ResultCode::InvalidObject,
            Self::KindMissing | Self::KindUnsupported(_) => Extended(X::InitCommandInvalid),
            Self::HashType => Extended(X::WrongHashType),
            Self::HardwareVersionMissing => Extended(X::InitCommandInvalid),
            Self::HardwareVersion { .. } => Extended(X::HardwareVersion),
            Self::SoftDevice(_) => Extended(X::SoftDeviceVersion),
            Self::FirmwareVersionMissing => Extended(X::InitCommandInvalid),
            Self::FirmwareVersion { .. } => Extended(X::FirmwareVersion),
            Self::SizeMissing => Extended(X::InitCommandInvalid),
            Self::TooLarge { .. } => ResultCode::InsufficientResources,
        }
    }
}

impl Text for InitRefusal {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::Malformed(error) => error.put(line),
            Self::SignatureMissing => words!("the init packet is not signed").put(line),
            Self::SignatureType(kind) => text!(
                "the init packet's signature has type {}; only ECDSA P-256 (0) is supported",
                kind
            )
            .put(line),
            Self::SignatureLength(length) => {
                let length = *length as u32;
                text!("the init packet's signature has {} bytes, not 64", length).put(line)
            }
            Self::SignatureWrong => {
                words!("the init packet is not signed with this device's package key").put(line)
            }
            Self::CryptoUnavailable => {
                words!("the init packet's signature could not be checked now; try again").put(line)
            }
            Self::KindMissing => {
                words!("the init packet does not say what kind of firmware it is for").put(line)
            }
            Self::KindUnsupported(kind) => text!(
                "firmware of type {} is not an application, and only that can be updated",
                kind
            )
            .put(line),
            Self::HashType => words!("the init packet's firmware hash is missing or not SHA-256").put(line),
            Self::HardwareVersionMissing => words!("the init packet names no hardware version").put(line),
            Self::HardwareVersion { packet, device } => text!(
                "the package is for hardware version {}, this is {}",
                packet,
                device
            )
            .put(line),
            Self::SoftDevice(fwid) => text!(
                "the package needs SoftDevice {}, this device has none",
                Hex(*fwid, 4)
            )
            .put(line),
            Self::FirmwareVersionMissing => words!("the init packet names no firmware version").put(line),
            Self::FirmwareVersion { packet, running } => text!(
                "the package has firmware version {}, but {} is installed",
                packet,
                running
            )
            .put(line),
            Self::SizeMissing => words!("the init packet names no firmware size").put(line),
            Self::TooLarge { size, limit } => {
                text!("the firmware has {} bytes, the slot takes {}", size, limit).put(line)
            }
        }
    }
}

bledfu_text::display!(InitRefusal);

impl core::error::Error for InitRefusal {}

/// Decodes and checks an init packet.
///
/// `running` is the installed firmware version, `limit` the largest image in bytes.
///
/// # Errors
/// The first check that fails, in the order of the reference.
pub fn check<C: Crypto>(
    bytes: &[u8],
    policy: &InitPolicy<'_>,
    running: u32,
    limit: u32,
    crypto: &C,
) -> Result<Accepted, InitRefusal> {
    // The packet is decoded twice, so that nothing of it is on the stack while its signature is checked.
    if let Some((digest, signature)) = signed(bytes, policy, crypto)? {
        match crypto.verify_any(policy.package_keys, &digest, &signature) {
            SignatureCheck::Good => {}
            SignatureCheck::Bad => return Err(InitRefusal::SignatureWrong),
            SignatureCheck::Unavailable => return Err(InitRefusal::CryptoUnavailable),
        }
    }
    check_fields(bytes, policy, running, limit)
}

/// What the signature of a packet must be over, and the signature; `None` if none is required, as the reference then ignores
/// it.
#[inline(never)]
fn signed<C: Crypto>(
    bytes: &[u8],
    policy: &InitPolicy<'_>,
    crypto: &C,
) -> Result<Option<(Digest, Signature)>, InitRefusal> {
    let packet = InitPacket::decode(bytes).map_err(InitRefusal::Malformed)?;
    if !policy.signature_required {
        return Ok(None);
    }
    let signature = packet.signature.ok_or(InitRefusal::SignatureMissing)?;
    if signature.kind != SIGNATURE_ECDSA_P256_SHA256 {
        return Err(InitRefusal::SignatureType(signature.kind));
    }
    let halves: &[u8; 64] = signature
        .bytes
        .try_into()
        .map_err(|_| InitRefusal::SignatureLength(signature.bytes.len()))?;
    let mut hash = crypto.sha256();
    hash.update(packet.init.signed_bytes());
    Ok(Some((hash.finish(), Signature::from_le_halves(halves))))
}

#[inline(never)]
fn check_fields(
    bytes: &[u8],
    policy: &InitPolicy<'_>,
    running: u32,
    limit: u32,
) -> Result<Accepted, InitRefusal> {
    let packet = InitPacket::decode(bytes).map_err(InitRefusal::Malformed)?;
    let init = &packet.init;
    match init.kind {
        None => return Err(InitRefusal::KindMissing),
        Some(firmware_type::APPLICATION) => {}
        Some(other) => return Err(InitRefusal::KindUnsupported(other)),
    }
    let sha256 = init
        .hash
        .filter(|hash| hash.kind == HASH_SHA256)
        .and_then(|_| init.firmware_sha256())
        .ok_or(InitRefusal::HashType)?;

    if !(policy.debug_build && init.is_debug) {
        check_versions(&packet, policy, running)?;
    }

    let size = init
        .app_size
        .filter(|&size| size > 0)
        .ok_or(InitRefusal::SizeMissing)?;
    if size > limit {
        return Err(InitRefusal::TooLarge { size, limit });
    }

    let mut file_signature = None;
    let mut unknown_boot_validation = false;
    // The reference considers only the first entry: the application's.
    if let Some(validation) = init.boot_validations().next() {
        match validation.kind {
            boot_validation_type::NONE
            | boot_validation_type::GENERATED_CRC
            | boot_validation_type::SHA256 => {}
            boot_validation_type::ECDSA_P256_SHA256 => match validation.bytes.try_into() {
                Ok(halves) => file_signature = Some(Signature::from_le_halves(halves)),
                Err(_) => unknown_boot_validation = true,
            },
            _ => unknown_boot_validation = true,
        }
    }
    let fw_version = init.fw_version.unwrap_or_default();
    Ok(Accepted {
        size,
        sha256,
        fw_version,
        file_signature,
        unknown_boot_validation,
    })
}

fn check_versions(packet: &InitPacket<'_>, policy: &InitPolicy<'_>, running: u32) -> Result<(), InitRefusal> {
    let init = &packet.init;
    let hw_version = init.hw_version.ok_or(InitRefusal::HardwareVersionMissing)?;
    if hw_version != policy.hw_version {
        return Err(InitRefusal::HardwareVersion {
            packet: hw_version,
            device: policy.hw_version,
        });
    }

    let required = init.sd_req();
    let needs_none = required.first().is_none_or(|&first| first == 0);
    let passes = match policy.soft_device {
        SoftDevicePolicy::Ignore => true,
        SoftDevicePolicy::Absent => needs_none,
        SoftDevicePolicy::ActAs(ids) => needs_none || required.iter().any(|id| ids.contains(id)),
    };
    if !passes {
        return Err(InitRefusal::SoftDevice(
            required.first().copied().unwrap_or_default(),
        ));
    }

    match init.fw_version {
        _ if policy.downgrade_allowed => Ok(()),
        None => Err(InitRefusal::FirmwareVersionMissing),
        Some(packet) if packet > running || (packet == running && policy.same_version_allowed) => Ok(()),
        Some(packet) => Err(InitRefusal::FirmwareVersion { packet, running }),
    }
}
