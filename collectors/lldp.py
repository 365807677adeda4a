"""The neighbour on every port, by LLDP: from a running lldpd, else heard by the agent itself."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from collectors import lldp_daemon, sysfs
from collectors.about import About
from collectors.links import Port, poll, read_own_ports
from collectors.lldp_frame import parse_frame
from machine import DeniedError, Machine, MachineError, NotPresentError, ethtool
from wire.facts.cables import Lldp
from wire.text import clean

NAME = "lldp"
EVERY_S = 30.0  # neighbours speak every 30 s, and are forgotten after 120
DEADLINE_S = 5.0  # lldpcli takes some milliseconds, unless lldpd hangs
MOST_ON_A_PORT = 16

_SOCKET = re.compile(r" /\S*/lldpd\S*socket$", re.MULTILINE)  # a line of /proc/net/unix
_REPRESENTOR = re.compile(r"(?:c\d+)?pf\d+(?:vf|sf)\d+")  # phys_port_name of a port that stands for a virtual function
FLAGS_SINCE = (5, 7)  # the kernel whose ethtool netlink tells private flags
_NO_FLAGS: Mapping[str, bool] = {}


class Agent(NamedTuple):
    """The private flag behind which a NIC's firmware has an LLDP agent that keeps the frames to itself."""

    flag: str
    keeps: bool  # the flag's value with which it does
    release: str  # what to set it to


AGENTS = {"i40e": Agent("disable-fw-lldp", False, "on"), "ice": Agent("fw-lldp-agent", True, "off")}

ABOUT = About(
    what="LLDP neighbours per port: chassis, port, system, addresses, VLANs, aggregation; ports whose NIC's firmware "
    "keeps the frames",
    source="a running lldpd through `lldpcli`, else LLDP frames (AF_PACKET), of which bridging always; ethtool private "
    "flags",
    privileges="CAP_NET_RAW to listen, or rights on lldpd's socket",
)


class Heard(NamedTuple):
    """Neighbours without keys by port, and who heard them."""

    source: str
    by_ifindex: dict[int, list[Lldp]]


def collect(machine: Machine) -> Iterator[Lldp]:
    """One `Lldp` per neighbour, and one per port that firmware makes deaf; raises NotPresentError for none at all."""
    ports = [port for port in read_own_ports(machine) if port.link.up and not is_virtual_function(machine, port)]
    heard = read_heard(machine, ports)
    system = clean(sysfs.text(machine, "/proc/sys/kernel/hostname"))
    found = [one for port in ports for one in keyed(port, heard.by_ifindex.get(port.link.ifindex, []), system)]
    quiet = [port for port in ports if port.device and not heard.by_ifindex.get(port.link.ifindex)]
    found += read_blocked(machine, quiet, heard.source)
    if not found:
        raise NotPresentError(f"no neighbour heard yet by {heard.source} on {len(ports)} ports")
    yield from found


def is_virtual_function(machine: Machine, port: Port) -> bool:
    """One has no cable of its own: what it hears comes through its physical function's."""
    return bool(port.device and sysfs.link_name(machine, f"{port.folder}/device/physfn"))


def keyed(port: Port, neighbours: Sequence[Lldp], system: str) -> list[Lldp]:
    """The port's neighbours as facts of it, the one heard first under the port's own key; none without a carrier."""
    if not port.link.carrier:
        return []
    return [
        msgspec.structs.replace(
            one,
            key=f"{port.key}#{number}" if number > 1 else port.key,
            port_key=port.key if number > 1 else "",
            port=port.link.ifname,
            local_system_name=system,
            local_mac=port.link.mac,
            local_perm_mac=port.link.perm_mac,
        )
        for number, one in enumerate(neighbours[:MOST_ON_A_PORT], 1)
    ]


def read_heard(machine: Machine, ports: Sequence[Port]) -> Heard:
    """What lldpd heard where it runs and answers, else what the agent did; raises MachineError."""
    refused: MachineError | None = None
    if _SOCKET.search(sysfs.text(machine, "/proc/net/unix")):
        try:
            return Heard("lldpd", bridged(machine, ports, read_daemon(machine, ports)))
        except MachineError as error:
            refused = error
    try:
        return Heard("frames", read_frames(machine, ports))
    except DeniedError as error:
        raise NotPresentError(f"{refused or 'no lldpd runs'}; {error}") from None


def read_daemon(machine: Machine, ports: Sequence[Port]) -> dict[int, list[Lldp]]:
    """lldpd's neighbours by interface index; raises MachineError."""
    ifindexes = {name: port.link.ifindex for port in ports for name in (*port.link.altnames, port.link.ifname)}
    found: dict[int, list[Lldp]] = {}
    for one in lldp_daemon.parse_neighbours(machine.command("lldpcli", *lldp_daemon.WORDS)):
        if one.port in ifindexes:
            found.setdefault(ifindexes[one.port], []).append(one)
    return found


def bridged(machine: Machine, ports: Sequence[Port], found: dict[int, list[Lldp]]) -> dict[int, list[Lldp]]:
    """lldpd's neighbours with what they announce of data centre bridging, which lldpd drops: from the frames."""
    try:
        frames = read_frames(machine, ports)
    except MachineError:
        return found
    said = {(at, one.chassis_id, one.port_id): one for at, heard in frames.items() for one in heard}
    for ifindex, heard in found.items():
        for one in heard:
            if frame := said.get((ifindex, one.chassis_id, one.port_id)):
                one.pfc, one.pfc_willing = frame.pfc, frame.pfc_willing
                one.ets_prio_tc, one.ets_bandwidth, one.ets_tsa = frame.ets_prio_tc, frame.ets_bandwidth, frame.ets_tsa
    return found


def read_frames(machine: Machine, ports: Sequence[Port]) -> dict[int, list[Lldp]]:
    """The neighbours that the agent heard by itself, by interface index; raises MachineError."""
    found: dict[int, list[Lldp]] = {}
    for reply in machine.lldp_frames([port.link.ifindex for port in ports if port.device]):
        if neighbour := parse_frame(reply.payload):
            found.setdefault(reply.kind, []).append(neighbour)
    return found


def read_blocked(machine: Machine, ports: Sequence[Port], source: str) -> Iterator[Lldp]:
    """The ports among these whose NIC keeps LLDP frames to itself."""
    drivers = {port.link.ifindex: sysfs.link_name(machine, f"{port.folder}/device/driver") for port in ports}
    concerned = [port for port in ports if drivers[port.link.ifindex] in AGENTS]
    if not concerned:
        return
    flags = poll(machine, ethtool.read_all_privflags, ethtool.read_privflags, concerned)
    tells = parse_release(sysfs.text(machine, "/proc/sys/kernel/osrelease")) >= FLAGS_SINCE
    for port in concerned:
        stands_for_another = _REPRESENTOR.fullmatch(sysfs.text(machine, f"{port.folder}/phys_port_name"))
        own = flags.get(port.link.ifindex, _NO_FLAGS if tells else None)
        if reason := "" if stands_for_another else why_blocked(drivers[port.link.ifindex], own, port.link.ifname):
            yield Lldp(
                key=port.key,
                port=port.link.ifname,
                state="blocked",
                reason=reason,
                source=source,
                local_mac=port.link.mac,
                local_perm_mac=port.link.perm_mac,
            )


def why_blocked(driver: str, flags: Mapping[str, bool] | None, ifname: str) -> str:
    """Why LLDP frames end in this NIC, and what frees them; "" where they do not, or nothing says so.

    `flags` are its private flags, None where the kernel does not tell.
    """
    agent = AGENTS.get(driver)
    if agent is None or flags is None:
        return ""
    if driver == "ice" and not flags:
        return "the NIC is in safe mode, its firmware answers LLDP: install the DDP package and load ice again"
    if flags.get(agent.flag) is not agent.keeps:
        return ""
    return f"the NIC's firmware answers LLDP: ethtool --set-priv-flags {ifname} {agent.flag} {agent.release}"


def parse_release(text: str) -> tuple[int, int]:
    """Major and minor of a kernel release; zeros for what is none."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", text, re.ASCII)
    return (int(found[1]), int(found[2])) if found else (0, 0)
