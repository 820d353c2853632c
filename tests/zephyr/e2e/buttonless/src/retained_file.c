/* SPDX-License-Identifier: Apache-2.0 */
/* Built for the PC: the file behind the driver. */
#include <stdio.h>
#include <string.h>

#include <nsi_cmdline.h>
#include <nsi_tasks.h>

#include "retained_file.h"

static char *path = "retained.bin";

static void add_option(void)
{
	static struct args_struct_t options[] = {
		{.option = "retained", .name = "FILE", .type = 's', .dest = (void *)&path,
		 .descript = "File in which retained memory survives a reset, by default retained.bin"},
		ARG_TABLE_ENDMARKER,
	};

	nsi_add_command_line_opts(options);
}

NSI_TASK(add_option, PRE_BOOT_1, 10);

void retained_file_read(unsigned char *bytes)
{
	FILE *file = fopen(path, "rb");

	memset(bytes, 0, RETAINED_SIZE);
	if (file != NULL) {
		if (fread(bytes, 1, RETAINED_SIZE, file) != RETAINED_SIZE) {
			memset(bytes, 0, RETAINED_SIZE);
		}
		fclose(file);
	}
}

int retained_file_write(const unsigned char *bytes)
{
	FILE *file = fopen(path, "wb");
	size_t written = 0;

	if (file != NULL) {
		written = fwrite(bytes, 1, RETAINED_SIZE, file);
		fclose(file);
	}
	return written == RETAINED_SIZE ? 0 : -1;
}
