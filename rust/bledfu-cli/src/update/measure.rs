// SPDX-License-Identifier: Apache-2.0
//! An update without output, for tables.

use anyhow::Result;
use bledfu_sim::demo;
use bledfu_sim::device::WithUnits;
use bledfu_sim::link::LinkParams;
use bledfu_sim::nor::Units;

use super::{build_setup, build_world, run, File, Update, UpdateArgs};

/// The cost of an update, in virtual time.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Of the image, in bytes.
    pub size: usize,
    /// From the first byte to the last, in ns.
    pub receive_ns: u64,
    /// From the last byte to the end of the checks, in ns.
    pub verify_ns: u64,
    /// From the reset to the jump, in ns.
    pub install_ns: u64,
    /// Radio time of the phone for the image alone, in ns.
    pub radio_ns: u64,
    /// Maximum rate of the link, in bytes per second.
    pub link_limit: f64,
}

/// The same update as [`cmd_update`](super::cmd_update), of the embedded demo package and without output.
///
/// # Errors
/// One sentence: why there was no update.
pub fn measure(args: &UpdateArgs) -> Result<Measured> {
    let client = args.client()?;
    let (setup, factory) = build_setup(args)?;
    let file = File::Package(demo::update_package()?);
    setup.with_units(Measure(Update {
        args,
        setup,
        factory,
        client,
        file,
    }))?
}

pub(super) struct Measure<'a>(pub(super) Update<'a>);

impl WithUnits for Measure<'_> {
    type Output = Result<Measured>;

    fn run<I: Units, X: Units>(self) -> Self::Output {
        let Update {
            args,
            setup,
            factory,
            client,
            file,
        } = self.0;
        let mut world = build_world::<I, X>(args, setup, &factory)?;
        let outcome = run(args, &mut world, &client, &file, &mut |_| ())?;
        let session = &outcome.session;
        let writes = file.image().len().div_ceil(world.link.payload()) as u64;
        let fragments = u64::from(LinkParams::fragments(world.link.payload()));
        let exchange = LinkParams::exchange_ns(LinkParams::packet(world.link.payload()), 0);
        Ok(Measured {
            radio_ns: writes * fragments * exchange,
            size: file.image().len(),
            receive_ns: session.received_ns - session.started_ns,
            verify_ns: session.verified_ns - session.received_ns,
            install_ns: outcome.boot.took_ns,
            link_limit: world.link.limit_bytes_per_s(),
        })
    }
}
