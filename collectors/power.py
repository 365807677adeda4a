"""Energy and power: RAPL's counters and limits, and the meters of hwmon that are no power supply's."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from weakref import WeakKeyDictionary

from collectors import sysfs
from collectors.about import About
from collectors.chips import ALARMS, CLASS, Chip, owned, parse_value, read_channel, read_chips, scaled
from machine import Machine, NotPresentError
from wire.facts import PowerDomain, PowerLimit, PowerMeter
from wire.report import Sample
from wire.text import clean

NAME = "power"
EVERY_S = 10.0
DEADLINE_S = 10.0

_POWERCAP = "/sys/class/powercap"
_ZONE = re.compile(r"[a-z][a-z0-9-]*(?::\d+)+")
_CONTROLS = ("intel-rapl", "intel-rapl-mmio", "dtpm")
_CONSTRAINT = re.compile(r"constraint_(\d+)_name")
_MICRO = 1e-6
_MOST_WATTS = 100_000.0
_METER = ("average_interval", "cap", "cap_min", "cap_max")

ABOUT = About(
    what="energy counters and limits per package, core and memory domain; power meters with their caps",
    source="`/sys/class/powercap`, `power*` of `/sys/class/hwmon`",
    privileges="root for energy counters",
    needs=(f"{_POWERCAP}/*:*/energy_uj",),
    metrics={"power.energy_joules": 1.0, "power.watts": 2.0},
)
# Zone -> counter as last read, and joules since the first reading: the counter itself wraps within minutes.
_counted: "WeakKeyDictionary[Machine, dict[str, tuple[float, float]]]" = WeakKeyDictionary()


def collect(machine: Machine) -> Iterator[PowerDomain | PowerMeter | Sample]:
    """Domains and meters with their numbers; raises NotPresentError where there are neither."""
    domains = read_domains(machine)
    meters = [(chip, channel) for chip in read_chips(machine) for channel in owned(chip, NAME)]
    if not domains and not meters:
        raise NotPresentError(f"no domain in {_POWERCAP}, no power meter in {CLASS}")
    for domain, folder in domains:
        yield domain
        joules = read_energy(machine, domain, folder)
        if joules is not None:
            yield Sample("power.energy_joules", domain.key, joules)
    for chip, channel in meters:
        attributes = read_channel(machine, chip, channel, _METER)
        meter = parse_meter(chip, channel, attributes)
        yield meter
        value = parse_value(channel, attributes)
        if value:  # a server that runs takes more than 0 W: the meter has measured nothing yet, or never does
            yield Sample("power.watts", meter.key, value)


def read_domains(machine: Machine) -> list[tuple[PowerDomain, str]]:
    """The zones of powercap with their folders; one that the memory-mapped interface repeats is there once."""
    folders = read_folders(machine, _POWERCAP)
    zones = list(folders)
    names = {zone: clean(sysfs.text(machine, f"{folder}/name")) for zone, folder in folders.items()}
    zones.sort(key=lambda zone: [(part.rjust(6) if part.isdecimal() else part) for part in zone.split(":")])
    paths = {zone: parse_path(zone, names) for zone in zones}
    if "intel-rapl" in {zone.partition(":")[0] for zone in zones}:
        told = {paths[zone] for zone in zones if zone.startswith("intel-rapl:")}
        zones = [zone for zone in zones if not zone.startswith("intel-rapl-mmio:") or paths[zone] not in told]
    alike = Counter(paths[zone] for zone in zones)
    keys = {zone: paths[zone] if alike[paths[zone]] == 1 else f"{paths[zone]} ({zone})" for zone in zones}
    return [(read_domain(machine, folders[zone], names[zone], keys[zone]), folders[zone]) for zone in zones]


def read_folders(machine: Machine, folder: str) -> dict[str, str]:
    """Zone -> folder: the class has them side by side; a tree that was copied has them one in another."""
    names = sysfs.names(machine, folder)
    zones = {name: f"{folder}/{name}" for name in names if _ZONE.fullmatch(name)}
    if zones and folder == _POWERCAP:
        return zones
    for name in names:
        if name in zones or name in _CONTROLS:
            zones |= read_folders(machine, f"{folder}/{name}")
    return zones


def parse_path(zone: str, names: Mapping[str, str]) -> str:
    """`package-1/dram` of `intel-rapl:0:1`; a zone without a name, or with none above it, is called by its number."""
    parts = zone.split(":")
    chain = [":".join(parts[: end + 1]) for end in range(1, len(parts))]
    return "/".join(names.get(above) or above for above in chain)


def read_domain(machine: Machine, folder: str, name: str, key: str) -> PowerDomain:
    """One zone with its limits."""
    wraps = sysfs.number(machine, f"{folder}/max_energy_range_uj")
    limits: list[PowerLimit] = []
    for file in sysfs.names(machine, folder):
        if found := _CONSTRAINT.fullmatch(file):
            start = f"{folder}/constraint_{found[1]}"
            limits.append(
                PowerLimit(
                    name=clean(sysfs.text(machine, f"{folder}/{file}")),
                    watts=parse_watts(sysfs.text(machine, f"{start}_power_limit_uw")),
                    max_watts=parse_watts(sysfs.text(machine, f"{start}_max_power_uw")),
                    window_s=parse_window(sysfs.text(machine, f"{start}_time_window_us")),
                )
            )
    enabled = sysfs.text(machine, f"{folder}/enabled")
    return PowerDomain(
        key=key,
        zone=folder.rpartition("/")[2],
        name=name,
        enabled={"0": False, "1": True}.get(enabled),
        wraps_at_j=round(wraps * _MICRO, 6) if wraps and wraps > 0 else None,
        limits=limits,
    )


def parse_watts(text: str) -> float | None:
    """Watts of microwatts; None for 0 (not set) and for what no domain takes."""
    number = sysfs.parse_number(text)
    watts = round(number * _MICRO, 6) if number is not None else 0.0
    return watts if 0 < watts < _MOST_WATTS else None


def parse_window(text: str) -> float | None:
    """Seconds of microseconds; None for 0."""
    number = sysfs.parse_number(text)
    return round(number * _MICRO, 6) if number is not None and number > 0 else None


def read_energy(machine: Machine, domain: PowerDomain, folder: str) -> float | None:
    """Joules that never fall while this process lives; None where the counter may not be read."""
    number = sysfs.number(machine, f"{folder}/energy_uj")
    if number is None or number < 0:
        return None
    counted = _counted.setdefault(machine, {})
    now = number * _MICRO
    before, total = counted.get(domain.zone, (now, now))
    total += spent(before, now, domain.wraps_at_j)
    counted[domain.zone] = (now, total)
    return round(total, 6)


def spent(before: float, now: float, wraps_at: float | None) -> float:
    """Joules between two readings, once round at most; a counter that fell with no end told has begun at 0 again."""
    if now >= before:
        return now - before
    return now + wraps_at - before if wraps_at and wraps_at >= before else now


def parse_meter(chip: Chip, channel: str, attributes: Mapping[str, str]) -> PowerMeter:
    """One meter; limits of 0 W and of more than a rack takes are none."""
    interval = sysfs.parse_number(attributes.get("average_interval", ""))
    limits = {
        name: scaled(channel, attributes.get(name, "")) or None for name in ("cap", "cap_min", "cap_max", "max", "crit")
    }
    rings = any(attributes.get(name) == "1" for name in ALARMS)
    return PowerMeter(
        key=f"{chip.key}/{channel}",
        chip=chip.name,
        channel=channel,
        label=clean(attributes.get("label", "")),
        interval_s=interval / 1000 if interval is not None and interval > 0 else None,
        cap_watts=limits["cap"],
        cap_min_watts=limits["cap_min"],
        cap_max_watts=limits["cap_max"],
        max_watts=limits["max"],
        crit_watts=limits["crit"],
        alarm=rings and any(limit is not None for limit in limits.values()),
    )
