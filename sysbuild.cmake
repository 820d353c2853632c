# SPDX-License-Identifier: Apache-2.0
# The boot stage gets its partitions and options from the module (zephyr/sysbuild), as in any product.

# The radio of the nRF5340 is on its network core: build Zephyr's controller for it, with sysbuild/hci_ipc.conf.
if("${BOARD_QUALIFIERS}" MATCHES "nrf5340/cpuapp$")
  ExternalZephyrProject_Add(
    APPLICATION hci_ipc
    SOURCE_DIR ${ZEPHYR_BASE}/samples/bluetooth/hci_ipc
    BOARD ${BOARD}/nrf5340/cpunet
  )
endif()
