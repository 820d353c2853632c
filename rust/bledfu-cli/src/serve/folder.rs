// SPDX-License-Identifier: Apache-2.0
//! The folder a device lives in.
//!
//! ```text
//! factory.sha256   digest of the factory image, which stays valid whoever signed it
//! internal.bin     the processor's flash, primary slot included
//! external.bin     the external flash
//! ```
//! A new folder gets them in this order, each whole or not at all. `internal.bin` is what makes a device of it: without
//! it a start begins anew, and a folder that has it is never programmed over.

use std::path::Path;

use anyhow::{bail, Context, Result};
use bledfu_sim::device::{image_digest, BoardOf, Setup};
use bledfu_sim::nor::Units;
use bledfu_sim::power::Power;

const INTERNAL: &str = "internal.bin";
const RECORD: &str = "factory.sha256";

/// Opens the device in `folder`; an empty folder becomes a new device with `factory` in its primary slot.
///
/// # Errors
/// One sentence about the file that cannot be used, or the factory image that cannot be started.
pub fn open<I: Units, X: Units>(
    mut setup: Setup,
    factory: &[u8],
    folder: &Path,
    power: &Power,
) -> Result<BoardOf<I, X>> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let record = folder.join(RECORD);
    let internal = folder.join(INTERNAL);
    if !exists(&internal)? {
        let blank = BoardOf::<I, X>::new(setup, &Power::new())?;
        blank.program_factory(factory)?;
        blank
            .boot()
            .context("the image for the primary slot is of no use")?;
        let digest = image_digest(factory).unwrap_or_default();
        put(&record, format!("{}\n", to_hex(&digest)).as_bytes())?;
        put(&internal, &blank.internal.contents())?;
    } else if exists(&record)? {
        let text =
            std::fs::read_to_string(&record).with_context(|| format!("cannot read {}", record.display()))?;
        let Some(digest) = from_hex(text.trim()) else {
            bail!("{} does not hold a SHA-256", record.display());
        };
        if !setup.keys.trusted_digests.contains(&digest) {
            log::info!(
                "{} has a factory image of its own; it stays valid",
                folder.display()
            );
            setup.keys.trusted_digests = vec![digest].leak();
        }
    }
    Ok(BoardOf::open(setup, power, folder)?)
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists()
        .with_context(|| format!("cannot look at {}", path.display()))
}

/// Writes a file that is there whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, bytes)
        .and_then(|()| std::fs::rename(&fresh, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn to_hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}
