// SPDX-License-Identifier: Apache-2.0
//! Single requests of SMP: which images a device has, which one runs, and that it shall stay.

use bledfu_wire::image_group;
use bledfu_wire::smp::{encode_request, Header, Request, Version};
use bledfu_wire::smp_answer::{Answer, ServerError};

/// How long a device may take for an answer, in ms.
pub const ANSWER_MS: u32 = 5_000;
/// Number of times a request is sent.
pub const TRIES: u32 = 3;
/// Longest request of this module.
const REQUEST_SIZE: usize = 128;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
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

/// The image that runs: Zephyr lists it first.
pub fn running(images: &[Image]) -> Option<&Image> {
    images
        .iter()
        .find(|image| image.is_active)
        .or_else(|| images.first())
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question<'a> {
    /// The images of the application.
    List,
    /// Make the image with this hash permanent; the answer is the list after it.
    Confirm(&'a [u8; 32]),
}

impl Question<'_> {
    /// Its name in sentences.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::List => "the list of images",
            Self::Confirm(_) => "Confirm",
        }
    }
}

/// One question, from the request to the answer.
#[derive(Clone, Debug)]
pub struct Asking {
    name: &'static str,
    request: Vec<u8>,
    asked: Header,
    frame: Vec<u8>,
}

impl Asking {
    /// A question with a sequence number that is not in use.
    ///
    /// # Errors
    /// [`NoAnswer::Odd`] if it cannot be encoded.
    pub fn new(question: &Question<'_>, sequence: u8) -> Result<Self, NoAnswer> {
        let odd = || NoAnswer::Odd(question.name());
        let request = match question {
            Question::List => image_group::Request::ReadState,
            Question::Confirm(hash) => image_group::Request::WriteState {
                hash: Some(*hash),
                confirm: true,
            },
        };
        let mut buffer = [0; REQUEST_SIZE];
        let length =
            encode_request(Version::V2, sequence, &Request::Image(request), &mut buffer).ok_or_else(odd)?;
        let asked = Header::decode(&buffer).ok_or_else(odd)?;
        Ok(Self {
            name: question.name(),
            request: buffer.get(..length).ok_or_else(odd)?.to_vec(),
            asked,
            frame: Vec::new(),
        })
    }

    /// The request, to be written in pieces that the link carries; what came before it is forgotten.
    pub fn request(&mut self) -> &[u8] {
        self.frame.clear();
        &self.request
    }

    /// Takes a notification. `Some` with the answer, the running image first, when it is complete.
    pub fn received(&mut self, fragment: &[u8]) -> Option<Result<Vec<Image>, NoAnswer>> {
        self.frame.extend_from_slice(fragment);
        let Some(header) = Header::decode(&self.frame) else {
            self.frame.clear();
            return None;
        };
        if self.frame.len() < header.frame_length() {
            return None;
        }
        let frame = std::mem::take(&mut self.frame);
        let is_ours = (header.group, header.command, header.sequence)
            == (self.asked.group, self.asked.command, self.asked.sequence);
        // Else a late answer to an earlier request.
        is_ours.then(|| self.read(&frame))
    }

    /// The device stays silent.
    pub const fn silent(&self) -> NoAnswer {
        NoAnswer::Silent(self.name)
    }

    fn read(&self, frame: &[u8]) -> Result<Vec<Image>, NoAnswer> {
        let odd = || NoAnswer::Odd(self.name);
        let answer = Answer::decode(frame).map_err(|_| odd())?;
        if let Some(error) = answer.error {
            return Err(NoAnswer::Refused(self.name, error));
        }
        let images = answer.images().ok().flatten().ok_or_else(odd)?;
        let mut all = Vec::new();
        for image in images {
            let image = image.map_err(|_| odd())?;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_fragments_is_read_and_a_late_one_to_another_request_is_not() {
        let mut asking = Asking::new(&Question::List, 7).expect("it fits");
        assert_eq!(asking.request(), [0x08, 0, 0, 1, 0, 1, 7, 0, 0xA0]);
        let refusal = |sequence| [0x09, 0, 0, 5, 0, 1, sequence, 0, 0xA1, 0x62, b'r', b'c', 8];
        assert_eq!(asking.received(&refusal(6)), None);
        let answer = refusal(7);
        assert_eq!(asking.received(&answer[..10]), None);
        let refused = asking.received(&answer[10..]).expect("it is complete");
        assert!(
            matches!(refused, Err(NoAnswer::Refused("the list of images", _))),
            "{refused:?}"
        );
    }
}
