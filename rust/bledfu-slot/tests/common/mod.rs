// SPDX-License-Identifier: Apache-2.0
//! Shared by the tests of `bledfu-slot` and `bledfu-swap` (included by path): signed images, and a NOR flash in RAM whose
//! power fails before or inside any operation.
#![allow(dead_code)] // each test program uses its part

use core::ops::Range;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::vec::Vec;

use embedded_storage::nor_flash::{
    check_erase, check_read, check_write, ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use sha2::{Digest, Sha256};

/// A small, seeded generator of pseudo-random numbers (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Images

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A signing key, by a number from 1 to 255.
#[derive(Clone, Copy)]
pub struct Key(pub u8);

impl Key {
    fn secret(self) -> p256::ecdsa::SigningKey {
        p256::ecdsa::SigningKey::from_slice(&[self.0; 32]).expect("a number below the group order")
    }

    /// X then Y.
    pub fn public(self) -> [u8; 64] {
        let point = self.secret().verifying_key().to_encoded_point(false);
        point.as_bytes()[1..].try_into().expect("an uncompressed point")
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn hash(self) -> [u8; 32] {
        let mut spki = std::vec![
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
            0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
        ];
        spki.extend(self.public());
        assert_eq!(spki.len(), 91);
        sha256(&spki)
    }

    /// r then s of a signature over a digest.
    pub fn sign(self, digest: &[u8; 32]) -> [u8; 64] {
        let signature: p256::ecdsa::Signature = self.secret().sign_prehash(digest).expect("signing");
        signature.to_bytes().into()
    }

    /// The DER form of a signature over a digest.
    pub fn sign_der(self, digest: &[u8; 32]) -> Vec<u8> {
        let rs = self.sign(digest);
        der_signature(&der_integer(&rs[..32]), &der_integer(&rs[32..]))
    }
}

/// Minimal DER integer of a big-endian number.
pub fn der_integer(number: &[u8]) -> Vec<u8> {
    let start = number.iter().position(|b| *b != 0).unwrap_or(number.len() - 1);
    let mut digits = number[start..].to_vec();
    if digits[0] >= 0x80 {
        digits.insert(0, 0);
    }
    let mut out = std::vec![2, digits.len() as u8];
    out.extend(digits);
    out
}

pub fn der_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    let mut out = std::vec![0x30, (r.len() + s.len()) as u8];
    out.extend(r);
    out.extend(s);
    out
}

/// An image in the making: the hashed part, and the unprotected TLVs behind it.
#[derive(Clone)]
pub struct Image {
    /// Header, payload, protected area.
    pub body: Vec<u8>,
    /// Unprotected entries: type and value.
    pub entries: Vec<(u16, Vec<u8>)>,
}

impl Image {
    /// Header of `header_size` bytes, `payload_size` seeded bytes, no protected area, no entries.
    pub fn bare(header_size: u16, payload_size: u32, seed: u64) -> Self {
        let mut body = std::vec![0xFF; header_size as usize];
        body[0..4].copy_from_slice(&0x96F3_B83Du32.to_le_bytes());
        body[4..8].fill(0);
        body[8..10].copy_from_slice(&header_size.to_le_bytes());
        body[10..12].fill(0);
        body[12..16].copy_from_slice(&payload_size.to_le_bytes());
        body[16..20].fill(0);
        body[20..28].copy_from_slice(&[1, 2, 3, 0, 4, 0, 0, 0]);
        body[28..32].fill(0);
        let mut random = Random::new(seed);
        body.extend((0..payload_size).map(|_| random.byte()));
        Self {
            body,
            entries: Vec::new(),
        }
    }

    /// A well-formed image of exactly `total` bytes, signed with `key`.
    pub fn of_total(total: u32, seed: u64, key: Key) -> Self {
        // DER lengths vary by a byte or two: try payload sizes until the sum fits.
        (0..200u64)
            .find_map(|attempt| {
                (100..=110).find_map(|overhead| {
                    let payload = total - 0x200 - overhead - 44;
                    let image = Self::bare(0x200, payload, seed + 1000 * attempt).sign(key);
                    (image.bytes().len() as u32 == total).then_some(image)
                })
            })
            .expect("some payload size fits")
    }

    /// Appends a protected area with these entries.
    pub fn protect(mut self, entries: &[(u16, &[u8])]) -> Self {
        let total: usize = 4 + entries.iter().map(|(_, value)| 4 + value.len()).sum::<usize>();
        self.body[10..12].copy_from_slice(&(total as u16).to_le_bytes());
        self.body.extend(0x6908u16.to_le_bytes());
        self.body.extend((total as u16).to_le_bytes());
        for (kind, value) in entries {
            self.body.extend(kind.to_le_bytes());
            self.body.extend((value.len() as u16).to_le_bytes());
            self.body.extend(*value);
        }
        self
    }

    pub fn version(mut self, major: u8, minor: u8, revision: u16, build: u32) -> Self {
        self.body[20] = major;
        self.body[21] = minor;
        self.body[22..24].copy_from_slice(&revision.to_le_bytes());
        self.body[24..28].copy_from_slice(&build.to_le_bytes());
        self
    }

    pub fn flags(mut self, flags: u32) -> Self {
        self.body[16..20].copy_from_slice(&flags.to_le_bytes());
        self
    }

    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.body)
    }

    pub fn hash_entry(&self) -> (u16, Vec<u8>) {
        (0x10, self.digest().to_vec())
    }

    pub fn signature_entries(&self, key: Key) -> [(u16, Vec<u8>); 2] {
        [(0x01, key.hash().to_vec()), (0x22, key.sign_der(&self.digest()))]
    }

    /// Replaces the unprotected entries by what imgtool writes: hash, key hash, signature.
    pub fn sign(mut self, key: Key) -> Self {
        self.entries = std::vec![self.hash_entry()];
        let pair = self.signature_entries(key);
        self.entries.extend(pair);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let total: usize = 4 + self
            .entries
            .iter()
            .map(|(_, value)| 4 + value.len())
            .sum::<usize>();
        let mut out = self.body.clone();
        out.extend(0x6907u16.to_le_bytes());
        out.extend((total as u16).to_le_bytes());
        for (kind, value) in &self.entries {
            out.extend(kind.to_le_bytes());
            out.extend((value.len() as u16).to_le_bytes());
            out.extend(value);
        }
        out
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Flash

/// How an operation is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// Nothing of it happens.
    Before,
    /// About this many percent of it happen.
    Inside { percent: u8, seed: u64 },
    /// Exactly the first bytes of it happen, and the next byte is anything.
    Prefix { bytes: usize, next: u8 },
}

/// One operation, as the flash saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Erase { chip: char, sector: u32 },
    Write { chip: char, offset: u32, bytes: Vec<u8> },
}

/// The supply of all chips: counts operations, and fails at one of them.
#[derive(Default)]
pub struct Power {
    ops: Cell<u64>,
    cut: Cell<Option<(u64, Tear)>>,
    off: Cell<bool>,
    reads: Cell<u64>,
    /// Numbers of the reads, and of the erases and programs, that fail without doing anything.
    failing_reads: RefCell<Range<u64>>,
    failing_ops: RefCell<Range<u64>>,
    log: RefCell<Option<Vec<Op>>>,
}

impl Power {
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Operations since the last [`on`](Self::on).
    pub fn ops(&self) -> u64 {
        self.ops.get()
    }

    /// Switches on, with no cut planned, and counts from zero.
    pub fn on(&self) {
        self.off.set(false);
        self.ops.set(0);
        self.cut.set(None);
        self.reads.set(0);
        self.failing_reads.replace(0..0);
        self.failing_ops.replace(0..0);
    }

    /// Reads since the last [`on`](Self::on).
    pub fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// The driver fails these reads, counted from zero; nothing is wrong with the chips.
    pub fn fail_reads(&self, reads: Range<u64>) {
        self.failing_reads.replace(reads);
    }

    /// The driver fails these erases and programs, counted from zero, and does nothing.
    pub fn fail_ops(&self, ops: Range<u64>) {
        self.failing_ops.replace(ops);
    }

    fn read_fails(&self) -> bool {
        let number = self.reads.get();
        self.reads.set(number + 1);
        self.failing_reads.borrow().contains(&number)
    }

    fn op_fails(&self) -> bool {
        let fails = self.failing_ops.borrow().contains(&self.ops.get());
        if fails {
            self.ops.set(self.ops.get() + 1);
        }
        fails
    }

    /// Plans a cut at the operation with this number, counted from zero.
    pub fn cut_at(&self, op: u64, tear: Tear) {
        self.cut.set(Some((op, tear)));
    }

    pub fn is_off(&self) -> bool {
        self.off.get()
    }

    pub fn record(&self) {
        *self.log.borrow_mut() = Some(Vec::new());
    }

    pub fn recorded(&self) -> Vec<Op> {
        self.log.borrow_mut().take().unwrap_or_default()
    }

    /// Starts an operation: `None` = do it all, otherwise how it ends.
    fn begin(&self) -> Option<Tear> {
        let number = self.ops.get();
        self.ops.set(number + 1);
        match self.cut.get() {
            Some((at, tear)) if at == number => {
                self.off.set(true);
                Some(tear)
            }
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NorError {
    /// The supply is off.
    PowerLost,
    /// The chip does not answer.
    Broken,
    Misuse(NorFlashErrorKind),
}

impl NorFlashError for NorError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Misuse(kind) => *kind,
            _ => NorFlashErrorKind::Other,
        }
    }
}

pub const SECTOR: usize = 4096;

/// A NOR flash in RAM with write units of `W` bytes: bits only fall when programmed, sectors of 4 KiB are erased.
pub struct Nor<const W: usize> {
    pub chip: char,
    pub bytes: Vec<u8>,
    pub power: Rc<Power>,
    /// Nothing can be read or written.
    pub broken: bool,
    /// Writes that start in this range fail and change nothing.
    pub refuse_writes: Range<u32>,
    /// Bits that would have to rise stay, as in a real part; otherwise they are a mistake of the test.
    pub lenient: bool,
}

impl<const W: usize> Nor<W> {
    pub fn new(chip: char, sectors: usize, power: &Rc<Power>) -> Self {
        Self {
            chip,
            bytes: std::vec![0xFF; sectors * SECTOR],
            power: power.clone(),
            broken: false,
            lenient: false,
            refuse_writes: 0..0,
        }
    }

    /// Puts bytes in place as a debugger would.
    pub fn load(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn check_power(&self) -> Result<(), NorError> {
        if self.power.is_off() {
            Err(NorError::PowerLost)
        } else if self.broken {
            Err(NorError::Broken)
        } else {
            Ok(())
        }
    }

    fn erase_sector(&mut self, sector: usize) -> Result<(), NorError> {
        self.check_power()?;
        if self.power.op_fails() {
            return Err(NorError::Broken);
        }
        let tear = self.power.begin();
        if let Some(log) = self.power.log.borrow_mut().as_mut() {
            log.push(Op::Erase {
                chip: self.chip,
                sector: sector as u32,
            });
        }
        let cells = &mut self.bytes[sector * SECTOR..(sector + 1) * SECTOR];
        match tear {
            None => {
                cells.fill(0xFF);
                Ok(())
            }
            Some(Tear::Before) => Err(NorError::PowerLost),
            Some(Tear::Prefix { bytes, next }) => {
                cells[..bytes].fill(0xFF);
                if let Some(cell) = cells.get_mut(bytes) {
                    *cell = next;
                }
                Err(NorError::PowerLost)
            }
            Some(Tear::Inside { percent, seed }) => {
                let mut random = Random::new(seed);
                let done = SECTOR * percent as usize / 100;
                match random.next() % 4 {
                    // Low addresses first, or high addresses first, with a ragged border.
                    mode @ (0 | 1) => {
                        let border = 8 + random.next() as usize % 56;
                        for i in 0..SECTOR {
                            let at = if mode == 0 { i } else { SECTOR - 1 - i };
                            if i < done {
                                cells[at] = 0xFF;
                            } else if i < done + border {
                                cells[at] = if random.next() & 1 == 0 {
                                    random.byte()
                                } else {
                                    cells[at] | random.byte()
                                };
                            }
                        }
                    }
                    // All cells at once: some bits have risen, anywhere.
                    2 => {
                        for cell in cells.iter_mut() {
                            for bit in 0..8 {
                                if random.next() % 100 < u64::from(percent) {
                                    *cell |= 1 << bit;
                                }
                            }
                        }
                    }
                    // Only a part is erased, somewhere in the middle; both ends survive.
                    _ => {
                        let start = random.next() as usize % (SECTOR - done).max(1);
                        cells[start..start + done].fill(0xFF);
                    }
                }
                Err(NorError::PowerLost)
            }
        }
    }
}

impl<const W: usize> ErrorType for Nor<W> {
    type Error = NorError;
}

impl<const W: usize> ReadNorFlash for Nor<W> {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorError> {
        check_read(self, offset, bytes.len()).map_err(NorError::Misuse)?;
        self.check_power()?;
        if self.power.read_fails() {
            return Err(NorError::Broken);
        }
        assert_eq!(
            bytes.as_ptr() as usize % 4,
            0,
            "the read buffer is not word-aligned"
        );
        let start = offset as usize;
        bytes.copy_from_slice(&self.bytes[start..start + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const W: usize> NorFlash for Nor<W> {
    const WRITE_SIZE: usize = W;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorError> {
        check_erase(self, from, to).map_err(NorError::Misuse)?;
        for sector in from as usize / SECTOR..to as usize / SECTOR {
            self.erase_sector(sector)?;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorError> {
        check_write(self, offset, bytes.len()).map_err(NorError::Misuse)?;
        self.check_power()?;
        if self.refuse_writes.contains(&offset) || self.power.op_fails() {
            return Err(NorError::Broken);
        }
        assert_eq!(
            bytes.as_ptr() as usize % 4,
            0,
            "the write buffer is not word-aligned"
        );
        let tear = self.power.begin();
        if let Some(log) = self.power.log.borrow_mut().as_mut() {
            log.push(Op::Write {
                chip: self.chip,
                offset,
                bytes: bytes.to_vec(),
            });
        }
        let cells = &mut self.bytes[offset as usize..offset as usize + bytes.len()];
        for (cell, byte) in cells.iter_mut().zip(bytes) {
            if self.lenient {
                *cell &= byte;
                continue;
            }
            assert_eq!(
                *cell & byte,
                *byte,
                "a bit would have to rise, write of {} at {offset:#x}",
                bytes.len()
            );
        }
        match tear {
            None if self.lenient => Ok(()),
            None => {
                cells.copy_from_slice(bytes);
                Ok(())
            }
            Some(Tear::Before) => Err(NorError::PowerLost),
            Some(Tear::Prefix { bytes: done, next }) => {
                let done = done.min(bytes.len());
                cells[..done].copy_from_slice(&bytes[..done]);
                if let (Some(cell), Some(byte)) = (cells.get_mut(done), bytes.get(done)) {
                    *cell &= *byte | next;
                }
                Err(NorError::PowerLost)
            }
            Some(Tear::Inside { percent, seed }) => {
                let mut random = Random::new(seed);
                let done = bytes.len() * percent as usize / 100;
                for (i, (cell, byte)) in cells.iter_mut().zip(bytes).enumerate() {
                    if i < done {
                        *cell = *byte;
                    } else if i < done + 16 {
                        // Some of the bits that should fall have not fallen yet.
                        *cell &= *byte | random.byte();
                    }
                }
                Err(NorError::PowerLost)
            }
        }
    }
}
