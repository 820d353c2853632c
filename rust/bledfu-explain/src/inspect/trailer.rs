// SPDX-License-Identifier: Apache-2.0
//! The trailer of a slot: what was requested, what is confirmed, and how far a swap got.

use bledfu_slot::copy_roles::{self, Record};
use bledfu_slot::tlv::SliceFlash;
use bledfu_slot::{Algorithm, Flag, Geometry, Layout, Magic, SwapType, Trailer, TrailerLayout};

use super::report::Report;
use super::{short_hex, Options};

fn geometry(slot_size: u32, options: &Options) -> (Geometry, u32) {
    let geometry = Geometry {
        slot_size,
        sector_size: options.erase_size,
        write_size: options.align,
    };
    let sectors = options.max_sectors.unwrap_or_else(|| geometry.sectors().max(256));
    (geometry, sectors)
}

pub(super) fn layout(slot_size: u32, options: &Options) -> Result<Layout, bledfu_slot::LayoutError> {
    let (geometry, sectors) = geometry(slot_size, options);
    let spare = options.algorithm.has_spare().then_some(geometry);
    Layout::with_spare(
        options.algorithm,
        geometry,
        geometry,
        spare,
        options.max_align,
        sectors,
    )
}

/// The slot to which a trailer belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Not known: a file does not tell.
    Unknown,
    /// The slot the processor runs from.
    Primary,
    /// The slot in which an update waits.
    Secondary,
}

pub(super) fn trailer(report: &mut Report, bytes: &[u8], len: u32, options: &Options, role: Role) {
    let (geometry, sectors) = geometry(len, options);
    let place = match TrailerLayout::new(
        options.algorithm,
        geometry,
        options.align,
        options.max_align,
        sectors,
    ) {
        Ok(place) => place,
        Err(error) => {
            report.heading("trailer");
            return report.problem(format!(
                "a trailer with these numbers is not possible (see --slot-size, --align, --erase-size, --max-align, --max-sectors): {error}"
            ));
        }
    };
    // A slice of the right length is never read beyond its end.
    let trailer = Trailer::read(&mut SliceFlash(bytes), &place).unwrap_or(Trailer::ERASED);
    let algorithm = options.algorithm.as_str();
    let of = match role {
        Role::Unknown => "",
        Role::Primary => " of the primary slot",
        Role::Secondary => " of the secondary slot",
    };
    report.heading(format!(
        "trailer{of}: {} bytes from {:#x} (write size {}, max align {}, {sectors} sectors, {algorithm})",
        place.trailer_size(),
        place.status_start(),
        options.align,
        options.max_align,
    ));
    match layout(len, options) {
        Ok(layout) => report.field("largest image", format!("{} bytes", layout.max_image_size())),
        Err(error) => report.problem(error),
    }
    if options.algorithm == Algorithm::Copy {
        role_record(report, bytes, &place);
    } else {
        report.field("status records", records(bytes, &place));
    }
    let size = trailer.swap_size;
    let shown = if size == u32::MAX {
        "unset".to_owned()
    } else {
        format!("{size} bytes")
    };
    report.field("swap_size", shown);
    if size != u32::MAX && (size == 0 || size > len) {
        report.problem("the swap size in the trailer is impossible");
    }
    let info = trailer.swap_info;
    report.field(
        "swap_info",
        match (info, trailer.swap_type()) {
            (0xFF, _) => "unset".to_owned(),
            (_, SwapType::None) => format!("{info:#04x} (no swap type)"),
            (_, kind) => format!("{info:#04x} ({kind}, image {})", trailer.image_number()),
        },
    );
    if info != 0xFF && trailer.swap_type() == SwapType::None && info & 0x0F != SwapType::None as u8 {
        report.problem("the swap type in the trailer is unknown");
    }
    for (name, flag) in [("copy_done", trailer.copy_done), ("image_ok", trailer.image_ok)] {
        let word = match flag {
            Flag::Set => "set",
            Flag::Unset => "unset",
            Flag::Bad => "neither set nor unset",
        };
        report.field(name, word);
        if flag == Flag::Bad {
            report.problem(format!("{name} in the trailer is neither set nor unset"));
        }
    }
    let taken_down = options.algorithm == Algorithm::Copy && bytes.ends_with(&[0; 16]);
    report.field(
        "magic",
        match trailer.magic {
            Magic::Good => "good",
            Magic::Unset => "unset",
            Magic::Bad if taken_down => "removed: the request was carried out",
            Magic::Bad => "bad",
        },
    );
    if trailer.magic == Magic::Bad && !taken_down {
        report.problem("the magic of the trailer is bad");
    }
    if role != Role::Secondary {
        report.field("in the primary slot", as_primary(&trailer));
    }
    if role != Role::Primary {
        report.field("in the secondary slot", as_secondary(&trailer));
    }
}

/// For copy: where the image in the primary slot came from.
fn role_record(report: &mut Report, bytes: &[u8], place: &TrailerLayout) {
    let flash = &mut SliceFlash(bytes);
    let record = match Record::read(flash, place) {
        Ok(Some(record)) => format!(
            "{} bytes from place {}, {}, SHA-256 {}",
            record.size,
            record.source.number(),
            record.swap_type,
            short_hex(&record.digest)
        ),
        _ => "none".to_owned(),
    };
    report.field("role record", record);
    if copy_roles::is_reverted(flash, place) == Ok(true) {
        report.field("mark", "written: the image before is back");
    }
}

/// As for the boot stage, a record counts as written if its first byte is.
fn records(bytes: &[u8], place: &TrailerLayout) -> String {
    let start = place.status_start() as usize;
    let end = start + (place.record_count() * place.status_unit()) as usize;
    let written: Vec<bool> = bytes
        .get(start..end)
        .unwrap_or_default()
        .chunks(place.status_unit() as usize)
        .map(|record| record.first() != Some(&0xFF))
        .collect();
    let count = written.iter().filter(|written| **written).count();
    let sectors = place.max_sectors() as usize;
    match written.iter().rposition(|written| *written) {
        None => format!("none of {} written", written.len()),
        Some(last) if last < sectors => format!("{count} written; moving, {} sectors moved", last + 1),
        Some(last) => format!(
            "{count} written; swapping, {} sectors swapped",
            (last - sectors).div_ceil(2)
        ),
    }
}

fn as_primary(trailer: &Trailer) -> &'static str {
    match (trailer.magic, trailer.copy_done, trailer.image_ok) {
        (_, _, Flag::Set) => "the image is confirmed",
        (Magic::Unset, ..) => "the image was never swapped in: it counts as confirmed",
        (Magic::Good, Flag::Set, Flag::Unset) => "the image is on test: the next boot reverts it",
        (Magic::Good, Flag::Unset, _) => "a swap was begun and not finished",
        _ => "damaged: nothing is done",
    }
}

fn as_secondary(trailer: &Trailer) -> &'static str {
    match (trailer.magic, trailer.image_ok) {
        (Magic::Good, Flag::Unset) => "the next boot installs the image on test",
        (Magic::Good, Flag::Set) => "the next boot installs the image for good",
        (Magic::Unset, _) => "nothing is asked for",
        _ => "damaged: nothing is done until it is erased",
    }
}
