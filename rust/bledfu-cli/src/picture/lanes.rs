// SPDX-License-Identifier: Apache-2.0
//! From a trace to what a page can draw: values in equal steps of time, and counts for each sector.

use bledfu_sim::power::OpKind;
use bledfu_sim::trace::{self, Trace};

use super::{Lane, SlotMap};

/// Steps of a lane.
const STEPS: usize = 480;

/// The lanes of a run between two times: link, ring, external and internal flash, worker and boot stage.
pub fn lanes(trace: &Trace, from_ns: u64, to_ns: u64, ring_size: usize) -> Vec<Lane> {
    let busy = |name: &str, note: &str, chosen: &dyn Fn(trace::Lane) -> bool| Lane {
        name: name.to_owned(),
        note: note.to_owned(),
        values: busy(trace, from_ns, to_ns, chosen),
    };
    let is_flash =
        |chip: &'static str| move |lane| matches!(lane, trace::Lane::Flash(found, _) if found == chip);
    let most = trace
        .ring
        .iter()
        .map(|(_, bytes)| *bytes)
        .max()
        .unwrap_or_default();
    let mut lanes = vec![busy("link", "packets in the air", &|lane| {
        lane == trace::Lane::Link
    })];
    if most > 0 {
        lanes.push(Lane {
            name: "ring".to_owned(),
            note: format!("bytes that wait, at most {most} of {ring_size}"),
            values: fullest(trace, from_ns, to_ns, ring_size),
        });
    }
    lanes.push(busy("worker", "the application's thread", &|lane| {
        lane == trace::Lane::Worker
    }));
    lanes.push(busy("external flash", "program and erase", &is_flash("external")));
    lanes.push(busy("internal flash", "program and erase", &is_flash("internal")));
    lanes.push(busy("boot stage", "verify, swap or copy", &|lane| {
        lane == trace::Lane::Boot
    }));
    lanes.retain(|lane| lane.values.iter().any(|value| *value > 0.0));
    lanes
}

/// The step of a time, and how far into it.
fn place(at: u64, from_ns: u64, to_ns: u64) -> f64 {
    let length = (to_ns - from_ns).max(1) as f64;
    (at.clamp(from_ns, to_ns) - from_ns) as f64 / length * STEPS as f64
}

fn busy(trace: &Trace, from_ns: u64, to_ns: u64, chosen: &dyn Fn(trace::Lane) -> bool) -> Vec<f32> {
    let mut values = vec![0.0_f32; STEPS];
    for span in trace.spans.iter().filter(|span| chosen(span.lane)) {
        let (from, to) = (
            place(span.from_ns, from_ns, to_ns),
            place(span.to_ns, from_ns, to_ns),
        );
        for step in from as usize..=(to as usize).min(STEPS - 1) {
            let part = to.min(step as f64 + 1.0) - from.max(step as f64);
            if let Some(value) = values.get_mut(step) {
                *value = (*value + part.max(0.0) as f32).min(1.0);
            }
        }
    }
    rounded(values)
}

fn fullest(trace: &Trace, from_ns: u64, to_ns: u64, size: usize) -> Vec<f32> {
    let mut values = vec![0.0_f32; STEPS];
    for (at, bytes) in trace.ring.iter().filter(|(at, _)| (from_ns..=to_ns).contains(at)) {
        let step = (place(*at, from_ns, to_ns) as usize).min(STEPS - 1);
        if let Some(value) = values.get_mut(step) {
            *value = value.max(*bytes as f32 / size.max(1) as f32).min(1.0);
        }
    }
    rounded(values)
}

fn rounded(values: Vec<f32>) -> Vec<f32> {
    values
        .into_iter()
        .map(|value| (value * 1000.0).round() / 1000.0)
        .collect()
}

/// An area of a chip.
#[derive(Clone, Debug)]
pub struct Area {
    /// Its name.
    pub name: &'static str,
    /// The chip.
    pub chip: &'static str,
    /// Where it begins in the chip.
    pub start: u32,
    /// Its length in bytes.
    pub size: u32,
    /// Bytes of a sector.
    pub sector_size: u32,
}

/// What happened to each sector of these areas; areas that nothing happened to are left out.
pub fn slots(trace: &Trace, areas: &[Area]) -> Vec<SlotMap> {
    let map = |area: &Area| {
        let mut sectors = vec![(0, 0); (area.size / area.sector_size.max(1)) as usize];
        for span in &trace.spans {
            let trace::Lane::Flash(chip, kind) = span.lane else {
                continue;
            };
            if chip != area.chip || span.length == 0 {
                continue;
            }
            let end = span.address.saturating_add(span.length);
            for (index, (erases, bytes)) in sectors.iter_mut().enumerate() {
                let start = area.start + index as u32 * area.sector_size;
                let shared = end
                    .min(start + area.sector_size)
                    .saturating_sub(span.address.max(start));
                match kind {
                    _ if shared == 0 => {}
                    OpKind::Erase => *erases += 1,
                    OpKind::Program => *bytes += shared,
                }
            }
        }
        SlotMap {
            name: area.name.to_owned(),
            sector_size: area.sector_size,
            sectors,
        }
    };
    let maps = areas.iter().map(map);
    maps.filter(|map| map.sectors.iter().any(|touched| *touched != (0, 0)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bledfu_sim::trace::Span;

    fn trace() -> Trace {
        let span = |lane, from_ns, to_ns, address, length| Span {
            lane,
            from_ns,
            to_ns,
            address,
            length,
        };
        Trace {
            spans: vec![
                span(trace::Lane::Link, 0, 240, 0, 0),
                span(
                    trace::Lane::Flash("external", OpKind::Erase),
                    240,
                    480,
                    0x1000,
                    0x2000,
                ),
                span(
                    trace::Lane::Flash("external", OpKind::Program),
                    300,
                    310,
                    0x1F00,
                    0x200,
                ),
            ],
            moments: Vec::new(),
            ring: vec![(120, 50), (121, 25)],
        }
    }

    #[test]
    fn a_lane_is_busy_where_its_spans_are() {
        let lanes = lanes(&trace(), 0, 480, 100);
        let names: Vec<&str> = lanes.iter().map(|lane| lane.name.as_str()).collect();
        assert_eq!(names, ["link", "ring", "external flash"]);
        assert_eq!(lanes[0].values.iter().sum::<f32>(), 240.0);
        assert_eq!(
            (lanes[0].values[0], lanes[0].values[239], lanes[0].values[240]),
            (1.0, 1.0, 0.0)
        );
        assert_eq!(lanes[1].values[120], 0.5);
    }

    #[test]
    fn a_map_counts_erases_and_bytes_of_each_sector() {
        let area = |name, start| Area {
            name,
            chip: "external",
            start,
            size: 0x3000,
            sector_size: 0x1000,
        };
        let maps = slots(&trace(), &[area("secondary", 0), area("far", 0x10000)]);
        assert_eq!(maps.len(), 1);
        assert_eq!(maps[0].sectors, [(0, 0), (1, 0x100), (1, 0x100)]);
    }
}
