"""What a NIC does when it is asked for it: blinks, tests itself and its cable, shows its module's memory.

None of it is a setting, so nothing here has a way back; what disturbs traffic says so. Not for collectors.
"""

import select
import socket
import struct
import time
from collections.abc import Iterable
from typing import NamedTuple

from machine import Machine, MachineError, UnsupportedError, eeprom, ethtool, failure, netlink, nla
from machine.eeprom import Read
from machine.live import Live
from wire.text import clean

_TEST, _PHYS_ID, _GSTRINGS, _GSSET_INFO = 0x1A, 0x1C, 0x1B, 0x37
_SS_TEST, _NAME = 0, 32
_OFFLINE, _FAILED = 1, 2  # ETH_TEST_FL_*
_MOST_TESTS = 1024
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1

CABLE_TEST_ACT, CABLE_TEST_NTF = 26, 27
_STATUS, _NEST, _COMPLETED = 2, 3, 2
_RESULT, _FAULT_LENGTH = 1, 2
CODES = {1: "ok", 2: "open", 3: "short within the pair", 4: "short to another pair", 5: "impedance mismatch"}
PAIRS = "ABCD"

HALF = eeprom.BLOCK  # of a page: what one request may read
_SFP, _QSFP, _CMIS = (0x02, 0x03, 0x0B), (0x0C, 0x0D, 0x11), (0x18, 0x19, 0x1A, 0x1B, 0x1E, 0x1F, 0x20, 0x21)


class SelfTest(NamedTuple):
    """What a driver found; a test's value is its own, 0 mostly means that it passed."""

    passed: bool
    values: dict[str, int]


class Pair(NamedTuple):
    """One pair of a cable: a word of `CODES`, and how far the fault is, where the PHY says."""

    pair: str
    code: str
    fault_m: float | None


class Page(NamedTuple):
    """Half a page of a module's memory."""

    address: int  # on its I2C bus: 0x50, or 0x51 for the diagnostics of an SFP
    page: int
    offset: int
    data: bytes


def identify(machine: Machine, ifname: str, seconds: int) -> None:
    """Let the port's LED blink; returns when it has. Raises UnsupportedError where the driver cannot, BusyError."""
    machine.ethtool_ioctl(ifname, struct.pack("=II", _PHYS_ID, seconds), 8)


def self_test(machine: Machine, ifname: str, *, offline: bool = False) -> SelfTest:
    """The driver's own test; offline it takes the link down for its time. Raises UnsupportedError, MachineError."""
    info = machine.ethtool_ioctl(ifname, struct.pack("=IIQ", _GSSET_INFO, 0, 1 << _SS_TEST), 16 + 4)
    mask, count = struct.unpack_from("=QI", info.ljust(20, b"\0"), 8)
    if not mask or not count:
        raise UnsupportedError(f"{ifname}: the driver has no self-test")
    if count > _MOST_TESTS:
        raise MachineError(f"{ifname}: {count} tests are over {_MOST_TESTS}")
    room = 2 * count + 64
    names = machine.ethtool_ioctl(ifname, struct.pack("=III", _GSTRINGS, _SS_TEST, count), 12 + room * _NAME)
    request = struct.pack("=IIII", _TEST, _OFFLINE if offline else 0, 0, count)
    return parse_self_test(names, machine.ethtool_ioctl(ifname, request, 16 + room * 8))


def parse_self_test(names: bytes, reply: bytes) -> SelfTest:
    """From a GSTRINGS and a TEST reply, as many as both hold; raises MachineError when one is cut."""
    if len(names) < 12 or len(reply) < 16:
        raise MachineError("self-test reply is too short")
    _, flags, _, length = struct.unpack_from("=IIII", reply)
    count = min(length, struct.unpack_from("=I", names, 8)[0], (len(names) - 12) // _NAME, (len(reply) - 16) // 8)
    values: dict[str, int] = {}
    for at, value in enumerate(struct.unpack_from(f"={count}Q", reply, 16)):
        name = clean(names[12 + at * _NAME : 12 + (at + 1) * _NAME].split(b"\0", 1)[0], _NAME)
        values[name or f"test {at}"] = value
    return SelfTest(not flags & _FAILED, values)


def cable_test(machine: Live, ifindex: int, timeout_s: float) -> list[Pair]:
    """Measure the pairs of a copper cable; the link is down for it. Raises UnsupportedError where the PHY cannot.

    The kernel begins it and announces the end, so the announcements are listened for first.
    """
    groups = machine.family(ethtool.FAMILY).groups
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_NETLINK, kind, netlink.GENERIC) as channel:
        channel.bind((0, 0))
        channel.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, groups["monitor"])
        machine.genl(ethtool.FAMILY, CABLE_TEST_ACT, ethtool.header(ifindex))
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            if not select.select([channel], [], [], left)[0]:
                break
            try:
                datagram, _, _, sender = channel.recvmsg(1 << 16)
            except OSError as error:
                raise failure(error.errno or 0, "cable test") from None
            if sender[0] == 0 and (pairs := parse_announcements(datagram, ifindex)) is not None:
                return pairs
    raise MachineError(f"cable test of interface {ifindex}: no end announced within {timeout_s:g} s")


def parse_announcements(datagram: bytes, ifindex: int) -> list[Pair] | None:
    """The pairs when the end of this interface's test is among them; raises MachineError for a damaged message."""
    for message in netlink.messages(datagram):
        if message.kind >= netlink.CTRL and message.payload[:1] == bytes([CABLE_TEST_NTF]):
            found = nla.table(message.payload, 4)
            if ethtool.reply_ifindex(found) == ifindex and nla.number(found.get(_STATUS, b"")) == _COMPLETED:
                return parse_pairs(found.get(_NEST, b""))
    return None


def parse_pairs(nested: bytes) -> list[Pair]:
    """The results by pair, with the distance of the fault where there is one."""
    results: dict[int, int] = {}
    faults: dict[int, int] = {}
    for kind, value in nla.items(nested):
        one = nla.table(value)
        if 1 in one and 2 in one and kind in (_RESULT, _FAULT_LENGTH):
            (results if kind == _RESULT else faults)[nla.number(one[1])] = nla.number(one[2])
    return [
        Pair(PAIRS[at] if at < len(PAIRS) else str(at), CODES.get(code, f"code {code}"), _metres(faults.get(at)))
        for at, code in sorted(results.items())
    ]


def _metres(centimetres: int | None) -> float | None:
    return None if centimetres is None else centimetres / 100


def read_module(machine: Machine, ifindex: int, ifname: str) -> list[Page]:
    """The memory that every module of its kind has; raises UnsupportedError where the driver has no access to it.

    A page that cannot be read is left out, unless it is the first.
    """
    module = eeprom.Module(machine, ifindex, ifname)
    found = [Page(eeprom.A0, 0, 0, module.read(Read(eeprom.A0, 0, eeprom.LOWER)))]
    for run in pages(found[0].data):
        lower = run.page == eeprom.LOWER
        try:
            found.append(Page(run.address, 0 if lower else run.page, 0 if lower else HALF, module.read(run)))
        except MachineError:
            continue
    return found


def pages(lower: bytes) -> Iterable[Read]:
    """Which halves there are besides the first, by the module's identifier and whether its memory is flat."""
    lower = lower.ljust(HALF, b"\0")
    kind = lower[0]
    wanted = [(eeprom.A0, 0)]
    if kind in _SFP:
        wanted += [(eeprom.A2, eeprom.LOWER), (eeprom.A2, 0)] if lower[92] & 0x40 else []
    elif kind in _QSFP:
        wanted += [(eeprom.A0, page) for page in (1, 2, 3)] if not lower[2] & 0x04 else []
    elif kind in _CMIS:
        wanted += [(eeprom.A0, page) for page in (0x01, 0x02, 0x10, 0x11)] if not lower[2] & 0x80 else []
    return [Read(address, 0, page) for address, page in wanted]
