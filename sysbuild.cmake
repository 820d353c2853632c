# SPDX-License-Identifier: Apache-2.0
string(REPLACE "/" "_" board "${BOARD}${BOARD_QUALIFIERS}")

# MCUboot takes its partitions from the application's overlay, so that the two cannot differ. As an extra overlay: one that
# replaced MCUboot's own (sysbuild/mcuboot.overlay) would take its zephyr,code-partition away. How it reaches the external
# flash is in sysbuild/mcuboot_<board>.conf; a board with QSPI flash needs none of its own.
if(SB_CONFIG_BOOTLOADER_MCUBOOT)
  set(conf ${CMAKE_CURRENT_LIST_DIR}/sysbuild/mcuboot_${board}.conf)
  if(NOT EXISTS ${conf})
    set(conf ${CMAKE_CURRENT_LIST_DIR}/sysbuild/mcuboot_qspi_nor.conf)
  endif()
  set(mcuboot_EXTRA_DTC_OVERLAY_FILE
      ${CMAKE_CURRENT_LIST_DIR}/boards/${board}.overlay
      ${CMAKE_CURRENT_LIST_DIR}/sysbuild/code_partition.overlay
      CACHE INTERNAL "partitions of the application")
  set(mcuboot_EXTRA_CONF_FILE ${conf} CACHE INTERNAL "external flash, and what zephyr/Kconfig.swap says")
endif()

# The nRF5340's radio is on its network core: Zephyr's controller for it, with sysbuild/hci_ipc.conf.
if("${BOARD_QUALIFIERS}" MATCHES "nrf5340/cpuapp$")
  ExternalZephyrProject_Add(
    APPLICATION hci_ipc
    SOURCE_DIR ${ZEPHYR_BASE}/samples/bluetooth/hci_ipc
    BOARD ${BOARD}/nrf5340/cpunet
  )
endif()
