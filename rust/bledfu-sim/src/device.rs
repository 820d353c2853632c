// SPDX-License-Identifier: Apache-2.0
//! The device: two flashes that survive a reset ([`Board`]), and the application that runs between two resets
//! ([`Device`]). All decisions are made in the logic crates; this is the wiring that a product's `firmware` and `boot`
//! contain.
//!
//! ```text
//! internal  the processor's part   0xC000  primary slot        behind it: with scratch, one page
//! external  the part               0       secondary slot      slot size  journal, two sectors
//!                                  behind the journal: with copy, a second place for images
//! ```
//! Write and erase units are constants of the types ([`BoardOf`], [`DeviceOf`]), as on a device. [`Board`] and [`Device`]
//! have those of an nRF52840; [`Setup::with_units`] finds the types of any other.

use std::path::Path;

use bledfu_slot::areas::Partitions;
use bledfu_slot::copy_roles::{self, Place};
use bledfu_slot::decide::{Downgrade, Rules};
use bledfu_slot::evidence::{self, Log};
use bledfu_slot::header::{AddressRange, ImageHeader};
use bledfu_slot::layout::{Algorithm, Geometry, Layout};
use bledfu_slot::trailer::{self, SwapType, Trailer};
use bledfu_slot::verify::{verify_image, Crypto, ImageInfo, ImagePolicy, Key, SoftCrypto, StreamDigest};
use bledfu_swap::{BootConfig, BootReport, NoEvidence, Store};
use bledfu_transfer::doors::{Doors, Peer};
use bledfu_transfer::inbox::{Inbox, Inlet, Next};
use bledfu_transfer::init_check::{InitPolicy, SoftDevicePolicy};
use bledfu_transfer::ring::{ring_size, smp_ring_size, Channel, Frame, PushError, Ring, MAX_FRAME};
use bledfu_transfer::secure_dfu::{self, Chip as ChipInfo, Transport};
use bledfu_transfer::service::{Config, Service, Step};
use bledfu_transfer::smp::{self, System, DEFAULT_FRAME_COUNT, DEFAULT_FRAME_SIZE};
use bledfu_transfer::upload::{self, digest_prefix, OldestAccepted, Running, Upload};

use crate::cost::{SimCrypto, CRC32_NS_PER_BYTE};
use crate::keys::{public_key_from_pem, KeyError};
use crate::nor::{AnyUnits, Area, Chip, NorError, OpenError, Units, UnitsOf, Words};
use crate::parts::{Part, Times, MX25R6435F, NRF52840, SECTOR_SIZE};
use crate::power::Power;

/// The demo keys of `tests/vectors`. Their private halves are public: they protect nothing.
const DEMO_PACKAGE_KEY: &str = include_str!("../demo/package.pub.pem");
const DEMO_IMAGE_KEY: &str = include_str!("../demo/image.pub.pem");

const PRIMARY_START: u32 = 0xC000;

/// The trusted keys, and the factory image. They live as long as the process: logic crates borrow keys, and on a device
/// they are constants.
#[derive(Clone, Copy)]
pub struct Keys {
    /// For init packets.
    pub package: &'static [Key],
    /// For images.
    pub image: &'static [Key],
    /// Images that are trusted by their digest.
    pub trusted_digests: &'static [[u8; 32]],
}

impl Keys {
    /// These keys; the factory image is trusted by its digest.
    pub fn new(package: Key, image: Key, trusted_digests: Vec<[u8; 32]>) -> Self {
        Self {
            package: Box::leak(Box::new([package])),
            image: Box::leak(Box::new([image])),
            trusted_digests: trusted_digests.leak(),
        }
    }

    /// The keys of the demo packages.
    pub fn demo() -> Self {
        let [package, image] = demo_keys().unwrap_or_else(|error| unreachable!("embedded key: {error}"));
        Self::new(package, image, Vec::new())
    }
}

/// The public demo keys: for packages, for images.
///
/// # Errors
/// None with the embedded files; it has the error type of an external key.
pub fn demo_keys() -> Result<[Key; 2], KeyError> {
    Ok([
        public_key_from_pem("the demo package key", DEMO_PACKAGE_KEY)?,
        public_key_from_pem("the demo image key", DEMO_IMAGE_KEY)?,
    ])
}

/// What identifies the image in `firmware` once it runs; `None` when it has no image header.
pub fn image_digest(firmware: &[u8]) -> Option<[u8; 32]> {
    let mut digest = StreamDigest::new(SoftCrypto.sha256());
    digest.update(firmware);
    digest.image_digest()
}

/// Whether the image in `bytes` has a vector table whose reset vector lies in `slot`.
pub fn is_linked_for(bytes: &[u8], slot: AddressRange) -> bool {
    let Ok(header) = ImageHeader::parse(bytes) else {
        return false;
    };
    let payload = bytes.get(usize::from(header.header_size)..).unwrap_or_default();
    match payload {
        [_, _, _, _, a, b, c, d, ..] => header
            .check_address(u32::from_le_bytes([*a, *b, *c, *d]), slot)
            .is_ok(),
        _ => false,
    }
}

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
            object_size: 4096,
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

    const fn journal_size(&self) -> u32 {
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
    fn spare_size(&self) -> u32 {
        match self.algorithm {
            Algorithm::SwapScratch => self.sector_size(),
            Algorithm::Copy => self.slot_size,
            _ => 0,
        }
    }

    /// Size of the trust area: two pages.
    const fn trust_size(&self) -> u32 {
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

    /// The processor's address of the primary slot.
    pub const fn address(&self) -> AddressRange {
        AddressRange {
            start: PRIMARY_START,
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

    fn config(&self, running: &ImageInfo) -> Config<'static> {
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
            chip: ChipInfo {
                part: 0x52840,
                variant: 0x4141_4430, // "AAD0"
                rom_size: 1024 * 1024,
                ram_size: 256 * 1024,
                rom_page_size: self.sector_size(),
                boot: (1, 0, PRIMARY_START),
                application_address: PRIMARY_START,
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

/// Why a boot did not start an application.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The boot stage found nothing to start.
    #[error("the device does not boot: {0}")]
    Boot(String),
    /// A flash failed while the application started.
    #[error("the application does not start: {0}")]
    Flash(#[from] NorError),
}

/// Longest packet at the smallest MTU, 23.
const SHORTEST_PACKET: usize = 20;

/// The receive ring of a device with objects of this size; the default of `CONFIG_BLEDFU_RING_SIZE` with SMP. It has
/// room for all that a peer may send before it must wait for an answer.
fn ring(object_size: u32) -> Ring<Box<[u8]>> {
    let objects = ring_size(object_size as usize, SHORTEST_PACKET);
    let frames = smp_ring_size(DEFAULT_FRAME_SIZE, DEFAULT_FRAME_COUNT, SHORTEST_PACKET);
    Ring::on(vec![0; objects.max(frames)].into_boxed_slice())
}

/// An empty inbox of a device with objects of this size.
pub fn inbox(object_size: u32) -> Inbox<Box<[u8]>> {
    Inbox::on(ring(object_size))
}

/// The board: flashes and power. Survives resets. `I` are the units of the internal flash, `X` those of the external one.
pub struct BoardOf<I, X> {
    /// How it is built.
    pub setup: Setup,
    /// Its power domain and clock.
    pub power: Power,
    /// The processor's flash.
    pub internal: Chip,
    /// The external flash.
    pub external: Chip,
    /// Primary slot.
    pub primary: Area<I>,
    /// Secondary slot.
    pub secondary: Area<X>,
    /// Journal.
    pub journal: Area<X>,
    /// Scratch, or the second place for images; empty for other algorithms.
    pub spare: Area<AnyUnits>,
    /// The trust area: what the boot stage keeps internally.
    pub trust: Area<I>,
}

/// The board of an nRF52840, or of another processor with the same units.
pub type Board = BoardOf<Words, Words>;

impl<I: Units, X: Units> BoardOf<I, X> {
    /// A board with erased flashes in RAM.
    ///
    /// # Errors
    /// If the slots do not fit the flashes, or the units differ from the setup's.
    pub fn new(setup: Setup, power: &Power) -> Result<Self, NorError> {
        let (internal, external) = if setup.full_chips {
            (
                Chip::new("internal", setup.internal, power),
                Chip::new("external", setup.part, power),
            )
        } else {
            (
                Chip::with_size(
                    "internal",
                    setup.internal,
                    PRIMARY_START + setup.slot_size + setup.spare_size() + setup.trust_size(),
                    power,
                ),
                Chip::with_size(
                    "external",
                    setup.part,
                    setup.slot_size + setup.journal_size() + setup.spare_size(),
                    power,
                ),
            )
        };
        Self::with_chips(setup, power, internal, external)
    }

    /// A board whose flashes are the files `internal.bin` and `external.bin` in `folder`.
    ///
    /// # Errors
    /// [`OpenError`] when a file cannot be used.
    pub fn open(setup: Setup, power: &Power, folder: &Path) -> Result<Self, OpenError> {
        let internal = Chip::open("internal", setup.internal, &folder.join("internal.bin"), power)?;
        let external = Chip::open("external", setup.part, &folder.join("external.bin"), power)?;
        Ok(Self::with_chips(setup, power, internal, external)?)
    }

    fn with_chips(setup: Setup, power: &Power, internal: Chip, external: Chip) -> Result<Self, NorError> {
        external.set_times(setup.times);
        let (slot, journal) = (setup.slot_size, setup.journal_size());
        let inside = (setup.write_unit, setup.sector_size());
        let outside = (setup.external_write_unit, setup.external_sector_size());
        Ok(Self {
            setup,
            power: power.clone(),
            primary: internal.area_of(PRIMARY_START, slot, inside.0, inside.1)?,
            secondary: external.area_of(0, slot, outside.0, outside.1)?,
            journal: external.area_of(slot, journal, outside.0, outside.1)?,
            spare: match setup.algorithm {
                Algorithm::SwapScratch => {
                    internal.area_of(PRIMARY_START + slot, setup.spare_size(), inside.0, inside.1)?
                }
                _ => external.area_of(slot + journal, setup.spare_size(), outside.0, outside.1)?,
            },
            trust: {
                let size = setup.trust_size();
                internal.area_of(internal.capacity() as u32 - size, size, inside.0, inside.1)?
            },
            internal,
            external,
        })
    }

    /// Programs `image` into the primary slot as the factory does.
    ///
    /// # Errors
    /// When it is larger than the slot.
    pub fn program_factory(&self, image: &[u8]) -> Result<(), NorError> {
        self.primary.set_contents(0, image)
    }

    /// The boot stage: completes or starts what the trailers request.
    ///
    /// # Errors
    /// If nothing can be started, or the power was cut.
    pub fn boot(&self) -> Result<BootReport, StartError> {
        let config = BootConfig {
            layout: self.setup.layout(),
            policy: self.setup.image_policy(),
            downgrade: self.setup.downgrade,
            verify_primary: true,
        };
        let crypto = SimCrypto::new(&self.power);
        let mut trust = self.trust.clone();
        let evidence: &mut dyn Store = match self.setup.has_trust_area {
            true => &mut Log::new(&mut trust),
            false => &mut NoEvidence,
        };
        bledfu_swap::boot(
            &mut self.primary.clone(),
            &mut self.secondary.clone(),
            &mut self.spare.clone(),
            &config,
            &crypto,
            evidence,
            &mut |_| (),
        )
        .map_err(|error| StartError::Boot(error.to_string()))
    }

    /// Starts the application that is in the primary slot.
    ///
    /// # Errors
    /// When a flash fails.
    pub fn start(&self, booted: &ImageInfo) -> Result<DeviceOf<I, X>, StartError> {
        let rules = self.rules();
        let trailer = rules.primary(self.primary_trailer()?, Some(&booted.digest));
        let confirmed = trailer.is_confirmed(&self.setup.layout());
        let running = Running {
            digest: digest_prefix(&booted.digest),
            fw_version: self.setup.fw_version,
            confirmed,
        };
        let (receiving, layout) = self.receiving()?;
        let areas = Partitions {
            primary: self.primary.clone(),
            secondary: receiving,
            spare: self.spare.clone(),
            journal: self.journal.clone(),
        };
        let setup = upload::Setup {
            layout,
            image_policy: self.setup.image_policy(),
            rules,
            running,
            admit: |_| true,
            doors: self.setup.doors,
            floor: self.setup.floor,
            must_keep_version: self.setup.must_keep_version,
        };
        let upload = Upload::new(areas, SimCrypto::new(&self.power), setup);
        let mut service = Service::new(upload, self.setup.config(booted));
        service.start();
        Ok(DeviceOf {
            service,
            inbox: inbox(self.setup.object_size),
            taken: 0,
            image: *booted,
            power: self.power.clone(),
            peer: self.setup.peer,
        })
    }

    /// What the boot stage considers beside the trailers, as the application reads it at start.
    pub fn rules(&self) -> Rules {
        let is_kept = self.setup.has_trust_area;
        Rules {
            downgrade: self.setup.downgrade,
            is_kept,
            evidence: is_kept.then(|| evidence::last(&mut self.trust.clone())).flatten(),
        }
    }

    /// Trailer of the primary slot.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn primary_trailer(&self) -> Result<Trailer, NorError> {
        Trailer::read(&mut self.primary.clone(), &self.setup.layout().primary_trailer())
    }

    /// Where the next update goes, or waits, and the layout with that area as the secondary slot.
    ///
    /// # Errors
    /// When the primary slot cannot be read.
    pub fn receiving(&self) -> Result<(Area<X>, Layout), NorError> {
        let (mut primary, mut first, mut second) =
            (self.primary.clone(), self.secondary.clone(), self.spare.clone());
        let layout = self.setup.layout();
        let incoming = copy_roles::incoming(&mut primary, &mut first, &mut second, &layout)?;
        let area = match incoming {
            Place::First => first,
            Place::Second => second.with_units()?,
        };
        Ok((area, layout.with_incoming(incoming)))
    }

    /// Whether the next boot installs what was received, for a test or for good.
    ///
    /// # Errors
    /// When the trailers cannot be read.
    pub fn is_pending(&self) -> Result<bool, NorError> {
        let (mut area, layout) = self.receiving()?;
        let trailer = Trailer::read(&mut area, &layout.secondary_trailer())?;
        Ok(trailer.magic == trailer::Magic::Good
            && matches!(trailer.swap_type(), SwapType::Test | SwapType::Permanent))
    }

    /// The image in the primary slot, if it is one this device may start.
    pub fn primary_image(&self) -> Option<ImageInfo> {
        self.image_in(&self.primary, 0)
    }

    /// The image where the next update goes, or the previous one at the start of that slot, if this device may start
    /// it.
    pub fn secondary_image(&self) -> Option<ImageInfo> {
        let (area, layout) = self.receiving().ok()?;
        let start = layout.upload_offset();
        self.image_in(&area, start).or_else(|| self.image_in(&area, 0))
    }

    /// The received bytes: the slot from where an update starts.
    pub fn received(&self) -> Vec<u8> {
        match self.receiving() {
            Ok((area, layout)) => area.contents().split_off(layout.upload_offset() as usize),
            Err(_) => Vec::new(),
        }
    }

    fn image_in<U: Units>(&self, slot: &Area<U>, start: u32) -> Option<ImageInfo> {
        let limit = self.setup.layout().max_image_size();
        let crypto = SoftCrypto;
        verify_image(
            &mut slot.clone(),
            start,
            slot.size(),
            limit,
            &self.setup.image_policy(),
            &crypto,
        )
        .ok()
    }
}

/// The areas of the simulated device.
type SimAreas<I, X> = Partitions<Area<I>, Area<X>, Area<AnyUnits>, Area<X>>;

/// The application, from its start to the next reset. `I` are the units of the internal flash, `X` those of the
/// external one.
pub struct DeviceOf<I: Units, X: Units> {
    service: Service<'static, SimAreas<I, X>, SimCrypto, DEFAULT_FRAME_SIZE>,
    inbox: Inbox<Box<[u8]>>,
    /// Frames that the worker took out of the inbox.
    taken: u64,
    image: ImageInfo,
    power: Power,
    /// Who connects.
    peer: Peer,
}

/// The application on an nRF52840, or on another processor with the same units.
pub type Device = DeviceOf<Words, Words>;

impl<I: Units, X: Units> DeviceOf<I, X> {
    /// The image that runs.
    pub fn image(&self) -> &ImageInfo {
        &self.image
    }

    /// Whether it is confirmed.
    pub fn is_confirmed(&self) -> bool {
        self.service.upload().running().confirmed
    }

    /// The self-test has passed: the image confirms itself at once.
    ///
    /// # Errors
    /// When the trailer cannot be written.
    pub fn confirm(&mut self) -> Result<(), StartError> {
        let confirmed = self.service.upload_mut().confirm();
        confirmed.map_err(|error| StartError::Boot(format!("the image could not be confirmed: {error}")))
    }

    /// Bluetooth thread: a write arrived. It is only put into the inbox.
    ///
    /// # Errors
    /// [`PushError::Full`]: the peer sent more than it may before an answer; the write is lost.
    pub fn receive(&mut self, frame: Frame<'_>) -> Result<(), PushError> {
        let now_ms = self.now_ms();
        self.inbox.push(frame, now_ms)
    }

    /// Like [`Device::receive`], from a peer that can be held back.
    ///
    /// # Errors
    /// [`PushError::Full`]: the peer has to wait.
    pub fn offer(&mut self, frame: Frame<'_>) -> Result<(), PushError> {
        let now_ms = self.now_ms();
        self.inbox.offer(frame, now_ms)
    }

    /// A peer has connected and turned notifications on.
    pub fn link_up(&mut self, transport: Transport) {
        self.inbox.link_up(transport);
        self.inbox.peer(self.peer);
    }

    /// The trust of the current and the next peer: it has paired, or is a stranger again.
    pub fn meet(&mut self, peer: Peer) {
        self.peer = peer;
        self.inbox.peer(peer);
    }

    /// The product's button was pressed: strangers no longer have to wait.
    pub fn allow_updates(&mut self) {
        self.inbox.allow_updates();
    }

    /// The peer has disconnected; what it sent and was not handled yet is dropped.
    pub fn link_down(&mut self) {
        self.inbox.link_down();
    }

    /// Whether the inbox is empty.
    pub fn is_inbox_empty(&self) -> bool {
        self.inbox.is_empty()
    }

    /// See [`Service::is_settled`].
    pub fn is_settled(&self) -> bool {
        self.service.is_settled()
    }

    /// Worker: the next step. Virtual time passes on the board's clock.
    pub fn step(&mut self) -> Option<Step<'_>> {
        let now_ms = self.now_ms();
        let mut inlet = Costed {
            inlet: &mut self.inbox,
            taken: &mut self.taken,
            power: &self.power,
        };
        self.service.step(&mut inlet, now_ms)
    }

    /// Frames that the worker took out of the inbox since the start.
    pub fn frames_taken(&self) -> u64 {
        self.taken
    }

    /// Worker: like [`Device::step`], for a device whose inbox is kept elsewhere.
    pub fn step_from<N: Inlet>(&mut self, inlet: &mut N) -> Option<Step<'_>> {
        let now_ms = self.now_ms();
        let mut inlet = Costed {
            inlet,
            taken: &mut self.taken,
            power: &self.power,
        };
        self.service.step(&mut inlet, now_ms)
    }

    /// Worker: see [`Service::datagram`].
    pub fn datagram(&mut self, bytes: &[u8]) -> usize {
        let now_ms = self.now_ms();
        self.service.datagram(bytes, self.peer, now_ms)
    }

    /// Worker: see [`Service::not_sent`].
    pub fn not_sent(&mut self) {
        self.service.not_sent();
    }

    fn now_ms(&self) -> u64 {
        self.power.now_ns() / 1_000_000
    }

    /// Maximum number of bytes in the ring so far.
    pub fn ring_high_water(&self) -> usize {
        self.inbox.high_water()
    }

    /// The upload, to read its state.
    pub fn upload(&self) -> &Upload<'static, SimAreas<I, X>, SimCrypto> {
        self.service.upload()
    }
}

/// Frames take processor time: the CRC-32 of each byte.
struct Costed<'a, I> {
    inlet: &'a mut I,
    taken: &'a mut u64,
    power: &'a Power,
}

impl<I: Inlet> Inlet for Costed<'_, I> {
    fn next(&mut self, buffer: &mut [u8; MAX_FRAME]) -> Option<Next> {
        let next = self.inlet.next(buffer);
        *self.taken += u64::from(matches!(next, Some(Next::Frame(..))));
        if let Some(Next::Frame(Channel::Control | Channel::Packet, length)) = next {
            self.power.advance_ns(length as u64 * CRC32_NS_PER_BYTE);
        }
        next
    }

    fn is_link_gone(&self) -> bool {
        self.inlet.is_link_gone()
    }
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
    }
}
