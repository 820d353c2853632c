// SPDX-License-Identifier: Apache-2.0
//! Firmware versions as packages count them: one number, `major << 24 | minor << 16 | patch << 8 | tweak`, the rule of
//! `CONFIG_BLEDFU_FW_VERSION`.

use std::fmt;
use std::str::FromStr;

use anyhow::{bail, Context, Result};
use bledfu_slot::ImageHeader;

use crate::args::parse_u32;

/// A firmware version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub u32);

impl Version {
    /// Of its four parts.
    fn of(parts: [u32; 4]) -> Result<Self> {
        let mut bytes = [0; 4];
        for (byte, part) in bytes.iter_mut().zip(parts) {
            *byte = u8::try_from(part).map_err(|_| {
                anyhow::anyhow!("{part} does not fit a part of the version, which ends at 255")
            })?;
        }
        Ok(Self(u32::from_be_bytes(bytes)))
    }

    /// The version in an MCUboot image header.
    ///
    /// # Errors
    /// A sentence: no header, or a part above 255.
    pub fn in_header(image: &[u8]) -> Result<Self> {
        let header = ImageHeader::parse(image).map_err(|error| anyhow::anyhow!("{error}"))?;
        let version = header.version;
        Self::of([
            version.major.into(),
            version.minor.into(),
            version.revision.into(),
            version.build,
        ])
        .with_context(|| format!("the image has version {version}"))
    }

    /// The version in a VERSION file: Zephyr's form, or one line such as `1.2.3`.
    ///
    /// # Errors
    /// A sentence.
    pub fn in_file(text: &str) -> Result<Self> {
        let mut parts = [None; 4];
        for line in text.lines() {
            let Some((name, value)) = line.split_once('=') else {
                continue;
            };
            let place = ["VERSION_MAJOR", "VERSION_MINOR", "PATCHLEVEL", "VERSION_TWEAK"]
                .iter()
                .position(|known| *known == name.trim());
            let value = value.trim();
            match place.and_then(|place| parts.get_mut(place)) {
                // Zephyr takes an empty tweak for 0.
                Some(part) if value.is_empty() => *part = Some(0),
                Some(part) => {
                    *part = Some(value.parse().map_err(|_| {
                        anyhow::anyhow!("{} is {value:?}, which is not a number", name.trim())
                    })?);
                }
                None => {}
            }
        }
        if let [Some(major), Some(minor), Some(patch), tweak] = parts {
            return Self::of([major, minor, patch, tweak.unwrap_or(0)]);
        }
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        match (lines.next(), lines.next()) {
            (Some(line), None) => Self::dotted(line),
            _ => bail!(
                "it has no VERSION_MAJOR, VERSION_MINOR and PATCHLEVEL, and is not one line such as 1.2.3"
            ),
        }
    }

    /// `1.2.3` or `1.2.3+4`.
    fn dotted(text: &str) -> Result<Self> {
        let (version, tweak) = text.split_once('+').unwrap_or((text, "0"));
        let mut parts = version.split('.').chain([tweak]).map(|part| {
            part.parse()
                .map_err(|_| anyhow::anyhow!("{text:?} is not a version such as 1.2.3 or 1.2.3+4"))
        });
        match (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) {
            (Some(major), Some(minor), Some(patch), Some(tweak), None) => {
                Self::of([major?, minor?, patch?, tweak?])
            }
            _ => bail!("{text:?} is not a version such as 1.2.3 or 1.2.3+4"),
        }
    }
}

impl FromStr for Version {
    type Err = String;

    /// A number, or a version with points; the error is a sentence.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.contains('.') {
            true => Self::dotted(text).map_err(|error| error.to_string()),
            false => parse_u32(text).map(Self),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch, tweak] = self.0.to_be_bytes();
        write!(f, "{major}.{minor}.{patch}")?;
        match tweak {
            0 => Ok(()),
            tweak => write!(f, "+{tweak}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number_or_its_four_parts() {
        assert_eq!("33554432".parse(), Ok(Version(0x0200_0000)));
        assert_eq!("0x10".parse(), Ok(Version(16)));
        assert_eq!("2.0.0".parse(), Ok(Version(0x0200_0000)));
        assert_eq!("1.2.3+4".parse(), Ok(Version(0x0102_0304)));
        assert_eq!(Version(0x0102_0304).to_string(), "1.2.3+4");
        for (bad, why) in [
            ("1.2", "not a version such as"),
            ("1.2.3.4", "not a version such as"),
            ("1.2.x", "not a version such as"),
            ("1.2.256", "256 does not fit"),
            ("two", "not a number"),
        ] {
            let error = bad.parse::<Version>().unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn a_version_file_is_zephyrs_or_one_line() {
        let zephyr =
            "VERSION_MAJOR = 1\nVERSION_MINOR = 2\nPATCHLEVEL = 3\nVERSION_TWEAK =\nEXTRAVERSION = rc1\n";
        assert_eq!(Version::in_file(zephyr).unwrap(), Version(0x0102_0300));
        assert_eq!(
            Version::in_file(&zephyr.replace("TWEAK =", "TWEAK = 9")).unwrap(),
            Version(0x0102_0309)
        );
        assert_eq!(Version::in_file("\n1.2.3\n").unwrap(), Version(0x0102_0300));
        for (bad, why) in [
            ("", "no VERSION_MAJOR"),
            ("VERSION_MAJOR = 1\nPATCHLEVEL = 3\n", "no VERSION_MAJOR"),
            (&zephyr.replace("= 2", "= two"), "is \"two\""),
            (&zephyr.replace("= 2", "= 300"), "300 does not fit"),
        ] {
            let error = format!("{:#}", Version::in_file(bad).unwrap_err());
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
