// SPDX-License-Identifier: Apache-2.0
//! `bledfu keys`: makes keys, shows what is in a key file, and writes the public half in the forms that tools and devices
//! take. Also how every command opens a key file that may be encrypted.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{bail, Context, Result};
use bledfu_sim::keys::{
    known_key, public_key_der, public_key_from_pem_with, public_key_pem, read, swap_halves, KeyError,
    PemForm, SigningKey,
};
use bledfu_slot::Key;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::output::Format;

/// The environment variable with the password of encrypted keys.
pub const PASSWORD: &str = "BLEDFU_KEY_PASSWORD";

/// Shortest password of a new key, in characters. Who has the file can try as many as they like.
const SHORTEST_PASSWORD: usize = 8;

/// Options of `bledfu keys`.
#[derive(Args, Clone, Debug)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum KeysCommand {
    /// Create a private key (ECDSA P-256), for packages or for images.
    New(NewArgs),
    /// Show what a key file holds.
    Show(ShowArgs),
    /// Write the public half of a key.
    Public(PublicArgs),
}

#[derive(Args, Clone, Debug)]
struct NewArgs {
    /// The key file to create; one that exists is never overwritten.
    file: PathBuf,
    /// How the key is written.
    #[arg(long, value_enum, default_value = "pkcs8")]
    form: Form,
    /// Encrypt it with a password, which is asked for or taken from BLEDFU_KEY_PASSWORD.
    #[arg(long)]
    encrypt: bool,
    /// Also write the public half, as PEM.
    #[arg(long, value_name = "FILE.pub.pem")]
    public: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
struct ShowArgs {
    /// The key file: PEM, public or private.
    file: PathBuf,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
struct PublicArgs {
    /// The key file: PEM, public or private.
    file: PathBuf,
    /// The form of the public key.
    #[arg(long = "as", value_enum, default_value = "pem")]
    form: PublicForm,
    /// File to write instead of the standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Forms of a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// PRIVATE KEY, as imgtool writes it.
    Pkcs8,
    /// EC PRIVATE KEY, as nrfutil writes it; cannot be encrypted.
    Sec1,
}

/// Forms of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PublicForm {
    /// PUBLIC KEY (SubjectPublicKeyInfo), what the options of a device take.
    Pem,
    /// The same as DER.
    Der,
    /// X and Y in hexadecimal, big-endian.
    Hex,
    /// C source for MCUboot, as `imgtool getpub` writes it.
    Mcuboot,
    /// C source for the bootloader of the nRF5 SDK, as `nrfutil keys display --format code` writes it.
    Nrf5Sdk,
}

/// Runs `bledfu keys`.
///
/// # Errors
/// One sentence: what could not be read, decrypted or written.
pub fn cmd_keys(args: &KeysArgs) -> Result<ExitCode> {
    match &args.command {
        KeysCommand::New(args) => create(args)?,
        KeysCommand::Show(args) => show(args)?,
        KeysCommand::Public(args) => public(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn create(args: &NewArgs) -> Result<()> {
    let form = match args.form {
        Form::Pkcs8 => PemForm::Pkcs8,
        Form::Sec1 => PemForm::Sec1,
    };
    if args.encrypt && form == PemForm::Sec1 {
        return Err(KeyError::NoEncryption.into());
    }
    let password = match args.encrypt {
        true => Some(new_password()?),
        false => None,
    };
    let key = SigningKey::generate();
    let pem = key.to_pem(form, password.as_ref().map(|password| password.as_str()))?;
    write_private(&args.file, pem.as_bytes())?;
    crate::outln!(
        "wrote {}: a private key, {}",
        args.file.display(),
        name(form, args.encrypt)
    )?;
    if let Some(path) = &args.public {
        write_new(path, pem_of(&key.public())?.as_bytes(), OpenOptions::new())?;
        crate::outln!("wrote {}: its public half", path.display())?;
    }
    crate::outln!("fingerprint  {}", fingerprint(&key.public()))?;
    Ok(())
}

/// Only the owner may read a private key, from its first byte on. On Windows the rights of its folder hold.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "there are no modes"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    write_new(path, bytes, options)
}

fn write_new(path: &Path, bytes: &[u8], mut options: OpenOptions) -> Result<()> {
    let file = options.write(true).create_new(true).open(path);
    let mut file = match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} exists already, and keys are not overwritten", path.display())
        }
        file => file.with_context(|| format!("cannot create {}", path.display()))?,
    };
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}

fn show(args: &ShowArgs) -> Result<()> {
    let text = read(&args.file)?;
    let form = PemForm::of(&text);
    let key = open_public(&args.file)?;
    let kind = match form {
        Some((form, encrypted)) => format!("private, {}", name(form, encrypted)),
        None => "public".to_owned(),
    };
    let known = known_key(&key);
    let (x, y) = key.as_bytes().split_at(32);
    let format = Format::of(args.json);
    format.fact(
        &json!({
            "event": "key", "kind": "ecdsa-p256", "private": form.is_some(),
            "encrypted": form.is_some_and(|(_, encrypted)| encrypted),
            "x": hex(x), "y": hex(y), "fingerprint": fingerprint(&key), "known_as": known,
        }),
        format_args!(
            "key          ECDSA P-256, {kind}\nX            {}\nY            {}\nfingerprint  {}",
            hex(x),
            hex(y),
            fingerprint(&key)
        ),
    )?;
    if let Some(name) = known {
        format.text(format_args!(
            "warning      this is {name}: anybody can sign with it"
        ))?;
    }
    Ok(())
}

fn name(form: PemForm, encrypted: bool) -> &'static str {
    match (form, encrypted) {
        (PemForm::Pkcs8, false) => "PKCS#8",
        (PemForm::Pkcs8, true) => "PKCS#8, encrypted",
        (PemForm::Sec1, false) => "SEC1",
        (PemForm::Sec1, true) => "SEC1, encrypted",
    }
}

/// SHA-256 of the SubjectPublicKeyInfo: what `openssl pkey -pubout -outform DER | sha256sum` says, and MCUboot's key hash.
fn fingerprint(key: &Key) -> String {
    hex(&Sha256::digest(public_key_der(key).unwrap_or_default()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pem_of(key: &Key) -> Result<String> {
    public_key_pem(key).context("the key is no point of the curve P-256")
}

fn public(args: &PublicArgs) -> Result<()> {
    let key = open_public(&args.file)?;
    let der = || public_key_der(&key).context("the key is no point of the curve P-256");
    let bytes = match args.form {
        PublicForm::Pem => pem_of(&key)?.into_bytes(),
        PublicForm::Der => der()?,
        PublicForm::Hex => format!("{}\n", hex(key.as_bytes())).into_bytes(),
        PublicForm::Mcuboot => {
            let der = der()?;
            format!(
                "/* Public key for MCUboot. Made by bledfu. */\nconst unsigned char ecdsa_pub_key[] = {{\n{}}};\n\
                 const unsigned int ecdsa_pub_key_len = {};\n",
                c_bytes(&der),
                der.len()
            )
            .into_bytes()
        }
        PublicForm::Nrf5Sdk => {
            let mut xy = [0; 64];
            xy.copy_from_slice(key.as_bytes());
            format!(
                "/* Public key of packages, X and Y little-endian. Made by bledfu. */\n#include <stdint.h>\n\
                 #include \"compiler_abstraction.h\"\n\n\
                 __ALIGN(4) const uint8_t pk[64] =\n{{\n{}}};\n",
                c_bytes(&swap_halves(&xy))
            )
            .into_bytes()
        }
    };
    match &args.output {
        Some(path) => std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display())),
        None if args.form == PublicForm::Der => {
            bail!("DER is not text: name a file with --output")
        }
        None => Ok(crate::output::print(format_args!(
            "{}",
            String::from_utf8_lossy(&bytes)
        ))?),
    }
}

fn c_bytes(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(8) {
        let line: Vec<String> = line.iter().map(|byte| format!("0x{byte:02x},")).collect();
        let _ = writeln!(text, "    {}", line.join(" "));
    }
    text
}

/// The public key in a PEM file, public or private. The password of an encrypted one comes from [`PASSWORD`] or the
/// terminal.
///
/// # Errors
/// [`KeyError`], or that no password can be asked for.
pub fn open_public(path: &Path) -> Result<Key> {
    with_password(path, |name, text, password| {
        public_key_from_pem_with(name, text, password)
    })
}

/// The private key in a PEM file, opened as [`open_public`] does.
///
/// # Errors
/// Those of [`open_public`], [`KeyError::PublicOnly`] for a public key.
pub fn open_private(path: &Path) -> Result<SigningKey> {
    with_password(path, |name, text, password| {
        SigningKey::from_pem_with(name, text, password)
    })
}

fn with_password<T>(
    path: &Path,
    parse: impl Fn(&str, &str, Option<&str>) -> Result<T, KeyError>,
) -> Result<T> {
    let name = path.display().to_string();
    let text = Zeroizing::new(read(path)?);
    match parse(&name, &text, None) {
        Err(KeyError::Encrypted(_)) => {
            let password = match from_environment()? {
                Some(password) => password,
                None if std::io::stdin().is_terminal() => ask(&format!("Password of {name}: "))?,
                None => bail!(
                    "the key in {name} is encrypted: put its password into the environment variable {PASSWORD}, \
                     or run this at a terminal"
                ),
            };
            Ok(parse(&name, &text, Some(&password))?)
        }
        parsed => Ok(parsed?),
    }
}

fn new_password() -> Result<Zeroizing<String>> {
    let password = match from_environment()? {
        Some(password) => password,
        None if std::io::stdin().is_terminal() => {
            let password = ask("Password of the new key: ")?;
            if *ask("The same again: ")? != *password {
                bail!("the two passwords differ; no key was made");
            }
            password
        }
        None => bail!(
            "a key is encrypted with the password in the environment variable {PASSWORD}, or with one that is \
             typed at a terminal; here is neither"
        ),
    };
    if password.chars().count() < SHORTEST_PASSWORD {
        bail!("the password needs at least {SHORTEST_PASSWORD} characters; no key was made");
    }
    Ok(password)
}

fn from_environment() -> Result<Option<Zeroizing<String>>> {
    match std::env::var(PASSWORD) {
        Ok(password) => Ok(Some(Zeroizing::new(password))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => bail!("the password in {PASSWORD} is not UTF-8"),
    }
}

fn ask(prompt: &str) -> Result<Zeroizing<String>> {
    rpassword::prompt_password(prompt)
        .map(Zeroizing::new)
        .context("cannot read the password")
}
