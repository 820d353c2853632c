// SPDX-License-Identifier: Apache-2.0
//! Explains a package, an init packet, an image, a slot or a whole device, field by field. It reports
//! what is wrong and what could not be checked.
//!
//! | Module | What |
//! |---|---|
//! | [`report`] | what was found, as text and as JSON |
//! | `package`, `init_packet`, `image`, `trailer` | one kind of file each |
//! | [`device`], `map` | a whole device: slots, journal, what the next boot will do, and a drawing |
//! | [`folder`] | the files of a device of `bledfu serve` |
//!
//! The crates that own the formats decode the bytes; these modules only name the fields. [`kind`](crate::kind) decides
//! what a file is.

use std::fmt::Write as _;

use anyhow::bail;
use bledfu_sim::device::PRIMARY_START;
use bledfu_sim::parts;
use bledfu_sim::phone::secure_dfu::crc32;
use bledfu_slot::{Algorithm, HeaderError, ImageHeader, Key};
use bledfu_transfer::init_check::SoftDevicePolicy;
use bledfu_transfer::payload::packed::Running;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::kind::{describe_elf, image_in, Kind};
use crate::packed::Release;
use crate::values::{find_algorithm, find_part, parse_sd_policy};

pub mod device;
pub mod folder;
mod image;
mod init_packet;
mod map;
mod package;
pub mod report;
#[cfg(test)]
mod tests;
mod trailer;

pub use report::{Report, Verdict};

/// Default sector size of a slot.
const SECTOR: u32 = 4096;

/// The values that a user gives in words; everything may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Values {
    /// Hardware version of the device.
    pub hw_version: Option<u32>,
    /// Running firmware version.
    pub fw_version: Option<u32>,
    /// The device's SoftDevice policy, as in [`parse_sd_policy`].
    pub sd_policy: Option<String>,
    /// Size of the slot.
    pub slot_size: Option<u32>,
    /// Address of the image's slot.
    pub slot_address: Option<u32>,
    /// Flash of the processor, for its units.
    pub internal: Option<String>,
    /// Write unit of the flash that holds the swap records.
    pub align: Option<u32>,
    /// Erase unit of the slot.
    pub erase_size: Option<u32>,
    /// Spacing of the trailer's fields.
    pub max_align: Option<u32>,
    /// Sectors for which the boot stage is built.
    pub max_sectors: Option<u32>,
    /// Name of the install algorithm.
    pub algorithm: Option<String>,
}

/// What an inspection needs to know in addition to the bytes.
#[derive(Clone)]
pub struct Options {
    /// Key of the package.
    pub public_key: Option<Key>,
    /// Key of the image.
    pub image_key: Option<Key>,
    /// The image that the device runs, if known.
    pub running: Option<Running>,
    /// Hardware version of the device, if known.
    pub hw_version: Option<u32>,
    /// Running firmware version, if known.
    pub fw_version: Option<u32>,
    /// The device's SoftDevice policy, if known.
    pub soft_device: Option<SoftDevicePolicy<'static>>,
    /// Size of the slot, if known.
    pub slot_size: Option<u32>,
    /// Address of the image's slot, if known.
    pub slot_address: Option<u32>,
    /// Write unit.
    pub align: u32,
    /// Erase unit.
    pub erase_size: u32,
    /// Spacing of the trailer's fields.
    pub max_align: u32,
    /// Sectors for which the boot stage is built.
    pub max_sectors: Option<u32>,
    /// Install algorithm.
    pub algorithm: Algorithm,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            public_key: None,
            image_key: None,
            running: None,
            hw_version: None,
            fw_version: None,
            soft_device: None,
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

impl Values {
    /// Options with these values, without keys and without a running image.
    ///
    /// # Errors
    /// One sentence about a value that cannot be used.
    pub fn options(&self) -> anyhow::Result<Options> {
        let internal = find_part(self.internal.as_deref().unwrap_or(parts::NRF52840.name), true)?;
        let align = self.align.unwrap_or(internal.write_size);
        let erase_size = self.erase_size.unwrap_or(internal.sector_size());
        if !erase_size.is_power_of_two() {
            bail!("--erase-size is a power of two, not {erase_size}");
        }
        Ok(Options {
            public_key: None,
            image_key: None,
            running: None,
            hw_version: self.hw_version,
            fw_version: self.fw_version,
            soft_device: self.sd_policy.as_deref().map(parse_sd_policy).transpose()?,
            slot_size: self.slot_size,
            slot_address: self.slot_address,
            align,
            erase_size,
            max_align: self.max_align.unwrap_or(align.max(8)),
            max_sectors: self.max_sectors,
            algorithm: self.algorithm()?.unwrap_or(Algorithm::SwapOffset),
        })
    }

    /// The install algorithm, if one is named.
    ///
    /// # Errors
    /// One sentence, if there is no such algorithm.
    pub fn algorithm(&self) -> anyhow::Result<Option<Algorithm>> {
        self.algorithm.as_deref().map(find_algorithm).transpose()
    }
}

/// The image in a file as the one that a device runs, in a slot at this address [default: as its header says, else that of
/// the simulator].
///
/// # Errors
/// A sentence about what is wrong with the file.
pub fn running(name: &str, bytes: Vec<u8>, slot_address: Option<u32>) -> anyhow::Result<Running> {
    let release = image_in(name, bytes).and_then(Release::read)?;
    let address = slot_address.or(release.fixed_address());
    Ok(Running {
        digest: release.digest,
        hashed_len: release.covered().len() as u32,
        address: address.unwrap_or(PRIMARY_START),
    })
}

/// Recognises and explains `bytes`; `name` is the file's name and decides in doubtful cases.
pub fn inspect(name: &str, bytes: &[u8], options: &Options) -> Report {
    let mut report = Report::default();
    let kind = Kind::of(name, bytes);
    report.kind = kind.to_string();
    let len = bytes.len();
    let has_image_magic = !matches!(
        ImageHeader::parse(bytes),
        Err(HeaderError::BadMagic | HeaderError::Erased | HeaderError::Truncated)
    );
    let is_slot = options.slot_size.map(|size| size as usize) == Some(len);
    let may_be_slot = len != 0 && len.is_multiple_of(options.erase_size as usize);
    match kind {
        Kind::Empty => {
            report.heading(format!("{name}: {kind}"));
            report.problem("the file is empty");
        }
        Kind::DfuPackage => package::dfu_package(&mut report, name, bytes, options),
        Kind::SdkPackage => package::sdk_package(&mut report, name, bytes, options),
        Kind::IntelHex => package::hex_file(&mut report, name, bytes, options),
        _ if has_image_magic || is_slot => image::image_or_slot(&mut report, name, bytes, options),
        Kind::InitPacket => {
            heading(&mut report, name, "init packet", bytes);
            init_packet::init_packet(&mut report, bytes, None, options);
        }
        Kind::Elf => {
            heading(&mut report, name, "ELF program", bytes);
            report.field("program", describe_elf(bytes));
            report.problem(kind.refusal().unwrap_or_default());
        }
        Kind::Program => {
            heading(&mut report, name, "program without image header", bytes);
            report.field("vector table", image::vector_table_of(bytes).unwrap_or_default());
            report.problem(kind.refusal().unwrap_or_default());
        }
        _ if may_be_slot || name.to_ascii_lowercase().ends_with(".bin") => {
            image::image_or_slot(&mut report, name, bytes, options);
        }
        _ => {
            heading(&mut report, name, "unknown", bytes);
            report.problem("the file is not a DFU package, init packet, MCUboot image or slot");
        }
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

/// Hex digits of at most 32 bytes.
fn short_hex(bytes: &[u8]) -> String {
    match bytes.get(..32) {
        Some(start) if bytes.len() > 32 => format!("{}...", hex(start)),
        _ => hex(bytes),
    }
}
