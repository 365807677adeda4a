/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What all programs share: the kernel's types and helpers, the maps, and how a packet is read. No other header is
 * needed, so the same compiler makes the same code everywhere. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define SWAP16(x) __builtin_bswap16(x)

enum { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };

struct xdp_md {
	u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const tail_call)(void *ctx, void *map, u32 slot) = (void *)12;
static long (*const redirect_map)(void *map, u64 key, u64 flags) = (void *)51;
static u64 (*const jiffies64)(void) = (void *)118;
static u64 (*const boot_ns)(void) = (void *)125;

/* -- maps: one of each name, shared by the programs that stand on one NIC -- */

enum { HASH = 1, ARRAY = 2, PROG_ARRAY = 3, PERCPU_ARRAY = 6, LRU_HASH = 9, LPM_TRIE = 11, CPUMAP = 16, XSKMAP = 17 };

struct map {
	u32 type, key, value, entries, flags;
};

enum slot { COUNT, ACL, RATELIMIT, QUIC_STEER, SLOTS };

/* The program of a slot, or the next one after it: a chain is slot 0, and from each program its own slot + 1. */
#define MAP_SLOTS struct map SEC("maps") rh_slots = {PROG_ARRAY, 4, 4, SLOTS + 1, 0}

struct stat {
	u64 packets, bytes;
};

/* Names in machine/xdp_values.py, in this order. */
enum stat_at {
	STAT_TCP, STAT_UDP, STAT_ICMP, STAT_ICMP6, STAT_IGMP, STAT_GRE, STAT_ESP, STAT_SCTP, STAT_OTHER_IP, STAT_ARP,
	STAT_LLDP, STAT_OTHER,
	STAT_STALE,
	STAT_ACL_ALLOWED, STAT_ACL_DENIED, STAT_ACL_KEPT,
	STAT_RATE_PASSED, STAT_RATE_DROPPED,
	STAT_QUIC_CPU, STAT_QUIC_SOCKET, STAT_QUIC_PASSED,
	STATS = 32
};
#define MAP_STATS struct map SEC("maps") rh_stats = {PERCPU_ARRAY, 4, sizeof(struct stat), STATS, 0}

/* Settings as numbers, in the order of machine/xdp_values.py. */
enum conf_at {
	CONF_ACL_DEFAULT, CONF_RATE_COST_NS, CONF_RATE_BURST_NS, CONF_RATE_PPS, CONF_RATE_BURST,
	CONF_QUIC_PORT, CONF_QUIC_CID_LEN, CONF_QUIC_CID_BYTE, CONF_QUIC_CPUS, CONF_QUIC_TO,
	CONFS = 16
};
#define MAP_CONF struct map SEC("maps") rh_conf = {ARRAY, 4, 8, CONFS, 0}

/* What carries the management of this host: the ephemeral port of the two is 0. */
struct flow {
	u32 source[4], destination[4];
	u16 source_port, destination_port; /* of the wire's byte order */
	u32 protocol;
};
#define MAP_KEEP struct map SEC("maps") rh_keep = {HASH, sizeof(struct flow), 4, 1024, 0}

extern struct map rh_slots, rh_stats, rh_conf, rh_keep;

INLINE void count(struct xdp_md *ctx, u32 at)
{
	struct stat *stat = map_lookup(&rh_stats, &at);

	if (stat) {
		stat->packets += 1;
		stat->bytes += ctx->data_end - ctx->data;
	}
}

INLINE u64 setting(u32 at)
{
	u64 *value = map_lookup(&rh_conf, &at);

	return value ? *value : 0;
}

/* The rest of the chain; a packet that nobody minds goes to the stack. */
#define NEXT(ctx, slot) \
	do { \
		tail_call(ctx, &rh_slots, (slot) + 1); \
		return XDP_PASS; \
	} while (0)

/* -- packets -- */

enum { ETH_IPV4 = 0x0800, ETH_ARP = 0x0806, ETH_IPV6 = 0x86dd, ETH_LLDP = 0x88cc, ETH_VLAN = 0x8100, ETH_QINQ = 0x88a8 };
enum { IP_HOPOPTS = 0, IP_ICMP = 1, IP_IGMP = 2, IP_TCP = 6, IP_UDP = 17, IP_ROUTING = 43, IP_FRAGMENT = 44, IP_GRE = 47,
       IP_ESP = 50, IP_ICMP6 = 58, IP_DSTOPTS = 60, IP_SCTP = 132 };

struct eth {
	u8 destination[6], source[6];
	u16 type;
} __attribute__((packed));

struct vlan {
	u16 tag, type;
};

struct ipv4 {
	u8 version_ihl, tos;
	u16 length, id, fragment;
	u8 ttl, protocol;
	u16 sum;
	u32 source, destination;
};

struct ipv6 {
	u32 version_class_label;
	u16 length;
	u8 next, hops;
	u32 source[4], destination[4];
};

struct extension {
	u8 next, length;
	u16 fragment;
	u32 id;
};

struct ports {
	u16 source, destination;
};

/* What a program asks of a packet. IPv4 addresses stand in IPv6 ones (::ffff:a.b.c.d); family 0: no IP. */
struct seen {
	struct flow flow; /* ports 0 where it has none, or in a later fragment */
	void *l4; /* 0: cut, or a later fragment */
	u16 type;
	u8 family, later, first; /* first: the byte at l4 */
};

INLINE void *extensions(void *at, void *end, u8 *next, u8 *later)
{
#pragma unroll
	for (int hop = 0; hop < 4; hop++) {
		struct extension *header = at;

		if (*next != IP_HOPOPTS && *next != IP_ROUTING && *next != IP_DSTOPTS && *next != IP_FRAGMENT)
			return at;
		if ((void *)(header + 1) > end)
			return 0;
		if (*next == IP_FRAGMENT) {
			*later |= (header->fragment & SWAP16(0xfff8)) != 0;
			at = header + 1;
		} else {
			at = (u8 *)at + (header->length + 1) * 8;
		}
		*next = header->next;
	}
	return at;
}

/* False for what is cut or no IP; `seen->type` is right in any case where there is one. */
INLINE int look(struct xdp_md *ctx, struct seen *seen)
{
	void *at = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = at;
	struct ports *ports;
	u8 protocol;

	__builtin_memset(seen, 0, sizeof(*seen));
	if ((void *)(eth + 1) > end)
		return 0;
	seen->type = SWAP16(eth->type);
	at = eth + 1;
#pragma unroll
	for (int tags = 0; tags < 2; tags++) {
		struct vlan *vlan = at;

		if (seen->type != ETH_VLAN && seen->type != ETH_QINQ)
			break;
		if ((void *)(vlan + 1) > end)
			return 0;
		seen->type = SWAP16(vlan->type);
		at = vlan + 1;
	}
	if (seen->type == ETH_IPV4) {
		struct ipv4 *ip = at;

		if ((void *)(ip + 1) > end || (ip->version_ihl & 15) < 5)
			return 0;
		seen->flow.source[2] = seen->flow.destination[2] = 0xffff0000;
		seen->flow.source[3] = ip->source;
		seen->flow.destination[3] = ip->destination;
		protocol = ip->protocol;
		seen->later = (ip->fragment & SWAP16(0x1fff)) != 0;
		seen->family = 4;
		at = (u8 *)at + (ip->version_ihl & 15) * 4;
	} else if (seen->type == ETH_IPV6) {
		struct ipv6 *ip = at;

		if ((void *)(ip + 1) > end)
			return 0;
		__builtin_memcpy(seen->flow.source, ip->source, 16);
		__builtin_memcpy(seen->flow.destination, ip->destination, 16);
		protocol = ip->next;
		seen->family = 6;
		at = extensions(ip + 1, end, &protocol, &seen->later);
	} else {
		return 0;
	}
	seen->flow.protocol = protocol;
	ports = at;
	if (!at || seen->later || (void *)(ports + 1) > end)
		return 1;
	seen->l4 = at;
	seen->first = *(u8 *)at;
	if (protocol == IP_TCP || protocol == IP_UDP || protocol == IP_SCTP) {
		seen->flow.source_port = ports->source;
		seen->flow.destination_port = ports->destination;
	}
	return 1;
}

/* True for what this host is managed by: what the agent listed, and what keeps addresses and neighbours alive. */
INLINE int kept(struct seen *seen)
{
	struct flow flow = seen->flow;

	if (flow.protocol == IP_UDP && flow.source_port == SWAP16(67) && flow.destination_port == SWAP16(68))
		return 1;
	if (flow.protocol == IP_UDP && flow.source_port == SWAP16(547) && flow.destination_port == SWAP16(546))
		return 1;
	if (flow.protocol == IP_ICMP6 && seen->first >= 133 && seen->first <= 137) /* routers and neighbours */
		return 1;
	if (flow.protocol != IP_TCP)
		return 0;
	flow.destination_port = 0;
	if (map_lookup(&rh_keep, &flow))
		return 1;
	flow.destination_port = seen->flow.destination_port;
	flow.source_port = 0;
	return map_lookup(&rh_keep, &flow) != 0;
}
