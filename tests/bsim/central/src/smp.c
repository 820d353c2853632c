/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <zcbor_decode.h>
#include <zcbor_encode.h>
#include <zephyr/sys/byteorder.h>
#include <nsi_tracing.h>

#include "link.h"
#include "package.h"
#include "smp.h"

enum op {
	READ = 0,
	READ_ANSWER = 1,
	WRITE = 2,
	WRITE_ANSWER = 3,
};

enum group {
	OS = 0,
	IMAGE = 1,
};

enum command {
	OS_RESET = 5,
	OS_PARAMS = 6,
	IMAGE_STATE = 0,
	IMAGE_UPLOAD = 1,
};

#define HEADER 8
/* The second version of the protocol: errors have a group. */
#define VERSION (1 << 3)
#define LARGEST_FRAME 4096
/* Around the bytes of the image: header, map, key and offset, key and length. */
#define PIECE_OVERHEAD 40
/* What the libraries wait for an answer of an upload before they send its bytes again. */
#define ANSWER_MS 2500
/* And of other requests. */
#define LONGEST_ANSWER_MS 10000

static uint8_t sequence;
static uint8_t frame[LARGEST_FRAME];
/* As the device announces it. */
static uint32_t frame_size;

static void send(enum op op, enum group group, enum command command, const zcbor_state_t *body)
{
	uint16_t length = body->payload - (frame + HEADER);

	frame[0] = VERSION | op;
	frame[1] = 0;
	sys_put_be16(length, frame + 2);
	sys_put_be16(group, frame + 4);
	frame[6] = sequence++;
	frame[7] = command;
	for (uint16_t at = 0, size = HEADER + length; at < size;) {
		uint16_t part = MIN(link_chunk(), size - at);

		link_send(frame + at, part);
		at += part;
	}
}

/* An answer, put together from its notifications. */
struct answer {
	uint64_t at;
	uint16_t length;
	uint8_t bytes[1024];
};

/* The next answer; false if none comes within `ms`. */
static bool receive(struct answer *answer, uint32_t ms)
{
	static struct notification part;

	answer->length = 0;
	do {
		if (!link_answer_within(&part, ms)) {
			return false;
		}
		if (answer->length + part.length > sizeof(answer->bytes)) {
			FAIL("an answer of more than %zu bytes", sizeof(answer->bytes));
		}
		memcpy(answer->bytes + answer->length, part.bytes, part.length);
		answer->length += part.length;
	} while (answer->length < HEADER || answer->length < HEADER + sys_get_be16(answer->bytes + 2));
	answer->at = part.at;
	return true;
}

static void expect(struct answer *answer)
{
	if (!receive(answer, LONGEST_ANSWER_MS)) {
		FAIL("no answer");
	}
}

/* The number with this name in an answer; fails if it is an error, or if the number is missing and must not be. */
static bool number_in(const struct answer *answer, const char *name, uint32_t *number)
{
	struct zcbor_string key;
	bool has_it = false;

	ZCBOR_STATE_D(body, 4, answer->bytes + HEADER, answer->length - HEADER, 1, 0);
	if (answer->length < HEADER || !zcbor_map_start_decode(body)) {
		FAIL("an answer without a map");
	}
	while (zcbor_tstr_decode(body, &key)) {
		if (key.len == 3 && memcmp(key.value, "err", 3) == 0) {
			FAIL("a request of group %u is refused", sys_get_be16(answer->bytes + 4));
		}
		if (key.len == strlen(name) && memcmp(key.value, name, key.len) == 0) {
			has_it = zcbor_uint32_decode(body, number);
		} else if (!zcbor_any_skip(body, NULL)) {
			break;
		}
	}
	return has_it;
}

static uint32_t number_of(const struct answer *answer, const char *name)
{
	uint32_t number = 0;

	if (!number_in(answer, name, &number)) {
		FAIL("an answer without %s", name);
	}
	return number;
}

#define BODY(states) ZCBOR_STATE_E(body, states, frame + HEADER, sizeof(frame) - HEADER, 1)

static void done(bool is_encoded)
{
	if (!is_encoded) {
		FAIL("a request does not fit into a frame");
	}
}

static void read_params(void)
{
	static struct answer answer;

	BODY(1);
	done(zcbor_map_start_encode(body, 0) && zcbor_map_end_encode(body, 0));
	send(READ, OS, OS_PARAMS, body);
	expect(&answer);
	frame_size = MIN(number_of(&answer, "buf_size"), sizeof(frame));
	nsi_print_trace("params: buf_size=%u buf_count=%u\n", frame_size, number_of(&answer, "buf_count"));
}

/* Sends the piece of the image at `at`; returns where the next one begins. */
static uint32_t send_piece(uint32_t at)
{
	/* The first one says what comes. */
	uint32_t overhead = PIECE_OVERHEAD + (at == 0 ? 64 : 0);
	uint32_t size = MIN(frame_size - overhead, package_image_size - at);

	BODY(1);
	done(zcbor_map_start_encode(body, 4) && zcbor_tstr_put_lit(body, "off") && zcbor_uint32_put(body, at) &&
	     zcbor_tstr_put_lit(body, "data") && zcbor_bstr_encode_ptr(body, (const char *)package_image + at, size) &&
	     (at != 0 || (zcbor_tstr_put_lit(body, "len") && zcbor_uint32_put(body, package_image_size) &&
			  zcbor_tstr_put_lit(body, "sha") &&
			  zcbor_bstr_encode_ptr(body, (const char *)package_sha, package_sha_size))) &&
	     zcbor_map_end_encode(body, 4));
	send(WRITE, IMAGE, IMAGE_UPLOAD, body);
	return at + size;
}

static void test_and_reset(void)
{
	static struct answer answer;

	{
		BODY(1);
		done(zcbor_map_start_encode(body, 2) && zcbor_tstr_put_lit(body, "hash") &&
		     zcbor_bstr_encode_ptr(body, (const char *)package_hash, package_hash_size) &&
		     zcbor_tstr_put_lit(body, "confirm") && zcbor_bool_put(body, false) &&
		     zcbor_map_end_encode(body, 2));
		send(WRITE, IMAGE, IMAGE_STATE, body);
	}
	expect(&answer);
	number_in(&answer, "rc", &(uint32_t){0});
	{
		BODY(1);
		done(zcbor_map_start_encode(body, 0) && zcbor_map_end_encode(body, 0));
		send(WRITE, OS, OS_RESET, body);
	}
	expect(&answer);
}

void smp_run(uint32_t window)
{
	static struct answer answer;
	uint32_t next, acknowledged, under_way = 0, again = 0, silent = 0, longest_us = 0;
	uint64_t begin, end, last;
	/* An answer has named no new offset: nothing is sent until all requests are answered, as iOS' library does it. */
	bool drains = false;

	read_params();
	begin = nsi_hws_get_time();
	/* The device answers the first piece when it knows what comes; the libraries wait for that. */
	send_piece(0);
	expect(&answer);
	acknowledged = number_of(&answer, "off");
	next = acknowledged;
	last = nsi_hws_get_time();
	while (acknowledged < package_image_size) {
		uint32_t offset;

		while (!drains && under_way < window && next < package_image_size) {
			next = send_piece(next);
			under_way++;
		}
		if (!receive(&answer, ANSWER_MS)) {
			silent++;
			under_way = 0;
			drains = false;
			next = acknowledged;
			continue;
		}
		longest_us = MAX(longest_us, answer.at - last);
		last = answer.at;
		under_way -= under_way > 0;
		offset = number_of(&answer, "off");
		drains = drains || offset <= acknowledged;
		acknowledged = offset;
		if (drains && under_way == 0) {
			drains = false;
			again++;
			next = acknowledged;
		}
		next = MAX(next, acknowledged);
	}
	end = nsi_hws_get_time();
	link_report("link_end");
	nsi_print_trace("upload: bytes=%u window=%u begin_us=%u end_us=%u again=%u silent=%u longest_us=%u\n",
			  package_image_size, window, (uint32_t)begin, (uint32_t)end, again, silent, longest_us);
	test_and_reset();
}
