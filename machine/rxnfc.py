"""Flow rules of a NIC (ethtool's ioctl: GRXCLSRLALL, GRXCLSRULE, SRXCLSRLINS, SRXCLSRLDEL; linux/ethtool.h)."""

import ipaddress
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from machine import Machine, MachineError, NotPresentError, UnsupportedError, rxfh
from wire.flowrule import FlowRule, FlowRuleError, format_rule, parse_rule
from wire.policy import Request, Values

_COUNT, _RULE, _ALL, _DELETE, _INSERT = 0x2E, 0x2F, 0x30, 0x31, 0x32
_SIZE = 192  # sizeof(struct ethtool_rxnfc)
_HEAD = struct.Struct("=IIQ")
# struct ethtool_rx_flow_spec: type, match and mask with their extensions, where to, location
_SPEC = struct.Struct("=I52s20s52s20s4xQI4x")
_TAIL = struct.Struct("=I4x")  # rule count, or RSS context
_LOCATIONS = 188
_ANY_PLACE = 1 << 31  # RX_CLS_LOC_SPECIAL
_RSS = 0x20000000  # FLOW_RSS
_DROP, _MOST = (1 << 64) - 1, 1 << 16
_VF_SHIFT = 32
_PORTED = {"tcp4": 0x01, "udp4": 0x02, "sctp4": 0x03, "tcp6": 0x05, "udp6": 0x06, "sctp6": 0x07}
_TYPES = {**_PORTED, "ip4": 0x0D, "ip6": 0x0E, "ether": 0x12}
_NAMES = {number: name for name, number in _TYPES.items()}
_IP4 = 1  # ETH_RX_NFC_IP4: of the field ip_ver, which carries no mask


class Rules(NamedTuple):
    """How many places the table has (0: not said), and the rules by place, in the words of wire.flowrule."""

    size: int
    rules: dict[int, str]


def read_rules(machine: Machine, ifname: str, ifindex: int) -> Rules:
    """Every rule of a NIC, whoever made it. Raises UnsupportedError where the driver has none, MachineError."""
    said = machine.ethtool_ioctl(ifname, struct.pack("=I", _COUNT), _SIZE)
    count = _TAIL.unpack_from(said.ljust(_SIZE, b"\0"), 184)[0]
    if count > _MOST:
        raise MachineError(f"{ifname}: {count} flow rules are over {_MOST}")
    room = count + 64  # others may add some meanwhile
    request = _HEAD.pack(_ALL, 0, 0) + bytes(168) + _TAIL.pack(room)
    reply = machine.ethtool_ioctl(ifname, request, _SIZE + 4 * room).ljust(_SIZE + 4 * room, b"\0")
    size, count = struct.unpack_from("=Q", reply, 8)[0], min(room, _TAIL.unpack_from(reply, 184)[0])
    places = struct.unpack_from(f"={count}I", reply, _LOCATIONS)
    contexts = _contexts(machine, ifindex)
    found = {place: _read(machine, ifname, place, contexts) for place in sorted(places)}
    return Rules(int(size) & ~_ANY_PLACE, {place: rule for place, rule in found.items() if rule})


def _contexts(machine: Machine, ifindex: int) -> dict[int, str]:
    try:
        return rxfh.read_contexts(machine, ifindex)
    except MachineError:
        return {}


def _read(machine: Machine, ifname: str, place: int, contexts: Mapping[int, str]) -> str:
    """The rule at one place, "" when there is none."""
    request = _HEAD.pack(_RULE, 0, 0) + _SPEC.pack(0, b"", b"", b"", b"", 0, place) + _TAIL.pack(0)
    try:
        reply = machine.ethtool_ioctl(ifname, request, _SIZE)
    except UnsupportedError:
        raise
    except NotPresentError:
        return ""
    except MachineError as error:
        if error.code == 22:  # drivers say EINVAL of a place that is empty
            return ""
        raise
    return unpack(reply.ljust(_SIZE, b"\0"), contexts)


def unpack(reply: bytes, contexts: Mapping[int, str]) -> str:
    """The rule of a GRXCLSRULE reply; "other ..." for one that the language has no words for."""
    kind, match, match_ext, mask, mask_ext, cookie, _ = _SPEC.unpack_from(reply, 16)
    flow = _NAMES.get(kind & ~_RSS, "")
    other = f"other type {kind:#x} match {match.hex()} mask {mask.hex()} to {cookie:#x}"
    rule = FlowRule(flow)._replace(**_fields(flow, match, mask)) if flow else None
    if rule is None or any(mask_ext[2:]) or any(match_ext[2:]):
        return other
    target = _target(cookie, contexts.get(_TAIL.unpack_from(reply, 184)[0], "") if kind & _RSS else None)
    if target is None:
        return other
    rule = rule._replace(**target)
    says, only = (part.ljust(len(mask), b"\0") for part in _match(rule))
    return format_rule(rule) if only == mask and _masked(says, mask) == _masked(match, mask) else other


def _target(cookie: int, context: str | None) -> dict[str, Any] | None:
    """Where a rule sends to, None for what has no word; `context` are the queues of its RSS context, if it has one."""
    if cookie == _DROP:
        return {"action": "drop"}
    if context is not None:
        return {"action": "context", "queues": context} if context and not cookie else None
    function, queue = cookie >> _VF_SHIFT, cookie & 0xFFFFFFFF
    if function:
        return None if queue else {"action": "vf", "number": function - 1}
    return {"number": queue}


def _masked(value: bytes, mask: bytes) -> bytes:
    return bytes(a & b for a, b in zip(value, mask, strict=True))


def _fields(flow: str, match: bytes, mask: bytes) -> dict[str, Any]:
    """What a match of that type says, as far as the language has words: packed again it shows if that is all."""
    if flow == "ether":
        return {"proto": int.from_bytes(match[12:14], "big") if any(mask[12:14]) else None}
    width = 4 if flow.endswith("4") else 16
    found: dict[str, Any] = {
        "src_ip": _network(match[:width], mask[:width]),
        "dst_ip": _network(match[width : 2 * width], mask[width : 2 * width]),
    }
    at = 2 * width
    if flow in _PORTED:
        for name, start in (("src_port", at), ("dst_port", at + 2)):
            found[name] = int.from_bytes(match[start : start + 2], "big") if any(mask[start : start + 2]) else None
    else:
        at += 6 if flow == "ip4" else 5
        found["proto"] = match[at] if mask[at] else None
    return found


def _network(address: bytes, mask: bytes) -> str:
    length = int.from_bytes(mask, "big").bit_count()
    return str(ipaddress.ip_network((address, length), strict=False)) if length else ""


def pack(rule: FlowRule, place: int, context: int) -> bytes:
    """The struct ethtool_rxnfc that inserts a rule at a place."""
    match, mask = _match(rule)
    kind, cookie = _TYPES[rule.flow], rule.number
    if rule.action == "drop":
        cookie = _DROP
    elif rule.action == "vf":
        cookie = (rule.number + 1) << _VF_SHIFT
    elif rule.action == "context":
        kind, cookie = kind | _RSS, 0
    spec = _SPEC.pack(kind, match, b"", mask, b"", cookie, place)
    return _HEAD.pack(_INSERT, 0, 0) + spec + _TAIL.pack(context)


def _match(rule: FlowRule) -> tuple[bytes, bytes]:
    if rule.flow == "ether":
        value, mask = _number(rule.proto, 2)
        return bytes(12) + value, bytes(12) + mask
    width = 4 if rule.flow.endswith("4") else 16
    parts = [_address(rule.src_ip, width), _address(rule.dst_ip, width)]
    if rule.flow in _PORTED:
        parts += [_number(rule.src_port, 2), _number(rule.dst_port, 2)]
    elif rule.flow == "ip4":
        parts += [(bytes(5) + bytes([_IP4]), bytes(6)), _number(rule.proto, 1)]
    else:
        parts += [(bytes(5), bytes(5)), _number(rule.proto, 1)]
    return b"".join(value for value, _ in parts), b"".join(mask for _, mask in parts)


def _number(number: int | None, width: int) -> tuple[bytes, bytes]:
    return (bytes(width), bytes(width)) if number is None else (number.to_bytes(width, "big"), b"\xff" * width)


def _address(text: str, width: int) -> tuple[bytes, bytes]:
    if not text:
        return bytes(width), bytes(width)
    network = ipaddress.ip_network(text)
    return network.network_address.packed, network.netmask.packed


def read_values(machine: Machine, op: Request) -> Values:
    """Of a request "ntuple" whose item is a place: the rule that is there, "" for none."""
    return {"rule": _read(machine, op.ifname, int(op.item), _contexts(machine, op.ifindex))}


def set_values(machine: Machine, op: Request) -> None:
    """Bring a place to its rule: one that is there is taken away first. Raises MachineError."""
    place = int(op.item)
    if read_values(machine, op)["rule"]:
        request = _HEAD.pack(_DELETE, 0, 0) + _SPEC.pack(0, b"", b"", b"", b"", 0, place) + _TAIL.pack(0)
        machine.ethtool_ioctl(op.ifname, request, _SIZE)
    if text := str(op.after["rule"]):
        try:
            rule = parse_rule(text)
        except FlowRuleError as error:
            raise MachineError(f"{op.ifname}: {error}") from None
        context = _context(machine, op, rule.queues) if rule.action == "context" else 0
        machine.ethtool_ioctl(op.ifname, pack(rule, place, context), _SIZE)


def _context(machine: Machine, op: Request, queues: str) -> int:
    found = [context for context, over in sorted(_contexts(machine, op.ifindex).items()) if over == queues]
    if not found:
        raise MachineError(f"{op.ifname}: there is no RSS context of queues {queues}")
    return found[0]
