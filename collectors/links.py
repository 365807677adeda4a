"""The interfaces of a machine with the keys that facts about them carry; what the NIC collectors share."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from collectors import sysfs
from machine import Machine, MachineError, NotPresentError, rtnl
from machine.rtnl import Link

NET = "/sys/class/net"
_LOOPBACK = 772  # ARPHRD_LOOPBACK
_DEVTYPE = re.compile(r"^DEVTYPE=(\w+)$", re.MULTILINE)
_NO_MAC = re.compile(r"(?:00[:]?)*")

T = TypeVar("T")


class Port(NamedTuple):
    """One interface: its fact key, its link, and the hardware under it."""

    key: str
    link: Link
    device: str  # resolved path of /sys/class/net/X/device, "" for an interface without hardware
    address: str  # PCI address of the device or of the PCI function above it (virtio, USB)

    @property
    def folder(self) -> str:
        """The interface's directory in sysfs."""
        return f"{NET}/{self.link.ifname}"


def read_ports(machine: Machine) -> list[Port]:
    """Every interface by ifindex. Raises NotPresentError where there are none to be found."""
    links = read_links(machine)
    if not links:
        raise NotPresentError(f"no interface in {NET}")
    devices = [sysfs.resolve(machine, f"{NET}/{link.ifname}/device") for link in links]
    addresses = [next(reversed(sysfs.pci_addresses(device)), "") for device in devices]
    places = [
        address if device and sysfs.link_name(machine, f"{NET}/{link.ifname}/device/physfn") else ""
        for link, device, address in zip(links, devices, addresses, strict=True)
    ]
    keys = parse_keys(links, devices, addresses, places)
    return sorted(map(Port, keys, links, devices, addresses), key=lambda port: port.link.ifindex)


def read_own_ports(machine: Machine) -> list[Port]:
    """Every interface but loopback."""
    return [port for port in read_ports(machine) if port.link.hwtype != _LOOPBACK]


def read_links(machine: Machine) -> list[Link]:
    """Links from rtnetlink; from sysfs where there is no kernel to ask (a machine that is a folder)."""
    try:
        return rtnl.read_links(machine)
    except NotPresentError:
        found = (read_sysfs_link(machine, name) for name in sysfs.names(machine, NET))
        return [link for link in found if link]


def read_sysfs_link(machine: Machine, name: str) -> Link | None:
    """What sysfs says of one interface; None for what is none (`bonding_masters`) or is gone."""
    folder = f"{NET}/{name}"
    ifindex = sysfs.number(machine, f"{folder}/ifindex")
    if ifindex is None:
        return None
    kind = _DEVTYPE.search(sysfs.text(machine, f"{folder}/uevent"))
    master = sysfs.link_name(machine, f"{folder}/master")
    return Link(
        ifindex=ifindex,
        ifname=name,
        flags=parse_flags(sysfs.text(machine, f"{folder}/flags")),
        up=bool(parse_flags(sysfs.text(machine, f"{folder}/flags")) & 1),
        carrier=sysfs.number(machine, f"{folder}/carrier") == 1,
        operstate=sysfs.text(machine, f"{folder}/operstate"),
        hwtype=sysfs.number(machine, f"{folder}/type") or 0,
        mac=sysfs.text(machine, f"{folder}/address"),
        mtu=sysfs.number(machine, f"{folder}/mtu") or 0,
        master=(sysfs.number(machine, f"{NET}/{master}/ifindex") or 0) if master else 0,
        link=_below(ifindex, sysfs.number(machine, f"{folder}/iflink")),
        kind=kind[1] if kind else "bond" if sysfs.names(machine, f"{folder}/bonding") else "",
    )


def parse_flags(text: str) -> int:
    """The IFF_ bits of `0x1003`; 0 for anything else."""
    digits = text.removeprefix("0x")
    return int(digits, 16) if digits and all(digit in "0123456789abcdef" for digit in digits) else 0


def parse_keys(links: list[Link], devices: list[str], addresses: list[str], places: list[str]) -> list[str]:
    """One key per link: the permanent MAC (else the MAC) of hardware, else the name.

    A virtual function is named by its PCI address, given in `places`: drivers make up its MACs, the permanent one too.
    Hardware that shares that name with other hardware has its PCI address (else its name) behind an "@".
    """
    names = [
        place or (_mac(link) if device else "") for link, device, place in zip(links, devices, places, strict=True)
    ]
    count = Counter(names)
    rows = zip(names, links, addresses, strict=True)
    return [
        f"{name}@{address if address not in ('', name) else link.ifname}"
        if name and count[name] > 1
        else name or link.ifname
        for name, link, address in rows
    ]


def poll(
    machine: Machine,
    read_all: Callable[[Machine], dict[int, T]],
    read_one: Callable[[Machine, int], T],
    ports: Iterable[Port],
) -> dict[int, T]:
    """ifindex -> answer: one dump for all, or port by port where the kernel has no dump or one NIC breaks it."""
    try:
        return read_all(machine)
    except MachineError:
        found: dict[int, T] = {}
    for port in ports:
        try:
            found[port.link.ifindex] = read_one(machine, port.link.ifindex)
        except MachineError:
            continue
    return found


def _below(ifindex: int, iflink: int | None) -> int:
    return iflink if iflink and iflink != ifindex else 0


def _mac(link: Link) -> str:
    """The MAC that names the hardware, "" for none and for all zeros."""
    return next((mac for mac in (link.perm_mac, link.mac) if not _NO_MAC.fullmatch(mac)), "")
