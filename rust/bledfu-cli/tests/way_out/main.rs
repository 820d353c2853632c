// SPDX-License-Identifier: Apache-2.0
//! No state without a way out.
//!
//! A device boots with any bytes in its primary slot, secondary slot, spare area, journal and trust area. Suppose that an
//! application starts, and that an image can be installed over it ([`can_take`]). Then every client succeeds: one that erases and
//! uploads over SMP, one that only uploads, and one that sends a package over Secure DFU. The image is installed, runs and is
//! confirmed. The device may refuse it only while the next boot has something to do. The refusal then names what ends it, and
//! after at most two boots the client succeeds.
//!
//! A device that can never accept an update has nothing to do after two boots. A peer that has not paired may be refused because
//! strangers did too much; it succeeds when it has waited for as long as the device says, has paired, or the button was pressed.
//!
//! Each device is made from one number, which a failure prints. `WAY_OUT_DEVICE=<number> cargo test -p bledfu-cli --test way_out
//! <test>` makes only that device.

mod bench;
mod contents;

use bledfu_cli::mcuboot::Trace;
use bledfu_client::{secure_dfu, smp};
use bledfu_sim::device::Setup;
use bledfu_sim::nor::Area;
use bledfu_slot::decide::obstacle;
use bledfu_slot::evidence::{self, Floor};
use bledfu_slot::{Algorithm, Magic, Outlook, SwapType, Trailer, VerifyError};
use bledfu_swap::{BootAction, BootReport, Downgrade, SkipReason};
use bledfu_transfer::doors::{ConfirmBy, Doors, Peer};
use bledfu_wire::image_group::{self, Upload};
use bledfu_wire::smp::Request;
use sha2::{Digest, Sha256};

use bench::{listen, newest, said, setup, updates, Bench, Stopped, Update, SMALL};
use contents::Dice;

/// How an image gets into the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// SMP: erase, upload, test, reset, confirm; one request after the other.
    EraseAndUpload,
    /// The same without erase.
    Upload,
    /// An application on a phone or a PC.
    Smp(smp::Settings),
    /// One of Nordic's libraries.
    SecureDfu(secure_dfu::Settings),
}

impl Way {
    pub fn any(dice: &mut Dice) -> Self {
        match dice.below(10) {
            0 | 1 => Self::EraseAndUpload,
            2 | 3 => Self::Upload,
            4 => Self::Smp(smp::Settings::android()),
            5 => Self::Smp(smp::Settings::ios()),
            6 => Self::Smp(smp::Settings::smpclient()),
            7 => Self::SecureDfu(secure_dfu::Settings::android()),
            8 => Self::SecureDfu(secure_dfu::Settings::ios()),
            _ => Self::SecureDfu(secure_dfu::Settings::nrfutil()),
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::EraseAndUpload => "erase and upload",
            Self::Upload => "upload",
            Self::Smp(_) => "an SMP application",
            Self::SecureDfu(_) => "Secure DFU",
        }
    }
}

/// Sends `update`, resets, and confirms it once it runs. With `wrong`, the byte at this offset differs from the announced
/// image.
pub fn attempt(bench: &mut Bench, update: &Update, way: Way, wrong: Option<usize>) -> Result<(), Stopped> {
    let mut bytes = update.bytes.clone();
    if let Some(byte) = wrong.and_then(|at| bytes.get_mut(at)) {
        *byte ^= 0x10;
    }
    match way {
        Way::EraseAndUpload | Way::Upload => {
            if way == Way::EraseAndUpload {
                let request = Request::Image(image_group::Request::Erase { slot: None });
                bench.ask(&request, |_| ())?;
            }
            upload(bench, &bytes, &update.sha)?;
            let hash = Some(update.digest.as_slice());
            let confirm = false;
            let request = Request::Image(image_group::Request::WriteState { hash, confirm });
            bench.ask(&request, |_| ())?;
            bench.ask_reset()?;
            let confirm = true;
            let request = Request::Image(image_group::Request::WriteState { hash, confirm });
            bench.ask(&request, |_| ())
        }
        Way::Smp(settings) => {
            let image = smp::Image {
                bytes: &bytes,
                sha: update.sha,
                hash: update.digest,
            };
            let (mut request, mut answer) = ([0; 4096], [0; 2508]);
            let buffers = smp::Buffers {
                request: &mut request,
                answer: &mut answer,
            };
            bench.run(&mut smp::Client::new(image, settings, buffers))
        }
        Way::SecureDfu(settings) => {
            let package = secure_dfu::Package::of(secure_dfu::Part {
                init: &update.init,
                firmware: &bytes,
            });
            bench.run(&mut secure_dfu::Client::new(package, settings))?;
            confirm(bench)
        }
    }
}

/// The product confirms the running image.
fn confirm(bench: &mut Bench) -> Result<(), Stopped> {
    let confirmed = bench.device().confirm();
    confirmed.map_err(|error| Stopped::Failed(error.to_string()))
}

fn upload(bench: &mut Bench, bytes: &[u8], sha: &[u8; 32]) -> Result<(), Stopped> {
    let mut at = 0;
    // Twice as many pieces as needed.
    for _ in 0..2 * bytes.len().div_ceil(1500) {
        let end = (at + 1500).min(bytes.len());
        let is_first = at == 0;
        let piece = Upload {
            offset: Some(at as u64),
            length: is_first.then_some(bytes.len() as u64),
            sha: is_first.then_some(sha.as_slice()),
            data: &bytes[at..end],
            ..Upload::default()
        };
        let request = Request::Image(image_group::Request::Upload(piece));
        let answer = bench.ask(&request, |answer| answer.upload())?;
        let answer = answer.map_err(|error| Stopped::Failed(error.to_string()))?;
        at = match answer.offset.map(usize::try_from) {
            Some(Ok(offset)) if offset <= bytes.len() => offset,
            _ => {
                return Err(Stopped::Failed(format!(
                    "an impossible answer to an upload: {answer:?}"
                )))
            }
        };
        if at == bytes.len() {
            return match answer.matches {
                Some(false) => Err(Stopped::Failed("the SHA-256 differs".into())),
                _ => Ok(()),
            };
        }
    }
    Err(Stopped::Stuck)
}

/// The result for one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// No boot stage finds an image to start.
    NoImage,
    /// No update can be installed: the running image is too large to be kept.
    Never,
    /// The update succeeded at this attempt, counted from 0.
    Updated(usize),
}

/// What strangers did before the device is to be updated: beginnings of uploads, erases and resets, which use up their buckets.
fn misuse(bench: &mut Bench, dice: &mut Dice) {
    for _ in 0..dice.below(40) {
        let update = &updates()[dice.below(SMALL)];
        // Whatever comes of it.
        let _ = match dice.below(4) {
            0 => bench.ask(
                &Request::Image(image_group::Request::Erase { slot: None }),
                |_| (),
            ),
            1 => bench.ask_reset(),
            _ => {
                let piece = Upload {
                    offset: Some(0),
                    length: Some(update.bytes.len() as u64),
                    sha: Some(&update.sha),
                    data: &update.bytes[..1500],
                    ..Upload::default()
                };
                bench.ask(&Request::Image(image_group::Request::Upload(piece)), |_| ())
            }
        };
    }
    let _ = said();
}

/// The minutes for which strangers are refused, if one of these lines says so.
fn minutes(lines: &[String]) -> Option<u64> {
    lines.iter().find_map(|line| {
        let (_, minutes) = line.split_once("refused for ")?;
        let (minutes, _) = minutes.split_once(" min")?;
        minutes.parse().ok()
    })
}

/// Ends of refusals that a reset ends.
const RESETS: [&str; 2] = ["a reset installs it", "confirm it, or reset to go back"];
/// The end of a refusal that ends when the file is sent again.
const AGAIN: &str = "send it again";
/// The end of a refusal that only a programmer ends.
const NEVER: &str = "program a smaller one";

/// Checks the property for a device that is off.
fn has_way_out(bench: &mut Bench, dice: &mut Dice) -> Result<Fate, String> {
    // A damaged install may leave no valid image.
    let had_image = bench.board.primary_image().is_some() && !mentions_job(bench) && !is_below_floor(bench);
    bench.show();
    let first = match bench.boot() {
        Ok(report) => report,
        // Without a valid image, only a programmer helps.
        Err(error) => {
            return match had_image {
                false => Ok(Fate::NoImage),
                true => Err(format!("the image in the primary slot was good: {error}")),
            }
        }
    };
    if dice.once_in(2) {
        bench.idle();
    }
    if bench.board.setup.peer == Peer::Stranger {
        misuse(bench, dice);
    }
    // Some products confirm at the start, some when a phone asks, some never.
    let confirms = dice.once_in(3);
    let mut told = format!("boot 1: {}", first.action);
    let mut boots = 0;
    let mut was_again = false;
    let mut was_sent = None;
    let mut was_given_up = None;
    let mut refusals = 0;
    loop {
        if confirms {
            // With a damaged magic this fails, and need not succeed: nothing will revert the image.
            let _ = confirm(bench);
        }
        let running = bench.running();
        let sent = match bench.board.setup.downgrade {
            Downgrade::Allowed => &updates()[..SMALL],
            _ => newest(),
        };
        let (which, way) = was_sent.take().unwrap_or_else(|| {
            let which = dice.below(sent.len());
            let is_running = sent[which].digest == running;
            ((which + usize::from(is_running)) % sent.len(), Way::any(dice))
        });
        let update = &sent[which];
        let can_take = can_take(bench);
        said();
        let booted = bench.boots.len();
        let result = attempt(bench, update, way, None);
        let lines = said();
        let is_given_up = bench.boots[booted..].iter().any(|boot| {
            matches!(
                boot.action,
                BootAction::Rejected {
                    reason: VerifyError::TakenBack,
                    ..
                }
            )
        });
        if is_given_up && was_given_up.replace(which).is_none() {
            // An image that three trials have taken back is not tried again; any other one is.
            let others = (1..sent.len()).map(|other| (which + other) % sent.len());
            let other = others.into_iter().find(|other| sent[*other].digest != running);
            was_sent = other.map(|other| (other, way));
            continue;
        }
        let says = |end: &str| lines.iter().any(|line| line.contains(end));
        told = format!("{told}; {} of image {}: ", way.name(), which + 1);
        let error = match result {
            Ok(()) if !can_take => return Err(format!("{told}succeeds, and cannot")),
            Ok(()) => {
                check_updated(bench, update).map_err(|error| format!("{told}{error}"))?;
                return Ok(Fate::Updated(boots));
            }
            Err(Stopped::Failed(error)) => error,
            Err(stopped) => return Err(format!("{told}{stopped}")),
        };
        told = format!("{told}{error} ({})", lines.join(", "));
        if !can_take && says(NEVER) {
            return check_settles(bench)
                .map(|()| Fate::Never)
                .map_err(|error| format!("{told}; {error}"));
        }
        // An erase and an upload are two beginnings, and with each reset the time begins anew.
        if let (Some(minutes), 0..=2) = (minutes(&lines), refusals) {
            // Each of the ways out that the sentence names.
            match dice.below(3) {
                0 => bench.wait(minutes),
                1 => bench.pair(),
                _ => bench.press(),
            }
            refusals += 1;
            was_sent = Some((which, way));
            continue;
        }
        if says(AGAIN) && !was_again {
            // The device held a file that differs from its session. That shows only at the end.
            was_again = true;
            was_sent = Some((which, way));
            continue;
        }
        if !RESETS.iter().any(|end| says(end)) {
            return Err(format!("{told}: nothing says what ends it"));
        }
        // The boot stage gives up an image to revert to that was invalid at three boots.
        let waits = bench
            .boots
            .iter()
            .filter(|boot| waits_for_the_way_back(boot))
            .count();
        if boots >= 2 + waits.min(2) {
            return Err(format!("{told}: no way out in {} boots", boots + 1));
        }
        let next = bench.boot().map_err(|error| format!("{told}; {error}"))?;
        boots += 1;
        told = format!("{told}; next boot: {}", next.action);
        // A wrong digest is found only at the boot.
        if !matches!(
            next.action,
            BootAction::Installed { .. }
                | BootAction::Rejected { .. }
                | BootAction::Skipped {
                    reason: SkipReason::WayBackInvalid,
                    ..
                }
        ) {
            return Err(format!("{told}: the refusal had no reason"));
        }
    }
}

/// Whether the image in the primary slot is too old to start.
fn is_below_floor(bench: &Bench) -> bool {
    let board = &bench.board;
    let (Some(image), Some(evidence)) = (board.primary_image(), evidence::last(&mut board.trust.clone()))
    else {
        return false;
    };
    board.setup.downgrade == Downgrade::ByVersion && Floor::of(&image).version < evidence.floor.version
}

/// Whether a trailer shows an install that has begun.
fn mentions_job(bench: &Bench) -> bool {
    let layout = bench.board.setup.layout();
    let spare = bench::spare(&bench.board);
    let of_spare = layout.spare_trailer().map(|trailer| (&spare, trailer));
    let mut areas = [Some((&bench.board.primary, layout.primary_trailer())), of_spare];
    areas.iter_mut().flatten().any(|(area, trailer)| {
        let trailer = Trailer::read(&mut area.clone(), trailer).expect("a flash that works");
        trailer.magic == Magic::Good && trailer.swap_type() != SwapType::None
    })
}

/// Whether an image can be installed. The boot stage has found an image to start, the flash works, and the images sent here fit
/// the slots; so this only asks whether the running image is small enough to be kept.
fn can_take(bench: &Bench) -> bool {
    let layout = bench.board.setup.layout();
    obstacle(&layout, &mut bench.board.primary.clone()) == Ok(None)
}

/// The image runs, is confirmed, and the next boot has nothing to do.
fn check_updated(bench: &mut Bench, update: &Update) -> Result<(), String> {
    let running = bench.running();
    if running != update.digest {
        return Err("succeeds, but another image runs".into());
    }
    let report = bench.boot().map_err(|error| error.to_string())?;
    if report.image.digest != update.digest || report.action != BootAction::None {
        return Err(format!(
            "succeeds and is confirmed, but the next boot does something: {}",
            report.action
        ));
    }
    Ok(())
}

fn waits_for_the_way_back(report: &BootReport) -> bool {
    matches!(
        report.action,
        BootAction::Skipped {
            reason: SkipReason::WayBackInvalid,
            ..
        }
    )
}

/// The device has nothing to do after at most two boots.
fn check_settles(bench: &mut Bench) -> Result<(), String> {
    let mut boots = 0;
    // An image to go back to that is not valid is given up after three boots.
    while boots < 2 {
        let report = bench.boot().map_err(|error| error.to_string())?;
        boots += usize::from(!waits_for_the_way_back(&report));
    }
    let report = bench.boot().map_err(|error| error.to_string())?;
    let (mut receiving, layout) = bench.board.receiving().map_err(|error| error.to_string())?;
    let mut primary: Area = bench.board.primary.clone();
    let outlook = bledfu_slot::outlook(
        &layout,
        &mut primary,
        &mut receiving,
        &mut bench.board.spare.clone(),
    );
    match (report.action, outlook) {
        (BootAction::None, Outlook::Nothing) => Ok(()),
        (action, outlook) => Err(format!("does not come to rest: {action}; then {outlook:?}")),
    }
}

/// How many devices had which result.
#[derive(Default)]
struct Fates {
    devices: usize,
    updated: [usize; 5],
    no_image: usize,
    never: usize,
}

/// Makes `count` devices with `make`, and checks that each has a way out.
#[track_caller]
fn each_has_a_way_out(test: &str, count: usize, make: impl Fn(usize, &mut Dice) -> Bench) {
    listen();
    // Each test has its own sequence.
    let digest = Sha256::digest(test);
    let base = u64::from_le_bytes(std::array::from_fn(|i| digest[i]));
    let only = std::env::var("WAY_OUT_DEVICE").ok();
    let only = only.map(|number| number.parse::<usize>().expect("the number of a device"));
    let mut fates = Fates::default();
    let mut failures = Vec::new();
    for number in 0..count {
        if only.is_some_and(|only| only != number) {
            continue;
        }
        let mut dice = Dice::new(base.wrapping_add((number as u64).wrapping_mul(0x9E37_79B9_97F4_A7C5)));
        let mut bench = make(number, &mut dice);
        let algorithm = bench.board.setup.algorithm;
        fates.devices += 1;
        match has_way_out(&mut bench, &mut dice) {
            Ok(Fate::NoImage) => fates.no_image += 1,
            Ok(Fate::Never) => fates.never += 1,
            Ok(Fate::Updated(tried)) => fates.updated[tried] += 1,
            Err(error) => failures.push(format!("device {number}, {}: {error}", algorithm.as_str())),
        }
    }
    println!(
        "{test}: {} devices: {} updated at once, {} after a boot, {} after two; {} never can; {} start nothing; {} fail",
        fates.devices, fates.updated[0], fates.updated[1], fates.updated[2], fates.never, fates.no_image, failures.len()
    );
    assert!(
        failures.is_empty(),
        "{} of {} devices of {test} have no way out:\n{}",
        failures.len(),
        fates.devices,
        failures[..failures.len().min(12)].join("\n")
    );
    if only.is_none() {
        assert_eq!(fates.devices, count);
        // Otherwise the test would show little.
        assert!(
            fates.updated.iter().sum::<usize>() > count / 2,
            "most devices are updated"
        );
    }
}

fn algorithm(number: usize) -> Algorithm {
    Algorithm::ALL[number % Algorithm::ALL.len()]
}

#[test]
fn a_device_with_any_bytes_has_a_way_out() {
    each_has_a_way_out("any bytes", 15_000, |number, dice| {
        let bench = Bench::new(setup(algorithm(number)));
        contents::any_bytes(&bench.board, dice);
        bench
    });
}

#[test]
fn a_device_with_any_trailers_has_a_way_out() {
    each_has_a_way_out("any trailers", 35_000, |number, dice| {
        let bench = Bench::new(setup(algorithm(number)));
        contents::any_trailers(&bench.board, dice);
        bench
    });
}

#[test]
fn a_device_from_the_factory_has_a_way_out() {
    each_has_a_way_out("factory", 10_000, |number, dice| {
        let bench = Bench::new(setup(algorithm(number)));
        contents::of_the_factory(&bench.board, dice);
        bench
    });
}

#[test]
fn a_device_with_any_journal_has_a_way_out() {
    each_has_a_way_out("any journal", 15_000, |number, dice| {
        let bench = Bench::new(setup(algorithm(number)));
        let image = &updates()[dice.below(SMALL)].bytes;
        bench.board.program_factory(image).expect("an image that fits");
        contents::any_journal(&bench.board, dice);
        bench
    });
}

#[test]
fn a_device_that_mcuboot_left_has_a_way_out() {
    // Traces with the slots of these devices. A trailer of MCUboot 2.2 counts as one of an older build.
    let traces: Vec<_> = Trace::all()
        .filter(|trace| {
            let layout = setup(trace.algorithm()).layout();
            trace.layout().with_tlv_sizes() == layout.with_tlv_sizes()
        })
        .map(|trace| (trace.algorithm(), trace.stops()))
        .collect();
    assert!(traces.len() >= 7, "{} traces fit", traces.len());
    each_has_a_way_out("MCUboot", 15_000, |number, dice| {
        let (of, stops) = &traces[number % traces.len()];
        // Now and then the boot stage installs in another way than the one before.
        let now = if dice.once_in(8) {
            algorithm(dice.below(5))
        } else {
            *of
        };
        let bench = Bench::new(setup(now));
        contents::of_mcuboot(&bench.board, dice.pick(stops), dice);
        bench
    });
}

#[test]
fn a_device_whose_update_was_cut_has_a_way_out() {
    each_has_a_way_out("cut updates", 20_000, |number, dice| {
        let mut bench = Bench::new(setup(algorithm(number)));
        contents::of_a_cut_update(&mut bench, dice);
        bench
    });
}

#[test]
fn a_device_with_any_evidence_has_a_way_out() {
    each_has_a_way_out("any evidence", 15_000, |number, dice| {
        let strict = dice.once_in(2);
        let bench = Bench::new(Setup {
            downgrade: if strict {
                Downgrade::ByVersion
            } else {
                Downgrade::Allowed
            },
            ..setup(algorithm(number))
        });
        match dice.below(3) {
            0 => contents::of_the_factory(&bench.board, dice),
            1 => contents::any_trailers(&bench.board, dice),
            _ => contents::of_the_factory_alone(&bench.board, dice),
        }
        contents::any_evidence(&bench.board, dice);
        bench
    });
}

#[test]
fn a_device_whose_doors_strangers_have_worn_out_has_a_way_out() {
    each_has_a_way_out("strangers", 5_000, |number, dice| {
        let bench = Bench::new(Setup {
            peer: Peer::Stranger,
            // The client that is watched confirms; else the product would have to.
            doors: Doors {
                confirm: ConfirmBy::Anybody,
                // How often images were taken back is in the trust area, too.
                take_backs: dice.below(6) as u8,
                ..Doors::default()
            },
            ..setup(algorithm(number))
        });
        match dice.below(3) {
            0 => contents::of_the_factory(&bench.board, dice),
            1 => contents::any_trailers(&bench.board, dice),
            _ => contents::of_the_factory_alone(&bench.board, dice),
        }
        bench
    });
}

#[test]
fn a_device_that_refuses_older_images_and_whose_update_was_cut_has_a_way_out() {
    each_has_a_way_out("cut updates, older ones refused", 10_000, |number, dice| {
        let mut bench = Bench::new(Setup {
            downgrade: Downgrade::ByVersion,
            ..setup(algorithm(number))
        });
        contents::of_a_cut_update(&mut bench, dice);
        if dice.once_in(4) {
            contents::any_evidence(&bench.board, dice);
        }
        bench
    });
}
