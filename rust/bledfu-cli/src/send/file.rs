// SPDX-License-Identifier: Apache-2.0
//! What is sent: the package or the image in a file, read as the other commands read it.

use std::path::Path;

use anyhow::{bail, Context, Result};
use bledfu_client::{secure_dfu, smp};
use bledfu_sim::device::image_digest;
use bledfu_sim::package::Package;
use bledfu_sim::phone::secure_dfu::parts;
use bledfu_slot::ImageHeader;
use sha2::{Digest, Sha256};

use crate::kind;
use crate::update::Protocol;

/// A file that can be sent.
pub struct File {
    /// Its name, for reports.
    pub name: String,
    /// With an init packet: for Secure DFU.
    package: Result<Package>,
    /// An image for MCUboot: for SMP.
    image: Result<Image>,
}

/// An image with what identifies it.
pub struct Image {
    /// The signed image.
    pub bytes: Vec<u8>,
    /// The hash in its TLVs, which the list of images shows.
    pub hash: [u8; 32],
    /// The hash of the image that runs afterwards: another one if this is a packed update.
    pub makes: [u8; 32],
    /// Its version.
    pub version: String,
}

impl Image {
    fn of(bytes: Vec<u8>) -> Result<Self> {
        let header = ImageHeader::parse(&bytes).ok();
        match (header, image_digest(&bytes)) {
            (Some(header), Some(hash)) => Ok(Self {
                hash,
                makes: bledfu_sim::packed::makes(&bytes).unwrap_or(hash),
                version: header.version.to_string(),
                bytes,
            }),
            _ => bail!("the file is not an image for MCUboot; sign it with imgtool first"),
        }
    }

    /// Whether a device that lists this hash runs what the file brings. A packed update is listed by the hash of its file until
    /// somebody saw it confirmed, then by that of its image.
    pub fn is_listed_as(&self, hash: &[u8; 32]) -> bool {
        *hash == self.hash || *hash == self.makes
    }
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// A sentence: what the file is, and what to do.
    pub fn read(path: &Path, protocol: Option<Protocol>) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let package = kind::package_in(&name, &bytes);
        let image = kind::image_in(&name, bytes).and_then(Image::of);
        let file = Self { name, package, image };
        match protocol {
            Some(protocol) => file.check(protocol),
            // Firmware without an image header may still be in a package for Secure DFU.
            None if file.package.is_ok() => Ok(()),
            None => file.check(Protocol::Smp),
        }
        .with_context(|| format!("cannot use {}", path.display()))?;
        Ok(file)
    }

    /// Whether it can be sent over this protocol.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, protocol: Protocol) -> Result<()> {
        let error = match protocol {
            Protocol::SecureDfu => self.package.as_ref().err(),
            Protocol::Smp => self.image.as_ref().err(),
        };
        match error {
            Some(error) => bail!("{error:#}"),
            None => Ok(()),
        }
    }

    /// The image, if it has a header and a digest.
    pub fn image(&self) -> Option<&Image> {
        self.image.as_ref().ok()
    }

    /// The package in the form of the client.
    pub fn parts(&self) -> Option<secure_dfu::Package<'_>> {
        self.package.as_ref().ok().map(parts)
    }

    /// The image in the form of the client.
    pub fn smp_image(&self) -> Option<smp::Image<'_>> {
        self.image().map(|image| smp::Image {
            bytes: &image.bytes,
            sha: Sha256::digest(&image.bytes).into(),
            hash: image.hash,
        })
    }

    /// Bytes of the firmware.
    pub fn size(&self) -> usize {
        match (&self.package, &self.image) {
            (Ok(package), _) => package.application.firmware.len(),
            (_, Ok(image)) => image.bytes.len(),
            _ => 0,
        }
    }

    /// The version of the firmware in words.
    pub fn version(&self) -> &str {
        self.image().map_or("of unknown version", |image| &image.version)
    }

    /// What is wrong with the file itself: a device can only return a code.
    pub fn problem(&self) -> Option<String> {
        if let Ok(package) = &self.package {
            if let Err(error) = package.check() {
                return Some(error.to_string());
            }
        }
        kind::image_problem(&self.image()?.bytes)
    }
}
