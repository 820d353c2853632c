/* SPDX-License-Identifier: Apache-2.0 */
/* All of bledfu.h, with any configuration. Only built. */
#include <zephyr/bluetooth/bluetooth.h>
#include <zephyr/sys/printk.h>

#include <bledfu/bledfu.h>

static enum bledfu_answer on_update(const struct bledfu_event_info *info)
{
	return info->event == BLEDFU_EVENT_RESETTING ? BLEDFU_VETO : BLEDFU_GO_ON;
}

BLEDFU_CALLBACK_DEFINE(build_all, on_update);

static const struct bt_data ad[] = {BLEDFU_AD_UUID};

int main(void)
{
	struct bledfu_boot_report report = {0};
	struct bledfu_status status;
	int err = bt_enable(NULL);

	bledfu_status_get(&status);
	err = err != 0 ? err : bledfu_confirm();
	err = err != 0 ? err : bledfu_boot_report(&report);
#if defined(CONFIG_BLEDFU_ADVERTISING)
	err = err != 0 ? err : bledfu_advertising_start();
	err = err != 0 ? err : bledfu_advertising_stop();
#endif
	printk("%d, state %d, boot %d, %u bytes of advertising data\n", err, status.state, report.action, ad[0].data_len);
	return 0;
}
