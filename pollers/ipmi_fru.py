"""A field replaceable unit's memory (Platform Management FRU Information Storage Definition 1.0, revision 1.3)."""

import time
from collections.abc import Iterator

from pollers.ipmi_sdr import six_bits
from wire.facts import Fru
from wire.text import clean

EPOCH_S = 820454400  # 1996-01-01 00:00 UTC
MAX_TEXT = 64
MAX_FIELDS = 64  # of one area
MAX_EXTRA = 16
_END = 0xC1
_ENGLISH = (0, 25)  # language codes: what is neither is written in UTF-16
CHASSIS = ("chassis_part", "chassis_serial")
BOARD = ("board_manufacturer", "board_product", "board_serial", "board_part", "")  # the last: FRU file id
PRODUCT = (
    *("product_manufacturer", "product_name", "product_part", "product_version"),
    *("product_serial", "product_asset", ""),
)


def parse_fru(image: bytes, fru: Fru) -> None:
    """Fill in what the areas say; a FRU of another format, or a damaged area, adds nothing. Sums are not checked:
    boards with wrong ones are common, and their texts are right."""
    if len(image) < 8 or image[0] & 15 != 1:
        return
    chassis, board, product = (_area(image, image[at] * 8) for at in (2, 3, 4))
    if len(chassis) > 3:
        fru.chassis_type = chassis[2] or None
        _fill(fru, CHASSIS, chassis[3:], 25)
    if len(board) > 6:
        fru.board_made = parse_date(board[3:6])
        _fill(fru, BOARD, board[6:], board[2])
    if len(product) > 3:
        _fill(fru, PRODUCT, product[3:], product[2])
    fru.extra = fru.extra[:MAX_EXTRA]


def _area(image: bytes, start: int) -> bytes:
    """An area's bytes by its own length, as far as there are any; none where the FRU has no such area."""
    if not start or start + 2 > len(image) or image[start] & 15 != 1:
        return b""
    return image[start : start + image[start + 1] * 8]


def parse_date(minutes: bytes) -> str:
    """ISO 8601, UTC; "" for the epoch, which is what boards say whose date nobody set."""
    count = int.from_bytes(minutes, "little")
    return time.strftime("%Y-%m-%dT%H:%M", time.gmtime(EPOCH_S + count * 60)) if count else ""


def _fill(fru: Fru, names: tuple[str, ...], fields: bytes, language: int) -> None:
    for at, text in enumerate(parse_fields(fields, language)):
        if at >= len(names):
            fru.extra += [text] if text else []
        elif names[at]:
            setattr(fru, names[at], text)


def parse_fields(data: bytes, language: int = 25) -> Iterator[str]:
    """Type/length coded texts up to the mark that ends them, or the area's end."""
    for _ in range(MAX_FIELDS):
        if not data or data[0] == _END:
            return
        size = data[0] & 0x3F
        yield parse_field(data[0] >> 6, data[1 : 1 + size], language)
        data = data[1 + size :]


def parse_field(coding: int, data: bytes, language: int) -> str:
    """One text: bytes (as hex), BCD plus, packed six bits, or eight bits (UTF-16 for other languages than English)."""
    if coding == 0:
        said = data.hex() if data.strip(b"\0") else ""
    elif coding == 1:
        said = "".join("0123456789 -."[nibble : nibble + 1] for byte in data for nibble in (byte >> 4, byte & 15))
    elif coding == 2:
        said = six_bits(data)
    elif language in _ENGLISH:
        said = data.rstrip(b"\0\xff").decode("latin-1")
    else:
        said = data.decode("utf-16-le", errors="replace")
    return clean(said.rstrip("\0"), MAX_TEXT)
