// SPDX-License-Identifier: Apache-2.0
//! From partitions, keys and options to a running service.

use crate::platform::Platform;
use crate::{options, Areas, Device, SHORTEST_PACKET};
use bledfu_slot::copy_roles::{self, Place};
use bledfu_slot::decide::{Downgrade, Rules};
use bledfu_slot::evidence;
use bledfu_slot::retry::Retry;
use bledfu_slot::trailer::{self, TrailerError};
use bledfu_slot::verify::{read_info, ImagePolicy, Key};
use bledfu_slot::{AddressRange, Algorithm, Geometry, Layout, LayoutError, Trailer, Version};
use bledfu_text::{text, words, Line, Text};
use bledfu_transfer::doors::{ConfirmBy, Doors};
use bledfu_transfer::event::{Admission, Incoming};
use bledfu_transfer::init_check::{InitPolicy, SoftDevicePolicy};
use bledfu_transfer::note;
use bledfu_transfer::ring::holds_object;
use bledfu_transfer::secure_dfu::{self, Chip};
use bledfu_transfer::service::{Config, Service};
use bledfu_transfer::smp::{self, Reassembly, System};
use bledfu_transfer::upload::{digest_prefix, OldestAccepted, Running, Setup, UpdateMemory, Upload};
use bledfu_wire::smp::Code;
use bledfu_zephyr::ble;
use bledfu_zephyr::flash::{
    primary_address, Area, AreaError, FlashError, Partition, SECTOR_SIZE, WRITE_SIZE,
};
use bledfu_zephyr::worker::{self, Answer, Event, Question};
use bledfu_zephyr::ZephyrError;

/// Maximum number of public keys of one kind: two, and two more for a key rollover.
const MAX_KEYS: usize = 4;

/// Public keys of one kind.
pub type KeyRing = heapless::Vec<Key, MAX_KEYS>;

/// Why this build has no update service.
pub enum StartError {
    Area(AreaError),
    Layout(LayoutError),
    Flash,
    Trailer(TrailerError<FlashError>),
}

impl Text for StartError {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::Area(error) => error.put(line),
            Self::Layout(error) => error.put(line),
            Self::Flash => words!("the primary slot cannot be read").put(line),
            Self::Trailer(error) => error.put(line),
        }
    }
}

bledfu_text::display!(StartError);

/// The keys built into the firmware.
pub fn keys(kind: worker::Keys) -> KeyRing {
    worker::keys(kind)
        .iter()
        .take(MAX_KEYS)
        .map(|key| Key::new(*key))
        .collect()
}

fn geometry(area: &Area) -> Geometry {
    Geometry {
        slot_size: area.size(),
        sector_size: SECTOR_SIZE,
        write_size: WRITE_SIZE,
    }
}

fn open(partition: Partition) -> Result<Area, StartError> {
    Area::open(partition).map_err(StartError::Area)
}

/// The partitions and their layout. With copy there are two places for images that take turns: the place for the next
/// update is the secondary slot, the other one the spare area. The boot stage calls the same function.
pub fn areas(algorithm: Algorithm) -> Result<(Areas, Layout), StartError> {
    let mut primary = open(Partition::Primary)?;
    let mut secondary = open(Partition::Secondary)?;
    let mut spare = match algorithm.has_spare() {
        true => open(Partition::Spare)?,
        false => Area::none(),
    };
    let mut layout = Layout::with_spare(
        algorithm,
        geometry(&primary),
        geometry(&secondary),
        algorithm.has_spare().then(|| geometry(&spare)),
        options::MAX_ALIGN,
        options::MAX_IMG_SECTORS,
    )
    .map_err(StartError::Layout)?;
    if algorithm == Algorithm::Copy {
        let incoming = copy_roles::incoming(
            &mut Retry(&mut primary),
            &mut Retry(&mut secondary),
            &mut Retry(&mut spare),
            &layout,
        )
        .map_err(|_| StartError::Flash)?;
        if incoming == Place::Second {
            core::mem::swap(&mut secondary, &mut spare);
        }
        layout = layout.with_incoming(incoming);
    }
    let journal = open(Partition::Journal)?;
    let areas = Areas {
        primary,
        secondary,
        spare,
        journal,
    };
    Ok((areas, layout))
}

/// Confirms the running image without the other partitions: where its flag is depends on the primary slot alone.
pub fn confirm_alone(algorithm: Algorithm) -> Result<(), StartError> {
    let mut primary = open(Partition::Primary)?;
    let same = geometry(&primary);
    let layout = Layout::with_spare(
        algorithm,
        same,
        same,
        algorithm.has_spare().then_some(same),
        options::MAX_ALIGN,
        options::MAX_IMG_SECTORS,
    )
    .map_err(StartError::Layout)?;
    trailer::confirm(&mut Retry(&mut primary), &layout).map_err(StartError::Trailer)
}

fn running(
    areas: &mut Areas,
    layout: &Layout,
    rules: &Rules,
) -> Result<(Running, Option<Version>), StartError> {
    let mut primary = Retry(&mut areas.primary);
    let trailer = Trailer::read(&mut primary, &layout.primary_trailer()).map_err(|_| StartError::Flash)?;
    // The boot stage has verified the image, so its header is trusted.
    let image = read_info(&mut primary, 0, layout.primary().slot_size)
        .ok()
        .flatten();
    let trailer = rules.primary(trailer, image.as_ref().map(|image| &image.digest));
    let confirmed = trailer.is_confirmed(layout);
    let (digest, fw_version) = match image {
        Some(image) => {
            note::info(&text!("image {} runs", image.header.version));
            if !confirmed {
                note::info(&words!(
                    "it is on trial: the next reset takes it back unless it is confirmed"
                ));
            }
            (image.digest, options::FW_VERSION)
        }
        None => {
            note::warn(&words!(
                "the primary slot holds no image: was this firmware started without a boot stage?"
            ));
            ([0; 32], 0)
        }
    };
    let running = Running {
        digest: digest_prefix(&digest),
        fw_version,
        confirmed,
    };
    Ok((running, image.map(|image| image.header.version)))
}

fn admit(incoming: Incoming) -> Admission {
    admission(worker::tell(Event::Started {
        size: incoming.size,
        fw_version: incoming.fw_version,
    }))
}

/// To Zephyr's MCUmgr.
fn forward(frame: &[u8]) -> Result<(), Code> {
    ble::forward_smp(frame).map_err(|error| match error {
        ZephyrError::NoBuffer => Code::Busy,
        ZephyrError::TooLong => Code::MessageSize,
        _ => Code::NotSupported,
    })
}

fn admit_reset() -> Admission {
    admission(worker::ask(Question::Reset))
}

fn admission(answer: Answer) -> Admission {
    match answer {
        Answer::GoOn => Admission::Accept,
        Answer::Postpone => Admission::Later,
        Answer::Veto => Admission::Refuse,
    }
}

/// Memory that a device lends to its parts, because they are moved when they are built.
pub struct Memory {
    update: UpdateMemory,
    reassembly: Reassembly<{ options::SMP_FRAME_SIZE }>,
}

impl Memory {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            update: UpdateMemory::new(),
            reassembly: Reassembly::new(),
        }
    }
}

impl<'k> Device<'k> {
    /// Opens the partitions and reads the running image. [`Service::start`] follows.
    #[inline(never)]
    pub fn start(
        algorithm: Algorithm,
        package: &'k KeyRing,
        image: &'k KeyRing,
        memory: &'k mut Memory,
    ) -> Result<Self, StartError> {
        // What goes deep is called here, where the state is not on the stack twice.
        Self::of(parts(algorithm, package, image)?, memory)
    }

    /// The state is on this stack twice for a moment: nothing that goes deep may be called here.
    #[inline(never)]
    fn of(
        (areas, setup, config): (Areas, Setup<'k>, Config<'k>),
        memory: &'k mut Memory,
    ) -> Result<Self, StartError> {
        let upload = Upload::new(areas, Platform, setup, (&mut memory.update).into());
        Ok(Self {
            service: Service::new(upload, config, &mut memory.reassembly),
        })
    }
}

/// What a device is made of.
#[inline(never)]
fn parts<'k>(
    algorithm: Algorithm,
    package: &'k KeyRing,
    image: &'k KeyRing,
) -> Result<(Areas, Setup<'k>, Config<'k>), StartError> {
    let (mut areas, layout) = areas(algorithm)?;
    if package.is_empty() || image.is_empty() {
        note::error(&words!(
            "no key to check packages or images with: every update will be refused"
        ));
    }
    let rules = rules();
    let (running, version) = running(&mut areas, &layout, &rules)?;
    let refuses_older =
        options::MCUBOOT_NO_DOWNGRADE || (rules.is_kept && rules.downgrade != Downgrade::Allowed);
    note::info(&text!(
        "updates of up to {} bytes for hardware version {}",
        layout.max_image_size(),
        options::HW_VERSION
    ));
    let setup = Setup {
        layout,
        image_policy: ImagePolicy {
            keys: image,
            trusted_digests: &[],
            unsigned: false,
            address: options::CHECK_IMAGE_ADDRESS.then(|| AddressRange {
                start: primary_address(),
                size: layout.primary().slot_size,
            }),
        },
        rules,
        running,
        admit,
        doors: DOORS,
        floor: floor(version),
        must_keep_version: !options::DOWNGRADE_ALLOWED && !options::FW_VERSION_PER_RELEASE,
    };
    let config = Config {
        secure_dfu: secure_dfu_config(package),
        smp: smp_config(refuses_older),
        reset_delay_ms: options::RESET_DELAY_MS,
    };
    Ok((areas, setup, config))
}

/// What strangers may do (`zephyr/Kconfig.smp`).
const DOORS: Doors = Doors {
    permanent_by_strangers: options::SMP_PERMANENT,
    confirm: if options::SMP_CONFIRM_ANYBODY {
        ConfirmBy::Anybody
    } else if options::SMP_CONFIRM_NEVER {
        ConfirmBy::Nobody
    } else {
        ConfirmBy::Trusted
    },
    take_backs: 0,
};

/// What the boot stage considers beside the trailers. MCUboot keeps no record; then only its trailers count.
#[inline(never)]
fn rules() -> Rules {
    let evidence = match options::TRUST.then(|| Area::open(Partition::Trust)) {
        None => None,
        Some(Ok(mut area)) => evidence::last(&mut Retry(&mut area)),
        Some(Err(error)) => {
            note::warn(&text!("the boot stage's record cannot be read: {}", error));
            None
        }
    };
    Rules {
        downgrade: if options::BOOT_DOWNGRADE_VERSION {
            Downgrade::ByVersion
        } else if options::BOOT_DOWNGRADE_COUNTER {
            Downgrade::BySecurityCounter
        } else {
            Downgrade::Allowed
        },
        is_kept: evidence.is_some(),
        evidence,
    }
}

/// The running image is not to be sent again, if the product says so.
fn floor(running: Option<Version>) -> OldestAccepted {
    OldestAccepted {
        version: running.filter(|_| !options::SAME_VERSION_ALLOWED),
        is_above_version: !options::SAME_VERSION_ALLOWED,
        counter: None,
    }
}

fn smp_config(no_downgrade: bool) -> smp::Config<'static> {
    smp::Config {
        system: System {
            kernel: "Zephyr",
            node: options::NODE,
            release: worker::kernel_version(),
            version: "",
            build: "",
            machine: options::MACHINE,
            processor: options::PROCESSOR,
            board: options::BOARD,
            os: "Zephyr",
        },
        no_downgrade,
        frame_count: options::SMP_FRAME_COUNT,
        forward: options::SMP_FORWARD.then_some(forward),
        admit_reset: (options::SMP_FRAME_SIZE != 0).then_some(admit_reset),
    }
}

fn secure_dfu_config(package: &KeyRing) -> secure_dfu::Config<'_> {
    secure_dfu::Config {
        init: InitPolicy {
            package_keys: package,
            signature_required: true,
            hw_version: options::HW_VERSION,
            soft_device: if options::SOFTDEVICE_IGNORE {
                SoftDevicePolicy::Ignore
            } else {
                SoftDevicePolicy::Absent
            },
            downgrade_allowed: options::DOWNGRADE_ALLOWED,
            same_version_allowed: options::SAME_VERSION_ALLOWED,
            debug_build: options::DEBUG_PACKAGES,
        },
        object_size: options::OBJECT_SIZE,
        is_object_buffered: holds_object(options::RING_SIZE, options::OBJECT_SIZE as usize, SHORTEST_PACKET),
        // Requested over the serial transport only.
        chip: Chip {
            part: 0,
            variant: 0,
            rom_size: 0,
            ram_size: 0,
            rom_page_size: SECTOR_SIZE,
            boot: (0, 0, 0),
            application_address: 0,
            application_length: 0,
        },
    }
}
