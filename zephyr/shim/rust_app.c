/* SPDX-License-Identifier: Apache-2.0 */
/* What an application in Rust calls (rust/bledfu-zephyr/src/app.rs). */
#include <zephyr/bluetooth/bluetooth.h>
#include <zephyr/sys/util.h>

#include <bledfu/bledfu.h>
#include "bledfu_shim.h"

#if defined(CONFIG_ARM)
/* Asked for by a core library that cargo has built from source; nothing unwinds. */
__weak void __aeabi_unwind_cpp_pr0(void)
{
}
#endif

static int32_t status_of(int err)
{
	if (err == 0) {
		return 0;
	}
	return err == -ETIMEDOUT ? BLEDFU_SHIM_TIMED_OUT : BLEDFU_SHIM_OTHER(-err);
}

int32_t bledfu_shim_bluetooth_enable(void)
{
	return status_of(bt_enable(NULL));
}

uint32_t bledfu_shim_bluetooth_ready(void)
{
	return bt_is_ready();
}

int32_t bledfu_shim_advertise(void)
{
	return status_of(IS_ENABLED(CONFIG_BLEDFU_ADVERTISING) ? bledfu_advertising_start() : 0);
}

int32_t bledfu_shim_confirm(void)
{
	return status_of(bledfu_confirm());
}
