/* SPDX-License-Identifier: Apache-2.0 */
/* The Secure DFU service FE59. peer.c handles the writes to both characteristics. */
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

static ssize_t write_control(struct bt_conn *conn, const struct bt_gatt_attr *attr, const void *buf,
			     uint16_t len, uint16_t offset, uint8_t flags)
{
	/* The host does not check the kind of write against the properties of the characteristic. */
	if ((flags & (BT_GATT_WRITE_FLAG_PREPARE | BT_GATT_WRITE_FLAG_CMD)) != 0) {
		return BT_GATT_ERR(BT_ATT_ERR_WRITE_NOT_PERMITTED);
	}
	return bledfu_peer_write(BLEDFU_CHANNEL_CONTROL, bledfu_control_point, conn, buf, len, offset);
}

static ssize_t write_packet(struct bt_conn *conn, const struct bt_gatt_attr *attr, const void *buf,
			    uint16_t len, uint16_t offset, uint8_t flags)
{
	if ((flags & BT_GATT_WRITE_FLAG_CMD) == 0) {
		return BT_GATT_ERR(BT_ATT_ERR_WRITE_NOT_PERMITTED);
	}
	return bledfu_peer_write(BLEDFU_CHANNEL_PACKET, bledfu_control_point, conn, buf, len, offset);
}

#define ATTRIBUTES                                                                                 \
	BT_GATT_PRIMARY_SERVICE(UUID_SERVICE),                                                     \
	BT_GATT_CHARACTERISTIC(UUID_CHARACTERISTIC(1), BT_GATT_CHRC_WRITE | BT_GATT_CHRC_NOTIFY,   \
			       BLEDFU_PERM_WRITE, NULL, write_control, NULL),                      \
	BLEDFU_CCC(bledfu_peer_subscribe, BT_GATT_PERM_READ | BLEDFU_PERM_WRITE),                  \
	BT_GATT_CHARACTERISTIC(UUID_CHARACTERISTIC(2), BT_GATT_CHRC_WRITE_WITHOUT_RESP,            \
			       BLEDFU_PERM_WRITE, NULL, write_packet, NULL)

#if defined(CONFIG_BLEDFU_UPDATE_MODE)
/* buttonless.c registers it in update mode, and another one in the application. */
static struct bt_gatt_attr attributes[] = {ATTRIBUTES};
struct bt_gatt_service bledfu_service = BT_GATT_SERVICE(attributes);
const struct bt_gatt_attr *const bledfu_control_point = &attributes[2];
#else
BT_GATT_SERVICE_DEFINE(bledfu_service, ATTRIBUTES);
const struct bt_gatt_attr *const bledfu_control_point = &bledfu_service.attrs[2];
#endif
