// SPDX-License-Identifier: Apache-2.0
//! The SMP (mcumgr) server: frames in, one answer for each, in the order of the frames.
//!
//! ```text
//!  fragments ──► Reassembly ──► frame ──► bledfu_wire::smp ──► Request ──► Smp ──► Response ──► frame
//!                                                                │
//!                   first piece: checks of §4.2 in Zephyr's order │ Upload::begin ─┐
//!                   every piece:                                 └ Upload::stream ─┴► whole pages, commit at each sector
//!                   test, confirm:  the image is verified from header to signature, then marked (Upload::request)
//! ```
//! Where the behaviour of Zephyr's server (`img_mgmt.c`, `smp.c`) hurt a client, this one differs:
//! - A piece is always accepted whole, and its answer never waits for the erase of sectors that a later piece needs.
//! - The upload survives a disconnect, and by the journal a reset, up to the last whole sector.
//! - An upload is resumed only if the length matches too; the trailer's room is not available to the image.
//! - After the last piece the answer to any piece is the length, so that a lost answer does not restart the upload.
//! - `match` is sent only for a whole SHA-256, and compares it with that of the bytes read back from flash.
//! - A slot is marked only if signature and digest of its image are good ([`Error::InvalidTlv`] otherwise).
//! - Erase is answered when the slot no longer holds an image; the rest is erased in idle time.

mod images;
mod reassembly;

pub(crate) use reassembly::FragmentRun;
pub use reassembly::{Reassembly, FRAGMENT_MS};

use crate::doors::Beginning;
use crate::event::{Admission, Event, Incoming, Refusal};
use crate::note;
use crate::secure_dfu::Then;
use crate::upload::{Fate, Obstacle, Protocol, TransferError, Unfit, Upload, EXPANDS};
use bledfu_slot::areas::Areas;
use bledfu_slot::header::{HeaderError, ImageHeader, ImageStart, IMAGE_MAGIC};
use bledfu_slot::journal::Progress;
use bledfu_slot::layout::Algorithm;
use bledfu_slot::trailer::SwapType;
use bledfu_slot::verify::Crypto;
use bledfu_slot::Version;
use bledfu_text::{text, words};
use bledfu_wire::image_group::{self, Error, ImageState, SlotInfo};
use bledfu_wire::os_group;
use bledfu_wire::smp::{self, Code, Failure, Message, Request, Response};
use heapless::{String, Vec};
use images::{list, write_state, Images};

/// Longest frame in bytes in Zephyr's samples: five full writes at an MTU of 498. Clients fill it.
pub const DEFAULT_FRAME_SIZE: usize = 2475;
/// Frames that are buffered: a window of three requests, as phones send, and one more.
pub const DEFAULT_FRAME_COUNT: usize = 4;
/// Room in bytes for an answer. The state of two images takes up to 288; an echo that does not fit is refused.
pub const ANSWER_SIZE: usize = 512;
/// Bytes that are erased ahead of the data while the peer is idle.
pub const ERASE_AHEAD: u32 = 32 * 1024;

/// Maximum length of the system description.
const INFO_SIZE: usize = 160;
/// Maximum length of a version: `255.255.65535.4294967295`.
const VERSION_SIZE: usize = 24;
const HASH_SIZE: usize = 32;

/// The device's description of itself; each part may be empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct System<'k> {
    pub kernel: &'k str,
    pub node: &'k str,
    pub release: &'k str,
    pub version: &'k str,
    pub build: &'k str,
    pub machine: &'k str,
    pub processor: &'k str,
    pub board: &'k str,
    pub os: &'k str,
}

/// Another server in the same device: takes a frame whose group and command are not served here, and answers it itself. An error
/// is what the client is told instead: [`Code::Busy`] if the server has no buffer now, [`Code::MessageSize`] if the frame is too
/// long for it.
pub type Forward = fn(frame: &[u8]) -> Result<(), Code>;

/// Settings of the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Config<'k> {
    /// Reported on request.
    pub system: System<'k>,
    /// The boot stage refuses older versions.
    pub no_downgrade: bool,
    /// Frames that the transport buffers; see [`DEFAULT_FRAME_COUNT`].
    pub frame_count: u32,
    /// Takes what is not served here.
    pub forward: Option<Forward>,
    /// The product, asked when a peer requests a reset, before that is answered. `None`: it agrees.
    pub admit_reset: Option<fn() -> Admission>,
}

/// The result of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Length in bytes of the frame to send.
    pub length: usize,
    /// What follows.
    pub then: Then,
    /// An upload begins: a faster link is worth its energy.
    pub hurry: bool,
    /// The protocol itself refused the frame, so it is uncertain where the next one in the same datagram begins.
    pub is_damaged: bool,
    /// The frame to send comes later: a packed update is being expanded, see [`Smp::release`].
    pub is_held: bool,
}

/// An upload: what its first piece announced.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    /// Length of the file in bytes.
    length: u32,
    /// The client's identifier for it; a SHA-256 of the file if it has 32 bytes.
    sha: Vec<u8, HASH_SIZE>,
    /// At the end: whether the SHA-256 matches the bytes in flash.
    matches: Option<bool>,
}

/// First byte of an SMP session in the journal. An init packet never begins with it: in protobuf it would be field
/// number 0.
const SESSION_TAG: u8 = 0;
const SESSION_SIZE: usize = 5 + HASH_SIZE;

impl Session {
    /// ```text
    /// 00 │ length u32 little-endian │ sha, 0 to 32 bytes
    /// ```
    fn to_bytes(&self) -> Vec<u8, SESSION_SIZE> {
        let mut bytes = Vec::new();
        // The buffer has room for all of it.
        let _ = bytes.push(SESSION_TAG);
        let _ = bytes.extend_from_slice(&self.length.to_le_bytes());
        let _ = bytes.extend_from_slice(&self.sha);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[SESSION_TAG, a, b, c, d], sha) = bytes.split_first_chunk()? else {
            return None;
        };
        Some(Self {
            length: u32::from_le_bytes([a, b, c, d]),
            sha: Vec::from_slice(sha).ok()?,
            matches: None,
        })
    }
}

/// Whether a session of the journal belongs to this protocol.
pub fn is_session(stored: &[u8]) -> bool {
    stored.first() == Some(&SESSION_TAG)
}

/// The server. It borrows the upload for each frame.
pub struct Smp<'k> {
    config: Config<'k>,
    /// Longest frame in bytes.
    frame_size: u32,
    session: Option<Session>,
    /// The request whose answer is held.
    held: Option<smp::Context>,
}

impl<'k> Smp<'k> {
    /// A server for frames of up to `frame_size` bytes.
    pub fn new(config: Config<'k>, frame_size: usize) -> Self {
        Self {
            config,
            frame_size: frame_size as u32,
            session: None,
            held: None,
        }
    }

    /// Length in bytes of the image that is being received.
    pub fn incoming(&self) -> Option<u32> {
        self.session.as_ref().map(|session| session.length)
    }

    /// Continues the journal's session `stored` with its `progress`.
    #[inline(never)]
    pub fn restore<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        stored: &[u8],
        progress: Progress,
    ) {
        let Some(mut session) =
            Session::from_bytes(stored).filter(|session| session.length <= upload.limit())
        else {
            note::warn(&words!(
                "the interrupted upload is dropped: its record is invalid"
            ));
            upload.abandon_session();
            return;
        };
        let resumed = upload.resume(Protocol::Smp, stored, session.length, progress, 0);
        note::info(&text!(
            "an upload of {} bytes goes on at {}",
            session.length,
            resumed.offset
        ));
        session.matches = verdict(upload, &session);
        if session.matches == Some(false) {
            drop_wrong(upload);
            return;
        }
        self.session = Some(session);
        let fw_version = upload.running_version();
        if !upload.recall(None, fw_version) {
            self.session = None;
        }
    }

    /// Handles one whole frame and writes the answer to `out`, which needs [`ANSWER_SIZE`] bytes. `None`: the frame is
    /// shorter than a header, so no answer is possible, or another server answers it ([`Config::forward`]).
    #[inline(never)]
    pub fn handle<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        frame: &[u8],
        now_ms: u64,
        out: &mut [u8],
    ) -> Option<Answer> {
        let mut message = smp::decode(frame)?;
        if message.request == Err(Code::NotSupported) {
            if let Some(forward) = self.config.forward {
                message.request = Err(forward(frame).err()?);
            }
        }
        // Called here, where the stack is almost empty: checking a signature takes more stack than anything else.
        let written = match &message.request {
            Ok(Request::Image(image_group::Request::WriteState { hash, confirm })) => {
                write_state(upload, (*hash, *confirm), now_ms)
            }
            _ => Ok(()),
        };
        let is_write = EXPANDS
            && matches!(
                message.request,
                Ok(Request::Image(image_group::Request::WriteState { .. }))
            );
        if is_write && written.is_ok() && upload.is_promised() {
            self.held = Some(message.context);
            return Some(Answer {
                length: 0,
                then: Then::Continue,
                hurry: false,
                is_damaged: false,
                is_held: true,
            });
        }
        Some(self.answer(upload, message, written, now_ms, out))
    }

    /// Writes the answer that was held. `None` if there is none.
    #[inline(never)]
    pub fn release<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        fate: Fate,
        out: &mut [u8],
    ) -> Option<Answer> {
        let context = self.held.take()?;
        let written = match fate {
            Fate::Pending(true) | Fate::Staged => Ok(()),
            // It may be asked again; what cannot be kept over a reset is not promised.
            Fate::Pending(false) => Err(Failure::Smp(Code::Busy)),
            Fate::Failed(error) => Err(Failure::Image(packed_error(error))),
        };
        let message = Message {
            context,
            request: Ok(Request::Image(image_group::Request::ReadState)),
        };
        if written.is_err() {
            self.session = None;
        }
        let mut answer = self.answer(upload, message, written, 0, out);
        // Its request was whole, whatever became of it.
        answer.is_damaged = false;
        Some(answer)
    }

    /// Nobody waits for the answer that was held any more.
    pub fn forget_held(&mut self) {
        self.held = None;
    }

    /// Handles a request; the caller has already made the change of state.
    #[inline(never)]
    fn answer<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        message: Message<'_>,
        written: Result<(), Failure>,
        now_ms: u64,
        out: &mut [u8],
    ) -> Answer {
        let mut then = Then::Continue;
        let mut hurry = false;
        let mut text = String::<INFO_SIZE>::new();
        let mut versions = [const { String::<VERSION_SIZE>::new() }; 2];
        let mut images = Vec::<ImageState<'_>, 2>::new();
        let mut slots = [SlotInfo {
            slot: 0,
            size: 0,
            upload_image_id: None,
        }; 2];
        let response = match message.request {
            Err(code) => Err(Failure::Smp(code)),
            Ok(Request::Os(request)) => match request {
                os_group::Request::Reset { .. } => match upload.may_reset(now_ms) {
                    Ok(()) => match self.config.admit_reset.map_or(Ok(()), |ask| admitted(ask())) {
                        Ok(()) => {
                            then = Then::Reset;
                            upload.reset_when_staged();
                            Ok(Response::Empty)
                        }
                        Err(failure) => Err(failure),
                    },
                    Err(obstacle) => {
                        note::warn(&text!("no reset for a peer that has not paired: {}", obstacle));
                        Err(Failure::Smp(Code::Busy))
                    }
                },
                os_group::Request::Info { format } => self
                    .describe(format, &mut text)
                    .map(|()| Response::Os(os_group::Response::Info(&text))),
                other => self.os(upload.layout().algorithm(), other),
            },
            Ok(Request::Image(request)) => match request {
                image_group::Request::Upload(piece) => {
                    hurry = piece.offset == Some(0);
                    self.upload(upload, &piece, now_ms)
                }
                image_group::Request::Erase { slot } => self.erase(upload, slot, now_ms),
                image_group::Request::SlotInfo => {
                    let layout = upload.layout();
                    let sizes = [layout.primary().slot_size, layout.secondary().slot_size];
                    for ((number, slot), size) in (0..).zip(&mut slots).zip(sizes) {
                        (slot.slot, slot.size) = (number, size);
                    }
                    Ok(Response::Image(image_group::Response::SlotInfo {
                        slots: &slots,
                        max_image_size: upload.limit(),
                    }))
                }
                image_group::Request::ReadState | image_group::Request::WriteState { .. } => {
                    written.map(|()| {
                        let found = Images::read(upload);
                        // By what is listed: a torn flag may read differently the next time.
                        let is_confirmed = found.next != SwapType::Revert;
                        upload.listed_running(is_confirmed && found.running_as.is_some());
                        list(&found, &mut versions, &mut images);
                        Response::Image(image_group::Response::State(&images))
                    })
                }
            },
        };
        let failure = response.err();
        match failure {
            // Apps ask to find out what a device supports.
            Some(Failure::Smp(Code::NotSupported) | Failure::Os(os_group::Error::QueryYieldsNoAnswer))
            | None => {}
            Some(failure) => refused(upload, failure),
        }
        let response = response.unwrap_or_else(Response::Failed);
        let length = smp::encode(&message.context, &response, out);
        Answer {
            length,
            then,
            hurry: hurry && failure.is_none(),
            is_damaged: matches!(failure, Some(Failure::Smp(_))),
            is_held: false,
        }
    }

    fn os<'r>(&self, algorithm: Algorithm, request: os_group::Request<'r>) -> Result<Response<'r>, Failure> {
        Ok(Response::Os(match request {
            os_group::Request::Echo(text) => os_group::Response::Echo(text),
            os_group::Request::Parameters => os_group::Response::Parameters {
                buf_size: self.frame_size,
                buf_count: self.config.frame_count,
            },
            os_group::Request::BootloaderInfo { query: None } => {
                os_group::Response::Bootloader { name: "MCUboot" }
            }
            os_group::Request::BootloaderInfo { query: Some("mode") } => os_group::Response::Mode {
                mode: boot_mode(algorithm),
                no_downgrade: self.config.no_downgrade,
            },
            os_group::Request::BootloaderInfo { query: Some(_) } => {
                return Err(Failure::Os(os_group::Error::QueryYieldsNoAnswer))
            }
            // Answered by the caller.
            os_group::Request::Reset { .. } | os_group::Request::Info { .. } => return Ok(Response::Empty),
        }))
    }

    /// The parts that `format` asks for, in the order of `uname`, not of the letters.
    fn describe(&self, format: &str, text: &mut String<INFO_SIZE>) -> Result<(), Failure> {
        let System {
            kernel,
            node,
            release,
            version,
            build,
            machine,
            processor,
            board,
            os,
        } = self.config.system;
        let parts = [
            ('s', kernel),
            ('n', node),
            ('r', release),
            ('v', version),
            ('b', build),
            ('m', machine),
            ('p', processor),
            ('i', board),
            ('o', os),
        ];
        let is_known = |letter| letter == 'a' || parts.iter().any(|(known, _)| *known == letter);
        if !format.chars().all(is_known) {
            return Err(Failure::Os(os_group::Error::InvalidFormat));
        }
        let format = if format.is_empty() { "s" } else { format };
        for (letter, part) in parts {
            if part.is_empty() || !format.contains([letter, 'a']) {
                continue;
            }
            let space = if text.is_empty() { "" } else { " " };
            text.push_str(space)
                .and_then(|()| text.push_str(part))
                .map_err(|_| Failure::Smp(Code::MessageSize))?;
        }
        Ok(())
    }

    #[inline(never)]
    fn upload<'r, A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        piece: &image_group::Upload<'_>,
        now_ms: u64,
    ) -> Result<Response<'r>, Failure> {
        let offset = piece.offset.ok_or(Failure::Image(Error::InvalidOffset))?;
        // There is one image. Clients call it 0, or 1 (`smpmgr --slot 1`, mcumgr-client); higher numbers are for
        // another device.
        if piece.image > 1 {
            note::warn(&text!("image {} does not exist on this device", piece.image));
            return Err(Failure::Image(Error::InvalidSlot));
        }
        if offset == 0 {
            return self.first_piece(upload, piece, now_ms);
        }
        let Some(session) = self.open_session(upload) else {
            return Ok(wanted(0, None));
        };
        upload.touch(Protocol::Smp, now_ms);
        let at = upload.progress().offset;
        if upload.is_complete() {
            return Ok(wanted(session.length, session.matches));
        }
        if offset != u64::from(at) {
            return Ok(wanted(at, None));
        }
        if piece.data.len() as u64 > u64::from(session.length - at.min(session.length)) {
            self.drop_session(upload);
            return Err(Failure::Image(Error::InvalidImageDataOverrun));
        }
        self.take(upload, piece.data)
    }

    #[inline(never)]
    fn first_piece<'r, A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        piece: &image_group::Upload<'_>,
        now_ms: u64,
    ) -> Result<Response<'r>, Failure> {
        let refused = |error| Err(Failure::Image(error));
        let Some(header) = piece.data.first_chunk::<{ ImageHeader::SIZE }>() else {
            return refused(Error::InvalidImageHeader);
        };
        let Some(length) = piece.length else {
            return refused(Error::InvalidLength);
        };
        if header.first_chunk() != Some(&IMAGE_MAGIC.to_le_bytes()) {
            return refused(Error::InvalidImageHeaderMagic);
        }
        let Ok(sha) = Vec::from_slice(piece.sha.unwrap_or_default()) else {
            return refused(Error::InvalidHash);
        };
        let mut start = ImageStart::new();
        start.update(piece.data);
        upload.judge(&start).map_err(unfit)?;
        if let Some(session) = self.open_session(upload) {
            let at = upload.progress().offset;
            // Where nothing is held, the piece itself is the one expected.
            if at > 0 && !sha.is_empty() && sha == session.sha && length == u64::from(session.length) {
                upload.touch(Protocol::Smp, now_ms);
                return Ok(wanted(at, session.matches));
            }
        }
        refuse_for(upload.obstacle(Protocol::Smp, now_ms))?;
        let Some(length) = u32::try_from(length)
            .ok()
            .filter(|&length| length <= upload.limit())
        else {
            return refused(Error::InvalidImageTooLarge);
        };
        if let Err(error) = upload.judge_room(&start, length) {
            note::warn(&error);
            return refused(packed_error(error));
        }
        if piece.upgrade {
            let offered =
                ImageHeader::parse(header).map_err(|_| Failure::Image(Error::InvalidImageHeader))?;
            let Some(running) = upload.primary_image() else {
                return refused(Error::VersionGetFailed);
            };
            if !is_newer(&offered.version, &running.header.version) {
                return refused(Error::CurrentVersionIsNewer);
            }
        }
        if piece.data.len() as u64 > u64::from(length) {
            return refused(Error::InvalidImageDataOverrun);
        }
        let incoming = Incoming {
            image: 0,
            size: length,
            fw_version: 0,
        };
        admitted(upload.admits(incoming))?;
        let session = Session {
            length,
            sha,
            matches: None,
        };
        if upload
            .begin(Protocol::Smp, now_ms, &session.to_bytes(), length)
            .is_err()
        {
            return refused(Error::InvalidImageTooLarge);
        }
        upload.prepare_records();
        note::info(&text!("an upload of {} bytes begins", length));
        self.session = Some(session);
        self.take(upload, piece.data)
    }

    /// Writes the next bytes of the open upload.
    fn take<'r, A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        data: &[u8],
    ) -> Result<Response<'r>, Failure> {
        if let Err(error) = upload.stream(data) {
            self.drop_session(upload);
            return Err(Failure::Image(match error {
                TransferError::Erase => Error::FlashEraseFailed,
                _ => Error::FlashWriteFailed,
            }));
        }
        if let Err(reason) = upload.judge_received() {
            self.session = None;
            upload.close_session();
            return Err(unfit(reason));
        }
        if let Some(session) = &mut self.session {
            session.matches = verdict(upload, session);
        }
        let matches = self.session.as_ref().and_then(|session| session.matches);
        let response = wanted(upload.progress().offset, matches);
        if matches == Some(false) {
            self.session = None;
            drop_wrong(upload);
        }
        Ok(response)
    }

    #[inline(never)]
    fn erase<'r, A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        slot: Option<u32>,
        now_ms: u64,
    ) -> Result<Response<'r>, Failure> {
        if slot.is_some_and(|slot| slot > 1) {
            return Err(Failure::Image(Error::InvalidSlot));
        }
        if slot == Some(0) {
            return Err(Failure::Image(Error::NoFreeSlot));
        }
        refuse_for(upload.slot_obstacle(Beginning::Erase, Protocol::Smp, now_ms))?;
        self.session = None;
        upload
            .erase(now_ms)
            .map_err(|_| Failure::Image(Error::FlashEraseFailed))?;
        note::info(&words!("the secondary slot is erased"));
        Ok(Response::Empty)
    }

    /// The upload, unless the other protocol has taken over the slot.
    fn open_session<A: Areas, C: Crypto>(&self, upload: &Upload<'_, A, C>) -> Option<&Session> {
        self.session
            .as_ref()
            .filter(|_| upload.owner() == Some(Protocol::Smp))
    }

    fn drop_session<A: Areas, C: Crypto>(&mut self, upload: &mut Upload<'_, A, C>) {
        self.session = None;
        upload.drop_progress();
    }
}

/// Says that a request is refused.
fn refused<A: Areas, C: Crypto>(upload: &mut Upload<'_, A, C>, failure: Failure) {
    note::warn(&text!("refused: {}", failure));
    upload.events.push(Event::Refused(Refusal::Smp(failure)));
}

/// The answer about a packed update that cannot be expanded. For the wrong base there is no number; the sentence of 27 is the
/// nearest that an app can show.
fn packed_error(error: TransferError) -> Error {
    match error {
        TransferError::OtherBase | TransferError::Older => Error::CurrentVersionIsNewer,
        TransferError::Runs => Error::SettingTestToActiveDenied,
        TransferError::NoRoom => Error::InvalidImageTooLarge,
        TransferError::NotAnImage => Error::InvalidTlv,
        _ => Error::FlashWriteFailed,
    }
}

/// Ends an upload whose SHA-256 is wrong. The same file sent again starts from its first byte.
fn drop_wrong<A: Areas, C: Crypto>(upload: &mut Upload<'_, A, C>) {
    note::warn(&words!(
        "the upload is dropped: its SHA-256 differs from the announced one; send it again"
    ));
    upload.close_session();
}

/// Refuses while there is an obstacle.
fn refuse_for(obstacle: Option<Obstacle>) -> Result<(), Failure> {
    match obstacle {
        None => Ok(()),
        Some(obstacle) => {
            note::warn(&obstacle);
            Err(match obstacle {
                Obstacle::TooSoon { .. } => Failure::Smp(Code::Busy),
                _ => Failure::Image(Error::NoFreeSlot),
            })
        }
    }
}

/// The answer to a piece of an image that can never run here.
fn unfit(reason: Unfit) -> Failure {
    note::warn(&text!("the image is refused: {}", reason));
    let reason = match reason {
        Unfit::Header(reason) => reason,
        Unfit::Older(_) => return Failure::Image(Error::CurrentVersionIsNewer),
        Unfit::NoRoom => return Failure::Image(Error::InvalidImageTooLarge),
    };
    Failure::Image(match reason {
        HeaderError::WrongSlot { .. } => Error::InvalidFlashAddress,
        HeaderError::WrongAddress { .. } | HeaderError::RamLoad => Error::InvalidImageVectorTable,
        _ => Error::InvalidImageHeader,
    })
}

/// The answer to a piece: the next byte expected.
fn wanted<'r>(offset: u32, matches: Option<bool>) -> Response<'r> {
    Response::Image(image_group::Response::Upload { offset, matches })
}

/// At the end of the file, if the client's identifier is a SHA-256: whether it matches the bytes in flash.
fn verdict<A: Areas, C: Crypto>(upload: &mut Upload<'_, A, C>, session: &Session) -> Option<bool> {
    (session.sha.len() == HASH_SIZE && upload.is_complete())
        .then(|| upload.whole_digest().as_ref().map(<[u8; 32]>::as_slice) == Some(session.sha.as_slice()))
}

/// The build number is ignored (Zephyr `img_mgmt_vercmp`).
fn is_newer(offered: &Version, running: &Version) -> bool {
    let key = |version: &Version| (version.major, version.minor, version.revision);
    key(offered) > key(running)
}

/// The numbers of MCUboot's `boot_status.h`; -1 is unknown. Apps only look for modes without a swap, so it is right for
/// our own copy.
const fn boot_mode(algorithm: Algorithm) -> i8 {
    match algorithm {
        Algorithm::SwapScratch => 1,
        Algorithm::Overwrite => 2,
        Algorithm::SwapMove => 3,
        Algorithm::SwapOffset => 9,
        _ => -1,
    }
}

/// What a peer is told of the product's answer.
fn admitted(admission: Admission) -> Result<(), Failure> {
    match admission {
        Admission::Accept => Ok(()),
        Admission::Later => Err(Failure::Smp(Code::Busy)),
        Admission::Refuse => Err(Failure::Smp(Code::AccessDenied)),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn only_a_session_is_restored_from_the_journal() {
        let session = Session {
            length: 475_384,
            sha: Vec::from_slice(&[9; 32]).unwrap(),
            matches: None,
        };
        assert_eq!(Session::from_bytes(&session.to_bytes()), Some(session.clone()));
        let nameless = Session {
            sha: Vec::new(),
            ..session
        };
        assert_eq!(Session::from_bytes(&nameless.to_bytes()), Some(nameless));
        for bytes in [&[][..], &[0], &[0, 1, 2, 3], &[0x12, 1, 2, 3, 4], &[0; 38]] {
            assert_eq!(Session::from_bytes(bytes), None, "{bytes:?}");
        }
        assert!(!is_session(&[0x12, 0x8A]), "an init packet");
    }
}
