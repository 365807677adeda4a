"""What the machine gives away: virtual functions and their owners, representors, devices bound to VFIO."""

import re
from collections.abc import Iterator, Mapping, Sequence

from collectors import holders, sysfs
from collectors.about import About, Cost
from collectors.links import Port, read_ports
from machine import Machine, MachineError, NotPresentError, eswitch, ledger, linkinfo, vfio
from machine.linkinfo import SwitchPort, Vf
from wire.facts import Passthrough, Representor, Virt, VirtFunction
from wire.report import Sample

NAME = "virt"
EVERY_S = 60.0
DEADLINE_S = 15.0

DEVICES = "/sys/bus/pci/devices"
MEDIATED = "/sys/bus/mdev/devices"
GROUPS = "/sys/kernel/iommu_groups"
COUNTED = ("rx_bytes", "tx_bytes", "rx_packets", "tx_packets", "rx_dropped", "tx_dropped")
_VIRTFN = re.compile(r"virtfn(\d+)")
_NO_OVERRIDE = ("", "(null)")
# Drivers that hold a device for somebody else; any other driver is the host's own.
OWNERS = {"pci-stub": "reserved", "pciback": "guest", "xen-pciback": "guest"}

ABOUT = About(
    what="virtual functions: MAC, VLAN, trust, rate, driver, owner, who uses them; representors; devices bound to VFIO",
    source="rtnetlink VFINFO, devlink, `/sys/bus/pci/devices`, `/sys/bus/mdev`, `/proc/N/fd`, `/run/libvirt/qemu`",
    cost=Cost.SLOW,
    privileges="root for the switch's mode and who holds VFIO",
    metrics=dict.fromkeys((f"virt.{name}" for name in COUNTED), 0),
)


def collect(machine: Machine) -> Iterator[Virt | Passthrough | Sample]:
    """One `Virt` per function that can share itself out or is a switch's uplink, and what is given away whole.

    Samples are of virtual functions, as the physical one counts them: received is what the function received.
    Raises NotPresentError where there is nothing of the kind.
    """
    ports = _ports(machine)
    physical: list[Virt] = []
    given: list[Passthrough] = []
    for address in filter(sysfs.PCI_ADDRESS.fullmatch, sysfs.names(machine, DEVICES)):
        total = sysfs.number(machine, f"{DEVICES}/{address}/sriov_totalvfs")
        if total:
            nic = next((port for port in ports if port.address == address), None)
            vfs = read_vfs(machine, nic)
            fact = read_physical(machine, address, nic, ports, vfs)
            fact.vfs_total = total
            physical.append(fact)
            yield from samples(fact, vfs)
        elif one := read_given(machine, address):
            given.append(one)
    physical += read_simulated(machine, ports)
    given += read_mediated(machine)
    read_use(machine, ports, physical, given)
    physical = read_switches(machine, ports, physical)
    if not physical and not given:
        raise NotPresentError("no function that can share itself out, none given away")
    yield from physical
    yield from given


def _ports(machine: Machine) -> list[Port]:
    try:
        return read_ports(machine)
    except NotPresentError:
        return []


def read_vfs(machine: Machine, nic: Port | None) -> list[Vf]:
    """What the driver of a physical function keeps of its virtual ones; none where it cannot be asked."""
    try:
        return linkinfo.read_vfs(machine, nic.link.ifindex) if nic else []
    except MachineError:
        return []


def read_physical(machine: Machine, address: str, nic: Port | None, ports: Sequence[Port], vfs: Sequence[Vf]) -> Virt:
    """A physical function with its virtual ones, by index."""
    folder = f"{DEVICES}/{address}"
    autoprobe = sysfs.number(machine, f"{folder}/sriov_drivers_autoprobe")
    told = {vf.number: vf for vf in vfs}
    links = {int(match[1]): match[0] for match in map(_VIRTFN.fullmatch, sysfs.names(machine, folder)) if match}
    return Virt(
        key=nic.key if nic else address,
        ifname=nic.link.ifname if nic else "",
        address=address,
        autoprobe=None if autoprobe is None else bool(autoprobe),
        vfs_set=sysfs.number(machine, f"{folder}/sriov_numvfs"),
        vfs_owned=ledger.entry(machine, f"pci/{address}").vfs,
        eswitch_mode=read_mode(machine, f"pci/{address}") if nic else "",
        vfs=[
            read_function(machine, number, sysfs.link_name(machine, f"{folder}/{links.get(number, '-')}"), told, ports)
            for number in sorted(links.keys() | told.keys())
        ],
    )


def read_simulated(machine: Machine, ports: Sequence[Port]) -> list[Virt]:
    """Devices of another bus than PCI, whose functions are no devices (netdevsim), each by its first port."""
    found: dict[str, Virt] = {}
    for port in ports:
        count = (
            sysfs.number(machine, f"{port.folder}/device/sriov_numvfs") if port.device and not port.address else None
        )
        device = f"{sysfs.link_name(machine, f'{port.folder}/device/subsystem')}/{port.device.rpartition('/')[2]}"
        if count is not None and device not in found:
            told = {vf.number: vf for vf in read_vfs(machine, port)}
            found[device] = Virt(
                key=port.key,
                ifname=port.link.ifname,
                device=device,
                vfs_set=count,
                vfs_owned=ledger.entry(machine, device).vfs,
                eswitch_mode=read_mode(machine, device),
                vfs=[read_function(machine, number, "", told, ports) for number in sorted(told)],
            )
    return list(found.values())


def read_use(machine: Machine, ports: Sequence[Port], physical: Sequence[Virt], given: Sequence[Passthrough]) -> None:
    """Say of every virtual function, and of what is given away, who uses it."""
    functions = [(fact, one) for fact in physical for one in fact.vfs if one.address]
    passed = [one for one in given if one.type == "pci"]
    if not functions and not passed:
        return
    guests, interfaces = holders.read_guests(machine), holders.read_interfaces(machine, ports)
    owners = {one.owner for one in passed} | {one.owner for _, one in functions}
    opened = vfio.read_open(machine) if "vfio" in owners else {}
    for fact, one in functions:
        one.used = holders.why(machine, one.address, guests, interfaces, opened)
        if not one.used and fact.ifname and one.owner == "host" and not one.ifname:
            one.used = "its interface is in another network namespace"
    for given_one in passed:
        given_one.used = holders.why(machine, given_one.key, guests, interfaces, opened)


def read_mode(machine: Machine, device: str) -> str:
    """The switch's mode; "" where there is none or it may not be asked."""
    try:
        return eswitch.read_mode(machine, device)
    except MachineError:
        return ""


def read_function(
    machine: Machine, number: int, address: str, told: Mapping[int, Vf], ports: Sequence[Port]
) -> VirtFunction:
    """One virtual function: what its physical one keeps of it, and who drives it."""
    folder = f"{DEVICES}/{address}"
    driver = sysfs.link_name(machine, f"{folder}/driver") if address else ""
    override = sysfs.text(machine, f"{folder}/driver_override") if address else ""
    port = next((port for port in ports if address and port.address == address), None)
    function = VirtFunction(
        index=number,
        address=address,
        ifname=port.link.ifname if port else "",
        key=port.key if port else "",
        driver=driver,
        owner=parse_owner(driver),
        driver_override="" if override in _NO_OVERRIDE else override,
        iommu_group=sysfs.parse_number(sysfs.link_name(machine, f"{folder}/iommu_group")) if address else None,
    )
    if vf := told.get(number):
        function.mac, function.link_state = vf.mac, vf.link_state
        function.vlan_id, function.vlan_qos, function.vlan_protocol = vf.vlan_id, vf.vlan_qos, vf.vlan_protocol
        function.min_tx_mbps, function.max_tx_mbps = vf.min_tx_mbps, vf.max_tx_mbps
        function.spoofchk, function.trust = vf.spoofchk, vf.trust
    return function


def parse_owner(driver: str) -> str:
    """Who has a device: "host", "vfio", "guest", "reserved"; "" without a driver."""
    if not driver:
        return ""
    return "vfio" if "vfio" in driver else OWNERS.get(driver, "host")


def samples(fact: Virt, vfs: Sequence[Vf]) -> Iterator[Sample]:
    """Traffic of each function that has an address; drivers that do not count say zeros, which are not sent."""
    addresses = {one.index: one.address for one in fact.vfs}
    for vf in vfs:
        if addresses.get(vf.number) and any(vf.stats.values()):
            for name in COUNTED:
                yield Sample(f"virt.{name}", addresses[vf.number], vf.stats.get(name, 0))


def read_given(machine: Machine, address: str) -> Passthrough | None:
    """A function that is bound to VFIO or the like, or may be taken by one driver alone; None for any other.

    A virtual function is told of with its physical one.
    """
    folder = f"{DEVICES}/{address}"
    driver = sysfs.link_name(machine, f"{folder}/driver")
    override = sysfs.text(machine, f"{folder}/driver_override")
    given = parse_owner(driver) not in ("", "host")
    if (not given and override in _NO_OVERRIDE) or sysfs.link_name(machine, f"{folder}/physfn"):
        return None
    group = sysfs.parse_number(sysfs.link_name(machine, f"{folder}/iommu_group"))
    return Passthrough(
        key=address,
        type="pci",
        driver=driver,
        driver_override="" if override in _NO_OVERRIDE else override,
        owner=parse_owner(driver),
        iommu_group=group,
        group=_others(machine, group, address),
    )


def read_mediated(machine: Machine) -> Iterator[Passthrough]:
    """Mediated devices: parts of a device that its driver gives away."""
    for name in sysfs.names(machine, MEDIATED):
        folder = f"{MEDIATED}/{name}"
        driver = sysfs.link_name(machine, f"{folder}/driver")
        group = sysfs.parse_number(sysfs.link_name(machine, f"{folder}/iommu_group"))
        yield Passthrough(
            key=name,
            type="mdev",
            driver=driver,
            owner=parse_owner(driver),
            iommu_group=group,
            group=_others(machine, group, name),
            parent=next(reversed(sysfs.pci_addresses(sysfs.resolve(machine, folder))), ""),
            mdev_type=sysfs.link_name(machine, f"{folder}/mdev_type"),
        )


def _others(machine: Machine, group: int | None, name: str) -> list[str]:
    """The rest of an IOMMU group."""
    if group is None:
        return []
    return [other for other in sysfs.names(machine, f"{GROUPS}/{group}/devices") if other != name]


def read_switches(machine: Machine, ports: Sequence[Port], facts: Sequence[Virt]) -> list[Virt]:
    """The facts with switch and representors; one more for an uplink that is no such function."""
    try:
        found = linkinfo.read_switch_ports(machine)
    except MachineError:
        found = {}
    return parse_switches(found, ports, facts)


def parse_switches(found: Mapping[int, SwitchPort], ports: Sequence[Port], facts: Sequence[Virt]) -> list[Virt]:
    """The ports that have a device of their own are uplinks; the others of the switch stand for somebody."""
    known = {fact.ifname: fact for fact in facts if fact.ifname}
    places = {port.link.ifname: (port, found[port.link.ifindex]) for port in ports if port.link.ifindex in found}
    uplinks = {name: place for name, place in places.items() if _is_uplink(place[1], known.get(name))}
    for name, (port, place) in uplinks.items():
        fact = known.setdefault(name, Virt(key=port.key, ifname=name, address=port.address))
        fact.switch_id, fact.port = place.switch_id, place.name
        fact.representors = [
            Representor(ifname=other, key=other_port.key, port=other_place.name)
            for other, (other_port, other_place) in places.items()
            if other not in uplinks and _belongs(other_place, place)
        ]
    return [*(fact for fact in facts if not fact.ifname), *known.values()]


_STANDS = re.compile(r"(?:c\d+)?pf(\d+)(?:vf|sf)\d+")


def _is_uplink(place: SwitchPort, fact: Virt | None) -> bool:
    return fact is not None or re.fullmatch(r"p\d+", place.name) is not None


def _belongs(place: SwitchPort, uplink: SwitchPort) -> bool:
    """Of the same switch, and of the uplink's own function where both say which."""
    function, port = _STANDS.fullmatch(place.name), re.fullmatch(r"p(\d+)", uplink.name)
    return place.switch_id == uplink.switch_id and (not function or not port or function[1] == port[1])
