"""What a link's kind says of itself and of its ports (IFLA_LINKINFO), and a NIC's virtual functions, from rtnetlink.

Tables: attribute number -> name (linux/if_link.h, 6.18).
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

from machine import Machine, MachineError, Reply, nla, rtnl
from wire.text import clean

_LINKINFO, _EXT_MASK, _VFINFO_LIST, _VF_INFO = 18, 29, 22, 1
_KIND, _DATA, _PORT_KIND, _PORT_DATA = 1, 2, 4, 5
_SKIP_STATS, _WITH_VFS = 8, 1  # RTEXT_FILTER_SKIP_STATS, RTEXT_FILTER_VF
MOST_LISTED = 0xFFFF  # bytes of one attribute
_IFINFO = struct.Struct("=BxHiII")
_WANTED = frozenset({_LINKINFO})
_SWITCH_ID, _PORT_NAME = 36, 38
_READ = frozenset({"bond", "bridge", "vlan"})  # kinds whose attributes are read here
_NO_VALUE = 0xFFFFFFFF

BOND = {
    1: "mode",
    2: "active",
    3: "miimon_ms",
    4: "up_delay_ms",
    5: "down_delay_ms",
    7: "arp_interval_ms",
    11: "primary",
    14: "xmit_hash",
    18: "min_links",
    21: "lacp_rate",
    22: "ad_select",
}
BOND_AD_INFO = 23
AD_INFO = {1: "aggregator", 2: "aggregator_ports", 3: "actor_key", 4: "partner_key"}
PARTNER_MAC = 5
BOND_PORT = {
    1: "state",
    2: "link",
    3: "link_failures",
    5: "queue_id",
    6: "aggregator",
    7: "actor_state",
    8: "partner_state",
    11: "actor_churn",
    12: "partner_churn",
}
BRIDGE = {4: "ageing", 5: "stp", 7: "vlan_filtering", 12: "root_port", 13: "root_cost"}
BRIDGE_VLAN_PROTOCOL, BRIDGE_ROOT_ID, BRIDGE_ID = 8, 10, 11
BRIDGE_PORT = {1: "state", 3: "cost", 33: "isolated"}
VLAN_ID, VLAN_FLAGS, VLAN_PROTOCOL = 1, 2, 5
_ACTOR_SYSTEM, _PORT_MAC, _PORT_BRIDGES = 26, 4, (13, 14)  # of a bond, of its port; what a bridge's port was told

VF_STATS = {  # IFLA_VF_STATS, as the physical function counts them
    0: "rx_packets",
    1: "tx_packets",
    2: "rx_bytes",
    3: "tx_bytes",
    4: "broadcast",
    5: "multicast",
    7: "rx_dropped",
    8: "tx_dropped",
}
_LINK_STATES = {0: "auto", 1: "enable", 2: "disable"}
_PROTOCOLS = {0x8100: "802.1Q", 0x88A8: "802.1ad"}


class LinkInfo(NamedTuple):
    """Kind and attributes of a link, and of it as the port of its master; those of bonds, bridges and VLANs."""

    kind: str
    data: Mapping[int, bytes]
    port_kind: str
    port: Mapping[int, bytes]


class SwitchPort(NamedTuple):
    """Which port of which switch a link is: of a NIC's embedded one, or of a switch that runs Linux."""

    switch_id: str  # hexadecimal
    name: str  # "p0", "pf0vf3"


class Vf(NamedTuple):
    """One virtual function; None where the driver does not say, 0 Mb/s is no limit."""

    number: int  # from 0, as in virtfnN
    mac: str
    vlan_id: int
    vlan_qos: int
    vlan_protocol: str
    min_tx_mbps: int
    max_tx_mbps: int
    spoofchk: bool | None
    trust: bool | None
    link_state: str
    stats: Mapping[str, int]


def read_all(machine: Machine) -> dict[int, LinkInfo]:
    """By ifindex, of every link that says something; the request is that of `rtnl.read_links`. Raises MachineError."""
    found = map(parse, _dump(machine))
    return {ifindex: info for ifindex, info in found if info.kind or info.port_kind}


def parse(payload: bytes) -> tuple[int, LinkInfo]:
    """ifindex and LinkInfo of one RTM_NEWLINK message; raises MachineError when it is cut."""
    if len(payload) < _IFINFO.size:
        raise MachineError(f"link message of {len(payload)} bytes is too short")
    ifindex: int = _IFINFO.unpack_from(payload)[2]
    info = nla.table(nla.pick(payload, _IFINFO.size, _WANTED).get(_LINKINFO, b""))
    kind, port_kind = nla.string(info.get(_KIND, b"")), nla.string(info.get(_PORT_KIND, b""))
    data, port = info.get(_DATA, b""), info.get(_PORT_DATA, b"")
    return ifindex, LinkInfo(
        kind, nla.table(data) if kind in _READ else {}, port_kind, nla.table(port) if port_kind in _READ else {}
    )


def read_switch_ports(machine: Machine) -> dict[int, SwitchPort]:
    """By ifindex, of every link that is the port of a switch. Raises MachineError."""
    found = map(parse_switch_port, _dump(machine))
    return {ifindex: port for ifindex, port in found if port.switch_id}


def parse_switch_port(payload: bytes) -> tuple[int, SwitchPort]:
    """ifindex and place of one RTM_NEWLINK message; raises MachineError when it is cut."""
    if len(payload) < _IFINFO.size:
        raise MachineError(f"link message of {len(payload)} bytes is too short")
    found = nla.pick(payload, _IFINFO.size, frozenset({_SWITCH_ID, _PORT_NAME}))
    port = SwitchPort(found.get(_SWITCH_ID, b"").hex(), clean(nla.string(found.get(_PORT_NAME, b""))))
    return _IFINFO.unpack_from(payload)[2], port


def _dump(machine: Machine) -> list[bytes]:
    request = _IFINFO.pack(0, 0, 0, 0, 0) + nla.u32(_EXT_MASK, _SKIP_STATS)
    return [reply.payload for reply in machine.rtnl(rtnl.GETLINK, request, dump=True)]


def numbers(attributes: Mapping[int, bytes], names: Mapping[int, str]) -> dict[str, int]:
    """The numbers that are there, by the table's names; none has more than 64 bits."""
    return {name: nla.number(attributes[at][:8]) for at, name in names.items() if at in attributes}


def protocol(value: bytes) -> str:
    """ "802.1Q" of an EtherType in network order, its hexadecimal number for another, "" for none."""
    number = int.from_bytes(value, "big")
    return _PROTOCOLS.get(number, f"0x{number:04x}") if value else ""


def read_vfs(machine: Machine, ifindex: int) -> list[Vf]:
    """The virtual functions of a physical one, with their counters, by index. Raises MachineError.

    An attribute holds 64 KiB, and the kernel's list runs over it without a word at some 230 functions: without
    counters, which are then left out, some 320 fit.
    """
    replies = _ask_vfs(machine, ifindex, _WITH_VFS)
    if any(len(reply.payload) > MOST_LISTED for reply in replies):
        replies = _ask_vfs(machine, ifindex, _WITH_VFS | _SKIP_STATS)
    return [vf for reply in replies for vf in parse_vfs(reply.payload)]


def _ask_vfs(machine: Machine, ifindex: int, mask: int) -> list[Reply]:
    return machine.rtnl(rtnl.GETLINK, _IFINFO.pack(0, 0, ifindex, 0, 0) + nla.u32(_EXT_MASK, mask))


def parse_vfs(payload: bytes) -> list[Vf]:
    """Those of one RTM_NEWLINK message; raises MachineError when it is cut."""
    if len(payload) < _IFINFO.size:
        raise MachineError(f"link message of {len(payload)} bytes is too short")
    listed = nla.table(payload, _IFINFO.size).get(_VFINFO_LIST, b"")
    return [parse_vf(value) for kind, value in nla.items(listed) if kind == _VF_INFO]


def parse_vf(nested: bytes) -> Vf:
    """One IFLA_VF_INFO: structs that begin with the function's index."""
    found = nla.table(nested)
    mac, vlan, spoof = found.get(1, b""), _words(found.get(2, b""), 3), _words(found.get(4, b""), 2)
    number = _words(mac, 1) or vlan[:1] or spoof[:1]
    vlan_id, vlan_qos, vlan_protocol = _vlan(found.get(12, b""), vlan)
    rate = _words(found.get(6, b""), 3) or [0, 0, *_words(found.get(3, b""), 2)[1:]]
    state = _words(found.get(5, b""), 2)
    counted = nla.table(found.get(8, b""))
    return Vf(
        number=number[0] if number else 0,
        mac=mac[4:10].hex(":") if any(mac[4:10]) else "",
        vlan_id=vlan_id,
        vlan_qos=vlan_qos,
        vlan_protocol=vlan_protocol if vlan_id else "",
        min_tx_mbps=rate[1],
        max_tx_mbps=rate[2] if len(rate) > 2 else 0,
        spoofchk=_switch(spoof),
        trust=_switch(_words(found.get(9, b""), 2)),
        link_state=_LINK_STATES.get(state[1], str(state[1])) if state else "",
        stats={name: nla.number(counted[at][:8]) for at, name in VF_STATS.items() if at in counted},
    )


def _words(value: bytes, count: int) -> list[int]:
    """So many numbers of 32 bits; none of them when there are fewer."""
    return list(struct.unpack_from(f"={count}I", value)) if len(value) >= 4 * count else []


def _switch(words: list[int]) -> bool | None:
    return bool(words[1]) if words and words[1] != _NO_VALUE else None


def _vlan(listed: bytes, single: list[int]) -> tuple[int, int, str]:
    """Id, priority and protocol: IFLA_VF_VLAN_LIST, else IFLA_VF_VLAN, which knows 802.1Q only."""
    for _, value in nla.items(listed):
        if len(value) >= 14:
            _, vlan_id, qos = struct.unpack_from("=III", value)
            return vlan_id, qos, protocol(value[12:14])
    return (single[1], single[2], "802.1Q") if single else (0, 0, "")


def hidden_macs(payload: bytes) -> list[bytes]:
    """Hardware addresses inside the attributes of one RTM_NEWLINK message: of virtual functions, partners, bridges."""
    _, info = parse(payload)
    found = [bytes.fromhex(vf.mac.replace(":", "")) for vf in parse_vfs(payload)]
    if info.kind == "bond":
        found += [nla.table(info.data.get(BOND_AD_INFO, b"")).get(PARTNER_MAC, b""), info.data.get(_ACTOR_SYSTEM, b"")]
    elif info.kind == "bridge":
        found += [info.data.get(at, b"")[2:] for at in (BRIDGE_ROOT_ID, BRIDGE_ID)]
    if info.port_kind == "bond":
        found.append(info.port.get(_PORT_MAC, b""))
    elif info.port_kind == "bridge":
        found += [info.port.get(at, b"")[2:] for at in _PORT_BRIDGES]
    return [mac for mac in found if len(mac) >= 6]
