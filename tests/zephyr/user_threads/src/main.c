/* SPDX-License-Identifier: Apache-2.0 */
/* The public API from user threads, which must not touch the service's memory: each function says so. */
#include <errno.h>
#include <zephyr/fatal.h>
#include <zephyr/kernel.h>
#include <zephyr/ztest.h>
#include <zephyr/ztest_error_hook.h>

#include <bledfu/bledfu.h>

ZTEST_USER(user_threads, test_every_function_refuses_a_user_thread)
{
	struct bledfu_status status;
	struct bledfu_boot_report report;

	zassert_true(k_is_user_context());
	zassert_equal(bledfu_status_get(&status), -EPERM);
	zassert_equal(bledfu_confirm(), -EPERM);
	zassert_equal(bledfu_allow_updates(), -EPERM);
	zassert_equal(bledfu_advertising_start(), -EPERM);
	zassert_equal(bledfu_advertising_stop(), -EPERM);
	zassert_equal(bledfu_boot_report(&report), -EPERM);
}

ZTEST(user_threads, test_every_function_serves_a_thread_of_the_kernel)
{
	struct bledfu_status status;
	struct bledfu_boot_report report;

	zassert_false(k_is_user_context());
	zassert_ok(bledfu_status_get(&status));
	zassert_ok(bledfu_confirm(), "nothing to confirm");
	zassert_ok(bledfu_allow_updates());
	zassert_equal(bledfu_advertising_start(), -EAGAIN, "Bluetooth is not enabled");
	zassert_equal(bledfu_boot_report(&report), -ENODATA, "there is no boot stage");
	zassert_false(bledfu_is_update_mode());
	bledfu_update_mode_run();
}

#if defined(CONFIG_BLEDFU_UPDATE_MODE)
/* Not by an access to memory that the thread may not touch. */
void ztest_post_fatal_error_hook(unsigned int reason, const struct arch_esf *frame)
{
	zassert_equal(reason, K_ERR_KERNEL_OOPS, "ended by error %u", reason);
}

ZTEST_USER(user_threads, test_a_user_thread_that_asks_for_the_update_mode_is_ended)
{
	ztest_set_fault_valid(true);
	(void)bledfu_is_update_mode();
	zassert_unreachable("it goes on");
}

ZTEST_USER(user_threads, test_a_user_thread_that_would_run_the_update_mode_is_ended)
{
	ztest_set_fault_valid(true);
	bledfu_update_mode_run();
	zassert_unreachable("it goes on");
}
#endif

ZTEST_SUITE(user_threads, NULL, NULL, NULL, NULL, NULL);
