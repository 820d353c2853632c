/* SPDX-License-Identifier: Apache-2.0 */
/* The SMP service of mcumgr: one characteristic, fragments of frames in, fragments of answers out. */
#include <zephyr/bluetooth/att.h>
#include <zephyr/bluetooth/uuid.h>

#include <bledfu/bledfu.h>
#include "bledfu_shim.h"
#include "compat.h"

#define UUID_CHARACTERISTIC                                                                        \
	BT_UUID_DECLARE_128(BT_UUID_128_ENCODE(0xDA2E7828, 0xFBCE, 0x4E01, 0xAE9E, 0x261174997C48))

/* The properties of the characteristic do not include write with response, but a client that sends one is answered. */
static ssize_t write_fragment(struct bt_conn *conn, const struct bt_gatt_attr *attr, const void *buf,
			      uint16_t len, uint16_t offset, uint8_t flags)
{
	if ((flags & BT_GATT_WRITE_FLAG_PREPARE) != 0) {
		return BT_GATT_ERR(BT_ATT_ERR_WRITE_NOT_PERMITTED);
	}
	return bledfu_peer_write(BLEDFU_CHANNEL_SMP, bledfu_smp_characteristic, conn, buf, len, offset);
}

BT_GATT_SERVICE_DEFINE(bledfu_smp_service,
	BT_GATT_PRIMARY_SERVICE(BT_UUID_DECLARE_128(BLEDFU_SMP_UUID128_VAL)),
	BT_GATT_CHARACTERISTIC(UUID_CHARACTERISTIC,
			       BT_GATT_CHRC_WRITE_WITHOUT_RESP | BT_GATT_CHRC_NOTIFY,
			       BLEDFU_PERM_WRITE, NULL, write_fragment, NULL),
	BLEDFU_CCC(bledfu_peer_subscribe, BT_GATT_PERM_READ | BLEDFU_PERM_WRITE));

const struct bt_gatt_attr *const bledfu_smp_characteristic = &bledfu_smp_service.attrs[2];
