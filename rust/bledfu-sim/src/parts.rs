// SPDX-License-Identifier: Apache-2.0
//! The flash parts that the simulator knows: geometry and times, one `const` row each.
//!
//! External parts: the JESD216 basic tables that the parts report (typical = count × unit, maximum = typical ×
//! multiplier), as found in Zephyr board files, QEMU and mailing-list dumps. Internal memories: the figures of Zephyr,
//! nrfx and BabbleSim. Where a part's own table was not available, the row says which similar part stands in.

/// A duration as data sheets give it, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypMax {
    /// Typical.
    pub typ_ns: u64,
    /// Guaranteed maximum.
    pub max_ns: u64,
}

impl TypMax {
    const fn us(typ: u64, max: u64) -> Self {
        TypMax {
            typ_ns: typ * 1_000,
            max_ns: max * 1_000,
        }
    }

    const fn ms(typ: u64, max: u64) -> Self {
        TypMax {
            typ_ns: typ * 1_000_000,
            max_ns: max * 1_000_000,
        }
    }

    /// The figure that [`Times`] selects.
    pub const fn pick(&self, times: Times) -> u64 {
        match times {
            Times::Typical => self.typ_ns,
            Times::Maximum => self.max_ns,
        }
    }
}

/// Which of the two figures of a data sheet a run uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Times {
    /// The time of an ordinary part.
    #[default]
    Typical,
    /// The maximum that the data sheet allows.
    Maximum,
}

/// How bytes reach the memory array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// Quad SPI: 14 clocks of command, address and wait, then two clocks per byte.
    QuadSpi {
        /// Clock in Hz.
        clock_hz: u64,
    },
    /// The processor's own memory: reads cost this much per word, commands nothing.
    Memory {
        /// Nanoseconds per 32-bit word.
        word_ns: u64,
    },
}

impl Bus {
    /// Time to move `bytes` over the bus with one command.
    pub const fn transfer_ns(&self, bytes: u64) -> u64 {
        match *self {
            Bus::QuadSpi { clock_hz } => (bytes * 2 + 14) * 1_000_000_000 / clock_hz,
            Bus::Memory { word_ns } => bytes.div_ceil(4) * word_ns,
        }
    }
}

/// How long programming takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramTime {
    /// A page buffer programmed at once: `page` for all 256 bytes, in proportion for fewer, but at least `first` + (n −
    /// 1) × `next`.
    Page {
        /// All 256 bytes.
        page: TypMax,
        /// One byte.
        first: TypMax,
        /// Each further byte.
        next: TypMax,
    },
    /// Word after word (internal flash).
    Word(TypMax),
    /// Unit by unit: memories with error correction or a line buffer.
    Unit {
        /// Size of a unit in bytes.
        bytes: u32,
        /// One unit.
        time: TypMax,
    },
}

impl ProgramTime {
    /// Time for `bytes` (1 to 256) within one page.
    pub const fn of(&self, bytes: u64, times: Times) -> u64 {
        match self {
            ProgramTime::Page { page, first, next } => {
                let share = page.pick(times) * bytes / PAGE_SIZE as u64;
                let by_byte = first.pick(times) + next.pick(times) * bytes.saturating_sub(1);
                let page = page.pick(times);
                let floor = if by_byte < page { by_byte } else { page };
                if share > floor {
                    share
                } else {
                    floor
                }
            }
            ProgramTime::Word(word) => word.pick(times) * bytes.div_ceil(4),
            ProgramTime::Unit { bytes: unit, time } => time.pick(times) * bytes.div_ceil(*unit as u64),
        }
    }
}

/// What a part does when a unit is written a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrite {
    /// It clears further bits; none is set.
    ClearsBits,
    /// It refuses, because each unit has an error correction code. Only zeros may follow.
    Refused,
    /// It stores the new bytes: no erase is needed.
    Replaces,
}

/// Maximum number of bytes per program operation, which never crosses a multiple of it. For internal flash this is only
/// a unit of counting and cutting: 64 words are one operation.
pub const PAGE_SIZE: u32 = 256;

/// Smallest erasable block of the external parts, and of most internal memories.
pub const SECTOR_SIZE: u32 = 4096;

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;

/// One flash part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Name on the command line, lower case.
    pub name: &'static str,
    /// The source of the row.
    pub source: &'static str,
    /// Bytes.
    pub size: u32,
    /// Smallest write in bytes: 1 to 32, a power of two. A driver may require more: the nRF52840's QSPI peripheral
    /// moves words.
    pub write_size: u32,
    /// Rewriting a unit that is not erased.
    pub rewrite: Rewrite,
    /// Programming.
    pub program: ProgramTime,
    /// Erase commands: block size in bytes and time, smallest first; every size divides the next.
    pub erase: &'static [(u32, TypMax)],
    /// Bus, at the clock stock board files use.
    pub bus: Bus,
    /// Inside the processor: not usable for the update slot.
    pub internal: bool,
}

impl Part {
    /// Smallest block that can be erased, in bytes.
    pub const fn sector_size(&self) -> u32 {
        match self.erase {
            [(size, _), ..] => *size,
            [] => SECTOR_SIZE,
        }
    }

    /// The write units that devices with this part may be built for.
    pub fn write_units(&self) -> impl Iterator<Item = u32> {
        let least = self.write_size;
        WRITE_UNITS.into_iter().filter(move |unit| *unit >= least)
    }
}

/// Every write unit an area may have.
pub const WRITE_UNITS: [u32; 6] = [1, 2, 4, 8, 16, 32];

/// 8 MHz: the default of Zephyr's board files, and the rate that suits every power mode of an MX25R.
const QSPI_8MHZ: Bus = Bus::QuadSpi { clock_hz: 8_000_000 };

/// Two cycles of a 64 MHz processor per word.
const MEMORY: Bus = Bus::Memory { word_ns: 31 };

/// Only the MX25R's table has byte program times; the others are assumed to be the same. The maximum uses the page's
/// ratio of 6.
const BYTE_FIRST: TypMax = TypMax::us(32, 192);
const BYTE_NEXT: TypMax = TypMax::us(1, 6);

const fn page(typ_us: u64, max_us: u64) -> ProgramTime {
    ProgramTime::Page {
        page: TypMax::us(typ_us, max_us),
        first: BYTE_FIRST,
        next: BYTE_NEXT,
    }
}

/// The part on the nRF52840 DK.
pub const MX25R6435F: Part = Part {
    name: "mx25r6435f",
    source: "SFDP bytes in Zephyr nrf52840dk_nrf52840.dts",
    size: 8 * MIB,
    write_size: 1,
    rewrite: Rewrite::ClearsBits,
    program: page(896, 5_400),
    erase: &[
        (4 * KIB, TypMax::ms(48, 384)),
        (32 * KIB, TypMax::ms(240, 1_920)),
        (64 * KIB, TypMax::ms(480, 3_840)),
    ],
    bus: QSPI_8MHZ,
    internal: false,
};

const WINBOND_ERASE: &[(u32, TypMax)] = &[
    (4 * KIB, TypMax::ms(64, 896)),
    (32 * KIB, TypMax::ms(128, 1_792)),
    (64 * KIB, TypMax::ms(160, 2_240)),
];

/// 3 V Winbond, 8 MiB.
pub const W25Q64: Part = Part {
    name: "w25q64",
    source: "SFDP of the W25Q512JV in QEMU, which stands in for the JV family",
    size: 8 * MIB,
    write_size: 1,
    rewrite: Rewrite::ClearsBits,
    program: page(704, 4_200),
    erase: WINBOND_ERASE,
    bus: QSPI_8MHZ,
    internal: false,
};

/// 3 V Winbond, 16 MiB.
pub const W25Q128: Part = Part {
    name: "w25q128",
    size: 16 * MIB,
    ..W25Q64
};

/// 1.8 V Winbond, 8 MiB.
pub const W25Q64JW: Part = Part {
    name: "w25q64jw",
    source: "SFDP dump on the linux-mtd list",
    ..W25Q64
};

/// 1.8 V GigaDevice, 32 MiB.
pub const GD25LB256E: Part = Part {
    name: "gd25lb256e",
    source: "SFDP bytes in Zephyr nrf9161dk, revision 0.7.0",
    size: 32 * MIB,
    write_size: 1,
    rewrite: Rewrite::ClearsBits,
    program: page(320, 1_900),
    erase: &[
        (4 * KIB, TypMax::ms(30, 360)),
        (32 * KIB, TypMax::ms(112, 1_344)),
        (64 * KIB, TypMax::ms(208, 2_496)),
    ],
    bus: QSPI_8MHZ,
    internal: false,
};

/// Wide-voltage GigaDevice, 32 MiB.
pub const GD25WB256E: Part = Part {
    name: "gd25wb256e",
    source: "SFDP bytes in Zephyr nrf9161dk",
    size: 32 * MIB,
    write_size: 1,
    rewrite: Rewrite::ClearsBits,
    program: page(512, 4_100),
    erase: &[
        (4 * KIB, TypMax::ms(80, 800)),
        (32 * KIB, TypMax::ms(256, 2_560)),
        (64 * KIB, TypMax::ms(304, 3_040)),
    ],
    bus: QSPI_8MHZ,
    internal: false,
};

/// ISSI, 32 MiB.
pub const IS25WP256: Part = Part {
    name: "is25wp256",
    source: "SFDP in QEMU; stands in for the IS25LP and IS25WP families",
    size: 32 * MIB,
    write_size: 1,
    rewrite: Rewrite::ClearsBits,
    program: page(200, 1_200),
    erase: &[
        (4 * KIB, TypMax::ms(48, 384)),
        (32 * KIB, TypMax::ms(160, 1_280)),
        (64 * KIB, TypMax::ms(304, 2_432)),
    ],
    bus: QSPI_8MHZ,
    internal: false,
};

/// Internal flash of the nRF52840. No word maximum was found: the typical stands for both.
pub const NRF52840: Part = Part {
    name: "nrf52840",
    source: "nrfx, Zephyr's erase budget of 89.7 ms, BabbleSim's word time of the nRF52833",
    size: MIB,
    write_size: 4,
    rewrite: Rewrite::ClearsBits,
    program: ProgramTime::Word(TypMax::us(42, 42)),
    erase: &[(4 * KIB, TypMax::us(85_000, 89_700))],
    bus: MEMORY,
    internal: true,
};

/// Internal flash of the nRF5340's application core. No maxima were found.
pub const NRF5340: Part = Part {
    name: "nrf5340",
    source: "BabbleSim and nrfx",
    size: MIB,
    write_size: 4,
    rewrite: Rewrite::ClearsBits,
    program: ProgramTime::Word(TypMax::us(43, 43)),
    erase: &[(4 * KIB, TypMax::us(87_500, 87_500))],
    bus: MEMORY,
    internal: true,
};

/// RRAM of the nRF54L15: lines of 16 bytes with error correction, rewritten without an erase; its erase operation
/// writes ones. A line takes its share of the 8 ms that Zephyr allows for 4 KiB, at most that of its longest buffered
/// write (7.1 ms for 32 lines).
pub const NRF54L15: Part = Part {
    name: "nrf54l15",
    source: "Zephyr's nrf54l15 device tree, soc.h and RRAM driver; Nordic's nAN-47 for the lines",
    size: 1524 * KIB,
    write_size: 16,
    rewrite: Rewrite::Replaces,
    program: ProgramTime::Unit {
        bytes: 16,
        time: TypMax::us(31, 222),
    },
    erase: &[(4 * KIB, TypMax::ms(8, 57))],
    bus: MEMORY,
    internal: true,
};

/// Internal flash of the STM32WB55: double words of 8 bytes with an error code (RM0434 §3.3.8).
pub const STM32WB55: Part = Part {
    name: "stm32wb55",
    source: "units: RM0434; times: flash characteristics of data sheet DS11929",
    size: MIB,
    write_size: 8,
    rewrite: Rewrite::Refused,
    program: ProgramTime::Unit {
        bytes: 8,
        time: TypMax::us(82, 91),
    },
    erase: &[(4 * KIB, TypMax::us(22_000, 24_500))],
    bus: MEMORY,
    internal: true,
};

/// Internal flash of the STM32WBA52: quad words of 16 bytes with error correction, pages of 8 KiB. Its times are those
/// of the STM32U5, which has the same flash; the page's maximum was not found and is assumed to be twice the typical.
pub const STM32WBA52: Part = Part {
    name: "stm32wba52",
    source: "units: Zephyr's stm32wba device tree; times: data sheet of the STM32U5, which stands in",
    size: MIB,
    write_size: 16,
    rewrite: Rewrite::Refused,
    program: ProgramTime::Unit {
        bytes: 16,
        time: TypMax::us(118, 118),
    },
    erase: &[(8 * KIB, TypMax::us(1_500, 3_000))],
    bus: MEMORY,
    internal: true,
};

/// Internal flash of the EFR32MG24: words, pages of 8 KiB. No times were found: those of the nRF52840 are used, with a
/// page of twice the size.
pub const EFR32MG24: Part = Part {
    name: "efr32mg24",
    source: "units: Zephyr's efr32mg24 device tree; times: the nRF52840's, which stand in",
    size: 1536 * KIB,
    erase: &[(8 * KIB, TypMax::us(85_000, 89_700))],
    ..NRF52840
};

/// Zephyr's flash simulator: single bytes, and the default times of its options.
pub const SIM_FLASH: Part = Part {
    name: "sim-flash",
    source: "Zephyr's native_sim device tree and Kconfig.simulator",
    size: 2 * MIB,
    write_size: 1,
    rewrite: Rewrite::ClearsBits,
    program: ProgramTime::Unit {
        bytes: PAGE_SIZE,
        time: TypMax::us(100, 100),
    },
    erase: &[(4 * KIB, TypMax::ms(2, 2))],
    bus: MEMORY,
    internal: true,
};

/// Every part, external ones first.
pub const PARTS: &[&Part] = &[
    &MX25R6435F,
    &W25Q64,
    &W25Q128,
    &W25Q64JW,
    &GD25LB256E,
    &GD25WB256E,
    &IS25WP256,
    &NRF52840,
    &NRF5340,
    &NRF54L15,
    &STM32WB55,
    &STM32WBA52,
    &EFR32MG24,
    &SIM_FLASH,
];

/// The part with this name; letter case does not matter.
pub fn find(name: &str) -> Option<&'static Part> {
    PARTS
        .iter()
        .copied()
        .find(|part| part.name.eq_ignore_ascii_case(name))
}

/// Names of the external parts, for help texts and error sentences.
pub fn external_names() -> Vec<&'static str> {
    names(false)
}

/// Names of the internal memories, for help texts and error sentences.
pub fn internal_names() -> Vec<&'static str> {
    names(true)
}

fn names(internal: bool) -> Vec<&'static str> {
    PARTS
        .iter()
        .filter(|part| part.internal == internal)
        .map(|part| part.name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_case_insensitive() {
        for part in PARTS {
            assert_eq!(find(&part.name.to_uppercase()), Some(*part));
        }
        assert_eq!(find("at25"), None);
        assert_eq!(external_names().len() + internal_names().len(), PARTS.len());
    }

    #[test]
    fn erase_blocks_nest_and_start_at_the_sector() {
        for part in PARTS {
            assert!(
                part.internal || part.sector_size() == SECTOR_SIZE,
                "{}",
                part.name
            );
            assert_eq!(part.sector_size(), part.erase[0].0);
            assert!(part
                .erase
                .windows(2)
                .all(|w| w[1].0 % w[0].0 == 0 && w[1].0 > w[0].0));
            assert!(part.erase.iter().all(|(_, t)| t.max_ns >= t.typ_ns));
            assert_eq!(part.size % part.erase.last().unwrap().0, 0);
        }
    }

    #[test]
    fn mx25r_times_are_those_of_the_performance_page() {
        let t = |n| MX25R6435F.program.of(n, Times::Typical);
        assert_eq!(t(256), 896_000);
        assert_eq!(t(4), 35_000);
        assert_eq!(t(128), 448_000);
        assert_eq!(MX25R6435F.program.of(256, Times::Maximum), 5_400_000);
        // 66 microseconds over the bus at 8 MHz.
        assert_eq!(MX25R6435F.bus.transfer_ns(256), 65_750);
    }

    #[test]
    fn a_part_may_be_written_in_its_own_unit_or_a_larger_one() {
        let units = |part: &Part| part.write_units().collect::<Vec<_>>();
        assert_eq!(units(&SIM_FLASH), WRITE_UNITS);
        assert_eq!(units(&NRF52840), [4, 8, 16, 32]);
        assert_eq!(units(&STM32WB55), [8, 16, 32]);
        assert_eq!(units(&NRF54L15), [16, 32]);
        assert_eq!((STM32WBA52.sector_size(), EFR32MG24.sector_size()), (8192, 8192));
        assert_eq!(STM32WB55.program.of(256, Times::Typical), 32 * 82_000);
        assert_eq!(NRF54L15.program.of(20, Times::Maximum), 2 * 222_000);
    }

    #[test]
    fn internal_flash_costs_42_us_per_word() {
        assert_eq!(NRF52840.program.of(4096, Times::Typical), 1024 * 42_000);
        assert_eq!(NRF52840.erase[0].1.typ_ns, 85_000_000);
    }
}
