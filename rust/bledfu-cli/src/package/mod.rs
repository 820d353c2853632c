// SPDX-License-Identifier: Apache-2.0
//! `bledfu package`: creates a package for a signed image.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, Context, Result};
use bledfu_sim::init_packet::BootValidation;
use bledfu_sim::keys::{known_key, Sign};
use bledfu_sim::package::{check_is_image, write_parts, PackageSpec, Part, PartKind};
use bledfu_slot::Key;
use clap::Args;

use crate::args::parse_u32;
use crate::kind::{image_in, image_problem};
use crate::output::wrap;
use crate::packed;

mod build;
mod signer;
mod version;

use build::BuildFolder;
use signer::{Checked, Command, DigestOnly, Made};
use version::Version;

/// Options of `bledfu package`.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "bledfu package [OPTIONS] --image <APP.signed.bin> --key <KEY.pem>\n       \
                            --hw-version <N> --output <APP.zip>\n       \
                      bledfu package [OPTIONS] --build <FOLDER> --key <KEY.pem>\n       \
                            --output <APP.zip>",
    after_help = "A key that stays elsewhere signs with --sign-with, or in two steps: --digest-out writes what is to be \
                  signed, --signature-in takes the signature; give the same other options both times."
)]
pub struct PackageArgs {
    /// Image signed by imgtool: .bin, .hex, or in the nRF Connect SDK's dfu_application.zip.
    #[arg(long, value_name = "APP.signed.bin", required_unless_present = "build")]
    pub image: Option<PathBuf>,
    /// Build folder of west: its signed image, and the versions of its configuration.
    #[arg(long, value_name = "FOLDER", conflicts_with = "image")]
    pub build: Option<PathBuf>,
    /// Private key of the package (PEM); its public half with --sign-with and --signature-in.
    #[arg(long, value_name = "KEY.pem", required_unless_present = "digest_out")]
    pub key: Option<PathBuf>,
    /// Hardware version the image is for [default with --build: CONFIG_BLEDFU_HW_VERSION].
    #[arg(long, value_name = "N", value_parser = parse_u32, required_unless_present = "build")]
    pub hw_version: Option<u32>,
    /// Firmware version, a number or 1.2.3+4: a device refuses a version lower than its own [default with --build:
    /// CONFIG_BLEDFU_FW_VERSION; else the version in the image header].
    #[arg(long, value_name = "VERSION")]
    pub fw_version: Option<Version>,
    /// Take the firmware version from this VERSION file.
    #[arg(long, value_name = "FILE", conflicts_with = "fw_version")]
    pub version_file: Option<PathBuf>,
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
    /// Write the SHA-256 digest that is to be signed (32 bytes), and no package.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "signature_in", "sign_with", "output"])]
    pub digest_out: Option<PathBuf>,
    /// Take the signature of that digest from this file: DER, or r and s (64 bytes).
    #[arg(long, value_name = "FILE", conflicts_with = "sign_with")]
    pub signature_in: Option<PathBuf>,
    /// Command of the shell that signs: the digest comes on its standard input, the signature goes to its standard
    /// output (DER, or r and s).
    #[arg(long, value_name = "COMMAND")]
    pub sign_with: Option<String>,
    /// Package to write.
    #[arg(short, long, value_name = "APP.zip", required_unless_present = "digest_out")]
    pub output: Option<PathBuf>,
}

/// What is packed, and with which versions.
struct Contents {
    image: Vec<u8>,
    spec: PackageSpec,
    /// Where the firmware version comes from.
    fw_source: String,
}

/// `bledfu package`: writes a package for an image.
///
/// # Errors
/// One sentence about what could not be read, signed, packed or written.
pub fn cmd_package(args: &PackageArgs) -> Result<ExitCode> {
    let contents = contents(args)?;
    let Contents { image, spec, .. } = &contents;
    if let Some(path) = &args.digest_out {
        if spec.boot_validation == BootValidation::Ecdsa {
            bail!(
                "the boot validation {} is a second signature, which the digest would contain: use --sign-with",
                spec.boot_validation.name()
            );
        }
        let digest = spec.fields(&PackageSpec::padded(image), &DigestOnly)?.digest();
        std::fs::write(path, digest).with_context(|| format!("cannot write {}", path.display()))?;
        crate::outln!(
            "wrote {}: the SHA-256 that the package key must sign",
            path.display()
        )?;
        say_versions(&contents)?;
        return Ok(ExitCode::SUCCESS);
    }
    // The parser has asked for both.
    let (Some(key), Some(output)) = (&args.key, &args.output) else {
        bail!("--key and --output are needed");
    };
    let part = match (&args.signature_in, &args.sign_with) {
        (None, None) => {
            let private = crate::keys::open_private(key)?;
            refuse_known(args, &private.public())?;
            spec.part(image, &private)?
        }
        (Some(path), _) => {
            if spec.boot_validation == BootValidation::Ecdsa {
                bail!(
                    "the boot validation {} is a second signature: use --sign-with",
                    spec.boot_validation.name()
                );
            }
            signed_elsewhere(args, &contents, Made::open(path)?)?
        }
        (None, Some(command)) => signed_elsewhere(args, &contents, Command(command.clone()))?,
    };
    let package = write_parts(&[(PartKind::Application, part.clone())])?;
    std::fs::write(output, &package).with_context(|| format!("cannot write {}", output.display()))?;
    crate::outln!(
        "wrote {}: image {} bytes ({} of padding), init packet {} bytes",
        output.display(),
        part.firmware.len(),
        part.firmware.len() - image.len(),
        part.init.len(),
    )?;
    say_versions(&contents)?;
    Ok(ExitCode::SUCCESS)
}

/// The part, with signatures that are checked before anything is written: a wrong one is found here, not by a device.
fn signed_elsewhere(args: &PackageArgs, contents: &Contents, signer: impl Sign) -> Result<Part> {
    let Some(key) = &args.key else {
        bail!("--key is needed");
    };
    let public = crate::keys::open_public(key)?;
    refuse_known(args, &public)?;
    let checked = Checked {
        signer,
        key: public,
        key_file: key.display().to_string(),
    };
    Ok(contents.spec.part(&contents.image, &checked)?)
}

fn refuse_known(args: &PackageArgs, key: &Key) -> Result<()> {
    let file = args.key.as_deref().unwrap_or("the key".as_ref());
    match known_key(key).filter(|_| !args.trial) {
        Some(name) => bail!(
            "{} is {name}: anybody can sign with it; make one of your own (bledfu keys new), or say --trial",
            file.display()
        ),
        None => Ok(()),
    }
}

fn contents(args: &PackageArgs) -> Result<Contents> {
    let build = args.build.as_deref().map(BuildFolder::open).transpose()?;
    let path = match (&build, &args.image) {
        (Some(build), _) => build.image()?,
        (None, Some(image)) => image.clone(),
        (None, None) => bail!("--image or --build is needed"), // the parser has asked for one
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let shown = path.display();
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {shown}"))?;
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
    let (fw_version, fw_source) = fw_version(args, build.as_ref(), &image)?;
    let hw_version = match (args.hw_version, build.as_ref().and_then(BuildFolder::hw_version)) {
        (Some(version), _) | (None, Some(version)) => version,
        (None, None) => bail!("the build has no CONFIG_BLEDFU_HW_VERSION; give --hw-version"),
    };
    let stem = match &build {
        Some(build) => build.name(),
        None => {
            let stem = name
                .rsplit_once('.')
                .filter(|(_, end)| ["bin", "hex", "zip"].contains(end));
            stem.map_or(&*name, |(stem, _)| stem).to_owned()
        }
    };
    Ok(Contents {
        spec: PackageSpec {
            name: stem,
            hw_version,
            fw_version,
            sd_req: args.sd_req.clone(),
            boot_validation: args.boot_validation,
            debug: args.debug,
        },
        image,
        fw_source,
    })
}

/// The firmware version and where it comes from: an option, the configuration of the build, the image header.
fn fw_version(args: &PackageArgs, build: Option<&BuildFolder>, image: &[u8]) -> Result<(u32, String)> {
    if let Some(version) = args.fw_version {
        return Ok((version.0, String::new()));
    }
    if let Some(path) = &args.version_file {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let version = Version::in_file(&text).with_context(|| format!("cannot use {}", path.display()))?;
        return Ok((version.0, format!(" ({version}, from {})", path.display())));
    }
    if let Some(version) = build.and_then(BuildFolder::fw_version) {
        return Ok((version, " (CONFIG_BLEDFU_FW_VERSION)".to_owned()));
    }
    let version = Version::in_header(image)
        .context("give --fw-version or --version-file, because it cannot come from the image")?;
    Ok((version.0, format!(" ({version}, from the image header)")))
}

fn say_versions(contents: &Contents) -> Result<()> {
    let text = format!(
        "for hardware version {}, with firmware version {}{}",
        contents.spec.hw_version, contents.spec.fw_version, contents.fw_source
    );
    Ok(crate::outln!("{}", wrap(&text, 0))?)
}
