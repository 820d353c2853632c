/* SPDX-License-Identifier: Apache-2.0 */
/* Logs what bledfu's boot stage did before it started this image. */
#include <zephyr/init.h>
#include <zephyr/logging/log.h>
#include <zephyr/sys/util.h>

#include <bledfu/bledfu.h>

LOG_MODULE_DECLARE(app, LOG_LEVEL_INF);

static const char *const done[] = {
	[BLEDFU_BOOT_NOTHING] = "nothing to do",
	[BLEDFU_BOOT_INSTALLED] = "installed an image",
	[BLEDFU_BOOT_RESUMED] = "finished an install that a reset had interrupted",
	[BLEDFU_BOOT_REPAIRED] = "slot 0 was damaged and is repaired with another image",
	[BLEDFU_BOOT_REJECTED] = "refused an update and erased it",
	[BLEDFU_BOOT_SKIPPED] = "left an update for the next start",
	[BLEDFU_BOOT_TRAILER_CLEARED] = "erased a request without an image",
	[BLEDFU_BOOT_DROPPED] = "took down a request that can never be carried out",
};

/* MCUboot's swap types. */
static const char *const asked[] = {"", "", " (on trial)", " (for good)", " (the way back)"};

static const char *const why[] = {
	[BLEDFU_BOOT_FINE] = "",
	[BLEDFU_BOOT_FLASH] = ": a flash failed",
	[BLEDFU_BOOT_NO_IMAGE] = ": there is no image",
	[BLEDFU_BOOT_TOO_LARGE] = ": it is too large",
	[BLEDFU_BOOT_DAMAGED] = ": it is damaged",
	[BLEDFU_BOOT_SIGNATURE] = ": no known key has signed it",
	[BLEDFU_BOOT_OLDER] = ": it is older than what runs",
	[BLEDFU_BOOT_WRONG_ADDRESS] = ": it is linked for another slot",
};

static int show(void)
{
	struct bledfu_boot_report report;

	/* Another boot stage leaves no report. A later one of bledfu may have actions and reasons that are not known here. */
	if (bledfu_boot_report(&report) != 0 || report.action >= ARRAY_SIZE(done) ||
	    report.swap_type >= ARRAY_SIZE(asked) || report.reason >= ARRAY_SIZE(why) ||
	    done[report.action] == NULL || why[report.reason] == NULL) {
		return 0;
	}
	LOG_INF("boot stage (%u ms): %s%s%s", report.duration_ms, done[report.action], asked[report.swap_type],
		why[report.reason]);
	if (report.failed_records > 0) {
		LOG_WRN("boot stage: slot 0's flash refused %u status records", report.failed_records);
	}
	return 0;
}

SYS_INIT(show, APPLICATION, CONFIG_APPLICATION_INIT_PRIORITY);
