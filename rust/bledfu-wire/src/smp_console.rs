// SPDX-License-Identifier: Apache-2.0
//! SMP frames as lines of text, for a serial line that is also a console.
//!
//! ```text
//! packet   length u16 │ frame │ crc u16       length: of frame and CRC; crc: CRC-16/XMODEM of the frame; big-endian
//! lines    06 09 base64… 0A                   the first line
//!          04 14 base64… 0A                   every further line
//! ```
//! The whole packet is encoded as base64 and cut at multiples of four characters. All other lines belong to the console
//! and are ignored. Source: Zephyr `smp_transport.rst`, `serial_util.c`.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use core::array;
use core::iter::{Chain, Copied};
use core::slice;
use crc::{Crc, NoTable, CRC_16_XMODEM};

/// Longest line that is sent, in bytes, including marker and line feed.
pub const MAX_LINE: usize = 127;

/// Marker at the start of the first line.
const FIRST: [u8; 2] = [0x06, 0x09];
/// Marker at the start of every further line.
const NEXT: [u8; 2] = [0x04, 0x14];
const LINE_FEED: u8 = 0x0A;
/// Bytes of the packet that fit into a full line: 124 characters.
const BYTES_PER_LINE: usize = (MAX_LINE - FIRST.len() - 1) / 4 * 3;

const CRC: Crc<u16, NoTable> = Crc::<u16, NoTable>::new(&CRC_16_XMODEM);

/// Length field, frame, CRC.
type Packet<'a> = Chain<Chain<array::IntoIter<u8, 2>, Copied<slice::Iter<'a, u8>>>, array::IntoIter<u8, 2>>;

/// Writes one frame line by line.
#[derive(Clone, Debug)]
pub struct Encoder<'a> {
    packet: Packet<'a>,
    /// Bytes of the packet that are still to be sent.
    left: usize,
    marker: [u8; 2],
}

impl<'a> Encoder<'a> {
    /// An encoder for `frame`; `None` if the frame is longer than the length field can express (65 533 bytes).
    pub fn new(frame: &'a [u8]) -> Option<Self> {
        let length = u16::try_from(frame.len().checked_add(2)?).ok()?;
        let packet = length
            .to_be_bytes()
            .into_iter()
            .chain(frame.iter().copied())
            .chain(CRC.checksum(frame).to_be_bytes());
        Some(Self {
            packet,
            left: 2 + usize::from(length),
            marker: FIRST,
        })
    }

    /// Writes the next line into `line`; `None` after the last one.
    pub fn next_line<'b>(&mut self, line: &'b mut [u8; MAX_LINE]) -> Option<&'b [u8]> {
        let take = match self.left {
            0 => return None,
            // Zephyr never splits the CRC across lines, so clients may rely on that.
            left if left == BYTES_PER_LINE + 1 => BYTES_PER_LINE - 3,
            left => left.min(BYTES_PER_LINE),
        };
        let mut bytes = [0; BYTES_PER_LINE];
        let bytes = bytes.get_mut(..take)?;
        for (to, byte) in bytes.iter_mut().zip(&mut self.packet) {
            *to = byte;
        }
        self.left -= take;
        let (marker, text) = line.split_first_chunk_mut()?;
        *marker = core::mem::replace(&mut self.marker, NEXT);
        let length = STANDARD.encode_slice(bytes, text).ok()?;
        *text.get_mut(length)? = LINE_FEED;
        line.get(..FIRST.len() + length + 1)
    }
}

/// Why a frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A line contains characters that are not base64.
    BadBase64,
    /// The packet is longer than announced, or the announced length is too short for a CRC.
    WrongLength,
    /// More bytes than the decoder holds.
    TooLong,
    /// The CRC does not match the frame.
    WrongChecksum,
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::BadBase64 => "a console frame was dropped: not base64",
            Self::WrongLength => "a console frame was dropped: its length differs from the announced one",
            Self::TooLong => "a console frame was dropped: longer than the receive buffer",
            Self::WrongChecksum => "a console frame was dropped: wrong CRC",
        })
    }
}

impl core::error::Error for FrameError {}

/// What the current line contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Console text.
    Other,
    /// The first byte of [`FIRST`] was received.
    MaybeFirst,
    /// The first byte of [`NEXT`] was received.
    MaybeNext,
    /// Base64 of a packet.
    Packet,
}

/// Assembles frames of at most `N` bytes from single bytes. Lines may have any length and may end in a carriage return
/// and a line feed.
#[derive(Clone, Debug)]
pub struct Decoder<const N: usize> {
    frame: [u8; N],
    line: Line,
    /// Base64 characters that do not form whole bytes yet.
    quad: [u8; 4],
    quad_len: usize,
    /// Padding was received: nothing may follow it in this line.
    padded: bool,
    /// Bytes of the packet received so far; `None`: no packet is open.
    received: Option<usize>,
    length: [u8; 2],
    crc: [u8; 2],
    /// What is returned about the open packet at the end of the line.
    dropped: Option<FrameError>,
}

impl<const N: usize> Default for Decoder<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Decoder<N> {
    /// A decoder that waits for the first line of a frame.
    pub const fn new() -> Self {
        Self {
            frame: [0; N],
            line: Line::Other,
            quad: [0; 4],
            quad_len: 0,
            padded: false,
            received: None,
            length: [0; 2],
            crc: [0; 2],
            dropped: None,
        }
    }

    /// Takes one byte. Returns `Some(Ok(frame))` at the end of a frame's last line; the frame stays valid until the
    /// next call. If the rest of a frame does not arrive, the start of the next frame drops it silently.
    ///
    /// # Errors
    /// `Some(Err(_))` once per dropped frame, at the end of the bad line; the next frame is read normally.
    pub fn push(&mut self, byte: u8) -> Option<Result<&[u8], FrameError>> {
        // Neither base64 nor console text contains a marker's bytes, so a marker is recognised at any position.
        match (self.line, byte) {
            (_, 0x06) => self.line = Line::MaybeFirst,
            (_, 0x04) => self.line = Line::MaybeNext,
            (Line::MaybeFirst, 0x09) => {
                self.received = Some(0);
                self.dropped = None;
                self.begin_line();
            }
            (Line::MaybeNext, 0x14) if self.received.is_some() => self.begin_line(),
            (Line::Packet, LINE_FEED) => {
                self.line = Line::Other;
                return self.end_line();
            }
            (Line::Packet, b'\r') => {}
            (Line::Packet, character) => self.take(character),
            _ => self.line = Line::Other,
        }
        None
    }

    fn begin_line(&mut self) {
        self.line = Line::Packet;
        self.quad_len = 0;
        self.padded = false;
    }

    fn take(&mut self, character: u8) {
        if self.padded {
            return self.drop(FrameError::BadBase64);
        }
        if let Some(slot) = self.quad.get_mut(self.quad_len) {
            *slot = character;
            self.quad_len += 1;
        }
        if self.quad_len < self.quad.len() {
            return;
        }
        self.quad_len = 0;
        self.padded = character == b'=';
        let mut bytes = [0; 3];
        match STANDARD.decode_slice(self.quad, &mut bytes) {
            Ok(length) => {
                for &byte in bytes.iter().take(length) {
                    self.store(byte);
                }
            }
            Err(_) => self.drop(FrameError::BadBase64),
        }
    }

    /// Stores the next byte of the packet: the length (two bytes), the frame, or the CRC (two bytes).
    fn store(&mut self, byte: u8) {
        let (Some(at), None) = (self.received, self.dropped) else {
            return;
        };
        self.received = Some(at + 1);
        let place = match at.checked_sub(self.length.len()) {
            None => self.length.get_mut(at),
            Some(at) => match (self.frame_length(), at) {
                (None, _) => return self.drop(FrameError::WrongLength),
                (Some(length), _) if length > N => return self.drop(FrameError::TooLong),
                (Some(length), at) if at < length => self.frame.get_mut(at),
                (Some(length), at) => self.crc.get_mut(at - length),
            },
        };
        match place {
            Some(place) => *place = byte,
            None => self.drop(FrameError::WrongLength),
        }
    }

    /// The announced length of the packet without the CRC.
    fn frame_length(&self) -> Option<usize> {
        usize::from(u16::from_be_bytes(self.length)).checked_sub(self.crc.len())
    }

    /// Keeps the first reason.
    fn drop(&mut self, reason: FrameError) {
        self.dropped.get_or_insert(reason);
    }

    fn end_line(&mut self) -> Option<Result<&[u8], FrameError>> {
        if self.quad_len > 0 {
            self.drop(FrameError::BadBase64);
        }
        if let Some(reason) = self.dropped.take() {
            self.received = None;
            return Some(Err(reason));
        }
        // Until both bytes of the length have arrived, the old ones have no meaning.
        let received = self.received?.checked_sub(self.length.len())?;
        let length = self.frame_length();
        if length.is_some_and(|length| received < length + self.crc.len()) {
            return None;
        }
        self.received = None;
        let Some(frame) = length.and_then(|length| self.frame.get(..length)) else {
            return Some(Err(FrameError::WrongLength));
        };
        if CRC.checksum(frame) != u16::from_be_bytes(self.crc) {
            return Some(Err(FrameError::WrongChecksum));
        }
        Some(Ok(frame))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::testing::hex;
    use std::vec::Vec;

    const ECHO: &str = "0a 00 00 06 00 00 42 00 a1 61 64 62 68 69";
    const ECHO_LINE: &[u8] = b"\x06\x09ABAKAAAGAABCAKFhZGJoaZsK\n";

    fn frames<const N: usize>(bytes: &[u8]) -> Vec<Result<Vec<u8>, FrameError>> {
        let mut decoder = Decoder::<N>::new();
        bytes
            .iter()
            .filter_map(|&byte| decoder.push(byte).map(|frame| frame.map(<[u8]>::to_vec)))
            .collect()
    }

    fn lines(frame: &[u8]) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(frame).unwrap();
        let mut line = [0; MAX_LINE];
        core::iter::from_fn(|| encoder.next_line(&mut line).map(<[u8]>::to_vec)).collect()
    }

    /// Splits a packet into lines as clients do, without keeping the CRC in one line.
    fn cut(packet: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (i, bytes) in packet.chunks(BYTES_PER_LINE).enumerate() {
            out.extend_from_slice(if i == 0 { &FIRST } else { &NEXT });
            let mut text = [0; 124];
            let length = STANDARD.encode_slice(bytes, &mut text).unwrap();
            out.extend_from_slice(&text[..length]);
            out.push(LINE_FEED);
        }
        out
    }

    fn packet(frame: &[u8]) -> Vec<u8> {
        Encoder::new(frame).unwrap().packet.collect()
    }

    #[test]
    fn an_echo_and_its_answer_are_one_line_each() {
        assert_eq!(lines(&hex(ECHO)), [ECHO_LINE.to_vec()]);
        assert_eq!(frames::<14>(ECHO_LINE), [Ok(hex(ECHO))]);
        assert_eq!(
            lines(&hex("0b 00 00 06 00 00 42 00 a1 61 72 62 68 69")),
            [b"\x06\x09ABALAAAGAABCAKFhcmJoadxV\n"]
        );
    }

    #[test]
    fn the_crc_is_crc_16_xmodem() {
        assert_eq!(
            packet(b"123456789"),
            [&[0, 11], &b"123456789"[..], &[0x31, 0xC3]].concat()
        );
    }

    #[test]
    fn frames_of_every_length_survive_in_lines_of_at_most_127_bytes() {
        for length in 0..600 {
            let frame: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let lines = lines(&frame);
            for (i, line) in lines.iter().enumerate() {
                assert_eq!(line[..2], if i == 0 { FIRST } else { NEXT });
                assert!(line.len() <= MAX_LINE && (line.len() - 3).is_multiple_of(4));
                assert_eq!(line.last(), Some(&LINE_FEED));
                assert!(i + 1 == lines.len() || !line.contains(&b'='));
            }
            let last = lines.last().unwrap();
            assert!(last.len() > 2 + 2 + 1, "the CRC has two bytes, in one line");
            assert_eq!(frames::<600>(&lines.concat()), [Ok(frame)], "{length} bytes");
        }
    }

    #[test]
    fn the_crc_is_never_split_when_sent_but_accepted_split() {
        let frame = [0x5A; BYTES_PER_LINE - 3];
        let packet = packet(&frame);
        assert_eq!(packet.len(), BYTES_PER_LINE + 1);
        let ours: Vec<usize> = lines(&frame).iter().map(Vec::len).collect();
        assert_eq!(ours, [2 + 120 + 1, 2 + 8 + 1]);
        let theirs = cut(&packet);
        assert_ne!(theirs, lines(&frame).concat());
        assert_eq!(frames::<90>(&theirs), [Ok(frame.to_vec())]);
    }

    #[test]
    fn the_longest_frame_is_what_the_length_field_can_express() {
        assert!(Encoder::new(&[0; 65_534]).is_none());
        let lines = lines(&[0x5A; 65_533]).concat();
        let mut decoder = Decoder::<65_533>::new();
        let got: Vec<usize> = lines
            .iter()
            .filter_map(|&byte| decoder.push(byte).map(|frame| frame.unwrap().len()))
            .collect();
        assert_eq!(got, [65_533]);
    }

    #[test]
    fn console_text_between_the_lines_is_ignored() {
        let frame = [0x5A; 300];
        let mut stream = b"*** Booting ***\r\nuart:~$ \x1b[8D".to_vec();
        for line in lines(&frame) {
            stream.extend(line);
            stream.extend(b"[00:00:01] <inf> smp: AAAA\r\n\n");
        }
        assert_eq!(frames::<300>(&stream), [Ok(frame.to_vec())]);
    }

    #[test]
    fn a_carriage_return_before_the_line_feed_is_ignored() {
        let mut line = ECHO_LINE.to_vec();
        line.insert(line.len() - 1, b'\r');
        assert_eq!(frames::<14>(&line), [Ok(hex(ECHO))]);
    }

    #[test]
    fn a_continuation_line_without_a_first_line_is_ignored() {
        let rest = lines(&[0x5A; 300])[1..].concat();
        assert_eq!(frames::<300>(&[&rest, ECHO_LINE].concat()), [Ok(hex(ECHO))]);
    }

    #[test]
    fn a_first_line_drops_the_unfinished_frame() {
        let begun = lines(&[0x5A; 300])[0].clone();
        assert_eq!(frames::<300>(&[&begun, ECHO_LINE].concat()), [Ok(hex(ECHO))]);
        let cut_in_the_line = &begun[..50];
        assert_eq!(
            frames::<300>(&[cut_in_the_line, ECHO_LINE].concat()),
            [Ok(hex(ECHO))]
        );
    }

    #[test]
    fn a_lost_line_feed_is_tolerated_but_no_other_lost_byte() {
        let frame = [0x5A; 300];
        let whole = lines(&frame);
        let first = whole[0].strip_suffix(b"\n").unwrap();
        let stream = [first, &whole[1..].concat()].concat();
        assert_eq!(frames::<300>(&stream), [Ok(frame.to_vec())]);
        let stream = [&whole[0][..50], &whole[1..].concat(), ECHO_LINE].concat();
        assert_eq!(frames::<300>(&stream), [Ok(hex(ECHO))]);
    }

    #[test]
    fn bad_base64_drops_its_frame_and_the_next_one_works() {
        for text in [
            "ABAK!AAGAABCAKFhZGJoaZsK",
            "ABAKAAAGAABCAKFhZGJoaZs",
            "AB==AKAAAGAABCAKFhZGJoaZsK",
            "AB==AAAA",
            "A===",
            "ABAKAAAGAABCAKFhZGJoaZ sK",
            "=",
        ] {
            let stream = [&FIRST, text.as_bytes(), &[LINE_FEED], ECHO_LINE].concat();
            assert_eq!(
                frames::<64>(&stream),
                [Err(FrameError::BadBase64), Ok(hex(ECHO))],
                "{text}"
            );
        }
    }

    #[test]
    fn a_wrong_crc_drops_its_frame_and_the_next_one_works() {
        let good = packet(&hex(ECHO));
        for bit in 16..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let stream = [&cut(&bad), ECHO_LINE].concat();
            assert_eq!(
                frames::<64>(&stream),
                [Err(FrameError::WrongChecksum), Ok(hex(ECHO))]
            );
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_dropped_whole() {
        let stream = [&lines(&[0x5A; 301]).concat(), ECHO_LINE].concat();
        assert_eq!(frames::<300>(&stream), [Err(FrameError::TooLong), Ok(hex(ECHO))]);
    }

    #[test]
    fn more_bytes_than_announced_are_the_wrong_length() {
        let long = [packet(&hex(ECHO)), [0].to_vec()].concat();
        for stream in [
            cut(&long),
            cut(&[0, 1, 0]),
            cut(&[0, 0, 0, 0]),
            cut(&[0, 1]),
            cut(&[0, 0]),
        ] {
            assert_eq!(
                frames::<64>(&[&stream, ECHO_LINE].concat()),
                [Err(FrameError::WrongLength), Ok(hex(ECHO))],
                "{stream:02x?}"
            );
        }
    }

    #[test]
    fn lines_may_be_short_or_empty_or_end_in_padding() {
        let mut stream = Vec::new();
        let frame = hex(ECHO);
        for (i, byte) in packet(&frame).iter().enumerate() {
            let mut text = [0; 4];
            STANDARD.encode_slice([*byte], &mut text).unwrap();
            stream.extend(if i == 0 { FIRST } else { NEXT });
            stream.extend(text);
            stream.extend(b"\n\x04\x14\n");
        }
        assert_eq!(frames::<14>(&stream), [Ok(frame)]);
    }
}
