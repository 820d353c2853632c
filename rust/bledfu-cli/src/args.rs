// SPDX-License-Identifier: Apache-2.0
//! Options and values that several subcommands share.

use std::path::PathBuf;

use anyhow::{bail, Context, Result};
pub use bledfu_explain::values::{find_part, parse_sd_policy, parse_u32};
use bledfu_sim::cost::CryptoCost;
use bledfu_sim::demo;
use bledfu_sim::device::{demo_keys, image_digest, is_linked_for, Keys, Setup};
use bledfu_sim::parts;
use bledfu_slot::decide::Downgrade;
use bledfu_slot::layout::Algorithm;
use clap::builder::{BoolishValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::keys::open_public;

/// The install algorithms as option values.
pub fn algorithm_parser() -> impl TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(Algorithm::ALL.map(Algorithm::as_str)).map(|name| {
        let found = Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name);
        found.unwrap_or(Algorithm::SwapOffset) // // the parser accepts no other name
    })
}

/// Downgrade prevention as option values.
pub fn downgrade_parser() -> impl TypedValueParser<Value = Downgrade> {
    let values = [
        ("none", "Everything may be installed"),
        ("version", "No lower version"),
        ("security-counter", "No lower security counter"),
    ];
    let values = values.map(|(name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(values).map(|name| match name.as_str() {
        "version" => Downgrade::ByVersion,
        "security-counter" => Downgrade::BySecurityCounter,
        _ => Downgrade::Allowed,
    })
}

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CryptoArg {
    /// Portable Rust.
    Software,
    /// P-256 in Arm assembly.
    CortexM,
    /// Hardware.
    Platform,
}

/// Device options shared by `update` and `serve`.
#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// Flash of the processor; an unknown name lists the known ones.
    #[arg(long, default_value = parts::NRF52840.name, value_name = "PART")]
    pub internal: String,
    /// Write unit of the processor's flash: 1, 2, 4, 8, 16 or 32 bytes [default: the part's].
    #[arg(long, value_name = "BYTES", value_parser = parse_u32)]
    pub write_unit: Option<u32>,
    /// External flash part; an unknown name lists the known ones.
    #[arg(long, default_value = "mx25r6435f")]
    pub part: String,
    /// Key that checks packages, PEM, public or private [default: the demo key].
    #[arg(long, value_name = "FILE.pem")]
    pub public_key: Option<PathBuf>,
    /// Key that checks images, PEM, public or private [default: the demo key].
    #[arg(long, value_name = "FILE.pem")]
    pub image_key: Option<PathBuf>,
    /// Hardware version of the device.
    #[arg(long, default_value_t = 52)]
    pub hw_version: u32,
    /// Firmware version of the factory image, as in packages.
    #[arg(long, default_value_t = 1)]
    pub fw_version: u32,
    /// How to handle a package's SoftDevice requirement: `none` (there is no SoftDevice), `ignore`, or a list of
    /// accepted firmware ids, such as `0x100,0x123`.
    #[arg(long, default_value = "none", value_name = "POLICY")]
    pub sd_policy: String,
    /// Install algorithm of the boot stage.
    #[arg(long, default_value = Algorithm::Copy.as_str(), value_parser = algorithm_parser())]
    pub install: Algorithm,
    /// What computes hashes and signatures, for their times: portable Rust, P-256 in Arm assembly (the default of a
    /// Cortex-M4), or the CryptoCell of an nRF52840.
    #[arg(long, value_enum, default_value = "cortex-m")]
    pub crypto: CryptoArg,
    /// Which images may not replace the running one.
    #[arg(long, value_parser = downgrade_parser(), default_value = "version")]
    pub prevent_downgrade: Downgrade,
    /// Image in the primary slot of a new device [default: the demo image 1.0.0].
    #[arg(long, value_name = "FILE.bin")]
    pub primary: Option<PathBuf>,
    /// Secure DFU: largest data object in bytes, a multiple of the flash sector. Over a serial line at most 4096 [default:
    /// 32768].
    #[arg(long, value_name = "BYTES", value_parser = parse_u32)]
    pub object_size: Option<u32>,
    /// Whether to refuse images for another slot or processor, whose reset vector lies outside the primary slot: on or
    /// off [default: on if the image in the primary slot has its reset vector there; the demo's has none].
    #[arg(long, value_name = "on|off", value_parser = BoolishValueParser::new())]
    pub check_address: Option<bool>,
}

impl DeviceArgs {
    /// The device, and its factory image (trusted by its digest, whoever signed it).
    ///
    /// # Errors
    /// One sentence per option that cannot be used.
    pub fn setup(&self) -> Result<(Setup, Vec<u8>)> {
        let part = find_part(&self.part, false)?;
        let internal = find_part(&self.internal, true)?;
        let factory = match &self.primary {
            Some(path) => {
                std::fs::read(path).with_context(|| format!("cannot read the image {}", path.display()))?
            }
            None => demo::factory_image()?,
        };
        let Some(factory_digest) = image_digest(&factory) else {
            bail!("the image for the primary slot has no MCUboot header; sign it with imgtool first");
        };
        let [demo_package, demo_image] = demo_keys()?;
        let key = |path: &Option<PathBuf>, demo| path.as_deref().map_or(Ok(demo), open_public);
        let keys = Keys::new(
            key(&self.public_key, demo_package)?,
            key(&self.image_key, demo_image)?,
            vec![factory_digest],
        );
        let mut setup = Setup {
            part,
            keys,
            hw_version: self.hw_version,
            fw_version: self.fw_version,
            soft_device: parse_sd_policy(&self.sd_policy)?,
            algorithm: self.install,
            downgrade: self.prevent_downgrade,
            crypto: match self.crypto {
                CryptoArg::Software => CryptoCost::SOFTWARE,
                CryptoArg::CortexM => CryptoCost::CORTEX_M,
                CryptoArg::Platform => CryptoCost::PLATFORM,
            },
            ..Setup::demo().on(internal, self.write_unit.unwrap_or(internal.write_size))
        };
        setup.check_units().context("the option --write-unit")?;
        let sector = setup.external_sector_size();
        setup.object_size = self.object_size.unwrap_or(setup.object_size);
        if setup.object_size == 0 || !setup.object_size.is_multiple_of(sector) {
            bail!(
                "--object-size must be a multiple of {sector}, not {}",
                setup.object_size
            );
        }
        setup.check_address = self
            .check_address
            .unwrap_or_else(|| is_linked_for(&factory, setup.address()));
        if factory.len() > setup.layout().max_image_size() as usize {
            bail!(
                "the image for the primary slot has {} bytes, the slot takes {}",
                factory.len(),
                setup.layout().max_image_size()
            );
        }
        Ok((setup, factory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options of a device.
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        device: DeviceArgs,
    }

    fn setup(line: &str) -> Result<Setup, String> {
        let words = line.split_whitespace();
        let line = <Line as clap::Parser>::try_parse_from(std::iter::once("bledfu").chain(words));
        let device = line.map_err(|error| error.to_string())?.device;
        device
            .setup()
            .map(|(setup, _)| setup)
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_processor_sets_its_units_and_max_align() {
        let units = |line: &str| {
            let setup = setup(line).unwrap();
            let layout = setup.layout();
            let (inside, outside) = (layout.primary(), layout.secondary());
            let trailer = layout.primary_trailer();
            (
                [inside.write_size, outside.write_size, trailer.max_align()],
                [inside.sector_size, outside.sector_size],
            )
        };
        assert_eq!(units(""), ([4, 4, 8], [4096; 2]));
        assert_eq!(units("--internal nrf54l15"), ([16, 4, 16], [4096; 2]));
        assert_eq!(units("--internal STM32WBA52"), ([16, 4, 16], [8192; 2]));
        assert_eq!(units("--internal sim-flash"), ([1, 1, 8], [4096; 2]));
        assert_eq!(units("--write-unit 32"), ([32, 4, 32], [4096; 2]));
    }

    #[test]
    fn an_unsupported_unit_or_part_is_refused_with_the_supported_ones() {
        let refused = |line| setup(line).err().unwrap();
        assert_eq!(
            refused("--internal stm32wb55 --write-unit 4"),
            "the option --write-unit: the stm32wb55 is not written in units of 4 bytes here, but in units of 8, 16, 32"
        );
        assert!(refused("--internal mx25r6435f").contains("nrf54l15, stm32wb55"));
        assert!(refused("--part nrf54l15").contains("known are: mx25r6435f"));
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(parse_u32("52"), Ok(52));
        assert_eq!(parse_u32("0xFFFFFFFF"), Ok(u32::MAX));
        for bad in ["", "0x", "-1", "0x-1", "0x+1", "4294967296", "ten"] {
            assert!(parse_u32(bad).is_err(), "{bad}");
        }
    }
}
