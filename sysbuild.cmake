# SPDX-License-Identifier: Apache-2.0
string(REPLACE "/" "_" board "${BOARD}${BOARD_QUALIFIERS}")

# MCUboot takes its partitions from the application's overlay, so the two cannot differ. It is an extra overlay: a file
# sysbuild/mcuboot.overlay would replace MCUboot's own, and with it zephyr,code-partition. The options for the external flash are in
# sysbuild/mcuboot_<board>.conf; a board with QSPI flash needs no such file.
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

# The radio of the nRF5340 is on its network core: build Zephyr's controller for it, with sysbuild/hci_ipc.conf.
if("${BOARD_QUALIFIERS}" MATCHES "nrf5340/cpuapp$")
  ExternalZephyrProject_Add(
    APPLICATION hci_ipc
    SOURCE_DIR ${ZEPHYR_BASE}/samples/bluetooth/hci_ipc
    BOARD ${BOARD}/nrf5340/cpunet
  )
endif()
