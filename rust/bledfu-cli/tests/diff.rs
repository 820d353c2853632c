// SPDX-License-Identifier: Apache-2.0
//! `bledfu diff`, and what other commands make of its files.

mod common;

use std::path::{Path, PathBuf};

use bledfu_cli::packed;
use bledfu_patch::pack::expand;
use bledfu_sim::device::PRIMARY_START;
use bledfu_sim::keys::SigningKey;
use bledfu_sim::make::ImageSpec;
use bledfu_slot::{ImageHeader, Version};
use bledfu_testkit::{sha256, Program};
use common::{bledfu, vector, vector_path};
use tempfile::TempDir;

/// A folder with releases of one program, signed with the demo key.
struct Releases {
    folder: TempDir,
    key: SigningKey,
}

impl Releases {
    fn new() -> Self {
        Self {
            folder: TempDir::new().expect("a folder"),
            key: SigningKey::open(&vector("keys/image.pem")).expect("the demo key"),
        }
    }

    fn spec(&self, major: u8) -> ImageSpec {
        let mut program = Program::new(7, 400);
        for change in 1..major {
            program.add_function(50 * usize::from(change), u64::from(change));
            program.grow(100, usize::from(change));
        }
        let version = Version {
            major,
            ..Version::default()
        };
        ImageSpec::new(version, program.link(PRIMARY_START + 0x200), &self.key)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("a file");
        path.to_str().expect("a path").to_owned()
    }

    /// Writes release `major`; returns its path.
    fn release(&self, major: u8) -> String {
        self.put(&format!("app-{major}.signed.bin"), &self.spec(major).build())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Runs a command; returns whether it succeeded and what it said.
fn run(words: &[&str]) -> (bool, String) {
    let output = bledfu(words[0])
        .args(&words[1..])
        .output()
        .expect("the program runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("text");
    // Without its line breaks.
    let words: Vec<&str> = said.split_whitespace().collect();
    (output.status.success(), words.join(" "))
}

fn diff(words: &[&str]) -> (bool, String) {
    let key = vector_path("keys/image.pem");
    run(&[&["diff", "--trial", "--key", &key], words].concat())
}

fn covered(file: &[u8]) -> &[u8] {
    let header = ImageHeader::parse(file).expect("a header");
    &file[..header.hashed_size().expect("its sizes") as usize]
}

fn expanded(update: &Path, base: &[u8]) -> Vec<u8> {
    let file = std::fs::read(update).expect("an update");
    let read = packed::read(&file).expect("a packed update");
    let stream = &file[32..32 + read.stream_len as usize];
    let image = expand(base, stream, &read.pack).expect("an image");
    assert_eq!(
        (sha256(&image), read.file_len as usize),
        (read.out_sha, file.len())
    );
    image
}

#[test]
fn what_is_packed_expands_to_the_release_and_is_explained() {
    // small-updates case 27
    let releases = Releases::new();
    let (old, new) = (releases.release(1), releases.release(2));
    let [delta, full] = ["delta.bin", "full.bin"].map(|name| releases.path(name));
    let [delta_path, full_path] = [&delta, &full].map(|path| path.to_str().expect("a path"));
    let (done, said) = diff(&[
        "--from",
        &old,
        "--to",
        &new,
        "--ram",
        "0x20000000:0x40000",
        "-o",
        delta_path,
    ]);
    assert!(done, "{said}");
    assert!(said.contains("receiving") && said.contains("expanding"), "{said}");
    let (old_file, new_file) = (std::fs::read(&old).unwrap(), std::fs::read(&new).unwrap());
    assert!(expanded(&delta, covered(&old_file)) == new_file);
    assert!(
        std::fs::metadata(&delta).unwrap().len() * 10 < new_file.len() as u64,
        "{said}"
    );
    // Padding, as in packages, is no part of a release; and the same inputs give the same file.
    let padded = releases.put(
        "padded.bin",
        &[
            &new_file[..],
            &vec![0xFF; new_file.len().next_multiple_of(4) - new_file.len()],
        ]
        .concat(),
    );
    let again = releases.path("again.bin");
    let again_path = again.to_str().expect("a path");
    let (done, said) = diff(&[
        "--from",
        &old,
        "--to",
        &padded,
        "--ram",
        "0x20000000:0x40000",
        "-o",
        again_path,
    ]);
    assert!(done, "{said}");
    assert!(std::fs::read(&again).unwrap() == std::fs::read(&delta).unwrap());

    let (done, said) = diff(&["--full", "--to", &new, "-o", full_path]);
    assert!(done, "{said}");
    assert!(expanded(&full, &[]) == new_file);

    let key = vector_path("keys/image.pem");
    let inspect = |file: &str, from: &str| run(&["inspect", file, "--image-key", &key, "--from", from]);
    let (good, said) = inspect(delta_path, &old);
    assert!(good, "{said}");
    for part in [
        "packed update (delta)",
        "only from",
        "`image list` shows it",
        "format 1",
        "KB of RAM",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (good, said) = inspect(full_path, &old);
    assert!(good && said.contains("any image"), "{said}");
    let other = releases.release(3);
    let (good, said) = inspect(delta_path, &other);
    assert!(
        !good && said.contains("for another image than the one that runs"),
        "{said}"
    );
    let (good, said) = inspect(delta_path, &new);
    assert!(!good && said.contains("runs already"), "{said}");
    let (good, said) = run(&[
        "inspect",
        delta_path,
        "--image-key",
        &vector_path("keys/other-image.pem"),
    ]);
    assert!(!good && said.contains("not signed"), "{said}");
}

#[test]
fn a_fleet_gets_a_file_for_each_release_and_an_index() {
    let releases = Releases::new();
    let (first, second, new) = (releases.release(1), releases.release(2), releases.release(3));
    let out = releases.path("updates");
    let out_path = out.to_str().expect("a path");
    let package_key = vector_path("keys/package.pem");
    let package = [
        "--package-key",
        &package_key,
        "--hw-version",
        "52",
        "--fw-version",
        "3",
    ];
    let words = [
        "--from", &first, "--from", &second, "--full", "--to", &new, "-o", out_path,
    ];
    let (done, said) = diff(&[&words[..], &package].concat());
    assert!(done, "{said}");
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("index.json")).unwrap()).unwrap();
    for (path, version) in [(&first, "1.0.0"), (&second, "2.0.0")] {
        let file = std::fs::read(path).unwrap();
        let digest = packed::hex(&sha256(covered(&file)));
        let entry = &index["from"][&digest];
        assert_eq!(entry["from_version"], version, "{index}");
        assert_eq!(entry["file"], format!("app-3-from-{version}.zip"));
        let package = std::fs::read(out.join(entry["file"].as_str().unwrap())).unwrap();
        assert_eq!(entry["size"], package.len());
        let update = bledfu_sim::package::Package::read_unchecked(&package)
            .unwrap()
            .application
            .firmware;
        let read = packed::read(&update).expect("a packed update");
        assert_eq!(read.base.map(|base| packed::hex(&base)), Some(digest));
    }
    assert_eq!(index["full"]["file"], "app-3-full.zip");
    assert!(out.join("app-3-full.zip").is_file());
}

#[test]
fn what_cannot_be_installed_is_refused_in_a_sentence() {
    let releases = Releases::new();
    let (old, new) = (releases.release(1), releases.release(2));
    let out = releases.path("out.bin");
    let out = out.to_str().expect("a path");
    let refused = |from: &str, to: &str, more: &[&str], sentence: &str| {
        let (done, said) = diff(&[&["--from", from, "--to", to, "-o", out], more].concat());
        assert!(!done && said.contains(sentence), "{sentence}: {said}");
        assert!(!Path::new(out).exists(), "{sentence}");
    };
    refused(
        &new,
        &new,
        &[],
        "has the digest of the new release: a device that runs it needs no update",
    );
    let mut spec = releases.spec(1);
    spec.header_size = 0x400;
    spec.payload = Program::new(7, 400).link(PRIMARY_START + 0x400);
    let other_header = releases.put("header.bin", &spec.build());
    refused(
        &other_header,
        &new,
        &[],
        "its header has 1024 bytes, that of the new release 512",
    );
    let mut spec = releases.spec(1);
    spec.payload = Program::new(7, 400).link(0x9_0200);
    let other_slot = releases.put("slot.bin", &spec.build());
    refused(&other_slot, &new, &[], "it does not run from the slot at 0xd000");
    refused(
        &old,
        &other_slot,
        &[],
        "its reset vector is elsewhere; --slot-address says where the slot is",
    );
    let mut spec = releases.spec(2);
    spec.key = SigningKey::open(&vector("keys/other-image.pem")).unwrap();
    let other_key = releases.put("key.bin", &spec.build());
    refused(
        &old,
        &other_key,
        &[],
        "a device would refuse what the update makes",
    );
    let mut spec = releases.spec(2);
    let mut random = bledfu_testkit::Random::new(1);
    spec.payload.truncate(0x200);
    spec.payload.extend((0..40_000).map(|_| random.byte()));
    let noise = releases.put("noise.bin", &spec.build());
    refused(
        &old,
        &noise,
        &[],
        "of the size of the release: send the full image",
    );
    let encrypted = vector_path("vectored/encrypted-128-2.0.0.signed.bin");
    refused(&encrypted, &new, &[], "encrypted");
    refused(
        &old,
        &new,
        &[
            "--package-key",
            &vector_path("keys/package.pem"),
            "--hw-version",
            "1",
            "--fw-version",
            "1",
        ],
        "--package-key is for an output that ends in .zip",
    );
    let (done, said) = run(&[
        "diff",
        "--key",
        &vector_path("keys/image.pem"),
        "--from",
        &old,
        "--to",
        &new,
        "-o",
        out,
    ]);
    assert!(!done && said.contains("--trial"), "{said}");
}

#[test]
fn a_packed_update_goes_into_a_package_and_is_not_taken_for_a_release() {
    let releases = Releases::new();
    let (old, new) = (releases.release(1), releases.release(2));
    let update = releases.path("update.bin");
    let update = update.to_str().expect("a path");
    let (done, said) = diff(&["--from", &old, "--to", &new, "-o", update]);
    assert!(done, "{said}");
    let zip = releases.path("update.zip");
    let zip = zip.to_str().expect("a path");
    let key = vector_path("keys/package.pem");
    #[rustfmt::skip]
    let package = ["package", "--trial", "--image", update, "--key", &key, "--hw-version", "52", "--fw-version", "2", "-o", zip];
    let (done, said) = run(&package);
    assert!(done, "{said}");
    let (good, said) = run(&[
        "inspect",
        zip,
        "--image-key",
        &vector_path("keys/image.pem"),
        "--public-key",
        &key,
    ]);
    assert!(good && said.contains("only from"), "{said}");
    let other = releases.path("other.bin");
    let (done, said) = diff(&[
        "--from",
        update,
        "--to",
        &new,
        "-o",
        other.to_str().expect("a path"),
    ]);
    assert!(
        !done && said.contains("it is a packed update, not a release"),
        "{said}"
    );
    let (done, said) = run(&["update", zip]);
    // The simulated device runs another image than these.
    let reason = "the packed update is for another image than the one that runs; send the full image";
    assert!(!done && said.contains(reason), "{said}");
}
