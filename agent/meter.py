"""Counters of the machine for the measurement gate, from /proc and rtnetlink, and the round trips of a probe."""

import re
import socket
import struct
import time
from collections.abc import Callable, Collection

from collectors.softnet import parse_softirq_times, parse_softnet
from machine import Machine, NotPresentError, rtnl
from tuners.measure import LOST_US, Reading

PROBE_EVERY_S = 0.05
ANSWER_S = 1.0
_LOST = ("rx_dropped", "rx_missed_errors", "rx_fifo_errors", "rx_over_errors")
_USER_HZ = 100
_IDLE = (3, 4)  # columns of a cpu line: idle, iowait
_NET_RX = re.compile(r"^\s*NET_RX:(.*)$", re.MULTILINE)
_ECHO, _REPLY = 8, 0

Ask = Callable[[], float]  # one probe: µs, LOST_US without an answer


class Meter:
    """What the NICs of these indices and the CPUs that serve them have done."""

    def __init__(self, machine: Machine, ifindexes: Collection[int], ask: Ask | None = None) -> None:
        self._machine = machine
        self._ifindexes = set(ifindexes)
        self._ask = ask

    def read(self, rtts_us: Collection[float] = ()) -> Reading:
        """All counters now; raises MachineError."""
        stats = rtnl.read_link_stats(self._machine)
        ours = [counters for ifindex, counters in stats.items() if ifindex in self._ifindexes]
        cpus = self._machine.read("/proc/stat")
        rows = parse_softnet(self._machine.read("/proc/net/softnet_stat"), [])
        segments, resent = parse_tcp(self._read("/proc/net/snmp"))
        return Reading(
            at_s=time.monotonic(),
            packets=sum(each["rx_packets"] + each["tx_packets"] for each in ours),
            bytes=sum(each["rx_bytes"] + each["tx_bytes"] for each in ours),
            lost=sum(each.get(name, 0) for each in ours for name in _LOST),
            busy_s=parse_busy(cpus),
            softirq_s=parse_softirq_times(cpus),
            squeezed=sum(row.dropped + row.time_squeeze for row in rows),
            wakeups=parse_wakeups(self._read("/proc/softirqs")),
            segments=segments,
            resent=resent,
            rtts_us=tuple(rtts_us),
        )

    def _read(self, path: str) -> str:
        try:
            return self._machine.read(path)
        except NotPresentError:
            return ""

    def window(self, seconds: float, stop: Callable[[], str]) -> tuple[Reading, Reading]:
        """Two readings that far apart, probing in between; ends early when `stop()` gives a reason."""
        first = self.read()
        until = first.at_s + seconds
        rtts: list[float] = []
        while (left := until - time.monotonic()) > 0 and not stop():
            if self._ask is not None:
                rtts.append(self._ask())
            time.sleep(min(PROBE_EVERY_S, max(0.0, left)))
        return first, self.read(rtts)


def parse_busy(text: str) -> float:
    """Seconds that all CPUs were busy since boot, from /proc/stat."""
    ticks = [int(word) for word in text.split("\n", 1)[0].split()[1:9]]  # guest time is in user time
    return sum(count for column, count in enumerate(ticks) if column not in _IDLE) / _USER_HZ


def parse_wakeups(text: str) -> int:
    """NET_RX softirqs of all CPUs, from /proc/softirqs; 0 where it has none."""
    found = _NET_RX.search(text)
    return sum(map(int, found[1].split())) if found else 0


def parse_tcp(text: str) -> tuple[int, int]:
    """OutSegs and RetransSegs of /proc/net/snmp; 0 where it has none."""
    lines = [line.split() for line in text.splitlines() if line.startswith("Tcp:")]
    found = dict(zip(*lines, strict=False)) if len(lines) == 2 else {}
    return int(found.get("OutSegs", 0)), int(found.get("RetransSegs", 0))


def asker(target: str) -> Ask | None:
    """How to probe an address (ICMP echo) or HOST:PORT (TCP handshake); None without a target.

    Raises OSError when it does not resolve or sockets are not allowed.
    """
    if not target:
        return None
    host, colon, port = target.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.startswith("[")):
        where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        return lambda: _handshake(where[0], where[4])
    address = str(socket.getaddrinfo(target, None, socket.AF_INET)[0][4][0])
    return _Ping(address)


def _handshake(family: int, address: object) -> float:
    with socket.socket(family, socket.SOCK_STREAM) as handle:
        handle.settimeout(ANSWER_S)
        began = time.perf_counter()
        try:
            handle.connect(address)  # type: ignore[arg-type]
        except OSError:
            return LOST_US
        return 1e6 * (time.perf_counter() - began)


class _Ping:
    """ICMP echo requests to one IPv4 address."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.connect((address, 0))
        self._name = id(self) & 0xFFFF
        self._number = 0

    def __call__(self) -> float:
        self._number = (self._number + 1) & 0xFFFF
        head = struct.pack("!BBHHH", _ECHO, 0, 0, self._name, self._number)
        began = time.perf_counter()
        try:
            self._socket.send(struct.pack("!BBHHH", _ECHO, 0, checksum(head), self._name, self._number))
            while (left := began + ANSWER_S - time.perf_counter()) > 0:
                self._socket.settimeout(left)
                if self._mine(self._socket.recv(256)):
                    return 1e6 * (time.perf_counter() - began)
        except OSError:
            pass
        return LOST_US

    def _mine(self, packet: bytes) -> bool:
        at = (packet[0] & 0xF) * 4
        kind, _, _, name, number = struct.unpack_from("!BBHHH", packet.ljust(at + 8, b"\0"), at)
        return (kind, name, number) == (_REPLY, self._name, self._number)


def checksum(data: bytes) -> int:
    """RFC 1071's, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
