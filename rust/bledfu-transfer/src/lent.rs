// SPDX-License-Identifier: Apache-2.0
//! Memory that a caller lends, so that what holds it is small: a device builds its state on a stack, and for a moment has it
//! there twice.

use core::ops::{Deref, DerefMut};

/// Something lent, or on the heap where there is one.
pub struct Lent<'k, T>(Held<'k, T>);

enum Held<'k, T> {
    Lent(&'k mut T),
    #[cfg(feature = "alloc")]
    Boxed(alloc::boxed::Box<T>),
}

impl<'k, T> From<&'k mut T> for Lent<'k, T> {
    #[inline(always)]
    fn from(value: &'k mut T) -> Self {
        Self(Held::Lent(value))
    }
}

#[cfg(feature = "alloc")]
impl<T> Lent<'_, T> {
    /// On the heap.
    pub fn boxed(value: T) -> Self {
        Self(Held::Boxed(alloc::boxed::Box::new(value)))
    }
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Held::Lent(value) => value,
            #[cfg(feature = "alloc")]
            Held::Boxed(value) => value,
        }
    }
}

impl<T> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Held::Lent(value) => value,
            #[cfg(feature = "alloc")]
            Held::Boxed(value) => value,
        }
    }
}
