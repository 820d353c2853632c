/* SPDX-License-Identifier: Apache-2.0 */
/* A layout that cannot work: one line in the log says why, the product is told, and nothing else of it suffers. */
#include <errno.h>
#include <string.h>
#include <zephyr/kernel.h>
#include <zephyr/storage/flash_map.h>
#include <zephyr/ztest.h>

#include <bledfu/bledfu.h>
#include "bledfu_shim.h"
#include "test_flash.h"

static char line[256];
static unsigned int errors;
static bool was_ready;
static K_SEM_DEFINE(told, 0, 1);

void __real_bledfu_shim_log(uint8_t level, const char *text);

void __wrap_bledfu_shim_log(uint8_t level, const char *text)
{
	if (level == 1) {
		errors++;
		strncpy(line, text, sizeof(line) - 1);
	}
	__real_bledfu_shim_log(level, text);
}

static enum bledfu_answer on_event(const struct bledfu_event_info *info)
{
	was_ready |= info->event == BLEDFU_EVENT_READY;
	if (info->event == BLEDFU_EVENT_FAILED) {
		k_sem_give(&told);
	}
	return BLEDFU_GO_ON;
}

BLEDFU_CALLBACK_DEFINE(suite, on_event);

static void *setup(void)
{
	zassert_ok(k_sem_take(&told, K_SECONDS(10)), "the product is not told");
	return NULL;
}

ZTEST(layout, test_the_log_says_once_what_is_wrong)
{
	zassert_equal(errors, 1);
	zassert_str_equal(line, CONFIG_TEST_LINE);
}

ZTEST(layout, test_the_product_knows_that_there_are_no_updates)
{
	struct bledfu_status status;

	bledfu_status_get(&status);
	zassert_equal(status.state, BLEDFU_STATE_FAILED);
	zassert_false(was_ready);
}

ZTEST(layout, test_what_a_peer_writes_is_dropped_and_nobody_waits)
{
	static const uint8_t select[] = {0x06, 0x01};

	bledfu_rs_link(1);
	for (int i = 0; i < 5000; i++) {
		int32_t status = bledfu_rs_push(BLEDFU_CHANNEL_CONTROL, select, sizeof(select), 0);

		zassert_true(status == 0 || status == BLEDFU_SHIM_NO_BUFFER);
	}
	bledfu_rs_link(0);
}

ZTEST(layout, test_the_running_image_is_confirmed_all_the_same_if_its_slot_can_be_used)
{
	const struct flash_area *slot;
	uint8_t magic[16] = {0x77, 0xc2, 0x95, 0xf3, 0x60, 0xd2, 0xef, 0x7f,
			     0x35, 0x52, 0x50, 0x0f, 0x2c, 0xb6, 0x79, 0x80};
	int64_t before = k_uptime_get();
	uint8_t flag[8] = {0};
	off_t end;

	zassert_ok(flash_area_open(FIXED_PARTITION_ID(slot0_partition), &slot));
	end = slot->fa_size;
	zassert_ok(flash_area_erase(slot, end - 4096, 4096));
	zassert_ok(flash_area_write(slot, end - sizeof(magic), magic, sizeof(magic)));
	zassert_equal(bledfu_confirm(), CONFIG_TEST_CONFIRMS ? 0 : -EIO);
	zassert_true(k_uptime_get() - before < 1000, "it waits");
	zassert_ok(flash_area_read(slot, end - 24, flag, sizeof(flag)));
	zassert_equal(flag[0], CONFIG_TEST_CONFIRMS ? 1 : 0xff);
	flash_area_close(slot);
}

ZTEST(layout, test_nothing_is_advertised)
{
	/* Nobody has enabled Bluetooth here; what can be seen without a radio is the answer. */
	zassert_equal(bledfu_advertising_start(), -EAGAIN);
}

ZTEST_SUITE(layout, NULL, setup, NULL, NULL, NULL);
