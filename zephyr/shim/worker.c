/* SPDX-License-Identifier: Apache-2.0 */
/* The worker thread, and what it waits on. Flash calls, cryptography and notifications happen only in this thread. */
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <zephyr/logging/log_ctrl.h>
#include <zephyr/sys/reboot.h>

#include "bledfu_shim.h"
#include "compat.h"

LOG_MODULE_DECLARE(bledfu, CONFIG_BLEDFU_LOG_LEVEL);

const char bledfu_shim_kernel_version[] = KERNEL_VERSION_STRING;

static K_SEM_DEFINE(work, 0, 1);
static struct k_spinlock lock;

static void worker_thread(void *a, void *b, void *c)
{
	bledfu_rs_run();
	while (true) {
		(void)k_sem_take(&work, K_FOREVER);
		bledfu_rs_without_service();
	}
}

K_THREAD_DEFINE(bledfu_worker, CONFIG_BLEDFU_STACK_SIZE, worker_thread, NULL, NULL, NULL,
		CONFIG_BLEDFU_THREAD_PRIORITY, 0, 0);

uint32_t bledfu_shim_lock(void)
{
	return k_spin_lock(&lock).key;
}

void bledfu_shim_unlock(uint32_t key)
{
	k_spin_unlock(&lock, (k_spinlock_key_t){.key = key});
}

void bledfu_shim_wait(uint32_t timeout_ms)
{
	(void)k_sem_take(&work, timeout_ms == UINT32_MAX ? K_FOREVER : K_MSEC(timeout_ms));
}

void bledfu_shim_wake(void)
{
	k_sem_give(&work);
}

uint64_t bledfu_shim_uptime_ms(void)
{
	return k_uptime_get();
}

void bledfu_shim_sleep_ms(uint32_t ms)
{
	k_msleep(ms);
}

void bledfu_shim_reset(void)
{
	LOG_PANIC(); /* flush the log before it is lost */
	sys_reboot(SYS_REBOOT_COLD);
	CODE_UNREACHABLE;
}

#if !defined(CONFIG_BLEDFU_UPDATE_MODE)
bool bledfu_is_update_mode(void)
{
	return false;
}

void bledfu_update_mode_run(void)
{
}
#endif

#if !defined(CONFIG_BLEDFU_SMP_FORWARD)
int32_t bledfu_shim_smp_forward(const uint8_t *bytes, uint32_t length)
{
	return BLEDFU_SHIM_NO_CHANNEL;
}

uint32_t bledfu_shim_smp_answer(const uint8_t **bytes)
{
	return 0;
}
#endif
