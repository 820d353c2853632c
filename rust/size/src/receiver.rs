// SPDX-License-Identifier: Apache-2.0
//! The worker of a device, with the cryptography it is given; `SMP` is the longest SMP frame in bytes, 0 for a device without.

use bledfu_size::{layout, Driver};
use bledfu_slot::persistent::Persistent;
use bledfu_slot::verify::{Crypto, ImagePolicy, PublicKey};
use bledfu_transfer::init_check::{InitPolicy, SoftDevicePolicy};
use bledfu_transfer::ring::{Channel, Frame, Ring, DEFAULT_RING_SIZE, MAX_FRAME};
use bledfu_transfer::secure_dfu::{Chip, Config, Transport};
use bledfu_transfer::smp::{self, System, ANSWER_SIZE};
use bledfu_transfer::target::Target;
use bledfu_transfer::upload::{Running, Upload};
use core::hint::black_box;

static KEYS: [PublicKey; 1] = [PublicKey::new([7; 64])];

pub fn run<C: Crypto, const SMP: usize>(crypto: C) -> ! {
    let policy = ImagePolicy {
        keys: black_box(&KEYS),
        trusted_digests: &[],
        unsigned: false,
        address: None,
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
    let mut target = Target::<Persistent<Driver>, Driver, Driver, C, SMP>::new(
        upload,
        Persistent(Driver),
        Config {
            init,
            object_size: 4096,
            chip,
        },
        smp::Config {
            system: black_box(System::default()),
            no_downgrade: false,
            frame_count: 4,
        },
    );
    target.restore();
    let mut ring = Ring::<DEFAULT_RING_SIZE>::new();
    target.link_up(Transport::Ble, 0);
    loop {
        let _ = ring.push(black_box(Frame {
            channel: Channel::Packet,
            bytes: &[0; 244],
        }));
        let mut buffer = [0; MAX_FRAME];
        match ring.pop(&mut buffer) {
            Some(frame) if SMP > 0 && frame.channel == Channel::Smp => {
                let mut out = [0; ANSWER_SIZE];
                let answer = target.handle_smp(frame.bytes, black_box(0), &mut out);
                black_box((answer.map(|answer| answer.length), &out));
                if target.is_behind() {
                    target.idle();
                }
            }
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
