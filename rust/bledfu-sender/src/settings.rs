// SPDX-License-Identifier: Apache-2.0
//! How the clients behave when a person waits for them.

use bledfu_client::{secure_dfu, smp};

/// How long a device may take for an answer over Secure DFU: the last Execute of a packed update takes 4 s.
pub const DFU_ANSWER_MS: u32 = 12_000;
/// How often a client goes on by itself after a lost link.
const RECONNECTS: u8 = 50;
/// Pause before it connects again, in ms.
pub const RECONNECT_MS: u32 = 500;

/// How the client behaves over Secure DFU: it checks every object, and goes on by itself.
pub fn secure_dfu(receipts: u16) -> secure_dfu::Settings {
    secure_dfu::Settings {
        receipts,
        answer_timeout_ms: DFU_ANSWER_MS,
        forgives_resume: true,
        retries: RECONNECTS,
        reconnect_ms: RECONNECT_MS,
        ..secure_dfu::Settings::nrfutil()
    }
}

/// How the client behaves over SMP. The confirmation comes after the proof that the new version runs: an image that the device has
/// taken back must not be made permanent.
pub fn smp(window: u8, frame_margin: u8) -> smp::Settings {
    smp::Settings {
        mode: smp::Mode::TestOnly,
        window,
        frame_margin,
        on_connect: &[smp::Probe::Parameters],
        introduction: &[],
        before_install: &[],
        tries: 3,
        pause_between_tries_ms: 500,
        reconnect_ms: RECONNECT_MS,
        ..smp::Settings::android()
    }
}

/// Whether a new attempt may go on where this one over Secure DFU stopped.
pub const fn is_temporary_dfu(error: &secure_dfu::Error) -> bool {
    !matches!(error, secure_dfu::Error::Refused { .. })
}

/// The same over SMP.
pub const fn is_temporary_smp(error: &smp::Error) -> bool {
    matches!(
        error,
        smp::Error::LinkLost | smp::Error::Silent(_) | smp::Error::OddAnswer(_)
    )
}
