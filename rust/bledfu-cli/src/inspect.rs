// SPDX-License-Identifier: Apache-2.0
//! `bledfu inspect`: explains a package, an init packet, an image or a slot, field by field, and says what is wrong with it.
//!
//! Bytes are taken apart by the crates that own the formats; this file only gives the fields names.

use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, Context};
use bledfu_sim::init_packet::BootValidation;
use bledfu_sim::keys::open_public_key;
use bledfu_sim::package::{read_parts, Package, Part, PartKind};
use bledfu_sim::parts;
use bledfu_sim::phone::secure_dfu::crc32;
use bledfu_slot::copy_roles::{self, Record};
use bledfu_slot::header::flags;
use bledfu_slot::tlv::{types, SliceFlash, Tlv, TlvReadError, TlvWalker};
use bledfu_slot::{
    is_erased, verify_image, AddressRange, Algorithm, Crypto, Flag, Geometry, HeaderError, ImageHeader,
    ImagePolicy, Key, Layout, Magic, Signature, SignatureCheck, SoftCrypto, SwapType, Trailer, TrailerLayout,
    VerifyError,
};
use bledfu_wire::init_packet::{
    boot_validation_type, firmware_type, InitPacket, HASH_SHA256, MAX_INIT_PACKET,
    SIGNATURE_ECDSA_P256_SHA256,
};
use clap::Args;
use embedded_storage::nor_flash::NorFlashErrorKind;
use sha2::{Digest, Sha256};

use crate::args::{algorithm_parser, find_part, parse_u32};

/// Sector size of a slot, unless told otherwise.
const SECTOR: u32 = 4096;

/// Bytes of an object, as targets on this chip announce them.
const OBJECT: u32 = 4096;

/// Options of `bledfu inspect`.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// DFU package (.zip), init packet (.dat), image (.bin) or dump of a whole slot.
    pub file: PathBuf,
    /// Public or private key (PEM) the package must be signed with.
    #[arg(long, value_name = "FILE.pem")]
    pub public_key: Option<PathBuf>,
    /// Public or private key (PEM) the image must be signed with.
    #[arg(long, value_name = "FILE.pem")]
    pub image_key: Option<PathBuf>,
    /// Size of the slot; default: that of the file, if it is a multiple of the erase unit.
    #[arg(long, value_name = "BYTES", value_parser = parse_u32)]
    pub slot_size: Option<u32>,
    /// Address at which the processor sees the slot that the image is for (0xc000 in the simulator): an image that is linked for
    /// another slot, or for another processor, is wrong then.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_u32)]
    pub slot_address: Option<u32>,
    /// The processor's flash, for its units; an unknown name lists the known ones.
    #[arg(long, default_value = parts::NRF52840.name, value_name = "PART")]
    pub internal: String,
    /// Write unit of the flash that holds the swap records [default: that of --internal].
    #[arg(long, visible_alias = "write-unit", value_name = "BYTES", value_parser = parse_u32)]
    pub align: Option<u32>,
    /// Erase unit of the slot [default: that of --internal].
    #[arg(long, value_name = "BYTES", value_parser = parse_u32)]
    pub erase_size: Option<u32>,
    /// Spacing of the trailer's fields: 8, 16 or 32 [default: 8, or the write unit if that is more].
    #[arg(long, value_name = "BYTES", value_parser = parse_u32)]
    pub max_align: Option<u32>,
    /// Sectors the boot stage is built for; default: 256, or as many as the slot has.
    #[arg(long, value_name = "N", value_parser = parse_u32)]
    pub max_sectors: Option<u32>,
    /// How the boot stage installs.
    #[arg(long, default_value = Algorithm::SwapOffset.as_str(), value_parser = algorithm_parser())]
    pub algorithm: Algorithm,
}

/// What an inspection needs to know beside the bytes.
#[derive(Clone)]
pub struct Options {
    /// Key of the package.
    pub public_key: Option<Key>,
    /// Key of the image.
    pub image_key: Option<Key>,
    /// Size of the slot, if it is known.
    pub slot_size: Option<u32>,
    /// Address of the slot the image is for, if it is known.
    pub slot_address: Option<u32>,
    /// Write unit.
    pub align: u32,
    /// Erase unit.
    pub erase_size: u32,
    /// Spacing of the trailer's fields.
    pub max_align: u32,
    /// Sectors the boot stage is built for.
    pub max_sectors: Option<u32>,
    /// Install algorithm.
    pub algorithm: Algorithm,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            public_key: None,
            image_key: None,
            slot_size: None,
            slot_address: None,
            align: 4,
            erase_size: SECTOR,
            max_align: 8,
            max_sectors: None,
            algorithm: Algorithm::SwapOffset,
        }
    }
}

/// What an inspection found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The fields, ready to print.
    pub text: String,
    /// What is wrong, a sentence each, in the order in which it was found.
    pub problems: Vec<String>,
}

impl Report {
    fn heading(&mut self, text: impl Display) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let _ = writeln!(self.text, "{text}");
    }

    fn field(&mut self, name: impl Display, value: impl Display) {
        // Padding needs a string: not every `Display` heeds a width.
        let _ = writeln!(self.text, "  {:<22} {value}", name.to_string());
    }

    fn problem(&mut self, text: impl Display) {
        let text = text.to_string();
        if !self.problems.contains(&text) {
            let _ = writeln!(self.text, "  {:<22} {text}", "WRONG");
            self.problems.push(text);
        }
    }

    /// The last line of the output.
    pub fn verdict(&self) -> String {
        if self.problems.is_empty() {
            "nothing wrong found".to_owned()
        } else {
            format!("wrong: {}", self.problems.join("; "))
        }
    }
}

/// Prints to standard output; a closed pipe (`| head`) is not an error.
pub fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// `bledfu inspect`.
///
/// # Errors
/// One sentence when the file or a key cannot be read. What is wrong *in* the file is part of the output, and the exit code.
pub fn cmd_inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let key = |path: &Option<PathBuf>| path.as_deref().map(open_public_key).transpose();
    let internal = find_part(&args.internal, true)?;
    let align = args.align.unwrap_or(internal.write_size);
    let erase_size = args.erase_size.unwrap_or(internal.sector_size());
    if !erase_size.is_power_of_two() {
        bail!("--erase-size is a power of two, not {erase_size}");
    }
    let options = Options {
        public_key: key(&args.public_key)?,
        image_key: key(&args.image_key)?,
        slot_size: args.slot_size,
        slot_address: args.slot_address,
        align,
        erase_size,
        max_align: args.max_align.unwrap_or(align.max(8)),
        max_sectors: args.max_sectors,
        algorithm: args.algorithm,
    };
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let name = args
        .file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let report = inspect(&name, &bytes, &options);
    print(&format!("{}\n{}\n", report.text, report.verdict()));
    Ok(if report.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Recognises what `bytes` are and explains them; `name` is the file's name and breaks ties.
pub fn inspect(name: &str, bytes: &[u8], options: &Options) -> Report {
    let mut report = Report::default();
    let lower = name.to_lowercase();
    let len = bytes.len();
    let has_image_magic = !matches!(
        ImageHeader::parse(bytes),
        Err(HeaderError::BadMagic | HeaderError::Erased | HeaderError::Truncated)
    );
    let is_slot = options.slot_size.map(|size| size as usize) == Some(len);
    let may_be_slot = len != 0 && len.is_multiple_of(options.erase_size as usize);
    if bytes.is_empty() {
        report.heading(format!("{name}: empty file"));
        report.problem("the file is empty");
    } else if bytes.starts_with(b"PK") || lower.ends_with(".zip") {
        package(&mut report, name, bytes, options);
    } else if has_image_magic || is_slot {
        image_or_slot(&mut report, name, bytes, options);
    } else if lower.ends_with(".dat") || InitPacket::decode(bytes).is_ok() {
        heading(&mut report, name, "init packet", bytes);
        init_packet(&mut report, bytes, None, options);
    } else if may_be_slot || lower.ends_with(".bin") {
        image_or_slot(&mut report, name, bytes, options);
    } else {
        heading(&mut report, name, "unknown", bytes);
        report.problem("the file is no DFU package, init packet, MCUboot image or slot");
    }
    report
}

fn heading(report: &mut Report, name: &str, what: &str, bytes: &[u8]) {
    report.heading(format!("{name}: {what}"));
    report.field("size", format!("{} bytes ({:#x})", bytes.len(), bytes.len()));
    report.field("CRC-32", format!("{:08X}", crc32(bytes)));
    report.field("SHA-256", hex(&sha256(bytes)));
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hex, cut after 32 bytes.
fn short_hex(bytes: &[u8]) -> String {
    match bytes.get(..32) {
        Some(start) if bytes.len() > 32 => format!("{}...", hex(start)),
        _ => hex(bytes),
    }
}

// ---- package

fn package(report: &mut Report, name: &str, bytes: &[u8], options: &Options) {
    heading(report, name, "DFU package", bytes);
    let parts = match read_parts(bytes) {
        Ok(parts) => parts,
        Err(error) => return report.problem(error),
    };
    for (kind, part) in &parts {
        report.field(kind.key(), format!("{}, {}", part.bin_file, part.dat_file));
    }
    if let Err(error) = Package::read_unchecked(bytes) {
        report.problem(error);
    }
    for (kind, part) in &parts {
        package_part(report, *kind, part, options);
    }
}

fn package_part(report: &mut Report, kind: PartKind, part: &Part, options: &Options) {
    heading(
        report,
        &part.dat_file,
        &format!("init packet of {}", kind.key()),
        &part.init,
    );
    init_packet(report, &part.init, Some(&part.firmware), options);
    if let Err(error) = part.check(kind) {
        report.problem(error);
    }
    if kind == PartKind::Application {
        image_or_slot(report, &part.bin_file, &part.firmware, options);
    } else {
        heading(report, &part.bin_file, "firmware", &part.firmware);
    }
    if !part.firmware.len().is_multiple_of(4) {
        report.problem("the firmware is not a multiple of 4 bytes, so Android refuses it");
    }
}

// ---- init packet

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

fn init_packet(report: &mut Report, bytes: &[u8], firmware: Option<&[u8]>, options: &Options) {
    if bytes.len() > MAX_INIT_PACKET {
        report.problem(format!(
            "the init packet has more than {MAX_INIT_PACKET} bytes, the most a target takes"
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
        None => report.problem("the init packet carries no hash"),
        Some(hash) => {
            let name = if hash.kind == HASH_SHA256 {
                "SHA-256"
            } else {
                "not SHA-256"
            };
            report.field("hash type", format!("{} ({name})", hash.kind));
            match init.firmware_sha256() {
                Some(sha256) => report.field("hash of the firmware", hex(&sha256)),
                None => {
                    report.field("hash as stored", hex(hash.bytes));
                    report.problem("the hash in the init packet is no SHA-256");
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
                _ => report.field("", "not checked: needs the firmware and --public-key"),
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
    let Some(signature) = packet.signature else {
        report.field("signature", "none: a target that wants one refuses the packet");
        if options.public_key.is_some() {
            report.problem("the init packet is not signed");
        }
        return;
    };
    let known = signature.kind == SIGNATURE_ECDSA_P256_SHA256;
    let name = if known { "ECDSA P-256, SHA-256" } else { "unknown" };
    report.field("signature type", format!("{} ({name})", signature.kind));
    report.field("signature", hex(signature.bytes));
    if !known {
        report.problem("the init packet is signed in an unknown way");
    } else if signature.bytes.len() != 64 {
        report.problem("the signature of the init packet does not have 64 bytes");
    } else if let Some(key) = options.public_key {
        if check_signature(&key, &sha256(signed), signature.bytes) {
            report.field("", "the signature is good");
        } else {
            report.problem("the signature of the init packet is wrong, or made with another key");
        }
    } else {
        report.field("", "not checked: no --public-key");
    }
}

/// Checks r‖s in the packet's form, each half reversed.
fn check_signature(key: &Key, digest: &[u8; 32], bytes: &[u8]) -> bool {
    bytes.try_into().is_ok_and(|halves| {
        SoftCrypto.verify(key, digest, &Signature::from_le_halves(halves)) == SignatureCheck::Good
    })
}

// ---- image

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

/// An image by itself, or a slot with an image and a trailer.
fn image_or_slot(report: &mut Report, name: &str, bytes: &[u8], options: &Options) {
    let Ok(len) = u32::try_from(bytes.len()) else {
        heading(report, name, "file", bytes);
        return report.problem("the file is larger than 4 GiB");
    };
    let total_at = |start| bledfu_slot::verify::image_size(&mut SliceFlash(bytes), start, len).ok();
    // Swap using offset stores updates from the second sector of the slot on.
    let sector = options.erase_size;
    let start = match (total_at(0), total_at(sector)) {
        (None, Some(_)) if len.is_multiple_of(sector) => sector,
        _ => 0,
    };
    let total = total_at(start).map(|total| start + total);
    let is_slot = match options.slot_size {
        Some(size) => size == len,
        // Behind the image of a plain file there is nothing, or padding to a multiple of 4.
        None => len.is_multiple_of(sector) && total.is_none_or(|total| len - total >= 4),
    };
    let image_bytes = bytes.get(start as usize..).unwrap_or_default();
    let parsed = ImageHeader::parse(image_bytes);
    let what = match (is_slot, &parsed) {
        (true, _) => "slot",
        (false, Err(HeaderError::BadMagic)) => "no MCUboot image",
        (false, Ok(header)) => match header.check_kind() {
            Err(HeaderError::Encrypted) => "encrypted MCUboot image",
            Err(HeaderError::Compressed) => "compressed MCUboot image",
            Err(HeaderError::NotBootable) => "MCUboot image that is not to be started",
            _ => "MCUboot image",
        },
        (false, Err(_)) => "MCUboot image",
    };
    heading(report, name, what, bytes);
    match parsed {
        Ok(header) => {
            if start != 0 {
                report.field(
                    "image at",
                    format!("{start:#x}, where swap using offset wants an update"),
                );
            }
            let (len, total) = (len - start, total.map(|total| total - start));
            image(report, image_bytes, len, &header, total, is_slot, options);
        }
        Err(HeaderError::Erased) if is_slot => report.field("image", "none: the slot starts erased"),
        Err(error) => report.problem(error),
    }
    if is_slot {
        trailer(report, bytes, len, options);
    } else if let Some(size) = options.slot_size {
        if len > size {
            report.problem(format!("the file has more bytes than a slot of {size} bytes"));
        }
    }
}

fn image(
    report: &mut Report,
    bytes: &[u8],
    len: u32,
    header: &ImageHeader,
    total: Option<u32>,
    is_slot: bool,
    options: &Options,
) {
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
    // Said by the first 32 bytes, whatever else is wrong.
    if let Err(error) = header.check_kind() {
        report.problem(error);
    }
    if let Some(table) = vector_table(bytes, header) {
        report.field("vector table", table);
    }
    if let Some(total) = total {
        report.field("image in all", format!("{total} bytes"));
    }
    let hashed = match header.hashed_size() {
        Ok(hashed) => hashed,
        Err(error) => return report.problem(error),
    };
    let Some(covered) = bytes.get(..hashed as usize) else {
        return report.problem(format!(
            "the file is cut short: its header speaks of {hashed} bytes and TLVs, the file has {len}"
        ));
    };
    let digest = sha256(covered);
    report.field(
        "SHA-256 of the image",
        format!("{} (first {hashed} bytes)", hex(&digest)),
    );
    let signatures = tlvs(report, bytes, len, header, &digest);
    if signatures == 0 {
        report.problem("the image is not signed");
    }
    if let (Some(total), false) = (total, is_slot) {
        let rest = bytes.get(total as usize..).unwrap_or_default();
        if !rest.is_empty() {
            let kind = if is_erased(rest) { "erased" } else { "other" };
            report.field("behind the image", format!("{} {kind} bytes", rest.len()));
            if !is_erased(rest) {
                report.problem("there are bytes behind the image that do not belong to it");
            }
        }
    }
    // The boot stage's own word, with the key if there is one, else as if the signature were good.
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
    report.field(
        "signature checked",
        if keys.is_empty() {
            "no: no --image-key"
        } else {
            "yes"
        },
    );
    match verify_image(&mut SliceFlash(bytes), 0, room, limit, &policy, &SoftCrypto) {
        Ok(_) => report.field("boot stage would", "accept the image"),
        Err(error) => {
            report.field("boot stage would", "refuse the image");
            report.problem(verify_sentence(error));
        }
    }
}

/// The first two words of the payload, as a Cortex-M reads them; `None` if it does not read them so.
fn vector_table(bytes: &[u8], header: &ImageHeader) -> Option<String> {
    let payload = bytes.get(usize::from(header.header_size)..)?;
    let (stack_pointer, rest) = payload.split_first_chunk()?;
    let (stack_pointer, reset_vector) = (
        u32::from_le_bytes(*stack_pointer),
        u32::from_le_bytes(*rest.first_chunk()?),
    );
    if is_encrypted(header) || header.check_kind() == Err(HeaderError::Compressed) {
        return None;
    }
    // RAM of every Cortex-M is in this part of its memory map, and an address of code has its lowest bit set.
    let is_table = (0x2000_0000..0x4000_0000).contains(&stack_pointer)
        && stack_pointer.is_multiple_of(4)
        && reset_vector % 2 == 1;
    is_table.then(|| format!("stack pointer {stack_pointer:#010x}, reset vector {reset_vector:#010x}"))
}

fn is_encrypted(header: &ImageHeader) -> bool {
    header.flags & (flags::ENCRYPTED_AES128 | flags::ENCRYPTED_AES256) != 0
}

/// Reading a file that was taken into memory only fails behind its end.
fn verify_sentence(error: VerifyError<NorFlashErrorKind>) -> String {
    match error {
        VerifyError::Flash(_) => "the image reaches behind the end of the file".to_owned(),
        VerifyError::NotSigned => "the image is not signed with the key of --image-key".to_owned(),
        other => other.to_string(),
    }
}

/// Prints the entries; the answer is how many signatures this project knows are among them.
fn tlvs(report: &mut Report, bytes: &[u8], len: u32, header: &ImageHeader, digest: &[u8; 32]) -> usize {
    let mut flash = SliceFlash(bytes);
    let sentence = |error: TlvReadError<NorFlashErrorKind>| verify_sentence(error.into());
    let mut walker = match TlvWalker::new(&mut flash, 0, header, len) {
        Ok(walker) => walker,
        Err(error) => {
            report.problem(sentence(error));
            return 1; // Not known: there may be one.
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
            report.field("", "not checked: it is that of the image before it was encrypted");
        }
        types::SHA256 if value != digest => {
            report.problem(VerifyError::<NorFlashErrorKind>::HashMismatch);
        }
        types::ECDSA if Signature::from_der(value).is_err() => {
            report.problem("the signature entry is no DER signature of P-256");
        }
        _ => {}
    }
}

// ---- trailer

fn geometry(slot_size: u32, options: &Options) -> (Geometry, u32) {
    let geometry = Geometry {
        slot_size,
        sector_size: options.erase_size,
        write_size: options.align,
    };
    let sectors = options.max_sectors.unwrap_or_else(|| geometry.sectors().max(256));
    (geometry, sectors)
}

fn layout(slot_size: u32, options: &Options) -> Result<Layout, bledfu_slot::LayoutError> {
    let (geometry, sectors) = geometry(slot_size, options);
    let spare = options.algorithm.has_spare().then_some(geometry);
    Layout::with_spare(
        options.algorithm,
        geometry,
        geometry,
        spare,
        options.max_align,
        sectors,
    )
}

fn trailer(report: &mut Report, bytes: &[u8], len: u32, options: &Options) {
    let (geometry, sectors) = geometry(len, options);
    let place = match TrailerLayout::new(
        options.algorithm,
        geometry,
        options.align,
        options.max_align,
        sectors,
    ) {
        Ok(place) => place,
        Err(error) => {
            report.heading("trailer");
            return report.problem(format!(
                "there can be no trailer (see --slot-size, --align, --erase-size, --max-align, --max-sectors): {error}"
            ));
        }
    };
    // A slice of the right length is never read beyond its end.
    let trailer = Trailer::read(&mut SliceFlash(bytes), &place).unwrap_or(Trailer::ERASED);
    let algorithm = options.algorithm.as_str();
    report.heading(format!(
        "trailer: {} bytes from {:#x} (write size {}, max align {}, {sectors} sectors, {algorithm})",
        place.trailer_size(),
        place.status_start(),
        options.align,
        options.max_align,
    ));
    match layout(len, options) {
        Ok(layout) => report.field("largest image", format!("{} bytes", layout.max_image_size())),
        Err(error) => report.problem(error),
    }
    if options.algorithm == Algorithm::Copy {
        role_record(report, bytes, &place);
    } else {
        report.field("status records", records(bytes, &place));
    }
    let size = trailer.swap_size;
    let shown = if size == u32::MAX {
        "unset".to_owned()
    } else {
        format!("{size} bytes")
    };
    report.field("swap_size", shown);
    if size != u32::MAX && (size == 0 || size > len) {
        report.problem("the swap size in the trailer is impossible");
    }
    let info = trailer.swap_info;
    report.field(
        "swap_info",
        match (info, trailer.swap_type()) {
            (0xFF, _) => "unset".to_owned(),
            (_, SwapType::None) => format!("{info:#04x} (no swap type)"),
            (_, kind) => format!("{info:#04x} ({kind}, image {})", trailer.image_number()),
        },
    );
    if info != 0xFF && trailer.swap_type() == SwapType::None && info & 0x0F != SwapType::None as u8 {
        report.problem("the swap type in the trailer is unknown");
    }
    for (name, flag) in [("copy_done", trailer.copy_done), ("image_ok", trailer.image_ok)] {
        let word = match flag {
            Flag::Set => "set",
            Flag::Unset => "unset",
            Flag::Bad => "neither set nor unset",
        };
        report.field(name, word);
        if flag == Flag::Bad {
            report.problem(format!("{name} in the trailer is neither set nor unset"));
        }
    }
    let taken_down = options.algorithm == Algorithm::Copy && bytes.ends_with(&[0; 16]);
    report.field(
        "magic",
        match trailer.magic {
            Magic::Good => "good",
            Magic::Unset => "unset",
            Magic::Bad if taken_down => "taken down: the request was carried out",
            Magic::Bad => "bad",
        },
    );
    if trailer.magic == Magic::Bad && !taken_down {
        report.problem("the magic of the trailer is bad");
    }
    report.field("in the primary slot", as_primary(&trailer));
    report.field("in the secondary slot", as_secondary(&trailer));
}

/// Copy: where the image in the primary slot came from.
fn role_record(report: &mut Report, bytes: &[u8], place: &TrailerLayout) {
    let flash = &mut SliceFlash(bytes);
    let record = match Record::read(flash, place) {
        Ok(Some(record)) => format!(
            "{} bytes from place {}, {}, SHA-256 {}",
            record.size,
            record.source.number(),
            record.swap_type,
            short_hex(&record.digest)
        ),
        _ => "none".to_owned(),
    };
    report.field("role record", record);
    if copy_roles::is_reverted(flash, place) == Ok(true) {
        report.field("mark", "written: the image before is back");
    }
}

/// Only whether the first byte of a record is written counts, as for the boot stage.
fn records(bytes: &[u8], place: &TrailerLayout) -> String {
    let start = place.status_start() as usize;
    let end = start + (place.record_count() * place.status_unit()) as usize;
    let written: Vec<bool> = bytes
        .get(start..end)
        .unwrap_or_default()
        .chunks(place.status_unit() as usize)
        .map(|record| record.first() != Some(&0xFF))
        .collect();
    let count = written.iter().filter(|written| **written).count();
    let sectors = place.max_sectors() as usize;
    match written.iter().rposition(|written| *written) {
        None => format!("none of {} written", written.len()),
        Some(last) if last < sectors => format!("{count} written; moving, {} sectors moved", last + 1),
        Some(last) => format!(
            "{count} written; swapping, {} sectors swapped",
            (last - sectors).div_ceil(2)
        ),
    }
}

fn as_primary(trailer: &Trailer) -> &'static str {
    match (trailer.magic, trailer.copy_done, trailer.image_ok) {
        (_, _, Flag::Set) => "the image is confirmed",
        (Magic::Unset, ..) => "the image was never swapped in: it counts as confirmed",
        (Magic::Good, Flag::Set, Flag::Unset) => "the image is on test: the next boot takes it back",
        (Magic::Good, Flag::Unset, _) => "a swap was begun and not finished",
        _ => "damaged: nothing is done",
    }
}

fn as_secondary(trailer: &Trailer) -> &'static str {
    match (trailer.magic, trailer.image_ok) {
        (Magic::Good, Flag::Unset) => "the next boot installs the image on test",
        (Magic::Good, Flag::Set) => "the next boot installs the image for good",
        (Magic::Unset, _) => "nothing is asked for",
        _ => "damaged: nothing is done until it is erased",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bledfu_sim::keys::SigningKey;
    use bledfu_sim::make::{demo_payload, Damage, ImageSpec};
    use bledfu_sim::nor::Chip;
    use bledfu_sim::parts::MX25R6435F;
    use bledfu_sim::power::Power;
    use bledfu_slot::{request_test, Slot, Version};
    use std::path::Path;

    const SLOT: u32 = 0x1_0000;

    fn vectors() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors")
    }

    fn key() -> SigningKey {
        SigningKey::from_scalar(&[3; 32]).unwrap()
    }

    fn spec() -> ImageSpec {
        let version = Version {
            major: 1,
            minor: 2,
            revision: 3,
            build: 4,
        };
        ImageSpec::new(version, demo_payload(version, 5000, 0), &key())
    }

    fn with_image_key() -> Options {
        Options {
            image_key: Some(key().public()),
            ..Options::default()
        }
    }

    /// The value printed behind a name.
    fn value<'r>(report: &'r Report, name: &str) -> &'r str {
        let line = report
            .text
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        line.map_or("", |line| line.trim_start()[name.len()..].trim_start())
    }

    #[test]
    fn explains_the_init_packet_of_the_case() {
        let packet = std::fs::read(vectors().join("case/init-210.dat")).unwrap();
        let mut xy = [0; 64];
        let hex_key = "6978f9c45649dddfdb9f6db57e2b0d8e96c997b6318301e604528eec68f46452\
                       28db6404bc87df52f371555450dfb1e9ca3589bacaedfdb895e75300f123c9f3";
        for (i, byte) in xy.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex_key[2 * i..2 * i + 2], 16).unwrap();
        }
        let options = Options {
            public_key: Some(Key::new(xy)),
            ..Options::default()
        };
        let report = inspect("bank1.dat", &packet, &options);
        assert_eq!(report.problems, Vec::<String>::new(), "{}", report.text);
        for (name, expected) in [
            ("size", "210 bytes (0xd2)"),
            ("CRC-32", "B473C829"),
            ("op_code", "1 (INIT)"),
            ("fw_version", "8714 (0x220a)"),
            ("hw_version", "52 (0x34)"),
            ("sd_req", "0x0100 (S140 7.2.0), 0x0123 (S140 7.3.0)"),
            ("type", "0 (application)"),
            ("sd_size", "0 (0x0)"),
            ("bl_size", "0 (0x0)"),
            ("app_size", "475384 (0x740f8)"),
            ("objects", "117 of up to 4096 bytes"),
            (
                "hash of the firmware",
                "2da0cf74e1d4bb77c4aa67d427888f121f3adce63fb37aa52264bf5ffb6a7308",
            ),
            ("is_debug", "false"),
            ("signed bytes", "131 from byte 11"),
            (
                "SHA-256 of these",
                "0a06122f53fde8ed94641403d7363298d3f1820661d940e2eb107d6745897092",
            ),
            ("signature type", "0 (ECDSA P-256, SHA-256)"),
        ] {
            assert_eq!(value(&report, name), expected, "{name}");
        }
        assert!(value(&report, "boot_validation 0").starts_with("3 (VALIDATE_ECDSA_P256_SHA256), 7e0e2c0d"));
        assert!(report.text.contains("the signature is good"));
        assert_eq!(report.verdict(), "nothing wrong found");
    }

    #[test]
    fn finds_what_is_wrong_with_an_init_packet() {
        let mut packet = std::fs::read(vectors().join("case/init-210.dat")).unwrap();
        let options = Options {
            public_key: Some(key().public()),
            ..Options::default()
        };
        let report = inspect("a.dat", &packet, &options);
        assert_eq!(
            report.verdict(),
            "wrong: the signature of the init packet is wrong, or made with another key"
        );
        packet.truncate(100);
        let report = inspect("a.dat", &packet, &options);
        assert_eq!(report.verdict(), "wrong: the init packet is not valid protobuf");
        let empty = bledfu_sim::init_packet::InitFields::default().unsigned();
        let report = inspect("a", &empty, &options);
        assert_eq!(report.problems.len(), 5, "{:?}", report.problems);
    }

    #[test]
    fn a_good_image_has_nothing_wrong_with_and_without_key() {
        for options in [Options::default(), with_image_key()] {
            let report = inspect("app.bin", &spec().with_security_counter(7).build(), &options);
            assert_eq!(report.problems, Vec::<String>::new(), "{}", report.text);
            assert_eq!(value(&report, "version"), "1.2.3+4");
            assert_eq!(value(&report, "boot stage would"), "accept the image");
            assert!(value(&report, "TLV 0x50 SEC_CNT").ends_with("protected: 7"));
        }
    }

    #[test]
    fn finds_every_damage_of_an_image() {
        for damage in Damage::ALL {
            let report = inspect("app.bin", &spec().damaged(*damage), &with_image_key());
            assert!(!report.problems.is_empty(), "{damage:?}\n{}", report.text);
            assert!(report.verdict().starts_with("wrong: "));
        }
    }

    #[test]
    fn an_image_of_another_kind_is_named_by_its_first_32_bytes() {
        let kinds = [
            (
                flags::ENCRYPTED_AES128,
                "encrypted MCUboot image",
                "encrypted images are not supported",
            ),
            (
                flags::ENCRYPTED_AES256,
                "encrypted MCUboot image",
                "encrypted images are not supported",
            ),
            (
                flags::COMPRESSED_LZMA2 | flags::COMPRESSED_ARM_THUMB,
                "compressed MCUboot image",
                "compressed images are not supported",
            ),
            (
                flags::NON_BOOTABLE,
                "MCUboot image that is not to be started",
                "the image is marked as not bootable",
            ),
        ];
        for (bits, name, problem) in kinds {
            let mut image = spec();
            image.flags = bits;
            let mut image = image.build();
            let report = inspect("app.bin", &image, &with_image_key());
            assert!(
                report.text.starts_with(&format!("app.bin: {name}\n")),
                "{}",
                report.text
            );
            assert_eq!(report.verdict(), format!("wrong: {problem}"));
            // The digest of an encrypted image is that of what was encrypted.
            if bits & (flags::ENCRYPTED_AES128 | flags::ENCRYPTED_AES256) != 0 {
                image[0x300] ^= 1;
                let report = inspect("app.bin", &image, &with_image_key());
                assert_eq!(report.verdict(), format!("wrong: {problem}"));
            }
            // Nothing behind the header is needed.
            let report = inspect("app.bin", &image[..32], &with_image_key());
            assert_eq!(
                report.problems.first().map(String::as_str),
                Some(problem),
                "{}",
                report.text
            );
        }
    }

    #[test]
    fn an_image_for_another_slot_or_processor_is_named_when_the_address_of_the_slot_is_given() {
        let report = |name: &str, slot_address, slot_size| {
            let file = vectors().join(format!("vectored/{name}-2.0.0.signed.bin"));
            let options = Options {
                slot_address,
                slot_size,
                ..Options::default()
            };
            inspect("app.bin", &std::fs::read(file).unwrap(), &options)
        };
        let outside =
            "wrong: the image is linked for another slot: its reset vector 0x01008a01 lies outside 0x0000c000-0x000f4000";
        let elsewhere =
            "wrong: the image is linked for the slot at 0x000f4000, not for the one at 0x0000c000";
        let good = "nothing wrong found";
        for (name, verdict) in [
            ("application", good),
            ("last-word", good),
            ("rom-fixed", good),
            ("network-core", outside),
            ("rom-fixed-elsewhere", elsewhere),
            (
                "ram-load",
                "wrong: images that are loaded into RAM are not supported",
            ),
        ] {
            assert_eq!(report(name, None, None).verdict(), good, "{name}");
            let report = report(name, Some(0xC000), Some(0xE8000));
            assert_eq!(report.verdict(), verdict, "{name}");
            let word = if verdict == good { "accept" } else { "refuse" };
            assert_eq!(
                value(&report, "boot stage would"),
                format!("{word} the image"),
                "{name}"
            );
        }
        // Without the size of the slot, the image itself is where its reset vector must be.
        assert_eq!(report("application", Some(0xC000), None).verdict(), good);
        let network_core = report("network-core", None, None);
        assert_eq!(
            value(&network_core, "vector table"),
            "stack pointer 0x20040000, reset vector 0x01008a01"
        );
        // Text, and what is encrypted, is no vector table.
        for text in [
            report("encrypted-128", None, None).text,
            inspect("app.bin", &spec().build(), &with_image_key()).text,
        ] {
            assert!(!text.contains("vector table"), "{text}");
        }
    }

    #[test]
    fn names_what_is_wrong_with_an_image() {
        let problem = |damage| inspect("app.bin", &spec().damaged(damage), &with_image_key()).verdict();
        assert_eq!(
            problem(Damage::PayloadBit),
            "wrong: the SHA-256 does not match the image"
        );
        assert_eq!(
            problem(Damage::ImageSizeOverflow),
            "wrong: the sizes in the header overflow"
        );
        assert_eq!(problem(Damage::SignatureBit), "wrong: the signature is wrong");
        assert!(problem(Damage::Truncated).starts_with("wrong: the file is cut short"));
        let mut flagged = spec();
        flagged.flags = 0x8000_0001;
        let report = inspect("app.bin", &flagged.build(), &with_image_key());
        assert_eq!(report.verdict(), "wrong: the header has unknown flags 0x80000000");
        assert_eq!(value(&report, "flags"), "0x80000001 (PIC, unknown 0x80000000)");
    }

    #[test]
    fn padding_behind_an_image_is_fine_and_other_bytes_are_not() {
        let mut image = spec().build();
        image.resize(image.len() + 3, 0xFF);
        assert!(inspect("app.bin", &image, &with_image_key()).problems.is_empty());
        image.extend_from_slice(b"more");
        assert_eq!(
            inspect("app.bin", &image, &with_image_key()).verdict(),
            "wrong: there are bytes behind the image that do not belong to it"
        );
    }

    #[test]
    fn a_slot_of_another_processor_is_read_with_its_units() {
        let mut slot = vec![0xFF; SLOT as usize];
        // Swap using offset: behind the first sector, which has 8 KiB.
        let image = spec().build();
        slot[8192..8192 + image.len()].copy_from_slice(&image);
        let options = Options {
            slot_size: Some(SLOT),
            align: 16,
            erase_size: 8192,
            max_align: 16,
            ..with_image_key()
        };
        let report = inspect("slot1.bin", &slot, &options);
        assert_eq!(report.problems, Vec::<String>::new());
        assert!(
            report.text.contains("write size 16, max align 16"),
            "{}",
            report.text
        );
        let words = Options {
            slot_size: Some(SLOT),
            ..with_image_key()
        };
        let unfound = inspect("slot1.bin", &slot, &words);
        let shows_image = |report: &Report| report.text.contains("TLV 0x10 SHA256");
        assert!(shows_image(&report) && !shows_image(&unfound));
    }

    #[test]
    fn explains_the_slot_an_update_was_requested_in() {
        let geometry = Geometry {
            slot_size: SLOT,
            sector_size: SECTOR,
            write_size: 4,
        };
        let layout = Layout::new(Algorithm::SwapOffset, geometry, geometry, 8, 256).unwrap();
        let power = Power::new();
        let chip = Chip::with_size("external", &MX25R6435F, SLOT, &power);
        let mut area = chip.area(0, SLOT).unwrap();
        area.set_contents(layout.upload_offset(), &spec().build())
            .unwrap();
        let keys = [key().public()];
        let policy = ImagePolicy {
            keys: &keys,
            trusted_digests: &[],
            unsigned: false,
            address: None,
        };
        let slot = Slot::new(&layout)
            .verify(&mut area, &policy, &SoftCrypto)
            .unwrap();
        request_test(&mut area, &slot).unwrap();
        let report = inspect("slot1.bin", &area.contents(), &with_image_key());
        assert_eq!(report.problems, Vec::<String>::new(), "{}", report.text);
        assert!(report.text.starts_with("slot1.bin: slot\n"));
        assert_eq!(value(&report, "swap_info"), "0x02 (test, image 0)");
        assert_eq!(value(&report, "magic"), "good");
        assert_eq!(value(&report, "image_ok"), "unset");
        assert_eq!(value(&report, "status records"), "none of 512 written");
        assert_eq!(
            value(&report, "in the secondary slot"),
            "the next boot installs the image on test"
        );
        let mut damaged = area.contents();
        let magic = damaged.len() - 1;
        damaged[magic] ^= 1;
        damaged[magic - 23] = 0x02;
        let report = inspect("slot1.bin", &damaged, &with_image_key());
        assert_eq!(
            report.verdict(),
            "wrong: image_ok in the trailer is neither set nor unset; the magic of the trailer is bad"
        );
    }

    #[test]
    fn explains_an_erased_slot_and_a_slot_of_imgtool() {
        let report = inspect("dump", &vec![0xFF; SLOT as usize], &Options::default());
        assert!(report.problems.is_empty(), "{}", report.text);
        assert_eq!(value(&report, "image"), "none: the slot starts erased");
        let padded = std::fs::read(vectors().join("images/padded-confirmed-1.2.3.bin")).unwrap();
        let report = inspect("padded.bin", &padded, &Options::default());
        assert!(report.problems.is_empty(), "{}", report.text);
        assert_eq!(value(&report, "in the primary slot"), "the image is confirmed");
    }

    #[test]
    fn an_image_too_large_for_the_slot_is_named() {
        let image = spec().build();
        let options = Options {
            slot_size: Some(12 * 1024),
            ..with_image_key()
        };
        assert_eq!(
            inspect("app.bin", &image, &options).verdict(),
            "wrong: the image is larger than can be installed"
        );
    }

    #[test]
    fn explains_packages_and_finds_what_is_wrong() {
        let options = Options {
            public_key: Some(open_public_key(&vectors().join("keys/package.pem")).unwrap()),
            image_key: Some(open_public_key(&vectors().join("keys/image.pub.pem")).unwrap()),
            slot_size: Some(0xE_8000),
            ..Options::default()
        };
        let verdict = |name: &str| {
            let bytes = std::fs::read(vectors().join("packages").join(name)).unwrap();
            inspect(name, &bytes, &options).verdict()
        };
        for good in [
            "demo-1.0.0.zip",
            "odd-2.0.0.zip",
            "limit.zip",
            "boot-validation-ecdsa.zip",
        ] {
            assert_eq!(verdict(good), "nothing wrong found", "{good}");
        }
        for (bad, expected) in [
            ("over-limit.zip", "the image is larger than can be installed"),
            ("no-image.zip", "the first word is not the image magic"),
            ("unsigned.zip", "the init packet is not signed"),
            (
                "wrong-image-key.zip",
                "the image is not signed with the key of --image-key",
            ),
            (
                "wrong-signature.zip",
                "the signature of the init packet is wrong, or made with another key",
            ),
            (
                "bootloader.zip",
                "the package has no application, only bootloader: this device takes applications",
            ),
            ("broken-empty.zip", "the file is empty"),
        ] {
            assert_eq!(verdict(bad), format!("wrong: {expected}"), "{bad}");
        }
    }

    #[test]
    fn an_unknown_file_is_called_so() {
        let report = inspect("notes.txt", b"hello", &Options::default());
        assert_eq!(
            report.verdict(),
            "wrong: the file is no DFU package, init packet, MCUboot image or slot"
        );
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let image = spec().build();
        let packet = std::fs::read(vectors().join("case/init-210.dat")).unwrap();
        let mut random = bledfu_sim::power::Random::new(42);
        for source in [image, packet] {
            for _ in 0..300 {
                let mut bytes = source.clone();
                for _ in 0..4 {
                    let at = random.bits() as usize % bytes.len().min(600);
                    bytes[at] = random.byte();
                }
                bytes.truncate(random.bits() as usize % bytes.len() + 1);
                for name in ["x.bin", "x.dat", "x.zip", "x"] {
                    inspect(name, &bytes, &with_image_key());
                }
            }
        }
    }
}
