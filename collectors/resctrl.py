"""Shares of cache and memory bandwidth (Intel RDT, AMD QoS, Arm MPAM), where resctrl is mounted."""

import re
from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About
from machine import Machine, NotPresentError
from wire.facts import CacheGroup, CacheResource, Resctrl
from wire.text import clean

NAME = "resctrl"
EVERY_S = 300.0
DEADLINE_S = 10.0

ROOT = "/sys/fs/resctrl"
_OURS = ("info", "mon_data", "mon_groups")
_LINE = re.compile(r"\s*(\w+):((?:\d+= *\w+;?)+)\s*")

ABOUT = About(
    what="groups of CPUs and tasks with their shares of cache (CAT) and memory bandwidth (MBA)",
    source="`/sys/fs/resctrl` where it is mounted",
    privileges="root on most systems",
)


def collect(machine: Machine) -> Iterator[Resctrl]:
    """One `Resctrl`; raises NotPresentError where it is not mounted or the CPUs have nothing to share out."""
    resources = [found for name in sysfs.names(machine, f"{ROOT}/info") if (found := read_resource(machine, name))]
    if not resources:
        raise NotPresentError(f"nothing to share out at {ROOT}")
    groups = [name for name in sysfs.names(machine, ROOT) if name not in _OURS and _is_group(machine, name)]
    yield Resctrl(resources=resources, groups=[read_group(machine, name) for name in ("", *groups)])


def read_resource(machine: Machine, name: str) -> CacheResource | None:
    """One folder of info; None for those of monitoring."""
    folder = f"{ROOT}/info/{name}"
    closids = sysfs.number(machine, f"{folder}/num_closids")
    if closids is None:
        return None
    return CacheResource(
        name=name,
        cbm_mask=sysfs.text(machine, f"{folder}/cbm_mask"),
        min_cbm_bits=sysfs.number(machine, f"{folder}/min_cbm_bits"),
        sparse=sysfs.text(machine, f"{folder}/sparse_masks") == "1",
        closids=closids,
        min_percent=sysfs.number(machine, f"{folder}/min_bandwidth"),
        step_percent=sysfs.number(machine, f"{folder}/bandwidth_gran"),
    )


def _is_group(machine: Machine, name: str) -> bool:
    return bool(sysfs.text(machine, f"{ROOT}/{name}/schemata"))


def read_group(machine: Machine, name: str) -> CacheGroup:
    """One group; "" is the default one, whose tasks are all the others."""
    folder = f"{ROOT}/{name}" if name else ROOT
    tasks = sysfs.text(machine, f"{folder}/tasks").split() if name else []
    return CacheGroup(
        name=clean(name),
        mode=clean(sysfs.text(machine, f"{folder}/mode")),
        cpus=sysfs.cpulist(machine, f"{folder}/cpus_list"),
        schemata=parse_schemata(sysfs.text(machine, f"{folder}/schemata")),
        tasks=sorted(int(task) for task in tasks if task.isdecimal()),
    )


def parse_schemata(text: str) -> dict[str, dict[str, str]]:
    """`L3:0=7ff;1=7ff` line by line: resource -> domain -> share; lines that are none are left out."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            pairs = (part.split("=") for part in match[2].strip(";").split(";"))
            found[match[1]] = {domain: share.strip().lower() for domain, share in pairs}
    return found
