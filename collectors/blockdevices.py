"""Disks and NVMe controllers as sysfs has them: one disk however many paths lead to it."""

import re
from collections import Counter
from collections.abc import Iterable

from collectors import sysfs
from machine import Machine, MachineError
from wire.facts import Disk, Nvme
from wire.text import clean

BLOCK = "/sys/block"
NVME = "/sys/class/nvme"
_SUBSYSTEMS = "/sys/class/nvme-subsystem"
_SECTOR = 512
_NONE = re.compile(
    r"(?:loop|ram|zram|dm-|md|sr|scd|fd|nbd|pmem|rbd|drbd|bcache|zd|mtdblock|ublkb)[\d_]|mmcblk\d+boot\d"
)
_CONTROLLER = re.compile(r"nvme\d+")
_NAMESPACE = re.compile(r"nvme\d+n\d+")
# What a part of a device's path says of its transport; the first that matches any part.
_TRANSPORTS = (
    (re.compile(r"nvme\d*|nvme-subsys\d+"), "nvme"),
    (re.compile(r"usb\d+"), "usb"),
    (re.compile(r"session\d+"), "iscsi"),
    (re.compile(r"rport-[\d:-]+"), "fc"),
    (re.compile(r"end_device-[\d:]+"), "sas"),
    (re.compile(r"ata\d+"), "sata"),
    (re.compile(r"virtio\d+"), "virtio"),
    (re.compile(r"mmc\d+"), "mmc"),
    (re.compile(r"ide\d+"), "ide"),
    (re.compile(r"host\d+"), "scsi"),
)
_UNIT_SERIAL = 0x80


def read_disks(machine: Machine) -> list[Disk]:
    """Every disk once, in the order of names; none where there are none."""
    found: list[Disk] = []
    for name in sorted(sysfs.names(machine, BLOCK), key=natural):
        if not _NONE.match(name) and sysfs.text(machine, f"{BLOCK}/{name}/hidden") != "1":
            disk = read_disk(machine, name)
            if disk.size_bytes or not disk.removable:
                found.append(disk)
    name_multipaths(machine, found)
    disks = merge_paths(found)
    for disk, key in zip(disks, unique([disk.key for disk in disks]), strict=True):
        disk.key = key
    return disks


def read_disk(machine: Machine, name: str) -> Disk:
    """One disk by its name in /sys/block."""
    folder = f"{BLOCK}/{name}"
    device, queue = f"{folder}/device", f"{folder}/queue"

    def said(*paths: str) -> str:
        return next((text for path in paths if (text := clean(sysfs.text(machine, path)))), "")

    path = sysfs.resolve(machine, device) or sysfs.resolve(machine, folder)
    vendor = said(f"{device}/vendor")
    addresses = sysfs.pci_addresses(path)
    size = sysfs.number(machine, f"{folder}/size")
    rotational = sysfs.number(machine, f"{queue}/rotational")
    disk = Disk(
        key="",
        name=name,
        transport=parse_transport(path, name, vendor),
        vendor="" if vendor in ("ATA", "0x1af4") else vendor,
        model=said(f"{device}/model"),
        serial=said(f"{device}/serial", f"{folder}/serial") or read_unit_serial(machine, device),
        firmware=said(f"{device}/firmware_rev", f"{device}/rev"),
        wwid=parse_wwid(said(f"{folder}/wwid", f"{device}/wwid")),
        size_bytes=size * _SECTOR if size is not None and size >= 0 else None,
        logical_block_bytes=sysfs.number(machine, f"{queue}/logical_block_size") or None,
        physical_block_bytes=sysfs.number(machine, f"{queue}/physical_block_size") or None,
        rotational=bool(rotational) if rotational is not None else None,
        removable=sysfs.text(machine, f"{folder}/removable") == "1",
        read_only=sysfs.text(machine, f"{folder}/ro") == "1",
        scheduler=parse_scheduler(sysfs.text(machine, f"{queue}/scheduler")),
        nr_requests=sysfs.number(machine, f"{queue}/nr_requests"),
        write_cache=clean(sysfs.text(machine, f"{queue}/write_cache")),
        numa_node=read_node(machine, addresses),
        address=addresses[-1] if addresses else "",
        place=path.rpartition("/")[2] if path.startswith("/sys/devices/") and device != path else "",
        state=clean(sysfs.text(machine, f"{device}/state")),
    )
    disk.key = disk.wwid or "_".join(f"{disk.model} {disk.serial}".split() if disk.serial else ())
    disk.key = disk.key or "/".join(filter(None, (disk.address, name)))
    return disk


def read_unit_serial(machine: Machine, device: str) -> str:
    """The unit serial number page of a SCSI disk, "" without one."""
    try:
        return parse_unit_serial(machine.read_bytes(f"{device}/vpd_pg80"))
    except MachineError:
        return ""


def parse_unit_serial(page: bytes) -> str:
    """Vital product data page 80h: four bytes of header, the second names the page, the last two its length."""
    if len(page) < 4 or page[1] != _UNIT_SERIAL:
        return ""
    return clean(page[4 : 4 + int.from_bytes(page[2:4], "big")])


def parse_transport(path: str, name: str, vendor: str) -> str:
    """By the device's path; a SATA disk at a SAS controller calls itself "ATA"."""
    if _NAMESPACE.match(name):
        return "nvme"
    parts = path.split("/")
    found = next((word for pattern, word in _TRANSPORTS if any(map(pattern.fullmatch, parts))), "")
    return "sata" if vendor == "ATA" and found in ("sas", "scsi") else found


def parse_wwid(text: str) -> str:
    """Without white space: `t10.ATA     QEMU HARDDISK   QM1` has runs of it; "" for one of zeros alone."""
    return "" if re.fullmatch(r"(?:eui|naa|uuid|nguid)\.[0-]*|", text) else "_".join(text.split())


def parse_scheduler(text: str) -> str:
    """The word in brackets, or the only one."""
    found = re.search(r"\[([\w-]+)\]", text)
    return found[1] if found else text if re.fullmatch(r"[\w-]+", text) else ""


def merge_paths(disks: list[Disk]) -> list[Disk]:
    """Disks under one multipath, or with the same identifier, size and model, are paths to one."""
    merged: dict[tuple[str, int | None, str], Disk] = {}
    for disk in disks:
        same = (disk.multipath or disk.wwid or disk.name, disk.size_bytes, disk.model)
        first = merged.setdefault(same, disk)
        if first is not disk:
            first.paths = [*(first.paths or [first.name]), disk.name]
    return list(merged.values())


def name_multipaths(machine: Machine, disks: list[Disk]) -> None:
    """Say of each disk which device-mapper device is over its paths."""
    for name in sysfs.names(machine, BLOCK):
        if name.startswith("dm-") and sysfs.text(machine, f"{BLOCK}/{name}/dm/uuid").startswith("mpath-"):
            below = set(sysfs.names(machine, f"{BLOCK}/{name}/slaves"))
            for disk in disks:
                if disk.name in below:
                    disk.multipath = clean(sysfs.text(machine, f"{BLOCK}/{name}/dm/name")) or name


def place_namespaces(disks: list[Disk], drives: list[Nvme]) -> None:
    """Say where namespaces are that hang on their drive as a whole: by its only controller, or the first of several."""
    for disk in disks:
        holding = [drive for drive in drives if disk.name in drive.namespaces]
        if holding and not disk.address:
            disk.address, disk.place = holding[0].address, holding[0].name
            nodes = {drive.numa_node for drive in holding}
            disk.numa_node = nodes.pop() if len(nodes) == 1 else None


def read_nvmes(machine: Machine) -> list[Nvme]:
    """Every NVMe controller, in the order of names."""
    names = sorted(filter(_CONTROLLER.fullmatch, sysfs.names(machine, NVME)), key=natural)
    found = [read_nvme(machine, name) for name in names]
    for subsystem in sysfs.names(machine, _SUBSYSTEMS):  # of a drive with several controllers, what they share
        held = sysfs.names(machine, f"{_SUBSYSTEMS}/{subsystem}")
        for one in found:
            if one.name in held:
                shared = filter(_NAMESPACE.fullmatch, held)
                one.namespaces = sorted({*one.namespaces, *shared}, key=natural)
    serials = Counter(one.serial for one in found)
    for one in found:
        alone = one.serial and serials[one.serial] == 1
        place = one.controller_id if one.controller_id is not None else one.address
        one.key = one.serial if alone else f"{one.serial}/{place}" if one.serial else one.address or one.name
    for one, key in zip(found, unique([one.key for one in found]), strict=True):
        one.key = key
    return found


def read_nvme(machine: Machine, name: str) -> Nvme:
    """One NVMe controller by its name, its key not yet set."""
    folder = f"{NVME}/{name}"

    def said(file: str) -> str:
        return clean(sysfs.text(machine, f"{folder}/{file}"))

    addresses = sysfs.pci_addresses(sysfs.resolve(machine, folder))
    return Nvme(
        key="",
        name=name,
        model=said("model"),
        serial=said("serial"),
        firmware=said("firmware_rev"),
        transport=said("transport"),
        state=said("state"),
        address=addresses[-1] if addresses else said("address"),
        nqn=said("subsysnqn"),
        controller_id=sysfs.number(machine, f"{folder}/cntlid"),
        numa_node=sysfs.node(machine, f"{folder}/numa_node") if not addresses else read_node(machine, addresses),
        queues=sysfs.number(machine, f"{folder}/queue_count"),
        namespaces=sorted(filter(_NAMESPACE.fullmatch, sysfs.names(machine, folder)), key=natural),
    )


def read_node(machine: Machine, addresses: list[str]) -> int | None:
    """The NUMA node of the nearest PCI function on the way up that says."""
    nodes = (sysfs.node(machine, f"/sys/bus/pci/devices/{address}/numa_node") for address in reversed(addresses))
    return next((node for node in nodes if node is not None), None)


def unique(keys: Iterable[str]) -> list[str]:
    """The keys; of several alike the second is `key#2`, and so on."""
    seen: Counter[str] = Counter()
    told: list[str] = []
    for key in keys:
        seen[key] += 1
        told.append(key if seen[key] == 1 else f"{key}#{seen[key]}")
    return told


def natural(name: str) -> list[tuple[str, int]]:
    """A sort key: sda, sdb, sdaa; nvme2n1 before nvme10n1."""
    return [(word.rjust(8), int(number or 0)) for word, number in re.findall(r"(\D+)(\d*)", name[:64])]
