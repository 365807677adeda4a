"""The management path: which NICs carry the connection by which this host is reached.

Devices of the default routes, of the routes to the broker and to live SSH peers, walked down bonds, VLANs, bridges and
MACVLANs to the physical ports, and from a virtual function to its physical one. What can drop such a link needs the
policy's explicit allowance, or another healthy leg of the same bond; what can drop the last healthy leg of any bond
needs the allowance, too. What each class of danger needs is the table in `agent.blast`.
"""

import ipaddress
import socket
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from agent import blast, legs
from agent.legs import Leg
from machine import Machine, MachineError, NotPresentError, rtnl
from wire.facts import Nic
from wire.policy import Change, Setting

SSH_PORT = 22
SSH_SERVERS = ("sshd", "dropbear")  # sshd-session too
_ESTABLISHED = "01"
_INODE = 9  # column of /proc/net/tcp
_UNICAST = 1  # RTN_UNICAST
_PEERED = ("veth",)  # IFLA_LINK is the other end, not what it stands on


class Path(NamedTuple):
    """What must not be cut, by NIC key."""

    why: Mapping[str, str] = {}  # the NICs on the management path, and what they carry of it
    legs: Mapping[str, Leg] = {}  # the NICs that are legs of a bond or team
    spared: frozenset[str] = frozenset()  # those of `why` that carry it only as a leg


def survey(machine: Machine, nics: Mapping[str, Nic], peers: Iterable[str] = ()) -> Path:
    """The management path and the legs of all bonds; `peers` are IP addresses that must stay reachable.

    Raises MachineError when links or routes cannot be read: without them no NIC is known to be harmless.
    """
    links = {link.ifindex: link for link in rtnl.read_links(machine)}
    tops = _tops(machine, peers)
    why = keys(_below(tops, links), nics)
    bonds = {at for at, link in links.items() if link.kind in legs.MASTERS}
    cut = {at: structs.replace(link, master=0) if link.master in bonds else link for at, link in links.items()}
    direct = keys(_below(tops, cut), nics)
    return Path(why, leg_keys(machine, nics), frozenset(why.keys() - direct.keys()))


def management(machine: Machine, nics: Mapping[str, Nic], peers: Iterable[str] = ()) -> dict[str, str]:
    """Keys of the NICs on the management path, and why. Raises MachineError as `survey` does."""
    links = {link.ifindex: link for link in rtnl.read_links(machine)}
    return keys(_below(_tops(machine, peers), links), nics)


def leg_keys(machine: Machine, nics: Mapping[str, Nic]) -> dict[str, Leg]:
    """The NICs that are legs of a bond or team as they are now. Raises MachineError."""
    found = legs.read(machine).legs
    return {nic.key: found[nic.ifindex] for nic in nics.values() if nic.ifindex in found}


def _below(tops: Iterable[tuple[int, str]], links: Mapping[int, rtnl.Link]) -> dict[int, str]:
    found: dict[int, str] = {}
    for ifindex, why in tops:
        for below in down(ifindex, links):
            found.setdefault(below, why)
    return found


def _tops(machine: Machine, peers: Iterable[str]) -> list[tuple[int, str]]:
    tops = [(route.oif, "default route") for route in default_routes(machine)]
    reasons = {address: f"route to {address}" for address in peers}
    reasons |= {address: f"SSH from {address}" for address in ssh_peers(machine)}
    for address, why in reasons.items():
        try:
            tops.append((rtnl.read_route_to(machine, address).oif, why))
        except NotPresentError:
            continue
        except MachineError as error:
            if not _unreachable(error):
                raise
    return tops


def _unreachable(error: MachineError) -> bool:
    return error.code in (101, 113, 22)  # ENETUNREACH, EHOSTUNREACH, EINVAL for an unreachable route


def default_routes(machine: Machine) -> list[rtnl.Route]:
    """The default routes of both families in every table."""
    return [
        route
        for route in rtnl.read_routes(machine)
        if not route.prefixlen and not route.dst and route.oif and route.kind == _UNICAST
    ]


def down(top: int, links: Mapping[int, rtnl.Link]) -> set[int]:
    """The interface and all that it stands on, as far as this namespace shows."""
    seen: set[int] = set()
    todo = [top]
    while todo:
        ifindex = todo.pop()
        link = links.get(ifindex)
        if link is None or ifindex in seen:
            continue
        seen.add(ifindex)
        todo += [slave.ifindex for slave in links.values() if slave.master == ifindex]
        if link.link and link.netnsid is None and link.kind not in _PEERED:
            todo.append(link.link)
    return seen


def keys(found: Mapping[int, str], nics: Mapping[str, Nic]) -> dict[str, str]:
    """Keys of the NICs with these indices, and of the physical functions of virtual ones among them, and why."""
    reasons = {nic.key: found[nic.ifindex] for nic in nics.values() if nic.ifindex in found}
    functions = {nics[key].pf: why for key, why in reasons.items() if nics[key].pf}
    for nic in nics.values():
        if nic.address in functions:
            reasons.setdefault(nic.key, f"{functions[nic.address]}, through a virtual function")
    return reasons


def ssh_peers(machine: Machine) -> list[str]:
    """Addresses connected to port 22, or to an SSH server on any port, from /proc/net/tcp and tcp6."""
    peers: set[str] = set()
    sockets = ssh_sockets(machine)
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            peers.update(parse_peers(machine.read(path), SSH_PORT, sockets))
        except NotPresentError:
            continue
    return sorted(peers)


def ssh_sockets(machine: Machine) -> set[str]:
    """Inodes of the sockets that processes named like an SSH server hold, from /proc/PID/{comm,fd}."""
    found: set[str] = set()
    for pid in filter(str.isdigit, machine.names("/proc")):
        try:
            if machine.read(f"/proc/{pid}/comm").startswith(SSH_SERVERS):
                targets = (machine.target(f"/proc/{pid}/fd/{fd}") for fd in machine.names(f"/proc/{pid}/fd"))
                found.update(text[8:-1] for text in targets if text.startswith("socket:["))
        except MachineError:  # it ended meanwhile, or is not ours to look into
            continue
    return found


def parse_peers(text: str, port: int, sockets: Collection[str] = ()) -> list[str]:
    """Remote addresses of established connections to a local port or of these sockets; IPv4 in IPv6 as IPv4."""
    peers: list[str] = []
    for fields in map(str.split, text.splitlines()[1:]):
        if len(fields) > 3 and fields[3] == _ESTABLISHED:
            local = int(fields[1].rpartition(":")[2], 16)
            if local == port or (len(fields) > _INODE and fields[_INODE] in sockets):
                peers.append(parse_address(fields[2].rpartition(":")[0]))
    return peers


def parse_address(text: str) -> str:
    """The kernel prints each 32 bits of an address as a number of the machine's own byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def addresses(host: str, port: int) -> list[str]:
    """IP addresses of the broker; empty when its name does not resolve now."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(item[4][0]) for item in found})


def refused(changes: Sequence[Change], settings: Sequence[Setting], path: Path) -> dict[tuple[str, str], str]:
    """Settings (knob, NIC key) that could cut what must not be cut without being allowed to, and why."""
    allowed = {(setting.knob, setting.nic): set(setting.allow) for setting in settings}
    found: dict[tuple[str, str], str] = {}
    for change in changes:
        key = (change.knob, change.nic)
        why = "" if change.blast in allowed.get(key, set()) else at_stake(change, path)
        if why:
            found.setdefault(key, f"{change.target} {why}; needs allow: [{change.blast.value}]")
    return found


def at_stake(change: Change, path: Path) -> str:
    """What this change could cut, in words, where its class needs to be allowed to; "" for nothing."""
    needs = blast.NEEDS[change.blast]
    leg = path.legs.get(change.nic)
    if not needs.allowance:
        return ""
    if not change.nic:
        return f"could cut the {min(path.why.values())}" if path.why else ""
    if change.nic in path.why:
        spared = needs.leg_instead and change.nic in path.spared and leg is not None and leg.others
        return "" if spared else f"carries the {path.why[change.nic]}"
    return f"is the last healthy leg of {leg.master}" if leg is not None and leg.last else ""
