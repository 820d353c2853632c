// SPDX-License-Identifier: Apache-2.0
//! A client of SMP directly at the device's ring.
#![allow(dead_code)] // every test binary uses another part of this

use bledfu_sim::device::Setup;
use bledfu_swap::{BootReport, Downgrade};
use bledfu_transfer::ring::{Channel, Frame};
use bledfu_transfer::secure_dfu::Then;
use bledfu_wire::image_group::{self, Error, Upload};
use bledfu_wire::os_group;
use bledfu_wire::smp::{Failure, Header, Request, Version};

use crate::harness::{hex, setup, sha256, Peer};
use crate::smp_client::{encode, Answer, Image};

/// Longest frame of the device.
pub const BUF_SIZE: usize = 2475;

/// A client directly at the device's ring.
pub struct Manager {
    /// The device, and the link to it.
    pub peer: Peer,
    /// Version of the next requests.
    pub version: Version,
    /// Bytes of a fragment.
    pub payload: usize,
    /// Of the last request.
    pub sequence: u8,
}

impl Default for Manager {
    fn default() -> Self {
        Self::on(Peer::with(setup()))
    }
}

impl Manager {
    /// A device whose boot stage also installs older images.
    pub fn of_any_version() -> Self {
        Self::on(Peer::with(Setup {
            downgrade: Downgrade::Allowed,
            ..setup()
        }))
    }

    pub fn on(peer: Peer) -> Self {
        Self {
            peer,
            version: Version::V2,
            payload: 244,
            sequence: 0,
        }
    }

    /// Sends bytes in fragments; returns the notifications.
    pub fn send(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        for bytes in frame.chunks(self.payload) {
            // A frame that does not fit the ring is dropped there.
            let _ = self.peer.device().receive(Frame {
                channel: Channel::Smp,
                bytes,
            });
        }
        self.peer.work();
        self.peer.answers().iter().map(|answer| hex(answer)).collect()
    }

    /// The one answer to a frame, as bytes.
    #[track_caller]
    pub fn exchange(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut answers = self.send(frame);
        assert_eq!(
            answers.len(),
            1,
            "answers to a frame of {} bytes: {:02x?}",
            frame.len(),
            &frame[..frame.len().min(24)]
        );
        answers.remove(0)
    }

    /// The one answer to a frame.
    #[track_caller]
    pub fn raw(&mut self, frame: &[u8]) -> Answer {
        let bytes = self.exchange(frame);
        let answer = Answer::decode(&bytes).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
        let asked = Header::decode(frame).expect("a whole request");
        let expected = Header {
            version: asked.version.min(1),
            op: if asked.op == 0 { 1 } else { 3 },
            length: answer.header.length,
            ..asked
        };
        assert_eq!(answer.header, expected);
        answer
    }

    /// The error in the answer to a frame.
    #[track_caller]
    pub fn failure(&mut self, frame: &[u8]) -> Option<Failure> {
        self.raw(frame).failure
    }

    /// A frame of this request.
    pub fn frame(&mut self, request: &Request<'_>) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        encode(self.version, self.sequence, request)
    }

    /// The answer to a request.
    #[track_caller]
    pub fn ask(&mut self, request: &Request<'_>) -> Answer {
        let frame = self.frame(request);
        self.raw(&frame)
    }

    #[track_caller]
    pub fn os(&mut self, request: os_group::Request<'_>) -> Answer {
        self.ask(&Request::Os(request))
    }

    #[track_caller]
    pub fn image(&mut self, request: image_group::Request<'_>) -> Answer {
        self.ask(&Request::Image(request))
    }

    /// The request is refused in both versions, and a second time.
    #[track_caller]
    pub fn refused(&mut self, request: image_group::Request<'_>, error: Error) {
        assert_eq!(self.image(request).failure, Some(Failure::Image(error)));
        self.version = Version::V1;
        assert_eq!(
            self.image(request).failure,
            Some(Failure::Smp(error.code())),
            "version 1"
        );
        self.version = Version::V2;
    }

    /// An echo works.
    #[track_caller]
    pub fn is_alive(&mut self) {
        let answer = self.os(os_group::Request::Echo("hi"));
        assert_eq!(answer.map.get("r").and_then(|text| text.as_text()), Some("hi"));
    }

    #[track_caller]
    pub fn state(&mut self) -> Vec<Image> {
        let answer = self.image(image_group::Request::ReadState);
        answer
            .images()
            .unwrap_or_else(|| panic!("a list of images, not {answer:?}"))
    }

    /// Test or confirm.
    #[track_caller]
    pub fn choose(&mut self, hash: Option<&[u8]>, confirm: bool) -> Answer {
        self.image(image_group::Request::WriteState { hash, confirm })
    }

    /// A first piece.
    #[track_caller]
    pub fn begin(&mut self, image: &[u8], sha: Option<&[u8]>, length: usize) -> Answer {
        self.image(first(image, sha, length))
    }

    /// A later piece.
    #[track_caller]
    pub fn piece(&mut self, image: &[u8], from: usize, to: usize) -> Answer {
        self.image(image_group::Request::Upload(Upload {
            offset: Some(from as u64),
            data: &image[from..to],
            ..Upload::default()
        }))
    }

    /// A whole upload in pieces of `length`; the last answer.
    #[track_caller]
    pub fn upload(&mut self, image: &[u8], length: usize) -> Answer {
        let sha = sha256(image);
        let mut answer = self.begin(image, Some(&sha), length.min(image.len()));
        while let Some(at) = answer.offset().filter(|&at| at < image.len() as u64) {
            let at = at as usize;
            let end = (at + length).min(image.len());
            answer = self.piece(image, at, end);
            assert_eq!(answer.offset(), Some(end as u64), "taken whole");
        }
        answer
    }

    /// Uploads, marks for a test, and resets.
    #[track_caller]
    pub fn try_out(&mut self, image: &[u8]) -> BootReport {
        self.upload(image, 1000);
        let hash = hash_of(image);
        assert_eq!(self.choose(Some(&hash), false).failure, None);
        self.reset()
    }

    #[track_caller]
    pub fn reset(&mut self) -> BootReport {
        let answer = self.os(RESET);
        assert_eq!(answer.failure, None);
        assert_eq!(self.peer.then, Then::Reset, "asked to reset after the answer");
        self.peer.reboot()
    }
}

pub const RESET: os_group::Request<'_> = os_group::Request::Reset {
    force: false,
    boot_mode: None,
};

/// The first piece of `image`, `length` bytes of it.
pub fn first<'a>(image: &'a [u8], sha: Option<&'a [u8]>, length: usize) -> image_group::Request<'a> {
    image_group::Request::Upload(Upload {
        offset: Some(0),
        length: Some(image.len() as u64),
        sha,
        data: &image[..length],
        ..Upload::default()
    })
}

/// The digest that identifies an image.
pub fn hash_of(image: &[u8]) -> [u8; 32] {
    bledfu_sim::device::image_digest(image).expect("an image")
}
