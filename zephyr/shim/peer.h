/* SPDX-License-Identifier: Apache-2.0 */
/* Between gatt_secure_dfu.c and peer.c. */
#ifndef BLEDFU_PEER_H_
#define BLEDFU_PEER_H_

#include <stdbool.h>
#include <zephyr/bluetooth/conn.h>
#include <zephyr/bluetooth/gatt.h>

/* The characteristic that answers are notified on. */
extern const struct bt_gatt_attr *const bledfu_control_point;

/* Makes conn the peer if there is none; true when conn is the peer now. */
bool bledfu_peer_claim(struct bt_conn *conn);

#endif
