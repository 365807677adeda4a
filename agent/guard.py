"""The management path: which NICs carry the connection by which this host is reached.

Devices of the default routes, of the routes to the broker and to live SSH peers, walked down bonds, VLANs, bridges and
MACVLANs to the physical ports, and from a virtual function to its physical one. What can drop such a link needs the
policy's explicit allowance.
"""

import ipaddress
import socket
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence

from machine import Machine, MachineError, NotPresentError, rtnl
from wire.facts import Nic
from wire.policy import Blast, Change, Setting

SSH_PORT = 22
SSH_SERVERS = ("sshd", "dropbear")  # sshd-session too
DANGEROUS = (Blast.LINK, Blast.BLACKHOLE)
_ESTABLISHED = "01"
_INODE = 9  # column of /proc/net/tcp
_UNICAST = 1  # RTN_UNICAST
_PEERED = ("veth",)  # IFLA_LINK is the other end, not what it stands on


def management(machine: Machine, nics: Mapping[str, Nic], peers: Iterable[str] = ()) -> dict[str, str]:
    """Keys of the NICs on the management path, and why; `peers` are IP addresses that must stay reachable.

    Raises MachineError when links or routes cannot be read: without them no NIC is known to be harmless.
    """
    links = {link.ifindex: link for link in rtnl.read_links(machine)}
    found: dict[int, str] = {}
    for ifindex, why in _tops(machine, peers):
        for below in down(ifindex, links):
            found.setdefault(below, why)
    return keys(found, nics)


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
                peers.append(_address(fields[2].rpartition(":")[0]))
    return peers


def _address(text: str) -> str:
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


def refused(
    changes: Sequence[Change], settings: Sequence[Setting], path: Mapping[str, str]
) -> dict[tuple[str, str], str]:
    """Settings (knob, NIC key) that could cut the management path without being allowed to, and why."""
    allowed = {(setting.knob, setting.nic): set(setting.allow) for setting in settings}
    return {
        (
            change.knob,
            change.nic,
        ): f"{change.target} carries the {path[change.nic]}; needs allow: [{change.blast.value}]"
        for change in changes
        if change.blast in DANGEROUS
        and change.nic in path
        and change.blast not in allowed.get((change.knob, change.nic), set())
    }
