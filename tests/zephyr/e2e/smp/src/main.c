/* SPDX-License-Identifier: Apache-2.0 */
/* Advertises and confirms nothing: a new image is kept when a client says so over SMP, else the next reset takes it back. */
#include <zephyr/bluetooth/bluetooth.h>
#include <zephyr/settings/settings.h>
#include <zephyr/sys/printk.h>

#include <bledfu/bledfu.h>

int main(void)
{
	int err = bt_enable(NULL);

	if (err == 0 && IS_ENABLED(CONFIG_BT_SETTINGS)) {
		err = settings_load();
	}
	err = err != 0 ? err : bledfu_advertising_start();
	if (err != 0) {
		printk("not on the air: %d\n", err);
	}
	return 0;
}
