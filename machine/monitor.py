"""What the kernel announces by itself: links, addresses, routes, devices, and settings changed with ethtool."""

import contextlib
import errno
import select
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Self

from machine import MachineError, NotPresentError, asking, ethtool, failure, netlink, nla, rtnl
from machine.uevents import Uevent, parse_uevent

RECEIVE_BUFFER = 1 << 20
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SO_RCVBUFFORCE = 33
_SO_MEMINFO, _MEMINFO = 55, struct.Struct("=9I")  # the last: messages that did not fit (kernel 4.12)
_KOBJECT_UEVENT = 15  # NETLINK_KOBJECT_UEVENT
_KERNEL = 1  # its group of the kernel's own; 2 is udevd's
_RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE = 1, 5, 7, 9, 11
_BRIDGE = bytes([socket.AF_BRIDGE])
_MONITOR_GROUP = "monitor"  # ETHTOOL_MCGRP_MONITOR_NAME
_MAX_BYTES = 1 << 16
_MAX_DATAGRAMS = 4096
_LINK_KINDS = {rtnl.NEWLINK: "link", rtnl.DELLINK: "link.gone"}
_ADDRESS_KINDS = {rtnl.NEWADDR: "address", rtnl.NEWADDR + 1: "address.gone"}
_ROUTE_KINDS = {rtnl.NEWROUTE: "route", rtnl.NEWROUTE + 1: "route.gone"}
_UNICAST = 1  # RTN_UNICAST
_WATCHED_PROTOCOLS = frozenset({3, 4, 9, 16})  # RTPROT_BOOT (ip route), _STATIC, _RA, _DHCP
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


Settings = Mapping[str, int | bool | str]


class Notice(NamedTuple):
    """One announcement.

    `what`: "link" (new or changed, with `link`), "link.gone", "address", "address.gone", "route", "route.gone" and
    "device" (with `about`), an ethtool message that somebody set ("channels", "rings", "coalesce", "features", ...;
    "ethtool" for one without a name here; with what is set now, where it is there with names), or "resync": `lost`
    announcements (0: unknown how many) of group `ifname` were lost, read everything again.
    """

    what: str
    ifindex: int = 0
    ifname: str = ""
    link: rtnl.Link | None = None
    about: rtnl.Address | rtnl.Route | Uevent | None = None
    settings: Settings = {}
    port: int = 0  # netlink port of who asked for it, where the kernel says so
    by: str = ""  # names of the processes that may have done it, see `asking`
    lost: int = 0


RESYNC = Notice("resync")
_Parse = Callable[[bytes], list[Notice]]


class _Group(NamedTuple):
    protocol: int
    numbers: Callable[[], tuple[int, ...]]
    parse: _Parse


class _Socket(NamedTuple):
    name: str
    channel: socket.socket
    parse: _Parse
    dropped: list[int]  # one number: as last seen


class Monitor:
    """Raw multicast sockets for `groups` ("link", "address", "route", "ethtool", "device"; all without any named).

    Wait until `fileno()` is readable, then `read()`. An overrun is a notice and no end: the sockets stay. Raises
    NotPresentError when the kernel lacks a group. Each socket announces the network namespace in which it was opened.
    """

    def __init__(self, *groups: str, receive_buffer: int = RECEIVE_BUFFER) -> None:
        self._ready = select.epoll()
        self._sockets: dict[int, _Socket] = {}
        self._speakers: frozenset[int] = asking.speakers()
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
        for one in self._sockets.values():
            one.channel.close()
        self._ready.close()

    def fileno(self) -> int:
        """For select, poll and epoll: readable when there is something to read."""
        return self._ready.fileno()

    def read(self) -> list[Notice]:
        """What was announced since, up to some thousands; never waits."""
        ready = [self._sockets[handle] for handle, _ in self._ready.poll(0)]
        by = self._asking() if any(one.name == "ethtool" for one in ready) else ""
        notices: list[Notice] = []
        for one in ready:
            for datagram in _datagrams(one.channel):
                notices += [self._lost(one)] if datagram is None else self._parsed(one, datagram, by)
        return notices

    def _parsed(self, one: _Socket, datagram: bytes, by: str) -> list[Notice]:
        """The notices of one datagram; one that cannot be read counts as lost."""
        try:
            found = one.parse(datagram)
        except MachineError:
            return [RESYNC._replace(ifname=one.name, lost=1)]
        if one.name == "ethtool":
            return [notice._replace(by=by) for notice in found]
        return [notice._replace(by=asking.process(notice.port)) if notice.port else notice for notice in found]

    def _asking(self) -> str:
        """Who has a generic netlink socket now and had none when something was last announced."""
        before, self._speakers = self._speakers, asking.speakers()
        names = {asking.process(port) for port in sorted(self._speakers - before)[:8]}
        return ", ".join(sorted(names - {""}))

    @staticmethod
    def _lost(one: _Socket) -> Notice:
        """How many the kernel dropped since it was last looked."""
        before = one.dropped[0]
        one.dropped[0] = _dropped(one.channel)
        return RESYNC._replace(ifname=one.name, lost=(one.dropped[0] - before) & 0xFFFFFFFF)

    def _add(self, name: str, receive_buffer: int) -> None:
        if name not in _GROUPS:
            raise NotPresentError(f"no group {name!r} to monitor")
        group = _GROUPS[name]
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        channel = socket.socket(socket.AF_NETLINK, kind, group.protocol)
        self._sockets[channel.fileno()] = _Socket(name, channel, group.parse, [0])
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        with contextlib.suppress(PermissionError):
            channel.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer)
        channel.bind((0, 0))
        for number in group.numbers():
            channel.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, number)
        self._ready.register(channel.fileno(), select.EPOLLIN | select.EPOLLERR)


def parse(group: str, datagram: bytes) -> list[Notice]:
    """The notices in a datagram of a group; raises MachineError for one that cannot be read."""
    return _GROUPS[group].parse(datagram)


def _dropped(channel: socket.socket) -> int:
    try:
        dropped: int = _MEMINFO.unpack(channel.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[8]
    except (OSError, struct.error):
        return 0
    return dropped


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


def _messages(parse: Callable[[netlink.Message], list[Notice]]) -> _Parse:
    return lambda datagram: [notice for message in netlink.messages(datagram) for notice in parse(message)]


def _parse_link(message: netlink.Message) -> list[Notice]:
    if message.kind not in _LINK_KINDS or message.payload[:1] == _BRIDGE:  # that one only left or joined a bridge
        return []
    link = rtnl.parse_link(message.payload)
    return [Notice(_LINK_KINDS[message.kind], link.ifindex, link.ifname, link, port=message.port)]


def _parse_address(message: netlink.Message) -> list[Notice]:
    if message.kind not in _ADDRESS_KINDS:
        return []
    address = rtnl.parse_address(message.payload)
    return [Notice(_ADDRESS_KINDS[message.kind], address.ifindex, about=address, port=message.port)]


def _parse_route(message: netlink.Message) -> list[Notice]:
    """Routes that people and DHCP set; the kernel's own follow from addresses, a routing daemon's are too many."""
    if message.kind not in _ROUTE_KINDS or len(message.payload) < 12:
        return []
    protocol, kind = message.payload[5], message.payload[7]
    if protocol not in _WATCHED_PROTOCOLS or kind != _UNICAST:
        return []
    what, port = _ROUTE_KINDS[message.kind], message.port
    return [Notice(what, route.oif, about=route, port=port) for route in rtnl.parse_route(message.payload)]


def _parse_device(datagram: bytes) -> list[Notice]:
    uevent = parse_uevent(datagram)
    return [Notice("device", about=uevent)] if uevent else []


def _parse_ethtool(message: netlink.Message) -> list[Notice]:
    if message.kind < netlink.CTRL or len(message.payload) < 4:
        return []
    attributes = nla.table(message.payload, 4)
    header = nla.table(attributes.get(ethtool.HEADER, b""))
    ifindex = nla.number(header.get(ethtool.HEADER_INDEX, b""))
    what = _ETHTOOL_KINDS.get(message.payload[0], "ethtool")
    settings: Settings = _SETTINGS[what](attributes) if what in _SETTINGS else {}
    return [Notice(what, ifindex, nla.string(header.get(ethtool.HEADER_NAME, b"")), settings=settings)]


def _parse_linkmodes(attributes: dict[int, bytes]) -> Settings:
    modes = ethtool.parse_linkmodes(attributes)
    found = {"speed_mbps": modes.speed_mbps, "duplex": modes.duplex or None, "autoneg": modes.autoneg}
    return {name: value for name, value in found.items() if value is not None}


_SETTINGS: dict[str, Callable[[dict[int, bytes]], Settings]] = {
    "rings": ethtool.parse_rings,
    "channels": ethtool.parse_channels,
    "coalesce": ethtool.parse_coalesce,
    "pause": ethtool.parse_pause,
    "linkmodes": _parse_linkmodes,
}


def _ethtool_group() -> tuple[int, ...]:
    channel = netlink.Channel(netlink.GENERIC)
    try:
        groups = netlink.resolve_family(channel, ethtool.FAMILY).groups
    finally:
        channel.close()
    if _MONITOR_GROUP not in groups:
        raise NotPresentError(f"{ethtool.FAMILY} has no group {_MONITOR_GROUP!r}")
    return (groups[_MONITOR_GROUP],)


_GROUPS: dict[str, _Group] = {
    "ethtool": _Group(netlink.GENERIC, _ethtool_group, _messages(_parse_ethtool)),
    "link": _Group(netlink.ROUTE, lambda: (_RTNLGRP_LINK,), _messages(_parse_link)),
    "address": _Group(netlink.ROUTE, lambda: (_IPV4_IFADDR, _IPV6_IFADDR), _messages(_parse_address)),
    "route": _Group(netlink.ROUTE, lambda: (_IPV4_ROUTE, _IPV6_ROUTE), _messages(_parse_route)),
    "device": _Group(_KOBJECT_UEVENT, lambda: (_KERNEL,), _parse_device),
}
GROUPS = tuple(_GROUPS)
