/* SPDX-License-Identifier: Apache-2.0 */
/* Zephyr's Bluetooth host includes this header of the processor. QEMU's RISC-V machine has none. */
