// SPDX-License-Identifier: Apache-2.0
//! The decoder: gives the image a page at a time, from a stream, the base, and what it has given before.
//!
//! It trusts nothing that it reads. Every read is within the base's covered bytes, the stream, or the bytes given before; the
//! image never gets more bytes than announced; and every call ends: an event gives at least one byte or is a jump, a jump is
//! followed by something else, and a stream is at most [`MOST_PAST_END`] bytes longer than its file. So the work is at most one
//! jump and one event for each byte of the image.

use crate::coder::{self, Coder, Range};
use crate::model::{Correction, Event, Model, Unit};
use crate::record::{Pack, PackError};
use crate::thumb;
use crate::TABLE;
use bledfu_text::{words, Line, Text};

/// Zeros that may be missing at the end of a stream.
pub const MOST_PAST_END: u32 = 8;

/// Bytes of the base or the output that are read at once.
const WINDOW: usize = 128;
/// Bytes of the stream that are read at once.
const STREAM: usize = 32;

/// What a decoder reads. Every offset is a multiple of 4; a length is one too, except at the end of what is read.
pub trait Source {
    /// Why a read failed.
    type Error;

    /// Reads the base, from `offset`. Called only below [`Pack::base_len`].
    ///
    /// # Errors
    /// Why it cannot be read; the decoder returns it and is done.
    fn base(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error>;

    /// Reads what was made, from `offset`. Called only below the start of the page that is being filled.
    ///
    /// # Errors
    /// As for [`Source::base`].
    fn output(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error>;

    /// Reads the stream, from `offset`. Called only below its length.
    ///
    /// # Errors
    /// As for [`Source::base`].
    fn stream(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error>;
}

/// Why an image cannot be given.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError<E> {
    /// The base, the output or the stream could not be read.
    Source(E),
    /// The stream is not that of an image.
    Stream(StreamError),
    /// The decoder has no stream: none was started, or it has failed.
    NotStarted,
}

/// What is wrong with a stream.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// It ends before the image is complete.
    Ends,
    /// It reads where there is nothing to read.
    ReadsOutside,
    /// It makes more bytes than announced.
    TooManyBytes,
    /// A jump follows a jump.
    TwoJumps,
    /// A correction that has no meaning.
    Correction,
}

impl Text for StreamError {
    fn put(&self, line: &mut dyn Line) {
        let words = match self {
            Self::Ends => words!("the stream of the packed update ends before its image"),
            Self::ReadsOutside => words!("the stream of the packed update reads outside of its sources"),
            Self::TooManyBytes => words!("the stream of the packed update makes more bytes than announced"),
            Self::TwoJumps => words!("the stream of the packed update jumps twice"),
            Self::Correction => words!("the stream of the packed update has a correction without meaning"),
        };
        words.put(line);
    }
}

bledfu_text::display!(StreamError);

impl core::error::Error for StreamError {}

/// Without the error of the sources, which only [`Display`](core::fmt::Display) shows.
impl<E> Text for DecodeError<E> {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::Source(_) => words!("the sources of a packed update cannot be read").put(line),
            Self::Stream(error) => error.put(line),
            Self::NotStarted => words!("no packed update is being expanded").put(line),
        }
    }
}

impl<E: core::fmt::Display> core::fmt::Display for DecodeError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        bledfu_text::format(self, f)?;
        match self {
            Self::Source(error) => write!(f, ": {error}"),
            _ => Ok(()),
        }
    }
}

impl<E: core::fmt::Debug + core::fmt::Display> core::error::Error for DecodeError<E> {}

/// Expands one stream. `N` is the room of its table of displacements; see [`Pack::table`].
///
/// RAM: 3.4 KB with the default table. It can be a constant, so a static place costs no code.
#[derive(Clone)]
pub struct Decoder<const N: usize = TABLE> {
    model: Model<N>,
    buffers: Buffers,
    /// Units that are left of a run.
    run: u32,
    /// Whether a stream was started, and nothing in it was wrong.
    is_started: bool,
    /// Whether the last event was a jump.
    has_jumped: bool,
}

/// What was read ahead. What is small comes first: instructions of 16 bits reach it.
#[derive(Clone)]
#[repr(C)]
struct Buffers {
    range: Range,
    /// Place of the next byte of the stream, and length of the stream.
    stream_at: u32,
    stream_len: u32,
    /// Place of the first byte of the window, how many there are, and whether they are of the base.
    window_at: u32,
    window_len: u32,
    window_in_base: bool,
    /// Bytes of the last unit that did not fit into a page, the next one lowest.
    rest: u32,
    rest_len: u32,
    stream: [u8; STREAM],
    window: [u8; WINDOW],
}

impl Buffers {
    /// Bytes of the window from a place on; none if the place is not in it.
    fn window(&self, in_base: bool, at: u32) -> &[u8] {
        if in_base != self.window_in_base {
            return &[];
        }
        let from = at.wrapping_sub(self.window_at) as usize;
        let bytes = self.window.get(from..self.window_len as usize);
        bytes.unwrap_or_default()
    }
}

/// A page while it is filled.
struct Page<'d, S: Source> {
    buffers: &'d mut Buffers,
    source: &'d mut S,
    failed: Option<S::Error>,
    page: &'d mut [u8],
    /// Bytes in it.
    filled: usize,
    /// Place of its first byte in the image.
    start: u32,
}

impl<S: Source> coder::Stream for Page<'_, S> {
    fn range(&mut self) -> &mut Range {
        &mut self.buffers.range
    }

    fn next(&mut self) -> u8 {
        let at = self.buffers.stream_at;
        self.buffers.stream_at = at.wrapping_add(1);
        if at >= self.buffers.stream_len {
            return 0;
        }
        let place = at as usize % STREAM;
        if place == 0 {
            let len = (self.buffers.stream_len - at).min(STREAM as u32) as usize;
            let bytes = self.buffers.stream.get_mut(..len).unwrap_or_default();
            if let Err(error) = self.source.stream(at, bytes) {
                self.failed = Some(error);
            }
        }
        self.buffers.stream.get(place).copied().unwrap_or(0)
    }
}

/// Decodes, and ignores what it is given.
impl<S: Source> Coder for Page<'_, S> {
    #[inline(never)]
    fn bit(&mut self, probability: &mut u16, _: u32) -> u32 {
        coder::bit(self, probability)
    }

    #[inline(never)]
    fn raw(&mut self, _: u32) -> u32 {
        coder::raw(self)
    }
}

impl<S: Source> Page<'_, S> {
    fn has_room(&self) -> bool {
        self.filled < self.page.len()
    }

    /// Whether reading has failed, or more zeros were read behind the end of the stream than a packer leaves out.
    fn has_ended(&self) -> bool {
        self.failed.is_some()
            || self.buffers.stream_at.saturating_sub(self.buffers.stream_len) > MOST_PAST_END
    }

    /// Appends the lowest `len` bytes of a word.
    #[inline(never)]
    fn put(&mut self, mut word: u32, mut len: u32) {
        while len > 0 {
            let Some(byte) = self.page.get_mut(self.filled) else {
                break;
            };
            *byte = word as u8;
            self.filled += 1;
            word >>= 8;
            len -= 1;
        }
        self.buffers.rest = word;
        self.buffers.rest_len = len;
    }

    /// Copies bytes of the window that are only bytes, at most `most`; returns how many.
    #[inline(never)]
    fn copy<const N: usize>(&mut self, model: &Model<N>, most: u32) -> u32 {
        let mut from = self.buffers.window(model.in_base, model.position);
        let mut to = self.page.get_mut(self.filled..).unwrap_or_default();
        let most = from.len().min(to.len()).min(most as usize);
        let mut copied = 0;
        let between = model.position ^ model.produced;
        if !model.is_odd() {
            // Two bytes at a time, up to a branch or a pointer.
            let mut place = match model.in_base && between & 2 == 0 {
                true => model.position & 2,
                false => 1, // No pointers here.
            };
            while copied + 2 <= most {
                let (Some(word), Some((two, behind))) = (from.first_chunk(), to.split_first_chunk_mut::<2>())
                else {
                    break;
                };
                let word = u32::from_le_bytes(*word);
                if thumb::is_branch(word) || place == 0 && model.is_pointer(word) {
                    break;
                }
                *two = (word as u16).to_le_bytes();
                to = behind;
                from = from.get(2..).unwrap_or_default();
                copied += 2;
                place ^= 2;
            }
        }
        self.filled += copied;
        copied as u32
    }

    /// One byte of the base or of what was produced; the caller has checked that it is there.
    #[inline(never)]
    fn byte(&mut self, in_base: bool, at: u32, base_len: u32) -> u8 {
        let mut end = base_len;
        if !in_base {
            if let Some(place) = at.checked_sub(self.start) {
                return self.page.get(place as usize).copied().unwrap_or(0);
            }
            end = self.start;
        }
        if let Some(byte) = self.buffers.window(in_base, at).first() {
            return *byte;
        }
        // A flash is read in words, and a unit that begins in the window before is needed whole.
        let first = at.saturating_sub(3) & !3;
        let len = (end - first).min(WINDOW as u32);
        self.buffers.window_at = first;
        self.buffers.window_in_base = in_base;
        self.buffers.window_len = len;
        let bytes = self.buffers.window.get_mut(..len as usize).unwrap_or_default();
        let read = match in_base {
            true => self.source.base(first, bytes),
            false => self.source.output(first, bytes),
        };
        if let Err(error) = read {
            self.failed = Some(error);
        }
        self.buffers
            .window
            .get((at - first) as usize)
            .copied()
            .unwrap_or(0)
    }

    /// The unit at the read position; `None` if nothing is there.
    fn unit<const N: usize>(&mut self, model: &Model<N>) -> Option<Unit> {
        let available = model
            .limit()
            .checked_sub(model.position)
            .filter(|available| *available > 0)?;
        let window = self.buffers.window(model.in_base, model.position);
        let mut word = 0;
        if let Some(bytes) = window.first_chunk() {
            word = u32::from_le_bytes(*bytes);
        } else {
            let mut len = match model.is_odd() {
                true => 1,
                false => available.min(4),
            };
            while len > 0 {
                len -= 1;
                let byte = self.byte(model.in_base, model.position + len, model.pack.base_len);
                word = word << 8 | u32::from(byte);
            }
        }
        Some(model.unit(word, available))
    }
}

impl<const N: usize> Decoder<N> {
    /// A decoder without a stream.
    pub const fn new() -> Self {
        Self {
            model: Model::new(),
            buffers: Buffers {
                range: Range::new(),
                stream: [0; STREAM],
                stream_at: 0,
                stream_len: 0,
                window: [0; WINDOW],
                window_at: 0,
                window_len: 0,
                window_in_base: false,
                rest: 0,
                rest_len: 0,
            },
            run: 0,
            is_started: false,
            has_jumped: false,
        }
    }

    /// Begins a stream of `stream_len` bytes. Whatever was begun before is forgotten.
    ///
    /// # Errors
    /// [`PackError::Table`] if the table of this decoder is too small. The other fields were checked by [`Pack::decode`]; with
    /// values that have no meaning a stream gives an error, or an image that nobody asked for.
    pub fn start(&mut self, pack: &Pack, stream_len: u32) -> Result<(), PackError> {
        self.is_started = false;
        pack.check_table(N)?;
        self.model.reset(pack);
        self.buffers.stream_at = 0;
        self.buffers.stream_len = stream_len;
        self.buffers.window_len = 0;
        self.buffers.rest_len = 0;
        self.run = 0;
        self.has_jumped = false;
        self.is_started = true;
        Ok(())
    }

    /// Bytes of the image that were given.
    pub const fn given(&self) -> u32 {
        self.model.produced.saturating_sub(self.buffers.rest_len)
    }

    /// Whether the whole image was given.
    pub const fn is_complete(&self) -> bool {
        self.is_started && self.given() == self.model.pack.out_size
    }

    /// Gives the next bytes of the image: as many as `page` holds, or as are left. Returns how many; 0 when the image is
    /// complete. Before the next call, the bytes must be where [`Source::output`] finds them.
    ///
    /// # Errors
    /// [`DecodeError`]; the decoder is then without a stream, and what `page` holds is nothing.
    pub fn fill<S: Source>(
        &mut self,
        source: &mut S,
        page: &mut [u8],
    ) -> Result<usize, DecodeError<S::Error>> {
        if !self.is_started {
            return Err(DecodeError::NotStarted);
        }
        let mut page = Page {
            start: self.given(),
            buffers: &mut self.buffers,
            source,
            failed: None,
            page,
            filled: 0,
        };
        if page.buffers.stream_at == 0 {
            coder::start(&mut page);
        }
        let (rest, rest_len) = (page.buffers.rest, page.buffers.rest_len);
        page.put(rest, rest_len);
        let result = events(&mut self.model, &mut page, &mut self.run, &mut self.has_jumped);
        let error = match (page.failed, result) {
            (None, Ok(())) => return Ok(page.filled),
            (Some(error), _) => DecodeError::Source(error),
            (None, Err(error)) => DecodeError::Stream(error),
        };
        self.is_started = false;
        Err(error)
    }
}

/// Decodes until the page is full or the image complete.
fn events<const N: usize, S: Source>(
    model: &mut Model<N>,
    page: &mut Page<'_, S>,
    run: &mut u32,
    has_jumped: &mut bool,
) -> Result<(), StreamError> {
    loop {
        if page.has_ended() {
            // If a read has failed, the caller knows better.
            return Err(StreamError::Ends);
        }
        let left = model.pack.out_size.wrapping_sub(model.produced);
        if left == 0 || !page.has_room() {
            return Ok(());
        }
        let mut is_fix = false;
        if *run == 0 {
            let event = model.event(page, Event::Run);
            let is_jump = matches!(event, Event::Jump);
            if is_jump && *has_jumped {
                return Err(StreamError::TwoJumps);
            }
            *has_jumped = is_jump;
            match event {
                Event::Run => {
                    *run = model.run(page, 0);
                    if *run > left {
                        return Err(StreamError::TooManyBytes);
                    }
                    model.begin_run();
                }
                Event::Fix => is_fix = true,
                Event::Literal => {
                    let byte = model.literal(page, 0);
                    page.put(byte, 1);
                    model.advance_literal();
                    continue;
                }
                Event::Jump => {
                    model.jump(page, false, 0).ok_or(StreamError::ReadsOutside)?;
                    continue;
                }
            }
        }
        if !is_fix {
            // A run counts a branch or a pointer as one, so a forged one may be longer than what is left.
            let copied = page.copy(model, left.min(*run));
            *run -= copied;
            model.advance(copied);
            // Where copying stops, there is a branch, a pointer or the end of the window.
            if *run == 0 || !page.has_room() {
                continue;
            }
        }
        let unit = page.unit(model).ok_or(StreamError::ReadsOutside)?;
        if unit.len() > model.pack.out_size.wrapping_sub(model.produced) {
            return Err(StreamError::TooManyBytes);
        }
        let word = match is_fix {
            true => model
                .correct(page, &unit, Correction::Neighbour)
                .ok_or(StreamError::Correction)?,
            false => {
                *run -= 1;
                model.predict(&unit)
            }
        };
        page.put(word, unit.len());
        model.advance(unit.len());
    }
}

impl<const N: usize> Default for Decoder<N> {
    fn default() -> Self {
        Self::new()
    }
}

const _: () = assert!(
    core::mem::size_of::<Decoder>() <= 3_584,
    "the state has at most 3.5 KB"
);
