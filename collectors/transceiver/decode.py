"""Which decoder a module needs; each is imported when the first module of its standard is met."""

from collectors.transceiver.image import LOWER, Image, standard_of
from collectors.transceiver.says import Id, Module


def decode(image: Image, family: str = "") -> Module:
    """All that a module says. `family` is the standard, where it is known otherwise; never raises for bytes."""
    match standard_of(image, family):
        case "sff8472":
            from collectors.transceiver import sff8472  # noqa: PLC0415

            return sff8472.decode(image)
        case "sff8636":
            from collectors.transceiver import sff8636  # noqa: PLC0415

            return sff8636.decode(image)
        case "cmis":
            from collectors.transceiver import cmis  # noqa: PLC0415

            return cmis.decode(image)
        case _:
            return _unknown(image)


def _unknown(image: Image) -> Module:
    lower = image.block(LOWER) or image.block(0)
    if not lower:
        return Module("", dropped=[*image.dropped, "no byte of the module was read"])
    why = "erased or not ready" if len(set(lower)) == 1 else "of no standard that is known"
    return Module("", Id(lower[0]), dropped=[*image.dropped, f"identifier {lower[0]:02x}h: {why}, nothing is decoded"])
