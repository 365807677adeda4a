"""Who uses a device or a virtual function, so that it must not be taken away: interfaces, processes, guests."""

import re
from collections.abc import Mapping, Sequence

from collectors import sysfs
from collectors.links import Port
from machine import Machine, MachineError, rtnl, vfio
from wire.text import clean

GUESTS = ("/run/libvirt/qemu", "/etc/libvirt/qemu")  # those that run, those that are defined
_OF_LINK = 253  # RT_SCOPE_LINK: every interface that is up has such an address
_HOSTDEV = re.compile(r"<hostdev\b.*?</hostdev>", re.DOTALL)
_SOURCE = re.compile(r"<source\b.*?</source>", re.DOTALL)
_ADDRESS = re.compile(
    r"<address\b[^>]*domain='0x([0-9a-f]{1,8})'[^>]*bus='0x([0-9a-f]{1,2})'"
    r"[^>]*slot='0x([0-9a-f]{1,2})'[^>]*function='0x([0-7])'"
)


def read_guests(machine: Machine) -> dict[str, str]:
    """PCI addresses that libvirt gives or will give to a guest, and its name."""
    found: dict[str, str] = {}
    for folder in GUESTS:
        for name in sysfs.names(machine, folder):
            if name.endswith(".xml"):
                addresses = parse_guest(sysfs.text(machine, f"{folder}/{name}"))
                found |= {address: clean(name.removesuffix(".xml"), 64) for address in addresses}
    return found


def parse_guest(text: str) -> list[str]:
    """PCI addresses of the host's devices in a domain's XML: those in the source of its hostdev elements."""
    sources = [source for element in _HOSTDEV.findall(text) for source in _SOURCE.findall(element)]
    found = [match for source in sources for match in _ADDRESS.findall(source)]
    return [f"{int(a, 16):04x}:{int(b, 16):02x}:{int(c, 16):02x}.{int(d, 16)}" for a, b, c, d in found]


def read_interfaces(machine: Machine, ports: Sequence[Port]) -> dict[str, str]:
    """PCI addresses whose interfaces are at work here, and how: enslaved, with addresses, up."""
    names = {port.link.ifindex: port.link.ifname for port in ports}
    addressed = _addressed(machine)
    found: dict[str, str] = {}
    for address, link in ((port.address, port.link) for port in ports if port.address):
        if link.master:
            found[address] = f"{link.ifname} is a port of {names.get(link.master, 'another interface')}"
        elif link.ifindex in addressed:
            found[address] = f"{link.ifname} has addresses"
        elif link.up:
            found[address] = f"{link.ifname} is up"
    return found


def _addressed(machine: Machine) -> set[int]:
    try:
        return {one.ifindex for one in rtnl.read_addresses(machine) if one.scope != _OF_LINK}
    except MachineError:
        return set()


def why(
    machine: Machine,
    address: str,
    guests: Mapping[str, str],
    interfaces: Mapping[str, str],
    opened: Mapping[str, str],
) -> str:
    """Why a function must not be taken away, "" when nobody is known to use it."""
    if process := vfio.holder(machine, address, opened):
        return f"held open by {process}"
    if address in interfaces:
        return interfaces[address]
    return f"libvirt's guest {guests[address]} has it" if address in guests else ""
