// SPDX-License-Identifier: Apache-2.0
//! `bledfu inspect`: explains a package, an init packet, an image, a slot or a whole device, field by field. What it says comes from
//! [`bledfu_explain::inspect`]; here are its options and the files that they name.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use bledfu_explain::inspect::device::{self, Files, Flash, Places};
pub use bledfu_explain::inspect::{inspect, report, Options, Report, Values, Verdict};
use bledfu_sim::device::PRIMARY_START;
use bledfu_slot::Algorithm;
use bledfu_transfer::payload::packed::Running;
use clap::Args;

use crate::args::{algorithm_parser, parse_u32};
use crate::folder;
use crate::keys::open_public;
use crate::output::{wrap, Format};

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
    map: MapArgs,
}

/// Options for dumps of flashes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "A whole device")]
pub struct MapArgs {
    /// FILE is a dump of the processor's flash: show its slots, journal and next boot. A folder is always shown this
    /// way.
    #[arg(long)]
    pub map: bool,
    /// Dump of the external flash [default: all areas are in FILE].
    #[arg(long, value_name = "FILE", requires = "map")]
    external: Option<PathBuf>,
    /// External flash part, for its units [default: mx25r6435f].
    #[arg(long, value_name = "PART", requires = "map")]
    part: Option<String>,
    /// Offset of the primary slot in FILE; default: where the simulator has it.
    #[arg(
        long, value_name = "OFFSET", requires = "map", value_parser = parse_u32,
        help = format!("Offset of the primary slot in FILE [default: {PRIMARY_START:#x}]")
    )]
    primary_at: Option<u32>,
    /// Offset of the secondary slot in the external flash [default: 0], or in FILE [default: after the primary].
    #[arg(long, value_name = "OFFSET", requires = "map", value_parser = parse_u32)]
    secondary_at: Option<u32>,
    /// Offset of the journal, in the flash of the secondary slot [default: after it, if there is an external flash].
    #[arg(long, value_name = "OFFSET", requires = "map", value_parser = parse_u32)]
    journal_at: Option<u32>,
    /// Offset of the spare area: scratch in FILE [default: after the primary], or the second place for images in the
    /// flash of the secondary slot [default: after the journal].
    #[arg(long, value_name = "OFFSET", requires = "map", value_parser = parse_u32)]
    spare_at: Option<u32>,
}

impl InspectArgs {
    fn values(&self) -> Values {
        Values {
            hw_version: self.hw_version,
            fw_version: self.fw_version,
            sd_policy: self.sd_policy.clone(),
            slot_size: self.slot_size,
            slot_address: self.slot_address,
            internal: self.internal.clone(),
            align: self.align,
            erase_size: self.erase_size,
            max_align: self.max_align,
            max_sectors: self.max_sectors,
            algorithm: self.algorithm.map(|algorithm| algorithm.as_str().to_owned()),
        }
    }

    fn options(&self) -> Result<Options> {
        let key = |path: &Option<PathBuf>| path.as_deref().map(open_public).transpose();
        Ok(Options {
            public_key: key(&self.public_key)?,
            image_key: key(&self.image_key)?,
            running: self.running()?,
            ..self.values().options()?
        })
    }

    /// The image of --from, in the slot of --slot-address.
    fn running(&self) -> Result<Option<Running>> {
        let Some(path) = &self.from else {
            return Ok(None);
        };
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let running = bledfu_explain::inspect::running(&name, bytes, self.slot_address)
            .with_context(|| format!("cannot compare with {}", path.display()))?;
        Ok(Some(running))
    }

    /// A folder, or the dumps that the options name.
    fn device(&self, options: &Options) -> Result<Report> {
        let is_folder = self.file.is_dir();
        let (inside, outside) = match is_folder {
            true => (
                self.file.join(folder::INTERNAL),
                Some(self.file.join(folder::EXTERNAL)),
            ),
            false => (self.file.clone(), self.map.external.clone()),
        };
        let files = Files {
            name: self.file.display().to_string(),
            settings: match is_folder {
                true => folder::settings(&self.file)?,
                false => None,
            },
            internal: flash(&inside)?,
            external: outside.as_deref().map(flash).transpose()?,
            factory: match is_folder {
                true => folder::factory_digest(&self.file)?,
                false => None,
            },
        };
        let places = Places {
            part: self.map.part.clone(),
            primary_at: self.map.primary_at,
            secondary_at: self.map.secondary_at,
            journal_at: self.map.journal_at,
            spare_at: self.map.spare_at,
        };
        device::inspect(files, &self.values(), &places, options)
    }
}

fn flash(path: &Path) -> Result<Flash> {
    let name = path.file_name().unwrap_or(path.as_os_str());
    Ok(Flash {
        name: name.to_string_lossy().into_owned(),
        bytes: std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
    })
}

/// `bledfu inspect`.
///
/// # Errors
/// One sentence when the file or a key cannot be read. Errors *in* the file are part of the output and of the exit
/// code.
pub fn cmd_inspect(args: &InspectArgs) -> Result<ExitCode> {
    let options = args.options()?;
    let name = args.file.file_name().unwrap_or(args.file.as_os_str());
    let name = name.to_string_lossy().into_owned();
    let report = if args.map.map || args.file.is_dir() {
        args.device(&options)?
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
