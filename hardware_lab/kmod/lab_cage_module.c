// SPDX-License-Identifier: GPL-2.0
/* lab_cage: what ethtool is told of the module in a cage. */

#include <linux/delay.h>
#include <linux/netdevice.h>
#include <linux/string.h>

#include "lab_cage.h"

static int readable_block(const struct space *space, u32 block)
{
	if (bitmap_empty(space->written, BLOCKS))
		return -ENXIO;
	if (!block || test_bit(block, space->written))
		return block;
	return test_bit(1, space->written) ? 1 : -EIO;
}

static int mishap(struct cage *cage)
{
	struct knob *knobs = cage->knobs;

	knobs[READS].value++;
	if (!knobs[PRESENT].value)
		return -ENODEV;
	if (!knobs[FAIL].value)
		return 0;
	if (!knobs[FAIL_AFTER].value)
		return -(int)knobs[FAIL].value;
	knobs[FAIL_AFTER].value--;
	return 0;
}

/* One transfer, within one block. */
static int fetch(struct cage *cage, struct space *space, u32 offset, u32 length, u8 *out)
{
	u32 delay = READ_ONCE(cage->knobs[DELAY_MS].value);
	int block, err;

	if (offset >= SPACE || length > BLOCK - offset % BLOCK)
		return -EINVAL;
	if (delay)
		msleep(delay);
	mutex_lock(&cage->lock);
	err = mishap(cage);
	if (!err) {
		block = readable_block(space, offset / BLOCK);
		if (block < 0)
			err = block;
		else
			memcpy(out, space->bytes + block * BLOCK + offset % BLOCK, length);
	}
	mutex_unlock(&cage->lock);
	return err;
}

static int get_module_eeprom_by_page(struct net_device *dev, const struct ethtool_module_eeprom *want,
				     struct netlink_ext_ack *extack)
{
	struct cage *cage = find_cage(dev);
	u32 offset = want->offset;
	u8 bank = want->bank;
	int err;

	if (!cage)
		return -EOPNOTSUPP;
	if (want->i2c_address != 0x50 && want->i2c_address != 0x51) {
		NL_SET_ERR_MSG(extack, "no module answers at this i2c address");
		return -ENXIO;
	}
	if (want->page < FIRST_BANKED_PAGE)
		bank = 0;
	if (bank >= BANKS) {
		NL_SET_ERR_MSG(extack, "the module has no such bank");
		return -EINVAL;
	}
	if (offset >= BLOCK)
		offset += BLOCK * (want->page + PAGES * bank);
	err = fetch(cage, &cage->spaces[want->i2c_address - 0x50], offset, want->length, want->data);
	return err ? err : want->length;
}

static int describe(struct cage *cage, struct ethtool_modinfo *info)
{
	const u8 *lower = cage->spaces[0].bytes;

	switch (lower[0]) {
	case 0x03:	/* SFP, SFP+, SFP28 */
	case 0x0b:	/* DWDM-SFP */
		if (bitmap_empty(cage->spaces[1].written, BLOCKS)) {
			info->type = ETH_MODULE_SFF_8079;
			info->eeprom_len = ETH_MODULE_SFF_8079_LEN;
		} else {
			info->type = ETH_MODULE_SFF_8472;
			info->eeprom_len = ETH_MODULE_SFF_8472_LEN;
		}
		return 0;
	case 0x0c:	/* QSFP */
	case 0x0d:	/* QSFP+ */
	case 0x11:	/* QSFP28 */
		info->type = lower[0] == 0x0c ? ETH_MODULE_SFF_8436 : ETH_MODULE_SFF_8636;
		info->eeprom_len = lower[2] & 0x04 ? ETH_MODULE_SFF_8636_LEN : ETH_MODULE_SFF_8636_MAX_LEN;
		return 0;
	case 0x18:	/* QSFP-DD */
	case 0x19:	/* OSFP */
	case 0x1b:	/* DSFP */
	case 0x1e ... 0x25:
		/* No type of its own: ethtool goes by the identifier, as with mlxsw and mlx5. */
		info->type = ETH_MODULE_SFF_8636;
		info->eeprom_len = lower[2] & 0x80 ? ETH_MODULE_SFF_8636_LEN : ETH_MODULE_SFF_8636_MAX_LEN;
		return 0;
	default:
		return -EINVAL;
	}
}

static int get_module_info(struct net_device *dev, struct ethtool_modinfo *info)
{
	struct cage *cage = find_cage(dev);
	int err;

	if (!cage)
		return -EOPNOTSUPP;
	mutex_lock(&cage->lock);
	err = cage->knobs[PRESENT].value ? describe(cage, info) : -ENODEV;
	mutex_unlock(&cage->lock);
	return err;
}

static int get_module_eeprom(struct net_device *dev, struct ethtool_eeprom *want, u8 *data)
{
	struct ethtool_modinfo info = {};
	u32 done, length;
	int err = get_module_info(dev, &info);
	struct cage *cage = find_cage(dev);

	for (done = 0; !err && done < want->len; done += length) {
		u32 offset = want->offset + done;
		bool a2 = info.type == ETH_MODULE_SFF_8472 && offset >= ETH_MODULE_SFF_8079_LEN;

		if (a2)
			offset -= ETH_MODULE_SFF_8079_LEN;
		length = min(want->len - done, BLOCK - offset % BLOCK);
		err = fetch(cage, &cage->spaces[a2], offset, length, data + done);
	}
	return err;
}

static int get_module_power_mode(struct net_device *dev, struct ethtool_module_power_mode_params *params,
				 struct netlink_ext_ack *extack)
{
	struct cage *cage = find_cage(dev);
	bool high;

	if (!cage)
		return -EOPNOTSUPP;
	if (!READ_ONCE(cage->knobs[PRESENT].value)) {
		NL_SET_ERR_MSG(extack, "the cage is empty");
		return -ENODEV;
	}
	high = cage->policy == ETHTOOL_MODULE_POWER_MODE_POLICY_HIGH || netif_running(dev);
	params->policy = cage->policy;
	params->mode = high ? ETHTOOL_MODULE_POWER_MODE_HIGH : ETHTOOL_MODULE_POWER_MODE_LOW;
	return 0;
}

static int set_module_power_mode(struct net_device *dev, const struct ethtool_module_power_mode_params *params,
				 struct netlink_ext_ack *extack)
{
	struct cage *cage = find_cage(dev);

	if (!cage)
		return -EOPNOTSUPP;
	if (!READ_ONCE(cage->knobs[PRESENT].value)) {
		NL_SET_ERR_MSG(extack, "the cage is empty");
		return -ENODEV;
	}
	cage->policy = params->policy;
	return 0;
}

void fill_ops(struct cage *cage)
{
	cage->driver_ops = cage->dev->ethtool_ops;
	cage->ops = *cage->driver_ops;
	cage->ops.get_module_info = get_module_info;
	cage->ops.get_module_eeprom = get_module_eeprom;
	cage->ops.get_module_eeprom_by_page = get_module_eeprom_by_page;
	cage->ops.set_module_eeprom_by_page = NULL;
	cage->ops.get_module_power_mode = get_module_power_mode;
	cage->ops.set_module_power_mode = set_module_power_mode;
}
