"""The hardware of one server, declared: what QEMU is told to build and what the inventory must then find."""

import tomllib
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid5

import msgspec

from hardware_lab.failure import LabError

NICS = Literal["igb", "virtio-net", "e1000e"]
_SERIALS = UUID("7d3fd4ab-9a0c-4c5b-9c9e-6c2f4b8f3a11")  # any fixed one: the same number is the same server for ever


class Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A NUMA node."""

    cpus: int = 2
    memory_mib: int = 768


class Nic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network port on a PCIe root port of its own; `igb` (82576) has SR-IOV and MSI-X, `virtio-net` any queues."""

    model: NICS = "igb"
    node: int = 0
    queues: int = 4  # virtio-net only: pairs
    wire: str = ""  # the lab's wire it is plugged into; none is a port without a cable


class Nvme(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An NVMe drive on a PCIe root port of its own."""

    node: int = 0
    size_mib: int = 64


class Dimm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A memory module as SMBIOS type 17 tells of it; its size is QEMU's to say."""

    locator: str = "DIMM_A"
    bank: str = "BANK 0"
    vendor: str = "LabMem"
    part: str = "LM-DDR5-32G"
    speed_mts: int = 4800


class Board(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The names in SMBIOS types 0 to 4."""

    vendor: str = "LabWorks"
    product: str = "LabServer 1000"
    board: str = "X12-LAB"
    bios_version: str = "1.2.3"
    bios_date: str = "01/02/2025"
    cpu: str = "LabCPU 9000"


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The hardware of one server; MACs, serials and UUIDs come from the number it is built with."""

    nodes: tuple[Node, ...] = (Node(), Node())
    management: NICS = "igb"  # carries SSH and MQTT, and nothing else
    nics: tuple[Nic, ...] = (
        Nic(node=1, wire="data"),
        Nic(node=0, wire="data"),
        Nic(model="virtio-net", node=1, wire="data"),
    )
    nvme: tuple[Nvme, ...] = (Nvme(),)
    dimm: Dimm = Dimm()
    board: Board = Board()
    bmc: bool = True
    tpm: bool = True
    watchdog: bool = True
    iommu: bool = False  # Intel's: functions in groups, which VFIO needs

    @property
    def cpus(self) -> int:
        """CPUs of all nodes."""
        return sum(node.cpus for node in self.nodes)

    @property
    def memory_mib(self) -> int:
        """Memory of all nodes, MiB."""
        return sum(node.memory_mib for node in self.nodes)


class Server(msgspec.Struct, frozen=True):
    """One server of a lab: a machine with a name and a number (1 to 99), from which its identities are made."""

    name: str
    number: int
    machine: Machine

    @property
    def serial(self) -> str:
        """Serial number of the product."""
        return f"SN{self.number:07d}"

    @property
    def uuid(self) -> str:
        """SMBIOS system UUID."""
        return str(uuid5(_SERIALS, self.serial))

    @property
    def management_mac(self) -> str:
        """Of the NIC that carries SSH and MQTT."""
        return self._mac(0)

    def mac(self, nic: int) -> str:
        """Of the data NIC at this place of `machine.nics`."""
        return self._mac(nic + 1)

    def nvme_serial(self, drive: int) -> str:
        """Of the drive at this place of `machine.nvme`."""
        return f"NVME{self.number:02d}{drive:02d}"

    def dimm_serial(self) -> str:
        """What every memory module says: QEMU repeats one type 17 for each."""
        return f"MEM{self.number:04d}"

    def _mac(self, port: int) -> str:
        return f"52:54:00:1a:{self.number:02x}:{port:02x}"


def read_machine(path: Path) -> Machine:
    """A machine from a TOML file with the fields of `Machine`; raises LabError with what is wrong and where."""
    try:
        machine = msgspec.convert(tomllib.loads(path.read_text()), Machine)
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise LabError(f"{path}: {error}") from None
    if wrong := mistakes(machine):
        raise LabError(f"{path}: {'; '.join(wrong)}")
    return machine


def mistakes(machine: Machine) -> list[str]:
    """What QEMU would not build, in words."""
    nodes = range(len(machine.nodes))
    placed: dict[str, tuple[Nic | Nvme, ...]] = {"nics": machine.nics, "nvme": machine.nvme}
    wrong = [
        f"{what}[{at}].node {part.node} is not there: {len(machine.nodes)} nodes"
        for what, parts in placed.items()
        for at, part in enumerate(parts)
        if part.node not in nodes
    ]
    wrong += [f"nodes[{at}].cpus must be at least 1" for at, node in enumerate(machine.nodes) if node.cpus < 1]
    wrong += [
        f"nodes[{at}].memory_mib must be a multiple of 128, at least 256"
        for at, node in enumerate(machine.nodes)
        if node.memory_mib < 256 or node.memory_mib % 128
    ]
    if not 1 <= len(machine.nodes) <= 8:
        wrong.append(f"nodes: 1 to 8 of them, not {len(machine.nodes)}")
    elif machine.nodes[0].memory_mib < 640:
        wrong.append("nodes[0].memory_mib must be at least 640: the sensors' page lies at 512 MiB")
    if len(machine.nics) > 16:
        wrong.append(f"nics: at most 16, not {len(machine.nics)}")
    wrong += [
        f"nics[{at}].queues must be 1 to 16"
        for at, nic in enumerate(machine.nics)
        if nic.model == "virtio-net" and not 1 <= nic.queues <= 16
    ]
    return wrong
