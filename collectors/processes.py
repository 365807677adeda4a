"""Processes that stay, with the CPUs their threads may run on: who can be given cores of its own."""

from collections.abc import Iterator
from typing import NamedTuple

from collectors import sysfs
from collectors.about import About, Cost
from collectors.slices import read_cgroup
from machine import Machine, NotPresentError
from wire.facts import Process, Processes
from wire.text import clean

NAME = "processes"
EVERY_S = 900.0
DEADLINE_S = 30.0

MOST = 512
LEAST_AGE_S = 10
_TICKS = 100  # USER_HZ, the same on every architecture of Linux's /proc but alpha and ia64
_KERNEL_THREAD = 0x0020_0000  # PF_KTHREAD in field 9 of stat

ABOUT = About(
    what="processes older than ten seconds: name, cgroup, the CPUs of their threads",
    source="`/proc/PID/stat`, `cgroup`, `task/TID/status`",
    cost=Cost.SLOW,
)


class Stat(NamedTuple):
    """What of /proc/PID/stat is used."""

    comm: str
    kernel: bool
    start: int


def collect(machine: Machine) -> Iterator[Processes]:
    """One `Processes`; raises NotPresentError without /proc/uptime."""
    uptime = sysfs.text(machine, "/proc/uptime").partition(".")[0]
    if not uptime.isdecimal():
        raise NotPresentError("/proc/uptime does not say how long the machine is up")
    found: list[Process] = []
    left_out = 0
    for pid in sorted(map(int, filter(str.isdecimal, sysfs.names(machine, "/proc")))):
        stat = parse_stat(sysfs.text(machine, f"/proc/{pid}/stat"))
        if stat is None or stat.kernel or int(uptime) - stat.start // _TICKS < LEAST_AGE_S:
            continue
        if len(found) >= MOST:
            left_out += 1
        elif threads := read_threads(machine, pid):
            cgroup = clean(read_cgroup(machine, str(pid)))
            found.append(Process(pid=pid, start=stat.start, comm=clean(stat.comm), cgroup=cgroup, threads=threads))
    yield Processes(processes=found, left_out=left_out)


def parse_stat(text: str) -> Stat | None:
    """Name, whether it is the kernel's own, start in ticks; None for what is no such line. The name may hold `)`."""
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    if len(fields) < 20 or not (fields[6].isdecimal() and fields[19].isdecimal()):
        return None
    return Stat(head.partition("(")[2], bool(int(fields[6]) & _KERNEL_THREAD), int(fields[19]))


def read_threads(machine: Machine, pid: int) -> dict[str, list[int]]:
    """CPU list -> the threads that may run there; threads that end meanwhile are left out."""
    found: dict[str, list[int]] = {}
    for name in filter(str.isdecimal, sysfs.names(machine, f"/proc/{pid}/task")):
        if cpus := parse_allowed(sysfs.text(machine, f"/proc/{pid}/task/{name}/status")):
            found.setdefault(cpus, []).append(int(name))
    return {cpus: sorted(found[cpus]) for cpus in sorted(found)}


def parse_allowed(text: str) -> str:
    """Cpus_allowed_list of a status file; "" when it does not say."""
    line = next((line for line in text.splitlines() if line.startswith("Cpus_allowed_list:")), "")
    return sysfs.normal_cpulist(line.partition(":")[2])
