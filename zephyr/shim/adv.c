/* SPDX-License-Identifier: Apache-2.0 */
/* Advertising for products that do not advertise themselves: the service FE59, and the name in the scan response. */
#include <errno.h>
#include <string.h>
#include <zephyr/bluetooth/conn.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>

#include <bledfu/bledfu.h>
#include "compat.h"

LOG_MODULE_DECLARE(bledfu, CONFIG_BLEDFU_LOG_LEVEL);

#define RETRY K_MSEC(200) /* a connection object is freed a little after the disconnect */

static const struct bt_data advertised[] = {
	BT_DATA_BYTES(BT_DATA_FLAGS, BT_LE_AD_GENERAL | BT_LE_AD_NO_BREDR),
	BLEDFU_AD_UUID,
#if defined(CONFIG_BLEDFU_SMP)
	BLEDFU_AD_SMP_UUID,
#endif
};
static atomic_t wanted;

static int start(void)
{
	const char *name = bt_get_name();
	const struct bt_data scanned[] = {
		BT_DATA(BT_DATA_NAME_COMPLETE, name, strlen(name)),
	};

	return bt_le_adv_start(BT_LE_ADV_PARAM(BLEDFU_ADV_CONNECTABLE, BT_GAP_ADV_FAST_INT_MIN_2,
					       BT_GAP_ADV_FAST_INT_MAX_2, NULL),
			       advertised, ARRAY_SIZE(advertised), scanned, ARRAY_SIZE(scanned));
}

static void restart(struct k_work *work)
{
	int err = atomic_get(&wanted) != 0 ? start() : 0;

	if (err != 0 && err != -EALREADY) {
		LOG_DBG("advertising again: %d", err);
		k_work_reschedule(k_work_delayable_from_work(work), RETRY);
	}
}

static K_WORK_DELAYABLE_DEFINE(restart_work, restart);

static void disconnected(struct bt_conn *conn, uint8_t reason)
{
	if (atomic_get(&wanted) != 0) {
		k_work_reschedule(&restart_work, K_NO_WAIT);
	}
}

BT_CONN_CB_DEFINE(bledfu_adv_callbacks) = {
	.disconnected = disconnected,
};

int bledfu_advertising_start(void)
{
	int err = start();

	if (err == 0 || err == -EALREADY) {
		atomic_set(&wanted, 1);
		LOG_INF("advertising as \"%s\"", bt_get_name());
		return 0;
	}
	return err;
}

int bledfu_advertising_stop(void)
{
	atomic_clear(&wanted);
	(void)k_work_cancel_delayable(&restart_work);
	return bt_le_adv_stop();
}
