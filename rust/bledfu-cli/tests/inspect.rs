// SPDX-License-Identifier: Apache-2.0
//! `bledfu inspect` as a gate: its exit code for every file of `tests/vectors`, and for files made here.

mod common;

use std::path::{Path, PathBuf};

use bledfu_sim::device::{Board, Setup, PRIMARY_START};
use bledfu_sim::keys::SigningKey;
use bledfu_sim::package::{write_parts, PackageSpec, PartKind};
use bledfu_sim::power::Power;
use bledfu_sim::sdk_package;
use bledfu_slot::journal::{session_id, Journal, Progress};
use bledfu_slot::layout::Algorithm;
use bledfu_slot::{request_test, Slot, SoftCrypto};
use serde_json::{json, Value};
use tempfile::TempDir;

use common::{bledfu, vector, vector_path};

const GOOD: i32 = 0;
const WRONG: i32 = 1;
const UNCHECKED: i32 = 3;

/// Size of the slots of the vectors' device.
const SLOT_SIZE: usize = 0xE8000;

fn image() -> Vec<u8> {
    std::fs::read(vector("images/small-2.0.0.signed.bin")).expect("a vector")
}

/// Runs `bledfu inspect`; returns its exit code and output.
fn inspect(file: &Path, options: &[&str]) -> (i32, String) {
    let output = bledfu("inspect")
        .arg(file)
        .args(options)
        .output()
        .expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.stderr.is_empty() || output.status.code() != Some(0));
    (output.status.code().expect("an exit code"), text)
}

/// The same with `--strict` and the keys of `tests/vectors`.
fn with_keys(file: &Path, more: &[&str]) -> (i32, String) {
    let [package, image] = ["keys/package.pub.pem", "keys/image.pub.pem"].map(vector_path);
    let mut options = vec!["--strict", "--public-key", &package, "--image-key", &image];
    options.extend(more);
    inspect(file, &options)
}

fn put(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a file");
    path
}

/// The last line or lines: the verdict.
fn verdict(text: &str) -> String {
    let start = text.rfind("\n\n").unwrap_or_default();
    text[start..].split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn exactly_the_packages_that_a_device_accepts_are_good() {
    let list = std::fs::read(vector("packages.json")).expect("a list");
    let list: Value = serde_json::from_slice(&list).expect("a list");
    // The device that packages.json describes.
    let device = [
        "--hw-version",
        "52",
        "--fw-version",
        "1",
        "--sd-policy",
        "none",
        "--slot-size",
        "0xe8000",
        "--algorithm",
        "swap-move",
    ];
    let mut good = 0;
    for entry in list.as_array().expect("a list") {
        let file = entry["file"].as_str().expect("a name");
        let expected = match entry["expect"].as_str() {
            Some("ok") => GOOD,
            _ => WRONG,
        };
        good += usize::from(expected == GOOD);
        let (code, text) = with_keys(&vector(file), &device);
        assert_eq!(code, expected, "{file}: {}", verdict(&text));
    }
    assert!(good > 5, "{good}");
}

#[test]
fn no_file_is_good_without_its_key() {
    for folder in ["packages", "images", "vectored", "init"] {
        for entry in std::fs::read_dir(vector(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|end| end == "json") {
                continue;
            }
            let (code, text) = inspect(&path, &["--strict"]);
            assert!(
                code == WRONG || code == UNCHECKED,
                "{}: {code}, {text}",
                path.display()
            );
            assert!(!text.contains("good: everything"), "{text}");
        }
    }
}

#[test]
fn unchecked_parts_are_reported_and_fail_only_with_strict() {
    let file = vector("images/small-2.0.0.signed.bin");
    let (code, text) = inspect(&file, &[]);
    assert_eq!(code, GOOD);
    assert_eq!(
        verdict(&text),
        "nothing wrong found, but not checked: the signature of the image: no --image-key"
    );
    assert_eq!(inspect(&file, &["--strict"]).0, UNCHECKED);
    let (code, text) = with_keys(&file, &[]);
    assert_eq!(
        (code, verdict(&text).as_str()),
        (GOOD, "good: everything was checked")
    );
    let other = vector("keys/other-image.pem");
    let (code, text) = inspect(&file, &["--image-key", other.to_str().expect("a path")]);
    assert_eq!(code, WRONG);
    assert_eq!(
        verdict(&text),
        "wrong: the image is not signed with the key of --image-key"
    );
}

#[test]
fn images_of_other_kinds_are_named_and_refused() {
    for (file, kind, problem) in [
        (
            "encrypted-128",
            "encrypted MCUboot image",
            "encrypted images are not supported",
        ),
        (
            "encrypted-256",
            "encrypted MCUboot image",
            "encrypted images are not supported",
        ),
        (
            "compressed",
            "compressed MCUboot image",
            "compressed images are not supported",
        ),
        (
            "compressed-thumb",
            "compressed MCUboot image",
            "compressed images are not supported",
        ),
        (
            "non-bootable",
            "MCUboot image that is not to be started",
            "the image is marked as not bootable",
        ),
    ] {
        let path = vector(&format!("vectored/{file}-2.0.0.signed.bin"));
        let (code, text) = with_keys(&path, &["--json"]);
        let found: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((code, found["kind"].as_str()), (WRONG, Some(kind)), "{file}");
        assert_eq!(found["problems"], json!([problem]), "{file}");
    }
    let (code, text) = with_keys(
        &vector("vectored/ram-load-2.0.0.signed.bin"),
        &["--slot-address", "0xd000"],
    );
    assert_eq!(code, WRONG);
    assert!(text.contains("MCUboot image to be loaded into RAM"), "{text}");
}

#[test]
fn a_padded_image_is_named_and_is_wrong_only_in_a_package() {
    let folder = TempDir::new().expect("a folder");
    // Padded as by imgtool --pad.
    let mut padded = image();
    padded.resize(SLOT_SIZE - 16, 0xFF);
    padded.extend(bledfu_slot::trailer::magic_bytes(8));
    let (code, text) = with_keys(&put(&folder, "padded.bin", &padded), &[]);
    assert_eq!(code, GOOD, "{text}");
    assert!(
        text.starts_with("padded.bin: slot (MCUboot image, padded)\n"),
        "{text}"
    );

    let key = SigningKey::open(&vector("keys/package.pem")).expect("a key");
    let part = PackageSpec::new("pad", 52, 2)
        .part(&padded, &key)
        .expect("a part");
    let package = write_parts(&[(PartKind::Application, part)]).expect("a package");
    let path = put(&folder, "padded.zip", &package);
    let (code, text) = with_keys(&path, &[]);
    let sentence = "the image of 13636 bytes is padded to 950272: sign it without --pad and --confirm";
    assert_eq!(
        (code, verdict(&text)),
        (WRONG, format!("wrong: {sentence}")),
        "{text}"
    );
    // `bledfu update` prints the same sentence.
    let update = bledfu("update").arg(&path).output().expect("the program runs");
    let said = String::from_utf8_lossy(&update.stderr);
    assert!(!update.status.success() && said.contains(sentence), "{said}");
}

/// The image as a hex file for the primary slot.
fn hex_file() -> String {
    let mut records = Vec::new();
    for (line, value) in image().chunks(16).enumerate() {
        let address = PRIMARY_START + 16 * line as u32;
        // A record has 16 bits of the address.
        if line == 0 || address & 0xFFFF == 0 {
            records.push(ihex::Record::ExtendedLinearAddress((address >> 16) as u16));
        }
        records.push(ihex::Record::Data {
            offset: address as u16,
            value: value.to_vec(),
        });
    }
    records.push(ihex::Record::EndOfFile);
    ihex::create_object_file_representation(&records).expect("a hex file")
}

fn sdk_packages(folder: &TempDir) -> [PathBuf; 2] {
    [0, 1].map(|format| {
        let fields = json!({ "image_index": "0", "load_address": PRIMARY_START, "board": "nrf52840dk" });
        let package = sdk_package::write(format, "app.signed.bin", &image(), &fields).expect("a package");
        put(folder, &format!("dfu_application{format}.zip"), &package)
    })
}

#[test]
fn hex_files_and_nrf_connect_sdk_packages_are_named_and_good() {
    let folder = TempDir::new().expect("a folder");
    let hex = put(&folder, "signed.hex", hex_file().as_bytes());
    let mut files = sdk_packages(&folder).to_vec();
    files.push(hex.clone());
    for path in files {
        let (code, text) = with_keys(&path, &["--json"]);
        let found: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(code, GOOD, "{text}");
        let kind = match path == hex {
            true => "Intel hex file",
            false => "nRF Connect SDK package",
        };
        assert_eq!(
            (found["kind"].as_str(), found["verdict"].as_str()),
            (Some(kind), Some("good"))
        );
        assert!(text.contains("SHA-256 of the image"), "{text}");
        assert_eq!(inspect(&path, &["--strict"]).0, UNCHECKED);
    }
    let said = json!({ "version_MCUBOOT": "3.0.0+0" });
    let package = sdk_package::write(1, "app.bin", &image(), &said).expect("a package");
    let (code, text) = with_keys(&put(&folder, "version.zip", &package), &[]);
    assert_eq!(code, WRONG);
    assert_eq!(
        verdict(&text),
        "wrong: the manifest says version 3.0.0+0, the image is 2.0.0"
    );
}

#[test]
fn update_and_package_accept_the_same_kinds_and_refuse_others_in_the_same_words() {
    let folder = TempDir::new().expect("a folder");
    let hex = put(&folder, "signed.hex", hex_file().as_bytes());
    let [sdk, _] = sdk_packages(&folder);
    let elf = put(&folder, "zephyr.elf", b"\x7FELF\x01\x01\x01 and so on");
    let encrypted = vector("vectored/encrypted-128-2.0.0.signed.bin");
    let bin = vector("images/small-2.0.0.signed.bin");
    let run = |words: &[&str]| {
        let output = bledfu(words[0])
            .args(&words[1..])
            .output()
            .expect("the program runs");
        let said = String::from_utf8(output.stderr).expect("text");
        (output.status.success(), said)
    };
    let key = vector("keys/package.pem");
    let packed = folder.path().join("out.zip");
    let (key, out) = (key.to_str().expect("a path"), packed.to_str().expect("a path"));
    #[rustfmt::skip]
    let package = |file| [
        "package", "--trial", "--image", file, "--key", key, "--hw-version", "52", "--fw-version", "2", "--output", out,
    ];
    let mut packages = Vec::new();
    for file in [&bin, &hex, &sdk] {
        let file = file.to_str().expect("a path");
        let (taken, said) = run(&["update", "--protocol", "smp", file]);
        assert!(taken, "{file}: {said}");
        let (taken, said) = run(&package(file));
        assert!(taken, "{file}: {said}");
        let bytes = std::fs::read(&packed).expect("a package");
        packages.push(
            bledfu_sim::package::Package::read(&bytes)
                .expect("a package")
                .application
                .firmware,
        );
        let (taken, said) = run(&["update", file]);
        assert!(
            !taken && said.contains("without an init packet, which Secure DFU needs"),
            "{said}"
        );
    }
    assert!(packages.iter().all(|firmware| *firmware == image()));
    for (file, sentence) in [
        (&elf, "the file is an ELF program, not a signed image"),
        (&encrypted, "encrypted images are not supported"),
    ] {
        let (_, text) = inspect(file, &[]);
        assert!(verdict(&text).contains(sentence), "{text}");
        let file = file.to_str().expect("a path");
        for words in [vec!["update", "--protocol", "smp", file], package(file).to_vec()] {
            let (taken, said) = run(&words);
            assert!(!taken && said.contains(sentence), "{words:?}: {said}");
        }
    }
}

/// A folder of `bledfu serve`, with a test of 2.0.0 requested.
fn device(folder: &Path, algorithm: Algorithm) {
    let factory = std::fs::read(vector("images/small-1.0.0.signed.bin")).expect("a vector");
    let setup = Setup {
        algorithm,
        ..Setup::demo()
    };
    let power = Power::new();
    let board: Board = bledfu_cli::folder::open(setup, &factory, folder, &power).expect("a device");
    let (mut area, layout) = board.receiving().expect("a place");
    area.set_contents(layout.upload_offset(), &image()).expect("room");
    let slot = Slot::new(&layout)
        .verify(&mut area, &board.setup.image_policy(), &SoftCrypto)
        .expect("an image");
    request_test(&mut area, &slot).expect("a request");
}

#[test]
fn inspect_shows_a_device_and_its_next_boot_and_changes_nothing() {
    for algorithm in Algorithm::ALL {
        let folder = TempDir::new().expect("a folder");
        device(folder.path(), algorithm);
        let files = || {
            ["internal.bin", "external.bin"].map(|name| std::fs::read(folder.path().join(name)).expect(name))
        };
        let before = files();
        let (code, text) = with_keys(folder.path(), &[]);
        let name = algorithm.as_str();
        assert_eq!(code, GOOD, "{name}: {text}");
        for wanted in [
            &format!("install algorithm      {name}"),
            "the trailers ask for   an install on test",
            "it does                installed (test)",
            "then runs              2.0.0 (",
            "image                  version 1.0.0, 9400 bytes at 0x0",
            "image                  version 2.0.0, 13636 bytes at 0x",
            "0x0000d000 primary      #",
        ] {
            assert!(text.contains(wanted), "{name} lacks {wanted}: {text}");
        }
        let drawn = |name: &str| {
            let row = text
                .lines()
                .find(|line| line.contains(name) && line.starts_with("  0x"));
            row.unwrap_or_default().to_owned()
        };
        assert!(drawn(" secondary ").ends_with('T'), "{text}");
        assert!(
            text.lines()
                .all(|line| line.chars().count() <= 80 || line.contains(": device")),
            "{text}"
        );
        assert!(before == files(), "{name}: the files were changed");
        assert_eq!(inspect(folder.path(), &["--strict"]).0, UNCHECKED, "{name}");
    }
}

#[test]
fn a_device_that_does_not_boot_is_wrong_and_a_dump_of_one_flash_counts_as_a_device() {
    let folder = TempDir::new().expect("a folder");
    device(folder.path(), Algorithm::SwapMove);
    let read = |name: &str| std::fs::read(folder.path().join(name)).expect(name);
    let (mut internal, external) = (read("internal.bin"), read("external.bin"));
    let start = PRIMARY_START as usize;
    // One flash with both slots: the primary at 0x1000, the secondary behind it.
    let mut both = vec![0xFF; 0x1000];
    both.extend_from_slice(&internal[start..start + SLOT_SIZE]);
    both.extend_from_slice(&external[..SLOT_SIZE]);
    let dump = put(&folder, "flash.bin", &both);
    let (code, text) = with_keys(
        &dump,
        &["--map", "--primary-at", "0x1000", "--algorithm", "swap-move"],
    );
    assert_eq!(code, GOOD, "{text}");
    assert!(text.contains("it does                installed (test)"), "{text}");
    let (code, _) = with_keys(
        &dump,
        &["--map", "--primary-at", "0x100000", "--algorithm", "swap-move"],
    );
    assert_eq!(code, WRONG);

    internal[start..start + 0x100].fill(0);
    let mut erased = external;
    erased.fill(0xFF);
    put(&folder, "internal.bin", &internal);
    put(&folder, "external.bin", &erased);
    let (code, text) = with_keys(folder.path(), &[]);
    assert_eq!(code, WRONG, "{text}");
    assert!(
        verdict(&text).starts_with("wrong: the device does not boot: "),
        "{text}"
    );
}

#[test]
fn the_journal_shows_the_progress_of_an_upload() {
    let folder = TempDir::new().expect("a folder");
    let power = Power::new();
    let factory = std::fs::read(vector("images/small-1.0.0.signed.bin")).expect("a vector");
    let board: Board =
        bledfu_cli::folder::open(Setup::demo(), &factory, folder.path(), &power).expect("a device");
    let packet = std::fs::read(vector("init/plain.dat")).expect("a vector");
    let mut journal = Journal::new(board.journal.clone());
    journal.begin(&packet).expect("a session");
    let progress = Progress {
        offset: 8192,
        check: 0x1234_5678,
    };
    journal.progress(session_id(&packet), progress).expect("a record");
    let (code, text) = inspect(folder.path(), &[]);
    assert_eq!(code, GOOD, "{text}");
    assert!(text.contains("upload                 open, 8192 of "), "{text}");
    assert!(text.contains("check of these         12345678"), "{text}");
}

#[test]
fn every_line_of_every_kind_fits_a_screen() {
    let folder = TempDir::new().expect("a folder");
    let mut files = vec![
        vector("packages/boot-validation-ecdsa.zip"),
        vector("packages/softdevice-application.zip"),
        vector("init/sd-req-sixteen.dat"),
        vector("images/protected-1.2.3.signed.bin"),
        vector("images/padded-confirmed-1.2.3.bin"),
        vector("vectored/network-core-2.0.0.signed.bin"),
    ];
    files.extend(sdk_packages(&folder));
    files.push(put(&folder, "signed.hex", hex_file().as_bytes()));
    for file in files {
        let (_, text) = inspect(&file, &[]);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{}: {line}", file.display());
        }
    }
}
