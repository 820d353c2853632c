// SPDX-License-Identifier: Apache-2.0
//! Buttonless entry: the application answers a phone, and starts once more in its update mode.
//!
//! ```text
//!  application                                              update mode: the same application, FE59 is Secure DFU only
//!    02 name ─► kept                                          Record::decode: address and name to advertise
//!    01      ─► Record to retained memory, 20 01 01           UpdateMode: how long it lasts
//!    confirmed, or the link is lost ─► reset ───────────►       staged ─► reset; nobody came, or went away ─► reset
//! ```
//! The record is read once, so whatever reset comes next starts the application again.
//!
//! Sans-I/O: retained memory is the caller's. The answers are those of nRF5 SDK's `ble_dfu_unbonded.c` and
//! `ble_dfu_bonded.c`.

use bledfu_slot::crc32::crc32;
use bledfu_wire::buttonless::{op, Answer, Request, ResultCode, MAX_NAME};

/// Length in bytes of an encoded [`Record`].
pub const RECORD_LENGTH: usize = 33;
/// First byte of a record: its form.
const FORM: u8 = 1;
/// In place of the kind of an address: there is none.
const SAME_ADDRESS: u8 = 0xFF;

/// Who may start the update mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Anybody. The update mode has the address above the application's, so that no phone takes its services for the
    /// application's. Characteristic `8EC90003`.
    WithoutBonds,
    /// Peers with a bond. The address stays, and they are told that the services changed. Characteristic `8EC90004`.
    WithBonds,
}

/// A Bluetooth address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// As HCI counts: 0 public, 1 random.
    pub kind: u8,
    /// Lowest byte first, as on the air.
    pub bytes: [u8; 6],
}

impl Address {
    /// The address above: only its lowest byte changes, as phones expect of a bootloader.
    #[must_use]
    pub const fn above(self) -> Self {
        let [low, b, c, d, e, f] = self.bytes;
        Self {
            kind: self.kind,
            bytes: [low.wrapping_add(1), b, c, d, e, f],
        }
    }
}

/// The name to advertise; empty if the phone set none.
pub type Name = heapless::Vec<u8, MAX_NAME>;

/// What the application leaves in retained memory for the update mode.
///
/// ```text
///  0  u8   form: 1
///  1  u8   kind of the address; FF: the application's own
///  2  6×u8 address, lowest byte first
///  8  u8   length of the name
///  9  20×u8 name, zeros behind it
/// 29  u32  CRC-32 of the bytes above, little-endian
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// To advertise with; `None`: the application's own.
    pub address: Option<Address>,
    /// To advertise by.
    pub name: Name,
}

impl Record {
    /// As it is stored.
    pub fn encode(&self) -> [u8; RECORD_LENGTH] {
        let mut stored = [0; RECORD_LENGTH];
        let (body, crc) = stored.split_at_mut(RECORD_LENGTH - 4);
        let address = self.address.unwrap_or(Address {
            kind: SAME_ADDRESS,
            bytes: [0; 6],
        });
        let front = [
            &[FORM, address.kind],
            &address.bytes[..],
            &[self.name.len() as u8],
            &self.name,
        ];
        for (to, from) in body.iter_mut().zip(front.into_iter().flatten()) {
            *to = *from;
        }
        let mut sum = crc32();
        sum.update(body);
        crc.copy_from_slice(&sum.finalize().to_le_bytes());
        stored
    }

    /// From retained memory, whatever it holds. `None`: the application was not asked for its update mode.
    pub fn decode(stored: &[u8]) -> Option<Self> {
        let (body, rest) = stored.split_at_checked(RECORD_LENGTH - 4)?;
        let mut sum = crc32();
        sum.update(body);
        if rest.get(..4)? != sum.finalize().to_le_bytes() {
            return None;
        }
        let (&[form, kind, ref address @ .., length], name) = body.split_first_chunk::<9>()?;
        let name = name.get(..usize::from(length))?;
        (form == FORM).then_some(Self {
            address: (kind != SAME_ADDRESS).then_some(Address {
                kind,
                bytes: *address,
            }),
            name: Name::from_slice(name).ok()?,
        })
    }
}

/// Who wrote to the characteristic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// It has a bond, and the link is encrypted with it.
    pub is_bonded: bool,
    /// The device's own address on this link.
    pub reached: Address,
}

/// The application's side: what a phone that wants an update is answered.
#[derive(Clone, Debug)]
pub struct Entry {
    variant: Variant,
    name: Name,
    is_leaving: bool,
}

impl Entry {
    /// Nobody has asked.
    pub const fn new(variant: Variant) -> Self {
        Self {
            variant,
            name: Name::new(),
            is_leaving: false,
        }
    }

    /// Answers one write. `None`: it was empty.
    ///
    /// `may_leave` says whether the device can and wants to start its update mode; `keep` stores the record and says
    /// whether it could.
    pub fn request(
        &mut self,
        bytes: &[u8],
        visitor: Visitor,
        may_leave: impl FnOnce() -> bool,
        keep: impl FnOnce(&[u8; RECORD_LENGTH]) -> bool,
    ) -> Option<Answer> {
        let request = match Request::decode(bytes) {
            Ok(request) => request,
            Err(error) => return error.refusal(),
        };
        let (opcode, code) = match request {
            Request::Enter => (op::ENTER, self.enter(visitor, may_leave, keep)),
            Request::SetName(name) => (op::SET_NAME, self.set_name(name)),
        };
        Some(Answer { opcode, code })
    }

    fn set_name(&mut self, name: &[u8]) -> ResultCode {
        // A bonded phone knows the device by its address.
        if self.variant == Variant::WithBonds {
            return ResultCode::OpCodeNotSupported;
        }
        if self.is_leaving {
            return ResultCode::Busy;
        }
        match Name::from_slice(name) {
            Ok(name) => {
                self.name = name;
                ResultCode::Success
            }
            Err(_) => ResultCode::InvalidName,
        }
    }

    fn enter(
        &mut self,
        visitor: Visitor,
        may_leave: impl FnOnce() -> bool,
        keep: impl FnOnce(&[u8; RECORD_LENGTH]) -> bool,
    ) -> ResultCode {
        if self.variant == Variant::WithBonds && !visitor.is_bonded {
            return ResultCode::NotBonded;
        }
        if self.is_leaving {
            return ResultCode::Busy;
        }
        if !may_leave() {
            return ResultCode::OperationFailed;
        }
        let record = Record {
            address: match self.variant {
                Variant::WithoutBonds => Some(visitor.reached.above()),
                Variant::WithBonds => None,
            },
            name: self.name.clone(),
        };
        self.is_leaving = keep(&record.encode());
        match self.is_leaving {
            true => ResultCode::Success,
            false => ResultCode::OperationFailed,
        }
    }

    /// The phone has confirmed the answer, or its link is gone. True: reset now, into the update mode. A phone that loses
    /// the link before the answer takes it for a success, so the device does what it has promised.
    pub const fn is_due(&self) -> bool {
        self.is_leaving
    }

    /// The link is gone and nothing was promised: a name belongs to the phone that set it.
    pub fn forget(&mut self) {
        if !self.is_leaving {
            self.name.clear();
        }
    }
}

/// How long the update mode lasts without an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// In which nobody says anything, in ms.
    pub silent_ms: u32,
    /// In which the phone that was there may come back, in ms.
    pub gone_ms: u32,
}

/// The update mode's side: when the device returns to its application.
#[derive(Clone, Copy, Debug)]
pub struct UpdateMode {
    patience: Patience,
    /// At this time in ms; `None`: an update is staged, and its reset follows.
    ends_ms: Option<u64>,
}

impl UpdateMode {
    /// It has begun.
    pub fn new(patience: Patience, now_ms: u64) -> Self {
        Self {
            patience,
            ends_ms: Some(now_ms + u64::from(patience.silent_ms)),
        }
    }

    /// A phone has subscribed, or has written.
    pub fn heard(&mut self, now_ms: u64) {
        if let Some(ends_ms) = &mut self.ends_ms {
            *ends_ms = now_ms + u64::from(self.patience.silent_ms);
        }
    }

    /// The phone has gone.
    pub fn gone(&mut self, now_ms: u64) {
        if let Some(ends_ms) = &mut self.ends_ms {
            *ends_ms = now_ms + u64::from(self.patience.gone_ms);
        }
    }

    /// An update is staged: the service resets, or the product.
    pub fn staged(&mut self) {
        self.ends_ms = None;
    }

    /// When it ends, in ms; `u64::MAX` if an update is staged.
    pub fn ends_ms(&self) -> u64 {
        self.ends_ms.unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPLICATION: Address = Address {
        kind: 1,
        bytes: [0xFF, 2, 3, 4, 5, 0xC6],
    };
    const PHONE: Visitor = Visitor {
        is_bonded: false,
        reached: APPLICATION,
    };

    /// What is answered, and what was kept.
    fn ask(entry: &mut Entry, bytes: &[u8], visitor: Visitor) -> (Option<[u8; 3]>, Option<Record>) {
        let mut kept = None;
        let answer = entry.request(
            bytes,
            visitor,
            || true,
            |record| {
                kept = Record::decode(record);
                true
            },
        );
        (answer.map(|answer| answer.encode()), kept)
    }

    // secure-dfu case 85
    #[test]
    fn a_request_is_answered_and_the_update_mode_begins_behind_the_answer_one_address_above() {
        let mut entry = Entry::new(Variant::WithoutBonds);
        assert!(!entry.is_due());
        let (answer, kept) = ask(&mut entry, &[1], PHONE);
        assert_eq!(answer, Some([0x20, 1, 1]));
        let address = kept.unwrap().address.unwrap();
        assert_eq!(address.bytes, [0, 2, 3, 4, 5, 0xC6], "the carry goes nowhere");
        assert!(entry.is_due());
    }

    // secure-dfu case 86
    #[test]
    fn a_name_is_kept_for_the_update_mode() {
        let mut entry = Entry::new(Variant::WithoutBonds);
        let name = [2, 8, b'D', b'f', b'u', b'1', b'2', b'3', b'4', b'5'];
        assert_eq!(ask(&mut entry, &name, PHONE), (Some([0x20, 2, 1]), None));
        let (_, kept) = ask(&mut entry, &[1], PHONE);
        assert_eq!(kept.unwrap().name, b"Dfu12345");
    }

    #[test]
    fn a_name_of_a_phone_that_went_away_is_not_used_for_the_next_one() {
        let mut entry = Entry::new(Variant::WithoutBonds);
        ask(&mut entry, &[2, 1, b'a'], PHONE);
        entry.forget();
        let (_, kept) = ask(&mut entry, &[1], PHONE);
        assert!(kept.unwrap().name.is_empty());
    }

    // secure-dfu case 87
    #[test]
    fn an_invalid_name_is_refused_and_the_one_before_stays() {
        let mut entry = Entry::new(Variant::WithoutBonds);
        ask(&mut entry, &[2, 1, b'a'], PHONE);
        assert_eq!(ask(&mut entry, &[2, 0], PHONE).0, Some([0x20, 2, 5]));
        let (_, kept) = ask(&mut entry, &[1], PHONE);
        assert_eq!(kept.unwrap().name, b"a");
    }

    // secure-dfu case 88
    #[test]
    fn an_unknown_request_is_not_supported_and_changes_nothing() {
        let mut entry = Entry::new(Variant::WithoutBonds);
        assert_eq!(ask(&mut entry, &[7], PHONE), (Some([0x20, 7, 2]), None));
        assert_eq!(ask(&mut entry, &[], PHONE), (None, None));
        assert!(!entry.is_due());
    }

    // secure-dfu case 89
    #[test]
    fn with_bonds_a_stranger_is_refused_and_a_bonded_phone_keeps_the_address() {
        let mut entry = Entry::new(Variant::WithBonds);
        assert_eq!(ask(&mut entry, &[1], PHONE), (Some([0x20, 1, 7]), None));
        assert!(!entry.is_due());
        let bonded = Visitor {
            is_bonded: true,
            ..PHONE
        };
        assert_eq!(ask(&mut entry, &[2, 1, b'a'], bonded).0, Some([0x20, 2, 2]));
        let (answer, kept) = ask(&mut entry, &[1], bonded);
        assert_eq!(answer, Some([0x20, 1, 1]));
        assert_eq!(kept.unwrap().address, None);
    }

    #[test]
    fn a_device_that_may_not_leave_says_so_and_keeps_nothing() {
        let mut entry = Entry::new(Variant::WithoutBonds);
        let answer = entry.request(&[1], PHONE, || false, |_| panic!("nothing is to be kept"));
        assert_eq!(answer.unwrap().encode(), [0x20, 1, 4]);
        assert!(!entry.is_due());
    }

    #[test]
    fn a_device_that_cannot_keep_the_request_does_not_promise_it() {
        let mut entry = Entry::new(Variant::WithoutBonds);
        let answer = entry.request(&[1], PHONE, || true, |_| false);
        assert_eq!(answer.unwrap().encode(), [0x20, 1, 4]);
        assert!(!entry.is_due());
    }

    #[test]
    fn a_second_request_before_the_reset_is_busy() {
        let mut entry = Entry::new(Variant::WithoutBonds);
        ask(&mut entry, &[1], PHONE);
        assert_eq!(ask(&mut entry, &[1], PHONE), (Some([0x20, 1, 6]), None));
        assert_eq!(ask(&mut entry, &[2, 1, b'a'], PHONE).0, Some([0x20, 2, 6]));
        assert!(entry.is_due());
    }

    const PATIENCE: Patience = Patience {
        silent_ms: 120_000,
        gone_ms: 10_000,
    };

    #[test]
    fn the_update_mode_ends_when_nobody_comes() {
        assert_eq!(UpdateMode::new(PATIENCE, 500).ends_ms(), 120_500);
    }

    #[test]
    fn the_update_mode_lasts_while_a_phone_writes_and_ends_soon_after_it_has_gone() {
        let mut mode = UpdateMode::new(PATIENCE, 0);
        mode.heard(100_000);
        assert_eq!(mode.ends_ms(), 220_000);
        mode.gone(130_000);
        assert_eq!(mode.ends_ms(), 140_000);
        mode.heard(135_000);
        assert_eq!(mode.ends_ms(), 255_000, "it came back");
    }

    #[test]
    fn a_staged_update_ends_the_update_mode_by_its_own_reset() {
        let mut mode = UpdateMode::new(PATIENCE, 0);
        mode.staged();
        mode.gone(1);
        mode.heard(2);
        assert_eq!(mode.ends_ms(), u64::MAX);
    }

    #[test]
    fn retained_memory_of_a_first_start_is_no_record() {
        for byte in [0x00, 0xFF, 0x55] {
            assert_eq!(Record::decode(&[byte; 64]), None);
        }
        assert_eq!(Record::decode(&[]), None);
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_changed_bit_makes_it_none() {
        for address in [None, Some(APPLICATION)] {
            for length in [0, 1, MAX_NAME] {
                let record = Record {
                    address,
                    name: Name::from_slice(&[b'n'; MAX_NAME][..length]).unwrap(),
                };
                let stored = record.encode();
                assert_eq!(Record::decode(&stored), Some(record));
                for bit in 0..RECORD_LENGTH * 8 {
                    let mut changed = stored;
                    changed[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(Record::decode(&changed), None, "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_record_that_names_more_bytes_than_it_has_is_none() {
        let mut stored = [0; RECORD_LENGTH];
        for length in 0..=u8::MAX {
            stored[..2].copy_from_slice(&[FORM, 1]);
            stored[8] = length;
            let mut sum = crc32();
            sum.update(&stored[..29]);
            stored[29..].copy_from_slice(&sum.finalize().to_le_bytes());
            assert_eq!(Record::decode(&stored).is_some(), usize::from(length) <= MAX_NAME);
        }
    }
}
