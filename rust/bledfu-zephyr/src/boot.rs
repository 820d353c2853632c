// SPDX-License-Identifier: Apache-2.0
//! The boot stage's entry point, and its report to the application that it starts.

use crate::abi;

/// What a boot did (`enum bledfu_boot_action` of `bledfu.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// There was no request.
    #[default]
    None = 0,
    /// An image was installed.
    Installed = 1,
    /// An install that an earlier boot had begun was completed.
    Resumed = 2,
    /// An invalid image in the primary slot was replaced with another valid one.
    Repaired = 3,
    /// The update was refused and erased.
    Rejected = 4,
    /// The update was left as it is; the next boot looks at it again.
    Skipped = 5,
    /// A trailer without an image was erased.
    TrailerCleared = 6,
    /// There is no image to start.
    NothingToStart = 7,
    /// A request that can never be carried out was removed.
    Dropped = 8,
}

/// Why it did not do more (`enum bledfu_boot_reason` of `bledfu.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// There was nothing more to do.
    #[default]
    None = 0,
    /// A flash access failed.
    Flash = 1,
    /// An image is missing where one should be.
    NoImage = 2,
    /// An image is too large for its slot.
    TooLarge = 3,
    /// The SHA-256 or the TLVs are wrong.
    Damaged = 4,
    /// The signature is missing, wrong, or made with an unknown key.
    Signature = 5,
    /// The version or the security counter is lower than the running image's.
    Older = 6,
    /// The partitions do not suit this build.
    Layout = 7,
    /// The image is linked for another slot or another processor.
    WrongAddress = 8,
    /// The image is the running one.
    AlreadyRuns = 9,
    /// The image to go back to is not the one that ran before, or no internal record asks to go back.
    NotBefore = 10,
    /// The image was taken back three times.
    TakenBack = 11,
    /// The trust area cannot store a record.
    Trust = 12,
}

/// The report for the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was done.
    pub action: Action,
    /// The request, as MCUboot numbers it: 1 none, 2 test, 3 permanent, 4 revert; 0 if unknown.
    pub swap_type: u8,
    /// Why no more was done.
    pub reason: Reason,
    /// Status records that the flash refused; 255 means 255 or more.
    pub failed_records: u8,
}

/// The result of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Offset of the vector table of the image to start in the primary slot, in bytes; `None` if there is no image.
    pub start: Option<u32>,
    /// The report.
    pub report: Report,
}

impl Outcome {
    /// The ABI's form: the start (0 if there is none) in the low half; the report, with the action lowest, in the high
    /// half.
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

/// Waits 10 ms: an external flash that was read wrongly may then be read correctly.
pub fn wait() {
    // SAFETY: no arguments.
    unsafe { abi::bledfu_shim_boot_wait() }
}

/// The end of a boot stage that panics: nothing is started, and a running watchdog is no longer fed.
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
    fn c_receives_the_start_and_the_report() {
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
