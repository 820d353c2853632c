/* SPDX-License-Identifier: Apache-2.0 */
/* The public API from user threads, which must not touch the service's memory: each function says so, and none faults. */
#include <errno.h>
#include <zephyr/kernel.h>
#include <zephyr/ztest.h>

#include <bledfu/bledfu.h>

ZTEST_USER(user_threads, test_are_refused_by_every_function)
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

ZTEST(user_threads, test_of_the_kernel_are_served)
{
	struct bledfu_status status;

	zassert_false(k_is_user_context());
	zassert_ok(bledfu_status_get(&status));
	zassert_ok(bledfu_allow_updates());
	zassert_equal(bledfu_advertising_start(), -EAGAIN, "Bluetooth is not enabled");
}

ZTEST_SUITE(user_threads, NULL, NULL, NULL, NULL, NULL);
