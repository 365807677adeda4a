"""How busy the host is: CPU time, memory, swap, disk traffic and load, from /proc."""

import os
import re
from collections.abc import Iterator

from collectors import sysfs
from machine import Machine, NotPresentError
from wire.report import Sample

NAME = "load"
EVERY_S = 10.0
DEADLINE_S = 5.0

# Times and counters are cumulative: a rate needs two reports, never state here.
CPU = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
STAT = {"ctxt": "load.context_switches", "intr": "load.interrupts"}
SWAPPED = {"pswpin": "load.swap_in_bytes", "pswpout": "load.swap_out_bytes"}
# Column of /proc/diskstats -> metric, and what one of its units is.
DISKS = {
    5: ("load.disk_read_bytes", 512),
    9: ("load.disk_write_bytes", 512),
    3: ("load.disk_reads", 1),
    7: ("load.disk_writes", 1),
    12: ("load.disk_busy_ms", 1),
}
AVERAGES = ("load.average_1min", "load.average_5min", "load.average_15min")

_USER_HZ = 100
_CPU = re.compile(r"cpu  (\d[\d ]*)$", re.MULTILINE)
_STAT = re.compile(r"^(ctxt|intr) (\d+)", re.MULTILINE)
_MEMORY = re.compile(r"^((?:Mem|Swap)(?:Total|Free)|MemAvailable|Cached|SReclaimable): +(\d+) kB", re.MULTILINE)
_SWAPPED = re.compile(r"^(pswpin|pswpout) (\d+)", re.MULTILINE)


def collect(machine: Machine) -> Iterator[Sample]:
    """Gauges and cumulative counters of the whole host; raises NotPresentError without any of the files."""
    stat, memory, swapped, disks, averages = (
        sysfs.text(machine, f"/proc/{name}") for name in ("stat", "meminfo", "vmstat", "diskstats", "loadavg")
    )
    if not (stat or memory or swapped or disks or averages):
        raise NotPresentError("/proc says nothing about this machine")
    yield from parse_stat(stat)
    yield from parse_memory(memory)
    yield from parse_swapped(swapped)
    yield from parse_disks(disks, sysfs.names(machine, "/sys/block"))
    yield from parse_averages(averages)


def parse_stat(text: str) -> Iterator[Sample]:
    """CPU seconds of all CPUs together (the kernel's ticks are 1/100 s to user space), and what they were kept from."""
    if found := _CPU.match(text):
        for state, ticks in zip(CPU, found[1].split(), strict=False):
            yield Sample(f"load.cpu_{state}_seconds", "", int(ticks) / _USER_HZ)
    for name, count in _STAT.findall(text):
        yield Sample(STAT[name], "", int(count))


def parse_memory(text: str) -> Iterator[Sample]:
    """Bytes, as `free` counts them; before kernel 3.14 nobody says what is available."""
    held = {name: int(kb) * 1024 for name, kb in _MEMORY.findall(text)}
    if "MemAvailable" in held:
        yield Sample("load.memory_available_bytes", "", held["MemAvailable"])
        yield Sample("load.memory_used_bytes", "", held.get("MemTotal", 0) - held["MemAvailable"])
    if "MemFree" in held:
        yield Sample("load.memory_free_bytes", "", held["MemFree"])
        yield Sample("load.memory_cached_bytes", "", held.get("Cached", 0) + held.get("SReclaimable", 0))
    if "SwapTotal" in held:
        yield Sample("load.swap_used_bytes", "", held["SwapTotal"] - held.get("SwapFree", 0))


def parse_swapped(text: str) -> Iterator[Sample]:
    """Bytes to and from swap since boot; the kernel counts pages."""
    page = os.sysconf("SC_PAGE_SIZE")
    return (Sample(SWAPPED[name], "", int(pages) * page) for name, pages in _SWAPPED.findall(text))


def parse_disks(text: str, names: list[str]) -> Iterator[Sample]:
    """Sums over the whole disks: `names` are those of /sys/block, where a partition has no entry. Raises ValueError."""
    disks = {name.replace("!", "/") for name in names}
    lines = [columns for line in text.splitlines() if len(columns := line.split()) >= 14 and columns[2] in disks]
    if lines:
        for column, (metric, unit) in DISKS.items():
            yield Sample(metric, "", sum(int(columns[column]) for columns in lines) * unit)


def parse_averages(text: str) -> Iterator[Sample]:
    """Runnable and blocked tasks, averaged over three spans. Raises ValueError."""
    return (Sample(metric, "", float(value)) for metric, value in zip(AVERAGES, text.split()[:3], strict=False))
