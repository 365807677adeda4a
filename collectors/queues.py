"""Packet steering per queue: RPS, RFS and XPS."""

import re
from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About
from collectors.links import Port, read_own_ports
from machine import Machine, NotPresentError
from wire.facts import Queues

NAME = "queues"
EVERY_S = 60.0
DEADLINE_S = 10.0

_QUEUE = re.compile(r"(rx|tx)-(\d+)")


ABOUT = About(
    what="RPS, RFS and XPS per queue",
    source="`/sys/class/net/X/queues`",
)


def collect(machine: Machine) -> Iterator[Queues]:
    """One `Queues` per interface that has queues, but loopback; raises NotPresentError where none has."""
    found = [queues for port in read_own_ports(machine) if (queues := read_queues(machine, port))]
    if not found:
        raise NotPresentError("no interface has queues in sysfs")
    yield from found


def read_queues(machine: Machine, port: Port) -> Queues | None:
    """The steering of one interface; None when it has no queue directories."""
    rx, tx = parse_queue_names(sysfs.names(machine, f"{port.folder}/queues"))
    if not rx and not tx:
        return None
    folder = f"{port.folder}/queues"
    xps = [sysfs.mask_cpulist(sysfs.text(machine, f"{folder}/tx-{queue}/xps_cpus")) for queue in tx]
    return Queues(
        key=port.key,
        ifname=port.link.ifname,
        ifindex=port.link.ifindex,
        rps_cpus=[sysfs.mask_cpulist(sysfs.text(machine, f"{folder}/rx-{queue}/rps_cpus")) or "" for queue in rx],
        rps_flow_cnt=[sysfs.number(machine, f"{folder}/rx-{queue}/rps_flow_cnt") or 0 for queue in rx],
        xps_cpus=None if all(cpus is None for cpus in xps) else [cpus or "" for cpus in xps],
    )


def parse_queue_names(names: list[str]) -> tuple[list[int], list[int]]:
    """Ids of the rx and tx queues, ascending by number."""
    found = [(match[1], int(match[2])) for name in names if (match := _QUEUE.fullmatch(name))]
    return sorted(n for kind, n in found if kind == "rx"), sorted(n for kind, n in found if kind == "tx")
