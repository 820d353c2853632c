// SPDX-License-Identifier: Apache-2.0
//! Zephyr's log of a device, and MCUboot's. A banner is a start.

use regex_lite::Captures;

use super::super::fact::{BootTrailer, Fact};
use super::{dec, hex, Pattern};

fn trailer(found: &Captures<'_>) -> Option<Fact> {
    Some(Fact::Trailer(BootTrailer {
        primary: &found[1] == "Primary",
        magic: match &found[2] {
            "good" => Some(true),
            "bad" => Some(false),
            _ => None,
        },
        swap_type: hex(found, 3)?,
        copy_done: hex(found, 4)?,
        image_ok: hex(found, 5)?,
    }))
}

pub const PATTERNS: &[Pattern] = &[
    Pattern(r"\*\*\* Booting (\w+)", |c| {
        Some(Fact::Banner {
            boot: &c[1] == "MCUboot",
        })
    }),
    Pattern(r"Starting bootloader", |_| Some(Fact::Known)),
    Pattern(
        r"(Primary|Secondary) image: magic=(\w+), swap_type=0x([0-9a-f]+), copy_done=0x([0-9a-f]+), image_ok=0x([0-9a-f]+)",
        trailer,
    ),
    Pattern(r"Swap type: (\w+)", |c| {
        Some(Fact::SwapType(match &c[1] {
            "none" => 1,
            "test" => 2,
            "perm" | "permanent" => 3,
            "revert" => 4,
            _ => return None,
        }))
    }),
    Pattern(r"Image in the (\w+) slot is not valid", |c| {
        Some(Fact::Invalid {
            primary: &c[1] == "primary",
        })
    }),
    Pattern(
        r"Not enough free space to run swap|required \d+ bytes but only \d+ are available",
        |_| Some(Fact::NoRoom),
    ),
    Pattern(
        r"Bad image magic 0x|Failed reading image headers|Unable to find bootable image|Failed reading headers",
        |_| Some(Fact::NoImage),
    ),
    Pattern(
        r"slots are not compatible|BOOT_MAX_IMG_SECTORS|not all sectors fit inside scratch|Failed reading sectors",
        |_| Some(Fact::Incompatible),
    ),
    Pattern(r"Failed to open flash area", |_| Some(Fact::NoArea)),
    Pattern(r"Image upload inspect failed: (-?\d+)", |c| {
        Some(Fact::ServerInspect(dec(c, 1).unwrap_or_default()))
    }),
    Pattern(
        r"Irrecoverable error: flash write failed|flash (?:write|erase) failed",
        |_| Some(Fact::ServerFlash),
    ),
    Pattern(r"Erased 0x[0-9A-Fa-f]+ bytes of image slot", |_| {
        Some(Fact::Staged)
    }),
    Pattern(r"Uploaded image sha256 hash verification failed", |_| {
        Some(Fact::WrongSha)
    }),
    Pattern(r"Fa(?:i)?led boot_set_next", |_| Some(Fact::ServerMark)),
    Pattern(
        r"bt_att: Unable to allocate buffer|bt_conn: Unable to allocate|No buffers? (?:available|for)",
        |_| Some(Fact::NoTxBuffer),
    ),
    Pattern(r"Disconnected,? \(?reason:? 0x([0-9a-fA-F]+)", |c| {
        Some(Fact::LinkState {
            dfu: true,
            status: hex(c, 1)?,
            up: false,
        })
    }),
];

/// Lines that say nothing about the update.
pub const KNOWN: &str = r"^\[[0-9:.,]+\] <\w+> \w+: |^[IWED]: |mcumgr_\w+: |mcuboot: |Jumping to the first image slot|Starting swap using";
