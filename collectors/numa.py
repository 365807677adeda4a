"""NUMA nodes: their CPUs, memory, distances, and how often memory had to come from elsewhere."""

import re
from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About
from machine import Machine, NotPresentError
from wire.cpulist import parse_cpulist
from wire.facts import Numa
from wire.report import Sample

NAME = "numa"
EVERY_S = 60.0
DEADLINE_S = 5.0

_NODES = "/sys/devices/system/node"
_NODE = re.compile(r"node(\d+)")
_MEMORY = re.compile(r"^Node\s+\d+\s+(\w+):\s+(\d+)\s+kB", re.MULTILINE)
COUNTERS = ("numa_miss", "numa_foreign", "other_node")


ABOUT = About(
    what="nodes: CPUs, memory, distances",
    source="`/sys/devices/system/node`",
    metrics={"numa.free_kb": 4096, "numa.miss_pages": 0, "numa.foreign_pages": 0, "numa.other_node_pages": 0},
)


def collect(machine: Machine) -> Iterator[Numa | Sample]:
    """One `Numa` per node, sparse ids and nodes without CPUs or memory included."""
    nodes = read_node_ids(machine)
    if not nodes:
        raise NotPresentError(f"no node in {_NODES}")
    for node in nodes:
        memory = parse_node_meminfo(sysfs.text(machine, f"{_NODES}/node{node}/meminfo"))
        yield read_node(machine, node, nodes, memory)
        yield from _samples(machine, f"node{node}", memory)


def read_node_ids(machine: Machine) -> list[int]:
    """Ids of the nodes that have a directory, ascending; none on a kernel without NUMA."""
    return sorted(int(match[1]) for name in sysfs.names(machine, _NODES) if (match := _NODE.fullmatch(name)))


def read_node_cpus(machine: Machine) -> dict[int, str]:
    """Node id -> its cpulist, "" for a node without CPUs."""
    return {node: read_cpus(machine, f"{_NODES}/node{node}") for node in read_node_ids(machine)}


def read_cpus(machine: Machine, folder: str) -> str:
    """A node's cpulist, "" when it has no CPUs; from the mask where there is no list."""
    listed = sysfs.cpulist(machine, f"{folder}/cpulist")
    return listed or sysfs.mask_cpulist(sysfs.text(machine, f"{folder}/cpumap")) or ""


def read_node(machine: Machine, node: int, nodes: list[int], memory: dict[str, int]) -> Numa:
    """One node's fact."""
    folder = f"{_NODES}/node{node}"
    try:
        online = parse_cpulist(sysfs.text(machine, f"{_NODES}/online"))
    except ValueError:
        online = []
    return Numa(
        key=f"node{node}",
        node=node,
        cpus=read_cpus(machine, folder),
        memory_kb=memory.get("MemTotal"),
        distances=parse_distances(sysfs.text(machine, f"{folder}/distance"), online, nodes),
    )


def parse_distances(text: str, online: list[int], nodes: list[int]) -> dict[str, int]:
    """A row of distances with the node each stands for; {} when the columns cannot be told apart."""
    row = [int(word) for word in text.split() if word.isdecimal()]
    for ids in (online, nodes):
        if len(ids) == len(row):
            return {f"node{node}": distance for node, distance in zip(ids, row, strict=True)}
    return {}


def parse_node_meminfo(text: str) -> dict[str, int]:
    """Name -> kB of nodeN/meminfo."""
    return {name: int(amount) for name, amount in _MEMORY.findall(text)}


def parse_numastat(text: str) -> dict[str, int]:
    """Name -> pages of nodeN/numastat."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _samples(machine: Machine, key: str, memory: dict[str, int]) -> Iterator[Sample]:
    if "MemFree" in memory:
        yield Sample("numa.free_kb", key, memory["MemFree"])
    counters = parse_numastat(sysfs.text(machine, f"{_NODES}/{key}/numastat"))
    for name in COUNTERS:
        if name in counters:
            yield Sample(f"numa.{name.removeprefix('numa_')}_pages", key, counters[name])
