# SPDX-License-Identifier: Apache-2.0
# MCUboot takes its partitions from the application's overlay, so that the two cannot differ. As an extra overlay: one that
# replaced MCUboot's own (sysbuild/mcuboot.overlay) would take its zephyr,code-partition away.
if(SB_CONFIG_BOOTLOADER_MCUBOOT)
  string(REPLACE "/" "_" board "${BOARD}${BOARD_QUALIFIERS}")
  set(conf ${CMAKE_CURRENT_LIST_DIR}/sysbuild/mcuboot_${board}.conf)
  if(NOT EXISTS ${conf})
    message(FATAL_ERROR "bledfu: how MCUboot reaches the external flash of this board belongs into "
                        "sysbuild/mcuboot_${board}.conf (doc/porting.md)")
  endif()
  set(mcuboot_EXTRA_DTC_OVERLAY_FILE
      ${CMAKE_CURRENT_LIST_DIR}/boards/${board}.overlay
      ${CMAKE_CURRENT_LIST_DIR}/sysbuild/code_partition.overlay
      CACHE INTERNAL "partitions of the application")
  set(mcuboot_EXTRA_CONF_FILE ${conf} CACHE INTERNAL "external flash, and what zephyr/Kconfig.swap says")
endif()
