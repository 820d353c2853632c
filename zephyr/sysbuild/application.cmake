# SPDX-License-Identifier: Apache-2.0
# The application behind bledfu's boot stage is built as one behind MCUboot: room for the header, signed by imgtool. Which key
# signs, Zephyr's own script has set.
set_config_bool(${ZCMAKE_APPLICATION} CONFIG_BOOTLOADER_MCUBOOT y)
set_config_bool(${ZCMAKE_APPLICATION} CONFIG_MCUBOOT_GENERATE_UNSIGNED_IMAGE n)
if(SB_CONFIG_BLEDFU_INSTALL_OVERWRITE)
  set_config_bool(${ZCMAKE_APPLICATION} CONFIG_MCUBOOT_BOOTLOADER_MODE_OVERWRITE_ONLY y)
endif()
