/* SPDX-License-Identifier: Apache-2.0 */
/* What a product may have had before bledfu: an MCUmgr group, a shell command, and statistics. */
#include <string.h>
#include <zcbor_common.h>
#include <zcbor_decode.h>
#include <zcbor_encode.h>
#include <zephyr/init.h>
#include <zephyr/mgmt/mcumgr/mgmt/handlers.h>
#include <zephyr/mgmt/mcumgr/mgmt/mgmt.h>
#include <zephyr/mgmt/mcumgr/smp/smp.h>
#include <zephyr/shell/shell.h>
#include <zephyr/stats/stats.h>

STATS_SECT_START(doser)
STATS_SECT_ENTRY(doses)
STATS_SECT_END;

STATS_NAME_START(doser)
STATS_NAME(doser, doses)
STATS_NAME_END(doser);

STATS_SECT_DECL(doser) doser;

/* Answers with the text twice, so that long ones need more than one notification. */
static int twice(struct smp_streamer *context)
{
	struct zcbor_string key, text = {0};
	char both[600];

	if (!zcbor_map_start_decode(context->reader->zs) || !zcbor_tstr_decode(context->reader->zs, &key) ||
	    !zcbor_tstr_decode(context->reader->zs, &text) || 2 * text.len > sizeof(both)) {
		return MGMT_ERR_EINVAL;
	}
	STATS_INC(doser, doses);
	memcpy(both, text.value, text.len);
	memcpy(both + text.len, text.value, text.len);
	return zcbor_tstr_put_lit(context->writer->zs, "twice") &&
		       zcbor_tstr_encode_ptr(context->writer->zs, both, 2 * text.len)
		       ? MGMT_ERR_EOK : MGMT_ERR_EMSGSIZE;
}

static const struct mgmt_handler handlers[] = {{.mh_write = twice}};
static struct mgmt_group group = {
	.mg_handlers = handlers, .mg_handlers_count = ARRAY_SIZE(handlers), .mg_group_id = MGMT_GROUP_ID_PERUSER};

static void start(void)
{
	mgmt_register_group(&group);
	(void)stats_init(&doser.s_hdr, STATS_SIZE_32, 1, STATS_NAME_INIT_PARMS(doser));
	(void)stats_register("doser", &doser.s_hdr);
}

MCUMGR_HANDLER_DEFINE(product, start);

static int valve(const struct shell *shell, size_t count, char **words)
{
	shell_print(shell, "valve %s", count > 1 ? words[1] : "?");
	return 0;
}

SHELL_CMD_REGISTER(valve, NULL, "The state of the valve", valve);
