// SPDX-License-Identifier: Apache-2.0
//! Turns the Kconfig options of the Zephyr build into constants. `DOTCONFIG` is that build's `.config`; without it,
//! as on a PC, the defaults of `zephyr/Kconfig` hold.

use std::{env, fs, path::Path, process::exit};

fn main() {
    println!("cargo:rerun-if-env-changed=DOTCONFIG");
    println!("cargo:rerun-if-changed=build.rs");
    let config = env::var("DOTCONFIG").map(|path| {
        println!("cargo:rerun-if-changed={path}");
        fs::read_to_string(&path).unwrap_or_else(|error| {
            eprintln!("bledfu: cannot read the build's configuration {path}: {error}");
            exit(1)
        })
    });
    let config = config.ok();
    let value = |name: &str, default: &'static str| -> String {
        let Some(config) = &config else {
            return default.to_owned();
        };
        let set = config.lines().find_map(|line| {
            line.strip_prefix("CONFIG_BLEDFU_")?
                .strip_prefix(name)?
                .strip_prefix('=')
        });
        set.unwrap_or("n").to_owned()
    };
    let mut constants = String::new();
    let mut constant = |kind: &str, name: &str, default: &'static str| {
        let value = value(name, default);
        let value = match (kind, value.as_str()) {
            ("bool", on) => (on == "y").to_string(),
            (_, "n") => "0".to_owned(),
            (_, number) => number.to_owned(),
        };
        constants += &format!("pub const {name}: {kind} = {value};\n");
    };
    constant("u32", "HW_VERSION", "52");
    constant("u32", "FW_VERSION", "1");
    constant("u32", "OBJECT_SIZE", "4096");
    constant("usize", "RING_SIZE", "4315");
    constant("u32", "MAX_IMG_SECTORS", "256");
    constant("u32", "MAX_ALIGN", "8");
    constant("bool", "INSTALL_OVERWRITE", "n");
    constant("bool", "DOWNGRADE_ALLOWED", "n");
    constant("bool", "SAME_VERSION_ALLOWED", "y");
    constant("bool", "DEBUG_PACKAGES", "n");
    constant("bool", "SOFTDEVICE_IGNORE", "n");
    constant("u32", "RESET_DELAY_MS", "0");
    constant("u8", "LOG_LEVEL", "3");

    let folder = env::var("OUT_DIR").unwrap_or_else(|_| ".".to_owned());
    if let Err(error) = fs::write(Path::new(&folder).join("options.rs"), constants) {
        eprintln!("bledfu: cannot write the options: {error}");
        exit(1)
    }
}
