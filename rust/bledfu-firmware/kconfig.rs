// SPDX-License-Identifier: Apache-2.0
//! For build scripts (of this crate and of the boot image): turns Kconfig options into constants. `DOTCONFIG` is the
//! `.config` of the Zephyr build; without it, as on a PC, the defaults of `zephyr/Kconfig*` apply.

use std::{env, fs, path::Path, process::exit};

/// The options of a build, and the constants written so far.
pub struct Kconfig {
    config: Option<String>,
    constants: String,
}

impl Kconfig {
    pub fn read() -> Self {
        println!("cargo:rerun-if-env-changed=DOTCONFIG");
        let config = env::var("DOTCONFIG").ok().map(|path| {
            println!("cargo:rerun-if-changed={path}");
            fs::read_to_string(&path).unwrap_or_else(|error| {
                eprintln!("bledfu: cannot read the build's configuration {path}: {error}");
                exit(1)
            })
        });
        Self {
            config,
            constants: String::new(),
        }
    }

    /// The value of `CONFIG_BLEDFU_<name>`: `n` if it is not set, `default` outside a Zephyr build.
    fn value(&self, name: &str, default: &str) -> String {
        self.any(&format!("BLEDFU_{name}"), default)
    }

    /// The value of `CONFIG_<name>`.
    fn any(&self, name: &str, default: &str) -> String {
        let Some(config) = &self.config else {
            return default.to_owned();
        };
        let set = config.lines().find_map(|line| {
            line.strip_prefix("CONFIG_")?
                .strip_prefix(name)?
                .strip_prefix('=')
        });
        set.unwrap_or("n").to_owned()
    }

    /// Adds the constant `name`: a `bool`, or a number that is 0 when the option is not set.
    pub fn constant(&mut self, kind: &str, name: &str, default: &str) {
        let value = self.value(name, default);
        let value = match (kind, value.as_str()) {
            ("bool", on) => (on == "y").to_string(),
            (_, "n") => "0".to_owned(),
            (_, number) => number.to_owned(),
        };
        self.constants += &format!("pub const {name}: {kind} = {value};\n");
    }

    /// Adds the firmware version as packages count it: the option's, or that of the application's VERSION file, which
    /// the build passes as `BLEDFU_APP_VERSION` (`major.minor.patch.tweak`), or 1.
    #[allow(dead_code)] // The boot image does not use it.
    pub fn fw_version(&mut self) {
        println!("cargo:rerun-if-env-changed=BLEDFU_APP_VERSION");
        let version = match self.value("FW_VERSION", "1").as_str() {
            "n" | "0" => {
                let file = env::var("BLEDFU_APP_VERSION").unwrap_or_default();
                let parts: Vec<u32> = file.split('.').filter_map(|part| part.parse().ok()).collect();
                match parts[..] {
                    [major, minor, patch, tweak] => major << 24 | minor << 16 | patch << 8 | tweak,
                    _ => 1,
                }
                .max(1)
                .to_string()
            }
            number => number.to_owned(),
        };
        self.constants += &format!("pub const FW_VERSION: u32 = {version};\n");
    }

    /// Whether there are options at all; on a PC there are only their defaults.
    #[allow(dead_code)] // The boot image does not use it.
    pub fn is_zephyr_build(&self) -> bool {
        self.config.is_some()
    }

    /// Whether `CONFIG_<option>` is set.
    #[allow(dead_code)] // The boot image does not use it.
    pub fn is_set(&self, option: &str) -> bool {
        self.any(option, "n") == "y"
    }

    /// Adds a `bool` named `name`: whether Zephyr's `CONFIG_<option>` is set.
    #[allow(dead_code)] // The boot image does not use it.
    pub fn outside(&mut self, name: &str, option: &str) {
        let is_set = self.is_set(option);
        self.constants += &format!("pub const {name}: bool = {is_set};\n");
    }

    /// Adds a text named `name`: the value of `CONFIG_<option>` including its quotes; empty if it is not set.
    #[allow(dead_code)] // The boot image does not use it.
    pub fn text(&mut self, name: &str, option: &str) {
        let value = self.any(option, "n");
        let value = if value.starts_with('"') {
            value
        } else {
            "\"\"".to_owned()
        };
        self.constants += &format!("pub const {name}: &str = {value};\n");
    }

    /// Adds the choice of `zephyr/Kconfig.swap`.
    pub fn algorithm(&mut self) {
        let choice = [
            ("INSTALL_SWAP_OFFSET", "SwapOffset"),
            ("INSTALL_SWAP_MOVE", "SwapMove"),
            ("INSTALL_SWAP_SCRATCH", "SwapScratch"),
            ("INSTALL_OVERWRITE", "Overwrite"),
            ("INSTALL_COPY", "Copy"),
        ];
        let chosen = choice
            .iter()
            .find(|(option, _)| self.value(option, "n") == "y")
            .map_or("SwapOffset", |(_, algorithm)| algorithm);
        self.constants +=
            &format!("pub const ALGORITHM: bledfu_slot::Algorithm = bledfu_slot::Algorithm::{chosen};\n");
    }

    /// Writes `options.rs` into the build folder.
    pub fn write(self) {
        let folder = env::var("OUT_DIR").unwrap_or_else(|_| ".".to_owned());
        if let Err(error) = fs::write(Path::new(&folder).join("options.rs"), self.constants) {
            eprintln!("bledfu: cannot write the options: {error}");
            exit(1)
        }
    }
}
