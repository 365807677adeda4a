"""How NICs' queues are polled: by softirq or thread, and how long interrupts stay off."""

from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About
from collectors.links import Port, read_own_ports
from machine import Machine, MachineError, NotPresentError, netdev
from machine.napi import read_cpus
from wire.facts import Napi, NapiInstance

NAME = "napi"
EVERY_S = 300.0
DEADLINE_S = 10.0


ABOUT = About(
    what="polling of every NIC: threaded, deferred interrupts, GRO flush, per NAPI where the kernel says",
    source="`/sys/class/net/X`, netdev-genl",
)


def collect(machine: Machine) -> Iterator[Napi]:
    """One `Napi` per interface that has the settings, but loopback; raises NotPresentError where none has."""
    found = [fact for port in read_own_ports(machine) if (fact := read_napi(machine, port))]
    if not found:
        raise NotPresentError("no interface has settings of its polling")
    yield from found


def read_napi(machine: Machine, port: Port) -> Napi | None:
    """The polling of one interface; None where the kernel has no settings for it (before 3.19)."""
    threaded = sysfs.number(machine, f"{port.folder}/threaded")
    fact = Napi(
        key=port.key,
        ifname=port.link.ifname,
        ifindex=port.link.ifindex,
        threaded=None if threaded is None else bool(threaded),
        defer_hard_irqs=sysfs.number(machine, f"{port.folder}/napi_defer_hard_irqs"),
        gro_flush_timeout_ns=sysfs.number(machine, f"{port.folder}/gro_flush_timeout"),
        instances=read_instances(machine, port.link.ifindex),
    )
    return fact if fact.gro_flush_timeout_ns is not None or fact.instances else None


def read_instances(machine: Machine, ifindex: int) -> list[NapiInstance]:
    """The NAPIs of an interface by id; none when it is down or the kernel does not list them."""
    try:
        napis = sorted(netdev.read_napis(machine, ifindex))
    except MachineError:
        return []
    return [
        NapiInstance(
            id=napi.id,
            irq=napi.irq,
            pid=napi.pid,
            cpus=_cpus(machine, napi.pid),
            defer_hard_irqs=napi.defer_hard_irqs,
            gro_flush_timeout_ns=napi.gro_flush_timeout,
            irq_suspend_timeout_ns=napi.irq_suspend_timeout,
        )
        for napi in napis
    ]


def _cpus(machine: Machine, pid: int | None) -> str:
    try:
        return read_cpus(machine, pid) if pid else ""
    except (MachineError, ValueError):
        return ""
