// SPDX-License-Identifier: Apache-2.0
//! `dfu_application.zip`, the package that a build with the nRF Connect SDK writes: MCUboot images for SMP, and a
//! manifest that describes them. It has no init packet, so it cannot be sent over Secure DFU.
//!
//! ```json
//! { "format-version": 1, "name": "app", "files": [ { "type": "application", "image_index": "0", "file": "app.bin", "size": 20663 } ] }
//! ```
//! Formats 0 and 1 differ in fields that are not needed to extract an image: format 1 adds slots and the name. Numbers
//! in the manifest may be numbers or text. Source: the manifests that the SDK's builds and nRF Connect Device Manager
//! exchange.

use serde::Deserialize;
use serde_json::Value;

use crate::package::{Archive, PackageError, MANIFEST};

/// Newest supported manifest format.
const NEWEST_FORMAT: u64 = 1;

/// A package of the nRF Connect SDK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdkPackage {
    /// Format of the manifest, 0 or 1.
    pub format: u64,
    /// Name of the build, if the manifest gives one.
    pub name: Option<String>,
    /// The images, in the order of the manifest; at least one.
    pub files: Vec<SdkFile>,
}

/// One image of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdkFile {
    /// Name in the archive.
    pub name: String,
    /// Its type in the manifest, such as `application`.
    pub kind: Option<String>,
    /// The board it was built for.
    pub board: Option<String>,
    /// Load address in the manifest.
    pub load_address: Option<u64>,
    /// MCUboot's image number; 0 when the manifest gives none.
    pub image_index: u64,
    /// Version in the manifest, in MCUboot's form.
    pub version: Option<String>,
    /// Size in bytes in the manifest.
    pub size: Option<u64>,
    /// Content of the file.
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "format-version", default)]
    format: Value,
    name: Option<String>,
    files: Vec<ManifestFile>,
}

#[derive(Deserialize)]
struct ManifestFile {
    file: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    board: Option<String>,
    #[serde(default)]
    load_address: Value,
    #[serde(default)]
    image_index: Value,
    #[serde(rename = "version_MCUBOOT")]
    version: Option<String>,
    #[serde(default)]
    size: Value,
}

/// A number, or decimal or hexadecimal text.
fn number(value: &Value) -> Option<u64> {
    let text = match value {
        Value::String(text) => text.trim(),
        other => return other.as_u64(),
    };
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

impl SdkPackage {
    /// Reads a package; `None` if the archive's manifest is not the nRF Connect SDK's.
    ///
    /// # Errors
    /// Errors of the archive; a damaged manifest or an unknown format; a file that is missing or whose size differs
    /// from the manifest.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, PackageError> {
        let mut archive = Archive::open(bytes)?;
        let manifest = archive.manifest()?;
        let bad = |reason: String| PackageError::BadManifest(reason);
        let is_sdk = serde_json::from_slice::<Value>(&manifest)
            .is_ok_and(|value| value.get("files").is_some() && value.get("manifest").is_none());
        if !is_sdk {
            return Ok(None);
        }
        let manifest: Manifest = serde_json::from_slice(&manifest).map_err(|error| bad(error.to_string()))?;
        let format = match number(&manifest.format) {
            Some(format) if format <= NEWEST_FORMAT => format,
            _ => {
                return Err(bad(format!(
                    "format-version {} is not known, only 0 to {NEWEST_FORMAT}",
                    manifest.format
                )))
            }
        };
        let mut files = Vec::new();
        for entry in manifest.files {
            let content = archive.need(&entry.file, "an image")?;
            let size = number(&entry.size);
            if let Some(said) = size.filter(|said| *said != content.len() as u64) {
                return Err(bad(format!(
                    "it says that {} has {said} bytes, but it has {}",
                    entry.file,
                    content.len()
                )));
            }
            files.push(SdkFile {
                name: entry.file,
                kind: entry.kind,
                board: entry.board,
                load_address: number(&entry.load_address),
                image_index: number(&entry.image_index).unwrap_or(0),
                version: entry.version,
                size,
                bytes: content,
            });
        }
        if files.is_empty() {
            return Err(PackageError::NoParts);
        }
        Ok(Some(Self {
            format,
            name: manifest.name,
            files,
        }))
    }

    /// The image of the application, MCUboot's image 0.
    ///
    /// # Errors
    /// [`PackageError::NoImageZero`].
    pub fn application(&self) -> Result<&SdkFile, PackageError> {
        self.files
            .iter()
            .find(|file| file.image_index == 0 && file.kind.as_deref() != Some("mcuboot"))
            .ok_or(PackageError::NoImageZero)
    }
}

/// Whether the archive is a package of the nRF Connect SDK, even a damaged one.
pub fn is_sdk_package(bytes: &[u8]) -> bool {
    let manifest = Archive::open(bytes).and_then(|mut archive| archive.manifest());
    manifest.is_ok_and(|manifest| {
        serde_json::from_slice::<Value>(&manifest)
            .is_ok_and(|value| value.get("files").is_some() && value.get("manifest").is_none())
    })
}

/// Writes such a package with one image, for tests and tools; `fields` are further fields of its manifest entry.
///
/// # Errors
/// [`PackageError::Zip`].
pub fn write(format: u64, name: &str, image: &[u8], fields: &Value) -> Result<Vec<u8>, PackageError> {
    let mut entry = serde_json::json!({ "type": "application", "file": name, "size": image.len() });
    if let (Some(entry), Some(fields)) = (entry.as_object_mut(), fields.as_object()) {
        entry.extend(fields.clone());
    }
    let manifest = serde_json::json!({ "format-version": format, "files": [entry] }).to_string();
    crate::package::write_archive(&[(name, image), (MANIFEST, manifest.as_bytes())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(format: u64, fields: &Value) -> Result<Option<SdkPackage>, PackageError> {
        SdkPackage::read(&write(format, "app.bin", &[7; 40], fields).unwrap())
    }

    #[test]
    fn both_formats_name_the_image_and_what_it_is_for() {
        let fields = json!({ "image_index": "0", "load_address": 53248, "board": "nrf52840dk/nrf52840", "version_MCUBOOT": "2.0.0+7" });
        for format in [0, 1] {
            let package = read(format, &fields).unwrap().unwrap();
            assert_eq!((package.format, package.files.len()), (format, 1));
            let file = package.application().unwrap();
            assert_eq!((file.name.as_str(), file.image_index), ("app.bin", 0));
            assert_eq!(
                (file.load_address, file.bytes.as_slice()),
                (Some(0xD000), &[7; 40][..])
            );
            assert_eq!(file.version.as_deref(), Some("2.0.0+7"));
        }
    }

    #[test]
    fn an_unknown_format_a_wrong_size_and_a_package_for_another_core_are_named() {
        let sentence = |result: Result<Option<SdkPackage>, PackageError>| result.unwrap_err().to_string();
        assert_eq!(
            sentence(read(2, &json!({}))),
            "the manifest.json of the package is damaged: format-version 2 is not known, only 0 to 1"
        );
        assert_eq!(
            sentence(read(1, &json!({ "size": 41 }))),
            "the manifest.json of the package is damaged: it says that app.bin has 41 bytes, but it has 40"
        );
        let package = read(1, &json!({ "image_index": 1 })).unwrap().unwrap();
        assert_eq!(
            package.application().unwrap_err().to_string(),
            "the package has no image 0, which is the application"
        );
    }

    #[test]
    fn a_package_of_nrfutil_is_not_an_sdk_package() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/vectors/packages/small-2.0.0.zip"
        );
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(SdkPackage::read(&bytes).unwrap(), None);
        assert!(!is_sdk_package(&bytes));
    }
}
