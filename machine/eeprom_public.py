"""A transceiver's bytes as a capture may show them: another serial number, nothing of what is its maker's own."""

import struct
from collections.abc import Callable
from typing import NamedTuple

from machine import MachineError, Reply, eeprom, ethtool, nla
from machine.tape import Call

_GENL = ("genl", ethtool.FAMILY, str(eeprom.GET))
_READ = struct.pack("=I", 0x43)  # ETHTOOL_GMODULEEEPROM
_HEADER, _DATA = 16, 7  # bytes before the ioctl's data; the attribute of netlink's


class _Where(NamedTuple):
    """In a block: the serial number, the sum over it (first byte summed, where the sum is), what is the maker's own."""

    serial: tuple[int, int]
    summed: tuple[int, int]
    private: int


_SFP, _CMIS = _Where((68, 84), (64, 95), 96), _Where((38, 54), (0, 94), 96)
_OF: dict[int, _Where] = {  # identifier, SFF-8024 table 4-1
    **dict.fromkeys((0x02, 0x03, 0x0B, 0x0C, 0x0D, 0x11), _SFP),
    **dict.fromkeys((0x18, 0x19, 0x1B, *range(0x1E, 0x26)), _CMIS),
}
_SFP_IDENTIFIERS = frozenset({0x02, 0x03, 0x0B})


def is_read(call: Call) -> bool:
    """Whether the call reads a module through netlink."""
    return call[:3] == _GENL


def replies(call: Call, body: list[Reply], word: Callable[[str], str]) -> list[Reply]:
    """Netlink's answers; one that does not parse is left out."""
    found: list[Reply] = []
    for reply in body:
        try:
            asked, parts = nla.table(bytes.fromhex(call[-1])), nla.items(reply.payload)
        except (MachineError, ValueError):
            continue
        offset, page, address = (nla.number(asked.get(kind, b"")) for kind in (2, 4, 6))
        shown = (
            (kind, _block(value, offset, page, address, word) if kind == _DATA else value) for kind, value in parts
        )
        found.append(Reply(reply.kind, b"".join(nla.attr(kind, value) for kind, value in shown)))
    return found


def flat(call: Call, body: bytes, word: Callable[[str], str]) -> bytes:
    """An ioctl's answer; any other ioctl's as it is."""
    request = bytes.fromhex(call[-1])
    if not request.startswith(_READ) or len(request) < _HEADER:
        return body
    offset = struct.unpack_from("=I", request, 8)[0]
    data = body[_HEADER:]
    out = b"".join(
        _block(data[at : at + 128], (offset + at) % 256, 0, eeprom.A0 if offset + at < 256 else eeprom.A2, word)
        for at in range(0, len(data), 128)
    )
    return body[:_HEADER] + out


def _block(data: bytes, offset: int, page: int, address: int, word: Callable[[str], str]) -> bytes:
    """A run within a block: of an SFP's A0h the lower one names it, of others page 00h; elsewhere it stays."""
    start = offset % 128
    lower = offset < 128
    if address != eeprom.A0 or page or not data:
        return data
    if start:  # which module it is cannot be seen: both places are disguised
        return _renamed(_renamed(data, start, _SFP, word), start, _CMIS, word)
    where = _OF.get(data[0])
    if where is None or lower != (data[0] in _SFP_IDENTIFIERS):
        return data if lower else bytes(len(data))  # beyond byte 127 of what is no known module, nobody knows
    first, at = where.summed
    right = at < len(data) and sum(data[first:at]) & 0xFF == data[at]
    named = _renamed(data, 0, where, word)[: where.private].ljust(min(len(data), where.private), b"\0")
    if right:
        named = named[:at] + bytes((sum(named[first:at]) & 0xFF,)) + named[at + 1 :]
    return named.ljust(len(data), b"\0")


def _renamed(data: bytes, start: int, where: _Where, word: Callable[[str], str]) -> bytes:
    """The data, from byte `start` of the block on, with a stand-in for the serial number."""
    first, last = (max(0, min(len(data), at - start)) for at in where.serial)
    serial = data[first:last].decode("latin-1")
    return data[:first] + word(serial).encode("latin-1") + data[last:]
