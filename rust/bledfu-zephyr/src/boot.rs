// SPDX-License-Identifier: Apache-2.0
//! The boot stage's entry point, and what it tells the application it starts.

use crate::abi;

/// What a boot did (`enum bledfu_boot_action` of `bledfu.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// Nothing was asked for.
    #[default]
    None = 0,
    /// An image was installed.
    Installed = 1,
    /// An install that an earlier boot had begun was finished.
    Resumed = 2,
    /// An invalid primary slot was repaired with another valid image.
    Repaired = 3,
    /// The update was refused and erased.
    Rejected = 4,
    /// The update was left alone; the next boot looks at it again.
    Skipped = 5,
    /// A trailer without an image was erased.
    TrailerCleared = 6,
    /// There is no image to start.
    NothingToStart = 7,
    /// A request that can never be carried out was taken down.
    Dropped = 8,
}

/// Why it did not do more (`enum bledfu_boot_reason` of `bledfu.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// There was no more to do.
    #[default]
    None = 0,
    /// A flash failed.
    Flash = 1,
    /// There is no image where one should be.
    NoImage = 2,
    /// An image is too large for its slot.
    TooLarge = 3,
    /// The SHA-256 or the TLVs are wrong.
    Damaged = 4,
    /// The signature is missing, wrong, or not of a known key.
    Signature = 5,
    /// The version or the security counter is lower than the running image's.
    Older = 6,
    /// The partitions cannot be used with this build.
    Layout = 7,
    /// The image is linked for another slot or another processor.
    WrongAddress = 8,
    /// The image is the one that runs.
    AlreadyRuns = 9,
    /// The image to go back to is not the one that ran before, or nothing inside asks to go back.
    NotBefore = 10,
    /// The image was taken back three times.
    TakenBack = 11,
    /// The trust area takes no record.
    Trust = 12,
}

/// What is left for the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was done.
    pub action: Action,
    /// What was asked for, as MCUboot counts: 1 nothing, 2 test, 3 permanent, 4 revert; 0 if it is not known.
    pub swap_type: u8,
    /// Why not more.
    pub reason: Reason,
    /// Status records that the flash refused, 255 or more as 255.
    pub failed_records: u8,
}

/// The result of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where in the primary slot the image to start has its vectors, in bytes; `None` if there is none.
    pub start: Option<u32>,
    /// What was done.
    pub report: Report,
}

impl Outcome {
    /// As the ABI wants it: the start, 0 if there is none, in the low half; the report, action lowest, in the high half.
    pub fn to_abi(self) -> u64 {
        let Report {
            action,
            swap_type,
            reason,
            failed_records,
        } = self.report;
        let report = u32::from_le_bytes([action as u8, swap_type, reason as u8, failed_records]);
        u64::from(report) << 32 | u64::from(self.start.unwrap_or(0))
    }
}

/// What the boot image does when C calls it.
pub trait Stage {
    /// Decides, installs and verifies.
    fn boot() -> Outcome;
}

/// Feeds a running watchdog.
pub fn feed() {
    // SAFETY: no arguments.
    unsafe { abi::bledfu_shim_boot_feed() }
}

/// Waits 10 ms: an external flash that was read wrongly may be read right then.
pub fn wait() {
    // SAFETY: no arguments.
    unsafe { abi::bledfu_shim_boot_wait() }
}

/// The end of a boot stage that panics: nothing is started, and a watchdog that runs is not fed.
pub fn stop() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Gives C its entry point `bledfu_rs_boot` (`bledfu_shim.h`) into a [`Stage`].
#[macro_export]
macro_rules! export_boot {
    ($stage:ty) => {
        /// See `bledfu_shim.h`.
        #[no_mangle]
        pub extern "C" fn bledfu_rs_boot() -> u64 {
            <$stage as $crate::boot::Stage>::boot().to_abi()
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    struct Refuses;

    impl Stage for Refuses {
        fn boot() -> Outcome {
            feed();
            Outcome {
                start: Some(0x200),
                report: Report {
                    action: Action::Rejected,
                    swap_type: 2,
                    reason: Reason::Signature,
                    failed_records: 9,
                },
            }
        }
    }

    crate::export_boot!(Refuses);

    #[test]
    fn c_learns_where_to_start_and_what_was_done() {
        let device = fake::device();
        assert_eq!(bledfu_rs_boot(), 0x0905_0204_0000_0200);
        assert_eq!(device.feeds(), 1);
        let nothing = Outcome {
            start: None,
            report: Report::default(),
        };
        assert_eq!(nothing.to_abi(), 0);
    }
}
