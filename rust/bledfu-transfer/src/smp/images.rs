// SPDX-License-Identifier: Apache-2.0
//! The image group: the images in the slots, and what runs after the next reset.

use super::{packed_error, refuse_for, HASH_SIZE, VERSION_SIZE};
use crate::doors::ConfirmBy;
use crate::note;
use crate::upload::{Obstacle, Protocol, TransferError, Upload};
use bledfu_slot::areas::Areas;
use bledfu_slot::trailer::SwapType;
use bledfu_slot::verify::{Crypto, Digest, ImageInfo};
use bledfu_slot::Version;
use bledfu_text::{text, words};
use bledfu_wire::image_group::{Error, ImageState};
use bledfu_wire::smp::{Code, Failure};
use heapless::{String, Vec};

/// The images in the slots, and what the next boot does with them.
pub(super) struct Images {
    pub(super) primary: Option<ImageInfo>,
    pub(super) secondary: Option<ImageInfo>,
    pub(super) next: SwapType,
    /// The digest of the packed update of which the running image was made, by which it is listed until a peer saw it confirmed.
    pub(super) running_as: Option<Digest>,
}

impl Images {
    #[inline(never)]
    pub(super) fn read<A: Areas, C: Crypto>(upload: &mut Upload<'_, A, C>) -> Self {
        let outlook = upload.outlook();
        Self {
            primary: upload.primary_image(),
            secondary: upload.listed_file().or_else(|| upload.secondary_image(outlook)),
            next: upload.promised().unwrap_or(outlook.swap_type()),
            running_as: upload.file_of_running(),
        }
    }
}

/// The images in the slots with the flags of the table in `img_mgmt_state.c`.
pub(super) fn list<'v>(
    found: &Images,
    versions: &'v mut [String<VERSION_SIZE>; 2],
    images: &mut Vec<ImageState<'v>, 2>,
) {
    let is_pending = matches!(found.next, SwapType::Test | SwapType::Permanent);
    let reverts = found.next == SwapType::Revert;
    for ((slot, info), version) in (0u8..).zip([&found.primary, &found.secondary]).zip(versions) {
        let Some(info) = info else {
            continue;
        };
        let is_running = slot == 0;
        write_version(version, info.header.version);
        // There are two entries for two slots.
        let _ = images.push(ImageState {
            slot,
            version,
            hash: found.running_as.filter(|_| is_running).unwrap_or(info.digest),
            bootable: true,
            pending: !is_running && is_pending,
            // A new image on trial has not confirmed itself; the other one is then the image to go back to.
            confirmed: is_running != reverts,
            active: is_running,
            permanent: !is_running && found.next == SwapType::Permanent,
        });
    }
}

/// Appends a version as `imgtool` writes it: `1.2.3`, or `1.2.3.4` with a build number. By hand, as `core::fmt` takes 2 KB
/// and is not needed for anything else.
fn write_version(text: &mut String<VERSION_SIZE>, version: Version) {
    let build = Some(version.build).filter(|build| *build != 0);
    let first = [
        version.major.into(),
        version.minor.into(),
        version.revision.into(),
    ];
    for (i, number) in first.into_iter().chain(build).enumerate() {
        // The longest version fits: nothing can fail here.
        if i > 0 {
            let _ = text.push('.');
        }
        let mut scale = 1_000_000_000u32;
        while scale > number.max(1) {
            scale /= 10;
        }
        while scale > 0 {
            let digit = (number / scale % 10) as u8;
            let _ = text.push(char::from(b'0' + digit));
            scale /= 10;
        }
    }
}

/// Whether the peer whose frame is being handled may confirm the running image.
fn may_confirm<A: Areas, C: Crypto>(upload: &Upload<'_, A, C>) -> bool {
    match upload.doors().confirm {
        ConfirmBy::Anybody => true,
        ConfirmBy::Trusted => !upload.is_for_stranger(),
        ConfirmBy::Nobody => false,
    }
}

/// Chooses what runs after the next reset, by the table of smp.md §4.2, which is Zephyr's
/// `img_mgmt_set_next_boot_slot`.
#[inline(never)]
pub(super) fn write_state<A: Areas, C: Crypto>(
    upload: &mut Upload<'_, A, C>,
    (hash, confirm): (Option<&[u8]>, bool),
    now_ms: u64,
) -> Result<(), Failure> {
    let refused = |error| Err(Failure::Image(error));
    let found = Images::read(upload);
    let is = |image: &Option<ImageInfo>, hash: &[u8]| image.is_some_and(|image| image.digest == *hash);
    // An empty hash counts as none: `mcumgr image confirm ""`.
    let is_running = match hash.filter(|hash| !hash.is_empty()) {
        None if confirm => true,
        None => return refused(Error::InvalidHash),
        Some(hash) if hash.len() != HASH_SIZE => return refused(Error::InvalidHash),
        Some(hash) if is(&found.primary, hash) || found.running_as.is_some_and(|known| known == *hash) => {
            true
        }
        Some(hash) if is(&found.secondary, hash) => false,
        Some(_) => return refused(Error::HashNotFound),
    };
    match (is_running, confirm, found.next) {
        (true, false, _) => refused(Error::SettingTestToActiveDenied),
        (true, true, SwapType::Test | SwapType::Permanent) => refused(Error::ImageAlreadyPending),
        // Nothing changes, so no permission is needed; and a stranger causes no write.
        (true, true, _) if upload.running().confirmed && upload.is_for_stranger() => Ok(()),
        (true, true, _) if !upload.running().confirmed && !may_confirm(upload) => {
            note::warn(&words!("the running image is not confirmed for this peer (CONFIG_BLEDFU_SMP_CONFIRM): the product does so, or a paired peer"));
            Err(Failure::Smp(Code::AccessDenied))
        }
        (true, true, next) => match upload.confirm() {
            // Written also where no revert is due: another boot stage may look for the flag.
            Ok(()) => {
                note::info(&words!("the running image is confirmed"));
                Ok(())
            }
            Err(_) if next != SwapType::Revert => Ok(()),
            Err(_) => refused(Error::FlashWriteFailed),
        },
        (false, false, SwapType::Test) | (false, true, SwapType::Permanent | SwapType::Revert) => Ok(()),
        (false, _, next @ (SwapType::Test | SwapType::Permanent | SwapType::Revert)) => {
            let obstacle = match next {
                SwapType::Revert => Obstacle::OnTrial,
                _ => Obstacle::Staged,
            };
            note::warn(&obstacle);
            refused(Error::ImageAlreadyPending)
        }
        (false, true, _) if upload.is_for_stranger() && !upload.doors().permanent_by_strangers => {
            note::warn(&words!("an image is not installed for good for a peer that has not paired (CONFIG_BLEDFU_SMP_PERMANENT): test it"));
            refused(Error::ConfirmationDenied)
        }
        (false, confirm, _) => {
            // The next boot would only remove the request.
            refuse_for(upload.lasting_obstacle())?;
            let swap_type = if confirm {
                SwapType::Permanent
            } else {
                SwapType::Test
            };
            if upload.is_packed() {
                return match upload.ask_packed(swap_type) {
                    // What is to run for good does so.
                    Err(TransferError::Runs) if confirm => Ok(()),
                    Err(error) => {
                        note::warn(&error);
                        refused(packed_error(error))
                    }
                    Ok(()) => Ok(()),
                };
            }
            let info = match upload.request(swap_type) {
                Ok(info) => info,
                Err(TransferError::NotAnImage) => {
                    // While the image is listed, clients request it and do not send it again.
                    if upload.is_free_for(Protocol::Smp, now_ms) && upload.erase(now_ms).is_ok() {
                        note::warn(&words!(
                            "the image in the secondary slot is erased: send it again"
                        ));
                    }
                    return refused(Error::InvalidTlv);
                }
                Err(error @ TransferError::Older) => {
                    note::warn(&error);
                    return refused(Error::CurrentVersionIsNewer);
                }
                Err(error) => {
                    note::error(&error);
                    return refused(Error::FlashWriteFailed);
                }
            };
            note::info(&text!(
                "image {} is staged ({}); reset to install it",
                info.header.version,
                swap_type
            ));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_as_imgtool_writes_them() {
        for (version, expected) in [
            ((0, 0, 0, 0), "0.0.0"),
            ((1, 20, 300, 0), "1.20.300"),
            ((10, 9, 65_535, 7), "10.9.65535.7"),
            ((255, 255, 65_535, u32::MAX), "255.255.65535.4294967295"),
            ((0, 1, 10, 1_000_000_000), "0.1.10.1000000000"),
        ] {
            let (major, minor, revision, build) = version;
            let mut text = String::new();
            let version = Version {
                major,
                minor,
                revision,
                build,
            };
            write_version(&mut text, version);
            assert_eq!(text, expected);
        }
    }
}
