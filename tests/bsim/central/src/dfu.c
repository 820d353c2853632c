/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <zephyr/sys/byteorder.h>
#include <zephyr/sys/crc.h>
#include <nsi_tracing.h>

#include "dfu.h"
#include "link.h"
#include "package.h"

enum op {
	CREATE = 1,
	SET_RECEIPTS = 2,
	CHECKSUM = 3,
	EXECUTE = 4,
	SELECT = 6,
};

enum object {
	COMMAND = 1,
	DATA = 2,
};

#define RESPONSE 0x60
#define SUCCESS  1

static const char *const names[] = {
	[CREATE] = "create", [SET_RECEIPTS] = "prn", [CHECKSUM] = "crc", [EXECUTE] = "execute", [SELECT] = "select"};

/* Longest time from a request to its answer while the image is sent, by op; the final execute apart. */
static uint32_t longest_us[ARRAY_SIZE(names)];
static uint32_t final_us;
static uint16_t receipts;

static const uint8_t *expect(struct notification *answer, enum op op, uint16_t length)
{
	link_answer(answer);
	if (answer->length < 3 || answer->bytes[0] != RESPONSE || answer->bytes[1] != op) {
		FAIL("an answer that nobody asked for: %02x %02x %02x, instead of one to %s", answer->bytes[0],
		     answer->bytes[1], answer->bytes[2], names[op]);
	}
	if (answer->bytes[2] != SUCCESS) {
		FAIL("%s is refused: %02x %02x", names[op], answer->bytes[2], answer->length > 3 ? answer->bytes[3] : 0);
	}
	if (answer->length != 3 + length) {
		FAIL("the answer to %s has %u bytes", names[op], answer->length);
	}
	return answer->bytes + 3;
}

/* The data of the answer, `length` bytes; valid until the next request. */
static const uint8_t *request(const uint8_t *bytes, uint16_t size, uint16_t length)
{
	static struct notification answer;
	enum op op = bytes[0];
	uint64_t begin = nsi_hws_get_time();
	const uint8_t *data;

	link_request(bytes, size);
	data = expect(&answer, op, length);
	final_us = answer.at - begin;
	longest_us[op] = MAX(longest_us[op], final_us);
	return data;
}

static void set_receipts(uint16_t count)
{
	uint8_t bytes[] = {SET_RECEIPTS, 0, 0};

	sys_put_le16(count, bytes + 1);
	request(bytes, sizeof(bytes), 0);
	receipts = count;
}

static uint32_t select(enum object object)
{
	const uint8_t *data = request((const uint8_t[]){SELECT, object}, 2, 12);

	if (sys_get_le32(data + 4) != 0) {
		FAIL("the device is not fresh: it has %u bytes already", sys_get_le32(data + 4));
	}
	return sys_get_le32(data);
}

static void check(const uint8_t *data, uint32_t offset, uint32_t crc, const char *what)
{
	if (sys_get_le32(data) != offset || sys_get_le32(data + 4) != crc) {
		FAIL("%s: the device has %u bytes with CRC %08x, sent were %u with CRC %08x", what, sys_get_le32(data),
		     sys_get_le32(data + 4), offset, crc);
	}
}

/* One object, from Create to Execute. `all` begins at byte 0 of the init packet or image, as CRCs do. */
static void send(enum object object, const uint8_t *all, uint32_t from, uint32_t size)
{
	uint8_t create[6] = {CREATE, object};
	uint16_t since_receipt = 0;
	uint32_t at = from;
	uint32_t crc = crc32_ieee(all, from);

	sys_put_le32(size, create + 2);
	request(create, sizeof(create), 0);
	while (at < from + size) {
		uint16_t part = MIN(link_chunk(), from + size - at);

		link_send(all + at, part);
		crc = crc32_ieee_update(crc, all + at, part);
		at += part;
		if (receipts != 0 && ++since_receipt == receipts) {
			struct notification receipt;

			since_receipt = 0;
			check(expect(&receipt, CHECKSUM, 8), at, crc, "receipt");
		}
	}
	check(request((const uint8_t[]){CHECKSUM}, 1, 8), at, crc, "checksum");
	request((const uint8_t[]){EXECUTE}, 1, 0);
}

void dfu_run(const struct client *client)
{
	uint64_t begin = nsi_hws_get_time(), image_begin, end;
	uint32_t most, objects = 0;

	if (client->receipts_first) {
		set_receipts(client->receipts);
	}
	select(COMMAND);
	if (!client->receipts_first) {
		set_receipts(0);
	}
	send(COMMAND, package_init, 0, package_init_size);
	if (!client->receipts_first && client->receipts != 0) {
		set_receipts(client->receipts);
	}
	most = select(DATA);
	memset(longest_us, 0, sizeof(longest_us));
	image_begin = nsi_hws_get_time();
	for (uint32_t at = 0; at < package_image_size; at += most) {
		uint32_t before = longest_us[EXECUTE];
		bool last = at + most >= package_image_size;

		if (last) {
			link_report("link_end");
		}
		send(DATA, package_image, at, MIN(most, package_image_size - at));
		objects++;
		if (last) {
			longest_us[EXECUTE] = before;
		}
	}
	end = nsi_hws_get_time();
	nsi_print_trace("transfer: bytes=%u objects=%u object_size=%u begin_us=%u end_us=%u init_us=%u\n",
			  package_image_size, objects, most, (uint32_t)image_begin, (uint32_t)end,
			  (uint32_t)(image_begin - begin));
	nsi_print_trace("answers: create_us=%u crc_us=%u execute_us=%u final_us=%u\n", longest_us[CREATE],
			  longest_us[CHECKSUM], longest_us[EXECUTE], final_us);
}
