/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The phone: finds the device, sends it the package at full speed, and waits until the device ends the link.
 *
 *   -client=android | android-prn | nrfutil | passive | smp   -interval=UNITS of 1.25 ms     -wait=SECONDS before it looks
 *   -window=REQUESTS under way at a time, of smp
 *   -channel_map=MS between two changes of the channel map, as of a phone that finds other radios on its channels
 */
#include <string.h>
#include <zephyr/bluetooth/hci.h>
#include <zephyr/kernel.h>
#include <cmdline.h>
#include <posix_board_if.h>
#include <posix_native_task.h>
#include <nsi_tracing.h>

#include "dfu.h"
#include "link.h"
#include "smp.h"

static const struct client clients[] = {
	{.name = "android"},
	{.name = "android-prn", .receipts = 12},
	{.name = "nrfutil", .receipts_first = true},
	{.name = "passive", .passive = true},
	{.name = "smp", .smp = true},
};

static char *name = "android";
static uint32_t interval = 12;
static uint32_t seconds;
static uint32_t channel_map_ms;
static uint32_t window = 1;

static void add_options(void)
{
	static struct args_struct_t options[] = {
		{.option = "client", .name = "name", .type = 's', .dest = &name, .descript = "Whose sequence"},
		{.option = "interval", .name = "units", .type = 'u', .dest = &interval,
		 .descript = "Connection interval, 1.25 ms"},
		{.option = "wait", .name = "seconds", .type = 'u', .dest = &seconds,
		 .descript = "How long the device is left alone first"},
		{.option = "window", .name = "requests", .type = 'u', .dest = &window,
		 .descript = "Requests of SMP under way"},
		{.option = "channel_map", .name = "ms", .type = 'u', .dest = &channel_map_ms,
		 .descript = "Time between two changes of the channel map; 0: none"},
		ARG_TABLE_ENDMARKER,
	};

	native_add_command_line_opts(options);
}

NATIVE_TASK(add_options, PRE_BOOT_1, 1);

int main(void)
{
	ARRAY_FOR_EACH_PTR(clients, client) {
		if (strcmp(client->name, name) == 0) {
			uint8_t reason;

			k_sleep(K_SECONDS(seconds));
			if (client->smp) {
				link_use_smp();
			}
			link_up(interval, client->passive);
			link_change_channels(channel_map_ms);
			if (client->smp) {
				smp_run(window);
			} else {
				dfu_run(client);
			}
			reason = link_end();
			if (reason != BT_HCI_ERR_REMOTE_USER_TERM_CONN) {
				FAIL("the link ended with 0x%02x", reason);
			}
			nsi_print_trace("channels: changes=%u\n", link_channel_changes());
			nsi_print_trace("complete\n");
			posix_exit(0);
		}
	}
	FAIL("no client %s", name);
}
