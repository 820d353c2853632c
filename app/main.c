/* SPDX-License-Identifier: Apache-2.0 */
/* The application without zephyr-lang-rust. With it, rust/firmware replaces this file. */
#include <zephyr/bluetooth/bluetooth.h>
#include <zephyr/logging/log.h>

#include <bledfu/bledfu.h>

LOG_MODULE_DECLARE(app, LOG_LEVEL_INF);

/* A new image must prove itself before it is kept. Here: Bluetooth works, so that the next update can come. */
static bool self_test(void)
{
	return bt_is_ready();
}

int main(void)
{
	int err;

	if (IS_ENABLED(CONFIG_BLEDFU_UPDATE_MODE)) {
		bledfu_update_mode_run();
	}
	err = bt_enable(NULL);
	if (err == 0) {
		err = bledfu_advertising_start();
	}
	if (err == 0 && self_test()) {
		err = bledfu_confirm();
	}
	if (err != 0) {
		/* A new image that does not work is taken back at the next reset. */
		LOG_ERR("not confirmed: %d", err);
	}
	return 0;
}
