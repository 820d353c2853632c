// SPDX-License-Identifier: Apache-2.0
//! `bledfu install` on files with slots: what it boots, what it leaves in the slots, and that the next boot finishes a cut one
//! with the same bytes.

mod common;

use std::process::Output;

use common::{bledfu, vector};

const OLD: &[u8] = include_bytes!("../../../tests/vectors/images/small-1.0.0.signed.bin");
const NEW: &[u8] = include_bytes!("../../../tests/vectors/images/small-2.0.0.signed.bin");
const SLOT: usize = 0x10000;
const SECTOR: usize = 4096;

struct Device {
    folder: tempfile::TempDir,
    algorithm: &'static str,
}

impl Device {
    fn new(algorithm: &'static str) -> Self {
        let device = Self {
            folder: tempfile::tempdir().unwrap(),
            algorithm,
        };
        let start = if algorithm == "swap-offset" { SECTOR } else { 0 };
        device.write("primary", 0, OLD, SLOT);
        device.write("secondary", start, NEW, SLOT);
        let third = if algorithm == "swap-scratch" { SECTOR } else { SLOT };
        device.write("third", 0, &[], third);
        device
    }

    fn write(&self, name: &str, start: usize, image: &[u8], size: usize) {
        let mut slot = vec![0xFF; size];
        slot[start..start + image.len()].copy_from_slice(image);
        std::fs::write(self.folder.path().join(name), slot).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    fn install(&self, options: &[&str]) -> (i32, String) {
        let mut command = bledfu("install");
        command.current_dir(self.folder.path());
        command.args(["--primary", "primary", "--secondary", "secondary", "--key"]);
        command
            .arg(vector("keys/image.pub.pem"))
            .args(["--algorithm", self.algorithm])
            .args(options);
        match self.algorithm {
            "swap-scratch" => command.args(["--scratch", "third"]),
            "copy" => command.args(["--revert", "third"]),
            _ => &mut command,
        };
        let Output { status, stdout, .. } = command.output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap())
    }
}

const ALGORITHMS: [&str; 5] = ["swap-offset", "swap-move", "swap-scratch", "overwrite", "copy"];

#[test]
fn an_update_for_a_test_is_installed_and_reverted_unless_it_is_confirmed() {
    for algorithm in ALGORITHMS {
        for confirm in [false, true] {
            let device = Device::new(algorithm);
            let options = ["--pending", "test", "--confirm"];
            let (code, line) = device.install(if confirm { &options } else { &options[..2] });
            assert_eq!(code, 0, "{algorithm}: {line}");
            assert!(
                line.starts_with("booted 2.0.0: installed (test)"),
                "{algorithm}: {line}"
            );
            assert!(device.read("primary").starts_with(NEW));
            let (_, line) = device.install(&[]);
            let stays = confirm || algorithm == "overwrite";
            let wanted = if stays {
                "booted 2.0.0: nothing to do"
            } else {
                "booted 1.0.0: installed (revert)"
            };
            assert!(line.starts_with(wanted), "{algorithm}: {line}");
        }
    }
}

#[test]
fn the_boot_after_a_cut_one_leaves_the_same_bytes_as_one_without_a_cut() {
    for algorithm in ALGORITHMS {
        let whole = Device::new(algorithm);
        whole.install(&["--pending", "permanent"]);
        for cut in [0, 3, 7, 12, 18] {
            let device = Device::new(algorithm);
            let stop = cut.to_string();
            let (code, line) =
                device.install(&["--pending", "permanent", "--stop-after", &stop, "--torn", "50"]);
            assert!(code == 3 || code == 0, "{algorithm}: {line}");
            let (code, line) = device.install(&[]);
            assert_eq!(code, 0, "{algorithm} cut at {cut}: {line}");
            for slot in ["primary", "secondary"] {
                let (found, wanted) = (device.read(slot), whole.read(slot));
                let image = SLOT - SECTOR;
                assert!(
                    found[..image] == wanted[..image],
                    "{algorithm} cut at {cut}: {slot}"
                );
            }
        }
    }
}

#[test]
fn an_image_linked_for_another_slot_is_not_installed_if_the_slot_address_is_given() {
    let image = |name| std::fs::read(vector(&format!("vectored/{name}.signed.bin"))).unwrap();
    let old = image("application-1.0.0");
    for algorithm in ALGORITHMS {
        for (new, installed) in [("application-2.0.0", "2.0.0"), ("second-slot-2.0.0", "1.0.0")] {
            let device = Device::new(algorithm);
            let start = if algorithm == "swap-offset" { SECTOR } else { 0 };
            device.write("primary", 0, &old, SLOT);
            device.write("secondary", start, &image(new), SLOT);
            // As requested by an application that does not check addresses.
            let (code, line) = device.install(&["--pending", "permanent", "--stop-after", "0"]);
            assert_eq!(code, 3, "{algorithm}: {line}");
            let (code, line) = device.install(&["--slot-address", "0xd000"]);
            assert_eq!(code, 0, "{algorithm}: {line}");
            let wanted = format!("booted {installed}: ");
            assert!(line.starts_with(&wanted), "{algorithm}, {new}: {line}");
        }
    }
}

#[test]
fn an_impossible_install_is_refused_with_a_sentence() {
    let device = Device::new("swap-offset");
    device.write("primary", 0, &[], SLOT);
    device.write("secondary", 0, &[], SLOT);
    let (code, line) = device.install(&[]);
    assert_eq!(code, 1);
    assert!(
        line.starts_with("nothing booted: no valid image to start"),
        "{line}"
    );
}
