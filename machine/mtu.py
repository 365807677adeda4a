"""The MTU of an interface, set and proven: whoever is named answers a packet of that size that must not be cut."""

import errno
import socket
import struct
import time

from machine import Machine, MachineError, NotPresentError, failure, link, nla, rtnl
from wire.policy import Request, Values

PROBE_S = 1.0
PROBES = 3
_SETLINK, _IFLA_MTU = 19, 4
_IFINFO = struct.Struct("=BxHiII")
_PMTUDISC_PROBE = 3  # whole packets, whatever was learnt of the path
_DISCOVER = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
_PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_ECHO = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}  # ICMP types of request and reply
_HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}  # bytes of IP and ICMP
_TOO_BIG = (errno.EMSGSIZE, errno.ENETUNREACH, errno.EHOSTUNREACH)


def read_mtu(machine: Machine, op: Request) -> Values:
    """`mtu` in bytes. Raises MachineError."""
    return {"mtu": _link(machine, op).mtu}


def _link(machine: Machine, op: Request) -> rtnl.Link:
    """The interface by its index; by its name where the request gives none. Raises NotPresentError."""
    if op.ifindex:
        return rtnl.read_link(machine, op.ifindex)
    found = [one for one in rtnl.read_links(machine) if one.ifname == op.ifname]
    if not found:
        raise NotPresentError(f"interface {op.ifname} is gone")
    return found[0]


def set_mtu(machine: Machine, op: Request) -> None:
    """Set the MTU; one that is raised has to be proven by the address in `item`. Raises MachineError."""
    had, mtu = _link(machine, op), int(op.after["mtu"])
    machine.rtnl(_SETLINK, _IFINFO.pack(0, 0, had.ifindex, 0, 0) + nla.u32(_IFLA_MTU, mtu))
    if had.up and had.carrier:
        link.await_carrier(machine, had.ifindex, "mtu")
    if op.item and mtu > had.mtu and not answers(op.item, mtu):
        raise MachineError(f"{op.item} does not answer a packet of {mtu} bytes that must not be cut")


def answers(address: str, size: int) -> bool:
    """Whether a whole ICMP echo of `size` bytes with its IP header comes back. Raises MachineError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _PROTOCOL[family]) as probe:
            probe.setsockopt(*_DISCOVER[family], _PMTUDISC_PROBE)
            return any(_echoes(probe, address, echo(family, size, number)) for number in range(1, PROBES + 1))
    except OSError as error:
        raise failure(error.errno or 0, f"ping {address}") from None


def echo(family: int, size: int, number: int) -> bytes:
    """An ICMP echo request that makes a packet of `size` bytes."""
    kind = _ECHO[socket.AddressFamily(family)][0]
    body = struct.pack("=Q", time.monotonic_ns()).ljust(size - _HEADERS[socket.AddressFamily(family)], b"\0")
    total = checksum(struct.pack("!BBHHH", kind, 0, 0, 0, number) + body)
    return struct.pack("!BBHHH", kind, 0, total, 0, number) + body


def _echoes(probe: socket.socket, address: str, request: bytes) -> bool:
    """One request, and the wait for the reply that brings its token back."""
    try:
        probe.sendto(request, (address, 0))
    except OSError as error:
        if error.errno in _TOO_BIG:
            return False
        raise
    until = time.monotonic() + PROBE_S
    while (left := until - time.monotonic()) > 0:
        probe.settimeout(left)
        try:
            got = probe.recv(1 << 16)
        except TimeoutError:
            return False
        start = (got[0] & 15) * 4 if probe.family == socket.AF_INET else 0  # IPv6 leaves its header out
        if got[start] == _ECHO[probe.family][1] and got[start + 8 : start + 16] == request[8:16]:
            return True
    return False


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); the kernel makes its own for ICMPv6."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
