"""Disks, NVMe and storage controllers, md arrays: what sysfs says without asking a drive. Their health is `smart`'s."""

import re
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from collectors import sysfs
from collectors.about import About, Cost
from collectors.blockdevices import BLOCK, place_namespaces, read_disks, read_node, read_nvmes
from collectors.mdstat import judged, parse_mdstat
from machine import Machine, NotPresentError
from wire.facts import Array, Disk, Nvme, StorageController
from wire.report import Event, Sample, Severity
from wire.text import clean

NAME = "storage"
EVERY_S = 60.0
DEADLINE_S = 10.0

_MDSTAT = "/proc/mdstat"
_PCI = "/sys/bus/pci/devices"
_HOSTS = "/sys/class/scsi_host"
_CLASS = re.compile(r"0x01([0-9a-f]{2})[0-9a-f]{2}")
# PCI Code and ID Assignment Specification, class 01
_TYPES = {0: "scsi", 1: "ide", 4: "raid", 5: "ata", 6: "sata", 7: "sas", 8: "nvme", 9: "ufs"}
_BOARD = ("board_name", "modelname", "model_name", "model")  # mpt3sas, lpfc, qla2xxx, ...
_FIRMWARE = ("version_fw", "fw_version", "fwrev", "firmware_revision")
_BIOS = ("version_bios", "option_rom_version", "optrom_fw_version")
COUNTERS = {"ioerr_cnt": "storage.io_errors", "iotmo_cnt": "storage.io_timeouts"}
PROGRESS = "storage.array_progress_percent"
_SEVERITIES = {"ok": Severity.INFO, "degraded": Severity.WARNING}

ABOUT = About(
    what="disks, NVMe and storage controllers, md arrays, multipath",
    source="`/sys/block`, `/sys/class/nvme`, `/sys/class/scsi_host`, PCI class 01, `/proc/mdstat`",
    cost=Cost.SLOW,
    privileges="root for serial numbers of SCSI disks",
    metrics={**dict.fromkeys(COUNTERS.values(), 0), PROGRESS: 1.0},
)
_health: "WeakKeyDictionary[Machine, dict[str, str]]" = WeakKeyDictionary()


def collect(machine: Machine) -> Iterator[Disk | Nvme | StorageController | Array | Sample | Event]:
    """Everything that holds data; raises NotPresentError on a machine without disks, controllers and arrays."""
    disks, drives = read_disks(machine), read_nvmes(machine)
    place_namespaces(disks, drives)
    controllers = read_controllers(machine, disks)
    arrays = read_arrays(machine)
    if not (disks or drives or controllers or arrays):
        raise NotPresentError(f"no disk in {BLOCK}")
    yield from disks
    yield from drives
    yield from controllers
    for disk in disks:
        yield from read_errors(machine, disk)
    for array, progress in arrays:
        yield array
        if progress is not None:
            yield Sample(PROGRESS, array.key, progress)
    yield from changes(machine, [array for array, _ in arrays])


def read_controllers(machine: Machine, disks: list[Disk]) -> list[StorageController]:
    """PCI functions of class 01, with their SCSI hosts and the disks on them."""
    hosts: dict[str, list[str]] = {}
    for host in sysfs.names(machine, _HOSTS):
        addresses = sysfs.pci_addresses(sysfs.resolve(machine, f"{_HOSTS}/{host}"))
        hosts.setdefault(addresses[-1] if addresses else "", []).append(host)
    found: list[StorageController] = []
    for address in sysfs.names(machine, _PCI):
        kind = _CLASS.fullmatch(sysfs.text(machine, f"{_PCI}/{address}/class").rjust(8, "0"))
        if kind:
            mine = sorted(hosts.get(address, []), key=lambda host: (len(host), host))
            one = read_controller(machine, address, int(kind[1], 16), mine)
            one.disks = [name for disk in disks if disk.address == address for name in disk.paths or [disk.name]]
            found.append(one)
    return found


def read_controller(machine: Machine, address: str, subclass: int, hosts: list[str]) -> StorageController:
    """One controller; board and firmware are what the first of its hosts says."""

    def said(names: tuple[str, ...]) -> str:
        texts = (clean(sysfs.text(machine, f"{_HOSTS}/{host}/{name}")) for host in hosts[:1] for name in names)
        return next((text for text in texts if text and "unknown" not in text.lower()), "")

    folder = f"{_PCI}/{address}"
    return StorageController(
        key=address,
        type=_TYPES.get(subclass, "other"),
        vendor_id=sysfs.text(machine, f"{folder}/vendor").removeprefix("0x"),
        device_id=sysfs.text(machine, f"{folder}/device").removeprefix("0x"),
        driver=sysfs.link_name(machine, f"{folder}/driver"),
        numa_node=read_node(machine, [address]),
        hosts=hosts,
        board=said(_BOARD),
        firmware=said(_FIRMWARE),
        bios=said(_BIOS),
    )


def read_errors(machine: Machine, disk: Disk) -> Iterator[Sample]:
    """What the kernel counts of a SCSI disk, over all its paths."""
    for file, metric in COUNTERS.items():
        texts = [sysfs.text(machine, f"{BLOCK}/{name}/device/{file}") for name in disk.paths or [disk.name]]
        counts = [count for text in texts if (count := parse_count(text)) is not None]
        if counts:
            yield Sample(metric, disk.key, sum(counts))


def parse_count(text: str) -> int | None:
    """`0x1f`; None for anything else."""
    return int(text, 16) if re.fullmatch(r"0x[0-9a-f]{1,8}", text) else None


def read_arrays(machine: Machine) -> list[tuple[Array, float | None]]:
    """The arrays of /proc/mdstat, with what sysfs adds, and how far a rebuild or check has come, percent."""
    found = list(parse_mdstat(sysfs.text(machine, _MDSTAT)).values())
    for array, _ in found:
        folder = f"{BLOCK}/{array.name}/md"
        array.key = clean(sysfs.text(machine, f"{folder}/uuid")) or array.name
        degraded = sysfs.number(machine, f"{folder}/degraded")
        if degraded and array.wanted is not None and array.working is not None:
            array.working = max(0, min(array.working, array.wanted - degraded))
        if array.state == "active":
            array.state = clean(sysfs.text(machine, f"{folder}/array_state")) or array.state
        judged(array)
    return found


def changes(machine: Machine, arrays: list[Array]) -> Iterator[Event]:
    """An event for each array whose health is another than in the last run."""
    before = _health.setdefault(machine, {})
    for array in arrays:
        if before.get(array.key, array.health) != array.health:
            text = f"{array.name} is {array.health}" + (f": {array.reason}" if array.reason else "")
            severity = _SEVERITIES.get(array.health, Severity.CRITICAL)
            yield Event(at_ms=0, kind="storage.array", key=array.key, severity=severity, text=text)
    _health[machine] = {array.key: array.health for array in arrays}
