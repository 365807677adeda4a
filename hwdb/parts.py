"""A host's parts in a few words each: modules, drives, power, cooling, firmware, trust, BMC; a rack device's own."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from hwdb import net_parts
from hwdb.store_events import LatestEntry
from hwdb.words import decimal_size, size
from tuners.hostfacts import HostFacts
from wire.facts import (
    Bank,
    Bmc,
    BmcSensor,
    Bond,
    Clock,
    Cpufreq,
    Device,
    Dimm,
    Disk,
    DriveHealth,
    Fan,
    Firmware,
    Hwmon,
    Outlet,
    Passthrough,
    Port,
    PowerMeter,
    Probe,
    Psu,
    Rdma,
    Trust,
    Ups,
    Virt,
)

Values = Mapping[tuple[str, str], float]  # newest sample by metric and key
MOST = 6  # items of one line; the rest is a count


def newest(samples: Iterable[LatestEntry]) -> Values:
    """The values by metric and key."""
    return {(one.metric, one.key): one.value for one in samples}


def lines(facts: HostFacts, values: Values) -> list[tuple[str, str]]:
    """Label and text of every part that the host says something of; a label stands once."""
    found: list[tuple[str, str]] = []
    for label, tell in PARTS:
        for at, text in enumerate(filter(None, tell(facts, values))):
            found.append((label if at == 0 else "", text))
    return found


def _device(facts: HostFacts, _values: Values) -> list[str]:
    return [
        _joined(
            " ".join(filter(None, (one.category, one.vendor, one.model))),
            _named("serial", one.serial),
            _named("firmware", one.firmware),
            one.location,
        )
        for one in facts.of(Device)
    ]


def _ups(facts: HostFacts, _values: Values) -> list[str]:
    return [_joined(_named("output", one.output), _named("battery", one.battery)) for one in facts.of(Ups)]


def _outlets(facts: HostFacts, _values: Values) -> list[str]:
    states = Counter(one.state or "not said" for one in facts.of(Outlet))
    return [", ".join(f"{count} {state}" for state, count in sorted(states.items()))] if states else []


def _banks(facts: HostFacts, _values: Values) -> list[str]:
    told = [" ".join(filter(None, (one.name or one.key, one.state, one.load))) for one in facts.of(Bank)]
    return [some(told)] if told else []


def _probes(facts: HostFacts, values: Values) -> list[str]:
    told = [
        " ".join(filter(None, (one.name or one.key, one.state, _reading(values, "snmp.", one.key))))
        for one in facts.of(Probe)
    ]
    return [some(told)] if told else []


def _ports(facts: HostFacts, _values: Values) -> list[str]:
    ports = [one for one in facts.of(Port) if one.admin == "up"]
    down = [one.name or one.key for one in ports if one.oper != "up"]
    return [_joined(f"{len(ports) - len(down)} up", _named("down", some(down)))] if ports else []


def _modules(facts: HostFacts, values: Values) -> list[str]:
    slots = facts.of(Dimm)
    full = [one for one in slots if one.populated]
    kinds = Counter(
        " ".join(filter(None, (size((one.size_mib or 0) * 1024), _speed(one), one.vendor, one.part))) for one in full
    )
    errors = [
        f"{one.locator or one.key}: {count:g} {word} errors"
        for one in slots
        for word in ("corrected", "uncorrected")
        if (count := values.get((f"edac.{word}_errors", one.key), 0))
    ]
    told = [f"{count} x {kind}" for kind, count in kinds.most_common()]
    return [_joined(f"{len(full)} of {len(slots)} slots", *told, *errors)] if slots else []


def _speed(one: Dimm) -> str:
    return f"{one.type}-{one.configured_mts or one.speed_mts}" if one.configured_mts or one.speed_mts else one.type


def _drives(facts: HostFacts, _values: Values) -> list[str]:
    health = {one.key: one for one in facts.of(DriveHealth)} | {one.name: one for one in facts.of(DriveHealth)}
    kinds: dict[str, list[Disk]] = {}
    for disk in facts.of(Disk):
        words = (disk.model or disk.vendor, decimal_size(disk.size_bytes), disk.transport)
        kinds.setdefault(" ".join(filter(None, words)), []).append(disk)
    return [
        _joined(
            f"{len(disks)} x {kind}",
            some([disk.name for disk in disks]),
            _named("firmware", "/".join(sorted({disk.firmware for disk in disks if disk.firmware}))),
            _verdicts(
                one for disk in disks if (one := health.get(disk.key) or health.get(disk.name.partition("n1")[0]))
            ),
        )
        for kind, disks in sorted(kinds.items())
    ]


def _verdicts(told: Iterable[DriveHealth]) -> str:
    health = list(told)
    counts = Counter(one.verdict for one in health)
    reasons = [f"{one.name}: {one.reason}" for one in health if one.reason]
    return _joined(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())), some(reasons))


def _power(facts: HostFacts, values: Values) -> list[str]:
    meters = [
        " ".join(filter(None, (one.label or one.chip, _reading(values, "power.", one.key))))
        for one in facts.of(PowerMeter)
    ]
    supplies = [
        " ".join(filter(None, (one.label or one.key, one.model, _watts(one.max_watts), _supply(one))))
        for one in facts.of(Psu)
    ]
    freq = facts.of(Cpufreq)
    governors = {policy.governor for one in freq for policy in one.policies if policy.governor}
    turbo = {True: "turbo on", False: "turbo off", None: ""}[freq[0].turbo] if freq else ""
    speed = _joined(_named("governor", "/".join(sorted(governors))), turbo)
    return [_joined(some(meters), some(supplies)), speed]


def _supply(one: Psu) -> str:
    if one.present is False:
        return "absent"
    return "/".join(one.alarms) or ("unplugged" if one.plugged is False else one.status)


def _cooling(facts: HostFacts, values: Values) -> list[str]:
    fans = [value for (metric, _), value in values.items() if metric.endswith(".fan_rpm") or metric == "fans.rpm"]
    temps = [value for (metric, _), value in values.items() if metric.endswith((".temp_celsius", ".zone_celsius"))]
    bad = [one.label or one.key for one in facts.of(Fan) if one.alarm or one.fault or one.present is False]
    turns = f"{len(fans)} fans {_span(fans)} rpm" if fans else ""
    return [
        _joined(turns, f"{len(temps)} temperatures {_span(temps)} °C" if temps else "", _named("failed", some(bad)))
    ]


def _alarms(facts: HostFacts, values: Values) -> list[str]:
    here = [f"{one.label or one.key} {_reading(values, 'hwmon.', one.key)}" for one in facts.of(Hwmon) if one.alarm]
    bmc = [f"{one.name} {one.status}" for one in facts.of(BmcSensor) if one.status in ("warning", "critical")]
    return [some([text.strip() for text in (*here, *bmc)])]


def _firmware(facts: HostFacts, _values: Values) -> list[str]:
    kinds: dict[str, Counter[str]] = {}
    for one in facts.of(Firmware):
        if one.running and one.type in ("bios", "nic", "nvme", "drive"):
            kinds.setdefault(one.type, Counter())[f"{one.name} {one.running}".strip()] += 1
    told = [
        some([name if count == 1 else f"{count} x {name}" for name, count in sorted(versions.items())])
        for _, versions in sorted(kinds.items())
    ]
    return [_joined(*told)]


def _trust(facts: HostFacts, _values: Values) -> list[str]:
    return [
        _joined(
            f"TPM {one.tpm}" if one.tpm else "no TPM",
            {True: "Secure Boot", False: "no Secure Boot", None: ""}[one.secure_boot],
            _named("lockdown", one.lockdown if one.lockdown != "none" else ""),
            "IOMMU on" if one.iommu else "IOMMU off",
            _named("microcode", "/".join(one.microcode)),
            _named("tainted", some(one.taint)),
            _named("opened", some(one.intrusion)),
        )
        for one in facts.of(Trust)
    ]


def _bonds(facts: HostFacts, _values: Values) -> list[str]:
    return [net_parts.bond_line(one) for one in facts.of(Bond)][:MOST]


def _virtual(facts: HostFacts, _values: Values) -> list[str]:
    shared = [net_parts.virt_line(one) for one in facts.of(Virt) if one.vfs or one.representors]
    return [*shared[:MOST], net_parts.given_line(facts.of(Passthrough))]


def _rdma(facts: HostFacts, _values: Values) -> list[str]:
    return [net_parts.rdma_line(one) for one in facts.of(Rdma)][:MOST]


def _clock(facts: HostFacts, _values: Values) -> list[str]:
    said = {True: "synchronised", False: "not synchronised", None: ""}
    return [_joined(one.source, said[one.synchronised]) for one in facts.of(Clock)]


def _bmc(facts: HostFacts, values: Values) -> list[str]:
    return [
        _joined(
            one.address or one.mac,
            " ".join(filter(None, (one.manufacturer, one.model, one.version))),
            _named("power", one.power),
            one.health,
            "does not answer" if one.sick else "",
            "chassis open" if one.intrusion else "",
            _named("faults", some(one.faults)),
            "event log full" if one.sel_overflow else _log(values),
        )
        for one in facts.of(Bmc)
    ]


def _log(values: Values) -> str:
    counts = [value for (metric, _), value in values.items() if metric.endswith(".sel_entries")]
    return f"{counts[0]:g} in the event log" if counts else ""


def _reading(values: Values, family: str, key: str) -> str:
    """A component's newest values of one family of metrics, with the unit that ends the metric's name."""
    found = {metric: value for (metric, of_key), value in values.items() if of_key == key and metric.startswith(family)}
    return " ".join(f"{value:.4g} {UNITS.get(_ending(metric), '')}".strip() for metric, value in found.items())


def _ending(metric: str) -> str:
    return metric.replace(".", "_").rpartition("_")[2]


def _watts(watts: float | None) -> str:
    return f"{watts:g} W" if watts is not None else ""


def _span(found: Sequence[float]) -> str:
    low, high = min(found), max(found)
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"


def _named(label: str, text: str) -> str:
    return f"{label} {text}" if text else ""


def some(items: Sequence[str]) -> str:
    """The first few, and how many there are besides."""
    more = [f"{len(items) - MOST} more"] if len(items) > MOST else []
    return ", ".join([*items[:MOST], *more])


def _joined(*parts: str) -> str:
    return " · ".join(filter(None, parts))


UNITS = {"celsius": "°C", "watts": "W", "rpm": "rpm", "volts": "V", "amps": "A", "percent": "%", "dbm": "dBm"}
PARTS: tuple[tuple[str, Callable[[HostFacts, Values], list[str]]], ...] = (
    ("device", _device),
    ("ups", _ups),
    ("outlets", _outlets),
    ("banks", _banks),
    ("probes", _probes),
    ("ports", _ports),
    ("modules", _modules),
    ("drives", _drives),
    ("bonds", _bonds),
    ("virtual", _virtual),
    ("RDMA", _rdma),
    ("power", _power),
    ("cooling", _cooling),
    ("alarms", _alarms),
    ("firmware", _firmware),
    ("trust", _trust),
    ("clock", _clock),
    ("BMC", _bmc),
)
