"""The devices of hwmon, what their channels say, and which collector each channel belongs to."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from collectors import sysfs
from machine import Machine
from wire.text import clean

CLASS = "/sys/class/hwmon"
_ATTRIBUTE = re.compile(r"((temp|fan|in|power|curr|humidity|pwm)\d+)(?:_(\w+))?")
_I2C = re.compile(r"\d+-([0-9a-f]{4})")
_ATA = re.compile(r"ata\d+")


class Kind(NamedTuple):
    """One type of channel: hwmon's integer times `scale` is in `unit`; what is outside `plausible` is a sentinel."""

    unit: str
    scale: float
    plausible: tuple[float, float]


KINDS = {
    "temp": Kind("°C", 0.001, (-55.0, 250.0)),
    "fan": Kind("rpm", 1, (0, 100_000)),
    "in": Kind("V", 0.001, (-1000.0, 1000.0)),
    "power": Kind("W", 0.000_001, (0, 100_000)),
    "curr": Kind("A", 0.001, (-10_000.0, 10_000.0)),
    "humidity": Kind("%", 0.001, (0, 100.0)),
}
READINGS = ("input", "average")
LIMITS = ("min", "max", "crit")
ALARMS = ("alarm", "min_alarm", "max_alarm", "crit_alarm", "lcrit_alarm", "emergency_alarm", "cap_alarm")
# A lower limit of a temperature above this is another quantity under that name (i5k_amb's throttling point).
HIGHEST_LOW_C = 50.0

# Drives are asked rarely, by `smart`: each reading here is a command that they have to answer.
_DRIVES = ("nvme", "drivetemp")
# Chips in power supplies, by what their drivers in drivers/hwmon/pmbus and beside it call them.
_POWER_SUPPLIES = re.compile(
    r"cffps\d?|crps|(?:intel_)?crps185|dps460|dps650ab|dps800|dps920ab|pfe1100|pfe3000|fsg032|bp[ad][-_]rs600|ipsps1"
    r"|ym2151e?|yh[-_]?5151e|corsairpsu"
)


class Chip(NamedTuple):
    """One hwmon device; `device` stays over reboots, unlike hwmonN."""

    device: str
    name: str
    channels: Mapping[str, Mapping[str, str]] = {}  # channel -> attribute -> path, of attributes that may be read
    role: str = ""  # "drive", "zone", "psu"; "" for any other
    hwmon: str = ""  # hwmon3: its name until the next boot

    @property
    def key(self) -> str:
        """What its channels' keys begin with."""
        return f"{self.device}/{self.name}"


def read_chips(machine: Machine) -> list[Chip]:
    """The hwmon devices; of several alike the second in the order of their paths is `<device>#2`."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    for entry in sysfs.names(machine, CLASS):
        folder = f"{CLASS}/{entry}"
        parent = sysfs.resolve(machine, f"{folder}/device")
        folders = tuple(path for path in (folder, parent) if path)
        name = next((text for path in folders if (text := clean(sysfs.text(machine, f"{path}/name")))), "unnamed")
        found.append((parent, name, folders))
    chips: list[Chip] = []
    for parent, name, folders in sorted(found, key=lambda chip: (chip[0], chip[1], len(chip[2][0]), chip[2])):
        device = parse_device(parent)
        twins = sum(chip.name == name and chip.device.partition("#")[0] == device for chip in chips)
        channels = read_attributes(machine, folders)
        role = read_role(machine, device, name, channels)
        number = folders[0].rpartition("/")[2]
        chips.append(Chip(f"{device}#{twins + 1}" if twins else device, name, channels, role, number))
    return chips


def parse_device(path: str) -> str:
    """What names a device over reboots: its PCI address with I2C address or ATA port, else its own name on its bus."""
    parts = path.strip("/").split("/")
    addresses = sysfs.pci_addresses(path)
    if not addresses:
        return parts[-1] or "virtual"
    below = parts[len(parts) - parts[::-1].index(addresses[-1]) :]
    i2c = [f"i2c-{match[1]}" for part in below if (match := _I2C.fullmatch(part))]
    return "-".join((addresses[-1], *(part for part in below if _ATA.fullmatch(part)), *i2c))


def read_attributes(machine: Machine, folders: Iterable[str]) -> dict[str, dict[str, str]]:
    """Channel -> attribute -> path, channels in natural order; those of the first folder win. `pwm1` itself is ""."""
    channels: dict[str, dict[str, str]] = {}
    for folder in reversed(list(folders)):
        for name in sysfs.names(machine, folder):
            match = _ATTRIBUTE.fullmatch(name)
            if match:
                channels.setdefault(match[1], {})[match[3] or ""] = f"{folder}/{name}"
    return dict(sorted(channels.items(), key=lambda item: (kind_of(item[0]), len(item[0]), item[0])))


def read_role(machine: Machine, device: str, name: str, channels: Mapping[str, Mapping[str, str]]) -> str:
    """What the device is, by what stays the same while it works or fails: its name, its place, its labels."""
    if name in _DRIVES:
        return "drive"
    if name == "acpitz" or device.startswith("thermal_zone"):
        return "zone"
    if _POWER_SUPPLIES.fullmatch(name):
        return "psu"
    wired = any(channel.startswith("fan") for channel in channels) and "power1" in channels
    if wired and "label" in channels.get("in1", {}) and sysfs.text(machine, channels["in1"]["label"]) == "vin":
        return "psu"  # a regulator has no fan
    return ""


def owner(chip: Chip, channel: str) -> str:
    """The collector that reads a channel: every number is read by one."""
    if chip.role:
        return {"drive": "smart", "zone": "thermal", "psu": "psu"}[chip.role]
    return {"fan": "fans", "pwm": "fans", "power": "power"}.get(kind_of(channel), "hwmon")


def owned(chip: Chip, name: str) -> list[str]:
    """The channels with a reading that a collector reads."""
    return [
        channel
        for channel, files in chip.channels.items()
        if set(READINGS) & set(files) and owner(chip, channel) == name
    ]


def read_channel(machine: Machine, chip: Chip, channel: str, also: Iterable[str] = ()) -> dict[str, str]:
    """Attribute -> text: readings, limits, alarms, label, what switches it off, and others by name."""
    wanted = {*READINGS, *LIMITS, *ALARMS, "label", "fault", "enable", *also}
    files = chip.channels.get(channel, {})
    return {name: sysfs.text(machine, path) for name, path in files.items() if name in wanted}


def kind_of(channel: str) -> str:
    """ "temp" of "temp12"."""
    return channel.rstrip("0123456789")


def parse_limits(channel: str, attributes: Mapping[str, str]) -> dict[str, float | None]:
    """min, max and crit in the channel's unit, without those that cannot be meant."""
    kind = KINDS[kind_of(channel)]
    low, high, crit = (scaled(channel, attributes.get(name, "")) for name in LIMITS)
    if low is not None and kind.unit == "°C" and low > HIGHEST_LOW_C:
        low = None
    if low is not None and high is not None and low >= high:
        low = high = None
    if high is not None and crit is not None and crit < high:
        high = crit = None
    if low is not None and crit is not None and crit <= low:
        low = crit = None
    return {"min": low, "max": high, "crit": crit}


def parse_value(channel: str, attributes: Mapping[str, str]) -> float | None:
    """The reading in the channel's unit; None when faulty, switched off, a sentinel or not a number."""
    if attributes.get("fault") == "1" or attributes.get("enable") == "0":
        return None
    value = scaled(channel, next((attributes[name] for name in READINGS if attributes.get(name)), ""))
    unwired = attributes.get("label", "").startswith("PCH_") and value == 0
    return None if unwired else value


def scaled(channel: str, text: str) -> float | None:
    """An attribute in the channel's unit; None for what is no number or cannot be one of that kind."""
    number = sysfs.parse_number(text)
    if number is None:
        return None
    kind = KINDS[kind_of(channel)]
    value = round(number * kind.scale, 6)
    low, high = kind.plausible
    return value if low <= value <= high else None
