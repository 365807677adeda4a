"""Boot parameters that matter to tuning, read as the kernel reads them."""

import enum
import re
from collections.abc import Iterator
from typing import NamedTuple

from collectors.about import About
from machine import Machine
from wire.facts import Cmdline
from wire.text import clean

NAME = "cmdline"
EVERY_S = 60.0
DEADLINE_S = 5.0

FILE = "/proc/cmdline"
VALUE_MOST = 1024  # a list of many CPUs is long, and the kernel takes 2048 characters in all


class Repeated(enum.Enum):
    """What the kernel makes of a parameter that is given again."""

    LAST = "last"  # the last one counts
    FIRST = "first"  # a later one that differs is refused
    ADDS = "adds"  # all count


_ROWS: tuple[tuple[Repeated, tuple[str, ...]], ...] = (
    (Repeated.LAST, ("amd_pstate", "intel_pstate", "intel_idle.max_cstate", "processor.max_cstate", "idle", "nohlt")),
    (Repeated.LAST, ("cpufreq.default_governor", "cpuidle.governor", "cpuidle.off", "workqueue.power_efficient")),
    (Repeated.LAST, ("clocksource", "nohz", "rcu_nocbs", "rcu_nocb_poll", "skew_tick", "nmi_watchdog")),
    (
        Repeated.LAST,
        ("nosoftlockup", "nowatchdog", "irqaffinity", "kthread_cpus", "threadirqs", "noirqbalance", "preempt"),
    ),
    (Repeated.LAST, ("mitigations", "nopti", "spectre_v2", "tsx", "nosmt", "mce", "lockdown", "module.sig_enforce")),
    (Repeated.LAST, ("audit", "selinux", "apparmor", "init_on_alloc", "init_on_free", "randomize_kstack_offset")),
    (Repeated.LAST, ("default_hugepagesz", "transparent_hugepage", "numa", "numa_balancing", "swiotlb", "maxcpus")),
    (Repeated.LAST, ("nr_cpus", "pcie_aspm", "pcie_aspm.policy", "pcie_port_pm", "iommu.strict", "iommu.passthrough")),
    (Repeated.LAST, ("nvme_core.default_ps_max_latency_us", "nvme.poll_queues")),
    (Repeated.FIRST, ("isolcpus", "nohz_full")),
    (
        Repeated.ADDS,
        ("intel_iommu", "amd_iommu", "iommu", "pci", "tsc", "hugepages", "hugepagesz", "cma", "movablecore"),
    ),
    (Repeated.ADDS, ("kernelcore", "vfio_pci.ids")),
)
PARAMETERS = {name: repeated for repeated, names in _ROWS for name in names}
_SIZE = re.compile(r"(\d{1,12})([kKmMgGtT]?)[bB]?")
_SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_PAGES = re.compile(r"\d{1,12}|\d{1,4}:\d{1,12}(?:,\d{1,4}:\d{1,12})*")


class Parameter(NamedTuple):
    """One parameter: its name with "_" for "-", which the kernel holds for the same, and its value."""

    name: str
    value: str | None  # None where there is no "="


ABOUT = About(what="boot parameters that matter to tuning, and which of them count", source="`/proc/cmdline`")


def collect(machine: Machine) -> Iterator[Cmdline]:
    """One `Cmdline`, empty where no parameter matters; raises NotPresentError where there is no such file."""
    yield described(parse_cmdline(machine.read(FILE)))


def described(parameters: list[Parameter]) -> Cmdline:
    """The parameters of the table; the whole text is in the facts about the system."""
    given: dict[str, list[str]] = {}
    for parameter in parameters:
        if parameter.name in PARAMETERS:
            given.setdefault(parameter.name, []).append(clean(parameter.value or "", VALUE_MOST))
    effective = {name: counting(name, values) for name, values in given.items()}
    return Cmdline(given=given, effective=effective, hugepages=parse_hugepages(parameters))


def counting(name: str, values: list[str]) -> str:
    """The value that counts of several."""
    match PARAMETERS[name]:
        case Repeated.LAST:
            return values[-1]
        case Repeated.FIRST:
            return values[0]
        case Repeated.ADDS:
            return ",".join(values)


def parse_cmdline(text: str) -> list[Parameter]:
    """The kernel's own parameters in their order; what follows `--` is for init."""
    found: list[Parameter] = []
    for word in split(text):
        if word == "--":
            break
        name, equals, value = _parted(word)
        found.append(Parameter(name.replace("-", "_"), value if equals else None))
    return found


def split(text: str) -> Iterator[str]:
    """Words between white space that is not in double quotes; the quotes still in them."""
    word: list[str] = []
    quoted = False
    for letter in text:
        if letter == '"':
            quoted = not quoted
        if letter.isspace() and not quoted:
            if word:
                yield "".join(word)
            word = []
        else:
            word.append(letter)
    if word:
        yield "".join(word)


def _parted(word: str) -> tuple[str, str, str]:
    """Name, "=" or "", value: of quotes only the pair around the whole word or around the value goes."""
    if whole := word.startswith('"'):
        word = word[1:]
    name, equals, value = word.partition("=") if word.find("=") > 0 else (word, "", "")
    if equals and value.startswith('"'):
        value = value[1:].removesuffix('"')
    elif whole and equals:
        value = value.removesuffix('"')
    elif whole:
        name = name.removesuffix('"')
    return name, equals, value


def parse_hugepages(parameters: list[Parameter]) -> dict[str, str]:
    """Page size -> how many, or how many per node: `hugepages` is about the `hugepagesz` before it, else the default.

    The first of several for one size counts.
    """
    size = "default"
    reserved: dict[str, str] = {}
    for name, value in parameters:
        if name == "hugepagesz":
            size = parse_size(value or "")
        elif name == "hugepages" and size and value and _PAGES.fullmatch(value):
            reserved.setdefault(size, value)
    return reserved


def parse_size(text: str) -> str:
    """`1048576K` as "1G": the largest unit that leaves a whole number; "" for what is no size."""
    match = _SIZE.fullmatch(text)
    size = int(match[1]) << _SHIFTS[match[2].lower()] if match else 0
    units = [(name.upper(), shift) for name, shift in _SHIFTS.items() if size and size % (1 << shift) == 0]
    return f"{size >> units[-1][1]}{units[-1][0]}" if units else ""
