"""Every kind of request that a change may make: how its values are read, and how they are set.

A kind is one row here; the module it names has the interface. What only a transaction needs (pyroute2 is 25 MB) is
imported when a request is made, so that planning and the dead-man stay small.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from machine import Machine, MachineError, UnsupportedError, ethtool
from wire.policy import Request, Value, Values


class Kind(NamedTuple):
    """One kind of request. Both raise MachineError; `read` may give more names than the request has."""

    read: Callable[[Machine, Request], Mapping[str, Value]]
    write: Callable[[Machine, Request], None]


def kind(op: Request) -> Kind:
    """The row of the request's message; raises MachineError when this version has none."""
    if op.message not in KINDS:
        raise MachineError(f"this version has no request {op.message!r}")
    return KINDS[op.message]


def read(machine: Machine, op: Request) -> Values:
    """What the machine has now for the request's names; a name that it does not have is left out."""
    now = kind(op).read(machine, op)
    return {name: now[name] for name in op.after if name in now}


def _by_index(reader: Callable[[Machine, int], Mapping[str, Value]]) -> Callable[[Machine, Request], Values]:
    return lambda machine, op: dict(reader(machine, op.ifindex))


def _features(machine: Machine, op: Request) -> Values:
    return dict(ethtool.read_features(machine, op.ifindex).active)


def _set_features(machine: Machine, op: Request) -> None:
    from machine import ethtool_set  # noqa: PLC0415

    ethtool_set.set_features(op.ifindex, op.after)
    active = _features(machine, op)
    ignored = [name for name in sorted(op.after) if active.get(name, False) != bool(op.after[name])]
    if ignored:
        raise UnsupportedError(f"set features of interface {op.ifindex}: unchanged are {', '.join(ignored)}")


def _set_numbers(_machine: Machine, op: Request) -> None:
    from machine import ethtool_set  # noqa: PLC0415

    ethtool_set.set_numbers(op.ifindex, op.message, op.after)


KINDS: dict[str, Kind] = {
    "channels": Kind(_by_index(ethtool.read_channels), _set_numbers),
    "rings": Kind(_by_index(ethtool.read_rings), _set_numbers),
    "coalesce": Kind(_by_index(ethtool.read_coalesce), _set_numbers),
    "features": Kind(_features, _set_features),
}
