// SPDX-License-Identifier: Apache-2.0
//! SMP clients: nRF Connect Device Manager on Android and iOS, and smpclient, each a value of
//! [`bledfu_client::smp::Settings`].

use bledfu_client::smp;

pub use bledfu_client::smp::Mode;

/// Longest request in bytes that a phone can hold; no device accepts a longer one.
pub const REQUEST_SIZE: usize = 8_192;
/// Android refuses longer answers.
pub const ANSWER_SIZE: usize = 2_508;

/// The client's application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phone {
    /// nRF Connect Device Manager for Android.
    Android,
    /// nRF Connect Device Manager for iOS.
    Ios,
    /// The Python library `smpclient`, used as `smpmgr upgrade --slot 1` does.
    Smpclient,
}

impl Phone {
    /// The default settings of this client.
    pub const fn settings(self) -> smp::Settings {
        match self {
            Self::Android => smp::Settings::android(),
            Self::Ios => smp::Settings::ios(),
            Self::Smpclient => smp::Settings::smpclient(),
        }
    }
}

/// What the user chose.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Whose client it is.
    pub phone: Phone,
    /// The mode of the update.
    pub mode: Mode,
    /// Upload requests in flight, 1 to [`smp::MAX_WINDOW`].
    pub window: usize,
}

impl Settings {
    /// Test and confirm, with the default window of this client.
    pub fn of(phone: Phone) -> Self {
        let settings = phone.settings();
        Self {
            phone,
            mode: settings.mode,
            window: settings.window.into(),
        }
    }

    /// The same for the client.
    pub fn client(&self) -> smp::Settings {
        smp::Settings {
            mode: self.mode,
            window: u8::try_from(self.window.clamp(1, smp::MAX_WINDOW)).unwrap_or(1),
            ..self.phone.settings()
        }
    }
}
