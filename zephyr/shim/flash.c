/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The partitions. Drivers are called on a thread of their own, because some wait without a limit for a completion
 * interrupt, and the worker must not. A call that does not return in time is an error, and later calls are "busy" until
 * it does. Data passes through a word-aligned buffer that only this thread and its driver use: so no driver keeps a
 * pointer into a caller's memory, and no driver has to copy word by word because its DMA cannot read the source.
 * In the boot stage nothing else runs, so the driver is called directly; if it hangs, only a watchdog helps.
 */
#include <string.h>
#include <zephyr/device.h>
#include <zephyr/drivers/flash.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <zephyr/pm/device_runtime.h>

#include "bledfu_shim.h"
#include "compat.h"

#ifndef CONFIG_BLEDFU_BOOT
LOG_MODULE_DECLARE(bledfu, CONFIG_BLEDFU_LOG_LEVEL);
#endif

#if DT_HAS_CHOSEN(bledfu_update_slots)
#define SLOTS     DT_CHOSEN(bledfu_update_slots)
#define PRIMARY   DT_PHANDLE(SLOTS, primary)
#define SECONDARY DT_PHANDLE(SLOTS, secondary)
#define JOURNAL   DT_PHANDLE(SLOTS, journal)
#define TRUST     DT_PHANDLE(SLOTS, trust)
#define SPARE     DT_PHANDLE(SLOTS, COND_CODE_1(CONFIG_BLEDFU_INSTALL_COPY, (revert), (scratch)))
#else
#define PRIMARY   DT_NODELABEL(slot0_partition)
#define SECONDARY DT_NODELABEL(slot1_partition)
#define JOURNAL   DT_NODELABEL(bledfu_journal_partition)
#define TRUST     DT_NODELABEL(bledfu_trust_partition)
#define SPARE     DT_NODELABEL(COND_CODE_1(CONFIG_BLEDFU_INSTALL_COPY, (bledfu_revert_partition), (scratch_partition)))
#endif

/* The address of slot 0 for the processor: in the memory of the partition, or in the RAM that simulates it. */
#define FLASH_NODE DT_GPARENT(PRIMARY)
#if DT_NODE_HAS_PROP(DT_PARENT(FLASH_NODE), memory_region)
#define FLASH_ADDRESS DT_REG_ADDR(DT_PHANDLE(DT_PARENT(FLASH_NODE), memory_region))
#else
#define FLASH_ADDRESS DT_REG_ADDR(FLASH_NODE)
#endif

BUILD_ASSERT(DT_NODE_EXISTS(PRIMARY) && DT_NODE_EXISTS(SECONDARY),
	     "no slot0_partition or slot1_partition: see dts/bindings/bledfu,update-slots.yaml");
/* In 3.7 DT_SAME_NODE works only for nodes that exist. */
BUILD_ASSERT(!IS_ENABLED(CONFIG_BLEDFU_SPARE) ||
		     COND_CODE_1(DT_NODE_EXISTS(SPARE), (!DT_SAME_NODE(SPARE, SECONDARY)), (0)),
	     "no scratch_partition (swap) or bledfu_revert_partition (copy) beside slot 1: see dts/bindings/bledfu,update-slots.yaml");
BUILD_ASSERT(!IS_ENABLED(CONFIG_BLEDFU_TRUST) || DT_NODE_EXISTS(TRUST),
	     "CONFIG_BLEDFU_TRUST without bledfu_trust_partition (8 KiB): see dts/bindings/bledfu,update-slots.yaml");
#ifdef CONFIG_BLEDFU_TRUST
/* Its pages must not be in the flash that it is there to distrust. */
BUILD_ASSERT(!COND_CODE_1(DT_NODE_EXISTS(TRUST), (DT_SAME_NODE(DT_GPARENT(TRUST), DT_GPARENT(SECONDARY))), (0)) ||
		     DT_SAME_NODE(DT_GPARENT(PRIMARY), DT_GPARENT(SECONDARY)),
	     "bledfu_trust_partition is in the external flash; it must be in the flash of slot 0");
BUILD_ASSERT(DT_REG_SIZE(TRUST) >= 2 * 4096, "bledfu_trust_partition has less than two pages (8 KiB)");
#endif
#if defined(CONFIG_BLEDFU_INSTALL_SWAP_SCRATCH) && !defined(CONFIG_BLEDFU_SMALL_SCRATCH)
/* Pages inside the processor take 10,000 erases; outside it is ten times as many. */
BUILD_ASSERT(!DT_SAME_NODE(DT_GPARENT(SPARE), DT_GPARENT(PRIMARY)) || DT_REG_SIZE(SPARE) >= 8 * 4096,
	     "scratch_partition has fewer than 8 pages (32 KiB) and would wear out: enlarge it, use another "
	     "CONFIG_BLEDFU_INSTALL_*, or set CONFIG_BLEDFU_SMALL_SCRATCH");
#endif
BUILD_ASSERT(IS_ENABLED(CONFIG_BLEDFU_BOOT) || DT_NODE_EXISTS(JOURNAL),
	     "no bledfu_journal_partition (8 KiB): see dts/bindings/bledfu,update-slots.yaml");

uint32_t bledfu_shim_primary_address(void)
{
	return FLASH_ADDRESS + DT_REG_ADDR(PRIMARY);
}

enum operation { READ, WRITE, ERASE };

static const uint8_t ids[] = {
	[0] = BLEDFU_PARTITION_ID(PRIMARY),
	[1] = BLEDFU_PARTITION_ID(SECONDARY),
	[2] = COND_CODE_1(CONFIG_BLEDFU_BOOT, (0), (BLEDFU_PARTITION_ID(JOURNAL))),
	IF_ENABLED(CONFIG_BLEDFU_SPARE, ([3] = BLEDFU_PARTITION_ID(SPARE),))
	IF_ENABLED(CONFIG_BLEDFU_TRUST, ([4] = BLEDFU_PARTITION_ID(TRUST),))
};

static const struct flash_area *areas[ARRAY_SIZE(ids)];
static struct {
	enum operation operation;
	const struct flash_area *area;
	uint32_t offset;
	uint32_t length;
	int result;
	uint8_t bytes[BLEDFU_SHIM_PAGE] __aligned(8);
} job;

static int execute(void)
{
	switch (job.operation) {
	case READ:
		return flash_area_read(job.area, job.offset, job.bytes, job.length);
	case WRITE:
		return flash_area_write(job.area, job.offset, job.bytes, job.length);
	default:
		return flash_area_erase(job.area, job.offset, job.length);
	}
}

#ifdef CONFIG_BLEDFU_BOOT
#define perform() (job.result = execute(), 0)
#else
static K_SEM_DEFINE(job_given, 0, 1);
static K_SEM_DEFINE(job_done, 0, 1);
/* The worker has given up a job that the flash thread is still working on. */
static bool stuck;

/*
 * With CONFIG_PM_DEVICE_RUNTIME, drivers put their chip to sleep after each call, and wake it for the next. These are kept
 * awake from the first call to AWAKE_MS after the last one.
 */
#define AWAKE_MS 200
static const struct device *awake[ARRAY_SIZE(ids)];

static void keep_awake(const struct device *device)
{
	for (size_t at = 0; at < ARRAY_SIZE(awake) && awake[at] != device; at++) {
		if (awake[at] == NULL) {
			/* The driver wakes it itself, if that failed. */
			awake[at] = pm_device_runtime_get(device) == 0 ? device : NULL;
			return;
		}
	}
}

static bool is_awake(void)
{
	return awake[0] != NULL;
}

static void let_sleep(void)
{
	for (size_t at = 0; at < ARRAY_SIZE(awake) && awake[at] != NULL; at++) {
		(void)pm_device_runtime_put(awake[at]);
		awake[at] = NULL;
	}
}

static void flash_thread(void *a, void *b, void *c)
{
	while (true) {
		if (k_sem_take(&job_given, IS_ENABLED(CONFIG_PM_DEVICE_RUNTIME) && is_awake()
						   ? K_MSEC(AWAKE_MS) : K_FOREVER) != 0) {
			let_sleep();
			continue;
		}
		if (IS_ENABLED(CONFIG_PM_DEVICE_RUNTIME)) {
			keep_awake(job.area->fa_dev);
		}
		job.result = execute();
		k_sem_give(&job_done);
	}
}

K_THREAD_DEFINE(bledfu_flash, CONFIG_BLEDFU_FLASH_STACK_SIZE, flash_thread, NULL, NULL, NULL,
		CONFIG_BLEDFU_THREAD_PRIORITY, 0, 0);

static bool in_time(void)
{
	return k_sem_take(&job_done, K_MSEC(CONFIG_BLEDFU_FLASH_TIMEOUT_MS)) == 0;
}

static int32_t perform(void)
{
	k_sem_give(&job_given);
	stuck = !in_time();
	return stuck ? BLEDFU_SHIM_TIMED_OUT : 0;
}
#endif

static int32_t run(enum operation operation, uint8_t area, uint32_t offset, uint32_t length,
		   const uint8_t *source)
{
	int32_t status;

	__ASSERT_NO_MSG(operation == ERASE || length <= sizeof(job.bytes));
#ifndef CONFIG_BLEDFU_BOOT
	if (stuck && !in_time()) {
		return BLEDFU_SHIM_BUSY;
	}
#endif
	job.operation = operation;
	job.area = areas[area];
	job.offset = offset;
	job.length = length;
	if (source != NULL) {
		memcpy(job.bytes, source, length);
	}
	status = perform();
#ifndef CONFIG_BLEDFU_BOOT
	/* Rust says what a failure means for the update, and not what the driver said. */
	if (status != 0 || job.result != 0) {
		LOG_WRN("flash of area %u, %s of %u bytes at 0x%x: %d", area,
			operation == READ ? "read" : operation == WRITE ? "write" : "erase", length, offset,
			status == 0 ? job.result : -ETIMEDOUT);
	}
#endif
	return status == 0 && job.result != 0 ? BLEDFU_SHIM_OTHER(-job.result) : status;
}

int32_t bledfu_shim_flash_open(uint8_t area, uint32_t *size, uint32_t *start, uint32_t *sector,
			       uint32_t *unit)
{
	const struct flash_area *fa;
	struct flash_pages_info first, last;
	int err = flash_area_open(ids[area], &fa);

	if (err != 0) {
		return BLEDFU_SHIM_OTHER(-err);
	}
	if (!device_is_ready(fa->fa_dev)) {
		return BLEDFU_SHIM_OTHER(ENODEV);
	}
	areas[area] = fa;
	*size = fa->fa_size;
	*start = fa->fa_off;
	*unit = flash_area_align(fa);
	err = flash_get_page_info_by_offs(fa->fa_dev, fa->fa_off, &first);
	if (err == 0) {
		err = flash_get_page_info_by_offs(fa->fa_dev, fa->fa_off + fa->fa_size - 1, &last);
	}
	if (err != 0) {
		return BLEDFU_SHIM_OTHER(-err);
	}
	*sector = first.size == last.size ? first.size : 0;
	return 0;
}

int32_t bledfu_shim_flash_read(uint8_t area, uint32_t offset, uint8_t *bytes, uint32_t length)
{
	int32_t status = run(READ, area, offset, length, NULL);

	if (status == 0) {
		memcpy(bytes, job.bytes, length);
	}
	return status;
}

int32_t bledfu_shim_flash_write(uint8_t area, uint32_t offset, const uint8_t *bytes,
				uint32_t length)
{
	return run(WRITE, area, offset, length, bytes);
}

int32_t bledfu_shim_flash_erase(uint8_t area, uint32_t offset, uint32_t length)
{
	return run(ERASE, area, offset, length, NULL);
}
