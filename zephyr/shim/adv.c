/* SPDX-License-Identifier: Apache-2.0 */
/* Advertising for products that do not advertise themselves: the service FE59, and the name in the scan response. */
#include <errno.h>
#include <string.h>
#include <zephyr/bluetooth/conn.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>

#include "bledfu_shim.h"
#include "compat.h"

LOG_MODULE_DECLARE(bledfu, CONFIG_BLEDFU_LOG_LEVEL);

/* Between two tries, when advertising cannot be started: doubled each time, up to the last. */
#define FIRST_RETRY_MS 200
#define LAST_RETRY_MS  25600

static const struct bt_data advertised[] = {
	BT_DATA_BYTES(BT_DATA_FLAGS, BT_LE_AD_GENERAL | BT_LE_AD_NO_BREDR),
	BLEDFU_AD_UUID,
#if defined(CONFIG_BLEDFU_SMP)
	BLEDFU_AD_SMP_UUID,
#endif
};
/* The product wants it; it was started, and no peer has come since. */
static atomic_t wanted, running;
static uint32_t retry_ms;

static int start(void)
{
	const char *name = bt_get_name();
	const struct bt_data scanned[] = {
#if defined(CONFIG_BLEDFU_UPDATE_MODE)
		/* The phone that asked for the update mode may look for a name that it has set. */
		BT_DATA(BT_DATA_NAME_COMPLETE, bledfu_update_mode.name_length != 0 ? (const char *)bledfu_update_mode.name : name,
			bledfu_update_mode.name_length != 0 ? bledfu_update_mode.name_length : strlen(name)),
#else
		BT_DATA(BT_DATA_NAME_COMPLETE, name, strlen(name)),
#endif
	};
	int err;

	if (atomic_get(&running) != 0) {
		return 0;
	}
	err = bt_le_adv_start(BT_LE_ADV_PARAM(BLEDFU_ADV_CONNECTABLE, BT_GAP_ADV_FAST_INT_MIN_2,
					      BT_GAP_ADV_FAST_INT_MAX_2, NULL),
			      advertised, ARRAY_SIZE(advertised), scanned, ARRAY_SIZE(scanned));
	if (err == 0) {
		atomic_set(&running, 1);
		retry_ms = FIRST_RETRY_MS;
		LOG_INF("advertising as \"%s\"", name);
	} else if (err == -EALREADY) {
		LOG_ERR("the product advertises already: put BLEDFU_AD_UUID into its data");
	}
	return err;
}

static void update(struct k_work *work)
{
	int err;

	if (bledfu_state() == BLEDFU_STATE_FAILED && atomic_clear(&wanted) != 0) {
		LOG_ERR("not advertised: there are no updates, see above");
		if (atomic_clear(&running) != 0) {
			(void)bt_le_adv_stop();
		}
	}
	if (atomic_get(&wanted) == 0 || bledfu_state() == BLEDFU_STATE_STARTING) {
		return;
	}
	err = start();
	if (err == -EALREADY) {
		atomic_clear(&wanted);
	} else if (err != 0) {
		LOG_DBG("advertising: %d, again in %u ms", err, retry_ms);
		k_work_reschedule(k_work_delayable_from_work(work), K_MSEC(retry_ms));
		retry_ms = MIN(2 * retry_ms, LAST_RETRY_MS);
	}
}

static K_WORK_DELAYABLE_DEFINE(update_work, update);

void bledfu_adv_update(void)
{
	retry_ms = FIRST_RETRY_MS;
	k_work_reschedule(&update_work, K_NO_WAIT);
}

static void connected(struct bt_conn *conn, uint8_t err)
{
	struct bt_conn_info info;

	/* A connection ends the advertising that it came by, and so does a failed one. */
	if (bt_conn_get_info(conn, &info) == 0 && info.role == BT_CONN_ROLE_PERIPHERAL &&
	    atomic_clear(&running) != 0 && (err != 0 || CONFIG_BT_MAX_CONN > 1) && atomic_get(&wanted) != 0) {
		bledfu_adv_update();
	}
}

/* Only now there is a connection for the next peer. */
static void recycled(void)
{
	if (atomic_get(&wanted) != 0) {
		bledfu_adv_update();
	}
}

BT_CONN_CB_DEFINE(bledfu_adv_callbacks) = {
	.connected = connected,
	.recycled = recycled,
};

int bledfu_advertising_start(void)
{
	int err;

	if (k_is_user_context()) {
		return -EPERM;
	}
	if (!bt_is_ready()) {
		return -EAGAIN;
	}
	switch (bledfu_state()) {
	case BLEDFU_STATE_FAILED:
		return -ENOTSUP;
	case BLEDFU_STATE_STARTING:
		atomic_set(&wanted, 1);
		/* The state may have changed before this was seen. */
		bledfu_adv_update();
		return 0;
	default:
		err = start();
		atomic_set(&wanted, err == 0);
		return err;
	}
}

int bledfu_advertising_stop(void)
{
	if (k_is_user_context()) {
		return -EPERM;
	}
	atomic_clear(&wanted);
	(void)k_work_cancel_delayable(&update_work);
	return atomic_clear(&running) != 0 ? bt_le_adv_stop() : 0;
}
