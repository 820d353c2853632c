// SPDX-License-Identifier: Apache-2.0
//! A transfer whose file is a packed update: stored at the far end of the slot, checked, and expanded to where updates
//! begin.
//!
//! ```text
//! slot    | image that is made ──►        |  free  | packed file | trailer |
//!         ^ upload offset                          ^ far = first trailer sector - file, whole sectors
//!
//!             32 bytes        complete          check            last sector          request
//!   Unknown ───────────► File ────────► File ──────────► Expanding ─────────► Made ───────────► Staged
//!      │ an image          ▲ reset        │ refused          │ reset              │ reset
//!      ▼                   └──────────────┼──────────────────┴────────────────────┘
//!    Image                                ▼ Refused
//! ```
//! Only what is received and the [intent](bledfu_slot::journal::Intent) survive a reset: a half-made image is never believed.
//! After a reset with an intent the file is checked and expanded from the start; its sources are untouched:
//!
//! | Cut in | In flash | After it |
//! |---|---|---|
//! | receiving | part of the file, progress | the transfer goes on, as for every file |
//! | the record of the intent | the whole file | the peer asks again: it has no answer yet |
//! | expanding, checking the image | the file, the intent, a part of the image | all of it again |
//! | the request | the file, the intent, the image, a torn trailer | all of it again: the trailer goes first |
//! | closing the session | a request | the boot stage installs |
//!
//! While an object is open nothing is erased. So the first erase makes room at both places, and the first 32 bytes, which
//! say what the file is, wait in the page buffer. A packed update makes more than itself, so a file that is larger than half
//! of the slot is an image, and has one place.

mod check;
mod expand;
mod intent;
mod place;

use super::{Fate, State, TransferError, Upload};
use crate::lent::Lent;
use bledfu_patch::{Decoder, TABLE};
use bledfu_slot::areas::Areas;
use bledfu_slot::trailer::SwapType;
use bledfu_slot::verify::{Crypto, Digest, ImageInfo};
use bledfu_slot::writer::Place;

/// This build expands packed updates.
pub(crate) const IS_ON: bool = true;

/// How far a file is.
enum Phase {
    /// It is an image, or there is none.
    Image,
    /// Fewer than 32 bytes are known. Room is made here and at the place for a packed update.
    Unknown { far: Place },
    /// It is a packed update. `near` is the place for its image.
    File { near: Place },
    /// Its image is being made.
    Expanding(Target),
    /// Its image is in the slot, is the announced one, and has this digest.
    Made(Digest),
    /// Its image will be installed by the next boot.
    Staged,
    /// It cannot be expanded; the peer is told when it asks for the image.
    Refused(TransferError),
}

/// The image that is being made.
#[derive(Clone, Copy)]
struct Target {
    /// Size in bytes.
    size: u32,
    /// SHA-256 of the whole file.
    sha256: Digest,
    /// By which lists know it.
    digest: Digest,
}

/// A packed update that is complete.
#[derive(Clone, Copy)]
pub(super) struct File {
    /// Size in bytes, as announced.
    pub size: u32,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// CRC-32 of the whole file; only over Secure DFU.
    pub crc: u32,
    /// What a list shows: the version of the image, and the digest of the file.
    pub info: ImageInfo,
}

impl File {
    /// What a peer knows it by.
    const fn known_as(&self, by_smp: bool) -> &Digest {
        if by_smp {
            &self.info.digest
        } else {
            &self.sha256
        }
    }
}

/// What a peer asked for.
#[derive(Clone, Copy)]
struct Wish {
    swap_type: SwapType,
    fw_version: u32,
    /// The device resets when the image is staged.
    resets: bool,
    by_smp: bool,
    /// The journal knows: the peer may be told before the image is whole.
    is_recorded: bool,
}

/// The memory in which packed updates are expanded, 3.4 KB. It is lent, so that nothing that holds it has a copy on the stack
/// whenever it is moved.
pub struct UpdateMemory(Decoder<TABLE>);

impl UpdateMemory {
    /// Memory for one [`Upload`].
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(Decoder::new())
    }
}

/// [`UpdateMemory`], lent to an [`Upload`].
pub struct Workspace<'k>(Lent<'k, Decoder<TABLE>>);

impl<'k> From<&'k mut UpdateMemory> for Workspace<'k> {
    #[inline(always)]
    fn from(memory: &'k mut UpdateMemory) -> Self {
        Self((&mut memory.0).into())
    }
}

#[cfg(feature = "alloc")]
impl Workspace<'_> {
    /// Memory of its own, on the heap.
    pub fn boxed() -> Self {
        Self(Lent::boxed(Decoder::new()))
    }
}

/// The state of a packed update: 0.4 KB of RAM, beside the memory that is lent.
#[repr(C)]
pub(super) struct Packing<'k> {
    phase: Phase,
    file: Option<File>,
    wish: Option<Wish>,
    failed: Option<TransferError>,
    /// It was received before the last reset.
    is_old: bool,
    /// A peer saw the running image as confirmed, by the digest of its file.
    is_seen: bool,
    decoder: Lent<'k, Decoder<TABLE>>,
}

const _: () = assert!(
    core::mem::size_of::<Packing<'_>>() + core::mem::size_of::<UpdateMemory>() <= 4096,
    "packed updates take at most 4 KiB of RAM"
);

impl<'k> Packing<'k> {
    pub(super) fn new(Workspace(decoder): Workspace<'k>) -> Self {
        Self {
            phase: Phase::Image,
            file: None,
            wish: None,
            failed: None,
            is_old: false,
            is_seen: false,
            decoder,
        }
    }

    fn forget(&mut self) {
        self.phase = Phase::Image;
        self.file = None;
        self.wish = None;
        self.is_old = false;
        self.is_seen = false;
    }

    /// The whole file, from the moment it is complete.
    pub(super) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Whether the writer is no longer busy with the file.
    fn is_past_file(&self) -> bool {
        matches!(
            self.phase,
            Phase::Expanding(_) | Phase::Made(_) | Phase::Refused(_) | Phase::Staged
        )
    }

    /// SHA-256 of the file, once the writer hashes its image.
    pub(super) fn sha256_if_past(&self) -> Option<Digest> {
        self.file.filter(|_| self.is_past_file()).map(|file| file.sha256)
    }

    /// The size of the file, once the counts of the writer are no longer about it.
    pub(super) fn size_if_past(&self) -> Option<u32> {
        self.file.filter(|_| self.is_past_file()).map(|file| file.size)
    }
}

impl<A: Areas, C: Crypto> Upload<'_, A, C> {
    /// Whether a whole packed update is in the slot, waits there, or is being expanded.
    pub fn is_packed(&self) -> bool {
        self.packing.file.is_some() && matches!(self.state, State::Receiving(_))
    }

    /// Whether a peer was promised an image that is still being made.
    pub fn is_promised(&self) -> bool {
        self.packing.wish.is_some() && self.is_packed()
    }

    /// What became of the last wish. A failure is said once.
    pub fn fate(&mut self) -> Fate {
        match (&self.packing.wish, self.packing.failed.take()) {
            (_, Some(error)) => Fate::Failed(error),
            (Some(wish), None) if self.is_packed() => Fate::Pending(wish.is_recorded),
            _ => Fate::Staged,
        }
    }

    /// Bytes of the image that were made of the packed update, for what wants to show or to count them.
    pub fn expanded(&self) -> u32 {
        match self.packing.phase {
            Phase::Expanding(_) | Phase::Made(_) => self.payload.received(),
            _ => 0,
        }
    }
}
