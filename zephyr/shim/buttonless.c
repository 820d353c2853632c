/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buttonless entry. In the application FE59 has one characteristic, by which a phone asks for the update mode; in update mode
 * it has control point and packet characteristic instead (gatt_secure_dfu.c). What is answered, and how long the update mode
 * lasts, is decided in Rust; here are GATT, retained memory and the reset.
 */
#include <string.h>
#include <zephyr/bluetooth/att.h>
#include <zephyr/bluetooth/conn.h>
#include <zephyr/bluetooth/uuid.h>
#include <zephyr/init.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <zephyr/retention/retention.h>
#include <zephyr/settings/settings.h>

#include <bledfu/bledfu.h>
#include "bledfu_shim.h"
#include "compat.h"

LOG_MODULE_DECLARE(bledfu, CONFIG_BLEDFU_LOG_LEVEL);

/* How long a link may take to close before the reset. */
#define CLOSE_MS 1000
#define MAX_WRITE 512 /* the longest attribute value of ATT */

#if defined(CONFIG_BLEDFU_BUTTONLESS_WITH_BONDS)
#define CHARACTERISTIC 0x8EC90004
#define PERM_WRITE (IS_ENABLED(CONFIG_BLEDFU_AUTHENTICATED_LINK) ? BT_GATT_PERM_WRITE_AUTHEN : BT_GATT_PERM_WRITE_ENCRYPT)
#else
#define CHARACTERISTIC 0x8EC90003
#define PERM_WRITE BLEDFU_PERM_WRITE
#endif

static const struct device *const retained = DEVICE_DT_GET(DT_CHOSEN(bledfu_update_mode));

struct bledfu_update_mode bledfu_update_mode = {.address = {BLEDFU_OWN_ADDRESS}};
static bool is_update_mode;

/* The peer that wrote; until it disconnects. */
static struct bt_conn *asker;
static struct k_spinlock asker_lock;
/* An answer is on its way to it; the device resets when it has gone. */
static atomic_t indicating, leaving;

static struct bt_conn *asker_get(void)
{
	struct bt_conn *conn = NULL;

	K_SPINLOCK(&asker_lock) {
		if (asker != NULL) {
			conn = bt_conn_ref(asker);
		}
	}
	return conn;
}

static bool claim(struct bt_conn *conn)
{
	bool same = false;

	K_SPINLOCK(&asker_lock) {
		if (asker == NULL) {
			asker = bt_conn_ref(conn);
		}
		same = asker == conn;
	}
	return same;
}

static void disconnected(struct bt_conn *conn, uint8_t reason)
{
	bool was_asker = false;

	K_SPINLOCK(&asker_lock) {
		if (asker == conn) {
			asker = NULL;
			was_asker = true;
		}
	}
	if (!was_asker) {
		return;
	}
	bt_conn_unref(conn);
	/* Here, before anybody advertises again: a phone would find the application once more. */
	if (atomic_get(&leaving) != 0) {
		bledfu_shim_reset();
	}
	atomic_clear(&indicating);
	bledfu_rs_buttonless_over(1);
}

BT_CONN_CB_DEFINE(bledfu_buttonless_callbacks) = {
	.disconnected = disconnected,
};

#if defined(CONFIG_BLEDFU_BUTTONLESS_WITH_BONDS)
static void compare(const struct bt_bond_info *info, void *found)
{
	struct bt_conn *conn = asker_get();

	if (conn != NULL) {
		*(bool *)found |= bt_addr_le_eq(&info->addr, bt_conn_get_dst(conn));
		bt_conn_unref(conn);
	}
}

/* With a bond, and encrypted by it. */
static bool is_bonded(struct bt_conn *conn, uint8_t id)
{
	bool found = false;

	bt_foreach_bond(id, compare, &found);
	return found && bt_conn_get_security(conn) >= BT_SECURITY_L2;
}
#else
static bool is_bonded(struct bt_conn *conn, uint8_t id)
{
	return false;
}
#endif

static ssize_t write_request(struct bt_conn *conn, const struct bt_gatt_attr *attr, const void *buf, uint16_t len,
			     uint16_t offset, uint8_t flags)
{
	struct bt_conn_info info;
	uint8_t reached[7];

	if ((flags & (BT_GATT_WRITE_FLAG_PREPARE | BT_GATT_WRITE_FLAG_CMD)) != 0) {
		return BT_GATT_ERR(BT_ATT_ERR_WRITE_NOT_PERMITTED);
	}
	if (offset != 0) {
		return BT_GATT_ERR(BT_ATT_ERR_INVALID_OFFSET);
	}
	if (len > MAX_WRITE) {
		return BT_GATT_ERR(BT_ATT_ERR_INVALID_ATTRIBUTE_LEN);
	}
	if (!bt_gatt_is_subscribed(conn, attr, BT_GATT_CCC_INDICATE)) {
		return BT_GATT_ERR(BT_ATT_ERR_CCC_IMPROPER_CONF);
	}
	if (bledfu_state() == BLEDFU_STATE_FAILED || bt_conn_get_info(conn, &info) != 0) {
		return BT_GATT_ERR(BT_ATT_ERR_UNLIKELY);
	}
	reached[0] = info.le.src->type;
	memcpy(&reached[1], info.le.src->a.val, sizeof(info.le.src->a.val));
	if (!claim(conn) || atomic_get(&indicating) != 0 ||
	    bledfu_rs_buttonless(buf, len, is_bonded(conn, info.id), reached) == 0) {
		return BT_GATT_ERR(BT_ATT_ERR_PROCEDURE_IN_PROGRESS);
	}
	return len;
}

static ssize_t subscribe(struct bt_conn *conn, const struct bt_gatt_attr *attr, uint16_t value)
{
	return sizeof(value);
}

static struct bt_gatt_attr attributes[] = {
	BT_GATT_PRIMARY_SERVICE(BT_UUID_DECLARE_16(BLEDFU_UUID16_VAL)),
	BT_GATT_CHARACTERISTIC(BT_UUID_DECLARE_128(BT_UUID_128_ENCODE(CHARACTERISTIC, 0xF315, 0x4F60, 0x9FB8,
								      0x838830DAEA50)),
			       BT_GATT_CHRC_WRITE | BT_GATT_CHRC_INDICATE, PERM_WRITE, NULL, write_request, NULL),
	BLEDFU_CCC(subscribe, BT_GATT_PERM_READ | PERM_WRITE),
};
static struct bt_gatt_service application_service = BT_GATT_SERVICE(attributes);

static void confirmed(struct bt_conn *conn, struct bt_gatt_indicate_params *params, uint8_t err)
{
	atomic_clear(&indicating);
	if (err == 0) {
		bledfu_rs_buttonless_over(0);
	}
}

int32_t bledfu_shim_indicate(const uint8_t *bytes, uint32_t length)
{
	static uint8_t answer[3];
	static struct bt_gatt_indicate_params indication;
	struct bt_conn *conn = asker_get();
	int err;

	if (conn == NULL) {
		return BLEDFU_SHIM_NOT_CONNECTED;
	}
	if (length > sizeof(answer)) {
		bt_conn_unref(conn);
		return BLEDFU_SHIM_TOO_LONG;
	}
	memcpy(answer, bytes, length);
	indication = (struct bt_gatt_indicate_params){
		.attr = &attributes[2], .func = confirmed, .data = answer, .len = length};
	atomic_set(&indicating, 1);
	err = bt_gatt_indicate(conn, &indication);
	bt_conn_unref(conn);
	if (err != 0) {
		atomic_clear(&indicating);
	}
	return err == 0 ? 0 : BLEDFU_SHIM_OTHER(-err);
}

int32_t bledfu_shim_retain(const uint8_t *bytes, uint32_t length)
{
	int err = length > BLEDFU_RECORD_SIZE ? -EFBIG : retention_write(retained, 0, bytes, length);

	return err == 0 ? 0 : BLEDFU_SHIM_OTHER(-err);
}

void bledfu_shim_leave(void)
{
	struct bt_conn *conn = asker_get();

	atomic_set(&leaving, 1);
	if (conn != NULL && bt_conn_disconnect(conn, BT_HCI_ERR_REMOTE_USER_TERM_CONN) == 0) {
		k_msleep(CLOSE_MS); /* disconnected() resets before */
	}
	bledfu_shim_reset();
}

bool bledfu_is_update_mode(void)
{
	if (k_is_user_context()) {
		/* This memory is not a user thread's, and there is no error to return. The log names the thread and this function. */
		k_oops();
	}
	return is_update_mode;
}

/* Before the product can enable Bluetooth: a service that comes later would be a change to phones. */
static int begin(void)
{
	uint8_t record[BLEDFU_RECORD_SIZE];
	int err;

	if (!device_is_ready(retained)) {
		LOG_ERR("the retained memory of the update mode is not ready");
	} else if (retention_read(retained, 0, record, sizeof(record)) == 0) {
		is_update_mode = bledfu_rs_update_mode(record, sizeof(record), &bledfu_update_mode) != 0;
		/* Once: the next start is the application's, whatever happens. */
		(void)retention_clear(retained);
	}
	err = bt_gatt_service_register(is_update_mode ? &bledfu_service : &application_service);
	if (err != 0) {
		LOG_ERR("the service FE59 is missing: %d", err);
	}
	return 0;
}

SYS_INIT(begin, APPLICATION, 0);

static int go_on_air(void)
{
	const uint8_t *address = bledfu_update_mode.address;
	int err;

	if (address[0] != BLEDFU_OWN_ADDRESS) {
		bt_addr_le_t above = {.type = address[0]};

		memcpy(above.a.val, &address[1], sizeof(above.a.val));
		err = bt_id_create(&above, NULL);
		if (err < 0) {
			LOG_WRN("the update mode has the application's address: the one above it cannot be used (%d)", err);
		}
	}
	err = bt_enable(NULL);
#if defined(CONFIG_BT_SETTINGS)
	/* The bonds. */
	err = err != 0 ? err : settings_load_subtree("bt");
#endif
	return err != 0 ? err : bledfu_advertising_start();
}

void bledfu_update_mode_run(void)
{
	int err;

	if (!bledfu_is_update_mode()) {
		return;
	}
	LOG_INF("update mode");
	err = go_on_air();
	if (err != 0) {
		LOG_ERR("no update mode (%d): reset into the application", err);
		bledfu_shim_reset();
	}
	k_sleep(K_FOREVER);
}
