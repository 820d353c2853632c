// SPDX-License-Identifier: Apache-2.0
//! Reading the one CBOR map that an SMP request carries, and the types with which answers are written.
//!
//! Tolerant where clients differ: definite and indefinite maps, keys in any order, integers longer than they need to
//! be, unknown keys with any value. Strict where bytes have no meaning: everything else is [`Code::Invalid`].

use crate::smp::Code;
use minicbor::data::Type;
use minicbor::decode::Error;
use minicbor::encode::write::{Cursor, EndOfSlice};
use minicbor::{Decoder, Encoder};

/// Writes the map of an answer into a slice.
pub(crate) type Writer<'a> = Encoder<Cursor<&'a mut [u8]>>;
/// Whether the map fitted.
pub(crate) type Written = Result<(), minicbor::encode::Error<EndOfSlice>>;

/// How deep arrays and maps may lie in each other in the value of an unknown key. Clients send none at all.
pub(crate) const MAX_DEPTH: usize = 16;

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
            None if matches!(self.decoder.datatype(), Ok(Type::Break)) => return Ok(None),
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

    /// Leaves the value of the current key out.
    pub(crate) fn skip(&mut self) -> Result<(), Code> {
        skip(&mut self.decoder)
    }
}

/// What is open around the next item to skip.
#[derive(Clone, Copy)]
enum Open {
    /// So many items are still to come.
    Counted(u16),
    /// Items up to the break.
    Array,
    /// Items up to the break, which may only come where a key would.
    Map { value_next: bool },
}

/// Skips one item. `Decoder::skip` knows no indefinite container inside another one unless it has a heap, and takes
/// a break where none belongs, so it is left the items that are no containers.
fn skip(decoder: &mut Decoder<'_>) -> Result<(), Code> {
    let mut stack = [Open::Counted(0); MAX_DEPTH];
    let mut depth = 0_usize;
    let mut current = Open::Counted(1);
    loop {
        // Close what is complete.
        while let Open::Counted(0) = current {
            let Some(outer) = depth.checked_sub(1) else {
                return Ok(());
            };
            depth = outer;
            current = *stack.get(depth).ok_or(Code::Invalid)?;
        }
        let kind = decoder.datatype().map_err(invalid)?;
        if kind == Type::Break {
            match current {
                Open::Array | Open::Map { value_next: false } => {
                    decoder.set_position(decoder.position() + 1);
                    current = Open::Counted(0);
                    continue;
                }
                _ => return Err(Code::Invalid),
            }
        }
        // One item less to come in `current`.
        match &mut current {
            Open::Counted(left) => *left = left.saturating_sub(1),
            Open::Array => {}
            Open::Map { value_next } => *value_next = !*value_next,
        }
        // Tags belong to the item behind them.
        while decoder.datatype().map_err(invalid)? == Type::Tag {
            decoder.tag().map_err(invalid)?;
        }
        let opened = match decoder.datatype().map_err(invalid)? {
            Type::Array | Type::ArrayIndef => match decoder.array().map_err(invalid)? {
                Some(count) => counted(decoder, count, 1)?,
                None => Open::Array,
            },
            Type::Map | Type::MapIndef => match decoder.map().map_err(invalid)? {
                Some(count) => counted(decoder, count, 2)?,
                None => Open::Map { value_next: false },
            },
            Type::Break => return Err(Code::Invalid),
            _ => {
                decoder.skip().map_err(invalid)?;
                continue;
            }
        };
        *stack.get_mut(depth).ok_or(Code::Invalid)? = current;
        depth += 1;
        current = opened;
    }
}

/// A container of `count` times `per_entry` items. Each item has at least one byte, so a count above the bytes that
/// are left is refused before anything is counted down.
fn counted(decoder: &Decoder<'_>, count: u64, per_entry: u64) -> Result<Open, Code> {
    let left = decoder.input().len().saturating_sub(decoder.position());
    match count.checked_mul(per_entry) {
        Some(items) if items <= left as u64 => {
            u16::try_from(items).map(Open::Counted).map_err(|_| Code::Invalid)
        }
        _ => Err(Code::Invalid),
    }
}

/// Whatever is wrong with the CBOR, the peer is told the same.
fn invalid(_: Error) -> Code {
    Code::Invalid
}
