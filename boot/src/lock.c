/* SPDX-License-Identifier: Apache-2.0 */
#include <zephyr/devicetree.h>
#include <zephyr/sys/util.h>

#include "lock.h"

#ifdef CONFIG_BLEDFU_BOOT_LOCK
#include <soc.h>
#endif

/* One with regions of whole pages, which keep what they are given until a reset. */
#if defined(CONFIG_BLEDFU_BOOT_LOCK) && defined(ACL_PRESENT)
#include <hal/nrf_acl.h>

#if DT_HAS_CHOSEN(bledfu_update_slots)
#define TRUST DT_PHANDLE(DT_CHOSEN(bledfu_update_slots), trust)
#else
#define TRUST DT_NODELABEL(bledfu_trust_partition)
#endif

void lock(void)
{
	const struct {
		uint32_t start;
		uint32_t size;
	} regions[] = {
#if DT_NODE_EXISTS(DT_NODELABEL(boot_partition))
		{DT_REG_ADDR(DT_NODELABEL(boot_partition)), DT_REG_SIZE(DT_NODELABEL(boot_partition))},
#endif
#if defined(CONFIG_BLEDFU_TRUST)
		{DT_REG_ADDR(TRUST), DT_REG_SIZE(TRUST)},
#endif
	};

	for (uint32_t i = 0; i < ARRAY_SIZE(regions); i++) {
		nrf_acl_region_set(NRF_ACL, i, regions[i].start, regions[i].size, NRF_ACL_PERM_READ_NO_WRITE);
	}
}

#else

void lock(void)
{
}

#endif
