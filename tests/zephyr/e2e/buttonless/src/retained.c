/* SPDX-License-Identifier: Apache-2.0 */
/* The driver: 64 bytes of a file of the PC. */
#include <errno.h>
#include <string.h>
#include <zephyr/device.h>
#include <zephyr/drivers/retained_mem.h>

#include "retained_file.h"

#define DT_DRV_COMPAT bledfu_test_retained_file

static ssize_t size(const struct device *dev)
{
	return RETAINED_SIZE;
}

static int read(const struct device *dev, off_t offset, uint8_t *buffer, size_t length)
{
	uint8_t all[RETAINED_SIZE];

	retained_file_read(all);
	memcpy(buffer, &all[offset], length);
	return 0;
}

static int write(const struct device *dev, off_t offset, const uint8_t *buffer, size_t length)
{
	uint8_t all[RETAINED_SIZE];

	retained_file_read(all);
	memcpy(&all[offset], buffer, length);
	return retained_file_write(all) == 0 ? 0 : -EIO;
}

static int clear(const struct device *dev)
{
	static const uint8_t zeros[RETAINED_SIZE];

	return retained_file_write(zeros) == 0 ? 0 : -EIO;
}

static DEVICE_API(retained_mem, api) = {
	.size = size,
	.read = read,
	.write = write,
	.clear = clear,
};

DEVICE_DT_INST_DEFINE(0, NULL, NULL, NULL, NULL, POST_KERNEL, CONFIG_RETAINED_MEM_INIT_PRIORITY, &api);
