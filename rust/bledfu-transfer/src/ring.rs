// SPDX-License-Identifier: Apache-2.0
//! The bounded ring between the Bluetooth thread and the worker: the only data they share.
//!
//! ```text
//!  bit 7 6       5      4 3 2 1 0
//! ┌─────────┬──────┬─────────────┐ ┌─────────────────┐
//! │ channel │ long │ length low  │ │ length high     │  frame bytes …
//! └─────────┴──────┴─────────────┘ └─────────────────┘
//!   0 control, 1 packet, 2 SMP  5 bits   only if long: bits 5..=12
//! ```
//! It is a ring of bytes, not of packets: a pool of packet buffers runs empty when a phone with the smallest MTU sends
//! 205 packets of 20 bytes for one object. The producer copies bytes in and the consumer copies them out. No pointer
//! into the ring is handed out, so no buffer has to be given back.
//!
//! On the device a spin lock guards the ring, held for one copy of at most one MTU. Because of that copy this is not
//! `heapless`' queue, which transfers single bytes: interrupts would be off for 60 µs instead of 5.

use crate::smp::FragmentRun;
use bledfu_text::{words, Line, Text};
use bledfu_wire::image_group;
use bledfu_wire::smp::{op, Header, HEADER_SIZE, IMAGE_GROUP};

/// Longest frame in bytes: the largest attribute value ATT allows.
pub const MAX_FRAME: usize = 512;

/// Ring size in bytes for objects of `object_size` and packets of at least `shortest_packet` bytes. It holds all that a
/// peer may send before it must wait for an answer: one object and one request after it. Larger objects than the ring
/// holds are possible ([`STREAM_RING_SIZE`]): then the flash must be as fast as the link, or some packets wait or are
/// lost.
pub const fn ring_size(object_size: usize, shortest_packet: usize) -> usize {
    with_headers(object_size, shortest_packet) + FOR_REQUESTS
}

/// Room in bytes that packets leave free: two requests. A request that finds no room gets an ATT error, after which
/// clients give up.
const FOR_REQUESTS: usize = 2 * (1 + bledfu_wire::secure_dfu::MAX_REQUEST);

/// The smallest ring in bytes for objects that are larger than the ring: it holds what arrives in 50 ms on a radio link
/// of 2 Mbit/s, which is as long as another user of the same flash may erase one sector.
pub const STREAM_RING_SIZE: usize = 8192;

/// The ring size in bytes for objects of `object_size` bytes: small objects fit as a whole, larger ones stream.
pub const fn ring_size_for(object_size: usize, shortest_packet: usize) -> usize {
    if object_size <= 8192 {
        ring_size(object_size, shortest_packet)
    } else {
        STREAM_RING_SIZE
    }
}

/// Whether a ring of `size` bytes can serve objects of `object_size` bytes.
pub const fn suits(size: usize, object_size: usize, shortest_packet: usize) -> bool {
    size >= STREAM_RING_SIZE || holds_object(size, object_size, shortest_packet)
}

/// Whether a ring of `size` bytes holds a whole object of `object_size` bytes.
pub const fn holds_object(size: usize, object_size: usize, shortest_packet: usize) -> bool {
    size >= ring_size(object_size, shortest_packet)
}

/// Ring size in bytes for `count` SMP frames of `frame_size` bytes, in fragments of at least `shortest_fragment` bytes:
/// all the requests that a client sends before it waits for an answer.
pub const fn smp_ring_size(frame_size: usize, count: usize, shortest_fragment: usize) -> usize {
    count * with_headers(frame_size, shortest_fragment) + FOR_STUBS
}

const fn with_headers(size: usize, shortest_packet: usize) -> usize {
    let header = with_header(shortest_packet) - shortest_packet;
    size + size.div_ceil(shortest_packet) * header
}

/// The room in bytes that a frame of `length` bytes takes in the ring.
const fn with_header(length: usize) -> usize {
    length + if length < LONG { 1 } else { 2 }
}

const CHANNEL_SMP: u8 = 0x80;

/// A frame of this length or longer has a header of two bytes.
const LONG: usize = 32;

/// The default size: objects of 4096 bytes, packets of 20 bytes (MTU 23). A peer at any usual MTU never finds the ring
/// full, however slow the flash is. Shorter packets, which no MTU requires, need more headers; an object in such
/// packets fits as long as the worker takes some out meanwhile.
pub const DEFAULT_RING_SIZE: usize = ring_size(4096, 20);

/// The source of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Control point write, or a serial frame.
    Control,
    /// Write without response to the packet characteristic.
    Packet,
    /// A fragment of an SMP frame: a write without response to the SMP characteristic.
    Smp,
}

/// One write from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its source.
    pub channel: Channel,
    /// Its bytes, 0 to [`MAX_FRAME`].
    pub bytes: &'a [u8],
}

/// Why a frame was refused. Nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// No room *now*. A caller that can hold the peer back (a serial port, TCP) offers the frame again; one that cannot
    /// (Bluetooth) drops it.
    Full,
    /// Packets before this one were lost, so it is lost too.
    Lost,
    /// Longer than [`MAX_FRAME`], or part of an SMP frame longer than the ring: it can never fit.
    TooLong,
}

impl Text for PushError {
    fn put(&self, line: &mut dyn Line) {
        let words = match self {
            Self::Full => words!("the receive ring is full for now"),
            Self::Lost => words!("packets before this one were lost"),
            Self::TooLong => {
                words!("the write is longer than 512 bytes, or its SMP frame longer than the receive ring")
            }
        };
        words.put(line);
    }
}

bledfu_text::display!(PushError);

impl core::error::Error for PushError {}

/// Payload of a piece of an image at an offset at which no image has a byte: `{"off": 4294967295}`.
const NOWHERE: [u8; 10] = *b"\xA1\x63off\x1A\xFF\xFF\xFF\xFF";
const STUB: usize = HEADER_SIZE + NOWHERE.len();
/// Room in bytes that SMP frames leave free for stubs: those of a client with twice the requests in flight that the ring holds.
const FOR_STUBS: usize = 8 * with_header(STUB);

/// What takes the place of a piece of an image that finds no room: a piece that fits nowhere. It is answered, as every piece is,
/// with the offset that is wanted, and the client goes on there. Without an answer phones wait for 2.5 s to 20 s, and they
/// send more pieces than they were told there is room for.
fn stub(fragment: &[u8]) -> Option<[u8; STUB]> {
    let header = Header::decode(fragment)?;
    let is_piece =
        (header.op, header.group, header.command) == (op::WRITE, IMAGE_GROUP, image_group::command::UPLOAD);
    let mut stub = [0; STUB];
    let (head, payload) = stub.split_first_chunk_mut::<HEADER_SIZE>()?;
    *head = Header {
        length: NOWHERE.len() as u16,
        ..header
    }
    .encode();
    payload.copy_from_slice(&NOWHERE);
    is_piece.then_some(stub)
}

/// Accepts SMP frames whole or not at all: a partial frame would be completed with the head of the next one. Room for
/// the rest of a frame is reserved when its first fragment is accepted.
#[derive(Clone, Copy, Debug)]
struct SmpGate {
    run: FragmentRun,
    /// Why the frame whose fragments are arriving is being dropped.
    shut: Shut,
    /// Bytes reserved for the rest of the frame whose fragments are arriving.
    reserved: usize,
}

/// An `Option` of a [`PushError`] that is all zeros when empty: a ring in a static then takes no flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shut {
    Not,
    Full,
    TooLong,
}

impl SmpGate {
    const fn new() -> Self {
        Self {
            run: FragmentRun::new(),
            shut: Shut::Not,
            reserved: 0,
        }
    }

    /// The state of the gate after `fragment`, which is accepted unless the gate is then closed. `room` bytes of the
    /// ring's `size` are free.
    fn after(mut self, fragment: &[u8], room: usize, size: usize) -> Self {
        if self.run.begins(fragment) {
            let length = Header::decode(fragment).map_or(0, |head| head.frame_length());
            // Assumes that all fragments are as long as the first one.
            self.reserved = with_headers(length.max(fragment.len()), fragment.len().max(1));
            let spare = if length > STUB { FOR_STUBS } else { 0 };
            self.shut = match self.reserved + spare {
                needed if needed > size => Shut::TooLong,
                needed if needed > room => Shut::Full,
                _ => Shut::Not,
            };
        }
        let cost = with_header(fragment.len());
        if self.shut == Shut::Not && cost > room {
            self.shut = Shut::Full;
        }
        self.reserved = match self.shut {
            Shut::Not => self.reserved.saturating_sub(cost),
            Shut::Full | Shut::TooLong => 0,
        };
        self
    }
}

/// Memory for a ring.
pub trait Memory: AsRef<[u8]> + AsMut<[u8]> {
    /// Whether SMP frames may come. If not, the code for them is not in the program.
    const TAKES_SMP: bool = true;
}

impl<const N: usize> Memory for [u8; N] {}

#[cfg(feature = "alloc")]
impl Memory for alloc::boxed::Box<[u8]> {}

/// An array of `N` bytes, for devices that decide when they are built whether they have SMP.
#[derive(Debug)]
pub struct Bytes<const N: usize, const SMP: bool>([u8; N]);

impl<const N: usize, const SMP: bool> Bytes<N, SMP> {
    /// All zeros.
    pub const fn new() -> Self {
        Self([0; N])
    }
}

impl<const N: usize, const SMP: bool> Default for Bytes<N, SMP> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize, const SMP: bool> AsRef<[u8]> for Bytes<N, SMP> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize, const SMP: bool> AsMut<[u8]> for Bytes<N, SMP> {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl<const N: usize, const SMP: bool> Memory for Bytes<N, SMP> {
    const TAKES_SMP: bool = SMP;
}

/// The ring on its memory: an array on a device, so its size ([`ring_size`]) is a constant of the build.
#[derive(Debug)]
pub struct Ring<B> {
    bytes: B,
    head: usize,
    used: usize,
    smp: SmpGate,
    /// Maximum number of bytes in use so far, for sizing.
    high_water: usize,
}

impl<const N: usize> Ring<[u8; N]> {
    /// An empty ring of `N` bytes.
    pub const fn new() -> Self {
        const { assert!(N > MAX_FRAME + 2, "the ring must hold the longest frame") };
        Self::on([0; N])
    }
}

impl<const N: usize> Default for Ring<[u8; N]> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> Ring<B> {
    /// An empty ring on `bytes`, more than [`MAX_FRAME`] + 2 of them.
    pub const fn on(bytes: B) -> Self {
        Self {
            bytes,
            head: 0,
            used: 0,
            smp: SmpGate::new(),
            high_water: 0,
        }
    }

    /// Drops all content: the link is gone, and what it sent is void.
    pub fn clear(&mut self) {
        self.head = 0;
        self.used = 0;
        self.smp = SmpGate::new();
    }

    /// No fragment of an SMP frame arrived for [`crate::smp::FRAGMENT_MS`]: the next one starts a new frame, whatever
    /// was still missing.
    pub fn smp_paused(&mut self) {
        self.smp = SmpGate::new();
    }

    /// No frame is waiting.
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Maximum number of bytes in use since the start.
    pub const fn high_water(&self) -> usize {
        self.high_water
    }
}

impl<B: Memory> Ring<B> {
    fn size(&self) -> usize {
        self.bytes.as_ref().len()
    }

    /// Copies one frame in.
    ///
    /// # Errors
    /// [`PushError`]; nothing has changed then, and the frame may be offered again. A caller that drops it instead
    /// calls [`Ring::drop_fragment`].
    pub fn push(&mut self, frame: Frame<'_>) -> Result<(), PushError> {
        let length = frame.bytes.len();
        if length > MAX_FRAME {
            return Err(PushError::TooLong);
        }
        let room = self.size() - self.used;
        let channel = match frame.channel {
            Channel::Control => 0,
            Channel::Packet => 0x40,
            Channel::Smp => CHANNEL_SMP,
        };
        if B::TAKES_SMP && frame.channel == Channel::Smp {
            let gate = self.smp.after(frame.bytes, room, self.size());
            match gate.shut {
                Shut::Not => self.smp = gate,
                Shut::Full => return Err(PushError::Full),
                Shut::TooLong => return Err(PushError::TooLong),
            }
        } else {
            let for_requests = match frame.channel {
                Channel::Packet => FOR_REQUESTS,
                _ => 0,
            };
            if with_header(length) > room.saturating_sub(self.smp.reserved + for_requests) {
                return Err(PushError::Full);
            }
        }
        let long = length >= LONG;
        self.put(channel | u8::from(long) << 5 | (length & 0x1F) as u8);
        if long {
            self.put((length >> 5) as u8);
        }
        self.put_all(frame.bytes);
        self.high_water = self.high_water.max(self.used);
        Ok(())
    }

    /// Drops a fragment that [`Ring::push`] refused, and with it the rest of its SMP frame: a Bluetooth peer does not
    /// offer it again. Returns whether a frame has taken its place: a piece that fits nowhere, for which there is an answer.
    pub fn drop_fragment(&mut self, fragment: &[u8]) -> bool {
        let room = self.size() - self.used;
        let begins = { self.smp.run }.begins(fragment);
        let gate = self.smp.after(fragment, room, self.size());
        self.smp = SmpGate {
            shut: match gate.shut {
                Shut::Not => Shut::Full,
                shut => shut,
            },
            reserved: 0,
            ..gate
        };
        let stub =
            stub(fragment).filter(|_| begins && gate.shut != Shut::TooLong && room >= with_header(STUB));
        if let Some(stub) = &stub {
            self.put(CHANNEL_SMP | STUB as u8);
            self.put_all(stub);
        }
        stub.is_some()
    }

    /// Copies the oldest frame into `buffer` and frees its room. Returns its channel and its length.
    pub fn pop(&mut self, buffer: &mut [u8; MAX_FRAME]) -> Option<(Channel, usize)> {
        let first = self.take()?;
        let channel = match first >> 6 {
            0 => Channel::Control,
            1 => Channel::Packet,
            _ => Channel::Smp,
        };
        let mut length = usize::from(first & 0x1F);
        if first & 0x20 != 0 {
            length |= usize::from(self.take()?) << 5;
        }
        self.take_all(buffer.get_mut(..length)?)?;
        Some((channel, length))
    }

    fn put(&mut self, byte: u8) {
        self.put_all(&[byte]);
    }

    /// `push` has checked the room.
    fn put_all(&mut self, bytes: &[u8]) {
        let size = self.size();
        let tail = (self.head + self.used) % size;
        let (now, wrapped) = bytes.split_at(bytes.len().min(size - tail));
        let ring = self.bytes.as_mut();
        if let Some(place) = ring.get_mut(tail..tail + now.len()) {
            place.copy_from_slice(now);
        }
        if let Some(place) = ring.get_mut(..wrapped.len()) {
            place.copy_from_slice(wrapped);
        }
        self.used += bytes.len();
    }

    fn take(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.take_all(&mut byte)?;
        Some(byte[0])
    }

    fn take_all(&mut self, out: &mut [u8]) -> Option<()> {
        if out.len() > self.used {
            return None;
        }
        let (size, length) = (self.size(), out.len());
        let (now, wrapped) = out.split_at_mut(length.min(size - self.head));
        let ring = self.bytes.as_ref();
        now.copy_from_slice(ring.get(self.head..self.head + now.len())?);
        wrapped.copy_from_slice(ring.get(..wrapped.len())?);
        self.head = (self.head + length) % size;
        self.used -= length;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    fn packet(bytes: &[u8]) -> Frame<'_> {
        Frame {
            channel: Channel::Packet,
            bytes,
        }
    }

    fn pop<'b, const N: usize>(
        ring: &mut Ring<[u8; N]>,
        buffer: &'b mut [u8; MAX_FRAME],
    ) -> Option<Frame<'b>> {
        let (channel, length) = ring.pop(buffer)?;
        let bytes = &buffer[..length];
        Some(Frame { channel, bytes })
    }

    /// As over Bluetooth: what finds no room is lost.
    fn push_or_drop<const N: usize>(ring: &mut Ring<[u8; N]>, fragment: &[u8]) -> Result<(), PushError> {
        ring.push(smp(fragment)).inspect_err(|_| {
            let _ = ring.drop_fragment(fragment);
        })
    }

    #[test]
    fn the_default_ring_holds_one_object_in_packets_of_20_bytes_and_a_request() {
        let mut ring = Ring::<[u8; DEFAULT_RING_SIZE]>::new();
        for _ in 0..204 {
            ring.push(packet(&[7; 20])).unwrap();
        }
        ring.push(packet(&[7; 16])).unwrap();
        ring.push(Frame {
            channel: Channel::Control,
            bytes: &[3],
        })
        .unwrap();
    }

    #[test]
    fn a_full_ring_refuses_and_keeps_its_content() {
        let mut ring = Ring::<[u8; 600]>::new();
        ring.push(packet(&[1; 500])).unwrap();
        assert_eq!(ring.push(packet(&[2; 200])), Err(PushError::Full));
        let mut buffer = [0; MAX_FRAME];
        assert_eq!(pop(&mut ring, &mut buffer), Some(packet(&[1; 500])));
        assert_eq!(ring.push(packet(&[2; 200])), Ok(()));
    }

    fn smp(bytes: &[u8]) -> Frame<'_> {
        Frame {
            channel: Channel::Smp,
            bytes,
        }
    }

    /// The fragments of an SMP frame with `length` bytes behind its header.
    fn smp_fragments(length: u16, payload: usize) -> Vec<Vec<u8>> {
        let [high, low] = length.to_be_bytes();
        let mut frame = std::vec![0x0A, 0, high, low, 0, 1, 7, 1];
        frame.resize(8 + usize::from(length), 0xA5);
        frame.chunks(payload).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn an_smp_frame_that_does_not_fit_whole_is_dropped_whole_and_the_next_one_is_taken() {
        let mut ring = Ring::<[u8; 1200]>::new();
        for fragment in smp_fragments(592, 20) {
            ring.push(smp(&fragment)).unwrap();
        }
        for fragment in smp_fragments(592, 20) {
            assert_eq!(push_or_drop(&mut ring, &fragment), Err(PushError::Full));
        }
        let mut buffer = [0; MAX_FRAME];
        let mut taken = Vec::new();
        while let Some(frame) = pop(&mut ring, &mut buffer) {
            assert_eq!(frame.channel, Channel::Smp);
            taken.extend_from_slice(frame.bytes);
        }
        // In its place is a piece that fits nowhere, with its sequence number.
        let (whole, instead) = taken.split_at(600);
        assert_eq!(whole, smp_fragments(592, 600).concat());
        assert_eq!(
            instead,
            [&[0x0A, 0, 0, 10, 0, 1, 7, 1], NOWHERE.as_slice()].concat()
        );
        for fragment in smp_fragments(300, 244) {
            ring.push(smp(&fragment)).unwrap();
        }
    }

    #[test]
    fn eight_pieces_that_find_no_room_are_each_replaced_and_other_requests_are_not() {
        let mut ring = Ring::<[u8; smp_ring_size(600, 2, 500)]>::new();
        let list = [0x08, 0, 0, 1, 0, 1, 9, 0, 0xA0];
        for sequence in 0..10 {
            let mut piece = smp_fragments(592, 500);
            piece[0][6] = sequence;
            let pushed = piece.iter().map(|fragment| push_or_drop(&mut ring, fragment));
            assert!(pushed.into_iter().all(|pushed| pushed.is_ok() == (sequence < 2)));
        }
        assert_eq!(push_or_drop(&mut ring, &list), Err(PushError::Full));
        let mut buffer = [0; MAX_FRAME];
        let mut stubs = Vec::new();
        while let Some(frame) = pop(&mut ring, &mut buffer) {
            if frame.bytes.ends_with(&NOWHERE) {
                stubs.push(frame.bytes[6]);
            }
        }
        assert_eq!(stubs, [2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn the_gate_recovers_after_a_client_abandons_a_dropped_frame() {
        let mut ring = Ring::<[u8; 600]>::new();
        let huge = smp_fragments(u16::MAX, 244);
        assert_eq!(push_or_drop(&mut ring, &huge[0]), Err(PushError::TooLong));
        assert_eq!(push_or_drop(&mut ring, &huge[1]), Err(PushError::TooLong));
        ring.push(smp(&smp_fragments(6, 244)[0])).unwrap();
    }

    #[test]
    fn a_frame_abandoned_halfway_costs_no_other_frame() {
        let mut ring = Ring::<[u8; 3000]>::new();
        let mut buffer = [0; MAX_FRAME];
        let chunk = smp_fragments(992, 100);
        for fragment in &chunk[..4] {
            ring.push(smp(fragment)).unwrap();
        }
        ring.push(smp(&smp_fragments(6, 100)[0])).unwrap();
        while ring.pop(&mut buffer).is_some() {}
        for _ in 0..8 {
            for fragment in &chunk {
                ring.push(smp(fragment)).unwrap();
            }
            while ring.pop(&mut buffer).is_some() {}
        }
    }

    #[test]
    fn after_a_pause_the_next_fragment_is_the_first_of_a_frame() {
        let mut ring = Ring::<[u8; 600]>::new();
        let huge = smp_fragments(u16::MAX, 20);
        assert_eq!(push_or_drop(&mut ring, &huge[0]), Err(PushError::TooLong));
        ring.smp_paused();
        for fragment in smp_fragments(92, 20) {
            ring.push(smp(&fragment)).unwrap();
        }
    }

    #[test]
    fn a_refused_push_changes_nothing_and_may_be_repeated() {
        let mut ring = Ring::<[u8; 1100]>::new();
        let mut buffer = [0; MAX_FRAME];
        let frames = [
            smp_fragments(792, 100),
            smp_fragments(592, 100),
            smp_fragments(92, 30),
        ];
        let mut came = Vec::new();
        for fragment in frames.iter().flatten() {
            while ring.push(smp(fragment)).is_err() {
                // Refused until there is room for the whole frame.
                assert_eq!(ring.push(smp(fragment)), Err(PushError::Full));
                came.extend_from_slice(pop(&mut ring, &mut buffer).unwrap().bytes);
            }
        }
        while let Some(frame) = pop(&mut ring, &mut buffer) {
            came.extend_from_slice(frame.bytes);
        }
        assert_eq!(came, frames.concat().concat());
    }

    #[test]
    fn other_frames_do_not_take_the_room_of_an_smp_frame_that_has_begun() {
        let mut ring = Ring::<[u8; 1100]>::new();
        let fragments = smp_fragments(892, 100);
        ring.push(smp(&fragments[0])).unwrap();
        assert_eq!(ring.push(packet(&[1; 400])), Err(PushError::Full));
        ring.push(packet(&[1; 100])).unwrap();
        for fragment in &fragments[1..] {
            ring.push(smp(fragment)).unwrap();
        }
    }

    #[test]
    fn every_fragment_of_a_frame_longer_than_the_ring_is_too_long() {
        let mut ring = Ring::<[u8; 1100]>::new();
        for fragment in smp_fragments(1192, 100) {
            assert_eq!(push_or_drop(&mut ring, &fragment), Err(PushError::TooLong));
        }
        for fragment in smp_fragments(592, 100) {
            ring.push(smp(&fragment)).unwrap();
        }
    }

    #[test]
    fn image_bytes_that_look_like_a_whole_request_are_the_middle_of_a_frame() {
        let mut ring = Ring::<[u8; 1300]>::new();
        let mut fragments = smp_fragments(992, 100);
        fragments[3][..8].copy_from_slice(&[0x0A, 0, 0, 92, 0, 1, 7, 1]);
        fragments[4][..8].copy_from_slice(&[0x0A, 0, 0xFF, 0xFF, 0, 1, 7, 1]);
        for fragment in fragments {
            ring.push(smp(&fragment)).unwrap();
        }
    }

    #[test]
    fn four_smp_frames_in_the_shortest_fragments_fit_the_ring_made_for_them() {
        let mut ring = Ring::<[u8; smp_ring_size(2475, 4, 20)]>::new();
        for _ in 0..4 {
            for fragment in smp_fragments(2467, 20) {
                ring.push(smp(&fragment)).unwrap();
            }
        }
    }

    #[test]
    fn a_frame_longer_than_an_attribute_never_fits() {
        assert_eq!(
            Ring::<[u8; 4096]>::new().push(packet(&[0; 513])),
            Err(PushError::TooLong)
        );
    }

    #[test]
    fn frames_of_every_length_survive_the_wrap_unchanged() {
        let mut ring = Ring::<[u8; 1031]>::new();
        let mut model: VecDeque<(Channel, Vec<u8>)> = VecDeque::new();
        let mut buffer = [0; MAX_FRAME];
        for round in 0..4000usize {
            let bytes: Vec<u8> = (0..round * 37 % 513).map(|i| (i + round) as u8).collect();
            let channel = if round % 3 == 0 {
                Channel::Control
            } else {
                Channel::Packet
            };
            while ring.push(Frame {
                channel,
                bytes: &bytes,
            }) == Err(PushError::Full)
            {
                let frame = pop(&mut ring, &mut buffer).unwrap();
                assert_eq!(model.pop_front().unwrap(), (frame.channel, frame.bytes.to_vec()));
            }
            model.push_back((channel, bytes));
        }
        while let Some(frame) = pop(&mut ring, &mut buffer) {
            assert_eq!(model.pop_front().unwrap(), (frame.channel, frame.bytes.to_vec()));
        }
        assert!(model.is_empty() && ring.is_empty());
        assert!(ring.high_water() <= 1031);
    }
}
