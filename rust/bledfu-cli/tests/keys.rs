// SPDX-License-Identifier: Apache-2.0
//! `bledfu keys`, and packages whose key stays elsewhere.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use bledfu_sim::keys::{open_public_key, Sign as _, SigningKey};
use bledfu_sim::package::Package;
use bledfu_wire::init_packet::InitPacket;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use common::{vector, vector_path};

const PASSWORD: &str = "BLEDFU_KEY_PASSWORD";

fn bledfu(folder: &Path, words: &[&str], password: Option<&str>) -> Output {
    let mut command = common::bledfu(words[0]);
    command
        .args(&words[1..])
        .current_dir(folder)
        .stdin(Stdio::null())
        .env_remove(PASSWORD);
    if let Some(password) = password {
        command.env(PASSWORD, password);
    }
    command.output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn runs(folder: &Path, words: &[&str], password: Option<&str>) -> String {
    let output = bledfu(folder, words, password);
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn fails(folder: &Path, words: &[&str], password: Option<&str>) -> String {
    let output = bledfu(folder, words, password);
    assert!(!output.status.success(), "{words:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

/// Nothing is wrong with a package, and its signature is one of this key.
fn is_good(at: &Path, package: &str, public: &str) {
    let image_key = vector_path("keys/image.pub.pem");
    let words = [
        "inspect",
        package,
        "--strict",
        "--public-key",
        public,
        "--image-key",
        &image_key,
    ];
    runs(at, &words, None);
}

#[test]
fn a_new_key_signs_a_package_that_its_public_half_checks() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for form in ["pkcs8", "sec1"] {
        let (key, public) = (format!("{form}.pem"), format!("{form}.pub.pem"));
        let said = runs(
            at,
            &["keys", "new", &key, "--form", form, "--public", &public],
            None,
        );
        assert!(said.contains("fingerprint  "), "{said}");
        assert_eq!(
            runs(at, &["keys", "public", &key], None),
            std::fs::read_to_string(at.join(&public)).unwrap()
        );
        let image = vector_path("images/small-2.0.0.signed.bin");
        let package = [
            "package",
            "--image",
            &image,
            "--key",
            &key,
            "--hw-version",
            "52",
            "-o",
            "app.zip",
        ];
        let said = runs(at, &package, None);
        assert!(said.contains("33554432 (2.0.0, from the image"), "{said}");
        is_good(at, "app.zip", &public);
        let error = fails(at, &["keys", "new", &key], None);
        assert!(error.contains("keys are not overwritten"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn only_its_owner_can_read_a_new_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    runs(folder.path(), &["keys", "new", "k.pem"], None);
    let mode = std::fs::metadata(folder.path().join("k.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_encrypted_key_opens_with_the_password_of_the_environment_in_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let new = ["keys", "new", "k.pem", "--encrypt"];
    assert!(fails(at, &new, None).contains("here is neither"));
    assert!(fails(at, &new, Some("short")).contains("at least 8 characters"));
    runs(at, &new, Some("long enough"));
    assert!(std::fs::read_to_string(at.join("k.pem"))
        .unwrap()
        .starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));

    let shown = runs(at, &["keys", "show", "k.pem", "--json"], Some("long enough"));
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(
        (&shown["private"], &shown["encrypted"]),
        (&Value::Bool(true), &Value::Bool(true))
    );
    assert!(fails(at, &["keys", "show", "k.pem"], None).contains(PASSWORD));
    assert!(fails(at, &["keys", "show", "k.pem"], Some("another one")).contains("does not open"));

    let image = vector_path("images/small-2.0.0.signed.bin");
    let package = [
        "package",
        "--image",
        &image,
        "--key",
        "k.pem",
        "--hw-version",
        "52",
        "-o",
        "app.zip",
    ];
    runs(at, &package, Some("long enough"));
    runs(
        at,
        &["inspect", "app.zip", "--public-key", "k.pem"],
        Some("long enough"),
    );
    let error = fails(
        at,
        &["keys", "new", "s.pem", "--form", "sec1", "--encrypt"],
        Some("long enough"),
    );
    assert!(error.contains("SEC1 keys cannot"), "{error}");
}

#[test]
fn a_public_key_is_written_as_each_tool_takes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let key = vector_path("keys/package.pem");
    let written = |form: &str| runs(at, &["keys", "public", &key, "--as", form], None);
    // nrfutil wraps its lines at another column.
    let digits = |pem: &str| pem.split_whitespace().collect::<String>();
    let nrfutils = std::fs::read_to_string(vector("keys/package.pub.pem")).unwrap();
    assert_eq!(digits(&written("pem")), digits(&nrfutils));
    let key_bytes = open_public_key(&vector("keys/package.pem")).unwrap();
    let hex: String = key_bytes
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(written("hex").trim(), hex);
    let numbers = |source: &str| -> Vec<u8> {
        let words = source
            .split([',', ' ', '\n'])
            .filter_map(|word| word.strip_prefix("0x"));
        words
            .map(|word| u8::from_str_radix(word, 16).expect("a byte"))
            .collect()
    };
    let mut halves = numbers(&written("nrf5-sdk"));
    halves[..32].reverse();
    halves[32..].reverse();
    assert_eq!(halves, key_bytes.as_bytes());
    runs(at, &["keys", "public", &key, "--as", "der", "-o", "k.der"], None);
    assert_eq!(
        numbers(&written("mcuboot")),
        std::fs::read(at.join("k.der")).unwrap()
    );
    // What HSM tools write is read as well.
    assert_eq!(runs(at, &["keys", "public", "k.der"], None), written("pem"));
    assert!(fails(at, &["keys", "public", &key, "--as", "der"], None).contains("--output"));
    assert!(runs(at, &["keys", "show", &key], None).contains("anybody can sign"));
}

/// The two steps of a key that stays elsewhere; `sign` is the elsewhere.
fn two_steps(at: &Path, sign: impl Fn(&[u8; 32]) -> Vec<u8>) -> Vec<u8> {
    let image = vector_path("images/small-2.0.0.signed.bin");
    let base = [
        "package",
        "--image",
        &image,
        "--hw-version",
        "52",
        "--fw-version",
        "2.0.0",
    ];
    let words = |more: &[&'static str]| -> Vec<String> {
        base.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let run = |more: &[&'static str]| {
        let words = words(more);
        runs(at, &words.iter().map(String::as_str).collect::<Vec<_>>(), None)
    };
    run(&["--digest-out", "digest"]);
    let digest = std::fs::read(at.join("digest")).unwrap();
    std::fs::write(at.join("signature"), sign(&digest.try_into().expect("32 bytes"))).unwrap();
    run(&[
        "--signature-in",
        "signature",
        "--key",
        "k.pub.pem",
        "-o",
        "app.zip",
    ]);
    std::fs::read(at.join("app.zip")).unwrap()
}

#[test]
fn a_signature_made_elsewhere_makes_the_same_package_as_the_key_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    runs(at, &["keys", "new", "k.pem", "--public", "k.pub.pem"], None);
    let key = SigningKey::open(&at.join("k.pem")).unwrap();
    let der = two_steps(at, |digest| key.sign_digest_der(digest));
    let raw = two_steps(at, |digest| key.sign_digest(digest).unwrap().to_vec());
    let image = vector_path("images/small-2.0.0.signed.bin");
    let base = [
        "package",
        "--image",
        &image,
        "--hw-version",
        "52",
        "--fw-version",
        "2.0.0",
        "-o",
        "app.zip",
    ];
    let with =
        |more: &[&'static str]| -> Vec<&str> { base.iter().copied().chain(more.iter().copied()).collect() };
    runs(at, &with(&["--key", "k.pem"]), None);
    let plain = std::fs::read(at.join("app.zip")).unwrap();
    assert!(
        der == plain && raw == plain,
        "the same options give the same bytes"
    );

    // A command in front of the key: it sees the digest, and its signature is checked.
    let command = ["--key", "k.pub.pem", "--sign-with", "cat > seen && cat signature"];
    std::fs::remove_file(at.join("app.zip")).unwrap();
    runs(at, &with(&command), None);
    assert_eq!(std::fs::read(at.join("app.zip")).unwrap(), plain);
    assert_eq!(
        std::fs::read(at.join("seen")).unwrap(),
        std::fs::read(at.join("digest")).unwrap()
    );

    std::fs::remove_file(at.join("app.zip")).unwrap();
    for (command, why) in [
        ("exit 3", "failed: exit status: 3"),
        ("echo hello", "6 bytes that are no ECDSA P-256 signature"),
    ] {
        let mut words = with(&["--key", "k.pub.pem", "--sign-with"]);
        words.push(command);
        let error = fails(at, &words, None);
        assert!(error.contains(why), "{error}");
    }
    let mut words = with(&["--key", "k.pub.pem", "--signature-in", "signature"]);
    words.extend(["--debug"]);
    let error = fails(at, &words, None);
    assert!(error.contains("other options were given"), "{error}");
    assert!(
        !at.join("app.zip").exists(),
        "nothing is written with a wrong signature"
    );

    let both = ["--boot-validation", "VALIDATE_ECDSA_P256_SHA256"];
    let mut words = with(&["--key", "k.pub.pem", "--signature-in", "signature"]);
    words.extend(both);
    assert!(fails(at, &words, None).contains("use --sign-with"));
}

/// The module of SoftHSM, where it is installed with OpenSC.
fn soft_hsm() -> Option<PathBuf> {
    let found = |name: &str| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    };
    found("softhsm2-util")?;
    found("pkcs11-tool")?;
    [
        "/usr/lib/softhsm",
        "/usr/lib64/softhsm",
        "/usr/local/lib/softhsm",
        "/usr/lib64/pkcs11",
    ]
    .iter()
    .map(|folder| Path::new(folder).join("libsofthsm2.so"))
    .find(|file| file.is_file())
}

#[test]
fn a_key_in_an_hsm_signs_a_package_over_pkcs_11() {
    let Some(module) = soft_hsm() else {
        eprintln!("skipped: SoftHSM and OpenSC are not installed (packages softhsm2 and opensc)");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let tokens = at.join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let config = at.join("softhsm2.conf");
    std::fs::write(
        &config,
        format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()),
    )
    .unwrap();
    let hsm = |program: &str, words: &[&str]| {
        let output = std::process::Command::new(program)
            .args(words)
            .current_dir(at)
            .env("SOFTHSM2_CONF", &config)
            .output()
            .expect("the tool runs");
        assert!(
            output.status.success(),
            "{program} {words:?}: {}",
            text(&output.stderr)
        );
    };
    hsm(
        "softhsm2-util",
        &[
            "--init-token",
            "--free",
            "--label",
            "release",
            "--pin",
            "1234",
            "--so-pin",
            "5678",
        ],
    );
    let module = module.to_str().expect("a path in UTF-8");
    let tool = [
        "--module",
        module,
        "--token-label",
        "release",
        "--login",
        "--pin",
        "1234",
        "--id",
        "01",
    ];
    let with =
        |more: &[&'static str]| -> Vec<&str> { tool.iter().copied().chain(more.iter().copied()).collect() };
    hsm(
        "pkcs11-tool",
        &with(&[
            "--keypairgen",
            "--key-type",
            "EC:prime256v1",
            "--label",
            "package",
        ]),
    );
    hsm(
        "pkcs11-tool",
        &with(&["--read-object", "--type", "pubkey", "--output-file", "k.der"]),
    );
    std::fs::write(at.join("k.pub.pem"), runs(at, &["keys", "public", "k.der"], None)).unwrap();

    // Both ways. The signature is another one each time, so the packages differ, and both must be good.
    let image = vector_path("images/small-2.0.0.signed.bin");
    let sign = format!(
        "SOFTHSM2_CONF={} pkcs11-tool --module {module} --token-label release --login --pin 1234 --id 01 \
         --sign --mechanism ECDSA --signature-format openssl",
        config.display()
    );
    let options = [
        "--image",
        &image,
        "--hw-version",
        "52",
        "--boot-validation",
        "VALIDATE_ECDSA_P256_SHA256",
    ];
    let mut words = vec![
        "package",
        "--key",
        "k.der",
        "--sign-with",
        &sign,
        "-o",
        "command.zip",
    ];
    words.extend(options);
    runs(at, &words, None);
    let steps = two_steps(at, |digest| {
        std::fs::write(at.join("to-sign"), digest).unwrap();
        hsm(
            "pkcs11-tool",
            &with(&[
                "--sign",
                "--mechanism",
                "ECDSA",
                "--input-file",
                "to-sign",
                "--output-file",
                "signed",
            ]),
        );
        std::fs::read(at.join("signed")).unwrap()
    });
    std::fs::write(at.join("steps.zip"), steps).unwrap();
    for package in ["command.zip", "steps.zip"] {
        is_good(at, package, "k.pub.pem");
    }
}

/// A build folder as sysbuild leaves it.
fn build_folder(at: &Path, config: &str) {
    let zephyr = at.join("build/app/zephyr");
    std::fs::create_dir_all(&zephyr).unwrap();
    std::fs::create_dir_all(at.join("build/mcuboot/zephyr")).unwrap();
    std::fs::write(at.join("build/domains.yaml"), "default: app\nbuild_dir: build\n").unwrap();
    std::fs::write(zephyr.join(".config"), config).unwrap();
    std::fs::copy(
        vector("images/medium-2.3.4.signed.bin"),
        zephyr.join("zephyr.signed.bin"),
    )
    .unwrap();
}

#[test]
fn a_build_folder_gives_image_name_and_versions() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    runs(at, &["keys", "new", "k.pem"], None);
    build_folder(
        at,
        "CONFIG_BLEDFU=y\nCONFIG_BLEDFU_HW_VERSION=7\nCONFIG_BLEDFU_FW_VERSION=0\n",
    );
    let package = |more: &[&'static str]| {
        let mut words = vec!["package", "--build", "build", "--key", "k.pem", "-o", "app.zip"];
        words.extend(more);
        let said = runs(at, &words, None);
        let package = Package::open(&at.join("app.zip")).expect("a package");
        let init = InitPacket::decode(&package.application.init).expect("an init packet");
        assert_eq!(package.application.bin_file, "app.bin");
        (init.init.hw_version, init.init.fw_version, said)
    };
    // The image has version 2.3.4+5.
    let (hw, fw, said) = package(&[]);
    assert_eq!((hw, fw), (Some(7), Some(0x0203_0405)), "{said}");
    assert!(said.contains("2.3.4+5, from the image"), "{said}");
    let (hw, fw, _) = package(&["--hw-version", "8", "--fw-version", "3"]);
    assert_eq!((hw, fw), (Some(8), Some(3)));
    std::fs::write(
        at.join("VERSION"),
        "VERSION_MAJOR = 9\nVERSION_MINOR = 8\nPATCHLEVEL = 7\nVERSION_TWEAK = 6\n",
    )
    .unwrap();
    let (_, fw, said) = package(&["--version-file", "VERSION"]);
    assert_eq!(fw, Some(0x0908_0706));
    assert!(said.contains("9.8.7+6, from VERSION"), "{said}");
    build_folder(at, "CONFIG_BLEDFU_HW_VERSION=7\nCONFIG_BLEDFU_FW_VERSION=12\n");
    assert_eq!(package(&[]).1, Some(12));

    std::fs::remove_file(at.join("build/app/zephyr/zephyr.signed.bin")).unwrap();
    let words = ["package", "--build", "build", "--key", "k.pem", "-o", "app.zip"];
    assert!(fails(at, &words, None).contains("has no zephyr.signed.bin"));
    let words = ["package", "--build", ".", "--key", "k.pem", "-o", "app.zip"];
    assert!(fails(at, &words, None).contains("is no finished build of west"));
}

#[test]
fn the_digest_to_sign_is_that_of_the_init_command_in_the_package() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    runs(at, &["keys", "new", "k.pem", "--public", "k.pub.pem"], None);
    let key = SigningKey::open(&at.join("k.pem")).unwrap();
    two_steps(at, |digest| key.sign_digest_der(digest));
    let package = Package::open(&at.join("app.zip")).expect("a package");
    let init = InitPacket::decode(&package.application.init).expect("an init packet");
    let digest: [u8; 32] = Sha256::digest(init.init.signed_bytes()).into();
    assert_eq!(std::fs::read(at.join("digest")).unwrap(), digest);
}
