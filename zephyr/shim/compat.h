/* SPDX-License-Identifier: Apache-2.0 */
/* Differences between the Zephyr releases that are supported (3.7 LTS, 4.2; 4.4 is prepared). They belong only here. */
#ifndef BLEDFU_COMPAT_H_
#define BLEDFU_COMPAT_H_

#include <zephyr/bluetooth/bluetooth.h>
#include <zephyr/bluetooth/gatt.h>
#include <zephyr/devicetree.h>
#include <zephyr/storage/flash_map.h>

/* During 3.7, generated headers moved into zephyr/. */
#if __has_include(<zephyr/version.h>)
#include <zephyr/version.h>
#else
#include <version.h>
#endif

/* In 4.0, network buffers moved. */
#if __has_include(<zephyr/net_buf.h>)
#include <zephyr/net_buf.h>
#else
#include <zephyr/net/buf.h>
#endif

#define BLEDFU_AT_LEAST(major, minor) (KERNEL_VERSION_NUMBER >= (((major) << 16) | ((minor) << 8)))

/* Since 4.0 a connectable advertiser does not restart by itself, and the option has another name. */
#if BLEDFU_AT_LEAST(4, 0)
#define BLEDFU_ADV_CONNECTABLE BT_LE_ADV_OPT_CONN
#else
#define BLEDFU_ADV_CONNECTABLE (BT_LE_ADV_OPT_CONNECTABLE | BT_LE_ADV_OPT_ONE_TIME)
#endif

/* Since 4.1 there is a macro for a client configuration with a write callback. */
#ifdef BT_GATT_CCC_WITH_WRITE_CB
#define BLEDFU_CCC(write, perm) BT_GATT_CCC_WITH_WRITE_CB(NULL, write, perm)
#else
#define BLEDFU_CCC(write, perm)                                                                    \
	BT_GATT_CCC_MANAGED(((struct _bt_gatt_ccc[]){BT_GATT_CCC_INITIALIZER(NULL, write, NULL)}), \
			    perm)
#endif

/* Since 4.4 partitions need not be children of a fixed-partitions node. */
#ifdef PARTITION_NODE_ID
#define BLEDFU_PARTITION_ID(node) PARTITION_NODE_ID(node)
#else
#define BLEDFU_PARTITION_ID(node) DT_FIXED_PARTITION_ID(node)
#endif

/* Since 4.4 the interval of a link is in microseconds; before, in units of 1.25 ms. */
#if BLEDFU_AT_LEAST(4, 4)
#define BLEDFU_INTERVAL_US(info) ((info).le.interval_us)
#else
#define BLEDFU_INTERVAL_US(info) ((info).le.interval * 1250)
#endif

#endif
