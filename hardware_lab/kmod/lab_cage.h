/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of lab_cage share. */
#ifndef LAB_CAGE_H
#define LAB_CAGE_H

#include <linux/bitmap.h>
#include <linux/ethtool.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/types.h>

struct dentry;
struct net_device;

#define BLOCK			128U	/* half a page: the lower one, or an upper one */
#define PAGES			256U
#define BANKS			4U
#define BLOCKS			(1U + BANKS * PAGES)
#define SPACE			(BLOCK * BLOCKS)
#define FIRST_BANKED_PAGE	0x10
#define MAX_DELAY_MS		60000U

struct space {
	struct mutex *lock;	/* the cage's */
	u8 *bytes;
	DECLARE_BITMAP(written, BLOCKS);
};

struct knob {
	struct mutex *lock;	/* the cage's */
	u32 value;
	u32 max;
};

enum { PRESENT, FAIL, FAIL_AFTER, DELAY_MS, READS, KNOBS };

struct cage {
	struct list_head node;
	struct net_device *dev;
	const struct ethtool_ops *driver_ops;
	struct ethtool_ops ops;		/* the driver's, with ours in them */
	struct dentry *dir;
	struct mutex lock;		/* spaces and knobs; never held while sleeping, never taken before the RTNL */
	struct space spaces[2];
	struct knob knobs[KNOBS];
	enum ethtool_module_power_mode_policy policy;
	struct rcu_head rcu;
};

/* The cage of a device, under the RTNL; NULL when it has none. */
struct cage *find_cage(const struct net_device *dev);

/* Give the cage a copy of its driver's operations, with ours in them. */
void fill_ops(struct cage *cage);

/* Start values and limits of the knobs. */
void fill_knobs(struct cage *cage);

/* The cage's directory, with its files. */
int make_files(struct cage *cage, struct dentry *root);

#endif
