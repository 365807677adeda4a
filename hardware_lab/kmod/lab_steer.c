// SPDX-License-Identifier: GPL-2.0
/*
 * lab_steer: a network interface whose driver has all that ethtool knows about receiving: RSS with key, symmetry,
 * fields and contexts, flow rules, coalescing by queue, channels. It remembers what it is told and moves no packet.
 *
 *  modprobe lab_steer		makes steer0, with eight queues, in the first network namespace
 *
 * The kernel's own checks are in front of it, which is what it is for: the emulated NICs have no flow rules.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/platform_device.h>
#include <linux/rtnetlink.h>

#define QUEUES 8
#define BUCKETS 128
#define KEY 40
#define RULES 64
#define FLOWS 0x20

struct rule {
	struct ethtool_rx_flow_spec spec;
	u32 context;
	bool used;
};

struct steer {
	u32 queues;
	u32 table[BUCKETS];
	u8 key[KEY];
	u8 symmetry;
	u64 fields[FLOWS];
	struct rule rules[RULES];
	struct ethtool_coalesce coalesce[QUEUES];
};

static struct platform_device *place;
static struct net_device *nic;

static void get_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	strscpy(info->driver, KBUILD_MODNAME, sizeof(info->driver));
}

static void get_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	struct steer *steer = netdev_priv(dev);

	channels->max_combined = QUEUES;
	channels->combined_count = steer->queues;
}

static int set_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	struct steer *steer = netdev_priv(dev);
	int i, err;

	err = netif_set_real_num_queues(dev, channels->combined_count, channels->combined_count);
	if (err)
		return err;
	steer->queues = channels->combined_count;
	if (!netif_is_rxfh_configured(dev))
		for (i = 0; i < BUCKETS; i++)
			steer->table[i] = ethtool_rxfh_indir_default(i, steer->queues);
	return 0;
}

static u32 get_key_size(struct net_device *dev)
{
	return KEY;
}

static u32 get_indir_size(struct net_device *dev)
{
	return BUCKETS;
}

static int get_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh)
{
	struct steer *steer = netdev_priv(dev);

	rxfh->hfunc = ETH_RSS_HASH_TOP;
	rxfh->input_xfrm = steer->symmetry;
	if (rxfh->indir)
		memcpy(rxfh->indir, steer->table, sizeof(steer->table));
	if (rxfh->key)
		memcpy(rxfh->key, steer->key, KEY);
	return 0;
}

static int set_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh, struct netlink_ext_ack *extack)
{
	struct steer *steer = netdev_priv(dev);

	if (rxfh->hfunc != ETH_RSS_HASH_NO_CHANGE && rxfh->hfunc != ETH_RSS_HASH_TOP)
		return -EOPNOTSUPP;
	if (rxfh->input_xfrm != RXH_XFRM_NO_CHANGE)
		steer->symmetry = rxfh->input_xfrm;
	if (rxfh->indir)
		memcpy(steer->table, rxfh->indir, sizeof(steer->table));
	if (rxfh->key)
		memcpy(steer->key, rxfh->key, KEY);
	return 0;
}

static int create_context(struct net_device *dev, struct ethtool_rxfh_context *ctx,
			  const struct ethtool_rxfh_param *rxfh, struct netlink_ext_ack *extack)
{
	struct steer *steer = netdev_priv(dev);

	if (!rxfh->indir)
		memcpy(ethtool_rxfh_context_indir(ctx), steer->table, sizeof(steer->table));
	if (!rxfh->key)
		memcpy(ethtool_rxfh_context_key(ctx), steer->key, KEY);
	ctx->hfunc = ETH_RSS_HASH_TOP;
	return 0;
}

static int modify_context(struct net_device *dev, struct ethtool_rxfh_context *ctx,
			  const struct ethtool_rxfh_param *rxfh, struct netlink_ext_ack *extack)
{
	return 0;
}

static int remove_context(struct net_device *dev, struct ethtool_rxfh_context *ctx, u32 context,
			  struct netlink_ext_ack *extack)
{
	struct steer *steer = netdev_priv(dev);
	int i;

	for (i = 0; i < RULES; i++)
		if (steer->rules[i].used && steer->rules[i].spec.flow_type & FLOW_RSS &&
		    steer->rules[i].context == context)
			return -EBUSY;
	return 0;
}

static int all_rules(struct steer *steer, struct ethtool_rxnfc *info, u32 *places)
{
	u32 found = 0, i;

	for (i = 0; i < RULES; i++) {
		if (!steer->rules[i].used)
			continue;
		if (places) {
			if (found == info->rule_cnt)
				return -EMSGSIZE;
			places[found] = i;
		}
		found++;
	}
	info->rule_cnt = found;
	info->data = RULES;
	return 0;
}

static int get_rule(struct steer *steer, struct ethtool_rxnfc *info)
{
	u32 at = info->fs.location;

	if (at >= RULES || !steer->rules[at].used)
		return -ENOENT;
	info->fs = steer->rules[at].spec;
	if (info->fs.flow_type & FLOW_RSS)
		info->rss_context = steer->rules[at].context;
	return 0;
}

static int get_rxnfc(struct net_device *dev, struct ethtool_rxnfc *info, u32 *places)
{
	struct steer *steer = netdev_priv(dev);

	switch (info->cmd) {
	case ETHTOOL_GRXRINGS:
		info->data = steer->queues;
		return 0;
	case ETHTOOL_GRXFH:
		if (info->flow_type >= FLOWS)
			return -EINVAL;
		info->data = steer->fields[info->flow_type];
		return 0;
	case ETHTOOL_GRXCLSRLCNT:
		return all_rules(steer, info, NULL);
	case ETHTOOL_GRXCLSRLALL:
		return all_rules(steer, info, places);
	case ETHTOOL_GRXCLSRULE:
		return get_rule(steer, info);
	default:
		return -EOPNOTSUPP;
	}
}

static int insert(struct net_device *dev, struct steer *steer, struct ethtool_rxnfc *info)
{
	u32 at = info->fs.location;
	u64 cookie = info->fs.ring_cookie;

	if (!(dev->features & NETIF_F_NTUPLE))
		return -EOPNOTSUPP;
	if (at >= RULES)
		return -EINVAL;
	if (cookie != RX_CLS_FLOW_DISC && !ethtool_get_flow_spec_ring_vf(cookie) &&
	    ethtool_get_flow_spec_ring(cookie) >= steer->queues)
		return -EINVAL;
	if (steer->rules[at].used)
		return -EEXIST;
	steer->rules[at] = (struct rule){ .spec = info->fs, .context = info->rss_context, .used = true };
	return 0;
}

static int set_rxnfc(struct net_device *dev, struct ethtool_rxnfc *info)
{
	struct steer *steer = netdev_priv(dev);

	switch (info->cmd) {
	case ETHTOOL_SRXFH:
		if (info->flow_type >= FLOWS || !steer->fields[info->flow_type])
			return -EINVAL;
		steer->fields[info->flow_type] = info->data;
		return 0;
	case ETHTOOL_SRXCLSRLINS:
		return insert(dev, steer, info);
	case ETHTOOL_SRXCLSRLDEL:
		if (info->fs.location >= RULES || !steer->rules[info->fs.location].used)
			return -ENOENT;
		steer->rules[info->fs.location].used = false;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int get_coalesce(struct net_device *dev, struct ethtool_coalesce *coalesce,
			struct kernel_ethtool_coalesce *kernel, struct netlink_ext_ack *extack)
{
	struct steer *steer = netdev_priv(dev);

	*coalesce = steer->coalesce[0];
	return 0;
}

static int set_coalesce(struct net_device *dev, struct ethtool_coalesce *coalesce,
			struct kernel_ethtool_coalesce *kernel, struct netlink_ext_ack *extack)
{
	struct steer *steer = netdev_priv(dev);
	int i;

	for (i = 0; i < QUEUES; i++)
		steer->coalesce[i] = *coalesce;
	return 0;
}

static int get_queue_coalesce(struct net_device *dev, u32 queue, struct ethtool_coalesce *coalesce)
{
	struct steer *steer = netdev_priv(dev);

	if (queue >= steer->queues)
		return -EINVAL;
	*coalesce = steer->coalesce[queue];
	return 0;
}

static int set_queue_coalesce(struct net_device *dev, u32 queue, struct ethtool_coalesce *coalesce)
{
	struct steer *steer = netdev_priv(dev);

	if (queue >= steer->queues)
		return -EINVAL;
	steer->coalesce[queue] = *coalesce;
	return 0;
}

static const struct ethtool_ops ethtool_ops = {
	.supported_coalesce_params = ETHTOOL_COALESCE_USECS | ETHTOOL_COALESCE_MAX_FRAMES |
				     ETHTOOL_COALESCE_USE_ADAPTIVE | ETHTOOL_COALESCE_PKT_RATE_RX_USECS,
	.cap_rss_sym_xor_supported = 1,
	.rxfh_per_ctx_key = 1,
	.rxfh_max_num_contexts = 16,
	.get_drvinfo = get_drvinfo,
	.get_channels = get_channels,
	.set_channels = set_channels,
	.get_rxfh_key_size = get_key_size,
	.get_rxfh_indir_size = get_indir_size,
	.get_rxfh = get_rxfh,
	.set_rxfh = set_rxfh,
	.create_rxfh_context = create_context,
	.modify_rxfh_context = modify_context,
	.remove_rxfh_context = remove_context,
	.get_rxnfc = get_rxnfc,
	.set_rxnfc = set_rxnfc,
	.get_coalesce = get_coalesce,
	.set_coalesce = set_coalesce,
	.get_per_queue_coalesce = get_queue_coalesce,
	.set_per_queue_coalesce = set_queue_coalesce,
};

static netdev_tx_t swallow(struct sk_buff *skb, struct net_device *dev)
{
	dev_kfree_skb(skb);
	return NETDEV_TX_OK;
}

static const struct net_device_ops netdev_ops = {
	.ndo_start_xmit = swallow,
	.ndo_set_mac_address = eth_mac_addr,
};

static void fill(struct steer *steer)
{
	static const u8 ported[] = { TCP_V4_FLOW, UDP_V4_FLOW, SCTP_V4_FLOW, TCP_V6_FLOW, UDP_V6_FLOW, SCTP_V6_FLOW };
	int i;

	steer->queues = QUEUES;
	for (i = 0; i < BUCKETS; i++)
		steer->table[i] = ethtool_rxfh_indir_default(i, QUEUES);
	netdev_rss_key_fill(steer->key, KEY);
	for (i = 0; i < ARRAY_SIZE(ported); i++)
		steer->fields[ported[i]] = RXH_IP_SRC | RXH_IP_DST;
	for (i = 0; i < QUEUES; i++)
		steer->coalesce[i] = (struct ethtool_coalesce){ .rx_coalesce_usecs = 50, .tx_coalesce_usecs = 50 };
}

static int __init lab_steer_init(void)
{
	int err;

	place = platform_device_register_simple(KBUILD_MODNAME, PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(place))
		return PTR_ERR(place);
	nic = alloc_etherdev_mqs(sizeof(struct steer), QUEUES, QUEUES);
	if (!nic) {
		err = -ENOMEM;
		goto no_nic;
	}
	strscpy(nic->name, "steer%d", sizeof(nic->name));
	SET_NETDEV_DEV(nic, &place->dev);
	nic->netdev_ops = &netdev_ops;
	nic->ethtool_ops = &ethtool_ops;
	nic->hw_features |= NETIF_F_NTUPLE;
	eth_hw_addr_random(nic);
	fill(netdev_priv(nic));
	err = register_netdev(nic);
	if (!err)
		return 0;
	free_netdev(nic);
no_nic:
	platform_device_unregister(place);
	return err;
}

static void __exit lab_steer_exit(void)
{
	unregister_netdev(nic);
	free_netdev(nic);
	platform_device_unregister(place);
}

module_init(lab_steer_init);
module_exit(lab_steer_exit);
MODULE_DESCRIPTION("A network interface that remembers how it is to receive");
MODULE_LICENSE("GPL");
