// SPDX-License-Identifier: Apache-2.0
//! Reads and writes the one CBOR map that an SMP frame carries.
//!
//! Reading is tolerant where clients differ: definite and indefinite maps, keys in any order, integers longer than
//! necessary, unknown keys with any value. Everything else is refused with [`Code::Invalid`]. Writing is strict:
//! definite maps, the shortest integers.

use crate::smp::Code;
use minicbor::decode::info::Size;
use minicbor::decode::Error;
use minicbor::encode::write::Cursor;
use minicbor::{Decoder, Encoder};

/// How deep containers may nest in the value of an unknown key; a string in pieces counts as one level. Clients in the
/// field nest none.
pub(crate) const MAX_DEPTH: usize = 16;

/// The break that ends an item of indefinite length.
const BREAK: u8 = 0xFF;
/// Major types: the upper three bits of an item's first byte (RFC 8949 §3.1).
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// The entries of the map at the start of a payload; bytes after the map are ignored.
pub(crate) struct Fields<'a> {
    decoder: Decoder<'a>,
    /// Entries that remain; `None`: until the break.
    left: Option<u64>,
}

impl<'a> Fields<'a> {
    /// Opens the map.
    pub(crate) fn of(payload: &'a [u8]) -> Result<Self, Code> {
        let mut decoder = Decoder::new(payload);
        let left = decoder.map().map_err(invalid)?;
        Ok(Self { decoder, left })
    }

    /// The key of the next entry; its value must be taken before the next call. `None` after the last entry.
    pub(crate) fn next_key(&mut self) -> Result<Option<&'a str>, Code> {
        match &mut self.left {
            Some(0) => return Ok(None),
            Some(left) => *left -= 1,
            None if first_byte(&self.decoder) == Some(BREAK) => return Ok(None),
            None => {}
        }
        self.decoder.str().map(Some).map_err(invalid)
    }

    /// Reads the value of the current key with `read` into `field`, which must still be empty: a key may occur only
    /// once.
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

    /// Like [`Fields::once`], for an integer of at most 32 bits.
    pub(crate) fn once_u32(&mut self, field: &mut Option<u32>) -> Result<(), Code> {
        if field.is_some() {
            return Err(Code::Invalid);
        }
        let number = self.decoder.u64().map_err(invalid)?;
        *field = Some(u32::try_from(number).map_err(|_| Code::Invalid)?);
        Ok(())
    }

    /// Skips the value of the current key.
    pub(crate) fn skip(&mut self) -> Result<(), Code> {
        skip(&mut self.decoder).ok_or(Code::Invalid)
    }

    /// Reads the value of the current key with `read`.
    pub(crate) fn value<T>(
        &mut self,
        read: impl FnOnce(&mut Decoder<'a>) -> Result<T, Error>,
    ) -> Result<T, Code> {
        read(&mut self.decoder).map_err(invalid)
    }

    /// Opens the map that is the value of the current key, or an item of an array; [`Fields::close`] returns to the
    /// outer map.
    pub(crate) fn open(mut decoder: Decoder<'a>) -> Result<Self, Code> {
        let left = decoder.map().map_err(invalid)?;
        Ok(Self { decoder, left })
    }

    /// Where reading continues after this map, once [`Fields::next_key`] has found its end.
    pub(crate) fn close(mut self) -> Result<Decoder<'a>, Code> {
        if self.left.is_none() {
            advance(&mut self.decoder, 1).ok_or(Code::Invalid)?;
        }
        Ok(self.decoder)
    }

    /// Where the value of the current key begins.
    pub(crate) fn decoder(&self) -> Decoder<'a> {
        self.decoder.clone()
    }
}

/// The items of an array; the caller reads each.
#[derive(Clone, Debug)]
pub(crate) struct Items<'a> {
    pub(crate) decoder: Decoder<'a>,
    /// Items that remain; `None`: until the break.
    left: Option<u64>,
}

impl<'a> Items<'a> {
    /// Opens the array at the decoder's position.
    pub(crate) fn open(mut decoder: Decoder<'a>) -> Result<Self, Code> {
        let left = decoder.array().map_err(invalid)?;
        Ok(Self { decoder, left })
    }

    /// An empty array.
    pub(crate) fn none() -> Self {
        Self {
            decoder: Decoder::new(&[]),
            left: Some(0),
        }
    }

    /// Whether there is another item; it must be taken before the next call.
    pub(crate) fn next(&mut self) -> bool {
        match &mut self.left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => !matches!(first_byte(&self.decoder), Some(BREAK) | None),
        }
    }

    /// Ends the iteration, because an item was invalid.
    pub(crate) fn give_up(&mut self) {
        self.left = Some(0);
    }
}

/// A text string. One in pieces is accepted if at most one piece is not empty: the text must be contiguous in the
/// frame.
pub(crate) fn text<'a>(decoder: &mut Decoder<'a>) -> Result<&'a str, Error> {
    let mut text = "";
    for piece in decoder.str_iter()? {
        let piece = piece?;
        if !text.is_empty() && !piece.is_empty() {
            return Err(Error::message("a text in pieces"));
        }
        if !piece.is_empty() {
            text = piece;
        }
    }
    Ok(text)
}

/// Like [`text`], for bytes.
pub(crate) fn bytes<'a>(decoder: &mut Decoder<'a>) -> Result<&'a [u8], Error> {
    let mut bytes: &[u8] = &[];
    for piece in decoder.bytes_iter()? {
        let piece = piece?;
        if !bytes.is_empty() && !piece.is_empty() {
            return Err(Error::message("bytes in pieces"));
        }
        if !piece.is_empty() {
            bytes = piece;
        }
    }
    Ok(bytes)
}

/// The containers around the next item to skip.
#[derive(Clone, Copy)]
enum Open {
    /// So many items remain.
    Counted(u16),
    /// Items until the break.
    Array,
    /// Keys and values until the break, which is allowed only in place of a key.
    Map { value_next: bool },
    /// Pieces of a string of this major type, until the break.
    Pieces(u8),
}

/// Skips one item; `None` if there is none. `Decoder::skip` without a heap does not support nested indefinite
/// containers, and accepts a misplaced break.
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

/// Skips the head of one item with its tags, and returns the container whose content remains.
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
    // A frame has fewer bytes than this type has numbers, and each item has at least one byte: a larger count is
    // refused, and with a smaller one the bytes run out.
    let items = u16::try_from(count.checked_mul(per_entry)?).ok()?;
    Some(Open::Counted(items))
}

fn first_byte(decoder: &Decoder<'_>) -> Option<u8> {
    decoder.input().get(decoder.position()).copied()
}

/// Skips `count` bytes; `None` if there are fewer.
fn advance<'a>(decoder: &mut Decoder<'a>, count: u64) -> Option<&'a [u8]> {
    let start = decoder.position();
    let end = start.checked_add(usize::try_from(count).ok()?)?;
    let bytes = decoder.input().get(start..end)?;
    decoder.set_position(end);
    Some(bytes)
}

/// The peer gets the same code for every CBOR error.
fn invalid(_: Error) -> Code {
    Code::Invalid
}

/// Writes a map into a slice. Whether everything fitted is asked once at the end: nothing can be done about it earlier,
/// and the code is half as long.
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

    /// Bytes written; `None` if they did not fit.
    pub(crate) fn finish(self) -> Option<usize> {
        self.fits.then(|| self.encoder.writer().position())
    }

    /// Begins a map of this many keys and values.
    pub(crate) fn map(&mut self, entries: usize) -> &mut Self {
        self.fits &= self.encoder.map(entries as u64).is_ok();
        self
    }

    /// Begins an array of this many items.
    pub(crate) fn array(&mut self, items: usize) -> &mut Self {
        self.fits &= self.encoder.array(items as u64).is_ok();
        self
    }

    /// A key or a text value.
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

    pub(crate) fn long(&mut self, number: u64) -> &mut Self {
        self.fits &= self.encoder.u64(number).is_ok();
        self
    }

    pub(crate) fn signed(&mut self, number: i8) -> &mut Self {
        self.fits &= self.encoder.i8(number).is_ok();
        self
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::image_group::{Request::Upload, Upload as Piece};
    use crate::smp::{decode, op, Request, IMAGE_GROUP, OS_GROUP};
    use crate::testing::{frame, hex};
    use crate::{image_group, os_group};
    use std::format;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    /// The text of an echo request with this payload.
    fn echo(payload: &[u8]) -> Result<String, Code> {
        let frame = frame(op::WRITE, OS_GROUP, os_group::command::ECHO, payload);
        match decode(&frame).unwrap().request? {
            Request::Os(os_group::Request::Echo(text)) => Ok(text.into()),
            other => panic!("{other:?}"),
        }
    }

    /// Gives `look` the upload that this payload decodes to.
    fn upload<T>(payload: &[u8], look: impl FnOnce(Piece<'_>) -> T) -> Result<T, Code> {
        let frame = frame(op::WRITE, IMAGE_GROUP, image_group::command::UPLOAD, payload);
        match decode(&frame).unwrap().request? {
            Request::Image(Upload(piece)) => Ok(look(piece)),
            other => panic!("{other:?}"),
        }
    }

    /// An echo of "hi", with an unknown key of this `value` in front.
    fn echo_behind(value: &[u8]) -> Result<String, Code> {
        let head = [&hex("a2 61 78"), value].concat();
        echo(&[&head[..], &hex("61 64 62 68 69")].concat())
    }

    // smp case 19
    #[test]
    fn an_empty_map_may_be_definite_or_not() {
        for payload in ["a0", "bf ff", "b8 00", "bb 00 00 00 00 00 00 00 00"] {
            assert_eq!(echo(&hex(payload)).unwrap(), "");
        }
        assert_eq!(echo(&hex("bf 61 64 62 68 69 ff")).unwrap(), "hi");
    }

    // smp case 20
    #[test]
    fn a_missing_payload_is_invalid_where_parameters_are_read() {
        assert_eq!(echo(&[]), Err(Code::Invalid));
        assert_eq!(upload(&[], |_| ()), Err(Code::Invalid));
    }

    // smp case 21
    #[test]
    fn anything_but_a_whole_map_with_text_keys_is_invalid() {
        for payload in [
            "a1 61 64 62 68",          // cut in the value
            "a1 61 64",                // cut before the value
            "a1",                      // cut before the key
            "bf 61 64 62 68 69",       // no break
            "bf",                      // nothing at all
            "80",                      // an array
            "82 61 64 62 68 69",       // an array
            "05",                      // an integer
            "62 68 69",                // a text
            "f6",                      // null
            "ff",                      // a break
            "a1 01 62 68 69",          // an integer as key
            "a1 41 64 62 68 69",       // bytes as key
            "a1 7f 61 64 ff 62 68 69", // a key in pieces
            "a1 61 ff 62 68 69",       // a key that is no UTF-8
            "bf 61 64 ff",             // a break for a value
            "a1 61 78 ff",             // the same of an unknown key
            "a1 ff 61 64",             // a break for a key
            "bc",
            "bd",
            "be",    // reserved
            "c1 a0", // // a tagged map is a different thing
        ] {
            assert_eq!(echo(&hex(payload)), Err(Code::Invalid), "{payload}");
        }
    }

    // smp case 22
    #[test]
    fn unknown_keys_may_have_any_value() {
        for value in [
            "00",
            "17",
            "18 ff",
            "19 ffff",
            "1a ffffffff",
            "1b ffffffffffffffff", // integers
            "20",
            "38 ff",
            "3b ffffffffffffffff",
            "40",
            "43 010203",
            "58 01 aa",
            "5f ff",
            "5f 41 01 40 42 0203 ff", // bytes
            "60",
            "63 616263",
            "7f ff",
            "7f 61 61 60 62 6263 ff", // texts
            "80",
            "83 01 02 03",
            "9f ff",
            "9f 01 02 ff",
            "98 01 05", // arrays
            "a0",
            "a1 01 02",
            "bf ff",
            "bf 01 02 ff", // maps
            "c0 00",
            "c1 c2 d8 20 00",
            "d9 0100 80",
            "da 00010000 9f ff", // tags
            "f4",
            "f5",
            "f6",
            "f7",
            "e0",
            "f8 ff",
            "f9 3c00",
            "fa 00000000",
            "fb 0000000000000000",                                   // simple
            "83 9f bf ff ff a0 a1 9f 01 ff bf 61 61 7f 61 61 ff ff", // everything in everything
            "a1 a1 01 02 9f a1 03 9f ff ff",
            "9f c1 81 9f ff 5f ff ff",
        ] {
            let value = hex(value);
            assert_eq!(echo_behind(&value), Ok("hi".into()), "{value:02x?}");
            for cut in 0..value.len() {
                let cut = [&hex("a2 61 78"), &value[..cut]].concat();
                assert_eq!(echo(&cut), Err(Code::Invalid), "{cut:02x?}");
            }
        }
    }

    #[test]
    fn an_invalid_value_is_invalid_for_an_unknown_key_too() {
        for value in [
            "1c",
            "1d",
            "1e",
            "1f",
            "3c",
            "3f",
            "5c",
            "7e",
            "9c",
            "be",
            "dc",
            "df",
            "fc",
            "fe", // reserved
            "ff",
            "c1 ff",
            "81 ff",
            "81 c1 ff",
            "a1 ff",
            "a1 01 ff",
            "9f c1 ff", // // a misplaced break
            "bf 01 ff",
            "bf 01 bf 02 ff ff",
            "bf 01 c1 ff", // an odd number of items in a map
            "5f 61 61 ff",
            "7f 41 61 ff",
            "5f 5f 41 01 ff ff",
            "5f 01 ff",
            "7f c1 61 61 ff",
            "5f 80 ff",
        ] {
            let value = hex(value);
            assert_eq!(echo_behind(&value), Err(Code::Invalid), "{value:02x?}");
        }
    }

    // smp case 23
    #[test]
    fn a_known_key_twice_is_invalid() {
        for payload in [
            "a2 63 6f6666 00 63 6f6666 00",
            "bf 63 6f6666 00 63 6f6666 18 20 ff",
            "a2 63 736861 40 63 736861 40",
            "a2 64 64617461 40 64 64617461 40",
            "a2 65 696d616765 00 65 696d616765 00",
            "a2 67 75706772616465 f4 67 75706772616465 f4",
        ] {
            assert_eq!(upload(&hex(payload), |_| ()), Err(Code::Invalid), "{payload}");
        }
        assert_eq!(echo(&hex("a2 61 64 60 61 64 60")), Err(Code::Invalid));
        assert_eq!(echo(&hex("a2 61 78 60 61 78 60")).unwrap(), "");
    }

    // smp case 24
    #[test]
    fn a_known_key_with_the_wrong_type_is_invalid() {
        for key in ["63 6f6666", "63 6c656e", "65 696d616765"] {
            for value in [
                "61 30",
                "40",
                "20",
                "3b ffffffffffffffff",
                "f9 0000",
                "fa 00000000",
                "f4",
                "f6",
                "80",
                "a0",
                "c1 00",
            ] {
                let payload = hex(&format!("a1 {key} {value}"));
                assert_eq!(upload(&payload, |_| ()), Err(Code::Invalid), "{key} {value}");
            }
        }
        for value in ["00", "01", "60", "f6", "f7", "80"] {
            let payload = hex(&format!("a1 67 75706772616465 {value}"));
            assert_eq!(upload(&payload, |_| ()), Err(Code::Invalid), "upgrade {value}");
        }
        for value in ["00", "42 6869", "f6", "81 60", "a0", "62 ff fe"] {
            assert_eq!(
                echo(&hex(&format!("a1 61 64 {value}"))),
                Err(Code::Invalid),
                "d {value}"
            );
        }
    }

    // smp case 25
    #[test]
    fn offsets_up_to_64_bits_are_decoded_unchanged() {
        for (value, expected) in [
            ("1a ffffffff", u64::from(u32::MAX)),
            ("1b 0000000100000000", 1 << 32),
            ("1b ffffffffffffffff", u64::MAX),
        ] {
            let payload = hex(&format!("a2 63 6f6666 {value} 63 6c656e {value}"));
            assert_eq!(upload(&payload, |piece| piece.offset), Ok(Some(expected)));
            assert_eq!(upload(&payload, |piece| piece.length), Ok(Some(expected)));
        }
        assert_eq!(
            upload(&hex("a1 65 696d616765 1b 0000000100000000"), |_| ()),
            Err(Code::Invalid)
        );
    }

    // smp case 26
    #[test]
    fn data_must_be_contiguous_bytes() {
        for value in ["62 6869", "5f ff", "5f 42 6869 ff", "82 01 02"] {
            for key in ["64 64617461", "63 736861"] {
                let payload = hex(&format!("a1 {key} {value}"));
                assert_eq!(upload(&payload, |_| ()), Err(Code::Invalid), "{key} {value}");
            }
        }
        assert_eq!(echo(&hex("a1 61 64 7f 62 6869 ff")), Err(Code::Invalid));
    }

    // smp case 27
    #[test]
    fn containers_nest_16_deep_and_no_deeper() {
        for (open, end) in [
            ("81", ""),
            ("9f", "ff"),
            ("a1 00", ""),
            ("bf 00", "ff"),
            ("c1 81", ""),
        ] {
            for (depth, expected) in [
                (MAX_DEPTH, Ok("hi".into())),
                (MAX_DEPTH + 1, Err(Code::Invalid)),
                (100, Err(Code::Invalid)),
                (20_000, Err(Code::Invalid)),
            ] {
                let value = [hex(open).repeat(depth), vec![0], hex(end).repeat(depth)].concat();
                assert_eq!(echo_behind(&value), expected, "{open} {depth} times");
            }
        }
        assert_eq!(
            echo_behind(&[vec![0xC1; 20_000], vec![0]].concat()),
            Ok("hi".into())
        );
    }

    // smp case 28
    #[test]
    fn integers_may_be_longer_than_necessary() {
        for value in ["05", "18 05", "19 0005", "1a 00000005", "1b 0000000000000005"] {
            let payload = hex(&format!("a1 63 6f6666 {value}"));
            assert_eq!(upload(&payload, |piece| piece.offset), Ok(Some(5)), "{value}");
        }
        assert_eq!(echo(&hex("b9 0001 78 01 64 7a 00000002 6869")).unwrap(), "hi");
    }

    // smp case 29
    #[test]
    fn bytes_after_the_map_are_ignored() {
        assert_eq!(echo(&hex("a1 61 64 62 68 69 ff 00 a1")).unwrap(), "hi");
        assert_eq!(echo(&hex("bf 61 64 62 68 69 ff ff")).unwrap(), "hi");
        assert_eq!(echo(&hex("a0 ff ff ff")).unwrap(), "");
    }

    // smp case 30
    #[test]
    fn counts_beyond_the_end_of_the_payload_are_invalid() {
        for count in ["02", "8000000000000000", "7fffffffffffffff", "ffffffffffffffff"] {
            let count = format!("{count:0>16}");
            // The map itself, and text and bytes of known keys.
            assert_eq!(
                echo(&hex(&format!("bb {count} 61 64 62 68 69"))),
                Err(Code::Invalid)
            );
            assert_eq!(echo(&hex(&format!("a1 61 64 7b {count} 68"))), Err(Code::Invalid));
            assert_eq!(
                upload(&hex(&format!("a1 64 64617461 5b {count} 00")), |_| ()),
                Err(Code::Invalid)
            );
            // And every kind of count in the value of an unknown key.
            for head in ["5b", "7b", "9b", "bb", "81 9b", "9f bb", "bf 00 5b"] {
                let payload = hex(&format!("a1 61 78 {head} {count} 00"));
                assert_eq!(echo(&payload), Err(Code::Invalid), "{head} {count}");
            }
        }
    }

    #[test]
    fn keys_may_come_in_any_order() {
        let entries = [
            "63 6f6666 18 20",
            "63 6c656e 19 0400",
            "64 64617461 42 aabb",
            "61 78 9f ff",
        ];
        for first in 0..entries.len() {
            for step in [1, 3] {
                let body: Vec<u8> = (0..entries.len())
                    .flat_map(|i| hex(entries[(first + i * step) % entries.len()]))
                    .collect();
                for payload in [
                    [&[0xA4], &body[..]].concat(),
                    [&[0xBF], &body[..], &[0xFF]].concat(),
                ] {
                    let got = upload(&payload, |piece| {
                        (piece.offset, piece.length, piece.data.to_vec())
                    });
                    assert_eq!(got, Ok((Some(32), Some(1024), vec![0xAA, 0xBB])));
                }
            }
        }
    }

    #[test]
    fn a_frame_full_of_one_item_arrays_is_walked_once() {
        // 65 528 bytes: as many as fit into a frame of 64 KiB.
        let mut payload = hex("a1 61 78 99 fff0");
        payload.resize(6 + 0xFFF0, 0x80);
        let mut short = payload.clone();
        short.pop();
        let shown = |payload: &[u8]| {
            let mut fields = Fields::of(payload)?;
            assert_eq!(fields.next_key()?, Some("x"));
            fields.skip()?;
            fields.next_key().map(|key| key.is_none())
        };
        assert_eq!(shown(&payload), Ok(true));
        assert_eq!(shown(&short), Err(Code::Invalid));
    }
}
