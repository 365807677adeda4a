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
_CHOSEN = re.compile(r"\[([\w+]+)\]")
_FIELD = re.compile(r"^([\w()]+):\s+(\d+)(?: kB)?\s*$", re.MULTILINE)


ABOUT = About(
    what="size, swap, huge pages and their use, NUMA balancing, zone reclaim",
    source="`/proc/meminfo`, `nodeN/hugepages`, `/sys/kernel/mm`, `/proc/sys`",
)


def collect(machine: Machine) -> Iterator[Memory]:
    """One `Memory`; raises NotPresentError without /proc/meminfo."""
    meminfo = parse_meminfo(machine.read("/proc/meminfo"))
    if "MemTotal" not in meminfo:
        raise NotPresentError("/proc/meminfo does not say MemTotal")
    pools = read_pools(machine)
    pages, used = read_hugepages(machine, pools)
    yield Memory(
        total_kb=meminfo["MemTotal"],
        swap_kb=meminfo.get("SwapTotal", 0),
        thp=parse_chosen(sysfs.text(machine, "/sys/kernel/mm/transparent_hugepage/enabled")),
        thp_defrag=parse_chosen(sysfs.text(machine, "/sys/kernel/mm/transparent_hugepage/defrag")),
        hugepages=pages,
        hugepages_used=used,
        hugepages_promised=read_promised(machine, sorted({name.partition("/")[2] for name in pages})),
        numa_balancing=sysfs.number(machine, "/proc/sys/kernel/numa_balancing"),
        zone_reclaim=sysfs.number(machine, "/proc/sys/vm/zone_reclaim_mode"),
    )


def parse_meminfo(text: str) -> dict[str, int]:
    """Name -> kB (or pages, for the HugePages_ lines)."""
    return {name: int(amount) for name, amount in _FIELD.findall(text)}


def parse_chosen(text: str) -> str:
    """The bracketed word of `always [madvise] never`."""
    found = _CHOSEN.search(text)
    return found[1] if found else ""


def read_pools(machine: Machine) -> dict[str, str]:
    """ "node0/2048kB" -> its folder; "host/2048kB" on a kernel without nodes."""
    folders = {f"node{node}": f"/sys/devices/system/node/node{node}/hugepages" for node in read_node_ids(machine)}
    return {
        f"{owner}/{size[1]}": f"{folder}/{name}"
        for owner, folder in (folders or {"host": "/sys/kernel/mm/hugepages"}).items()
        for name in sysfs.names(machine, folder)
        if (size := _POOL.fullmatch(name))
    }


def read_hugepages(machine: Machine, pools: dict[str, str]) -> tuple[dict[str, int], dict[str, int]]:
    """Pages of each pool, and how many of them are in use where any is."""
    pages: dict[str, int] = {}
    used: dict[str, int] = {}
    for name, folder in pools.items():
        count, free = (sysfs.number(machine, f"{folder}/{file}") for file in ("nr_hugepages", "free_hugepages"))
        if count is not None:
            pages[name] = count
            if free is not None and free < count:
                used[name] = count - free
    return pages, used


def read_promised(machine: Machine, sizes: list[str]) -> dict[str, int]:
    """Pages of each size that are reserved for mappings and not taken yet; sizes without any are left out."""
    files = {size: f"/sys/kernel/mm/hugepages/hugepages-{size}/resv_hugepages" for size in sizes}
    return {size: count for size, file in files.items() if (count := sysfs.number(machine, file))}
