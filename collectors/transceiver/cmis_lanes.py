"""The lanes of a CMIS module: data paths, monitors and flags (page 11h of each bank), lasers (page 12h), coherent
performance (page 35h)."""

import struct

from collectors.transceiver.fields import MA, MW, flags, lane_flags
from collectors.transceiver.image import BLOCK, Image
from collectors.transceiver.says import Flags, Lane, Laser, Module

LANES = 8  # of a bank
MAX_BANKS = 4
MONITORS = 88  # bytes of page 11h that state, flags, monitors and applications need: those from 128 to 215

_MONITORS = struct.Struct(">24H")
_CHANNELS, _FREQUENCIES, _TARGETS = struct.Struct(">8h"), struct.Struct(">8I"), struct.Struct(">8h")
# Offsets in page 11h, whose byte 0 is byte 128 of the standard: a bit per lane.
LANE_FLAGS = {"tx_fault": 7, "tx_los": 8, "tx_lol": 9, "tx_eq_fail": 10, "rx_los": 19, "rx_lol": 20}
ALARMS = {"tx_power": 11, "tx_bias": 15, "rx_power": 21}  # four bytes each: high alarm, low alarm, high, low warning
_NO_LOSS: list[dict[str, bool]] = [dict.fromkeys(LANE_FLAGS, False)] * LANES  # what nearly every poll says, made once
_NO_ALARM = [flags(0)] * LANES


def decode(module: Module, image: Image) -> None:
    """Add every bank that was read; of one that is cut nothing."""
    alarms: dict[str, list[Flags]] = {}
    for bank in range(MAX_BANKS):
        page = image.block(0x11, bank)
        if not page:
            continue
        if len(page) < MONITORS:
            module.dropped.append(f"page 11h of bank {bank} has {len(page)} bytes: no lanes of it")
            continue
        _states(module, page)
        if module.dom:
            module.dom.lanes += monitors(page, module.bias_mult or 1)
        module.lane_flags += flags_of_lanes(page)
        for name, found in alarm_flags(page).items():
            alarms.setdefault(name, []).extend(found)
        module.laser += lasers(image.block(0x12, bank))
    module.flags.update(alarms)


def _states(module: Module, page: bytes) -> None:
    module.dp_state += nibbles(page[0:4])
    module.rx_output_valid += _bits(page[4])
    module.tx_output_valid += _bits(page[5])
    module.config_status += nibbles(page[74:78])
    module.active_app += [byte >> 4 for byte in page[78:86]]


def nibbles(block: bytes) -> list[int]:
    """Two numbers a byte, the lower half first."""
    return [half for byte in block for half in (byte & 15, byte >> 4)]


def _bits(mask: int) -> list[bool]:
    return [bool(mask >> lane & 1) for lane in range(LANES)]


def monitors(page: bytes, multiplier: int) -> list[Lane]:
    """Tx power, bias and Rx power of eight lanes; `page` holds `MONITORS` bytes."""
    raw = _MONITORS.unpack_from(page, 26)
    step = MA * multiplier
    return [Lane(raw[lane + 16] * MW, raw[lane + 8] * step, raw[lane] * MW) for lane in range(LANES)]


def flags_of_lanes(page: bytes) -> list[dict[str, bool]]:
    """Faults, loss of signal and loss of lock."""
    if not any(map(page.__getitem__, LANE_FLAGS.values())):
        return _NO_LOSS
    return [{name: bool(page[at] >> lane & 1) for name, at in LANE_FLAGS.items()} for lane in range(LANES)]


def alarm_flags(page: bytes) -> dict[str, list[Flags]]:
    """The flags of the lanes' monitors."""
    found: dict[str, list[Flags]] = {}
    for name, at in ALARMS.items():
        masks = page[at : at + 4]
        found[name] = [lane_flags(masks, lane) for lane in range(LANES)] if any(masks) else _NO_ALARM
    return found


def lasers(page: bytes) -> list[Laser]:
    """Page 12h, none where it was not read."""
    if len(page) < BLOCK:
        return []
    channels, frequencies = _CHANNELS.unpack_from(page, 8), _FREQUENCIES.unpack_from(page, 40)
    targets = _TARGETS.unpack_from(page, 72)
    rows = zip(page[0:8], channels, frequencies, targets, page[94:102], strict=True)
    return [
        Laser(grid >> 4, channel, frequency * 0.001, target * 0.01, bool(state & 2), bool(state & 1))
        for grid, channel, frequency, target, state in rows
    ]
