// SPDX-License-Identifier: Apache-2.0
//! The worker of a device, with the cryptography it is given.

use bledfu_size::{layout, Driver};
use bledfu_slot::verify::{Crypto, ImagePolicy, PublicKey};
use bledfu_transfer::init_check::{InitPolicy, SoftDevicePolicy};
use bledfu_transfer::ring::{Channel, Frame, Ring, DEFAULT_RING_SIZE, MAX_FRAME};
use bledfu_transfer::secure_dfu::{Chip, Config, SecureDfu, Transport};
use bledfu_transfer::upload::{Running, Upload};
use core::hint::black_box;

static KEYS: [PublicKey; 1] = [PublicKey::new([7; 64])];

pub fn run<C: Crypto>(crypto: C) -> ! {
    let policy = ImagePolicy {
        keys: black_box(&KEYS),
        trusted_digests: &[],
        unsigned: false,
    };
    let running = black_box(Running {
        digest: [0; 8],
        fw_version: 1,
        confirmed: true,
    });
    let upload = Upload::new(Driver, Driver, crypto, layout(), policy, running);
    let init = InitPolicy {
        package_keys: black_box(&KEYS),
        signature_required: true,
        hw_version: black_box(52),
        soft_device: SoftDevicePolicy::Absent,
        downgrade_allowed: false,
        same_version_allowed: true,
        debug_build: false,
    };
    let chip = Chip {
        part: 0,
        variant: 0,
        rom_size: 0,
        ram_size: 0,
        rom_page_size: 0,
        boot: (0, 0, 0),
        application_address: 0,
        application_length: 0,
    };
    let mut target = SecureDfu::new(
        upload,
        Config {
            init,
            object_size: 4096,
            chip,
        },
    );
    let mut ring = Ring::<DEFAULT_RING_SIZE>::new();
    target.link_up(Transport::Ble, 0);
    loop {
        let _ = ring.push(black_box(Frame {
            channel: Channel::Packet,
            bytes: &[0; 244],
        }));
        let mut buffer = [0; MAX_FRAME];
        match ring.pop(&mut buffer) {
            Some(frame) => {
                let answer = target.handle(frame, black_box(0));
                black_box(answer.reply.map(|reply| reply.encode()));
            }
            None => {
                target.idle();
            }
        }
        if black_box(false) {
            target.link_down();
            black_box(target.tick(0));
        }
    }
}
