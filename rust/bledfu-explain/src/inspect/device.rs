// SPDX-License-Identifier: Apache-2.0
//! A whole device: a folder of `bledfu serve`, or dumps of flashes. Shows the slots, the progress of an upload, and
//! what the next boot will do.
//!
//! The next boot is not predicted but run: this project's boot stage runs on a copy of the flashes in memory.

use anyhow::{bail, Context, Result};
use bledfu_sim::device::primary_start;
use bledfu_sim::nor::{Area, Chip, Units, UnitsOf};
use bledfu_sim::parts::{self, Part, Rewrite};
use bledfu_sim::plain::Plain;
use bledfu_sim::power::Power;
use bledfu_slot::copy_roles::{self, Place};
use bledfu_slot::decide::{outlook_by, Downgrade, Rules};
use bledfu_slot::evidence::{self, Log};
use bledfu_slot::journal::{Journal, JournalError, MAX_SESSION};
use bledfu_slot::tlv::SliceFlash;
use bledfu_slot::{
    verify_image, AddressRange, Algorithm, Geometry, ImagePolicy, Layout, Outlook, SoftCrypto, SwapType,
    Trailer, VerifyError,
};
use bledfu_swap::{boot, BootAction, BootConfig};
use bledfu_wire::init_packet::InitPacket;
use serde::Deserialize;

use super::folder::Settings;
use super::map::{self, Content, Span};
use super::report::Report;
use super::trailer::{trailer, Role};
use super::{hex, Options, Values};
use crate::values::find_part;

/// Size of the slots of a `bledfu serve` device.
const SLOT_SIZE: u32 = 0xE8000;

/// The files of a device.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The name of the folder or of the dump, as it is shown.
    pub name: String,
    /// The processor's flash.
    pub internal: Flash,
    /// The external flash, if there is one.
    pub external: Option<Flash>,
    /// Settings of `bledfu serve`, if there are any.
    pub settings: Option<Settings>,
    /// Digest of the factory image, which is trusted whoever signed it.
    pub factory: Option<[u8; 32]>,
}

/// Where the areas are in dumps of flashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Places {
    /// External flash part [default: mx25r6435f].
    pub part: Option<String>,
    /// Offset of the primary slot [default: where the simulator has it].
    pub primary_at: Option<u32>,
    /// Offset of the secondary slot [default: 0 in the external flash, else after the primary].
    pub secondary_at: Option<u32>,
    /// Offset of the journal [default: after the secondary slot, if there is an external flash].
    pub journal_at: Option<u32>,
    /// Offset of the spare area [default: after the primary for scratch, else after the journal].
    pub spare_at: Option<u32>,
}

/// The bytes of a flash.
#[derive(Clone, Debug, Default)]
pub struct Flash {
    /// The name of its file.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// An area of a device.
#[derive(Clone, Copy)]
struct Region {
    external: bool,
    at: u32,
    size: u32,
}

/// A device as its files describe it.
struct Device {
    internal: Flash,
    external: Option<Flash>,
    part: &'static Part,
    layout: Layout,
    primary: Region,
    secondary: Region,
    journal: Option<Region>,
    spare: Option<Region>,
    /// The trust area of the boot stage: with `bledfu serve`, the last two pages of the processor's flash.
    trust: Option<Region>,
    /// Which images may replace the running one.
    downgrade: Downgrade,
    /// Digests of images that are trusted, no matter who signed them.
    trusted: Vec<[u8; 32]>,
}

/// Inspects a device.
///
/// # Errors
/// One sentence about options that do not fit the files.
pub fn inspect(files: Files, values: &Values, places: &Places, options: &Options) -> Result<Report> {
    let name = files.name.clone();
    let device = Device::open(files, values, places, options)?;
    let mut report = Report {
        kind: "device".to_owned(),
        ..Report::default()
    };
    device.explain(&mut report, &name, options);
    Ok(report)
}

impl Device {
    fn open(files: Files, values: &Values, places: &Places, options: &Options) -> Result<Self> {
        let settings = files.settings.as_ref();
        let named = |given: &Option<String>, kept: Option<&String>, default: &str| {
            given
                .as_ref()
                .or(kept)
                .map_or_else(|| default.to_owned(), Clone::clone)
        };
        let internal = named(
            &values.internal,
            settings.map(|found| &found.internal),
            parts::NRF52840.name,
        );
        let part = named(
            &places.part,
            settings.map(|found| &found.part),
            parts::MX25R6435F.name,
        );
        let (internal, part) = (find_part(&internal, true)?, find_part(&part, false)?);
        let has_external = files.external.is_some();
        let algorithm = match (values.algorithm()?, settings) {
            (Some(algorithm), _) => algorithm,
            (None, Some(settings)) => settings.algorithm()?,
            (None, None) => options.algorithm,
        };
        let write_unit = values
            .align
            .or(settings.map(|found| found.write_unit))
            .unwrap_or(internal.write_size);
        let sector = values.erase_size.unwrap_or(internal.sector_size());
        let (outer_write, outer_sector) = match has_external {
            true => (write_unit.min(4), sector.max(part.sector_size())),
            false => (write_unit, sector),
        };
        let slot_size = values
            .slot_size
            .or(settings.map(|found| found.slot_size))
            .unwrap_or(SLOT_SIZE);
        let primary = Geometry {
            slot_size,
            sector_size: sector,
            write_size: write_unit,
        };
        let secondary = Geometry {
            slot_size,
            sector_size: outer_sector,
            write_size: outer_write,
        };
        let spare = match algorithm {
            Algorithm::SwapScratch => Some(Geometry {
                slot_size: sector,
                ..primary
            }),
            Algorithm::Copy => Some(secondary),
            _ => None,
        };
        let max_align = values.max_align.unwrap_or(write_unit.max(outer_write).max(8));
        let max_sectors = values
            .max_sectors
            .unwrap_or_else(|| primary.sectors().max(secondary.sectors()).max(256));
        let layout = Layout::with_spare(algorithm, primary, secondary, spare, max_align, max_sectors)
            .context("slots with these numbers are not possible (see --slot-size, --align, --erase-size)")?;

        let primary_at = places.primary_at.unwrap_or(primary_start(sector));
        let secondary_at = places.secondary_at.unwrap_or(match has_external {
            true => 0,
            false => primary_at.saturating_add(slot_size),
        });
        let journal_size = 2 * outer_sector;
        let behind = secondary_at.saturating_add(slot_size);
        let journal_at = places.journal_at.or(has_external.then_some(behind));
        let region = |external, at, size| Region { external, at, size };
        let spare = spare.map(|area| match algorithm {
            Algorithm::SwapScratch => {
                let at = places.spare_at.unwrap_or(primary_at.saturating_add(slot_size));
                region(false, at, area.slot_size)
            }
            _ => {
                let journal = journal_at.map_or(0, |_| journal_size);
                let at = places.spare_at.unwrap_or(behind.saturating_add(journal));
                region(has_external, at, area.slot_size)
            }
        });
        let prevent = settings.and_then(|found| found.prevent_downgrade);
        let trust_size = 2 * sector;
        let device = Self {
            trust: prevent.map(|_| {
                let end = u32::try_from(files.internal.bytes.len()).unwrap_or(u32::MAX);
                region(false, end.saturating_sub(trust_size), trust_size)
            }),
            downgrade: prevent.map_or(Downgrade::default(), Downgrade::from),
            internal: files.internal,
            external: files.external,
            part,
            layout,
            primary: region(false, primary_at, slot_size),
            secondary: region(has_external, secondary_at, slot_size),
            journal: journal_at.map(|at| region(has_external, at, journal_size)),
            spare,
            trusted: files.factory.into_iter().collect(),
        };
        for (name, area) in device.areas() {
            if device.bytes(area).is_none() {
                let flash = device.flash(area);
                bail!(
                    "the {name} at {:#x} with {:#x} bytes is not inside {}, which has {:#x} bytes (see --slot-size and --*-at)",
                    area.at,
                    area.size,
                    flash.name,
                    flash.bytes.len()
                );
            }
        }
        Ok(device)
    }

    fn flash(&self, region: Region) -> &Flash {
        match (region.external, &self.external) {
            (true, Some(flash)) => flash,
            _ => &self.internal,
        }
    }

    fn bytes(&self, region: Region) -> Option<&[u8]> {
        let start = region.at as usize;
        self.flash(region)
            .bytes
            .get(start..start.checked_add(region.size as usize)?)
    }

    /// The bytes of an area; it has been checked that all areas are inside their flashes.
    fn content(&self, region: Region) -> &[u8] {
        self.bytes(region).unwrap_or_default()
    }

    fn areas(&self) -> Vec<(&'static str, Region)> {
        let spare = match self.layout.algorithm() {
            Algorithm::SwapScratch => "scratch",
            _ => "second place",
        };
        [
            Some(("primary", self.primary)),
            Some(("secondary", self.secondary)),
            self.journal.map(|area| ("journal", area)),
            self.spare.map(|area| (spare, area)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn policy<'a>(&'a self, options: &'a Options, keys: &'a [bledfu_slot::Key]) -> ImagePolicy<'a> {
        ImagePolicy {
            keys,
            trusted_digests: &self.trusted,
            // Without a key, only the digest counts; the report says that the signature was not checked.
            unsigned: keys.is_empty(),
            address: options.slot_address.map(|start| AddressRange {
                start,
                size: self.primary.size,
            }),
        }
    }

    fn explain(&self, report: &mut Report, name: &str, options: &Options) {
        report.heading(format!("{name}: device"));
        let (inside, outside) = (self.layout.primary(), self.layout.secondary());
        report.field("install algorithm", self.layout.algorithm().as_str());
        for (name, geometry) in [("primary units", inside), ("secondary units", outside)] {
            report.field(
                name,
                format!(
                    "written in units of {} bytes, erased in units of {} KiB",
                    geometry.write_size,
                    geometry.sector_size / 1024
                ),
            );
        }
        report.field("slots", format!("{} KiB each", inside.slot_size / 1024));
        report.field("largest image", format!("{} bytes", self.layout.max_image_size()));

        self.draw(report, options);
        self.slots(report, options);
        if let Some(journal) = self.journal {
            report.heading("journal");
            self.explain_journal(report, journal);
        }
        report.heading("next boot");
        self.next_boot(report, options);
    }

    // ---- content of the slots

    /// Where an image starts in an area, and how long it is.
    fn image_in(&self, region: Region) -> Option<(u32, u32)> {
        let bytes = self.content(region);
        let starts = [0, self.layout.upload_offset()];
        starts.into_iter().find_map(|start| {
            let size = bledfu_slot::verify::image_size(&mut SliceFlash(bytes), start, region.size).ok()?;
            Some((start, size))
        })
    }

    fn slots(&self, report: &mut Report, options: &Options) {
        let sizes = Options {
            slot_size: Some(self.primary.size),
            max_align: self.layout.primary_trailer().max_align(),
            max_sectors: Some(self.layout.primary_trailer().max_sectors()),
            algorithm: self.layout.algorithm(),
            ..options.clone()
        };
        for (name, region) in self.areas() {
            let (role, geometry) = match name {
                "primary" => (Role::Primary, self.layout.primary()),
                "secondary" | "second place" => (Role::Secondary, self.layout.secondary()),
                _ => continue,
            };
            report.heading(format!("{name} slot"));
            self.image(report, name, region, options);
            let options = Options {
                align: geometry.write_size,
                erase_size: geometry.sector_size,
                ..sizes.clone()
            };
            trailer(report, self.content(region), region.size, &options, role);
        }
    }

    /// The image of a slot, in three lines.
    fn image(&self, report: &mut Report, name: &str, region: Region, options: &Options) {
        let bytes = self.content(region);
        let Some((start, size)) = self.image_in(region) else {
            let what = match bledfu_slot::is_erased(bytes) {
                true => "none: the slot is erased",
                false => "none that is complete",
            };
            return report.field("image", what);
        };
        let keys: Vec<_> = options.image_key.into_iter().collect();
        let verified = verify_image(
            &mut SliceFlash(bytes),
            start,
            region.size,
            self.layout.max_image_size(),
            &self.policy(options, &keys),
            &SoftCrypto,
        );
        match verified {
            Ok(info) => {
                report.field(
                    "image",
                    format!("version {}, {size} bytes at {start:#x}", info.header.version),
                );
                report.field("SHA-256 of the image", hex(&info.digest));
                if self.trusted.contains(&info.digest) {
                    report.field("trusted", "the factory image, by its digest");
                } else if keys.is_empty() {
                    report.unchecked(format!(
                        "the signature of the image in the {name} slot: no --image-key"
                    ));
                } else {
                    report.field("signature", "good");
                }
            }
            // It may be the remains of an upload or of the previous image: the next boot shows what it means.
            Err(error) => {
                report.field("image", format!("{size} bytes at {start:#x}, not valid"));
                report.field("", refusal(error));
            }
        }
    }

    // ---- the journal

    fn explain_journal(&self, report: &mut Report, region: Region) {
        let outside = self.layout.secondary();
        match (outside.write_size, outside.sector_size) {
            (1, 4096) => self.journal_with::<UnitsOf<1, 4096>>(report, region),
            (2, 4096) => self.journal_with::<UnitsOf<2, 4096>>(report, region),
            (4, 4096) => self.journal_with::<UnitsOf<4, 4096>>(report, region),
            (4, 8192) => self.journal_with::<UnitsOf<4, 8192>>(report, region),
            (write, erase) => report.unchecked(format!(
                "the journal: it cannot be read with a write unit of {write} and an erase unit of {erase} bytes"
            )),
        }
    }

    fn journal_with<X: Units>(&self, report: &mut Report, region: Region) {
        let bytes = self.content(region);
        if bledfu_slot::is_erased(bytes) {
            return report.field("records", "none: it is erased");
        }
        let area = journal_area::<X>(self.part, bytes);
        let mut journal = match area {
            Ok(area) => Journal::new(area),
            Err(error) => return report.problem(format!("the journal cannot be read: {error}")),
        };
        if let Err(error) = records(report, &mut journal) {
            report.problem(error);
        }
    }

    // ---- the next boot

    fn next_boot(&self, report: &mut Report, options: &Options) {
        let (primary, first) = (self.content(self.primary), self.content(self.secondary));
        let second = self.spare.map_or(&[][..], |region| self.content(region));
        let incoming = copy_roles::incoming(
            &mut SliceFlash(primary),
            &mut SliceFlash(first),
            &mut SliceFlash(second),
            &self.layout,
        )
        .unwrap_or(Place::First);
        let (waiting, other) = match incoming {
            Place::First => (first, second),
            Place::Second => (second, first),
        };
        if self.layout.algorithm() == Algorithm::Copy {
            let name = match incoming {
                Place::First => "the secondary slot",
                Place::Second => "the second place",
            };
            report.field("next update goes to", name);
        }
        let asked = outlook_by(
            &self.rules(),
            &self.layout.with_incoming(incoming),
            &mut SliceFlash(primary),
            &mut SliceFlash(waiting),
            &mut SliceFlash(other),
        );
        report.field("the trailers ask for", outlook_words(asked));
        let inside = self.layout.primary().write_size;
        match (inside, self.layout.secondary().write_size) {
            (1, 1) | (2, 2) | (4 | 8 | 16 | 32, 4) | (8, 8) | (16, 16) | (32, 32) => {
                self.try_boot(report, options)
            }
            (inside, outside) => report.unchecked(format!(
                "the next boot: there is no boot stage for write units of {inside} and {outside} bytes"
            )),
        }
    }

    /// A copy of the trust area; an empty flash if the device has none.
    fn trust_area(&self, power: &Power) -> Plain<1> {
        let bytes = self
            .trust
            .map_or(Vec::new(), |region| self.content(region).to_vec());
        plain("trust", bytes, self.layout.primary(), power)
    }

    /// What the boot stage considers besides the trailers.
    fn rules(&self) -> Rules {
        Rules {
            downgrade: self.downgrade,
            is_kept: self.trust.is_some(),
            evidence: evidence::last(&mut self.trust_area(&Power::new())),
        }
    }

    /// Runs the boot stage on a copy.
    fn try_boot(&self, report: &mut Report, options: &Options) {
        let power = Power::new();
        let (inside, outside) = (self.layout.primary(), self.layout.secondary());
        let bytes = |region| self.content(region).to_vec();
        let mut primary = plain("primary", bytes(self.primary), inside, &power);
        let mut secondary = plain("secondary", bytes(self.secondary), outside, &power);
        let (cells, sector) = match (self.spare, self.layout.spare()) {
            (Some(region), Some(geometry)) => (bytes(region), geometry.sector_size),
            _ => (Vec::new(), 1),
        };
        let mut spare = Plain::<1>::new("spare", cells, sector, &power);
        let keys: Vec<_> = options.image_key.into_iter().collect();
        let config = BootConfig {
            layout: self.layout,
            policy: self.policy(options, &keys),
            downgrade: self.downgrade,
            verify_primary: true,
        };
        let mut trust = self.trust_area(&power);
        let outcome = boot(
            &mut primary,
            &mut secondary,
            &mut spare,
            &config,
            &SoftCrypto,
            &mut Log::new(&mut trust),
            &mut |_| {},
        );
        match outcome {
            Ok(found) => {
                report.field("it does", found.action);
                if found.action != BootAction::None {
                    report.field("operations", format!("{} of flash", power.ops()));
                }
                let version = found.image.header.version;
                let confirmed = Trailer::read(&mut primary, &self.layout.primary_trailer())
                    .is_ok_and(|trailer| trailer.is_confirmed(&self.layout));
                let state = if confirmed { "confirmed" } else { "on test" };
                report.field("then runs", format!("{version} ({state})"));
            }
            Err(error) => report.problem(format!("the device does not boot: {error}")),
        }
    }

    // ---- the drawing

    fn draw(&self, report: &mut Report, options: &Options) {
        for external in [false, true] {
            let regions: Vec<_> = self
                .areas()
                .into_iter()
                .filter(|(_, region)| region.external == external)
                .collect();
            let flash = match (external, &self.external) {
                (false, _) => &self.internal,
                (true, Some(flash)) => flash,
                (true, None) => continue,
            };
            let spans = regions.iter().map(|(name, region)| {
                let content = match *name {
                    "journal" => Content::Journal,
                    "scratch" => Content::Scratch,
                    _ => Content::Slot {
                        image: self.image_in(*region),
                        trailer: match *name {
                            "primary" => self.layout.primary_trailer().status_start(),
                            _ => self.layout.secondary_trailer().status_start(),
                        },
                    },
                };
                Span {
                    name,
                    at: region.at,
                    size: region.size,
                    content,
                }
            });
            report.heading(format!("{}: {} KiB", flash.name, flash.bytes.len() / 1024));
            for line in map::draw(&flash.bytes, spans.collect(), options.erase_size) {
                report.drawing(line);
            }
        }
        report.drawing(map::LEGEND);
    }
}

/// A slot whose write unit is a value, not a constant: so there is one boot stage here for all units.
fn plain(name: &'static str, bytes: Vec<u8>, geometry: Geometry, power: &Power) -> Plain<1> {
    Plain::new(name, bytes, geometry.sector_size, power).of_memory(geometry.write_size, Rewrite::ClearsBits)
}

fn journal_area<X: Units>(part: &'static Part, bytes: &[u8]) -> Result<Area<X>> {
    let size = u32::try_from(bytes.len()).context("a journal is smaller")?;
    let chip = Chip::with_size("journal", part, size, &Power::new());
    chip.set_contents(0, bytes)?;
    let area = chip.area_of::<X>(0, size, X::WRITE as u32, X::ERASE as u32)?;
    Ok(area)
}

fn records<X: Units>(report: &mut Report, journal: &mut Journal<Area<X>>) -> Result<(), JournalError> {
    let mut packet = [0; MAX_SESSION];
    match journal.session(&mut packet)? {
        None => report.field("upload", "none is open"),
        Some((length, progress)) => {
            let packet = packet.get(..length).unwrap_or_default();
            let of = match InitPacket::decode(packet) {
                Ok(packet) => match packet.init.app_size {
                    Some(size) => format!(" of {size}"),
                    None => String::new(),
                },
                Err(_) => String::new(),
            };
            report.field(
                "upload",
                format!("open, {}{of} bytes are in flash", progress.offset),
            );
            report.field("check of these", format!("{:08X}", progress.check));
            report.field("opened with", format!("{length} bytes"));
        }
    }
    match journal.versions()? {
        None => report.field("versions", "none recorded"),
        Some(versions) => {
            for (name, image) in [
                ("version before", versions.base),
                ("version staged", versions.staged),
            ] {
                report.field(
                    name,
                    format!("{}, image {}...", image.fw_version, hex(&image.digest)),
                );
            }
        }
    }
    Ok(())
}

fn outlook_words(outlook: Outlook) -> String {
    match outlook {
        Outlook::Nothing => "nothing".to_owned(),
        Outlook::Install(SwapType::Test) => "an install on test".to_owned(),
        Outlook::Install(_) => "an install for good".to_owned(),
        Outlook::Revert => "the image before".to_owned(),
        Outlook::Impossible(obstacle) => format!("something impossible: {obstacle}"),
        Outlook::Unknown(kind) => format!("not known: a flash cannot be read ({kind:?})"),
    }
}

fn refusal<E>(error: VerifyError<E>) -> String
where
    VerifyError<E>: std::fmt::Display,
{
    error.to_string()
}
