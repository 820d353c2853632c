/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <string.h>
#include <zephyr/bluetooth/bluetooth.h>
#include <zephyr/bluetooth/conn.h>
#include <zephyr/bluetooth/gatt.h>
#include <zephyr/bluetooth/hci.h>
#include <zephyr/bluetooth/uuid.h>
#include <zephyr/kernel.h>
#include <zephyr/sys/byteorder.h>
#include <posix_board_if.h>
#include <nsi_tracing.h>

#include "link.h"

#define UUID(n) BT_UUID_DECLARE_128(BT_UUID_128_ENCODE(0x8EC90000 + (n), 0xF315, 0x4F60, 0x9FB8, 0x838830DAEA50))

#define ANSWER_TIMEOUT K_SECONDS(20)
#define LINK_TIMEOUT   K_SECONDS(5)
#define DATA_LENGTH    251

K_MSGQ_DEFINE(notifications, sizeof(struct notification), 8, 4);
static K_SEM_DEFINE(found, 0, 1);
static K_SEM_DEFINE(connected, 0, 1);
static K_SEM_DEFINE(done, 0, 1); /* of one GATT procedure */
static K_SEM_DEFINE(ended, 0, 1);

static const struct bt_uuid_16 service_uuid = BT_UUID_INIT_16(0xFE59);
static const struct bt_uuid_128 smp_service =
	BT_UUID_INIT_128(BT_UUID_128_ENCODE(0x8D53DC1D, 0x1DB7, 0x4CD3, 0x868B, 0x8A527460AA84));
static const struct bt_uuid_128 smp_characteristic =
	BT_UUID_INIT_128(BT_UUID_128_ENCODE(0xDA2E7828, 0xFBCE, 0x4E01, 0xAE9E, 0x261174997C48));
static bt_addr_le_t device;
static struct bt_conn *link;
static uint16_t wanted_interval;
static bool is_passive;
static bool is_smp;
static uint16_t control, packet, control_config;
static uint8_t att_error;
static uint8_t end_reason;

void link_fail(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	nsi_print_trace("failed: ");
	nsi_vprint_trace(format, values);
	nsi_print_trace("\n");
	va_end(values);
	posix_exit(1);
	CODE_UNREACHABLE;
}

static void wait(struct k_sem *sem, const char *what)
{
	if (k_sem_take(sem, LINK_TIMEOUT) != 0) {
		FAIL("%s: nothing happens", what);
	}
	if (att_error != 0) {
		FAIL("%s: ATT error 0x%02x", what, att_error);
	}
}

static void check(int err, const char *what)
{
	if (err != 0) {
		FAIL("%s: error %d", what, err);
	}
}

/* ---- connection ---- */

static bool has_service(struct bt_data *data, void *yes)
{
	static const uint8_t uuid[] = {BT_UUID_16_ENCODE(0xFE59)};

	if ((data->type == BT_DATA_UUID16_ALL || data->type == BT_DATA_UUID16_SOME) && data->data_len >= 2) {
		*(bool *)yes |= memcmp(data->data, uuid, sizeof(uuid)) == 0;
	}
	return true;
}

static void scanned(const bt_addr_le_t *address, int8_t rssi, uint8_t type, struct net_buf_simple *data)
{
	bool yes = false;

	bt_data_parse(data, has_service, &yes);
	if (yes && k_sem_count_get(&found) == 0) {
		bt_addr_le_copy(&device, address);
		k_sem_give(&found);
	}
}

static void on_connected(struct bt_conn *conn, uint8_t err)
{
	if (err != 0) {
		FAIL("no connection: 0x%02x", err);
	}
	k_sem_give(&connected);
}

static void on_disconnected(struct bt_conn *conn, uint8_t reason)
{
	end_reason = reason;
	k_sem_give(&ended);
}

/*
 * A phone decides. Here it keeps its interval if the wish is for a shorter one, unless it is passive, and always gives in
 * to a longer one. What is granted is the longest interval of the wish: the controller answers so.
 */
static bool on_wishes(struct bt_conn *conn, struct bt_le_conn_param *wish)
{
	return is_passive || wish->interval_max >= wanted_interval;
}

BT_CONN_CB_DEFINE(callbacks) = {
	.connected = on_connected,
	.disconnected = on_disconnected,
	.le_param_req = on_wishes,
};

static struct bt_conn_info information(void)
{
	struct bt_conn_info info;

	check(bt_conn_get_info(link, &info), "connection info");
	return info;
}

static bool has_2m(void)
{
	return information().le.phy->tx_phy == BT_GAP_LE_PHY_2M;
}

static bool has_long_packets(void)
{
	return information().le.data_len->tx_max_len == DATA_LENGTH;
}

static void wait_until(bool (*reached)(void), const char *what)
{
	for (int i = 0; !reached(); i++) {
		if (i == 100) {
			FAIL("%s: nothing happens", what);
		}
		k_msleep(20);
	}
}

/* What the controller answers when the device asks for long packets. */
static void allow_long_packets(void)
{
	struct net_buf *command = bt_hci_cmd_create(BT_HCI_OP_LE_WRITE_DEFAULT_DATA_LEN,
						    sizeof(struct bt_hci_cp_le_write_default_data_len));
	struct bt_hci_cp_le_write_default_data_len *values = net_buf_add(command, sizeof(*values));

	values->max_tx_octets = sys_cpu_to_le16(DATA_LENGTH);
	values->max_tx_time = sys_cpu_to_le16(BT_GAP_DATA_TIME_MAX);
	check(bt_hci_cmd_send_sync(BT_HCI_OP_LE_WRITE_DEFAULT_DATA_LEN, command, NULL), "default data length");
}

void link_report(const char *when)
{
	struct bt_conn_info info = information();

	nsi_print_trace("%s: mtu=%u data_length=%u phy=%u interval_us=%u\n", when, bt_gatt_get_mtu(link),
			info.le.data_len->tx_max_len, info.le.phy->tx_phy, info.le.interval * 1250);
}

/* ---- GATT ---- */

static void on_mtu(struct bt_conn *conn, uint8_t err, struct bt_gatt_exchange_params *params)
{
	att_error = err;
	k_sem_give(&done);
}

static uint8_t on_attribute(struct bt_conn *conn, const struct bt_gatt_attr *attr,
			    struct bt_gatt_discover_params *params)
{
	if (attr == NULL) {
		k_sem_give(&done);
		return BT_GATT_ITER_STOP;
	}
	if (bt_uuid_cmp(attr->uuid, UUID(1)) == 0) {
		control = attr->handle;
	} else if (bt_uuid_cmp(attr->uuid, UUID(2)) == 0) {
		packet = attr->handle;
	} else if (bt_uuid_cmp(attr->uuid, &smp_characteristic.uuid) == 0) {
		control = packet = attr->handle;
	} else if (bt_uuid_cmp(attr->uuid, BT_UUID_GATT_CCC) == 0 && control != 0 && control_config == 0) {
		control_config = attr->handle;
	}
	return BT_GATT_ITER_CONTINUE;
}

static uint8_t on_service(struct bt_conn *conn, const struct bt_gatt_attr *attr,
			  struct bt_gatt_discover_params *params)
{
	static struct bt_gatt_discover_params attributes;

	if (attr == NULL) {
		FAIL("no service for updates");
	}
	attributes.func = on_attribute;
	attributes.type = BT_GATT_DISCOVER_ATTRIBUTE;
	attributes.start_handle = attr->handle + 1;
	attributes.end_handle = ((struct bt_gatt_service_val *)attr->user_data)->end_handle;
	check(bt_gatt_discover(conn, &attributes), "discovery of characteristics");
	return BT_GATT_ITER_STOP;
}

static uint8_t on_notification(struct bt_conn *conn, struct bt_gatt_subscribe_params *params, const void *data,
			       uint16_t length)
{
	struct notification got = {.at = nsi_hws_get_time(), .length = length};

	if (data == NULL) {
		return BT_GATT_ITER_STOP;
	}
	if (length > sizeof(got.bytes)) {
		FAIL("a notification of %u bytes", length);
	}
	memcpy(got.bytes, data, length);
	check(k_msgq_put(&notifications, &got, K_NO_WAIT), "more notifications than requests");
	return BT_GATT_ITER_CONTINUE;
}

static void on_subscribed(struct bt_conn *conn, uint8_t err, struct bt_gatt_subscribe_params *params)
{
	att_error = err;
	k_sem_give(&done);
}

static void on_written(struct bt_conn *conn, uint8_t err, struct bt_gatt_write_params *params)
{
	att_error = err;
	k_sem_give(&done);
}

uint16_t link_chunk(void)
{
	return bt_gatt_get_mtu(link) - 3;
}

void link_request(const void *bytes, uint16_t length)
{
	static struct bt_gatt_write_params params;

	params = (struct bt_gatt_write_params){
		.func = on_written, .handle = control, .data = bytes, .length = length};
	check(bt_gatt_write(link, &params), "write to the control point");
	wait(&done, "write to the control point");
}

void link_answer(struct notification *answer)
{
	check(k_msgq_get(&notifications, answer, ANSWER_TIMEOUT), "answer");
}

bool link_answer_within(struct notification *answer, uint32_t ms)
{
	return k_msgq_get(&notifications, answer, K_MSEC(ms)) == 0;
}

void link_use_smp(void)
{
	is_smp = true;
}

void link_send(const void *bytes, uint16_t length)
{
	check(bt_gatt_write_without_response(link, packet, bytes, length, false), "packet");
}

uint8_t link_end(void)
{
	wait(&ended, "end of the link");
	return end_reason;
}

void link_up(uint16_t interval, bool passive)
{
	static struct bt_gatt_exchange_params mtu = {.func = on_mtu};
	static struct bt_gatt_discover_params service = {
		.func = on_service,
		.type = BT_GATT_DISCOVER_PRIMARY,
		.uuid = &service_uuid.uuid,
		.start_handle = BT_ATT_FIRST_ATTRIBUTE_HANDLE,
		.end_handle = BT_ATT_LAST_ATTRIBUTE_HANDLE,
	};
	static struct bt_gatt_subscribe_params subscription = {
		.notify = on_notification, .subscribe = on_subscribed, .value = BT_GATT_CCC_NOTIFY};

	if (is_smp) {
		service.uuid = &smp_service.uuid;
	}
	wanted_interval = interval;
	is_passive = passive;
	check(bt_enable(NULL), "Bluetooth");
	allow_long_packets();
	check(bt_le_scan_start(BT_LE_SCAN_ACTIVE, scanned), "scan");
	wait(&found, "search for FE59");
	check(bt_le_scan_stop(), "end of the scan");
	check(bt_conn_le_create(&device, BT_CONN_LE_CREATE_CONN, BT_LE_CONN_PARAM(interval, interval, 0, 400), &link),
	      "connection");
	wait(&connected, "connection");
	if (!passive) {
		check(bt_conn_le_phy_update(link, BT_CONN_LE_PHY_PARAM_2M), "2M");
		wait_until(has_2m, "2M");
		check(bt_conn_le_data_len_update(link, BT_LE_DATA_LEN_PARAM_MAX), "data length");
		wait_until(has_long_packets, "data length");
	}
	check(bt_gatt_exchange_mtu(link, &mtu), "MTU exchange");
	wait(&done, "MTU exchange");
	check(bt_gatt_discover(link, &service), "discovery");
	wait(&done, "discovery");
	if (control == 0 || packet == 0 || control_config == 0) {
		FAIL("the service lacks a characteristic");
	}
	subscription.value_handle = control;
	subscription.ccc_handle = control_config;
	check(bt_gatt_subscribe(link, &subscription), "subscription");
	wait(&done, "subscription");
	link_report("link");
}

/* ---- channel map ---- */

static uint32_t map_ms;
static uint32_t map_changes;
static K_THREAD_STACK_DEFINE(map_stack, 2048);
static struct k_thread map_thread;

/* The call waits for the controller, which the system work queue must not. */
static void map_loop(void *a, void *b, void *c)
{
	/* Of 37 channels: all, and all but eight. */
	static uint8_t maps[2][5] = {{0xFF, 0xFF, 0xFF, 0xFF, 0x1F}, {0x00, 0xFF, 0xFF, 0xFF, 0x1F}};

	for (int turn = 0;; turn ^= 1) {
		k_msleep(map_ms);
		/* Refused while the last change is under way. */
		map_changes += bt_le_set_chan_map(maps[turn]) == 0;
	}
}

void link_change_channels(uint32_t every_ms)
{
	map_ms = every_ms;
	if (every_ms > 0) {
		k_thread_create(&map_thread, map_stack, K_THREAD_STACK_SIZEOF(map_stack), map_loop, NULL, NULL, NULL,
				K_PRIO_PREEMPT(1), 0, K_NO_WAIT);
	}
}

uint32_t link_channel_changes(void)
{
	return map_changes;
}
