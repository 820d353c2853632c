// SPDX-License-Identifier: Apache-2.0
//! SMP clients: the requests, frame sizes, windows, waits and flows of nRF Connect Device Manager on Android and iOS, and of
//! smpclient.
//!
//! ```text
//! validate ─► upload ─► test ─► reset ··· swap ··· reconnect ─► confirm         test and confirm
//!             upload ─► reset                                                   upload only
//! ```
//! Sources: Android-nRF-Connect-Device-Manager, IOS-nRF-Connect-Device-Manager, smpclient, as of 2026.

use std::collections::VecDeque;

use bledfu_wire::image_group::{self, Upload};
use bledfu_wire::os_group;
use bledfu_wire::smp::{op, Header, Request, Version, HEADER_SIZE};
use sha2::{Digest, Sha256};

use super::{PhoneError, Session};
use crate::device::image_digest;
use crate::smp_client::{encode, raw, Answer, Image};

/// The link as an SMP client sees it.
pub trait SmpLink {
    /// Bytes one write may carry.
    fn payload(&self) -> usize;

    /// Writes one fragment; returns when the phone's stack has taken it.
    ///
    /// # Errors
    /// [`PhoneError::LinkLost`].
    fn write_smp(&mut self, fragment: &[u8]) -> Result<(), PhoneError>;

    /// The next notification of the SMP characteristic.
    ///
    /// # Errors
    /// [`PhoneError::LinkLost`], [`PhoneError::Silent`] when none comes within `patience_ms`.
    fn smp_notification(&mut self, patience_ms: u64) -> Result<Vec<u8>, PhoneError>;

    /// Lets time pass.
    ///
    /// # Errors
    /// [`PhoneError::LinkLost`].
    fn pause_ms(&mut self, ms: u64) -> Result<(), PhoneError>;

    /// Time in ns, for reports.
    fn time_ns(&self) -> u64;
}

/// Whose client it is.
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
    /// Upload requests under way at once.
    pub fn window(self) -> usize {
        match self {
            Self::Android | Self::Ios => 3,
            Self::Smpclient => 1,
        }
    }

    /// What this client fills a frame up to, where the device takes frames of `buf_size` bytes.
    fn frame_size(self, buf_size: usize) -> usize {
        match self {
            Self::Ios => buf_size.saturating_sub(5),
            Self::Android | Self::Smpclient => buf_size,
        }
    }

    /// Pieces of an image are a multiple of this long, but for the last.
    fn alignment(self) -> usize {
        match self {
            Self::Android | Self::Ios => 4,
            Self::Smpclient => 1,
        }
    }

    /// How long this client waits for answers, in ms.
    fn patience(self) -> Patience {
        match self {
            Self::Android => Patience {
                first: 40_000,
                piece: 2_500,
                list: 5_000,
                other: 2_500,
            },
            Self::Ios => Patience {
                first: 40_000,
                piece: 10_000,
                list: 40_000,
                other: 40_000,
            },
            Self::Smpclient => Patience {
                first: 40_000,
                piece: 2_000,
                list: 2_000,
                other: 2_000,
            },
        }
    }
}

struct Patience {
    first: u64,
    piece: u64,
    list: u64,
    other: u64,
}

/// What the user of the application chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The image runs once; the phone confirms it when it meets it again.
    TestAndConfirm,
    /// The image runs once; it has to confirm itself.
    TestOnly,
    /// The image is installed for good, untested.
    ConfirmOnly,
    /// Upload and reset; the image is not marked.
    UploadOnly,
}

/// The settings of a client.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Whose client it is.
    pub phone: Phone,
    /// What it is to do.
    pub mode: Mode,
    /// Upload requests under way at once, at least 1.
    pub window: usize,
}

impl Settings {
    /// Test and confirm, with the window that this client has unless told otherwise.
    pub fn of(phone: Phone) -> Self {
        Self {
            phone,
            mode: Mode::TestAndConfirm,
            window: phone.window(),
        }
    }
}

/// Where the application is in its update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was marked yet.
    Install,
    /// The device was reset to try the new image, which is to be confirmed.
    Confirm,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The device was asked to reset; then the update goes on.
    Reset(Stage),
    /// The device was asked to reset; then the update is done.
    LastReset,
    /// Nothing is left to do.
    Done,
}

/// Answers of one piece that tell of another position before the upload is given up.
const ATTEMPTS: u32 = 5;
/// Android refuses longer answers.
const MAX_ANSWER: usize = 2_500;

/// One connection of a client.
pub struct Client<'l, L> {
    link: &'l mut L,
    settings: Settings,
    sequence: u8,
    /// Longest frame the device takes, as far as the client knows.
    frame_size: usize,
}

/// A piece that is under way.
struct Piece {
    sequence: u8,
    end: usize,
}

impl<'l, L: SmpLink> Client<'l, L> {
    /// A client on a fresh connection.
    pub fn new(link: &'l mut L, settings: Settings) -> Self {
        let frame_size = link.payload();
        Self {
            link,
            settings,
            sequence: 0,
            frame_size,
        }
    }

    /// Does what is to be done with `image` up to the next reset. `progress` gets the bytes the device has taken.
    ///
    /// # Errors
    /// [`PhoneError`].
    pub fn run(
        mut self,
        stage: Stage,
        image: &[u8],
        session: &mut Session,
        progress: &mut dyn FnMut(u32),
    ) -> Result<End, PhoneError> {
        let hash = image_digest(image).ok_or(PhoneError::NotAnImage)?;
        self.introduce()?;
        match stage {
            Stage::Install => self.install(image, &hash, session, progress),
            Stage::Confirm => self.confirm(&hash),
        }
    }

    /// What the applications ask when they connect.
    fn introduce(&mut self) -> Result<(), PhoneError> {
        match self.settings.phone {
            Phone::Android => {
                // Its first request has a version and a sequence number of its own.
                let frame = encode(Version::V1, 0xFF, &PARAMETERS);
                self.send(&frame)?;
                let answer = self.answer("the parameters", &frame, 1_000)?;
                self.use_parameters(&answer);
                self.probe(&PARAMETERS)?;
                self.probe(&Request::Os(os_group::Request::Info { format: "sv" }))?;
                let memfault = raw(Version::V2, self.next_sequence(), op::READ, 128, 0, &[0xA0]);
                self.send(&memfault)?;
                self.answer(
                    "a group it may not have",
                    &memfault,
                    self.settings.phone.patience().other,
                )?;
                self.ask_bootloader(None)?;
                self.ask_bootloader(Some("active_b0_slot"))?;
                self.ask_bootloader(Some("mode"))
            }
            Phone::Ios => {
                self.take_parameters()?;
                self.probe(&Request::Os(os_group::Request::Info { format: "sv" }))?;
                self.ask_bootloader(None)?;
                self.ask_bootloader(Some("mode"))
            }
            Phone::Smpclient => self.take_parameters(),
        }
    }

    fn take_parameters(&mut self) -> Result<(), PhoneError> {
        let answer = self.probe(&PARAMETERS)?;
        self.use_parameters(&answer);
        Ok(())
    }

    fn use_parameters(&mut self, answer: &Answer) {
        let told = answer.map.get("buf_size").and_then(|value| value.as_uint());
        if let Some(buf_size) = told {
            self.frame_size = self.settings.phone.frame_size(buf_size as usize);
        }
    }

    fn ask_bootloader(&mut self, query: Option<&str>) -> Result<(), PhoneError> {
        self.probe(&Request::Os(os_group::Request::BootloaderInfo { query }))
            .map(drop)
    }

    fn install(
        &mut self,
        image: &[u8],
        hash: &[u8; 32],
        session: &mut Session,
        progress: &mut dyn FnMut(u32),
    ) -> Result<End, PhoneError> {
        if self.settings.phone != Phone::Smpclient {
            self.ask_bootloader(None)?;
            self.ask_bootloader(Some("mode"))?;
        }
        let images = self.list()?;
        if self.settings.phone == Phone::Ios {
            self.link.pause_ms(100)?;
        }
        let running = images
            .first()
            .ok_or(PhoneError::OddAnswer("the list of images"))?;
        if running.active && running.confirmed && running.hash == *hash {
            return Ok(End::Done);
        }
        let waiting = images.iter().find(|image| image.slot == 1);
        if waiting.is_some_and(|image| image.pending) {
            // Something was marked before this application began: it is let through first.
            let is_ours = waiting.is_some_and(|image| image.hash == *hash);
            let stage = if is_ours { Stage::Confirm } else { Stage::Install };
            self.reset()?;
            return Ok(End::Reset(stage));
        }
        if running.active && !running.confirmed {
            return self.leave_trial(running, hash);
        }
        if waiting.is_none_or(|image| image.hash != *hash) {
            self.upload(image, session, progress)?;
        }
        self.mark(hash, session)
    }

    /// The running image is on trial. Android resets and begins anew, iOS keeps what runs.
    fn leave_trial(&mut self, running: &Image, hash: &[u8; 32]) -> Result<End, PhoneError> {
        if self.settings.phone == Phone::Android {
            self.reset()?;
            return Ok(End::Reset(Stage::Install));
        }
        let running_hash = running.hash;
        self.write_state(&running_hash, true)?;
        if running_hash == *hash {
            return Ok(End::Done);
        }
        self.reset()?;
        Ok(End::Reset(Stage::Install))
    }

    fn mark(&mut self, hash: &[u8; 32], session: &mut Session) -> Result<End, PhoneError> {
        let (confirm, end) = match self.settings.mode {
            Mode::TestAndConfirm => (Some(false), End::Reset(Stage::Confirm)),
            Mode::TestOnly => (Some(false), End::LastReset),
            Mode::ConfirmOnly => (Some(true), End::LastReset),
            Mode::UploadOnly => (None, End::LastReset),
        };
        if let Some(confirm) = confirm {
            let image = self.write_state(hash, confirm)?;
            if !image.pending || image.permanent != confirm {
                return Err(PhoneError::OddAnswer(if confirm { "Confirm" } else { "Test" }));
            }
        }
        session.verified_ns = self.link.time_ns();
        self.reset()?;
        Ok(end)
    }

    /// The device was reset and may run the new image.
    fn confirm(&mut self, hash: &[u8; 32]) -> Result<End, PhoneError> {
        if self.settings.phone != Phone::Android {
            let images = self.list()?;
            if images.first().is_none_or(|image| image.hash != *hash) {
                // It went back meanwhile.
                return self.restart();
            }
        }
        match self.write_state(hash, true) {
            Ok(image) if image.active && image.confirmed => Ok(End::Done),
            Ok(image) if image.permanent => {
                self.reset()?;
                Ok(End::Reset(Stage::Confirm))
            }
            Ok(_) => Err(PhoneError::OddAnswer("Confirm")),
            Err(PhoneError::SmpRefused { .. }) => self.restart(),
            Err(error) => Err(error),
        }
    }

    fn restart(&mut self) -> Result<End, PhoneError> {
        self.reset()?;
        Ok(End::Reset(Stage::Install))
    }

    fn list(&mut self) -> Result<Vec<Image>, PhoneError> {
        let patience = self.settings.phone.patience().list;
        let request = Request::Image(image_group::Request::ReadState);
        let answer = self.request("the list of images", &request, patience)?;
        answer.images().ok_or(PhoneError::OddAnswer("the list of images"))
    }

    /// Marks the image and returns its entry in the list that comes back.
    fn write_state(&mut self, hash: &[u8; 32], confirm: bool) -> Result<Image, PhoneError> {
        let name = if confirm { "Confirm" } else { "Test" };
        let request = Request::Image(image_group::Request::WriteState {
            hash: Some(hash),
            confirm,
        });
        let patience = self.settings.phone.patience().other;
        let answer = self.request(name, &request, patience)?;
        let images = answer.images().ok_or(PhoneError::OddAnswer(name))?;
        let found = images.into_iter().find(|image| image.hash == *hash);
        found.ok_or(PhoneError::OddAnswer(name))
    }

    fn reset(&mut self) -> Result<(), PhoneError> {
        let request = Request::Os(os_group::Request::Reset {
            force: false,
            boot_mode: None,
        });
        let patience = self.settings.phone.patience().other;
        self.request("Reset", &request, patience).map(drop)
    }

    fn upload(
        &mut self,
        image: &[u8],
        session: &mut Session,
        progress: &mut dyn FnMut(u32),
    ) -> Result<(), PhoneError> {
        *session = Session {
            started_ns: self.link.time_ns(),
            ..Session::default()
        };
        let sha: [u8; 32] = Sha256::digest(image).into();
        let first = Upload {
            offset: Some(0),
            length: Some(image.len() as u64),
            sha: Some(&sha),
            ..Upload::default()
        };
        // The first piece goes alone: its answer says where the device is.
        let end = self.room(&first).min(image.len());
        let request = Request::Image(image_group::Request::Upload(Upload {
            data: &image[..end],
            ..first
        }));
        let patience = self.settings.phone.patience().first;
        let answer = self.request("the first piece of the image", &request, patience)?;
        let mut taken = position(&answer, image.len())?;
        if taken != end {
            session.resumed_at = taken as u32;
        }
        progress(taken as u32);
        let mut last = answer;
        if taken < image.len() {
            last = self.upload_rest(image, &mut taken, progress)?;
        }
        session.received_ns = self.link.time_ns();
        match last.map.get("match").and_then(|value| value.as_bool()) {
            Some(false) => Err(PhoneError::WrongDigest),
            _ => Ok(()),
        }
    }

    /// Keeps the window full until the device has all.
    fn upload_rest(
        &mut self,
        image: &[u8],
        taken: &mut usize,
        progress: &mut dyn FnMut(u32),
    ) -> Result<Answer, PhoneError> {
        let mut next = *taken;
        let mut under_way: VecDeque<Piece> = VecDeque::new();
        let (mut failures, mut failed_at) = (0, None);
        let mut is_draining = false;
        loop {
            while !is_draining && next < image.len() && under_way.len() < self.settings.window.max(1) {
                under_way.push_back(self.send_piece(image, next)?);
                next = under_way.back().map_or(next, |piece| piece.end);
            }
            let Some(piece) = under_way.pop_front() else {
                return Err(PhoneError::OddAnswer("a piece of the image"));
            };
            let answer = self.piece_answer(piece.sequence)?;
            let offset = position(&answer, image.len())?;
            if offset == piece.end {
                *taken = offset;
                progress(offset as u32);
                if offset == image.len() {
                    return Ok(answer);
                }
            } else {
                // The device wants another byte than the next one: from there on again.
                failures = if failed_at == Some(offset) {
                    failures + 1
                } else {
                    1
                };
                if failures >= ATTEMPTS * self.settings.window.max(1) as u32 {
                    return Err(PhoneError::Stuck {
                        offset: offset as u32,
                    });
                }
                if failed_at != Some(offset) || self.settings.phone != Phone::Android {
                    next = offset;
                }
                failed_at = Some(offset);
                is_draining = self.settings.phone != Phone::Android;
            }
            if under_way.is_empty() {
                is_draining = false;
            }
        }
    }

    fn send_piece(&mut self, image: &[u8], from: usize) -> Result<Piece, PhoneError> {
        let head = Upload {
            offset: Some(from as u64),
            ..Upload::default()
        };
        let end = (from + self.room(&head)).min(image.len());
        let sequence = self.next_sequence();
        let request = Request::Image(image_group::Request::Upload(Upload {
            data: &image[from..end],
            ..head
        }));
        self.send(&encode(Version::V2, sequence, &request))?;
        Ok(Piece { sequence, end })
    }

    fn piece_answer(&mut self, sequence: u8) -> Result<Answer, PhoneError> {
        const NAME: &str = "a piece of the image";
        let bytes = self.frame(NAME, self.settings.phone.patience().piece)?;
        let answer = Answer::decode(&bytes).map_err(|_| PhoneError::OddAnswer(NAME))?;
        if answer.header.sequence != sequence {
            return Err(PhoneError::OddAnswer(NAME));
        }
        match answer.failure {
            Some(failure) => Err(PhoneError::SmpRefused {
                request: NAME,
                failure,
            }),
            None => Ok(answer),
        }
    }

    /// Bytes of the image that fit into one frame beside what else is in that request.
    fn room(&self, request: &Upload<'_>) -> usize {
        let empty = encode(
            Version::V2,
            0,
            &Request::Image(image_group::Request::Upload(*request)),
        );
        // An empty string has a head of one byte, a long one of three.
        let room = self.frame_size.saturating_sub(empty.len() + 2);
        let alignment = self.settings.phone.alignment();
        (room / alignment * alignment).max(1)
    }

    fn next_sequence(&mut self) -> u8 {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        sequence
    }

    /// Asks for what a device may not have; a refusal is an answer.
    fn probe(&mut self, request: &Request<'_>) -> Result<Answer, PhoneError> {
        let frame = encode(Version::V2, self.next_sequence(), request);
        self.send(&frame)?;
        self.answer("what it can do", &frame, self.settings.phone.patience().other)
    }

    fn request(
        &mut self,
        name: &'static str,
        request: &Request<'_>,
        patience_ms: u64,
    ) -> Result<Answer, PhoneError> {
        let frame = encode(Version::V2, self.next_sequence(), request);
        self.send(&frame)?;
        let answer = self.answer(name, &frame, patience_ms)?;
        match answer.failure {
            Some(failure) => Err(PhoneError::SmpRefused {
                request: name,
                failure,
            }),
            None => Ok(answer),
        }
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), PhoneError> {
        let payload = self.link.payload();
        frame
            .chunks(payload)
            .try_for_each(|fragment| self.link.write_smp(fragment))
    }

    /// The answer to `request`, which was sent last.
    fn answer(&mut self, name: &'static str, request: &[u8], patience_ms: u64) -> Result<Answer, PhoneError> {
        let bytes = self.frame(name, patience_ms)?;
        let answer = Answer::decode(&bytes).map_err(|_| PhoneError::OddAnswer(name))?;
        let belongs = Header::decode(request).is_some_and(|asked| {
            let wanted = Header {
                op: asked.op | 1,
                length: answer.header.length,
                ..asked
            };
            answer.header == wanted
        });
        if belongs {
            Ok(answer)
        } else {
            Err(PhoneError::OddAnswer(name))
        }
    }

    /// Puts the next frame together.
    fn frame(&mut self, name: &'static str, patience_ms: u64) -> Result<Vec<u8>, PhoneError> {
        let mut bytes = Vec::new();
        loop {
            let fragment = self
                .link
                .smp_notification(patience_ms)
                .map_err(|error| match error {
                    PhoneError::Silent(_) => PhoneError::Silent(name),
                    other => other,
                })?;
            bytes.extend_from_slice(&fragment);
            let header = Header::decode(&bytes).ok_or(PhoneError::OddAnswer(name))?;
            let length = header.frame_length();
            if bytes.len() == length {
                return Ok(bytes);
            }
            if bytes.len() > length || length > MAX_ANSWER + HEADER_SIZE {
                return Err(PhoneError::OddAnswer(name));
            }
        }
    }
}

const PARAMETERS: Request<'_> = Request::Os(os_group::Request::Parameters);

fn position(answer: &Answer, size: usize) -> Result<usize, PhoneError> {
    answer
        .offset()
        .and_then(|offset| usize::try_from(offset).ok())
        .filter(|&offset| offset <= size)
        .ok_or(PhoneError::OddAnswer("a piece of the image"))
}
