/* SPDX-License-Identifier: Apache-2.0 */
/* The boot stage: Rust decides and installs (rust/boot), C starts what it is told to. */
#include <zephyr/kernel.h>
#include <zephyr/sys/printk.h>
#include <zephyr/sys/reboot.h>

#include <bledfu/bledfu.h>
#include "backoff.h"
#include "bledfu_shim.h"
#include "guard.h"
#include "jump.h"
#include "lock.h"
#include "report.h"

#define SETTLE_MS 10

static struct backoff backoff __noinit;

void bledfu_shim_boot_wait(void)
{
	k_busy_wait(SETTLE_MS * USEC_PER_MSEC);
}

static void leave_report(uint32_t done)
{
	struct boot_report report = {
		.magic = BOOT_REPORT_MAGIC,
		.action = done,
		.swap_type = done >> 8,
		.reason = done >> 16,
		.failed_records = done >> 24,
		.duration_ms = k_uptime_get_32(),
	};

	report.crc = boot_report_crc(&report);
	*BOOT_REPORT = report;
	printk("boot: action %u, swap type %u, reason %u, %u ms\n", report.action, report.swap_type, report.reason,
	       report.duration_ms);
}

/* Parts of both images may be in both slots; only another try can put them together. */
static FUNC_NORETURN void try_again(void)
{
	for (uint32_t left = backoff_next_s(&backoff) * (MSEC_PER_SEC / SETTLE_MS); left > 0; left--) {
		/* It would cut the wait short. */
		bledfu_shim_boot_feed();
		bledfu_shim_boot_wait();
	}
	sys_reboot(SYS_REBOOT_COLD);
}

int main(void)
{
	uint64_t outcome;
	uint32_t start;
	uint32_t done;

	guard();
	outcome = bledfu_rs_boot();
	start = (uint32_t)outcome;
	done = outcome >> 32;
	leave_report(done);
	if (start != 0) {
		backoff_end(&backoff);
		lock();
		jump(bledfu_shim_primary_address() + start);
	}
	if (((done >> 16) & 0xff) == BLEDFU_BOOT_FLASH) {
		try_again();
	}
	/* There is nothing to start, and another try would not change that: sleep until somebody programs an image. */
	(void)irq_lock();
	while (true) {
		k_cpu_idle();
	}
	return 0;
}
