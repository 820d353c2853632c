/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <zephyr/kernel.h>
#include <zephyr/sys/byteorder.h>
#include <zephyr/ztest.h>

#include "bledfu_shim.h"
#include "phone.h"
#include "smp_phone.h"

#if defined(CONFIG_BLEDFU_SMP)

#define HEADER   8
#define READ     0
#define WRITES   2
#define OS       0
#define IMAGE    1
#define STATE    0
#define UPLOAD   1
#define RESET    5
#define V2       (1 << 3)
#define PATIENCE K_SECONDS(30)
#define ANSWER   512

/* Heads of CBOR items. Numbers are sent in four bytes whatever they are: a device takes that. */
#define MAP(n)     (0xA0 | (n))
#define TEXT(n)    (0x60 | (n))
#define NUMBER32   0x1A
#define BYTES8     0x58
#define BYTES16    0x59
#define FALSE      0xF4
#define TRUE       0xF5
#define ARRAY(n)   (0x80 | (n))

static uint8_t frame[CONFIG_BLEDFU_SMP_FRAME_SIZE];
static size_t length;
static uint8_t answer[ANSWER];
static size_t answered;
static uint8_t sequence;
static K_SEM_DEFINE(whole, 0, 1);

int32_t smp_phone_is_told(const uint8_t *bytes, uint32_t count)
{
	zassert_true(count <= WRITE && answered + count <= sizeof(answer));
	memcpy(answer + answered, bytes, count);
	answered += count;
	zassert_true(answered >= HEADER);
	if (answered == HEADER + sys_get_be16(answer + 2)) {
		k_sem_give(&whole);
	}
	return 0;
}

static void put(const void *bytes, size_t count)
{
	zassert_true(length + count <= sizeof(frame));
	memcpy(frame + length, bytes, count);
	length += count;
}

static void put_byte(uint8_t byte)
{
	put(&byte, 1);
}

static void put_text(const char *text)
{
	put_byte(TEXT(strlen(text)));
	put(text, strlen(text));
}

static void put_number(uint32_t number)
{
	uint8_t bytes[5] = {NUMBER32};

	sys_put_be32(number, bytes + 1);
	put(bytes, sizeof(bytes));
}

static void begin(uint8_t op, uint8_t group, uint8_t command, uint8_t keys)
{
	const uint8_t head[HEADER] = {op | V2, 0, 0, 0, 0, group, ++sequence, command};

	length = 0;
	put(head, sizeof(head));
	put_byte(MAP(keys));
}

/* Sends the frame in fragments and waits for the whole answer to it. */
static void ask(void)
{
	sys_put_be16(length - HEADER, frame + 2);
	answered = 0;
	k_sem_reset(&whole);
	for (size_t at = 0; at < length; at += WRITE) {
		phone_writes(BLEDFU_CHANNEL_SMP, frame + at, MIN(length - at, WRITE));
	}
	zassert_ok(k_sem_take(&whole, PATIENCE), "group %u, command %u is not answered", frame[5], frame[7]);
	zassert_equal(answer[0], (frame[0] & ~7) | ((frame[0] & 7) + 1));
	zassert_mem_equal(answer + 4, frame + 4, 4);
}

/* Whether the answer begins with these bytes behind its header. */
static bool says(const void *bytes, size_t count)
{
	return answered >= HEADER + count && memcmp(answer + HEADER, bytes, count) == 0;
}

/* 0 if the answer is no error of the image group. */
static int32_t refusal(void)
{
	static const uint8_t err[] = {MAP(1), TEXT(3), 'e', 'r', 'r', MAP(2), TEXT(5), 'g', 'r', 'o', 'u', 'p', IMAGE,
				      TEXT(2), 'r', 'c'};
	static const uint8_t rc[] = {MAP(1), TEXT(2), 'r', 'c'};

	zassert_false(says(rc, sizeof(rc)), "an error of SMP");
	if (!says(err, sizeof(err))) {
		return 0;
	}
	/* Up to 23 a number is its own head, then it is the byte behind it. */
	return -(int32_t)answer[answered - 1];
}

/* {"off": n} and, where it is due, "match": true. */
static void expect_wanted(uint32_t offset, bool match)
{
	uint8_t expected[32] = {MAP(match ? 2 : 1), TEXT(3), 'o', 'f', 'f'};
	size_t at = 5;

	if (offset < 24) {
		expected[at++] = offset;
	} else if (offset < 256) {
		expected[at++] = 0x18;
		expected[at++] = offset;
	} else {
		zassert_true(offset <= UINT16_MAX);
		expected[at++] = 0x19;
		sys_put_be16(offset, expected + at);
		at += 2;
	}
	if (match) {
		memcpy(expected + at, (const uint8_t[]){TEXT(5), 'm', 'a', 't', 'c', 'h', TRUE}, 7);
		at += 7;
	}
	zassert_equal(answered, HEADER + at, "an answer of %zu bytes", answered);
	zassert_true(says(expected, at), "another offset than %u", offset);
}

/* The request for the chunk at `offset`, which fills the frame or ends with the file; where it ends. */
static uint32_t put_chunk(const struct smp_file *file, uint32_t offset)
{
	uint32_t count;
	uint8_t head[3] = {BYTES16};

	begin(WRITES, IMAGE, UPLOAD, offset == 0 ? 4 : 2);
	put_text("off");
	put_number(offset);
	if (offset == 0) {
		put_text("len");
		put_number(file->length);
		put_text("sha");
		put((const uint8_t[]){BYTES8, SMP_DIGEST}, 2);
		put(file->sha, SMP_DIGEST);
	}
	put_text("data");
	count = MIN(sizeof(frame) - length - sizeof(head), file->length - offset);
	sys_put_be16(count, head + 1);
	put(head, sizeof(head));
	put(file->bytes + offset, count);
	return offset + count;
}

int32_t smp_begins(const struct smp_file *file)
{
	uint32_t end = put_chunk(file, 0);
	int32_t error;

	ask();
	error = refusal();
	if (error == 0) {
		expect_wanted(end, end == file->length);
	}
	return error != 0 ? error : (int32_t)end;
}

void smp_begins_again(const struct smp_file *file, uint32_t held)
{
	(void)put_chunk(file, 0);
	ask();
	expect_wanted(held, false);
}

uint32_t smp_sends(const struct smp_file *file, uint32_t from, uint32_t to)
{
	while (from < to) {
		from = put_chunk(file, from);
		ask();
		expect_wanted(from, from == file->length);
	}
	return from;
}

int32_t smp_sets_state(const uint8_t *digest, bool confirm)
{
	static const uint8_t list[] = {MAP(2), TEXT(6), 'i', 'm', 'a', 'g', 'e', 's', ARRAY(2)};
	int32_t error;

	begin(WRITES, IMAGE, STATE, 2);
	put_text("hash");
	put((const uint8_t[]){BYTES8, SMP_DIGEST}, 2);
	put(digest, SMP_DIGEST);
	put_text("confirm");
	put_byte(confirm ? TRUE : FALSE);
	ask();
	error = refusal();
	zassert_true(error != 0 || says(list, sizeof(list)), "no list of two images");
	return error;
}

int32_t smp_lists(void)
{
	static const uint8_t list[] = {MAP(2), TEXT(6), 'i', 'm', 'a', 'g', 'e', 's'};

	begin(READ, IMAGE, STATE, 0);
	ask();
	zassert_true(says(list, sizeof(list)));
	return answer[HEADER + sizeof(list)] & 0x1F;
}

void smp_resets(void)
{
	begin(WRITES, OS, RESET, 0);
	ask();
	zassert_true(answered == HEADER + 1 && answer[HEADER] == MAP(0));
}

#else

int32_t smp_phone_is_told(const uint8_t *bytes, uint32_t count)
{
	zassert_unreachable("a notification of a service that is not there");
	return 0;
}

#endif
