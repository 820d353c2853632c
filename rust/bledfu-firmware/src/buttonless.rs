// SPDX-License-Identifier: Apache-2.0
//! Buttonless entry: what the Bluetooth thread leaves for the worker, and what the worker does with it. The answers and
//! times are those of [`bledfu_transfer::buttonless`]. A build without it (`CONFIG_BLEDFU_BUTTONLESS_NONE`) contains
//! nothing of this.

use crate::options;
use bledfu_text::{text, words};
use bledfu_transfer::buttonless::{Address, Entry, Patience, Record, UpdateMode, Variant, Visitor};
use bledfu_transfer::note;
use bledfu_wire::buttonless::MAX_REQUEST;
use bledfu_zephyr::worker::{self, Answer, Question, Shared};
use bledfu_zephyr::{ble, buttonless as zephyr};

/// Which characteristic there is, if any.
pub const VARIANT: Option<Variant> = if options::BUTTONLESS_WITHOUT_BONDS {
    Some(Variant::WithoutBonds)
} else if options::BUTTONLESS_WITH_BONDS {
    Some(Variant::WithBonds)
} else {
    None
};

const PATIENCE: Patience = Patience {
    silent_ms: options::UPDATE_MODE_TIMEOUT_S * 1000,
    gone_ms: options::UPDATE_MODE_GONE_S * 1000,
};

/// In place of the kind of an address: the device's own.
const OWN_ADDRESS: u8 = 0xFF;
/// Between the end of the link and the reset.
const CLOSE_MS: u32 = 100;

/// One byte more than a request may have, so that one that is too long is seen.
type Write = heapless::Vec<u8, { MAX_REQUEST + 1 }>;

/// What both threads use.
struct Desk {
    request: Option<(Write, Visitor)>,
    is_confirmed: bool,
    is_gone: bool,
    entry: Entry,
    mode: Option<UpdateMode>,
}

impl Desk {
    const fn new(mode: Option<UpdateMode>) -> Self {
        Self {
            request: None,
            is_confirmed: false,
            is_gone: false,
            entry: Entry::new(match VARIANT {
                Some(variant) => variant,
                None => Variant::WithoutBonds,
            }),
            mode,
        }
    }
}

static DESK: Shared<Desk> = Shared::new(Desk::new(None));

/// Bluetooth thread: a peer has written. False: the write before is not answered yet.
pub fn take(bytes: &[u8], is_bonded: bool, [kind, reached @ ..]: [u8; 7]) -> bool {
    let mut write = Write::new();
    write.extend(bytes.iter().copied().take(MAX_REQUEST + 1));
    let reached = Address { kind, bytes: reached };
    let is_free = DESK.with(|desk| match desk.request {
        Some(_) => false,
        None => {
            desk.request = Some((write, Visitor { is_bonded, reached }));
            true
        }
    });
    worker::wake();
    is_free
}

/// Bluetooth thread: the answer was confirmed, or the link is gone.
pub fn over(is_gone: bool) {
    DESK.with(|desk| match is_gone {
        true => desk.is_gone = true,
        false => desk.is_confirmed = true,
    });
    worker::wake();
}

/// Bluetooth thread: a peer has written, or has subscribed.
pub fn heard(now_ms: u64) {
    mode(|mode| mode.heard(now_ms));
}

/// Bluetooth thread: the peer has gone.
pub fn gone(now_ms: u64) {
    mode(|mode| mode.gone(now_ms));
}

/// An update is staged.
pub fn staged() {
    mode(UpdateMode::staged);
}

fn mode(work: impl FnOnce(&mut UpdateMode)) {
    DESK.with(|desk| {
        if let Some(mode) = &mut desk.mode {
            work(mode);
        }
    });
}

/// The worker begins, perhaps in update mode.
pub fn begin(now_ms: u64) {
    let mode = zephyr::is_update_mode().then(|| UpdateMode::new(PATIENCE, now_ms));
    DESK.with(|desk| *desk = Desk::new(mode));
}

/// When the update mode ends, in ms; `u64::MAX` in the application.
pub fn ends_ms() -> u64 {
    DESK.with(|desk| desk.mode.map_or(u64::MAX, |mode| mode.ends_ms()))
}

/// What the retained memory holds.
pub fn retained(bytes: &[u8]) -> Option<worker::UpdateMode> {
    let record = Record::decode(bytes)?;
    let mut found = worker::UpdateMode {
        address: [OWN_ADDRESS; 7],
        name_length: record.name.len() as u8,
        name: [0; 20],
    };
    if let Some(Address { kind, bytes }) = record.address {
        let [a, b, c, d, e, f] = bytes;
        found.address = [kind, a, b, c, d, e, f];
    }
    for (to, from) in found.name.iter_mut().zip(&record.name) {
        *to = *from;
    }
    Some(found)
}

/// A reset that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Into the update mode, when the phone's link is closed.
    UpdateMode,
    /// Back into the application.
    Application,
}

impl Due {
    /// Resets.
    pub fn reset(self) -> ! {
        match self {
            Self::UpdateMode => {
                note::info(&words!("reset into the update mode"));
                zephyr::leave();
            }
            Self::Application => {
                note::info(&words!("no update came: reset into the application"));
                ble::disconnect();
                worker::sleep_ms(CLOSE_MS);
                worker::reset();
            }
        }
    }
}

/// Worker: answers what came, and says whether the update mode is to begin or to end. `is_free`: the running image is confirmed, and no
/// other waits for the reset.
#[inline(never)]
pub fn turn(is_free: bool, now_ms: u64) -> Option<Due> {
    let (request, mut entry) = DESK.with(|desk| (desk.request.clone(), desk.entry.clone()));
    if let Some((bytes, visitor)) = request {
        let may_leave = || {
            if !is_free {
                note::warn(&words!(
                    "no update mode: the running image is not confirmed, or another one waits for the reset"
                ));
            }
            is_free && worker::ask(Question::UpdateMode) == Answer::GoOn
        };
        let answer = entry.request(&bytes, visitor, may_leave, |record| {
            zephyr::retain(record)
                .inspect_err(|error| note::error(&text!("the update mode is not retained: {}", error)))
                .is_ok()
        });
        let sent = answer.map_or(Ok(()), |answer| zephyr::indicate(&answer.encode()));
        DESK.with(|desk| {
            desk.request = None;
            desk.entry = entry.clone();
            // A phone that cannot be answered has gone.
            desk.is_gone |= sent.is_err();
        });
    }
    let (is_confirmed, is_gone) = DESK.with(|desk| {
        (
            core::mem::take(&mut desk.is_confirmed),
            core::mem::take(&mut desk.is_gone),
        )
    });
    if (is_confirmed || is_gone) && entry.is_due() {
        return Some(Due::UpdateMode);
    }
    if is_gone {
        entry.forget();
        DESK.with(|desk| desk.entry = entry);
    }
    (now_ms >= ends_ms()).then_some(Due::Application)
}
