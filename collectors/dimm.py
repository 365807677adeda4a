"""Memory modules: what SMBIOS says of every slot."""

from collections import Counter
from collections.abc import Iterator

from collectors.about import About
from machine import Machine, NotPresentError, smbios
from machine.smbios import Structure
from wire.facts import Dimm

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


ABOUT = About(
    what="every memory slot: size, type, speed, vendor, part, serial number",
    source="SMBIOS type 17 in `/sys/firmware/dmi/tables/DMI`",
    privileges="root",
    needs=("/sys/firmware/dmi/tables/DMI",),
)


def collect(machine: Machine) -> Iterator[Dimm]:
    """One `Dimm` per slot; raises NotPresentError without any, MachineError for a damaged table."""
    dimms = read_dimms(machine)
    if not dimms:
        raise NotPresentError(f"no memory device in {smbios.TABLE}")
    yield from dimms


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


def _word(words: dict[int, str], code: int) -> str:
    """The table's word, the bare code for one it does not have."""
    return "" if code in _UNSAID else words.get(code, f"0x{code:02x}")
