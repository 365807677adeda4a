"""A server's hardware as QEMU's arguments; pure."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hardware_lab import acpi, bmc, tpm
from hardware_lab.bmc import Ports
from hardware_lab.image import Image
from hardware_lab.machine import Machine, Server

SENSORS_AT = 0x2000_0000  # the page of the ACPI sensors in guest memory: acpi/server.asl
BROKER = ("10.0.2.100", 1883)  # where the guest finds the broker
SSH_PORT, GUEST = 22, "10.0.2.15"
MANAGEMENT_SLOT = 3  # image_files: 10-mgmt.link
FIRST_NIC_SLOT, FIRST_NVME_SLOT, SPARE_SLOT = 10, 40, 60
MONITORS = ("qmp.sock", "qmp-bmc.sock", "qmp-watch.sock")
TCG = ("-accel", "tcg,thread=single,tb-size=512", "-cpu", "EPYC")
_DRIVERS = {"igb": "igb", "virtio-net": "virtio-net-pci", "e1000e": "e1000e"}
IOMMU = ("-device", "intel-iommu,intremap=on")  # before the devices that it is for
KVM = ("-accel", "kvm", "-cpu", "host")


Property = str | int | bool  # as QMP wants them; on the command line `join` spells them


class Place(NamedTuple):
    """Where one server's files, sockets and ports are."""

    folder: Path
    ssh: int  # TCP ports on 127.0.0.1
    broker: int
    bmc: Ports | None = None

    def path(self, name: str) -> str:
        """A file or socket in the server's folder."""
        return str(self.folder / name)


def argv(
    server: Server,
    place: Place,
    image: Image,
    cables: Sequence[str],
    *,
    accelerator: Sequence[str] = TCG,
    nvme: bool = True,
) -> list[str]:
    """The whole command; `cables` are the netdev options behind each NIC. NVMe makes snapshots impossible."""
    machine = server.machine
    parts: list[Sequence[str]] = [
        [
            "qemu-system-x86_64",
            "-name",
            server.name,
            *accelerator,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
        ],
        _memory_and_cpus(machine, place),
        IOMMU if machine.iommu else [],
        _boot(server, place, image),
        _sockets(place),
        _buses(machine),
        _management(server, place),
        *(_nic(server, at, cable) for at, cable in enumerate(cables)),
        *(_nvme(server, at, place) for at in range(len(machine.nvme)) if nvme),
        _smbios(server),
        acpi.devices(place.folder),
        bmc.devices(place.bmc) if place.bmc else [],
        tpm.devices(place.folder) if machine.tpm else [],
        acpi.watchdog() if machine.watchdog else [],
    ]
    return [word for part in parts for word in part]


def _memory_and_cpus(machine: Machine, place: Place) -> list[str]:
    """Node 0's memory is a file that is shared with us: the sensors' values lie in it."""
    counts = {node.cpus for node in machine.nodes}
    shape = f",sockets={len(machine.nodes)},cores={counts.pop()}" if len(counts) == 1 else ""
    words = ["-M", "q35", "-m", f"{machine.memory_mib}M", "-smp", f"{machine.cpus}{shape}"]
    first = 0
    for number, node in enumerate(machine.nodes):
        where = f"memory-backend-file,mem-path={place.path('mem0')},share=on" if number == 0 else "memory-backend-ram"
        cpus = f"{first}-{first + node.cpus - 1}" if node.cpus > 1 else str(first)
        first += node.cpus
        words += ["-object", f"{where},id=m{number},size={node.memory_mib}M"]
        words += ["-numa", f"node,nodeid={number},cpus={cpus},memdev=m{number}"]
    for one in range(len(machine.nodes)):
        for other in range(one + 1, len(machine.nodes)):
            words += ["-numa", f"dist,src={one},dst={other},val=21"]
    return words


def _boot(server: Server, place: Place, image: Image) -> list[str]:
    settings = {
        "console": "ttyS0",
        "net.ifnames": "1",
        "panic": "5",
        "systemd.show_status": "0",
        "mitigations": "off",
        "memmap": f"64K${SENSORS_AT:#x}",
        "systemd.hostname": server.name,
        "systemd.machine_id": server.uuid.replace("-", ""),
    }
    settings |= {"intel_iommu": "on"} if server.machine.iommu else {}
    line = " ".join(["quiet", "nokaslr", "no_timer_check", *(f"{key}={value}" for key, value in settings.items())])
    return [
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", line),
        *("-drive", f"file={place.path('disk.qcow2')},if=none,id=root,cache=unsafe"),
        *("-device", "virtio-blk-pci,drive=root,bus=pcie.0,addr=0x2"),
    ]


def _sockets(place: Place) -> list[str]:
    """Serial console and a monitor each, as one talks to one only, for the lab, the BMC, and what watches a fault."""
    serial = f"socket,id=serial,path={place.path('serial.sock')},server=on,wait=off,logfile={place.path('serial.log')}"
    words = ["-chardev", serial, "-serial", "chardev:serial"]
    for name in MONITORS:
        words += ["-qmp", f"unix:{place.path(name)},server=on,wait=off"]
    return words


def _buses(machine: Machine) -> list[str]:
    """A PCIe expander per node, and a root port for each NIC, each drive, and one to plug in later."""
    span = 0xE0 // len(machine.nodes)
    words: list[str] = []
    for number in range(len(machine.nodes)):
        expander = f"pxb-pcie,id=node{number},bus_nr={0x20 + number * span},numa_node={number}"
        words += ["-device", f"{expander},bus=pcie.0,addr={0x10 + number:#x}"]
    for chassis, (port, node, slot) in enumerate(_ports(machine), 1):
        words += ["-device", f"pcie-root-port,id={port},bus=node{node},chassis={chassis},slot={slot}"]
    return words


def _ports(machine: Machine) -> Iterator[tuple[str, int, int]]:
    for at, nic in enumerate(machine.nics):
        yield f"nic{at}port", nic.node, FIRST_NIC_SLOT + at
    for at, drive in enumerate(machine.nvme):
        yield f"nvme{at}port", drive.node, FIRST_NVME_SLOT + at
    yield "spare", len(machine.nodes) - 1, SPARE_SLOT


def _management(server: Server, place: Place) -> list[str]:
    """User-mode networking that reaches nothing but the broker."""
    address, port = BROKER
    forward = f"hostfwd=tcp:127.0.0.1:{place.ssh}-{GUEST}:{SSH_PORT}"
    broker = f"guestfwd=tcp:{address}:{port}-cmd:busybox nc 127.0.0.1 {place.broker}"
    device = {
        "driver": _DRIVERS[server.machine.management],
        "id": "mgmt",
        "netdev": "wmgmt",
        "mac": server.management_mac,
        "bus": "pcie.0",
        "addr": f"{MANAGEMENT_SLOT:#x}",
        "romfile": "",
    }
    return ["-netdev", f"user,id=wmgmt,restrict=on,{forward},{broker}", "-device", join(device)]


def _nic(server: Server, at: int, cable: str) -> list[str]:
    kind, _, options = cable.partition(",")
    device = nic_device(server, at, tap=kind == "tap")
    return ["-netdev", ",".join(filter(None, (kind, f"id=w{at}", options))), "-device", join(device)]


def nic_device(server: Server, at: int, *, tap: bool) -> dict[str, Property]:
    """Properties of a data NIC; with a tap behind it virtio-net has all its queues."""
    nic = server.machine.nics[at]
    device: dict[str, Property] = {
        "driver": _DRIVERS[nic.model],
        "id": f"nic{at}",
        "bus": f"nic{at}port",
        "netdev": f"w{at}",
        "mac": server.mac(at),
        "romfile": "",
    }
    if tap and nic.model == "virtio-net" and nic.queues > 1:
        device |= {"mq": True, "vectors": 2 * nic.queues + 2}
    return device


def join(device: Mapping[str, Property]) -> str:
    """Device properties as QEMU reads them on its command line."""
    driver, *rest = device.items()
    return ",".join([str(driver[1]), *(f"{key}={'on' if value is True else value}" for key, value in rest)])


def nvme_device(server: Server, at: int) -> dict[str, str]:
    """Properties of a drive; the namespace is its own `drive` property's."""
    return {
        "driver": "nvme",
        "id": f"nvme{at}",
        "bus": f"nvme{at}port",
        "drive": f"drive{at}",
        "serial": server.nvme_serial(at),
    }


def _nvme(server: Server, at: int, place: Place) -> list[str]:
    drive = f"file={place.path(f'nvme{at}.img')},if=none,id=drive{at},format=raw,cache=unsafe"
    return ["-drive", drive, "-device", join(nvme_device(server, at))]


def _smbios(server: Server) -> list[str]:
    board, dimm, serial = server.machine.board, server.machine.dimm, server.serial
    tables: list[dict[str, object]] = [
        {"type": 0, "vendor": "LabBIOS", "version": board.bios_version, "date": board.bios_date},
        {
            **{"type": 1, "manufacturer": board.vendor, "product": board.product, "version": "A1"},
            **{"serial": serial, "uuid": server.uuid, "family": "Lab"},
        },
        {"type": 2, "manufacturer": board.vendor, "product": board.board, "serial": f"BD{serial[2:]}"},
        {"type": 3, "manufacturer": board.vendor, "version": "1U", "serial": f"CH{serial[2:]}"},
        {"type": 4, "sock_pfx": "CPU", "manufacturer": "LabCPU", "version": board.cpu},
        {
            **{"type": 17, "loc_pfx": dimm.locator, "bank": dimm.bank, "manufacturer": dimm.vendor},
            **{"serial": server.dimm_serial(), "part": dimm.part, "speed": dimm.speed_mts},
        },
    ]
    lines = [",".join(f"{key}={str(value).replace(',', ',,')}" for key, value in table.items()) for table in tables]
    return [word for line in lines for word in ("-smbios", line)]
