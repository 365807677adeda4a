"""Sensors: temperatures, fans, voltages, currents and power, with their limits and alarms."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from collectors import sysfs
from collectors.about import About, Cost
from machine import Machine, NotPresentError
from wire.facts import Hwmon
from wire.report import Sample

NAME = "hwmon"
EVERY_S = 10.0
DEADLINE_S = 10.0

_CLASS = "/sys/class/hwmon"
_ATTRIBUTE = re.compile(r"((temp|fan|in|power|curr|humidity)\d+)_(\w+)")
_I2C = re.compile(r"\d+-([0-9a-f]{4})")
_ATA = re.compile(r"ata\d+")


class Kind(NamedTuple):
    """One type of channel: hwmon's integer times `scale` is in `unit`; limits outside `plausible` are sentinels."""

    metric: str
    unit: str
    scale: float
    plausible: tuple[float, float]
    dead_band: float  # what a reading trembles by


KINDS = {
    "temp": Kind("hwmon.temp_celsius", "°C", 0.001, (-55.0, 250.0), 1.0),
    "fan": Kind("hwmon.fan_rpm", "rpm", 1, (0, 100_000), 50),
    "in": Kind("hwmon.in_volts", "V", 0.001, (-1000.0, 1000.0), 0.05),
    "power": Kind("hwmon.power_watts", "W", 0.000_001, (0, 100_000), 2.0),
    "curr": Kind("hwmon.curr_amps", "A", 0.001, (-10_000.0, 10_000.0), 0.1),
    "humidity": Kind("hwmon.humidity_percent", "%", 0.001, (0, 100.0), 1.0),
}
READINGS = ("input", "average")
LIMITS = ("min", "max", "crit")
ALARMS = ("alarm", "min_alarm", "max_alarm", "crit_alarm", "lcrit_alarm", "emergency_alarm", "cap_alarm")
# A lower limit of a temperature above this is another quantity under that name (i5k_amb's throttling point).
HIGHEST_LOW_C = 50.0


class Chip(NamedTuple):
    """One hwmon device: `folders` hold its attributes; `device` stays over reboots, unlike hwmonN."""

    device: str
    name: str
    folders: tuple[str, ...]


ABOUT = About(
    what="sensors, limits, alarms",
    source="`/sys/class/hwmon`",
    cost=Cost.SLOW,
    metrics={kind.metric: kind.dead_band for kind in KINDS.values()},
)


def collect(machine: Machine) -> Iterator[Hwmon | Sample]:
    """One `Hwmon` and one sample per readable channel; raises NotPresentError where there are no sensors."""
    chips = read_chips(machine)
    if not chips:
        raise NotPresentError(f"no sensor in {_CLASS}")
    for chip in chips:
        for channel, attributes in read_channels(machine, chip).items():
            fact = parse_channel(chip, channel, attributes)
            yield fact
            value = parse_value(channel, attributes)
            if value is not None:
                yield Sample(_kind(channel).metric, fact.key, value)


def read_chips(machine: Machine) -> list[Chip]:
    """The hwmon devices; of several alike the second in the order of their paths is `<device>#2`."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    for entry in sysfs.names(machine, _CLASS):
        folder = f"{_CLASS}/{entry}"
        parent = sysfs.resolve(machine, f"{folder}/device")
        folders = tuple(path for path in (folder, parent) if path)
        name = next((text for path in folders if (text := sysfs.text(machine, f"{path}/name"))), "unnamed")
        found.append((parent, name, folders))
    chips: list[Chip] = []
    for parent, name, folders in sorted(found, key=lambda chip: (chip[0], chip[1], len(chip[2][0]), chip[2])):
        device = parse_device(parent)
        twins = sum(chip.name == name and chip.device.partition("#")[0] == device for chip in chips)
        chips.append(Chip(f"{device}#{twins + 1}" if twins else device, name, folders))
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


def read_channels(machine: Machine, chip: Chip) -> dict[str, dict[str, str]]:
    """Channel -> attribute -> text, of channels that have a reading, in natural order."""
    channels: dict[str, dict[str, str]] = {}
    for folder in reversed(chip.folders):
        for name in sysfs.names(machine, folder):
            match = _ATTRIBUTE.fullmatch(name)
            if match and match[3] in (*READINGS, *LIMITS, *ALARMS, "label", "fault", "enable"):
                channels.setdefault(match[1], {})[match[3]] = sysfs.text(machine, f"{folder}/{name}")
    readable = {channel: found for channel, found in channels.items() if set(READINGS) & set(found)}
    return dict(sorted(readable.items(), key=lambda item: (_type(item[0]), len(item[0]), item[0])))


def parse_channel(chip: Chip, channel: str, attributes: dict[str, str]) -> Hwmon:
    """The fact; limits that are sentinels or contradict each other are None, and without limits there is no alarm."""
    limits = parse_limits(channel, attributes)
    rings = any(attributes.get(name) == "1" for name in ALARMS)
    return Hwmon(
        key=f"{chip.device}/{chip.name}/{channel}",
        chip=chip.name,
        channel=channel,
        label=attributes.get("label", ""),
        unit=_kind(channel).unit,
        alarm=rings and any(limit is not None for limit in limits.values()),
        **limits,
    )


def parse_limits(channel: str, attributes: dict[str, str]) -> dict[str, float | None]:
    """min, max and crit in the channel's unit, without those that cannot be meant."""
    kind = _kind(channel)
    low, high, crit = (_scaled(kind, attributes.get(name, "")) for name in LIMITS)
    if low is not None and kind.unit == "°C" and low > HIGHEST_LOW_C:
        low = None
    if low is not None and high is not None and low >= high:
        low = high = None
    if high is not None and crit is not None and crit < high:
        high = crit = None
    if low is not None and crit is not None and crit <= low:
        low = crit = None
    return {"min": low, "max": high, "crit": crit}


def parse_value(channel: str, attributes: dict[str, str]) -> float | None:
    """The reading in the channel's unit; None when faulty, switched off, a sentinel or not a number."""
    if attributes.get("fault") == "1" or attributes.get("enable") == "0":
        return None
    value = _scaled(_kind(channel), next((attributes[name] for name in READINGS if attributes.get(name)), ""))
    unwired = attributes.get("label", "").startswith("PCH_") and value == 0
    return None if unwired else value


def _scaled(kind: Kind, text: str) -> float | None:
    number = sysfs.parse_number(text)
    if number is None:
        return None
    value = round(number * kind.scale, 6)
    low, high = kind.plausible
    return value if low <= value <= high else None


def _type(channel: str) -> str:
    return channel.rstrip("0123456789")


def _kind(channel: str) -> Kind:
    return KINDS[_type(channel)]
