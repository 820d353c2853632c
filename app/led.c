/* SPDX-License-Identifier: Apache-2.0 */
/* Shows the state of the service on the board's first LED, and its events in the log. */
#include <zephyr/drivers/gpio.h>
#include <zephyr/init.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>

#include <bledfu/bledfu.h>

LOG_MODULE_REGISTER(app, LOG_LEVEL_INF);

static enum bledfu_answer on_event(const struct bledfu_event_info *info)
{
	switch (info->event) {
	case BLEDFU_EVENT_STARTED:
		LOG_INF("update to version %u: %u bytes", info->package.fw_version, info->package.size);
		break;
	case BLEDFU_EVENT_PROGRESS:
		LOG_INF("%u of %u bytes", info->progress.received, info->progress.size);
		break;
	case BLEDFU_EVENT_REFUSED:
		LOG_WRN("refused: 0x%06x", info->refused.code);
		break;
	default:
		break;
	}
	return BLEDFU_GO_ON;
}

BLEDFU_CALLBACK_DEFINE(app_events, on_event);

#if DT_NODE_EXISTS(DT_ALIAS(led0))
static const struct gpio_dt_spec led = GPIO_DT_SPEC_GET(DT_ALIAS(led0), gpios);

/* Time between two changes of the LED in each state, in ms. */
static const uint16_t blink_ms[] = {
	[BLEDFU_STATE_STARTING] = 50, [BLEDFU_STATE_IDLE] = 1000,   [BLEDFU_STATE_RECEIVING] = 100,
	[BLEDFU_STATE_STAGED] = 30,   [BLEDFU_STATE_FAILED] = 3000,
};

static void blink(struct k_work *work)
{
	struct bledfu_status status;

	bledfu_status_get(&status);
	(void)gpio_pin_toggle_dt(&led);
	k_work_reschedule(k_work_delayable_from_work(work), K_MSEC(blink_ms[status.state]));
}

static K_WORK_DELAYABLE_DEFINE(blinking, blink);

static int led_init(void)
{
	if (gpio_is_ready_dt(&led) && gpio_pin_configure_dt(&led, GPIO_OUTPUT_INACTIVE) == 0) {
		k_work_reschedule(&blinking, K_NO_WAIT);
	}
	return 0;
}

SYS_INIT(led_init, APPLICATION, CONFIG_APPLICATION_INIT_PRIORITY);
#endif
