"""Raw AF_NETLINK sockets: one request, its replies, and the kernel's reason when it refuses."""

import itertools
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from machine import BusyError, MachineError, NotPresentError, failure, nla

ROUTE = 0  # NETLINK_ROUTE
GENERIC = 16  # NETLINK_GENERIC
TIMEOUT_S = 10

_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_DUMP_INTERRUPTED, _CAPPED, _TLVS = 0x10, 0x100, 0x200
_ERROR, _DONE, _FIRST_KIND = 2, 3, 16
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_RECEIVE = 1 << 20
_DUMP_TRIES = 8

CTRL = 16  # GENL_ID_CTRL
CTRL_GETFAMILY = 3
_FAMILY_ID, _FAMILY_NAME, _MCAST_GROUPS = 1, 2, 7
_GROUP_NAME, _GROUP_ID = 1, 2


class Message(NamedTuple):
    """One netlink message without its header."""

    kind: int
    flags: int
    sequence: int
    payload: bytes
    port: int = 0  # nlmsg_pid: in an announcement the socket that asked for the change, 0 where the kernel does not say


def messages(datagram: bytes) -> Iterator[Message]:
    """The messages of one datagram; raises MachineError when a length does not fit."""
    offset, end = 0, len(datagram)
    while offset + 16 <= end:
        size, kind, flags, sequence, port = _HEADER.unpack_from(datagram, offset)
        if size < 16 or offset + size > end:
            raise MachineError(f"netlink message of {size} bytes does not fit into {end - offset}")
        yield Message(kind, flags, sequence, datagram[offset + 16 : offset + size], port)
        offset += (size + 3) & ~3


def refusal(message: Message, what: str) -> MachineError | None:
    """The error in an NLMSG_ERROR or NLMSG_DONE with the kernel's own words; None when it says success."""
    if len(message.payload) < 4:
        return None if message.kind == _DONE else MachineError(f"{what}: netlink error without a number")
    code = -nla.signed(message.payload[:4])
    if code == 0:
        return None
    return failure(code, what, _reason(message))


def _reason(message: Message) -> str:
    if not message.flags & _TLVS:
        return ""
    offset = 4
    if message.kind == _ERROR:
        if len(message.payload) < 20:
            return ""
        echoed = 16 if message.flags & _CAPPED else nla.number(message.payload[4:8])
        offset += (echoed + 3) & ~3
    return nla.string(nla.table(message.payload, offset).get(1, b""))


class Channel:
    """One socket of a netlink protocol for requests; not for two threads at once."""

    def __init__(self, protocol: int) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            raise failure(error.errno or 0, f"netlink protocol {protocol}") from None
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", TIMEOUT_S, 0))
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # pages that no reply reached take no memory
        self._buffer = mmap.mmap(-1, _RECEIVE, flags=flags)
        self.clean = True  # false while a request is under way: then late replies may still come
        self._sequence = itertools.count(int.from_bytes(os.urandom(3), "little") + 1)

    def close(self) -> None:
        """Give the descriptor and the buffer back."""
        self._socket.close()
        self._buffer.close()

    def request(self, kind: int, payload: bytes, what: str, *, dump: bool = False, flags: int = 0) -> list[Message]:
        """Send one request and return its replies; an interrupted dump is asked again. Raises MachineError.

        `flags` are those of a request that makes something (NLM_F_CREATE, NLM_F_REPLACE, NLM_F_EXCL).
        """
        if not dump:
            return self._exchange(kind, payload, what, _REQUEST | _ACK | flags)
        for _ in range(_DUMP_TRIES):
            replies = self._exchange(kind, payload, what, _REQUEST | _DUMP)
            if not any(reply.flags & _DUMP_INTERRUPTED for reply in replies):
                return [reply for reply in replies if reply.kind != _DONE]
        raise BusyError(f"{what}: changed during {_DUMP_TRIES} dumps in a row")

    def _exchange(self, kind: int, payload: bytes, what: str, flags: int) -> list[Message]:
        sequence = next(self._sequence) & 0xFFFFFFFF
        replies: list[Message] = []
        self.clean = False
        try:
            self._socket.sendto(_HEADER.pack(16 + len(payload), kind, flags, sequence, 0) + payload, (0, 0))
            while not self._ended(sequence, replies, what):
                pass
        except OSError as error:
            why = f"no answer within {TIMEOUT_S} s" if isinstance(error, BlockingIOError) else ""
            raise failure(error.errno or 0, what, why) from None
        return replies

    def _ended(self, sequence: int, replies: list[Message], what: str) -> bool:
        """Receive one datagram into `replies` (NLMSG_DONE too, for its flags); True after the last one."""
        size, _, flags, sender = self._socket.recvmsg_into([self._buffer])
        if flags & socket.MSG_TRUNC:
            raise MachineError(f"{what}: reply is over {_RECEIVE} bytes")
        if sender[0] != 0:
            return False
        for message in messages(self._buffer[:size]):
            if message.sequence != sequence:
                continue
            if message.kind in (_ERROR, _DONE):
                self.clean = True
                if error := refusal(message, what):
                    raise error
                if message.kind == _DONE:
                    replies.append(message)
                return True
            if message.kind >= _FIRST_KIND:
                replies.append(message)
        return False


class Family(NamedTuple):
    """A generic netlink family as the kernel numbers it since boot."""

    id: int
    groups: dict[str, int]  # multicast group ids by name


def resolve_family(channel: Channel, name: str) -> Family:
    """The family's numbers; raises NotPresentError when this kernel lacks it."""
    payload = struct.pack("=BBH", CTRL_GETFAMILY, 1, 0) + nla.text(_FAMILY_NAME, name)
    for reply in channel.request(CTRL, payload, f"netlink family {name}"):
        return parse_family(reply.payload[4:])
    raise NotPresentError(f"netlink family {name}: no answer")


def parse_family(attributes: bytes) -> Family:
    """What CTRL_CMD_NEWFAMILY says."""
    found = nla.table(attributes)
    groups = [nla.table(value) for _, value in nla.items(found.get(_MCAST_GROUPS, b""))]
    names = {nla.string(group.get(_GROUP_NAME, b"")): nla.number(group.get(_GROUP_ID, b"")) for group in groups}
    return Family(nla.number(found.get(_FAMILY_ID, b"")), names)
