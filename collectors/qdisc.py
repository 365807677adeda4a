"""What a NIC's transmit queues are queued and limited by: disciplines, txqueuelen, BQL, rates per queue."""

from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About
from collectors.links import Port, read_own_ports
from machine import Machine, MachineError
from machine import qdisc as source
from machine.qdisc import Discipline
from wire.discipline import MULTI, spell
from wire.facts import Qdisc
from wire.text import clean

NAME = "qdisc"
EVERY_S = 60.0
DEADLINE_S = 10.0

_BQL = "byte_queue_limits"

ABOUT = About(
    what="queueing disciplines and who built them; limits and rates per transmit queue",
    source="rtnetlink GETQDISC, GETTFILTER; `tx_queue_len`, `queues/tx-N` in sysfs",
)


def collect(machine: Machine) -> Iterator[Qdisc]:
    """One `Qdisc` per interface but loopback; raises NotPresentError where the kernel has no disciplines."""
    found = source.read_all(machine)
    for port in read_own_ports(machine):
        yield read_qdisc(machine, port, found.get(port.link.ifindex, []))


def read_qdisc(machine: Machine, port: Port, found: list[Discipline]) -> Qdisc:
    """The queueing of one interface."""
    root, leaves = source.tree(found)
    names = sysfs.names(machine, f"{port.folder}/queues")
    numbers = sorted(int(name[3:]) for name in names if name.startswith("tx-") and name[3:].isdigit())
    return Qdisc(
        key=port.key,
        ifname=port.link.ifname,
        ifindex=port.link.ifindex,
        root=root,
        queues=[leaves.get(number, "") for number in numbers],
        foreign=foreign(machine, found),
        txqueuelen=sysfs.number(machine, f"{port.folder}/tx_queue_len"),
        bql_max=_per_queue(machine, port, numbers, f"{_BQL}/limit_max"),
        bql_min=_per_queue(machine, port, numbers, f"{_BQL}/limit_min"),
        tx_maxrate=_per_queue(machine, port, numbers, "tx_maxrate"),
    )


def _per_queue(machine: Machine, port: Port, numbers: list[int], name: str) -> list[int]:
    """A number of every transmit queue; empty where one has none."""
    found = [sysfs.number(machine, f"{port.folder}/queues/tx-{number}/{name}") for number in numbers]
    return [] if None in found else [number for number in found if number is not None]


def foreign(machine: Machine, found: list[Discipline]) -> list[str]:
    """What only a hand can have built, and this program could not build again: trees of classes, filters on sending."""
    root = next((one for one in found if one.parent == source.ROOT), None)
    if root is None:
        return []
    known = (*source.FLAT, *MULTI)
    strange = [one for one in found if one.handle and one.kind not in (*known, "ingress", "clsact")]
    names = [spell(one.kind, f"{one.handle >> 16:x}:") for one in strange]
    places = {root.handle: "root"} if root.handle else {}
    if any(one.kind == "clsact" for one in found):
        places[source.CLSACT_EGRESS] = "clsact egress"
    return names + [text for place, where in places.items() for text in _filters(machine, root.ifindex, place, where)]


def _filters(machine: Machine, ifindex: int, place: int, where: str) -> list[str]:
    try:
        found = source.read_filters(machine, ifindex, place)
    except MachineError:
        return []
    return [f"filter {one.kind} {clean(one.name, 64)}".rstrip() + f" at {where}" for one in found]
