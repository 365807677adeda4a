"""LLDP frames as they arrive: one packet socket that stays open, read without waiting, and who is not yet silent."""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from machine import Reply, failure

RUN = Path(os.environ.get("RACKHAND_RUN", "/run/rackhand"))  # of this boot

ETHERTYPE = 0x88CC
GROUPS = tuple(bytes.fromhex(f"0180c20000{last}") for last in ("0e", "03", "00"))  # nearest bridge, non-TPMR, customer
HEADER = 14  # bytes of the Ethernet header
MOST_ON_A_PORT = 16  # neighbours; more are a flood, those known stay
UNREAD_S = 600.0  # what waited longer than that may be of any age
MOST_FRAMES = 4096  # of one reading; what is left waits in the socket for the next
_MOST_BYTES = 9216
_SOL_PACKET, _ADD_MEMBERSHIP, _ORIGDEV, _MULTICAST = 263, 1, 9, 0
END, CHASSIS, PORT, TTL = range(4)  # TLV types


Heard = dict[tuple[int, bytes], tuple[bytes, float]]  # by interface and speaker: the frame, and until when it holds
_KEPT = msgspec.json.Decoder(list[tuple[int, bytes, float]])
_NETNS_COOKIE = 71  # SO_NETNS_COOKIE: names a namespace until the next boot, which an inode does not


class Head(NamedTuple):
    """What every LLDP frame begins with: who speaks, and for how many seconds it holds (0: it says goodbye)."""

    name: bytes  # chassis and port TLVs
    ttl_s: int


class Listener:
    """Hears the network namespace in which it is made, from the first reading on; any thread may ask.

    The socket takes LLDP's ethertype alone, so that no other packet costs anything. What one process heard, the next
    one knows: a transaction cannot wait half a minute for its neighbours. Raises MachineError, DeniedError without
    CAP_NET_RAW.
    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(ETHERTYPE))
            self._socket.setsockopt(_SOL_PACKET, _ORIGDEV, 1)  # a bond's port, where the kernel would name the bond
        except OSError as error:
            raise failure(error.errno or 0, "listen for LLDP") from None
        self._read_s = time.monotonic()
        self._joined: set[int] = set()
        self._memory = _memory(self._socket)
        self._heard = _remembered(self._memory)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Leave the multicast groups and forget."""
        self._socket.close()

    def frames(self, ifindexes: Collection[int]) -> list[Reply]:
        """The newest frame of every neighbour whose time has not ended, by when it was first heard; never waits.

        Each is a reply of the interface's index and the frame. The NICs in `ifindexes` are made to take LLDP's groups.
        """
        with self._lock:
            self._join(ifindexes)
            now = time.monotonic()
            fresh, self._read_s = now - self._read_s <= UNREAD_S, now
            waiting = list(self._waiting())
            for ifindex, frame in waiting if fresh else []:
                self._take(ifindex, frame, now)
            self._heard = {name: held for name, held in self._heard.items() if held[1] > now}
            if waiting:
                _remember(self._memory, self._heard)
            return [Reply(ifindex, frame) for (ifindex, _), (frame, _) in self._heard.items()]

    def _take(self, ifindex: int, frame: bytes, now: float) -> None:
        head = parse_head(frame)
        if head is None:
            return
        name = (ifindex, head.name)
        if head.ttl_s == 0:
            self._heard.pop(name, None)
        elif name in self._heard or sum(known == ifindex for known, _ in self._heard) < MOST_ON_A_PORT:
            self._heard[name] = (frame, now + head.ttl_s)

    def _waiting(self) -> Iterator[tuple[int, bytes]]:
        for _ in range(MOST_FRAMES):
            try:
                frame, sender = self._socket.recvfrom(_MOST_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                raise failure(error.errno or 0, "listen for LLDP") from None
            with contextlib.suppress(OSError):  # the interface left meanwhile
                yield socket.if_nametoindex(sender[0]), frame

    def _join(self, ifindexes: Collection[int]) -> None:
        self._joined &= set(ifindexes)  # the kernel ends a membership with its interface
        for ifindex in sorted(set(ifindexes) - self._joined):
            with contextlib.suppress(OSError):
                for group in GROUPS:
                    request = struct.pack("@iHH8s", ifindex, _MULTICAST, len(group), group)
                    self._socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)
            self._joined.add(ifindex)


def _memory(listening: socket.socket) -> Path | None:
    """The file of what is heard in a network namespace; None on kernels before 5.14."""
    try:
        (cookie,) = struct.unpack("=Q", listening.getsockopt(socket.SOL_SOCKET, _NETNS_COOKIE, 8))
    except OSError:
        return None
    return RUN / f"lldp-{cookie:x}.json"


def _remembered(memory: Path | None) -> Heard:
    """What an earlier process heard, as far as it still holds."""
    try:
        kept = _KEPT.decode(memory.read_bytes()) if memory else []
    except (OSError, msgspec.DecodeError):
        return {}
    now = time.monotonic()
    held = [(ifindex, head.name, frame, until) for ifindex, frame, until in kept if (head := parse_head(frame))]
    return {(ifindex, name): (frame, until) for ifindex, name, frame, until in held if now < until <= now + 65535}


def _remember(memory: Path | None, heard: Heard) -> None:
    """For the next process; who may not write there keeps it to himself."""
    if memory is None:
        return
    rows = [(ifindex, frame, until) for (ifindex, _), (frame, until) in heard.items()]
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        made = memory.with_suffix(f".{os.getpid()}")
        made.write_bytes(msgspec.json.encode(rows))
        made.replace(memory)


def tlvs(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of an Ethernet frame's TLVs up to its end mark, or to one that is cut; nothing of other frames."""
    at = HEADER
    if frame[12:14] != ETHERTYPE.to_bytes(2, "big"):
        return
    while at + 2 <= len(frame):
        head = int.from_bytes(frame[at : at + 2], "big")
        kind, size = head >> 9, head & 0x1FF
        at += 2 + size
        if kind == END or at > len(frame):
            return
        yield kind, frame[at - size : at]


def parse_head(frame: bytes) -> Head | None:
    """Who speaks and how long it holds; None for what is no LLDP frame: the three begin it, in this order."""
    first = [next(found, (0, b"")) for found in [tlvs(frame)] for _ in range(3)]
    (chassis, name), (port, label), (ttl, seconds) = first
    if (chassis, port, ttl) != (CHASSIS, PORT, TTL) or len(name) < 2 or len(label) < 2 or len(seconds) < 2:
        return None
    return Head(len(name).to_bytes(2, "big") + name + label, int.from_bytes(seconds[:2], "big"))
