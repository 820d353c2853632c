// SPDX-License-Identifier: Apache-2.0
//! SLIP framing of the serial transport: escaped bytes, terminated by one END, with none in front.
//!
//! ```text
//! END C0     inside a frame: DB DC
//! ESC DB     inside a frame: DB DD
//! ```
//! A target must not send a leading END: clients take the empty frame before it for the reply. Stray ENDs that are
//! received (empty frames) are ignored. Source: RFC 1055; nRF5 SDK `slip.c`.

const END: u8 = 0xC0;
const ESC: u8 = 0xDB;
const ESC_END: u8 = 0xDC;
const ESC_ESC: u8 = 0xDD;

/// Encodes `frame` as a stream of bytes that ends in END.
pub fn encode(frame: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let escaped = frame.iter().flat_map(|&byte| {
        let pair = match byte {
            END => [Some(ESC), Some(ESC_END)],
            ESC => [Some(ESC), Some(ESC_ESC)],
            plain => [Some(plain), None],
        };
        pair.into_iter().flatten()
    });
    escaped.chain(core::iter::once(END))
}

/// Length in bytes of the longest encoded frame with one op code and `payload` bytes. A target reports it as its serial
/// MTU (nRF5 SDK `nrf_dfu_serial.c`).
pub const fn mtu_for_payload(payload: u16) -> u16 {
    2 * (payload + 1) + 1
}

/// Why a frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The byte after ESC is neither of the two that are allowed.
    BadEscape,
    /// More bytes than the decoder holds.
    TooLong,
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::BadEscape => "a serial frame was dropped: wrong byte after the escape",
            Self::TooLong => "a serial frame was dropped: longer than the receive buffer",
        })
    }
}

impl core::error::Error for FrameError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Plain,
    Escaped,
    /// The frame is lost; bytes are dropped up to the next END.
    Dropping(FrameError),
}

/// Assembles frames of at most `N` bytes from single bytes.
#[derive(Clone, Debug)]
pub struct Decoder<const N: usize> {
    frame: [u8; N],
    len: usize,
    state: State,
}

impl<const N: usize> Default for Decoder<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Decoder<N> {
    /// A decoder that waits for the first byte of a frame.
    pub const fn new() -> Self {
        Self {
            frame: [0; N],
            len: 0,
            state: State::Plain,
        }
    }

    /// Takes one byte. Returns `Some(Ok(frame))` when it completes a frame of at least one byte; the frame stays valid
    /// until the next call.
    ///
    /// # Errors
    /// `Some(Err(_))` once per dropped frame, at its end; the next frame is read normally.
    pub fn push(&mut self, byte: u8) -> Option<Result<&[u8], FrameError>> {
        if byte == END {
            let len = core::mem::take(&mut self.len);
            return match core::mem::replace(&mut self.state, State::Plain) {
                State::Plain if len == 0 => None,
                State::Plain => self.frame.get(..len).map(Ok),
                State::Escaped => Some(Err(FrameError::BadEscape)),
                State::Dropping(reason) => Some(Err(reason)),
            };
        }
        match (self.state, byte) {
            (State::Dropping(_), _) => {}
            (State::Plain, ESC) => self.state = State::Escaped,
            (State::Plain, plain) => self.store(plain),
            (State::Escaped, ESC_END) => self.store(END),
            (State::Escaped, ESC_ESC) => self.store(ESC),
            (State::Escaped, _) => self.state = State::Dropping(FrameError::BadEscape),
        }
        None
    }

    fn store(&mut self, byte: u8) {
        self.state = match self.frame.get_mut(self.len) {
            Some(slot) => {
                *slot = byte;
                self.len += 1;
                State::Plain
            }
            None => State::Dropping(FrameError::TooLong),
        };
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn frames<const N: usize>(bytes: &[u8]) -> Vec<Result<Vec<u8>, FrameError>> {
        let mut decoder = Decoder::<N>::new();
        bytes
            .iter()
            .filter_map(|&byte| decoder.push(byte).map(|frame| frame.map(<[u8]>::to_vec)))
            .collect()
    }

    // secure-dfu case 93
    #[test]
    fn data_with_end_and_escape_survives() {
        assert_eq!(
            frames::<8>(&[0x08, 0xDB, 0xDC, 0xDB, 0xDD, 0xC0]),
            [Ok([0x08, 0xC0, 0xDB].to_vec())]
        );
        assert_eq!(
            encode(&[0x08, 0xC0, 0xDB]).collect::<Vec<_>>(),
            [0x08, 0xDB, 0xDC, 0xDB, 0xDD, 0xC0]
        );
    }

    // secure-dfu case 94
    #[test]
    fn a_bad_escape_drops_its_frame_and_the_next_one_works() {
        let got = frames::<8>(&[0xDB, 0x00, 0x11, 0xC0, 0x09, 0x05, 0xC0]);
        assert_eq!(got, [Err(FrameError::BadEscape), Ok([0x09, 0x05].to_vec())]);
    }

    #[test]
    fn stray_ends_are_ignored() {
        assert_eq!(
            frames::<8>(&[0xC0, 0xC0, 0x03, 0xC0, 0xC0]),
            [Ok([0x03].to_vec())]
        );
    }

    #[test]
    fn a_frame_that_is_too_long_is_dropped_whole() {
        assert_eq!(
            frames::<2>(&[1, 2, 3, 0xC0, 4, 0xC0]),
            [Err(FrameError::TooLong), Ok([4].to_vec())]
        );
    }

    #[test]
    fn an_end_right_after_an_escape_drops_the_frame() {
        assert_eq!(
            frames::<8>(&[0x03, 0xDB, 0xC0, 0x04, 0xC0]),
            [Err(FrameError::BadEscape), Ok([0x04].to_vec())]
        );
    }

    #[test]
    fn every_byte_value_survives_encoding_and_decoding() {
        let all: Vec<u8> = (0..=255).collect();
        let wire: Vec<u8> = encode(&all).collect();
        assert!(wire.len() <= usize::from(mtu_for_payload(255)));
        assert_eq!(frames::<256>(&wire), [Ok(all)]);
    }
}
