// SPDX-License-Identifier: Apache-2.0
//! `bledfu install`: one boot on plain slot files, so that another boot stage can be compared with this one byte by
//! byte.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{bail, Context};
use bledfu_sim::plain::Plain;
use bledfu_sim::power::{Power, Tear};
use bledfu_slot::decide::Downgrade;
use bledfu_slot::trailer::{confirm, request_permanent, request_test};
use bledfu_slot::{AddressRange, Algorithm, Geometry, ImagePolicy, Key, Layout, Slot, SoftCrypto};
use bledfu_swap::{boot, BootConfig, BootError, BootReport, NoEvidence};
use clap::{Args, ValueEnum};

use crate::args::{algorithm_parser, downgrade_parser, parse_u32};
use crate::keys::open_public;
use crate::outln;

/// `bledfu install`.
#[derive(Args, Clone, Debug)]
pub struct InstallArgs {
    /// The primary slot: a file of the slot's size.
    #[arg(long, value_name = "FILE")]
    pub primary: PathBuf,
    /// The secondary slot.
    #[arg(long, value_name = "FILE")]
    pub secondary: PathBuf,
    /// The scratch area, for swap-scratch.
    #[arg(long, value_name = "FILE")]
    pub scratch: Option<PathBuf>,
    /// The second place for images, for copy.
    #[arg(long, value_name = "FILE", conflicts_with = "scratch")]
    pub revert: Option<PathBuf>,
    /// Install algorithm.
    #[arg(long, default_value = Algorithm::SwapOffset.as_str(), value_parser = algorithm_parser())]
    pub algorithm: Algorithm,
    /// Erase unit of the primary slot and of a scratch area.
    #[arg(long, value_name = "BYTES", default_value = "4096", value_parser = parse_u32)]
    pub erase_size: u32,
    /// Erase unit of the secondary slot and of a revert place [default: as --erase-size].
    #[arg(long, value_name = "BYTES", value_parser = parse_u32)]
    pub secondary_erase_size: Option<u32>,
    /// Write unit of all areas: 1, 2, 4, 8, 16 or 32.
    #[arg(long, value_name = "BYTES", default_value = "4", value_parser = parse_u32)]
    pub align: u32,
    /// Spacing of the trailer's fields: 8, 16 or 32 [default: 8, or --align if it is larger].
    #[arg(long, value_name = "BYTES", value_parser = parse_u32)]
    pub max_align: Option<u32>,
    /// MCUboot's BOOT_MAX_IMG_SECTORS.
    #[arg(long, value_name = "N", default_value = "128", value_parser = parse_u32)]
    pub max_sectors: u32,
    /// With swap-offset, use the trailer of MCUboot 2.2, which has no sizes of TLV areas.
    #[arg(long)]
    pub without_tlv_sizes: bool,
    /// Key that checks images, PEM, public or private; without one only their SHA-256 is checked.
    #[arg(long, value_name = "PEM")]
    pub key: Vec<PathBuf>,
    /// The processor's address of the primary slot: images linked for another one are then refused.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_u32)]
    pub slot_address: Option<u32>,
    /// Request the image in the secondary slot first, as an application does.
    #[arg(long, value_enum)]
    pub pending: Option<Pending>,
    /// Which images may not replace the running one.
    #[arg(long, value_parser = downgrade_parser(), default_value = "none")]
    pub prevent_downgrade: Downgrade,
    /// Confirm the running image afterwards, as an application does.
    #[arg(long)]
    pub confirm: bool,
    /// Cut the power after this many flash operations of the boot.
    #[arg(long, value_name = "N")]
    pub stop_after: Option<u64>,
    /// Do this share of the next operation before the cut.
    #[arg(long, value_name = "PERCENT", requires = "stop_after", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub torn: Option<u8>,
}

/// The kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pending {
    /// On trial: taken back unless it confirms itself.
    Test,
    /// Permanently.
    Permanent,
}

/// Exit code when the power was cut as requested.
const STOPPED: u8 = 3;

/// `bledfu install`: 0 and the image that was booted; 3 when `--stop-after` cut the power; 1 when nothing boots.
///
/// # Errors
/// One sentence when a file, a key or the layout cannot be used.
pub fn cmd_install(args: &InstallArgs) -> anyhow::Result<ExitCode> {
    match args.align {
        1 => install::<1>(args),
        2 => install::<2>(args),
        4 => install::<4>(args),
        8 => install::<8>(args),
        16 => install::<16>(args),
        32 => install::<32>(args),
        other => bail!("--align {other}: a write unit is 1, 2, 4, 8, 16 or 32 bytes"),
    }
}

fn open<const W: usize>(
    name: &'static str,
    path: &Path,
    sector: u32,
    power: &Power,
) -> anyhow::Result<Plain<W>> {
    let cells = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if sector == 0 || !cells.len().is_multiple_of(sector as usize) {
        bail!(
            "{} has {} bytes, which is no multiple of the erase size {sector}",
            path.display(),
            cells.len()
        );
    }
    Ok(Plain::new(name, cells, sector, power))
}

fn geometry<const W: usize>(slot: &Plain<W>, sector_size: u32) -> anyhow::Result<Geometry> {
    let slot_size = u32::try_from(slot.cells.len()).context("a slot is at most 1 GiB")?;
    Ok(Geometry {
        slot_size,
        sector_size,
        write_size: W as u32,
    })
}

fn install<const W: usize>(args: &InstallArgs) -> anyhow::Result<ExitCode> {
    let power = Power::new();
    let outer = args.secondary_erase_size.unwrap_or(args.erase_size);
    let mut primary = open::<W>("primary", &args.primary, args.erase_size, &power)?;
    let mut secondary = open::<W>("secondary", &args.secondary, outer, &power)?;
    let third = match (args.algorithm, &args.scratch, &args.revert) {
        (Algorithm::SwapScratch, Some(path), _) => Some((path, args.erase_size)),
        (Algorithm::SwapScratch, None, _) => bail!("swap-scratch needs --scratch FILE"),
        (Algorithm::Copy, _, Some(path)) => Some((path, outer)),
        (Algorithm::Copy, _, None) => bail!("copy needs --revert FILE"),
        (_, None, None) => None,
        (other, ..) => bail!("{} has no spare area", other.as_str()),
    };
    let mut spare = match third {
        Some((path, sector)) => open::<W>("third", path, sector, &power)?,
        None => Plain::new("none", Vec::new(), 1, &power),
    };
    let layout = Layout::with_spare(
        args.algorithm,
        geometry(&primary, args.erase_size)?,
        geometry(&secondary, outer)?,
        third.map(|(_, sector)| geometry(&spare, sector)).transpose()?,
        args.max_align.unwrap_or(args.align.max(8)),
        args.max_sectors,
    )?;
    let layout = match (args.algorithm, args.without_tlv_sizes) {
        (Algorithm::SwapOffset, true) => layout.without_tlv_sizes(),
        (_, false) => layout,
        (other, true) => bail!(
            "the trailer of {} has no sizes of TLV areas anyway",
            other.as_str()
        ),
    };
    let keys: Vec<Key> = args
        .key
        .iter()
        .map(|path| open_public(path))
        .collect::<Result<_, _>>()?;
    let policy = ImagePolicy {
        keys: &keys,
        trusted_digests: &[],
        unsigned: keys.is_empty(),
        address: args.slot_address.map(|start| AddressRange {
            start,
            size: layout.primary().slot_size,
        }),
    };

    if let Some(pending) = args.pending {
        let slot = Slot::new(&layout)
            .verify(&mut secondary, &policy, &SoftCrypto)
            .context("the secondary slot holds nothing to request")?;
        match pending {
            Pending::Test => request_test(&mut secondary, &slot),
            Pending::Permanent => request_permanent(&mut secondary, &slot),
        }?;
    }
    if let Some(operations) = args.stop_after {
        let tear = match args.torn {
            None => Tear::Before,
            Some(percent) => Tear::Inside {
                fraction: f64::from(percent) / 100.0,
                seed: operations,
            },
        };
        power.cut_at(power.ops() + operations, tear);
    }
    let before = power.ops();
    let config = BootConfig {
        layout,
        policy,
        downgrade: args.prevent_downgrade,
        verify_primary: true,
    };
    let outcome = boot(
        &mut primary,
        &mut secondary,
        &mut spare,
        &config,
        &SoftCrypto,
        &mut NoEvidence,
        &mut |_| {},
    );
    let operations = power.ops() - before;
    let stopped = power.is_off();
    power.power_on();
    power.cut_at_none();
    if args.confirm && outcome.is_ok() && !stopped {
        confirm(&mut primary, &layout)?;
    }
    for (path, slot) in [(&args.primary, &primary), (&args.secondary, &secondary)] {
        save(path, slot)?;
    }
    if let Some((path, _)) = third {
        save(path, &spare)?;
    }
    report(outcome, operations, stopped)
}

fn save<const W: usize>(path: &Path, slot: &Plain<W>) -> anyhow::Result<()> {
    std::fs::write(path, &slot.cells).with_context(|| format!("cannot write {}", path.display()))
}

fn report(
    outcome: Result<BootReport, BootError>,
    operations: u64,
    stopped: bool,
) -> anyhow::Result<ExitCode> {
    Ok(match outcome {
        _ if stopped => {
            outln!("stopped: the power was cut at operation {operations} of the boot")?;
            ExitCode::from(STOPPED)
        }
        Ok(report) => {
            let (version, action) = (report.image.header.version, report.action);
            outln!("booted {version}: {action}; {operations} flash operations")?;
            ExitCode::SUCCESS
        }
        Err(error) => {
            outln!("nothing booted: {error}; {operations} flash operations")?;
            ExitCode::FAILURE
        }
    })
}
