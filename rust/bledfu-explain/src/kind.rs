// SPDX-License-Identifier: Apache-2.0
//! What a file is, and the image in it: one classification for all commands that take files, so that each names or
//! refuses a file in the same words.

use std::fmt;

use anyhow::{bail, Context, Result};
use bledfu_patch::record::PACK;
use bledfu_sim::package::{Package, PackageError};
use bledfu_sim::sdk_package::{is_sdk_package, SdkPackage};
use bledfu_slot::header::flags;
use bledfu_slot::tlv::{SliceFlash, TlvWalker};
use bledfu_slot::trailer::magic_bytes;
use bledfu_slot::{is_erased, HeaderError, ImageHeader};
use bledfu_wire::init_packet::InitPacket;
use object::{Architecture, Object};

use crate::packed;

/// Largest gap between two parts of a hex file that still belong to one image: tools leave out erased flash.
const LARGEST_GAP: u32 = 1024 * 1024;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No bytes.
    Empty,
    /// A zip file with init packets, for Secure DFU.
    DfuPackage,
    /// A zip file of the nRF Connect SDK, for SMP.
    SdkPackage,
    /// What a signed package says about its firmware.
    InitPacket,
    /// Bytes with addresses, as text.
    IntelHex,
    /// The output of a linker.
    Elf,
    /// A program without an image header.
    Program,
    /// An MCUboot image.
    Image(ImageKind),
    /// Something else.
    Unknown,
}

/// The payload of an MCUboot image, according to its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// A program to be started in place.
    Plain,
    /// Encrypted, to be decrypted by the boot stage.
    Encrypted,
    /// Compressed, to be expanded by the boot stage.
    Compressed,
    /// A difference from the running image.
    Delta,
    /// A packed image that needs no other one.
    PackedFull,
    /// Marked as not bootable for another reason.
    NotBootable,
    /// To be copied into RAM.
    RamLoad,
}

impl ImageKind {
    /// The payload of the image at the start of `bytes`.
    pub fn of(header: &ImageHeader, bytes: &[u8]) -> Self {
        match header.check_kind() {
            Err(HeaderError::NotBootable) => match packed_method(header, bytes) {
                Some(1) => Self::Delta,
                Some(_) => Self::PackedFull,
                None => Self::NotBootable,
            },
            Err(HeaderError::Encrypted) => Self::Encrypted,
            Err(HeaderError::Compressed) => Self::Compressed,
            _ if header.flags & flags::RAM_LOAD != 0 => Self::RamLoad,
            _ => Self::Plain,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "MCUboot image",
            Self::Encrypted => "encrypted MCUboot image",
            Self::Compressed => "compressed MCUboot image",
            Self::Delta => "packed update (delta)",
            Self::PackedFull => "packed update (compressed)",
            Self::NotBootable => "MCUboot image that is not to be started",
            Self::RamLoad => "MCUboot image to be loaded into RAM",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty file",
            Self::DfuPackage => "DFU package",
            Self::SdkPackage => "nRF Connect SDK package",
            Self::InitPacket => "init packet",
            Self::IntelHex => "Intel hex file",
            Self::Elf => "ELF program",
            Self::Program => "program without image header",
            Self::Image(kind) => kind.name(),
            Self::Unknown => "unknown",
        })
    }
}

impl Kind {
    /// The kind of a file with this name, which decides in doubtful cases.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        let lower = name.to_ascii_lowercase();
        if bytes.is_empty() {
            return Self::Empty;
        }
        if bytes.starts_with(b"PK") || lower.ends_with(".zip") {
            return match is_sdk_package(bytes) {
                true => Self::SdkPackage,
                false => Self::DfuPackage,
            };
        }
        if bytes.starts_with(b"\x7FELF") {
            return Self::Elf;
        }
        if is_hex(bytes) || lower.ends_with(".hex") {
            return Self::IntelHex;
        }
        if let Ok(header) = ImageHeader::parse(bytes) {
            return Self::Image(ImageKind::of(&header, bytes));
        }
        if lower.ends_with(".dat") || InitPacket::decode(bytes).is_ok() {
            return Self::InitPacket;
        }
        match vector_table(bytes) {
            Some(_) => Self::Program,
            None => Self::Unknown,
        }
    }

    /// Why files of this kind contain no signed image, and what to do; `None` where there may be one.
    pub const fn refusal(self) -> Option<&'static str> {
        Some(match self {
            Self::Empty => "the file is empty",
            Self::InitPacket => "the file is an init packet, without its firmware: take the whole package",
            Self::Elf => "the file is an ELF program, not a signed image: sign the .bin or .hex of the same build with imgtool",
            Self::Program => "the file is a program without an image header: sign it with imgtool",
            Self::Unknown => "the file is not a DFU package, init packet, MCUboot image or slot",
            Self::DfuPackage | Self::SdkPackage | Self::IntelHex | Self::Image(_) => return None,
        })
    }
}

/// Stack pointer and reset vector, if `bytes` begin like the vector table of a Cortex-M.
pub fn vector_table(bytes: &[u8]) -> Option<(u32, u32)> {
    let (stack_pointer, rest) = bytes.split_first_chunk()?;
    let stack_pointer = u32::from_le_bytes(*stack_pointer);
    let reset_vector = u32::from_le_bytes(*rest.first_chunk()?);
    // The RAM of every Cortex-M is in this part of its memory map, and a code address has its lowest bit set.
    let is_table = (0x2000_0000..0x4000_0000).contains(&stack_pointer)
        && stack_pointer.is_multiple_of(4)
        && reset_vector % 2 == 1;
    is_table.then_some((stack_pointer, reset_vector))
}

/// What an ELF file says about itself.
pub fn describe_elf(bytes: &[u8]) -> String {
    match object::File::parse(bytes) {
        Ok(file) => {
            let processor = match file.architecture() {
                Architecture::Arm => "ARM".to_owned(),
                Architecture::Riscv32 => "RISC-V".to_owned(),
                other => format!("{other:?}"),
            };
            format!("for {processor}, entry at {:#010x}", file.entry())
        }
        Err(error) => format!("damaged: {error}"),
    }
}

// ---- details of an image beyond its header

/// The method of a packed update, whether the rest of it is right or not: the second byte of its entry.
fn packed_method(header: &ImageHeader, bytes: &[u8]) -> Option<u8> {
    let mut flash = SliceFlash(bytes);
    let len = u32::try_from(bytes.len()).ok()?;
    let mut tlvs = TlvWalker::new(&mut flash, 0, header, len).ok()?;
    while let Ok(Some(tlv)) = tlvs.next(&mut flash) {
        if tlv.kind == PACK && tlv.protected {
            return bytes.get(tlv.offset as usize + 1).copied();
        }
    }
    None
}

/// Why no device installs this image, whatever it runs, as far as header and padding show. `None` if there is no such
/// reason; what depends on a key or a device is not checked.
pub fn image_problem(image: &[u8]) -> Option<String> {
    let header = ImageHeader::parse(image).ok()?;
    kind_problem(&header, image).or_else(|| padding_problem(image))
}

/// The part of [`image_problem`] that depends on the header.
pub fn kind_problem(header: &ImageHeader, image: &[u8]) -> Option<String> {
    match ImageKind::of(header, image) {
        ImageKind::Delta | ImageKind::PackedFull => packed::read(image).err(),
        ImageKind::RamLoad => Some(HeaderError::RamLoad.to_string()),
        _ => header.check_kind().err().map(|error| error.to_string()),
    }
}

/// The part of [`image_problem`] that depends on the end of the file.
pub fn padding_problem(image: &[u8]) -> Option<String> {
    let len = u32::try_from(image.len()).ok()?;
    let total = bledfu_slot::verify::image_size(&mut SliceFlash(image), 0, len).ok()?;
    match Behind::of(image.get(total as usize..)?) {
        Behind::Nothing => None,
        Behind::Padding => Some(padded(total, len)),
        Behind::Other => Some(FOREIGN_BYTES.to_owned()),
    }
}

/// The message for [`Behind::Other`].
pub const FOREIGN_BYTES: &str = "there are bytes after the image that do not belong to it";

/// The message for [`Behind::Padding`] of an image that is to be sent.
pub fn padded(total: u32, len: u32) -> String {
    format!("the image of {total} bytes is padded to {len}: sign it without --pad and --confirm")
}

/// What follows the image in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Nothing, or padding to a multiple of 4, as in packages.
    Nothing,
    /// What `imgtool --pad` appends: erased flash, with or without a trailer at the end.
    Padding,
    /// Something else.
    Other,
}

impl Behind {
    /// Classifies the bytes after the image.
    pub fn of(rest: &[u8]) -> Self {
        // The longest trailer fields that a tool writes: magic, image_ok and swap_info, 32 bytes each.
        const FIELDS: usize = 128;
        if is_erased(rest) {
            return match rest.len() {
                0..4 => Self::Nothing,
                _ => Self::Padding,
            };
        }
        let has_magic = [8, 16, 32]
            .iter()
            .any(|align| rest.ends_with(&magic_bytes(*align)));
        let before_trailer = &rest[..rest.len().saturating_sub(FIELDS)];
        match has_magic && is_erased(before_trailer) {
            true => Self::Padding,
            false => Self::Other,
        }
    }
}

// ---- Intel hex

/// A run of contiguous bytes in a hex file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Address of the first byte.
    pub address: u32,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Run {
    fn end(&self) -> u64 {
        u64::from(self.address) + self.bytes.len() as u64
    }

    /// Whether an MCUboot image begins here.
    pub fn is_image(&self) -> bool {
        ImageHeader::parse(&self.bytes).is_ok()
    }
}

fn is_hex(bytes: &[u8]) -> bool {
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    first.len() >= 11
        && first[0] == b':'
        && first[1..]
            .iter()
            .all(|byte| byte.is_ascii_hexdigit() || *byte == b'\r')
}

/// Reads a hex file: its runs of bytes by address. From the start of an image, gaps are filled with FF, as they are in
/// flash.
///
/// # Errors
/// A sentence about the line that is damaged, missing or covered twice.
pub fn read_hex(bytes: &[u8]) -> Result<Vec<Run>> {
    let text = std::str::from_utf8(bytes).context("the hex file is not text")?;
    let (mut base, mut ended) = (0_u32, false);
    let mut runs: Vec<Run> = Vec::new();
    for (number, record) in ihex::Reader::new(text).enumerate() {
        let record = record
            .map_err(|error| anyhow::anyhow!("line {} of the hex file is damaged: {error}", number + 1))?;
        match record {
            ihex::Record::ExtendedLinearAddress(high) => base = u32::from(high) << 16,
            ihex::Record::ExtendedSegmentAddress(high) => base = u32::from(high) << 4,
            ihex::Record::Data { offset, value } => {
                let address = base.wrapping_add(u32::from(offset));
                match runs.last_mut() {
                    Some(last) if last.end() == u64::from(address) => last.bytes.extend(value),
                    _ => runs.push(Run {
                        address,
                        bytes: value,
                    }),
                }
            }
            ihex::Record::EndOfFile => ended = true,
            ihex::Record::StartLinearAddress(_) | ihex::Record::StartSegmentAddress { .. } => {}
        }
    }
    if !ended {
        bail!("the hex file is cut short: its last line is missing");
    }
    runs.sort_by_key(|run| run.address);
    let mut joined: Vec<Run> = Vec::new();
    for run in runs {
        if let Some(last) = joined.last_mut() {
            let gap = i64::from(run.address) - last.end() as i64;
            if gap < 0 {
                bail!("the hex file has two values for address {:#x}", run.address);
            }
            let is_of_image = last.is_image() && !run.is_image() && gap <= i64::from(LARGEST_GAP);
            if gap == 0 || is_of_image {
                last.bytes.resize(last.bytes.len() + gap as usize, 0xFF);
                last.bytes.extend(run.bytes);
                continue;
            }
        }
        joined.push(run);
    }
    Ok(joined)
}

/// The one image in a hex file.
///
/// # Errors
/// Those of [`read_hex`]; also if there is none, or more than one.
fn image_in_hex(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut images = read_hex(bytes)?.into_iter().filter(Run::is_image);
    match (images.next(), images.next()) {
        (Some(image), None) => Ok(image.bytes),
        (None, _) => bail!("the hex file has no MCUboot image: sign it with imgtool"),
        (Some(_), Some(_)) => {
            bail!("the hex file has more than one MCUboot image: take the one to be sent alone")
        }
    }
}

// ---- the image in a file

/// The image in a file of any kind: the file itself, or from a package or a hex file. It is not checked.
///
/// # Errors
/// A sentence: what the file is, and what to do.
pub fn image_in(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let kind = Kind::of(name, &bytes);
    match kind.refusal() {
        Some(refusal) if kind == Kind::Unknown => bail!("{refusal}: sign the program with imgtool first"),
        Some(refusal) => bail!("{refusal}"),
        None => {}
    }
    Ok(match kind {
        Kind::DfuPackage => Package::read_unchecked(&bytes)?.application.firmware,
        Kind::SdkPackage => {
            let package = SdkPackage::read(&bytes)?.ok_or(PackageError::NoManifest)?;
            package.application()?.bytes.clone()
        }
        Kind::IntelHex => image_in_hex(&bytes)?,
        _ => bytes,
    })
}

/// The package in a file, for Secure DFU.
///
/// # Errors
/// A sentence: what the file is instead, and what to do.
pub fn package_in(name: &str, bytes: &[u8]) -> Result<Package> {
    let kind = Kind::of(name, bytes);
    match kind {
        Kind::DfuPackage => Ok(Package::read_unchecked(bytes)?),
        Kind::SdkPackage | Kind::IntelHex | Kind::Image(_) => bail!(
            "the file is an {kind} without an init packet, which Secure DFU needs: make a package of it with \
             `bledfu package`, or send it with --protocol smp"
        ),
        // A file that cannot be opened as zip is reported as not being one.
        Kind::Empty | Kind::Unknown => Ok(Package::read_unchecked(bytes)?),
        _ => bail!("{}", kind.refusal().unwrap_or("the file is not a DFU package")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hex file with these runs.
    fn hex(runs: &[(u32, &[u8])]) -> Vec<u8> {
        let mut records = Vec::new();
        for (address, bytes) in runs {
            for (line, value) in bytes.chunks(16).enumerate() {
                let at = address + 16 * line as u32;
                records.push(ihex::Record::ExtendedLinearAddress((at >> 16) as u16));
                records.push(ihex::Record::Data {
                    offset: at as u16,
                    value: value.to_vec(),
                });
            }
        }
        records.push(ihex::Record::EndOfFile);
        ihex::create_object_file_representation(&records)
            .unwrap()
            .into_bytes()
    }

    fn image() -> Vec<u8> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/vectors/images/odd-2.0.0.signed.bin"
        );
        std::fs::read(path).unwrap()
    }

    #[test]
    fn the_image_of_a_hex_file_equals_the_bin_file_without_the_boot_stage_before_it() {
        let image = image();
        let file = hex(&[(0xC000, &image)]);
        assert_eq!(Kind::of("app.hex", &file), Kind::IntelHex);
        assert_eq!(image_in("app.hex", file).unwrap(), image);
        let merged = hex(&[
            (0, &[1; 600]),
            (0xC000, &image),
            (0x1000_1208, &[0xFE, 0xFF, 0xFF, 0xFF]),
        ]);
        assert_eq!(image_in("merged.hex", merged).unwrap(), image);
    }

    #[test]
    fn a_gap_in_an_image_is_erased_flash() {
        // imgtool leaves out nothing, other tools what is FF.
        let mut erased = image();
        erased[32..512].fill(0xFF);
        let file = hex(&[(0xC000, &erased[..32]), (0xC200, &erased[512..])]);
        assert_eq!(image_in("app.hex", file).unwrap(), erased);
    }

    #[test]
    fn a_damaged_hex_file_is_named_by_its_line() {
        let file = hex(&[(0xC000, &image())]);
        let text = String::from_utf8(file.clone()).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.pop();
        let cut = lines.join("\n").into_bytes();
        let sentence = |bytes| image_in("app.hex", bytes).unwrap_err().to_string();
        assert_eq!(
            sentence(cut),
            "the hex file is cut short: its last line is missing"
        );
        let mut damaged = file;
        damaged[20] = if damaged[20] == b'0' { b'1' } else { b'0' };
        assert!(sentence(damaged).starts_with("line 2 of the hex file is damaged: "),);
        let twice = hex(&[(0xC000, &[1; 32]), (0xC010, &[2; 4])]);
        assert_eq!(sentence(twice), "the hex file has two values for address 0xc010");
        assert_eq!(
            sentence(hex(&[(0xC000, &[1; 32])])),
            "the hex file has no MCUboot image: sign it with imgtool"
        );
    }

    #[test]
    fn files_without_a_signed_image_are_refused_with_what_to_do() {
        let sentence = |name: &str, bytes: &[u8]| image_in(name, bytes.to_vec()).unwrap_err().to_string();
        assert!(sentence("zephyr.elf", b"\x7FELF\x01\x01\x01").contains("sign the .bin or .hex"));
        let mut program = vec![0; 64];
        program[..8].copy_from_slice(&[0, 0, 1, 0x20, 0x41, 0xC2, 0, 0]);
        assert!(sentence("zephyr.bin", &program).contains("without an image header"));
        assert_eq!(sentence("a.bin", b""), "the file is empty");
    }
}
