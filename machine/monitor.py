"""What the kernel announces by itself: links that change, and settings that somebody changed with ethtool."""

import contextlib
import errno
import select
import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

from machine import MachineError, NotPresentError, ethtool, failure, netlink, nla, rtnl

RECEIVE_BUFFER = 1 << 20
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SO_RCVBUFFORCE = 33
_RTNLGRP_LINK = 1
_BRIDGE = bytes([socket.AF_BRIDGE])
_MONITOR_GROUP = "monitor"  # ETHTOOL_MCGRP_MONITOR_NAME
_MAX_BYTES = 1 << 16
_MAX_DATAGRAMS = 4096
_LINK_KINDS = {rtnl.NEWLINK: "link", rtnl.DELLINK: "link.gone"}
_ETHTOOL_KINDS = {  # ETHTOOL_MSG_*_NTF
    3: "linkinfo",
    5: "linkmodes",
    8: "debug",
    10: "wol",
    13: "features",
    15: "privflags",
    17: "rings",
    19: "channels",
    21: "coalesce",
    23: "pause",
    25: "eee",
    31: "fec",
    36: "module",
    50: "rss",  # kernel 6.17
}


class Notice(NamedTuple):
    """One announcement.

    `what`: "link" (new or changed, with `link`), "link.gone", an ethtool message that somebody set ("channels",
    "rings", "coalesce", "features", ...; "ethtool" for one without a name here), or "resync": announcements were
    lost, read everything again.
    """

    what: str
    ifindex: int = 0
    ifname: str = ""
    link: rtnl.Link | None = None


RESYNC = Notice("resync")
_Parse = Callable[[netlink.Message], Notice | None]


class Monitor:
    """Raw multicast sockets for `groups` ("link", "ethtool"); wait until `fileno()` is readable, then `read()`.

    An overrun is a notice and no end: the sockets stay. Raises NotPresentError when the kernel lacks a group. Each
    socket announces the network namespace in which it was opened.
    """

    def __init__(self, *groups: str, receive_buffer: int = RECEIVE_BUFFER) -> None:
        self._ready = select.epoll()
        self._sockets: dict[int, tuple[socket.socket, _Parse]] = {}
        try:
            for group in groups or tuple(_GROUPS):
                self._add(group, receive_buffer)
        except OSError as error:
            self.close()
            raise failure(error.errno or 0, "monitor") from None
        except MachineError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every socket."""
        for channel, _ in self._sockets.values():
            channel.close()
        self._ready.close()

    def fileno(self) -> int:
        """For select, poll and epoll: readable when there is something to read."""
        return self._ready.fileno()

    def read(self) -> list[Notice]:
        """What was announced since, up to some thousands; never waits."""
        notices: list[Notice] = []
        for handle, _ in self._ready.poll(0):
            channel, parse = self._sockets[handle]
            for datagram in _datagrams(channel):
                notices += [RESYNC] if datagram is None else _parse_all(datagram, parse)
        return notices

    def _add(self, group: str, receive_buffer: int) -> None:
        if group not in _GROUPS:
            raise NotPresentError(f"no group {group!r} to monitor")
        protocol, number, parse = _GROUPS[group]
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        channel = socket.socket(socket.AF_NETLINK, kind, protocol)
        self._sockets[channel.fileno()] = (channel, parse)
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        with contextlib.suppress(PermissionError):
            channel.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer)
        channel.bind((0, 0))
        channel.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, number())
        self._ready.register(channel.fileno(), select.EPOLLIN | select.EPOLLERR)


def _datagrams(channel: socket.socket) -> Iterator[bytes | None]:
    """What is waiting; None where something was lost."""
    for _ in range(_MAX_DATAGRAMS):
        try:
            datagram, _, flags, sender = channel.recvmsg(_MAX_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise failure(error.errno or 0, "monitor") from None
            yield None
            continue
        if sender[0] == 0:  # else it is no announcement of the kernel
            yield None if flags & socket.MSG_TRUNC else datagram


def _parse_all(datagram: bytes, parse: _Parse) -> list[Notice]:
    """The notices of one datagram; one that cannot be read counts as lost."""
    try:
        found = [parse(message) for message in netlink.messages(datagram)]
    except MachineError:
        return [RESYNC]
    return [notice for notice in found if notice]


def _parse_link(message: netlink.Message) -> Notice | None:
    if message.kind not in _LINK_KINDS or message.payload[:1] == _BRIDGE:  # that one only left or joined a bridge
        return None
    link = rtnl.parse_link(message.payload)
    return Notice(_LINK_KINDS[message.kind], link.ifindex, link.ifname, link)


def _parse_ethtool(message: netlink.Message) -> Notice | None:
    if message.kind < netlink.CTRL or len(message.payload) < 4:
        return None
    header = nla.table(nla.table(message.payload, 4).get(ethtool.HEADER, b""))
    ifindex = nla.number(header.get(ethtool.HEADER_INDEX, b""))
    what = _ETHTOOL_KINDS.get(message.payload[0], "ethtool")
    return Notice(what, ifindex, nla.string(header.get(ethtool.HEADER_NAME, b"")))


def _ethtool_group() -> int:
    channel = netlink.Channel(netlink.GENERIC)
    try:
        groups = netlink.resolve_family(channel, ethtool.FAMILY).groups
    finally:
        channel.close()
    if _MONITOR_GROUP not in groups:
        raise NotPresentError(f"{ethtool.FAMILY} has no group {_MONITOR_GROUP!r}")
    return groups[_MONITOR_GROUP]


_GROUPS: dict[str, tuple[int, Callable[[], int], _Parse]] = {
    "link": (netlink.ROUTE, lambda: _RTNLGRP_LINK, _parse_link),
    "ethtool": (netlink.GENERIC, _ethtool_group, _parse_ethtool),
}
