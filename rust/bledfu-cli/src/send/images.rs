// SPDX-License-Identifier: Apache-2.0
//! Single requests of SMP: which images a device has, and which one runs.

use std::time::{Duration, Instant};

use bledfu_client::Characteristic;
use bledfu_wire::image_group;
use bledfu_wire::smp::{encode_request, Header, Request, Version};
use bledfu_wire::smp_answer::{Answer, ServerError};

use super::transport::{LinkError, Transport};

/// How long a device may take for an answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Number of times a request is sent.
const TRIES: u32 = 3;
/// Longest request of this module.
const REQUEST_SIZE: usize = 128;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The transport.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Silence.
    #[error("the device did not answer {0} in time")]
    Silent(&'static str),
    /// The device refuses.
    #[error("the device refused {0}: {1}")]
    Refused(&'static str, ServerError),
    /// The answer is none.
    #[error("the device answered {0} with something else")]
    Odd(&'static str),
}

/// An image on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// 0 is the primary slot.
    pub slot: u32,
    /// Its version.
    pub version: String,
    /// The hash in its TLVs.
    pub hash: Option<[u8; 32]>,
    /// It runs.
    pub is_active: bool,
    /// It stays at the next reset.
    pub is_confirmed: bool,
    /// The next reset installs it.
    pub is_pending: bool,
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
        self.images(&image_group::Request::ReadState, "the list of images")
    }

    /// Makes the image with this hash permanent. Returns the list after it.
    ///
    /// # Errors
    /// [`AskError`]
    pub fn confirm(&mut self, hash: &[u8; 32]) -> Result<Vec<Image>, AskError> {
        let request = image_group::Request::WriteState {
            hash: Some(hash),
            confirm: true,
        };
        self.images(&request, "Confirm")
    }

    fn images(
        &mut self,
        request: &image_group::Request<'_>,
        name: &'static str,
    ) -> Result<Vec<Image>, AskError> {
        let frame = self.ask(&Request::Image(*request), name)?;
        let answer = Answer::decode(&frame).map_err(|_| AskError::Odd(name))?;
        if let Some(error) = answer.error {
            return Err(AskError::Refused(name, error));
        }
        let images = answer.images().ok().flatten().ok_or(AskError::Odd(name))?;
        let mut all = Vec::new();
        for image in images {
            let image = image.map_err(|_| AskError::Odd(name))?;
            // Other images of the device are not ours.
            if image.image == 0 {
                all.push(Image {
                    slot: image.slot,
                    version: image.version.to_owned(),
                    hash: image.hash.and_then(|hash| hash.try_into().ok()),
                    is_active: image.active,
                    is_confirmed: image.confirmed,
                    is_pending: image.pending,
                });
            }
        }
        Ok(all)
    }

    fn ask(&mut self, request: &Request<'_>, name: &'static str) -> Result<Vec<u8>, AskError> {
        let mut buffer = [0; REQUEST_SIZE];
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        let length =
            encode_request(Version::V2, sequence, request, &mut buffer).ok_or(AskError::Odd(name))?;
        let asked = Header::decode(&buffer).ok_or(AskError::Odd(name))?;
        for _ in 0..TRIES {
            for fragment in buffer[..length].chunks(self.payload.max(1)) {
                self.transport.write(Characteristic::Smp, fragment)?;
            }
            let until = Instant::now() + ANSWER_PATIENCE;
            let mut frame = Vec::new();
            while Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                let Some(fragment) = self.transport.receive(left)? else {
                    break;
                };
                frame.extend_from_slice(&fragment);
                let Some(header) = Header::decode(&frame) else {
                    frame.clear();
                    continue;
                };
                if frame.len() < header.frame_length() {
                    continue;
                }
                let is_ours = (header.group, header.command, header.sequence)
                    == (asked.group, asked.command, asked.sequence);
                if is_ours {
                    return Ok(frame);
                }
                // A late answer to an earlier request.
                frame.clear();
            }
        }
        Err(AskError::Silent(name))
    }
}
