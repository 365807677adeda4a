"""Facts as they are after a plan, without a machine: for previews, and for planning one knob on top of another."""

import re
from collections.abc import Callable, Iterable, Sequence

from msgspec import structs

from tuners.hostfacts import HostFacts
from wire.cpulist import format_cpulist, parse_cpulist, parse_cpumask
from wire.facts import Fact, Irq, Queue, Queues, Softnet
from wire.policy import Change, EthtoolSet, FileWrite, IrqBan

RECREATES_QUEUES = ("channels", "rings")  # interrupts and queues are unknown until they are read again

_IRQ = re.compile(r"/proc/irq/(\d+)/smp_affinity_list")
_QUEUE = re.compile(r"/sys/class/net/[^/]+/queues/[rt]x-(\d+)/(rps_cpus|rps_flow_cnt|xps_cpus)")
SOCK_FLOW_ENTRIES = "/proc/sys/net/core/rps_sock_flow_entries"


def project(facts: HostFacts, changes: Iterable[Change]) -> HostFacts:
    """The facts after the changes; those of a NIC's queues are dropped where a change recreates the queues."""
    for change in changes:
        facts = _after(facts, change)
    return facts


def _after(facts: HostFacts, change: Change) -> HostFacts:
    op = change.op
    if isinstance(op, EthtoolSet):
        return _ethtool(facts, change.nic, op)
    if isinstance(op, IrqBan):
        return facts.replace([structs.replace(facts.softnet or Softnet(), banned_irqs=op.after)])
    return _file(facts, change.nic, op)


def _ethtool(facts: HostFacts, nic: str, op: EthtoolSet) -> HostFacts:
    fact = facts.ethtool[nic]
    message: dict[str, object] = {**getattr(fact, op.message), **op.after}
    gone: list[Fact] = []
    if op.message in RECREATES_QUEUES:
        gone = [table[nic] for table in (facts.irq, facts.queues) if nic in table]
    return facts.replace([structs.replace(fact, **{op.message: message})], gone)


def _file(facts: HostFacts, nic: str, op: FileWrite) -> HostFacts:
    if irq := _IRQ.fullmatch(op.path):
        return facts.replace([_placed(fact, int(irq[1]), op.after) for fact in facts.irq.values()])
    if queue := _QUEUE.fullmatch(op.path):
        return facts.replace([_steered(facts.queues[nic], int(queue[1]), queue[2], op.after)])
    if op.path == SOCK_FLOW_ENTRIES:
        return facts.replace([structs.replace(facts.softnet or Softnet(), rps_sock_flow_entries=int(op.after))])
    return facts


def _placed(fact: Irq, irq: int, cpus: str) -> Irq:
    def moved(queue: Queue) -> Queue:
        if queue.irq != irq:
            return queue
        return structs.replace(queue, cpus=cpus, effective=format_cpulist(parse_cpulist(cpus)[:1]))

    return structs.replace(fact, queues=[moved(queue) for queue in fact.queues])


_FROM_KERNEL: dict[str, Callable[[str], object]] = {
    "rps_cpus": lambda text: format_cpulist(parse_cpumask(text)),
    "xps_cpus": lambda text: format_cpulist(parse_cpumask(text)),
    "rps_flow_cnt": int,
}


def _steered(fact: Queues, queue: int, name: str, text: str) -> Queues:
    values: Sequence[object] = getattr(fact, name) or []
    value = _FROM_KERNEL[name](text)
    return structs.replace(fact, **{name: [value if number == queue else old for number, old in enumerate(values)]})
