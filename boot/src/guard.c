/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zephyr arms its own stack guard when it switches threads, so never without CONFIG_MULTITHREADING, and its MPU driver is
 * 0.8 KB. Two fixed regions need no driver. A fault stops the boot stage; a watchdog that runs is not fed any more.
 */
#include <cmsis_core.h>
#include <zephyr/kernel.h>

#include "guard.h"

K_THREAD_STACK_DECLARE(z_main_stack, CONFIG_MAIN_STACK_SIZE);

#if defined(CONFIG_BLEDFU_BOOT_GUARD) && defined(CONFIG_CPU_CORTEX_M_HAS_SPLIM)

void guard(void)
{
	__set_PSPLIM((uint32_t)(uintptr_t)z_main_stack);
}

#elif defined(CONFIG_BLEDFU_BOOT_GUARD) && defined(CONFIG_ARMV7_M_ARMV8_M_MAINLINE)

/* The MPU wants a size that is a power of two, aligned to itself. A function whose frame is larger can step over it. */
#define GUARD_SIZE 1024

void guard(void)
{
	/* Of two regions the one with the higher number counts. The rest of memory stays as it is without an MPU. */
	ARM_MPU_SetRegion(ARM_MPU_RBAR(0, 0x20000000),
			  ARM_MPU_RASR(1, ARM_MPU_AP_FULL, 1, 0, 1, 1, 0, ARM_MPU_REGION_SIZE_512MB));
	ARM_MPU_SetRegion(ARM_MPU_RBAR(1, ROUND_UP((uintptr_t)z_main_stack, GUARD_SIZE)),
			  ARM_MPU_RASR(1, ARM_MPU_AP_NONE, 1, 0, 1, 1, 0, ARM_MPU_REGION_SIZE_1KB));
	ARM_MPU_Enable(MPU_CTRL_PRIVDEFENA_Msk);
}

#else

void guard(void)
{
}

#endif
