// SPDX-License-Identifier: Apache-2.0
//! The SMP (mcumgr) server: frames in, one answer each, in the order of the frames.
//!
//! ```text
//!  fragments ──► Reassembly ──► frame ──► bledfu_wire::smp ──► Request ──► Smp ──► Response ──► frame
//!                                                                │
//!                   first piece: checks of §4.2 in Zephyr's order │ Upload::begin ─┐
//!                   every piece:                                 └ Upload::stream ─┴► whole pages, commit at each sector
//!                   test, confirm:  the image is verified from header to signature, then marked (Upload::request)
//! ```
//! Where Zephyr's server (`img_mgmt.c`, `smp.c`) hurt a client, this one differs:
//! - A piece is always taken whole, and its answer never waits for the erase of sectors that a later piece needs.
//! - The upload survives a disconnect, and a reset by the journal, up to the last whole sector.
//! - The length must agree too before an upload is resumed; the trailer's room is no room for an image.
//! - After the last piece the answer to any piece is the length, so that an answer that was lost does not start the upload over.
//! - `match` is sent only for a whole SHA-256, and compares it with what reads back from flash.
//! - A slot is marked only when signature and digest of its image are good ([`Error::InvalidTlv`] if not).
//! - Erase answers when the slot holds no image any more; the rest of it is erased while nothing else happens.

use crate::doors::ConfirmBy;
use crate::event::{Event, Incoming, Refusal};
use crate::note;
use crate::secure_dfu::Then;
use crate::upload::{Obstacle, Protocol, TransferError, Unfit, Upload};
use bledfu_slot::areas::Areas;
use bledfu_slot::header::{HeaderError, ImageHeader, ImageStart, IMAGE_MAGIC};
use bledfu_slot::journal::Progress;
use bledfu_slot::layout::Algorithm;
use bledfu_slot::trailer::SwapType;
use bledfu_slot::verify::{Crypto, ImageInfo};
use bledfu_slot::Version;
use bledfu_wire::image_group::{self, Error, ImageState, SlotInfo};
use bledfu_wire::os_group;
use bledfu_wire::smp::{self, Code, Failure, Header, Message, Request, Response};
use core::fmt::Write as _;
use heapless::{String, Vec};

/// Longest frame in bytes that Zephyr's samples take: five full writes at an MTU of 498. Clients fill it.
pub const DEFAULT_FRAME_SIZE: usize = 2475;
/// Frames that are held: a window of three requests, as phones send, and one more.
pub const DEFAULT_FRAME_COUNT: usize = 4;
/// Room in bytes for an answer. The state of two images takes up to 288; a longer echo is refused.
pub const ANSWER_SIZE: usize = 512;
/// A frame whose next fragment does not come for so long is dropped. Clients wait 2.5 s for an answer to it, then send another.
pub const FRAGMENT_MS: u64 = 2_000;
/// Bytes that are erased ahead of the data while the peer is quiet.
pub const ERASE_AHEAD: u32 = 32 * 1024;

/// Longest text that describes the system.
const INFO_SIZE: usize = 160;
/// Longest text of a version: `255.255.65535.4294967295`.
const VERSION_SIZE: usize = 24;
const HASH_SIZE: usize = 32;

/// What the device says of itself; each part may be empty.
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

/// Settings of the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Config<'k> {
    /// Told on request.
    pub system: System<'k>,
    /// The boot stage refuses older versions.
    pub no_downgrade: bool,
    /// Frames that the transport holds; see [`DEFAULT_FRAME_COUNT`].
    pub frame_count: u32,
}

/// What comes of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Length in bytes of the frame to send.
    pub length: usize,
    /// What comes after it.
    pub then: Then,
    /// An upload begins: a faster link is worth its energy.
    pub hurry: bool,
    /// The protocol itself refused the frame, so where the next one begins in the same datagram is not certain.
    pub is_damaged: bool,
}

/// Where in a frame the fragments of one connection are. Nothing but the length in a frame's header says where it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FragmentRun {
    /// Bytes that are to come of the frame whose fragments come now.
    left: usize,
    /// Length of its first fragment.
    first: usize,
}

impl FragmentRun {
    pub const fn new() -> Self {
        Self { left: 0, first: 0 }
    }

    /// Takes the next fragment; true if it is the first one of a frame. It is when nothing is to come any more, and when a whole
    /// request comes in place of a fragment of another length: the client gave up. Clients cut all fragments of a frame but
    /// the last to one length, so bytes of an image that look like a request are not taken for one.
    pub fn begins(&mut self, fragment: &[u8]) -> bool {
        let length = fragment.len();
        let head = Header::decode(fragment);
        let is_whole = head.is_some_and(|head| {
            matches!(head.op, smp::op::READ | smp::op::WRITE) && head.frame_length() == length
        });
        let begins = self.left == 0 || (is_whole && length != self.first.min(self.left));
        if begins {
            self.left = head.map_or(0, |head| head.frame_length());
            self.first = length;
        }
        self.left = self.left.saturating_sub(length);
        begins
    }
}

/// Puts the fragments of one connection together. RAM: `N` bytes, which is the longest frame.
#[derive(Debug)]
pub struct Reassembly<const N: usize> {
    bytes: Vec<u8, N>,
    run: FragmentRun,
    /// The frame is no good: the rest of it is dropped.
    skips: bool,
    last_ms: u64,
}

impl<const N: usize> Default for Reassembly<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Reassembly<N> {
    /// Nothing collected.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            run: FragmentRun::new(),
            skips: false,
            last_ms: 0,
        }
    }

    /// The peer has gone, or wants no notifications any more.
    pub fn reset(&mut self) {
        self.bytes.clear();
        self.run = FragmentRun::new();
        self.skips = false;
    }

    /// Takes one fragment; the frame, when it is the last one. What fits no frame is dropped without a word, as Zephyr does
    /// (`smp_reassembly.c`): the client sends its request again.
    pub fn push(&mut self, fragment: &[u8], now_ms: u64) -> Option<&[u8]> {
        if now_ms.saturating_sub(self.last_ms) > FRAGMENT_MS {
            self.reset();
        }
        self.last_ms = now_ms;
        if self.run.begins(fragment) {
            self.bytes.clear();
            self.skips = Header::decode(fragment).is_none();
        }
        if self.skips {
            return None;
        }
        let collected = self.bytes.extend_from_slice(fragment).is_ok();
        let length = Header::decode(&self.bytes).map_or(0, |head| head.frame_length());
        self.skips = !collected || length > N || self.bytes.len() > length;
        (!self.skips && self.bytes.len() == length).then_some(self.bytes.as_slice())
    }

    /// The frame that [`Reassembly::push`] gave last, until the next fragment.
    pub(crate) fn frame(&self) -> &[u8] {
        &self.bytes
    }
}

/// An upload: what came with its first piece.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    /// Length of the file in bytes.
    length: u32,
    /// The client's name for it; a SHA-256 of the file if it has 32 bytes.
    sha: Vec<u8, HASH_SIZE>,
    /// At the end: whether the SHA-256 is that of the bytes in flash.
    matches: Option<bool>,
}

/// First byte of a session in the journal. An init packet never begins with it: in protobuf it would be field number 0.
const SESSION_TAG: u8 = 0;
const SESSION_SIZE: usize = 5 + HASH_SIZE;

impl Session {
    /// ```text
    /// 00 │ length u32 little-endian │ sha, 0 to 32 bytes
    /// ```
    fn to_bytes(&self) -> Vec<u8, SESSION_SIZE> {
        let mut bytes = Vec::new();
        // It has room for all of it.
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

/// Whether a session of the journal is one of this protocol.
pub fn is_session(stored: &[u8]) -> bool {
    stored.first() == Some(&SESSION_TAG)
}

/// The server. The upload is lent to it for each frame.
pub struct Smp<'k> {
    config: Config<'k>,
    /// Longest frame in bytes.
    frame_size: u32,
    session: Option<Session>,
}

impl<'k> Smp<'k> {
    /// A server for frames of up to `frame_size` bytes.
    pub fn new(config: Config<'k>, frame_size: usize) -> Self {
        Self {
            config,
            frame_size: frame_size as u32,
            session: None,
        }
    }

    /// Length in bytes of the image that is being received.
    pub fn incoming(&self) -> Option<u32> {
        self.session.as_ref().map(|session| session.length)
    }

    /// Goes on with the journal's session, which is `stored` and got to `progress`.
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
            note::warn(format_args!(
                "the interrupted upload is dropped: its record makes no sense"
            ));
            upload.abandon_session();
            return;
        };
        let resumed = upload.resume(Protocol::Smp, stored, session.length, progress);
        note::info(format_args!(
            "an upload of {} bytes goes on at {}",
            session.length, resumed.offset
        ));
        session.matches = verdict(upload, &session);
        if session.matches == Some(false) {
            drop_wrong(upload);
            return;
        }
        self.session = Some(session);
    }

    /// Handles one whole frame; the answer is in `out`, [`ANSWER_SIZE`] bytes of it are enough. `None`: fewer bytes than a
    /// header has, and no answer is possible.
    #[inline(never)]
    pub fn handle<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        frame: &[u8],
        now_ms: u64,
        out: &mut [u8],
    ) -> Option<Answer> {
        let message = smp::decode(frame)?;
        // Here, where nothing is on the stack yet: below it comes the check of a signature, and that is the deepest there is.
        let written = match &message.request {
            Ok(Request::Image(image_group::Request::WriteState { hash, confirm })) => {
                write_state(upload, (*hash, *confirm), now_ms)
            }
            _ => Ok(()),
        };
        Some(self.answer(upload, message, written, now_ms, out))
    }

    /// Handles a request, but for the change of state that has been made already.
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
                    Ok(()) => {
                        then = Then::Reset;
                        Ok(Response::Empty)
                    }
                    Err(obstacle) => {
                        note::warn(format_args!(
                            "no reset for a peer that has not paired: {obstacle}"
                        ));
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
                        list(&Images::read(upload), &mut versions, &mut images);
                        Response::Image(image_group::Response::State(&images))
                    })
                }
            },
        };
        let failure = response.err();
        match failure {
            // Apps find out what a device has by asking.
            Some(Failure::Smp(Code::NotSupported) | Failure::Os(os_group::Error::QueryYieldsNoAnswer))
            | None => {}
            Some(failure) => {
                note::warn(format_args!("refused: {failure}"));
                upload.events.push(Event::Refused(Refusal::Smp(failure)));
            }
        }
        let response = response.unwrap_or_else(Response::Failed);
        let length = smp::encode(&message.context, &response, out);
        Answer {
            length,
            then,
            hurry: hurry && failure.is_none(),
            is_damaged: matches!(failure, Some(Failure::Smp(_))),
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

    /// The parts that `format` asks for, in the order of `uname`, whatever the order of the letters.
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
        // There is one image. Clients call it 0, or 1 (`smpmgr --slot 1`, mcumgr-client); more is for another device.
        if piece.image > 1 {
            note::warn(format_args!(
                "image {} does not exist on this device",
                piece.image
            ));
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
            // Where nothing is held, the piece itself is what is wanted.
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
        if !upload.admits(incoming) {
            return Err(Failure::Smp(Code::AccessDenied));
        }
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
        note::info(format_args!("an upload of {length} bytes begins"));
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
        refuse_for(upload.slot_obstacle(Protocol::Smp, now_ms))?;
        self.session = None;
        upload
            .erase(now_ms)
            .map_err(|_| Failure::Image(Error::FlashEraseFailed))?;
        note::info(format_args!("the secondary slot is erased"));
        Ok(Response::Empty)
    }

    /// The upload, unless the other protocol has taken the slot from it.
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

/// The end of an upload whose SHA-256 is wrong. The same file sent again starts from its first byte.
fn drop_wrong<A: Areas, C: Crypto>(upload: &mut Upload<'_, A, C>) {
    note::warn(format_args!(
        "the upload is dropped: its SHA-256 differs from the announced one; send it again"
    ));
    upload.close_session();
}

/// Refuses when something stands in the way.
fn refuse_for(obstacle: Option<Obstacle>) -> Result<(), Failure> {
    match obstacle {
        None => Ok(()),
        Some(obstacle) => {
            note::warn(format_args!("{obstacle}"));
            Err(match obstacle {
                Obstacle::TooSoon { .. } => Failure::Smp(Code::Busy),
                _ => Failure::Image(Error::NoFreeSlot),
            })
        }
    }
}

/// The answer to a piece of an image that can never run here.
fn unfit(reason: Unfit) -> Failure {
    note::warn(format_args!("the image is refused: {reason}"));
    let reason = match reason {
        Unfit::Header(reason) => reason,
        Unfit::Older(_) => return Failure::Image(Error::CurrentVersionIsNewer),
    };
    Failure::Image(match reason {
        HeaderError::WrongSlot { .. } => Error::InvalidFlashAddress,
        HeaderError::WrongAddress { .. } | HeaderError::RamLoad => Error::InvalidImageVectorTable,
        _ => Error::InvalidImageHeader,
    })
}

/// The answer to a piece: the next byte wanted.
fn wanted<'r>(offset: u32, matches: Option<bool>) -> Response<'r> {
    Response::Image(image_group::Response::Upload { offset, matches })
}

/// At the end of the file, if the client's name for it is a SHA-256: whether it is that of the bytes in flash.
fn verdict<A: Areas, C: Crypto>(upload: &Upload<'_, A, C>, session: &Session) -> Option<bool> {
    (session.sha.len() == HASH_SIZE && upload.is_complete())
        .then(|| upload.file_digest().as_slice() == session.sha.as_slice())
}

/// The build number does not count (Zephyr `img_mgmt_vercmp`).
fn is_newer(offered: &Version, running: &Version) -> bool {
    let key = |version: &Version| (version.major, version.minor, version.revision);
    key(offered) > key(running)
}

/// The numbers of MCUboot's `boot_status.h`; -1 is unknown. Apps only look for modes without a swap, so that is right for our own
/// copy.
const fn boot_mode(algorithm: Algorithm) -> i8 {
    match algorithm {
        Algorithm::SwapScratch => 1,
        Algorithm::Overwrite => 2,
        Algorithm::SwapMove => 3,
        Algorithm::SwapOffset => 9,
        _ => -1,
    }
}

/// What is in the slots, and what the next boot makes of it.
struct Images {
    primary: Option<ImageInfo>,
    secondary: Option<ImageInfo>,
    next: SwapType,
}

impl Images {
    #[inline(never)]
    fn read<A: Areas, C: Crypto>(upload: &mut Upload<'_, A, C>) -> Self {
        let outlook = upload.outlook();
        Self {
            primary: upload.primary_image(),
            secondary: upload.secondary_image(outlook),
            next: outlook.swap_type(),
        }
    }
}

/// The images in the slots with the flags of the table in `img_mgmt_state.c`.
fn list<'v>(
    found: &Images,
    versions: &'v mut [String<VERSION_SIZE>; 2],
    images: &mut Vec<ImageState<'v>, 2>,
) {
    let is_pending = matches!(found.next, SwapType::Test | SwapType::Permanent);
    let reverts = found.next == SwapType::Revert;
    for ((slot, info), version) in (0u8..).zip([&found.primary, &found.secondary]).zip(versions) {
        let Some(info) = info else {
            continue;
        };
        let is_running = slot == 0;
        let Version {
            major,
            minor,
            revision,
            build,
        } = info.header.version;
        let written = write!(version, "{major}.{minor}.{revision}");
        if build != 0 && written.is_ok() {
            let _ = write!(version, ".{build}");
        }
        // There are two places for two slots.
        let _ = images.push(ImageState {
            slot,
            version,
            hash: info.digest,
            bootable: true,
            pending: !is_running && is_pending,
            // A new image on trial has not confirmed itself; then the other one is the one to go back to.
            confirmed: is_running != reverts,
            active: is_running,
            permanent: !is_running && found.next == SwapType::Permanent,
        });
    }
}

/// Whether the peer whose frame is handled may confirm the running image.
fn may_confirm<A: Areas, C: Crypto>(upload: &Upload<'_, A, C>) -> bool {
    match upload.doors().confirm {
        ConfirmBy::Anybody => true,
        ConfirmBy::Trusted => !upload.is_for_stranger(),
        ConfirmBy::Nobody => false,
    }
}

/// Chooses what runs after the next reset; the table of smp.md §4.2, which is Zephyr's `img_mgmt_set_next_boot_slot`.
#[inline(never)]
fn write_state<A: Areas, C: Crypto>(
    upload: &mut Upload<'_, A, C>,
    (hash, confirm): (Option<&[u8]>, bool),
    now_ms: u64,
) -> Result<(), Failure> {
    let refused = |error| Err(Failure::Image(error));
    let found = Images::read(upload);
    let is = |image: &Option<ImageInfo>, hash: &[u8]| image.is_some_and(|image| image.digest == *hash);
    // An empty hash names no image, as none does: `mcumgr image confirm ""`.
    let is_running = match hash.filter(|hash| !hash.is_empty()) {
        None if confirm => true,
        None => return refused(Error::InvalidHash),
        Some(hash) if hash.len() != HASH_SIZE => return refused(Error::InvalidHash),
        Some(hash) if is(&found.primary, hash) => true,
        Some(hash) if is(&found.secondary, hash) => false,
        Some(_) => return refused(Error::HashNotFound),
    };
    match (is_running, confirm, found.next) {
        (true, false, _) => refused(Error::SettingTestToActiveDenied),
        (true, true, SwapType::Test | SwapType::Permanent) => refused(Error::ImageAlreadyPending),
        // Nothing changes, so nobody need be asked; and a stranger writes nothing.
        (true, true, _) if upload.running().confirmed && upload.is_for_stranger() => Ok(()),
        (true, true, _) if !upload.running().confirmed && !may_confirm(upload) => {
            note::warn(format_args!(
                "the running image is not confirmed for this peer (CONFIG_BLEDFU_SMP_CONFIRM): the product does so, or a paired peer"
            ));
            Err(Failure::Smp(Code::AccessDenied))
        }
        (true, true, next) => match upload.confirm() {
            // Also where no revert is due: another boot stage may ask for the flag.
            Ok(()) => {
                note::info(format_args!("the running image is confirmed"));
                Ok(())
            }
            Err(_) if next != SwapType::Revert => Ok(()),
            Err(_) => refused(Error::FlashWriteFailed),
        },
        (false, false, SwapType::Test) | (false, true, SwapType::Permanent | SwapType::Revert) => Ok(()),
        (false, _, SwapType::Test | SwapType::Permanent | SwapType::Revert) => {
            refused(Error::ImageAlreadyPending)
        }
        (false, true, _) if upload.is_for_stranger() && !upload.doors().permanent_by_strangers => {
            note::warn(format_args!(
                "an image is not installed for good for a peer that has not paired (CONFIG_BLEDFU_SMP_PERMANENT): test it"
            ));
            refused(Error::ConfirmationDenied)
        }
        (false, confirm, _) => {
            // The next boot would only take the request down.
            refuse_for(upload.lasting_obstacle())?;
            let swap_type = if confirm {
                SwapType::Permanent
            } else {
                SwapType::Test
            };
            let info = match upload.request(swap_type) {
                Ok(info) => info,
                Err(TransferError::NotAnImage) => {
                    // As long as it is listed, clients ask for it and do not send it again.
                    if upload.is_free_for(Protocol::Smp, now_ms) && upload.erase(now_ms).is_ok() {
                        note::warn(format_args!(
                            "the image in the secondary slot is erased: send it again"
                        ));
                    }
                    return refused(Error::InvalidTlv);
                }
                Err(error @ TransferError::Older) => {
                    note::warn(format_args!("{error}"));
                    return refused(Error::CurrentVersionIsNewer);
                }
                Err(error) => {
                    note::error(format_args!("{error}"));
                    return refused(Error::FlashWriteFailed);
                }
            };
            note::info(format_args!(
                "image {} is staged ({swap_type}); reset to install it",
                info.header.version
            ));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    /// An echo request with `text` behind its header.
    fn frame(text: &[u8]) -> std::vec::Vec<u8> {
        let [high, low] = (text.len() as u16).to_be_bytes();
        let mut bytes = std::vec![0x0A, 0, high, low, 0, 0, 0x42, 0];
        bytes.extend_from_slice(text);
        bytes
    }

    #[test]
    fn fragments_of_every_length_become_the_frame_they_were_cut_from() {
        let whole = frame(&[0x5A; 500]);
        for payload in [8, 20, 182, 244, 495, 508] {
            let mut collected = Reassembly::<600>::new();
            let mut fragments = whole.chunks(payload).peekable();
            while let Some(fragment) = fragments.next() {
                let found = collected.push(fragment, 0);
                let expected = fragments.peek().is_none().then_some(whole.as_slice());
                assert_eq!(found, expected, "{payload}");
            }
            assert!(collected.push(&frame(b""), 0).is_some(), "the next one");
        }
    }

    #[test]
    fn a_frame_of_exactly_the_largest_size_is_taken_and_one_byte_more_is_dropped_with_all_its_fragments() {
        let mut collected = Reassembly::<108>::new();
        let largest = frame(&[1; 100]);
        assert_eq!(collected.push(&largest, 0), Some(largest.as_slice()));
        for fragment in frame(&[1; 101]).chunks(20) {
            assert_eq!(collected.push(fragment, 0), None);
        }
        assert_eq!(collected.push(&largest, 0), Some(largest.as_slice()));
    }

    #[test]
    fn a_length_of_65535_does_not_swallow_the_next_frame() {
        let mut collected = Reassembly::<108>::new();
        let mut bad = frame(&[1; 10]);
        bad[2..4].fill(0xFF);
        assert_eq!(collected.push(&bad, 0), None);
        assert!(collected.push(&frame(b"hi"), 0).is_some());
    }

    #[test]
    fn a_fragment_beyond_the_end_drops_the_frame_and_a_short_one_is_no_header() {
        let mut collected = Reassembly::<108>::new();
        let mut bad = frame(&[1; 30]);
        bad[3] = 10;
        assert_eq!(collected.push(&bad, 0), None, "longer than it says");
        assert_eq!(collected.push(&bad[..12], 0), None, "two of eighteen bytes");
        assert_eq!(collected.push(&[0; 20], 0), None, "and four too many");
        assert_eq!(collected.push(&[0x0A, 0, 0], 0), None, "no whole header");
        assert!(collected.push(&frame(b"hi"), 0).is_some());
    }

    #[test]
    fn a_frame_whose_end_does_not_come_is_dropped_after_two_seconds_and_at_a_disconnect() {
        let mut collected = Reassembly::<600>::new();
        let whole = frame(&[7; 300]);
        assert_eq!(collected.push(&whole[..200], 0), None);
        assert_eq!(collected.push(&whole[..200], 2_001), None);
        assert_eq!(collected.push(&whole[200..], 4_001), Some(whole.as_slice()));
        assert_eq!(collected.push(&whole[..200], 4_002), None);
        collected.reset();
        assert_eq!(collected.push(&whole, 4_003), Some(whole.as_slice()));
    }

    #[test]
    fn after_two_seconds_even_a_frame_of_65535_bytes_is_forgotten() {
        let mut collected = Reassembly::<600>::new();
        let whole = frame(&[7; 300]);
        let mut bad = whole.clone();
        bad[2..4].fill(0xFF);
        assert_eq!(collected.push(&bad[..100], 0), None);
        assert_eq!(collected.push(&whole[..100], 2_001), None);
        assert_eq!(collected.push(&whole[100..200], 2_002), None);
        assert_eq!(collected.push(&whole[200..], 2_003), Some(whole.as_slice()));
    }

    #[test]
    fn a_whole_request_in_the_middle_of_a_frame_is_taken_and_the_frame_dropped() {
        let mut collected = Reassembly::<600>::new();
        let whole = frame(&[7; 300]);
        assert_eq!(collected.push(&whole[..100], 0), None);
        let next = frame(b"hi");
        assert_eq!(collected.push(&next, 1), Some(next.as_slice()));
        assert_eq!(collected.push(&whole[..200], 2), None);
        assert_eq!(collected.push(&whole[200..], 3), Some(whole.as_slice()));
    }

    #[test]
    fn image_bytes_that_look_like_a_whole_request_stay_in_their_frame() {
        let mut whole = frame(&[7; 300]);
        let looks_like_one = frame(&[1; 92]);
        whole[100..200].copy_from_slice(&looks_like_one);
        whole[208..308].copy_from_slice(&looks_like_one);
        let mut collected = Reassembly::<600>::new();
        assert_eq!(collected.push(&whole[..100], 0), None);
        assert_eq!(collected.push(&whole[100..200], 0), None);
        assert_eq!(collected.push(&whole[200..300], 0), None);
        assert_eq!(collected.push(&whole[300..], 0), Some(whole.as_slice()));
    }

    #[test]
    fn a_session_comes_back_from_the_journal_and_nothing_else_does() {
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
