// SPDX-License-Identifier: Apache-2.0
//! The 95 numbered cases of the project's conformance list for a Secure DFU target, on a whole device: ring, front
//! end, upload, slot writer, journal, flash.
//!
//! A test carries the numbers of its cases in its name. What is sent and what comes back is compared byte for byte
//! with the list. The list's image P is no MCUboot image, so this device refuses it at the very last Execute
//! (`60 04 0B 0C`); everything before that is shown with P, and the success of the last Execute with a real signed
//! image of the same 5000 bytes.
//!
//! Where the reference bootloader and a *(design)* remark of the list differ, the remark is what counts; the
//! head of `bledfu-transfer/src/secure_dfu.rs` names these differences.

#[path = "../harness/mod.rs"]
mod harness;

mod command;
mod data;
mod init;
mod link;
mod receipts;
mod resume;
mod serial;

/// Cases that cannot be shown here, and why.
const NOT_HERE: &[(u8, &str)] = &[
    (
        1,
        "an ATT error of the GATT server: the write does not reach the target while notifications are off",
    ),
    (
        4,
        "an ATT error of the GATT server: the packet characteristic has no write with response",
    ),
    (
        84,
        "buttonless service: a later issue; and an ATT error of its GATT server",
    ),
    (85, "buttonless service: a later issue"),
    (86, "buttonless service: a later issue"),
    (87, "buttonless service: a later issue"),
    (88, "buttonless service: a later issue"),
    (
        89,
        "buttonless service: a later issue; and security of its GATT server",
    ),
];

const SOURCES: &[&str] = &[
    include_str!("command.rs"),
    include_str!("data.rs"),
    include_str!("init.rs"),
    include_str!("link.rs"),
    include_str!("receipts.rs"),
    include_str!("resume.rs"),
    include_str!("serial.rs"),
];

/// The numbers at the head of a test's name: `case_5_6_7_unknown_opcodes` has three.
fn numbers(name: &str) -> impl Iterator<Item = u8> + '_ {
    name.split('_').map_while(|word| word.parse().ok())
}

#[test]
fn every_case_of_the_list_is_tested_or_has_a_reason() {
    let mut seen = [false; 96];
    for (number, reason) in NOT_HERE {
        assert!(reason.contains(' '), "case {number} needs a reason");
        assert!(
            !std::mem::replace(&mut seen[usize::from(*number)], true),
            "case {number} twice"
        );
    }
    let names = SOURCES.iter().flat_map(|source| {
        let tests = source.split("#[test]").skip(1);
        tests.filter_map(|test| Some(test.split_once("fn case_")?.1.split_once('(')?.0))
    });
    for name in names {
        for number in numbers(name) {
            let listed = NOT_HERE.iter().any(|(other, _)| *other == number);
            assert!(!listed, "case {number} is tested in case_{name}, so it is here");
            seen[usize::from(number)] = true;
        }
    }
    let missing: Vec<usize> = (1..=95).filter(|&number| !seen[number]).collect();
    assert!(missing.is_empty(), "cases without a test: {missing:?}");
}

#[test]
fn the_vectors_of_the_list_are_what_it_says() {
    use bledfu_sim::phone::secure_dfu::crc32;
    use harness::*;

    let p = image_p();
    let sums: [(usize, u32); 9] = [
        (240, 0x9A0C_A945),
        (244, 0xD728_F1B4),
        (488, 0x099E_6E42),
        (500, 0x5E27_5FB2),
        (2928, 0x8461_1BF4),
        (4096, 0x5E4E_1995),
        (4196, 0xC6FD_1C1F),
        (4340, 0x3416_F6A0),
        (5000, 0x1ABD_04D4),
    ];
    for (length, sum) in sums {
        assert_eq!(crc32(&p[..length]), sum, "CRC of {length} bytes of P");
    }
    let digest = "34398b85297bf7d9dfb59b8d511d8bbb44ab23e891570e4395e7871475fc8afb";
    assert_eq!(sha256(&p).to_vec(), hex(digest));

    let (i, u) = (packet_i(), packet_u());
    assert_eq!((i.len(), crc32(&i)), (139, 0xDABD_F22B));
    assert_eq!((crc32(&i[..20]), crc32(&i[..100])), (0x5FE4_DD95, 0x15C6_5263));
    assert_eq!((u.len(), crc32(&u)), (68, 0xC345_596C));
    assert_eq!(
        init_for(&p),
        i,
        "signatures of the simulator's key are deterministic"
    );

    let x = "515c3d6eb9e396b904d3feca7f54fdcd0cc1e997bf375dca515ad0a6c3b4035f";
    let y = "4536be3a50f318fbf9a5475902a221502bef0d57e08c53b2cc0a56f17d9f9354";
    assert_eq!(
        package_key().public().as_bytes().to_vec(),
        hex(&format!("{x}{y}"))
    );
    assert_eq!(update_image().len(), p.len());
}
