"""The interrupts of every NIC: which queue has which IRQ, and which CPUs take it."""

import re
from collections import Counter
from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About, Cost
from collectors.interrupts import Vector, parse_interrupts
from collectors.irqnames import Device, map_queues
from collectors.links import Port, read_ports
from collectors.nic import read_queue_counts
from machine import Machine, MachineError, NotPresentError, netdev
from wire.facts import Irq, Queue
from wire.report import Sample

NAME = "irq"
EVERY_S = 60.0
DEADLINE_S = 10.0

_IRQ = "/proc/irq"
_DEBUG = "/sys/kernel/debug/irq/irqs"
_VIRTIO = re.compile(r"virtio\d+")
_MANAGED = "IRQD_AFFINITY_MANAGED"


ABOUT = About(
    what="queue -> IRQ -> CPU of every NIC",
    source="netdev-genl, else names in `/proc/interrupts`, else unmapped; `/proc/irq`",
    cost=Cost.SLOW,
    privileges="root for `managed` (debugfs)",
    needs=("/sys/kernel/debug/irq",),
    metrics={"irq.interrupts": 0},
)


def collect(machine: Machine) -> Iterator[Irq | Sample]:
    """One `Irq` per NIC that has interrupts; raises NotPresentError where no NIC has any."""
    ports = [port for port in read_ports(machine) if port.device]
    vectors = parse_interrupts(machine.read("/proc/interrupts")).vectors if ports else []
    totals = {vector.irq: vector.total for vector in vectors}
    functions = Counter(port.address for port in ports)
    found = False
    for port in ports:
        device = read_device(machine, port)
        own = read_vectors(machine, port, device, vectors)
        queues = map_queues(own, device, alone=not port.address or functions[port.address] == 1)
        source = link_queues(queues, read_genl(machine, port.link.ifindex))
        if queues:
            found = True
            for queue in queues:
                read_placement(machine, queue)
            yield Irq(key=port.key, ifname=port.link.ifname, source=source, queues=queues)
            yield Sample("irq.interrupts", port.key, sum(totals.get(queue.irq, 0) for queue in queues))
    if not found:
        raise NotPresentError("no NIC has an interrupt of its own")


def read_device(machine: Machine, port: Port) -> Device:
    """What the NIC's interrupts may be named after, and how many queues it has."""
    counts = read_queue_counts(machine, port)
    return Device(
        names=frozenset({port.link.ifname, *port.link.altnames}),
        address=port.address,
        virtio=next((part for part in reversed(port.device.split("/")) if _VIRTIO.fullmatch(part)), ""),
        driver=sysfs.link_name(machine, f"{port.folder}/device/driver"),
        **counts,
    )


def read_vectors(machine: Machine, port: Port, device: Device, vectors: list[Vector]) -> list[Vector]:
    """The live vectors of the NIC's PCI function, RDMA's and mailboxes' included; by name where it has no function."""
    if not port.address:
        return [vector for vector in vectors if _means(vector, device)]
    folder = f"/sys/bus/pci/devices/{port.address}"
    listed = {int(name) for name in sysfs.names(machine, f"{folder}/msi_irqs") if name.isdecimal()}
    own = [vector for vector in vectors if vector.irq in listed or vector.chip.endswith(f"-{port.address}")]
    line = sysfs.number(machine, f"{folder}/irq")
    return own or [vector for vector in vectors if vector.irq == line and _means(vector, device)]


def _means(vector: Vector, device: Device) -> bool:
    names = {*device.names, device.virtio} - {""}
    starts = tuple(f"{name}{mark}" for name in names for mark in "-: ")
    return any(action in names or action.startswith(starts) for action in vector.actions)


def read_genl(machine: Machine, ifindex: int) -> list[tuple[str, int, int]]:
    """(rx or tx, queue, irq) of the queues that the kernel links to an IRQ; none before 6.8 and on many drivers."""
    try:
        irqs = {napi.id: napi.irq for napi in netdev.read_napis(machine, ifindex)}
        queues = netdev.read_queues(machine, ifindex)
    except MachineError:
        return []
    linked = ((queue.type, queue.id, irqs.get(queue.napi_id or -1)) for queue in queues)
    return [(kind, queue, irq) for kind, queue, irq in linked if irq is not None]


def link_queues(queues: list[Queue], links: list[tuple[str, int, int]]) -> str:
    """Put the kernel's own links in place of what names say, per direction; returns the source of the mapping."""
    for direction in {kind for kind, _, _ in links}:
        for queue in queues:
            setattr(queue, direction, [])
    known = {queue.irq: queue for queue in queues}
    for direction, number, irq in sorted(links):
        queue = known.setdefault(irq, Queue(irq=irq))
        getattr(queue, direction).append(number)
        queue.control = False
    queues[:] = [known[irq] for irq in sorted(known)]
    if links:
        return "netdev-genl"
    return "action-name" if any(queue.rx or queue.tx for queue in queues) else "unmapped"


def read_placement(machine: Machine, queue: Queue) -> None:
    """Where the kernel delivers it: allowed and effective CPUs, its memory's node, and whether it may be moved."""
    folder = f"{_IRQ}/{queue.irq}"
    queue.cpus = sysfs.cpulist(machine, f"{folder}/smp_affinity_list")
    queue.effective = sysfs.cpulist(machine, f"{folder}/effective_affinity_list")
    queue.node = sysfs.node(machine, f"{folder}/node")
    queue.managed = _MANAGED in sysfs.text(machine, f"{_DEBUG}/{queue.irq}")
