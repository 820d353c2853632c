// SPDX-License-Identifier: Apache-2.0
//! Signatures made elsewhere: by a command in front of an HSM, or in two steps through files.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{bail, Context, Result};
use bledfu_sim::keys::{is_signed, signature_from, Sign, SignError};
use bledfu_slot::Key;

/// Longest output of a signing command that is looked at, in bytes. A DER signature has at most 72.
const LONGEST_OUTPUT: usize = 4096;

fn error(text: impl Into<String>) -> SignError {
    SignError(text.into())
}

/// Never signs: for the digest alone.
pub struct DigestOnly;

impl Sign for DigestOnly {
    fn sign_digest(&self, _: &[u8; 32]) -> Result<[u8; 64], SignError> {
        Err(error("there is no key to sign with"))
    }
}

/// A signature that was made before.
pub struct Made([u8; 64]);

impl Made {
    /// Reads a signature file.
    ///
    /// # Errors
    /// A sentence: not readable, or no signature.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        match signature_from(&bytes) {
            Some(signature) => Ok(Self(signature)),
            None => bail!(
                "{shown} is no ECDSA P-256 signature: DER is needed, or the 64 bytes of r and s; it has {} bytes",
                bytes.len()
            ),
        }
    }
}

impl Sign for Made {
    fn sign_digest(&self, _: &[u8; 32]) -> Result<[u8; 64], SignError> {
        Ok(self.0)
    }
}

/// A command of the shell. It may ask its user for a PIN, so it keeps the terminal and has no time limit.
pub struct Command(pub String);

impl Sign for Command {
    fn sign_digest(&self, digest: &[u8; 32]) -> Result<[u8; 64], SignError> {
        let mut child = std::process::Command::new("sh")
            .args(["-c", &self.0])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|cause| {
                error(format!(
                    "the shell that runs --sign-with cannot be started: {cause}"
                ))
            })?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that fails early does not read it; its exit code tells more than the broken pipe.
            let _ = stdin.write_all(digest);
        }
        let output = child
            .wait_with_output()
            .map_err(|cause| error(format!("the command of --sign-with is lost: {cause}")))?;
        if !output.status.success() {
            return Err(error(format!(
                "the command of --sign-with failed: {}",
                output.status
            )));
        }
        let bytes = output.stdout.get(..LONGEST_OUTPUT).unwrap_or(&output.stdout);
        signature_from(bytes).ok_or_else(|| {
            error(format!(
                "the command of --sign-with wrote {} bytes that are no ECDSA P-256 signature: DER is needed, or the \
                 64 bytes of r and s",
                output.stdout.len()
            ))
        })
    }
}

/// A signer whose signatures are checked with the public key that devices know.
pub struct Checked<S> {
    /// Who signs.
    pub signer: S,
    /// The public key.
    pub key: Key,
    /// Its file, for the error.
    pub key_file: String,
}

impl<S: Sign> Sign for Checked<S> {
    fn sign_digest(&self, digest: &[u8; 32]) -> Result<[u8; 64], SignError> {
        let signature = self.signer.sign_digest(digest)?;
        match is_signed(&self.key, digest, &signature) {
            true => Ok(signature),
            false => Err(error(format!(
                "the signature is not one of the key {} for this digest: another key signed, other options were \
                 given, or the image has changed since",
                self.key_file
            ))),
        }
    }
}
