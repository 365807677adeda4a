"""PCI functions that are no bridges, and whether their link is as fast as it and the way to it allow."""

import re
from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

from collectors import sysfs
from collectors.about import About, Cost
from machine import Machine, MachineError, NotPresentError
from wire.facts import Pci

NAME = "pci"
EVERY_S = 60.0
DEADLINE_S = 10.0

_DEVICES = "/sys/bus/pci/devices"
_SPEED = re.compile(r"(\d+(?:\.\d+)?) GT/s")
_HEX = re.compile(r"0x([0-9a-f]+)")
_BRIDGE = "06"
IDS_FILES = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")
_known: "WeakKeyDictionary[Machine, dict[tuple[str, str], str]]" = WeakKeyDictionary()


class Width(NamedTuple):
    """A link or the most a port can: GT/s per lane, and lanes."""

    speed_gts: float | None
    lanes: int | None

    @property
    def total(self) -> float:
        """GT/s over all lanes; 0 when unknown."""
        return (self.speed_gts or 0.0) * (self.lanes or 0)


ABOUT = About(
    what="functions but bridges; link against the slowest port on the path",
    source="`/sys/bus/pci/devices`, pci.ids",
    cost=Cost.SLOW,
)


def collect(machine: Machine) -> Iterator[Pci]:
    """One `Pci` per function, by address; raises NotPresentError on a machine without PCI."""
    found = [function for name in sysfs.names(machine, _DEVICES) if (function := read_function(machine, name))]
    if not found:
        raise NotPresentError(f"no function in {_DEVICES}")
    names = read_names(machine, [(function.vendor_id, function.device_id) for function in found])
    for function in found:
        function.name = names.get((function.vendor_id, function.device_id), "")
        yield function


def read_function(machine: Machine, address: str) -> Pci | None:
    """One function without its name; None for a bridge and for what went away meanwhile."""
    folder = f"{_DEVICES}/{address}"
    class_id = parse_hex(sysfs.text(machine, f"{folder}/class")).rjust(6, "0")
    if not sysfs.PCI_ADDRESS.fullmatch(address) or class_id == "000000" or class_id.startswith(_BRIDGE):
        return None
    current, most = read_link(machine, folder, "current"), read_link(machine, folder, "max")
    limit, path = read_path(machine, folder)
    ids = [parse_hex(sysfs.text(machine, f"{folder}/{name}")) for name in ("subsystem_vendor", "subsystem_device")]
    return Pci(
        key=address,
        class_id=class_id,
        vendor_id=parse_hex(sysfs.text(machine, f"{folder}/vendor")),
        device_id=parse_hex(sysfs.text(machine, f"{folder}/device")),
        subsystem_id=":".join(ids) if all(ids) else "",
        driver=sysfs.link_name(machine, f"{folder}/driver"),
        numa_node=sysfs.node(machine, f"{folder}/numa_node"),
        iommu_group=sysfs.parse_number(sysfs.link_name(machine, f"{folder}/iommu_group")),
        speed_gts=current.speed_gts,
        width=current.lanes,
        max_speed_gts=most.speed_gts,
        max_width=most.lanes,
        path_max_speed_gts=path.speed_gts,
        path_max_width=path.lanes,
        path_limit=limit if 0 < path.total < most.total else "",
    )


def read_link(machine: Machine, folder: str, which: str) -> Width:
    """The "current" link of a function or port, or the "max" of which it is capable."""
    speed = parse_speed(sysfs.text(machine, f"{folder}/{which}_link_speed"))
    return Width(speed, parse_width(sysfs.text(machine, f"{folder}/{which}_link_width")))


def read_path(machine: Machine, folder: str) -> tuple[str, Width]:
    """The port with the least bandwidth between a function and the root, and what it can; "" when none says."""
    ports: list[tuple[str, Width]] = []
    at = sysfs.resolve(machine, folder).rpartition("/")[0]
    while sysfs.PCI_ADDRESS.fullmatch(at.rpartition("/")[2]):
        ports.append((at.rpartition("/")[2], read_link(machine, at, "max")))
        at = at.rpartition("/")[0]
    known = [port for port in ports if port[1].total]
    return min(known, key=lambda port: port[1].total, default=("", Width(None, None)))


def parse_hex(text: str) -> str:
    """The digits of `0x8086`, "" for anything else."""
    found = _HEX.fullmatch(text)
    return found[1] if found else ""


def parse_speed(text: str) -> float | None:
    """GT/s of `16.0 GT/s PCIe`; None for `Unknown` and `0 GT/s`."""
    found = _SPEED.match(text)
    return float(found[1]) or None if found else None


def parse_width(text: str) -> int | None:
    """Lanes; 0 (no card) and 255 (not said) are None."""
    lanes = sysfs.parse_number(text)
    return lanes if lanes is not None and 0 < lanes <= 64 else None


def read_names(machine: Machine, ids: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(vendor, device) -> name; the names file is read again only when an id is new on this machine."""
    known = _known.setdefault(machine, {})
    if new := sorted(set(ids) - known.keys()):
        known.update(parse_names(_ids_file(machine), new))
    return known


def parse_names(text: bytes, ids: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The names of the asked ids in the text of pci.ids; the vendor alone or "" where it lists no more."""
    names: dict[tuple[str, str], str] = {}
    for vendor, device in ids:
        block = re.search(rb"^" + vendor.encode() + rb"[ \t]+(.+)\n((?:[\t#].*\n|\n)*)", text, re.MULTILINE)
        found = re.search(rb"^\t" + device.encode() + rb"[ \t]+(.+)$", block[2], re.MULTILINE) if block else None
        parts = [match[1].decode(errors="replace").strip() for match in (block, found) if match]
        names[vendor, device] = " ".join(parts)
    return names


def _ids_file(machine: Machine) -> bytes:
    for path in IDS_FILES:
        try:
            return machine.read_bytes(path)
        except MachineError:
            continue
    return b""
