"""QSFP+, QSFP28 (SFF-8636 2.11 and its forerunner SFF-8436): lower page, page 00h, thresholds on page 03h."""

import struct

from collectors.transceiver.fields import CELSIUS, MA, MW, VOLT, flags, levels, oui, summed, text, u16
from collectors.transceiver.image import LOWER, Image
from collectors.transceiver.says import Dom, Flags, Id, Lane, Levels, Module

BASE, EXTENDED = 64, 96  # bytes of page 00h that identity and its second half need
MONITORS = 64  # bytes of the lower page that monitors and flags need
LANES = 4
COPPER = 10  # the lowest transmitter technology that is a cable
CABLE_CONNECTOR = 0x23  # no separable connector: an active optical cable

_LOWER = struct.Struct(">h2xH")
_LANES = struct.Struct(">12H")
# What nearly every poll says, made once.
_NO_LOSS: list[dict[str, bool]] = [dict.fromkeys(("tx_los", "rx_los", "tx_fault", "tx_lol", "rx_lol"), False)] * LANES
_NO_ALARM = [flags(0)] * LANES


def decode(image: Image) -> Module:
    """All that a QSFP says; what was not read is named in `dropped`."""
    module = Module("sff8636", dropped=list(image.dropped))
    lower, upper = image.block(LOWER), image.block(0)
    if len(upper) >= BASE:
        module.id = _base(module, upper)
        _extended(module, module.id, upper)
    else:
        module.dropped.append(f"page 00h has {len(upper)} bytes: no identity")
    if len(lower) < MONITORS:
        module.dropped.append(f"the lower page has {len(lower)} bytes: no monitors, no flags")
        return module
    module.rev, module.flat, module.data_not_ready = lower[1], bool(lower[2] & 4), bool(lower[2] & 1)
    module.dom = monitors(lower)
    module.lane_flags = lane_flags(lower)
    module.flags = alarm_flags(lower)
    page = image.block(3)
    if not module.flat and len(page) >= 72:
        module.thr = thresholds(page)
    return module


def _base(module: Module, upper: bytes) -> Id:
    """The first half of page 00h; its byte 0 is byte 128 of the standard."""
    copper = upper[19] >> 4 >= COPPER
    cable = copper or upper[2] == CABLE_CONNECTOR
    module.codes, module.tx_tech = upper[3:11].hex(), upper[19] >> 4
    module.power_class, module.max_case_c = power_class(upper[1]), upper[62] or 70
    module.len = {
        "smf_km": upper[14],
        "om3_m": upper[15] * 2,
        "om2_m": upper[16],
        "om1_m": None if copper else upper[17],
        "cable_m": upper[18] if cable else None,
        "om4_m": None if cable else upper[18] * 2,
        "byte146": upper[18],
    }
    if copper:
        module.attn_db = {"g2_5": upper[58], "g5": upper[59], "g7": upper[60], "g12_9": upper[61]}
    else:
        module.wavelength_nm, module.wavelength_tol_nm = u16(upper, 58) / 20, u16(upper, 60) / 200
    module.checksum["cc_base"] = summed(upper, 0, 62, 63)
    return Id(
        identifier=upper[0],
        ext_identifier=upper[1],
        connector=upper[2],
        encoding=upper[11],
        vendor=text(upper[20:36]),
        oui=oui(upper[37:40]),
        part=text(upper[40:56]),
        rev=text(upper[56:58]),
        br_mbd=upper[12] * 100,
    )


def _extended(module: Module, identity: Id, upper: bytes) -> None:
    """The second half of page 00h."""
    if len(upper) < EXTENDED:
        module.dropped.append(f"page 00h has {len(upper)} bytes: no serial number, date, options")
        return
    identity.serial, identity.date, identity.ext_spec = text(upper[68:84]), text(upper[84:92]), upper[64]
    if upper[12] == 0xFF:
        identity.br_mbd = upper[94] * 250
    module.options, module.monitors = upper[65:68].hex(), upper[92]
    module.checksum["cc_ext"] = summed(upper, 64, 94, 95)


def power_class(extended: int) -> int:
    """1 to 8, of the extended identifier."""
    if extended & 0x20:
        return 8
    low = extended >> 6
    return 4 + (extended & 3) if low == 3 and extended & 3 else low + 1


def monitors(lower: bytes) -> Dom:
    """Temperature, supply and four lanes; `lower` holds `MONITORS` bytes."""
    temp, vcc = _LOWER.unpack_from(lower, 22)
    raw = _LANES.unpack_from(lower, 34)
    lanes = [Lane(raw[lane] * MW, raw[lane + 4] * MA, raw[lane + 8] * MW) for lane in range(LANES)]
    return Dom(temp * CELSIUS, vcc * VOLT, lanes)


def lane_flags(lower: bytes) -> list[dict[str, bool]]:
    """Loss of signal, faults and loss of lock of the four lanes (bytes 3-5)."""
    signal, fault, lock = lower[3], lower[4], lower[5]
    if not (signal or fault or lock):
        return _NO_LOSS
    return [
        {
            "tx_los": bool(signal >> 4 + lane & 1),
            "rx_los": bool(signal >> lane & 1),
            "tx_fault": bool(fault >> lane & 1),
            "tx_lol": bool(lock >> 4 + lane & 1),
            "rx_lol": bool(lock >> lane & 1),
        }
        for lane in range(LANES)
    ]


def alarm_flags(lower: bytes) -> dict[str, Flags | list[Flags]]:
    """Bytes 6-14; of a pair of bytes lane 1 has the highest nibble."""
    found: dict[str, Flags | list[Flags]] = {"temp": flags(lower[6] >> 4), "vcc": flags(lower[7] >> 4)}
    for name, at in (("rx_power", 9), ("tx_bias", 11), ("tx_power", 13)):
        bits = u16(lower, at)
        found[name] = [flags(bits >> 12 - 4 * lane) for lane in range(LANES)] if bits else _NO_ALARM
    return found


def thresholds(page: bytes) -> dict[str, Levels]:
    """Page 03h; its byte 0 is byte 128 of the standard."""
    return {
        "temp": levels(page, 0, CELSIUS, signed=True),
        "vcc": levels(page, 16, VOLT),
        "rx_power": levels(page, 48, MW),
        "tx_bias": levels(page, 56, MA),
        "tx_power": levels(page, 64, MW),
    }
