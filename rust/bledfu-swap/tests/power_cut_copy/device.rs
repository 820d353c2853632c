// SPDX-License-Identifier: Apache-2.0
//! A device that installs by copy, with any write unit.

use std::rc::Rc;

use bledfu_slot::copy_roles::{self, Place};
use bledfu_slot::trailer::{self, Flag, Magic, Trailer};
use bledfu_slot::{Algorithm, Geometry, ImagePolicy, Layout, Slot, SoftCrypto};
use bledfu_swap::BootReport;
use bledfu_testkit::{Image, Key, Nor, Power, SECTOR};

use crate::common::campaign::{finish_story, Ends, Story, Subject};
use crate::common::{boot_once, config, trusted, BootResult};

pub const KEY: Key = Key(7);
pub const PAGE: u32 = SECTOR as u32;

/// Sizes of small images of 1 or 2 pages; enough of them for several updates in a row.
pub const SIZES: [u32; 4] = [5000, 7000, 2000, 6000];

/// A layout with these sizes of the three areas in pages, and this sector size of the external places.
pub fn layout(pages: [u32; 3], external_sector: u32, max_align: u32) -> Layout {
    layout_of::<4>(pages, external_sector, max_align)
}

/// The same with write units of `W` bytes.
pub fn layout_of<const W: usize>(pages: [u32; 3], external_sector: u32, max_align: u32) -> Layout {
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

pub fn plain() -> Layout {
    layout([5, 5, 5], PAGE, 8)
}

/// A device with the write unit that most devices have.
pub type Device = Board<4>;

/// A device and its images.
pub struct Board<const W: usize> {
    pub layout: Layout,
    pub power: Rc<Power>,
    pub primary: Nor<W>,
    pub places: [Nor<W>; 2],
    /// The images are accepted by digest, so that campaigns need not check thousands of signatures.
    pub digests: Vec<[u8; 32]>,
    pub images: Vec<Vec<u8>>,
    /// Numbers of the image before and of the update.
    pub old: usize,
    pub new: usize,
}

impl<const W: usize> Board<W> {
    /// Image number 0 is in the primary slot; its payload has `sizes[0]` bytes.
    pub fn new(layout: Layout, sizes: &[u32]) -> Self {
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

    pub fn policy(&self) -> ImagePolicy<'_> {
        trusted(&self.digests)
    }

    pub fn incoming(&mut self) -> Place {
        let [first, second] = &mut self.places;
        copy_roles::incoming(&mut self.primary, first, second, &self.layout).unwrap()
    }

    pub fn place(&mut self, place: Place) -> &mut Nor<W> {
        &mut self.places[usize::from(place.number())]
    }

    pub fn trailer_of(&mut self, place: Place) -> Trailer {
        let layout = self.layout.with_incoming(place).secondary_trailer();
        Trailer::read(self.place(place), &layout).unwrap()
    }

    pub fn primary_trailer(&mut self) -> Trailer {
        Trailer::read(&mut self.primary, &self.layout.primary_trailer()).unwrap()
    }

    /// What the application does with an update: it erases the trailer, writes sector by sector, and then makes the
    /// request. False if the power failed.
    pub fn upload(&mut self, image: usize, permanent: bool) -> bool {
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

    /// Image `new` is requested, and the power supply counts operations from here.
    pub fn request(&mut self, new: usize, story: Story) {
        self.old = self.running();
        self.new = new;
        assert!(self.upload(new, story == Story::Permanent));
        self.power.on();
    }

    /// A complete update without a disturbance.
    pub fn update(&mut self, new: usize, story: Story) {
        self.request(new, story);
        finish_story(self, story);
        let expected = if story == Story::Revert { self.old } else { new };
        assert_eq!(self.running(), expected);
        self.power.on();
    }

    /// Number of the image in the primary slot.
    pub fn running(&self) -> usize {
        let running = (0..self.images.len()).find(|n| self.primary.bytes.starts_with(&self.images[*n]));
        running.expect("one of the images")
    }

    pub fn holds(&self, place: Place, image: usize) -> bool {
        self.places[usize::from(place.number())]
            .bytes
            .starts_with(&self.images[image])
    }
}

impl<const W: usize> Subject for Board<W> {
    // Also torn inside the role record.
    const ENDS_OF_ERASES: &'static [usize] = &[4, 16, 20, 24, 28, 32, 40, 44, 48, 52, 56, 80, 100, 144];

    /// A copy of the device with its own power supply.
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

    fn power(&self) -> &Power {
        &self.power
    }

    fn boot(&mut self) -> BootResult {
        let digests = self.digests.clone();
        let config = config(self.layout, trusted(&digests));
        let [first, second] = &mut self.places;
        boot_once(&mut self.primary, first, second, &config)
    }

    fn confirm(&mut self) -> bool {
        trailer::confirm(&mut self.primary, &self.layout).is_ok()
    }

    fn runs_new(&self) -> bool {
        self.primary.bytes.starts_with(&self.images[self.new])
    }

    fn check_started(&self, report: &BootReport, what: &str) {
        let running = self.running();
        assert_eq!(report.image.digest, self.digests[running], "{what}");
        assert!(running == self.old || running == self.new, "{what}");
    }

    /// A flag that stays torn counts as it does for the boot stage.
    fn revert_is_due(&mut self) -> bool {
        let trailer = self.primary_trailer().settled(&self.layout.primary_trailer());
        self.runs_new() && trailer.copy_done == Flag::Set && trailer.image_ok == Flag::Unset
    }

    /// The image that runs and the other one are both complete in external flash, each in the place of its role.
    fn check_kept(&mut self, what: &str) {
        let (running, other) = if self.runs_new() {
            (self.new, self.old)
        } else {
            (self.old, self.new)
        };
        let incoming = self.incoming();
        assert!(self.holds(incoming, other), "the other image is gone: {what}");
        assert!(
            self.holds(incoming.other(), running),
            "the copy of the running image is gone: {what}"
        );
    }

    /// Compares byte for byte; a torn mark or a removed magic may have any value.
    fn check_end(&mut self, ends: &Ends<Self>, reverted: bool, _: Story, what: &str) {
        let mut expected = ends.when(reverted).fork();
        let mark = self.layout.primary_trailer().status_start() as usize + 64;
        for device in [&mut *self, &mut expected] {
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
            [&device.primary, &device.places[0], &device.places[1]]
                .map(|chip| (chip.chip, chip.bytes.clone()))
        };
        for ((chip, found), (_, expected)) in chips(self).into_iter().zip(chips(&expected)) {
            if let Some(at) = (0..found.len()).find(|i| found[*i] != expected[*i]) {
                panic!(
                    "{chip} differs at {at:#x}: {:#04x}, not {:#04x}: {what}",
                    found[at], expected[at]
                );
            }
        }
    }

    /// If the driver refuses to remove a request, the whole trailer of that place is erased.
    fn forgive_refused(&mut self, ends: &Ends<Self>, reverted: bool) {
        let expected = ends.when(reverted);
        for place in [Place::First, Place::Second] {
            let trailer = self.layout.with_incoming(place).secondary_trailer();
            let sectors = trailer.first_sector() as usize..;
            let found = &mut self.place(place).bytes[sectors.clone()];
            if bledfu_slot::is_erased(found) {
                found.copy_from_slice(&expected.places[usize::from(place.number())].bytes[sectors]);
            }
        }
    }
}

/// With write units above four bytes nothing is written twice: a torn flag stays torn, and so does a torn erase of a
/// place's trailer.
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
