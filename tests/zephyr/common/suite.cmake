# SPDX-License-Identifier: Apache-2.0
# For a suite's CMakeLists.txt, before find_package(Zephyr): the settings of suite.conf, the binding of the test's flash;
# after project(): bledfu_wrap(<function> ...) gives the suite __wrap_<function> in place of a function between shim and Rust.
set(BLEDFU_COMMON ${CMAKE_CURRENT_LIST_DIR})
list(APPEND DTS_ROOT ${BLEDFU_COMMON})
# Nobody answers at QEMU's Bluetooth port either: Zephyr would have QEMU ask a server.
set(NO_QEMU_SERIAL_BT_SERVER 1)
list(PREPEND EXTRA_CONF_FILE ${BLEDFU_COMMON}/suite.conf)
if(BOARD MATCHES "^(mps2|qemu)")
  list(APPEND EXTRA_CONF_FILE ${BLEDFU_COMMON}/qemu.conf)
endif()
if(BOARD MATCHES "^qemu_riscv32")
  list(APPEND EXTRA_CONF_FILE ${BLEDFU_COMMON}/riscv/qemu.conf)
endif()

function(bledfu_wrap)
  foreach(name IN LISTS ARGN)
    zephyr_ld_options(-Wl,--wrap=${name})
  endforeach()
endfunction()

# The module's headers between C and Rust, which are no products' business.
macro(bledfu_suite)
  if(BOARD MATCHES "^qemu_riscv32")
    zephyr_include_directories(${BLEDFU_COMMON}/riscv)
  endif()
  target_include_directories(app PRIVATE ${ZEPHYR_BLEDFU_MODULE_DIR}/zephyr/shim ${BLEDFU_COMMON})
  target_sources(app PRIVATE ${ARGN})
endmacro()
