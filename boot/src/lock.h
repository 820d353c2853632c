/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLEDFU_BOOT_LOCK_H_
#define BLEDFU_BOOT_LOCK_H_

/* Write-protects the boot stage and the trust area until the next reset, where the processor can. */
void lock(void);

#endif
