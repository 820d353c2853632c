# SPDX-License-Identifier: Apache-2.0
# With bledfu's boot stage the application is built as for MCUboot: with room for the header, and signed by imgtool. Zephyr's
# own script sets the key.
set_config_bool(${ZCMAKE_APPLICATION} CONFIG_BOOTLOADER_MCUBOOT y)
set_config_bool(${ZCMAKE_APPLICATION} CONFIG_MCUBOOT_GENERATE_UNSIGNED_IMAGE n)
if(SB_CONFIG_BLEDFU_INSTALL_OVERWRITE)
  set_config_bool(${ZCMAKE_APPLICATION} CONFIG_MCUBOOT_BOOTLOADER_MODE_OVERWRITE_ONLY y)
endif()
