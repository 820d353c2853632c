/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLEDFU_BOOT_JUMP_H_
#define BLEDFU_BOOT_JUMP_H_

#include <stdint.h>
#include <zephyr/toolchain.h>

/* Starts the program whose vector table is at this address, with the processor in the same state as after a reset. */
FUNC_NORETURN void jump(uintptr_t vectors);

#endif
