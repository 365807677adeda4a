"""How the kernel's clock is kept: adjtimex(2), reading alone."""

import ctypes
import os
import sys

from machine import failure

# struct timex of linux/timex.h on 64-bit machines: modes, offset, freq, maxerror, esterror, status, ...
_LAYOUT_BYTES = 208
_LONGS = {"offset": 1, "frequency": 2, "max_error_us": 3, "estimated_error_us": 4}
_STATUS_AT, _TAI_AT = 40, 160
UNSYNC, NANO, PPS_SIGNAL = 0x0040, 0x2000, 0x0100  # bits of status


def read() -> dict[str, int]:
    """The clock's state with no change to it: `status`, `offset` (µs, or ns with NANO), errors in µs, `tai` in s."""
    buffer = ctypes.create_string_buffer(_LAYOUT_BYTES)  # modes is 0: nothing is set
    library = ctypes.CDLL(None, use_errno=True)
    if library.adjtimex(buffer) < 0:
        code = ctypes.get_errno()
        raise failure(code, "adjtimex", os.strerror(code))
    return parse(buffer.raw)


def parse(timex: bytes) -> dict[str, int]:
    """The fields of a struct timex, of the machine's byte order."""
    longs = {name: _long(timex, 8 * at, 8) for name, at in _LONGS.items()}
    return {**longs, "status": _long(timex, _STATUS_AT, 4), "tai": _long(timex, _TAI_AT, 4)}


def _long(timex: bytes, at: int, size: int) -> int:
    return int.from_bytes(timex[at : at + size], sys.byteorder, signed=True)
