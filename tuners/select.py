"""Conditions that choose hosts and NICs: `labels.role=edge`, `nic.driver in ice,i40e`, `speed_mbps>=100000`."""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, cast, get_args

import msgspec

from tuners.hostfacts import HostFacts
from wire.facts import Ethtool, Fact, Nic

KINDS: dict[str, type[msgspec.Struct]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Fact)}
FIELDS = {kind: frozenset(struct.__struct_fields__) for kind, struct in KINDS.items()}
MAX_LENGTH = 500
OF_A_NIC = ("nic", "ethtool")  # bare names in a NIC's condition are fields of these, in this order

_CONDITION = re.compile(r"\s*(?P<name>[A-Za-z0-9_.:/-]+?)\s*(?P<op>!=|>=|<=|==|=|>|<|\sin\s)\s*(?P<value>.*?)\s*")
_NUMBERS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda left, right: left >= right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    "<": lambda left, right: left < right,
}


class SelectError(ValueError):
    """A condition that cannot be read; `column` (from 1) is where."""

    def __init__(self, column: int, message: str) -> None:
        super().__init__(message)
        self.column = column


class Condition(NamedTuple):
    """`name op value`; the value of = and != is a glob, that of `in` a comma list of globs, of > and < a number."""

    name: str
    op: str
    value: str

    def __str__(self) -> str:
        return f"{self.name} in {self.value}" if self.op == "in" else f"{self.name}{self.op}{self.value}"


def parse_condition(text: str, of_nic: bool = False) -> Condition:
    """The condition of one text, over a NIC (bare names allowed) or over labels and all facts; raises SelectError."""
    return _parsed(text, lambda name, column: _named(name, column, of_nic))


def parse_field(text: str, fields: Collection[str]) -> Condition:
    """The condition of one text over something with these fields; raises SelectError."""

    def known(name: str, column: int) -> str:
        if name in fields:
            return name
        raise SelectError(column, f"no field {name!r}{meant(name, fields)}")

    return _parsed(text, known)


def _parsed(text: str, named: Callable[[str, int], str]) -> Condition:
    found = _CONDITION.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if found is None:
        raise SelectError(1, f"{text[:80]!r} is no condition: write name=value, with one of = != >= <= > < in")
    op = found["op"].strip().replace("==", "=")
    condition = Condition(named(found["name"], found.start("name") + 1), op, _bare(found["value"]))
    if op in _NUMBERS and _number(condition.value) is None:
        raise SelectError(found.start("value") + 1, f"{op} compares with a number, not {condition.value[:40]!r}")
    if op == "in" and not _choices(condition.value):
        raise SelectError(found.start("value") + 1, "in needs at least one value")
    return condition


def _bare(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _named(name: str, column: int, of_nic: bool) -> str:
    """The full name (`nic.driver`); raises SelectError for one that no fact has."""
    kind, _, rest = name.partition(".")
    if kind == "labels" and rest and not of_nic:
        return name
    if of_nic and not (kind in OF_A_NIC and rest):
        owner = next((owner for owner in OF_A_NIC if kind in FIELDS[owner]), None)
        if owner is not None:
            return f"{owner}.{name}"
        raise SelectError(
            column, f"a NIC has no {kind!r}{meant(kind, [f for owner in OF_A_NIC for f in FIELDS[owner]])}"
        )
    if kind not in KINDS:
        raise SelectError(column, f"{name!r} is no label and no kind.field{meant(kind, ['labels', *KINDS])}")
    field = rest.partition(".")[0]
    if field not in FIELDS[kind]:
        raise SelectError(column + len(kind) + 1, f"{kind} has no field {field!r}{meant(field, FIELDS[kind])}")
    return name


def meant(word: str, known: Iterable[str]) -> str:
    """`, did you mean "rings"?` when a known word is near."""
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f', did you mean "{near[0]}"?' if near else ""


def holds(condition: Condition, values: Sequence[Any]) -> bool:
    """True when one of the values fits; `!=` when none is equal, so also where there is no value."""
    if condition.op in _NUMBERS:
        limit = _number(condition.value) or 0.0
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        return any(_NUMBERS[condition.op](value, limit) for value in numbers)
    globs = _choices(condition.value) if condition.op == "in" else [condition.value]
    equal = any(fnmatchcase(_text(value), glob.lower()) for value in values for glob in globs)
    return not equal if condition.op == "!=" else equal


def _choices(value: str) -> list[str]:
    return [choice.strip() for choice in value.split(",") if choice.strip()]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(value: object) -> str:
    return "" if value is None else str(value).lower()


def _of(fact: object, path: str) -> list[Any]:
    """The values at a path such as `driver`, `altnames` (each of the list) or `rings.rx` in one fact."""
    name, _, rest = path.partition(".")
    value: Any = getattr(fact, name, None)
    if rest:
        return [value[rest]] if isinstance(value, Mapping) and rest in value else []
    return list(cast("Iterable[Any]", value)) if isinstance(value, list | dict) else [value]


def host_values(name: str, labels: Mapping[str, str], facts: HostFacts) -> list[Any]:
    """Every value a full name has on a host: one per label, one per fact of the kind."""
    kind, _, path = name.partition(".")
    if kind == "labels":
        return [labels[path]] if path in labels else []
    return [value for fact in facts.all() if isinstance(fact, KINDS[kind]) for value in _of(fact, path)]


def host_fits(conditions: Iterable[Condition], labels: Mapping[str, str], facts: HostFacts) -> bool:
    """True when every condition holds for the host."""
    return all(holds(each, host_values(each.name, labels, facts)) for each in conditions)


def nic_fits(conditions: Iterable[Condition], nic: Nic, ethtool: Ethtool | None) -> bool:
    """True when every condition holds for the NIC."""
    owners = {"nic": nic, "ethtool": ethtool}
    return all(
        holds(each, _of(owners[kind], path) if owners[kind] else [])
        for each in conditions
        for kind, _, path in [each.name.partition(".")]
    )
