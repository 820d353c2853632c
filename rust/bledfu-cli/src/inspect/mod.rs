// SPDX-License-Identifier: Apache-2.0
//! `bledfu inspect`: explains a package, an init packet, an image, a slot or a whole device, field by field. It reports
//! what is wrong and what could not be checked.
//!
//! | Module | What |
//! |---|---|
//! | [`report`] | what was found, as text and as JSON |
//! | `package`, `init_packet`, `image`, `trailer` | one kind of file each |
//! | [`device`], `map` | a whole device: slots, journal, what the next boot will do, and a drawing |
//!
//! The crates that own the formats decode the bytes; these modules only name the fields. [`kind`](crate::kind) decides
//! what a file is.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, Context};
use bledfu_sim::device::PRIMARY_START;
use bledfu_sim::parts;
use bledfu_sim::phone::secure_dfu::crc32;
use bledfu_slot::{Algorithm, HeaderError, ImageHeader, Key};
use bledfu_transfer::init_check::SoftDevicePolicy;
use bledfu_transfer::payload::packed::Running;
use clap::Args;
use sha2::{Digest, Sha256};

use crate::args::{algorithm_parser, find_part, parse_sd_policy, parse_u32};
use crate::keys::open_public;
use crate::kind::{describe_elf, image_in, Kind};
use crate::output::{wrap, Format};
use crate::packed::Release;

pub mod device;
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

/// Exit code of `--strict` when nothing is wrong, but something was not checked.
const UNCHECKED: u8 = 3;

/// Options of `bledfu inspect`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit code: 0 if nothing is wrong, 1 if something is. With --strict, 3 if nothing is wrong but something \
                        was not checked, such as a signature without its key."
)]
pub struct InspectArgs {
    /// DFU package or nRF Connect SDK package (.zip), init packet (.dat), image (.bin, .hex), dump of a slot, or the folder of a
    /// device of `bledfu serve`. With --map, the dump of a flash.
    pub file: PathBuf,
    /// Public or private key (PEM) that must have signed the package.
    #[arg(long, value_name = "FILE.pem")]
    pub public_key: Option<PathBuf>,
    /// Public or private key (PEM) that must have signed the image.
    #[arg(long, value_name = "FILE.pem")]
    pub image_key: Option<PathBuf>,
    /// Image that the device runs: a packed update for another one is then wrong.
    #[arg(long, value_name = "OLD.signed.bin")]
    pub from: Option<PathBuf>,
    /// Also fail if something could not be checked.
    #[arg(long)]
    pub strict: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Hardware version of the device: a package for another one is then wrong.
    #[arg(long, value_name = "N", value_parser = parse_u32)]
    pub hw_version: Option<u32>,
    /// Running firmware version: an older package is then wrong.
    #[arg(long, value_name = "N", value_parser = parse_u32)]
    pub fw_version: Option<u32>,
    /// The device's SoftDevice policy, as in `bledfu update`: a package that it refuses is then wrong.
    #[arg(long, value_name = "POLICY")]
    pub sd_policy: Option<String>,
    /// Size of the slot; default: the file's size, if it is a multiple of the erase unit.
    #[arg(long, value_name = "BYTES", value_parser = parse_u32)]
    pub slot_size: Option<u32>,
    /// The processor's address of the image's slot: an image linked for another slot or processor is then wrong.
    #[arg(
        long, value_name = "ADDRESS", value_parser = parse_u32,
        help = format!("The processor's address of the image's slot ({PRIMARY_START:#x} in the simulator): an image \
                        linked for another slot or processor is then wrong")
    )]
    pub slot_address: Option<u32>,
    /// Flash of the processor, for its units; an unknown name lists the known ones [default: nrf52840].
    #[arg(long, value_name = "PART")]
    pub internal: Option<String>,
    /// Write unit of the flash that holds the swap records [default: from --internal].
    #[arg(long, visible_alias = "write-unit", value_name = "BYTES", value_parser = parse_u32)]
    pub align: Option<u32>,
    /// Erase unit of the slot [default: from --internal].
    #[arg(long, value_name = "BYTES", value_parser = parse_u32)]
    pub erase_size: Option<u32>,
    /// Spacing of the trailer's fields: 8, 16 or 32 [default: 8, or the write unit if it is larger].
    #[arg(long, value_name = "BYTES", value_parser = parse_u32)]
    pub max_align: Option<u32>,
    /// Sectors for which the boot stage is built; default: 256, or as many as the slot has.
    #[arg(long, value_name = "N", value_parser = parse_u32)]
    pub max_sectors: Option<u32>,
    /// Install algorithm of the boot stage [default: swap-offset].
    #[arg(long, value_parser = algorithm_parser())]
    pub algorithm: Option<Algorithm>,
    #[command(flatten)]
    map: device::MapArgs,
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

impl InspectArgs {
    fn options(&self) -> anyhow::Result<Options> {
        let key = |path: &Option<PathBuf>| path.as_deref().map(open_public).transpose();
        let internal = find_part(self.internal.as_deref().unwrap_or(parts::NRF52840.name), true)?;
        let align = self.align.unwrap_or(internal.write_size);
        let erase_size = self.erase_size.unwrap_or(internal.sector_size());
        if !erase_size.is_power_of_two() {
            bail!("--erase-size is a power of two, not {erase_size}");
        }
        Ok(Options {
            public_key: key(&self.public_key)?,
            image_key: key(&self.image_key)?,
            running: self.running()?,
            hw_version: self.hw_version,
            fw_version: self.fw_version,
            soft_device: self.sd_policy.as_deref().map(parse_sd_policy).transpose()?,
            slot_size: self.slot_size,
            slot_address: self.slot_address,
            align,
            erase_size,
            max_align: self.max_align.unwrap_or(align.max(8)),
            max_sectors: self.max_sectors,
            algorithm: self.algorithm.unwrap_or(Algorithm::SwapOffset),
        })
    }
}

impl InspectArgs {
    /// The image of --from, in the slot of --slot-address.
    fn running(&self) -> anyhow::Result<Option<Running>> {
        let Some(path) = &self.from else {
            return Ok(None);
        };
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let release = image_in(&name, bytes)
            .and_then(Release::read)
            .with_context(|| format!("cannot compare with {}", path.display()))?;
        let address = self.slot_address.or(release.fixed_address());
        Ok(Some(Running {
            digest: release.digest,
            hashed_len: release.covered().len() as u32,
            address: address.unwrap_or(PRIMARY_START),
        }))
    }
}

/// `bledfu inspect`.
///
/// # Errors
/// One sentence when the file or a key cannot be read. Errors *in* the file are part of the output and of the exit
/// code.
pub fn cmd_inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let options = args.options()?;
    let name = args.file.file_name().unwrap_or(args.file.as_os_str());
    let name = name.to_string_lossy().into_owned();
    let report = if args.map.map || args.file.is_dir() {
        device::inspect(args, &options)?
    } else {
        let bytes =
            std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
        inspect(&name, &bytes, &options)
    };
    Format::of(args.json).fact(
        &report.json(&name),
        format_args!("{}\n{}", report.text(), wrap(&report.verdict(), 2)),
    )?;
    Ok(match report.state() {
        Verdict::Good => ExitCode::SUCCESS,
        Verdict::Unchecked if !args.strict => ExitCode::SUCCESS,
        Verdict::Unchecked => ExitCode::from(UNCHECKED),
        Verdict::Wrong => ExitCode::FAILURE,
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
        _ if may_be_slot || name.to_lowercase().ends_with(".bin") => {
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
