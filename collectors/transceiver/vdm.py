"""Versatile diagnostics of CMIS modules, C-CMIS among them: pages 20h to 2Ch.

Which observable an instance holds is said on pages 20h-23h; a value is on the page four further, at the same place.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

from collectors.transceiver.fields import QUARTET_U, flags
from collectors.transceiver.image import A0, BLOCK, Blocks, Image
from collectors.transceiver.says import Flags, Levels, Number, Vdm

GROUPS = 4
INSTANCES = 64  # of a group
SETS = 16  # threshold sets of a group
_WORDS = struct.Struct(">64H")


class Kind(NamedTuple):
    """An observable: its name with its unit, and how 16 bits become a number."""

    name: str
    value: Callable[[int], Number]


def f16(raw: int) -> float:
    """CMIS's own float: 11 bits of mantissa, 5 of exponent biased by 24."""
    return (raw & 0x7FF) * 10.0 ** ((raw >> 11) - 24)


def _signed(raw: int) -> int:
    return raw - 0x10000 if raw & 0x8000 else raw


def _unsigned_by(scale: float) -> Callable[[int], Number]:
    return lambda raw: raw * scale


def _signed_by(scale: float) -> Callable[[int], Number]:
    return lambda raw: _signed(raw) * scale


def _kinds() -> dict[int, Kind]:
    found = {
        1: Kind("laser_age_pct", _unsigned_by(1)),
        2: Kind("tec_pct", _signed_by(100 / 32767)),
        3: Kind("laser_freq_error_mhz", _signed_by(10)),
        4: Kind("laser_temp_c", _signed_by(1 / 256)),
        5: Kind("snr_media_db", _unsigned_by(1 / 256)),
        6: Kind("snr_host_db", _unsigned_by(1 / 256)),
        7: Kind("pam4_ltp_media_db", _unsigned_by(1 / 256)),
        8: Kind("pam4_ltp_host_db", _unsigned_by(1 / 256)),
        25: Kind("ferc_total_media", f16),
        26: Kind("ferc_total_host", f16),
        83: Kind("vcc12_v", _unsigned_by(0.00025)),
        84: Kind("els_input_power_dbm", _signed_by(0.01)),
        134: Kind("cd_short_ps_nm", _signed_by(1)),
        135: Kind("cd_long_ps_nm", _signed_by(20)),
        136: Kind("dgd_ps", _unsigned_by(0.01)),
        137: Kind("sopmd_ps2", _unsigned_by(0.01)),
        138: Kind("pdl_db", _unsigned_by(0.1)),
        139: Kind("osnr_db", _unsigned_by(0.1)),
        140: Kind("esnr_db", _unsigned_by(0.1)),
        141: Kind("cfo_mhz", _signed_by(1)),
        142: Kind("evm_pct", _unsigned_by(100 / 65535)),
        143: Kind("tx_power_dbm", _signed_by(0.01)),
        144: Kind("rx_total_power_dbm", _signed_by(0.01)),
        145: Kind("rx_signal_power_dbm", _signed_by(0.01)),
        146: Kind("sop_roc_krad_s", _unsigned_by(1)),
        147: Kind("mer_db", _unsigned_by(0.1)),
    }
    for first, stem, value in ((9, "prefec_ber", f16), (17, "ferc", f16), (27, "sewmax", _unsigned_by(1))):
        for step, statistic in enumerate(("min", "max", "avg", "cur")):
            found[first + 2 * step] = Kind(f"{stem}_{statistic}_media", value)
            found[first + 2 * step + 1] = Kind(f"{stem}_{statistic}_host", value)
    for at, rail in enumerate(("vcc1p5", "vcc1p8", "vcc1p2", "vcc0p9", "vcc0p75", "vcc0p65")):
        found[77 + at] = Kind(f"{rail}_v", _unsigned_by(0.0001))
    for at, bias in enumerate(("xi", "xq", "yi", "yq", "xp", "yp")):
        found[128 + at] = Kind(f"mod_bias_{bias}_pct", _unsigned_by(100 / 65535))
    return found


KINDS = _kinds()


def decode(image: Image, dropped: list[str]) -> list[Vdm]:
    """Every observable that the descriptors name, with value, thresholds and flags where those pages were read."""
    found: list[Vdm] = []
    for group in range(GROUPS):
        descriptors = image.block(0x20 + group)
        if not descriptors:
            continue
        if len(descriptors) < BLOCK:
            dropped.append(f"page {0x20 + group:x}h has {len(descriptors)} bytes: no diagnostics of it")
            continue
        found += decode_group(group, descriptors, image.block(0x24 + group), image.block(0x28 + group))
    _add_flags(found, image.block(0x2C))
    return found


def decode_group(group: int, descriptors: bytes, values: bytes, thresholds: bytes) -> list[Vdm]:
    """The 64 instances of one descriptor page; pages that are not whole count as not read."""
    words = _WORDS.unpack(values) if len(values) == BLOCK else ()
    limits = thresholds if len(thresholds) == BLOCK else b""
    found: list[Vdm] = []
    known: dict[tuple[int, int], Levels] = {}
    for at in range(INSTANCES):
        number = descriptors[2 * at + 1]
        if not number:
            continue
        where = descriptors[2 * at]
        one = Vdm(group * INSTANCES + at + 1, number, (where & 15) + 1, group * SETS + (where >> 4) + 1)
        one.raw = words[at] if words else None
        kind = KINDS.get(number)
        if kind is not None:
            one.name = kind.name
            one.value = kind.value(words[at]) if words else None
            one.thr = _levels(kind, number, where >> 4, limits, known) if limits else None
        found.append(one)
    return found


WANTED = {  # observables worth a sample: name -> metric without its collector
    "snr_media_db": "snr_media_db",
    "snr_host_db": "snr_host_db",
    "prefec_ber_cur_media": "prefec_ber_media",
    "prefec_ber_cur_host": "prefec_ber_host",
    "ferc_cur_media": "frame_error_ratio_media",
    "ferc_cur_host": "frame_error_ratio_host",
    "laser_age_pct": "laser_age_percent",
    "laser_freq_error_mhz": "laser_frequency_error_mhz",
    "osnr_db": "osnr_db",
    "esnr_db": "esnr_db",
    "pdl_db": "pdl_db",
    "dgd_ps": "dgd_ps",
    "cfo_mhz": "carrier_offset_mhz",
    "rx_total_power_dbm": "rx_total_power_dbm",
    "rx_signal_power_dbm": "rx_signal_power_dbm",
}


def refresh(known: list[Vdm], blocks: Blocks) -> list[Vdm]:
    """Anew those instances of a decoded module that are worth a sample and whose page was read."""
    pages = {
        group: _WORDS.unpack(page)
        for group in range(GROUPS)
        if len(page := blocks.get((A0, 0, 0x24 + group), b"")) == BLOCK
    }
    found: list[Vdm] = []
    for one in known if pages else ():
        group, at = divmod(one.instance - 1, INSTANCES)
        if one.name in WANTED and group in pages:
            raw = pages[group][at]
            value = KINDS[one.type].value(raw)
            found.append(Vdm(one.instance, one.type, one.lane, one.thr_set, one.name, value, raw))
    return found


def _levels(kind: Kind, number: int, at: int, limits: bytes, known: dict[tuple[int, int], Levels]) -> Levels:
    """A threshold set read as this type; instances of one type share theirs."""
    if (number, at) not in known:
        known[number, at] = Levels(*map(kind.value, QUARTET_U.unpack_from(limits, 8 * at)))
    return known[number, at]


def _add_flags(found: list[Vdm], page: bytes) -> None:
    """A nibble per instance, the odd one's the lower; bit 0 is the high alarm, bit 3 the low warning."""
    if len(page) < BLOCK:
        return
    for one in found:
        bits = page[(one.instance - 1) // 2] >> 4 * ((one.instance - 1) % 2) & 15
        one.flags = _FLAGS[bits]


_FLAGS: list[Flags] = [flags((b & 1) << 3 | (b & 2) << 1 | (b & 4) >> 1 | b >> 3) for b in range(16)]
