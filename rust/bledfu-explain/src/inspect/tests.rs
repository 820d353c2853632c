// SPDX-License-Identifier: Apache-2.0
//! How each kind of file is named, and which faults are found in it.

use std::path::{Path, PathBuf};

use bledfu_slot::header::flags;
use bledfu_slot::{Geometry, ImagePolicy, Layout, SoftCrypto};

use super::*;
use bledfu_sim::keys::{open_public_key, SigningKey};
use bledfu_sim::make::{demo_payload, Damage, ImageSpec};
use bledfu_sim::nor::Chip;
use bledfu_sim::parts::MX25R6435F;
use bledfu_sim::power::Power;
use bledfu_slot::{request_test, Slot, Version};

const SLOT: u32 = 0x1_0000;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors")
}

fn key() -> SigningKey {
    SigningKey::from_scalar(&[3; 32]).unwrap()
}

fn spec() -> ImageSpec {
    let version = Version {
        major: 1,
        minor: 2,
        revision: 3,
        build: 4,
    };
    ImageSpec::new(version, demo_payload(version, 5000, 0), &key())
}

fn with_image_key() -> Options {
    Options {
        image_key: Some(key().public()),
        ..Options::default()
    }
}

/// The value that is printed for a name.
fn value<'r>(report: &'r Report, name: &str) -> &'r str {
    let lines = report.sections.iter().flat_map(|section| &section.lines);
    let mut found = lines.filter_map(|line| match line {
        report::Line::Field(field, value) if field == name => Some(value.as_str()),
        _ => None,
    });
    found.next().unwrap_or_default()
}

/// The heading of the first section.
fn title(report: &Report) -> &str {
    report
        .sections
        .first()
        .map_or("", |section| section.title.as_str())
}

/// The unchecked part that is reported when no key was given.
const NO_IMAGE_KEY: &str = "nothing wrong found, but not checked: the signature of the image: no --image-key";
const GOOD: &str = "good: everything was checked";

#[test]
fn explains_the_init_packet_of_the_case() {
    let packet = std::fs::read(vectors().join("case/init-210.dat")).unwrap();
    let mut xy = [0; 64];
    let hex_key = "6978f9c45649dddfdb9f6db57e2b0d8e96c997b6318301e604528eec68f46452\
                   28db6404bc87df52f371555450dfb1e9ca3589bacaedfdb895e75300f123c9f3";
    for (i, byte) in xy.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex_key[2 * i..2 * i + 2], 16).unwrap();
    }
    let options = Options {
        public_key: Some(Key::new(xy)),
        ..Options::default()
    };
    let report = inspect("bank1.dat", &packet, &options);
    assert_eq!(report.problems, Vec::<String>::new(), "{}", report.text());
    for (name, expected) in [
        ("size", "210 bytes (0xd2)"),
        ("CRC-32", "B473C829"),
        ("op_code", "1 (INIT)"),
        ("fw_version", "8714 (0x220a)"),
        ("hw_version", "52 (0x34)"),
        ("sd_req", "0x0100 (S140 7.2.0), 0x0123 (S140 7.3.0)"),
        ("type", "0 (application)"),
        ("sd_size", "0 (0x0)"),
        ("bl_size", "0 (0x0)"),
        ("app_size", "475384 (0x740f8)"),
        ("objects", "117 of up to 4096 bytes"),
        (
            "hash of the firmware",
            "2da0cf74e1d4bb77c4aa67d427888f121f3adce63fb37aa52264bf5ffb6a7308",
        ),
        ("is_debug", "false"),
        ("signed bytes", "131 from byte 11"),
        (
            "SHA-256 of these",
            "0a06122f53fde8ed94641403d7363298d3f1820661d940e2eb107d6745897092",
        ),
        ("signature type", "0 (ECDSA P-256, SHA-256)"),
    ] {
        assert_eq!(value(&report, name), expected, "{name}");
    }
    assert!(value(&report, "boot_validation 0").starts_with("3 (VALIDATE_ECDSA_P256_SHA256), 7e0e2c0d"));
    assert!(report.text().contains("the signature is good"));
    assert_eq!(
        report.verdict(),
        "nothing wrong found, but not checked: the firmware: it is not in this file, only in the whole package"
    );
}

#[test]
fn finds_what_is_wrong_with_an_init_packet() {
    let mut packet = std::fs::read(vectors().join("case/init-210.dat")).unwrap();
    let options = Options {
        public_key: Some(key().public()),
        ..Options::default()
    };
    let report = inspect("a.dat", &packet, &options);
    assert_eq!(
        report.verdict(),
        "wrong: the signature of the init packet is wrong, or made with another key"
    );
    packet.truncate(100);
    let report = inspect("a.dat", &packet, &options);
    assert_eq!(report.verdict(), "wrong: the init packet is not valid protobuf");
    let empty = bledfu_sim::init_packet::InitFields::default().unsigned();
    let report = inspect("a", &empty, &options);
    assert_eq!(report.problems.len(), 5, "{:?}", report.problems);
}

#[test]
fn a_good_image_is_good_only_with_its_key() {
    for (options, verdict, accepted) in [
        (with_image_key(), GOOD, "accept the image"),
        (
            Options::default(),
            NO_IMAGE_KEY,
            "accept the image, if its signature is good",
        ),
    ] {
        let report = inspect("app.bin", &spec().with_security_counter(7).build(), &options);
        assert_eq!(report.verdict(), verdict, "{}", report.text());
        assert_eq!(value(&report, "version"), "1.2.3+4");
        assert_eq!(value(&report, "boot stage would"), accepted);
        assert!(value(&report, "TLV 0x50 SEC_CNT").ends_with("protected: 7"));
    }
}

#[test]
fn finds_every_damage_of_an_image() {
    for damage in Damage::ALL {
        let report = inspect("app.bin", &spec().damaged(*damage), &with_image_key());
        assert!(!report.problems.is_empty(), "{damage:?}\n{}", report.text());
        assert!(report.verdict().starts_with("wrong: "));
    }
}

#[test]
fn an_image_of_another_kind_is_named_by_its_first_32_bytes() {
    let kinds = [
        (
            flags::ENCRYPTED_AES128,
            "encrypted MCUboot image",
            "encrypted images are not supported",
        ),
        (
            flags::ENCRYPTED_AES256,
            "encrypted MCUboot image",
            "encrypted images are not supported",
        ),
        (
            flags::COMPRESSED_LZMA2 | flags::COMPRESSED_ARM_THUMB,
            "compressed MCUboot image",
            "compressed images are not supported",
        ),
        (
            flags::NON_BOOTABLE,
            "MCUboot image that is not to be started",
            "the image is marked as not bootable",
        ),
    ];
    for (bits, name, problem) in kinds {
        let mut image = spec();
        image.flags = bits;
        let mut image = image.build();
        let report = inspect("app.bin", &image, &with_image_key());
        assert!(title(&report) == format!("app.bin: {name}"), "{}", report.text());
        assert_eq!(report.verdict(), format!("wrong: {problem}"));
        // The digest of an encrypted image is the digest before encryption.
        if bits & (flags::ENCRYPTED_AES128 | flags::ENCRYPTED_AES256) != 0 {
            image[0x300] ^= 1;
            let report = inspect("app.bin", &image, &with_image_key());
            assert_eq!(report.verdict(), format!("wrong: {problem}"));
        }
        // Only the header is needed.
        let report = inspect("app.bin", &image[..32], &with_image_key());
        assert_eq!(
            report.problems.first().map(String::as_str),
            Some(problem),
            "{}",
            report.text()
        );
    }
}

#[test]
fn packed_updates_are_named_with_what_they_need() {
    use bledfu_patch::record::{BASE, OUT_HASH, OUT_SHA, PACK};
    for (method, base, kind) in [
        (1, 4000_u32, "packed update (delta)"),
        (2, 0, "packed update (compressed)"),
    ] {
        let mut pack = vec![1, method, 3, 0];
        for word in [296_756, base, PRIMARY_START, 0x2000_0000, 0x4_0000] {
            pack.extend(word.to_le_bytes());
        }
        let mut image = spec();
        image.header_size = 32;
        image.flags = flags::NON_BOOTABLE;
        image.protected.push((PACK, pack));
        image.protected.push((OUT_SHA, vec![7; 32]));
        if method == 1 {
            image.protected.push((BASE, vec![8; 32]));
        }
        let incomplete = inspect("app.packed.bin", &image.build(), &with_image_key());
        assert_eq!(
            incomplete.verdict(),
            "wrong: the packed update has no entry 0xbfa3"
        );
        image.protected.push((OUT_HASH, vec![9; 32]));
        let report = inspect("app.packed.bin", &image.build(), &with_image_key());
        assert_eq!(report.kind, kind, "{}", report.text());
        assert!(report.problems.is_empty(), "{}", report.text());
        let makes = format!(
            "296756 bytes, SHA-256 {}, image digest {}",
            "07".repeat(32),
            "09".repeat(32)
        );
        assert_eq!(value(&report, "makes"), makes);
        let from = match method {
            1 => format!(
                "the image with digest {} (`image list` shows it), 4000 bytes at 0x0000d000; other devices need the full image",
                "08".repeat(32)
            ),
            _ => "any image".to_owned(),
        };
        assert_eq!(value(&report, "only from"), from);
    }
}

#[test]
fn programs_without_a_header_are_told_what_to_do() {
    let mut program = vec![0; 4096];
    program[..8].copy_from_slice(&[0, 0, 1, 0x20, 0x41, 0xC2, 0, 0]);
    let report = inspect("zephyr.bin", &program, &Options::default());
    assert_eq!(report.kind, "program without image header");
    assert_eq!(
        report.verdict(),
        "wrong: the file is a program without an image header: sign it with imgtool"
    );
    let report = inspect("zephyr.elf", b"\x7FELF\x01\x01\x01", &Options::default());
    assert_eq!(report.kind, "ELF program");
    assert!(report
        .verdict()
        .starts_with("wrong: the file is an ELF program, not a signed image: "));
}

#[test]
fn an_image_for_another_slot_or_processor_is_named_when_the_address_of_the_slot_is_given() {
    let report = |name: &str, slot_address, slot_size| {
        let file = vectors().join(format!("vectored/{name}-2.0.0.signed.bin"));
        let options = Options {
            slot_address,
            slot_size,
            ..Options::default()
        };
        inspect("app.bin", &std::fs::read(file).unwrap(), &options)
    };
    let outside =
        "wrong: the image is linked for another slot: its reset vector 0x01008a01 lies outside 0x0000d000-0x000f5000";
    let elsewhere = "wrong: the image is linked for the slot at 0x000f5000, not for the one at 0x0000d000";
    let good = NO_IMAGE_KEY;
    for (name, verdict) in [
        ("application", good),
        ("last-word", good),
        ("rom-fixed", good),
        ("network-core", outside),
        ("rom-fixed-elsewhere", elsewhere),
        (
            "ram-load",
            "wrong: images that are loaded into RAM are not supported",
        ),
    ] {
        // Without the slot nobody can tell where an image is linked for; that it is for RAM is in its header.
        let alone = if name == "ram-load" { verdict } else { good };
        assert_eq!(report(name, None, None).verdict(), alone, "{name}");
        let report = report(name, Some(PRIMARY_START), Some(0xE8000));
        assert_eq!(report.verdict(), verdict, "{name}");
        let word = match verdict == good {
            true => "accept the image, if its signature is good",
            false => "refuse the image",
        };
        assert_eq!(value(&report, "boot stage would"), word, "{name}");
    }
    // Without the size of the slot, the reset vector must be inside the image itself.
    assert_eq!(report("application", Some(PRIMARY_START), None).verdict(), good);
    let network_core = report("network-core", None, None);
    assert_eq!(
        value(&network_core, "vector table"),
        "stack pointer 0x20040000, reset vector 0x01008a01"
    );
    // Text and encrypted bytes are not a vector table.
    for text in [
        report("encrypted-128", None, None).text(),
        inspect("app.bin", &spec().build(), &with_image_key()).text(),
    ] {
        assert!(!text.contains("vector table"), "{text}");
    }
}

#[test]
fn names_what_is_wrong_with_an_image() {
    let problem = |damage| inspect("app.bin", &spec().damaged(damage), &with_image_key()).verdict();
    assert_eq!(
        problem(Damage::PayloadBit),
        "wrong: the SHA-256 does not match the image"
    );
    assert_eq!(
        problem(Damage::ImageSizeOverflow),
        "wrong: the sizes in the header overflow"
    );
    assert_eq!(problem(Damage::SignatureBit), "wrong: the signature is wrong");
    assert!(problem(Damage::Truncated).starts_with("wrong: the file is cut short"));
    let mut flagged = spec();
    flagged.flags = 0x8000_0001;
    let report = inspect("app.bin", &flagged.build(), &with_image_key());
    assert_eq!(report.verdict(), "wrong: the header has unknown flags 0x80000000");
    assert_eq!(value(&report, "flags"), "0x80000001 (PIC, unknown 0x80000000)");
}

#[test]
fn padding_after_an_image_is_fine_and_other_bytes_are_not() {
    let mut image = spec().build();
    image.resize(image.len() + 3, 0xFF);
    assert!(inspect("app.bin", &image, &with_image_key()).problems.is_empty());
    image.extend_from_slice(b"more");
    assert_eq!(
        inspect("app.bin", &image, &with_image_key()).verdict(),
        "wrong: there are bytes after the image that do not belong to it"
    );
}

#[test]
fn a_slot_of_another_processor_is_read_with_its_units() {
    let mut slot = vec![0xFF; SLOT as usize];
    // Swap using offset: after the first sector, which has 8 KiB.
    let image = spec().build();
    slot[8192..8192 + image.len()].copy_from_slice(&image);
    let options = Options {
        slot_size: Some(SLOT),
        align: 16,
        erase_size: 8192,
        max_align: 16,
        ..with_image_key()
    };
    let report = inspect("slot1.bin", &slot, &options);
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(
        report.text().contains("write size 16, max align 16"),
        "{}",
        report.text()
    );
    let words = Options {
        slot_size: Some(SLOT),
        ..with_image_key()
    };
    let unfound = inspect("slot1.bin", &slot, &words);
    let shows_image = |report: &Report| report.text().contains("TLV 0x10 SHA256");
    assert!(shows_image(&report) && !shows_image(&unfound));
}

#[test]
fn explains_a_slot_with_a_requested_update() {
    let geometry = Geometry {
        slot_size: SLOT,
        sector_size: SECTOR,
        write_size: 4,
    };
    let layout = Layout::new(Algorithm::SwapOffset, geometry, geometry, 8, 256).unwrap();
    let power = Power::new();
    let chip = Chip::with_size("external", &MX25R6435F, SLOT, &power);
    let mut area = chip.area(0, SLOT).unwrap();
    area.set_contents(layout.upload_offset(), &spec().build())
        .unwrap();
    let keys = [key().public()];
    let policy = ImagePolicy {
        keys: &keys,
        trusted_digests: &[],
        unsigned: false,
        address: None,
    };
    let slot = Slot::new(&layout)
        .verify(&mut area, &policy, &SoftCrypto)
        .unwrap();
    request_test(&mut area, &slot).unwrap();
    let report = inspect("slot1.bin", &area.contents(), &with_image_key());
    assert_eq!(report.problems, Vec::<String>::new(), "{}", report.text());
    assert_eq!(title(&report), "slot1.bin: slot");
    assert_eq!(value(&report, "swap_info"), "0x02 (test, image 0)");
    assert_eq!(value(&report, "magic"), "good");
    assert_eq!(value(&report, "image_ok"), "unset");
    assert_eq!(value(&report, "status records"), "none of 512 written");
    assert_eq!(
        value(&report, "in the secondary slot"),
        "the next boot installs the image on test"
    );
    let mut damaged = area.contents();
    let magic = damaged.len() - 1;
    damaged[magic] ^= 1;
    damaged[magic - 23] = 0x02;
    let report = inspect("slot1.bin", &damaged, &with_image_key());
    assert_eq!(
        report.verdict(),
        "wrong: image_ok in the trailer is neither set nor unset; the magic of the trailer is bad"
    );
}

#[test]
fn explains_an_erased_slot_and_a_slot_of_imgtool() {
    let report = inspect("dump", &vec![0xFF; SLOT as usize], &Options::default());
    assert!(report.problems.is_empty(), "{}", report.text());
    assert_eq!(value(&report, "image"), "none: the slot starts erased");
    let padded = std::fs::read(vectors().join("images/padded-confirmed-1.2.3.bin")).unwrap();
    let report = inspect("padded.bin", &padded, &Options::default());
    assert!(report.problems.is_empty(), "{}", report.text());
    assert_eq!(value(&report, "in the primary slot"), "the image is confirmed");
}

#[test]
fn an_image_too_large_for_the_slot_is_named() {
    let image = spec().build();
    let options = Options {
        slot_size: Some(12 * 1024),
        ..with_image_key()
    };
    assert_eq!(
        inspect("app.bin", &image, &options).verdict(),
        "wrong: the image is larger than can be installed"
    );
}

#[test]
fn explains_packages_and_finds_what_is_wrong() {
    let options = Options {
        public_key: Some(open_public_key(&vectors().join("keys/package.pem")).unwrap()),
        image_key: Some(open_public_key(&vectors().join("keys/image.pub.pem")).unwrap()),
        slot_size: Some(0xE_8000),
        ..Options::default()
    };
    let verdict = |name: &str| {
        let bytes = std::fs::read(vectors().join("packages").join(name)).unwrap();
        inspect(name, &bytes, &options).verdict()
    };
    for good in [
        "demo-1.0.0.zip",
        "odd-2.0.0.zip",
        "limit.zip",
        "boot-validation-ecdsa.zip",
    ] {
        assert_eq!(verdict(good), GOOD, "{good}");
    }
    for (bad, expected) in [
        ("over-limit.zip", "the image is larger than can be installed"),
        ("no-image.zip", "the first word is not the image magic"),
        ("unsigned.zip", "the init packet is not signed"),
        (
            "wrong-image-key.zip",
            "the image is not signed with the key of --image-key",
        ),
        (
            "wrong-signature.zip",
            "the signature of the init packet is wrong, or made with another key",
        ),
        (
            "bootloader.zip",
            "the package has no application, only bootloader: this device takes applications",
        ),
        ("broken-empty.zip", "the file is empty"),
    ] {
        assert_eq!(verdict(bad), format!("wrong: {expected}"), "{bad}");
    }
}

#[test]
fn an_unknown_file_is_named_as_unknown() {
    let report = inspect("notes.txt", b"hello", &Options::default());
    assert_eq!(
        report.verdict(),
        "wrong: the file is not a DFU package, init packet, MCUboot image or slot"
    );
}

#[test]
fn no_bytes_make_it_panic() {
    let image = spec().build();
    let packet = std::fs::read(vectors().join("case/init-210.dat")).unwrap();
    let mut random = bledfu_sim::power::Random::new(42);
    for source in [image, packet] {
        for _ in 0..300 {
            let mut bytes = source.clone();
            for _ in 0..4 {
                let at = random.bits() as usize % bytes.len().min(600);
                bytes[at] = random.byte();
            }
            bytes.truncate(random.bits() as usize % bytes.len() + 1);
            for name in ["x.bin", "x.dat", "x.zip", "x"] {
                inspect(name, &bytes, &with_image_key());
            }
        }
    }
}
