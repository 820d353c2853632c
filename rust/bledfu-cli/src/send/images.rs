// SPDX-License-Identifier: Apache-2.0
//! Single requests of SMP on a transport: which images a device has, and which one runs.

use std::time::{Duration, Instant};

use bledfu_client::Characteristic;
pub use bledfu_sender::images::{running, Image, NoAnswer};
use bledfu_sender::images::{Asking, Question, ANSWER_MS, TRIES};

use super::transport::{LinkError, Transport};

/// How long a device may take for an answer.
const ANSWER_PATIENCE: Duration = Duration::from_millis(ANSWER_MS as u64);

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The transport.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The device.
    #[error(transparent)]
    Device(#[from] NoAnswer),
}

/// Asks with the writes that `payload` allows.
pub struct Asker<'a> {
    transport: &'a mut dyn Transport,
    payload: usize,
    sequence: u8,
}

impl<'a> Asker<'a> {
    /// On an open link with SMP.
    pub fn new(transport: &'a mut dyn Transport, payload: usize) -> Self {
        Self {
            transport,
            payload,
            sequence: 0x80,
        }
    }

    /// The images of the application, the running one first.
    ///
    /// # Errors
    /// [`AskError`]
    pub fn list(&mut self) -> Result<Vec<Image>, AskError> {
        self.ask(&Question::List)
    }

    /// Makes the image with this hash permanent. Returns the list after it.
    ///
    /// # Errors
    /// [`AskError`]
    pub fn confirm(&mut self, hash: &[u8; 32]) -> Result<Vec<Image>, AskError> {
        self.ask(&Question::Confirm(hash))
    }

    fn ask(&mut self, question: &Question<'_>) -> Result<Vec<Image>, AskError> {
        let mut asking = Asking::new(question, self.sequence)?;
        self.sequence = self.sequence.wrapping_add(1);
        for _ in 0..TRIES {
            for fragment in asking.request().chunks(self.payload.max(1)) {
                self.transport.write(Characteristic::Smp, fragment)?;
            }
            let until = Instant::now() + ANSWER_PATIENCE;
            while Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                let Some(fragment) = self.transport.receive(left)? else {
                    break;
                };
                if let Some(answer) = asking.received(&fragment) {
                    return Ok(answer?);
                }
            }
        }
        Err(asking.silent().into())
    }
}
