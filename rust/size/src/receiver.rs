// SPDX-License-Identifier: Apache-2.0
//! The worker of a device, with the cryptography it is given; `SMP` is the longest SMP frame in bytes, 0 for a device without
//! it (`HAS_SMP`).

use bledfu_size::{layout, Driver};
use bledfu_slot::areas::Partitions;
use bledfu_slot::verify::{Crypto, ImagePolicy, Key};
use bledfu_transfer::doors::{Doors, Peer};
use bledfu_transfer::event::Admission;
use bledfu_transfer::inbox::Inbox;
use bledfu_transfer::init_check::{InitPolicy, SoftDevicePolicy};
use bledfu_transfer::ring::{Bytes, Channel, Frame, DEFAULT_RING_SIZE};
use bledfu_transfer::secure_dfu::{self, Chip, Transport};
use bledfu_transfer::service::{Config, Service};
use bledfu_transfer::smp::{self, Reassembly, System};
use bledfu_transfer::upload::{OldestAccepted, Running, Setup, UpdateMemory, Upload};
use core::hint::black_box;

static KEYS: [Key; 1] = [Key::new([7; 64])];

pub fn run<C: Crypto, const SMP: usize, const HAS_SMP: bool>(crypto: C) -> ! {
    let setup = Setup {
        layout: layout(),
        image_policy: ImagePolicy {
            keys: black_box(&KEYS),
            trusted_digests: &[],
            unsigned: false,
            address: None,
        },
        rules: Default::default(),
        running: black_box(Running {
            digest: [0; 8],
            fw_version: 1,
            confirmed: true,
        }),
        admit: |incoming| match black_box(incoming).size {
            0 => Admission::Refuse,
            _ => Admission::Accept,
        },
        doors: black_box(Doors::default()),
        floor: black_box(OldestAccepted::default()),
        must_keep_version: black_box(true),
    };
    let areas = Partitions {
        primary: Driver,
        secondary: Driver,
        spare: Driver,
        journal: Driver,
    };
    let config = Config {
        secure_dfu: secure_dfu::Config {
            init: InitPolicy {
                package_keys: black_box(&KEYS),
                signature_required: true,
                hw_version: black_box(52),
                soft_device: SoftDevicePolicy::Absent,
                downgrade_allowed: false,
                same_version_allowed: true,
                debug_build: false,
            },
            object_size: 4096,
            is_object_buffered: true,
            chip: Chip {
                part: 0,
                variant: 0,
                rom_size: 0,
                ram_size: 0,
                rom_page_size: 0,
                boot: (0, 0, 0),
                application_address: 0,
                application_length: 0,
            },
        },
        smp: smp::Config {
            system: black_box(System::default()),
            no_downgrade: false,
            frame_count: 4,
            forward: None,
            admit_reset: None,
        },
        reset_delay_ms: 0,
    };
    let mut memory = UpdateMemory::new();
    let upload = Upload::new(areas, crypto, setup, (&mut memory).into());
    let mut reassembly = Reassembly::<SMP>::new();
    let mut service = Service::new(upload, config, &mut reassembly);
    service.start();
    let mut inbox = Inbox::<Bytes<DEFAULT_RING_SIZE, HAS_SMP>>::of_bytes();
    inbox.link_up(black_box(Transport::Ble));
    loop {
        let _ = inbox.push(
            black_box(Frame {
                channel: Channel::Packet,
                bytes: &[0; 244],
            }),
            black_box(0),
        );
        black_box(service.step(&mut inbox, black_box(0)));
        if black_box(false) {
            inbox.link_down();
            inbox.confirm();
            inbox.peer(black_box(Peer::Trusted));
            inbox.allow_updates();
            service.not_sent();
        }
    }
}
