"""Findings about where packets are worked on: interrupts, packet steering, queues, irqbalance."""

from collections.abc import Iterator, Mapping

from tuners import topology
from tuners.hostfacts import HostFacts
from tuners.irq_affinity import pair
from wire.cpulist import format_cpulist
from wire.facts import Irq, Nic, Queue
from wire.policy import Finding
from wire.report import Severity

Latest = Mapping[tuple[str, str], float]

PLACE_REMEDY = "policy: knobs: {irq_affinity: {placement: local}}"
DROP_SHARE = 1e-4  # of the packets since boot: one lost in ten thousand is worth a look
SQUEEZE_SHARE = 1e-3


def working(facts: HostFacts) -> Iterator[Nic]:
    """Physical NICs that are up."""
    return (nic for nic in facts.nics.values() if nic.type == "physical" and nic.up)


def _serving(fact: Irq | None) -> list[Queue]:
    return [queue for queue in (fact.queues if fact else []) if queue.rx or queue.tx]


def fires_on(queue: Queue) -> list[int]:
    """The CPUs the interrupt goes to: the effective one where the kernel tells it."""
    return topology.cpu_ids(queue.effective or queue.cpus)


def irq_remote(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001 - one shape for every rule
    """Queue interrupts on another NUMA node than their NIC's."""
    for nic in working(facts):
        queues = _serving(facts.irq.get(nic.key))
        far = [queue for queue in queues if fires_on(queue) and topology.is_remote(facts, nic, fires_on(queue)[0])]
        near = topology.local(facts, nic)
        if far and near and not topology.is_remote(facts, nic, near[0]):
            text = f"{len(far)} of {len(queues)} queue interrupts are not on its NUMA node {nic.numa_node}"
            yield Finding(rule="irq_remote", key=nic.key, target=nic.ifname, text=text, remedy=PLACE_REMEDY)


def irq_one_cpu(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """Several queues of a NIC, all served by one CPU."""
    if len(topology.housekeeping(facts)) < 2:
        return
    for nic in working(facts):
        queues = _serving(facts.irq.get(nic.key))
        cpus = {cpu for queue in queues for cpu in fires_on(queue)}
        if len({pair(queue) for queue in queues}) > 1 and len(cpus) == 1:
            text = f"all {len(queues)} queue interrupts are on CPU {min(cpus)}"
            yield Finding(rule="irq_one_cpu", key=nic.key, target=nic.ifname, text=text, remedy=PLACE_REMEDY)


def irq_isolated(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """Interrupts of a NIC that disturb CPUs set aside by isolcpus or nohz_full."""
    shut = topology.isolated(facts)
    for nic in facts.nics.values():
        queues = facts.irq[nic.key].queues if nic.key in facts.irq else []
        hit = {cpu for queue in queues for cpu in fires_on(queue)[:1] if cpu in shut}
        if hit:
            text = f"its interrupts fire on isolated CPUs {format_cpulist(hit)}"
            yield Finding(rule="irq_isolated", key=nic.key, target=nic.ifname, text=text, remedy=PLACE_REMEDY)


def irq_unmapped(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """A NIC whose interrupts cannot be told apart, so that they are left alone."""
    for nic in working(facts):
        fact = facts.irq.get(nic.key)
        if fact and fact.source == "unmapped" and len(fact.queues) > 1:
            text = f"it is not known which of {len(fact.queues)} interrupts serves which queue ({nic.driver})"
            remedy = (
                "a kernel and driver that link queues to interrupts (netdev netlink family); until then: irqbalance"
            )
            yield _info("irq_unmapped", nic, text, remedy)


def irqbalance_moves(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """irqbalance runs and may move queue interrupts that are pinned to one CPU."""
    if facts.softnet is None or not facts.softnet.irqbalance:
        return
    banned = set(facts.softnet.banned_irqs)
    for nic in working(facts):
        queues = [queue for queue in _serving(facts.irq.get(nic.key)) if len(topology.cpu_ids(queue.cpus)) == 1]
        if loose := [queue for queue in queues if queue.irq not in banned and not queue.managed]:
            text = f"irqbalance may move {len(loose)} pinned queue interrupts; a policy tells it to leave them alone"
            yield _info("irqbalance_moves", nic, text, PLACE_REMEDY)


def single_queue(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """One receive queue on a host with more cores, and no software steering."""
    for nic in working(facts):
        fact, near = facts.queues.get(nic.key), topology.local(facts, nic)
        if fact and fact.rps_cpus == [""] and topology.cores(facts, near) > 1:
            channels = facts.ethtool[nic.key].channels if nic.key in facts.ethtool else {}
            can_more = max(channels.get("combined_max", 0), channels.get("rx_max", 0)) > 1
            knob = "channels: {combined: auto}" if can_more else "rps: {mode: auto}"
            text = f"one CPU does all receive work, with {topology.cores(facts, near)} cores near the NIC"
            yield _info("single_queue", nic, text, f"policy: knobs: {{{knob}}}")


def xps_missing(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """Several transmit queues and no map of CPUs to them."""
    for nic in working(facts):
        maps = (facts.queues[nic.key].xps_cpus if nic.key in facts.queues else None) or []
        if len(maps) > 1 and not any(maps):
            text = f"no CPU has a transmit queue of its own among {len(maps)}"
            yield _info("xps_missing", nic, text, "policy: knobs: {xps: {mode: auto}}")


def backlog_drops(facts: HostFacts, latest: Latest) -> Iterator[Finding]:
    """Packets dropped because a CPU's backlog was full."""
    dropped, share = _of_processed("softnet.dropped", latest)
    if share > DROP_SHARE:
        size = facts.softnet.netdev_max_backlog if facts.softnet else None
        text = f"{dropped:.0f} packets dropped at a full backlog ({share:.2%}), net.core.netdev_max_backlog is {size}"
        remedy = "spread the work first (policy preset throughput), then sysctl -w net.core.netdev_max_backlog=<double>"
        yield Finding(rule="backlog_drops", key="", target="host", text=text, remedy=remedy)


def time_squeeze(facts: HostFacts, latest: Latest) -> Iterator[Finding]:
    """Softirq rounds that ended with work left."""
    squeezed, share = _of_processed("softnet.time_squeeze", latest)
    if share > SQUEEZE_SHARE:
        budget = facts.softnet.netdev_budget if facts.softnet else None
        text = (
            f"receive rounds ran out of budget {squeezed:.0f} times ({share:.2%}), net.core.netdev_budget is {budget}"
        )
        remedy = "spread the work first (policy preset throughput), then sysctl -w net.core.netdev_budget=<double>"
        yield Finding(rule="time_squeeze", key="", target="host", severity=Severity.INFO, text=text, remedy=remedy)


def _of_processed(metric: str, latest: Latest) -> tuple[float, float]:
    """The host's count, and its share of all packets processed."""
    processed = sum(value for (name, _), value in latest.items() if name == "softnet.processed")
    count = latest.get((metric, ""), 0.0)
    return count, count / processed if processed else 0.0


def _info(rule: str, nic: Nic, text: str, remedy: str) -> Finding:
    return Finding(rule=rule, key=nic.key, target=nic.ifname, severity=Severity.INFO, text=text, remedy=remedy)
