// SPDX-License-Identifier: Apache-2.0
//! A drawing of a flash: one row per area, one character per erase unit or group of erase units.
//!
//! ```text
//!   0x00000000 -          ............
//!   0x0000d000 primary    ########################.......................T
//! ```

use bledfu_slot::is_erased;

/// What the characters mean.
pub(super) const LEGEND: &str =
    "  # image  T trailer  J journal  S scratch  x other bytes  . erased  - no area";

/// Largest number of characters in a row.
const COLUMNS: usize = 54;

/// What an area is for.
pub(super) enum Content {
    /// A slot.
    Slot {
        /// Where its image begins, and its size.
        image: Option<(u32, u32)>,
        /// Where its trailer begins.
        trailer: u32,
    },
    /// The journal of uploads.
    Journal,
    /// The scratch area of a swap.
    Scratch,
}

/// An area of a flash.
pub(super) struct Span<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its offset in the flash.
    pub at: u32,
    /// Its size.
    pub size: u32,
    /// What it is for.
    pub content: Content,
}

/// The rows of a flash with these areas.
pub(super) fn draw(flash: &[u8], mut spans: Vec<Span<'_>>, unit: u32) -> Vec<String> {
    spans.sort_by_key(|span| span.at);
    let mut rows = Vec::new();
    let mut at = 0;
    for span in &spans {
        if span.at > at {
            rows.push(row(flash, at, span.at, "-", None, unit));
        }
        let end = span.at.saturating_add(span.size);
        rows.push(row(flash, span.at, end, span.name, Some(&span.content), unit));
        at = at.max(end);
    }
    if (at as usize) < flash.len() {
        rows.push(row(flash, at, flash.len() as u32, "-", None, unit));
    }
    rows
}

fn row(flash: &[u8], start: u32, end: u32, name: &str, content: Option<&Content>, unit: u32) -> String {
    let units = (end - start).div_ceil(unit) as usize;
    let step = units.div_ceil(COLUMNS).max(1) * unit as usize;
    let bytes = flash.get(start as usize..end as usize).unwrap_or_default();
    let cells: String = bytes
        .chunks(step)
        .enumerate()
        .map(|(number, cell)| mark(cell, (number * step) as u32, content))
        .collect();
    let row = format!("  {start:#010x} {name:<12} {cells}");
    row
}

/// The character of the bytes of an area from `at` on.
fn mark(cell: &[u8], at: u32, content: Option<&Content>) -> char {
    if is_erased(cell) {
        return '.';
    }
    let end = at + cell.len() as u32;
    match content {
        Some(Content::Journal) => 'J',
        Some(Content::Scratch) => 'S',
        Some(Content::Slot { image, trailer }) => {
            let written = |from: u32| {
                let from = from.saturating_sub(at) as usize;
                cell.get(from..).is_some_and(|rest| !is_erased(rest))
            };
            match image {
                _ if end > *trailer && written(*trailer) => 'T',
                Some((start, size)) if at < start + size && end > *start => '#',
                _ => 'x',
            }
        }
        None => 'x',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_image_trailer_and_what_is_erased() {
        let mut flash = vec![0xFF; 16 * 1024];
        flash[..10].fill(1);
        flash[4096..4096 + 5000].fill(2);
        flash[12 * 1024 - 1] = 0x80;
        let slot = Span {
            name: "primary",
            at: 4096,
            size: 8 * 1024,
            content: Content::Slot {
                image: Some((0, 5000)),
                trailer: 8 * 1024 - 64,
            },
        };
        assert_eq!(
            draw(&flash, vec![slot], 1024),
            [
                "  0x00000000 -            x...",
                "  0x00001000 primary      #####..T",
                "  0x00003000 -            ....",
            ]
        );
    }

    #[test]
    fn a_large_area_fits_the_screen() {
        let flash = vec![0; 8 * 1024 * 1024];
        let rows = draw(&flash, Vec::new(), 4096);
        assert!(rows.len() == 1 && rows[0].len() <= 80, "{rows:?}");
    }
}
