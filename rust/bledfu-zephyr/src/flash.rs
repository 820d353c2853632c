// SPDX-License-Identifier: Apache-2.0
//! A flash partition of the devicetree as [`NorFlash`].
//!
//! Every call returns within `CONFIG_BLEDFU_FLASH_TIMEOUT_MS`, or twice that while an earlier call hangs. The shim runs
//! the driver on its own thread and copies through a word-aligned buffer there, so if a completion never comes, nobody
//! waits and the driver holds no memory of the caller.

use crate::abi::{self, PAGE};
use crate::ZephyrError;
use bledfu_text::{text, words, Hex, Line, Text};
use core::fmt;
use embedded_storage::nor_flash::{
    check_erase, check_read, check_write, ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

/// Erase unit in bytes: the pages of the flash of slot 0, 4096 to 65,536. The other flash's driver reports as large ones, and MCUboot
/// must be built with them. `zephyr/CMakeLists.txt` takes it from the devicetree and passes it as `BLEDFU_PAGE_SIZE`.
pub const SECTOR_SIZE: u32 = page_size(option_env!("BLEDFU_PAGE_SIZE"));
/// Write unit in bytes: the largest of the build's partitions, and 4 at least; parts with smaller units accept it as well.
/// `zephyr/CMakeLists.txt` takes it from the devicetree and passes it as `BLEDFU_WRITE_SIZE`.
pub const WRITE_SIZE: u32 = write_size(option_env!("BLEDFU_WRITE_SIZE"));

const _: () = assert!(WRITE_SIZE != 0, "BLEDFU_WRITE_SIZE is not 4, 8, 16 or 32");
const _: () = assert!(
    SECTOR_SIZE != 0,
    "BLEDFU_PAGE_SIZE is not 4096, 8192, 16384, 32768 or 65536"
);

/// No supported part needs more for a read.
const READ_SIZE: usize = 4;

const fn write_size(text: Option<&str>) -> u32 {
    match text {
        None => 4,
        Some(text) => match text.as_bytes() {
            b"4" => 4,
            b"8" => 8,
            b"16" => 16,
            b"32" => 32,
            _ => 0,
        },
    }
}

const fn page_size(text: Option<&str>) -> u32 {
    match text {
        None => 4096,
        Some(text) => match text.as_bytes() {
            b"4096" => 4096,
            b"8192" => 8192,
            b"16384" => 16_384,
            b"32768" => 32_768,
            b"65536" => 65_536,
            _ => 0,
        },
    }
}

/// The partitions of the update service and of the boot stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Partition {
    /// The slot of the running image.
    Primary = 0,
    /// The slot that receives updates.
    Secondary = 1,
    /// Progress and installed versions.
    Journal = 2,
    /// The spare area, for install algorithms that have one.
    Spare = 3,
    /// Where the boot stage keeps its evidence.
    Trust = 4,
}

impl Text for Partition {
    fn put(&self, line: &mut dyn Line) {
        let words = match self {
            Self::Primary => words!("primary slot"),
            Self::Secondary => words!("secondary slot"),
            Self::Journal => words!("journal"),
            Self::Spare => words!("spare area"),
            Self::Trust => words!("trust area"),
        };
        words.put(line);
    }
}

bledfu_text::display!(Partition);

/// Why a partition cannot be used. Each reason is a mistake in devicetree or Kconfig and is permanent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaError {
    /// Its flash driver is missing or not ready.
    NotReady(Partition, ZephyrError),
    /// Its erase unit is not [`SECTOR_SIZE`].
    SectorSize(Partition, u32),
    /// Its write unit is larger than [`WRITE_SIZE`] or does not divide it.
    WriteUnit(Partition, u32),
    /// Its start or end is not at a sector boundary.
    Alignment {
        /// The partition.
        partition: Partition,
        /// Its start on the flash device, in bytes.
        start: u32,
        /// Its size in bytes.
        size: u32,
    },
}

impl Text for AreaError {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::NotReady(partition, error) => {
                text!("{}: its flash is not ready: {}", partition, error).put(line)
            }
            Self::SectorSize(partition, 0) => {
                text!("{}: its erase pages are not all of one size", partition).put(line)
            }
            Self::SectorSize(partition, size) => text!(
                "{}: its flash reports pages of {} bytes, not {} \
                 (for QSPI: CONFIG_NORDIC_QSPI_NOR_FLASH_LAYOUT_PAGE_SIZE={})",
                partition,
                size,
                SECTOR_SIZE,
                SECTOR_SIZE
            )
            .put(line),
            Self::WriteUnit(partition, unit) => text!(
                "{}: write units of {} bytes are not supported by this build, only up to {}",
                partition,
                unit,
                WRITE_SIZE
            )
            .put(line),
            Self::Alignment {
                partition,
                start,
                size,
            } => text!(
                "{}: {} bytes at {} are not whole pages of {} bytes",
                partition,
                Hex(*size, 1),
                Hex(*start, 1),
                SECTOR_SIZE
            )
            .put(line),
        }
    }
}

bledfu_text::display!(AreaError);

impl core::error::Error for AreaError {}

/// Why a flash call failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FlashError {
    /// The caller broke a rule of [`NorFlash`]; the driver was not called.
    Rule(NorFlashErrorKind),
    /// The driver failed, or did not return in time.
    Driver(ZephyrError),
}

// Written by hand: log lines show flash errors this way, and a derived implementation would add 1 KB of unused code.
impl fmt::Debug for FlashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(kind) => kind.fmt(f),
            Self::Driver(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Rule(kind) => *kind,
            Self::Driver(_) => NorFlashErrorKind::Other,
        }
    }
}

impl From<NorFlashErrorKind> for FlashError {
    fn from(kind: NorFlashErrorKind) -> Self {
        Self::Rule(kind)
    }
}

/// One partition. Not `Clone`: a partition has one owner.
#[derive(Debug)]
pub struct Area {
    partition: Partition,
    size: u32,
}

impl Area {
    /// Opens a partition and checks that its geometry is supported.
    ///
    /// # Errors
    /// [`AreaError`], for the developer who built the firmware.
    pub fn open(partition: Partition) -> Result<Self, AreaError> {
        let (mut size, mut start, mut sector, mut unit) = (0, 0, 0, 0);
        // SAFETY: the four pointers are to locals that outlive the call; C writes one u32 to each.
        let status = unsafe {
            abi::bledfu_shim_flash_open(partition as u8, &mut size, &mut start, &mut sector, &mut unit)
        };
        ZephyrError::check(status).map_err(|error| AreaError::NotReady(partition, error))?;
        if sector != SECTOR_SIZE {
            return Err(AreaError::SectorSize(partition, sector));
        }
        if !unit.is_power_of_two() || unit > WRITE_SIZE {
            return Err(AreaError::WriteUnit(partition, unit));
        }
        if size == 0 || !size.is_multiple_of(SECTOR_SIZE) || !start.is_multiple_of(SECTOR_SIZE) {
            return Err(AreaError::Alignment {
                partition,
                start,
                size,
            });
        }
        Ok(Self { partition, size })
    }

    /// No area, for install algorithms without a third one: its size is 0, so every access is out of bounds.
    pub const fn none() -> Self {
        Self {
            partition: Partition::Spare,
            size: 0,
        }
    }

    /// Size in bytes.
    pub const fn size(&self) -> u32 {
        self.size
    }

    fn done(status: i32) -> Result<(), FlashError> {
        ZephyrError::check(status).map_err(FlashError::Driver)
    }
}

/// The processor's address of the primary slot.
pub fn primary_address() -> u32 {
    // SAFETY: no arguments, and the result is an integer.
    unsafe { abi::bledfu_shim_primary_address() }
}

impl ErrorType for Area {
    type Error = FlashError;
}

impl ReadNorFlash for Area {
    const READ_SIZE: usize = READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        check_read(self, offset, bytes.len())?;
        let mut at = offset;
        for page in bytes.chunks_mut(PAGE) {
            // SAFETY: C writes at most `page.len()` bytes to `page` and does not keep the pointer.
            Self::done(unsafe {
                abi::bledfu_shim_flash_read(self.partition as u8, at, page.as_mut_ptr(), page.len() as u32)
            })?;
            at += page.len() as u32;
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.size as usize
    }
}

impl NorFlash for Area {
    const WRITE_SIZE: usize = WRITE_SIZE as usize;
    const ERASE_SIZE: usize = SECTOR_SIZE as usize;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        check_erase(self, from, to)?;
        // SAFETY: integers only; the range was checked against the partition.
        Self::done(unsafe { abi::bledfu_shim_flash_erase(self.partition as u8, from, to - from) })
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        check_write(self, offset, bytes.len())?;
        let (mut at, mut left) = (offset, bytes);
        while !left.is_empty() {
            let room = PAGE - at as usize % PAGE;
            let (page, later) = left.split_at(left.len().min(room));
            // SAFETY: C reads `page.len()` bytes and does not keep the pointer.
            Self::done(unsafe {
                abi::bledfu_shim_flash_write(self.partition as u8, at, page.as_ptr(), page.len() as u32)
            })?;
            at += page.len() as u32;
            left = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, Geometry};

    #[test]
    fn written_bytes_read_back_and_erasing_clears_them() {
        let _device = fake::device();
        let mut area = Area::open(Partition::Secondary).unwrap();
        area.erase(0, 8192).unwrap();
        area.write(4096, &[1, 2, 3, 4]).unwrap();
        let mut bytes = [0; 8];
        area.read(4096, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4, 0xFF, 0xFF, 0xFF, 0xFF]);
        area.erase(4096, 8192).unwrap();
        area.read(4096, &mut bytes).unwrap();
        assert_eq!(bytes, [0xFF; 8]);
    }

    #[test]
    fn long_reads_and_writes_reach_the_driver_page_by_page() {
        let device = fake::device();
        let mut area = Area::open(Partition::Secondary).unwrap();
        let bytes: std::vec::Vec<u8> = (0..1000u32).map(|at| at as u8).collect();
        area.write(4096 - 100, &bytes).unwrap();
        assert_eq!(device.flash_calls(), 5, "100, three whole pages, and the rest");
        let mut back = [0; 1000];
        area.read(4096 - 100, &mut back).unwrap();
        assert_eq!(back.as_slice(), bytes);
    }

    #[test]
    fn calls_that_break_the_rules_never_reach_the_driver() {
        let device = fake::device();
        let mut area = Area::open(Partition::Journal).unwrap();
        let size = area.size();
        let out = Err(FlashError::Rule(NorFlashErrorKind::OutOfBounds));
        let odd = Err(FlashError::Rule(NorFlashErrorKind::NotAligned));
        assert_eq!(area.write(size, &[0; 4]), out);
        assert_eq!(area.write(2, &[0; 4]), odd);
        assert_eq!(area.write(0, &[0; 3]), odd);
        assert_eq!(area.erase(0, 100), odd);
        assert_eq!(area.erase(0, size + 4096), out);
        assert_eq!(device.flash_calls(), 0);
    }

    #[test]
    fn a_driver_that_does_not_return_is_an_error() {
        let device = fake::device();
        let mut area = Area::open(Partition::Secondary).unwrap();
        device.next_flash_call(abi::TIMED_OUT);
        assert_eq!(
            area.erase(0, 4096),
            Err(FlashError::Driver(ZephyrError::TimedOut))
        );
        assert_eq!(area.erase(0, 4096), Ok(()));
    }

    #[test]
    fn an_unusable_layout_is_refused_with_its_reason() {
        let device = fake::device();
        let slot = Geometry {
            size: 0x10000,
            start: 0,
            sector: 65536,
            unit: 4,
        };
        device.set_geometry(Partition::Secondary, slot);
        let error = Area::open(Partition::Secondary).unwrap_err();
        assert_eq!(error, AreaError::SectorSize(Partition::Secondary, 65536));
        assert!(std::format!("{error}").contains("PAGE_SIZE=4096"));

        device.set_geometry(
            Partition::Secondary,
            Geometry {
                sector: 4096,
                start: 0x800,
                ..slot
            },
        );
        assert!(matches!(
            Area::open(Partition::Secondary),
            Err(AreaError::Alignment { start: 0x800, .. })
        ));
        device.set_geometry(
            Partition::Secondary,
            Geometry {
                sector: 4096,
                unit: 16,
                ..slot
            },
        );
        assert_eq!(
            Area::open(Partition::Secondary).unwrap_err(),
            AreaError::WriteUnit(Partition::Secondary, 16)
        );
    }
}
