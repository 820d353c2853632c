// SPDX-License-Identifier: Apache-2.0
//! What is sent: the package or the image in a file, read as the other commands read it.

use anyhow::{bail, Result};
use bledfu_client::{secure_dfu, smp};
use bledfu_explain::{kind, packed};
use bledfu_sim::device::image_digest;
use bledfu_sim::package::Package;
use bledfu_sim::phone::secure_dfu::parts;
use bledfu_slot::ImageHeader;
use sha2::{Digest, Sha256};

use crate::Protocol;

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
    /// For a packed update, the hash of the image that it makes, which is listed once that is confirmed.
    pub makes: Option<[u8; 32]>,
    /// For a packed update, the hash of the image that must be running; `None` if it expands on any device.
    pub base: Option<[u8; 32]>,
    /// Its version.
    pub version: String,
}

impl Image {
    /// Whether a device that lists this hash has this image, or what this packed update makes.
    pub fn is_listed_as(&self, hash: Option<[u8; 32]>) -> bool {
        hash.is_some() && (hash == Some(self.hash) || hash == self.makes)
    }

    fn of(bytes: Vec<u8>) -> Result<Self> {
        let header = ImageHeader::parse(&bytes).ok();
        match (header, image_digest(&bytes)) {
            (Some(header), Some(hash)) => {
                let packed = packed::read(&bytes).ok();
                Ok(Self {
                    hash,
                    makes: packed.as_ref().map(|packed| packed.out_hash),
                    base: packed.and_then(|packed| packed.base),
                    version: header.version.to_string(),
                    bytes,
                })
            }
            _ => bail!("the file is not an image for MCUboot; sign it with imgtool first"),
        }
    }
}

impl File {
    /// A file with this name and content. It can be sent over `protocol`, or over any one without it.
    ///
    /// # Errors
    /// A sentence: what the file is, and what to do.
    pub fn new(name: &str, bytes: Vec<u8>, protocol: Option<Protocol>) -> Result<Self> {
        let name = name.to_owned();
        let package = kind::package_in(&name, &bytes);
        let image = kind::image_in(&name, bytes).and_then(Image::of);
        let file = Self { name, package, image };
        match protocol {
            Some(protocol) => file.check(protocol),
            // Firmware without an image header may still be in a package for Secure DFU.
            None if file.package.is_ok() => Ok(()),
            None => file.check(Protocol::Smp),
        }?;
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

    /// What is wrong with the file itself, or with sending it to a device that runs the image with this hash: a device can only
    /// return a code.
    pub fn problem(&self, running: Option<[u8; 32]>) -> Option<String> {
        if let Ok(package) = &self.package {
            if let Err(error) = package.check() {
                return Some(error.to_string());
            }
        }
        let image = self.image()?;
        kind::image_problem(&image.bytes).or_else(|| image.wrong_base(running))
    }
}

impl Image {
    fn wrong_base(&self, running: Option<[u8; 32]>) -> Option<String> {
        let is_wrong = self.base? != running?;
        is_wrong.then(|| packed::BaseRefusal::OtherImage.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_update_for_another_image_is_named_and_others_are_not() {
        let image = |base| Image {
            bytes: Vec::new(),
            hash: [1; 32],
            makes: None,
            base,
            version: "2.0.0".to_owned(),
        };
        let named = image(Some([2; 32])).wrong_base(Some([3; 32]));
        assert!(named.is_some_and(|text| text.contains("another image than the one that runs")));
        assert_eq!(image(Some([2; 32])).wrong_base(Some([2; 32])), None);
        assert_eq!(image(Some([2; 32])).wrong_base(None), None, "not known");
        assert_eq!(image(None).wrong_base(Some([3; 32])), None, "a full image");
    }
}
