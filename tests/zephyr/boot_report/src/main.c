/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The report of the boot stage, from where boot/src/main.c leaves it to bledfu_boot_report() and the application's line in the
 * log. Here the suite leaves one, as early as anything of the application runs.
 */
#include <errno.h>
#include <string.h>
#include <zephyr/init.h>
#include <zephyr/logging/log.h>
#include <zephyr/logging/log_backend.h>
#include <zephyr/logging/log_ctrl.h>
#include <zephyr/logging/log_output.h>
#include <zephyr/ztest.h>

#include <bledfu/bledfu.h>
#include "backoff.h"
#include "report.h"

/* The one of the application's files, which this suite has not got (app/led.c). */
LOG_MODULE_REGISTER(app, LOG_LEVEL_INF);

#define DURATION_MS    17900
#define FAILED_RECORDS 3

#ifdef CONFIG_CPU_CORTEX_M
static int leave(void)
{
	struct boot_report report = {
		.magic = BOOT_REPORT_MAGIC,
		.action = CONFIG_TEST_REPORT_ACTION,
		.swap_type = CONFIG_TEST_REPORT_SWAP_TYPE,
		.reason = CONFIG_TEST_REPORT_REASON,
		.failed_records = FAILED_RECORDS,
		.duration_ms = DURATION_MS,
	};

	report.crc = boot_report_crc(&report);
	if (IS_ENABLED(CONFIG_TEST_REPORT_DAMAGED)) {
		report.duration_ms ^= 1;
	}
	*BOOT_REPORT = report;
	return 0;
}

SYS_INIT(leave, EARLY, 0);
#endif

/* The log as one text. */
static char text[2048];
static size_t text_length;

static int collect(uint8_t *data, size_t length, void *context)
{
	size_t part = MIN(length, sizeof(text) - 1 - text_length);

	memcpy(text + text_length, data, part);
	text_length += part;
	return length;
}

static uint8_t buffer[256];
LOG_OUTPUT_DEFINE(collector_output, collect, buffer, sizeof(buffer));

static void process(const struct log_backend *const backend, union log_msg_generic *message)
{
	log_output_msg_process(&collector_output, &message->log, 0);
}

static void panic(const struct log_backend *const backend)
{
}

static const struct log_backend_api api = {.process = process, .panic = panic};
LOG_BACKEND_DEFINE(collector, api, true);

static bool expected(void)
{
	return IS_ENABLED(CONFIG_CPU_CORTEX_M) && !IS_ENABLED(CONFIG_TEST_REPORT_DAMAGED);
}

ZTEST(boot_report, test_the_product_is_told_what_the_boot_stage_left)
{
	struct bledfu_boot_report report;

	if (!expected()) {
		zassert_equal(bledfu_boot_report(&report), -ENODATA);
		return;
	}
	/* As often as it likes. */
	for (int i = 0; i < 2; i++) {
		memset(&report, 0xff, sizeof(report));
		zassert_ok(bledfu_boot_report(&report));
		zassert_equal(report.action, CONFIG_TEST_REPORT_ACTION);
		zassert_equal(report.swap_type, CONFIG_TEST_REPORT_SWAP_TYPE);
		zassert_equal(report.reason, CONFIG_TEST_REPORT_REASON);
		zassert_equal(report.failed_records, FAILED_RECORDS);
		zassert_equal(report.duration_ms, DURATION_MS);
	}
}

ZTEST(boot_report, test_a_report_is_not_found_again_after_a_reset_without_boot_stage)
{
#ifdef CONFIG_CPU_CORTEX_M
	zassert_not_equal(BOOT_REPORT->magic, BOOT_REPORT_MAGIC);
#else
	ztest_test_skip();
#endif
}

ZTEST(boot_report, test_the_application_says_it_in_one_line)
{
	const char *line = strstr(text, "boot stage (");

	if (!expected() || CONFIG_TEST_LINE[0] == '\0') {
		zassert_is_null(line, "%s", text);
		return;
	}
	zassert_not_null(line, "%s", text);
	zassert_ok(strncmp(line, CONFIG_TEST_LINE, strlen(CONFIG_TEST_LINE)), "%s", text);
	zassert_not_null(strstr(text, "boot stage: slot 0's flash refused 3 status records"), "%s", text);
}

ZTEST(boot_report, test_after_a_flash_error_the_boot_stage_waits_twice_as_long_each_time_and_at_most_64_s)
{
	static const uint32_t expected_s[] = {1, 2, 4, 8, 16, 32, 64, 64, 64};
	/* What RAM may hold after power-on, and a count with a wrong CRC. */
	struct backoff found[] = {{UINT32_MAX, UINT32_MAX}, {0, 0}, {3, 0xdeadbeef}};

	for (size_t i = 0; i < ARRAY_SIZE(found); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(expected_s); j++) {
			zassert_equal(backoff_next_s(&found[i]), expected_s[j]);
		}
		/* An image was started. */
		backoff_end(&found[i]);
		zassert_equal(backoff_next_s(&found[i]), 1);
	}
}

ZTEST(boot_report, test_a_count_that_a_reset_damaged_starts_again)
{
	struct backoff count = {0};

	for (int bit = 0; bit < 64; bit++) {
		for (int i = 0; i < 5; i++) {
			(void)backoff_next_s(&count);
		}
		((uint8_t *)&count)[bit / 8] ^= BIT(bit % 8);
		zassert_equal(backoff_next_s(&count), 1, "bit %d", bit);
		backoff_end(&count);
	}
}

ZTEST_SUITE(boot_report, NULL, NULL, NULL, NULL, NULL);
