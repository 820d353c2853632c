/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLEDFU_BOOT_GUARD_H_
#define BLEDFU_BOOT_GUARD_H_

/* From here on, until jump(), a stack that overflows and code in RAM are faults, where the processor can tell. */
void guard(void);

#endif
