"""NVMe log pages and Identify Controller, as bytes (NVM Express Base Specification 2.0, 5.16.1 and 5.17.2)."""

import struct
from typing import NamedTuple

from machine import MachineError
from machine.nvme import ERROR_BYTES, HEALTH_BYTES
from wire.text import clean

# Critical warning, byte 0 of the health log
WARNINGS = {0: "spare", 1: "temperature", 2: "reliability", 3: "read_only", 4: "backup", 5: "persistent_memory"}
_PLAUSIBLE_C = (-55, 150)
_UNIT_BYTES = 512_000  # a data unit is 1000 times 512 bytes
_COUNTERS = {  # at 32, 16 bytes each
    "read_bytes": 32,
    "written_bytes": 48,
    "read_commands": 64,
    "write_commands": 80,
    "busy_minutes": 96,
    "power_cycles": 112,
    "power_on_hours": 128,
    "unsafe_shutdowns": 144,
    "media_errors": 160,
    "error_log_entries": 176,
}
_UNITS = {"read_bytes": _UNIT_BYTES, "written_bytes": _UNIT_BYTES}
_TIMES = struct.Struct("<II")
_SENSORS = struct.Struct("<8H")
_THROTTLES = struct.Struct("<4I")
_ERROR = struct.Struct("<QHHHHQI")
# Status code type 2, media and data integrity errors
_MEDIA = {
    **{0x80: "write fault", 0x81: "unrecovered read error", 0x82: "guard check", 0x83: "application tag check"},
    **{0x84: "reference tag check", 0x85: "compare failure", 0x86: "access denied", 0x87: "unwritten block"},
}
_SELF_TEST_BYTES = 28
_RESULTS = {
    **{0: "ok", 1: "aborted", 2: "aborted by a reset", 3: "aborted, namespace gone", 4: "aborted by a format"},
    **{5: "fatal error", 6: "failed", 7: "failed in a known segment", 8: "aborted", 9: "aborted by a sanitize"},
}


class Identity(NamedTuple):
    """Identify Controller, what of it says who a drive is and what it can stand."""

    serial: str
    model: str
    firmware: str
    warning_c: float | None  # WCTEMP
    critical_c: float | None  # CCTEMP
    error_entries: int  # that its error log holds
    self_tests: bool


class Health(NamedTuple):
    """The SMART / health information log; None is not told."""

    warnings: list[str]
    temperature_c: float | None
    sensors_c: dict[int, float]  # number of the sensor, from 1
    spare_percent: int | None
    spare_threshold_percent: int | None
    percentage_used: int
    warning_minutes: int
    critical_minutes: int
    throttled_s: int  # at both levels of host controlled thermal management
    counters: dict[str, int]


def parse_identity(page: bytes) -> Identity:
    """Identify Controller; raises MachineError when it is cut."""
    if len(page) < HEALTH_BYTES:
        raise MachineError(f"NVMe identity of {len(page)} bytes is too short")
    warning, critical = struct.unpack_from("<2H", page, 266)
    return Identity(
        serial=clean(page[4:24]),
        model=clean(page[24:64]),
        firmware=clean(page[64:72]),
        warning_c=parse_kelvin(warning),
        critical_c=parse_kelvin(critical),
        error_entries=page[262] + 1,
        self_tests=bool(page[256] & 0x10),
    )


def parse_health(page: bytes) -> Health:
    """The health log; raises MachineError when it is cut or empty."""
    if len(page) < HEALTH_BYTES or not any(page):
        raise MachineError(f"NVMe health log of {len(page)} bytes is {'empty' if len(page) >= HEALTH_BYTES else 'cut'}")
    told = page[3] or page[4] or page[0] & 1  # a drive that counts no spare has 0 of at least 0, and no warning of it
    warning_minutes, critical_minutes = _TIMES.unpack_from(page, 192)
    sensors = {number: parse_kelvin(kelvin) for number, kelvin in enumerate(_SENSORS.unpack_from(page, 200), 1)}
    return Health(
        warnings=[WARNINGS.get(bit, f"bit {bit}") for bit in range(8) if page[0] >> bit & 1],
        temperature_c=parse_kelvin(int.from_bytes(page[1:3], "little")),
        sensors_c={number: celsius for number, celsius in sensors.items() if celsius is not None},
        spare_percent=page[3] if page[3] <= 100 and told else None,
        spare_threshold_percent=page[4] if page[4] <= 100 and told else None,
        percentage_used=page[5],
        warning_minutes=warning_minutes,
        critical_minutes=critical_minutes,
        throttled_s=sum(_THROTTLES.unpack_from(page, 216)[2:]),
        counters={
            name: int.from_bytes(page[at : at + 16], "little") * _UNITS.get(name, 1) for name, at in _COUNTERS.items()
        },
    )


def parse_kelvin(kelvin: int) -> float | None:
    """°C as drives and tools count them, 273 less; None for 0 (not told) and what no drive can be at."""
    low, high = _PLAUSIBLE_C
    return float(kelvin - 273) if kelvin and low <= kelvin - 273 <= high else None


def parse_errors(log: bytes) -> str:
    """The newest media error of an error log, "" for none: errors of commands say nothing of the drive."""
    for at in range(0, len(log) - ERROR_BYTES + 1, ERROR_BYTES):
        count, _, _, status, _, lba, namespace = _ERROR.unpack_from(log, at)
        kind, code = status >> 9 & 7, status >> 1 & 0xFF
        if count and kind == 2:
            return f"{_MEDIA.get(code, f'media error {code:#x}')} in namespace {namespace} at block {lba}"
    return ""


def parse_self_tests(log: bytes) -> str:
    """How the last self-test ended, "" when there was none or the log is cut."""
    entry = log[4 : 4 + _SELF_TEST_BYTES]
    result = entry[0] & 0xF if len(entry) == _SELF_TEST_BYTES else 0xF
    return "" if result == 0xF or not entry[0] >> 4 else _RESULTS.get(result, f"result {result:#x}")
