"""Machine checks: how the CPUs are set up to report them, and how often they did."""

import re
from collections.abc import Iterator

from collectors import edges, sysfs
from collectors.about import About
from collectors.interrupts import parse_named
from machine import Machine, NotPresentError
from wire.facts import Mce
from wire.report import Event, Sample, Severity

NAME = "mce"
EVERY_S = 30.0
DEADLINE_S = 5.0

_SETUP = "/sys/devices/system/machinecheck"
_CPU = re.compile(r"machinecheck\d+")
_BANK = re.compile(r"bank(\d+)")
# Rows of /proc/interrupts: exceptions are uncorrected errors, threshold and deferred ones tell of corrected and of
# poisoned data. MCP is left out: it counts how often the kernel looked.
ROWS = {"MCE": "mce.exceptions", "THR": "mce.threshold_interrupts", "DFR": "mce.deferred_interrupts"}
_ERRORS = {
    "mce.exceptions": ("machine check exceptions", Severity.CRITICAL),
    "mce.deferred_interrupts": ("deferred machine checks", Severity.WARNING),
    "mce.threshold_interrupts": ("interrupts for corrected machine checks", Severity.INFO),
}

ABOUT = About(
    what="machine checks: banks, polling, what is hidden; exceptions, threshold and deferred interrupts",
    source="`/sys/devices/system/machinecheck`, `/proc/interrupts`",
    metrics=dict.fromkeys(ROWS.values(), 0),
)


def collect(machine: Machine) -> Iterator[Mce | Sample | Event]:
    """One `Mce`, the host's counts, and an event when one rises; raises NotPresentError without machine checks."""
    cpus = [name for name in sysfs.names(machine, _SETUP) if _CPU.fullmatch(name)]
    rows = parse_named(sysfs.text(machine, "/proc/interrupts"))
    counts = {metric: rows[label] for label, metric in ROWS.items() if label in rows}
    if not cpus and not counts:
        raise NotPresentError(f"no machine check in {_SETUP} and /proc/interrupts")
    yield read_setup(machine, cpus)
    yield from (Sample(metric, "", sum(count.values())) for metric, count in counts.items())
    yield from check_events(machine, counts)


def read_setup(machine: Machine, cpus: list[str]) -> Mce:
    """What the first CPU's files say: the settings are those of all, banks are alike but on hybrid CPUs."""
    folder = f"{_SETUP}/{min(cpus, key=lambda name: (len(name), name), default='machinecheck0')}"
    found = {int(match[1]): name for name in sysfs.names(machine, folder) if (match := _BANK.fullmatch(name))}
    return Mce(
        banks=len(found) or None,
        disabled_banks=[at for at in sorted(found) if sysfs.text(machine, f"{folder}/{found[at]}") == "0"],
        poll_s=sysfs.number(machine, f"{folder}/check_interval"),
        ignore_corrected=_flag(machine, f"{folder}/ignore_ce"),
        hide_corrected=_flag(machine, f"{folder}/dont_log_ce"),
        cmci_disabled=_flag(machine, f"{folder}/cmci_disabled"),
    )


def check_events(machine: Machine, counts: dict[str, dict[int, int]]) -> Iterator[Event]:
    """One event per kind that rose, with the CPUs on which it did."""
    flat = {(metric, cpu): count for metric in _ERRORS for cpu, count in counts.get(metric, {}).items()}
    risen: dict[str, dict[int, int]] = {}
    for (metric, cpu), by in edges.rises(machine, "mce", flat).items():
        risen.setdefault(metric, {})[cpu] = by
    for metric, cpus in risen.items():
        words, severity = _ERRORS[metric]
        total, shown = sum(cpus.values()), ",".join(str(cpu) for cpu in sorted(cpus))
        yield Event(
            at_ms=0,
            kind="mce.error",
            severity=severity,
            text=f"{total} {words} on CPU {shown}",
            data={"metric": metric, "errors": total, "cpus": shown},
        )


def _flag(machine: Machine, path: str) -> bool | None:
    value = sysfs.number(machine, path)
    return None if value is None else bool(value)
