"""What an SNMP device's columns mean: facts and numbers, by the questions of its profiles. Nothing is asked here."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import msgspec

from pollers.profile import KINDS, Field, Kind, Plan, Question, Reading, When
from wire.facts import Fact
from wire.text import clean

Value = int | float | str | bytes | None
Index = tuple[int, ...]
Columns = Mapping[str, Mapping[Index, Value]]  # OID of a column or an object -> index -> value

LONG = 1024  # characters of a text that is searched
MOST_KEY = 120
MACS = (6, 8, 20)  # bytes: Ethernet, EUI-64, InfiniBand
MOST_CODE = 2.0**63  # of an INTEGER or Counter64
_NUMERIC = (int | None, float | None)
_NUMBERS = {
    kind: {field.name: field.type for field in msgspec.structs.fields(struct) if field.type in _NUMERIC}
    for kind, struct in KINDS.items()
}
_NUMBER = re.compile(r"[-+]?\d{1,30}(\.\d{1,30})?([eE][-+]?\d{1,2})?")
_PLACE = re.compile(r"\{([^{}]*)\}")


class Measured(NamedTuple):
    """A number, and the instance it was read from."""

    oid: str
    metric: str
    key: str
    value: float


class Word(NamedTuple):
    """A field of a fact, and the instance it was read from."""

    oid: str
    kind: str
    key: str
    field: str
    value: Any


class Meaning(NamedTuple):
    """What the answers say."""

    facts: list[Fact]
    measured: list[Measured]
    words: list[Word]


def mean(plan: Plan, columns: Columns) -> Meaning:
    """Facts and numbers of one device; a table that was not answered gives none."""
    parts: dict[tuple[str, str], dict[str, Any]] = {}
    measured: dict[tuple[str, str], Measured] = {}
    words: list[Word] = []
    for question in plan.tables:
        taken: dict[str, Index] = {}
        for index in _rows(question, columns):
            fields, told = _fields(question, columns, index)
            key = _key(question.key, index, fields)
            if question.fact and taken.setdefault(key, index) != index and "{name}" in question.key:
                key = f"{key}#{_dotted(index)}"
            if question.fact and (fields or question.samples):
                known = parts.setdefault((question.fact, key), {})
                known.update({name: value for name, value in fields.items() if name not in known})
                words += [Word(oid, question.fact, key, name, fields[name]) for name, oid in told.items()]
            for one in _numbers(question, columns, index, key):
                measured.setdefault((one.metric, one.key), one)
    facts = [_fact(kind, key, fields) for (kind, key), fields in parts.items()]
    return Meaning(facts, list(measured.values()), words)


def _fact(kind: str, key: str, fields: dict[str, Any]) -> Fact:
    made: Any = KINDS[kind]
    return cast("Fact", made(**fields, key=key))


def device(plan: Plan, columns: Columns) -> dict[str, str]:
    """The fields of the fact `device` that the profiles know where to find."""
    found: dict[str, str] = {}
    for name, several in plan.device.items():
        for field in several:
            rows = columns.get(field.oid, {})
            texts = (_text(field, rows[index]) for index in sorted(rows))
            if text := field.const or next(filter(None, texts), ""):
                found[name] = text
                break
    return found


def number(value: Value) -> float | None:
    """A finite number, be it sent as text; None for anything else."""
    if isinstance(value, bytes | str):
        text = (value.decode("ascii", "replace") if isinstance(value, bytes) else value).strip(" \0")
        found = float(text) if _NUMBER.fullmatch(text) else None
    else:
        found = float(value) if value is not None else None
    return found if found is not None and math.isfinite(found) else None


def _rows(question: Question, columns: Columns) -> Iterator[Index]:
    own = {field.oid for several in question.fields.values() for field in several if not field.leading}
    own |= {reading.oid for several in question.samples.values() for reading in several}
    indices = {index for oid in own for index in columns.get(oid, ())}
    for index in sorted(indices):
        if question.when is None or _holds(question.when, columns, index):
            yield index


def _holds(when: When, columns: Columns, index: Index) -> bool:
    if when.index is not None:
        return -len(index) <= when.index < len(index) and index[when.index] in when.is_
    said = _cell(columns, when.oid, () if when.oid.endswith(".0") else index, when.leading)
    if when.like:
        return isinstance(said, bytes | str) and re.search(when.like, clean(said)) is not None
    value = number(said)
    return value not in when.is_not and (not when.is_ or value in when.is_)


def _cell(columns: Columns, oid: str, index: Index, leading: int = 0) -> Value:
    return columns.get(oid, {}).get(index[:leading] if leading else index)


def _fields(question: Question, columns: Columns, index: Index) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of a row that have a value, and where each was read."""
    values: dict[str, Any] = {}
    told: dict[str, str] = {}
    for name, several in question.fields.items():
        for field in several:
            said = index[field.index] if field.index is not None else _cell(columns, field.oid, index, field.leading)
            value = field.const or _value(question.fact, name, field, said)
            if value not in ("", None):
                values[name] = value
                if field.oid:
                    told[name] = f"{field.oid}.{_dotted(index[: field.leading] if field.leading else index)}"
                break
    return values, told


def _value(kind: str, name: str, field: Field, value: Value) -> Any:
    wanted = _NUMBERS.get(kind, {}).get(name)
    if wanted is None:
        return _text(field, value)
    found = number(value)
    if found is None or found in field.null or abs(found) > MOST_CODE:
        return None
    return int(found * field.scale) if wanted == int | None else round(found * field.scale, 6)


def _text(field: Field, value: Value) -> str:
    """A field's text; "" where the device says nothing."""
    if value is None:
        return ""
    if field.enum and field.format != "bits":
        code = number(value)
        if code is not None and code.is_integer() and abs(code) <= MOST_CODE:
            return "" if code in field.null else field.enum.get(int(code), str(int(code)))
    text = _spelled(field, value)
    if field.regex:
        match = re.search(field.regex, text)
        text = clean(match[1] or "") if match else ""
    return "" if text in field.null or number(value) in field.null else text[:255]


def _spelled(field: Field, value: Value) -> str:
    if field.format == "mac" and isinstance(value, bytes):
        return value.hex(":") if len(value) in MACS else ""
    if field.format == "hex" and isinstance(value, bytes):
        return value[:64].hex()
    if field.format == "bits" and isinstance(value, bytes):
        words = (word for bit, word in sorted(field.enum.items()) if _bit(value, bit))
        return ", ".join(words)
    if field.format == "oid":
        return str(value).removeprefix(".")
    return (
        clean(value, LONG)
        if isinstance(value, bytes | str)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _bit(value: bytes, bit: int) -> bool:
    return bit // 8 < len(value) and bool(value[bit // 8] & 0x80 >> bit % 8)


def _key(template: str, index: Index, fields: Mapping[str, Any]) -> str:
    def place(match: re.Match[str]) -> str:
        name = match[1]
        if name == "*":
            return _dotted(index)
        if name.lstrip("-").isdigit():
            at = int(name)
            return str(index[at]) if -len(index) <= at < len(index) else "0"
        return str(fields.get(name, "") or _dotted(index))

    return clean(_PLACE.sub(place, template), MOST_KEY) or _dotted(index)


def _dotted(index: Iterable[int]) -> str:
    return ".".join(map(str, index))


def _numbers(question: Question, columns: Columns, index: Index, key: str) -> Iterator[Measured]:
    for name, several in question.samples.items():
        for reading in several:
            kind = _kind(name, reading, columns, index)
            value = _number(reading, kind, columns, index) if kind else None
            if kind and value is not None:
                yield Measured(f"{reading.oid}.{_dotted(index)}", f"{question.prefix}.{kind.metric}", key, value)
                break


def _kind(name: str, reading: Reading, columns: Columns, index: Index) -> Kind | None:
    """What is measured; None for what the profile does not name."""
    if not reading.kinds:
        return Kind(metric=name)
    if reading.type_index is not None:
        at = reading.type_index
        return reading.kinds.get(index[at]) if -len(index) <= at < len(index) else None
    code = number(_cell(columns, reading.type, index))
    return reading.kinds.get(int(code)) if code is not None else None


def _number(reading: Reading, kind: Kind, columns: Columns, index: Index) -> float | None:
    """The value in the metric's unit; None for a sentinel, or a row that does not count."""
    raw = _cell(columns, reading.oid, index)
    value = number(raw)
    if value is None or value in reading.null or value in kind.null:
        return None
    if reading.when and not _holds(reading.when, columns, index):
        return None
    power = _power(reading, columns, index)
    if power is None:
        return None
    scaled = _tidy(value * reading.scale * kind.scale * 10.0**power + reading.offset)
    least = max(low for low in (reading.min, kind.min, -math.inf) if low is not None)
    most = math.inf if reading.max is None else reading.max
    return scaled if math.isfinite(scaled) and least <= scaled <= most else None


def _power(reading: Reading, columns: Columns, index: Index) -> int | None:
    """The power of ten that other columns ask for; None when what they say is no such thing."""
    power = 0
    if reading.exponent:
        code = number(_cell(columns, reading.exponent, index))
        found = reading.exponents.get(int(code)) if code is not None else None
        if found is None:
            return None
        power += found
    if reading.decimals:
        digits = number(_cell(columns, reading.decimals, index)) or 0.0
        if not -9 <= digits <= 9:
            return None
        power -= int(digits)
    return power


def _tidy(value: float) -> float:
    """Without the dust of binary fractions: twelve digits are more than any device measures."""
    return float(f"{value:.12g}")
