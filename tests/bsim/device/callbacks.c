/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long GATT's write callbacks of the update service take, without a change in them: the compiler calls the two
 * functions below at the beginning and the end of every function of the shim. The simulated processor takes no time,
 * so what is measured is waiting: for a lock, for room, for flash. On real hardware the time of a copy comes on top.
 */
#include <zephyr/bluetooth/conn.h>
#include <zephyr/bluetooth/gatt.h>
#include <zephyr/bluetooth/uuid.h>
#include <zephyr/kernel.h>
#include <nsi_hw_scheduler.h>
#include <posix_native_task.h>
#include <nsi_tracing.h>

#define SMP_UUID BT_UUID_DECLARE_128(BT_UUID_128_ENCODE(0xDA2E7828, 0xFBCE, 0x4E01, 0xAE9E, 0x261174997C48))
#define UUID(n) BT_UUID_DECLARE_128(BT_UUID_128_ENCODE(0x8EC90000 + (n), 0xF315, 0x4F60, 0x9FB8, 0x838830DAEA50))

static struct callback {
	const char *name;
	void *function;
	uint64_t entered;
	uint32_t calls;
	uint32_t longest_us;
} callbacks[] = {{.name = "control"}, {.name = "packet"}, {.name = "smp"}};

static uint8_t found(const struct bt_gatt_attr *attr, uint16_t handle, void *callback)
{
	((struct callback *)callback)->function = attr->write;
	return BT_GATT_ITER_STOP;
}

static void look(struct bt_conn *conn, uint8_t err)
{
	bt_gatt_foreach_attr_type(BT_ATT_FIRST_ATTRIBUTE_HANDLE, BT_ATT_LAST_ATTRIBUTE_HANDLE, UUID(1), NULL, 1, found,
				  &callbacks[0]);
	bt_gatt_foreach_attr_type(BT_ATT_FIRST_ATTRIBUTE_HANDLE, BT_ATT_LAST_ATTRIBUTE_HANDLE, UUID(2), NULL, 1, found,
				  &callbacks[1]);
	bt_gatt_foreach_attr_type(BT_ATT_FIRST_ATTRIBUTE_HANDLE, BT_ATT_LAST_ATTRIBUTE_HANDLE, SMP_UUID, NULL, 1, found,
				  &callbacks[2]);
}

BT_CONN_CB_DEFINE(bsim_callbacks) = {
	.connected = look, /* attributes have no handles before Bluetooth is up */
};

void __cyg_profile_func_enter(void *function, void *caller)
{
	ARRAY_FOR_EACH_PTR(callbacks, callback) {
		if (callback->function == function) {
			callback->entered = nsi_hws_get_time();
		}
	}
}

void __cyg_profile_func_exit(void *function, void *caller)
{
	ARRAY_FOR_EACH_PTR(callbacks, callback) {
		if (callback->function == function) {
			uint32_t took = nsi_hws_get_time() - callback->entered;

			callback->calls++;
			callback->longest_us = MAX(callback->longest_us, took);
		}
	}
}

static void report(void)
{
	ARRAY_FOR_EACH_PTR(callbacks, callback) {
		nsi_print_trace("callback.%s: calls=%u longest_us=%u\n", callback->name, callback->calls,
				  callback->longest_us);
	}
}

NATIVE_TASK(report, ON_EXIT, 0);
