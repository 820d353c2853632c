// SPDX-License-Identifier: Apache-2.0
//! Copy with a kept revert image: power fails before or inside every operation of whole updates, several in a row, once and
//! again during the recovery; what an install costs; and what is done with places that hold something else.

mod common;

use std::rc::Rc;

use bledfu_slot::copy_roles::{self, Place, Record};
use bledfu_slot::trailer::{self, Flag, Magic, SwapType, Trailer};
use bledfu_slot::{Algorithm, Geometry, ImagePolicy, Layout, Slot, SoftCrypto};
use bledfu_swap::{BootAction, Downgrade, SkipReason};
use bledfu_testkit::{sha256, Image, Key, Nor, Op, Power, Random, Tear, SECTOR};
use common::{boot_once, config, trusted, BootResult};

const KEY: Key = Key(7);
const PAGE: u32 = SECTOR as u32;

/// Sizes of the three areas in pages, and the sectors the external places are managed in.
fn layout(pages: [u32; 3], external_sector: u32, max_align: u32) -> Layout {
    layout_of::<4>(pages, external_sector, max_align)
}

/// The same with write units of `W` bytes.
fn layout_of<const W: usize>(pages: [u32; 3], external_sector: u32, max_align: u32) -> Layout {
    let geometry = |pages, sector_size| Geometry {
        slot_size: pages * PAGE,
        sector_size,
        write_size: W as u32,
    };
    let [primary, first, second] = pages;
    Layout::with_spare(
        Algorithm::Copy,
        geometry(primary, PAGE),
        geometry(first, external_sector),
        Some(geometry(second, external_sector)),
        max_align,
        128,
    )
    .unwrap()
}

fn plain() -> Layout {
    layout([5, 5, 5], PAGE, 8)
}

/// With the write unit of the parts that most devices have.
type Device = Board<4>;

/// A device, and the images there are.
struct Board<const W: usize> {
    layout: Layout,
    power: Rc<Power>,
    primary: Nor<W>,
    places: [Nor<W>; 2],
    /// Accepted by digest, so that campaigns need not check thousands of signatures.
    digests: Vec<[u8; 32]>,
    images: Vec<Vec<u8>>,
    /// Numbers of the image before and of the update.
    old: usize,
    new: usize,
}

impl<const W: usize> Board<W> {
    /// Image number 0 is in the primary slot; its payload has `sizes[0]` bytes.
    fn new(layout: Layout, sizes: &[u32]) -> Self {
        let power = Power::new();
        let images: Vec<Image> = (1..)
            .zip(sizes)
            .map(|(number, size)| Image::bare(0x200, *size, number).sign(KEY))
            .collect();
        let chip = |name, area: Geometry| Nor::new(name, (area.slot_size / PAGE) as usize, &power);
        let mut device = Self {
            layout,
            primary: chip('p', layout.primary()),
            places: [chip('0', layout.secondary()), chip('1', layout.spare().unwrap())],
            power: power.clone(),
            digests: images.iter().map(Image::digest).collect(),
            images: images.iter().map(Image::bytes).collect(),
            old: 0,
            new: 0,
        };
        device.primary.load(0, &device.images[0]);
        device
    }

    /// A copy of everything in flash, with a supply of its own.
    fn fork(&self) -> Self {
        let power = Power::new();
        let copy = |chip: &Nor<W>| chip.fork(&power);
        Self {
            primary: copy(&self.primary),
            places: [copy(&self.places[0]), copy(&self.places[1])],
            power: power.clone(),
            digests: self.digests.clone(),
            images: self.images.clone(),
            ..*self
        }
    }

    fn policy(&self) -> ImagePolicy<'_> {
        trusted(&self.digests)
    }

    fn boot(&mut self) -> BootResult {
        let digests = self.digests.clone();
        let config = config(self.layout, trusted(&digests));
        let [first, second] = &mut self.places;
        boot_once(&mut self.primary, first, second, &config)
    }

    fn incoming(&mut self) -> Place {
        let [first, second] = &mut self.places;
        copy_roles::incoming(&mut self.primary, first, second, &self.layout).unwrap()
    }

    fn place(&mut self, place: Place) -> &mut Nor<W> {
        &mut self.places[usize::from(place.number())]
    }

    fn trailer_of(&mut self, place: Place) -> Trailer {
        let layout = self.layout.with_incoming(place).secondary_trailer();
        Trailer::read(self.place(place), &layout).unwrap()
    }

    fn primary_trailer(&mut self) -> Trailer {
        Trailer::read(&mut self.primary, &self.layout.primary_trailer()).unwrap()
    }

    /// What the application does with an update: the trailer goes first, then sector by sector, then the request. False if
    /// the power failed.
    fn upload(&mut self, image: usize, permanent: bool) -> bool {
        let place = self.incoming();
        let layout = self.layout.with_incoming(place);
        let bytes = self.images[image].clone();
        let policy = self.policy();
        let digests = policy.trusted_digests.to_vec();
        let flash = self.place(place);
        let mut all = || -> Result<(), ()> {
            use embedded_storage::nor_flash::NorFlash;
            trailer::erase_trailer(flash, &layout.secondary_trailer()).map_err(|_| ())?;
            flash
                .erase(0, layout.secondary_trailer().first_sector())
                .map_err(|_| ())?;
            for (index, page) in bytes.chunks(1024).enumerate() {
                let mut aligned = bledfu_slot::Aligned([0xFF; 1024]);
                aligned.0[..page.len()].copy_from_slice(page);
                flash.write(index as u32 * 1024, &aligned.0).map_err(|_| ())?;
            }
            let policy = trusted(&digests);
            let slot = Slot::new(&layout)
                .verify(flash, &policy, &SoftCrypto)
                .map_err(|_| ())?;
            if permanent {
                trailer::request_permanent(flash, &slot).map_err(|_| ())
            } else {
                trailer::request_test(flash, &slot).map_err(|_| ())
            }
        };
        let done = all().is_ok();
        assert!(done || self.power.is_off());
        done
    }

    /// Image `new` waits in a place, image `old` runs; the supply counts from here.
    fn request(&mut self, new: usize, story: Story) {
        self.old = self.running();
        self.new = new;
        assert!(self.upload(new, story == Story::Permanent));
        self.power.on();
    }

    /// A whole update without a mishap.
    fn update(&mut self, new: usize, story: Story) {
        self.request(new, story);
        finish_story(self, story);
        let expected = if story == Story::Revert { self.old } else { new };
        assert_eq!(self.running(), expected);
        self.power.on();
    }

    /// Number of the image in the primary slot.
    fn running(&self) -> usize {
        let running = (0..self.images.len()).find(|n| self.primary.bytes.starts_with(&self.images[*n]));
        running.expect("one of the images")
    }

    fn runs_new(&self) -> bool {
        self.primary.bytes.starts_with(&self.images[self.new])
    }

    fn holds(&self, place: Place, image: usize) -> bool {
        self.places[usize::from(place.number())]
            .bytes
            .starts_with(&self.images[image])
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

const STORIES: [Story; 3] = [Story::Confirm, Story::Revert, Story::Permanent];

/// One reset, and what the application does then; false if the power failed.
fn live<const W: usize>(device: &mut Board<W>, story: Story) -> bool {
    match device.boot() {
        Ok(report) => {
            let running = device.running();
            assert_eq!(report.image.digest, device.digests[running]);
            assert!(running == device.old || running == device.new);
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

fn finish_story<const W: usize>(device: &mut Board<W>, story: Story) {
    for _ in 0..RESETS {
        assert!(live(device, story));
    }
}

/// True if the new image has started (or was about to) without confirming itself: now a reset brings the old one back.
fn revert_is_due<const W: usize>(device: &mut Board<W>) -> bool {
    let trailer = device.primary_trailer().settled(&device.layout.primary_trailer());
    device.runs_new() && trailer.copy_done == Flag::Set && trailer.image_ok == Flag::Unset
}

/// How a story ends without a cut, and how it ends if the power fails before the new image confirms itself.
struct Ends<const W: usize> {
    ops: u64,
    as_told: Board<W>,
    reverted: Board<W>,
}

impl<const W: usize> Ends<W> {
    fn of(start: &Board<W>, story: Story) -> Self {
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

/// The end is that of the story without a cut, byte for byte; a torn mark or a magic that is none may have any value.
fn check_end<const W: usize>(device: &mut Board<W>, ends: &Ends<W>, reverted: bool, what: &str) {
    let expected = if reverted { &ends.reverted } else { &ends.as_told };
    let mut expected = expected.fork();
    let mark = device.layout.primary_trailer().status_start() as usize + 64;
    for device in [&mut *device, &mut expected] {
        if device.primary.bytes[mark] != 0xFF {
            device.primary.bytes[mark] = 0;
        }
        if W > 4 {
            mask_what_stays_torn(device);
        }
        for place in [Place::First, Place::Second] {
            assert_ne!(
                device.trailer_of(place).magic,
                Magic::Good,
                "still pending: {what}"
            );
            let magic = device.layout.with_incoming(place).secondary_trailer().magic() as usize;
            if device.trailer_of(place).magic == Magic::Bad {
                device.place(place).bytes[magic..].fill(0);
            }
        }
    }
    let chips = |device: &Board<W>| {
        [&device.primary, &device.places[0], &device.places[1]].map(|chip| (chip.chip, chip.bytes.clone()))
    };
    for ((chip, found), (_, expected)) in chips(device).into_iter().zip(chips(&expected)) {
        if let Some(at) = (0..found.len()).find(|i| found[*i] != expected[*i]) {
            panic!(
                "{chip} differs at {at:#x}: {:#04x}, not {:#04x}: {what}",
                found[at], expected[at]
            );
        }
    }
}

/// Above four bytes nothing is written twice: a torn flag stays torn, and a torn erase of a place's trailer as well.
fn mask_what_stays_torn<const W: usize>(device: &mut Board<W>) {
    let layout = device.layout.primary_trailer();
    for flag in [layout.copy_done(), layout.image_ok()] {
        let unit = &mut device.primary.bytes[flag as usize..][..W];
        if unit[0] != 0xFF {
            unit.fill(0);
        }
    }
    for place in [Place::First, Place::Second] {
        let trailer = device.layout.with_incoming(place).secondary_trailer();
        device.place(place).bytes[trailer.first_sector() as usize..].fill(0);
    }
}

/// The image that runs and the other one are both outside, each whole, in the place that roles give them.
fn check_both_kept<const W: usize>(device: &mut Board<W>, what: &str) {
    let (running, other) = if device.runs_new() {
        (device.new, device.old)
    } else {
        (device.old, device.new)
    };
    let incoming = device.incoming();
    assert!(device.holds(incoming, other), "the other image is gone: {what}");
    assert!(
        device.holds(incoming.other(), running),
        "the copy of the running image is gone: {what}"
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
    // An erase that gets as far as between two fields of the trailer or into the role record, with the field at the border
    // torn or not.
    for back in [4, 16, 20, 24, 28, 32, 40, 44, 48, 52, 56, 80, 100, 144] {
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

/// Runs `story` once per operation and tear with a cut there; returns the number of cuts.
fn campaign<const W: usize>(start: &Board<W>, story: Story) -> u64 {
    campaign_with(start, story, 1)
}

/// The same with every `stride`-th tear, others for each operation.
fn campaign_with<const W: usize>(start: &Board<W>, story: Story, stride: usize) -> u64 {
    let ends = Ends::of(start, story);
    let mut cuts = 0;
    for op in 0..ends.ops {
        for tear in tears(op).into_iter().skip(op as usize % stride).step_by(stride) {
            let what = format!("{story:?} op {op} of {}, {tear:?}", ends.ops);
            let mut device = start.fork();
            device.power.cut_at(op, tear);
            while live(&mut device, story) {}
            device.power.on();
            let reverted = story == Story::Confirm && revert_is_due(&mut device);
            assert!(live(&mut device, story), "{what}");
            check_both_kept(&mut device, &what);
            finish_story(&mut device, story);
            check_end(&mut device, &ends, reverted, &what);
            cuts += 1;
        }
    }
    cuts
}

/// Like [`campaign`], with a second and a third cut during the recovery.
fn campaign_of_repeated_cuts<const W: usize>(start: &Board<W>, story: Story) -> u64 {
    let ends = Ends::of(start, story);
    let mut cuts = 0;
    for first in 0..ends.ops {
        let inside = |percent: u64, seed| Tear::Inside {
            percent: (percent % 100) as u8,
            seed,
        };
        let mut cut_once = start.fork();
        cut_once.power.cut_at(first, inside(first * 37, first));
        while live(&mut cut_once, story) {}
        cut_once.power.on();
        let reverted_once = story == Story::Confirm && revert_is_due(&mut cut_once);
        for second in 0..ends.ops {
            let what = format!("{story:?} first {first}, second {second}");
            let mut device = cut_once.fork();
            let mut reverted = reverted_once;
            let tear = if second % 3 == 0 {
                Tear::Before
            } else {
                inside(second * 53, first * 1000 + second)
            };
            device.power.cut_at(second, tear);
            for _ in 0..=RESETS {
                if !live(&mut device, story) {
                    break;
                }
            }
            device.power.on();
            reverted |= story == Story::Confirm && revert_is_due(&mut device);
            device.power.cut_at(second % 5, inside(50, second));
            live(&mut device, story);
            device.power.on();
            reverted |= story == Story::Confirm && revert_is_due(&mut device);
            assert!(live(&mut device, story), "{what}");
            check_both_kept(&mut device, &what);
            finish_story(&mut device, story);
            check_end(&mut device, &ends, reverted, &what);
            cuts += 1;
        }
    }
    cuts
}

/// Small images, of 1 or 2 pages; enough of them for several updates in a row.
const SIZES: [u32; 4] = [5000, 7000, 2000, 6000];

/// Devices with a request, after histories that leave every kind of record and trailer behind.
fn starts(layout: Layout, story: Story) -> Vec<Device> {
    starts_of(layout, story)
}

fn starts_of<const W: usize>(layout: Layout, story: Story) -> Vec<Board<W>> {
    use Story::{Confirm, Permanent, Revert};
    let histories: [&[(usize, Story)]; 6] = [
        // The first install ever makes a copy.
        &[],
        &[(1, Confirm)],
        &[(1, Permanent), (2, Confirm)],
        // A new try with the very image that was taken back, and with another one.
        &[(3, Revert)],
        &[(1, Revert), (2, Revert)],
        &[(1, Confirm), (2, Confirm), (1, Revert)],
    ];
    let with = |history: &[(usize, Story)]| {
        let mut device = Board::new(layout, &SIZES);
        for (image, story) in history {
            device.update(*image, *story);
        }
        device.request(3, story);
        device
    };
    histories.into_iter().map(with).collect()
}

fn survives(story: Story, least: u64) {
    for (history, start) in starts(plain(), story).iter().enumerate() {
        let cuts = campaign(start, story);
        assert!(cuts > least, "history {history}: {cuts}");
    }
}

#[test]
fn copy_survives_a_cut_anywhere_in_a_confirmed_update() {
    survives(Story::Confirm, 1000);
}

#[test]
fn copy_survives_a_cut_anywhere_in_a_reverted_update() {
    survives(Story::Revert, 1500);
}

#[test]
fn copy_survives_a_cut_anywhere_in_a_permanent_update() {
    survives(Story::Permanent, 1000);
}

#[test]
fn copy_survives_repeated_cuts() {
    for story in STORIES {
        for start in starts(plain(), story) {
            assert!(campaign_of_repeated_cuts(&start, story) > 200);
        }
    }
}

#[test]
fn copy_survives_cuts_with_other_geometries() {
    // Slots of unequal sizes, large external sectors, and the wider spacing of trailer fields.
    for (layout, stride) in [
        (layout([5, 6, 8], PAGE, 8), 2),
        (layout([5, 32, 48], 16 * PAGE, 8), 10),
        (layout([5, 5, 5], PAGE, 16), 2),
        (layout([5, 5, 5], PAGE, 32), 2),
    ] {
        for story in STORIES {
            let starts = starts(layout, story);
            for history in [0, 5] {
                assert!(campaign_with(&starts[history], story, stride) > 30);
            }
        }
    }
}

fn survives_with_write_units_of<const W: usize>(max_align: u32) {
    for story in STORIES {
        let starts = starts_of::<W>(layout_of::<W>([5, 5, 5], PAGE, max_align), story);
        for history in [0, 1, 5] {
            let cuts = campaign_with(&starts[history], story, 3);
            assert!(cuts > 200, "W={W} {story:?}, history {history}: {cuts}");
        }
        assert!(campaign_of_repeated_cuts(&starts[5], story) > 200);
    }
}

#[test]
fn copy_survives_cuts_with_write_units_that_cannot_be_written_twice() {
    survives_with_write_units_of::<8>(8);
    survives_with_write_units_of::<16>(16);
    survives_with_write_units_of::<32>(32);
}

#[test]
fn copy_survives_cuts_with_write_units_of_one_and_two_bytes() {
    survives_with_write_units_of::<1>(8);
    survives_with_write_units_of::<2>(8);
}

/// The application is cut while it takes the next update: nothing that ran before comes back by itself, the update is asked
/// for or not, and the running image stays or the update comes.
#[test]
fn copy_survives_a_cut_anywhere_in_an_upload_and_the_next_one_arrives() {
    use Story::{Confirm, Permanent, Revert};
    for history in [
        &[(1, Confirm)][..],
        &[(1, Permanent), (2, Permanent)],
        &[(1, Confirm), (2, Revert)],
    ] {
        let mut start = Device::new(plain(), &SIZES);
        for (image, story) in history {
            start.update(*image, *story);
        }
        let running = start.running();
        start.old = running;
        start.new = 3;
        for permanent in [false, true] {
            let mut whole = start.fork();
            assert!(whole.upload(3, permanent));
            for op in 0..whole.power.ops() {
                for tear in tears(op) {
                    let what = format!("{history:?} op {op}, {tear:?}");
                    let mut device = start.fork();
                    device.power.cut_at(op, tear);
                    assert!(!device.upload(3, permanent));
                    device.power.on();
                    assert!(live(&mut device, Confirm), "{what}");
                    assert!(
                        device.holds(device.fork().incoming().other(), device.running()),
                        "{what}"
                    );
                    device.old = device.running();
                    device.update(if device.old == 3 { 1 } else { 3 }, Confirm);
                }
            }
        }
    }
}

/// Programs and erases of a chip.
fn count(ops: &[Op], wanted: char) -> (usize, usize, usize) {
    let (mut erases, mut writes, mut programmed) = (0, 0, 0);
    for op in ops {
        match op {
            Op::Erase { chip, .. } if *chip == wanted => erases += 1,
            Op::Write { chip, bytes, .. } if *chip == wanted => {
                writes += 1;
                programmed += bytes.len();
            }
            _ => {}
        }
    }
    (erases, writes, programmed)
}

#[test]
fn copy_costs_one_erase_and_one_program_per_page_and_no_external_erase() {
    // Images of exactly eight pages.
    let sizes = [0, 1, 2].map(|seed| 8 * PAGE - Image::of_total(8 * PAGE, seed, KEY).bytes().len() as u32);
    assert_eq!(sizes, [0; 3]);
    let mut device = Device::new(layout([10, 10, 10], PAGE, 8), &[100]);
    for number in 0..4 {
        let image = Image::of_total(8 * PAGE, 100 + number, KEY);
        device.digests.push(image.digest());
        device.images.push(image.bytes());
    }
    device.update(1, Story::Confirm);
    for (image, story) in [(2, Story::Confirm), (3, Story::Confirm), (4, Story::Revert)] {
        device.request(image, story);
        let copied = device.incoming();
        let number = |place: Place| char::from(b'0' + place.number());
        device.power.record();
        device.boot().unwrap();
        let ops = device.power.recorded();
        let (erases, _, programmed) = count(&ops, 'p');
        // The trailer: one erase; record, type, size, magic, copy_done.
        assert_eq!((erases, programmed), (8 + 1, 8 * SECTOR + 48 + 4 + 4 + 16 + 4));
        assert_eq!(
            count(&ops, number(copied)),
            (0, 1, 16),
            "the request is taken down"
        );
        assert_eq!(count(&ops, number(copied.other())), (0, 0, 0));
        if story == Story::Revert {
            device.power.record();
            device.boot().unwrap();
            let ops = device.power.recorded();
            let (erases, _, programmed) = count(&ops, 'p');
            assert_eq!((erases, programmed), (8, 8 * SECTOR + 4 + 4)); // mark and image_ok
            assert_eq!((count(&ops, '0'), count(&ops, '1')), ((0, 0, 0), (0, 0, 0)));
        }
        finish_story(&mut device, story);
    }
}

#[test]
fn pages_that_are_equal_are_neither_erased_nor_programmed() {
    let mut device = Device::new(layout([10, 10, 10], PAGE, 8), &[20000]);
    let mut next = Image::bare(0x200, 20000, 1);
    next.body[0x200 + 9000] ^= 1; // the third page
    let next = next.sign(KEY);
    device.digests.push(next.digest());
    device.images.push(next.bytes());
    device.request(1, Story::Confirm);
    device.power.record();
    device.boot().unwrap();
    let ops = device.power.recorded();
    let erased: Vec<u32> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Erase { chip: 'p', sector } => Some(*sector),
            _ => None,
        })
        .collect();
    assert_eq!(erased, [9, 2, 5]); // the trailer, the page, and the one with hash and signature
    assert!(device.runs_new());
}

#[test]
fn the_copy_of_the_running_image_is_made_once() {
    let mut device = Device::new(plain(), &SIZES);
    device.request(1, Story::Confirm);
    assert!(!device.holds(Place::Second, 0));
    finish_story(&mut device, Story::Confirm);
    assert!(device.holds(Place::Second, 0) && device.holds(Place::First, 1));
    device.power.on();
    device.request(2, Story::Confirm);
    assert!(device.holds(Place::Second, 2), "over the image before");
    device.power.record();
    device.boot().unwrap();
    assert_eq!(count(&device.power.recorded(), '0'), (0, 0, 0));
}

#[test]
fn a_copy_that_has_rotted_is_made_anew_before_anything_else() {
    let mut device = Device::new(plain(), &SIZES);
    device.update(1, Story::Confirm);
    device.request(2, Story::Revert);
    let copy = device.incoming().other();
    device.place(copy).bytes[3000] ^= 0x10;
    device.power.record();
    device.boot().unwrap();
    let ops = device.power.recorded();
    assert_eq!(ops[0], Op::Erase { chip: '0', sector: 0 });
    assert!(device.runs_new() && device.holds(copy, 1));
    finish_story(&mut device, Story::Revert);
    assert_eq!(device.running(), 1);
    let mut again = Device::new(plain(), &SIZES);
    again.update(1, Story::Confirm);
    again.request(2, Story::Revert);
    again.place(copy).bytes[3000] ^= 0x10;
    campaign(&again, Story::Revert);
}

#[test]
fn without_a_way_back_nothing_is_installed() {
    let mut device = Device::new(plain(), &SIZES);
    device.request(1, Story::Confirm);
    device.places[1].refuse_writes = 0..20000;
    let report = device.boot().unwrap();
    assert!(matches!(
        report.action,
        BootAction::Skipped {
            swap_type: SwapType::Test,
            reason: SkipReason::SpareFailed(_)
        }
    ));
    assert_eq!(device.running(), 0);
    device.places[1].refuse_writes = 0..0;
    finish_story(&mut device, Story::Confirm);
    assert_eq!(device.running(), 1);
}

#[test]
fn an_image_that_is_too_large_to_be_kept_is_not_replaced() {
    let mut device = Device::new(layout([8, 5, 5], PAGE, 8), &[20000, 3000]);
    device.request(1, Story::Confirm);
    let report = device.boot().unwrap();
    let reason = SkipReason::PrimaryTooLarge;
    let swap_type = SwapType::Test;
    assert_eq!(report.action, BootAction::Dropped { swap_type, reason });
    assert_eq!(device.running(), 0);
    assert!(device.holds(Place::First, 1), "the update is left");
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn an_empty_or_broken_primary_takes_an_update_and_the_copy_is_left_alone() {
    for broken in [false, true] {
        let mut device = Device::new(plain(), &SIZES);
        device.update(1, Story::Confirm);
        device.request(2, Story::Confirm);
        let spare = device.incoming().other();
        if broken {
            device.primary.bytes[100] ^= 1;
        } else {
            device.primary.bytes.fill(0xFF);
        }
        device.boot().unwrap();
        assert!(device.runs_new() && device.holds(spare, 1));
        // Not confirmed: the image before is in the other place still.
        device.boot().unwrap();
        assert_eq!(device.running(), 1);
    }
}

#[test]
fn a_broken_primary_is_repaired_with_the_copy_of_it() {
    for history in [
        &[(1, Story::Confirm)][..],
        &[(1, Story::Confirm), (2, Story::Revert)],
    ] {
        let mut device = Device::new(plain(), &SIZES);
        for (image, story) in history {
            device.update(*image, *story);
        }
        for at in [0, 5, 600, 4096, 7530] {
            device.primary.bytes[at] ^= 4;
            assert_eq!(device.boot().unwrap().action, BootAction::Repaired);
            assert_eq!(device.running(), 1);
            assert_eq!(device.boot().unwrap().action, BootAction::None);
        }
        // The copy is gone as well: the other place has the only image left.
        let incoming = device.incoming();
        let other = (0..3).find(|n| device.holds(incoming, *n)).unwrap();
        device.primary.bytes[700] ^= 4;
        device.place(incoming.other()).bytes[700] ^= 4;
        assert_eq!(device.boot().unwrap().action, BootAction::Repaired);
        assert_eq!(device.running(), other);
        device.update(3, Story::Confirm);
    }
}

#[test]
fn an_update_that_turns_out_broken_when_it_is_installed_is_taken_back_at_once() {
    for story in [Story::Revert, Story::Permanent] {
        let mut device = Device::new(plain(), &SIZES);
        device.update(1, Story::Confirm);
        device.request(2, story);
        // Cut behind the job, then the source changes.
        device.power.cut_at(7, Tear::Before);
        assert!(!live(&mut device, story));
        device.power.on();
        assert_eq!(device.primary_trailer().magic, Magic::Good);
        let incoming = device.incoming();
        device.place(incoming).bytes[700] ^= 4;
        assert_eq!(device.boot().unwrap().action, BootAction::Repaired);
        assert_eq!(device.running(), 1);
        assert_eq!(device.incoming(), incoming, "it takes the next update");
        assert!(device.primary_trailer().is_confirmed(&device.layout));
        assert_eq!(device.boot().unwrap().action, BootAction::None);
        device.update(3, Story::Confirm);
    }
}

#[test]
fn a_revert_image_that_has_rotted_leaves_the_new_one_running() {
    let mut device = Device::new(plain(), &SIZES);
    device.request(1, Story::Revert);
    device.boot().unwrap();
    let incoming = device.incoming();
    device.place(incoming).bytes[700] ^= 4;
    let report = device.boot().unwrap(); // mcuboot case 109
    assert!(matches!(
        report.action,
        BootAction::Rejected {
            swap_type: SwapType::Revert,
            ..
        }
    ));
    for _ in 0..3 {
        device.boot().unwrap();
        assert!(device.runs_new());
    }
    assert!(device.primary_trailer().is_confirmed(&device.layout));
    assert_eq!(
        device.incoming(),
        incoming,
        "the copy of the running image is not given away"
    );
    device.update(2, Story::Confirm);
}

#[test]
fn an_image_that_a_debugger_left_over_an_old_record_is_kept() {
    let mut device = Device::new(plain(), &SIZES);
    device.update(1, Story::Confirm);
    let image = device.images[2].clone();
    device.primary.load(0, &image);
    assert_eq!(device.boot().unwrap().action, BootAction::None);
    device.request(3, Story::Revert);
    finish_story(&mut device, Story::Revert);
    assert_eq!(device.running(), 2);
    // And with the trailer erased as well.
    let mut device = Device::new(plain(), &SIZES);
    device.update(1, Story::Confirm);
    device.primary.bytes.fill(0xFF);
    device.primary.load(0, &image);
    assert_eq!(device.boot().unwrap().action, BootAction::None);
    device.request(3, Story::Revert);
    finish_story(&mut device, Story::Revert);
    assert_eq!(device.running(), 2);
}

#[test]
fn requests_in_both_places_are_done_one_after_the_other() {
    let mut device = Device::new(plain(), &SIZES);
    device.update(1, Story::Confirm); // from place 0
    device.request(2, Story::Confirm); // in place 1
    let trailer = device.layout.secondary_trailer();
    trailer::write_image_ok(&mut device.places[0], &trailer).unwrap();
    device.places[0].bytes[trailer.magic() as usize..].copy_from_slice(&trailer::magic_bytes(8));
    device.new = 2;
    for _ in 0..4 {
        device.boot().unwrap();
    }
    for place in [Place::First, Place::Second] {
        assert_ne!(device.trailer_of(place).magic, Magic::Good);
    }
    assert!(device.primary_trailer().is_confirmed(&device.layout));
}

#[test]
fn downgrades_are_judged_before_the_install_and_not_when_it_is_resumed() {
    let mut device = Device::new(plain(), &SIZES);
    let newer = Image::bare(0x200, 7000, 9).version(9, 0, 0, 0).sign(KEY);
    device.digests.push(newer.digest());
    device.images.push(newer.bytes());
    device.request(4, Story::Permanent);
    let ops = Ends::of(&device, Story::Permanent).ops;
    for op in 0..ops {
        for seed in 0..6 {
            let mut device = device.fork();
            let boot = |device: &mut Device| {
                let digests = device.digests.clone();
                let mut config = config(device.layout, trusted(&digests));
                config.downgrade = Downgrade::ByVersion;
                let [first, second] = &mut device.places;
                boot_once(&mut device.primary, first, second, &config)
            };
            device.power.cut_at(op, Tear::Inside { percent: 50, seed });
            let _ = boot(&mut device);
            device.power.on();
            boot(&mut device).unwrap();
            assert_eq!(device.running(), 4);
        }
    }
}

#[test]
fn random_trailers_and_records_start_no_invalid_image() {
    let mut start = Device::new(plain(), &SIZES[..3]);
    start.update(1, Story::Confirm);
    start.request(2, Story::Confirm);
    let mut random = Random::new(0xC0B1);
    let mut pick = |n: usize| random.next() as usize % n;
    for round in 0..3000 {
        let mut device = start.fork();
        let layout = device.layout.primary_trailer();
        let from = layout.status_start() as usize;
        for chip in [&mut device.primary].into_iter().chain(&mut device.places) {
            match pick(4) {
                0 => {}
                1 => chip.bytes[from..].fill(0xFF),
                2 => (from..chip.bytes.len()).for_each(|at| chip.bytes[at] = pick(256) as u8),
                _ => {
                    for _ in 0..pick(12) {
                        let at = from + pick(chip.bytes.len() - from);
                        chip.bytes[at] = [0, 1, 2, 3, 4, 0xFF][pick(6)];
                    }
                }
            }
            if pick(2) == 0 {
                let magic = layout.magic() as usize;
                chip.bytes[magic..].copy_from_slice(&trailer::magic_bytes(8));
            }
            if pick(6) == 0 {
                let at = pick(from);
                chip.bytes[at] ^= 1 << pick(8);
            }
        }
        if pick(2) == 0 {
            // A record that is whole, with any values.
            device.primary.bytes[from..from + 96].fill(0xFF);
            let record = Record {
                source: [Place::First, Place::Second][pick(2)],
                swap_type: [SwapType::Test, SwapType::Permanent][pick(2)],
                size: [0, 1, 5000, 7624, 16384, 16385, u32::MAX][pick(7)],
                digest: device.digests[pick(3)],
            };
            record.write(&mut device.primary, &layout).unwrap();
        }
        let images_left = [&device.primary, &device.places[0], &device.places[1]]
            .iter()
            .filter(|chip| device.images.iter().any(|image| chip.bytes.starts_with(image)))
            .count();
        for _ in 0..4 {
            match device.boot() {
                Ok(report) => {
                    // Not by all its bytes: nobody looks at the signature of an image trusted by its digest.
                    let hashed = report.image.header.hashed_size().unwrap() as usize;
                    let digest = sha256(&device.primary.bytes[..hashed]);
                    assert_eq!(digest, report.image.digest, "round {round}");
                    assert!(device.digests.contains(&digest), "round {round}");
                }
                Err(error) => assert_eq!(images_left, 0, "round {round}: {error}"),
            }
        }
    }
}

/// What a driver does wrong for a while: it fails a call twice, so that a second try does not help, or every call from there on.
const FAILURES: [u64; 2] = [2, u64::MAX / 2];

/// Fails single reads, then single erases and programs, of one boot: of every boot of the story, and of the boots after a cut
/// at every `stride`-th operation. The boots after that end as if nothing had been. Returns the number of failures.
fn campaign_of_failures<const W: usize>(start: &Board<W>, story: Story, stride: usize) -> u64 {
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
    let mut failures = 0;
    for (number, stage) in stages.iter().enumerate() {
        let mut whole = stage.fork();
        whole.boot().unwrap();
        let calls = [(true, whole.power.reads()), (false, whole.power.ops())];
        let ends = Ends::of(stage, story);
        for (reads, count) in calls {
            for (first, length) in (0..count).flat_map(|first| FAILURES.map(|length| (first, length))) {
                let what = format!("{story:?} stage {number}, reads: {reads}, {first} + {length} of {count}");
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
                        assert_eq!(report.image.digest, device.digests[device.running()], "{what}");
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
                check_both_kept(&mut device, &what);
                finish_story(&mut device, story);
                if !reads {
                    keep_trailers_of(&mut device, &ends, reverted);
                }
                check_end(&mut device, &ends, reverted, &what);
                failures += 1;
            }
        }
    }
    failures
}

/// Where the driver refuses to take a request down, the whole trailer of that place is erased.
fn keep_trailers_of<const W: usize>(device: &mut Board<W>, ends: &Ends<W>, reverted: bool) {
    let expected = if reverted { &ends.reverted } else { &ends.as_told };
    for place in [Place::First, Place::Second] {
        let trailer = device.layout.with_incoming(place).secondary_trailer();
        let sectors = trailer.first_sector() as usize..;
        let found = &mut device.place(place).bytes[sectors.clone()];
        if bledfu_slot::is_erased(found) {
            found.copy_from_slice(&expected.places[usize::from(place.number())].bytes[sectors]);
        }
    }
}

#[test]
fn copy_survives_failures_of_the_driver_anywhere() {
    for story in STORIES {
        for start in starts(plain(), story) {
            assert!(campaign_of_failures(&start, story, 3) > 500);
        }
    }
}
