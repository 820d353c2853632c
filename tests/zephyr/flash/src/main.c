/* SPDX-License-Identifier: Apache-2.0 */
/* The flash calls of the shim, on Zephyr's flash simulator; the partitions are where the scenario's overlay has them. */
#include <string.h>
#include <zephyr/device.h>
#include <zephyr/drivers/flash.h>
#include <zephyr/kernel.h>
#include <zephyr/ztest.h>

#include "bledfu_shim.h"

#define PAGE 4096U

enum {
	PRIMARY,
	SECONDARY,
	JOURNAL,
};

/* As in ../common/on_simulator.overlay and node.overlay. */
static const struct {
	uint32_t start;
	uint32_t size;
} places[] = {
	[PRIMARY] = {0x10000, 0x10000},
	[SECONDARY] = {0x20000, 0x10000},
	[JOURNAL] = {0x30000, 0x2000},
};

static const struct device *const chip = DEVICE_DT_GET(DT_PARENT(DT_NODELABEL(sim_flash)));
static uint8_t pattern[1024] __aligned(4);
static uint8_t seen[1024 + 8] __aligned(4);

/* The worker thread has nothing to do: this suite makes its calls. */
void __wrap_bledfu_rs_run(void)
{
}

static void open_all(void)
{
	uint32_t size, start, sector, unit;

	for (uint8_t area = PRIMARY; area <= JOURNAL; area++) {
		zassert_ok(bledfu_shim_flash_open(area, &size, &start, &sector, &unit));
	}
}

static void before(void *fixture)
{
	for (size_t at = 0; at < sizeof(pattern); at++) {
		pattern[at] = 7 * at + (at >> 8);
	}
	memset(seen, 0, sizeof(seen));
	zassert_ok(flash_erase(chip, 0, 0x60000));
	open_all();
}

/* The calls of the shim are of one page of the flash at most: cut as Rust does (rust/bledfu-zephyr/src/flash.rs). */
static void put(uint8_t area, uint32_t offset, const uint8_t *bytes, uint32_t length)
{
	while (length > 0) {
		uint32_t part = MIN(length, BLEDFU_SHIM_PAGE - offset % BLEDFU_SHIM_PAGE);

		zassert_ok(bledfu_shim_flash_write(area, offset, bytes, part));
		offset += part;
		bytes += part;
		length -= part;
	}
}

static void get(uint8_t area, uint32_t offset, uint8_t *bytes, uint32_t length)
{
	while (length > 0) {
		uint32_t part = MIN(length, BLEDFU_SHIM_PAGE);

		zassert_ok(bledfu_shim_flash_read(area, offset, bytes, part));
		offset += part;
		bytes += part;
		length -= part;
	}
}

static void expect_blank(uint32_t from, uint32_t to)
{
	for (uint32_t at = from; at < to; at += 512) {
		zassert_ok(flash_read(chip, at, seen, 512));
		for (uint32_t i = 0; i < 512; i++) {
			zassert_equal(seen[i], 0xFF, "0x%x at 0x%x is not erased", seen[i], at + i);
		}
	}
}

ZTEST(flash, test_a_partition_is_what_the_devicetree_says)
{
	for (uint8_t area = PRIMARY; area <= JOURNAL; area++) {
		uint32_t size = 0, start = 0, sector = 0, unit = 0;

		zassert_ok(bledfu_shim_flash_open(area, &size, &start, &sector, &unit));
		zassert_equal(size, places[area].size);
		zassert_equal(start, places[area].start);
		zassert_equal(sector, PAGE);
		zassert_equal(unit, 4);
	}
}

ZTEST(flash, test_bytes_go_where_the_partition_is_and_nowhere_else)
{
	for (uint8_t area = PRIMARY; area <= JOURNAL; area++) {
		put(area, PAGE, pattern, 512);
	}
	for (uint8_t area = PRIMARY; area <= JOURNAL; area++) {
		uint32_t start = places[area].start;

		zassert_ok(flash_read(chip, start + PAGE, seen, 512));
		zassert_mem_equal(seen, pattern, 512);
		expect_blank(start, start + PAGE);
		expect_blank(start + PAGE + 512, start + places[area].size);
	}
	expect_blank(0, places[PRIMARY].start);
	expect_blank(places[JOURNAL].start + places[JOURNAL].size, 0x60000);
}

ZTEST(flash, test_what_is_written_reads_back_from_any_source_to_any_destination)
{
	static const uint32_t lengths[] = {4, 252, 256, 260, 512, 1000};
	uint32_t offset = 0;

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		for (size_t shift = 0; shift < 4; shift++) {
			uint32_t length = lengths[i];

			offset += 36; /* a multiple of the write unit, in all places of a page */
			put(SECONDARY, offset, pattern + shift, length);
			memset(seen, 0, sizeof(seen));
			get(SECONDARY, offset, seen + 1 + shift, length);
			zassert_mem_equal(seen + 1 + shift, pattern + shift, length);
			zassert_equal(seen[shift], 0, "a byte before the destination is changed");
			zassert_equal(seen[1 + shift + length], 0, "a byte behind the destination is changed");
			offset += length;
		}
	}
}

ZTEST(flash, test_an_erase_blanks_its_pages_and_no_others)
{
	uint32_t start = places[SECONDARY].start;

	for (uint32_t page = 0; page < 4; page++) {
		zassert_ok(bledfu_shim_flash_write(SECONDARY, page * PAGE, pattern, 256));
		zassert_ok(bledfu_shim_flash_write(SECONDARY, (page + 1) * PAGE - 256, pattern, 256));
	}
	zassert_ok(bledfu_shim_flash_erase(SECONDARY, PAGE, 2 * PAGE));
	expect_blank(start + PAGE, start + 3 * PAGE);
	zassert_ok(flash_read(chip, start + PAGE - 256, seen, 256));
	zassert_mem_equal(seen, pattern, 256);
	zassert_ok(flash_read(chip, start + 3 * PAGE, seen, 256));
	zassert_mem_equal(seen, pattern, 256);
}

ZTEST(flash, test_nothing_is_done_beyond_the_end_of_a_partition)
{
	uint32_t end = places[SECONDARY].size;
	uint32_t behind = places[SECONDARY].start + end; /* the journal */
	int32_t refused = BLEDFU_SHIM_OTHER(EINVAL);

	zassert_ok(flash_write(chip, behind, pattern, 512));
	zassert_equal(bledfu_shim_flash_write(SECONDARY, end, pattern, 4), refused);
	zassert_equal(bledfu_shim_flash_write(SECONDARY, end - 4, pattern, 256), refused);
	zassert_equal(bledfu_shim_flash_read(SECONDARY, end, seen, 4), refused);
	zassert_equal(bledfu_shim_flash_read(SECONDARY, end - 4, seen, 8), refused);
	zassert_equal(bledfu_shim_flash_erase(SECONDARY, end, PAGE), refused);
	zassert_equal(bledfu_shim_flash_erase(SECONDARY, end - PAGE, 2 * PAGE), refused);
	zassert_equal(bledfu_shim_flash_erase(SECONDARY, UINT32_MAX - PAGE + 1, PAGE), refused);
	zassert_ok(flash_read(chip, behind, seen, 512));
	zassert_mem_equal(seen, pattern, 512);
}

ZTEST(flash, test_what_is_not_aligned_is_refused)
{
	int32_t refused = BLEDFU_SHIM_OTHER(EINVAL);

	zassert_equal(bledfu_shim_flash_write(SECONDARY, 2, pattern, 4), refused);
	zassert_equal(bledfu_shim_flash_write(SECONDARY, 0, pattern, 6), refused);
	zassert_equal(bledfu_shim_flash_erase(SECONDARY, 256, PAGE), refused);
	zassert_equal(bledfu_shim_flash_erase(SECONDARY, 0, 100), refused);
	expect_blank(places[SECONDARY].start, places[SECONDARY].start + PAGE);
}

ZTEST(flash, test_what_is_not_erased_cannot_be_programmed)
{
	zassert_ok(bledfu_shim_flash_write(JOURNAL, 0, pattern, 256));
	zassert_equal(bledfu_shim_flash_write(JOURNAL, 0, pattern + 1, 256), BLEDFU_SHIM_OTHER(EIO));
	zassert_ok(bledfu_shim_flash_erase(JOURNAL, 0, PAGE));
	zassert_ok(bledfu_shim_flash_write(JOURNAL, 0, pattern + 1, 256));
	zassert_ok(bledfu_shim_flash_read(JOURNAL, 0, seen, 256));
	zassert_mem_equal(seen, pattern + 1, 256);
}

ZTEST(flash, test_nothing_to_do_is_no_error)
{
	zassert_ok(bledfu_shim_flash_write(SECONDARY, 0, pattern, 0));
	zassert_ok(bledfu_shim_flash_read(SECONDARY, 0, seen, 0));
	expect_blank(places[SECONDARY].start, places[SECONDARY].start + PAGE);
}

ZTEST_SUITE(flash, NULL, NULL, before, NULL, NULL);
