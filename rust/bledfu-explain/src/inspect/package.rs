// SPDX-License-Identifier: Apache-2.0
//! Packages for Secure DFU, packages of the nRF Connect SDK for SMP, and hex files, which hold images as well.

use bledfu_sim::package::{read_parts, Package, Part, PartKind};
use bledfu_sim::sdk_package::{SdkFile, SdkPackage};
use bledfu_slot::ImageHeader;

use super::image::{image_or_slot, image_to_send};
use super::init_packet::init_packet;
use super::report::Report;
use super::{heading, Options};
use crate::kind::{self, Run};

pub(super) fn dfu_package(report: &mut Report, name: &str, bytes: &[u8], options: &Options) {
    heading(report, name, "DFU package", bytes);
    let parts = match read_parts(bytes) {
        Ok(parts) => parts,
        Err(error) => return report.problem(error),
    };
    for (kind, part) in &parts {
        report.field(kind.key(), format!("{}, {}", part.bin_file, part.dat_file));
    }
    match Package::read_unchecked(bytes) {
        Err(error) => report.problem(error),
        Ok(Package {
            system: Some((kind, _)),
            ..
        }) => report.problem(format!(
            "the package has {} besides the application: this device accepts only applications",
            kind.key()
        )),
        Ok(_) => {}
    }
    for (kind, part) in &parts {
        package_part(report, *kind, part, options);
    }
}

fn package_part(report: &mut Report, kind: PartKind, part: &Part, options: &Options) {
    heading(
        report,
        &part.dat_file,
        &format!("init packet of {}", kind.key()),
        &part.init,
    );
    init_packet(report, &part.init, Some(&part.firmware), options);
    if let Err(error) = part.check(kind) {
        report.problem(error);
    }
    if kind == PartKind::Application {
        image_to_send(report, &part.bin_file, &part.firmware, options);
    } else {
        heading(report, &part.bin_file, "firmware", &part.firmware);
    }
    if !part.firmware.len().is_multiple_of(4) {
        report.problem("the firmware is not a multiple of 4 bytes, so Android refuses it");
    }
}

/// A package that a build with the nRF Connect SDK makes.
pub(super) fn sdk_package(report: &mut Report, name: &str, bytes: &[u8], options: &Options) {
    heading(report, name, "nRF Connect SDK package", bytes);
    let package = match SdkPackage::read(bytes) {
        Ok(Some(package)) => package,
        Ok(None) => return report.problem("the manifest of the package names no files"),
        Err(error) => return report.problem(error),
    };
    report.field("manifest format", package.format);
    if let Some(name) = &package.name {
        report.field("name", name);
    }
    report.field("sent by", "SMP (mcumgr); it has no init packet for Secure DFU");
    if let Err(error) = package.application() {
        report.problem(error);
    }
    for file in &package.files {
        report.field(
            format_args!("image {}", file.image_index),
            format!("{}, {}", file.name, file.kind.as_deref().unwrap_or("no type")),
        );
    }
    for file in &package.files {
        sdk_file(report, file, options);
    }
}

fn sdk_file(report: &mut Report, file: &SdkFile, options: &Options) {
    image_to_send(report, &file.name, &file.bytes, options);
    if let Some(board) = &file.board {
        report.field("manifest: board", board);
    }
    if let Some(address) = file.load_address {
        report.field("manifest: load_address", format!("{address:#x}"));
    }
    let Some(version) = &file.version else {
        return;
    };
    report.field("manifest: version", version);
    let Ok(header) = ImageHeader::parse(&file.bytes) else {
        return;
    };
    // The manifest has the build number even if it is 0.
    let found = header.version.to_string();
    if *version != found && *version != format!("{found}+0") {
        report.problem(format!(
            "the manifest says version {version}, the image is {found}"
        ));
    }
}

/// Explains a hex file: the images in it, and the other bytes.
pub(super) fn hex_file(report: &mut Report, name: &str, bytes: &[u8], options: &Options) {
    heading(report, name, "Intel hex file", bytes);
    let runs = match kind::read_hex(bytes) {
        Ok(runs) => runs,
        Err(error) => return report.problem(format!("{error:#}")),
    };
    for run in &runs {
        let what = if run.is_image() { "image" } else { "other bytes" };
        report.field(
            format_args!("at {:#010x}", run.address),
            format!("{} bytes, {what}", run.bytes.len()),
        );
    }
    let images: Vec<&Run> = runs.iter().filter(|run| run.is_image()).collect();
    if images.is_empty() {
        report.problem("the hex file has no MCUboot image: sign it with imgtool");
    }
    for run in images {
        let name = format!("{name} at {:#x}", run.address);
        image_or_slot(report, &name, &run.bytes, options);
    }
}
