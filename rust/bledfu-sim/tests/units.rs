// SPDX-License-Identifier: Apache-2.0
//! Whole updates on flashes of other makers: write units of 1 to 32 bytes, pages of 4 and 8 KiB, error correction,
//! RRAM. Both protocols, all algorithms; confirmed, reverted, and with power cuts. The units are constants of the
//! types, as on a device.

use bledfu_sim::device::{Setup, UnitsError};
use bledfu_sim::link::LinkParams;
use bledfu_sim::nor::{Units, UnitsOf, Words};
use bledfu_sim::package::Package;
use bledfu_sim::parts::{Part, EFR32MG24, NRF52840, NRF54L15, SIM_FLASH, STM32WB55, STM32WBA52};
use bledfu_sim::phone::{secure_dfu, smp};
use bledfu_sim::power::Tear;
use bledfu_sim::world::WorldOf;
use bledfu_slot::layout::Algorithm;

const OLD: &[u8] = include_bytes!("../../../tests/vectors/images/small-1.0.0.signed.bin");
const NEW: &[u8] = include_bytes!("../../../tests/vectors/packages/small-2.0.0.zip");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    SecureDfu,
    Smp,
}

/// A device for all tests.
struct Case<I: Units, X: Units> {
    setup: Setup,
    protocol: Protocol,
    what: String,
    world: WorldOf<I, X>,
}

impl<I: Units, X: Units> Case<I, X> {
    fn new(part: &'static Part, unit: u32, algorithm: Algorithm, protocol: Protocol) -> Self {
        let setup = Setup {
            algorithm,
            ..Setup::small(8).on(part, unit)
        };
        Self::of(setup, protocol)
    }

    fn of(setup: Setup, protocol: Protocol) -> Self {
        let name = (setup.internal.name, setup.write_unit, setup.algorithm.as_str());
        let mut world = WorldOf::new(setup, OLD, LinkParams::default()).expect("the factory image boots");
        world.settle();
        Self {
            setup,
            protocol,
            what: format!("{name:?} over {protocol:?}"),
            world,
        }
    }

    /// The running version, and whether it is confirmed.
    fn version(&self) -> (u8, bool) {
        let device = self.world.device().expect("the device is on");
        (device.image().header.version.major, device.is_confirmed())
    }

    /// The update is received and installed on trial.
    fn install(&mut self) {
        let package = Package::read(NEW).expect("a good vector");
        let done = match self.protocol {
            Protocol::SecureDfu => self
                .world
                .update(&package, secure_dfu::Phone::Android, 0, &mut |_| ()),
            Protocol::Smp => {
                let settings = smp::Settings {
                    mode: smp::Mode::TestOnly,
                    ..smp::Settings::of(smp::Phone::Android)
                };
                self.world
                    .update_smp(&package.application.firmware, settings, &mut |_| ())
            }
        };
        done.unwrap_or_else(|error| panic!("{}: {error}", self.what));
    }

    /// Repeated as long as a cut between the start of the new image and its confirmation brings the old one back.
    fn update_and_confirm(&mut self) {
        for _ in 0..3 {
            self.install();
            let confirmed = self.world.confirm();
            confirmed.unwrap_or_else(|error| panic!("{}: {error}", self.what));
            if self.version() == (2, true) {
                return;
            }
            assert_eq!(self.version(), (1, true), "{}", self.what);
        }
        panic!("{}: the update was never confirmed", self.what);
    }

    fn can_revert(&self) -> bool {
        self.setup.algorithm != Algorithm::Overwrite
    }
}

/// Confirmed permanently, and a trial that is never confirmed.
fn updates_and_reverts<I: Units, X: Units>(part: &'static Part, unit: u32) {
    for algorithm in Algorithm::ALL {
        for protocol in [Protocol::SecureDfu, Protocol::Smp] {
            let mut case = Case::<I, X>::new(part, unit, algorithm, protocol);
            case.update_and_confirm();
            case.world.power_up().expect("it boots again");
            assert_eq!(case.version(), (2, true), "{}: it stays", case.what);

            let mut case = Case::<I, X>::new(part, unit, algorithm, protocol);
            case.install();
            assert_eq!(case.version(), (2, !case.can_revert()), "{}", case.what);
            case.world.power_up().expect("it boots again");
            let wanted = if case.can_revert() { (1, true) } else { (2, true) };
            assert_eq!(case.version(), wanted, "{}: not confirmed", case.what);
        }
    }
}

/// The power is cut at every few operations from the first byte to the confirmation.
fn survives_cuts<I: Units, X: Units>(part: &'static Part, unit: u32) {
    for (algorithm, first) in Algorithm::ALL.into_iter().zip(0..) {
        let protocol = if first % 2 == 0 {
            Protocol::SecureDfu
        } else {
            Protocol::Smp
        };
        let mut calm = Case::<I, X>::new(part, unit, algorithm, protocol);
        let before = calm.world.board.power.ops();
        calm.update_and_confirm();
        let operations = calm.world.board.power.ops() - before;
        assert!(operations > 20, "{}: there is something to cut", calm.what);
        for op in (first..operations).step_by(5) {
            for tear in [
                Tear::Before,
                Tear::Inside {
                    fraction: (op % 10) as f64 / 10.0,
                    seed: op,
                },
            ] {
                let mut case = Case::<I, X>::of(calm.setup, protocol);
                let power = &case.world.board.power;
                power.cut_at(power.ops() + op, tear);
                case.what = format!("{}, operation {op} of {operations}, {tear:?}", case.what);
                case.update_and_confirm();
                assert!(
                    case.world.board.primary_image().is_some(),
                    "{}: the primary is valid",
                    case.what
                );
            }
        }
    }
}

macro_rules! device {
    ($name:ident, $part:ident, $unit:literal, $inside:ty, $outside:ty) => {
        mod $name {
            use super::*;

            #[test]
            fn updates_and_reverts() {
                super::updates_and_reverts::<$inside, $outside>(&$part, $unit);
            }

            #[test]
            fn survives_power_cuts() {
                survives_cuts::<$inside, $outside>(&$part, $unit);
            }
        }
    };
}

device!(words_of_4_bytes, NRF52840, 4, Words, Words);
device!(bytes, SIM_FLASH, 1, UnitsOf<1, 4096>, UnitsOf<1, 4096>);
device!(double_words_with_error_codes, STM32WB55, 8, UnitsOf<8, 4096>, Words);
device!(units_of_8_in_pages_of_8_kib, EFR32MG24, 8, UnitsOf<8, 8192>, UnitsOf<4, 8192>);
device!(rram_in_lines_of_16, NRF54L15, 16, UnitsOf<16, 4096>, Words);
device!(quad_words_in_pages_of_8_kib, STM32WBA52, 16, UnitsOf<16, 8192>, UnitsOf<4, 8192>);
device!(units_of_32, NRF54L15, 32, UnitsOf<32, 4096>, Words);

#[test]
fn an_unsupported_write_unit_is_refused_with_the_supported_ones() {
    let error = Setup::demo().on(&NRF54L15, 8).check_units().unwrap_err();
    assert_eq!(
        error,
        UnitsError {
            part: "nrf54l15",
            unit: 8,
            fits: vec!["16".into(), "32".into()]
        }
    );
    assert_eq!(
        error.to_string(),
        "the nrf54l15 is not written in units of 8 bytes here, but in units of 16, 32"
    );
    assert!(Setup::demo().on(&NRF54L15, 24).check_units().is_err());
    // The types of an nRF52840 cannot be used for this part.
    let setup = Setup::small(8).on(&STM32WB55, 8);
    let error = WorldOf::<Words, Words>::new(setup, OLD, LinkParams::default())
        .err()
        .expect("another unit");
    assert!(error.to_string().contains("stm32wb55 cannot be used"), "{error}");
}
