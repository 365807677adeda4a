"""Sensor data records (IPMI 2.0 chapter 43): what sensors and FRUs a BMC has, and what a reading's byte means."""

import math
from collections.abc import Callable, Iterator

import msgspec
from pyghmi.ipmi.private import constants  # type: ignore[import-untyped]

from pollers.bmc_sensor import LIMITS, consistent
from wire.facts import BmcSensor
from wire.text import clean

FULL, COMPACT, EVENT_ONLY, FRU_LOCATOR = 0x01, 0x02, 0x03, 0x11
THRESHOLD, SENSOR_SPECIFIC = 0x01, 0x6F  # event/reading type codes
NO_READING = 4  # a format of ours, for sensors that only send events
MAX_NAME = 64
_OTHER_UNITS = 0x0B
MAX_SHARED = 15
TYPES: dict[int, str] = constants.sensor_type_codes  # table 42-3
ENTITIES: dict[int, str] = constants.entity_ids  # table 43-13
UNITS = {1: "°C", 2: "°F", 3: "K", 4: "V", 5: "A", 6: "W", 7: "J", 9: "VA", 17: "CFM", 18: "rpm", 19: "Hz"}  # 43-15
_IN_RECORD = (41, 40, 39, 38, 37, 36)  # where a full record has them, from its first byte
_RANK = ("", "ok", "warning", "critical")
_ROOTS = {1: math.log, 2: math.log10, 3: math.log2, 4: math.exp, 10: math.sqrt, 11: math.cbrt}
_POWERS = {5: (10.0, None), 6: (2.0, None), 7: (None, -1.0), 8: (None, 2.0), 9: (None, 3.0)}


class Formula(msgspec.Struct, array_like=True, frozen=True):
    """y = L[(m x + b 10^b_exponent) 10^exponent] (chapter 36.3)."""

    m: int = 1
    b: int = 0
    exponent: int = 0
    b_exponent: int = 0
    linearization: int = 0

    def value(self, raw: float) -> float | None:
        """The reading in the sensor's unit; None where the function has no value."""
        x = (self.m * raw + self.b * 10.0**self.b_exponent) * 10.0**self.exponent
        try:
            y = self._linear(x)
        except (ValueError, OverflowError, ZeroDivisionError):
            return None
        return float(f"{y:.6g}") if math.isfinite(y) else None

    def _linear(self, x: float) -> float:
        if self.linearization in _ROOTS:
            return _ROOTS[self.linearization](x)
        base, power = _POWERS.get(self.linearization, (None, 1.0))
        return float(base**x if base is not None else x ** (power or 1.0))


class Sensor(msgspec.Struct, array_like=True):
    """What the poller keeps of a sensor's record."""

    owner: int
    lun: int
    number: int
    name: str
    type: int  # table 42-3
    reading: int  # event/reading type
    entity: int = 0
    instance: int = 0
    unit: str = ""
    format: int = 3  # 0 unsigned, 1 one's complement, 2 two's complement, 3 no number
    formula: Formula = Formula()
    limits: dict[str, float] = {}
    direct: bool = False  # its formula has to be asked for with every reading

    @property
    def key(self) -> str:
        """Unique on the BMC, and the same after a restart."""
        return f"{self.owner:02x}.{self.lun}.{self.number:02x}"


class FruLocator(msgspec.Struct, array_like=True):
    """A FRU that is read by its number."""

    number: int
    name: str


def parse_record(record: bytes) -> list[Sensor | FruLocator]:
    """What one record is about, several sensors that share it included; none for other kinds and for damage."""
    if len(record) < 6 or record[2] not in (0x51, 0x02, 0x01):
        return []
    parse = _KINDS.get(record[3])
    try:
        return list(parse(record)) if parse else []
    except IndexError:  # it is shorter than its kind
        return []


def _sensor(record: bytes, name_at: int, kind_at: int) -> Sensor:
    return Sensor(
        owner=record[5],
        lun=record[6] & 3,
        number=record[7],
        entity=record[8],
        instance=record[9] & 0x7F,
        type=record[kind_at],
        reading=record[kind_at + 1],
        name=parse_text(record[name_at], record[name_at + 1 :]),
    )


def _full(record: bytes) -> Iterator[Sensor]:
    sensor = _sensor(record, 47, 12)
    sensor.unit, sensor.format = parse_unit(record[20:23]), record[20] >> 6
    sensor.direct = record[23] & 0x7F > 11
    sensor.formula = parse_formula(record[24:30], 0 if sensor.direct else record[23] & 0x7F)
    readable = record[18] if record[11] & 0x0C else 0
    raw = {bit: record[at] for bit, at in enumerate(_IN_RECORD)}
    sensor.limits = {} if sensor.direct else parse_limits(sensor, readable, raw)
    yield sensor


def _compact(record: bytes) -> Iterator[Sensor]:
    sensor = _sensor(record, 31, 12)
    count = min(max(record[23] & 0x0F, 1), MAX_SHARED)
    letters, offset = record[23] >> 4 & 3, record[24] & 0x7F
    for at in range(count):
        suffix = "" if count == 1 else _suffix(letters, offset + at)
        number, instance = sensor.number + at & 0xFF, sensor.instance + at * (record[24] >> 7)
        yield msgspec.structs.replace(sensor, number=number, instance=instance & 0x7F, name=f"{sensor.name}{suffix}")


def _suffix(letters: int, at: int) -> str:
    return chr(ord("A") + at % 26) if letters == 1 else str(at)


def _event_only(record: bytes) -> Iterator[Sensor]:
    sensor = _sensor(record, 16, 10)
    sensor.format = NO_READING
    yield sensor


def _fru(record: bytes) -> Iterator[FruLocator]:
    if record[7] & 0x80:  # a logical device of the BMC; others are chips on a bus
        yield FruLocator(record[6], parse_text(record[15], record[16:]))


_KINDS: dict[int, Callable[[bytes], Iterator[Sensor | FruLocator]]] = {
    FULL: _full,
    COMPACT: _compact,
    EVENT_ONLY: _event_only,
    FRU_LOCATOR: _fru,
}


def parse_unit(units: bytes) -> str:
    """Of a full record's three bytes; "" for what has none or one that is not in the table."""
    if units[0] & 1:
        return "%"
    first, second = UNITS.get(units[1], ""), UNITS.get(units[2], "")
    between = {0: "", 2: "/", 4: "*"}.get(units[0] & 6, "")
    return f"{first}{between}{second}" if between else first


def parse_formula(factors: bytes, linearization: int = 0) -> Formula:
    """Of six bytes, as full records and Get Sensor Reading Factors have them."""
    m, m_high, b, b_high, _, exponents = factors[:6]
    return Formula(
        m=_signed(m | (m_high & 0xC0) << 2, 10),
        b=_signed(b | (b_high & 0xC0) << 2, 10),
        exponent=_signed(exponents >> 4, 4),
        b_exponent=_signed(exponents & 15, 4),
        linearization=linearization,
    )


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value


def parse_limits(sensor: Sensor, readable: int, raw: dict[int, int]) -> dict[str, float]:
    """The thresholds that can be read, in the sensor's unit; those that contradict each other are left out."""
    found: dict[str, float] = {}
    for bit, name in enumerate(LIMITS):
        if sensor.reading == THRESHOLD and readable >> bit & 1:
            value = number(sensor, raw[bit])
            if value is not None:
                found[name] = value
    return consistent(found)


def number(sensor: Sensor, raw: int) -> float | None:
    """A reading's or threshold's byte in the sensor's unit; None for a sensor without numbers."""
    if sensor.format == 0:
        return sensor.formula.value(raw)
    if sensor.format == 1:
        return sensor.formula.value(raw - 255 if raw & 0x80 else raw)
    return sensor.formula.value(_signed(raw, 8)) if sensor.format == 2 else None


def describe(sensor: Sensor) -> BmcSensor:
    """What its record says of a sensor."""
    fact = BmcSensor(key=sensor.key, name=sensor.name, type=TYPES.get(sensor.type, f"0x{sensor.type:02x}"))
    fact.type = "Power" if sensor.type == _OTHER_UNITS and sensor.unit == "W" else fact.type
    fact.entity = f"{ENTITIES.get(sensor.entity, f'0x{sensor.entity:02x}')} {sensor.instance}"
    fact.unit = sensor.unit
    for name, value in sensor.limits.items():
        setattr(fact, name, value)
    return fact


def parse_reading(sensor: Sensor, data: bytes) -> tuple[float | None, BmcSensor]:
    """The number and the fact of a Get Sensor Reading response (chapter 35.14), without its completion code."""
    fact = describe(sensor)
    if len(data) < 2 or data[1] & 0x20 or not data[1] & 0x40:
        fact.status = "absent"
        return None, fact
    bits = int.from_bytes(data[2:4], "little") & 0x7FFF
    if sensor.reading == THRESHOLD:
        fact.status = _threshold_status(bits)
        return number(sensor, data[0]), fact
    found = [parse_state(sensor.type, sensor.reading, bit) for bit in range(15) if bits >> bit & 1]
    fact.states = [text for text, _ in found]
    fact.status = _RANK[max((rank for _, rank in found), default=1)]
    return number(sensor, data[0]) if sensor.unit else None, fact


def _threshold_status(bits: int) -> str:
    """Bits 0 and 3 are non-critical, the others worse."""
    return "critical" if bits & 0b110110 else "warning" if bits & 0b001001 else "ok"


def parse_state(kind: int, reading: int, offset: int, *, deasserted: bool = False) -> tuple[str, int]:
    """A state in words (tables 42-2 and 42-3) and how bad it is: 1 fine, 2 warning, 3 critical."""
    table = constants.sensor_type_offsets.get(kind, {}) if reading == SENSOR_SPECIFIC else {}
    table = table or constants.generic_type_offsets.get(reading, {})
    said = table.get(offset)
    if said is None:
        return f"state {offset}", 1
    if deasserted:
        return f"{said['desc']} (ended)", 1
    return str(said["desc"]), rank(int(said["severity"]))


def rank(health: int) -> int:
    """pyghmi's bits: 0 fine, 1 warning, 2 critical, 4 failed."""
    return 3 if health & 6 else 2 if health & 1 else 1


def parse_text(kind: int, data: bytes) -> str:
    """An ID string by its type/length byte (chapter 43.15): UTF-8, BCD plus, packed six bits, Latin-1."""
    text = data[: kind & 0x1F]
    coding = kind >> 6
    if coding == 1:
        said = "".join("0123456789 -.:,_"[nibble] for byte in text for nibble in (byte >> 4, byte & 15))
    elif coding == 2:
        said = six_bits(text)
    else:
        said = text.decode("utf-8" if coding == 0 else "latin-1", errors="replace")
    return clean(said.rstrip("\0"), MAX_NAME)


def six_bits(packed: bytes) -> str:
    """Packed ASCII: four letters in three bytes, from the low bits up."""
    bits = int.from_bytes(packed, "little")
    return "".join(chr(0x20 + (bits >> 6 * at & 0x3F)) for at in range(len(packed) * 8 // 6))
