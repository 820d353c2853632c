// SPDX-License-Identifier: Apache-2.0
//! The flash areas of a device: primary and secondary slot, spare area and journal.
//!
//! Each is a flash of its own with its own erase and write unit, addressed from 0. The units are constants of the type,
//! so units that cannot work fail the build: see [`Geometry::of`] and [`Areas::CHECK`].

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};

use crate::flash::MAX_WRITE_SIZE;
use crate::layout::{Algorithm, Geometry, Layout, LayoutError};

/// Who has access to an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// Inside the processor: only its own code reads and writes here.
    Inside,
    /// In external flash: anyone with a probe on the board can read and write here, too.
    Outside,
}

/// The areas of a device.
pub trait Areas {
    /// The slot the image runs from.
    type Primary: NorFlash;
    /// The slot updates are stored in.
    type Secondary: NorFlash;
    /// The spare area of an [algorithm that has one](Algorithm::has_spare), else [`NoFlash`].
    type Spare: NorFlash;
    /// Where the [journal](crate::journal) is kept.
    type Journal: NorFlash;

    /// Where the primary slot is.
    const PRIMARY: Location = Location::Inside;
    /// Where the secondary slot is.
    const SECONDARY: Location = Location::Outside;
    /// Where the spare area is.
    const SPARE: Location = Location::Outside;
    /// Where the journal is.
    const JOURNAL: Location = Location::Outside;

    /// Fails the build if an area has units that are not supported: a write unit must be 1, 2, 4, 8, 16 or 32 bytes,
    /// and an erase unit a whole number of write units.
    const CHECK: () = {
        assert!(units_are_usable::<Self::Primary>());
        assert!(units_are_usable::<Self::Secondary>());
        assert!(units_are_usable::<Self::Spare>());
        assert!(units_are_usable::<Self::Journal>());
    };

    /// All areas at once.
    fn all(&mut self) -> AreasMut<'_, Self>;

    /// The layout of these areas, with their full size and their own units; see [`Layout::with_spare`].
    ///
    /// # Errors
    /// A [`LayoutError`] naming the rule that is broken.
    fn layout(
        &mut self,
        algorithm: Algorithm,
        max_align: u32,
        max_sectors: u32,
    ) -> Result<Layout, LayoutError> {
        let () = Self::CHECK;
        let areas = self.all();
        let spare = match areas.spare.capacity() {
            0 => None,
            _ => Some(geometry(areas.spare)),
        };
        Layout::with_spare(
            algorithm,
            geometry(areas.primary),
            geometry(areas.secondary),
            spare,
            max_align,
            max_sectors,
        )
    }
}

/// All of [`Areas`], borrowed at once.
pub struct AreasMut<'a, A: Areas + ?Sized> {
    /// The slot the image runs from.
    pub primary: &'a mut A::Primary,
    /// The slot updates are stored in.
    pub secondary: &'a mut A::Secondary,
    /// The spare area.
    pub spare: &'a mut A::Spare,
    /// Where the journal is kept.
    pub journal: &'a mut A::Journal,
}

/// Four flashes as areas.
#[derive(Clone, Debug)]
pub struct Partitions<P, S, X, J> {
    /// The slot the image runs from.
    pub primary: P,
    /// The slot updates are stored in.
    pub secondary: S,
    /// The spare area, or [`NoFlash`].
    pub spare: X,
    /// Where the journal is kept.
    pub journal: J,
}

impl<P: NorFlash, S: NorFlash, X: NorFlash, J: NorFlash> Areas for Partitions<P, S, X, J> {
    type Primary = P;
    type Secondary = S;
    type Spare = X;
    type Journal = J;

    fn all(&mut self) -> AreasMut<'_, Self> {
        let () = Self::CHECK;
        AreasMut {
            primary: &mut self.primary,
            secondary: &mut self.secondary,
            spare: &mut self.spare,
            journal: &mut self.journal,
        }
    }
}

const fn units_are_usable<F: NorFlash>() -> bool {
    F::WRITE_SIZE.is_power_of_two()
        && F::WRITE_SIZE <= MAX_WRITE_SIZE
        && F::ERASE_SIZE >= F::WRITE_SIZE
        && F::ERASE_SIZE.is_multiple_of(F::WRITE_SIZE)
        && F::ERASE_SIZE <= 1 << 30
}

impl Geometry {
    /// An area of `slot_size` bytes on a flash of type `F`, with the units of that type. Fails the build if it has units that
    /// [no area may have](Areas::CHECK).
    pub const fn of<F: NorFlash>(slot_size: u32) -> Self {
        const { assert!(units_are_usable::<F>()) };
        Self {
            slot_size,
            sector_size: F::ERASE_SIZE as u32,
            write_size: F::WRITE_SIZE as u32,
        }
    }
}

/// A whole flash as an area. A flash of 4 GiB or more fits no layout.
fn geometry<F: NorFlash>(flash: &F) -> Geometry {
    Geometry::of::<F>(u32::try_from(flash.capacity()).unwrap_or(u32::MAX))
}

/// No area, for algorithms that have no spare area.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFlash;

impl ErrorType for NoFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for NoFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), Self::Error> {
        Err(NorFlashErrorKind::OutOfBounds)
    }

    fn capacity(&self) -> usize {
        0
    }
}

impl NorFlash for NoFlash {
    const WRITE_SIZE: usize = 1;
    const ERASE_SIZE: usize = 1;

    fn erase(&mut self, _: u32, _: u32) -> Result<(), Self::Error> {
        Err(NorFlashErrorKind::OutOfBounds)
    }

    fn write(&mut self, _: u32, _: &[u8]) -> Result<(), Self::Error> {
        Err(NorFlashErrorKind::OutOfBounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bledfu_testkit::{Nor, Power, SECTOR};

    const SIZE: u32 = 8 * SECTOR as u32;

    /// The areas of a device that is built for one pair of parts; with another pair it would not build.
    const LAYOUT: Layout = match Layout::new(
        Algorithm::SwapMove,
        Geometry::of::<Nor<8>>(SIZE),
        Geometry::of::<Nor<1>>(SIZE),
        8,
        32,
    ) {
        Ok(layout) => layout,
        Err(_) => panic!("the slots do not fit together"),
    };

    fn areas<const P: usize, const S: usize>() -> Partitions<Nor<P>, Nor<S>, NoFlash, Nor<S>> {
        let power = Power::new();
        Partitions {
            primary: Nor::new('p', 8, &power),
            secondary: Nor::new('s', 8, &power),
            spare: NoFlash,
            journal: Nor::new('j', 2, &power),
        }
    }

    #[test]
    fn every_area_has_its_own_units() {
        assert_eq!(areas::<8, 1>().layout(Algorithm::SwapMove, 8, 32), Ok(LAYOUT));
        let layout = areas::<16, 4>().layout(Algorithm::SwapOffset, 32, 32).unwrap();
        assert_eq!(
            (layout.primary().write_size, layout.secondary().write_size),
            (16, 4)
        );
        assert_eq!(layout.primary_trailer().status_unit(), 16);
        assert_eq!(
            areas::<8, 1>().layout(Algorithm::SwapScratch, 8, 32),
            Err(LayoutError::Spare)
        );
    }

    #[test]
    fn all_areas_are_borrowed_at_once() {
        let mut areas = areas::<4, 4>();
        let all = areas.all();
        let mut bytes = crate::Aligned([0; 4]);
        all.primary.read(0, &mut bytes.0).unwrap();
        all.secondary.write(0, &crate::Aligned([1; 4]).0).unwrap();
        all.journal.write(0, &crate::Aligned([2; 4]).0).unwrap();
        assert_eq!(all.spare.capacity(), 0);
        assert_eq!(
            (areas.secondary.bytes[0], areas.journal.bytes[0], bytes.0),
            (1, 2, [0xFF; 4])
        );
    }

    #[test]
    fn a_device_says_where_its_areas_are() {
        fn locations<A: Areas>(_: &A) -> [Location; 4] {
            [A::PRIMARY, A::SECONDARY, A::SPARE, A::JOURNAL]
        }
        use Location::{Inside, Outside};
        assert_eq!(locations(&areas::<4, 4>()), [Inside, Outside, Outside, Outside]);
    }
}
