"""Every kind of request that a change may make: how its values are read, and how they are set.

A kind is one row here; the module it names has the interface. What only a transaction needs (pyroute2 is 25 MB) is
imported when a request is made, so that planning and the dead-man stay small.
"""

import errno
from collections.abc import Callable, Mapping
from typing import NamedTuple

from machine import (
    Machine,
    MachineError,
    UnsupportedError,
    Writer,
    affinity,
    binding,
    dcb,
    eswitch,
    ethtool,
    flash,
    hugepages,
    hwtstamp,
    kept,
    link,
    mtu,
    napi,
    perqueue,
    qdisc,
    resctrl,
    rxfh,
    rxnfc,
    sriov,
    systemd,
    vfinfo,
    xdp,
)
from wire.policy import Request, Value, Values


class Kind(NamedTuple):
    """One kind of request. Both raise MachineError; `read` may give more names than the request has."""

    read: Callable[[Machine, Request], Mapping[str, Value]]
    write: Callable[[Writer, Request], None]
    anywhere: bool = False  # made of files alone: also under another root than "/"
    follows: bool = False  # what was there before follows from settings that an undo brings back after it


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


def _set_channels(machine: Machine, op: Request) -> None:
    try:
        _set_numbers(machine, op)
    except MachineError as error:
        if error.code != errno.EINVAL or not rxfh.reset_default(machine, op.ifname):
            raise
        _set_numbers(machine, op)


def _set_xdp(machine: Machine, op: Request) -> None:
    from machine import xdp_attach  # noqa: PLC0415

    xdp_attach.write(machine, op)


KINDS: dict[str, Kind] = {
    "channels": Kind(_by_index(ethtool.read_channels), _set_channels),
    "rings": Kind(_by_index(ethtool.read_rings), _set_numbers),
    "coalesce": Kind(_by_index(ethtool.read_coalesce), _set_numbers),
    "coalesce_queue": Kind(perqueue.read_values, perqueue.set_values),
    "rss": Kind(rxfh.read_values, rxfh.set_values),
    "rss_fields": Kind(rxfh.read_field_values, rxfh.set_field_values),
    "rss_context": Kind(rxfh.read_context_values, rxfh.set_context_values),
    "ntuple": Kind(rxnfc.read_values, rxnfc.set_values),
    "napi": Kind(napi.read_values, napi.set_values),
    "napi_thread": Kind(napi.read_thread, napi.set_thread),
    "features": Kind(_features, _set_features),
    "fan": Kind(kept.read_fan, kept.write_fan),
    "watchdog": Kind(kept.read_watchdog, kept.write_watchdog),
    "numvfs": Kind(sriov.read, sriov.write),
    "eswitch": Kind(eswitch.read, eswitch.write),
    "vf": Kind(vfinfo.read, vfinfo.write),
    "driver": Kind(binding.read, binding.write),
    "flash": Kind(flash.read, flash.write),
    "unit": Kind(systemd.read, systemd.write),
    "threads": Kind(affinity.read, affinity.write),
    "hugepages": Kind(hugepages.read, hugepages.write),
    "cache_group": Kind(resctrl.read_group, resctrl.write_group, anywhere=True),
    "cache_tasks": Kind(resctrl.read_tasks, resctrl.write_tasks, anywhere=True),
    "xdp": Kind(_by_index(xdp.read), _set_xdp),
    "qdisc": Kind(qdisc.read_values, qdisc.set_values, follows=True),
    "linkmodes": Kind(link.read_modes, link.set_modes),
    "pause": Kind(link.read_pause, link.set_pause),
    "fec": Kind(link.read_fec, link.set_fec),
    "eee": Kind(link.read_eee, link.set_eee),
    "mtu": Kind(mtu.read_mtu, mtu.set_mtu),
    "dcb": Kind(dcb.read_values, dcb.set_values),
    "hwtstamp": Kind(hwtstamp.read_values, hwtstamp.set_values),
}
