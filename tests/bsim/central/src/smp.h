/* SPDX-License-Identifier: Apache-2.0 */
/* An upload over SMP with several requests under way, as Nordic's mcumgr libraries for Android and iOS do it. */
#ifndef SMP_H_
#define SMP_H_

#include <stdint.h>

/*
 * Sends the package's image with up to `window` requests under way, requests it for a test, and resets the device. Prints the
 * time of the upload and how often an answer asked for other bytes, or none came.
 */
void smp_run(uint32_t window);

#endif
