/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A product with services of its own, which it has in the application only: a lamp, which refuses the update mode while it is on,
 * and the version of the running image, as the Device Information Service tells it.
 */
#include <zephyr/bluetooth/bluetooth.h>
#include <zephyr/bluetooth/gatt.h>
#include <zephyr/bluetooth/uuid.h>
#include <zephyr/kernel.h>
#include <zephyr/settings/settings.h>
#include <zephyr/storage/flash_map.h>
#include <zephyr/sys/atomic.h>
#include <zephyr/sys/printk.h>
#include <string.h>

#include <bledfu/bledfu.h>

#define LAMP_UUID(n) BT_UUID_DECLARE_128(BT_UUID_128_ENCODE(0x7d060000 + (n), 0x5ad1, 0x4f2e, 0x9c39, 0x1b2d5c0d05e5))

/* The lamp is on: no update now. */
static atomic_t is_on;

static ssize_t write_lamp(struct bt_conn *conn, const struct bt_gatt_attr *attr, const void *buf, uint16_t len,
			  uint16_t offset, uint8_t flags)
{
	if (len != 1 || offset != 0) {
		return BT_GATT_ERR(BT_ATT_ERR_INVALID_ATTRIBUTE_LEN);
	}
	atomic_set(&is_on, *(const uint8_t *)buf);
	return len;
}

static struct bt_gatt_attr lamp_attributes[] = {
	BT_GATT_PRIMARY_SERVICE(LAMP_UUID(0)),
	BT_GATT_CHARACTERISTIC(LAMP_UUID(1), BT_GATT_CHRC_WRITE, BT_GATT_PERM_WRITE, NULL, write_lamp, NULL),
};
static struct bt_gatt_service lamp_service = BT_GATT_SERVICE(lamp_attributes);

/* The version in the header of the image in slot 0: this program stands for whatever image is there. */
static ssize_t read_version(struct bt_conn *conn, const struct bt_gatt_attr *attr, void *buf, uint16_t len, uint16_t offset)
{
	const struct flash_area *slot;
	uint8_t version[4] = {0};
	char text[16];

	if (flash_area_open(FIXED_PARTITION_ID(slot0_partition), &slot) == 0) {
		(void)flash_area_read(slot, 20, version, sizeof(version));
		flash_area_close(slot);
	}
	snprintk(text, sizeof(text), "%u.%u.%u", version[0], version[1], version[2] | version[3] << 8);
	return bt_gatt_attr_read(conn, attr, buf, len, offset, text, strlen(text));
}

static struct bt_gatt_attr information_attributes[] = {
	BT_GATT_PRIMARY_SERVICE(BT_UUID_DIS),
	BT_GATT_CHARACTERISTIC(BT_UUID_DIS_FIRMWARE_REVISION, BT_GATT_CHRC_READ, BT_GATT_PERM_READ, read_version, NULL,
			       NULL),
};
static struct bt_gatt_service information_service = BT_GATT_SERVICE(information_attributes);

static enum bledfu_answer on_event(const struct bledfu_event_info *info)
{
	return info->event == BLEDFU_EVENT_UPDATE_MODE && atomic_get(&is_on) != 0 ? BLEDFU_VETO : BLEDFU_GO_ON;
}

BLEDFU_CALLBACK_DEFINE(lamp_events, on_event);

int main(void)
{
	int err;

	bledfu_update_mode_run();
	err = bt_gatt_service_register(&lamp_service);
	err = err != 0 ? err : bt_gatt_service_register(&information_service);
	err = err != 0 ? err : bt_enable(NULL);
	if (IS_ENABLED(CONFIG_BT_SETTINGS)) {
		err = err != 0 ? err : settings_load();
	}
	err = err != 0 ? err : bledfu_advertising_start();
	err = err != 0 ? err : bledfu_confirm();
	printk("application: %d\n", err);
	return 0;
}
