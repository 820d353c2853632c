// SPDX-License-Identifier: Apache-2.0
//! Makes one file of Wycheproof's signatures on P-256 with SHA-256: key, digest, r and s, and 1 if the signature is good.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use wycheproof::ecdsa::{TestName, TestSet};
use wycheproof::TestResult;

fn main() {
    let set = TestSet::load(TestName::EcdsaSecp256r1Sha256P1363).expect("Wycheproof's vectors");
    let mut bytes = Vec::new();
    for group in &set.test_groups {
        for test in group.tests.iter().filter(|test| test.sig.len() == 64) {
            // The first byte says that the point is not compressed.
            bytes.extend(&group.key.key[1..]);
            bytes.extend(Sha256::digest(&test.msg));
            bytes.extend(test.sig.iter());
            bytes.push((test.result == TestResult::Valid).into());
        }
    }
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("OUT_DIR"));
    std::fs::write(folder.join("wycheproof.bin"), bytes).expect("OUT_DIR can be written");
    println!("cargo::rerun-if-changed=build.rs");
}
