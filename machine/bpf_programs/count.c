/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Packets and bytes per protocol. */
#include "xdp.h"

MAP_SLOTS;
MAP_STATS;

INLINE u32 by_protocol(u32 protocol)
{
	switch (protocol) {
	case IP_TCP: return STAT_TCP;
	case IP_UDP: return STAT_UDP;
	case IP_ICMP: return STAT_ICMP;
	case IP_ICMP6: return STAT_ICMP6;
	case IP_IGMP: return STAT_IGMP;
	case IP_GRE: return STAT_GRE;
	case IP_ESP: return STAT_ESP;
	case IP_SCTP: return STAT_SCTP;
	}
	return STAT_OTHER_IP;
}

SEC("xdp/rh_count")
int rh_count(struct xdp_md *ctx)
{
	struct seen seen;

	if (look(ctx, &seen))
		count(ctx, by_protocol(seen.flow.protocol));
	else
		count(ctx, seen.type == ETH_ARP ? STAT_ARP : seen.type == ETH_LLDP ? STAT_LLDP : STAT_OTHER);
	NEXT(ctx, COUNT);
}

char _license[] SEC("license") = "Dual MIT/GPL";
