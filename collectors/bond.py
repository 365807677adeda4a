"""What is built on network interfaces: bonds and teams with their ports and LACP partners, bridges, VLANs."""

import struct
from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from collectors import bonding, sysfs
from collectors.about import About
from collectors.bondevents import edges
from collectors.bonding import LACP, Told, ToldPort
from collectors.links import Port, read_ports
from machine import Machine, MachineError, NotPresentError, linkinfo, nla, team
from machine.linkinfo import LinkInfo
from wire.facts import Bond, BondPort, Bridge, BridgePort, LacpPort, Vlan
from wire.report import Event, Sample

NAME = "bond"
EVERY_S = 10.0
DEADLINE_S = 10.0

MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")
HASHES = ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac")
RATES = ("slow", "fast")
SELECTS = ("stable", "bandwidth", "count", "prio")
STATES = ("active", "backup")
LINKS = ("up", "going down", "down", "going back")  # BOND_LINK_UP, FAIL, DOWN, BACK
CHURNS = ("monitoring", "churned", "none")
STP = ("off", "kernel", "user")
BRIDGE_STATES = ("disabled", "listening", "learning", "forwarding", "blocking")
_VLAN_FLAGS = ("reorder_hdr", "gvrp", "loose_binding", "mvrp")  # VLAN_FLAG_*, from bit 0
_USER_HZ = 100

ABOUT = About(
    what="bonds and teams: ports, LACP partners, churn; bridges; VLANs",
    source="rtnetlink, team netlink, `/proc/net/bonding`, `/sys/class/net/X/bonding`",
    privileges="root for LACP partners per port",
    metrics=dict.fromkeys(("bond.ports_up", "bond.link_failures", "bond.actor_churns", "bond.partner_churns"), 0),
)

_seen: WeakKeyDictionary[Machine, dict[str, Bond]] = WeakKeyDictionary()  # what the last run found, for events


def collect(machine: Machine) -> Iterator[Bond | Bridge | Vlan | Sample | Event]:
    """One fact per bond, team, bridge and VLAN, and what happened to bonds since the last run on this machine.

    Raises NotPresentError where there are none.
    """
    ports = {port.link.ifindex: port for port in read_ports(machine)}
    infos = read_infos(machine, ports)
    bonds = {bond.key: bond for bond in read_bonds(machine, ports, infos)}
    others: list[Bridge | Vlan] = [*parse_bridges(ports, infos), *parse_vlans(ports, infos)]
    before, _seen[machine] = _seen.get(machine, {}), bonds
    yield from edges(before, bonds)
    if not bonds and not others:
        raise NotPresentError("no bond, team, bridge or VLAN")
    yield from bonds.values()
    yield from others
    for bond in bonds.values():
        yield Sample("bond.ports_up", bond.key, sum(port.link == "up" for port in bond.ports))
        yield from read_counts(machine, bond, ports, infos)


def read_infos(machine: Machine, ports: Mapping[int, Port]) -> dict[int, LinkInfo]:
    """What links say of their kind; on a machine that is a folder only the kind, and so the attributes are empty."""
    try:
        return linkinfo.read_all(machine)
    except NotPresentError:
        return {at: LinkInfo(port.link.kind, {}, "", {}) for at, port in ports.items() if port.link.kind}


# -- bonds and teams ---------------------------------------------------------------------------------------------------


def read_bonds(machine: Machine, ports: Mapping[int, Port], infos: Mapping[int, LinkInfo]) -> Iterator[Bond]:
    """Every bond and team, by ifindex."""
    for ifindex, info in sorted(infos.items()):
        if ifindex not in ports or info.kind not in ("bond", "team"):
            continue
        port = ports[ifindex]
        if info.kind == "team":
            yield read_team(machine, port, ports)
        elif info.data:
            bond = parse_bond(port, ports, infos)
            yield told_too(bond, read_told(machine, port)) if bond.mode == LACP else bond
        else:
            yield parse_told(port, read_told(machine, port), ports) or read_sysfs(machine, port, ports)


def parse_bond(port: Port, ports: Mapping[int, Port], infos: Mapping[int, LinkInfo]) -> Bond:
    """From the attributes of its link and of those whose master it is."""
    data = infos[port.link.ifindex].data
    found: dict[str, Any] = linkinfo.numbers(data, linkinfo.BOND)
    lacp = _one_of(MODES, found.get("mode")) == LACP
    aggregate = nla.table(data.get(linkinfo.BOND_AD_INFO, b"")) if lacp else {}
    found |= linkinfo.numbers(aggregate, linkinfo.AD_INFO)
    for name, words in {"mode": MODES, "xmit_hash": HASHES, "lacp_rate": RATES, "ad_select": SELECTS}.items():
        found[name] = _one_of(words, found.get(name))
    for name in ("active", "primary"):
        found[name] = _ifname(ports, found.get(name, 0))
    if not lacp:
        found["lacp_rate"] = found["ad_select"] = ""
    return Bond(
        key=port.key,
        ifname=port.link.ifname,
        **found,
        partner_mac=bonding.mac(aggregate.get(linkinfo.PARTNER_MAC, b"").hex(":")),
        ports=[
            parse_port(lower, infos[lower.link.ifindex], lacp=lacp)
            for lower in _ports_of(port, ports)
            if lower.link.ifindex in infos
        ],
    )


def parse_port(port: Port, info: LinkInfo, *, lacp: bool) -> BondPort:
    """From IFLA_INFO_SLAVE_DATA."""
    found = linkinfo.numbers(info.port, linkinfo.BOND_PORT)
    actor, partner = found.get("actor_state"), found.get("partner_state")
    return BondPort(
        ifname=port.link.ifname,
        key=port.key,
        state=_one_of(STATES, found.get("state")),
        link=_one_of(LINKS, found.get("link")),
        queue_id=found.get("queue_id") or None,
        aggregator=found.get("aggregator") if lacp else None,
        actor=LacpPort(state=bonding.lacp_state(actor)) if lacp and actor is not None else None,
        partner=LacpPort(state=bonding.lacp_state(partner)) if lacp and partner is not None else None,
        actor_churn=_one_of(CHURNS, found.get("actor_churn")) if lacp else "",
        partner_churn=_one_of(CHURNS, found.get("partner_churn")) if lacp else "",
    )


def read_told(machine: Machine, port: Port) -> Told:
    """What the driver prints; empty where it does not."""
    return bonding.parse_bonding(sysfs.text(machine, f"{bonding.FOLDER}/{port.link.ifname}"))


def told_too(bond: Bond, told: Told) -> Bond:
    """The bond with what only the text has: both ends of each port's session, and churn."""
    texts = {port.ifname: port for port in told.ports}
    for port in bond.ports:
        text = texts.get(port.ifname)
        if text is not None:
            port.actor = bonding.parse_end(text.actor) or port.actor
            port.partner = bonding.parse_end(text.partner) or port.partner
            port.actor_churn = port.actor_churn or bonding.word(text.rows, "Actor Churn State")
            port.partner_churn = port.partner_churn or bonding.word(text.rows, "Partner Churn State")
    return bond


def parse_told(port: Port, told: Told, ports: Mapping[int, Port]) -> Bond | None:
    """A bond from the text alone; None when that has no mode."""
    rows, number = told.rows, bonding.number
    if not bonding.mode(rows):
        return None
    keys = {one.link.ifname: one.key for one in ports.values()}
    return Bond(
        key=port.key,
        ifname=port.link.ifname,
        mode=bonding.mode(rows),
        xmit_hash=bonding.word(rows, "Transmit Hash Policy"),
        miimon_ms=number(rows, "MII Polling Interval (ms)"),
        arp_interval_ms=number(rows, "ARP Polling Interval (ms)"),
        up_delay_ms=number(rows, "Up Delay (ms)"),
        down_delay_ms=number(rows, "Down Delay (ms)"),
        min_links=number(rows, "Min links"),
        active=bonding.word(rows, "Currently Active Slave"),
        primary=bonding.word(rows, "Primary Slave"),
        lacp_rate=bonding.word(rows, "LACP rate"),
        ad_select=bonding.word(rows, "Aggregator selection policy (ad_select)"),
        aggregator=number(rows, "Aggregator ID"),
        aggregator_ports=number(rows, "Number of ports"),
        actor_key=number(rows, "Actor Key"),
        partner_key=number(rows, "Partner Key"),
        partner_mac=bonding.mac(rows.get("Partner Mac Address", "")),
        ports=[parse_told_port(one, keys.get(one.ifname, one.ifname), rows) for one in told.ports],
    )


def parse_told_port(port: ToldPort, key: str, rows: Mapping[str, str]) -> BondPort:
    """A port from the text alone; it is the backup when another is named active."""
    active = rows.get("Currently Active Slave", "")
    return BondPort(
        ifname=port.ifname,
        key=key,
        state=("active" if port.ifname == active else "backup") if active else "",
        link=port.rows.get("MII Status", ""),
        queue_id=bonding.number(port.rows, "Slave queue ID") or None,
        aggregator=bonding.number(port.rows, "Aggregator ID"),
        actor=bonding.parse_end(port.actor),
        partner=bonding.parse_end(port.partner),
        actor_churn=bonding.word(port.rows, "Actor Churn State"),
        partner_churn=bonding.word(port.rows, "Partner Churn State"),
    )


def read_sysfs(machine: Machine, port: Port, ports: Mapping[int, Port]) -> Bond:
    """Names and states, which is what sysfs has."""
    folder = f"{port.folder}/bonding"
    keys = {one.link.ifname: one.key for one in ports.values()}
    lowers = sysfs.text(machine, f"{folder}/slaves").split()[: bonding.MOST_PORTS]
    return Bond(
        key=port.key,
        ifname=port.link.ifname,
        mode=sysfs.text(machine, f"{folder}/mode").partition(" ")[0],
        active=sysfs.text(machine, f"{folder}/active_slave"),
        ports=[
            BondPort(
                ifname=lower,
                key=keys.get(lower, lower),
                state=sysfs.text(machine, f"{port.folder}/lower_{lower}/bonding_slave/state"),
                link=sysfs.text(machine, f"{port.folder}/lower_{lower}/bonding_slave/mii_status")
                or sysfs.text(machine, f"{port.folder}/slave_{lower}/bonding_slave/mii_status"),
            )
            for lower in lowers
        ],
    )


def read_team(machine: Machine, port: Port, ports: Mapping[int, Port]) -> Bond:
    """A team, its ports as the kernel has them; without its netlink family only who they are."""
    try:
        found = team.read(machine, port.link.ifindex)
    except MachineError:
        found = team.Team("", 0, {})
    return Bond(
        key=port.key,
        ifname=port.link.ifname,
        driver="team",
        mode=found.mode,
        active=_ifname(ports, found.active),
        ports=[
            BondPort(ifname=lower.link.ifname, key=lower.key, link=_team_link(found, lower))
            for lower in _ports_of(port, ports)
        ],
    )


def _team_link(found: team.Team, port: Port) -> str:
    up = found.ports.get(port.link.ifindex)
    return "" if up is None else "up" if up else "down"


def read_counts(
    machine: Machine, bond: Bond, ports: Mapping[int, Port], infos: Mapping[int, LinkInfo]
) -> Iterator[Sample]:
    """How often each port failed since it joined, and how often either end of its session churned."""
    failures = {
        ports[at].key: nla.number(info.port[3][:4])
        for at, info in infos.items()
        if at in ports and info.port_kind == "bond" and 3 in info.port
    }
    if bond.driver != "bond":
        return
    told = read_told(machine, next(port for port in ports.values() if port.key == bond.key))
    texts = {port.ifname: port.rows for port in told.ports}
    for port in bond.ports:
        rows = texts.get(port.ifname, {})
        counts = {
            "bond.link_failures": failures.get(port.key, bonding.number(rows, "Link Failure Count")),
            "bond.actor_churns": bonding.number(rows, "Actor Churned Count"),
            "bond.partner_churns": bonding.number(rows, "Partner Churned Count"),
        }
        yield from (Sample(metric, port.key, count) for metric, count in counts.items() if count is not None)


# -- bridges and VLANs -------------------------------------------------------------------------------------------------


def parse_bridges(ports: Mapping[int, Port], infos: Mapping[int, LinkInfo]) -> Iterator[Bridge]:
    """Every bridge, by ifindex."""
    for ifindex, info in sorted(infos.items()):
        if info.kind != "bridge" or ifindex not in ports:
            continue
        found = linkinfo.numbers(info.data, linkinfo.BRIDGE)
        lowers = [(lower, infos[lower.link.ifindex].port) for lower in _ports_of(ports[ifindex], ports, infos)]
        numbered = {nla.number(data[18]): lower.link.ifname for lower, data in lowers if 18 in data}  # IFLA_BRPORT_NO
        root_port = found.get("root_port", 0)
        yield Bridge(
            key=ports[ifindex].key,
            ifname=ports[ifindex].link.ifname,
            stp=_one_of(STP, found.get("stp")),
            vlan_filtering=bool(found.get("vlan_filtering")),
            vlan_protocol=linkinfo.protocol(info.data.get(linkinfo.BRIDGE_VLAN_PROTOCOL, b"")),
            bridge_id=parse_bridge_id(info.data.get(linkinfo.BRIDGE_ID, b"")),
            root_id=parse_bridge_id(info.data.get(linkinfo.BRIDGE_ROOT_ID, b"")),
            root_port=numbered.get(root_port, ""),
            root_cost=found.get("root_cost"),
            ageing_s=found["ageing"] / _USER_HZ if "ageing" in found else None,
            ports=[parse_bridge_port(lower, data) for lower, data in lowers],
        )


def parse_bridge_port(port: Port, data: Mapping[int, bytes]) -> BridgePort:
    """From IFLA_INFO_SLAVE_DATA."""
    found = linkinfo.numbers(data, linkinfo.BRIDGE_PORT)
    return BridgePort(
        ifname=port.link.ifname,
        key=port.key,
        state=_one_of(BRIDGE_STATES, found.get("state")),
        cost=found.get("cost"),
        isolated=bool(found.get("isolated")),
    )


def parse_bridge_id(value: bytes) -> str:
    """`8000.52:54:00:12:34:56`: priority and MAC, as IEEE 802.1D writes them; "" for none."""
    return f"{struct.unpack_from('>H', value)[0]:04x}.{value[2:8].hex(':')}" if len(value) == 8 else ""


def parse_vlans(ports: Mapping[int, Port], infos: Mapping[int, LinkInfo]) -> Iterator[Vlan]:
    """Every VLAN interface, by ifindex."""
    for ifindex, info in sorted(infos.items()):
        if info.kind != "vlan" or ifindex not in ports or linkinfo.VLAN_ID not in info.data:
            continue
        port = ports[ifindex]
        below = ports.get(port.link.link) if port.link.netnsid is None else None
        flags = nla.number(info.data.get(linkinfo.VLAN_FLAGS, b"")[:4])
        yield Vlan(
            key=port.key,
            ifname=port.link.ifname,
            vlan_id=nla.number(info.data[linkinfo.VLAN_ID][:2]),
            protocol=linkinfo.protocol(info.data.get(linkinfo.VLAN_PROTOCOL, b"")),
            parent=below.link.ifname if below else "",
            parent_key=below.key if below else "",
            **{name: bool(flags >> bit & 1) for bit, name in enumerate(_VLAN_FLAGS)},
        )


def _ports_of(master: Port, ports: Mapping[int, Port], infos: Mapping[int, LinkInfo] | None = None) -> list[Port]:
    """Those whose master it is, by ifindex; with `infos` only those that are in it."""
    found = [port for port in ports.values() if port.link.master == master.link.ifindex]
    return [port for port in found if infos is None or port.link.ifindex in infos]


def _ifname(ports: Mapping[int, Port], ifindex: int) -> str:
    return ports[ifindex].link.ifname if ifindex in ports else ""


def _one_of(words: tuple[str, ...], number: int | None) -> str:
    """The word with this number, the number for one that is newer than the table, "" for none."""
    if number is None:
        return ""
    return words[number] if number < len(words) else str(number)
