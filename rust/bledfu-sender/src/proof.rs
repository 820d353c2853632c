// SPDX-License-Identifier: Apache-2.0
//! Which version runs after an update, in the device's own words.
//!
//! 1. The list of images of SMP, if the device offers it: by the hash of the image.
//! 2. The init packet again: a device that knows its firmware answers that nothing is missing.
//! 3. The firmware revision that the device tells beside the protocols.

use std::fmt::Display;

use anyhow::{bail, Result};

use crate::file::{File, Image as Sent};
use crate::images::{running, Image};

/// A device that was told to reset is given this long before it is looked for, in ms.
pub const RESET_MS: u32 = 1_500;
/// How often the list of images is asked again, in ms.
pub const AGAIN_MS: u32 = 1_000;
/// How long a version that confirms itself may take for it, if the device refuses to be told, in ms.
pub const SELF_TEST_MS: u32 = 10_000;

/// A device that cannot be asked at all.
pub const NOT_ASKED: &str = "the device has taken the update, but it cannot be asked whether it runs";
/// A device that wants the same package again.
pub const WANTS_AGAIN: &str =
    "the device asks for the whole update again: the boot stage refused the new version, it did not run \
                               well and the old one was restored, or this device never tells";

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    /// The version.
    pub version: String,
    /// Whether it stays at the next reset, as far as the device tells.
    pub is_confirmed: Option<bool>,
    /// What shows it.
    pub how: &'static str,
}

/// What a list of images says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// The new version runs; whether it is confirmed.
    Runs(bool),
    /// The next reset installs it.
    Waits,
}

/// Whether the image that was sent runs. `may_wait`: a reset may still come.
///
/// # Errors
/// A sentence: what runs instead.
pub fn by_list(images: &[Image], sent: &Sent, may_wait: bool) -> Result<Listed> {
    let Some(now) = running(images) else {
        bail!("the device lists no image");
    };
    if sent.is_listed_as(now.hash) {
        return Ok(Listed::Runs(now.is_confirmed));
    }
    let is_waiting = images
        .iter()
        .any(|other| sent.is_listed_as(other.hash) && other.is_pending);
    if is_waiting && may_wait {
        return Ok(Listed::Waits);
    }
    bail!(
        "the device runs {}, not {}: {}",
        now.version,
        sent.version,
        if is_waiting {
            "it has not been reset; the next reset installs the new version"
        } else {
            "the boot stage refused the new version, or it did not run well and the old one was restored"
        }
    );
}

/// The hash by which the device lists the image that runs, to confirm it: for a packed update that of its file or of its image.
pub fn listed_hash(images: &[Image], sent: &Sent) -> [u8; 32] {
    running(images)
        .and_then(|now| now.hash)
        .filter(|hash| sent.is_listed_as(Some(*hash)))
        .unwrap_or(sent.hash)
}

/// What the list of images has shown.
pub fn listed(sent: &Sent, is_confirmed: bool) -> Runs {
    Runs {
        version: sent.version.clone(),
        is_confirmed: Some(is_confirmed),
        how: "the list of images",
    }
}

/// The answer to a confirmation: whether the image is confirmed now.
///
/// # Errors
/// A sentence: it runs, but it is not.
pub fn confirmed(images: &[Image], sent: &Sent) -> Result<Runs> {
    match running(images).is_some_and(|now| now.is_confirmed) {
        true => Ok(listed(sent, true)),
        false => bail!("{} runs, but it is not confirmed", sent.version),
    }
}

/// The sentence for a device that refuses to confirm an image, which does not confirm itself either.
pub fn on_trial(sent: &Sent, refused: &dyn Display) -> String {
    format!("{} runs, but only on trial: {refused}", sent.version)
}

/// The device has taken the same package again without a byte of it.
pub fn repeated(file: &File) -> Runs {
    Runs {
        version: file.version().to_owned(),
        is_confirmed: None,
        how: "the answer to the same package",
    }
}

/// The sentence for a device that fails when it is sent the same package again.
pub fn untold(error: &dyn Display) -> String {
    format!("the device has taken the update, but does not tell whether it runs: {error}")
}

/// What the firmware revision shows that a device tells.
///
/// # Errors
/// A sentence: it tells none, or another one.
pub fn by_revision(told: Option<&str>, file: &File) -> Result<Runs> {
    let Some(told) = told else {
        bail!(
            "the device has taken the update and runs an application again, but does not tell which version"
        );
    };
    match file.image() {
        Some(image) if told.contains(&image.version) => Ok(Runs {
            version: image.version.clone(),
            is_confirmed: None,
            how: "the device's firmware revision",
        }),
        _ => bail!(
            "the device has taken the update and tells the firmware revision {told:?}, which is not {}",
            file.version()
        ),
    }
}
