"""SMBIOS structures as the kernel hands them out, and what of them may stand in a redacted capture."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from machine import MachineError

TABLE = "/sys/firmware/dmi/tables/DMI"
MEMORY_DEVICE, COOLING_DEVICE, POWER_SUPPLY, END_OF_TABLE = 17, 27, 39, 127

_HEADER_BYTES = 4
_END = bytes((END_OF_TABLE, _HEADER_BYTES, 0xFF, 0xFE, 0, 0))
# The structures that a redacted capture keeps, and which of their strings name nobody.
_PUBLIC = {
    MEMORY_DEVICE: (0x10, 0x11, 0x17, 0x1A, 0x2B),  # 7.18: device and bank locator, manufacturer, part, firmware
    COOLING_DEVICE: (0x0E,),  # 7.28: description
    POWER_SUPPLY: (0x05, 0x06, 0x07, 0x0A, 0x0B),  # 7.40: location, name, manufacturer, part, revision
}
# Serial number and asset tag; they win where a string serves several fields.
_SECRET = {MEMORY_DEVICE: (0x18, 0x19), COOLING_DEVICE: (), POWER_SUPPLY: (0x08, 0x09)}
# What firmware writes where it knows nothing: words, its own template ("DIMM_A1_SN", "PartNum3"), fill characters.
_PLACEHOLDER = re.compile(
    r"(?i)no ?dimm|(?:module )?not (?:specified|available|present|installed|provided|applicable)|unknown|undefined"
    r"|none|n/?a|null|\(null\)|\[?empty\]?|default string|to be filled.*|o\.e\.m\.?|fill by oem"
    r"|(?:.*[_ ])?(?:manufacturer|ser(?:ial)?_?num(?:ber)?|sn|(?:module_?)?part_?num(?:ber)?|pn|asset_?tag(?:num)?)"
    r"_?\d*(?: ?\(.*\))?"
    r"|(?:0x)?[0\s.:-]{4,}|-+|f{4,}|x{4,}"
)


class Structure(NamedTuple):
    """One structure: its type, its formatted part from the header on, and its strings."""

    kind: int
    body: bytes
    strings: list[bytes]

    def number(self, at: int, size: int) -> int:
        """The little-endian number there, 0 where an older structure ends before it."""
        return int.from_bytes(self.body[at : at + size], "little") if at + size <= len(self.body) else 0

    def text(self, at: int) -> str:
        """What the string that is numbered there says, "" for none and for a placeholder."""
        number = self.number(at, 1)
        return said(self.strings[number - 1]) if 0 < number <= len(self.strings) else ""


def structures(table: bytes) -> Iterator[Structure]:
    """The structures up to the end of the table; raises MachineError with the byte where it is damaged."""
    at = 0
    while at < len(table):
        kind, size = table[at], int.from_bytes(table[at + 1 : at + 2], "little")
        end = table.find(b"\0\0", at + size)
        if size < _HEADER_BYTES or end < 0:
            if not table[at:].strip(b"\0"):
                return
            raise MachineError(f"SMBIOS table of {len(table)} bytes is damaged at byte {at}")
        yield Structure(kind, table[at : at + size], table[at + size : end].split(b"\0"))
        if kind == END_OF_TABLE:
            return
        at = end + 2


def said(string: bytes) -> str:
    """The text without outer white space and what cannot be printed; "" for what vendors write when they know none."""
    text = "".join(letter for letter in string.decode(errors="replace") if letter.isprintable()).strip()
    return "" if _PLACEHOLDER.fullmatch(text) else text


def devices_only(table: bytes, stand_in: Callable[[str], str]) -> bytes:
    """A table of memory, cooling devices and power supplies alone, with serial numbers, asset tags and strings of no
    known field disguised.

    `stand_in` must keep a text's length. Raises MachineError for a damaged table.
    """
    devices = (one for one in structures(table) if one.kind in _PUBLIC)
    return b"".join(_disguised(one, stand_in) for one in devices) + _END


def _disguised(device: Structure, stand_in: Callable[[str], str]) -> bytes:
    public = {device.number(at, 1) for at in _PUBLIC[device.kind]}
    public -= {device.number(at, 1) for at in _SECRET[device.kind]}
    strings = [
        text if number in public or not said(text) else stand_in(text.decode("latin-1")).encode("latin-1")
        for number, text in enumerate(device.strings, 1)
    ]
    return device.body + b"\0".join(strings) + b"\0\0"
