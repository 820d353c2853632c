// SPDX-License-Identifier: Apache-2.0
//! A whole update over Secure DFU into flash in memory: a phone's client, the inbox, the service, and the request that
//! the boot stage would find. Run it with `cargo run -p bledfu-transfer --example in_memory`.

use bledfu_client::secure_dfu::{Client, Package, Part, Settings};
use bledfu_client::{Action, Characteristic, UpdateClient};
use bledfu_slot::areas::{Areas, NoFlash, Partitions};
use bledfu_slot::verify::{ImagePolicy, Key as PublicKey, SoftCrypto};
use bledfu_slot::{Algorithm, SwapType};
use bledfu_testkit::{sha256, Image, Key, Nor, Power};
use bledfu_transfer::event::Admission;
use bledfu_transfer::inbox::Inbox;
use bledfu_transfer::init_check::{InitPolicy, SoftDevicePolicy};
use bledfu_transfer::ring::{Channel, Frame, DEFAULT_RING_SIZE};
use bledfu_transfer::secure_dfu::{self, Transport};
use bledfu_transfer::service::{Config, Service, Step};
use bledfu_transfer::smp::Reassembly;
use bledfu_transfer::upload::{Running, Setup, UpdateMemory, Upload};

#[rustfmt::skip] // so that it stays on one page
fn main() {
    let image = Image::of_total(9_000, 2, Key(1)).bytes();
    let mut command = vec![0x08, 2, 0x10, 52, 0x1A, 1, 0, 0x20, 0]; // firmware version, hardware, SoftDevices, application
    command.extend([0x38, 0xA8, 0x46, 0x42, 36, 0x08, 3, 0x12, 32]); // 9000 bytes with this SHA-256, last byte first
    command.extend(sha256(&image).iter().rev());
    let mut init = vec![0x0A, 4 + command.len() as u8, 0x08, 1, 0x12, command.len() as u8];
    init.extend(command);

    let power = Power::new();
    let (primary, secondary) = (Nor::<4>::new('p', 16, &power), Nor::<4>::new('s', 16, &power));
    let journal = Nor::<4>::new('j', 2, &power);
    let mut areas = Partitions { primary, secondary, spare: NoFlash, journal };
    let layout = areas.layout(Algorithm::SwapOffset, 8, 32).expect("slots that fit together");
    let keys = [PublicKey::P256(Key(1).public())];
    let setup = Setup {
        layout,
        image_policy: ImagePolicy { keys: &keys, trusted_digests: &[], unsigned: false, address: None },
        rules: Default::default(),
        running: Running { digest: [0; 8], fw_version: 1, confirmed: true },
        admit: |_| Admission::Accept,
        doors: Default::default(),
        floor: Default::default(),
        must_keep_version: true,
    };
    let init_policy = InitPolicy {
        package_keys: &[],
        signature_required: false,
        hw_version: 52,
        soft_device: SoftDevicePolicy::Absent,
        downgrade_allowed: false,
        same_version_allowed: true,
        debug_build: false,
    };
    let chip = Default::default();
    let secure_dfu = secure_dfu::Config { init: init_policy, object_size: 4096, is_object_buffered: true, chip };
    let config = Config { secure_dfu, smp: Default::default(), reset_delay_ms: 0 };
    let mut memory = UpdateMemory::new();
    let upload = Upload::new(areas, SoftCrypto, setup, (&mut memory).into());
    let mut reassembly = Reassembly::<0>::new();
    let mut service = Service::new(upload, config, &mut reassembly);
    service.start();

    let (mut inbox, mut now_ms) = (Inbox::<[u8; DEFAULT_RING_SIZE]>::new(), 0);
    let mut phone = Client::new(Package::of(Part { init: &init, firmware: &image }), Settings::android());
    loop {
        match phone.poll(now_ms) {
            Action::Connect { .. } => {
                inbox.link_up(Transport::Ble);
                phone.connected(now_ms, 244);
            }
            Action::Write { to, bytes } => {
                let channel = if to == Characteristic::Packet { Channel::Packet } else { Channel::Control };
                inbox.push(Frame { channel, bytes }, now_ms).expect("room for all a phone may send");
            }
            Action::Wait { .. } | Action::Pause { .. } | Action::Disconnect | Action::Done => {}
            Action::Failed(error) => panic!("{error:?}"),
        }
        match service.step(&mut inbox, now_ms) {
            Some(Step::Send { bytes, .. }) => phone.received(now_ms, bytes),
            Some(Step::Wait { until_ms }) if until_ms < 10_000 => now_ms = until_ms,
            Some(Step::Reset) => break,
            Some(step) => println!("{step:?}"),
            None => {}
        }
    }
    assert_eq!(service.upload_mut().outlook().swap_type(), SwapType::Test);
    println!("{} bytes are staged: the next boot tries them", image.len());
}
