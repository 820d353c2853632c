// SPDX-License-Identifier: Apache-2.0
//! An MCUboot image, by itself or in a slot: header, TLVs, digest and signature.

use bledfu_patch::record;
use bledfu_slot::header::flags;
use bledfu_slot::tlv::{types, SliceFlash, Tlv, TlvReadError, TlvWalker};
use bledfu_slot::{
    is_erased, verify_image, AddressRange, HeaderError, ImageHeader, ImagePolicy, Key, Signature, SoftCrypto,
    VerifyError,
};
use bledfu_transfer::payload::packed::Packed;
use embedded_storage::nor_flash::NorFlashErrorKind;

use super::report::Report;
use super::trailer::{layout, trailer, Role};
use super::{heading, hex, sha256, short_hex, Options};
use crate::kind::{self, Behind, ImageKind};
use crate::packed;

fn flag_names(bits: u32) -> (String, u32) {
    const NAMES: [(u32, &str); 10] = [
        (0x001, "PIC"),
        (flags::ENCRYPTED_AES128, "ENCRYPTED_AES128"),
        (flags::ENCRYPTED_AES256, "ENCRYPTED_AES256"),
        (flags::NON_BOOTABLE, "NON_BOOTABLE"),
        (0x020, "RAM_LOAD"),
        (0x100, "ROM_FIXED"),
        (flags::COMPRESSED_LZMA1, "COMPRESSED_LZMA1"),
        (flags::COMPRESSED_LZMA2, "COMPRESSED_LZMA2"),
        (flags::COMPRESSED_ARM_THUMB, "COMPRESSED_ARM_THUMB"),
        (0, ""),
    ];
    let known: Vec<&(u32, &str)> = NAMES.iter().filter(|(bit, _)| bits & bit != 0).collect();
    let unknown = known.iter().fold(bits, |rest, (bit, _)| rest & !bit);
    let mut names: Vec<String> = known.iter().map(|(_, name)| (*name).to_owned()).collect();
    if unknown != 0 {
        names.push(format!("unknown {unknown:#x}"));
    }
    (
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        },
        unknown,
    )
}

fn tlv_name(kind: u16) -> &'static str {
    match kind {
        0x01 => "KEYHASH",
        0x02 => "PUBKEY",
        0x10 => "SHA256",
        0x11 => "SHA384",
        0x12 => "SHA512",
        0x20 => "RSA2048_PSS",
        0x21 => "ECDSA224",
        0x22 => "ECDSA_SIG",
        0x23 => "RSA3072_PSS",
        0x24 => "ED25519",
        0x25 => "SIG_PURE",
        0x30 => "ENC_RSA2048",
        0x31 => "ENC_KW",
        0x32 => "ENC_EC256",
        0x33 => "ENC_X25519",
        0x34 => "ENC_X25519_SHA512",
        0x40 => "DEPENDENCY",
        0x50 => "SEC_CNT",
        0x60 => "BOOT_RECORD",
        0x70 => "DECOMP_SIZE",
        0x71 => "DECOMP_SHA",
        0x72 => "DECOMP_SIGNATURE",
        0x73 => "COMP_DEC_SIZE",
        0x74 => "UUID_VID",
        0x75 => "UUID_CID",
        record::PACK => "PACK",
        record::OUT_SHA => "OUT_SHA",
        record::BASE => "BASE",
        record::OUT_HASH => "OUT_HASH",
        _ if kind & 0xFF >= 0xA0 => "vendor",
        _ => "unknown",
    }
}

fn tlv_value(kind: u16, value: &[u8]) -> String {
    match (kind, value) {
        (types::SECURITY_COUNTER, [a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]).to_string(),
        (types::DEPENDENCY, [image, _, _, _, major, minor, r0, r1, b0, b1, b2, b3]) => format!(
            "image {image} at least {major}.{minor}.{}+{}",
            u16::from_le_bytes([*r0, *r1]),
            u32::from_le_bytes([*b0, *b1, *b2, *b3])
        ),
        (types::ECDSA, _) => hex(value),
        _ => short_hex(value),
    }
}

/// An image as it is sent over the air: a slot is not accepted, and padding is an error.
pub(super) fn image_to_send(report: &mut Report, name: &str, bytes: &[u8], options: &Options) {
    file(report, name, bytes, options, true);
}

/// An image by itself, or a slot with an image and a trailer.
pub(super) fn image_or_slot(report: &mut Report, name: &str, bytes: &[u8], options: &Options) {
    file(report, name, bytes, options, false);
}

fn file(report: &mut Report, name: &str, bytes: &[u8], options: &Options, to_send: bool) {
    let Ok(len) = u32::try_from(bytes.len()) else {
        heading(report, name, "file", bytes);
        return report.problem("the file is larger than 4 GiB");
    };
    let total_at = |start| bledfu_slot::verify::image_size(&mut SliceFlash(bytes), start, len).ok();
    // Swap using offset stores an update from the second sector of the slot on.
    let sector = options.erase_size;
    let start = match (total_at(0), total_at(sector)) {
        (None, Some(_)) if len.is_multiple_of(sector) && !to_send => sector,
        _ => 0,
    };
    let total = total_at(start).map(|total| start + total);
    let is_slot = match options.slot_size {
        _ if to_send => false,
        Some(size) => size == len,
        // In a plain file nothing follows the image, or padding to a multiple of 4.
        None => len.is_multiple_of(sector) && total.is_none_or(|total| len - total >= 4),
    };
    let image_bytes = bytes.get(start as usize..).unwrap_or_default();
    let parsed = ImageHeader::parse(image_bytes);
    let behind = total.map_or(Behind::Nothing, |total| {
        Behind::of(bytes.get(total as usize..).unwrap_or_default())
    });
    let what = match (is_slot, &parsed) {
        (true, Ok(header)) if start == 0 && behind == Behind::Padding => {
            let kind = ImageKind::of(header, image_bytes).name();
            format!("slot ({kind}, padded)")
        }
        (true, _) => "slot".to_owned(),
        (false, Err(HeaderError::BadMagic)) => "not an MCUboot image".to_owned(),
        (false, Ok(header)) => {
            let padded = if behind == Behind::Padding { "padded " } else { "" };
            format!("{padded}{}", ImageKind::of(header, image_bytes).name())
        }
        (false, Err(_)) => ImageKind::Plain.name().to_owned(),
    };
    if report.sections.is_empty() {
        report.kind.clone_from(&what);
    }
    heading(report, name, &what, bytes);
    match parsed {
        Ok(header) => {
            if start != 0 {
                report.field(
                    "image at",
                    format!("{start:#x}, where swap using offset expects an update"),
                );
            }
            let total = total.map(|total| total - start);
            let place = Place {
                total,
                is_slot,
                to_send,
            };
            image(report, image_bytes, &header, place, options);
        }
        Err(HeaderError::Erased) if is_slot => report.field("image", "none: the slot starts erased"),
        Err(error) => report.problem(error),
    }
    if is_slot {
        trailer(report, bytes, len, options, Role::Unknown);
    } else if let Some(size) = options.slot_size {
        if len > size {
            report.problem(format!("the file has more bytes than a slot of {size} bytes"));
        }
    }
}

/// Where an image is.
#[derive(Clone, Copy)]
struct Place {
    /// Its size with header and TLVs, if they can be read.
    total: Option<u32>,
    /// Whether it is in a slot.
    is_slot: bool,
    /// Whether it is to be sent.
    to_send: bool,
}

fn image(report: &mut Report, bytes: &[u8], header: &ImageHeader, place: Place, options: &Options) {
    let Place {
        total,
        is_slot,
        to_send,
    } = place;
    let len = bytes.len() as u32;
    report.field("version", header.version);
    report.field("load_addr", format!("{:#010x}", header.load_addr));
    report.field(
        "header size",
        format!("{} ({:#x})", header.header_size, header.header_size),
    );
    report.field(
        "payload size",
        format!("{} ({:#x})", header.image_size, header.image_size),
    );
    report.field("protected TLVs", format!("{} bytes", header.protected_tlv_size));
    let (names, unknown) = flag_names(header.flags);
    report.field("flags", format!("{:#x} ({names})", header.flags));
    if unknown != 0 {
        report.problem(format!("the header has unknown flags {unknown:#x}"));
    }
    // The first 32 bytes tell this, whatever else is wrong.
    if let Some(problem) = kind::kind_problem(header, bytes) {
        report.problem(problem);
    }
    let packed = match packed::is_packed(bytes) {
        true => packed::read(bytes).ok(),
        false => None,
    };
    for (name, fact) in packed.iter().flat_map(packed::facts) {
        report.field(name, fact);
    }
    if let Some(table) = vector_table(bytes, header) {
        report.field("vector table", table);
    }
    if let Some(total) = total {
        report.field("whole image", format!("{total} bytes"));
    }
    let hashed = match header.hashed_size() {
        Ok(hashed) => hashed,
        Err(error) => return report.problem(error),
    };
    let Some(covered) = bytes.get(..hashed as usize) else {
        return report.problem(format!(
            "the file is cut short: its header announces {hashed} bytes and TLVs, the file has {len}"
        ));
    };
    let digest = sha256(covered);
    report.field("SHA-256 of the image", hex(&digest));
    report.field("which covers", format!("the first {hashed} bytes"));
    let signatures = tlvs(report, bytes, len, header, &digest);
    // Of a packed update, its own check says so.
    if signatures == 0 && !packed::is_packed(bytes) {
        report.problem("the image is not signed");
    }
    if let (Some(total), false) = (total, is_slot) {
        let rest = bytes.get(total as usize..).unwrap_or_default();
        if !rest.is_empty() {
            let kind = match Behind::of(rest) {
                Behind::Other => "other",
                _ if is_erased(rest) => "erased",
                _ => "padding",
            };
            report.field("after the image", format!("{} {kind} bytes", rest.len()));
        }
        match Behind::of(rest) {
            Behind::Padding if to_send => report.problem(kind::padded(total, len)),
            Behind::Other => report.problem(kind::FOREIGN_BYTES),
            _ => {}
        }
    }
    if packed::is_packed(bytes) {
        return packed_update(report, packed.as_ref(), bytes, options);
    }
    // What the boot stage itself decides: with the key if there is one, else as if the signature were good.
    let keys: Vec<Key> = options.image_key.into_iter().collect();
    let trusted = if keys.is_empty() { vec![digest] } else { Vec::new() };
    let policy = ImagePolicy {
        keys: &keys,
        trusted_digests: &trusted,
        unsigned: false,
        address: options.slot_address.map(|start| AddressRange {
            start,
            size: options.slot_size.unwrap_or(len),
        }),
    };
    let room = options.slot_size.unwrap_or(len).max(len);
    let limit = match layout(room, options) {
        Ok(layout) if options.slot_size.is_some() || is_slot => layout.max_image_size(),
        _ => room,
    };
    match keys.is_empty() {
        true if signatures > 0 => report.unchecked("the signature of the image: no --image-key"),
        true => {}
        false => report.field("signature checked", "yes"),
    }
    let if_good = match keys.is_empty() {
        true => ", if its signature is good",
        false => "",
    };
    match verify_image(&mut SliceFlash(bytes), 0, room, limit, &policy, &SoftCrypto) {
        Ok(_) => report.field("boot stage would", format!("accept the image{if_good}")),
        Err(error) => {
            report.field("boot stage would", "refuse the image");
            // The header has already told about the kind of image.
            let said = matches!(error, VerifyError::Header(_)) && kind::kind_problem(header, bytes).is_some();
            if !said {
                report.problem(verify_sentence(error));
            }
        }
    }
}

/// What a device makes of a packed update.
fn packed_update(report: &mut Report, packed: Option<&Packed>, bytes: &[u8], options: &Options) {
    match packed::verify(bytes, options.image_key.as_ref()) {
        Err(problem) => report.problem(problem),
        Ok(()) if options.image_key.is_some() => report.field("signature checked", "yes"),
        Ok(()) => report.unchecked("the signature of the packed update: no --image-key"),
    }
    report.field("boot stage would", "not start it: the application expands it");
    let Some(packed) = packed else {
        return; // Its problem was reported with its header.
    };
    match (&options.running, packed.base) {
        (Some(running), _) => {
            if let Err(refusal) = packed.check_base(running) {
                report.problem(refusal);
            }
        }
        (None, Some(_)) => report.unchecked("whether the device runs its base: no --from"),
        (None, None) => {}
    }
}

/// The first two words of the payload, if they can be the vector table of a Cortex-M.
fn vector_table(bytes: &[u8], header: &ImageHeader) -> Option<String> {
    if is_encrypted(header) || header.check_kind() == Err(HeaderError::Compressed) {
        return None;
    }
    vector_table_of(bytes.get(usize::from(header.header_size)..)?)
}

pub(super) fn vector_table_of(payload: &[u8]) -> Option<String> {
    let (stack_pointer, reset_vector) = kind::vector_table(payload)?;
    Some(format!(
        "stack pointer {stack_pointer:#010x}, reset vector {reset_vector:#010x}"
    ))
}

fn is_encrypted(header: &ImageHeader) -> bool {
    header.flags & (flags::ENCRYPTED_AES128 | flags::ENCRYPTED_AES256) != 0
}

/// A file in memory can only fail to be read beyond its end.
fn verify_sentence(error: VerifyError<NorFlashErrorKind>) -> String {
    match error {
        VerifyError::Flash(_) => "the image extends beyond the end of the file".to_owned(),
        VerifyError::NotSigned => "the image is not signed with the key of --image-key".to_owned(),
        other => other.to_string(),
    }
}

/// Prints the entries, and returns how many of them are signatures of a kind that this project knows.
fn tlvs(report: &mut Report, bytes: &[u8], len: u32, header: &ImageHeader, digest: &[u8; 32]) -> usize {
    let mut flash = SliceFlash(bytes);
    let sentence = |error: TlvReadError<NorFlashErrorKind>| verify_sentence(error.into());
    let mut walker = match TlvWalker::new(&mut flash, 0, header, len) {
        Ok(walker) => walker,
        Err(error) => {
            report.problem(sentence(error));
            return 1; // It is not known whether there is one.
        }
    };
    let mut signatures = 0;
    loop {
        match walker.next(&mut flash) {
            Ok(None) => return signatures,
            Ok(Some(tlv)) => {
                signatures += usize::from(tlv.kind == types::ECDSA);
                let start = tlv.offset as usize;
                let value = bytes
                    .get(start..start + usize::from(tlv.length))
                    .unwrap_or_default();
                print_tlv(report, header, &tlv, value, digest);
            }
            Err(error) => {
                report.problem(sentence(error));
                return signatures;
            }
        }
    }
}

fn print_tlv(report: &mut Report, header: &ImageHeader, tlv: &Tlv, value: &[u8], digest: &[u8; 32]) {
    let protected = if tlv.protected { ", protected" } else { "" };
    report.field(
        format_args!("TLV {:#04x} {}", tlv.kind, tlv_name(tlv.kind)),
        format!(
            "{} bytes at {:#x}{protected}: {}",
            tlv.length,
            tlv.offset,
            tlv_value(tlv.kind, value)
        ),
    );
    match tlv.kind {
        types::SHA256 if value.len() != 32 => {
            report.problem(VerifyError::<NorFlashErrorKind>::HashLength);
        }
        types::SHA256 if is_encrypted(header) => {
            report.unchecked("the SHA-256 of the image: it is of the image before encryption");
        }
        types::SHA256 if value != digest => {
            report.problem(VerifyError::<NorFlashErrorKind>::HashMismatch);
        }
        types::ECDSA if Signature::from_der(value).is_err() => {
            report.problem("the signature entry is not a DER signature of P-256");
        }
        _ => {}
    }
}
