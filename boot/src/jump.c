/* SPDX-License-Identifier: Apache-2.0 */
#include <cmsis_core.h>
#include <zephyr/drivers/timer/system_timer.h>
#include <zephyr/kernel.h>

#include "jump.h"

void jump(uintptr_t vectors)
{
	uint32_t stack = ((const uint32_t *)vectors)[0];
	uint32_t entry = ((const uint32_t *)vectors)[1];

	__disable_irq();
	if (IS_ENABLED(CONFIG_SYSTEM_TIMER_HAS_DISABLE_SUPPORT)) {
		sys_clock_disable();
	}
	SysTick->CTRL = 0;
	for (size_t i = 0; i < ARRAY_SIZE(NVIC->ICER); i++) {
		NVIC->ICER[i] = UINT32_MAX;
		NVIC->ICPR[i] = UINT32_MAX;
	}
	SCB->ICSR = SCB_ICSR_PENDSTCLR_Msk | SCB_ICSR_PENDSVCLR_Msk;
	SCB->VTOR = vectors;
#if defined(CONFIG_BLEDFU_BOOT_GUARD) && defined(CONFIG_ARMV7_M_ARMV8_M_MAINLINE) && !defined(CONFIG_CPU_CORTEX_M_HAS_SPLIM)
	ARM_MPU_Disable();
	ARM_MPU_ClrRegion(0);
	ARM_MPU_ClrRegion(1);
#endif
#if defined(CONFIG_ARMV7_M_ARMV8_M_MAINLINE)
	__set_BASEPRI(0);
	__set_FAULTMASK(0);
#endif
#if defined(CONFIG_CPU_CORTEX_M_HAS_SPLIM)
	__set_MSPLIM(0);
	__set_PSPLIM(0);
#endif
	__DSB();
	/* All in one asm statement: there is no stack any more once CONTROL selects the other stack pointer. As after a reset,
	 * interrupts are unmasked, but none is enabled.
	 */
	__asm__ volatile("msr msp, %0\n\t"
			 "msr control, %1\n\t"
			 "isb\n\t"
			 "cpsie i\n\t"
			 "bx %2"
			 :
			 : "r"(stack), "r"(0), "r"(entry)
			 : "memory");
	CODE_UNREACHABLE;
}
