/* SPDX-License-Identifier: Apache-2.0 */
/* What differs between the Zephyr releases this project supports (3.7 LTS, 4.2; 4.4 prepared). Nothing else may. */
#ifndef BLEDFU_COMPAT_H_
#define BLEDFU_COMPAT_H_

#include <zephyr/bluetooth/bluetooth.h>
#include <zephyr/bluetooth/gatt.h>
#include <zephyr/devicetree.h>
#include <zephyr/storage/flash_map.h>

/* Generated headers moved into zephyr/ during 3.7. */
#if __has_include(<zephyr/version.h>)
#include <zephyr/version.h>
#else
#include <version.h>
#endif

#define BLEDFU_AT_LEAST(major, minor) (KERNEL_VERSION_NUMBER >= (((major) << 16) | ((minor) << 8)))

/* 4.0: a connectable advertiser no longer starts again by itself, and says so by another name. */
#if BLEDFU_AT_LEAST(4, 0)
#define BLEDFU_ADV_CONNECTABLE BT_LE_ADV_OPT_CONN
#else
#define BLEDFU_ADV_CONNECTABLE (BT_LE_ADV_OPT_CONNECTABLE | BT_LE_ADV_OPT_ONE_TIME)
#endif

/* 4.1: a client configuration with a write callback has a macro. */
#ifdef BT_GATT_CCC_WITH_WRITE_CB
#define BLEDFU_CCC(write, perm) BT_GATT_CCC_WITH_WRITE_CB(NULL, write, perm)
#else
#define BLEDFU_CCC(write, perm)                                                                    \
	BT_GATT_CCC_MANAGED(((struct _bt_gatt_ccc[]){BT_GATT_CCC_INITIALIZER(NULL, write, NULL)}), \
			    perm)
#endif

/* 4.4: partitions may be other nodes than children of fixed-partitions. */
#ifdef PARTITION_NODE_ID
#define BLEDFU_PARTITION_ID(node) PARTITION_NODE_ID(node)
#else
#define BLEDFU_PARTITION_ID(node) DT_FIXED_PARTITION_ID(node)
#endif

/* 4.4: the interval of a link is in microseconds, no longer in units of 1.25 ms. */
#if BLEDFU_AT_LEAST(4, 4)
#define BLEDFU_INTERVAL_US(info) ((info).le.interval_us)
#else
#define BLEDFU_INTERVAL_US(info) ((info).le.interval * 1250)
#endif

#endif
