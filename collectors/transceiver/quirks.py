"""Modules that claim what they are not: by vendor and the beginning of the part number."""

from typing import NamedTuple

from collectors.transceiver.says import Module


class Quirk(NamedTuple):
    """What of a module is not believed."""

    copper: str = ""  # it is a BASE-T module with this medium: no wavelength, no light, whatever it says


# Modules that copy an optical one's EEPROM (those that Linux's drivers/net/phy/sfp.c knows, and two that were met).
QUIRKS: dict[tuple[str, str], Quirk] = {
    ("OEM", "SFP-10G-T"): Quirk(copper="10GBASE-T"),
    ("OEM", "RTSFP-10"): Quirk(copper="10GBASE-T"),
    ("Turris", "RTSFP-10"): Quirk(copper="10GBASE-T"),
    ("Turris", "RTSFP-2.5G"): Quirk(copper="2.5GBASE-T"),
    ("FS", "SFP-10GM-T"): Quirk(copper="10GBASE-T"),
    ("FS", "SFP-10G-T"): Quirk(copper="10GBASE-T"),
    ("FS", "SFP-2.5G-T"): Quirk(copper="2.5GBASE-T"),
    ("OEM", "SFP-2.5G-T"): Quirk(copper="2.5GBASE-T"),
}
NONE = Quirk()


def quirk_of(module: Module) -> Quirk:
    """The quirk of a module; of several the longest part number counts."""
    if module.id is None:
        return NONE
    found = [part for vendor, part in QUIRKS if vendor == module.id.vendor and module.id.part.startswith(part)]
    return QUIRKS[module.id.vendor, max(found, key=len)] if found else NONE
