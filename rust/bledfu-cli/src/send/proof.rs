// SPDX-License-Identifier: Apache-2.0
//! Asks a device which version runs after an update. What its answers mean is in [`bledfu_sender::proof`].

use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use bledfu_client::{secure_dfu, Stage};
pub use bledfu_sender::proof::Runs;
use bledfu_sender::proof::{
    self, by_revision, confirmed, listed_hash, on_trial, repeated, untold, Listed, AGAIN_MS, NOT_ASKED,
    RESET_MS, SELF_TEST_MS, WANTS_AGAIN,
};
use bledfu_sender::settings;

use super::drive::Driver;
use super::file::{File, Image};
use super::images::{AskError, Asker, NoAnswer};
use super::is_done;
use super::transport::Offer;
use crate::update::Protocol;

const RESET: Duration = Duration::from_millis(RESET_MS as u64);
const AGAIN: Duration = Duration::from_millis(AGAIN_MS as u64);
const SELF_TEST: Duration = Duration::from_millis(SELF_TEST_MS as u64);

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
            Err(AskError::Link(_) | AskError::Device(NoAnswer::Silent(_)))
                if started.elapsed() < driver.patience =>
            {
                driver.close();
                std::thread::sleep(AGAIN);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let is_confirmed = match proof::by_list(&images, image, started.elapsed() < driver.patience)? {
            Listed::Runs(is_confirmed) => is_confirmed,
            Listed::Waits => {
                driver.close();
                std::thread::sleep(AGAIN);
                continue;
            }
        };
        if is_confirmed || !confirms {
            return Ok(proof::listed(image, is_confirmed));
        }
        match asker.confirm(&listed_hash(&images, image)) {
            Ok(images) => return confirmed(&images, image),
            Err(error @ AskError::Device(NoAnswer::Refused(..))) => {
                // A version that tests itself confirms itself.
                let (since, _) = refused.get_or_insert((Instant::now(), error));
                if since.elapsed() > SELF_TEST {
                    if let Some((_, error)) = refused {
                        bail!("{}", on_trial(image, &error));
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
    let Some(parts) = file.parts() else {
        bail!("{NOT_ASKED}");
    };
    let offer = driver.open()?;
    if offer.enters_bootloader || !offer.protocols.contains(&Protocol::SecureDfu) {
        return by_revision(driver.transport.told_version().as_deref(), file);
    }
    driver.choose(Protocol::SecureDfu)?;
    let size = parts.application.firmware.len();
    let mut client = secure_dfu::Client::new(
        secure_dfu::Package::of(parts.application),
        settings::secure_dfu(0),
    );
    driver.show.mute(true);
    let ended = driver.run(&mut client, &|progress| {
        progress.stage == Stage::Sending && (progress.resumed_at as usize) < size
    });
    driver.show.mute(false);
    match ended {
        Ok(ended) if is_done(ended) => Ok(repeated(file)),
        Ok(_) => bail!("{WANTS_AGAIN}"),
        Err(error) => bail!("{}", untold(&error)),
    }
}
