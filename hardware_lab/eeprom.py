"""A transceiver's EEPROM: built (SFF-8472, SFF-8636, CMIS 5), loaded from a dump, and changed as a live one changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from hardware_lab.failure import LabError

BLOCK = 128  # half a page: the lower one, or an upper one
_PAGES = 256
_BANKS = 4
_LANES_OF_A_BANK = 8

Form = Literal["sfp", "qsfp28", "qsfp-dd"]
Monitor = Literal["temperature_c", "vcc_v", "bias_ma", "tx_mw", "rx_mw"]
Address = Literal["a0", "a2"]  # i2c 0x50 and 0x51
Space = Mapping[int, bytes]  # number to 128 bytes: 0 is the lower half, 1 + P + 256 * B is page P of bank B

LANES: dict[Form, int] = {"sfp": 1, "qsfp28": 4, "qsfp-dd": 8}


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """What a module answers, address by address; a space without blocks does not answer."""

    a0: Space = {}
    a2: Space = {}


class Levels(msgspec.Struct, frozen=True):
    """The thresholds of one monitor, in its own unit; in the order every standard has them."""

    high_alarm: float
    low_alarm: float
    high_warning: float
    low_warning: float


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """The monitors of one lane."""

    bias_ma: float = 6.5
    tx_mw: float = 0.6
    rx_mw: float = 0.5


LEVELS: dict[Monitor, Levels] = {
    "temperature_c": Levels(75, -5, 70, 0),
    "vcc_v": Levels(3.63, 2.97, 3.465, 3.135),
    "bias_ma": Levels(12, 1, 10, 2),
    "tx_mw": Levels(1.5, 0.1, 1.2, 0.15),
    "rx_mw": Levels(1.5, 0.02, 1.2, 0.05),
}


class Optic(msgspec.Struct, frozen=True, kw_only=True):
    """A module to build; the last lane stands for those after it."""

    form: Form = "sfp"
    vendor: str = "LABOPTIC"
    part: str = "LAB-SR"
    serial: str = "LAB0000001"
    revision: str = "A1"
    date: str = "250101"  # YYMMDD
    temperature_c: float = 38.0
    vcc_v: float = 3.3
    lanes: tuple[Lane, ...] = (Lane(),)
    levels: Mapping[Monitor, Levels] = msgspec.field(default_factory=LEVELS.copy)


class _Row(NamedTuple):
    """Where one monitor lies: its value, its four thresholds, and the flags of its first lane."""

    address: Address
    value: int
    scale: float  # units of the register in one of ours
    levels: int
    flags: tuple[int, ...]  # bits counted from the first byte's highest, in the order of Levels
    flag_step: int = 0  # from lane to lane
    signed: bool = False


def place(page: int, byte: int, bank: int = 0) -> int:
    """Offset in a space of a byte as the standards number it: 0 to 127 lower, 128 to 255 of a page."""
    return byte if byte < BLOCK else BLOCK * (page + _PAGES * bank) + byte


def _bits(*bytes_and_bits: tuple[int, int]) -> tuple[int, ...]:
    return tuple(byte * 8 + 7 - bit for byte, bit in bytes_and_bits)


def _sfp_row(value: int, scale: float, levels: int, flag: int, bit: int, *, signed: bool = False) -> _Row:
    flags = _bits((flag, bit), (flag, bit - 1), (flag + 4, bit), (flag + 4, bit - 1))
    return _Row("a2", value, scale, levels, flags, signed=signed)


def _qsfp_row(value: int, scale: float, levels: int, flag: int, *, signed: bool = False) -> _Row:
    flags = _bits((flag, 7), (flag, 6), (flag, 5), (flag, 4))
    return _Row("a0", value, scale, place(3, levels), flags, 4, signed)


def _cmis_lanes(value: int, scale: float, levels: int, flag: int) -> _Row:
    flags = _bits(*((place(0x11, flag + level), 0) for level in range(4)))
    return _Row("a0", place(0x11, value), scale, place(2, levels), flags, -1)


# SFF-8472 12.4 (A2h), SFF-8636 2.11 (lower page, page 03h), CMIS 5.4 (lower page, pages 02h and 11h).
_ROWS: dict[Form, dict[Monitor, _Row]] = {
    "sfp": {
        "temperature_c": _sfp_row(96, 256, 0, 112, 7, signed=True),
        "vcc_v": _sfp_row(98, 10_000, 8, 112, 5),
        "bias_ma": _sfp_row(100, 500, 16, 112, 3),
        "tx_mw": _sfp_row(102, 10_000, 24, 112, 1),
        "rx_mw": _sfp_row(104, 10_000, 32, 113, 7),
    },
    "qsfp28": {
        "temperature_c": _qsfp_row(22, 256, 128, 6, signed=True),
        "vcc_v": _qsfp_row(26, 10_000, 144, 7),
        "bias_ma": _qsfp_row(42, 500, 184, 11),
        "tx_mw": _qsfp_row(50, 10_000, 192, 13),
        "rx_mw": _qsfp_row(34, 10_000, 176, 9),
    },
    "qsfp-dd": {
        "temperature_c": _Row("a0", 14, 256, place(2, 128), _bits((9, 0), (9, 1), (9, 2), (9, 3)), signed=True),
        "vcc_v": _Row("a0", 16, 10_000, place(2, 136), _bits((9, 4), (9, 5), (9, 6), (9, 7))),
        "bias_ma": _cmis_lanes(170, 500, 184, 143),
        "tx_mw": _cmis_lanes(154, 10_000, 176, 139),
        "rx_mw": _cmis_lanes(186, 10_000, 192, 149),
    },
}
_OF_LANES: tuple[Monitor, ...] = ("bias_ma", "tx_mw", "rx_mw")
_FORMS: dict[int, Form] = {  # SFF-8024 table 4-1
    **dict.fromkeys((0x03, 0x0B), "sfp"),
    **dict.fromkeys((0x0C, 0x0D, 0x11), "qsfp28"),
    **dict.fromkeys((0x18, 0x19, 0x1B, *range(0x1E, 0x26)), "qsfp-dd"),
}

# First and last byte, and where their sum modulo 256 lies.
_SUMS: dict[Form, tuple[tuple[Address, int, int, int], ...]] = {
    "sfp": (("a0", 0, 62, 63), ("a0", 64, 94, 95), ("a2", 0, 94, 95)),
    "qsfp28": (("a0", 128, 190, 191), ("a0", 192, 222, 223)),
    "qsfp-dd": (
        ("a0", place(0, 128), place(0, 221), place(0, 222)),
        ("a0", place(1, 130), place(1, 254), place(1, 255)),
        ("a0", place(2, 128), place(2, 254), place(2, 255)),
    ),
}
_IDENTITY: dict[Form, int] = {"sfp": 20, "qsfp28": 148, "qsfp-dd": 129}  # the vendor's name


def peek(module: Module, address: Address, offset: int, length: int) -> bytes:
    """Bytes at an offset of a space, zero where nothing was written."""
    space: Space = getattr(module, address)
    blocks = range(offset // BLOCK, (offset + length - 1) // BLOCK + 1)
    run = b"".join(space.get(block, bytes(BLOCK)) for block in blocks)
    return run[offset % BLOCK :][:length]


def poke(module: Module, address: Address, offset: int, data: bytes) -> Module:
    """The module with these bytes at an offset of a space."""
    space: dict[int, bytes] = dict(getattr(module, address))
    while data:
        block, start = divmod(offset, BLOCK)
        old = space.get(block, bytes(BLOCK))
        part = data[: BLOCK - start]
        space[block] = old[:start] + part + old[start + len(part) :]
        offset, data = offset + len(part), data[len(part) :]
    return msgspec.structs.replace(module, **{address: space})


def form_of(module: Module) -> Form:
    """Which standard the module follows, by its identifier; raises LabError for one we do not know."""
    identifier = peek(module, "a0", 0, 1)[0]
    form = _FORMS.get(identifier)
    if form is None:
        raise LabError(f"a module with identifier {identifier:#04x} is neither SFP, QSFP nor CMIS")
    return form


def _row(module: Module, monitor: Monitor, lane: int) -> _Row:
    """The row of a monitor, moved to this lane and the module's own scale."""
    form = form_of(module)
    row = _ROWS[form][monitor]
    if form == "sfp" and peek(module, "a0", 92, 1)[0] & 0x10:
        raise LabError("the module is externally calibrated: its registers are not in units")
    if monitor == "bias_ma" and form == "qsfp-dd":
        row = row._replace(scale=row.scale / (1 << (peek(module, "a0", place(1, 160), 1)[0] >> 3 & 3)))
    if monitor not in _OF_LANES:
        return row
    lanes = _LANES_OF_A_BANK * _BANKS if form == "qsfp-dd" else LANES[form]
    if not 0 <= lane < lanes:
        raise LabError(f"lane {lane} is not there: {form} has at most {lanes}")
    bank, lane = divmod(lane, _LANES_OF_A_BANK)
    shift = bank * BLOCK * _PAGES
    flags = tuple(bit + shift * 8 + lane * row.flag_step for bit in row.flags)
    return row._replace(value=row.value + shift + 2 * lane, flags=flags)


def _raw(row: _Row, value: float) -> bytes:
    try:
        return round(value * row.scale).to_bytes(2, "big", signed=row.signed)
    except (OverflowError, ValueError):
        raise LabError(f"{value} does not fit: a register has 16 bits of 1/{row.scale:g}") from None


def _flagged(module: Module, row: _Row, value: int) -> Module:
    """The flags as this value asks for; none where the thresholds are not set."""
    raw = peek(module, row.address, row.levels, 8)
    high_alarm, low_alarm, high, low = (int.from_bytes(raw[i : i + 2], "big", signed=row.signed) for i in (0, 2, 4, 6))
    is_set = high_alarm > low_alarm and high > low
    states = (value > high_alarm, value < low_alarm, value > high, value < low)
    for bit, state in zip(row.flags, states, strict=True):
        old, mask = peek(module, row.address, bit // 8, 1)[0], 0x80 >> bit % 8
        module = poke(module, row.address, bit // 8, bytes([old | mask if state and is_set else old & ~mask]))
    return module


def with_monitor(module: Module, monitor: Monitor, value: float, lane: int = 0) -> Module:
    """The module measuring this (°C, V, mA, mW; lanes from 0), its alarm flags by its thresholds; raises LabError."""
    row = _row(module, monitor, lane)
    raw = _raw(row, value)
    return _flagged(poke(module, row.address, row.value, raw), row, int.from_bytes(raw, "big", signed=row.signed))


def measured(module: Module, monitor: Monitor, lane: int = 0) -> float:
    """What the module measures (°C, V, mA, mW; lanes from 0); raises LabError."""
    row = _row(module, monitor, lane)
    return int.from_bytes(peek(module, row.address, row.value, 2), "big", signed=row.signed) / row.scale


def with_sums(module: Module) -> Module:
    """The module with all its checksums right."""
    for address, first, last, at in _SUMS[form_of(module)]:
        total = sum(peek(module, address, first, last - first + 1))
        module = poke(module, address, at, bytes([total & 0xFF]))
    return module


def corrupted(module: Module) -> Module:
    """The module with five bytes of its vendor's name inverted, an odd number: the checksum is always wrong then."""
    at = _IDENTITY[form_of(module)]
    return poke(module, "a0", at, bytes(byte ^ 0xFF for byte in peek(module, "a0", at, 5)))


def _text(text: str, width: int) -> bytes:
    if not text.isascii() or not text.isprintable() or len(text) > width:
        raise LabError(f"{text!r} is not at most {width} printable ASCII characters")
    return text.encode().ljust(width)


_OUI = bytes((0x02, 0x1A, 0xB0))  # locally administered


def _sfp(optic: Optic) -> dict[tuple[Address, int], bytes]:
    """10GBASE-SR, LC, 850 nm, internally calibrated diagnostics."""
    return {
        ("a0", 0): bytes((0x03, 0x04, 0x07, 0x10)),  # SFP, 2-wire, LC, 10GBASE-SR
        ("a0", 11): bytes((0x06, 103)),  # 64B/66B, 10.3 GBd
        ("a0", 16): bytes((8, 3, 40, 30)),  # OM2, OM1, OM4, OM3, 10 m
        ("a0", 20): _text(optic.vendor, 16),
        ("a0", 37): _OUI + _text(optic.part, 16) + _text(optic.revision, 4) + (850).to_bytes(2, "big"),
        ("a0", 64): bytes((0x00, 0x1A)),  # TX_DISABLE, TX_FAULT, LOS
        ("a0", 68): _text(optic.serial, 16) + _text(optic.date, 8),
        ("a0", 92): bytes((0x68, 0xF0, 0x08)),  # diagnostics, calibrated, average power; flags; revision 12.3
        ("a2", 68): bytes((0x3F, 0x80, 0, 0)),  # Rx_PWR(1) is 1.0
        ("a2", 76): bytes((1, 0, 0, 0)) * 4,  # slopes 1, offsets 0
    }


def _qsfp28(optic: Optic) -> dict[tuple[Address, int], bytes]:
    """100GBASE-SR4, MPO, 850 nm."""
    return {
        ("a0", 0): bytes((0x11, 0x08, 0x00)),  # QSFP28, SFF-8636 2.8, paged
        ("a0", 128): bytes((0x11, 0xCC, 0x0C, 0x80)),  # power class 4, CDRs, MPO, extended compliance
        ("a0", 139): bytes((0x05, 0xFF, 0, 0, 35, 0, 0, 50, 0x00)),  # 64B/66B, rate at 222, OM3, OM4, 2 m, VCSEL
        ("a0", 148): _text(optic.vendor, 16),
        ("a0", 165): _OUI + _text(optic.part, 16) + _text(optic.revision, 2),
        ("a0", 186): (17_000).to_bytes(2, "big") + (2_000).to_bytes(2, "big") + bytes((70,)),  # 850 nm, 10 nm, 70 °C
        ("a0", 192): bytes((0x02,)),  # 100GBASE-SR4
        ("a0", 196): _text(optic.serial, 16) + _text(optic.date, 8),
        ("a0", 220): bytes((0x3C, 0x00, 103)),  # monitors: temperature, Vcc, average Rx, Tx; 25.75 GBd
    }


def _cmis(optic: Optic) -> dict[tuple[Address, int], bytes]:
    """400GBASE-SR8 in QSFP-DD, CMIS 5.0, ready with one data path of eight lanes."""
    return {
        ("a0", 0): bytes((0x18, 0x50, 0x00, 0x07)),  # QSFP-DD, 5.0, paged, ready
        ("a0", 39): bytes((1, 2)),  # firmware
        ("a0", 85): bytes((0x01, 0x11, 0x10, 0x88, 0x01, 0xFF)),  # MMF; 400GAUI-8 to 400GBASE-SR8 on lane 1; no more
        ("a0", place(0, 128)): bytes((0x18,)) + _text(optic.vendor, 16) + _OUI + _text(optic.part, 16),
        ("a0", place(0, 164)): _text(optic.revision, 2) + _text(optic.serial, 16) + _text(optic.date, 8) + b" " * 10,
        ("a0", place(0, 200)): bytes((0x80, 40, 0x00, 0x28)),  # power class 5, 10 W, MPO 1x16
        ("a0", place(1, 130)): bytes((1, 0, 0, 0, 50, 35, 0)),  # hardware 1.0, OM4, OM3, 2 m
        ("a0", place(1, 138)): (17_000).to_bytes(2, "big") + (2_000).to_bytes(2, "big"),  # 850 nm, 10 nm
        ("a0", place(1, 146)): bytes((70, 0, 0, 0, 0, 0x10)),  # 0 to 70 °C, average Rx power
        ("a0", place(1, 157)): bytes((0x07, 0x06, 0x03, 0x07)),  # flags and monitors there are; bias as it is
        ("a0", place(1, 176)): bytes((0x01,)),  # the application starts on media lane 1
        ("a0", place(0x10, 145)): bytes((0x10,)) * 8,  # application 1 on every lane
        ("a0", place(0x11, 128)): bytes((0x44,)) * 4 + b"\xff\xff",  # activated, outputs valid
        ("a0", place(0x11, 202)): bytes((0x11,)) * 4 + bytes((0x10,)) * 8,  # configured, application 1
    }


_FIELDS = {"sfp": _sfp, "qsfp28": _qsfp28, "qsfp-dd": _cmis}


def build(optic: Optic) -> Module:
    """A module's image with right checksums and flags; raises LabError for text or values that do not fit."""
    module = Module()
    for (address, offset), data in _FIELDS[optic.form](optic).items():
        module = poke(module, address, offset, data)
    for monitor, row in _ROWS[optic.form].items():
        levels = optic.levels.get(monitor)
        raw = b"".join(_raw(row, level) for level in msgspec.structs.astuple(levels)) if levels else bytes(8)
        module = poke(module, row.address, row.levels, raw)
    module = with_sums(module)
    module = with_monitor(module, "temperature_c", optic.temperature_c)
    module = with_monitor(module, "vcc_v", optic.vcc_v)
    lanes = optic.lanes or (Lane(),)
    for number in range(LANES[optic.form]):
        lane = lanes[min(number, len(lanes) - 1)]
        for monitor in _OF_LANES:
            module = with_monitor(module, monitor, getattr(lane, monitor), number)
    return module


class _Segment(msgspec.Struct):
    i2c: str
    bank: int
    page: int
    offset: int
    length: int
    file_offset: int


class _Sidecar(msgspec.Struct):
    segments: list[_Segment]


def load(path: Path) -> Module:
    """A module from a dump NAME.bin, whose NAME.json says which page lies where in it; raises LabError."""
    try:
        sidecar = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=_Sidecar)
        dump = path.read_bytes()
    except OSError as error:
        raise LabError(f"{error.filename}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise LabError(f"{path.with_suffix('.json')}: {error}") from None
    module = Module()
    for segment in sidecar.segments:
        data = dump[segment.file_offset : segment.file_offset + segment.length]
        if len(data) != segment.length:
            raise LabError(f"{path}: page {segment.page} lies beyond its end")
        address: Address = "a2" if segment.i2c == "0x51" else "a0"
        module = poke(module, address, place(segment.page, segment.offset, segment.bank), data)
    return module
