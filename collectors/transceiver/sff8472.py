"""SFP, SFP+, SFP28 (SFF-8472 12.4, tunable ones SFF-8690): A0h says what it is, A2h what it measures."""

import math
import struct
from typing import NamedTuple

from collectors.transceiver.fields import (
    CELSIUS,
    MA,
    MW,
    QUARTET_S,
    QUARTET_U,
    VOLT,
    flags,
    oui,
    s16,
    summed,
    text,
    u16,
)
from collectors.transceiver.image import A2, BLOCK, LOWER, Image
from collectors.transceiver.says import Dom, Flags, Id, Lane, Levels, Module, Tuning

BASE, EXTENDED = 64, 96  # bytes of A0h that identity and its second half need
MONITORS = 120  # bytes of A2h that monitors and flags need

_FIVE = struct.Struct(">hHHHH")
_FLOATS = struct.Struct(">5f")
_CONSTANTS = {"txi": 76, "txp": 80, "t": 84, "v": 88}


class Calibration(NamedTuple):
    """External calibration: slope and offset of four monitors, the polynomial of Rx power from its constant up."""

    linear: dict[str, tuple[float, int]]
    rx: tuple[float, ...] | None  # None: the constants are no numbers


def decode(image: Image) -> Module:
    """All that an SFP says; what was not read is named in `dropped`."""
    module = Module("sff8472", dropped=list(image.dropped))
    a0 = image.block(LOWER)
    if len(a0) < BASE:
        module.dropped.append(f"A0h has {len(a0)} bytes, identity needs {BASE}")
        return module
    module.id, module.checksum = _base(a0), {"cc_base": summed(a0, 0, 62, 63)}
    cable = bool(a0[8] & 0x0C)
    module.codes = a0[3:11].hex()
    module.len = {
        "smf_km": a0[14],
        "smf_100m": a0[15],
        "om2_m": a0[16] * 10,
        "om1_m": a0[17] * 10,
        "om3_m": a0[19] * 10,
        "cable_m": a0[18] if cable else None,
        "byte18": a0[18],
    }
    module.wavelength_nm = None if cable else u16(a0, 60)
    if len(a0) < EXTENDED:
        module.dropped.append(f"A0h has {len(a0)} bytes: no serial number, date, diagnostics type")
        return module
    _extended(module, module.id, a0)
    _diagnostics(module, image, a0)
    return module


def _base(a0: bytes) -> Id:
    return Id(
        identifier=a0[0],
        ext_identifier=a0[1],
        connector=a0[2],
        encoding=a0[11],
        vendor=text(a0[20:36]),
        oui=oui(a0[37:40]),
        part=text(a0[40:56]),
        rev=text(a0[56:60]),
        br_mbd=a0[12] * 100,
        ext_spec=a0[36],
    )


def _extended(module: Module, identity: Id, a0: bytes) -> None:
    if a0[12] == 0xFF:
        identity.br_mbd = a0[66] * 250
    identity.serial, identity.date = text(a0[68:84]), text(a0[84:92])
    module.options = a0[64:66].hex()
    kind = a0[92]
    module.ddm = {
        "implemented": bool(kind & 0x40),
        "internal": bool(kind & 0x20),
        "external": bool(kind & 0x10),
        "avg_power": bool(kind & 0x08),
        "addr_change": bool(kind & 0x04),
    }
    module.checksum["cc_ext"] = summed(a0, 64, 94, 95)


def _diagnostics(module: Module, image: Image, a0: bytes) -> None:
    if not module.ddm["implemented"]:
        return
    a2 = image.block(LOWER, address=A2)
    if len(a2) < MONITORS:
        module.dropped.append(f"A2h has {len(a2)} bytes: no diagnostics, which A0h announces")
        return
    if a2[:BASE] == a0[:BASE]:
        module.doubt = "A2h is a copy of A0h"
    calibration = parse_calibration(a2) if module.ddm["external"] else None
    module.checksum["cc_dmi"] = summed(a2, 0, 94, 95)
    module.dom = monitors(a2, calibration)
    if a0[64] & 4:  # a cooled laser
        module.dom.tec_ma, module.dom.laser_temp_or_wl_raw = cooling(a2)
    module.cal = _constants(a2) if calibration else {}
    module.thr = thresholds(a2, calibration)
    module.flags = {**alarm_flags(a2)}
    module.flags_implemented = bool(a0[93] & 0x80)
    module.status = status(a2)
    module.tunable = _tunable(image.block(2, address=A2)) if a0[65] & 0x40 else None


def parse_calibration(a2: bytes) -> Calibration:
    """The constants of external calibration; numbers that are none leave Rx power without a value."""
    rx = tuple(reversed(_FLOATS.unpack_from(a2, 56)))
    linear = {name: (u16(a2, at) / 256, s16(a2, at + 2)) for name, at in _CONSTANTS.items()}
    return Calibration(linear, rx if all(map(math.isfinite, rx)) else None)


def recalled(constants: dict[str, list[float | None]]) -> Calibration:
    """The calibration of a module that was decoded before, from its `cal`."""
    rx = tuple(value for value in constants["rx"] if value is not None)
    linear = {name: (constants[name][0] or 0.0, int(constants[name][1] or 0)) for name in _CONSTANTS}
    return Calibration(linear, rx if len(rx) == len(constants["rx"]) else None)


def cooling(a2: bytes) -> tuple[float, int]:
    """Of a cooled laser the current of its TEC in mA, and its temperature or wavelength, raw."""
    return s16(a2, 108) * 0.1, u16(a2, 106)


def _constants(a2: bytes) -> dict[str, list[float | None]]:
    rx = reversed(_FLOATS.unpack_from(a2, 56))
    linear: dict[str, list[float | None]] = {
        name: [u16(a2, at) / 256, s16(a2, at + 2)] for name, at in _CONSTANTS.items()
    }
    return {"rx": [value if math.isfinite(value) else None for value in rx], **linear}


def monitors(a2: bytes, calibration: Calibration | None) -> Dom:
    """Temperature, supply and the one lane; `a2` begins at byte 0 and holds `MONITORS` bytes."""
    temp, vcc, bias, tx, rx = _FIVE.unpack_from(a2, 96)
    if calibration is None:
        return Dom(temp * CELSIUS, vcc * VOLT, [Lane(rx * MW, bias * MA, tx * MW)])
    linear = calibration.linear
    lane = Lane(
        received_mw(rx, calibration.rx),
        max(0.0, _line(bias, linear["txi"]) * MA),
        max(0.0, _line(tx, linear["txp"]) * MW),
    )
    return Dom(_line(temp, linear["t"]) * CELSIUS, _line(vcc, linear["v"]) * VOLT, [lane])


def _line(raw: int, constants: tuple[float, int]) -> float:
    return constants[0] * raw + constants[1]


def received_mw(raw: int, polynomial: tuple[float, ...] | None) -> float | None:
    """Externally calibrated Rx power in mW, never negative; None when it cannot be computed."""
    if polynomial is None:
        return None
    value = 0.0
    for coefficient in reversed(polynomial):
        value = value * raw + coefficient
    return max(0.0, value * MW) if math.isfinite(value) else None


def thresholds(a2: bytes, calibration: Calibration | None) -> dict[str, Levels]:
    """The thresholds of the five monitors, calibrated as the monitors are."""
    temp, vcc = QUARTET_S.unpack_from(a2, 0), QUARTET_U.unpack_from(a2, 8)
    bias, tx, rx = (QUARTET_U.unpack_from(a2, at) for at in (16, 24, 32))
    if calibration is None:
        return {
            "temp": Levels(*(raw * CELSIUS for raw in temp)),
            "vcc": Levels(*(raw * VOLT for raw in vcc)),
            "tx_bias": Levels(*(raw * MA for raw in bias)),
            "tx_power": Levels(*(raw * MW for raw in tx)),
            "rx_power": Levels(*(raw * MW for raw in rx)),
        }
    linear = calibration.linear
    return {
        "temp": Levels(*(_line(raw, linear["t"]) * CELSIUS for raw in temp)),
        "vcc": Levels(*(_line(raw, linear["v"]) * VOLT for raw in vcc)),
        "tx_bias": Levels(*(max(0.0, _line(raw, linear["txi"]) * MA) for raw in bias)),
        "tx_power": Levels(*(max(0.0, _line(raw, linear["txp"]) * MW) for raw in tx)),
        "rx_power": Levels(*(received_mw(raw, calibration.rx) for raw in rx)),
    }


def alarm_flags(a2: bytes) -> dict[str, Flags]:
    """Bytes 112-113 are alarms, 116-117 warnings, high before low from the highest bit down."""
    alarms, warnings = u16(a2, 112), u16(a2, 116)
    found: dict[str, Flags] = {}
    for name, shift in (("temp", 14), ("vcc", 12), ("tx_bias", 10), ("tx_power", 8), ("rx_power", 6)):
        found[name] = flags((alarms >> shift & 3) << 2 | warnings >> shift & 3)
    return found


def status(a2: bytes) -> dict[str, bool]:
    """Byte 110."""
    bits = a2[110]
    return {
        "tx_disable": bool(bits & 0x80),
        "soft_tx_disable": bool(bits & 0x40),
        "tx_fault": bool(bits & 4),
        "rx_los": bool(bits & 2),
        "data_not_ready": bool(bits & 1),
    }


def _tunable(page: bytes) -> Tuning | None:
    """Page 02h of A2h (SFF-8690); byte 128 is its first."""
    if len(page) < BLOCK:
        return None
    return Tuning(
        first_thz=u16(page, 4) + u16(page, 6) / 10_000,
        last_thz=u16(page, 8) + u16(page, 10) / 10_000,
        grid_ghz=s16(page, 12) / 10,
        channel=u16(page, 16),
        wavelength_nm=u16(page, 18) / 20,
        freq_error_ghz=s16(page, 24) / 10,
        wavelength_error_nm=s16(page, 26) / 200,
        tec_fault=bool(page[40] & 0x40),
        unlocked=bool(page[40] & 0x20),
        tuning=bool(page[40] & 0x10),
        latched=page[44],
    )
