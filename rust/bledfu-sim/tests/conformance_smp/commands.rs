// SPDX-License-Identifier: Apache-2.0
//! Commands of the OS group, and the state of images.

use crate::smp_client::{raw, Value};
use bledfu_sim::make::{Damage, Entry, ImageSpec};
use bledfu_slot::trailer::SwapType;
use bledfu_slot::Version as ImageVersion;
use bledfu_swap::BootAction;
use bledfu_transfer::secure_dfu::Then;
use bledfu_wire::image_group::{Error, Request};
use bledfu_wire::os_group::{self, Error as OsError};
use bledfu_wire::smp::{op, Code, Failure, Version};

use crate::harness::{factory_image, hex, image_key, sha256, update_image, update_spec, version};
use crate::{hash_of, Manager, BUF_SIZE};

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(|value| value.as_text())
}

// smp cases 31, 32
#[test]
fn any_text_that_fits_is_echoed() {
    let mut manager = Manager::default();
    for sent in ["", "x", "grüße, 世界", &"z".repeat(490)] {
        let answer = manager.os(os_group::Request::Echo(sent));
        assert_eq!(text(answer.map.get("r")), Some(sent));
    }
    let answer = manager.raw(&raw(Version::V2, 1, op::READ, 0, 0, &[0xA0]));
    assert_eq!(text(answer.map.get("r")), Some(""));
}

// smp case 33
#[test]
fn the_reported_parameters_are_true() {
    let mut manager = Manager::default();
    let answer = manager.os(os_group::Request::Parameters);
    assert_eq!(answer.map.keys(), ["buf_size", "buf_count"]);
    let number = |key| answer.map.get(key).and_then(|value| value.as_uint());
    assert_eq!(number("buf_size"), Some(BUF_SIZE as u64), "see smp case 10");
    assert!(number("buf_count") >= Some(4), "three requests and an answer");
}

// smp cases 34, 35, 37
#[test]
fn the_system_and_its_boot_loader_are_described_and_the_clock_is_refused() {
    let mut manager = Manager::default();
    for format in ["", "s", "sv", "a", "ss", "vs"] {
        let answer = manager.os(os_group::Request::Info { format });
        assert!(
            text(answer.map.get("output")).is_some_and(|said| !said.is_empty()),
            "{format}"
        );
    }
    let unknown = os_group::Request::Info { format: "sx" };
    assert_eq!(
        manager.os(unknown).failure,
        Some(Failure::Os(OsError::InvalidFormat))
    );
    manager.version = Version::V1;
    assert_eq!(manager.os(unknown).failure, Some(Failure::Smp(Code::Invalid)));
    manager.version = Version::V2;
    let mut ask = |query| manager.os(os_group::Request::BootloaderInfo { query });
    assert_eq!(text(ask(None).map.get("bootloader")), Some("MCUboot"));
    assert_eq!(
        ask(Some("mode")).map.get("mode"),
        Some(&Value::Int(9)),
        "swap using offset"
    );
    for query in ["active_b0_slot", ""] {
        let failure = ask(Some(query)).failure;
        assert_eq!(
            failure,
            Some(Failure::Os(OsError::QueryYieldsNoAnswer)),
            "{query:?}"
        );
    }
    let clock = raw(Version::V2, 1, op::READ, 0, 4, &[0xA0]);
    assert_eq!(manager.failure(&clock), Some(Failure::Smp(Code::NotSupported)));
}

// smp case 36
#[test]
fn a_reset_with_any_payload_is_answered_first() {
    for payload in [
        "a0",
        "",
        "a1 65 66 6f 72 63 65 01",
        "a1 65 66 6f 72 63 65 f5",
        "a1 69 62 6f 6f 74 5f 6d 6f 64 65 01",
        "ff ff ff",
    ] {
        let mut manager = Manager::default();
        let answer = manager.exchange(&raw(Version::V2, 9, op::WRITE, 0, 5, &hex(payload)));
        assert_eq!(answer, hex("0b 00 00 01 00 00 09 05 a0"), "{payload}");
        assert_eq!(manager.peer.then, Then::Reset);
        assert_eq!(
            manager.peer.reboot().action,
            BootAction::None,
            "nothing was asked to be installed"
        );
    }
}

// smp case 38
#[test]
fn a_blank_slot_is_not_listed() {
    let mut manager = Manager::default();
    let images = manager.state();
    assert_eq!(images.len(), 1);
    let running = &images[0];
    assert_eq!((running.slot, running.version.as_str()), (0, "1.0.0"));
    assert_eq!(running.hash, hash_of(factory_image()));
    assert!(
        running.bootable && running.active && running.confirmed && !running.pending && !running.permanent
    );
}

// smp case 39
#[test]
fn both_slots_are_listed_in_order_with_the_build_number_only_if_not_zero() {
    for (build, shown) in [(0, "2.3.4"), (77, "2.3.4.77")] {
        let version = ImageVersion {
            major: 2,
            minor: 3,
            revision: 4,
            build,
        };
        let image = ImageSpec::demo(version, 6000, &image_key()).unwrap().build();
        let mut manager = Manager::default();
        manager.upload(&image, 900);
        let images = manager.state();
        let listed: Vec<(u64, &str)> = images
            .iter()
            .map(|image| (image.slot, image.version.as_str()))
            .collect();
        assert_eq!(listed, [(0, "1.0.0"), (1, shown)]);
        assert_eq!(
            images[1].hash,
            hash_of(&image),
            "the digest in the image, not that of the file"
        );
        assert!(!images[1].active && !images[1].confirmed && !images[1].pending && !images[1].permanent);
    }
}

// smp case 40
#[test]
fn a_slot_without_an_image_is_skipped() {
    let good = update_spec();
    let mut two_hashes = good.clone();
    two_hashes.unprotected.insert(0, Entry::Hash);
    let bad_magic = good.damaged(Damage::OldMagic);
    let image = good.build();
    let cut = image[..image.len() - 150].to_vec();
    let no_tlv = image[..image.len() - 200].to_vec();
    for (name, bytes) in [
        ("two hashes", two_hashes.build()),
        ("bad magic", bad_magic),
        ("cut in its TLVs", cut),
        ("without TLVs", no_tlv),
    ] {
        let mut manager = Manager::default();
        let (area, layout) = manager.peer.board.receiving().unwrap();
        area.set_contents(layout.upload_offset(), &bytes).unwrap();
        manager.peer.reboot();
        assert_eq!(manager.state().len(), 1, "{name}");
    }
}

/// A device with the update in slot 1, in the state `next`.
fn in_state(next: SwapType) -> Manager {
    let mut manager = Manager::default();
    let update = hash_of(update_image());
    match next {
        SwapType::Revert => {
            manager.try_out(update_image());
        }
        _ => {
            manager.upload(update_image(), 1000);
            if next != SwapType::None {
                let answer = manager.choose(Some(&update), next == SwapType::Permanent);
                assert_eq!(answer.failure, None);
            }
        }
    }
    manager
}

/// Flags of slot 0 and slot 1: active, confirmed, pending, permanent.
fn flags(manager: &mut Manager) -> String {
    let images = manager.state();
    let show = |image: &crate::smp_client::Image| {
        [
            (image.active, 'a'),
            (image.confirmed, 'c'),
            (image.pending, 'p'),
            (image.permanent, 'P'),
        ]
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, letter)| *letter)
        .collect::<String>()
    };
    images.iter().map(show).collect::<Vec<_>>().join(" ")
}

/// The hash that is sent, test or confirm, and the expected result.
type Row = (Option<Vec<u8>>, bool, Result<&'static str, Error>);

// smp cases 41, 42, 44
#[test]
fn every_row_of_the_state_table_holds() {
    use Error::{HashNotFound, ImageAlreadyPending, InvalidHash, SettingTestToActiveDenied};
    let (old, new) = (hash_of(factory_image()), hash_of(update_image()));
    let states = [
        (SwapType::None, "ac "),
        (SwapType::Test, "ac p"),
        (SwapType::Permanent, "ac pP"),
        (SwapType::Revert, "a c"),
    ];
    // The state; the running image and the other one; test or confirm; the refusal, or the flags afterwards.
    for (state, before) in states {
        let (active, other) = if state == SwapType::Revert {
            (new, old)
        } else {
            (old, new)
        };
        let mut rows: Vec<Row> = vec![
            (None, false, Err(InvalidHash)),
            (Some(vec![7; 31]), false, Err(InvalidHash)),
            (Some(vec![7; 33]), true, Err(InvalidHash)),
            (Some(vec![7; 32]), false, Err(HashNotFound)),
            (Some(vec![7; 32]), true, Err(HashNotFound)),
            (Some(active.to_vec()), false, Err(SettingTestToActiveDenied)),
        ];
        let (test, confirm_other, confirm_active) = match state {
            SwapType::None => (Ok("ac p"), Ok("ac pP"), Ok("ac ")),
            SwapType::Test => (Ok("ac p"), Err(ImageAlreadyPending), Err(ImageAlreadyPending)),
            SwapType::Permanent => (Err(ImageAlreadyPending), Ok("ac pP"), Err(ImageAlreadyPending)),
            // Swap using offset: after the confirmation the previous image can no longer be requested (Zephyr
            // `boot_get_image_start_offset`).
            _ => (Err(ImageAlreadyPending), Ok("a c"), Ok("ac")),
        };
        rows.push((Some(other.to_vec()), false, test));
        rows.push((Some(other.to_vec()), true, confirm_other));
        rows.push((Some(active.to_vec()), true, confirm_active));
        rows.push((None, true, confirm_active));
        for (hash, confirm, expected) in rows {
            let mut manager = in_state(state);
            // Or a slot that is no longer needed is cleared before it is listed.
            manager.peer.idles = false;
            assert_eq!(flags(&mut manager), before);
            let contents = manager.peer.board.external.contents();
            let request = Request::WriteState {
                hash: hash.as_deref(),
                confirm,
            };
            match expected {
                Ok(after) => {
                    // Once more: the same answer.
                    for _ in 0..2 {
                        let answer = manager.image(request);
                        assert_eq!(answer.failure, None, "{state}, {hash:02x?}, {confirm}");
                        assert_eq!(
                            answer.images().as_ref(),
                            Some(&manager.state()),
                            "answered with the list"
                        );
                        assert_eq!(flags(&mut manager), after, "{state}, {hash:02x?}, {confirm}");
                    }
                }
                Err(error) => {
                    manager.refused(request, error);
                    assert_eq!(flags(&mut manager), before, "{state}, {hash:02x?}, {confirm}");
                    assert!(
                        manager.peer.board.external.contents() == contents,
                        "the flash is not touched"
                    );
                }
            }
        }
    }
}

// smp case 41
#[test]
fn the_marked_image_boots() {
    for (confirm, swap_type) in [(false, SwapType::Test), (true, SwapType::Permanent)] {
        let mut manager = in_state(SwapType::None);
        manager.choose(Some(&hash_of(update_image())), confirm);
        let report = manager.reset();
        assert_eq!(report.image.digest, hash_of(update_image()));
        assert!(
            matches!(report.action, BootAction::Installed { swap_type: done, .. } if done == swap_type),
            "{}",
            report.action
        );
        assert_eq!(flags(&mut manager), if confirm { "ac" } else { "a c" });
        let expected = if confirm { version(2) } else { version(1) };
        assert_eq!(manager.peer.reboot().image.header.version, expected);
    }
}

#[test]
fn an_image_whose_signature_is_wrong_is_not_marked() {
    let mut spec = update_spec();
    spec.key = crate::harness::strange_key();
    let image = spec.build();
    let mut manager = Manager::default();
    manager.upload(&image, 1000);
    let hash = hash_of(&image);
    let answer = manager.choose(Some(&hash), false);
    assert_eq!(answer.failure, Some(Failure::Image(Error::InvalidTlv)));
    // A client that finds it in the list would not send it again.
    assert_eq!(manager.state().len(), 1, "it is erased");
    let answer = manager.choose(Some(&hash), false);
    assert_eq!(answer.failure, Some(Failure::Image(Error::HashNotFound)));
    assert_eq!(manager.reset().image.header.version, version(1));
}

#[test]
fn an_image_damaged_in_its_slot_is_refused_and_erased_and_can_be_sent_again() {
    let image = update_image();
    let mut manager = Manager::default();
    // Before it is cleared in the background.
    manager.peer.idles = false;
    let (area, layout) = manager.peer.board.receiving().unwrap();
    area.set_contents(layout.upload_offset(), image).unwrap();
    area.set_contents(layout.upload_offset() + 3000, &[0]).unwrap();
    assert_eq!(manager.state().len(), 2);
    crate::harness::listen();
    let answer = manager.choose(Some(&hash_of(image)), false);
    assert_eq!(answer.failure, Some(Failure::Image(Error::InvalidTlv)));
    crate::harness::assert_said("send it again");
    assert_eq!(manager.state().len(), 1);
    assert_eq!(manager.try_out(image).image.digest, hash_of(image));
}

#[test]
fn an_unreadable_flash_is_no_verdict_on_the_image_and_erases_nothing() {
    let image = update_image();
    let mut manager = Manager::default();
    manager.upload(image, 1000);
    let kept = manager.peer.board.secondary.contents();
    manager.peer.board.external.set_dead(true);
    let answer = manager.choose(Some(&hash_of(image)), false);
    assert!(answer.failure.is_some());
    manager.peer.board.external.set_dead(false);
    assert!(manager.peer.board.secondary.contents() == kept);
    assert_eq!(manager.choose(Some(&hash_of(image)), false).failure, None);
}

#[test]
fn the_previous_image_can_be_sent_again_after_the_confirmation() {
    let old = factory_image();
    let mut manager = Manager::of_any_version();
    manager.try_out(update_image());
    assert_eq!(manager.choose(None, true).failure, None);
    assert_eq!(flags(&mut manager), "ac", "it is not there to be asked for");
    assert_eq!(manager.try_out(old).image.digest, hash_of(old));
}

#[test]
fn a_request_beside_a_stale_flag_is_rewritten() {
    let image = update_image();
    let mut manager = Manager::default();
    manager.upload(image, 1000);
    let (area, layout) = manager.peer.board.receiving().unwrap();
    let trailer = layout.secondary_trailer();
    area.set_contents(trailer.copy_done(), &[1]).unwrap();
    // And an old image in front of it, as swap using move leaves it.
    area.set_contents(0, &image[..1000]).unwrap();
    assert_eq!(manager.choose(Some(&hash_of(image)), false).failure, None);
    assert_eq!(flags(&mut manager), "ac p");
    assert_eq!(manager.reset().image.digest, hash_of(image));
}

// smp case 43
#[test]
fn after_the_swap_the_new_image_is_confirmed_with_or_without_its_hash() {
    let new = hash_of(update_image());
    for hash in [None, Some(&[][..]), Some(&new[..])] {
        let mut manager = in_state(SwapType::Revert);
        assert_eq!(flags(&mut manager), "a c");
        let answer = manager.choose(hash, true);
        let images = answer.images().expect("the list");
        assert!(images[0].active && images[0].confirmed);
        assert_eq!(images.len(), 1, "the image before is no way back any more");
        assert!(manager.peer.device().is_confirmed(), "the application knows");
        assert_eq!(manager.peer.reboot().image.digest, new, "it stays");
    }
}

// smp case 67
#[test]
fn erase_empties_the_slot() {
    for slot in [None, Some(1)] {
        let mut manager = Manager::default();
        manager.upload(update_image(), 1000);
        assert_eq!(manager.state().len(), 2);
        for _ in 0..2 {
            assert!(manager.image(Request::Erase { slot }).map.keys().is_empty());
            assert_eq!(manager.state().len(), 1);
        }
        manager.peer.idle();
        let (area, layout) = manager.peer.board.receiving().unwrap();
        let room = layout.max_image_size() as usize;
        assert!(
            area.contents()[..room].iter().all(|&byte| byte == 0xFF),
            "blank when nobody asks for anything"
        );
        manager.try_out(update_image());
    }
}

// smp case 68
#[test]
fn a_slot_that_is_needed_is_not_erased() {
    for (state, before) in [
        (SwapType::Test, "ac p"),
        (SwapType::Permanent, "ac pP"),
        (SwapType::Revert, "a c"),
    ] {
        let mut manager = in_state(state);
        for slot in [None, Some(1), Some(0)] {
            manager.refused(Request::Erase { slot }, Error::NoFreeSlot);
        }
        assert_eq!(flags(&mut manager), before);
    }
    let mut manager = Manager::default();
    manager.refused(Request::Erase { slot: Some(0) }, Error::NoFreeSlot);
    manager.refused(Request::Erase { slot: Some(7) }, Error::InvalidSlot);
}

// smp case 69
#[test]
fn erase_ends_the_upload() {
    let mut manager = Manager::default();
    let image = update_image();
    manager.begin(image, Some(&sha256(image)), 1000);
    assert_eq!(manager.image(Request::Erase { slot: None }).failure, None);
    assert_eq!(manager.piece(image, 1000, 2000).offset(), Some(0));
    assert_eq!(
        manager.begin(image, Some(&sha256(image)), 1000).offset(),
        Some(1000),
        "from the start"
    );
    manager.try_out(image);
}

// smp case 70
#[test]
fn slot_info_reports_the_sizes() {
    let mut manager = Manager::default();
    let answer = manager.image(Request::SlotInfo);
    let Some(Value::Array(images)) = answer.map.get("images") else {
        panic!("{answer:?}")
    };
    let Some(Value::Array(slots)) = images[0].get("slots") else {
        panic!("{answer:?}")
    };
    for (number, slot) in (0..).zip(slots) {
        assert_eq!(slot.get("slot").and_then(Value::as_uint), Some(number));
        assert_eq!(slot.get("size").and_then(Value::as_uint), Some(16 * 4096));
    }
    let limit = manager.peer.board.setup.layout().max_image_size();
    assert_eq!(
        images[0].get("max_image_size").and_then(Value::as_uint),
        Some(limit.into())
    );
}
