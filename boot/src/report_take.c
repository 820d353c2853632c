/* SPDX-License-Identifier: Apache-2.0 */
/* The application's half of the report: it takes it once, before anything can use that RAM. */
#include <errno.h>
#include <zephyr/init.h>
#include <zephyr/kernel.h>

#include <bledfu/bledfu.h>
#include "report.h"

/* Without a place for it, magic stays 0. */
static struct boot_report taken;

#if defined(CONFIG_CPU_CORTEX_M) && DT_NODE_EXISTS(BOOT_REPORT_RAM)

static int take(void)
{
	taken = *BOOT_REPORT;
	BOOT_REPORT->magic = 0;
	if (taken.magic != BOOT_REPORT_MAGIC || taken.crc != boot_report_crc(&taken)) {
		taken.magic = 0;
	}
	return 0;
}

/* Not at the very start, so that tests/zephyr/boot_report can leave a report before. */
SYS_INIT(take, EARLY, 1);
#endif

int bledfu_boot_report(struct bledfu_boot_report *out)
{
	if (k_is_user_context()) {
		return -EPERM;
	}
	if (taken.magic == 0) {
		return -ENODATA;
	}
	out->action = taken.action;
	out->reason = taken.reason;
	out->swap_type = taken.swap_type;
	out->failed_records = taken.failed_records;
	out->duration_ms = taken.duration_ms;
	return 0;
}
