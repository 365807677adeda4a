"""Which CPU serves each queue interrupt: near the NIC, whole cores first, never an isolated CPU, even over all NICs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import structs

from tuners import projection, topology
from tuners.about import About, Stage
from tuners.allocator import Unit, allocate
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from wire.cpulist import format_cpulist
from wire.facts import Irq, Nic, Queue
from wire.policy import Blast, Change, FileWrite, IrqBan, Mode, Setting, Skip

NAME = "irq_affinity"
ABOUT = About(
    stage=Stage.PLACE,
    what="which CPU serves each queue's interrupt",
    interface="/proc/irq/N/smp_affinity_list, irqbalance's socket",
    unit="CPU list",
    undo="the list before, as long as the interrupt is still this NIC's",
    facts=("nic", "irq", "cpu", "numa", "softnet"),
    quirks="managed interrupts are the kernel's own",
)
VALUES: dict[str, Spec] = {
    "placement": Spec(str, "near the NIC, over all nodes, or on `cpus`", words=("local", "spread", "list")),
    "cpus": Spec(str, "the only CPUs to use"),
}


class _Job(NamedTuple):
    """One NIC whose interrupts can be placed."""

    setting: Setting
    nic: Nic
    queues: list[Queue]  # movable, by irq
    candidates: list[int]
    reason: str


def pair(queue: Queue) -> int:
    """The queue pair an interrupt belongs to: its receive queue's number, else its transmit queue's."""
    return (queue.rx or queue.tx)[0]


def pinned(queue: Queue) -> int | None:
    """The one CPU the interrupt may be on; None while it may be on several."""
    cpus = topology.cpu_ids(queue.cpus)
    return cpus[0] if len(cpus) == 1 else None


project = projection.steering


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """Writes to smp_affinity_list, after the full list for a running irqbalance to keep its hands off."""
    jobs: list[_Job] = []
    taken: set[int] = set()
    for setting in settings:
        found = _job(setting, facts, taken)
        for step in found:
            if isinstance(step, _Job):
                jobs.append(step)
                taken |= {queue.irq for queue in step.queues}
            else:
                yield step
    yield from _ban(jobs, facts)
    yield from _placements(jobs, facts)
    for setting in settings:
        yield from _control(setting, facts)


def _job(setting: Setting, facts: HostFacts, taken: set[int]) -> Iterable[_Job | Skip]:
    """The NIC's job, and skips for what of it cannot be placed; an interrupt shared by two NICs is the first one's."""
    nic, fact = facts.nics[setting.nic], facts.irq.get(setting.nic)
    candidates, reason = _candidates(setting, nic, facts)
    if fact is None or not fact.queues:
        yield skip(setting, nic.ifname, "no interrupts are known")
    elif fact.source == "unmapped":
        yield skip(setting, nic.ifname, "unmapped: it is not known which interrupt serves which queue")
    elif not candidates:
        yield impossible(setting, nic.ifname, reason)
    else:
        serving = [queue for queue in fact.queues if (queue.rx or queue.tx) and not queue.control]
        movable = [queue for queue in serving if queue.cpus and not queue.managed and queue.irq not in taken]
        if left := [queue for queue in serving if queue not in movable]:
            yield skip(setting, nic.ifname, _why_not(left, len(serving), taken))
        yield _Job(setting, nic, movable, candidates, reason)


def _why_not(left: Sequence[Queue], total: int, taken: set[int]) -> str:
    by_kernel = sum(queue.managed for queue in left)
    shared = sum(queue.irq in taken and not queue.managed for queue in left)
    words = {"placed by the kernel": by_kernel, "shared with another NIC": shared}
    words["without a readable affinity"] = len(left) - by_kernel - shared
    return ", ".join(f"{count} of {total} interrupts are {word}" for word, count in words.items() if count)


def _candidates(setting: Setting, nic: Nic, facts: HostFacts) -> tuple[list[int], str]:
    """CPUs in filling order, and why these (or why none)."""
    only = str(setting.values.get("cpus", ""))
    placement = setting.values.get("placement", "list" if only else "local")
    allowed = topology.housekeeping(facts)
    if placement == "list" and not only:
        return [], "placement is list, but cpus is not set"
    if only:
        allowed &= set(topology.cpu_ids(only))
    tiers = topology.tiers(facts, nic, allowed)
    if not tiers:
        return [], f"no online housekeeping CPU in {only}" if only else "no housekeeping CPU is known"
    if placement != "local":
        return [cpu for tier in tiers for cpu in tier], f"the policy's CPUs {only}" if only else "over all nodes"
    if topology.is_remote(facts, nic, tiers[0][0]):
        return tiers[0], f"node {nic.numa_node} has no housekeeping CPU to use: the nearest node instead"
    return tiers[0], "near the NIC" if nic.numa_node is None else f"on the NIC's node {nic.numa_node}"


def _placements(jobs: Sequence[_Job], facts: HostFacts) -> Iterable[Change]:
    cores = {cpu: topology.core_of(thread) for cpu, thread in topology.threads(facts).items()}
    units = [unit for job in jobs for unit in _units(job)]
    moving = {queue.irq for job in jobs for queue in job.queues}
    cpus = allocate(units, _load_of_others(facts, moving), cores)
    for job in jobs:
        blast = _blast(job, facts)
        for queue in job.queues:
            cpu = cpus[job.nic.key, pair(queue)]
            if pinned(queue) != cpu:
                change = _write(job.setting, job.nic, queue, str(cpu), job.reason)
                yield structs.replace(change, blast=blast)


def _units(job: _Job) -> Iterable[Unit]:
    pairs: dict[int, set[int | None]] = {}
    for queue in job.queues:
        pairs.setdefault(pair(queue), set()).add(pinned(queue))
    for number in sorted(pairs):
        now = pairs[number].pop() if len(pairs[number]) == 1 else None
        yield Unit(job.nic.key, number, tuple(job.candidates), now)


def _load_of_others(facts: HostFacts, moving: set[int]) -> Counter[int]:
    """Queue pairs per CPU of interrupts that this plan does not move."""
    seen: set[tuple[str, int, int]] = set()
    for fact in facts.irq.values():
        for queue in fact.queues:
            cpus = topology.cpu_ids(queue.effective or queue.cpus)
            if len(cpus) == 1 and (queue.rx or queue.tx) and queue.irq not in moving:
                seen.add((fact.key, pair(queue), cpus[0]))
    return Counter(cpu for _, _, cpu in seen)


def _blast(job: _Job, facts: HostFacts) -> Blast:
    crowded = len(job.candidates) == 1 < min(len(topology.housekeeping(facts)), len({pair(q) for q in job.queues}))
    return Blast.STARVATION if crowded else Blast.SAFE


def _write(setting: Setting, nic: Nic, queue: Queue, cpus: str, reason: str) -> Change:
    serves = " ".join([*(f"rx-{n}" for n in queue.rx), *(f"tx-{n}" for n in queue.tx)]) or queue.name or "control"
    return Change(
        knob=NAME,
        target=f"irq {queue.irq} ({nic.ifname} {serves})",
        op=FileWrite(f"/proc/irq/{queue.irq}/smp_affinity_list", queue.cpus, cpus),
        nic=setting.nic,
        policy=setting.policy,
        reason=reason,
    )


def _ban(jobs: Sequence[_Job], facts: HostFacts) -> Iterable[Change]:
    """What irqbalance is to keep its hands off: what it already does, and ours (of settings that are enforced)."""
    ours = {queue.irq for job in jobs if job.setting.mode is Mode.ENFORCE for queue in job.queues}
    if facts.softnet is None or not facts.softnet.irqbalance:
        return
    before = sorted(facts.softnet.banned_irqs)
    if after := sorted(ours - set(before)):
        op = IrqBan(before, sorted({*before, *after}))
        yield Change(knob=NAME, target="irqbalance", op=op, reason=f"{len(after)} interrupts are placed by policy")


def _control(setting: Setting, facts: HostFacts) -> Iterable[Change]:
    """A control vector that fires on an isolated CPU goes to the housekeeping CPUs; any other is left alone."""
    nic, fact = facts.nics[setting.nic], facts.irq.get(setting.nic) or Irq(key=setting.nic, ifname="", source="")
    allowed, shut = topology.housekeeping(facts), topology.isolated(facts)
    for queue in fact.queues:
        fires = topology.cpu_ids(queue.effective or queue.cpus)
        free_to = set(topology.cpu_ids(queue.cpus))
        if queue.control and not queue.managed and allowed and shut.intersection(fires) and not free_to <= allowed:
            yield _write(setting, nic, queue, format_cpulist(allowed), "its CPU is isolated")
