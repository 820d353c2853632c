// SPDX-License-Identifier: Apache-2.0
//! Which version runs after an update, in the device's own words.
//!
//! 1. The list of images of SMP, if the device offers it: by the hash of the image.
//! 2. The init packet again: a device that knows its firmware answers that nothing is missing.
//! 3. The firmware revision that the device tells beside the protocols.

use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use bledfu_client::{secure_dfu, Stage};

use super::drive::Driver;
use super::file::{File, Image};
use super::images::{AskError, Asker};
use super::transport::Offer;
use super::{dfu_settings, is_done, running};
use crate::update::Protocol;

/// A device that was told to reset is given this long before it is looked for.
const RESET: Duration = Duration::from_millis(1_500);
/// How often the list of images is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a version that confirms itself may take for it, if the device refuses to be told.
const SELF_TEST: Duration = Duration::from_secs(10);

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

/// Waits until the new version runs; confirms it, if `confirms`. `resets`: the device was told to.
///
/// # Errors
/// A sentence: what runs instead, or that it is not known.
pub fn prove(
    driver: &mut Driver<'_>,
    file: &File,
    offer: &Offer,
    confirms: bool,
    resets: bool,
) -> Result<Runs> {
    if resets {
        driver.close();
        std::thread::sleep(RESET);
    }
    match file.image() {
        Some(image) if offer.protocols.contains(&Protocol::Smp) => by_list(driver, image, confirms),
        _ => by_repetition(driver, file),
    }
}

fn by_list(driver: &mut Driver<'_>, image: &Image, confirms: bool) -> Result<Runs> {
    let started = Instant::now();
    let mut refused: Option<(Instant, AskError)> = None;
    driver.protocol = Some(Protocol::Smp);
    loop {
        let payload = driver.connect()?;
        let mut asker = Asker::new(driver.transport, payload);
        let listed = asker.list();
        let images = match listed {
            Ok(images) => images,
            // It may still be about to reset.
            Err(AskError::Link(_) | AskError::Silent(_)) if started.elapsed() < driver.patience => {
                driver.close();
                std::thread::sleep(AGAIN);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let Some(now) = running(&images) else {
            bail!("the device lists no image");
        };
        let Some(hash) = now.hash.filter(|hash| image.is_listed_as(hash)) else {
            let is_waiting = images
                .iter()
                .any(|other| other.hash == Some(image.hash) && other.is_pending);
            if is_waiting && started.elapsed() < driver.patience {
                driver.close();
                std::thread::sleep(AGAIN);
                continue;
            }
            bail!(
                "the device runs {}, not {}: {}",
                now.version,
                image.version,
                if is_waiting {
                    "it has not been reset; the next reset installs the new version"
                } else {
                    "the boot stage refused the new version, or it did not run well and the old one was restored"
                }
            );
        };
        let runs = |is_confirmed| Runs {
            version: image.version.clone(),
            is_confirmed: Some(is_confirmed),
            how: "the list of images",
        };
        if now.is_confirmed || !confirms {
            return Ok(runs(now.is_confirmed));
        }
        match asker.confirm(&hash) {
            Ok(images) if running(&images).is_some_and(|now| now.is_confirmed) => return Ok(runs(true)),
            Ok(_) => bail!("{} runs, but it is not confirmed", image.version),
            Err(error @ AskError::Refused(..)) => {
                // A version that tests itself confirms itself.
                let (since, _) = refused.get_or_insert((Instant::now(), error));
                if since.elapsed() > SELF_TEST {
                    if let Some((_, error)) = refused {
                        bail!("{} runs, but only on trial: {error}", image.version);
                    }
                }
            }
            Err(error) if started.elapsed() > driver.patience => return Err(error.into()),
            Err(_) => driver.close(),
        }
        std::thread::sleep(AGAIN);
    }
}

fn by_repetition(driver: &mut Driver<'_>, file: &File) -> Result<Runs> {
    let version = file.version().to_owned();
    let Some(parts) = file.parts() else {
        bail!("the device has taken the update, but it cannot be asked whether it runs");
    };
    let offer = driver.open()?;
    if offer.enters_bootloader || !offer.protocols.contains(&Protocol::SecureDfu) {
        return by_revision(driver, file);
    }
    driver.choose(Protocol::SecureDfu)?;
    let size = parts.application.firmware.len();
    let mut client = secure_dfu::Client::new(secure_dfu::Package::of(parts.application), dfu_settings(0));
    driver.show.mute(true);
    let ended = driver.run(&mut client, &|progress| {
        progress.stage == Stage::Sending && (progress.resumed_at as usize) < size
    });
    driver.show.mute(false);
    match ended {
        Ok(ended) if is_done(ended) => Ok(Runs {
            version,
            is_confirmed: None,
            how: "the answer to the same package",
        }),
        Ok(_) => bail!(
            "the device asks for the whole update again: the boot stage refused the new version, it did not run well and \
             the old one was restored, or this device never tells"
        ),
        Err(error) => bail!("the device has taken the update, but does not tell whether it runs: {error}"),
    }
}

fn by_revision(driver: &mut Driver<'_>, file: &File) -> Result<Runs> {
    let told = driver.transport.told_version();
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
