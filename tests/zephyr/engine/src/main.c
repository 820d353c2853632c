/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole transfers into flash, on the processor of the scenario: the shim's flash, the Rust library, its signatures; only
 * Bluetooth is replaced, by phone.c. Expected bytes come from the packages and from MCUboot's trailer, not from this project.
 */
#include <errno.h>
#include <string.h>
#include <zephyr/init.h>
#include <zephyr/kernel.h>
#include <zephyr/storage/flash_map.h>
#include <zephyr/sys/byteorder.h>
#include <zephyr/sys/crc.h>
#include <zephyr/ztest.h>

#include <bledfu/bledfu.h>
#include "bledfu_shim.h"
#include "phone.h"
#include "smp_phone.h"
#include "test_flash.h"

#define PACKAGE(_name, _dat, _bin) \
	static const struct package _name = {_dat, sizeof(_dat), _bin, sizeof(_bin)}

static const uint8_t first_image[] = {
#include "small-1.0.0.bin.inc"
};
static const uint8_t update_init[] = {
#include "small-2.0.0.dat.inc"
};
static const uint8_t update_image[] = {
#include "small-2.0.0.bin.inc"
};
static const uint8_t wrong_signature_init[] = {
#include "wrong-signature.dat.inc"
};
static const uint8_t other_key_init[] = {
#include "wrong-image-key.dat.inc"
};
static const uint8_t other_key_image[] = {
#include "wrong-image-key.bin.inc"
};
static const uint8_t wrong_hash_init[] = {
#include "wrong-hash.dat.inc"
};
static const uint8_t wrong_hash_image[] = {
#include "wrong-hash.bin.inc"
};

#if defined(CONFIG_BLEDFU_SMALL_UPDATES)
static const uint8_t packed_init[] = {
#include "packed.dat.inc"
};
static const uint8_t packed_image[] = {
#include "packed.bin.inc"
};
static const uint8_t packed_for_another_init[] = {
#include "packed-for-another.dat.inc"
};
static const uint8_t packed_for_another_image[] = {
#include "packed-for-another.bin.inc"
};
#endif

PACKAGE(update, update_init, update_image);
#if defined(CONFIG_BLEDFU_SMALL_UPDATES)
/* The same update, packed for the image that runs, and one that is packed for another image. */
PACKAGE(packed, packed_init, packed_image);
PACKAGE(packed_for_another, packed_for_another_init, packed_for_another_image);
#define SENT packed
#else
#define SENT update
#endif
/* By what Secure DFU knows that it is staged. No CRC-32 is kept of what SMP brings: then it is the image, which is in the slot. */
#if defined(CONFIG_BLEDFU_SMP)
#define KNOWN update
#else
#define KNOWN SENT
#endif
PACKAGE(wrong_signature, wrong_signature_init, update_image);
PACKAGE(other_image_key, other_key_init, other_key_image);
PACKAGE(wrong_hash, wrong_hash_init, wrong_hash_image);

/* MCUboot's trailer: fields of CONFIG_BLEDFU_MAX_ALIGN bytes below the magic, which depends on it, too. */
#if CONFIG_BLEDFU_MAX_ALIGN == 8
static const uint8_t magic[16] = {0x77, 0xC2, 0x95, 0xF3, 0x60, 0xD2, 0xEF, 0x7F,
				  0x35, 0x52, 0x50, 0x0F, 0x2C, 0xB6, 0x79, 0x80};
#else
static const uint8_t magic[16] = {CONFIG_BLEDFU_MAX_ALIGN, 0, 0x2D, 0xE1, 0x5D, 0x29, 0x41, 0x0B,
				  0x8D, 0x77, 0x67, 0x9C, 0x11, 0x0F, 0x1F, 0x8A};
#endif
#define FIELD_AT(size, n)  ((size) - ROUND_UP(16, CONFIG_BLEDFU_MAX_ALIGN) - (n) * CONFIG_BLEDFU_MAX_ALIGN)
#define MAGIC_AT(size)     ((size) - 16)
#define IMAGE_OK_AT(size)  FIELD_AT(size, 1)
#define COPY_DONE_AT(size) FIELD_AT(size, 2)
#define SWAP_INFO_AT(size) FIELD_AT(size, 3)
#define SWAP_TEST          2

#define INVALID_SIGNATURE   0x0005 /* result codes of Secure DFU */
#define VERIFICATION_FAILED 0x0B0C
#define VERSION_FAILURE     0x0B05
#define UNKNOWN_OP          0x0002
#define NOT_PERMITTED       0x0008
#define OPERATION_FAILED    0x000A

/* Error of the image group: the signature is wrong. */
#define INVALID_TLV (-5)
/* And: there is no such image. */
#define HASH_NOT_FOUND (-8)
#define CONFIRMATION_DENIED (-32)
#define ALREADY_PENDING (-28)
/* An update for another image than the one that runs. */
#define RUNNING_IS_NEWER (-27)

#if defined(CONFIG_BLEDFU_SMP)
static const uint8_t update_sha[] = {
#include "small-2.0.0.sha.inc"
};
#if defined(CONFIG_BLEDFU_SMALL_UPDATES)
static const uint8_t packed_sha[] = {
#include "packed.sha.inc"
};
static const uint8_t packed_for_another_sha[] = {
#include "packed-for-another.sha.inc"
};
#define SENT_SHA packed_sha
#else
#define SENT_SHA update_sha
#endif
static const uint8_t other_key_sha[] = {
#include "wrong-image-key.sha.inc"
};
#endif

/* The product's callbacks and log back end run on the worker too: this is theirs. */
#define STACK_RESERVE 1024

extern const k_tid_t bledfu_worker; /* zephyr/shim/worker.c */

static const struct flash_area *primary, *secondary;
static unsigned int events[BLEDFU_EVENT_RESET_REQUESTED + 1];
static uint32_t progress;
static enum bledfu_answer admission = BLEDFU_GO_ON;
static K_SEM_DEFINE(ready, 0, 1);
static K_SEM_DEFINE(resetting, 0, 1);

static enum bledfu_answer on_event(const struct bledfu_event_info *info)
{
	events[info->event]++;
	switch (info->event) {
	case BLEDFU_EVENT_READY:
		k_sem_give(&ready);
		break;
	case BLEDFU_EVENT_STARTED:
		return admission;
	case BLEDFU_EVENT_PROGRESS:
		progress = info->progress.received;
		break;
	case BLEDFU_EVENT_RESETTING:
		k_sem_give(&resetting);
		return BLEDFU_VETO; /* the suite has not ended yet */
	default:
		break;
	}
	return BLEDFU_GO_ON;
}

BLEDFU_CALLBACK_DEFINE(suite, on_event);

/* What the factory does, before the worker looks. */
static int program_first_image(void)
{
	uint8_t unit[32];
	int err = flash_area_open(FIXED_PARTITION_ID(slot0_partition), &primary);

	err = err != 0 ? err : flash_area_open(FIXED_PARTITION_ID(slot1_partition), &secondary);
	err = err != 0 ? err : flash_area_erase(primary, 0, primary->fa_size);
	/* A whole number of write units, whatever is behind the image. */
	for (size_t at = 0; err == 0 && at < sizeof(first_image); at += sizeof(unit)) {
		memset(unit, 0xFF, sizeof(unit));
		memcpy(unit, first_image + at, MIN(sizeof(unit), sizeof(first_image) - at));
		err = flash_area_write(primary, at, unit, sizeof(unit));
	}
	return err;
}

SYS_INIT(program_first_image, APPLICATION, 99);

static void expect_bytes(const struct flash_area *area, uint32_t offset, const uint8_t *bytes, size_t length)
{
	uint8_t seen[256];

	while (length > 0) {
		size_t part = MIN(length, sizeof(seen));

		zassert_ok(flash_area_read(area, offset, seen, part));
		zassert_mem_equal(seen, bytes, part, "differs between 0x%x and 0x%x", offset,
				  (uint32_t)(offset + part));
		offset += part;
		bytes += part;
		length -= part;
	}
}

static void expect_blank(const struct flash_area *area, uint32_t from, uint32_t to)
{
	static uint8_t blank[256];

	memset(blank, 0xFF, sizeof(blank));
	for (uint32_t part; from < to; from += part) {
		part = MIN(to - from, sizeof(blank));
		expect_bytes(area, from, blank, part);
	}
}

static void expect_nothing_staged(void)
{
	struct bledfu_status status;

	bledfu_status_get(&status);
	zassert_not_equal(status.state, BLEDFU_STATE_STAGED);
	zassert_equal(events[BLEDFU_EVENT_STAGED], 0);
	expect_blank(secondary, SWAP_INFO_AT(secondary->fa_size), secondary->fa_size);
	expect_bytes(primary, 0, first_image, sizeof(first_image));
}

/* How much of its stack the worker has ever used. A POSIX thread has another stack. */
static void tell_stack(const char *after)
{
#if !defined(CONFIG_ARCH_POSIX)
	size_t left = 0;

	zassert_ok(k_thread_stack_space_get(bledfu_worker, &left));
	TC_PRINT("the worker has used %zu of %u bytes of its stack after %s\n", CONFIG_BLEDFU_STACK_SIZE - left,
		 CONFIG_BLEDFU_STACK_SIZE, after);
#endif
}

/* From blank flash, by refusals, to a staged update, which waits for a reset that does not come. */
static bool is_first_round(const void *round)
{
	return *(const int *)round == 1;
}

static bool is_second_round(const void *round)
{
	return *(const int *)round == 2;
}

static bool is_third_round(const void *round)
{
	return *(const int *)round == 3;
}

static void before(void *fixture)
{
	memset(events, 0, sizeof(events));
	progress = 0;
	phone_connect();
}

static void after(void *fixture)
{
	admission = BLEDFU_GO_ON;
	phone_waits();
	phone_disconnect();
}

static void *setup(void)
{
	struct bledfu_status status;

	zassert_ok(k_sem_take(&ready, K_SECONDS(10)), "the service does not start");
	bledfu_status_get(&status);
	zassert_equal(status.state, BLEDFU_STATE_IDLE);
	zassert_true(status.confirmed);
	zassert_equal(status.fw_version, CONFIG_BLEDFU_FW_VERSION);
	return NULL;
}

/* ---- before anything is staged ---- */

ZTEST(untouched, test_a_package_of_another_owner_is_refused_before_flash_is_touched)
{
	zassert_equal(phone_sends_package(&wrong_signature), INVALID_SIGNATURE);
	phone_waits();
	zassert_equal(events[BLEDFU_EVENT_REFUSED], 1);
	zassert_equal(events[BLEDFU_EVENT_STARTED], 0);
	expect_blank(secondary, 0, secondary->fa_size);
	expect_nothing_staged();
}

#if defined(CONFIG_BLEDFU_SMP)
/* MCUboot's digest in the TLVs of an image, which are behind the protected ones. */
static const uint8_t *digest_of(const uint8_t *image, uint32_t length)
{
	uint32_t at = sys_get_le16(image + 8) + sys_get_le32(image + 12) + sys_get_le16(image + 10) + 4;

	while (at + 4 < length) {
		if (sys_get_le16(image + at) == 0x10) {
			return image + at + 4;
		}
		at += 4 + sys_get_le16(image + at + 2);
	}
	zassert_unreachable("no digest");
	return NULL;
}

static struct smp_file file_of(const struct package *package, const uint8_t *sha)
{
	return (struct smp_file){package->image, package->image_length, sha,
				 digest_of(package->image, package->image_length)};
}

static void smp_uploads(const struct smp_file *file)
{
	int32_t at = smp_begins(file);

	zassert_true(at > 0, "error %d", -at);
	smp_sends(file, at, file->length);
}
#endif

ZTEST_SUITE(untouched, is_first_round, setup, before, after, NULL);

ZTEST(refused, test_an_image_of_another_owner_is_refused_at_its_end)
{
	uint16_t result = phone_sends_package(&other_image_key);

	zassert_true(result == INVALID_SIGNATURE || result == VERIFICATION_FAILED, "result 0x%x", result);
	zassert_equal(events[BLEDFU_EVENT_STARTED], 1);
	expect_nothing_staged();
}

ZTEST(refused, test_another_image_than_the_package_announced_is_refused)
{
	zassert_equal(phone_sends_package(&wrong_hash), VERIFICATION_FAILED);
	expect_nothing_staged();
}

ZTEST(refused, test_a_product_that_does_not_want_an_update_now_gets_none)
{
	admission = BLEDFU_VETO;
	zassert_equal(phone_sends_package(&update), NOT_PERMITTED);
	phone_waits();
	zassert_equal(events[BLEDFU_EVENT_STARTED], 1);
	zassert_equal(events[BLEDFU_EVENT_PROGRESS], 0);
	expect_nothing_staged();
}

ZTEST(refused, test_a_product_that_wants_it_later_says_so_and_gets_it_then)
{
	struct bledfu_status status;

	admission = BLEDFU_POSTPONE;
	zassert_equal(phone_sends_package(&update), OPERATION_FAILED);
	phone_waits();
	zassert_equal(events[BLEDFU_EVENT_STARTED], 1);
	zassert_equal(events[BLEDFU_EVENT_PROGRESS], 0);
	zassert_ok(bledfu_status_get(&status));
	zassert_equal(status.refused & 0xff, OPERATION_FAILED);
	expect_nothing_staged();
}

ZTEST(refused, test_an_unknown_request_is_answered)
{
	static const uint8_t request[] = {0x42};
	struct answer answer = phone_asks(request, sizeof(request));

	zassert_equal(phone_result(&answer, request[0]), UNKNOWN_OP);
}

ZTEST(refused, test_after_a_disconnect_the_finished_objects_are_still_there)
{
	uint32_t object = CONFIG_BLEDFU_OBJECT_SIZE;
	/* Large objects: the second one is the rest of the image. */
	uint32_t done = 2 * object < update.image_length ? 2 * object : object;
	uint32_t next = MIN(object, update.image_length - done);
	const uint8_t create[] = {OP_CREATE, DATA, next & 0xFF, next >> 8, 0, 0};
	struct answer answer;
	struct position position;

	zassert_equal(phone_sends_object(COMMAND, update.init, 0, update.init_length), SUCCESS);
	for (uint32_t at = 0; at < done; at += object) {
		zassert_equal(phone_sends_object(DATA, update.image, at, at + object), SUCCESS);
	}
	answer = phone_asks(create, sizeof(create));
	zassert_equal(phone_result(&answer, OP_CREATE), SUCCESS);
	phone_sends(update.image + done, 1000);
	phone_disconnect();

	phone_connect();
	position = phone_selects(DATA);
	zassert_equal(position.offset, done);
	zassert_equal(position.crc, crc32_ieee(update.image, done));
	expect_bytes(secondary, 0, update.image, done);
	expect_nothing_staged();
}

#if defined(CONFIG_BLEDFU_SMP)
ZTEST(refused, test_an_upload_of_another_owner_is_refused_when_it_is_to_be_tested)
{
	struct smp_file file = file_of(&other_image_key, other_key_sha);

	smp_uploads(&file);
	zassert_equal(smp_lists(), 2);
	zassert_equal(smp_sets_state(file.digest, false), INVALID_TLV);
	/* It is gone: as long as it was listed, no client would send another one. */
	zassert_equal(smp_lists(), 1);
	zassert_equal(smp_sets_state(file.digest, true), HASH_NOT_FOUND);
	smp_uploads(&file);
	/* This phone has not paired. */
	zassert_equal(smp_sets_state(file.digest, true), CONFIRMATION_DENIED);
	zassert_equal(smp_lists(), 2);
	zassert_equal(smp_sets_state(file.digest, false), INVALID_TLV);
	phone_waits();
	zassert_equal(events[BLEDFU_EVENT_REFUSED], 4);
	expect_nothing_staged();
	tell_stack("a refused upload over SMP");
}

ZTEST(refused, test_an_upload_goes_on_after_a_disconnect)
{
	struct smp_file file = file_of(&update, update_sha);
	int32_t at = smp_begins(&file);

	zassert_true(at > 0, "error %d", -at);
	at = smp_sends(&file, at, 8000);
	phone_disconnect();
	phone_connect();
	smp_begins_again(&file, at);
	expect_nothing_staged();
}
#endif

#if defined(CONFIG_BLEDFU_SMALL_UPDATES)
ZTEST(refused, test_a_packed_update_for_another_image_is_refused)
{
	zassert_equal(phone_sends_package(&packed_for_another), VERSION_FAILURE);
#if defined(CONFIG_BLEDFU_SMP)
	struct smp_file file = file_of(&packed_for_another, packed_for_another_sha);

	smp_uploads(&file);
	zassert_equal(smp_sets_state(file.digest, false), RUNNING_IS_NEWER);
#endif
	expect_nothing_staged();
	tell_stack("a packed update for another image");
}
#endif

#if DT_HAS_COMPAT_STATUS_OKAY(bledfu_test_flash)
ZTEST(refused, test_a_peer_is_told_of_a_driver_that_does_not_come_back)
{
	zassert_equal(phone_sends_object(COMMAND, update.init, 0, update.init_length), SUCCESS);
	test_flash_hold_next(TEST_FLASH_WRITE);
	zassert_equal(phone_sends_object(DATA, update.image, 0, CONFIG_BLEDFU_OBJECT_SIZE), OPERATION_FAILED);
	phone_waits();
	zassert_true(test_flash_is_held(), "the driver was not asked");
	zassert_equal(events[BLEDFU_EVENT_REFUSED], 1);
	expect_nothing_staged();
	/* It comes back late: nothing is lost but this transfer, as the next tests show. */
	test_flash_release();
}
#endif

ZTEST_SUITE(refused, is_second_round, NULL, before, after, NULL);

/* ---- the update ---- */

/* The first by name, and so the first to run. */
ZTEST(update, test_an_update_is_staged_for_a_test_swap)
{
	uint32_t size = secondary->fa_size;
	struct bledfu_status status;
	const uint8_t swap_test[] = {SWAP_TEST, 0xFF, 0xFF, 0xFF}; /* one write unit */

	tell_stack("Secure DFU's refusals");
#if defined(CONFIG_BLEDFU_SMP)
	struct smp_file file = file_of(&SENT, SENT_SHA);

	smp_uploads(&file);
	tell_stack("an upload over SMP");
	zassert_ok(smp_sets_state(file.digest, false));
	zassert_ok(smp_sets_state(file.digest, false), "the second time");
	zassert_equal(smp_sets_state(file.digest, true), ALREADY_PENDING);
	phone_waits();
	events[BLEDFU_EVENT_REFUSED] = 0;
	tell_stack("its test");
	smp_resets();
#else
	zassert_equal(phone_sends_package(&SENT), SUCCESS);
#endif
	zassert_ok(k_sem_take(&resetting, K_SECONDS(30)), "the device does not want to reset");
	tell_stack("the update");

#if !defined(CONFIG_BLEDFU_SMP)
	/* The product hears of an object when the phone has its answer already. */
	zassert_equal(events[BLEDFU_EVENT_PROGRESS],
		      DIV_ROUND_UP(SENT.image_length, DT_PROP(DT_NODELABEL(sim_flash), erase_block_size)));
#endif
	zassert_equal(events[BLEDFU_EVENT_STARTED], 1);
	zassert_equal(events[BLEDFU_EVENT_STAGED], 1);
	zassert_equal(events[BLEDFU_EVENT_REFUSED], 0);
	zassert_equal(progress, SENT.image_length);
	bledfu_status_get(&status);
	zassert_equal(status.state, BLEDFU_STATE_STAGED);
	zassert_equal(status.received, SENT.image_length);

	expect_bytes(secondary, 0, update.image, update.image_length);
	expect_bytes(secondary, MAGIC_AT(size), magic, sizeof(magic));
	expect_blank(secondary, IMAGE_OK_AT(size), MAGIC_AT(size));
	expect_blank(secondary, COPY_DONE_AT(size), IMAGE_OK_AT(size));
	expect_bytes(secondary, SWAP_INFO_AT(size), swap_test, sizeof(swap_test));
	expect_bytes(primary, 0, first_image, sizeof(first_image));
	expect_blank(primary, SWAP_INFO_AT(primary->fa_size), primary->fa_size);
}

ZTEST(update, test_what_is_staged_stays_when_the_phone_comes_again)
{
	static const uint8_t execute[] = {OP_EXECUTE};
	struct position position;
	struct answer answer;

	zassert_not_equal(phone_sends_package(&KNOWN), SUCCESS);
	/* The answer to its last Execute may be lost: it is told that all is there, and may execute. */
	position = phone_selects(DATA);
	zassert_equal(position.offset, KNOWN.image_length);
	zassert_equal(position.crc, crc32_ieee(KNOWN.image, KNOWN.image_length));
	answer = phone_asks(execute, sizeof(execute));
	zassert_equal(phone_result(&answer, OP_EXECUTE), SUCCESS);
	zassert_ok(k_sem_take(&resetting, K_SECONDS(30)), "the device does not want to reset");
	zassert_equal(events[BLEDFU_EVENT_STARTED], 0);
	expect_bytes(secondary, 0, update.image, update.image_length);
	expect_bytes(secondary, MAGIC_AT(secondary->fa_size), magic, sizeof(magic));
}

ZTEST(update, test_confirming_works_while_an_update_is_staged)
{
	zassert_ok(bledfu_confirm());
	phone_waits();
	zassert_equal(events[BLEDFU_EVENT_CONFIRMED], 1);
	tell_stack("the confirmation");
}

/* The last by name: refusals, signatures and a whole update lie behind it. */
ZTEST(update, test_worker_has_stack_to_spare)
{
	size_t left = 0;

	Z_TEST_SKIP_IFDEF(CONFIG_ARCH_POSIX);
	zassert_ok(k_thread_stack_space_get(bledfu_worker, &left));
	tell_stack("all");
	zassert_true(left >= STACK_RESERVE, "only %zu bytes of stack were never used", left);
}

ZTEST_SUITE(update, is_third_round, NULL, before, after, NULL);

void test_main(void)
{
	for (int round = 1; round <= 3; round++) {
		ztest_run_test_suites(&round, false, 1, 1);
	}
	ztest_verify_all_test_suites_ran();
}
