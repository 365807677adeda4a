// SPDX-License-Identifier: GPL-2.0
/*
 * lab_edac: memory controllers with labelled DIMMs for the EDAC core, and their errors on demand.
 *
 *  modprobe lab_edac controllers=2 channels=4 slots=1 size_mib=32768 labels=P0-DIMMA1,P0-DIMMB1,...
 *  echo "CE P0-DIMMB1 3" > /sys/kernel/debug/lab_edac/inject	three corrected errors; UE is an uncorrected one
 *
 * Labels go by controller, channel, slot; those not given are P<controller>-DIMM<channel><slot>. A controller has the
 * number of its NUMA node, where that is online.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/edac.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nodemask.h>
#include <linux/platform_device.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "edac_mc.h"	/* the kernel's own, from drivers/edac of its source: see Kbuild */

#define MAX_CONTROLLERS	8
#define MAX_CHANNELS	12
#define MAX_SLOTS	2
#define MAX_DIMMS	(MAX_CONTROLLERS * MAX_CHANNELS * MAX_SLOTS)

static unsigned int controllers = 2;
module_param(controllers, uint, 0444);
MODULE_PARM_DESC(controllers, "memory controllers, 1 to 8");

static unsigned int channels = 4;
module_param(channels, uint, 0444);
MODULE_PARM_DESC(channels, "of each controller, 1 to 12");

static unsigned int slots = 1;
module_param(slots, uint, 0444);
MODULE_PARM_DESC(slots, "of each channel, 1 or 2");

static unsigned int size_mib = 32768;
module_param(size_mib, uint, 0444);
MODULE_PARM_DESC(size_mib, "of each DIMM");

static char *labels[MAX_DIMMS];
static unsigned int labels_given;
module_param_array(labels, charp, &labels_given, 0444);
MODULE_PARM_DESC(labels, "of the DIMMs, by controller, channel, slot");

static struct {
	struct platform_device *device;
	struct mem_ctl_info *mci;
} made[MAX_CONTROLLERS];
static unsigned int made_count;

static DEFINE_MUTEX(injecting);		/* edac_mc_handle_error has one description of an error per controller */
static struct dentry *dir;

static struct dimm_info *find_dimm(const char *label)
{
	struct dimm_info *dimm;
	unsigned int i;

	for (i = 0; i < made_count; i++)
		mci_for_each_dimm(made[i].mci, dimm)
			if (!strcmp(dimm->label, label))
				return dimm;
	return NULL;
}

static int inject(enum hw_event_mc_err_type type, const char *label, u16 count)
{
	struct dimm_info *dimm;

	mutex_lock(&injecting);
	dimm = find_dimm(label);
	if (dimm)
		edac_mc_handle_error(type, dimm->mci, count, 0x12345, 0x680, 0x42, dimm->location[0], dimm->location[1],
				     -1, "memory read", "injected");
	mutex_unlock(&injecting);
	return dimm ? 0 : -ENODEV;
}

static ssize_t write_inject(struct file *file, const char __user *from, size_t count, loff_t *pos)
{
	char text[64] = "", kind[3], label[EDAC_MC_LABEL_LEN + 1];
	unsigned int errors = 1;
	int err = -EINVAL;

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, count))
		return -EFAULT;
	if (sscanf(text, "%2s %31s %u", kind, label, &errors) < 2 || !errors || errors > U16_MAX)
		return -EINVAL;
	if (!strcmp(kind, "CE"))
		err = inject(HW_EVENT_ERR_CORRECTED, label, errors);
	else if (!strcmp(kind, "UE"))
		err = inject(HW_EVENT_ERR_UNCORRECTED, label, errors);
	return err ? err : count;
}

static const struct file_operations inject_fops = {
	.owner = THIS_MODULE, .open = simple_open, .write = write_inject,
};

static void fill_dimm(struct dimm_info *dimm, unsigned int controller)
{
	unsigned int channel = dimm->location[0], slot = dimm->location[1];
	unsigned int number = (controller * channels + channel) * slots + slot;

	dimm->nr_pages = MiB_TO_PAGES(size_mib);
	dimm->grain = 64;
	dimm->mtype = MEM_RDDR5;
	dimm->dtype = DEV_X4;
	dimm->edac_mode = EDAC_SECDED;
	if (number < labels_given)
		strscpy(dimm->label, labels[number], sizeof(dimm->label));
	else
		snprintf(dimm->label, sizeof(dimm->label), "P%u-DIMM%c%u", controller, 'A' + channel, slot + 1);
}

static struct mem_ctl_info *new_mci(unsigned int number, struct platform_device *device)
{
	struct edac_mc_layer layers[] = {
		{ .type = EDAC_MC_LAYER_CHANNEL, .size = channels },
		{ .type = EDAC_MC_LAYER_SLOT, .size = slots, .is_virt_csrow = true },
	};
	struct mem_ctl_info *mci = edac_mc_alloc(number, ARRAY_SIZE(layers), layers, 0);
	struct dimm_info *dimm;

	if (!mci)
		return NULL;
	mci->pdev = &device->dev;
	mci->mtype_cap = MEM_FLAG_RDDR5;
	mci->edac_ctl_cap = EDAC_FLAG_SECDED;
	mci->edac_cap = EDAC_FLAG_SECDED;
	mci->mod_name = KBUILD_MODNAME;
	mci->ctl_name = "lab";
	mci->dev_name = dev_name(&device->dev);
	mci_for_each_dimm(mci, dimm)
		fill_dimm(dimm, number);
	return mci;
}

static int make_controller(unsigned int number)
{
	struct platform_device *device = platform_device_register_simple(KBUILD_MODNAME, number, NULL, 0);
	struct mem_ctl_info *mci;
	int err;

	if (IS_ERR(device))
		return PTR_ERR(device);
	if (number < MAX_NUMNODES && node_online(number))
		set_dev_node(&device->dev, number);
	mci = new_mci(number, device);
	if (!mci) {
		platform_device_unregister(device);
		return -ENOMEM;
	}
	err = edac_mc_add_mc(mci);	/* EPERM: the memory controllers belong to another driver */
	if (err) {
		edac_mc_free(mci);
		platform_device_unregister(device);
		return err;
	}
	made[number].device = device;
	made[number].mci = mci;
	made_count++;
	return 0;
}

static void remove_controllers(void)
{
	while (made_count) {
		made_count--;
		edac_mc_del_mc(&made[made_count].device->dev);
		edac_mc_free(made[made_count].mci);
		platform_device_unregister(made[made_count].device);
	}
}

static int __init lab_edac_init(void)
{
	struct dentry *file;
	int err = 0;

	if (!controllers || controllers > MAX_CONTROLLERS || !channels || channels > MAX_CHANNELS || !slots ||
	    slots > MAX_SLOTS || !size_mib) {
		pr_err("controllers must be 1 to 8, channels 1 to 12, slots 1 or 2, size_mib above 0\n");
		return -EINVAL;
	}
	while (!err && made_count < controllers)
		err = make_controller(made_count);
	if (err)
		goto failed;
	dir = debugfs_create_dir(KBUILD_MODNAME, NULL);
	file = IS_ERR(dir) ? dir : debugfs_create_file("inject", 0200, dir, NULL, &inject_fops);
	if (!IS_ERR(file))
		return 0;
	err = PTR_ERR(file);
	debugfs_remove(dir);
failed:
	remove_controllers();
	return err;
}

static void __exit lab_edac_exit(void)
{
	debugfs_remove(dir);	/* waits for an injection that goes on */
	remove_controllers();
}

module_init(lab_edac_init);
module_exit(lab_edac_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Memory controllers with labelled DIMMs, and their errors on demand");
