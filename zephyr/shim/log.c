/* SPDX-License-Identifier: Apache-2.0 */
/* Passes Rust's log lines to Zephyr's log, and ends a Rust panic. */
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <zephyr/logging/log_ctrl.h>

#include "bledfu_shim.h"

LOG_MODULE_REGISTER(bledfu, CONFIG_BLEDFU_LOG_LEVEL);

#if defined(CONFIG_RUST) && defined(CONFIG_ARM)
/* A core library that cargo has built from source refers to this symbol. Nothing unwinds, so it is never called. */
__weak void __aeabi_unwind_cpp_pr0(void)
{
}
#endif

void bledfu_shim_log(uint8_t level, const char *line)
{
	if (level == LOG_LEVEL_ERR) {
		LOG_ERR("%s", line);
	} else if (level == LOG_LEVEL_WRN) {
		LOG_WRN("%s", line);
	} else if (level == LOG_LEVEL_INF) {
		LOG_INF("%s", line);
	} else {
		LOG_DBG("%s", line);
	}
}

void bledfu_shim_panic(const uint8_t *file, uint32_t length, uint32_t line)
{
	char name[64];
	size_t shown = MIN(length, sizeof(name) - 1);

	/* The end of a path says more than its start. */
	memcpy(name, file + (length - shown), shown);
	name[shown] = '\0';
	LOG_ERR("panic in %s, line %u", name, line);
	LOG_PANIC();
	k_panic();
	CODE_UNREACHABLE;
}
