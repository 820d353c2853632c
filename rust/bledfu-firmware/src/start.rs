// SPDX-License-Identifier: Apache-2.0
//! From partitions, keys and options to a target that can be asked.

use crate::{options, Device, Primary};
use bledfu_slot::persistent::Persistent;
use bledfu_slot::roles::{self, Place};
use bledfu_slot::tlv::{types, TlvWalker};
use bledfu_slot::verify::{read_header, ImagePolicy, PublicKey, SoftCrypto};
use bledfu_slot::{read_bytes, AddressRange, Algorithm, Geometry, Layout, LayoutError, Trailer, Version};
use bledfu_transfer::init_check::{Accepted, InitPolicy, SoftDevicePolicy};
use bledfu_transfer::note;
use bledfu_transfer::secure_dfu::{Chip, Config};
use bledfu_transfer::smp::{self, System};
use bledfu_transfer::target::Target;
use bledfu_transfer::upload::{digest_prefix, Running, Upload};
use bledfu_zephyr::flash::{
    primary_address, Area, AreaError, FlashError, Partition, SECTOR_SIZE, WRITE_SIZE,
};
use bledfu_zephyr::worker::{self, Event};
use core::fmt;

/// Most public keys of one kind: two, and two to roll over to.
const MAX_KEYS: usize = 4;

/// Public keys of one kind.
pub type KeyRing = heapless::Vec<PublicKey, MAX_KEYS>;

/// Why there is no update service in this build.
pub enum StartError {
    Area(AreaError),
    Layout(LayoutError),
    Flash(FlashError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Area(error) => error.fmt(f),
            Self::Layout(error) => error.fmt(f),
            Self::Flash(error) => write!(f, "the primary slot cannot be read: {error:?}"),
        }
    }
}

/// The keys built into the firmware.
pub fn keys(kind: worker::Keys) -> KeyRing {
    worker::keys(kind)
        .iter()
        .take(MAX_KEYS)
        .map(|key| PublicKey::new(*key))
        .collect()
}

fn geometry(area: &Area) -> Geometry {
    Geometry {
        slot_size: area.size(),
        sector_size: SECTOR_SIZE,
        write_size: WRITE_SIZE,
    }
}

/// Digest and version of the image in the primary slot. The boot stage has verified it, so its own word is enough.
pub fn image_in(primary: &mut Primary) -> Option<([u8; 32], Version)> {
    let header = read_header(primary, 0).ok()?;
    let mut tlvs = TlvWalker::new(primary, 0, &header, primary.0.size()).ok()?;
    while let Ok(Some(tlv)) = tlvs.next(primary) {
        let mut digest = [0; 32];
        if tlv.kind == types::SHA256 && usize::from(tlv.length) == digest.len() {
            read_bytes(primary, tlv.offset, &mut digest).ok()?;
            return Some((digest, header.version));
        }
    }
    None
}

fn open(partition: Partition) -> Result<Area, StartError> {
    Area::open(partition).map_err(StartError::Area)
}

/// The area the next update goes into, and the layout in which that is the secondary slot. With copy there are two such areas,
/// and they take turns; the boot stage asks the same function.
pub fn receiving(algorithm: Algorithm, primary: &mut Primary) -> Result<(Area, Layout), StartError> {
    let mut secondary = open(Partition::Secondary)?;
    let mut spare = if algorithm.has_spare() {
        Some(open(Partition::Spare)?)
    } else {
        None
    };
    let layout = Layout::with_spare(
        algorithm,
        geometry(&primary.0),
        geometry(&secondary),
        spare.as_ref().map(geometry),
        options::MAX_ALIGN,
        options::MAX_IMG_SECTORS,
    )
    .map_err(StartError::Layout)?;
    if let (Algorithm::Copy, Some(second)) = (algorithm, spare.as_mut()) {
        let incoming =
            roles::incoming(primary, &mut secondary, second, &layout).map_err(StartError::Flash)?;
        if let (Place::Second, Some(second)) = (incoming, spare) {
            return Ok((second, layout.with_incoming(incoming)));
        }
    }
    Ok((secondary, layout))
}

fn running(primary: &mut Primary, layout: &Layout) -> Result<Running, StartError> {
    let trailer = Trailer::read(primary, &layout.primary_trailer()).map_err(StartError::Flash)?;
    let confirmed = trailer.is_confirmed(layout);
    let (digest, fw_version) = match image_in(primary) {
        Some((digest, version)) => {
            note::info(format_args!("image {version} runs"));
            if !confirmed {
                note::info(format_args!(
                    "it is on trial: the next reset takes it back unless it is confirmed"
                ));
            }
            (digest, options::FW_VERSION)
        }
        None => {
            note::warn(format_args!(
                "the primary slot holds no image: was this started without a boot stage?"
            ));
            ([0; 32], 0)
        }
    };
    Ok(Running {
        digest: digest_prefix(&digest),
        fw_version,
        confirmed,
    })
}

fn admit(accepted: &Accepted) -> bool {
    worker::tell(Event::Started {
        size: accepted.size,
        fw_version: accepted.fw_version,
    })
}

/// As [`admit`], for an SMP upload, which names no firmware version.
fn admit_smp(size: u32) -> bool {
    worker::tell(Event::Started { size, fw_version: 0 })
}

impl<'k> Device<'k> {
    /// Opens the partitions and looks what runs. [`Device::ready`] comes next.
    #[inline(never)]
    pub fn start(algorithm: Algorithm, package: &'k KeyRing, image: &'k KeyRing) -> Result<Self, StartError> {
        let mut primary = Persistent(open(Partition::Primary)?);
        let (secondary, layout) = receiving(algorithm, &mut primary)?;
        let journal = open(Partition::Journal)?;
        if package.is_empty() || image.is_empty() {
            note::error(format_args!(
                "no key to check packages or images with: every update will be refused"
            ));
        }
        let running = running(&mut primary, &layout)?;
        let policy = ImagePolicy {
            keys: image,
            trusted_digests: &[],
            unsigned: false,
            address: options::CHECK_IMAGE_ADDRESS.then(|| AddressRange {
                start: primary_address(),
                size: layout.primary().slot_size,
            }),
        };
        let upload = Upload::new(secondary, journal, SoftCrypto, layout, policy, running);
        let mut target = Target::new(upload, primary, config(package), smp_config());
        target.secure_dfu_mut().set_admission(admit);
        target.smp_mut().set_admission(admit_smp);
        Ok(Self {
            target,
            layout,
            patience_ms: 0,
        })
    }

    /// Takes up an interrupted transfer, and tells the product.
    pub fn ready(&mut self) {
        self.target.restore();
        note::info(format_args!(
            "updates of up to {} bytes for hardware version {}",
            self.layout.max_image_size(),
            options::HW_VERSION
        ));
        worker::tell(Event::Ready {
            confirmed: self.target.upload().running().confirmed,
            fw_version: self.target.running_version(),
        });
    }
}

fn smp_config() -> smp::Config<'static> {
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
        no_downgrade: false,
        frame_count: options::SMP_FRAME_COUNT,
    }
}

fn config(package: &KeyRing) -> Config<'_> {
    Config {
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
        // Asked for over the serial transport only.
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
