// SPDX-License-Identifier: Apache-2.0
//! Packed updates as files: what is in one, and the releases between which it leads.

use std::fmt::Write as _;

use anyhow::{bail, Result};
use bledfu_patch::Method;
use bledfu_sim::packed::LIMITS;
use bledfu_slot::header::flags;
use bledfu_slot::tlv::SliceFlash;
use bledfu_slot::verify::{verify_image, verify_not_bootable};
use bledfu_slot::{AddressRange, ImageHeader, ImagePolicy, Key, SoftCrypto};
use bledfu_transfer::payload::packed::Packed;
use sha2::{Digest, Sha256};

use crate::kind;

pub use bledfu_transfer::payload::packed::BaseRefusal;

/// What expanding takes: 71 instructions for each byte on a Cortex-M4 (doc/small-updates.md), 1.5 cycles each at 64 MHz, and
/// programming pages of 256 bytes in 0.9 ms.
pub const SECONDS_PER_BYTE: f64 = 71.0 * 1.5 / 64e6 + 0.9e-3 / 256.0;

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An image as it was released: signed, and to be started.
#[derive(Clone, Debug)]
pub struct Release {
    /// The whole file, without padding.
    pub file: Vec<u8>,
    /// Its header.
    pub header: ImageHeader,
    /// Its digest, as `image list` shows it.
    pub digest: [u8; 32],
    /// Its security counter, if it has one.
    pub security_counter: Option<u32>,
    /// Bytes that the digest covers.
    hashed: usize,
}

impl Release {
    /// Reads a file and checks all but its signature.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn read(mut file: Vec<u8>) -> Result<Self> {
        // Padding is no part of a release, and no phone sends it.
        let len = u32::try_from(file.len())?;
        if let Ok(total) = bledfu_slot::verify::image_size(&mut SliceFlash(&file), 0, len) {
            if kind::Behind::of(&file[total as usize..]) == kind::Behind::Nothing {
                file.truncate(total as usize);
            }
        }
        if is_packed(&file) {
            bail!("it is a packed update, not a release");
        }
        if let Some(problem) = kind::image_problem(&file) {
            bail!("{problem}");
        }
        let header = ImageHeader::parse(&file)?;
        let hashed = header.hashed_size()? as usize;
        let Some(covered) = file.get(..hashed) else {
            bail!("the file is cut short");
        };
        let digest: [u8; 32] = Sha256::digest(covered).into();
        // Accepted by its digest: all but the signature is checked.
        let policy = ImagePolicy {
            keys: &[],
            trusted_digests: &[digest],
            unsigned: false,
            address: None,
        };
        let len = file.len() as u32;
        let info = verify_image(&mut SliceFlash(&file), 0, len, len, &policy, &SoftCrypto);
        let info = info.map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self {
            header,
            digest,
            security_counter: info.security_counter,
            hashed,
            file,
        })
    }

    /// What its digest covers: the base of a packed update.
    pub fn covered(&self) -> &[u8] {
        &self.file[..self.hashed]
    }

    /// Whether it is signed with a key.
    pub fn is_signed_by(&self, key: &Key) -> bool {
        let keys = [*key];
        let policy = ImagePolicy {
            keys: &keys,
            trusted_digests: &[],
            unsigned: false,
            address: None,
        };
        let len = self.file.len() as u32;
        verify_image(&mut SliceFlash(&self.file), 0, len, len, &policy, &SoftCrypto).is_ok()
    }

    /// The address for which its header says that it is linked.
    pub fn fixed_address(&self) -> Option<u32> {
        (self.header.flags & flags::ROM_FIXED != 0).then_some(self.header.load_addr)
    }

    /// Whether it can run from a slot at this address, as far as its vector table shows.
    pub fn runs_at(&self, address: u32) -> bool {
        let payload = self.file.get(usize::from(self.header.header_size)..);
        let Some((_, reset_vector)) = payload.and_then(kind::vector_table) else {
            return self.fixed_address().is_none_or(|fixed| fixed == address);
        };
        let slot = AddressRange {
            start: address,
            size: self.file.len() as u32,
        };
        self.header.check_address(reset_vector, slot).is_ok()
    }
}

/// Whether a file is marked as a packed update, right or wrong.
pub fn is_packed(file: &[u8]) -> bool {
    ImageHeader::parse(file).is_ok_and(|header| {
        let kind = kind::ImageKind::of(&header, file);
        matches!(kind, kind::ImageKind::Delta | kind::ImageKind::PackedFull)
    })
}

/// Reads a packed update, without its signature.
///
/// # Errors
/// A sentence about what is wrong with it.
pub fn read(file: &[u8]) -> Result<Packed, String> {
    let len = u32::try_from(file.len()).map_err(|_| "the file is larger than 4 GiB".to_owned())?;
    let total = ImageHeader::parse(file)
        .ok()
        .and_then(|header| bledfu_slot::tlv::TlvWalker::new(&mut SliceFlash(file), 0, &header, len).ok())
        .map_or(len, |tlvs| tlvs.total_size());
    // In packages, images are padded to a multiple of 4.
    let len = if len - total < 4 { total } else { len };
    Packed::read(&mut SliceFlash(file), 0, len, LIMITS).map_err(|error| error.to_string())
}

/// Checks digest and signature of a packed update; without a key, only the digest.
///
/// # Errors
/// A sentence about what is wrong.
pub fn verify(file: &[u8], key: Option<&Key>) -> Result<(), String> {
    let header = ImageHeader::parse(file).map_err(|error| error.to_string())?;
    let hashed = header.hashed_size().map_err(|error| error.to_string())? as usize;
    let covered = file.get(..hashed).ok_or("the file is cut short")?;
    let digest: [u8; 32] = Sha256::digest(covered).into();
    let keys: Vec<Key> = key.into_iter().copied().collect();
    let trusted: &[[u8; 32]] = if keys.is_empty() { &[digest] } else { &[] };
    let policy = ImagePolicy {
        keys: &keys,
        trusted_digests: trusted,
        unsigned: false,
        address: None,
    };
    let checked = verify_not_bootable(
        &mut SliceFlash(file),
        0,
        file.len() as u32,
        &policy,
        &SoftCrypto,
        &digest,
    );
    checked.map(|_| ()).map_err(|error| error.to_string())
}

/// What a packed update is and needs, as named facts.
pub fn facts(packed: &Packed) -> Vec<(&'static str, String)> {
    let pack = &packed.pack;
    let share = 100.0 * f64::from(packed.file_len) / f64::from(pack.out_size);
    let kib = |bytes: u32| bytes.div_ceil(1024);
    let from = match packed.base {
        Some(base) => format!(
            "the image with digest {} (`image list` shows it), {} bytes at {:#010x}; other devices need the full image",
            hex(&base),
            pack.base_len,
            pack.base_addr
        ),
        None => "any image".to_owned(),
    };
    let method = match pack.method {
        Method::Delta => "delta",
        Method::Full => "compressed",
    };
    let ram = 2_620 + 8 * pack.table_entries();
    vec![
        (
            "makes",
            format!("{} bytes, SHA-256 {}, image digest {}", pack.out_size, hex(&packed.out_sha), hex(&packed.out_hash)),
        ),
        ("only from", from),
        (
            "method",
            format!(
                "{method}, format 1, {share:.1} % of the image; needs {:.1} KB of RAM and {} KiB + {} KiB of the slot",
                ram as f64 / 1000.0,
                kib(pack.out_size),
                kib(packed.file_len).next_multiple_of(4)
            ),
        ),
    ]
}
