// SPDX-License-Identifier: Apache-2.0
//! What a boot makes of given flash contents: the cases of MCUboot's behaviour that are not about cuts.

mod common;

use std::cell::Cell;
use std::rc::Rc;

use bledfu_slot::evidence::Log;
use bledfu_slot::trailer::{self, magic_bytes, Flag, Magic, SwapType, Trailer};
use bledfu_slot::{
    is_erased, outlook, Algorithm, Crypto, Digest, Geometry, HeaderError, Layout, Obstacle, Outlook,
    Signature, SignatureCheck, SoftCrypto, VerifyError,
};
use bledfu_swap::{
    boot, BootAction, BootError, Downgrade, NoEvidence, NoFlash, Progress, SkipReason, Store, SwapError,
};
use bledfu_testkit::{Image, Key, Nor, Power, Tear, SECTOR};
use common::{boot_once, config, geometry, signed_by, BootResult};

const KEY: Key = Key(9);
const SLOT: usize = 0x10000;

struct Device {
    downgrade: Downgrade,
    verify_primary: bool,
    unsigned: bool,
    layout: Layout,
    primary: Nor<4>,
    secondary: Nor<4>,
    spare: Nor<4>,
    power: Rc<Power>,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Device {
    /// The old image alone.
    fn new(algorithm: Algorithm) -> Self {
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

    /// The new image in the secondary, with a request for a test.
    fn pending(algorithm: Algorithm) -> Self {
        let mut device = Self::new(algorithm);
        device.upload(&device.new.clone());
        device
    }

    fn upload(&mut self, image: &[u8]) {
        self.secondary.bytes.fill(0xFF);
        self.secondary.load(self.layout.upload_offset() as usize, image);
        self.secondary.load(SLOT - 16, &magic_bytes(8));
        self.secondary.load(SLOT - 40, &[2]);
    }

    /// The new image runs, unconfirmed.
    fn under_test() -> Self {
        Self::under_test_by(Algorithm::SwapMove)
    }

    fn under_test_by(algorithm: Algorithm) -> Self {
        let mut device = Self::pending(algorithm);
        let report = device.boot().unwrap();
        assert_eq!(report.action, installed(SwapType::Test));
        device
    }

    fn boot(&mut self) -> BootResult {
        self.boot_with(&SoftCrypto)
    }

    fn boot_with<C: Crypto>(&mut self, crypto: &C) -> BootResult {
        self.boot_as(crypto, &mut NoEvidence)
    }

    fn boot_knowing(&mut self, evidence: &mut dyn Store) -> BootResult {
        self.boot_as(&SoftCrypto, evidence)
    }

    fn boot_as<C: Crypto>(&mut self, crypto: &C, evidence: &mut dyn Store) -> BootResult {
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

    /// A copy of everything in flash, with a supply of its own.
    fn copy(&self) -> Self {
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

    fn flashes(&self) -> [Vec<u8>; 2] {
        [self.primary.bytes.clone(), self.secondary.bytes.clone()]
    }

    /// What an application is told of the next boot.
    fn outlook(&mut self) -> Outlook {
        outlook(
            &self.layout,
            &mut self.primary,
            &mut self.secondary,
            &mut self.spare,
        )
    }

    fn trailer(&mut self) -> Trailer {
        Trailer::read(&mut self.primary, &self.layout.primary_trailer()).unwrap()
    }

    fn runs_new(&self) -> bool {
        self.primary.bytes.starts_with(&self.new)
    }

    fn runs_old(&self) -> bool {
        self.primary.bytes.starts_with(&self.old)
    }

    /// The trailer of a swap of so many bytes that this device never began, with its first records.
    fn load_foreign_job(&mut self, size: u32, records: u32) {
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
const SWAPS: [Algorithm; 3] = [Algorithm::SwapOffset, Algorithm::SwapMove, Algorithm::SwapScratch];

const fn installed(swap_type: SwapType) -> BootAction {
    BootAction::Installed {
        swap_type,
        resumed: false,
    }
}

#[test]
fn records_beside_a_request_are_not_those_of_its_swap() {
    for algorithm in SWAPS {
        for records in 2..=9 {
            let mut device = Device::pending(algorithm);
            device.load_foreign_job(11_000, records);
            let what = format!("{algorithm:?} {records}");
            assert_eq!(device.boot().unwrap().action, installed(SwapType::Test), "{what}");
            assert!(
                device.runs_new() && device.secondary.bytes.starts_with(&device.old),
                "{what}"
            );
        }
    }
}

#[test]
fn records_of_a_swap_whose_images_are_not_there_are_not_believed() {
    for algorithm in SWAPS {
        for records in 1..9 {
            let mut device = Device::new(algorithm);
            device.load_foreign_job(11_000, records);
            let report = device.boot().unwrap();
            assert_eq!(report.image.header.version.major, 1);
            assert!(device.runs_old(), "{algorithm:?} {records}");
            assert!(is_erased(&device.secondary.bytes), "{algorithm:?} {records}");
        }
    }
}

#[test]
fn a_job_on_its_way_from_scratch_to_the_primary_is_not_taken_up_without_either() {
    for records in 0..3 {
        let mut device = Device::new(Algorithm::SwapScratch);
        device.secondary.load(0, &device.new.clone());
        // So large that the trailer's sector is exchanged as well.
        device.load_foreign_job(0xF800, records);
        let mut expected = [device.primary.bytes.clone(), device.secondary.bytes.clone()];
        assert_eq!(device.boot().unwrap().image.header.version.major, 1);
        // It is closed, so that it does not keep updates out.
        let layout = device.layout.primary_trailer();
        for flag in [layout.copy_done(), layout.image_ok()] {
            expected[0][flag as usize] = 1;
        }
        assert!(
            [&device.primary.bytes, &device.secondary.bytes] == [&expected[0], &expected[1]],
            "{records} records"
        );
        assert_eq!(device.outlook(), Outlook::Nothing);
    }
}

#[test]
fn a_test_update_swaps_confirms_and_stays() {
    let mut device = Device::under_test();
    assert!(device.runs_new() && device.secondary.bytes.starts_with(&device.old)); // mcuboot case 1
    assert!(is_erased(&device.secondary.bytes[SLOT - SECTOR..]));
    let found = device.trailer();
    assert_eq!(
        (found.magic, found.copy_done, found.image_ok),
        (Magic::Good, Flag::Set, Flag::Unset)
    );
    assert_eq!(found.swap_info, 2);
    trailer::confirm(&mut device.primary, &device.layout).unwrap();
    let report = device.boot().unwrap();
    assert_eq!(report.action, BootAction::None); // mcuboot case 60
    assert!(device.runs_new());
}

#[test]
fn a_test_update_that_is_not_confirmed_is_reverted_for_good() {
    let mut device = Device::under_test();
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Revert)); // mcuboot case 59
    assert!(device.runs_old() && device.secondary.bytes.starts_with(&device.new));
    let found = device.trailer();
    assert_eq!(
        (found.image_ok, found.copy_done, found.swap_info),
        (Flag::Set, Flag::Set, 4)
    );
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn a_permanent_update_is_confirmed_at_once() {
    let mut device = Device::pending(Algorithm::SwapMove);
    device.secondary.load(SLOT - 24, &[1]);
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Permanent)); // mcuboot case 2, 53
    let found = device.trailer();
    assert_eq!(
        (found.image_ok, found.copy_done, found.swap_info),
        (Flag::Set, Flag::Set, 3)
    );
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn an_invalid_update_is_erased_and_the_primary_untouched() {
    let broken: [(usize, u8); 4] = [(0, 0x3C), (0x300, 0x00), (20, 9), (11000 + 0x200 + 4 + 4 + 3, 0)]; // 3, 19, 21, hash
    for algorithm in [Algorithm::SwapMove, Algorithm::Overwrite] {
        for (at, byte) in broken {
            let mut device = Device::pending(algorithm);
            device.secondary.bytes[at] = byte;
            let before = device.primary.bytes.clone();
            let action = device.boot().unwrap().action;
            assert!(
                matches!(
                    action,
                    BootAction::Rejected {
                        swap_type: SwapType::Test,
                        ..
                    }
                ),
                "{action:?}"
            );
            assert!(is_erased(&device.secondary.bytes));
            assert_eq!(device.primary.bytes, before);
        }
    }
}

#[test]
fn a_request_without_a_bootable_image_is_cleared_and_nothing_else() {
    for algorithm in [Algorithm::SwapMove, Algorithm::Overwrite] {
        let mut device = Device::pending(algorithm);
        device.secondary.bytes[..32].fill(0xFF);
        let mut expected = device.secondary.bytes.clone();
        expected[SLOT - SECTOR..].fill(0xFF);
        let reason = VerifyError::Header(HeaderError::Erased);
        let swap_type = SwapType::Test;
        assert_eq!(
            device.boot().unwrap().action,
            BootAction::Rejected { swap_type, reason }
        ); // mcuboot cases 4, 100
        assert!(device.secondary.bytes == expected && device.runs_old());

        let mut device = Device::new(algorithm);
        device.upload(&Image::bare(0x200, 100, 1).flags(0x10).sign(KEY).bytes());
        let reason = VerifyError::Header(HeaderError::NotBootable);
        assert_eq!(
            device.boot().unwrap().action,
            BootAction::Rejected { swap_type, reason }
        ); // mcuboot case 17
        assert!(is_erased(&device.secondary.bytes[SLOT - SECTOR..]));
        assert!(!is_erased(&device.secondary.bytes[..SECTOR]));
    }
}

// mcuboot case 113
#[test]
fn an_image_of_the_largest_size_is_swapped_and_one_byte_more_is_refused() {
    for (algorithm, limit) in [(Algorithm::SwapMove, 0xE000), (Algorithm::Overwrite, 0xFFD8)] {
        let mut device = Device::new(algorithm);
        let image = Image::of_total(limit, 3, KEY).bytes();
        device.upload(&image);
        assert_eq!(device.boot().unwrap().action, installed(SwapType::Test)); // mcuboot case 50
        assert!(device.primary.bytes.starts_with(&image));
        let found = device.trailer();
        assert_eq!(found.magic, Magic::Good);
    }
    let mut device = Device::new(Algorithm::SwapMove);
    device.upload(&Image::of_total(0xE001, 3, KEY).bytes());
    let (swap_type, reason) = (SwapType::Test, VerifyError::TooLarge);
    assert_eq!(
        device.boot().unwrap().action,
        BootAction::Rejected { swap_type, reason }
    ); // mcuboot case 78
    assert!(is_erased(&device.secondary.bytes) && device.runs_old());
}

// mcuboot case 116
#[test]
fn a_primary_image_too_large_to_be_kept_is_not_swapped_away() {
    for algorithm in SWAPS {
        for revert in [false, true] {
            let mut device = Device::pending(algorithm);
            // One byte more than can be kept, or as much as ends in front of the trailer's fields.
            let size = (device.layout.max_image_size() + 1).min(0xF9D1);
            let large = Image::of_total(size, 3, KEY).bytes();
            device.primary.load(0, &large);
            if revert {
                let (of_primary, of_secondary) =
                    (device.layout.primary_trailer(), device.layout.secondary_trailer());
                trailer::erase_trailer(&mut device.secondary, &of_secondary).unwrap();
                device.secondary.load(0, &device.new.clone());
                trailer::write_copy_done(&mut device.primary, &of_primary).unwrap();
                trailer::write_magic(&mut device.primary, &of_primary).unwrap();
            }
            let swap_type = if revert { SwapType::Revert } else { SwapType::Test };
            let found = device.outlook();
            assert_eq!(
                found,
                Outlook::Impossible(Obstacle::PrimaryTooLarge),
                "{algorithm:?}"
            );
            let image = device.secondary.bytes[..20_000].to_vec();
            let reason = SkipReason::PrimaryTooLarge;
            assert_eq!(
                device.boot().unwrap().action,
                BootAction::Dropped { swap_type, reason },
                "{algorithm:?}"
            );
            assert!(device.primary.bytes.starts_with(&large));
            // The request is gone and the image is not; it would not be tried again on every boot.
            assert!(device.secondary.bytes.starts_with(&image));
            assert!(is_erased(&device.secondary.bytes[SLOT - SECTOR..]));
            assert_eq!(device.outlook(), Outlook::Nothing, "{algorithm:?}");
            assert!(device.trailer().is_confirmed(&device.layout));
            assert_eq!(device.boot().unwrap().action, BootAction::None, "{algorithm:?}");
        }
    }
}

#[test]
fn an_invalid_primary_too_large_to_be_kept_does_not_lose_the_request_before_it_is_repaired() {
    let mut device = Device::pending(Algorithm::SwapMove);
    let mut large = Image::of_total(0xE800, 3, KEY).bytes();
    large[0x300] ^= 1;
    device.primary.load(0, &large);
    assert_eq!(device.boot().unwrap().action, BootAction::Repaired);
    assert!(device.runs_new());
}

#[test]
fn a_request_with_a_damaged_magic_is_left_alone() {
    for algorithm in Algorithm::ALL {
        if algorithm == Algorithm::Copy {
            continue; // there it is what a request becomes that was carried out
        }
        let mut device = Device::pending(algorithm);
        device.secondary.bytes[SLOT - 16] = 0x76;
        let before = device.secondary.bytes.clone();
        assert_eq!(device.outlook(), Outlook::Nothing);
        assert_eq!(device.boot().unwrap().action, BootAction::None); // mcuboot case 52
        assert_eq!(device.secondary.bytes, before);
    }
}

#[test]
fn a_request_with_a_damaged_flag_is_taken_down_and_its_image_left() {
    for algorithm in [
        Algorithm::SwapOffset,
        Algorithm::SwapMove,
        Algorithm::SwapScratch,
        Algorithm::Overwrite,
    ] {
        for byte in [0x02, 0x00, 0x5B] {
            let mut device = Device::pending(algorithm);
            device.secondary.bytes[SLOT - 24] = byte;
            let mut expected = device.secondary.bytes.clone();
            expected[SLOT - SECTOR..].fill(0xFF);
            assert_eq!(device.outlook(), Outlook::Impossible(Obstacle::DamagedRequest));
            let (swap_type, reason) = (SwapType::None, SkipReason::DamagedRequest);
            assert_eq!(
                device.boot().unwrap().action,
                BootAction::Dropped { swap_type, reason }
            ); // mcuboot case 54: MCUboot leaves it, and it keeps every later request out
            assert!(device.secondary.bytes == expected && device.runs_old());
            assert_eq!(device.outlook(), Outlook::Nothing);
            assert_eq!(device.boot().unwrap().action, BootAction::None);
        }
    }
}

#[test]
fn a_damaged_trailer_over_no_image_is_cleared() {
    let mut device = Device::new(Algorithm::SwapMove);
    device.secondary.load(SLOT - 16, &[0x76, 0x12]);
    assert_eq!(device.boot().unwrap().action, BootAction::TrailerCleared);
    assert!(is_erased(&device.secondary.bytes));
}

#[test]
fn a_factory_image_with_a_trailer_of_imgtool_boots_and_can_be_updated() {
    for image_ok in [0x01, 0xFF] {
        let mut device = Device::new(Algorithm::SwapMove);
        device.primary.load(SLOT - 16, &magic_bytes(8));
        device.primary.load(SLOT - 24, &[image_ok]);
        assert_eq!(device.boot().unwrap().action, BootAction::None); // mcuboot case 58
        device.upload(&device.new.clone());
        assert_eq!(device.boot().unwrap().action, installed(SwapType::Test)); // mcuboot case 67
        assert_eq!(device.trailer().image_ok, Flag::Unset);
    }
}

#[test]
fn an_update_received_by_a_test_image_goes_before_its_revert() {
    let mut device = Device::under_test();
    let third = Image::bare(0x200, 3000, 5).sign(KEY).bytes();
    device.upload(&third);
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Test)); // mcuboot case 62
    assert!(device.primary.bytes.starts_with(&third) && device.secondary.bytes.starts_with(&device.new));
}

#[test]
fn a_revert_with_nothing_to_go_back_to_is_given_up() {
    let mut device = Device::under_test();
    device.secondary.bytes.fill(0xFF);
    let (swap_type, reason) = (SwapType::Revert, VerifyError::Header(HeaderError::Erased));
    assert_eq!(
        device.boot().unwrap().action,
        BootAction::Rejected { swap_type, reason }
    ); // mcuboot case 65
    assert!(device.runs_new());
    assert!(is_erased(&device.primary.bytes[SLOT - SECTOR..]) && is_erased(&device.secondary.bytes));
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn a_revert_to_a_damaged_image_keeps_the_new_one() {
    let mut device = Device::under_test();
    device.secondary.bytes[0x400] ^= 1;
    let before = device.primary.bytes.clone();
    let action = device.boot().unwrap().action;
    assert_eq!(
        action,
        BootAction::Rejected {
            swap_type: SwapType::Revert,
            reason: VerifyError::HashMismatch
        }
    );
    assert!(is_erased(&device.secondary.bytes)); // mcuboot case 109
    let trailer = device.layout.primary_trailer().first_sector() as usize;
    assert_eq!(device.primary.bytes[..trailer], before[..trailer]);
    // MCUboot closes the trial one boot later. An update that is received before that boot would be taken for the image before.
    assert!(device.trailer().is_confirmed(&device.layout));
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn a_job_of_other_images_is_closed_behind_a_refused_request() {
    for algorithm in SWAPS {
        // No image at all, and one that is damaged.
        for damaged in [false, true] {
            let mut device = Device::pending(algorithm);
            let at = device.layout.upload_offset() as usize;
            if damaged {
                device.secondary.bytes[at + 0x400] ^= 1;
            } else {
                device.secondary.bytes[at..SLOT - SECTOR].fill(0xFF);
            }
            device.load_foreign_job(5000, 0);
            assert!(device.outlook().needs_secondary(), "{algorithm:?}");
            let action = device.boot().unwrap().action;
            assert!(
                matches!(action, BootAction::Rejected { .. }),
                "{algorithm:?}: {action}"
            );
            assert_eq!(device.outlook(), Outlook::Nothing, "{algorithm:?}");
            assert!(device.runs_old());
            assert_eq!(device.boot().unwrap().action, BootAction::None);
        }
    }
}

#[test]
fn a_job_that_only_scratch_speaks_of_is_forgotten_where_nothing_is_done() {
    let mut device = Device::new(Algorithm::SwapScratch);
    device.spare.load(SECTOR - 16, &magic_bytes(8));
    device.spare.load(SECTOR - 40, &[2]);
    let size = device.layout.max_image_size();
    device.spare.load(SECTOR - 48, &size.to_le_bytes());
    let status = device.layout.spare_trailer().unwrap().status_start();
    device.spare.load(status as usize, &[3]);
    assert!(device.outlook().needs_secondary());
    device.boot().unwrap();
    assert_eq!(device.outlook(), Outlook::Nothing);
    assert!(device.runs_old());
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn a_repair_leaves_nothing_that_keeps_an_update_out() {
    for algorithm in [Algorithm::SwapOffset, Algorithm::SwapMove, Algorithm::SwapScratch] {
        // A job of images that are not there, and an image on trial that is the one to go back to as well.
        for trial in [false, true] {
            let mut device = Device::new(algorithm);
            device.secondary.load(0, &device.new.clone());
            device.primary.bytes[0x300] ^= 1;
            if trial {
                let layout = device.layout.primary_trailer();
                trailer::write_magic(&mut device.primary, &layout).unwrap();
                trailer::write_copy_done(&mut device.primary, &layout).unwrap();
                trailer::write_image_ok(&mut device.primary, &layout).unwrap();
            } else {
                device.load_foreign_job(5000, 0);
            }
            device.boot().unwrap();
            assert_eq!(device.outlook(), Outlook::Nothing, "{algorithm:?}");
        }
    }
}

#[test]
fn records_of_a_finished_swap_are_ignored() {
    let mut device = Device::under_test();
    trailer::confirm(&mut device.primary, &device.layout).unwrap();
    assert!(!is_erased(&device.primary.bytes[0xF9D0..0xF9D8])); // mcuboot case 68: the records are still there
    let operations = device.power.ops();
    assert_eq!(device.boot().unwrap().action, BootAction::None);
    assert_eq!(device.power.ops(), operations);
}

#[test]
fn an_empty_primary_is_filled_with_a_pending_image() {
    for algorithm in [Algorithm::SwapOffset, Algorithm::SwapMove, Algorithm::Overwrite] {
        let mut device = Device::pending(algorithm);
        device.primary.bytes.fill(0xFF);
        let action = match algorithm {
            Algorithm::Overwrite => installed(SwapType::Test),
            // There is nothing to swap with (mcuboot case 69); MCUboot does not boot then.
            _ => BootAction::Repaired,
        };
        assert_eq!(device.boot().unwrap().action, action);
        assert!(device.runs_new());
        assert_eq!(device.boot().unwrap().action, BootAction::None);
    }
}

// mcuboot case 117
#[test]
fn a_corrupt_primary_is_repaired_with_the_image_before() {
    for algorithm in [Algorithm::SwapOffset, Algorithm::SwapMove] {
        let mut device = Device::under_test_by(algorithm);
        trailer::confirm(&mut device.primary, &device.layout).unwrap();
        device.primary.bytes[0x300] ^= 1;
        assert_eq!(device.boot().unwrap().action, BootAction::Repaired);
        assert!(device.runs_old());
        assert!(device.trailer().is_confirmed(&device.layout));
        assert_eq!(device.boot().unwrap().action, BootAction::None);
    }
}

#[test]
fn a_repair_can_be_cut_anywhere() {
    for cut in 1.. {
        let mut device = Device::under_test();
        trailer::confirm(&mut device.primary, &device.layout).unwrap();
        device.primary.bytes[0x300] ^= 1;
        let before = device.power.ops();
        device.power.cut_at(before + cut, Tear::Before);
        let done = device.boot().is_ok();
        device.power.on();
        assert!(device.boot().is_ok());
        assert!(device.runs_old(), "cut before operation {cut}");
        if done {
            break;
        }
    }
}

#[test]
fn a_corrupt_primary_is_replaced_by_a_pending_image() {
    for algorithm in [Algorithm::SwapMove, Algorithm::Overwrite] {
        let mut device = Device::pending(algorithm);
        device.primary.bytes[0x300] ^= 1;
        assert_eq!(device.boot().unwrap().action, installed(SwapType::Test)); // mcuboot case 70
        assert!(device.runs_new());
    }
}

#[test]
fn a_corrupt_primary_with_nothing_pending_does_not_boot() {
    let mut device = Device::new(Algorithm::SwapMove);
    device.primary.bytes[0x300] ^= 1;
    device.secondary.load(0, &device.new.clone()[..9000]);
    let (reason, action) = (VerifyError::HashMismatch, BootAction::None);
    assert_eq!(device.boot(), Err(BootError::NoValidImage { reason, action })); // mcuboot case 71
}

#[test]
fn a_corrupt_test_image_is_reverted() {
    let mut device = Device::under_test();
    device.primary.bytes[0x300] ^= 1;
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Revert));
    assert!(device.runs_old());
}

#[test]
fn a_test_image_that_arrives_damaged_is_reverted_in_the_same_boot() {
    let mut device = Device::pending(Algorithm::SwapMove);
    // Cut after the first exchanged sector, then damage what is still to come.
    device.power.cut_at(24, Tear::Before);
    assert!(device.boot().is_err());
    device.power.on();
    device.secondary.bytes[2 * SECTOR + 5] ^= 1;
    let report = device.boot().unwrap();
    assert_eq!(report.action, installed(SwapType::Revert));
    assert!(device.runs_old());
}

#[test]
fn a_record_that_cannot_be_written_does_not_stop_a_swap() {
    let mut device = Device::pending(Algorithm::SwapMove);
    device.primary.refuse_writes = 0xF9D4..0xF9D5;
    let report = device.boot().unwrap();
    assert_eq!(
        (report.action, report.failed_records),
        (installed(SwapType::Test), 1)
    ); // mcuboot case 101
    assert!(device.runs_new() && device.secondary.bytes.starts_with(&device.old));
}

#[test]
fn a_dead_secondary_does_not_keep_the_primary_from_starting() {
    for algorithm in [Algorithm::SwapMove, Algorithm::Overwrite] {
        let mut device = Device::pending(algorithm);
        device.secondary.broken = true;
        let report = device.boot().unwrap();
        let BootAction::Skipped {
            swap_type: SwapType::None,
            reason: SkipReason::SecondaryUnreadable(_),
        } = report.action
        else {
            panic!("{:?}", report.action); // mcuboot case 102
        };
        assert_eq!(report.secondary, None);
    }
    let mut device = Device::under_test();
    device.secondary.broken = true;
    let before = device.primary.bytes.clone();
    assert!(matches!(
        device.boot().unwrap().action,
        BootAction::Skipped {
            swap_type: SwapType::Revert,
            ..
        }
    ));
    assert_eq!(device.primary.bytes, before);
    device.secondary.broken = false;
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Revert));
}

#[test]
fn a_swap_that_loses_the_secondary_half_way_goes_on_when_it_is_back() {
    let mut device = Device::pending(Algorithm::SwapMove);
    device.power.cut_at(24, Tear::Before);
    assert!(device.boot().is_err());
    device.power.on();
    device.secondary.broken = true;
    assert!(matches!(
        device.boot(),
        Err(BootError::Flash(SwapError::Secondary(_)))
    ));
    device.secondary.broken = false;
    let (swap_type, resumed) = (SwapType::Test, true);
    assert_eq!(
        device.boot().unwrap().action,
        BootAction::Installed { swap_type, resumed }
    );
    assert!(device.runs_new());
}

#[test]
fn a_secondary_that_cannot_be_written_leaves_the_primary_running() {
    // The trailer of the secondary cannot be prepared for a revert: nothing has been touched yet.
    let mut device = Device::under_test();
    device.secondary.refuse_writes = 0..SLOT as u32;
    let action = device.boot().unwrap().action;
    let BootAction::Skipped {
        swap_type: SwapType::Revert,
        reason: SkipReason::SecondaryFailed(_),
    } = action
    else {
        panic!("{action:?}");
    };
    assert!(device.runs_new());
}

/// A trailer of a swap under way, over a whole image.
fn live_trailer(device: &mut Device, info: u8, size: u32, records: &[u32]) {
    device.primary.load(SLOT - 16, &magic_bytes(8));
    device.primary.load(SLOT - 40, &[info]);
    device.primary.load(SLOT - 48, &size.to_le_bytes());
    for record in records {
        device.primary.load(0xF9D0 + 4 * *record as usize, &[1]);
    }
}

#[test]
fn phantom_swaps_are_not_run() {
    let size = 11000;
    let impossible: [(u8, u32, &[u32]); 9] = [
        (2, 0, &[0, 1]), // mcuboot case 107
        (2, u32::MAX, &[0, 1]),
        (2, 0x10001, &[0, 1]),
        (2, 0xE001, &[0, 1]),
        (0xFF, size, &[0, 1]),          // no type: mcuboot case 111
        (2, size, &[0, 1, 2, 3]),       // more moves than sectors
        (2, size, &[0, 1, 2, 128 + 6]), // more exchanges than sectors
        (2, size, &[0, 1, 2, 50, 128]), // moves nobody made
        (2, size, &[0, 1, 2, 383]),
    ];
    let (swap_type, reason) = (SwapType::Test, SkipReason::StaleJob);
    let dropped = BootAction::Dropped { swap_type, reason };
    for (info, job_size, records) in impossible {
        let mut device = Device::new(Algorithm::SwapMove);
        device.secondary.load(0, &device.new.clone());
        live_trailer(&mut device, info, job_size, records);
        let mut expected = (device.primary.bytes.clone(), device.secondary.bytes.clone());
        // One that reads like a job is closed, so that it does not keep updates out: image_ok and copy_done.
        let is_job = (info, job_size) == (2, size);
        if is_job {
            expected.0[SLOT - 24] = 1;
            expected.0[SLOT - 32] = 1;
        }
        let action = if is_job { dropped } else { BootAction::None };
        assert_eq!(
            device.boot().unwrap().action,
            action,
            "{info} {job_size} {records:?}"
        );
        assert!(expected == (device.primary.bytes.clone(), device.secondary.bytes.clone()));
        assert_eq!(device.outlook(), Outlook::Nothing);
        assert_eq!(device.boot().unwrap().action, BootAction::None);
    }
    // Headers where such a swap could not have them: nothing in the secondary.
    let mut device = Device::new(Algorithm::SwapMove);
    live_trailer(&mut device, 2, size, &[0, 1, 2, 128]);
    assert_eq!(device.boot().unwrap().action, dropped);
    assert!(device.runs_old());
    assert_eq!(device.boot().unwrap().action, BootAction::None);
    // An upload nobody asked for, beside a job for less than it needs.
    let mut device = Device::new(Algorithm::SwapMove);
    device.secondary.load(0, &device.new.clone());
    live_trailer(&mut device, 2, 7000, &[]);
    assert_eq!(device.boot().unwrap().action, dropped);
    assert!(device.runs_old());
}

#[test]
fn a_job_whose_image_was_damaged_before_it_began_is_closed() {
    let mut device = Device::pending(Algorithm::SwapMove);
    device.power.cut_at(5, Tear::Before); // behind the erase of the secondary trailer
    assert!(device.boot().is_err());
    device.power.on();
    device.secondary.bytes[0x400] ^= 1;
    let action = device.boot().unwrap().action;
    assert_eq!(
        action,
        BootAction::Rejected {
            swap_type: SwapType::Test,
            reason: VerifyError::HashMismatch
        }
    );
    assert!(is_erased(&device.secondary.bytes) && device.runs_old());
    let found = device.trailer(); // mcuboot case 108; MCUboot leaves copy_done erased
    assert_eq!((found.image_ok, found.copy_done), (Flag::Set, Flag::Set));
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn a_due_revert_of_another_boot_stage_is_not_done_by_overwrite() {
    let mut device = Device::under_test();
    device.layout = Layout::new(Algorithm::Overwrite, geometry(16), geometry(16), 8, 128).unwrap();
    assert_eq!(device.boot().unwrap().action, BootAction::None);
    assert!(device.runs_new());
}

#[test]
fn overwrite_installs_between_flashes_of_different_sectors() {
    let secondary = Geometry {
        slot_size: 0x20000,
        sector_size: 0x8000,
        write_size: 4,
    };
    let mut device = Device::new(Algorithm::Overwrite);
    device.layout = Layout::new(Algorithm::Overwrite, geometry(16), secondary, 8, 128).unwrap();
    device.secondary = Nor::new('s', 32, &device.power);
    device.secondary.load(0, &device.new.clone());
    device.secondary.load(0x20000 - 16, &magic_bytes(8));
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Test));
    assert!(device.runs_new() && device.trailer().magic == Magic::Good);
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

// mcuboot case 113
#[test]
fn overwrite_touches_no_sector_behind_the_image() {
    // The image ends with its sector, and what stood in both slots before does not.
    let mut device = Device::new(Algorithm::Overwrite);
    let image = Image::of_total(2 * SECTOR as u32, 5, KEY).bytes();
    device.upload(&image);
    for slot in [&mut device.primary, &mut device.secondary] {
        slot.load(2 * SECTOR, &[0x35; SECTOR]);
    }
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Test));
    assert!(device.primary.bytes.starts_with(&image));
    assert_eq!(device.primary.bytes[2 * SECTOR..3 * SECTOR], [0x35; SECTOR]);
}

#[test]
fn flashes_that_do_not_fit_the_layout_are_refused() {
    let mut device = Device::new(Algorithm::SwapMove);
    device.secondary = Nor::new('s', 15, &device.power);
    assert_eq!(device.boot(), Err(BootError::Geometry));
}

// mcuboot case 118
#[test]
fn the_watch_is_told_before_every_erase_and_every_kibibyte() {
    let mut device = Device::pending(Algorithm::SwapMove);
    let keys = [bledfu_slot::Key::new(KEY.public())];
    let config = config(device.layout, signed_by(&keys));
    let (mut verifying, mut erasing, mut last) = (0, 0, 0);
    boot(
        &mut device.primary,
        &mut device.secondary,
        &mut NoFlash,
        &config,
        &SoftCrypto,
        &mut NoEvidence,
        &mut |progress| match progress {
            Progress::Verify => verifying += 1,
            Progress::Erase => erasing += 1,
            Progress::Again => panic!("nothing was refused"),
            Progress::Install { step, steps } => {
                assert!(last <= step && step < steps);
                last = step;
            }
        },
    )
    .unwrap();
    assert_eq!((erasing, last), (2, 8));
    assert!(verifying >= 2 * 11000 / 512);
}

/// Upgrade, revert and a second upgrade with other write units; the secondary's need not be the primary's.
fn swaps_with_write_units<const P: usize, const S: usize>(max_align: u32) {
    let geometry = |write_size| Geometry {
        slot_size: SLOT as u32,
        sector_size: SECTOR as u32,
        write_size,
    };
    let layout = Layout::new(
        Algorithm::SwapMove,
        geometry(P as u32),
        geometry(S as u32),
        max_align,
        128,
    )
    .unwrap();
    let (old, new) = (
        Image::bare(0x200, 6000, 1).sign(KEY),
        Image::bare(0x200, 11000, 2).sign(KEY),
    );
    let power = Power::new();
    let (mut primary, mut secondary) = (Nor::<P>::new('p', 16, &power), Nor::<S>::new('s', 16, &power));
    primary.load(0, &old.bytes());
    secondary.load(0, &new.bytes());
    let keys = [bledfu_slot::Key::new(KEY.public())];
    let config = config(layout, signed_by(&keys));
    let slot = bledfu_slot::Slot::new(&layout)
        .verify(&mut secondary, &config.policy, &SoftCrypto)
        .unwrap();
    trailer::request_test(&mut secondary, &slot).unwrap();
    for (swap_type, runs) in [(SwapType::Test, &new), (SwapType::Revert, &old)] {
        // Cut somewhere in the exchange, and taken up again.
        power.on();
        power.cut_at(30, Tear::Inside { percent: 50, seed: 1 });
        assert!(boot_once(&mut primary, &mut secondary, &mut NoFlash, &config).is_err());
        power.on();
        let report = boot_once(&mut primary, &mut secondary, &mut NoFlash, &config).unwrap();
        assert_eq!(
            report.action,
            BootAction::Installed {
                swap_type,
                resumed: true
            },
            "W={P}/{S}"
        );
        assert!(primary.bytes.starts_with(&runs.bytes()));
    }
    let report = boot_once(&mut primary, &mut secondary, &mut NoFlash, &config).unwrap();
    assert_eq!(report.action, BootAction::None);
}

#[test]
fn swaps_with_every_write_unit() {
    swaps_with_write_units::<1, 1>(8); // mcuboot case 80
    swaps_with_write_units::<2, 2>(8);
    swaps_with_write_units::<4, 4>(8);
    swaps_with_write_units::<4, 1>(8);
    swaps_with_write_units::<8, 8>(8);
    swaps_with_write_units::<8, 4>(16);
    swaps_with_write_units::<16, 4>(16);
    swaps_with_write_units::<16, 16>(32);
    swaps_with_write_units::<32, 32>(32);
}

/// One chip as the three areas of swap using scratch, with write units of `W` bytes; the secondary's are `S`.
fn scratch_with_write_units<const W: usize, const S: usize>(max_align: u32, sectors: usize) {
    let geometry = |sectors, write_size| Geometry {
        write_size,
        ..geometry(sectors)
    };
    let layout = Layout::with_spare(
        Algorithm::SwapScratch,
        geometry(sectors, W as u32),
        geometry(sectors, S as u32),
        Some(geometry(1, W as u32)),
        max_align,
        127,
    )
    .unwrap();
    let power = Power::new();
    let mut primary = Nor::<W>::new('p', sectors, &power);
    let mut secondary = Nor::<S>::new('s', sectors, &power);
    let mut spare = Nor::<W>::new('x', 1, &power);
    let old = Image::bare(0x200, 6000, 1).sign(KEY).bytes();
    // mcuboot case 50: an image of the largest size, which reaches the trailer.
    let new = Image::of_total(layout.max_image_size(), 2, KEY).bytes();
    primary.load(0, &old);
    secondary.load(0, &new);
    let keys = [bledfu_slot::Key::new(KEY.public())];
    let config = config(layout, signed_by(&keys));
    let slot = bledfu_slot::Slot::new(&layout)
        .verify(&mut secondary, &config.policy, &SoftCrypto)
        .unwrap();
    trailer::request_test(&mut secondary, &slot).unwrap();
    for (swap_type, runs, kept) in [(SwapType::Test, &new, &old), (SwapType::Revert, &old, &new)] {
        // Cut somewhere in the exchange, and taken up again.
        power.on();
        power.cut_at(40, Tear::Inside { percent: 50, seed: 1 });
        let mut once = || boot_once(&mut primary, &mut secondary, &mut spare, &config);
        assert!(once().is_err());
        power.on();
        let resumed = true;
        assert_eq!(
            once().unwrap().action,
            BootAction::Installed { swap_type, resumed },
            "W={W}/{S}"
        );
        assert!(primary.bytes.starts_with(runs) && secondary.bytes.starts_with(kept));
    }
}

#[test]
fn swap_using_scratch_works_with_every_write_unit() {
    scratch_with_write_units::<1, 1>(8, 16); // mcuboot case 80
    scratch_with_write_units::<2, 2>(8, 16);
    scratch_with_write_units::<4, 4>(8, 16);
    scratch_with_write_units::<4, 1>(8, 16);
    scratch_with_write_units::<4, 8>(8, 16);
    scratch_with_write_units::<8, 8>(8, 16);
    scratch_with_write_units::<8, 4>(16, 16);
    scratch_with_write_units::<16, 16>(16, 16);
    scratch_with_write_units::<16, 32>(32, 16);
    scratch_with_write_units::<32, 32>(32, 16);
}

#[test]
fn swap_using_scratch_fills_an_empty_primary() {
    for size in [11000, 0xF9D0 - 0x200 - 160] {
        let mut device = Device::new(Algorithm::SwapScratch);
        device.new = Image::bare(0x200, size, 2).sign(KEY).bytes();
        device.upload(&device.new.clone());
        device.primary.bytes.fill(0xFF);
        assert_eq!(device.boot().unwrap().action, installed(SwapType::Test)); // mcuboot case 69
        assert!(device.runs_new());
        let found = device.trailer();
        assert_eq!(
            (found.magic, found.copy_done, found.image_ok),
            (Magic::Good, Flag::Set, Flag::Unset)
        );
        // There is nothing to go back to: mcuboot case 65.
        assert!(matches!(
            device.boot().unwrap().action,
            BootAction::Rejected {
                swap_type: SwapType::Revert,
                reason: VerifyError::Header(HeaderError::Erased)
            }
        ));
        assert_eq!(device.boot().unwrap().action, BootAction::None);
        assert!(device.runs_new());
    }
}

#[test]
fn phantom_swaps_using_scratch_are_not_run() {
    // A live trailer in scratch: magic, type, size, and two records (mcuboot case 107).
    for (info, size) in [
        (2, 0),
        (2, u32::MAX),
        (2, 0x10001),
        (2, 0xF9D1),
        (0xFF, 0xF900),
        (0x12, 0xF900),
    ] {
        let mut device = Device::new(Algorithm::SwapScratch);
        device.secondary.load(0, &device.new.clone());
        device.spare.load(SECTOR - 16, &magic_bytes(8));
        device.spare.load(SECTOR - 40, &[info]);
        device.spare.load(SECTOR - 48, &u32::to_le_bytes(size));
        device.spare.load(SECTOR - 60, &[1, 0xFF, 0xFF, 0xFF, 2]);
        let before = device.primary.bytes.clone();
        assert_eq!(device.boot().unwrap().action, BootAction::None, "{info} {size:x}");
        assert!(device.primary.bytes == before);
    }
}

#[test]
fn a_dead_scratch_area_does_not_keep_the_primary_from_starting() {
    let mut device = Device::pending(Algorithm::SwapScratch);
    device.spare.broken = true;
    assert!(matches!(
        device.boot().unwrap().action,
        BootAction::Skipped {
            reason: SkipReason::SpareFailed(_),
            ..
        }
    ));
    assert!(device.runs_old());
    device.spare.broken = false;
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Test));
}

/// An image of this version, with a security counter if there is one.
fn versioned(major: u8, minor: u8, build: u32, counter: Option<u32>) -> Vec<u8> {
    let image = Image::bare(0x200, 5000, u64::from(minor)).version(major, minor, 0, build);
    match counter {
        Some(counter) => image.protect(&[(0x50, &counter.to_le_bytes())]),
        None => image,
    }
    .sign(KEY)
    .bytes()
}

/// Boots `update` over `running`; what comes of it.
fn outcome(downgrade: Downgrade, running: &[u8], update: &[u8]) -> BootAction {
    let mut device = Device::new(Algorithm::SwapOffset);
    device.downgrade = downgrade;
    device.primary.bytes.fill(0xFF);
    device.primary.load(0, running);
    device.upload(update);
    let action = device.boot().unwrap().action;
    if let BootAction::Rejected { .. } = action {
        assert!(device.primary.bytes.starts_with(running));
        assert!(is_erased(&device.secondary.bytes), "a refused image is erased");
    }
    action
}

#[test]
fn an_older_version_is_refused_where_that_is_asked_for() {
    let running = versioned(2, 1, 5, None);
    let older = versioned(2, 0, 9, None);
    let refused = BootAction::Rejected {
        swap_type: SwapType::Test,
        reason: VerifyError::Older,
    };
    // mcuboot case 103: lower, equal; build numbers do not count.
    assert_eq!(outcome(Downgrade::ByVersion, &running, &older), refused);
    for update in [
        versioned(2, 1, 5, None),
        versioned(2, 1, 4, None),
        versioned(3, 0, 0, None),
    ] {
        assert_eq!(
            outcome(Downgrade::ByVersion, &running, &update),
            installed(SwapType::Test)
        );
    }
    assert_eq!(
        outcome(Downgrade::Allowed, &running, &older),
        installed(SwapType::Test)
    );
}

#[test]
fn a_lower_security_counter_is_refused_where_that_is_asked_for() {
    let refused = BootAction::Rejected {
        swap_type: SwapType::Test,
        reason: VerifyError::SecurityCounter,
    };
    let by_counter = |running, update| {
        outcome(
            Downgrade::BySecurityCounter,
            &versioned(2, 0, 0, running),
            &versioned(1, 0, 0, update),
        )
    };
    // mcuboot case 104: none in the primary; none or a lower one in the secondary; an equal one.
    assert_eq!(by_counter(None, None), installed(SwapType::Test));
    assert_eq!(by_counter(None, Some(0)), installed(SwapType::Test));
    assert_eq!(by_counter(Some(7), None), refused);
    assert_eq!(by_counter(Some(7), Some(6)), refused);
    assert_eq!(by_counter(Some(7), Some(7)), installed(SwapType::Test));
}

#[test]
fn a_revert_to_an_older_version_is_no_downgrade() {
    for downgrade in [Downgrade::ByVersion, Downgrade::BySecurityCounter] {
        let mut device = Device::under_test_by(Algorithm::SwapOffset);
        device.downgrade = downgrade;
        assert_eq!(device.boot().unwrap().action, installed(SwapType::Revert)); // mcuboot case 103
        assert!(device.runs_old());
    }
}

#[test]
fn without_signatures_an_image_is_as_good_as_its_hash() {
    let image = Image::bare(0x200, 5000, 3).sign(Key(99)).bytes();
    for unsigned in [false, true] {
        let mut device = Device::new(Algorithm::SwapOffset);
        device.upload(&image);
        device.unsigned = unsigned;
        let action = device.boot().unwrap().action;
        assert_eq!(action == installed(SwapType::Test), unsigned);
    }
    let mut device = Device::new(Algorithm::SwapOffset);
    device.unsigned = true;
    let mut damaged = image;
    damaged[0x300] ^= 1;
    device.upload(&damaged);
    assert!(matches!(
        device.boot().unwrap().action,
        BootAction::Rejected { .. }
    ));
}

#[test]
fn an_unverified_primary_starts_by_its_header_once_it_is_known_to_be_settled() {
    let mut device = Device::new(Algorithm::SwapOffset);
    device.verify_primary = false;
    let mut trust = Nor::<4>::new('t', 2, &device.power);
    let mut damaged = device.copy();
    damaged.primary.bytes[0x300] ^= 1;
    // Nobody knows whether it was ever checked.
    assert!(damaged.copy().boot().is_err());
    assert!(damaged.copy().boot_knowing(&mut Log::new(&mut trust)).is_err());

    // Now it was.
    device.boot_knowing(&mut Log::new(&mut trust)).unwrap();
    let mut damaged = device.copy();
    damaged.primary.bytes[0x300] ^= 1;
    let report = damaged.boot_knowing(&mut Log::new(&mut trust)).unwrap();
    assert_eq!(report.action, BootAction::None);
    assert_eq!(report.image.header.version.major, 1);
    damaged.primary.bytes[0] ^= 1;
    assert!(damaged.boot_knowing(&mut Log::new(&mut trust)).is_err());
}

#[test]
fn what_an_install_put_there_is_looked_at_in_full() {
    let mut device = Device::pending(Algorithm::SwapOffset);
    device.verify_primary = false;
    let mut trust = Nor::<4>::new('t', 2, &device.power);
    device.power.cut_at(24, Tear::Before);
    assert!(device.boot_knowing(&mut Log::new(&mut trust)).is_err());
    device.power.on();
    device.secondary.bytes[4 * SECTOR - 5] ^= 1;
    let report = device.boot_knowing(&mut Log::new(&mut trust)).unwrap();
    assert_ne!(report.action, installed(SwapType::Test));
}

// mcuboot case 115
#[test]
fn an_update_at_the_wrong_place_is_refused_and_erased() {
    let mut device = Device::pending(Algorithm::SwapOffset);
    device.secondary.bytes.copy_within(SECTOR..4 * SECTOR, 0);
    let (swap_type, reason) = (SwapType::Test, VerifyError::Misplaced);
    assert_eq!(
        device.boot().unwrap().action,
        BootAction::Rejected { swap_type, reason }
    );
    assert!(is_erased(&device.secondary.bytes));
}

/// A peripheral that fails one of its signature checks, counted from zero, and works before and after.
struct Flaky {
    left: Cell<i32>,
}

impl Crypto for Flaky {
    type Sha256 = <SoftCrypto as Crypto>::Sha256;

    fn verify(&self, key: &bledfu_slot::Key, digest: &Digest, signature: &Signature) -> SignatureCheck {
        self.left.set(self.left.get() - 1);
        if self.left.get() == -1 {
            return SignatureCheck::Unavailable;
        }
        SoftCrypto.verify(key, digest, signature)
    }
}

#[test]
fn cryptography_that_is_not_available_erases_and_refuses_nothing() {
    let starts: [fn(Algorithm) -> Device; 3] = [Device::pending, Device::under_test_by, |algorithm| {
        let mut device = Device::under_test_by(algorithm);
        trailer::confirm(&mut device.primary, &device.layout).unwrap();
        device.primary.bytes[0x300] ^= 1; // to be repaired
        device
    }];
    for algorithm in [
        Algorithm::SwapOffset,
        Algorithm::SwapMove,
        Algorithm::SwapScratch,
        Algorithm::Overwrite,
    ] {
        for start in starts {
            let mut whole = start(algorithm);
            let checks = Flaky {
                left: Cell::new(i32::MAX),
            };
            let expected = whole.boot_with(&checks).map(|report| report.image);
            for failing in 0..i32::MAX - checks.left.get() {
                let mut device = start(algorithm);
                let flaky = Flaky {
                    left: Cell::new(failing),
                };
                match device.boot_with(&flaky) {
                    Ok(report) => assert!(
                        matches!(
                            report.action,
                            BootAction::Skipped {
                                reason: SkipReason::CryptoUnavailable,
                                ..
                            }
                        ),
                        "{:?}",
                        report.action
                    ),
                    Err(error) => assert_eq!(error, BootError::Flash(SwapError::Crypto)),
                }
                // Nothing was done, or all of it.
                let found = device.flashes();
                let untouched = found == start(algorithm).flashes();
                assert!(untouched || found == whole.flashes(), "{algorithm:?} {failing}");
                if untouched {
                    assert_eq!(device.boot().map(|report| report.image), expected);
                }
            }
        }
    }
}

#[test]
fn a_job_in_scratch_is_taken_up_for_the_image_whose_number_it_names() {
    for (number, resumed) in [(0, true), (1, false)] {
        // Cut with the job in scratch alone: the images reach into the trailer sector.
        let mut device = Device::new(Algorithm::SwapScratch);
        let large = Image::of_total(device.layout.max_image_size() - 8, 3, KEY).bytes();
        device.upload(&large);
        let mut whole = device.copy();
        whole.boot().unwrap();
        let ops = whole.power.ops();
        let spare = device.layout.spare_trailer().unwrap();
        let cut = (0..ops).find_map(|op| {
            let mut device = device.copy();
            device.power.cut_at(op, Tear::Before);
            assert!(device.boot().is_err());
            device.power.on();
            let scratch = Trailer::read(&mut device.spare, &spare).unwrap();
            let moved = device.secondary.bytes[..SECTOR] != large[..SECTOR]
                || is_erased(&device.secondary.bytes[SLOT - 16..]);
            (scratch.magic == Magic::Good && moved).then_some(device)
        });
        let mut cut = cut.unwrap();
        cut.layout = cut.layout.with_image_number(number);
        let action = cut.boot().map(|report| report.action);
        let swap_type = SwapType::Test;
        let taken_up = action
            == Ok(BootAction::Installed {
                swap_type,
                resumed: true,
            });
        assert_eq!(taken_up, resumed, "{number}: {action:?}");
    }
}

#[test]
fn a_refused_image_is_erased_in_a_slot_of_large_sectors() {
    const LARGE: usize = 128 * 1024;
    let power = Power::new();
    let mut primary = Nor::<8, LARGE>::with_erase_size('p', 2, &power);
    let mut secondary = Nor::<8, LARGE>::with_erase_size('s', 3, &power);
    let slot = |sectors| Geometry::of::<Nor<8, LARGE>>(sectors * LARGE as u32);
    let layout = Layout::new(Algorithm::Overwrite, slot(2), slot(3), 8, 16).unwrap();
    let running = Image::bare(0x200, 6000, 1).sign(KEY).bytes();
    primary.load(0, &running);
    secondary.bytes.fill(0x5A);
    let mut broken = Image::bare(0x200, 6000, 2).sign(KEY).bytes();
    broken[0x300] ^= 1;
    secondary.load(0, &broken);
    secondary.bytes[layout.secondary_trailer().image_ok() as usize] = 0xFF;
    secondary.load(layout.secondary_trailer().magic() as usize, &magic_bytes(8));
    let keys = [bledfu_slot::Key::new(KEY.public())];
    let config = config(layout, signed_by(&keys));
    let report = boot_once(&mut primary, &mut secondary, &mut NoFlash, &config).unwrap();
    assert!(
        matches!(report.action, BootAction::Rejected { .. }),
        "{:?}",
        report.action
    );
    assert!(is_erased(&secondary.bytes) && primary.bytes.starts_with(&running));
}
