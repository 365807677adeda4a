/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* A token bucket per source (IPv6: per /64), kept as the time at which it will be full again (GCRA).
 * No lock: two CPUs that meet at one source may let a packet more through. */
#include "xdp.h"

MAP_SLOTS;
MAP_STATS;
MAP_CONF;
MAP_KEEP;

struct source {
	u32 address[4];
};

struct map SEC("maps") rh_buckets = {LRU_HASH, sizeof(struct source), 8, 65536, 0};

SEC("xdp/rh_ratelimit")
int rh_ratelimit(struct xdp_md *ctx)
{
	u64 now = boot_ns(), cost = setting(CONF_RATE_COST_NS), *full, begun;
	struct source source = {};
	struct seen seen;

	if (!look(ctx, &seen))
		NEXT(ctx, RATELIMIT);
	__builtin_memcpy(source.address, seen.flow.source, 16);
	if (seen.family == 6)
		source.address[2] = source.address[3] = 0;
	full = map_lookup(&rh_buckets, &source);
	if (!full) {
		begun = now + cost;
		map_update(&rh_buckets, &source, &begun, 0);
	} else if (*full <= now) {
		*full = now + cost;
	} else if (*full - now > setting(CONF_RATE_BURST_NS)) {
		if (!kept(&seen)) {
			count(ctx, STAT_RATE_DROPPED);
			return XDP_DROP;
		}
	} else {
		__sync_fetch_and_add(full, cost);
	}
	count(ctx, STAT_RATE_PASSED);
	NEXT(ctx, RATELIMIT);
}

char _license[] SEC("license") = "Dual MIT/GPL";
