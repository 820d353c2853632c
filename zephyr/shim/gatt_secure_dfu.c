/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Secure DFU service FE59. A write is checked for what ATT demands, copied into Rust's ring, and answered; nothing
 * here waits. All else is the worker's.
 */
#include <zephyr/bluetooth/att.h>
#include <zephyr/bluetooth/conn.h>
#include <zephyr/bluetooth/uuid.h>
#include <zephyr/kernel.h>

#include <bledfu/bledfu.h>
#include "bledfu_shim.h"
#include "compat.h"

#define UUID_SERVICE BT_UUID_DECLARE_16(BLEDFU_UUID16_VAL)
#define UUID_CHARACTERISTIC(n)                                                                     \
	BT_UUID_DECLARE_128(BT_UUID_128_ENCODE(0x8EC90000 + (n), 0xF315, 0x4F60, 0x9FB8, 0x838830DAEA50))
#define MAX_WRITE 512 /* the longest attribute value of ATT */

#if defined(CONFIG_BLEDFU_AUTHENTICATED_LINK)
#define PERM_WRITE BT_GATT_PERM_WRITE_AUTHEN
#elif defined(CONFIG_BLEDFU_ENCRYPTED_LINK)
#define PERM_WRITE BT_GATT_PERM_WRITE_ENCRYPT
#else
#define PERM_WRITE BT_GATT_PERM_WRITE
#endif

static ssize_t subscribe(struct bt_conn *conn, const struct bt_gatt_attr *attr, uint16_t value)
{
	if (value == BT_GATT_CCC_NOTIFY && !bledfu_peer_claim(conn)) {
		return BT_GATT_ERR(BT_ATT_ERR_PROCEDURE_IN_PROGRESS);
	}
	return sizeof(value);
}

static ssize_t write_any(uint8_t channel, struct bt_conn *conn, const void *buf, uint16_t len,
			 uint16_t offset)
{
	if (offset != 0) {
		return BT_GATT_ERR(BT_ATT_ERR_INVALID_OFFSET);
	}
	if (len > MAX_WRITE) {
		return BT_GATT_ERR(BT_ATT_ERR_INVALID_ATTRIBUTE_LEN);
	}
	if (!bt_gatt_is_subscribed(conn, bledfu_control_point, BT_GATT_CCC_NOTIFY)) {
		return BT_GATT_ERR(BT_ATT_ERR_CCC_IMPROPER_CONF);
	}
	if (!bledfu_peer_claim(conn)) {
		return BT_GATT_ERR(BT_ATT_ERR_PROCEDURE_IN_PROGRESS);
	}
	if (bledfu_rs_push(channel, buf, len) != 0) {
		/* Only a request has an answer: of a packet that is lost, the worker tells the peer. */
		return BT_GATT_ERR(BT_ATT_ERR_INSUFFICIENT_RESOURCES);
	}
	return len;
}

static ssize_t write_control(struct bt_conn *conn, const struct bt_gatt_attr *attr, const void *buf,
			     uint16_t len, uint16_t offset, uint8_t flags)
{
	/* The host does not compare the kind of write with the characteristic's properties. */
	if ((flags & (BT_GATT_WRITE_FLAG_PREPARE | BT_GATT_WRITE_FLAG_CMD)) != 0) {
		return BT_GATT_ERR(BT_ATT_ERR_WRITE_NOT_PERMITTED);
	}
	return write_any(BLEDFU_CHANNEL_CONTROL, conn, buf, len, offset);
}

static ssize_t write_packet(struct bt_conn *conn, const struct bt_gatt_attr *attr, const void *buf,
			    uint16_t len, uint16_t offset, uint8_t flags)
{
	if ((flags & BT_GATT_WRITE_FLAG_CMD) == 0) {
		return BT_GATT_ERR(BT_ATT_ERR_WRITE_NOT_PERMITTED);
	}
	return write_any(BLEDFU_CHANNEL_PACKET, conn, buf, len, offset);
}

BT_GATT_SERVICE_DEFINE(bledfu_service, BT_GATT_PRIMARY_SERVICE(UUID_SERVICE),
	BT_GATT_CHARACTERISTIC(UUID_CHARACTERISTIC(1), BT_GATT_CHRC_WRITE | BT_GATT_CHRC_NOTIFY,
			       PERM_WRITE, NULL, write_control, NULL),
	BLEDFU_CCC(subscribe, BT_GATT_PERM_READ | PERM_WRITE),
	BT_GATT_CHARACTERISTIC(UUID_CHARACTERISTIC(2), BT_GATT_CHRC_WRITE_WITHOUT_RESP, PERM_WRITE,
			       NULL, write_packet, NULL));

const struct bt_gatt_attr *const bledfu_control_point = &bledfu_service.attrs[2];
