"""What has to work after a change because it worked before: the broker, the gateways, the links that are touched."""

import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from agent import guard
from machine import Machine, MachineError, NotPresentError, nla, rtnl

CONNECT_S = 3.0
_SO_BINDTOIFINDEX = 62  # socket(7); Python has no name for it before 3.12
PAUSE_S = 0.1
_NEWNEIGH, _GETNEIGH = 28, 30
_NDMSG = struct.Struct("=BxxxiHBB")  # family, ifindex, state, flags, type
_DST = 1  # NDA_DST
_PROBE = 0x10  # NUD_PROBE
_REACHABLE = 0x02  # NUD_REACHABLE
_STATIC = 0x40 | 0x80  # NUD_NOARP, NUD_PERMANENT: nobody is asked, and asking would unmake the entry
_VALID = 0x02 | 0x04 | 0x08 | 0x10  # REACHABLE, STALE, DELAY, PROBE: its hardware address is known
_ASK_AGAIN_S = 4.0  # the kernel gives up after three questions, a second apart


class Probe(NamedTuple):
    """One thing to try; `passes` gives False, never raises."""

    name: str
    passes: Callable[[], bool]


class Gateway(NamedTuple):
    """A neighbour through which a default route leads."""

    ifindex: int
    address: str


def choose(
    machine: Machine, brokers: Iterable[tuple[str, int]], ifindexes: Iterable[int], seconds: float
) -> list[Probe]:
    """The probes that pass now, within `seconds`: only these can say anything afterwards."""
    probes = [_connect(host, port) for host, port in brokers]
    probes += [_neighbour(machine, gateway) for gateway in _gateways(machine)]
    probes += [_carrier(machine, ifindex) for ifindex in sorted(set(ifindexes))]
    missing = set(failing(probes, seconds))
    return [probe for probe in probes if probe.name not in missing]


def failing(probes: Sequence[Probe], seconds: float, stop: Callable[[], str] = str) -> list[str]:
    """Names of the probes that have not passed within `seconds`, each tried at least once, or until `stop()`."""
    left = list(probes)
    until = time.monotonic() + seconds
    while True:
        left = [probe for probe in left if not probe.passes()]
        if not left or time.monotonic() >= until or stop():
            return [probe.name for probe in left]
        time.sleep(PAUSE_S)


def _connect(host: str, port: int) -> Probe:
    def passes() -> bool:
        try:
            with socket.create_connection((host, port), timeout=CONNECT_S):
                return True
        except OSError:
            return False

    return Probe(f"broker {host}:{port} answers", passes)


def _carrier(machine: Machine, ifindex: int) -> Probe:
    def passes() -> bool:
        try:
            return rtnl.read_link(machine, ifindex).carrier
        except MachineError:
            return False

    return Probe(f"interface {ifindex} has a carrier", passes)


def _gateways(machine: Machine) -> list[Gateway]:
    try:
        routes = guard.default_routes(machine)
    except MachineError:
        return []
    return sorted({Gateway(route.oif, route.gateway) for route in routes if route.gateway})


def _neighbour(machine: Machine, gateway: Gateway) -> Probe:
    asked: list[float] = []  # when, while the answer is awaited

    def answered() -> bool:
        state = _state(machine, gateway)
        if state & _STATIC:
            return True
        if not asked or time.monotonic() - asked[-1] > _ASK_AGAIN_S:
            asked.append(time.monotonic())
            _ask(machine, gateway, known=bool(state & _VALID))
            return False
        return bool(state & _REACHABLE)

    def passes() -> bool:
        try:
            found = answered()
        except (MachineError, OSError):
            return False
        if found:
            asked.clear()
        return found

    return Probe(f"gateway {gateway.address} answers", passes)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _message(gateway: Gateway, state: int) -> bytes:
    family = _family(gateway.address)
    return _NDMSG.pack(family, gateway.ifindex, state, 0, 0) + nla.attr(_DST, socket.inet_pton(family, gateway.address))


def _ask(machine: Machine, gateway: Gateway, *, known: bool) -> None:
    """Have the kernel ask the neighbour (ARP or ND) now: for a known entry by NUD_PROBE, else by a datagram to it."""
    if known:
        machine.rtnl(_NEWNEIGH, _message(gateway, _PROBE))
        return
    with socket.socket(_family(gateway.address), socket.SOCK_DGRAM) as datagram:
        datagram.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, gateway.ifindex)
        scope = (0, gateway.ifindex) if ":" in gateway.address else ()
        datagram.sendto(b"", (gateway.address, 9, *scope))


def _state(machine: Machine, gateway: Gateway) -> int:
    """NUD_* bits of the neighbour, 0 when the kernel knows none."""
    try:
        replies = machine.rtnl(_GETNEIGH, _message(gateway, 0))
    except NotPresentError:
        return 0
    return next((int(_NDMSG.unpack_from(reply.payload)[2]) for reply in replies if len(reply.payload) >= 12), 0)
