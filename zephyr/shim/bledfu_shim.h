/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole ABI between C and Rust: integers, and pointers with lengths. Rust's side: rust/bledfu-zephyr/src/abi.rs.
 * Offsets and lengths are bytes, times milliseconds. A status is 0 or negative; errnos differ between C libraries,
 * so those that Rust tells apart have numbers of their own.
 */
#ifndef BLEDFU_SHIM_H_
#define BLEDFU_SHIM_H_

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <zephyr/kernel.h>

#include <bledfu/bledfu.h>

#define BLEDFU_SHIM_TIMED_OUT     (-1)
#define BLEDFU_SHIM_BUSY          (-2)
#define BLEDFU_SHIM_NOT_CONNECTED (-3)
#define BLEDFU_SHIM_NO_BUFFER     (-4)
#define BLEDFU_SHIM_TOO_LONG      (-5)
#define BLEDFU_SHIM_NO_CHANNEL    (-6)
#define BLEDFU_SHIM_LOST          (-7)
#define BLEDFU_SHIM_OTHER(err)    (-100 - (err)) /* a positive errno */

/* The characteristics, for bledfu_rs_push; answers go to CONTROL and SMP. */
#define BLEDFU_CHANNEL_CONTROL 0
#define BLEDFU_CHANNEL_PACKET  1
#define BLEDFU_CHANNEL_SMP     2

/* ---- C provides ---- */

/* flash.c; area: 0 primary, 1 secondary, 2 journal, 3 spare area (scratch, revert copy),
 * 4 trust area. sector is 0 when its erase pages are not all of one size. */
int32_t bledfu_shim_flash_open(uint8_t area, uint32_t *size, uint32_t *start, uint32_t *sector,
			       uint32_t *unit);
/* Reads and writes are of at most BLEDFU_SHIM_PAGE bytes, and of one page of it; aligned in RAM or not. */
#define BLEDFU_SHIM_PAGE 256
int32_t bledfu_shim_flash_read(uint8_t area, uint32_t offset, uint8_t *bytes, uint32_t length);
int32_t bledfu_shim_flash_write(uint8_t area, uint32_t offset, const uint8_t *bytes,
				uint32_t length);
int32_t bledfu_shim_flash_erase(uint8_t area, uint32_t offset, uint32_t length);
/* Where the processor sees the primary slot. */
uint32_t bledfu_shim_primary_address(void);

/* peer.c; notify copies, and waits up to 50 ms for a buffer; payload is what one notification holds; delivered waits until all notifications have left. */
int32_t bledfu_shim_notify(uint8_t channel, const uint8_t *bytes, uint32_t length);
uint32_t bledfu_shim_payload(void);
int32_t bledfu_shim_delivered(uint32_t timeout_ms);
/* smp_forward.c: one frame for Zephyr's MCUmgr, copied (0, or a status); the next answer of it, which stays until the next
 * call. Returns its length, 0 without one.
 */
int32_t bledfu_shim_smp_forward(const uint8_t *bytes, uint32_t length);
uint32_t bledfu_shim_smp_answer(const uint8_t **bytes);
void bledfu_shim_disconnect(void);
void bledfu_shim_made_room(void);
void bledfu_shim_hurry(void);

/* worker.c; the lock is a spin lock, its key goes back to unlock. A wait of UINT32_MAX has no end but wake. */
uint32_t bledfu_shim_lock(void);
void bledfu_shim_unlock(uint32_t key);
void bledfu_shim_wait(uint32_t timeout_ms);
void bledfu_shim_wake(void);
uint64_t bledfu_shim_uptime_ms(void);
extern const char bledfu_shim_kernel_version[];
void bledfu_shim_sleep_ms(uint32_t ms);
FUNC_NORETURN void bledfu_shim_reset(void);

/* events.c; event is enum bledfu_event, the result enum bledfu_answer. */
uint32_t bledfu_shim_event(uint8_t event, uint32_t first, uint32_t second);

/* keys.c, made at build time; kind: 0 packages, 1 images. Returns the number of keys, 64 bytes each. */
uint32_t bledfu_shim_keys(uint8_t kind, const uint8_t **bytes);

/* crypto_psa.c; a P-256 key (X, Y), a SHA-256, and a signature (r, s), all big-endian. */
#define BLEDFU_SHIM_GOOD        0x3C5AA5C3
#define BLEDFU_SHIM_BAD         0
#define BLEDFU_SHIM_UNAVAILABLE (-1)
int32_t bledfu_shim_verify(const uint8_t *key, const uint8_t *digest, const uint8_t *signature);

/* log.c; level: 1 error to 4 debug; line ends with a zero byte. */
void bledfu_shim_log(uint8_t level, const char *line);
FUNC_NORETURN void bledfu_shim_panic(const uint8_t *file, uint32_t length, uint32_t line);

/* boot/src: called between any two flash operations of the boot stage. */
void bledfu_shim_boot_feed(void);
/* boot/src: an image outside was refused, and is looked at again behind this. */
void bledfu_shim_boot_wait(void);

/* ---- Rust provides (rust/bledfu-zephyr/src/worker.rs and boot.rs) ---- */

/*
 * Bluetooth thread: copies one write, and never waits. BLEDFU_SHIM_NO_BUFFER: no room; a lost packet is remembered, unless
 * may_wait is 1: then it may be offered again. BLEDFU_SHIM_LOST: packets before it were lost, and so is it.
 */
int32_t bledfu_rs_push(uint8_t channel, const uint8_t *bytes, uint32_t length, uint8_t may_wait);
/* Bluetooth thread: a peer subscribed (1), or it is gone (0). */
void bledfu_rs_link(uint8_t up);
/* Bluetooth thread: the peer has paired as BLEDFU_LINK asks (1), or has not (0); 0 after every bledfu_rs_link. */
void bledfu_rs_peer(uint8_t trusted);
/* Any thread: somebody at the device wants an update. */
void bledfu_rs_allow_updates(void);
/* Any thread: the application confirms its image. */
void bledfu_rs_confirm(void);
/* The worker thread; returns only when the service cannot run. */
void bledfu_rs_run(void);
/* The worker thread, after that, each time it is woken: confirms the image if that was asked for. */
void bledfu_rs_without_service(void);

/* The boot stage, once: where in slot 0 the vectors of the image are that may start, 0 if none may; above those 32 bits
 * what was done (boot_report.h).
 */
uint64_t bledfu_rs_boot(void);

/* ---- buttonless entry (buttonless.c; Rust: bledfu-firmware/src/buttonless.rs) ---- */

/* How the update mode advertises. */
struct bledfu_update_mode {
	/* The kind, then the address, lowest byte first; kind BLEDFU_OWN_ADDRESS: the device's own. */
	uint8_t address[7];
	/* 0: the device's own name. */
	uint8_t name_length;
	uint8_t name[20];
};
#define BLEDFU_OWN_ADDRESS 0xFF
/* What the retained memory must hold, in bytes. */
#define BLEDFU_RECORD_SIZE 33

/* C: indicates an answer to the peer that wrote; stores the record; closes the link of that peer, and resets. */
int32_t bledfu_shim_indicate(const uint8_t *bytes, uint32_t length);
int32_t bledfu_shim_retain(const uint8_t *bytes, uint32_t length);
FUNC_NORETURN void bledfu_shim_leave(void);
/* Rust, Bluetooth thread: a write, copied; 0: the one before is not answered yet. reached is the device's own address on
 * that link. The answer was confirmed (0), or the link is gone (1).
 */
uint8_t bledfu_rs_buttonless(const uint8_t *bytes, uint32_t length, uint8_t is_bonded,
			     const uint8_t reached[7]);
void bledfu_rs_buttonless_over(uint8_t is_gone);
/* Rust: 1 if the retained bytes ask for the update mode; then mode is filled. */
uint8_t bledfu_rs_update_mode(const uint8_t *retained, uint32_t length, struct bledfu_update_mode *mode);

/* ---- between the files of the shim ---- */

/* buttonless.c: how the update mode advertises; gatt_secure_dfu.c: its only service. */
extern struct bledfu_update_mode bledfu_update_mode;
#if defined(CONFIG_BLEDFU_UPDATE_MODE)
struct bt_gatt_service;
extern struct bt_gatt_service bledfu_service;
#endif

/* The thread that runs bledfu_rs_run. */
extern const k_tid_t bledfu_worker;

/* events.c: where the service stands (enum bledfu_state). */
enum bledfu_state bledfu_state(void);

/* adv.c: the state has changed; starts or stops what the product has asked for. */
#if defined(CONFIG_BLEDFU_ADVERTISING)
void bledfu_adv_update(void);
#else
static inline void bledfu_adv_update(void)
{
}
#endif

struct bt_conn;
struct bt_gatt_attr;
/* The characteristics that answers are notified on. */
extern const struct bt_gatt_attr *const bledfu_control_point;
extern const struct bt_gatt_attr *const bledfu_smp_characteristic;

#if defined(CONFIG_BLEDFU_AUTHENTICATED_LINK)
#define BLEDFU_PERM_WRITE BT_GATT_PERM_WRITE_AUTHEN
#elif defined(CONFIG_BLEDFU_ENCRYPTED_LINK)
#define BLEDFU_PERM_WRITE BT_GATT_PERM_WRITE_ENCRYPT
#else
#define BLEDFU_PERM_WRITE BT_GATT_PERM_WRITE
#endif

/* peer.c: a number for the peer, which changes when it goes. */
uint32_t bledfu_peer_session(void);

/* peer.c: what both services do with a subscription and a write; answer is the characteristic that must be subscribed. */
ssize_t bledfu_peer_subscribe(struct bt_conn *conn, const struct bt_gatt_attr *attr, uint16_t value);
ssize_t bledfu_peer_write(uint8_t channel, const struct bt_gatt_attr *answer, struct bt_conn *conn,
			  const void *buf, uint16_t len, uint16_t offset);

#endif
