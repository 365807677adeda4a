"""Which CPUs may do a NIC's work, and in what order: housekeeping, near memory, whole cores first."""

from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest

from tuners.hostfacts import HostFacts
from wire.cpulist import parse_cpulist
from wire.facts import CpuThread, Nic, Numa

FAR = 1 << 16  # a distance the firmware did not give


def cpu_ids(text: str) -> list[int]:
    """The CPUs of a list in a fact; what is no list counts as empty, for facts come from every agent there is."""
    try:
        return parse_cpulist(text)
    except ValueError:
        return []


def online(facts: HostFacts) -> set[int]:
    """The online CPUs; empty when nothing is known of the CPUs."""
    if facts.cpu is None:
        return set()
    return set(cpu_ids(facts.cpu.online)) or {thread.id for thread in facts.cpu.cpus}


def isolated(facts: HostFacts) -> set[int]:
    """CPUs taken out of housekeeping by isolcpus, cpusets or nohz_full: nothing is ever placed there."""
    if facts.cpu is None:
        return set()
    return set(cpu_ids(facts.cpu.isolated)) | set(cpu_ids(facts.cpu.nohz_full))


def housekeeping(facts: HostFacts) -> set[int]:
    """Online CPUs that are not isolated."""
    return online(facts) - isolated(facts)


def threads(facts: HostFacts) -> dict[int, CpuThread]:
    """What is known of each online CPU, by id."""
    known = {thread.id: thread for thread in facts.cpu.cpus} if facts.cpu else {}
    return {cpu: known.get(cpu, CpuThread(id=cpu)) for cpu in sorted(online(facts))}


def core_of(thread: CpuThread) -> str:
    """A name for the thread's physical core: its siblings' list, unique on the machine."""
    return thread.siblings or str(thread.id)


def cores(facts: HostFacts, cpus: Iterable[int]) -> int:
    """How many physical cores the CPUs stand on."""
    known = threads(facts)
    return len({core_of(known[cpu]) for cpu in cpus if cpu in known})


def ordered(facts: HostFacts, cpus: Iterable[int]) -> list[int]:
    """CPUs in the order to fill them: one thread per core before siblings, caches in turn, CPU 0 last."""
    known = threads(facts)
    ranks: dict[int, list[int]] = {}
    used: dict[str, int] = {}
    for cpu in sorted(set(cpus) & set(known), key=lambda cpu: (cpu == 0, cpu)):
        core = core_of(known[cpu])
        ranks.setdefault(used.get(core, 0), []).append(cpu)
        used[core] = used.get(core, 0) + 1
    in_turn = [cpu for rank in sorted(ranks) for cpu in _by_cache(ranks[rank], known)]
    return sorted(in_turn, key=lambda cpu: cpu == 0)


def _by_cache(cpus: Sequence[int], known: dict[int, CpuThread]) -> list[int]:
    groups: dict[str, list[int]] = {}
    for cpu in cpus:
        groups.setdefault(known[cpu].llc, []).append(cpu)
    return [cpu for cpu in chain.from_iterable(zip_longest(*groups.values())) if cpu is not None]


def tiers(facts: HostFacts, nic: Nic, allowed: set[int]) -> list[list[int]]:
    """`allowed` CPUs by distance from the NIC, nearest first and each in filling order; empty tiers are left out.

    Without a NUMA node the first tier is the NIC's local CPU list, else every CPU; nodes without CPUs vanish.
    """
    groups = [set(cpu_ids(node.cpus)) for node in _nodes_from(facts, nic)] or [set(cpu_ids(nic.local_cpus))]
    left = set(allowed)
    found: list[list[int]] = []
    for group in [*groups, left]:
        tier = ordered(facts, group & left)
        left = left - set(tier)
        found.append(tier)
    return [tier for tier in found if tier]


def _nodes_from(facts: HostFacts, nic: Nic) -> list[Numa]:
    home = next((node for node in facts.numa if node.node == nic.numa_node), None)
    if home is None:
        return []
    return sorted(facts.numa, key=lambda node: (node is not home, home.distances.get(node.key, FAR), node.node))


def local(facts: HostFacts, nic: Nic) -> list[int]:
    """Housekeeping CPUs nearest to the NIC, in filling order; empty only when there is none at all."""
    found = tiers(facts, nic, housekeeping(facts))
    return found[0] if found else []


def is_remote(facts: HostFacts, nic: Nic, cpu: int) -> bool:
    """True when the NIC's node is known, has CPUs, and the CPU is of another."""
    home = next((set(cpu_ids(node.cpus)) for node in facts.numa if node.node == nic.numa_node), set[int]())
    return bool(home) and cpu not in home


def domain(facts: HostFacts, cpu: int) -> set[int]:
    """Housekeeping CPUs that share memory with `cpu`: its NUMA node's, or all."""
    near = next((set(cpu_ids(node.cpus)) for node in facts.numa if cpu in cpu_ids(node.cpus)), None)
    return housekeeping(facts) if near is None else housekeeping(facts) & near
