"""What systemd runs: slices, services and scopes with the CPUs and memory nodes their cgroups may use."""

import re
from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About, Cost
from machine import Machine, NotPresentError
from wire.facts import Slices, Unit

NAME = "slices"
EVERY_S = 300.0
DEADLINE_S = 20.0

ROOT = "/sys/fs/cgroup"
_UNIT = re.compile(r"[^/]+\.(?:slice|service|scope)")
_DEPTH = 4
_MOST = 1024
_SERVERS = ("sshd", "dropbear")  # names of processes that a person comes in by
_WORKQUEUES = "/sys/devices/virtual/workqueue/cpumask"

ABOUT = About(
    what="slices, services and scopes with their CPUs and memory nodes, cpuset partitions, workqueues' CPUs",
    source="`/sys/fs/cgroup` (v2), `/sys/devices/virtual/workqueue`",
    cost=Cost.SLOW,
)


def collect(machine: Machine) -> Iterator[Slices]:
    """One `Slices`; raises NotPresentError where cgroup v2 is not what systemd uses."""
    controllers = sysfs.text(machine, f"{ROOT}/cgroup.controllers").split()
    if not controllers or "system" not in sysfs.names(machine, "/run/systemd"):
        raise NotPresentError(f"no systemd with cgroup v2 at {ROOT}")
    units = [read_unit(machine, path) for path in sorted(read_paths(machine, "", _DEPTH))[:_MOST]]
    yield Slices(
        units=units,
        cpuset="cpuset" in controllers,
        workqueues=sysfs.mask_cpulist(sysfs.text(machine, _WORKQUEUES)) or "",
        keepers=read_keepers(machine),
    )


def read_paths(machine: Machine, parent: str, depth: int) -> Iterator[str]:
    """Paths of the units below a cgroup, itself left out."""
    for name in sysfs.names(machine, ROOT + parent):
        if _UNIT.fullmatch(name):
            yield f"{parent}/{name}"
            if depth > 1 and name.endswith(".slice"):
                yield from read_paths(machine, f"{parent}/{name}", depth - 1)


def read_unit(machine: Machine, path: str) -> Unit:
    """One unit; where the parent has no cpuset controller, nothing but its path."""
    folder = ROOT + path
    return Unit(
        path=path,
        cpus=sysfs.cpulist(machine, f"{folder}/cpuset.cpus"),
        effective=sysfs.cpulist(machine, f"{folder}/cpuset.cpus.effective"),
        mems=sysfs.cpulist(machine, f"{folder}/cpuset.mems"),
        partition=sysfs.text(machine, f"{folder}/cpuset.cpus.partition"),
    )


def read_keepers(machine: Machine) -> list[str]:
    """Cgroups of this process and of SSH servers, sorted."""
    found = {read_cgroup(machine, "self")}
    for pid in filter(str.isdecimal, sysfs.names(machine, "/proc")):
        if sysfs.text(machine, f"/proc/{pid}/comm").startswith(_SERVERS):
            found.add(read_cgroup(machine, pid))
    return sorted(found - {"", "/"})


def read_cgroup(machine: Machine, pid: str) -> str:
    """The process's path in cgroup v2, "" when it has none."""
    lines = sysfs.text(machine, f"/proc/{pid}/cgroup").splitlines()
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
