/* SPDX-License-Identifier: Apache-2.0 */
/* The package that is sent: made from the zip file by package.py. */
#ifndef PACKAGE_H_
#define PACKAGE_H_

#include <stddef.h>
#include <stdint.h>

extern const uint8_t package_init[], package_image[];
extern const size_t package_init_size, package_image_size;

/* SHA-256 of the whole image file, and the digest by which MCUboot and SMP know the image. */
extern const uint8_t package_sha[], package_hash[];
extern const size_t package_sha_size, package_hash_size;

#endif
