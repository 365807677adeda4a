"""Memory modules: what SMBIOS says of every slot, and the errors that EDAC counts for it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from collectors import sysfs
from collectors.about import About
from machine import Machine, NotPresentError, smbios
from machine.smbios import Structure
from wire.facts import Dimm
from wire.report import Sample

NAME = "dimm"
EVERY_S = 60.0
DEADLINE_S = 5.0

# SMBIOS 3.7, 7.18.1; 1 and 2 are "other" and "unknown".
FORM_FACTORS = {
    **{3: "SIMM", 4: "SIP", 5: "Chip", 6: "DIP", 7: "ZIP", 8: "Proprietary Card", 9: "DIMM", 10: "TSOP"},
    **{11: "Row Of Chips", 12: "RIMM", 13: "SODIMM", 14: "SRIMM", 15: "FB-DIMM", 16: "Die", 17: "CAMM"},
}
# SMBIOS 3.7, 7.18.2.
TYPES = {
    **{3: "DRAM", 4: "EDRAM", 5: "VRAM", 6: "SRAM", 7: "RAM", 8: "ROM", 9: "Flash", 10: "EEPROM", 11: "FEPROM"},
    **{12: "EPROM", 13: "CDRAM", 14: "3DRAM", 15: "SDRAM", 16: "SGRAM", 17: "RDRAM", 18: "DDR", 19: "DDR2"},
    **{20: "DDR2 FB-DIMM", 24: "DDR3", 25: "FBD2", 26: "DDR4", 27: "LPDDR", 28: "LPDDR2", 29: "LPDDR3"},
    **{30: "LPDDR4", 31: "Logical non-volatile device", 32: "HBM", 33: "HBM2", 34: "DDR5", 35: "LPDDR5", 36: "HBM3"},
}
_UNSAID = (0, 1, 2)

_EDAC = "/sys/devices/system/edac/mc"
_CONTROLLER = re.compile(r"mc\d+")
_MODULE = re.compile(r"(?:dimm|rank)\d+")  # ranks with drivers that count by chip select, amd64_edac among them
COUNTERS = {"ce": "dimm.corrected_errors", "ue": "dimm.uncorrected_errors"}


class Place(NamedTuple):
    """What EDAC counts errors for: its controller, its folder there, and the label of the slot, if it has one."""

    controller: str
    folder: str
    label: str


ABOUT = About(
    what="every memory slot: size, type, speed, vendor, part, serial number; corrected and uncorrected errors",
    source="SMBIOS type 17 in `/sys/firmware/dmi/tables/DMI`, EDAC",
    privileges="root",
    needs=("/sys/firmware/dmi/tables/DMI",),
    metrics=dict.fromkeys(COUNTERS.values(), 0),
)


def collect(machine: Machine) -> Iterator[Dimm | Sample]:
    """One `Dimm` per slot and EDAC's counts; raises NotPresentError without both, MachineError for a damaged table."""
    dimms = read_dimms(machine)
    samples = list(read_errors(machine, dimms))
    if not dimms and not samples:
        raise NotPresentError(f"no memory device in {smbios.TABLE}, no controller in {_EDAC}")
    yield from dimms
    yield from samples


def read_dimms(machine: Machine) -> list[Dimm]:
    """The slots in the table's order, none where there is no table; raises DeniedError without root."""
    try:
        table = machine.read_bytes(smbios.TABLE)
    except NotPresentError:
        return []
    return parse_dimms(table)


def parse_dimms(table: bytes) -> list[Dimm]:
    """The memory devices of a table, each with a key of its own; raises MachineError for a damaged table."""
    dimms = [parse_dimm(one) for one in smbios.structures(table) if one.kind == smbios.MEMORY_DEVICE]
    for dimm, key in zip(dimms, unique_keys([(dimm.bank, dimm.locator) for dimm in dimms]), strict=True):
        dimm.key = key
    return dimms


def parse_dimm(device: Structure) -> Dimm:
    """One memory device; the fields that its SMBIOS version did not have are None or empty."""
    size = device.number(0x0C, 2)
    return Dimm(
        key="",
        locator=device.text(0x10),
        bank=device.text(0x11),
        populated=size != 0,
        size_mib=parse_size(size, device.number(0x1C, 4)),
        type=_word(TYPES, device.number(0x12, 1)),
        form_factor=_word(FORM_FACTORS, device.number(0x0E, 1)),
        speed_mts=parse_speed(device.number(0x15, 2), device.number(0x54, 4)),
        configured_mts=parse_speed(device.number(0x20, 2), device.number(0x58, 4)),
        vendor=device.text(0x17),
        part=device.text(0x1A),
        serial=device.text(0x18),
        ranks=device.number(0x1B, 1) & 0xF or None,
    )


def parse_size(size: int, extended: int) -> int | None:
    """MiB; None for an empty slot and for a size that is not known."""
    if size in (0, 0xFFFF):
        return None
    if size == 0x7FFF:
        return extended & 0x7FFFFFFF
    return (size & 0x7FFF) // 1024 if size & 0x8000 else size


def parse_speed(speed: int, extended: int) -> int | None:
    """Megatransfers per second; None when not known."""
    return (extended & 0x7FFFFFFF if speed == 0xFFFF else speed) or None


def unique_keys(places: list[tuple[str, str]]) -> list[str]:
    """Locators; bank and locator where several slots have the same; then numbered in the table's order."""
    locators = Counter(locator for _, locator in places)
    names = [
        locator if locator and locators[locator] == 1 else f"{bank} {locator}".strip() or "slot"
        for bank, locator in places
    ]
    keys: list[str] = []
    for name in names:
        key, number = name, 1
        while key in keys or (number > 1 and key in names):
            number += 1
            key = f"{name}#{number}"
        keys.append(key)
    return keys


def read_errors(machine: Machine, dimms: list[Dimm]) -> Iterator[Sample]:
    """Errors since the driver was loaded: per module, and per controller (`mc0`) those of no known module."""
    places: list[Place] = []
    for controller in filter(_CONTROLLER.fullmatch, sysfs.names(machine, _EDAC)):
        yield from _samples(controller, _counts(machine, f"{_EDAC}/{controller}", "{}_noinfo_count"))
        for module in filter(_MODULE.fullmatch, sysfs.names(machine, f"{_EDAC}/{controller}")):
            label = sysfs.text(machine, f"{_EDAC}/{controller}/{module}/dimm_label")
            places.append(Place(controller, module, label))
    totals: dict[str, Counter[str]] = {}
    for place, key in join_labels(places, dimms).items():
        folder = f"{_EDAC}/{place.controller}/{place.folder}"
        totals.setdefault(key, Counter()).update(_counts(machine, folder, "dimm_{}_count"))
    for key, counts in totals.items():
        yield from _samples(key, counts)


def join_labels(places: list[Place], dimms: list[Dimm]) -> dict[Place, str]:
    """The key of the slot that alone bears the label; else the label, within its controller if it is not alone."""
    owners: dict[str, set[str]] = {}
    for dimm in dimms:
        for name in (dimm.key, dimm.locator, f"{dimm.bank} {dimm.locator}"):
            owners.setdefault(_bare(name), set()).add(dimm.key)
    controllers: dict[str, set[str]] = {}
    for place in places:
        controllers.setdefault(place.label, set()).add(place.controller)
    keys: dict[Place, str] = {}
    for place in places:
        named = owners.get(_bare(place.label), set())
        if not place.label or len(controllers[place.label]) > 1:
            keys[place] = f"{place.controller}/{place.label or place.folder}"
        else:
            keys[place] = next(iter(named)) if len(named) == 1 else place.label
    return keys


def _counts(machine: Machine, folder: str, name: str) -> dict[str, int]:
    """Metric -> count, of the counters that the kernel has."""
    counts = {metric: sysfs.number(machine, f"{folder}/{name.format(kind)}") for kind, metric in COUNTERS.items()}
    return {metric: count for metric, count in counts.items() if count is not None}


def _samples(key: str, counts: Mapping[str, int]) -> Iterator[Sample]:
    yield from (Sample(metric, key, count) for metric, count in counts.items())


def _bare(name: str) -> str:
    """The same for `A1`, `DIMM_A1` and `dimm-a1`: boards, firmware and label tables spell a slot differently."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("dimm")


def _word(words: dict[int, str], code: int) -> str:
    """The table's word, the bare code for one it does not have."""
    return "" if code in _UNSAID else words.get(code, f"0x{code:02x}")
