/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The peer: the first one that subscribes, until it disconnects. A write of it is checked for what ATT demands, copied into
 * Rust's ring, and answered. Only a packet that finds the ring full waits, for ROOM_MS at most. Below, what the worker does
 * with the peer.
 */
#include <errno.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>

#include "bledfu_shim.h"
#include "compat.h"

LOG_MODULE_DECLARE(bledfu, CONFIG_BLEDFU_LOG_LEVEL);

/*
 * Connection events that a change of PHY (about 10) and of the data length (3) take. A controller may have room for no
 * more than two procedures (Zephyr's), so the interval waits for them, whether they are answered or not.
 */
#define ASKED_EVENTS 16

#define MAX_WRITE 512 /* the longest attribute value of ATT */

/*
 * The last resort before a packet is lost. The controller refuses the peer's packets meanwhile, so a longer wait would delay
 * link layer procedures beyond their instant, and end the link (0x28).
 */
#define ROOM_MS 20

/*
 * Notifications that may be under way: the host blocks the worker for one more than it has buffers, and one is needed for
 * the response to a write.
 */
#define NOTIFICATIONS MAX(CONFIG_BT_ATT_TX_COUNT - 1, 1)
#define BUFFER_MS 50

static struct bt_conn *peer;
static struct k_spinlock peer_lock;
/* Notifications that have not left yet. */
static atomic_t pending;
static K_SEM_DEFINE(sent, 0, 1);
/* The Bluetooth thread waits for room in the ring. */
static atomic_t waiting;
static K_SEM_DEFINE(room, 0, 1);

/* The link is as safe as BLEDFU_LINK asks; where it asks for nothing, as safe as pairing makes it. */
static bool is_trusted(struct bt_conn *conn)
{
#if defined(CONFIG_BT_SMP)
	return bt_conn_get_security(conn) >= (IS_ENABLED(CONFIG_BLEDFU_AUTHENTICATED_LINK)
						      ? BT_SECURITY_L3 : BT_SECURITY_L2);
#else
	return false;
#endif
}

/* Makes conn the peer if there is none; true when conn is the peer now. */
static bool claim(struct bt_conn *conn)
{
	bool claimed = false;
	bool is_peer = false;

	K_SPINLOCK(&peer_lock) {
		if (peer == NULL) {
			peer = bt_conn_ref(conn);
			claimed = true;
		}
		is_peer = peer == conn;
	}
	if (claimed) {
		bledfu_rs_link(1);
		bledfu_rs_peer(is_trusted(conn));
	}
	return is_peer;
}

ssize_t bledfu_peer_subscribe(struct bt_conn *conn, const struct bt_gatt_attr *attr, uint16_t value)
{
	if (value == BT_GATT_CCC_NOTIFY && !claim(conn)) {
		return BT_GATT_ERR(BT_ATT_ERR_PROCEDURE_IN_PROGRESS);
	}
	return sizeof(value);
}

static bool may_wait(struct bt_conn *conn)
{
	struct bt_conn_info info;

	/* The system work queue gives back the buffers of notifications: the worker would wait for it, and it for the worker. */
	return k_current_get() != k_work_queue_thread_get(&k_sys_work_q) &&
	       bt_conn_get_info(conn, &info) == 0 && info.state == BT_CONN_STATE_CONNECTED;
}

static int32_t push_packet(struct bt_conn *conn, const void *buf, uint16_t len)
{
	int64_t until = k_uptime_get() + ROOM_MS;
	int32_t status = bledfu_rs_push(BLEDFU_CHANNEL_PACKET, buf, len, 1);

	while (status == BLEDFU_SHIM_NO_BUFFER) {
		int64_t left = until - k_uptime_get();

		if (left <= 0 || !may_wait(conn)) {
			return bledfu_rs_push(BLEDFU_CHANNEL_PACKET, buf, len, 0);
		}
		k_sem_reset(&room);
		atomic_set(&waiting, 1);
		/* Room that was made before the worker could see that somebody waits. */
		status = bledfu_rs_push(BLEDFU_CHANNEL_PACKET, buf, len, 1);
		if (status == BLEDFU_SHIM_NO_BUFFER) {
			(void)k_sem_take(&room, K_MSEC(left));
			status = bledfu_rs_push(BLEDFU_CHANNEL_PACKET, buf, len, 1);
		}
		atomic_clear(&waiting);
	}
	return status;
}

void bledfu_shim_made_room(void)
{
	if (atomic_get(&waiting) != 0) {
		k_sem_give(&room);
	}
}

ssize_t bledfu_peer_write(uint8_t channel, const struct bt_gatt_attr *answer, struct bt_conn *conn,
			  const void *buf, uint16_t len, uint16_t offset)
{
	if (offset != 0) {
		return BT_GATT_ERR(BT_ATT_ERR_INVALID_OFFSET);
	}
	if (len > MAX_WRITE) {
		return BT_GATT_ERR(BT_ATT_ERR_INVALID_ATTRIBUTE_LEN);
	}
	if (!bt_gatt_is_subscribed(conn, answer, BT_GATT_CCC_NOTIFY)) {
		return BT_GATT_ERR(BT_ATT_ERR_CCC_IMPROPER_CONF);
	}
	if (!claim(conn)) {
		return BT_GATT_ERR(BT_ATT_ERR_PROCEDURE_IN_PROGRESS);
	}
	if ((channel == BLEDFU_CHANNEL_PACKET ? push_packet(conn, buf, len)
					      : bledfu_rs_push(channel, buf, len, 0)) != 0) {
		/* Only a request has an answer: of a packet that is lost, the worker tells the peer. */
		return BT_GATT_ERR(BT_ATT_ERR_INSUFFICIENT_RESOURCES);
	}
	return len;
}

static struct bt_conn *peer_get(void)
{
	struct bt_conn *conn = NULL;

	K_SPINLOCK(&peer_lock) {
		if (peer != NULL) {
			conn = bt_conn_ref(peer);
		}
	}
	return conn;
}

static void disconnected(struct bt_conn *conn, uint8_t reason)
{
	bool was_peer = false;

	K_SPINLOCK(&peer_lock) {
		if (peer == conn) {
			peer = NULL;
			was_peer = true;
		}
	}
	if (was_peer) {
		bledfu_rs_link(0);
		bt_conn_unref(conn);
		atomic_clear(&pending);
		k_sem_give(&sent);
		LOG_INF("peer disconnected, reason 0x%02x", reason);
	}
}

#if defined(CONFIG_BT_SMP)
static void security_changed(struct bt_conn *conn, bt_security_t level, enum bt_security_err err)
{
	bool is_peer = false;

	K_SPINLOCK(&peer_lock) {
		is_peer = peer == conn;
	}
	if (is_peer) {
		bledfu_rs_peer(is_trusted(conn));
	}
}
#endif

BT_CONN_CB_DEFINE(bledfu_conn_callbacks) = {
	.disconnected = disconnected,
#if defined(CONFIG_BT_SMP)
	.security_changed = security_changed,
#endif
};

static void notified(struct bt_conn *conn, void *user_data)
{
	if (atomic_get(&pending) > 0) {
		(void)atomic_dec(&pending);
	}
	k_sem_give(&sent);
}

int32_t bledfu_shim_notify(uint8_t channel, const uint8_t *bytes, uint32_t length)
{
	struct bt_gatt_notify_params params = {
		.attr = bledfu_control_point, .data = bytes, .len = length, .func = notified};
	struct bt_conn *conn = peer_get();
	int err;

	if (conn == NULL) {
		return BLEDFU_SHIM_NOT_CONNECTED;
	}
	if (IS_ENABLED(CONFIG_BLEDFU_SMP) && channel == BLEDFU_CHANNEL_SMP) {
		params.attr = bledfu_smp_characteristic;
	}
	if (atomic_get(&pending) >= NOTIFICATIONS) {
		(void)k_sem_take(&sent, K_MSEC(BUFFER_MS));
	}
	if (atomic_get(&pending) >= NOTIFICATIONS) {
		bt_conn_unref(conn);
		return BLEDFU_SHIM_NO_BUFFER;
	}
	k_sem_reset(&sent);
	atomic_inc(&pending);
	err = bt_gatt_notify_cb(conn, &params);
	bt_conn_unref(conn);
	if (err != 0) {
		(void)atomic_dec(&pending);
	}
	if (err == -ENOMEM || err == -ENOBUFS) {
		(void)k_sem_take(&sent, K_MSEC(BUFFER_MS));
		return BLEDFU_SHIM_NO_BUFFER;
	}
	if (err == -ENOTCONN) {
		return BLEDFU_SHIM_NOT_CONNECTED;
	}
	return err == 0 ? 0 : BLEDFU_SHIM_OTHER(-err);
}

uint32_t bledfu_shim_payload(void)
{
	struct bt_conn *conn = peer_get();
	uint16_t mtu = 0;

	if (conn != NULL) {
		mtu = bt_gatt_get_mtu(conn);
		bt_conn_unref(conn);
	}
	return mtu > 3 ? mtu - 3 : 0;
}

int32_t bledfu_shim_delivered(uint32_t timeout_ms)
{
	int64_t until = k_uptime_get() + timeout_ms;

	while (atomic_get(&pending) > 0) {
		int64_t left = until - k_uptime_get();

		if (left <= 0) {
			return BLEDFU_SHIM_TIMED_OUT;
		}
		(void)k_sem_take(&sent, K_MSEC(left));
	}
	return 0;
}

void bledfu_shim_disconnect(void)
{
	struct bt_conn *conn = peer_get();

	if (conn != NULL) {
		(void)bt_conn_disconnect(conn, BT_HCI_ERR_REMOTE_USER_TERM_CONN);
		bt_conn_unref(conn);
	}
}

/* The peer may refuse what it is asked for; then the transfer is slower. */
static void ask_for_interval(struct k_work *work)
{
	struct bt_conn *conn = peer_get();
	struct bt_conn_info info;

	if (conn == NULL) {
		return;
	}
	/* A short interval is left alone: most peers would answer with the longest one of the wish. */
	if (bt_conn_get_info(conn, &info) == 0 &&
	    BLEDFU_INTERVAL_US(info) > CONFIG_BLEDFU_CONN_INTERVAL_MAX * 1250) {
		int err = bt_conn_le_param_update(
			conn, BT_LE_CONN_PARAM(CONFIG_BLEDFU_CONN_INTERVAL_MIN,
					       CONFIG_BLEDFU_CONN_INTERVAL_MAX, 0, 400));

		LOG_DBG("asked for a shorter interval: %d", err);
	}
	bt_conn_unref(conn);
}

static K_WORK_DELAYABLE_DEFINE(interval_work, ask_for_interval);

void bledfu_shim_hurry(void)
{
	struct bt_conn *conn = peer_get();
	struct bt_conn_info info;
	int phy, length;

	if (conn == NULL) {
		return;
	}
	phy = IS_ENABLED(CONFIG_BT_USER_PHY_UPDATE)
		      ? bt_conn_le_phy_update(conn, BT_CONN_LE_PHY_PARAM_2M) : 0;
	length = IS_ENABLED(CONFIG_BT_USER_DATA_LEN_UPDATE)
			 ? bt_conn_le_data_len_update(conn, BT_LE_DATA_LEN_PARAM_MAX) : 0;
	LOG_DBG("asked for 2M: %d, for long packets: %d", phy, length);
	if (bt_conn_get_info(conn, &info) == 0) {
		k_work_reschedule(&interval_work, K_USEC(ASKED_EVENTS * BLEDFU_INTERVAL_US(info)));
	}
	bt_conn_unref(conn);
}
