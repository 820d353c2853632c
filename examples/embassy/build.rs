// SPDX-License-Identifier: Apache-2.0
//! Puts the public keys into the firmware, and tells the linker of the nRF52840 where the image runs.

use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::DecodePublicKey;
use p256::PublicKey;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The demo keys: everybody has their private halves, so they protect nothing.
const DEMO_KEYS: &str = "../../tests/vectors/keys";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for name in ["package", "image"] {
        let variable = format!("BLEDFU_{}_KEY", name.to_uppercase());
        println!("cargo:rerun-if-env-changed={variable}");
        let path = env::var_os(&variable).map_or_else(
            || Path::new(DEMO_KEYS).join(format!("{name}.pub.pem")),
            PathBuf::from,
        );
        println!("cargo:rerun-if-changed={}", path.display());
        let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let block = pem::parse(text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let key = PublicKey::from_public_key_der(block.contents())
            .unwrap_or_else(|error| panic!("{} holds no public P-256 key: {error}", path.display()));
        // Behind the byte that says the point is not compressed.
        let point = key.to_encoded_point(false);
        fs::write(out.join(format!("{name}.key")), &point.as_bytes()[1..]).expect("OUT_DIR can be written");
    }
    if env::var_os("CARGO_FEATURE_NRF52840").is_some() {
        println!(
            "cargo:rustc-link-search={}",
            env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")
        );
        println!("cargo:rerun-if-changed=memory.x");
        println!("cargo:rustc-link-arg-bin=nrf52840=-Tlink.x");
        println!("cargo:rustc-link-arg-bin=nrf52840=--nmagic");
    }
}
