/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Allow or deny by the source's longest prefix, protocol and destination port. */
#include "xdp.h"

MAP_SLOTS;
MAP_STATS;
MAP_CONF;
MAP_KEEP;

enum { ALLOW = 1, DENY = 2, RULES = 16 };

struct rule {
	u8 action; /* 0: none, and none after it */
	u8 protocol; /* 0: any */
	u8 inherited; /* of a shorter prefix */
	u8 pad;
	u16 low, high; /* of the host's byte order; 0 and 65535: any, and what has no ports */
};

struct rules {
	struct rule rule[RULES]; /* the narrowest first */
};

struct prefix4 {
	u32 length, address;
};

struct prefix6 {
	u32 length, address[4];
};

/* NO_PREALLOC, as tries need. */
struct map SEC("maps") rh_acl4 = {LPM_TRIE, sizeof(struct prefix4), sizeof(struct rules), 65536, 1};
struct map SEC("maps") rh_acl6 = {LPM_TRIE, sizeof(struct prefix6), sizeof(struct rules), 65536, 1};

/* 1 for equal, else 0; 1 for a < b, else 0: without a branch, of which the verifier would follow both ways each time. */
#define SAME(a, b) ((u32)((((u64)(a) ^ (b)) - 1) >> 63))
#define LESS(a, b) ((u32)(((u64)(a) - (b)) >> 63))

INLINE u32 verdict(struct seen *seen)
{
	u32 port = SWAP16(seen->flow.destination_port), protocol = (u8)seen->flow.protocol, found = 0;
	struct rules *rules;

	if (seen->later)
		port = 65536; /* in no range but that of all */
	if (seen->family == 4) {
		struct prefix4 prefix = {.length = 32, .address = seen->flow.source[3]};

		rules = map_lookup(&rh_acl4, &prefix);
	} else {
		struct prefix6 prefix = {.length = 128};

		__builtin_memcpy(prefix.address, seen->flow.source, 16);
		rules = map_lookup(&rh_acl6, &prefix);
	}
	if (rules) {
#pragma unroll
		for (int at = 0; at < RULES; at++) {
			struct rule rule = rules->rule[at];

			if (found || !rule.action)
				break;
			u32 high = rule.high + SAME(rule.low + (65535 - rule.high), 0);
			u32 hit = (SAME(rule.protocol, 0) | SAME(rule.protocol, protocol)) &
				  (LESS(port, rule.low) ^ 1) & (LESS(high, port) ^ 1);

			found = rule.action * hit;
			asm volatile("" : "+r"(found));
		}
	}
	return found ? found : setting(CONF_ACL_DEFAULT);
}

SEC("xdp/rh_acl")
int rh_acl_prog(struct xdp_md *ctx)
{
	struct seen seen;

	if (!look(ctx, &seen))
		NEXT(ctx, ACL);
	if (verdict(&seen) != DENY) {
		count(ctx, STAT_ACL_ALLOWED);
		NEXT(ctx, ACL);
	}
	if (kept(&seen)) {
		count(ctx, STAT_ACL_KEPT);
		NEXT(ctx, ACL);
	}
	count(ctx, STAT_ACL_DENIED);
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual MIT/GPL";
