// SPDX-License-Identifier: Apache-2.0
//! Messages about packages that cannot be used. The sentences themselves are tested in `bledfu-sim`.

mod common;

use bledfu_sim::package::Package;

use common::{bledfu, vector};

/// Runs `bledfu update` with a file of `tests/vectors`; returns whether it succeeded, and its messages.
fn run_update(file: &str) -> (bool, String) {
    // With copy an image may be one page larger than the list says.
    let output = bledfu("update")
        .args(["--install", "swap-offset"])
        .arg(vector(file))
        .env("RUST_BACKTRACE", "1")
        .output()
        .expect("the program runs");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn bad_packages_fail_with_one_sentence() {
    let list: serde_json::Value =
        serde_json::from_slice(&std::fs::read(vector("packages.json")).expect("a file")).expect("a list");
    for entry in list.as_array().expect("a list") {
        let file = entry["file"].as_str().expect("a name");
        if entry["expect"]
            .as_str()
            .is_some_and(|expect| expect.ends_with("ok"))
        {
            continue;
        }
        let (success, said) = run_update(file);
        assert!(!success, "{file} succeeds");
        // The device may log more; the tool itself prints one sentence.
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{file}: {said}");
        assert_eq!(said.lines().last(), errors.first().copied(), "{file}: {said}");
        assert!(
            !said.contains("backtrace") && !said.contains("panicked"),
            "{file}: {said}"
        );
        if entry["expect"] == "file" {
            let sentence = Package::open(&vector(file)).expect_err(file).to_string();
            assert!(said.contains(&sentence), "{file}: {said}");
        }
    }
    let (success, said) = run_update("no-such-file.zip");
    assert!(
        !success && said.lines().count() == 1 && said.contains("no-such-file.zip"),
        "{said}"
    );
}

#[test]
fn a_package_is_signed_with_a_public_demo_key_only_with_trial() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.zip");
    let run = |more: &[&str]| {
        let output = bledfu("package")
            .args(["--hw-version", "52", "--fw-version", "2", "--image"])
            .arg(vector("images/small-2.0.0.signed.bin"))
            .arg("--key")
            .arg(vector("keys/package.pem"))
            .arg("--output")
            .arg(&path)
            .args(more)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (done, said) = run(&[]);
    assert!(
        !done && said.contains("is the demo key of packages: anybody can sign with it"),
        "{said}"
    );
    assert!(!path.exists());
    let (done, said) = run(&["--trial"]);
    assert!(done && path.exists(), "{said}");
}
