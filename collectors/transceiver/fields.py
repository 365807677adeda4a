"""Bytes to texts, sums and quarters of thresholds: what all standards have in common."""

import struct
from collections.abc import Sequence

from collectors.transceiver.says import Flags, Levels
from wire.text import REPLACED

QUARTET_S = struct.Struct(">4h")
QUARTET_U = struct.Struct(">4H")
SHORT_S = struct.Struct(">h")
SHORT_U = struct.Struct(">H")

MW = 0.0001  # of one step of 0.1 µW
MA = 0.002  # of one step of 2 µA
VOLT = 0.0001  # of one step of 100 µV
CELSIUS = 1 / 256

_FLAGS = [Flags(bool(bits & 8), bool(bits & 4), bool(bits & 2), bool(bits & 1)) for bits in range(16)]


def text(raw: bytes) -> str:
    """A text field without its padding (blanks, NULs, erased bytes); what does not print becomes U+FFFD."""
    decoded = raw.rstrip(b"\0 \xff").decode("latin-1")
    if decoded.isprintable():
        return decoded
    return "".join(letter if letter.isprintable() else REPLACED for letter in decoded)


def oui(raw: bytes) -> str:
    """`00:90:65`."""
    return raw.hex(":")


def summed(block: bytes, first: int, last: int, at: int) -> bool:
    """Whether byte `at` is the sum of those from `first` to `last` modulo 256."""
    return sum(block[first : last + 1]) & 0xFF == block[at]


def levels(block: bytes, at: int, scale: float, *, signed: bool = False) -> Levels:
    """Four thresholds at an offset; every standard has them in this order."""
    high_alarm, low_alarm, high_warn, low_warn = (QUARTET_S if signed else QUARTET_U).unpack_from(block, at)
    return Levels(high_alarm * scale, low_alarm * scale, high_warn * scale, low_warn * scale)


def flags(bits: int) -> Flags:
    """Four flags of a nibble whose highest bit is the high alarm."""
    return _FLAGS[bits & 15]


def lane_flags(masks: Sequence[int], lane: int) -> Flags:
    """The flags of a lane from four masks with a bit per lane."""
    high_alarm, low_alarm, high_warn, low_warn = (mask >> lane & 1 for mask in masks)
    return _FLAGS[high_alarm << 3 | low_alarm << 2 | high_warn << 1 | low_warn]


def s16(block: bytes, at: int) -> int:
    """A signed number of two bytes."""
    return int(SHORT_S.unpack_from(block, at)[0])


def u16(block: bytes, at: int) -> int:
    """An unsigned number of two bytes."""
    return int(SHORT_U.unpack_from(block, at)[0])
