"""Which CPUs send through which transmit queue: every CPU through the queue whose interrupt is nearest to it."""

from collections.abc import Iterable, Sequence

from tuners import projection, topology
from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.irq_affinity import pinned
from tuners.knob import Spec, Step, queue_mask, skip
from wire.facts import CpuThread, Nic, Queues
from wire.policy import Setting

NAME = "xps"
ABOUT = About(
    stage=Stage.PLACE,
    what="which CPUs send through which queue",
    interface="queues/tx-N/xps_cpus",
    unit="CPU mask",
    undo="the mask before",
    facts=("nic", "queues", "irq", "cpu", "numa"),
    quirks="lost when queues are recreated",
)
VALUES: dict[str, Spec] = {"mode": Spec(str, "a map for every queue, or none", words=("auto", "off"))}

project = projection.steering


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """Writes to xps_cpus of the queues whose map differs; with `auto` every online CPU is in some map."""
    for setting in settings:
        nic, fact = facts.nics[setting.nic], facts.queues.get(setting.nic)
        if fact is None or fact.xps_cpus is None or len(fact.xps_cpus) < 2:
            yield skip(setting, nic.ifname, "unsupported: it has no transmit queues to choose from")
        elif not topology.online(facts):
            yield skip(setting, nic.ifname, "no CPU facts")
        else:
            yield from _one(setting, nic, fact, facts)


def _one(setting: Setting, nic: Nic, fact: Queues, facts: HostFacts) -> Iterable[Step]:
    current = [set(topology.cpu_ids(cpus)) for cpus in fact.xps_cpus or []]
    is_off = setting.values.get("mode", "auto") == "off"
    wanted = [set[int]() for _ in current] if is_off else maps(nic, len(current), facts)
    reason = "no map" if is_off else "the CPUs nearest to the queue's interrupt"
    for number, (before, after) in enumerate(zip(current, wanted, strict=True)):
        if before != after:
            yield queue_mask(setting, fact, f"tx-{number}/xps_cpus", (before, after), reason)


def maps(nic: Nic, queues: int, facts: HostFacts) -> list[set[int]]:
    """The CPUs of each transmit queue: its interrupt's own CPU, and the CPUs that have none of their own nearby."""
    homes = _homes(nic, queues, facts)
    known = topology.threads(facts)
    found = [{home} for home in homes]
    near: dict[tuple[str, object], list[int]] = {}
    for queue, home in enumerate(homes):
        for place in _places(known[home]) if home in known else ():
            near.setdefault(place, []).append(queue)
    for cpu in sorted(set(known) - set(homes)):
        nearest = next((near[place] for place in _places(known[cpu]) if place in near), range(queues))
        found[min(nearest, key=lambda n: (len(found[n]), n))].add(cpu)
    return found


def _places(cpu: CpuThread) -> list[tuple[str, object]]:
    """Where a CPU is, the narrowest first: two that share one are that near to each other."""
    found: list[tuple[str, object]] = [("core", topology.core_of(cpu))]
    found += [("cache", cpu.llc)] if cpu.llc else []
    return found + ([("node", cpu.node)] if cpu.node is not None else [])


def _homes(nic: Nic, queues: int, facts: HostFacts) -> list[int]:
    """Each queue's completion CPU; queues whose interrupt is not pinned take the next CPUs near the NIC."""
    fact = facts.irq.get(nic.key)
    fixed = {n: pinned(queue) for queue in (fact.queues if fact else []) for n in queue.tx}
    online = topology.online(facts)
    near = [cpu for tier in topology.tiers(facts, nic, topology.housekeeping(facts) or online) for cpu in tier]
    free = [cpu for cpu in near if cpu not in fixed.values()] or near
    homes: list[int] = []
    for number in range(queues):
        cpu = fixed.get(number)
        homes.append(cpu if cpu is not None and cpu in online else free[0])
        free = free[1:] + free[:1] if homes[-1] == free[0] else free
    return homes
