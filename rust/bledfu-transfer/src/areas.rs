// SPDX-License-Identifier: Apache-2.0
//! placeholder until bledfu_slot::areas lands
#![allow(missing_docs)]
use embedded_storage::nor_flash::NorFlash;
pub trait Areas {
    type Primary: NorFlash;
    type Secondary: NorFlash;
    type Spare: NorFlash;
    type Journal: NorFlash;
    fn all(&mut self) -> AreasMut<'_, Self>;
}
pub struct AreasMut<'a, A: Areas + ?Sized> {
    pub primary: &'a mut A::Primary,
    pub secondary: &'a mut A::Secondary,
    pub spare: &'a mut A::Spare,
    pub journal: &'a mut A::Journal,
}
#[derive(Clone, Debug)]
pub struct Partitions<P, S, X, J> {
    pub primary: P,
    pub secondary: S,
    pub spare: X,
    pub journal: J,
}
impl<P: NorFlash, S: NorFlash, X: NorFlash, J: NorFlash> Areas for Partitions<P, S, X, J> {
    type Primary = P;
    type Secondary = S;
    type Spare = X;
    type Journal = J;
    fn all(&mut self) -> AreasMut<'_, Self> {
        AreasMut { primary: &mut self.primary, secondary: &mut self.secondary, spare: &mut self.spare, journal: &mut self.journal }
    }
}
