// SPDX-License-Identifier: GPL-2.0
/* lab_cage: the files of one cage. */

#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "lab_cage.h"

static const struct {
	const char *name;
	u32 max;
} knob_table[KNOBS] = {
	[PRESENT] = { "present", 1 },
	[FAIL] = { "fail", MAX_ERRNO },
	[FAIL_AFTER] = { "fail_after", U32_MAX },
	[DELAY_MS] = { "delay_ms", MAX_DELAY_MS },
	[READS] = { "reads", U32_MAX },
};

static int open_space(struct inode *inode, struct file *file)
{
	struct space *space = inode->i_private;

	file->private_data = space;
	if (file->f_mode & FMODE_WRITE && file->f_flags & O_TRUNC) {
		mutex_lock(space->lock);
		memset(space->bytes, 0, SPACE);
		bitmap_zero(space->written, BLOCKS);
		mutex_unlock(space->lock);
	}
	return 0;
}

static ssize_t read_space(struct file *file, char __user *to, size_t count, loff_t *pos)
{
	struct space *space = file->private_data;
	ssize_t done = 0;
	u8 *copy;

	if (*pos < 0)
		return -EINVAL;
	if (*pos >= SPACE || !count)
		return 0;
	count = min_t(size_t, count, SPACE - *pos);
	copy = kvmalloc(count, GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	mutex_lock(space->lock);
	memcpy(copy, space->bytes + *pos, count);
	mutex_unlock(space->lock);
	done = copy_to_user(to, copy, count) ? -EFAULT : count;
	if (done > 0)
		*pos += done;
	kvfree(copy);
	return done;
}

static ssize_t write_space(struct file *file, const char __user *from, size_t count, loff_t *pos)
{
	struct space *space = file->private_data;
	u32 first;
	u8 *copy;

	if (*pos < 0)
		return -EINVAL;
	if (*pos >= SPACE)
		return -ENOSPC;
	if (!count)
		return 0;
	count = min_t(size_t, count, SPACE - *pos);
	copy = vmemdup_user(from, count);	/* not under the lock: the reader's memory may take its time */
	if (IS_ERR(copy))
		return PTR_ERR(copy);
	first = (u32)*pos / BLOCK;
	mutex_lock(space->lock);
	memcpy(space->bytes + *pos, copy, count);
	bitmap_set(space->written, first, ((u32)*pos + count - 1) / BLOCK - first + 1);
	mutex_unlock(space->lock);
	kvfree(copy);
	*pos += count;
	return count;
}

static const struct file_operations space_fops = {
	.owner = THIS_MODULE,
	.open = open_space,
	.read = read_space,
	.write = write_space,
	.llseek = default_llseek,
};

static int read_knob(void *data, u64 *value)
{
	struct knob *knob = data;

	*value = READ_ONCE(knob->value);
	return 0;
}

static int write_knob(void *data, u64 value)
{
	struct knob *knob = data;

	if (value > knob->max)
		return -ERANGE;
	mutex_lock(knob->lock);
	WRITE_ONCE(knob->value, value);
	mutex_unlock(knob->lock);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(knob_fops, read_knob, write_knob, "%llu\n");

void fill_knobs(struct cage *cage)
{
	int i;

	for (i = 0; i < KNOBS; i++) {
		cage->knobs[i].lock = &cage->lock;
		cage->knobs[i].max = knob_table[i].max;
	}
}

int make_files(struct cage *cage, struct dentry *root)
{
	static const char * const names[] = { "a0", "a2" };
	struct dentry *made;
	int i;

	cage->dir = debugfs_create_dir(cage->dev->name, root);
	if (IS_ERR(cage->dir))
		return PTR_ERR(cage->dir);
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		made = debugfs_create_file(names[i], 0600, cage->dir, &cage->spaces[i], &space_fops);
		if (IS_ERR(made))
			goto failed;
	}
	for (i = 0; i < KNOBS; i++) {
		made = debugfs_create_file_unsafe(knob_table[i].name, 0600, cage->dir, &cage->knobs[i], &knob_fops);
		if (IS_ERR(made))
			goto failed;
	}
	return 0;
failed:
	debugfs_remove(cage->dir);
	return PTR_ERR(made);
}
