// SPDX-License-Identifier: Apache-2.0
//! Signatures B1 to B7: what a boot stage says.

use super::super::fact::Fact;
use super::super::story::Story;
use super::{Findings, Sure};

/// Number of the swap types, as MCUboot prints them.
const NONE: u32 = 1;
const TEST: u32 = 2;
const PERMANENT: u32 = 3;
const REVERT: u32 = 4;

pub(super) fn judge(story: &Story, findings: &mut Findings) {
    let mut tested = false;
    let mut requested = false;
    let mut secondary = None;
    let mut booted = false;
    for mark in &story.marks {
        match &mark.fact {
            Fact::Banner { boot } => booted |= !boot,
            Fact::Staged => requested = true,
            Fact::SmpSent(sent) => requested |= sent.write && (sent.group, sent.command) == (1, 0),
            Fact::Trailer(trailer) if !trailer.primary => {
                secondary = Some(mark.spot);
                if trailer.magic == Some(false) {
                    findings.fault(
                        "B6",
                        mark.spot,
                        Sure::Medium,
                        "the magic at the end of the secondary slot is damaged, so the request in it is not seen",
                    );
                }
            }
            Fact::SwapType(TEST | PERMANENT) => tested = true,
            Fact::SwapType(NONE) if requested && !tested => findings.fault(
                "B6",
                secondary.unwrap_or(mark.spot),
                Sure::Medium,
                "an image was marked before the reset, and the boot stage finds no request",
            ),
            Fact::SwapType(REVERT) => findings.fault(
                "B5",
                mark.spot,
                if tested { Sure::High } else { Sure::Medium },
                "the update was installed for a test, ran, and is taken back at the next reset, because it never \
                 confirmed itself",
            ),
            Fact::Invalid { primary: false } => findings.fault(
                "B1",
                mark.spot,
                Sure::High,
                "the update was complete enough to be requested, and the boot stage refuses its image; the old one \
                 keeps running",
            ),
            Fact::Invalid { primary: true } | Fact::NoImage => findings.fault(
                "B3",
                mark.spot,
                Sure::High,
                "the boot stage finds no image that it may start",
            ),
            Fact::NoRoom => findings.fault(
                "B2",
                mark.spot,
                Sure::High,
                "the image fits the slot, but not together with the room that the swap needs",
            ),
            Fact::Incompatible => findings.fault(
                "B4",
                mark.spot,
                Sure::High,
                "the boot stage was built for other slots than it finds",
            ),
            Fact::NoArea => findings.fault(
                "B7",
                mark.spot,
                Sure::High,
                "the boot stage cannot open a flash area and stops",
            ),
            _ => {}
        }
    }
    findings.success |= booted;
}
