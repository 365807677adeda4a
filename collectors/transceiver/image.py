"""What was read of a module's memory: blocks of 128 bytes by address, bank and page; some may be short or missing."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

BLOCK = 128
LOWER = -1  # the page of bytes 0 to 127, which all pages have in common
A0, A2 = 0x50, 0x51

Place = tuple[int, int, int]  # i2c address, bank, page
Blocks = dict[Place, bytes]

MAX_PAGE, MAX_BANK = 255, 3

# SFF-8024 table 4-1: identifier -> standard of the memory map.
STANDARDS: dict[int, str] = {
    **dict.fromkeys((0x02, 0x03, 0x0B), "sff8472"),
    **dict.fromkeys((0x0C, 0x0D, 0x11), "sff8636"),
    **dict.fromkeys((0x18, 0x19, 0x1B, *range(0x1E, 0x26)), "cmis"),
}


class LayoutError(Exception):
    """A dump and its layout do not belong together; the message is one line."""


class Image(NamedTuple):
    """A module's memory as far as it is known, and what of it was not usable."""

    blocks: Blocks
    dropped: list[str]

    def block(self, page: int, bank: int = 0, address: int = A0) -> bytes:
        """The bytes of a block, from its first one on; b"" for one that is not there."""
        return self.blocks.get((address, bank, page), b"")


class Segment(msgspec.Struct):
    """One run of bytes in a dump's file: where it lies in the module, and where in the file."""

    offset: int
    length: int
    file_offset: int
    i2c: str = "0x50"
    bank: int = 0
    page: int = 0


class Layout(msgspec.Struct):
    """The description beside a dump; `family` names the standard, whatever the identifier byte says."""

    segments: list[Segment]
    family: str = ""


def read_layout(text: bytes) -> Layout:
    """A layout from JSON; raises LayoutError."""
    try:
        return msgspec.json.decode(text, type=Layout)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise LayoutError(f"not a layout: {error}") from None


def arrange(dump: bytes, layout: Layout) -> Image:
    """The blocks of a dump; raises LayoutError for a segment that cannot be meant, notes those that are cut."""
    image = Image({}, [])
    for segment in layout.segments:
        address = _address(segment)
        data = dump[segment.file_offset : segment.file_offset + segment.length]
        if len(data) < segment.length:
            where = f"{segment.i2c} bank {segment.bank} page {segment.page:02x}h byte {segment.offset}"
            image.dropped.append(f"the dump holds {len(data)} of {segment.length} bytes from {where}")
        for place, part in _split(address, segment, data):
            old = image.blocks.get(place, b"")
            start = segment.offset % BLOCK if place == _first(address, segment) else 0
            if start > len(old):
                where = "the lower page" if place[2] == LOWER else f"page {place[2]:02x}h"
                image.dropped.append(f"the bytes before byte {segment.offset} of {where} are missing")
            else:
                image.blocks[place] = old[:start] + part + old[start + len(part) :]
    return image


def _address(segment: Segment) -> int:
    try:
        address = int(segment.i2c, 16)
    except ValueError:
        address = -1
    inside = 0 <= segment.offset < 2 * BLOCK and 0 < segment.length <= 2 * BLOCK - segment.offset
    known = address in (A0, A2) and 0 <= segment.page <= MAX_PAGE and 0 <= segment.bank <= MAX_BANK
    if not inside or not known or segment.file_offset < 0:
        raise LayoutError(f"no such segment: {msgspec.json.encode(segment).decode()[:200]}")
    return address


def _first(address: int, segment: Segment) -> Place:
    return (address, segment.bank, segment.page) if segment.offset >= BLOCK else (address, 0, LOWER)


def _split(address: int, segment: Segment, data: bytes) -> Iterator[tuple[Place, bytes]]:
    """A segment's bytes block by block."""
    room = BLOCK - segment.offset % BLOCK
    if data[:room]:
        yield _first(address, segment), data[:room]
    if data[room:]:
        yield (address, segment.bank, segment.page), data[room:]


def standard_of(image: Image, family: str = "") -> str:
    """ "sff8472", "sff8636" or "cmis": what `family` names, else by the identifier, by that of page 00h where the lower
    page has none; "" for a module of another kind and for one that says nothing."""
    if family in STANDARDS.values():
        return family
    identifiers = (block[0] for block in (image.block(LOWER), image.block(0)) if block)
    return next((STANDARDS[identifier] for identifier in identifiers if identifier in STANDARDS), "")


def flat(dump: bytes) -> Image:
    """A dump without a layout, as the ioctl and `ethtool -m IF raw on` write it: an SFP's A0h and then A2h, of others
    the lower half and then page after page."""
    blocks = {place: part for place, part in zip(_places(dump), _parts(dump), strict=False) if part}
    return Image(blocks, [f"the dump ends within a block, {len(dump)} bytes"] if len(dump) % BLOCK else [])


def _parts(dump: bytes) -> Iterable[bytes]:
    return (dump[at : at + BLOCK] for at in range(0, len(dump), BLOCK))


def _places(dump: bytes) -> Iterator[Place]:
    sfp = STANDARDS.get(dump[0] if dump else -1) == "sff8472"
    yield from [(A0, 0, LOWER), (A0, 0, 0)]
    if sfp:
        yield from [(A2, 0, LOWER), (A2, 0, 0)]
        return
    yield from ((A0, 0, page) for page in range(1, MAX_PAGE + 1))
