// SPDX-License-Identifier: Apache-2.0
//! A device without packed updates: every file is an image. The functions are those of `packing`, and the compiler removes
//! what depends on them.

use super::{Expected, Fate, Present, SecondaryError, TransferError, Unfit, Upload};
use bledfu_slot::areas::Areas;
use bledfu_slot::header::ImageStart;
use bledfu_slot::journal::Progress;
use bledfu_slot::retry::Retry;
use bledfu_slot::trailer::SwapType;
use bledfu_slot::verify::{Crypto, Digest, ImageInfo};
use bledfu_slot::writer::{Erase, WriteError};
use core::marker::PhantomData;

/// This build expands no packed updates.
pub(crate) const IS_ON: bool = false;

/// The memory in which packed updates are expanded: none in this build.
pub struct UpdateMemory;

impl UpdateMemory {
    /// Nothing.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self
    }
}

/// [`UpdateMemory`], lent to an [`Upload`]: nothing in this build.
pub struct Workspace<'k>(PhantomData<&'k mut UpdateMemory>);

impl<'k> From<&'k mut UpdateMemory> for Workspace<'k> {
    #[inline(always)]
    fn from(_: &'k mut UpdateMemory) -> Self {
        Self(PhantomData)
    }
}

#[cfg(feature = "alloc")]
impl Workspace<'_> {
    /// Nothing in this build.
    pub const fn boxed() -> Self {
        Self(PhantomData)
    }
}

pub(super) struct Packing<'k>(PhantomData<Workspace<'k>>);

impl<'k> Packing<'k> {
    pub(super) fn new(_: Workspace<'k>) -> Self {
        Self(PhantomData)
    }

    pub(super) const fn size_if_past(&self) -> Option<u32> {
        None
    }

    pub(super) const fn sha256_if_past(&self) -> Option<Digest> {
        None
    }
}

#[allow(clippy::unused_self)]
impl<A: Areas, C: Crypto> Upload<'_, A, C> {
    /// Whether a whole packed update is in the slot: never in this build.
    #[inline(always)]
    pub const fn is_packed(&self) -> bool {
        false
    }

    /// Whether a peer was promised an image that is still being made: never in this build.
    #[inline(always)]
    pub const fn is_promised(&self) -> bool {
        false
    }

    #[inline(always)]
    pub(crate) const fn fate(&mut self) -> Fate {
        Fate::Staged
    }

    #[inline(always)]
    pub(crate) const fn finish_packed(&mut self, _: &Expected<'_>) -> Result<Fate, TransferError> {
        Err(TransferError::NotReceiving)
    }

    #[inline(always)]
    pub(crate) const fn ask_packed(&mut self, _: SwapType) -> Result<(), TransferError> {
        Err(TransferError::NotReceiving)
    }

    #[inline(always)]
    pub(crate) const fn recall(&mut self, _: Option<&Expected<'_>>, _: u32) -> bool {
        true
    }

    #[inline(always)]
    pub(crate) const fn reset_when_staged(&mut self) {}

    #[inline(always)]
    pub(crate) const fn takes_reset(&mut self) -> bool {
        false
    }

    #[inline(always)]
    pub(crate) const fn listed_file(&self) -> Option<ImageInfo> {
        None
    }

    #[inline(always)]
    pub(crate) const fn promised(&self) -> Option<SwapType> {
        None
    }

    #[inline(always)]
    pub(crate) const fn file_of_running(&mut self) -> Option<Digest> {
        None
    }

    #[inline(always)]
    pub(crate) const fn listed_running(&mut self, _: bool) {}

    #[inline(always)]
    pub(crate) const fn prepare_far(&mut self, _: u32) {}

    #[inline(always)]
    pub(super) const fn forget_seen(&mut self) {}

    #[inline(always)]
    pub(crate) const fn judge_room(&self, _: &ImageStart, _: u32) -> Result<(), TransferError> {
        Ok(())
    }

    #[inline(always)]
    pub(super) const fn find_packed(&mut self, _: u32, _: &Digest) -> Option<Present> {
        None
    }

    #[inline(always)]
    pub(super) const fn forget_intent(&mut self) {}

    #[inline(always)]
    pub(super) const fn begin_packing(&mut self, _: u32) {}

    #[inline(always)]
    pub(super) const fn find_place(&mut self, _: u32, _: Progress) {}

    #[inline(always)]
    pub(super) const fn note_file(&mut self) {}

    #[inline(always)]
    pub(super) const fn split_head<'b>(&mut self, bytes: &'b [u8]) -> (&'b [u8], &'b [u8]) {
        (&[], bytes)
    }

    #[inline(always)]
    pub(super) const fn choose_place(&mut self) {}

    #[inline(always)]
    pub(super) const fn reconsider_place(&mut self) {}

    #[inline(always)]
    pub(super) const fn judge_packed(&self, _: &ImageStart, unfit: Unfit) -> Result<(), Unfit> {
        Err(unfit)
    }

    #[inline(always)]
    pub(super) const fn is_misplaced(&self) -> bool {
        false
    }

    #[inline(always)]
    pub(super) const fn packing_step(&mut self) -> Option<bool> {
        None
    }

    #[inline(always)]
    pub(super) fn prepare_places(
        &mut self,
        length: u32,
        erase: Erase,
    ) -> Result<(), WriteError<SecondaryError<A>>> {
        let slot = &mut Retry(self.areas.all().secondary);
        self.payload.writer().prepare_by(slot, length, erase)
    }
}
