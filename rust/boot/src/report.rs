// SPDX-License-Identifier: Apache-2.0
//! What a boot did, as the numbers that the application is left.

use bledfu_slot::verify::VerifyError;
use bledfu_slot::{HeaderError, SwapType};
use bledfu_swap::{BootAction, BootError, BootReport, SkipReason};
use bledfu_zephyr::boot::{Action, Reason, Report};

/// The report on a boot.
pub fn of(result: &Result<BootReport, BootError>) -> Report {
    match result {
        Ok(report) => Report {
            failed_records: report.failed_records.min(u32::from(u8::MAX)) as u8,
            ..told(&report.action)
        },
        Err(BootError::NoValidImage { reason, .. }) => nothing(refused(reason)),
        Err(BootError::Flash(_)) => nothing(Reason::Flash),
        Err(_) => nothing(Reason::Layout),
    }
}

fn nothing(reason: Reason) -> Report {
    Report {
        action: Action::NothingToStart,
        reason,
        ..Report::default()
    }
}

fn told(action: &BootAction) -> Report {
    let (action, swap_type, reason) = match action {
        BootAction::None => (Action::None, SwapType::None, Reason::None),
        BootAction::Installed { swap_type, resumed } => {
            let action = if *resumed {
                Action::Resumed
            } else {
                Action::Installed
            };
            (action, *swap_type, Reason::None)
        }
        BootAction::Repaired => (Action::Repaired, SwapType::None, Reason::None),
        BootAction::Rejected { swap_type, reason } => (Action::Rejected, *swap_type, refused(reason)),
        BootAction::Skipped { swap_type, reason } => (Action::Skipped, *swap_type, left(reason)),
        BootAction::Dropped { swap_type, reason } => (Action::Dropped, *swap_type, left(reason)),
        BootAction::TrailerCleared => (Action::TrailerCleared, SwapType::None, Reason::None),
    };
    Report {
        action,
        swap_type: swap_type as u8,
        reason,
        failed_records: 0,
    }
}

fn left(reason: &SkipReason) -> Reason {
    match reason {
        SkipReason::PrimaryTooLarge => Reason::TooLarge,
        SkipReason::PrimaryEmpty => Reason::NoImage,
        SkipReason::AlreadyRuns => Reason::AlreadyRuns,
        SkipReason::NotDue | SkipReason::NotTheImageBefore => Reason::NotBefore,
        SkipReason::EvidenceFailed(_) => Reason::Trust,
        SkipReason::WayBackInvalid | SkipReason::PrimaryInvalid => Reason::Damaged,
        SkipReason::DamagedRequest | SkipReason::StaleJob => Reason::Damaged,
        _ => Reason::Flash,
    }
}

fn refused<E>(error: &VerifyError<E>) -> Reason {
    match error {
        VerifyError::Flash(_) => Reason::Flash,
        VerifyError::Header(
            HeaderError::WrongAddress { .. } | HeaderError::WrongSlot { .. } | HeaderError::RamLoad,
        ) => Reason::WrongAddress,
        VerifyError::Header(_) | VerifyError::Misplaced => Reason::NoImage,
        VerifyError::TooLarge => Reason::TooLarge,
        VerifyError::NotSigned | VerifyError::BadSignature => Reason::Signature,
        VerifyError::TakenBack => Reason::TakenBack,
        VerifyError::Older | VerifyError::SecurityCounter => Reason::Older,
        _ => Reason::Damaged,
    }
}
