/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The root of our programs on a NIC: the kill switch, then the chain. */
#include "xdp.h"

MAP_SLOTS;
MAP_STATS;

enum { PULSE_BEAT_NS, PULSE_LIMIT_NS, PULSES };
struct map SEC("maps") rh_pulse = {ARRAY, 4, 8, PULSES, 0};

SEC("xdp/rh_root")
int rh_root(struct xdp_md *ctx)
{
	u32 at = PULSE_BEAT_NS;
	u64 *beat = map_lookup(&rh_pulse, &at), *limit;

	at = PULSE_LIMIT_NS;
	limit = map_lookup(&rh_pulse, &at);
	if (!beat || !limit || boot_ns() - *beat > *limit) {
		count(ctx, STAT_STALE);
		return XDP_PASS;
	}
	tail_call(ctx, &rh_slots, COUNT);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
