/* SPDX-License-Identifier: Apache-2.0 */
/* An MCUmgr group that tells over SMP what bledfu_status_get() and bledfu_boot_report() tell the product. */
#include <zcbor_common.h>
#include <zcbor_encode.h>
#include <zephyr/mgmt/mcumgr/mgmt/handlers.h>
#include <zephyr/mgmt/mcumgr/mgmt/mgmt.h>
#include <zephyr/mgmt/mcumgr/smp/smp.h>

#include <bledfu/bledfu.h>

static bool put(zcbor_state_t *zs, const char *name, uint32_t value)
{
	return zcbor_tstr_put_term(zs, name, 16) && zcbor_uint32_put(zs, value);
}

/* Read: {state, confirmed, version, refused} and, behind bledfu's own boot stage, {action, reason, type, failed, ms}. */
static int read_report(struct smp_streamer *context)
{
	zcbor_state_t *zs = context->writer->zs;
	struct bledfu_status status;
	struct bledfu_boot_report boot;
	bool fits;

	(void)bledfu_status_get(&status);
	fits = put(zs, "state", status.state) && put(zs, "confirmed", status.confirmed) &&
	       put(zs, "version", status.fw_version) && put(zs, "refused", status.refused);
	if (fits && bledfu_boot_report(&boot) == 0) {
		fits = put(zs, "action", boot.action) && put(zs, "reason", boot.reason) &&
		       put(zs, "type", boot.swap_type) && put(zs, "failed", boot.failed_records) &&
		       put(zs, "ms", boot.duration_ms);
	}
	return fits ? MGMT_ERR_EOK : MGMT_ERR_EMSGSIZE;
}

static const struct mgmt_handler handlers[] = {{.mh_read = read_report}};
static struct mgmt_group group = {.mg_handlers = handlers,
				  .mg_handlers_count = ARRAY_SIZE(handlers),
				  .mg_group_id = CONFIG_BLEDFU_SMP_REPORT_GROUP};

static void start(void)
{
	mgmt_register_group(&group);
}

MCUMGR_HANDLER_DEFINE(bledfu_report, start);
