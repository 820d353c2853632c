// SPDX-License-Identifier: Apache-2.0
//! mcumgr (Go) and smpmgr at a terminal.

use super::super::fact::{Fact, SmpGot};
use super::{dec, Pattern};

pub const PATTERNS: &[Pattern] = &[
    Pattern(r"Upload offset=(\d+)", |c| Some(Fact::SmpOffset(dec(c, 1)?))),
    Pattern(r"Waiting for response to \w+\.\.\. ?OK", |_| Some(Fact::Known)),
    Pattern(
        r"Waiting for response to \w+\.\.\. ?timeout|Timeout \([0-9.]+ ?s\) waiting for request|NMP timeout|SMPTimeout",
        |_| Some(Fact::SmpTimeout { seq: None, off: None }),
    ),
    Pattern(r"Connection to device lost", |_| Some(Fact::Ended)),
    Pattern(r"(?i)mismatched SHA256|sha256 (?:does not|mismatch)", |_| {
        Some(Fact::WrongSha)
    }),
    Pattern(r"err=.*group=<?[^>]*?(\d+)>?.*rc=<[^>]*: ?(\d+)>", |c| {
        Some(Fact::SmpGot(SmpGot {
            err: Some((u16::try_from(dec(c, 1)?).ok()?, dec(c, 2)?)),
            ..SmpGot::default()
        }))
    }),
    Pattern(r"rc=<[^>]*: ?(\d+)>|^Error: (\d+)\s*$", |c| {
        Some(Fact::SmpGot(SmpGot {
            rc: dec(c, 1).or_else(|| dec(c, 2)),
            ..SmpGot::default()
        }))
    }),
    Pattern(r"^image=\d+ slot=(\d+)|slot=(\d+),? version", |c| {
        Some(Fact::Slot(dec(c, 1).or_else(|| dec(c, 2))?))
    }),
    Pattern(r"^flags: ?(.*)$", |c| {
        let has = |flag| c[1].split_whitespace().any(|word| word == flag);
        Some(Fact::Flags {
            pending: has("pending"),
            confirmed: has("confirmed"),
            active: has("active"),
        })
    }),
];

/// Lines that say nothing about the update.
pub const KNOWN: &str =
    r"^\$ ?(?:mcumgr|smpmgr) |^(?:Images:|version: |bootable: |hash: |Split status)|smpmgr|smpclient";
