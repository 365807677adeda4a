// SPDX-License-Identifier: GPL-2.0
/*
 * lab_cage: a transceiver cage for any network interface, its module's EEPROM written by the lab.
 *
 *  echo IFNAME > /sys/kernel/debug/lab_cage/attach
 *  echo IFNAME > /sys/kernel/debug/lab_cage/detach
 *
 * An attached interface has a directory /sys/kernel/debug/lab_cage/IFNAME:
 *
 *  a0, a2      the module at i2c address 0x50 and 0x51: the lower 128 bytes, then page P of bank B in 128 bytes at
 *              128 * (1 + P + 256 * B). Opening with O_TRUNC forgets all; a write at an offset changes a live module.
 *              An address without any byte written does not answer (ENXIO), a page without one shows page 00h, as
 *              SFF-8636 and CMIS have it; without page 00h it is EIO. Pages below 10h are the same in every bank.
 *  present     0 is an empty cage (ENODEV), which it is at first
 *  fail        errno of every read, 0 for none
 *  fail_after  reads that still succeed before that
 *  delay_ms    of every read of up to half a page, at most 60000; the reader holds the RTNL meanwhile, as drivers do
 *  reads       so far, failed ones too
 *
 * There is no set_module_eeprom_by_page: the kernel's firmware flash would call it, and ours with it, without the RTNL
 * that keeps a cage alive.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/nsproxy.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "lab_cage.h"

static LIST_HEAD(cages);		/* under the RTNL */
static struct dentry *root;

struct cage *find_cage(const struct net_device *dev)
{
	struct cage *cage;

	ASSERT_RTNL();
	list_for_each_entry(cage, &cages, node)
		if (cage->dev == dev)
			return cage;
	return NULL;
}

static void free_cage(struct cage *cage)
{
	vfree(cage->spaces[0].bytes);
	vfree(cage->spaces[1].bytes);
	/* Sockets that ask for timestamps, and bonds, look at a device's operations without the RTNL. */
	kfree_rcu(cage, rcu);
}

static struct cage *new_cage(struct net_device *dev)
{
	struct cage *cage = kzalloc(sizeof(*cage), GFP_KERNEL);
	int i;

	if (!cage)
		return NULL;
	cage->dev = dev;
	cage->policy = ETHTOOL_MODULE_POWER_MODE_POLICY_AUTO;
	mutex_init(&cage->lock);
	for (i = 0; i < ARRAY_SIZE(cage->spaces); i++) {
		cage->spaces[i].lock = &cage->lock;
		cage->spaces[i].bytes = vzalloc(SPACE);
		if (!cage->spaces[i].bytes) {
			free_cage(cage);
			return NULL;
		}
	}
	fill_knobs(cage);
	return cage;
}

static int attach(struct net_device *dev)
{
	struct cage *cage;
	int err;

	if (dev->reg_state != NETREG_REGISTERED)
		return -ENODEV;
	if (find_cage(dev))
		return -EEXIST;
	if (dev->sfp_bus)	/* ethtool would ask that, not us */
		return -EOPNOTSUPP;
	cage = new_cage(dev);
	if (!cage)
		return -ENOMEM;
	err = make_files(cage, root);
	if (err) {
		free_cage(cage);
		return err;
	}
	fill_ops(cage);
	list_add(&cage->node, &cages);
	WRITE_ONCE(dev->ethtool_ops, &cage->ops);
	return 0;
}

static void detach(struct cage *cage)
{
	ASSERT_RTNL();
	if (cage->dev->ethtool_ops == &cage->ops)	/* else the driver has changed them since */
		WRITE_ONCE(cage->dev->ethtool_ops, cage->driver_ops);
	list_del(&cage->node);
	debugfs_remove(cage->dir);	/* waits for readers and writers; none of them takes the RTNL */
	free_cage(cage);
}

static int attach_by_name(const char *name)
{
	struct net_device *dev = __dev_get_by_name(current->nsproxy->net_ns, name);

	return dev ? attach(dev) : -ENODEV;
}

static int detach_by_name(const char *name)
{
	struct net_device *dev = __dev_get_by_name(current->nsproxy->net_ns, name);
	struct cage *cage = dev ? find_cage(dev) : NULL;

	if (!cage)
		return -ENODEV;
	detach(cage);
	return 0;
}

static ssize_t by_name(const char __user *from, size_t count, int (*what)(const char *name))
{
	char name[IFNAMSIZ + 1] = "";
	int err;

	if (!count || count > IFNAMSIZ)
		return -EINVAL;
	if (copy_from_user(name, from, count))
		return -EFAULT;
	rtnl_lock();
	err = what(strim(name));
	rtnl_unlock();
	return err ? err : count;
}

static ssize_t write_attach(struct file *file, const char __user *from, size_t count, loff_t *pos)
{
	return by_name(from, count, attach_by_name);
}

static ssize_t write_detach(struct file *file, const char __user *from, size_t count, loff_t *pos)
{
	return by_name(from, count, detach_by_name);
}

static const struct file_operations attach_fops = {
	.owner = THIS_MODULE, .open = simple_open, .write = write_attach,
};

static const struct file_operations detach_fops = {
	.owner = THIS_MODULE, .open = simple_open, .write = write_detach,
};

static int follow(struct notifier_block *nb, unsigned long event, void *info)
{
	struct net_device *dev = netdev_notifier_info_to_dev(info);
	struct cage *cage = find_cage(dev);

	if (!cage)
		return NOTIFY_DONE;
	/* A move to another network namespace says NETDEV_UNREGISTER too, and the device lives on. */
	if (event == NETDEV_UNREGISTER && dev->reg_state != NETREG_REGISTERED)
		detach(cage);
	else if (event == NETDEV_CHANGENAME && IS_ERR(debugfs_rename(root, cage->dir, root, dev->name)))
		pr_warn("the folder of %s keeps its old name: that name is taken\n", dev->name);
	return NOTIFY_DONE;
}

static struct notifier_block notifier = { .notifier_call = follow };

static int __init lab_cage_init(void)
{
	struct dentry *made;
	int err;

	root = debugfs_create_dir(KBUILD_MODNAME, NULL);
	if (IS_ERR(root))
		return PTR_ERR(root);
	err = register_netdevice_notifier(&notifier);
	if (err)
		goto no_notifier;
	made = debugfs_create_file("detach", 0200, root, NULL, &detach_fops);
	if (!IS_ERR(made))
		made = debugfs_create_file("attach", 0200, root, NULL, &attach_fops);
	if (!IS_ERR(made))
		return 0;
	err = PTR_ERR(made);
	unregister_netdevice_notifier(&notifier);
no_notifier:
	debugfs_remove(root);
	return err;
}

static void __exit lab_cage_exit(void)
{
	struct cage *cage, *next;

	/* First no new cages; then none at all, before devices may go without our being told. */
	debugfs_lookup_and_remove("attach", root);
	debugfs_lookup_and_remove("detach", root);
	rtnl_lock();
	list_for_each_entry_safe(cage, next, &cages, node)
		detach(cage);
	rtnl_unlock();
	unregister_netdevice_notifier(&notifier);
	debugfs_remove(root);
}

module_init(lab_cage_init);
module_exit(lab_cage_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A transceiver cage for any network interface, with a module the lab writes");
