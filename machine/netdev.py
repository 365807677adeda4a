"""Queues, NAPIs and XDP abilities of a NIC, from the generic netlink family "netdev" (kernel 6.7; XDP 6.3)."""

from typing import NamedTuple

from machine import Machine, Reply, nla

FAMILY = "netdev"
DEV_GET, QUEUE_GET, NAPI_GET, NAPI_SET = 1, 10, 11, 14
XDP_FEATURES = ("basic", "redirect", "ndo-xmit", "xsk-zerocopy", "hw-offload", "rx-sg", "ndo-xmit-sg")
NAPI_SETTINGS = {"defer_hard_irqs": 5, "gro_flush_timeout": 6, "irq_suspend_timeout": 7}
_QUEUE_TYPES = ("rx", "tx")


class Queue(NamedTuple):
    """One queue: its number among its type, "rx" or "tx", and the NAPI that serves it (None: not said)."""

    id: int
    type: str
    napi_id: int | None


class Napi(NamedTuple):
    """One NAPI: the IRQ that wakes it and the thread that polls it, None for none; its own settings (kernel 6.13)."""

    id: int
    irq: int | None
    pid: int | None
    defer_hard_irqs: int | None = None  # polls
    gro_flush_timeout: int | None = None  # ns
    irq_suspend_timeout: int | None = None  # ns


def read_queues(machine: Machine, ifindex: int) -> list[Queue]:
    """The NIC's queues; empty when it is down or gone. Raises NotPresentError where the kernel lacks the family."""
    return [parse_queue(reply) for reply in machine.genl(FAMILY, QUEUE_GET, nla.u32(2, ifindex), dump=True)]


def read_napis(machine: Machine, ifindex: int) -> list[Napi]:
    """The NIC's NAPIs that have a number. Raises NotPresentError where the kernel lacks the family."""
    return [parse_napi(reply) for reply in machine.genl(FAMILY, NAPI_GET, nla.u32(1, ifindex), dump=True)]


def read_xdp_features(machine: Machine, ifindex: int) -> list[str]:
    """What the driver can do with XDP, names of `XDP_FEATURES`; raises NotPresentError when the NIC is gone."""
    return [name for reply in machine.genl(FAMILY, DEV_GET, nla.u32(1, ifindex)) for name in parse_xdp_features(reply)]


def read_all_xdp_features(machine: Machine) -> dict[int, list[str]]:
    """ifindex -> what its driver can do with XDP; raises NotPresentError where the kernel lacks the family (6.3)."""
    replies = machine.genl(FAMILY, DEV_GET, b"", dump=True)
    return {nla.number(nla.table(reply.payload).get(1, b"")): parse_xdp_features(reply) for reply in replies}


def parse_queue(reply: Reply) -> Queue:
    """One queue-get reply."""
    found = nla.table(reply.payload)
    kind = nla.number(found.get(3, b""))
    return Queue(nla.number(found.get(1, b"")), _QUEUE_TYPES[kind] if kind < 2 else str(kind), _optional(found, 4))


def parse_napi(reply: Reply) -> Napi:
    """One napi-get reply."""
    found = nla.table(reply.payload)
    return Napi(nla.number(found.get(2, b"")), *(_optional(found, kind) for kind in (3, 4, *NAPI_SETTINGS.values())))


def parse_xdp_features(reply: Reply) -> list[str]:
    """The names of the bits in one dev-get reply."""
    bits = nla.number(nla.table(reply.payload).get(3, b""))
    return [name for bit, name in enumerate(XDP_FEATURES) if bits >> bit & 1]


def _optional(found: dict[int, bytes], kind: int) -> int | None:
    return nla.number(found[kind]) if kind in found else None
