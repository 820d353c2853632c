/* SPDX-License-Identifier: Apache-2.0 */
/* What a product may have had before bledfu: an MCUmgr group, a shell command, statistics, and a file. */
#include <errno.h>
#include <string.h>
#include <zcbor_common.h>
#include <zcbor_decode.h>
#include <zcbor_encode.h>
#include <zephyr/fs/fs.h>
#include <zephyr/init.h>
#include <zephyr/mgmt/mcumgr/mgmt/handlers.h>
#include <zephyr/mgmt/mcumgr/mgmt/mgmt.h>
#include <zephyr/mgmt/mcumgr/smp/smp.h>
#include <zephyr/shell/shell.h>
#include <zephyr/stats/stats.h>
#include <zephyr/sys/printk.h>

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

#define LOG_SIZE 5000
/* ext2 of Zephyr 4.1 does not advance within one write, so none may cross a block (1 KiB). */
#define PIECE 128

/* A file of LOG_SIZE bytes, which clients download. Byte i is 7 * i + 3. */
static int write_log(void)
{
	static struct fs_mount_t mount = {.type = FS_EXT2, .mnt_point = "/doser", .storage_dev = (void *)"RAM"};
	struct fs_file_t file;
	uint8_t bytes[PIECE];
	int err = fs_mkfs(FS_EXT2, (uintptr_t)"RAM", NULL, 0);

	err = err != 0 ? err : fs_mount(&mount);
	fs_file_t_init(&file);
	err = err != 0 ? err : fs_open(&file, "/doser/log.bin", FS_O_CREATE | FS_O_WRITE);
	if (err != 0) {
		return err;
	}
	for (size_t at = 0; err == 0 && at < LOG_SIZE; at += sizeof(bytes)) {
		size_t length = MIN(sizeof(bytes), LOG_SIZE - at);

		for (size_t i = 0; i < length; i++) {
			bytes[i] = 7 * (at + i) + 3;
		}
		err = fs_write(&file, bytes, length) == length ? 0 : -EIO;
	}
	(void)fs_close(&file);
	return err;
}

static void start(void)
{
	int err = write_log();

	if (err != 0) {
		printk("no file: %d\n", err);
	}
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
