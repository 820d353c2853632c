/* SPDX-License-Identifier: Apache-2.0 */
/* What a flash driver sees of the shim, and what becomes of the shim when a driver does not come back. */
#include <errno.h>
#include <string.h>
#include <zephyr/kernel.h>
#include <zephyr/ztest.h>

#include "bledfu_shim.h"
#include "test_flash.h"

#define SECONDARY 1
#define PAGE      4096U
#define NOR_PAGE  256U

static uint8_t pattern[1024] __aligned(4);
static uint8_t seen[1024] __aligned(4);

/* The worker thread has nothing to do: this suite makes its calls. */
void __wrap_bledfu_rs_run(void)
{
}

static void before(void *fixture)
{
	uint32_t size, start, sector, unit;

	for (size_t at = 0; at < sizeof(pattern); at++) {
		pattern[at] = 11 * at + (at >> 8);
	}
	memset(seen, 0, sizeof(seen));
	test_flash_reset();
	zassert_ok(bledfu_shim_flash_open(SECONDARY, &size, &start, &sector, &unit));
	zassert_equal(size, 0x10000);
}

/* Whatever happened, the driver is back and the shim is ready for the next test. */
static void after(void *fixture)
{
	if (test_flash_is_held()) {
		test_flash_release();
	}
	(void)bledfu_shim_flash_read(SECONDARY, 0, seen, 4);
}

ZTEST(flash_driver, test_programs_stay_in_a_page_and_come_from_aligned_ram)
{
	/* As Rust cuts 1000 bytes (rust/bledfu-zephyr/src/flash.rs). */
	static const uint32_t expected[] = {16, 256, 256, 256, 216};
	uint32_t offset = PAGE - 16;
	uint32_t done = 0;

	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		/* An odd source: the driver must not see it. */
		zassert_ok(bledfu_shim_flash_write(SECONDARY, offset + done, pattern + 1 + done, expected[i]));
		done += expected[i];
	}
	zassert_equal(test_flash_call_count, ARRAY_SIZE(expected));
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		const struct test_flash_call *call = &test_flash_calls[i];

		zassert_equal(call->operation, TEST_FLASH_WRITE);
		zassert_equal(call->offset, offset);
		zassert_equal(call->length, expected[i]);
		zassert_true(offset / NOR_PAGE == (offset + call->length - 1) / NOR_PAGE);
		zassert_equal((uintptr_t)call->memory % 4, 0, "the source is not word-aligned");
		zassert_false(call->memory >= (void *)pattern && call->memory < (void *)(pattern + sizeof(pattern)),
			      "the driver has a pointer into the caller's memory");
		offset += call->length;
	}
	zassert_mem_equal(test_flash_bytes() + PAGE - 16, pattern + 1, 1000);
}

ZTEST(flash_driver, test_reads_go_to_aligned_ram_first)
{
	memcpy(test_flash_bytes() + 8, pattern, 600);
	for (uint32_t at = 0; at < 600; at += 200) {
		zassert_ok(bledfu_shim_flash_read(SECONDARY, 8 + at, seen + 3 + at, 200));
	}
	zassert_mem_equal(seen + 3, pattern, 600);
	for (uint32_t i = 0; i < test_flash_call_count; i++) {
		const struct test_flash_call *call = &test_flash_calls[i];

		zassert_equal((uintptr_t)call->memory % 4, 0);
		zassert_false(call->memory >= (void *)seen && call->memory < (void *)(seen + sizeof(seen)));
	}
}

ZTEST(flash_driver, test_an_erase_is_one_call)
{
	memset(test_flash_bytes(), 0, 4 * PAGE);
	zassert_ok(bledfu_shim_flash_erase(SECONDARY, PAGE, 2 * PAGE));
	zassert_equal(test_flash_call_count, 1);
	zassert_equal(test_flash_calls[0].offset, PAGE);
	zassert_equal(test_flash_calls[0].length, 2 * PAGE);
	zassert_equal(test_flash_bytes()[PAGE - 1], 0);
	zassert_equal(test_flash_bytes()[PAGE], 0xFF);
	zassert_equal(test_flash_bytes()[3 * PAGE - 1], 0xFF);
	zassert_equal(test_flash_bytes()[3 * PAGE], 0);
}

ZTEST(flash_driver, test_an_error_of_the_driver_arrives)
{
	test_flash_fail_next(TEST_FLASH_ERASE, -EIO);
	zassert_equal(bledfu_shim_flash_erase(SECONDARY, 0, PAGE), BLEDFU_SHIM_OTHER(EIO));
	test_flash_fail_next(TEST_FLASH_WRITE, -EACCES);
	zassert_equal(bledfu_shim_flash_write(SECONDARY, 0, pattern, 256), BLEDFU_SHIM_OTHER(EACCES));
	zassert_equal(test_flash_call_count, 2);
	test_flash_fail_next(TEST_FLASH_READ, -EBUSY);
	zassert_equal(bledfu_shim_flash_read(SECONDARY, 0, seen, 4), BLEDFU_SHIM_OTHER(EBUSY));
}

ZTEST(flash_driver, test_a_call_that_does_not_come_back_times_out_and_the_next_ones_are_busy)
{
	static const enum test_flash_operation operations[] = {TEST_FLASH_ERASE, TEST_FLASH_WRITE, TEST_FLASH_READ};

	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		int32_t status;

		test_flash_hold_next(operations[i]);
		switch (operations[i]) {
		case TEST_FLASH_ERASE:
			status = bledfu_shim_flash_erase(SECONDARY, 0, PAGE);
			break;
		case TEST_FLASH_WRITE:
			status = bledfu_shim_flash_write(SECONDARY, i * PAGE, pattern, 256);
			break;
		default:
			status = bledfu_shim_flash_read(SECONDARY, i * PAGE, seen, 256);
			break;
		}
		zassert_true(test_flash_is_held(), "the call came back although the driver has not");
		zassert_equal(status, BLEDFU_SHIM_TIMED_OUT);
		zassert_equal(bledfu_shim_flash_read(SECONDARY, 0, seen, 4), BLEDFU_SHIM_BUSY);
		zassert_equal(bledfu_shim_flash_erase(SECONDARY, 0, PAGE), BLEDFU_SHIM_BUSY);
		zassert_equal(bledfu_shim_flash_write(SECONDARY, 0, pattern, 4), BLEDFU_SHIM_BUSY);
		zassert_true(test_flash_is_held());

		test_flash_release();
		zassert_ok(bledfu_shim_flash_erase(SECONDARY, 8 * PAGE, PAGE));
		zassert_ok(bledfu_shim_flash_write(SECONDARY, 8 * PAGE, pattern, 256));
		zassert_ok(bledfu_shim_flash_read(SECONDARY, 8 * PAGE, seen, 256));
		zassert_mem_equal(seen, pattern, 256);
	}
}

ZTEST(flash_driver, test_a_late_read_does_not_touch_the_callers_memory)
{
	static uint8_t destination[256];

	memset(destination, 0xA5, sizeof(destination));
	memcpy(test_flash_bytes(), pattern, 256);
	test_flash_hold_next(TEST_FLASH_READ);
	zassert_equal(bledfu_shim_flash_read(SECONDARY, 0, destination, 256), BLEDFU_SHIM_TIMED_OUT);
	test_flash_release();
	/* This one waits for the late one to end. */
	zassert_ok(bledfu_shim_flash_read(SECONDARY, 0, seen, 4));
	for (size_t at = 0; at < sizeof(destination); at++) {
		zassert_equal(destination[at], 0xA5);
	}
}

ZTEST(flash_driver, test_a_late_program_has_the_bytes_it_was_given)
{
	static uint8_t source[256];

	memcpy(source, pattern, sizeof(source));
	test_flash_hold_next(TEST_FLASH_WRITE);
	zassert_equal(bledfu_shim_flash_write(SECONDARY, 0, source, 256), BLEDFU_SHIM_TIMED_OUT);
	memset(source, 0, sizeof(source)); /* the caller goes on with its memory */
	test_flash_release();
	zassert_ok(bledfu_shim_flash_read(SECONDARY, 0, seen, 256));
	zassert_mem_equal(seen, pattern, 256);
}

ZTEST_SUITE(flash_driver, NULL, NULL, before, after, NULL);
