// SPDX-License-Identifier: Apache-2.0
//! Images that this device can never start, and what the command says of them: over both protocols, and as soon as the first
//! bytes show it.

use std::path::Path;
use std::process::Command;

use bledfu_sim::keys::SigningKey;
use bledfu_sim::make::ImageSpec;
use bledfu_sim::package::PackageSpec;
use bledfu_slot::header::flags;
use bledfu_slot::Version;

const PACKAGE_KEY: &str = include_str!("../../../tests/vectors/keys/package.pem");
const IMAGE_KEY: &str = include_str!("../../../tests/vectors/keys/image.pem");
/// What an application of the simulated device begins with: the slot is at 0xc000.
const APPLICATION: (u32, u32) = (0x2004_0000, 0xC201);
/// What an image for the network core of an nRF5340 begins with.
const NETWORK_CORE: (u32, u32) = (0x2100_2000, 0x0100_8401);

fn key(text: &str) -> SigningKey {
    SigningKey::from_pem("key", text).expect("a good vector")
}

fn image(major: u8, bits: u32, table: Option<(u32, u32)>) -> Vec<u8> {
    let (minor, revision, build) = (0, 0, 0);
    let version = Version {
        major,
        minor,
        revision,
        build,
    };
    let mut spec = ImageSpec::demo(version, 40_000, &key(IMAGE_KEY)).expect("room for a demo");
    spec.flags = bits;
    match table {
        Some((stack_pointer, reset_vector)) => spec.with_vector_table(stack_pointer, reset_vector),
        None => spec,
    }
    .build()
}

/// Runs `bledfu update` from one image to another; returns whether it succeeded and what it said.
fn update(old: &[u8], new: &[u8], protocol: &str, options: &[&str]) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let old = file("old.bin", old);
    let new = if protocol == "smp" {
        file("new.bin", new)
    } else {
        let package = PackageSpec::new("new", 52, 2).build(new, &key(PACKAGE_KEY));
        file("new.zip", &package.expect("a package"))
    };
    run(&old, &new, protocol, options)
}

fn run(old: &Path, new: &Path, protocol: &str, options: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bledfu"))
        .arg("update")
        .arg(new)
        .args(["--protocol", protocol, "--primary"])
        .arg(old)
        .args(options)
        .env_remove("RUST_LOG")
        .output()
        .expect("the program runs");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

const PROTOCOLS: [&str; 2] = ["secure-dfu", "smp"];

#[test]
fn an_image_for_another_processor_is_refused_by_name_where_the_running_one_has_an_address() {
    let old = image(1, 0, Some(APPLICATION));
    let good = image(2, 0, Some(APPLICATION));
    let bad = image(2, 0, Some(NETWORK_CORE));
    for protocol in PROTOCOLS {
        let (success, said) = update(&old, &good, protocol, &[]);
        assert!(success, "{protocol}: {said}");
        let (success, said) = update(&old, &bad, protocol, &[]);
        assert!(!success, "{protocol}: {said}");
        assert!(
            said.contains("its reset vector 0x01008401 lies outside 0x0000c000-0x000f4000"),
            "{protocol}: {said}"
        );
        let (success, said) = update(&old, &bad, protocol, &["--check-address", "off"]);
        assert!(success, "{protocol}: {said}");
    }
}

#[test]
fn addresses_do_not_matter_where_the_running_image_has_none_unless_asked_for() {
    let old = image(1, 0, None);
    let new = image(2, 0, Some(NETWORK_CORE));
    for protocol in PROTOCOLS {
        let (success, said) = update(&old, &new, protocol, &[]);
        assert!(success, "{protocol}: {said}");
        let (success, said) = update(&old, &new, protocol, &["--check-address", "on"]);
        assert!(!success, "{protocol}: {said}");
        assert!(said.contains("linked for another slot"), "{protocol}: {said}");
    }
}

#[test]
fn an_image_of_another_kind_is_refused_by_name() {
    let old = image(1, 0, None);
    let kinds = [
        (flags::ENCRYPTED_AES128, "encrypted images are not supported"),
        (flags::COMPRESSED_LZMA2, "compressed images are not supported"),
        (flags::NON_BOOTABLE, "the image is marked as not bootable"),
    ];
    for (bits, name) in kinds {
        for protocol in PROTOCOLS {
            let (success, said) = update(&old, &image(2, bits, None), protocol, &[]);
            assert!(!success, "{protocol}: {said}");
            let error = said.lines().last().unwrap_or_default();
            assert!(
                error.starts_with("error: ") && error.ends_with(name),
                "{protocol}: {said}"
            );
        }
    }
}
