/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The peer: the first one that subscribes, until it unsubscribes or disconnects. A write of it is checked for what ATT demands,
 * copied into Rust's ring, and answered. Only a packet that finds the ring full waits, for ROOM_MS at most. Below, what the
 * worker does with the peer, and how long a peer may be silent.
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

/* When nothing was written for so long, the interval is given back that the transfer found. As mcumgr does. */
#define CALM_MS 5000
#define LOOK_MS 1000

static struct bt_conn *peer;
static struct k_spinlock peer_lock;
/* Held while somebody becomes the peer or stops being it, so that Rust is told in this order. */
static K_MUTEX_DEFINE(changing);
/* Counts the peers, for what comes back later of an earlier one. */
static atomic_t session;
/* Notifications to this peer that have not left yet. */
static atomic_t pending;
/* When the peer last wrote, and where: uptime in ms, and a channel. */
static atomic_t heard_ms, heard_on;
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

static bool is_connected(struct bt_conn *conn)
{
	struct bt_conn_info info;

	return bt_conn_get_info(conn, &info) == 0 && info.state == BT_CONN_STATE_CONNECTED;
}

uint32_t bledfu_peer_session(void)
{
	return atomic_get(&session);
}

static bool is_peer(struct bt_conn *conn)
{
	bool same = false;

	K_SPINLOCK(&peer_lock) {
		same = peer == conn;
	}
	return same;
}

/* conn is the peer no longer; true if it was. */
static bool release(struct bt_conn *conn)
{
	bool was_peer = false;

	k_mutex_lock(&changing, K_FOREVER);
	K_SPINLOCK(&peer_lock) {
		if (peer == conn) {
			peer = NULL;
			was_peer = true;
		}
	}
	if (was_peer) {
		atomic_inc(&session);
		atomic_clear(&pending);
		k_sem_give(&sent);
		bledfu_rs_link(0);
		bt_conn_unref(conn);
	}
	k_mutex_unlock(&changing);
	return was_peer;
}

/* Makes conn the peer if there is none; true when conn is the peer now. */
static bool claim(struct bt_conn *conn)
{
	bool claimed = false;
	bool same = is_peer(conn);

	if (same) {
		return true;
	}
	k_mutex_lock(&changing, K_FOREVER);
	K_SPINLOCK(&peer_lock) {
		if (peer == NULL) {
			peer = bt_conn_ref(conn);
			claimed = true;
		}
		same = peer == conn;
	}
	if (claimed) {
		bledfu_rs_link(1);
		bledfu_rs_peer(is_trusted(conn));
	}
	k_mutex_unlock(&changing);
	/* It may have gone before it was the peer; then nobody would release it. */
	if (claimed && !is_connected(conn)) {
		(void)release(conn);
		return false;
	}
	return same;
}

/* The characteristic of the other service, for the client configuration of one. */
static bool is_subscribed_elsewhere(struct bt_conn *conn, const struct bt_gatt_attr *configuration)
{
	const struct bt_gatt_attr *other = NULL;

#if defined(CONFIG_BLEDFU_SMP)
	other = configuration == bledfu_control_point + 1 ? bledfu_smp_characteristic : bledfu_control_point;
#endif
	return other != NULL && bt_gatt_is_subscribed(conn, other, BT_GATT_CCC_NOTIFY);
}

ssize_t bledfu_peer_subscribe(struct bt_conn *conn, const struct bt_gatt_attr *attr, uint16_t value)
{
	if (value != BT_GATT_CCC_NOTIFY) {
		if (!is_subscribed_elsewhere(conn, attr) && release(conn)) {
			LOG_INF("the peer has unsubscribed");
		}
	} else if (bledfu_state() == BLEDFU_STATE_FAILED) {
		/* Nobody would answer. */
		return BT_GATT_ERR(BT_ATT_ERR_UNLIKELY);
	} else if (!claim(conn)) {
		return BT_GATT_ERR(BT_ATT_ERR_PROCEDURE_IN_PROGRESS);
	}
	return sizeof(value);
}

static bool may_wait(struct bt_conn *conn)
{
	/* The system work queue gives back the buffers of notifications: the worker would wait for it, and it for the worker. */
	return k_current_get() != k_work_queue_thread_get(&k_sys_work_q) && is_connected(conn);
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

/* ---- the interval of the link ---- */

/* What the transfer found, to be given back; interval 0: nothing was asked for. */
static struct bt_le_conn_param found;
/* By which peer. */
static atomic_val_t found_with;
/* It was given back, and the peer goes on. */
static atomic_t is_calm;

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
		found = *BT_LE_CONN_PARAM(BLEDFU_INTERVAL_US(info) / 1250, BLEDFU_INTERVAL_US(info) / 1250,
					  info.le.latency, info.le.timeout);
		found_with = atomic_get(&session);
	}
	bt_conn_unref(conn);
}

static K_WORK_DELAYABLE_DEFINE(interval_work, ask_for_interval);

/* While a transfer may be under way: once a second, how long the peer has been silent. */
static void look(struct k_work *work)
{
	struct bt_conn *conn = peer_get();
	uint32_t silent_ms = k_uptime_get_32() - (uint32_t)atomic_get(&heard_ms);
	bool is_upload = atomic_get(&heard_on) == BLEDFU_CHANNEL_SMP && bledfu_state() == BLEDFU_STATE_RECEIVING;

	if (conn == NULL || found_with != atomic_get(&session)) {
		found.interval_max = 0;
	}
	if (conn == NULL) {
		return;
	}
	if (silent_ms >= CALM_MS && found.interval_max != 0) {
		int err = bt_conn_le_param_update(conn, &found);

		LOG_DBG("gave the interval back: %d", err);
		found.interval_max = 0;
		atomic_set(&is_calm, 1);
	}
	/* Over Secure DFU the service itself closes the link of a silent peer. */
	if (is_upload && CONFIG_BLEDFU_UPLOAD_TIMEOUT_S > 0 &&
	    silent_ms >= CONFIG_BLEDFU_UPLOAD_TIMEOUT_S * MSEC_PER_SEC) {
		LOG_WRN("the peer has been silent for %u s inside an upload: its link is closed",
			CONFIG_BLEDFU_UPLOAD_TIMEOUT_S);
		atomic_set(&heard_ms, k_uptime_get_32());
		(void)bt_conn_disconnect(conn, BT_HCI_ERR_REMOTE_USER_TERM_CONN);
	}
	if (is_upload || found.interval_max != 0 || silent_ms < CALM_MS) {
		k_work_reschedule(k_work_delayable_from_work(work), K_MSEC(LOOK_MS));
	}
	bt_conn_unref(conn);
}

static K_WORK_DELAYABLE_DEFINE(look_work, look);

/* Bluetooth thread: the peer goes on after it was silent. */
static void hurry_again(uint8_t channel)
{
	if (channel != BLEDFU_CHANNEL_CONTROL && atomic_clear(&is_calm) != 0) {
		k_work_reschedule(&interval_work, K_NO_WAIT);
		k_work_reschedule(&look_work, K_MSEC(LOOK_MS));
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
	atomic_set(&heard_ms, k_uptime_get_32());
	atomic_set(&heard_on, channel);
	hurry_again(channel);
	if ((channel == BLEDFU_CHANNEL_PACKET ? push_packet(conn, buf, len)
					      : bledfu_rs_push(channel, buf, len, 0)) != 0) {
		/* Only a request has an answer: of a packet that is lost, the worker tells the peer. */
		return BT_GATT_ERR(BT_ATT_ERR_INSUFFICIENT_RESOURCES);
	}
	return len;
}

static void disconnected(struct bt_conn *conn, uint8_t reason)
{
	if (release(conn)) {
		LOG_INF("peer disconnected, reason 0x%02x", reason);
	}
}

#if defined(CONFIG_BT_SMP)
static void security_changed(struct bt_conn *conn, bt_security_t level, enum bt_security_err err)
{
	if (is_peer(conn)) {
		bledfu_rs_peer(is_trusted(conn));
	}
}
#endif

/* ---- peers that hold a link and do nothing ---- */

#if CONFIG_BLEDFU_IDLE_LINK_TIMEOUT_S > 0
static uint32_t idle_since_ms[CONFIG_BT_MAX_CONN];

static void close_if_idle(struct bt_conn *conn, void *more)
{
	struct bt_conn_info info;
	uint32_t *idle_ms = &idle_since_ms[bt_conn_index(conn)];

	if (is_peer(conn)) {
		*idle_ms = k_uptime_get_32();
	}
	if (bt_conn_get_info(conn, &info) != 0 || info.state != BT_CONN_STATE_CONNECTED ||
	    info.role != BT_CONN_ROLE_PERIPHERAL) {
		return;
	}
	*(bool *)more = true;
	if (k_uptime_get_32() - *idle_ms >= CONFIG_BLEDFU_IDLE_LINK_TIMEOUT_S * MSEC_PER_SEC) {
		LOG_WRN("a peer has not subscribed for %u s: its link is closed", CONFIG_BLEDFU_IDLE_LINK_TIMEOUT_S);
		*idle_ms = k_uptime_get_32();
		(void)bt_conn_disconnect(conn, BT_HCI_ERR_REMOTE_USER_TERM_CONN);
	}
}

static void close_idle(struct k_work *work)
{
	bool more = false;

	bt_conn_foreach(BT_CONN_TYPE_LE, close_if_idle, &more);
	if (more) {
		k_work_reschedule(k_work_delayable_from_work(work), K_MSEC(LOOK_MS));
	}
}

static K_WORK_DELAYABLE_DEFINE(idle_work, close_idle);

static void connected(struct bt_conn *conn, uint8_t err)
{
	if (err == 0) {
		idle_since_ms[bt_conn_index(conn)] = k_uptime_get_32();
		k_work_reschedule(&idle_work, K_MSEC(LOOK_MS));
	}
}
#endif

BT_CONN_CB_DEFINE(bledfu_conn_callbacks) = {
#if CONFIG_BLEDFU_IDLE_LINK_TIMEOUT_S > 0
	.connected = connected,
#endif
	.disconnected = disconnected,
#if defined(CONFIG_BT_SMP)
	.security_changed = security_changed,
#endif
};

static void notified(struct bt_conn *conn, void *user_data)
{
	if ((atomic_val_t)user_data == atomic_get(&session) && atomic_get(&pending) > 0) {
		(void)atomic_dec(&pending);
	}
	k_sem_give(&sent);
}

int32_t bledfu_shim_notify(uint8_t channel, const uint8_t *bytes, uint32_t length)
{
	struct bt_gatt_notify_params params = {
		.attr = bledfu_control_point, .data = bytes, .len = length, .func = notified,
		.user_data = (void *)atomic_get(&session)};
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
	k_work_reschedule(&look_work, K_MSEC(LOOK_MS));
	bt_conn_unref(conn);
}
