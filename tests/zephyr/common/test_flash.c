/* SPDX-License-Identifier: Apache-2.0 */
#define DT_DRV_COMPAT bledfu_test_flash

#include <errno.h>
#include <string.h>
#include <zephyr/device.h>
#include <zephyr/drivers/flash.h>
#include <zephyr/kernel.h>

#include "test_flash.h"

#if DT_HAS_COMPAT_STATUS_OKAY(DT_DRV_COMPAT) /* not every scenario has one */

#define SIZE  DT_INST_REG_SIZE(0)
#define PAGE  DT_INST_PROP(0, page_size)
#define UNIT  DT_INST_PROP(0, write_block_size)
#define BLANK 0xFF

uint32_t test_flash_call_count;
struct test_flash_call test_flash_calls[TEST_FLASH_CALLS];

static uint8_t memory[SIZE];
static enum test_flash_operation to_hold, to_fail;
static int failure;
static atomic_t held;
static K_SEM_DEFINE(released, 0, 1);

/* What happens before an operation does its work. */
static int begin(enum test_flash_operation operation, off_t offset, size_t length, const void *buffer, size_t unit)
{
	if (test_flash_call_count < TEST_FLASH_CALLS) {
		test_flash_calls[test_flash_call_count] =
			(struct test_flash_call){operation, offset, length, buffer};
	}
	test_flash_call_count++;
	if (offset < 0 || offset + length > SIZE || offset % unit != 0 || length % unit != 0) {
		return -EINVAL;
	}
	if (to_fail == operation) {
		to_fail = TEST_FLASH_NONE;
		return failure;
	}
	if (to_hold == operation) {
		to_hold = TEST_FLASH_NONE;
		atomic_set(&held, 1);
		k_sem_take(&released, K_FOREVER);
		atomic_clear(&held);
	}
	return 0;
}

static int test_flash_read(const struct device *dev, off_t offset, void *data, size_t length)
{
	int err = begin(TEST_FLASH_READ, offset, length, data, 1);

	if (err == 0) {
		memcpy(data, memory + offset, length);
	}
	return err;
}

static int test_flash_write(const struct device *dev, off_t offset, const void *data, size_t length)
{
	int err = begin(TEST_FLASH_WRITE, offset, length, data, UNIT);

	for (size_t at = 0; err == 0 && at < length; at++) {
		if (memory[offset + at] != BLANK) {
			err = -EIO; /* as NOR with error correction: a unit is programmed once */
		}
	}
	if (err == 0) {
		memcpy(memory + offset, data, length);
	}
	return err;
}

static int test_flash_erase(const struct device *dev, off_t offset, size_t length)
{
	int err = begin(TEST_FLASH_ERASE, offset, length, NULL, PAGE);

	if (err == 0) {
		memset(memory + offset, BLANK, length);
	}
	return err;
}

static const struct flash_parameters *parameters(const struct device *dev)
{
	static const struct flash_parameters is = {.write_block_size = DT_INST_PROP_OR(0, driver_write_unit, UNIT),
						.erase_value = BLANK};

	return &is;
}

static void page_layout(const struct device *dev, const struct flash_pages_layout **layout, size_t *count)
{
	static const struct flash_pages_layout is = {.pages_count = SIZE / PAGE, .pages_size = PAGE};

	*layout = &is;
	*count = 1;
}

static DEVICE_API(flash, api) = {
	.read = test_flash_read,
	.write = test_flash_write,
	.erase = test_flash_erase,
	.get_parameters = parameters,
	.page_layout = page_layout,
};

void test_flash_reset(void)
{
	memset(memory, BLANK, sizeof(memory));
	memset(test_flash_calls, 0, sizeof(test_flash_calls));
	test_flash_call_count = 0;
	to_hold = to_fail = TEST_FLASH_NONE;
	k_sem_reset(&released);
}

void test_flash_hold_next(enum test_flash_operation operation)
{
	to_hold = operation;
}

bool test_flash_is_held(void)
{
	return atomic_get(&held) != 0;
}

void test_flash_release(void)
{
	k_sem_give(&released);
}

void test_flash_fail_next(enum test_flash_operation operation, int result)
{
	to_fail = operation;
	failure = result;
}

uint8_t *test_flash_bytes(void)
{
	return memory;
}

static int init(const struct device *dev)
{
	test_flash_reset();
	return DT_INST_PROP(0, broken) ? -EIO : 0;
}

DEVICE_DT_INST_DEFINE(0, init, NULL, NULL, NULL, POST_KERNEL, CONFIG_KERNEL_INIT_PRIORITY_DEVICE, &api);

#endif
