"""Receive side scaling: indirection table, hash key, symmetry, hashed fields and contexts (ethtool's ioctl, 3.16).

Setting goes through the ioctl, for netlink has RSS_SET since kernel 6.17 only; contexts are listed by netlink (6.12).
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

from machine import Machine, MachineError, UnsupportedError, ethtool, nla
from wire.cpulist import format_cpulist, parse_cpulist
from wire.indirection import format_table, is_default, parse_table, spread
from wire.policy import Request, Values

_GRXFH, _SRXFH, _GRXRINGS, _GRSSH, _SRSSH = 0x29, 0x2A, 0x2D, 0x46, 0x47
_HEADER = struct.Struct("=IIIIBBHI")  # struct ethtool_rxfh: cmd, context, table, key, hfunc, input_xfrm, reserved
_RXNFC = 192  # sizeof(struct ethtool_rxnfc)
_KEEP_TABLE, _NEW_CONTEXT = 0xFFFFFFFF, 0xFFFFFFFF
_MOST = 1 << 16
SYMMETRIES = {0: "", 1: "symmetric-xor", 2: "symmetric-or-xor"}  # RXH_XFRM_*
FLOWS = {
    **{"tcp4": 0x01, "udp4": 0x02, "sctp4": 0x03, "tcp6": 0x05, "udp6": 0x06, "sctp6": 0x07},
    **{"ah4": 0x09, "esp4": 0x0A, "ah6": 0x0B, "esp6": 0x0C},
}
_LETTERS = {letter: 1 << at for at, letter in enumerate("mvtsdfn", 1)} | {"r": 1 << 31}  # RXH_*, as ethtool's letters


class Rxfh(NamedTuple):
    """One table: the queue of each hash bucket, the key in hex ("" where it is not shown), and how the hash is made."""

    table: list[int]
    key: str
    hfunc: str
    symmetric: str


def read(machine: Machine, ifname: str, context: int = 0) -> Rxfh:
    """The default table or a context's. Raises UnsupportedError where the driver has none, MachineError."""
    table, key = _HEADER.unpack_from(_ask(machine, ifname, context))[2:4]
    if max(table, key) > _MOST:
        raise MachineError(f"{ifname}: an indirection table of {table} and a key of {key} bytes are too large")
    reply = _ask(machine, ifname, context, (table, key))
    hfunc, symmetric = _HEADER.unpack_from(reply)[4:6]
    queues = list(struct.unpack_from(f"={table}I", reply, _HEADER.size))
    shown = reply[_HEADER.size + 4 * table :][:key].hex()
    return Rxfh(queues, shown, ethtool.HFUNCS.get(hfunc, ""), SYMMETRIES.get(symmetric, str(symmetric)))


def _ask(machine: Machine, ifname: str, context: int, sizes: tuple[int, int] = (0, 0)) -> bytes:
    """Without sizes the reply has only these: entries of the table, bytes of the key."""
    table, key = sizes
    size = _HEADER.size + 4 * table + key
    reply = machine.ethtool_ioctl(ifname, _HEADER.pack(_GRSSH, context, table, key, 0, 0, 0, 0), size)
    return reply.ljust(size, b"\0")


def read_queues(machine: Machine, ifname: str) -> int:
    """How many receive queues there are to spread over; raises UnsupportedError where the driver does not say."""
    reply = machine.ethtool_ioctl(ifname, struct.pack("=I", _GRXRINGS), _RXNFC)
    return int(struct.unpack_from("=Q", reply.ljust(16, b"\0"), 8)[0])


def read_fields(machine: Machine, ifname: str, flow: str) -> str:
    """What of a flow is hashed, as ethtool's letters ("sdfn"); raises UnsupportedError."""
    reply = machine.ethtool_ioctl(ifname, struct.pack("=II", _GRXFH, FLOWS[flow]), _RXNFC)
    bits = int(struct.unpack_from("=Q", reply.ljust(16, b"\0"), 8)[0])
    return "".join(letter for letter, bit in _LETTERS.items() if bits & bit)


def read_contexts(machine: Machine, ifindex: int) -> dict[int, str]:
    """The queues of each context but the default one, by id. Raises UnsupportedError before kernel 6.12."""
    found: dict[int, str] = {}
    for reply in machine.genl(ethtool.FAMILY, ethtool.RSS_GET, ethtool.header(ifindex), dump=True):
        attributes = nla.table(reply.payload)
        if context := nla.number(attributes.get(2, b"")):
            found[context] = format_cpulist(ethtool.parse_rss(attributes).indirection)
    return found


def read_values(machine: Machine, op: Request) -> Values:
    """Of a request "rss": `table` (wire.indirection), `key` (hex) and `symmetric`."""
    now = read(machine, op.ifname)
    return {"table": format_table(now.table), "key": now.key, "symmetric": now.symmetric}


def set_values(machine: Machine, op: Request) -> None:
    """Table, key and symmetry in one request; what is not named stays. Raises MachineError.

    The table that the kernel would choose itself is asked for as such: it follows the number of channels from then on.
    """
    now = read(machine, op.ifname)
    symmetric = str(op.after.get("symmetric", now.symmetric))
    number = next((at for at, word in SYMMETRIES.items() if word == symmetric), None)
    if number is None:
        raise MachineError(f"{op.ifname}: no symmetry {symmetric!r}")
    table, size = b"", _KEEP_TABLE
    if "table" in op.after:
        wanted = sized_table(op.ifname, str(op.after["table"]), len(now.table))
        in_turn = wanted == spread(range(read_queues(machine, op.ifname)), len(wanted))
        table, size = (b"", 0) if in_turn else (struct.pack(f"={len(wanted)}I", *wanted), len(wanted))
    key = sized_key(op.ifname, str(op.after["key"]), len(now.key) // 2) if "key" in op.after else b""
    _set(machine, op.ifname, (0, size, len(key), number), table + key)


def sized_table(ifname: str, text: str, size: int) -> list[int]:
    """The table of a text, of as many entries as the NIC has; raises MachineError."""
    try:
        table = parse_table(text)
    except ValueError as error:
        raise MachineError(f"{ifname}: {error}") from None
    if len(table) != size:
        raise MachineError(f"{ifname}: the indirection table has {size} entries, not {len(table)}")
    return table


def sized_key(ifname: str, text: str, size: int) -> bytes:
    """The key of hexadecimal digits, of as many bytes as the NIC has; raises MachineError."""
    key = bytes.fromhex(text)
    if len(key) != size:
        raise MachineError(f"{ifname}: the hash key has {size} bytes, not {len(key)}")
    return key


def _set(machine: Machine, ifname: str, what: tuple[int, int, int, int], content: bytes) -> None:
    context, table, key, symmetric = what
    header = _HEADER.pack(_SRSSH, context, table, key, 0, symmetric, 0, 0)
    machine.ethtool_ioctl(ifname, header + content, _HEADER.size + len(content))


def read_field_values(machine: Machine, op: Request) -> Values:
    """Of a request "rss_fields": the letters of each flow that is named."""
    return {flow: read_fields(machine, op.ifname, flow) for flow in op.after if flow in FLOWS}


def set_field_values(machine: Machine, op: Request) -> None:
    """Hash these fields of these flows, flow by flow. Raises MachineError."""
    for flow, letters in op.after.items():
        bits = sum(_LETTERS[letter] for letter in set(str(letters)))
        machine.ethtool_ioctl(op.ifname, struct.pack("=IIQ", _SRXFH, FLOWS[flow], bits), _RXNFC)


def read_context_values(machine: Machine, op: Request) -> Values:
    """Of a request "rss_context" whose item are queues: whether there is a context of just these (`exists`)."""
    return {"exists": op.item in read_contexts(machine, op.ifindex).values()}


def set_context_values(machine: Machine, op: Request) -> None:
    """Make a context of the item's queues, or take it away. Raises MachineError."""
    if op.after["exists"]:
        table = spread(parse_cpulist(op.item), len(read(machine, op.ifname).table))
        if not table:
            raise UnsupportedError(f"{op.ifname}: the driver has no indirection table")
        _set(machine, op.ifname, (_NEW_CONTEXT, len(table), 0, 0), struct.pack(f"={len(table)}I", *table))
        return
    for context in _of(read_contexts(machine, op.ifindex), op.item)[:1]:
        _set(machine, op.ifname, (context, 0, 0, 0), b"")


def _of(contexts: Mapping[int, str], queues: str) -> list[int]:
    return [context for context, spread_over in sorted(contexts.items()) if spread_over == queues]


def reset_default(machine: Machine, ifname: str) -> bool:
    """Forget that somebody set the table where it is the default anyway; True when it is. Raises MachineError.

    Who sets the very table that was there makes the kernel refuse fewer channels; nobody can see that he did.
    """
    try:
        now = read(machine, ifname)
        untouched = bool(now.table) and is_default(now.table, read_queues(machine, ifname))
    except UnsupportedError:
        return False
    if untouched:
        symmetric = next(at for at, word in SYMMETRIES.items() if word == now.symmetric)
        _set(machine, ifname, (0, 0, 0, symmetric), b"")
    return untouched
