// SPDX-License-Identifier: Apache-2.0
//! A device with an old and a new image, and one boot of it.

use std::rc::Rc;

use bledfu_slot::trailer::{self, magic_bytes, SwapType, Trailer};
use bledfu_slot::{outlook, Algorithm, Crypto, Layout, Outlook, SoftCrypto};
use bledfu_swap::{boot, BootAction, Downgrade, NoEvidence, Store};
use bledfu_testkit::{Image, Key, Nor, Power};

use crate::common::{config, geometry, signed_by, BootResult};

pub const KEY: Key = Key(9);
pub const SLOT: usize = 0x10000;

pub struct Device {
    pub downgrade: Downgrade,
    pub verify_primary: bool,
    pub unsigned: bool,
    pub layout: Layout,
    pub primary: Nor<4>,
    pub secondary: Nor<4>,
    pub spare: Nor<4>,
    pub power: Rc<Power>,
    pub old: Vec<u8>,
    pub new: Vec<u8>,
}

impl Device {
    /// A device with only the old image.
    pub fn new(algorithm: Algorithm) -> Self {
        let scratch = (algorithm == Algorithm::SwapScratch).then(|| geometry(1));
        let layout = Layout::with_spare(algorithm, geometry(16), geometry(16), scratch, 8, 128).unwrap();
        let power = Power::new();
        let old = Image::bare(0x200, 6000, 1).version(1, 0, 0, 0).sign(KEY).bytes();
        let new = Image::bare(0x200, 11000, 2).version(2, 0, 0, 0).sign(KEY).bytes();
        let mut primary = Nor::new('p', 16, &power);
        primary.load(0, &old);
        Self {
            downgrade: Downgrade::Allowed,
            verify_primary: true,
            unsigned: false,
            layout,
            primary,
            secondary: Nor::new('s', 16, &power),
            spare: Nor::new('x', 1, &power),
            power,
            old,
            new,
        }
    }

    /// The new image is in the secondary slot, with a request for a test.
    pub fn pending(algorithm: Algorithm) -> Self {
        let mut device = Self::new(algorithm);
        device.upload(&device.new.clone());
        device
    }

    pub fn upload(&mut self, image: &[u8]) {
        self.secondary.bytes.fill(0xFF);
        self.secondary.load(self.layout.upload_offset() as usize, image);
        self.secondary.load(SLOT - 16, &magic_bytes(8));
        self.secondary.load(SLOT - 40, &[2]);
    }

    /// The new image runs, unconfirmed.
    pub fn under_test() -> Self {
        Self::under_test_by(Algorithm::SwapMove)
    }

    pub fn under_test_by(algorithm: Algorithm) -> Self {
        let mut device = Self::pending(algorithm);
        let report = device.boot().unwrap();
        assert_eq!(report.action, installed(SwapType::Test));
        device
    }

    pub fn boot(&mut self) -> BootResult {
        self.boot_with(&SoftCrypto)
    }

    pub fn boot_with<C: Crypto>(&mut self, crypto: &C) -> BootResult {
        self.boot_as(crypto, &mut NoEvidence)
    }

    pub fn boot_knowing(&mut self, evidence: &mut dyn Store) -> BootResult {
        self.boot_as(&SoftCrypto, evidence)
    }

    pub fn boot_as<C: Crypto>(&mut self, crypto: &C, evidence: &mut dyn Store) -> BootResult {
        let keys = [bledfu_slot::Key::new(KEY.public())];
        let mut config = config(self.layout, signed_by(&keys));
        config.policy.unsigned = self.unsigned;
        config.downgrade = self.downgrade;
        config.verify_primary = self.verify_primary;
        boot(
            &mut self.primary,
            &mut self.secondary,
            &mut self.spare,
            &config,
            crypto,
            evidence,
            &mut |_| {},
        )
    }

    /// A copy of the device with its own power supply.
    pub fn copy(&self) -> Self {
        let power = Power::new();
        Self {
            primary: self.primary.fork(&power),
            secondary: self.secondary.fork(&power),
            spare: self.spare.fork(&power),
            old: self.old.clone(),
            new: self.new.clone(),
            power,
            ..*self
        }
    }

    pub fn flashes(&self) -> [Vec<u8>; 2] {
        [self.primary.bytes.clone(), self.secondary.bytes.clone()]
    }

    /// What an application is told about the next boot.
    pub fn outlook(&mut self) -> Outlook {
        outlook(
            &self.layout,
            &mut self.primary,
            &mut self.secondary,
            &mut self.spare,
        )
    }

    pub fn trailer(&mut self) -> Trailer {
        Trailer::read(&mut self.primary, &self.layout.primary_trailer()).unwrap()
    }

    pub fn runs_new(&self) -> bool {
        self.primary.bytes.starts_with(&self.new)
    }

    pub fn runs_old(&self) -> bool {
        self.primary.bytes.starts_with(&self.old)
    }

    /// Writes the trailer of a swap of `size` bytes that this device never began, with its first `records` records.
    pub fn load_foreign_job(&mut self, size: u32, records: u32) {
        let layout = self.layout.primary_trailer();
        trailer::write_swap_info(&mut self.primary, &layout, SwapType::Test).unwrap();
        trailer::write_swap_size(&mut self.primary, &layout, size).unwrap();
        trailer::write_magic(&mut self.primary, &layout).unwrap();
        for record in 0..records {
            let at = layout.status_start() + record * layout.status_unit();
            self.primary.load(at as usize, &[1]);
        }
    }
}

/// The swaps with status records.
pub const SWAPS: [Algorithm; 3] = [Algorithm::SwapOffset, Algorithm::SwapMove, Algorithm::SwapScratch];

pub const fn installed(swap_type: SwapType) -> BootAction {
    BootAction::Installed {
        swap_type,
        resumed: false,
    }
}
