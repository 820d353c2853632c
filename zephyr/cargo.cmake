# SPDX-License-Identifier: Apache-2.0
# Builds a Rust static library with cargo for the board of this Zephyr build.
#
# The core library of the target comes from rustup if it has the target, else cargo builds it from the sources beside
# a rustc (rustup component rust-src; Debian: rustc-web and rust-web-src).

# The Rust target of this board, in the parent scope's `out`.
function(bledfu_rust_target out)
  if(CONFIG_CPU_CORTEX_M4 OR CONFIG_CPU_CORTEX_M7)
    set(target thumbv7em-none-eabi)
  elseif(CONFIG_CPU_CORTEX_M33 OR CONFIG_CPU_CORTEX_M55)
    set(target thumbv8m.main-none-eabi)
  elseif(CONFIG_CPU_CORTEX_M3)
    set(target thumbv7m-none-eabi)
  elseif(CONFIG_RISCV AND NOT CONFIG_64BIT AND CONFIG_RISCV_ISA_EXT_M)
    # imac needs atomic instructions; without them, the crates use critical sections of their own words only.
    if(CONFIG_RISCV_ISA_EXT_A)
      set(target riscv32imac-unknown-none-elf)
    else()
      set(target riscv32imc-unknown-none-elf)
    endif()
  elseif(CONFIG_ARCH_POSIX AND CONFIG_64BIT)
    set(target ${CMAKE_HOST_SYSTEM_PROCESSOR}-unknown-linux-gnu)
  elseif(CONFIG_ARCH_POSIX)
    set(target i686-unknown-linux-gnu)
  else()
    message(FATAL_ERROR "bledfu: no Rust target is known for this board; add it to zephyr/cargo.cmake")
  endif()
  if(CONFIG_FP_HARDABI AND target MATCHES "eabi$")
    string(APPEND target hf)
  endif()
  set(${out} ${target} PARENT_SCOPE)
endfunction()

# Which rustc has, or can build, the core library of `target`.
function(bledfu_find_rust target out_environment out_arguments)
  foreach(rustc rustc /usr/bin/rustc)
    execute_process(COMMAND ${rustc} --print sysroot OUTPUT_VARIABLE sysroot RESULT_VARIABLE failed
                    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(failed)
      continue()
    endif()
    if(EXISTS ${sysroot}/lib/rustlib/${target}/lib)
      set(${out_environment} RUSTC=${rustc} PARENT_SCOPE)
      set(${out_arguments} "" PARENT_SCOPE)
      return()
    elseif(EXISTS ${sysroot}/lib/rustlib/src/rust/library/core AND NOT DEFINED environment)
      set(environment RUSTC=${rustc} RUSTC_BOOTSTRAP=1)
    endif()
  endforeach()
  if(NOT DEFINED environment)
    message(FATAL_ERROR "bledfu: there is no Rust core library for ${target}: `rustup target add ${target}`")
  endif()
  set(${out_environment} ${environment} PARENT_SCOPE)
  set(${out_arguments} -Zbuild-std=core PARENT_SCOPE)
endfunction()

# bledfu_cargo_library(<CMake target> <library> <folder of the crate>); the caller has set bledfu_write_size and bledfu_page_size.
function(bledfu_cargo_library name library folder)
  find_program(CARGO cargo REQUIRED)
  bledfu_rust_target(target)
  bledfu_find_rust(${target} environment arguments)
  message(STATUS "bledfu: Rust target ${target} ${arguments}")

  set(features "")
  if(CONFIG_BLEDFU_SMALL_SHA256)
    list(APPEND features small)
  endif()
  if(CONFIG_BLEDFU_CRYPTO_CORTEX_M)
    list(APPEND features cortex-m)
  endif()
  if(CONFIG_BLEDFU_CRYPTO_PSA)
    list(APPEND features psa)
  endif()
  if(NOT CONFIG_LOG OR CONFIG_BLEDFU_LOG_LEVEL EQUAL 0)
    list(APPEND features log-off)
  elseif(CONFIG_BLEDFU_LOG_LEVEL EQUAL 1)
    list(APPEND features log-error)
  elseif(CONFIG_BLEDFU_LOG_LEVEL EQUAL 2)
    list(APPEND features log-warn)
  endif()
  if(CONFIG_BLEDFU_LOG_NUMBERS)
    list(APPEND features log-numbers)
  endif()
  if(CONFIG_BLEDFU_SMALL_UPDATES)
    list(APPEND features small-updates)
  endif()
  list(JOIN features "," features)

  # No path of the machine that builds gets into the firmware: shorter, and the same everywhere.
  set(cargo_home $ENV{HOME}/.cargo)
  if(DEFINED ENV{CARGO_HOME})
    set(cargo_home $ENV{CARGO_HOME})
  endif()
  get_filename_component(crates ${folder}/.. ABSOLUTE)
  # LLVM's own threshold for optimisation for size (5) leaves calls that take more code than what they call.
  set(flags "-Cllvm-args=-inline-threshold=20 --remap-path-prefix=${crates}/= --remap-path-prefix=${cargo_home}/registry/src/=")

  # Of the application's VERSION file, if it has one: see BLEDFU_FW_VERSION.
  set(version "")
  if(DEFINED APP_VERSION_MAJOR)
    set(version ${APP_VERSION_MAJOR}.${APP_VERSION_MINOR}.${APP_PATCHLEVEL}.${APP_VERSION_TWEAK})
  endif()

  set(target_dir ${CMAKE_CURRENT_BINARY_DIR}/rust)
  set(archive ${target_dir}/${target}/release/lib${library}.a)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${folder}/../bledfu-*/src/*.rs ${folder}/../bledfu-*/build.rs
       ${folder}/../bledfu-*/Cargo.toml ${folder}/../bledfu-firmware/kconfig.rs ${folder}/build.rs ${folder}/src/*.rs)
  add_custom_command(
    OUTPUT ${archive}
    COMMAND ${CMAKE_COMMAND} -E env --unset=CARGO_TARGET_DIR "RUSTFLAGS=${flags}" ${environment} DOTCONFIG=${DOTCONFIG}
            BLEDFU_APP_VERSION=${version} BLEDFU_WRITE_SIZE=${bledfu_write_size}
            BLEDFU_PAGE_SIZE=${bledfu_page_size} ${CARGO} build --release --locked --quiet --target ${target} --target-dir ${target_dir}
            --features "${features}" ${arguments}
    DEPENDS ${sources} ${folder}/Cargo.toml ${folder}/Cargo.lock ${DOTCONFIG}
    WORKING_DIRECTORY ${folder}
    COMMENT "Building lib${library}.a for ${target}"
    USES_TERMINAL
    VERBATIM
  )
  add_custom_target(${name}_build DEPENDS ${archive})
  add_library(${name} STATIC IMPORTED GLOBAL)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION ${archive})
  add_dependencies(${name} ${name}_build)
endfunction()
