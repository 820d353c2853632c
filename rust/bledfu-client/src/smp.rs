// SPDX-License-Identifier: Apache-2.0
//! The client of SMP's image management: validate, upload, test, reset, confirm.
//!
//! ```text
//! list ─► upload ─► test ─► reset ··· the boot stage swaps ··· connect ─► confirm         test and confirm
//!         upload ─► reset                                                             upload only
//! ```
//! Sources: Android-nRF-Connect-Device-Manager (`Uploader.kt`, `ImageUploader.kt`, `dfu/mcuboot/task`), IOS-nRF-Connect-
//! Device-Manager (`ImageManager`, `FirmwareUpgradeManager`), smpclient and smpmgr, all of 2026; Android's was seen running.

use crate::{Action, Characteristic, Progress, Stage, UpdateClient};
use bledfu_wire::image_group::{self, Upload};
use bledfu_wire::os_group;
use bledfu_wire::smp::{encode_request, op, Code, Failure, Header, Request, Version, HEADER_SIZE};
use bledfu_wire::smp_answer::{Answer, ImageEntry, ServerError};
use core::fmt;
use heapless::Vec;

/// Most upload requests under way at once; Android's application offers no more.
pub const MAX_WINDOW: usize = 25;
/// Answers in a row that tell the same position before the upload is given up, for each request under way.
const SAME_OFFSETS: u32 = 5;
/// Times an upload may be told to go back before it is given up: a device that restarts each time would never end.
const STEPS_BACK: u32 = 1_000;
/// Resets and new beginnings in one update. The applications have no such limit.
const MAX_ROUNDS: u8 = 10;
/// How long Android's transport waits for its first answer, in ms.
const PARAMETERS_V1_MS: u32 = 1_000;
/// How long the device may take to close the link after a reset was answered, in ms.
const CLOSE_MS: u64 = 60_000;

/// What is to be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'i> {
    /// The signed image, as imgtool made it.
    pub bytes: &'i [u8],
    /// SHA-256 of `bytes`, by which an upload is known again.
    pub sha: [u8; 32],
    /// The hash in the image's TLVs, by which images are listed.
    pub hash: [u8; 32],
}

/// Memory of a client. A request is never longer than `request`, whatever the device says; an answer that does not fit
/// into `answer` is a failure. 4096 and 2508 bytes are what the applications have.
#[derive(Debug)]
pub struct Buffers<'b> {
    /// For the request that is being written.
    pub request: &'b mut [u8],
    /// For the answer that is being received.
    pub answer: &'b mut [u8],
}

/// What the user of the application chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The image runs once; the client confirms it when it meets it again.
    TestAndConfirm,
    /// The image runs once; it has to confirm itself.
    TestOnly,
    /// The image is installed for good, untested.
    ConfirmOnly,
    /// Upload and reset; the image is not marked.
    UploadOnly,
}

/// What an application asks about the device. It may refuse all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The parameters of the transport, in version 1 and with sequence number 255.
    ParametersV1,
    /// The parameters of the transport.
    Parameters,
    /// Kernel name and version.
    Info,
    /// A group for diagnostics that hardly a device has.
    Memfault,
    /// The name of the boot loader.
    Bootloader,
    /// Which slot runs, of a boot loader that does not swap.
    ActiveSlot,
    /// How the boot loader installs.
    BootloaderMode,
}

/// What a client does when an answer names another byte than the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOffset {
    /// Android: a piece from that byte on is sent again, alone; requests under way go on being answered.
    Resend,
    /// iOS: it waits for the answers to all requests under way and goes on from the byte that the last one names.
    Drain,
}

/// What a client does about an image of somebody else's that runs unconfirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTrial {
    /// Android: reset, so that the image before it comes back; then all over again.
    Reset,
    /// iOS: the image in slot 1 is confirmed, then it uploads.
    ConfirmOther,
    /// What runs is confirmed.
    ConfirmRunning,
}

/// How long answers are waited for, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Of the first piece, for which servers erase.
    pub first_piece: u32,
    /// Of the others.
    pub piece: u32,
    /// Of the last, if the window is larger than 1.
    pub last_piece: u32,
    /// Of the list of images.
    pub list: u32,
    /// Of everything else.
    pub other: u32,
}

/// What differs between the applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is to be done.
    pub mode: Mode,
    /// Upload requests under way at once, 1 to [`MAX_WINDOW`].
    pub window: u8,
    /// A frame stays so many bytes below what the device takes.
    pub frame_margin: u8,
    /// Pieces of an image are a multiple of this long, but for the last.
    pub alignment: u8,
    /// Asked in every connection.
    pub on_connect: &'static [Probe],
    /// Asked in the first connection.
    pub introduction: &'static [Probe],
    /// Asked before the list of images.
    pub before_install: &'static [Probe],
    /// How long answers are waited for.
    pub patience: Patience,
    /// Times a request is sent, with the same sequence number, before silence is a failure; at least 1.
    pub tries: u8,
    /// Pause before it is sent again, in ms.
    pub pause_between_tries_ms: u32,
    /// A piece that fails (silence, refusal, link lost) is sent again at once with another sequence number, up to so many
    /// times; 0: pieces are requests as all others.
    pub piece_failures: u8,
    /// What is done about an answer that names another byte.
    pub on_offset: OnOffset,
    /// A lost link in an upload is followed by another one, where the upload goes on without `len` and `sha`.
    pub continues_upload: bool,
    /// An upload that the server begins again names its `sha` again.
    pub restarts_with_sha: bool,
    /// An answer with a sequence number that is not under way is an error; else it is ignored.
    pub is_strict_about_sequence: bool,
    /// A link that ends before the reset was answered is a reset, too.
    pub tolerates_silent_reset: bool,
    /// The images are listed before one of them is confirmed.
    pub lists_before_confirm: bool,
    /// What is done about an image of somebody else's on trial.
    pub on_trial: OnTrial,
    /// Pause after the list of images, in ms.
    pub pause_after_list_ms: u32,
    /// From a lost link to the next one, in ms.
    pub reconnect_ms: u32,
    /// From a reset to the next link, in ms: the estimated swap time.
    pub swap_ms: u32,
}

impl Settings {
    /// nRF Connect Device Manager for Android.
    pub const fn android() -> Self {
        use Probe::{ActiveSlot, Bootloader, BootloaderMode, Info, Memfault, Parameters, ParametersV1};
        Self {
            mode: Mode::TestAndConfirm,
            window: 3,
            frame_margin: 0,
            alignment: 4,
            on_connect: &[ParametersV1],
            introduction: &[Parameters, Info, Memfault, Bootloader, ActiveSlot, BootloaderMode],
            before_install: &[Bootloader, BootloaderMode],
            patience: Patience {
                first_piece: 40_000,
                piece: 2_500,
                last_piece: 20_000,
                list: 5_000,
                other: 2_500,
            },
            tries: 1,
            pause_between_tries_ms: 0,
            piece_failures: 5,
            on_offset: OnOffset::Resend,
            continues_upload: true,
            restarts_with_sha: true,
            is_strict_about_sequence: false,
            tolerates_silent_reset: true,
            lists_before_confirm: false,
            on_trial: OnTrial::Reset,
            pause_after_list_ms: 0,
            reconnect_ms: 1_000,
            swap_ms: 1_000,
        }
    }

    /// nRF Connect Device Manager for iOS.
    pub const fn ios() -> Self {
        use Probe::{Bootloader, BootloaderMode, Info, Parameters};
        Self {
            frame_margin: 5,
            on_connect: &[],
            introduction: &[Parameters, Info, Bootloader],
            before_install: &[Parameters, Bootloader, BootloaderMode],
            patience: Patience {
                first_piece: 40_000,
                piece: 10_000,
                last_piece: 10_000,
                list: 40_000,
                other: 40_000,
            },
            tries: 3,
            pause_between_tries_ms: 10_000,
            piece_failures: 0,
            on_offset: OnOffset::Drain,
            continues_upload: false,
            tolerates_silent_reset: false,
            lists_before_confirm: true,
            on_trial: OnTrial::ConfirmOther,
            pause_after_list_ms: 100,
            ..Self::android()
        }
    }

    /// The Python library smpclient, used as `smpmgr upgrade --slot 1` does.
    pub const fn smpclient() -> Self {
        Self {
            window: 1,
            frame_margin: 0,
            alignment: 1,
            on_connect: &[Probe::Parameters],
            introduction: &[],
            before_install: &[],
            patience: Patience {
                first_piece: 40_000,
                piece: 2_500,
                last_piece: 2_500,
                list: 2_000,
                other: 2_000,
            },
            tries: 1,
            pause_between_tries_ms: 0,
            restarts_with_sha: false,
            is_strict_about_sequence: true,
            on_trial: OnTrial::ConfirmRunning,
            pause_after_list_ms: 0,
            ..Self::ios()
        }
    }
}

/// Why an update has failed. Requests are called what their user would call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The link was lost, and the client does not connect again by itself.
    LinkLost,
    /// The device did not answer for as long as this client waits.
    Silent(&'static str),
    /// The device refused.
    Refused {
        /// What was asked.
        request: &'static str,
        /// Why.
        error: ServerError,
    },
    /// The device answered with what this client does not take.
    OddAnswer(&'static str),
    /// The SHA-256 over what the device has received is another.
    WrongDigest,
    /// The device asks for the same byte again and again.
    Stuck {
        /// Which byte.
        offset: u32,
    },
    /// A frame as the device takes it has no room for a piece of the image.
    FrameTooSmall,
    /// The device did not close the link after it had answered a reset.
    LinkStaysOpen,
    /// The device was reset again and again and still has something to do first.
    NeverSettles,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkLost => write!(f, "the link was lost"),
            Self::Silent(request) => write!(f, "the device did not answer {request} in time"),
            Self::Refused { request, error } => write!(f, "the device refused {request}: {error}"),
            Self::OddAnswer(request) => write!(f, "the device answered {request} with something else"),
            Self::WrongDigest => write!(f, "the device says that it received other bytes than were sent"),
            Self::Stuck { offset } => write!(f, "the device does not get beyond byte {offset} of the image"),
            Self::FrameTooSmall => write!(f, "a frame of this device has no room for a piece of the image"),
            Self::LinkStaysOpen => write!(f, "the device did not close the link after the reset"),
            Self::NeverSettles => write!(f, "the device was reset {MAX_ROUNDS} times and is not ready"),
        }
    }
}

impl core::error::Error for Error {}

const PIECE: &str = "a piece of the image";
const FIRST_PIECE: &str = "the first piece of the image";
const LIST: &str = "the list of images";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Install,
    /// The upload goes on where the link broke.
    Upload,
    Confirm,
    /// Nothing is left to do.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probes {
    OnConnect,
    Introduction,
    BeforeInstall,
}

/// A request that goes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Probe {
        list: Probes,
        at: u8,
    },
    List,
    ListBeforeConfirm,
    /// The image on trial is kept, or the one before it.
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

/// What comes after the list of images.
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
    /// It is being written, or written; `until_ms` is set when it is.
    Await { step: Step, tries: u8, until_ms: u64 },
    /// It was not answered and is to be written again.
    Sleep { step: Step, tries: u8, until_ms: u64 },
    /// Before this.
    Pause { next: Next, until_ms: u64 },
    /// Pieces go and are answered.
    Upload,
    /// The device is to close the link.
    Close { then: Goal, until_ms: u64 },
    /// The client is to close the link.
    Drop(Result<(), Error>),
    /// It has ended.
    Over(Result<(), Error>),
}

/// A request of which fragments are still to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outgoing {
    at: usize,
    length: usize,
    patience_ms: u32,
}

/// A piece that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    sequence: u8,
    offset: u32,
    end: u32,
    tries: u8,
    /// It goes alone, and its answer says where to go on.
    is_alone: bool,
    /// It is sent again, because an earlier one failed.
    is_repeat: bool,
    /// It was not answered and is to be written again.
    sleeps: bool,
    until_ms: u64,
}

/// An upload.
#[derive(Clone, Debug, Default)]
struct Transfer {
    /// The next byte to send; `None`: wait for answers.
    next: Option<u32>,
    /// A piece from here on failed and comes before the next one.
    failed: Option<u32>,
    pieces: Vec<Piece, MAX_WINDOW>,
    /// An answer named another byte: nothing is sent until all are answered.
    is_draining: bool,
    /// A first piece was answered.
    has_begun: bool,
    /// An answer in this connection has said where the device is.
    is_placed: bool,
    /// How often which piece failed; the oldest is forgotten first.
    failures: Vec<(u32, u8), MAX_WINDOW>,
    /// The byte that the last answers named, how often in a row, and how often it was one before.
    named: (u32, u32, u32),
}

/// The client of one update, over all its connections and resets.
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
    /// The header of the request that goes alone.
    asked: Option<Header>,
    outgoing: Option<Outgoing>,
    /// Bytes of the answer that is being received.
    received: usize,
    payload: usize,
    /// Longest frame the device takes, as far as the client knows.
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

    /// The next request of a list of probes, or what follows it.
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

    /// What a deadline that has passed changes.
    fn expire(&mut self, now_ms: u64) {
        match self.phase {
            // What is asked about the device need not be answered.
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

    /// Puts the request of a step into the buffer, with a new sequence number the first time.
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

    /// The request in the buffer has an empty map, as this one has, but goes to another group.
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
                // Only one request is written at a time: it is the piece that has no deadline yet.
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

    // ---- Requests that go alone.

    fn answered(&mut self, step: Step, answer: &Answer<'_>, now_ms: u64) -> Result<(), Error> {
        let odd = |_| Error::OddAnswer(name_of(step));
        if let Step::Probe { list, at } = step {
            // A refusal is an answer, too.
            if let Ok(Some(parameters)) = answer.parameters() {
                let told = usize::try_from(parameters.buf_size).unwrap_or(usize::MAX);
                self.frame_size = told.saturating_sub(self.settings.frame_margin.into());
            }
            self.probe(list, at.saturating_add(1));
            return Ok(());
        }
        if let Some(error) = answer.error {
            if step == Step::Confirm {
                // It went back meanwhile, or was never installed: look again.
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
                    // The application is image 0; behind its two slots nothing is of interest.
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

    /// Our image in the list that came.
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
            // Something was marked before this update began: it is let through first.
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

    /// From the list of images on again; `reason` if that was done too often.
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

    fn begin_upload(&mut self) {
        self.transfer = Transfer {
            next: Some(0),
            ..Transfer::default()
        };
        self.progress = Progress {
            stage: Stage::Sending,
            ..Progress::default()
        };
        self.phase = Phase::Upload;
    }

    /// The fields of a piece that begins at `offset`, but for its data.
    fn piece_fields<'s>(&self, offset: u32, sha: &'s [u8; 32]) -> Upload<'s> {
        let is_first = offset == 0;
        let names_sha = self.settings.restarts_with_sha || !self.transfer.has_begun;
        Upload {
            offset: Some(offset.into()),
            length: is_first.then_some(self.size().into()),
            sha: (is_first && names_sha).then_some(sha),
            ..Upload::default()
        }
    }

    /// Where a piece that begins at `offset` ends.
    fn piece_end(&self, offset: u32) -> Option<u32> {
        let frame_size = self.frame_size.min(self.buffers.request.len());
        let room = self.piece_fields(offset, &self.image.sha).room(frame_size);
        let rest = self.size().saturating_sub(offset) as usize;
        if room >= rest {
            return Some(self.size());
        }
        let alignment = usize::from(self.settings.alignment).max(1);
        let length = if room < alignment {
            room
        } else {
            room - room % alignment
        };
        // A piece is shorter than the image, whose size has 32 bits.
        (length > 0).then_some(offset + length as u32)
    }

    /// Begins to write the next piece, if one may go now.
    fn next_piece(&mut self) {
        let transfer = &self.transfer;
        let window = usize::from(self.settings.window).clamp(1, MAX_WINDOW);
        let is_blocked = transfer.is_draining || transfer.pieces.iter().any(|piece| piece.is_alone);
        if is_blocked || transfer.pieces.len() >= window {
            return;
        }
        if transfer.pieces.is_empty() && transfer.failed.is_none() && transfer.next.is_none() {
            self.transfer.next = Some(self.progress.held);
        }
        let is_repeat = self.transfer.failed.is_some();
        let Some(offset) = self.transfer.failed.take().or(self.transfer.next.take()) else {
            return;
        };
        let Some(end) = self.piece_end(offset) else {
            return self.fail(Error::FrameTooSmall);
        };
        let is_alone = is_repeat || offset == 0;
        if !is_repeat {
            // The answer to a piece that goes alone says where to go on.
            self.transfer.next = (!is_alone && end < self.size()).then_some(end);
        }
        let piece = Piece {
            sequence: self.next_sequence(),
            offset,
            end,
            tries: 1,
            is_alone,
            is_repeat,
            sleeps: false,
            until_ms: u64::MAX,
        };
        if self.write_piece(piece) {
            let _ = self.transfer.pieces.push(piece);
        }
    }

    /// Puts the request of a piece into the buffer.
    fn write_piece(&mut self, piece: Piece) -> bool {
        let data = self.image.bytes.get(piece.offset as usize..piece.end as usize);
        let sha = self.image.sha;
        let request = Request::Image(image_group::Request::Upload(Upload {
            data: data.unwrap_or_default(),
            ..self.piece_fields(piece.offset, &sha)
        }));
        let encoded = encode_request(Version::V2, piece.sequence, &request, self.buffers.request);
        let Some(length) = encoded else {
            self.fail(Error::FrameTooSmall);
            return false;
        };
        let patience = self.settings.patience;
        self.outgoing = Some(Outgoing {
            at: 0,
            length,
            patience_ms: if piece.offset == 0 {
                patience.first_piece
            } else if piece.end == self.size() && self.settings.window > 1 {
                patience.last_piece
            } else {
                patience.piece
            },
        });
        true
    }

    fn expire_pieces(&mut self, now_ms: u64) {
        // No other request is written meanwhile: a repeated one would overwrite it.
        if self.outgoing.is_some() {
            return;
        }
        let late = self
            .transfer
            .pieces
            .iter()
            .position(|piece| now_ms >= piece.until_ms);
        let Some(piece) = late.and_then(|at| self.transfer.pieces.get(at).copied()) else {
            return;
        };
        if piece.sleeps {
            let again = Piece {
                tries: piece.tries + 1,
                sleeps: false,
                until_ms: u64::MAX,
                ..piece
            };
            self.replace(again);
            self.write_piece(again);
        } else if self.settings.piece_failures > 0 {
            self.take_piece(piece.sequence);
            self.piece_failed(piece, Error::Silent(name_of_piece(piece)));
        } else if piece.tries >= self.settings.tries {
            self.fail(Error::Silent(name_of_piece(piece)));
        } else {
            self.replace(Piece {
                sleeps: true,
                until_ms: now_ms + u64::from(self.settings.pause_between_tries_ms),
                ..piece
            });
        }
    }

    fn replace(&mut self, piece: Piece) {
        let mut pieces = self.transfer.pieces.iter_mut();
        if let Some(found) = pieces.find(|found| found.sequence == piece.sequence) {
            *found = piece;
        }
    }

    fn take_piece(&mut self, sequence: u8) -> Option<Piece> {
        let pieces = &mut self.transfer.pieces;
        let at = pieces.iter().position(|piece| piece.sequence == sequence)?;
        Some(pieces.remove(at))
    }

    /// Android counts the failures of each piece and sends it again.
    fn piece_failed(&mut self, piece: Piece, error: Error) {
        let failures = &mut self.transfer.failures;
        let mut times = 1;
        if let Some(at) = failures.iter().position(|(offset, _)| *offset == piece.offset) {
            times += failures.remove(at).1;
        } else if failures.is_full() {
            failures.remove(0);
        }
        let _ = failures.push((piece.offset, times));
        if times >= self.settings.piece_failures {
            return self.fail(error);
        }
        self.transfer.failed = Some(piece.offset);
        if piece.is_alone {
            self.transfer.next = (piece.end < self.size()).then_some(piece.end);
        }
    }

    fn piece_answered(&mut self, answer: &Answer<'_>) -> Result<(), Error> {
        let Some(piece) = self.take_piece(answer.header.sequence) else {
            return if self.settings.is_strict_about_sequence {
                Err(Error::OddAnswer(PIECE))
            } else {
                // Late, and sent again meanwhile.
                Ok(())
            };
        };
        let name = name_of_piece(piece);
        let upload = answer.upload().map_err(|_| Error::OddAnswer(name))?;
        if let Some(error) = answer.error {
            let refused = Error::Refused { request: name, error };
            let is_busy = error.known() == Some(Failure::Smp(Code::Busy));
            if self.settings.piece_failures > 0 {
                self.piece_failed(piece, refused);
                return Ok(());
            }
            // Beside an offset, smpclient overlooks every error, and iOS that the device is busy.
            let overlooks = self.settings.is_strict_about_sequence || is_busy;
            if !overlooks || upload.offset.is_none() {
                return Err(refused);
            }
        }
        let offset = upload.offset.and_then(|offset| u32::try_from(offset).ok());
        let offset = offset.filter(|&offset| offset <= self.size());
        let offset = offset.ok_or(Error::OddAnswer(name))?;
        self.count_offsets(piece, offset)?;
        self.transfer.has_begun = true;
        if !core::mem::replace(&mut self.transfer.is_placed, true) {
            self.progress.resumed_at = if offset == piece.end { piece.offset } else { offset };
        }
        self.progress.held = offset;
        if offset == self.size() {
            return self.uploaded(upload.matches);
        }
        match self.settings.on_offset {
            OnOffset::Resend if piece.is_repeat => self.transfer.next = Some(offset),
            OnOffset::Resend if piece.is_alone => {
                if offset < piece.end {
                    self.transfer.failed = Some(offset);
                }
                self.transfer.next = Some(offset);
            }
            OnOffset::Resend if offset < piece.end => self.transfer.failed = Some(offset),
            OnOffset::Resend => {}
            OnOffset::Drain => {
                if piece.is_alone || offset != piece.end {
                    self.transfer.next = Some(offset);
                    self.transfer.is_draining = true;
                }
                if self.transfer.pieces.is_empty() {
                    self.transfer.is_draining = false;
                    self.transfer.next = Some(offset);
                }
            }
        }
        Ok(())
    }

    /// Gives up on a device that does not get on.
    fn count_offsets(&mut self, piece: Piece, offset: u32) -> Result<(), Error> {
        let (last, times, back) = self.transfer.named;
        let times = match offset == last && offset != piece.end {
            true => times + 1,
            false => 0,
        };
        let back = back + u32::from(offset < last);
        self.transfer.named = (offset, times, back);
        if times >= SAME_OFFSETS * (u32::from(self.settings.window) + 1) || back > STEPS_BACK {
            return Err(Error::Stuck { offset });
        }
        Ok(())
    }

    fn uploaded(&mut self, matches: Option<bool>) -> Result<(), Error> {
        if matches == Some(false) {
            return Err(Error::WrongDigest);
        }
        self.transfer.pieces.clear();
        self.outgoing = None;
        self.goal = Goal::Install;
        self.progress.stage = Stage::Sent;
        let step = self.mark_step()?;
        if self.settings.mode == Mode::UploadOnly {
            self.progress.stage = Stage::Verified;
        }
        self.phase = Phase::Ask(step);
        Ok(())
    }

    /// Android: all pieces under way have failed, and the upload goes on in the next connection.
    fn upload_interrupted(&mut self, now_ms: u64) {
        let pieces = core::mem::take(&mut self.transfer.pieces);
        for piece in &pieces {
            self.piece_failed(*piece, Error::LinkLost);
        }
        if let Phase::Drop(result) = self.phase {
            self.phase = Phase::Over(result);
            return;
        }
        self.goal = Goal::Upload;
        self.transfer.is_placed = false;
        self.phase = Phase::Down {
            connect_at_ms: now_ms + u64::from(self.settings.reconnect_ms),
        };
    }

    /// One whole answer is in the buffer.
    fn received_frame(&mut self, length: usize, now_ms: u64) -> Result<(), Error> {
        // The answer is read from the buffer while the rest of the client changes.
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

    /// Puts an answer together, of which this is the next fragment.
    fn append(&mut self, bytes: &[u8], now_ms: u64) -> Result<(), Error> {
        let odd = Error::OddAnswer(self.awaited());
        let end = self.received + bytes.len();
        let place = self.buffers.answer.get_mut(self.received..end).ok_or(odd)?;
        place.copy_from_slice(bytes);
        self.received = end;
        // The first fragment holds the whole header.
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
        Step::Probe { .. } => "what it can do",
        Step::List | Step::ListBeforeConfirm => LIST,
        Step::Mark { confirm: false } => "Test",
        Step::Reset(_) => "Reset",
        Step::Mark { confirm: true } | Step::LeaveTrial { .. } | Step::Confirm => "Confirm",
    }
}

const fn name_of_piece(piece: Piece) -> &'static str {
    match piece.offset {
        0 => FIRST_PIECE,
        _ => PIECE,
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
            // An answer may still come.
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
            // The transport asks its own questions in the middle of an upload.
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
