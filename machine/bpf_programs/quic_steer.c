/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* QUIC (RFC 9000) to cores by connection id, so that a client that moves to another address stays with its worker.
 * A server's own ids carry its worker's number in one byte; a client's first packet has an id of its choice, by whose
 * hash it is spread. To CPUs (cpumap), or to the AF_XDP socket of the receive queue. */
#include "xdp.h"

MAP_SLOTS;
MAP_STATS;
MAP_CONF;

enum { TO_CPU, TO_SOCKET };
enum { LONG = 0x80, LONG_TYPE = 0x30, FIRST_HANDSHAKE = 0x20 }; /* types 0 and 1: Initial, 0-RTT */

struct map SEC("maps") rh_workers = {ARRAY, 4, 4, 256, 0};
struct map SEC("maps") rh_cpus = {CPUMAP, 4, 4, 64, 0};
struct map SEC("maps") rh_sockets = {XSKMAP, 4, 4, 256, 0};

INLINE u32 hash(const u8 *id)
{
	u32 value = 2166136261u; /* FNV-1a */

#pragma unroll
	for (int at = 0; at < 8; at++)
		value = (value ^ id[at]) * 16777619u;
	return value ^ value >> 15;
}

/* The worker's number before the modulus, or -1 for what is too short. */
INLINE long worker(u8 *quic, void *end)
{
	u64 length = setting(CONF_QUIC_CID_LEN), byte = setting(CONF_QUIC_CID_BYTE);
	u8 *id = quic + 1;

	if (byte > 19 || (void *)(quic + 26) > end) /* the shortest sound datagram is longer */
		return -1;
	if (quic[0] & LONG) {
		length = quic[5];
		id = quic + 6;
		if (length < 8 && (quic[0] & LONG_TYPE) < FIRST_HANDSHAKE)
			return -1; /* RFC 9000, 7.2: at least 8 bytes */
		if ((quic[0] & LONG_TYPE) < FIRST_HANDSHAKE)
			return hash(id);
	}
	id += byte;
	if (byte >= length || (void *)(id + 1) > end)
		return -1;
	return *id;
}

SEC("xdp/rh_quic_steer")
int rh_quic_steer(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct seen seen;
	u32 at, *cpu;
	u64 workers;
	long number;

	if (!look(ctx, &seen) || seen.flow.protocol != IP_UDP || !seen.l4)
		NEXT(ctx, QUIC_STEER);
	if (SWAP16(seen.flow.destination_port) != setting(CONF_QUIC_PORT))
		NEXT(ctx, QUIC_STEER);
	if (setting(CONF_QUIC_TO) == TO_SOCKET) {
		at = ctx->rx_queue_index;
		if (!map_lookup(&rh_sockets, &at)) {
			count(ctx, STAT_QUIC_PASSED);
			NEXT(ctx, QUIC_STEER);
		}
		count(ctx, STAT_QUIC_SOCKET);
		return redirect_map(&rh_sockets, at, XDP_PASS);
	}
	number = worker((u8 *)seen.l4 + 8, end);
	workers = setting(CONF_QUIC_CPUS);
	if (number < 0 || !workers) {
		count(ctx, STAT_QUIC_PASSED);
		NEXT(ctx, QUIC_STEER);
	}
	at = (u64)number % workers;
	cpu = map_lookup(&rh_workers, &at);
	if (!cpu)
		NEXT(ctx, QUIC_STEER);
	count(ctx, STAT_QUIC_CPU);
	return redirect_map(&rh_cpus, *cpu, XDP_PASS);
}

char _license[] SEC("license") = "Dual MIT/GPL";
