"""Firmware: one row for each thing that has some, with what runs, what is stored, and when it was made."""

import re
from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About, Cost
from collectors.chips import parse_device
from collectors.links import read_own_ports
from collectors.nic import parse_firmware, read_driver
from machine import Machine, MachineError, NotPresentError, devlink
from machine.devlink import Info
from wire.facts import Firmware
from wire.text import clean

NAME = "firmware"
EVERY_S = 300.0
DEADLINE_S = 30.0

_DMI = "/sys/class/dmi/id"
_EFI = "/sys/firmware/efi"
_ESRT = f"{_EFI}/esrt/entries"
_NVME = "/sys/class/nvme"
_BLOCK = "/sys/class/block"
_CONTROLLER = re.compile(r"nvme\d+")
_DISK = re.compile(r"sd[a-z]+|sr\d+|st\d+")
_ENTRY = re.compile(r"entry\d+")
MOST_PARTS = 64  # of one device: a driver that lists more is broken
ESRT_TYPES = {1: "system", 2: "device", 3: "UEFI driver"}  # UEFI 2.10, 23.4
ATTEMPTS = {
    **{0: "succeeded", 1: "failed", 2: "not enough resources", 3: "wrong version", 4: "bad format"},
    **{5: "not authentic", 6: "no AC power", 7: "battery too low", 8: "dependencies missing"},
}

ABOUT = About(
    what="versions of BIOS, NICs, NVMe and other drives, UEFI's updatable parts: running, stored, fixed",
    source="DMI, devlink info, else ethtool DRVINFO, `firmware_rev` and `rev` in sysfs, ESRT",
    cost=Cost.SLOW,
    privileges="root for ESRT",
    needs=(f"{_ESRT}/*/fw_version",),
)


def collect(machine: Machine) -> Iterator[Firmware]:
    """One `Firmware` per flashed thing; raises NotPresentError where nothing has a version."""
    found = [
        *read_bios(machine),
        *read_nics(machine),
        *read_nvme(machine),
        *read_drives(machine),
        *read_esrt(machine),
    ]
    if not found:
        raise NotPresentError("neither DMI nor devlink, drives or ESRT name a firmware")
    kept: dict[str, Firmware] = {}
    for row in found:
        kept.setdefault(row.key, row)
    yield from kept.values()


def read_bios(machine: Machine) -> Iterator[Firmware]:
    """The system's firmware, and by which way it booted."""
    said = {name: clean(sysfs.text(machine, f"{_DMI}/bios_{name}"), 64) for name in ("version", "date", "vendor")}
    bits = sysfs.number(machine, f"{_EFI}/fw_platform_size")
    if said["version"]:
        yield Firmware(
            key="bios",
            type="bios",
            running=said["version"],
            date=said["date"],
            vendor=said["vendor"],
            boot=f"uefi {bits}-bit" if bits else "uefi" if sysfs.names(machine, _EFI) else "legacy",
        )


def read_nics(machine: Machine) -> Iterator[Firmware]:
    """Devices that have devlink, part by part; of other NICs what their driver says through ethtool."""
    try:
        infos = devlink.read_infos(machine)
    except MachineError:
        infos = []
    told: set[str] = set()
    for info in infos:
        if sysfs.link_name(machine, f"/sys/bus/pci/devices/{info.device}/physfn"):
            continue  # a virtual function runs its physical function's firmware
        rows = describe(info)
        told |= {row.device for row in rows}
        yield from rows
    try:
        ports = read_own_ports(machine)
    except MachineError:
        return
    for port in ports:
        if not port.device or port.address in told or sysfs.link_name(machine, f"{port.folder}/device/physfn"):
            continue
        said = read_driver(machine, port.link.ifname)
        if version := clean(parse_firmware(said.firmware), 64):
            place = port.address or port.key
            yield Firmware(key=f"nic/{place}", type="nic", device=place, name=clean(said.driver, 32), running=version)


def describe(info: Info) -> list[Firmware]:
    """The parts of one device with a version, sorted by devlink's names for them."""
    place = info.device if info.bus == "pci" else f"{info.bus}/{info.device}"
    parts = sorted({*info.running, *info.stored, *info.fixed})[:MOST_PARTS]
    return [
        Firmware(
            key=f"nic/{clean(place, 64)}/{clean(part, 64)}",
            type="nic",
            device=clean(place, 64),
            name=clean(info.driver, 32),
            part=clean(part, 64),
            running=clean(info.running.get(part, ""), 64),
            stored=clean(info.stored.get(part, ""), 64),
            fixed=clean(info.fixed.get(part, ""), 64),
        )
        for part in parts
    ]


def read_nvme(machine: Machine) -> Iterator[Firmware]:
    """NVMe controllers by PCI address; those over a network have their firmware elsewhere."""
    for name in filter(_CONTROLLER.fullmatch, sysfs.names(machine, _NVME)):
        folder = f"{_NVME}/{name}"
        version = clean(sysfs.text(machine, f"{folder}/firmware_rev"), 32)
        transport = sysfs.text(machine, f"{folder}/transport")
        if version and transport in ("", "pcie", "apple-nvme"):
            addresses = sysfs.pci_addresses(sysfs.resolve(machine, folder))
            place = addresses[-1] if addresses else name
            model = clean(sysfs.text(machine, f"{folder}/model"), 64)
            yield Firmware(key=f"nvme/{place}", type="nvme", device=place, name=model, running=version)


def read_drives(machine: Machine) -> Iterator[Firmware]:
    """SATA, SAS and SCSI drives; sysfs cuts their revision at four characters."""
    for name in filter(_DISK.fullmatch, sysfs.names(machine, _BLOCK)):
        folder = f"{_BLOCK}/{name}/device"
        if version := clean(sysfs.text(machine, f"{folder}/rev"), 32):
            place = parse_place(sysfs.resolve(machine, folder)) or name
            yield Firmware(
                key=f"drive/{place}",
                type="drive",
                device=name,
                name=clean(sysfs.text(machine, f"{folder}/model"), 64),
                vendor=clean(sysfs.text(machine, f"{folder}/vendor"), 32),
                running=version,
            )


def parse_place(path: str) -> str:
    """Where a drive is, over reboots: controller, then ATA port, or channel, target and unit; "" off the PCI bus."""
    if not sysfs.pci_addresses(path):
        return ""
    controller = parse_device(path)
    unit = path.rpartition("/")[2].partition(":")[2]
    return controller if "-ata" in controller else f"{controller}-{unit}"


def read_esrt(machine: Machine) -> Iterator[Firmware]:
    """The entries of UEFI's table of what it can update, by their class."""
    for name in filter(_ENTRY.fullmatch, sysfs.names(machine, _ESRT)):
        said = {file: sysfs.text(machine, f"{_ESRT}/{name}/{file}") for file in ("fw_class", "fw_type", "fw_version")}
        numbers = {
            file: sysfs.number(machine, f"{_ESRT}/{name}/{file}")
            for file in ("lowest_supported_fw_version", "last_attempt_version", "last_attempt_status")
        }
        lowest, attempt = numbers["lowest_supported_fw_version"], numbers["last_attempt_version"]
        if said["fw_class"] and said["fw_version"]:
            kind = sysfs.parse_number(said["fw_type"])
            yield Firmware(
                key=f"esrt/{clean(said['fw_class'], 64).lower()}",
                type="esrt",
                part=ESRT_TYPES.get(kind or 0, ""),
                running=clean(said["fw_version"], 32),
                lowest=str(lowest) if lowest else "",
                last_attempt=parse_attempt(attempt, numbers["last_attempt_status"]),
            )


def parse_attempt(version: int | None, status: int | None) -> str:
    """How the last update went, and to which version; "" when there was none."""
    if not version:
        return ""
    return f"{version} {ATTEMPTS.get(status or 0, f'status {status}')}"
