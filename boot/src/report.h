/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the boot stage leaves for the application that it starts. It is at the end of RAM, where neither of the two has
 * live data at that moment: the boot stage writes it last, and the application reads it first. If the application's own
 * data has overwritten it, the CRC is wrong and there is no report.
 *
 *   0  u32  magic
 *   4  u8   what was done      (enum bledfu_boot_action)
 *   5  u8   what was asked for (MCUboot's swap type; 0: not known)
 *   6  u8   why not more       (enum bledfu_boot_reason)
 *   7  u8   status records that the flash refused
 *   8  u32  how long it took, in milliseconds
 *  12  u32  CRC-32 (IEEE) of the 12 bytes above
 *
 * Little-endian. The devicetree can put it elsewhere, in both images: chosen { bledfu,boot-report = &a_memory; }.
 */
#ifndef BLEDFU_BOOT_REPORT_H_
#define BLEDFU_BOOT_REPORT_H_

#include <stdint.h>
#include <zephyr/devicetree.h>
#include <zephyr/sys/crc.h>

#define BOOT_REPORT_MAGIC 0x424c4452 /* "RDLB" */

struct boot_report {
	uint32_t magic;
	uint8_t action;
	uint8_t swap_type;
	uint8_t reason;
	uint8_t failed_records;
	uint32_t duration_ms;
	uint32_t crc;
};

#if DT_HAS_CHOSEN(bledfu_boot_report)
#define BOOT_REPORT_RAM DT_CHOSEN(bledfu_boot_report)
#else
#define BOOT_REPORT_RAM DT_CHOSEN(zephyr_sram)
#endif

#define BOOT_REPORT                                                                                \
	((volatile struct boot_report *)(DT_REG_ADDR(BOOT_REPORT_RAM) + DT_REG_SIZE(BOOT_REPORT_RAM) - \
					 sizeof(struct boot_report)))

static inline uint32_t boot_report_crc(const struct boot_report *report)
{
	return crc32_ieee((const uint8_t *)report, offsetof(struct boot_report, crc));
}

#endif
