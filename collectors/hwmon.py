"""Sensors that are no fan, power supply, power meter, drive or thermal zone: degrees, volts, amperes, humidity."""

from collections.abc import Iterator, Mapping

from collectors import sysfs
from collectors.about import About, Cost
from collectors.chips import (
    ALARMS,
    CLASS,
    KINDS,
    Chip,
    kind_of,
    owned,
    parse_limits,
    parse_value,
    read_channel,
    read_chips,
)
from machine import Machine, NotPresentError
from wire.facts import Hwmon
from wire.report import Sample
from wire.text import clean

NAME = "hwmon"
EVERY_S = 10.0
DEADLINE_S = 10.0

METRICS = {
    "temp": "hwmon.temp_celsius",
    "in": "hwmon.in_volts",
    "curr": "hwmon.curr_amps",
    "humidity": "hwmon.humidity_percent",
}
_HOT = frozenset({"max_alarm", "crit_alarm", "emergency_alarm"})
ABOUT = About(
    what="sensors that no other collector has, limits, alarms",
    source="`/sys/class/hwmon`",
    cost=Cost.SLOW,
    metrics={  # what a reading trembles by
        "hwmon.temp_celsius": 1.0,
        "hwmon.in_volts": 0.05,
        "hwmon.curr_amps": 0.1,
        "hwmon.humidity_percent": 1.0,
    },
)


def collect(machine: Machine) -> Iterator[Hwmon | Sample]:
    """One `Hwmon` and one sample per readable channel; raises NotPresentError where there are no sensors."""
    found = [(chip, channel) for chip in read_chips(machine) for channel in owned(chip, NAME)]
    if not found:
        raise NotPresentError(f"no sensor in {CLASS}")
    for chip, channel in found:
        attributes = read_channel(machine, chip, channel)
        source = chip.channels[channel].get("input", "") if kind_of(channel) == "temp" else ""
        fact = parse_channel(chip, channel, attributes, sysfs.resolve(machine, source) if source else "")
        yield fact
        value = parse_value(channel, attributes)
        if value is not None:
            yield Sample(METRICS[kind_of(channel)], fact.key, value)


def parse_channel(chip: Chip, channel: str, attributes: Mapping[str, str], file: str = "") -> Hwmon:
    """The fact; limits that are sentinels or contradict each other are None, and without limits there is no alarm."""
    limits = parse_limits(channel, attributes)
    alarms = {name for name in ALARMS if attributes.get(name) == "1"}
    rings = bool(alarms) and any(limit is not None for limit in limits.values())
    return Hwmon(
        key=f"{chip.key}/{channel}",
        chip=chip.name,
        channel=channel,
        label=clean(attributes.get("label", "")),
        unit=KINDS[kind_of(channel)].unit,
        alarm=rings,
        hot=rings and kind_of(channel) == "temp" and bool(alarms & _HOT),
        file=file,
        **limits,
    )
