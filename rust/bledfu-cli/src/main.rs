// SPDX-License-Identifier: Apache-2.0
//! The `bledfu` command line.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use bledfu_cli::output::{self, OutputError};
use bledfu_cli::{bench, cut, device_log, diff, inspect, install, keys, package, replay, send, update};
use bledfu_sim::power::thread_now_ns;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// Firmware update over Bluetooth LE into external flash, on a PC: a simulated device, phone and link, and tools.
#[derive(Parser)]
#[command(name = "bledfu", version, propagate_version = true, max_term_width = 80)]
struct Cli {
    /// More log output: -v events, -vv every request and answer, -vvv every flash operation. RUST_LOG overrides it.
    #[arg(short, long, action = clap::ArgAction::Count, global = true, display_order = 900)]
    verbose: u8,
    /// Print nothing but errors; the exit code is the result.
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = 901)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One whole update in virtual time: receive, verify, install, confirm.
    Update(update::UpdateArgs),
    /// The device in real time, with transports for real clients; killing the process is a power cut.
    #[cfg(unix)]
    Serve(bledfu_cli::serve::ServeArgs),
    /// Send an update to a real device, and wait until the new version runs.
    Send(send::SendArgs),
    /// Explain an image, a slot, a package, an init packet or a whole device, field by field.
    Inspect(inspect::InspectArgs),
    /// Explain a log of an update that went wrong, and play it to the simulated device.
    Replay(replay::ReplayArgs),
    /// Show the log of a device that logs numbers (CONFIG_BLEDFU_LOG_NUMBERS) as sentences.
    Log(device_log::LogArgs),
    /// Create a package for a signed image.
    Package(package::PackageArgs),
    /// Create keys, show them, and write their public halves.
    Keys(keys::KeysArgs),
    /// Make a packed update: what a new release has in common with an old one is not sent.
    Diff(diff::DiffArgs),
    /// One boot on slot files, written back: to compare with another boot stage.
    Install(install::InstallArgs),
    /// Cut the power at every flash operation of every kind of install.
    Cut(cut::CutArgs),
    /// What an install costs: operations per page, simulated time.
    Bench(bench::BenchArgs),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write manual pages into a folder, one per command.
    Man {
        /// The folder; created if it does not exist.
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help is printed in the same way, and may also meet a full disk or a closed pipe.
            return match error.print().map_err(OutputError::from) {
                Ok(()) => ExitCode::from(error.exit_code() as u8),
                Err(failed) => output::failed(&failed.into()),
            };
        }
    };
    output::set_quiet(cli.quiet);
    start_log(&cli);
    run(&cli.command).unwrap_or_else(|error| output::failed(&error))
}

fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Update(args) => update::cmd_update(args),
        #[cfg(unix)]
        Command::Serve(args) => bledfu_cli::serve::cmd_serve(args),
        Command::Send(args) => send::cmd_send(args),
        Command::Inspect(args) => inspect::cmd_inspect(args),
        Command::Log(args) => device_log::cmd_log(args),
        Command::Package(args) => package::cmd_package(args),
        Command::Replay(args) => replay::cmd_replay(args),
        Command::Keys(args) => keys::cmd_keys(args),
        Command::Diff(args) => diff::cmd_diff(args),
        Command::Install(args) => install::cmd_install(args),
        Command::Cut(args) => cut::cmd_cut(args),
        Command::Bench(args) => bench::cmd_bench(args),
        Command::Completions { shell } => completions(*shell),
        Command::Man { folder } => man(folder),
    }
}

fn start_log(cli: &Cli) {
    let level = match cli.verbose {
        _ if cli.quiet => "error",
        // What the played target warns of is in the report.
        0 if matches!(cli.command, Command::Replay(_)) => "error",
        // Each of a million devices would say that its power was cut.
        0 if matches!(cli.command, Command::Cut(_)) => "off",
        // A lost link is told by `send` itself, not by each layer below it.
        0 if matches!(cli.command, Command::Send(_)) => {
            "warn,bluez_async=error,btleplug=error,trouble_host=error"
        }
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let mut log = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level));
    // `serve` and `send` log wall-clock time; all other commands virtual time, which starts when the device is switched on.
    match cli.command {
        #[cfg(unix)]
        Command::Serve(_) => log.format_timestamp_millis(),
        Command::Send(_) => log.format_timestamp_millis(),
        _ => log.format(|out, record| {
            let style = out.default_level_style(record.level());
            let level = record.level();
            let seconds = thread_now_ns().unwrap_or_default() as f64 / 1e9;
            writeln!(
                out,
                "{seconds:10.4} s {style}{level:<5}{style:#} {}: {}",
                record.target(),
                record.args()
            )
        }),
    };
    log.init();
}

fn completions(shell: Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bledfu", &mut script);
    output::print(format_args!("{}", String::from_utf8_lossy(&script)))?;
    Ok(ExitCode::SUCCESS)
}

fn man(folder: &Path) -> Result<ExitCode> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("cannot write manual pages into {}", folder.display()))?;
    bledfu_cli::outln!("wrote the manual pages into {}", folder.display())?;
    Ok(ExitCode::SUCCESS)
}
