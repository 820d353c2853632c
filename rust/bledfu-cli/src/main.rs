// SPDX-License-Identifier: Apache-2.0
//! The `bledfu` command line.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use bledfu_cli::{bench, cut, inspect, install, package, serve, update};
use clap::{Parser, Subcommand};

/// Firmware update over Bluetooth LE into external flash, on a PC: a simulated device, phone and link, and tools.
#[derive(Parser)]
#[command(name = "bledfu", version, propagate_version = true)]
struct Cli {
    /// More of the log: -v information, -vv debugging, -vvv every flash operation. RUST_LOG overrides it.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One whole update in virtual time: receive, verify, install, confirm.
    Update(update::UpdateArgs),
    /// The device in real time, with doors for real clients; killing the process is a power cut.
    Serve(serve::ServeArgs),
    /// Explain an image, a slot, a package or an init packet, field by field.
    Inspect(inspect::InspectArgs),
    /// Make a package around a signed image.
    Package(package::PackageArgs),
    /// One boot on slot files, written back: to compare with another boot stage.
    Install(install::InstallArgs),
    /// Cut the power at every flash operation of every kind of install.
    Cut(cut::CutArgs),
    /// What an install costs: operations per page, simulated time.
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match cli.verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        .format_timestamp_millis()
        .init();
    let outcome = match &cli.command {
        Command::Update(args) => update::cmd_update(args),
        Command::Serve(args) => serve::cmd_serve(args),
        Command::Inspect(args) => inspect::cmd_inspect(args),
        Command::Package(args) => package::cmd_package(args),
        Command::Install(args) => install::cmd_install(args),
        Command::Cut(args) => cut::cmd_cut(args),
        Command::Bench(args) => bench::cmd_bench(args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
