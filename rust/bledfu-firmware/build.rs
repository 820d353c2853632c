// SPDX-License-Identifier: Apache-2.0
//! Turns the Kconfig options of the Zephyr build into constants, and compares them with the features of this crate.

mod features;
mod kconfig;

use std::{env, process::exit};

/// Cargo tells build scripts of features by names like this.
fn has_feature(name: &str) -> bool {
    let name = name.to_uppercase().replace('-', "_");
    env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}

fn check_features(options: &kconfig::Kconfig) {
    let is_arm = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "arm");
    let mistakes = features::mistakes(|option| options.is_set(option), has_feature, is_arm);
    for mistake in &mistakes {
        eprintln!("bledfu: {mistake}");
    }
    if !mistakes.is_empty() {
        exit(1)
    }
}

fn main() {
    let mut options = kconfig::Kconfig::read();
    if options.is_zephyr_build() {
        check_features(&options);
    }
    options.constant("u32", "HW_VERSION", "52");
    options.fw_version();
    options.constant("bool", "FW_VERSION_PER_RELEASE", "n");
    options.constant("u32", "OBJECT_SIZE", "32768");
    options.constant("usize", "RING_SIZE", "8192");
    options.constant("u32", "MAX_IMG_SECTORS", "256");
    options.constant("u32", "MAX_ALIGN", "8");
    options.constant("bool", "CHECK_IMAGE_ADDRESS", "n");
    options.algorithm();
    options.constant("bool", "DOWNGRADE_ALLOWED", "n");
    options.constant("bool", "SAME_VERSION_ALLOWED", "y");
    options.constant("bool", "DEBUG_PACKAGES", "n");
    options.constant("bool", "SOFTDEVICE_IGNORE", "n");
    options.constant("bool", "SMP_PERMANENT", "n");
    options.constant("bool", "SMP_CONFIRM_ANYBODY", "n");
    options.constant("bool", "SMP_CONFIRM_NEVER", "n");
    options.constant("bool", "TRUST", "n");
    options.constant("bool", "BOOT_DOWNGRADE_VERSION", "n");
    options.constant("bool", "BOOT_DOWNGRADE_COUNTER", "n");
    options.outside("MCUBOOT_NO_DOWNGRADE", "MCUBOOT_BOOTLOADER_NO_DOWNGRADE");
    options.constant("u32", "RESET_DELAY_MS", "0");
    options.constant("u8", "LOG_LEVEL", "3");
    options.constant("usize", "SMP_FRAME_SIZE", "0");
    options.constant("u32", "SMP_FRAME_COUNT", "0");
    options.constant("bool", "SMP_FORWARD", "y");
    options.constant("bool", "BUTTONLESS_WITHOUT_BONDS", "y");
    options.constant("bool", "BUTTONLESS_WITH_BONDS", "n");
    options.constant("u32", "UPDATE_MODE_TIMEOUT_S", "120");
    options.constant("u32", "UPDATE_MODE_GONE_S", "10");
    options.text("NODE", "BT_DEVICE_NAME");
    options.text("MACHINE", "ARCH");
    options.text("PROCESSOR", "SOC");
    options.text("BOARD", "BOARD");
    options.write();
}
