// SPDX-License-Identifier: Apache-2.0
//! What happened when, for pictures of a run: spans in which link, worker and flashes were busy, how full the ring was, and moments
//! such as a lost link or a power cut. Nothing is recorded until [`Power::trace`](crate::power::Power::trace).

use crate::power::OpKind;

/// Who is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The air: packets in a connection event.
    Link,
    /// The worker thread of the application.
    Worker,
    /// The boot stage, or the start of the application.
    Boot,
    /// A chip, by its name: an operation of this kind.
    Flash(&'static str, OpKind),
}

/// A time in which somebody is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Who.
    pub lane: Lane,
    /// Start, in ns of virtual time.
    pub from_ns: u64,
    /// End.
    pub to_ns: u64,
    /// Address in the chip, for a flash operation.
    pub address: u32,
    /// Bytes of the operation.
    pub length: u32,
}

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A phone connects.
    LinkUp,
    /// The link is lost or closed.
    LinkDown,
    /// The power is cut.
    PowerCut,
    /// A write found no room in the ring.
    WriteLost,
    /// A boot begins.
    Boot,
}

/// A recorded run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Spans, each lane in order of time.
    pub spans: Vec<Span>,
    /// Moments with their times in ns.
    pub moments: Vec<(u64, Moment)>,
    /// Times in ns, and bytes of frames that wait in the ring.
    pub ring: Vec<(u64, u32)>,
}

/// Spans that begin this soon after the last one of the same lane are one with it, in ns.
const JOINED_NS: u64 = 20_000;

/// Most spans that are kept: a few hundred updates.
const MOST_SPANS: usize = 2_000_000;

impl Trace {
    pub(crate) fn span(&mut self, span: Span) {
        if span.to_ns <= span.from_ns || self.spans.len() >= MOST_SPANS {
            return;
        }
        // Flash operations stay apart: each has its place.
        let is_flash = matches!(span.lane, Lane::Flash(..));
        let last = self
            .spans
            .iter_mut()
            .rev()
            .take(4)
            .find(|last| last.lane == span.lane);
        match last.filter(|last| !is_flash && span.from_ns <= last.to_ns.saturating_add(JOINED_NS)) {
            Some(last) => last.to_ns = last.to_ns.max(span.to_ns),
            None => self.spans.push(span),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(lane: Lane, from_ns: u64, to_ns: u64) -> Span {
        Span {
            lane,
            from_ns,
            to_ns,
            address: 0,
            length: 0,
        }
    }

    #[test]
    fn neighbours_of_a_lane_are_joined_and_flash_operations_are_not() {
        let mut trace = Trace::default();
        trace.span(span(Lane::Worker, 0, 10));
        trace.span(span(Lane::Worker, 10, 20));
        let flash = Lane::Flash("external", OpKind::Erase);
        trace.span(span(flash, 20, 30));
        trace.span(span(flash, 30, 40));
        trace.span(span(Lane::Worker, 40, 40));
        assert_eq!(trace.spans.len(), 3);
        assert_eq!(trace.spans[0].to_ns, 20);
    }
}
