"""What a port does on its cable, set: link modes, pause, FEC, EEE. After each the link is waited for.

A link that does not come back is an error, so that the transaction is undone.
"""

import time

from machine import Machine, MachineError, ethtool, nla, rtnl
from wire.policy import Request, Values

CARRIER_S = 20.0  # copper trains for up to 5 s, 100G with FEC and link training for more
_PAUSE_S = 0.1
_NOMASK, _BITS, _BIT, _BIT_NAME = 1, 3, 1, 2  # ETHTOOL_A_BITSET_*
_AUTONEG, _OURS, _SPEED, _DUPLEX = 2, 3, 5, 6
_FEC_MODES, _FEC_AUTO = 2, 3
_UNKNOWN, _UNKNOWN_SPEED, _UNKNOWN_DUPLEX = "unknown", 0xFFFFFFFF, 0xFF


def exactly(kind: int, names: list[str]) -> bytes:
    """A bitset of these names and no others."""
    bits = [nla.nest(_BIT, nla.text(_BIT_NAME, name)) for name in names]
    return nla.nest(kind, nla.attr(_NOMASK, b""), nla.nest(_BITS, *bits))


def read_modes(machine: Machine, op: Request) -> Values:
    """`mode`: "auto: MODES" or "fixed SPEED DUPLEX: MODES", modes as advertised. Raises MachineError."""
    return {"mode": spell_modes(ethtool.read_linkmodes(machine, op.ifindex))}


def spell_modes(modes: ethtool.LinkModes) -> str:
    """The text of `read_modes`."""
    how = "auto" if modes.autoneg else f"fixed {modes.speed_mbps or _UNKNOWN} {modes.duplex or _UNKNOWN}"
    return f"{how}: {','.join(sorted(modes.advertised))}"


def set_modes(machine: Machine, op: Request) -> None:
    """Advertise these modes, or fix speed and duplex. Raises MachineError."""
    how, _, listed = str(op.after["mode"]).partition(": ")
    if how == "auto":
        attributes = nla.u8(_AUTONEG, 1) + exactly(_OURS, [name for name in listed.split(",") if name])
    else:
        _, speed, duplex = how.split()
        attributes = nla.u8(_AUTONEG, 0)
        attributes += nla.u32(_SPEED, _UNKNOWN_SPEED if speed == _UNKNOWN else int(speed))
        attributes += nla.u8(_DUPLEX, {"half": 0, "full": 1}.get(duplex, _UNKNOWN_DUPLEX))
    _set(machine, op, ethtool.LINKMODES_SET, attributes)


def read_pause(machine: Machine, op: Request) -> Values:
    """Flow control: autoneg, rx, tx. Raises MachineError."""
    return dict(ethtool.read_pause(machine, op.ifindex))


def set_pause(machine: Machine, op: Request) -> None:
    """Set flow control. Raises MachineError."""
    _set(machine, op, ethtool.PAUSE_SET, _numbers(op, ethtool.PAUSE))


def read_fec(machine: Machine, op: Request) -> Values:
    """`modes`: those configured, with commas, "auto" first where the driver chooses. Raises MachineError."""
    found = ethtool.read_fec(machine, op.ifindex)
    return {"modes": ",".join(["auto", *found.modes] if found.auto else found.modes)}


def set_fec(machine: Machine, op: Request) -> None:
    """Configure forward error correction. Raises MachineError."""
    names = [name for name in str(op.after["modes"]).split(",") if name]
    modes = [name for name in names if name != "auto"]
    attributes = exactly(_FEC_MODES, modes) + nla.u8(_FEC_AUTO, "auto" in names)
    _set(machine, op, ethtool.FEC_SET, attributes)


def read_eee(machine: Machine, op: Request) -> Values:
    """`enabled` and `active`. Raises MachineError."""
    return dict(ethtool.read_eee(machine, op.ifindex))


def set_eee(machine: Machine, op: Request) -> None:
    """Enable energy efficient Ethernet, or not. Raises MachineError."""
    _set(machine, op, ethtool.EEE_SET, _numbers(op, ethtool.EEE))


def _numbers(op: Request, names: dict[int, str]) -> bytes:
    return b"".join(nla.u8(at, bool(op.after[name])) for at, name in names.items() if name in op.after)


def _set(machine: Machine, op: Request, command: int, attributes: bytes) -> None:
    had = rtnl.read_link(machine, op.ifindex)
    machine.genl(ethtool.FAMILY, command, ethtool.header(op.ifindex) + attributes)
    if had.up and had.carrier:
        await_carrier(machine, op.ifindex, op.message)


def await_carrier(machine: Machine, ifindex: int, what: str) -> None:
    """Return when the link is up; raises MachineError when it does not come back within `CARRIER_S`."""
    until = time.monotonic() + CARRIER_S
    while not rtnl.read_link(machine, ifindex).carrier:
        if time.monotonic() > until:
            raise MachineError(f"after {what}: the link did not come back within {CARRIER_S:g} s")
        time.sleep(_PAUSE_S)
