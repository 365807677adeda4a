"""What a recorded ethtool reply would say after a set request."""

import sys

from machine import MachineError, Reply, UnsupportedError, ethtool, nla
from wire.policy import Value, Values

COMMANDS = {
    "rings": ethtool.RINGS_GET,
    "channels": ethtool.CHANNELS_GET,
    "coalesce": ethtool.COALESCE_GET,
    "features": ethtool.FEATURES_GET,
}
_NUMBERS = {"rings": ethtool.RINGS, "channels": ethtool.CHANNELS, "coalesce": ethtool.COALESCE}
_WANTED, _ACTIVE = 3, 4


def is_about(reply: Reply, ifindex: int) -> bool:
    """True for a reply about that interface."""
    return ethtool.reply_ifindex(nla.table(reply.payload)) == ifindex


def patch(reply: Reply, ifindex: int, message: str, values: Values) -> Reply:
    """The reply after setting `values`, the same reply for another NIC. Raises MachineError as a driver would."""
    if not is_about(reply, ifindex):
        return reply
    change = _patch_features if message == "features" else _patch_numbers
    return Reply(reply.kind, change(reply.payload, message, values))


def _patch_numbers(payload: bytes, message: str, values: Values) -> bytes:
    names = _NUMBERS[message]
    now = {names[kind]: nla.number(value) for kind, value in nla.items(payload) if kind in names}
    for name, value in values.items():
        if name not in now or name.endswith("_max"):
            raise MachineError(f"set {message}: cannot modify an unsupported parameter ({name})")
        if isinstance(value, str) or value > now.get(f"{name}_max", value):
            raise MachineError(f"set {message}: {name} {value} exceeds maximum")
    return b"".join(_numbered(kind, old, values.get(names.get(kind, ""))) for kind, old in nla.items(payload))


def _numbered(kind: int, old: bytes, value: Value | None) -> bytes:
    if value is None:
        return nla.attr(kind | nla.NESTED if kind == ethtool.HEADER else kind, old)
    return nla.attr(kind, int(value).to_bytes(len(old), sys.byteorder))


def _patch_features(payload: bytes, message: str, values: Values) -> bytes:
    features = ethtool.parse_features(nla.table(payload))
    fixed = sorted(name for name in values if name in features.fixed or name not in features.active)
    if fixed:
        raise UnsupportedError(f"set {message}: unchanged are {', '.join(fixed)}")
    return b"".join(
        _bitset(kind, old, values) if kind in (_WANTED, _ACTIVE) else nla.attr(kind | nla.NESTED, old)
        for kind, old in nla.items(payload)
    )


def _bitset(kind: int, old: bytes, values: Values) -> bytes:
    """A list of the bits that are set, with those of `values` added or taken away."""
    bits = {nla.string(nla.table(bit).get(2, b"")): bit for _, bit in nla.items(nla.table(old).get(3, b""))}
    for name, on in values.items():
        if on:
            bits.setdefault(name, nla.text(2, name))
        else:
            bits.pop(name, None)
    kept = (nla.attr(at, value) for at, value in nla.items(old) if at != 3)
    return nla.nest(kind, *kept, nla.nest(3, *(nla.nest(1, bit) for bit in bits.values())))
