"""The two things that ethtool netlink does not have: driver information and the driver's own counters."""

import struct
from typing import NamedTuple

from machine import Machine, MachineError

_DRVINFO, _GSTRINGS, _GSTATS, _SS_STATS = 0x03, 0x1B, 0x1D, 1
_DRVINFO_LAYOUT = struct.Struct("=I32s32s32s32s32s12s5I")  # struct ethtool_drvinfo
_NAME = 32
MAX_STATS = 65536


class DrvInfo(NamedTuple):
    """ETHTOOL_GDRVINFO; texts are cut by the kernel at 31 characters."""

    driver: str
    version: str
    firmware: str
    bus_info: str  # PCI address of a PCI NIC
    stats: int  # how many counters `read_stats` finds


def read_drvinfo(machine: Machine, ifname: str) -> DrvInfo:
    """Driver, version, firmware and bus address; raises UnsupportedError where the device has none."""
    request = struct.pack("=I", _DRVINFO)
    reply = machine.ethtool_ioctl(ifname, request, _DRVINFO_LAYOUT.size)
    if len(reply) < _DRVINFO_LAYOUT.size:
        raise MachineError(f"{ifname}: driver information of {len(reply)} bytes is too short")
    _, driver, version, firmware, bus, _, _, _, stats, *_ = _DRVINFO_LAYOUT.unpack_from(reply)
    return DrvInfo(_text(driver), _text(version), _text(firmware), _text(bus), stats)


def read_stats(machine: Machine, ifname: str) -> dict[str, int]:
    """The driver's counters by its own names; the second of a repeated name is `name#2`. Raises MachineError."""
    count = read_drvinfo(machine, ifname).stats
    if count > MAX_STATS:
        raise MachineError(f"{ifname}: {count} counters are over {MAX_STATS}")
    if not count:
        return {}
    room = 2 * count + 1024  # the kernel writes what the driver has by now, which queues added meanwhile make more
    strings = machine.ethtool_ioctl(ifname, struct.pack("=III", _GSTRINGS, _SS_STATS, count), 12 + room * _NAME)
    values = machine.ethtool_ioctl(ifname, struct.pack("=II", _GSTATS, count), 8 + room * 8)
    return parse_stats(strings, values)


def parse_stats(strings: bytes, values: bytes) -> dict[str, int]:
    """Counters from a GSTRINGS and a GSTATS reply, as many as both hold."""
    if len(strings) < 12 or len(values) < 8:
        raise MachineError("counter reply is too short")
    count = min(*struct.unpack_from("=I", strings, 8), *struct.unpack_from("=I", values, 4))
    count = min(count, (len(strings) - 12) // _NAME, (len(values) - 8) // 8)
    found: dict[str, int] = {}
    for at, value in enumerate(struct.unpack_from(f"={count}Q", values, 8)):
        found[_unique(_text(strings[12 + at * _NAME : 12 + (at + 1) * _NAME]).strip(), found)] = value
    return found


def _unique(name: str, taken: dict[str, int]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}#{number}" in taken:
        number += 1
    return f"{name}#{number}"


def _text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode(errors="replace")
