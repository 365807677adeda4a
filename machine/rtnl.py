"""Links, their counters, routes and addresses, from rtnetlink dumps."""

import functools
import socket
import struct

import msgspec

from machine import Machine, MachineError, nla

NEWLINK, GETLINK, GETADDR, GETROUTE, GETSTATS = 16, 18, 22, 26, 94
NEWADDR, NEWROUTE, NEWSTATS, DELLINK = 20, 24, 92, 17

OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")  # RFC 2863
_IFF_UP = 1
_SKIP_STATS = nla.u32(29, 8)  # IFLA_EXT_MASK: RTEXT_FILTER_SKIP_STATS; without RTEXT_FILTER_VF no VFs either
_LINK_ATTRIBUTES = frozenset({1, 3, 4, 5, 10, 16, 18, 31, 32, 33, 37, 52, 54, 56, 57})  # those that Link has
_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst length, src length, tos, table, protocol, scope, type, flags
_STATS_HEADER = struct.Struct("=BxxxII")  # family, index, filter mask
_NEXTHOP = struct.Struct("=HBBi")  # length, flags, hops, index

STATS64 = (  # struct rtnl_link_stats64
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
    "multicast",
    "collisions",
    "rx_length_errors",
    "rx_over_errors",
    "rx_crc_errors",
    "rx_frame_errors",
    "rx_fifo_errors",
    "rx_missed_errors",
    "tx_aborted_errors",
    "tx_carrier_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_window_errors",
    "rx_compressed",
    "tx_compressed",
    "rx_nohandler",
    "rx_otherhost_dropped",
)


class Link(msgspec.Struct, frozen=True, gc=False):
    """One network interface; 0, "" and None where the kernel says nothing."""

    ifindex: int
    ifname: str = ""
    flags: int = 0
    up: bool = False  # IFF_UP
    carrier: bool = False
    operstate: str = ""
    hwtype: int = 0  # ARPHRD_*: 1 Ethernet, 772 loopback
    mac: str = ""
    perm_mac: str = ""
    mtu: int = 0
    master: int = 0  # ifindex
    link: int = 0  # ifindex it stands on (vlan) or its peer (veth)
    kind: str = ""  # IFLA_INFO_KIND
    slave_kind: str = ""
    vlan_id: int | None = None
    altnames: list[str] = []
    parent_dev: str = ""  # "0000:4b:00.0"
    parent_bus: str = ""  # "pci"
    num_tx: int = 0
    num_rx: int = 0
    netnsid: int | None = None  # namespace of `link`, None when it is this one


class Address(msgspec.Struct, frozen=True, gc=False):
    """One IP address of an interface."""

    ifindex: int
    family: int  # socket.AF_INET, AF_INET6
    address: str
    prefixlen: int
    scope: int  # 0 global, 253 link, 254 host


class Route(msgspec.Struct, frozen=True, gc=False):
    """One unicast or other route; a multipath route is several, one per next hop."""

    family: int
    dst: str  # "" is the default route
    prefixlen: int
    gateway: str
    oif: int  # ifindex, 0 for none
    table: int  # 254 main, 255 local
    priority: int
    kind: int  # RTN_*: 1 unicast, 2 local
    source: str  # preferred source address


def read_links(machine: Machine) -> list[Link]:
    """Every interface of the namespace, without counters and VFs. Raises MachineError."""
    return [
        parse_link(reply.payload)
        for reply in machine.rtnl(GETLINK, _IFINFO.pack(0, 0, 0, 0, 0) + _SKIP_STATS, dump=True)
    ]


def read_link(machine: Machine, ifindex: int) -> Link:
    """One interface; raises NotPresentError when it is gone."""
    replies = machine.rtnl(GETLINK, _IFINFO.pack(0, 0, ifindex, 0, 0) + _SKIP_STATS)
    if not replies:
        raise MachineError(f"interface {ifindex}: no answer")
    return parse_link(replies[0].payload)


@functools.lru_cache(maxsize=256)
def parse_link(payload: bytes) -> Link:
    """One RTM_NEWLINK message; raises MachineError when it is cut. Several collectors ask for the same links."""
    if len(payload) < 16:
        raise MachineError(f"link message of {len(payload)} bytes is too short")
    _, hwtype, ifindex, flags, _ = _IFINFO.unpack_from(payload)
    found = nla.pick(payload, 16, _LINK_ATTRIBUTES)
    get, number, string = found.get, nla.number, nla.string
    kind, slave_kind, vlan_id = _linkinfo(found[18]) if 18 in found else ("", "", None)
    state = number(get(16, b""))
    return Link(
        ifindex=ifindex,
        ifname=string(get(3, b"")),
        flags=flags,
        up=bool(flags & _IFF_UP),
        carrier=number(get(33, b"")) == 1,
        operstate=OPERSTATES[state] if state < len(OPERSTATES) else str(state),
        hwtype=hwtype,
        mac=get(1, b"").hex(":"),
        perm_mac=get(54, b"").hex(":"),
        mtu=number(get(4, b"")),
        master=number(get(10, b"")),
        link=number(get(5, b"")),
        kind=kind,
        slave_kind=slave_kind,
        vlan_id=vlan_id,
        altnames=[string(value) for at, value in nla.items(found[52]) if at == 53] if 52 in found else [],
        parent_dev=string(get(56, b"")),
        parent_bus=string(get(57, b"")),
        num_tx=number(get(31, b"")),
        num_rx=number(get(32, b"")),
        netnsid=nla.signed(found[37]) if 37 in found else None,
    )


def _linkinfo(nested: bytes) -> tuple[str, str, int | None]:
    """IFLA_LINKINFO: kind, slave kind, and the VLAN id where the kind is vlan."""
    info = nla.table(nested)
    kind = nla.string(info.get(1, b""))
    data = nla.table(info[2]) if kind == "vlan" and 2 in info else {}
    return kind, nla.string(info.get(4, b"")), nla.number(data[1]) if 1 in data else None


def read_link_stats(machine: Machine) -> dict[int, dict[str, int]]:
    """64-bit counters of every interface by ifindex, names as in struct rtnl_link_stats64. Raises MachineError."""
    replies = machine.rtnl(GETSTATS, _STATS_HEADER.pack(0, 0, 1), dump=True)  # filter: IFLA_STATS_LINK_64 only
    return dict(parse_stats(reply.payload) for reply in replies)


def parse_stats(payload: bytes) -> tuple[int, dict[str, int]]:
    """ifindex and counters of one RTM_NEWSTATS message; raises MachineError when it is cut."""
    if len(payload) < 12:
        raise MachineError(f"counter message of {len(payload)} bytes is too short")
    values = nla.table(payload, 12).get(1, b"")
    counters = struct.unpack_from(f"={len(values) // 8}Q", values)
    return _STATS_HEADER.unpack_from(payload)[1], dict(zip(STATS64, counters, strict=False))


def read_addresses(machine: Machine) -> list[Address]:
    """IPv4 and IPv6 addresses of every interface. Raises MachineError."""
    replies = machine.rtnl(GETADDR, _IFADDR.pack(0, 0, 0, 0, 0), dump=True)
    return [parse_address(reply.payload) for reply in replies]


def parse_address(payload: bytes) -> Address:
    """One RTM_NEWADDR message; raises MachineError when it is cut."""
    if len(payload) < 8:
        raise MachineError(f"address message of {len(payload)} bytes is too short")
    family, prefixlen, _, scope, ifindex = _IFADDR.unpack_from(payload)
    found = nla.table(payload, 8)
    return Address(ifindex, family, ip(found.get(2) or found.get(1, b"")), prefixlen, scope)  # IFA_LOCAL, IFA_ADDRESS


def read_routes(machine: Machine) -> list[Route]:
    """Every route of every table. Raises MachineError."""
    replies = machine.rtnl(GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), dump=True)
    return [route for reply in replies for route in parse_route(reply.payload)]


def read_route_to(machine: Machine, address: str) -> Route:
    """The route the kernel takes to an IP address now; raises NotPresentError when there is none."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        packed = socket.inet_pton(family, address)
    except OSError:
        raise MachineError(f"{address!r} is not an IP address") from None
    header = _ROUTE.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
    routes = [
        route for reply in machine.rtnl(GETROUTE, header + nla.attr(1, packed)) for route in parse_route(reply.payload)
    ]
    if not routes:
        raise MachineError(f"route to {address}: no answer")
    return routes[0]


def parse_route(payload: bytes) -> list[Route]:
    """One RTM_NEWROUTE message, a route per next hop; raises MachineError when it is cut."""
    if len(payload) < 12:
        raise MachineError(f"route message of {len(payload)} bytes is too short")
    family, prefixlen, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(payload)
    found = nla.table(payload, 12)
    hops = _nexthops(found[9]) if 9 in found else [(nla.number(found.get(4, b"")), _gateway(found))]
    return [
        Route(
            family,
            ip(found.get(1, b"")) if prefixlen else "",
            prefixlen,
            gateway,
            oif,
            nla.number(found[15]) if 15 in found else table,
            nla.number(found.get(6, b"")),
            kind,
            ip(found.get(7, b"")),
        )
        for oif, gateway in hops
    ]


def _nexthops(nested: bytes) -> list[tuple[int, str]]:
    """RTA_MULTIPATH: (ifindex, gateway) each."""
    hops: list[tuple[int, str]] = []
    offset = 0
    while offset + 8 <= len(nested):
        size, _, _, oif = _NEXTHOP.unpack_from(nested, offset)
        if size < 8 or offset + size > len(nested):
            raise MachineError(f"next hop of {size} bytes does not fit into {len(nested) - offset}")
        hops.append((oif, _gateway(nla.table(nested[offset : offset + size], 8))))
        offset += (size + 3) & ~3
    return hops


def _gateway(found: dict[int, bytes]) -> str:
    """RTA_GATEWAY, or the address in RTA_VIA (an IPv4 route over an IPv6 neighbour)."""
    return ip(found[5]) if 5 in found else ip(found.get(18, b"")[2:])


def ip(packed: bytes) -> str:
    """Text of a packed IPv4 or IPv6 address; "" for no address, hex for any other length."""
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    if len(packed) == 16:
        return socket.inet_ntop(socket.AF_INET6, packed)
    return packed.hex()
