/* SPDX-License-Identifier: Apache-2.0 */
/* The phone's other half: SMP frames as Device Manager sends them, at the same entry points. CBOR by hand. */
#ifndef SMP_PHONE_H_
#define SMP_PHONE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SMP_DIGEST 32

/* A file, its SHA-256, by which its upload is known, and the digest in its TLVs, by which its image is. */
struct smp_file {
	const uint8_t *bytes;
	uint32_t length;
	const uint8_t *sha;
	const uint8_t *digest;
};

/* A notification of the device. */
int32_t smp_phone_is_told(const uint8_t *bytes, uint32_t length);
/* Chunks from `from` until the device holds `to`, each in a frame of the largest size; at the end of the file it must match. How
 * much it holds.
 */
uint32_t smp_sends(const struct smp_file *file, uint32_t from, uint32_t to);
/* The first chunk: the offset that the device wants then, or less than 0, the error of the image group. */
int32_t smp_begins(const struct smp_file *file);
/* The first chunk once more, of an upload of which the device has this much. */
void smp_begins_again(const struct smp_file *file, uint32_t held);
/* Asks for a test of the image, or confirms it: 0, or less than 0, the error of the image group. */
int32_t smp_sets_state(const uint8_t *digest, bool confirm);
/* The list of images; the number of slots in it. */
int32_t smp_lists(void);
/* Reset; it must be answered. */
void smp_resets(void);

#endif
