// SPDX-License-Identifier: Apache-2.0
//! What strangers may do over either protocol, and how often; the trial of an image, its confirmation and the reset; the floor.

use bledfu_sim::device::Setup;
use bledfu_sim::make::ImageSpec;
use bledfu_sim::phone::smp::{Mode, Phone, Settings};
use bledfu_sim::world::World;
use bledfu_slot::trailer::SwapType;
use bledfu_slot::Version;
use bledfu_swap::BootAction;
use bledfu_transfer::doors::{ConfirmBy, Doors, Peer as Kind, BEGINNINGS, REFILL_MS, REPEATS, RESET_MS};
use bledfu_transfer::upload::{OldestAccepted, TAKEOVER_MS};
use bledfu_wire::image_group::{Error, Request};
use bledfu_wire::os_group;
use bledfu_wire::smp::{Code, Failure};

use crate::harness::{
    assert_said, create_data, factory_image, image_key, init_for, listen, next_image, setup, update_image,
    update_package, version, Peer, OBJECT,
};
use crate::{hash_of, Manager, RESET};

const DAY_MS: u64 = 24 * 3_600_000;
/// Erases that a stranger can cause in a day: a full bucket, and its refill.
const MOST_ERASES: u32 = BEGINNINGS as u32 + REPEATS as u32 + 2 * (DAY_MS / REFILL_MS) as u32;

const BUSY: Option<Failure> = Some(Failure::Smp(Code::Busy));
const DENIED: Option<Failure> = Some(Failure::Smp(Code::AccessDenied));

fn stranger_with(doors: Doors) -> Setup {
    Setup {
        peer: Kind::Stranger,
        doors,
        ..setup()
    }
}

fn stranger() -> Setup {
    stranger_with(Doors::default())
}

/// An update is on trial.
fn on_trial(setup: Setup) -> Manager {
    let mut manager = Manager::on(Peer::with(setup));
    let report = manager.try_out(update_image());
    assert!(matches!(
        report.action,
        BootAction::Installed {
            swap_type: SwapType::Test,
            ..
        }
    ));
    manager
}

/// Lets time pass without any frame.
fn pass(peer: &Peer, ms: u64) {
    peer.board.power.advance_ns(ms * 1_000_000);
}

// boot-trust case 58
#[test]
fn a_stranger_neither_confirms_a_trial_nor_ends_it_by_a_reset() {
    let mut manager = on_trial(stranger());
    let images = manager.state();
    let (new, old) = (hash_of(update_image()), hash_of(factory_image()));
    assert_eq!((images[0].hash, images[0].confirmed), (new, false));
    for _ in 0..2 {
        assert_eq!(manager.os(RESET).failure, BUSY);
        assert_eq!(manager.choose(None, true).failure, DENIED);
        assert_eq!(manager.choose(Some(&new), true).failure, DENIED);
        // The image to go back to is unchanged.
        assert_eq!(manager.choose(Some(&old), true).failure, None);
        assert!(!manager.peer.device().is_confirmed());
        pass(&manager.peer, DAY_MS);
    }
    // The product's own confirmation counts, and changes the answer to strangers.
    manager.peer.device().confirm().unwrap();
    assert_eq!(manager.choose(None, true).failure, None);
    assert_eq!(manager.choose(Some(&new), true).failure, None);
    assert_eq!(manager.reset().image.digest, new);
}

// boot-trust case 58
#[test]
fn a_paired_peer_confirms_resets_and_installs_permanently() {
    let mut manager = on_trial(stranger());
    manager.peer.device().meet(Kind::Trusted);
    assert_eq!(manager.choose(None, true).failure, None);
    assert!(manager.peer.device().is_confirmed());
    // A trial that a paired peer ends.
    let mut manager = on_trial(setup());
    assert_eq!(manager.reset().image.digest, hash_of(factory_image()));
    manager.upload(update_image(), 1000);
    assert_eq!(manager.choose(Some(&hash_of(update_image())), true).failure, None);
    assert_eq!(manager.reset().image.digest, hash_of(update_image()));
    assert!(manager.peer.device().is_confirmed());
}

// boot-trust case 58
#[test]
fn the_product_chooses_who_may_confirm_and_install_permanently() {
    let hash = hash_of(update_image());
    let mut manager = Manager::on(Peer::with(stranger()));
    manager.upload(update_image(), 1000);
    manager.refused(
        Request::WriteState {
            hash: Some(&hash),
            confirm: true,
        },
        Error::ConfirmationDenied,
    );
    manager.peer.assert_pending(false);
    let lets_all = Doors {
        permanent_by_strangers: true,
        confirm: ConfirmBy::Anybody,
        ..Doors::default()
    };
    let mut manager = Manager::on(Peer::with(stranger_with(lets_all)));
    manager.upload(update_image(), 1000);
    assert_eq!(manager.choose(Some(&hash), true).failure, None);
    assert_eq!(manager.reset().image.digest, hash);
    let mut manager = on_trial(stranger_with(lets_all));
    assert_eq!(manager.choose(None, true).failure, None);
    assert!(manager.peer.device().is_confirmed());
    // Only the product: not even a paired peer.
    let lets_none = Doors {
        confirm: ConfirmBy::Nobody,
        ..Doors::default()
    };
    let mut manager = on_trial(Setup {
        doors: lets_none,
        ..setup()
    });
    assert_eq!(manager.choose(None, true).failure, DENIED);
    manager.peer.device().confirm().unwrap();
    assert_eq!(manager.choose(None, true).failure, None);
}

#[test]
fn pairing_on_the_open_link_counts_from_then_on_and_ends_with_the_link() {
    let mut manager = on_trial(stranger());
    assert_eq!(manager.os(RESET).failure, BUSY);
    manager.peer.device().meet(Kind::Trusted);
    manager.peer.device().meet(Kind::Stranger);
    manager.peer.reconnect();
    assert_eq!(manager.os(RESET).failure, BUSY);
}

// boot-trust case 59
#[test]
fn device_manager_tests_on_an_open_link_and_tests_and_confirms_with_a_bond() {
    let image = ImageSpec::demo(version(2), 40_000, &image_key()).unwrap().build();
    let run = |phone, mode, peer, product_confirms| {
        let mut world = World::new(Setup { peer, ..setup() }, factory_image(), Default::default()).unwrap();
        let settings = Settings {
            phone,
            mode,
            window: 3,
        };
        let outcome = world.update_smp(&image, settings, &mut |_| ());
        if product_confirms {
            world.confirm().unwrap();
        }
        let device = world.device().unwrap();
        let state = (device.image().header.version.major, device.is_confirmed());
        (outcome.map(drop).map_err(|error| error.to_string()), state)
    };
    for phone in [Phone::Android, Phone::Ios] {
        // B runs; its own self-test confirms it.
        assert_eq!(
            run(phone, Mode::TestOnly, Kind::Stranger, true),
            (Ok(()), (2, true))
        );
        for mode in [Mode::TestAndConfirm, Mode::ConfirmOnly] {
            assert_eq!(
                run(phone, mode, Kind::Trusted, false),
                (Ok(()), (2, true)),
                "{mode:?}"
            );
        }
        // Without a bond the app is refused: the trial goes on.
        let (outcome, state) = run(phone, Mode::TestAndConfirm, Kind::Stranger, false);
        let told = outcome.unwrap_err();
        assert!(told.contains("11"), "{phone:?}: {told}");
        assert_eq!(state, (2, false));
        let (outcome, state) = run(phone, Mode::ConfirmOnly, Kind::Stranger, false);
        let told = outcome.unwrap_err();
        assert!(told.contains("32"), "{phone:?}: {told}");
        assert_eq!(state, (1, true));
    }
}

/// Runs `attack` for a day. It returns whether it was refused; then time passes.
fn for_a_day(manager: &mut Manager, mut attack: impl FnMut(&mut Manager) -> bool) -> (u32, u32) {
    let (before, wear) = (manager.peer.now_ms(), manager.peer.board.external.worst_wear());
    let mut refusals = 0;
    while manager.peer.now_ms() - before < DAY_MS {
        let is_refused = attack(manager);
        refusals += u32::from(is_refused);
        pass(&manager.peer, if is_refused { 300_000 } else { 10 });
    }
    (manager.peer.board.external.worst_wear() - wear, refusals)
}

fn is_busy(failure: Option<Failure>) -> bool {
    assert!(failure.is_none() || failure == BUSY, "{failure:?}");
    failure.is_some()
}

// boot-trust case 57
#[test]
fn a_day_of_smp_pieces_and_erases_wears_no_sector_out() {
    let mut manager = Manager::on(Peer::with(stranger()));
    let image = update_image();
    let (wear, refusals) = for_a_day(&mut manager, |manager| {
        let begun = manager.begin(image, None, 2000).failure;
        is_busy(begun) || is_busy(manager.image(Request::Erase { slot: None }).failure)
    });
    assert!(
        wear <= MOST_ERASES && refusals > 100,
        "{wear} erases, {refusals} refusals"
    );
    assert!(wear > 20, "the attack does something: {wear} erases");
}

// boot-trust case 57
#[test]
fn a_day_of_pieces_and_erases_with_resets_does_not_fill_the_bucket() {
    let mut manager = Manager::on(Peer::with(stranger()));
    let image = update_image();
    let mut resets = 0;
    let (wear, _) = for_a_day(&mut manager, |manager| {
        let is_refused = is_busy(manager.begin(image, None, 2000).failure);
        if manager.os(RESET).failure.is_none() {
            resets += 1;
            manager.peer.reboot();
        }
        is_refused
    });
    assert!(wear <= MOST_ERASES, "{wear} erases, {resets} resets");
}

// boot-trust case 57
#[test]
fn a_day_of_repeated_objects_and_new_init_packets_wears_no_sector_out() {
    let image = update_image();
    let init = init_for(image);
    let mut manager = Manager::on(Peer::with(stranger()));
    assert_eq!(manager.peer.send_init(&init), "60 04 01");
    let (wear, refusals) = for_a_day(&mut manager, |manager| {
        let answer = manager.peer.answer(&create_data(OBJECT));
        if answer == "60 01 01" {
            manager.peer.data(&image[..1000]);
            return false;
        }
        // Refused; or without an init packet, because its Execute was refused.
        assert!(answer == "60 01 0A" || answer == "60 01 08", "{answer}");
        // The next init packet, until that is refused as well.
        let answer = manager.peer.send_init(&init);
        assert!(answer == "60 04 01" || answer == "60 04 0A", "{answer}");
        answer != "60 04 01"
    });
    assert!(
        wear <= MOST_ERASES && refusals > 100,
        "{wear} erases, {refusals} refusals"
    );
    assert!(wear > 40, "the attack does something: {wear} erases");
}

// boot-trust case 57
#[test]
fn an_honest_stranger_repeats_two_dozen_objects_and_completes() {
    let image = update_image();
    let mut peer = Peer::with(stranger());
    assert_eq!(peer.send_init(&init_for(image)), "60 04 01");
    let mut left = REPEATS;
    let mut at = 0;
    while at < image.len() {
        let end = (at + OBJECT).min(image.len());
        for _ in 0..left.min(12) {
            peer.ask(&create_data(end - at), "60 01 01");
            peer.data(&image[at..at + (end - at) / 2]);
            left -= 1;
        }
        peer.object(image, at, end);
        assert_eq!(peer.answer("04"), "60 04 01");
        at = end;
    }
    assert_eq!(left, 0);
    peer.install_and_confirm(image);
}

#[test]
fn a_refusal_names_the_time_and_a_button_or_a_paired_peer_ends_it() {
    let ends: [fn(&mut Manager); 3] = [
        |manager| manager.peer.device().allow_updates(),
        |manager| manager.peer.device().meet(Kind::Trusted),
        |manager| pass(&manager.peer, REFILL_MS),
    ];
    for end in ends {
        let mut manager = Manager::on(Peer::with(stranger()));
        for _ in 0..BEGINNINGS {
            assert_eq!(manager.image(Request::Erase { slot: None }).failure, None);
        }
        // The last erase was for this upload.
        assert_eq!(manager.begin(update_image(), None, 2000).failure, None);
        pass(&manager.peer, TAKEOVER_MS);
        listen();
        assert_eq!(manager.image(Request::Erase { slot: None }).failure, BUSY);
        assert_said("refused for 30 min");
        assert_eq!(manager.peer.send_init(&init_for(update_image())), "60 04 0A");
        end(&mut manager);
        assert_eq!(manager.begin(update_image(), None, 2000).failure, None);
    }
}

#[test]
fn a_stranger_waits_longer_after_images_that_were_taken_back() {
    let doors = Doors {
        take_backs: 3,
        ..Doors::default()
    };
    let mut manager = Manager::on(Peer::with(stranger_with(doors)));
    assert_eq!(manager.begin(update_image(), None, 2000).failure, BUSY);
    pass(&manager.peer, 7 * 60_000);
    assert_eq!(manager.peer.send_init(&init_for(update_image())), "60 04 0A");
    pass(&manager.peer, 60_000);
    assert_eq!(manager.begin(update_image(), None, 2000).failure, None);
}

#[test]
fn a_stranger_resets_a_quiet_device_once_a_minute_and_one_with_an_update_at_once() {
    let mut manager = Manager::on(Peer::with(stranger()));
    assert_eq!(manager.os(RESET).failure, BUSY);
    pass(&manager.peer, RESET_MS);
    assert_eq!(manager.reset().action, BootAction::None);
    assert_eq!(manager.os(RESET).failure, BUSY);
    let report = manager.try_out(update_image());
    assert_eq!(report.image.digest, hash_of(update_image()));
    let force = os_group::Request::Reset {
        force: true,
        boot_mode: None,
    };
    assert_eq!(manager.os(force).failure, BUSY);
}

/// A floor above the update, 2.0.0, and at the one after it, 3.0.0.
fn floor_3() -> Setup {
    Setup {
        floor: OldestAccepted {
            version: Some(Version {
                major: 3,
                ..Version::default()
            }),
            ..OldestAccepted::default()
        },
        ..setup()
    }
}

// boot-trust case 34
#[test]
fn an_image_below_the_floor_is_refused_before_anything_is_written() {
    let mut manager = Manager::on(Peer::with(floor_3()));
    manager.peer.idle();
    let before = manager.peer.board.power.ops();
    assert_eq!(
        manager.begin(update_image(), None, 2000).failure,
        Some(Failure::Image(Error::CurrentVersionIsNewer))
    );
    assert_eq!(manager.peer.board.power.ops(), before, "nothing is written");
    // An image that was in the slot before the floor was raised.
    let mut peer = Peer::with(setup());
    assert_eq!(peer.send_init(&init_for(update_image())), "60 04 01");
    let mut manager = Manager::on(Peer::with(setup()));
    manager.upload(update_image(), 1000);
    manager.peer.board.setup.floor = floor_3().floor;
    manager.peer.reboot();
    let hash = hash_of(update_image());
    for confirm in [false, true] {
        manager.refused(
            Request::WriteState {
                hash: Some(&hash),
                confirm,
            },
            Error::CurrentVersionIsNewer,
        );
    }
    manager.peer.assert_pending(false);
    assert_eq!(
        manager
            .os(os_group::Request::BootloaderInfo { query: Some("mode") })
            .map
            .get("no-downgrade")
            .and_then(|value| value.as_bool()),
        Some(true)
    );
}

// boot-trust case 34
#[test]
fn a_package_below_the_floor_is_refused_after_its_first_object() {
    let image = update_image();
    let mut peer = Peer::with(floor_3());
    assert_eq!(peer.send_init(&init_for(image)), "60 04 01");
    peer.object(image, 0, OBJECT.min(image.len()));
    peer.ask("04", "60 04 0B 05");
    peer.assert_pending(false);
    // At the floor it is accepted.
    let mut peer = Peer::with(floor_3());
    assert_eq!(peer.transfer(&init_for(next_image()), next_image()), "60 04 01");
    peer.install_and_confirm(next_image());
}

#[test]
fn an_image_below_the_counter_is_refused_at_its_end() {
    let with_counter = Setup {
        floor: OldestAccepted {
            counter: Some(1),
            ..OldestAccepted::default()
        },
        ..setup()
    };
    let mut peer = Peer::with(with_counter);
    assert_eq!(
        peer.transfer(&init_for(update_image()), update_image()),
        "60 04 0B 05",
        "it has none"
    );
    peer.assert_pending(false);
}

#[test]
fn the_running_image_is_not_installed_again_where_the_product_forbids_it() {
    let above = Setup {
        floor: OldestAccepted {
            version: Some(Version {
                major: 2,
                ..Version::default()
            }),
            is_above_version: true,
            counter: None,
        },
        ..setup()
    };
    let mut manager = Manager::on(Peer::with(above));
    assert_eq!(
        manager.begin(update_image(), None, 2000).failure,
        Some(Failure::Image(Error::CurrentVersionIsNewer))
    );
    assert_eq!(manager.begin(next_image(), None, 2000).failure, None);
}

// boot-trust case 55
#[test]
fn an_erased_journal_does_not_let_an_old_package_in() {
    let package = update_package();
    let mut peer = Peer::new();
    peer.update_and_confirm();
    let running = peer.device().upload().running().fw_version;
    let old = package.application.init.clone();
    // The running image has its version built in, like every image.
    peer.board.setup.fw_version = running + 5;
    let size = peer.board.journal.size() as usize;
    peer.board.journal.set_contents(0, &vec![0xFF; size]).unwrap();
    peer.reboot();
    assert_eq!(peer.send_init(&old), "60 04 0B 05");
}

// boot-trust case 54
#[test]
fn an_update_whose_version_cannot_be_recorded_is_refused_before_the_request_is_written() {
    for must_keep_version in [true, false] {
        let mut peer = Peer::with(Setup {
            must_keep_version,
            ..setup()
        });
        let image = update_image();
        assert_eq!(peer.send_init(&init_for(image)), "60 04 01");
        let last = (image.len() - 1) / OBJECT * OBJECT;
        for at in (0..last).step_by(OBJECT) {
            peer.object(image, at, at + OBJECT);
            assert_eq!(peer.answer("04"), "60 04 01");
        }
        peer.object(image, last, image.len());
        // The journal accepts every command, but stores nothing.
        let journal = peer.board.journal.clone();
        journal
            .chip()
            .wear_out(journal.start()..journal.start() + journal.size());
        let expected = if must_keep_version { "60 04 0A" } else { "60 04 01" };
        assert_eq!(peer.answer("04"), expected);
        peer.assert_pending(!must_keep_version);
    }
}
