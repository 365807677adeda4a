"""Queueing disciplines and filters, from rtnetlink, and a tree of them replaced; spelt as `wire.discipline` has it."""

import errno
import struct
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import NamedTuple

from machine import Machine, MachineError, UnsupportedError, netlink, nla
from wire.cpulist import parse_cpulist
from wire.discipline import DEFAULT, MULTI, codel_us, of_queues, parse, spell, stands
from wire.policy import Request, Values

NEWQDISC, DELQDISC, GETQDISC, GETTFILTER = 36, 37, 38, 46
ROOT = 0xFFFFFFFF
CLSACT_INGRESS, CLSACT_EGRESS = 0xFFFFFFF2, 0xFFFFFFF3  # parents of its filters
_PASSING = 0x726A0000  # handle of a root that makes way at once
CREATE_OR_REPLACE = 0x100 | 0x400  # NLM_F_REPLACE, NLM_F_CREATE
FLAT = frozenset({"fq", "fq_codel", "pfifo_fast", "pfifo", "bfifo", "noqueue", "mq"})  # what can be built again

_TCMSG = struct.Struct("=BxxxiIII")  # family, ifindex, handle, parent, info
_KIND, _OPTIONS = 1, 2
_BPF_NAME = 7

# Options by attribute: name in tc's words and bytes of the number; 0 bytes: as hexadecimal (linux/pkt_sched.h).
OPTIONS: dict[str, dict[int, tuple[str, int]]] = {
    "fq": {
        1: ("limit", 4),
        2: ("flow_limit", 4),
        3: ("quantum", 4),
        4: ("initial_quantum", 4),
        5: ("pacing", 4),
        7: ("maxrate", 4),
        8: ("buckets_log", 4),
        9: ("refill_delay", 4),
        10: ("orphan_mask", 4),
        11: ("low_rate_threshold", 4),
        12: ("ce_threshold", 4),
        13: ("timer_slack", 4),
        14: ("horizon", 4),
        15: ("horizon_drop", 1),
        16: ("priomap", 0),
        17: ("weights", 0),
        18: ("offload_horizon", 4),
    },
    "fq_codel": {
        1: ("target", 4),
        2: ("limit", 4),
        3: ("interval", 4),
        4: ("ecn", 4),
        5: ("flows", 4),
        6: ("quantum", 4),
        7: ("ce_threshold", 4),
        8: ("drop_batch", 4),
        9: ("memory_limit", 4),
        10: ("ce_threshold_selector", 1),
        11: ("ce_threshold_mask", 1),
    },
}
_FIFOS = ("pfifo", "bfifo")  # their options are one number, without attributes
_CODEL = {"fq_codel": ("target", "interval", "ce_threshold")}  # µs in CoDel's units
_FIXED = {"fq_codel": ("flows",)}  # only at creation


class Discipline(NamedTuple):
    """One qdisc of an interface."""

    ifindex: int
    kind: str
    handle: int
    parent: int
    options: dict[str, str]

    @property
    def text(self) -> str:
        """How it is spelt."""
        return spell(self.kind, f"{self.handle >> 16:x}:", self.options)


class Filter(NamedTuple):
    """One tc filter."""

    parent: int
    kind: str
    name: str  # of a BPF program, "" for others


def _is(now: str, wanted: str) -> bool:
    (kind, handle, options), (want_kind, want_handle, want_options) = parse(now), parse(wanted)
    return kind == want_kind and want_handle in ("", handle) and options.items() >= want_options.items()


def read_all(machine: Machine) -> dict[int, list[Discipline]]:
    """Every discipline that the kernel shows, by ifindex. Raises MachineError."""
    found: dict[int, list[Discipline]] = {}
    for reply in machine.rtnl(GETQDISC, _TCMSG.pack(0, 0, 0, 0, 0), dump=True):
        one = parse_message(reply.payload)
        found.setdefault(one.ifindex, []).append(one)
    return found


def read_one(machine: Machine, ifindex: int) -> list[Discipline]:
    """The disciplines of one interface: the kernel takes an index in a dump for nothing. Raises MachineError."""
    return read_all(machine).get(ifindex, [])


def parse_message(payload: bytes) -> Discipline:
    """One RTM_NEWQDISC message; raises MachineError when it is cut."""
    if len(payload) < _TCMSG.size:
        raise MachineError(f"qdisc message of {len(payload)} bytes is too short")
    _, ifindex, handle, parent, _ = _TCMSG.unpack_from(payload)
    attributes = nla.table(payload, _TCMSG.size)
    kind = nla.string(attributes.get(_KIND, b""))
    return Discipline(ifindex, kind, handle, parent, parse_options(kind, attributes.get(_OPTIONS, b"")))


def parse_options(kind: str, value: bytes) -> dict[str, str]:
    """Options by name, those in `OPTIONS`."""
    if kind in _FIFOS and len(value) >= 4:
        return {"limit": str(nla.number(value[:4]))}
    known = OPTIONS.get(kind, {})
    found = nla.items(value) if known else []
    return {known[at][0]: str(nla.number(v)) if known[at][1] else v.hex() for at, v in found if at in known}


def encode_options(kind: str, options: Mapping[str, str]) -> bytes:
    """TCA_OPTIONS of these options; raises MachineError for one that the kind does not have."""
    if kind in _FIFOS and "limit" in options:
        return nla.attr(_OPTIONS, struct.pack("=I", int(options["limit"])))
    numbers = {name: (at, size) for at, (name, size) in OPTIONS.get(kind, {}).items()}
    if unknown := sorted(options.keys() - numbers.keys()):
        raise MachineError(f"{kind} has no {unknown[0]}")
    if not options:
        return b""
    texts = {name: _codel(value) if name in _CODEL.get(kind, ()) else value for name, value in options.items()}
    return nla.nest(_OPTIONS, *(_attribute(*numbers[name], value) for name, value in texts.items()))


def _attribute(at: int, size: int, value: str) -> bytes:
    return nla.attr(at, int(value).to_bytes(size, sys.byteorder) if size else bytes.fromhex(value))


def _codel(value: str) -> str:
    """What to ask for so that `value` reads back."""
    return value if codel_us(int(value)) == int(value) else str(int(value) + 1)


def read_filters(machine: Machine, ifindex: int, parent: int) -> list[Filter]:
    """The tc filters at one parent of an interface. Raises MachineError."""
    replies = machine.rtnl(GETTFILTER, _TCMSG.pack(0, ifindex, 0, parent, 0), dump=True)
    found: dict[Filter, None] = {}
    for reply in replies:
        attributes = nla.table(reply.payload, _TCMSG.size)
        kind = nla.string(attributes.get(_KIND, b""))
        options = nla.table(attributes[_OPTIONS]) if kind == "bpf" and _OPTIONS in attributes else {}
        found[Filter(parent, kind, nla.string(options.get(_BPF_NAME, b"")))] = None
    return list(found)


def tree(found: list[Discipline]) -> tuple[str, dict[int, str]]:
    """Root, and discipline by queue below its classes; "" where the kernel shows none (noqueue)."""
    root = next((one for one in found if one.parent == ROOT), None)
    if root is None:
        return "noqueue 0:", {}
    major = root.handle & 0xFFFF0000
    below = [one for one in found if root.kind in MULTI and one is not root and one.parent & 0xFFFF0000 == major]
    leaves = {(one.parent & 0xFFFF) - 1: one.text for one in below if one.parent & 0xFFFF}
    return root.text, leaves


def write_tree(machine: Machine, ifindex: int, root: str, leaves: Mapping[int, str]) -> None:
    """Replace root ("": it stays) and leaves by those wanted, each in one request, until which the old one serves.

    Raises MachineError; then all is as it was. A default root ("0:") comes back by deleting what stands there.
    """
    now = tree(read_one(machine, ifindex))
    with closing(netlink.Channel(netlink.ROUTE)) as channel:
        try:
            _write(machine, channel, ifindex, (root or now[0], leaves))
        except MachineError:
            with suppress(MachineError):
                _write(machine, channel, ifindex, now)
            raise


def _write(machine: Machine, channel: netlink.Channel, ifindex: int, wanted: tuple[str, Mapping[int, str]]) -> None:
    now, have = tree(read_one(machine, ifindex))
    root, leaves = wanted
    kind, handle, _ = parse(root)
    lost = [queue for queue, text in leaves.items() if parse(text)[1] == DEFAULT and not _is(have.get(queue, ""), text)]
    if kind == "mq" and lost and DEFAULT not in (handle, parse(now)[1]):  # default leaves only come with a new root
        _send(channel, ifindex, (0, ROOT), None)
        now, have = tree(read_one(machine, ifindex))
    if handle == DEFAULT:
        if not _is(now, root) or lost:
            _renew(channel, ifindex, now)
        return
    if not _is(now, root):
        _put(channel, ifindex, ROOT, now, root)
        have = tree(read_one(machine, ifindex))[1]
    if kind not in MULTI:
        return
    major = int(handle.rstrip(":"), 16) << 16
    for queue, text in leaves.items():
        if text and not stands(have.get(queue, ""), text):
            _put(channel, ifindex, major | queue + 1, have.get(queue, ""), text)


def _renew(channel: netlink.Channel, ifindex: int, now: str) -> None:
    """Bring the kernel's default, made anew: its options follow from the MTU, and one that stands cannot be changed."""
    if parse(now)[1] == DEFAULT:
        _send(channel, ifindex, (_PASSING, ROOT), nla.text(_KIND, "pfifo"))
    _send(channel, ifindex, (0, ROOT), None)


def _put(channel: netlink.Channel, ifindex: int, parent: int, now: str, wanted: str) -> None:
    """One discipline in the place of another; of the same kind and handle its options are changed where it stands."""
    kind, handle, options = parse(wanted)
    handle = "" if handle == DEFAULT else handle  # below mqprio: its own default leaves never come back
    same = parse(now)[:2] == (kind, handle or parse(now)[1])
    if same:
        had = parse(now)[2]
        options = {name: value for name, value in options.items() if had.get(name) != value}
        options = {name: value for name, value in options.items() if name not in _FIXED.get(kind, ())}
    if same and not handle:
        handle = parse(now)[1]
    number = int(handle.rstrip(":") or "0", 16) << 16
    attributes = nla.text(_KIND, kind) + encode_options(kind, options)
    _send(channel, ifindex, (number, parent), attributes)


def _send(channel: netlink.Channel, ifindex: int, place: tuple[int, int], attributes: bytes | None) -> None:
    """Put a discipline at (handle, parent), or take away what stands there."""
    payload = _TCMSG.pack(0, ifindex, *place, 0) + (attributes or b"")
    kind, flags = (DELQDISC, 0) if attributes is None else (NEWQDISC, CREATE_OR_REPLACE)
    what = f"qdisc of interface {ifindex}"
    try:
        channel.request(kind, payload, what, flags=flags)
    except MachineError as error:
        if error.code == errno.ENOENT and flags:
            raise UnsupportedError(f"{what}: this kernel has no such discipline") from None
        raise


def read_values(machine: Machine, op: Request) -> Values:
    """The tree in the request's names: "root", and lists of queues ("0-3"); "" where no discipline stands."""
    root, leaves = tree(read_one(machine, op.ifindex))
    return {name: root if name == "root" else of_queues(leaves, name) for name in op.after}


def set_values(machine: Machine, op: Request) -> None:
    """Bring the tree to the request's `after`. Raises MachineError."""
    lists = [(parse_cpulist(name), str(text)) for name, text in op.after.items() if name != "root"]
    leaves = {queue: text for queues, text in lists for queue in queues}
    write_tree(machine, op.ifindex, str(op.after.get("root", "")), leaves)
