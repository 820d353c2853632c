/* SPDX-License-Identifier: Apache-2.0 */
/* The Secure DFU sequence of a client (reference: the order and the checks of Android-DFU-Library and nrfutil). */
#ifndef DFU_H_
#define DFU_H_

#include <stdbool.h>
#include <stdint.h>

struct client {
	const char *name;
	/* A receipt every so many packets of the image; 0: none. */
	uint16_t receipts;
	/* The number of receipts is set first of all, and not for the init packet and the image apart. */
	bool receipts_first;
	/* It speaks SMP: see smp.h. */
	bool smp;
	/* It leaves the link's parameters to the device. */
	bool passive;
};

/* Sends the package; prints the time of it and of the slowest answers. */
void dfu_run(const struct client *client);

#endif
