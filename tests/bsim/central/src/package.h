/* SPDX-License-Identifier: Apache-2.0 */
/* The package that is sent: made from the zip file by package.py. */
#ifndef PACKAGE_H_
#define PACKAGE_H_

#include <stddef.h>
#include <stdint.h>

extern const uint8_t package_init[], package_image[];
extern const size_t package_init_size, package_image_size;

#endif
