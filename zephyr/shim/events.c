/* SPDX-License-Identifier: Apache-2.0 */
/* What the product is told, and what it may ask (bledfu.h). */
#include <zephyr/kernel.h>
#include <zephyr/sys/iterable_sections.h>

#include <bledfu/bledfu.h>
#include "bledfu_shim.h"

#define CONFIRM_WAIT_MS (2 * CONFIG_BLEDFU_FLASH_TIMEOUT_MS + 1000)

static struct k_spinlock lock;
static struct bledfu_status status;
static K_MUTEX_DEFINE(confirming);
static K_SEM_DEFINE(confirm_done, 0, 1);
static int confirm_result;

static void remember(const struct bledfu_event_info *info)
{
	switch (info->event) {
	case BLEDFU_EVENT_READY:
		status.state = BLEDFU_STATE_IDLE;
		status.confirmed = info->ready.confirmed;
		status.fw_version = info->ready.fw_version;
		break;
	case BLEDFU_EVENT_FAILED:
		status.state = BLEDFU_STATE_FAILED;
		break;
	case BLEDFU_EVENT_STARTED:
		status.received = 0;
		status.size = info->package.size;
		break;
	case BLEDFU_EVENT_PROGRESS:
		status.state = BLEDFU_STATE_RECEIVING;
		status.received = info->progress.received;
		status.size = info->progress.size;
		break;
	case BLEDFU_EVENT_STAGED:
		status.state = BLEDFU_STATE_STAGED;
		break;
	case BLEDFU_EVENT_REFUSED:
		status.refused = info->refused.code;
		break;
	case BLEDFU_EVENT_CONFIRMED:
		status.confirmed = status.confirmed || info->confirmed.done;
		break;
	default:
		break;
	}
}

uint32_t bledfu_shim_event(uint8_t event, uint32_t first, uint32_t second)
{
	struct bledfu_event_info info = {.event = event, .values = {first, second}};
	enum bledfu_answer answer = BLEDFU_GO_ON;

	K_SPINLOCK(&lock) {
		remember(&info);
	}
	if (event == BLEDFU_EVENT_READY || event == BLEDFU_EVENT_FAILED) {
		bledfu_adv_update();
	}
	if (event == BLEDFU_EVENT_CONFIRMED) {
		confirm_result = first != 0 ? 0 : -EIO;
		k_sem_give(&confirm_done);
	}
	STRUCT_SECTION_FOREACH(bledfu_callback, callback) {
		enum bledfu_answer said = callback->handler(&info);

		/* A veto of one counts more than that another only postpones. */
		if (answer != BLEDFU_VETO && said != BLEDFU_GO_ON) {
			answer = said;
		}
	}
	return answer;
}

int bledfu_status_get(struct bledfu_status *out)
{
	if (k_is_user_context()) {
		return -EPERM;
	}
	K_SPINLOCK(&lock) {
		*out = status;
	}
	return 0;
}

enum bledfu_state bledfu_state(void)
{
	enum bledfu_state state = BLEDFU_STATE_STARTING;

	K_SPINLOCK(&lock) {
		state = status.state;
	}
	return state;
}

int bledfu_allow_updates(void)
{
	if (k_is_user_context()) {
		return -EPERM;
	}
	bledfu_rs_allow_updates();
	return 0;
}

int bledfu_confirm(void)
{
	int result = -ETIMEDOUT;

	if (k_is_user_context()) {
		return -EPERM;
	}
	if (k_current_get() == bledfu_worker) {
		return -EDEADLK;
	}
	if (k_mutex_lock(&confirming, K_MSEC(CONFIRM_WAIT_MS)) != 0) {
		return result;
	}
	k_sem_reset(&confirm_done);
	bledfu_rs_confirm();
	if (k_sem_take(&confirm_done, K_MSEC(CONFIRM_WAIT_MS)) == 0) {
		result = confirm_result;
	}
	k_mutex_unlock(&confirming);
	return result;
}
