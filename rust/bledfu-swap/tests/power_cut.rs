// SPDX-License-Identifier: Apache-2.0
//! Power fails before or inside every operation of whole updates, once and again during the recovery; and the operations
//! themselves, compared with what MCUboot was seen to do.

mod common;

use std::rc::Rc;

use bledfu_slot::trailer::{self, Flag, Magic, SwapType, Trailer};
use bledfu_slot::{Algorithm, Geometry, Layout, Slot, SoftCrypto};
use bledfu_swap::BootAction;
use bledfu_testkit::{Image, Key, Nor, Op, Power, Tear, SECTOR};
use common::{boot_once, config, trusted, BootResult};

type Chip = Nor<4>;

const KEY: Key = Key(7);

fn layout(algorithm: Algorithm, sectors: (u32, u32), max_align: u32, max_sectors: u32) -> Layout {
    let scratch = (algorithm == Algorithm::SwapScratch).then(|| geometry(1, 1));
    Layout::with_spare(
        algorithm,
        geometry(sectors.0, 1),
        geometry(sectors.1, 1),
        scratch,
        max_align,
        max_sectors,
    )
    .unwrap()
}

/// So many sectors of so many test sectors each.
fn geometry(sectors: u32, size: u32) -> Geometry {
    Geometry {
        slot_size: sectors * size * SECTOR as u32,
        sector_size: size * SECTOR as u32,
        write_size: 4,
    }
}

fn plain(algorithm: Algorithm) -> Layout {
    layout(algorithm, (8, 8), 8, 128)
}

/// A device with an old image in the primary slot.
struct Device {
    layout: Layout,
    power: Rc<Power>,
    primary: Chip,
    secondary: Chip,
    /// The spare area, if the layout has one.
    spare: Chip,
    /// The images there are: accepted by digest, so that campaigns need not check thousands of signatures.
    digests: Vec<[u8; 32]>,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Device {
    fn new(layout: Layout, old_size: u32, new_size: u32) -> Self {
        let power = Power::new();
        let old = Image::bare(0x200, old_size, 1).version(1, 0, 0, 0).sign(KEY);
        let new = Image::bare(0x200, new_size, 2).version(2, 0, 0, 0).sign(KEY);
        let chip = |name, size: u32| Chip::new(name, size as usize / SECTOR, &power);
        let mut primary = chip('p', layout.primary().slot_size);
        primary.load(0, &old.bytes());
        let secondary = chip('s', layout.secondary().slot_size);
        let spare = chip('x', layout.spare().map_or(0, |area| area.slot_size));
        let digests = vec![old.digest(), new.digest()];
        Self {
            layout,
            power: power.clone(),
            primary,
            secondary,
            spare,
            digests,
            old: old.bytes(),
            new: new.bytes(),
        }
    }

    /// A copy of everything in flash, with a supply of its own.
    fn fork(&self) -> Self {
        let power = Power::new();
        let copy = |chip: &Chip| chip.fork(&power);
        let (primary, secondary, spare) = (copy(&self.primary), copy(&self.secondary), copy(&self.spare));
        let Self {
            layout,
            digests,
            old,
            new,
            ..
        } = self;
        let (digests, old, new) = (digests.clone(), old.clone(), new.clone());
        Self {
            layout: *layout,
            power: power.clone(),
            primary,
            secondary,
            spare,
            digests,
            old,
            new,
        }
    }

    fn boot(&mut self) -> BootResult {
        let config = config(self.layout, trusted(&self.digests));
        boot_once(&mut self.primary, &mut self.secondary, &mut self.spare, &config)
    }

    fn upload(&mut self, permanent: bool) {
        let image = self.new.clone();
        self.secondary.bytes.fill(0xFF);
        self.secondary.load(self.layout.upload_offset() as usize, &image);
        let policy = trusted(&self.digests);
        let slot = Slot::new(&self.layout)
            .verify(&mut self.secondary, &policy, &SoftCrypto)
            .unwrap();
        if permanent {
            trailer::request_permanent(&mut self.secondary, &slot).unwrap();
        } else {
            trailer::request_test(&mut self.secondary, &slot).unwrap();
        }
    }

    fn primary_trailer(&mut self) -> Trailer {
        Trailer::read(&mut self.primary, &self.layout.primary_trailer()).unwrap()
    }

    fn runs_new(&self) -> bool {
        self.primary.bytes.starts_with(&self.new)
    }

    fn runs_old(&self) -> bool {
        self.primary.bytes.starts_with(&self.old)
    }
}

/// The life of a device after an update was requested: one phase per reset, until nothing changes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// Test; the new image confirms itself.
    Confirm,
    /// Test; the new image never confirms.
    Revert,
    /// Permanent.
    Permanent,
}

/// One reset, and what the application does then; false if the power failed.
fn live(device: &mut Device, story: Story) -> bool {
    match device.boot() {
        Ok(report) => {
            assert!(device.digests.contains(&report.image.digest));
            assert!(
                device.runs_new() || device.runs_old(),
                "what starts is one of the two images"
            );
            if story == Story::Confirm && device.runs_new() {
                return trailer::confirm(&mut device.primary, &device.layout).is_ok();
            }
            true
        }
        Err(error) => {
            assert!(
                device.power.is_off(),
                "no boot although the power is there: {error:?}"
            );
            false
        }
    }
}

/// Resets needed until every story has ended.
const RESETS: u32 = 3;

fn finish_story(device: &mut Device, story: Story) {
    for _ in 0..RESETS {
        assert!(live(device, story));
    }
}

/// Bytes that say how the swap was begun; where MCUboot, too, may end differently after a cut.
fn mask_swap_info(device: &mut Device) {
    let at = device.layout.primary_trailer().swap_info() as usize;
    device.primary.bytes[at] = 0;
}

/// A torn record counts and stays as it is, in MCUboot too: what counts is that it is not erased.
fn normalise_records(device: &mut Device) {
    let trailer = device.layout.primary_trailer();
    for index in 0..trailer.record_count() {
        let at = (trailer.status_start() + index * trailer.status_unit()) as usize;
        if device.primary.bytes[at] != 0xFF {
            device.primary.bytes[at] = 0;
        }
    }
}

/// A record that the driver refused is missing for good (mcuboot case 101).
fn keep_records_of(device: &mut Device, ends: &Ends, reverted: bool) {
    let expected = if reverted { &ends.reverted } else { &ends.as_told };
    let trailer = device.layout.primary_trailer();
    for index in 0..trailer.record_count() {
        let at = (trailer.status_start() + index * trailer.status_unit()) as usize;
        if device.primary.bytes[at] == 0xFF {
            device.primary.bytes[at] = expected.primary.bytes[at];
        }
    }
}

/// True if the new image has started (or was about to) without confirming itself: now a reset brings the old one back.
fn revert_is_due(device: &mut Device) -> bool {
    let trailer = device.primary_trailer();
    device.runs_new() && trailer.copy_done == Flag::Set && trailer.image_ok == Flag::Unset
}

/// How a story ends without a cut, and how it ends if the power fails before the new image confirms itself.
struct Ends {
    ops: u64,
    as_told: Device,
    reverted: Device,
}

impl Ends {
    fn of(start: &Device, story: Story) -> Self {
        let ends = Self::from(start, story);
        assert!(ends.ops > 0);
        ends
    }

    /// From any stage of the story on.
    fn from(start: &Device, story: Story) -> Self {
        let mut as_told = start.fork();
        finish_story(&mut as_told, story);
        let mut reverted = start.fork();
        if story != Story::Permanent {
            finish_story(&mut reverted, Story::Revert);
        }
        Self {
            ops: as_told.power.ops(),
            as_told,
            reverted,
        }
    }
}

fn assert_same(found: &Chip, expected: &Chip, what: &str) {
    if let Some(at) = (0..found.bytes.len()).find(|i| found.bytes[*i] != expected.bytes[*i]) {
        let chip = found.chip;
        panic!(
            "{chip} differs at {at:#x}: {:#04x}, not {:#04x}: {what}",
            found.bytes[at], expected.bytes[at]
        );
    }
}

fn check_end(device: &mut Device, ends: &Ends, reverted: bool, story: Story, what: &str) {
    let mut expected = if reverted {
        ends.reverted.fork()
    } else {
        ends.as_told.fork()
    };
    match device.layout.algorithm() {
        Algorithm::SwapMove | Algorithm::SwapOffset | Algorithm::SwapScratch => {
            normalise_records(device);
            normalise_records(&mut expected);
            let prepared = device.layout.algorithm() != Algorithm::SwapScratch;
            if prepared && (reverted || story == Story::Revert) {
                // A revert cut after its preparation goes on as a permanent swap of the old image, as in MCUboot.
                mask_swap_info(device);
                mask_swap_info(&mut expected);
            }
            assert_same(&device.primary, &expected.primary, what);
            assert_same(&device.secondary, &expected.secondary, what);
        }
        _ => {
            assert_same(&device.primary, &expected.primary, what);
            let layout = device.layout.secondary_trailer();
            let trailer = Trailer::read(&mut device.secondary, &layout).unwrap();
            assert_ne!(trailer.magic, Magic::Good, "still pending: {what}");
        }
    }
}

/// The other image is somewhere whole: in the secondary, or about to be exchanged.
fn check_other_image_kept(device: &Device, what: &str) {
    let starts: &[usize] = match device.layout.algorithm() {
        Algorithm::SwapMove | Algorithm::SwapScratch => &[0],
        Algorithm::SwapOffset => &[0, SECTOR],
        _ => return,
    };
    let other = if device.runs_new() {
        &device.old
    } else {
        &device.new
    };
    assert!(
        starts
            .iter()
            .any(|start| device.secondary.bytes[*start..].starts_with(other)),
        "the other image is gone: {what}"
    );
}

fn tears(seed: u64) -> Vec<Tear> {
    let mut tears = vec![Tear::Before];
    for percent in [25, 50, 75] {
        for extra in 0..6 {
            tears.push(Tear::Inside {
                percent,
                seed: seed * 1000 + u64::from(percent) * 10 + extra,
            });
        }
    }
    // An erase that gets as far as between two fields of the trailer, with the field at the border torn or not.
    for back in [16, 20, 24, 28, 32, 40, 44, 48, 52, 56] {
        for next in [0xFF, 0x00, 0x01, 0x33] {
            tears.push(Tear::Prefix {
                bytes: SECTOR - back,
                next,
            });
        }
    }
    // A program that gets as far as the first byte, and leaves anything there.
    for next in [0xFE, 0x7F, 0x55] {
        tears.push(Tear::Prefix { bytes: 0, next });
    }
    tears
}

/// Runs `story` once without a cut, then once per operation and tear with a cut there; returns the number of cuts.
fn campaign(start: &Device, story: Story) -> u64 {
    campaign_of(start, story, |op, _| tears(op))
}

/// Few tears for the many copied kibibytes, all of them for everything else.
fn fewer_tears(op: u64, what: &Op) -> Vec<Tear> {
    let mut tears = tears(op);
    if matches!(what, Op::Write { bytes, .. } if bytes.len() > 64) {
        tears.truncate(2);
    }
    tears
}

/// [`campaign`] with the tears that a function gives for each operation.
fn campaign_of(start: &Device, story: Story, tears: impl Fn(u64, &Op) -> Vec<Tear>) -> u64 {
    let ends = Ends::of(start, story);
    let ops = ends.ops;
    let mut whole = start.fork();
    whole.power.record();
    finish_story(&mut whole, story);
    let mut cuts = 0;
    for (op, done) in (0..ops).zip(whole.power.recorded()) {
        for tear in tears(op, &done) {
            let what = format!("{story:?} op {op} of {ops}, {tear:?}");
            let mut device = start.fork();
            device.power.cut_at(op, tear);
            while live(&mut device, story) {}
            device.power.on();
            let reverted = story == Story::Confirm && revert_is_due(&mut device);
            // The first boot after the cut starts an image, and keeps the other one.
            assert!(live(&mut device, story), "{what}");
            check_other_image_kept(&device, &what);
            finish_story(&mut device, story);
            check_end(&mut device, &ends, reverted, story, &what);
            cuts += 1;
        }
    }
    cuts
}

/// Like [`campaign`], with a second (and third) cut during the recovery at every `stride`-th operation.
fn campaign_of_repeated_cuts(start: &Device, story: Story, stride: usize) -> u64 {
    let ends = Ends::of(start, story);
    let ops = ends.ops;
    let mut cuts = 0;
    for first in 0..ops {
        let tear = Tear::Inside {
            percent: (first * 37 % 100) as u8,
            seed: first,
        };
        let mut cut_once = start.fork();
        cut_once.power.cut_at(first, tear);
        while live(&mut cut_once, story) {}
        cut_once.power.on();
        let reverted_once = story == Story::Confirm && revert_is_due(&mut cut_once);
        for second in ((first as usize % stride) as u64..ops).step_by(stride) {
            let tear = if second % 3 == 0 {
                Tear::Before
            } else {
                Tear::Inside {
                    percent: (second * 53 % 100) as u8,
                    seed: first * 1000 + second,
                }
            };
            let what = format!("{story:?} first {first}, second {second}, {tear:?}");
            let mut device = cut_once.fork();
            let mut reverted = reverted_once;
            device.power.cut_at(second, tear);
            for _ in 0..=RESETS {
                if !live(&mut device, story) {
                    break;
                }
            }
            device.power.on();
            reverted |= story == Story::Confirm && revert_is_due(&mut device);
            device.power.cut_at(
                second % 5,
                Tear::Inside {
                    percent: 50,
                    seed: second,
                },
            );
            live(&mut device, story);
            device.power.on();
            reverted |= story == Story::Confirm && revert_is_due(&mut device);
            assert!(live(&mut device, story), "{what}");
            check_other_image_kept(&device, &what);
            finish_story(&mut device, story);
            check_end(&mut device, &ends, reverted, story, &what);
            cuts += 1;
        }
    }
    cuts
}

fn pending(layout: Layout, story: Story, old_size: u32, new_size: u32) -> Device {
    let mut device = Device::new(layout, old_size, new_size);
    device.upload(story == Story::Permanent);
    device.power.on();
    device
}

/// Image sizes that make swaps of 3 sectors, the primary or the secondary image being the larger one.
const SIZES: [(u32, u32); 2] = [(5000, 9000), (9000, 2000)];

/// The swaps with status records.
const SWAPS: [Algorithm; 3] = [Algorithm::SwapOffset, Algorithm::SwapMove, Algorithm::SwapScratch];

fn survives(story: Story, least: u64) {
    for algorithm in SWAPS {
        for (old, new) in SIZES {
            let cuts = campaign(&pending(plain(algorithm), story, old, new), story);
            assert!(cuts > least, "{algorithm:?}: {cuts}");
        }
    }
}

// mcuboot cases 83-84, 86-94
#[test]
fn swaps_survive_a_cut_anywhere_in_a_confirmed_update() {
    survives(Story::Confirm, 300);
}

// mcuboot cases 83-96
#[test]
fn swaps_survive_a_cut_anywhere_in_a_reverted_update() {
    survives(Story::Revert, 600);
}

// mcuboot cases 83-94
#[test]
fn swaps_survive_a_cut_anywhere_in_a_permanent_update() {
    survives(Story::Permanent, 300);
}

// mcuboot case 99
#[test]
fn swaps_survive_repeated_cuts() {
    for algorithm in SWAPS {
        for story in [Story::Confirm, Story::Revert, Story::Permanent] {
            campaign_of_repeated_cuts(&pending(plain(algorithm), story, 5000, 9000), story, 2);
        }
    }
}

#[test]
fn swaps_survive_cuts_with_a_trailer_of_two_sectors() {
    for algorithm in SWAPS {
        let layout = layout(algorithm, (9, 9), 8, 768);
        assert!(layout.primary_trailer().first_sector() < 8 * SECTOR as u32); // mcuboot case 79
        for story in [Story::Confirm, Story::Revert, Story::Permanent] {
            campaign(&pending(layout, story, 5000, 9000), story);
        }
    }
}

#[test]
fn swaps_survive_cuts_with_other_geometries() {
    // One sector more in the slot that needs it, the largest image; and the wider spacing of trailer fields.
    for (layout, new) in [
        (layout(Algorithm::SwapOffset, (5, 6), 8, 128), 15000),
        (layout(Algorithm::SwapOffset, (8, 8), 16, 128), 9000),
        (layout(Algorithm::SwapOffset, (8, 8), 32, 16), 9000),
        (plain(Algorithm::SwapOffset).without_tlv_sizes(), 9000),
        (layout(Algorithm::SwapMove, (6, 5), 8, 128), 15000),
        (layout(Algorithm::SwapMove, (8, 8), 16, 128), 9000),
        (layout(Algorithm::SwapMove, (8, 8), 32, 16), 9000),
    ] {
        for story in [Story::Confirm, Story::Revert, Story::Permanent] {
            campaign(&pending(layout, story, 5000, new), story);
        }
    }
}

/// Both slots without their trailer sectors, and the flags.
fn without_trailers(device: &mut Device) -> (Vec<u8>, Vec<u8>, [Magic; 2], [Flag; 2]) {
    let layouts = (device.layout.primary_trailer(), device.layout.secondary_trailer());
    let primary = device.primary_trailer();
    let secondary = Trailer::read(&mut device.secondary, &layouts.1).unwrap();
    (
        device.primary.bytes[..layouts.0.first_sector() as usize].to_vec(),
        device.secondary.bytes[..layouts.1.first_sector() as usize].to_vec(),
        [primary.magic, secondary.magic],
        [primary.image_ok, primary.copy_done],
    )
}

// mcuboot cases 87, 114
#[test]
fn a_swap_using_offset_is_finished_with_either_trailer() {
    // MCUboot 2.2 has no field for TLV sizes, 2.3 has one: begun by one of them, finished by a build for the other.
    let newer = plain(Algorithm::SwapOffset);
    let older = newer.without_tlv_sizes();
    for (begun, finished) in [(older, newer), (newer, older)] {
        for story in [Story::Revert, Story::Permanent] {
            for (old, new) in SIZES {
                let start = pending(begun, story, old, new);
                let mut whole = start.fork();
                finish_story(&mut whole, story);
                for op in 0..whole.power.ops() {
                    let mut device = start.fork();
                    device.power.cut_at(op, Tear::Before);
                    while live(&mut device, story) {}
                    device.power.on();
                    device.layout = finished;
                    finish_story(&mut device, story);
                    device.layout = begun;
                    assert!(
                        without_trailers(&mut device) == without_trailers(&mut whole),
                        "{story:?} cut at {op}, {:?}",
                        begun.primary_trailer().tlv_sizes()
                    );
                }
            }
        }
    }
}

#[test]
fn swaps_survive_cuts_of_a_second_update_over_the_trailers_of_the_first() {
    for algorithm in SWAPS {
        for story in [Story::Confirm, Story::Revert, Story::Permanent] {
            let mut device = pending(plain(algorithm), Story::Permanent, 5000, 9000);
            finish_story(&mut device, Story::Permanent);
            std::mem::swap(&mut device.old, &mut device.new);
            device.upload(story == Story::Permanent);
            device.power.on();
            campaign(&device, story);
        }
    }
}

#[test]
fn swaps_survive_cuts_of_a_request_made_by_imgtool() {
    for algorithm in SWAPS {
        // Magic and image_ok, no swap type.
        let mut device = Device::new(plain(algorithm), 5000, 9000);
        let image = device.new.clone();
        let trailer = device.layout.secondary_trailer();
        device
            .secondary
            .load(device.layout.upload_offset() as usize, &image);
        device.secondary.load(trailer.image_ok() as usize, &[1]);
        device
            .secondary
            .load(trailer.magic() as usize, &trailer::magic_bytes(8));
        campaign(&device, Story::Permanent);
    }
}

/// Layouts of swap using scratch: the slots' and the scratch area's sectors, and M.
fn scratch_layouts() -> Vec<Layout> {
    [
        (geometry(8, 1), geometry(8, 1), geometry(1, 1), 128),
        (geometry(8, 1), geometry(8, 1), geometry(3, 1), 128),
        (geometry(8, 1), geometry(8, 1), geometry(1, 2), 128),
        // The whole image is one region.
        (geometry(8, 1), geometry(8, 1), geometry(8, 1), 128),
        (geometry(8, 1), geometry(2, 4), geometry(4, 1), 128),
        (geometry(4, 2), geometry(8, 1), geometry(2, 1), 128),
        // A trailer of two sectors; the scratch trailer is larger than the part of it in the first one.
        (geometry(9, 1), geometry(9, 1), geometry(1, 1), 341),
        (geometry(9, 1), geometry(9, 1), geometry(2, 1), 341),
        (geometry(10, 1), geometry(5, 2), geometry(2, 1), 360),
    ]
    .map(|(primary, secondary, scratch, m)| {
        Layout::with_spare(Algorithm::SwapScratch, primary, secondary, Some(scratch), 8, m).unwrap()
    })
    .into()
}

/// Sizes of payloads: a small and a largest one, which reaches into the first trailer sector.
fn scratch_sizes(layout: &Layout) -> [(u32, u32); 2] {
    let largest = layout.max_image_size() - 0x200 - 160;
    [(3000, largest), (largest, 3000)]
}

/// Both ways an update ends without its help; a confirmed one is the first half of a reverted one.
const STORIES: [Story; 2] = [Story::Revert, Story::Permanent];

// mcuboot case 97
#[test]
fn scratch_survives_cuts_with_every_geometry() {
    for (number, layout) in scratch_layouts().into_iter().enumerate() {
        for (old, new) in scratch_sizes(&layout) {
            for story in STORIES {
                println!("layout {number}, {old} and {new} bytes");
                assert!(campaign_of(&pending(layout, story, old, new), story, fewer_tears) > 300);
            }
        }
    }
}

#[test]
fn scratch_survives_repeated_cuts_with_every_geometry() {
    for (number, layout) in scratch_layouts().into_iter().enumerate() {
        for (old, new) in scratch_sizes(&layout) {
            for story in STORIES {
                println!("layout {number}, {old} and {new} bytes");
                campaign_of_repeated_cuts(&pending(layout, story, old, new), story, 7);
            }
        }
    }
}

#[test]
fn scratch_does_not_believe_a_record_that_a_torn_erase_left_over_nothing() {
    for layout in scratch_layouts() {
        let area = layout.spare().unwrap();
        for (old, new) in scratch_sizes(&layout) {
            for story in STORIES {
                let start = pending(layout, story, old, new);
                let ends = Ends::of(&start, story);
                let mut cut_once = start.fork();
                // In the first unit: erase the scratch area, four or five writes of a job, the first kibibytes.
                let first =
                    u64::from(area.slot_size) / SECTOR as u64 + 4 + u64::from(story == Story::Permanent);
                cut_once.power.cut_at(first, Tear::Before);
                assert!(!live(&mut cut_once, story));
                cut_once.power.on();
                let records = layout.spare_trailer().unwrap().status_start() as usize % SECTOR;
                for next in [0x00, 0x01, 0x7F] {
                    let mut device = cut_once.fork();
                    let last = u64::from(area.slot_size) / SECTOR as u64 - 1;
                    let tear = Tear::Prefix { bytes: records, next };
                    device.power.cut_at(last, tear);
                    assert!(!live(&mut device, story));
                    device.power.on();
                    let what = format!("{story:?} {old} {new} {area:?} {tear:?}");
                    assert!(live(&mut device, story), "{what}");
                    check_other_image_kept(&device, &what);
                    finish_story(&mut device, story);
                    check_end(&mut device, &ends, false, story, &what);
                }
            }
        }
    }
}

/// `start`, cut so many operations behind the first one of its boot that is `wanted`, and with the power back.
fn cut_behind(start: &Device, story: Story, wanted: impl Fn(&Op) -> bool, behind: u64) -> Device {
    let mut whole = start.fork();
    whole.power.record();
    assert!(live(&mut whole, story));
    let op = whole.power.recorded().iter().position(wanted).unwrap() as u64;
    let mut device = start.fork();
    device.power.cut_at(op + behind, Tear::Before);
    assert!(!live(&mut device, story));
    device.power.on();
    device
}

/// The first boot starts an image and keeps the other one, and the story ends as without a cut.
fn assert_recovers(mut device: Device, ends: &Ends, story: Story, what: &str) {
    assert!(live(&mut device, story), "{what}");
    check_other_image_kept(&device, what);
    finish_story(&mut device, story);
    check_end(&mut device, ends, false, story, what);
}

/// Devices that keep the job in scratch, cut where the primary lacks only the third record; its place, and the ends.
fn cut_before_the_third_record() -> Vec<(Device, usize, Ends, Story)> {
    let mut found = Vec::new();
    for layout in scratch_layouts() {
        for (old, new) in scratch_sizes(&layout) {
            for story in STORIES {
                let start = pending(layout, story, old, new);
                let ends = Ends::of(&start, story);
                let trailer = layout.primary_trailer();
                let third = trailer.status_start() + 2 * trailer.status_unit();
                let is_third =
                    |op: &Op| matches!(op, Op::Write { chip: 'p', offset, .. } if *offset == third);
                let device = cut_behind(&start, story, is_third, 0);
                found.push((device, third as usize, ends, story));
            }
        }
    }
    assert!(found.len() > 30);
    found
}

#[test]
fn scratch_goes_on_from_scratch_when_the_erase_of_a_primary_with_the_job_was_torn() {
    let mut torn = 0;
    for (device, third, ends, story) in cut_before_the_third_record() {
        let sector = third / SECTOR * SECTOR;
        if (device.layout.primary_trailer().magic() as usize) >= sector + SECTOR {
            continue; // the magic goes first
        }
        let unit = device.layout.primary_trailer().status_unit() as usize;
        let record = |state: u8, rest: u8| [vec![state], vec![rest; unit - 1]].concat();
        for left in [
            // The third record alone.
            [vec![0xFF; 2 * unit], vec![0x7F]].concat(),
            // All three with anything in them, and then more of them.
            vec![0x7F; 3 * unit],
            vec![0x7F; 9 * unit],
            // Some of it as it should be, by chance.
            [vec![0x7F; 2 * unit], record(3, 0xFF)].concat(),
            [record(1, 0x7F), record(2, 0x7F), record(3, 0x7F)].concat(),
        ] {
            let erased = third - 2 * unit;
            let mut device = device.fork();
            device.primary.bytes[sector..erased].fill(0xFF);
            device.primary.bytes[erased..erased + left.len()].copy_from_slice(&left);
            let what = format!("{story:?} torn at {erased:#x}, {left:02x?}");
            assert_recovers(device, &ends, story, &what);
            torn += 1;
        }
    }
    assert!(torn > 100, "{torn}");
}

/// MCUboot erases the primary even when the third record stands, a trailer of two sectors from the upper one down.
#[test]
fn scratch_goes_on_from_scratch_when_mcuboot_has_torn_the_upper_sector_of_the_trailer() {
    let mut torn = 0;
    for (mut device, third, ends, story) in cut_before_the_third_record() {
        let upper = (third / SECTOR + 1) * SECTOR;
        if (device.layout.primary_trailer().magic() as usize) < upper {
            continue;
        }
        device.primary.bytes[third] = 3;
        let first = (upper - third).next_multiple_of(device.layout.primary_trailer().status_unit() as usize);
        device.primary.bytes[third + first] = 0x7F;
        let what = format!("{story:?} torn at {:#x}", third + first);
        assert_recovers(device, &ends, story, &what);
        torn += 1;
    }
    assert!(torn > 0, "{torn}");
}

#[test]
fn scratch_does_not_finish_the_update_before_when_its_trailer_was_torn_in_the_next() {
    for layout in scratch_layouts() {
        let largest = scratch_sizes(&layout)[0].1;
        let mut start = pending(layout, Story::Permanent, largest, largest);
        finish_story(&mut start, Story::Permanent);
        std::mem::swap(&mut start.old, &mut start.new);
        start.upload(true);
        start.power.on();
        let ends = Ends::of(&start, Story::Permanent);
        let is_erase = |op: &Op| matches!(op, Op::Erase { chip: 'p', .. });
        let mut device = cut_behind(&start, Story::Permanent, is_erase, 0);
        device.primary.bytes[layout.primary_trailer().copy_done() as usize] = 0x7F;
        let what = format!("{layout:?}");
        assert_recovers(device, &ends, Story::Permanent, &what);
    }
}

#[test]
fn scratch_is_not_taken_up_again_when_mcuboot_has_copied_a_torn_record_from_it() {
    for (device, third, ends, story) in cut_before_the_third_record() {
        let (primary, spare) = (
            device.layout.primary_trailer(),
            device.layout.spare_trailer().unwrap(),
        );
        let unit = primary.status_unit() as usize;
        let first = spare.status_start() as usize;
        let copied = (0..third)
            .rev()
            .find(|at| device.primary.bytes[*at] == 1 && device.primary.bytes[at + unit] == 2)
            .unwrap();
        // The last erase of the scratch area has not begun; has begun; has left one of its records; or its magic alone.
        for erased in [
            0,
            1,
            first,
            first + unit,
            first + 2 * unit,
            spare.slot_size() as usize,
        ] {
            let mut device = device.fork();
            device.spare.bytes[first] = 0x7F;
            device.primary.bytes[copied] = 0x7F;
            device.primary.bytes[third] = 3;
            device.spare.bytes[..erased].fill(0xFF);
            let what = format!("{story:?}, {erased:#x} bytes of scratch erased");
            assert!(live(&mut device, story), "{what}");
            check_other_image_kept(&device, &what);
            finish_story(&mut device, story);
            // As torn as ever; a revert has written its own.
            device.primary.bytes[copied] = ends.as_told.primary.bytes[copied];
            check_end(&mut device, &ends, false, story, &what);
        }
    }
}

#[test]
fn scratch_with_its_first_record_alone_is_older_than_a_primary_with_the_third() {
    for (mut device, third, ends, story) in cut_before_the_third_record() {
        let spare = device.layout.spare_trailer().unwrap();
        let second = (spare.status_start() + spare.status_unit()) as usize;
        // Torn, so that it does not count to the byte.
        device.primary.bytes[third] = 0x07;
        device.spare.bytes[second..second + spare.status_unit() as usize].fill(0xFF);
        device.spare.bytes[..second - spare.status_unit() as usize].fill(0xFF);
        assert!(live(&mut device, story));
        finish_story(&mut device, story);
        check_end(&mut device, &ends, false, story, "one record left in scratch");
    }
}

/// The request or the revert stands, so the area is erased, and everything begins again.
#[test]
fn scratch_does_not_believe_two_records_that_a_torn_erase_left_over_nothing() {
    for layout in scratch_layouts() {
        let spare = layout.spare_trailer().unwrap();
        let records = spare.status_start() as usize;
        for (old, new) in scratch_sizes(&layout) {
            // With a request; and with a revert that is due, which the secondary's trailer says nothing of.
            for (story, resets) in [(Story::Revert, 0), (Story::Permanent, 0), (Story::Revert, 1)] {
                let mut start = pending(layout, story, old, new);
                let ends = Ends::of(&start, story);
                for _ in 0..resets {
                    assert!(live(&mut start, story));
                }
                start.power.on();
                let is_magic =
                    |op: &Op| matches!(op, Op::Write { chip: 'x', offset, .. } if *offset == spare.magic());
                let mut device = cut_behind(&start, story, is_magic, 1);
                device.spare.bytes[records..records + 2 * spare.status_unit() as usize].fill(0x7F);
                let what = format!("{story:?} {old} {new} {layout:?}");
                assert_recovers(device, &ends, story, &what);
            }
        }
    }
}

/// A revert is asked for until the primary trailer is erased; by then nothing but the data tells these records from garbage.
#[test]
fn scratch_goes_on_after_both_its_records_were_torn() {
    for layout in scratch_layouts() {
        let spare = layout.spare_trailer().unwrap();
        let records = [spare.status_start(), spare.status_start() + spare.status_unit()];
        let largest = scratch_sizes(&layout)[0].1;
        let start = pending(layout, Story::Revert, largest, largest);
        let ends = Ends::of(&start, Story::Revert);
        let mut under_test = start.fork();
        assert!(live(&mut under_test, Story::Revert));
        let is_second = |op: &Op| matches!(op, Op::Write { chip: 'x', offset, .. } if *offset == records[1]);
        let mut device = cut_behind(&under_test, Story::Revert, is_second, 0);
        device.spare.bytes[records[0] as usize] = 0x15;
        device.spare.bytes[records[1] as usize] = 0xEA;
        let what = format!("{layout:?}");
        assert_recovers(device, &ends, Story::Revert, &what);
    }
}

/// While its magic stands, MCUboot takes the scratch area for true, and copies it over the primary.
// mcuboot case 97
#[test]
fn scratch_keeps_its_data_as_long_as_its_magic() {
    let mut states = 0;
    for layout in scratch_layouts() {
        if layout.spare().unwrap().sector_size > SECTOR as u32 {
            continue; // one erase of it is several in these chips
        }
        for (old, new) in scratch_sizes(&layout) {
            for story in STORIES {
                let start = pending(layout, story, old, new);
                let mut whole = start.fork();
                assert!(live(&mut whole, story));
                let spare = layout.spare_trailer().unwrap();
                let record = spare.status_start() as usize;
                let mut data: Option<Vec<u8>> = None;
                for op in 0..whole.power.ops() {
                    let mut device = start.fork();
                    device.power.cut_at(op, Tear::Before);
                    assert!(!live(&mut device, story));
                    device.power.on();
                    let trailer = Trailer::read(&mut device.spare, &spare).unwrap();
                    if trailer.magic != Magic::Good || device.spare.bytes[record] == 0xFF {
                        continue;
                    }
                    let found = &device.spare.bytes[..record];
                    let data = data.get_or_insert_with(|| found.to_vec());
                    assert!(found == data, "{layout:?} {story:?} cut before {op}");
                    states += 1;
                }
            }
        }
    }
    assert!(states > 100, "{states}");
}

/// Two images in 64 KiB slots with 4 KiB of scratch: the operations in the order of `swap_scratch.c`.
#[test]
fn scratch_does_the_operations_of_mcuboot_in_its_order() {
    let mut device = Device::new(layout(Algorithm::SwapScratch, (16, 16), 8, 128), 6000, 11000);
    device.upload(false);
    let size: String = (device.new.len() as u32)
        .to_le_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    for (info, blank) in [("02", "C s 2"), ("04", "C x 0")] {
        device.power.record();
        device.boot().unwrap();
        let mut expected = vec!["E x 0".into(), format!("W x 0FD8={info}ffffff")];
        expected.extend([format!("W x 0FD0={size}"), "M x 0FF0".into()]);
        expected.extend(["E p f".into(), format!("W p FFD8={info}ffffff")]);
        expected.extend([format!("W p FFD0={size}"), "M p FFF0".into(), "E x 0".into()]);
        for (index, sector) in [2, 1, 0].into_iter().enumerate() {
            let record = |state: usize| {
                let at = 0xF9D0 + 4 * (3 * index + state - 1);
                format!("W p {at:04X}={state:02x}ffffff")
            };
            if index > 0 {
                expected.push("E x 0".into());
            }
            expected.extend(["C x 0".into(), record(1)]);
            if index == 0 {
                expected.push("E s f".into());
            }
            expected.extend([format!("E s {sector}"), format!("C s {sector}"), record(2)]);
            expected.extend([format!("E p {sector}"), format!("C p {sector}"), record(3)]);
        }
        // The third sector of the old image is blank.
        let at = expected.iter().position(|line| line == blank).unwrap();
        expected.remove(at);
        if info == "04" {
            let at = expected.iter().position(|line| line == "C p 2").unwrap();
            expected.remove(at);
            expected.push("W p FFE8=01ffffff".into());
        }
        expected.push("W p FFE0=01ffffff".into());
        assert_eq!(script(&device.power.recorded()), expected);
    }
}

#[test]
fn scratch_keeps_the_job_in_scratch_while_the_trailer_sector_is_exchanged() {
    let new = 0xF9D0 - 0x200 - 160;
    let mut device = Device::new(layout(Algorithm::SwapScratch, (16, 16), 8, 128), 6000, new);
    device.upload(true);
    let size: String = (device.new.len() as u32)
        .to_le_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    device.power.record();
    device.boot().unwrap();
    let (in_scratch, in_primary) = (format!("W x 0FD0={size}"), format!("W p FFD0={size}"));
    let expected = [
        "E x 0",
        "W x 0FD8=03ffffff",
        "W x 0FE8=01ffffff",
        &in_scratch,
        "M x 0FF0",
        "C x 0",
        "W x 0FC4=01ffffff",
        "E s f",
        "W x 0FC8=02ffffff",
        "E p f",
        "C p f",
        "W p F9D0=01ffffff02ffffff",
        "W p FFE8=01ffffff",
        "W p FFD8=03ffffff",
        &in_primary,
        "M p FFF0",
        "W p F9D8=03ffffff",
        "E x 0",
        "E x 0",
        "C x 0",
        "W p F9DC=01ffffff",
    ];
    let found = script_of_all(&device.power.recorded());
    assert_eq!(found[..expected.len()], expected);
}

// mcuboot case 98
#[test]
fn overwrite_survives_a_cut_anywhere() {
    for (old, new) in SIZES {
        for story in [Story::Permanent, Story::Revert] {
            assert!(campaign(&pending(plain(Algorithm::Overwrite), story, old, new), story) > 50);
        }
    }
}

// mcuboot cases 98, 99
#[test]
fn overwrite_survives_repeated_cuts() {
    campaign_of_repeated_cuts(
        &pending(plain(Algorithm::Overwrite), Story::Permanent, 5000, 9000),
        Story::Permanent,
        3,
    );
}

/// The operations of a boot, copies shortened to the sector they fill.
fn script(ops: &[Op]) -> Vec<String> {
    let mut out = script_of_all(ops);
    out.dedup();
    out
}

/// As [`script`], with erases that follow each other in the same place.
fn script_of_all(ops: &[Op]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for op in ops {
        let line = match op {
            Op::Erase { chip, sector } => format!("E {chip} {sector:x}"),
            Op::Write { chip, offset, bytes } if bytes.len() > 16 => {
                format!("C {chip} {:x}", offset / SECTOR as u32)
            }
            Op::Write { chip, offset, bytes } if bytes.len() == 16 => format!("M {chip} {offset:04X}"),
            Op::Write { chip, offset, bytes } => {
                let value: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                format!("W {chip} {offset:04X}={value}")
            }
        };
        if line.starts_with('E') || out.last() != Some(&line) {
            out.push(line);
        }
    }
    out
}

/// Upgrade and revert between 6 KB and 11 KB images in 64 KiB slots: the operations MCUboot was seen to do.
#[test]
fn move_does_the_operations_of_mcuboot_in_its_order() {
    let mut device = Device::new(layout(Algorithm::SwapMove, (16, 16), 8, 128), 6000, 11000);
    device.upload(false);
    let new_size = (device.new.len() as u32).to_le_bytes();
    let size: String = new_size.iter().map(|b| format!("{b:02x}")).collect();
    let exchange = [
        "E p 3",
        "C p 3",
        "W p F9D0=01ffffff",
        "E p 2",
        "C p 2",
        "W p F9D4=01ffffff",
        "E p 1",
        "C p 1",
        "W p F9D8=01ffffff",
        "E p 0",
        "C p 0",
        "W p FBD0=01ffffff",
        "E s 0",
        "C s 0",
        "W p FBD4=02ffffff",
        "E p 1",
        "C p 1",
        "W p FBD8=01ffffff",
        "E s 1",
        "C s 1",
        "W p FBDC=02ffffff",
        "E p 2",
        "C p 2",
        "W p FBE0=01ffffff",
        "E s 2",
        "C s 2",
        "W p FBE4=02ffffff",
    ];
    let strings = |parts: &[&str]| parts.iter().map(|part| part.to_string()).collect::<Vec<_>>();

    device.power.record();
    device.boot().unwrap();
    let mut expected = strings(&["E p f", "W p FFD8=02ffffff"]);
    expected.push(format!("W p FFD0={size}"));
    expected.extend(strings(&["M p FFF0", "E s f"]));
    expected.extend(strings(&exchange));
    expected.push("W p FFE0=01ffffff".into());
    // The old image is shorter: its third sector is blank, and a copy of nothing writes nothing.
    let blank = ["C p 3", "C s 2"];
    expected.retain(|line| !blank.contains(&line.as_str()));
    assert_eq!(script(&device.power.recorded()), expected);

    device.power.record();
    device.boot().unwrap();
    let mut expected = strings(&["E s f", "W s FFE8=01ffffff"]);
    expected.push(format!("W s FFD0={size}"));
    expected.extend(strings(&[
        "M s FFF0",
        "E p f",
        "W p FFD8=04ffffff",
        "W p FFE8=01ffffff",
    ]));
    expected.push(format!("W p FFD0={size}"));
    expected.extend(strings(&["M p FFF0", "E s f"]));
    expected.extend(strings(&exchange));
    expected.push("W p FFE0=01ffffff".into());
    assert_eq!(
        script(&device.power.recorded()),
        remove_blank_revert_copy(expected)
    );
}

/// In the revert the third sector of the old image, blank in the secondary, is what is not copied into the primary.
fn remove_blank_revert_copy(mut lines: Vec<String>) -> Vec<String> {
    let last = lines.iter().rposition(|line| line == "C p 2").unwrap();
    lines.remove(last);
    lines
}

#[test]
fn overwrite_does_the_operations_of_mcuboot_in_its_order() {
    let mut device = Device::new(layout(Algorithm::Overwrite, (16, 16), 8, 128), 6000, 11000);
    device.upload(false);
    device.power.record();
    let report = device.boot().unwrap();
    assert_eq!(
        report.action,
        BootAction::Installed {
            swap_type: SwapType::Test,
            resumed: false
        }
    );
    let found = script(&device.power.recorded());
    assert_eq!(
        found,
        ["E p 0", "E p 1", "E p 2", "E p f", "C p 0", "C p 1", "C p 2", "M p FFF0", "E s 0", "E s f"]
    );
}

/// What a driver does wrong for a while: it fails a call twice, so that a second try does not help, or every call from there on.
const FAILURES: [u64; 2] = [2, u64::MAX / 2];

/// Fails single reads, then single erases and programs, of one boot: of every boot of the story, and of the boots after a cut
/// at every `stride`-th operation. The boots after that end as if nothing had been. Returns the number of failures.
fn campaign_of_failures(start: &Device, story: Story, stride: usize) -> u64 {
    let ops = Ends::of(start, story).ops;
    let mut stages = Vec::new();
    let mut whole = start.fork();
    for _ in 0..RESETS {
        stages.push(whole.fork());
        assert!(live(&mut whole, story));
    }
    for op in (0..ops).step_by(stride) {
        let mut device = start.fork();
        device.power.cut_at(op, Tear::Before);
        while live(&mut device, story) {}
        stages.push(device.fork());
    }
    let failures = |(number, stage)| failures_of(stage, story, &format!("stage {number}"));
    stages.iter().enumerate().map(failures).sum()
}

/// The same for the next boot of one device.
fn failures_of(stage: &Device, story: Story, what: &str) -> u64 {
    let mut failures = 0;
    let mut whole = stage.fork();
    whole.boot().unwrap();
    let calls = [(true, whole.power.reads()), (false, whole.power.ops())];
    let ends = Ends::from(stage, story);
    for (reads, count) in calls {
        for (first, length) in (0..count).flat_map(|first| FAILURES.map(|length| (first, length))) {
            let what = format!("{story:?} {what}, reads: {reads}, {first} + {length} of {count}");
            let mut device = stage.fork();
            if reads {
                device.power.fail_reads(first..first + length);
            } else {
                device.power.fail_ops(first..first + length);
            }
            let started = device.boot();
            device.power.on();
            match started {
                Ok(report) => {
                    assert!(device.digests.contains(&report.image.digest), "{what}");
                    assert!(device.runs_new() || device.runs_old(), "{what}");
                    // A revert that is put off must not be one that is given up.
                    if story == Story::Confirm && device.runs_new() && whole.runs_new() {
                        trailer::confirm(&mut device.primary, &device.layout).unwrap();
                    }
                }
                Err(error) => {
                    let is_flash = matches!(error, bledfu_swap::BootError::Flash(_));
                    assert!(is_flash, "{error:?}: {what}");
                }
            }
            let reverted = story == Story::Confirm && revert_is_due(&mut device);
            assert!(live(&mut device, story), "{what}");
            check_other_image_kept(&device, &what);
            finish_story(&mut device, story);
            if !reads {
                keep_records_of(&mut device, &ends, reverted);
            }
            check_end(&mut device, &ends, reverted, story, &what);
            failures += 1;
        }
    }
    failures
}

/// A job in scratch of which nobody knows yet whether it is one: only the data can tell.
#[test]
fn a_doubtful_job_survives_failures_of_the_driver() {
    for layout in scratch_layouts() {
        let spare = layout.spare_trailer().unwrap();
        let records = spare.status_start() as usize;
        let (old, new) = scratch_sizes(&layout)[0];
        for story in STORIES {
            let start = pending(layout, story, old, new);
            let is_magic =
                |op: &Op| matches!(op, Op::Write { chip: 'x', offset, .. } if *offset == spare.magic());
            let mut device = cut_behind(&start, story, is_magic, 1);
            device.spare.bytes[records] = 0x7F;
            assert!(failures_of(&device, story, "doubtful") > 100);
        }
    }
}

#[test]
fn swaps_survive_failures_of_the_driver_anywhere() {
    for algorithm in SWAPS {
        for story in [Story::Confirm, Story::Revert, Story::Permanent] {
            let failures = campaign_of_failures(&pending(plain(algorithm), story, 5000, 9000), story, 3);
            assert!(failures > 1000, "{algorithm:?}: {failures}");
        }
    }
}

#[test]
fn swaps_survive_failures_of_the_driver_where_images_reach_into_the_trailer_sector() {
    let layout = plain(Algorithm::SwapScratch);
    let size = layout.max_image_size() - 700;
    for story in [Story::Confirm, Story::Revert, Story::Permanent] {
        campaign_of_failures(&pending(layout, story, 9000, size), story, 7);
    }
}

#[test]
fn overwrite_survives_failures_of_the_driver_anywhere() {
    let layout = plain(Algorithm::Overwrite);
    campaign_of_failures(
        &pending(layout, Story::Permanent, 5000, 9000),
        Story::Permanent,
        3,
    );
}
