"""What the name of an interrupt says about the queues it serves: a table, one row per form that drivers use."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from collectors.interrupts import Vector
from collectors.sysfs import PCI_ADDRESS
from wire.facts import Queue

_IF = r"(?P<dev>[^\s:@]+?)"
_BDF = rf"(?P<bdf>{PCI_ADDRESS.pattern})"
_VIRTIO = r"(?P<virtio>virtio\d+)"
_INTEL = r"(?:i40e|iavf|i40evf|ice|idpf|fm10k)"

# No queue behind these: mailboxes, events, link state, flow director, RDMA.
CONTROL = (
    rf"mlx5_(?:async|cmd|pages|ctrl)\w*@pci:{_BDF}",
    rf"mlx4-async@pci:{_BDF}",
    rf"{_INTEL}-{_BDF}:.+",
    r"(?:iavf|idpf)-.*(?:mbx|[Mm]ailbox).*",
    r"(?:irdma|i40iw|bnxt_re|bnxt_qplib)\b.*",
    rf"ena-mgmnt@pci:{_BDF}",
    rf"{_VIRTIO}-(?:config|control|event)",
    r"mana_(?!q\d).*",
    r"gve-mgmnt.*",
    r"(?:hns3|hclge|hclgevf)-(?:misc-)?[0-9a-f:.]+(?:-misc)?",
    rf"{_IF}-(?:event|err|notify)-\d+",
    rf"{_IF}-(?:lsc|exn|err|notify|mgmnt|FWeventq)",
    rf"{_IF}:(?:misc|lsc|mbx|mac|wol|lpi)",
)


class Form(NamedTuple):
    """A name with the number of a queue pair `q`, an `rx` queue or a `tx` queue; `drivers` () means any."""

    pattern: str
    drivers: tuple[str, ...] = ()


QUEUES = (
    Form(rf"mlx5_comp(?P<q>\d+)@pci:{_BDF}"),
    Form(rf"mlx5_combined(?P<q>\d+)@pci:{_BDF}"),
    Form(rf"mana_q(?P<q>\d+)@pci:{_BDF}"),
    Form(rf"hns3-{_BDF}-TxRx-(?P<q>\d+)"),
    Form(rf"hns3-{_BDF}-Rx-(?P<rx>\d+)"),
    Form(rf"hns3-{_BDF}-Tx-(?P<tx>\d+)"),
    Form(rf"{_VIRTIO}-input\.(?P<rx>\d+)"),
    Form(rf"{_VIRTIO}-output\.(?P<tx>\d+)"),
    Form(rf"(?:{_INTEL}-)?{_IF}-TxRx-(?P<q>\d+)"),  # ixgbe, igb, igc, bnxt_en; with driver: i40e, ice, iavf, idpf
    Form(rf"{_IF}-Tx-Rx-(?P<q>\d+)"),  # ena
    Form(rf"{_IF}-(?:rxtx|txrx)-?(?P<q>\d+)"),  # vmxnet3, nfp, otx2, tg3, enetc
    Form(rf"{_IF}-fp-(?P<q>\d+)"),  # bnx2x, qede
    Form(rf"{_IF} \(queue (?P<q>\d+)\)"),  # cxgb4
    Form(rf"{_IF}-q(?P<rx>\d+)-rx"),  # xen-netfront
    Form(rf"{_IF}-q(?P<tx>\d+)-tx"),
    Form(rf"{_IF}-q(?P<q>\d+)"),  # be2net
    Form(rf"{_IF}-tx-(?P<tx>\d+)-rx-(?P<rx>\d+)"),  # qlcnic: one vector, unlike numbers
    Form(rf"(?:{_INTEL}-)?{_IF}-[rR]x-?(?P<rx>\d+)"),
    Form(rf"(?:{_INTEL}-)?{_IF}-[tT]x-?(?P<tx>\d+)"),
    Form(rf"{_IF}:rx-(?P<rx>\d+)"),  # stmmac
    Form(rf"{_IF}:tx-(?P<tx>\d+)"),
    Form(rf"{_IF}-(?P<q>\d+)", ("bnx2", "mlx4_core", "mlx4_en", "sfc", "sfc-siena", "sfc_ef100", "atlantic", "")),
)
# One vector for the whole device: INTx, single MSI, legacy virtio. Beside queue vectors it is the link's.
WHOLE = (_IF, _VIRTIO, rf"{_VIRTIO}-virtqueues")
# These drivers number vectors, not queues: the lowest number is queue 0 (tg3's first vector is the link's).
VECTOR_NUMBERS = frozenset({"tg3", "idpf"})

_CONTROL = [re.compile(pattern) for pattern in CONTROL]
_QUEUES = [(re.compile(form.pattern), form.drivers) for form in QUEUES]
_WHOLE = [re.compile(pattern) for pattern in WHOLE]


class Device(NamedTuple):
    """What the interrupts of a NIC may be named after; 0 queues means that nobody counted them."""

    names: frozenset[str]
    address: str = ""
    virtio: str = ""
    driver: str = ""
    rx_queues: int = 0
    tx_queues: int = 0


class Role(NamedTuple):
    """What one name says: `owner` as it is in the name ("" in none), and queues, or control, or the whole device."""

    owner: str
    rx: int | None = None
    tx: int | None = None
    control: bool = False
    whole: bool = False


def parse_action(action: str, driver: str = "") -> Role | None:
    """The role in one action name; None for a name of no known form."""
    for pattern in _CONTROL:
        if found := pattern.fullmatch(action):
            return Role(_owner(found), control=True)
    for pattern, drivers in _QUEUES:
        if (not drivers or driver in drivers) and (found := pattern.fullmatch(action)):
            number = {name: int(text) for name, text in found.groupdict().items() if name in ("q", "rx", "tx") and text}
            return Role(_owner(found), number.get("rx", number.get("q")), number.get("tx", number.get("q")))
    return next((Role(_owner(found), whole=True) for form in _WHOLE if (found := form.fullmatch(action))), None)


def map_queues(vectors: Iterable[Vector], device: Device, *, alone: bool = True) -> list[Queue]:
    """The vectors of one NIC by irq, with the queues that their names say; another NIC's on its function are left out.

    `alone`: no other NIC on this PCI function, so that names from before a rename are its own. A vector whose name is
    of no known form, or says a queue the NIC does not have, serves neither rx nor tx.
    """
    roles = {vector: [parse_action(action, device.driver) for action in vector.actions] for vector in vectors}
    owners = _owners(roles.values(), device, alone=alone)
    mapped = [
        (vector, ours[0] if ours else None)
        for vector, said in roles.items()
        if (ours := [role for role in said if role and role.owner in owners]) or not any(said)
    ]
    several = sum(1 for _, role in mapped if role and not role.control) > 1
    lowest = _lowest([role for _, role in mapped if role], device.driver)
    return [_queue(vector, role, device, lowest, several=several) for vector, role in sorted(mapped)]


def _owner(found: "re.Match[str]") -> str:
    named = found.groupdict()
    return named.get("dev") or named.get("bdf") or named.get("virtio") or ""


def _owners(said: Iterable[list[Role | None]], device: Device, *, alone: bool) -> set[str]:
    """The names in actions that mean this NIC; "" is in names that carry none (irdma)."""
    own = {*device.names, device.address, device.virtio, ""}
    roles = [role for roles in said for role in roles if role and (role.rx is not None or role.tx is not None)]
    named = {role.owner for role in roles}
    return own | named if alone and not named & own and len(named) == 1 else own


def _lowest(roles: list[Role], driver: str) -> tuple[int, int]:
    """The numbers of rx and tx queue 0."""
    if driver not in VECTOR_NUMBERS:
        return 0, 0
    rx = [role.rx for role in roles if role.rx is not None]
    tx = [role.tx for role in roles if role.tx is not None]
    return min(rx, default=0), min(tx, default=0)


def _queue(vector: Vector, role: Role | None, device: Device, lowest: tuple[int, int], *, several: bool) -> Queue:
    queue = Queue(irq=vector.irq, name=vector.action)
    if role is None:
        return queue
    if role.whole and not several:
        queue.rx = list(range(device.rx_queues or 1))
        queue.tx = list(range(device.tx_queues or 1))
    elif not role.whole:
        queue.rx = _there(role.rx, lowest[0], device.rx_queues)
        queue.tx = _there(role.tx, lowest[1], device.tx_queues)
    queue.control = role.control or (role.whole and several)
    return queue


def _there(number: int | None, lowest: int, count: int) -> list[int]:
    """The queue, if the NIC has it."""
    if number is None or (count and number - lowest >= count):
        return []
    return [number - lowest]
