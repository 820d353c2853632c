/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds a watchdog that the application started and that a reset does not stop. It is never started here. */
#include <zephyr/device.h>
#include <zephyr/devicetree.h>

#include "bledfu_shim.h"

#define WATCHDOG DT_ALIAS(watchdog0)

#if !defined(CONFIG_BLEDFU_BOOT_WATCHDOG_FEED) || !DT_NODE_HAS_STATUS(WATCHDOG, okay)

void bledfu_shim_boot_feed(void)
{
}

#elif DT_NODE_HAS_COMPAT(WATCHDOG, nordic_nrf_wdt)
#include <hal/nrf_wdt.h>

/* Zephyr's driver feeds only channels that it installed itself. */
void bledfu_shim_boot_feed(void)
{
	NRF_WDT_Type *watchdog = (NRF_WDT_Type *)DT_REG_ADDR(WATCHDOG);

	for (int i = 0; i < NRF_WDT_CHANNEL_NUMBER; i++) {
		nrf_wdt_rr_register_t request = (nrf_wdt_rr_register_t)(NRF_WDT_RR0 + i);

		if (nrf_wdt_reload_request_enable_check(watchdog, request)) {
			nrf_wdt_reload_request_set(watchdog, request);
		}
	}
}

#elif defined(CONFIG_WATCHDOG)
#include <zephyr/drivers/watchdog.h>

void bledfu_shim_boot_feed(void)
{
	const struct device *const watchdog = DEVICE_DT_GET(WATCHDOG);

	if (device_is_ready(watchdog)) {
		(void)wdt_feed(watchdog, 0);
	}
}

#else

void bledfu_shim_boot_feed(void)
{
}

#endif
