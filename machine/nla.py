"""Netlink attributes: bytes in, bytes out. Lengths that lie raise MachineError, nothing loops for ever."""

import struct
import sys
from typing import Final

from machine import MachineError

NESTED = 0x8000
_KIND_MASK = 0x3FFF
_HEADER = struct.Struct("=HH")
_ORDER: Final = sys.byteorder


def items(payload: bytes, offset: int = 0) -> list[tuple[int, bytes]]:
    """Every attribute as (number, value), in order; raises MachineError when a length does not fit."""
    found: list[tuple[int, bytes]] = []
    end = len(payload)
    unpack = _HEADER.unpack_from
    while offset + 4 <= end:
        size, kind = unpack(payload, offset)
        if size < 4 or offset + size > end:
            raise MachineError(f"netlink attribute of {size} bytes does not fit into {end - offset}")
        found.append((kind & _KIND_MASK, payload[offset + 4 : offset + size]))
        offset += (size + 3) & ~3
    return found


def table(payload: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attributes by number; of a repeated one the last."""
    return dict(items(payload, offset))


def pick(payload: bytes, offset: int, wanted: frozenset[int]) -> dict[int, bytes]:
    """As `table`, only the wanted ones: for dumps of a thousand messages, which spend their time here."""
    found: dict[int, bytes] = {}
    end = len(payload)
    unpack = _HEADER.unpack_from
    while offset + 4 <= end:
        size, kind = unpack(payload, offset)
        if size < 4 or offset + size > end:
            raise MachineError(f"netlink attribute of {size} bytes does not fit into {end - offset}")
        kind &= _KIND_MASK
        if kind in wanted:
            found[kind] = payload[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def number(value: bytes) -> int:
    """An unsigned number of the machine's byte order, whatever its width."""
    return int.from_bytes(value, _ORDER)


def signed(value: bytes) -> int:
    """A signed number of the machine's byte order."""
    return int.from_bytes(value, _ORDER, signed=True)


def string(value: bytes) -> str:
    """Text up to the first NUL."""
    return value.split(b"\0", 1)[0].decode(errors="replace")


def attr(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    size = 4 + len(value)
    return _HEADER.pack(size, kind) + value + bytes(-size % 4)


def u8(kind: int, value: int) -> bytes:
    """One attribute of one byte."""
    return attr(kind, struct.pack("=B", value))


def u32(kind: int, value: int) -> bytes:
    """One attribute of four bytes."""
    return attr(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """One attribute with NUL-ended text."""
    return attr(kind, value.encode() + b"\0")


def nest(kind: int, *attributes: bytes) -> bytes:
    """One attribute that holds others."""
    return attr(kind | NESTED, b"".join(attributes))
