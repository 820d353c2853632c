// SPDX-License-Identifier: Apache-2.0
//! The init packet: what a signed package says about its firmware.

use bledfu_sim::init_packet::BootValidation;
use bledfu_slot::{Crypto, Key, Signature, SignatureCheck, SoftCrypto};
use bledfu_transfer::init_check::{self, InitPolicy, InitRefusal, SoftDevicePolicy};
use bledfu_wire::init_packet::{
    boot_validation_type, firmware_type, InitPacket, HASH_SHA256, MAX_INIT_PACKET,
    SIGNATURE_ECDSA_P256_SHA256,
};

use super::report::Report;
use super::{hex, sha256, Options};

/// Size of an object in bytes, as targets on this chip announce it.
const OBJECT: u32 = 4096;

const NO_FIRMWARE: &str = "the firmware: it is not in this file, only in the whole package";

fn number(value: Option<u32>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| format!("{value} ({value:#x})"))
}

fn firmware_type_name(kind: u32) -> &'static str {
    match kind {
        firmware_type::APPLICATION => "application",
        firmware_type::SOFTDEVICE => "SoftDevice",
        firmware_type::BOOTLOADER => "bootloader",
        firmware_type::SOFTDEVICE_BOOTLOADER => "SoftDevice and bootloader",
        firmware_type::EXTERNAL_APPLICATION => "external application",
        _ => "unknown",
    }
}

fn softdevice_name(fwid: u32) -> &'static str {
    match fwid {
        0x000 => "none",
        0x100 => "S140 7.2.0",
        0x101 => "S132 7.2.0",
        0x123 => "S140 7.3.0",
        0x124 => "S132 7.3.0",
        0xFFFE => "any",
        _ => "other",
    }
}

pub(super) fn init_packet(report: &mut Report, bytes: &[u8], firmware: Option<&[u8]>, options: &Options) {
    if bytes.len() > MAX_INIT_PACKET {
        report.problem(format!(
            "the init packet has more than {MAX_INIT_PACKET} bytes, the most that a target accepts"
        ));
    }
    let packet = match InitPacket::decode(bytes) {
        Ok(packet) => packet,
        Err(error) => return report.problem(error),
    };
    let init = packet.init;
    report.field(
        "op_code",
        packet.op_code.map_or_else(
            || "absent".to_owned(),
            |op| format!("{op} ({})", if op == 1 { "INIT" } else { "not INIT" }),
        ),
    );
    report.field("fw_version", number(init.fw_version));
    report.field("hw_version", number(init.hw_version));
    if init.hw_version.is_none() {
        report.problem("the init packet lacks the hardware version");
    }
    let list: Vec<String> = init
        .sd_req()
        .iter()
        .map(|fwid| format!("{fwid:#06x} ({})", softdevice_name(*fwid)))
        .collect();
    report.field(
        "sd_req",
        if list.is_empty() {
            "empty".to_owned()
        } else {
            list.join(", ")
        },
    );
    report.field(
        "type",
        init.kind.map_or_else(
            || "absent".to_owned(),
            |kind| format!("{kind} ({})", firmware_type_name(kind)),
        ),
    );
    if init
        .kind
        .is_none_or(|kind| kind > firmware_type::EXTERNAL_APPLICATION)
    {
        report.problem("the init packet has no known firmware type");
    }
    report.field("sd_size", number(init.sd_size));
    report.field("bl_size", number(init.bl_size));
    report.field("app_size", number(init.app_size));
    let sizes = [init.sd_size, init.bl_size, init.app_size];
    let total = sizes.iter().flatten().map(|size| u64::from(*size)).sum::<u64>();
    if total == 0 {
        report.problem("the init packet says that the firmware is empty");
    } else {
        report.field(
            "objects",
            format!("{} of up to {OBJECT} bytes", total.div_ceil(u64::from(OBJECT))),
        );
    }
    match init.hash {
        None => report.problem("the init packet has no hash"),
        Some(hash) => {
            let name = if hash.kind == HASH_SHA256 {
                "SHA-256"
            } else {
                "not SHA-256"
            };
            report.field("hash type", format!("{} ({name})", hash.kind));
            match init.firmware_sha256() {
                Some(sha256) => {
                    report.field("hash of the firmware", hex(&sha256));
                    if firmware.is_none() {
                        report.unchecked(NO_FIRMWARE);
                    }
                }
                None => {
                    report.field("hash as stored", hex(hash.bytes));
                    report.problem("the hash in the init packet is not a SHA-256");
                }
            }
        }
    }
    report.field("is_debug", init.is_debug);
    for (index, validation) in init.boot_validations().enumerate() {
        let method = BootValidation::ALL
            .into_iter()
            .find(|method| method.number() == validation.kind);
        report.field(
            format_args!("boot_validation {index}"),
            format!(
                "{} ({}){}{}",
                validation.kind,
                method.map_or("unknown", BootValidation::name),
                if validation.bytes.is_empty() { "" } else { ", " },
                hex(validation.bytes)
            ),
        );
        if method.is_none() {
            report.problem("the init packet asks for an unknown boot validation");
        }
        if validation.kind == boot_validation_type::ECDSA_P256_SHA256 {
            match (firmware, options.public_key) {
                (Some(firmware), Some(key)) => {
                    let digest = sha256(firmware);
                    match check_signature(&key, &digest, validation.bytes) {
                        true => report.field("", "the signature is good"),
                        false => report.problem("the boot validation signature is wrong"),
                    }
                }
                (None, _) => report.unchecked(NO_FIRMWARE),
                (_, None) => report.unchecked("the boot validation signature: no --public-key"),
            }
        }
    }
    let signed = init.signed_bytes();
    let start = bytes.len() - packet.signature.map_or(0, |s| s.bytes.len() + 4) - signed.len();
    let place = if bytes.get(start..start + signed.len()) == Some(signed) {
        format!(" from byte {start}")
    } else {
        String::new()
    };
    report.field("signed bytes", format!("{}{place}", signed.len()));
    report.field("SHA-256 of these", hex(&sha256(signed)));
    for_device(report, bytes, &packet, options);
    let Some(signature) = packet.signature else {
        report.field("signature", "none: a target that requires one refuses the packet");
        report.problem("the init packet is not signed");
        return;
    };
    let known = signature.kind == SIGNATURE_ECDSA_P256_SHA256;
    let name = if known { "ECDSA P-256, SHA-256" } else { "unknown" };
    report.field("signature type", format!("{} ({name})", signature.kind));
    report.field("signature", hex(signature.bytes));
    if !known {
        report.problem("the init packet has an unknown type of signature");
    } else if signature.bytes.len() != 64 {
        report.problem("the signature of the init packet does not have 64 bytes");
    } else if let Some(key) = options.public_key {
        if check_signature(&key, &sha256(signed), signature.bytes) {
            report.field("", "the signature is good");
        } else {
            report.problem("the signature of the init packet is wrong, or made with another key");
        }
    } else {
        report.unchecked("the signature of the init packet: no --public-key");
    }
}

/// What a device would refuse about a packet that is valid in itself, as far as the options describe the device.
fn for_device(report: &mut Report, bytes: &[u8], packet: &InitPacket<'_>, options: &Options) {
    let policy = InitPolicy {
        package_keys: &[],
        signature_required: false,
        hw_version: options.hw_version.or(packet.init.hw_version).unwrap_or_default(),
        soft_device: options.soft_device.unwrap_or(SoftDevicePolicy::Ignore),
        downgrade_allowed: options.fw_version.is_none(),
        same_version_allowed: true,
        debug_build: false,
    };
    let running = options.fw_version.unwrap_or_default();
    let refused = init_check::check(bytes, &policy, running, u32::MAX, &SoftCrypto);
    // The other faults were already reported, in more detail.
    if let Err(
        refusal @ (InitRefusal::HardwareVersion { .. }
        | InitRefusal::SoftDevice(_)
        | InitRefusal::FirmwareVersion { .. }
        | InitRefusal::FirmwareVersionMissing),
    ) = refused
    {
        report.problem(refusal);
    }
}

/// Checks a signature in the packet's form: r and s, each byte-reversed.
fn check_signature(key: &Key, digest: &[u8; 32], bytes: &[u8]) -> bool {
    bytes.try_into().is_ok_and(|halves| {
        SoftCrypto.verify(key, digest, &Signature::from_le_halves(halves)) == SignatureCheck::Good
    })
}
