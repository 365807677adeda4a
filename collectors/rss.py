"""How NICs spread what they receive over their queues: indirection, key, symmetry, hashed fields, contexts."""

from collections.abc import Iterator

from collectors.about import About
from collectors.links import Port, read_own_ports
from machine import Machine, MachineError, NotPresentError, rxfh
from wire.facts import Rss, RssContext
from wire.indirection import format_table

NAME = "rss"
EVERY_S = 300.0
DEADLINE_S = 10.0


ABOUT = About(
    what="RSS: indirection table, hash key, symmetry, hashed fields, contexts",
    source="ethtool ioctl, and netlink for contexts",
    privileges="CAP_NET_ADMIN for hashed fields",
)


def collect(machine: Machine) -> Iterator[Rss]:
    """One `Rss` per interface that has an indirection table or hashed fields; raises NotPresentError where none has."""
    found = [fact for port in read_own_ports(machine) if (fact := read_rss(machine, port))]
    if not found:
        raise NotPresentError("no interface has receive side scaling")
    yield from found


def read_rss(machine: Machine, port: Port) -> Rss | None:
    """RSS of one interface; None where its driver has none."""
    ifname, ifindex = port.link.ifname, port.link.ifindex
    try:
        now = rxfh.read(machine, ifname)
    except MachineError:
        now = rxfh.Rxfh([], "", "", "")
    fields = read_fields(machine, ifname)
    if not now.table and not fields:
        return None
    return Rss(
        key=port.key,
        ifname=ifname,
        ifindex=ifindex,
        queues=read_queues(machine, ifname),
        table=format_table(now.table),
        hash_key=now.key,
        hfunc=now.hfunc,
        symmetric=now.symmetric,
        fields=fields,
        contexts=read_contexts(machine, ifindex),
    )


def read_queues(machine: Machine, ifname: str) -> int:
    """How many receive queues there are; 0 where the driver does not say."""
    try:
        return rxfh.read_queues(machine, ifname)
    except MachineError:
        return 0


def read_fields(machine: Machine, ifname: str) -> dict[str, str]:
    """What is hashed of each flow that the driver tells of."""
    fields: dict[str, str] = {}
    for flow in rxfh.FLOWS:
        try:
            fields[flow] = rxfh.read_fields(machine, ifname, flow)
        except MachineError:
            continue
    return {flow: letters for flow, letters in fields.items() if letters}


def read_contexts(machine: Machine, ifindex: int) -> list[RssContext] | None:
    """Every context but the default one, by id; None where the kernel cannot list them."""
    try:
        return [RssContext(id=at, queues=over) for at, over in sorted(rxfh.read_contexts(machine, ifindex).items())]
    except MachineError:
        return None
