"""Facts as they are after a change, for the knobs that share them: ethtool's settings, and who does the work."""

import re
from collections.abc import Callable, Sequence

from msgspec import structs

from tuners.hostfacts import HostFacts
from wire.cpulist import format_cpulist, parse_cpulist, parse_cpumask
from wire.facts import Fact, Irq, Napi, Ntuple, Queue, Queues, Rss, Softnet
from wire.policy import Change, FileWrite, IrqBan, Request

_IRQ = re.compile(r"/proc/irq/(\d+)/smp_affinity_list")
_QUEUE = re.compile(r"/sys/class/net/[^/]+/queues/[rt]x-(\d+)/(rps_cpus|rps_flow_cnt|xps_cpus)")
_RECREATE_QUEUES = ("channels", "rings")
SOCK_FLOW_ENTRIES = "/proc/sys/net/core/rps_sock_flow_entries"


def ethtool(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one ethtool request; those of the NIC's queues are dropped where it recreates the queues."""
    op = change.op
    if not isinstance(op, Request):
        return facts
    fact = facts.ethtool[change.nic]
    if op.message == "coalesce_queue":
        queues = [{**old, **op.after} if str(at) == op.item else old for at, old in enumerate(fact.coalesce_queues)]
        return facts.replace([structs.replace(fact, coalesce_queues=queues)])
    message: dict[str, object] = {**getattr(fact, op.message), **op.after}
    gone: list[Fact] = []
    if op.message in _RECREATE_QUEUES:
        kinds = (Irq, Queues, Rss, Ntuple, Napi)  # to be read again
        fleeting: list[Fact] = [each for kind in kinds for each in facts.of(kind)]
        gone += [each for each in fleeting if each.key == change.nic]
    return facts.replace([structs.replace(fact, **{op.message: message})], gone)


def steering(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one write to an interrupt's or a queue's CPUs, or to what they need of the host."""
    op = change.op
    if isinstance(op, IrqBan):
        return facts.replace([structs.replace(facts.softnet or Softnet(), banned_irqs=op.after)])
    if not isinstance(op, FileWrite):
        return facts
    if irq := _IRQ.fullmatch(op.path):
        number = int(irq[1])
        theirs = [fact for fact in facts.irq.values() if any(queue.irq == number for queue in fact.queues)]
        return facts.replace([_placed(fact, number, op.after) for fact in theirs])
    if queue := _QUEUE.fullmatch(op.path):
        return facts.replace([_steered(facts.queues[change.nic], int(queue[1]), queue[2], op.after)])
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
