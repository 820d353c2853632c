// SPDX-License-Identifier: Apache-2.0
//! `bledfu package`: creates a package for a signed image.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, Context};
use bledfu_sim::init_packet::BootValidation;
use bledfu_sim::keys::{known_key, SigningKey};
use bledfu_sim::package::{check_is_image, write_parts, PackageSpec, PartKind};
use clap::Args;

use crate::args::parse_u32;
use crate::kind::{image_in, image_problem};
use crate::packed;

/// Options of `bledfu package`.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "bledfu package [OPTIONS] --image <APP.signed.bin> --key <KEY.pem>\n       \
                            --hw-version <N> --fw-version <N> --output <APP.zip>"
)]
pub struct PackageArgs {
    /// Image signed by imgtool: .bin, .hex, or in the nRF Connect SDK's dfu_application.zip.
    #[arg(long, value_name = "APP.signed.bin")]
    pub image: PathBuf,
    /// Private key of the package (PEM).
    #[arg(long, value_name = "KEY.pem")]
    pub key: PathBuf,
    /// Hardware version the image is for.
    #[arg(long, value_name = "N", value_parser = parse_u32)]
    pub hw_version: u32,
    /// Firmware version: a device refuses a version lower than its own.
    #[arg(long, value_name = "N", value_parser = parse_u32)]
    pub fw_version: u32,
    /// SoftDevices the image runs on, comma-separated; 0x00 for none.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0x00", value_parser = parse_u32)]
    pub sd_req: Vec<u32>,
    /// How the device checks the installed image at boot, in nrfutil's terms.
    #[arg(
        long,
        alias = "app-boot-validation",
        value_name = "METHOD",
        default_value = "VALIDATE_GENERATED_CRC"
    )]
    pub boot_validation: BootValidation,
    /// Mark the package for debug builds, which skip the version checks.
    #[arg(long, alias = "debug-mode")]
    pub debug: bool,
    /// Allow a key whose private half is public, such as the demo key: anybody can update devices that trust it.
    #[arg(long)]
    pub trial: bool,
    /// Pack the file unchanged, even if it is not an MCUboot image.
    #[arg(long)]
    pub force: bool,
    /// Package to write.
    #[arg(short, long, value_name = "APP.zip")]
    pub output: PathBuf,
}

/// `bledfu package`: writes a package for an image.
///
/// # Errors
/// One sentence about what could not be read, packed or written.
pub fn cmd_package(args: &PackageArgs) -> anyhow::Result<ExitCode> {
    let name = args.image.file_name().unwrap_or_default().to_string_lossy();
    let shown = args.image.display();
    let bytes = std::fs::read(&args.image).with_context(|| format!("cannot read {shown}"))?;
    let image = match args.force {
        true => bytes,
        false => {
            let image = image_in(&name, bytes).with_context(|| format!("cannot pack {shown}"))?;
            if let Some(problem) = image_problem(&image) {
                bail!("cannot pack {shown}: {problem}; --force packs it as it is");
            }
            // Of a packed update, this was all.
            if !packed::is_packed(&image) {
                check_is_image(&image).with_context(|| format!("cannot pack {shown}"))?;
            }
            image
        }
    };
    let key = SigningKey::open(&args.key)?;
    if let Some(name) = known_key(&key.public()).filter(|_| !args.trial) {
        bail!(
            "{} is {name}: anybody can sign with it; make one of your own (nrfutil keys generate), or say --trial",
            args.key.display()
        );
    }
    let stem = name
        .rsplit_once('.')
        .filter(|(_, end)| ["bin", "hex", "zip"].contains(end));
    let spec = PackageSpec {
        name: stem.map_or(&*name, |(stem, _)| stem).to_owned(),
        hw_version: args.hw_version,
        fw_version: args.fw_version,
        sd_req: args.sd_req.clone(),
        boot_validation: args.boot_validation,
        debug: args.debug,
    };
    let part = spec.part(&image, &key)?;
    let package = write_parts(&[(PartKind::Application, part.clone())])?;
    std::fs::write(&args.output, &package)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    crate::outln!(
        "wrote {}: image {} bytes ({} of padding), init packet {} bytes",
        args.output.display(),
        part.firmware.len(),
        part.firmware.len() - image.len(),
        part.init.len(),
    )?;
    crate::outln!(
        "for hardware version {}, with firmware version {}",
        args.hw_version,
        args.fw_version
    )?;
    Ok(ExitCode::SUCCESS)
}
