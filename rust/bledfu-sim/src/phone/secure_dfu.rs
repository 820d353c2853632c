// SPDX-License-Identifier: Apache-2.0
//! Secure DFU clients: the Android library, the iOS library and nrfutil, each a value of
//! [`bledfu_client::secure_dfu::Settings`].

use bledfu_client::secure_dfu::{self, Part, Settings};
use bledfu_client::{Action, Characteristic, UpdateClient};

pub use super::Session;
use super::{DfuLink, PhoneError};
use crate::package::Package;

/// The client's library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phone {
    /// Android-DFU-Library.
    Android,
    /// IOS-DFU-Library.
    Ios,
    /// nrfutil.
    Nrfutil,
}

impl Phone {
    /// The default settings of this client.
    pub const fn settings(self) -> Settings {
        match self {
            Self::Android => Settings::android(),
            Self::Ios => Settings::ios(),
            Self::Nrfutil => Settings::nrfutil(),
        }
    }

    /// The same with a receipt after this many packets; 0: none.
    pub const fn with_receipts(self, receipts: u16) -> Settings {
        Settings {
            receipts,
            ..self.settings()
        }
    }
}

/// The package in the client's form.
pub fn parts(package: &Package) -> secure_dfu::Package<'_> {
    secure_dfu::Package {
        system: package.system.as_ref().map(|(_, system)| part(system)),
        application: part(&package.application),
    }
}

fn part(part: &crate::package::Part) -> Part<'_> {
    Part {
        init: &part.init,
        firmware: &part.firmware,
    }
}

/// One session of a client on any link: from a fresh connection to the answer to the last Execute.
pub struct Client<'l, L> {
    link: &'l mut L,
    settings: Settings,
}

impl<'l, L: DfuLink> Client<'l, L> {
    /// A client on a fresh connection, with a receipt after this many packets; 0: none.
    pub fn new(link: &'l mut L, phone: Phone, receipts: u16) -> Self {
        Self {
            link,
            settings: phone.with_receipts(receipts),
        }
    }

    /// Sends the package, continuing from the device's position. `progress` is called with the image bytes that the
    /// device has executed.
    ///
    /// # Errors
    /// [`PhoneError`].
    pub fn update(self, package: &Package, progress: &mut dyn FnMut(u32)) -> Result<Session, PhoneError> {
        let link = self.link;
        let mut client = secure_dfu::Client::new(parts(package), self.settings);
        let mut session = Session {
            started_ns: link.now_ns(),
            ..Session::default()
        };
        // A link without a clock must still let deadlines pass.
        let mut least_ms = 0;
        let mut before = client.progress();
        client.connected(0, link.payload());
        loop {
            let now_ms = (link.now_ns() / 1_000_000).max(least_ms);
            if client.is_executed() {
                return Ok(session);
            }
            let done = match client.poll(now_ms) {
                Action::Write { to, bytes } => {
                    let bytes = bytes.to_vec();
                    note(&mut session, &mut before, &client, link.now_ns(), progress);
                    match to {
                        Characteristic::ControlPoint => link.control(&bytes),
                        _ => link.packet(&bytes),
                    }
                }
                Action::Wait { until_ms } => match link.notification() {
                    Ok(bytes) => {
                        client.received((link.now_ns() / 1_000_000).max(least_ms), &bytes);
                        Ok(())
                    }
                    Err(PhoneError::NoAnswer(_)) => {
                        least_ms = until_ms;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Action::Pause { until_ms } => {
                    least_ms = until_ms;
                    link.wait_ms(until_ms.saturating_sub(now_ms))
                }
                Action::Disconnect => {
                    client.disconnected(now_ms);
                    Ok(())
                }
                Action::Done => return Ok(session),
                Action::Failed(error) => return Err(error.into()),
                // This function handles only one connection.
                Action::Connect { .. } => return Err(PhoneError::LinkLost),
            };
            match done {
                Ok(()) => {}
                Err(PhoneError::LinkLost) => client.disconnected(now_ms),
                Err(error) => return Err(error),
            }
            note(&mut session, &mut before, &client, link.now_ns(), progress);
        }
    }
}

fn note(
    session: &mut Session,
    before: &mut bledfu_client::Progress,
    client: &secure_dfu::Client<'_>,
    now_ns: u64,
    progress: &mut dyn FnMut(u32),
) {
    let now = client.progress();
    session.note(*before, now, now_ns);
    if now.stage > bledfu_client::Stage::Preparing
        && (now.held != before.held || before.stage == bledfu_client::Stage::Preparing)
    {
        progress(now.held);
    }
    *before = now;
}

/// The CRC-32 of Secure DFU and of zip.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes)
}
