// SPDX-License-Identifier: Apache-2.0
//! Turns the Kconfig options of the boot image into constants.

#[path = "../bledfu-firmware/kconfig.rs"]
mod kconfig;

fn main() {
    let mut options = kconfig::Kconfig::read();
    options.constant("u32", "MAX_IMG_SECTORS", "256");
    options.constant("u32", "MAX_ALIGN", "8");
    options.algorithm();
    options.constant("bool", "TRUST", "n");
    options.constant("bool", "CHECK_IMAGE_ADDRESS", "y");
    options.constant("bool", "BOOT_SIGNATURE", "y");
    options.constant("bool", "BOOT_VALIDATE_PRIMARY", "y");
    options.constant("bool", "BOOT_TRAILER_MCUBOOT_2_2", "n");
    options.constant("bool", "BOOT_DOWNGRADE_VERSION", "n");
    options.constant("bool", "BOOT_DOWNGRADE_COUNTER", "n");
    options.write();
}
