// SPDX-License-Identifier: Apache-2.0
//! What this device is: its partitions, keys and settings, and what it does when the service tells it something.
//!
//! ```text
//! internal  0x0D000  primary slot    928 KiB, the image runs here
//! external  0x00000  secondary slot  928 KiB
//!           0xE8000  journal           8 KiB
//! ```
//! The map is that of `dts/layouts/internal-1m.dtsi` and `external.dtsi`, so the boot stage may be MCUboot or bledfu's own, built for
//! the same map and swap using offset.

use crate::handover::OBJECT_SIZE;
use bledfu_slot::areas::{Areas as _, NoFlash, Partitions};
use bledfu_slot::retry::Retry;
use bledfu_slot::verify::{ImagePolicy, Key, SoftCrypto};
use bledfu_slot::{AddressRange, Algorithm, LayoutError};
use bledfu_transfer::event::{Admission, Event};
use bledfu_transfer::init_check::{InitPolicy, SoftDevicePolicy};
use bledfu_transfer::secure_dfu;
use bledfu_transfer::service::{Config, Service};
use bledfu_transfer::smp::{self, Reassembly, System, DEFAULT_FRAME_COUNT, DEFAULT_FRAME_SIZE};
use bledfu_transfer::upload::{Running, Setup, UpdateMemory, Upload};
use core::cell::RefCell;
use core::fmt;
use embassy_embedded_hal::flash::partition::BlockingPartition;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::blocking_mutex::Mutex;
use embedded_storage::nor_flash::NorFlash;

/// Name of the device on the air.
pub const NAME: &str = "bledfu embassy";
/// Longest SMP frame in bytes.
pub const SMP_FRAME_SIZE: usize = DEFAULT_FRAME_SIZE;

const SLOT_SIZE: u32 = 0xE8000;
const PRIMARY_AT: u32 = 0xD000;
const SECONDARY_AT: u32 = 0;
const JOURNAL_AT: u32 = SECONDARY_AT + SLOT_SIZE;
const JOURNAL_SIZE: u32 = 0x2000;
/// MCUboot's `BOOT_MAX_ALIGN` and `BOOT_MAX_IMG_SECTORS`: the boot stage must be built with the same.
const MAX_ALIGN: u32 = 8;
const MAX_SECTORS: u32 = 256;

/// Hardware version that packages must name.
const HW_VERSION: u32 = 52;
/// Version of this firmware in the sense of the init packet.
const FW_VERSION: u32 = 1;

static PACKAGE_KEYS: [Key; 1] = [Key::new(*include_bytes!(concat!(
    env!("OUT_DIR"),
    "/package.key"
)))];
static IMAGE_KEYS: [Key; 1] = [Key::new(*include_bytes!(concat!(env!("OUT_DIR"), "/image.key")))];

/// A flash that its partitions share.
pub type Flash<F> = Mutex<NoopRawMutex, RefCell<F>>;
/// A part of one.
pub type Partition<'f, F> = BlockingPartition<'f, NoopRawMutex, F>;
/// The partitions of this device. The journal is on the external flash, too; swap using offset needs no spare area.
pub type Areas<'f, I, X> = Partitions<Partition<'f, I>, Partition<'f, X>, NoFlash, Partition<'f, X>>;
/// The update service of this device.
pub type Updates<'f, I, X> = Service<'f, Areas<'f, I, X>, SoftCrypto, SMP_FRAME_SIZE>;

/// What the product does by itself.
pub trait Device {
    /// Something happened that a product may want to show.
    fn tell(&mut self, event: Event);

    /// The boot stage has an update to install, or the peer asked for a reset. A product that returns resets when it likes.
    fn reset(&mut self);
}

/// Why there is no update service.
#[derive(Debug)]
pub enum StartError<E> {
    /// The partitions do not fit together.
    Layout(LayoutError),
    /// The primary slot cannot be read.
    Flash(E),
}

impl<E: fmt::Debug> fmt::Display for StartError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(error) => error.fmt(f),
            Self::Flash(error) => write!(f, "the primary slot cannot be read: {error:?}"),
        }
    }
}

/// Memory that is lent to the update service.
pub struct Memory {
    update: UpdateMemory,
    reassembly: Reassembly<SMP_FRAME_SIZE>,
}

impl Memory {
    /// Empty.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            update: UpdateMemory::new(),
            reassembly: Reassembly::new(),
        }
    }
}

/// The update service on these two flashes. With `check_address` images are refused that are not linked for the primary slot;
/// the images of this project's tests are no programs, so the PC takes any.
///
/// # Errors
/// [`StartError`].
pub fn updates<'f, I: NorFlash, X: NorFlash>(
    internal: &'f Flash<I>,
    external: &'f Flash<X>,
    memory: &'f mut Memory,
    check_address: bool,
) -> Result<Updates<'f, I, X>, StartError<<Partition<'f, I> as embedded_storage::nor_flash::ErrorType>::Error>>
{
    let mut areas = Partitions {
        primary: BlockingPartition::new(internal, PRIMARY_AT, SLOT_SIZE),
        secondary: BlockingPartition::new(external, SECONDARY_AT, SLOT_SIZE),
        spare: NoFlash,
        journal: BlockingPartition::new(external, JOURNAL_AT, JOURNAL_SIZE),
    };
    let layout = areas
        .layout(Algorithm::SwapOffset, MAX_ALIGN, MAX_SECTORS)
        .map_err(StartError::Layout)?;
    let running =
        Running::read(&mut Retry(&mut areas.primary), &layout, FW_VERSION).map_err(StartError::Flash)?;
    let setup = Setup {
        layout,
        image_policy: ImagePolicy {
            keys: &IMAGE_KEYS,
            trusted_digests: &[],
            unsigned: false,
            address: check_address.then_some(AddressRange {
                start: PRIMARY_AT,
                size: SLOT_SIZE,
            }),
        },
        running,
        rules: Default::default(),
        admit: |_| Admission::Accept,
        doors: Default::default(),
        floor: Default::default(),
        must_keep_version: true,
    };
    let config = Config {
        secure_dfu: secure_dfu::Config {
            init: InitPolicy {
                package_keys: &PACKAGE_KEYS,
                signature_required: true,
                hw_version: HW_VERSION,
                soft_device: SoftDevicePolicy::Absent,
                downgrade_allowed: false,
                same_version_allowed: true,
                debug_build: false,
            },
            object_size: OBJECT_SIZE,
            is_object_buffered: true,
            // Asked for over a serial transport only.
            chip: secure_dfu::Chip::default(),
        },
        smp: smp::Config {
            system: System {
                kernel: "embassy",
                node: NAME,
                os: "embassy",
                ..System::default()
            },
            no_downgrade: false,
            frame_count: DEFAULT_FRAME_COUNT as u32,
            forward: None,
            admit_reset: None,
        },
        reset_delay_ms: 0,
    };
    Ok(Service::new(
        Upload::new(areas, SoftCrypto, setup, (&mut memory.update).into()),
        config,
        &mut memory.reassembly,
    ))
}
