/* SPDX-License-Identifier: Apache-2.0 */
/* The application's half of the report: taken once, before anything can use that RAM, and shown in the log. */
#include <errno.h>
#include <zephyr/init.h>
#include <zephyr/logging/log.h>

#include <bledfu/bledfu.h>
#include "report.h"

LOG_MODULE_DECLARE(bledfu, CONFIG_BLEDFU_LOG_LEVEL);

#if defined(CONFIG_CPU_CORTEX_M) && DT_NODE_EXISTS(BOOT_REPORT_RAM)

static struct boot_report taken;

static int take(void)
{
	taken = *BOOT_REPORT;
	BOOT_REPORT->magic = 0;
	if (taken.magic != BOOT_REPORT_MAGIC || taken.crc != boot_report_crc(&taken)) {
		taken.magic = 0;
	}
	return 0;
}

SYS_INIT(take, EARLY, 0);

static int show(void)
{
	static const char *const done[] = {
		"nothing to do",         "installed an update",
		"finished an install",   "repaired slot 0",
		"refused an update",     "left an update alone",
		"erased a stray request",
	};
	static const char *const why[] = {
		"",
		": a flash failed",
		": no image",
		": too large",
		": damaged",
		": not signed with a known key",
		": older than what runs",
	};

	if (taken.magic != 0 && taken.action < ARRAY_SIZE(done) && taken.reason < ARRAY_SIZE(why)) {
		LOG_INF("boot stage: %s%s%s (%u ms)", taken.swap_type == 4 ? "way back: " : "", done[taken.action],
			why[taken.reason], taken.duration_ms);
	}
	return 0;
}

SYS_INIT(show, APPLICATION, 0);

int bledfu_boot_report(struct bledfu_boot_report *out)
{
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

#else

int bledfu_boot_report(struct bledfu_boot_report *out)
{
	return -ENODATA;
}

#endif
