// SPDX-License-Identifier: Apache-2.0
//! The board: flashes and power, the boot stage that runs on it, and the start of the application.

#[cfg(not(target_family = "wasm"))]
use std::path::Path;

use bledfu_slot::areas::Partitions;
use bledfu_slot::copy_roles::{self, Place};
use bledfu_slot::decide::Rules;
use bledfu_slot::evidence::{self, Log};
use bledfu_slot::layout::{Algorithm, Layout};
use bledfu_slot::trailer::{self, SwapType, Trailer};
use bledfu_slot::verify::{verify_image, ImageInfo, SoftCrypto};
use bledfu_swap::{BootConfig, BootReport, NoEvidence, Store};
use bledfu_transfer::event::Admission;
use bledfu_transfer::lent::Lent;
use bledfu_transfer::service::Service;
use bledfu_transfer::smp::Reassembly;
use bledfu_transfer::upload::{self, digest_prefix, Running, Upload, Workspace};

use super::{inbox, DeviceOf, Setup};
use crate::cost::SimCrypto;
#[cfg(not(target_family = "wasm"))]
use crate::nor::OpenError;
use crate::nor::{AnyUnits, Area, Chip, NorError, Units, Words};
use crate::power::Power;

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
                    setup.primary_start() + setup.slot_size + setup.spare_size() + setup.trust_size(),
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
    #[cfg(not(target_family = "wasm"))]
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
            primary: internal.area_of(setup.primary_start(), slot, inside.0, inside.1)?,
            secondary: external.area_of(0, slot, outside.0, outside.1)?,
            journal: external.area_of(slot, journal, outside.0, outside.1)?,
            spare: match setup.algorithm {
                Algorithm::SwapScratch => internal.area_of(
                    setup.primary_start() + slot,
                    setup.spare_size(),
                    inside.0,
                    inside.1,
                )?,
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
        let crypto = SimCrypto::new(&self.power, self.setup.crypto);
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
            admit: |_| Admission::Accept,
            doors: self.setup.doors,
            floor: self.setup.floor,
            must_keep_version: self.setup.must_keep_version,
        };
        let crypto = SimCrypto::new(&self.power, self.setup.crypto);
        let upload = Upload::new(areas, crypto, setup, Workspace::boxed());
        let reassembly = Lent::boxed(Reassembly::new());
        let mut service = Service::new(upload, self.setup.config(booted), reassembly);
        service.start();
        Ok(DeviceOf {
            service,
            inbox: inbox(self.setup.object_size),
            taken: 0,
            expanded: 0,
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
