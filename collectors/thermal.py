"""Thermal zones with their trip points, what the kernel cools with, and how often CPUs were throttled for heat."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

from collectors import sysfs
from collectors.about import About
from collectors.blockdevices import natural, unique
from collectors.edges import rises
from machine import Machine, NotPresentError
from wire.facts import CoolingDevice, ThermalZone, Trip
from wire.report import Event, Sample, Severity
from wire.text import clean

NAME = "thermal"
EVERY_S = 30.0
DEADLINE_S = 10.0

_CLASS = "/sys/class/thermal"
_HWMON = "/sys/class/hwmon"
_CPUS = "/sys/devices/system/cpu"
_ZONE = re.compile(r"thermal_zone\d+")
_DEVICE = re.compile(r"cooling_device\d+")
_TRIP = re.compile(r"trip_point_(\d+)_type")
_BOUND = re.compile(r"cdev\d+")
_CPU = re.compile(r"cpu\d+")
_PLAUSIBLE_C = (-40.0, 200.0)
_TRIPS = {"passive": Severity.WARNING, "hot": Severity.CRITICAL, "critical": Severity.CRITICAL}  # "active" is a fan's
_ELSEWHERE = {"x86_pkg_temp": "coretemp"}  # zones whose temperature a chip of hwmon says already, with the cores'
_MANY = "Processor"  # the type of a cooling device per CPU
COUNTERS = {"core": "thermal.core_throttles", "package": "thermal.package_throttles"}
_TIME = "thermal.throttled_seconds"

ABOUT = About(
    what="thermal zones, trip points, cooling devices, throttling; events of trip points passed and of throttling",
    source="`/sys/class/thermal`, `cpuN/thermal_throttle`",
    metrics={
        "thermal.zone_celsius": 1.0,
        "thermal.cooling_state": 0,
        **dict.fromkeys(COUNTERS.values(), 0),
        _TIME: 0,
    },
)
_passed: "WeakKeyDictionary[Machine, dict[str, str]]" = WeakKeyDictionary()


class Throttled(NamedTuple):
    """Throttle counters since boot: by "package0" and by "package0/core3", and milliseconds per package."""

    packages: dict[str, int]
    cores: dict[str, int]
    times_ms: dict[str, int]


def collect(machine: Machine) -> Iterator[ThermalZone | CoolingDevice | Sample | Event]:
    """Zones, cooling devices, counters and what became of them; raises NotPresentError where there are none."""
    zones, devices, throttled = read_zones(machine), read_devices(machine), read_throttled(machine)
    if not zones and not devices and not throttled.packages and not throttled.cores:
        raise NotPresentError(f"no zone in {_CLASS}, no throttle counter in {_CPUS}")
    keys = {name: device.key for device, names in devices for name in names}
    chips = {sysfs.text(machine, f"{_HWMON}/{name}/name") for name in sysfs.names(machine, _HWMON)}
    for zone, bound in zones:
        zone.cooling = sorted({keys[name] for name in bound if name in keys})
        celsius = parse_celsius(sysfs.text(machine, f"{_CLASS}/{zone.zone}/temp"))
        events: list[Event] = []
        if celsius is not None and zone.mode != "disabled":
            if _ELSEWHERE.get(zone.type) not in chips:
                yield Sample("thermal.zone_celsius", zone.key, celsius)
            events += crossings(machine, zone, celsius)
            zone.passed = _passed[machine][zone.key]
        yield zone
        yield from events
    for device, names in devices:
        yield device
        states = [state for name in names if (state := sysfs.number(machine, f"{_CLASS}/{name}/cur_state")) is not None]
        if states:
            yield Sample("thermal.cooling_state", device.key, max(states))
    yield from throttling(machine, throttled)


def read_zones(machine: Machine) -> list[tuple[ThermalZone, list[str]]]:
    """The zones in the order of their numbers, each with the names of the cooling devices bound to it."""
    names = sorted(filter(_ZONE.fullmatch, sysfs.names(machine, _CLASS)), key=natural)
    found: list[tuple[ThermalZone, list[str]]] = []
    types = [clean(sysfs.text(machine, f"{_CLASS}/{name}/type")) for name in names]
    for name, kind, key in zip(names, types, unique(kind or "zone" for kind in types), strict=True):
        folder = f"{_CLASS}/{name}"
        files = sysfs.names(machine, folder)
        numbers = sorted(int(match[1]) for file in files if (match := _TRIP.fullmatch(file)))
        zone = ThermalZone(
            key=key,
            zone=name,
            type=kind,
            mode=clean(sysfs.text(machine, f"{folder}/mode")),
            policy=clean(sysfs.text(machine, f"{folder}/policy")),
            trips=[trip for number in numbers if (trip := read_trip(machine, f"{folder}/trip_point_{number}"))],
        )
        found.append((zone, [sysfs.link_name(machine, f"{folder}/{file}") for file in files if _BOUND.fullmatch(file)]))
    return found


def read_trip(machine: Machine, start: str) -> Trip | None:
    """One trip point; None for one that is switched off (0 and below) or at no temperature."""
    celsius = parse_celsius(sysfs.text(machine, f"{start}_temp"))
    hysteresis = parse_celsius(sysfs.text(machine, f"{start}_hyst"))
    if celsius is None or celsius <= 0:
        return None
    return Trip(type=clean(sysfs.text(machine, f"{start}_type")), celsius=celsius, hysteresis_c=hysteresis or None)


def parse_celsius(text: str) -> float | None:
    """°C of thousandths; None for what nothing in a server can be at."""
    number = sysfs.parse_number(text)
    low, high = _PLAUSIBLE_C
    return number / 1000 if number is not None and low < number / 1000 < high else None


def read_devices(machine: Machine) -> list[tuple[CoolingDevice, list[str]]]:
    """The cooling devices with their names; those that every CPU has are one."""
    names = sorted(filter(_DEVICE.fullmatch, sysfs.names(machine, _CLASS)), key=natural)
    kinds = {name: clean(sysfs.text(machine, f"{_CLASS}/{name}/type")) or "device" for name in names}
    groups = [[name] for name in names if kinds[name] != _MANY]
    many = [name for name in names if kinds[name] == _MANY]
    groups += [many] if many else []
    found: list[tuple[CoolingDevice, list[str]]] = []
    for group, key in zip(groups, unique(kinds[group[0]] for group in groups), strict=True):
        most = sysfs.number(machine, f"{_CLASS}/{group[0]}/max_state")
        kind = kinds[group[0]]
        found.append((CoolingDevice(key=key, device=group[0], type=kind, max_state=most, count=len(group)), group))
    return found


def crossings(machine: Machine, zone: ThermalZone, celsius: float) -> Iterator[Event]:
    """An event when the highest trip point that a zone has passed is another than in the last run."""
    before = _passed.setdefault(machine, {}).get(zone.key)
    now = highest(zone.trips, celsius, before or "")
    _passed[machine][zone.key] = now
    if before is None or now == before:
        return
    trip = next((trip for trip in zone.trips if trip.type == now), None)
    data: dict[str, str | int | float | bool | None] = {"celsius": celsius}
    if trip:
        text = f"{zone.key} at {celsius:g} °C is past its {now} trip point of {trip.celsius:g} °C"
        severity = _TRIPS[now] if _rank(now) > _rank(before) else Severity.INFO
        yield Event(at_ms=0, kind="thermal.trip", key=zone.key, severity=severity, text=text, data=data)
    else:
        text = f"{zone.key} at {celsius:g} °C is below its {before} trip point again"
        yield Event(at_ms=0, kind="thermal.cooled", key=zone.key, severity=Severity.INFO, text=text, data=data)


def highest(trips: Iterable[Trip], celsius: float, held: str) -> str:
    """The type of the worst trip point passed, "" for none; one that was passed holds until its hysteresis is over."""
    passed = [
        trip.type
        for trip in trips
        if trip.type in _TRIPS
        and celsius >= trip.celsius - ((trip.hysteresis_c or 0) if _rank(held) >= _rank(trip.type) else 0)
    ]
    return max(passed, key=_rank, default="")


def _rank(kind: str) -> int:
    return list(_TRIPS).index(kind) if kind in _TRIPS else -1


def read_throttled(machine: Machine) -> Throttled:
    """The most that any CPU counts for its package and its core: they count the same throttling."""
    counts = Throttled({}, {}, {})
    for cpu in filter(_CPU.fullmatch, sysfs.names(machine, _CPUS)):
        folder = f"{_CPUS}/{cpu}/thermal_throttle"
        package = sysfs.number(machine, f"{folder}/package_throttle_count")
        core = sysfs.number(machine, f"{folder}/core_throttle_count")
        if package is None and core is None:
            continue
        places = [
            sysfs.number(machine, f"{_CPUS}/{cpu}/topology/{name}") for name in ("physical_package_id", "core_id")
        ]
        where = f"package{places[0] if places[0] is not None else 0}"
        inside = f"{where}/core{places[1]}" if places[1] is not None else f"{where}/{cpu}"
        _most(counts.packages, where, package)
        _most(counts.cores, inside, core)
        _most(counts.times_ms, where, sysfs.number(machine, f"{folder}/package_throttle_total_time_ms"))
    return counts


def throttling(machine: Machine, counts: Throttled) -> Iterator[Sample | Event]:
    """Counters, of single cores only those that are not 0, and an event per package that was throttled since."""
    for key, count in counts.packages.items():
        yield Sample(COUNTERS["package"], key, count)
    for key, count in counts.cores.items():
        if count:
            yield Sample(COUNTERS["core"], key, count)
    for key, milliseconds in counts.times_ms.items():
        yield Sample(_TIME, key, milliseconds / 1000)
    cores = Counter(key.partition("/")[0] for key in rises(machine, "throttled cores", counts.cores))
    packages = rises(machine, "throttled packages", counts.packages)
    for key in sorted({*cores, *packages}):
        yield throttle_event(key, cores[key], packages.get(key, 0))


def throttle_event(package: str, cores: int, times: int) -> Event:
    """One line of how a package was throttled."""
    what = [f"{times} times" if times > 1 else "once"] if times else []
    what += [f"{cores} of its cores"] if cores else []
    text = f"{package} was throttled for heat: {', '.join(what)}"
    data: dict[str, str | int | float | bool | None] = {"package": times, "cores": cores}
    return Event(at_ms=0, kind="thermal.throttled", key=package, severity=Severity.WARNING, text=text, data=data)


def _most(counts: dict[str, int], key: str, count: int | None) -> None:
    if count is not None:
        counts[key] = max(counts.get(key, 0), count)
