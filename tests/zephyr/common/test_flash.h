/* SPDX-License-Identifier: Apache-2.0 */
/* A flash driver that does what a test says. */
#ifndef TEST_FLASH_H_
#define TEST_FLASH_H_

#include <stdbool.h>
#include <stdint.h>

enum test_flash_operation {
	TEST_FLASH_NONE,
	TEST_FLASH_READ,
	TEST_FLASH_WRITE,
	TEST_FLASH_ERASE,
};

/* A call as the driver saw it. */
struct test_flash_call {
	enum test_flash_operation operation;
	uint32_t offset; /* on the device */
	uint32_t length;
	const void *memory;
};

#define TEST_FLASH_CALLS 64

/* Calls since test_flash_reset, the first TEST_FLASH_CALLS of them in test_flash_calls. */
extern uint32_t test_flash_call_count;
extern struct test_flash_call test_flash_calls[TEST_FLASH_CALLS];

/* Blank flash, no calls seen, nothing held. Only when no call is held. */
void test_flash_reset(void);
/* The next such operation does not come back, as if its interrupt were lost, until test_flash_release. */
void test_flash_hold_next(enum test_flash_operation operation);
/* A call is held now. */
bool test_flash_is_held(void);
void test_flash_release(void);
/* The next such operation does nothing and answers this. */
void test_flash_fail_next(enum test_flash_operation operation, int result);
/* The bytes of the device. */
uint8_t *test_flash_bytes(void);

#endif
