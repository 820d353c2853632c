// SPDX-License-Identifier: Apache-2.0
//! The boot stage over any contents of the areas outside, and of the trailer inside, with a cut or without. It ends, what it starts is
//! signed, and with a primary slot that nothing has touched it starts something.
#![no_main]

use bledfu_slot::decide::Downgrade;
use bledfu_slot::trailer::magic_bytes;
use bledfu_slot::{Algorithm, Geometry, ImagePolicy, Key as PublicKey, Layout, SoftCrypto};
use bledfu_swap::{boot, BootConfig, NoEvidence};
use bledfu_testkit::{sha256, Image, Key, Nor, Power, Tear, SECTOR};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

const KEY: Key = Key(9);
const SECTORS: usize = 8;
/// Operations of the boot stage in one boot; the most that a whole swap of these slots needs is far below.
const MOST_CALLS: u32 = 100_000;

/// Three signed images: one that is outside only, and two that may run.
fn images() -> &'static [(Vec<u8>, [u8; 32])] {
    static IMAGES: OnceLock<Vec<(Vec<u8>, [u8; 32])>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        [(1u8, 5_000), (2, 9_000), (3, 23_000)]
            .map(|(major, size)| {
                let image = Image::bare(0x200, size, major.into())
                    .version(major, 0, 0, 0)
                    .sign(KEY);
                (image.bytes(), image.digest())
            })
            .to_vec()
    })
}

/// The fuzzer's bytes; zeros behind the last.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }
}

/// Changes an area from `low` on: an image, a trailer's field, or bytes anywhere.
fn change(area: &mut Nor<4>, low: usize, bytes: &mut Bytes<'_>) {
    let end = area.bytes.len();
    let anywhere = |bytes: &mut Bytes<'_>| (bytes.number() % end).max(low);
    match bytes.byte() % 6 {
        0 if low == 0 => {
            let (image, _) = &images()[usize::from(bytes.byte()) % 3];
            let at = bytes.number() % SECTORS * SECTOR;
            let length = image.len().min(end.saturating_sub(at));
            area.bytes[at.min(end)..at.min(end) + length].copy_from_slice(&image[..length]);
        }
        1 => area.bytes[end - 16..].copy_from_slice(&magic_bytes(8)),
        2 => {
            // image_ok, copy_done, swap_info, and what lies below them.
            let field = 24 + 8 * usize::from(bytes.byte() % 5);
            area.bytes[end - field] = bytes.byte();
        }
        3 => {
            // A status record, or another place near the end.
            let at = end - 1 - bytes.number() % 1_200;
            area.bytes[at.max(low)] = bytes.byte();
        }
        4 => {
            let at = anywhere(bytes);
            let length = usize::from(bytes.byte()).min(end - at);
            area.bytes[at..at + length].fill(bytes.byte());
        }
        _ => {
            let at = anywhere(bytes);
            area.bytes[at] = bytes.byte();
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let (algorithm, how) = (bytes.byte(), bytes.byte());
    let algorithm = Algorithm::ALL[usize::from(algorithm) % Algorithm::ALL.len()];
    let of = |sectors: usize| Geometry::of::<Nor<4>>((sectors * SECTOR) as u32);
    let spare_sectors = match algorithm {
        Algorithm::SwapScratch => 1 + usize::from(how % 3),
        Algorithm::Copy => SECTORS,
        _ => 1,
    };
    let spare = algorithm.has_spare().then(|| of(spare_sectors));
    let Ok(layout) = Layout::with_spare(algorithm, of(SECTORS), of(SECTORS), spare, 8, 128) else {
        return;
    };
    let power = Power::new();
    let mut primary = Nor::<4>::new('p', SECTORS, &power);
    let mut secondary = Nor::<4>::new('s', SECTORS, &power);
    let mut spare = Nor::<4>::new('x', spare_sectors, &power);
    for area in [&mut primary, &mut secondary, &mut spare] {
        area.lenient = true;
    }
    primary.load(0, &images()[1 + usize::from(how >> 7)].0);
    let is_untouched = how & 0x40 == 0;
    for _ in 0..48 {
        if bytes.0.is_empty() {
            break;
        }
        match bytes.byte() % 4 {
            0 | 1 => change(&mut secondary, 0, &mut bytes),
            2 => change(&mut spare, 0, &mut bytes),
            _ if is_untouched => {}
            _ => change(
                &mut primary,
                layout.primary_trailer().status_start() as usize,
                &mut bytes,
            ),
        }
    }
    let is_cut = how & 0x20 != 0;
    if is_cut {
        let (percent, seed) = (how % 101, u64::from(how));
        power.cut_at(
            data.last().copied().unwrap_or_default().into(),
            Tear::Inside { percent, seed },
        );
    }
    let keys = [PublicKey::new(KEY.public())];
    let config = BootConfig {
        layout,
        policy: ImagePolicy {
            keys: &keys,
            ..ImagePolicy::default()
        },
        downgrade: Downgrade::Allowed,
        verify_primary: true,
    };
    let mut starts = false;
    for _ in 0..3 {
        let mut calls = 0;
        let mut watch = |_| {
            calls += 1;
            assert!(calls < MOST_CALLS, "it does not terminate");
        };
        let report = boot(
            &mut primary,
            &mut secondary,
            &mut spare,
            &config,
            &SoftCrypto,
            &mut NoEvidence,
            &mut watch,
        );
        power.on();
        starts = report.is_ok();
        let Ok(report) = report else {
            continue;
        };
        let hashed = report
            .image
            .header
            .hashed_size()
            .expect("a header that was checked");
        let digest = sha256(&primary.bytes[..hashed as usize]);
        assert!(
            images().iter().any(|(_, signed)| *signed == digest),
            "it starts what nobody signed"
        );
    }
    // Who rewrites the outside between a cut and the next boot may leave both images in pieces: SECURITY.md.
    assert!(
        starts || !is_untouched || is_cut || algorithm == Algorithm::SwapScratch,
        "nothing starts"
    );
});
