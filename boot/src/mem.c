/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory functions of the Arm run-time ABI, by those of the C library. Those that come with Rust are built for speed, and
 * a tenth of a kibibyte each would do: a kibibyte of the boot partition.
 */
#include <stddef.h>
#include <string.h>
#include <zephyr/toolchain.h>

#ifdef CONFIG_ARM

void __aeabi_memcpy(void *to, const void *from, size_t length)
{
	(void)memcpy(to, from, length);
}

void __aeabi_memmove(void *to, const void *from, size_t length)
{
	(void)memmove(to, from, length);
}

/* Not in the order of memset. */
void __aeabi_memset(void *to, size_t length, int byte)
{
	(void)memset(to, byte, length);
}

void __aeabi_memclr(void *to, size_t length)
{
	(void)memset(to, 0, length);
}

FUNC_ALIAS(__aeabi_memcpy, __aeabi_memcpy4, void);
FUNC_ALIAS(__aeabi_memcpy, __aeabi_memcpy8, void);
FUNC_ALIAS(__aeabi_memmove, __aeabi_memmove4, void);
FUNC_ALIAS(__aeabi_memmove, __aeabi_memmove8, void);
FUNC_ALIAS(__aeabi_memset, __aeabi_memset4, void);
FUNC_ALIAS(__aeabi_memset, __aeabi_memset8, void);
FUNC_ALIAS(__aeabi_memclr, __aeabi_memclr4, void);
FUNC_ALIAS(__aeabi_memclr, __aeabi_memclr8, void);

#endif
