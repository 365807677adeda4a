"""The BMC's event log (IPMI 2.0 chapters 31 and 32): its state, and its records as events."""

import struct
import time
from collections.abc import Mapping

import msgspec

from pollers.ipmi_sdr import THRESHOLD, TYPES, Sensor, number, parse_state
from wire.report import Event, Severity
from wire.text import clean

SYSTEM_EVENT, OEM_TIMED, OEM = range(0xC0), range(0xC0, 0xE0), range(0xE0, 0x100)  # record types
RECORD_SIZE = 16
PRE_INIT = 0x20000000  # a clock below counts from the BMC's start
NEVER = (0, 0xFFFFFFFF)
_SEVERITY = {1: Severity.INFO, 2: Severity.WARNING, 3: Severity.CRITICAL}
_PANIC = 0xF0  # what Linux writes when it panics


class SelInfo(msgspec.Struct, array_like=True):
    """Get SEL Info; the clock is the BMC's."""

    entries: int = 0
    free_bytes: int | None = None
    added: int = 0  # seconds since the epoch, or since the BMC's start
    erased: int = 0
    overflow: bool = False


class Clock(msgspec.Struct, array_like=True, frozen=True):
    """The BMC's clock (seconds) and ours (ms) at the same moment."""

    bmc_s: int = 0
    now_ms: int = 0

    def at_ms(self, stamp_s: int) -> int:
        """When that was by our clock; 0 when the stamp says nothing: unset, or from the BMC's future."""
        then = self.now_ms - (self.bmc_s - stamp_s) * 1000
        same_age = (stamp_s < PRE_INIT) == (self.bmc_s < PRE_INIT)  # neither or both since its start
        return then if stamp_s not in NEVER and same_age and 0 < then <= self.now_ms else 0


def parse_info(data: bytes) -> SelInfo | None:
    """Of the response's data; None when it is too short."""
    if len(data) < 14:
        return None
    entries, free, added, erased, operations = struct.unpack_from("<HHIIB", data, 1)
    return SelInfo(entries, None if free == 0xFFFF else free, added, erased, bool(operations & 0x80))


def shown_time(stamp_s: int) -> str:
    """ISO 8601 by the BMC's clock; "" when it was not set."""
    usable = stamp_s not in NEVER and stamp_s >= PRE_INIT
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stamp_s)) if usable else ""


def parse_entry(record: bytes, sensors: Mapping[str, Sensor], clock: Clock) -> Event | None:
    """One record as an event; None when it is not 16 bytes long. Sensors are found by their key."""
    if len(record) != RECORD_SIZE:
        return None
    event = Event(at_ms=0, kind="sel.entry", text="", data={"record": int.from_bytes(record[:2], "little")})
    kind = record[2]
    if kind not in OEM:
        (stamp,) = struct.unpack_from("<I", record, 3)
        event.at_ms = clock.at_ms(stamp)
        event.data["bmc_time"] = shown_time(stamp) or f"{stamp} s after its start"
    if kind in SYSTEM_EVENT:
        _system_event(record, sensors, event)
    elif kind == _PANIC:
        event.severity = Severity.CRITICAL
        event.text = f"Linux kernel panic: {clean(record[5:].partition(bytes(1))[0], 40)}"
    else:
        payload = record[7:] if kind in OEM_TIMED else record[3:]
        event.text = f"record of the maker's own, type 0x{kind:02x}: {payload.hex()}"
    return event


def _system_event(record: bytes, sensors: Mapping[str, Sensor], event: Event) -> None:
    generator, channel, _, kind, sensor_number, direction, *data = record[7:]
    key = f"{generator:02x}.{channel & 3}.{sensor_number:02x}"
    sensor = sensors.get(key)
    reading, offset, ended = direction & 0x7F, data[0] & 15, bool(direction & 0x80)
    said, rank = parse_state(kind, reading, offset, deasserted=ended)
    name = sensor.name if sensor else f"{TYPES.get(kind, f'sensor type 0x{kind:02x}')} {sensor_number:#04x}"
    event.key = key if sensor else ""
    event.severity = _SEVERITY[rank]
    event.text = f"{name}: {said}{_measured(sensor, reading, data)}"
    event.data |= {"sensor": name, "type": TYPES.get(kind, f"0x{kind:02x}"), "offset": offset, "asserted": not ended}
    if reading != THRESHOLD:
        event.data["details"] = bytes(data).hex()


def _measured(sensor: Sensor | None, reading: int, data: list[int]) -> str:
    """Of a threshold's event: what was read, and the threshold (table 29-6)."""
    if sensor is None or reading != THRESHOLD or data[0] >> 6 != 1:
        return ""
    value = number(sensor, data[1])
    limit = number(sensor, data[2]) if data[0] >> 4 & 3 == 1 else None
    if value is None:
        return ""
    bound = "" if limit is None else f", threshold {limit:g} {sensor.unit}".rstrip()
    return f" at {value:g} {sensor.unit}".rstrip() + bound
