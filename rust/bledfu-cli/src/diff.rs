// SPDX-License-Identifier: Apache-2.0
//! `bledfu diff`: makes packed updates, a few kilobytes each, from releases that are in the field to a new one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{bail, Context, Result};
use bledfu_patch::pack::{expand, pack, Options, Progress};
use bledfu_patch::RamRange;
use bledfu_sender::release::{Entry, Index};
use bledfu_sim::device::PRIMARY_START;
use bledfu_sim::keys::{known_key, SigningKey};
use bledfu_sim::package::PackageSpec;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::args::parse_u32;
use crate::kind::image_in;
use crate::output::{is_quiet, wrap, Format};
use crate::packed::{self, hex, Release};

/// From this share on, a packed update is not worth it: the full image is as good.
const WORTH: f64 = 0.8;
/// What is received in a second: Secure DFU and SMP on a good link, and a slow phone (doc/measurements.md, doc/small-updates.md).
const RATES: [(&str, f64); 3] = [
    ("Secure DFU", 37_700.0),
    ("SMP", 158_000.0),
    ("a slow phone", 10_000.0),
];

/// Options of `bledfu diff`.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "bledfu diff [OPTIONS] --from <OLD.signed.bin>... --to <NEW.signed.bin> --key <image.pem> --output <FILE>\n       \
                      bledfu diff [OPTIONS] --full --to <NEW.signed.bin> --key <image.pem> --output <FILE>"
)]
pub struct DiffArgs {
    /// Release in the field, as it was signed: .bin, .hex or a package. With several, --output is a folder.
    #[arg(long, value_name = "OLD.signed.bin", required_unless_present = "full")]
    pub from: Vec<PathBuf>,
    /// The new release.
    #[arg(long, value_name = "NEW.signed.bin")]
    pub to: PathBuf,
    /// Private key that signed the new release, and signs the packed update (PEM).
    #[arg(long, value_name = "image.pem")]
    pub key: PathBuf,
    /// Only compress the new release: for devices that run anything. With --from, beside the differences.
    #[arg(long)]
    pub full: bool,
    /// The processor's address of the slot from which both releases run.
    #[arg(
        long, value_name = "ADDRESS", value_parser = parse_u32,
        help = format!("The processor's address of the slot from which both releases run [default: from the image, or \
                        {PRIMARY_START:#x}]")
    )]
    pub slot_address: Option<u32>,
    /// RAM of the processor, as START:SIZE: makes the update a little smaller.
    #[arg(long, value_name = "START:SIZE", value_parser = parse_ram)]
    pub ram: Option<RamRange>,
    /// Do not expand the result again to compare it.
    #[arg(long = "no-verify", action = clap::ArgAction::SetFalse)]
    pub verify: bool,
    /// Write the update even if it is hardly smaller than the release.
    #[arg(long)]
    pub force: bool,
    /// Private key of the package, for an output that ends in .zip.
    #[arg(long, value_name = "KEY.pem", requires_all = ["hw_version", "fw_version"])]
    pub package_key: Option<PathBuf>,
    /// Hardware version in the package.
    #[arg(long, value_name = "N", value_parser = parse_u32)]
    pub hw_version: Option<u32>,
    /// Firmware version in the package.
    #[arg(long, value_name = "N", value_parser = parse_u32)]
    pub fw_version: Option<u32>,
    /// Allow keys whose private half is public, such as the demo keys.
    #[arg(long)]
    pub trial: bool,
    /// One JSON object for each update instead of text.
    #[arg(long)]
    pub json: bool,
    /// The file to write; with several updates, the folder for them and index.json.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

fn parse_ram(text: &str) -> Result<RamRange, String> {
    let parts = text.split_once(':');
    let (start, len) =
        parts.ok_or_else(|| format!("{text} is not START:SIZE, such as 0x20000000:0x40000"))?;
    Ok(RamRange {
        start: parse_u32(start)?,
        len: parse_u32(len)?,
    })
}

/// `bledfu diff`.
///
/// # Errors
/// One sentence about what could not be read, packed or written.
pub fn cmd_diff(args: &DiffArgs) -> Result<ExitCode> {
    let format = Format::of(args.json);
    let key = SigningKey::open(&args.key)?;
    refuse_known(&key, &args.key, args.trial)?;
    let new = open(&args.to)?;
    if !new.is_signed_by(&key.public()) {
        bail!(
            "{} is not signed with {}: a device would refuse what the update makes",
            args.to.display(),
            args.key.display()
        );
    }
    let address = slot_address(args, &new)?;
    let options = Options {
        base_addr: address,
        ram: args.ram.unwrap_or_default(),
        ..Options::default()
    };
    let mut old = Vec::new();
    for path in &args.from {
        let release = open(path)?;
        check_pair(&release, &new, address)
            .with_context(|| format!("cannot start from {}", path.display()))?;
        if old.iter().any(|other: &Release| other.digest == release.digest) {
            bail!(
                "{} has the digest of another --from: one update serves both",
                path.display()
            );
        }
        old.push(release);
    }
    let several = old.len() > 1 || args.full && !old.is_empty();
    let package = Package::of(args, several)?;
    if !several {
        let update = make(old.first(), &new, &options, &key, args)?;
        package.write(&args.output, &update.file)?;
        update.say(format, &args.output, old.first(), &new)?;
        return Ok(ExitCode::SUCCESS);
    }
    std::fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot create the folder {}", args.output.display()))?;
    let stem = stem(&args.to);
    let mut index = Index {
        to_version: new.header.version.to_string(),
        to_digest: hex(&new.digest),
        from: BTreeMap::new(),
        full: Entry {
            file: format!("{stem}-full.{}", package.extension()),
            size: 0,
            from_version: None,
        },
    };
    for release in &old {
        let update = make(Some(release), &new, &options, &key, args)?;
        let version = release.header.version.to_string();
        let twins = old
            .iter()
            .filter(|other| other.header.version == release.header.version)
            .count();
        let name = match twins {
            1 => format!("{stem}-from-{version}.{}", package.extension()),
            _ => format!(
                "{stem}-from-{version}-{}.{}",
                &hex(&release.digest)[..8],
                package.extension()
            ),
        };
        let path = args.output.join(&name);
        let size = package.write(&path, &update.file)?;
        update.say(format, &path, Some(release), &new)?;
        let entry = Entry {
            file: name,
            size,
            from_version: Some(version),
        };
        index.from.insert(hex(&release.digest), entry);
    }
    let path = args.output.join(&index.full.file);
    index.full.size = match args.full {
        true => {
            let update = make(None, &new, &options, &key, args)?;
            update.say(format, &path, None, &new)?;
            package.write(&path, &update.file)?
        }
        false => package.write(&path, &new.file)?,
    };
    let path = args.output.join("index.json");
    let text = serde_json::to_string_pretty(&index).context("cannot write the index")? + "\n";
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    format.text(format_args!(
        "wrote {}: which file for which running image",
        path.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn refuse_known(key: &SigningKey, path: &Path, trial: bool) -> Result<()> {
    match known_key(&key.public()).filter(|_| !trial) {
        Some(name) => bail!(
            "{} is {name}: anybody can sign with it; take your own key, or say --trial",
            path.display()
        ),
        None => Ok(()),
    }
}

fn stem(path: &Path) -> String {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let stem = [".bin", ".hex", ".zip"]
        .iter()
        .find_map(|end| name.strip_suffix(end));
    let stem = stem.unwrap_or(&name);
    stem.strip_suffix(".signed").unwrap_or(stem).to_owned()
}

fn open(path: &Path) -> Result<Release> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let image = image_in(&name, bytes).with_context(|| format!("cannot pack {shown}"))?;
    Release::read(image).with_context(|| format!("cannot pack {shown}"))
}

/// The address from which the new release runs.
fn slot_address(args: &DiffArgs, new: &Release) -> Result<u32> {
    let address = match (args.slot_address, new.fixed_address()) {
        (Some(said), Some(fixed)) if said != fixed => {
            bail!(
                "{} is linked for a slot at {fixed:#x}, not {said:#x}",
                args.to.display()
            )
        }
        (Some(said), _) => said,
        (None, Some(fixed)) => fixed,
        (None, None) => PRIMARY_START,
    };
    if !new.runs_at(address) {
        bail!(
            "{} cannot run from a slot at {address:#x}: its reset vector is elsewhere; --slot-address says where the slot is",
            args.to.display()
        );
    }
    Ok(address)
}

/// Whether a difference between two releases can be installed at all.
fn check_pair(old: &Release, new: &Release, address: u32) -> Result<()> {
    if old.digest == new.digest {
        bail!("it has the digest of the new release: a device that runs it needs no update");
    }
    if old.header.header_size != new.header.header_size {
        bail!(
            "its header has {} bytes, that of the new release {}: they were signed with different options",
            old.header.header_size,
            new.header.header_size
        );
    }
    if !old.runs_at(address) {
        bail!("it does not run from the slot at {address:#x}, as the new release does");
    }
    Ok(())
}

/// A packed update.
struct Update {
    file: Vec<u8>,
    stream: usize,
}

fn make(
    old: Option<&Release>,
    new: &Release,
    options: &Options,
    key: &SigningKey,
    args: &DiffArgs,
) -> Result<Update> {
    let base = old.map(Release::covered).unwrap_or_default();
    let bar = progress_bar();
    let packed = pack(base, &new.file, options, &mut |Progress { done, total }| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let packed = packed.with_context(|| format!("cannot pack {}", args.to.display()))?;
    if args.verify && expand(base, &packed.stream, &packed.pack).ok().as_deref() != Some(&new.file) {
        bail!("the packed update expands to something else than the release: this is a fault of bledfu, please report it");
    }
    let file = bledfu_sim::packed::wrap(&packed, old.map(|old| old.digest), &new.file, key)?.build();
    let share = file.len() as f64 / new.file.len() as f64;
    if share >= WORTH && !args.force {
        bail!(
            "the packed update has {:.0} % of the size of the release: send the full image (--force writes it anyway)",
            share * 100.0
        );
    }
    Ok(Update {
        file,
        stream: packed.stream.len(),
    })
}

fn progress_bar() -> ProgressBar {
    if is_quiet() || log::log_enabled!(log::Level::Info) {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("pack         {wide_bar} {percent} %")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(1).with_style(style)
}

impl Update {
    fn say(&self, format: Format, path: &Path, old: Option<&Release>, new: &Release) -> Result<()> {
        let (size, full) = (self.file.len(), new.file.len());
        let share = 100.0 * size as f64 / full as f64;
        let json = json!({
            "file": path.display().to_string(),
            "bytes": size,
            "stream_bytes": self.stream,
            "full_bytes": full,
            "percent": (share * 100.0).round() / 100.0,
            "from_digest": old.map(|old| hex(&old.digest)),
            "from_version": old.map(|old| old.header.version.to_string()),
            "to_digest": hex(&new.digest),
            "to_version": new.header.version.to_string(),
        });
        let named = |name: &str, value: String| wrap(&format!("{name:<12} {value}"), 13);
        let from = match old {
            Some(old) => format!("{} with digest {}", old.header.version, hex(&old.digest)),
            None => "any image: it is only compressed".to_owned(),
        };
        let seconds = RATES.map(|(who, rate)| {
            let seconds = |bytes: usize| bytes as f64 / rate;
            format!(
                "{:.1} s instead of {:.1} s by {who}",
                seconds(size),
                seconds(full)
            )
        });
        let expanding = full as f64 * packed::SECONDS_PER_BYTE;
        let lines = [
            format!("wrote {}", path.display()),
            named("from", from),
            named(
                "to",
                format!("{} with digest {}", new.header.version, hex(&new.digest)),
            ),
            named(
                "size",
                format!("{size} bytes, {share:.2} % of the {full} bytes of the release"),
            ),
            named("receiving", seconds.join(", ")),
            named("expanding", format!("about {expanding:.1} s on the device")),
        ];
        format.fact(&json, format_args!("{}", lines.join("\n")))?;
        Ok(())
    }
}

/// What is around an update.
struct Package(Option<(SigningKey, u32, u32)>);

impl Package {
    fn of(args: &DiffArgs, several: bool) -> Result<Self> {
        let is_zip = args
            .output
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("zip"));
        match (&args.package_key, args.hw_version, args.fw_version) {
            (Some(path), Some(hw_version), Some(fw_version)) if is_zip || several => {
                let key = SigningKey::open(path)?;
                refuse_known(&key, path, args.trial)?;
                Ok(Self(Some((key, hw_version, fw_version))))
            }
            (Some(_), ..) => bail!("--package-key is for an output that ends in .zip, or for several updates"),
            _ if is_zip && !several => bail!(
                "a package needs --package-key, --hw-version and --fw-version; or write a .bin, which SMP sends as it is"
            ),
            _ => Ok(Self(None)),
        }
    }

    const fn extension(&self) -> &'static str {
        match self.0 {
            Some(_) => "zip",
            None => "bin",
        }
    }

    /// Writes a file, in a package if there is a key for one; returns its size.
    fn write(&self, path: &Path, image: &[u8]) -> Result<usize> {
        let bytes = match &self.0 {
            Some((key, hw_version, fw_version)) => {
                PackageSpec::new(&stem(path), *hw_version, *fw_version).build(image, key)?
            }
            None => image.to_vec(),
        };
        std::fs::write(path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(bytes.len())
    }
}
