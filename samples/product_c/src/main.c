/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A product of its own: it doses for as many seconds as a peer writes to its characteristic. It keeps its main, its
 * service and its advertising. Firmware update is CONFIG_BLEDFU=y and the callback below. While it doses, it accepts no
 * update and is not reset.
 */
#include <zephyr/bluetooth/bluetooth.h>
#include <zephyr/bluetooth/conn.h>
#include <zephyr/bluetooth/gatt.h>
#include <zephyr/bluetooth/uuid.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <zephyr/logging/log_ctrl.h>
#include <zephyr/sys/atomic.h>
#include <zephyr/sys/reboot.h>

#include <bledfu/bledfu.h>

LOG_MODULE_REGISTER(doser, LOG_LEVEL_INF);

#define DOSER_UUID(n) BT_UUID_128_ENCODE(0x7d050000 + (n), 0x5ad1, 0x4f2e, 0x9c39, 0x1b2d5c0d05e5)

enum flag {
	DOSING,    /* the valve is open */
	RESET_DUE, /* an update is staged and waits for the end of the dose */
};

static ATOMIC_DEFINE(flags, 2);

static void advertise(struct k_work *work);
static K_WORK_DEFINE(advertising, advertise);

/* ---- firmware update ---- */

static enum bledfu_answer on_update(const struct bledfu_event_info *info)
{
	bool busy = atomic_test_bit(flags, DOSING);

	switch (info->event) {
	case BLEDFU_EVENT_READY:
		LOG_INF("update service ready, firmware version %u, %s", info->ready.fw_version,
			info->ready.confirmed ? "confirmed" : "on trial");
		break;
	case BLEDFU_EVENT_FAILED:
		LOG_ERR("no updates with this device");
		/* Advertise on, without the update service. */
		if (bt_is_ready()) {
			(void)bt_le_adv_stop();
			k_work_submit(&advertising);
		}
		break;
	case BLEDFU_EVENT_STARTED:
		LOG_INF("update to version %u, %u bytes: %s", info->package.fw_version, info->package.size,
			busy ? "not while dosing" : "go on");
		return busy ? BLEDFU_POSTPONE : BLEDFU_GO_ON;
	case BLEDFU_EVENT_PROGRESS:
		LOG_INF("%u of %u bytes", info->progress.received, info->progress.size);
		break;
	case BLEDFU_EVENT_STAGED:
		LOG_INF("version %u is staged", info->package.fw_version);
		break;
	case BLEDFU_EVENT_REFUSED:
		LOG_WRN("refused: 0x%06x", info->refused.code);
		break;
	case BLEDFU_EVENT_RESETTING:
		/* No dose begins from here on. If one is running, main resets when it has ended. */
		atomic_set_bit(flags, RESET_DUE);
		return atomic_test_bit(flags, DOSING) ? BLEDFU_VETO : BLEDFU_GO_ON;
	case BLEDFU_EVENT_CONFIRMED:
		LOG_INF("confirmed: %u", info->confirmed.done);
		break;
	case BLEDFU_EVENT_RESET_REQUESTED:
		/* With CONFIG_BLEDFU_SMP only. The phone tries again. */
		return busy ? BLEDFU_POSTPONE : BLEDFU_GO_ON;
	case BLEDFU_EVENT_UPDATE_MODE:
		/* With CONFIG_BLEDFU_BUTTONLESS only. */
		return busy ? BLEDFU_VETO : BLEDFU_GO_ON;
	}
	return BLEDFU_GO_ON;
}

BLEDFU_CALLBACK_DEFINE(doser_update, on_update);

/* ---- what the product does ---- */

static void dose_ends(struct k_work *work)
{
	LOG_INF("valve closed");
	atomic_clear_bit(flags, DOSING);
}

static K_WORK_DELAYABLE_DEFINE(dose_end, dose_ends);

static ssize_t write_dose(struct bt_conn *conn, const struct bt_gatt_attr *attr, const void *buf, uint16_t len,
			  uint16_t offset, uint8_t write_flags)
{
	uint8_t seconds;

	if (len != sizeof(seconds) || offset != 0) {
		return BT_GATT_ERR(BT_ATT_ERR_INVALID_ATTRIBUTE_LEN);
	}
	/* First set the flag, then check the other one. on_update does it the other way round, so one of the two sees the other. */
	if (atomic_test_and_set_bit(flags, DOSING)) {
		return BT_GATT_ERR(BT_ATT_ERR_PROCEDURE_IN_PROGRESS);
	}
	if (atomic_test_bit(flags, RESET_DUE)) {
		atomic_clear_bit(flags, DOSING);
		return BT_GATT_ERR(BT_ATT_ERR_PROCEDURE_IN_PROGRESS);
	}
	seconds = *(const uint8_t *)buf;
	LOG_INF("valve open for %u s", seconds);
	k_work_schedule(&dose_end, K_SECONDS(seconds));
	return len;
}

static ssize_t read_dose(struct bt_conn *conn, const struct bt_gatt_attr *attr, void *buf, uint16_t len,
			 uint16_t offset)
{
	uint8_t dosing = atomic_test_bit(flags, DOSING);

	return bt_gatt_attr_read(conn, attr, buf, len, offset, &dosing, sizeof(dosing));
}

BT_GATT_SERVICE_DEFINE(doser_service,
	BT_GATT_PRIMARY_SERVICE(BT_UUID_DECLARE_128(DOSER_UUID(0))),
	BT_GATT_CHARACTERISTIC(BT_UUID_DECLARE_128(DOSER_UUID(1)), BT_GATT_CHRC_READ | BT_GATT_CHRC_WRITE,
			       BT_GATT_PERM_READ | BT_GATT_PERM_WRITE, read_dose, write_dose, NULL));

/* ---- the product's own advertising, with the UUID of the update service, by which phones find it ---- */

#ifdef BT_LE_ADV_CONN_FAST_2
#define ADV_CONNECTABLE BT_LE_ADV_CONN_FAST_2
#else /* Zephyr 3.7 */
#define ADV_CONNECTABLE BT_LE_ADV_PARAM(BT_LE_ADV_OPT_CONNECTABLE | BT_LE_ADV_OPT_ONE_TIME, \
					BT_GAP_ADV_FAST_INT_MIN_2, BT_GAP_ADV_FAST_INT_MAX_2, NULL)
#endif

static const struct bt_data ad[] = {
	BT_DATA_BYTES(BT_DATA_FLAGS, BT_LE_AD_GENERAL | BT_LE_AD_NO_BREDR),
	BT_DATA(BT_DATA_NAME_COMPLETE, CONFIG_BT_DEVICE_NAME, sizeof(CONFIG_BT_DEVICE_NAME) - 1),
	/* The last, and left out if the update service cannot run. */
	BLEDFU_AD_UUID,
};

static void advertise(struct k_work *work)
{
	struct bledfu_status status;
	int err;

	(void)bledfu_status_get(&status);
	err = bt_le_adv_start(ADV_CONNECTABLE, ad, ARRAY_SIZE(ad) - (status.state == BLEDFU_STATE_FAILED), NULL, 0);
	if (err != 0 && err != -EALREADY) {
		LOG_ERR("advertising: %d", err);
	}
}

static void recycled(void)
{
	k_work_submit(&advertising);
}

BT_CONN_CB_DEFINE(connections) = {
	.recycled = recycled,
};

int main(void)
{
	int err = bt_enable(NULL);

	if (err != 0) {
		/* Not confirmed: if this image is an update, the old one returns at the next reset. */
		LOG_ERR("Bluetooth: %d", err);
		return 0;
	}
	k_work_submit(&advertising);
	/* The self-test of this product: Bluetooth works. */
	err = bledfu_confirm();
	if (err != 0) {
		LOG_ERR("not confirmed: %d", err);
	}
	while (true) {
		if (atomic_test_bit(flags, RESET_DUE) && !atomic_test_bit(flags, DOSING)) {
			LOG_INF("reset to install the update");
			LOG_PANIC();
			sys_reboot(SYS_REBOOT_COLD);
		}
		k_msleep(100);
	}
}
