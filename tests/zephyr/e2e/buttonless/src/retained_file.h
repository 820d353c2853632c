/* SPDX-License-Identifier: Apache-2.0 */
/* Between the driver and the PC's file. */
#ifndef RETAINED_FILE_H_
#define RETAINED_FILE_H_

#define RETAINED_SIZE 64

/* All of it; zeros if there is no file: the power was off. */
void retained_file_read(unsigned char *bytes);
/* 0, or -1. */
int retained_file_write(const unsigned char *bytes);

#endif
