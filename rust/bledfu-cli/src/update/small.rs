// SPDX-License-Identifier: Apache-2.0
//! `bledfu update --small`: the same release as a packed update and as a full image, side by side.

use std::process::ExitCode;

use anyhow::{bail, Result};
use bledfu_sim::demo::releases;
use serde_json::json;

use super::measure::{Measure, Measured};
use super::{build_setup, File, Protocol, Update, UpdateArgs};
use crate::output::Format;

/// Runs both updates and prints what they cost.
///
/// # Errors
/// One sentence: why there was no update.
pub(super) fn run(args: &UpdateArgs) -> Result<ExitCode> {
    let format = Format::of(args.json);
    let pair = releases(None)?;
    let base = pair.old.len();
    let measure = |is_small: bool| -> Result<Measured> {
        let (setup, _) = build_setup(args)?;
        if setup.check_address {
            bail!("--small has releases of its own: leave out the options that name others");
        }
        let setup = bledfu_sim::device::Setup {
            keys: pair.keys,
            ..setup
        };
        let package = if is_small { &pair.small } else { &pair.full };
        let file = match args.protocol {
            Protocol::SecureDfu => File::Package(package.clone()),
            Protocol::Smp => File::Image(package.application.firmware.clone()),
        };
        setup.with_units(Measure(Update {
            args,
            setup,
            factory: pair.old.clone(),
            client: args.client()?,
            file,
        }))?
    };
    let (small, full) = (measure(true)?, measure(false)?);
    let seconds = |ns: u64| ns as f64 / 1e9;
    format.text(format_args!(
        "two releases of {base} and {} bytes; the packed update has {:.2} % of the second\n",
        full.size,
        100.0 * small.size as f64 / full.size as f64
    ))?;
    format.text(format_args!(
        "{:<28} {:>14} {:>14}",
        "", "packed update", "full image"
    ))?;
    let rows: [(&str, f64, f64, usize, &str); 5] = [
        ("sent", small.size as f64, full.size as f64, 0, "bytes"),
        (
            "radio time of the phone",
            seconds(small.radio_ns),
            seconds(full.radio_ns),
            2,
            "s",
        ),
        (
            "receive",
            seconds(small.receive_ns),
            seconds(full.receive_ns),
            2,
            "s",
        ),
        (
            "expand and verify",
            seconds(small.verify_ns),
            seconds(full.verify_ns),
            2,
            "s",
        ),
        (
            "install",
            seconds(small.install_ns),
            seconds(full.install_ns),
            2,
            "s",
        ),
    ];
    for (name, small, full, digits, unit) in rows {
        format.fact(
            &json!({ "event": "compared", "what": name, "small": small, "full": full, "unit": unit }),
            format_args!("{name:<28} {small:>14.digits$} {full:>14.digits$} {unit}"),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
