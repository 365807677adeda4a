"""Network interfaces: identity, link, driver, firmware, place in the machine, SR-IOV, and what stands on what."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from collectors import sysfs
from collectors.about import About
from collectors.links import Port, poll, read_ports
from machine import Machine, MachineError, ethtool
from machine.rtnl import Link
from wire.facts import Nic

NAME = "nic"
EVERY_S = 60.0
DEADLINE_S = 10.0

_QUEUE = re.compile(r"(rx|tx)-(\d+)")
_LOOPBACK = 772  # ARPHRD_LOOPBACK
_NO_DRIVER = ethtool.DrvInfo("", "", "", "", 0)
_NO_MODES = ethtool.LinkModes(None, None, "", None)
PEERED = frozenset({"veth", "netkit"})  # their `link` is a peer, not what they stand on


ABOUT = About(
    what="every interface: identity, link, driver, firmware, PCI, NUMA, SR-IOV, what stands on what",
    source="rtnetlink, ethtool netlink, DRVINFO, `/sys/class/net`",
)


def collect(machine: Machine) -> Iterator[Nic]:
    """One `Nic` per interface, loopback included, by ifindex."""
    ports = read_ports(machine)
    names = {port.link.ifindex: port.link.ifname for port in ports}
    modes = poll(machine, ethtool.read_all_linkmodes, ethtool.read_linkmodes, ports)
    plugs = poll(machine, ethtool.read_all_linkinfo, ethtool.read_linkinfo, ports)
    for port in ports:
        link = port.link
        mode = modes.get(link.ifindex, _NO_MODES)
        yield Nic(
            key=port.key,
            ifname=link.ifname,
            ifindex=link.ifindex,
            type=parse_type(port),
            mac=link.mac,
            perm_mac=link.perm_mac,
            altnames=link.altnames,
            mtu=link.mtu,
            up=link.up,
            carrier=link.carrier,
            operstate=link.operstate,
            master=names.get(link.master, ""),
            lower=parse_lower(link, [other.link for other in ports]),
            vlan_id=link.vlan_id,
            bond_mode=sysfs.text(machine, f"{port.folder}/bonding/mode").partition(" ")[0],
            speed_mbps=mode.speed_mbps,
            max_speed_mbps=mode.max_speed_mbps,
            duplex=mode.duplex,
            autoneg=mode.autoneg,
            port=plugs.get(link.ifindex, ""),
            **read_queue_counts(machine, port),
            **(read_hardware(machine, port) if port.device else {}),
        )


def parse_type(port: Port) -> str:
    """What it is: "physical" with a device, else the kind the kernel gives it, "loopback", or "virtual"."""
    if port.device:
        return "physical"
    return port.link.kind or ("loopback" if port.link.hwtype == _LOOPBACK else "virtual")


def parse_lower(link: Link, links: list[Link]) -> list[str]:
    """Names of what an interface stands on in this namespace: ports of a bond or bridge, a VLAN's parent."""
    lower = [other.ifname for other in links if other.master == link.ifindex]
    if link.netnsid is None and link.kind not in PEERED:
        lower += [other.ifname for other in links if other.ifindex == link.link and other is not link]
    return lower


def read_queue_counts(machine: Machine, port: Port) -> dict[str, Any]:
    """rx_queues and tx_queues: the directories in queues/."""
    kinds = [match[1] for name in sysfs.names(machine, f"{port.folder}/queues") if (match := _QUEUE.fullmatch(name))]
    return {"rx_queues": kinds.count("rx"), "tx_queues": kinds.count("tx")}


def read_hardware(machine: Machine, port: Port) -> Mapping[str, Any]:
    """The fields of `Nic` that only hardware has; NUMA node and CPUs are those of its PCI function."""
    device = f"{port.folder}/device"
    place = f"/sys/bus/pci/devices/{port.address}" if port.address else device
    said = read_driver(machine, port.link.ifname)
    function = sysfs.resolve(machine, f"{device}/physfn")
    return {
        "driver": sysfs.link_name(machine, f"{device}/driver") or said.driver,
        "driver_version": said.version,
        "firmware": parse_firmware(said.firmware),
        "bus": sysfs.link_name(machine, f"{device}/subsystem"),
        "address": port.address,
        "numa_node": sysfs.node(machine, f"{place}/numa_node"),
        "local_cpus": sysfs.cpulist(machine, f"{place}/local_cpulist"),
        "sriov_total": sysfs.number(machine, f"{device}/sriov_totalvfs"),
        "sriov_vfs": sysfs.number(machine, f"{device}/sriov_numvfs"),
        "pf": next(reversed(sysfs.pci_addresses(function)), ""),
    }


def read_driver(machine: Machine, ifname: str) -> ethtool.DrvInfo:
    """What the driver says of itself; empty where it says nothing."""
    try:
        return ethtool.read_drvinfo(machine, ifname)
    except MachineError:
        return _NO_DRIVER


def parse_firmware(text: str) -> str:
    """The firmware's version; "N/A" and the like are none."""
    return "" if text.strip().lower() in {"n/a", "na", "none", "unknown"} else text.strip()
