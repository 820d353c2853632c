// SPDX-License-Identifier: Apache-2.0
//! Images that this device can never start. The command names the reason over both protocols, as soon as the first bytes
//! show it.

mod common;

use std::path::{Path, PathBuf};

use bledfu_sim::keys::SigningKey;
use bledfu_sim::package::PackageSpec;

use common::{bledfu, vector};

const PACKAGE_KEY: &str = include_str!("../../../tests/vectors/keys/package.pem");

/// A signed image of `tests/vectors`.
fn signed(name: &str) -> PathBuf {
    vector(&format!("{name}.signed.bin"))
}

/// Runs `bledfu update` from one image to another; returns whether it succeeded, and its output.
fn update(old: &str, new: &str, protocol: &str, options: &[&str]) -> (bool, String) {
    if protocol == "smp" {
        return run(&signed(old), &signed(new), protocol, options);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let package = folder.path().join("new.zip");
    let key = SigningKey::from_pem("key", PACKAGE_KEY).expect("a good vector");
    let image = std::fs::read(signed(new)).expect("a vector");
    let bytes = PackageSpec::new("new", 52, 2).build(&image, &key);
    std::fs::write(&package, bytes.expect("a package")).expect("a file");
    run(&signed(old), &package, protocol, options)
}

fn run(old: &Path, new: &Path, protocol: &str, options: &[&str]) -> (bool, String) {
    let output = bledfu("update")
        .arg(new)
        .args(["--protocol", protocol, "--primary"])
        .arg(old)
        .args(options)
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
fn an_image_linked_for_another_slot_or_processor_is_refused_if_the_running_one_has_a_vector_table() {
    let old = "vectored/application-1.0.0";
    let bad = [
        (
            "vectored/network-core-2.0.0",
            "its reset vector 0x01008a01 lies outside 0x0000d000-0x000f5000",
        ),
        (
            "vectored/second-slot-2.0.0",
            "its reset vector 0x000f5301 lies outside 0x0000d000-0x000f5000",
        ),
        (
            "vectored/rom-fixed-elsewhere-2.0.0",
            "the image is linked for the slot at 0x000f5000, not for the one at 0x0000d000",
        ),
        (
            "vectored/ram-load-2.0.0",
            "images that are loaded into RAM are not supported",
        ),
    ];
    for protocol in PROTOCOLS {
        for good in [
            "vectored/application-2.0.0",
            "vectored/last-word-2.0.0",
            "vectored/rom-fixed-2.0.0",
        ] {
            let (success, said) = update(old, good, protocol, &[]);
            assert!(success, "{protocol}, {good}: {said}");
        }
        for (bad, name) in bad {
            let (success, said) = update(old, bad, protocol, &[]);
            assert!(!success && said.contains(name), "{protocol}, {bad}: {said}");
            let (success, said) = update(old, bad, protocol, &["--check-address", "off"]);
            assert!(success, "{protocol}, {bad}: {said}");
        }
    }
}

#[test]
fn reset_vectors_are_checked_only_on_request_if_the_running_image_has_none() {
    let (old, new) = ("images/small-1.0.0", "vectored/network-core-2.0.0");
    for protocol in PROTOCOLS {
        let (success, said) = update(old, new, protocol, &[]);
        assert!(success, "{protocol}: {said}");
        let (success, said) = update(old, new, protocol, &["--check-address", "on"]);
        assert!(!success, "{protocol}: {said}");
        assert!(said.contains("linked for another slot"), "{protocol}: {said}");
    }
}

#[test]
fn an_image_of_an_unsupported_kind_is_refused_and_its_kind_named() {
    let kinds = [
        (
            "vectored/encrypted-128-2.0.0",
            "encrypted images are not supported",
        ),
        (
            "vectored/encrypted-256-2.0.0",
            "encrypted images are not supported",
        ),
        ("vectored/compressed-2.0.0", "compressed images are not supported"),
        (
            "vectored/compressed-thumb-2.0.0",
            "compressed images are not supported",
        ),
        (
            "vectored/non-bootable-2.0.0",
            "the image is marked as not bootable",
        ),
    ];
    for (new, name) in kinds {
        for protocol in PROTOCOLS {
            let (success, said) = update("images/small-1.0.0", new, protocol, &[]);
            assert!(!success, "{protocol}, {new}: {said}");
            let error = said.lines().last().unwrap_or_default();
            assert!(
                error.starts_with("error: ") && error.ends_with(name),
                "{protocol}, {new}: {said}"
            );
        }
    }
}
