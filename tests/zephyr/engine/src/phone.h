/* SPDX-License-Identifier: Apache-2.0 */
/* A phone at the shim's entry points: what it writes goes to bledfu_rs_push, what it is told is what Rust notifies. */
#ifndef PHONE_H_
#define PHONE_H_

#include <stddef.h>
#include <stdint.h>

/* Op codes and object types of Secure DFU. */
#define OP_CREATE   0x01
#define OP_RECEIPTS 0x02
#define OP_CHECKSUM 0x03
#define OP_EXECUTE  0x04
#define OP_SELECT   0x06
#define COMMAND     1
#define DATA        2

#define SUCCESS 0x01

/* What one write and one notification hold. */
#define WRITE 244U

struct answer {
	uint8_t length;
	uint8_t bytes[23];
};

/* What a package holds: the .dat, and the .bin. */
struct package {
	const uint8_t *init;
	uint32_t init_length;
	const uint8_t *image;
	uint32_t image_length;
};

/* How far the device is, by Select or Checksum. */
struct position {
	uint32_t max_size;
	uint32_t offset;
	uint32_t crc;
};

/* A link, without packet receipts. */
void phone_connect(void);
/* A request without effect: when it is answered, all that came before it is done, events to the product included. */
void phone_waits(void);
void phone_disconnect(void);
/* One write; offered again until there is room. */
void phone_writes(uint8_t channel, const uint8_t *bytes, size_t length);
/* Writes to the control point and waits for the answer; fails the test when there is none. */
struct answer phone_asks(const uint8_t *request, size_t length);
/* Writes of 244 bytes to the packet characteristic. */
void phone_sends(const uint8_t *bytes, size_t length);
/* Select; the answer must be a success. */
struct position phone_selects(uint8_t object);
/* The result of an answer: SUCCESS, another code, or 0x0B00 | extended code. Its op code must be op. */
uint16_t phone_result(const struct answer *answer, uint8_t op);
/* Create, bytes, Checksum (must be of what was sent), Execute: the result of the first request that is refused. */
uint16_t phone_sends_object(uint8_t object, const uint8_t *whole, uint32_t from, uint32_t to);
/* All objects of a package: the result of the request that is refused, or SUCCESS. */
uint16_t phone_sends_package(const struct package *package);

#endif
