// SPDX-License-Identifier: Apache-2.0
//! Images that have another form in external flash than in the primary slot: they are plain in the primary slot and
//! transformed outside, even with cuts, comparisons and skipped sectors.

mod common;

use std::rc::Rc;

use bledfu_slot::trailer::{self, magic_bytes};
use bledfu_slot::verify::verify_image_through;
use bledfu_slot::{
    AddressRange, Algorithm, Direction, HeaderError, ImagePolicy, Layout, SoftCrypto, SwapType, Transform,
    VerifyError,
};
use bledfu_swap::algorithm::Installer;
use bledfu_swap::overwrite::Overwrite;
use bledfu_swap::swap_move::SwapMove;
use bledfu_swap::swap_offset::SwapOffset;
use bledfu_swap::swap_scratch::SwapScratch;
use bledfu_swap::{boot_through, copy, BootAction, BootConfig, NoEvidence};
use bledfu_testkit::{Image, Key, Nor, Power, Tear, SECTOR};
use common::{config, geometry, trusted, BootResult};

const KEY: Key = Key(5);
const HEADER: u32 = 0x200;
/// Payload bytes that both images have; the transform changes these.
const PAYLOAD: u32 = 5000;

/// Acts like a stream cipher: every payload byte is changed by a value that depends on its offset; header and TLVs are
/// not changed.
struct Stream;

impl Transform for Stream {
    fn apply(&self, _: Direction, offset: u32, bytes: &mut [u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            if (HEADER..HEADER + PAYLOAD).contains(&at) {
                *byte ^= (at.wrapping_mul(0x9E37_79B9) >> 24) as u8;
            }
        }
    }
}

fn outside(image: &[u8]) -> Vec<u8> {
    let mut bytes = image.to_vec();
    Stream.apply(Direction::Outward, 0, &mut bytes);
    bytes
}

struct Device {
    layout: Layout,
    power: Rc<Power>,
    areas: [Nor<4>; 3],
    digests: Vec<[u8; 32]>,
    old: Vec<u8>,
    new: Vec<u8>,
}

fn boot_by<A: Installer>(
    areas: (&mut Nor<4>, &mut Nor<4>, &mut Nor<4>),
    config: &BootConfig<'_>,
) -> BootResult {
    boot_through::<A, _, _, _, _, _>(areas, &Stream, config, &SoftCrypto, &mut NoEvidence, &mut |_| {})
}

impl Device {
    /// The old image runs, and the new one is requested.
    fn pending(algorithm: Algorithm) -> Self {
        let spare = match algorithm {
            Algorithm::SwapScratch => Some(geometry(1)),
            Algorithm::Copy => Some(geometry(8)),
            _ => None,
        };
        let layout = Layout::with_spare(algorithm, geometry(8), geometry(8), spare, 8, 128).unwrap();
        let power = Power::new();
        let old = Image::bare(HEADER as u16, PAYLOAD, 1).sign(KEY);
        let mut new = Image::bare(HEADER as u16, 9000, 2);
        // One range that is all 0xFF in the plain form only, and one in the transformed form only.
        let blank = HEADER as usize + 100..HEADER as usize + 1500;
        new.body[blank].fill(0xFF);
        let inverse = 2000..3500;
        new.body[inverse.clone()].fill(0xFF);
        Stream.apply(Direction::Outward, inverse.start as u32, &mut new.body[inverse]);
        let new = new.sign(KEY);
        let area = |name, sectors| Nor::new(name, sectors, &power);
        let mut areas = [
            area('p', 8),
            area('s', 8),
            area('x', spare.map_or(0, |area| area.sectors() as usize)),
        ];
        areas[0].load(0, &old.bytes());
        areas[1].load(layout.upload_offset() as usize, &outside(&new.bytes()));
        areas[1].load(8 * SECTOR - 16, &magic_bytes(8));
        Self {
            layout,
            areas,
            digests: vec![old.digest(), new.digest()],
            old: old.bytes(),
            new: new.bytes(),
            power,
        }
    }

    fn fork(&self) -> Self {
        let power = Power::new();
        Self {
            layout: self.layout,
            areas: [0, 1, 2].map(|area| self.areas[area].fork(&power)),
            digests: self.digests.clone(),
            old: self.old.clone(),
            new: self.new.clone(),
            power,
        }
    }

    fn boot(&mut self) -> BootResult {
        let config = config(self.layout, trusted(&self.digests));
        let [primary, secondary, spare] = &mut self.areas;
        let areas = (primary, secondary, spare);
        match self.layout.algorithm() {
            Algorithm::SwapOffset => boot_by::<SwapOffset>(areas, &config),
            Algorithm::SwapMove => boot_by::<SwapMove>(areas, &config),
            Algorithm::SwapScratch => boot_by::<SwapScratch>(areas, &config),
            Algorithm::Overwrite => boot_by::<Overwrite>(areas, &config),
            _ => copy::boot_through(areas, &Stream, &config, &SoftCrypto, &mut NoEvidence, &mut |_| {}),
        }
    }

    fn runs(&self, image: &[u8]) -> bool {
        self.areas[0].bytes.starts_with(image)
    }

    /// Whether this image is in external flash, in the form that it has there.
    fn is_outside(&self, image: &[u8]) -> bool {
        let image = outside(image);
        let places = [(1, 0), (1, self.layout.upload_offset() as usize), (2, 0)];
        places.into_iter().any(|(area, start)| {
            self.areas[area]
                .bytes
                .get(start..)
                .is_some_and(|bytes| bytes.starts_with(&image))
        })
    }

    /// Whether external flash nowhere holds sixteen payload bytes in a row in plain form.
    fn nothing_plain_is_outside(&self) -> bool {
        let plain = HEADER as usize..(HEADER + PAYLOAD) as usize;
        let mut pieces = Vec::new();
        for image in [&self.old, &self.new] {
            pieces.extend(
                image[plain.clone()]
                    .chunks_exact(16)
                    .filter(|piece| piece.iter().any(|byte| *byte != 0xFF)),
            );
        }
        let pieces: std::collections::HashSet<&[u8]> = pieces.into_iter().collect();
        // These bytes are there on purpose, as the transformed form of others.
        let expected: std::collections::HashSet<Vec<u8>> = [&self.old, &self.new]
            .into_iter()
            .flat_map(|image| outside(image).windows(16).map(<[u8]>::to_vec).collect::<Vec<_>>())
            .collect();
        self.areas[1..].iter().all(|area| {
            area.bytes
                .windows(16)
                .all(|window| !pieces.contains(window) || expected.contains(window))
        })
    }
}

#[test]
fn an_image_stored_in_another_form_is_installed_plain_and_the_old_one_is_stored_in_that_form() {
    for algorithm in Algorithm::ALL {
        let mut device = Device::pending(algorithm);
        let report = device.boot().unwrap();
        let swap_type = SwapType::Test;
        let resumed = false;
        assert_eq!(
            report.action,
            BootAction::Installed { swap_type, resumed },
            "{algorithm:?}"
        );
        assert!(device.runs(&device.new), "{algorithm:?}");
        assert!(device.nothing_plain_is_outside(), "{algorithm:?}");
        if algorithm == Algorithm::Overwrite {
            continue;
        }
        assert!(device.is_outside(&device.old), "{algorithm:?}");
        // After the revert, both are what they were, to the byte.
        let swap_type = SwapType::Revert;
        assert_eq!(
            device.boot().unwrap().action,
            BootAction::Installed { swap_type, resumed }
        );
        assert!(device.runs(&device.old), "{algorithm:?}");
        assert!(device.is_outside(&device.new), "{algorithm:?}");
        assert!(device.nothing_plain_is_outside(), "{algorithm:?}");
        assert_eq!(device.boot().unwrap().action, BootAction::None);
    }
}

#[test]
fn a_cut_copy_continues_where_it_was() {
    for algorithm in Algorithm::ALL {
        let mut whole = Device::pending(algorithm);
        for _ in 0..2 {
            whole.boot().unwrap();
        }
        for op in 0..whole.power.ops() {
            for tear in [
                Tear::Before,
                Tear::Inside {
                    percent: 50,
                    seed: op,
                },
            ] {
                let mut device = Device::pending(algorithm);
                device.power.cut_at(op, tear);
                while device.boot().is_ok() {}
                device.power.on();
                for _ in 0..3 {
                    device.boot().unwrap();
                    assert!(
                        device.runs(&device.old) || device.runs(&device.new),
                        "{algorithm:?} {op}"
                    );
                    assert!(device.nothing_plain_is_outside(), "{algorithm:?} {op}");
                }
                let expected = if algorithm == Algorithm::Overwrite {
                    &device.new
                } else {
                    &device.old
                };
                assert!(device.runs(expected), "{algorithm:?} {op} {tear:?}");
            }
        }
    }
}

#[test]
fn pages_that_are_equal_in_the_other_form_are_not_written_again() {
    let mut device = Device::pending(Algorithm::Copy);
    device.boot().unwrap();
    trailer::confirm(&mut device.areas[0], &device.layout).unwrap();
    // The third page of the primary is damaged: the external copy repairs it and finds the other pages equal.
    let mut device = device.fork();
    device.areas[0].bytes[2 * SECTOR + 50] ^= 1;
    device.power.record();
    assert_eq!(device.boot().unwrap().action, BootAction::Repaired);
    assert!(device.runs(&device.new));
    let mut erased = Vec::new();
    for op in device.power.recorded() {
        if let bledfu_testkit::Op::Erase { chip: 'p', sector } = op {
            erased.push(sector);
        }
    }
    // The page before it may be the last one of a repair that was cut, and may only read as equal now. So it is written
    // again.
    assert_eq!(erased, [1, 2]);
}

#[test]
fn the_reset_vector_is_checked_in_its_plain_form() {
    let mut image = Image::bare(HEADER as u16, PAYLOAD, 1);
    image.body[0x204..0x208].copy_from_slice(&0xC101u32.to_le_bytes());
    let image = image.sign(KEY);
    let mut flash = Nor::<4>::new('s', 8, &Power::new());
    flash.load(0, &outside(&image.bytes()));
    let digests = [image.digest()];
    let check = |flash: &mut Nor<4>, start| {
        let policy = ImagePolicy {
            address: Some(AddressRange { start, size: 0x8000 }),
            ..trusted(&digests)
        };
        verify_image_through(
            flash,
            0,
            (0x8000, 0x7000),
            &policy,
            &SoftCrypto,
            &Stream,
            &mut || (),
        )
        .map(|_| ())
    };
    assert_eq!(check(&mut flash, 0xC000), Ok(()));
    assert!(matches!(
        check(&mut flash, 0x2_0000),
        Err(VerifyError::Header(HeaderError::WrongAddress {
            reset_vector: 0xC101,
            ..
        }))
    ));
}

#[test]
fn an_image_in_the_wrong_form_is_refused() {
    let mut device = Device::pending(Algorithm::SwapMove);
    let plain = device.new.clone();
    device.areas[1].load(0, &plain);
    let action = device.boot().unwrap().action;
    let reason = VerifyError::HashMismatch;
    let swap_type = SwapType::Test;
    assert_eq!(action, BootAction::Rejected { swap_type, reason });
}
