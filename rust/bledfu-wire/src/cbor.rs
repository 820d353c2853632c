// SPDX-License-Identifier: Apache-2.0
//! Reading the one CBOR map that an SMP request carries, and writing that of an answer.
//!
//! Reading is tolerant where clients differ: definite and indefinite maps, keys in any order, integers longer than
//! they need to be, unknown keys with any value. It is strict where bytes have no meaning: everything else is
//! [`Code::Invalid`]. Writing is strict: definite maps, the shortest integers.

use crate::smp::Code;
use minicbor::decode::info::Size;
use minicbor::decode::Error;
use minicbor::encode::write::Cursor;
use minicbor::{Decoder, Encoder};

/// How deep containers may lie in each other in the value of an unknown key; a string in pieces counts as one.
/// Clients send none at all.
pub(crate) const MAX_DEPTH: usize = 16;

/// The end of what has no count in front.
const BREAK: u8 = 0xFF;
/// Major types, the upper three bits of an item's first byte (RFC 8949 §3.1).
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// The entries of the map at the start of a payload; what lies behind the map is not looked at.
pub(crate) struct Fields<'a> {
    decoder: Decoder<'a>,
    /// Entries to come; `None`: up to the break.
    left: Option<u64>,
}

impl<'a> Fields<'a> {
    /// Opens the map.
    pub(crate) fn of(payload: &'a [u8]) -> Result<Self, Code> {
        let mut decoder = Decoder::new(payload);
        let left = decoder.map().map_err(invalid)?;
        Ok(Self { decoder, left })
    }

    /// The next entry's key; its value must be taken before the next call. `None` behind the last entry.
    pub(crate) fn next_key(&mut self) -> Result<Option<&'a str>, Code> {
        match &mut self.left {
            Some(0) => return Ok(None),
            Some(left) => *left -= 1,
            None if first_byte(&self.decoder) == Some(BREAK) => return Ok(None),
            None => {}
        }
        self.decoder.str().map(Some).map_err(invalid)
    }

    /// Takes the value of the current key with `read` into `field`, which no earlier entry may have filled.
    pub(crate) fn once<T>(
        &mut self,
        field: &mut Option<T>,
        read: impl FnOnce(&mut Decoder<'a>) -> Result<T, Error>,
    ) -> Result<(), Code> {
        if field.is_some() {
            return Err(Code::Invalid);
        }
        *field = Some(read(&mut self.decoder).map_err(invalid)?);
        Ok(())
    }

    /// As [`Fields::once`], for an integer of at most 32 bits.
    pub(crate) fn once_u32(&mut self, field: &mut Option<u32>) -> Result<(), Code> {
        if field.is_some() {
            return Err(Code::Invalid);
        }
        let number = self.decoder.u64().map_err(invalid)?;
        *field = Some(u32::try_from(number).map_err(|_| Code::Invalid)?);
        Ok(())
    }

    /// Leaves the value of the current key out.
    pub(crate) fn skip(&mut self) -> Result<(), Code> {
        skip(&mut self.decoder).ok_or(Code::Invalid)
    }
}

/// What is open around the next item to skip.
#[derive(Clone, Copy)]
enum Open {
    /// So many items are still to come.
    Counted(u16),
    /// Items up to the break.
    Array,
    /// Keys and values up to the break, which may only come where a key would.
    Map { value_next: bool },
    /// Pieces of a string of this major type, up to the break.
    Pieces(u8),
}

/// Skips one item; `None` if it is none. `Decoder::skip` without a heap knows no indefinite container inside another
/// one, and takes a break where none belongs.
fn skip(decoder: &mut Decoder<'_>) -> Option<()> {
    let mut stack = [Open::Array; MAX_DEPTH];
    let mut depth = 0_usize;
    let mut open = Open::Counted(1);
    loop {
        let first = first_byte(decoder)?;
        match &mut open {
            Open::Array | Open::Map { value_next: false } | Open::Pieces(_) if first == BREAK => {
                advance(decoder, 1)?;
                open = Open::Counted(0);
            }
            Open::Pieces(major) => match item(decoder)? {
                Open::Counted(0) if *major == first >> 5 => {}
                _ => return None,
            },
            around => {
                match around {
                    Open::Counted(left) => *left = left.checked_sub(1)?,
                    Open::Map { value_next } => *value_next = !*value_next,
                    _ => {}
                }
                let inner = item(decoder)?;
                if !matches!(inner, Open::Counted(0)) {
                    *stack.get_mut(depth)? = open;
                    depth += 1;
                    open = inner;
                }
            }
        }
        while let Open::Counted(0) = open {
            let Some(outer) = depth.checked_sub(1) else {
                return Some(());
            };
            depth = outer;
            open = *stack.get(depth)?;
        }
    }
}

/// Skips one item with the tags in front of it, but not what is in a container: that is what it returns.
fn item(decoder: &mut Decoder<'_>) -> Option<Open> {
    let (kind, head) = loop {
        let first = first_byte(decoder)?;
        let head = advance(decoder, Size::head(first).ok()? as u64)?;
        match first >> 5 {
            TAG => {}
            _ if first == BREAK => return None,
            kind => break (kind, head),
        }
    };
    let (count, per_entry) = match Size::tail(head).ok()? {
        Size::Head => (0, 0),
        Size::Bytes(count) => {
            advance(decoder, count)?;
            (0, 0)
        }
        Size::Items(count) if kind == MAP => (count, 2),
        Size::Items(count) => (count, 1),
        Size::Indef => {
            return Some(match kind {
                ARRAY => Open::Array,
                MAP => Open::Map { value_next: false },
                string => Open::Pieces(string),
            })
        }
    };
    // Each item has at least one byte: a count of more is refused before anything is counted down.
    let items = count.checked_mul(per_entry)?;
    let left = decoder.input().len().saturating_sub(decoder.position());
    match u16::try_from(items) {
        Ok(items) if usize::from(items) <= left => Some(Open::Counted(items)),
        _ => None,
    }
}

fn first_byte(decoder: &Decoder<'_>) -> Option<u8> {
    decoder.input().get(decoder.position()).copied()
}

/// Takes `count` bytes, whatever they are; `None` if there are not so many.
fn advance<'a>(decoder: &mut Decoder<'a>, count: u64) -> Option<&'a [u8]> {
    let start = decoder.position();
    let end = start.checked_add(usize::try_from(count).ok()?)?;
    let bytes = decoder.input().get(start..end)?;
    decoder.set_position(end);
    Some(bytes)
}

/// Whatever is wrong with the CBOR, the peer is told the same.
fn invalid(_: Error) -> Code {
    Code::Invalid
}

/// Writes the map of an answer into a slice. That something did not fit is asked once, at the end: nothing can be
/// done about it in between, and the code is half as long.
pub(crate) struct Writer<'a> {
    encoder: Encoder<Cursor<&'a mut [u8]>>,
    fits: bool,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut [u8]) -> Self {
        Self {
            encoder: Encoder::new(Cursor::new(out)),
            fits: true,
        }
    }

    /// Bytes written; `None` if they are not all there.
    pub(crate) fn finish(self) -> Option<usize> {
        self.fits.then(|| self.encoder.writer().position())
    }

    /// Begins a map; so many keys and values must follow.
    pub(crate) fn map(&mut self, entries: usize) -> &mut Self {
        self.fits &= self.encoder.map(entries as u64).is_ok();
        self
    }

    /// Begins an array; so many items must follow.
    pub(crate) fn array(&mut self, items: usize) -> &mut Self {
        self.fits &= self.encoder.array(items as u64).is_ok();
        self
    }

    /// A key or a text.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.fits &= self.encoder.str(text).is_ok();
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.fits &= self.encoder.bytes(bytes).is_ok();
        self
    }

    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.fits &= self.encoder.bool(flag).is_ok();
        self
    }

    pub(crate) fn number(&mut self, number: u32) -> &mut Self {
        self.fits &= self.encoder.u32(number).is_ok();
        self
    }

    pub(crate) fn signed(&mut self, number: i8) -> &mut Self {
        self.fits &= self.encoder.i8(number).is_ok();
        self
    }
}
