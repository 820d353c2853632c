/* SPDX-License-Identifier: Apache-2.0 */
/* The link to the device, from the search for FE59 to the subscription. Times are of the simulation, in microseconds. */
#ifndef LINK_H_
#define LINK_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <nsi_hw_scheduler.h>
#include <zephyr/sys/util.h>

/* Ends the simulation of the central with a reason. */
#define FAIL(...) link_fail(__VA_ARGS__)
FUNC_NORETURN void link_fail(const char *format, ...) __printf_like(1, 2);

struct notification {
	uint64_t at;
	uint16_t length;
	uint8_t bytes[498 - 3];
};

/*
 * Finds FE59 and connects with that interval (1.25 ms); MTU, data length, 2M, discovery, subscription. A passive phone
 * asks for nothing but the MTU, and grants what the device asks for; another one keeps its interval.
 */
void link_up(uint16_t interval, bool passive);
/* From now on changes the channel map every so many milliseconds; 0: never. */
void link_change_channels(uint32_t every_ms);
/* How often that was done. */
uint32_t link_channel_changes(void);
/* Prints the link's parameters as they are now. */
void link_report(const char *when);
/* The longest write without response: MTU - 3. */
uint16_t link_chunk(void);
/* Talk SMP from now on: link_up() subscribes to it, and link_send() writes to it. */
void link_use_smp(void);
/* A write with response to the control point; waits for the response. */
void link_request(const void *bytes, uint16_t length);
/* The next notification of the control point, or of SMP; fails after 20 s, as nrfutil does. */
void link_answer(struct notification *answer);
/* The same; false after `ms` without one. */
bool link_answer_within(struct notification *answer, uint32_t ms);
/* A write without response to the packet characteristic, or to SMP; waits only for a free buffer of the stack. */
void link_send(const void *bytes, uint16_t length);
/* Waits until the device ends the link, and tells why it did. */
uint8_t link_end(void);

#endif
