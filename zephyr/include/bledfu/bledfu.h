/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Firmware update over Bluetooth LE: what a product may ask, and what it is told.
 *
 * With CONFIG_BLEDFU=y the service is there as soon as Bluetooth is enabled; nothing here has to be called, except
 * that somebody must advertise (@ref bledfu_advertising_start, or the product with @ref BLEDFU_AD_UUID in its data)
 * and confirm a new image (@ref bledfu_confirm).
 */
#ifndef BLEDFU_BLEDFU_H_
#define BLEDFU_BLEDFU_H_

#include <stdbool.h>
#include <stdint.h>
#include <zephyr/sys/iterable_sections.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * @defgroup bledfu Firmware update over Bluetooth LE
 * @{
 */

/** 16-bit UUID of the Secure DFU service, by which phones find a device. */
#define BLEDFU_UUID16_VAL 0xFE59

/** UUID of the SMP service (mcumgr), which is there with CONFIG_BLEDFU_SMP. */
#define BLEDFU_SMP_UUID128_VAL                                                                     \
	BT_UUID_128_ENCODE(0x8D53DC1D, 0x1DB7, 0x4CD3, 0x868B, 0x8A527460AA84)

/** Entries for the advertising data of a product that advertises itself. */
#define BLEDFU_AD_UUID     BT_DATA_BYTES(BT_DATA_UUID16_ALL, 0x59, 0xFE)
/** As BLEDFU_AD_UUID, for the SMP service. */
#define BLEDFU_AD_SMP_UUID BT_DATA_BYTES(BT_DATA_UUID128_ALL, BLEDFU_SMP_UUID128_VAL)

/** What happened. */
enum bledfu_event {
	/** The service takes requests. */
	BLEDFU_EVENT_READY = 0,
	/**
	 * The service cannot run, e.g. because its flash does not answer; the log says why. What is left is @ref bledfu_confirm.
	 * A product that advertises itself takes @ref BLEDFU_AD_UUID out of its data.
	 */
	BLEDFU_EVENT_FAILED = 1,
	/** A signed package was accepted, or an SMP upload begins; nothing is written yet. A veto refuses it for now. */
	BLEDFU_EVENT_STARTED = 2,
	/** One more object (4 KiB) is in flash. */
	BLEDFU_EVENT_PROGRESS = 3,
	/** The image is complete, verified and marked: the next reset installs it. */
	BLEDFU_EVENT_STAGED = 4,
	/** A request of the peer was refused. */
	BLEDFU_EVENT_REFUSED = 5,
	/** The link is closed and the device is about to reset. A veto leaves the reset to the product. */
	BLEDFU_EVENT_RESETTING = 6,
	/** The running image was confirmed, or could not be. */
	BLEDFU_EVENT_CONFIRMED = 7,
	/**
	 * A phone wants the device to start in update mode (CONFIG_BLEDFU_BUTTONLESS): it resets as soon as the phone has
	 * the answer. A veto refuses it, and the phone is told 04 (operation failed).
	 */
	BLEDFU_EVENT_UPDATE_MODE = 8,
	/**
	 * A phone requests a reset over SMP; BLEDFU_EVENT_RESETTING follows if it is granted. After a veto the device does not
	 * reset, and the phone is told 11 (access denied), or 10 (busy) after BLEDFU_POSTPONE.
	 */
	BLEDFU_EVENT_RESET_REQUESTED = 9,
};

/** An event and its values. */
struct bledfu_event_info {
	/** Which member of the union is set. */
	enum bledfu_event event;
	union {
		/** @cond INTERNAL_HIDDEN */
		uint32_t values[2];
		/** @endcond */
		/** BLEDFU_EVENT_READY */
		struct {
			/** 0: the running image is on trial and will be taken back at the next reset. */
			uint32_t confirmed;
			/** Version of the running image, as packages count. */
			uint32_t fw_version;
		} ready;
		/** BLEDFU_EVENT_STARTED, BLEDFU_EVENT_STAGED */
		struct {
			/** Of the image, in bytes; 0 when it was in the slot already (SMP). */
			uint32_t size;
			/** Of the package; 0 over SMP, which has none. */
			uint32_t fw_version;
		} package;
		/** BLEDFU_EVENT_PROGRESS */
		struct {
			/** Bytes in flash. */
			uint32_t received;
			/** Of the image, in bytes. */
			uint32_t size;
		} progress;
		/** BLEDFU_EVENT_REFUSED */
		struct {
			/**
			 * Secure DFU: op code << 16 | extended code << 8 | result code. SMP: 1 << 31 |
			 * group << 8 | error, with group 0xFF for an error of SMP itself.
			 */
			uint32_t code;
		} refused;
		/** BLEDFU_EVENT_CONFIRMED */
		struct {
			/** 0: it could not be written. */
			uint32_t done;
		} confirmed;
	};
};

/** Answer of a callback. */
enum bledfu_answer {
	/** Go on. */
	BLEDFU_GO_ON = 0,
	/**
	 * Do not; counts for BLEDFU_EVENT_STARTED, _RESETTING, _UPDATE_MODE and _RESET_REQUESTED only. A phone that wants to send is told 08
	 * (operation not permitted) over Secure DFU, and 11 (access denied) over SMP.
	 */
	BLEDFU_VETO = 1,
	/**
	 * As BLEDFU_VETO, but only now: the battery is low, a user has to agree. A phone is told 0A (operation failed) over
	 * Secure DFU, and 10 (busy) over SMP.
	 */
	BLEDFU_POSTPONE = 2,
};

/** @cond INTERNAL_HIDDEN */
struct bledfu_callback {
	enum bledfu_answer (*handler)(const struct bledfu_event_info *info);
};
/** @endcond */

/**
 * @brief Registers a callback at build time; any file may have one.
 *
 * It runs on the worker thread: it may use flash and sleep a little, but the peer waits meanwhile. It must not call
 * @ref bledfu_confirm.
 *
 * @param _name    Name of the registration.
 * @param _handler Function of the type @c enum @c bledfu_answer(const struct bledfu_event_info *).
 */
#define BLEDFU_CALLBACK_DEFINE(_name, _handler)                                                    \
	const STRUCT_SECTION_ITERABLE(bledfu_callback, _name) = {.handler = _handler}

/** Where the service stands. */
enum bledfu_state {
	/** It looks at the flash. */
	BLEDFU_STATE_STARTING,
	/** It waits for a package. */
	BLEDFU_STATE_IDLE,
	/** An image arrives, or has been interrupted and may go on. */
	BLEDFU_STATE_RECEIVING,
	/** An image waits for the reset. */
	BLEDFU_STATE_STAGED,
	/** It cannot run; the log says why. */
	BLEDFU_STATE_FAILED,
};

/** What @ref bledfu_status_get tells. */
struct bledfu_status {
	/** Where the service stands. */
	enum bledfu_state state;
	/** The running image is confirmed. */
	bool confirmed;
	/** Its version, as packages count. */
	uint32_t fw_version;
	/** Bytes of the image in flash. */
	uint32_t received;
	/** Of the image, in bytes. */
	uint32_t size;
	/** The last refusal since the start, as @c refused.code of BLEDFU_EVENT_REFUSED; 0: none. */
	uint32_t refused;
};

/**
 * @brief Tells where the service stands. From any thread of the kernel.
 *
 * @param out Is filled.
 *
 * @retval 0      It is.
 * @retval -EPERM Called from a user thread.
 */
int bledfu_status_get(struct bledfu_status *out);

/**
 * @brief Confirms the running image: it will not be taken back. Call it when the product knows that it works.
 *
 * Until then no update is taken, because the secondary slot holds the image to go back to. From any thread of the kernel but
 * the worker; waits for it. Works in BLEDFU_STATE_FAILED as well: it needs internal flash only.
 *
 * @retval 0          It is confirmed, or was already.
 * @retval -EIO       The flash could not be written.
 * @retval -ETIMEDOUT The worker is busy.
 * @retval -EDEADLK   Called from a callback.
 * @retval -EPERM     Called from a user thread.
 */
int bledfu_confirm(void);

/**
 * @brief Lets peers that have not paired send an update without waiting. For a button, pressed by somebody at the device.
 *
 * Who has not paired may begin twelve uploads and repeat 24 objects, and gets two more of each per hour: more would wear the
 * flash out. After images that were taken back it waits longer. A paired peer and a confirmed update end that as well. From
 * any thread of the kernel; returns at once.
 *
 * @retval 0      Done.
 * @retval -EPERM Called from a user thread.
 */
int bledfu_allow_updates(void);

/**
 * @brief Advertises the service, connectable, and again after every disconnect.
 *
 * Needs CONFIG_BLEDFU_ADVERTISING, and Bluetooth enabled. Begins when the service takes requests (BLEDFU_EVENT_READY), and not
 * at all if it cannot run. If advertising cannot be started again, it is tried until it can, less and less often.
 *
 * @retval 0        It advertises, or will when the service is ready.
 * @retval -EAGAIN  Bluetooth is not enabled.
 * @retval -EALREADY The product advertises already, without FE59: put @ref BLEDFU_AD_UUID into its data instead.
 * @retval -ENOTSUP The service cannot run (BLEDFU_STATE_FAILED); the log says why.
 * @retval -EPERM   Called from a user thread.
 * @return Another negative errno of bt_le_adv_start().
 */
int bledfu_advertising_start(void);

/**
 * @brief Stops what @ref bledfu_advertising_start began. A connected peer stays, and advertising of the product as well.
 *
 * @return 0, or the negative errno of bt_le_adv_stop(); -EPERM from a user thread.
 */
int bledfu_advertising_stop(void);

/**
 * @brief Whether the device was started in update mode, which a phone has asked for (CONFIG_BLEDFU_BUTTONLESS).
 *
 * A product whose threads or services shall not run in update mode asks here before it starts them. From any thread of the
 * kernel, and from SYS_INIT at the level APPLICATION. A user thread that calls this or @ref bledfu_update_mode_run is ended by a kernel oops.
 *
 * @return true in update mode; always false with CONFIG_BLEDFU_BUTTONLESS_NONE.
 */
bool bledfu_is_update_mode(void);

/**
 * @brief In update mode: enables Bluetooth, advertises, serves updates, and does not return. Else it returns at once.
 *
 * The first call of a product's main, with CONFIG_BLEDFU_BUTTONLESS. The device resets when an update is staged, and returns to the
 * application by a reset as well: after CONFIG_BLEDFU_UPDATE_MODE_TIMEOUT_S without a word of a phone, and
 * CONFIG_BLEDFU_UPDATE_MODE_GONE_S after the phone has gone.
 */
void bledfu_update_mode_run(void);

/** What the boot stage did before it started this image. */
enum bledfu_boot_action {
	/** Nothing was asked for. */
	BLEDFU_BOOT_NOTHING = 0,
	/** It installed an image. */
	BLEDFU_BOOT_INSTALLED = 1,
	/** It finished an install that a reset had interrupted. */
	BLEDFU_BOOT_RESUMED = 2,
	/** Slot 0 held no valid image; it was repaired with another one. */
	BLEDFU_BOOT_REPAIRED = 3,
	/** It refused the update in slot 1 and erased it. */
	BLEDFU_BOOT_REJECTED = 4,
	/** It left the update in slot 1 for the next start. */
	BLEDFU_BOOT_SKIPPED = 5,
	/** It erased a request without an image. */
	BLEDFU_BOOT_TRAILER_CLEARED = 6,
	/** It took down a request that can never be carried out, and left the image in slot 1. */
	BLEDFU_BOOT_DROPPED = 8,
};

/** Why the boot stage did not do more. */
enum bledfu_boot_reason {
	/** There was no more to do. */
	BLEDFU_BOOT_FINE = 0,
	/** A flash failed. */
	BLEDFU_BOOT_FLASH = 1,
	/** There was no image where one should be. */
	BLEDFU_BOOT_NO_IMAGE = 2,
	/** An image was too large. */
	BLEDFU_BOOT_TOO_LARGE = 3,
	/** Hash or structure of the image were wrong. */
	BLEDFU_BOOT_DAMAGED = 4,
	/** The signature was missing, wrong, or of an unknown key. */
	BLEDFU_BOOT_SIGNATURE = 5,
	/** Version or security counter were lower than those of the running image. */
	BLEDFU_BOOT_OLDER = 6,
	/** The image is linked for another slot or another processor. */
	BLEDFU_BOOT_WRONG_ADDRESS = 8,
	/** The image in slot 1 is the one that runs. */
	BLEDFU_BOOT_ALREADY_RUNS = 9,
	/** The image to go back to is not the one that ran before, or only the external flash asks to go back. */
	BLEDFU_BOOT_NOT_BEFORE = 10,
	/** The image was taken back three times, and no other was confirmed since. */
	BLEDFU_BOOT_TAKEN_BACK = 11,
	/** The trust area takes no record; no install is begun. */
	BLEDFU_BOOT_TRUST = 12,
};

/** What @ref bledfu_boot_report tells. */
struct bledfu_boot_report {
	/** What was done. */
	enum bledfu_boot_action action;
	/** Why not more. */
	enum bledfu_boot_reason reason;
	/** What was asked for: 1 nothing, 2 test, 3 permanent, 4 the way back; 0 if it is not known. */
	uint8_t swap_type;
	/** Status records that the flash refused. */
	uint8_t failed_records;
	/** From the start of the boot stage to the start of this image, in milliseconds. */
	uint32_t duration_ms;
};

/**
 * @brief Tells what the boot stage did. From any thread of the kernel.
 *
 * @param out Is filled.
 *
 * @retval 0        It is.
 * @retval -ENODATA The boot stage left no report: it is not bledfu's.
 * @retval -EPERM   Called from a user thread.
 */
int bledfu_boot_report(struct bledfu_boot_report *out);

/** @} */

#ifdef __cplusplus
}
#endif

#endif
