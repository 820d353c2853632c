// SPDX-License-Identifier: Apache-2.0
//! How a device is built and configured.

use bledfu_slot::decide::Downgrade;
use bledfu_slot::header::AddressRange;
use bledfu_slot::layout::{Algorithm, Geometry, Layout};
use bledfu_slot::verify::{ImageInfo, ImagePolicy};
use bledfu_transfer::doors::{Doors, Peer};
use bledfu_transfer::init_check::{InitPolicy, SoftDevicePolicy};
use bledfu_transfer::secure_dfu::{self, Chip as ChipInfo};
use bledfu_transfer::service::Config;
use bledfu_transfer::smp::{self, System, DEFAULT_FRAME_COUNT};
use bledfu_transfer::upload::OldestAccepted;

use super::{primary_start, Keys};
use crate::cost::CryptoCost;
use crate::nor::{Units, UnitsOf, Words};
use crate::parts::{Part, Times, MX25R6435F, NRF52840, SECTOR_SIZE};

/// Largest data object in bytes; the default of `CONFIG_BLEDFU_OBJECT_SIZE`.
pub const OBJECT_SIZE: u32 = 32 * 1024;

/// How a device is built and configured.
#[derive(Clone, Copy)]
pub struct Setup {
    /// The processor's flash.
    pub internal: &'static Part,
    /// Write unit of the processor's flash in bytes.
    pub write_unit: u32,
    /// The external flash.
    pub part: &'static Part,
    /// Write unit of the external flash's driver in bytes.
    pub external_write_unit: u32,
    /// What the processor needs for hashes and signatures.
    pub crypto: CryptoCost,
    /// Typical or maximum times, for the external flash.
    pub times: Times,
    /// Size of each slot in bytes.
    pub slot_size: u32,
    /// MCUboot's `BOOT_MAX_IMG_SECTORS`: sizes the trailer.
    pub max_sectors: u32,
    /// How the boot stage installs.
    pub algorithm: Algorithm,
    /// The boot stage has a trust area, on the last two pages of the processor's flash.
    pub has_trust_area: bool,
    /// Which images may replace the running one.
    pub downgrade: Downgrade,
    /// Keys.
    pub keys: Keys,
    /// Hardware version that packages must name.
    pub hw_version: u32,
    /// Version of the factory image, as in init packets.
    pub fw_version: u32,
    /// What to do with a package's SoftDevice requirement.
    pub soft_device: SoftDevicePolicy<'static>,
    /// Largest data object in bytes.
    pub object_size: u32,
    /// Only images whose reset vector lies in the primary slot are accepted and started, as on a Cortex-M. Images that
    /// are not programs, like the demo's, have none.
    pub check_address: bool,
    /// The trust of the peer; a nearby phone has paired.
    pub peer: Peer,
    /// What strangers may do.
    pub doors: Doors,
    /// The oldest image that the application accepts, in addition to the boot stage's rules.
    pub floor: OldestAccepted,
    /// A package is staged only if its version can be recorded in the journal.
    pub must_keep_version: bool,
    /// Flashes have their real size; small devices for campaigns get only what their slots need.
    pub full_chips: bool,
}

impl Setup {
    /// An nRF52840 DK: the part on that board, slots of 0xE8000 bytes, demo keys, hardware version 52.
    pub fn demo() -> Self {
        Self {
            internal: &NRF52840,
            write_unit: 4,
            part: &MX25R6435F,
            external_write_unit: 4,
            crypto: CryptoCost::CORTEX_M,
            times: Times::Typical,
            slot_size: 0xE8000,
            max_sectors: 256,
            algorithm: Algorithm::SwapOffset,
            has_trust_area: true,
            downgrade: Downgrade::ByVersion,
            keys: Keys::demo(),
            hw_version: 52,
            fw_version: 1,
            soft_device: SoftDevicePolicy::Absent,
            object_size: OBJECT_SIZE,
            check_address: false,
            peer: Peer::Trusted,
            doors: Doors::default(),
            floor: OldestAccepted::default(),
            must_keep_version: true,
            full_chips: true,
        }
    }

    /// The same with slots of `sectors` pages: a whole update takes milliseconds to simulate.
    pub fn small(sectors: u32) -> Self {
        let slot_size = sectors * SECTOR_SIZE;
        Self {
            slot_size,
            max_sectors: sectors.max(32),
            full_chips: false,
            ..Self::demo()
        }
    }

    /// The same on another processor with the flash `internal`, written in units of `write_unit` bytes. A driver of
    /// external flash moves at most words. Slots keep their size; those of a [small](Setup::small) device keep their
    /// number of pages.
    #[must_use]
    pub fn on(self, internal: &'static Part, write_unit: u32) -> Self {
        let pages = self.slot_size / self.sector_size();
        let on = Self {
            internal,
            write_unit,
            external_write_unit: write_unit.min(4),
            ..self
        };
        let slot_size = match self.full_chips {
            true => self.slot_size.next_multiple_of(on.external_sector_size()),
            false => pages * on.sector_size(),
        };
        Self {
            slot_size,
            object_size: on.object_size.max(on.external_sector_size()),
            ..on
        }
    }

    /// Erase unit of the processor's flash.
    pub const fn sector_size(&self) -> u32 {
        self.internal.sector_size()
    }

    /// Erase unit of the external flash: its driver reports pages as large as those of the processor's flash, because
    /// swaps exchange page by page (Zephyr's `*_LAYOUT_PAGE_SIZE`).
    pub const fn external_sector_size(&self) -> u32 {
        let (inside, outside) = (self.sector_size(), self.part.sector_size());
        if inside > outside {
            inside
        } else {
            outside
        }
    }

    /// Spacing of trailer fields (MCUboot `BOOT_MAX_ALIGN`): 8, or the largest write unit if it is larger.
    pub fn max_align(&self) -> u32 {
        self.write_unit.max(self.external_write_unit).max(8)
    }

    pub(super) const fn journal_size(&self) -> u32 {
        2 * self.external_sector_size()
    }

    /// The slots' layout.
    ///
    /// # Panics
    /// If the slot size is impossible: sizes are chosen by tests and tools, not by a peer.
    pub fn layout(&self) -> Layout {
        let primary = Geometry {
            slot_size: self.slot_size,
            sector_size: self.sector_size(),
            write_size: self.write_unit,
        };
        let secondary = Geometry {
            slot_size: self.slot_size,
            sector_size: self.external_sector_size(),
            write_size: self.external_write_unit,
        };
        let spare = match self.algorithm {
            Algorithm::SwapScratch => Some(primary),
            Algorithm::Copy => Some(secondary),
            _ => None,
        };
        let spare = spare.map(|area| Geometry {
            slot_size: self.spare_size(),
            ..area
        });
        match Layout::with_spare(
            self.algorithm,
            primary,
            secondary,
            spare,
            self.max_align(),
            self.max_sectors,
        ) {
            Ok(layout) => layout,
            Err(error) => panic!("slots of {:#x} bytes: {error}", self.slot_size),
        }
    }

    /// Size of the spare area: one page of scratch after the primary slot, or another slot after the journal.
    pub(super) fn spare_size(&self) -> u32 {
        match self.algorithm {
            Algorithm::SwapScratch => self.sector_size(),
            Algorithm::Copy => self.slot_size,
            _ => 0,
        }
    }

    /// Size of the trust area: two pages.
    pub(super) const fn trust_size(&self) -> u32 {
        2 * self.sector_size()
    }

    /// Whether the parts can be written in the units of this setup.
    ///
    /// # Errors
    /// [`UnitsError`], which lists the possible units.
    pub fn check_units(&self) -> Result<(), UnitsError> {
        for (part, unit) in [
            (self.internal, self.write_unit),
            (self.part, self.external_write_unit),
        ] {
            if !part.write_units().any(|fits| fits == unit) {
                return Err(UnitsError {
                    part: part.name,
                    unit,
                    fits: part.write_units().map(|unit| unit.to_string()).collect(),
                });
            }
        }
        Ok(())
    }

    /// Runs `what` with the types that have the units of this setup as constants.
    ///
    /// # Errors
    /// [`UnitsError`] as for [`Setup::check_units`], or if there are no types with these units.
    pub fn with_units<W: WithUnits>(&self, what: W) -> Result<W::Output, UnitsError> {
        self.check_units()?;
        let units = (
            self.write_unit,
            self.sector_size(),
            self.external_write_unit,
            self.external_sector_size(),
        );
        Ok(match units {
            (1, 4096, 1, 4096) => what.run::<UnitsOf<1, 4096>, UnitsOf<1, 4096>>(),
            (2, 4096, 2, 4096) => what.run::<UnitsOf<2, 4096>, UnitsOf<2, 4096>>(),
            (4, 4096, 4, 4096) => what.run::<Words, Words>(),
            (8, 4096, 4, 4096) => what.run::<UnitsOf<8, 4096>, Words>(),
            (16, 4096, 4, 4096) => what.run::<UnitsOf<16, 4096>, Words>(),
            (32, 4096, 4, 4096) => what.run::<UnitsOf<32, 4096>, Words>(),
            (4, 8192, 4, 8192) => what.run::<UnitsOf<4, 8192>, UnitsOf<4, 8192>>(),
            (8, 8192, 4, 8192) => what.run::<UnitsOf<8, 8192>, UnitsOf<4, 8192>>(),
            (16, 8192, 4, 8192) => what.run::<UnitsOf<16, 8192>, UnitsOf<4, 8192>>(),
            (32, 8192, 4, 8192) => what.run::<UnitsOf<32, 8192>, UnitsOf<4, 8192>>(),
            _ => {
                return Err(UnitsError {
                    part: self.part.name,
                    unit: self.external_write_unit,
                    fits: vec![self.write_unit.min(4).to_string()],
                })
            }
        })
    }

    /// Where the primary slot begins in the processor's flash.
    pub(super) const fn primary_start(&self) -> u32 {
        primary_start(self.sector_size())
    }

    /// The processor's address of the primary slot.
    pub const fn address(&self) -> AddressRange {
        AddressRange {
            start: self.primary_start(),
            size: self.slot_size,
        }
    }

    /// Which images the device starts.
    pub fn image_policy(&self) -> ImagePolicy<'static> {
        ImagePolicy {
            keys: self.keys.image,
            trusted_digests: self.keys.trusted_digests,
            unsigned: false,
            address: self.check_address.then(|| self.address()),
        }
    }

    pub(super) fn config(&self, running: &ImageInfo) -> Config<'static> {
        Config {
            secure_dfu: self.secure_dfu(running),
            smp: smp_config(self.downgrade != Downgrade::Allowed),
            reset_delay_ms: 0,
        }
    }

    fn secure_dfu(&self, running: &ImageInfo) -> secure_dfu::Config<'static> {
        secure_dfu::Config {
            init: InitPolicy {
                package_keys: self.keys.package,
                signature_required: true,
                hw_version: self.hw_version,
                soft_device: self.soft_device,
                downgrade_allowed: false,
                same_version_allowed: true,
                debug_build: false,
            },
            object_size: self.object_size,
            is_object_buffered: super::is_object_buffered(self.object_size),
            chip: ChipInfo {
                part: 0x52840,
                variant: 0x4141_4430, // "AAD0"
                rom_size: 1024 * 1024,
                ram_size: 256 * 1024,
                rom_page_size: self.sector_size(),
                boot: (1, 0, self.primary_start()),
                application_address: self.primary_start(),
                application_length: running.total_size,
            },
        }
    }
}

/// Code for a device whose units are known only at run time: see [`Setup::with_units`].
pub trait WithUnits {
    /// Its result.
    type Output;

    /// Runs with units `I` of the internal and `X` of the external flash.
    fn run<I: Units, X: Units>(self) -> Self::Output;
}

/// A part cannot be written in these units.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {part} is not written in units of {unit} bytes here, but in units of {}", fits.join(", "))]
pub struct UnitsError {
    /// Name of the part.
    pub part: &'static str,
    /// Write unit in bytes.
    pub unit: u32,
    /// Write units that are possible.
    pub fits: Vec<String>,
}

fn smp_config(no_downgrade: bool) -> smp::Config<'static> {
    smp::Config {
        system: System {
            kernel: "bledfu",
            node: "simulator",
            release: env!("CARGO_PKG_VERSION"),
            version: env!("CARGO_PKG_VERSION"),
            build: "",
            machine: "arm",
            processor: "cortex-m4",
            board: "nrf52840dk",
            os: "bledfu",
        },
        no_downgrade,
        frame_count: DEFAULT_FRAME_COUNT as u32,
        forward: None,
        admit_reset: None,
    }
}
