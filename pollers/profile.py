"""Device profiles: what to ask an SNMP device of a kind, and what its answers mean. They are TOML files, `profiles/`.

A profile says for which sysObjectIDs it is meant, where the device's identity stands, and which tables become which
facts and samples. Every OID may be given in full, or relative to the `base` of its table.
"""

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from wire.facts import Bank, Condition, Device, Entity, EntitySensor, Outlet, Port, Probe, Ups

SYSTEM = "1.3.6.1.2.1.1"
FOLDER = "profiles"
Struct = type[Device | Outlet | Bank | Ups | Probe | Port | Entity | EntitySensor | Condition]
KINDS: dict[str, Struct] = {
    str(struct.__struct_config__.tag): struct
    for struct in (Device, Outlet, Bank, Ups, Probe, Port, Entity, EntitySensor, Condition)
}


class ProfileError(Exception):
    """A profile cannot be used; the message is one line with its file."""


class Strict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Unknown keys are mistakes."""


class When(Strict):
    """Rows count only where this column, object (its OID ends in .0), or part of the index has one of these values."""

    oid: str = ""
    index: int | None = None
    is_: list[int] = msgspec.field(name="is", default=[])
    is_not: list[int] = []
    like: str = ""  # or a text that this regular expression finds
    leading: int = 0  # sub-identifiers of the index that the column has; 0: all


class Field(Strict):
    """One text, number or word of a fact."""

    oid: str = ""
    const: str = ""
    index: int | None = None  # this sub-identifier of the index
    enum: dict[int, str] = {}  # number -> word; another number stands for itself
    format: str = ""  # "mac", "hex", "oid" or "bits" (the words of `enum` for the bits that are set, bit 0 first)
    regex: str = ""  # its first group is taken
    scale: float = 1.0  # of a number
    leading: int = 0
    null: list[int | str] = []  # values that mean there is none


class Kind(Strict):
    """What a number is, where another column or the index says so."""

    metric: str
    scale: float = 1.0
    null: list[int] = []
    min: float | None = None


class Reading(Strict):
    """One measured number."""

    oid: str
    scale: float = 1.0
    offset: float = 0.0  # added after the scale: Fahrenheit
    null: list[int] = []  # sentinels, as they are sent
    min: float | None = None  # in the unit of the metric; what lies beyond is no reading
    max: float | None = None
    decimals: str = ""  # OID of the column that says how many digits are fraction
    exponent: str = ""  # OID of the column that says the power of ten,
    exponents: dict[int, int] = {}  # through this table
    when: When | None = None
    type: str = ""  # OID of the column that says what is measured: a key of `kinds`
    type_index: int | None = None  # or which sub-identifier of the index
    kinds: dict[int, Kind] = {}


class Table(Strict):
    """Rows that become facts of one kind, samples, or both."""

    key: str  # of the component: "outlet:{*}" has the whole index, {0} its first sub-identifier, {name} that field
    base: str = ""
    fact: str = ""  # kind, "" for samples alone
    scalar: bool = False  # its OIDs are objects, not columns
    prefix: str = "snmp"  # of the metrics
    when: When | None = None
    fields: dict[str, Any] = {}  # name -> column, or a Field, or several of which the first with a value counts
    samples: dict[str, Any] = {}  # metric -> column, or a Reading, or several; with `kinds` the name is only a name


class Trap(Strict):
    """What a notification means."""

    name: str
    severity: str = "info"


class Profile(Strict):
    """One file of `profiles/`."""

    name: str = ""
    category: str = ""
    vendor: str = ""
    match: list[str] = []  # prefixes of sysObjectID; none: of every device
    device: dict[str, Any] = {}  # field of the fact `device` -> as in `Table.fields`
    table: list[Table] = []
    traps: dict[str, Trap] = {}  # OID -> what it means


class Question(Strict):
    """A table with every OID in full and every short form written out."""

    key: str
    fact: str
    scalar: bool
    prefix: str
    when: When | None
    fields: dict[str, list[Field]]
    samples: dict[str, list[Reading]]

    def gates(self) -> list[str]:
        """The columns of which one has rows when the table has: the first sample's and the first field's."""
        none: list[str] = []
        measured = ([one.oid for one in several] for several in self.samples.values())
        said = ([one.oid for one in several if one.oid] for several in self.fields.values())
        return next(measured, none) + next(filter(None, said), none)


class Plan(msgspec.Struct):
    """Everything there is to ask one device."""

    name: str
    category: str
    vendor: str
    device: dict[str, list[Field]]
    tables: list[Question]


@cache
def profiles() -> tuple[Profile, ...]:
    """Those that come with the program; raises ProfileError."""
    folder = resources.files("pollers") / FOLDER
    texts = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.name.endswith(".toml")}
    return tuple(parse(name.removesuffix(".toml"), texts[name]) for name in sorted(texts))


def parse(name: str, text: str) -> Profile:
    """One profile; raises ProfileError for what it may not say."""
    try:
        profile = msgspec.convert({"name": name, **tomllib.loads(text)}, Profile, strict=False, str_keys=True)
        plan_of(profile.name, [profile])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, re.error) as error:
        raise ProfileError(f"profile {name}: {error}") from None
    return profile


def choose(object_id: str, known: Iterable[Profile] | None = None) -> Plan:
    """What to ask a device with this sysObjectID: all profiles that fit it, the closest first."""
    fitting = sorted(
        ((_fit(one, object_id), one) for one in (profiles() if known is None else known)), key=lambda pair: -pair[0]
    )
    chosen = [one for fit, one in fitting if fit >= 0]
    special = [one for fit, one in fitting if fit > 0]
    return plan_of(special[0].name if special else "", chosen)


def plan_of(name: str, chosen: list[Profile]) -> Plan:
    """These profiles as one plan: identity by the first that has it, every table once."""
    device: dict[str, list[Field]] = {}
    tables: dict[tuple[str, str], Question] = {}
    for profile in chosen:
        for field, said in profile.device.items():
            device.setdefault(field, []).extend(_fields(said, ""))
        for table in profile.table:
            question = _question(table)
            tables.setdefault((question.key, f"{question.gates()} {list(question.fields)}"), question)
    first = chosen[0] if chosen and chosen[0].match else Profile()
    return Plan(name, first.category, first.vendor, device, list(tables.values()))


def _fit(profile: Profile, object_id: str) -> int:
    """How many sub-identifiers of the sysObjectID it names; 0 for one of every device, -1 when it does not fit."""
    if not profile.match:
        return 0
    fits = [prefix.count(".") + 1 for prefix in profile.match if f"{object_id}.".startswith(f"{prefix}.")]
    return max(fits, default=-1)


def _question(table: Table) -> Question:
    base = table.base
    if table.fact and (table.fact not in KINDS or not {*table.fields} <= {*KINDS[table.fact].__struct_fields__}):
        raise msgspec.ValidationError(f"no fact {table.fact!r} with the fields {', '.join(table.fields)}")
    return Question(
        key=table.key,
        fact=table.fact,
        scalar=table.scalar,
        prefix=table.prefix,
        when=_when(table.when, base),
        fields={name: _fields(said, base) for name, said in table.fields.items()},
        samples={name: _readings(said, base) for name, said in table.samples.items()},
    )


def _fields(said: Any, base: str) -> list[Field]:
    found: list[Field] = []
    for one in _several(said):
        field = msgspec.convert({"oid": one} if isinstance(one, str) else one, Field, strict=False, str_keys=True)
        re.compile(field.regex)
        found.append(msgspec.structs.replace(field, oid=_full(field.oid, base)))
    return found


def _readings(said: Any, base: str) -> list[Reading]:
    found: list[Reading] = []
    for one in _several(said):
        reading = msgspec.convert({"oid": one} if isinstance(one, str) else one, Reading, strict=False, str_keys=True)
        full = {name: _full(getattr(reading, name), base) for name in ("oid", "decimals", "exponent", "type")}
        found.append(msgspec.structs.replace(reading, **full, when=_when(reading.when, base)))
    return found


def _several(said: Any) -> list[Any]:
    if isinstance(said, list):
        several: list[Any] = said  # pyright: ignore[reportUnknownVariableType]
        return several
    return [said]


def _when(when: When | None, base: str) -> When | None:
    if when is None:
        return None
    re.compile(when.like)
    return msgspec.structs.replace(when, oid=_full(when.oid, base))


def _full(oid: str, base: str) -> str:
    """An OID in full: one that begins with 1.0 or 1.3 is, any other hangs below the base."""
    if oid and not re.fullmatch(r"\d+(\.\d+)*", oid):
        raise msgspec.ValidationError(f"{oid[:60]!r} is not an OID")
    return oid if not oid or not base or oid.startswith(("1.3.6.1.", "1.0.8802.")) else f"{base}.{oid}"
