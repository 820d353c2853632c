// SPDX-License-Identifier: Apache-2.0
//! Updates with random power cuts, link drops, packet sizes, receipts, object sizes and orders. Whatever happens, the
//! device always boots a valid image, and in the end the update is installed and confirmed.

use std::collections::VecDeque;

use bledfu_sim::device::Setup;
use bledfu_sim::keys::SigningKey;
use bledfu_sim::link::LinkParams;
use bledfu_sim::make::ImageSpec;
use bledfu_sim::package::{Package, PackageSpec};
use bledfu_sim::phone::secure_dfu::{crc32, Phone};
use bledfu_sim::phone::{DfuLink, PhoneError};
use bledfu_sim::power::Tear;
use bledfu_sim::world::World;
use bledfu_slot::header::Version;
use bledfu_wire::secure_dfu::{ObjectType, Reply, Request};
use proptest::prelude::*;

const PACKAGE_KEY: &str = include_str!("../../../tests/vectors/keys/package.pem");
const IMAGE_KEY: &str = include_str!("../../../tests/vectors/keys/image.pem");
const SECTOR: usize = 4096;

fn image(major: u8, size: usize) -> Vec<u8> {
    let key = SigningKey::from_pem("image key", IMAGE_KEY).unwrap();
    let version = Version {
        major,
        minor: 0,
        revision: 0,
        build: 0,
    };
    ImageSpec::demo(version, size, &key).unwrap().build()
}

fn package(size: usize) -> Package {
    let key = SigningKey::from_pem("package key", PACKAGE_KEY).unwrap();
    let zip = PackageSpec::new("random", 52, 2)
        .build(&image(2, size), &key)
        .unwrap();
    Package::read(&zip).unwrap()
}

fn tear() -> impl Strategy<Value = Tear> {
    prop_oneof![
        Just(Tear::Before),
        (0.0..=1.0f64, any::<u64>()).prop_map(|(fraction, seed)| Tear::Inside { fraction, seed }),
    ]
}

/// What an untested client may do between two correct steps.
#[derive(Clone, Copy, Debug)]
enum Whim {
    /// Sends the object correctly.
    Send,
    /// Creates the object, sends part of garbage, creates it again.
    Garbage(usize),
    /// Executes without anything to execute.
    ExecuteAgain,
    /// Selects either object, as after a reconnection.
    Select(bool),
    /// Asks for an impossible object.
    CreateNonsense(u32),
    /// Drops the link.
    HangUp,
}

fn whim() -> impl Strategy<Value = Whim> {
    prop_oneof![
        6 => Just(Whim::Send),
        2 => (1..SECTOR).prop_map(Whim::Garbage),
        1 => Just(Whim::ExecuteAgain),
        1 => any::<bool>().prop_map(Whim::Select),
        1 => any::<u32>().prop_map(Whim::CreateNonsense),
        1 => Just(Whim::HangUp),
    ]
}

struct WildClient<'w> {
    world: &'w mut World,
    packet: usize,
}

impl WildClient<'_> {
    fn ask(&mut self, request: Request<'_>) -> Result<Reply, PhoneError> {
        self.world.control(request.encode().as_bytes())?;
        let bytes = self.world.notification()?;
        let reply = Reply::decode(&bytes).expect("every answer is well-formed");
        assert_eq!(
            reply.encode().as_bytes(),
            bytes,
            "every answer has its exact length"
        );
        assert_eq!(reply.opcode(), request.opcode(), "every answer is to the request");
        Ok(reply)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), PhoneError> {
        bytes
            .chunks(self.packet)
            .try_for_each(|packet| self.world.packet(packet))
    }

    /// One session, with whims before each object; `Ok` when the last object was executed.
    fn session(&mut self, package: &Package, whims: &mut VecDeque<Whim>) -> Result<(), PhoneError> {
        let (init, firmware) = (&package.application.init, &package.application.firmware);
        let known = self.ask(Request::Select {
            object: ObjectType::Command,
        })?;
        match known {
            Reply::Selected { offset, crc, .. } if (offset as usize, crc) == (init.len(), crc32(init)) => {}
            _ => {
                self.ask(Request::Create {
                    object: ObjectType::Command,
                    size: init.len() as u32,
                })?;
                self.send(init)?;
            }
        }
        assert_eq!(self.ask(Request::Execute)?, Reply::Executed);
        let mut is_new = true;
        loop {
            let Reply::Selected {
                max_size,
                offset,
                crc,
            } = self.ask(Request::Select {
                object: ObjectType::Data,
            })?
            else {
                panic!("Select is answered with what was selected");
            };
            let at = offset as usize;
            assert_eq!(
                crc,
                crc32(&firmware[..at]),
                "what the device holds is what was sent"
            );
            assert!(
                at.is_multiple_of(SECTOR) || at == firmware.len(),
                "and ends at a sector"
            );
            // This client has objects of other sizes than the device assumes: it closes the one of the session before.
            if core::mem::take(&mut is_new) || at == firmware.len() {
                assert_eq!(self.ask(Request::Execute)?, Reply::Executed);
            }
            if at == firmware.len() {
                return Ok(());
            }
            // Objects of any number of sectors that the device accepts.
            let sectors = 1 + at / SECTOR % (max_size as usize / SECTOR);
            let end = (at + sectors * SECTOR).min(firmware.len());
            match whims.pop_front().unwrap_or(Whim::Send) {
                Whim::Send => {
                    let size = (end - at) as u32;
                    assert_eq!(
                        self.ask(Request::Create {
                            object: ObjectType::Data,
                            size
                        })?,
                        Reply::Created
                    );
                    self.send(&firmware[at..end])?;
                    let expected = Reply::Checksum {
                        offset: end as u32,
                        crc: crc32(&firmware[..end]),
                    };
                    assert_eq!(self.ask(Request::Checksum)?, expected);
                    assert_eq!(self.ask(Request::Execute)?, Reply::Executed);
                    if end == firmware.len() {
                        return Ok(());
                    }
                }
                Whim::Garbage(length) => {
                    let size = (end - at) as u32;
                    assert_eq!(
                        self.ask(Request::Create {
                            object: ObjectType::Data,
                            size
                        })?,
                        Reply::Created
                    );
                    self.send(&vec![0xA5; length.min(end - at)])?;
                    self.ask(Request::Checksum)?;
                    // Begins the object again: the sent bytes are gone.
                    assert_eq!(
                        self.ask(Request::Create {
                            object: ObjectType::Data,
                            size
                        })?,
                        Reply::Created
                    );
                    let expected = Reply::Checksum { offset, crc };
                    assert_eq!(self.ask(Request::Checksum)?, expected);
                }
                Whim::ExecuteAgain => {
                    self.ask(Request::Execute)?;
                }
                Whim::Select(command) => {
                    let object = if command {
                        ObjectType::Command
                    } else {
                        ObjectType::Data
                    };
                    self.ask(Request::Select { object })?;
                }
                Whim::CreateNonsense(size) => {
                    let size = size | 1; // no multiple of a sector
                    if at as u64 + u64::from(size) != firmware.len() as u64 {
                        let reply = self.ask(Request::Create {
                            object: ObjectType::Data,
                            size,
                        })?;
                        assert!(matches!(reply, Reply::Refused { .. }));
                    }
                }
                Whim::HangUp => {
                    self.world.link_lost();
                    return Err(PhoneError::LinkLost);
                }
            }
        }
    }
}

fn running(world: &World) -> u8 {
    world
        .device()
        .map_or(0, |device| device.image().header.version.major)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_phone_finishes_its_update_despite_any_cuts_and_drops(
        size in 700usize..30_000,
        old_size in 700usize..30_000,
        mtu in 23u16..=515,
        receipts in 0u16..20,
        interval in 6u32..40,
        packets in 1u32..12,
        phone in prop_oneof![Just(Phone::Android), Just(Phone::Ios), Just(Phone::Nrfutil)],
        object_sectors in 1u32..5,
        used in any::<bool>(),
        drops in prop::collection::vec(0u64..60_000, 0..4),
        cuts in prop::collection::vec((0u64..900, tear()), 0..4),
    ) {
        let setup = Setup { object_size: object_sectors * SECTOR as u32, ..Setup::small(12) };
        let link = LinkParams { interval_us: interval * 1250, packets_per_event: packets, mtu };
        let mut world = World::new(setup, &image(1, old_size), link).unwrap();
        if used {
            world.board.secondary.set_contents(0, &image(3, old_size)).unwrap();
        }
        let mut drops: Vec<u64> = drops;
        drops.sort_unstable();
        world.mishaps.drop_link_at = drops.into();

        let package = package(size);
        let mut cuts = cuts.into_iter();
        for _ in 0..20 {
            if let Some((operations, tear)) = cuts.next() {
                world.board.power.cut_at(world.board.power.ops() + operations, tear);
            }
            let mut executed = 0;
            world.update(&package, phone, receipts, &mut |at| {
                assert!(at >= executed, "{executed} bytes were received, then {at}");
                executed = at;
            }).unwrap();
            world.confirm().unwrap();
            prop_assert!(world.board.primary_image().is_some());
            if running(&world) == 2 {
                break;
            }
        }
        prop_assert_eq!(running(&world), 2);
        prop_assert!(world.device().unwrap().is_confirmed());
    }

    #[test]
    fn a_client_with_any_order_of_objects_and_requests_completes_its_update(
        size in 700usize..30_000,
        packet in 1usize..=244,
        object_sectors in 1u32..5,
        whims in prop::collection::vec(whim(), 0..40),
        cuts in prop::collection::vec((0u64..400, tear()), 0..3),
    ) {
        let setup = Setup { object_size: object_sectors * SECTOR as u32, ..Setup::small(12) };
        let mut world = World::new(setup, &image(1, 5000), LinkParams::default()).unwrap();
        let package = package(size);
        let mut whims: VecDeque<Whim> = whims.into();
        let mut cuts = cuts.into_iter();
        for _ in 0..100 {
            if let Some((operations, tear)) = cuts.next() {
                world.board.power.cut_at(world.board.power.ops() + operations, tear);
            }
            if world.device().is_none() {
                world.power_up().unwrap();
            }
            if running(&world) == 2 {
                break;
            }
            world.connect();
            let sent = WildClient { world: &mut world, packet }.session(&package, &mut whims);
            match sent {
                Ok(()) => {
                    world.power_up().unwrap();
                }
                Err(PhoneError::LinkLost) => {}
                Err(error) => panic!("{error}"),
            }
        }
        prop_assert_eq!(running(&world), 2);
        prop_assert!(world.board.primary_image().is_some());
    }
}
