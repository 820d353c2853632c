/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A serial NOR flash that takes its data sheet's times. Zephyr's flash simulator keeps the bytes, and refuses to program
 * twice what was not erased; its own times are one per call, whatever the length, and keep the processor busy. Here a
 * page is programmed, a sector or a block erased, in the time of the part, and the caller sleeps meanwhile: as with the
 * QSPI driver of the nRF52840, which waits for an interrupt.
 *
 * Not simulated: the spread of the times (typical values only), deep power down, the processor's time.
 */
#define DT_DRV_COMPAT bledfu_timed_nor

#include <errno.h>
#include <zephyr/device.h>
#include <zephyr/drivers/flash.h>
#include <zephyr/kernel.h>
#include <nsi_hw_scheduler.h>
#include <posix_native_task.h>
#include <nsi_tracing.h>

#define SIZE   DT_INST_REG_SIZE(0)
#define PAGE   256U
#define SECTOR DT_INST_PROP(0, erase_block_size)
#define BLOCK  65536U

static const struct device *const cells = DEVICE_DT_GET(DT_INST_PARENT(0));
static K_MUTEX_DEFINE(bus);
/* What the kernel's clock, coarser than these times, slept too long so far, in microseconds: the next wait is shorter. */
static int64_t overslept;
static struct {
	uint32_t pages, sectors, blocks;
	uint64_t busy_us;
} count;

static void take(uint32_t us)
{
	uint64_t begin = nsi_hws_get_time();
	int64_t left = (int64_t)us - overslept;

	if (left > 0) {
		k_sleep(K_USEC(left));
	}
	overslept = (int64_t)(nsi_hws_get_time() - begin) - left;
	count.busy_us += us;
}

static uint32_t transfer(size_t length)
{
	return DIV_ROUND_UP(length, DT_INST_PROP(0, bytes_per_us));
}

static int nor_read(const struct device *dev, off_t offset, void *data, size_t len)
{
	int err;

	k_mutex_lock(&bus, K_FOREVER);
	take(transfer(len));
	err = flash_read(cells, offset, data, len);
	k_mutex_unlock(&bus);
	return err;
}

static int nor_write(const struct device *dev, off_t offset, const void *data, size_t len)
{
	const uint8_t *source = data;
	int err = 0;

	k_mutex_lock(&bus, K_FOREVER);
	while (len > 0 && err == 0) {
		size_t part = MIN(len, PAGE - offset % PAGE);

		take(transfer(part) + DT_INST_PROP(0, page_program_us));
		err = flash_write(cells, offset, source, part);
		count.pages++;
		offset += part;
		source += part;
		len -= part;
	}
	k_mutex_unlock(&bus);
	return err;
}

static int nor_erase(const struct device *dev, off_t offset, size_t len)
{
	int err = 0;

	if (offset % SECTOR != 0 || len % SECTOR != 0) {
		return -EINVAL;
	}
	k_mutex_lock(&bus, K_FOREVER);
	while (len > 0 && err == 0) {
		bool block = offset % BLOCK == 0 && len >= BLOCK;
		size_t part = block ? BLOCK : SECTOR;

		take(block ? DT_INST_PROP(0, block_erase_us) : DT_INST_PROP(0, sector_erase_us));
		err = flash_erase(cells, offset, part);
		*(block ? &count.blocks : &count.sectors) += 1;
		offset += part;
		len -= part;
	}
	k_mutex_unlock(&bus);
	return err;
}

static const struct flash_parameters *nor_parameters(const struct device *dev)
{
	static const struct flash_parameters parameters = {
		.write_block_size = DT_INST_PROP(0, write_block_size), .erase_value = 0xff};

	return &parameters;
}

static int nor_size(const struct device *dev, uint64_t *size)
{
	*size = SIZE;
	return 0;
}

static void nor_layout(const struct device *dev, const struct flash_pages_layout **layout, size_t *count_of)
{
	static const struct flash_pages_layout pages = {.pages_count = SIZE / SECTOR, .pages_size = SECTOR};

	*layout = &pages;
	*count_of = 1;
}

static DEVICE_API(flash, nor_api) = {
	.read = nor_read,
	.write = nor_write,
	.erase = nor_erase,
	.get_parameters = nor_parameters,
	.get_size = nor_size,
	.page_layout = nor_layout,
};

static int nor_init(const struct device *dev)
{
	return device_is_ready(cells) ? 0 : -ENODEV;
}

/* At the same priority, a child in the devicetree comes after its parent. */
DEVICE_DT_INST_DEFINE(0, nor_init, NULL, NULL, NULL, POST_KERNEL, CONFIG_FLASH_INIT_PRIORITY, &nor_api);

static void report(void)
{
	nsi_print_trace("nor: pages=%u sectors=%u blocks=%u busy_us=%u\n", count.pages, count.sectors, count.blocks,
			  (uint32_t)count.busy_us);
}

NATIVE_TASK(report, ON_EXIT, 0);
