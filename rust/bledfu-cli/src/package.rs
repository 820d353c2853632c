// SPDX-License-Identifier: Apache-2.0
//! `bledfu package`: makes a package around a signed image.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, Context};
use bledfu_sim::init_packet::BootValidation;
use bledfu_sim::keys::{known_key, SigningKey};
use bledfu_sim::package::{check_is_image, write_parts, PackageSpec, PartKind};
use clap::Args;

use crate::args::parse_u32;

/// Options of `bledfu package`.
#[derive(Debug, Clone, Args)]
pub struct PackageArgs {
    /// Image signed by imgtool.
    #[arg(long, value_name = "APP.signed.bin")]
    pub image: PathBuf,
    /// Private key of the package (PEM).
    #[arg(long, value_name = "KEY.pem")]
    pub key: PathBuf,
    /// Hardware version the image is for.
    #[arg(long, value_name = "N", value_parser = parse_u32)]
    pub hw_version: u32,
    /// Firmware version: a device refuses one lower than its own.
    #[arg(long, value_name = "N", value_parser = parse_u32)]
    pub fw_version: u32,
    /// SoftDevices the image runs on, comma-separated; 0x00 for none.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0x00", value_parser = parse_u32)]
    pub sd_req: Vec<u32>,
    /// How the installed image is checked at boot, in nrfutil's words.
    #[arg(
        long,
        alias = "app-boot-validation",
        value_name = "METHOD",
        default_value = "VALIDATE_GENERATED_CRC"
    )]
    pub boot_validation: BootValidation,
    /// Marks the package for debug builds, which skip the version checks.
    #[arg(long, alias = "debug-mode")]
    pub debug: bool,
    /// Signs with a key that everybody has, such as the demo key: devices that trust it are open to all.
    #[arg(long)]
    pub trial: bool,
    /// Packs the file even if it is no MCUboot image.
    #[arg(long)]
    pub force: bool,
    /// Package to write.
    #[arg(short, long, value_name = "APP.zip")]
    pub output: PathBuf,
}

/// `bledfu package`: writes a package around an image.
///
/// # Errors
/// One sentence about what could not be read, packed or written.
pub fn cmd_package(args: &PackageArgs) -> anyhow::Result<ExitCode> {
    let image =
        std::fs::read(&args.image).with_context(|| format!("cannot read {}", args.image.display()))?;
    if !args.force {
        check_is_image(&image).with_context(|| args.image.display().to_string())?;
    }
    let key = SigningKey::open(&args.key)?;
    if let Some(name) = known_key(&key.public()).filter(|_| !args.trial) {
        bail!(
            "{} is {name}: anybody can sign with it; make one of your own (nrfutil keys generate), or say --trial",
            args.key.display()
        );
    }
    let name = args.image.file_name().unwrap_or_default().to_string_lossy();
    let spec = PackageSpec {
        name: name.strip_suffix(".bin").unwrap_or(&name).to_owned(),
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
    crate::inspect::print(&format!(
        "wrote {}: image {} bytes ({} of padding), init packet {} bytes, hardware {}, firmware version {}\n",
        args.output.display(),
        part.firmware.len(),
        part.firmware.len() - image.len(),
        part.init.len(),
        args.hw_version,
        args.fw_version,
    ));
    Ok(ExitCode::SUCCESS)
}
