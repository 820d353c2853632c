// SPDX-License-Identifier: Apache-2.0
//! What each library sends: the order of requests, the size of packets, pauses.

use crate::common::pattern;
use crate::device::{Device, MAX};
use crate::link::{init, package, update, Run};
use bledfu_client::secure_dfu::{Client, Settings};
use bledfu_client::Stage;

#[test]
fn android_sends_the_requests_of_its_library() {
    let (log, end) = update(&mut Device::new(5000), Settings::android());
    assert_eq!(end, Ok(()));
    let expected = [
        "-",
        "0601",
        "020000",
        "01018b000000",
        "03",
        "04",
        "0602",
        "010200100000",
        "03",
        "04",
        "010288030000",
        "03",
        "04",
    ];
    assert_eq!(log, expected);
}

#[test]
fn ios_creates_the_init_packet_before_it_switches_receipts_off_and_has_12_by_default() {
    let (log, end) = update(&mut Device::new(5000), Settings::ios());
    assert_eq!(end, Ok(()));
    let expected = [
        "-",
        "0601",
        "01018b000000",
        "020000",
        "03",
        "04",
        "020c00",
        "0602",
        "010200100000",
        "03",
        "04",
        "010288030000",
        "03",
        "04",
    ];
    assert_eq!(log, expected);
}

#[test]
fn nrfutil_sets_its_receipts_before_anything_else() {
    let (log, end) = update(&mut Device::new(4096), Settings::nrfutil());
    assert_eq!(end, Ok(()));
    let expected = [
        "-",
        "020000",
        "0601",
        "01018b000000",
        "03",
        "04",
        "0602",
        "010200100000",
        "03",
        "04",
    ];
    assert_eq!(log, expected);
}

#[test]
fn packets_are_full_and_on_ios_a_multiple_of_4() {
    for (settings, payload, size) in [
        (Settings::android(), 514, 514),
        (Settings::android(), 20, 20),
        (Settings::ios(), 182, 180),
        (Settings::ios(), 23, 20),
        (Settings::ios(), 3, 1),
    ] {
        let (init, image) = (init(), pattern(5000));
        let mut device = Device::new(5000);
        let mut run = Run::new(&mut device);
        let mut client = Client::new(package(&init, &image), settings);
        assert_eq!(run.run(&mut client, payload), Ok(()));
        assert_eq!(run.packets.iter().max(), Some(&size.min(4096)));
        assert_eq!(run.packets.iter().sum::<usize>(), 5139);
    }
}

#[test]
fn ios_waits_400_ms_at_the_first_object_only() {
    for (settings, pauses) in [
        (Settings::ios(), [400, 0, 0]),
        (Settings::android(), [0, 0, 0]),
        (
            Settings {
                object_delay_ms: 400,
                ..Settings::android()
            },
            [400, 400, 400],
        ),
        (
            Settings {
                object_delay_ms: 300,
                ..Settings::ios()
            },
            [400, 300, 300],
        ),
    ] {
        let (init, image) = (init(), pattern(3 * MAX));
        let mut device = Device::new(3 * MAX);
        let mut run = Run::new(&mut device);
        assert_eq!(run.update(package(&init, &image), settings), Ok(()));
        let mut steps: Vec<u64> = run.times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        steps.retain(|&step| step > 0);
        assert_eq!(
            steps,
            pauses.into_iter().filter(|&pause| pause > 0).collect::<Vec<_>>()
        );
    }
}

#[test]
fn the_stages_of_an_update_follow_each_other() {
    let (init, image) = (init(), pattern(5000));
    let mut device = Device::new(5000);
    let mut run = Run::new(&mut device);
    assert_eq!(run.update(package(&init, &image), Settings::android()), Ok(()));
    assert_eq!(
        run.stages,
        [Stage::Preparing, Stage::Sending, Stage::Sent, Stage::Verified]
    );
}
