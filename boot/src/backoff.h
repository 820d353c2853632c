/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long to wait before the next try after a flash error: 1, 2, 4 ... 64 seconds. A flash that stays broken is not written
 * once a second for ever. The count is in RAM that no start of this image clears; the CRC-32 tells it from what RAM holds
 * after power-on.
 */
#ifndef BLEDFU_BOOT_BACKOFF_H_
#define BLEDFU_BOOT_BACKOFF_H_

#include <stdint.h>
#include <zephyr/sys/crc.h>
#include <zephyr/sys/util.h>

/* The longest wait is 2 to the power of this, in seconds. */
#define BACKOFF_MOST 6

struct backoff {
	uint32_t tries;
	uint32_t crc;
};

static inline uint32_t backoff_crc(const struct backoff *backoff)
{
	/* Inverted, because the CRC-32 of 32 ones is 32 ones. */
	return ~crc32_ieee((const uint8_t *)&backoff->tries, sizeof(backoff->tries));
}

/* Seconds to wait now; counts this try. */
static inline uint32_t backoff_next_s(struct backoff *backoff)
{
	uint32_t tries = backoff->crc == backoff_crc(backoff) ? MIN(backoff->tries, BACKOFF_MOST) : 0;

	backoff->tries = tries + 1;
	backoff->crc = backoff_crc(backoff);
	return 1U << tries;
}

/* The next failure is a first one again. */
static inline void backoff_end(struct backoff *backoff)
{
	backoff->tries = 0;
	backoff->crc = 0;
}

#endif
