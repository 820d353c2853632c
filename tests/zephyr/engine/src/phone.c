/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <zephyr/kernel.h>
#include <zephyr/sys/byteorder.h>
#include <zephyr/sys/crc.h>
#include <zephyr/ztest.h>

#include "bledfu_shim.h"
#include "phone.h"
#include "smp_phone.h"

#define RESPONSE     0x60
#define PATIENCE     K_SECONDS(30) /* that of ATT */
#define EXTENDED     0x0B
#define FULL_PAUSE   K_MSEC(1)
#define FULL_RETRIES 10000

K_MSGQ_DEFINE(answers, sizeof(struct answer), 8, 4);

/* In place of the shim's: Rust notifies. */
int32_t __wrap_bledfu_shim_notify(uint8_t channel, const uint8_t *bytes, uint32_t length)
{
	struct answer answer = {.length = length};

	if (channel == BLEDFU_CHANNEL_SMP) {
		return smp_phone_is_told(bytes, length);
	}
	zassert_equal(channel, BLEDFU_CHANNEL_CONTROL);
	zassert_true(length <= sizeof(answer.bytes));
	memcpy(answer.bytes, bytes, length);
	return k_msgq_put(&answers, &answer, K_NO_WAIT) == 0 ? 0 : BLEDFU_SHIM_NO_BUFFER;
}

uint32_t __wrap_bledfu_shim_payload(void)
{
	return WRITE;
}

void phone_writes(uint8_t channel, const uint8_t *bytes, size_t length)
{
	int32_t status = BLEDFU_SHIM_NO_BUFFER;

	/* As the link layer does: what does not fit now comes again. */
	for (int i = 0; status == BLEDFU_SHIM_NO_BUFFER && i < FULL_RETRIES; i++) {
		status = bledfu_rs_push(channel, bytes, length, 0);
		if (status != 0) {
			k_sleep(FULL_PAUSE);
		}
	}
	zassert_ok(status, "a write of %u bytes is not taken", (unsigned int)length);
}

void phone_connect(void)
{
	k_msgq_purge(&answers);
	bledfu_rs_link(1);
	phone_waits();
}

void phone_waits(void)
{
	static const uint8_t no_receipts[] = {OP_RECEIPTS, 0, 0};
	struct answer answer = phone_asks(no_receipts, sizeof(no_receipts));

	zassert_equal(phone_result(&answer, OP_RECEIPTS), SUCCESS);
}

void phone_disconnect(void)
{
	bledfu_rs_link(0);
}

struct answer phone_asks(const uint8_t *request, size_t length)
{
	struct answer answer = {0};

	phone_writes(BLEDFU_CHANNEL_CONTROL, request, length);
	zassert_ok(k_msgq_get(&answers, &answer, PATIENCE), "request 0x%02x is not answered", request[0]);
	return answer;
}

void phone_sends(const uint8_t *bytes, size_t length)
{
	while (length > 0) {
		size_t part = MIN(length, WRITE);

		phone_writes(BLEDFU_CHANNEL_PACKET, bytes, part);
		bytes += part;
		length -= part;
	}
}

uint16_t phone_result(const struct answer *answer, uint8_t op)
{
	zassert_true(answer->length >= 3);
	zassert_equal(answer->bytes[0], RESPONSE);
	zassert_equal(answer->bytes[1], op);
	if (answer->bytes[2] == EXTENDED) {
		zassert_equal(answer->length, 4);
		return EXTENDED << 8 | answer->bytes[3];
	}
	return answer->bytes[2];
}

struct position phone_selects(uint8_t object)
{
	const uint8_t request[] = {OP_SELECT, object};
	struct answer answer = phone_asks(request, sizeof(request));

	zassert_equal(phone_result(&answer, OP_SELECT), SUCCESS);
	zassert_equal(answer.length, 15);
	return (struct position){
		.max_size = sys_get_le32(answer.bytes + 3),
		.offset = sys_get_le32(answer.bytes + 7),
		.crc = sys_get_le32(answer.bytes + 11),
	};
}

uint16_t phone_sends_object(uint8_t object, const uint8_t *whole, uint32_t from, uint32_t to)
{
	static const uint8_t checksum[] = {OP_CHECKSUM}, execute[] = {OP_EXECUTE};
	uint8_t create[6] = {OP_CREATE, object};
	struct answer answer;
	uint16_t result;

	sys_put_le32(to - from, create + 2);
	answer = phone_asks(create, sizeof(create));
	result = phone_result(&answer, OP_CREATE);
	if (result != SUCCESS) {
		return result;
	}
	phone_sends(whole + from, to - from);
	answer = phone_asks(checksum, sizeof(checksum));
	result = phone_result(&answer, OP_CHECKSUM);
	if (result != SUCCESS) {
		return result;
	}
	zassert_equal(answer.length, 11);
	zassert_equal(sys_get_le32(answer.bytes + 3), to);
	zassert_equal(sys_get_le32(answer.bytes + 7), crc32_ieee(whole, to));
	answer = phone_asks(execute, sizeof(execute));
	return phone_result(&answer, OP_EXECUTE);
}

uint16_t phone_sends_package(const struct package *package)
{
	uint32_t object = 0;
	uint16_t result = phone_sends_object(COMMAND, package->init, 0, package->init_length);

	if (result == SUCCESS) {
		object = phone_selects(DATA).max_size;
		zassert_equal(object, CONFIG_BLEDFU_OBJECT_SIZE);
	}
	for (uint32_t at = 0; result == SUCCESS && at < package->image_length; at += object) {
		result = phone_sends_object(DATA, package->image, at, MIN(at + object, package->image_length));
	}
	return result;
}
