// SPDX-License-Identifier: Apache-2.0
//! A build folder of west: where the signed image is, and what the configuration says about versions.
//!
//! ```text
//! build/zephyr/zephyr.signed.bin            one image
//! build/domains.yaml                        sysbuild: `default:` names the application's folder …
//! build/APP/zephyr/zephyr.signed.bin        … which holds it
//! ```
//! `.config` lies beside the image. The nRF Connect SDK's `dfu_application.zip` is not needed: it holds the same image.

use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};

use crate::args::parse_u32;

/// The folder of the application in a build.
pub struct BuildFolder {
    /// Folder with `zephyr.signed.bin`.
    zephyr: PathBuf,
    /// Name of the application.
    name: String,
    config: String,
}

impl BuildFolder {
    /// Finds the application in a build folder.
    ///
    /// # Errors
    /// A sentence: no build, or one without configuration.
    pub fn open(folder: &Path) -> Result<Self> {
        let shown = folder.display();
        let (app, name) = match std::fs::read_to_string(folder.join("domains.yaml")) {
            Ok(domains) => {
                let name = default_domain(&domains)
                    .with_context(|| format!("{shown}/domains.yaml names no default domain"))?;
                (folder.join(name), name.to_owned())
            }
            Err(_) => {
                let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
                let name = whole.file_name().unwrap_or_default().to_string_lossy();
                (folder.to_owned(), name.into_owned())
            }
        };
        let zephyr = app.join("zephyr");
        let config = zephyr.join(".config");
        let config = std::fs::read_to_string(&config).with_context(|| {
            format!(
                "{shown} is no finished build of west: cannot read {}",
                config.display()
            )
        })?;
        Ok(Self { zephyr, name, config })
    }

    /// The signed image.
    ///
    /// # Errors
    /// A sentence: the build did not sign.
    pub fn image(&self) -> Result<PathBuf> {
        let found = ["zephyr.signed.bin", "zephyr.signed.hex"]
            .map(|file| self.zephyr.join(file))
            .into_iter()
            .find(|path| path.is_file());
        match found {
            Some(path) => Ok(path),
            None => bail!(
                "{} has no zephyr.signed.bin: build with SB_CONFIG_BOOT_SIGNATURE_KEY_FILE set, or sign with imgtool \
                 and give --image",
                self.zephyr.display()
            ),
        }
    }

    /// The application's name, for the files in the package.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// `CONFIG_BLEDFU_HW_VERSION`.
    pub fn hw_version(&self) -> Option<u32> {
        self.number("CONFIG_BLEDFU_HW_VERSION")
    }

    /// `CONFIG_BLEDFU_FW_VERSION`; `None` where it is 0, which stands for the VERSION file, and so for the version in
    /// the image header.
    pub fn fw_version(&self) -> Option<u32> {
        self.number("CONFIG_BLEDFU_FW_VERSION")
            .filter(|version| *version != 0)
    }

    fn number(&self, option: &str) -> Option<u32> {
        let mut lines = self.config.lines().filter_map(|line| line.split_once('='));
        let (_, value) = lines.find(|(name, _)| *name == option)?;
        parse_u32(value.trim()).ok()
    }
}

/// The value of `default:` in a file that sysbuild writes.
fn default_domain(domains: &str) -> Option<&str> {
    let value = domains.lines().find_map(|line| line.strip_prefix("default:"))?;
    let name = value.trim().trim_matches(['"', '\'']);
    // A name of a folder beside the file, and nothing that leads elsewhere.
    (!name.is_empty() && !name.contains(['/', '\\']) && name != "..").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_domain_is_a_folder_of_the_build() {
        let yaml = "default: app\nbuild_dir: /b\ndomains:\n  - name: mcuboot\n";
        assert_eq!(default_domain(yaml), Some("app"));
        assert_eq!(default_domain("default: \"my app\"\n"), Some("my app"));
        for bad in ["", "default:\n", "default: ../x\n", "default: ..\n"] {
            assert_eq!(default_domain(bad), None, "{bad}");
        }
    }
}
