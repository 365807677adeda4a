"""What a process and its children use: PSS and CPU time, from /proc."""

import os
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """PSS and anonymous memory in MiB, CPU time in seconds since the start."""

    pss_mib: float
    anon_mib: float
    cpu_s: float


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        children = (task / "children").read_text().split()
        found += [grandchild for child in children for grandchild in tree(int(child))]
    return found


def smaps_mib(pid: int, field: str) -> float:
    """One field of smaps_rollup, in MiB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    line = next(line for line in rollup.splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024


def cpu_s(pid: int) -> float:
    """Seconds on a CPU of all threads, with waited-for children (they ran for it too)."""
    on_cpu = sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9
    stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    reaped = (int(stat[13]) + int(stat[14])) / os.sysconf("SC_CLK_TCK")
    return on_cpu + reaped


def usage(pid: int) -> Usage:
    """The sums over the process and its descendants."""
    pids = tree(pid)
    return Usage(
        sum(smaps_mib(each, "Pss") for each in pids),
        sum(smaps_mib(each, "Anonymous") for each in pids),
        sum(cpu_s(each) for each in pids),
    )
