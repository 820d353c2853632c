// SPDX-License-Identifier: Apache-2.0
//! The folder of a device.
//!
//! ```text
//! factory.sha256   digest of the factory image, which stays trusted whoever signed it
//! internal.bin     the processor's flash, primary slot included
//! device.json      what the flashes are and how the boot stage installs, for `bledfu inspect`
//! external.bin     the external flash
//! ```
//! A new folder gets them in this order, each whole or not at all. A folder is a device once it has `internal.bin`:
//! without it a start begins again, and a folder that has it is never overwritten.

use std::path::Path;

use anyhow::{bail, Context, Result};
use bledfu_explain::inspect::folder::read_digest;
pub use bledfu_explain::inspect::folder::{Settings, EXTERNAL, INTERNAL, RECORD, SETTINGS};
use bledfu_sim::device::{image_digest, BoardOf, Setup};
use bledfu_sim::nor::Units;
use bledfu_sim::power::Power;

/// The parameters of the last `bledfu serve` in `folder`; `None` if none are stored.
///
/// # Errors
/// One sentence about a file that cannot be used.
pub fn settings(folder: &Path) -> Result<Option<Settings>> {
    let path = folder.join(SETTINGS);
    if !exists(&path)? {
        return Ok(None);
    }
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let settings = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
    Ok(Some(settings))
}

/// The digest of the factory image in `folder`, if there is one.
///
/// # Errors
/// One sentence about a file that cannot be used.
pub fn factory_digest(folder: &Path) -> Result<Option<[u8; 32]>> {
    let record = folder.join(RECORD);
    if !exists(&record)? {
        return Ok(None);
    }
    let text =
        std::fs::read_to_string(&record).with_context(|| format!("cannot read {}", record.display()))?;
    match read_digest(&text) {
        Some(digest) => Ok(Some(digest)),
        None => bail!("{} does not hold a SHA-256", record.display()),
    }
}

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
            .context("the image for the primary slot cannot be used")?;
        let digest = image_digest(factory).unwrap_or_default();
        put(&record, format!("{}\n", to_hex(&digest)).as_bytes())?;
        put(&internal, &blank.internal.contents())?;
    } else if let Some(digest) = factory_digest(folder)? {
        if !setup.keys.trusted_digests.contains(&digest) {
            log::info!(
                "{} has a factory image of its own; it stays valid",
                folder.display()
            );
            setup.keys.trusted_digests = vec![digest].leak();
        }
    }
    let settings = Settings::of(&setup);
    if self::settings(folder).ok().flatten().as_ref() != Some(&settings) {
        put(
            &folder.join(SETTINGS),
            serde_json::to_string(&settings)?.as_bytes(),
        )?;
    }
    Ok(BoardOf::open(setup, power, folder)?)
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists()
        .with_context(|| format!("cannot look at {}", path.display()))
}

/// Writes a file whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, bytes)
        .and_then(|()| std::fs::rename(&fresh, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn to_hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
