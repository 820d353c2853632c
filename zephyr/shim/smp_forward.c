/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMP requests that bledfu does not serve, for Zephyr's MCUmgr: a transport of our own, without a link. MCUmgr answers on its
 * own thread; its answers wait here for the worker, which alone sends. An answer for a peer that has gone is dropped.
 */
#include <string.h>
#include <zephyr/init.h>
#include <zephyr/kernel.h>
#include <zephyr/mgmt/mcumgr/mgmt/mgmt.h>
#include <zephyr/mgmt/mcumgr/smp/smp.h>
#include <zephyr/mgmt/mcumgr/transport/smp.h>
#include <mgmt/mcumgr/transport/smp_internal.h>

#include "bledfu_shim.h"
#include "compat.h"

/* In the user data of a request, and copied to its answer: whose it is. */
BUILD_ASSERT(CONFIG_MCUMGR_TRANSPORT_NETBUF_USER_DATA_SIZE >= sizeof(uint32_t),
	     "CONFIG_MCUMGR_TRANSPORT_NETBUF_USER_DATA_SIZE must be 4 at least");

static K_FIFO_DEFINE(answers);

static int output(struct net_buf *answer)
{
	k_fifo_put(&answers, answer);
	bledfu_shim_wake();
	return 0;
}

static uint16_t get_mtu(const struct net_buf *request)
{
	/* Answers are cut into notifications, so what fits the buffer fits the link. */
	return CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE;
}

static struct smp_transport transport = {
	.functions = {.output = output, .get_mtu = get_mtu},
};

int32_t bledfu_shim_smp_forward(const uint8_t *bytes, uint32_t length)
{
	uint32_t session = bledfu_peer_session();
	struct net_buf *request;

	if (length > CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE) {
		return BLEDFU_SHIM_TOO_LONG;
	}
	request = smp_packet_alloc();
	if (request == NULL) {
		return BLEDFU_SHIM_NO_BUFFER;
	}
	net_buf_add_mem(request, bytes, length);
	memcpy(net_buf_user_data(request), &session, sizeof(session));
	smp_rx_req(&transport, request);
	return 0;
}

uint32_t bledfu_shim_smp_answer(const uint8_t **bytes)
{
	static struct net_buf *current;
	uint32_t session;

	if (current != NULL) {
		smp_packet_free(current);
	}
	while ((current = k_fifo_get(&answers, K_NO_WAIT)) != NULL) {
		memcpy(&session, net_buf_user_data(current), sizeof(session));
		if (session == bledfu_peer_session() && current->len != 0) {
			*bytes = current->data;
			return current->len;
		}
		smp_packet_free(current);
	}
	return 0;
}

static int init(void)
{
	return smp_transport_init(&transport);
}

SYS_INIT(init, APPLICATION, CONFIG_KERNEL_INIT_PRIORITY_DEFAULT);
