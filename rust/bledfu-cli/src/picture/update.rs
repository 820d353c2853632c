// SPDX-License-Identifier: Apache-2.0
//! The page of an update in the simulator.

use bledfu_sim::device::{primary_start, Setup};
use bledfu_sim::nor::Units;
use bledfu_sim::trace::{Moment, Trace};
use bledfu_sim::world::{Outcome, WorldOf};
use bledfu_slot::Algorithm;

use super::{lanes, seconds, slots, Area, Run, Stages};

/// The times of an update; it ends now.
pub fn stages<I: Units, X: Units>(world: &WorldOf<I, X>, outcome: &Outcome) -> Stages {
    let session = &outcome.session;
    let is_verified = session.received_ns > 0 && session.verified_ns >= session.received_ns;
    Stages {
        from_ns: outcome.started_ns,
        to_ns: world.now_ns().max(outcome.started_ns),
        verify_ns: if is_verified {
            (session.received_ns, session.verified_ns)
        } else {
            (0, 0)
        },
    }
}

/// The page of an update that has ended.
pub fn run<I: Units, X: Units>(
    world: &WorldOf<I, X>,
    outcome: &Outcome,
    title: String,
    facts: Vec<(String, String)>,
    ring_size: usize,
) -> Run {
    let trace = world.board.power.traced();
    let stages = stages(world, outcome);
    let (from, to) = (stages.from_ns, stages.to_ns);
    Run {
        title,
        facts,
        total_s: (to - from) as f64 / 1e9,
        seconds: seconds(&trace, &stages),
        lanes: lanes(&trace, from, to, ring_size),
        moments: moments(&trace, &stages),
        slots: slots(&trace, &areas(&world.board.setup)),
        tables: Vec::new(),
    }
}

/// The moments of a run, in seconds from its begin.
pub fn moments(trace: &Trace, stages: &Stages) -> Vec<(f64, String)> {
    let mut moments: Vec<(u64, &str)> = trace
        .moments
        .iter()
        .map(|(at, moment)| {
            let what = match moment {
                Moment::LinkUp => "the phone connects",
                Moment::LinkDown => "the link is down",
                Moment::PowerCut => "the power is cut",
                Moment::WriteLost => "a write is lost: the ring is full",
                Moment::Boot => "reset",
            };
            (*at, what)
        })
        .collect();
    if stages.verify_ns.1 > 0 {
        moments.push((stages.verify_ns.0, "the last byte has arrived"));
        moments.push((stages.verify_ns.1, "the image is verified"));
    }
    moments.retain(|(at, _)| (stages.from_ns..=stages.to_ns).contains(at));
    // Stable: a cut comes before the reset that follows at once.
    moments.sort_by_key(|(at, _)| *at);
    moments
        .into_iter()
        .map(|(at, what)| ((at - stages.from_ns) as f64 / 1e9, what.to_owned()))
        .collect()
}

/// The areas of the simulated device, as its setup lays them out.
pub fn areas(setup: &Setup) -> Vec<Area> {
    let (inside, outside) = (setup.sector_size(), setup.external_sector_size());
    let slot = setup.slot_size;
    let journal = 2 * outside;
    let area = |name, chip, start, size, sector_size| Area {
        name,
        chip,
        start,
        size,
        sector_size,
    };
    let primary = primary_start(inside);
    let mut areas = vec![
        area("primary slot, internal flash", "internal", primary, slot, inside),
        area("secondary slot, external flash", "external", 0, slot, outside),
        area("journal, external flash", "external", slot, journal, outside),
    ];
    match setup.algorithm {
        Algorithm::SwapScratch => {
            areas.push(area(
                "scratch, internal flash",
                "internal",
                primary + slot,
                inside,
                inside,
            ));
        }
        Algorithm::Copy => {
            areas.push(area(
                "revert copy, external flash",
                "external",
                slot + journal,
                slot,
                outside,
            ));
        }
        _ => {}
    }
    areas
}
