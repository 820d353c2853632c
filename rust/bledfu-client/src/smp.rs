// SPDX-License-Identifier: Apache-2.0
//! The client of SMP's image management: validate, upload, test, reset, confirm.
//!
//! ```text
//! list ─► upload ─► test ─► reset ··· the boot stage swaps ··· connect ─► confirm         test and confirm
//!         upload ─► reset                                                             upload only
//! ```
//! Sources: Android-nRF-Connect-Device-Manager (`Uploader.kt`, `ImageUploader.kt`, `dfu/mcuboot/task`),
//! IOS-nRF-Connect-Device-Manager (`ImageManager`, `FirmwareUpgradeManager`), smpclient and smpmgr, all of 2026;
//! Android's was also observed while running.

mod error;
mod pieces;
mod settings;

pub use error::Error;
pub use settings::{Buffers, Image, Mode, OnOffset, OnTrial, Patience, Probe, Settings};

use crate::{Action, Characteristic, Progress, Stage, UpdateClient};
use bledfu_wire::image_group;
use bledfu_wire::os_group;
use bledfu_wire::smp::{encode_request, op, Header, Request, Version, HEADER_SIZE};
use bledfu_wire::smp_answer::{Answer, ImageEntry};
use heapless::Vec;
use pieces::{Transfer, PIECE};

/// Maximum number of upload requests in flight; Android's application offers no more.
pub const MAX_WINDOW: usize = 25;
/// Maximum number of resets and restarts in one update. The applications have no such limit.
const MAX_ROUNDS: u8 = 10;
/// How long Android's transport waits for its first answer, in ms.
const PARAMETERS_V1_MS: u32 = 1_000;
/// How long the device may take to close the link after a reset was answered, in ms.
const CLOSE_MS: u64 = 60_000;

const LIST: &str = "the list of images";

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Install,
    /// Continue the upload where the link broke.
    Upload,
    Confirm,
    /// Everything is done.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probes {
    OnConnect,
    Introduction,
    BeforeInstall,
}

/// A request that is sent alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Probe {
        list: Probes,
        at: u8,
    },
    List,
    ListBeforeConfirm,
    /// Confirm the image on trial, or the one before it.
    LeaveTrial {
        hash: [u8; 32],
        then: Goal,
    },
    Mark {
        confirm: bool,
    },
    Reset(Goal),
    Confirm,
}

/// What follows after the list of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Ask(Step),
    Upload,
    Finish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no link.
    Down { connect_at_ms: u64 },
    /// This request is to be written for the first time.
    Ask(Step),
    /// The request is being written, or was written; then `until_ms` is set.
    Await { step: Step, tries: u8, until_ms: u64 },
    /// The request was not answered and is to be written again.
    Sleep { step: Step, tries: u8, until_ms: u64 },
    /// Not before this time.
    Pause { next: Next, until_ms: u64 },
    /// Pieces are sent and answered.
    Upload,
    /// The device should close the link.
    Close { then: Goal, until_ms: u64 },
    /// The client is to close the link.
    Drop(Result<(), Error>),
    /// The update has ended.
    Over(Result<(), Error>),
}

/// A request with fragments that are still to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outgoing {
    at: usize,
    length: usize,
    patience_ms: u32,
}

/// The client of one update, which may take several connections and resets.
#[derive(Debug)]
pub struct Client<'a> {
    image: Image<'a>,
    settings: Settings,
    buffers: Buffers<'a>,
    phase: Phase,
    goal: Goal,
    progress: Progress,
    is_introduced: bool,
    rounds: u8,
    sequence: u8,
    /// The header of the request that was sent alone.
    asked: Option<Header>,
    outgoing: Option<Outgoing>,
    /// Received bytes of the current answer.
    received: usize,
    payload: usize,
    /// Longest frame that the device accepts, as far as the client knows.
    frame_size: usize,
    transfer: Transfer,
}

impl<'a> Client<'a> {
    /// A client that has not connected yet.
    pub fn new(image: Image<'a>, settings: Settings, buffers: Buffers<'a>) -> Self {
        Self {
            image,
            settings,
            buffers,
            phase: Phase::Down { connect_at_ms: 0 },
            goal: Goal::Install,
            progress: Progress::default(),
            is_introduced: false,
            rounds: 0,
            sequence: 0,
            asked: None,
            outgoing: None,
            received: 0,
            payload: 1,
            frame_size: 0,
            transfer: Transfer::default(),
        }
    }

    fn size(&self) -> u32 {
        u32::try_from(self.image.bytes.len()).unwrap_or(u32::MAX)
    }

    fn probes(&self, list: Probes) -> &'static [Probe] {
        match list {
            Probes::OnConnect => self.settings.on_connect,
            Probes::Introduction => self.settings.introduction,
            Probes::BeforeInstall => self.settings.before_install,
        }
    }

    fn is_v1(&self, list: Probes, at: u8) -> bool {
        self.probes(list).get(usize::from(at)) == Some(&Probe::ParametersV1)
    }

    /// The next request of a list of probes, or what follows the list.
    fn probe(&mut self, list: Probes, at: u8) {
        if usize::from(at) < self.probes(list).len() {
            self.phase = Phase::Ask(Step::Probe { list, at });
            return;
        }
        match list {
            Probes::OnConnect if !self.is_introduced => {
                self.is_introduced = true;
                self.probe(Probes::Introduction, 0);
            }
            Probes::OnConnect | Probes::Introduction => match self.goal {
                Goal::Install => self.probe(Probes::BeforeInstall, 0),
                Goal::Upload => self.phase = Phase::Upload,
                Goal::Confirm if self.settings.lists_before_confirm => {
                    self.phase = Phase::Ask(Step::ListBeforeConfirm);
                }
                Goal::Confirm => self.phase = Phase::Ask(Step::Confirm),
                Goal::None => self.phase = Phase::Drop(Ok(())),
            },
            Probes::BeforeInstall => self.phase = Phase::Ask(Step::List),
        }
    }

    fn fail(&mut self, error: Error) {
        self.outgoing = None;
        self.phase = Phase::Drop(Err(error));
    }

    const fn next_sequence(&mut self) -> u8 {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        sequence
    }

    fn patience(&self, step: Step) -> u32 {
        match step {
            Step::Probe { list, at } if self.is_v1(list, at) => PARAMETERS_V1_MS,
            Step::List | Step::ListBeforeConfirm => self.settings.patience.list,
            _ => self.settings.patience.other,
        }
    }

    /// Applies what an expired deadline changes.
    fn expire(&mut self, now_ms: u64) {
        match self.phase {
            // The device need not answer probes.
            Phase::Await {
                step: Step::Probe { list, at },
                until_ms,
                ..
            } if now_ms >= until_ms => {
                self.probe(list, at.saturating_add(1));
            }
            Phase::Await {
                step,
                tries,
                until_ms,
            } if now_ms >= until_ms => {
                if tries >= self.settings.tries {
                    return self.fail(Error::Silent(name_of(step)));
                }
                let until_ms = now_ms + u64::from(self.settings.pause_between_tries_ms);
                self.phase = Phase::Sleep {
                    step,
                    tries,
                    until_ms,
                };
            }
            Phase::Sleep {
                step,
                tries,
                until_ms,
            } if now_ms >= until_ms => self.write(step, tries + 1),
            Phase::Pause { next, until_ms } if now_ms >= until_ms => self.go_on(next),
            Phase::Close { until_ms, .. } if now_ms >= until_ms => self.fail(Error::LinkStaysOpen),
            Phase::Upload => self.expire_pieces(now_ms),
            _ => {}
        }
    }

    fn go_on(&mut self, next: Next) {
        match next {
            Next::Ask(step) => self.phase = Phase::Ask(step),
            Next::Upload => self.begin_upload(),
            Next::Finish => self.phase = Phase::Drop(Ok(())),
        }
    }

    /// Encodes the request of a step into the buffer, with a new sequence number the first time.
    fn write(&mut self, step: Step, tries: u8) {
        let (version, sequence) = match (step, self.asked) {
            (Step::Probe { list, at }, _) if self.is_v1(list, at) => (Version::V1, 0xFF),
            (_, Some(asked)) if tries > 1 => (Version::V2, asked.sequence),
            _ => (Version::V2, self.next_sequence()),
        };
        let os = Request::Os;
        let state = |hash, confirm| {
            Request::Image(image_group::Request::WriteState {
                hash: Some(hash),
                confirm,
            })
        };
        let bootloader = |query| os(os_group::Request::BootloaderInfo { query });
        let request = match &step {
            Step::Probe { list, at } => match self.probes(*list).get(usize::from(*at)) {
                Some(Probe::ParametersV1 | Probe::Parameters) | None => os(os_group::Request::Parameters),
                Some(Probe::Info) => os(os_group::Request::Info { format: "sv" }),
                Some(Probe::Memfault) => os(os_group::Request::Parameters),
                Some(Probe::Bootloader) => bootloader(None),
                Some(Probe::ActiveSlot) => bootloader(Some("active_b0_slot")),
                Some(Probe::BootloaderMode) => bootloader(Some("mode")),
            },
            Step::List | Step::ListBeforeConfirm => Request::Image(image_group::Request::ReadState),
            Step::LeaveTrial { hash, .. } => state(hash, true),
            Step::Mark { confirm } => state(&self.image.hash, *confirm),
            Step::Reset(_) => os(os_group::Request::Reset {
                force: false,
                boot_mode: None,
            }),
            Step::Confirm => state(&self.image.hash, true),
        };
        let Some(length) = encode_request(version, sequence, &request, self.buffers.request) else {
            return self.fail(Error::FrameTooSmall);
        };
        if let Step::Probe { list, at } = step {
            if self.probes(list).get(usize::from(at)) == Some(&Probe::Memfault) {
                self.ask_memfault(sequence);
            }
        }
        self.asked = Header::decode(self.buffers.request);
        self.outgoing = Some(Outgoing {
            at: 0,
            length,
            patience_ms: self.patience(step),
        });
        self.phase = Phase::Await {
            step,
            tries,
            until_ms: u64::MAX,
        };
    }

    /// The request in the buffer has the same empty map, but goes to another group.
    fn ask_memfault(&mut self, sequence: u8) {
        let header = Header {
            version: Version::V2 as u8,
            op: op::READ,
            length: 1,
            group: 128,
            sequence,
            command: 0,
        };
        if let Some(start) = self.buffers.request.first_chunk_mut::<HEADER_SIZE>() {
            *start = header.encode();
        }
    }

    /// The next fragment of the request in the buffer.
    fn fragment(&mut self, now_ms: u64) -> Option<(usize, usize)> {
        let outgoing = self.outgoing?;
        let end = outgoing.length.min(outgoing.at + self.payload);
        self.outgoing = (end < outgoing.length).then_some(Outgoing { at: end, ..outgoing });
        if self.outgoing.is_none() {
            let until = now_ms + u64::from(outgoing.patience_ms);
            match &mut self.phase {
                Phase::Await { until_ms, .. } => *until_ms = until,
                // Only one request is written at a time: the piece that has no deadline yet.
                Phase::Upload => {
                    let written = self
                        .transfer
                        .pieces
                        .iter_mut()
                        .find(|piece| piece.until_ms == u64::MAX);
                    if let Some(piece) = written {
                        piece.until_ms = until;
                    }
                }
                _ => {}
            }
        }
        Some((outgoing.at, end))
    }

    // ---- Requests that are sent alone.

    fn answered(&mut self, step: Step, answer: &Answer<'_>, now_ms: u64) -> Result<(), Error> {
        let odd = |_| Error::OddAnswer(name_of(step));
        if let Step::Probe { list, at } = step {
            // A refusal is an answer too.
            if let Ok(Some(parameters)) = answer.parameters() {
                let told = usize::try_from(parameters.buf_size).unwrap_or(usize::MAX);
                self.frame_size = told.saturating_sub(self.settings.frame_margin.into());
            }
            self.probe(list, at.saturating_add(1));
            return Ok(());
        }
        if let Some(error) = answer.error {
            if step == Step::Confirm {
                // The image was taken back meanwhile, or never installed: list the images again.
                return self.start_over(Error::Refused {
                    request: name_of(step),
                    error,
                });
            }
            return Err(Error::Refused {
                request: name_of(step),
                error,
            });
        }
        match step {
            Step::Probe { .. } => {}
            Step::List => {
                let images = answer.images().map_err(odd)?.ok_or(Error::OddAnswer(LIST))?;
                let mut all: Vec<ImageEntry<'_>, 2> = Vec::new();
                for image in images {
                    let image = image.map_err(odd)?;
                    // The application is image 0; only its two slots matter.
                    if image.image == 0 {
                        let _ = all.push(image);
                    }
                }
                let next = self.validate(&all)?;
                self.phase = Phase::Pause {
                    next,
                    until_ms: now_ms + u64::from(self.settings.pause_after_list_ms),
                };
            }
            Step::ListBeforeConfirm => {
                let mut images = answer.images().map_err(odd)?.ok_or(Error::OddAnswer(LIST))?;
                let running = images.next().ok_or(Error::OddAnswer(LIST))?.map_err(odd)?;
                if running.hash == Some(&self.image.hash) {
                    self.phase = Phase::Ask(Step::Confirm);
                } else {
                    return self.start_over(Error::NeverSettles);
                }
            }
            Step::LeaveTrial { then, .. } => match then {
                Goal::Upload => self.begin_upload(),
                then => self.ask_reset(then)?,
            },
            Step::Mark { confirm } => {
                let image = self.own_entry(step, answer)?;
                let is_marked = if confirm {
                    image.permanent || image.confirmed
                } else {
                    image.pending
                };
                if !is_marked {
                    return Err(Error::OddAnswer(name_of(step)));
                }
                self.marked()?;
            }
            Step::Reset(then) => self.await_close(then, now_ms),
            Step::Confirm => {
                let image = self.own_entry(step, answer)?;
                if image.active && image.confirmed {
                    self.phase = Phase::Drop(Ok(()));
                } else if image.permanent {
                    self.ask_reset(Goal::Confirm)?;
                } else {
                    return Err(Error::OddAnswer(name_of(step)));
                }
            }
        }
        Ok(())
    }

    /// Our image in the received list.
    fn own_entry<'f>(&self, step: Step, answer: &Answer<'f>) -> Result<ImageEntry<'f>, Error> {
        let odd = Error::OddAnswer(name_of(step));
        let mut images = answer.images().map_err(|_| odd)?.ok_or(odd)?;
        let found = images.find_map(|image| image.ok().filter(|image| image.hash == Some(&self.image.hash)));
        found.ok_or(odd)
    }

    /// What the images on the device are for, the running one first.
    fn validate(&mut self, images: &[ImageEntry<'_>]) -> Result<Next, Error> {
        let running = images.first().ok_or(Error::OddAnswer(LIST))?;
        let waiting = images.iter().find(|image| image.slot == 1);
        let is_ours = |image: &ImageEntry<'_>| image.hash == Some(&self.image.hash);
        let is_tested = matches!(self.settings.mode, Mode::TestAndConfirm | Mode::ConfirmOnly);
        if running.active && is_ours(running) {
            return Ok(if running.confirmed || !is_tested {
                Next::Finish
            } else {
                Next::Ask(Step::Confirm)
            });
        }
        if let Some(waiting) = waiting.filter(|image| image.pending) {
            // Something was marked before this update began: it is installed first.
            let then = match self.settings.mode {
                Mode::TestAndConfirm if is_ours(waiting) => Goal::Confirm,
                _ => Goal::Install,
            };
            return self.reset_step(then).map(Next::Ask);
        }
        if running.active && !running.confirmed {
            let hash = |image: Option<&ImageEntry<'_>>| image.and_then(|image| image.hash?.try_into().ok());
            return match (self.settings.on_trial, hash(waiting), hash(Some(running))) {
                (OnTrial::ConfirmOther, Some(hash), _) => {
                    let then = Goal::Upload;
                    Ok(Next::Ask(Step::LeaveTrial { hash, then }))
                }
                (OnTrial::ConfirmOther | OnTrial::ConfirmRunning, _, Some(hash)) => {
                    let then = Goal::Install;
                    Ok(Next::Ask(Step::LeaveTrial { hash, then }))
                }
                _ => self.reset_step(Goal::Install).map(Next::Ask),
            };
        }
        if waiting.is_some_and(is_ours) {
            return self.mark_step().map(Next::Ask);
        }
        Ok(Next::Upload)
    }

    fn mark_step(&mut self) -> Result<Step, Error> {
        match self.settings.mode {
            Mode::UploadOnly => self.reset_step(Goal::None),
            mode => Ok(Step::Mark {
                confirm: mode == Mode::ConfirmOnly,
            }),
        }
    }

    fn marked(&mut self) -> Result<(), Error> {
        self.progress.stage = Stage::Verified;
        self.ask_reset(match self.settings.mode {
            Mode::TestAndConfirm => Goal::Confirm,
            _ => Goal::None,
        })
    }

    fn reset_step(&mut self, then: Goal) -> Result<Step, Error> {
        if self.rounds >= MAX_ROUNDS {
            return Err(Error::NeverSettles);
        }
        self.rounds += 1;
        Ok(Step::Reset(then))
    }

    fn ask_reset(&mut self, then: Goal) -> Result<(), Error> {
        self.phase = Phase::Ask(self.reset_step(then)?);
        Ok(())
    }

    /// Starts again from the list of images; fails with `reason` after too many attempts.
    fn start_over(&mut self, reason: Error) -> Result<(), Error> {
        if self.rounds >= MAX_ROUNDS {
            return Err(reason);
        }
        self.rounds += 1;
        self.goal = Goal::Install;
        self.probe(Probes::BeforeInstall, 0);
        Ok(())
    }

    const fn await_close(&mut self, then: Goal, now_ms: u64) {
        self.phase = Phase::Close {
            then,
            until_ms: now_ms + CLOSE_MS,
        };
    }

    // ---- The upload.

    /// One whole answer is in the buffer.
    fn received_frame(&mut self, length: usize, now_ms: u64) -> Result<(), Error> {
        // The answer is read from the buffer while the other fields change.
        let buffer = core::mem::take(&mut self.buffers.answer);
        let result = match buffer.get(..length).map(Answer::decode) {
            Some(Ok(answer)) => self.received_answer(&answer, now_ms),
            _ => Err(Error::OddAnswer(self.awaited())),
        };
        self.buffers.answer = buffer;
        result
    }

    fn received_answer(&mut self, answer: &Answer<'_>, now_ms: u64) -> Result<(), Error> {
        match self.phase {
            Phase::Await { step, .. } | Phase::Sleep { step, .. } => {
                if self.asked.is_some_and(|asked| answer.is_to(&asked)) {
                    self.answered(step, answer, now_ms)
                } else if self.settings.is_strict_about_sequence {
                    Err(Error::OddAnswer(name_of(step)))
                } else {
                    Ok(())
                }
            }
            Phase::Upload => self.piece_answered(answer),
            _ => Ok(()),
        }
    }

    const fn awaited(&self) -> &'static str {
        match self.phase {
            Phase::Await { step, .. } | Phase::Sleep { step, .. } => name_of(step),
            _ => PIECE,
        }
    }

    /// Adds the next fragment to an answer.
    fn append(&mut self, bytes: &[u8], now_ms: u64) -> Result<(), Error> {
        let odd = Error::OddAnswer(self.awaited());
        let end = self.received + bytes.len();
        let place = self.buffers.answer.get_mut(self.received..end).ok_or(odd)?;
        place.copy_from_slice(bytes);
        self.received = end;
        // The first fragment contains the whole header.
        let header = self
            .buffers
            .answer
            .get(..end)
            .and_then(Header::decode)
            .ok_or(odd)?;
        let length = header.frame_length();
        if end < length && length <= self.buffers.answer.len() {
            return Ok(());
        }
        self.received = 0;
        if end == length {
            self.received_frame(length, now_ms)
        } else {
            Err(odd)
        }
    }
}

const fn name_of(step: Step) -> &'static str {
    match step {
        Step::Probe { .. } => "its capabilities",
        Step::List | Step::ListBeforeConfirm => LIST,
        Step::Mark { confirm: false } => "Test",
        Step::Reset(_) => "Reset",
        Step::Mark { confirm: true } | Step::LeaveTrial { .. } | Step::Confirm => "Confirm",
    }
}

impl UpdateClient for Client<'_> {
    type Error = Error;

    fn poll(&mut self, now_ms: u64) -> Action<'_, Error> {
        if self.outgoing.is_none() {
            self.expire(now_ms);
        }
        if self.outgoing.is_none() {
            match self.phase {
                Phase::Ask(step) => self.write(step, 1),
                Phase::Upload => self.next_piece(),
                _ => {}
            }
        }
        if let Some((at, end)) = self.fragment(now_ms) {
            return Action::Write {
                to: Characteristic::Smp,
                bytes: self.buffers.request.get(at..end).unwrap_or_default(),
            };
        }
        match self.phase {
            Phase::Down { connect_at_ms } => Action::Connect { at_ms: connect_at_ms },
            Phase::Await { until_ms, .. } | Phase::Close { until_ms, .. } => Action::Wait { until_ms },
            Phase::Upload => {
                let until = self.transfer.pieces.iter().map(|piece| piece.until_ms).min();
                Action::Wait {
                    until_ms: until.unwrap_or(now_ms),
                }
            }
            // An answer may still arrive.
            Phase::Sleep { until_ms, .. } => Action::Wait { until_ms },
            Phase::Pause { until_ms, .. } => Action::Pause { until_ms },
            Phase::Ask(_) => Action::Wait { until_ms: now_ms },
            Phase::Drop(_) => Action::Disconnect,
            Phase::Over(Ok(())) => Action::Done,
            Phase::Over(Err(error)) => Action::Failed(error),
        }
    }

    fn connected(&mut self, _now_ms: u64, payload: usize) {
        if let Phase::Down { .. } = self.phase {
            self.payload = payload.max(1);
            self.frame_size = payload;
            self.outgoing = None;
            self.received = 0;
            self.asked = None;
            self.probe(Probes::OnConnect, 0);
        }
    }

    fn disconnected(&mut self, now_ms: u64) {
        self.outgoing = None;
        self.received = 0;
        let mut reset_to = None;
        match self.phase {
            Phase::Down { .. } | Phase::Over(_) => return,
            Phase::Drop(result) => self.phase = Phase::Over(result),
            Phase::Close { then, .. } => reset_to = Some(then),
            Phase::Await {
                step: Step::Reset(then),
                ..
            } if self.settings.tolerates_silent_reset => {
                reset_to = Some(then);
            }
            Phase::Upload if self.settings.continues_upload => self.upload_interrupted(now_ms),
            // The transport sends its own probes during an upload.
            Phase::Await {
                step: Step::Probe { .. },
                ..
            }
            | Phase::Ask(Step::Probe { .. })
                if self.goal == Goal::Upload =>
            {
                self.upload_interrupted(now_ms);
            }
            _ => self.phase = Phase::Over(Err(Error::LinkLost)),
        }
        match reset_to {
            Some(Goal::None) => self.phase = Phase::Over(Ok(())),
            Some(goal) => {
                self.goal = goal;
                self.phase = Phase::Down {
                    connect_at_ms: now_ms + u64::from(self.settings.swap_ms),
                };
            }
            None => {}
        }
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn awaits_close(&self) -> bool {
        matches!(self.phase, Phase::Close { .. })
    }

    fn received(&mut self, now_ms: u64, bytes: &[u8]) {
        if matches!(
            self.phase,
            Phase::Down { .. } | Phase::Drop(_) | Phase::Over(_) | Phase::Close { .. }
        ) {
            return;
        }
        if let Err(error) = self.append(bytes, now_ms) {
            self.fail(error);
        }
    }
}
