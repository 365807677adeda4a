"""smartctl's JSON, any version's, of ATA, SCSI and NVMe drives; numbers that no drive can have are left out."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from collectors.nvmelog import WARNINGS
from machine import MachineError
from wire.facts import DriveHealth
from wire.text import clean

# smartctl(8), EXIT STATUS: a mask; the JSON is whole whatever is in it
BAD_USAGE, NOT_OPENED, COMMAND_FAILED, FAILING, PREFAIL, PREFAIL_ONCE, ERROR_LOG, SELF_TEST_LOG = (
    1 << n for n in range(8)
)
_ASLEEP = re.compile(r"\bin (.+) mode, exit\(")
_PLAUSIBLE_C = (-40, 150)
_MOST_HOURS = 1_000_000
_MOST = 1 << 63
_MOST_SECTORS = 1_000_000_000  # a raw value above is several numbers in one
_MIB = 1 << 20
# By name: the number means other things with other makers, who put amounts in different units. Bytes per unit.
_AMOUNTS = {
    "written_bytes": {"Total_LBAs_Written": 512, "Host_Writes_32MiB": 32 * _MIB, "Host_Writes_MiB": _MIB}
    | dict.fromkeys(("Host_Writes_GiB", "Lifetime_Writes_GiB"), 1024 * _MIB),
    "read_bytes": {"Total_LBAs_Read": 512, "Host_Reads_32MiB": 32 * _MIB, "Host_Reads_MiB": _MIB}
    | dict.fromkeys(("Host_Reads_GiB", "Lifetime_Reads_GiB"), 1024 * _MIB),
}
# Normalized values that start at 100 and say how much life is left.
_LIFE = ("Media_Wearout_Indicator", "SSD_Life_Left", "Percent_Lifetime_Remain", "Percent_Life_Remaining")
_SECTORS = {
    "reallocated_sectors": (5, r"Reallocated_Sector|Retired_Block|Realloc"),
    "pending_sectors": (197, r"Pending"),
    "uncorrectable_sectors": (198, r"Uncorrectable"),
    "crc_errors": (199, r"CRC"),
}
_NVME = {
    "data_units_read": ("read_bytes", 512_000),
    "data_units_written": ("written_bytes", 512_000),
    "host_reads": ("read_commands", 1),
    "host_writes": ("write_commands", 1),
    "controller_busy_time": ("busy_minutes", 1),
    "power_cycles": ("power_cycles", 1),
    "power_on_hours": ("power_on_hours", 1),
    "unsafe_shutdowns": ("unsafe_shutdowns", 1),
    "media_errors": ("media_errors", 1),
    "num_err_log_entries": ("error_log_entries", 1),
    "warning_temp_time": ("warning_minutes", 1),
    "critical_comp_time": ("critical_minutes", 1),
}


class Reading(NamedTuple):
    """What a drive told: its health without key and name, and numbers by the names of `smart`'s metrics."""

    health: DriveHealth
    numbers: dict[str, float]
    sensors_c: dict[int, float]
    asleep: str = ""  # the power mode that it was left in
    supported: bool = True  # False: it has no SMART, as a virtual disk
    spins: bool | None = None
    exit_status: int = 0


class Said:
    """A JSON object, asked without fear: what is absent or of another type is None or empty."""

    def __init__(self, value: object) -> None:
        self.value: dict[str, Any] = value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownMemberType]

    def of(self, *names: str) -> "Said":
        """The object at the end of these names."""
        found = self
        for name in names:
            found = Said(found.value.get(name))
        return found

    def text(self, *names: str) -> str:
        """The first text among these names."""
        return next(
            (said for name in names if isinstance(word := self.value.get(name), str) if (said := clean(word))), ""
        )

    def flag(self, name: str) -> bool | None:
        """True or False where it is one."""
        value = self.value.get(name)
        return value if isinstance(value, bool) else None

    def number(self, name: str, most: float = _MOST, least: float = 0) -> float | None:
        """A number within these bounds."""
        value = self.value.get(name)
        usable = isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most
        return value if usable else None

    def whole(self, name: str, most: int = _MOST) -> int | None:
        """A whole number from 0 up to `most`."""
        number = self.number(name, most)
        return int(number) if number is not None else None

    def each(self, name: str) -> "Iterator[Said]":
        """The objects of a list, or the list in a `table`."""
        yield from (Said(row) for row in self.items(name))

    def items(self, name: str) -> list[object]:
        """A list as it is."""
        found = self.value.get(name)
        return found if isinstance(found, list) else []  # pyright: ignore[reportUnknownVariableType]


def parse_smartctl(text: str) -> Reading:
    """What smartctl printed of one drive; raises MachineError with its own words when it could not ask the drive."""
    said = _load(text)
    status = said.of("smartctl").whole("exit_status", 255) or 0
    messages = [message.text("string") for message in said.of("smartctl").each("messages")]
    asleep = next((found[1] for message in messages if (found := _ASLEEP.search(message))), "")
    told = any(said.of(name).value for name in ("smart_status", "temperature", "power_on_time", "smart_support"))
    if not asleep and not told:
        raise MachineError(f"smartctl: {'; '.join(filter(None, messages))[:300] or f'status {status:#x}'}")
    numbers: dict[str, float] = {}
    health = DriveHealth(
        key="",
        name="",
        source="smartctl",
        model=said.text("model_name", "scsi_model_name"),
        serial=said.text("serial_number"),
        firmware=said.text("firmware_version", "revision", "scsi_revision"),
        passed=said.of("smart_status").flag("passed"),
    )
    sensors: dict[int, float] = {}
    common(said, numbers)
    if "nvme_smart_health_information_log" in said.value:
        sensors = nvme(said, health, numbers)
    ata(said, health, numbers)
    scsi(said, health)
    for name in ("percentage_used", "spare_percent", "media_errors", *_SECTORS):
        value = getattr(health, name)
        if value is not None:
            numbers[name] = value
    rate = said.number("rotation_rate")
    spins = rate > 0 if rate is not None else None
    return Reading(health, numbers, sensors, asleep, supported(said), spins, status)


def supported(said: Said) -> bool:
    """Whether the drive has SMART at all; versions before 7.3 say only whether it passed."""
    support = said.of("smart_support")
    return support.flag("available") is not False or said.of("smart_status").flag("passed") is not None


def common(said: Said, numbers: dict[str, float]) -> None:
    """What every kind of drive has; a drive at exactly 0 °C is a controller that does not know."""
    celsius = said.of("temperature").number("current", _PLAUSIBLE_C[1], _PLAUSIBLE_C[0])
    if celsius:
        numbers["temperature_celsius"] = celsius
    hours = said.of("power_on_time").number("hours", _MOST_HOURS)
    if hours is not None:
        numbers["power_on_hours"] = hours
    cycles = said.number("power_cycle_count", _MOST_SECTORS)
    if cycles is not None:
        numbers["power_cycles"] = cycles


def nvme(said: Said, health: DriveHealth, numbers: dict[str, float]) -> dict[int, float]:
    """The health log of an NVMe drive; returns °C by number of the sensor."""
    log = said.of("nvme_smart_health_information_log")
    for name, (metric, scale) in _NVME.items():
        value = log.number(name, 1 << 128)
        if value is not None:
            numbers.setdefault(metric, value * scale)
    warning = log.whole("critical_warning", 255) or 0
    health.warnings = [WARNINGS.get(bit, f"bit {bit}") for bit in range(8) if warning >> bit & 1]
    health.percentage_used = log.whole("percentage_used", 255)
    health.spare_percent = log.whole("available_spare", 100)
    health.spare_threshold_percent = log.whole("available_spare_threshold", 100)
    if not health.spare_percent and not health.spare_threshold_percent and not warning & 1:
        health.spare_percent = health.spare_threshold_percent = None  # as in `nvmelog`
    health.media_errors = log.whole("media_errors")
    listed = log.items("temperature_sensors")
    readings = {
        at: Said({"c": value}).number("c", _PLAUSIBLE_C[1], _PLAUSIBLE_C[0]) for at, value in enumerate(listed, 1)
    }
    return {at: celsius for at, celsius in readings.items() if celsius}


def ata(said: Said, health: DriveHealth, numbers: dict[str, float]) -> None:
    """SMART attributes and the last self-test of an ATA drive."""
    rows = list(said.of("ata_smart_attributes").each("table"))
    for name, (number, words) in _SECTORS.items():
        found = next((row for row in rows if row.number("id") == number and re.search(words, row.text("name"))), None)
        if found:
            setattr(health, name, raw_number(found))
    for metric, units in _AMOUNTS.items():
        for row in rows:
            value = row.of("raw").number("value", 1 << 48)
            if row.text("name") in units and value is not None:
                numbers.setdefault(metric, value * units[row.text("name")])
    used = said.of("endurance_used").whole("current_percent", 255)
    left = next((left for row in rows if row.text("name") in _LIFE if (left := row.whole("value", 100))), None)
    if health.percentage_used is None:
        health.percentage_used = used if used is not None or left is None else 100 - left
    test = said.of("ata_smart_data", "self_test", "status")
    health.self_test = test.text("string")


def raw_number(row: Said) -> int | None:
    """The number a raw value begins with: `1975`, `26 (Min/Max 13/41)`; None for what counts nothing."""
    found = re.match(r"(\d{1,10})(?:\s|$)", row.of("raw").text("string"))
    value = int(found[1]) if found else row.of("raw").whole("value")
    return value if value is not None and value <= _MOST_SECTORS else None


def scsi(said: Said, health: DriveHealth) -> None:
    """Grown defects, uncorrected errors and wear of a SAS drive."""
    log = said.of("scsi_error_counter_log")
    totals = [log.of(kind).whole("total_uncorrected_errors", _MOST_SECTORS) for kind in ("read", "write", "verify")]
    told = [total for total in totals if total is not None]
    if told:
        health.media_errors = sum(told)
    defects = said.whole("scsi_grown_defect_list", _MOST_SECTORS)
    if defects is not None:
        health.reallocated_sectors = defects
    trip = said.of("temperature").number("drive_trip", _PLAUSIBLE_C[1], 1)
    if trip is not None:
        health.temperature_critical_c = trip
    wear = said.whole("scsi_percentage_used_endurance_indicator", 255)
    if wear is not None:
        health.percentage_used = wear


def parse_scan(text: str) -> list[tuple[str, str]]:
    """Device and type of the drives behind RAID controllers in `smartctl --scan`: `/dev/bus/0`, `megaraid,8`."""
    found = [(row.text("name"), row.text("type")) for row in _load(text).each("devices")]
    shape = re.compile(r"(?:sat\+)?(?:megaraid|cciss|aacraid|areca|3ware|hpt),[\d,/]+")
    return [(name, kind) for name, kind in found if re.fullmatch(r"/dev/[\w/]+", name) and shape.fullmatch(kind)]


def _load(text: str) -> Said:
    try:
        return Said(json.loads(text))
    except (ValueError, RecursionError):
        first = clean(text.strip().splitlines()[0]) if text.strip() else "nothing"
        raise MachineError(f"smartctl printed no JSON: {first}") from None
