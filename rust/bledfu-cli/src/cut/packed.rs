// SPDX-License-Identifier: Apache-2.0
//! Packed updates: the power is cut at every flash operation from the first *Create* to the confirmation of the new image, before
//! it, inside it, and inside it with cells that read differently later. The phone repeats the update until it is installed.
//!
//! Each boot starts one of the two images, and in the end the new one runs and is confirmed.

use std::sync::OnceLock;

use bledfu_client::smp::Error as SmpError;
use bledfu_sim::demo::{releases, Releases};
use bledfu_sim::device::{Setup, UnitsError, WithUnits};
use bledfu_sim::hostile::{Choice, Weak};
use bledfu_sim::link::LinkParams;
use bledfu_sim::nor::Units;
use bledfu_sim::parts::{Part, MX25R6435F, NRF52840, NRF54L15, STM32WB55, STM32WBA52};
use bledfu_sim::phone::secure_dfu::Phone;
use bledfu_sim::phone::smp::{Phone as App, Settings};
use bledfu_sim::phone::PhoneError;
use bledfu_sim::power::{Random, Tear};
use bledfu_sim::world::{WorldError, WorldOf};
use bledfu_slot::Algorithm;

use super::device::Verdict;
use super::shapes::{large, others, Shape};
use super::{Column, Job, Row};

/// Functions of the releases, for images of two sectors.
const FUNCTIONS: u32 = 80;
/// Updates after which a device has finally failed: a cut between the start of the new image and its confirmation brings the
/// old one back.
const UPDATES: u32 = 3;
/// The same where a torn flag reads differently each time, and cannot be written again: it takes luck to read it as set in the
/// boot that settles the image.
const UPDATES_WEAK: u32 = 5;

fn pair() -> &'static Releases {
    static PAIR: OnceLock<Releases> = OnceLock::new();
    PAIR.get_or_init(|| releases(Some(FUNCTIONS)).expect("two releases"))
}

/// The devices that are updated: an nRF52840 and, if `all`, processors whose flash has other units.
pub(super) fn devices(all: bool) -> impl Iterator<Item = Shape> {
    let usual = Shape {
        name: "12 pages, whole update",
        ..large(Algorithm::SwapOffset)
    };
    let bytes = Shape {
        name: "units of 1 byte",
        write_size: 1,
        ..usual
    };
    let more = [bytes].into_iter().chain(others(Algorithm::SwapOffset));
    [usual].into_iter().chain(more.filter(move |_| all))
}

/// The processor's flash with the units of a shape.
fn part(shape: &Shape) -> &'static Part {
    match (shape.write_size, shape.primary.1) {
        (1, _) => &MX25R6435F,
        (8, _) => &STM32WB55,
        (16, 8192) => &STM32WBA52,
        (16, _) => &NRF54L15,
        _ => &NRF52840,
    }
}

fn world<I: Units, X: Units>(setup: Setup) -> Result<WorldOf<I, X>, String> {
    let old = &pair().old;
    let mut world = WorldOf::new(setup, old, LinkParams::default()).map_err(|error| error.to_string())?;
    world.settle();
    Ok(world)
}

/// A row on a device.
struct Campaign<'j> {
    job: &'j Job,
    setup: Setup,
}

impl WithUnits for Campaign<'_> {
    type Output = Option<Row>;

    fn run<I: Units, X: Units>(self) -> Option<Row> {
        self.job.packed_on::<I, X>(self.setup)
    }
}

impl Job {
    /// The columns of packed updates.
    pub(super) fn packed(&self) -> Option<Row> {
        let setup = Setup {
            algorithm: self.algorithm,
            keys: pair().keys,
            ..Setup::small(12)
        };
        let setup = setup.on(part(&self.shape), self.shape.write_size);
        let row = setup.with_units(Campaign { job: self, setup });
        row.unwrap_or_else(|error: UnitsError| {
            let mut row = self.row();
            row.lose("the device".into(), &error.to_string());
            Some(row)
        })
    }

    fn packed_on<I: Units, X: Units>(&self, setup: Setup) -> Option<Row> {
        let pair = pair();
        let mut row = Row {
            story: "packed",
            sizes: [pair.old.len() as u32, pair.full.application.firmware.len() as u32],
            ..self.row()
        };
        let calm = world::<I, X>(setup).inspect_err(|error| row.lose("without a cut".into(), error));
        let Ok(mut calm) = calm else {
            return Some(row);
        };
        let before = calm.board.power.ops();
        if let Err(error) = update(&mut calm) {
            row.lose("without a cut".into(), &error);
        }
        row.operations = calm.board.power.ops() - before;
        let mut random = Random::new(row.operations);
        let is_weak = self.column == Column::PackedWeak;
        let tears: &[Option<f64>] = match (is_weak, self.thorough) {
            (true, _) => &[Some(0.5), Some(0.95)],
            (false, false) => &[None, Some(0.5)],
            (false, true) => &[None, Some(0.0), Some(0.25), Some(0.5), Some(0.75), Some(1.0)],
        };
        for operation in 0..row.operations {
            for fraction in tears {
                let seed = random.bits();
                let tear = match fraction {
                    None => Tear::Before,
                    Some(fraction) => Tear::Inside {
                        fraction: *fraction,
                        seed,
                    },
                };
                let Ok(mut world) = world::<I, X>(setup) else {
                    continue;
                };
                let choice = match random.bits() % 3 {
                    0 => Choice::Boots(random.bits()),
                    1 => Choice::PerBoot(2),
                    _ => Choice::PerRead(2),
                };
                if is_weak {
                    world.board.power.set_weak(Some(Weak { choice, seed }));
                }
                world
                    .board
                    .power
                    .cut_at(world.board.power.ops() + operation, tear);
                row.cuts += 1;
                if let Err(error) = update(&mut world) {
                    let weak = if is_weak {
                        format!(" {choice:?} {seed}")
                    } else {
                        String::new()
                    };
                    row.lose(format!("operation {operation} {tear:?}{weak}"), &error);
                }
            }
        }
        Some(row)
    }
}

/// Sends the packed update until it is confirmed, over either protocol in turn.
fn update<I: Units, X: Units>(world: &mut WorldOf<I, X>) -> Verdict {
    let pair = pair();
    let updates = match world.board.power.weak() {
        Some(_) => UPDATES_WEAK,
        None => UPDATES,
    };
    for turn in 0..updates {
        let by_smp = turn % 2 == 1 || world.board.setup.algorithm.as_str().len() % 2 == 1;
        let done = match by_smp {
            true => world.update_smp(
                &pair.small.application.firmware,
                Settings::of(App::Android),
                &mut |_| (),
            ),
            false => world.update(&pair.small, Phone::Android, 0, &mut |_| ()),
        };
        match done {
            Ok(_) => {}
            // A torn flag of confirmation may read as set and then as not. So the answer says something else than the request, or
            // the image that the phone wants to test runs already; some flash takes no second mark there. The phone shows that,
            // and its user tries again.
            Err(WorldError::Phone(
                PhoneError::Smp(SmpError::OddAnswer("Confirm" | "Test"))
                | PhoneError::SmpRefused { request: "Test", .. },
            )) if world.board.power.weak().is_some() => continue,
            Err(error) => return Err(error.to_string()),
        }
        match world.confirm() {
            Ok(()) => {}
            // The application sees that its mark is not taken, and resets: the image is taken back, or it is confirmed.
            Err(_) if world.board.power.weak().is_some() => {
                world.power_up().map_err(|error| error.to_string())?;
                continue;
            }
            Err(error) => return Err(error.to_string()),
        }
        let device = world.device().ok_or("the device is off")?;
        match (device.image().header.version.major, device.is_confirmed()) {
            (2, true) => return Ok(()),
            (1, true) => {}
            other => return Err(format!("what runs is {other:?}")),
        }
    }
    Err("the new image was never confirmed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::device::Rules;
    use super::super::shapes::Story;
    use super::*;

    #[test]
    fn no_cut_loses_a_packed_update() {
        for column in [Column::Packed, Column::PackedWeak] {
            let row = Job::small(column, Algorithm::SwapOffset, Story::Upgrade, Rules::STRICT).packed();
            let row = row.expect("a device that boots");
            assert!(row.cuts > 200, "{}", row.cuts);
            assert_eq!(row.wrong(), 0, "{:?}", row.examples);
        }
    }
}
