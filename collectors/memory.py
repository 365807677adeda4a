"""Main memory: size, swap, transparent and reserved huge pages."""

import re
from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About
from collectors.numa import read_node_ids
from machine import Machine, NotPresentError
from wire.facts import Memory

NAME = "memory"
EVERY_S = 60.0
DEADLINE_S = 5.0

_POOL = re.compile(r"hugepages-(\d+kB)")
_CHOSEN = re.compile(r"\[(\w+)\]")
_FIELD = re.compile(r"^([\w()]+):\s+(\d+)(?: kB)?\s*$", re.MULTILINE)


ABOUT = About(
    what="size, swap, huge pages",
    source="`/proc/meminfo`, `nodeN/hugepages`",
)


def collect(machine: Machine) -> Iterator[Memory]:
    """One `Memory`; raises NotPresentError without /proc/meminfo."""
    meminfo = parse_meminfo(machine.read("/proc/meminfo"))
    if "MemTotal" not in meminfo:
        raise NotPresentError("/proc/meminfo does not say MemTotal")
    yield Memory(
        total_kb=meminfo["MemTotal"],
        swap_kb=meminfo.get("SwapTotal", 0),
        thp=parse_chosen(sysfs.text(machine, "/sys/kernel/mm/transparent_hugepage/enabled")),
        hugepages=read_hugepages(machine),
    )


def parse_meminfo(text: str) -> dict[str, int]:
    """Name -> kB (or pages, for the HugePages_ lines)."""
    return {name: int(amount) for name, amount in _FIELD.findall(text)}


def parse_chosen(text: str) -> str:
    """The bracketed word of `always [madvise] never`."""
    found = _CHOSEN.search(text)
    return found[1] if found else ""


def read_hugepages(machine: Machine) -> dict[str, int]:
    """ "node0/2048kB" -> reserved pages; "host/2048kB" on a kernel without nodes."""
    folders = {f"node{node}": f"/sys/devices/system/node/node{node}/hugepages" for node in read_node_ids(machine)}
    pools: dict[str, int] = {}
    for owner, folder in (folders or {"host": "/sys/kernel/mm/hugepages"}).items():
        for name in sysfs.names(machine, folder):
            size = _POOL.fullmatch(name)
            pages = sysfs.number(machine, f"{folder}/{name}/nr_hugepages")
            if size and pages is not None:
                pools[f"{owner}/{size[1]}"] = pages
    return pools
