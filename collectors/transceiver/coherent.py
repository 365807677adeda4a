"""Coherent performance monitoring (C-CMIS 1.1): the FEC counters of page 34h, link statistics of page 35h."""

import struct

from collectors.transceiver.image import BLOCK, Image

_FEC = struct.Struct(">5Q5I")
FEC = (
    "rx_bits",
    "rx_bits_sub_interval",
    "rx_corrected_bits",
    "rx_corrected_bits_sub_interval_min",
    "rx_corrected_bits_sub_interval_max",
    "rx_frames",
    "rx_frames_sub_interval",
    "rx_uncorrected_frames",
    "rx_uncorrected_frames_sub_interval_min",
    "rx_uncorrected_frames_sub_interval_max",
)
_LINK = struct.Struct(">3i15H3h3H9h6H")  # three of each of `LINK`, in that order
LINK = {  # average, least and most each: unit of one step
    "cd_ps_nm": 1.0,
    "dgd_ps": 0.01,
    "sopmd_ps2": 0.01,
    "pdl_db": 0.1,
    "osnr_db": 0.1,
    "esnr_db": 0.1,
    "cfo_mhz": 1.0,
    "evm_pct": 100 / 65535,
    "tx_power_dbm": 0.01,
    "rx_total_power_dbm": 0.01,
    "rx_signal_power_dbm": 0.01,
    "sop_roc_krad_s": 1.0,
    "mer_db": 0.1,
}


def decode(image: Image) -> dict[str, dict[str, float]]:
    """Per observable `avg`, `min` and `max`; counters under "fec"; nothing of pages that were not read."""
    found: dict[str, dict[str, float]] = {}
    fec, link = image.block(0x34), image.block(0x35)
    if len(fec) == BLOCK:
        found["fec"] = dict(zip(FEC, _FEC.unpack_from(fec), strict=True))
    if len(link) == BLOCK:
        raw = _LINK.unpack_from(link)
        for at, (name, scale) in enumerate(LINK.items()):
            average, least, most = (value * scale for value in raw[3 * at : 3 * at + 3])
            found[name] = {"avg": average, "min": least, "max": most}
    return found
