"""PCI Express: payload and request sizes, access control, and the errors that devices and root ports count."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

from collectors import edges, pci, sysfs
from collectors.about import About, Cost
from machine import Machine, MachineError, NotPresentError, pciconfig
from machine.pciconfig import Express
from wire import text
from wire.facts import Pcie
from wire.report import Event, Sample, Severity

NAME = "pcie"
EVERY_S = 30.0
DEADLINE_S = 15.0

_DEVICES = "/sys/bus/pci/devices"
_SLOTS = "/sys/bus/pci/slots"
_COUNT = re.compile(r"(\w+) (\d+)")
SEVERITIES = ("correctable", "nonfatal", "fatal")
_TOTAL = re.compile(r"TOTAL_ERR_\w+")
_ROOT_FILES = {"correctable": "cor", "nonfatal": "nonfatal", "fatal": "fatal"}
_GRAVITY = {"correctable": Severity.INFO, "nonfatal": Severity.WARNING, "fatal": Severity.CRITICAL}
DEVICE_METRICS = {severity: f"pcie.{severity}_errors" for severity in SEVERITIES}
ROOT_METRICS = {severity: f"pcie.rootport_{severity}_errors" for severity in SEVERITIES}
# Reading a function's configuration is a thousand bus cycles, and what is read of it hardly changes: each 20th run.
RUNS_KEPT = 20


class _Held(NamedTuple):
    """What was read of a function, while which driver had it, and for how many runs it is still good."""

    driver: str
    runs: int
    express: Express | None


_held: "WeakKeyDictionary[Machine, dict[str, _Held]]" = WeakKeyDictionary()

ABOUT = About(
    what="PCI Express functions: payload and request sizes, ASPM, ACS; errors that AER counts, by device and root port",
    source="configuration space and `aer_*` in `/sys/bus/pci/devices`, `/sys/bus/pci/slots`",
    cost=Cost.SLOW,
    privileges="root for the configuration space",
    needs=("/sys/bus/pci/devices/*/config",),
    metrics=dict.fromkeys((*DEVICE_METRICS.values(), *ROOT_METRICS.values()), 0),
)


def collect(machine: Machine) -> Iterator[Pcie | Sample | Event]:
    """One `Pcie` per function, its counts, and an event when they rise; raises NotPresentError without PCI Express."""
    slots = read_slots(machine)
    found = [fact for name in sysfs.names(machine, _DEVICES) if (fact := read_function(machine, name, slots))]
    if not found:
        raise NotPresentError(f"no PCI Express function in {_DEVICES}")
    errors: dict[str, dict[str, dict[str, int]]] = {}
    roots: dict[str, dict[str, int]] = {}
    for fact in found:
        yield fact
        if fact.aer is not False:
            errors[fact.key] = read_errors(machine, fact.key)
            roots[fact.key] = read_root_errors(machine, fact.key)
            yield from _samples(fact.key, errors[fact.key], roots[fact.key])
    yield from device_events(machine, errors)
    yield from root_events(machine, roots)


def read_function(machine: Machine, address: str, slots: dict[str, str]) -> Pcie | None:
    """One function; None for conventional PCI, for a virtual function and for what went away meanwhile."""
    folder = f"{_DEVICES}/{address}"
    if not sysfs.PCI_ADDRESS.fullmatch(address) or sysfs.link_name(machine, f"{folder}/physfn"):
        return None
    express = read_express(machine, address)
    link = pci.read_link(machine, folder, "current")
    if express is None and link.speed_gts is None:
        return None
    parent = sysfs.resolve(machine, folder).rpartition("/")[0].rpartition("/")[2]
    fact = Pcie(
        key=address,
        parent=parent if sysfs.PCI_ADDRESS.fullmatch(parent) else "",
        slot=slots.get(address.rpartition(".")[0], ""),
        link_speed_gts=link.speed_gts,
        link_width=link.lanes,
    )
    return described(fact, express) if express else fact


def described(fact: Pcie, express: Express) -> Pcie:
    """The fact with what the configuration space says; the link's state is sysfs's where that tells it."""
    fact.type = express.type
    fact.max_payload_bytes = express.max_payload_bytes
    fact.max_payload_capable_bytes = express.max_payload_capable_bytes
    fact.max_read_request_bytes = express.max_read_request_bytes
    fact.relaxed_ordering = express.relaxed_ordering
    fact.extended_tag = express.extended_tag
    fact.no_snoop = express.no_snoop
    fact.aspm = express.aspm
    fact.acs = express.acs
    fact.aer = express.aer
    fact.aer_masked = express.aer_masked
    return fact


def read_express(machine: Machine, address: str) -> Express | None:
    """The function's PCI Express registers, some runs old; one that sleeps is not woken for them."""
    held = _held.setdefault(machine, {})
    known, driver = held.get(address), sysfs.link_name(machine, f"{_DEVICES}/{address}/driver")
    if known and known.driver == driver and known.runs > 0:
        held[address] = known._replace(runs=known.runs - 1)
        return known.express
    if sysfs.text(machine, f"{_DEVICES}/{address}/power/runtime_status") == "suspended":
        return known.express if known else None
    try:
        express = pciconfig.parse_express(machine.read_bytes(f"{_DEVICES}/{address}/config"))
    except MachineError:
        return None
    held[address] = _Held(driver, RUNS_KEPT, express)
    return express


def read_slots(machine: Machine) -> dict[str, str]:
    """Device without function (`0000:4b:00`) -> the slot's name on the board."""
    slots = {sysfs.text(machine, f"{_SLOTS}/{name}/address"): name for name in sysfs.names(machine, _SLOTS)}
    return {address: text.clean(name, 64) for address, name in slots.items() if address}


def read_errors(machine: Machine, address: str) -> dict[str, dict[str, int]]:
    """Severity -> kind -> count since boot, "" for the total; empty where the kernel does no AER."""
    files = {name: sysfs.text(machine, f"{_DEVICES}/{address}/aer_dev_{name}") for name in SEVERITIES}
    return {name: counts for name, said in files.items() if (counts := parse_errors(said))}


def parse_errors(said: str) -> dict[str, int]:
    """`RxErr 3` by line; the kernel's total under ""."""
    counts: dict[str, int] = {}
    for line in said.splitlines():
        if match := _COUNT.fullmatch(line.strip()):
            counts["" if _TOTAL.fullmatch(match[1]) else match[1]] = int(match[2])
    return counts


def read_root_errors(machine: Machine, address: str) -> dict[str, int]:
    """Severity -> error messages that a root port got from below since boot; empty for anything else."""
    folder = f"{_DEVICES}/{address}/aer_rootport_total_err_"
    found = {name: sysfs.number(machine, folder + file) for name, file in _ROOT_FILES.items()}
    return {name: count for name, count in found.items() if count is not None}


def _samples(key: str, errors: dict[str, dict[str, int]], root: dict[str, int]) -> Iterator[Sample]:
    for severity, counts in errors.items():
        yield Sample(DEVICE_METRICS[severity], key, counts.get("", sum(counts.values())))
    for severity, count in root.items():
        yield Sample(ROOT_METRICS[severity], key, count)


def device_events(machine: Machine, errors: dict[str, dict[str, dict[str, int]]]) -> Iterator[Event]:
    """One event per device and severity whose counts rose, with the kinds of error."""
    flat = {
        (key, severity, kind): count
        for key, found in errors.items()
        for severity, counts in found.items()
        for kind, count in counts.items()
    }
    risen: dict[tuple[str, str], Counter[str]] = {}
    for (key, severity, kind), by in edges.rises(machine, "pcie", flat).items():
        risen.setdefault((key, severity), Counter())[kind] += by
    for (key, severity), kinds in risen.items():
        total = kinds.pop("", 0) or sum(kinds.values())
        shown = ", ".join(f"{kind} {by}" for kind, by in sorted(kinds.items()))
        yield _event(
            key, severity, f"{total} {severity} PCIe errors of {key} ({shown or 'kind unknown'})", total, kinds
        )


def root_events(machine: Machine, roots: dict[str, dict[str, int]]) -> Iterator[Event]:
    """One event per root port and severity: of a fatal error, whose source may be beyond asking, all there is."""
    flat = {(key, severity): count for key, counts in roots.items() for severity, count in counts.items()}
    for (key, severity), by in edges.rises(machine, "pcie root port", flat).items():
        yield _event(key, severity, f"{by} {severity} PCIe errors reached root port {key} from below", by, {})


def _event(key: str, severity: str, said: str, total: int, kinds: dict[str, int]) -> Event:
    data: dict[str, str | int | float | bool | None] = {"severity": severity, "errors": total, **kinds}
    return Event(at_ms=0, kind="pcie.error", key=key, severity=_GRAVITY[severity], text=said, data=data)
