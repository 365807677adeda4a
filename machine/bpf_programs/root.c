/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The root of our programs on a NIC: the kill switch, then the chain. */
#include "xdp.h"

MAP_SLOTS;
MAP_STATS;

enum { PULSE_BEAT_NS, PULSE_LIMIT_NS, PULSE_TICK, PULSE_STALE, PULSES };
struct map SEC("maps") rh_pulse = {ARRAY, 4, 8, PULSES, 0};

INLINE u64 *pulse(u32 at)
{
	return map_lookup(&rh_pulse, &at);
}

/* The clock is read once a tick, and not for every packet: at 10 million a second it would cost more than the rest. */
INLINE u64 is_stale(void)
{
	u64 *beat = pulse(PULSE_BEAT_NS), *limit = pulse(PULSE_LIMIT_NS), *last = pulse(PULSE_TICK);
	u64 *stale = pulse(PULSE_STALE), tick = jiffies64();

	if (!beat || !limit || !last || !stale)
		return 1;
	if (*last != tick) {
		*stale = boot_ns() - *beat > *limit;
		*last = tick;
	}
	return *stale;
}

SEC("xdp/rh_root")
int rh_root(struct xdp_md *ctx)
{
	if (is_stale()) {
		count(ctx, STAT_STALE);
		return XDP_PASS;
	}
	tail_call(ctx, &rh_slots, COUNT);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
