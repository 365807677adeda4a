"""The configuration space of a PCI function: capabilities and what PCI Express says in it (PCIe 6.0, chapter 7)."""

from typing import NamedTuple

VPD, EXPRESS = 0x03, 0x10  # capabilities
AER, SERIAL, ACS = 0x0001, 0x0003, 0x000D  # extended capabilities

TYPES = {
    0: "endpoint",
    1: "legacy endpoint",
    4: "root port",
    5: "upstream port",
    6: "downstream port",
    7: "bridge to PCI",
    8: "bridge from PCI",
    9: "integrated endpoint",
    10: "event collector",
}
SPEEDS_GTS = {1: 2.5, 2: 5.0, 3: 8.0, 4: 16.0, 5: 32.0, 6: 64.0}
# Bits by their names in the kernel's aer_dev_correctable: Correctable Error Mask, 7.8.4.6
CORRECTABLE = {
    **{0: "RxErr", 6: "BadTLP", 7: "BadDLLP", 8: "Rollover"},
    **{12: "Timeout", 13: "NonFatalErr", 14: "CorrIntErr", 15: "HeaderOF"},
}
SERVICES = {
    0: "source validation",
    1: "translation blocking",
    2: "request redirect",
    3: "completion redirect",
    4: "upstream forwarding",
    5: "egress control",
    6: "direct translated",
}
ASPM = {0: "L0s", 1: "L1"}

_FIRST_EXTENDED = 0x100
_CARDBUS = 2
_SERIAL_BYTES, _VPD_DATA = 8, 4


class Express(NamedTuple):
    """What one function's PCI Express, AER and ACS capabilities say; None where it has no such register."""

    type: str  # a word of `TYPES`, the bare code for a reserved one
    max_payload_bytes: int | None
    max_payload_capable_bytes: int | None
    max_read_request_bytes: int | None
    relaxed_ordering: bool
    extended_tag: bool
    no_snoop: bool
    aspm: list[str]
    link_speed_gts: float | None
    link_width: int | None
    acs: list[str] | None
    aer: bool | None  # None where the extended part cannot be read
    aer_masked: list[str]


def _u16(config: bytes, at: int) -> int:
    return int.from_bytes(config[at : at + 2], "little")


def _u32(config: bytes, at: int) -> int:
    return int.from_bytes(config[at : at + 4], "little")


def capabilities(config: bytes) -> dict[int, int]:
    """Where each capability begins, the first of several alike; none for what is cut off or is no function."""
    if len(config) <= 0x40 or _u16(config, 0) in (0, 0xFFFF) or not _u16(config, 0x06) & 0x10:
        return {}
    found: dict[int, int] = {}
    seen: set[int] = set()
    at = config[0x14 if config[0x0E] & 0x7F == _CARDBUS else 0x34] & ~3
    while 0x40 <= at < min(len(config), _FIRST_EXTENDED) - 1 and at not in seen:
        seen.add(at)
        if config[at] == 0xFF:
            break
        found.setdefault(config[at], at)
        at = config[at + 1] & ~3
    return found


def extended(config: bytes) -> dict[int, int]:
    """Where each extended capability begins, the first of several alike; none in the first 256 bytes alone.

    Some chipsets show those 256 bytes again and again instead.
    """
    found: dict[int, int] = {}
    if config[_FIRST_EXTENDED : _FIRST_EXTENDED + 4] == config[:4]:
        return found
    seen: set[int] = set()
    at = _FIRST_EXTENDED
    while _FIRST_EXTENDED <= at <= len(config) - 4 and at not in seen:
        seen.add(at)
        header = _u32(config, at)
        if header in (0, 0xFFFFFFFF):
            break
        found.setdefault(header & 0xFFFF, at)
        at = header >> 20 & ~3
    return found


def parse_express(config: bytes) -> Express | None:
    """The function's PCI Express side; None for conventional PCI and for what only root may read."""
    at = capabilities(config).get(EXPRESS)
    if at is None or at + 0x14 > len(config):
        return None
    control, link = _u16(config, at + 8), _u16(config, at + 0x12)
    more = extended(config)
    code = _u16(config, at + 2) >> 4 & 0xF
    return Express(
        type=TYPES.get(code, f"{code}"),
        max_payload_bytes=_size(control >> 5),
        max_payload_capable_bytes=_size(_u32(config, at + 4)),
        max_read_request_bytes=_size(control >> 12),
        relaxed_ordering=bool(control & 0x10),
        extended_tag=bool(control & 0x100),
        no_snoop=bool(control & 0x800),
        aspm=_names(ASPM, _u16(config, at + 0x10)),
        link_speed_gts=SPEEDS_GTS.get(link & 0xF) if link >> 4 & 0x3F else None,
        link_width=link >> 4 & 0x3F or None,
        acs=_names(SERVICES, _u16(config, more[ACS] + 6)) if ACS in more else None,
        aer=AER in more if len(config) > _FIRST_EXTENDED else None,
        aer_masked=_names(CORRECTABLE, _u32(config, more[AER] + 0x14)) if AER in more else [],
    )


def without_serial(config: bytes) -> bytes:
    """The same bytes with zeros for the device's serial number and for what was last read of its product data."""
    changed = bytearray(config)
    for at, size in (
        (extended(config).get(SERIAL), _SERIAL_BYTES),
        (capabilities(config).get(VPD), _VPD_DATA),
    ):
        if at is not None:
            changed[at + 4 : at + 4 + size] = bytes(len(changed[at + 4 : at + 4 + size]))
    return bytes(changed)


def _size(code: int) -> int | None:
    """Bytes of a three-bit code; two codes are reserved."""
    return 128 << (code & 7) if code & 7 < 6 else None


def _names(words: dict[int, str], bits: int) -> list[str]:
    return [word for bit, word in words.items() if bits >> bit & 1]
