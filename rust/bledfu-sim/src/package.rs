// SPDX-License-Identifier: Apache-2.0
//! DFU packages: a zip with `manifest.json`, and a `.bin` (firmware) and a `.dat` (init packet) per part.
//!
//! ```json
//! { "manifest": { "application": { "bin_file": "app.bin", "dat_file": "app.dat" } } }
//! ```
//! Keys: `application`; or exactly one of `softdevice`, `bootloader`, `softdevice_bootloader`, with or without
//! `application`. Source: nrfutil `package.py`, `manifest.py`; the sets that the phone libraries accept.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::path::Path;

use bledfu_slot::{HeaderError, ImageHeader};
use bledfu_wire::init_packet::{firmware_type, InitPacket, InitPacketError, MAX_SD_REQ};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::init_packet::{BootValidation, InitFields};
use crate::keys::{Sign, SignError};

/// Name of the manifest.
pub const MANIFEST: &str = "manifest.json";

/// Maximum size of an unpacked entry: twice the largest flash part of the table. More would only fill the memory.
const MAX_ENTRY_SIZE: u64 = 64 * 1024 * 1024;

/// The target of a part of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartKind {
    /// SoftDevice and bootloader together.
    SoftdeviceBootloader,
    /// Nordic's Bluetooth stack.
    Softdevice,
    /// Nordic's bootloader.
    Bootloader,
    /// The firmware.
    Application,
}

impl PartKind {
    /// All kinds, in the order in which they are sent.
    pub const ALL: [PartKind; 4] = [
        PartKind::SoftdeviceBootloader,
        PartKind::Softdevice,
        PartKind::Bootloader,
        PartKind::Application,
    ];

    /// Key in the manifest.
    pub const fn key(self) -> &'static str {
        match self {
            Self::SoftdeviceBootloader => "softdevice_bootloader",
            Self::Softdevice => "softdevice",
            Self::Bootloader => "bootloader",
            Self::Application => "application",
        }
    }

    /// Whether an init packet with this firmware type is right for such a part.
    fn accepts(self, kind: u32) -> bool {
        match self {
            Self::SoftdeviceBootloader => kind == firmware_type::SOFTDEVICE_BOOTLOADER,
            Self::Softdevice => kind == firmware_type::SOFTDEVICE,
            Self::Bootloader => kind == firmware_type::BOOTLOADER,
            Self::Application => {
                kind == firmware_type::APPLICATION || kind == firmware_type::EXTERNAL_APPLICATION
            }
        }
    }
}

/// Why a file is not a usable package.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not a zip archive, or is incomplete.
    #[error("the file is not a zip archive, or it is cut short")]
    NotZip,
    /// The archive has no manifest.
    #[error("the package has no {MANIFEST}")]
    NoManifest,
    /// The manifest is in a folder, where no tool looks for it.
    #[error("the package has its {MANIFEST} in the folder {0}, but it must be at the top")]
    ManifestInFolder(String),
    /// The manifest cannot be read.
    #[error("the {MANIFEST} of the package is damaged: {0}")]
    BadManifest(String),
    /// The manifest is empty.
    #[error("the {MANIFEST} of the package names no firmware")]
    NoParts,
    /// The package has nothing for this device.
    #[error("the package has no application, only {0}: this device takes applications")]
    NoApplication(&'static str),
    /// More than one system part.
    #[error("the package has both {0} and {1}, which do not go together")]
    TwoSystemParts(&'static str, &'static str),
    /// A file that the manifest names is missing.
    #[error("the package lacks the file {file} that its {MANIFEST} names for {part}")]
    MissingEntry {
        /// Part.
        part: &'static str,
        /// File.
        file: String,
    },
    /// A file in the archive is damaged or uses an unknown compression.
    #[error("the file {file} in the package cannot be unpacked: {reason}")]
    BadEntry {
        /// File.
        file: String,
        /// Why.
        reason: String,
    },
    /// A file is too large.
    #[error("the file {file} in the package has more than {} MiB", MAX_ENTRY_SIZE >> 20)]
    HugeEntry {
        /// File.
        file: String,
    },
    /// The init packet cannot be read.
    #[error("the init packet of {part} is damaged or of the legacy kind: {reason}")]
    BadInitPacket {
        /// Part.
        part: &'static str,
        /// Why.
        reason: InitPacketError,
    },
    /// Manifest and init packet disagree.
    #[error("the {MANIFEST} says {part}, but the init packet has firmware type {found}")]
    WrongType {
        /// Part.
        part: &'static str,
        /// Type, or "none".
        found: String,
    },
    /// Init packet and firmware disagree about the size.
    #[error("the firmware of {part} has {found} bytes, but its init packet says {said}")]
    SizeMismatch {
        /// Part.
        part: &'static str,
        /// Size in the init packet.
        said: u64,
        /// Size of the file in bytes.
        found: u64,
    },
    /// The init packet has no SHA-256.
    #[error("the init packet of {part} carries no SHA-256 of the firmware")]
    NoHash {
        /// Part.
        part: &'static str,
    },
    /// The SHA-256 belongs to another file.
    #[error("the firmware of {part} does not have the SHA-256 its init packet says")]
    HashMismatch {
        /// Part.
        part: &'static str,
    },
    /// A package of the nRF Connect SDK without an image for the application's core.
    #[error("the package has no image 0, which is the application")]
    NoImageZero,
    /// An empty image cannot be packed.
    #[error("the image is empty")]
    EmptyImage,
    /// More SoftDevice requirements than a target accepts.
    #[error("a package can name at most {MAX_SD_REQ} SoftDevices")]
    TooManySdReq,
    /// More than 4 GiB.
    #[error("the image is too large for a package")]
    ImageTooLarge,
    /// A device could not install the file.
    #[error("the file is not an MCUboot image: {0}; sign it with imgtool first, or use --force")]
    NotAnImage(String),
    /// The archive could not be made.
    #[error("the package could not be written: {0}")]
    Zip(String),
    /// The signature could not be made.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Firmware and its init packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The init packet.
    pub init: Vec<u8>,
    /// The firmware.
    pub firmware: Vec<u8>,
    /// Name of the init packet in the archive.
    pub dat_file: String,
    /// Name of the firmware in the archive.
    pub bin_file: String,
}

/// A package that contains an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// What updates this device.
    pub application: Part,
    /// A SoftDevice and/or bootloader part, which is sent before the application.
    pub system: Option<(PartKind, Part)>,
}

impl Package {
    /// Reads a package and checks everything that a phone could: all files present, init packets readable and of the
    /// right type, sizes and SHA-256 correct.
    ///
    /// # Errors
    /// [`PackageError`]: the first error found.
    pub fn read(bytes: &[u8]) -> Result<Self, PackageError> {
        let package = Self::read_unchecked(bytes)?;
        package.check()?;
        Ok(package)
    }

    /// [`Package::read`] of a file.
    ///
    /// # Errors
    /// Those of [`Package::read`], or [`PackageError::Io`].
    pub fn open(path: &Path) -> Result<Self, PackageError> {
        Self::read(&read_file(path)?)
    }

    /// Reads the package without checking its content, as the phone libraries do, to see a device refuse it.
    ///
    /// # Errors
    /// Those of the archive and the manifest.
    pub fn read_unchecked(bytes: &[u8]) -> Result<Self, PackageError> {
        let mut system = None;
        let mut application = None;
        for (kind, part) in read_parts(bytes)? {
            if kind == PartKind::Application {
                application = Some(part);
            } else if let Some((first, _)) = &system {
                let first: &PartKind = first;
                return Err(PackageError::TwoSystemParts(first.key(), kind.key()));
            } else {
                system = Some((kind, part));
            }
        }
        match (application, system) {
            (Some(application), system) => Ok(Self { application, system }),
            (None, Some((kind, _))) => Err(PackageError::NoApplication(kind.key())),
            (None, None) => Err(PackageError::NoParts),
        }
    }

    /// Checks init packets against firmware.
    ///
    /// # Errors
    /// The first mismatch.
    pub fn check(&self) -> Result<(), PackageError> {
        if let Some((kind, part)) = &self.system {
            part.check(*kind)?;
        }
        self.application.check(PartKind::Application)
    }
}

impl Part {
    /// Checks the init packet against the firmware.
    ///
    /// # Errors
    /// The first mismatch.
    pub fn check(&self, kind: PartKind) -> Result<(), PackageError> {
        let part = kind.key();
        let packet =
            InitPacket::decode(&self.init).map_err(|reason| PackageError::BadInitPacket { part, reason })?;
        let init = packet.init;
        if !init.kind.is_some_and(|number| kind.accepts(number)) {
            let found = init
                .kind
                .map_or_else(|| "none".to_owned(), |number| number.to_string());
            return Err(PackageError::WrongType { part, found });
        }
        let size = |field: Option<u32>| u64::from(field.unwrap_or(0));
        let said = match kind {
            PartKind::Application => size(init.app_size),
            PartKind::Softdevice => size(init.sd_size),
            PartKind::Bootloader => size(init.bl_size),
            PartKind::SoftdeviceBootloader => size(init.sd_size) + size(init.bl_size),
        };
        let found = self.firmware.len() as u64;
        if said != found {
            return Err(PackageError::SizeMismatch { part, said, found });
        }
        let sha256 = init.firmware_sha256().ok_or(PackageError::NoHash { part })?;
        if sha256 != <[u8; 32]>::from(Sha256::digest(&self.firmware)) {
            return Err(PackageError::HashMismatch { part });
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct ManifestFile {
    manifest: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize, Serialize)]
struct ManifestEntry {
    bin_file: String,
    dat_file: String,
}

/// All parts of a package that the manifest names, of any kind, in the order in which they are sent.
///
/// # Errors
/// Those of the archive and the manifest.
pub fn read_parts(bytes: &[u8]) -> Result<Vec<(PartKind, Part)>, PackageError> {
    let mut archive = Archive::open(bytes)?;
    let text = archive.manifest()?;
    let bad = |error: serde_json::Error| PackageError::BadManifest(error.to_string());
    let file: ManifestFile = serde_json::from_slice(&text).map_err(bad)?;
    let mut parts = Vec::new();
    for kind in PartKind::ALL {
        let Some(value) = file.manifest.get(kind.key()) else {
            continue;
        };
        let entry: ManifestEntry = serde_json::from_value(value.clone())
            .map_err(|error| PackageError::BadManifest(format!("{}: {error}", kind.key())))?;
        let part = Part {
            init: archive.need(&entry.dat_file, kind.key())?,
            firmware: archive.need(&entry.bin_file, kind.key())?,
            dat_file: entry.dat_file,
            bin_file: entry.bin_file,
        };
        parts.push((kind, part));
    }
    if parts.is_empty() {
        return Err(PackageError::NoParts);
    }
    Ok(parts)
}

/// The package as a zip file.
pub(crate) struct Archive<'a>(ZipArchive<Cursor<&'a [u8]>>);

impl<'a> Archive<'a> {
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, PackageError> {
        ZipArchive::new(Cursor::new(bytes))
            .map(Self)
            .map_err(|_| PackageError::NotZip)
    }

    /// The text of the manifest.
    pub(crate) fn manifest(&mut self) -> Result<Vec<u8>, PackageError> {
        let Some(mut text) = read_entry(&mut self.0, MANIFEST)? else {
            let folder = self.0.file_names().find_map(|name| {
                let name = name.ok()?;
                Some(name.strip_suffix(MANIFEST)?.strip_suffix('/')?.to_owned())
            });
            return Err(folder.map_or(PackageError::NoManifest, PackageError::ManifestInFolder));
        };
        // Windows editors write a byte order mark in front.
        if text.starts_with(b"\xEF\xBB\xBF") {
            text.drain(..3);
        }
        Ok(text)
    }

    /// A file that the manifest names for `part`.
    pub(crate) fn need(&mut self, file: &str, part: &'static str) -> Result<Vec<u8>, PackageError> {
        read_entry(&mut self.0, file)?.ok_or_else(|| PackageError::MissingEntry {
            part,
            file: file.to_owned(),
        })
    }
}

fn read_entry(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str) -> Result<Option<Vec<u8>>, PackageError> {
    let bad = |reason: String| PackageError::BadEntry {
        file: name.to_owned(),
        reason,
    };
    let entry = match archive.by_name(name) {
        Ok(entry) => entry,
        Err(ZipError::FileNotFound) => return Ok(None),
        Err(error) => return Err(bad(error.to_string())),
    };
    let mut content = Vec::new();
    // The size in the archive is only a claim, so the unpacked size is limited.
    entry
        .take(MAX_ENTRY_SIZE + 1)
        .read_to_end(&mut content)
        .map_err(|error| bad(error.to_string()))?;
    if content.len() as u64 > MAX_ENTRY_SIZE {
        return Err(PackageError::HugeEntry {
            file: name.to_owned(),
        });
    }
    Ok(Some(content))
}

fn read_file(path: &Path) -> Result<Vec<u8>, PackageError> {
    std::fs::read(path).map_err(|source| PackageError::Io {
        path: path.display().to_string(),
        source,
    })
}

/// What to write into a package beside the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSpec {
    /// File name of image and init packet in the archive, without extension.
    pub name: String,
    /// Hardware version.
    pub hw_version: u32,
    /// Firmware version.
    pub fw_version: u32,
    /// SoftDevice requirements.
    pub sd_req: Vec<u32>,
    /// Boot validation.
    pub boot_validation: BootValidation,
    /// Debug packet.
    pub debug: bool,
}

impl PackageSpec {
    /// A package for a device without SoftDevice.
    pub fn new(name: &str, hw_version: u32, fw_version: u32) -> Self {
        Self {
            name: name.to_owned(),
            hw_version,
            fw_version,
            sd_req: vec![0],
            boot_validation: BootValidation::default(),
            debug: false,
        }
    }

    /// The image as it is sent: padded with FF to a multiple of 4, as nrfutil does and Android requires.
    pub fn padded(image: &[u8]) -> Vec<u8> {
        let mut padded = image.to_vec();
        padded.resize(image.len().next_multiple_of(4), 0xFF);
        padded
    }

    /// The fields of the init command for an image that is already padded.
    ///
    /// # Errors
    /// [`PackageError::EmptyImage`], [`PackageError::ImageTooLarge`], [`PackageError::TooManySdReq`];
    /// [`PackageError::Sign`] of a boot validation by signature.
    pub fn fields(&self, padded: &[u8], key: &dyn Sign) -> Result<InitFields, PackageError> {
        if padded.is_empty() {
            return Err(PackageError::EmptyImage);
        }
        let size = u32::try_from(padded.len()).map_err(|_| PackageError::ImageTooLarge)?;
        let sha256: [u8; 32] = Sha256::digest(padded).into();
        let mut fields =
            InitFields::application(self.fw_version, self.hw_version, &self.sd_req, size, &sha256);
        if fields.sd_req.len() > MAX_SD_REQ {
            return Err(PackageError::TooManySdReq);
        }
        fields.is_debug = Some(self.debug);
        let bytes = match self.boot_validation {
            BootValidation::Ecdsa => crate::keys::swap_halves(&key.sign_digest(&sha256)?).to_vec(),
            _ => Vec::new(),
        };
        fields.boot_validation = vec![(self.boot_validation.number(), bytes)];
        Ok(fields)
    }

    /// The application part: padded image and signed init packet.
    ///
    /// # Errors
    /// Those of [`PackageSpec::fields`], or [`PackageError::Sign`].
    pub fn part(&self, image: &[u8], key: &dyn Sign) -> Result<Part, PackageError> {
        let firmware = Self::padded(image);
        let fields = self.fields(&firmware, key)?;
        Ok(Part {
            init: fields.signed_as(&key.sign_digest(&fields.digest())?),
            firmware,
            dat_file: format!("{}.dat", self.name),
            bin_file: format!("{}.bin", self.name),
        })
    }

    /// The whole package file.
    ///
    /// # Errors
    /// Those of [`PackageSpec::fields`], or [`PackageError::Zip`].
    pub fn build(&self, image: &[u8], key: &dyn Sign) -> Result<Vec<u8>, PackageError> {
        write_parts(&[(PartKind::Application, self.part(image, key)?)])
    }
}

/// Writes a package file with any parts. The same parts give the same bytes: entries have no dates.
///
/// # Errors
/// [`PackageError::Zip`].
pub fn write_parts(parts: &[(PartKind, Part)]) -> Result<Vec<u8>, PackageError> {
    let failed = |error: &dyn std::fmt::Display| PackageError::Zip(error.to_string());
    let entries: BTreeMap<&str, ManifestEntry> = parts
        .iter()
        .map(|(kind, part)| {
            let entry = ManifestEntry {
                bin_file: part.bin_file.clone(),
                dat_file: part.dat_file.clone(),
            };
            (kind.key(), entry)
        })
        .collect();
    let manifest = BTreeMap::from([("manifest", entries)]);
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut json = serde_json::Serializer::with_formatter(&mut text, format);
    manifest.serialize(&mut json).map_err(|error| failed(&error))?;
    let mut files: Vec<(&str, &[u8])> = Vec::new();
    for (_, part) in parts {
        files.push((&part.bin_file, &part.firmware));
        files.push((&part.dat_file, &part.init));
    }
    files.push((MANIFEST, &text));
    write_archive(&files)
}

/// Writes a zip file whose entries have no dates.
pub(crate) fn write_archive(files: &[(&str, &[u8])]) -> Result<Vec<u8>, PackageError> {
    let failed = |error: &dyn std::fmt::Display| PackageError::Zip(error.to_string());
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(zip::DateTime::DEFAULT);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        archive
            .start_file(*name, options)
            .map_err(|error| failed(&error))?;
        archive.write_all(content).map_err(|error| failed(&error))?;
    }
    let finished = archive.finish().map_err(|error| failed(&error))?;
    Ok(finished.into_inner())
}

/// Whether header and TLV areas are an image's; the signature is not checked here.
///
/// # Errors
/// [`PackageError::NotAnImage`] with the reason.
pub fn check_is_image(image: &[u8]) -> Result<(), PackageError> {
    let not = |reason: String| PackageError::NotAnImage(reason);
    ImageHeader::parse(image).map_err(|error: HeaderError| not(error.to_string()))?;
    let mut flash = bledfu_slot::tlv::SliceFlash(image);
    bledfu_slot::verify::image_size(&mut flash, 0, image.len() as u32)
        .map(|_| ())
        .map_err(|error| not(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init_packet::signed_packet;
    use crate::keys::SigningKey;
    use std::path::PathBuf;

    fn vectors() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors")
    }

    fn vector(name: &str) -> Vec<u8> {
        std::fs::read(vectors().join("packages").join(name)).unwrap()
    }

    fn key() -> SigningKey {
        SigningKey::from_scalar(&[5; 32]).unwrap()
    }

    fn sentence(bytes: &[u8]) -> String {
        Package::read(bytes).unwrap_err().to_string()
    }

    /// A zip with these files.
    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn reads_packages_of_nrfutil() {
        let package = Package::read(&vector("demo-2.0.0.zip")).unwrap();
        assert_eq!(package.application.firmware.len(), 475_384);
        assert_eq!(package.application.init.len(), 140);
        assert_eq!(package.system, None);
        let both = Package::read(&vector("softdevice-application.zip")).unwrap();
        assert_eq!(both.system.unwrap().0, PartKind::Softdevice);
    }

    #[test]
    fn init_packets_equal_those_of_nrfutil_for_all_options() {
        let text = std::fs::read(vectors().join("init/cases.json")).unwrap();
        let cases: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let cases = cases.as_array().unwrap();
        assert!(cases.len() >= 15);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let options = &case["options"];
            let number = |key: &str| options[key].as_u64().unwrap() as u32;
            let sd_req = options["sd_req"].as_array().unwrap();
            let image = std::fs::read(vectors().join(case["firmware"].as_str().unwrap())).unwrap();
            let spec = PackageSpec {
                sd_req: sd_req.iter().map(|fwid| fwid.as_u64().unwrap() as u32).collect(),
                boot_validation: options["app_boot_validation"].as_str().unwrap().parse().unwrap(),
                debug: options["debug_mode"].as_bool().unwrap(),
                ..PackageSpec::new(name, number("hw_version"), number("application_version"))
            };
            let padded = PackageSpec::padded(&image);
            let (fields, key) = match case["key"].as_str() {
                Some(key) => {
                    let key = crate::keys::SigningKey::open(&vectors().join(key)).unwrap();
                    (spec.fields(&padded, &key).unwrap(), Some(key))
                }
                None => (spec.fields(&padded, &key()).unwrap(), None),
            };
            let mut ours = key.map_or_else(|| fields.unsigned(), |key| fields.signed(&key));
            let mut theirs = std::fs::read(vectors().join(case["dat"].as_str().unwrap())).unwrap();
            assert_eq!(ours.len(), theirs.len(), "{name}");
            // nrfutil signs with a random number, so these bytes differ each time.
            for range in case["random"].as_array().unwrap() {
                let range = |i: usize| range[i].as_u64().unwrap() as usize;
                let random = range(0)..range(0) + range(1);
                ours[random.clone()].fill(0);
                theirs[random].fill(0);
            }
            assert_eq!(ours, theirs, "{name}");
        }
    }

    #[test]
    fn a_written_package_reads_back_and_is_always_the_same() {
        let spec = PackageSpec::new("app.signed", 52, 3);
        let bytes = spec.build(&[7; 1001], &key()).unwrap();
        assert_eq!(bytes, spec.build(&[7; 1001], &key()).unwrap());
        let part = Package::read(&bytes).unwrap().application;
        assert_eq!(
            (part.bin_file.as_str(), part.dat_file.as_str()),
            ("app.signed.bin", "app.signed.dat")
        );
        assert_eq!(part.firmware.len(), 1004);
        assert_eq!(part.firmware[1000..], [7, 0xFF, 0xFF, 0xFF]);
        assert!(matches!(spec.build(&[], &key()), Err(PackageError::EmptyImage)));
        let many = PackageSpec {
            sd_req: (0..17).collect(),
            ..spec
        };
        assert!(matches!(
            many.build(&[1], &key()),
            Err(PackageError::TooManySdReq)
        ));
    }

    #[test]
    fn the_manifest_equals_that_of_nrfutil() {
        let bytes = PackageSpec::new("app", 52, 3).build(&[7; 8], &key()).unwrap();
        let mut archive = ZipArchive::new(Cursor::new(bytes.as_slice())).unwrap();
        let ours = String::from_utf8(read_entry(&mut archive, MANIFEST).unwrap().unwrap()).unwrap();
        let theirs = vector("small-2.0.0.zip");
        let mut archive = ZipArchive::new(Cursor::new(theirs.as_slice())).unwrap();
        let theirs = String::from_utf8(read_entry(&mut archive, MANIFEST).unwrap().unwrap()).unwrap();
        assert_eq!(ours, theirs.replace("small-2.0.0.signed", "app"));
    }

    #[test]
    fn broken_packages_are_refused_with_a_sentence() {
        for (file, expected) in [
            ("broken-empty.zip", "the file is not a zip archive, or it is cut short"),
            ("broken-text.zip", "the file is not a zip archive, or it is cut short"),
            ("broken-truncated.zip", "the file is not a zip archive, or it is cut short"),
            ("broken-no-manifest.zip", "the package has no manifest.json"),
            ("broken-json.zip", "the manifest.json of the package is damaged: "),
            ("broken-no-dat-entry.zip", "the manifest.json of the package is damaged: application: missing field `dat_file`"),
            ("broken-no-application.zip", "the manifest.json of the package names no firmware"),
            ("broken-no-bin.zip", "the package lacks the file small-2.0.0.signed.bin that its manifest.json names for application"),
            ("broken-no-dat.zip", "the package lacks the file small-2.0.0.signed.dat that its manifest.json names for application"),
            ("broken-crc.zip", "the file small-2.0.0.signed.bin in the package cannot be unpacked: "),
            ("softdevice.zip", "the package has no application, only softdevice: this device takes applications"),
            ("bootloader.zip", "the package has no application, only bootloader: this device takes applications"),
            ("softdevice-bootloader.zip", "the package has no application, only softdevice_bootloader: this device takes applications"),
            ("truncated.zip", "the firmware of application has 12636 bytes, but its init packet says 13636"),
            ("too-long.zip", "the firmware of application has 13640 bytes, but its init packet says 13636"),
            ("wrong-hash.zip", "the firmware of application does not have the SHA-256 its init packet says"),
        ] {
            let found = sentence(&vector(file));
            assert!(found.starts_with(expected), "{file}: {found}");
        }
    }

    #[test]
    fn what_only_a_device_can_judge_is_read_without_error() {
        for file in [
            "wrong-signature.zip",
            "wrong-hardware.zip",
            "too-old.zip",
            "unsigned.zip",
            "wrong-image-key.zip",
        ] {
            assert!(Package::read(&vector(file)).is_ok(), "{file}");
        }
        for file in ["wrong-hash.zip", "truncated.zip", "damaged-init.zip"] {
            assert!(Package::read_unchecked(&vector(file)).is_ok(), "{file}");
        }
    }

    #[test]
    fn a_manifest_in_a_folder_has_its_own_error() {
        let bytes = archive(&[("my update/manifest.json", b"{}")]);
        assert!(sentence(&bytes).contains("in the folder my update"));
    }

    #[test]
    fn system_parts_do_not_mix() {
        let part = |name| PackageSpec::new(name, 52, 3).part(&[7; 8], &key()).unwrap();
        let bytes = write_parts(&[
            (PartKind::Softdevice, part("sd")),
            (PartKind::SoftdeviceBootloader, part("sd_bl")),
        ])
        .unwrap();
        assert_eq!(
            sentence(&bytes),
            "the package has both softdevice_bootloader and softdevice, which do not go together"
        );
    }

    #[test]
    fn an_init_packet_of_another_type_or_kind_is_refused() {
        let spec = PackageSpec::new("app", 52, 3);
        let good = spec.part(&[7; 8], &key()).unwrap();
        let read = |init: Vec<u8>| {
            let part = Part { init, ..good.clone() };
            sentence(&write_parts(&[(PartKind::Application, part)]).unwrap())
        };
        let mut fields = spec.fields(&good.firmware, &key()).unwrap();
        fields.kind = Some(firmware_type::BOOTLOADER);
        assert_eq!(
            read(fields.signed(&key())),
            "the manifest.json says application, but the init packet has firmware type 2"
        );
        fields.kind = Some(firmware_type::APPLICATION);
        fields.hash = None;
        assert_eq!(
            read(fields.signed(&key())),
            "the init packet of application carries no SHA-256 of the firmware"
        );
        assert!(read(vec![1; 14]).contains("of the legacy kind"));
        assert!(read(signed_packet(&[0xFF], 0, &[0; 64])).contains("is damaged"));
    }

    #[test]
    fn only_images_are_packed_without_force() {
        let image = std::fs::read(vectors().join("images/small-2.0.0.signed.bin")).unwrap();
        assert!(check_is_image(&image).is_ok());
        assert_eq!(
            check_is_image(b"hello").unwrap_err().to_string(),
            "the file is not an MCUboot image: the header is cut short; sign it with imgtool first, or use --force"
        );
        assert!(check_is_image(&image[..image.len() - 1]).is_err());
    }
}
