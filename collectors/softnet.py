"""The kernel's packet backlog: what each CPU took, dropped and could not finish, its settings, and irqbalance."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from collectors import sysfs
from collectors.about import About
from machine import Machine, MachineError, NotPresentError, irqbalance
from wire.cpulist import parse_cpulist
from wire.facts import Softnet
from wire.report import Sample

NAME = "softnet"
EVERY_S = 10.0
DEADLINE_S = 5.0

_CORE = "/proc/sys/net/core/"
_SOFTIRQ_S = re.compile(r"^cpu(\d+)(?: \d+){6} (\d+)", re.MULTILINE)
_USER_HZ = 100
# Zero counters of single CPUs are not sent: a large host has hundreds of them.
COUNTERS = ("dropped", "time_squeeze", "received_rps", "flow_limit")


class Row(NamedTuple):
    """One CPU's line of /proc/net/softnet_stat: packets, or times for time_squeeze."""

    cpu: int
    processed: int
    dropped: int
    time_squeeze: int
    received_rps: int
    flow_limit: int


ABOUT = About(
    what="backlog settings, irqbalance; what each CPU took and dropped",
    source="`/proc/net/softnet_stat`, `/proc/stat`, `/proc/sys/net/core`, irqbalance's socket",
    privileges="root for irqbalance",
    metrics={
        f"softnet.{name}": 0
        for name in ("processed", "dropped", "time_squeeze", "received_rps", "flow_limit", "softirq_seconds")
    },
)


def collect(machine: Machine) -> Iterator[Softnet | Sample]:
    """One `Softnet`, and samples per CPU; raises NotPresentError without /proc/net/softnet_stat."""
    rows = parse_softnet(machine.read("/proc/net/softnet_stat"), _online(machine))
    yield read_settings(machine)
    yield Sample("softnet.dropped", "", sum(row.dropped for row in rows))
    yield Sample("softnet.time_squeeze", "", sum(row.time_squeeze for row in rows))
    for row in rows:
        yield Sample("softnet.processed", f"cpu{row.cpu}", row.processed)
        for name in COUNTERS:
            if count := getattr(row, name):
                yield Sample(f"softnet.{name}", f"cpu{row.cpu}", count)
    for cpu, seconds in parse_softirq_times(sysfs.text(machine, "/proc/stat")).items():
        yield Sample("softnet.softirq_seconds", f"cpu{cpu}", seconds)


def parse_softnet(text: str, online: list[int]) -> list[Row]:
    """Rows of 9 to 15 hex columns by kernel; without a CPU column the n-th row is the n-th online CPU.

    Raises ValueError for what is no table of hex numbers.
    """
    rows: list[Row] = []
    for number, line in enumerate(line for line in text.splitlines() if line.strip()):
        columns = [int(word, 16) for word in line.split()]
        if len(columns) < 3:
            raise ValueError(f"softnet_stat line {number + 1} has {len(columns)} columns")
        cpu = columns[12] if len(columns) > 12 else dict(enumerate(online)).get(number, number)
        padded = columns + [0] * 11
        rows.append(Row(cpu, padded[0], padded[1], padded[2], padded[9], padded[10]))
    return rows


def parse_softirq_times(text: str) -> dict[int, float]:
    """CPU -> seconds in softirqs since boot, from /proc/stat (its ticks are 1/100 s to user space)."""
    return {int(cpu): int(ticks) / _USER_HZ for cpu, ticks in _SOFTIRQ_S.findall(text)}


def read_settings(machine: Machine) -> Softnet:
    """The sysctls, and whether irqbalance runs and which IRQs it was told to leave alone."""
    runs, banned = read_irqbalance(machine)
    return Softnet(
        rps_sock_flow_entries=sysfs.number(machine, _CORE + "rps_sock_flow_entries"),
        netdev_budget=sysfs.number(machine, _CORE + "netdev_budget"),
        netdev_budget_usecs=sysfs.number(machine, _CORE + "netdev_budget_usecs"),
        netdev_max_backlog=sysfs.number(machine, _CORE + "netdev_max_backlog"),
        busy_read_us=sysfs.number(machine, _CORE + "busy_read"),
        busy_poll_us=sysfs.number(machine, _CORE + "busy_poll"),
        irqbalance=runs,
        banned_irqs=banned,
    )


def read_irqbalance(machine: Machine) -> tuple[bool, list[int]]:
    """Whether irqbalance runs, and the IRQs it was told to leave alone, ascending; none when it does not answer."""
    try:
        return True, irqbalance.parse_setup(machine.irqbalance("setup")).banned_irqs
    except NotPresentError:
        return False, []
    except MachineError:
        return True, []


def _online(machine: Machine) -> list[int]:
    try:
        return parse_cpulist(sysfs.text(machine, "/sys/devices/system/cpu/online"))
    except ValueError:
        return []
